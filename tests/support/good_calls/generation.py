"""vlmbook.generation: four images and an untrained classifier."""

import torch

from tests.support.good_calls import Call
from vlmbook import generation
from vlmbook.resnet import small_resnet

IMAGES = torch.linspace(0, 1, 4 * 64).view(4, 1, 8, 8)
LABELS = torch.tensor([0, 1, 1, 0])


def classifier():
    return small_resnet(8, num_classes=2, in_channels=1).eval()


GOOD_CALLS = {
    "train_feature_classifier": lambda: Call(
        generation.train_feature_classifier,
        {
            "images": IMAGES,
            "labels": LABELS,
            "epochs": 1,
            "batch_size": 2,
            "lr": 0.01,
            "seed": 0,
            "precision": None,
        },
    ),
    "extract_features": lambda: Call(
        generation.extract_features, {"classifier": classifier(), "images": IMAGES}
    ),
    "score": lambda: Call(
        generation.score, {"classifier": classifier(), "samples": IMAGES, "held_out": IMAGES.flip(3)}
    ),
    "select_same_classes": lambda: Call(
        generation.select_same_classes,
        {"images": IMAGES, "labels": LABELS, "target_labels": torch.tensor([1, 0])},
    ),
}
