"""Chapter 7b: attacks on trained networks, private and federated training, explanations of photographs, a
planted shortcut, two groups, wrong labels and rare classes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.nn import functional as F

from vlmbook import data, explain, fairness, privacy, runtime
from vlmbook.efficientnet import EfficientNetLite0

CLASSES = 10

# --- small networks -----------------------------------------------------------------------------------------


def make_mlp(seed: int, *, inputs: int = 64, width: int = 32, outputs: int = CLASSES) -> nn.Module:
    """-> network (B, 1, H, W) -> (B, outputs) with one hidden layer; the global generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))


def train(network: nn.Module, x: torch.Tensor, y: torch.Tensor, *, steps: int, lr: float = 5e-3) -> nn.Module:
    """network, all images, all labels -> the same network in evaluation mode, after steps of Adam on all
    samples at once.
    """
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def measure_accuracy(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """-> share of right classes"""
    return (network(x).argmax(1) == y).double().mean().item()


def plant_wrong_labels(
    labels: torch.Tensor, share: float, *, seed: int, kind: str = "uniform"
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) -> (N,) labels of which round(share · N) are wrong, (N,) bool which. "uniform": any other class;
    "pair": the next class.
    """
    generator = torch.Generator().manual_seed(1000 + seed)
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shift = torch.randint(1, CLASSES, (len(chosen),), generator=generator)
    if kind == "pair":
        shift = torch.ones_like(shift)
    noisy, wrong = labels.clone(), torch.zeros(len(labels), dtype=torch.bool)
    noisy[chosen] = (labels[chosen] + shift) % CLASSES
    wrong[chosen] = True
    return noisy, wrong


# --- privacy: who was in the training set? ------------------------------------------------------------------


class Members(NamedTuple):
    """Images with labels that a network is trained on, as many others, and which labels of the members are
    wrong.
    """

    x: torch.Tensor
    y: torch.Tensor
    wrong: torch.Tensor
    other_x: torch.Tensor
    other_y: torch.Tensor
    other_wrong: torch.Tensor


def draw_members(
    images: torch.Tensor, labels: torch.Tensor, n: int, *, share_wrong: float = 0.0, seed: int
) -> Members:
    """Images, labels -> n members and n others, drawn at random; both have the same share of wrong labels."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[: 2 * n]
    parts = []
    for offset, chosen in enumerate((order[:n], order[n:])):
        noisy, wrong = plant_wrong_labels(labels[chosen], share_wrong, seed=2 * seed + offset)
        parts += [images[chosen], noisy, wrong]
    return Members(*parts)


@torch.no_grad()
def attack(network: nn.Module, members: Members) -> tuple[torch.Tensor, torch.Tensor]:
    """-> (n,) scores of the members, (n,) of the others: minus the loss of each sample."""
    inside = -F.cross_entropy(network(members.x), members.y, reduction="none")
    outside = -F.cross_entropy(network(members.other_x), members.other_y, reduction="none")
    return inside, outside


def measure_attack(
    images: torch.Tensor,
    labels: torch.Tensor,
    sizes: Sequence[int],
    shares: Sequence[float],
    *,
    steps: int = 200,
    seeds: int = 3,
) -> dict[str, dict[int, list[float]]]:
    """-> {share of wrong labels: {number of members: an AUC a seed}}; each network is trained to the end."""
    found = {}
    for share in shares:
        rows = found.setdefault(f"{share:.0%} wrong labels", {})
        for n in sizes:
            rows[n] = []
            for seed in range(seeds):
                members = draw_members(images, labels, n, share_wrong=share, seed=seed)
                network = train(make_mlp(seed, inputs=images[0].numel()), members.x, members.y, steps=steps)
                rows[n].append(privacy.attack_auc(*attack(network, members))[0])
    return found


def measure_fashion() -> dict[str, dict]:
    """-> {"attack_fashion": results of `measure_attack` on Fashion-MNIST} in the full profile; nothing in the
    quick one, or where the data set is not there.
    """
    if runtime.profile() != "full":
        return {}
    try:
        images, labels = data.fashion_mnist("train")
    except runtime.DataMissing as missing:
        print(missing)
        return {}
    sizes = (200, 1000, 5000)
    return {"attack_fashion": measure_attack(images[:20_000], labels[:20_000], sizes, (0,), steps=300)}


# --- privacy: training with noise ---------------------------------------------------------------------------


def train_private(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    noise_multiplier: float,
    steps: int,
    rate: float,
    max_norm: float = 1.0,
    lr: float = 1.5,
    seed: int = 0,
) -> nn.Module:
    """network, members -> the same network, after steps of DP-SGD with Poisson sampling."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = privacy.sample_poisson(len(x), rate, generator=generator)
        gradient = privacy.private_gradient(
            network,
            x[batch],
            y[batch],
            max_norm=max_norm,
            noise_multiplier=noise_multiplier,
            expected_batch=rate * len(x),
            generator=generator,
        )
        with torch.no_grad():
            for name, weights in network.named_parameters():
                weights -= lr * gradient[name]
    return network.eval()


def measure_privacy(
    images: torch.Tensor,
    labels: torch.Tensor,
    test: tuple[torch.Tensor, torch.Tensor],
    budgets: Sequence[float],
    *,
    n: int,
    share_wrong: float,
    steps: int,
    rate: float,
    delta: float,
    seeds: int = 3,
) -> dict[str, dict[str, list[float]]]:
    """-> {training: {"auc": one a seed, "accuracy": one a seed}}: 300 steps of Adam and 20 of them; DP-SGD's
    steps with clipping alone, and with the noise of each budget ε.
    """
    trainings = {"trained to the end": None, "stopped early": None, "clipped, no noise": 0.0}
    for budget in budgets:
        sigma = privacy.noise_multiplier_for(budget, rate, steps, delta)
        trainings[f"ε = {budget:g}"] = sigma
    found = {name: {"auc": [], "accuracy": []} for name in trainings}
    for seed in range(seeds):
        members = draw_members(images, labels, n, share_wrong=share_wrong, seed=seed)
        for name, sigma in trainings.items():
            network = make_mlp(seed, inputs=images[0].numel())
            if sigma is None:
                train(network, members.x, members.y, steps=20 if name == "stopped early" else 300)
            else:
                train_private(
                    network, members.x, members.y, noise_multiplier=sigma, steps=steps, rate=rate, seed=seed
                )
            found[name]["auc"].append(privacy.attack_auc(*attack(network, members))[0])
            found[name]["accuracy"].append(measure_accuracy(network, *test))
    return found


# --- privacy: data that stay with the clients ---------------------------------------------------------------


def split_clients(labels: torch.Tensor, *, skewed: bool, seed: int) -> list[torch.Tensor]:
    """(N,) -> the indices of two clients of equal size: skewed, one has the digits 0-4 and the other 5-9;
    else both have all.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    first = order[labels[order] < CLASSES // 2] if skewed else order[::2]
    second = order[labels[order] >= CLASSES // 2] if skewed else order[1::2]
    size = min(len(first), len(second))
    return [first[:size], second[:size]]


def train_federated(
    x: torch.Tensor,
    y: torch.Tensor,
    clients: Sequence[torch.Tensor],
    test: tuple[torch.Tensor, torch.Tensor],
    *,
    rounds: int,
    local_steps: int,
    lr: float = 0.5,
    seed: int = 0,
) -> list[float]:
    """-> the accuracy after each round of federated averaging; a round is `local_steps` of gradient descent
    at each client, then the weighted mean of their weights.
    """
    network, accuracies = make_mlp(seed, inputs=x[0].numel()), []
    for _ in range(rounds):
        states = []
        for client in clients:
            local = make_mlp(seed, inputs=x[0].numel())
            local.load_state_dict(network.state_dict())
            optimizer = torch.optim.SGD(local.parameters(), lr=lr)
            for _ in range(local_steps):
                optimizer.zero_grad()
                F.cross_entropy(local(x[client]), y[client]).backward()
                optimizer.step()
            states.append(local.state_dict())
        network.load_state_dict(privacy.federated_average(states, [len(client) for client in clients]))
        accuracies.append(measure_accuracy(network, *test))
    return accuracies


def measure_federated(
    x: torch.Tensor,
    y: torch.Tensor,
    test: tuple[torch.Tensor, torch.Tensor],
    *,
    rounds: int,
    local_steps: int,
    seeds: int = 3,
) -> dict[str, list[list[float]]]:
    """-> {way: for each seed the accuracies after each round}: all with as many steps and the same data."""
    found = {}
    for seed in range(seeds):
        equal = split_clients(y, skewed=False, seed=seed)
        skewed = split_clients(y, skewed=True, seed=seed)
        ways = {
            "all data in one place": ([torch.cat(skewed)], local_steps, rounds),
            "two equal clients": (equal, local_steps, rounds),
            "two skewed clients": (skewed, local_steps, rounds),
            "skewed, 1 step a round": (skewed, 1, rounds * local_steps),
            "one skewed client alone": (skewed[:1], local_steps, rounds),
        }
        for name, (clients, steps, count) in ways.items():
            curve = train_federated(x, y, clients, test, rounds=count, local_steps=steps, seed=seed)
            found.setdefault(name, []).append(curve[steps_between(count, rounds) :: count // rounds])
    return found


def steps_between(count: int, rounds: int) -> int:
    """-> the index of the first accuracy to keep, so that one is left for each of `rounds`."""
    return count // rounds - 1


# --- transparency: photographs ------------------------------------------------------------------------------


def explain_photographs(
    network: EfficientNetLite0, x: torch.Tensor, target: torch.Tensor, *, window: int, steps: int
) -> dict[str, torch.Tensor]:
    """EfficientNet, (B, 3, 224, 224), (B,) -> {method: (B, 224, 224) heat}; Grad-CAM is enlarged."""
    cam = explain.grad_cam(network, network.blocks[-1], x, target)
    parts = explain.integrated_gradients(network, x, target, steps=steps)
    return {
        "occlusion": explain.occlusion(network, x, target, window=window, stride=window // 2),
        "saliency": explain.saliency(network, x, target),
        "integrated gradients": parts.sum(1).abs(),
        "Grad-CAM": enlarge(cam, x.shape[2:]),
    }


def enlarge(heat: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """(B, h, w) -> (B, H, W), bilinear"""
    return F.interpolate(heat[:, None], size=tuple(size), mode="bilinear")[:, 0]


def find_edges(x: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) -> (B, H, W): how strongly the brightness changes; it knows nothing of a network."""
    grey = x.mean(1)
    down = F.pad(grey.diff(dim=1), (0, 0, 0, 1)).abs()
    right = F.pad(grey.diff(dim=2), (0, 1)).abs()
    return down + right


def point_at_halves(
    network: EfficientNetLite0,
    squares: Sequence[torch.Tensor],
    targets: Sequence[int],
    *,
    steps: int = 4,
) -> dict[str, list[float]]:
    """network, (3, 224, 224) squares, their classes -> {method: for each pair of squares side by side and
    each of their two classes, the share of the heat in the half that shows the class}. The control map is the
    same for both classes, so that its two shares add up to 1.
    """
    found = {}
    for first in range(len(squares)):
        for second in range(first + 1, len(squares)):
            x = torch.cat([squares[first], squares[second]], 2)[None]
            for place, target in enumerate((targets[first], targets[second])):
                chosen = torch.tensor([target])
                parts = explain.integrated_gradients(network, x, chosen, steps=steps)
                maps = {
                    "saliency": explain.saliency(network, x, chosen),
                    "integrated gradients": parts.sum(1).abs(),
                    "Grad-CAM": explain.grad_cam(network, network.blocks[-1], x, chosen),
                    "edges (control)": find_edges(x),
                }
                for name, heat in maps.items():
                    half = heat.chunk(2, dim=2)[place]
                    found.setdefault(name, []).append((half.sum() / heat.sum()).item())
    return found


def measure_randomisation(
    network: EfficientNetLite0, x: torch.Tensor, target: torch.Tensor, *, seeds: int = 3
) -> dict[str, dict[str, list[float]]]:
    """-> {which part has random weights: {method: a rank correlation with the trained network's map for each
    seed, averaged over the images}}.
    """
    layers = {
        "last layer": ["fc"],
        "head and last 4 blocks": ["fc", "head", *(f"blocks.{k}" for k in range(12, 16))],
        "whole network": ["fc", "head", "blocks", "stem"],
    }

    def explain_all(net):
        return {
            "saliency": explain.saliency(net, x, target),
            "Grad-CAM": explain.grad_cam(net, net.blocks[-1], x, target),
            "edges (control)": find_edges(x),
        }

    trained = explain_all(network)
    found = {}
    for name, modules in layers.items():
        rows = found.setdefault(name, {method: [] for method in trained})
        for seed in range(seeds):
            generator = torch.Generator().manual_seed(seed)
            changed = explain.randomise(network, modules, generator=generator)
            for method, heat in explain_all(changed).items():
                rows[method].append(correlate_ranks(trained[method], heat))
    return found


def correlate_ranks(a: torch.Tensor, b: torch.Tensor) -> float:
    """(B, H, W), (B, H, W) -> Spearman's correlation, averaged over the images; 0 for a constant map."""
    values = []
    for first, second in zip(a.flatten(1), b.flatten(1), strict=True):
        constant = first.max() == first.min() or second.max() == second.min()
        values.append(0.0 if constant else float(spearmanr(first.numpy(), second.numpy())[0]))
    return float(np.mean(values))


# --- transparency: a planted shortcut -----------------------------------------------------------------------

MARK = (slice(1, 6), slice(1, 6))  # rows and columns of a bright square in the corner


def plant_mark(images: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W), (N,) bool -> the same images, of which the chosen ones have a bright square."""
    marked = images.clone()
    rows, columns = MARK
    marked[chosen, :, rows, columns] = 1.0
    return marked


def make_small_cnn(seed: int) -> nn.Module:
    """-> network (B, 1, 25, 25) -> (B, 2): two convolutions and one linear layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 5 * 5, 2),
        )  # fmt: skip


def split_patches(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """-> 140 face patches with labels to learn from, 60 of the test."""
    images, labels = data.face_patches()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    known, test = order[:140], order[140:]
    return images[known], labels[known], images[test], labels[test]


def measure_shortcut(*, steps: int = 60, seeds: int = 3) -> tuple[dict[str, dict[str, list[float]]], dict]:
    """-> {training: {what: a number a seed}}, {training: (25, 25) mean heat of the last seed}: networks that
    learned from faces with a mark, from faces without one, and with a mark on half of all patches.
    """
    found, heats = {}, {}
    for seed in range(seeds):
        x, y, test_x, test_y = split_patches(seed)
        half = torch.rand(len(x), generator=torch.Generator().manual_seed(seed)) < 0.5
        trainings = {
            "mark on every face": plant_mark(x, y == 1),
            "no mark": x,
            "mark on random patches": plant_mark(x, half),
        }
        every = torch.ones(len(test_x), dtype=torch.bool)
        swapped = plant_mark(test_x, test_y == 0)
        for name, images in trainings.items():
            network = train(make_small_cnn(seed), images, y, steps=steps)
            shown = plant_mark(test_x, every)
            target = torch.ones(len(shown), dtype=torch.int64)
            heat = explain.integrated_gradients(network, shown, target, steps=8).abs().sum(1)
            inside = heat[:, MARK[0], MARK[1]].sum((1, 2)) / heat.sum((1, 2))
            row = found.setdefault(name, {"clean": [], "mark on the others": [], "share in the mark": []})
            row["clean"].append(measure_accuracy(network, test_x, test_y))
            row["mark on the others"].append(measure_accuracy(network, swapped, test_y))
            row["share in the mark"].append(inside.mean().item())
            heats[name] = heat.mean(0)
    return found, heats


# --- fairness -----------------------------------------------------------------------------------------------


def draw_people(n: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """n in each of two groups -> (2n,) scores, labels, groups: P(Y = 1 | score) is the score in both groups,
    and the base rates are 0.5 and 0.3.
    """
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.beta(1.5, 1.5, n), rng.beta(1.2, 2.8, n)])
    labels = rng.random(2 * n) < scores
    groups = torch.arange(2).repeat_interleave(n)
    return torch.from_numpy(scores), torch.from_numpy(labels).long(), groups


def measure_thresholds(*, n: int, draws: int = 5) -> dict[str, dict[str, list[float]]]:
    """-> {criterion: {"accuracy": one a draw, and each gap}}: thresholds are chosen on one draw of people and
    measured on another one.
    """
    found = {}
    for seed in range(draws):
        scores, labels, groups = draw_people(n, seed=seed)
        new_scores, new_labels, new_groups = draw_people(n, seed=100 + seed)
        for criterion in fairness.CRITERIA:
            chosen = fairness.choose_thresholds(scores, labels, groups, criterion=criterion)
            decisions = fairness.decide(new_scores, new_groups, chosen)
            by_group = fairness.rates_by_group(decisions, new_labels, new_groups)
            row = found.setdefault(criterion, {})
            right = (decisions.long() == new_labels).double().mean().item()
            row.setdefault("accuracy", []).append(right)
            for name, gap in fairness.criteria_gaps(by_group).items():
                row.setdefault(name, []).append(gap)
    return found


def turn(images: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W) -> the same images as camera B takes them: turned by a quarter."""
    return images.rot90(1, (2, 3))


def train_two_cameras(
    images: torch.Tensor, labels: torch.Tensor, share: float, *, n: int, seed: int, steps: int = 150
) -> nn.Module:
    """Digits -> network that says whether a digit is at least 5, trained on n images, of which round(share ·
    n) come from camera B.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:n]
    x, y = images[order].clone(), (labels[order] >= 5).long()
    of_b = round(share * n)
    x[:of_b] = turn(x[:of_b])
    return train(make_mlp(seed, inputs=images[0].numel(), outputs=2), x, y, steps=steps)


@torch.no_grad()
def score_two_cameras(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """-> (2N,) probabilities of "at least 5", labels, groups: each test image as camera A and as camera B."""
    x = torch.cat([images, turn(images)])
    y = (labels >= 5).long().repeat(2)
    return network(x).softmax(1)[:, 1], y, torch.arange(2).repeat_interleave(len(images))


def measure_cameras(
    known: tuple[torch.Tensor, torch.Tensor],
    test: tuple[torch.Tensor, torch.Tensor],
    shares: Sequence[float],
    *,
    n: int,
    seeds: int = 3,
) -> dict[str, dict[float, list[float]]]:
    """-> {"camera A", "camera B": {share of B in the training: an accuracy a seed}}; n stays the same."""
    found = {"camera A": {}, "camera B": {}}
    for share in shares:
        for name in found:
            found[name][share] = []
        for seed in range(seeds):
            network = train_two_cameras(*known, share, n=n, seed=seed)
            scores, labels, groups = score_two_cameras(network, *test)
            by_group = fairness.rates_by_group(scores >= 0.5, labels, groups)
            for group, name in enumerate(found):
                found[name][share].append(by_group[group].accuracy)
    return found


# --- data quality -------------------------------------------------------------------------------------------


def make_classifiers() -> dict[str, Callable]:
    """-> {name: function that makes a classifier of scikit-learn}"""
    return {
        "logistic regression": lambda: LogisticRegression(C=0.1, max_iter=300),
        "1 nearest neighbour": lambda: KNeighborsClassifier(1),
        "15 nearest neighbours": lambda: KNeighborsClassifier(15),
    }


def measure_label_noise(
    known: tuple[torch.Tensor, torch.Tensor],
    test: tuple[torch.Tensor, torch.Tensor],
    shares: Sequence[float],
    *,
    kind: str,
    seeds: int = 3,
) -> dict[str, dict[float, list[float]]]:
    """-> {classifier: {share of wrong labels in the training: an accuracy on right labels a seed}}"""
    x, test_x = (images.flatten(1).numpy() for images in (known[0], test[0]))
    found = {name: {share: [] for share in shares} for name in make_classifiers()}
    for share in shares:
        for seed in range(seeds):
            noisy, _ = plant_wrong_labels(known[1], share, seed=seed, kind=kind)
            for name, make in make_classifiers().items():
                score = make().fit(x, noisy.numpy()).score(test_x, test[1].numpy())
                found[name][share].append(float(score))
    return found


def predict_held_out(images: torch.Tensor, labels: torch.Tensor, *, seed: int = 0) -> torch.Tensor:
    """(N, 1, H, W), (N,) -> (N, classes): probabilities from logistic regressions that have not seen the
    image; five folds.
    """
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    model = LogisticRegression(C=0.1, max_iter=300)
    x, y = images.flatten(1).numpy(), labels.numpy()
    return torch.from_numpy(cross_val_predict(model, x, y, cv=folds, method="predict_proba"))


def find_label_errors(probabilities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N, K) held-out probabilities, (N,) labels -> (N,) bool: counted by confident learning as of another
    class [Northcutt et al. 2021, arXiv:1911.00068, sec. 3.1].

    The threshold of a class is the mean probability that its own images get. An image is confidently of each
    class whose threshold it reaches, and of the most probable one among them.
    """
    classes = probabilities.shape[1]
    thresholds = torch.stack([probabilities[labels == k, k].mean() for k in range(classes)])
    reached = probabilities.where(probabilities >= thresholds, -1.0)
    confident = reached.amax(1) >= 0
    return confident & (reached.argmax(1) != labels)


def measure_cleaning(
    known: tuple[torch.Tensor, torch.Tensor],
    test: tuple[torch.Tensor, torch.Tensor],
    *,
    share: float,
    seeds: int = 3,
) -> tuple[dict[str, dict[str, list[float]]], dict[str, list[float]]]:
    """-> {finder: {"precision", "recall": one a seed}}, {training set: an accuracy a seed}: planted errors
    found, and a 1-nearest-neighbour classifier after the images that were found are left out.
    """
    finders, accuracies = {}, {}
    images, labels = known
    for seed in range(seeds):
        noisy, wrong = plant_wrong_labels(labels, share, seed=seed)
        probabilities = predict_held_out(images, noisy, seed=seed)
        own = probabilities.gather(1, noisy[:, None])[:, 0]
        found = find_label_errors(probabilities, noisy)
        count = int(found.sum())
        generator = torch.Generator().manual_seed(seed)
        by_chance = mark_lowest(torch.rand(len(labels), generator=generator), count)
        ways = {
            "confident learning": found,
            "most probable class differs": probabilities.argmax(1) != noisy,
            "lowest probability of the label": mark_lowest(own, count),
            "as many at random": by_chance,
        }
        for name, chosen in ways.items():
            row = finders.setdefault(name, {"precision": [], "recall": []})
            row["precision"].append((wrong & chosen).sum().item() / max(int(chosen.sum()), 1))
            row["recall"].append((wrong & chosen).sum().item() / int(wrong.sum()))
        sets = {
            "right labels": (labels, torch.ones_like(wrong)),
            "wrong labels in": (noisy, torch.ones_like(wrong)),
            "found ones left out": (noisy, ~found),
            "as many left out at random": (noisy, ~by_chance),
        }
        for name, (y, keep) in sets.items():
            model = KNeighborsClassifier(1)
            model.fit(images[keep].flatten(1).numpy(), y[keep].numpy())
            score = model.score(test[0].flatten(1).numpy(), test[1].numpy())
            accuracies.setdefault(name, []).append(float(score))
    return finders, accuracies


def mark_lowest(values: torch.Tensor, count: int) -> torch.Tensor:
    """(N,) -> (N,) bool: the `count` lowest"""
    chosen = torch.zeros(len(values), dtype=torch.bool)
    chosen[values.argsort()[:count]] = True
    return chosen


def draw_rare(
    images: torch.Tensor, labels: torch.Tensor, *, rare: int, common: int, digit: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Digits -> so many images of one digit (label 1) and of the others (0)."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([order[labels[order] == digit][:rare], order[labels[order] != digit][:common]])
    return images[chosen], (labels[chosen] == digit).long()


def measure_imbalance(
    known: tuple[torch.Tensor, torch.Tensor],
    test: tuple[torch.Tensor, torch.Tensor],
    *,
    rare: int = 6,
    common: int = 594,
    digit: int = 8,
    seeds: int = 5,
) -> dict[str, dict[str, list[float]]]:
    """-> {method: {measure: a number a seed}} for a digit that is rare in the training and in the test: the
    test has the same shares, as weights of its samples.
    """
    test_x = test[0].flatten(1).numpy()
    truth = (test[1] == digit).numpy()
    weights = np.where(truth, rare / truth.sum(), common / (~truth).sum())
    found = {}
    for seed in range(seeds):
        images, y = draw_rare(*known, rare=rare, common=common, digit=digit, seed=seed)
        x, y = images.flatten(1).numpy(), y.numpy()
        plain = LogisticRegression(C=0.1, max_iter=300).fit(x, y)
        weighted = LogisticRegression(C=0.1, max_iter=300, class_weight="balanced").fit(x, y)
        repeated = np.concatenate([np.flatnonzero(y == 0), np.repeat(np.flatnonzero(y == 1), common // rare)])
        oversampled = LogisticRegression(C=0.1, max_iter=300).fit(x[repeated], y[repeated])
        scores = plain.predict_proba(test_x)[:, 1]
        heavy = weighted.predict_proba(test_x)[:, 1]
        often = oversampled.predict_proba(test_x)[:, 1]
        methods = {
            "always no": (np.zeros(len(truth)), 0.5),
            "plain, threshold 0.5": (scores, 0.5),
            "plain, threshold = base rate": (scores, rare / (rare + common)),
            "class weights": (heavy, 0.5),
            "oversampling": (often, 0.5),
        }
        for name, (values, threshold) in methods.items():
            row = found.setdefault(name, {})
            for measure, value in _score_rare(values, threshold, truth, weights).items():
                row.setdefault(measure, []).append(value)
    return found


def _score_rare(scores, threshold, truth, weights):
    """-> accuracy, recall, precision (0 where nothing is found) and average precision, all weighted"""
    decided = scores >= threshold
    hits = weights[decided & truth].sum()
    return {
        "accuracy": float(weights[decided == truth].sum() / weights.sum()),
        "recall": float(hits / weights[truth].sum()),
        "precision": float(hits / weights[decided].sum()) if decided.any() else 0.0,
        "average precision": float(average_precision_score(truth, scores, sample_weight=weights)),
    }
