"""The U-Net [Ronneberger, Fischer & Brox 2015, arXiv:1505.04597], its losses, its score, and images of any
size [chapter 3c].

Images are floating tensors (B, C, H, W) of any size, logits (B, K, H, W) for K classes, targets (B, H, W)
int64 in 0 … K − 1; class 0 is the background where there is one.
"""

from itertools import pairwise, product

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.checks import check_counts, check_images


class DoubleConv(nn.Sequential):
    """(B, C, H, W) -> (B, D, H, W): convolution 3×3, batch normalisation, ReLU, twice."""

    def __init__(self, in_channels, channels):
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """(B, C, H, W) -> (B, num_classes, H, W) logits: an encoder, a decoder, and a skip at each resolution
    [fig. 1].

    Level l has width·2^l channels at 1/2^l of the size, for l = 0 … depth; the paper's network has width 64,
    depth 4 and 31 M parameters. Other than there, convolutions are padded, so that the output has the input's
    size and any size goes, and batch normalisation follows each. skip=False leaves the decoder what comes
    from below alone. up="transposed" is the paper's transposed convolution of 2×2, "bilinear" a 1×1
    convolution and interpolation.
    """

    def __init__(self, in_channels, num_classes, *, width=64, depth=4, skip=True, up="transposed"):
        super().__init__()
        check_counts(self, in_channels=in_channels, num_classes=num_classes, width=width, depth=depth)
        if up not in ("transposed", "bilinear"):
            raise ValueError(f'UNet wants up="transposed" or "bilinear", got {up!r}')
        self.depth, self.skip, self.up = depth, skip, up
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(DoubleConv(*ends) for ends in pairwise([in_channels, *widths]))
        self.upward = nn.ModuleList(
            nn.ConvTranspose2d(2 * outs, outs, 2, stride=2)
            if up == "transposed"
            else nn.Sequential(nn.Conv2d(2 * outs, outs, 1), nn.Upsample(scale_factor=2, mode="bilinear"))
            for outs in widths[:-1]
        )
        self.decoder = nn.ModuleList(DoubleConv((1 + skip) * outs, outs) for outs in widths[:-1])
        self.head = nn.Conv2d(width, num_classes, 1)

    def encode(self, x):
        """(B, C, H, W) -> list of (B, width·2^l, ⌈H/2^l⌉, ⌈W/2^l⌉), l = 0 … depth: the map that each level
        keeps.
        """
        check_images(x, "x", "(B, C, H, W)", layer=self.encoder[0][0])
        maps = [self.encoder[0](x)]
        for stage in self.encoder[1:]:
            maps.append(stage(F.max_pool2d(maps[-1], 2, ceil_mode=True)))
        return maps

    def decode(self, maps):
        """The encoder's maps -> (B, num_classes, H, W) logits: from the lowest up, each skip concatenated."""
        *kept, x = maps
        for level in reversed(range(self.depth)):
            height, width = kept[level].shape[2:]
            x = self.upward[level](x)[:, :, :height, :width]  # an odd size had been rounded up
            x = self.decoder[level](torch.cat([kept[level], x], 1) if self.skip else x)
        return self.head(x)

    def forward(self, x):
        return self.decode(self.encode(x))

    def receptive_radius(self):
        """-> int: how many pixels away an input pixel may lie that an output pixel still sees; farther none
        does.
        """
        return max(self._reach(place) for place in range(2**self.depth))

    def _reach(self, place):
        """int -> int: the farthest input pixel that output pixel `place` of an endless row sees, by
        intervals.
        """
        first, last = place - 2, place + 2  # two convolutions of 3
        for _ in range(self.depth):  # what lies one level down
            first, last = (
                (first // 2, last // 2) if self.up == "transposed" else ((first - 1) // 2, (last + 1) // 2)
            )
            first, last = first - 2, last + 2
        for _ in range(self.depth):  # and up again, through the encoder
            first, last = 2 * first - 2, 2 * last + 1 + 2
        return max(place - first, last - place)


def predict_tiled(model, image, *, tile, overlap):
    """UNet in eval mode, (B, C, H, W) -> (B, K, H, W): the logits of model(image), in windows, in bounded
    memory.

    The output is put together from squares of `tile` pixels; for each, a window that reaches `overlap` pixels
    farther on all sides goes through the model. Windows start at multiples of 2^depth, so that pooling falls
    on the same pixels as in the whole image, and the result is the whole image's but for rounding. Without
    gradients. Windows are moved to the model's device, logits back to the image's.

    Raises ValueError for an overlap below the model's receptive radius, with which squares would differ at
    their rims, for tile < 1, and for a model in training mode, whose BatchNorm sees the window; TypeError for
    another model.
    """
    if not isinstance(model, UNet):
        raise TypeError(f"predict_tiled wants a UNet, got {type(model).__name__}")
    if any(part.training for part in model.modules()):
        raise ValueError(
            "predict_tiled wants the model in eval mode, call model.eval(): in training mode BatchNorm "
            "normalises each window by itself"
        )
    check_images(image, "image", "(B, C, H, W)")
    for name, value in {"tile": tile, "overlap": overlap}.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"predict_tiled wants a whole number of pixels as {name}, got {value!r}")
    radius = model.receptive_radius()
    if tile < 1 or overlap < radius:
        raise ValueError(
            f"predict_tiled wants tile >= 1 and overlap >= {radius}, the receptive radius of this model, "
            f"got tile={tile}, overlap={overlap}"
        )
    device, (height, width) = model.head.weight.device, image.shape[2:]
    logits = image.new_empty(len(image), model.head.out_channels, height, width)
    with torch.no_grad():
        for top, left in product(range(0, height, tile), range(0, width, tile)):
            bottom, right = min(top + tile, height), min(left + tile, width)
            above, before = (max(0, start - overlap) >> model.depth << model.depth for start in (top, left))
            window = image[:, :, above : bottom + overlap, before : right + overlap].to(device)
            kept = model(window)[:, :, top - above : bottom - above, left - before : right - before]
            logits[:, :, top:bottom, left:right] = kept.to(logits.device)
    return logits


def cross_entropy_loss(logits, target):
    """(B, K, H, W), (B, H, W) int64 -> scalar in nats: −mean of log softmax(logits) at the target [eq. 1,
    weights 1].

    Raises TypeError or ValueError for logits and target that do not fit.
    """
    _check_target(logits, target)
    return F.cross_entropy(logits, target)


def dice_loss(logits, target, *, smooth=1.0):
    """(B, K, H, W), (B, H, W) int64 -> scalar in [0, 1]: 1 − mean over classes of Dice's coefficient of
    probabilities.

    Of class k: (2 Σ p_k g_k + smooth) / (Σ p_k + Σ g_k + smooth), p = softmax(logits), g the one-hot target,
    sums over all pixels of the batch [after Drozdzal et al. 2016, arXiv:1608.04117]. Small objects count as
    much as large ones. The errors are those of `cross_entropy_loss`.
    """
    _check_target(logits, target)
    p = logits.softmax(
        1, dtype=torch.promote_types(logits.dtype, torch.float32)
    )  # float16 ends at 65,504 pixels
    g = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(p)
    both, total = (p * g).sum((0, 2, 3)), (p + g).sum((0, 2, 3))
    return 1 - ((2 * both + smooth) / (total + smooth)).mean()


def iou(prediction, target, num_classes):
    """(B, H, W) int, (B, H, W) int -> (K,) float: of each class intersection over union, over all pixels
    together.

    That is Jaccard's index; NaN for a class that neither has. Raises TypeError or ValueError for what does
    not fit.
    """
    for name, classes in {"prediction": prediction, "target": target}.items():
        _check_classes(name, classes, num_classes)
    if prediction.shape != target.shape:
        raise ValueError(
            f"iou wants two of one shape, got {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    confusion = (
        (num_classes * target.long() + prediction.to(target.device).long())
        .flatten()
        .bincount(minlength=num_classes**2)
        .view(num_classes, num_classes)
        .double()
    )
    both = confusion.diagonal()
    return (both / (confusion.sum(0) + confusion.sum(1) - both)).float()


def _check_target(logits, target):
    check_images(logits, "logits", "(B, K, H, W)")
    _check_classes("target", target, logits.shape[1])
    if target.dtype != torch.int64:
        raise TypeError(f"target wants int64, got {target.dtype}; .long() makes it")
    wanted = logits.shape[:1] + logits.shape[2:]
    if target.shape != wanted:
        raise ValueError(
            f"logits {tuple(logits.shape)} want a target {tuple(wanted)}, got {tuple(target.shape)}"
        )


def _check_classes(name, classes, num_classes):
    if not isinstance(classes, torch.Tensor):
        raise TypeError(f"{name} wants a torch.Tensor of class numbers, got {type(classes).__name__}")
    if classes.is_floating_point() or classes.is_complex():
        raise TypeError(
            f"{name} wants whole class numbers, got {classes.dtype}; a mask (B, 1, H, W) of 0 and 1 "
            "becomes them by mask[:, 0].long(), logits by logits.argmax(1)"
        )
    if classes.numel() and not 0 <= classes.min() <= classes.max() < num_classes:
        raise ValueError(
            f"{name} wants classes 0 to {num_classes - 1}, got {classes.min()} to {classes.max()}"
        )
