"""Counted multiply-adds and saved tensors against loops, the flop counter of PyTorch, and hand counts."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vlmbook.attention import VisionTransformer
from vlmbook.compression import (
    ADAM_BYTES,
    count_layers,
    count_parameters,
    measure_training_memory,
    separable_macs,
    window_macs,
)
from vlmbook.resnet import resnet20, resnet50
from vlmbook.unet import UNet


def count_in_loops(x, weight, groups):
    """-> the number of multiplications of the sevenfold loop of a convolution without padding."""
    channels, per_group, kernel, _ = weight.shape
    height, width = x.shape[1] - kernel + 1, x.shape[2] - kernel + 1
    y, count = torch.zeros(channels, height, width), 0
    for d, i, j in product(range(channels), range(height), range(width)):
        first = d // (channels // groups) * per_group
        for c, u, v in product(range(per_group), range(kernel), range(kernel)):
            y[d, i, j] += weight[d, c, u, v] * x[first + c, i + u, j + v]
            count += 1
    torch.testing.assert_close(y, F.conv2d(x[None], weight, groups=groups)[0])
    return count


@pytest.mark.parametrize(("groups", "shape"), [(1, (4, 5, 6)), (2, (4, 4, 7)), (4, (4, 6, 3))])
def test_the_formula_counts_the_multiplications_of_the_loops(groups, shape):
    x, weight = torch.rand(shape), torch.rand(8, 4 // groups, 3, 3)
    count = count_in_loops(x, weight, groups)
    assert window_macs(4, 8, 3, shape[1] - 2, shape[2] - 2, groups=groups) == count


@settings(deadline=None, max_examples=20)
@given(
    size=st.tuples(*[st.integers(3, 9)] * 2),
    stride=st.integers(1, 3),
    kernel=st.sampled_from([1, 3, 5]),
    channels=st.integers(1, 5),
    transposed=st.booleans(),
)
def test_a_layer_costs_what_pytorch_counts(size, stride, kernel, channels, transposed):
    layer = nn.ConvTranspose2d if transposed else nn.Conv2d
    model = nn.Sequential(layer(3, channels, kernel, stride, padding=kernel // 2), nn.ReLU())
    x = torch.rand(2, 3, *size)
    with FlopCounterMode(display=False) as counter:
        model(x)
    conv, relu = count_layers(model, x)
    assert conv.macs == counter.get_total_flops() // 2
    assert relu.macs == 0 and relu.outputs == conv.outputs


def test_whole_networks_cost_what_pytorch_counts():
    with torch.device("meta"):
        cases = {resnet20(): (3, 32, 40), resnet50(): (3, 64, 96), UNet(1, 2): (1, 64, 48)}
        for model, shape in cases.items():
            x = torch.empty(2, *shape)
            with FlopCounterMode(display=False) as counter:
                model.eval()(x)
            costs = count_layers(model, x)
            assert sum(cost.macs for cost in costs) == counter.get_total_flops() // 2
            assert sum(cost.parameters for cost in costs) == count_parameters(model)


def test_products_inside_attention_have_no_module_and_are_not_counted():
    with torch.device("meta"):
        model = VisionTransformer(32, 8, 10, 3, width=32, depth=2, heads=2).eval()
        x = torch.empty(1, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        model(x)
    counted = sum(cost.macs for cost in count_layers(model, x))
    assert counted < counter.get_total_flops() // 2


def test_separable_costs_the_sum_of_its_two_convolutions():
    model = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 10, 1))
    costs = count_layers(model, torch.rand(1, 6, 5, 7))
    assert separable_macs(6, 10, 3, 5, 7) == sum(cost.macs for cost in costs)


def test_intensity_is_flops_for_each_byte_of_input_weights_and_output():
    [cost] = count_layers(nn.Linear(4, 3), torch.rand(2, 4))
    moved = 4 * (2 * 4 + 4 * 3 + 3 + 2 * 3)
    assert (cost.macs, cost.bytes_moved) == (24, moved)
    assert cost.intensity == pytest.approx(48 / moved)


def test_counting_changes_nothing():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_layers(model, torch.rand(2, 3, 6, 7))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model[0].training and not model[1].training
    assert not any(module._forward_hooks for module in model.modules())


def test_a_shared_weight_counts_once():
    layer = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(layer, nn.ReLU(), layer)) == 12


# --- memory of training -------------------------------------------------------------------------------------


def test_the_saved_tensors_of_two_layers_counted_by_hand():
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
    x = torch.rand(3, 5)
    memory = measure_training_memory(model, x)
    saved = x.numel() + 3 * 7  # the input of each linear layer; tanh keeps its output, the same tensor
    assert memory.saved == 4 * saved
    assert memory.state == ADAM_BYTES * count_parameters(model)
    assert memory.total == memory.state + memory.saved


def test_the_meta_device_saves_what_the_cpu_saves():
    x = torch.rand(4, 3, 16, 24)
    real = measure_training_memory(resnet20(), x)
    with torch.device("meta"):
        assert measure_training_memory(resnet20(), x.to("meta")).state == real.state
        meta = measure_training_memory(resnet20(), x.to("meta")).saved
    assert meta == pytest.approx(real.saved, rel=0.02)


def test_saved_tensors_grow_with_the_batch_and_the_state_does_not():
    with torch.device("meta"):
        small, large = (measure_training_memory(resnet20(), torch.empty(n, 3, 32, 32)) for n in (2, 8))
    assert large.state == small.state
    assert large.saved == pytest.approx(4 * small.saved, rel=0.01)
