"""Good calls of vlmbook.data.stacking."""

import torch

from tests.support.good_calls import Call
from vlmbook.data.stacking import name_sample, stack_boxes, stack_images

IMAGES = [(torch.rand(3, 4, 5), 1), (torch.rand(3, 4, 5), 0)]
TARGET = {"boxes": torch.ones(1, 4), "labels": torch.zeros(1, dtype=torch.int64)}
BOXES = {"data": [(torch.rand(3, 4, 5), TARGET)], "size": (6, 7), "letterbox": True}
GOOD_CALLS = {
    "stack_images": lambda: Call(stack_images, {"data": IMAGES}),
    "stack_boxes": lambda: Call(stack_boxes, BOXES),
    # whatever the data are, they have samples with numbers
    "name_sample": lambda: Call(name_sample, {"data": IMAGES, "index": 1}, free=("data",)),
}
