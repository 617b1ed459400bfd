"""Computer vision from 1959 to 2025: works with their year (of the first version), what they do, how many
parameters they have where the source says so, and the source.

Models in `COUNTED` are counted, not cited.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torchvision
from torch import nn

KINDS = ("biology", "features", "learning", "network", "generation", "data", "images and text")
DOES = ("", "encode", "generate", "both")  # an image into numbers, numbers into an image


class Work(NamedTuple):
    """A work: `parameters` is None where none is stated or where it is counted; `does` is one of DOES."""

    year: int
    name: str
    authors: str
    kind: str
    does: str
    parameters: float | None
    source: str


# fmt: off
WORKS = (
    Work(1959, "cells that see edges", "Hubel, Wiesel", "biology", "", None, "J. Physiology 148, 1959"),
    Work(1963, "Roberts: edges of blocks", "Roberts", "features", "encode", None, "PhD thesis, MIT, 1963"),
    Work(1980, "Neocognitron", "Fukushima", "network", "encode", None, "Biological Cybernetics 36, 1980"),
    Work(1986, "Canny edges", "Canny", "features", "encode", None, "IEEE PAMI 8(6), 1986"),
    Work(1986, "backpropagation", "Rumelhart, Hinton, Williams", "learning", "", None, "Nature 323, 1986"),
    Work(1988, "Harris corners", "Harris, Stephens", "features", "encode", None, "Alvey Vision Conf., 1988"),
    Work(1989, "CNN for zip codes", "LeCun et al.", "network", "encode", None, "Neural Comput. 1(4), 1989"),
    Work(1995, "support vector machine", "Cortes, Vapnik", "learning", "", None, "Machine Learning 20, 1995"),
    Work(1996, "local binary patterns", "Ojala et al.", "features", "encode", None,
         "Pattern Recognition 29(1), 1996"),
    Work(1997, "SVM finds faces", "Osuna, Freund, Girosi", "learning", "encode", None, "CVPR, 1997"),
    Work(1998, "LeNet-5", "LeCun et al.", "network", "encode", None, "Proc. IEEE 86(11), 1998"),
    Work(1999, "SIFT", "Lowe", "features", "encode", None, "ICCV, 1999"),
    Work(1999, "texture synthesis", "Efros, Leung", "generation", "generate", None, "ICCV, 1999"),
    Work(2001, "Viola-Jones faces", "Viola, Jones", "learning", "encode", None, "CVPR, 2001"),
    Work(2003, "Poisson editing", "Pérez, Gangnet, Blake", "generation", "generate", None,
         "ACM SIGGRAPH, 2003"),
    Work(2005, "HOG", "Dalal, Triggs", "features", "encode", None, "CVPR, 2005"),
    Work(2009, "ImageNet", "Deng et al.", "data", "", None, "CVPR, 2009"),
    Work(2009, "PatchMatch", "Barnes et al.", "generation", "generate", None, "ACM SIGGRAPH, 2009"),
    Work(2012, "AlexNet", "Krizhevsky, Sutskever, Hinton", "network", "encode", None, "NeurIPS, 2012"),
    Work(2013, "VAE", "Kingma, Welling", "generation", "both", None, "arXiv:1312.6114"),
    Work(2014, "GAN", "Goodfellow et al.", "generation", "generate", None, "arXiv:1406.2661"),
    Work(2014, "VGG-16", "Simonyan, Zisserman", "network", "encode", None, "arXiv:1409.1556"),
    Work(2014, "attention", "Bahdanau, Cho, Bengio", "learning", "", None, "arXiv:1409.0473"),
    Work(2015, "U-Net", "Ronneberger, Fischer, Brox", "network", "encode", None, "arXiv:1505.04597"),
    Work(2015, "DCGAN", "Radford, Metz, Chintala", "generation", "generate", None, "arXiv:1511.06434"),
    Work(2015, "ResNet-50", "He et al.", "network", "encode", None, "arXiv:1512.03385"),
    Work(2017, "Transformer", "Vaswani et al.", "learning", "", None, "arXiv:1706.03762"),
    Work(2018, "GPT (text only)", "Radford et al.", "learning", "", None, "OpenAI technical report, 2018"),
    Work(2020, "DDPM", "Ho, Jain, Abbeel", "generation", "generate", 35.7e6, "arXiv:2006.11239, app. B"),
    Work(2020, "iGPT-L", "Chen et al.", "generation", "both", 1.4e9, "ICML, 2020"),
    Work(2020, "ViT-B/16", "Dosovitskiy et al.", "network", "encode", None, "arXiv:2010.11929"),
    Work(2021, "DALL-E", "Ramesh et al.", "images and text", "generate", 12e9, "arXiv:2102.12092, sec. 1"),
    Work(2021, "CLIP", "Radford et al.", "images and text", "encode", None, "arXiv:2103.00020"),
    Work(2021, "latent diffusion", "Rombach et al.", "images and text", "generate", 1.45e9,
         "arXiv:2112.10752, sec. 4.3"),
    Work(2022, "Flamingo", "Alayrac et al.", "images and text", "encode", 80e9, "arXiv:2204.14198"),
    Work(2023, "ViT-22B", "Dehghani et al.", "network", "encode", 22e9, "arXiv:2302.05442, abstract"),
    Work(2023, "SAM", "Kirillov et al.", "network", "encode", None, "arXiv:2304.02643"),
    Work(2023, "DINOv2 ViT-g", "Oquab et al.", "network", "encode", 1.1e9, "arXiv:2304.07193"),
    Work(2024, "Stable Diffusion 3", "Esser et al.", "images and text", "generate", 8e9,
         "arXiv:2403.03206"),
    Work(2024, "SAM 2", "Ravi et al.", "network", "encode", None, "arXiv:2408.00714"),
    Work(2025, "Qwen2.5-VL-72B", "Bai et al.", "images and text", "encode", 72e9,
         "arXiv:2502.13923"),
    Work(2025, "DINOv3 ViT-7B", "Siméoni et al.", "network", "encode", 7e9, "arXiv:2508.10104"),
)
# fmt: on

# Which of the 6 feature maps each of the 16 maps of LeNet-5's second convolution sees [LeCun et al. 1998,
# table I]: six see 3 neighbours, six 4 neighbours, three 4 others, one all 6.
LENET_INPUTS = (3,) * 6 + (4,) * 9 + (6,)


class LeNet5Parts(nn.Module):
    """The trained parts of LeNet-5 as the paper counts them [LeCun et al. 1998, sec. II.B]: a subsampling has
    a factor and a bias for each map, and the outputs are fixed.
    """

    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.s2 = nn.ParameterList([torch.empty(6), torch.empty(6)])
        self.c3 = nn.ModuleList(nn.Conv2d(maps, 1, 5) for maps in LENET_INPUTS)
        self.s4 = nn.ParameterList([torch.empty(16), torch.empty(16)])
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)


COUNTED: dict[str, Callable[[], nn.Module]] = {
    "LeNet-5": LeNet5Parts,
    "AlexNet": lambda: torchvision.models.alexnet(),
    "VGG-16": lambda: torchvision.models.vgg16(),
    "ResNet-50": lambda: torchvision.models.resnet50(),
    "ViT-B/16": lambda: torchvision.models.vit_b_16(),
}


def count_models() -> dict[str, int]:
    """-> {name: parameters} of the models in COUNTED, built on the meta device, without any memory."""
    counts = {}
    for name, make in COUNTED.items():
        with torch.device("meta"):
            model = make()
        counts[name] = sum(weight.numel() for weight in model.parameters())
    return counts


def find_works(first: int, last: int) -> list[Work]:
    """-> the works of these years, the oldest first."""
    return [work for work in WORKS if first <= work.year <= last]
