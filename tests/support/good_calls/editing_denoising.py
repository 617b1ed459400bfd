"""Good calls of vlmbook.editing.denoising."""

import torch

from tests.support.good_calls import Call
from vlmbook.editing import denoising

IMAGE = torch.full((3, 6, 8), 0.5)


def network():
    return denoising.DenoisingNetwork(width=2, depth=1)


GOOD_CALLS = {
    "DenoisingNetwork": lambda: Call(denoising.DenoisingNetwork, {"width": 3, "depth": 1}),
    "DenoisingNetwork.forward": lambda: Call(
        network().forward, {"x": torch.ones(2, 1, 5, 6), "sigma": torch.full((2,), 0.1)}
    ),
    "DenoisingNetwork.receptive_radius": lambda: Call(network().receptive_radius),
    "denoise": lambda: Call(
        denoising.denoise,
        {"image": IMAGE, "sigma": 0.1, "network": network(), "tile": 4, "progress": False},
    ),
    "estimate_noise": lambda: Call(denoising.estimate_noise, {"image": IMAGE}),
    "denoiser": lambda: Call(denoising.denoiser),
    "load_denoiser": lambda: Call(denoising.load_denoiser, {"state": network().state_dict()}),
    "denoising_loss": lambda: Call(
        denoising.denoising_loss,
        {"network": network(), "images": torch.ones(2, 1, 4, 6), "sigma": torch.full((2,), 0.1)},
    ),
}
