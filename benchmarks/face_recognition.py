"""Median time of one identification among 100,000 people, by `Gallery.search`, over that of scikit-learn's
exact search and of NumPy's plain differences; and of a gallery that is opened.

All of them find the same person for each query. Embeddings are random, of 128 numbers.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.neighbors import NearestNeighbors

from vlmbook.face_recognition import FacePipeline, Gallery, SmallEmbedder, gallery_file

PEOPLE, WIDTH = 100_000, 128
BAR = 0.8


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=30)
    repeats = arguments.parse_args().repeats
    print(
        f"numpy {np.__version__}, scikit-learn {sklearn.__version__}, CPU, "
        f"{torch.get_num_threads()} threads, {repeats} interleaved repeats"
    )
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((PEOPLE, WIDTH)).astype(np.float32) / WIDTH**0.5
    queries = rows[generator.integers(PEOPLE, size=repeats + 2)]
    queries = queries + 0.03 * generator.standard_normal(queries.shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        gallery = fill_gallery(Path(folder, "people.gallery"), rows)
        ratio = time_search(gallery, rows, queries, repeats)
    print(f"search, ours over scikit-learn's: {ratio:.3f} (bar: at most {BAR})")
    sys.exit(ratio > BAR)


def fill_gallery(path, rows):
    """-> Gallery of a file with one embedding a person; it prints how long it takes to open it."""
    pipeline = FacePipeline(SmallEmbedder(1, width=WIDTH, stem=4, blocks=(1,)))
    people = {f"p{number}": row[None] for number, row in enumerate(rows)}
    path.write_bytes(gallery_file.pack(people, pipeline.digest))
    began = time.perf_counter()
    gallery = Gallery(pipeline, path)
    gallery.search(torch.from_numpy(rows[:1]))
    seconds = time.perf_counter() - began
    print(
        f"a gallery of {PEOPLE:,} people, {path.stat().st_size / 1e6:.0f} MB, is open after {seconds:.1f} s"
    )
    return gallery


def time_search(gallery, rows, queries, repeats):
    """Time the ways in turn -> float: ours over scikit-learn's."""
    brute = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(rows)
    ways = {
        "Gallery.search": lambda query: int(gallery.search(torch.from_numpy(query[None]))[0][0][0][1:]),
        "NearestNeighbors": lambda query: int(brute.kneighbors(query[None], return_distance=False)[0, 0]),
        "NumPy": lambda query: int(np.square(rows - query).sum(1).argmin()),
    }
    milliseconds = {name: [] for name in ways}
    for repeat, query in enumerate(queries):
        found = set()
        for name in sorted(ways, reverse=repeat % 2):  # none is always the first
            began = time.perf_counter()
            found.add(ways[name](query))
            if repeat >= 2:  # the first two warm up
                milliseconds[name].append(1000 * (time.perf_counter() - began))
        assert len(found) == 1, found
    medians = {name: statistics.median(times) for name, times in milliseconds.items()}
    print("one query, median ms: " + ", ".join(f"{name} {median:.1f}" for name, median in medians.items()))
    return medians["Gallery.search"] / medians["NearestNeighbors"]


if __name__ == "__main__":
    main()
