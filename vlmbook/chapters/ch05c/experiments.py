"""Chapter 5c: which classes a teacher confuses, soft labels without that knowledge, labels of which some are
false, softmax regressions distilled for several weights alpha at once, and squares of photographs.
"""

import torch
from scipy.stats import spearmanr
from torch.nn import functional as F

from vlmbook import data
from vlmbook.distillation import soft_labels

ALPHAS = 11  # values from 0 to 1
TEXTURES = ("brick", "grass", "gravel", "tissue", "moon", "retina", "hubble", "coins")  # photographs


def entropy(p: torch.Tensor) -> torch.Tensor:
    """(B, K) probabilities -> (B,): their entropy in nats."""
    return torch.special.entr(p).sum(1)


# --- confused classes ---------------------------------------------------------------------------------------


def measure_confusions(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """(B, K), (B,) -> (K, K): the mean soft label of each class without the class itself; rows sum to 1."""
    p = soft_labels(logits, temperature)
    means = torch.stack([p[labels == k].mean(0) for k in range(p.shape[1])]).fill_diagonal_(0)
    return means / means.sum(1, keepdim=True)


def measure_similarities(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W), (N,) -> (K, K): how similar the mean images of two classes are; the diagonal is 0, rows
    sum to 1.
    """
    classes = range(int(labels.max()) + 1)
    means = torch.stack([images[labels == k].mean(0).flatten() for k in classes])
    distances = torch.cdist(means, means).fill_diagonal_(torch.inf)
    return torch.softmax(-2 * distances, 1)


def correlate_ranks(a: torch.Tensor, b: torch.Tensor) -> float:
    """(K, K), (K, K) -> float: Spearman's rank correlation over all entries off the diagonal."""
    others = ~torch.eye(len(a), dtype=torch.bool)
    return float(spearmanr(a[others], b[others]).statistic)


def compare_confusions(
    teacher_logits: torch.Tensor,
    student_logits: dict[str, list[torch.Tensor]],
    labels: torch.Tensor,
    temperature: float = 4.0,
) -> tuple[dict[str, torch.Tensor], dict[str, list[float]]]:
    """(B, K), {name: list over seeds of (B, K)}, (B,) -> {name: (K, K)} and {name: list over seeds}: the
    confusions of the teacher and of the last student's first seed, and the rank correlations of all students
    with the teacher.
    """
    teacher = measure_confusions(teacher_logits, labels, temperature)
    students = {
        name: [measure_confusions(logits, labels, temperature) for logits in of_seeds]
        for name, of_seeds in student_logits.items()
    }
    correlations = {
        name: [correlate_ranks(each, teacher) for each in of_seeds] for name, of_seeds in students.items()
    }
    last = list(students)[-1]
    return {"teacher": teacher, last: students[last][0]}, correlations


# --- soft labels that do not know which classes are similar -------------------------------------------------


def equalise_rest(p: torch.Tensor, largest: torch.Tensor | None = None) -> torch.Tensor:
    """(B, K) probabilities, () or none -> (B, K): the most likely class keeps its probability, or gets
    `largest`; all other classes share the rest equally.
    """
    top, best = p.max(1, keepdim=True)
    if largest is not None:
        top = largest.expand_as(top)
    rest = (1 - top) / (p.shape[1] - 1)
    return rest.expand_as(p).scatter(1, best, top)


def shuffle_rest(p: torch.Tensor, seed: int) -> torch.Tensor:
    """(B, K) probabilities -> (B, K): the most likely class keeps its probability; those of the others change
    places at random, in each row anew, so that the entropy stays.
    """
    best = p.argmax(1, keepdim=True)
    order = torch.rand(p.shape, generator=torch.Generator().manual_seed(seed))
    source = order.scatter(1, best, 2.0).argsort(1)  # classes in random order, the best one last
    target = p.scatter(1, best, 2.0).argsort(1)
    return torch.empty_like(p).scatter(1, target, p.gather(1, source))


# --- false labels, and the weight alpha ---------------------------------------------------------------------


def falsify_labels(
    labels: torch.Tensor, share: float, num_classes: int, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) -> (N,), (n,): the labels, of which this share is replaced by other classes, and where."""
    generator = torch.Generator().manual_seed(seed)
    replaced = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shifts = torch.randint(1, num_classes, replaced.shape, generator=generator)
    falsified = labels.clone()
    falsified[replaced] = (labels[replaced] + shifts) % num_classes
    return falsified, replaced


def measure_accuracy_by_alpha(
    images: torch.Tensor,
    labels: torch.Tensor,
    logits: torch.Tensor,
    test_images: torch.Tensor,
    test_labels: torch.Tensor,
    temperature: float,
    wrong: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 1, H, W), (N,), (N, K), (M, 1, H, W), (M,) -> (A,), (A,): values of alpha, and for each the
    accuracy of a softmax regression that learned from the labels and from the teacher's logits.

    `wrong` is the share of the labels that are replaced by false ones.
    """
    alphas = torch.linspace(0, 1, ALPHAS)
    falsified, _ = falsify_labels(labels, wrong, logits.shape[1])
    weights = train_linear_students(images, falsified, logits, alphas, temperature)
    predicted = torch.einsum("nd,adk->ank", append_one(test_images), weights).argmax(-1)
    return alphas, (predicted == test_labels).float().mean(1)


def train_linear_students(
    images: torch.Tensor,
    labels: torch.Tensor,
    logits: torch.Tensor,
    alphas: torch.Tensor,
    temperature: float,
    steps: int = 150,
    lr: float = 1.0,
) -> torch.Tensor:
    """(N, 1, H, W), (N,), (N, K), (A,) -> (A, D, K): weights of a softmax regression for each alpha, the bias
    last.

    Plain gradient descent with momentum on the distillation loss, whose gradient for the logits is written
    out. The learning rate is divided by the root of the number of pixels.
    """
    x = append_one(images)
    y = F.one_hot(labels, logits.shape[1]).float()
    p = soft_labels(logits, temperature)
    alpha = alphas[:, None, None]
    rate = lr / images[0].numel() ** 0.5
    weights = torch.zeros(len(alphas), x.shape[1], logits.shape[1])
    velocity = torch.zeros_like(weights)
    for _ in range(steps):
        z = torch.einsum("nd,adk->ank", x, weights)
        hard = z.softmax(-1) - y
        soft = temperature * ((z / temperature).softmax(-1) - p)
        slope = torch.einsum("nd,ank->adk", x, (1 - alpha) * hard + alpha * soft) / len(x)
        velocity = 0.9 * velocity - rate * slope
        weights = weights + velocity
    return weights


def append_one(images: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W) -> (N, H·W + 1): flat, and a 1 for the bias."""
    return F.pad(images.flatten(1), (0, 1), value=1)


# --- squares of photographs ---------------------------------------------------------------------------------


def cut_squares(
    each: int, *, held_out: int, side: int = 96, seed: int = 0
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """-> {"train", "test"}: (N, 1, side, side), (N,) index in TEXTURES: random grey squares of a photograph,
    `each` from its left half for training, `held_out` from its right half for the test.

    Each square has the mean 0.5 and the standard deviation 0.2 before it is clipped to [0, 1], so that
    brightness does not tell the class.
    """
    generator = torch.Generator().manual_seed(seed)
    counts, squares = {"train": each, "test": held_out}, {"train": [], "test": []}
    for name in TEXTURES:
        photograph = data.photo(name).mean(0)
        halves = zip(squares, photograph.tensor_split([photograph.shape[1] // 2], dim=1), strict=True)
        for part, half in halves:
            for _ in range(counts[part]):
                top, left = (
                    int(torch.randint(length - side + 1, (), generator=generator)) for length in half.shape
                )
                square = half[top : top + side, left : left + side]
                z = (square - square.mean()) / square.std().clamp(min=1e-3)
                squares[part].append((0.5 + 0.2 * z).clamp(0, 1)[None])
    classes = torch.arange(len(TEXTURES))
    return {part: (torch.stack(squares[part]), classes.repeat_interleave(counts[part])) for part in squares}


def choose_shots(labels: torch.Tensor, shots: int, seed: int) -> torch.Tensor:
    """(N,) -> (classes · shots,) indices: so many random ones of each class."""
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        chosen.append(own[torch.randperm(len(own), generator=generator)[:shots]])
    return torch.cat(chosen)
