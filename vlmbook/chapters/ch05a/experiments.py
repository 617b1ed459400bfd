"""Chapter 5a: where the boxes of a detector lie, and what its mAP is when a part is switched off."""

import torch
from torch import nn

from vlmbook.detection import (
    FasterRCNN,
    box_iou,
    generate_anchors,
    mean_average_precision,
    select_detections,
)

STRIDE = 8  # pixels a cell of `SmallBackbone`'s map


def count_by_overlap(predictions: list[dict], targets: list[dict], score: float = 0.4) -> list[int]:
    """n × {boxes, scores, labels}, n × {boxes, labels} -> three counts of the boxes with a higher score than
    `score`: those whose best IoU with an object of any class is below 0.1, below 0.5, and from 0.5 on.
    """
    best = [torch.zeros(0)]
    for each, target in zip(predictions, targets, strict=True):
        best.append(box_iou(each["boxes"][each["scores"] > score], target["boxes"]).amax(1))
    best = torch.cat(best)
    far = int((best < 0.1).sum())
    bad = int((best < 0.5).sum()) - far
    return [far, bad, len(best) - far - bad]


def measure_switched_off(
    net: nn.Module, images: torch.Tensor, targets: list[dict], parts: int = 4
) -> dict[str, torch.Tensor]:
    """A detector, (n, 3, H, W), n × {boxes, labels} -> {what is off: (parts,) mAP on parts of the images}.

    Off is "nothing", "suppression" (all doubles stay) or "last offsets": the boxes of two stages stay the
    proposals, those of one stage squares of the typical size in the middle of each cell.
    """
    scored = {"nothing": [], "suppression": [], "last offsets": []}
    for part in torch.arange(len(images)).chunk(parts):
        detections = {off: [] for off in scored}
        for i in part.tolist():
            p, boxes, unmoved = _candidates(net, images[i : i + 1])
            size = images.shape[2:]
            detections["nothing"].append(select_detections(p, boxes, size))
            detections["suppression"].append(select_detections(p, boxes, size, iou_threshold=1.0))
            detections["last offsets"].append(select_detections(p, unmoved, size))
        truth = [targets[i] for i in part.tolist()]
        for off, each in detections.items():
            scored[off].append(mean_average_precision(each, truth)[0])
    return {off: torch.tensor(each) for off, each in scored.items()}


def _candidates(net, image):
    """-> (L, num_classes) probabilities, their boxes, and the boxes before the last offsets."""
    if isinstance(net, FasterRCNN):
        stages = net.stages(image)
        return *stages["candidates"][0], stages["proposals"].boxes[0]
    grid = [-(-side // STRIDE) for side in image.shape[2:]]
    squares = generate_anchors(grid, (STRIDE, STRIDE), [net.size], (1.0,)) + STRIDE / 2
    return *net.predict_candidates(image)[0], squares
