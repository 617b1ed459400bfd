"""Percentiles of known times, the number of calls, and the roofline's two lines. No test measures speed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlmbook.compression import Latency, Machine, attainable, measure_latency, measure_machine


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=40), st.floats(0.1, 100))
def test_a_percentile_is_numpys_inverted_distribution(seconds, share):
    wanted = np.percentile(seconds, share, method="inverted_cdf")
    got = Latency(tuple(seconds)).percentile(share)
    assert got == pytest.approx(wanted) or abs(share / 100 * len(seconds) % 1) < 1e-6


def test_median_and_tail_of_twenty_calls():
    latency = Latency(tuple(range(20, 0, -1)))
    assert (latency.p50, latency.p95, latency.percentile(100)) == (10, 19, 20)


def test_each_call_counts_but_those_of_the_warmup_without_gradients():
    calls = []
    found = measure_latency(lambda: calls.append(torch.is_grad_enabled()), repeats=4, warmup=3)
    assert calls == [False] * 7
    assert len(found.seconds) == 4 and min(found.seconds) >= 0


def test_what_the_call_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        measure_latency(lambda: 1 / 0)


def test_the_roofline_is_memory_left_of_the_ridge_and_peak_right_of_it():
    machine = Machine(peak=100.0, bandwidth=20.0)
    assert machine.ridge == 5.0
    assert attainable(2.0, machine) == 40.0
    assert attainable(5.0, machine) == 100.0
    assert attainable(50.0, machine) == 100.0


def test_a_machine_has_a_peak_and_a_bandwidth():
    machine = measure_machine(side=32, megabytes=1, repeats=2)
    assert machine.peak > 0 and machine.bandwidth > 0
