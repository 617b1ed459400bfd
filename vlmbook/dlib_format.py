"""dlib's serialization, read without dlib: the files of the face embedder and of its landmarks, as tensors.

The file is a sequence of numbers, texts and tensors without names. The reader knows what comes next: it
compares every value with the expected one, and every size with the bytes that are left, before it takes
memory. Nothing in the file is executed. A file that is damaged, cut short, too long, or of another model
raises a ValueError, one sentence that names the file, and no weight is returned. A flipped bit inside a
weight gives another weight; only a checksum finds it (`vlmbook.pretrained` has one).

The format [dlib, serialize.h, dnn/core.h, image_processing/shape_predictor.h]:

- whole number: a control byte (bit 7 the sign, bits 0-3 the number of bytes), the magnitude, low byte first
- floating number: two whole numbers m and e, m·2^e
- text: a whole number, its length, then its bytes
- boolean: "0" or "1"
- tensor: five whole numbers, version 2 and the shape, then its values as float32, low byte first
- alias, a part of another tensor: five whole numbers, version 1 and the shape
"""

import math

import numpy as np
import torch

from vlmbook.face_embedder import CHIP_SIZE, EMBEDDING_WIDTH, FACE_BLOCKS, MEAN_COLOUR, STEM_WIDTH
from vlmbook.validation import require_type

LAYER_VERSIONS = 130  # in the embedder's file: one for each of 108 layers, 18 tags and 4 skips
NO_TENSOR = (0, 0, 0, 0)
# Floating numbers are float32: a mantissa of 24 bits, its zero bytes at the end left out, and an exponent of
# this range. dlib writes infinity and NaN as exponents of 32,000 and above.
MANTISSA = 2**24
EXPONENTS = (-172, 127)


# --- the face embedder --------------------------------------------------------------------------------------


def read_face_resnet(content: bytes, name: str) -> dict[str, torch.Tensor]:
    """bytes of dlib_face_recognition_resnet_model_v1.dat -> the state of `FaceResNet`.

    The scale and shift after each convolution are folded into it. `name` is the file's name, for the error.
    Raises TypeError or ValueError.
    """
    _require_file(content, name)
    file = _Reader(content, name)
    state = {}
    _read_head(file)
    _read_conv(file, state, "conv1", 3, STEM_WIDTH, 7, stride=2, padding=0, innermost=True)
    _read_layer(file, "relu_")
    _read_pool(file, "max_pool_2", 3, 2)
    channels = STEM_WIDTH
    for number, (width, stride) in enumerate(FACE_BLOCKS):
        _read_block(file, state, f"blocks.{number}", channels, width, stride)
        channels = width
    _read_pool(file, "avg_pool_2", 0, 1)  # kernel 0: over all places
    _read_linear(file, state, "fc", channels, EMBEDDING_WIDTH)
    file.require_end()
    return state


def _require_file(content, name):
    require_type(content, "content", bytes, "the bytes of a file")
    require_type(name, "name", str, "the name of a file")


def _read_block(file, state, prefix, in_channels, channels, stride):
    _read_conv(
        file, state, f"{prefix}.conv1", in_channels, channels, 3, stride, padding=1 if stride == 1 else 0
    )
    _read_layer(file, "relu_")
    _read_conv(file, state, f"{prefix}.conv2", channels, channels, 3, stride=1, padding=1)
    if stride == 2:
        _read_pool(file, "avg_pool_2", 2, 2)
    _read_layer(file, "add_prev_")
    _read_layer(file, "relu_")


def _read_conv(file, state, name, in_channels, channels, kernel, stride, padding, *, innermost=False):
    """A convolution W·x + b and an affine layer γ·y + β, which become one convolution."""
    count = channels * in_channels * kernel * kernel
    file.text("con_4")
    parameters = file.tensor(count + channels, 1, 1, 1)
    file.expect(channels, kernel, kernel, stride, stride, padding, padding)
    file.alias(channels, in_channels, kernel, kernel)
    file.alias(1, channels, 1, 1)
    _read_rates(file)
    _read_layer_end(file)
    if innermost:
        file.expect(1)
    file.text("affine_")
    affine = file.tensor(2 * channels, 1, 1, 1)
    file.alias(1, channels, 1, 1)
    file.alias(1, channels, 1, 1)
    file.expect(0)
    _read_layer_end(file)
    weight, bias = parameters[:count].reshape(channels, in_channels, kernel, kernel), parameters[count:]
    scale, shift = affine[:channels], affine[channels:]
    state[f"{name}.weight"] = torch.from_numpy(weight * scale[:, None, None, None])
    state[f"{name}.bias"] = torch.from_numpy(bias * scale + shift)


def _read_linear(file, state, name, in_features, features):
    file.text("fc_2")
    file.expect(features, in_features)
    weight = file.tensor(in_features, features, 1, 1).reshape(in_features, features)  # y = x·W
    file.alias(in_features, features, 1, 1)
    file.alias(*NO_TENSOR)
    file.expect(1)  # without bias
    _read_rates(file)
    _read_layer_end(file)
    state[f"{name}.weight"] = torch.from_numpy(weight.T.copy())


def _read_head(file):
    """The loss, the version of each layer, and the input."""
    file.expect(1)
    file.text("loss_metric_2")
    file.number()
    file.number()
    for _ in range(LAYER_VERSIONS):
        file.whole("a version from 1 to 3", 1, 3)
    file.text("input_rgb_image_sized")
    for mean in MEAN_COLOUR:
        if abs(file.number() - mean) > 1e-4:
            raise file.wrong(f"the mean colour {mean}")
    file.expect(CHIP_SIZE, CHIP_SIZE)


def _read_pool(file, name, kernel, stride):
    file.text(name)
    file.expect(kernel, kernel, stride, stride, 0, 0)
    _read_layer_end(file)


def _read_layer(file, name):
    file.text(name)
    _read_layer_end(file)


def _read_rates(file):
    """Multipliers of the learning rate and the weight decay; only training uses them."""
    for _ in range(4):
        file.number()


def _read_layer_end(file):
    """Three flags, and three tensors from the layer's last run, which are empty."""
    for _ in range(3):
        file.boolean()
    for _ in range(3):
        file.tensor(*NO_TENSOR)


class _Reader:
    """Reads one value after another, and compares it with the expected one. Raises ValueError."""

    def __init__(self, content: bytes, name: str):
        self.content, self.name, self.at = content, name, 0

    def wrong(self, wanted: str) -> ValueError:
        """-> the error, which the caller raises."""
        return ValueError(
            f"{self.name} is damaged or of another model: it wants {wanted} before byte {self.at}"
        )

    def take(self, count: int) -> bytes:
        """-> the next `count` bytes."""
        size = len(self.content)
        if count > size - self.at:
            raise ValueError(
                f"{self.name} is cut short: it wants {count} bytes after byte {self.at} of {size}"
            )
        taken = self.content[self.at : self.at + count]
        self.at += count
        return taken

    def whole(self, what: str, least: int, most: int) -> int:
        control = self.take(1)[0]
        count = control & 0x0F
        if count > 8 or control & 0x70:
            raise self.wrong("a whole number")
        number = int.from_bytes(self.take(count), "little")
        if control & 0x80:
            number = -number
        if not least <= number <= most:
            raise self.wrong(what)
        return number

    def expect(self, *numbers: int) -> None:
        for number in numbers:
            self.whole(f"the number {number}", number, number)

    def number(self) -> float:
        mantissa = self.whole("a mantissa of 24 bits", -MANTISSA, MANTISSA)
        exponent = self.whole("an exponent of a finite float32", *EXPONENTS)
        return math.ldexp(mantissa, exponent)

    def text(self, text: str) -> None:
        self.expect(len(text))
        if self.take(len(text)) != text.encode():
            raise self.wrong(f'the text "{text}"')

    def boolean(self) -> None:
        if self.take(1) not in (b"0", b"1"):
            raise self.wrong("a boolean")

    def alias(self, *shape: int) -> None:
        self.expect(1, *shape)

    def tensor(self, *shape: int) -> np.ndarray:
        """-> (count,) float32, finite."""
        self.expect(2, *shape)
        values = np.frombuffer(self.take(4 * math.prod(shape)), "<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise self.wrong("a tensor of finite numbers")
        return values

    def require_end(self) -> None:
        if self.at != len(self.content):
            raise self.wrong(f"no more than its last layer, and has {len(self.content)} bytes,")


# --- landmarks ----------------------------------------------------------------------------------------------


def read_shape_predictor(content: bytes, name: str) -> dict[str, torch.Tensor]:
    """bytes of a dlib shape predictor, .dat -> the state of `FaceLandmarks`.

    It reads a file with any number of landmarks, stages, trees and pixels, if all trees have one depth.
    `name` is the file's name, for the error. Raises TypeError or ValueError.
    """
    _require_file(content, name)
    numbers = _Numbers(_whole_numbers(content, name), name)
    numbers.expect(1, "its version")
    points = _read_points(numbers)
    initial_shape = numbers.decode(numbers.table((points, 2, 2), "the mean shape"))
    stages = numbers.peek("the number of stages")
    numbers.expect(stages, "the number of stages")
    splits, thresholds, leaves = _read_forests(numbers, stages, points)
    numbers.expect(stages, "one list of anchors a stage")
    pixels = numbers.peek("the number of pixels")
    anchors = numbers.table((stages, 1 + pixels), "anchors")
    numbers.require(anchors[:, 0] == pixels, "one number of anchors in all stages")
    numbers.require((anchors[:, 1:] >= 0) & (anchors[:, 1:] < points), "anchors that are landmarks")
    numbers.expect(stages, "one list of offsets a stage")
    deltas = numbers.table((stages, 1 + 4 * pixels), "offsets")
    numbers.require(deltas[:, 0] == pixels, "one offset an anchor")
    numbers.require((splits >= 0) & (splits < pixels), "splits between two of the pixels")
    numbers.require_end()
    return {
        "initial_shape": torch.from_numpy(initial_shape),
        "splits": torch.from_numpy(splits.astype(np.int32)),
        "thresholds": torch.from_numpy(thresholds),
        "leaves": torch.from_numpy(leaves),
        "anchors": torch.from_numpy(anchors[:, 1:].astype(np.int32)),
        "deltas": torch.from_numpy(numbers.decode(deltas[:, 1:].reshape(stages, pixels, 2, 2))),
    }


def _read_points(numbers):
    """-> the number of landmarks, from the shape (2P, 1) of a matrix, which dlib writes as −2P, −1."""
    rows, columns = numbers.table((2,), "the shape of the mean shape")
    numbers.require(columns == -1, "a mean shape of one column")
    numbers.require(rows % 2 == 0 and -len(numbers.values) <= rows < 0, "two coordinates a landmark")
    return int(-rows) // 2


def _read_forests(numbers, stages, points):
    """-> (S, T, N, 2) int64, (S, T, N), (S, T, N + 1, P, 2) float32: compared pixels, thresholds, leaves."""
    trees = numbers.peek("the number of trees")
    count = numbers.peek("the number of splits", ahead=1)
    numbers.require(count & (count + 1) == 0, "1, 3, 7, 15, … splits a tree")
    split_end, leaf = 1 + 4 * count, 2 + 4 * points
    length = split_end + 1 + leaf * (count + 1)  # of a tree, in whole numbers
    table = numbers.table((stages, 1 + trees * length), "trees")
    numbers.require(table[:, 0] == trees, "one number of trees in all stages")
    table = table[:, 1:].reshape(stages, trees, length)
    numbers.require(table[:, :, 0] == count, "one number of splits in all trees")
    numbers.require(table[:, :, split_end] == count + 1, "one leaf more than splits in each tree")
    # A split is two pixels, m and e; a leaf is its size −2P, −1, then m and e of 2P floats.
    splits = table[:, :, 1:split_end].reshape(stages, trees, count, 4)
    leaves = table[:, :, split_end + 1 :].reshape(stages, trees, count + 1, leaf)
    numbers.require(leaves[..., 0] == -2 * points, "leaves with one move a landmark")
    numbers.require(leaves[..., 1] == -1, "leaves of one column")
    moves = leaves[..., 2:].reshape(stages, trees, count + 1, points, 2, 2)
    return splits[..., :2], numbers.decode(splits[..., 2:]), numbers.decode(moves)


def _whole_numbers(content, name):
    """bytes -> (n,) int64: the file, which consists of whole numbers only.

    The loop finds where each number begins; then NumPy decodes all of them at once.
    """
    starts, at = [], 0
    while at < len(content):
        starts.append(at)
        at += 1 + (content[at] & 0x0F)
    if at != len(content):
        raise ValueError(f"{name} is cut short: it wants {at} bytes, and has {len(content)}")
    stored = np.frombuffer(content, np.uint8)
    starts = np.array(starts, dtype=np.int64)
    control = stored[starts]
    count = control & 0x0F
    if (count > 6).any() or (control & 0x70).any():  # 6 bytes: no count and no mantissa needs more
        raise ValueError(f"{name} is damaged or of another model: it has a number of more than 6 bytes")
    magnitude = np.zeros(len(starts), dtype=np.int64)
    for byte in range(6):
        there = count > byte
        magnitude[there] += stored[starts[there] + 1 + byte].astype(np.int64) << (8 * byte)
    return np.where(control & 0x80, -magnitude, magnitude)


class _Numbers:
    """Takes whole numbers one after another, and compares them with the expected ones. Raises ValueError."""

    def __init__(self, values: np.ndarray, name: str):
        self.values, self.name, self.at = values, name, 0

    def require(self, holds: bool | np.ndarray, wanted: str) -> None:
        if not np.all(holds):
            raise ValueError(
                f"{self.name} is damaged or of another model: it wants {wanted} before number {self.at}"
            )

    def peek(self, what: str, ahead: int = 0) -> int:
        """-> the number after `ahead` more: a count from 1 to as many numbers as follow."""
        place = self.at + ahead
        left = len(self.values) - place - 1
        if left < 1 or not 1 <= self.values[place] <= left:
            raise ValueError(f"{self.name} is damaged or cut short: it wants {what} at number {place}")
        return int(self.values[place])

    def expect(self, number: int, what: str) -> None:
        self.require(self.table((1,), what) == number, what)

    def table(self, shape: tuple[int, ...], what: str) -> np.ndarray:
        """-> the next numbers, in that shape."""
        count, size = math.prod(shape), len(self.values)
        if count > size - self.at:
            raise ValueError(
                f"{self.name} is cut short: it wants {count} numbers of {what}, got {size - self.at}"
            )
        taken = self.values[self.at : self.at + count].reshape(shape)
        self.at += count
        return taken

    def decode(self, pairs: np.ndarray) -> np.ndarray:
        """(…, 2) -> (…) float32: m·2^e."""
        mantissa, exponent = pairs[..., 0], pairs[..., 1]
        self.require(abs(mantissa) <= MANTISSA, "mantissas of 24 bits")
        self.require((exponent >= EXPONENTS[0]) & (exponent <= EXPONENTS[1]), "exponents of finite float32")
        values = np.ldexp(mantissa.astype(np.float64), exponent)
        self.require(abs(values) <= np.finfo(np.float32).max, "finite float32")
        return values.astype(np.float32)

    def require_end(self) -> None:
        if self.at != len(self.values):
            raise ValueError(
                f"{self.name} is damaged or of another model: it wants {self.at} numbers, and has "
                f"{len(self.values)}"
            )
