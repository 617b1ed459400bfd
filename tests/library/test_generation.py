"""vlmbook.generation: baselines whose probabilities are counted out, and one judge for all."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch.testing import assert_close

from vlmbook import data, generation
from vlmbook.generation import PixelGaussian, PixelHistogram
from vlmbook.metrics import bits_per_dimension, frechet_distance, precision_recall
from vlmbook.notebook import records

BASELINES = [PixelHistogram, PixelGaussian]


def drawn(n=40, levels=3, size=(1, 1, 3), seed=0):
    """Images of few pixels that hang together: each is the one before it, moved by at most one level."""
    g = torch.Generator().manual_seed(seed)
    steps = torch.randint(-1, 2, (n, math.prod(size)), generator=g)
    steps[:, 0] = torch.randint(levels, (n,), generator=g)
    return steps.cumsum(1).clamp(0, levels - 1).view(n, *size) / (levels - 1)


def all_images(levels, size):
    return torch.tensor(list(itertools.product(range(levels), repeat=math.prod(size)))).view(-1, *size) / (
        levels - 1
    )


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("levels, size", [(2, (1, 1, 1)), (3, (1, 1, 3)), (4, (2, 1, 2))])
def test_the_probabilities_of_all_images_sum_to_1(baseline, levels, size):
    model = baseline(drawn(levels=levels, size=size), levels)
    assert_close(model.log_likelihood(all_images(levels, size)).exp().sum().item(), 1.0)


@pytest.mark.parametrize("baseline", BASELINES)
def test_samples_come_as_often_as_the_likelihood_says(baseline):
    model, every = baseline(drawn(), 3), all_images(3, (1, 1, 3))
    samples = model.sample(20_000, torch.Generator().manual_seed(1))
    assert samples.shape == (20_000, 1, 1, 3) and samples.dtype == torch.float32
    code = (samples.flatten(1) * 2).round().long() @ torch.tensor([9, 3, 1])
    seen, want = code.bincount(minlength=27) / 20_000, model.log_likelihood(every).exp()
    assert ((seen - want).abs() < 5 * (want * (1 - want) / 20_000).sqrt() + 1e-4).all()


def test_the_histogram_is_counted():
    images = torch.tensor([0, 0, 0, 1.0]).view(4, 1, 1, 1)
    model = PixelHistogram(images, 2, smoothing=0.5)
    assert_close(
        model.log_likelihood(images), torch.tensor([3.5 / 5] * 3 + [1.5 / 5], dtype=torch.float64).log()
    )


@pytest.mark.parametrize("levels", [3, 17])
def test_the_gaussian_is_the_chain_of_conditional_normals(levels):
    """From the inverse of blocks of the covariance, pixel by pixel, with SciPy's distribution function."""
    images = drawn(n=60, levels=levels, size=(1, 2, 2))
    x = (images.flatten(1) * (levels - 1)).numpy().astype(float)
    mean, covariance = x.mean(0), np.cov(x.T) + 0.3**2 * np.eye(4)
    want = np.zeros(len(x))
    for i in range(4):
        weights = covariance[i, :i] @ np.linalg.inv(covariance[:i, :i])
        middle = mean[i] + (x[:, :i] - mean[:i]) @ weights
        spread = np.sqrt(covariance[i, i] - weights @ covariance[:i, i])
        low = np.where(x[:, i] == 0, -np.inf, x[:, i] - 0.5)
        high = np.where(x[:, i] == levels - 1, np.inf, x[:, i] + 0.5)
        want += np.log(norm.cdf(high, middle, spread) - norm.cdf(low, middle, spread))
    assert_close(
        PixelGaussian(images, levels).log_likelihood(images), torch.from_numpy(want), rtol=1e-8, atol=1e-8
    )


def test_with_fine_levels_the_gaussian_is_scipys_density():
    g = torch.Generator().manual_seed(0)
    levels, root = 2001, torch.tensor([[60.0, 0, 0], [40, 50, 0], [-30, 20, 70]])
    x = (1000 + torch.randn(500, 3, generator=g) @ root.T).round()
    images = (x / (levels - 1)).view(-1, 1, 1, 3)
    density = multivariate_normal(x.mean(0).numpy(), torch.cov(x.T.double()).numpy() + 0.09 * np.eye(3))
    assert_close(
        PixelGaussian(images, levels).log_likelihood(images),
        torch.from_numpy(density.logpdf(x.numpy())),
        rtol=1e-4,
        atol=1e-3,
    )


def test_far_from_all_it_saw_the_gaussian_stays_finite():
    images = torch.full((10, 1, 2, 2), 8 / 255)
    foreign = torch.tensor([0, 200, 100, 255.0]).view(1, 1, 2, 2) / 255
    got = PixelGaussian(images, 256).log_likelihood(foreign)
    assert got.isfinite().all() and got < -10_000


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_baseline_has_bits_of_real_digits_below_those_of_equal_levels(baseline):
    (images, _), (held_back, _) = data.split(*data.digits("train"), share=1 / 6)
    turned = images.flatten(1)[:, torch.randperm(64, generator=torch.Generator().manual_seed(0))].view_as(
        images
    )
    bits = {
        name: bits_per_dimension(baseline(some, 17).log_likelihood(held_back), 64).mean().item()
        for name, some in {"digits": images, "turned": turned}.items()
    }
    assert 2.2 < bits["digits"] < 2.5 < bits["turned"]


def test_the_gaussian_knows_which_pixels_hang_together():
    images, _ = data.digits("train")
    lively = images.flatten(1).std(0) > 0.2

    def correlations(x):
        return torch.corrcoef(x.flatten(1)[:, lively].T)

    g, real = torch.Generator().manual_seed(0), correlations(images)
    off = {
        baseline: (correlations(baseline(images, 17).sample(2_000, g)) - real).square().mean().sqrt().item()
        for baseline in BASELINES
    }
    assert off[PixelGaussian] < 0.08 < 0.2 < off[PixelHistogram]


@pytest.mark.parametrize("baseline", BASELINES)
def test_what_a_baseline_cannot_use_is_refused(baseline):
    option = {PixelHistogram: "smoothing", PixelGaussian: "noise"}[baseline]
    with pytest.raises(ValueError, match="multiples of 1/2"):
        baseline(torch.rand(5, 1, 2, 2), 3)
    for bad in (0, -1, math.nan, math.inf, "1", True):
        with pytest.raises(ValueError, match=f"{option} is to be a number above 0"):
            baseline(drawn(), 3, **{option: bad})
    model = baseline(drawn(), 3)
    with pytest.raises(ValueError, match=r"images \(B, 1, 1, 3\) are wanted, got \(4, 1, 3, 1\)"):
        model.log_likelihood(torch.zeros(4, 1, 3, 1))
    assert model.log_likelihood(torch.zeros(0, 1, 1, 3)).shape == (0,)
    with pytest.raises(ValueError, match="at least two images, got 1"):
        PixelGaussian(drawn(1), 3)


@pytest.fixture(scope="module")
def judge():
    return generation.judge(*data.digits("train"), epochs=3)


def test_the_judge_names_digits_it_has_not_seen(judge):
    images, labels = data.digits("test")
    assert (judge(images).argmax(1) == labels).double().mean() > 0.93
    assert not judge.training and not any(p.requires_grad for p in judge.parameters())


def test_the_judge_is_the_same_whatever_was_drawn_before():
    images, labels = data.digits("train")
    some = images[:100], labels[:100]
    torch.manual_seed(3)
    first, after = generation.judge(*some, epochs=1), torch.rand(1)
    torch.manual_seed(3)
    assert_close(torch.rand(1), after)  # and leaves the global generator as it was
    torch.rand(17)
    second, other = generation.judge(*some, epochs=1), generation.judge(*some, epochs=1, seed=1)
    weights = [net.state_dict()["fc.weight"] for net in (first, second, other)]
    assert_close(weights[0], weights[1])
    assert (weights[0] - weights[2]).abs().max() > 0.01


def test_features_are_what_the_last_layer_reads(judge):
    images = data.digits("test")[0].repeat(2, 1, 1, 1)  # more than one part of 500
    found = generation.features(judge, images)
    assert found.shape == (720, 64)
    assert_close(judge.fc(found), judge(images), rtol=1e-4, atol=1e-4)


def test_the_score_is_that_of_the_features_and_orders_what_the_eye_orders(judge):
    images, held_out = data.digits("train")[0], data.digits("test")[0]
    real, seen = (generation.features(judge, x) for x in (held_out, images[:360]))
    best = generation.score(judge, images[:360], held_out)
    assert best["frechet"] == frechet_distance(real, seen)
    assert (best["precision"], best["recall"]) == precision_recall(real, seen)
    g = torch.Generator().manual_seed(0)
    histogram, collapsed = PixelHistogram(images, 17).sample(360, g), images[:1].expand(360, -1, -1, -1)
    scores = [generation.score(judge, x, held_out) for x in (histogram, collapsed)]
    assert best["frechet"] * 5 < scores[0]["frechet"] < scores[1]["frechet"]
    assert best["precision"] > 0.9 > scores[0]["precision"] and scores[1]["recall"] < 0.02
    with pytest.raises(ValueError, match="as many samples as held-out images, got 10 and 360"):
        generation.score(judge, images[:10], held_out)


def test_a_row_and_the_table(judge):
    held_out = data.digits("test")[0]
    nats = torch.full((360,), -64 * math.log(2) * 1.5)
    row = generation.row("A", judge, held_out, held_out, nats=nats, seconds=2, ms=0.5)
    bare = generation.row("a longer name", judge, held_out, held_out)
    assert row["bits"] == pytest.approx(1.5) and row["frechet"] == pytest.approx(0, abs=1e-6)
    assert bare["bits"] is bare["seconds"] is bare["ms"] is None and bare["precision"] == bare["recall"] == 1
    head, first, second = generation.table([row, bare]).splitlines()
    assert len(head) == len(first) == len(second)
    assert head.split() == [
        "bits/dim",
        "Fréchet",
        "precision",
        "recall",
        "training",
        "s",
        "ms",
        "a",
        "sample",
    ]
    assert first.split() == ["A", "1.500", "0.00", "1.00", "1.00", "2.0", "0.500"]
    assert second.split() == ["a", "longer", "name", "–", "0.00", "1.00", "1.00", "–", "–"]


@pytest.mark.parametrize(
    ("images", "labels", "error", "says"),
    [
        (torch.rand(4, 1, 8, 8), torch.zeros(4), TypeError, "int64 labels, got torch.float32"),
        (torch.rand(4, 1, 8, 8), torch.tensor([0, 1, -1, 0]), ValueError, "label from 0 on"),
        (torch.rand(4, 1, 8, 8), torch.zeros(3).long(), ValueError, r"got \(4, 1, 8, 8\) and \(3,\)"),
        (torch.zeros(4, 1, 8, 8).byte(), torch.zeros(4).long(), TypeError, "floating dtype, got torch.uint8"),
    ],
)
def test_a_judge_wants_images_and_labels(images, labels, error, says):
    with pytest.raises(error, match=says):
        generation.judge(images, labels)


def test_bytes_are_no_levels_and_nothing_is_drawn_for_nobody():
    with pytest.raises(TypeError, match=r"floating dtype, got torch\.uint8"):
        PixelHistogram(torch.full((3, 1, 2, 2), 64, dtype=torch.uint8), 5)
    for model in (
        PixelHistogram(torch.rand(3, 1, 2, 2).round(), 2),
        PixelGaussian(torch.rand(3, 1, 2, 2).round(), 2),
    ):
        for n in (0, -1, 2.0):
            with pytest.raises(ValueError, match="whole number of at least 1"):
                model.sample(n)


def test_real_images_of_the_same_classes():
    images, labels = data.digits("train")
    wanted = data.digits("test")[1]
    chosen = generation.same_classes(images, labels, wanted)
    known = {
        tuple(image.flatten().tolist()): label.item() for image, label in zip(images, labels, strict=True)
    }
    assert [known[tuple(image.flatten().tolist())] for image in chosen] == wanted.tolist()
    assert len({tuple(image.flatten().tolist()) for image in chosen}) == len(chosen)
    with pytest.raises(ValueError, match="wants 2 images of class 3, there are 1"):
        generation.same_classes(images[:3], torch.tensor([3, 1, 1]), torch.tensor([1, 3, 3]))


def test_a_row_wants_a_number_for_each_held_out_image(judge):
    held_out = data.digits("test")[0][:40]
    with pytest.raises(ValueError, match=r"shape \(40,\), got \(7,\)"):
        generation.row("A", judge, held_out, held_out, nats=torch.zeros(7))
    with pytest.raises(ValueError, match="a name of its own, got A, A"):
        generation.as_figures([generation.row("A", judge, held_out, held_out)] * 2)


def test_rows_come_back_from_a_record(judge, tmp_path, monkeypatch):
    held_out = data.digits("test")[0]
    rows = [
        generation.row("A", judge, held_out, held_out, seconds=2.5),
        generation.row("B b", judge, held_out, held_out),
    ]
    assert generation.published_rows("ch99", "A") == []
    monkeypatch.setenv("VLMBOOK_OUTPUT", str(tmp_path))
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    records.record("ch99", seed=0, rows=generation.as_figures(rows))
    back = generation.published_rows("ch99", "B b", "no such", "A")
    assert [line["name"] for line in back] == ["B b (ch99)", "A (ch99)"]
    assert [line["seconds"] for line in back] == [None, 2.5] and back[0]["bits"] is None
    assert back[1] | {"name": "A"} == pytest.approx(rows[0] | {"name": "A"}, abs=1e-6)
    generation.table(back)
    assert generation.published_rows("ch99", "A", profile="full") == []
    records.record("ch98", seed=0, other=1)
    assert generation.published_rows("ch98", "A") == []
