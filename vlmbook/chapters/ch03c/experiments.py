"""What chapter 3c computes and is too long for one of its cells."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import platformdirs
import torch
from skimage.measure import label
from skimage.metrics import adapted_rand_error
from skimage.segmentation import watershed
from torch import Tensor, nn
from torch.nn import functional as F

from vlmbook import data, pretrained, runtime
from vlmbook.training import History, fit
from vlmbook.unet import UNet, cross_entropy_loss, dice_loss, dice_score, iou


def iou_by_threshold(probability: Tensor, truth: Tensor, steps: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """(n, H, W) in [0, 1], (n, H, W) of 0 and 1 -> (steps,), (steps,): the object's IoU at thresholds 0,
    1/steps, …
    """
    bins = (probability.flatten() * steps).long().clamp(max=steps - 1)
    above = bins.bincount(minlength=steps).flip(0).cumsum(0).flip(0).double()
    hits = bins.bincount(truth.flatten().double(), minlength=steps).flip(0).cumsum(0).flip(0)
    return np.arange(steps) / steps, (hits / (above + truth.sum() - hits)).numpy()


# --- membranes of ISBI 2012: the full run -------------------------------------------------------------------

LEARN, CHOOSE, TEST = slice(0, 21), slice(21, 24), slice(24, 30)  # slices of the stack


def find_checkpoint() -> Path:
    """-> Path in the user's cache folder, from which the full run goes on after an interruption."""
    folder = platformdirs.user_cache_path("vlmbook", appauthor=False) / "training"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "ch03c_membranes.safetensors"


def load_membranes() -> tuple[Tensor, Tensor]:
    """-> (30, 1, 512, 512) standardised, (30, 512, 512) with 1 for a membrane: the slices of ISBI 2012, in
    the order of the stack.

    Raises DataMissing where they are not in `data_folder()`.
    """
    folder = runtime.data_folder() / "membrane" / "train"
    pairs = data.image_mask_folders(folder / "image", folder / "label", channels=1)
    slices, cells = data.stack_images(pairs)
    slices = slices - slices.mean((2, 3), keepdim=True)
    return slices / slices.std((1, 2, 3), keepdim=True), 1 - cells[:, 0].long()  # white is a cell


def read_membrane_net() -> tuple[UNet, dict]:
    """-> UNet with the weights of the full run, in evaluation mode, and their card."""
    state, card = pretrained.ours("ch03c_membranes")
    net = make_membrane_net()
    net.load_state_dict(state)
    return net.eval(), card


def make_membrane_net() -> UNet:
    """-> UNet for grey slices: 12 channels at the top, four levels below, 1.1 M parameters."""
    return UNet(1, 2, width=12, depth=4)


def bend(x: Tensor, target: Tensor, strength: float = 0.08) -> tuple[Tensor, Tensor]:
    """(B, C, H, W), (B, H, W) -> the same, bent by one smooth random field: strength 0.08 moves a pixel by
    about 0.04 of the side.
    """
    push = F.interpolate(strength * torch.randn(1, 2, 4, 4), x.shape[2:], mode="bicubic").movedim(1, -1)
    still = F.affine_grid(torch.eye(2, 3)[None], (1, 1, *x.shape[2:]), align_corners=False)
    grid = (still + push).expand(len(x), -1, -1, -1)
    sample = partial(F.grid_sample, grid=grid, padding_mode="reflection", align_corners=False)
    return sample(x), sample(target[:, None].float(), mode="nearest")[:, 0].long()


def loss_on_crops(net: nn.Module, x: Tensor, target: Tensor, side: int = 128) -> Tensor:
    """network, (B, 1, H, W), (B, H, W) -> scalar: cross-entropy + Dice on a random crop, turned, mirrored,
    bent, brighter or darker.
    """
    top = torch.randint(x.shape[2] - side + 1, ()).item()
    left = torch.randint(x.shape[3] - side + 1, ()).item()
    turns = torch.randint(4, ()).item()
    x, target = (each[..., top : top + side, left : left + side] for each in (x, target))
    x, target = (each.rot90(turns, (-2, -1)) for each in (x, target))
    if torch.rand(()) < 0.5:
        x, target = x.flip(-1), target.flip(-1)
    x, target = bend(x, target)
    contrast, brightness = 1 + 0.2 * torch.randn(len(x), 1, 1, 1), 0.2 * torch.randn(len(x), 1, 1, 1)
    logits = net((contrast * x + brightness).contiguous(memory_format=torch.channels_last))
    return cross_entropy_loss(logits, target) + dice_loss(logits, target)


def train_on_membranes(
    slices: Tensor, target: Tensor, *, epochs: int, checkpoint: Path | None = None
) -> tuple[UNet, History]:
    """(N, 1, H, W) standardised, (N, H, W) with 1 for a membrane -> UNet in evaluation mode, History; with a
    checkpoint it goes on where it stopped.
    """
    runtime.seed_everything(0)
    net = make_membrane_net().to(memory_format=torch.channels_last)
    history = fit(
        net,
        (slices, target),
        loss_fn=loss_on_crops,
        epochs=epochs,
        batch_size=7,
        lr=3e-3,
        warmup=50,
        weight_decay=0.01,
        precision=runtime.autocast_precision(),
        checkpoint=checkpoint,
        checkpoint_every=None if checkpoint is None else 100,
        resume=checkpoint is not None,
        progress=False,
    )
    return net.eval(), history


def find_cells(membrane: Tensor, threshold: float, smallest: int = 20) -> np.ndarray:
    """(H, W) -> (H, W) int: the number of each pixel's cell; cells are where `membrane` is below the
    threshold.

    Specks of fewer than `smallest` pixels are no cells. Pixels above the threshold go to the cell from which
    a watershed reaches them.
    """
    height = membrane.float().numpy()
    seeds = label(height < threshold, connectivity=1)
    sizes = np.bincount(seeds.ravel())
    seeds[sizes[seeds] < smallest] = 0
    return watershed(height, seeds)


def rand_f1(membrane: Tensor, target: Tensor, threshold: float) -> float:
    """(n, H, W), (n, H, W) with 1 for a membrane -> float in [0, 1]: 1 is a perfect segmentation into cells.

    The F1 of pairs of pixels: of the pairs that lie in one cell, how many are put into one cell? Membrane
    pixels of the target do not count [Arganda-Carreras et al. 2015], mean over slices.
    """
    scores = []
    for score, wanted in zip(membrane, target, strict=True):
        cells = label((wanted == 0).numpy(), connectivity=1)
        error, *_ = adapted_rand_error(cells, find_cells(score, threshold), ignore_labels=(0,))
        scores.append(1 - error)
    return float(np.mean(scores))


THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # of the probability of a membrane


def compare_on_membranes(
    net: UNet, slices: Tensor, target: Tensor, forest_on: Callable, features: Callable
) -> tuple[dict[str, dict[str, float]], Tensor, np.ndarray]:
    """-> {method: {score: value}} on the test slices, of a threshold on brightness, a random forest and the
    network; the network's probability of a membrane on the first of them, and the cells found there.

    Each method's threshold for the membranes and for the cells is the best one on the slices CHOOSE.
    """
    forest = forest_on(slices[LEARN], target[LEARN], 60_000)

    def dark(x):
        return torch.sigmoid(-2 * x[:, 0])  # increasing with darkness, from 0 to 1

    def by_forest(x):
        return torch.from_numpy(forest.predict_proba(features(x).numpy())[:, 1]).view(-1, *x.shape[2:])

    @torch.no_grad()
    def by_net(x):
        return torch.cat([net(each[None]).softmax(1)[:, 1] for each in x])

    found = {}
    for name, method in {"threshold": dark, "random forest": by_forest, "U-Net": by_net}.items():
        chosen, tested = method(slices[CHOOSE]), method(slices[TEST])
        cut = max(THRESHOLDS, key=lambda t: iou((chosen > t).long(), target[CHOOSE], 2)[1].item())
        border = max(THRESHOLDS, key=lambda t: rand_f1(chosen, target[CHOOSE], t))
        prediction = (tested > cut).long()
        found[name] = {
            "IoU": iou(prediction, target[TEST], 2)[1].item(),
            "F1": dice_score(prediction, target[TEST], 2)[1].item(),
            "pixel error": (prediction != target[TEST]).float().mean().item(),
            "Rand F1": rand_f1(tested, target[TEST], border),
        }
    return found, tested[0], find_cells(tested[0], border)


# --- a drawn tissue -----------------------------------------------------------------------------------------


def draw_tissue(size: int, cells: int = 45, seed: int = 0) -> tuple[Tensor, Tensor]:
    """int -> (1, 1, size, size) in [0, 1], (1, size, size) with 1 for a membrane: cells with dark membranes
    between them, and dark bodies inside, as an electron microscope shows them, but drawn.
    """
    draws = torch.Generator().manual_seed(seed)

    def smooth(grain):
        coarse = torch.randn(1, 1, size // grain, size // grain, generator=draws)
        return F.interpolate(coarse, (size, size), mode="bicubic")[0, 0]

    line = torch.arange(size) / size
    place = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1)
    place = place + 0.02 * torch.stack([smooth(32), smooth(32)], -1)  # so that borders are curved
    centres = torch.rand(cells, 2, generator=draws)
    distance, nearest = torch.cdist(place.view(-1, 2), centres).topk(2, largest=False)
    gap = (distance[:, 1] - distance[:, 0]).view(size, size) * size  # pixels; 0 in the middle of a membrane
    image = 0.62 + 0.06 * torch.randn(cells, generator=draws)[nearest[:, 0]].view(size, size)
    bodies = torch.rand(2 * cells, 2, generator=draws)
    inside = torch.cdist(place.view(-1, 2), bodies).amin(1).view(size, size) * size
    image = image - 0.25 * torch.sigmoid(5 - inside) - 0.45 * torch.exp(-((gap / 4) ** 2))
    image = image + 0.04 * smooth(4) + 0.05 * smooth(1)
    return image.clamp(0, 1)[None, None], (gap < 4).long()[None]
