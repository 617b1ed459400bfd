"""Median time of our pretrained networks on one thread, an image at a time: EfficientNet-Lite0 beside
torchvision's MobileNetV2 (random weights), and the face embedder and its landmarks beside dlib (the extra
`pretrained` and dlib-bin).
"""

import argparse
import statistics
import sys
import time

import dlib
import numpy as np
import torch
import torchvision

from vlmbook import efficientnet, pretrained
from vlmbook.data import photo
from vlmbook.efficientnet import imagenet_input
from vlmbook.face_embedder import align_points

BARS = {"efficientnet_lite0": 1.5, "face_resnet": 0.5, "face_landmarks": 20.0}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
BOX = (175, 76, 266, 167)  # the face in photo("astronaut")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=20)
    repeats = arguments.parse_args().repeats
    torch.set_num_threads(1)
    print(
        f"one thread, an image at a time; torch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"dlib {dlib.__version__}, {repeats} interleaved repeats"
    )
    ratios = {}
    with torch.inference_mode():
        for name, layout in FORMATS.items():
            ratios[f"efficientnet_lite0, {name}"] = report(classifiers(layout), repeats)
            ratios[f"face_resnet, {name}"] = report(embedders(layout), repeats)
        ratios["face_landmarks"] = report(landmarks(), repeats)
    missed = [name for name, ratio in ratios.items() if ratio > BARS[name.split(",")[0]]]
    bars = ", ".join(f"{name} {bar:g}" for name, bar in BARS.items())
    print(f"bars, ours over theirs at most: {bars}; missed: {', '.join(missed) or 'none'}")
    sys.exit(bool(missed))


def report(ways, repeats):
    """dict of two functions, ours first -> float: the median seconds of ours over those of theirs."""
    seconds = {name: [] for name in ways}
    for repeat in range(repeats + 2):
        for name in sorted(ways, reverse=repeat % 2):  # neither is always the first
            began = time.perf_counter()
            ways[name]()
            if repeat >= 2:  # the first two warm up
                seconds[name].append(time.perf_counter() - began)
    medians = [statistics.median(times) for times in seconds.values()]
    told = ", ".join(f"{name} {1000 * median:.1f}" for name, median in zip(ways, medians, strict=True))
    print(f"median ms: {told} (ratio {medians[0] / medians[1]:.3f})")
    return medians[0] / medians[1]


def classifiers(layout):
    """224×224, 1,000 classes, eval mode."""
    torch.manual_seed(0)
    x = imagenet_input(photo("cat")).contiguous(memory_format=layout)
    ours = efficientnet.efficientnet_lite0().eval().to(memory_format=layout)
    theirs = torchvision.models.mobilenet_v2().eval().to(memory_format=layout)
    return {f"efficientnet_lite0 {layout}": lambda: ours(x), "torchvision's mobilenet_v2": lambda: theirs(x)}


def embedders(layout):
    """One aligned face of 150×150."""
    image, points = photo("astronaut"), pretrained.face_landmarks()(photo("astronaut"), torch.tensor(BOX))
    chip = align_points(image, points)
    pixels = as_bytes(chip)
    x = chip[None].contiguous(memory_format=layout)
    ours = pretrained.face_resnet().to(memory_format=layout)
    theirs = dlib.face_recognition_model_v1(str(pretrained.locate(pretrained.FACE_RESNET)))
    wanted = torch.tensor(list(theirs.compute_face_descriptor(pixels)))
    quantised = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    print(f"largest difference of the two embeddings {(ours(quantised)[0] - wanted).abs().max():.1e}")
    return {f"face_resnet {layout}": lambda: ours(x), "dlib": lambda: theirs.compute_face_descriptor(pixels)}


def landmarks():
    """Five points in a photograph of 512×512."""
    image, box = photo("astronaut"), torch.tensor(BOX)
    pixels, rectangle = as_bytes(image), dlib.rectangle(BOX[0], BOX[1], BOX[2] - 1, BOX[3] - 1)
    ours, theirs = (
        pretrained.face_landmarks(),
        dlib.shape_predictor(str(pretrained.locate(pretrained.FACE_LANDMARKS))),
    )
    return {"face_landmarks": lambda: ours(image, box), "dlib": lambda: theirs(pixels, rectangle)}


def as_bytes(image):
    """(3, H, W) in [0, 1] -> (H, W, 3) uint8."""
    return np.ascontiguousarray((255 * image).round().byte().permute(1, 2, 0).numpy())


if __name__ == "__main__":
    main()
