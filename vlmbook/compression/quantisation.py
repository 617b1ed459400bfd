"""Numbers of few bits: x ≈ s (q − z), with a scale s, a zero point z and whole numbers q [Jacob et al. 2018,
arXiv:1712.05877].

Weights are quantised symmetrically (z = 0), with one scale for the tensor or one for each channel;
activations with a zero point. The arithmetic is in float32 at least.
"""

import copy
from typing import NamedTuple

import torch
from torch import nn

from vlmbook.validation import describe, require_number, require_tensor, require_type, require_whole

SMALLEST_SHARE = 2.0**-20  # of the largest scale: no channel's scale is smaller, nor a dead channel's
TINIEST = 2.0**-100  # the scale where everything is 0
MOST_BITS = 16
LARGEST = 1e30  # of a value: its scale, and a sum of products, stay finite in float32
LAYERS = (nn.Conv2d, nn.Linear)


class Quantised(NamedTuple):
    """Whole numbers and what turns them into real ones: s (q − z)."""

    values: torch.Tensor  # int32, of the shape of what was quantised
    scale: torch.Tensor  # floating, a scalar, or (D, 1, …) with one scale a channel
    zero_point: int


def quantise(w: torch.Tensor, bits: int = 8, *, per_channel: bool = False) -> Quantised:
    """(D, …) weights -> Quantised, symmetric: s = max|w| / (2^(bits−1) − 1), q = round(w / s), z = 0.

    With per_channel each index of the first axis has its own s. The error is at most s/2. A dead channel,
    whose weights are all 0 or nearly so, gets 2^-20 of the largest scale, so that nothing divides by 0.
    Raises TypeError or ValueError, also for values that are not finite and for fewer than 2 bits.
    """
    x = _as_values(w, "w")
    bits = require_whole(bits, "bits", least=2, most=MOST_BITS)
    require_type(per_channel, "per_channel", bool, "True or False")
    if x.ndim == 0:
        raise ValueError(f"w wants at least one axis, got {describe(w)}")
    largest = 2 ** (bits - 1) - 1
    reach = x.abs().reshape(len(x), -1).amax(1) if per_channel else x.abs().amax()
    scale = reach / largest
    scale = scale.maximum(SMALLEST_SHARE * scale.amax()).clamp_min(TINIEST)
    if per_channel:
        scale = scale.view(-1, *[1] * (x.ndim - 1))
    values = (x / scale).round().clamp(-largest, largest)
    return Quantised(values.to(torch.int32), scale, 0)


def quantise_affine(
    x: torch.Tensor, bits: int = 8, *, low: float | None = None, high: float | None = None
) -> Quantised:
    """(…) activations -> Quantised with q from 0 to 2^bits − 1: s = (high − low) / (2^bits − 1),
    z = round(−low / s), q = clip(round(x / s) + z).

    `low` and `high` come from calibration, by default they are the smallest and the largest value. The range
    is widened to hold 0, so that 0 has no error. Values outside it are clipped. Raises TypeError or
    ValueError.
    """
    values = _as_values(x, "x")
    bits = require_whole(bits, "bits", most=MOST_BITS)
    low = values.amin().item() if low is None else require_number(low, "low", least=-LARGEST, most=LARGEST)
    high = (
        values.amax().item() if high is None else require_number(high, "high", least=-LARGEST, most=LARGEST)
    )
    if low > high:
        raise ValueError(f"low and high want low ≤ high, got {low:g} and {high:g}")
    low, high = min(low, 0.0), max(high, 0.0)
    steps = 2**bits - 1
    scale = torch.tensor((high - low) / steps, dtype=values.dtype, device=values.device).clamp_min(TINIEST)
    zero_point = min(max(round(-low / scale.item()), 0), steps)
    q = ((values.clamp(low, high) / scale).round() + zero_point).clamp(0, steps)
    return Quantised(q.to(torch.int32), scale, zero_point)


def dequantise(quantised: Quantised) -> torch.Tensor:
    """Quantised -> s (q − z), floating."""
    _require_quantised(quantised, "quantised")
    return quantised.scale * (quantised.values - quantised.zero_point)


def quantised_linear(x: Quantised, w: Quantised) -> torch.Tensor:
    """(B, C) activations, (D, C) weights -> (B, D): the sums are sums of whole numbers, and one product with
    s_x s_w at the end makes real numbers of them.

    Raises TypeError or ValueError for other shapes, and for weights with a zero point.
    """
    _require_quantised(x, "x")
    _require_quantised(w, "w")
    require_tensor(x.values, "x.values", "B C", kind="whole")
    require_tensor(w.values, "w.values", "D C", kind="whole", C=x.values.shape[1])
    if w.zero_point != 0 or x.scale.numel() != 1:
        raise ValueError("w wants a zero point of 0, and x one scale, got others")
    sums = (x.values - x.zero_point) @ w.values.T
    return x.scale * w.scale.reshape(1, -1) * sums


@torch.no_grad()
def quantise_network(model: nn.Module, bits: int = 8, *, per_channel: bool = True) -> nn.Module:
    """Module -> a copy whose convolutions and linear layers have the weights s·q of so few bits.

    The copy computes with floating numbers: it shows what quantised weights cost in accuracy, and saves
    nothing. Raises TypeError or ValueError.
    """
    require_type(model, "model", nn.Module, "an nn.Module")
    bits = require_whole(bits, "bits", least=2, most=MOST_BITS)
    require_type(per_channel, "per_channel", bool, "True or False")
    rounded = copy.deepcopy(model)
    for layer in rounded.modules():
        if isinstance(layer, LAYERS):
            layer.weight.copy_(dequantise(quantise(layer.weight, bits, per_channel=per_channel)))
    return rounded


# --- checks -------------------------------------------------------------------------------------------------


def _as_values(x, name):
    """-> the tensor in float32 at least, on a device where it has values."""
    require_tensor(x, name, "…", least=-LARGEST, most=LARGEST, finite=True)
    if x.numel() == 0 or x.is_meta:
        raise ValueError(f"{name} wants at least one element with a value, got {describe(x)}")
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


def _require_quantised(quantised, name):
    require_type(quantised, name, Quantised, "a Quantised, as `quantise` returns it")
