"""Good calls of vlmbook.detection.regions."""

import torch

from tests.support.good_calls import Call
from vlmbook.detection.regions import (
    pool_regions,
    require_boxes_per_image,
    roi_align,
    roi_align_loops,
    roi_pool,
    roi_pool_loops,
)

INPUT = torch.full((2, 3, 6, 7), 0.5)
REGIONS = torch.tensor([[0.0, 1, 1, 4, 5], [1, 0, 2, 6, 6]])
BOXES = [REGIONS[:1, 1:], REGIONS[1:, 1:]]
POOL = {"input": INPUT, "boxes": REGIONS, "output_size": 2, "spatial_scale": 0.5}
ALIGN = POOL | {"sampling_ratio": 2, "aligned": True}

GOOD_CALLS = {
    "roi_pool": lambda: Call(roi_pool, dict(POOL)),
    "roi_pool_loops": lambda: Call(roi_pool_loops, dict(POOL)),
    "roi_align": lambda: Call(roi_align, dict(ALIGN)),
    "roi_align_loops": lambda: Call(roi_align_loops, dict(ALIGN)),
    "pool_regions": lambda: Call(
        pool_regions, {"x": INPUT, "boxes": BOXES, "stride": (4.0, 4.0), "output_size": 2}
    ),
    "require_boxes_per_image": lambda: Call(
        require_boxes_per_image,
        {"boxes": BOXES, "name": "boxes", "count": 2},
        free=("name", "count"),  # of the caller's own code, not of a reader
    ),
}
