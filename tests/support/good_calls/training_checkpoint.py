"""Good calls of vlmbook.training.checkpoint."""

import tempfile
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from tests.support.files import small_sets
from tests.support.good_calls import Call
from vlmbook.training import History
from vlmbook.training.checkpoint import (
    Checkpoint,
    plain_settings,
    read_checkpoint,
    state_tensors,
    write_checkpoint,
)


def new_path():
    return Path(tempfile.mkdtemp(dir=small_sets())) / "c.safetensors"


def arguments():
    model = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    accelerator = Accelerator(cpu=True)
    return {"path": new_path(), "model": model, "optimizer": optimizer, "accelerator": accelerator,
            "settings": {"a": 1}, "steps": 5}  # fmt: skip


def written():
    path = new_path()
    write_checkpoint(path, {"a": torch.ones(2)}, {"step": 1})
    return path


TENSORS = {"a": torch.ones(2)}
HISTORY = History([1.0], [0.1])
GOOD_CALLS = {
    "write_checkpoint": lambda: Call(
        write_checkpoint,
        {"path": new_path(), "tensors": TENSORS, "notes": {"step": 1}},
    ),
    "read_checkpoint": lambda: Call(read_checkpoint, {"path": written()}),
    "Checkpoint": lambda: Call(Checkpoint, arguments()),
    "Checkpoint.save": lambda: Call(Checkpoint(**arguments()).save, {"step": 1, "history": HISTORY}),
    "Checkpoint.require_finite": lambda: Call(Checkpoint(**arguments()).require_finite, {"step": 1}),
    # whatever `report` raises is its own
    "Checkpoint.resume": lambda: Call(Checkpoint(**arguments()).resume, {"report": print}, free=("report",)),
    "state_tensors": lambda: Call(state_tensors, {"model": nn.Linear(2, 1)}),
    "plain_settings": lambda: Call(plain_settings, {"optimizer": arguments()["optimizer"]}),
}
