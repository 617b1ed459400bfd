"""Good calls of vlmbook.editing.latent."""

import torch

from tests.support.good_calls import Call
from vlmbook.editing import latent
from vlmbook.vae import VAE

IMAGES = torch.full((2, 1, 4, 5), 0.5)
MASKS = torch.zeros(2, 1, 4, 5).index_fill(2, torch.tensor([1]), 1)
LATENTS = torch.arange(6.0).view(2, 3)


def model():
    return VAE((4, 5), latent=3, width=2).eval()


GOOD_CALLS = {
    "encode_images": lambda: Call(latent.encode_images, {"model": model(), "images": IMAGES}),
    "decode_latents": lambda: Call(latent.decode_latents, {"model": model(), "latents": LATENTS}),
    "attribute_direction": lambda: Call(
        latent.attribute_direction, {"having": LATENTS, "lacking": LATENTS + 1}
    ),
    "interpolate_latents": lambda: Call(
        latent.interpolate_latents,
        {"start": LATENTS[0], "end": LATENTS[1], "count": 3, "path": "spherical"},
    ),
    "edit_along": lambda: Call(
        latent.edit_along,
        {
            "model": model(),
            "images": IMAGES,
            "direction": LATENTS[0],
            "strength": 0.5,
            "keep_details": True,
        },
    ),
    "fill_by_latents": lambda: Call(
        latent.fill_by_latents,
        {"model": model(), "images": IMAGES, "masks": MASKS, "steps": 2, "lr": 0.1},
        # Any number of steps is right; hostile large ones would only take long.
        ("steps",),
    ),
    "fashion_vae": lambda: Call(latent.fashion_vae),
    "load_vae": lambda: Call(latent.load_vae, {"state": model().state_dict(), "size": (4, 5)}),
}
