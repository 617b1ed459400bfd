"""Appendix A: the sizes of the book's network, the same digits for three frameworks, weights carried from one
layout to the other, what a choice on the test set is worth.
"""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from torch import nn

from vlmbook import data
from vlmbook.chapters.appendix_a import alone

FILTERS, HIDDEN, CLASSES = 32, 128, 10
PRINTED_INPUTS = 32 * 7 * 7  # of the book's first linear layer in PyTorch


# --- data ---------------------------------------------------------------------------------------------------


def load_arrays(size: int = 28) -> dict[str, np.ndarray]:
    """-> images (1437, size, size, 1) and test_images (360, size, size, 1) float32 in [0, 1], labels (N,)
    int64: the bundled digits with the channels last, as TensorFlow and Keras want them.
    """
    found = {}
    for split, prefix in (("train", ""), ("test", "test_")):
        images, labels = data.digits(split, size=size)
        found[f"{prefix}images"] = images.permute(0, 2, 3, 1).contiguous().numpy()
        found[f"{prefix}labels"] = labels.numpy()
    return found


def measure_baseline() -> float:
    """-> accuracy in [0, 1] of logistic regression on the digits' own 8×8 pixels, on the same test images."""
    images, labels = data.digits("train")
    test_images, test_labels = data.digits("test")
    model = LogisticRegression(max_iter=1000)
    model.fit(images.flatten(1).numpy(), labels.numpy())
    return float(model.score(test_images.flatten(1).numpy(), test_labels.numpy()))


# --- sizes --------------------------------------------------------------------------------------------------


def list_sizes(
    side: int, *, kernel: int = 3, padding: int = 0, stages: int = 1
) -> list[tuple[str, tuple[int, ...], int]]:
    """-> (name, shape of the output, parameters) of each layer: `stages` times convolution and pooling by 2,
    then the two linear layers.

    Raises ValueError where nothing is left of an image.
    """
    found, channels = [("input", (1, side, side), 0)], 1
    for _ in range(stages):
        side = side + 2 * padding - kernel + 1
        weights = channels * FILTERS * kernel**2 + FILTERS
        channels = FILTERS
        found.append(("convolution", (channels, side, side), weights))
        side = side // 2
        found.append(("pooling", (channels, side, side), 0))
        if side < 1:
            raise ValueError("nothing is left of an image of this size")
    flattened = channels * side * side
    return [
        *found,
        ("flatten", (flattened,), 0),
        ("linear", (HIDDEN,), flattened * HIDDEN + HIDDEN),
        ("linear", (CLASSES,), HIDDEN * CLASSES + CLASSES),
    ]


def count_parameters(side: int = 28, **settings: int) -> int:
    """-> int: all parameters of the network of `list_sizes`."""
    return sum(parameters for _, _, parameters in list_sizes(side, **settings))


# --- weights ------------------------------------------------------------------------------------------------


def as_start(weights: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Six arrays -> the same by name, as a process of another framework gets them."""
    return {f"start{place}": np.ascontiguousarray(weight) for place, weight in enumerate(weights)}


def compare_runs(
    first: Mapping[str, dict], second: Mapping[str, dict], name: str = "own epsilon"
) -> tuple[float, float]:
    """Two results of `alone.compare`, a run of them -> (largest difference of the mean loss, share of test
    images with the same answer).
    """
    loss = np.abs(np.subtract(first[name]["loss"], second[name]["loss"])).max()
    same = np.equal(first[name]["guesses"], second[name]["guesses"]).mean()
    return float(loss), float(same)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Values of several seeds -> (mean, low, high): Student's interval for their mean."""
    mean, spread = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * spread
    return mean, mean - half, mean + half


# --- training mode ------------------------------------------------------------------------------------------


def measure_passes(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, passes: int) -> list[float]:
    """-> accuracy of each pass over the same images, in whatever mode the model is."""
    with torch.inference_mode():
        return [(model(images).argmax(1) == labels).float().mean().item() for _ in range(passes)]


# --- a choice on the test set -------------------------------------------------------------------------------


def collect_candidates(
    make, arrays: Mapping[str, np.ndarray], *, rates: Sequence[float], epochs: int, images: int = 200
) -> torch.Tensor:
    """A function of a seed that gives a network -> (candidates, test images) bool: which candidate is right
    about which test image. A candidate is the network after one of the epochs at one learning rate.
    """
    x = torch.from_numpy(arrays["images"][:images]).permute(0, 3, 1, 2)
    y = torch.from_numpy(arrays["labels"][:images])
    test_x = torch.from_numpy(arrays["test_images"]).permute(0, 3, 1, 2)
    test_y = torch.from_numpy(arrays["test_labels"])
    right = []
    for seed, rate in enumerate(rates):
        model = make(seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        batches = alone.draw_order(images, seed, steps=epochs * (images // 50), batch_size=50)
        for number, chosen in enumerate(batches, 1):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
            if number % (images // 50) == 0:
                with torch.inference_mode():
                    right.append(model(test_x).argmax(1) == test_y)
    return torch.stack(right)


def measure_choice(right: torch.Tensor, *, splits: int, seed: int = 0) -> tuple[list[float], list[float]]:
    """(candidates, images) bool -> for each random halving of the images: accuracy of the candidate that is
    best on the first half, there and on the second half.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen, fresh = [], []
    for _ in range(splits):
        order = torch.randperm(right.shape[1], generator=generator)
        first, second = order[: len(order) // 2], order[len(order) // 2 :]
        rates = right[:, first].double().mean(1)
        best = rates.argmax()
        chosen.append(rates[best].item())
        fresh.append(right[best, second].double().mean().item())
    return chosen, fresh


# --- graphs -------------------------------------------------------------------------------------------------


def list_functions(tensor: torch.Tensor) -> list[str]:
    """A tensor that PyTorch computed -> names of the functions of its backward graph, from the result on;
    leaves are left out.
    """
    found, waiting, seen = [], [tensor.grad_fn], set()
    while waiting:
        function = waiting.pop(0)
        if function is None or function in seen:
            continue
        seen.add(function)
        name = type(function).__name__
        if name != "AccumulateGrad":
            found.append(name.removesuffix("Backward0").removesuffix("Backward1"))
        waiting += [parent for parent, _ in function.next_functions]
    return found
