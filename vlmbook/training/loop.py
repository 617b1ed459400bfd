"""One training loop on Hugging Face Accelerate, and a checkpoint from which it goes on as if nothing had
happened.

The same call runs on a CPU, on one accelerator, and under `torchrun` or `accelerate launch` on several GPUs
or hosts.
"""

import atexit
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import get_total_norm
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate
from tqdm import tqdm

from vlmbook.files import sole_writer
from vlmbook.runtime import device as find_device
from vlmbook.runtime import require_path
from vlmbook.training.checkpoint import Checkpoint, History, plain_settings
from vlmbook.training.digest import digest_data, digest_loss
from vlmbook.validation import (
    describe,
    require_callable,
    require_choice,
    require_number,
    require_type,
    require_whole,
)

MOST = 2**62  # of a whole number that torch takes
MOST_RATE = 1e6  # of a learning rate or weight decay; more is a slip


def fit(
    model: nn.Module,
    data: tuple[torch.Tensor, ...] | Dataset,
    *,
    loss_fn: Callable[..., torch.Tensor],
    epochs: int,
    batch_size: int,
    lr: float,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    seed: int = 0,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
    weight_decay: float = 0.0,
    warmup: int = 0,
    clip: float | None = None,
    precision: str | None = None,
    workers: int = 0,
    progress: bool = True,
) -> History:
    """Train `model` in place -> History. It comes back on the device it was trained on. Every module stays in
    the mode it came in: what the caller has put in eval mode, a frozen BatchNorm say, is not put in training
    mode.

    data: a tuple of tensors with the samples in dim 0, moved to the device once and batched by index; or a
      Dataset whose samples have one shape, read by a DataLoader with `workers` processes.
    loss_fn(model, *batch) -> scalar, the mean over the batch; it calls `model(…)` itself, which may be
      wrapped. evaluate(model) -> dict of numbers, after each epoch, in eval mode and without gradients.
    batch_size: samples a step over all processes. lr: after `warmup` steps; it then falls to 0 along a
      cosine. optimizer(parameters, lr=…, weight_decay=…) returns it. clip: the largest norm of all gradients
      together. seed: of the order of the samples only; the caller seeds the global generators. precision:
      None or "bf16" (autocast), fixed per process: another one later raises ValueError.
    checkpoint: a file, written every `checkpoint_every` steps (default: each epoch) and at the end, by one
      process at a time; `resume=True` goes on from it, on a CPU bit for bit as if never stopped (same thread
      count; random augmentation in this process). A file of other data, of another loss or model, or of
      other settings is refused, before anything is changed.

    There is no DataLoader as data, since resuming wants to know the order of the samples; no other schedule
    than the cosine, which needs no tuning of its own; and no keeping of the best weights: `evaluate` gets the
    model and can copy its state_dict where a score is the best so far.

    Interrupted (Ctrl-C, a notebook's stop button), it ends its step, writes the checkpoint and returns; a
    second interrupt stops at once. Raises TypeError or ValueError for arguments it cannot use and for a
    checkpoint that is damaged or not of this run; FileExistsError for a checkpoint with resume=False,
    BlockingIOError for one that another process writes, and FloatingPointError at a loss, gradients, weights
    or buffers that are not finite: the model is then as it was before the step, the checkpoint one from
    before.
    """
    require_type(model, "model", nn.Module, "a torch.nn.Module")
    samples = _count_samples(data)
    require_callable(loss_fn, "loss_fn")
    epochs = require_whole(epochs, "epochs", most=MOST)
    batch_size = require_whole(batch_size, "batch_size", most=MOST)
    lr = require_number(lr, "lr", above=0, most=MOST_RATE)
    if evaluate is not None:
        require_callable(evaluate, "evaluate")
    resume = require_choice(resume, "resume", (False, True))
    checkpoint = _require_file(checkpoint, resume, checkpoint_every)
    per_epoch = math.ceil(samples / batch_size)
    steps = epochs * per_epoch
    every = (
        per_epoch
        if checkpoint_every is None
        else require_whole(checkpoint_every, "checkpoint_every", most=MOST)
    )
    seed = require_whole(seed, "seed", least=0, most=MOST)
    require_callable(optimizer, "optimizer")
    weight_decay = require_number(weight_decay, "weight_decay", least=0, most=MOST_RATE)
    warmup = require_whole(warmup, "warmup", least=0, most=steps - 1)
    clip = None if clip is None else require_number(clip, "clip", above=0)
    precision = require_choice(precision, "precision", (None, "bf16"))
    workers = require_whole(workers, "workers", least=0, most=1024)
    progress = require_choice(progress, "progress", (False, True))
    _require_trainable(model)

    accelerator = _start_accelerator(precision)
    main = accelerator.is_main_process
    report = print if main else _say_nothing
    if not model.training:
        report("fit: the model is in eval mode and stays in it; model.train() puts it in training mode")
    settings = {
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
    }
    with (
        sole_writer(checkpoint) if checkpoint and main else nullcontext(),
        _prepared(model, accelerator, optimizer, lr, weight_decay) as (wrapped, optimizer),
    ):
        start, history = 0, History()
        if checkpoint:
            settings |= _describe_run(model, data, loss_fn) | plain_settings(optimizer)
            kept = Checkpoint(checkpoint, model, optimizer, accelerator, settings, steps)
            start, history = kept.resume(report) if resume else (0, History())
        began = time.perf_counter() - history.seconds
        planned = batches(
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
        sizes = _count_mine(samples, batch_size, accelerator)
        bar = tqdm(total=steps, initial=start, disable=not (progress and main))
        with _interruptible(accelerator) as interrupted, bar:
            for step, batch, share in planned:
                rate = learning_rate(step, steps, lr, warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad()
                lonely = 1 in sizes and step == start  # looked for in the first step, whatever batch it has
                guard = _lone_samples_refused(model, sizes[step % per_epoch]) if lonely else nullcontext()
                with _buffers_kept(model), guard:
                    loss = _require_loss(loss_fn(wrapped, *batch)) * share
                    mean = accelerator.reduce(loss.detach(), "mean").item()
                    _require_finite_loss(mean, model, step, rate)
                    accelerator.backward(loss)
                    _require_finite_gradients(model, step, rate)
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
                last = stop or step + 1 == steps
                if checkpoint and (last or (step + 1) % every == 0):
                    kept.save(step + 1, history)
                elif last:
                    _require_finite_weights(model, step)
                if stop:
                    report(
                        f"fit: interrupted after {step + 1} of {steps} steps, which model and history hold"
                    )
                    break
    return history


def learning_rate(step: int, steps: int, lr: float, warmup: int = 0) -> float:
    """int -> float: rises linearly over `warmup` steps to `lr`, then falls to 0 at `steps` along half a
    cosine.

    Raises TypeError or ValueError for a step outside 0 to `steps`, or a warm-up that does not end before it.
    """
    steps = require_whole(steps, "steps", most=MOST)
    step = require_whole(step, "step", least=0, most=steps)
    lr = require_number(lr, "lr", least=0)
    warmup = require_whole(warmup, "warmup", least=0, most=steps - 1)
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    return lr * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def batches(
    data: tuple[torch.Tensor, ...] | Dataset,
    batch_size: int,
    epochs: int,
    *,
    seed: int,
    start: int = 0,
    rank: int = 0,
    processes: int = 1,
    device: str | torch.device = "cpu",
    workers: int = 0,
) -> Iterator[tuple[int, tuple, float]]:
    """-> iterator of (step, batch, share) from step `start` on: all epochs, in one order for all processes.

    Each process takes every `processes`-th sample of a batch. `share` is what its mean loss counts in the
    mean over the processes, 1 where all hold equally many; without a sample it takes one along that counts 0.
    Raises TypeError or ValueError for arguments it cannot use, and for samples of different shapes.
    """
    samples = _count_samples(data)
    batch_size = require_whole(batch_size, "batch_size", most=MOST)
    epochs = require_whole(epochs, "epochs", most=MOST)
    seed = require_whole(seed, "seed", least=0, most=MOST)
    start = require_whole(start, "start", least=0, most=MOST)
    processes = require_whole(processes, "processes")
    rank = require_whole(rank, "rank", least=0, most=processes - 1)
    device = _require_device(device)
    workers = require_whole(workers, "workers", least=0, most=1024)
    return _batches(data, samples, batch_size, epochs, seed, start, rank, processes, device, workers)


# --- the batches --------------------------------------------------------------------------------------------


def _batches(data, samples, batch_size, epochs, seed, start, rank, processes, device, workers):
    """As `batches`, of arguments that are right."""
    shuffle = torch.Generator().manual_seed(seed)
    whole = isinstance(data, (tuple, list))
    if whole:
        data = tuple(tensor.to(device) for tensor in data)
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
        planned = (order.to(device) if whole else order).split(batch_size)[done:]
        mine = [
            batch[rank::processes] if share else batch[:1]
            for batch, share in zip(planned, shares[done:], strict=True)
        ]
        if whole:
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
        _Numbered(dataset),
        batch_sampler=indices,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
        worker_init_fn=_ignore_interrupts,
        generator=torch.Generator().manual_seed(seed),
    )
    for batch in loader:
        if isinstance(batch, _Mismatch):
            raise ValueError(_describe_mismatch(dataset, batch))
        batch = send_to_device(batch, device, non_blocking=True)
        yield tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


class _Numbered(Dataset):
    """data[i] -> i, sample: so that a sample that does not fit can be named."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __getitem__(self, index):
        return index, self.dataset[index]


class _Mismatch:
    """Samples that are no batch: [(index, form)]. It is returned, not raised: a DataLoader's process would
    make a page of the error.
    """

    def __init__(self, forms):
        self.forms = forms


def _collate(numbered):
    try:
        return default_collate([sample for _, sample in numbered])
    except (RuntimeError, TypeError, KeyError, ValueError):
        return _Mismatch([(index, _describe_sample(sample)) for index, sample in numbered])


def _describe_sample(sample):
    """-> str: the shapes of its tensors, the types of anything else."""
    if isinstance(sample, (tuple, list)):
        return ", ".join(_describe_sample(part) for part in sample)
    if isinstance(sample, dict):
        return ", ".join(f"{name} {_describe_sample(part)}" for name, part in sample.items())
    if isinstance(sample, (torch.Tensor, np.ndarray)):
        return f"{tuple(sample.shape)}"
    return type(sample).__name__


def _describe_mismatch(dataset, mismatch):
    from vlmbook.data.stacking import name_sample  # here, since it brings scikit-learn along

    (first, expected), *others = mismatch.forms
    for index, form in others:
        if form != expected:
            return (
                f"data wants samples of one shape, got {expected} of {name_sample(dataset, first)} and "
                f"{form} of {name_sample(dataset, index)}; size=… and channels=… of the readers give them one"
            )
    return f"data wants samples of tensors and numbers, got {expected} of {name_sample(dataset, first)}"


def _ignore_interrupts(worker):
    """Ctrl-C reaches the loader's processes too; the step that is to be ended still waits for their batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# --- what is required of the arguments ----------------------------------------------------------------------


def _count_samples(data):
    """tuple of tensors or Dataset -> int: how many samples it holds."""
    if isinstance(data, (tuple, list)):
        if not data or not all(_is_batchable(tensor) for tensor in data):
            raise TypeError(
                "data wants a tuple of tensors, such as (images, labels), got "
                f"({', '.join(type(part).__name__ for part in data)})"
            )
        counts = {len(tensor) for tensor in data}
        if len(counts) > 1:
            raise ValueError(
                f"data wants tensors of one length, got {' and '.join(str(len(t)) for t in data)} samples"
            )
        [count] = counts
    elif isinstance(data, DataLoader):
        raise TypeError("data wants a tuple of tensors or a Dataset, got a DataLoader: pass its dataset")
    elif not _is_dataset(data):
        raise TypeError(f"data wants a tuple of tensors or a Dataset with a length, got {describe(data)}")
    else:
        count = len(data)
    if not count:
        raise ValueError("data wants at least one sample, got 0 samples")
    return count


def _is_batchable(tensor):
    dense = isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided
    return dense and tensor.ndim > 0 and not tensor.is_meta


def _is_dataset(data):
    """Whatever has a length and is indexed by numbers, a Dataset or not."""
    if isinstance(data, (torch.Tensor, np.ndarray, str, bytes, dict, set, IterableDataset)):
        return False
    return hasattr(type(data), "__getitem__") and hasattr(type(data), "__len__")


def _require_file(checkpoint, resume, checkpoint_every):
    """-> Path or None: the file to be written."""
    if checkpoint is None:
        if resume or checkpoint_every is not None:
            raise ValueError("checkpoint wants a file with resume=True or checkpoint_every, got None")
        return None
    path = require_path(checkpoint, "checkpoint")
    if str(checkpoint).endswith(("/", os.sep)) or os.path.isdir(path):
        raise IsADirectoryError(f"checkpoint wants a file, got the folder {str(checkpoint)!r}")
    if os.path.exists(path) and not resume:
        raise FileExistsError(f"{path} exists; go on from it with resume=True, or delete it to start over")
    return path


def _require_device(device):
    require_type(device, "device", (str, torch.device), "a torch.device or its name")
    try:
        return torch.device(device)
    except RuntimeError:
        raise ValueError(f"device wants a torch.device or its name, got {describe(device)}") from None


def _require_trainable(model):
    tensors = [*model.parameters(), *model.buffers()]
    if any(is_lazy(tensor) for tensor in tensors):
        raise ValueError(
            "model wants layers that know their sizes, got a lazy one: call the model once on a batch before"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model wants parameters to train, got none")


def _describe_run(model, data, loss_fn):
    """-> dict of settings: what is trained, on what, and by which loss."""
    return {
        "data": digest_data(data),
        "loss": digest_loss(loss_fn, model),
        "trained parameters": [name for name, p in model.named_parameters() if p.requires_grad],
        "modules in eval mode": [name for name, module in model.named_modules() if not module.training],
    }


def _say_nothing(text):
    """What all processes but the first report."""


# --- what is required of a step -----------------------------------------------------------------------------


def _require_loss(loss):
    if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.requires_grad:
        raise TypeError(f"loss_fn wants to return a scalar tensor with a gradient, got {describe(loss)}")
    return loss


def _require_finite_loss(mean, model, step, rate):
    """Raises FloatingPointError, whose second half says in what state the model is."""
    if not math.isfinite(mean):
        raise FloatingPointError(
            f"the loss is {mean} at step {step} (lr {rate:.3g}); {_describe_weights(model)}"
        )


def _require_finite_gradients(model, step, rate):
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    dense = [each.coalesce().values() if each.is_sparse else each for each in gradients]
    if math.isfinite(get_total_norm(dense, norm_type=math.inf)):
        return
    names = [name for name, p in model.named_parameters() if p.grad is not None and not _is_finite(p.grad)]
    raise FloatingPointError(
        f"the gradient of {names[0]} is not finite at step {step} (lr {rate:.3g}); {_describe_weights(model)}"
    )


def _is_finite(tensor):
    return bool((tensor.coalesce().values() if tensor.is_sparse else tensor).isfinite().all())


def _require_finite_weights(model, step):
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise FloatingPointError(f"{name} is not finite after step {step}")


def _describe_weights(model):
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"{name} has not been finite since before that step"
    return "the model is as it was before that step"


@contextmanager
def _buffers_kept(model):
    """Undoes what an unfinished step has done to buffers, such as the running means of BatchNorm."""
    kept = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for module, name, buffer, value in kept:
                setattr(module, name, buffer.copy_(value))
        raise


def _count_mine(samples, batch_size, accelerator):
    """-> list of int: the samples of this process in each batch; where there would be none it takes one."""
    sizes = [min(batch_size, samples - i) for i in range(0, samples, batch_size)]
    rank, processes = accelerator.process_index, accelerator.num_processes
    return [max(1, len(range(rank, size, processes))) for size in sizes]


@contextmanager
def _lone_samples_refused(model, size):
    """Raises ValueError in a step of `size` samples where BatchNorm would fail in a batch of one.

    It normalises over all values of a channel and wants more than one. How many there are for one sample is
    known only where its input is seen: of an image many, of a vector one.
    """
    hooks = []

    def refuse(name, module, inputs):
        uses_batch = module.training or module.running_mean is None
        if uses_batch and inputs and inputs[0].numel() <= size * inputs[0].shape[1]:
            raise ValueError(
                f"batch_size wants to leave no batch of one sample, got one: the BatchNorm {name!r} has one "
                "value a channel there, and wants more"
            )

    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            hooks.append(module.register_forward_pre_hook(partial(refuse, name)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _evaluate(evaluate, model):
    """-> dict of float, of the bare model: processes that hold it whole need not wait for one another
    here.
    """
    with _modes_kept(model), torch.no_grad():
        model.eval()
        measurements = evaluate(model)
    require_type(measurements, "evaluate", dict, "to return a dict of numbers")
    plain = {}
    for name, value in measurements.items():
        try:
            plain[str(name)] = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"evaluate wants to return numbers, got {describe(value)} as {name!r}") from None
    return plain


# --- around the loop ----------------------------------------------------------------------------------------


def _start_accelerator(precision):
    """-> Accelerator of that precision, else of the one that `accelerate launch` asks for."""
    precision = precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", "bf16"):
        raise ValueError(f'precision wants "no" or "bf16" from accelerate launch, got {precision!r}')
    # Left to itself, Accelerate lets each of several processes on CPUs train alone.
    on_cpu = find_device().type == "cpu"
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
def _prepared(model, accelerator, optimizer, lr, weight_decay):
    """-> (wrapped model, optimizer) while the block runs; after it the model is bare and in its modes
    again.
    """
    # What Accelerate leaves on a model: with the mark, the next Accelerator would neither move nor wrap it.
    marks = ("forward", "_original_forward", "_is_accelerate_prepared")
    before = {name: vars(model)[name] for name in marks if name in vars(model)}
    with _modes_kept(model):
        try:
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            yield accelerator.prepare(model, optimizer(trained, lr=lr, weight_decay=weight_decay))
        finally:
            for name in marks:
                vars(model).pop(name, None)
            vars(model).update(before)
            model.zero_grad()


@contextmanager
def _modes_kept(model):
    """Puts every module back into the mode, training or eval, that it came in."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
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
