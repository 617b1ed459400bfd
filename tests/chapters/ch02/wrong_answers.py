"""Chapter 2: two or more wrong answers for each exercise, and what the message has to say about them."""

import torch


def flat(gradients):
    return torch.cat([each.flatten() for each in gradients])


def cosine(a, b):
    return (a @ b / a.norm() / b.norm()).item()


def mean_cosine(first, second):
    each = [cosine(a.flatten(), b.flatten()) for a, b in zip(first, second, strict=True)]
    return sum(each) / len(each)


def along(a, b):
    return (a @ b) / (b @ b) * b


PLAIN, MOVED = "plain", "moved"
WRONG_ANSWERS = [
    ("ch02.1", (-0.5, 0.03), "b is above 0"),
    ("ch02.1", (2.0, 0.03), "1/b"),
    ("ch02.1", (0.00024, 0.03), "not logarithmic"),
    ("ch02.1", (0.7, 0.03), "quarter of the error"),
    ("ch02.1", (0.5, 0.015), "do not give a quarter"),
    ("ch02.1", (0.5, 0.05), r"4\^\(−b\)"),
    ("ch02.1", 0.5, "Two numbers"),
    ("ch02.2", mean_cosine, "mean of the cosines"),
    ("ch02.2", lambda f, s: cosine(f[0].flatten(), s[0].flatten()), "only the first"),
    ("ch02.2", lambda f, s: (flat(f) @ flat(s)).item(), "two lengths"),
    ("ch02.2", lambda f, s: -cosine(flat(f), flat(s)), "sign is wrong"),
    ("ch02.2", lambda f, s: 0.0, "the cosine is"),
    ("ch02.3", lambda a, b: a - along(a, b), "product is positive"),
    ("ch02.3", lambda a, b: a, "nothing is removed"),
    ("ch02.3", along, "Take it away from a"),
    ("ch02.3", lambda a, b: a + along(a, b), "is added"),
    ("ch02.3", lambda a, b: a - (a @ b) / b.norm() * b, r"\|b\|²"),
    ("ch02.3", lambda a, b: b - along(b, a), "Change a"),
    ("ch02.3", lambda a, b: (a @ b)[None], "shape"),
    ("ch02.4", {PLAIN: [0.8, 0.81, 0.82], MOVED: [0.9, 0.91, 0.92], "conclusion": "no difference"}, MOVED),
    ("ch02.4", {PLAIN: [0.8, 0.8, 0.82], MOVED: [0.9, 0.91, 0.92], "conclusion": MOVED}, "seed"),
    ("ch02.4", {PLAIN: [80, 81, 82], MOVED: [90, 91, 92], "conclusion": MOVED}, "from 0.5 to 1"),
    ("ch02.4", {PLAIN: [0.8, 0.81, 0.82]}, "dict"),
]
