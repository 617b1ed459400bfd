"""The U-Net against a composition of PyTorch's functions, its losses against loops; then what any right
answer has.
"""

import json
import math
import re
import subprocess
import sys
from copy import deepcopy
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook.data import textures
from vlmbook.unet import (
    DoubleConv,
    UNet,
    boundary_f1,
    cross_entropy_loss,
    dice_loss,
    dice_score,
    iou,
    predict_tiled,
)

EXACT = {"rtol": 1e-10, "atol": 1e-10}
ups = pytest.mark.parametrize("up", ["transposed", "bilinear"])
skips = pytest.mark.parametrize("skip", [True, False])
depths = pytest.mark.parametrize("depth", [1, 2, 3])


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def randint(high, *shape, seed=0):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def fresh(*arguments, seed=0, dtype=torch.float64, width=4, depth=2, **options):
    """A UNet in eval mode in which no signal dies, with BatchNorms that are not the identity, as after
    training.
    """
    torch.manual_seed(seed)
    net = UNet(*arguments, width=width, depth=depth, **options)
    for layer in (module for module in net.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    with torch.no_grad():
        for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.weight.uniform_(0.5, 1.5), norm.bias.uniform_(-0.5, 0.5)
            norm.running_mean.uniform_(-0.5, 0.5), norm.running_var.uniform_(0.5, 2)
    return net.to(dtype).eval()


def positive(**options):
    """One channel in and out, no negative weight, no bias: the output is 0 exactly where only zeros are
    seen.
    """
    net = fresh(1, 1, width=1, **options)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.uniform_(module.weight, 0.1, 0.3)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return net


# Oracle: the figure of the paper, in torch.nn.functional, with the same weights.


def composed(weights, x, *, depth, skip, up, training):
    """(dict of str -> tensor, (B, C, H, W)) -> logits."""

    def double_conv(name, x):
        for conv, norm in ((0, 1), (3, 4)):
            x = F.conv2d(x, weights[f"{name}.{conv}.weight"], padding=1)
            mean, var, scale, shift = (
                weights[f"{name}.{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
            )
            x = F.relu(F.batch_norm(x, mean.clone(), var.clone(), scale, shift, training))
        return x

    def enlarged(name, x):
        if up == "transposed":
            return F.conv_transpose2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2)
        x = F.conv2d(x, weights[f"{name}.0.weight"], weights[f"{name}.0.bias"])
        return F.interpolate(x, size=(2 * x.shape[2], 2 * x.shape[3]), mode="bilinear", align_corners=False)

    kept = []
    for level in range(depth):
        kept.append(x := double_conv(f"encoder.{level}", x))
        x = F.max_pool2d(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=-math.inf), 2)
    x = double_conv(f"encoder.{depth}", x)
    for level in range(depth - 1, -1, -1):
        across = kept[level]
        x = enlarged(f"upward.{level}", x)[:, :, : across.shape[2], : across.shape[3]]
        x = double_conv(f"decoder.{level}", torch.cat((across, x), dim=1) if skip else x)
    return F.conv2d(x, weights["head.weight"], weights["head.bias"])


def values_and_gradients(run, leaves):
    """-> the output, and the gradient of its weighted sum for each leaf."""
    y = run()
    return [y, *torch.autograd.grad(y, leaves, torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape))]


def assert_equals_the_composition(x, channels, classes, *, training, width, **options):
    net, x = fresh(channels, classes, width=width, **options).train(training), x.requires_grad_()
    weights = {**dict(net.named_parameters()), **{name: b.clone() for name, b in net.named_buffers()}}
    leaves = [x, *net.parameters()]
    mine = values_and_gradients(lambda: net(x), leaves)
    theirs = values_and_gradients(lambda: composed(weights, x, training=training, **options), leaves)
    assert mine[0].shape == (len(x), classes, *x.shape[2:])
    assert_close(mine, theirs, **EXACT)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    depth=st.integers(1, 3),
    batch=st.integers(1, 3),
    channels=st.integers(1, 3),
    classes=st.integers(1, 3),
    width=st.integers(1, 3),
    skip=st.booleans(),
    up=st.sampled_from(["transposed", "bilinear"]),
    training=st.booleans(),
)
def test_equals_its_composition_in_values_and_gradients(
    size, depth, batch, channels, classes, width, skip, up, training
):
    x = randn(batch + training, channels, *size)  # BatchNorm wants two pixels to train on
    assert_equals_the_composition(
        x, channels, classes, training=training, width=width, depth=depth, skip=skip, up=up
    )


@ups
@skips
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 13), (8, 16), (9, 8), (17, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_equals_its_composition_at_awkward_sizes(size, skip, up, training):
    assert_equals_the_composition(
        randn(2, 3, *size), 3, 2, training=training, width=3, depth=3, skip=skip, up=up
    )


def test_equals_its_composition_in_float32_and_in_channels_last():
    net, x = fresh(3, 2, width=4, depth=3), randn(2, 3, 19, 14)
    assert_close(net(x.to(memory_format=torch.channels_last)), net(x), **EXACT)
    assert_close(deepcopy(net).float()(x.float()).double(), net(x), rtol=1e-4, atol=1e-4)


def test_an_empty_batch_gives_an_empty_batch():
    assert fresh(3, 2)(randn(0, 3, 9, 7)).shape == (0, 2, 9, 7)


# Losses and score.


def dice_loss_loops(logits, target, smooth):
    classes, total = logits.shape[1], 0
    for k in range(classes):
        both = either = 0
        for b, i, j in product(*map(range, target.shape)):
            p = logits[b, k, i, j].exp() / logits[b, :, i, j].exp().sum()
            g = 1 if target[b, i, j] == k else 0
            both, either = both + p * g, either + p + g
        total = total + (2 * both + smooth) / (either + smooth)
    return 1 - total / classes


def cross_entropy_loss_loops(logits, target):
    total = 0
    for b, i, j in product(*map(range, target.shape)):
        total = total - (logits[b, target[b, i, j], i, j] - logits[b, :, i, j].exp().sum().log())
    return total / target.numel()


def iou_loops(prediction, target, num_classes):
    scores = []
    for k in range(num_classes):
        pairs = [(p == k, t == k) for p, t in zip(prediction.flatten(), target.flatten(), strict=True)]
        union = sum(p or t for p, t in pairs)
        scores.append(sum(p and t for p, t in pairs) / union if union else math.nan)
    return torch.tensor(scores)


pictures = {
    "batch": st.integers(1, 2),
    "classes": st.integers(1, 4),
    "size": st.tuples(st.integers(1, 4), st.integers(1, 4)),
    "seed": st.integers(0, 2**31),
}


@settings(max_examples=40, deadline=None)
@given(**pictures, smooth=st.sampled_from([0.0, 0.1, 1.0, 7.0]))
def test_losses_equal_their_loops_in_values_and_gradients(batch, classes, size, seed, smooth):
    logits = 2 * randn(batch, classes, *size, seed=seed).requires_grad_()
    target = randint(classes, batch, *size, seed=seed)
    for mine, theirs in [
        (lambda: dice_loss(logits, target, smooth=smooth), lambda: dice_loss_loops(logits, target, smooth)),
        (lambda: cross_entropy_loss(logits, target), lambda: cross_entropy_loss_loops(logits, target)),
        (lambda: cross_entropy_loss(logits, target), lambda: F.cross_entropy(logits, target)),
    ]:
        assert_close(*(values_and_gradients(way, [logits]) for way in (mine, theirs)), **EXACT)


def test_smooth_is_one_unless_given():
    logits, target = randn(2, 3, 4, 5), randint(3, 2, 4, 5)
    assert_close(dice_loss(logits, target), dice_loss_loops(logits, target, 1.0), **EXACT)


@pytest.mark.parametrize("loss", [dice_loss, cross_entropy_loss])
def test_gradients_of_losses_are_their_differences(loss):
    logits, target = randn(2, 3, 3, 4).requires_grad_(), randint(3, 2, 3, 4)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), [logits])
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target), [logits])


@settings(max_examples=60, deadline=None)
@given(**pictures, absent=st.integers(0, 2))
def test_iou_is_the_loops_and_scikit_learns(batch, classes, size, seed, absent):
    prediction, target = (randint(classes, batch, *size, seed=seed + i) for i in range(2))
    found = iou(prediction, target, classes + absent)
    assert found.shape == (classes + absent,) and found.dtype == torch.float32
    assert_close(found, iou_loops(prediction, target, classes + absent), equal_nan=True)
    theirs = jaccard_score(
        target.flatten(), prediction.flatten(), labels=range(classes + absent), average=None, zero_division=0
    )
    assert_close(found.nan_to_num(0).double(), torch.from_numpy(theirs), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32])
def test_iou_takes_masks_of_any_whole_dtype(dtype):
    prediction, target = randint(2, 2, 9, 8), randint(2, 2, 9, 8, seed=1)
    assert_close(iou(prediction.to(dtype), target.to(dtype), 2), iou(prediction, target, 2))
    many = randint(200, 2, 9, 8), randint(200, 2, 9, 8, seed=1)
    if dtype is torch.uint8:  # whose products would overflow
        assert_close(iou(*(m.byte() for m in many), 200), iou(*many, 200), equal_nan=True)


def test_iou_is_one_zero_or_nan():
    target = torch.tensor([[[0, 0, 1, 1]]])
    assert_close(iou(target, target, 3), torch.tensor([1, 1, math.nan]), equal_nan=True)
    assert_close(iou(1 - target, target, 2), torch.zeros(2))
    assert_close(iou(torch.zeros_like(target), target, 2), torch.tensor([0.5, 0]))
    assert_close(iou(target, torch.zeros_like(target), 2), torch.tensor([0.5, 0]))


def test_iou_counts_pixels_over_the_whole_batch():
    prediction, target = torch.tensor([[[0, 1]], [[1, 1]]]), torch.tensor([[[0, 1]], [[0, 0]]])
    assert_close(iou(prediction, target, 2), torch.tensor([1 / 3, 1 / 3]))


@settings(max_examples=40, deadline=None)
@given(**pictures)
def test_dice_score_is_twice_the_overlap_over_both_areas(batch, classes, size, seed):
    prediction, target = (randint(classes, batch, *size, seed=seed + i) for i in range(2))
    found = dice_score(prediction, target, classes)
    theirs = f1_score(
        target.flatten(), prediction.flatten(), labels=range(classes), average=None, zero_division=0
    )
    assert_close(found.nan_to_num(0).double(), torch.from_numpy(theirs), rtol=1e-6, atol=0)
    overlap = iou(prediction, target, classes)
    assert_close(found, 2 * overlap / (1 + overlap), equal_nan=True)


def boundary_f1_loops(prediction, target, tolerance):
    def boundary(mask):
        found = set()
        for b, i, j in mask.nonzero().tolist():
            rows, columns = slice(max(0, i - 1), i + 2), slice(max(0, j - 1), j + 2)
            if not mask[b, rows, columns].all():
                found.add((b, i, j))
        return found

    def near(one, others):
        return sum(
            any(b == c and max(abs(i - k), abs(j - m)) <= tolerance for c, k, m in others) for b, i, j in one
        )

    found, wanted = boundary(prediction), boundary(target)
    if not found and not wanted:
        return math.nan
    if not found or not wanted:
        return 0.0
    precision, recall = near(found, wanted) / len(found), near(wanted, found) / len(wanted)
    return 2 * precision * recall / (precision + recall) if precision else 0.0


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 7)),
    tolerance=st.integers(0, 3),
    seed=st.integers(0, 99),
    share=st.sampled_from([2, 5]),
)
def test_boundary_f1_is_that_of_loops(size, tolerance, seed, share):
    prediction, target = (randint(share, 2, *size, seed=seed + i).clamp(max=1) for i in range(2))
    found = boundary_f1(prediction, target, tolerance=tolerance)
    wanted = boundary_f1_loops(prediction, target, tolerance)
    assert found == pytest.approx(wanted, abs=1e-6, nan_ok=True)


def test_a_boundary_that_is_off_by_two_pixels_counts_from_a_tolerance_of_two_on():
    target = torch.zeros(1, 12, 12, dtype=torch.int64)
    target[:, 2:8, 2:8] = 1
    moved = target.roll(2, 2)
    scores = [boundary_f1(moved, target, tolerance=tolerance) for tolerance in range(3)]
    assert scores[0] < scores[1] < scores[2] == 1 == boundary_f1(target, target, tolerance=0)
    assert boundary_f1(1 - target.clamp(min=1), target) == 0
    assert math.isnan(boundary_f1(torch.zeros_like(target), torch.zeros_like(target)))


@pytest.mark.parametrize("wrong", [torch.full((1, 4, 4), 2), torch.ones(1, 4, 5, dtype=torch.int64)])
def test_boundary_f1_wants_two_masks_of_one_size(wrong):
    assert refused(boundary_f1, wrong, torch.ones(1, 4, 4, dtype=torch.int64)).startswith("prediction wants ")


@pytest.mark.parametrize("options", [{}, {"class_weights": torch.tensor([0.5, 2.0, 1.0]).double()}])
def test_ignored_pixels_count_nowhere(options):
    logits, target = randn(2, 3, 6, 5).requires_grad_(), randint(3, 2, 6, 5)
    ignored = target.clone()
    ignored[:, 3:] = 255
    changed = torch.cat([logits[:, :, :3], 7 * logits[:, :, 3:] + 1], dim=2)
    for loss in (cross_entropy_loss, dice_loss):
        once, again = (loss(z, ignored, ignore_index=255, **options) for z in (logits, changed))
        assert_close(once, again, **EXACT)
        assert_close(once, loss(logits[:, :, :3], target[:, :3], **options), **EXACT)
        (gradient,) = torch.autograd.grad(once, logits)
        assert gradient[:, :, 3:].abs().max() == 0 < gradient[:, :, :3].abs().max()
    prediction = logits.argmax(1)
    for score in (iou, dice_score):
        found = score(prediction, ignored, 3, ignore_index=255)
        assert_close(found, score(prediction[:, :3], target[:, :3], 3))
    assert cross_entropy_loss(logits, torch.full_like(target, 255), ignore_index=255) == 0


def test_class_weights_are_pytorchs_and_weigh_the_mean_over_classes():
    logits, target, weights = randn(2, 3, 6, 5), randint(3, 2, 6, 5), torch.tensor([0.5, 2.0, 1.0]).double()
    assert_close(
        cross_entropy_loss(logits, target, class_weights=weights),
        F.cross_entropy(logits, target, weights),
        **EXACT,
    )
    one = torch.eye(3).double()
    each = torch.stack([dice_loss(logits, target, class_weights=one[k]) for k in range(3)])
    assert_close(dice_loss(logits, target), each.mean(), **EXACT)
    assert_close(dice_loss(logits, target, class_weights=weights), (weights * each).sum() / 3.5, **EXACT)
    assert_close(dice_loss(logits, target, include_background=False), each[1:].mean(), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_half_precision_are_summed_in_float32(dtype):
    # more pixels than float16 counts
    logits, target = randn(1, 2, 300, 301).to(dtype), randint(2, 1, 300, 301)
    for loss in (cross_entropy_loss, dice_loss):
        assert_close(loss(logits, target), loss(logits.float(), target))


def test_dice_loss_is_zero_when_right_and_one_when_wrong():
    target = randint(3, 2, 30, 30)
    right = 50 * F.one_hot(target, 3).movedim(-1, 1).double()
    assert 0 <= dice_loss(right, target) < 1e-12
    assert 0.99 < dice_loss(right.roll(1, 1), target) < 1
    assert 0.3 < dice_loss(0 * right, target) < 0.7 + 1e-12


def test_an_object_of_few_pixels_weighs_as_much_as_a_large_one():
    target = torch.zeros(1, 100, 100, dtype=torch.int64)
    target[0, :2, :2] = 1
    background = 50 * F.one_hot(0 * target, 2).movedim(-1, 1).double()  # "there is nothing"
    missed = 1 - iou(background.argmax(1), target, 2).mean()
    assert 0.39 < dice_loss(background, target) < 0.41 and missed > 0.5  # 1 / (4 + 1) is smooth's
    assert 0.49 < dice_loss(background, target, smooth=0.0) < 0.51


def test_renaming_the_classes_permutes_scores_and_keeps_losses():
    logits, target, order = randn(2, 3, 5, 4), randint(3, 2, 5, 4), torch.tensor([2, 0, 1])
    for loss in (dice_loss, cross_entropy_loss):
        assert_close(loss(logits[:, order], order.argsort()[target]), loss(logits, target), **EXACT)
    prediction = logits.argmax(1)
    renamed = iou(order.argsort()[prediction], order.argsort()[target], 3)
    assert_close(renamed, iou(prediction, target, 3)[order])
    assert_close(iou(target, prediction, 3), iou(prediction, target, 3))


# Structure.


@ups
@skips
@depths
@pytest.mark.parametrize("size", [(16, 24), (7, 13), (1, 1)])
def test_sizes_of_the_encoders_maps_and_of_what_is_concatenated(size, depth, skip, up):
    net, entered = fresh(3, 2, width=2, depth=depth, skip=skip, up=up), {}
    for level, part in enumerate(net.decoder):
        part.register_forward_pre_hook(lambda _, given, level=level: entered.update({level: given[0]}))
    x = randn(2, 3, *size)
    maps = net.encode(x)
    before = [m.clone() for m in maps]
    sizes = [tuple(math.ceil(n / 2**level) for n in size) for level in range(depth + 1)]
    assert [tuple(m.shape) for m in maps] == [(2, 2 * 2**level, *sizes[level]) for level in range(depth + 1)]
    assert_close(net.decode(maps), net(x), rtol=0, atol=0)
    assert_close(maps, before, rtol=0, atol=0)  # nothing wrote into them
    assert list(entered) == list(reversed(range(depth)))
    for level, entering in entered.items():
        channels = 2 * 2**level
        assert entering.shape == (2, (1 + skip) * channels, *sizes[level])
        if skip:
            assert entering[:, :channels].equal(maps[level])


def number_of_parameters(channels, classes, width, depth, skip, up):
    """By the formula: 9 weights a pair of channels, 4 numbers a BatchNorm's pair of channels, and so on."""

    def double_conv(ins, outs):
        return 9 * ins * outs + 9 * outs * outs + 2 * 2 * outs

    total, ins = width * classes + classes, channels
    for level in range(depth + 1):
        total, ins = total + double_conv(ins, width * 2**level), width * 2**level
    for level in range(depth):
        outs = width * 2**level
        total += (4 if up == "transposed" else 1) * 2 * outs * outs + outs
        total += double_conv(2 * outs if skip else outs, outs)
    return total


@ups
@skips
@depths
def test_number_of_parameters_is_the_formulas(depth, skip, up):
    options = {"width": 3, "depth": depth, "skip": skip, "up": up}
    count = sum(p.numel() for p in UNet(2, 5, **options).parameters())
    assert count == number_of_parameters(2, 5, **options)


def test_the_papers_network_has_31_million_parameters():
    with torch.device("meta"):
        net = UNet(1, 2)
    paper = {"width": 64, "depth": 4, "skip": True, "up": "transposed"}
    assert sum(p.numel() for p in net.parameters()) == number_of_parameters(1, 2, **paper) == 31_036_546
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 23  # the paper, section 2
    assert [m.weight.shape[0] for m in convolutions[:10:2]] == [64, 128, 256, 512, 1024]


@ups
def test_each_way_up_has_its_own_layers(up):
    net = fresh(3, 2, up=up)
    kinds = [type(m) for m in net.modules()]
    assert kinds.count(nn.ConvTranspose2d) == (2 if up == "transposed" else 0)
    assert kinds.count(nn.Upsample) == (0 if up == "transposed" else 2)
    assert not any(isinstance(m, nn.Dropout) for m in net.modules())


def test_double_conv_keeps_the_size_and_has_no_bias_before_batch_norm():
    part = DoubleConv(3, 5).eval()
    assert part(randn(2, 3, 1, 7, dtype=torch.float32)).shape == (2, 5, 1, 7)
    assert [type(m).__name__ for m in part] == ["Conv2d", "BatchNorm2d", "ReLU"] * 2
    assert part[0].bias is None and part[3].bias is None
    assert (part(randn(2, 3, 4, 7, dtype=torch.float32)) >= 0).all()


# Invariants.


@ups
@skips
def test_only_skips_bring_the_image_past_a_blocked_way_up(skip, up):
    net = fresh(3, 2, skip=skip, up=up)
    for p in net.upward.parameters():
        nn.init.zeros_(p)
    a, b = net(randn(1, 3, 16, 16)), net(randn(1, 3, 16, 16, seed=1))
    assert ((a - b).abs().max() > 1e-3) == skip
    maps = net.encode(randn(1, 3, 16, 16))
    y = net.decode(maps)
    assert_close(net.decode([maps[0], *map(torch.zeros_like, maps[1:])]), y, rtol=0, atol=0)
    assert net.decode([torch.zeros_like(maps[0]), *maps[1:]]).equal(y) == (not skip)


@ups
def test_without_skips_the_kept_maps_give_only_their_size(up):
    net = fresh(3, 2, skip=False, up=up)
    *kept, lowest = net.encode(randn(1, 3, 13, 10))
    y = net.decode([*kept, lowest])
    assert_close(net.decode([*(m * math.nan for m in kept), lowest]), y, rtol=0, atol=0)
    assert (net.decode([*kept, lowest + 1]) - y).abs().max() > 1e-3


@ups
@pytest.mark.parametrize("depth", [1, 2])
def test_a_shift_by_whole_cells_of_the_lowest_level_shifts_the_output(depth, up):
    net, x = fresh(2, 2, depth=depth, up=up), randn(1, 2, 80, 88)
    far, step, y = net.receptive_radius(), 2**depth, net(x)
    inner = (..., slice(far, -far), slice(far, -far))
    assert_close(net(x[..., step:, 2 * step :])[inner], y[..., step:, 2 * step :][inner], **EXACT)
    moved = (net(x[..., step - 1 :, :])[inner] - y[..., step - 1 :, :][inner]).abs().max()
    assert moved > 1e-3  # pooling has a grid


def test_images_of_a_batch_do_not_meet_in_eval_mode():
    net, x = fresh(3, 2), randn(3, 3, 10, 7)
    assert_close(torch.cat([net(image[None]) for image in x]), net(x), **EXACT)
    net.train()
    assert (torch.cat([net(image[None]) for image in x]) - net(x)).abs().max() > 1e-3


@pytest.mark.parametrize("training", [True, False])
def test_images_logits_and_targets_stay_as_they_are(training):
    x, target = randn(2, 3, 9, 10), randint(2, 2, 9, 10)
    logits = fresh(3, 2).train(training)(x)
    copy = logits.detach().clone()
    cross_entropy_loss(logits, target), dice_loss(logits, target), iou(logits.argmax(1), target, 2)
    assert_close(
        [x, logits.detach(), target], [randn(2, 3, 9, 10), copy, randint(2, 2, 9, 10)], rtol=0, atol=0
    )


# Receptive radius.


def seen(net, n):
    """-> (n, n) bool: whether output pixel i of a row of n sees input pixel j."""
    rows = torch.eye(n, dtype=torch.float64)[:, None, None]  # (n, 1, 1, n): one lit pixel each
    across, down = net(rows)[:, 0, 0], net(rows.mT)[:, 0, :, 0]
    assert (across != 0).equal(down != 0)
    return (across != 0).T


@ups
@skips
@depths
def test_receptive_radius_is_the_farthest_pixel_seen(depth, skip, up):
    net = positive(depth=depth, skip=skip, up=up)
    radius = net.receptive_radius()
    n = 2 * radius + 2 * 2**depth + 7
    i, j = seen(net, n).nonzero().T
    assert isinstance(radius, int) and (i - j).max() == (j - i).max() == radius
    for place in range(2**depth):  # and of each place by itself
        middle = (n // 2 >> depth << depth) + place
        assert (j[i == middle] - middle).abs().max() == net._radius_at(place)


@ups
@depths
def test_receptive_radius_is_where_gradients_end(depth, up):
    net = positive(depth=depth, up=up)
    radius = net.receptive_radius()
    n = 2 * radius + 4 * 2**depth
    farthest = 0
    for middle in range(n // 2, n // 2 + 2**depth):
        for peak in (0, n - 1):  # the brighter a pixel the nearer to that end: max pooling passes it
            x = (1 - (torch.arange(n) - peak).abs() / n).double().view(1, 1, 1, n).requires_grad_()
            (gradient,) = torch.autograd.grad(net(x)[0, 0, 0, middle], x)
            farthest = max(farthest, *(gradient[0, 0, 0].nonzero() - middle).abs().flatten().tolist())
    assert radius - 2**depth < farthest <= radius


@ups
def test_receptive_radius_of_the_papers_depth(up):
    with torch.device("meta"):
        net = UNet(1, 2, up=up)
    assert net.receptive_radius() == {"transposed": 107, "bilinear": 122}[up]


# Windows.


@ups
@skips
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_predict_tiled_is_the_model(skip, up, data):
    depth, batch, extra = (data.draw(st.integers(*ends)) for ends in ((1, 3), (1, 2), (0, 9)))
    size, tile = data.draw(st.tuples(st.integers(1, 60), st.integers(1, 60))), data.draw(st.integers(8, 70))
    net, x = fresh(2, 3, depth=depth, skip=skip, up=up), randn(batch, 2, *size)
    found = predict_tiled(net, x, tile=tile, overlap=net.receptive_radius() + extra)
    assert_close(found, net(x).detach(), **EXACT)


@ups
@pytest.mark.parametrize("tile", [96, 333, 2000])
def test_predict_tiled_is_the_model_on_a_photograph(tile, up):
    for depth, dtype, close in ((2, torch.float32, {"rtol": 1e-4, "atol": 1e-5}), (3, torch.float64, EXACT)):
        net, x = fresh(1, 2, depth=depth, up=up, dtype=dtype), randn(1, 1, 600, 500, dtype=dtype)
        with torch.no_grad():
            whole = net(x)
        assert whole.std() > 0.1  # there is something to compare
        assert_close(predict_tiled(net, x, tile=tile, overlap=net.receptive_radius()), whole, **close)


@ups
@skips
def test_predict_tiled_in_tiles_of_one_pixel(skip, up):
    net, x = fresh(3, 2, skip=skip, up=up), randn(2, 3, 9, 6)
    for image in (x, x[..., :1, :1]):
        assert_close(
            predict_tiled(net, image, tile=1, overlap=net.receptive_radius()), net(image).detach(), **EXACT
        )


@ups
@depths
def test_a_radius_too_small_by_one_shows(depth, up, monkeypatch):
    """One lit pixel an image: a window that ends too soon loses what the last pixel of its tile sees."""
    net, tiles = positive(depth=depth, up=up), [3, 7]
    radius = net.receptive_radius()
    n = 2 * radius + 2**depth + 3
    rows = torch.eye(n, dtype=torch.float64)[:, None, None]
    whole = net(rows).detach()
    for tile in tiles:
        assert_close(predict_tiled(net, rows, tile=tile, overlap=radius), whole, **EXACT)
    monkeypatch.setattr(UNet, "receptive_radius", lambda self: 0)
    short = [predict_tiled(net, rows, tile=tile, overlap=radius - 1) for tile in tiles]
    assert any(not (y != 0).equal(whole != 0) for y in short)


@ups
@skips
def test_windows_that_overlap_too_little_differ(skip, up, monkeypatch):
    net, x = fresh(3, 2, depth=3, skip=skip, up=up), randn(1, 3, 70, 90)
    monkeypatch.setattr(UNet, "receptive_radius", lambda self: 0)
    assert (predict_tiled(net, x, tile=32, overlap=4) - net(x)).abs().max() > 1e-3


def test_windows_start_on_the_grid_and_stay_small():
    net, x, tile, overlap, windows = fresh(1, 1, depth=2), randn(1, 1, 130, 110), 17, 30, []
    net.register_forward_pre_hook(lambda _, given: windows.append(given[0]))
    predict_tiled(net, x, tile=tile, overlap=overlap)
    assert len(windows) == math.ceil(130 / tile) * math.ceil(110 / tile)
    for window in windows:
        top, left = divmod(window.storage_offset(), 110)
        assert top % 4 == left % 4 == 0
        assert max(window.shape[2:]) <= tile + 2 * overlap + 3


def test_predict_tiled_leaves_model_image_and_gradients_alone():
    net, x = fresh(3, 2), randn(2, 3, 20, 21).requires_grad_()
    state = deepcopy(net.state_dict())
    y = predict_tiled(net, x, tile=9, overlap=40)
    assert not y.requires_grad and torch.is_grad_enabled() and not net.training
    assert_close(dict(net.state_dict()), dict(state), rtol=0, atol=0)
    assert x.detach().equal(randn(2, 3, 20, 21)) and net(x).requires_grad
    assert y.dtype == torch.float64 and y.device == x.device and y.is_contiguous()


MEMORY = """
import json, sys
import psutil, torch
from vlmbook.unet import UNet, predict_tiled

torch.set_num_threads(1)
torch.manual_seed(0)
resident = psutil.Process().memory_info
net, image = UNet(1, 2, width=4, depth=2).eval(), torch.rand(1, 1, 4000, 4000)
options = {"tile": 500, "overlap": net.receptive_radius()}
# what comes with the first call is no matter of size
predict_tiled(net, image[..., :600, :600], **options)
before, sizes = resident().rss, []
torch.nn.modules.module.register_module_forward_hook(lambda *_: sizes.append(resident().rss))
logits = predict_tiled(net, image, **options)
corner = net(image[..., -200:, -200:])[..., 100:, 100:]
json.dump({"growth": max(sizes) - before, "logits": logits.numel() * 4, "map": image.numel() * 4 * 4,
           "error": (logits[..., -100:, -100:] - corner).abs().max().item()}, sys.stdout)
"""


def test_a_large_image_needs_little_more_memory_than_its_logits():
    """The whole image at once keeps the level-0 map and concatenates it to another: three times `map`, and
    more.
    """
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert 0.8 * found["logits"] < found["growth"] < found["logits"] + found["map"], found
    assert found["error"] < 1e-4


# Learning.


@ups
@skips
@depths
def test_gradients_reach_every_parameter(depth, skip, up):
    net = fresh(3, 2, width=4, depth=depth, skip=skip, up=up).train()
    logits, target = net(randn(2, 3, 17, 22)), randint(2, 2, 17, 22)
    (cross_entropy_loss(logits, target) + dice_loss(logits, target)).backward()
    for name, p in net.named_parameters():
        assert p.grad.isfinite().all() and p.grad.abs().max() > 0, name


def test_one_batch_is_learned():
    images, masks = textures(4, size=32)
    target = masks[:, 0].long()
    torch.manual_seed(0)
    net = UNet(3, 2, width=8, depth=2)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        logits = net(images)
        (cross_entropy_loss(logits, target) + dice_loss(logits, target)).backward()
        optimizer.step()
    assert iou(net.eval()(images).argmax(1), target, 2).min() > 0.95
    tiled = predict_tiled(net, images, tile=16, overlap=net.receptive_radius())
    assert iou(tiled.argmax(1), target, 2).min() > 0.95


# --- bad input: one sentence says what came and what was wanted; the fuzz test asks for the rest ------------


NET = fresh(3, 2, dtype=torch.float32)
RADIUS = NET.receptive_radius()
X, LOGITS, TARGET = torch.zeros(2, 3, 6, 5), torch.zeros(2, 4, 6, 5), torch.zeros(2, 6, 5, dtype=torch.int64)


def refused(function, *arguments, **options):
    with pytest.raises((TypeError, ValueError)) as refusal:
        function(*arguments, **options)
    return str(refusal.value)


@pytest.mark.parametrize("name", ["in_channels", "num_classes", "width", "depth"])
@pytest.mark.parametrize("wrong", [0, -3, True, 2.5, "4", None, (1, 2)])
def test_sizes_of_a_network_are_whole(name, wrong):
    sizes = {"in_channels": 3, "num_classes": 2, "width": 1, "depth": 1}
    assert refused(UNet, **sizes | {name: wrong}).startswith(f"{name} wants a whole number")


@pytest.mark.parametrize("options", [{"up": "nearest"}, {"up": None}, {"skip": 1}])
def test_other_ways_of_a_network_are_refused(options):
    [name] = options
    assert refused(UNet, 3, 2, **options).startswith(f"{name} wants ")


@pytest.mark.parametrize("take", [NET, NET.encode, lambda x: predict_tiled(NET, x, tile=4, overlap=RADIUS)])
@pytest.mark.parametrize("wrong", [X[0], X.byte(), X[:, :1], X[..., :0], X.half(), X.numpy(), None])
def test_images_that_are_none_are_refused(take, wrong):
    assert re.match(r"(x|image) wants ", refused(take, wrong))


def test_maps_that_the_encoder_did_not_give_are_refused():
    maps = NET.encode(X)
    assert refused(NET.decode, maps[:-1]) == "maps wants 3 tensors, one a level, got 2"
    assert refused(NET.decode, torch.stack([X, X])).startswith("maps wants a list of tensors")
    assert refused(NET.decode, [maps[0], maps[2], maps[1]]).startswith("maps[1] wants the shape")
    larger = [maps[0], maps[1], F.interpolate(maps[2], scale_factor=3)]
    assert refused(NET.decode, larger).startswith("maps[2] wants the shape (2, C, 2, 2), got ")


@pytest.mark.parametrize("loss", [cross_entropy_loss, dice_loss])
@pytest.mark.parametrize(
    "wrong",
    [TARGET.float(), TARGET.int(), TARGET.bool(), TARGET + 4, TARGET - 1, TARGET[:1], TARGET[:, None]],
)
def test_targets_that_do_not_fit_the_logits_are_refused(loss, wrong):
    assert refused(loss, LOGITS, wrong).startswith("target wants ")


@pytest.mark.parametrize("score", [iou, dice_score])
@pytest.mark.parametrize(
    "wrong", [TARGET.float(), LOGITS, TARGET + 4, TARGET - 1, TARGET[:1], TARGET.mT, None]
)
def test_predictions_that_do_not_fit_the_target_are_refused(score, wrong):
    assert refused(score, wrong, TARGET, 4).startswith("prediction wants ")


@pytest.mark.parametrize(
    "wrong", [torch.ones(3), -torch.ones(4), torch.zeros(4), torch.ones(4).half(), [1] * 4]
)
def test_class_weights_that_do_not_fit_are_refused(wrong):
    assert refused(dice_loss, LOGITS, TARGET, class_weights=wrong).startswith("class_weights wants ")


def partly_training():
    net = fresh(3, 2, dtype=torch.float32)
    net.encoder.train()
    return net


@pytest.mark.parametrize("model", [UNet(3, 2, width=1, depth=1), partly_training()])
def test_windows_want_a_model_in_eval_mode(model):
    assert "call model.eval()" in refused(predict_tiled, model, X, tile=4, overlap=99)


@pytest.mark.parametrize("model", [nn.Conv2d(3, 2, 1).eval(), NET.forward, None])
def test_windows_want_a_unet(model):
    assert refused(predict_tiled, model, X, tile=4, overlap=99).startswith("model wants a UNet, got ")


@pytest.mark.parametrize("overlap", [-1, 2.5, "32", None])
def test_windows_want_an_overlap(overlap):
    sentence = refused(predict_tiled, NET, X, tile=4, overlap=overlap)
    assert sentence.startswith("overlap wants a whole number of at least 0, got ")


@pytest.mark.parametrize("overlap", [0, RADIUS - 1])
def test_windows_that_do_not_reach_as_far_as_a_pixel_sees_warn(overlap):
    with pytest.warns(
        UserWarning, match=f"an overlap of {overlap} is below the receptive radius of {RADIUS}"
    ):
        assert predict_tiled(NET, X, tile=4, overlap=overlap).shape == (len(X), 2, *X.shape[2:])
    predict_tiled(NET, X, tile=4, overlap=RADIUS)


@pytest.mark.parametrize("tile", [0, -4, 2.5, (8, 8)])
def test_windows_want_a_size(tile):
    sentence = refused(predict_tiled, NET, X, tile=tile, overlap=RADIUS)
    assert sentence.startswith("tile wants a whole number of at least 1, got ")
