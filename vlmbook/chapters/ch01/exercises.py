"""Exercises of chapter 1, from features to networks."""

import math

import torch
from torch.nn import functional as F

from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_tensor, require_values
from vlmbook.notebook.messages import message

# --- 1: a batch and its loss --------------------------------------------------------------------------------

CLASSES, IMAGES, SIZE = 10, 360, 32
BATCHES = math.ceil(IMAGES / SIZE)


def judge_words(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Two numbers are wanted: the batches of an epoch, and the loss.")
    batches, loss = (as_number(each, "each of the two") for each in answer)
    if batches == IMAGES // SIZE:
        raise Wrong(
            "{batches:g} batches hold 352 images. The last 8 images are a small batch.", batches=batches
        )
    if batches != BATCHES:
        raise Wrong("{batches:g} batches? Each of the 360 images is used once.", batches=batches)
    if math.isclose(loss, 1 / CLASSES, abs_tol=0.005):
        raise Wrong("{loss:.3f} is the probability. The loss is minus its logarithm.", loss=loss)
    if math.isclose(loss, -math.log(CLASSES), abs_tol=0.05):
        raise Wrong("{loss:.3f} has the wrong sign: a loss is minus the logarithm.", loss=loss)
    if math.isclose(loss, math.log10(CLASSES), abs_tol=0.005) or math.isclose(
        loss, math.log2(CLASSES), abs_tol=0.05
    ):
        raise Wrong("{loss:.3f} is another logarithm. The natural one is used, math.log.", loss=loss)
    if not math.isclose(loss, math.log(CLASSES), abs_tol=0.006):
        raise Wrong("{loss:.3f}? With ten equal logits each probability is 1/10.", loss=loss)


# --- 2: gradients -------------------------------------------------------------------------------------------


def judge_gradients(answer):
    generator = torch.Generator().manual_seed(3)
    for height, width in ((5, 7), (6, 4)):
        image = torch.rand(height, width, generator=generator)
        case = message("an image of {height}×{width}", height=height, width=width)
        want = right_gradients(image)
        got = as_tensor(answer(image.clone()), want, case)
        if torch.allclose(got, want, atol=1e-5):
            continue
        down = right_gradients(image.T).T
        slips = {
            "For {case} the sign is wrong: the right pixel minus the left one.": -want,
            "For {case} this is the change downwards. The change to the right is wanted.": down,
            "For {case} the numbers are 8 times too large. Divide the kernel by 8.": 8 * want,
            "For {case} the middle row counts as much as the other two. Its weight is 2.": F.conv2d(
                image[None, None], torch.tensor([[-1.0, 0, 1]] * 3)[None, None] / 6
            )[0, 0],
        }
        for template, values in slips.items():
            if values.shape == got.shape and torch.allclose(got, values, atol=1e-5):
                raise Wrong(template, case=case)
        require_values(got, want, case)


def right_gradients(image):
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    return F.conv2d(image[None, None], kernel[None, None])[0, 0]


# --- 3: cross-entropy ---------------------------------------------------------------------------------------


def judge_loss(answer):
    generator = torch.Generator().manual_seed(4)
    cases = {
        "three images": 3 * torch.randn(3, 4, generator=generator),
        "logits of 1,000": torch.tensor([[1000.0, 998.0], [0.0, 1000.0]]),
    }
    for name, logits in cases.items():
        labels = torch.arange(len(logits)) % logits.shape[1]
        case = message(name)
        want = mean_loss(logits, labels)
        got = as_tensor(answer(logits.clone(), labels.clone()), want, case)
        if not torch.isfinite(got):
            raise Wrong("For {case} the loss is not finite. Subtract the largest logit first.", case=case)
        if torch.allclose(got, want, atol=1e-4):
            continue
        each = F.cross_entropy(logits, labels, reduction="none")
        slips = {
            "For {case} this is the sum. The mean over the images is wanted.": each.sum(),
            "For {case} the sign is wrong: the loss is minus the logarithm.": -want,
            "For {case} this is the mean probability, without the logarithm.": (-each).exp().mean(),
            "For {case} the softmax goes over the images. It goes over the classes.": F.nll_loss(
                logits.log_softmax(0), labels
            ),
        }
        for template, value in slips.items():
            if torch.allclose(got, value, atol=1e-4):
                raise Wrong(template, case=case)
        require_values(got, want, case)


def mean_loss(logits, labels):
    shifted = logits - logits.amax(1, keepdim=True)
    logs = shifted - shifted.exp().sum(1, keepdim=True).log()
    return -logs[torch.arange(len(labels)), labels].mean()


# --- 4: train, change, measure ------------------------------------------------------------------------------

PLAIN, SHIFTED = "centred", "shifted"


def judge_shifts(answer):
    if not isinstance(answer, dict) or set(answer) != {PLAIN, SHIFTED}:
        raise Wrong('A dict of two accuracies is wanted, with the names "centred" and "shifted".')
    values = {name: as_number(value, name) for name, value in answer.items()}
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise Wrong("{name}: {value:g} is no accuracy. It lies between 0 and 1.", name=name, value=value)
    if math.isclose(values[PLAIN], values[SHIFTED]):
        raise Wrong("Both are {value:.3f}. Was the same network measured twice?", value=values[PLAIN])
    if values[SHIFTED] < values[PLAIN]:
        raise Wrong("The network that saw shifted digits is worse? Check which is which.")
    if values[PLAIN] > 0.6:
        raise Wrong(
            "{value:.3f} without shifts in the training? Measure on test images that are shifted by 4.",
            value=values[PLAIN],
        )
    if values[SHIFTED] < 0.75:
        raise Wrong(
            "{value:.3f} is low. Add shifts by 2 and by 4 pixels to the training.", value=values[SHIFTED]
        )


EXERCISES = {
    "1": Exercise(
        judge_words,
        hints=(
            "An epoch uses each image once. The last batch may be smaller.",
            "360 / 32 = 11.25, so there are 12 batches. Equal logits give equal probabilities.",
            "The loss is -math.log(1 / 10).",
        ),
        solution=(BATCHES, math.log(CLASSES)),
        why="A loss above log 10 = 2.303 means that the network is worse than equal probabilities for all.",
    ),
    "2": Exercise(
        judge_gradients,
        hints=(
            "The kernel is [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]] / 8.",
            "right = image[:, 2:] - image[:, :-2] is the difference of the two neighbours in a row.",
            "(right[:-2] + 2 * right[1:-1] + right[2:]) / 8",
        ),
        solution=right_gradients,
        why="The mean of three rows with the weights 1, 2, 1 makes the change less noisy.",
    ),
    "3": Exercise(
        judge_loss,
        hints=(
            "softmax: exp of each logit, divided by their sum over the classes.",
            "exp(1000) is infinite. A softmax does not change when the same number is taken from all logits.",
            "-(logits - logits.logsumexp(1, keepdim=True))[torch.arange(len(labels)), labels].mean()",
        ),
        solution=mean_loss,
        why="This is F.cross_entropy. It takes logits, and never probabilities.",
    ),
    "4": Exercise(
        judge_shifts,
        hints=(
            "experiments.shift(x, 2) moves all images to the right by two pixels.",
            "torch.cat([x, experiments.shift(x, 2), experiments.shift(x, 4)]) has three copies: y.repeat(3).",
            "Train with experiments.train_network(make_lenet, x_more, y.repeat(3), epochs=3) and measure on "
            "experiments.shift(x_test, 4).",
        ),
        solution={PLAIN: 0.136, SHIFTED: 0.886},  # measured with seed 0, 3 epochs, three copies in both
        why="The network learns what it sees. Changed copies of the images are called data augmentation.",
    ),
}
