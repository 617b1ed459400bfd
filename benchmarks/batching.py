"""Samples a second of `fit`'s batching by index over those of torch's DataLoader, on real data, on the
CPU.
"""

import argparse
import statistics
import sys
import time

import torch
from torch.utils.data import DataLoader, TensorDataset

from vlmbook.data import DataMissing, digits, fashion_mnist
from vlmbook.training import batches

BAR, BATCH = 5, 64


def by_index(data, epochs):
    for _, _batch, _ in batches(data, BATCH, epochs, seed=0):
        pass


def by_loader(data, epochs, workers):
    loader = DataLoader(
        TensorDataset(*data),
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    for _ in range(epochs):
        for _batch in loader:
            pass


WAYS = {
    "batches": by_index,
    "DataLoader, 0 workers": lambda data, epochs: by_loader(data, epochs, 0),
    "DataLoader, 2 workers": lambda data, epochs: by_loader(data, epochs, 2),
}


def report(title, data, epochs, repeats):
    """Time each way in turn, print the medians -> float: over the faster DataLoader."""
    rates = {name: [] for name in WAYS}
    for repeat in range(repeats + 1):
        for name, way in WAYS.items():
            began = time.perf_counter()
            way(data, epochs)
            if repeat:  # the first warms up
                rates[name].append(epochs * len(data[0]) / (time.perf_counter() - began))
    medians = {name: statistics.median(rate) for name, rate in rates.items()}
    ratio = medians["batches"] / max(rate for name, rate in medians.items() if name != "batches")
    print(
        f"{title} {tuple(data[0].shape)}, {epochs} epochs: "
        + ", ".join(f"{name} {rate / 1000:.0f} k/s" for name, rate in medians.items())
        + f"; over the faster DataLoader {ratio:.1f} (bar: at least {BAR})"
    )
    return ratio


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=7)
    repeats = arguments.parse_args().repeats
    print(
        f"batches of {BATCH}, torch {torch.__version__}, {torch.get_num_threads()} threads, {repeats} "
        "interleaved repeats, medians; starting the workers counts, once a run"
    )
    images, labels = digits("train")
    ratios = [report("digits", (images, labels), 10, repeats)]
    try:
        ratios.append(report("Fashion-MNIST", fashion_mnist("train"), 1, repeats))
    except DataMissing as missing:  # a benchmark fetches nothing
        print(f"{missing} (it is left out)")
    sys.exit(min(ratios) < BAR)


if __name__ == "__main__":
    main()
