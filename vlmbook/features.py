"""Features made by hand, as programs found them before networks learned them: edges, corners, texture, and
histograms of oriented gradients.

Images are grey, (…, H, W), with values in [0, 1]; rows are counted downwards, columns to the right. Beyond
the border the nearest pixel is repeated, unless a function says otherwise.
"""

import math

import torch
from torch.nn import functional as F

from vlmbook.validation import require_number, require_tensor, require_whole

LARGEST_SIGMA = 64  # pixels
MOST = 2**16

# --- brightness and its gradient ----------------------------------------------------------------------------


def to_grey(images: torch.Tensor) -> torch.Tensor:
    """(…, 3, H, W) -> (…, H, W): the luminance of red, green and blue, by scikit-image's weights.

    Raises TypeError or ValueError for what is no such image.
    """
    require_tensor(images, "images", "… C H W", C=3)
    wide = _widen(images)
    weights = wide.new_tensor([0.2125, 0.7154, 0.0721]).view(3, 1, 1)
    return (wide * weights).sum(-3).to(images.dtype)


def gaussian_blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """(…, H, W) -> (…, H, W): each pixel becomes a mean of its neighbours, with the weights of a Gaussian of
    standard deviation `sigma` pixels that ends after four of them.

    Raises TypeError or ValueError for what is no image, and for a sigma of 0 or less or above 64.
    """
    require_tensor(images, "images", "… H W")
    sigma = require_number(sigma, "sigma", above=0, most=LARGEST_SIGMA)
    radius = int(4 * sigma + 0.5)
    wide = _widen(images)
    distance = torch.arange(-radius, radius + 1, device=images.device, dtype=wide.dtype)
    weights = torch.exp(-0.5 * (distance / sigma) ** 2)
    weights = weights / weights.sum()
    return _filter(wide, weights, weights).to(images.dtype)


def sobel_gradients(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(…, H, W) -> (…, H, W), (…, H, W): how much the brightness grows a pixel downwards, and a pixel to the
    right, by the kernels of Sobel and Feldman [1968; Duda & Hart 1973, p. 271] divided by 8.

    Raises TypeError or ValueError for what is no image.
    """
    require_tensor(images, "images", "… H W")
    wide = _widen(images)
    difference = wide.new_tensor([-0.5, 0.0, 0.5])
    mean = wide.new_tensor([0.25, 0.5, 0.25])
    down = _filter(wide, difference, mean)
    right = _filter(wide, mean, difference)
    return down.to(images.dtype), right.to(images.dtype)


def edge_strength(images: torch.Tensor) -> torch.Tensor:
    """(…, H, W) -> (…, H, W): the length of the gradient, in brightness a pixel.

    Raises TypeError or ValueError for what is no image.
    """
    down, right = sobel_gradients(images)
    return torch.hypot(_widen(down), _widen(right)).to(images.dtype)


# --- edges --------------------------------------------------------------------------------------------------


def canny(
    image: torch.Tensor, *, sigma: float = 1.0, low: float = 0.0125, high: float = 0.025
) -> torch.Tensor:
    """(H, W) -> (H, W) bool: lines of one pixel along the edges [Canny 1986, IEEE PAMI 8(6)].

    Blur; gradient; keep what is a maximum across the edge and at least `low`; of that, keep what touches,
    through its neighbours, a pixel of at least `high` (brightness a pixel). The outermost pixels are no
    edges. Raises TypeError or ValueError for what is no image, a sigma outside (0, 64], a negative `low`, or
    a `high` below `low`.
    """
    require_tensor(image, "image", "H W", finite=True)
    sigma = require_number(sigma, "sigma", above=0, most=LARGEST_SIGMA)
    low = require_number(low, "low", least=0)
    high = require_number(high, "high", least=low)
    down, right = sobel_gradients(gaussian_blur(_widen(image), sigma))
    strength = torch.hypot(down, right)
    candidates = is_ridge(strength, down, right) & (strength >= low) & (strength > 0)
    candidates &= _inner(candidates)
    return _grow(candidates & (strength >= high), candidates)


def is_ridge(strength: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(H, W), (H, W), (H, W) -> (H, W) bool: is the strength at least that of the two points one step ahead
    and one step behind along the gradient (down, right)? Between pixels it is interpolated.

    Raises TypeError or ValueError for tensors that do not fit.
    """
    require_tensor(strength, "strength", "H W")
    height, width = strength.shape
    require_tensor(down, "down", "H W", H=height, W=width, device=strength.device)
    require_tensor(right, "right", "H W", H=height, W=width, device=strength.device)
    steep = down.abs() > right.abs()  # the gradient goes more down or up than to a side
    longer = torch.where(steep, down, right).abs()
    shorter = torch.where(steep, right, down).abs()
    weight = shorter / longer.clamp_min(torch.finfo(longer.dtype).tiny)
    rows = torch.arange(height, device=strength.device)[:, None]
    columns = torch.arange(width, device=strength.device)
    ridge = torch.ones_like(steep)
    for way in (1, -1):
        row = (rows + way * down.sign().long()).clamp(0, height - 1)
        column = (columns + way * right.sign().long()).clamp(0, width - 1)
        straight = torch.where(steep, strength[row, columns], strength[rows, column])
        diagonal = strength[row, column]
        ridge &= weight * diagonal + (1 - weight) * straight <= strength
    return ridge


def _inner(mask):
    """-> True but in the outermost rows and columns."""
    inner = torch.zeros_like(mask)
    inner[1:-1, 1:-1] = True
    return inner


def _grow(seeds, allowed):
    """(H, W) bool, (H, W) bool -> the allowed pixels that are joined to a seed."""
    while True:
        spread = F.max_pool2d(seeds[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
        grown = spread & allowed
        if torch.equal(grown, seeds):
            return seeds
        seeds = grown


# --- corners ------------------------------------------------------------------------------------------------


def corner_response(images: torch.Tensor, *, sigma: float = 1.0, k: float = 0.05) -> torch.Tensor:
    """(…, H, W) -> (…, H, W): det A − k (tr A)², where A sums the products of the gradient with itself over a
    Gaussian window [Harris & Stephens 1988]; large at corners, negative at edges, about 0 where all is flat.

    Raises TypeError or ValueError for what is no image, a sigma outside (0, 64], or k outside [0, 0.25].
    """
    require_tensor(images, "images", "… H W")
    sigma = require_number(sigma, "sigma", above=0, most=LARGEST_SIGMA)
    k = require_number(k, "k", least=0, most=0.25)
    down, right = sobel_gradients(_widen(images))
    a = gaussian_blur(down * down, sigma)
    b = gaussian_blur(down * right, sigma)
    c = gaussian_blur(right * right, sigma)
    return (a * c - b * b - k * (a + c) ** 2).to(images.dtype)


def find_corners(response: torch.Tensor, *, count: int = 100, distance: int = 5) -> torch.Tensor:
    """(H, W) -> (N, 2) int64: row and column of at most `count` local maxima above 0, the highest first; each
    is the highest within `distance` pixels to all sides, and none lies as near as that to the border.

    Raises TypeError or ValueError for what is no such tensor and for numbers below 1.
    """
    require_tensor(response, "response", "H W", finite=True)
    count = require_whole(count, "count", most=MOST)
    distance = require_whole(distance, "distance", most=MOST)
    height, width = response.shape
    if min(height, width) <= 2 * distance:
        return torch.empty(0, 2, dtype=torch.int64, device=response.device)
    window = 2 * distance + 1
    highest = F.max_pool2d(_widen(response)[None], window, stride=1)[0]
    inside = response[distance : height - distance, distance : width - distance]
    rows, columns = ((inside == highest) & (inside > 0)).nonzero(as_tuple=True)
    order = inside[rows, columns].argsort(descending=True, stable=True)[:count]
    return torch.stack([rows[order], columns[order]], dim=1) + distance


# --- texture ------------------------------------------------------------------------------------------------


def local_binary_patterns(images: torch.Tensor) -> torch.Tensor:
    """(…, H, W) -> (…, H, W) int64 from 0 to 255: bit i says whether the i-th of eight points on a circle of
    radius 1 is at least as bright as the centre [Ojala, Pietikäinen & Mäenpää 2002, IEEE PAMI 24(7)].

    Point 0 lies to the right, the next ones go against the clock; between pixels the brightness is
    interpolated, beyond the border it is 0. Raises TypeError or ValueError for what is no image.
    """
    require_tensor(images, "images", "… H W")
    wide = _widen(images)
    height, width = wide.shape[-2:]
    padded = F.pad(wide, (1, 2, 1, 2))
    codes = torch.zeros(wide.shape, dtype=torch.int64, device=wide.device)
    for point in range(8):
        angle = 2 * math.pi * point / 8
        row, column = round(-math.sin(angle), 5), round(math.cos(angle), 5)
        top, left = math.floor(row), math.floor(column)
        far_row, far_column = row - top, column - left
        corners = [
            padded[..., top + 1 + i : top + 1 + i + height, left + 1 + j : left + 1 + j + width]
            for i in (0, 1)
            for j in (0, 1)
        ]
        upper = (1 - far_column) * corners[0] + far_column * corners[1]
        lower = (1 - far_column) * corners[2] + far_column * corners[3]
        brightness = (1 - far_row) * upper + far_row * lower
        codes += (brightness >= wide).long() << point
    return codes


# --- histograms of oriented gradients -----------------------------------------------------------------------


def orientation_histograms(images: torch.Tensor, *, cell: int = 8, bins: int = 9) -> torch.Tensor:
    """(…, H, W) -> (…, H // cell, W // cell, bins): how much gradient of each orientation a cell of cell ×
    cell pixels holds, as a mean over its pixels.

    Bin i counts orientations from 180°·i/bins to 180°·(i+1)/bins, 0° pointing to the right and 90° down; a
    gradient and its opposite count as one. The gradient is the difference of the two neighbours, 0 at the
    border. Raises TypeError or ValueError for what is no image, for numbers below 1, and for a cell larger
    than the image.
    """
    require_tensor(images, "images", "… H W")
    cell = require_whole(cell, "cell", most=MOST)
    bins = require_whole(bins, "bins", most=360)
    rows, columns = (side // cell for side in images.shape[-2:])
    if 0 in (rows, columns):
        raise ValueError(f"images wants at least one cell of {cell}×{cell}, got {tuple(images.shape)}")
    wide = _widen(images)
    down, right = torch.zeros_like(wide), torch.zeros_like(wide)
    down[..., 1:-1, :] = wide[..., 2:, :] - wide[..., :-2, :]
    right[..., 1:-1] = wide[..., 2:] - wide[..., :-2]
    strength = torch.hypot(down, right)
    angle = torch.rad2deg(torch.atan2(down, right)) % 180
    of_pixel = (angle / (180 / bins)).long().clamp_max(bins - 1)
    per_bin = []
    for index in range(bins):
        votes = torch.where(of_pixel == index, strength, 0)[..., : rows * cell, : columns * cell]
        cells = votes.unflatten(-1, (columns, cell)).unflatten(-3, (rows, cell))
        per_bin.append(cells.mean((-3, -1)))
    return torch.stack(per_bin, dim=-1).to(images.dtype)


def hog(images: torch.Tensor, *, cell: int = 8, block: int = 2, bins: int = 9) -> torch.Tensor:
    """(…, H, W) -> (…, rows, columns, block, block, bins): histograms of oriented gradients [Dalal & Triggs
    2005, CVPR], a vector for each block of block × block cells; rows = H // cell − block + 1.

    Each block is divided by its length, cut off at 0.2, and divided by its length again ("L2-Hys", sec. 6.4),
    so that brighter light changes nothing. Raises TypeError or ValueError for what is no image, for numbers
    below 1, and for a block larger than the image.
    """
    block = require_whole(block, "block", most=MOST)
    cells = orientation_histograms(images, cell=cell, bins=bins)
    if min(cells.shape[-3:-1]) < block:
        raise ValueError(
            f"images wants at least {block}×{block} cells of {cell}×{cell}, got {tuple(images.shape)}"
        )
    blocks = _widen(cells).unfold(-3, block, 1).unfold(-3, block, 1)  # (…, rows, columns, bins, block, block)
    blocks = blocks.movedim(-3, -1)
    blocks = _divide_by_length(blocks).clamp_max(0.2)
    return _divide_by_length(blocks).to(images.dtype)


def _divide_by_length(blocks, small=1e-5):
    return blocks / (blocks.square().sum((-3, -2, -1), keepdim=True) + small**2).sqrt()


# --- shared -------------------------------------------------------------------------------------------------


def _widen(x):
    """-> in float32 at least, so that sums keep their digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _filter(x, rows, columns):
    """(…, H, W), (2r + 1,), (2s + 1,) -> (…, H, W): cross-correlation with rows ⊗ columns; beyond the border
    the nearest pixel is repeated.
    """
    flat = x.reshape(-1, 1, *x.shape[-2:])
    r, s = len(rows) // 2, len(columns) // 2
    flat = F.conv2d(F.pad(flat, (0, 0, r, r), mode="replicate"), rows.view(1, 1, -1, 1))
    flat = F.conv2d(F.pad(flat, (s, s, 0, 0), mode="replicate"), columns.view(1, 1, 1, -1))
    return flat.view(x.shape)
