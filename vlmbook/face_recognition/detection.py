"""Where the faces of an image are: a cascade that comes trained, and a detector that the reader trains.

An image is (1, H, W) or (3, H, W) floating in [0, 1]. Boxes are (N, 4) float32, xyxy in pixels.
"""

import functools

import numpy as np
import torch
from skimage.data import lbp_frontal_face_cascade_filename
from skimage.feature import Cascade, hog
from sklearn.svm import LinearSVC
from torch.nn import functional as F

from vlmbook.data.images import LUMA, resize_image
from vlmbook.detection import box_iou, nms
from vlmbook.validation import require_number, require_tensor, require_type, require_whole

LONGEST = 800  # pixels of the longer side: a larger image is made smaller first
WINDOW = 24  # pixels of the cascade's smallest window
SHARE = 16  # the smallest face that is looked for is this part of the shorter side
# Windows of one face. Of 200 photographs of ORL's persons 1-20, 199 have as many on the face, and none has
# more than 11 elsewhere. Where scikit-image's photographs show no face, they have at most 14.
VOTES = 15
CELL, BLOCK, ORIENTATIONS = 5, 2, 9  # of the HOG features


# --- the cascade --------------------------------------------------------------------------------------------


def detect_faces(
    image: torch.Tensor,
    *,
    votes: int = VOTES,
    scale: float = 1.1,
    border: float = 0.35,
    smallest: int | None = None,
    longest: int = LONGEST,
) -> torch.Tensor:
    """(C, H, W) in [0, 1] with C of 1 or 3 -> (N, 4) float32 xyxy: the frontal faces, the largest first.

    scikit-image's cascade of local binary patterns [Liao et al. 2007] looks at windows of every size, each
    `scale` times the one before, in the image and in its mirror image. A face is where at least `votes`
    windows overlap. `border`: the image is continued by this share of its shorter side, at most 40 pixels, so
    that a face at the edge is found; a box may reach beyond the image. `smallest`: pixels of the side of the
    smallest face, by default a sixteenth of the shorter side. Where the cascade looks, the longer side of the
    image has at most `longest` pixels: a larger image is made smaller first, and so are its faces.

    Found are frontal faces of at least 24 pixels. Of 60 upright ones from the ORL faces it found all, turned
    by 15° 54, by 20° 28, by 30° 2. Where it looks for faces of 24 pixels it takes about 7 µs a pixel; twice
    the size saves three quarters. Raises TypeError or ValueError for what is no image.
    """
    require_image(image)
    votes = require_whole(votes, "votes", most=10_000)
    scale = require_number(scale, "scale", least=1.01, most=4)
    border = require_number(border, "border", least=0, most=1)
    smallest = min(image.shape[1:]) / SHARE if smallest is None else require_whole(smallest, "smallest")
    longest = require_whole(longest, "longest", least=WINDOW, most=8192)
    grey, shrink = _as_grey(image, longest)
    edge = min(40, round(border * min(grey.shape)))
    least = max(WINDOW, round(smallest * shrink))
    windows = _look_twice(np.pad(grey, edge, mode="edge"), scale, least)
    boxes, counts = group_windows(torch.from_numpy((windows - edge) / shrink).float())
    boxes = boxes[counts >= votes]
    return boxes[(boxes[:, 2] - boxes[:, 0]).argsort(descending=True, stable=True)]


def group_windows(windows: torch.Tensor, overlap: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """(M, 4) xyxy -> (N, 4), (N,) int64: the mean of the windows of each group and their number, the largest
    group first.

    A group is the window that most others overlap with an IoU above `overlap`, together with these; the next
    group is looked for among the rest. Raises TypeError or ValueError for what are no boxes.
    """
    require_tensor(windows, "windows", "M 4", empty="M", least=-1e6, most=1e6)
    require_values(windows, "windows")
    overlap = require_number(overlap, "overlap", least=0, most=1)
    windows = windows.detach().cpu()
    near = box_iou(windows, windows) > overlap
    near.fill_diagonal_(True)  # also a box without area
    neighbours = near.sum(1)
    boxes, counts = [windows[:0]], []
    while len(windows) and neighbours.max() > 0:
        members = near[neighbours.argmax()].nonzero()[:, 0]
        boxes.append(windows[members].mean(0, keepdim=True))
        counts.append(len(members))
        neighbours -= near[:, members].sum(1)
        near[:, members] = False
        neighbours[members] = 0
    counts = torch.tensor(counts, dtype=torch.int64)
    order = counts.argsort(descending=True, stable=True)
    return torch.cat(boxes)[order], counts[order]


def _look_twice(grey, scale, smallest):
    """(H, W) -> (M, 4): windows in the image and in its mirror image, which the cascade judges otherwise."""
    mirrored = _windows(grey[:, ::-1], scale, smallest)
    mirrored[:, [0, 2]] = grey.shape[1] - mirrored[:, [2, 0]]
    return np.concatenate([_windows(grey, scale, smallest), mirrored])


def _windows(grey, scale, smallest):
    """(H, W) -> (M, 4) xyxy: each window that the cascade takes for a face."""
    found = _cascade().detect_multi_scale(
        np.ascontiguousarray(grey, dtype=np.float32),
        scale_factor=scale,
        step_ratio=1,
        min_size=(smallest, smallest),
        max_size=(max(grey.shape), max(grey.shape)),
        min_neighbor_number=1,
        intersection_score_threshold=2,  # never reached: no window is merged with another
    )
    corners = [(f["c"], f["r"], f["c"] + f["width"], f["r"] + f["height"]) for f in found]
    return np.array(corners, dtype=np.float64).reshape(-1, 4)


@functools.cache
def _cascade():
    return Cascade(lbp_frontal_face_cascade_filename())


# --- a detector that the reader trains ----------------------------------------------------------------------


class HogDetector:
    """Histograms of oriented gradients and a linear support vector machine in a sliding window [Dalal &
    Triggs 2005].

    `fit(patches, labels)` trains it; `detector(image)` slides a window of the patches' size over the image
    and over smaller copies of it. A window moves by one cell of 5 pixels at a time, so that all its scores
    are one convolution of the cells with the weights of the machine.
    """

    def __init__(self, *, regularisation: float = 0.01, seed: int = 0):
        self.regularisation = require_number(regularisation, "regularisation", above=0, most=1e6)
        self.seed = require_whole(seed, "seed", least=0, most=2**32 - 1)
        self.weights = None  # (blocks, blocks, features) once it is trained
        self.bias = 0.0

    def fit(self, patches: torch.Tensor, labels: torch.Tensor) -> "HogDetector":
        """(N, 1, S, S) in [0, 1], (N,) of 1 for a face and 0 -> itself. S is a multiple of 5, at least 10.

        Raises TypeError or ValueError for other patches, and for labels without both kinds.
        """
        require_tensor(patches, "patches", "N 1 S S", least=0, most=1)
        side = patches.shape[-1]
        if patches.shape[2] != side or side % CELL or side < BLOCK * CELL:
            raise ValueError(
                f"patches wants square patches of 10, 15, 20, … pixels, got {tuple(patches.shape)}"
            )
        require_tensor(labels, "labels", "N", kind="whole", least=0, most=1, N=len(patches))
        if labels.unique().numel() != 2:
            raise ValueError("labels wants faces (1) and others (0), got one kind only")
        features = np.stack([_hog(patch[0]) for patch in _to_numpy(patches)])
        machine = LinearSVC(
            C=self.regularisation, class_weight="balanced", random_state=self.seed, max_iter=20_000
        )
        machine.fit(features.reshape(len(features), -1), labels.cpu().numpy())
        self.weights = torch.from_numpy(machine.coef_.reshape(features.shape[1:])).float()
        self.bias = float(machine.intercept_[0])
        return self

    def score(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, 1, S, S) -> (N,): above 0 for what it takes for a face. Raises TypeError or ValueError."""
        side = self._side()
        require_tensor(patches, "patches", f"N 1 {side} {side}", empty="N", least=0, most=1)
        scores = [
            float((self.weights * _hog_tensor(patch[0])).sum()) + self.bias for patch in _to_numpy(patches)
        ]
        return torch.tensor(scores)

    def __call__(
        self,
        image: torch.Tensor,
        *,
        threshold: float = 0.0,
        scale: float = 1.2,
        overlap: float = 0.3,
        longest: int = LONGEST,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(C, H, W) -> (N, 4) xyxy, (N,): windows with a score above `threshold`, best first, none of which
        overlaps a better one by an IoU above `overlap`.
        """
        side = self._side()
        require_image(image)
        threshold = require_number(threshold, "threshold")
        scale = require_number(scale, "scale", least=1.01, most=4)
        overlap = require_number(overlap, "overlap", least=0, most=1)
        longest = require_whole(longest, "longest", least=WINDOW, most=8192)
        grey, shrink = _as_grey(image, longest)
        boxes, scores = [torch.zeros(0, 4)], [torch.zeros(0)]
        while min(grey.shape) >= side:
            found, values = self._slide(grey, threshold)
            boxes.append(found / shrink)
            scores.append(values)
            shrink = shrink / scale
            grey, _ = _resized(grey, 1 / scale)
        boxes, scores = torch.cat(boxes), torch.cat(scores)
        kept = nms(boxes, scores, overlap)
        return boxes[kept], scores[kept]

    def collect(self, image: torch.Tensor, most: int = 50, *, longest: int = LONGEST) -> torch.Tensor:
        """(C, H, W) -> (N, 1, S, S): what it takes for a face, the best first, at most so many, as patches.

        In an image without a face they are the hard negatives: `fit` with them gives fewer false alarms
        [Dalal & Triggs 2005, §4].
        """
        most = require_whole(most, "most")
        boxes, _ = self(image, longest=longest)
        grey = torch.from_numpy(_as_grey(image, max(image.shape[1:]))[0])[None]
        patches = [grey.new_zeros((0, 1, self._side(), self._side()))]
        for x1, y1, x2, y2 in boxes[:most].round().long().tolist():
            patches.append(resize_image(grey[:, y1:y2, x1:x2], self._side())[None])
        return torch.cat(patches)

    def _slide(self, grey, threshold):
        """(H, W) -> (N, 4), (N,): the windows of one size above the threshold."""
        blocks = _hog_tensor(grey).permute(2, 0, 1)[None]
        scores = F.conv2d(blocks, self.weights.permute(2, 0, 1)[None])[0, 0] + self.bias
        rows, columns = (scores > threshold).nonzero(as_tuple=True)
        x, y = CELL * columns.float(), CELL * rows.float()
        return torch.stack([x, y, x + self._side(), y + self._side()], dim=1), scores[rows, columns]

    def _side(self):
        if self.weights is None:
            raise ValueError("detector wants to be trained first: detector.fit(patches, labels)")
        return (len(self.weights) + BLOCK - 1) * CELL


def _hog(grey):
    """(H, W) -> (rows, columns, features): the normalised histograms of each block of 2×2 cells."""
    blocks = hog(
        grey,
        orientations=ORIENTATIONS,
        pixels_per_cell=(CELL, CELL),
        cells_per_block=(BLOCK, BLOCK),
        feature_vector=False,
    )
    return blocks.reshape(*blocks.shape[:2], -1)


def _hog_tensor(grey):
    return torch.from_numpy(_hog(grey)).float()


def _to_numpy(x):
    return x.detach().float().cpu().numpy()


# --- images -------------------------------------------------------------------------------------------------


def require_image(image: torch.Tensor, name: str = "image") -> torch.Tensor:
    """Any -> itself, an image (1, H, W) or (3, H, W) in [0, 1]. Raises TypeError or ValueError."""
    require_type(name, "name", str, "the name of an argument")
    require_tensor(image, name, "C H W", least=0, most=1)
    require_values(image, name)
    if image.shape[0] not in (1, 3):
        raise ValueError(f"{name} wants the shape (1, H, W) or (3, H, W), got {tuple(image.shape)}")
    return image


def require_values(x: torch.Tensor, name: str) -> torch.Tensor:
    """Tensor -> itself, which is not on the meta device. Raises TypeError or ValueError."""
    require_type(x, "x", torch.Tensor, "a torch.Tensor")
    require_type(name, "name", str, "the name of an argument")
    if x.is_meta:
        raise ValueError(f"{name} wants a tensor with values, got one on the meta device")
    return x


def _as_grey(image, longest):
    """(C, H, W) -> (h, w) float32 of at most `longest` pixels a side, and h / H."""
    x = image.detach().float().cpu()
    grey = x[0] if len(x) == 1 else torch.tensordot(torch.tensor(LUMA), x, 1)
    return _resized(grey.numpy(), min(1.0, longest / max(grey.shape)))


def _resized(grey, share):
    """(H, W), share -> (h, w), the share that it came to."""
    if share == 1:
        return grey, 1.0
    size = [max(1, round(share * side)) for side in grey.shape]
    x = torch.from_numpy(grey)[None, None]
    return F.interpolate(x, size=size, mode="bilinear", antialias=True)[0, 0].clamp(0, 1).numpy(), share
