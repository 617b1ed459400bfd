"""Exercises of chapter 4c, GPT."""

import torch

from vlmbook.chapters.measured import judge_two_variants
from vlmbook.gpt import GPT
from vlmbook.notebook.exercises import (
    Exercise,
    Wrong,
    as_number,
    as_shape,
    as_tensor,
    require_values,
)
from vlmbook.notebook.messages import message

# --- 1: the shape of the cached keys ------------------------------------------------------------------------


def judge_cached_keys(answer):
    got = as_shape(answer, "heads divide the width without a rest", "(images, heads, positions, size)")
    batch, heads, positions, size = got
    if got == (3, 21, 4, 16):
        raise Wrong("Heads and positions are exchanged: (images, heads, positions, size).")
    if batch != 3:
        raise Wrong("{batch} images? Three are drawn at once; each has keys of its own.", batch=batch)
    if heads == 2:
        raise Wrong(
            "2 is the depth: each block has a cache of its own, and the exercise asks for one block's."
        )
    if heads != 4:
        raise Wrong("{heads} heads? The network has heads=4.", heads=heads)
    if size in (64, 192):
        raise Wrong(
            "Size {size}: the width of 64 is shared out among the heads; keys are counted without queries "
            "and "
            "values.",
            size=size,
        )
    if size != 16:
        raise Wrong("Size {size}: each of 4 heads gets an equal part of the width 64.", size=size)
    if positions == 20:
        raise Wrong("The class stands at a position too, before the first pixel.")
    if positions == 64:
        raise Wrong("64 is the context, the most that a cache holds; count what the network has read.")
    if positions != 21:
        raise Wrong(
            "{positions} positions: count the class and the pixels that were read.", positions=positions
        )


# --- 2: how many scores -------------------------------------------------------------------------------------


def judge_scores(answer):
    for n, cache in ((5, True), (5, False), (1, True), (1, False), (64, True), (64, False), (784, False)):
        got = as_number(answer(n, cache), f"scores({n}, {cache})")
        want = scores(n, cache)
        if got == want:
            continue
        exchanged = got == scores(n, not cache)
        if exchanged and as_number(answer(n, not cache), f"scores({n}, {not cache})") == want:
            slip = "With and without the cache are exchanged."
        else:
            slip = _name_slip_of_scores(got, n, cache)
        raise Wrong(
            "scores({n}, {cache}) is {got:g}, not {want}. {slip}",
            n=n,
            cache=cache,
            got=got,
            want=want,
            slip=message(slip, n=n),
        )


def _name_slip_of_scores(got, n, cache):
    """A wrong number -> the sentence that says where it comes from."""
    slips = [
        (cache, n**2, "The first position meets only itself, and the t-th meets t: not n each time."),
        (
            not cache,
            n**2,
            "That is one pass over all positions, as in training. Drawing takes a pass for each pixel.",
        ),
        (True, n**3, "The t-th pass has t positions, not n."),
        (not cache, n, "Without a cache pass t computes scores for all pairs of its t positions."),
        (
            not cache,
            n * (n + 1) // 2,
            "Without a cache pass t computes scores for all pairs of its t positions.",
        ),
        (
            not cache,
            sum(t * (t + 1) // 2 for t in range(1, n + 1)),
            "You left out what the mask throws away; it is computed all the same.",
        ),
        (True, 2 * scores(n, cache), "That is twice as many: one score for a query and a key."),
        (True, n * (n - 1) // 2, "Each position meets itself as well."),
        (
            True,
            scores(n + 1, cache),
            "The last pixel is drawn and not read: n passes, the first of them over the class.",
        ),
        (True, scores(n - 1, cache), "The pass over the class alone counts too; it gives the first pixel."),
    ]
    for applies, value, sentence in slips:
        if applies and got == value:
            return sentence
    return "Pass t, from 1 to {n}, holds t positions: how many pairs are new in it?"


def scores(n, cache):
    return sum(t if cache else t * t for t in range(1, n + 1))


# --- 3: min-p -----------------------------------------------------------------------------------------------


def judge_min_p(answer):
    generator = torch.Generator().manual_seed(5)
    for share in (0.1, 0.5, 1.0):
        logits = torch.randn(40, 9, generator=generator) * torch.linspace(0.2, 1.6, 40)[:, None] + 3
        want = min_p(logits, share)
        got = as_tensor(answer(logits.clone(), share), want, f"share {share}")
        kept, required = got > -torch.inf, want > -torch.inf
        if got.isnan().any():
            raise Wrong("The result holds NaN. What is left out needs −inf.")
        if torch.equal(kept, required) and torch.allclose(got[kept], want[kept], atol=1e-5):
            continue
        if got.min() >= 0 and got.max() <= 1:
            raise Wrong(
                "These look like probabilities. The exercise asks for logits, with −inf for the others."
            )
        _name_slip_of_min_p(got, kept, required, logits, share)


def _name_slip_of_min_p(got, kept, required, logits, share):
    p = logits.softmax(-1)
    largest = p.amax(-1, keepdim=True)
    if torch.equal(kept, required):
        raise Wrong("The right levels are kept, but their logits have changed; only the others become −inf.")
    if torch.equal(kept, logits >= share * logits.amax(-1, keepdim=True)):
        raise Wrong("You compare logits. The rule is about probabilities: softmax first.")
    if torch.equal(kept, p > share * largest):
        raise Wrong("The bound itself is kept: >=, not >.")
    if torch.equal(kept, p >= share):
        raise Wrong(
            "You keep p >= {share}. The bound is {share} times the largest p of the row.", share=share
        )
    if torch.equal(kept, ~required):
        raise Wrong("You keep the unlikely ones, and drop the others.")
    if torch.equal(kept, p >= share * p.max()):
        raise Wrong("You compare with the largest of the whole batch; each row has its own likeliest level.")
    if kept.all() and torch.equal(got > logits - 1, required):
        raise Wrong(
            "What is left out needs −inf: exp of 0, or of a large negative number, still has a share."
        )
    if not kept.any(-1).all():
        raise Wrong("At share {share} a row keeps no level. The likeliest level always stays.", share=share)
    row = (kept != required).any(-1).nonzero()[0, 0]
    raise Wrong(
        "At share {share} a row keeps {got} levels, not {want}.",
        share=share,
        got=int(kept[row].sum()),
        want=int(required[row].sum()),
    )


def min_p(logits, share):
    p = logits.softmax(-1)
    return logits.masked_fill(p < share * p.amax(-1, keepdim=True), float("-inf"))


# --- 4: a mask for any order --------------------------------------------------------------------------------


def judge_mask_for(answer):
    for order in ([1, 3, 4, 0, 2], [0, 1, 2, 3], [3, 2, 1, 0], [1, 2, 3, 4, 0]):
        order = torch.tensor(order)
        want = mask_for(order)
        answered = answer(order.clone())
        got = as_tensor(answered, want.double(), f"order {order.tolist()}")  # as numbers: NaN stays NaN
        if answered.dtype != torch.bool:
            raise Wrong(
                "True and False are wanted, this is {dtype}; add .bool() behind it.",
                dtype=str(answered.dtype),
            )
        if not torch.equal(got, want.double()):
            _name_slip_of_mask(got == 1, want, order)


def _name_slip_of_mask(got, want, order):
    n = len(order)
    fields = {"order": order.tolist()}
    if torch.equal(got, want & ~torch.eye(n).bool()):
        raise Wrong("A position sees itself as well: its content was written before.")
    if torch.equal(got, want.T):
        raise Wrong(
            "For order {order} the positions see what comes after them: rows and columns are exchanged.",
            **fields,
        )
    if torch.equal(got, ~want):
        raise Wrong("True marks what a position may see; you mark what it may not.")
    if torch.equal(got, torch.ones(n, n).tril().bool()):
        raise Wrong(
            "For order {order} you give the mask of row by row; rows and columns are positions, and "
            "`order` tells "
            "when each is written.",
            **fields,
        )
    if torch.equal(got, order[:, None] >= order):
        raise Wrong(
            "You compare the entries of `order`, which are positions. Compare when each position is "
            "written: its "
            "rank, order.argsort()."
        )
    if torch.equal(got, want):
        raise Wrong("For order {order} the mask holds numbers that are neither 0 nor 1.", **fields)
    i, j = (got != want).nonzero()[0].tolist()
    if want[i, j]:
        raise Wrong("For order {order} position {i} may see {j}: {j} is written first.", i=i, j=j, **fields)
    raise Wrong("For order {order} position {i} may not see {j}: {i} is written first.", i=i, j=j, **fields)


def mask_for(order):
    rank = order.argsort()  # when is each position written?
    return rank[:, None] >= rank


# --- 5: the class of a part of an image ---------------------------------------------------------------------


def judge_classes_from(answer):
    net, tokens = _make_network_and_tokens()
    for length in (3, 6, 1, 0):
        want = classes_from(net, tokens, length)
        got = as_tensor(_ask_classes(answer, net, tokens, length), want, f"length {length}")
        if not torch.allclose(got, want, atol=1e-4):
            _name_slip_of_classes(got, _compute_log_p(net, tokens), length)
            require_values(got, want, f"length {length}")


def _ask_classes(answer, net, tokens, length):
    try:
        return answer(net, tokens.clone(), length)
    except ValueError as error:
        if not str(error).startswith("labels wants values"):
            raise
        raise Wrong(
            "You ask for a class that this network does not have: it has model.num_classes = {count}.",
            count=net.num_classes,
        ) from None


def _make_network_and_tokens():
    """A network of four classes with large weights, three rows of six tokens."""
    generator = torch.Generator().manual_seed(6)
    net = GPT(5, 6, 4, width=8, depth=1, heads=2).eval().requires_grad_(False)
    for parameter in net.parameters():
        scale = parameter.ndim == 1 and parameter.shape == (8,)
        parameter.copy_(0.8 * torch.randn(parameter.shape, generator=generator) + (1 if scale else 0))
    return net, torch.randint(5, (3, 6), generator=generator)


def _name_slip_of_classes(got, log_p, length):
    """log_p: (B, K, N), log p(x_t | x_<t, c)."""
    terms = log_p[..., :length]
    slips = [
        (
            length < 6,
            log_p.sum(-1).softmax(-1),
            "At length {length} all tokens are used. The rest of the image is not known yet.",
        ),
        (
            length > 0,
            terms.mean(-1).softmax(-1),
            "You take the mean of the log-probabilities over the tokens; the chain rule wants their sum.",
        ),
        (
            True,
            terms.sum(-1),
            "These are log p(x | c). Bayes' rule: exp, and divide by the sum over the classes.",
        ),
        (
            True,
            terms.sum(-1).exp(),
            "These are p(x | c), which do not sum to 1 over the classes: divide by their sum.",
        ),
        (True, terms.sum(-1).softmax(0), "The softmax runs over the images; the classes are axis 1."),
        (
            length < 6,
            log_p[..., : length + 1].sum(-1).softmax(-1),
            "At length {length} you use one token more.",
        ),
        (
            length > 0,
            log_p[..., length - 1].softmax(-1),
            "You use the last known token alone; all known tokens tell something about the class.",
        ),
    ]
    for applies, value, sentence in slips:
        if applies and torch.allclose(got, value, atol=1e-4):
            raise Wrong(sentence, length=length)
    if not torch.allclose(got.sum(1), torch.ones(3), atol=1e-3):
        raise Wrong("At length {length} the rows do not sum to 1.", length=length)


def _compute_log_p(model, tokens):
    """-> (B, K, N): log p(x_t | x_<t, c) for each class."""
    of_classes = []
    for label in range(model.num_classes):
        log_p = model(tokens, torch.full_like(tokens[:, 0], label)).log_softmax(-1)
        of_classes.append(log_p.gather(-1, tokens[:, :, None])[..., 0])
    return torch.stack(of_classes, dim=1)


def classes_from(model, tokens, length):
    of_classes = []
    for label in range(model.num_classes):
        log_p = model(tokens, torch.full_like(tokens[:, 0], label)).log_softmax(-1)
        of_classes.append(log_p.gather(-1, tokens[:, :, None])[:, :length, 0].sum(1))
    return torch.stack(of_classes, dim=1).softmax(1)


# --- 6: does the reading order matter? ----------------------------------------------------------------------


def judge_orders(answer):
    judge_two_variants(answer, ("row by row", "shuffled"), larger_is_better=False, least=1.2, most=2.2)


EXERCISES = {
    "1": Exercise(
        judge_cached_keys,
        hints=(
            "Every position that was read left one key in each head. Which positions were read?",
            "Each of the four heads works in a quarter of the width.",
            "The class and twenty pixels are 21 positions; a key has 64/4 numbers.",
        ),
        solution=(3, 4, 21, 16),
        why="Three images, four heads, 21 positions (the class is one), and 64/4 numbers a head. The "
        "values are as "
        "many, and the other block has its own: 2·2·3·4·21·16 numbers in all.",
    ),
    "2": Exercise(
        judge_scores,
        hints=(
            "Number the passes from 1 to n. How many positions does pass t have?",
            "With the cache only the newest of the t positions has a query, and it meets t keys.",
            "Sum t with the cache, t·t without, over t from 1 to n.",
        ),
        solution=scores,
        why="With the cache n(n+1)/2, without it n(n+1)(2n+1)/6, which is (2n+1)/3 times as many: 43 times "
        "for 64 "
        "pixels and 523 times for 784.",
    ),
    "3": Exercise(
        judge_min_p,
        hints=(
            "The rule is about probabilities. How do you get them from logits?",
            "p.amax(-1, keepdim=True) is the largest of each row; the bound is share times that.",
            'logits.masked_fill(p < share * p.amax(-1, keepdim=True), float("-inf"))',
        ),
        solution=min_p,
        why="Where the network is sure, few levels stay; where it is not, many do. Top-k keeps as many in "
        "both cases. "
        "In logits it is a distance: within −log(share) of the largest.",
    ),
    "4": Exercise(
        judge_mask_for,
        hints=(
            "Position i may see position j if j is written no later. When is each position written?",
            "`order` gives the position of each step; `order.argsort()` gives the step of each position.",
            "rank = order.argsort(); then compare rank[:, None] with rank.",
        ),
        solution=mask_for,
        why="The chain rule holds in any order, so each order gives an exact likelihood of its own. For 0, "
        "1, 2, … "
        "rank is the position, and this is the triangle of section 3.",
    ),
    "5": Exercise(
        judge_classes_from,
        hints=(
            "Bayes' rule: p(c | known) is proportional to p(known | c). Start from section 6.",
            "log p(known | c) is the sum of the first `length` terms of log p(x_t | x_<t, c).",
            "For each class of model.num_classes: log_p = model(tokens, class).log_softmax(-1), gather the "
            "tokens, "
            "[:, :length].sum(1). Then stack and softmax over the classes.",
        ),
        solution=classes_from,
        why="Thanks to the mask the first terms do not depend on what comes later, so one pass over the "
        "whole image "
        "gives the posterior after every row.",
    ),
    "6": Exercise(
        judge_orders,
        hints=(
            "`shuffle = torch.randperm(64)` once; all sequences, also the held-out ones, get the same order.",
            "For each seed: net, losses = train_small(sequences[:, shuffle], seed), then gpt_loss(net, "
            "held[:, shuffle], no_class(held)).item().",
            "Compare the distance of both means with the sum of both standard deviations.",
        ),
        solution={
            "row by row": [1.564, 1.553, 1.544],
            "shuffled": [1.669, 1.665, 1.663],
            "conclusion": "row by row",
        },
        why="The chain rule is exact in both orders, but the factors are different functions. Row by row, "
        "the pixel above and the pixel to the left are always known. How large the difference is depends on "
        "the network, the training and the permutation.",
    ),
}
