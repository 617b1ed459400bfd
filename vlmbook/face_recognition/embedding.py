"""From an image to the embeddings of its faces: detect, align, embed.

An image is (1, H, W) or (3, H, W) floating in [0, 1]; a chip is a face that was cut out, upright and in one
size; an embedding is a vector, near to those of the same person.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.face_embedder import CHIP_SIZE, FaceLandmarks, align_face
from vlmbook.face_recognition.detection import detect_faces, require_image
from vlmbook.pretrained import face_landmarks, face_resnet
from vlmbook.resnet import BasicBlock, ResNet
from vlmbook.validation import (
    describe,
    require_callable,
    require_choice,
    require_pair,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

MOST_FACES = 1000  # in one image


# --- a network of our own -----------------------------------------------------------------------------------


class SmallEmbedder(nn.Module):
    """(B, C, H, W) in [0, 1] -> (B, width): a residual network of chapter 3b, whose output has length 1.

    The first step gives each image mean 0 and standard deviation 1, so that the light counts less. `stem` is
    the width of the first stage; each of `blocks` counts the residual blocks of a stage.
    """

    def __init__(
        self,
        in_channels: int = 1,
        *,
        width: int = 128,
        stem: int = 16,
        blocks: tuple[int, ...] = (1, 1, 1, 1),
    ):
        super().__init__()
        self.backbone = ResNet(BasicBlock, blocks, width, in_channels, width=stem, small=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", "B C H W", empty="B", C=self.backbone.conv1.in_channels)
        require_same_kind(x, "x", self.backbone.conv1.weight)
        return F.normalize(self.backbone(standardise(x)))


def standardise(x: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, H, W): each image less its mean, divided by its standard deviation.

    An image of one colour becomes 0. Raises TypeError or ValueError for what are no images.
    """
    require_tensor(x, "x", "B C H W", empty="B")
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide - wide.mean((1, 2, 3), keepdim=True)
    spread = centred.square().mean((1, 2, 3), keepdim=True).sqrt()
    return (centred / (spread + 1e-3)).to(x.dtype)


def embed(
    chips: torch.Tensor, network: nn.Module, *, mirror: bool = False, batch_size: int = 32
) -> torch.Tensor:
    """(B, C, H, W), Module -> (B, D): the embeddings, in batches, in eval mode and without gradients.

    With mirror=True each is the mean of those of the chip and its mirror image. The network comes back in
    the mode it came in. Raises TypeError or ValueError for what are no chips, and for a network that does not
    return one vector a chip.
    """
    require_tensor(chips, "chips", "B C H W", empty="B")
    require_type(network, "network", nn.Module, "a torch.nn.Module")
    require_choice(mirror, "mirror", (False, True))
    batch_size = require_whole(batch_size, "batch_size")
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode():
            parts = [_embed_batch(part, network, mirror) for part in _split(chips, batch_size)]
    finally:
        for module, mode in modes:
            module.training = mode
    return torch.cat(parts).clone()


def _split(chips, batch_size):
    """(B, …) -> batches; of no chips one empty batch, so that the width is known."""
    return chips.split(batch_size) if len(chips) else [chips]


def _embed_batch(chips, network, mirror):
    embeddings = network(chips)
    if not isinstance(embeddings, torch.Tensor) or embeddings.ndim != 2 or len(embeddings) != len(chips):
        raise ValueError(f"network wants to return (B, D), one vector a chip, got {describe(embeddings)}")
    return (embeddings + network(chips.flip(3))) / 2 if mirror else embeddings


# --- from a box to a chip -----------------------------------------------------------------------------------


def cut_faces(
    image: torch.Tensor, boxes: torch.Tensor, landmarks: FaceLandmarks | None = None, *, size: int = CHIP_SIZE
) -> torch.Tensor:
    """(C, H, W) with C of 1 or 3, (N, 4) xyxy -> (N, 3, size, size): one chip a box.

    With landmarks the face is aligned, else the box is cut out and resized. Pixels outside the image are
    black. Raises TypeError or ValueError for what is no image, and for boxes of less than 2×2 pixels.
    """
    require_image(image)
    require_tensor(boxes, "boxes", "N 4", empty="N", kind="any", least=-1e6, most=1e6)
    size = require_whole(size, "size", most=4096)
    if landmarks is not None:
        require_type(landmarks, "landmarks", FaceLandmarks, "a FaceLandmarks or None")
    if len(boxes) > MOST_FACES:
        raise ValueError(f"boxes wants at most {MOST_FACES} boxes, got {len(boxes)}")
    chips = [_cut_face(image, box, landmarks, size) for box in boxes]
    return torch.stack(chips) if chips else image.new_zeros((0, 3, size, size))


def _cut_face(image, box, landmarks, size):
    if landmarks is None:
        return crop_box(image, box, size)
    chip = align_face(image, box, landmarks)
    return chip if size == CHIP_SIZE else _resize(chip, (size, size))


def crop_box(image: torch.Tensor, box: torch.Tensor, size: int | tuple[int, int]) -> torch.Tensor:
    """(C, H, W), (4,) xyxy -> (3, H', W'): the box, resized; black outside the image.

    Raises TypeError or ValueError for what is no image, and for a box of less than 2×2 pixels.
    """
    require_image(image)
    require_tensor(box, "box", "4", kind="any", least=-1e6, most=1e6)
    height, width = require_pair(size, "size", most=4096)
    x1, y1, x2, y2 = box.detach().cpu().double().round().long().tolist()
    rows, columns = y2 - y1, x2 - x1
    if not (columns >= 2 and rows >= 2):
        raise ValueError(f"box wants x1, y1, x2, y2 that hold at least 2×2 pixels, got {box.tolist()}")
    if rows * columns > 64_000_000:
        raise ValueError(f"box wants at most 64,000,000 pixels, got {box.tolist()}")
    inner = image[:, max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    top, left = min(max(-y1, 0), rows - inner.shape[1]), min(max(-x1, 0), columns - inner.shape[2])
    crop = image.new_zeros((len(image), rows, columns))
    crop[:, top : top + inner.shape[1], left : left + inner.shape[2]] = inner
    return _resize(crop, (height, width)).expand(3, -1, -1).contiguous()


def _resize(image, size):
    wide = image[None].to(torch.promote_types(image.dtype, torch.float32))
    return F.interpolate(wide, size=size, mode="bilinear", antialias=True)[0].clamp(0, 1).to(image.dtype)


# --- the whole way ------------------------------------------------------------------------------------------


class Faces(NamedTuple):
    """The faces of one image, the largest first."""

    boxes: torch.Tensor  # (N, 4) xyxy, pixels
    chips: torch.Tensor  # (N, 3, 150, 150)
    embeddings: torch.Tensor  # (N, D) float32, on the CPU


class FacePipeline:
    """(C, H, W) in [0, 1] with C of 1 or 3 -> Faces: detect(image) gives the boxes, each is aligned by
    `landmarks` (None: cut out), `network` embeds it.

    `digest` identifies the network: embeddings of two networks are not comparable.
    """

    def __init__(
        self,
        network: nn.Module,
        landmarks: FaceLandmarks | None = None,
        *,
        detect: Callable[[torch.Tensor], torch.Tensor] = detect_faces,
        mirror: bool = False,
    ):
        self.network = require_type(network, "network", nn.Module, "a torch.nn.Module")
        if landmarks is not None:
            require_type(landmarks, "landmarks", FaceLandmarks, "a FaceLandmarks or None")
        self.landmarks = landmarks
        self.detect = require_callable(detect, "detect")
        self.mirror = require_choice(mirror, "mirror", (False, True))
        self.digest = digest_network(network)

    def __call__(self, image: torch.Tensor) -> Faces:
        require_image(image)
        boxes = self.detect(image)
        chips = cut_faces(image.float(), boxes, self.landmarks)
        parameter = next(self.network.parameters(), chips)  # its dtype and device are the network's
        embeddings = embed(chips.to(parameter), self.network, mirror=self.mirror)
        return Faces(boxes, chips, embeddings.float().cpu())


def pretrained_pipeline() -> FacePipeline:
    """-> FacePipeline of the LBP cascade, dlib's five landmarks and dlib's network.

    Raises `vlmbook.pretrained.WeightsMissing`, an OSError, without the extra `pretrained`.
    """
    return FacePipeline(face_resnet().to(memory_format=torch.channels_last), face_landmarks())


def digest_network(network: nn.Module) -> str:
    """Module -> str of 16 hexadecimal digits: a hash of its class, parameters and buffers. Raises
    TypeError.
    """
    require_type(network, "network", nn.Module, "a torch.nn.Module")
    digest = hashlib.sha256(type(network).__name__.encode())
    for name, value in network.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
