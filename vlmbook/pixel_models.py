"""Models of pixels of whole levels: the baselines with a likelihood.

Images are (B, C, H, W) in [0, 1] whose pixels take `levels` values, 0, 1/(levels − 1), …, 1. Every likelihood
is a probability of whole levels, in nats an image: the probabilities of all images together are 1. Both
models compute in float64 on the CPU, and give their results there, wherever the images are.
"""

import math

import torch

from vlmbook.validation import require_number, require_tensor, require_type, require_whole

MOST_LEVELS = 2**16


def to_levels(x: torch.Tensor, levels: int) -> torch.Tensor:
    """(B, C, H, W) in [0, 1] -> (B, C, H, W) int64 in 0 … levels − 1.

    Raises TypeError unless x is floating, and ValueError for a pixel between levels, for fewer than 2 or more
    than 65,536 levels, and for a dtype that cannot hold so many levels apart, such as 256 in bfloat16.
    """
    require_tensor(x, "x", "B C H W", empty="B")
    levels = require_whole(levels, "levels", least=2, most=MOST_LEVELS)
    if x.is_meta:
        raise ValueError("x wants pixels with values, got a tensor on the meta device")
    rounding = (levels - 1) * torch.finfo(x.dtype).eps / 4  # of a level below 1, when this dtype keeps it
    if rounding >= 0.25:
        raise ValueError(f"x wants a dtype that holds {levels} levels apart, got {x.dtype}")
    scaled = (x.float() if x.dtype.itemsize < 4 else x) * (levels - 1)
    whole = scaled.round()
    on_a_level = (scaled - whole).abs() <= max(1e-3, 1.01 * rounding)  # False for NaN
    if not (on_a_level & (whole >= 0) & (whole < levels)).all():
        raise ValueError(
            f"x wants pixels that are multiples of 1/{levels - 1} in [0, 1], got from {x.min():.4g} to "
            f"{x.max():.4g}; (x * {levels - 1}).round() / {levels - 1} makes them"
        )
    return whole.long()


class PixelHistogram:
    """Each pixel by itself: how often each level occurs there. The model knows no neighbour.

    `smoothing` is added to the count of each level, so that no level is impossible. Raises TypeError or
    ValueError for pixels that are not one of the levels and for a smoothing that is not above 0.
    """

    def __init__(self, images: torch.Tensor, levels: int, *, smoothing: float = 0.1):
        require_tensor(images, "images", "B C H W")
        smoothing = require_number(smoothing, "smoothing", above=0)
        index = to_levels(images, levels).cpu().flatten(1)
        self.levels, self.shape = int(levels), images.shape[1:]
        first = self.levels * torch.arange(index.shape[1])  # each pixel counts in bins of its own
        counts = (index + first).flatten().bincount(minlength=self.levels * index.shape[1])
        p = (counts.double() + smoothing) / (len(images) + self.levels * smoothing)
        self.log_p = p.log().view(*self.shape, self.levels)

    def log_likelihood(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B,): log p(x) = Σ log p(x_i) in nats, float64 on the CPU.

        Raises TypeError or ValueError for other shapes and for pixels that are not one of the levels.
        """
        index = _levels_of_shape(x, self.levels, self.shape)[..., None]
        return self.log_p.expand(len(x), -1, -1, -1, -1).gather(-1, index).flatten(1).sum(1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """int -> (n, C, H, W) float32 on the CPU, where the generator has to be too.

        Raises TypeError or ValueError for n below 1 and for another generator.
        """
        n = require_whole(n, "n")
        _require_generator(generator)
        p = self.log_p.exp().flatten(0, 2)
        index = torch.multinomial(p, n, replacement=True, generator=generator).T
        return index.reshape(n, *self.shape).float() / (self.levels - 1)


class PixelGaussian:
    """One Gaussian with full covariance over all pixels, whose density is integrated over each level.

    Pixel after pixel: given those before it, x_i is normal around a linear prediction m_i with a spread s_i,
    and the probability of a level is the mass from half a level below to half a level above; the outermost
    take the tails. With the Cholesky factor L of the covariance, s_i = L_ii and
    (x_i − m_i) / s_i = (L⁻¹(x − μ))_i. `noise`, in levels, is added to each pixel's spread, since some pixels
    never change. Raises TypeError or ValueError for fewer than two images, for pixels that are not one of the
    levels, and for a noise of 0 or too small for a covariance of full rank.
    """

    def __init__(self, images: torch.Tensor, levels: int, *, noise: float = 0.3):
        require_tensor(images, "images", "B C H W")
        noise = require_number(noise, "noise", above=0, most=1e6)
        if len(images) < 2:
            raise ValueError(f"images wants at least two images for a covariance, got {len(images)}")
        x = to_levels(images, levels).cpu().flatten(1).double()
        covariance = torch.cov(x.T).reshape(x.shape[1], -1)
        covariance.diagonal().add_(noise**2)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if failed:
            raise ValueError(f"noise wants a number that gives the covariance full rank, got {noise:g}")
        self.mean, self.factor = x.mean(0), factor
        self.levels, self.shape = int(levels), images.shape[1:]

    def log_likelihood(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B,): log p(x) = Σ log p(x_i | x_1 … x_{i−1}) in nats, float64 on the CPU.

        Raises TypeError or ValueError for other shapes and for pixels that are not one of the levels.
        """
        x = _levels_of_shape(x, self.levels, self.shape).flatten(1).double()
        distance = torch.linalg.solve_triangular(self.factor, (x - self.mean).T, upper=False).T
        half = 0.5 / self.factor.diagonal()
        low = torch.where(x == 0, -math.inf, distance - half)
        high = torch.where(x == self.levels - 1, math.inf, distance + half)
        return _log_mass(low, high).sum(1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """int -> (n, C, H, W) float32 on the CPU, where the generator has to be too: pixel after pixel, each
        rounded to its level, as the likelihood has it.

        Raises TypeError or ValueError for n below 1 and for another generator.
        """
        n = require_whole(n, "n")
        _require_generator(generator)
        spread = self.factor.diagonal()
        distance = torch.zeros(n, len(self.mean), dtype=torch.float64)
        x = torch.zeros_like(distance)
        noise = torch.randn(n, len(self.mean), dtype=torch.float64, generator=generator)
        for i in range(len(self.mean)):
            middle = self.mean[i] + distance[:, :i] @ self.factor[i, :i]
            x[:, i] = (middle + spread[i] * noise[:, i]).round().clamp(0, self.levels - 1)
            distance[:, i] = (x[:, i] - middle) / spread[i]
        return x.view(n, *self.shape).float() / (self.levels - 1)


def _log_mass(low, high):
    """Bounds a < b -> log(Φ(b) − Φ(a)), computed in the tail where both are small."""
    flip = low > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    upper, lower = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return upper + torch.log(-torch.expm1(lower - upper))


def _levels_of_shape(x, levels, shape):
    """(B, C, H, W) -> the same, int64 on the CPU, of the shape (C, H, W) that a model knows."""
    channels, height, width = shape
    require_tensor(x, "x", "B C H W", empty="B", C=channels, H=height, W=width)
    return to_levels(x, levels).cpu()


def _require_generator(generator):
    if generator is not None:
        require_type(generator, "generator", torch.Generator, "a torch.Generator or None")
        if generator.device.type != "cpu":
            raise ValueError(f"generator wants a torch.Generator on the CPU, got one on {generator.device}")
