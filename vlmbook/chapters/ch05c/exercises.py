"""Exercises of chapter 5c, distillation."""

import math
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.nn import functional as F

from vlmbook.distillation import distillation_loss, soft_labels, soft_loss
from vlmbook.notebook.exercises import (
    Exercise,
    Wrong,
    as_number,
    as_tensor,
    require_returned,
    require_trainable,
    require_values,
)
from vlmbook.notebook.messages import message

AUTOGRAD = {
    torch.autograd.grad.__code__,
    torch.autograd.backward.__code__,
    torch.autograd.forward_ad.make_dual.__code__,
}

# --- 1 ------------------------------------------------------------------------------------------------------


def judge_ratios(answer: Any) -> None:
    got = _three_numbers(answer)
    want = [math.e**2, math.e, 1]
    near = [math.isclose(a, b, rel_tol=0.01) for a, b in zip(got, want, strict=True)]
    if all(near):
        return
    if all(math.isclose(a, 1 / b, rel_tol=0.01) for a, b in zip(got, want, strict=True)):
        raise Wrong("Upside down: how much likelier is class 0 than class 1?")
    if math.isclose(got[0], 2, rel_tol=0.01):
        raise Wrong("2 is the difference of the logits. Probabilities go with e to the power of a logit.")
    if near[0] and math.isclose(got[1], math.e**4, rel_tol=0.01):
        raise Wrong("The logits are divided by T, not multiplied.")
    if near[0] and math.isclose(got[1], math.e**2 / 2, rel_tol=0.01):
        raise Wrong("T divides the logits, before e is raised to them, and not the ratio.")
    if near[0] and near[1] and got[2] == 0:
        raise Wrong(
            "At T → ∞ all logits become 0, and so all probabilities equal. What is the ratio of two "
            "equal ones?"
        )
    if not near[0]:
        raise Wrong(
            "At T = 1 it is not {got:g}. In p_0 / p_1 the sum below cancels: what is left?", got=got[0]
        )
    wrong = near.index(False)
    raise Wrong(
        "At {where} it is not {got:g}. The ratio is e^((z_0 − z_1)/T).",
        where=("T = 1", "T = 2", "T → ∞")[wrong],
        got=got[wrong],
    )


def _three_numbers(answer):
    """Any -> list of three float. Raises Wrong for anything else."""
    try:
        numbers = tuple(islice(answer, 100))
    except TypeError:
        raise Wrong(
            "Three numbers are wanted, for T = 1, T = 2 and T → ∞; this is a {kind}.",
            kind=type(answer).__name__,
        ) from None
    if len(numbers) != 3:
        raise Wrong(
            "Three numbers are wanted, for T = 1, T = 2 and T → ∞; these are {count}.", count=len(numbers)
        )
    return [as_number(number, f"ratios[{i}]") for i, number in enumerate(numbers)]


# --- 2 ------------------------------------------------------------------------------------------------------


def judge_soft_gradient(answer: Callable) -> None:
    generator = torch.Generator().manual_seed(7)
    for rows, classes, T in ((3, 5, 2.0), (5, 3, 1.0), (2, 6, 5.0)):
        z_S, z_T = 2 * torch.randn(2, rows, classes, generator=generator)
        want = soft_gradient(z_S, z_T, T)
        case = message("{rows} images, {classes} classes, T = {T:g}", rows=rows, classes=classes, T=T)
        answered, differentiated = _watch_autograd(answer, z_S.clone(), z_T.clone(), T)
        got = as_tensor(answered, want, case)
        if not torch.allclose(got, want, atol=1e-5):
            _explain_soft_gradient(got, want, z_S, z_T, T, case)
            require_values(got, want, case)
        if differentiated:
            raise Wrong(
                "The values are right, but autograd computed them. Write the gradient as a formula of z_S, "
                "z_T and T."
            )


def _watch_autograd(answer, *arguments):
    """-> the answer for these arguments, and whether it called autograd on the way."""
    calls = []

    def note(frame, event, _):
        if event == "call" and frame.f_code in AUTOGRAD:
            calls.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        answered = answer(*arguments)
    finally:
        sys.setprofile(before)
    return answered, len(calls) > 0


def _explain_soft_gradient(got, want, z_S, z_T, T, case):
    """Raises Wrong for a mistake that is recognised by its values."""
    same = partial(torch.allclose, got, atol=1e-5)
    rows, classes = want.shape
    if same(-want):
        raise Wrong(
            "The sign: where the student's probability of a class is too high, its logit has to fall, so the "
            "gradient is positive."
        )
    if same(rows * want):
        raise Wrong("The loss is the mean over the images: divide by their number.")
    if same(want / classes):
        raise Wrong("The mean is over the images, not over all numbers.")
    if same(T * ((z_S / T).softmax(0) - (z_T / T).softmax(0)) / rows):
        raise Wrong("The softmax runs over the images; the classes are axis 1.")
    if T == 1:  # where a forgotten T does not show
        return
    if same(want / T):
        raise Wrong("For {case} a factor T is missing: T² from the loss, 1/T from the derivative.", case=case)
    if same(want / T**2):
        raise Wrong(
            "For {case} this is the gradient of the divergence. The loss has the factor T².", case=case
        )
    if same(want * T):
        raise Wrong("For {case} it is T times too large: dz/T by dz is 1/T.", case=case)
    if same(T * (z_S.softmax(1) - z_T.softmax(1)) / rows):
        raise Wrong("You compare the probabilities at temperature 1; both have to be softened.")


def soft_gradient(z_S, z_T, T):
    return T * ((z_S / T).softmax(1) - (z_T / T).softmax(1)) / len(z_S)


# --- 3 ------------------------------------------------------------------------------------------------------


def judge_ignorant_teacher(answer: Callable) -> None:
    generator = torch.Generator().manual_seed(8)
    for epsilon, classes in ((0.1, 10), (0.3, 4)):
        z, T, alpha = _three_parts(answer(epsilon, classes), classes)
        _explain_teacher(z, T, alpha, epsilon)
        student = torch.randn(6, classes, generator=generator)
        labels = torch.arange(6) % classes
        teacher = z.expand_as(student)
        distilled = partial(
            distillation_loss, teacher_logits=teacher, labels=labels, temperature=T, alpha=alpha
        )
        smoothed = partial(F.cross_entropy, target=labels, label_smoothing=epsilon)
        case = message("smoothing {epsilon:g}", epsilon=epsilon)
        require_values(torch.func.grad(distilled)(student), torch.func.grad(smoothed)(student), case)


def _three_parts(got, classes):
    """Any -> logits (classes,), T, alpha. Raises Wrong for anything else."""
    require_returned(got)
    try:
        z, T, alpha = got
        z = torch.as_tensor(z).float()
    except (TypeError, ValueError):
        raise Wrong("Three things are wanted: the teacher's logits, T and α.") from None
    if z.shape != (classes,):
        raise Wrong(
            "For {classes} classes the teacher has {classes} logits, the same for every image; yours have "
            "the shape {shape}.",
            classes=classes,
            shape=tuple(z.shape),
        )
    z = as_tensor(z, torch.zeros(classes), "z")
    return z, as_number(T, "T"), as_number(alpha, "α")


def _explain_teacher(z, T, alpha, epsilon):
    """Raises Wrong for logits, a temperature or a weight that are not those of label smoothing."""
    if not T > 0:
        raise Wrong("A temperature is above 0; yours is {T:g}.", T=T)
    if not 0 <= alpha <= 1:
        raise Wrong("α is from 0 to 1; yours is {alpha:g}.", alpha=alpha)
    if not z.max() - z.min() <= 1e-4:
        raise Wrong("Smoothing treats all classes alike: which logits give every class the same probability?")
    if math.isclose(alpha, 1 - epsilon, rel_tol=0.01):
        raise Wrong("Upside down: α is what the label loses.")
    if not math.isclose(alpha, epsilon, rel_tol=0.01):
        raise Wrong(
            "With smoothing {epsilon:g} the label keeps {rest:g} of the weight. What has the rest?",
            epsilon=epsilon,
            rest=1 - epsilon,
        )
    if not math.isclose(T, 1, rel_tol=0.01):
        raise Wrong(
            "The soft labels of this teacher are the same at any temperature, but the student's are not: at "
            "T = {T:g} they are softened, too. Smoothing softens the label alone.",
            T=T,
        )


def ignorant_teacher(epsilon, classes):
    return torch.zeros(classes), 1, epsilon


# --- 4 ------------------------------------------------------------------------------------------------------


def judge_committee(answer: Callable) -> None:
    generator = torch.Generator().manual_seed(9)
    for members, images, classes, T in ((3, 4, 5, 2.0), (2, 3, 2, 1.0), (5, 2, 3, 4.0)):
        logits = 3 * torch.randn(members, images, classes, generator=generator)
        want = committee(logits, T)
        case = message("{members} teachers, T = {T:g}", members=members, T=T)
        got = as_tensor(answer(logits.clone(), T), want, case)
        if not torch.allclose(got, want, atol=1e-4):
            _explain_committee(got, want, logits, T, case)
            require_values(got, want, case)


def _explain_committee(got, want, logits, T, case):
    """Raises Wrong for a mistake that is recognised by its values."""
    same = partial(torch.allclose, got, atol=1e-4)
    if same((logits.mean(0) / T).softmax(-1)):
        raise Wrong(
            "This is the softened mean of the logits. Section 6 uses it, and it is a good label too. This "
            "exercise asks for another one: soften each teacher first, then take the mean of the "
            "probabilities."
        )
    if same(len(logits) * want):
        raise Wrong("These rows sum to the number of teachers: divide by it.")
    if same((logits / T).softmax(1).mean(0)):
        raise Wrong("The softmax runs over the images; the classes are the last axis.")
    if same((logits / T).softmax(0).mean(0)):
        raise Wrong("The softmax runs over the teachers; the classes are the last axis.")
    if T != 1 and same(logits.softmax(-1).mean(0)):
        raise Wrong("For {case} the logits are not softened: divide them by T first.", case=case)
    if T != 1 and same((logits.softmax(-1).mean(0) / T).softmax(-1)):
        raise Wrong("You soften the mean. Each teacher is softened, by its logits; then comes the mean.")
    if not same(got / got.sum(-1, keepdim=True)):
        raise Wrong("For {case} the rows do not sum to 1.", case=case)


def committee(logits, T):
    return (logits / T).softmax(-1).mean(0)


# --- 5 ------------------------------------------------------------------------------------------------------

# images, least, scale of the teacher's logits, T
CONFIDENCE_CASES = (
    (6, 0.6, 2.0, 3),
    (8, 0.8, 2.5, 3),
    (5, 0.0, 2.0, 3),
    (4, 0.99999, 1.0, 3),
    (6, 0.6, 2.0, 5),
    (5, 0.25, 0.0, 3),
)


def judge_confident_loss(answer: Callable) -> None:
    generator = torch.Generator().manual_seed(10)
    for images, least, scale, T in CONFIDENCE_CASES:
        z_S = torch.randn(images, 4, generator=generator)
        z_T = scale * torch.randn(images, 4, generator=generator)
        want = confident_loss(z_S, z_T, T, least)
        case = message("least = {least:g}, T = {T}", least=least, T=T)
        given = z_S.clone().requires_grad_()
        answered = answer(given, z_T.clone(), T, least)
        got = _one_number(answered, want, case)
        if not torch.allclose(got, want, atol=1e-5):
            _explain_confident_loss(got, want, z_S, z_T, T, least, case)
        if (z_T.softmax(1).amax(1) >= least).any():
            require_trainable(answered, given)


def _one_number(got, want, case):
    """A number or a scalar tensor -> scalar tensor. Raises Wrong for anything else."""
    require_returned(got)
    if not isinstance(got, torch.Tensor):
        return torch.tensor(as_number(got, "confident_loss(…)"))
    if got.ndim > 0:
        raise Wrong("One number is wanted, the mean; this has the shape {shape}.", shape=tuple(got.shape))
    return as_tensor(got, want, case)


def _explain_confident_loss(got, want, z_S, z_T, T, least, case):
    """Raises Wrong: what the loss counts that it should not, or leaves out."""
    same = partial(torch.allclose, got, atol=1e-5)
    confidence = z_T.softmax(1).amax(1)
    sure = confidence >= least
    if not (confidence > least).any() and sure.any():
        raise Wrong("An image counts also where the largest probability is exactly `least`: >=, not >.")
    if T != 3:
        raise Wrong("At T = {T} it is wrong, at T = 3 it was right: is T used everywhere?", T=T)
    if not sure.any():
        raise Wrong("Where the teacher is sure of no image the loss is 0; a mean over nothing is NaN.")
    if same(want * sure.float().mean()):
        raise Wrong("For {case} you divide by all images. The mean is over those that count.", case=case)
    if same(want / T**2):
        raise Wrong("The factor T² is missing.")
    if same(_loss_of(z_S, z_T, ~sure)):
        raise Wrong("You keep the images of which the teacher is not sure.")
    if same(_loss_of(z_S, z_T, soft_labels(z_T, T).amax(1) >= least)):
        raise Wrong("You ask whether the softened teacher is sure. How sure it is shows at T = 1.")
    if same(_loss_of(z_S, z_T, z_S.softmax(1).amax(1) >= least)):
        raise Wrong("You ask whether the student is sure. The teacher has to be.")
    if same(_loss_of(z_S, z_T, torch.ones_like(sure))):
        raise Wrong(
            "For {case} only {count} of {images} images count; you take all.",
            case=case,
            count=int(sure.sum()),
            images=len(sure),
        )
    raise Wrong(
        "For {case} the loss is {got:.4g}, not {want:.4g}.", case=case, got=got.item(), want=want.item()
    )


def _loss_of(z_S, z_T, which):
    if not which.any():
        return torch.zeros(())
    return soft_loss(z_S[which], z_T[which], temperature=3)


def confident_loss(z_S, z_T, T, least):
    sure = z_T.softmax(1).amax(1) >= least
    return soft_loss(z_S[sure], z_T[sure], temperature=T) if sure.any() else 0 * z_S.sum()


EXERCISES = {
    "1": Exercise(
        judge_ratios,
        hints=(
            "Write p_0 / p_1 with the formula of section 2. What cancels?",
            "e^(4/T) / e^(2/T) is e to the power of a difference.",
            "The difference of the logits is 2: e^(2/T), at T = 1, 2 and very large.",
        ),
        solution=(math.e**2, math.e, 1.0),
        why="The ratio is e^((4 − 2)/T): 7.4, 2.7 and 1. Temperature takes the T-th root of every ratio, and "
        "leaves the order.",
    ),
    "2": Exercise(
        judge_soft_gradient,
        hints=(
            "Section 3 has the derivative of KL for one image. Which factors come from the loss?",
            "T² times 1/T is T, and the loss is the mean over the images.",
            "T * (softened student − softened teacher) / len(z_S), both with softmax over axis 1.",
        ),
        solution=soft_gradient,
        why="The teacher's entropy does not depend on the student, so this is the gradient of a "
        "cross-entropy, softmax minus target, with 1/T from dividing the logits.",
    ),
    "3": Exercise(
        judge_ignorant_teacher,
        hints=(
            "A smoothed label is (1 − ε) times the label plus ε times 1/K for each class. Which teacher has "
            "the soft label 1/K?",
            "Equal logits give equal probabilities; the label's weight 1 − ε is 1 − α.",
            "Zeros, α = ε. And the student must not be softened: which T is that?",
        ),
        solution=ignorant_teacher,
        why="Label smoothing is distillation at T = 1 from a teacher that knows nothing, but for a constant, "
        "the teacher's entropy [Yuan et al. 2020]. A real teacher adds the difference between classes.",
    ),
    "4": Exercise(
        judge_committee,
        hints=(
            "Each teacher gives a soft label of its own. What is done with several?",
            "Soften each by dividing its logits by T, softmax over the classes, then the mean over the first "
            "axis.",
            "(logits / T).softmax(-1).mean(0)",
        ),
        solution=committee,
        why="The mean of probabilities is a vote. The mean of logits is another fair choice, the geometric "
        "mean of the probabilities; there a single teacher can veto a class.",
    ),
    "5": Exercise(
        judge_confident_loss,
        hints=(
            "How sure the teacher is of an image: its largest probability, at T = 1.",
            "Make a mask of the images that count, and give only those rows to soft_loss.",
            "sure = z_T.softmax(1).amax(1) >= least; soft_loss(z_S[sure], z_T[sure], temperature=T), and 0 "
            "if there is none.",
        ),
        solution=confident_loss,
        why="A teacher that learned elsewhere is wrong mostly where it is unsure. The price: the doubtful "
        "images are those from which most could be learned.",
    ),
}
