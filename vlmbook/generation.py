"""One comparison for all generators: two baselines that have a likelihood, and the eye of one classifier
[chapters 4a, 4b, 4c].

Images are (B, C, H, W) in [0, 1] whose pixels take `levels` values, 0, 1/(levels − 1), …, 1. Every likelihood
is a probability of whole levels, in nats an image: the probabilities of all images together are 1.
"""

import math
from numbers import Integral, Real

import torch
from torch.nn import functional as F

from vlmbook import runtime
from vlmbook.checks import check_images
from vlmbook.metrics import bits_per_dimension, frechet_distance, precision_recall
from vlmbook.notebook.records import load
from vlmbook.resnet import small_resnet
from vlmbook.training import fit
from vlmbook.vae import levels_of


class PixelHistogram:
    """Each pixel on its own: how often each level was seen there. It knows no neighbour.

    `smoothing` is what each level counts before anything was seen, so that none is impossible.
    Raises ValueError for pixels that are not one of the levels and for a smoothing that is not above 0.
    """

    def __init__(self, images, levels, *, smoothing=0.1):
        _check_positive("smoothing", smoothing)
        seen = F.one_hot(levels_of(images, levels), levels).double().sum(0)  # (C, H, W, levels)
        self.log_p = ((seen + smoothing) / (len(images) + levels * smoothing)).log()
        self.levels = levels

    def log_likelihood(self, x):
        """(B, C, H, W) -> (B,): log p(x) = Σ log p(x_i) in nats, float64."""
        _check_shape(x, self.log_p.shape[:3])
        index = levels_of(x, self.levels)[..., None]
        return self.log_p.expand(len(x), -1, -1, -1, -1).gather(-1, index).flatten(1).sum(1)

    def sample(self, n, generator=None):
        """int -> (n, C, H, W). Raises ValueError for n below 1."""
        _check_count("n", n)
        p = self.log_p.exp().flatten(0, 2)
        drawn = torch.multinomial(p, n, replacement=True, generator=generator).T
        return drawn.view(n, *self.log_p.shape[:3]).float() / (self.levels - 1)


class PixelGaussian:
    """One Gaussian with full covariance over all pixels, whose density is integrated over each level.

    Pixel after pixel: given those before it, x_i is normal around a linear prediction m_i with a spread s_i,
    and the probability of a level is the mass from half a level below to half a level above; the outermost
    take the tails. With the Cholesky factor L of the covariance, s_i = L_ii and (x_i − m_i) / s_i = (L⁻¹(x −
    μ))_i. `noise`, in levels, is added to each pixel's spread, since some pixels never change. Raises
    ValueError for fewer than two images, pixels that are not one of the levels, and a noise that is not above
    0.
    """

    def __init__(self, images, levels, *, noise=0.3):
        _check_positive("noise", noise)
        if len(images) < 2:
            raise ValueError(f"a covariance wants at least two images, got {len(images)}")
        x = levels_of(images, levels).flatten(1).double()
        covariance = torch.cov(x.T).reshape(x.shape[1], -1)
        covariance.diagonal().add_(noise**2)
        self.mean, self.factor = x.mean(0), torch.linalg.cholesky(covariance)
        self.levels, self.shape = levels, images.shape[1:]

    def log_likelihood(self, x):
        """(B, C, H, W) -> (B,): log p(x) = Σ log p(x_i | x_1 … x_{i−1}) in nats, float64."""
        _check_shape(x, self.shape)
        x = levels_of(x, self.levels).flatten(1).double()
        away = torch.linalg.solve_triangular(self.factor, (x - self.mean).T, upper=False).T
        half = 0.5 / self.factor.diagonal()
        low = torch.where(x == 0, -math.inf, away - half)
        high = torch.where(x == self.levels - 1, math.inf, away + half)
        return _log_mass(low, high).sum(1)

    def sample(self, n, generator=None):
        """int -> (n, C, H, W), drawn as the likelihood reads: pixel after pixel, each to its level.

        Raises ValueError for n below 1.
        """
        _check_count("n", n)
        device, spread = self.mean.device, self.factor.diagonal()
        away = torch.zeros(n, len(self.mean), dtype=torch.float64, device=device)
        x = torch.zeros_like(away)
        noise = torch.randn(n, len(self.mean), dtype=torch.float64, device=device, generator=generator)
        for i in range(len(self.mean)):
            middle = self.mean[i] + away[:, :i] @ self.factor[i, :i]
            x[:, i] = (middle + spread[i] * noise[:, i]).round().clamp(0, self.levels - 1)
            away[:, i] = (x[:, i] - middle) / spread[i]
        return x.view(n, *self.shape).float() / (self.levels - 1)


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


def _log_mass(low, high):
    """Bounds a < b -> log(Φ(b) − Φ(a)), from the side where both are small."""
    flip = low > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    upper, lower = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return upper + torch.log(-torch.expm1(lower - upper))


def _check_positive(name, value):
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
        raise ValueError(f"{name} is to be a number above 0, got {value!r}")


def _check_count(name, value):
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} is to be a whole number of at least 1, got {value!r}")


def _check_shape(x, shape):
    if x.shape[1:] != shape:
        raise ValueError(f"images (B, {', '.join(map(str, shape))}) are wanted, got {tuple(x.shape)}")
