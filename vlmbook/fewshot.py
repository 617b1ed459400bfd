"""Learning from few examples: episodes, prototypes of classes, and an initialisation that is learned so that
a few steps of gradient descent suffice.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from vlmbook.validation import (
    require_callable,
    require_choice,
    require_number,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

MOST = 2**16

# --- episodes -----------------------------------------------------------------------------------------------


class Episode(NamedTuple):
    """Indices of a small task with W classes: `support` (W, K), from which it is learned, and `query`
    (W, Q), on which it is measured; no index stands twice. Row w holds images of one class.
    """

    support: torch.Tensor
    query: torch.Tensor


def sample_episode(
    labels: torch.Tensor, *, ways: int, shots: int, queries: int, generator: torch.Generator | None = None
) -> Episode:
    """(N,) int64 from 0 on -> Episode: `ways` classes, of each `shots` images to learn from and `queries`
    others [Vinyals et al. 2016, arXiv:1606.04080, sec. 2.2].

    Classes with fewer than shots + queries images are left out. Raises TypeError or ValueError for what is no
    label, for numbers below 1, and where fewer than `ways` classes are left.
    """
    require_tensor(labels, "labels", "N", kind="int64", least=0, most=MOST)
    _require_values(labels, "labels")
    ways = require_whole(ways, "ways", most=MOST)
    shots = require_whole(shots, "shots", most=MOST)
    queries = require_whole(queries, "queries", most=MOST)
    if generator is not None:
        require_type(generator, "generator", torch.Generator, "a torch.Generator")
    labels = labels.cpu()
    classes = (labels.bincount() >= shots + queries).nonzero()[:, 0]
    if len(classes) < ways:
        raise ValueError(
            f"labels wants {ways} classes with {shots + queries} images each, got {len(classes)} such classes"
        )
    chosen = classes[torch.randperm(len(classes), generator=generator)[:ways]]
    rows = []
    for label in chosen:
        own = (labels == label).nonzero()[:, 0]
        rows.append(own[torch.randperm(len(own), generator=generator)[: shots + queries]])
    drawn = torch.stack(rows)
    return Episode(drawn[:, :shots], drawn[:, shots:])


# --- prototypes ---------------------------------------------------------------------------------------------


def prototypes(embeddings: torch.Tensor) -> torch.Tensor:
    """(W, K, D) -> (W, D): the mean embedding of each class's K images [Snell et al. 2017, arXiv:1703.05175,
    eq. 1].

    Raises TypeError or ValueError for what is no such tensor.
    """
    require_tensor(embeddings, "embeddings", "W K D")
    wide = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    return wide.mean(1).to(embeddings.dtype)


def prototype_logits(queries: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """(N, D), (W, D) -> (N, W): minus the squared Euclidean distance of each query to each prototype [Snell
    et al. 2017, eq. 2].

    The softmax of them is the probability of each class; the nearest prototype has the largest. Raises
    TypeError or ValueError for tensors that do not fit.
    """
    require_tensor(queries, "queries", "N D")
    require_tensor(centres, "centres", "W D", D=queries.shape[1])
    require_same_kind(queries, "queries", centres, "centres")
    return -(queries[:, None] - centres).square().sum(2)


def episode_loss(network: nn.Module, images: torch.Tensor, episode: Episode) -> torch.Tensor:
    """network (B, C, H, W) -> (B, D), (N, C, H, W), Episode -> scalar: the cross-entropy of the queries
    against the prototypes of the support.

    Raises TypeError or ValueError for what does not fit.
    """
    logits, labels = _answer(network, images, episode)
    return F.cross_entropy(logits, labels)


def episode_accuracy(network: nn.Module, images: torch.Tensor, episode: Episode) -> float:
    """network, (N, C, H, W), Episode -> share of the queries whose nearest prototype is that of their class.

    Raises TypeError or ValueError for what does not fit.
    """
    with torch.no_grad():
        logits, labels = _answer(network, images, episode)
    return (logits.argmax(1) == labels).double().mean().item()


def _answer(network, images, episode):
    """-> (W·Q, W) logits, (W·Q,) labels: both parts go through the network at once."""
    require_type(network, "network", nn.Module, "a torch.nn.Module")
    require_tensor(images, "images", "N C H W")
    require_type(episode, "episode", Episode, "an Episode")
    ways, shots = require_tensor(episode.support, "episode.support", "W K", kind="int64").shape
    require_tensor(episode.query, "episode.query", "W Q", kind="int64", W=ways)
    indices = torch.cat([episode.support, episode.query], dim=1)
    if not 0 <= int(indices.min()) <= int(indices.max()) < len(images):
        raise ValueError(f"episode wants indices below {len(images)}, got {int(indices.max())}")
    embeddings = require_tensor(
        network(images[indices.flatten()]), "network(images)", "B D", B=indices.numel()
    )
    embeddings = embeddings.unflatten(0, tuple(indices.shape))
    centres = prototypes(embeddings[:, :shots])
    queries = embeddings[:, shots:].flatten(0, 1)
    labels = torch.arange(ways, device=queries.device).repeat_interleave(episode.query.shape[1])
    return prototype_logits(queries, centres), labels


# --- an initialisation that adapts --------------------------------------------------------------------------


def adapt(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = F.mse_loss,
    lr: float = 0.01,
    steps: int = 1,
    parameters: dict[str, torch.Tensor] | None = None,
    order: int = 2,
) -> dict[str, torch.Tensor]:
    """network, inputs, targets -> dict of its parameters after some steps of gradient descent on this task;
    the network itself stays as it is [Finn, Abbeel & Levine 2017, arXiv:1703.03400, eq. 1].

    `torch.func.functional_call(network, adapted, inputs)` uses them. The steps can be differentiated: with
    order=2 through the gradients as well, which is MAML; with order=1 the gradients count as constants.
    `parameters` are those to begin with, by default the network's. Raises TypeError or ValueError for what
    does not fit.
    """
    require_type(network, "network", nn.Module, "a torch.nn.Module")
    require_tensor(x, "x", "…")
    require_tensor(y, "y", "…", kind="any")
    require_callable(loss_fn, "loss_fn", "a function of an output and a target")
    lr = require_number(lr, "lr", least=0, most=1e3)
    steps = require_whole(steps, "steps", least=0, most=MOST)
    order = require_choice(order, "order", (1, 2))
    weights = dict(network.named_parameters()) if parameters is None else parameters
    require_type(weights, "parameters", dict, "a dict of tensors")
    wanted = dict(network.named_parameters())
    if weights.keys() != wanted.keys():
        raise ValueError(f"parameters wants the network's {len(wanted)} names, got {len(weights)}")
    for name, weight in weights.items():
        require_tensor(weight, f"parameters[{name!r}]", "…", kind="floating")
        if weight.shape != wanted[name].shape:
            raise ValueError(
                f"parameters[{name!r}] wants shape {tuple(wanted[name].shape)}, got {tuple(weight.shape)}"
            )
    for _ in range(steps):
        loss = loss_fn(functional_call(network, weights, (x,)), y)
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=order == 2)
        weights = {
            name: weight - lr * gradient
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
    return weights


def sine_task(
    n: int, *, generator: torch.Generator | None = None
) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    """int -> the function x -> a·sin(x + b) of one task, (n, 1) inputs in [−5, 5]: a is drawn from [0.1, 5],
    b from [0, π] [Finn et al. 2017, sec. 5.1].

    Raises TypeError or ValueError for n below 1.
    """
    n = require_whole(n, "n", most=2**24)
    if generator is not None:
        require_type(generator, "generator", torch.Generator, "a torch.Generator")
    first, second = torch.rand(2, generator=generator).tolist()
    amplitude, phase = 0.1 + 4.9 * first, math.pi * second
    inputs = 10 * torch.rand(n, 1, generator=generator) - 5
    return lambda x: amplitude * (x + phase).sin(), inputs


def _require_values(x, name):
    if x.is_meta:
        raise ValueError(f"{name} wants a tensor with values, got one on the meta device")
