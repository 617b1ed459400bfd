"""Chapter 1: photographs that a network names, programs that recognise digits and faces, what breaks them,
and a photograph edited without a network.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.linalg import spsolve
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn
from torch.nn import functional as F
from torchvision.models import EfficientNet_B0_Weights
from torchvision.transforms import functional as transforms

from vlmbook import data, features
from vlmbook.efficientnet import imagenet_input
from vlmbook.training import fit

MARGIN = 4  # pixels of background around a digit, so that a shifted digit stays whole

# --- photographs that a network names -----------------------------------------------------------------------


@torch.no_grad()
def name_photos(network: nn.Module, names: Sequence[str]) -> list[list[tuple[str, float]]]:
    """ImageNet classifier, names of photographs -> for each its three most probable classes with their
    probabilities.
    """
    categories = EfficientNet_B0_Weights.DEFAULT.meta["categories"]
    answers = []
    for name in names:
        probabilities = network(imagenet_input(data.photo(name))).softmax(1)[0]
        best = probabilities.topk(3)
        answers.append(
            [(categories[i], p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
        )
    return answers


# --- the data -----------------------------------------------------------------------------------------------


class Task(NamedTuple):
    """Images (N, 1, H, W) to learn from with their labels, and held-out ones."""

    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


def read_digits() -> Task:
    """-> Task: the digits enlarged to 16×16, with a margin of 4 pixels: 24×24."""
    x, y = data.digits("train", size=16)
    x_test, y_test = data.digits("test", size=16)
    return Task(F.pad(x, [MARGIN] * 4), y, F.pad(x_test, [MARGIN] * 4), y_test)


def fold_faces(folds: int = 5) -> list[Task]:
    """-> Tasks: 200 patches, label 1 is a face; each patch is held out in exactly one task."""
    x, y = data.face_patches()
    splits = StratifiedKFold(folds, shuffle=True, random_state=0).split(x, y)
    return [Task(x[train], y[train], x[test], y[test]) for train, test in splits]


def read_fashion() -> Task | None:
    """-> Task: Fashion-MNIST, 28×28, 60,000 and 10,000 images; None where it is not in the data folder."""
    try:
        return Task(*data.fashion_mnist("train"), *data.fashion_mnist("test"))
    except data.DataMissing:
        return None


# --- programs that recognise --------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A program after its training: images -> labels, how many numbers it keeps, seconds of training."""

    predict: Callable[[torch.Tensor], torch.Tensor]
    numbers: int
    seconds: float


def read_pixels(x: torch.Tensor) -> np.ndarray:
    """(N, 1, H, W) -> (N, H·W)."""
    return x.flatten(1).numpy()


def read_hog(x: torch.Tensor) -> np.ndarray:
    """(N, 1, H, W) -> (N, D): histograms of cells of 4×4 pixels, in blocks of 2×2 cells."""
    return torch.cat([features.hog(part, cell=4).flatten(1) for part in x.split(2000)]).numpy()


# name: (features, classifier)
CLASSIC = {
    "decision tree": (read_pixels, lambda: DecisionTreeClassifier(random_state=0)),
    "pixels, linear SVM": (read_pixels, lambda: make_pipeline(StandardScaler(), _make_svm())),
    "HOG, linear SVM": (read_hog, lambda: make_pipeline(StandardScaler(), _make_svm())),
    "pixels, 3 nearest": (read_pixels, lambda: KNeighborsClassifier(3)),
}


def _make_svm():
    return LinearSVC(C=1e-3, tol=1e-3, random_state=0)


def train_classic(name: str, x: torch.Tensor, y: torch.Tensor) -> Trained:
    """A name of CLASSIC, (N, 1, H, W), (N,) -> Trained."""
    read, make = CLASSIC[name]
    start = time.perf_counter()
    values = read(x)
    model = make().fit(values, y.numpy())
    seconds = time.perf_counter() - start
    return Trained(
        lambda images: torch.from_numpy(model.predict(read(images))), _count(model, values), seconds
    )


def _count(model, values):
    """How many numbers the program keeps: weights, nodes of a tree (a pixel, a threshold), or all images."""
    if isinstance(model, DecisionTreeClassifier):
        return 2 * model.tree_.node_count
    if isinstance(model, KNeighborsClassifier):
        return values.size
    return model[-1].coef_.size + model[-1].intercept_.size


def classification_loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """-> cross-entropy."""
    return F.cross_entropy(model(x), y)


def train_network(
    make: Callable[[], nn.Module], x: torch.Tensor, y: torch.Tensor, *, epochs: int, seed: int = 0
) -> Trained:
    """Function that makes a network, (N, 1, H, W), (N,) -> Trained, with Adam, batches of 32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
        start = time.perf_counter()
        settings = {"epochs": epochs, "batch_size": 32, "lr": 2e-3, "seed": seed, "progress": False}
        fit(network, (x, y), loss_fn=classification_loss, **settings)
        seconds = time.perf_counter() - start
    network.eval()

    @torch.no_grad()
    def predict(images):
        return torch.cat([network(part).argmax(1) for part in images.split(500)])

    return Trained(predict, sum(weight.numel() for weight in network.parameters()), seconds)


def measure_accuracy(trained: Trained, x: torch.Tensor, y: torch.Tensor) -> float:
    """-> share of the images that get their label."""
    return (trained.predict(x) == y).float().mean().item()


def train_all(
    networks: dict[str, Callable[[], nn.Module]], task: Task, *, epochs: int, seeds: Sequence[int]
) -> dict[str, list[Trained]]:
    """-> {program: one Trained, or for a network one a seed}."""
    trained = {name: [train_classic(name, task.x, task.y)] for name in CLASSIC}
    for name, make in networks.items():
        trained[name] = [train_network(make, task.x, task.y, epochs=epochs, seed=seed) for seed in seeds]
    return trained


def summarise(trained: dict[str, list[Trained]], task: Task) -> dict[str, dict]:
    """-> {program: {"accuracy" a value a seed, "numbers", "seconds" of one training, "count" of held-out
    images}}.
    """
    return {
        name: {
            "accuracy": [measure_accuracy(each, task.x_test, task.y_test) for each in runs],
            "numbers": runs[0].numbers,
            "seconds": sum(each.seconds for each in runs) / len(runs),
            "count": len(task.y_test),
        }
        for name, runs in trained.items()
    }


def compare_on_faces(
    networks: dict[str, Callable[[], nn.Module]], *, epochs: int, folds: int = 5
) -> dict[str, dict]:
    """-> as `summarise`: every patch is judged once, by the program that had not seen it."""
    table = {}
    for task in fold_faces(folds):
        for name, row in summarise(train_all(networks, task, epochs=epochs, seeds=(0,)), task).items():
            whole = table.setdefault(name, {"accuracy": [], "numbers": 0, "seconds": 0.0, "count": 0})
            whole["accuracy"] += row["accuracy"]
            whole["numbers"] = row["numbers"]
            whole["seconds"] += row["seconds"] / folds
            whole["count"] += row["count"]
    for row in table.values():
        row["accuracy"] = [sum(row["accuracy"]) / folds]  # the folds are equally large
    return table


# --- what breaks them ---------------------------------------------------------------------------------------


def shift(x: torch.Tensor, pixels: float) -> torch.Tensor:
    """(N, 1, H, W) -> the same, moved to the right; what comes in is background."""
    return transforms.affine(x, 0, [int(pixels), 0], 1, [0, 0])


def rotate(x: torch.Tensor, degrees: float) -> torch.Tensor:
    """(N, 1, H, W) -> the same, turned against the clock around the centre."""
    return transforms.rotate(x, degrees, transforms.InterpolationMode.BILINEAR)


def add_noise(x: torch.Tensor, std: float) -> torch.Tensor:
    """(N, 1, H, W) -> the same with Gaussian noise of this standard deviation, cut to [0, 1]."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(7))
    return (x + std * noise).clamp(0, 1)


# name: (function, strengths)
CHANGES = {
    "shift, pixels": (shift, (0, 1, 2, 3, 4)),
    "rotation, degrees": (rotate, (0, 10, 20, 30, 45)),
    "noise, standard deviation": (add_noise, (0, 0.1, 0.2, 0.3, 0.5)),
}


def break_programs(
    trained: dict[str, list[Trained]], x: torch.Tensor, y: torch.Tensor
) -> dict[str, dict[str, list[float]]]:
    """-> {change: {program: accuracy at each strength, the mean over its seeds}}."""
    table = {}
    for change, (function, strengths) in CHANGES.items():
        images = [function(x, strength) for strength in strengths]
        table[change] = {
            name: [sum(measure_accuracy(each, changed, y) for each in runs) / len(runs) for changed in images]
            for name, runs in trained.items()
        }
    return table


# --- a photograph edited without a network ------------------------------------------------------------------


def blend(target: torch.Tensor, source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(C, H, W), (C, H, W), (H, W) bool -> (C, H, W): inside the mask the gradients of the source, and at its
    edge the colours of the target [Pérez et al. 2003, eq. 7]. The mask does not touch the border.
    """
    inside = mask.nonzero().tolist()
    index = {tuple(place): i for i, place in enumerate(inside)}
    matrix = scipy.sparse.lil_matrix((len(inside), len(inside)))
    known = np.zeros((len(inside), len(target)))
    for i, (row, column) in enumerate(inside):
        matrix[i, i] = 4
        for place in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            known[i] += (source[:, row, column] - source[:, place[0], place[1]]).numpy()
            if place in index:
                matrix[i, index[place]] = -1
            else:
                known[i] += target[:, place[0], place[1]].numpy()
    solved = spsolve(matrix.tocsc(), known)
    blended = target.clone()
    blended[:, mask] = torch.from_numpy(solved.T).float().clamp(0, 1)
    return blended
