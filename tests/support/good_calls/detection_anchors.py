"""Good calls of vlmbook.detection.anchors."""

import torch

from tests.support.good_calls import Call
from vlmbook.detection.anchors import (
    decode_boxes,
    encode_boxes,
    generate_anchors,
    match_anchors,
    positive_numbers,
    sample_anchors,
)

ANCHORS = torch.tensor([[0.0, 1, 4, 5], [2, 2, 6, 6]])
WEIGHTS = (10.0, 10.0, 5.0, 5.0)

GOOD_CALLS = {
    "generate_anchors": lambda: Call(
        generate_anchors, {"grid": (2, 3), "stride": (8, 8), "sizes": (16, 32), "ratios": (0.5, 1.0)}
    ),
    "encode_boxes": lambda: Call(
        encode_boxes, {"boxes": ANCHORS + 1, "anchors": ANCHORS, "weights": WEIGHTS}
    ),
    "decode_boxes": lambda: Call(
        decode_boxes, {"offsets": torch.zeros(2, 8), "anchors": ANCHORS, "weights": WEIGHTS}
    ),
    "match_anchors": lambda: Call(
        match_anchors,
        {
            "iou": torch.full((2, 5), 0.4),
            "high_threshold": 0.7,
            "low_threshold": 0.3,
            "allow_low_quality_matches": True,
        },
    ),
    "sample_anchors": lambda: Call(
        sample_anchors, {"matched": torch.tensor([0, -1, -1, -2, 1]), "count": 4, "positive_fraction": 0.5}
    ),
    "positive_numbers": lambda: Call(
        positive_numbers,
        {"values": (1, 2.5), "name": "sizes", "count": 2},
        free=("name", "count"),  # of the caller's own code, not of a reader
    ),
}
