"""Exercises of appendix A, frameworks."""

import math

import torch
from torch import nn

from vlmbook.chapters.measured import judge_two_variants
from vlmbook.notebook.exercises import Exercise, Wrong, as_number

# --- 1: predict ---------------------------------------------------------------------------------------------

FLATTENED = 16 * 16 * 16
CONVOLUTION, HIDDEN, OUTPUT = 16 * 3 * 25 + 16, FLATTENED * 64 + 64, 64 * 10 + 10
PARAMETERS = CONVOLUTION + HIDDEN + OUTPUT


def judge_sizes(answer):
    if not isinstance(answer, dict) or set(answer) != {"flattened", "parameters"}:
        raise Wrong('A dict is wanted, with the keys "flattened" and "parameters".')
    flattened, parameters = (as_number(answer[key], key) for key in ("flattened", "parameters"))
    if flattened == 16 * 14 * 14:
        raise Wrong(
            "{got:g} is without padding: 32 − 5 + 1 = 28. With padding 2 the side stays 32.", got=flattened
        )
    if flattened == 16 * 32 * 32:
        raise Wrong("{got:g} is without the pooling, which halves each side.", got=flattened)
    if flattened == 16 * 16:
        raise Wrong("{got:g} leaves out the channels: the convolution has 16.", got=flattened)
    if flattened != FLATTENED:
        raise Wrong("{got:g} numbers after Flatten? Channels times height times width.", got=flattened)
    if parameters == PARAMETERS - 16 - 64 - 10:
        raise Wrong(
            "{got:g} counts the weights alone. Each output of a layer has a bias too.", got=parameters
        )
    if parameters == PARAMETERS - 16 * 2 * 25:
        raise Wrong("{got:g} is that of grey images. A kernel here reaches over 3 channels.", got=parameters)
    if parameters in (PARAMETERS - OUTPUT, PARAMETERS - CONVOLUTION, PARAMETERS - HIDDEN):
        raise Wrong("{got:g} leaves out one of the three layers that have parameters.", got=parameters)
    if parameters != PARAMETERS:
        raise Wrong(
            "{got:g} parameters? A convolution has outputs · inputs · 5 · 5 weights, a linear layer outputs "
            "· inputs; and each a bias for every output.",
            got=parameters,
        )


# --- 2: find the bug ----------------------------------------------------------------------------------------


class Probe(nn.Module):
    """(B, 3) -> (B, 3): in evaluation mode the input itself. In training mode the answers are others, as with
    dropout. It notes whether gradients were recorded.
    """

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.recorded = False

    def forward(self, x):
        self.recorded = self.recorded or torch.is_grad_enabled()
        return x.roll(1, 1) * self.scale if self.training else x * self.scale


def make_batches():
    """-> list of (x, y): five of eight and then none of two answers are right."""
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    wrong = torch.tensor([5, 6, 7, 8, 9])
    shown = y.clone()
    shown[wrong] = (y[wrong] + 1) % 3
    x = nn.functional.one_hot(shown, 3).float()
    return [(x[:8], y[:8]), (x[8:], y[8:])]


def judge_accuracy(answer):
    batches = make_batches()
    right = torch.cat([x.argmax(1) == y for x, y in batches])
    training = torch.cat([x.roll(1, 1).argmax(1) == y for x, y in batches])
    rates = [(x.argmax(1) == y).float().mean().item() for x, y in batches]
    want = right.float().mean().item()
    for mode in (True, False):
        model = Probe().train(mode)
        got = as_number(answer(model, list(batches)), "accuracy(model, batches)")
        if mode and math.isclose(got, training.float().mean().item(), abs_tol=1e-6):
            raise Wrong(
                "The model predicts in training mode, so dropout is active. Call model.eval() before."
            )
        if math.isclose(got, sum(rates) / len(rates), abs_tol=1e-6):
            raise Wrong(
                "{got:.4f} is the mean of the batches' accuracies. The last batch is smaller: count the "
                "correct answers, and divide by the number of images.",
                got=got,
            )
        if math.isclose(got, right.sum().item(), abs_tol=1e-6):
            raise Wrong(
                "{got:g} is the number of correct answers. Divide it by the number of images.", got=got
            )
        if math.isclose(got, 100 * want, abs_tol=1e-4):
            raise Wrong("{got:g} is in percent. A share in [0, 1] is wanted.", got=got)
        if not math.isclose(got, want, abs_tol=1e-6):
            raise Wrong(
                "With five of ten correct answers the result is {got:.4f}. The classes are axis 1 of the "
                "logits.",
                got=got,
            )
        if model.recorded:
            raise Wrong("Gradients are recorded, which costs memory. Predict within torch.inference_mode().")
        if model.training != mode:
            raise Wrong(
                "The model came in {before} mode and is left in the other one. Note model.training, and go "
                "back at the end.",
                before="training" if mode else "evaluation",
            )


def accuracy(model, batches):
    before = model.training
    model.eval()
    correct = count = 0
    with torch.inference_mode():
        for x, y in batches:
            correct += (model(x).argmax(1) == y).sum().item()
            count += len(y)
    model.train(before)
    return correct / count


# --- 3: train, change, measure ------------------------------------------------------------------------------


def judge_initialisation(answer):
    judge_two_variants(answer, ("PyTorch", "Glorot"), larger_is_better=False, least=0.05, most=2.0)


# --- 4: a new operation of the graph ------------------------------------------------------------------------


def judge_slopes(answer):
    for a, b in ((3.0, 2.0), (-1.5, 0.5), (0.7, -4.0)):
        got = answer(a, b)
        if not isinstance(got, (tuple, list)) or len(got) != 3:
            raise Wrong("Three numbers are wanted: the value, the slope for a, the slope for b.")
        value, first, second = (as_number(each, "each of the three") for each in got)
        x, y = (torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in (a, b))
        quotient = x / y
        quotient.backward()
        want = quotient.item(), x.grad.item(), y.grad.item()
        if not math.isclose(value, want[0], rel_tol=1e-6):
            raise Wrong(
                "For {a:g} / {b:g} the value is {want:.4g}, not {got:.4g}.", a=a, b=b, want=want[0], got=value
            )
        if not math.isclose(first, want[1], rel_tol=1e-6):
            raise Wrong(
                "For {a:g} / {b:g} the slope for a is not {got:.4g}. Let b stand still.", a=a, b=b, got=first
            )
        if math.isclose(second, -want[2], rel_tol=1e-6):
            raise Wrong("For {a:g} / {b:g} the slope for b has the wrong sign.", a=a, b=b)
        if not math.isclose(second, want[2], rel_tol=1e-6):
            raise Wrong(
                "For {a:g} / {b:g} the slope for b is not {got:.4g}: a / b is a times b to the power −1.",
                a=a,
                b=b,
                got=second,
            )


def divide(a, b):
    return a / b, 1 / b, -a / b**2


EXERCISES = {
    "1": Exercise(
        judge_sizes,
        hints=(
            "A side after a convolution is side + 2 · padding − kernel + 1; pooling by 2 halves it.",
            "32 + 4 − 5 + 1 = 32, pooled 16. A kernel reaches over all channels of its input.",
            "flattened 16 · 16 · 16; parameters 16 · 3 · 25 + 16, 4096 · 64 + 64, 64 · 10 + 10",
        ),
        solution={"flattened": FLATTENED, "parameters": PARAMETERS},
        why="Nearly all parameters stand in the first linear layer. So a wrong size there is the usual "
        "reason why a network that was copied does not run.",
    ),
    "2": Exercise(
        judge_accuracy,
        hints=(
            "There are four faults: the mode, the gradients, the axis, and batches of unequal size.",
            "before = model.training; model.eval(); with torch.inference_mode(): …; model.train(before)",
            "Add (model(x).argmax(1) == y).sum().item() and len(y) for each batch, and divide at the end.",
        ),
        solution=accuracy,
        why="None of the four faults raises an error. Each of them gives a number that looks like an "
        "accuracy.",
    ),
    "3": Exercise(
        judge_initialisation,
        hints=(
            "for layer in model: if hasattr(layer, 'weight'): set its weight and its bias, before training.",
            "logits = torch.from_numpy(torch_predict(model, arrays['test_images'])), and the loss is "
            "F.cross_entropy(logits, test_y).item().",
            "For each seed: order = alone.draw_order(300, seed, steps=60, batch_size=50), then torch_train("
            "model, arrays['images'][:300], arrays['labels'][:300], order) for a model of each kind.",
        ),
        solution={
            "PyTorch": [0.3636, 0.3498, 0.3756],
            "Glorot": [0.3063, 0.3157, 0.2780],
            "conclusion": "Glorot",
        },
        why="Nothing but the initialisation was changed, so it is the cause of the difference after 60 "
        "steps. After a longer training the difference may vanish. Two frameworks with other defaults are no "
        "comparison of frameworks.",
    ),
    "4": Exercise(
        judge_slopes,
        hints=(
            "A slope says by how much the quotient changes when one of the two changes a little.",
            "For a the other number is a constant factor 1 / b. For b: a / b is a · b⁻¹.",
            "return a / b, 1 / b, -a / b**2",
        ),
        solution=divide,
        why="An operation of a framework is a pair: how the value is computed, and how the gradient goes "
        "back. All frameworks of this appendix hold a long list of such pairs.",
    ),
}
