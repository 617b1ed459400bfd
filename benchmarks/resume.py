"""Kill a training run at random moments, checkpoint writing included: it ends each time as if never
killed.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.runtime import seed_everything
from vlmbook.training.loop import fit, read_checkpoint

STEPS_PER_EPOCH, BATCH = 8, 16


def train(path, epochs):
    """The run that is killed. Its checkpoint of 6 MB after each step takes most of its time."""
    seed_everything(0)  # Python's and NumPy's generators too: their states are in the checkpoint
    model = nn.Sequential(
        nn.Linear(64, 600),
        nn.BatchNorm1d(600),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(600, 700),
        nn.ReLU(),
        nn.Linear(700, 10),
    )
    x = torch.randn(STEPS_PER_EPOCH * BATCH, 64, generator=torch.Generator().manual_seed(1))
    fit(
        model,
        (x, x[:, :10].argmax(1)),
        loss_fn=lambda model, x, y: F.cross_entropy(model(x), y),
        epochs=epochs,
        batch_size=BATCH,
        lr=1e-3,
        checkpoint=path,
        checkpoint_every=1,
        resume=True,
        progress=False,
    )


def start(path, epochs):
    """-> a process that trains, which has begun its first step, and the line in which `fit` said where."""
    process = subprocess.Popen(
        [sys.executable, "-u", __file__, "--train", path, "--epochs", str(epochs)],
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline()


def said_step(line):
    """str -> int: the step that `fit` says it goes on after."""
    return int(line.rsplit("after step", 1)[1]) if "goes on from" in line else 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=30)
    arguments.add_argument("--epochs", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    arguments.add_argument("--train", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.train:
        train(given.train, given.epochs)
        return
    print(
        f"{given.kills} kills, seed {given.seed}, torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{os.name}"
    )
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(judge(Path(folder), given))


def judge(folder, given):
    """-> bool: did anything go wrong? Prints the counts."""
    killed, partial = folder / "killed.safetensors", folder / "killed.safetensors.partial"
    moments, counts, reached = random.Random(given.seed), Counter(), 0
    for _ in range(given.kills):
        process, line = start(killed, given.epochs)
        restarted = said_step(line) != reached
        time.sleep(moments.uniform(0, 0.5))
        counts["finished before the kill"] += process.poll() is not None
        process.kill()
        process.communicate()
        counts["killed"] += 1
        counts["silently restarted"] += restarted
        counts["killed while writing"] += partial.exists()
        partial.unlink(
            missing_ok=True
        )  # so that the next kill is counted by itself; `fit` would write over it
        if killed.exists():
            try:
                reached = read_checkpoint(killed)[1]["step"]
            except ValueError as reason:
                counts["corrupt"] += 1
                print(reason)
    counts["steps before the last kill"] = reached
    for path in (killed, folder / "whole.safetensors"):
        process, line = start(path, given.epochs)
        counts["silently restarted"] += path == killed and said_step(line) != reached
        process.communicate()
    (ours, notes), (theirs, _) = read_checkpoint(killed), read_checkpoint(folder / "whole.safetensors")
    differ = sorted(
        name
        for name in {**ours, **theirs}
        if name not in ours or name not in theirs or not torch.equal(ours[name], theirs[name])
    )
    print(", ".join(f"{name} {count}" for name, count in counts.items()))
    print(
        f"after {notes['step']} steps {len(ours) - len(differ)} of {len(ours)} tensors are those of a run never "
        f"killed, bit for bit{'; not ' if differ else ''}{', '.join(differ)}"
    )
    return bool(
        differ
        or counts["corrupt"]
        or counts["silently restarted"]
        or counts["finished before the kill"]
        or not counts["killed while writing"]
    )


if __name__ == "__main__":
    main()
