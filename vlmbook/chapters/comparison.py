"""The comparison table of chapters 4a to 4d: one set of test images, one classifier, the same classes in each
row, several draws.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping

import torch

from vlmbook import runtime
from vlmbook.generation import score, select_same_classes
from vlmbook.metrics import bits_per_dimension
from vlmbook.notebook import records
from vlmbook.resnet import ResNet

ROUNDS = 50  # of N samples, until each class has its share


def measure_bits(nats: torch.Tensor, held_out: torch.Tensor) -> float:
    """(N,) log-likelihoods, (N, C, H, W) -> float: mean bits per dimension of the held-out images.

    Raises ValueError for nats that are not one number for each held-out image.
    """
    if nats.shape != held_out.shape[:1]:
        raise ValueError(f"nats wants the shape ({len(held_out)},), got {tuple(nats.shape)}")
    return float(bits_per_dimension(nats, held_out[0].numel()).mean())


@torch.no_grad()
def measure_draws(
    draw: Callable[[int], torch.Tensor],
    classifier: ResNet,
    held_out: torch.Tensor,
    labels: torch.Tensor,
    *,
    draws: int = 3,
) -> dict[str, list[float]]:
    """draw(n) -> n images, a classifier, (N, C, H, W), (N,) -> {"frechet": …, "precision": …, "recall": …,
    "ms": …}: a list each, one value a draw of N samples; ms is the time for one sample.

    Each draw has as many samples of each class as `labels` has, by the classifier's own judgement: so
    generators with and without classes are compared on the same mixture. Raises ValueError where a class is
    still missing after ROUNDS · N samples.
    """
    measured = {"frechet": [], "precision": [], "recall": [], "ms": []}
    for _ in range(draws):
        began = time.perf_counter()
        images, drawn = draw_same_classes(draw, classifier, labels)
        measured["ms"].append(1000 * (time.perf_counter() - began) / drawn)
        for key, value in score(classifier, images, held_out).items():
            measured[key].append(value)
    return measured


@torch.no_grad()
def draw_same_classes(
    draw: Callable[[int], torch.Tensor], classifier: ResNet, labels: torch.Tensor
) -> tuple[torch.Tensor, int]:
    """draw(n) -> n images, a classifier, (N,) -> (N, C, H, W), int: samples of the classes of `labels`, and
    how many were drawn for them. Raises ValueError where a class is still missing after ROUNDS · N samples.
    """
    wanted = labels.bincount(minlength=classifier.fc.out_features)
    images, named = [], []
    for _ in range(2 * ROUNDS):
        images.append(draw(math.ceil(len(labels) / 2)))
        named.append(classifier(images[-1]).argmax(1))
        found = torch.cat(named)
        if (found.bincount(minlength=len(wanted)) >= wanted).all():
            return select_same_classes(torch.cat(images), found, labels), len(found)
    raise ValueError(
        f"draw wants images of all classes, got {found.bincount(minlength=len(wanted)).tolist()}"
    )


def format_draws(rows: Mapping[str, Mapping[str, list[float] | float]]) -> str:
    """{name: {column: values or a number}} -> str: aligned, mean ± standard deviation where there are several
    values, a dash where a row has no such column.
    """
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = [["", *columns]]
    lines += [[name, *(_format_values(row.get(key)) for key in columns)] for name, row in rows.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_align(line, widths) for line in lines)


def load_published_rows(chapter: str, *names: str, profile: str | None = None) -> dict[str, dict]:
    """Chapter, names -> {name with its chapter: row} of the rows in its published record; empty where there
    is no record.

    They are of another run, with other networks. `profile` is that of this run by default.
    """
    entry = records.load(chapter, runtime.profile() if profile is None else profile)
    found = entry.get("measurements", {}).get("rows", {}) if entry else {}
    return {f"{name} ({chapter})": found[name] for name in names if name in found}


def _format_values(value):
    if value is None:
        return "–"
    if isinstance(value, (int, float)):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{statistics.mean(value):.2f} ± {statistics.stdev(value):.2f}"


def _align(line, widths):
    """The name to the left, the numbers to the right."""
    name, *numbers = line
    cells = [name.ljust(widths[0])]
    cells += [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
    return "  ".join(cells)
