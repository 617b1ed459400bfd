"""Boxes, detections and detectors that the tests of detection share."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

from vlmbook.data import pad_targets
from vlmbook.detection import FasterRCNN, SmallBackbone

EXACT = {"rtol": 1e-10, "atol": 1e-10}
thorough = settings(max_examples=200, deadline=None)
seeds = st.integers(0, 2**31)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@st.composite
def some_boxes(draw, least=0, most=12):
    """(N, 4) float64, x1 <= x2, y1 <= y2; at times on a coarse grid: some touch, repeat, are empty."""
    count = draw(st.integers(least, most))
    corners = torch.rand(count, 2, 2, generator=seeded(draw(seeds)), dtype=torch.float64) * 8
    if draw(st.booleans()):
        corners = corners.round()
    return corners.sort(1).values.flatten(1)


def solid_boxes(n, seed, scale=40.0):
    """(N, 4) float64 with sides of at least 1."""
    generator = seeded(seed)
    low = torch.rand(n, 2, generator=generator, dtype=torch.float64) * scale
    size = 1 + torch.rand(n, 2, generator=generator, dtype=torch.float64) * scale
    return torch.cat([low, low + size], dim=1)


OPTIONS = {
    "sizes": (16, 32),
    "ratios": (0.5, 1.0, 2.0),
    "width": 24,
    "pre_nms_top_n": 120,
    "post_nms_top_n": 40,
    "rpn_batch_size_per_image": 32,
    "box_batch_size_per_image": 24,
}


def large_weights(module, seed=0):
    """Parameters so large that scores and offsets are far from those of the start."""
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=seeded(seed)) * (1.5 / p[0].numel()) ** 0.5)
    return module


def faster_rcnn(seed=0, **options):
    return large_weights(FasterRCNN(SmallBackbone((4, 8, 8)), 3, **OPTIONS | options), seed)


def batch(n=3, seed=0):
    """-> (n, 3, 64, 96), n × {boxes, labels from 0}: no two centres in one cell of 8×8 pixels."""
    images = torch.rand(n, 3, 64, 96, generator=seeded(seed))
    corners = torch.tensor([[0.0, 0], [48, 2], [20, 30]])
    targets = []
    for count in (2, 1, 3)[:n]:
        low = corners[:count] + torch.rand(count, 2, generator=seeded(seed + count)) * 12
        boxes = torch.cat([low, low + 14 + 6 * count], dim=1)
        targets.append({"boxes": boxes, "labels": torch.arange(count) % 3})
    return images, targets


def padded_batch(n=3, seed=0):
    """-> (n, 3, 64, 96), (n, K, 4), (n, K): as detectors are trained."""
    images, targets = batch(n, seed)
    return images, *pad_targets(targets)
