"""Images for the tests of chapter 5c."""

import torch
from torch.nn import functional as F


def labelled_images(n=20, seed=0):
    """-> (n, 1, 8, 8), (n,), (n, 10): the class is the position of one bright pixel, under
    noise; the logits are those of a teacher that knows it.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 10
    images = 0.3 * torch.rand(n, 64, generator=generator)
    images[torch.arange(n), 6 * labels] += 0.7
    logits = 6 * F.one_hot(labels, 10).float() + torch.randn(n, 10, generator=generator)
    return images.view(n, 1, 8, 8), labels, logits
