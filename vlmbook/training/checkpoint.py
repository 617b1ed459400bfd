"""The checkpoint of a training run: one safetensors file, written whole or not at all, in which nothing is
executed.
"""

import copy
import hashlib
import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from accelerate import Accelerator
from torch import nn

from vlmbook.files import write_whole
from vlmbook.runtime import require_path
from vlmbook.training.digest import hash_layers
from vlmbook.validation import require_callable, require_tensor, require_type, require_whole


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
FORMAT = 2


def write_checkpoint(path: str | Path, tensors: dict[str, torch.Tensor], notes: Any) -> None:
    """dict of tensors, what JSON can hold -> None: one safetensors file that is there whole or not at all.

    It holds the SHA-256 of itself, taken with 64 zeros where the digest goes. Raises TypeError for what such
    a file cannot hold, OSError for a path that is no file, and for a full disk.
    """
    path = require_path(path, "path")
    require_type(tensors, "tensors", dict, "a dict of tensors")
    for name, tensor in tensors.items():
        require_type(name, "tensors", str, "a name for each tensor")
        require_tensor(tensor, f"tensors[{name!r}]", "…", kind="any")
    try:
        text = json.dumps(notes)
        whole = safetensors.torch.save(tensors, {"notes": text, "sha256": "0" * 64})
    except (TypeError, ValueError, KeyError, RecursionError, RuntimeError) as reason:
        raise TypeError(f"a checkpoint wants tensors, and notes that JSON can hold: {reason}") from None
    before, after = _around_digest(whole)
    write_whole(path, b"".join([before, _digest(before, after), after]))


def read_checkpoint(path: str | Path) -> tuple[dict[str, torch.Tensor], Any]:
    """-> (dict of tensors, notes). Raises ValueError for a file that is not as `write_checkpoint` wrote it,
    to the bit, and FileNotFoundError for one that is not there.

    Nothing in the file is executed: it is compared with its digest, then read by safetensors.
    """
    path = require_path(path, "path")
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    whole = path.read_bytes()
    parts = _around_digest(whole)
    if parts is None:
        raise ValueError(f"{path} is no checkpoint of fit, or its beginning is damaged; it was not loaded")
    if _digest(*parts) != whole[len(parts[0]) : -len(parts[1]) or None]:
        raise ValueError(f"{path} is damaged: its contents do not have the SHA-256 they were written with")
    header = int.from_bytes(whole[:8], "little")
    try:
        notes = json.loads(json.loads(whole[8 : 8 + header])["__metadata__"]["notes"])
        return safetensors.torch.load(whole), notes
    except (safetensors.SafetensorError, ValueError, LookupError, TypeError, RecursionError) as reason:
        raise ValueError(f"{path} is no checkpoint of fit: {reason}") from None


def _around_digest(whole):
    """bytes -> the bytes before and after the digest in the header, None where there is none."""
    header = int.from_bytes(whole[:8], "little")
    if header > len(whole):
        return None
    found = DIGEST.search(whole, 8, 8 + header)
    return found and (memoryview(whole)[: found.start(1)], memoryview(whole)[found.end(1) :])


def _digest(before, after):
    digest = hashlib.sha256(before)
    digest.update(b"0" * 64)
    digest.update(after)
    return digest.hexdigest().encode()


# --- what is in it ------------------------------------------------------------------------------------------


class Checkpoint:
    """All that the next step depends on, with the file it is kept in."""

    def __init__(
        self,
        path: str | Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        settings: dict,
        steps: int,
    ):
        """settings: what JSON can hold; a file with others is refused. steps: of the whole run."""
        self.path = require_path(path, "path")
        self.model = require_type(model, "model", nn.Module, "a torch.nn.Module")
        self.optimizer = require_type(
            optimizer, "optimizer", torch.optim.Optimizer, "a torch.optim.Optimizer"
        )
        self.accelerator = require_type(accelerator, "accelerator", Accelerator, "an accelerate.Accelerator")
        require_type(settings, "settings", dict, "a dict of what JSON can hold")
        try:
            self.settings = json.loads(json.dumps(settings))  # as they come back: a tuple is a list
        except (TypeError, ValueError, RecursionError) as reason:
            raise TypeError(f"settings wants what JSON can hold: {reason}") from None
        self.steps = require_whole(steps, "steps", most=2**62)
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        # A mask of −infinity is right; a running mean that has become infinite is not.
        self.checked = [name for name, tensor in state_tensors(model).items() if tensor.isfinite().all()]

    def save(self, step: int, history: History) -> None:
        """int, History -> None. Every process gives its random state, the main one writes.

        Raises FloatingPointError for a weight or buffer that is not finite any more: written, it would
        replace the last checkpoint that is good.
        """
        step = require_whole(step, "step", most=self.steps)
        require_type(history, "history", History, "a History")
        self.require_finite(step)
        state = self.optimizer.state_dict()["state"]
        flat = {f"optimizer.{i}.{name}": each for i, entry in state.items() for name, each in entry.items()}
        tensors = {f"model.{name}": tensor for name, tensor in state_tensors(self.model).items()}
        for name, value in flat.items():
            if isinstance(value, torch.Tensor):
                tensors[name] = value
        for name, tensor in _random_states(self.accelerator.device):
            tensors[f"random.{name}"] = self._gather(tensor)
        tensors["history.losses"] = torch.tensor(history.losses, dtype=torch.float64)
        tensors["history.lrs"] = torch.tensor(history.lrs, dtype=torch.float64)
        if self.accelerator.is_main_process:
            # safetensors takes contiguous tensors only, each with memory of its own.
            alone = {
                name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
                for name, tensor in tensors.items()
            }
            notes = {
                "format": FORMAT,
                "step": step,
                "settings": self.settings,
                "layers": hash_layers(self.model),
                "tensors": sorted(alone),
                "optimizer": {name: value for name, value in flat.items() if name not in tensors},
                "evaluations": history.evaluations,
                "seconds": history.seconds,
            }
            write_checkpoint(self.path, alone, notes)

    def require_finite(self, step: int) -> None:
        """Raises FloatingPointError for a weight or buffer that was finite at the start and is not any
        more.
        """
        require_whole(step, "step", most=self.steps)
        for name, tensor in state_tensors(self.model).items():
            if name in self.checked and not tensor.isfinite().all():
                raise FloatingPointError(
                    f"{name} is not finite after step {step - 1}; no checkpoint was written of it"
                )

    def resume(self, report: Callable[[str], object] = print) -> tuple[int, History]:
        """-> (next step, History), (0, History()) where there is no file yet; `report` gets a sentence on it.

        Raises ValueError for a file of another run and for one in which anything is missing or malformed,
        before it changes anything.
        """
        require_callable(report, "report")
        found = self.path.exists()
        step, history = 0, History()
        if found:
            tensors, notes = read_checkpoint(self.path)
            self._compare(tensors, notes)
            history = self._require_history(tensors, notes)
            states = self._require_optimizer_state(tensors, notes)
            random_states = self._require_random_states(tensors)
            step = notes["step"]
        if len(set(self._gather(torch.tensor([step])).flatten().tolist())) > 1:
            raise ValueError(
                f"{self.path} is not the same for all processes: it wants a folder that all hosts share"
            )
        if not found:
            report(f"fit: there is no checkpoint {self.path} yet, it starts at step 0")
            return step, history
        with torch.no_grad():
            for name, tensor in state_tensors(self.model).items():
                tensor.copy_(tensors[f"model.{name}"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": states})
        _set_random_states(random_states, self.accelerator.device)
        report(f"fit: goes on from {self.path} after step {step}")
        return step, history

    # --- what is required of a file, before anything is changed ---------------------------------------------

    def _compare(self, tensors, notes):
        """Raises ValueError for a file of another format, model or settings."""
        if not isinstance(notes, dict) or notes.get("format") != FORMAT:
            found = notes.get("format") if isinstance(notes, dict) else None
            raise ValueError(f"{self.path} is of format {found!r}, this version reads {FORMAT}")
        kinds = {
            "step": int,
            "settings": dict,
            "layers": str,
            "tensors": list,
            "optimizer": dict,
            "evaluations": list,
            "seconds": Real,
        }
        for name, kind in kinds.items():
            if not isinstance(notes.get(name), kind) or isinstance(notes[name], bool):
                raise self._malformed(f"its notes have no {name}")
        theirs = {name: _kind(tensor) for name, tensor in tensors.items() if name.startswith("model.")}
        ours = {f"model.{name}": _kind(tensor) for name, tensor in state_tensors(self.model).items()}
        for name in [*ours, *theirs]:
            if ours.get(name) != theirs.get(name):
                raise ValueError(
                    f"{self.path} is of another model: {name.removeprefix('model.')} is "
                    f"{theirs.get(name, 'missing')} there and {ours.get(name, 'missing')} here"
                )
        if notes["layers"] != hash_layers(self.model):
            raise ValueError(
                f"{self.path} is of another model: the weights have the same shapes, the layers differ"
            )
        changed = [
            _describe_change(name, notes["settings"].get(name), self.settings.get(name))
            for name in {**self.settings, **notes["settings"]}
            if notes["settings"].get(name) != self.settings.get(name)
        ]
        if changed:
            raise ValueError(f"{self.path} is of a run with other settings: {'; '.join(changed)}")
        if sorted(tensors) != notes["tensors"]:
            differ = sorted(set(tensors).symmetric_difference(map(str, notes["tensors"])))
            raise self._malformed(f"{', '.join(differ[:3])} is missing or too much")
        for name in self.checked:
            if not tensors[f"model.{name}"].isfinite().all():
                raise self._malformed(f"{name} is not finite")

    def _require_history(self, tensors, notes):
        """-> History of as many steps as the notes count."""
        if not 1 <= notes["step"] <= self.steps:
            raise self._malformed(f"its step is {notes['step']}, of {self.steps}")
        series = []
        for name in ("losses", "lrs"):
            tensor = tensors.get(f"history.{name}")
            if tensor is None or tensor.dtype != torch.float64 or tensor.shape != (notes["step"],):
                raise self._malformed(f"its {name} are not one a step")
            series.append(tensor.tolist())
        for each in notes["evaluations"]:
            plain = isinstance(each, dict) and all(type(value) in (int, float) for value in each.values())
            if not plain:
                raise self._malformed("its evaluations are not dicts of numbers")
        if not (math.isfinite(notes["seconds"]) and notes["seconds"] >= 0):
            raise self._malformed(f"its seconds are {notes['seconds']}")
        return History(*series, notes["evaluations"], float(notes["seconds"]))

    def _require_optimizer_state(self, tensors, notes):
        """-> {index of a parameter: {name: value}}, of the form that this optimizer gives its state."""
        states = {}
        for name, value in {**tensors, **notes["optimizer"]}.items():
            if name.startswith("optimizer."):
                match = re.fullmatch(r"optimizer\.(0|[1-9][0-9]{0,8})\.(.+)", name)
                if match is None or int(match[1]) >= len(self.parameters):
                    raise self._malformed(f"{name} belongs to no parameter")
                states.setdefault(int(match[1]), {})[match[2]] = value
        expected = self._state_after_a_step()
        if expected is not None:
            if any(expected.values()) and not states:
                raise self._malformed("it has no optimizer state")
            for index, state in states.items():
                if _kinds(state) != _kinds(expected.get(index, {})):
                    raise self._malformed(f"the optimizer's state of parameter {index} is not of its form")
        return {
            index: {name: self._lay_out(value, self.parameters[index]) for name, value in state.items()}
            for index, state in states.items()
        }

    def _state_after_a_step(self):
        """-> {index: {name: value}} of a copy of the optimizer after one step with gradients of zero, None
        where it cannot make one so.
        """
        try:
            trial = copy.deepcopy(getattr(self.optimizer, "optimizer", self.optimizer))
            for group in trial.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.zeros_like(parameter)
            trial.step()
            return trial.state_dict()["state"]
        except Exception:  # an optimizer of the reader's own, which may want a closure, or sparse gradients
            return None

    def _require_random_states(self, tensors):
        """-> dict of this process's states, each of which a generator has taken on trial."""
        expected = dict(_random_states(self.accelerator.device))
        found = {name.removeprefix("random."): t for name, t in tensors.items() if name.startswith("random.")}
        if found.keys() != expected.keys():
            raise self._malformed(f"it has the random states {', '.join(found) or 'of nothing'}")
        shapes = {name: (self.accelerator.num_processes, *state.shape) for name, state in expected.items()}
        for name, state in found.items():
            if state.shape != shapes[name] or state.dtype != expected[name].dtype:
                raise self._malformed(f"its random state of {name} is not of its form")
        rank = self.accelerator.process_index  # its row, copied: torch.set_rng_state crashes on a view
        mine = {name: state[rank].clone() for name, state in found.items()}
        try:
            random.Random().setstate(_python_state(mine["python"]))
            np.random.RandomState().set_state(_numpy_state(mine["numpy"]))
            torch.Generator().set_state(mine["torch"])
            if self.accelerator.device.type in mine:
                torch.Generator(self.accelerator.device).set_state(mine[self.accelerator.device.type])
        except (ValueError, TypeError, OverflowError, RuntimeError) as reason:
            raise self._malformed(f"its random state is none: {reason}") from None
        return mine

    def _malformed(self, fault):
        return ValueError(f"{self.path} is no checkpoint to go on from: {' '.join(str(fault).split())}")

    def _gather(self, tensor):
        """(…) -> (processes, …)"""
        if self.accelerator.num_processes == 1:
            return tensor[None]
        return self.accelerator.gather(tensor[None].to(self.accelerator.device))

    @staticmethod
    def _lay_out(value, parameter):
        """A moment lies in memory as its parameter does: in another order, the same sums may round
        otherwise.
        """
        if not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
            return value
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def state_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Module -> dict of its parameters and buffers by name, tied ones once. Raises TypeError."""
    require_type(model, "model", nn.Module, "a torch.nn.Module")
    return dict(chain(model.named_parameters(), model.named_buffers()))


def plain_settings(optimizer: torch.optim.Optimizer) -> dict:
    """Optimizer -> dict: its kind and the defaults that JSON can hold. Raises TypeError."""
    require_type(optimizer, "optimizer", torch.optim.Optimizer, "a torch.optim.Optimizer")
    inner = getattr(optimizer, "optimizer", optimizer)
    plain = (bool, int, float, str, tuple, type(None))
    settings = {
        f"optimizer {name}": value
        for name, value in inner.defaults.items()
        if isinstance(value, plain) and name not in ("lr", "weight_decay")
    }
    return {"optimizer": type(inner).__name__, **settings}


def _describe_change(name, there, here):
    """A setting that differs, in words; hashes and long lists by what they stand for."""
    if name in ("data", "loss"):
        return f"another {name}" if name == "loss" else "other data"
    if isinstance(there, list) and isinstance(here, list):
        differ = [str(each) for each in [*there, *here] if (each in there) != (each in here)]
        if differ:
            return f"{name}: {differ[0] or 'the model'} only {'there' if differ[0] in there else 'here'}"
    return f"{name} {there!r} there, {here!r} here"


def _kind(tensor):
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _kinds(state):
    """{name: value} -> {name: str}: of tensors dtype and shape, of the rest its type as JSON keeps it."""
    kinds = {name: type(value).__name__.replace("tuple", "list") for name, value in state.items()}
    return kinds | {name: _kind(value) for name, value in state.items() if isinstance(value, torch.Tensor)}


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


def _python_state(tensor):
    *words, gauss = tensor.tolist()
    return 3, tuple(_words(words)), None if math.isinf(gauss) else gauss


def _numpy_state(tensor):
    *words, position, has_gauss, gauss = tensor.tolist()
    position, has_gauss = _words([position, has_gauss])
    if position > 624 or has_gauss > 1:
        raise ValueError(f"its position is {position}")
    return "MT19937", np.array(_words(words), np.uint32), position, has_gauss, gauss


def _words(numbers):
    """list of float -> list of int. Raises ValueError for one that is no word of 32 bits."""
    for number in numbers:
        if not (0 <= number < 2**32 and number == int(number)):
            raise ValueError(f"{number} is no word of 32 bits")
    return [int(number) for number in numbers]


def _set_random_states(states, device):
    random.setstate(_python_state(states["python"]))
    np.random.set_state(_numpy_state(states["numpy"]))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if device.type in states:
        torch.get_device_module(device).set_rng_state(states[device.type])
