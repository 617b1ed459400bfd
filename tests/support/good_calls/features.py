"""vlmbook.features: a small image with a gradient in it."""

import torch

from tests.support.good_calls import Call
from vlmbook import features

IMAGE = torch.rand(18, 20, generator=torch.Generator().manual_seed(0))
DOWN, RIGHT = features.sobel_gradients(IMAGE)

GOOD_CALLS = {
    "to_grey": lambda: Call(features.to_grey, {"images": torch.ones(2, 3, 6, 7)}),
    "gaussian_blur": lambda: Call(features.gaussian_blur, {"images": IMAGE, "sigma": 1.0}),
    "sobel_gradients": lambda: Call(features.sobel_gradients, {"images": IMAGE}),
    "edge_strength": lambda: Call(features.edge_strength, {"images": IMAGE}),
    "canny": lambda: Call(features.canny, {"image": IMAGE, "sigma": 1.0, "low": 0.01, "high": 0.02}),
    "is_ridge": lambda: Call(
        features.is_ridge, {"strength": features.edge_strength(IMAGE), "down": DOWN, "right": RIGHT}
    ),
    "corner_response": lambda: Call(features.corner_response, {"images": IMAGE, "sigma": 1.0, "k": 0.05}),
    "find_corners": lambda: Call(
        features.find_corners,
        {"response": features.corner_response(IMAGE), "count": 4, "distance": 2},
    ),
    "local_binary_patterns": lambda: Call(features.local_binary_patterns, {"images": IMAGE}),
    "orientation_histograms": lambda: Call(
        features.orientation_histograms, {"images": IMAGE, "cell": 4, "bins": 9}
    ),
    "hog": lambda: Call(features.hog, {"images": IMAGE, "cell": 4, "block": 2, "bins": 9}),
}
