"""The trainings whose weights come with this package, as functions; their defaults are the full runs."""

from collections.abc import Sequence
from pathlib import Path

import torch

from vlmbook.editing.inpainting import GatedUNet, draw_masks, inpainting_loss
from vlmbook.editing.superresolution import SubPixelNetwork, cut_pairs, cut_squares, upscaling_loss
from vlmbook.training import History, fit
from vlmbook.validation import require_type, require_whole


def train_upscaler(
    images: Sequence[torch.Tensor],
    factor: int = 2,
    *,
    network: SubPixelNetwork | None = None,
    size: int = 24,
    count: int = 80_000,
    epochs: int = 1,
    batch_size: int = 16,
    lr: float = 8e-4,
    seed: int = 0,
    precision: str | None = "bf16",
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> tuple[SubPixelNetwork, History]:
    """list of (C, H, W) in [0, 1] -> SubPixelNetwork in eval mode, History: trained on `count` squares of
    size × size pixels and the same squares f times as large.

    Without `network` a new one of 0.6 M parameters is made. A checkpoint that exists is gone on with. Raises
    as `cut_pairs` and `fit`.
    """
    seed = require_whole(seed, "seed", least=0)
    network = _seeded(seed, SubPixelNetwork, factor) if network is None else network
    require_type(network, "network", SubPixelNetwork, "a SubPixelNetwork")
    pairs = cut_pairs(images, factor, size=size, count=count, generator=torch.Generator().manual_seed(seed))
    return _fit(
        network,
        pairs,
        upscaling_loss,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        precision=precision,
        checkpoint=checkpoint,
        progress=progress,
    )


def train_inpainter(
    images: Sequence[torch.Tensor],
    *,
    network: GatedUNet | None = None,
    size: int = 64,
    count: int = 64_000,
    epochs: int = 1,
    batch_size: int = 16,
    lr: float = 3e-3,
    seed: int = 0,
    precision: str | None = "bf16",
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> tuple[GatedUNet, History]:
    """list of (C, H, W) in [0, 1] -> GatedUNet in eval mode, History: trained on `count` squares of size ×
    size pixels with free-form holes.

    Without `network` a new one of 0.5 M parameters is made. A checkpoint that exists is gone on with. Raises
    as `cut_squares`, `draw_masks` and `fit`.
    """
    seed = require_whole(seed, "seed", least=0)
    network = _seeded(seed, GatedUNet) if network is None else network
    require_type(network, "network", GatedUNet, "a GatedUNet")
    generator = torch.Generator().manual_seed(seed)
    squares = cut_squares(images, size=size, count=count, generator=generator)
    masks = draw_masks(size, count, generator=generator)
    return _fit(
        network,
        (squares, masks),
        inpainting_loss,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        precision=precision,
        checkpoint=checkpoint,
        progress=progress,
    )


def _fit(network, data, loss_fn, *, checkpoint, **settings):
    """-> network in eval mode, History: what both trainings share."""
    history = fit(
        network.train().to(memory_format=torch.channels_last),
        data,
        loss_fn=loss_fn,
        optimizer=torch.optim.Adam,
        clip=1.0,
        checkpoint=checkpoint,
        checkpoint_every=None if checkpoint is None else 200,
        resume=checkpoint is not None,
        **settings,
    )
    return network.eval(), history


def _seeded(seed, make, *arguments):
    """-> make(*arguments), its random weights from the seed, without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(*arguments)
