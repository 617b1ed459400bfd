"""Good calls of `vlmbook.convolution`."""

import torch

from tests.support.good_calls import Call
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

STEPS = {"stride": 1, "padding": 1, "dilation": 1}


def convolution(function, **more):
    x = torch.ones(2, 3, 6, 7)
    weight = torch.ones(3, 3, 2, 3)
    return lambda: Call(
        function, {"x": x, "weight": weight, "bias": torch.ones(3), **STEPS, "groups": 1, **more}
    )


def pooling(function, **more):
    x = torch.rand(2, 3, 6, 7)
    return lambda: Call(function, {"x": x, "kernel_size": (2, 3), "stride": 2, "padding": 1, **more})


GOOD_CALLS = {
    "output_size": lambda: Call(output_size, {"n": 7, "kernel": 3, **STEPS}),
    "receptive_field": lambda: Call(receptive_field, {"layers": [(3, 1), (3, 2, 1)]}),
    "conv2d": convolution(conv2d),
    "conv2d_loops": convolution(conv2d_loops),
    "conv_matrix": lambda: Call(
        conv_matrix, {"weight": torch.ones(2, 3, 2, 3), "input_size": (5, 6), "stride": 1, "padding": 1}
    ),
    "conv_transpose2d": convolution(conv_transpose2d, output_padding=0),
    "max_pool2d": pooling(max_pool2d),
    "avg_pool2d": pooling(avg_pool2d, count_include_pad=True),
    "avg_pool2d_loops": pooling(avg_pool2d_loops, count_include_pad=False),
}
