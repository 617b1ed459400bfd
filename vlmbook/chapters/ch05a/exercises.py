"""Exercises of chapter 5a, classification and detection."""

import torch

from vlmbook.detection import box_area, box_iou
from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_shape, as_tensor, require_values
from vlmbook.notebook.messages import message

# --- 1: the shape of the RPN's offsets ----------------------------------------------------------------------


def judge_offset_map(answer):
    batch, channels, height, width = got = as_shape(
        answer, "the backbone halves three times, and 96 and 160 are divisible by 8"
    )
    if got == (2, 12, 20, 24):
        raise Wrong("Channels come second: (B, C, H, W).")
    if got == (2, 24, 20, 12):
        raise Wrong("Height and width are exchanged: the images are 96 high and 160 wide.")
    if batch != 2:
        raise Wrong("{batch} images? There are two.", batch=batch)
    if (height, width) == (96, 160):
        raise Wrong("That is the image's size. The RPN slides over the feature map, which is smaller.")
    if (height, width) != (12, 20):
        raise Wrong(
            "{height}×{width} cells? Three halvings divide each side by 8.", height=height, width=width
        )
    if channels == 6:
        raise Wrong("There are six anchors in a cell; each needs four offsets.")
    if channels == 5 * 24:
        raise Wrong("The RPN knows no classes: only the offsets of the head are one set a class.")
    if channels == 20:
        raise Wrong(
            "20 is 4·(2 + 3), or four for each class. 2 sizes and 3 ratios make every pair of them, 2·3 "
            "anchors, and the RPN knows no classes."
        )
    if channels != 24:
        raise Wrong(
            "{channels} channels: count the anchors in one cell, and the offsets that each of them needs.",
            channels=channels,
        )


# --- 2: the IoU of a box that is shifted --------------------------------------------------------------------


def judge_shifted_iou(answer):
    for w, d in ((40, 10), (40, 0), (30, -10), (12, 12), (10, 25), (7, 3.5)):
        call = f"shifted_iou({w}, {d})"
        got = as_number(answer(w, d), call)
        want = shifted_iou(w, d)
        if abs(got - want) < 1e-6:
            continue
        fields = {"call": call, "got": got, "want": want}
        if d < 0 and abs(got - (w - d) / (w + d)) < 1e-6:
            raise Wrong(
                "{call} is {got:g}, not {want:.4g}. A shift to the left counts as one to the right: "
                "take |d|.",
                **fields,
            )
        if d >= w and got < 0:
            raise Wrong(
                "{call} is {got:g}, not {want:.4g}. An overlap is never negative; beyond w there is none.",
                **fields,
            )
        if d >= w and got > 0:
            raise Wrong("{call} is {got:g}, not {want:.4g}. From d = w on the boxes share nothing.", **fields)
        if abs(got - (w - abs(d)) / w) < 1e-6:
            raise Wrong(
                "{call} is {got:g}, not {want:.4g}. That is the overlap over one box. The union is "
                "wider than either: w + d.",
                **fields,
            )
        if abs(got - (w - abs(d)) / (2 * w)) < 1e-6:
            raise Wrong(
                "{call} is {got:g}, not {want:.4g}. The union is not both areas together: what they share "
                "counts once.",
                **fields,
            )
        raise Wrong(
            "{call} is {got:g}, not {want:.4g}. The overlap is w − d wide. How wide is the union?", **fields
        )


def shifted_iou(w, d):
    d = abs(d)
    return (w - d) / (w + d) if d < w else 0.0


# --- 3: Soft-NMS --------------------------------------------------------------------------------------------


def judge_soft_nms(answer):
    for case, (boxes, scores, sigma) in _soft_nms_cases().items():
        want = soft_nms(boxes, scores, sigma)
        got = as_tensor(answer(boxes.clone(), scores.clone(), sigma), want, case)
        if not torch.allclose(got, want, atol=1e-5):
            _name_the_slip(got, want, message(case), boxes, scores, sigma)
            require_values(got, want, case)


def _soft_nms_cases():
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(9, 2, generator=generator) * 9
    some = torch.cat([low, low + 10 + 8 * torch.rand(9, 2, generator=generator)], dim=1)
    chain = torch.tensor([[10.0, 0, 50, 40], [0, 0, 40, 40], [20, 0, 60, 40]])
    equal = torch.tensor([[0.0, 0, 5, 5], [0, 0, 5, 5]])
    far = torch.tensor([[0.0, 0, 5, 5], [20, 20, 30, 30]])
    return {
        "nine boxes, sigma 0.3": (some, torch.rand(9, generator=generator), 0.3),
        "a chain of three": (chain, torch.tensor([0.8, 0.9, 0.7]), 0.5),
        "two equal boxes": (equal, torch.tensor([0.6, 0.9]), 0.5),
        "two far boxes": (far, torch.tensor([0.3, 0.8]), 0.5),
    }


def _name_the_slip(got, want, case, boxes, scores, sigma):
    """Raises Wrong for the slips that are often made."""

    def gauss(iou):
        return (-(iou**2) / sigma).exp()

    best = scores.argmax()
    if torch.allclose(got, want.sort(descending=True).values, atol=1e-5):
        raise Wrong("For {case} the scores are sorted. Give them in the order of the boxes.", case=case)
    if got[best] < want[best] - 1e-6:
        raise Wrong(
            "For {case} the best box loses score. Only the others are lowered; leave it as it is.", case=case
        )
    if torch.allclose(got, scores):
        raise Wrong("For {case} nothing was lowered.", case=case)
    if (torch.isclose(got, scores, atol=1e-6) | (got == 0)).all():
        raise Wrong(
            "For {case} boxes are dropped, or left as they are: that is NMS. Here scores are multiplied.",
            case=case,
        )
    if torch.allclose(got, _lower_once(boxes, scores, gauss), atol=1e-5):
        raise Wrong(
            "For {case} only the first box lowers the others. Go on with the best of what is left.", case=case
        )
    if torch.allclose(got, _lower(boxes, scores, lambda iou: (-iou / sigma).exp()), atol=1e-5):
        raise Wrong("For {case} the IoU is not squared.", case=case)
    if torch.allclose(got, _lower(boxes, scores, lambda iou: (-(iou**2) * sigma).exp()), atol=1e-5):
        raise Wrong("For {case} you multiply by sigma in the exponent; divide by it.", case=case)
    if torch.allclose(got, _lower(boxes, scores, lambda iou: 1 - iou), atol=1e-5):
        raise Wrong(
            "For {case} you multiply by 1 − IoU, the paper's linear kind; the Gaussian one is wanted.",
            case=case,
        )
    if torch.allclose(got, _lower_in_first_order(boxes, scores, gauss), atol=1e-5):
        raise Wrong(
            "For {case} you keep to the order of the first scores. Each time the best by the *lowered* "
            "scores comes next.",
            case=case,
        )


def _lower(boxes, scores, factor):
    """(N, 4), (N,), IoU -> factor -> (N,): Soft-NMS with another factor."""
    scores = scores.clone()
    left = list(range(len(scores)))
    while left:
        best = max(left, key=lambda i: scores[i].item())
        left.remove(best)
        scores[left] *= factor(box_iou(boxes[[best]], boxes[left])[0])
    return scores


def _lower_once(boxes, scores, factor):
    """(N, 4), (N,), IoU -> factor -> (N,): only the best of all lowers the others."""
    best = scores.argmax().item()
    lowered = scores * factor(box_iou(boxes[[best]], boxes)[0])
    lowered[best] = scores[best]
    return lowered


def _lower_in_first_order(boxes, scores, factor):
    """(N, 4), (N,), IoU -> factor -> (N,): the best by the scores as they were comes next."""
    order = scores.argsort(descending=True).tolist()
    scores = scores.clone()
    for position, best in enumerate(order):
        rest = order[position + 1 :]
        scores[rest] *= factor(box_iou(boxes[[best]], boxes[rest])[0])
    return scores


def soft_nms(boxes, scores, sigma=0.5):
    scores = scores.clone()
    left = list(range(len(scores)))
    while left:
        best = max(left, key=lambda i: scores[i].item())
        left.remove(best)
        iou = box_iou(boxes[[best]], boxes[left])[0]
        scores[left] *= (-(iou**2) / sigma).exp()
    return scores


# --- 4: the generalised IoU ---------------------------------------------------------------------------------


def judge_giou(answer):
    a = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 2, 2], [0, 0, 4, 4], [1, 2, 7, 5]])
    b = torch.tensor([[0.0, 0, 4, 4], [2, 1, 6, 5], [6, 6, 8, 8], [4, 0, 8, 4], [2, 3, 4, 9]])
    cases = (
        "one box twice",
        "two that overlap",
        "two far apart",
        "two that touch",
        "a wide and a high",
    )
    want = giou(a, b)
    got = as_tensor(answer(a.clone(), b.clone()), want, "five pairs")
    if torch.allclose(got, want, atol=1e-4):
        return
    iou = box_iou(a, b).diagonal()
    around = box_area(torch.cat([torch.minimum(a, b)[:, :2], torch.maximum(a, b)[:, 2:]], dim=1))
    union = (box_area(a) + box_area(b)) / (1 + iou)
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
    if torch.allclose(got, _unclamped_giou(a, b), atol=1e-4):
        raise Wrong(
            "For two far apart the overlap is not 0: a negative width times a negative height is positive. "
            "Clamp each at 0."
        )
    for i, case in enumerate(cases):
        if not abs(got[i] - want[i]) <= 1e-4:  # so that NaN is refused
            raise Wrong(
                "For {case} it is {got:.4g}, not {want:.4g}.",
                case=message(case),
                got=got[i].item(),
                want=want[i].item(),
            )


def _unclamped_giou(a, b):
    both = (torch.minimum(a, b)[:, 2:] - torch.maximum(a, b)[:, :2]).prod(1)
    around = (torch.maximum(a, b)[:, 2:] - torch.minimum(a, b)[:, :2]).prod(1)
    union = box_area(a) + box_area(b) - both
    return both / union - (around - union) / around


def giou(a, b):
    sides = (torch.minimum(a, b)[:, 2:] - torch.maximum(a, b)[:, :2]).clamp(min=0)
    both = sides[:, 0] * sides[:, 1]
    union = box_area(a) + box_area(b) - both  # box_area is vlmbook.detection's
    around = (torch.maximum(a, b)[:, 2:] - torch.minimum(a, b)[:, :2]).prod(1)
    return both / union - (around - union) / around


EXERCISES = {
    "1": Exercise(
        judge_offset_map,
        hints=(
            "The RPN is a convolution over the feature map. How large is that map?",
            "2 × 3 anchors stand in each cell, and each gets t_x, t_y, t_w, t_h.",
            "96/8 by 160/8 cells, 6·4 channels. The classes do not enter.",
        ),
        solution=(2, 24, 12, 20),
        why="Two images, four offsets for each of six anchors, 96/8 × 160/8 cells. The five classes play no "
        "part: the RPN only tells objects from background.",
    ),
    "2": Exercise(
        judge_shifted_iou,
        hints=(
            "The height cancels. How wide is what both share, how wide what either covers?",
            "Shared: w − d. Covered: w + d. And what if d is larger than w, or negative?",
            "(w − |d|) / (w + |d|) while |d| < w, else 0.",
        ),
        solution=shifted_iou,
        why="(w − d)/(w + d) reaches 0.5 at d = w/3: a box 30 wide may be 10 pixels off, sideways alone. In "
        "both directions at once it may be far less.",
    ),
    "3": Exercise(
        judge_soft_nms,
        hints=(
            "Keep a list of those that are left. Which is taken next, and whose scores change?",
            "The one that was taken keeps its score; box_iou(boxes[[best]], boxes[left])[0] gives the "
            "overlaps of the others.",
            "scores[left] *= (-iou**2 / sigma).exp(), after `best` has left the list; the next best by the "
            "new scores.",
        ),
        solution=soft_nms,
        why="A duplicate with IoU 0.9 keeps a fifth of its score at sigma 0.5, a neighbour with 0.3 over "
        "four fifths. In a crowd, where objects overlap, that saves recall.",
    ),
    "4": Exercise(
        judge_giou,
        hints=(
            "C reaches from the smaller x1, y1 to the larger x2, y2. The overlap does the opposite.",
            "union = area of a + area of b − both, and the empty part of C is |C| − union.",
            "both / union − (around − union) / around; each side of `both` is clamped at 0 before they are "
            "multiplied.",
        ),
        solution=giou,
        why="It is 1 for equal boxes, and falls towards −1 as two move apart, so 1 − GIoU has a gradient "
        "that pulls them together even where they do not touch.",
    ),
}
