"""dlib's files, written by the tests and read by the package; every damaged one is refused."""

import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support import dlib_writer
from vlmbook.dlib_format import read_face_resnet, read_shape_predictor
from vlmbook.face_embedder import FaceLandmarks, FaceResNet

NAME = "folder/file.dat"
SIZES = {"points": 3, "stages": 2, "trees": 2, "depth": 2, "pixels": 4}
INSTALLED = find_spec("face_recognition_models")
real = pytest.mark.skipif(INSTALLED is None, reason="the extra `pretrained` is not installed")


@pytest.fixture(scope="module")
def embedder():
    """-> bytes, dict: a file of the embedder with random weights."""
    return dlib_writer.embedder(seed=1)


@pytest.fixture(scope="module")
def embedder_state(embedder):
    return read_face_resnet(embedder[0], NAME)


def flipped(content, byte, bit):
    damaged = bytearray(content)
    damaged[byte] ^= 1 << bit
    return bytes(damaged)


def refused(read, content):
    """Whether the file is refused, which it is by one sentence that names it."""
    try:
        read(content, NAME)
    except ValueError as refusal:
        assert str(refusal).startswith(f"{NAME} is ") and "\n" not in str(refusal)
        return True
    return False


# --- what is written is read --------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    points=st.integers(1, 6),
    stages=st.integers(1, 3),
    trees=st.integers(1, 3),
    depth=st.integers(1, 4),
    pixels=st.integers(1, 300),
)
def test_a_predictor_comes_back_to_the_last_bit(seed, **sizes):
    content, drawn = dlib_writer.predictor(seed, **sizes)
    state = read_shape_predictor(content, NAME)
    assert list(state) == list(drawn)
    for name, values in drawn.items():
        assert state[name].dtype == (torch.float32 if values.dtype == np.float32 else torch.int32)
        assert np.array_equal(state[name].numpy(), values), name


@pytest.mark.parametrize(
    "value", [0.0, 1.0, -1.0, 2.0**-149, -(2.0**-126), 2.0**127 * 1.5, 0.1, -1e-30, 65537.0]
)
def test_every_finite_float_comes_back(value):
    _, drawn = dlib_writer.predictor(**SIZES)
    drawn["deltas"][0, 1, 1] = value
    state = read_shape_predictor(dlib_writer.predictor_file(**drawn), NAME)
    assert state["deltas"][0, 1, 1].item() == np.float32(value)
    assert np.array_equal(state["deltas"].numpy(), drawn["deltas"])


@torch.no_grad()
def test_an_embedder_has_convolutions_that_hold_their_affine_layers(embedder, embedder_state):
    FaceResNet().load_state_dict(embedder_state)
    layers = embedder[1]
    assert len(layers) == 30
    for name, stored in layers.items():
        if name == "fc":
            assert np.array_equal(embedder_state["fc.weight"].numpy(), stored["weight"])
            continue
        weight, bias, scale, shift = (torch.from_numpy(part).double() for part in stored.values())
        x = torch.randn(1, weight.shape[1], 7, 7, dtype=torch.float64)
        wanted = F.conv2d(x, weight, bias) * scale[:, None, None] + shift[:, None, None]
        mine = F.conv2d(x, embedder_state[f"{name}.weight"].double(), embedder_state[f"{name}.bias"].double())
        assert_close(mine, wanted, rtol=1e-5, atol=1e-5)
    assert all(tensor.dtype == torch.float32 for tensor in embedder_state.values())


# --- what is damaged is refused -----------------------------------------------------------------------------


def test_a_predictor_that_is_cut_short_anywhere_is_refused():
    content, _ = dlib_writer.predictor(**SIZES)
    assert not refused(read_shape_predictor, content)
    for length in range(len(content)):
        assert refused(read_shape_predictor, content[:length]), length


def test_an_embedder_that_is_cut_short_is_refused(embedder):
    content, _ = embedder
    rng = np.random.default_rng(0)
    places = [*range(40), *rng.integers(0, len(content), 60), *range(len(content) - 200, len(content), 7)]
    for length in places:
        assert refused(read_face_resnet, content[:length]), length


@pytest.mark.parametrize("more", [b"\0", b"\1\1", b"1", bytes(100)])
def test_what_goes_on_after_its_end_is_refused(embedder, more):
    assert refused(read_face_resnet, embedder[0] + more)
    assert refused(read_shape_predictor, dlib_writer.predictor(**SIZES)[0] + more)


def test_any_bit_that_flips_in_a_predictor_is_refused_or_changes_a_few_numbers():
    content, drawn = dlib_writer.predictor(**SIZES)
    count = sum(values.size for values in drawn.values())
    refusals, changes = 0, 0
    for byte in range(len(content)):
        for bit in (0, 2, 7):
            try:
                state = read_shape_predictor(flipped(content, byte, bit), NAME)
            except ValueError as refusal:
                assert str(refusal).startswith(f"{NAME} is ")
                refusals += 1
                continue
            FaceLandmarks(state)
            same = sum((state[name].numpy() == values).sum() for name, values in drawn.items())
            assert same >= count - 3  # a number of another length also changes what follows
            changes += 1
    assert refusals > len(content) / 2 and changes > len(content) / 2


def test_a_bit_that_flips_outside_the_weights_is_refused_or_changes_nothing(embedder, embedder_state):
    content, _ = embedder
    versions, first = content.index(b"_2") + 12, content.index(b"con_4") + len("con_4")
    end = content.index(b"affine_")
    places = [*range(versions), versions, versions + 37, versions + 259, *range(versions + 260, first)]
    places += [*range(end - 40, end + 12), *range(len(content) - 70, len(content), 9)]
    rng = np.random.default_rng(0)
    refusals = 0
    places = places[::2]
    for byte, bit in zip(places, rng.integers(0, 8, len(places)), strict=True):
        try:
            state = read_face_resnet(flipped(content, byte, bit), NAME)
        except ValueError as refusal:
            assert str(refusal).startswith(f"{NAME} is ")
            refusals += 1
            continue
        assert all(torch.equal(state[name], tensor) for name, tensor in embedder_state.items())
    assert 0.7 * len(places) < refusals < len(places)


def test_another_mean_colour_is_refused(embedder):
    content, _ = embedder
    colours = (122.782, 117.001, 104.298)
    for place in range(3):
        other = list(colours)
        other[place] += 0.01
        damaged = content.replace(dlib_writer.floatings(colours), dlib_writer.floatings(other), 1)
        with pytest.raises(ValueError, match=f"it wants the mean colour {colours[place]} before byte"):
            read_face_resnet(damaged, NAME)


def test_a_control_byte_with_unknown_bits_is_refused(embedder):
    for bit in (4, 5, 6):
        assert refused(read_shape_predictor, flipped(dlib_writer.predictor(**SIZES)[0], 0, bit))
        assert refused(read_face_resnet, flipped(embedder[0], 0, bit))


def test_a_matrix_of_another_shape_is_refused():
    content, _ = dlib_writer.predictor(**SIZES)
    shape = dlib_writer.wholes(-6, -1)
    mean, *leaves = content.split(shape)
    assert len(leaves) == 1 + 2 * 2 * 4
    for other in ((-6, -2), (-6, 1), (-7, -1), (-4, -1), (6, -1), (0, -1)):
        for place in range(len(leaves)):
            shapes = [shape] * len(leaves)
            shapes[place] = dlib_writer.wholes(*other)
            damaged = mean + b"".join(head + body for head, body in zip(shapes, leaves, strict=True))
            assert refused(read_shape_predictor, damaged), (other, place)


@settings(max_examples=200)
@given(content=st.binary(max_size=300))
def test_any_other_bytes_are_refused(content):
    assert refused(read_face_resnet, content)
    assert refused(read_shape_predictor, content)


def test_one_model_is_no_other(embedder):
    assert refused(read_shape_predictor, embedder[0])
    assert refused(read_face_resnet, dlib_writer.predictor()[0])


@pytest.mark.parametrize(
    "tag, other",
    [
        (b"loss_metric_2", b"loss_metric_3"),
        (b"input_rgb_image_sized", b"input_rgb_image_shaped"[:21]),
        (b"con_4", b"con_5"),
        (b"affine_", b"affino_"),
        (b"relu_", b"gelu_"),
        (b"max_pool_2", b"min_pool_2"),
        (b"avg_pool_2", b"max_pool_2"),
        (b"add_prev_", b"mul_prev_"),
        (b"fc_2", b"fc_3"),
    ],
)
def test_a_layer_of_another_name_is_refused(embedder, tag, other):
    content, _ = embedder
    assert tag in content and len(tag) == len(other)
    with pytest.raises(ValueError, match=f'{NAME} is .* it wants the text "{tag.decode()}" before byte'):
        read_face_resnet(content.replace(tag, other, 1), NAME)


@pytest.mark.parametrize("number", [2**15, 2**31, 2**40, 2**62, 2**64 - 1])
def test_an_absurd_size_is_refused_before_memory_is_taken(embedder, number):
    content, _ = embedder
    sizes = {
        "trees": (dlib_writer.wholes(2, 2, 3), dlib_writer.wholes(2, number, 3)),
        "stages": (dlib_writer.wholes(2, 2, 3), dlib_writer.wholes(number, 2, 3)),
        "splits": (dlib_writer.wholes(2, 2, 3), dlib_writer.wholes(2, 2, number)),
        "pixels": (dlib_writer.wholes(2, 4), dlib_writer.wholes(2, number)),
        "landmarks": (dlib_writer.wholes(-6, -1), dlib_writer.wholes(-2 * (number // 2), -1)),
    }
    predictor, _ = dlib_writer.predictor(**SIZES)
    began = time.perf_counter()
    for what, (right, absurd) in sizes.items():
        assert right in predictor
        assert refused(read_shape_predictor, predictor.replace(right, absurd, 1)), what
    right = dlib_writer.wholes(2, 4736, 1, 1, 1)
    assert right in content
    for absurd in ((2, number, 1, 1, 1), (2, 4736, number, 1, 1), (2, -number, 1, 1, 1)):
        assert refused(read_face_resnet, content.replace(right, dlib_writer.wholes(*absurd), 1))
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(embedder, value):
    content, layers = embedder
    for name in ("conv1", "blocks.7.conv2"):
        stored = layers[name]["weight"].tobytes()
        damaged = content.replace(stored, np.full(len(stored) // 4, value, "<f4").tobytes(), 1)
        assert damaged != content
        with pytest.raises(ValueError, match=f"{NAME} is .* it wants a tensor of finite numbers"):
            read_face_resnet(damaged, NAME)


@pytest.mark.parametrize("mantissa, exponent", [(2**24 - 1, 105), (-(2**24 - 1), 127), (2, 127)])
def test_a_float_that_float32_does_not_hold_is_refused(mantissa, exponent):
    content, drawn = dlib_writer.predictor(**SIZES)
    last = dlib_writer.floating(drawn["deltas"].ravel()[-1])
    assert content.endswith(last)
    with pytest.raises(ValueError, match=f"{NAME} is .* it wants finite float32"):
        read_shape_predictor(content[: -len(last)] + dlib_writer.wholes(mantissa, exponent), NAME)


@pytest.mark.parametrize("exponent", [128, 32_000, 32_001, 32_002, -173, -(2**40)])
def test_an_exponent_of_no_finite_float_is_refused(exponent):
    content, drawn = dlib_writer.predictor(**SIZES)
    last = dlib_writer.floating(drawn["deltas"].ravel()[-1])
    mantissa = last[: 1 + (last[0] & 15)]
    assert content.endswith(last)
    damaged = content[: -len(last)] + mantissa + dlib_writer.whole(exponent)
    with pytest.raises(ValueError, match="it wants exponents of finite float32"):
        read_shape_predictor(damaged, NAME)


@pytest.mark.parametrize(
    "name, value, wanted",
    [
        ("splits", 4, "splits between two of the pixels"),
        ("splits", -1, "splits between two of the pixels"),
        ("anchors", 3, "anchors that are landmarks"),
        ("anchors", -1, "anchors that are landmarks"),
    ],
)
def test_an_index_of_nothing_is_refused(name, value, wanted):
    _, drawn = dlib_writer.predictor(**SIZES)
    drawn[name].flat[-1] = value
    with pytest.raises(ValueError, match=f"{NAME} is .* it wants {wanted}"):
        read_shape_predictor(dlib_writer.predictor_file(**drawn), NAME)


def test_trees_of_different_depth_and_lists_of_different_length_are_refused():
    _, drawn = dlib_writer.predictor(**SIZES)
    ragged = {
        "splits": [*drawn["splits"][:1], drawn["splits"][1][:, :1]],
        "thresholds": [*drawn["thresholds"][:1], drawn["thresholds"][1][:, :1]],
        "leaves": [*drawn["leaves"][:1], drawn["leaves"][1][:, :2]],
    }
    assert refused(
        read_shape_predictor,
        dlib_writer.predictor_file(**drawn | ragged),
    )
    for name in ("anchors", "deltas", "leaves"):
        shorter = drawn | {name: [*drawn[name][:1], drawn[name][1][:-1]]}
        if name == "leaves":
            shorter = drawn | {name: drawn[name][:, :, :-1]}
        assert refused(read_shape_predictor, dlib_writer.predictor_file(**shorter)), name
    odd = drawn | {"initial_shape": drawn["initial_shape"].ravel()[:-1]}
    assert refused(read_shape_predictor, dlib_writer.predictor_file(**odd))


# --- the real files -----------------------------------------------------------------------------------------


def real_file(name):
    return Path(INSTALLED.submodule_search_locations[0], "models", name).read_bytes()


@real
def test_the_real_predictor_has_15_stages_of_500_trees():
    state = read_shape_predictor(real_file("shape_predictor_5_face_landmarks.dat"), NAME)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert shapes == {
        "initial_shape": (5, 2),
        "splits": (15, 500, 15, 2),
        "thresholds": (15, 500, 15),
        "leaves": (15, 500, 16, 5, 2),
        "anchors": (15, 800),
        "deltas": (15, 800, 2),
    }


@real
def test_a_damaged_real_embedder_is_refused_or_only_a_weight_changes():
    content = real_file("dlib_face_recognition_resnet_model_v1.dat")
    state = read_face_resnet(content, NAME)
    rng = np.random.default_rng(0)
    changes = 0
    for byte, bit in zip(rng.integers(0, len(content), 40), rng.integers(0, 8, 40), strict=True):
        try:
            damaged = read_face_resnet(flipped(content, byte, bit), NAME)
        except ValueError as refusal:
            assert str(refusal).startswith(NAME)
            continue
        differences = sum(int((damaged[name] != tensor).sum()) for name, tensor in state.items())
        assert differences <= 256 * 3 * 3 + 1  # a scale changes a filter and its bias
        if differences:
            changes += 1
    assert changes > 30  # nearly all of the file is weights: only a checksum tells
    for length in rng.integers(0, len(content), 20):
        assert refused(read_face_resnet, content[:length])
