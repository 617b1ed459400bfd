"""Chapter 4c: two or more wrong answers for each exercise, and what the message has to say about them."""

import torch

from tests.support.forged import AgreeableNumber, AgreeableTensor

NAN = float("nan")


class CallsItselfBool(AgreeableTensor):
    dtype = torch.bool


def agreeable(x):
    return x.as_subclass(CallsItselfBool)


def terms(model, tokens):
    found = [
        model(tokens, torch.full_like(tokens[:, 0], label))
        .log_softmax(-1)
        .gather(-1, tokens[:, :, None])[..., 0]
        for label in range(model.num_classes)
    ]
    return torch.stack(found, 1)  # (B, K, N)


def visible(order):
    return order.argsort()[:, None] >= order.argsort()


def keep(logits, where):
    return logits.masked_fill(~where, float("-inf"))


def top(p):
    return p.amax(-1, keepdim=True)


def orders(rows=(1.55, 1.56, 1.57), shuffled=(1.7, 1.71, 1.72), conclusion="row by row"):
    return {"row by row": list(rows), "shuffled": list(shuffled), "conclusion": conclusion}


WRONG_ANSWERS = [
    ("ch04c.1", (3, 4, 20, 16), "class stands at a position"),
    ("ch04c.1", (3, 4, 64, 16), "the context"),
    ("ch04c.1", (3, 4, 21, 64), "shared out"),
    ("ch04c.1", (3, 2, 21, 16), "depth"),
    ("ch04c.1", (3, 21, 4, 16), "exchanged"),
    ("ch04c.1", (1, 4, 21, 16), "Three are drawn"),
    ("ch04c.1", (3, 8, 21, 8), "heads=4"),
    ("ch04c.1", (3, 4, 21, 8), "equal part"),
    ("ch04c.1", (3, 4, 22, 16), "count the class"),
    ("ch04c.1", 3, "four whole numbers"),
    ("ch04c.2", lambda n, cache: n * n, "not n each time"),
    ("ch04c.2", lambda n, cache: n * (n + 1) // 2, "all pairs"),
    ("ch04c.2", lambda n, cache: n * (n + 1) // 2 if cache else n * n, "a pass for each pixel"),
    ("ch04c.2", lambda n, cache: n * (n + 1) // 2 if cache else n**3, "not n"),
    ("ch04c.2", lambda n, cache: n * (n - 1) // 2, "itself"),
    (
        "ch04c.2",
        lambda n, cache: sum(t if cache else t * (t + 1) // 2 for t in range(1, n + 1)),
        "mask throws away",
    ),
    ("ch04c.2", lambda n, cache: sum(t * t if cache else t for t in range(1, n + 1)), "exchanged"),
    ("ch04c.2", lambda n, cache: sum(t if cache else t * t for t in range(1, n + 2)), "drawn and not read"),
    ("ch04c.2", lambda n, cache: 7, "Pass t"),
    ("ch04c.2", lambda n, cache: print(end=""), "return"),
    ("ch04c.3", lambda z, share: keep(z, z.softmax(-1) >= share), "times the largest"),
    ("ch04c.3", lambda z, share: keep(z, z >= share * top(z)), "softmax first"),
    ("ch04c.3", lambda z, share: keep(z, z.softmax(-1) < share * top(z.softmax(-1))), "keep the unlikely"),
    (
        "ch04c.3",
        lambda z, share: z.softmax(-1) * (z.softmax(-1) >= share * top(z.softmax(-1))),
        "probabilities",
    ),
    ("ch04c.3", lambda z, share: keep(z, z.softmax(-1) >= share * z.softmax(-1).max()), "its own"),
    ("ch04c.3", lambda z, share: keep(z, z.softmax(-1) > share * top(z.softmax(-1))), ">=, not >"),
    ("ch04c.3", lambda z, share: keep(z, z.softmax(0) >= share * top(z.softmax(0))), "keeps"),
    ("ch04c.3", lambda z, share: keep(2 * z, z.softmax(-1) >= share * top(z.softmax(-1))), "have changed"),
    ("ch04c.3", lambda z, share: print(end=""), "return"),
    ("ch04c.4", lambda order: torch.ones(len(order), len(order)).tril().bool(), "row by row"),
    ("ch04c.4", lambda order: order[:, None] >= order, "its rank"),
    ("ch04c.4", lambda order: order.argsort()[:, None] > order.argsort(), "sees itself"),
    ("ch04c.4", lambda order: order.argsort() >= order.argsort()[:, None], "exchanged"),
    ("ch04c.4", lambda order: visible(order).float(), r"\.bool\(\)"),
    ("ch04c.4", lambda order: order.argsort()[:, None] < order.argsort(), "may not"),
    ("ch04c.4", lambda order: torch.ones(len(order), len(order)).bool(), "written first"),
    ("ch04c.4", lambda order: print(end=""), "return"),
    ("ch04c.5", lambda m, x, length: m(x, torch.full_like(x[:, 0], 9)).softmax(1), "num_classes = 4"),
    ("ch04c.5", lambda m, x, length: terms(m, x).sum(-1).softmax(1), "not known yet"),
    ("ch04c.5", lambda m, x, length: terms(m, x)[..., :length].mean(-1).softmax(1), "their sum"),
    ("ch04c.5", lambda m, x, length: terms(m, x)[..., :length].sum(-1), "Bayes"),
    ("ch04c.5", lambda m, x, length: terms(m, x)[..., :length].sum(-1).exp(), "do not sum to 1"),
    ("ch04c.5", lambda m, x, length: terms(m, x)[..., :length].sum(-1).softmax(0), "over the images"),
    ("ch04c.5", lambda m, x, length: terms(m, x)[..., : length + 1].sum(-1).softmax(1), "one token more"),
    ("ch04c.5", lambda m, x, length: terms(m, x)[..., length - 1].softmax(1), "last known token alone"),
    ("ch04c.5", lambda m, x, length: terms(m, x)[..., :length].sum(-1).argmax(1), "shape"),
    ("ch04c.5", lambda m, x, length: print(end=""), "return"),
    ("ch04c.1", (3, 21, 64), r"\(images, heads, positions, size\); this has 3"),
    ("ch04c.2", lambda n, cache: n * (n + 1) if cache else n * (n + 1) * (2 * n + 1) // 3, "twice as many"),
    (
        "ch04c.3",
        lambda z, share: z.masked_fill(z.softmax(-1) < share * top(z.softmax(-1)), -1e9),
        "needs −inf",
    ),
    ("ch04c.1", (3, 4, NAN, 16), "whole number"),
    ("ch04c.1", (3, 4, AgreeableNumber(), 16), "3 positions"),
    ("ch04c.2", lambda n, cache: NAN, "NaN"),
    ("ch04c.2", lambda n, cache: AgreeableNumber(), "one number is wanted"),
    ("ch04c.2", lambda n, cache: float("inf"), "infinite"),
    ("ch04c.3", lambda z, share: z * NAN, "NaN"),
    (
        "ch04c.3",
        lambda z, share: z.masked_fill(z.softmax(-1) < share * top(z.softmax(-1)), NAN),
        "needs −inf",
    ),
    ("ch04c.3", lambda z, share: agreeable(z * 2), "have changed|keeps"),
    ("ch04c.4", lambda order: torch.full((len(order), len(order)), NAN), r"\.bool\(\)"),
    ("ch04c.4", lambda order: agreeable(torch.where(visible(order), 1.0, NAN)), "neither 0 nor 1"),
    ("ch04c.4", lambda order: agreeable(torch.where(visible(order), NAN, 0.0)), "may see"),
    ("ch04c.4", lambda order: agreeable(torch.zeros(len(order), len(order))), "position"),
    ("ch04c.5", lambda m, x, length: torch.full((len(x), m.num_classes), NAN), "NaN|sum to 1"),
    ("ch04c.5", lambda m, x, length: agreeable(torch.zeros(len(x), m.num_classes)), "sum to 1"),
    ("ch04c.6", [1.5, 1.6, 1.7], "A dict is wanted"),
    ("ch04c.6", orders(rows=(1.55, 1.56)), "three numbers"),
    ("ch04c.6", orders(rows=(1.55, 1.55, 1.56)), "was the seed changed"),
    ("ch04c.6", orders(shuffled=(2.83, 2.84, 2.85)), "Was everything else left"),
    ("ch04c.6", orders(shuffled=(0.05, 0.07, 0.04)), "Was everything else left"),
    ("ch04c.6", orders(conclusion="yes"), "The conclusion is"),
    ("ch04c.6", orders(conclusion="shuffled"), 'follows "row by row"'),
    ("ch04c.6", orders(shuffled=(1.5, 1.51, 1.52)), 'follows "shuffled"'),
    ("ch04c.6", orders(shuffled=(1.5, 1.6, 1.7)), 'follows "no difference"'),
]
