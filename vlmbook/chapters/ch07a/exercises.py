"""Exercises of chapter 7a, efficiency."""

import math

import torch
from torch import nn

from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_tensor, require_values
from vlmbook.notebook.messages import message

# --- 1: multiply-adds of a separable convolution ------------------------------------------------------------

INPUTS, OUTPUTS, KERNEL, HEIGHT, WIDTH = 32, 64, 3, 10, 12
DEPTHWISE = KERNEL**2 * INPUTS * HEIGHT * WIDTH
POINTWISE = INPUTS * OUTPUTS * HEIGHT * WIDTH


def judge_separable(answer):
    got = as_number(answer, "macs")
    if got == DEPTHWISE + POINTWISE:
        return
    slips = {
        KERNEL**2 * INPUTS * OUTPUTS * HEIGHT * WIDTH: "{got:,.0f} is the full convolution of 3×3. The "
        "depthwise one has one kernel a channel.",
        DEPTHWISE: "{got:,.0f} is the depthwise convolution alone. The 1×1 convolution costs too.",
        POINTWISE: "{got:,.0f} is the 1×1 convolution alone. The depthwise convolution costs too.",
        2 * (DEPTHWISE + POINTWISE): "{got:,.0f} counts FLOPs. One multiply-add is two FLOPs.",
        (DEPTHWISE + POINTWISE) // (HEIGHT * WIDTH): "{got:,.0f} is the number of weights. Each weight acts "
        "once for each position of the output.",
    }
    raise Wrong(
        slips.get(got, "{got:,.0f}? Add k²·C·H·W of the depthwise and C·D·H·W of the 1×1 convolution."),
        got=got,
    )


# --- 2: quantise per channel --------------------------------------------------------------------------------


def judge_quantise(answer):
    for name, w in _weights().items():
        case = message(name)
        want_q, want_s = quantise_channels(w)
        got = answer(w.clone())
        if not isinstance(got, (tuple, list)) or len(got) != 2:
            raise Wrong("For {case} return two tensors: the whole numbers q and the scales s.", case=case)
        s = as_tensor(got[1], want_s, message("the scales of {case}", case=case))
        whole = got[0].float() if isinstance(got[0], torch.Tensor) else got[0]
        q = as_tensor(whole, want_q, message("the whole numbers of {case}", case=case))
        if not torch.isfinite(q).all() or not torch.isfinite(s).all():
            raise Wrong("For {case} there is NaN or infinity: the scale of the dead channel is 0.", case=case)
        if torch.allclose(s, want_s) and torch.equal(q, want_q):
            continue
        largest = w.abs().amax()
        slips = {
            "For {case} all channels have one scale. Take the maximum of each channel.": torch.full_like(
                want_s, (largest / 127).item()
            ),
            "For {case} you divide by 128. With −127 to 127 the largest weight is 127 steps.": want_s
            * 127
            / 128,
            "For {case} you divide by 255. The numbers go from −127 to 127.": want_s * 127 / 255,
        }
        for template, scales in slips.items():
            if torch.allclose(s, scales.clamp_min(1e-8)):
                raise Wrong(template, case=case)
        if torch.allclose(s, want_s) and (q - want_q).abs().max() <= 1:
            raise Wrong("For {case} some numbers are one step away: round, do not cut off.", case=case)
        require_values(s, want_s, message("the scales of {case}", case=case))
        require_values(q, want_q, message("the whole numbers of {case}", case=case))


def _weights():
    generator = torch.Generator().manual_seed(4)
    sizes = torch.tensor([1.0, 0.1, 3.0, 0.02]).view(4, 1, 1, 1)
    plain = sizes * torch.randn(4, 2, 3, 3, generator=generator)
    dead = plain.clone()
    dead[1] = 0
    return {"weights of four channels": plain, "weights with a dead channel": dead}


def quantise_channels(w):
    s = (w.abs().amax((1, 2, 3)) / 127).clamp_min(1e-8)
    q = (w / s.view(-1, 1, 1, 1)).round()
    return q, s


# --- 3: fold a batch normalisation --------------------------------------------------------------------------


def judge_fold(answer):
    generator = torch.Generator().manual_seed(5)
    conv, norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=0.1).eval()
    for tensor in (conv.weight, norm.weight, norm.bias, norm.running_mean):
        tensor.data.copy_(torch.randn(tensor.shape, generator=generator))
    norm.running_var.copy_(0.2 + torch.rand(4, generator=generator))
    wanted = fold(conv.weight.detach(), norm)
    got = answer(conv.weight.detach().clone(), norm)
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise Wrong("Return two tensors: the new weight and the new bias.")
    weight = as_tensor(got[0], wanted[0], message("the weight"))
    bias = as_tensor(got[1], wanted[1], message("the bias"))
    if torch.allclose(weight, wanted[0], atol=1e-5) and torch.allclose(bias, wanted[1], atol=1e-5):
        return
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    with torch.no_grad():
        slips = {
            "The weight lacks ε: the root is that of σ² + ε.": (
                conv.weight * (norm.weight / norm.running_var.sqrt()).view(-1, 1, 1, 1),
                weight,
            ),
            "The weight is divided by σ² + ε. Divide by the square root.": (
                conv.weight * (norm.weight / (norm.running_var + norm.eps)).view(-1, 1, 1, 1),
                weight,
            ),
            "The bias lacks the mean: it is β − μ·γ/√(σ² + ε).": (norm.bias, bias),
            "The sign of the mean is wrong: BN subtracts μ.": (norm.bias + norm.running_mean * scale, bias),
            "In the bias μ is not multiplied by γ/√(σ² + ε).": (norm.bias - norm.running_mean, bias),
        }
    for template, (value, part) in slips.items():
        if torch.allclose(part, value, atol=1e-5):
            raise Wrong(template)
    require_values(weight, wanted[0], message("the weight"))
    require_values(bias, wanted[1], message("the bias"))


@torch.no_grad()
def fold(weight, norm):
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale


# --- 4: train, change, measure ------------------------------------------------------------------------------

BEFORE, AFTER, MACS = "pruned", "trained", "macs"


def judge_pruning(answer):
    if not isinstance(answer, dict) or set(answer) != {BEFORE, AFTER, MACS}:
        raise Wrong('A dict of three numbers is wanted, with the names "pruned", "trained" and "macs".')
    values = {name: as_number(value, name) for name, value in answer.items()}
    for name in (BEFORE, AFTER):
        if not 0 <= values[name] <= 1:
            raise Wrong(
                "{name}: {value:g} is no accuracy. It lies between 0 and 1.", name=name, value=values[name]
            )
    if math.isclose(values[BEFORE], values[AFTER]):
        raise Wrong(
            "Both accuracies are {value:.3f}. Was the same network measured twice?", value=values[AFTER]
        )
    if values[BEFORE] > values[AFTER]:
        raise Wrong("The network is worse after the training? Check which is which.")
    if values[BEFORE] > 0.9:
        raise Wrong(
            "{value:.3f} before the training? Take half of the channels away: prune_channels(network, 0.5).",
            value=values[BEFORE],
        )
    if values[AFTER] < 0.75:
        raise Wrong("{value:.3f} is low. Train one epoch, in training mode.", value=values[AFTER])
    if values[MACS] >= 0.95:
        raise Wrong("{value:.3g} times the multiply-adds? Divide those of the pruned network by the others.",
                    value=values[MACS])  # fmt: skip
    if not 0.45 <= values[MACS] <= 0.6:
        raise Wrong("{value:.3g} is not the share of the multiply-adds that stays.", value=values[MACS])


EXERCISES = {
    "1": Exercise(
        judge_separable,
        hints=(
            "How many kernels of 3×3 does the depthwise convolution have? And how many weights the 1×1 one?",
            "The depthwise convolution has 32 kernels of 9 weights, the 1×1 convolution 32·64 weights. Each "
            "weight acts at 10·12 positions.",
            "9·32·120 + 32·64·120.",
        ),
        solution=DEPTHWISE + POINTWISE,
        why="The full convolution costs 9·32·64·120 = 2,211,840. The ratio is 1/(1/64 + 1/9), about 7.9.",
    ),
    "2": Exercise(
        judge_quantise,
        hints=(
            "w.abs().amax((1, 2, 3)) is the largest weight of each channel.",
            "A dead channel has the scale 0. clamp_min(1e-8) makes it harmless.",
            "q = (w / s.view(-1, 1, 1, 1)).round()",
        ),
        solution=quantise_channels,
        why="Each channel uses all its 255 numbers. With one scale the channel of size 0.02 would have a few "
        "numbers only.",
    ),
    "3": Exercise(
        judge_fold,
        hints=(
            "In evaluation mode BN(y) is a·y + b for each channel. What are a and b?",
            "a = γ/√(σ² + ε), b = β − a·μ. In PyTorch: norm.weight, norm.running_var, norm.eps, norm.bias, "
            "norm.running_mean.",
            "weight * a.view(-1, 1, 1, 1), norm.bias - a * norm.running_mean",
        ),
        solution=fold,
        why="A convolution is linear, so a factor for each output channel can be part of its weights. In "
        "training mode this is not possible: the mean and the variance are those of the batch.",
    ),
    "4": Exercise(
        judge_pruning,
        hints=(
            "pruned = prune_channels(network, 0.5) is a new, smaller network.",
            "experiments.train_further(pruned, x, y) trains it for one epoch. Measure before and after it.",
            'experiments.count_macs(pruned, x[:1]) / experiments.count_macs(network, x[:1]) is "macs".',
        ),
        solution={BEFORE: 0.206, AFTER: 0.972, MACS: 0.502},  # of the notebook's ResNet-20, seed 0, 4 epochs
        why="The removed channels change the mean of everything after them. One epoch repairs most of it, "
        "and half of the multiply-adds are gone for good.",
    ),
}
