"""Exercises of chapter 5a, classification and detection."""

import torch

from vlmbook.detection import box_iou
from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_shape, as_tensor, require_values


def judge_offset_map(answer):
    batch, channels, height, width = got = as_shape(
        answer, "the backbone halves three times, and 96 and 160 are divisible by 8"
    )
    if got == (2, 12, 20, 24):
        raise Wrong("Channels come second: (B, C, H, W).")
    if got == (2, 24, 20, 12):
        raise Wrong("Height and width are exchanged: the images are 96 high and 160 wide.")
    if batch != 2:
        raise Wrong(f"{batch} images? There are two.")
    if (height, width) == (96, 160):
        raise Wrong("That is the image's size. The RPN slides over the feature map, which is smaller.")
    if (height, width) != (12, 20):
        raise Wrong(f"{height}×{width} places? Three halvings divide each side by 8.")
    if channels == 6:
        raise Wrong("Six anchors at a place; each needs four offsets.")
    if channels == 5 * 24:
        raise Wrong("The RPN knows no classes: only the head's offsets are one set a class.")
    if channels == 20:
        raise Wrong(
            "20 is 4·(2 + 3), or four for each class. 2 sizes and 3 ratios make every pair of them, 2·3 "
            "anchors, and the RPN knows no classes."
        )
    if channels != 24:
        raise Wrong(f"{channels} channels: count the anchors at one place, and what each of them is told.")


def judge_shifted_iou(answer):
    for w, d in ((40, 10), (40, 0), (30, -10), (12, 12), (10, 25), (7, 3.5)):
        got, want = as_number(answer(w, d), f"shifted_iou({w}, {d})"), shifted_iou(w, d)
        case = f"shifted_iou({w}, {d}) is {got:g}, not {want:.4g}."
        if abs(got - want) < 1e-6:
            continue
        if d < 0 and abs(got - (w - d) / (w + d)) < 1e-6:
            raise Wrong(f"{case} A shift to the left counts as one to the right: take |d|.")
        if d >= w and got < 0:
            raise Wrong(f"{case} An overlap is never negative; beyond w there is none.")
        if d >= w and got > 0:
            raise Wrong(f"{case} From d = w on the boxes share nothing.")
        if abs(got - (w - abs(d)) / w) < 1e-6:
            raise Wrong(f"{case} That is the overlap over one box. The union is wider than either: w + d.")
        if abs(got - (w - abs(d)) / (2 * w)) < 1e-6:
            raise Wrong(f"{case} The union is not both areas together: what they share counts once.")
        raise Wrong(f"{case} The overlap is w − d wide. How wide is the union?")


def shifted_iou(w, d):
    d = abs(d)
    return max(w - d, 0) / (w + d) if d < w else 0.0


def judge_soft_nms(answer):
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(9, 2, generator=generator) * 9
    some = torch.cat([low, low + 10 + 8 * torch.rand(9, 2, generator=generator)], dim=1)
    chain = torch.tensor([[10.0, 0, 50, 40], [0, 0, 40, 40], [20, 0, 60, 40]])
    cases = {
        "nine boxes, sigma 0.3": (some, torch.rand(9, generator=generator), 0.3),
        "a chain of three": (chain, torch.tensor([0.8, 0.9, 0.7]), 0.5),
        "two equal boxes": (torch.tensor([[0.0, 0, 5, 5], [0, 0, 5, 5]]), torch.tensor([0.6, 0.9]), 0.5),
        "two far boxes": (torch.tensor([[0.0, 0, 5, 5], [20, 20, 30, 30]]), torch.tensor([0.3, 0.8]), 0.5),
    }
    for case, (boxes, scores, sigma) in cases.items():
        got = answer(boxes.clone(), scores.clone(), sigma)
        want = soft_nms(boxes, scores, sigma)
        got = as_tensor(got, want, case)
        if torch.allclose(got, want, atol=1e-5):
            continue
        best, iou = scores.argmax(), box_iou(boxes, boxes)
        if torch.allclose(got, want.sort(descending=True).values, atol=1e-5):
            raise Wrong(f"For {case} the scores are sorted. Give them in the order of the boxes.")
        if got[best] < want[best] - 1e-6:
            raise Wrong(
                f"For {case} the best box loses score. Only the others are lowered; leave it as it is."
            )
        if torch.allclose(got, scores):
            raise Wrong(f"For {case} nothing was lowered.")
        if ((got - scores).abs() < 1e-6).sum() + (got == 0).sum() == len(got):
            raise Wrong(
                f"For {case} boxes are dropped, or left as they are: that is NMS. Here scores are multiplied."
            )
        first = scores * torch.where(
            torch.arange(len(scores)) == best, 1.0, (-(iou[best] ** 2) / sigma).exp()
        )
        if torch.allclose(got, first, atol=1e-5):
            raise Wrong(
                f"For {case} only the first box lowers the others. Go on with the best of what is left."
            )
        if torch.allclose(got, _decay(boxes, scores, lambda x, sigma=sigma: (-x / sigma).exp()), atol=1e-5):
            raise Wrong(f"For {case} the IoU is not squared.")
        if torch.allclose(
            got, _decay(boxes, scores, lambda x, sigma=sigma: (-(x**2) * sigma).exp()), atol=1e-5
        ):
            raise Wrong(f"For {case} you multiply by sigma in the exponent; divide by it.")
        if torch.allclose(got, _decay(boxes, scores, lambda x: 1 - x), atol=1e-5):
            raise Wrong(
                f"For {case} you multiply by 1 − IoU, the paper's linear kind; the Gaussian one is wanted."
            )
        if torch.allclose(got, _in_old_order(boxes, scores, sigma), atol=1e-5):
            raise Wrong(
                f"For {case} you keep to the order of the first scores. Each time the best by the *lowered* "
                "scores comes next."
            )
        require_values(got, want, case)


def _decay(boxes, scores, factor):
    scores, left = scores.clone(), list(range(len(scores)))
    while left:
        best = max(left, key=lambda i: scores[i].item())
        left.remove(best)
        scores[left] *= factor(box_iou(boxes[[best]], boxes[left])[0])
    return scores


def _in_old_order(boxes, scores, sigma):
    order, scores = scores.argsort(descending=True).tolist(), scores.clone()
    for place, best in enumerate(order):
        rest = order[place + 1 :]
        scores[rest] *= (-(box_iou(boxes[[best]], boxes[rest])[0] ** 2) / sigma).exp()
    return scores


def soft_nms(boxes, scores, sigma=0.5):
    scores, left = scores.clone(), list(range(len(scores)))
    while left:
        best = max(left, key=lambda i: scores[i].item())
        left.remove(best)
        scores[left] *= (-(box_iou(boxes[[best]], boxes[left])[0] ** 2) / sigma).exp()
    return scores


def judge_giou(answer):
    a = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 2, 2], [0, 0, 4, 4], [1, 2, 7, 5]])
    b = torch.tensor([[0.0, 0, 4, 4], [2, 1, 6, 5], [6, 6, 8, 8], [4, 0, 8, 4], [2, 3, 4, 9]])
    cases = {
        "one box twice": 0,
        "two that overlap": 1,
        "two far apart": 2,
        "two that touch": 3,
        "a wide and a high": 4,
    }
    want = giou(a, b)
    got = as_tensor(answer(a.clone(), b.clone()), want, "five pairs")
    iou = box_iou(a, b).diagonal()
    area = lambda x: (x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1])  # noqa: E731
    around = area(torch.cat([torch.minimum(a, b)[:, :2], torch.maximum(a, b)[:, 2:]], dim=1))
    union = (area(a) + area(b)) / (1 + iou)
    if torch.allclose(got, iou, atol=1e-5):
        raise Wrong("That is the IoU alone; subtract the part of C that neither covers.")
    if torch.allclose(got, 1 - want, atol=1e-5):
        raise Wrong("That is the loss, 1 − GIoU. GIoU itself is 1 for equal boxes.")
    if torch.allclose(got, iou - (around - union) / union, atol=1e-5):
        raise Wrong("The empty part is divided by |C|, not by the union.")
    if torch.allclose(got, iou + (around - union) / around, atol=1e-5):
        raise Wrong("The empty part is subtracted: far boxes are worse than near ones.")
    if torch.allclose(got, iou - union / around, atol=1e-5):
        raise Wrong("You subtract the covered part of C. Subtract the part that is left.")
    for case, i in cases.items():
        if abs(got[i] - want[i]) > 1e-4:
            if case == "two far apart" and abs(got[i] - _unclamped(a, b)[i]) < 1e-4:
                raise Wrong(
                    "For two far apart the overlap is not 0: a negative width times a negative height is "
                    "positive. Clamp each at 0."
                )
            raise Wrong(f"For {case} it is {got[i]:.4g}, not {want[i]:.4g}.")


def _unclamped(a, b):
    both, around = (
        (f(a, b)[:, 2:] - g(a, b)[:, :2]).prod(1)
        for f, g in ((torch.minimum, torch.maximum), (torch.maximum, torch.minimum))
    )
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - both
    return both / union - (around - union) / around


def giou(a, b):
    area = lambda x: (x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1])  # noqa: E731
    both = (torch.minimum(a, b)[:, 2:] - torch.maximum(a, b)[:, :2]).clamp(min=0).prod(1)
    union = area(a) + area(b) - both
    around = (torch.maximum(a, b)[:, 2:] - torch.minimum(a, b)[:, :2]).prod(1)
    return both / union - (around - union) / around


EXERCISES = {
    "1": Exercise(
        judge_offset_map,
        hints=(
            "The RPN is a convolution over the feature map. How large is that map?",
            "2 × 3 anchors stand at each place, and each gets t_x, t_y, t_w, t_h.",
            "96/8 by 160/8 places, 6·4 channels. The classes do not enter.",
        ),
        solution=(2, 24, 12, 20),
        why="Two images, four offsets for each of six anchors, 96/8 × 160/8 places. The five classes play no part: the "
        "RPN only knows things from background.",
    ),
    "2": Exercise(
        judge_shifted_iou,
        hints=(
            "The height cancels. How wide is what both share, how wide what either covers?",
            "Shared: w − d. Covered: w + d. And what if d is larger than w, or negative?",
            "max(w − |d|, 0) / (w + |d|) while |d| < w, else 0.",
        ),
        solution=shifted_iou,
        why="(w − d)/(w + d) reaches 0.5 at d = w/3: a box 30 wide may be 10 pixels off, sideways alone. In both "
        "directions at once it may be far less.",
    ),
    "3": Exercise(
        judge_soft_nms,
        hints=(
            "Keep a list of those that are left. Which is taken next, and whose scores change?",
            "The one that was taken keeps its score; box_iou(boxes[[best]], boxes[left])[0] gives the overlaps of the "
            "others.",
            "scores[left] *= (-iou**2 / sigma).exp(), after `best` has left the list; the next best by the new scores.",
        ),
        solution=soft_nms,
        why="A double with IoU 0.9 keeps a fifth of its score at sigma 0.5, a neighbour with 0.3 over four fifths. "
        "In a crowd, where things overlap, that saves recall.",
    ),
    "4": Exercise(
        judge_giou,
        hints=(
            "C reaches from the smaller x1, y1 to the larger x2, y2. The overlap does the opposite.",
            "union = area(a) + area(b) − both, and the empty part of C is |C| − union.",
            "both / union − (around − union) / around; each side of `both` is clamped at 0 before they are multiplied.",
        ),
        solution=giou,
        why="It is 1 for equal boxes, and falls towards −1 as two move apart, so 1 − GIoU has a gradient that pulls "
        "them together even where they do not touch.",
    ),
}
