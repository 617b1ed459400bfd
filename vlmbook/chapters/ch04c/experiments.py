"""Computations of chapter 4c: a network whose every dependence shows, the next token, means over seeds."""

import torch

from vlmbook.gpt import GPT, filter_logits, to_tokens


@torch.no_grad()
def amplify_weights(net: GPT) -> GPT:
    """GPT -> the same, frozen: its weights are so large that every dependence on a token shows."""
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


def average_over_seeds(measurements: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """{measure: {setting: a value for each seed}} -> {measure: {setting: the mean}}."""
    return {
        measure: {setting: sum(values) / len(values) for setting, values in settings.items()}
        for measure, settings in measurements.items()
    }
