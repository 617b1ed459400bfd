"""Appendix B: two or more wrong answers for each exercise, and what the message has to say about them."""


def inside(runs, odd=1):
    return [place % 2 == odd for place, count in enumerate(runs) for _ in range(count)]


def counted(first, second, odd=1):
    pairs = list(zip(inside(first, odd), inside(second, odd), strict=True))
    return sum(a and b for a, b in pairs), sum(a or b for a, b in pairs)


def background(first, second):
    both, either = counted(first, second, odd=0)
    return both / either


WRONG_ANSWERS = [
    ("appendix_b.1", lambda a, b: counted(a, b)[0], "area of the intersection"),
    ("appendix_b.1", lambda a, b: counted(a, b)[0] / (sum(a[1::2]) + sum(b[1::2])), "count once"),
    ("appendix_b.1", background, "background"),
    (
        "appendix_b.1",
        lambda a, b: min(sum(a[1::2]), sum(b[1::2])) / max(sum(a[1::2]), sum(b[1::2])),
        "do they overlap",
    ),
    ("appendix_b.1", lambda a, b: 0.123, "the IoU is"),
    ("appendix_b.2", lambda x, y, w, h: (x + 1, y + 1, x + w + 1, y + h + 1), "all four numbers"),
    ("appendix_b.2", lambda x, y, w, h: (x, y, x + w, y + h), "counts from 1"),
    ("appendix_b.2", lambda x, y, w, h: (x + 1, y + 1, x + w - 1, y + h - 1), "last pixel is lost"),
    ("appendix_b.2", lambda x, y, w, h: (x + 1, y + 1, w, h), "are a size"),
    ("appendix_b.2", lambda x, y, w, h: (x, y, x + w - 1, y + h - 1), "counted from 0"),
    ("appendix_b.2", lambda x, y, w, h: x + 1, "four numbers"),
    ("appendix_b.2", lambda x, y, w, h: (y + 1, x + 1, y + h, x + w), "it is"),
    ("appendix_b.3", (26, 3.25), "Copies have to go"),
    ("appendix_b.3", (29, 4), "cannot be read"),
    ("appendix_b.3", (24, 4), "smaller version"),
    ("appendix_b.3", (20, 4), "one image stays"),
    ("appendix_b.3", (25, 4), "duplicates and similar"),
    ("appendix_b.3", (23, 3.25), "before the cleaning"),
    ("appendix_b.3", (23, 2.75), "shows bricks"),
    ("appendix_b.3", (23, 0.25), "other way round"),
    ("appendix_b.3", (23, 7), "largest class divided"),
    ("appendix_b.3", 23, "Two numbers"),
]
