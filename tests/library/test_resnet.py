"""Residual networks against torchvision's and against their formulas; then invariants."""

import io
from copy import deepcopy

import pytest
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import fx, nn
from torch.nn import functional as F
from torch.testing import assert_close
from torchvision.models.resnet import BasicBlock as TheirBasicBlock
from torchvision.models.resnet import Bottleneck as TheirBottleneck
from torchvision.models.resnet import ResNet as TheirResNet

from tests.support.no_float64 import RefuseFloat64
from vlmbook.data import digits
from vlmbook.resnet import (
    BasicBlock,
    Bottleneck,
    PaddedShortcut,
    PlainBlock,
    ResNet,
    plain20,
    plain32,
    plain56,
    resnet18,
    resnet20,
    resnet32,
    resnet34,
    resnet50,
    resnet56,
    small_resnet,
)

LARGE = {
    resnet18: torchvision.models.resnet18,
    resnet34: torchvision.models.resnet34,
    resnet50: torchvision.models.resnet50,
}
TWINS = {resnet20: plain20, resnet32: plain32, resnet56: plain56}
DEPTH = {
    resnet18: 18,
    resnet34: 34,
    resnet50: 50,
    resnet20: 20,
    resnet32: 32,
    resnet56: 56,
    plain20: 20,
    plain32: 32,
    plain56: 56,
}
large = pytest.mark.parametrize("ours", LARGE, ids=lambda f: f.__name__)
each = pytest.mark.parametrize("make", DEPTH, ids=lambda f: f.__name__)


def narrow_basic(num_classes=5, in_channels=3, **options):
    """The plan of resnet18 and 34 at an eighth of the width."""
    return ResNet(BasicBlock, (1, 2, 1, 1), num_classes, in_channels, width=8, **options)


def narrow_bottleneck(num_classes=5, in_channels=3, **options):
    """The plan of resnet50 at an eighth of the width."""
    return ResNet(Bottleneck, (1, 2, 1, 1), num_classes, in_channels, width=8, **options)


some = pytest.mark.parametrize(
    "make", [narrow_basic, narrow_bottleneck, resnet20, plain20], ids=lambda f: f.__name__
)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def randomised(net, seed=0):
    """The net with BatchNorms that are not the identity, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.5, 0.5, generator=generator)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    return net


def fresh(make, *arguments, seed=0, dtype=torch.float32, **options):
    torch.manual_seed(seed)
    return randomised(make(*arguments, **options), seed).to(dtype)


def close(mine, theirs, tolerance=1e-5):
    """Equal up to a share of the largest number; assert_close, but quick enough for a whole network's
    gradients.
    """
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    error, largest = (mine - theirs).abs().max(), theirs.abs().max()
    assert error <= tolerance * largest, f"differs by {error:.3g} where the largest is {largest:.3g}"


def values_and_gradients(function, x, parameters):
    """-> the output, then the gradient of its weighted sum for x and for each parameter."""
    y = function(x)
    weights = torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    return [y, *torch.autograd.grad(y, [x, *parameters], weights)]


# Oracle: torchvision.


def pair_of_nets(ours, num_classes=1000, in_channels=3, dtype=torch.float32):
    """-> our net and torchvision's, with the same random weights."""
    theirs = LARGE[ours](num_classes=num_classes)
    with torch.device("meta"):
        mine = ours(num_classes, in_channels)
    if in_channels != 3:
        theirs.conv1 = nn.Conv2d(in_channels, 64, 7, 2, padding=3, bias=False)
    mine.load_state_dict(deepcopy(randomised(theirs).state_dict()), strict=True, assign=True)
    return mine.to(dtype), theirs.to(dtype)


@large
def test_names_shapes_and_order_are_torchvisions(ours):
    for options in ({}, {"num_classes": 7}):
        with torch.device("meta"):
            mine, theirs = ours(**options), LARGE[ours](**options)
        for part in ("state_dict", "named_parameters", "named_buffers"):
            both = (getattr(net, part)() for net in (mine, theirs))
            mine_part, their_part = ([(name, t.shape, t.dtype) for name, t in dict(p).items()] for p in both)
            assert mine_part == their_part


@pytest.mark.parametrize("ours", [resnet18, resnet50])
def test_one_seed_gives_torchvisions_initial_weights(ours):
    states = []
    for make in (ours, LARGE[ours]):
        torch.manual_seed(3)
        states.append(make(num_classes=5).state_dict())
    for mine, theirs in zip(*(state.values() for state in states), strict=True):
        assert torch.equal(mine, theirs)


@large
@pytest.mark.parametrize(
    "num_classes, in_channels, size", [(1000, 3, (70, 65)), (7, 1, (33, 96)), (1, 4, (1, 3))]
)
@torch.no_grad()
def test_logits_are_torchvisions(ours, num_classes, in_channels, size):
    mine, theirs = (net.eval() for net in pair_of_nets(ours, num_classes, in_channels))
    x = randn(2, in_channels, *size)
    assert mine(x).shape == (2, num_classes)
    close(mine(x), theirs(x))


@large
@torch.no_grad()
def test_weights_go_to_torchvision_too(ours):
    with torch.device("meta"):
        theirs = LARGE[ours]()
    mine = fresh(ours).eval()
    theirs.load_state_dict(mine.state_dict(), strict=True, assign=True)
    x = randn(1, 3, 40, 37)
    close(theirs.eval()(x), mine(x))


@pytest.mark.parametrize("ours", [resnet18, resnet50])
def test_gradients_in_eval_mode_are_torchvisions(ours):
    nets = [net.eval() for net in pair_of_nets(ours, 4, dtype=torch.float64)]
    x = randn(1, 3, 34, 31, dtype=torch.float64).requires_grad_()
    for mine, theirs in zip(*(values_and_gradients(net, x, net.parameters()) for net in nets), strict=True):
        close(mine, theirs, 1e-7)


@pytest.mark.parametrize("ours", [resnet18, resnet50])
def test_a_training_step_is_torchvisions(ours):
    """In training mode the logits and all gradients, then the running statistics, the weights and their
    logits.
    """
    nets = pair_of_nets(ours, 4, in_channels=2, dtype=torch.float64)
    x, labels = randn(2, 2, 40, 33, dtype=torch.float64).requires_grad_(), torch.tensor([3, 0])
    found = []
    for net in nets:
        logits = net.train()(x)
        gradient_of_x, *gradients = torch.autograd.grad(
            F.cross_entropy(logits, labels), [x, *net.parameters()]
        )
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter -= 0.01 * gradient
            found.append([logits, gradient_of_x, *gradients, *net.buffers(), net.eval()(x)])
    for mine, theirs in zip(*found, strict=True):
        close(mine, theirs, 1e-6)


@pytest.mark.parametrize("block, peer", [(BasicBlock, TheirBasicBlock), (Bottleneck, TheirBottleneck)])
@torch.no_grad()
def test_another_normalisation_goes_everywhere(block, peer):
    def norm_layer(channels):
        return nn.GroupNorm(4, channels)

    theirs = randomised(TheirResNet(peer, [1, 2, 1, 1], num_classes=6, norm_layer=norm_layer))
    mine = ResNet(block, (1, 2, 1, 1), 6, 3, norm_layer=norm_layer)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    mine.load_state_dict(theirs.state_dict(), strict=True)
    x = randn(2, 3, 35, 50)
    close(mine(x), theirs(x))


# Oracle: the formulas, in PyTorch's functions, from nothing but named weights.


def norm(state, name, x, training):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    if training:
        return F.batch_norm(x, None, None, weight, bias, training=True)
    return F.batch_norm(x, state[f"{name}.running_mean"], state[f"{name}.running_var"], weight, bias)


def conv_norm(state, number, x, training, prefix="", stride=1):
    weight = state[f"{prefix}conv{number}.weight"]
    return norm(
        state, f"{prefix}bn{number}", F.conv2d(x, weight, None, stride, weight.shape[2] // 2), training
    )


def formula(kind, state, x, stride, training, prefix=""):
    """What a block computes; `kind` is its class."""
    convolutions = 3 if kind is Bottleneck else 2
    y = x
    for number in range(1, convolutions + 1):
        strided = number == (2 if kind is Bottleneck else 1)
        y = conv_norm(state, number, y, training, prefix, stride if strided else 1)
        y = y if number == convolutions else F.relu(y)
    if kind is PlainBlock:
        return F.relu(y)
    if (name := f"{prefix}downsample.0.weight") in state:
        shortcut = norm(state, f"{prefix}downsample.1", F.conv2d(x, state[name], None, stride), training)
    else:
        shortcut = padded(x, y.shape[1] - x.shape[1], stride)
    return F.relu(shortcut + y)


def padded(x, extra, stride):
    """The padded shortcut, index by index, in terms that autograd can follow."""
    batch, channels, height, width = x.shape
    rows, columns = range(0, height, stride), range(0, width, stride)
    zero = x.new_zeros(batch)
    pixels = [
        x[:, c, i, j] if c < channels else zero
        for c in range(channels + extra)
        for i in rows
        for j in columns
    ]
    return torch.stack(pixels, 1).view(batch, channels + extra, len(rows), len(columns))


def named(net):
    return dict(net.named_parameters()) | dict(net.named_buffers())


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from([BasicBlock, Bottleneck, PlainBlock]),
    shortcut=st.sampled_from(["same", "pad", "project"]),
    batch=st.integers(1, 3),
    width=st.integers(1, 3),
    channels=st.integers(1, 6),
    stride=st.integers(1, 3),
    height=st.integers(1, 7),
    columns=st.integers(1, 7),
    training=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_blocks_equal_their_formulas(
    kind, shortcut, batch, width, channels, stride, height, columns, training, seed
):
    outs = width * kind.expansion
    if shortcut == "same":
        channels, stride = outs, 1
    assume(shortcut != "pad" or outs >= channels)
    assume(
        not training or batch * -(-height // stride) * -(-columns // stride) > 1
    )  # else BatchNorm has one value
    downsample = {
        "same": nn.Identity,
        "pad": lambda: PaddedShortcut(outs - channels, stride),
        "project": lambda: nn.Sequential(
            nn.Conv2d(channels, outs, 1, stride, bias=False), nn.BatchNorm2d(outs)
        ),
    }[shortcut if kind is not PlainBlock else "same"]()
    block = fresh(kind, channels, width, stride, downsample, nn.BatchNorm2d, seed=seed, dtype=torch.float64)
    block.train(training)
    x = randn(batch, channels, height, columns, seed=seed, dtype=torch.float64).requires_grad_()
    state, parameters = named(deepcopy(block)), list(block.parameters())  # BatchNorm changes the block's own
    state |= dict(block.named_parameters())
    theirs = values_and_gradients(lambda x: formula(kind, state, x, stride, training), x, parameters)
    mine = values_and_gradients(block, x, parameters)
    assert mine[0].shape == (batch, outs, -(-height // stride), -(-columns // stride))
    assert_close(mine, theirs, rtol=1e-8, atol=1e-8)


@settings(max_examples=100, deadline=None)
@given(
    batch=st.integers(0, 2),
    channels=st.integers(1, 3),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    extra=st.integers(0, 4),
    stride=st.integers(1, 3),
)
def test_a_padded_shortcut_is_its_indices(batch, channels, height, width, extra, stride):
    x = randn(batch, channels, height, width)
    y = PaddedShortcut(extra, stride)(x)
    wanted = torch.zeros(batch, channels + extra, -(-height // stride), -(-width // stride))
    for c in range(channels):
        for i in range(wanted.shape[2]):
            for j in range(wanted.shape[3]):
                wanted[:, c, i, j] = x[:, c, i * stride, j * stride]
    assert_close(y, wanted, rtol=0, atol=0)
    assert list(PaddedShortcut(extra, stride).parameters()) == []


@pytest.mark.parametrize("skip", [True, False])
@settings(max_examples=12, deadline=None)
@given(
    n=st.integers(1, 2),
    batch=st.integers(2, 3),
    channels=st.integers(1, 4),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    training=st.booleans(),
)
def test_small_nets_equal_their_formulas(skip, n, batch, channels, height, width, training):
    net = fresh(small_resnet, 6 * n + 2, 5, channels, skip=skip, dtype=torch.float64).train(training)
    state = named(deepcopy(net)) | dict(net.named_parameters())

    def whole(x):
        x = F.relu(conv_norm(state, 1, x, training))
        for stage in (1, 2, 3):
            for number in range(n):
                stride = 2 if stage > 1 and number == 0 else 1
                kind = BasicBlock if skip else PlainBlock
                x = formula(kind, state, x, stride, training, f"layer{stage}.{number}.")
        return F.adaptive_avg_pool2d(x, 1).flatten(1) @ state["fc.weight"].T + state["fc.bias"]

    x = randn(batch, channels, height, width, dtype=torch.float64).requires_grad_()
    theirs = values_and_gradients(whole, x, net.parameters())
    for mine, peer in zip(values_and_gradients(net, x, net.parameters()), theirs, strict=True):
        close(mine, peer, 1e-6)


# Structure.


@pytest.mark.parametrize("make, count", [(resnet20, 269_722), (resnet32, 464_154), (resnet56, 853_018)])
def test_small_nets_have_the_parameters_of_table_6(make, count):
    for net in (make(), TWINS[make]()):
        assert sum(p.numel() for p in net.parameters()) == count
    assert sum(p.numel() for p in make(7, 1).parameters()) == count - 3 * 65 - 2 * 9 * 16


@each
def test_depth_is_the_number_of_layers_with_weights(make):
    with torch.device("meta"):
        net = make()
    layers = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len([name for name in layers if "downsample" not in name]) == DEPTH[make]
    assert any("downsample" in name for name in layers) == (make in LARGE)  # small nets have no projections


@pytest.mark.parametrize("depth", [8, 14, 20, 44, 110])
def test_any_depth_of_6n_plus_2_has_three_stages_of_n_blocks(depth):
    for skip, kind in ((True, BasicBlock), (False, PlainBlock)):
        with torch.device("meta"):
            net = small_resnet(depth, skip=skip)
        assert net.stages == ["layer1", "layer2", "layer3"]
        assert [[type(block) for block in getattr(net, name)] for name in net.stages] == 3 * [
            (depth // 6) * [kind]
        ]


def sizes(net, *shape):
    return [tuple(m.shape) for m in net.features(torch.empty(shape, device="meta"))]


def test_sizes_stage_by_stage():
    with torch.device("meta"):
        assert sizes(resnet18(), 1, 3, 224, 224) == [
            (1, 64, 56, 56),
            (1, 64, 56, 56),
            (1, 128, 28, 28),
            (1, 256, 14, 14),
            (1, 512, 7, 7),
        ]
        assert sizes(resnet50(in_channels=1), 2, 1, 70, 65) == [
            (2, 64, 18, 17),
            (2, 256, 18, 17),
            (2, 512, 9, 9),
            (2, 1024, 5, 5),
            (2, 2048, 3, 3),
        ]
        for make in (resnet20, plain20):
            assert sizes(make(), 5, 3, 32, 32) == [
                (5, 16, 32, 32),
                (5, 16, 32, 32),
                (5, 32, 16, 16),
                (5, 64, 8, 8),
            ]
            assert sizes(make(), 1, 3, 33, 27) == [
                (1, 16, 33, 27),
                (1, 16, 33, 27),
                (1, 32, 17, 14),
                (1, 64, 9, 7),
            ]


META = {}


@settings(max_examples=20, deadline=None)
@given(
    make=st.sampled_from([resnet18, resnet50, resnet20, plain20]),
    batch=st.integers(0, 3),
    height=st.integers(1, 300),
    width=st.integers(1, 300),
)
def test_each_halving_rounds_up(make, batch, height, width):
    if make not in META:
        with torch.device("meta"):
            META[make] = make(6).eval()
    net, first = META[make], 4 if make in LARGE else 1
    halvings = [first, *(first * 2**stage for stage in range(len(net.stages)))]
    assert [shape[2:] for shape in sizes(net, batch, 3, height, width)] == [
        (-(-height // s), -(-width // s)) for s in halvings
    ]
    assert net(torch.empty(batch, 3, height, width, device="meta")).shape == (batch, 6)


@some
@torch.no_grad()
def test_features_are_what_each_stage_makes_of_the_one_before(make):
    net = fresh(make, 5).eval()
    x = randn(2, 3, 34, 41)
    maps = net.features(x)
    assert_close(maps[0], net.maxpool(F.relu(net.bn1(net.conv1(x)))))
    for name, before, after in zip(net.stages, maps[:-1], maps[1:], strict=True):
        assert_close(after, getattr(net, name)(before))  # were `before` overwritten, this would fail
    assert all((m >= 0).all() for m in maps)
    assert_close(net(x), net.fc(F.adaptive_avg_pool2d(maps[-1], 1).flatten(1)))


@pytest.mark.parametrize("make", TWINS, ids=lambda f: f.__name__)
@torch.no_grad()
def test_the_plain_twin_has_the_same_parameters_and_other_logits(make):
    residual, plain = fresh(make, 6, 2), fresh(TWINS[make], 6, 2)
    assert list(residual.state_dict()) == list(plain.state_dict())
    assert_close(dict(residual.state_dict()), dict(plain.state_dict()), rtol=0, atol=0)  # from the same seed
    plain.load_state_dict(residual.state_dict(), strict=True)
    x = randn(2, 2, 9, 8)
    mine, theirs = residual.eval()(x), plain.eval()(x)
    assert (mine - theirs).abs().max() > 0.1 * mine.abs().max()


def test_convolutions_start_from_he_initialisation():
    torch.manual_seed(0)
    net = resnet20()
    for convolution in (module for module in net.modules() if isinstance(module, nn.Conv2d)):
        wanted = (2 / (9 * convolution.out_channels)) ** 0.5  # fan_out
        assert 0.85 * wanted < convolution.weight.std() < 1.15 * wanted
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        assert (norm.weight == 1).all() and (norm.bias == 0).all()


# Invariants.


def zero_last_norms(net):
    """Makes F(x) = 0 in each block."""
    for block in net.modules():
        if isinstance(block, BasicBlock | Bottleneck):
            last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    return net


@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_a_block_whose_residual_is_zero_is_the_identity(training):
    x = randn(2, 8, 5, 7)
    for kind, width in ((BasicBlock, 8), (Bottleneck, 2), (PlainBlock, 8)):
        block = zero_last_norms(fresh(kind, 8, width, 1, nn.Identity(), nn.BatchNorm2d)).train(training)
        factor = 0 if kind is PlainBlock else 1
        assert_close(block(x), factor * x.relu(), rtol=0, atol=0)
        assert_close(block(x.abs()), factor * x.abs(), rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_small_nets_whose_residuals_are_zero_pass_the_stem_on(training):
    x = randn(2, 3, 11, 14)
    net = zero_last_norms(fresh(resnet20)).train(training)
    stem, *maps = net.features(x)
    for number, found in enumerate(maps):
        kept = stem[:, :, :: 2**number, :: 2**number]
        assert_close(found[:, :16], kept, rtol=0, atol=0)
        assert (found[:, 16:] == 0).all()
    plain = zero_last_norms(fresh(plain20)).train(training)
    assert all((m == 0).all() for m in plain.features(x)[1:])
    assert_close(plain(x), plain.fc.bias.expand(2, -1), rtol=0, atol=0)


NETS = {
    "basic": narrow_basic,
    "bottleneck": narrow_bottleneck,
    "resnet20": resnet20,
    "plain20": plain20,
    "plain, large": lambda: ResNet(PlainBlock, (1, 1), 5, 3, width=8),  # without projections to spare
    "no norm": lambda: small_resnet(8, norm_layer=nn.Identity),
    "plain, no norm": lambda: small_resnet(8, skip=False, norm_layer=nn.Identity),
    "basic, no norm": lambda: narrow_basic(norm_layer=nn.Identity),
    "bottleneck, no norm": lambda: narrow_bottleneck(norm_layer=nn.Identity),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_the_input_stays_as_it_is_and_has_a_gradient(make, training):
    net = fresh(make).train(training)
    for run in (net, net.features):
        x = randn(2, 3, 20, 23)
        before = x.clone()
        with torch.no_grad():
            run(x)
        x.requires_grad_()
        result = run(x)
        sum(m.square().sum() for m in (result if isinstance(result, list) else [result])).backward()
        assert x._version == 0
        assert_close(x.detach(), before, rtol=0, atol=0)
        assert x.grad.isfinite().all() and (x.grad != 0).any()


@pytest.mark.parametrize("norm_layer", [nn.BatchNorm2d, nn.Identity])
@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck, PlainBlock])
def test_the_input_of_a_block_stays_as_it_is(kind, norm_layer):
    for downsample in (nn.Identity(), PaddedShortcut(0, 1)):
        block = fresh(kind, 4, 4 // kind.expansion, 1, downsample, norm_layer)
        x = randn(2, 4, 5, 6)
        block(x)
        block.residual(x)
        assert x._version == 0
        y = block.residual(x)
        assert (y < 0).any()  # the ReLU comes after the addition


@some
@torch.no_grad()
def test_in_eval_mode_logits_do_not_depend_on_the_batch(make):
    net = fresh(make, 6).eval()
    x = randn(4, 3, 33, 38)
    alone = torch.cat([net(image[None]) for image in x])
    close(net(x), alone)
    close(net(x.flip(0)), alone.flip(0))
    assert net(x[:0]).shape == (0, 6)
    assert net(x)[0].sub(net(x)[1]).abs().max() > 1e-4


@some
def test_in_training_mode_the_batch_is_what_normalises(make):
    net = fresh(make, 6).train()
    x = randn(3, 3, 33, 38)
    with torch.no_grad():
        assert (net(x)[:2] - net(x[:2])).abs().max() > 1e-3
    close(net(3 * x), net(x), 1e-2)  # the stem's BatchNorm divides the contrast out


@some
@torch.no_grad()
def test_channels_last_gives_the_same_logits(make):
    net, x = fresh(make, 6).eval(), randn(2, 3, 33, 38)
    wanted = net(x)
    close(net(x.to(memory_format=torch.channels_last)), wanted)
    maps = net.to(memory_format=torch.channels_last).features(x.to(memory_format=torch.channels_last))
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)
    close(net(x.to(memory_format=torch.channels_last)), wanted)


def test_strided_images_give_the_same_logits():
    net, x = fresh(resnet20).eval(), randn(2, 3, 12, 11)
    for view in (x.mT.contiguous().mT, x.repeat_interleave(2, 3)[..., ::2], x[:1].expand(3, -1, -1, -1)):
        close(net(view), net(view.contiguous()))


# Types, devices, copies.


@some
@torch.no_grad()
def test_other_dtypes(make):
    net, x = fresh(make, 6).eval(), randn(2, 3, 35, 34)
    wanted = net(x)
    for dtype, tolerance in ((torch.float64, 1e-4), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)):
        logits = deepcopy(net).to(dtype)(x.to(dtype))
        assert logits.dtype == dtype and logits.isfinite().all()
        close(logits.float(), wanted, tolerance)


@some
def test_nothing_makes_float64(make):
    net, x = fresh(make, 6), randn(2, 3, 35, 34)
    with RefuseFloat64():
        F.cross_entropy(net(x), torch.tensor([1, 5])).backward()


@pytest.mark.parametrize("ours", [resnet18, resnet50])
def test_under_autocast_a_training_step_is_torchvisions(ours):
    steps = []
    for net in pair_of_nets(ours, 4):
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(randn(4, 3, 64, 61))
        F.cross_entropy(logits.float(), torch.arange(4)).backward()
        steps.append((logits, net.fc.weight.grad, net.conv1.weight.grad))
    for mine, theirs in zip(*steps, strict=True):
        assert mine.dtype == theirs.dtype
        close(mine, theirs, 0.1)


@some
@torch.no_grad()
def test_a_net_can_be_traced(make):
    net, x = fresh(make, 6).eval(), randn(2, 3, 33, 38)
    assert_close(fx.symbolic_trace(net)(x), net(x), rtol=0, atol=0)


@some
def test_a_net_made_on_the_meta_device_takes_weights(make):
    with torch.device("meta"):
        net = make(3, 1)
    assert all(t.device.type == "meta" for t in net.state_dict().values())
    source = fresh(make, 3, 1)
    net.load_state_dict(source.state_dict(), strict=True, assign=True)
    x = randn(1, 1, 9, 10)
    assert_close(net.eval()(x), source.eval()(x), rtol=0, atol=0)


@some
@torch.no_grad()
def test_a_copy_and_a_saved_state_give_the_same_logits(make):
    net = fresh(make, 4).eval()
    x = randn(1, 3, 20, 22)
    wanted, file = net(x), io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    again = fresh(make, 4, seed=1).eval()
    again.load_state_dict(torch.load(file, weights_only=True), strict=True)
    copy = deepcopy(net)
    nn.init.zeros_(net.conv1.weight)  # of neither copy
    for other in (again, copy):
        assert_close(other(x), wanted, rtol=0, atol=0)


# Learning.


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_gradients_reach_every_parameter(make):
    net = fresh(make)
    F.cross_entropy(net(randn(4, 3, 40, 36)), torch.arange(4)).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_one_batch_of_digits_is_learned():
    images, labels = (part[:48] for part in digits("train"))
    torch.manual_seed(0)
    net = small_resnet(8, in_channels=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(50):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.5 and losses[-1] < 0.05
    with torch.no_grad():
        assert (net(images).argmax(1) == labels).all()
        assert (net.eval()(images).argmax(1) == labels).float().mean() > 0.9  # with the running statistics


# Bad input: one sentence.


X = torch.zeros(2, 3, 16, 16)


def refused(error, sentence, function, *arguments, **options):
    with pytest.raises(error, match=sentence) as refusal:
        function(*arguments, **options)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "x, error, message",
    [
        (X.tolist(), TypeError, r"x wants a torch.Tensor \(B, 3, H, W\), got an object of type list"),
        (X.numpy(), TypeError, "x wants a torch.Tensor .*, got a NumPy ndarray"),
        (None, TypeError, "x wants a torch.Tensor .*, got None"),
        (X.to(torch.uint8), TypeError, "x wants a floating dtype, got torch.uint8"),
        (X.long(), TypeError, "x wants a floating dtype, got torch.int64"),
        (X.bool(), TypeError, "x wants a floating dtype, got torch.bool"),
        (X.double(), TypeError, "x wants the kind of the model, torch.float32 on cpu, got torch.float64"),
        (X[0], ValueError, r"x wants the shape \(B, 3, H, W\), got \(3, 16, 16\)"),
        (X[None], ValueError, r"x wants the shape \(B, 3, H, W\), got \(1, 2, 3, 16, 16\)"),
        (X[:, :1], ValueError, r"x wants the shape \(B, 3, H, W\), got \(2, 1, 16, 16\)"),
        (X.permute(0, 2, 3, 1), ValueError, r"x wants .*, got \(2, 16, 16, 3\)"),
        (X[:, :0], ValueError, r"x wants the shape \(B, 3, H, W\), got \(2, 0, 16, 16\)"),
        (X[:, :, :0], ValueError, r"x wants at least one element along H .*, got \(2, 3, 0, 16\)"),
        (X[..., :0], ValueError, r"x wants at least one element along W .*, got \(2, 3, 16, 0\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_images_are_refused(x, error, message):
    block = BasicBlock(3, 3, 1, nn.Identity(), nn.BatchNorm2d)
    for net in (small_resnet(8), small_resnet(8, skip=False), narrow_basic()):
        refused(error, message, net, x)
        refused(error, message, net.features, x)
    for run in (block, block.residual, Bottleneck(3, 1, 1, nn.Identity(), nn.BatchNorm2d)):
        refused(error, message, run, x)


@pytest.mark.parametrize("name", ["num_classes", "in_channels"])
@pytest.mark.parametrize("value", [0, -3, 2.5, 10.0, True, "10", None, (3,), 10**30])
def test_bad_numbers_are_refused(name, value):
    for make in DEPTH:
        refused(
            (TypeError, ValueError), f"^{name} wants a whole number of at .*, got ", make, **{name: value}
        )


@pytest.mark.parametrize("depth", [21, 18, 34, 2])
def test_depths_between_those_of_the_paper_are_refused(depth):
    refused(
        ValueError, rf"depth wants 6n \+ 2, such as 8, 20, 32, 44 or 56, got {depth}", small_resnet, depth
    )


@pytest.mark.parametrize("depth", [0, -4, True, 20.0, "20", None, (20,)])
def test_what_is_no_depth_is_refused(depth):
    refused((TypeError, ValueError), r"depth wants a whole number of at least 1, got", small_resnet, depth)


PARTS = {
    "in_channels": 4,
    "width": 4,
    "stride": 1,
    "downsample": nn.Identity(),
    "norm_layer": nn.BatchNorm2d,
}


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"in_channels": 0}, "in_channels wants a whole number"),
        ({"width": "4"}, "width wants a whole number"),
        ({"stride": 1.5}, "stride wants a whole number"),
        ({"downsample": None}, "downsample wants an nn.Module, got None"),
        ({"norm_layer": 3}, "norm_layer wants a function of a number of channels, got 3"),
        ({"norm_layer": int}, "norm_layer wants to return an nn.Module, got 4"),
    ],
)
def test_bad_parts_of_a_block_are_refused(wrong, sentence):
    for kind in (BasicBlock, Bottleneck, PlainBlock):
        refused((TypeError, ValueError), sentence, kind, **PARTS | wrong)


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"block": nn.Linear}, "block wants BasicBlock, Bottleneck or PlainBlock, got the class Linear"),
        ({"block": "basic"}, "block wants BasicBlock, .*, got 'basic'"),
        ({"blocks": ()}, "blocks wants at least one stage, got none"),
        ({"blocks": 3}, "blocks wants a list of numbers of blocks, one a stage, got 3"),
        ({"blocks": (2, 0)}, "blocks wants a whole number of at least 1, got 0"),
        ({"width": 0}, "width wants a whole number of at least 1, got 0"),
        ({"small": "yes"}, "small wants True or False, got 'yes'"),
        ({"norm_layer": None}, "norm_layer wants a function of a number of channels, got None"),
        ({"norm_layer": int}, "norm_layer wants to return an nn.Module, got 8"),
    ],
)
def test_bad_plans_of_a_network_are_refused(wrong, sentence):
    plan = {"block": BasicBlock, "blocks": (1, 1), "num_classes": 5, "in_channels": 3, "width": 8}
    refused((TypeError, ValueError), sentence, ResNet, **plan | wrong)


def test_bad_padded_shortcuts_are_refused():
    refused(ValueError, "extra wants a whole number of at least 0, got -1", PaddedShortcut, -1, 2)
    refused(ValueError, "stride wants a whole number of at least 1, got 0", PaddedShortcut, 0, 0)
    refused(TypeError, r"x wants a torch.Tensor \(B, C, H, W\), got None", PaddedShortcut(0, 1), None)
