"""The thirteen diagrams of §2.2 to §2.2.3 as boxes and arrows: as they are printed, and corrected."""

import itertools
from typing import NamedTuple


class Box(NamedTuple):
    """A box of a drawing; x to the right and y downwards in steps of the grid."""

    x: float
    y: float
    label: str
    new: bool = False  # only in the corrected drawing


class Arrow(NamedTuple):
    """From one box to another, by their keys."""

    start: str
    end: str
    new: bool = False
    bend: float = 0.0  # of the line; 0 is straight


class Sketch(NamedTuple):
    """One drawing."""

    boxes: dict[str, Box]
    arrows: tuple[Arrow, ...]


class Diagram(NamedTuple):
    """One architecture: what the book prints, {section: Sketch}, and the corrected drawing."""

    printed: dict[str, Sketch]
    corrected: Sketch


def chain(*labels: str) -> Sketch:
    """Labels -> Sketch: one box under the other, an arrow from each to the next."""
    keys = [str(number) for number in range(len(labels))]
    boxes = {key: Box(0, number, label) for number, (key, label) in enumerate(zip(keys, labels, strict=True))}
    arrows = tuple(Arrow(start, end) for start, end in itertools.pairwise(keys))
    return Sketch(boxes, arrows)


CNN = Diagram(
    {
        "§2.2": chain("input image", "convolution", "pooling", "fully connected", "output features"),
        "§2.2.3": chain("input image", "convolution", "ReLU", "pooling", "fully connected", "softmax"),
    },
    Sketch(
        {
            "image": Box(0, 0, "image"),
            "conv1": Box(0, 1, "conv, norm, ReLU", new=True),
            "pool1": Box(0, 2, "pooling"),
            "conv2": Box(0, 3, "conv, norm, ReLU", new=True),
            "pool2": Box(0, 4, "pooling", new=True),
            "flat": Box(0, 5, "flatten or mean", new=True),
            "linear": Box(0, 6, "linear"),
            "logits": Box(0, 7, "logits", new=True),
            "features": Box(1, 6, "features", new=True),
            "softmax": Box(1, 7, "softmax"),
        },
        (
            Arrow("image", "conv1"),
            Arrow("conv1", "pool1"),
            Arrow("pool1", "conv2", new=True),
            Arrow("conv2", "pool2", new=True),
            Arrow("pool2", "flat", new=True),
            Arrow("flat", "linear"),
            Arrow("linear", "logits", new=True),
            Arrow("flat", "features", new=True),
            Arrow("logits", "softmax", new=True),
        ),
    ),
)

RESNET = Diagram(
    {
        "§2.2": chain("input image", "convolution", "residual block", "convolution", "output features"),
        "§2.2.1": chain(
            "input image", "convolution", "ReLU", "convolution", "conv, stride 2", "ReLU",
            "convolution", "conv, stride 2", "ReLU", "convolution", "output features",
        ),
    },
    Sketch(
        {
            "x": Box(0, 0, "x"),
            "conv1": Box(0, 1, "convolution"),
            "relu1": Box(0, 2, "norm, ReLU", new=True),
            "conv2": Box(0, 3, "convolution"),
            "norm2": Box(0, 4, "norm", new=True),
            "short": Box(1, 2.5, "x itself,\nor 1×1 conv", new=True),
            "add": Box(0, 5, "add", new=True),
            "relu2": Box(0, 6, "ReLU"),
        },
        (
            Arrow("x", "conv1"),
            Arrow("conv1", "relu1"),
            Arrow("relu1", "conv2"),
            Arrow("conv2", "norm2"),
            Arrow("norm2", "add", new=True),
            Arrow("x", "short", new=True),
            Arrow("short", "add", new=True),
            Arrow("add", "relu2"),
        ),
    ),
)  # fmt: skip

UNET = Diagram(
    {
        "§2.2": chain(
            "input image", "convolution", "pooling", "deconvolution", "convolution", "output features"
        ),
        "§2.2.1": chain(
            "input image", "convolution", "ReLU", "pooling", "convolution", "ReLU",
            "deconvolution", "convolution", "ReLU", "output features",
        ),
    },
    Sketch(
        {
            "image": Box(0, 0, "image"),
            "down1": Box(0, 1, "conv, ReLU"),
            "pool1": Box(0, 2, "pooling"),
            "down2": Box(0, 3, "conv, ReLU"),
            "pool2": Box(0, 4, "pooling", new=True),
            "low": Box(1, 5, "conv, ReLU"),
            "up2": Box(2, 4, "up", new=True),
            "cat2": Box(2, 3, "concat, conv", new=True),
            "up1": Box(2, 2, "up"),
            "cat1": Box(2, 1, "concat, conv", new=True),
            "out": Box(2, 0, "class of\neach pixel"),
        },
        (
            Arrow("image", "down1"),
            Arrow("down1", "pool1"),
            Arrow("pool1", "down2"),
            Arrow("down2", "pool2"),
            Arrow("pool2", "low"),
            Arrow("low", "up2"),
            Arrow("up2", "cat2"),
            Arrow("cat2", "up1"),
            Arrow("up1", "cat1"),
            Arrow("cat1", "out"),
            Arrow("down1", "cat1", new=True),
            Arrow("down2", "cat2", new=True),
        ),
    ),
)  # fmt: skip

GAN = Diagram(
    {
        "§2.2": chain("generator", "generated image", "discriminator", "adversarial\ntraining"),
        "§2.2.2": chain("noise z", "generator G", "generated\nimage", "discriminator D", "loss", "optimizer"),
    },
    Sketch(
        {
            "z": Box(0, 0, "noise z"),
            "G": Box(0, 1, "generator G"),
            "fake": Box(0, 2, "generated\nimage"),
            "real": Box(2, 2, "real image", new=True),
            "D": Box(1, 3, "discriminator D"),
            "loss": Box(1, 4, "loss"),
            "step_G": Box(0, 5, "step of G", new=True),
            "step_D": Box(2, 5, "step of D", new=True),
        },
        (
            Arrow("z", "G"),
            Arrow("G", "fake"),
            Arrow("fake", "D"),
            Arrow("real", "D", new=True),
            Arrow("D", "loss"),
            Arrow("loss", "step_G", new=True),
            Arrow("loss", "step_D", new=True),
            Arrow("step_G", "G", new=True, bend=-0.35),
            Arrow("step_D", "D", new=True, bend=0.3),
        ),
    ),
)

VAE = Diagram(
    {
        "§2.2": chain("input image", "encoder", "mean and variance", "decoder", "generated image"),
        "§2.2.2": chain("image x", "encoder E", "μ and σ²", "decoder D", "generated\nimage x'"),
    },
    Sketch(
        {
            "x": Box(0, 0, "image x"),
            "enc": Box(0, 1, "encoder"),
            "mu": Box(0, 2, "μ, log σ²\n(vectors)"),
            "eps": Box(1, 3, "ε, random", new=True),
            "z": Box(0, 3, "z = μ + σ·ε", new=True),
            "dec": Box(0, 4, "decoder"),
            "out": Box(0, 5, "x'"),
            "kl": Box(1, 2, "KL loss", new=True),
            "rec": Box(1, 5, "loss of the\nreconstruction", new=True),
        },
        (
            Arrow("x", "enc"),
            Arrow("enc", "mu"),
            Arrow("mu", "z", new=True),
            Arrow("eps", "z", new=True),
            Arrow("z", "dec", new=True),
            Arrow("dec", "out"),
            Arrow("mu", "kl", new=True),
            Arrow("out", "rec", new=True),
        ),
    ),
)

GPT = Diagram(
    {
        "§2.2": chain("input data", "probability\ndistribution", "generative model", "generated data"),
        "§2.2.2": chain(
            "input data", "Transformer\nencoder", "self-attention", "features", "decoder", "generated data"
        ),
    },
    Sketch(
        {
            "past": Box(0, 0, "tokens 1 … t−1"),
            "embed": Box(0, 1, "embedding\nand position", new=True),
            "blocks": Box(0, 2, "blocks with masked\nself-attention", new=True),
            "p": Box(0, 3, "p(token t |\nearlier tokens)"),
            "draw": Box(0, 4, "draw token t", new=True),
            "append": Box(1, 2, "append", new=True),
        },
        (
            Arrow("past", "embed"),
            Arrow("embed", "blocks", new=True),
            Arrow("blocks", "p", new=True),
            Arrow("p", "draw", new=True),
            Arrow("draw", "append", new=True),
            Arrow("append", "past", new=True),
        ),
    ),
)

FASTER_RCNN = Diagram(
    {
        "§2.2.3": Sketch(
            {
                "image": Box(0.5, 0, "input image"),
                "cnn": Box(0.5, 1, "CNN"),
                "map": Box(0.5, 2, "feature map"),
                "rpn": Box(0.5, 3, "region proposal\nnetwork"),
                "class": Box(0, 4, "class branch"),
                "place": Box(1, 4, "box branch"),
                "p": Box(0, 5, "class\nprobabilities"),
                "box": Box(1, 5, "box\ncoordinates"),
            },
            (
                Arrow("image", "cnn"),
                Arrow("cnn", "map"),
                Arrow("map", "rpn"),
                Arrow("rpn", "class"),
                Arrow("rpn", "place"),
                Arrow("class", "p"),
                Arrow("place", "box"),
            ),
        )
    },
    Sketch(
        {
            "image": Box(0, 0, "image"),
            "cnn": Box(0, 1, "backbone"),
            "map": Box(0, 2, "feature map"),
            "rpn": Box(1, 3, "region proposal\nnetwork"),
            "nms": Box(1, 4, "proposals\nafter NMS", new=True),
            "roi": Box(0, 5, "RoI align", new=True),
            "head": Box(0, 6, "head", new=True),
            "p": Box(0, 7, "class scores"),
            "box": Box(1, 7, "box offsets"),
        },
        (
            Arrow("image", "cnn"),
            Arrow("cnn", "map"),
            Arrow("map", "rpn"),
            Arrow("rpn", "nms", new=True),
            Arrow("nms", "roi", new=True),
            Arrow("map", "roi", new=True),
            Arrow("roi", "head", new=True),
            Arrow("head", "p", new=True),
            Arrow("head", "box", new=True),
        ),
    ),
)

DIAGRAMS = {
    "CNN": CNN,
    "ResNet": RESNET,
    "U-Net": UNET,
    "GAN": GAN,
    "VAE": VAE,
    "GPT": GPT,
    "Faster R-CNN": FASTER_RCNN,
}
