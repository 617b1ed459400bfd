"""A face as 128 numbers: landmarks are found, the face is aligned, a residual network embeds it [King 2017,
http://blog.dlib.net/2017/02/high-quality-face-recognition-with-deep.html].

Both models are dlib's, in PyTorch and NumPy; its weights fit (`vlmbook.pretrained.face_resnet` and
`face_landmarks`). Two images show one person if the distance of their embeddings is below about 0.6.

A box is xyxy in pixels, the edges of an area. A landmark is the column and the row of a pixel, from 0.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.validation import (
    describe,
    require_choice,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

CHIP_SIZE = 150
STEM_WIDTH, EMBEDDING_WIDTH = 32, 128
# One row a block: output channels, stride.
FACE_BLOCKS = (
    (32, 1),
    (32, 1),
    (32, 1),
    (64, 2),
    (64, 1),
    (64, 1),
    (64, 1),
    (128, 2),
    (128, 1),
    (128, 1),
    (256, 2),
    (256, 1),
    (256, 1),
    (256, 2),
)
MEAN_COLOUR = (122.782, 117.001, 104.298)  # red, green, blue of the training faces, of 255

# The landmarks of the mean face in a square of side 1: outer and inner corner of the eye at the right of the
# image, outer and inner corner of the eye at the left, base of the nose [dlib, interpolation.h].
MEAN_FACE = np.array(
    [
        (0.8595674595992, 0.2134981538014),
        (0.6460604764104, 0.2289674387677),
        (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242),
        (0.4901123135679, 0.6277975316475),
    ]
)
PADDING = 0.25  # what a chip shows around that square on each side, as a share of its side


# --- the embedding ------------------------------------------------------------------------------------------


class FaceBlock(nn.Module):
    """(B, C, H, W) -> (B, D, H', W'): relu(F(x) + x), F two convolutions of 3×3; with stride 2, H' = ⌊H/2⌋.

    With stride 2 the shortcut is the mean of 2×2 pixels. Zeros make the two terms fit: new channels of the
    shortcut [He et al. 2015, §3.3, option A], and a row below and a column right of F(x) if it is smaller.
    With stride 1 it keeps the number of channels, with stride 2 it has at least as many.
    """

    def __init__(self, in_channels: int, channels: int, stride: int):
        stride = require_choice(stride, "stride", (1, 2))
        in_channels = require_whole(in_channels, "in_channels")
        most = in_channels if stride == 1 else None
        channels = require_whole(channels, "channels", least=in_channels, most=most)
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1 if stride == 1 else 0)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = nn.Identity() if stride == 1 else nn.AvgPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", "B C H W", empty="B", C=self.conv1.in_channels)
        require_same_kind(x, "x", self.conv1.weight)
        if min(x.shape[2:]) < 3:
            raise ValueError(f"x wants at least 3×3 pixels, got {tuple(x.shape)}")
        residual = self.conv2(self.conv1(x).relu_())
        shortcut = self.shortcut(x)
        new_channels = residual.shape[1] - shortcut.shape[1]
        rows, columns = shortcut.shape[2] - residual.shape[2], shortcut.shape[3] - residual.shape[3]
        if new_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, new_channels))
        if rows or columns:
            residual = F.pad(residual, (0, columns, 0, rows))
        return (residual + shortcut).relu_()


class FaceResNet(nn.Module):
    """(B, 3, 150, 150) in [0, 1] -> (B, 128): a stem, 14 residual blocks, the mean, one linear map.

    5.61 M parameters. The images are aligned faces from `align_face`; the network normalises them. Batch
    normalisation is folded into the convolutions, so that training mode and eval mode are equal.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN_COLOUR).view(3, 1, 1), persistent=False)
        self.conv1 = nn.Conv2d(3, STEM_WIDTH, 7, stride=2)
        self.maxpool = nn.MaxPool2d(3, stride=2)
        self.blocks = nn.ModuleList()
        channels = STEM_WIDTH
        for width, stride in FACE_BLOCKS:
            self.blocks.append(FaceBlock(channels, width, stride))
            channels = width
        self.fc = nn.Linear(channels, EMBEDDING_WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", f"B 3 {CHIP_SIZE} {CHIP_SIZE}", empty="B")
        require_same_kind(x, "x", self.fc.weight)
        x = (255 * x - self.mean) / 256
        x = self.maxpool(self.conv1(x).relu_())
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


# --- landmarks ----------------------------------------------------------------------------------------------


class FaceLandmarks:
    """(C, H, W) in [0, 1] with C of 1 or 3, box (4,) -> (P, 2) int64: column and row of each landmark.

    A cascade of regression trees [Kazemi & Sullivan 2014, One Millisecond Face Alignment]. The first shape is
    the mean shape in the box. Each stage reads K pixels near the landmarks. Each tree of the stage compares
    two pixels at a time until it is at a leaf; the leaves of all trees move the shape. dlib's model has P = 5
    landmarks, in the order of `MEAN_FACE`. A pixel outside the image is black.

    `state` holds the S stages of T trees with N splits: "initial_shape" (P, 2), "splits" (S, T, N, 2),
    "thresholds" (S, T, N), "leaves" (S, T, N + 1, P, 2), "anchors" (S, K), "deltas" (S, K, 2).
    """

    def __init__(self, state: Mapping[str, torch.Tensor]):
        _require_state(state)
        self.initial_shape = state["initial_shape"].float().cpu().numpy()
        self.splits = state["splits"].cpu().numpy()
        self.thresholds = state["thresholds"].float().cpu().numpy()
        self.leaves = state["leaves"].float().cpu().numpy()
        self.anchors = state["anchors"].cpu().numpy()
        self.deltas = state["deltas"].float().cpu().numpy()

    def __call__(self, image: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
        _require_image(image)
        corner, size = _pixel_corners(box)
        pixels = image.detach().float().cpu().numpy()
        shape = self.initial_shape
        for stage in range(len(self.leaves)):
            places = _to_pixels(self._places(shape, stage), corner, size)
            shape = self._refine(shape, _brightness(pixels, places), stage)
        return torch.from_numpy(_to_pixels(shape, corner, size))

    def _places(self, shape, stage):
        """(P, 2) -> (K, 2): the places of this stage's pixels, each an offset from a landmark.

        The offsets turn and scale with the shape.
        """
        turn, _ = fit_similarity(self.initial_shape, shape)
        turn = turn.astype(np.float32)
        delta = self.deltas[stage]
        x = turn[0, 0] * delta[:, 0] + turn[0, 1] * delta[:, 1]  # dlib's order
        y = turn[1, 0] * delta[:, 0] + turn[1, 1] * delta[:, 1]
        return np.stack([x, y], axis=1) + shape[self.anchors[stage]]

    def _refine(self, shape, brightness, stage):
        """(P, 2), (K,) -> (P, 2): the shape, moved by one leaf of each tree."""
        splits, thresholds, leaves = self.splits[stage], self.thresholds[stage], self.leaves[stage]
        trees, count = thresholds.shape
        goes_left = brightness[splits[..., 0]] - brightness[splits[..., 1]] > thresholds
        every, node = np.arange(trees), np.zeros(trees, dtype=np.int64)
        for _ in range((count + 1).bit_length() - 1):  # 15 splits: 4 levels
            node = 2 * node + np.where(goes_left[every, node], 1, 2)
        moves = leaves[every, node - count]
        # dlib adds one leaf after another in float32, and so does cumsum; sum would add in pairs.
        return np.cumsum(np.concatenate([shape[None], moves]), axis=0)[-1]


# --- alignment ----------------------------------------------------------------------------------------------


def align_face(image: torch.Tensor, box: torch.Tensor, landmarks: FaceLandmarks) -> torch.Tensor:
    """(C, H, W) in [0, 1] with C of 1 or 3, (4,), FaceLandmarks -> (3, 150, 150): the face, upright, in one
    size.

    Places outside the image are black. Raises TypeError or ValueError for what is no image or no box.
    """
    require_type(landmarks, "landmarks", FaceLandmarks, "a FaceLandmarks")
    return align_points(image, landmarks(image, box))


def align_points(image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(C, H, W) in [0, 1] with C of 1 or 3, (5, 2) -> (3, 150, 150): the landmarks come to where the mean
    face has them.

    The map is a similarity (it turns, scales and moves), fitted by least squares. Raises TypeError or
    ValueError for what is no image, and for landmarks that all lie in one place.
    """
    _require_image(image)
    require_tensor(points, "points", "5 2", kind="any", least=-1e6, most=1e6)
    _require_memory(points, "points")
    target = points.detach().cpu().double().numpy()
    source = (MEAN_FACE + PADDING) / (1 + 2 * PADDING) * CHIP_SIZE
    turn, shift = fit_similarity(source, target)
    scale = np.hypot(turn[0, 0], turn[1, 0])  # image pixels for one pixel of the chip
    if scale < 1e-6:
        raise ValueError(f"points wants landmarks that lie apart, got {points.tolist()}")
    x = image.to(torch.promote_types(image.dtype, torch.float32)).unsqueeze(0)
    steps = np.linspace(0.5 / scale, CHIP_SIZE - 0.5 / scale, CHIP_SIZE)
    across, down = np.meshgrid(steps, steps)
    places = np.stack([across, down], axis=-1) @ turn.T + shift  # (150, 150, 2): pixels of the image
    while scale > 2:  # halve the image, so that no pixel is skipped
        x = F.avg_pool2d(x, 2, ceil_mode=True)
        places = (places - 0.5) / 2
        scale = scale / 2
    height, width = x.shape[2:]
    grid = (2 * places + 1) / (width, height) - 1  # grid_sample's edges are at −1 and 1
    grid = torch.from_numpy(grid).to(x.dtype).to(x.device).unsqueeze(0)
    chip = F.grid_sample(x, grid, align_corners=False)[0]
    return chip.expand(3, -1, -1).contiguous().to(image.dtype)


def fit_similarity(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P, 2), (P, 2) -> (2, 2), (2,) float64: A, t with the least Σ‖A·source + t − target‖².

    A is a rotation times a scale [Umeyama 1991, eqs. 40-43, in two dimensions]. Raises TypeError or
    ValueError for other arrays, and for source points that all lie in one place.
    """
    source, target = _require_points(source, "source"), _require_points(target, "target")
    if len(source) != len(target):
        raise ValueError(f"target wants as many points as source, {len(source)}, got {len(target)}")
    middle, goal = source.mean(0), target.mean(0)
    x, y = (source - middle).T
    u, v = (target - goal).T
    energy = (x * x + y * y).sum()
    if energy == 0:
        raise ValueError(f"source wants points that lie apart, got {source.tolist()}")
    cosine = (x * u + y * v).sum() / energy  # scale · cos, scale · sin of the angle
    sine = (x * v - y * u).sum() / energy
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return turn, goal - turn @ middle


# --- what is required, and pixels ---------------------------------------------------------------------------


def _require_state(state):
    """Raises TypeError or ValueError."""
    require_type(state, "state", Mapping, "a dict of tensors")
    names = ["initial_shape", "splits", "thresholds", "leaves", "anchors", "deltas"]
    if set(state) != set(names):
        raise ValueError(f"state wants the tensors {', '.join(names)}, got {', '.join(map(str, state))}")
    shape, splits, thresholds, leaves, anchors, deltas = (state[name] for name in names)
    for name in names:
        require_type(state[name], name, torch.Tensor, "a torch.Tensor")
        _require_memory(state[name], name)
    points = require_tensor(shape, "initial_shape", "P 2", finite=True).shape[0]
    stages, trees, count = require_tensor(thresholds, "thresholds", "S T N", finite=True).shape
    if count & (count + 1):
        raise ValueError(f"thresholds wants 1, 3, 7, 15, … splits a tree, got {count}")
    sizes = {"S": stages, "T": trees, "N": count, "L": count + 1, "P": points}
    require_tensor(leaves, "leaves", "S T L P 2", finite=True, **sizes)
    require_tensor(anchors, "anchors", "S K", kind="whole", least=0, most=points - 1, **sizes)
    sizes["K"] = anchors.shape[1]
    require_tensor(deltas, "deltas", "S K 2", finite=True, **sizes)
    require_tensor(splits, "splits", "S T N 2", kind="whole", least=0, most=sizes["K"] - 1, **sizes)


def _require_points(points, name):
    """-> (P, 2) float64."""
    if not isinstance(points, np.ndarray) or points.dtype.kind not in "iuf":
        raise TypeError(f"{name} wants a NumPy array (P, 2) of real numbers, got {describe(points)}")
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"{name} wants finite points (P, 2), got {describe(points)}")
    return points.astype(np.float64)


def _require_memory(x, name):
    if x.is_meta:
        raise ValueError(f"{name} wants a tensor with values, got one on the meta device")


def _require_image(image):
    require_tensor(image, "image", "C H W", least=0, most=1)
    _require_memory(image, "image")
    if image.shape[0] not in (1, 3):
        raise ValueError(f"image wants the shape (1, H, W) or (3, H, W), got {tuple(image.shape)}")


def _pixel_corners(box):
    """(4,) xyxy -> (2,), (2,): the first column and row, and the steps from there to the last ones."""
    require_tensor(box, "box", "4", kind="any", least=-1e6, most=1e6)
    _require_memory(box, "box")
    left, top, right, bottom = box.detach().cpu().double().round().tolist()
    if not (right - left > 1 and bottom - top > 1):
        raise ValueError(f"box wants x1, y1, x2, y2 that hold at least 2×2 pixels, got {box.tolist()}")
    return np.array([left, top]), np.array([right - left - 1, bottom - top - 1])


def _to_pixels(shape, corner, size):
    """(N, 2), where the box is 0 to 1 -> (N, 2) int64: columns and rows."""
    return np.floor(corner + size * shape.astype(np.float64) + 0.5).astype(np.int64)


def _brightness(pixels, places):
    """(C, H, W) in [0, 1], (K, 2) -> (K,) float32: the mean colour, whole numbers from 0 to 255."""
    height, width = pixels.shape[1:]
    x, y = places.T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    colours = np.rint(255 * pixels[:, y.clip(0, height - 1), x.clip(0, width - 1)])
    return np.where(inside, np.floor(colours.sum(0) / len(colours)), 0)
