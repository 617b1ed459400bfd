"""Editing in a latent space: an image becomes the few numbers of chapter 4b's VAE, the numbers are changed,
and the decoder makes an image of them.

A direction is the difference between the mean numbers of two groups of images. What the VAE does not
reconstruct, the small details of an image, can be kept: then only what the change of the numbers changes in
the reconstruction is added to the image.
"""

import math

import torch

from vlmbook.editing.networks import load_tensors
from vlmbook.pretrained import ours
from vlmbook.vae import VAE, log_likelihood_of_pixels, mean_image
from vlmbook.validation import (
    require_choice,
    require_number,
    require_tensor,
    require_type,
    require_whole,
)

WEIGHTS = "ch06b_fashion_vae"
SIZE = 28  # pixels of the images that the package's own VAE takes
BATCH = 256  # images that are encoded at once
NEARLY_PARALLEL = 1e-4  # radians between two vectors, below which the arc is a chord


# --- images and their latent numbers ------------------------------------------------------------------------


def encode_images(model: VAE, images: torch.Tensor) -> torch.Tensor:
    """VAE, (B, C, H, W) in [0, 1] -> (B, Z): the means of q(z | x), without noise.

    Raises TypeError or ValueError for images that are not of the model's size, kind or range.
    """
    _require_model(model)
    require_tensor(images, "images", "B C H W", least=0, most=1)
    with torch.no_grad():
        return torch.cat([model.encode(part)[0] for part in images.split(BATCH)])


def decode_latents(model: VAE, latents: torch.Tensor) -> torch.Tensor:
    """VAE, (B, Z) -> (B, C, H, W) in [0, 1]: the expected value of each pixel.

    Raises TypeError or ValueError for latents of another length or kind.
    """
    _require_model(model)
    require_tensor(latents, "latents", "B Z", Z=model.latent, finite=True)
    with torch.no_grad():
        return torch.cat([mean_image(model.decode(part)) for part in latents.split(BATCH)])


# --- directions and paths -----------------------------------------------------------------------------------


def attribute_direction(having: torch.Tensor, lacking: torch.Tensor) -> torch.Tensor:
    """(N, Z), (M, Z) latents -> (Z,): the mean of those of images that have an attribute minus the mean of
    those that lack it [Larsen et al. 2016, arXiv:1512.09300, sec. 3.3].

    One step along it leads from the one mean to the other. Raises TypeError or ValueError for latents that do
    not fit.
    """
    require_tensor(having, "having", "N Z", finite=True)
    require_tensor(lacking, "lacking", "M Z", Z=having.shape[1], device=having.device, finite=True)
    wide = torch.promote_types(having.dtype, torch.float32)
    return (having.to(wide).mean(0) - lacking.to(wide).mean(0)).to(having.dtype)


def interpolate_latents(
    start: torch.Tensor, end: torch.Tensor, count: int, *, path: str = "linear"
) -> torch.Tensor:
    """(Z,), (Z,) -> (count, Z): latents in equal steps from start to end, both included.

    path="linear" follows the chord, whose middle is shorter than its ends; path="spherical" the arc, on which
    the angle grows evenly, and the length changes evenly from that of the one to that of the other [White
    2016, arXiv:1609.04468, sec. 2.1, with lengths]. Raises TypeError or ValueError for latents that do not
    fit, for fewer than two steps, and for an arc between opposite vectors or from the origin.
    """
    require_tensor(start, "start", "Z", finite=True)
    require_tensor(end, "end", "Z", Z=len(start), device=start.device, finite=True)
    count = require_whole(count, "count", least=2, most=10_000)
    path = require_choice(path, "path", ("linear", "spherical"))
    wide = torch.promote_types(start.dtype, torch.float32)
    a, b = start.to(wide), end.to(wide)
    t = torch.linspace(0, 1, count, dtype=wide, device=start.device).view(-1, 1)
    points = _chord(a, b, t) if path == "linear" else _arc(a, b, t)
    points = torch.cat([a[None], points[1:-1], b[None]])  # the ends without rounding
    return points.to(start.dtype)


def _chord(a, b, t):
    return (1 - t) * a + t * b


def _arc(a, b, t):
    """(Z,), (Z,), (count, 1) -> (count, Z)"""
    lengths = a.norm(), b.norm()
    if not min(lengths) > 0:
        raise ValueError("start and end want a length above 0 for an arc, got the origin")
    unit_a, unit_b = a / lengths[0], b / lengths[1]
    # By the half chord: arccos of the scalar product is inexact for small angles.
    angle = 2 * torch.atan2((unit_a - unit_b).norm(), (unit_a + unit_b).norm())
    if math.pi - angle < NEARLY_PARALLEL:
        raise ValueError("start and end want one arc between them, got opposite directions")
    length = (1 - t) * lengths[0] + t * lengths[1]
    if angle < NEARLY_PARALLEL:
        return length * _chord(unit_a, unit_b, t)
    return length * (((1 - t) * angle).sin() * unit_a + (t * angle).sin() * unit_b) / angle.sin()


# --- edits --------------------------------------------------------------------------------------------------


def edit_along(
    model: VAE,
    images: torch.Tensor,
    direction: torch.Tensor,
    strength: float = 1.0,
    *,
    keep_details: bool = True,
) -> torch.Tensor:
    """VAE, (B, C, H, W) in [0, 1], (Z,) -> (B, C, H, W): the images with their latents moved by strength ·
    direction.

    The result is x + D(z + s·d) − D(z), cut off at 0 and 1: what the VAE does not reconstruct stays. With
    keep_details=False it is D(z + s·d), the decoder's image alone. Raises TypeError or ValueError for what
    does not fit the model.
    """
    latents = encode_images(model, images)
    require_tensor(direction, "direction", "Z", Z=model.latent, finite=True, device=latents.device)
    strength = require_number(strength, "strength", least=-1e3, most=1e3)
    keep_details = require_choice(keep_details, "keep_details", (False, True))
    moved = decode_latents(model, latents + strength * direction.to(latents))
    if not keep_details:
        return moved.to(images.dtype)
    return (images + moved - decode_latents(model, latents)).clamp(0, 1).to(images.dtype)


def fill_by_latents(
    model: VAE,
    images: torch.Tensor,
    masks: torch.Tensor,
    *,
    steps: int = 200,
    lr: float = 0.1,
) -> torch.Tensor:
    """VAE, (B, C, H, W) in [0, 1], (B, 1, H, W) of 0 and 1, 1 = hole -> (B, C, H, W): the holes filled by the
    image of the latents that explain the known pixels best; all other pixels stay.

    Adam maximises log p(known pixels | z) + log p(z) over z, from the latents of the image with ½ in its
    holes on [after Yeh et al. 2017, arXiv:1607.07539, with a VAE's likelihood and prior]. Known pixels have
    to be on the model's levels, if these are more than two. Raises TypeError or ValueError for what does not
    fit the model, and for a mask that covers a whole image.
    """
    _require_model(model)
    require_tensor(images, "images", "B C H W", least=0, most=1)
    batch, _, height, width = images.shape
    fitting = {"B": batch, "H": height, "W": width, "device": images.device}
    require_tensor(masks, "masks", "B 1 H W", kind="any", **fitting)
    if masks.is_complex() or not ((masks == 0) | (masks == 1)).all():
        raise ValueError("masks wants values 0 and 1 only, got others")
    holes = masks == 1
    if holes.flatten(1).all(1).any():
        raise ValueError("masks wants at least one known pixel, 0, in each image, got 1 everywhere")
    steps = require_whole(steps, "steps", most=10**6)
    lr = require_number(lr, "lr", above=0, most=1e3)
    latents = _fit_latents(model, images, holes, steps, lr)
    return torch.where(holes, decode_latents(model, latents).to(images.dtype), images)


def _fit_latents(model, images, holes, steps, lr):
    """-> (B, Z): the most probable latents, given the pixels outside the holes."""
    z = encode_images(model, torch.where(holes, 0.5, images)).requires_grad_()
    known = torch.where(holes, 0, images)
    optimizer = torch.optim.Adam([z], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        logits = model.decode(z)
        logits = torch.where(holes[:, None], 0, logits)  # constants, which have no gradient, in the holes
        log_posterior = log_likelihood_of_pixels(logits, known) - z.square().sum(1) / 2
        [z.grad] = torch.autograd.grad(-log_posterior.sum(), [z])
        optimizer.step()
        schedule.step()
    return z.detach()


# --- the model ----------------------------------------------------------------------------------------------


def fashion_vae() -> VAE:
    """-> VAE of Fashion-MNIST, (1, 28, 28), with the weights that come with this package, in eval mode.

    Raises WeightsMissing.
    """
    state, _ = ours(WEIGHTS)
    return load_vae(state, SIZE)


def load_vae(state: dict[str, torch.Tensor], size: int | tuple[int, int]) -> VAE:
    """dict of tensors, (height, width) -> VAE with the sizes that the tensors tell, in eval mode.

    Raises TypeError or ValueError for tensors that are no such model's.
    """
    require_type(state, "state", dict, "a dict of tensors")
    last = sorted(
        str(name) for name in state if str(name).startswith("decoder.") and str(name).endswith("bias")
    )
    if "encoder.0.weight" not in state or "decoder.0.weight" not in state or not last:
        raise ValueError("state wants the tensors of a VAE, got others")
    width, channels, _, _ = require_tensor(state["encoder.0.weight"], "encoder.0.weight", "D C 3 3").shape
    latent = require_tensor(state["decoder.0.weight"], "decoder.0.weight", "D Z").shape[1]
    levels = len(require_tensor(state[last[-1]], last[-1], "D")) // channels
    with torch.random.fork_rng(devices=[]):
        model = VAE(size, channels=channels, levels=max(2, levels), latent=latent, width=width)
    return load_tensors(model, state)


def _require_model(model):
    require_type(model, "model", VAE, "a VAE")
