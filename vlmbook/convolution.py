"""Convolution, transposed convolution and pooling, each as its formula and as a fast function [chapter 3a].

The functions mean what their namesakes in `torch.nn.functional` mean, for floating tensors (B, C, H, W) of
any dtype and device, with autograd and under autocast. Sums are in at least float32, whatever the dtype of
the images. Where a size is asked for, an int stands for a square and a pair for (height, width).
"""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import product

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from vlmbook.validation import (
    describe,
    require_choice,
    require_pair,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

Size = int | tuple[int, int]  # of a square, or (height, width)


# --- sizes --------------------------------------------------------------------------------------------------


def output_size(n: Size, kernel: Size, *, stride: Size = 1, padding: Size = 0, dilation: Size = 1) -> Size:
    """int or (H, W) -> int or (Ho, Wo): floor((n + 2p − d(k − 1) − 1) / s) + 1 [Dumoulin & Visin 2016, rel.
    15].

    An int comes back when every argument is an int. Raises ValueError when the kernel is larger than the
    padded input.
    """
    square = not any(isinstance(number, (tuple, list)) for number in (n, kernel, stride, padding, dilation))
    n = require_pair(n, "n")
    kernel = require_pair(kernel, "kernel")
    stride, padding, dilation = _require_steps(stride, padding, dilation)
    sizes = []
    for size, k, s, p, d in zip(n, kernel, stride, padding, dilation, strict=True):
        span = d * (k - 1) + 1
        if span > size + 2 * p:
            raise ValueError(
                f"a kernel of {k} with dilation {d} wants at least {span} pixels with the padding, "
                f"got {size} + 2·{p} = {size + 2 * p}"
            )
        sizes.append((size + 2 * p - span) // s + 1)
    return sizes[0] if square else tuple(sizes)


def receptive_field(layers: Sequence) -> Size:
    """[(kernel, stride[, dilation]) or a layer with these attributes, …] -> int, or (h, w) where these
    differ.

    The input pixels that one output pixel sees, layers in order from the input: a step of one output pixel is
    a jump of Π strides input pixels, and each layer adds (k − 1)·d jumps [Araujo, Norris & Sim 2019, Distill,
    eq. 2]. Raises TypeError for layers whose output is larger than their input, such as nn.ConvTranspose2d.
    """
    require_type(layers, "layers", (list, tuple, nn.Sequential, nn.ModuleList), "a list of layers")
    sizes = [1, 1]
    jumps = [1, 1]
    for layer in layers:
        kernel, stride, dilation = _require_layer(layer)
        for axis in range(2):
            sizes[axis] += (kernel[axis] - 1) * dilation[axis] * jumps[axis]
            jumps[axis] *= stride[axis]
    return sizes[0] if sizes[0] == sizes[1] else tuple(sizes)


# --- convolution --------------------------------------------------------------------------------------------


def conv2d_loops(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """(B, C, H, W), (O, C/groups, Kh, Kw)[, (O,)] -> (B, O, Ho, Wo): the formula in loops, for small inputs.

    y[b,o,i,j] = bias[o] + Σ_c Σ_m Σ_n w[o,c,m,n] · x[b, c, s·i + d·m − p, s·j + d·n − p], pixels outside the
    image being 0 [PyTorch docs, torch.nn.Conv2d]. The errors are those of `conv2d`.
    """
    plan = _require_convolution(x, weight, bias, stride, padding, dilation, groups)
    (sh, sw), (ph, pw), (dh, dw), (ho, wo) = plan
    dtype = _output_dtype(x)
    x, weight, bias = _widen(dtype, x, weight, bias)
    batch, _, height, width = x.shape
    outs, per_group, kh, kw = weight.shape
    y = x.new_zeros(batch, outs, ho, wo)
    for b, o, i, j in product(range(batch), range(outs), range(ho), range(wo)):
        first = o // (outs // groups) * per_group  # the first input channel of this output's group
        total = x.new_zeros(()) if bias is None else bias[o]
        for c, m, n in product(range(per_group), range(kh), range(kw)):
            row = sh * i + dh * m - ph
            column = sw * j + dw * n - pw
            if 0 <= row < height and 0 <= column < width:
                total = total + weight[o, c, m, n] * x[b, first + c, row, column]
        y[b, o, i, j] = total
    return y.to(dtype)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """(B, C, H, W), (O, C/groups, Kh, Kw)[, (O,)] -> (B, O, Ho, Wo): cross-correlation by shifted matrix
    products.

    Each kernel entry (m, n) is a matrix (O, C) that meets the image shifted by (m, n); the Kh·Kw products are
    added up. Equal to `torch.nn.functional.conv2d`. Raises TypeError for what is no floating tensor,
    ValueError for shapes that do not fit.
    """
    stride, padding, dilation, (ho, wo) = _require_convolution(
        x, weight, bias, stride, padding, dilation, groups
    )
    dtype = _output_dtype(x)
    x, weight, bias = _widen(dtype, x, weight, bias)
    kernel = rearrange(weight, "(g o) c m n -> m n g o c", g=groups).contiguous()
    y = x.new_zeros(len(x) * groups, len(weight) // groups, ho * wo)
    with _autocast_off(x):
        for m, n, window in _windows(_pad(x, padding), weight.shape[2:], stride, dilation, (ho, wo)):
            # y + kernel @ pixels, in place. No name holds that copy of the pixels, so that the next copy
            # finds its memory in the cache.
            y = y.baddbmm_(
                repeat(kernel[m, n], "g o c -> (b g) o c", b=len(x)),
                rearrange(window, "b (g c) i j -> (b g) c (i j)", g=groups),
            )
    y = rearrange(y, "(b g) o (i j) -> b (g o) i j", g=groups, i=ho)
    return _add_bias(y, bias).to(dtype)


def conv_matrix(weight: Tensor, input_size: Size, *, stride: Size = 1, padding: Size = 0) -> Tensor:
    """(O, C, Kh, Kw), int or (H, W) -> (O·Ho·Wo, C·H·W): the matrix A with vec(conv2d(x)) = A vec(x).

    Its transpose is the transposed convolution with the same arguments [Dumoulin & Visin 2016, §4.1]. Raises
    as `conv2d`.
    """
    require_tensor(weight, "weight", "O C Kh Kw")
    height, width = require_pair(input_size, "input_size")
    pixels = weight.shape[1] * height * width
    basis = torch.eye(pixels, dtype=weight.dtype, device=weight.device)
    columns = conv2d(basis.view(pixels, -1, height, width), weight, stride=stride, padding=padding)
    return columns.flatten(1).T  # column q is what the q-th single pixel turns into


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """(B, C, H, W), (C, O/groups, Kh, Kw)[, (O,)] -> (B, O, Ho, Wo): the adjoint of `conv2d`.

    Every pixel stamps the kernel, scaled, at stride s, and where stamps overlap they add up:
    y[b, o, s·i + d·m − p, s·j + d·n − p] += x[b,c,i,j] · w[c,o,m,n], stamps outside the output being lost. It
    is no inverse of the convolution. Ho = (H − 1)s − 2p + d(Kh − 1) + output_padding + 1. Equal to
    `torch.nn.functional.conv_transpose2d`. Raises as `conv2d`; output_padding must be below stride or
    dilation.
    """
    plan = _require_transposed(x, weight, bias, stride, padding, output_padding, dilation, groups)
    (sh, sw), (ph, pw), (dh, dw), (ho, wo) = plan
    dtype = _output_dtype(x)
    x, weight, bias = _widen(dtype, x, weight, bias)
    height, width = x.shape[2:]
    kernel = rearrange(weight, "(g c) o m n -> m n g o c", g=groups)
    pixels = rearrange(x, "b (g c) i j -> b g c (i j)", g=groups)
    y = x.new_zeros(len(x), weight.shape[1] * groups, ho + 2 * ph, wo + 2 * pw)
    with _autocast_off(x):
        for m, n in product(range(weight.shape[2]), range(weight.shape[3])):
            rows = slice(dh * m, dh * m + sh * (height - 1) + 1, sh)
            columns = slice(dw * n, dw * n + sw * (width - 1) + 1, sw)
            y[..., rows, columns] += rearrange(kernel[m, n] @ pixels, "b g o (i j) -> b (g o) i j", i=height)
    return _add_bias(y[..., ph : ph + ho, pw : pw + wo], bias).to(dtype)


# --- pooling ------------------------------------------------------------------------------------------------


def max_pool2d(x: Tensor, kernel_size: Size, *, stride: Size | None = None, padding: Size = 0) -> Tensor:
    """(B, C, H, W) -> (B, C, Ho, Wo): the largest pixel of each window; stride None means the kernel size.

    Of equal pixels the first, in reading order, is taken and alone gets the gradient; NaN wins. Equal to
    `torch.nn.functional.max_pool2d`. Raises ValueError for a padding above half the kernel.
    """
    kernel, stride, padding, size = _require_pooling(x, kernel_size, stride, padding)
    windows = _windows(_pad(x, padding, -torch.inf), kernel, stride, (1, 1), size)
    largest = next(windows)[-1].clone()  # a kernel of one pixel shall not return a view of x
    for _, _, window in windows:
        largest = torch.where((window > largest) | window.isnan(), window, largest)
    return largest


def avg_pool2d_loops(
    x: Tensor,
    kernel_size: Size,
    *,
    stride: Size | None = None,
    padding: Size = 0,
    count_include_pad: bool = True,
) -> Tensor:
    """(B, C, H, W) -> (B, C, Ho, Wo): the mean of each window in loops, for small inputs.

    The errors are those of `avg_pool2d`.
    """
    kernel, (sh, sw), (ph, pw), (ho, wo) = _require_pooling(x, kernel_size, stride, padding)
    require_choice(count_include_pad, "count_include_pad", (True, False))
    dtype = x.dtype
    (x,) = _widen(dtype, x)
    batch, channels, height, width = x.shape
    y = x.new_zeros(batch, channels, ho, wo)
    for b, c, i, j in product(range(batch), range(channels), range(ho), range(wo)):
        total = x.new_zeros(())
        pixels = 0
        for m, n in product(*map(range, kernel)):
            row = sh * i + m - ph
            column = sw * j + n - pw
            if 0 <= row < height and 0 <= column < width:
                total = total + x[b, c, row, column]
                pixels += 1
        y[b, c, i, j] = total / (kernel[0] * kernel[1] if count_include_pad else pixels)
    return y.to(dtype)


def avg_pool2d(
    x: Tensor,
    kernel_size: Size,
    *,
    stride: Size | None = None,
    padding: Size = 0,
    count_include_pad: bool = True,
) -> Tensor:
    """(B, C, H, W) -> (B, C, Ho, Wo): the mean of each window; stride None means the kernel size.

    The divisor is the number of elements Kh·Kw, or with count_include_pad=False the number that lie in the
    image. Equal to `torch.nn.functional.avg_pool2d`. Raises ValueError for a padding above half the kernel.
    """
    kernel, stride, padding, size = _require_pooling(x, kernel_size, stride, padding)
    require_choice(count_include_pad, "count_include_pad", (True, False))

    def window_sums(images):
        return sum(window for _, _, window in _windows(_pad(images, padding), kernel, stride, (1, 1), size))

    dtype = x.dtype
    (x,) = _widen(dtype, x)
    pixels = kernel[0] * kernel[1] if count_include_pad else window_sums(torch.ones_like(x[:1, :1]))
    return (window_sums(x) / pixels).to(dtype)


# --- what they share: windows, dtypes, and the checks of their arguments ------------------------------------


def _windows(x, kernel, stride, dilation, size):
    """Yield m, n and the pixels (B, C, Ho, Wo) under kernel entry (m, n) in all windows at once."""
    (sh, sw), (dh, dw), (ho, wo) = stride, dilation, size
    for m, n in product(*map(range, kernel)):
        rows = slice(dh * m, dh * m + sh * (ho - 1) + 1, sh)
        columns = slice(dw * n, dw * n + sw * (wo - 1) + 1, sw)
        yield m, n, x[..., rows, columns]


def _pad(x, padding, value=0.0):
    ph, pw = padding
    return F.pad(x, (pw, pw, ph, ph), value=value) if ph or pw else x


def _add_bias(y, bias):
    return y if bias is None else y + bias[:, None, None]


def _output_dtype(x):
    """The dtype of PyTorch's own convolution of x: autocast's where it is on, else that of x."""
    if _autocasts(x) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def _autocasts(x):
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _widen(dtype, *tensors):
    """-> the tensors, None among them, in a dtype in which sums of `dtype` keep its precision."""
    wide = torch.promote_types(dtype, torch.float32)
    return [None if tensor is None else tensor.to(wide) for tensor in tensors]


def _autocast_off(x):
    """Autocast would bring the factors of a product to half precision, and the sum with them."""
    return torch.autocast(x.device.type, enabled=False) if _autocasts(x) else nullcontext()


def _require_convolution(x, weight, bias, stride, padding, dilation, groups):
    """-> stride, padding, dilation, output size as pairs."""
    require_tensor(x, "x", "B C H W", empty="B")
    require_tensor(weight, "weight", "O C/groups Kh Kw")
    require_same_kind(weight, "weight", x, "x")
    stride, padding, dilation = _require_steps(stride, padding, dilation)
    groups = require_whole(groups, "groups")
    channels = x.shape[1]
    outs, per_group, *kernel = weight.shape
    if channels % groups or outs % groups:
        raise ValueError(
            f"groups wants a divisor of the {channels} channels of x and the {outs} of weight, got {groups}"
        )
    if channels != per_group * groups:
        raise ValueError(
            f"x wants {per_group * groups} channels for a weight {tuple(weight.shape)} with groups={groups}, "
            f"got {channels}"
        )
    _require_bias(bias, outs, x)
    size = output_size(tuple(x.shape[2:]), kernel, stride=stride, padding=padding, dilation=dilation)
    return stride, padding, dilation, size


def _require_transposed(x, weight, bias, stride, padding, output_padding, dilation, groups):
    """-> stride, padding, dilation, output size as pairs."""
    require_tensor(x, "x", "B C H W", empty="B")
    require_tensor(weight, "weight", "C O/groups Kh Kw")
    require_same_kind(weight, "weight", x, "x")
    stride, padding, dilation = _require_steps(stride, padding, dilation)
    extra = require_pair(output_padding, "output_padding", least=0)
    groups = require_whole(groups, "groups")
    channels = x.shape[1]
    ins, per_group, *kernel = weight.shape
    if channels % groups:
        raise ValueError(f"groups wants a divisor of the {channels} channels of x, got {groups}")
    if channels != ins:
        raise ValueError(f"x wants {ins} channels for a weight {tuple(weight.shape)}, got {channels}")
    _require_bias(bias, per_group * groups, x)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ValueError(
            f"output_padding wants less than stride {stride} or dilation {dilation}, got {extra}"
        )
    axes = zip(x.shape[2:], kernel, stride, padding, dilation, extra, strict=True)
    size = tuple((n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in axes)
    if min(size) < 1:
        raise ValueError(
            f"padding wants to leave at least one pixel of the output, got {padding}, which leaves {size}"
        )
    return stride, padding, dilation, size


def _require_pooling(x, kernel_size, stride, padding):
    """-> kernel, stride, padding, output size as pairs."""
    require_tensor(x, "x", "B C H W", empty="B")
    kernel = require_pair(kernel_size, "kernel_size")
    stride = kernel if stride is None else require_pair(stride, "stride")
    padding = require_pair(padding, "padding", least=0)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(f"padding wants at most half of the kernel {kernel}, got {padding}")
    return kernel, stride, padding, output_size(tuple(x.shape[2:]), kernel, stride=stride, padding=padding)


def _require_steps(stride, padding, dilation):
    """-> each as a pair."""
    stride = require_pair(stride, "stride")
    padding = require_pair(padding, "padding", least=0)
    dilation = require_pair(dilation, "dilation")
    return stride, padding, dilation


def _require_bias(bias, channels, x):
    if bias is not None:
        require_tensor(bias, "bias", "O", O=channels)
        require_same_kind(bias, "bias", x, "x")


def _require_layer(layer):
    """A layer, or (kernel, stride[, dilation]) -> kernel, stride, dilation as pairs."""
    if isinstance(layer, nn.Module):
        upwards = isinstance(layer, (nn.ConvTranspose2d, nn.MaxUnpool2d))  # their stride is one of the output
        if upwards or not hasattr(layer, "kernel_size") or not hasattr(layer, "stride"):
            raise TypeError(f"layers wants kernels that move over their input, got {describe(layer)}")
        stride = layer.kernel_size if layer.stride is None else layer.stride
        layer = (layer.kernel_size, stride, getattr(layer, "dilation", 1))
    if not isinstance(layer, (tuple, list)) or len(layer) not in (2, 3):
        raise TypeError(f"layers wants (kernel, stride[, dilation]) a layer, got {describe(layer)}")
    dilation = layer[2] if len(layer) == 3 else 1
    kernel = require_pair(layer[0], "kernel")
    stride = require_pair(layer[1], "stride")
    return kernel, stride, require_pair(dilation, "dilation")
