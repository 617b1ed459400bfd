"""Attention against loops, PyTorch's kernel and layer, and torchvision's transformer, in values and
gradients; then properties of every correct one: rows that sum to 1, no order of its own, and a batch that it
can learn."""

import math
from copy import deepcopy
from itertools import product

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.no_float64 import RefuseFloat64
from vlmbook import attention as module
from vlmbook.attention import (
    EncoderBlock,
    MultiHeadAttention,
    SpatialAttention,
    SqueezeExcitation,
    VisionTransformer,
    attention,
    rollout,
    to_patches,
    vit_b_16,
)
from vlmbook.data import digits

EXACT = {"rtol": 1e-10, "atol": 1e-10}
shapes = {
    "batch": st.integers(1, 3),
    "n": st.integers(1, 7),
    "heads": st.integers(1, 4),
    "size": st.integers(1, 5),
    "seed": st.integers(0, 2**31),
}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def randomize(net, seed=0):
    """The module in float64 with weights so large that each matters, LayerNorms that are not the identity."""
    net, generator = net.double(), seeded(seed)
    with torch.no_grad():
        for p in net.parameters():
            size = (
                p[0].numel() ** -0.5 if p.ndim in (2, 4) else 0.7
            )  # else a bias, a norm, the tokens that are added
            p.copy_(size * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        for norm in (m for m in net.modules() if isinstance(m, nn.LayerNorm)):
            norm.weight += 1
    return net


def small(
    image_size=(6, 4), patch=2, num_classes=3, in_channels=2, *, seed=0, width=8, depth=2, heads=2, **sizes
):
    net = VisionTransformer(
        image_size, patch, num_classes, in_channels, width=width, depth=depth, heads=heads, **sizes
    )
    return randomize(net, seed)


def attention_loops(q, k, v):
    """(N, d), (M, d), (M, e) -> (N, e), (N, M): the slow twin of `attention`, one query and one key after the
    other.
    """
    outputs, attention_weights = [], []
    for query in q:
        scores = torch.stack([query @ key for key in k]) / q.shape[1] ** 0.5
        powers = (scores - scores.max()).exp()  # exp of a large score would overflow
        alpha = powers / powers.sum()
        outputs.append(sum(share * value for share, value in zip(alpha, v, strict=True)))
        attention_weights.append(alpha)
    return torch.stack(outputs), torch.stack(attention_weights)


def values_and_gradients(run, leaves):
    """-> the outputs, and the gradient of their weighted sum for each leaf (0 where it is not used)."""
    outputs = run()
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    total = sum((torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape) * y).sum() for y in outputs)
    return [*outputs, *torch.autograd.grad(total, leaves, materialize_grads=True)]


# Oracle: loops, PyTorch's fused kernel and its layer.


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 6),
    m=st.integers(1, 6),
    d=st.integers(1, 5),
    e=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_attention_is_the_loops_and_pytorchs_kernel(n, m, d, e, seed):
    leaves = [
        randn(*shape, seed=seed + i).requires_grad_() for i, shape in enumerate(((n, d), (m, d), (m, e)))
    ]
    mine = values_and_gradients(lambda: attention(*leaves), leaves)
    assert_close(mine, values_and_gradients(lambda: attention_loops(*leaves), leaves), **EXACT)
    fused = values_and_gradients(lambda: F.scaled_dot_product_attention(*leaves), leaves)
    alone = values_and_gradients(lambda: attention(*leaves)[0], leaves)
    assert_close(alone, fused, **EXACT)


@settings(max_examples=20, deadline=None)
@given(**shapes, m=st.integers(1, 5))
def test_attention_takes_any_axes_before_the_last_two(batch, n, m, heads, size, seed):
    q, k, v = (
        randn(batch, heads, n, size, seed=seed),
        randn(batch, heads, m, size),
        randn(batch, heads, m, size + 1),
    )
    y, weights = attention(q, k, v)
    for b, h in product(range(batch), range(heads)):
        assert_close((y[b, h], weights[b, h]), attention_loops(q[b, h], k[b, h], v[b, h]), **EXACT)


def pytorchs(ours):
    """MultiHeadAttention -> nn.MultiheadAttention that has loaded its state_dict."""
    width = ours.out_proj.in_features
    theirs = nn.MultiheadAttention(width, ours.heads, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    return theirs


@settings(max_examples=40, deadline=None)
@given(**shapes)
def test_heads_are_pytorchs_layer_with_and_without_weights(batch, n, heads, size, seed):
    ours, x = (
        randomize(MultiHeadAttention(heads * size, heads), seed),
        randn(batch, n, heads * size).requires_grad_(),
    )
    theirs = pytorchs(ours)
    mine, its = [x, *ours.parameters()], [x, *theirs.parameters()]
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert_close(
        values_and_gradients(lambda: ours(x, need_weights=True), mine),
        values_and_gradients(lambda: theirs(x, x, x, average_attn_weights=False), its),
        **EXACT,
    )
    assert_close(
        values_and_gradients(lambda: ours(x), mine),
        values_and_gradients(lambda: theirs(x, x, x, need_weights=False)[0], its),
        **EXACT,
    )


def test_heads_are_loops_over_slices_of_the_width():
    layer, x = randomize(MultiHeadAttention(6, 3)), randn(1, 5, 6)
    q, k, v = (
        x[0] @ w.T + b
        for w, b in zip(layer.in_proj_weight.split(6), layer.in_proj_bias.split(6), strict=True)
    )
    each = [attention_loops(*(part[:, 2 * h : 2 * h + 2] for part in (q, k, v))) for h in range(3)]
    y, weights = layer(x, need_weights=True)
    joined = torch.cat([y for y, _ in each], dim=1) @ layer.out_proj.weight.T + layer.out_proj.bias
    assert_close(y[0], joined, **EXACT)
    assert_close(weights[0], torch.stack([alpha for _, alpha in each]), **EXACT)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is allocated inside."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            self.numel = max(self.numel, tensor.numel() if isinstance(tensor, torch.Tensor) else 0)
        return result


def test_without_attention_weights_no_matrix_of_all_pairs_is_allocated():
    layer, x = MultiHeadAttention(8, 2), torch.randn(1, 200, 8)
    sizes = {}
    for need_weights in (False, True):
        with Largest() as largest:
            layer(x, need_weights=need_weights)
        sizes[need_weights] = largest.numel
    assert sizes[True] == 2 * 200**2 and sizes[False] == 200 * 3 * 8


@pytest.mark.parametrize("seed", range(3))
def test_squeeze_excitation_is_torchvisions_and_its_formula(seed):
    ours = SqueezeExcitation(8, 4)
    theirs = torchvision.ops.SqueezeExcitation(8, 2).double()
    theirs.load_state_dict(randomize(ours, seed).state_dict())
    x = randn(3, 8, 5, 4, seed=seed).requires_grad_()
    assert_close(
        values_and_gradients(lambda: ours(x), [x, *ours.parameters()]),
        values_and_gradients(lambda: theirs(x), [x, *theirs.parameters()]),
        **EXACT,
    )
    for b in range(3):
        squeezed = torch.stack([x[b, c].sum() / 20 for c in range(8)])
        hidden = (ours.fc1.weight[:, :, 0, 0] @ squeezed + ours.fc1.bias).clamp(min=0)
        excited = 1 / (1 + (-(ours.fc2.weight[:, :, 0, 0] @ hidden + ours.fc2.bias)).exp())
        assert_close(ours.gate(x)[b, :, 0, 0], excited, **EXACT)


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_spatial_attention_is_its_loop(kernel):
    layer, x = randomize(SpatialAttention(kernel)), randn(2, 3, 6, 5).requires_grad_()

    def by_hand():
        reach, rows = kernel // 2, []
        pooled = torch.stack([sum(x[:, c] for c in range(3)) / 3, x.max(dim=1).values], dim=1)
        padded = F.pad(pooled, (reach,) * 4)
        for b, i, j in product(range(2), range(6), range(5)):
            seen = (
                padded[b, :, i : i + kernel, j : j + kernel] * layer.conv.weight[0]
            ).sum() + layer.conv.bias[0]
            rows.append(1 / (1 + (-seen).exp()))
        return x * torch.stack(rows).view(2, 1, 6, 5)

    leaves = [x, *layer.parameters()]
    assert_close(
        values_and_gradients(lambda: layer(x), leaves), values_and_gradients(by_hand, leaves), **EXACT
    )
    assert_close(layer(x), x * layer.gate(x))
    assert layer.gate(x).shape == (2, 1, 6, 5)


# Oracle: PyTorch's encoder layer, torchvision's transformer, and the formulas.


def test_encoder_block_is_pytorchs_layer():
    block, x = randomize(EncoderBlock(12, 3, 20)), randn(2, 5, 12).requires_grad_()
    layer = nn.TransformerEncoderLayer(
        12,
        3,
        20,
        dropout=0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
        layer_norm_eps=1e-6,
        dtype=torch.float64,
    )
    parts = (
        (block.ln_1, layer.norm1),
        (block.self_attention, layer.self_attn),
        (block.ln_2, layer.norm2),
        (block.mlp[0], layer.linear1),
        (block.mlp[2], layer.linear2),
    )
    for ours, theirs in parts:
        theirs.load_state_dict(ours.state_dict())
    order = [p for _, theirs in parts for p in theirs.parameters()]
    assert len(order) == len(list(layer.parameters())) == len(list(block.parameters()))
    assert_close(
        values_and_gradients(lambda: block(x), [x, *block.parameters()]),
        values_and_gradients(lambda: layer(x), [x, *order]),
        **EXACT,
    )
    normed = layer.norm1(x)
    assert_close(
        block.attention_weights(x),
        layer.self_attn(normed, normed, normed, average_attn_weights=False)[1],
        **EXACT,
    )


def torchvisions(net, image_size, patch, num_classes, width, depth, heads):
    theirs = torchvision.models.VisionTransformer(
        image_size, patch, depth, heads, width, 4 * width, num_classes=num_classes
    ).double()
    theirs.load_state_dict(net.state_dict())
    return theirs


@settings(max_examples=10, deadline=None)
@given(
    grid=st.integers(1, 3),
    patch=st.integers(1, 3),
    heads=st.integers(1, 3),
    size=st.integers(1, 4),
    depth=st.integers(1, 2),
    batch=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_vision_transformer_is_torchvisions(grid, patch, heads, size, depth, batch, seed):
    side, width = grid * patch, heads * size
    net = small(side, patch, 5, 3, width=width, depth=depth, heads=heads, seed=seed)
    theirs, x = (
        torchvisions(net, side, patch, 5, width, depth, heads),
        randn(batch, 3, side, side).requires_grad_(),
    )
    names = [name for name, _ in theirs.named_parameters()]
    mine = values_and_gradients(lambda: net(x), [x, *map(net.get_parameter, names)])
    assert_close(mine, values_and_gradients(lambda: theirs(x), [x, *theirs.parameters()]), **EXACT)


def composed(net, x):
    """-> logits and attention weights of a VisionTransformer, from its parameters and the formulas alone."""
    get, depth = dict(net.named_parameters()), len(net.encoder.layers)

    def linear(name, x, form="{}.weight {}.bias"):
        weight, bias = form.format(name, name).split()
        return x @ get[weight].flatten(1).T + get[bias]

    def norm(name, x):
        x = x - x.mean(-1, keepdim=True)
        return (
            x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * get[f"{name}.weight"]
            + get[f"{name}.bias"]
        )

    batch, _, height, side = x.shape
    patch, found = height // net.grid[0], []
    patches = [
        x[:, :, r : r + patch, c : c + patch].flatten(1)
        for r in range(0, height, patch)
        for c in range(0, side, patch)
    ]
    z = torch.stack(
        [get["class_token"][0].expand(batch, -1), *(linear("conv_proj", p) for p in patches)], dim=1
    )
    z = z + get["encoder.pos_embedding"]
    for i in range(depth):
        name = f"encoder.layers.encoder_layer_{i}"
        heads = net.encoder.layers[i].self_attention.heads
        qkv = linear(f"{name}.self_attention.in_proj", norm(f"{name}.ln_1", z), "{}_weight {}_bias").chunk(
            3, dim=-1
        )
        mixed = [
            [attention_loops(*(part[b].chunk(heads, dim=-1)[h] for part in qkv)) for h in range(heads)]
            for b in range(batch)
        ]
        found.append(torch.stack([torch.stack([alpha for _, alpha in each]) for each in mixed]))
        joined = torch.stack([torch.cat([y for y, _ in each], dim=-1) for each in mixed])
        z = z + linear(f"{name}.self_attention.out_proj", joined)
        hidden = linear(f"{name}.mlp.0", norm(f"{name}.ln_2", z))
        z = z + linear(f"{name}.mlp.3", hidden * (1 + (hidden / math.sqrt(2)).erf()) / 2)
    return linear("heads.head", norm("encoder.ln", z)[:, 0]), found


@pytest.mark.parametrize(("image_size", "patch", "heads"), [((6, 4), 2, 2), ((3, 9), 3, 4), ((2, 2), 2, 1)])
def test_vision_transformer_is_its_formulas_on_oblong_images(image_size, patch, heads):
    net, x = small(image_size, patch, heads=heads), randn(2, 2, *image_size).requires_grad_()
    leaves = [x, *net.parameters()]
    assert_close(
        values_and_gradients(lambda: net(x), leaves),
        values_and_gradients(lambda: composed(net, x)[0], leaves),
        **EXACT,
    )
    assert_close(net.attention_weights(x), composed(net, x)[1], **EXACT)
    assert_close(net(x), net.heads(net.features(x)), **EXACT)


def test_vit_b_16_loads_torchvisions_weights_and_gives_its_logits():
    torch.manual_seed(0)
    theirs, ours = torchvision.models.vit_b_16().eval(), vit_b_16().eval()
    with torch.no_grad():
        for p in (theirs.heads.head.weight, theirs.class_token):  # both start at zero
            p.normal_(std=0.1)
        ours.load_state_dict(theirs.state_dict())
        x = torch.rand(2, 3, 224, 224)
        expected = theirs(x)
        assert expected.std() > 0.5
        assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)
    assert ours.encoder.pos_embedding.shape == (1, 197, 768)
    theirs.load_state_dict(ours.state_dict())


def test_float32_is_float64_but_for_rounding():
    net, x = small(), randn(3, 2, 6, 4)
    assert_close(deepcopy(net).float()(x.float()).double(), net(x), rtol=1e-4, atol=1e-4)


# Half precision: sums in float32, one rounding at the end.

HALVES = [torch.float16, torch.bfloat16]


def rounding(dtype, times=1):
    """Tolerances for results that were rounded to a dtype so many times."""
    eps = times * torch.finfo(dtype).eps
    return {"rtol": eps, "atol": eps}


@pytest.mark.parametrize("dtype", HALVES)
def test_attention_in_half_precision_is_rounded_once(dtype):
    q, k, v = (
        randn(2, n, d, seed=seed).to(dtype) for seed, (n, d) in enumerate(((9, 64), (500, 64), (500, 3)))
    )
    exact = attention(q.double(), k.double(), v.double())
    for got, expected in zip(attention(q, k, v), exact, strict=True):
        assert got.dtype == dtype
        assert_close(got.double(), expected, **rounding(dtype))
    fused = F.scaled_dot_product_attention(q, k, v)
    assert_close(attention(q, k, v)[0], fused, **rounding(dtype, 4))


@pytest.mark.parametrize("dtype", HALVES)
def test_scores_that_half_precision_cannot_hold(dtype):
    q = torch.full((1, 400), 20.0, dtype=dtype)  # their product, 160,000, is infinite in float16
    k = torch.stack([q[0], q[0]])
    y, attention_weights = attention(q, k, torch.tensor([[1.0], [3.0]], dtype=dtype))
    assert y.item() == 2 and attention_weights.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("dtype", HALVES)
def test_heads_in_half_precision_are_pytorchs(dtype):
    layer, x = MultiHeadAttention(16, 4).to(dtype), randn(2, 7, 16).to(dtype)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True).to(dtype)
    theirs.load_state_dict(layer.state_dict())
    expected = theirs(x, x, x, average_attn_weights=False)
    assert_close(layer(x, need_weights=True), expected, **rounding(dtype, 4))
    assert_close(layer(x), expected[0], **rounding(dtype, 4))


@pytest.mark.parametrize("dtype", HALVES)
def test_gates_in_half_precision(dtype):
    x = 200 * randn(2, 8, 40, 50).abs().to(dtype)  # whose sums are infinite in float16
    ours = SqueezeExcitation(8, 4).to(dtype)
    theirs = torchvision.ops.SqueezeExcitation(8, 2).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    assert_close(ours(x), theirs(x), **rounding(dtype, 4))
    spatial = SpatialAttention(3).to(dtype)
    exact = deepcopy(spatial).double().gate(x.double() / 200)
    assert_close(spatial.gate(x / 200).double(), exact, **rounding(dtype, 8))


@pytest.mark.parametrize("dtype", HALVES)
def test_rollout_in_half_precision_is_rounded_once(dtype):
    blocks = [randn(2, 12, 50, 50, seed=seed).softmax(-1).to(dtype) for seed in range(24)]
    found, exact = rollout(blocks), rollout([block.double() for block in blocks])
    assert found.dtype == dtype
    assert_close(found.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-7)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_transformer_in_half_precision_is_near_its_twin_in_float32(dtype):
    net, x = small(), randn(3, 2, 6, 4)
    half = deepcopy(net).to(dtype)(x.to(dtype))
    assert half.dtype == dtype
    assert_close(half.double(), net(x), rtol=0, atol=100 * torch.finfo(dtype).eps)


def test_nothing_is_float64_unless_it_came_in():
    net, x = small().float(), torch.randn(2, 2, 6, 4)
    squeeze, spatial = SqueezeExcitation(2, 1), SpatialAttention()
    with RefuseFloat64():
        net(x).sum().backward()
        rollout(net.attention_weights(x))
        (squeeze(x) + spatial(x)).sum().backward()
        attention(x[0], x[0], x[0])
        VisionTransformer((4, 6), 2, 3, 1, width=8, depth=1, heads=2)


# Structure.


@pytest.mark.parametrize("sizes", [(224, 16, 1000, 3, 768, 12), (8, 2, 10, 1, 32, 3), (1, 1, 1, 1, 2, 1)])
def test_number_of_parameters_is_the_formulas(sizes):
    side, patch, num_classes, channels, width, depth = sizes
    with torch.device("meta"):
        net = VisionTransformer(side, patch, num_classes, channels, width=width, depth=depth, heads=2)
    embedded = width * (channels * patch**2 + 1) + width + width * ((side // patch) ** 2 + 1)
    expected = embedded + depth * (12 * width**2 + 13 * width) + 2 * width + num_classes * (width + 1)
    assert sum(p.numel() for p in net.parameters()) == expected


def test_vit_b_16_on_another_task():
    with torch.device("meta"):
        net = vit_b_16(7, 1, (32, 48))
        assert net(torch.empty(2, 1, 32, 48)).shape == (2, 7) and net.grid == (2, 3)
        assert sum(p.numel() for p in vit_b_16().parameters()) == 86_567_656


def test_sizes_layer_by_layer():
    net, x = small((6, 4), 2, width=12, heads=3, mlp_width=20), randn(2, 2, 6, 4)
    assert net.embed(x).shape == (2, 7, 12) and net.features(x).shape == (2, 12) and net(x).shape == (2, 3)
    assert [tuple(each.shape) for each in net.attention_weights(x)] == [(2, 3, 7, 7)] * 2
    assert net.encoder.layers[0].mlp[0].out_features == 20
    assert [
        tuple(part.shape) for part in net.encoder.layers[0].self_attention.split_heads(randn(2, 7, 12))
    ] == [(2, 3, 7, 4)] * 3
    assert SqueezeExcitation(32).fc1.out_channels == 2


@pytest.mark.parametrize(
    ("shape", "patch"), [((2, 3, 4, 6), 2), ((1, 1, 3, 3), 3), ((1, 2, 2, 5), 1), ((0, 2, 4, 4), 2)]
)
def test_patches_are_windows_and_the_strided_convolution(shape, patch):
    x, conv = randn(*shape), nn.Conv2d(shape[1], 5, patch, stride=patch, dtype=torch.float64)
    found = to_patches(x, patch)
    windows = [
        x[:, :, i : i + patch, j : j + patch].flatten(1)
        for i in range(0, shape[2], patch)
        for j in range(0, shape[3], patch)
    ]
    assert_close(found, torch.stack(windows, 1))
    assert_close(found @ conv.weight.flatten(1).T + conv.bias, conv(x).flatten(2).transpose(1, 2), **EXACT)


# Invariants.


@settings(max_examples=25, deadline=None)
@given(**shapes)
def test_the_attention_weights_of_a_query_sum_to_1(batch, n, heads, size, seed):
    _, weights = randomize(MultiHeadAttention(heads * size, heads), seed)(
        randn(batch, n, heads * size), need_weights=True
    )
    assert (weights >= 0).all() and weights.shape == (batch, heads, n, n)
    assert_close(weights.sum(-1), torch.ones(batch, heads, n, dtype=torch.float64), **EXACT)


@settings(max_examples=25, deadline=None)
@given(**shapes)
def test_attention_has_no_order_of_its_own(batch, n, heads, size, seed):
    block, x = randomize(EncoderBlock(heads * size, heads, 3), seed), randn(batch, n, heads * size, seed=seed)
    order = torch.randperm(n, generator=seeded(seed))
    assert_close(block(x[:, order]), block(x)[:, order], **EXACT)
    assert_close(
        block.attention_weights(x[:, order]), block.attention_weights(x)[:, :, order][..., order], **EXACT
    )


def test_positions_alone_tell_the_transformer_of_the_order():
    net, x = small((4, 4), 2), randn(2, 2, 4, 4)
    rolled = x.roll(2, dims=-1)  # whole patches change positions
    assert (net(rolled) - net(x)).abs().max() > 1e-2
    with torch.no_grad():
        net.encoder.pos_embedding[:, 1:] = net.encoder.pos_embedding[:, 1:2]
    assert_close(net(rolled), net(x), **EXACT)


def test_shifted_scores_leave_the_weights():
    q, k, v = randn(4, 3), randn(5, 3), randn(5, 2)
    shift = q.new_tensor([2.0, -1.0, 0.5])  # moves all scores of a query by one number
    assert_close(attention(q, k + shift, v), attention(q, k, v), **EXACT)


def test_large_scores_stay_finite():
    q, k, v = torch.tensor([[300.0]]), torch.tensor([[300.0], [-300.0]]), torch.tensor([[1.0], [2.0]])
    for way in (attention, attention_loops):
        y, attention_weights = way(q, k, v)
        assert y.item() == 1 and attention_weights.tolist() == [[1, 0]]


def test_gates_lie_between_none_and_all():
    x = randn(2, 16, 6, 6)
    channel, spatial = randomize(SqueezeExcitation(16, 4)).gate(x), randomize(SpatialAttention()).gate(x)
    assert channel.shape == (2, 16, 1, 1) and spatial.shape == (2, 1, 6, 6)
    for gate in (channel, spatial):
        assert 0 < gate.min() and gate.max() < 1 and gate.std() > 0.05


def test_rollout_of_one_block_and_of_many():
    generator = seeded(0)
    blocks = [torch.rand(2, 3, 4, 4, generator=generator).double() for _ in range(3)]
    blocks = [block / block.sum(-1, keepdim=True) for block in blocks]
    first, both, three = rollout(blocks[:1]), rollout(blocks[:2]), rollout(blocks)
    eye = torch.eye(4).double()
    for b in range(2):
        a, c = ((block[b].mean(0) + eye) / 2 for block in blocks[:2])
        assert_close(first[b], a, **EXACT)
        assert_close(both[b], c @ a, **EXACT)  # the later block stands on the left
    assert_close(three.sum(-1), torch.ones(2, 4).double(), **EXACT)
    assert rollout([torch.eye(4).expand(1, 2, 4, 4)] * 3).equal(torch.eye(4).expand(1, 4, 4))


# It can learn.


def test_a_batch_of_digits_is_learned_by_heart():
    torch.manual_seed(0)
    images, labels = (part[:32] for part in digits("train"))
    net = VisionTransformer(8, 2, 10, 1, width=16, depth=2, heads=4)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.05 and net(images).argmax(1).equal(labels)


def test_every_parameter_gets_a_gradient():
    net = small()
    net(randn(2, 2, 6, 4)).square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad.abs().max() > 1e-8, name
    with torch.no_grad():  # keys: a bias shifts all scores of a query alike
        bias = net.encoder.layers[0].self_attention.in_proj_bias
    assert bias.grad[8:16].abs().max() < 1e-10


def test_parameters_start_as_in_torchvision():
    torch.manual_seed(0)
    ours, theirs = vit_b_16(), torchvision.models.vit_b_16()
    for name, p in theirs.named_parameters():
        mine = ours.get_parameter(name)
        if p.std() > 1e-5:
            assert abs(mine.std() / p.std() - 1) < 0.1, name
        else:
            assert_close(mine, p, rtol=0, atol=1e-4)


# Bad input: one sentence that names the argument.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MultiHeadAttention(10, 3), "width wants to be a multiple of 3 heads, got 10"),
        (lambda: MultiHeadAttention(8, 0), "heads wants a whole number from 1 to 65536, got 0"),
        (
            lambda: MultiHeadAttention(4, 2)(torch.randn(2, 3, 5)),
            r"x wants the shape \(B, N, 4\), got \(2, 3, 5\)",
        ),
        (lambda: MultiHeadAttention(4, 2)(torch.randn(3, 4)), r"x wants the shape \(B, N, 4\), got \(3, 4\)"),
        (lambda: MultiHeadAttention(4, 2)(torch.randn(2, 0, 4)), "x wants at least one element along N"),
        (lambda: SqueezeExcitation(8), "reduction wants a whole number from 1 to 8, got 16"),
        (lambda: SqueezeExcitation(8, 0), "reduction wants a whole number from 1 to 8, got 0"),
        (lambda: SpatialAttention(4), "kernel_size wants an odd number, which has a middle, got 4"),
        (lambda: SpatialAttention()(torch.randn(4, 4)), r"x wants the shape \(B, C, H, W\), got \(4, 4\)"),
        (lambda: small((6, 5)), "patch_size wants to divide an image of 6×5, got 2"),
        (lambda: small(8, 2, width=9), "width wants to be a multiple of 2 heads, got 9"),
        (lambda: small(8, 2, 0), "num_classes wants a whole number"),
        (lambda: small(8, 2, depth=0), "depth wants a whole number"),
        (lambda: small((0, 8)), "image_size wants a whole number"),
        (lambda: small((8, 8, 8)), "image_size wants one whole number or two"),
        (lambda: small(8, 2, mlp_width=0), "mlp_width wants a whole number"),
        (lambda: small()(randn(1, 2, 4, 6)), r"x wants the shape \(B, 2, 6, 4\), got \(1, 2, 4, 6\)"),
        (lambda: small()(randn(1, 3, 6, 4)), r"x wants the shape \(B, 2, 6, 4\), got \(1, 3, 6, 4\)"),
        (lambda: small()(randn(2, 6, 4)), r"x wants the shape \(B, 2, 6, 4\), got \(2, 6, 4\)"),
        (lambda: small().encoder(randn(2, 1, 8)), r"x wants the shape \(B, 7, 8\), got \(2, 1, 8\)"),
        (
            lambda: attention(randn(3, 2), randn(4, 3), randn(4, 2)),
            r"k wants the shape \(M, 2\), got \(4, 3\)",
        ),
        (
            lambda: attention(randn(3, 2), randn(4, 2), randn(5, 2)),
            r"v wants the shape \(4, e\), got \(5, 2\)",
        ),
        (lambda: attention(randn(3, 2), randn(0, 2), randn(0, 2)), "k wants at least one element along M"),
        (
            lambda: attention(randn(1, 3, 2), randn(2, 4, 2), randn(2, 4, 2)),
            r"k wants the shape \(1, M, 2\), got \(2, 4, 2\)",
        ),
        (lambda: attention(randn(3), randn(4, 2), randn(4, 2)), r"q wants the shape \(…, N, d\), got \(3,\)"),
        (lambda: to_patches(randn(1, 1, 4, 6), 4), "patch_size wants to divide an image of 4×6, got 4"),
        (lambda: to_patches(randn(4, 6), 2), r"x wants the shape \(B, C, H, W\), got \(4, 6\)"),
        (lambda: rollout([]), "attention_weights wants a list of tensors, one a block, got an empty one"),
        (lambda: rollout([randn(2, 3, 3)]), r"attention_weights\[0\] wants the shape \(B, h, N, N\)"),
        (lambda: rollout([randn(1, 2, 3, 4)]), r"attention_weights\[0\] wants the shape \(1, h, 4, 4\)"),
        (
            lambda: rollout([randn(1, 2, 3, 3), randn(1, 2, 4, 4)]),
            r"attention_weights\[1\] wants the shape \(1, h, 3, 3\), got \(1, 2, 4, 4\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: attention([1.0], randn(1, 1), randn(1, 1)),
            r"q wants a torch.Tensor \(…, N, d\), got \[1.0\]",
        ),
        (
            lambda: attention(randn(1, 1), torch.ones(1, 1).long(), randn(1, 1)),
            "k wants a floating dtype, got torch.int64",
        ),
        (
            lambda: attention(randn(3, 2), randn(4, 2).float(), randn(4, 2)),
            "k wants the kind of q, torch.float64 on cpu, got torch.float32",
        ),
        (lambda: MultiHeadAttention(4, 2)([[1.0]]), r"x wants a torch.Tensor \(B, N, 4\), got"),
        (
            lambda: MultiHeadAttention(4, 2)(randn(1, 3, 4)),
            "x wants the kind of the model, torch.float32 on cpu, got torch.float64",
        ),
        (lambda: MultiHeadAttention(4, 2)(torch.randn(1, 3, 4), torch.randn(1, 3, 4)), "positional"),
        (
            lambda: small()(torch.zeros(1, 2, 6, 4, dtype=torch.uint8)),
            "x wants a floating dtype, got torch.uint8",
        ),
        (lambda: small(8, True), "patch_size wants a whole number from 1 to 65536, got True"),
        (lambda: SqueezeExcitation(8, 2)(randn(1, 8, 3, 3)), "x wants the kind of the model, torch.float32"),
        (lambda: SpatialAttention()(randn(1, 8, 3, 3)), "x wants the kind of the model, torch.float32"),
        (lambda: to_patches(torch.zeros(1, 1, 4, 4).long(), 2), "x wants a floating dtype"),
        (
            lambda: to_patches(randn(1, 1, 4, 6), 2.0),
            "patch_size wants a whole number from 1 to 65536, got 2.0",
        ),
        (lambda: rollout(randn(1, 1, 2, 2)), "attention_weights wants a list of tensors, one a block, got a"),
        (
            lambda: rollout([[1.0]]),
            r"attention_weights\[0\] wants a torch.Tensor \(B, h, N, N\), got \[1.0\]",
        ),
        (
            lambda: rollout([randn(1, 1, 2, 2), randn(1, 1, 2, 2).float()]),
            r"attention_weights\[1\] wants the kind of the first block, torch.float64",
        ),
        (lambda: rollout([torch.ones(1, 1, 2, 2).long()]), r"attention_weights\[0\] wants a floating dtype"),
    ],
)
def test_what_is_of_the_wrong_kind_is_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_autocast_makes_the_dtype_fit():
    net, x = small().float(), torch.randn(2, 2, 6, 4)
    squeeze, spatial = SqueezeExcitation(2, 1), SpatialAttention()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net(x).sum() + squeeze(x).sum() + spatial(x).sum()
        assert net(x).dtype == torch.bfloat16 and net.attention_weights(x)[1].shape == (2, 2, 7, 7)
    loss.backward()
    for layer in (net, squeeze, spatial):
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_an_empty_batch_is_fine():
    net, x = small(), randn(0, 2, 6, 4)
    assert net(x).shape == (0, 3)
    assert rollout(net.attention_weights(x)).shape == (0, 7, 7)


@pytest.mark.skipif(torch.__version__ < "2.7", reason="torch 2.6 cannot export a batch of any size")
def test_an_exported_transformer_takes_any_batch():
    net, x = small().float().eval(), torch.rand(2, 2, 6, 4)
    exported = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    images = torch.rand(5, 2, 6, 4)
    assert_close(exported(images), net(images))


def test_the_module_draws_nothing():
    assert "matplotlib" not in vars(module)


def test_a_patch_may_be_a_numpy_number():
    x = randn(1, 1, 4, 6)
    assert_close(to_patches(x, np.int64(2)), to_patches(x, 2))
