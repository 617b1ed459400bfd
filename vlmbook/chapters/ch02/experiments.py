"""Chapter 2: error against data, receptive fields, learned and fixed features, several tasks, what breaks a
network, pre-training, the cost of large models, two modalities, and a map of the companion.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import affine

from vlmbook import chapters, data, features
from vlmbook.chapters.ch07c.experiments import SmallNet, choose_shots, fit_linear, make_sounds
from vlmbook.compression import count_parameters, measure_latency, measure_training_memory
from vlmbook.data.backgrounds import crop_photo
from vlmbook.detection.boxes import box_iou
from vlmbook.efficientnet import EfficientNetLite0
from vlmbook.multitask import MultiTaskNet, fgsm, gradient_cosine, task_losses

# --- one training loop for all ------------------------------------------------------------------------------


def train(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    steps: int,
    seed: int = 0,
    change: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
    lr: float = 3e-3,
    batch: int = 32,
) -> nn.Module:
    """Classifier, (N, C, H, W), (N,) -> the same after so many steps of Adam, in evaluation mode; the number
    of steps does not depend on N. `change` augments a batch.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(x), (batch,), generator=generator)
        images = x[chosen] if change is None else change(x[chosen], generator)
        optimizer.zero_grad()
        F.cross_entropy(network(images), y[chosen]).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def make_seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """function that makes a network -> the network with the initial weights of this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


@torch.no_grad()
def measure_accuracy(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Classifier, images, labels -> share that it names correctly."""
    return (network(x).argmax(1) == y).double().mean().item()


# --- data: error against number of images -------------------------------------------------------------------


class Pool(NamedTuple):
    """All images of a set with their labels, and how many of them a test takes."""

    images: torch.Tensor
    labels: torch.Tensor
    tests: int


def read_pool() -> Pool:
    """-> Pool: all 1,797 digits; 360 of them are held out in each run."""
    parts = [data.digits(split) for split in ("train", "test")]
    return Pool(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]), 360)


def read_fashion() -> Pool | None:
    """-> Pool: Fashion-MNIST, 70,000 images averaged to 14×14; None where it is not in the data folder."""
    try:
        parts = [data.fashion_mnist(split) for split in ("train", "test")]
    except data.DataMissing:
        return None
    images = torch.cat([F.avg_pool2d(part[0], 2) for part in parts])
    return Pool(images, torch.cat([part[1] for part in parts]), 10_000)


def measure_scaling(
    make: Callable[[], nn.Module], pool: Pool, sizes: Sequence[int], *, seeds: Sequence[int], steps: int
) -> dict[str, dict[int, list[float]]]:
    """function that makes a network -> {"network", "linear": {number of images: an error a seed}}.

    Each seed draws its own test images and its own order of the others; a smaller training set is the
    beginning of a larger one. The network takes the same number of steps for each size.
    """
    found = {name: {size: [] for size in sizes} for name in ("network", "linear")}
    for seed in seeds:
        order = torch.randperm(len(pool.images), generator=torch.Generator().manual_seed(seed))
        tests, rest = order[: pool.tests], order[pool.tests :]
        x_test, y_test = pool.images[tests], pool.labels[tests]
        for size in sizes:
            x, y = pool.images[rest[:size]], pool.labels[rest[:size]]
            network = train(make_seeded(make, seed), x, y, steps=steps, seed=seed)
            found["network"][size].append(1 - measure_accuracy(network, x_test, y_test))
            accuracy = fit_linear(x.flatten(1), y, x_test.flatten(1), y_test)
            found["linear"][size].append(1 - accuracy)
    return found


# --- depth: what one output sees ----------------------------------------------------------------------------

PAIR_SIZE = (6, 20)  # height and width of an image with two marks


def draw_pairs(n: int, distance: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """-> (n, 1, 6, 20), (n,): two marks in one row, so many pixels apart, each white or black on grey; label
    1: both have the same colour.
    """
    height, width = PAIR_SIZE
    generator = torch.Generator().manual_seed(seed)
    images = torch.full((n, 1, height, width), 0.5)
    colours = torch.arange(4).repeat(-(-n // 4))[:n]  # each of the four cases equally often
    row = torch.randint(height, (n,), generator=generator)
    column = torch.randint(width - distance, (n,), generator=generator)
    index = torch.arange(n)
    images[index, 0, row, column] = (colours // 2).float()
    images[index, 0, row, column + distance] = (colours % 2).float()
    return images, (colours // 2 == colours % 2).long()


class LocalNet(nn.Module):
    """(B, 1, H, W) -> (B, 2): convolutions without bias, each with a ReLU, and the sum over all places."""

    def __init__(self, depth: int, *, width: int = 8, kernel: int = 3):
        super().__init__()
        channels = [1] + depth * [width]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
            for before, after in itertools.pairwise(channels)
        )
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        h = x - 0.5  # grey becomes 0, so the border looks like the ground
        for conv in self.convs:
            h = conv(h).relu()
        return self.head(h.sum((2, 3)))


def measure_fields(
    depths: Sequence[int],
    distances: Sequence[int],
    *,
    steps: int,
    seeds: Sequence[int],
    kernel: int = 3,
    width: int = 8,
) -> torch.Tensor:
    """-> (depths, distances, seeds): test accuracy of a network of each depth on pairs at each distance."""
    reached = torch.zeros(len(depths), len(distances), len(seeds))
    for column, distance in enumerate(distances):
        x, y = draw_pairs(512, distance, seed=0)
        x_test, y_test = draw_pairs(400, distance, seed=1)
        for row, depth in enumerate(depths):
            for number, seed in enumerate(seeds):
                network = make_seeded(lambda layers=depth: LocalNet(layers, width=width, kernel=kernel), seed)
                train(network, x, y, steps=steps, seed=seed, lr=1e-2)
                reached[row, column, number] = measure_accuracy(network, x_test, y_test)
    return reached


# --- several tasks: digits on a canvas ----------------------------------------------------------------------

CANVAS = 16
GROUNDS = {"train": ("brick", "grass", "cat"), "test": ("gravel", "coffee", "moon")}


class Canvases(NamedTuple):
    """Images with one digit each, and the ground truth of three tasks."""

    images: torch.Tensor  # (n, 1, 16, 16) in [0, 1]
    truth: dict[str, torch.Tensor]  # "class" (n,), "box" (n, 4) shares of the side, "mask" (n, 16, 16)


def draw_canvases(split: str, n: int, seed: int = 0) -> Canvases:
    """-> Canvases: a digit of 8×8 pixels somewhere on a dark crop of a photograph; training and test share
    neither a digit nor a photograph.
    """
    digits, labels = data.digits(split)
    rng = np.random.default_rng([seed, len(split)])
    images, masks = torch.zeros(n, 1, CANVAS, CANVAS), torch.zeros(n, CANVAS, CANVAS)
    chosen = torch.from_numpy(rng.integers(len(digits), size=n))
    places = rng.integers(0, CANVAS - 8 + 1, size=(n, 2))
    boxes = torch.zeros(n, 4)
    for i, (top, left) in enumerate(places.tolist()):
        ink = torch.zeros(CANVAS, CANVAS)
        ink[top : top + 8, left : left + 8] = digits[chosen[i], 0]
        ground = 0.4 * crop_photo(rng, GROUNDS[split], CANVAS, channels=1)
        images[i] = ground + ink * (1 - ground)
        masks[i] = (ink > 0.4).float()
        rows, columns = masks[i].nonzero().T
        boxes[i] = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / CANVAS
    return Canvases(images, {"class": labels[chosen], "box": boxes, "mask": masks})


BRIGHT = 0.5  # a photograph on a canvas stays below 0.4


def find_by_rule(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """(N, 1, 16, 16) -> "box" (N, 4) and "mask" logits (N, 16, 16) as a network gives them: what is brighter
    than 0.5 is ink, and the box encloses the ink.
    """
    bright = images[:, 0] > BRIGHT
    boxes = torch.zeros(len(images), 4)
    for i, ink in enumerate(bright):
        rows, columns = ink.nonzero().T
        boxes[i] = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / CANVAS
    return {"box": boxes, "mask": bright.float() - 0.5}


def cut_out(images: torch.Tensor) -> torch.Tensor:
    """(N, 1, 16, 16) -> (N, 1, 8, 8): the square around the centre of the box that the rule finds."""
    boxes = CANVAS * find_by_rule(images)["box"]
    corners = ((boxes[:, :2] + boxes[:, 2:]) / 2 - 4).round().long().clamp(0, CANVAS - 8)
    cuts = [image[:, y : y + 8, x : x + 8] for image, (x, y) in zip(images, corners.tolist(), strict=True)]
    return torch.stack(cuts)


def measure_scales(truth: dict[str, torch.Tensor]) -> dict[str, float]:
    """Ground truth -> {task: loss of the best constant answer}; losses are divided by it, so that each task
    counts the same.
    """
    shares = truth["class"].bincount() / len(truth["class"])
    constants = {
        "class": shares.log().expand(len(truth["class"]), -1),
        "box": truth["box"].mean(0).expand(len(truth["box"]), -1),
        "mask": truth["mask"].mean(0).logit(1e-4).expand(len(truth["mask"]), -1, -1),
    }
    return {task: loss.item() for task, loss in task_losses(constants, truth).items()}


def train_tasks(
    canvases: Canvases,
    tasks: Sequence[str],
    *,
    steps: int,
    seed: int = 0,
    width: int = 16,
    labelled: dict[str, int] | None = None,
    weights: dict[str, float] | None = None,
) -> tuple[MultiTaskNet, list[dict[str, float]]]:
    """Canvases, tasks -> network in evaluation mode, trained on the sum of its scaled losses; and, for two
    tasks, every tenth step the cosine of their gradients in the trunk.

    `labelled` limits a task to the first images; each task sees 32 images a step. `weights` multiply losses,
    1 if not given. All networks of one seed begin with the same trunk.
    """
    network = make_seeded(lambda: MultiTaskNet(tasks, classes=10, in_channels=1, width=width), seed)
    counts = {task: (labelled or {}).get(task, len(canvases.images)) for task in tasks}
    scales = measure_scales(canvases.truth)
    factors = {task: (weights or {}).get(task, 1.0) for task in tasks}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    generator = torch.Generator().manual_seed(seed)
    trunk = list(network.trunk.parameters())
    cosines = []
    for step in range(steps):
        losses = _draw_losses(network, canvases, counts, generator)
        losses = {task: factors[task] * loss / scales[task] for task, loss in losses.items()}
        if len(tasks) == 2 and step % 10 == 0:
            cosines.append({" and ".join(tasks): gradient_cosine(*losses.values(), trunk)})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        schedule.step()
    return network.eval(), cosines


def _draw_losses(network, canvases, counts, generator):
    """One batch for all tasks with the same images."""
    losses = {}
    for count in sorted(set(counts.values())):
        tasks = [task for task in counts if counts[task] == count]
        chosen = torch.randint(count, (32,), generator=generator)
        outputs = network(canvases.images[chosen])
        truth = {task: canvases.truth[task][chosen] for task in tasks}
        losses |= task_losses({task: outputs[task] for task in tasks}, truth)
    return losses


@torch.no_grad()
def measure_tasks(network: MultiTaskNet, canvases: Canvases) -> dict[str, float]:
    """-> {task: accuracy of the class, mean IoU of the box, mean IoU of the mask}."""
    return measure_outputs(network(canvases.images), canvases.truth)


def measure_outputs(outputs: dict[str, torch.Tensor], truth: dict[str, torch.Tensor]) -> dict[str, float]:
    """Outputs of a MultiTaskNet or of a rule, ground truth -> {task: measure}, as `measure_tasks`."""
    measures = {
        "class": lambda: (outputs["class"].argmax(1) == truth["class"]).double().mean(),
        "box": lambda: box_iou(CANVAS * outputs["box"], CANVAS * truth["box"]).diagonal().mean(),
        "mask": lambda: _mask_iou(outputs["mask"] > 0, truth["mask"] > 0.5).mean(),
    }
    return {task: measures[task]().item() for task in outputs}


def _mask_iou(found, truth):
    return (found & truth).sum((1, 2)) / (found | truth).sum((1, 2)).clamp(min=1)


class Transfer(NamedTuple):
    """What a partner does to a task: measures of the task, one a seed."""

    alone: list[float]
    together: list[float]
    shuffled: list[float]  # with the partner's ground truth given to other images


def measure_transfer(
    canvases: Canvases,
    tests: Canvases,
    pairs: Sequence[tuple[str, str]],
    *,
    steps: int,
    seeds: Sequence[int],
    labelled: dict[str, int] | None = None,
) -> tuple[dict[tuple[str, str], Transfer], dict[str, list[float]]]:
    """Pairs (task, partner) -> {(task, partner): Transfer}, {"class and box": a mean cosine a seed}. All
    networks of a seed begin with the same trunk and see the same images.
    """
    cosines = {}

    @functools.cache  # the pairs (class, box) and (box, class) share a network
    def measure(tasks, shuffled, seed):
        order = torch.randperm(len(canvases.images), generator=torch.Generator().manual_seed(seed))
        mixed = {task: canvases.truth[task][order] for task in shuffled}
        given = Canvases(canvases.images, canvases.truth | mixed)
        network, angles = train_tasks(given, tasks, steps=steps, seed=seed, labelled=labelled)
        if angles and not shuffled:
            [name] = angles[0]
            cosines.setdefault(name, []).append(float(np.mean([angle[name] for angle in angles])))
        return measure_tasks(network, tests)

    found = {}
    for task, partner in pairs:
        both = tuple(sorted((task, partner)))
        plans = ((task,), ()), (both, ()), (both, (partner,))
        rows = [[measure(tasks, shuffled, seed)[task] for seed in seeds] for tasks, shuffled in plans]
        found[task, partner] = Transfer(*rows)
    return found, cosines


def measure_weights(
    canvases: Canvases, tests: Canvases, weights: Sequence[float], *, steps: int, seeds: Sequence[int]
) -> dict[str, dict[float, list[float]]]:
    """-> {"class", "box": {weight of the box loss: a measure a seed}} of networks with both tasks."""
    found = {task: {weight: [] for weight in weights} for task in ("class", "box")}
    for weight, seed in itertools.product(weights, seeds):
        network, _ = train_tasks(canvases, ("box", "class"), steps=steps, seed=seed, weights={"box": weight})
        for task, value in measure_tasks(network, tests).items():
            found[task][weight].append(value)
    return found


# --- end to end, or features and then a classifier ----------------------------------------------------------


class ClassOnly(nn.Module):
    """MultiTaskNet with a class head -> its logits."""

    def __init__(self, network: MultiTaskNet):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)["class"]


def compare_pipelines(
    canvases: Canvases, tests: Canvases, sizes: Sequence[int], *, steps: int, seeds: Sequence[int]
) -> dict[str, dict[int, list[float]]]:
    """-> {method: {number of images: an accuracy a seed}}. "fixed trunk" and "end to end" are one network
    with the same initial weights, images and steps; in the first one the trunk stays as it was drawn.
    "rule" cuts the digit out first.
    """
    methods = ("pixels, linear", "HOG, linear", "rule, linear", "fixed trunk", "end to end")
    found = {name: {size: [] for size in sizes} for name in methods}
    fixed = {
        "pixels, linear": lambda x: x.flatten(1),
        "HOG, linear": describe_edges,
        "rule, linear": lambda x: cut_out(x).flatten(1),
    }
    for seed in seeds:
        order = torch.randperm(len(canvases.images), generator=torch.Generator().manual_seed(seed))
        for size in sizes:
            x, y = canvases.images[order[:size]], canvases.truth["class"][order[:size]]
            for name, extract in fixed.items():
                accuracy = fit_linear(extract(x), y, extract(tests.images), tests.truth["class"])
                found[name][size].append(accuracy)
            for name in ("fixed trunk", "end to end"):
                network = ClassOnly(
                    make_seeded(lambda: MultiTaskNet(["class"], classes=10, in_channels=1), seed)
                )
                network.network.trunk.requires_grad_(name == "end to end")
                train(network, x, y, steps=steps, seed=seed, lr=1e-2)
                found[name][size].append(measure_accuracy(network, tests.images, tests.truth["class"]))
    return found


def describe_edges(images: torch.Tensor) -> torch.Tensor:
    """(N, 1, 16, 16) -> (N, 324): histograms of oriented gradients in cells of 4×4."""
    return features.hog(images[:, 0], cell=4).flatten(1)


# --- generalisation -----------------------------------------------------------------------------------------


def shift(x: torch.Tensor, pixels: float) -> torch.Tensor:
    """(N, 1, H, W) -> the same, moved to the right; black comes in from the left."""
    return affine(x, 0.0, [round(pixels), 0], 1.0, [0.0, 0.0])


def rotate(x: torch.Tensor, degrees: float) -> torch.Tensor:
    """(N, 1, H, W) -> the same, turned."""
    return affine(x, float(degrees), [0, 0], 1.0, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR)


def add_noise(x: torch.Tensor, size: float) -> torch.Tensor:
    """(N, 1, H, W) -> the same with Gaussian noise of this standard deviation, always the same noise."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return (x + size * noise).clamp(0, 1)


def flip_signs(x: torch.Tensor, size: float) -> torch.Tensor:
    """(N, 1, H, W) -> the same; each pixel goes up or down by `size` at random: the control of FGSM."""
    signs = torch.randint(2, x.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return (x + size * signs).clamp(0, 1)


CORRUPTIONS = {  # name: (function, five severities)
    "shift, pixels": (shift, (0, 1, 2, 3, 4)),
    "rotation, degrees": (rotate, (0, 15, 30, 45, 60)),
    "noise": (add_noise, (0, 0.1, 0.2, 0.3, 0.4)),
    "random signs": (flip_signs, (0, 0.05, 0.1, 0.15, 0.2)),
    "FGSM": (None, (0, 0.05, 0.1, 0.15, 0.2)),
}


def corrupt(name: str, severity: float, network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """-> the images with a corruption of CORRUPTIONS; FGSM is aimed at this network."""
    function, _ = CORRUPTIONS[name]
    return fgsm(network, x, y, severity) if function is None else function(x, severity)


def move_a_little(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A batch of square images -> the same, each shifted by −2 to 2 pixels to the side and turned by −30° to
    30°.
    """
    angles = torch.deg2rad(60 * torch.rand(len(x), generator=generator) - 30)
    pixels = torch.randint(-2, 3, (len(x),), generator=generator)
    moves = torch.zeros(len(x), 2, 3)
    moves[:, 0, 0] = moves[:, 1, 1] = angles.cos()
    moves[:, 1, 0], moves[:, 0, 1] = angles.sin(), -angles.sin()
    moves[:, 0, 2] = 2 * pixels / x.shape[-1]  # affine_grid counts from −1 to 1
    grid = F.affine_grid(moves, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def make_linear() -> nn.Module:
    """-> a linear classifier of 8×8 digits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def train_rivals(
    make: Callable[[], nn.Module], *, steps: int, seeds: Sequence[int]
) -> dict[str, list[nn.Module]]:
    """function that makes a network -> {method: a classifier of the digits a seed}: the network, the same
    with augmentation, and a linear one; all with the same number of steps.
    """
    x, y = data.digits("train")
    makers = {
        "linear": (make_linear, None),
        "network": (make, None),
        "network, augmented": (make, move_a_little),
    }
    return {
        name: [train(make_seeded(maker, seed), x, y, steps=steps, seed=seed, change=change) for seed in seeds]
        for name, (maker, change) in makers.items()
    }


def measure_corruptions(rivals: dict[str, list[nn.Module]]) -> dict[str, dict[str, list[list[float]]]]:
    """-> {corruption: {method: for each severity an accuracy a seed}} on the test digits."""
    x, y = data.digits("test")
    return {
        name: {
            method: [
                [measure_accuracy(network, corrupt(name, severity, network, x, y), y) for network in networks]
                for severity in severities
            ]
            for method, networks in rivals.items()
        }
        for name, (_, severities) in CORRUPTIONS.items()
    }


# --- pre-train, then adapt ----------------------------------------------------------------------------------


def probe_labels(
    rotation_net: SmallNet, shots: Sequence[int], *, draws: int, steps: int
) -> dict[str, dict[int, list[float]]]:
    """Network trained to name rotations -> {method: {labels a digit: an accuracy a draw}}. Two pairs differ
    in the initial weights alone: a linear classifier on the features of an untrained network and of this
    one; and a whole network that is trained with the labels, "from nothing" and "rotations, fine-tuned".
    """
    x, y = data.digits("train")
    x_test, y_test = data.digits("test")
    untrained = make_seeded(lambda: SmallNet(8, outputs=10), 0).eval()
    with torch.no_grad():
        inputs = {
            name: (network.eval().layers(x), network.layers(x_test))
            for name, network in (("untrained, linear", untrained), ("rotations, linear", rotation_net))
        }
    found = {
        name: {shot: [] for shot in shots} for name in (*inputs, "from nothing", "rotations, fine-tuned")
    }
    for shot in shots:
        for draw in range(draws):
            chosen = choose_shots(y, shot, seed=draw)
            for name, (known, tests) in inputs.items():
                found[name][shot].append(fit_linear(known[chosen], y[chosen], tests, y_test))
            for name in ("from nothing", "rotations, fine-tuned"):
                network = make_seeded(lambda: SmallNet(8, outputs=10), draw)
                if name == "rotations, fine-tuned":
                    network.layers.load_state_dict(rotation_net.layers.state_dict())
                train(network, x[chosen], y[chosen], steps=steps, seed=draw)
                found[name][shot].append(measure_accuracy(network, x_test, y_test))
    return found


def probe_canvases(
    network: EfficientNetLite0 | None,
    canvases: Canvases,
    tests: Canvases,
    shots: Sequence[int],
    *,
    draws: int,
    steps: int,
) -> dict[str, dict[int, list[float]]]:
    """EfficientNet or None -> {method: {labels a digit: an accuracy a draw}} on digits on a canvas: linear
    classifiers on the digit that the rule cuts out and on ImageNet's features, and a network trained from
    nothing.
    """
    y, y_test = canvases.truth["class"], tests.truth["class"]
    inputs = {"rule, linear": tuple(cut_out(each.images).flatten(1) for each in (canvases, tests))}
    if network is not None:
        inputs["ImageNet, linear"] = tuple(_pool(network, each.images) for each in (canvases, tests))
    found = {name: {shot: [] for shot in shots} for name in (*inputs, "from nothing")}
    for shot in shots:
        for draw in range(draws):
            chosen = choose_shots(y, shot, seed=draw)
            for name, (known, held_out) in inputs.items():
                found[name][shot].append(fit_linear(known[chosen], y[chosen], held_out, y_test))
            fresh = ClassOnly(make_seeded(lambda: MultiTaskNet(["class"], classes=10, in_channels=1), draw))
            train(fresh, canvases.images[chosen], y[chosen], steps=steps, seed=draw, lr=1e-2)
            found["from nothing"][shot].append(measure_accuracy(fresh, tests.images, y_test))
    return found


@torch.no_grad()
def _pool(network, images):
    """(N, 1, 16, 16) -> (N, 1280): enlarged to 64×64, in the range that EfficientNet wants."""
    large = F.interpolate(images, size=(64, 64), mode="bilinear").expand(-1, 3, -1, -1)
    return torch.cat([network.pooled((255 * batch - 127) / 128) for batch in large.split(64)])


# --- what large models cost, and how large they are ---------------------------------------------------------

COUNTED = {  # name: (torchvision's name, pixels a side)
    "AlexNet": ("alexnet", 224),
    "ResNet-50": ("resnet50", 224),
    "ConvNeXt-L": ("convnext_large", 224),
    "ViT-B/16": ("vit_b_16", 224),
    "ViT-L/16": ("vit_l_16", 224),
    "ViT-H/14": ("vit_h_14", 224),
}

# name, architecture, parameters (None: counted here), images of the pre-training, source
KNOWN = (
    ("AlexNet", "CNN", None, 1.28e6, "Krizhevsky et al. 2012"),
    ("ResNet-50", "CNN", None, 1.28e6, "He et al. 2016"),
    ("BiT-L", "CNN", 9.28e8, 3e8, "Kolesnikov et al. 2020"),
    ("ConvNeXt-XL", "CNN", 3.5e8, 1.42e7, "Liu et al. 2022"),
    ("ViT-H/14", "Transformer", None, 3.03e8, "Dosovitskiy et al. 2021"),
    ("CLIP ViT-L/14", "Transformer", 3.04e8, 4e8, "Radford et al. 2021"),
    ("MAE ViT-H", "Transformer", 6.32e8, 1.28e6, "He et al. 2022"),
    ("Swin V2-G", "Transformer", 3e9, 7e7, "Liu et al. 2022"),
    ("SAM", "Transformer", 6.36e8, 1.1e7, "Kirillov et al. 2023"),
    ("DINOv2 ViT-g", "Transformer", 1.1e9, 1.42e8, "Oquab et al. 2024"),
    ("ViT-22B", "Transformer", 2.17e10, 4e9, "Dehghani et al. 2023"),
    ("LVM", "Transformer", 3e9, 1.64e9, "Bai et al. 2024"),
)

# name, images, source
SETS = (
    ("digits of this chapter", 1797, "Alpaydin & Kaynak 1998"),
    ("COCO", 3.3e5, "Lin et al. 2014"),
    ("Open Images", 9e6, "Kuznetsova et al. 2020"),
    ("SA-1B", 1.1e7, "Kirillov et al. 2023"),
    ("ImageNet", 1.42e7, "Deng et al. 2009"),
    ("LAION-5B", 5.85e9, "Schuhmann et al. 2022"),
)


def count_large() -> dict[str, dict[str, float]]:
    """-> {model: {"parameters", "macs" of one image, "weights" and "saved" bytes}}, counted on the meta
    device without a download; saved: what training keeps of one image.
    """
    table = {}
    for name, (in_torchvision, side) in COUNTED.items():
        with torch.device("meta"):
            model = torchvision.models.get_model(in_torchvision, weights=None)
            x = torch.empty(1, 3, side, side)
        saved = measure_training_memory(model, x).saved
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(x)
        parameters = count_parameters(model)
        table[name] = {
            "parameters": parameters,
            "macs": counter.get_total_flops() / 2,
            "weights": 4 * parameters,
            "saved": saved,
        }
    return table


def time_models(names: Sequence[str], *, repeats: int) -> dict[str, float]:
    """Names of COUNTED -> {name: median seconds of one image on this computer}; the weights are random."""
    times = {}
    for name in names:
        in_torchvision, side = COUNTED[name]
        model = make_seeded(lambda named=in_torchvision: torchvision.models.get_model(named), 0).eval()
        x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        times[name] = measure_latency(lambda model=model, x=x: model(x), repeats=repeats, warmup=1).p50
    return times


def place_known(counted: dict[str, dict[str, float]]) -> list[tuple[str, str, float, float]]:
    """-> [(name, architecture, parameters, images of the pre-training)]."""
    return [
        (name, kind, counted[name]["parameters"] if size is None else size, images)
        for name, kind, size, images, _ in KNOWN
    ]


# --- two modalities -----------------------------------------------------------------------------------------


def fuse_modalities(
    image_noises: Sequence[float], *, sound_noise: float, seed: int
) -> dict[str, list[float]]:
    """-> {"image", "sound", "both", "both, wrong sound": an accuracy for each noise of the image}:
    classifiers of noisy digits and of their noisy sounds, combined by the sum of their log-probabilities; in
    the last row each image gets the sound of another one.
    """
    generator = torch.Generator().manual_seed(seed)
    sets = {split: data.digits(split) for split in ("train", "test")}
    sounds = {
        split: make_sounds(labels, noise=sound_noise, seed=2 * seed + (split == "test"))
        for split, (_, labels) in sets.items()
    }
    truth = sets["test"][1].numpy()
    heard = _log_probabilities(sounds["train"], sets["train"][1], sounds["test"])
    wrong = heard[torch.randperm(len(heard), generator=generator).numpy()]
    found = {name: [] for name in ("image", "sound", "both", "both, wrong sound")}
    for noise in image_noises:
        noisy = {
            split: images + noise * torch.randn(images.shape, generator=generator)
            for split, (images, _) in sets.items()
        }
        seen = _log_probabilities(noisy["train"], sets["train"][1], noisy["test"])
        votes = (seen, heard, seen + heard, seen + wrong)
        for name, vote in zip(found, votes, strict=True):
            found[name].append(float((vote.argmax(1) == truth).mean()))
    return found


def _log_probabilities(x, y, tests):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    model.fit(x.flatten(1).numpy(), y.numpy())
    return model.predict_log_proba(tests.flatten(1).numpy())


# --- a map of the companion ---------------------------------------------------------------------------------

PARTS = {
    "ch01": "1 · Introduction",
    "ch02": "2.1 · Concepts",
    "ch03": "2.2.1 · Feature extraction",
    "ch04": "2.2.2 · Generation",
    "ch05": "2.2.3 · Recognition",
    "ch06": "6 · Projects",
    "ch07": "7, 8 · Challenges",
    "appe": "Appendices",
    "erra": "Errata",
}


def map_companion() -> dict[str, list[dict[str, Any]]]:
    """-> {part of the book: its chapters here, {"chapter", "title", "written"}}, from the table of
    chapters.
    """
    parts = {part: [] for part in PARTS.values()}
    for chapter in chapters.TABLE:
        row = {"chapter": chapter.name, "title": chapter.title, "written": chapter.notebook.exists()}
        parts[PARTS[chapter.name[:4]]].append(row)
    return parts
