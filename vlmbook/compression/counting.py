"""Parameters, multiply-adds and bytes of a network, layer by layer.

One multiply-add is one multiplication and one addition, two FLOPs. The hooks see modules only: a product of
matrices inside a `forward`, as in attention, has no module, and `torch.utils.flop_counter` counts it.
"""

from typing import NamedTuple

import torch
from torch import nn

from vlmbook.validation import describe, require_tensor, require_type, require_whole

ADAM_BYTES = 16  # a parameter in float32: weight, gradient, and Adam's two means
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
MOST = 2**20  # of a size: products of five of them are still whole numbers that anybody can read


def window_macs(
    in_channels: int, channels: int, kernel: int, height: int, width: int, *, groups: int = 1
) -> int:
    """-> multiply-adds of a convolution with height × width outputs: k² · C/g · D · H · W.

    Raises TypeError or ValueError, also for groups that do not divide the channels.
    """
    in_channels = require_whole(in_channels, "in_channels", most=MOST)
    channels = require_whole(channels, "channels", most=MOST)
    kernel = require_whole(kernel, "kernel", most=MOST)
    height = require_whole(height, "height", most=MOST)
    width = require_whole(width, "width", most=MOST)
    groups = require_whole(groups, "groups", most=MOST)
    if in_channels % groups or channels % groups:
        raise ValueError(f"groups wants to divide {in_channels} and {channels} channels, got {groups}")
    return kernel**2 * (in_channels // groups) * channels * height * width


def separable_macs(in_channels: int, channels: int, kernel: int, height: int, width: int) -> int:
    """-> multiply-adds of a depthwise convolution, one kernel a channel, and a 1×1 convolution after it
    [Howard et al. 2017, arXiv:1704.04861, §3.1].
    """
    depthwise = window_macs(in_channels, in_channels, kernel, height, width, groups=in_channels)
    return depthwise + window_macs(in_channels, channels, 1, height, width)


class LayerCost(NamedTuple):
    """What one call of a layer costs."""

    name: str  # as in model.named_modules()
    kind: str  # "Conv2d"
    parameters: int
    macs: int  # multiply-adds; 0 for a layer that is neither a convolution nor linear
    outputs: int  # numbers that the layer writes
    bytes_moved: int  # its inputs, weights and outputs, each once

    @property
    def intensity(self) -> float:
        """FLOPs for each byte that is read or written."""
        return 2 * self.macs / self.bytes_moved


def count_parameters(model: nn.Module) -> int:
    """Module -> int: numbers that training changes; a weight that two layers share counts once."""
    require_type(model, "model", nn.Module, "an nn.Module")
    return sum(parameter.numel() for parameter in model.parameters())


def count_layers(model: nn.Module, x: torch.Tensor) -> list[LayerCost]:
    """Module, (B, …) input -> list of LayerCost, one a call of a layer without children, in the order of the
    calls.

    It runs the model once in evaluation mode, without gradients; on the meta device this costs nothing.
    Raises TypeError or ValueError for an input that the model cannot take.
    """
    require_type(model, "model", nn.Module, "an nn.Module")
    require_tensor(x, "x", "…", kind="any")
    costs = []
    leaves = {name: layer for name, layer in model.named_modules() if not list(layer.children())}
    hooks = [
        layer.register_forward_hook(_counting_hook(name, costs), with_kwargs=True)
        for name, layer in leaves.items()
    ]
    try:
        _run_quietly(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    return costs


def _counting_hook(name, costs):
    def note(layer, args, kwargs, output):
        tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, torch.Tensor)]
        if isinstance(output, torch.Tensor) and tensors:
            costs.append(_cost(name, layer, tensors, output))

    return note


def _cost(name, layer, inputs, output):
    weights = list(layer.parameters(recurse=False))
    moved = [*inputs, *weights, output]
    return LayerCost(
        name=name,
        kind=type(layer).__name__,
        parameters=sum(weight.numel() for weight in weights),
        macs=_macs(layer, inputs[0], output),
        outputs=output.numel(),
        bytes_moved=sum(each.numel() * each.element_size() for each in moved),
    )


def _macs(layer, x, output):
    """A weight of a convolution acts once at each output position, one of a transposed convolution once at
    each input position.
    """
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    if isinstance(layer, CONVOLUTIONS):
        positions = output.numel() // layer.out_channels
        return layer.weight.numel() * positions
    if isinstance(layer, TRANSPOSED):
        positions = x.numel() // layer.in_channels
        return layer.weight.numel() * positions
    return 0


@torch.no_grad()
def _run_quietly(model, x):
    """-> the output in evaluation mode; every module keeps the mode that it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        return model(x)
    except Exception as error:
        raise ValueError(
            f"x wants to be an input of the model, got {describe(x)}: {_first_line(error)}"
        ) from None
    finally:
        for module, mode in modes.items():
            module.training = mode


def _first_line(error):
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
