"""Good calls of vlmbook.flow."""

import torch
from torch import nn

from tests.support.good_calls import Call
from vlmbook import flow

X = torch.full((2, 3, 8, 8), 0.5)
T = torch.tensor([0.2, 0.7])
LABELS = torch.tensor([0, 1])
PAIR = {"x": X, "t": T}


def model():
    torch.manual_seed(0)
    return flow.FlowUNet(8, 2, channels=3, widths=(8, 16)).eval()


GOOD_CALLS = {
    "interpolate": lambda: Call(flow.interpolate, {"noise": X, "images": X, "t": T}),
    "flow_matching_loss": lambda: Call(
        flow.flow_matching_loss,
        {"model": model(), "images": X, "labels": LABELS, "drop": 0.1, "noise": X, "t": T},
    ),
    "sample": lambda: Call(
        flow.sample,
        {
            "model": model(),
            "labels": LABELS,
            "steps": 1,
            "method": "euler",
            "guidance": 1.5,
            "noise": X,
            "start": 0.1,
            "generator": torch.Generator(),
        },
    ),
    "complete": lambda: Call(
        flow.complete,
        {
            "model": model(),
            "images": X,
            "mask": torch.ones(1, 1, 8, 8),
            "labels": LABELS,
            "steps": 2,
            "rounds": 2,
            "guidance": 1.5,
            "generator": torch.Generator(),
        },
    ),
    "guided_velocity": lambda: Call(
        flow.guided_velocity, {"model": model(), "x": X, "t": 0.5, "labels": LABELS, "guidance": 2.0}
    ),
    "optimal_velocity": lambda: Call(flow.optimal_velocity, PAIR | {"images": X}),
    "velocity_to_noise": lambda: Call(flow.velocity_to_noise, PAIR | {"velocity": X}),
    "noise_to_velocity": lambda: Call(flow.noise_to_velocity, PAIR | {"noise": X}),
    "velocity_to_image": lambda: Call(flow.velocity_to_image, PAIR | {"velocity": X}),
    "velocity_to_score": lambda: Call(flow.velocity_to_score, PAIR | {"velocity": X}),
    "score_to_velocity": lambda: Call(flow.score_to_velocity, PAIR | {"score": X}),
    "FlowUNet": lambda: Call(flow.FlowUNet, {"size": 8, "num_classes": 2, "channels": 3, "widths": (8, 16)}),
    "FlowUNet.forward": lambda: Call(model().forward, {"x": X, "t": T, "labels": LABELS}),
    "ResidualBlock": lambda: Call(flow.ResidualBlock, {"in_channels": 8, "channels": 16, "condition": 4}),
    "ResidualBlock.forward": lambda: Call(
        flow.ResidualBlock(8, 16, 4).forward, {"x": torch.ones(2, 8, 5, 6), "condition": torch.ones(2, 4)}
    ),
    "Fourier": lambda: Call(flow.Fourier, {"width": 8}),
    "Fourier.forward": lambda: Call(flow.Fourier(8).forward, {"t": T}),
    "Averaged": lambda: Call(flow.Averaged, {"network": nn.Linear(2, 3), "decay": 0.9}),
    # Averaged hands its inputs on to the network, which checks them.
    "Averaged.forward": lambda: Call(
        flow.Averaged(model()).forward, {"*inputs": (X, T, LABELS)}, ("*inputs",)
    ),
}
