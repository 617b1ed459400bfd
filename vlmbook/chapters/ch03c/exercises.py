"""Exercises of chapter 3c, U-Net."""

import torch
from torch import nn

from vlmbook.chapters.measured import judge_two_variants
from vlmbook.notebook.exercises import (
    Exercise,
    Wrong,
    as_number,
    as_shape,
    as_tensor,
    require_returned,
    require_values,
)
from vlmbook.notebook.messages import message


def judge_joined_shape(answer):
    got = as_shape(answer, "where pooling meets an odd size, it is rounded up")
    batch, channels, *size = got
    if batch != 1:
        raise Wrong("B is {batch}: the batch stays 1. Concatenation is along the channels.", batch=batch)
    if channels == 64:
        raise Wrong("64 channels come from the encoder, and 64 from below: concatenation keeps both.")
    if channels == 192:
        raise Wrong(
            "The map from below has 128 channels; the transposed convolution that enlarges it halves them."
        )
    if channels != 128:
        raise Wrong(
            "C is {channels}: level l of the encoder has 16·2^l channels, and as many come up from below.",
            channels=channels,
        )
    if size in ([50, 30], [13, 8], [7, 4]):
        raise Wrong(
            "{height}×{width} is another level: level 0 has the size of the image, and each halves it.",
            height=size[0],
            width=size[1],
        )
    if size == [26, 16]:
        raise Wrong(
            "26×16 comes up from below, twice 13×8; it is cut to the size of the map that it is joined to."
        )
    if size == [15, 25]:
        raise Wrong("15×25: the height comes before the width.")
    if size != [25, 15]:
        raise Wrong("H, W = {size}: halve 100 and 60 twice.", size=tuple(size))


def judge_tile_for(answer):
    for m, depth in ((388, 4), (389, 4), (4, 4), (1, 0), (36, 2), (37, 2), (4, 1)):
        got, want = answer(m, depth), tile_for(m, depth)
        require_returned(got)
        if isinstance(got, bool) or not isinstance(got, (int, float)) or got != got // 1:
            raise Wrong(
                "tile_for({m}, {depth}) is {got}; a size is a whole number.", m=m, depth=depth, got=repr(got)
            )
        if got != want:
            reason = message(_why_not_tile(got, want, m, depth), m=m, lost=_lost(depth))
            raise Wrong(
                "tile_for({m}, {depth}) is {got:g}, not {want}. {reason}",
                m=m,
                depth=depth,
                got=got,
                want=want,
                reason=reason,
            )


def _why_not_tile(got, want, m, depth):
    """-> str: a template, what the answer forgot."""
    if got == m + 184 and depth != 4:
        return "184 pixels are lost at depth 4 only; count what each level takes."
    if got == m + _lost(depth):
        return "{m} + {lost} does not fit: each size that is pooled has to be even."
    if got == want - 4 * 2**depth:
        return "The lowest level has two convolutions as well."
    if depth and got == want - _lost(depth) + _lost(depth) // 2:
        return "A level has two convolutions of 3×3 on each way, each takes 2 pixels."
    if got > want and (got - want) % 2**depth == 0:
        return "It fits, but a smaller one does as well."
    if got <= m:
        return "Without padding the input is larger than the output."
    if depth == 0:
        return "With depth 0 only two convolutions are left."
    return (
        "Go backwards, level by level: plus 4, halve and round up; at the bottom plus 4; then double, plus 4."
    )


def _lost(depth):
    """int -> int: what an input loses to the output, where it fits."""
    return 12 * 2**depth - 8


def tile_for(m, depth=4):
    for _ in range(depth):
        m = -(-(m + 4) // 2)  # the decoder backwards; half a pixel more is a whole one
    m += 4  # the lowest level
    for _ in range(depth):
        m = 2 * m + 4  # the encoder backwards
    return m


def judge_dice_from_iou(answer):
    for j in (0.6, 1.0, 0.0, 0.9, 0.2):
        got = as_number(answer(j), f"dice_from_iou({j})")
        want = dice_from_iou(j)
        if abs(got - want) < 1e-6:
            continue
        mistakes = {
            "They are not the same number: Dice counts the intersection twice.": j,
            "This leads the other way, from Dice to IoU.": j / (2 - j),
            "Twice the intersection over the union can be more than 1; Dice divides by the sum of both "
            "areas.": 2 * j,
            "The sum of both areas is union plus intersection, U + I; with the union as unit, 1 + j.": 2
            * j
            / (2 + j),
            "The numerator of Dice is 2·I, not I.": j / (1 + j),
        }
        reasons = [reason for reason, value in mistakes.items() if abs(got - value) < 1e-6]
        reasons.append("Write both with the intersection I and the union U; then |P| + |G| = U + I.")
        sentence = message(reasons[0])
        raise Wrong(
            "dice_from_iou({j}) is {got:.3g}, not {want:.3g}. {sentence}",
            j=j,
            got=got,
            want=want,
            sentence=sentence,
        )


def dice_from_iou(j):
    return 2 * j / (1 + j)


def judge_average_over_flips(answer):
    generator = torch.Generator().manual_seed(4)
    net = nn.Conv2d(3, 2, 3, padding=1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.rand(2, 3, 6, 8, generator=generator)
    want = average_over_flips(net, x)
    case = f"x {tuple(x.shape)}"
    got = as_tensor(answer(net, x.clone()), want, case)
    views = [(), (-1,), (-2,), (-2, -1)]
    raw = [net(x.flip(*v) if v else x).softmax(1).detach() for v in views]
    back = [p.flip(*v) if v else p for p, v in zip(raw, views, strict=True)]
    if torch.allclose(got, sum(raw) / 4, atol=1e-5):
        raise Wrong("Four predictions are averaged that lie differently: flip each back before you add it.")
    if torch.allclose(got, sum(back), atol=1e-5):
        raise Wrong("This is the sum of four; the probabilities of a pixel no longer add up to 1.")
    if torch.allclose(got, back[0], atol=1e-5):
        raise Wrong("This is the plain prediction, without any flip.")
    if any(torch.allclose(got, (back[0] + one) / 2, atol=1e-5) for one in back[1:]):
        raise Wrong("Two of four views are averaged: as it is, left-right, upside down, and both.")
    if torch.allclose(got, sum(back[:3]) / 3, atol=1e-5):
        raise Wrong("Three of four views are averaged: left-right and upside down at once is the fourth.")
    logits = [net(x.flip(*v)).flip(*v) if v else net(x) for v in views]
    if torch.allclose(got, (sum(logits) / 4).detach(), atol=1e-5):
        raise Wrong("These are logits; average probabilities, softmax over the classes (axis 1) first.")
    if torch.allclose(got, (sum(logits) / 4).softmax(1).detach(), atol=1e-5):
        raise Wrong(
            "You average logits, then take the softmax; the mean of the four probabilities is wanted."
        )
    require_values(got, want, case)


def average_over_flips(model, x):
    views = [(), (-1,), (-2,), (-2, -1)]  # the axes to flip
    with torch.no_grad():
        return sum(model(x.flip(axes)).softmax(1).flip(axes) for axes in views) / len(views)


def judge_depths(answer):
    judge_two_variants(answer, ("depth 1", "depth 3"), larger_is_better=True, least=0.02, most=0.99)


EXERCISES = {
    "1": Exercise(
        judge_joined_shape,
        hints=(
            "Two maps are joined there: the encoder's of level 2 and the one that comes up. Which axis "
            "grows?",
            "The encoder's map at level 2 has 16·2² channels and a quarter of the height and width.",
            "Below, at level 3, it is (1, 128, 13, 8); the transposed convolution makes (1, 64, 26, 16), "
            "cut to 25×15.",
        ),
        solution=(1, 128, 25, 15),
        why="The encoder keeps (1, 64, 25, 15) at level 2. From below comes (1, 128, 13, 8), enlarged to "
        "(1, 64, 26, 16) and cut to 25×15. Concatenated, their channels stand one behind the other: 128.",
    ),
    "2": Exercise(
        judge_tile_for,
        hints=(
            "Go backwards from the output. A 3×3 convolution without padding takes 2 from a size; a "
            "level has two.",
            "Before a decoder level's convolutions it was m + 4, and half of that below, rounded up.",
            "depth times m = -(-(m + 4) // 2); then m += 4; then depth times m = 2 * m + 4.",
        ),
        solution=tile_for,
        why="Every level takes 4 pixels on each way and the bottom takes 4; what is lost far down counts "
        "double at "
        "each step up. At depth 4 that is 184: the paper's 388 needs 572, and 389 needs 588, the next "
        "that fits.",
    ),
    "3": Exercise(
        judge_dice_from_iou,
        hints=(
            "Let I be the area of the intersection and U that of the union. Write both scores with I and U.",
            "|P| + |G| counts the intersection twice, so it is U + I.",
            "Dice is 2I/(U + I). Divide above and below by U.",
        ),
        solution=dice_from_iou,
        why="Dice is 2I/(|P| + |G|) = 2I/(U + I) = 2j/(1 + j). It is never below IoU; the two rank any "
        "two predictions "
        "of one image alike, but 0.9 Dice is only 0.82 IoU.",
    ),
    "4": Exercise(
        judge_average_over_flips,
        hints=(
            "x.flip(-1) mirrors an image. What has to be done with the probabilities that come out?",
            "For each of four views: flip, predict, softmax over axis 1, flip back. Then the mean.",
            "model(x.flip(-1)).softmax(1).flip(-1) is one of the four; x.flip(-2, -1) makes another.",
        ),
        solution=average_over_flips,
        why="The truth turns with the image, the network's errors do not quite: their average is "
        "smaller. This is "
        "called test-time augmentation (测试时增强).",
    ),
    "5": Exercise(
        judge_depths,
        hints=(
            "Copy the loop of section 7, with UNet(3, 2, width=8, depth=depth), epochs=4, lr=1e-2, warmup=20",
            "For each depth and seed: seed_everything(seed), make the network, train, predict, iou(…)[1].",
            "Compare the distance of both means with the sum of both standard deviations.",
        ),
        solution={
            "depth 1": [0.8168, 0.8433, 0.8194],
            "depth 3": [0.8148, 0.8192, 0.8420],
            "conclusion": "no difference",
        },
        why="In this run the means are 0.827 and 0.825, with standard deviations of 0.015. These shapes "
        "differ from their ground in every small neighbourhood, so a network need not see far. On other data "
        "depth can matter.",
    ),
}
