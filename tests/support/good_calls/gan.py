"""vlmbook.gan: a pair for images of 8×8, and its losses."""

import torch

from tests.support.good_calls import Call
from vlmbook import gan

Z, X, LOGITS = torch.zeros(2, 3), torch.full((2, 1, 8, 8), 0.5), torch.tensor([0.5, -1.0])


def discriminator():
    return gan.Discriminator(8, width=2)


GOOD_CALLS = {
    "Generator": lambda: Call(gan.Generator, {"size": 8, "channels": 1, "latent": 3, "width": 2}),
    "Generator.forward": lambda: Call(gan.Generator(8, latent=3, width=2).forward, {"z": Z}),
    "Discriminator": lambda: Call(
        gan.Discriminator, {"size": 8, "channels": 1, "width": 2, "normalise": "spectral"}
    ),
    "Discriminator.forward": lambda: Call(discriminator().forward, {"x": X}),
    "discriminator_loss": lambda: Call(gan.discriminator_loss, {"real": LOGITS, "fake": LOGITS}),
    "saturating_loss": lambda: Call(gan.saturating_loss, {"fake": LOGITS}),
    "non_saturating_loss": lambda: Call(gan.non_saturating_loss, {"fake": LOGITS}),
    "hinge_discriminator_loss": lambda: Call(gan.hinge_discriminator_loss, {"real": LOGITS, "fake": LOGITS}),
    "hinge_generator_loss": lambda: Call(gan.hinge_generator_loss, {"fake": LOGITS}),
    "r1_penalty": lambda: Call(gan.r1_penalty, {"discriminator": discriminator(), "real": X}),
    "optimal_discriminator": lambda: Call(
        gan.optimal_discriminator, {"p_data": LOGITS.abs(), "p_model": LOGITS.abs()}
    ),
}
