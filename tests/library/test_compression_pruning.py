"""Pruned networks: which weights go, what stays, and that a cut network computes what a masked one does."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.testing import assert_close

from vlmbook.compression import (
    count_layers,
    count_parameters,
    prune_channels,
    prune_magnitude,
    sparse_bytes,
    sparsity,
)
from vlmbook.resnet import BasicBlock, resnet50, small_resnet


def network(seed=0, norm_layer=nn.BatchNorm2d):
    torch.manual_seed(seed)
    model = small_resnet(8, 10, 1, norm_layer=norm_layer)
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(4, 1, 8, 12))  # running statistics that are not 0 and 1
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_()
    return model.eval()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 1.0])
def test_the_smallest_weights_go_as_in_pytorchs_global_pruning(share):
    model = network()
    pruned = prune_magnitude(model, share)
    oracle = network()
    layers = [(layer, "weight") for layer in oracle.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    prune.global_unstructured(layers, prune.L1Unstructured, amount=share)
    for ours, (theirs, _) in zip(
        [m for m in pruned.modules() if isinstance(m, (nn.Conv2d, nn.Linear))], layers, strict=True
    ):
        assert torch.equal(ours.weight, theirs.weight)
    assert sparsity(pruned) == pytest.approx(share, abs=1e-4)
    assert count_parameters(pruned) == count_parameters(model)


@pytest.mark.parametrize("norm_layer", [nn.BatchNorm2d, nn.Identity])
@pytest.mark.parametrize("share", [0.25, 0.6])
def test_a_network_without_channels_computes_what_one_with_silent_channels_does(share, norm_layer):
    model = network(norm_layer=norm_layer)
    cut = prune_channels(model, share)
    silent = network(norm_layer=norm_layer)
    for block, smaller in zip(blocks(silent), blocks(cut), strict=True):
        kept = [
            index
            for index in range(block.conv1.out_channels)
            if any(torch.equal(block.conv1.weight[index], filters) for filters in smaller.conv1.weight)
        ]
        mask = torch.zeros(block.conv1.out_channels)
        mask[kept] = 1
        sizes = block.conv1.weight.abs().sum((1, 2, 3))
        assert sizes[mask == 1].min() >= sizes[mask == 0].max()
        with torch.no_grad():
            block.conv2.weight.mul_(mask.view(1, -1, 1, 1))
    x = torch.rand(3, 1, 8, 12)
    assert_close(cut(x), silent(x))


def blocks(model):
    return [module for module in model.modules() if isinstance(module, BasicBlock)]


def test_cutting_makes_fewer_parameters_and_multiply_adds_and_leaves_the_model_alone():
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cut = prune_channels(model, 0.5)
    x = torch.rand(1, 1, 8, 8)
    full, less = (sum(cost.macs for cost in count_layers(each, x)) for each in (model, cut))
    inner = sum(cost.macs for cost in count_layers(model, x) if "layer" in cost.name)
    assert less == full - inner // 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_cut_network_trains_and_keeps_its_modes():
    cut = prune_channels(network().train(), 0.97)
    assert all(block.conv1.out_channels >= 1 for block in blocks(cut))
    cut(torch.rand(4, 1, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in cut.parameters())


def test_a_network_of_bottlenecks_is_refused():
    with torch.device("meta"), pytest.raises(ValueError, match="model wants BasicBlocks"):
        prune_channels(resnet50(), 0.5)


def test_bytes_of_a_sparse_network_counted_by_hand():
    layer = nn.Linear(10, 4)
    assert sparse_bytes(layer) == 4 * (40 + 4)  # a mask would only add to it
    pruned = prune_magnitude(layer, 0.75)
    assert sparse_bytes(pruned) == 5 + 4 * 10 + 4 * 4
