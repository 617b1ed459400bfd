"""One training loop on Hugging Face Accelerate, and a checkpoint from which it goes on as if nothing had
happened.

The same call runs on a CPU, on one accelerator, and under `torchrun` or `accelerate launch` on several GPUs
or hosts.
"""

import atexit
import hashlib
import json
import math
import os
import random
import re
import signal
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from vlmbook.runtime import device


@dataclass
class History:
    """What a run did, over all its interruptions: a loss and a learning rate a step, an evaluation an
    epoch.
    """

    losses: list = field(default_factory=list)
    lrs: list = field(default_factory=list)
    evaluations: list = field(default_factory=list)  # dicts of numbers; empty without `evaluate`
    seconds: float = 0.0


def fit(
    model,
    data,
    *,
    loss_fn,
    epochs,
    batch_size,
    lr,
    evaluate=None,
    checkpoint=None,
    checkpoint_every=None,
    resume=False,
    seed=0,
    optimizer=torch.optim.AdamW,
    weight_decay=0.0,
    warmup=0,
    clip=None,
    precision=None,
    workers=0,
    progress=True,
):
    """Train `model` in place -> History. It comes back on the device it was trained on, in the mode it came
    in.

    data: a tuple of tensors with the samples in dim 0, moved to the device once and batched by index; or a
      Dataset, read by a DataLoader with `workers` processes.
    loss_fn(model, *batch) -> scalar, the mean over the batch; it calls `model(…)` itself, which may be
    wrapped. evaluate(model) -> dict of numbers, after each epoch, in eval mode and without gradients.
    batch_size: samples a step over all processes. lr: after `warmup` steps; it then falls to 0 along a
    cosine. optimizer(parameters, lr=…, weight_decay=…) makes it. clip: the largest norm of all gradients
    together. seed: of the order of the samples only; the caller seeds the global generators. precision: None
    or "bf16" (autocast), fixed per process: another one later raises ValueError. checkpoint: a file, written
    every `checkpoint_every` steps (default: each epoch) and at the end; `resume=True` goes
      on from it, on a CPU bit for bit as if never stopped (same thread count; random augmentation in this
      process).

    Interrupted (Ctrl-C, a notebook's stop button), it ends its step, writes the checkpoint and returns; a
    second interrupt stops at once. Raises TypeError or ValueError for arguments it cannot use and for a
    checkpoint that is damaged, of another model or of other settings; FileExistsError for a checkpoint with
    resume=False, and FloatingPointError at a loss or weights that are not finite; the checkpoint is then one
    from before.
    """
    samples = _check(**locals())
    accelerator = _accelerator(precision)
    per_epoch = math.ceil(samples / batch_size)
    steps = epochs * per_epoch
    if warmup >= steps:
        raise ValueError(f"fit wants warmup below its {steps} steps, got {warmup}")
    say = print if accelerator.is_main_process else (lambda text: None)

    with _lent(model, accelerator, optimizer, lr, weight_decay) as (wrapped, optimizer):
        run = _Run(
            checkpoint,
            model,
            optimizer,
            accelerator,
            settings={
                "epochs": epochs,
                "batch_size": batch_size,
                "lr": lr,
                "seed": seed,
                "weight_decay": weight_decay,
                "warmup": warmup,
                "clip": clip,
                "precision": accelerator.mixed_precision,
                "samples": samples,
                "processes": accelerator.num_processes,
                **_plain_settings(optimizer),
            },
        )
        start, history = run.resume(say) if resume else (0, History())
        began = time.perf_counter() - history.seconds
        todo = batches(
            data,
            batch_size,
            epochs,
            seed=seed,
            start=start,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
            device=accelerator.device,
            workers=workers,
        )
        hidden = not (progress and accelerator.is_main_process)
        with (
            _interruptible(accelerator) as interrupted,
            tqdm(total=steps, initial=start, disable=hidden) as bar,
        ):
            for step, batch, share in todo:
                rate = learning_rate(step, steps, lr, warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad()
                loss = _scalar(loss_fn(wrapped, *batch)) * share
                mean = accelerator.reduce(loss.detach(), "mean").item()
                if not math.isfinite(mean):
                    raise FloatingPointError(
                        f"the loss is {mean} at step {step} (lr {rate:.3g}); the weights are as "
                        "they were before that step"
                    )
                accelerator.backward(loss)
                if clip is not None:
                    accelerator.clip_grad_norm_(wrapped.parameters(), clip)
                optimizer.step()

                history.losses.append(mean)
                history.lrs.append(rate)
                if evaluate and (step + 1) % per_epoch == 0:
                    history.evaluations.append(_evaluate(evaluate, model))
                history.seconds = time.perf_counter() - began
                bar.set_postfix(loss=f"{mean:.4g}", refresh=False)
                bar.update()
                stop = interrupted.is_set()
                if checkpoint and (
                    stop or step + 1 == steps or (step + 1) % (checkpoint_every or per_epoch) == 0
                ):
                    run.save(step + 1, history)
                if stop:
                    say(
                        f"fit: interrupted after {step + 1} of {steps} steps; model and history are those of that step"
                    )
                    break
    return history


def learning_rate(step, steps, lr, warmup=0):
    """int -> float: rises linearly over `warmup` steps to `lr`, then falls to 0 at `steps` along half a
    cosine.
    """
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    return lr * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def batches(data, batch_size, epochs, *, seed, start=0, rank=0, processes=1, device="cpu", workers=0):
    """-> iterator of (step, batch, share) from step `start` on: all epochs, in one order for all processes.

    Each process takes every `processes`-th sample of a batch. `share` is what its mean loss counts in the
    mean over the processes, 1 where all hold equally many; without a sample it takes one along that counts 0.
    """
    shuffle = torch.Generator().manual_seed(seed)
    small = isinstance(data, (tuple, list))
    data = tuple(tensor.to(device) for tensor in data) if small else data
    samples = len(data[0]) if small else len(data)
    sizes = [min(batch_size, samples - i) for i in range(0, samples, batch_size)]
    shares = [len(range(rank, size, processes)) * processes / size for size in sizes]
    for epoch in range(epochs):
        first = max(start, epoch * len(sizes))
        order = torch.randperm(
            samples, generator=shuffle
        )  # drawn for finished epochs too: the next ones follow
        done = first - epoch * len(sizes)
        if done >= len(sizes):
            continue
        whole = (order.to(device) if small else order).split(batch_size)[done:]
        mine = [
            batch[rank::processes] if share else batch[:1]
            for batch, share in zip(whole, shares[done:], strict=True)
        ]
        if small:
            loaded = (tuple(tensor.index_select(0, index) for tensor in data) for index in mine)
        else:
            loaded = _load(data, [batch.tolist() for batch in mine], device, workers, seed + epoch)
        for step, (batch, share) in enumerate(zip(loaded, shares[done:], strict=True), start=first):
            yield step, batch, share


def _load(dataset, indices, device, workers, seed):
    """Dataset, lists of int -> iterator of tuples of tensors on the device."""
    # Without a generator of its own a DataLoader draws from the global one, and a resumed run would draw once
    # more.
    loader = DataLoader(
        dataset,
        batch_sampler=indices,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_ignore_interrupts,
        generator=torch.Generator().manual_seed(seed),
    )
    for batch in loader:
        batch = send_to_device(batch, device, non_blocking=True)
        yield tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


def _ignore_interrupts(worker):
    """Ctrl-C reaches the loader's processes too; the step that is to be ended still waits for their batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _evaluate(evaluate, model):
    """-> dict of float, of the bare model: processes that hold it whole need not wait for one another
    here.
    """
    model.eval()
    with torch.no_grad():
        figures = evaluate(model)
    model.train()
    if not isinstance(figures, dict):
        raise TypeError(f"evaluate wants to return a dict of numbers, got {type(figures).__name__}")
    return {str(name): float(value) for name, value in figures.items()}


def _scalar(loss):
    if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.requires_grad:
        got = f"one of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise TypeError(f"loss_fn wants to return a scalar tensor with a gradient, got {got}")
    return loss


# --- around the loop ----------------------------------------------------------------------------------------


def _check(
    *,
    model,
    data,
    loss_fn,
    epochs,
    batch_size,
    lr,
    evaluate,
    checkpoint,
    checkpoint_every,
    resume,
    seed,
    optimizer,
    weight_decay,
    warmup,
    clip,
    precision,
    workers,
    progress,
):
    """The arguments of `fit` -> int: how many samples there are. Raises for the first one that it cannot
    use.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"fit wants a torch.nn.Module, got {type(model).__name__}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("fit wants a model with parameters to train, got one with none")
    for name, function in {"loss_fn": loss_fn, "optimizer": optimizer, "evaluate": evaluate or fit}.items():
        if not callable(function):
            raise TypeError(f"fit wants a function as {name}, got {type(function).__name__}")
    whole = {
        "epochs": (epochs, 1),
        "batch_size": (batch_size, 1),
        "seed": (seed, 0),
        "warmup": (warmup, 0),
        "workers": (workers, 0),
        "checkpoint_every": (1 if checkpoint_every is None else checkpoint_every, 1),
    }
    for name, (value, least) in whole.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"fit wants an int as {name}, got {value!r}")
        if not least <= value < 2**62:
            raise ValueError(f"fit wants {name} >= {least}, got {value}")
    for name, value in {"lr": lr, "clip": 1 if clip is None else clip}.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"fit wants {name} > 0, got {value}")
    if precision not in (None, "bf16"):
        raise ValueError(f'fit wants precision=None or "bf16", got {precision!r}')
    if checkpoint is None and (resume or checkpoint_every is not None):
        raise ValueError("fit wants a file as checkpoint with resume=True or checkpoint_every, got none")
    if checkpoint is not None and Path(checkpoint).exists() and not resume:
        raise FileExistsError(
            f"{checkpoint} exists; go on from it with resume=True, or delete it to start over"
        )
    return _samples(data)


def _samples(data):
    """tuple of tensors or Dataset -> int: how many samples it holds."""
    if isinstance(data, (tuple, list)):
        if not data or not all(isinstance(tensor, torch.Tensor) and tensor.ndim for tensor in data):
            raise TypeError(
                "fit wants data as a tuple of tensors, such as (images, labels), got "
                f"({', '.join(type(part).__name__ for part in data)})"
            )
        if len({len(tensor) for tensor in data}) > 1:
            raise ValueError(
                f"fit wants tensors of one length, got {' and '.join(str(len(t)) for t in data)} samples"
            )
        data = data[0]
    elif isinstance(data, (torch.Tensor, str, dict, IterableDataset)) or not hasattr(data, "__getitem__"):
        raise TypeError(
            f"fit wants data as a tuple of tensors or a Dataset with a length, got {type(data).__name__}"
        )
    if not len(data):
        raise ValueError("fit wants data, got 0 samples")
    return len(data)


def _accelerator(precision):
    """-> Accelerator of that precision, else of the one that `accelerate launch` asks for."""
    precision = precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", "bf16"):
        raise ValueError(f'fit wants precision "no" or "bf16" from accelerate launch, got {precision!r}')
    on_cpu = (
        device().type == "cpu"
    )  # unless told, Accelerate lets each of several processes on CPUs train alone
    try:
        accelerator = Accelerator(mixed_precision=precision, cpu=on_cpu)
    except ValueError as reason:
        if "already been initialized" not in str(reason):
            raise
        now = Accelerator().mixed_precision
        raise ValueError(
            f"precision is fixed per process: it has been {now!r} since the first fit, got "
            f"{precision!r}; restart the process or kernel to change it"
        ) from None
    if accelerator.num_processes != int(os.environ.get("WORLD_SIZE", 1)):
        raise RuntimeError(
            f"{os.environ['WORLD_SIZE']} processes were started, but Accelerate sees "
            f"{accelerator.num_processes}: each would train alone"
        )
    atexit.unregister(_part)
    atexit.register(_part)
    return accelerator


def _part():
    """Ends the process group while the interpreter is whole, and lets gloo's threads drop their last tensors:
    one that does so later aborts a finished run [pytorch#190489; destroying alone is not enough after DDP,
    whose threads stay].

    After an exception the group stays: the other processes may still wait in it, and parting would wait for
    them.
    """
    if (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and not hasattr(sys, "last_value")
    ):
        torch.distributed.destroy_process_group()
        time.sleep(0.2)


@contextmanager
def _lent(model, accelerator, optimizer, lr, weight_decay):
    """-> (wrapped model, optimizer) while the block runs; after it the model is bare and in its modes
    again.
    """
    modes = [(module, module.training) for module in model.modules()]
    # What Accelerate leaves on a model: with the mark, the next Accelerator would neither move nor wrap it.
    marks = ("forward", "_original_forward", "_is_accelerate_prepared")
    before = {name: vars(model)[name] for name in marks if name in vars(model)}
    try:
        model.train()
        optimizer = optimizer(
            [p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=weight_decay
        )
        yield accelerator.prepare(model, optimizer)
    finally:
        for name in marks:
            vars(model).pop(name, None)
        vars(model).update(before)
        model.zero_grad()
        for module, training in modes:
            module.training = training


@contextmanager
def _interruptible(accelerator):
    """-> Event, set by Ctrl-C instead of raising KeyboardInterrupt, so that no step is left half done.

    Only the first one, and only where there is one process: several would stop at different steps.
    """
    asked = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    ours = (
        threading.current_thread() is threading.main_thread()
        and callable(before)
        and accelerator.num_processes == 1
    )

    def ask(number, frame):
        signal.signal(signal.SIGINT, before)
        asked.set()

    if ours:
        signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


# --- checkpoint: the file -----------------------------------------------------------------------------------

DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
FORMAT = 1


def write_checkpoint(path, tensors, notes):
    """dict of tensors, what JSON can hold -> None: one safetensors file that is there whole or not at all.

    It holds the SHA-256 of itself, taken with 64 zeros in the place of the digest.
    """
    path = Path(path)
    whole = safetensors.torch.save(tensors, {"notes": json.dumps(notes), "sha256": "0" * 64})
    before, after = _around_digest(whole)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(before)
        file.write(_digest(before, after))
        file.write(after)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    if os.name == "posix":  # the new name itself outlives a power cut only when its folder is on the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_checkpoint(path):
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


# --- checkpoint: what is in it ------------------------------------------------------------------------------


class _Run:
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
            **{f"model.{name}": tensor for name, tensor in weights(self.model).items()},
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
        ours = {f"model.{name}": _kind(tensor) for name, tensor in weights(self.model).items()}
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
            for name, tensor in weights(self.model).items():
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


def weights(model):
    """Module -> dict of its parameters and buffers by name, tied ones once."""
    return dict(chain(model.named_parameters(), model.named_buffers()))


def _kind(tensor):
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _layers(model):
    """Module -> str: a hash of what it prints as, which tells apart what has no weights (ReLU, GELU,
    Dropout).
    """
    return hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", repr(model)).encode()).hexdigest()


def _plain_settings(optimizer):
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
