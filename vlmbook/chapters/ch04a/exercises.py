"""Exercises of chapter 4a, generative adversarial networks."""

import math

import torch
from torch.nn import functional as F

from vlmbook.chapters.measured import judge_two_variants
from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_shape, as_tensor, require_trainable
from vlmbook.notebook.messages import message


def judge_map_shape(answer):
    got = as_shape(answer, "each transposed convolution doubles it exactly")
    batch, channels, height, width = got
    if got == (5, 16, 64, 64):
        raise Wrong("This is the map that leaves the last transposed convolution, the fourth.")
    if got == (5, 3, 64, 64):
        raise Wrong("This is the image. The map after the second transposed convolution is asked for.")
    if batch != 5:
        raise Wrong("B is {batch}: one map for each of the 5 noise vectors.", batch=batch)
    if height == width and height in (4, 8, 32, 64):
        raise Wrong(
            "{size}×{size}: it starts at 4×4, and two transposed convolutions double it twice.", size=height
        )
    if (height, width) != (16, 16):
        raise Wrong("H, W = {height}, {width}: 4×4, doubled twice.", height=height, width=width)
    if channels == 256:
        raise Wrong("256 channels are at the start, before the first transposed convolution.")
    if channels in (32, 128):
        raise Wrong(
            "C is {channels}, one step off: four transposed convolutions halve 256 to 16; this is the "
            "second.",
            channels=channels,
        )
    if channels == 3:
        raise Wrong("Only the image has 3 channels; a last 3×3 convolution makes them.")
    if channels != 64:
        raise Wrong(
            "C is {channels}: from 4 to 64 are four doublings, so it starts with 16·2⁴ channels; halve "
            "twice.",
            channels=channels,
        )


def judge_times_more_probable(answer):
    for logit in (2.0, -3.0, 0.5, 0.0):
        got, want = as_number(answer(logit), f"times_more_probable({logit})"), math.exp(logit)
        if math.isclose(got, want, rel_tol=1e-5):
            continue
        raise Wrong(
            "times_more_probable({logit}) is {got:.4g}, not {want:.4g}. {help}",
            logit=logit,
            got=got,
            want=want,
            help=message(_explain_ratio(logit, got)),
        )


def _explain_ratio(logit, got):
    """-> str: which slip gives this number."""
    d = 1 / (1 + math.exp(-logit))
    slips = {
        "This is D(x), the probability that the image is real.": d,
        "This is g/p: the generator's probability stands below.": math.exp(-logit),
        "The logit is the logarithm of what is asked for.": logit,
        "This is 1 − D(x).": 1 - d,
        "This takes the logit for D(x); D(x) is its sigmoid.": logit / (1 - logit),
        "This is the base 2; the sigmoid has e.": 2.0**logit,
    }
    for slip, value in slips.items():
        if math.isclose(got, value, rel_tol=1e-5, abs_tol=1e-9):
            return slip
    return "Solve D = p/(p + g) for p/g, then put the sigmoid of the logit for D."


def times_more_probable(logit):
    return math.exp(logit)


def judge_pair_loss(answer):
    real, fake = torch.tensor([2.0, -1.0, 0.5, 3.0]), torch.tensor([-0.5, 1.5, 0.0, 2.0])
    want = pair_loss(real, fake)
    got = as_tensor(answer(real.clone(), fake.clone()), want, "four pairs")
    if not torch.isclose(got, want, atol=1e-5):
        _explain_pair_loss(got, real, fake)
        raise Wrong(
            "For four pairs the loss is {got:.4g}, not {want:.4g}: take real − fake, its log-sigmoid, and "
            "minus the mean.",
            got=got.item(),
            want=want.item(),
        )
    far = as_tensor(answer(torch.tensor([-200.0]), torch.tensor([0.0])), want, "one pair")
    pair = real.clone().requires_grad_(), fake.clone().requires_grad_()
    require_trainable(answer(*pair), *pair)
    if not torch.allclose(pair[0].grad, -(fake - real).sigmoid() / 4, atol=1e-5):
        raise Wrong("The number is right, but its gradient is not: is there a detach on the way?")
    if not torch.isclose(far, torch.tensor(200.0)):
        raise Wrong(
            "For a logit 200 below its partner's your loss is {got:.3g}, not 200: the sigmoid is rounded to "
            "0 before its logarithm. F.softplus(-x) or -F.logsigmoid(x) is minus the logarithm in one step.",
            got=far.item(),
        )


def _explain_pair_loss(got, real, fake):
    """Raises Wrong where a known slip gives this loss."""
    gap = real - fake
    slips = {
        "The sign is exchanged: this is the loss of the generator, whose image is to look more real.": (
            F.softplus(gap).mean()
        ),
        "This is the sum over the pairs; the mean is wanted.": F.softplus(-gap).sum(),
        "Minus the logarithm is wanted: a loss that falls as the probability grows.": (
            -F.softplus(-gap).mean()
        ),
        "Here is no logarithm yet, only the probability.": gap.sigmoid().mean(),
        "First the logarithm for each pair, then the mean.": -gap.sigmoid().mean().log(),
        "Means are taken before the difference; each real image has its own partner.": (
            F.softplus(fake.mean() - real.mean())
        ),
        "This is the loss of section 2, which looks at each image alone.": (
            F.softplus(-real).mean() + F.softplus(fake).mean()
        ),
        "Subtract the logits, not their sigmoids.": (
            -(real.sigmoid() - fake.sigmoid()).sigmoid().log().mean()
        ),
        "Each real image is compared with its own partner only, not with all.": (
            F.softplus(fake[None] - real[:, None]).mean()
        ),
        "This is half of it: the mean over the pairs, once.": F.softplus(-gap).mean() / 2,
        "This only subtracts: sigmoid and logarithm are missing.": -gap.mean(),
    }
    _raise_slip(slips, got)


def pair_loss(real, fake):
    return F.softplus(fake - real).mean()


class _Bowl(torch.nn.Module):
    """A discriminator with a gradient that differs from image to image: w · (x − 0.3)² summed."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.5, 2.0, 1.0]).view(3, 1, 1))

    def forward(self, x):
        return (self.weight * (x - 0.3).square()).flatten(1).sum(1)


def judge_gradient_penalty(answer):
    generator = torch.Generator().manual_seed(4)
    real, fake = (torch.rand(4, 3, 2, 2, generator=generator) for _ in range(2))
    eps, net = torch.rand(4, 1, 1, 1, generator=generator), _Bowl()
    want = gradient_penalty(net, real, fake, eps)
    answered = answer(net, real.clone(), fake.clone(), eps.clone())
    got = as_tensor(answered, want, "four images")
    if not torch.isclose(got, want, atol=1e-5):
        _explain_gradient_penalty(got, net, real, fake, eps)
        raise Wrong(
            "For four images the penalty is {got:.4g}, not {want:.4g}: mix, let the mixture ask for "
            "gradients, differentiate the sum of D's scores, take one norm an image.",
            got=got.item(),
            want=want.item(),
        )
    if not answered.requires_grad:
        raise Wrong(
            "The number is right, but no gradient reaches D's parameters: torch.autograd.grad needs "
            "create_graph=True, and nothing may be detached."
        )
    (slope,) = torch.autograd.grad(answered, net.weight, materialize_grads=True)
    (want_slope,) = torch.autograd.grad(want, net.weight)
    if not torch.allclose(slope, want_slope, atol=1e-4):
        raise Wrong(
            "The number is right, but its gradient for D's parameters is not: is there a detach on the way?"
        )


def _explain_gradient_penalty(got, net, real, fake, eps):
    """Raises Wrong where a known slip gives this penalty."""

    def gradients(x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(net(x).sum(), x)[0].flatten(1)

    def off_by(norms):  # mean of (norm − 1)²
        return (norms - 1).square().mean()

    between = gradients(eps * real + (1 - eps) * fake)
    swapped = gradients(eps * fake + (1 - eps) * real)
    norms = between.norm(dim=1)
    slips = {
        "ε belongs to the real image, 1 − ε to the generated one.": off_by(swapped.norm(dim=1)),
        "The gradient is taken at real images, not between real and generated ones.": (
            off_by(gradients(real).norm(dim=1))
        ),
        "The gradient is taken at generated images, not between real and generated ones.": (
            off_by(gradients(fake).norm(dim=1))
        ),
        "This is R1's form, the squared norm; here the norm should be 1, not 0.": norms.square().mean(),
        "The root is missing: 1 is subtracted from the squared norm.": off_by(norms.square()),
        "The mean is squared; square for each image first.": off_by(norms.mean()),
        "This is the sum over the images; the mean is wanted.": (norms - 1).square().sum(),
        "The square is missing.": (norms - 1).mean(),
        "This is one norm of the whole batch; each image has its own.": off_by(between.norm()),
        "The scores were averaged before the gradient, which divides it by B; sum them.": (
            off_by(norms / len(real))
        ),
        "The norm is taken over the channels only; it goes over all numbers of an image.": (
            off_by(between.view(4, 3, 2, 2).norm(dim=1))
        ),
    }
    _raise_slip(slips, got)


def gradient_penalty(D, real, fake, eps):
    x = (eps * real + (1 - eps) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def judge_penalties(answer):
    judge_two_variants(answer, ("no penalty", "R1"), larger_is_better=True, least=0.2, most=0.99)


def _raise_slip(slips, got):
    """{message: the value that the slip gives}, scalar -> raises Wrong for the first that is `got`."""
    for slip, value in slips.items():
        if torch.isclose(got, value, atol=1e-5):
            raise Wrong(slip)


EXERCISES = {
    "1": Exercise(
        judge_map_shape,
        hints=(
            "How many doublings lead from 4 to 64? There are as many transposed convolutions.",
            "Four. The last one leaves 16 channels, the one before it 32. How many did the first get?",
            "It starts with (5, 256, 4, 4); the first makes (5, 128, 8, 8).",
        ),
        solution=(5, 64, 16, 16),
        why="64 = 4·2⁴, so there are four transposed convolutions and 16·2⁴ = 256 channels at the start. Two "
        "of them double 4×4 to 16×16 and halve 256 to 64.",
    ),
    "2": Exercise(
        judge_times_more_probable,
        hints=(
            "D*(x) = p/(p + g). Divide above and below by g.",
            "With r = p/g it is D = r/(r + 1), so r = D/(1 − D).",
            "For D = 1/(1 + e^−l), what is D/(1 − D)? Write it out, or try l = 0.",
        ),
        solution=times_more_probable,
        why="D/(1 − D) = p/g, and for a sigmoid this is e^l. So the logit of the best discriminator is "
        "log p(x) − log g(x): a discriminator estimates a ratio of two probabilities, though nobody can "
        "compute either.",
    ),
    "3": Exercise(
        judge_pair_loss,
        hints=(
            "C(x_r) − C(x_g) is again a logit: of the statement that the real image looks more real.",
            "Minus the logarithm of a sigmoid is F.softplus of minus the logit.",
            "F.softplus(-(real - fake)), and the mean of it.",
        ),
        solution=pair_loss,
        why="C scores one image at a time, so it can also score G(z) alone; only the loss looks at a pair. "
        "And exchanging the two now changes the sign, so nothing is learned from the order.",
    ),
    "4": Exercise(
        judge_gradient_penalty,
        hints=(
            "Mix, detach, requires_grad_(): then D(x).sum() can be differentiated by x; each image gets its "
            "own gradient.",
            "torch.autograd.grad(D(x).sum(), x, create_graph=True) returns a tuple of one, shaped like x.",
            "gradient.flatten(1).norm(dim=1) has one norm an image; subtract 1, square, mean.",
        ),
        solution=gradient_penalty,
        why="A gradient of norm 1 between real and generated images is what the best critic of the "
        "Wasserstein GAN has. Summing over the batch keeps each image's gradient apart; create_graph lets "
        "the penalty reach D's parameters.",
    ),
    "5": Exercise(
        judge_penalties,
        hints=(
            'watch(seed)["share"] is one of the six numbers.',
            'For R1: watch(seed, penalty=partial(r1, gamma=1.0))["share"]. Both get the seeds 0, 1, 2.',
            "Compare the distance of both means with the sum of both standard deviations.",
        ),
        solution={
            "no penalty": [0.623, 0.655, 0.576],
            "R1": [0.590, 0.584, 0.532],
            "conclusion": "no difference",
        },
        why="In this run the means are 0.618 and 0.569, with standard deviations of 0.040 and 0.032. All "
        "eight modes were found in all six games. With three seeds such a small difference shows nothing.",
    ),
}
