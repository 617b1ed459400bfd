"""Exercises of chapter 6b, generating and editing images."""

import math

import torch
from torch.nn import functional as F

from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_tensor, require_values
from vlmbook.notebook.messages import message

# --- 1: how much a tile overlaps ----------------------------------------------------------------------------

KERNELS = (5, 5, 3, 3, 1)
OVERLAP = sum((size - 1) // 2 for size in KERNELS)


def judge_overlap(answer):
    got = as_number(answer, "overlap")
    if got == OVERLAP:
        return
    slips = {
        2 * OVERLAP: "{got:g} is the sum of both sides. One side is asked for.",
        2 * OVERLAP + 1: "{got:g} is the side of the whole receptive field. One side without the middle is "
        "asked for.",
        sum(
            KERNELS
        ): "{got:g} is the sum of the kernel sizes. A kernel of k×k reaches (k − 1)/2 pixels to each side.",
        2: "{got:g} is the reach of the largest kernel alone. The reaches of all layers add up.",
        len(
            KERNELS
        ): "{got:g} is the number of layers. A kernel of 5×5 reaches two pixels, and a kernel of 1×1 "
        "reaches none.",
        OVERLAP + 1: "{got:g} counts a pixel for the kernel of size 1, which sees its own pixel only.",
    }
    default = "{got:g} pixels? Each layer of size k adds (k − 1)/2 pixels to each side."
    raise Wrong(slips.get(got, default), got=got)


# --- 2: PSNR in a hole --------------------------------------------------------------------------------------


def judge_psnr(answer):
    for case, (image, truth, mask) in _hole_cases().items():
        name = message(case)
        got = as_number(answer(image.clone(), truth.clone(), mask.clone()), name)
        want = psnr_in_hole(image, truth, mask)
        if math.isclose(got, want, abs_tol=1e-3):
            continue
        squares = (image - truth).square()
        hole = float((squares * mask).sum() / mask.sum() / len(image))
        everywhere, spread = float(squares.mean()), float((squares * mask).mean())
        slips = {
            _decibels(
                everywhere
            ): "For {case} all pixels count in your answer. Only those with mask 1 should.",
            _decibels(spread): "For {case} you divide by all pixels. Divide by those of the hole.",
            _decibels(
                hole * len(image)
            ): "For {case} the sum over the channels is divided by the pixels of the "
            "mask. Divide by the channels too.",
            2 * _decibels(hole): "For {case} the factor is 20. Use 10: the factor 20 is for the root "
            "of the MSE.",
            -_decibels(hole): "For {case} the sign is wrong: a smaller error means more decibels.",
            -10 * math.log(hole): "For {case} the logarithm is the natural one. Decibels need log10.",
            hole: "For {case} your answer is the MSE. Turn it into decibels.",
        }
        fields = {"case": name, "got": got, "want": want}
        for value, template in slips.items():
            if math.isclose(got, value, abs_tol=1e-3):
                raise Wrong(template, **fields)
        raise Wrong("For {case} the PSNR is {want:.2f} dB, got {got:.2f}.", **fields)


def _decibels(error):
    return -10 * math.log10(error)


def _hole_cases():
    generator = torch.Generator().manual_seed(2)
    truth = torch.rand(3, 9, 14, generator=generator)
    image = (truth + 0.2 * torch.randn(truth.shape, generator=generator)).clamp(0, 1)
    mask = (torch.rand(1, 9, 14, generator=generator) < 0.3).float()
    return {
        "a colour image": (image, truth, mask),
        "a grey image": (image[:1], truth[:1], mask),
        "a hole of one pixel": (image, truth, F.one_hot(torch.tensor([40]), 126).view(1, 9, 14).float()),
    }


def psnr_in_hole(image, truth, mask):
    inside = (image - truth)[:, mask[0] == 1]
    return -10 * inside.square().mean().log10().item()


# --- 3: Gram matrices ---------------------------------------------------------------------------------------


def judge_gram(answer):
    generator = torch.Generator().manual_seed(3)
    for shape in ((1, 3, 4, 5), (2, 4, 3, 6)):
        features = torch.randn(shape, generator=generator) + 0.5
        case = message("features of shape {shape}", shape=str(shape))
        want = gram_matrices(features)
        got = as_tensor(answer(features.clone()), want, case)
        if torch.allclose(got, want, atol=1e-4):
            continue
        flat = features.flatten(2)
        centred = flat - flat.mean(2, keepdim=True)
        slips = {
            "For {case} the sum over the pixels is not divided by their number.": want * flat.shape[2],
            "For {case} you divide by the channels too. Divide by the pixels, H·W.": want / flat.shape[1],
            "For {case} the means are subtracted. That is the covariance; the Gram matrix keeps the "
            "means.": centred @ centred.transpose(1, 2) / flat.shape[2],
            "For {case} one matrix is made of the whole batch. Each image has its own.": want.mean(
                0, keepdim=True
            ).expand_as(want),
        }
        for template, values in slips.items():
            if torch.allclose(got, values, atol=1e-4):
                raise Wrong(template, case=case)
        require_values(got, want, case)


def gram_matrices(features):
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


# --- 4: the inverse of the pixel shuffle --------------------------------------------------------------------


def judge_unshuffle(answer):
    for shape, factor in (((1, 1, 4, 6), 2), ((2, 3, 6, 9), 3)):
        x = torch.arange(float(math.prod(shape))).view(shape)
        case = message("shape {shape} and f = {factor}", shape=str(shape), factor=factor)
        want = F.pixel_unshuffle(x, factor)
        got = as_tensor(answer(x.clone(), factor), want, case)
        if torch.equal(got, want):
            continue
        batch, channels, height, width = shape
        cells = x.view(batch, channels, height // factor, factor, width // factor, factor)
        slips = {
            "For {case} i and j are exchanged: channel f·i + j holds row i and column j of each "
            "square.": cells.permute(0, 1, 5, 3, 2, 4),
            "For {case} each channel holds a block of neighbouring pixels. Channel f·i + j should hold rows "
            "i, i + f, i + 2f, … and columns j, j + f, …": x.view(
                batch, channels, factor, height // factor, factor, width // factor
            ).permute(0, 1, 2, 4, 3, 5),
            "For {case} the order of the channels is wrong. The f² channels that come from one channel of x "
            "should be neighbours.": cells.permute(0, 3, 5, 1, 2, 4),
        }
        for template, values in slips.items():
            if torch.equal(got, values.reshape(want.shape)):
                raise Wrong(template, case=case)
        require_values(got, want, case)


def unshuffle(x, f):
    parts = [x[:, channel, i::f, j::f] for channel in range(x.shape[1]) for i in range(f) for j in range(f)]
    return torch.stack(parts, 1)


# --- 5: train, change, measure ------------------------------------------------------------------------------

WITHOUT, WITH = "trained without noise", "trained with noise"


def judge_noisy_gain(answer):
    if not isinstance(answer, dict) or set(answer) != {WITHOUT, WITH}:
        raise Wrong(
            'A dict of two numbers is wanted, with the names "trained without noise" and '
            '"trained with noise".'
        )
    gains = {name: as_number(value, name) for name, value in answer.items()}
    for name, gain in gains.items():
        if abs(gain) > 10:
            raise Wrong(
                "{name}: {gain:.1f} dB is no gain. Subtract the PSNR of the interpolation; "
                "measure_degradations does so.",
                name=name,
                gain=gain,
            )
    if gains[WITHOUT] < -3:
        raise Wrong("{gain:.2f} dB is the sum of the four gains. Take their mean.", gain=gains[WITHOUT])
    if math.isclose(gains[WITHOUT], gains[WITH], abs_tol=1e-6):
        raise Wrong("Both are {gain:.3f} dB. Was the same network measured twice?", gain=gains[WITH])
    if gains[WITHOUT] > gains[WITH]:
        raise Wrong("The network trained without noise has the larger gain. Did you exchange the two values?")
    if gains[WITHOUT] > 0.3:
        raise Wrong(
            "{gain:.2f} dB for the network that never saw noise? Take the value for the noise of 10/255.",
            gain=gains[WITHOUT],
        )
    if gains[WITH] - gains[WITHOUT] < 0.3:
        raise Wrong(
            "The network trained with noise is only {difference:.2f} dB better than the other one. Was the "
            "noise added to `small`, with 6.7/255, and not to `large`?",
            difference=gains[WITH] - gains[WITHOUT],
        )


EXERCISES = {
    "1": Exercise(
        judge_overlap,
        hints=(
            "How far does a kernel of 3×3 reach from its middle? And one of 5×5?",
            "A kernel of k×k reaches (k − 1)/2 pixels to each side. The reaches of the layers add up.",
            "2 + 2 + 1 + 1 + 0.",
        ),
        solution=OVERLAP,
        why="With this overlap each tile sees all pixels that its result depends on. So tiles and the whole "
        "image give the same result.",
    ),
    "2": Exercise(
        judge_psnr,
        hints=(
            "Which pixels count? Choose them first, then take the mean of the squared differences.",
            "(image - truth)[:, mask[0] == 1] holds the differences in the hole, of all channels.",
            "-10 * inside.square().mean().log10().item()",
        ),
        solution=psnr_in_hole,
        why="Over the whole image the known pixels, which are exact, would add decibels: the smaller the "
        "hole, the better each method would look.",
    ),
    "3": Exercise(
        judge_gram,
        hints=(
            "Flatten height and width to one axis of pixels. Which two axes are multiplied?",
            "flat is (B, D, N). A matrix product of (D, N) and (N, D) sums over the pixels.",
            "flat @ flat.transpose(1, 2) / flat.shape[2]",
        ),
        solution=gram_matrices,
        why="The sum runs over the pixels, so their order does not matter. The size of the image does not "
        "matter either, because the sum is divided by it.",
    ),
    "4": Exercise(
        judge_unshuffle,
        hints=(
            "Which pixels of x go to channel f·i + j? Those in rows i, i + f, i + 2f …",
            "x[:, channel, i::f, j::f] has the shape (B, H, W). Stack these parts along axis 1.",
            "The order is: for each channel, for each i, for each j.",
        ),
        solution=unshuffle,
        why="Nothing is lost: the pixel shuffle only moves numbers. So it has an exact inverse, unlike a "
        "pooling.",
    ),
    "5": Exercise(
        judge_noisy_gain,
        hints=(
            "small + 6.7 / 255 * torch.randn_like(small) is the new input; `large` stays as it is.",
            "editing.load_network(network.state_dict(), 2) makes a network that editing.upscale takes.",
            "measure_degradations(enlarge, list(held_out.values()))['noise, σ = 10/255'] holds four gains. "
            "Take their mean.",
        ),
        solution={WITHOUT: -1.22, WITH: 0.46},  # measured with seed 0
        why="The network learns to reverse the degradation that it is shown. On clean photographs the second "
        "network is worse than interpolation: it smooths details that look like noise.",
    ),
}
