"""Images at other sizes: the bicubic interpolation that super-resolution starts from and is measured against,
and the luma that it is measured on.
"""

import torch
from torch.nn import functional as F

from vlmbook.validation import require_tensor, require_whole

LARGEST_FACTOR = 16
REACH = 3  # pixels that one enlarged pixel depends on, on each side: two of the kernel, one of rounding

# ITU-R BT.601, full range: luma, and the differences of blue and red from it, scaled to ±0.5.
YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.299 / 1.772, -0.587 / 1.772, 0.5),
    (0.5, -0.587 / 1.402, -0.114 / 1.402),
)
RGB = (  # the inverse
    (1.0, 0.0, 1.402),
    (1.0, -0.114 * 1.772 / 0.587, -0.299 * 1.402 / 0.587),
    (1.0, 1.772, 0.0),
)
STUDIO = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # weights of the luma that papers measure on
STUDIO_BLACK = 16 / 255


def enlarge_bicubic(images: torch.Tensor, factor: int) -> torch.Tensor:
    """(…, C, H, W) -> (…, C, fH, fW): cubic interpolation with a = −0.5 [Keys 1981, IEEE TASSP 29(6)],
    borders mirrored.

    Values may leave [0, 1] a little at edges. Raises TypeError or ValueError for what is no image, and for a
    factor outside 1 to 16.
    """
    require_tensor(images, "images", "… C H W")
    factor = require_whole(factor, "factor", most=LARGEST_FACTOR)
    return _resample(images, REACH, factor, 1)


def shrink_bicubic(images: torch.Tensor, factor: int) -> torch.Tensor:
    """(…, C, H, W) -> (…, C, H/f, W/f): the same kernel, f times as wide, so that it is a low-pass filter
    too.

    This is how papers on super-resolution make the small image, MATLAB's `imresize`. Raises TypeError or
    ValueError for what is no image, for a factor outside 1 to 16, and for sides that it does not divide.
    """
    require_tensor(images, "images", "… C H W")
    factor = require_whole(factor, "factor", most=LARGEST_FACTOR)
    height, width = images.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(f"images wants sides that {factor} divides, got {height} and {width}")
    return _resample(images, REACH * factor, 1, factor)


def shrink_to_three_quarters(images: torch.Tensor) -> torch.Tensor:
    """(…, C, 4h, 4w) -> (…, C, 3h, 3w): the same, for a result of 4 times that is wanted 3 times as large.

    Raises TypeError or ValueError for what is no image, and for sides that 4 does not divide.
    """
    require_tensor(images, "images", "… C H W")
    height, width = images.shape[-2:]
    if height % 4 or width % 4:
        raise ValueError(f"images wants sides that 4 divides, got {height} and {width}")
    return _resample(images, 4 * REACH, 3, 4)


def crop_to_multiple(images: torch.Tensor, factor: int) -> torch.Tensor:
    """(…, C, H, W) -> (…, C, H', W'): without the last rows and columns, so that `factor` divides the sides.

    Raises TypeError or ValueError for what is no image or smaller than one multiple.
    """
    require_tensor(images, "images", "… C H W", kind="any")
    factor = require_whole(factor, "factor")
    height, width = (side // factor * factor for side in images.shape[-2:])
    if not height or not width:
        raise ValueError(f"images wants sides of at least {factor}, got {tuple(images.shape[-2:])}")
    return images[..., :height, :width]


def studio_luma(images: torch.Tensor) -> torch.Tensor:
    """(…, 3, H, W) or (…, 1, H, W) in [0, 1] -> (…, 1, H, W) from 16/255 to 235/255: the Y on which papers
    measure.

    ITU-R BT.601 as MATLAB's `rgb2ycbcr`; a grey image stands for three equal channels. Raises TypeError or
    ValueError for other channels.
    """
    _require_colours(images)
    if images.shape[-3] == 1:
        return STUDIO_BLACK + sum(STUDIO) * images
    weights = images.new_tensor(STUDIO).view(3, 1, 1)
    return STUDIO_BLACK + (weights * images).sum(-3, keepdim=True)


def luma(images: torch.Tensor) -> torch.Tensor:
    """(…, 3, H, W) or (…, 1, H, W) in [0, 1] -> (…, 1, H, W) in [0, 1]: the first of `rgb_to_ycbcr`; grey
    images stay as they are.

    Raises TypeError or ValueError for other channels.
    """
    _require_colours(images)
    return images if images.shape[-3] == 1 else rgb_to_ycbcr(images)[..., :1, :, :]


def rgb_to_ycbcr(images: torch.Tensor) -> torch.Tensor:
    """(…, 3, H, W) in [0, 1] -> (…, 3, H, W): luma in [0, 1], and two colour differences in [−0.5, 0.5]
    [ITU-R BT.601].

    Raises TypeError or ValueError for what has not three channels.
    """
    require_tensor(images, "images", "… C H W", C=3)
    return _mix(images, YCBCR)


def ycbcr_to_rgb(images: torch.Tensor) -> torch.Tensor:
    """(…, 3, H, W) -> (…, 3, H, W): the inverse of `rgb_to_ycbcr`; colours that do not exist leave [0, 1].

    Raises TypeError or ValueError for what has not three channels.
    """
    require_tensor(images, "images", "… C H W", C=3)
    return _mix(images, RGB)


def _resample(images, margin, up, down):
    """-> `up` times as large and `down` times as small, in at least float32."""
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    padded = _mirror(wide.reshape(-1, *images.shape[-3:]), margin)
    size = [side * up // down for side in padded.shape[2:]]
    resampled = F.interpolate(padded, size=size, mode="bicubic", antialias=True)
    cut = margin * up // down
    inner = resampled[:, :, cut : size[0] - cut, cut : size[1] - cut]
    return inner.reshape(*images.shape[:-2], *inner.shape[2:]).to(images.dtype)


def _mirror(images, margin):
    """(B, C, H, W) -> (B, C, H + 2m, W + 2m): mirrored at the edges of the border pixels: c b a a b c."""
    for axis in (2, 3):
        size = images.shape[axis]
        index = torch.arange(-margin, size + margin, device=images.device) % (2 * size)
        images = images.index_select(axis, torch.minimum(index, 2 * size - 1 - index))
    return images


def _mix(images, matrix):
    """(…, 3, H, W), 3 × 3 numbers -> (…, 3, H, W)"""
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    return torch.einsum("ij,...jhw->...ihw", wide.new_tensor(matrix), wide).to(images.dtype)


def _require_colours(images):
    require_tensor(images, "images", "… C H W")
    if images.shape[-3] not in (1, 3):
        raise ValueError(f"images wants one or three channels, got {images.shape[-3]}")
