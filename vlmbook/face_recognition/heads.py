"""Three ways to teach a network that two images show one person: softmax, triplets, ArcFace.

Embeddings are (B, D) floating, usually of length 1; labels are (B,) int64 and count the people from 0.
"""

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.validation import require_number, require_same_kind, require_tensor, require_whole


class SoftmaxHead(nn.Module):
    """(B, D), (B,) -> scalar: cross-entropy of a linear classifier of the people in the training set.

    logits = W s e + b. `scale` s lets embeddings of length 1 reach large logits. The head is thrown away
    after training. [Taigman et al. 2014, DeepFace, §3.3]
    """

    def __init__(self, width: int, people: int, *, scale: float = 16.0):
        width = require_whole(width, "width")
        people = require_whole(people, "people")
        scale = require_number(scale, "scale", above=0, most=1e4)
        super().__init__()
        self.scale = scale
        self.fc = nn.Linear(width, people)

    def logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, people)."""
        _require_embeddings(embeddings, self.fc.weight)
        return self.fc(self.scale * embeddings)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = self.logits(embeddings)
        _require_labels(labels, embeddings, self.fc.out_features)
        return F.cross_entropy(logits.float(), labels)


class ArcFaceHead(nn.Module):
    """(B, D), (B,) -> scalar: cross-entropy of s cos θ, where the true person's angle counts as θ + m
    [Deng et al. 2019, arXiv:1801.07698, eq. 3].

    θ is the angle between an embedding and the weight of a person. `margin` m in radians; with margin=0 it is
    a softmax of cosines. Where θ + m > π, the logit is s (cos θ − m sin m), which goes on falling.
    """

    def __init__(self, width: int, people: int, *, scale: float = 16.0, margin: float = 0.3):
        width = require_whole(width, "width")
        people = require_whole(people, "people")
        scale = require_number(scale, "scale", above=0, most=1e4)
        margin = require_number(margin, "margin", least=0, most=1.5)
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(people, width)))

    def cosines(self, embeddings: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, people): cos θ."""
        _require_embeddings(embeddings, self.weight)
        return F.linear(F.normalize(embeddings), F.normalize(self.weight))

    def logits(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B, D), (B,) -> (B, people): s cos θ, s cos(θ + m) for the true person."""
        cosines = self.cosines(embeddings).float()
        _require_labels(labels, embeddings, len(self.weight))
        true = cosines.gather(1, labels[:, None])
        return self.scale * cosines.scatter(1, labels[:, None], add_angle(true, self.margin))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.logits(embeddings, labels), labels)


def add_angle(cosines: torch.Tensor, margin: float) -> torch.Tensor:
    """(…) cos θ, m in radians -> (…): cos(θ + m) where θ + m ≤ π, else cos θ − m sin m.

    Raises TypeError or ValueError for values outside [−1, 1] and a margin outside [0, 1.5].
    """
    require_tensor(cosines, "cosines", "…", least=-1.001, most=1.001)  # rounding leaves them a little outside
    margin = require_number(margin, "margin", least=0, most=1.5)
    m = cosines.new_tensor(margin)
    sines = (1 - cosines.square()).clamp_min(1e-7).sqrt()  # the root has no gradient at 0
    turned = cosines * m.cos() - sines * m.sin()
    return torch.where(cosines > -m.cos(), turned, cosines - m * m.sin())


def triplet_loss(embeddings: torch.Tensor, labels: torch.Tensor, *, margin: float = 0.2) -> torch.Tensor:
    """(B, D), (B,) -> scalar: the mean of max(0, d(a, p) − d(a, n) + margin) over the anchors a of the batch.

    p is the farthest embedding of the same person, n the nearest of another one ["batch hard", Hermans et al.
    2017, arXiv:1703.07737, eq. 5; the triplet is Schroff et al. 2015, arXiv:1503.03832, eq. 3]. d is the
    Euclidean distance. Raises ValueError for a batch in which no person has two images, or with one person
    only.
    """
    require_tensor(embeddings, "embeddings", "B D")
    _require_labels(labels, embeddings, None)
    margin = require_number(margin, "margin", least=0, most=1e4)
    same = labels[:, None] == labels
    others = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchors = others.any(1) & ~same.all(1)
    if not anchors.any():
        raise ValueError(
            f"labels wants a person with two images and another person, got {labels.unique().numel()} people "
            f"in {len(labels)} images"
        )
    distances = _distances(embeddings)
    farthest = distances.masked_fill(~others, -torch.inf).amax(1)
    nearest = distances.masked_fill(same, torch.inf).amin(1)
    return (farthest - nearest + margin)[anchors].clamp_min(0).mean()


def _distances(embeddings):
    """(B, D) -> (B, B) float32: Euclidean; the root's gradient stays finite where two are equal."""
    e = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    return (e[:, None] - e).square().sum(2).clamp_min(1e-12).sqrt()


def _require_embeddings(embeddings, weight):
    require_tensor(embeddings, "embeddings", "B D", D=weight.shape[1])
    require_same_kind(embeddings, "embeddings", weight, "the head")


def _require_labels(labels, embeddings, people):
    require_tensor(
        labels,
        "labels",
        "B",
        kind="int64",
        least=0,
        most=None if people is None else people - 1,
        device=embeddings.device,
        B=len(embeddings),
    )
