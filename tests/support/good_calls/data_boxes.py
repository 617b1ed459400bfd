"""Good calls of vlmbook.data.boxes."""

import torch

from tests.support.good_calls import Call
from vlmbook.data.boxes import flip_horizontally, pad_targets, random_zoom, require_targets, unpad_targets

BOXES = torch.tensor([[[0.0, 1, 4, 5], [2, 2, 6, 6]], [[1, 1, 5, 5], [0, 0, 0, 0]]])
LABELS = torch.tensor([[0, 2], [1, -1]])
IMAGES = torch.full((2, 3, 6, 7), 0.5)
TARGETS = [{"boxes": BOXES[0], "labels": LABELS[0]}, {"boxes": BOXES[1, :1], "labels": LABELS[1, :1]}]

GOOD_CALLS = {
    "pad_targets": lambda: Call(pad_targets, {"targets": TARGETS}),
    "unpad_targets": lambda: Call(unpad_targets, {"boxes": BOXES, "labels": LABELS}),
    "require_targets": lambda: Call(
        require_targets,
        {"targets": TARGETS, "name": "targets", "scores": False, "count": 2},
        free=("name", "scores", "count"),  # of the caller's own code, not of a reader
    ),
    "flip_horizontally": lambda: Call(flip_horizontally, {"images": IMAGES, "boxes": BOXES}),
    "random_zoom": lambda: Call(
        random_zoom,
        {
            "images": IMAGES,
            "boxes": BOXES,
            "labels": LABELS,
            "smallest": 0.6,
            "largest": 1.6,
            "min_visible": 0.4,
            "generator": torch.Generator().manual_seed(0),
        },
    ),
}
