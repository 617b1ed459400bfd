"""Residual networks, and the same networks without the addition [He et al. 2015, arXiv:1512.03385] [chapter
3b].

`resnet18/34/50` carry torchvision's names, so that its weights load unchanged; `resnet20/32/56` are the
networks for 32×32 images of section 4.2, `plain20/32/56` the twins that the paper holds against them. Images
are floating tensors (B, C, H, W) of any size; what normalises them is the caller's, and comes first.
"""

from torch import nn
from torch.nn import functional as F

from vlmbook.checks import check_counts, check_images


class BasicBlock(nn.Module):
    """(B, C, H, W) -> (B, D, ⌈H/s⌉, ⌈W/s⌉): relu(F(x) + x), F two convolutions of 3×3 [eqs. 1 and 2, fig. 5
    left].

    Where stride or channels change, `downsample` is what makes x fit.
    """

    expansion = 1

    def __init__(self, in_channels, width, stride, downsample, norm_layer):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = norm_layer(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm_layer(width)
        self.downsample = downsample

    def residual(self, x):
        """(B, C, H, W) -> (B, D, ⌈H/s⌉, ⌈W/s⌉): F(x) = BN(W2 relu(BN(W1 x)))."""
        x = self.bn1(self.conv1(x)).relu_()
        return self.bn2(self.conv2(x))

    def forward(self, x):
        return self.residual(x).add_(self.downsample(x)).relu_()


class Bottleneck(nn.Module):
    """(B, C, H, W) -> (B, 4D, ⌈H/s⌉, ⌈W/s⌉): relu(F(x) + x), F 1×1 down to D, 3×3, 1×1 up to 4D [fig. 5
    right].

    The stride is in the 3×3 convolution, as in torchvision; the paper has it in the first 1×1.
    """

    expansion = 4

    def __init__(self, in_channels, width, stride, downsample, norm_layer):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = norm_layer(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = norm_layer(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = norm_layer(4 * width)
        self.downsample = downsample

    def residual(self, x):
        """(B, C, H, W) -> (B, 4D, ⌈H/s⌉, ⌈W/s⌉): F(x)."""
        x = self.bn1(self.conv1(x)).relu_()
        x = self.bn2(self.conv2(x)).relu_()
        return self.bn3(self.conv3(x))

    def forward(self, x):
        return self.residual(x).add_(self.downsample(x)).relu_()


class PlainBlock(BasicBlock):
    """(B, C, H, W) -> (B, D, ⌈H/s⌉, ⌈W/s⌉): relu(F(x)), the same two convolutions without the addition."""

    def forward(self, x):
        return self.residual(x).relu_()


class PaddedShortcut(nn.Module):
    """(B, C, H, W) -> (B, C + extra, ⌈H/s⌉, ⌈W/s⌉): every s-th pixel, the new channels zero [§3.3, option
    A].
    """

    def __init__(self, extra, stride):
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class ResNet(nn.Module):
    """(B, C, H, W) -> (B, num_classes) logits: a stem, stages of blocks, the mean over all places, one linear
    layer.

    Each stage but the first halves height and width and doubles the width. With small=True it is the network
    for small images of §4.2: a stem of 3×3 that keeps the size, and shortcuts without parameters, else the
    one for ImageNet: 7×7 with stride 2, max pooling, and 1×1 projections. `norm_layer(channels)` makes each
    normalisation. Raises ValueError for a number of classes, channels or blocks below 1.
    """

    def __init__(
        self, block, blocks, num_classes, in_channels, *, width=64, small=False, norm_layer=nn.BatchNorm2d
    ):
        super().__init__()
        check_counts(self, num_classes=num_classes, in_channels=in_channels, blocks=min(blocks, default=0))
        stem = {"kernel_size": 3, "padding": 1} if small else {"kernel_size": 7, "stride": 2, "padding": 3}
        self.conv1 = nn.Conv2d(in_channels, width, **stem, bias=False)
        self.bn1 = norm_layer(width)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.stages, channels = [], width
        for number, count in enumerate(blocks):
            stage, channels = _stage(
                block, count, channels, width * 2**number, 1 + (number > 0), small, norm_layer
            )
            self.stages.append(f"layer{number + 1}")  # torchvision's names
            self.add_module(self.stages[-1], stage)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x):
        """(B, C, H, W) -> list of (B, D, H', W'): what leaves the stem, then what leaves each stage."""
        check_images(x, "x", "(B, C, H, W)", layer=self.conv1)
        maps = [self.maxpool(self.bn1(self.conv1(x)).relu_())]
        for name in self.stages:
            maps.append(getattr(self, name)(maps[-1]))
        return maps

    def forward(self, x):
        return self.fc(self.features(x)[-1].mean((2, 3)))


def _stage(block, count, channels, width, stride, small, norm_layer):
    """-> Sequential of `count` blocks, the first with the stride, and the channels that leave it."""
    blocks, outs = [], width * block.expansion
    for step in [stride] + [1] * (count - 1):
        shortcut = nn.Identity()
        if (step, channels) != (1, outs) and not issubclass(block, PlainBlock):
            shortcut = (
                PaddedShortcut(outs - channels, step)
                if small
                else nn.Sequential(nn.Conv2d(channels, outs, 1, step, bias=False), norm_layer(outs))
            )
        blocks.append(block(channels, width, step, shortcut, norm_layer))
        channels = outs
    return nn.Sequential(*blocks), channels


def resnet18(num_classes=1000, in_channels=3):
    """-> ResNet with torchvision's names: 18 layers with weights, 11.7 M parameters [table 1]."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels)


def resnet34(num_classes=1000, in_channels=3):
    """-> ResNet with torchvision's names: 34 layers with weights, 21.8 M parameters [table 1]."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels)


def resnet50(num_classes=1000, in_channels=3):
    """-> ResNet with torchvision's names: 50 layers with weights, 25.6 M parameters [table 1]."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels)


def small_resnet(depth, num_classes=10, in_channels=3, *, skip=True, norm_layer=nn.BatchNorm2d):
    """-> ResNet of §4.2 with `depth` = 6n + 2 layers with weights: three stages of n blocks, of width 16, 32
    and 64.

    Without `skip` it is the plain twin, which has the same parameters. Raises ValueError for another depth.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 8 or depth % 6 != 2:
        raise ValueError(f"small_resnet wants a depth of 6n + 2, such as 8, 20, 32, 44 or 56, got {depth!r}")
    block = BasicBlock if skip else PlainBlock
    return ResNet(
        block, [depth // 6] * 3, num_classes, in_channels, width=16, small=True, norm_layer=norm_layer
    )


def resnet20(num_classes=10, in_channels=3):
    """-> ResNet of §4.2, 20 layers, 0.27 M parameters [table 6]."""
    return small_resnet(20, num_classes, in_channels)


def resnet32(num_classes=10, in_channels=3):
    """-> ResNet of §4.2, 32 layers, 0.46 M parameters [table 6]."""
    return small_resnet(32, num_classes, in_channels)


def resnet56(num_classes=10, in_channels=3):
    """-> ResNet of §4.2, 56 layers, 0.85 M parameters [table 6]."""
    return small_resnet(56, num_classes, in_channels)


def plain20(num_classes=10, in_channels=3):
    """-> the layers of `resnet20` without the addition."""
    return small_resnet(20, num_classes, in_channels, skip=False)


def plain32(num_classes=10, in_channels=3):
    """-> the layers of `resnet32` without the addition."""
    return small_resnet(32, num_classes, in_channels, skip=False)


def plain56(num_classes=10, in_channels=3):
    """-> the layers of `resnet56` without the addition."""
    return small_resnet(56, num_classes, in_channels, skip=False)
