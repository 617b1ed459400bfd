"""Good calls of vlmbook.detection.rpn."""

import torch

from tests.support.good_calls import Call
from vlmbook.detection.rpn import RegionProposalNetwork, RPNHead

X = torch.full((2, 3, 6, 7), 0.5)
BOXES = torch.tensor([[0.0, 1, 4, 5], [2, 2, 6, 6]])
TARGETS = [
    {"boxes": BOXES, "labels": torch.tensor([0, 1])},
    {"boxes": BOXES[:0], "labels": torch.tensor([0])[:0]},
]
OPTIONS = {
    "channels": 3,
    "sizes": (4, 8),
    "ratios": (0.5, 1.0),
    "pre_nms_top_n": 20,
    "post_nms_top_n": 10,
    "batch_size_per_image": 8,
}


def rpn():
    torch.manual_seed(0)
    return RegionProposalNetwork(**OPTIONS)


GOOD_CALLS = {
    "RPNHead": lambda: Call(RPNHead, {"channels": 3, "num_anchors": 2}),
    "RPNHead.forward": lambda: Call(rpn().head.forward, {"x": X}),
    "RegionProposalNetwork": lambda: Call(RegionProposalNetwork, dict(OPTIONS)),
    "RegionProposalNetwork.forward": lambda: Call(
        rpn().forward, {"x": X, "stride": (8, 8), "image_size": (48, 56)}
    ),
    "RegionProposalNetwork.select": lambda: Call(
        rpn().select, {"logits": torch.tensor([0.5, 0.25]), "boxes": BOXES, "image_size": (6, 7)}
    ),
    "RegionProposalNetwork.losses": lambda: Call(
        rpn().losses, {"proposals": rpn()(X, (8, 8), (48, 56)), "targets": TARGETS}
    ),
    "RegionProposalNetwork.match": lambda: Call(
        RegionProposalNetwork.match, {"anchors": BOXES, "boxes": BOXES + 1}
    ),
}
