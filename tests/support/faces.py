"""A face pipeline without weights, for tests: the middle of an image is its face."""

import torch

from vlmbook.face_recognition import FacePipeline, SmallEmbedder


def central_box(image):
    """(C, H, W) -> (1, 4): the middle of the image; none of an image that is black."""
    height, width = image.shape[1:]
    found = image.max() > 0
    return torch.tensor([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]])[: int(found)]


def two_boxes(image):
    """(C, H, W) -> (2, 4): the left half and the right half."""
    height, width = image.shape[1:]
    return torch.tensor([[0.0, 0, width / 2, height], [width / 2, 0, width, height]])


def small_pipeline(seed=0, detect=central_box):
    """-> FacePipeline of a small network with random weights of this seed."""
    torch.manual_seed(seed)
    return FacePipeline(SmallEmbedder(3, width=8, stem=4, blocks=(1, 1)).eval(), detect=detect)
