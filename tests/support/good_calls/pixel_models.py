"""vlmbook.pixel_models: images of 2×3 pixels and three levels."""

import torch

from tests.support.good_calls import Call
from vlmbook.pixel_models import PixelGaussian, PixelHistogram, to_levels

X = torch.tensor([0, 1, 2, 1, 0, 2, 2, 2, 0, 1, 1, 0]).view(2, 1, 2, 3) / 2


def generator():
    return torch.Generator().manual_seed(0)


GOOD_CALLS = {
    "to_levels": lambda: Call(to_levels, {"x": X, "levels": 3}),
    "PixelHistogram": lambda: Call(PixelHistogram, {"images": X, "levels": 3, "smoothing": 0.1}),
    "PixelHistogram.log_likelihood": lambda: Call(PixelHistogram(X, 3).log_likelihood, {"x": X}),
    "PixelHistogram.sample": lambda: Call(PixelHistogram(X, 3).sample, {"n": 2, "generator": generator()}),
    "PixelGaussian": lambda: Call(PixelGaussian, {"images": X, "levels": 3, "noise": 0.3}),
    "PixelGaussian.log_likelihood": lambda: Call(PixelGaussian(X, 3).log_likelihood, {"x": X}),
    "PixelGaussian.sample": lambda: Call(PixelGaussian(X, 3).sample, {"n": 2, "generator": generator()}),
}
