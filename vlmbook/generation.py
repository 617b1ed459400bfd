"""One comparison for all generators: two baselines that have a likelihood, and the eye of one classifier
[chapters 4a, 4b, 4c].

Images are (B, C, H, W) in [0, 1] whose pixels take `levels` values, 0, 1/(levels − 1), …, 1. Every likelihood
is a probability of whole levels, in nats an image: the probabilities of all images together are 1.
"""

import torch
from torch.nn import functional as F

from vlmbook import runtime
from vlmbook.checks import check_images
from vlmbook.metrics import bits_per_dimension, frechet_distance, precision_recall
from vlmbook.notebook.records import load
from vlmbook.resnet import small_resnet
from vlmbook.training import fit


def judge(images, labels, *, epochs=12, batch_size=64, lr=0.01, seed=0, precision=None):
    """(B, C, H, W), (B,) int64 -> a ResNet of 8 layers trained to name their classes, in evaluation mode,
    frozen.

    The same images and seed give the same judge, whatever was drawn before; the global generator is left as
    it was. Raises TypeError or ValueError for labels that are not int64 from 0 on, and for an empty set.
    """
    check_images(images, "images", "(B, C, H, W)")
    if labels.dtype != torch.int64:
        raise TypeError(f"judge wants int64 labels, got {labels.dtype}")
    if labels.shape != images.shape[:1] or not len(labels) or labels.min() < 0:
        raise ValueError(
            f"judge wants at least one image, and for each a label from 0 on, got {tuple(images.shape)} "
            f"and {tuple(labels.shape)}"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = small_resnet(8, num_classes=int(labels.max()) + 1, in_channels=images.shape[1])
        fit(
            net,
            (images, labels),
            loss_fn=lambda net, x, y: F.cross_entropy(net(x), y),
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            weight_decay=0.05,
            seed=seed,
            precision=precision,
            progress=False,
        )
    return net.eval().requires_grad_(False)


def same_classes(images, labels, wanted):
    """(N, C, H, W), (N,), (M,) classes -> (M, C, H, W): an image of each wanted class in its place, none used
    twice.

    So real images can be compared with real ones on equal terms. Raises ValueError where a class has too few.
    """
    chosen = torch.empty(len(wanted), dtype=torch.int64)
    for label in wanted.unique():
        places, there = (labels == label).nonzero()[:, 0], (wanted == label).nonzero()[:, 0]
        if len(places) < len(there):
            raise ValueError(
                f"same_classes wants {len(there)} images of class {label}, there are {len(places)}"
            )
        chosen[there] = places[: len(there)]
    return images[chosen]


@torch.no_grad()
def features(judge, images):
    """A judge, (B, C, H, W) -> (B, 64): what its last stage sees, the mean over all places."""
    check_images(images, "images", "(B, C, H, W)")
    place = judge.fc.weight.device
    return torch.cat([judge.features(batch.to(place))[-1].mean((2, 3)) for batch in images.split(500)])


def score(judge, samples, held_out):
    """A judge, (N, C, H, W), (N, C, H, W) -> {"frechet": …, "precision": …, "recall": …} of its features.

    Raises ValueError unless there are as many samples as held-out images: all three depend on N.
    """
    if len(samples) != len(held_out):
        raise ValueError(
            f"score wants as many samples as held-out images, got {len(samples)} and {len(held_out)}"
        )
    seen, real = features(judge, samples), features(judge, held_out)
    precision, recall = precision_recall(real, seen)
    return {"frechet": frechet_distance(real, seen), "precision": precision, "recall": recall}


def row(name, judge, samples, held_out, *, nats=None, seconds=None, ms=None):
    """-> dict: a line of `table`. nats: (N,) log-likelihoods of held-out images; seconds: of training; ms: a
    sample.

    Raises ValueError for nats that are not one number for each held-out image.
    """
    if nats is not None and nats.shape != held_out.shape[:1]:
        raise ValueError(f"row wants nats of the shape ({len(held_out)},), got {tuple(nats.shape)}")
    bits = None if nats is None else float(bits_per_dimension(nats, held_out[0].numel()).mean())
    return {"name": name, "bits": bits, **score(judge, samples, held_out), "seconds": seconds, "ms": ms}


def table(rows):
    """list of `row` -> str: aligned columns, a dash where a model has no such number."""
    heads = {
        "name": "",
        "bits": "bits/dim",
        "frechet": "Fréchet",
        "precision": "precision",
        "recall": "recall",
        "seconds": "training s",
        "ms": "ms a sample",
    }
    forms = {
        "name": "",
        "bits": ".3f",
        "frechet": ".2f",
        "precision": ".2f",
        "recall": ".2f",
        "seconds": ".1f",
        "ms": ".3f",
    }
    cells = [list(heads.values())]
    cells += [
        ["–" if line[key] is None else format(line[key], form) for key, form in forms.items()]
        for line in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in cells
    )


def as_figures(rows):
    """list of `row` -> dict of dicts of numbers, as `records.record` takes them. Raises ValueError for equal
    names.
    """
    if len({line["name"] for line in rows}) < len(rows):
        raise ValueError(f"each row wants a name of its own, got {', '.join(line['name'] for line in rows)}")
    return {
        line["name"]: {key: value for key, value in line.items() if key != "name" and value is not None}
        for line in rows
    }


def published_rows(chapter, *names, profile=None):
    """-> list of `row`: those with these names in the chapter's published record; none where there is no
    record.

    They are of another run, of the profile of this one unless told, and their names say of which chapter.
    """
    entry = load(chapter, profile or runtime.profile())
    found = entry["figures"].get("rows", {}) if entry else {}
    blank = dict.fromkeys(("bits", "frechet", "precision", "recall", "seconds", "ms"))
    return [{"name": f"{name} ({chapter})", **blank, **found[name]} for name in names if name in found]
