"""Good calls of vlmbook.editing.inpainting."""

import torch

from tests.support.good_calls import Call
from vlmbook.editing import inpainting

IMAGE = torch.full((3, 12, 14), 0.5)
MASK = torch.zeros(1, 12, 14).index_fill(1, torch.tensor([3, 4]), 1)


def network():
    return inpainting.GatedUNet(width=2, depth=1).eval()


GOOD_CALLS = {
    "GatedConv2d": lambda: Call(inpainting.GatedConv2d, {"in_channels": 2, "out_channels": 3}),
    "GatedConv2d.forward": lambda: Call(
        inpainting.GatedConv2d(2, 3).eval().forward, {"x": torch.ones(2, 2, 5, 6)}
    ),
    "GatedUNet": lambda: Call(inpainting.GatedUNet, {"width": 2, "depth": 1}),
    "GatedUNet.forward": lambda: Call(network().forward, {"x": torch.ones(2, 2, 5, 6)}),
    "GatedUNet.receptive_radius": lambda: Call(network().receptive_radius),
    "fill_image": lambda: Call(inpainting.fill_image, {"image": IMAGE, "mask": MASK, "tile": 8}),
    "fill_smoothly": lambda: Call(inpainting.fill_smoothly, {"images": IMAGE[None], "masks": MASK[None]}),
    "inpaint": lambda: Call(
        inpainting.inpaint,
        {"image": IMAGE, "mask": MASK, "network": network(), "tile": 8, "progress": False},
    ),
    "inpainter": lambda: Call(inpainting.inpainter),
    "load_inpainter": lambda: Call(inpainting.load_inpainter, {"state": network().state_dict()}),
    "inpainting_loss": lambda: Call(
        inpainting.inpainting_loss, {"network": network(), "images": IMAGE[None, :1], "masks": MASK[None]}
    ),
    "draw_masks": lambda: Call(
        inpainting.draw_masks, {"size": 6, "count": 2, "generator": torch.Generator()}
    ),
}
