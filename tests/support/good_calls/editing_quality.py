"""Good calls of vlmbook.editing.quality."""

import torch

from tests.support.good_calls import Call
from vlmbook.editing import block_mask, quality
from vlmbook.efficientnet import efficientnet_lite0

PAIR = {"image": torch.full((3, 32, 33), 0.5), "reference": torch.full((3, 32, 33), 0.6)}
MASK = torch.ones(1, 32, 33)


def network():
    return efficientnet_lite0(2).eval()


GOOD_CALLS = {
    "psnr": lambda: Call(quality.psnr, PAIR | {"mask": MASK}),
    "ssim": lambda: Call(quality.ssim, PAIR | {"mask": MASK}),
    "luma_psnr": lambda: Call(quality.luma_psnr, PAIR | {"border": 2}),
    "perceptual_distance": lambda: Call(quality.perceptual_distance, PAIR | {"network": network()}),
    "first_features": lambda: Call(
        quality.first_features, {"network": network(), "images": torch.rand(1, 3, 8, 8), "blocks": 1}
    ),
    "measure_inpainting": lambda: Call(
        quality.measure_inpainting,
        {
            "images": [torch.rand(1, 12, 14)],
            "fillings": {"none": lambda image, mask: image},
            "holes": {"block": lambda size, generator: block_mask(size, generator=generator)},
            "each": 2,
            "seed": 0,
        },
    ),
    "paired_difference": lambda: Call(
        quality.paired_difference, {"ours": torch.tensor([1.0, 2.0]), "theirs": torch.tensor([0.0, 3.0])}
    ),
    # The name stands in the sentence only.
    "require_mask": lambda: Call(
        quality.require_mask, {"mask": MASK, "name": "mask", "image": PAIR["image"]}, ("name",)
    ),
}
