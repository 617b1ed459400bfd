"""Style transfer: an image with the content of a photograph and the texture of a painting [Gatys, Ecker &
Bethge 2016, CVPR].

The pixels are optimised, no network is trained: EfficientNet-Lite0 only measures. What its feature maps show
is the content; which of its features occur together, wherever in the image, is the style.
"""

import torch
from torch.nn import functional as F
from tqdm import tqdm

from vlmbook.data.images import MAX_SIDE
from vlmbook.editing.holes import require_generator
from vlmbook.editing.networks import evaluating
from vlmbook.editing.quality import SMALLEST, first_features
from vlmbook.editing.resampling import rgb_to_ycbcr, ycbcr_to_rgb
from vlmbook.editing.tiling import as_floating, as_kind, require_image
from vlmbook.efficientnet import EfficientNetLite0
from vlmbook.pretrained import efficientnet_lite0
from vlmbook.validation import (
    require_choice,
    require_number,
    require_tensor,
    require_type,
    require_whole,
)

BLOCKS = 4  # the stem and so many blocks
RATE = 4 / 255  # of Adam, at the first step
LARGEST_ROLL = 8  # pixels, exclusive


@torch.inference_mode(False)
@torch.enable_grad()  # pixels are optimised, whatever the caller does with gradients
def style_transfer(
    content: torch.Tensor,
    style: torch.Tensor,
    *,
    size: int = 256,
    steps: int = 100,
    style_weight: float = 20.0,
    variation_weight: float = 0.2,
    keep_colours: bool = False,
    network: EfficientNetLite0 | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> torch.Tensor:
    """(C, H, W), (C, h, w) in [0, 1], C = 1 or 3 -> (3, H', W'): the content in the style.

    Both are resized so that the longer side has `size` pixels; one that is smaller stays as it is. The cost
    grows with the area, and memory with it, whatever the size of the photographs. Adam minimises the content
    loss + style_weight · the style loss + variation_weight · the total variation, from the content on. The
    image is rolled by a few pixels before each step, so that the strides of the network leave no pattern.
    With keep_colours=True only the luma changes [Gatys et al. 2016, arXiv:1606.05897, sec. 3]. Without
    `network` it is `vlmbook.pretrained.efficientnet_lite0()`. Raises TypeError or ValueError for what does
    not fit and for images that are too thin, WeightsMissing without the extra `pretrained`.
    """
    require_image(content, "content", channels=(1, 3))
    require_image(style, "style", channels=(1, 3))
    size = require_whole(size, "size", least=SMALLEST, most=MAX_SIDE)
    steps = require_whole(steps, "steps", most=10**6)
    style_weight = require_number(style_weight, "style_weight", least=0, most=1e6)
    variation_weight = require_number(variation_weight, "variation_weight", least=0, most=1e6)
    keep_colours = require_choice(keep_colours, "keep_colours", (False, True))
    progress = require_choice(progress, "progress", (False, True))
    generator = require_generator(generator)
    network = efficientnet_lite0() if network is None else network
    require_type(network, "network", EfficientNetLite0, "an EfficientNetLite0")

    dtype = content.dtype
    content = _prepare(content.detach(), size, "content").to(network.fc.weight)
    style = _prepare(style.detach(), size, "style").to(content)
    if keep_colours:
        style = rgb_to_ycbcr(style)[:1].expand(3, -1, -1)
    with evaluating(network):
        image = _optimise(content, style, network, steps, style_weight, variation_weight, generator, progress)
    if keep_colours:
        image = ycbcr_to_rgb(torch.cat([rgb_to_ycbcr(image)[:1], rgb_to_ycbcr(content)[1:]]))
    return as_kind(image.cpu(), dtype)


# --- what is minimised --------------------------------------------------------------------------------------


def gram_matrix(features: torch.Tensor) -> torch.Tensor:
    """(…, D, H, W) -> (…, D, D): G_ij, the mean over all pixels of feature i times feature j [Gatys et al.
    2016, eq. 3, divided by the number of pixels].

    Where in the image the features are does not matter: any order of the pixels has the same matrix. Raises
    TypeError or ValueError for what is no map of features.
    """
    require_tensor(features, "features", "… D H W")
    flat = features.flatten(-2)
    flat = flat.to(torch.promote_types(flat.dtype, torch.float32))
    return (flat @ flat.transpose(-1, -2) / flat.shape[-1]).to(features.dtype)


def style_loss(features: list[torch.Tensor], grams: list[torch.Tensor]) -> torch.Tensor:
    """list of (B, D, H, W), list of (B, D, D) -> scalar: the mean over the maps of ‖G − G*‖² / ‖G*‖².

    The division makes each map count equally, whatever the size of its values. Raises TypeError or ValueError
    for lists of different lengths, and for maps and matrices that do not fit.
    """
    _require_maps(features, "features")
    _require_maps(grams, "grams")
    if len(features) != len(grams):
        raise ValueError(f"grams wants {len(features)} matrices, one a map, got {len(grams)}")
    total = 0
    for level, (each, wanted) in enumerate(zip(features, grams, strict=True)):
        require_tensor(each, f"features[{level}]", "B D H W")
        require_tensor(wanted, f"grams[{level}]", "B D D", B=len(each), D=each.shape[1], device=each.device)
        total = total + _relative_square(gram_matrix(each), wanted)
    return total / len(features)


def content_loss(features: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """(B, D, H, W), (B, D, H, W) -> scalar: ‖F − F*‖² / ‖F*‖² [after Gatys et al. 2016, eq. 1].

    Raises TypeError or ValueError for maps that do not fit.
    """
    require_tensor(features, "features", "B D H W")
    sizes = dict(zip("BDHW", features.shape, strict=True))
    require_tensor(wanted, "wanted", "B D H W", device=features.device, **sizes)
    return _relative_square(features, wanted)


def total_variation(image: torch.Tensor) -> torch.Tensor:
    """(…, C, H, W) -> scalar: the mean absolute difference of neighbours, along rows and along columns.

    Raises TypeError or ValueError for sides below 2.
    """
    require_tensor(image, "image", "… C H W")
    if min(image.shape[-2:]) < 2:
        raise ValueError(f"image wants sides of at least 2, got {tuple(image.shape[-2:])}")
    return image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()


def _relative_square(x, wanted):
    return (x - wanted).square().sum() / wanted.square().sum().clamp(min=1e-12)


def _require_maps(maps, name):
    require_type(maps, name, (list, tuple), "a list of tensors")
    if not maps:
        raise ValueError(f"{name} wants at least one tensor, got none")


# --- how it is minimised ------------------------------------------------------------------------------------


def _optimise(content, style, network, steps, style_weight, variation_weight, generator, progress):
    """(3, H, W), (3, h, w) -> (3, H, W): the image that the three losses agree on."""
    content, style = content.clone(), style.clone()  # autograd takes no tensors of inference mode
    with torch.no_grad():
        grams = [gram_matrix(each) for each in first_features(network, style[None], BLOCKS)]
    image = content.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in tqdm(range(steps), disable=not progress, unit="step"):
        shift = torch.randint(LARGEST_ROLL, (2,), generator=generator).tolist()
        features = first_features(network, image.roll(shift, (1, 2))[None], BLOCKS)
        with torch.no_grad():
            wanted = first_features(network, content.roll(shift, (1, 2))[None], BLOCKS)[-1]
        loss = (
            content_loss(features[-1], wanted)
            + style_weight * style_loss(features, grams)
            + variation_weight * total_variation(image)
        )
        [image.grad] = torch.autograd.grad(loss, [image])
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            image.clamp_(0, 1)
    return image.detach()


def _prepare(image, size, name):
    """(C, H, W) -> (3, H', W') floating, its longer side at most `size`."""
    longer = max(image.shape[1:])
    scale = min(1, size / longer)
    height, width = (max(1, round(scale * side)) for side in image.shape[1:])
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"{name} wants sides of at least {SMALLEST} pixels at size {size}, got {height} and {width}"
        )
    small = as_floating(image).float() if scale == 1 else _shrink(image, height, width)
    return small.expand(3, -1, -1)


def _shrink(image, height, width):
    """(C, H, W) -> (C, height, width), a channel at a time, so that a large image needs little memory."""
    channels = [
        F.interpolate(
            as_floating(each[None])[None].float(), size=(height, width), mode="bicubic", antialias=True
        )
        for each in image
    ]
    return torch.cat(channels)[:, 0].clamp(0, 1)
