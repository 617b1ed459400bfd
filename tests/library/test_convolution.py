"""Convolution and pooling against PyTorch's and against loops, in values and gradients; then invariants."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d, correlate2d
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support.no_float64 import RefuseFloat64
from vlmbook.convolution import (
    avg_pool2d,
    avg_pool2d_loops,
    conv2d,
    conv2d_loops,
    conv_matrix,
    conv_transpose2d,
    max_pool2d,
    output_size,
    receptive_field,
)

CONV = (conv2d, conv2d_loops)
TRANSPOSED = (conv_transpose2d,)
MAX = (max_pool2d,)
AVERAGE = (avg_pool2d, avg_pool2d_loops)


# Cases: tensors, further arguments, options. `room` is by how much an image may exceed the least that fits.


def either(least, most):
    """An int, or a pair of two that are mostly unequal."""
    number = st.integers(least, most)
    return number | st.tuples(number, number)


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def smallest(kernel, padding=0, dilation=1):
    """The smallest image, in rows and columns, into which the kernel fits."""
    axes = zip(pair(kernel), pair(padding), pair(dilation), strict=True)
    return [max(1, d * (k - 1) + 1 - 2 * p) for k, p, d in axes]


def noise(draw, *shape, whole=False):
    """Numbers from a normal distribution, or whole ones from -2 to 2, among which there are many ties."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    if whole:
        return torch.randint(-2, 3, shape, generator=generator).double()
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@st.composite
def convolutions(draw, room):
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    options = {
        "stride": draw(either(1, 3)),
        "padding": draw(either(0, 2)),
        "dilation": draw(either(1, 3)),
        "groups": draw(st.integers(1, 3)),
    }
    channels, outs = draw(st.integers(1, 2)), draw(st.integers(1, 2)) * options["groups"]
    least = smallest(kernel, options["padding"], options["dilation"])
    size = [n + draw(st.integers(0, room)) for n in least]
    x = noise(draw, draw(st.integers(1, 2)), channels * options["groups"], *size)
    bias = noise(draw, outs) if draw(st.booleans()) else None
    return [x, noise(draw, outs, channels, *kernel), bias], [], options


@st.composite
def transposed_convolutions(draw, room):
    kernel, size = (draw(st.tuples(st.integers(1, most), st.integers(1, most))) for most in (3, 1 + room))
    stride, dilation, groups = draw(either(1, 3)), draw(either(1, 3)), draw(st.integers(1, 3))
    channels, outs = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    extra = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(pair(stride), pair(dilation), strict=True)]
    axes = zip(size, pair(stride), pair(dilation), kernel, extra, strict=True)
    padding = [draw(st.integers(0, ((n - 1) * s + d * (k - 1) + e) // 2)) for n, s, d, k, e in axes]
    short = [numbers[0] if numbers[0] == numbers[1] else tuple(numbers) for numbers in (padding, extra)]
    x = noise(draw, draw(st.integers(1, 2)), channels * groups, *size)
    bias = noise(draw, outs * groups) if draw(st.booleans()) else None
    options = dict(zip(("padding", "output_padding"), short, strict=True)) | {
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
    }
    return [x, noise(draw, channels * groups, outs, *kernel), bias], [], options


@st.composite
def poolings(draw, room, whole=False, **flags):
    kernel = draw(either(1, 4))
    options = {"stride": draw(st.none() | either(1, 4)), **{name: draw(st.booleans()) for name in flags}}
    padding = tuple(draw(st.integers(0, k // 2)) for k in pair(kernel))
    options["padding"] = padding[0] if padding[0] == padding[1] else padding
    size = [n + draw(st.integers(0, room)) for n in smallest(kernel, padding)]
    x = noise(draw, draw(st.integers(1, 2)), 2, *size, whole=whole and draw(st.booleans()))
    return [x], [kernel], options


ORACLES = {
    conv2d: (F.conv2d, convolutions(room=6)),
    conv2d_loops: (F.conv2d, convolutions(room=2)),
    conv_transpose2d: (F.conv_transpose2d, transposed_convolutions(room=4)),
    max_pool2d: (F.max_pool2d, poolings(room=6, whole=True)),
    avg_pool2d: (F.avg_pool2d, poolings(room=6, count_include_pad=True)),
    avg_pool2d_loops: (F.avg_pool2d, poolings(room=2, count_include_pad=True)),
}


# Oracle: PyTorch.


def values_and_gradients(function, tensors, arguments, options):
    """-> the output, and the gradient of its weighted sum for each tensor."""
    leaves = [t if t is None else t.detach().clone().requires_grad_() for t in tensors]
    y = function(*leaves, *arguments, **options)
    wanted = [leaf for leaf in leaves if leaf is not None]
    if not y.requires_grad:  # loops whose windows meet no pixel but padding
        return [y, *map(torch.zeros_like, wanted)]
    weights = torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    return [y, *torch.autograd.grad(y, wanted, weights, materialize_grads=True)]


@pytest.mark.parametrize("ours", ORACLES, ids=lambda f: f.__name__)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_equals_pytorch_in_values_and_gradients(ours, data):
    peer, cases = ORACLES[ours]
    case = data.draw(cases)
    mine, theirs = values_and_gradients(ours, *case), values_and_gradients(peer, *case)
    assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("ours", [f for f in ORACLES if "loops" not in f.__name__], ids=lambda f: f.__name__)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_equals_pytorch_in_float32(ours, data):
    peer, cases = ORACLES[ours]
    tensors, arguments, options = data.draw(cases)
    tensors = [t if t is None else t.float() for t in tensors]
    mine, theirs = (values_and_gradients(f, tensors, arguments, options) for f in (ours, peer))
    assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


# Oracle: the formulas, in loops.


def conv_transpose2d_loops(x, weight, bias, *, stride, padding, output_padding, dilation, groups):
    """Each pixel stamps the kernel; stamps outside the output are lost."""
    axes = zip(
        *map(pair, (stride, padding, dilation, output_padding)), x.shape[2:], weight.shape[2:], strict=True
    )
    ho, wo = ((n - 1) * s - 2 * p + d * (k - 1) + e + 1 for s, p, d, e, n, k in axes)
    (sh, sw), (ph, pw), (dh, dw) = map(pair, (stride, padding, dilation))
    batch, channels, height, width = x.shape
    _, per_group, kh, kw = weight.shape
    y = x.new_zeros(batch, per_group * groups, ho, wo)
    for b, c, i, j in product(range(batch), range(channels), range(height), range(width)):
        first = c // (channels // groups) * per_group  # the first output channel of this input's group
        for o, m, n in product(range(per_group), range(kh), range(kw)):
            row = sh * i + dh * m - ph
            column = sw * j + dw * n - pw
            if 0 <= row < ho and 0 <= column < wo:
                y[b, first + o, row, column] += x[b, c, i, j] * weight[c, o, m, n]
    return y if bias is None else y + bias[:, None, None]


def max_pool2d_loops(x, kernel_size, *, stride, padding):
    """Of equal pixels the first, in reading order."""
    kernel = pair(kernel_size)
    (sh, sw), (ph, pw) = pair(kernel if stride is None else stride), pair(padding)
    batch, channels, height, width = x.shape
    y = x.new_zeros(
        batch, channels, (height + 2 * ph - kernel[0]) // sh + 1, (width + 2 * pw - kernel[1]) // sw + 1
    )
    for b, c, i, j in product(*map(range, y.shape)):
        largest = None
        for m, n in product(*map(range, kernel)):
            row = sh * i + m - ph
            column = sw * j + n - pw
            if 0 <= row < height and 0 <= column < width:
                pixel = x[b, c, row, column]
                largest = pixel if largest is None or pixel > largest else largest
        y[b, c, i, j] = largest
    return y


LOOPS = {
    conv_transpose2d: (conv_transpose2d_loops, transposed_convolutions(room=1)),
    max_pool2d: (max_pool2d_loops, poolings(room=2, whole=True)),
}


@pytest.mark.parametrize("ours", LOOPS, ids=lambda f: f.__name__)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_equals_the_formula_in_loops(ours, data):
    loops, cases = LOOPS[ours]
    case = data.draw(cases)
    assert_close(
        values_and_gradients(ours, *case), values_and_gradients(loops, *case), rtol=1e-10, atol=1e-10
    )


EXAMPLES = {
    CONV: (
        F.conv2d,
        [(2, 4, 7, 6), (6, 2, 3, 2), (6,)],
        [],
        {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2},
    ),
    TRANSPOSED: (
        F.conv_transpose2d,
        [(2, 4, 3, 4), (4, 3, 3, 2), (6,)],
        [],
        {"stride": (3, 2), "padding": 1, "output_padding": (2, 1), "groups": 2},
    ),
    MAX: (F.max_pool2d, [(2, 3, 7, 6)], [(3, 2)], {"stride": (2, 3), "padding": (1, 0)}),
    AVERAGE: (
        F.avg_pool2d,
        [(2, 3, 7, 6)],
        [(3, 2)],
        {"stride": 2, "padding": 1, "count_include_pad": False},
    ),
}
EACH = [(ours, *example) for both, example in EXAMPLES.items() for ours in both]
each = pytest.mark.parametrize(
    "ours, peer, shapes, arguments, options", EACH, ids=[ours.__name__ for ours, *_ in EACH]
)


def randn(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


HALF = (torch.float16, torch.bfloat16)


@each
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_rounds_once_at_the_end(ours, peer, shapes, arguments, options, dtype):
    tensors = randn(*shapes, dtype=dtype)
    mine = values_and_gradients(ours, tensors, arguments, options)
    exact = values_and_gradients(peer, [t.double() for t in tensors], arguments, options)
    step = torch.finfo(dtype).eps
    assert {t.dtype for t in mine} == {dtype}
    assert_close(mine[0].double(), exact[0], rtol=step, atol=1e-6)
    assert_close([t.double() for t in mine[1:]], exact[1:], rtol=8 * step, atol=8 * step)


@pytest.mark.parametrize("dtype", HALF)
def test_sums_of_thousands_of_pixels_keep_the_precision_of_float32(dtype):
    white = torch.ones(1, 1, 64, 64, dtype=dtype)
    assert avg_pool2d(white, 64).item() == 1
    assert avg_pool2d_loops(white, 64).item() == 1
    assert conv2d(white, white / 4096).item() == 1
    assert conv2d_loops(white, white / 4096).item() == 1
    many = torch.ones(1, 3000, 2, 2, dtype=dtype)
    assert (conv_transpose2d(many, many.view(3000, 1, 2, 2), padding=1) == 12_000).all()


AUTOCAST = [ours for ours in EACH if ours[0] in (*CONV, *TRANSPOSED)]


@pytest.mark.parametrize(
    "ours, peer, shapes, arguments, options", AUTOCAST, ids=[f.__name__ for f, *_ in AUTOCAST]
)
@pytest.mark.parametrize("dtype", HALF)
def test_under_autocast_dtypes_are_those_of_pytorch(ours, peer, shapes, arguments, options, dtype):
    """The values are compared with the exact ones: on processors with AMX, PyTorch 2.15's transposed
    convolution in bfloat16 leaves out the bias in the rows of output_padding.
    """
    for original in (torch.float32, dtype, torch.float64)[: 1 if ours is conv2d_loops else 3]:
        tensors = randn(*shapes, dtype=original)
        with torch.autocast("cpu", dtype):
            mine, theirs = (values_and_gradients(f, tensors, arguments, options) for f in (ours, peer))
        assert [each.dtype for each in mine] == [each.dtype for each in theirs]
        exact = values_and_gradients(peer, [t.double() for t in tensors], arguments, options)
        mine = [each.double() for each in mine]
        close = 0.05 if original != torch.float64 else 1e-6
        assert_close(mine[0], exact[0], rtol=close, atol=close)
        assert_close(mine[1:], exact[1:], rtol=2 * close, atol=2 * close)


@pytest.mark.parametrize(
    "ours, peer, shapes, arguments, options", AUTOCAST, ids=[f.__name__ for f, *_ in AUTOCAST]
)
def test_under_autocast_too_the_sum_is_rounded_once_at_the_end(ours, peer, shapes, arguments, options):
    tensors = randn(*shapes, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        mine = ours(*tensors, *arguments, **options)
    exact = peer(*tensors, *arguments, **options)
    assert_close(mine.float(), exact, rtol=torch.finfo(torch.bfloat16).eps, atol=1e-6)


def test_a_layer_learns_under_autocast():
    x, wanted = randn((2, 4, 7, 6), (6, 4, 3, 3), dtype=torch.float32)
    weight = torch.zeros_like(wanted, requires_grad=True)
    losses = []
    for _ in range(40):
        with torch.autocast("cpu", torch.bfloat16):
            loss = (conv2d(x, weight) - conv2d(x, wanted)).float().square().mean()
        (gradient,) = torch.autograd.grad(loss, weight)
        weight.data -= 2 * gradient
        losses.append(loss.item())
    assert gradient.dtype == torch.float32
    assert losses[-1] < 0.02 * losses[0]


QUICK = [example for example in EACH if "loops" not in example[0].__name__]


@pytest.mark.parametrize(
    "ours, peer, shapes, arguments, options", QUICK, ids=[ours.__name__ for ours, *_ in QUICK]
)
def test_nothing_makes_float64(ours, peer, shapes, arguments, options):
    for dtype in (torch.float32, *HALF):
        tensors = randn(*shapes, dtype=dtype)
        with RefuseFloat64():
            values_and_gradients(ours, tensors, arguments, options)


@each
def test_empty_batch(ours, peer, shapes, arguments, options):
    x, *rest = randn(*shapes)
    mine, theirs = (values_and_gradients(f, [x[:0], *rest], arguments, options) for f in (ours, peer))
    assert_close(mine, theirs)
    assert mine[0].shape[0] == 0


@each
def test_strided_inputs(ours, peer, shapes, arguments, options):
    """Inputs that are not contiguous: transposed, every second pixel, an expanded batch, channels_last."""
    x, *rest = randn(*shapes)
    sparse = torch.zeros(*x.shape[:3], 2 * x.shape[3], dtype=x.dtype)[..., ::2].copy_(x)
    last = {"memory_format": torch.channels_last}
    others = [t.to(**last) if t.ndim == 4 else t for t in rest]
    for view in (x.mT.contiguous().mT, sparse, x[:1].expand(3, -1, -1, -1), x.to(**last)):
        mine, theirs = (f(view, *others, *arguments, **options) for f in (ours, peer))
        assert not view.is_contiguous()
        assert_close(mine, theirs)


@each
def test_gradients_only_where_asked(ours, peer, shapes, arguments, options):
    for asked in product([False, True], repeat=len(shapes)):
        tensors = [t.requires_grad_(wanted) for t, wanted in zip(randn(*shapes), asked, strict=True)]
        y = ours(*tensors, *arguments, **options)
        assert y.requires_grad == any(asked)
        if any(asked):
            y.sum().backward()
        assert [t.grad is not None for t in tensors] == list(asked)
        with torch.no_grad():
            assert not ours(*tensors, *arguments, **options).requires_grad


@each
def test_inputs_stay_as_they_are(ours, peer, shapes, arguments, options):
    tensors = randn(*shapes)
    ours(*tensors, *arguments, **options).fill_(7)  # nor is the result a view of them
    assert_close(tensors, randn(*shapes), rtol=0, atol=0)


@pytest.mark.parametrize("ours", [*MAX, *AVERAGE], ids=lambda f: f.__name__)
def test_pooling_with_a_window_of_one_pixel_copies(ours):
    (x,) = randn((1, 1, 3, 3))
    y = ours(x, 1)
    assert_close(y, x)
    assert y.data_ptr() != x.data_ptr()


@each
def test_second_derivatives(ours, peer, shapes, arguments, options):
    if len(shapes) > 1:  # smaller, since loops are slow
        shapes, options = [(1, 2, 3, 3), (2, 1, 2, 2), (2,)], {"stride": 2, "padding": 1, "groups": 2}
    else:
        shapes = [(1, 2, 4, 3)]
    tensors = [t.requires_grad_() for t in randn(*shapes)]
    assert torch.autograd.gradcheck(lambda *t: ours(*t, *arguments, **options), tensors)
    assert torch.autograd.gradgradcheck(lambda *t: ours(*t, *arguments, **options), tensors)


@pytest.mark.parametrize("ours", MAX, ids=lambda f: f.__name__)
def test_of_equal_pixels_the_first_gets_the_gradient(ours):
    for x in (torch.ones(1, 1, 4, 4), torch.full((1, 1, 4, 4), -torch.inf)):
        _, gradient = values_and_gradients(ours, [x], [2], {})
        assert (gradient != 0)[0, 0].nonzero().tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]


@pytest.mark.parametrize("ours", MAX, ids=lambda f: f.__name__)
def test_nan_and_infinity_win_a_maximum(ours):
    (x,) = randn((1, 1, 6, 6))
    x[0, 0, 1, 2] = x[0, 0, 2, 2] = torch.nan
    x[0, 0, 4, 4], x[0, 0, 4, 3] = torch.inf, -torch.inf
    for options in ({"stride": 1, "padding": 1}, {"stride": 2}):
        mine, theirs = (values_and_gradients(f, [x], [3], options) for f in (ours, F.max_pool2d))
        assert_close(mine, theirs, equal_nan=True)


# Sizes: output_size, receptive_field.


@settings(max_examples=200, deadline=None)
@given(case=convolutions(room=9))
def test_output_size_is_the_shape_that_pytorch_gives(case):
    (x, weight, _), _, options = case
    real = F.conv2d(x, weight, **options).shape[2:]
    numbers = {name: options[name] for name in ("stride", "padding", "dilation")}
    assert output_size(tuple(x.shape[2:]), tuple(weight.shape[2:]), **numbers) == tuple(real)
    rows = {name: pair(value)[0] for name, value in numbers.items()}
    assert output_size(x.shape[2], weight.shape[2], **rows) == real[0]


@settings(max_examples=200, deadline=None)
@given(n=either(1, 9), kernel=either(1, 5), stride=either(1, 4), padding=either(0, 3), dilation=either(1, 3))
def test_output_size_refuses_what_pytorch_refuses(n, kernel, stride, padding, dilation):
    x, weight = torch.empty(1, 1, *pair(n)), torch.empty(1, 1, *pair(kernel))
    try:
        real = F.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation).shape[2:]
    except RuntimeError:
        with pytest.raises(ValueError, match="pixels with the padding, got"):
            output_size(n, kernel, stride=stride, padding=padding, dilation=dilation)
    else:
        assert pair(output_size(n, kernel, stride=stride, padding=padding, dilation=dilation)) == tuple(real)


def test_output_size_is_an_int_for_ints_and_a_pair_for_any_pair():
    assert output_size(7, 3, stride=2) == 3 and isinstance(output_size(7, 3), int)
    assert output_size((7, 8), 3) == output_size(torch.Size([7, 8]), [3, 3]) == (5, 6)
    assert output_size(7, 3, padding=(0, 1)) == (5, 7)
    assert output_size(np.int64(7), 3) == 5


def extent(run, size):
    """Rows and columns from the first to the last input pixel that the output's middle pixel depends on."""
    x = torch.zeros(1, 1, *size, dtype=torch.float64, requires_grad=True)
    y = run(x)
    (gradient,) = torch.autograd.grad(y[0, 0, y.shape[2] // 2, y.shape[3] // 2], x)
    return tuple(int(positions.max() - positions.min()) + 1 for positions in gradient[0, 0].nonzero().T)


@settings(max_examples=100, deadline=None)
@given(
    layers=st.lists(st.tuples(either(1, 4), either(1, 3), either(1, 3)), min_size=1, max_size=3),
    extra=either(0, 9),
)
def test_receptive_field_is_the_extent_of_the_gradient(layers, extra):
    def run(x):
        for kernel, stride, dilation in layers:
            x = F.conv2d(x, torch.ones(1, 1, *pair(kernel), dtype=x.dtype), stride=stride, dilation=dilation)
        return x

    field = receptive_field(layers)
    size = [n + more for n, more in zip(pair(field), pair(extra), strict=True)]
    assert extent(run, size) == pair(field)
    assert isinstance(field, int) or field[0] != field[1]


def test_receptive_field_of_modules():
    net = nn.Sequential(
        nn.Conv2d(1, 1, (3, 2), stride=(2, 1), dilation=(1, 3), padding=1),
        nn.AvgPool2d(3),
        nn.Conv2d(1, 1, 3, padding="same"),
        nn.AvgPool2d((2, 1), stride=1),
    ).double()
    for weight in net.parameters():
        nn.init.ones_(weight)
    assert receptive_field(net) == receptive_field(list(net)) == extent(net, (61, 50))


def test_receptive_field_by_hand():
    assert receptive_field([]) == 1
    assert receptive_field([(3, 1)] * 3) == 7
    assert receptive_field([(3, 2), (3, 2)]) == 7
    assert receptive_field([nn.MaxPool2d(2), nn.MaxPool2d(3, dilation=2), nn.LPPool2d(2, 3)]) == 2 + 8 + 12
    assert receptive_field([((1, 3), 1), ((3, 1), (2, 1))]) == 3 == receptive_field([nn.Unfold(3)])
    assert receptive_field(nn.ModuleList([nn.Conv2d(1, 1, 3, dilation=2)])) == 5


# Convolution as a matrix.


@st.composite
def matrices(draw):
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    options = {"stride": draw(either(1, 3)), "padding": draw(either(0, 2))}
    size = [n + draw(st.integers(0, 4)) for n in smallest(kernel, options["padding"])]
    weight = noise(draw, draw(st.integers(1, 3)), draw(st.integers(1, 3)), *kernel)
    return weight, noise(draw, 1, weight.shape[1], *size), options


@settings(max_examples=100, deadline=None)
@given(matrices())
def test_matrix_and_its_transpose(case):
    weight, x, options = case
    matrix, y = conv_matrix(weight, tuple(x.shape[2:]), **options), F.conv2d(x, weight, **options)
    (u,) = randn(y.shape)
    axes = zip(x.shape[2:], weight.shape[2:], *map(pair, options.values()), strict=True)
    skipped = tuple((n + 2 * p - k) % s for n, k, s, p in axes)  # pixels at the end, by the stride
    back = F.conv_transpose2d(u, weight, output_padding=skipped, **options)
    close = {"rtol": 1e-10, "atol": 1e-10}
    assert matrix.shape == (y.numel(), x.numel())
    assert_close((matrix @ x.flatten()).view(y.shape), y, **close)
    assert_close((matrix.T @ u.flatten()).view(x.shape), back, **close)
    assert_close(conv_transpose2d(u, weight, output_padding=skipped, **options), back, **close)
    assert_close((y * u).sum(), (x * back).sum(), **close)  # <Cx, u> = <x, Cᵀu>


def test_matrix_for_a_square_and_its_gradient():
    (weight,) = randn((2, 1, 3, 3))
    assert conv_matrix(weight, 5).equal(conv_matrix(weight, (5, 5)))
    assert conv_matrix(weight.float(), 5).dtype == torch.float32
    assert torch.autograd.gradcheck(lambda w: conv_matrix(w, (3, 4), stride=(1, 2)), weight.requires_grad_())


# Invariants.


@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (3, 2)])
def test_shift_equivariance(stride, dilation):
    x, weight = randn((1, 3, 30, 31), (4, 3, 3, 2))
    options = {"stride": stride, "dilation": dilation}
    moved = conv2d(x[..., stride:, 2 * stride :], weight, **options)
    assert_close(moved, conv2d(x, weight, **options)[..., 1:, 2:])


@pytest.mark.parametrize("ours", [conv2d, conv_transpose2d], ids=lambda f: f.__name__)
def test_linearity(ours):
    a, b, v, w = randn((2, 3, 7, 6), (2, 3, 7, 6), (3, 3, 3, 2), (3, 3, 3, 2))
    assert_close(ours(2 * a - b, w, padding=1), 2 * ours(a, w, padding=1) - ours(b, w, padding=1))
    assert_close(ours(a, 2 * v - w), 2 * ours(a, v) - ours(a, w))


@pytest.mark.parametrize("ours, outs", [(conv2d, 9), (conv_transpose2d, 6)])
def test_groups_are_separate_convolutions(ours, outs):
    x, weight = randn((2, 6, 7, 6), (outs, 2, 3, 2))
    apart = [ours(part, w, stride=2) for part, w in zip(x.chunk(3, 1), weight.chunk(3), strict=True)]
    assert_close(ours(x, weight, stride=2, groups=3), torch.cat(apart, 1))


def test_it_is_correlation_and_a_convolution_only_with_the_kernel_flipped():
    x, weight = randn((9, 8), (3, 2))
    y = conv2d(x[None, None], weight[None, None])[0, 0]
    convolved = torch.from_numpy(convolve2d(x.numpy(), weight.numpy(), mode="valid"))
    assert_close(y, torch.from_numpy(correlate2d(x.numpy(), weight.numpy(), mode="valid")))
    assert_close(conv2d(x[None, None], weight.flip(0, 1)[None, None])[0, 0], convolved)
    assert (y - convolved).abs().max() > 0.5


def test_pooling_a_constant_image_changes_nothing():
    white = torch.full((1, 2, 7, 6), 0.3)
    assert (max_pool2d(white, 3, padding=1) == 0.3).all()
    assert_close(avg_pool2d(white, 3, padding=1, count_include_pad=False), torch.full((1, 2, 3, 2), 0.3))
    assert avg_pool2d(white, 3, padding=1)[0, 0, 0, 0].item() == pytest.approx(0.3 * 4 / 9)


# Bad input: one sentence.


X = torch.zeros(2, 4, 6, 5)
W = torch.zeros(6, 4, 3, 3)
V = torch.zeros(4, 6, 3, 3)
B = torch.zeros(6)
GIVEN = {
    CONV: {"x": X, "weight": W, "bias": B},
    TRANSPOSED: {"x": X, "weight": V, "bias": B},
    MAX: {"x": X, "kernel_size": 2},
    AVERAGE: {"x": X, "kernel_size": 2},
    (output_size,): {"n": 7, "kernel": 3},
    (receptive_field,): {},
    (conv_matrix,): {"weight": W, "input_size": 6},
}
IMAGES = [
    ({"x": X[0]}, ValueError, r"x wants the shape \(B, C, H, W\), got \(4, 6, 5\)"),
    ({"x": X[0, 0]}, ValueError, r"x wants the shape \(B, C, H, W\), got \(6, 5\)"),
    ({"x": X[None]}, ValueError, r"x wants the shape \(B, C, H, W\), got \(1, 2, 4, 6, 5\)"),
    ({"x": X.numpy()}, TypeError, r"x wants a torch.Tensor \(B, C, H, W\), got a NumPy ndarray"),
    ({"x": X.tolist()}, TypeError, "x wants a torch.Tensor .*, got an object of type list"),
    ({"x": None}, TypeError, "x wants a torch.Tensor .*, got None"),
    ({"x": 3.0}, TypeError, "x wants a torch.Tensor .*, got 3.0"),
    ({"x": X.long()}, TypeError, "x wants a floating dtype, got torch.int64"),
    ({"x": X.bool()}, TypeError, "x wants a floating dtype, got torch.bool"),
    ({"x": X.to(torch.complex64)}, TypeError, "x wants a floating dtype, got torch.complex64"),
    ({"x": X[:, :0]}, ValueError, r"x wants at least one element along C .*, got \(2, 0, 6, 5\)"),
    ({"x": X[..., :0]}, ValueError, r"x wants at least one element along W .*, got \(2, 4, 6, 0\)"),
]
WEIGHTS = [
    ({"weight": W[0]}, ValueError, r"weight wants the shape .*, got \(4, 3, 3\)"),
    ({"weight": W.numpy()}, TypeError, "weight wants a torch.Tensor .*, got a NumPy ndarray"),
    ({"weight": None}, TypeError, "weight wants a torch.Tensor .*, got None"),
    ({"weight": 3}, TypeError, "weight wants a torch.Tensor .*, got 3"),
    ({"weight": W.long()}, TypeError, "weight wants a floating dtype, got torch.int64"),
    ({"weight": W[:0]}, ValueError, r"weight wants at least one element .*, got \(0, 4, 3, 3\)"),
    ({"weight": W[..., :0]}, ValueError, r"weight wants at least one element .*, got \(6, 4, 3, 0\)"),
]
KIND = "wants the kind of x, torch.float32 on cpu, got"
TENSORS = [
    *IMAGES,
    *WEIGHTS,
    ({"weight": W.double()}, TypeError, f"weight {KIND} torch.float64 on cpu"),
    ({"weight": W.to("meta")}, TypeError, f"weight {KIND} torch.float32 on meta"),
    ({"x": X.half()}, TypeError, "weight wants the kind of x, torch.float16 .*, got torch.float32 on cpu"),
    ({"bias": B.double()}, TypeError, f"bias {KIND} torch.float64 on cpu"),
    ({"bias": B.to("meta")}, TypeError, f"bias {KIND} torch.float32 on meta"),
    ({"bias": B.numpy()}, TypeError, r"bias wants a torch.Tensor \(6,\), got a NumPy ndarray"),
    ({"bias": [0.0] * 6}, TypeError, "bias wants a torch.Tensor .*, got"),
    ({"bias": 0.0}, TypeError, "bias wants a torch.Tensor .*, got 0.0"),
    ({"bias": torch.zeros(5)}, ValueError, r"bias wants the shape \(6,\), got \(5,\)"),
    ({"bias": torch.zeros(6, 1)}, ValueError, r"bias wants the shape \(6,\), got \(6, 1\)"),
    ({"bias": torch.zeros(())}, ValueError, r"bias wants the shape \(6,\), got \(\)"),
    ({"groups": 0}, ValueError, "groups wants a whole number of at least 1, got 0"),
    ({"groups": -2}, ValueError, "groups wants a whole number of at least 1, got -2"),
    ({"groups": 1.0}, TypeError, "groups wants a whole number of at least 1, got 1.0"),
    ({"groups": True}, TypeError, "groups wants a whole number of at least 1, got True"),
    ({"groups": (1, 1)}, TypeError, r"groups wants a whole number of at least 1, got \(1, 1\)"),
    ({"groups": None}, TypeError, "groups wants a whole number of at least 1, got None"),
]


def sizes(name, least):
    """What is no size: a word, a float, a bool, nothing, three numbers, an array, or one below `least`."""
    wanted = f"{name} wants a whole number of at least {least}, got "
    two = f"{name} wants one whole number or two, height and width, got "
    return [
        ({name: "same"}, TypeError, wanted + "'same'"),
        ({name: 2.0}, TypeError, wanted + "2.0"),
        ({name: (2, 1.5)}, TypeError, wanted + "1.5"),
        ({name: True}, TypeError, wanted + "True"),
        ({name: (1, True)}, TypeError, wanted + "True"),
        ({name: (1, 1, 1)}, ValueError, two + r"\(1, 1, 1\)"),
        ({name: [1]}, ValueError, two + r"\[1\]"),
        ({name: ()}, ValueError, two + r"\(\)"),
        ({name: np.array([1, 2])}, TypeError, wanted + "a NumPy ndarray"),
        ({name: least - 1}, ValueError, wanted + str(least - 1)),
        ({name: (2, -1)}, ValueError, wanted + "-1"),
    ]


STEPS = [*sizes("stride", 1), *sizes("padding", 0), *sizes("dilation", 1)]
UNKNOWN = "unexpected keyword argument"
REFUSED = {
    CONV: [
        *TENSORS,
        *STEPS,
        ({"stride": None}, TypeError, "stride wants a whole number of at least 1, got None"),
        ({"padding": "valid"}, TypeError, "padding wants a whole number of at least 0, got 'valid'"),
        (
            {"groups": 3},
            ValueError,
            "groups wants a divisor of the 4 channels of x and the 6 of weight, got 3",
        ),
        (
            {"groups": 4},
            ValueError,
            "groups wants a divisor of the 4 channels of x and the 6 of weight, got 4",
        ),
        ({"groups": 2}, ValueError, r"x wants 8 channels for .* \(6, 4, 3, 3\) with groups=2, got 4"),
        ({"x": X[:, :3]}, ValueError, r"x wants 4 channels for a weight \(6, 4, 3, 3\) .*, got 3"),
        ({"x": X[..., :2]}, ValueError, r"with dilation 1 wants at least 3 pixels .*, got 2 \+ 2·0 = 2"),
        ({"dilation": (1, 4)}, ValueError, r"wants at least 9 pixels with the padding, got 5 \+ 2·0 = 5"),
        ({"dilation": 4, "padding": 1}, ValueError, r"wants at least 9 .*, got 6 \+ 2·1 = 8"),
        ({"output_padding": 1}, TypeError, UNKNOWN),
        ({"padding_mode": "reflect"}, TypeError, UNKNOWN),
    ],
    TRANSPOSED: [
        *TENSORS,
        *STEPS,
        *sizes("output_padding", 0),
        ({"groups": 3}, ValueError, "groups wants a divisor of the 4 channels of x, got 3"),
        ({"x": X[:, :3]}, ValueError, r"x wants 4 channels for a weight \(4, 6, 3, 3\), got 3"),
        ({"groups": 2}, ValueError, r"bias wants the shape \(12,\), got \(6,\)"),
        ({"output_padding": 1}, ValueError, r"output_padding wants less than stride \(1, 1\) .*\(1, 1\)"),
        ({"output_padding": (1, 2), "stride": 2}, ValueError, r"less than stride \(2, 2\) .*\(1, 2\)"),
        ({"padding": (9, 0)}, ValueError, r"padding wants to leave .*, got \(9, 0\), .* leaves \(-10, 7\)"),
    ],
    MAX: [
        *IMAGES,
        *sizes("kernel_size", 1),
        *sizes("stride", 1),
        *sizes("padding", 0),
        ({"kernel_size": None}, TypeError, "kernel_size wants a whole number of at least 1, got None"),
        ({"padding": (1, 2)}, ValueError, r"padding wants at most half of the kernel \(2, 2\), got \(1, 2\)"),
        ({"kernel_size": 3, "padding": 2}, ValueError, r"padding wants at most half .*\(3, 3\), got"),
        ({"kernel_size": (2, 6)}, ValueError, "a kernel of 6 .* wants at least 6 pixels .*, got 5"),
        ({"ceil_mode": True}, TypeError, UNKNOWN),
        ({"return_indices": True}, TypeError, UNKNOWN),
        ({"dilation": 2}, TypeError, UNKNOWN),
        ({"count_include_pad": True}, TypeError, UNKNOWN),
    ],
    AVERAGE: [
        *IMAGES,
        *sizes("kernel_size", 1),
        *sizes("stride", 1),
        *sizes("padding", 0),
        ({"padding": (2, 1)}, ValueError, r"padding wants at most half of the kernel \(2, 2\), got \(2, 1\)"),
        ({"kernel_size": 7}, ValueError, "a kernel of 7 .* wants at least 7 pixels .*, got 6"),
        ({"count_include_pad": "no"}, ValueError, "count_include_pad wants True or False, got 'no'"),
        ({"count_include_pad": 1}, ValueError, "count_include_pad wants True or False, got 1"),
        ({"ceil_mode": True}, TypeError, UNKNOWN),
        ({"divisor_override": 3}, TypeError, UNKNOWN),
    ],
    (output_size,): [
        *sizes("n", 1),
        *sizes("kernel", 1),
        *STEPS,
        ({"kernel": 8}, ValueError, r"a kernel of 8 .* wants at least 8 pixels .*, got 7 \+ 2·0 = 7"),
        ({"ceil_mode": True}, TypeError, UNKNOWN),
    ],
    (conv_matrix,): [
        *WEIGHTS,
        *sizes("input_size", 1),
        *sizes("stride", 1),
        *sizes("padding", 0),
        ({"input_size": (6, 2)}, ValueError, "a kernel of 3 .* wants at least 3 pixels .*, got 2"),
    ],
    (receptive_field,): [
        ({"layers": 5}, TypeError, "layers wants a list of layers, got 5"),
        ({"layers": "conv"}, TypeError, "layers wants a list of layers, got 'conv'"),
        ({"layers": nn.Conv2d(1, 1, 3)}, TypeError, "wants a list of layers, got an object of type Conv2d"),
        ({"layers": (3, 1)}, TypeError, r"layers wants \(kernel, stride.* a layer, got 3"),
        ({"layers": [(3,)]}, TypeError, r"layers wants \(kernel, stride.* a layer, got \(3,\)"),
        ({"layers": [(3, 1, 1, 1)]}, TypeError, r"layers wants \(kernel, .*, got \(3, 1, 1, 1\)"),
        ({"layers": ["conv"]}, TypeError, "layers wants .* a layer, got 'conv'"),
        ({"layers": [nn.ReLU()]}, TypeError, "layers wants kernels that move .*, got .* type ReLU"),
        ({"layers": [nn.AdaptiveAvgPool2d(1)]}, TypeError, "layers wants .*, got .* AdaptiveAvgPool2d"),
        (
            {"layers": [nn.FractionalMaxPool2d(2, 3)]},
            TypeError,
            "layers wants .*, got .* FractionalMaxPool2d",
        ),
        ({"layers": [nn.ConvTranspose2d(1, 1, 3)]}, TypeError, "layers wants .*, got .* ConvTranspose2d"),
        ({"layers": [nn.MaxUnpool2d(2)]}, TypeError, "layers wants .*, got .* MaxUnpool2d"),
        (
            {"layers": [nn.Conv1d(1, 1, 3)]},
            ValueError,
            r"kernel wants one whole number or two, .*, got \(3,\)",
        ),
        ({"layers": [(3, 0)]}, ValueError, "stride wants a whole number of at least 1, got 0"),
        ({"layers": [((3, 0), 1)]}, ValueError, "kernel wants a whole number of at least 1, got 0"),
        ({"layers": [(3, 1, 0.5)]}, TypeError, "dilation wants a whole number of at least 1, got 0.5"),
    ],
}


@pytest.mark.parametrize(
    "function, wrong, error, message",
    [
        pytest.param(function, *row, id=f"{function.__name__}-{row[2]}")
        for twins, rows in REFUSED.items()
        for function in twins
        for row in rows
    ],
)
def test_bad_input_is_refused(function, wrong, error, message):
    given = next(given for twins, given in GIVEN.items() if function in twins)
    with pytest.raises(error, match=message) as refusal:
        function(**given | wrong)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("function", [f for twins in GIVEN for f in twins if f is not receptive_field])
def test_the_good_input_of_that_table_is_taken(function):
    function(**next(given for twins, given in GIVEN.items() if function in twins))
