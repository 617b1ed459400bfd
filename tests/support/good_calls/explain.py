"""vlmbook.explain: a classifier of four classes that takes images of any size, and two small images."""

import torch
from torch import nn

from tests.support.good_calls import Call
from vlmbook import explain

IMAGES = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 3])


def make_network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 4)
    return nn.Sequential(*layers).eval()


def asked(**more):
    return {"network": make_network(), "x": IMAGES, "target": TARGET, **more}


def asked_of_layer():
    network = make_network()
    return {"network": network, "layer": network[0], "x": IMAGES, "target": TARGET}


GOOD_CALLS = {
    "saliency": lambda: Call(explain.saliency, asked()),
    "integrated_gradients": lambda: Call(explain.integrated_gradients, asked(baseline=0.0, steps=2)),
    "grad_cam": lambda: Call(explain.grad_cam, asked_of_layer()),
    "occlusion": lambda: Call(explain.occlusion, asked(window=3, stride=2, value=0.0)),
    "deletion": lambda: Call(explain.deletion, asked(heat=IMAGES.mean(1), steps=2, value=0.0)),
    "randomise": lambda: Call(
        explain.randomise,
        {
            "network": make_network(),
            "modules": ["0"],
            "generator": torch.Generator().manual_seed(0),
        },
    ),
    "model_card": lambda: Call(
        explain.model_card,
        {"title": "a network", "sections": dict.fromkeys(explain.SECTIONS, "text")},
    ),
}
