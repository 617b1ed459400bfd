"""Parts of a data set: the names of the parts that it comes in, and one that is held out of the others."""

import math

import torch
from sklearn.model_selection import train_test_split

from vlmbook.validation import require_number, require_tensor, require_whole

SPLITS = ("train", "test")


def hold_out(
    images: torch.Tensor, labels: torch.Tensor, *, share: float, seed: int = 0
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """(N, …), (N,) -> ((images, labels), (images, labels)): the second with `share` of them, each class in
    proportion.

    So a validation part is held out of what is learned from; the same seed holds out the same images. Raises
    TypeError or ValueError for a share outside (0, 1), and where a class is too small to be in both.
    """
    require_tensor(labels, "labels", "N", kind="discrete")
    require_tensor(images, "images", "…", kind="any")
    if images.ndim == 0 or len(images) != len(labels):
        raise ValueError(f"images wants one a label, {len(labels)}, got the shape {tuple(images.shape)}")
    share = require_number(share, "share", above=0, below=1)
    seed = require_whole(seed, "seed", least=0, most=2**32 - 1)
    counts = labels.unique(return_counts=True)[1]
    second = math.ceil(share * len(labels))
    if counts.min() < 2 or not len(counts) <= second <= len(labels) - len(counts):
        raise ValueError(
            f"share wants an image of each of the {len(counts)} classes in both parts, got {share:g} of "
            f"{len(labels)} images, {counts.min()} in the smallest class"
        )
    keep, held = train_test_split(
        torch.arange(len(labels)), test_size=share, random_state=seed, stratify=labels.cpu()
    )
    return (images[keep], labels[keep]), (images[held], labels[held])
