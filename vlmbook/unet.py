"""The U-Net [Ronneberger, Fischer & Brox 2015, arXiv:1505.04597], its losses, its scores, and images of any
size [chapter 3c].

Images are floating tensors (B, C, H, W) of any size, logits (B, K, H, W) for K classes. Targets are (B, H, W)
int64 in 0 … K − 1; class 0 is the background where there is one. A pixel whose target is `ignore_index`
counts in no loss and no score.
"""

import warnings
from itertools import pairwise, product

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.validation import (
    describe,
    require_choice,
    require_number,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)


class UNet(nn.Module):
    """(B, C, H, W) -> (B, num_classes, H, W) logits: an encoder, a decoder, and a skip at each resolution
    [fig. 1].

    Level l has width·2^l channels at 1/2^l of the size, for l = 0 … depth. The paper's network has width 64,
    depth 4 and 31 M parameters. Two things differ from the paper: convolutions are padded, so that the output
    has the input's size and any size is possible, and batch normalisation follows each. With skip=False the
    decoder gets only the map from below. up="transposed" is the paper's transposed convolution of 2×2,
    up="bilinear" a 1×1 convolution and interpolation. Raises TypeError or ValueError for sizes below 1 and
    for another `up`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        width: int = 64,
        depth: int = 4,
        skip: bool = True,
        up: str = "transposed",
    ):
        super().__init__()
        in_channels = require_whole(in_channels, "in_channels")
        num_classes = require_whole(num_classes, "num_classes")
        width = require_whole(width, "width", most=2**14)
        self.depth = require_whole(depth, "depth", most=12)
        self.skip = require_type(skip, "skip", bool, "True or False")
        self.up = require_choice(up, "up", ("transposed", "bilinear"))
        widths = [width * 2**level for level in range(self.depth + 1)]
        self.encoder = nn.ModuleList(DoubleConv(*ends) for ends in pairwise([in_channels, *widths]))
        self.upward = nn.ModuleList(_upward(outs, up) for outs in widths[:-1])
        joined = 2 if skip else 1
        self.decoder = nn.ModuleList(DoubleConv(joined * outs, outs) for outs in widths[:-1])
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(x))

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, H, W) -> list of (B, width·2^l, ⌈H/2^l⌉, ⌈W/2^l⌉), l = 0 … depth: the encoder's map of each
        level.

        Raises TypeError or ValueError for images of another kind or number of channels than the model's.
        """
        first = self.encoder[0][0]
        require_tensor(x, "x", "B C H W", C=first.in_channels, empty="B")
        require_same_kind(x, "x", first.weight)
        maps = [self.encoder[0](x)]
        for stage in self.encoder[1:]:
            maps.append(stage(F.max_pool2d(maps[-1], 2, ceil_mode=True)))
        return maps

    def decode(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """The encoder's maps -> (B, num_classes, H, W) logits: from the lowest level up, each skip
        concatenated.

        Raises TypeError or ValueError for maps that are not as `encode` gives them.
        """
        self._require_maps(maps)
        *skips, x = maps
        for level in reversed(range(self.depth)):
            height, width = skips[level].shape[2:]
            x = self.upward[level](x)[:, :, :height, :width]  # pooling rounded an odd size up
            x = self.decoder[level](torch.cat([skips[level], x], dim=1) if self.skip else x)
        return self.head(x)

    def receptive_radius(self) -> int:
        """-> int: the largest distance in pixels from an output pixel to an input pixel that it depends
        on.
        """
        return max(self._radius_at(position) for position in range(2**self.depth))

    def _radius_at(self, position):
        """int -> int: the same for the output pixel at `position` of an endless row, by intervals."""
        first, last = position - 2, position + 2  # two convolutions of 3
        for _ in range(self.depth):  # what these pixels need from the level below
            if self.up == "transposed":
                first, last = first // 2, last // 2
            else:
                first, last = (first - 1) // 2, (last + 1) // 2
            first, last = first - 2, last + 2
        for _ in range(self.depth):  # and what that needs from the level above, through the encoder
            first, last = 2 * first - 2, 2 * last + 1 + 2
        return max(position - first, last - position)

    def _require_maps(self, maps):
        require_type(maps, "maps", (list, tuple), "a list of tensors, as encode gives it")
        if len(maps) != self.depth + 1:
            raise ValueError(f"maps wants {self.depth + 1} tensors, one a level, got {len(maps)}")
        for level, (stage, each) in enumerate(zip(self.encoder, maps, strict=True)):
            channels = stage[0].out_channels
            require_tensor(each, f"maps[{level}]", "B C H W", C=channels, empty="B")
            require_same_kind(each, f"maps[{level}]", self.head.weight)
        for level, (upper, lower) in enumerate(pairwise(maps)):
            height, width = (-(-side // 2) for side in upper.shape[2:])
            require_tensor(lower, f"maps[{level + 1}]", "B C H W", B=len(upper), H=height, W=width, empty="B")


class DoubleConv(nn.Sequential):
    """(B, C, H, W) -> (B, D, H, W): convolution 3×3, batch normalisation, ReLU, twice."""

    def __init__(self, in_channels: int, channels: int):
        in_channels = require_whole(in_channels, "in_channels")
        channels = require_whole(channels, "channels")
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )


def _upward(channels, up):
    """-> (B, 2D, h, w) -> (B, D, 2h, 2w)"""
    if up == "transposed":
        return nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
    return nn.Sequential(nn.Conv2d(2 * channels, channels, 1), nn.Upsample(scale_factor=2, mode="bilinear"))


# --- an image of any size -----------------------------------------------------------------------------------


def predict_tiled(model: UNet, image: torch.Tensor, *, tile: int, overlap: int) -> torch.Tensor:
    """UNet in eval mode, (B, C, H, W) -> (B, K, H, W): the logits of model(image), in windows, in bounded
    memory.

    The output is put together from squares of `tile` pixels. For each square a window goes through the model
    that reaches `overlap` pixels farther on all sides. Windows start at multiples of 2^depth, so that pooling
    pairs the same pixels as in the whole image; the result is the whole image's but for rounding. No
    gradients are kept. Windows are moved to the model's device, logits back to the image's.

    With an overlap below the model's receptive radius a UserWarning says so: pixels near the borders of the
    squares then lack a part of what they would see, and the result differs there. Raises ValueError for an
    overlap below 0, for tile < 1, and for a model in training mode, whose BatchNorm sees the window;
    TypeError for another model.
    """
    require_type(model, "model", UNet, "a UNet")
    if any(part.training for part in model.modules()):
        raise ValueError(
            "model wants to be in eval mode, call model.eval(), got training mode, in which BatchNorm "
            "normalises each window by itself"
        )
    require_tensor(image, "image", "B C H W", C=model.encoder[0][0].in_channels)
    if image.dtype != model.head.weight.dtype or image.is_meta:
        raise TypeError(f"image wants the model's dtype, {model.head.weight.dtype}, got {describe(image)}")
    tile = require_whole(tile, "tile")
    overlap = require_whole(overlap, "overlap", least=0)
    radius = model.receptive_radius()
    if overlap < radius:
        warnings.warn(
            f"an overlap of {overlap} is below the receptive radius of {radius}: logits near the borders of "
            "the squares differ from those of the whole image",
            stacklevel=2,
        )

    device, (height, width) = model.head.weight.device, image.shape[2:]
    logits = image.new_empty(len(image), model.head.out_channels, height, width)
    with torch.no_grad():
        for top, left in product(range(0, height, tile), range(0, width, tile)):
            bottom, right = min(top + tile, height), min(left + tile, width)
            above, before = _on_grid(top - overlap, model), _on_grid(left - overlap, model)
            window = image[:, :, above : bottom + overlap, before : right + overlap].to(device)
            square = model(window)[:, :, top - above : bottom - above, left - before : right - before]
            logits[:, :, top:bottom, left:right] = square.to(logits.device)
    return logits


def _on_grid(start, model):
    """int -> int: the last multiple of 2^depth that is not after `start`, 0 where that is outside the
    image.
    """
    grid = 2**model.depth
    return max(0, start) // grid * grid


# --- losses -------------------------------------------------------------------------------------------------


def cross_entropy_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    class_weights: torch.Tensor | None = None,
    ignore_index: int | None = None,
) -> torch.Tensor:
    """(B, K, H, W), (B, H, W) int64 -> scalar in nats: −mean of log softmax(logits) at the target [eq. 1].

    With class_weights (K,), the mean is weighted by the weight of each pixel's class, as in
    `F.cross_entropy`. It is 0 where every pixel is ignored. Raises TypeError or ValueError for logits, target
    and weights that do not fit.
    """
    _require_target(logits, target, ignore_index)
    _require_class_weights(class_weights, logits)
    ignored = -100 if ignore_index is None else ignore_index
    total = F.cross_entropy(_wide(logits), target, class_weights, ignore_index=ignored, reduction="sum")
    pixels = target[target != ignored]
    counted = len(pixels) if class_weights is None else class_weights[pixels].sum()
    return total / max(counted, 1) if class_weights is None else total / counted.clamp(min=1e-12)


def dice_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    smooth: float = 1.0,
    class_weights: torch.Tensor | None = None,
    include_background: bool = True,
    ignore_index: int | None = None,
) -> torch.Tensor:
    """(B, K, H, W), (B, H, W) int64 -> scalar in [0, 1]: 1 − mean over classes of Dice's coefficient of
    probabilities.

    Of class k: (2 Σ p_k g_k + smooth) / (Σ p_k + Σ g_k + smooth), p = softmax(logits), g the one-hot target,
    sums over all pixels of the batch [after Drozdzal et al. 2016, arXiv:1608.04117]. Small objects count as
    much as large ones. class_weights (K,) weight the mean over classes; include_background=False leaves class
    0 out of it. Raises TypeError or ValueError for logits, target and weights that do not fit, and for smooth
    below 0.
    """
    _require_target(logits, target, ignore_index)
    _require_class_weights(class_weights, logits)
    smooth = require_number(smooth, "smooth", least=0)
    require_type(include_background, "include_background", bool, "True or False")
    first = 0 if include_background else 1
    if logits.shape[1] <= first:
        raise ValueError(f"logits wants a class beside the background, got {tuple(logits.shape)}")

    counted = _counted(target, ignore_index)
    p = _wide(logits).softmax(1) * counted[:, None]
    g = F.one_hot(torch.where(counted, target, 0), logits.shape[1]).movedim(-1, 1).to(p) * counted[:, None]
    overlap, total = (p * g).sum((0, 2, 3)), (p + g).sum((0, 2, 3))
    dice = ((2 * overlap + smooth) / (total + smooth))[first:]
    if class_weights is None:
        return 1 - dice.mean()
    return 1 - (dice * class_weights[first:]).sum() / class_weights[first:].sum()


# --- scores -------------------------------------------------------------------------------------------------


def iou(
    prediction: torch.Tensor, target: torch.Tensor, num_classes: int, *, ignore_index: int | None = None
) -> torch.Tensor:
    """(B, H, W) whole, (B, H, W) whole -> (K,) float32: intersection over union of each class, over all
    pixels together.

    That is Jaccard's index; NaN for a class that is in neither. Raises TypeError or ValueError for what does
    not fit.
    """
    overlap, predicted, present = _areas(prediction, target, num_classes, ignore_index)
    return (overlap / (predicted + present - overlap)).float().to(prediction.device)


def dice_score(
    prediction: torch.Tensor, target: torch.Tensor, num_classes: int, *, ignore_index: int | None = None
) -> torch.Tensor:
    """(B, H, W) whole, (B, H, W) whole -> (K,) float32: Dice's coefficient of each class, over all pixels
    together.

    2 |P ∩ G| / (|P| + |G|), the F1 score of the pixels; NaN for a class that is in neither. Raises as `iou`.
    """
    overlap, predicted, present = _areas(prediction, target, num_classes, ignore_index)
    return (2 * overlap / (predicted + present)).float().to(prediction.device)


def boundary_f1(prediction: torch.Tensor, target: torch.Tensor, *, tolerance: int = 1) -> float:
    """(B, H, W) whole in {0, 1}, (B, H, W) whole in {0, 1} -> float in [0, 1]: the F1 score of the object's
    boundary, over all images together.

    A boundary pixel is a pixel of the object with a pixel of the background among its eight neighbours.
    Precision is the share of the prediction's boundary pixels that have one of the target's within
    `tolerance` pixels in both directions, recall the reverse [after Martin et al. 2004]. NaN where neither
    has a boundary. Raises TypeError or ValueError for what does not fit, and for a tolerance below 0.
    """
    tolerance = require_whole(tolerance, "tolerance", least=0)
    require_tensor(target, "target", "B H W", kind="discrete", least=0, most=1)
    batch, height, width = target.shape
    shape = {"B": batch, "H": height, "W": width}
    require_tensor(prediction, "prediction", "B H W", kind="discrete", least=0, most=1, **shape)
    found, wanted = _boundary(prediction.cpu()), _boundary(target.cpu())
    hits = (found * _thicken(wanted, tolerance)).sum().double()
    met = (wanted * _thicken(found, tolerance)).sum().double()
    precision, recall = hits / found.sum(), met / wanted.sum()
    if not hits and (found.any() or wanted.any()):
        return 0.0
    return (2 * precision * recall / (precision + recall)).item()


def _boundary(mask):
    """(B, H, W) of 0 and 1 -> (B, H, W) float: 1 on pixels of the object that touch the background."""
    mask = mask.float()
    return mask * _thicken(1 - mask, 1)


def _thicken(mask, pixels):
    """(B, H, W) of 0 and 1 -> (B, H, W): 1 where a 1 is at most so many rows and columns away."""
    side = 2 * pixels + 1
    return F.max_pool2d(mask[:, None], side, stride=1, padding=pixels)[:, 0]


def _areas(prediction, target, num_classes, ignore_index):
    """-> (K,) three times, float64 on the CPU: pixels of each class in both, in the prediction, in the
    target.
    """
    num_classes = require_whole(num_classes, "num_classes", most=2**15)
    require_tensor(
        target, "target", "B H W", kind="discrete", least=0, most=num_classes - 1, ignore=_index(ignore_index)
    )
    batch, height, width = target.shape
    require_tensor(
        prediction,
        "prediction",
        "B H W",
        kind="discrete",
        least=0,
        most=num_classes - 1,
        B=batch,
        H=height,
        W=width,
    )
    prediction, target = prediction.cpu().long(), target.cpu().long()
    counted = _counted(target, ignore_index)
    pairs = num_classes * target[counted] + prediction[counted]
    confusion = pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes).double()
    return confusion.diagonal(), confusion.sum(0), confusion.sum(1)


def _counted(target, ignore_index):
    """(B, H, W) -> (B, H, W) bool: the pixels that count."""
    return torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index


# --- what comes in ------------------------------------------------------------------------------------------


def _wide(x):
    """Half precision -> float32: in float16 a sum of pixels ends at 65,504."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _require_target(logits, target, ignore_index):
    require_tensor(logits, "logits", "B K H W")
    batch, classes, height, width = logits.shape
    bounds = {"least": 0, "most": classes - 1, "ignore": _index(ignore_index), "device": logits.device}
    require_tensor(target, "target", "B H W", kind="int64", B=batch, H=height, W=width, **bounds)


def _index(ignore_index):
    return None if ignore_index is None else require_whole(ignore_index, "ignore_index", least=-(2**31))


def _require_class_weights(class_weights, logits):
    if class_weights is None:
        return
    require_tensor(class_weights, "class_weights", "K", K=logits.shape[1], least=0, finite=True)
    require_same_kind(class_weights, "class_weights", _wide(logits), "the logits")
    if not class_weights.sum() > 0:
        raise ValueError("class_weights wants at least one weight above 0, got none")
