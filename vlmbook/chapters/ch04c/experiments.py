"""Computations of chapter 4c: how its two networks are trained, a network whose every dependence shows, the
next token, means over seeds.
"""

from pathlib import Path

import platformdirs
import torch
from torch import nn
from torch.nn import functional as F

from vlmbook import runtime
from vlmbook.gpt import GPT, filter_logits, gpt_loss, to_tokens
from vlmbook.training import History, fit

# --- training -----------------------------------------------------------------------------------------------

# Arguments of `fit`, in the quick profile and in the full one.
DIGITS = {"epochs": 14, "batch_size": 32, "lr": 8e-3, "warmup": 50, "weight_decay": 0.1, "clip": 1.0}
FASHION = {"epochs": 1, "batch_size": 32, "lr": 3e-3, "warmup": 100, "weight_decay": 0.1, "clip": 1.0}
FASHION_LEVELS = 16


def shrink(images: torch.Tensor) -> torch.Tensor:
    """(B, 1, 28, 28) in [0, 1] -> (B, 1, 14, 14): means of 2×2 pixels, at the nearest of 16 levels."""
    most = FASHION_LEVELS - 1
    return (F.avg_pool2d(images, 2) * most).round() / most


def make_fashion_gpt(pixels: int = 196) -> GPT:
    """-> GPT of four blocks for images of so many pixels, untrained: that of the weights `ch04c_fashion`."""
    return GPT(FASHION_LEVELS, pixels, 10, width=64, depth=4)


def train_fashion(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    precision: str | None = "bf16",
    checkpoint: Path | None = None,
) -> tuple[GPT, History]:
    """(N, 1, H, W) of `shrink`, (N,) -> GPT in evaluation mode, History: the run that made the weights
    `ch04c_fashion`.

    With a checkpoint it goes on where it stopped.
    """
    runtime.seed_everything(0)
    model = make_fashion_gpt(images[0].numel())
    history = fit(
        model,
        (to_tokens(images, FASHION_LEVELS), labels),
        loss_fn=gpt_loss,
        seed=0,
        precision=precision,
        checkpoint=checkpoint,
        checkpoint_every=None if checkpoint is None else 200,
        resume=checkpoint is not None,
        progress=False,
        **FASHION,
    )
    return model.eval(), history


def find_checkpoint() -> Path:
    """-> Path in the user's cache folder, from which the full run goes on after an interruption."""
    folder = platformdirs.user_cache_path("vlmbook", appauthor=False) / "training"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "ch04c_fashion.safetensors"


# --- what a network predicts --------------------------------------------------------------------------------


@torch.no_grad()
def amplify_weights(net: nn.Module) -> nn.Module:
    """A network -> the same, frozen: its weights are so large that every dependence on a token shows."""
    for parameter in net.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.4)
    return net.requires_grad_(False)


def take_prefix(image: torch.Tensor, pixel: int, levels: int) -> torch.Tensor:
    """(1, H, W), int -> (pixel − 1,) int64: the tokens before that pixel; pixels count from 1."""
    return to_tokens(image[None], levels)[0, : pixel - 1]


@torch.no_grad()
def predict_next(
    model: GPT, prefix: torch.Tensor, label: int, **options: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """GPT, (K,) tokens, class -> (V,), (V,): p of the next token as learned, and filtered by the options of
    `filter_logits`.
    """
    x = model.embed(prefix[None], torch.tensor([label]))
    logits = model.predict_logits(x)[:, -1]
    return logits.softmax(-1)[0], filter_logits(logits, **options).softmax(-1)[0]


def draw_labelled(labels: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """(N,) int64 -> (m,) int64: which images get a label, n // 10 of each of ten classes; all if n is N."""
    if n == len(labels):
        return torch.arange(n)
    mixed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = [mixed[labels[mixed] == label][: n // 10] for label in range(10)]
    return torch.cat(chosen)


def average_over_seeds(measurements: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """{measure: {setting: a value for each seed}} -> {measure: {setting: the mean}}."""
    return {
        measure: {setting: sum(values) / len(values) for setting, values in settings.items()}
        for measure, settings in measurements.items()
    }
