"""The trainings whose weights come with this package, as functions; their defaults are the full runs.

`precision` is that of `fit`: "bf16" is faster where `runtime.autocast_precision()` says so.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vlmbook.editing.denoising import STRONGEST, DenoisingNetwork, denoising_loss
from vlmbook.editing.inpainting import GatedUNet, draw_masks, inpainting_loss
from vlmbook.editing.superresolution import SubPixelNetwork, cut_pairs, cut_squares, upscaling_loss
from vlmbook.training import History, fit
from vlmbook.vae import VAE, elbo_loss
from vlmbook.validation import require_number, require_tensor, require_type, require_whole

EVERY = 200  # steps between two checkpoints


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
    average: float = 0.0,
    seed: int = 0,
    precision: str | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> tuple[SubPixelNetwork, History]:
    """list of (C, H, W) in [0, 1] -> SubPixelNetwork in eval mode, History: trained on `count` squares of
    size × size pixels and the same squares f times as large.

    Without `network` a new one of 0.6 M parameters is made; one that is given is trained on. With `average`
    the weights that come back are the mean over the steps, as `AveragingAdam` takes it. A checkpoint that
    exists is gone on with. Raises as `cut_pairs` and `fit`.
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
        average=average,
        seed=seed,
        precision=precision,
        checkpoint=checkpoint,
        progress=progress,
    )


def train_inpainter(
    images: Sequence[torch.Tensor],
    *,
    network: GatedUNet | None = None,
    size: int = 96,
    count: int = 64_000,
    epochs: int = 4,
    batch_size: int = 16,
    lr: float = 3e-3,
    seed: int = 0,
    precision: str | None = None,
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


def train_denoiser(
    images: Sequence[torch.Tensor],
    *,
    network: DenoisingNetwork | None = None,
    size: int = 64,
    count: int = 48_000,
    epochs: int = 2,
    batch_size: int = 16,
    lr: float = 1e-3,
    average: float = 0.999,
    seed: int = 0,
    precision: str | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> tuple[DenoisingNetwork, History]:
    """list of (C, H, W) in [0, 1] -> DenoisingNetwork in eval mode, History: trained on `count` squares of
    size × size pixels, with normal noise of a level between 0 and 0.25.

    Without `network` a new one of 0.6 M parameters is made. With `average` the weights that come back are the
    mean over the steps, as `AveragingAdam` takes it. A checkpoint that exists is gone on with. Raises as
    `cut_squares` and `fit`.
    """
    seed = require_whole(seed, "seed", least=0)
    network = _seeded(seed, DenoisingNetwork) if network is None else network
    require_type(network, "network", DenoisingNetwork, "a DenoisingNetwork")
    generator = torch.Generator().manual_seed(seed)
    squares = cut_squares(images, size=size, count=count, generator=generator)
    levels = STRONGEST * torch.rand(len(squares), generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the noise
        return _fit(
            network,
            (squares, levels),
            denoising_loss,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            average=average,
            seed=seed,
            precision=precision,
            checkpoint=checkpoint,
            progress=progress,
        )


def train_vae(
    images: torch.Tensor,
    *,
    model: VAE | None = None,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 2e-3,
    average: float = 0.0,
    seed: int = 0,
    precision: str | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> tuple[VAE, History]:
    """(N, C, H, W) in [0, 1] -> VAE in eval mode, History: chapter 4b's model, trained on these images.

    Without `model` a new one with 20 latent numbers and two levels a pixel is made. A checkpoint that exists
    is gone on with. Raises as `fit`.
    """
    require_tensor(images, "images", "N C H W", least=0, most=1)
    seed = require_whole(seed, "seed", least=0)
    if model is None:
        model = _seeded(seed, partial(VAE, tuple(images.shape[2:]), channels=images.shape[1], latent=20))
    require_type(model, "model", VAE, "a VAE")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the draws of z
        return _fit(
            model,
            (images,),
            elbo_loss,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            average=average,
            seed=seed,
            precision=precision,
            checkpoint=checkpoint,
            progress=progress,
        )


class AveragingAdam(torch.optim.Adam):
    """Adam that also keeps a running mean of the weights: after step t mean ← a · mean + (1 − a) · weight,
    a = min(average, (t − 1) / (t + 9)) [after Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4)].

    The first steps count less and less, so that a short run does not end with the weights that it began with.
    The mean is part of the optimizer's state, so that a checkpoint holds it. With average = 0 it is the last
    weight. Raises TypeError or ValueError for an average outside [0, 1).
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], *, average: float = 0.0, **settings: Any):
        require_type(parameters, "parameters", (list, tuple, Iterator), "a list of nn.Parameter")
        parameters = list(parameters)
        for parameter in parameters:
            require_type(parameter, "parameters", torch.nn.Parameter, "a list of nn.Parameter")
        if not parameters:
            raise ValueError("parameters wants at least one nn.Parameter, got none")
        self.average = require_number(average, "average", least=0, most=0.99999)
        super().__init__(parameters, **settings)
        self.defaults["average"] = self.average  # so that a checkpoint knows it

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """-> what `closure` returns: one step of Adam, then one of the mean."""
        loss = super().step(closure)
        for parameter in self._trained():
            state = self.state[parameter]
            mean = state.setdefault("mean", parameter.detach().clone())
            step = float(state["step"])
            mean.lerp_(parameter.detach(), 1 - min(self.average, (step - 1) / (step + 9)))
        return loss

    @torch.no_grad()
    def copy_mean(self) -> None:
        """-> None: every weight becomes its mean."""
        for parameter in self._trained():
            if "mean" in self.state[parameter]:
                parameter.copy_(self.state[parameter]["mean"])

    def _trained(self):
        return [parameter for group in self.param_groups for parameter in group["params"]]


def _fit(network, data, loss_fn, *, checkpoint, average=0.0, **settings):
    """-> network in eval mode, History: what the trainings share."""
    made = []

    def make(parameters, **options):
        made.append(AveragingAdam(parameters, average=average, **options))
        return made[0]

    history = fit(
        network.train().to(memory_format=torch.channels_last),
        data,
        loss_fn=loss_fn,
        optimizer=make,
        clip=1.0,
        checkpoint=checkpoint,
        checkpoint_every=None if checkpoint is None else EVERY,
        resume=checkpoint is not None,
        **settings,
    )
    made[0].copy_mean()
    return network.eval(), history


def _seeded(seed, make, *arguments):
    """-> make(*arguments), its random weights from the seed, without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(*arguments)
