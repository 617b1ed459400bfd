"""What chapter 3b computes: crops, blocks one by one, covered squares."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook.chapters.ch03b.experiments import (
    list_blocks,
    load_crops,
    loss_on_moved,
    measure_accuracy,
    measure_signals,
    move_images,
    occlude,
    refresh_statistics,
    trace_blocks,
    without_each_block,
)
from vlmbook.data import digits
from vlmbook.resnet import resnet20, small_resnet


def test_crops_are_of_eight_photographs_each_of_its_own_class():
    images, labels = load_crops()
    assert images.shape == (8, 3, 16, 16) and labels.tolist() == list(range(8))
    assert 0 <= images.min() < images.max() <= 1 and (images.flatten(1).std(1) > 0.02).all()


def test_traced_blocks_follow_a_deep_net_to_the_features_of_its_last_stage():
    images = digits("test")[0][:10]
    net = resnet20(in_channels=1).eval()
    traced = trace_blocks(net, images)
    assert len(traced) == 9 == len(list_blocks(net))
    assert_close(traced[-1][2], net.features(images)[-1].detach())
    for shortcut, branch, out in traced:
        assert_close((shortcut + branch).relu(), out)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_a_square_is_covered_around_each_pixel_and_cut_at_the_border(size):
    image = torch.rand(1, 2, 6, 9) + 0.1
    covered = occlude(image, size)
    assert covered.shape == (54, 2, 6, 9)
    for position in range(54):
        row, column = divmod(position, 9)
        first = [max(0, at - (size - 1) // 2) for at in (row, column)]
        wanted = image[0].clone()
        wanted[:, first[0] : row + size // 2 + 1, first[1] : column + size // 2 + 1] = 0
        assert torch.equal(covered[position], wanted)


def test_signals_leave_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    signals = measure_signals(8, True, True, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert [len(part) for part in signals] == [3, 3, 7]
    assert signals != measure_signals(8, True, True, 1)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("norm_layer", [nn.Identity, nn.BatchNorm2d])
def test_signals_are_those_of_autograd(skip, norm_layer):
    images, labels = load_crops()
    torch.manual_seed(0)
    net = small_resnet(20, len(images), skip=skip, norm_layer=norm_layer)
    loss = F.cross_entropy(net(images), labels)
    loss.backward()
    wanted = [weight.grad.norm().item() for weight in net.parameters() if weight.ndim == 4]
    signals = measure_signals(20, skip, norm_layer is nn.BatchNorm2d, 0)
    assert_close(signals.dw, wanted, rtol=1e-3, atol=0)
    outputs = [out.norm().item() for *_, out in trace_blocks_in_training(net, images)]
    assert_close(signals.h, outputs, rtol=1e-4, atol=0)
    x = torch.randn_like(trace_blocks_in_training(net, images)[-1][2])
    assert x.shape[1] == 64 and len(signals.dh) == 9
    last = trace_blocks_in_training(net, images)[-1][2].requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(net.fc(last.mean((2, 3))), labels), last)
    assert signals.dh[-1] == pytest.approx(gradient.norm().item(), rel=1e-3)


def trace_blocks_in_training(net, images):
    return trace_blocks(net.train(), images)


def test_circular_padding_changes_the_sums_at_the_border_only():
    inside, circular = (measure_signals(8, True, False, 0, way) for way in (False, True))
    assert inside.h != circular.h
    assert inside.h[0] == pytest.approx(circular.h[0], rel=0.5)


def test_moved_images_are_mirrored_and_shifted_by_at_most_two():
    torch.manual_seed(0)
    x = torch.zeros(200, 1, 9, 7)
    x[:, :, 4, 2] = 1
    moved = move_images(x)
    assert moved.shape == x.shape
    rows, columns = moved[:, 0].flatten(1).argmax(1) // 7, moved[:, 0].flatten(1).argmax(1) % 7
    assert rows.unique().tolist() == [2, 3, 4, 5, 6]
    assert columns.unique().tolist() == list(range(7))  # 2 or its mirror image 4, give or take two
    assert loss_on_moved(resnet20(in_channels=1), x[:2], torch.tensor([1, 2])).ndim == 0


def test_each_block_that_keeps_the_size_is_taken_out_and_put_back():
    images, labels = digits("test")
    net = resnet20(in_channels=1).eval()
    before = copy.deepcopy(net.state_dict())
    seen = without_each_block(net, lambda shorter: len(list_blocks(shorter)))
    assert seen == dict.fromkeys((1, 2, 3, 5, 6, 8, 9), 8)
    without_each_block(net, lambda shorter: refresh_statistics(shorter, images[:64]))
    assert_close(net.state_dict(), before, rtol=0, atol=0)
    right = (net(images).argmax(1) == labels).float().mean().item()
    assert measure_accuracy(net, images, labels) == pytest.approx(right)


def test_refreshed_statistics_are_those_of_the_images():
    images, _ = digits("test")
    norm = nn.BatchNorm2d(1)
    norm.running_mean.fill_(7)
    refresh_statistics(norm, images[:256])
    assert_close(norm.running_mean[0], images[:256].mean())
    assert_close(norm.running_var[0], images[:256].var())
    assert not norm.training
