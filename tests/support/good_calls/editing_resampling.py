"""Good calls of vlmbook.editing.resampling."""

import torch

from tests.support.good_calls import Call
from vlmbook.editing import resampling

IMAGES = torch.full((3, 6, 8), 0.5)

GOOD_CALLS = {
    "enlarge_bicubic": lambda: Call(resampling.enlarge_bicubic, {"images": IMAGES, "factor": 2}),
    "shrink_bicubic": lambda: Call(resampling.shrink_bicubic, {"images": IMAGES, "factor": 2}),
    "shrink_to_three_quarters": lambda: Call(
        resampling.shrink_to_three_quarters, {"images": torch.full((3, 4, 8), 0.5)}
    ),
    "crop_to_multiple": lambda: Call(resampling.crop_to_multiple, {"images": IMAGES, "factor": 5}),
    "studio_luma": lambda: Call(resampling.studio_luma, {"images": IMAGES}),
    "luma": lambda: Call(resampling.luma, {"images": IMAGES}),
    "rgb_to_ycbcr": lambda: Call(resampling.rgb_to_ycbcr, {"images": IMAGES}),
    "ycbcr_to_rgb": lambda: Call(resampling.ycbcr_to_rgb, {"images": IMAGES}),
}
