"""Good calls of `vlmbook.efficientnet`; its networks are in evaluation mode, since BatchNorm learns from
several pixels only.
"""

import torch

from tests.support.good_calls import Call
from vlmbook import efficientnet
from vlmbook.efficientnet import ConvNorm, EfficientNetLite0, InvertedResidual

WINDOW = {"kernel": 3, "stride": 2}
CHANNELS = {"in_channels": 3, "channels": 6}


def images(run):
    return Call(run, {"x": torch.rand(2, 3, 6, 7)})


GOOD_CALLS = {
    "same_padding": lambda: Call(efficientnet.same_padding, {"size": 7, **WINDOW}),
    "pad_same": lambda: Call(efficientnet.pad_same, {"x": torch.rand(2, 3, 6, 7), **WINDOW}),
    "ConvNorm": lambda: Call(ConvNorm, {**CHANNELS, **WINDOW, "groups": 3, "act": True}),
    "ConvNorm.forward": lambda: images(ConvNorm(3, 4, 3, 2).eval()),
    "InvertedResidual": lambda: Call(InvertedResidual, {**CHANNELS, **WINDOW, "expansion": 2}),
    "InvertedResidual.forward": lambda: images(InvertedResidual(3, 3, 3, 1, 2).eval()),
    "EfficientNetLite0": lambda: Call(EfficientNetLite0, {"num_classes": 5}),
    "EfficientNetLite0.features": lambda: images(EfficientNetLite0(5).eval().features),
    "EfficientNetLite0.pooled": lambda: images(EfficientNetLite0(5).eval().pooled),
    "EfficientNetLite0.forward": lambda: images(EfficientNetLite0(5).eval()),
    "efficientnet_lite0": lambda: Call(efficientnet.efficientnet_lite0, {"num_classes": 5}),
    "imagenet_input": lambda: Call(efficientnet.imagenet_input, {"images": torch.rand(2, 3, 6, 7)}),
    "class_names": lambda: Call(efficientnet.class_names),
}
