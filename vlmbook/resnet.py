"""Residual networks, and the same networks without the addition [He et al. 2015, arXiv:1512.03385] [chapter
3b].

`resnet18/34/50` carry torchvision's names, so that its weights load unchanged; `resnet20/32/56` are the
networks for 32×32 images of section 4.2, `plain20/32/56` the twins that the paper compares with them. Images
are floating tensors (B, C, H, W) of any size; the caller normalises them first.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from vlmbook.validation import (
    describe,
    require_callable,
    require_choice,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

NormLayer = Callable[[int], nn.Module]  # a number of channels -> the normalisation of so many channels


# --- blocks -------------------------------------------------------------------------------------------------


class BasicBlock(nn.Module):
    """(B, C, H, W) -> (B, D, ⌈H/s⌉, ⌈W/s⌉): relu(F(x) + x), F two convolutions of 3×3 [eqs. 1 and 2, fig. 5
    left].

    Where stride or channels change, `downsample` is the module that makes x fit.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, width: int, stride: int, downsample: nn.Module, norm_layer: NormLayer
    ):
        _require_block(in_channels, width, stride, downsample, norm_layer)
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = _make_norm(norm_layer, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = _make_norm(norm_layer, width)
        self.downsample = downsample

    def residual(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, ⌈H/s⌉, ⌈W/s⌉): F(x) = BN(W2 relu(BN(W1 x)))."""
        _require_images(x, self.conv1)
        x = self.bn1(self.conv1(x)).relu_()
        return self.bn2(self.conv2(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x).add_(self.downsample(x)).relu_()


class Bottleneck(nn.Module):
    """(B, C, H, W) -> (B, 4D, ⌈H/s⌉, ⌈W/s⌉): relu(F(x) + x), F 1×1 down to D, 3×3, 1×1 up to 4D [fig. 5
    right].

    The stride is in the 3×3 convolution, as in torchvision; the paper has it in the first 1×1.
    """

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, downsample: nn.Module, norm_layer: NormLayer
    ):
        _require_block(in_channels, width, stride, downsample, norm_layer)
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = _make_norm(norm_layer, width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = _make_norm(norm_layer, width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = _make_norm(norm_layer, 4 * width)
        self.downsample = downsample

    def residual(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4D, ⌈H/s⌉, ⌈W/s⌉): F(x)."""
        _require_images(x, self.conv1)
        x = self.bn1(self.conv1(x)).relu_()
        x = self.bn2(self.conv2(x)).relu_()
        return self.bn3(self.conv3(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x).add_(self.downsample(x)).relu_()


class PlainBlock(BasicBlock):
    """(B, C, H, W) -> (B, D, ⌈H/s⌉, ⌈W/s⌉): relu(F(x)), the same two convolutions without the addition."""

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x).relu_()


class PaddedShortcut(nn.Module):
    """(B, C, H, W) -> (B, C + extra, ⌈H/s⌉, ⌈W/s⌉): every s-th pixel, the new channels zero [§3.3, option
    A].
    """

    def __init__(self, extra: int, stride: int):
        super().__init__()
        self.extra = require_whole(extra, "extra", least=0)
        self.stride = require_whole(stride, "stride")

    def forward(self, x: Tensor) -> Tensor:
        require_tensor(x, "x", "B C H W", empty="B")
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


# --- the whole network --------------------------------------------------------------------------------------


class ResNet(nn.Module):
    """(B, C, H, W) -> (B, num_classes) logits: a stem, stages of blocks, the mean over all positions, one
    linear layer.

    `blocks` counts those of each stage. Each stage but the first halves height and width and doubles the
    width. With small=True it is the network for small images of §4.2: a stem of 3×3 that keeps the size, and
    shortcuts without parameters, else the one for ImageNet: 7×7 with stride 2, max pooling, and 1×1
    projections. `norm_layer(channels)` makes each normalisation; nn.Identity leaves them out. Raises
    TypeError or ValueError for a number of classes, channels or blocks below 1.
    """

    def __init__(
        self,
        block: type[nn.Module],
        blocks: Sequence[int],
        num_classes: int,
        in_channels: int,
        *,
        width: int = 64,
        small: bool = False,
        norm_layer: NormLayer = nn.BatchNorm2d,
    ):
        _require_block_class(block)
        blocks = _require_counts(blocks)
        num_classes = require_whole(num_classes, "num_classes")
        in_channels = require_whole(in_channels, "in_channels")
        width = require_whole(width, "width")
        require_choice(small, "small", (True, False))
        require_callable(norm_layer, "norm_layer", "a function of a number of channels")
        super().__init__()
        stem = {"kernel_size": 3, "padding": 1} if small else {"kernel_size": 7, "stride": 2, "padding": 3}
        self.conv1 = nn.Conv2d(in_channels, width, **stem, bias=False)
        self.bn1 = _make_norm(norm_layer, width)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = [f"layer{number}" for number in range(1, len(blocks) + 1)]  # torchvision's names
        channels = width
        for number, name in enumerate(self.stages):
            stride = 1 if number == 0 else 2
            stage = _make_stage(block, blocks[number], channels, width * 2**number, stride, small, norm_layer)
            self.add_module(name, stage)
            channels = width * 2**number * block.expansion
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> list of (B, D, H', W'): the output of the stem, then that of each stage."""
        _require_images(x, self.conv1)
        maps = [self.maxpool(self.bn1(self.conv1(x)).relu_())]
        for name in self.stages:
            maps.append(getattr(self, name)(maps[-1]))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x)[-1].mean((2, 3)))


def _make_stage(block, count, channels, width, stride, small, norm_layer):
    """-> Sequential of `count` blocks; the first has the stride and changes the channels."""
    outs = width * block.expansion
    shortcut = _make_shortcut(block, channels, outs, stride, small, norm_layer)
    blocks = [block(channels, width, stride, shortcut, norm_layer)]
    for _ in range(count - 1):
        blocks.append(block(outs, width, 1, nn.Identity(), norm_layer))
    return nn.Sequential(*blocks)


def _make_shortcut(block, channels, outs, stride, small, norm_layer):
    fits = stride == 1 and channels == outs
    if fits or issubclass(block, PlainBlock):
        return nn.Identity()
    if small:
        return PaddedShortcut(outs - channels, stride)
    return nn.Sequential(nn.Conv2d(channels, outs, 1, stride, bias=False), _make_norm(norm_layer, outs))


def _make_norm(norm_layer, channels):
    return require_type(norm_layer(channels), "norm_layer", nn.Module, "to return an nn.Module")


# --- checks of arguments ------------------------------------------------------------------------------------


def _require_images(x, convolution):
    """Images as the convolution takes them."""
    require_tensor(x, "x", "B C H W", empty="B", C=convolution.in_channels)
    require_same_kind(x, "x", convolution.weight)


def _require_block(in_channels, width, stride, downsample, norm_layer):
    require_whole(in_channels, "in_channels")
    require_whole(width, "width")
    require_whole(stride, "stride")
    require_type(downsample, "downsample", nn.Module, "an nn.Module")
    require_callable(norm_layer, "norm_layer", "a function of a number of channels")


def _require_block_class(block):
    if not (isinstance(block, type) and issubclass(block, (BasicBlock, Bottleneck))):
        raise TypeError(f"block wants BasicBlock, Bottleneck or PlainBlock, got {describe(block)}")


def _require_counts(blocks):
    require_type(blocks, "blocks", (list, tuple), "a list of numbers of blocks, one a stage")
    if not blocks:
        raise ValueError("blocks wants at least one stage, got none")
    return [require_whole(count, "blocks") for count in blocks]


# --- presets ------------------------------------------------------------------------------------------------


def resnet18(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """-> ResNet with torchvision's names: 18 layers with weights, 11.7 M parameters [table 1]."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels)


def resnet34(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """-> ResNet with torchvision's names: 34 layers with weights, 21.8 M parameters [table 1]."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels)


def resnet50(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """-> ResNet with torchvision's names: 50 layers with weights, 25.6 M parameters [table 1]."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels)


def small_resnet(
    depth: int,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    skip: bool = True,
    norm_layer: NormLayer = nn.BatchNorm2d,
) -> ResNet:
    """-> ResNet of §4.2 with `depth` = 6n + 2 layers with weights: three stages of n blocks, of width 16, 32
    and 64.

    Without `skip` it is the plain twin, which has the same parameters. Raises ValueError for another depth.
    """
    depth = require_whole(depth, "depth")
    require_choice(skip, "skip", (True, False))
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth wants 6n + 2, such as 8, 20, 32, 44 or 56, got {depth}")
    block = BasicBlock if skip else PlainBlock
    blocks = [depth // 6] * 3
    return ResNet(block, blocks, num_classes, in_channels, width=16, small=True, norm_layer=norm_layer)


def resnet20(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """-> ResNet of §4.2, 20 layers, 0.27 M parameters [table 6]."""
    return small_resnet(20, num_classes, in_channels)


def resnet32(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """-> ResNet of §4.2, 32 layers, 0.46 M parameters [table 6]."""
    return small_resnet(32, num_classes, in_channels)


def resnet56(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """-> ResNet of §4.2, 56 layers, 0.85 M parameters [table 6]."""
    return small_resnet(56, num_classes, in_channels)


def plain20(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """-> the layers of `resnet20` without the addition."""
    return small_resnet(20, num_classes, in_channels, skip=False)


def plain32(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """-> the layers of `resnet32` without the addition."""
    return small_resnet(32, num_classes, in_channels, skip=False)


def plain56(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """-> the layers of `resnet56` without the addition."""
    return small_resnet(56, num_classes, in_channels, skip=False)
