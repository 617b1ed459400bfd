"""Batch normalisation folded into the convolution before it: one layer less, the same outputs.

In evaluation mode BN(y) = γ (y − μ) / √(σ² + ε) + β is an affine map of each channel. So is a convolution's
scale and bias: W' = W γ / √(σ² + ε), b' = (b − μ) γ / √(σ² + ε) + β.
"""

import copy
from itertools import pairwise

import torch
from torch import nn

from vlmbook.validation import require_type


@torch.no_grad()
def fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Conv2d, the BatchNorm2d after it -> one Conv2d with a bias, equal to both in evaluation mode.

    Raises TypeError or ValueError, also for a normalisation without running statistics.
    """
    require_type(conv, "conv", nn.Conv2d, "an nn.Conv2d")
    require_type(norm, "norm", nn.BatchNorm2d, "an nn.BatchNorm2d")
    if norm.num_features != conv.out_channels:
        raise ValueError(f"norm wants {conv.out_channels} channels, as conv has, got {norm.num_features}")
    if norm.running_var is None:
        raise ValueError("norm wants running statistics, got track_running_stats=False")
    scale = torch.rsqrt(norm.running_var + norm.eps)
    shift = -norm.running_mean * scale
    if norm.affine:
        scale = scale * norm.weight
        shift = shift * norm.weight + norm.bias
    folded = copy.deepcopy(conv)
    folded.weight.copy_(conv.weight * scale.view(-1, 1, 1, 1))
    bias = shift if conv.bias is None else conv.bias * scale + shift
    folded.bias = nn.Parameter(bias.to(conv.weight.dtype))
    return folded


def fold_norms(model: nn.Module) -> nn.Module:
    """Module -> a copy in evaluation mode, in which each Conv2d has swallowed the BatchNorm2d after it.

    "After it" is meant in the order in which a module lists its parts: that is the order of the calls in
    this book's and torchvision's networks. Compare the outputs of any other network. Raises TypeError.
    """
    require_type(model, "model", nn.Module, "an nn.Module")
    folded = copy.deepcopy(model).eval()
    for parent in list(folded.modules()):
        parts = list(parent.named_children())
        for (name, part), (next_name, following) in pairwise(parts):
            if _fits(part, following):
                setattr(parent, name, fold_norm(part, following))
                setattr(parent, next_name, nn.Identity())
    return folded


def _fits(part, following):
    return (
        isinstance(part, nn.Conv2d)
        and isinstance(following, nn.BatchNorm2d)
        and following.num_features == part.out_channels
        and following.running_var is not None
    )
