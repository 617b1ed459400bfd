"""Chapter 5a: what detectors find, what they cost, and what their mAP is when a part is switched off."""

from statistics import median
from timeit import repeat

import numpy as np
import torch
import torchvision
from scipy import ndimage
from skimage.filters import sobel
from skimage.measure import label, regionprops
from skimage.segmentation import felzenszwalb, watershed
from torch import nn
from torch.nn import functional as F
from torchvision.models import EfficientNet_B0_Weights

from vlmbook.detection import (
    FasterRCNN,
    GridDetector,
    box_iou,
    generate_anchors,
    mean_average_precision,
    select_detections,
)

FACE = torch.tensor([[182.0, 72, 272, 188]])  # of the astronaut, measured by hand
TRIPOD = torch.tensor([[230.0, 200, 406, 512]])  # of the photograph "camera", measured by hand
STRIDE = 8  # pixels a cell of `SmallBackbone`'s map


# --- what detectors find ------------------------------------------------------------------------------------


def detect(net: nn.Module, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """Ours or torchvision's detector, (n, 3, H, W) -> n × {boxes, scores, labels from 0}, 25 at a time."""
    parts = images.split(25)
    if isinstance(net, (FasterRCNN, GridDetector)):
        return [detections for part in parts for detections in net(part)]
    from_1 = [detections for part in parts for detections in net(list(part))]  # torchvision's 0: background
    return [{**each, "labels": each["labels"] - 1} for each in from_1]


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


def find_center(backbone: nn.Module, aligned: bool, draws: int = 10) -> float:
    """A backbone of 8 pixels a cell -> the pixel column on which the pooled region from pixel 32 to 64 of a
    random image depends, on average: the centre of the gradient. A region that is right has 48.
    """
    image = torch.rand(1, 3, 96, 96, requires_grad=True)
    strength = torch.zeros(96)
    for _ in range(draws):
        x = backbone(image)
        cells = [torch.tensor([[32.0, 32, 64, 64]]) / STRIDE]
        region = torchvision.ops.roi_align(x, cells, 7, 1.0, 2, aligned=aligned)
        loss = (region * torch.randn_like(region)).sum()
        strength += torch.autograd.grad(loss, image)[0].abs().sum((0, 1, 2))
    columns = torch.arange(96) + 0.5
    return ((columns * strength).sum() / strength.sum()).item()


# --- natural photographs ------------------------------------------------------------------------------------


def make_windows(size: tuple[int, int], shares: tuple[float, ...] = (0.4, 0.6, 0.85)) -> torch.Tensor:
    """(height, width) -> (N, 4): square windows, each side a share of the shorter side of the image, at
    steps of at most two fifths of a window, the first and the last at the edges.
    """
    windows = []
    for share in shares:
        side = share * min(size)
        starts = []
        for length in size:
            count = 1 + -int(-(length - side) // (0.4 * side))
            starts.append(torch.linspace(0, length - side, count))
        low = torch.cartesian_prod(*starts).flip(1)
        windows.append(torch.cat([low, low + side], dim=1))
    return torch.cat(windows)


@torch.no_grad()
def classify_windows(
    network: nn.Module, image: torch.Tensor, windows: torch.Tensor
) -> tuple[torch.Tensor, list[str]]:
    """ImageNet classifier, (3, H, W), (N, 4) -> (N,) largest probabilities, N class names."""
    crops = torchvision.ops.roi_align(image[None], [windows], 224, 1.0, 2, aligned=True)
    inputs = (255 * crops - 127) / 128  # as `vlmbook.efficientnet.imagenet_input` scales
    best = torch.cat([network(part).softmax(1) for part in inputs.split(16)]).max(1)
    categories = EfficientNet_B0_Weights.DEFAULT.meta["categories"]
    return best.values, [categories[i] for i in best.indices.tolist()]


def find_coins(photo: torch.Tensor) -> torch.Tensor:
    """The photograph of coins (3, H, W) -> (24, 4): the boxes of its coins, from a watershed of its edges."""
    grey = photo.mean(0).numpy()
    markers = np.zeros(grey.shape, dtype=int)
    markers[grey < 0.12] = 1  # surely the ground, which is dark
    markers[grey > 0.59] = 2  # surely a coin
    coins = ndimage.binary_fill_holes(watershed(sobel(grey), markers) == 2)
    regions = [region.bbox for region in regionprops(label(coins)) if region.area > 400]
    return torch.tensor([[x1, y1, x2, y2] for y1, x1, y2, x2 in regions], dtype=torch.float32)


def shrink(image: torch.Tensor, share: float) -> torch.Tensor:
    """(3, H, W) -> the image with both sides multiplied by the share, each pixel the mean of its area."""
    size = [round(share * side) for side in image.shape[1:]]
    return F.interpolate(image[None], size=size, mode="area")[0]


# --- what detectors cost ------------------------------------------------------------------------------------


def measure_costs(
    two: FasterRCNN, one: GridDetector, image: torch.Tensor, counts: tuple[int, ...] = (20, 80, 320)
) -> dict[str, dict[int, dict[str, float]]]:
    """Both detectors, (1, 3, H, W) -> {system: {number of regions: {part: milliseconds}}}, medians of seven.

    Random regions of 16 pixels. R-CNN enlarges each to 64×64 pixels and sends it through the backbone.
    """
    size = tuple(image.shape[2:])
    grey, x = image[0].permute(1, 2, 0).numpy(), two.backbone(image)
    outside = _milliseconds(lambda: [felzenszwalb(grey, scale, 0.5, 10) for scale in (20, 60, 180)])
    through = _milliseconds(lambda: two.backbone(image))
    rpn = _milliseconds(lambda: two.rpn(x, (STRIDE, STRIDE), size))
    head = _milliseconds(lambda: one.head(x))
    costs = {"R-CNN": {}, "Fast R-CNN": {}, "Faster R-CNN": {}, "one stage": {}}
    for n in counts:
        low = torch.rand(n, 2) * (min(size) - 16)
        boxes = [torch.cat([low, low + 16], dim=1)]
        pieces = torchvision.ops.roi_align(image, boxes, 64, 1.0, 2)
        again = _milliseconds(lambda pieces=pieces: two.backbone(pieces))
        heads = _milliseconds(lambda boxes=boxes: two.roi_heads(x, boxes, (STRIDE, STRIDE)))
        costs["R-CNN"][n] = {"regions": outside, "features": again}
        costs["Fast R-CNN"][n] = {"regions": outside, "features": through, "heads": heads}
        costs["Faster R-CNN"][n] = {"regions": rpn, "features": through, "heads": heads}
        costs["one stage"][n] = {"features": through, "heads": head}
    return costs


def _milliseconds(run):
    return 1000 * median(repeat(run, number=1, repeat=7))


# --- parts switched off -------------------------------------------------------------------------------------


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
