"""What a model is given, checked before it is used: one sentence says what came and what was wanted."""

from numbers import Integral

import torch


def check_images(x, name, shape, layer=None):
    """Raises TypeError or ValueError unless x is floating, has four axes, and fits the layer where one is
    given.
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} wants a torch.Tensor {shape}, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name} wants a floating dtype, got {x.dtype}")
    if x.ndim != 4:
        raise ValueError(f"{name} wants four axes {shape}, got the shape {tuple(x.shape)}")
    if 0 in (x.shape[1:] if name == "x" else x.shape):  # an empty batch is fine
        raise ValueError(f"{name} {tuple(x.shape)} has an axis of size 0")
    if layer is not None:
        if x.shape[1] != layer.in_channels:
            raise ValueError(f"{name} wants {layer.in_channels} channels, got {x.shape[1]}: {tuple(x.shape)}")
        check_kind(x, name, layer.weight)


def check_latents(z, layer):
    """Raises TypeError or ValueError unless z is (B, Z) of the width, dtype and device of the layer it
    enters.
    """
    if not isinstance(z, torch.Tensor):
        raise TypeError(f"z wants a torch.Tensor (B, Z), got {type(z).__name__}")
    if z.ndim != 2 or z.shape[1] != layer.in_features:
        raise ValueError(f"z wants the shape (B, {layer.in_features}), got {tuple(z.shape)}")
    check_kind(z, "z", layer.weight)


def check_kind(x, name, parameter):
    """Raises TypeError unless x has the dtype and device of the model's parameter; autocast makes the dtype
    fit.
    """
    if x.device == parameter.device and x.dtype == parameter.dtype:
        return
    if x.device != parameter.device or not (
        x.is_floating_point() and torch.is_autocast_enabled(x.device.type)
    ):
        raise TypeError(
            f"{name} is {x.dtype} on {x.device}, but the model is {parameter.dtype} on {parameter.device}"
        )


def check_counts(owner, **counts):
    """Raises ValueError for one that is no whole number of at least 1."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{type(owner).__name__} wants a whole {name} of at least 1, got {value!r}")
