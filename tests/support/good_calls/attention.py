"""Good calls of `vlmbook.attention`."""

import torch

from tests.support.good_calls import Call
from vlmbook.attention import (
    Encoder,
    EncoderBlock,
    MultiHeadAttention,
    SpatialAttention,
    SqueezeExcitation,
    VisionTransformer,
    attention,
    rollout,
    to_patches,
    vit_b_16,
)

SIZES = {"width": 8, "depth": 2, "heads": 2, "mlp_width": 12}


def tokens(function):
    return Call(function, {"x": torch.randn(2, 5, 8)})


def images(function):
    return Call(function, {"x": torch.rand(2, 3, 6, 8)})


def encoder():
    return Encoder(tokens=5, **SIZES)


def transformer():
    return VisionTransformer((6, 8), 2, 5, **SIZES)


def vit_b_16_without_memory(**arguments):
    with torch.device("meta"):
        return vit_b_16(**arguments)


GOOD_CALLS = {
    "attention": lambda: Call(
        attention, {"q": torch.randn(2, 4, 3), "k": torch.randn(2, 5, 3), "v": torch.randn(2, 5, 6)}
    ),
    "MultiHeadAttention": lambda: Call(MultiHeadAttention, {"width": 8, "heads": 2}),
    "MultiHeadAttention.forward": lambda: Call(
        MultiHeadAttention(8, 2), {"x": torch.randn(2, 5, 8), "need_weights": True}
    ),
    "MultiHeadAttention.split_heads": lambda: tokens(MultiHeadAttention(8, 2).split_heads),
    "MultiHeadAttention.merge_heads": lambda: Call(
        MultiHeadAttention(8, 2).merge_heads, {"y": torch.randn(2, 2, 5, 4)}
    ),
    "SqueezeExcitation": lambda: Call(SqueezeExcitation, {"channels": 8, "reduction": 2}),
    "SqueezeExcitation.forward": lambda: images(SqueezeExcitation(3, 1)),
    "SqueezeExcitation.gate": lambda: images(SqueezeExcitation(3, 1).gate),
    "SpatialAttention": lambda: Call(SpatialAttention, {"kernel_size": 3}),
    "SpatialAttention.forward": lambda: images(SpatialAttention(3)),
    "SpatialAttention.gate": lambda: images(SpatialAttention(3).gate),
    "EncoderBlock": lambda: Call(EncoderBlock, {"width": 8, "heads": 2, "mlp_width": 12}),
    "EncoderBlock.forward": lambda: tokens(EncoderBlock(8, 2, 12)),
    "EncoderBlock.attention_weights": lambda: tokens(EncoderBlock(8, 2, 12).attention_weights),
    "Encoder": lambda: Call(Encoder, {"tokens": 5} | SIZES),
    "Encoder.forward": lambda: tokens(encoder()),
    "Encoder.add_positions": lambda: tokens(encoder().add_positions),
    "Encoder.attention_weights": lambda: tokens(encoder().attention_weights),
    "VisionTransformer": lambda: Call(
        VisionTransformer,
        {"image_size": (6, 8), "patch_size": 2, "num_classes": 5, "in_channels": 3} | SIZES,
    ),
    "VisionTransformer.forward": lambda: images(transformer()),
    "VisionTransformer.features": lambda: images(transformer().features),
    "VisionTransformer.embed": lambda: images(transformer().embed),
    "VisionTransformer.attention_weights": lambda: images(transformer().attention_weights),
    "vit_b_16": lambda: Call(
        vit_b_16_without_memory, {"num_classes": 5, "in_channels": 3, "image_size": (32, 48)}
    ),
    "to_patches": lambda: Call(to_patches, {"x": torch.rand(2, 3, 6, 8), "patch_size": 2}),
    "rollout": lambda: Call(
        rollout, {"attention_weights": [torch.rand(2, 3, 4, 4).softmax(-1) for _ in range(2)]}
    ),
}
