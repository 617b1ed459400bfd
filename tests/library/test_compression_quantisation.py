"""Quantised numbers: the bound of the error, the library's rounding, and products of whole numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from vlmbook.compression import (
    dequantise,
    quantise,
    quantise_affine,
    quantise_network,
    quantised_linear,
)

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def drawn(shape, seed, spread=1.0):
    return spread * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=40)
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    bits=st.integers(2, 12),
    per_channel=st.booleans(),
    spread=st.sampled_from([1e-8, 1.0, 1e6]),
    seed=st.integers(0, 99),
)
def test_the_error_is_at_most_half_a_step(shape, bits, per_channel, spread, seed):
    w = drawn(shape, seed, spread)
    q = quantise(w, bits, per_channel=per_channel)
    largest = 2 ** (bits - 1) - 1
    assert q.values.abs().max() <= largest
    assert ((dequantise(q) - w).abs() <= 0.5001 * q.scale).all()


@pytest.mark.parametrize("per_channel", [False, True])
def test_values_are_those_of_pytorchs_quantised_tensors(per_channel):
    w = drawn((4, 3, 3, 5), 0)
    q = quantise(w, per_channel=per_channel)
    scales = q.scale.flatten()
    if per_channel:
        wanted = torch.fake_quantize_per_channel_affine(
            w, scales, torch.zeros(4, dtype=torch.int32), 0, -127, 127
        )
    else:
        wanted = torch.fake_quantize_per_tensor_affine(w, scales.item(), 0, -127, 127)
    assert_close(dequantise(q), wanted)


@settings(deadline=None, max_examples=40)
@given(bits=st.integers(1, 10), low=st.floats(-3, 3), width=st.floats(0, 5), seed=st.integers(0, 99))
def test_activations_keep_zero_and_clip_what_is_outside(bits, low, width, seed):
    x = drawn((3, 7), seed)
    q = quantise_affine(x, bits, low=low, high=low + width)
    assert q.values.min() >= 0 and q.values.max() <= 2**bits - 1
    zero = quantise_affine(torch.zeros(1), bits, low=low, high=low + width)
    assert dequantise(zero).item() == 0.0
    low, high = min(low, 0.0), max(low + width, 0.0)
    back = dequantise(q)
    assert ((back - x.clamp(low, high)).abs() <= 1.01 * q.scale).all()


def test_activations_are_those_of_pytorch():
    x = drawn((5, 6), 3)
    q = quantise_affine(x)
    assert_close(
        dequantise(q), torch.fake_quantize_per_tensor_affine(x, q.scale.item(), q.zero_point, 0, 255)
    )


def test_a_dead_channel_divides_nothing_by_zero():
    w = drawn((3, 4), 0)
    w[1] = 0
    w[2] *= 1e-12
    q = quantise(w, per_channel=True)
    assert torch.isfinite(q.scale).all() and (q.scale > 0).all()
    assert (q.values[1:] == 0).all()
    assert_close(dequantise(q)[0], w[0], rtol=0, atol=q.scale[0].item())
    assert (dequantise(quantise(torch.zeros(2, 3), per_channel=True)) == 0).all()


def test_a_scale_a_channel_is_never_worse_where_channels_differ():
    w = drawn((8, 3, 3, 3), 1) * torch.logspace(-3, 0, 8).view(8, 1, 1, 1)
    errors = {
        per: (dequantise(quantise(w, per_channel=per)) - w).square().mean((1, 2, 3)) for per in (False, True)
    }
    assert (errors[True] <= errors[False] + 1e-12).all()
    assert errors[True][0] < 1e-3 * errors[False][0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_floating_dtype_is_quantised_in_float32_at_least(dtype):
    w = drawn((3, 5), 0).to(dtype)
    q = quantise(w, per_channel=True)
    assert q.values.dtype == torch.int32
    assert q.scale.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.equal(q.values, quantise(w.to(q.scale.dtype), per_channel=True).values)


def test_a_product_of_whole_numbers_is_the_product_of_what_they_stand_for():
    x, w = quantise_affine(drawn((4, 6), 0)), quantise(drawn((3, 6), 1), per_channel=True)
    assert_close(quantised_linear(x, w), dequantise(x) @ dequantise(w).T)
    per_tensor = quantise(drawn((3, 6), 1))
    assert_close(quantised_linear(x, per_tensor), dequantise(x) @ dequantise(per_tensor).T)


def test_weights_with_a_zero_point_are_refused():
    x = quantise_affine(drawn((4, 6), 0))
    with pytest.raises(ValueError, match="w wants a zero point of 0"):
        quantised_linear(x, quantise_affine(drawn((3, 6), 1)))


def test_a_network_of_rounded_weights_is_a_copy_near_the_first():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 4 * 6, 3)).eval()
    x = torch.rand(2, 2, 6, 8)
    before = model[0].weight.clone()
    errors = [(quantise_network(model, bits)(x) - model(x)).abs().max().item() for bits in (4, 8, 16)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3
    assert torch.equal(model[0].weight, before)
    assert len(quantise_network(model, 3)[0].weight[0].unique()) <= 7
