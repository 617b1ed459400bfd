"""Exercises of chapter 3a, convolution and pooling."""

import sys

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from vlmbook import convolution
from vlmbook.chapters.measured import judge_two_variants
from vlmbook.notebook.exercises import Exercise, Wrong, as_shape, as_tensor, require_returned, require_values
from vlmbook.notebook.messages import message
from vlmbook.validation import describe

OUR_FUNCTIONS = {
    convolution.conv2d.__code__: "conv2d",
    convolution.conv2d_loops.__code__: "conv2d",
    convolution.conv_transpose2d.__code__: "conv_transpose2d",
    convolution.avg_pool2d.__code__: "avg_pool2d",
    convolution.avg_pool2d_loops.__code__: "avg_pool2d",
}


class Watch(TorchDispatchMode):
    """The operators of PyTorch and the functions of `vlmbook.convolution` that an answer calls, by name."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def call(self, answer, *arguments):
        """-> what the answer returns for the arguments."""
        before = sys.getprofile()
        sys.setprofile(self._note_call)
        try:
            with self:
                return answer(*arguments)
        finally:
            sys.setprofile(before)

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        if name == "convolution":
            transposed = args[6]
            name = "conv_transpose2d" if transposed else "conv2d"
        self.names.add(name)
        return operator(*args, **(kwargs or {}))

    def _note_call(self, frame, event, _):
        if event == "call" and frame.f_code in OUR_FUNCTIONS:
            self.names.add(OUR_FUNCTIONS[frame.f_code])


def judge_alexnet_shape(answer):
    got = as_shape(answer, "a window that does not fit any more is left out (⌊ ⌋ rounds down)")
    after = F.conv2d(torch.zeros(1, 3, 224, 224), torch.zeros(64, 3, 11, 11), stride=4, padding=2)
    want = tuple(F.max_pool2d(after, 3, stride=2).shape)
    size = got[2:]
    if got[:2] != (1, 64):
        raise Wrong(
            "B, C = {got}: the batch stays 1, and a layer has as many channels as it has filters. "
            "Pooling treats each channel alone.",
            got=got[:2],
        )
    if size == (55, 55):
        raise Wrong("55 is right after the convolution. The pooling still follows.")
    if size == (26, 26):
        raise Wrong("26 comes out without the padding: it adds 2 pixels on both sides, so 224 becomes 228.")
    if size in ((28, 28), (18, 18)):
        raise Wrong(
            "{size}: put kernel 3 and stride 2 of the pooling into the size formula; its windows overlap.",
            size=size,
        )
    if got != want:
        raise Wrong(
            "H, W = {size}: use the size formula once for the convolution and once for the pooling.",
            size=size,
        )


def judge_halving_padding(answer):
    for kernel in range(1, 10):
        for n in range(10, 18, 2):
            _judge_padding(answer(n, kernel), n, kernel)


def _judge_padding(padding, n, kernel):
    require_returned(padding)
    if type(padding) is not int:
        raise Wrong(
            "halving_padding({n}, {kernel}) is {padding}; a padding is a whole number (use //).",
            n=n,
            kernel=kernel,
            padding=describe(padding),
        )
    if padding < 0:
        raise Wrong(
            "halving_padding({n}, {kernel}) is {padding}; a padding is not negative.",
            n=n,
            kernel=kernel,
            padding=padding,
        )
    size = (n + 2 * padding - kernel) // 2 + 1
    if size == n // 2:
        return
    template = "With n={n}, kernel={kernel} your padding {padding} gives {size} pixels, not {half}."
    if kernel % 2 == 0:
        template = (
            "With n={n}, kernel={kernel} your padding {padding} gives {size} pixels, not {half}. "
            "Look at the even kernels."
        )
    raise Wrong(template, n=n, kernel=kernel, padding=padding, size=size, half=n // 2)


def halving_padding(n, kernel):
    return (kernel - 1) // 2


def judge_pool_as_convolution(answer):
    watch = Watch()
    generator = torch.Generator().manual_seed(1)
    for channels, window in ((1, 2), (3, 2), (2, 3)):
        x = torch.rand(2, channels, 6 * window, 4 * window + 1, generator=generator)
        want = F.avg_pool2d(x, window)
        case = message("x {shape}, window {window}", shape=tuple(x.shape), window=window)
        got = as_tensor(watch.call(answer, x.clone(), window), want, case)
        if torch.allclose(got, want * window, rtol=1e-4):
            raise Wrong(
                "Every value is {window} times too large: divide by the number of elements in the window.",
                window=window,
            )
        if torch.allclose(got, want * window**2, rtol=1e-4):
            raise Wrong("This is the sum of each window; the mean divides by its number of elements.")
        mixed = (want.mean(1, keepdim=True).expand_as(want), want.sum(1, keepdim=True).expand_as(want))
        if channels > 1 and any(torch.allclose(got, one, rtol=1e-4) for one in mixed):
            raise Wrong(
                "Your channels are mixed. Pooling treats each alone: which argument of conv2d separates them?"
            )
        require_values(got, want, case)
    if watch.names & {"avg_pool2d", "_adaptive_avg_pool2d"}:
        raise Wrong("The values are right, but they come from a pooling. Let conv2d do the work.")
    _judge_that_it_convolves(watch)


def pool_as_convolution(x, window):
    channels = x.shape[1]
    weight = torch.full((channels, 1, window, window), 1 / window**2, dtype=x.dtype)
    return F.conv2d(x, weight, stride=window, groups=channels)


def judge_transpose_from_convolution(answer):
    watch = Watch()
    generator = torch.Generator().manual_seed(2)
    for ins, outs, kernel, stride in ((1, 1, 3, 1), (1, 1, 3, 2), (2, 3, 4, 2), (3, 2, 2, 3)):
        x = torch.randn(2, ins, 4, 5, generator=generator)
        weight = torch.randn(ins, outs, kernel, kernel, generator=generator)
        want = F.conv_transpose2d(x, weight, stride=stride)
        case = message(
            "x {x}, weight {weight}, stride {stride}",
            x=tuple(x.shape),
            weight=tuple(weight.shape),
            stride=stride,
        )
        got = watch.call(answer, x.clone(), weight.clone(), stride)
        longer = (2, outs, want.shape[2] + stride - 1, want.shape[3] + stride - 1)
        if stride > 1 and isinstance(got, torch.Tensor) and got.shape == longer:
            raise Wrong(
                "There are zeros after the last pixel: the stretched input has (H − 1)·stride + 1 rows."
            )
        got = as_tensor(got, want, case)
        if torch.allclose(got, F.conv_transpose2d(x, weight.flip(2, 3), stride=stride), atol=1e-4):
            raise Wrong(
                "The stamps come out turned by 180°: conv2d reads its kernel forwards, a stamp is written."
            )
        require_values(got, want, case)
    if "conv_transpose2d" in watch.names:
        raise Wrong(
            "The values are right, but they come from a transposed convolution. Write it with conv2d."
        )
    _judge_that_it_convolves(watch)


def _judge_that_it_convolves(watch):
    if "conv2d" not in watch.names:
        raise Wrong("The values are right, but no convolution was called. Write it with conv2d.")


def transpose_from_convolution(x, weight, stride):
    batch, channels, height, width = x.shape
    spread = x.new_zeros(batch, channels, (height - 1) * stride + 1, (width - 1) * stride + 1)
    spread[:, :, ::stride, ::stride] = x
    kernel = weight.transpose(0, 1).flip(2, 3)
    return F.conv2d(spread, kernel, padding=(kernel.shape[2] - 1, kernel.shape[3] - 1))


def judge_poolings(answer):
    judge_two_variants(answer, ("max", "average"), larger_is_better=True, least=0.5, most=1)


EXERCISES = {
    "1": Exercise(
        judge_alexnet_shape,
        hints=(
            "Channels first: how many filters does the convolution have? Then the size formula for one axis.",
            "After the convolution: ⌊(224 + 2·2 − 11) / 4⌋ + 1. The fraction is dropped.",
            "The convolution leaves 55×55. Now kernel 3, stride 2, no padding.",
        ),
        solution=(1, 64, 27, 27),
        why="⌊(224 + 4 − 11)/4⌋ + 1 = 55 after the convolution, ⌊(55 − 3)/2⌋ + 1 = 27 after the pooling; "
        "64 filters make 64 channels. These are the first layers of AlexNet as torchvision builds it.",
    ),
    "2": Exercise(
        judge_halving_padding,
        hints=(
            "Write the size formula with stride 2 and ask for n/2. n is even.",
            "⌊(n + 2p − k)/2⌋ = n/2 − 1 holds when 2p − k is −2 or −1.",
            "So p = (k − 1)/2 for odd k and (k − 2)/2 for even k: one expression with // gives both.",
        ),
        solution=halving_padding,
        why="⌊(n + 2p − k)/2⌋ + 1 = n/2 holds exactly when 2p − k is −2 or −1. `kernel // 2` is right for "
        "odd kernels only: for a 4×4 kernel it gives one pixel too many.",
    ),
    "3": Exercise(
        judge_pool_as_convolution,
        hints=(
            "A mean is a weighted sum with equal weights. What are they for a window of k×k pixels?",
            "The windows of this pooling do not overlap: which stride is that? No channel may see another.",
            "weight = torch.full((channels, 1, window, window), 1 / window**2), then conv2d with stride and "
            "groups.",
        ),
        solution=pool_as_convolution,
        why="Average pooling is a depthwise convolution (groups = channels) with kernel 1/k² and stride k.",
    ),
    "4": Exercise(
        judge_transpose_from_convolution,
        hints=(
            "Where are the stamps of a transposed convolution of stride 2? Put the pixels there, and zeros "
            "between them.",
            "Each output pixel now gathers from the stamps around it: a convolution with padding kernel − 1.",
            "Gathering reads the kernel backwards: flip it in both directions. conv2d wants (O, C, K, K).",
        ),
        solution=transpose_from_convolution,
        why="Zeros between the pixels, padding k − 1, the kernel turned by 180°, its channel axes swapped: a "
        "transposed convolution is an ordinary one on a stretched input [Dumoulin & Visin 2016, §4.5].",
    ),
    "5": Exercise(
        judge_poolings,
        hints=(
            "Copy cnn(), and put nn.AvgPool2d(2) where nn.MaxPool2d(2) stands.",
            'share(train(seed, make=average_cnn)[0], trials["moved by one pixel"]) is one of six numbers.',
            "Compare the distance of both means with the sum of both standard deviations.",
        ),
        solution={
            "max": [0.9312, 0.9292, 0.9118],
            "average": [0.9535, 0.9354, 0.9278],
            "conclusion": "no difference",
        },
        why="In this run the means are 0.924 and 0.939, with standard deviations of 0.011 and 0.013. Average "
        "pooling is ahead for each seed, but by less than the sum of both deviations: three seeds do not "
        "decide it.",
    ),
}
