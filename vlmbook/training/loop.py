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
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset
from tqdm import tqdm

from vlmbook.runtime import device
from vlmbook.training.checkpoint import History, RunState, plain_settings
from vlmbook.validation import (
    describe,
    require_callable,
    require_choice,
    require_number,
    require_type,
    require_whole,
)

MOST = 2**62  # of a whole number that torch takes


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
    require_type(model, "model", nn.Module, "a torch.nn.Module")
    samples = _count_samples(data)
    require_callable(loss_fn, "loss_fn")
    epochs = require_whole(epochs, "epochs", most=MOST)
    batch_size = require_whole(batch_size, "batch_size", most=MOST)
    lr = require_number(lr, "lr", above=0)
    require_callable(evaluate if evaluate is not None else fit, "evaluate")
    if checkpoint_every is not None:
        checkpoint_every = require_whole(checkpoint_every, "checkpoint_every", most=MOST)
    seed = require_whole(seed, "seed", least=0, most=MOST)
    require_callable(optimizer, "optimizer")
    weight_decay = require_number(weight_decay, "weight_decay", least=0)
    warmup = require_whole(warmup, "warmup", least=0, most=MOST)
    clip = None if clip is None else require_number(clip, "clip", above=0)
    require_choice(precision, "precision", (None, "bf16"))
    workers = require_whole(workers, "workers", least=0, most=MOST)
    _require_trainable(model)
    _require_checkpoint(checkpoint, checkpoint_every, resume)
    accelerator = _accelerator(precision)
    per_epoch = math.ceil(samples / batch_size)
    steps = epochs * per_epoch
    every = per_epoch if checkpoint_every is None else checkpoint_every
    require_whole(warmup, "warmup", least=0, most=steps - 1)
    say = print if accelerator.is_main_process else (lambda text: None)

    with _lent(model, accelerator, optimizer, lr, weight_decay) as (wrapped, optimizer):
        run = RunState(
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
                **plain_settings(optimizer),
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
                if checkpoint and (stop or step + 1 == steps or (step + 1) % every == 0):
                    run.save(step + 1, history)
                if stop:
                    say(f"fit: interrupted after {step + 1} of {steps} steps; model and history are its")
                    break
    return history


def learning_rate(step: int, steps: int, lr: float, warmup: int = 0) -> float:
    """int -> float: rises linearly over `warmup` steps to `lr`, then falls to 0 at `steps` along half a
    cosine.
    """
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
        measurements = evaluate(model)
    model.train()
    require_type(measurements, "evaluate", dict, "to return a dict of numbers")
    return {str(name): float(value) for name, value in measurements.items()}


def _scalar(loss):
    if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.requires_grad:
        raise TypeError(f"loss_fn wants to return a scalar tensor with a gradient, got {describe(loss)}")
    return loss


# --- around the loop ----------------------------------------------------------------------------------------


def _require_trainable(model):
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model wants parameters to train, got none")


def _require_checkpoint(checkpoint, checkpoint_every, resume):
    if checkpoint is None and (resume or checkpoint_every is not None):
        raise ValueError("checkpoint wants a file with resume=True or checkpoint_every, got None")
    if checkpoint is not None and Path(checkpoint).exists() and not resume:
        raise FileExistsError(
            f"{checkpoint} exists; go on from it with resume=True, or delete it to start over"
        )


def _count_samples(data):
    """tuple of tensors or Dataset -> int: how many samples it holds."""
    if isinstance(data, (tuple, list)):
        if not data or not all(isinstance(tensor, torch.Tensor) and tensor.ndim for tensor in data):
            raise TypeError(
                "data wants a tuple of tensors, such as (images, labels), got "
                f"({', '.join(type(part).__name__ for part in data)})"
            )
        if len({len(tensor) for tensor in data}) > 1:
            raise ValueError(
                f"data wants tensors of one length, got {' and '.join(str(len(t)) for t in data)} samples"
            )
        data = data[0]
    elif isinstance(data, (torch.Tensor, str, dict, IterableDataset)) or not hasattr(data, "__getitem__"):
        raise TypeError(f"data wants a tuple of tensors or a Dataset with a length, got {describe(data)}")
    if not len(data):
        raise ValueError("data wants at least one sample, got 0 samples")
    return len(data)


def _accelerator(precision):
    """-> Accelerator of that precision, else of the one that `accelerate launch` asks for."""
    precision = precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", "bf16"):
        raise ValueError(f'precision wants "no" or "bf16" from accelerate launch, got {precision!r}')
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
