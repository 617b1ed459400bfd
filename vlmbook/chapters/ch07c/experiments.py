"""Chapter 7c: tasks with few labels, descriptions instead of labels, images without labels, images from
another domain, two modalities, and a map of the book.
"""

import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import rotate

from vlmbook import chapters, data, runtime
from vlmbook.clip import CLIP, ImageEncoder, TextEncoder, Vocabulary, classify_by_text, contrastive_loss
from vlmbook.data.shapes import COLOURS, SHAPES
from vlmbook.efficientnet import EfficientNetLite0
from vlmbook.fewshot import adapt, episode_accuracy, episode_loss, sample_episode, sine_task
from vlmbook.notebook.cells import checked_exercises, count_claims
from vlmbook.training import fit

TEXTURES = ("brick", "grass", "gravel", "tissue", "moon", "retina", "hubble", "coins")

# --- few shots: prototypes ----------------------------------------------------------------------------------


class SmallNet(nn.Module):
    """(B, C, H, W) -> (B, D): two convolutions, each followed by batch normalisation, and a linear layer."""

    def __init__(self, size: int = 8, width: int = 32, outputs: int = 32, channels: int = 1):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(width * (size // 4) ** 2, outputs)

    def forward(self, x):
        return self.head(self.layers(x))


def train_prototypes(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    steps: int,
    ways: int = 20,
    shots: int = 3,
    queries: int = 4,
    seed: int = 0,
) -> nn.Module:
    """(N, C, H, W), (N,) -> network in evaluation mode, trained by episodes of so many of its classes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallNet(images.shape[-1], channels=images.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    ways = min(ways, len(labels.unique()))
    for _ in range(steps):
        episode = sample_episode(labels, ways=ways, shots=shots, queries=queries, generator=generator)
        optimizer.zero_grad()
        episode_loss(network, images, episode).backward()
        optimizer.step()
    return network.eval()


def measure_episodes(
    networks: dict[str, nn.Module],
    images: torch.Tensor,
    labels: torch.Tensor,
    shots: Sequence[int],
    *,
    ways: int = 5,
    episodes: int = 100,
    seed: int = 1,
) -> dict[str, dict[int, list[float]]]:
    """{name: network}, images and labels of new classes -> {name: {shots: an accuracy an episode}}; all
    networks get the same episodes.
    """
    found = {name: {} for name in networks}
    for shot in shots:
        generator = torch.Generator().manual_seed(seed)
        drawn = [
            sample_episode(labels, ways=ways, shots=shot, queries=5, generator=generator)
            for _ in range(episodes)
        ]
        for name, network in networks.items():
            found[name][shot] = [episode_accuracy(network, images, episode) for episode in drawn]
    return found


# --- few shots: transfer ------------------------------------------------------------------------------------


def cut_textures(
    size: int = 96, each: int = 24, seed: int = 0
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """-> {"train", "test"}: (N, 3, size, size) grey squares, (N,) which of the eight photographs they are
    from.

    Squares to learn from lie in the left half of a photograph, those of the test in the right half. They are
    grey and standardised, so that neither colour nor brightness tells the class.
    """
    rng = np.random.default_rng(seed)
    parts = {"train": ([], []), "test": ([], [])}
    for label, name in enumerate(TEXTURES):
        photograph = data.photo(name).mean(0)
        height, width = photograph.shape
        for part, left, right in (("train", 0, width // 2), ("test", width // 2, width)):
            for _ in range(each):
                y, x = rng.integers(0, height - size + 1), rng.integers(left, right - size + 1)
                parts[part][0].append(_standardise(photograph[y : y + size, x : x + size]))
                parts[part][1].append(label)
    return {part: (torch.stack(images), torch.tensor(labels)) for part, (images, labels) in parts.items()}


def _standardise(square):
    """(H, W) -> (3, H, W) with mean 0.5 and standard deviation 0.2, cut off at 0 and 1"""
    z = (square - square.mean()) / square.std().clamp(min=1e-3)
    return (0.5 + 0.2 * z).clamp(0, 1).expand(3, -1, -1)


def read_people() -> dict[str, tuple[torch.Tensor, torch.Tensor]] | None:
    """-> the class folders of ORL in VLMBOOK_DATA, 40 people with five photographs to learn from and five of
    the test each, as `cut_textures` gives them; None where the folder is not there.
    """
    folder = runtime.data_folder() / "orl_faces"
    if not folder.is_dir():
        return None
    images, labels = [], []
    for label in range(40):
        for number in range(1, 11):
            image = data.read_image(folder / f"s{label + 1}" / f"{number}.pgm", channels=1)
            image = F.interpolate(image[None], size=(112, 96), mode="bilinear", antialias=True)[0]
            images.append(_standardise(image[0]))
            labels.append(label)
    images, labels = torch.stack(images), torch.tensor(labels)
    first = torch.arange(400) % 10 < 5
    return {"train": (images[first], labels[first]), "test": (images[~first], labels[~first])}


@torch.no_grad()
def pool_features(network: EfficientNetLite0, images: torch.Tensor) -> torch.Tensor:
    """EfficientNet, (N, 3, H, W) in [0, 1] -> (N, 1280): the input of its last layer."""
    return torch.cat([network.pooled((255 * batch - 127) / 128) for batch in images.split(32)])


def compare_shots(
    parts: dict[str, tuple[torch.Tensor, torch.Tensor]],
    network: EfficientNetLite0 | None,
    shots: Sequence[int],
    *,
    draws: int = 5,
    steps: int = 60,
) -> dict[str, dict[int, list[float]]]:
    """-> {method: {shots: an accuracy a draw of the shots}}: logistic regression on EfficientNet's features,
    the same on pixels, and a small network trained from nothing.
    """
    (images, labels), (test_images, test_labels) = parts["train"], parts["test"]
    small, test_small = (F.adaptive_avg_pool2d(x[:, :1], 24) for x in (images, test_images))
    features = {"pixels, linear": (small.flatten(1), test_small.flatten(1))}
    if network is not None:
        features["EfficientNet, linear"] = pool_features(network, images), pool_features(network, test_images)
        coarse = [_enlarge(x, images.shape[2:]) for x in (small, test_small)]
        features["EfficientNet, 24 pixels"] = tuple(pool_features(network, x) for x in coarse)
    found = {name: {shot: [] for shot in shots} for name in (*features, "network from nothing")}
    for shot in shots:
        for draw in range(draws):
            chosen = choose_shots(labels, shot, seed=draw)
            for name, (known, test) in features.items():
                accuracy = fit_linear(known[chosen], labels[chosen], test, test_labels)
                found[name][shot].append(accuracy)
            accuracy = _train_from_nothing(
                small[chosen], labels[chosen], test_small, test_labels, steps, draw
            )
            found["network from nothing"][shot].append(accuracy)
    return found


def _enlarge(images, size):
    """(N, 1, 24, 24) -> (N, 3, H, W): no finer detail than 24 pixels have."""
    return F.interpolate(images, size=tuple(size), mode="bilinear").expand(-1, 3, -1, -1).clamp(0, 1)


def choose_shots(labels: torch.Tensor, shots: int, seed: int) -> torch.Tensor:
    """(N,) -> (classes · shots,) indices: so many of each class."""
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        chosen.append(own[torch.randperm(len(own), generator=generator)[:shots]])
    return torch.cat(chosen)


def fit_linear(x: torch.Tensor, y: torch.Tensor, test_x: torch.Tensor, test_y: torch.Tensor) -> float:
    """-> accuracy on the test of a logistic regression, C = 0.1, on standardised features."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    return float(model.fit(x.numpy(), y.numpy()).score(test_x.numpy(), test_y.numpy()))


def _train_from_nothing(images, labels, test_images, test_labels, steps, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallNet(24, outputs=int(test_labels.max()) + 1)
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, weight_decay=1e-4)
        for _ in range(steps):
            batch = torch.randint(len(images), (min(64, len(images)),))
            mirrored = images[batch].flip(3) if torch.rand(()) < 0.5 else images[batch]
            optimizer.zero_grad()
            F.cross_entropy(network(mirrored), labels[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        return (network.eval()(test_images).argmax(1) == test_labels).float().mean().item()


# --- few shots: learning to adapt ---------------------------------------------------------------------------


def make_regressor(seed: int = 0) -> nn.Module:
    """-> network (N, 1) -> (N, 1) with two hidden layers of 40."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))


def meta_train(network: nn.Module, *, steps: int, order: int, shots: int = 10, seed: int = 0) -> nn.Module:
    """Regressor -> the same, trained on sine tasks: order 1 or 2 by MAML with one inner step; order 0 without
    an inner step, which is ordinary training on all points of all tasks together.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(steps):
        loss = 0
        for _ in range(8):
            function, x = sine_task(2 * shots, generator=generator)
            weights, query = dict(network.named_parameters()), x
            if order:
                weights, query = adapt(network, x[:shots], function(x[:shots]), order=order), x[shots:]
            loss = loss + F.mse_loss(functional_call(network, weights, (query,)), function(query)) / 8
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def measure_adaptation(
    networks: dict[str, nn.Module], *, tasks: int = 100, shots: int = 10, most: int = 5, seed: int = 9
) -> dict[str, list[list[float]]]:
    """{name: regressor} -> {name: for each number of steps from 0 on, the squared error of each new task}."""
    found = {name: [[] for _ in range(most + 1)] for name in networks}
    generator = torch.Generator().manual_seed(seed)
    grid = torch.linspace(-5, 5, 100)[:, None]
    for _ in range(tasks):
        function, x = sine_task(shots, generator=generator)
        for name, network in networks.items():
            for steps in range(most + 1):
                weights = adapt(network, x, function(x), steps=steps, order=1)
                with torch.no_grad():
                    error = F.mse_loss(functional_call(network, weights, (grid,)), function(grid))
                found[name][steps].append(error.item())
    return found


# --- zero shots ---------------------------------------------------------------------------------------------


def draw_single_shapes(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """int -> (n, 3, 32, 32), (n, 2) colour and shape, captions: one object an image."""
    drawn = data.shapes(n, size=32, seed=seed, objects=(1, 1))
    return drawn.images, torch.stack([torch.cat(drawn.colours), torch.cat(drawn.labels)], 1), drawn.captions


def describe_pairs() -> tuple[list[str], torch.Tensor]:
    """-> 30 descriptions "a red circle", (30, 2) colour and shape."""
    names = [(colour, shape) for colour in range(6) for shape in range(5)]
    colours, kinds = list(COLOURS), SHAPES
    words = [f"{_article(colours[c])} {colours[c]} {kinds[s]}" for c, s in names]
    return words, torch.tensor(names)


def _article(word):
    return "an" if word[0] in "aeiou" else "a"


def is_unseen(pairs: torch.Tensor) -> torch.Tensor:
    """(N, 2) colour and shape -> (N,) bool: the six pairs that no training image shows, a circle or a star in
    red, yellow or blue. The colour alone names at most half of them, the shape alone a third.
    """
    colour, shape = pairs[:, 0], pairs[:, 1]
    return (colour % 2 == 0) & ((shape == 0) | (shape == 3))


def train_clip(
    images: torch.Tensor, captions: Sequence[str], vocabulary: Vocabulary, *, epochs: int, seed: int = 0
) -> CLIP:
    """(N, 3, H, W), N captions -> CLIP in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(ImageEncoder(64), TextEncoder(len(vocabulary), 64))
    fit(
        model,
        (images, vocabulary.encode(list(captions))),
        loss_fn=lambda net, x, words: contrastive_loss(*net(x, words)),
        epochs=epochs,
        batch_size=32,
        lr=2e-3,
        seed=seed,
        progress=False,
    )
    return model.eval()


def measure_zero_shot(
    model: CLIP, images: torch.Tensor, pairs: torch.Tensor, vocabulary: Vocabulary
) -> dict[str, float]:
    """-> accuracies: images of unseen pairs among the six unseen descriptions and among all 30, images of
    seen pairs among all 30.
    """
    words, described = describe_pairs()
    unseen = is_unseen(described)
    new = is_unseen(pairs)
    probabilities = classify_by_text(model, images, vocabulary.encode(words))
    among_unseen = described[unseen][probabilities[new][:, unseen].argmax(1)]
    right = (described[probabilities.argmax(1)] == pairs).all(1).float()
    return {
        "unseen pairs among the 6 unseen": (among_unseen == pairs[new]).all(1).float().mean().item(),
        "unseen pairs among all 30": right[new].mean().item(),
        "seen pairs among all 30": right[~new].mean().item(),
    }


def measure_attributes(
    images: torch.Tensor,
    pairs: torch.Tensor,
    test_images: torch.Tensor,
    test_pairs: torch.Tensor,
    *,
    epochs: int,
) -> dict[str, float]:
    """-> accuracy on images of unseen pairs, among the six, of two classifiers, one of the colour and one of
    the shape, trained on the seen pairs; and of each half of the descriptions alone.
    """
    seen = ~is_unseen(pairs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(ImageEncoder(48), nn.Linear(48, 11))

    def loss_fn(net, x, y):
        logits = net(x)
        return F.cross_entropy(logits[:, :6], y[:, 0]) + F.cross_entropy(logits[:, 6:], y[:, 1])

    options = {"epochs": epochs, "batch_size": 64, "lr": 3e-3, "progress": False}
    fit(network, (images[seen], pairs[seen]), loss_fn=loss_fn, **options)
    unseen = is_unseen(test_pairs)
    with torch.no_grad():
        logits = network.eval()(test_images[unseen])
    _, described = describe_pairs()
    classes = described[is_unseen(described)]
    by_colour = logits[:, :6].log_softmax(1)[:, classes[:, 0]]
    by_shape = logits[:, 6:].log_softmax(1)[:, classes[:, 1]]
    scores = {"whole descriptions": by_colour + by_shape, "colour alone": by_colour, "shape alone": by_shape}
    return {
        name: (classes[score.argmax(1)] == test_pairs[unseen]).all(1).float().mean().item()
        for name, score in scores.items()
    }


# --- no labels ----------------------------------------------------------------------------------------------


def train_rotations(images: torch.Tensor, *, epochs: int, seed: int = 0) -> tuple[nn.Module, float]:
    """(N, 1, 8, 8) -> network whose `layers` are features, in evaluation mode, and its accuracy at naming by
    which of four angles a test image is turned [Gidaris et al. 2018].
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallNet(images.shape[-1], outputs=4)
    turned = torch.cat([images.rot90(turns, (2, 3)) for turns in range(4)])
    labels = torch.arange(4).repeat_interleave(len(images))
    fit(
        network,
        (turned, labels),
        loss_fn=lambda net, x, y: F.cross_entropy(net(x), y),
        epochs=epochs,
        batch_size=64,
        lr=3e-3,
        seed=seed,
        progress=False,
    )
    tests, _ = data.digits("test")
    with torch.no_grad():
        right = [network.eval()(tests.rot90(turns, (2, 3))).argmax(1) == turns for turns in range(4)]
    return network, torch.cat(right).float().mean().item()


def probe(
    features: dict[str, Callable[[torch.Tensor], torch.Tensor]], shots: Sequence[int], *, draws: int = 10
) -> dict[str, dict[int, list[float]]]:
    """{name: images -> (N, D)} -> {name: {labels a class: an accuracy a draw}} of a linear classifier on the
    digits.
    """
    images, labels = data.digits("train")
    test_images, test_labels = data.digits("test")
    found = {}
    for name, extract in features.items():
        with torch.no_grad():
            known, test = extract(images), extract(test_images)
        found[name] = {
            shot: [
                fit_linear(known[chosen], labels[chosen], test, test_labels)
                for chosen in (choose_shots(labels, shot, seed=draw) for draw in range(draws))
            ]
            for shot in shots
        }
    return found


# --- another domain -----------------------------------------------------------------------------------------


DOMAINS = {
    "as trained": lambda x: x,
    "low contrast": lambda x: 0.4 + 0.2 * x,
    "inverted": lambda x: 1 - x,
    "turned by 30°": lambda x: rotate(x, 30.0, InterpolationMode.BILINEAR),
    "noise": lambda x: (x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(
        0, 1
    ),
}


def train_classifier(images: torch.Tensor, labels: torch.Tensor, *, epochs: int, seed: int = 0) -> nn.Module:
    """(N, 1, 8, 8), (N,) -> classifier with batch normalisation, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallNet(images.shape[-1], outputs=10)
    options = {"epochs": epochs, "batch_size": 64, "lr": 3e-3, "seed": seed, "progress": False}
    fit(network, (images, labels), loss_fn=lambda net, x, y: F.cross_entropy(net(x), y), **options)
    return network.eval()


def measure_domains(networks: Sequence[nn.Module]) -> dict[str, dict[str, list[float]]]:
    """Classifiers -> {domain: {"stored statistics", "adapted statistics": an accuracy a network}}: the
    second takes mean and variance of each batch normalisation from the test images, without their labels.
    """
    images, labels = data.digits("test")
    found = {}
    for name, change in DOMAINS.items():
        found[name] = {"stored statistics": [], "adapted statistics": []}
        for network in networks:
            for mode, statistics in (("stored statistics", False), ("adapted statistics", True)):
                answers = _answer(network, change(images), statistics)
                found[name][mode].append((answers == labels).float().mean().item())
    return found


@torch.no_grad()
def _answer(network, images, adapted):
    """A copy answers, so that the statistics of the network stay as they are."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(adapted)
    return network(images).argmax(1)


# --- defects ------------------------------------------------------------------------------------------------


def draw_bricks(n: int, *, defects: bool, seed: int, size: int = 96) -> torch.Tensor:
    """int -> (n, 3, size, size): squares of the photograph of bricks, from its left half for training (seed
    0) and from its right half otherwise; with defects a scratch is drawn into each.
    """
    rng = np.random.default_rng(seed)
    photograph = data.photo("brick")
    half = photograph.shape[2] // 2
    squares = []
    for _ in range(n):
        y = rng.integers(0, photograph.shape[1] - size + 1)
        x = rng.integers(0, half - size + 1) + (0 if seed == 0 else half)
        square = photograph[:, y : y + size, x : x + size].clone()
        squares.append(_scratch(square, rng) if defects else square)
    return torch.stack(squares)


def _scratch(square, rng):
    """A line, 3 pixels wide and 40 long, as bright as the square is on average."""
    size = square.shape[1]
    y, x, angle = rng.uniform(25, size - 25), rng.uniform(25, size - 25), rng.uniform(0, np.pi)
    rows, columns = np.mgrid[0:size, 0:size]
    along = (rows - y) * np.sin(angle) + (columns - x) * np.cos(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    line = torch.from_numpy((np.abs(along) < 20) & (np.abs(across) < 1.5))
    return torch.where(line, square.mean(), square)


@torch.no_grad()
def map_anomalies(
    extract: Callable[[torch.Tensor], torch.Tensor], normal: torch.Tensor, images: torch.Tensor
) -> torch.Tensor:
    """images -> (N, D, h, w) maps, normal images, images -> (M, h, w): the distance of each position's vector
    to the nearest one of all normal images [after Roth et al. 2022, "PatchCore"].
    """
    memory = extract(normal).permute(0, 2, 3, 1).flatten(0, 2)
    memory = memory[torch.randperm(len(memory), generator=torch.Generator().manual_seed(0))[:4000]]
    maps = extract(images).permute(0, 2, 3, 1)
    return torch.stack(
        [torch.cdist(each.flatten(0, 1), memory).amin(1).view(each.shape[:2]) for each in maps]
    )


def find_flattest(images: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) -> (N,): minus the smallest variance of the brightness in a square of 5×5 pixels."""
    grey = images.mean(1, keepdim=True)
    variance = F.avg_pool2d(grey**2, 5, 1) - F.avg_pool2d(grey, 5, 1) ** 2
    return -variance.flatten(1).amin(1)


def measure_auroc(
    normal: torch.Tensor, defective: torch.Tensor, *, draws: int = 500
) -> tuple[float, float, float]:
    """Scores (N,), (M,) -> AUROC, and its 95 % interval by the bootstrap over images."""
    scores = np.concatenate([normal.numpy(), defective.numpy()])
    labels = np.repeat([0, 1], [len(normal), len(defective)])
    rng = np.random.default_rng(0)
    values = []
    for _ in range(draws):
        first, second = (
            rng.integers(0, len(normal), len(normal)),
            rng.integers(0, len(defective), len(defective)),
        )
        drawn = np.concatenate([scores[first], scores[len(normal) + second]])
        values.append(roc_auc_score(labels, drawn))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(roc_auc_score(labels, scores)), float(low), float(high)


# --- two modalities -----------------------------------------------------------------------------------------


def make_sounds(labels: torch.Tensor, *, noise: float, seed: int) -> torch.Tensor:
    """(N,) digits -> (N, 1, 16, 16): spectrograms of two tones, which belong to the digit as on a telephone's
    keys, in noise; frequency downwards, time to the right.
    """
    rows, columns = (697, 770, 852, 941), (1209, 1336, 1477)
    keys = {digit: ((digit - 1) // 3, (digit - 1) % 3) for digit in range(1, 10)} | {0: (3, 1)}
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(2048) / 4000
    window = torch.hann_window(256)
    sounds = []
    for label in labels.tolist():
        row, column = keys[label]
        tone = (2 * np.pi * rows[row] * time).sin() + (2 * np.pi * columns[column] * time).sin()
        wave = tone + noise * torch.randn(len(time), generator=generator)
        spectrum = torch.stft(wave, 256, 128, window=window, return_complex=True).abs().log1p()
        sounds.append(F.adaptive_avg_pool2d(spectrum[None, 32:112], 16))
    return torch.stack(sounds) / 6


def fuse(
    image_noise: float, sound_noise: float, *, seed: int = 0
) -> tuple[dict[str, float], tuple[torch.Tensor, torch.Tensor]]:
    """-> {"image", "sound", "both": accuracy}, examples: a linear classifier on noisy digits, one on noisy
    sounds, and the sum of their log-probabilities.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = {}
    for split, offset in (("train", 0), ("test", 1)):
        images, labels = data.digits(split)
        noisy = images + image_noise * torch.randn(images.shape, generator=generator)
        parts[split] = noisy, make_sounds(labels, noise=sound_noise, seed=2 * seed + offset), labels
    logs = []
    for kind in (0, 1):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
        model.fit(parts["train"][kind].flatten(1).numpy(), parts["train"][2].numpy())
        logs.append(model.predict_log_proba(parts["test"][kind].flatten(1).numpy()))
    labels = parts["test"][2].numpy()
    votes = {"image": logs[0], "sound": logs[1], "both": logs[0] + logs[1]}
    accuracy = {name: float((vote.argmax(1) == labels).mean()) for name, vote in votes.items()}
    return accuracy, (parts["test"][0][:4], parts["test"][1][:4])


# --- the map of the book ------------------------------------------------------------------------------------


def map_book() -> list[dict[str, Any]]:
    """-> a row a chapter of the table: name, section, title, modules, headings, how many checks its notebook
    holds, how many of them ran without an error, and how many exercises; None where it is not written yet.
    """
    return [_map_chapter(chapter) for chapter in chapters.TABLE]


def _map_chapter(chapter):
    row = {
        "chapter": chapter.name,
        "section": chapter.section,
        "title": chapter.title,
        "modules": chapter.modules,
        "errata": len(chapter.errata),
    }
    if not chapter.notebook.exists():
        return row | {"checks": None, "passed": None, "exercises": None, "headings": ()}
    cells = nbformat.read(chapter.notebook, as_version=4).cells
    checking = [cell for cell in cells if cell.cell_type == "code" and count_claims(cell.source)]
    passed = [cell for cell in checking if _ran(cell)]
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    names = {name for source in code for name in checked_exercises(source)}
    return row | {
        "checks": sum(count_claims(cell.source) for cell in checking),
        "passed": sum(count_claims(cell.source) for cell in passed),
        "exercises": len(names),
        "headings": tuple(_headings(chapter.text)),
    }


def _ran(cell):
    return cell.execution_count is not None and not any(out.output_type == "error" for out in cell.outputs)


def _headings(text: Path):
    for cell in jupytext.read(text).cells:
        if cell.cell_type == "markdown":
            yield from re.findall(r"^## (?:\d+ )?(.+)$", cell.source, re.MULTILINE)


def measure_people(network: EfficientNetLite0 | None) -> dict[str, Any]:
    """-> in the full profile what `compare_shots` says of ORL's class folders, where VLMBOOK_DATA holds them;
    {} otherwise.
    """
    people = read_people() if runtime.pick(quick=False, full=True) else None
    return {} if people is None else {"people": compare_shots(people, network, (1, 5), draws=10, steps=300)}
