"""Chapter 3c: two or more wrong answers for each exercise, and what the message has to say about them."""

FLIPS = [(), (-1,), (-2,), (-2, -1)]


def middle(kept, x):
    top, left = ((a - b) // 2 for a, b in zip(kept.shape[2:], x.shape[2:], strict=True))
    return kept[:, :, top : top + x.shape[2], left : left + x.shape[3]]


def tile(up=4, bottom=4):
    def size(m, depth):
        for _ in range(depth):
            m = -(-(m + 4) // 2)
        m += bottom
        for _ in range(depth):
            m = 2 * m + up
        return m

    return size


def seen(model, x, axes):
    return model(x.flip(axes)).softmax(1).flip(axes)


def depths(depth_1=(0.3, 0.35, 0.4), depth_3=(0.7, 0.75, 0.8), conclusion="depth 3"):
    return {"depth 1": list(depth_1), "depth 3": list(depth_3), "conclusion": conclusion}


WRONG_ANSWERS = [
    ("ch03c.1", (1, 64, 25, 15), "keeps both"),
    ("ch03c.1", (1, 192, 25, 15), "halves them"),
    ("ch03c.1", (1, 256, 25, 15), r"16·2\^l channels"),
    ("ch03c.1", (1, 128, 50, 30), "another level"),
    ("ch03c.1", (1, 128, 13, 8), "another level"),
    ("ch03c.1", (1, 128, 26, 16), "cut to the size"),
    ("ch03c.1", (1, 128, 24, 14), "halve 100 and 60 twice"),
    ("ch03c.1", (2, 64, 25, 15), "along the channels"),
    ("ch03c.1", (1, 128, 15, 25), "height comes before"),
    ("ch03c.1", (1, 128, 12.5, 7.5), "rounded up"),
    ("ch03c.1", (128, 25, 15), "this has 3"),
    ("ch03c.1", 128, "four whole numbers"),
    ("ch03c.2", lambda m, depth: m, "larger than the output"),
    ("ch03c.2", lambda m, depth: m + 184, "each size that is pooled|at depth 4 only"),
    ("ch03c.2", lambda m, depth: m + 12 * 2**depth - 8, "has to be even"),
    ("ch03c.2", tile(bottom=0), "lowest level has two"),
    ("ch03c.2", lambda m, depth: tile()(m, depth) + 2**depth, "smaller one does"),
    ("ch03c.2", tile(up=2), "Go backwards|two convolutions"),
    ("ch03c.2", lambda m, depth: m / 3, "whole number"),
    ("ch03c.2", lambda m, depth: print(end=""), "return"),
    ("ch03c.2", lambda m: 572, "TypeError"),
    ("ch03c.3", lambda j: j, "counts the intersection twice"),
    ("ch03c.3", lambda j: j / (2 - j), "the other way"),
    ("ch03c.3", lambda j: 2 * j, "more than 1"),
    ("ch03c.3", lambda j: 2 * j / (2 + j), r"1 \+ j"),
    ("ch03c.3", lambda j: j / (1 + j), "numerator"),
    ("ch03c.3", lambda j: j**2, "intersection I and the union U"),
    ("ch03c.3", lambda j: 0.667, "intersection I"),
    ("ch03c.3", lambda j: [j], "one number"),
    ("ch03c.3", lambda j: print(end=""), "return"),
    ("ch03c.4", lambda model, x: sum(model(x.flip(a)).softmax(1) for a in FLIPS) / 4, "flip each back"),
    ("ch03c.4", lambda model, x: sum(seen(model, x, a) for a in FLIPS), "sum of four"),
    ("ch03c.4", lambda model, x: seen(model, x, ()), "without any flip"),
    ("ch03c.4", lambda model, x: (seen(model, x, ()) + seen(model, x, (-1,))) / 2, "Two of four"),
    ("ch03c.4", lambda model, x: sum(seen(model, x, a) for a in FLIPS[:3]) / 3, "Three of four"),
    ("ch03c.4", lambda model, x: sum(model(x.flip(a)).flip(a) for a in FLIPS) / 4, "These are logits"),
    ("ch03c.4", lambda model, x: model(x).argmax(1), "shape"),
    ("ch03c.4", lambda model, x: seen(model, x, ()) ** 2, "off by up to"),
    ("ch03c.4", lambda model, x: print(end=""), "return"),
    ("ch03c.5", [0.1, 0.2, 0.3], "A dict is wanted"),
    ("ch03c.5", depths(depth_1=(0.3, 0.4)), "three numbers"),
    ("ch03c.5", depths(depth_1=(0.3, 0.3, 0.4)), "was the seed changed"),
    ("ch03c.5", depths(depth_1=(0.3, 1.4, 0.4)), "from 0.02 to 0.99"),
    ("ch03c.5", depths(conclusion="yes"), "The conclusion is"),
    ("ch03c.5", depths(conclusion="no difference"), 'follows "depth 3"'),
    ("ch03c.5", depths(depth_1=(0.6, 0.9, 0.7)), 'follows "no difference"'),
]
