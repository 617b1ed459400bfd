"""Exercises of chapter 5c, distillation."""

import math
from functools import partial

import torch

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


def judge_ratios(answer):
    try:
        got = [float(each) for each in answer]
    except (TypeError, ValueError):
        raise Wrong(
            f"Three numbers are wanted, for T = 1, T = 2 and T → ∞; this is a {type(answer).__name__}."
        ) from None
    if len(got) != 3:
        raise Wrong(f"Three numbers are wanted, for T = 1, T = 2 and T → ∞; these are {len(got)}.")
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
        raise Wrong(f"At T = 1 it is not {got[0]:g}. In p_0 / p_1 the sum below cancels: what is left?")
    wrong = near.index(False)
    raise Wrong(
        f"At {('T = 1', 'T = 2', 'T → ∞')[wrong]} it is not {got[wrong]:g}. The ratio is e^((z_0 − z_1)/T)."
    )


def judge_soft_gradient(answer):
    generator = torch.Generator().manual_seed(7)
    for rows, classes, T in ((3, 5, 2.0), (5, 3, 1.0), (2, 6, 5.0)):
        z_S, z_T = 2 * torch.randn(2, rows, classes, generator=generator)
        want, case = soft_gradient(z_S, z_T, T), f"{rows} images, {classes} classes, T = {T:g}"
        got = as_tensor(answer(z_S.clone(), z_T.clone(), T), want, case)
        if torch.allclose(got, want, atol=1e-5):
            continue
        same = partial(torch.allclose, got, atol=1e-5)
        if same(-want):
            raise Wrong(
                "The sign: where the student says too much of a class, its logit has to fall, so the gradient "
                "is positive."
            )
        if same(rows * want):
            raise Wrong("The loss is the mean over the images: divide by their number.")
        if same(want / classes):
            raise Wrong("The mean is over the images, not over all numbers.")
        if T != 1 and same(want / T):
            raise Wrong(f"For {case} a factor T is missing: T² from the loss, 1/T from the derivative.")
        if T != 1 and same(want / T**2):
            raise Wrong(f"For {case} this is the gradient of the divergence. The loss has the factor T².")
        if T != 1 and same(want * T):
            raise Wrong(f"For {case} it is T times too large: dz/T by dz is 1/T.")
        if T != 1 and same(T * (z_S.softmax(1) - z_T.softmax(1)) / rows):
            raise Wrong("You compare the probabilities at temperature 1; both have to be softened.")
        if same(T * ((z_S / T).softmax(0) - (z_T / T).softmax(0)) / rows):
            raise Wrong("The softmax runs over the images; the classes are axis 1.")
        require_values(got, want, case)


def soft_gradient(z_S, z_T, T):
    return T * ((z_S / T).softmax(1) - (z_T / T).softmax(1)) / len(z_S)


def judge_ignorant_teacher(answer):
    generator = torch.Generator().manual_seed(8)
    for epsilon, classes in ((0.1, 10), (0.3, 4)):
        got = answer(epsilon, classes)
        require_returned(got)
        try:
            z, T, alpha = got
            z = torch.as_tensor(z).float()
        except (TypeError, ValueError):
            raise Wrong("Three things are wanted: the teacher's logits, T and α.") from None
        if z.shape != (classes,):
            raise Wrong(
                f"For {classes} classes the teacher has {classes} logits, the same for every image; yours have "
                f"the shape {tuple(z.shape)}."
            )
        T, alpha = as_number(T, "T"), as_number(alpha, "α")
        if not T > 0:
            raise Wrong(f"A temperature is above 0; yours is {T:g}.")
        if not 0 <= alpha <= 1:
            raise Wrong(f"α is from 0 to 1; yours is {alpha:g}.")
        if z.max() - z.min() > 1e-4:
            raise Wrong(
                "Smoothing treats all classes alike: which logits give every class the same probability?"
            )
        if math.isclose(alpha, 1 - epsilon, rel_tol=0.01):
            raise Wrong("Upside down: α is what the label loses.")
        if not math.isclose(alpha, epsilon, rel_tol=0.01):
            raise Wrong(
                f"With smoothing {epsilon:g} the label keeps {1 - epsilon:g} of the weight. What has the rest?"
            )
        if not math.isclose(T, 1, rel_tol=0.01):
            raise Wrong(
                f"This teacher says the same at any temperature, but the student does not: at T = {T:g} it is "
                "softened, too. Smoothing softens the label alone."
            )
        student, labels = torch.randn(6, classes, generator=generator), torch.arange(6) % classes
        ours = torch.func.grad(
            lambda s, z=z, y=labels, t=T, a=alpha: distillation_loss(
                s, z.expand_as(s), y, temperature=t, alpha=a
            )
        )(student)
        theirs = torch.func.grad(
            lambda s, y=labels, e=epsilon: torch.nn.functional.cross_entropy(s, y, label_smoothing=e)
        )(student)
        require_values(ours, theirs, f"smoothing {epsilon:g}")


def ignorant_teacher(epsilon, classes):
    return torch.zeros(classes), 1, epsilon


def judge_committee(answer):
    generator = torch.Generator().manual_seed(9)
    for members, images, classes, T in ((3, 4, 5, 2.0), (2, 3, 2, 1.0), (5, 2, 3, 4.0)):
        logits = 3 * torch.randn(members, images, classes, generator=generator)
        want, case = committee(logits, T), f"{members} teachers, T = {T:g}"
        got = as_tensor(answer(logits.clone(), T), want, case)
        same = partial(torch.allclose, got, atol=1e-4)
        if same(want):
            continue
        if same((logits.mean(0) / T).softmax(-1)):
            raise Wrong(
                "You average the logits. A teacher that is very sure then outvotes the others; average what "
                "they say, the probabilities."
            )
        if same(members * want):
            raise Wrong("These rows sum to the number of teachers: divide by it.")
        if same((logits / T).softmax(1).mean(0)):
            raise Wrong("The softmax runs over the images; the classes are the last axis.")
        if same((logits / T).softmax(0).mean(0)):
            raise Wrong("The softmax runs over the teachers; the classes are the last axis.")
        if T != 1 and same(logits.softmax(-1).mean(0)):
            raise Wrong(f"For {case} the logits are not softened: divide them by T first.")
        if T != 1 and same((logits.softmax(-1).mean(0) / T).softmax(-1)):
            raise Wrong("You soften the mean. Each teacher is softened, by its logits; then comes the mean.")
        if not same(got / got.sum(-1, keepdim=True)):
            raise Wrong(f"For {case} the rows do not sum to 1.")
        require_values(got, want, case)


def committee(logits, T):
    return (logits / T).softmax(-1).mean(0)


def judge_confident_loss(answer):
    generator = torch.Generator().manual_seed(10)
    for images, least, scale, T in (
        (6, 0.6, 2.0, 3),
        (8, 0.8, 2.5, 3),
        (5, 0.0, 2.0, 3),
        (4, 0.99999, 1.0, 3),
        (6, 0.6, 2.0, 5),
        (5, 0.25, 0.0, 3),
    ):
        z_S = torch.randn(images, 4, generator=generator)
        z_T = scale * torch.randn(images, 4, generator=generator)
        want, case = confident_loss(z_S, z_T, T, least), f"least = {least:g}, T = {T}"
        given = z_S.clone().requires_grad_()
        got = answered = answer(given, z_T.clone(), T, least)
        require_returned(got)
        if not isinstance(got, torch.Tensor):
            got = torch.tensor(as_number(got, "confident_loss(…)"))
        if got.ndim:
            raise Wrong(f"One number is wanted, the mean; this has the shape {tuple(got.shape)}.")
        sure = z_T.softmax(1).amax(1) >= least
        same, kept = partial(torch.allclose, got.detach().float(), atol=1e-5), partial(_loss_of, z_S, z_T)
        if same(want):
            if sure.any():
                require_trainable(answered, given)
            continue
        if scale == 0:
            raise Wrong("An image counts also where the largest probability is exactly `least`: >=, not >.")
        if T != 3:
            raise Wrong(f"At T = {T} it is wrong, at T = 3 it was right: is T used everywhere?")
        if not sure.any():
            nothing = "; a mean over nothing is NaN" if got.isnan() else ""
            raise Wrong(f"Where the teacher is sure of no image the loss is 0{nothing}.")
        if same(want * sure.float().mean()):
            raise Wrong(f"For {case} you divide by all images. The mean is over those that count.")
        if same(want / 9):
            raise Wrong("The factor T² is missing.")
        if same(kept(~sure)):
            raise Wrong("You keep the images of which the teacher is not sure.")
        if same(kept(soft_labels(z_T, 3).amax(1) >= least)):
            raise Wrong("You ask whether the softened teacher is sure. How sure it is shows at T = 1.")
        if same(kept(z_S.softmax(1).amax(1) >= least)):
            raise Wrong("You ask whether the student is sure. The teacher has to be.")
        if same(kept(torch.ones_like(sure))):
            raise Wrong(f"For {case} only {int(sure.sum())} of {images} images count; you take all.")
        raise Wrong(f"For {case} the loss is {got.item():.4g}, not {want.item():.4g}.")


def _loss_of(z_S, z_T, which):
    return soft_loss(z_S[which], z_T[which], temperature=3) if which.any() else torch.zeros(())


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
        why="The ratio is e^((4 − 2)/T): 7.4, 2.7 and 1. Temperature takes the T-th root of every ratio, and leaves "
        "the order.",
    ),
    "2": Exercise(
        judge_soft_gradient,
        hints=(
            "Section 3 has the derivative of KL for one image. Which factors come from the loss?",
            "T² times 1/T is T, and the loss is the mean over the images.",
            "T * (softened student − softened teacher) / len(z_S), both with softmax over axis 1.",
        ),
        solution=soft_gradient,
        why="The teacher's entropy does not depend on the student, so this is the gradient of a cross-entropy, softmax "
        "minus target, with 1/T from dividing the logits.",
    ),
    "3": Exercise(
        judge_ignorant_teacher,
        hints=(
            "A smoothed label is (1 − ε) times the label plus ε times 1/K for each class. Who would say 1/K?",
            "Equal logits give equal probabilities; the label's weight 1 − ε is 1 − α.",
            "Zeros, α = ε. And the student must not be softened: which T is that?",
        ),
        solution=ignorant_teacher,
        why="Label smoothing is distillation at T = 1 from a teacher that knows nothing, but for a constant, the "
        "teacher's entropy [Yuan et al. 2019]. What a real teacher adds is the difference between classes.",
    ),
    "4": Exercise(
        judge_committee,
        hints=(
            "Each teacher gives a soft label of its own. What is done with several?",
            "Soften each by dividing its logits by T, softmax over the classes, then the mean over the first axis.",
            "(logits / T).softmax(-1).mean(0)",
        ),
        solution=committee,
        why="The mean of probabilities is a vote. The mean of logits is another fair choice, the geometric mean of the "
        "probabilities; there a single teacher can veto a class.",
    ),
    "5": Exercise(
        judge_confident_loss,
        hints=(
            "How sure the teacher is of an image: its largest probability, at T = 1.",
            "Make a mask of the images that count, and hand only those rows to soft_loss.",
            "sure = z_T.softmax(1).amax(1) >= least; soft_loss(z_S[sure], z_T[sure], temperature=T), and 0 if there is "
            "none.",
        ),
        solution=confident_loss,
        why="A teacher that learned elsewhere is wrong mostly where it is unsure. The price: the doubtful images are "
        "those from which most could be learned.",
    ),
}
