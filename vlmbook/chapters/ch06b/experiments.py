"""Chapter 6b: photographs made small and spoiled, fillings of holes, textures, what the measures of quality
see, and two mistakes in training generators.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, shift
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, inpaint_biharmonic
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.utils import shuffle
from torch import nn
from torch.nn import functional as F

from vlmbook import data, pretrained, runtime
from vlmbook.chapters.ch04d.experiments import make_rivals
from vlmbook.data.images import to_tensor
from vlmbook.editing import (
    SubPixelNetwork,
    crop_to_multiple,
    cut_pairs,
    enlarge_bicubic,
    first_features,
    gram_matrix,
    luma_psnr,
    measure_inpainting,
    perceptual_distance,
    psnr,
    rgb_to_ycbcr,
    shrink_bicubic,
    ssim,
    style_loss,
    upscale,
    upscaling_loss,
)
from vlmbook.editing.quality import HoleScores
from vlmbook.efficientnet import EfficientNetLite0
from vlmbook.files import write_whole
from vlmbook.flow import FlowUNet, sample
from vlmbook.gan import Discriminator, discriminator_loss, non_saturating_loss
from vlmbook.metrics import frechet_distance
from vlmbook.training import fit

TRAINING = ("brick", "camera", "clock", "coins", "grass", "gravel", "hubble", "moon", "retina", "tissue")
HELD_OUT = ("astronaut", "cat", "coffee", "rocket")

# --- photographs --------------------------------------------------------------------------------------------


def cut_middle(image: torch.Tensor, size: int) -> torch.Tensor:
    """(C, H, W) -> (C, h, w), at most size × size, with sides that 4 divides."""
    height, width = (min(size, side) // 4 * 4 for side in image.shape[1:])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]


def cut_photos(names: Sequence[str], size: int) -> dict[str, torch.Tensor]:
    """Names of bundled photographs -> {name: (3, h, w)}, their middles; of the astronaut the upper part."""
    photographs = {name: data.photo(name) for name in names}
    if "astronaut" in photographs:
        photographs["astronaut"] = photographs["astronaut"][:, :size, :448]
    return {name: cut_middle(photograph, size) for name, photograph in photographs.items()}


def read_folder(*parts: str) -> dict[str, torch.Tensor]:
    """Folders below VLMBOOK_DATA -> {name: (C, H, W)}, by name; {} where the folder is not there."""
    folder = runtime.data_folder().joinpath(*parts)
    return {path.stem: data.read_image(path) for path in sorted(folder.glob("*.*")) if path.is_file()}


def shrink(image: torch.Tensor, factor: int = 2) -> torch.Tensor:
    """(C, H, W) -> (C, H/f, W/f), rounded to 8 bits as in a file."""
    return _round(shrink_bicubic(crop_to_multiple(image, factor), factor))


def _round(image):
    return image.clamp(0, 1).mul(255).round() / 255


# --- enlarging ----------------------------------------------------------------------------------------------


def measure_upscaling(
    methods: dict[str, Callable[[torch.Tensor], torch.Tensor]],
    photographs: Sequence[torch.Tensor],
    factor: int = 2,
    network: EfficientNetLite0 | None = None,
) -> dict[str, dict[str, list[float]]]:
    """{name: small -> large}, photographs -> {name: {"PSNR": […], "SSIM": […], "perceptual": […]}}, a value a
    photograph; the perceptual distance only with EfficientNet.
    """
    table = {name: {"PSNR": [], "SSIM": []} for name in methods}
    for photograph in photographs:
        reference = crop_to_multiple(photograph, factor)
        small = shrink(reference, factor)
        for name, enlarge in methods.items():
            large = _round(enlarge(small))
            table[name]["PSNR"].append(luma_psnr(large, reference, border=factor))
            table[name]["SSIM"].append(ssim(large, reference))
            if network is not None:
                distance = perceptual_distance(_as_rgb(large), _as_rgb(reference), network)
                table[name].setdefault("perceptual", []).append(distance)
    return table


def _as_rgb(image):
    return image.expand(3, -1, -1)


DEGRADATIONS = {
    "as in training": lambda image, generator: shrink(image),
    "noise, σ = 3/255": lambda image, generator: _add_noise(shrink(image), 3, generator),
    "noise, σ = 10/255": lambda image, generator: _add_noise(shrink(image), 10, generator),
    "JPEG, quality 80": lambda image, generator: compress(shrink(image), 80),
    "JPEG, quality 30": lambda image, generator: compress(shrink(image), 30),
    "every second pixel": lambda image, generator: _round(image[:, ::2, ::2]),
    "the same, shift corrected": lambda image, generator: _round(_take_between(image)),
    "blurred before": lambda image, generator: shrink(blur(image, 1.5)),
}


def measure_degradations(
    enlarge: Callable[[torch.Tensor], torch.Tensor], photographs: Sequence[torch.Tensor]
) -> dict[str, list[float]]:
    """small -> large, photographs -> {how the small image was made: gain in dB over bicubic, a value a
    photograph}.
    """
    gains = {}
    for name, degrade in DEGRADATIONS.items():
        generator = torch.Generator().manual_seed(0)
        gains[name] = [
            _measure_gain(enlarge, degrade(photograph, generator), photograph) for photograph in photographs
        ]
    return gains


def _measure_gain(enlarge, small, photograph):
    return luma_psnr(enlarge(small), photograph, border=2) - luma_psnr(
        enlarge_bicubic(small, 2).clamp(0, 1), photograph, border=2
    )


def _take_between(image):
    """(C, H, W) -> (C, H/2, W/2): the values in the middle of each square of 2×2 pixels, by splines, not
    blurred.
    """
    moved = shift(image.numpy(), (0, -0.5, -0.5), order=5, mode="mirror")
    return torch.from_numpy(moved[:, ::2, ::2])


def _add_noise(image, sigma, generator):
    return _round(image + sigma / 255 * torch.randn(image.shape, generator=generator))


class _Variant(nn.Module):
    """(B, 1, H, W) -> (B, 1, 2H, 2W): a small network of section 3 that may lack some of its shortcuts."""

    def __init__(self, *, interpolation: bool = True, residual: bool = True, width: int = 16, depth: int = 3):
        super().__init__()
        self.interpolation, self.residual = interpolation, residual
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList(_two_convolutions(width) for _ in range(depth))
        self.last = nn.Conv2d(width, 4, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x):
        y = features = self.first(x)
        for block in self.blocks:
            y = y + block(y) if self.residual else block(y)
        detail = F.pixel_shuffle(self.last(y + features), 2)
        return detail + enlarge_bicubic(x, 2) if self.interpolation else detail


def _two_convolutions(width):
    """He's initial weights, with which the signal keeps its size, with and without a shortcut."""
    layers = nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
    )
    for conv in (layers[0], layers[2]):
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)
    return layers


def _squared_error(network, small, large):
    return F.mse_loss(network(small), large)


ABLATIONS = {
    "complete": ({}, upscaling_loss),
    "complete, squared error": ({}, _squared_error),
    "no bicubic shortcut": ({"interpolation": False}, upscaling_loss),
    "no shortcuts in the blocks": ({"residual": False}, upscaling_loss),
}


def ablate_upscaler(
    training: Sequence[torch.Tensor],
    held_out: Sequence[torch.Tensor],
    *,
    count: int,
    seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, list[float]]:
    """-> {variant: mean gain in dB over bicubic on the held-out photographs, a value a seed}; all variants of
    one seed see the same squares in the same order.
    """
    gains = {name: [] for name in ABLATIONS}
    for seed in seeds:
        pairs = cut_pairs(training, 2, size=24, count=count, generator=torch.Generator().manual_seed(seed))
        for name, (parts, loss_fn) in ABLATIONS.items():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = _Variant(**parts)
            settings = {"epochs": 1, "batch_size": 16, "lr": 2e-3, "seed": seed, "progress": False}
            fit(network, pairs, loss_fn=loss_fn, optimizer=torch.optim.Adam, **settings)
            gains[name].append(_measure_mean_gain(network.eval(), held_out))
    return gains


@torch.no_grad()
def _measure_mean_gain(network, photographs):
    """Of the luma."""
    lumas = [take_luma(photograph) for photograph in photographs]
    gains = [_measure_gain(lambda small: network(small[None])[0].clamp(0, 1), shrink(y), y) for y in lumas]
    return sum(gains) / len(gains)


def take_luma(image: torch.Tensor) -> torch.Tensor:
    """(3, H, W) -> (1, H, W), ITU-R BT.601."""
    return rgb_to_ycbcr(image)[:1]


# --- filling holes ------------------------------------------------------------------------------------------


def fill_biharmonic(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(C, H, W), (1, H, W) -> (C, H, W): by scikit-image, Δ²u = 0 in the hole [Damelin & Hoang 2018]."""
    filled = inpaint_biharmonic(image.numpy(), mask[0].bool().numpy(), channel_axis=0)
    return torch.from_numpy(filled).float().clamp(0, 1)


def fill_with_mean(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(C, H, W), (1, H, W) -> (C, H, W): each hole gets the mean colour of the known pixels."""
    known = (mask == 0)[0]
    return torch.where(known, image, image[:, known].mean(1).view(-1, 1, 1))


def empty(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(C, H, W), (1, H, W) -> (C, H, W): the pixels of the hole become grey, so that no method sees them."""
    return torch.where(mask > 0, 0.5, image)


def list_psnr(scores: dict[str, dict[str, HoleScores]]) -> dict[str, dict[str, list[float]]]:
    """What `measure_inpainting` gives -> {kind of hole: {name: PSNR inside the hole in dB, a value a
    photograph}}.
    """
    return {
        kind: {name: values.psnr.tolist() for name, values in fillings.items()}
        for kind, fillings in scores.items()
    }


def measure_denoising(
    methods: dict[str, Callable[[torch.Tensor, float], torch.Tensor]],
    photographs: Sequence[torch.Tensor],
    levels: Sequence[int] = (10, 25, 50),
) -> dict[int, dict[str, list[float]]]:
    """{name: (image, sigma) -> image}, photographs -> {noise level of 255: {name: PSNR in dB, a value a
    photograph}}; each method gets the same noise, and its true level.
    """
    table = {}
    for level in levels:
        generator = torch.Generator().manual_seed(level)
        noisy = [x + level / 255 * torch.randn(x.shape, generator=generator) for x in photographs]
        table[level] = {
            name: [
                psnr(clean(image.clamp(0, 1), level / 255), truth)
                for image, truth in zip(noisy, photographs, strict=True)
            ]
            for name, clean in methods.items()
        }
    return table


def denoise_by_means(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """(C, H, W), σ -> (C, H, W): non-local means [Buades et al. 2005], by scikit-image."""
    options = {"sigma": sigma, "h": 0.6 * sigma, "patch_size": 5, "patch_distance": 6, "fast_mode": True}
    return torch.from_numpy(denoise_nl_means(image.numpy(), channel_axis=0, **options)).float()


def denoise_by_variation(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """(C, H, W), σ -> (C, H, W): total variation [Rudin et al. 1992; Chambolle 2004], by scikit-image; its
    strength 0.8 σ, like that of `denoise_by_means`, is the best on the training photographs.
    """
    cleaned = denoise_tv_chambolle(image.numpy(), weight=0.8 * sigma, channel_axis=0)
    return torch.from_numpy(cleaned).float().clamp(0, 1)


# --- texture ------------------------------------------------------------------------------------------------


def synthesise_texture(
    network: EfficientNetLite0,
    style: torch.Tensor,
    blocks: int,
    *,
    steps: int = 60,
    size: int = 96,
    seed: int = 0,
) -> torch.Tensor:
    """(3, h, w) -> (3, size, size): noise, changed until its Gram matrices up to so many blocks are those of
    the style.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        wanted = [gram_matrix(each) for each in first_features(network, style[None], blocks)]
    image = (0.5 + 0.15 * torch.randn(3, size, size, generator=generator)).clamp(0, 1).requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.03)
    for _ in range(steps):
        shift = torch.randint(8, (2,), generator=generator).tolist()
        loss = style_loss(first_features(network, image.roll(shift, (1, 2))[None], blocks), wanted)
        [image.grad] = torch.autograd.grad(loss, [image])
        optimizer.step()
        with torch.no_grad():
            image.clamp_(0, 1)
    return image.detach()


# --- what the measures see ----------------------------------------------------------------------------------


def blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """(C, H, W) -> (C, H, W): a Gaussian blur, its borders repeated."""
    return torch.from_numpy(gaussian_filter(image.numpy(), (0, sigma, sigma), mode="nearest", truncate=3))


def compress(image: torch.Tensor, quality: int) -> torch.Tensor:
    """(C, H, W) -> (C, H, W): written as JPEG and read again."""
    pixels = image.expand(3, -1, -1).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return to_tensor(Image.open(file))[: len(image)]


def _shift(image, pixels):
    return image.roll(round(pixels), 2)


def _brighten(image, amount):
    return image + amount


def _noise(image, sigma):
    return image + sigma * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))


def _pixelate(image, share):
    """Squares of 8×8 pixels become their means, to a share."""
    height, width = image.shape[1:]
    coarse = F.avg_pool2d(image[None], 8, ceil_mode=True, count_include_pad=False)
    squares = F.interpolate(coarse, scale_factor=8)[0, :, :height, :width]
    return torch.lerp(image, squares, share)


# name: (distortion(image, strength), the strongest)
DISTORTIONS = {
    "brighter": (_brighten, 0.5),
    "noise": (_noise, 0.5),
    "blurred": (blur, 12.0),
    "squares": (_pixelate, 1.0),
}


def match_psnr(image: torch.Tensor, target: float) -> dict[str, torch.Tensor]:
    """(3, H, W), dB -> {distortion: (3, H, W)}: each with this PSNR, found by halving the interval of the
    strength.
    """
    return {name: _match(image, *distortion, target) for name, distortion in DISTORTIONS.items()}


def _match(image, distort, most, target):
    least = 0.0
    for _ in range(18):
        strength = (least + most) / 2
        if psnr(distort(image, strength).clamp(0, 1), image) > target:
            least = strength
        else:
            most = strength
    return distort(image, least).clamp(0, 1)


SEVERITIES = {
    "noise": (0.02, 0.05, 0.1, 0.2),
    "blur": (0.7, 1.5, 3.0, 6.0),
    "JPEG": (60, 25, 10, 4),
}


def sweep_severity(
    image: torch.Tensor, network: EfficientNetLite0 | None
) -> dict[str, dict[str, list[float]]]:
    """(3, H, W) -> {distortion: {measure: a value for each of four severities}}."""
    make = {"noise": _noise, "blur": blur, "JPEG": compress}
    table = {}
    for name, strengths in SEVERITIES.items():
        spoiled = [make[name](image, strength).clamp(0, 1) for strength in strengths]
        table[name] = {"PSNR": [psnr(x, image) for x in spoiled], "SSIM": [ssim(x, image) for x in spoiled]}
        if network is not None:
            table[name]["perceptual"] = [perceptual_distance(x, image, network) for x in spoiled]
    return table


def measure_squares(
    network: EfficientNetLite0, images: Sequence[torch.Tensor], others: Sequence[torch.Tensor], size: int = 48
) -> float:
    """Photographs, their edited twins -> Fréchet distance between the features of all their squares of
    size × size pixels.
    """
    return frechet_distance(_square_features(network, images, size), _square_features(network, others, size))


@torch.no_grad()
def _square_features(network, images, size):
    squares = [
        image[:, top : top + size, left : left + size]
        for image in map(_as_rgb, images)
        for top in range(0, image.shape[1] - size + 1, size // 2)
        for left in range(0, image.shape[2] - size + 1, size // 2)
    ]
    return torch.cat(
        [
            first_features(network, torch.stack(squares[i : i + 64]), 3)[-1].mean((2, 3))
            for i in range(0, len(squares), 64)
        ]
    )


# --- two mistakes in training generators --------------------------------------------------------------------


def follow_discriminator(
    steps: Sequence[int] = (0, 25, 50, 100, 200, 400), seeds: Sequence[int] = (0, 1, 2)
) -> dict[str, list[list[float]]]:
    """-> {"steps": …, "generator's loss": a row a seed, "discriminator's loss": a row a seed}: of one fixed
    generator of digits, judged by a discriminator that is trained longer and longer; on images that the
    discriminator was not trained on.
    """
    images, labels = data.digits("train")
    gan = make_rivals(images, labels, quick=True).draw["GAN"]
    held_out, _ = data.digits("test")
    found = {"steps": list(steps), "generator's loss": [], "discriminator's loss": []}
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            rows = _train_discriminator(images, gan(len(images)), held_out, gan(len(held_out)), steps)
        for name, row in zip(("generator's loss", "discriminator's loss"), rows, strict=True):
            found[name].append(row)
    return found


def _train_discriminator(images, fakes, held_out, held_out_fakes, steps):
    """-> the generator's and the discriminator's loss after each of so many steps."""
    net = Discriminator(images.shape[-1], width=16)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.5, 0.99))
    generator_losses, discriminator_losses = [], []
    for step in range(max(steps) + 1):
        if step in steps:
            with torch.no_grad():
                real, fake = net(held_out), net(held_out_fakes)
                generator_losses.append(non_saturating_loss(fake).item())
                discriminator_losses.append(discriminator_loss(real, fake).item())
        real, fake = (x[torch.randint(len(x), (64,))] for x in (images, fakes))
        optimizer.zero_grad()
        discriminator_loss(net(real), net(fake)).backward()
        optimizer.step()
    return generator_losses, discriminator_losses


def rotate_images(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W), (N,) -> (N, 1, H, W): each turned by its angle, bilinear."""
    angle = degrees.deg2rad()
    zero = torch.zeros_like(angle)
    rows = [
        torch.stack(row, 1) for row in ((angle.cos(), -angle.sin(), zero), (angle.sin(), angle.cos(), zero))
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def measure_slant(images: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W) -> (N,): the angle in degrees between the long axis of the ink and the vertical, from its
    second moments.
    """
    ink = images.clamp(min=0)[:, 0]
    ink = ink / ink.sum((1, 2), keepdim=True).clamp(min=1e-6)
    y = torch.arange(ink.shape[1], dtype=ink.dtype).view(1, -1, 1)
    x = torch.arange(ink.shape[2], dtype=ink.dtype).view(1, 1, -1)
    dy = y - (ink * y).sum((1, 2), keepdim=True)
    dx = x - (ink * x).sum((1, 2), keepdim=True)
    yy, xx, xy = ((ink * each).sum((1, 2)) for each in (dy * dy, dx * dx, dx * dy))
    return torch.rad2deg(0.5 * torch.atan2(2 * xy, yy - xx))


def sample_ones(largest: float, *, n: int = 300, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Degrees -> (M, 1, 16, 16), (n, 1, 16, 16): the digits 1, each turned ten times by up to so many
    degrees, and samples of a density model of these images: twenty Gaussians in the space of twenty
    principal components.
    """
    images, labels = data.digits("train", size=16)
    ones = images[labels == 1].repeat(10, 1, 1, 1)
    generator = torch.Generator().manual_seed(seed)
    turned = rotate_images(ones, largest * (2 * torch.rand(len(ones), generator=generator) - 1))
    pixels = turned.flatten(1).double().numpy()
    components = PCA(20, random_state=seed).fit(pixels)
    codes = components.transform(pixels)
    model = GaussianMixture(20, random_state=seed, reg_covar=1e-3).fit(codes)
    drawn = components.inverse_transform(shuffle(model.sample(n)[0], random_state=seed))
    return turned, torch.from_numpy(drawn).float().clamp(0, 1).view(-1, 1, 16, 16)


# --- the sets that papers measure on ------------------------------------------------------------------------


def measure_sets(upscalers: dict[str, Callable], fillers: dict[str, Callable]) -> dict[str, Any]:
    """Methods of sections 3 and 5 -> in the full profile, what they reach on Set5 and on the paintings and
    photographs of the folder `style`, where VLMBOOK_DATA holds them; {} in the quick profile.
    """
    if runtime.pick(quick=True, full=False):
        return {}
    set5 = list(read_folder("superres", "Set5").values())
    if not set5:
        return {}
    in_eight = {"shipped weights, mean of eight positions": lambda x: upscale(x, 2, ensemble=True)}
    measured = {"set5_x2": measure_upscaling(upscalers | in_eight, set5)}
    for factor in (3, 4):
        larger = {
            "bicubic": lambda x, factor=factor: enlarge_bicubic(x, factor),
            "shipped weights": lambda x, factor=factor: upscale(x, factor),
        }
        measured[f"set5_x{factor}"] = measure_upscaling(larger, set5, factor)
    middles = [cut_middle(photograph, 256) for photograph in set5]
    measured["set5_filling"] = list_psnr(measure_inpainting(middles, fillers, each=16))
    pictures = list(read_folder("style").values())
    if pictures:
        measured["style_x2"] = measure_upscaling(upscalers, pictures)
    return measured


# --- clothes to edit ----------------------------------------------------------------------------------------


def draw_clothes(label: int, n: int, *, seed: int = 0) -> torch.Tensor:
    """Class of Fashion-MNIST, int -> (n, 1, 28, 28): generated by chapter 4d's flow, from its shipped
    weights. So the chapter needs no download.
    """
    state, _ = pretrained.ours("ch04d_fashion")
    model = FlowUNet(28, 10)
    model.load_state_dict(state)
    generator = torch.Generator().manual_seed(seed)
    return sample(model.eval(), torch.full((n,), label), 4, generator=generator).clamp(0, 1)


# --- deployment ---------------------------------------------------------------------------------------------


class AddedDetail(nn.Module):
    """(B, 1, H, W) -> (B, 1, fH, fW): what a SubPixelNetwork adds to the bicubic interpolation."""

    def __init__(self, network: SubPixelNetwork):
        super().__init__()
        self.network = network

    def forward(self, x):
        y = features = self.network.first(x)
        for block in self.network.blocks:
            y = y + block.conv2(F.relu(block.conv1(y)))
        return F.pixel_shuffle(self.network.last(features + y), self.network.factor)


def export_upscaler(network: SubPixelNetwork, path: Path) -> None:
    """Network, path -> None: `AddedDetail` written as ONNX, height and width free. The interpolation is left
    out, because each image library has it.
    """
    height, width = (torch.export.Dim(name, min=8, max=4096) for name in ("height", "width"))
    program = torch.onnx.export(
        AddedDetail(network).eval(),
        (torch.rand(1, 1, 40, 56),),
        dynamo=True,
        input_names=["x"],
        dynamic_shapes=({2: height, 3: width},),
        verbose=False,
    )
    write_whole(path, program.model_proto.SerializeToString(), replace=True)
