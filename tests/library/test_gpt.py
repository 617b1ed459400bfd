"""The Transformer against PyTorch's layer and against loops; then what any right one has: no look ahead,
probabilities that sum to 1, a cache that changes nothing, samples as often as they are likely."""

import math
from copy import deepcopy
from itertools import accumulate, pairwise, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support.no_float64 import RefuseFloat64
from vlmbook import gpt
from vlmbook.data import digits
from vlmbook.gpt import (
    GPT,
    Block,
    KVCache,
    complete,
    filter_logits,
    generate,
    gpt_loss,
    to_images,
    to_tokens,
)

EXACT = {"rtol": 1e-10, "atol": 1e-10}
with_and_without_cache = pytest.mark.parametrize("cache", [True, False])
shapes = {
    "batch": st.integers(1, 3),
    "n": st.integers(1, 9),
    "heads": st.integers(1, 4),
    "size": st.integers(1, 5),
    "seed": st.integers(0, 2**31),
}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def randint(high, *shape, seed=0):
    return torch.randint(high, shape, generator=seeded(seed))


def amplify(module, seed=0):
    """The module in float64 with weights so large that each matters, LayerNorms that are not the identity."""
    module, generator = module.double(), seeded(seed)
    with torch.no_grad():
        for p in module.parameters():
            size = p.shape[-1] ** -0.5 if p.ndim > 1 else 0.5
            p.copy_(size * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        for norm in (m for m in module.modules() if isinstance(m, nn.LayerNorm)):
            norm.weight += 1
        for embedding in (m for m in module.modules() if isinstance(m, nn.Embedding)):
            embedding.weight *= 3
    return module


def fresh(vocabulary=5, context=6, num_classes=3, *, seed=0, width=8, depth=2, heads=2):
    return amplify(GPT(vocabulary, context, num_classes, width=width, depth=depth, heads=heads), seed)


def values_and_gradients(run, leaves):
    """-> the output, and the gradient of its weighted sum for each leaf (0 where it is not used)."""
    y = run()
    factors = torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    return [y, *torch.autograd.grad(y, leaves, factors, materialize_grads=True)]


# Oracle: PyTorch's layer, then the whole in torch.nn.functional and loops.


def torch_layer(block):
    """Block -> nn.TransformerEncoderLayer with its weights, and these in the order of block.parameters()."""
    width = block.projection.in_features
    layer = nn.TransformerEncoderLayer(
        width,
        block.heads,
        4 * width,
        dropout=0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
        dtype=torch.float64,
    )
    attention = layer.self_attn
    theirs = [
        layer.norm1.weight,
        layer.norm1.bias,
        attention.in_proj_weight,
        attention.in_proj_bias,
        attention.out_proj.weight,
        attention.out_proj.bias,
        layer.norm2.weight,
        layer.norm2.bias,
        layer.linear1.weight,
        layer.linear1.bias,
        layer.linear2.weight,
        layer.linear2.bias,
    ]
    with torch.no_grad():
        for p, ours in zip(theirs, block.parameters(), strict=True):
            p.copy_(ours)
    assert len(theirs) == len(list(layer.parameters()))
    return layer, theirs


def causal(n):
    return torch.ones(n, n, dtype=torch.bool).triu(1)


@settings(max_examples=50, deadline=None)
@given(**shapes)
def test_block_is_pytorchs_layer_in_values_and_gradients(batch, n, heads, size, seed):
    block, x = (
        amplify(Block(heads * size, heads), seed),
        randn(batch, n, heads * size, seed=seed).requires_grad_(),
    )
    layer, theirs = torch_layer(block)
    mine = values_and_gradients(lambda: block(x), [x, *block.parameters()])
    assert_close(
        mine,
        values_and_gradients(lambda: layer(x, src_mask=causal(n), is_causal=True), [x, *theirs]),
        **EXACT,
    )


@settings(max_examples=30, deadline=None)
@given(**shapes)
def test_weights_are_those_of_pytorchs_layer_and_of_a_loop(batch, n, heads, size, seed):
    block, x = amplify(Block(heads * size, heads), seed), randn(batch, n, heads * size, seed=seed)
    found = block.attention_weights(x)
    layer, _ = torch_layer(block)
    normed = layer.norm1(x)
    _, theirs = layer.self_attn(normed, normed, normed, attn_mask=causal(n), average_attn_weights=False)
    assert_close(found, theirs, **EXACT)
    q, k, _ = F.linear(
        F.layer_norm(x, x.shape[-1:], block.norm1.weight, block.norm1.bias), block.qkv.weight, block.qkv.bias
    ).chunk(3, dim=-1)
    assert_close(found, attention_weights_loops(q, k, heads), **EXACT)


def attention_weights_loops(q, k, heads):
    """(B, N, D) twice -> (B, h, N, N)."""
    (batch, n, width), rows = q.shape, []
    size = width // heads
    for b, h, i in product(range(batch), range(heads), range(n)):
        part = slice(h * size, (h + 1) * size)
        scores = [(q[b, i, part] * k[b, j, part]).sum() / math.sqrt(size) for j in range(i + 1)]
        total = sum(score.exp() for score in scores)
        rows += [torch.stack([score.exp() / total for score in scores] + [q.new_zeros(())] * (n - 1 - i))]
    return torch.stack(rows).view(batch, heads, n, n)


def composed(model, tokens, labels):
    """-> logits, and the attention weights of each block: every formula written out, one position after
    the other.
    """
    get, depth, heads = dict(model.named_parameters()), len(model.blocks), model.blocks[0].heads

    def linear(name, x):
        return x @ get[f"{name}.weight"].T + get[f"{name}.bias"]

    def norm(name, x):
        x = x - x.mean(-1, keepdim=True)
        return (
            x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * get[f"{name}.weight"]
            + get[f"{name}.bias"]
        )

    rows = []
    for row, label in zip(tokens, labels, strict=True):
        before = [get["class_embedding.weight"][label], *(get["token_embedding.weight"][t] for t in row[:-1])]
        rows.append(torch.stack([x + get["position_embedding"][i] for i, x in enumerate(before)]))
    x, found = torch.stack(rows), []
    for i in range(depth):
        q, k, v = linear(f"blocks.{i}.qkv", norm(f"blocks.{i}.norm1", x)).chunk(3, dim=-1)
        attention_weights = attention_weights_loops(q, k, heads)
        seen = [attention_weights[:, h] @ part for h, part in enumerate(v.chunk(heads, dim=-1))]
        x = x + linear(f"blocks.{i}.projection", torch.cat(seen, dim=-1))
        z = linear(f"blocks.{i}.mlp.0", norm(f"blocks.{i}.norm2", x))
        x = x + linear(f"blocks.{i}.mlp.2", z * (1 + (z / math.sqrt(2)).erf()) / 2)
        found.append(attention_weights)
    return linear("head", norm("norm", x)), found


@settings(max_examples=12, deadline=None)
@given(
    **shapes,
    vocabulary=st.integers(2, 6),
    num_classes=st.integers(1, 4),
    depth=st.integers(1, 2),
    spare=st.integers(0, 3),
)
def test_gpt_is_its_composition_in_values_and_gradients(
    batch, n, heads, size, seed, vocabulary, num_classes, depth, spare
):
    model = fresh(vocabulary, n + spare, num_classes, width=heads * size, depth=depth, heads=heads, seed=seed)
    tokens, labels = randint(vocabulary, batch, n, seed=seed), randint(num_classes, batch, seed=seed)
    leaves = list(model.parameters())
    mine = values_and_gradients(lambda: model(tokens, labels), leaves)
    assert mine[0].shape == (batch, n, vocabulary)
    assert_close(mine, values_and_gradients(lambda: composed(model, tokens, labels)[0], leaves), **EXACT)
    assert_close(model.attention_weights(tokens, labels), composed(model, tokens, labels)[1], **EXACT)


def test_gpt_loss_is_the_mean_of_minus_log_probabilities():
    model, tokens, labels = fresh(), randint(5, 4, 6), randint(3, 4)
    logits, total = model(tokens, labels), 0
    for b, t in product(range(4), range(6)):
        total = total - (logits[b, t].exp()[tokens[b, t]] / logits[b, t].exp().sum()).log()
    leaves = list(model.parameters())
    assert_close(
        values_and_gradients(lambda: gpt_loss(model, tokens, labels), leaves),
        [(total / 24).detach(), *torch.autograd.grad(total / 24, leaves)],
        **EXACT,
    )
    assert gpt_loss(model, tokens[:, :3], labels) != gpt_loss(model, tokens, labels)


def test_float32_is_float64_but_for_rounding():
    model, tokens, labels = fresh(), randint(5, 4, 6), randint(3, 4)
    assert_close(
        deepcopy(model).float()(tokens, labels).double(), model(tokens, labels), rtol=1e-4, atol=1e-4
    )


# Structure.


@pytest.mark.parametrize("sizes", [(17, 64, 10, 64, 3, 4), (256, 784, 10, 24, 2, 8), (2, 1, 1, 1, 1, 1)])
def test_number_of_parameters_is_the_formulas(sizes):
    vocabulary, context, num_classes, width, depth, heads = sizes
    with torch.device("meta"):
        model = GPT(vocabulary, context, num_classes, width=width, depth=depth, heads=heads)
    embedded, block = (num_classes + vocabulary + context) * width, 12 * width**2 + 13 * width
    head = 2 * width + vocabulary * width + vocabulary
    assert sum(p.numel() for p in model.parameters()) == embedded + depth * block + head
    assert len(model.blocks) == depth and not list(model.buffers())


def test_default_sizes():
    model = GPT(17, 64, 10)
    assert (len(model.blocks), model.blocks[0].heads, model.position_embedding.shape) == (4, 4, (64, 128))


@pytest.mark.parametrize("vocabulary", [2, 17, 256])
def test_a_new_model_knows_nothing(vocabulary):
    torch.manual_seed(0)
    model = GPT(vocabulary, 64, 10)
    loss = gpt_loss(model, randint(vocabulary, 8, 64), randint(10, 8))
    assert abs(loss - math.log(vocabulary)) < 0.05


@pytest.mark.parametrize("depth", [2, 8])
def test_weights_start_small_and_those_into_the_stream_smaller_with_depth(depth):
    torch.manual_seed(0)
    model = GPT(17, 64, 10, width=64, depth=depth)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert (p == 0).all(), name
        elif "norm" in name:
            assert (p == 1).all(), name
        else:
            into = name.endswith(("projection.weight", "mlp.2.weight"))
            assert_close(p.std().item(), 0.02 / math.sqrt(2 * depth) if into else 0.02, rtol=0.1, atol=0)


def test_attention_weights_are_rows_of_probabilities_over_the_past():
    model, tokens, labels = fresh(), randint(5, 4, 6), randint(3, 4)
    for attention_weights in model.attention_weights(tokens, labels):
        assert attention_weights.shape == (4, 2, 6, 6)
        assert_close(attention_weights.sum(-1), torch.ones(4, 2, 6, dtype=torch.float64), **EXACT)
        assert (attention_weights.triu(1) == 0).all()
        assert (attention_weights + causal(6) > 0).all()


def test_attention_weights_are_what_attention_takes_with():
    block, x = amplify(Block(8, 2)), randn(3, 5, 8)
    normed = block.norm1(x)
    v = block.project_qkv(normed)[2]
    taken = (block.attention_weights(x) @ v).transpose(1, 2).flatten(2)
    assert_close(block.attend(normed), block.projection(taken), **EXACT)


def test_training_and_eval_mode_are_the_same():
    model, tokens, labels = fresh(), randint(5, 4, 6), randint(3, 4)
    assert_close(model.train()(tokens, labels), model.eval()(tokens, labels), rtol=0, atol=0)
    drawn = [generate(model.train(mode), labels, generator=seeded(0)) for mode in (True, False)]
    assert drawn[0].equal(drawn[1]) and not model.training


# Nothing looks ahead.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("context", [6, 40])
def test_no_logits_depend_on_their_token_or_later_ones(context, dtype):
    model, tokens, labels = fresh(context=context).to(dtype), randint(5, 3, context), randint(3, 3)
    logits = model(tokens, labels)
    for t in range(context):
        for changed in (slice(t, t + 1), slice(t, None)):
            other = tokens.clone()
            other[:, changed] = (other[:, changed] + 1) % 5
            assert_close(model(other, labels)[:, : t + 1], logits[:, : t + 1], rtol=0, atol=0)


def test_logits_depend_on_every_earlier_token_and_on_the_class():
    model, tokens, labels = fresh(), randint(5, 3, 6), randint(3, 3)
    logits = model(tokens, labels)
    for t in range(6):
        other = tokens.clone()
        other[:, t] = (other[:, t] + 1) % 5
        moved = (model(other, labels) - logits).abs().amax(-1)
        assert (moved[:, : t + 1] == 0).all() and (moved[:, t + 1 :] > 1e-6).all()
    assert ((model(tokens, (labels + 1) % 3) - logits).abs().amax(-1) > 1e-6).all()


def test_no_gradient_comes_from_later_positions():
    model, x = fresh(), randn(2, 6, 8).requires_grad_()
    for t, y in enumerate(model.predict_logits(x).unbind(1)):
        size = torch.autograd.grad(y.square().sum(), x, retain_graph=True)[0].abs().amax(-1)
        assert (size[:, t + 1 :] == 0).all() and (size[:, : t + 1] > 1e-9).all()


def test_the_first_tokens_alone_have_the_same_logits():
    model, tokens, labels = fresh(), randint(5, 3, 6), randint(3, 3)
    for n in range(1, 7):
        assert_close(model(tokens[:, :n], labels), model(tokens, labels)[:, :n], **EXACT)


def test_images_of_a_batch_do_not_meet_and_order_within_one_counts():
    model, tokens, labels = fresh(), randint(5, 4, 6), randint(3, 4)
    logits = model(tokens, labels)
    order = torch.tensor([2, 0, 3, 1])
    assert_close(model(tokens[order], labels[order]), logits[order], **EXACT)
    assert_close(
        torch.cat([model(*one) for one in zip(tokens.split(1), labels.split(1), strict=True)]),
        logits,
        **EXACT,
    )
    swapped = torch.stack([tokens[:, 1], tokens[:, 0], *tokens.T[2:]], dim=1)
    different = tokens[:, 0] != tokens[:, 1]
    moved = (model(swapped, labels) - logits)[:, 2:].abs().amax((1, 2))
    assert different.any() and (moved[different] > 1e-6).all() and (moved[~different] == 0).all()


# The joint probability.


def small(vocabulary=3, context=4):
    """A model with few images, all of these, and the log-probability of each for each class (classes,
    images).
    """
    model = fresh(vocabulary, context, 2)
    images = torch.tensor(list(product(range(vocabulary), repeat=context)))
    return model, images


def probabilities(model, images, label, **options):
    """(M, N) -> (M,): p(image | class), the product of its tokens' probabilities, as filtered."""
    with torch.no_grad():
        logits = model(images, torch.full((len(images),), label))
    total = torch.ones(len(images), dtype=torch.float64)
    for t in range(images.shape[1]):
        rows = torch.tensor(
            [filter_logits_loops(row, **options) for row in logits[:, t].tolist()], dtype=torch.float64
        )
        total *= rows.softmax(-1).gather(1, images[:, t : t + 1])[:, 0]
    return total


@pytest.mark.parametrize(("vocabulary", "context"), [(2, 6), (3, 4), (3, 1)])
def test_probabilities_of_all_images_sum_to_one(vocabulary, context):
    model, images = small(vocabulary, context)
    p = torch.stack([probabilities(model, images, label) for label in (0, 1)])
    assert_close(p.sum(1), torch.ones(2, dtype=torch.float64), **EXACT)
    assert (p[0] - p[1]).abs().sum() > 0.1 and p.max() > 1.5 / len(images)  # neither ignores anything
    for index in (0, len(images) // 2, len(images) - 1):
        one = images[index : index + 1]
        assert_close(gpt_loss(model, one, torch.tensor([1])) * context, -p[1, index].log(), **EXACT)


@with_and_without_cache
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 3.0},
        {"top_k": 2},
        {"top_p": 0.7},
        {"temperature": 2.0, "top_k": 2, "top_p": 0.6},
    ],
    ids=str,
)
def test_images_are_drawn_as_often_as_they_are_likely(options, cache):
    (model, images), draws = small(), 6000
    labels = torch.arange(2).repeat_interleave(draws)
    drawn = generate(model.float(), labels, use_cache=cache, generator=seeded(1), **options)
    numbers = (drawn * torch.tensor([27, 9, 3, 1])).sum(1)
    for label in (0, 1):
        wanted = draws * probabilities(model, images, label, **options)
        found = numbers[labels == label].bincount(minlength=81)
        assert (found[wanted == 0] == 0).all()
        few = wanted < 5  # together, as the test wants it
        pairs = [(found[few].sum(), wanted[few].sum()), *zip(found[~few], wanted[~few], strict=True)]
        error = sum((f - w) ** 2 / w for f, w in pairs if w > 0)
        assert len(pairs) > 5 and error < chi2.ppf(0.9999, len(pairs) - 1)


# The cache.


def predict_in_parts(model, x, ends):
    """(B, N, D), where each part ends -> (B, N, vocabulary)."""
    caches = [KVCache(model.context) for _ in model.blocks]
    parts = [model.predict_logits(x[:, start:end], caches) for start, end in pairwise([0, *ends])]
    assert all(cache.length == x.shape[1] for cache in caches)
    return torch.cat(parts, dim=1)


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    batch=st.integers(1, 3),
    spare=st.integers(0, 3),
    heads=st.integers(1, 3),
    depth=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_reading_in_parts_is_reading_at_once(parts, batch, spare, heads, depth, seed):
    model = fresh(context=sum(parts) + spare, width=4 * heads, heads=heads, depth=depth, seed=seed)
    x, ends = randn(batch, sum(parts), 4 * heads, seed=seed), list(accumulate(parts))
    assert_close(predict_in_parts(model, x, ends), model.predict_logits(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("first", [1, 2, 29, 64])
def test_the_cache_is_right_to_a_hundred_thousandth_in_float32(first):
    torch.manual_seed(0)
    model, x = GPT(17, 64, 10), randn(4, 64, 128).float()
    with torch.no_grad():
        assert_close(
            predict_in_parts(model, x, range(first, 65)), model.predict_logits(x), rtol=1e-5, atol=1e-5
        )


def test_gradients_pass_one_filling_of_the_cache():
    model, x = fresh(), randn(2, 6, 8).requires_grad_()
    assert_close(
        torch.autograd.grad(predict_in_parts(model, x, [6]).sum(), x)[0],
        torch.autograd.grad(model.predict_logits(x).sum(), x)[0],
        **EXACT,
    )


def test_cache_holds_the_keys_and_values_so_far():
    cache, k, v = KVCache(7), randn(2, 3, 5, 4), randn(2, 3, 5, 4, seed=1)
    for start, end in [(0, 2), (2, 3), (3, 5)]:
        keys, values, mask = cache.extend(k[:, :, start:end], v[:, :, start:end])
        assert_close([keys, values], [k[:, :, :end], v[:, :, :end]], rtol=0, atol=0)
        wanted = ~causal(7)[start:end, :end]
        assert mask.equal(wanted) if mask is not None else wanted.all()
    assert cache.length == 5


@pytest.mark.parametrize("length", [None, 0, 1, 4, 6])
def test_the_cache_changes_no_draw(length):
    model, labels = fresh(), randint(3, 50)
    prefix = None if length is None else randint(5, 50, length)
    drawn = [
        generate(model, labels, prefix=prefix, use_cache=cache, generator=seeded(3))
        for cache in (True, False)
    ]
    assert drawn[0].equal(drawn[1])


def test_with_the_cache_each_new_position_is_computed_once(monkeypatch):
    model, computed, prefix = fresh(), [], randint(5, 2, 2)

    def counting(x, caches=None):
        computed.append(x.shape[1])
        return GPT.predict_logits(model, x, caches)

    monkeypatch.setattr(model, "predict_logits", counting)
    generate(model, randint(3, 2), prefix=prefix)
    generate(model, randint(3, 2), prefix=prefix, use_cache=False)
    assert computed == [3, 1, 1, 1, 3, 4, 5, 6]


# Sampling.


def filter_logits_loops(row, temperature=1.0, top_k=None, top_p=None):
    """list -> list: the row in groups of equals, the likeliest first, as many as it takes."""
    row = [(value - max(row)) / temperature for value in row]
    kept = set(row)
    if top_k is not None:
        kept = {value for value in kept if sum(other > value for other in row) < top_k}
    if top_p is not None:
        share = {value: row.count(value) * math.exp(value - max(row)) for value in kept}
        reached = 0
        for value in sorted(kept, reverse=True):
            if reached >= top_p * sum(share.values()) and top_p < 1:
                kept.remove(value)
            reached += share[value]
    return [value if value in kept else -math.inf for value in row]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(1, 5).flatmap(
        lambda v: st.lists(st.lists(st.integers(-6, 6), min_size=v, max_size=v), min_size=1, max_size=3)
    ),
    temperature=st.sampled_from([0.31, 1.0, 2.7]),
    top_k=st.sampled_from([None, 1, 2, 3, 9]),
    top_p=st.sampled_from([None, 0.05, 0.317, 0.683, 0.9371, 1.0]),
)
def test_filter_logits_is_the_loop(rows, temperature, top_k, top_p):
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    logits = torch.tensor(rows, dtype=torch.float64) / 2
    before = logits.clone()
    wanted = torch.tensor(
        [filter_logits_loops(row, **options) for row in logits.tolist()], dtype=torch.float64
    )
    assert_close(filter_logits(logits, **options), wanted, **EXACT)
    assert logits.equal(before)


def kept(p, **options):
    return filter_logits(torch.tensor([p]).log(), **options).isfinite()[0].int().tolist()


def test_top_p_keeps_the_fewest_that_reach_it():
    p = [0.125, 0.5, 0.25, 0.0625, 0.0625]
    assert kept(p, top_p=1e-9) == kept(p, top_p=0.49) == [0, 1, 0, 0, 0]
    assert kept(p, top_p=0.51) == kept(p, top_p=0.74) == [0, 1, 1, 0, 0]
    assert kept(p, top_p=0.76) == kept(p, top_p=0.87) == [1, 1, 1, 0, 0]
    assert kept(p, top_p=0.88) == kept(p, top_p=1.0) == kept(p) == [1, 1, 1, 1, 1]  # the last two are equals
    assert kept([0.25] * 4, top_p=1e-9) == [1] * 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [5e-324, 1e-320, 1e-45, 1e-38, 1e-6])
def test_a_temperature_near_zero_is_the_argmax(temperature, dtype):
    logits = torch.tensor([[1.0, 3.0, 2.999, -40.0], [-1e4, -2e4, -1e4, -3e4]]).to(dtype)
    p = filter_logits(logits, temperature=temperature).softmax(-1)
    wanted = (logits == logits.amax(-1, keepdim=True)).to(dtype)
    assert_close(p, wanted / wanted.sum(-1, keepdim=True))


def test_a_huge_temperature_is_even_and_keeps_what_was_left_out():
    logits = torch.tensor([[0.0, 5.0, -math.inf, -40.0]])
    p = filter_logits(logits, temperature=1e300).softmax(-1)
    assert_close(p, torch.tensor([[1 / 3, 1 / 3, 0.0, 1 / 3]]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_in_half_precision_are_filtered_as_in_float32(dtype):
    logits = (3 * randn(4, 300)).to(dtype)
    options = {"temperature": 0.9, "top_k": 200, "top_p": 0.95}
    found = filter_logits(logits, **options)
    assert found.dtype == dtype
    assert_close(found, filter_logits(logits.float(), **options).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_without_a_largest_are_refused(value):
    with pytest.raises(ValueError, match="the largest of logits wants finite values"):
        filter_logits(torch.tensor([[0.0, 1.0], [value, 1.0]]))
    with pytest.raises(ValueError, match="the largest of logits wants finite values"):
        filter_logits(torch.full((1, 2), -math.inf))


def test_a_network_of_nan_is_refused_when_it_draws():
    model = fresh()
    with torch.no_grad():
        model.head.bias.fill_(math.nan)
    with pytest.raises(ValueError, match="the largest of logits wants finite values"):
        generate(model, LABELS)


def test_top_p_of_one_keeps_what_rounding_would_lose():
    logits = torch.tensor([[0.0, -17, -18, -30, -60]])  # 1 + 4e-8 is 1 in float32
    assert filter_logits(logits, top_p=1.0).equal(logits) and filter_logits(logits, top_p=1).equal(logits)


def test_top_k_keeps_k_and_what_equals_the_last():
    p = [0.1, 0.4, 0.2, 0.1, 0.2]
    assert [sum(kept(p, top_k=k)) for k in (1, 2, 3, 4, 5, 99)] == [1, 3, 3, 5, 5, 5]
    assert kept(p, top_k=1) == [0, 1, 0, 0, 0] and kept(p, top_k=2) == [0, 1, 1, 0, 1]


def test_top_p_counts_among_the_k_at_this_temperature():
    p = [0.4, 0.3, 0.2, 0.1]
    assert kept(p, top_p=0.5) == [1, 1, 0, 0] and kept(p, top_p=0.5, top_k=2) == [1, 0, 0, 0]
    assert kept(p, top_p=0.5, temperature=0.1) == [1, 0, 0, 0] and kept(p, top_p=0.5, temperature=1e3) == [
        1,
        1,
        0,
        0,
    ]
    assert kept(p, top_p=0.6, temperature=1e3) == [1, 1, 1, 0]


def greedy(model, labels):
    tokens = torch.zeros(len(labels), model.context, dtype=torch.int64)
    for t in range(model.context):
        tokens[:, t] = model(tokens, labels)[:, t].argmax(-1)
    return tokens


@with_and_without_cache
@pytest.mark.parametrize(
    "options",
    [{"temperature": 1e-6}, {"top_k": 1}, {"top_p": 1e-9}, {"top_k": 1, "temperature": 50.0}],
    ids=str,
)
def test_filter_logits_to_the_likeliest_is_the_argmax(options, cache):
    model, labels = fresh(), randint(3, 20)
    assert generate(model, labels, use_cache=cache, **options).equal(greedy(model, labels))


@with_and_without_cache
@pytest.mark.parametrize("n", range(7))
def test_the_prefix_is_kept_and_the_others_follow_it(n, cache):
    model, labels, prefix = fresh(), randint(3, 8), randint(5, 8, n)
    tokens = generate(model, labels, prefix=prefix, top_k=1, use_cache=cache)
    assert tokens.shape == (8, 6)
    assert tokens.dtype == torch.int64
    assert tokens[:, :n].equal(prefix)
    likeliest = model(tokens, labels).argmax(-1)
    assert tokens[:, n:].equal(likeliest[:, n:])


def test_the_same_generator_draws_the_same_and_the_model_stays():
    model, labels = fresh().train(), randint(3, 20)
    state, prefix = deepcopy(model.state_dict()), randint(5, 20, 2)
    a, b, c = (generate(model, labels, prefix=prefix, generator=seeded(s)) for s in (0, 0, 1))
    assert a.equal(b)
    assert not a.equal(c)
    assert not a.requires_grad
    assert_close(dict(model.state_dict()), dict(state), rtol=0, atol=0)
    assert model.training
    assert torch.is_grad_enabled()
    assert prefix.equal(randint(5, 20, 2))
    torch.manual_seed(7)
    d = generate(model, labels)
    torch.manual_seed(7)
    assert d.equal(generate(model, labels))
    assert not d.equal(generate(model, labels))


@with_and_without_cache
def test_nothing_asked_for_is_nothing_drawn(cache):
    model = fresh()
    assert generate(model, torch.zeros(0, dtype=torch.int64), use_cache=cache).shape == (0, 6)
    assert model(torch.zeros(0, 6, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)).shape == (0, 6, 5)


# Half precision.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_float32_but_for_rounding(dtype):
    model, tokens, labels = fresh().to(dtype), randint(5, 4, 6), randint(3, 4)
    single = deepcopy(model).float()
    assert_close(model(tokens, labels).float(), single(tokens, labels), rtol=0.05, atol=0.1)
    loss = gpt_loss(model, tokens, labels)
    assert loss.dtype == torch.float32
    assert_close(loss, gpt_loss(single, tokens, labels), rtol=0.05, atol=0.02)
    for attention_weights in model.attention_weights(tokens, labels):
        assert attention_weights.dtype == torch.float32
        assert_close(attention_weights.sum(-1), torch.ones(4, 2, 6))


def test_the_loss_of_half_precision_logits_is_summed_in_float32():
    model = fresh(vocabulary=5, context=1000).to(torch.float16)
    tokens, labels = randint(5, 4, 1000), randint(3, 4)
    with torch.no_grad():
        logits = model(tokens, labels).double()
    wanted = F.cross_entropy(logits.flatten(0, 1), tokens.flatten())
    assert_close(gpt_loss(model, tokens, labels).double(), wanted, rtol=1e-5, atol=0)


def test_attention_weights_survive_scores_beyond_float16():
    block = Block(8, 2).to(torch.float16)
    with torch.no_grad():
        block.qkv.weight.fill_(60.0)
    x = randn(1, 3, 8).to(torch.float16)
    assert_close(block.attention_weights(x).sum(-1), torch.ones(1, 2, 3))


def test_no_float64_is_made():
    with RefuseFloat64():
        gpt_loss(MODEL, TOKENS, LABELS).backward()
        MODEL.attention_weights(TOKENS, LABELS)
        complete(MODEL, IMAGES, LABELS, 1, temperature=0.9, top_k=4, top_p=0.9)
    MODEL.zero_grad()


def test_shapes_can_be_asked_on_the_meta_device():
    model = deepcopy(MODEL).to("meta")
    assert model(TOKENS.to("meta"), LABELS.to("meta")).shape == (4, 6, 5)


@with_and_without_cache
@pytest.mark.parametrize("n", [0, 3])
def test_a_bfloat16_model_draws_in_float32(n, cache, monkeypatch):
    dtypes = []

    def filter_and_note(logits, **options):
        dtypes.append(logits.dtype)
        return filter_logits(logits, **options)

    monkeypatch.setattr(gpt, "filter_logits", filter_and_note)
    model = fresh().to(torch.bfloat16)
    tokens = generate(model, randint(3, 9), prefix=randint(5, 9, n), use_cache=cache)
    assert tokens.shape == (9, 6)
    assert set(dtypes) == {torch.float32}


def test_the_cache_of_a_bfloat16_model_is_bfloat16():
    model, caches = fresh().to(torch.bfloat16), [KVCache(6), KVCache(6)]
    model.predict_logits(torch.zeros(3, 2, 8, dtype=torch.bfloat16), caches)
    assert all(each.keys.dtype == each.values.dtype == torch.bfloat16 for each in caches)


def test_under_autocast_the_cache_keeps_the_keys_as_they_come():
    torch.manual_seed(0)
    model, x, labels = GPT(17, 64, 10), randn(4, 64, 128).float(), randint(10, 4)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        caches = [KVCache(64) for _ in model.blocks]
        parts = [
            model.predict_logits(x[:, start:end], caches) for start, end in [(0, 20), (20, 21), (21, 64)]
        ]
        assert_close(torch.cat(parts, dim=1), model.predict_logits(x), rtol=0.05, atol=0.02)
        assert caches[0].keys.dtype == torch.bfloat16
        assert generate(model, labels, top_k=5).shape == (4, 64)
        loss = gpt_loss(model, randint(17, 4, 64), labels)
    assert loss.dtype == torch.float32 and abs(loss - math.log(17)) < 0.05


# Images and tokens.


def test_all_digits_come_back_from_their_tokens():
    for split in ("train", "test"):
        images, _ = digits(split)
        tokens = to_tokens(images, 17)
        assert tokens.shape == (len(images), 64) and tokens.dtype == torch.int64
        assert tokens.unique().equal(torch.arange(17)) and (tokens / 16).view_as(images).equal(images)
        assert to_images(tokens, 17, (8, 8)).equal(images)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("vocabulary", [2, 3, 17, 255, 256])
def test_every_level_comes_back(vocabulary, dtype):
    images = (torch.arange(vocabulary, dtype=dtype) / (vocabulary - 1)).view(1, 1, 1, vocabulary)
    tokens = to_tokens(images, vocabulary)
    assert tokens.equal(torch.arange(vocabulary)[None])
    back = to_images(tokens, vocabulary, (1, vocabulary))
    assert back.dtype == torch.float32
    assert_close(back, images.float(), rtol=0, atol=1e-3 if dtype == torch.float16 else 1e-6)
    between = images + 0.4 / (vocabulary - 1)
    assert to_tokens(between.clamp(max=1), vocabulary).equal(tokens)
    assert to_tokens(between.flip(-1).clamp(max=1).flip(-1), vocabulary).equal(tokens)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_levels_of_half_precision_are_those_of_float32(dtype):
    images = randn(2, 1, 20, 30).sigmoid().to(dtype)
    assert to_tokens(images, 5000).equal(to_tokens(images.float(), 5000))


def test_pixels_go_row_by_row():
    image = randint(256, 2, 1, 3, 5) / 255
    tokens = to_tokens(image, 256)
    for b, i, j in product(range(2), range(3), range(5)):
        assert tokens[b, 5 * i + j] == round(255 * image[b, 0, i, j].item())
    assert_close(to_images(tokens, 256, (3, 5)), image)


@with_and_without_cache
@pytest.mark.parametrize("rows", range(4))
def test_complete_keeps_the_rows_it_knows_and_gives_levels(rows, cache):
    model, labels = fresh(5, 6), randint(3, 9)
    images = torch.rand(9, 1, 3, 2, generator=seeded(0))
    before = images.clone()
    found = complete(model, images, labels, rows, use_cache=cache, generator=seeded(2))
    levels = 4 * found
    assert (
        found.shape == images.shape and levels.equal(levels.round()) and 0 <= found.min() <= found.max() <= 1
    )
    assert found[:, :, :rows].equal((4 * images[:, :, :rows]).round() / 4)
    prefix = to_tokens(images, 5)[:, : 2 * rows]
    assert to_tokens(found, 5).equal(generate(model, labels, prefix=prefix, generator=seeded(2)))
    assert images.equal(before)
    changed = images.clone()
    changed[:, :, rows:] = 1 - changed[:, :, rows:]  # it does not see what it is to draw
    assert complete(model, changed, labels, rows, generator=seeded(2)).equal(found)


def test_complete_passes_sampling_on():
    model, labels, images = fresh(5, 6), randint(3, 9), torch.zeros(9, 1, 3, 2)
    likeliest = to_images(
        generate(model, labels, prefix=torch.zeros(9, 2, dtype=torch.int64), top_k=1), 5, (3, 2)
    )
    for options in ({"top_k": 1}, {"temperature": 1e-6}, {"top_p": 1e-9}):
        assert complete(model, images, labels, 1, **options).equal(likeliest)


# Learning.


def test_gradients_reach_every_parameter_that_is_read():
    model, labels = fresh(5, 7), torch.arange(3)
    tokens = torch.tensor([[0, 1, 2, 3, 0, 1, 4]] * 3)  # level 4 is only ever the last
    gpt_loss(model, tokens, labels).backward()
    for name, p in model.named_parameters():
        assert p.grad.isfinite().all() and p.grad.abs().max() > 1e-9, name
    for p in (model.position_embedding, model.class_embedding.weight, model.head.weight):
        assert (p.grad.abs().amax(1) > 1e-9).all()
    assert (model.token_embedding.weight.grad[:4].abs().amax(1) > 1e-9).all()
    assert (model.token_embedding.weight.grad[4] == 0).all()  # nothing comes after the last token
    keys = model.blocks[0].qkv.bias.grad[8:16]
    assert keys.abs().max() < 1e-12  # one vector added to all keys shifts all scores


def test_one_batch_is_learned():
    images, labels = (part[:16] for part in digits("train"))
    tokens = to_tokens(images, 17)
    torch.manual_seed(0)
    model = GPT(17, 64, 10, width=64, depth=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        loss = gpt_loss(model, tokens, labels)
        loss.backward()
        optimizer.step()
    often = F.one_hot(tokens, 17).double().mean(0)  # these pixels' own histograms
    histogram = -(often * often.clamp(min=1e-9).log()).sum(-1).mean()
    assert loss < 0.3 < 1 < histogram
    upside_down = to_tokens(images.flip(2), 17)
    assert gpt_loss(model, upside_down, labels) > 2  # it has learned these rows in this order
    found = complete(model, images, labels, 4, top_k=1)
    assert (found - images).abs().mean() < 0.05 < 0.1 < (found - images.roll(1, 0)).abs().mean()


# Bad input: one sentence names the argument, what it wants and what it got.


MODEL = GPT(5, 6, 3, width=8, depth=2, heads=2)
TOKENS, LABELS = torch.zeros(4, 6, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
IMAGES, LOGITS = torch.zeros(4, 1, 3, 2), torch.zeros(2, 5)
EMBEDDINGS = torch.zeros(1, 6, 8)

BAD_LABELS = [
    (LABELS.float(), TypeError, "labels wants torch.int64, got torch.float32"),
    ([0] * 4, TypeError, r"labels wants a torch.Tensor \(B,\), got"),
    (LABELS[:, None], ValueError, r"labels wants the shape \(B,\), got \(4, 1\)"),
    (LABELS + 3, ValueError, "labels wants values from 0 to 2, got from 3 to 3"),
    (LABELS - 1, ValueError, "labels wants values from 0 to 2, got from -1 to -1"),
    (LABELS.to("meta"), ValueError, "labels wants to be on cpu, got meta"),
]
BAD_TOKENS = [
    (TOKENS.byte(), TypeError, "tokens wants torch.int64, got torch.uint8"),
    (TOKENS[0], ValueError, r"tokens wants the shape \(4, N\), got \(6,\)"),
    (TOKENS[:3], ValueError, r"tokens wants the shape \(4, N\), got \(3, 6\)"),
    (TOKENS + 5, ValueError, "tokens wants values from 0 to 4, got from 5 to 5"),
    (torch.cat([TOKENS, TOKENS], 1), ValueError, "tokens wants at most 6 columns, got 12"),
    (TOKENS.to("meta"), ValueError, "tokens wants to be on cpu, got meta"),
]
BAD_OPTIONS = [
    ({"temperature": 0}, ValueError, "temperature wants a finite number above 0, got 0"),
    ({"temperature": math.nan}, ValueError, "temperature wants a finite number above 0, got nan"),
    ({"temperature": "1"}, TypeError, "temperature wants a finite number above 0, got '1'"),
    ({"top_k": 0}, ValueError, "top_k wants a whole number of at least 1, got 0"),
    ({"top_k": 2.0}, TypeError, "top_k wants a whole number of at least 1, got 2.0"),
    ({"top_p": 0}, ValueError, "top_p wants a finite number above 0 and of at most 1, got 0"),
    ({"top_p": 1.0001}, ValueError, "top_p wants a finite number above 0 and of at most 1, got 1.0001"),
]
BAD_IMAGES = [
    (IMAGES.long(), TypeError, "images wants a floating dtype, got torch.int64"),
    (IMAGES[0], ValueError, r"images wants the shape \(B, 1, H, W\), got \(1, 3, 2\)"),
    (IMAGES.expand(4, 3, 3, 2), ValueError, r"images wants the shape \(B, 1, H, W\), got \(4, 3, 3, 2\)"),
    (IMAGES + 1.5, ValueError, "images wants values from 0 to 1, got from 1.5 to 1.5"),
    (IMAGES / 0, ValueError, "images wants values from 0 to 1, got from nan to nan"),
]
BAD = {
    "forward-labels": (lambda labels: MODEL(TOKENS, labels), BAD_LABELS),
    "forward-tokens": (lambda tokens: MODEL(tokens, LABELS), BAD_TOKENS),
    "embed-tokens": (lambda tokens: MODEL.embed(tokens, LABELS), BAD_TOKENS),
    "attention_weights-tokens": (lambda tokens: MODEL.attention_weights(tokens, LABELS), BAD_TOKENS),
    "gpt_loss-tokens": (lambda tokens: gpt_loss(MODEL, tokens, LABELS), BAD_TOKENS),
    "generate-labels": (lambda labels: generate(MODEL, labels), BAD_LABELS),
    "generate-prefix": (
        lambda tokens: generate(MODEL, LABELS, prefix=tokens),
        [(tokens, kind, message.replace("tokens", "prefix")) for tokens, kind, message in BAD_TOKENS],
    ),
    "generate-options": (lambda options: generate(MODEL, LABELS, **options), BAD_OPTIONS),
    "filter_logits-options": (lambda options: filter_logits(LOGITS, **options), BAD_OPTIONS),
    "to_tokens-images": (lambda images: to_tokens(images, 5), BAD_IMAGES),
    "complete-images": (lambda images: complete(MODEL, images, LABELS, 1), BAD_IMAGES),
    "complete-labels": (lambda labels: complete(MODEL, IMAGES, labels, 1), BAD_LABELS),
    "complete-options": (lambda options: complete(MODEL, IMAGES, LABELS, 1, **options), BAD_OPTIONS),
}


@pytest.mark.parametrize(
    ("call", "value", "kind", "message"),
    [
        pytest.param(call, *case, id=f"{name}-{number}")
        for name, (call, cases) in BAD.items()
        for number, case in enumerate(cases)
    ],
)
def test_bad_input_is_refused_by_name(call, value, kind, message):
    with pytest.raises(kind, match=message):
        call(value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Block(10, 3), "width wants a multiple of the 3 heads, got 10"),
        (lambda: GPT(5, 6, 3, width=10, heads=4), "width wants a multiple of the 4 heads, got 10"),
        (lambda: Block(8, 0), "heads wants a whole number of at least 1, got 0"),
        (lambda: GPT(1, 6, 3), "vocabulary wants a whole number from 2 to"),
        (lambda: MODEL(TOKENS[:, :0], LABELS), "x wants at least one element along N"),
        (lambda: MODEL.predict_logits(torch.zeros(1, 7, 8)), "x wants at most 6 positions .*, got 7"),
        (lambda: MODEL.predict_logits(EMBEDDINGS, []), "caches wants a KVCache for each of the 2 blocks"),
        (lambda: MODEL.add_positions(EMBEDDINGS, 1), "x wants at most 6 positions .*, got 7"),
        (lambda: filter_logits(torch.zeros(4)), r"logits wants the shape \(B, V\), got \(4,\)"),
        (lambda: to_tokens(IMAGES, 1), "vocabulary wants a whole number from 2 to .*, got 1"),
        (lambda: to_images(TOKENS, 5, (2, 2)), r"tokens wants the shape \(B, 4\), got \(4, 6\)"),
        (lambda: to_images(TOKENS + 5, 5, (3, 2)), "tokens wants values from 0 to 4, got from 5 to 5"),
        (lambda: complete(MODEL, IMAGES[:, :, :2], LABELS, 1), "images wants 6 pixels, got 2×2"),
        (lambda: complete(MODEL, IMAGES[:3], LABELS, 1), r"prefix wants the shape \(4, N\), got \(3, 2\)"),
        (lambda: complete(MODEL, IMAGES, LABELS, 4), "kept_rows wants a whole number from 0 to 3, got 4"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_full_cache_takes_no_further_position():
    caches = [KVCache(6), KVCache(6)]
    MODEL.predict_logits(EMBEDDINGS, caches)
    with pytest.raises(ValueError, match=r"x wants at most 6 positions .*, got 7"):
        MODEL.predict_logits(EMBEDDINGS[:, :1], caches)
    assert caches[0].length == 6
    with pytest.raises(ValueError, match="k wants at most 0 positions, got 1"):
        caches[0].extend(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4))


def test_caches_that_are_one_or_of_several_lengths_are_refused():
    one = KVCache(6)
    with pytest.raises(ValueError, match=r"caches wants 2 different caches of one length, .* \[0, 0\]"):
        MODEL.predict_logits(EMBEDDINGS[:, :2], [one, one])
    one.extend(torch.zeros(1, 2, 2, 4), torch.zeros(1, 2, 2, 4))
    with pytest.raises(ValueError, match=r"caches wants 2 different caches of one length, .* \[2, 0\]"):
        MODEL.predict_logits(EMBEDDINGS[:, :2], [one, KVCache(6)])


def test_a_cache_takes_only_keys_of_the_batch_it_began_with():
    caches = [KVCache(6), KVCache(6)]
    MODEL.predict_logits(EMBEDDINGS[:, :2], caches)
    with pytest.raises(ValueError, match=r"k wants the shape \(1, 2, 1, 4\), got \(3, 2, 1, 4\)"):
        MODEL.predict_logits(torch.zeros(3, 1, 8), caches)


def test_a_model_elsewhere_wants_its_tokens_there():
    model = deepcopy(MODEL).to("meta")
    with pytest.raises(ValueError, match="labels wants to be on meta, got cpu"):
        model(TOKENS, LABELS)
