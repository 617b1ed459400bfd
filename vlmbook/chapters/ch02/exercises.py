"""Exercises of chapter 2, foundations."""

import math

import torch

from vlmbook.chapters.measured import judge_two_variants
from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_tensor, require_values
from vlmbook.notebook.messages import message

# --- 1: a power law by hand ---------------------------------------------------------------------------------

FEW, MANY, NEXT = (50, 0.24), (800, 0.06), 3200
EXPONENT = math.log(FEW[1] / MANY[1]) / math.log(MANY[0] / FEW[0])
ERROR = MANY[1] * (NEXT / MANY[0]) ** -EXPONENT


def judge_law(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Two numbers are wanted: the exponent b, and the error at 3,200 images.")
    exponent, error = (as_number(each, "each of the two") for each in answer)
    if math.isclose(exponent, -EXPONENT, abs_tol=1e-3):
        raise Wrong("The minus stands in the formula already: n^(−b). So b is above 0.")
    if math.isclose(exponent, (FEW[1] - MANY[1]) / (MANY[0] - FEW[0]), rel_tol=0.01):
        raise Wrong("{exponent:.2g} is the slope on axes that are not logarithmic.", exponent=exponent)
    if math.isclose(exponent, 1 / EXPONENT, abs_tol=1e-3):
        raise Wrong("{exponent:g} is 1/b. Divide the logarithm of the errors by that of the images.",
                    exponent=exponent)  # fmt: skip
    if not math.isclose(exponent, EXPONENT, abs_tol=0.005):
        raise Wrong(
            "An exponent of {exponent:g}? 16 times as many images give a quarter of the error.",
            exponent=exponent,
        )
    if math.isclose(error, MANY[1] / 4, abs_tol=1e-4):
        raise Wrong("{error:g}: four times as many images do not give a quarter of the error.", error=error)
    if not math.isclose(error, ERROR, abs_tol=5e-4):
        raise Wrong("An error of {error:g}? 3,200 is 4 · 800, and 4^(−b) is known.", error=error)


# --- 2: the cosine of two gradients -------------------------------------------------------------------------


def judge_cosine(answer):
    generator = torch.Generator().manual_seed(2)
    for shapes in (((3,), (2, 2)), ((4, 1, 3, 3), (4,), (2, 5))):
        first, second = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in "ab")
        second = [3 * b + a for a, b in zip(first, second, strict=True)]
        case = message("{count} parameters", count=len(shapes))
        got = as_number(answer([a.clone() for a in first], [b.clone() for b in second]), case)
        want = flat_cosine(first, second)
        if math.isclose(got, want, abs_tol=1e-4):
            continue
        pairs = list(zip(first, second, strict=True))
        products = sum((a * b).sum() for a, b in pairs)
        each = [flat_cosine([a], [b]) for a, b in pairs]
        slips = {
            "For {case} this is the mean of the cosines of single parameters. Join them first.": sum(each)
            / len(each),
            "For {case} only the first parameter counts. All of them are one vector.": each[0],
            "For {case} the product is not divided by the two lengths.": products.item(),
            "For {case} the sign is wrong.": -want,
        }
        for template, value in slips.items():
            if math.isclose(got, value, abs_tol=1e-4):
                raise Wrong(template, case=case)
        raise Wrong("For {case} the cosine is {want:.4f}, got {got:.4f}.", case=case, want=want, got=got)


def flat_cosine(first, second):
    a, b = (torch.cat([each.flatten() for each in gradients]) for gradients in (first, second))
    return (a @ b / a.norm() / b.norm()).item()


# --- 3: gradient surgery ------------------------------------------------------------------------------------


def judge_surgery(answer):
    cases = {
        "gradients that conflict": (torch.tensor([3.0, 1.0, 0.0]), torch.tensor([-2.0, 0.0, 1.0])),
        "gradients that agree": (torch.tensor([1.0, 2.0, 0.0]), torch.tensor([2.0, 1.0, 0.5])),
    }
    for name, (a, b) in cases.items():
        case = message(name)
        want = remove_conflict(a, b)
        got = as_tensor(answer(a.clone(), b.clone()), want, case)
        if torch.allclose(got, want, atol=1e-4):
            continue
        along = (a @ b) / (b @ b) * b
        slips = {
            "For {case} nothing is removed, though the product is negative.": a,
            "For {case} a part is removed, though the product is positive. Keep such a gradient.": a - along,
            "For {case} this is the part along b. Take it away from a.": along,
            "For {case} the part along b is added. Take it away.": a + along,
            "For {case} the product is divided by |b|. Divide by |b|².": a - (a @ b) / b.norm() * b,
            "For {case} b was changed. Change a.": b - (a @ b) / (a @ a) * a,
        }
        for template, value in slips.items():
            if torch.allclose(got, value, atol=1e-4):
                raise Wrong(template, case=case)
        require_values(got, want, case)


def remove_conflict(a, b):
    product = a @ b
    return a - product / (b @ b) * b if product < 0 else a


# --- 4: train, change, measure ------------------------------------------------------------------------------

PLAIN, MOVED = "plain", "moved"


def judge_moves(answer):
    judge_two_variants(answer, (PLAIN, MOVED), larger_is_better=True, least=0.5, most=1.0)


EXERCISES = {
    "1": Exercise(
        judge_law,
        hints=(
            "error = a · n^(−b). Divide the two errors: a drops out.",
            "4 = 16^b. What is b?",
            "3,200 is 4 times 800, so the error is 0.06 · 4^(−b).",
        ),
        solution=(EXPONENT, ERROR),
        why="With b = 1/2 the error is halved when there are four times as many images. The next halving "
        "needs four times as many again.",
    ),
    "2": Exercise(
        judge_cosine,
        hints=(
            "Make one long vector of each list: torch.cat([g.flatten() for g in gradients]).",
            "The cosine is a @ b, divided by the length of a and by the length of b.",
            "(a @ b / a.norm() / b.norm()).item()",
        ),
        solution=flat_cosine,
        why="A large parameter counts more than a small one, since a step changes all parameters together.",
    ),
    "3": Exercise(
        judge_surgery,
        hints=(
            "Compute the product a @ b first. If it is not negative, return a.",
            "The part of a along b is (a @ b) / (b @ b) · b.",
            "a - (a @ b) / (b @ b) * b",
        ),
        solution=remove_conflict,
        why="The changed gradient is orthogonal to b, so a small step along it does not raise the loss of b. "
        "This is one step of PCGrad [Yu et al. 2020].",
    ),
    "4": Exercise(
        judge_moves,
        hints=(
            "One run: experiments.train(experiments.make_seeded(make_cnn, seed), x[:100], y[:100], "
            "steps=200, seed=seed). With augmentation add change=experiments.move_a_little.",
            "Measure with experiments.measure_accuracy(network, x_test, y_test), for seeds 0, 1 and 2.",
            "Compare the distance of the two means with the sum of the two standard deviations.",
        ),
        solution={PLAIN: [0.9, 0.911, 0.897], MOVED: [0.703, 0.7, 0.722], "conclusion": PLAIN},
        why="Augmentation makes the training images harder, and 200 steps are few. With 1,000 steps three "
        "runs gave 0.91 to 0.92 without augmentation, and 0.86 to 0.88 with it: a smaller gap.",
    ),
}
