"""Writes dlib's serialization, for tests: files of the embedder and of landmarks, with weights drawn from a
seed.

It shares no line with `vlmbook.dlib_format`; dlib itself reads what it writes.
"""

import math

import numpy as np

SQUARE = [0, 0, 0, 0]
# Filters and stride of each block, from the input on.
BLOCKS = [(32, 1)] * 3 + [(64, 2)] + [(64, 1)] * 3 + [(128, 2)] + [(128, 1)] * 2
BLOCKS += [(256, 2)] + [(256, 1)] * 2 + [(256, 2)]


def whole(number):
    magnitude = abs(number)
    count = max(1, (magnitude.bit_length() + 7) // 8)
    return bytes([count | (0x80 if number < 0 else 0)]) + magnitude.to_bytes(count, "little")


def wholes(*numbers):
    return b"".join(whole(int(number)) for number in numbers)


def floating(number):
    fraction, exponent = math.frexp(np.float32(number))
    mantissa, exponent = int(fraction * 2**24), exponent - 24
    while mantissa and mantissa % 256 == 0:  # dlib leaves zero bytes out
        mantissa, exponent = mantissa // 256, exponent + 8
    return wholes(mantissa, exponent if mantissa else 0)


def floatings(numbers):
    return b"".join(floating(number) for number in np.ravel(numbers))


def text(letters):
    return whole(len(letters)) + letters.encode()


def tensor(shape, values=()):
    return wholes(2, *shape) + np.asarray(values, dtype="<f4").tobytes()


# --- the face embedder --------------------------------------------------------------------------------------


def embedder(seed=0):
    """-> bytes, dict: a file with random weights, and its convolutions and affine layers by name."""
    rng = np.random.default_rng(seed)
    layers, parts = {}, []
    parts.append(whole(1) + text("loss_metric_2") + floating(0.04) + floating(0.6))
    parts.append(wholes(*versions()))
    colours = floatings([122.782, 117.001, 104.298])
    parts.append(text("input_rgb_image_sized") + colours + wholes(150, 150))
    parts.append(convolution(rng, layers, "conv1", 3, 32, 7, 2, 0, extra=whole(1)))
    parts.append(layer("relu_"))
    parts.append(layer("max_pool_2", wholes(3, 3, 2, 2, 0, 0)))
    channels = 32
    for number, (filters, stride) in enumerate(BLOCKS):
        padding = 1 if stride == 1 else 0
        name = f"blocks.{number}"
        parts.append(convolution(rng, layers, f"{name}.conv1", channels, filters, 3, stride, padding))
        parts.append(layer("relu_"))
        parts.append(convolution(rng, layers, f"{name}.conv2", filters, filters, 3, 1, 1))
        if stride == 2:
            parts.append(layer("avg_pool_2", wholes(2, 2, 2, 2, 0, 0)))
        parts.append(layer("add_prev_"))
        parts.append(layer("relu_"))
        channels = filters
    parts.append(layer("avg_pool_2", wholes(0, 0, 1, 1, 0, 0)))
    weight = rng.normal(0, channels**-0.5, (channels, 128)).astype(np.float32)
    layers["fc"] = {"weight": weight.T}
    body = wholes(128, channels) + tensor([channels, 128, 1, 1], weight) + wholes(1, channels, 128, 1, 1)
    parts.append(layer("fc_2", body + wholes(1, *SQUARE) + whole(1) + rates()))
    return b"".join(parts), layers


def versions():
    """-> list of int: one for each layer, tag and skip, from the output to the input."""
    numbers = [2, 2]
    for _, stride in reversed(BLOCKS):
        numbers += [2, 2, 2, 1, 1] if stride == 2 else [2, 2]
        numbers += [2, 2, 2, 2, 2, 1]
    return [*numbers, 2, 2, 2, 3]


def convolution(rng, layers, name, channels, filters, kernel, stride, padding, extra=b""):
    weight = rng.normal(0, (channels * kernel**2) ** -0.5, (filters, channels, kernel, kernel))
    drawn = {
        "weight": weight.astype(np.float32),
        "bias": rng.normal(0, 0.1, filters).astype(np.float32),
        "scale": rng.uniform(0.5, 1.5, filters).astype(np.float32),
        "shift": rng.normal(0, 0.1, filters).astype(np.float32),
    }
    layers[name] = drawn
    values = np.concatenate([drawn["weight"].ravel(), drawn["bias"]])
    body = tensor([len(values), 1, 1, 1], values)
    body += wholes(filters, kernel, kernel, stride, stride, padding, padding)
    body += wholes(1, filters, channels, kernel, kernel) + wholes(1, 1, filters, 1, 1) + rates()
    affine = tensor([2 * filters, 1, 1, 1], np.concatenate([drawn["scale"], drawn["shift"]]))
    affine += wholes(1, 1, filters, 1, 1) * 2 + whole(0)
    return layer("con_4", body) + extra + layer("affine_", affine)


def layer(name, body=b""):
    return text(name) + body + b"110" + tensor(SQUARE) * 3


def rates():
    return floatings([1, 1, 1, 0])


# --- landmarks ----------------------------------------------------------------------------------------------


def predictor(seed=0, *, points=5, stages=3, trees=4, depth=2, pixels=6):
    """-> bytes, dict of arrays: a file with random trees, and what is in it, as `FaceLandmarks` names it."""
    rng = np.random.default_rng(seed)
    count = 2**depth - 1
    drawn = {
        "initial_shape": rng.uniform(0.2, 0.8, (points, 2)).astype(np.float32),
        "splits": rng.integers(0, pixels, (stages, trees, count, 2)),
        "thresholds": rng.normal(0, 30, (stages, trees, count)).astype(np.float32),
        "leaves": rng.normal(0, 0.02, (stages, trees, count + 1, points, 2)).astype(np.float32),
        "anchors": rng.integers(0, points, (stages, pixels)),
        "deltas": rng.normal(0, 0.2, (stages, pixels, 2)).astype(np.float32),
    }
    return predictor_file(**drawn), drawn


def predictor_file(*, initial_shape, splits, thresholds, leaves, anchors, deltas):
    """arrays -> bytes."""
    parts = [whole(1), matrix(initial_shape), whole(len(splits))]
    for stage in range(len(splits)):
        parts.append(whole(len(splits[stage])))
        for pairs, limits, moves in zip(splits[stage], thresholds[stage], leaves[stage], strict=True):
            parts.append(whole(len(pairs)))
            parts += [wholes(*pair) + floating(limit) for pair, limit in zip(pairs, limits, strict=True)]
            parts.append(whole(len(moves)))
            parts += [matrix(move) for move in moves]
    parts.append(whole(len(anchors)))
    parts += [whole(len(row)) + wholes(*row) for row in anchors]
    parts.append(whole(len(deltas)))
    parts += [whole(len(rows)) + floatings(rows) for rows in deltas]
    return b"".join(parts)


def matrix(values):
    """(P, 2) -> bytes: a column of 2P floats, its two sizes below zero."""
    return wholes(-np.size(values), -1) + floatings(values)
