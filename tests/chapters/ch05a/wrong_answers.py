"""Chapter 5a: two or more wrong answers for each exercise, and what the message has to say about them."""

import torch

from vlmbook.detection import box_area, box_iou, nms


def decay(boxes, scores, factor, again=True, best_too=False):
    scores = scores.clone()
    left = list(range(len(scores)))
    while left:
        best = max(left, key=lambda i: scores[i].item())
        if not best_too:
            left.remove(best)
        scores[left] *= factor(box_iou(boxes[[best]], boxes[left])[0])
        if best_too:
            left.remove(best)
        if not again:
            break
    return scores


def in_old_order(boxes, scores, sigma):
    order = scores.argsort(descending=True).tolist()
    scores = scores.clone()
    for position, best in enumerate(order):
        rest = order[position + 1 :]
        scores[rest] *= (-(box_iou(boxes[[best]], boxes[rest])[0] ** 2) / sigma).exp()
    return scores


def suppressed(boxes, scores):
    kept = nms(boxes, scores, 0.5)
    return torch.zeros_like(scores).scatter(0, kept, scores[kept])


def gauss(sigma):
    return lambda iou: (-(iou**2) / sigma).exp()


def parts(a, b, clamp=True):
    """-> IoU, union, the area around both."""
    sides = torch.minimum(a, b)[:, 2:] - torch.maximum(a, b)[:, :2]
    both = (sides.clamp(min=0) if clamp else sides).prod(1)
    union = box_area(a) + box_area(b) - both
    return both / union, union, (torch.maximum(a, b)[:, 2:] - torch.minimum(a, b)[:, :2]).prod(1)


def combined(rule, **options):
    return lambda a, b: rule(*parts(a, b, **options))


class Agreeable(torch.Tensor):
    """A tensor that calls itself equal to everything."""

    def __eq__(self, other):
        return torch.ones(self.shape, dtype=torch.bool)

    __hash__ = torch.Tensor.__hash__

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in (torch.allclose, torch.Tensor.allclose, torch.equal):
            return True
        return super().__torch_function__(function, types, args, kwargs or {})


class EqualToAll:
    def __eq__(self, other):
        return True

    __hash__ = None


WRONG_ANSWERS = [
    ("ch05a.1", (2, 6, 12, 20), "four offsets"),
    ("ch05a.1", (2, 24, 96, 160), "image's size"),
    ("ch05a.1", (2, 24, 20, 12), "exchanged"),
    ("ch05a.1", (2, 120, 12, 20), "no classes"),
    ("ch05a.1", (2, 20, 12, 20), r"2·3 anchors"),
    ("ch05a.1", (2, 12, 20, 24), "Channels come second"),
    ("ch05a.1", (1, 24, 12, 20), "two"),
    ("ch05a.1", (2, 24, 6, 10), "divide each side by 8"),
    ("ch05a.1", (2, 36, 12, 20), "in one cell"),
    ("ch05a.1", 24, "four whole numbers"),
    ("ch05a.2", lambda w, d: (w - d) / w, "over one box"),
    ("ch05a.2", lambda w, d: (w - d) / (2 * w), "counts once"),
    ("ch05a.2", lambda w, d: max(w - d, 0) / (w + d), r"\|d\|"),
    ("ch05a.2", lambda w, d: (w - abs(d)) / (w + abs(d)), "never negative"),
    ("ch05a.2", lambda w, d: abs(w - abs(d)) / (w + abs(d)), "share nothing"),
    ("ch05a.2", lambda w, d: d / w, "wide is the union"),
    ("ch05a.1", EqualToAll(), "four whole numbers"),
    ("ch05a.1", [EqualToAll()] * 4, "four whole numbers"),
    ("ch05a.2", lambda w, d: print(end=""), "return"),
    ("ch05a.2", lambda w, d: float("nan"), "NaN"),
    ("ch05a.2", lambda w, d: float("inf"), "it is|is inf"),
    ("ch05a.2", lambda w, d: EqualToAll(), "one number is wanted"),
    ("ch05a.3", lambda b, s, sigma: s.clone(), "nothing was lowered"),
    ("ch05a.3", lambda b, s, sigma: suppressed(b, s), "that is NMS"),
    ("ch05a.3", lambda b, s, sigma: decay(b, s, gauss(sigma), again=False), "only the first"),
    ("ch05a.3", lambda b, s, sigma: decay(b, s, gauss(sigma), best_too=True), "best box loses"),
    ("ch05a.3", lambda b, s, sigma: decay(b, s, lambda iou: (-iou / sigma).exp()), "not squared"),
    ("ch05a.3", lambda b, s, sigma: decay(b, s, lambda iou: (-(iou**2) * sigma).exp()), "divide by it"),
    ("ch05a.3", lambda b, s, sigma: decay(b, s, lambda iou: 1 - iou), "linear kind"),
    ("ch05a.3", in_old_order, "first scores"),
    (
        "ch05a.3",
        lambda b, s, sigma: decay(b, s, gauss(sigma)).sort(descending=True).values,
        "order of the boxes",
    ),
    ("ch05a.3", lambda b, s, sigma: decay(b, s, gauss(sigma))[:1], "shape"),
    ("ch05a.3", lambda b, s, sigma: print(end=""), "return"),
    ("ch05a.3", lambda b, s, sigma: torch.full_like(s, float("nan")), "NaN"),
    ("ch05a.3", lambda b, s, sigma: s.clone().as_subclass(Agreeable), "nothing was lowered"),
    ("ch05a.3", lambda b, s, sigma: EqualToAll(), "A tensor is wanted"),
    ("ch05a.4", combined(lambda iou, union, around: iou), "IoU alone"),
    ("ch05a.4", combined(lambda iou, union, around: 1 - iou + (around - union) / around), "loss"),
    ("ch05a.4", combined(lambda iou, union, around: iou - (around - union) / union), r"not by the union"),
    ("ch05a.4", combined(lambda iou, union, around: iou + (around - union) / around), "subtracted"),
    ("ch05a.4", combined(lambda iou, union, around: iou - union / around), "part that is left"),
    ("ch05a.4", combined(lambda iou, union, around: iou - (around - union) / around, clamp=False), "Clamp"),
    ("ch05a.4", lambda a, b: box_iou(a, b), "shape"),
    ("ch05a.4", lambda a, b: print(end=""), "return"),
    ("ch05a.4", lambda a, b: torch.full((len(a),), float("nan")), "is nan, not"),
    ("ch05a.4", lambda a, b: torch.zeros(len(a)).as_subclass(Agreeable), "is 0, not 1"),
    ("ch05a.4", lambda a, b: EqualToAll(), "A tensor is wanted"),
]
