"""Measured time: percentiles of a call's latency, and the two numbers of a machine's roofline [Williams,
Waterman, Patterson 2009, CACM 52(4)].
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from vlmbook.validation import require_callable, require_number, require_type, require_whole


class Latency(NamedTuple):
    """Seconds of each call, in the order in which they ran."""

    seconds: tuple[float, ...]

    @property
    def p50(self) -> float:
        """The median, seconds."""
        return self.percentile(50)

    @property
    def p95(self) -> float:
        """Seconds that 95 % of the calls do not exceed."""
        return self.percentile(95)

    def percentile(self, share: float) -> float:
        """Per cent -> seconds: the smallest measured time that so many per cent of the calls do not
        exceed.
        """
        share = require_number(share, "share", above=0, most=100)
        rank = math.ceil(share / 100 * len(self.seconds))
        return sorted(self.seconds)[rank - 1]


def measure_latency(run: Callable[[], Any], *, repeats: int = 20, warmup: int = 2) -> Latency:
    """run() -> Latency: each of `repeats` calls timed alone, after `warmup` calls that do not count.

    Gradients are off. On an accelerator `run` has to wait for its own result. Whatever `run` raises is
    raised.
    """
    require_callable(run, "run", "a function without arguments")
    repeats = require_whole(repeats, "repeats")
    warmup = require_whole(warmup, "warmup", least=0)
    seconds = []
    with torch.inference_mode():
        for _ in range(warmup):
            run()
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    return Latency(tuple(seconds))


class Machine(NamedTuple):
    """What a machine reached: FLOPs a second in float32, bytes a second."""

    peak: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """FLOPs for each byte at which both limits are equal."""
        return self.peak / self.bandwidth


def measure_machine(*, side: int = 1024, megabytes: int = 256, repeats: int = 5) -> Machine:
    """-> Machine: the fastest of `repeats` products of two side × side matrices, and of as many copies.

    A copy reads and writes so many megabytes each. It is slower than the memory where the caches are small,
    and faster where they hold it.
    """
    side = require_whole(side, "side", most=2**14)
    megabytes = require_whole(megabytes, "megabytes", most=2**12)
    repeats = require_whole(repeats, "repeats")
    a, b = torch.ones(side, side), torch.ones(side, side)
    source = torch.ones(megabytes * 10**6 // 4)
    target = torch.empty_like(source)
    product = min(measure_latency(lambda: a @ b, repeats=repeats, warmup=1).seconds)
    copy = min(measure_latency(lambda: target.copy_(source), repeats=repeats, warmup=1).seconds)
    return Machine(2 * side**3 / product, 2 * 4 * source.numel() / copy)


def attainable(intensity: float, machine: Machine) -> float:
    """FLOPs for each byte, Machine -> FLOPs a second: min(peak, intensity · bandwidth), the roofline."""
    intensity = require_number(intensity, "intensity", least=0)
    require_type(machine, "machine", Machine, "a Machine, as `measure_machine` returns it")
    return min(machine.peak, intensity * machine.bandwidth)
