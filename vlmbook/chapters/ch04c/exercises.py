"""Exercises of chapter 4c, GPT."""

import torch

from vlmbook.gpt import GPT
from vlmbook.notebook.exercises import (
    Exercise,
    Wrong,
    as_number,
    as_shape,
    as_tensor,
    require_returned,
    require_values,
)


def judge_cached_keys(answer):
    got = as_shape(answer, "heads divide the width without a rest", "(images, heads, places, size)")
    batch, heads, places, size = got
    if got == (3, 21, 4, 16):
        raise Wrong("Heads and places are exchanged: (images, heads, places, size).")
    if batch != 3:
        raise Wrong(f"{batch} images? Three are drawn at once; each has keys of its own.")
    if heads == 2:
        raise Wrong("2 is the depth: each block has a cache of its own, and you were asked for one block's.")
    if heads != 4:
        raise Wrong(f"{heads} heads? The network was made with heads=4.")
    if size in (64, 192):
        raise Wrong(
            f"Size {size}: the width of 64 is shared out among the heads; keys are counted without queries and "
            "values."
        )
    if size != 16:
        raise Wrong(f"Size {size}: each of 4 heads gets an equal part of the width 64.")
    if places == 20:
        raise Wrong("The class stands at a place too, before the first pixel.")
    if places == 64:
        raise Wrong("64 is what there is room for; asked is what has been read.")
    if places != 21:
        raise Wrong(f"{places} places: count the class and the pixels that were read.")


def judge_scores(answer):
    for n, cache in ((5, True), (5, False), (1, True), (1, False), (64, True), (64, False), (784, False)):
        got = as_number(answer(n, cache), f"scores({n}, {cache})")
        want = scores(n, cache)
        if got == want:
            continue
        case = f"scores({n}, {cache}) is {got:g}, not {want}."
        if got == scores(n, not cache) and answer(n, not cache) == want:
            raise Wrong(f"{case} With and without the cache are exchanged.")
        if got == n**2 and cache:
            raise Wrong(f"{case} The first place meets only itself, and the t-th meets t: not n each time.")
        if got == n**2:
            raise Wrong(
                f"{case} That is one pass over all places, as in training. Drawing takes a pass a pixel."
            )
        if got == n**3:
            raise Wrong(f"{case} The t-th pass has t places, not n.")
        if got in (n, n * (n + 1) // 2) and not cache:
            raise Wrong(f"{case} Without a cache pass t computes scores for all pairs of its t places.")
        if got == sum(t * (t + 1) // 2 for t in range(1, n + 1)) and not cache:
            raise Wrong(f"{case} You left out what the mask throws away; it is computed all the same.")
        if got == 2 * want:
            raise Wrong(f"{case} That is twice as many: one score for a query and a key.")
        if got == n * (n - 1) // 2:
            raise Wrong(f"{case} Each place meets itself as well.")
        if got == scores(n + 1, cache):
            raise Wrong(
                f"{case} The last pixel is drawn and not read: n passes, the first of them over the class."
            )
        if got == scores(n - 1, cache):
            raise Wrong(f"{case} The pass over the class alone counts too; it gives the first pixel.")
        raise Wrong(f"{case} Pass t, from 1 to {n}, holds t places: how many pairs are new in it?")


def scores(n, cache):
    return sum(t if cache else t * t for t in range(1, n + 1))


def judge_min_p(answer):
    generator = torch.Generator().manual_seed(5)
    for share in (0.1, 0.5, 1.0):
        logits = torch.randn(40, 9, generator=generator) * torch.linspace(0.2, 1.6, 40)[:, None] + 3
        want, case = min_p(logits, share), f"share {share}"
        got = as_tensor(answer(logits.clone(), share), want, case)
        kept, wanted = got > -torch.inf, want > -torch.inf
        p = logits.softmax(-1)
        if got.min() >= 0 and got.max() <= 1:
            raise Wrong("These look like probabilities. Logits are wanted, with −inf for what is left out.")
        if torch.equal(kept, wanted):
            if torch.allclose(got[kept], want[kept], atol=1e-5):
                continue
            raise Wrong(
                "The right levels are kept, but their logits have changed; only the others become −inf."
            )
        if torch.equal(kept, logits >= share * logits.amax(-1, keepdim=True)):
            raise Wrong("You compare logits. The rule is about probabilities: softmax first.")
        if torch.equal(kept, p > share * p.amax(-1, keepdim=True)):
            raise Wrong("The bound itself is kept: >=, not >.")
        if torch.equal(kept, p >= share):
            raise Wrong(
                f"At {case} you keep p >= {share}. The bound is {share} times the largest p of the row."
            )
        if torch.equal(kept, ~wanted):
            raise Wrong("You keep the unlikely ones, and drop the others.")
        if torch.equal(kept, p >= share * p.max()):
            raise Wrong(
                "You compare with the largest of the whole batch; each row has its own likeliest level."
            )
        if kept.all() and torch.equal(got > logits - 1, wanted):
            raise Wrong(
                "What is left out needs −inf: exp of 0, or of a large negative number, still has a share."
            )
        if not kept.any(-1).all():
            raise Wrong(f"At {case} nothing is left in some row. The likeliest level always stays.")
        row = (kept != wanted).any(-1).nonzero()[0, 0]
        raise Wrong(f"At {case} a row keeps {int(kept[row].sum())} levels, not {int(wanted[row].sum())}.")


def min_p(logits, share):
    p = logits.softmax(-1)
    return logits.masked_fill(p < share * p.amax(-1, keepdim=True), float("-inf"))


def judge_mask_for(answer):
    for order in ([1, 3, 4, 0, 2], [0, 1, 2, 3], [3, 2, 1, 0], [1, 2, 3, 4, 0]):
        order = torch.tensor(order)
        got = answer(order.clone())
        require_returned(got)
        if (
            isinstance(got, torch.Tensor)
            and got.dtype != torch.bool
            and got.unique().tolist() in ([0, 1], [1])
        ):
            raise Wrong(f"True and False are wanted, this is {got.dtype}; put .bool() behind it.")
        want, case = mask_for(order), f"order {order.tolist()}"
        got = as_tensor(got, want, case)
        n = len(order)
        if torch.equal(got, want):
            continue
        if torch.equal(got, want & ~torch.eye(n).bool()):
            raise Wrong("A place sees itself as well: what it holds was written before.")
        if torch.equal(got, want.T):
            raise Wrong(f"For {case} the places see what comes after them: rows and columns are exchanged.")
        if torch.equal(got, ~want):
            raise Wrong("True is what may be seen; you mark what may not.")
        if torch.equal(got, torch.ones(n, n).tril().bool()):
            raise Wrong(
                f"For {case} you give the mask of row by row; rows and columns are places, and when each is "
                "written is in `order`."
            )
        if torch.equal(got, order[:, None] >= order):
            raise Wrong(
                "You compare the entries of `order`, which are places. Compare when each place is written: "
                "its rank, order.argsort()."
            )
        i, j = (got != want).nonzero()[0].tolist()
        raise Wrong(
            f"For {case} may place {i} see place {j}? {'Yes' if want[i, j] else 'No'}: which of them is "
            "written first?"
        )


def mask_for(order):
    rank = order.argsort()  # when is each place written?
    return rank[:, None] >= rank


def judge_classes_from(answer):
    generator = torch.Generator().manual_seed(6)
    net = GPT(5, 6, 4, width=8, depth=1, heads=2).eval().requires_grad_(False)
    for p in net.parameters():
        p.copy_(0.8 * torch.randn(p.shape, generator=generator) + (p.ndim == 1 and p.shape == (8,)))
    tokens = torch.randint(5, (3, 6), generator=generator)
    for known in (3, 6, 1, 0):
        want = classes_from(net, tokens, known)
        case = f"known {known}"
        got = as_tensor(answer(net, tokens.clone(), known), want, case)
        if torch.allclose(got, want, atol=1e-4):
            continue
        terms = _terms(net, tokens)
        if known < 6 and torch.allclose(got, terms.sum(-1).softmax(-1), atol=1e-4):
            raise Wrong(f"At {case} all tokens are used. The rest of the image is not known yet.")
        if known and torch.allclose(got, terms[..., :known].mean(-1).softmax(-1), atol=1e-4):
            raise Wrong(
                "You take the mean of the log-probabilities over the tokens; the chain rule wants their sum."
            )
        if torch.allclose(got, terms[..., :known].sum(-1), atol=1e-4):
            raise Wrong("These are log p(x | c). Bayes' rule: exp, and divide by the sum over the classes.")
        if torch.allclose(got, terms[..., :known].sum(-1).exp(), atol=1e-4):
            raise Wrong("These are p(x | c), which do not sum to 1 over the classes: divide by their sum.")
        if torch.allclose(got, terms[..., :known].sum(-1).softmax(0), atol=1e-4):
            raise Wrong("The softmax runs over the images; the classes are axis 1.")
        if known < 6 and torch.allclose(got, terms[..., : known + 1].sum(-1).softmax(-1), atol=1e-4):
            raise Wrong(f"At {case} you use {known + 1} tokens.")
        if known and torch.allclose(got, terms[..., known - 1].softmax(-1), atol=1e-4):
            raise Wrong("You use the last known token alone; all known ones tell of the class.")
        if not torch.allclose(got.sum(1), torch.ones(3), atol=1e-3):
            raise Wrong(f"At {case} the rows do not sum to 1.")
        require_values(got, want, case)


def _terms(net, tokens):
    """-> (B, K, N): log p(x_t | x_<t, c)."""
    found = []
    for label in range(net.num_classes):
        log_p = net(tokens, torch.full((len(tokens),), label)).log_softmax(-1)
        found.append(log_p.gather(-1, tokens[:, :, None])[..., 0])
    return torch.stack(found, 1)


def classes_from(model, tokens, known):
    found = []
    for label in range(model.num_classes):
        log_p = model(tokens, torch.full_like(tokens[:, 0], label)).log_softmax(-1)
        found.append(log_p.gather(-1, tokens[:, :, None])[:, :known, 0].sum(1))
    return torch.stack(found, dim=1).softmax(1)


EXERCISES = {
    "1": Exercise(
        judge_cached_keys,
        hints=(
            "Every place that was read left one key in each head. Which places were read?",
            "Each of the four heads works in a quarter of the width.",
            "The class and twenty pixels are 21 places; a key has 64/4 numbers.",
        ),
        solution=(3, 4, 21, 16),
        why="Three images, four heads, 21 places (the class is one), and 64/4 numbers a head. The values are as many, "
        "and the other block has its own: 2·2·3·4·21·16 numbers in all.",
    ),
    "2": Exercise(
        judge_scores,
        hints=(
            "Number the passes from 1 to n. How many places stand in pass t?",
            "With the cache only the newest of the t places asks, and it meets t keys.",
            "Sum t with the cache, t·t without, over t from 1 to n.",
        ),
        solution=scores,
        why="With the cache n(n+1)/2, without it n(n+1)(2n+1)/6, which is (2n+1)/3 times as many: 43 times for 64 "
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
        why="Where the network is sure, few levels stay; where it is not, many do. Top-k keeps as many in both cases. "
        "In logits it is a distance: within −log(share) of the largest.",
    ),
    "4": Exercise(
        judge_mask_for,
        hints=(
            "Place i may see place j if j is written no later. When is each place written?",
            "`order` says which place comes at each step; `order.argsort()` says at which step each place comes.",
            "rank = order.argsort(); then compare rank[:, None] with rank.",
        ),
        solution=mask_for,
        why="The chain rule holds in any order, so each order gives an exact likelihood of its own. For 0, 1, 2, … "
        "rank is the place, and this is the triangle of section 3.",
    ),
    "5": Exercise(
        judge_classes_from,
        hints=(
            "Bayes' rule: p(c | known) is proportional to p(known | c). Start from section 6.",
            "log p(known | c) is the sum of the first `known` terms of log p(x_t | x_<t, c).",
            "For each class: log_p = model(tokens, class).log_softmax(-1), gather the tokens, [:, :known].sum(1). Then "
            "stack and softmax over the classes.",
        ),
        solution=classes_from,
        why="Thanks to the mask the first terms do not depend on what comes later, so one pass over the whole image "
        "gives the posterior after every row.",
    ),
}
