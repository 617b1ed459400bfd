"""Pruning: weights set to zero, which changes no shape, and channels taken away, which makes a smaller
network [Han et al. 2015, arXiv:1506.02626; Li et al. 2017, arXiv:1608.08710].
"""

import copy

import torch
from torch import nn

from vlmbook.resnet import BasicBlock, ResNet
from vlmbook.validation import describe, require_number, require_type

PRUNED = (nn.Conv2d, nn.Linear)


def _weights(model):
    require_type(model, "model", nn.Module, "an nn.Module")
    found = [layer.weight for layer in model.modules() if isinstance(layer, PRUNED)]
    if not found:
        raise ValueError("model wants at least one convolution or linear layer, got none")
    return found


@torch.no_grad()
def prune_magnitude(model: nn.Module, share: float) -> nn.Module:
    """Module, share in [0, 1] -> a copy in which the smallest |weights| of all convolutions and linear layers
    together are 0. Biases and normalisations stay.

    Raises TypeError or ValueError.
    """
    share = require_number(share, "share", least=0, most=1)
    _weights(model)
    pruned = copy.deepcopy(model)
    weights = _weights(pruned)
    sizes = torch.cat([weight.abs().flatten() for weight in weights])
    smallest = sizes.argsort()[: round(share * len(sizes))]
    keep = torch.ones_like(sizes, dtype=torch.bool)
    keep[smallest] = False
    for weight, kept in zip(weights, keep.split([weight.numel() for weight in weights]), strict=True):
        weight.mul_(kept.view_as(weight))
    return pruned


@torch.no_grad()
def prune_channels(model: ResNet, share: float) -> ResNet:
    """ResNet of BasicBlocks, share in [0, 1) -> a smaller copy: in each block the filters of the first
    convolution with the smallest Σ|w| are taken away, with their normalisation and the inputs of the second
    convolution.

    The width between the blocks stays, because the additions need it [Li et al. 2017, §3.3]. At least one
    filter of each block stays. Raises TypeError or ValueError.
    """
    require_type(model, "model", ResNet, "a ResNet of vlmbook.resnet")
    share = require_number(share, "share", least=0, below=1)
    pruned = copy.deepcopy(model)
    blocks = [module for module in pruned.modules() if isinstance(module, BasicBlock)]
    if not blocks:
        raise ValueError(f"model wants BasicBlocks, got {describe(model)} without one")
    for block in blocks:
        sizes = block.conv1.weight.abs().sum((1, 2, 3))
        count = max(1, round((1 - share) * len(sizes)))
        kept = sizes.topk(count).indices.sort().values
        block.conv1 = _cut(block.conv1, outputs=kept)
        block.bn1 = _cut_norm(block.bn1, kept)
        block.conv2 = _cut(block.conv2, inputs=kept)
    return pruned


def _cut(conv, *, outputs=None, inputs=None):
    """Conv2d -> a new one with these filters, or these input channels, alone."""
    weight, bias = conv.weight, conv.bias
    if outputs is not None:
        weight = weight[outputs]
        bias = None if bias is None else bias[outputs]
    if inputs is not None:
        weight = weight[:, inputs]
    smaller = nn.utils.skip_init(
        nn.Conv2d,
        weight.shape[1],
        weight.shape[0],
        conv.kernel_size,
        conv.stride,
        conv.padding,
        bias=bias is not None,
        device=weight.device,
        dtype=weight.dtype,
    )
    smaller.weight.copy_(weight)
    if bias is not None:
        smaller.bias.copy_(bias)
    return smaller.train(conv.training)


def _cut_norm(norm, kept):
    """BatchNorm2d -> a new one with these channels; Identity stays."""
    if isinstance(norm, nn.Identity):
        return norm
    require_type(norm, "the normalisation of a block", nn.BatchNorm2d, "an nn.BatchNorm2d")
    smaller = copy.deepcopy(norm)
    smaller.num_features = len(kept)
    for name, tensor in [*norm.named_parameters(), *norm.named_buffers()]:
        if tensor.ndim == 1:
            part = tensor[kept].clone()
            setattr(smaller, name, nn.Parameter(part) if isinstance(tensor, nn.Parameter) else part)
    return smaller


def sparsity(model: nn.Module) -> float:
    """Module -> share of the weights of its convolutions and linear layers that are 0."""
    weights = _weights(model)
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return zeros / sum(weight.numel() for weight in weights)


def sparse_bytes(model: nn.Module) -> int:
    """Module -> bytes of its parameters and buffers, if a weight tensor is stored as one bit a weight, zero
    or not, and its non-zero values alone. A tensor stays dense where that is smaller.
    """
    pruned = {id(weight) for weight in _weights(model)}
    total = 0
    for tensor in [*model.parameters(), *model.buffers()]:
        dense = tensor.numel() * tensor.element_size()
        if id(tensor) not in pruned:
            total += dense
            continue
        mask = -(-tensor.numel() // 8)
        total += min(dense, mask + int((tensor != 0).sum()) * tensor.element_size())
    return total
