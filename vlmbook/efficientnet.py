"""EfficientNet-Lite0: depthwise separable convolutions in inverted residual blocks [Tan & Le 2019,
arXiv:1905.11946; Sandler et al. 2018, arXiv:1801.04381].

The "Lite" networks leave out squeeze-and-excitation and use ReLU6 in place of SiLU, so that small devices can
run them. The layout and the padding are those of TensorFlow's EfficientNet-Lite, so that its ImageNet weights
fit (`vlmbook.pretrained.efficientnet_lite0`).
"""

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.validation import require_same_kind, require_tensor, require_type, require_whole

STEM_WIDTH, HEAD_WIDTH = 32, 1280
# One row a block: kernel, stride, expansion, output channels.
BLOCKS = (
    (3, 1, 1, 16),
    (3, 2, 6, 24),
    (3, 1, 6, 24),
    (5, 2, 6, 40),
    (5, 1, 6, 40),
    (3, 2, 6, 80),
    (3, 1, 6, 80),
    (3, 1, 6, 80),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
    (5, 2, 6, 192),
    (5, 1, 6, 192),
    (5, 1, 6, 192),
    (5, 1, 6, 192),
    (3, 1, 6, 320),
)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """int, int, int -> (before, after): the zeros along one axis with which ⌈size / stride⌉ windows fit.

    This is TensorFlow's padding "SAME". An odd zero comes after the image. PyTorch's symmetric padding has
    equally many zeros on both sides: a convolution with a stride then reads other pixels.
    """
    require_whole(size, "size")
    require_whole(kernel, "kernel")
    require_whole(stride, "stride")
    windows = -(-size // stride)
    zeros = max((windows - 1) * stride + kernel - size, 0)
    return zeros // 2, zeros - zeros // 2


def pad_same(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, H', W'): zeros around x, as `same_padding` counts them."""
    require_tensor(x, "x", "B C H W", empty="B")
    top, bottom = same_padding(x.shape[2], kernel, stride)
    left, right = same_padding(x.shape[3], kernel, stride)
    return F.pad(x, (left, right, top, bottom))


class ConvNorm(nn.Module):
    """(B, C, H, W) -> (B, D, ⌈H/s⌉, ⌈W/s⌉): SAME padding, convolution, batch normalisation, ReLU6 if `act`.

    The kernel is odd: with a stride of 1 its padding is symmetric, and `nn.Conv2d` does it without a copy of
    x.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        act: bool = True,
    ):
        in_channels = require_whole(in_channels, "in_channels")
        channels = require_whole(channels, "channels")
        kernel = require_whole(kernel, "kernel")
        stride = require_whole(stride, "stride")
        groups = require_whole(groups, "groups")
        require_type(act, "act", bool, "True or False")
        if kernel % 2 == 0:
            raise ValueError(f"kernel wants to be odd, got {kernel}")
        if in_channels % groups or channels % groups:
            raise ValueError(f"groups wants to divide {in_channels} and {channels} channels, got {groups}")
        super().__init__()
        self.kernel, self.stride = kernel, stride
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=1e-3)
        self.act = nn.ReLU6(inplace=True) if act else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", "B C H W", empty="B", C=self.conv.in_channels)
        require_same_kind(x, "x", self.conv.weight)
        if self.stride > 1:
            x = pad_same(x, self.kernel, self.stride)
        return self.act(self.norm(self.conv(x)))


class InvertedResidual(nn.Module):
    """(B, C, H, W) -> (B, D, ⌈H/s⌉, ⌈W/s⌉): 1×1 up to e·C, k×k in each channel, 1×1 down to D.

    The block [Sandler et al., fig. 3 b] is wide inside and narrow at both ends, the inverse of a bottleneck
    block. It adds x if the shape stays. The last convolution has no activation ("linear bottleneck").
    """

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, expansion: int):
        in_channels = require_whole(in_channels, "in_channels")
        channels = require_whole(channels, "channels")
        stride = require_whole(stride, "stride")
        expansion = require_whole(expansion, "expansion")
        super().__init__()
        width = expansion * in_channels
        self.adds_input = stride == 1 and in_channels == channels
        self.expand = ConvNorm(in_channels, width, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(width, width, kernel, stride, groups=width)
        self.project = ConvNorm(width, channels, 1, act=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds_input else y


class EfficientNetLite0(nn.Module):
    """(B, 3, H, W) -> (B, num_classes) logits: stem, 16 inverted residuals, head, mean, one linear layer.

    4.65 M parameters with 1,000 classes. The weights of ImageNet expect images from `imagenet_input`; height
    and width are free. Raises TypeError or ValueError for a number of classes that is no whole number of at
    least 1.
    """

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        num_classes = require_whole(num_classes, "num_classes")
        self.stem = ConvNorm(3, STEM_WIDTH, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels = STEM_WIDTH
        for kernel, stride, expansion, width in BLOCKS:
            self.blocks.append(InvertedResidual(channels, width, kernel, stride, expansion))
            channels = width
        self.head = ConvNorm(channels, HEAD_WIDTH, 1)
        self.fc = nn.Linear(HEAD_WIDTH, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He initialisation; an input feeds its own group only
                fan_out = module.kernel_size[0] ** 2 * module.out_channels / module.groups
                nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, H, W) -> list of 17 (B, D, H', W'): the output of the stem, and of each of the 16 blocks."""
        maps = [self.stem(x)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, 1280): the mean of each map of the head, the input of a classifier."""
        return self.head(self.features(x)[-1]).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pooled(x))


def efficientnet_lite0(num_classes: int = 1000) -> EfficientNetLite0:
    """-> EfficientNetLite0 with random weights."""
    return EfficientNetLite0(num_classes)


def imagenet_input(images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) or (3, H, W) in [0, 1] -> (B, 3, 224, 224): images as the weights of ImageNet expect them.

    It takes the largest square in the middle, resizes it to 256 pixels (bicubic, with a low-pass filter),
    takes the middle 224, and computes (255·x − 127) / 128. The result has the dtype of the images; the
    computation has at least float32. Raises TypeError or ValueError for other shapes, and for values outside
    [0, 1].
    """
    require_tensor(images, "images", "… C H W", least=0, most=1, C=3)
    if images.ndim == 3:
        images = images.unsqueeze(0)
    require_tensor(images, "images", "B C H W", C=3)
    square = _middle(images, min(images.shape[2:]))
    x = square.to(torch.promote_types(images.dtype, torch.float32))
    x = F.interpolate(x, size=(256, 256), mode="bicubic", antialias=True).clamp(0, 1)
    return ((255 * _middle(x, 224) - 127) / 128).to(images.dtype)


def class_names() -> list[str]:
    """-> list of 1,000 str: the English names of ImageNet's classes, in the order of the logits."""
    from torchvision.models import EfficientNet_B0_Weights  # a list inside torchvision: nothing is downloaded

    return list(EfficientNet_B0_Weights.DEFAULT.meta["categories"])


def _middle(x, size):
    """(B, C, H, W) -> (B, C, size, size): the square in the middle."""
    top, left = (x.shape[2] - size) // 2, (x.shape[3] - size) // 2
    return x[:, :, top : top + size, left : left + size]
