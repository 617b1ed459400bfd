"""Chapter 3a: the kernels, the photographs that they are tried on, and the first kernels of a trained
network.
"""

from functools import cache

from torch import Tensor
from torch.nn import functional as F

from vlmbook import data, pretrained

KERNELS = {
    "vertical edges": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "identity": ((0, 0, 0), (0, 1, 0), (0, 0, 0)),
    "blur": ((1 / 9,) * 3,) * 3,
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    "horizontal edges": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
    "outline": ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
    "emboss": ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
}


@cache
def grey_photo(name: str, size: int = 192) -> Tensor:
    """str -> (1, 1, size, size): the middle square of a photograph in grey, averaged down.

    Read only: the same tensor comes back each time.
    """
    x = data.photo(name).mean(0)
    side = min(x.shape)
    top = (x.shape[0] - side) // 2
    left = (x.shape[1] - side) // 2
    square = x[None, None, top : top + side, left : left + side]
    return F.interpolate(square, size=(size, size), mode="area")


def read_stem() -> Tensor | None:
    """-> (32, 3, 3, 3): the first kernels of EfficientNet-Lite0, trained on ImageNet, those that differ most
    over their pixels first; None, with a printed sentence, where its weights are not installed.
    """
    try:
        kernels = pretrained.efficientnet_lite0().stem.conv.weight.detach()
    except pretrained.WeightsMissing as missing:
        print(missing, "(the chapter goes on without them)")
        return None
    return kernels[kernels.flatten(1).std(1).argsort(descending=True)]
