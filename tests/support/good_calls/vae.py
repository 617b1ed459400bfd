"""Good calls of vlmbook.vae."""

import torch

from tests.support.good_calls import Call
from vlmbook.vae import (
    VAE,
    elbo,
    elbo_loss,
    kl_to_standard_normal,
    log_likelihood,
    log_likelihood_of_pixels,
    log_normal,
    mean_image,
    reparameterise,
    sample_image,
)

X, Z, LOGITS = torch.full((2, 3, 6, 7), 0.5), torch.zeros(2, 5), torch.zeros(2, 5, 3, 6, 7)


def model(levels=5):
    torch.manual_seed(0)
    return VAE((6, 7), channels=3, levels=levels, latent=5, width=2)


GOOD_CALLS = {
    "VAE": lambda: Call(VAE, {"size": (6, 7), "channels": 3, "levels": 5, "latent": 2, "width": 2}),
    "VAE.encode": lambda: Call(model().encode, {"x": X}),
    "VAE.decode": lambda: Call(model().decode, {"z": Z}),
    "VAE.forward": lambda: Call(model().forward, {"x": X}),
    "reparameterise": lambda: Call(reparameterise, {"mu": Z, "logvar": Z}),
    "kl_to_standard_normal": lambda: Call(kl_to_standard_normal, {"mu": Z, "logvar": Z}),
    "log_normal": lambda: Call(log_normal, {"z": Z, "mu": Z, "logvar": Z}),
    "log_likelihood_of_pixels": lambda: Call(log_likelihood_of_pixels, {"logits": LOGITS, "x": X}),
    "mean_image": lambda: Call(mean_image, {"logits": LOGITS}),
    "sample_image": lambda: Call(sample_image, {"logits": LOGITS}),
    "elbo": lambda: Call(elbo, {"model": model(2), "x": X}),
    "elbo_loss": lambda: Call(elbo_loss, {"model": model(), "x": X, "beta": 0.5}),
    "log_likelihood": lambda: Call(log_likelihood, {"model": model(), "x": X, "k": 2}),
}
