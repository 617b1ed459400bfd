"""The checkpoint of a training run: one safetensors file, written whole or not at all, in which nothing is
executed.
"""

import hashlib
import json
import math
import random
import re
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn

from vlmbook.files import write_whole


@dataclass
class History:
    """What a run did, over all its interruptions: a loss and a learning rate a step, an evaluation an
    epoch.
    """

    losses: list[float] = field(default_factory=list)
    lrs: list[float] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)  # empty without `evaluate`
    seconds: float = 0.0


# --- the file -----------------------------------------------------------------------------------------------

DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
FORMAT = 1


def write_checkpoint(path: str | Path, tensors: dict[str, torch.Tensor], notes: dict) -> None:
    """dict of tensors, what JSON can hold -> None: one safetensors file that is there whole or not at all.

    It holds the SHA-256 of itself, taken with 64 zeros where the digest goes.
    """
    whole = safetensors.torch.save(tensors, {"notes": json.dumps(notes), "sha256": "0" * 64})
    before, after = _around_digest(whole)
    write_whole(path, bytes(before) + _digest(before, after) + bytes(after))


def read_checkpoint(path: str | Path) -> tuple[dict[str, torch.Tensor], dict]:
    """-> (dict of tensors, notes). Raises ValueError for a file that is not as `write_checkpoint` wrote it,
    to the bit.

    Nothing in the file is executed: it is compared with its digest, then read by safetensors.
    """
    whole = Path(path).read_bytes()
    parts = _around_digest(whole)
    if parts is None:
        raise ValueError(f"{path} is no checkpoint of fit, or its beginning is damaged; it was not loaded")
    if _digest(*parts) != whole[len(parts[0]) : -len(parts[1]) or None]:
        raise ValueError(f"{path} is damaged: its contents do not have the SHA-256 they were written with")
    header = int.from_bytes(whole[:8], "little")
    try:
        notes = json.loads(json.loads(whole[8 : 8 + header])["__metadata__"]["notes"])
        return safetensors.torch.load(whole), notes
    except (safetensors.SafetensorError, ValueError, LookupError, TypeError) as reason:
        raise ValueError(f"{path} is no checkpoint of fit: {reason}") from None


def _around_digest(whole):
    """bytes -> what stands before and after the digest in the header, None where there is none."""
    found = DIGEST.search(whole, 8, 8 + int.from_bytes(whole[:8], "little"))
    return found and (memoryview(whole)[: found.start(1)], memoryview(whole)[found.end(1) :])


def _digest(before, after):
    digest = hashlib.sha256(before)
    digest.update(b"0" * 64)
    digest.update(after)
    return digest.hexdigest().encode()


# --- what is in it ------------------------------------------------------------------------------------------


class RunState:
    """All that the next step depends on, with the file it is kept in."""

    def __init__(self, path, model, optimizer, accelerator, settings):
        self.path, self.model, self.optimizer, self.accelerator = path, model, optimizer, accelerator
        self.settings = json.loads(json.dumps(settings))  # as they come back: a tuple is a list
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def save(self, step, history):
        """int, History -> None. Every process gives its random state, the main one writes."""
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():  # written, it would replace the last checkpoint that is good
                raise FloatingPointError(
                    f"{name} is not finite after step {step - 1}; no checkpoint was written of it"
                )
        states = self.optimizer.state_dict()["state"]
        flat = {
            f"optimizer.{i}.{name}": value for i, state in states.items() for name, value in state.items()
        }
        tensors = {
            **{f"model.{name}": tensor for name, tensor in state_tensors(self.model).items()},
            **{name: value for name, value in flat.items() if isinstance(value, torch.Tensor)},
            **{
                f"random.{name}": self._of_all(state)
                for name, state in _random_states(self.accelerator.device)
            },
            "history.losses": torch.tensor(history.losses, dtype=torch.float64),
            "history.lrs": torch.tensor(history.lrs, dtype=torch.float64),
        }
        if self.accelerator.is_main_process:
            # safetensors takes contiguous tensors only, each with memory of its own.
            alone = {
                name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
                for name, tensor in tensors.items()
            }
            write_checkpoint(
                self.path,
                alone,
                {
                    "format": FORMAT,
                    "step": step,
                    "settings": self.settings,
                    "layers": _layers(self.model),
                    "optimizer": {
                        name: value for name, value in flat.items() if not isinstance(value, torch.Tensor)
                    },
                    "evaluations": history.evaluations,
                    "seconds": history.seconds,
                },
            )

    def resume(self, say):
        """-> (next step, History), (0, History()) where there is no file yet. Raises before it changes
        anything.
        """
        found = Path(self.path).exists()
        step, history = 0, History()
        if found:
            tensors, notes = read_checkpoint(self.path)
            self._compare(tensors, notes)
            step, history = (
                notes["step"],
                History(
                    tensors["history.losses"].tolist(),
                    tensors["history.lrs"].tolist(),
                    notes["evaluations"],
                    notes["seconds"],
                ),
            )
        if len(set(self._of_all(torch.tensor([step])).flatten().tolist())) > 1:
            raise ValueError(
                f"{self.path} is not the same for all processes: it wants a folder that all hosts share"
            )
        if found:
            self._take(tensors, notes)
        say(
            f"fit: goes on from {self.path} after step {step}"
            if found
            else f"fit: there is no checkpoint {self.path} yet, it starts at step 0"
        )
        return step, history

    def _compare(self, tensors, notes):
        if notes.get("format") != FORMAT:
            raise ValueError(f"{self.path} is of format {notes.get('format')!r}, this version reads {FORMAT}")
        theirs = {name: _kind(tensor) for name, tensor in tensors.items() if name.startswith("model.")}
        ours = {f"model.{name}": _kind(tensor) for name, tensor in state_tensors(self.model).items()}
        for name in [*ours, *theirs]:
            if ours.get(name) != theirs.get(name):
                raise ValueError(
                    f"{self.path} is of another model: {name.removeprefix('model.')} is "
                    f"{theirs.get(name, 'missing')} there and {ours.get(name, 'missing')} here"
                )
        if notes["layers"] != _layers(self.model):
            raise ValueError(
                f"{self.path} is of another model: the weights have the same shapes, the layers differ"
            )
        changed = [
            f"{name} {notes['settings'].get(name)!r} there, {self.settings.get(name)!r} here"
            for name in {**self.settings, **notes["settings"]}
            if notes["settings"].get(name) != self.settings.get(name)
        ]
        if changed:
            raise ValueError(f"{self.path} is of a run with other settings: {'; '.join(changed)}")

    def _take(self, tensors, notes):
        with torch.no_grad():
            for name, tensor in state_tensors(self.model).items():
                tensor.copy_(tensors[f"model.{name}"])
        states = {}
        for name, value in {**tensors, **notes["optimizer"]}.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                states.setdefault(int(index), {})[key] = self._laid_out(value, self.parameters[int(index)])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": states})
        rank = self.accelerator.process_index  # its row, copied: torch.set_rng_state crashes on a view
        _set_random_states(
            {
                name.removeprefix("random."): tensor[rank].clone()
                for name, tensor in tensors.items()
                if name.startswith("random.")
            },
            self.accelerator.device,
        )

    def _of_all(self, tensor):
        """(…) -> (processes, …)"""
        if self.accelerator.num_processes == 1:
            return tensor[None]
        return self.accelerator.gather(tensor[None].to(self.accelerator.device))

    @staticmethod
    def _laid_out(value, parameter):
        """A moment lies in memory as its parameter does: in another order, the same sums may round
        otherwise.
        """
        same = isinstance(value, torch.Tensor) and value.shape == parameter.shape
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value) if same else value


def state_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Module -> dict of its parameters and buffers by name, tied ones once."""
    return dict(chain(model.named_parameters(), model.named_buffers()))


def _kind(tensor):
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _layers(model):
    """Module -> str: a hash of what it prints as, which tells apart what has no weights (ReLU, GELU,
    Dropout).
    """
    return hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", repr(model)).encode()).hexdigest()


def plain_settings(optimizer):
    """Optimizer -> dict: its kind and the defaults that JSON can hold."""
    inner = getattr(optimizer, "optimizer", optimizer)
    plain = (bool, int, float, str, tuple, type(None))
    return {"optimizer": type(inner).__name__} | {
        f"optimizer {name}": value
        for name, value in inner.defaults.items()
        if isinstance(value, plain) and name not in ("lr", "weight_decay")
    }


def _random_states(device):
    """-> pairs of name and tensor: the global generators of Python, NumPy and PyTorch. float64 holds 32-bit
    words.
    """
    _, words, gauss = random.getstate()
    yield "python", torch.tensor([*words, math.inf if gauss is None else gauss], dtype=torch.float64)
    _, words, *rest = np.random.get_state()  # noqa: NPY002
    yield "numpy", torch.tensor([*words.tolist(), *rest], dtype=torch.float64)
    yield "torch", torch.get_rng_state()
    if device.type != "cpu":
        yield device.type, torch.get_device_module(device).get_rng_state()


def _set_random_states(states, device):
    *words, gauss = states["python"].tolist()
    random.setstate((3, tuple(map(int, words)), None if math.isinf(gauss) else gauss))
    *words, place, has_gauss, gauss = states["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(words, np.uint32), int(place), int(has_gauss), gauss))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if device.type in states:
        torch.get_device_module(device).set_rng_state(states[device.type])
