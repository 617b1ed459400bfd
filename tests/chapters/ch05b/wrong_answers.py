"""Chapter 5b: two or more wrong answers for each exercise, and a part of the message that each gets."""

import torch
from torch.nn import functional as F

from tests.support.forged import AgreeableNumber, AgreeableTensor


def scores(q, k):
    return q @ k.mT / q.shape[-1] ** 0.5


def phi(x):
    return F.elu(x) + 1


def bend(q, k, v, f=phi, g=phi):
    return f(q) @ (g(k).T @ v) / (f(q) @ g(k).sum(0))[:, None]


def positions(p, old, new, *, grid=None, mode="bilinear", **how):
    grid = p[:, 1:].mT.unflatten(2, old) if grid is None else grid
    grid = F.interpolate(grid, size=new, mode=mode, **how)
    return torch.cat([p[:, :1], grid.flatten(2).mT], dim=1)


def same(x):
    return x


def renormalised(q, k, v, there):
    shares = scores(q, k).softmax(-1) * there[:, None]
    return shares / shares.sum(-1, keepdim=True) @ v


def plain_linear(q, k, v):
    shares = phi(q) @ phi(k).T
    return shares / shares.sum(1, keepdim=True) @ v


WRONG_ANSWERS = [
    ("ch05b.1", (2, 12, 196, 196), "one token more"),
    ("ch05b.1", (2, 197, 197, 12), "heads come second"),
    ("ch05b.1", (2, 12, 197, 64), "width of a key"),
    ("ch05b.1", (2, 12, 197, 196), "as many queries as keys"),
    ("ch05b.1", (2, 12, 224, 224), "side in pixels"),
    ("ch05b.1", (2, 12, 14, 14), "in all"),
    ("ch05b.1", (2, 1, 197, 197), "their mean"),
    ("ch05b.1", (2, 8, 197, 197), "there are 12"),
    ("ch05b.1", (1, 12, 197, 197), "There are two"),
    ("ch05b.1", (2, 12, 198, 198), "count the patches"),
    ("ch05b.1", (197, 197), "four numbers"),
    ("ch05b.2", lambda n, d, heads: 3 * n * d * d + 2 * n * n * d, "W_O"),
    ("ch05b.2", lambda n, d, heads: 4 * n * d * d, "weighted means are missing"),
    ("ch05b.2", lambda n, d, heads: 2 * n * n * d, "projected as well"),
    ("ch05b.2", lambda n, d, heads: 4 * n * d * d + n * n * d, "twice"),
    ("ch05b.2", lambda n, d, heads: 4 * n * d * d + 2 * heads * n * n * d, "d/heads wide"),
    ("ch05b.2", lambda n, d, heads: 4 * n * d * d // heads + 2 * n * n * d, "of all heads"),
    ("ch05b.2", lambda n, d, heads: 4 * n * d * d + 2 * n * n * d + heads * n * n, "√d was counted"),
    ("ch05b.2", lambda n, d, heads: 8 * n * d * d + 4 * n * n * d, "Additions"),
    ("ch05b.2", lambda n, d, heads: 7, "Which six"),
    ("ch05b.2", lambda n, d, heads: print(end=""), "return"),
    ("ch05b.3", lambda q, k, v, there: scores(q, k).softmax(-1) @ v, "without effect"),
    (
        "ch05b.3",
        lambda q, k, v, there: scores(q, k).masked_fill(there[:, None], -1e30).softmax(-1) @ v,
        "way round",
    ),
    ("ch05b.3", lambda q, k, v, there: (scores(q, k) * there[:, None]).softmax(-1) @ v, "no absence"),
    ("ch05b.3", lambda q, k, v, there: (scores(q, k).softmax(-1) * there[:, None]) @ v, "before the softmax"),
    (
        "ch05b.3",
        lambda q, k, v, there: (q @ k.mT).masked_fill(~there[:, None], -1e30).softmax(-1) @ v,
        "root of d",
    ),
    (
        "ch05b.3",
        lambda q, k, v, there: scores(q, k).masked_fill(~there[:, None], -1e30).softmax(1) @ v,
        "queries",
    ),
    ("ch05b.3", lambda q, k, v, there: (scores(q, k) - 30 * ~there[:, None]).softmax(-1) @ v, "still counts"),
    ("ch05b.3", lambda q, k, v, there: v * float("nan"), "shape"),
    (
        "ch05b.3",
        lambda q, k, v, there: scores(q, k).masked_fill(~there, -torch.inf).softmax(-1) @ v,
        r"an axis for the queries, there\[:, None\]",
    ),
    (
        "ch05b.3",
        lambda q, k, v, there: scores(q, k).masked_fill(~there, -torch.inf),
        r"not yet\. `there` has the shape",
    ),
    ("ch05b.3", lambda q, k, v, there: q @ k, "check the shape of each step"),
    (
        "ch05b.3",
        lambda q, k, v, there: scores(q, k).masked_fill(there[:, None], -torch.inf).softmax(-1) @ v,
        "NaN",
    ),
    ("ch05b.3", lambda q, k, v, there: 2 * padded(q, k, v, there), "values are off"),
    ("ch05b.3", lambda q, k, v, there: print(end=""), "return"),
    ("ch05b.4", lambda p, old, new: positions(p, old, new, grid=p[:, 1:].reshape(1, -1, *old)), "last axis"),
    (
        "ch05b.4",
        lambda p, old, new: positions(p, old, new, grid=p[:, 1:].mT.reshape(1, -1, *old[::-1])),
        "exchanged",
    ),
    ("ch05b.4", lambda p, old, new: positions(p, old, new, mode="nearest"), "nearest; bilinear"),
    ("ch05b.4", lambda p, old, new: positions(p, old, new, mode="bicubic"), "bicubic; bilinear"),
    ("ch05b.4", lambda p, old, new: positions(p, old, new, align_corners=True), "extent"),
    (
        "ch05b.4",
        lambda p, old, new: positions(p, old, new) * (torch.arange(1 + new[0] * new[1]) > 0)[:, None],
        "class token's position",
    ),
    ("ch05b.4", lambda p, old, new: positions(p, old, new).roll(-1, dims=1), "comes first"),
    ("ch05b.4", lambda p, old, new: positions(p, old, new)[:, 1:], "shape"),
    ("ch05b.4", lambda p, old, new: 2 * positions(p, old, new), "values are off"),
    ("ch05b.4", lambda p, old, new: print(end=""), "return"),
    ("ch05b.5", lambda q, k, v: phi(q) @ (phi(k).T @ v), "sums, not means"),
    ("ch05b.5", lambda q, k, v: phi(q) @ (phi(k).T @ v) / len(k), "number of keys"),
    ("ch05b.5", lambda q, k, v: bend(q, k, v, same, same), "can be negative"),
    ("ch05b.5", lambda q, k, v: bend(q, k, v, F.elu, F.elu), "adds 1"),
    ("ch05b.5", lambda q, k, v: scores(q, k).softmax(-1) @ v, "takes its place"),
    ("ch05b.5", lambda q, k, v: bend(q, k, v, phi, same), "keys as well"),
    (
        "ch05b.5",
        lambda q, k, v: (phi(q) @ phi(k).T / (phi(q) @ phi(k).T).sum(1, keepdim=True)) @ v,
        "40 times 50",
    ),
    ("ch05b.5", lambda q, k, v: bend(q, k, v).relu(), "values are off"),
    ("ch05b.5", lambda q, k, v: print(end=""), "return"),
    ("ch05b.1", (2, 12, 197), r"\(B, heads, queries, keys\); this has 3"),
    ("ch05b.3", renormalised, "0/0 is NaN"),
    (
        "ch05b.3",
        lambda q, k, v, there: scores(q, k).masked_fill(~there[:, None], -100).softmax(-1) @ v,
        "not to some number",
    ),
    ("ch05b.5", lambda q, k, v: torch.cat([plain_linear(part, k, v) for part in q.chunk(2)]), "40 times 50"),
    # NaN, and objects that equal everything
    ("ch05b.1", (2, 12, 197, float("nan")), "whole number"),
    ("ch05b.1", [AgreeableNumber()] * 4, "3 images"),
    ("ch05b.2", lambda n, d, heads: float("nan"), "NaN"),
    ("ch05b.2", lambda n, d, heads: AgreeableNumber(), "number"),
    ("ch05b.3", lambda q, k, v, there: padded(q, k, v, there) * torch.nan, "NaN"),
    (
        "ch05b.3",
        lambda q, k, v, there: (3 * padded(q, k, v, there)).as_subclass(AgreeableTensor),
        "values are off",
    ),
    ("ch05b.4", lambda p, old, new: positions(p, old, new) * torch.nan, "NaN"),
    (
        "ch05b.4",
        lambda p, old, new: (3 * positions(p, old, new)).as_subclass(AgreeableTensor),
        "values are off",
    ),
    ("ch05b.5", lambda q, k, v: bend(q, k, v) * torch.nan, "NaN"),
    ("ch05b.5", lambda q, k, v: (3 * bend(q, k, v)).as_subclass(AgreeableTensor), "values are off"),
    # forbidden: a matrix of all pairs
    ("ch05b.5", plain_linear, "matrix of 40 times 50"),
    ("ch05b.5", lambda q, k, v: torch.vmap(lambda row: plain_linear(row[None], k, v)[0])(q), "40 times 50"),
    ("ch05b.5", lambda q, k, v: torch.stack([plain_linear(q, k, v), q[:, :2]])[0], "40 times 50"),
]


def padded(q, k, v, there):
    return scores(q, k).masked_fill(~there[:, None], -torch.inf).softmax(-1) @ v
