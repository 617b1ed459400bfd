"""Convolution, transposed convolution and pooling, each as its formula in loops and as a fast twin [chapter
3a].

The functions mean what their namesakes in `torch.nn.functional` mean, for floating tensors (B, C, H, W) of
any dtype and device, with autograd. Where a size is asked for, an int stands for a square and a pair for
(height, width).
"""

import operator
from collections.abc import Iterable
from itertools import product
from numbers import Integral

import torch
from einops import rearrange, repeat
from torch import nn
from torch.nn import functional as F

from vlmbook.checks import check_images


def output_size(n, kernel, *, stride=1, padding=0, dilation=1):
    """int or (H, W) -> int or (Ho, Wo): floor((n + 2p − d(k − 1) − 1) / s) + 1 [Dumoulin & Visin 2016, rel.
    15].

    An int comes back when every argument is an int. Raises ValueError when the kernel is larger than the
    padded input.
    """
    square = not any(isinstance(number, (tuple, list)) for number in (n, kernel, stride, padding, dilation))
    n, kernel, stride = _pair(n, "n", 1), _pair(kernel, "kernel", 1), _pair(stride, "stride", 1)
    padding, dilation = _pair(padding, "padding", 0), _pair(dilation, "dilation", 1)
    sizes = []
    for size, k, s, p, d in zip(n, kernel, stride, padding, dilation, strict=True):
        reach = d * (k - 1) + 1
        if reach > size + 2 * p:
            raise ValueError(
                f"a kernel of {k} with dilation {d} spans {reach} pixels, "
                f"more than the input's {size} with padding {p} on both sides ({size + 2 * p})"
            )
        sizes.append((size + 2 * p - reach) // s + 1)
    return sizes[0] if square else tuple(sizes)


def conv2d_loops(x, weight, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
    """(B, C, H, W), (O, C/groups, Kh, Kw)[, (O,)] -> (B, O, Ho, Wo): the formula read aloud, for small
    inputs.

    y[b,o,i,j] = bias[o] + Σ_c Σ_m Σ_n w[o,c,m,n] · x[b, c, s·i + d·m − p, s·j + d·n − p], pixels outside the
    image being 0 [PyTorch docs, torch.nn.Conv2d]. The errors are those of `conv2d`.
    """
    (sh, sw), (ph, pw), (dh, dw), (ho, wo) = _conv_plan(x, weight, bias, stride, padding, dilation, groups)
    (batch, _, height, width), (outs, per_group, kh, kw) = x.shape, weight.shape
    y = x.new_zeros(batch, outs, ho, wo)
    for b, o, i, j in product(range(batch), range(outs), range(ho), range(wo)):
        first = o // (outs // groups) * per_group  # the first input channel of this output's group
        total = x.new_zeros(()) if bias is None else bias[o]
        for c, m, n in product(range(per_group), range(kh), range(kw)):
            row, column = sh * i + dh * m - ph, sw * j + dw * n - pw
            if 0 <= row < height and 0 <= column < width:
                total = total + weight[o, c, m, n] * x[b, first + c, row, column]
        y[b, o, i, j] = total
    return y


def conv2d(x, weight, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
    """(B, C, H, W), (O, C/groups, Kh, Kw)[, (O,)] -> (B, O, Ho, Wo): cross-correlation by shifted matrix
    products.

    Each kernel entry (m, n) is a matrix (O, C) that meets the image shifted by (m, n); the Kh·Kw products are
    added up. Equal to `torch.nn.functional.conv2d`. Raises TypeError for what is no floating tensor,
    ValueError for shapes that do not fit.
    """
    stride, padding, dilation, (ho, wo) = _conv_plan(x, weight, bias, stride, padding, dilation, groups)
    kernel = rearrange(weight, "(g o) c m n -> m n g o c", g=groups).contiguous()
    y = x.new_zeros(len(x) * groups, len(weight) // groups, ho * wo)
    for m, n, window in _windows(_pad(x, padding), weight.shape[2:], stride, dilation, (ho, wo)):
        # y + kernel @ pixels, in place. No name holds that copy of the pixels: the next finds its memory in
        # the cache.
        y = y.baddbmm_(
            repeat(kernel[m, n], "g o c -> (b g) o c", b=len(x)),
            rearrange(window, "b (g c) i j -> (b g) c (i j)", g=groups),
        )
    y = rearrange(y, "(b g) o (i j) -> b (g o) i j", g=groups, i=ho)
    return y if bias is None else y + bias[:, None, None]


def conv_matrix(weight, input_size, *, stride=1, padding=0):
    """(O, C, Kh, Kw), int or (H, W) -> (O·Ho·Wo, C·H·W): the matrix C with vec(conv2d(x)) = C vec(x).

    Its transpose is the transposed convolution with the same arguments [Dumoulin & Visin 2016, §4.1].
    """
    check_images(weight, "weight", "(O, C, Kh, Kw)")
    height, width = _pair(input_size, "input_size", 1)
    pixels = weight.shape[1] * height * width
    basis = torch.eye(pixels, dtype=weight.dtype, device=weight.device)
    columns = conv2d(basis.view(pixels, -1, height, width), weight, stride=stride, padding=padding)
    return columns.flatten(1).T  # column q is what the q-th single pixel turns into


def conv_transpose2d_loops(
    x, weight, bias=None, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1
):
    """(B, C, H, W), (C, O/groups, Kh, Kw)[, (O,)] -> (B, O, Ho, Wo): each pixel stamps the kernel, for small
    inputs.

    y[b, o, s·i + d·m − p, s·j + d·n − p] += x[b,c,i,j] · w[c,o,m,n], stamps outside the output being lost
    [PyTorch docs, torch.nn.ConvTranspose2d]. The errors are those of `conv_transpose2d`.
    """
    plan = _transpose_plan(x, weight, bias, stride, padding, output_padding, dilation, groups)
    (sh, sw), (ph, pw), (dh, dw), (ho, wo) = plan
    (batch, channels, height, width), (_, per_group, kh, kw) = x.shape, weight.shape
    y = x.new_zeros(batch, per_group * groups, ho, wo)
    for b, c, i, j in product(range(batch), range(channels), range(height), range(width)):
        first = c // (channels // groups) * per_group  # the first output channel of this input's group
        for o, m, n in product(range(per_group), range(kh), range(kw)):
            row, column = sh * i + dh * m - ph, sw * j + dw * n - pw
            if 0 <= row < ho and 0 <= column < wo:
                y[b, first + o, row, column] += x[b, c, i, j] * weight[c, o, m, n]
    return y if bias is None else y + bias[:, None, None]


def conv_transpose2d(x, weight, bias=None, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """(B, C, H, W), (C, O/groups, Kh, Kw)[, (O,)] -> (B, O, Ho, Wo): the adjoint of `conv2d`.

    Every pixel stamps the kernel, scaled, at stride s, and where stamps overlap they add up. It is no inverse
    of the convolution. Ho = (H − 1)s − 2p + d(Kh − 1) + output_padding + 1. Equal to
    `torch.nn.functional.conv_transpose2d`. Raises as `conv2d`; output_padding must be below stride or
    dilation.
    """
    plan = _transpose_plan(x, weight, bias, stride, padding, output_padding, dilation, groups)
    (sh, sw), (ph, pw), (dh, dw), (ho, wo) = plan
    height, width = x.shape[2:]
    kernel = rearrange(weight, "(g c) o m n -> m n g o c", g=groups)
    pixels = rearrange(x, "b (g c) i j -> b g c (i j)", g=groups)
    y = x.new_zeros(len(x), weight.shape[1] * groups, ho + 2 * ph, wo + 2 * pw)
    for m, n in product(range(weight.shape[2]), range(weight.shape[3])):
        stamp = rearrange(kernel[m, n] @ pixels, "b g o (i j) -> b (g o) i j", i=height)
        y[..., dh * m : dh * m + sh * (height - 1) + 1 : sh, dw * n : dw * n + sw * (width - 1) + 1 : sw] += (
            stamp
        )
    y = y[..., ph : ph + ho, pw : pw + wo]
    return y if bias is None else y + bias[:, None, None]


def max_pool2d_loops(x, kernel_size, *, stride=None, padding=0):
    """(B, C, H, W) -> (B, C, Ho, Wo): the largest pixel of each window, for small inputs [PyTorch docs,
    MaxPool2d].

    Of equal pixels the first, in reading order, is taken and alone gets the gradient; NaN wins.
    """
    kernel, (sh, sw), (ph, pw), (ho, wo) = _pool_plan(x, kernel_size, stride, padding)
    batch, channels, height, width = x.shape
    y = x.new_zeros(batch, channels, ho, wo)
    for b, c, i, j in product(range(batch), range(channels), range(ho), range(wo)):
        best = None
        for m, n in product(*map(range, kernel)):
            row, column = sh * i + m - ph, sw * j + n - pw
            if 0 <= row < height and 0 <= column < width:
                pixel = x[b, c, row, column]
                best = pixel if best is None or pixel > best or pixel.isnan() else best
        y[b, c, i, j] = best
    return y


def max_pool2d(x, kernel_size, *, stride=None, padding=0):
    """(B, C, H, W) -> (B, C, Ho, Wo): the largest pixel of each window; stride None means the kernel size.

    Equal to `torch.nn.functional.max_pool2d`, ties and NaN included. Raises ValueError for a padding above
    half the kernel.
    """
    kernel, stride, padding, size = _pool_plan(x, kernel_size, stride, padding)
    windows = _windows(_pad(x, padding, -torch.inf), kernel, stride, (1, 1), size)
    best = next(windows)[-1].clone()  # a kernel of one pixel shall not return a view of x
    for _, _, window in windows:
        best = torch.where((window > best) | window.isnan(), window, best)
    return best


def avg_pool2d_loops(x, kernel_size, *, stride=None, padding=0, count_include_pad=True):
    """(B, C, H, W) -> (B, C, Ho, Wo): the mean of each window, for small inputs [PyTorch docs, AvgPool2d]."""
    kernel, (sh, sw), (ph, pw), (ho, wo) = _pool_plan(x, kernel_size, stride, padding)
    batch, channels, height, width = x.shape
    y = x.new_zeros(batch, channels, ho, wo)
    for b, c, i, j in product(range(batch), range(channels), range(ho), range(wo)):
        total, pixels = x.new_zeros(()), 0
        for m, n in product(*map(range, kernel)):
            row, column = sh * i + m - ph, sw * j + n - pw
            if 0 <= row < height and 0 <= column < width:
                total, pixels = total + x[b, c, row, column], pixels + 1
        y[b, c, i, j] = total / (kernel[0] * kernel[1] if count_include_pad else pixels)
    return y


def avg_pool2d(x, kernel_size, *, stride=None, padding=0, count_include_pad=True):
    """(B, C, H, W) -> (B, C, Ho, Wo): the mean of each window; stride None means the kernel size.

    The divisor is the number of elements Kh·Kw, or with count_include_pad=False the number that lie in the
    image. Equal to `torch.nn.functional.avg_pool2d`. Raises ValueError for a padding above half the kernel.
    """
    kernel, stride, padding, size = _pool_plan(x, kernel_size, stride, padding)

    def window_sums(images):
        return sum(window for _, _, window in _windows(_pad(images, padding), kernel, stride, (1, 1), size))

    if count_include_pad:
        return window_sums(x) / (kernel[0] * kernel[1])
    return window_sums(x) / window_sums(torch.ones_like(x[:1, :1]))


def receptive_field(layers):
    """[(kernel, stride[, dilation]) or a layer with these attributes, …] -> int, or (h, w) where these
    differ.

    The input pixels that one output pixel sees, layers in order from the input: a step of one output pixel is
    a jump of Π strides input pixels, and each layer adds (k − 1)·d jumps [Araujo, Norris & Sim 2019, Distill,
    eq. 2]. Raises TypeError for layers whose output is larger than their input, such as nn.ConvTranspose2d.
    """
    if not isinstance(layers, Iterable):
        raise TypeError(f"receptive_field wants a list of layers, got {type(layers).__name__}")
    sizes, jumps = [1, 1], [1, 1]
    for layer in layers:
        kernel, stride, dilation = _layer_sizes(layer)
        for axis in range(2):
            sizes[axis] += (kernel[axis] - 1) * dilation[axis] * jumps[axis]
            jumps[axis] *= stride[axis]
    return sizes[0] if sizes[0] == sizes[1] else tuple(sizes)


# What the functions above share: the windows, and the checks of what they are given.


def _windows(x, kernel, stride, dilation, size):
    """Yield m, n and the pixels (B, C, Ho, Wo) under kernel entry (m, n) in all windows at once."""
    (sh, sw), (dh, dw), (ho, wo) = stride, dilation, size
    for m, n in product(*map(range, kernel)):
        yield m, n, x[..., dh * m : dh * m + sh * (ho - 1) + 1 : sh, dw * n : dw * n + sw * (wo - 1) + 1 : sw]


def _pad(x, padding, value=0.0):
    (ph, pw) = padding
    return F.pad(x, (pw, pw, ph, ph), value=value) if ph or pw else x


def _conv_plan(x, weight, bias, stride, padding, dilation, groups):
    """Check what a convolution is given -> stride, padding, dilation, output size as pairs."""
    stride, padding, dilation, groups = _conv_numbers(stride, padding, dilation, groups)
    _check_tensors(x, weight, bias, "(O, C/groups, Kh, Kw)")
    channels, (outs, per_group, *kernel) = x.shape[1], weight.shape
    if channels % groups or outs % groups:
        raise ValueError(
            f"groups={groups} does not divide the {channels} channels of x and the {outs} of weight"
        )
    if channels != per_group * groups:
        wanted = per_group * groups
        raise ValueError(
            f"weight {tuple(weight.shape)} with groups={groups} wants x with {wanted} channels, "
            f"got {channels}"
        )
    _check_bias(bias, outs)
    size = output_size(x.shape[2:], kernel, stride=stride, padding=padding, dilation=dilation)
    return stride, padding, dilation, size


def _transpose_plan(x, weight, bias, stride, padding, output_padding, dilation, groups):
    """Check what a transposed convolution is given -> stride, padding, dilation, output size as pairs."""
    stride, padding, dilation, groups = _conv_numbers(stride, padding, dilation, groups)
    extra = _pair(output_padding, "output_padding", 0)
    _check_tensors(x, weight, bias, "(C, O/groups, Kh, Kw)")
    channels, (ins, per_group, *kernel) = x.shape[1], weight.shape
    if channels % groups:
        raise ValueError(f"groups={groups} does not divide the {channels} channels of x")
    if channels != ins:
        raise ValueError(f"weight {tuple(weight.shape)} wants x with {ins} channels, got {channels}")
    _check_bias(bias, per_group * groups)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ValueError(f"output_padding {extra} must be below stride {stride} or dilation {dilation}")
    axes = zip(x.shape[2:], kernel, stride, padding, dilation, extra, strict=True)
    size = tuple((n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in axes)
    if min(size) < 1:
        raise ValueError(f"padding {padding} leaves nothing of the output: its size would be {size}")
    return stride, padding, dilation, size


def _pool_plan(x, kernel_size, stride, padding):
    """Check what a pooling is given -> kernel, stride, padding, output size as pairs."""
    kernel = _pair(kernel_size, "kernel_size", 1)
    stride = kernel if stride is None else _pair(stride, "stride", 1)
    padding = _pair(padding, "padding", 0)
    check_images(x, "x", "(B, C, H, W)")
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(f"padding {padding} is more than half of the kernel {kernel}")
    return kernel, stride, padding, output_size(x.shape[2:], kernel, stride=stride, padding=padding)


def _conv_numbers(stride, padding, dilation, groups):
    if isinstance(groups, bool) or not isinstance(groups, Integral):
        raise TypeError(f"groups wants an int, got {groups!r}")
    if groups < 1:
        raise ValueError(f"groups wants at least 1, got {groups}")
    return _pair(stride, "stride", 1), _pair(padding, "padding", 0), _pair(dilation, "dilation", 1), groups


def _layer_sizes(layer):
    """A layer, or (kernel, stride[, dilation]) -> kernel, stride, dilation as pairs."""
    if isinstance(layer, nn.Module):
        upwards = isinstance(layer, (nn.ConvTranspose2d, nn.MaxUnpool2d))  # their stride is one of the output
        if upwards or not hasattr(layer, "kernel_size") or not hasattr(layer, "stride"):
            raise TypeError(
                "receptive_field wants layers with a kernel that moves over their input, "
                f"got {type(layer).__name__}"
            )
        layer = layer.kernel_size, layer.stride or layer.kernel_size, getattr(layer, "dilation", 1)
    if not isinstance(layer, (tuple, list)) or len(layer) not in (2, 3):
        raise TypeError(
            f"receptive_field wants (kernel, stride) or (kernel, stride, dilation) a layer, got {layer!r}"
        )
    kernel, stride, dilation = (*layer, 1)[:3]
    return _pair(kernel, "kernel", 1), _pair(stride, "stride", 1), _pair(dilation, "dilation", 1)


def _pair(value, name, least):
    """An int or two of them -> (int, int), each at least `least`."""
    both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    try:
        if len(both) != 2 or any(isinstance(number, bool) for number in both):
            raise TypeError
        both = tuple(
            operator.index(number) for number in both
        )  # takes NumPy's integers, refuses 2.0 and "same"
    except TypeError:
        raise TypeError(f"{name} wants an int or a pair of ints, got {value!r}") from None
    if min(both) < least:
        raise ValueError(f"{name} wants at least {least}, got {value!r}")
    return both


def _check_tensors(x, weight, bias, weight_shape):
    check_images(x, "x", "(B, C, H, W)")
    check_images(weight, "weight", weight_shape)
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is None:
            continue
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} wants a torch.Tensor, got {type(tensor).__name__}")
        if tensor.dtype != x.dtype or tensor.device != x.device:
            raise TypeError(f"{name} is {tensor.dtype} on {tensor.device}, but x is {x.dtype} on {x.device}")


def _check_bias(bias, channels):
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f"bias wants the shape ({channels},), got {tuple(bias.shape)}")
