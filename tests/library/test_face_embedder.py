"""The face embedder and its landmarks against dlib, against loops, and by what holds for any weights."""

import math
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support import dlib_writer
from vlmbook.data import photo
from vlmbook.dlib_format import read_face_resnet, read_shape_predictor
from vlmbook.face_embedder import (
    MEAN_FACE,
    FaceBlock,
    FaceLandmarks,
    FaceResNet,
    align_face,
    align_points,
    fit_similarity,
)

INSTALLED = find_spec("face_recognition_models")
with_dlib = pytest.mark.skipif(find_spec("dlib") is None, reason="dlib-bin has no wheel for this machine")
real = pytest.mark.skipif(INSTALLED is None, reason="the extra `pretrained` is not installed")

FACE = [175, 76, 266, 167]  # in photo("astronaut"), found by dlib's detector


def pattern():
    """-> (3, 150, 150): a picture that every machine draws alike."""
    y, x = torch.meshgrid(torch.arange(150), torch.arange(150), indexing="ij")
    return torch.stack([(x + 2 * y) % 256, (3 * x) % 256, (x * y // 50) % 256]) / 255


def as_bytes(image):
    """(3, H, W) in [0, 1] -> (H, W, 3) uint8, as dlib takes it."""
    return np.ascontiguousarray((255 * image).round().byte().permute(1, 2, 0).numpy())


def real_path(name):
    return Path(INSTALLED.submodule_search_locations[0], "models", name)


def real_resnet():
    net = FaceResNet()
    path = real_path("dlib_face_recognition_resnet_model_v1.dat")
    net.load_state_dict(read_face_resnet(path.read_bytes(), path.name))
    return net


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """-> Path of a file with random weights, and our network with them."""
    path = tmp_path_factory.mktemp("dlib") / "embedder.dat"
    path.write_bytes(dlib_writer.embedder(seed=1)[0])
    net = FaceResNet()
    net.load_state_dict(read_face_resnet(path.read_bytes(), path.name))
    return path, net


@pytest.fixture(scope="module")
def landmarks():
    """-> FaceLandmarks with random trees."""
    content, _ = dlib_writer.predictor(seed=2, points=5, stages=6, trees=20, depth=3, pixels=40)
    return FaceLandmarks(read_shape_predictor(content, "predictor.dat"))


@pytest.fixture(scope="module")
def real_landmarks():
    path = real_path("shape_predictor_5_face_landmarks.dat")
    return FaceLandmarks(read_shape_predictor(path.read_bytes(), path.name))


# --- the embedding, against dlib ----------------------------------------------------------------------------


def differences(net, path, images):
    """-> (n,) largest difference from dlib's embedding of each image; of numbers above 1 their share."""
    import dlib

    theirs = dlib.face_recognition_model_v1(str(path))
    found = []
    for image in images:
        wanted = torch.tensor(list(theirs.compute_face_descriptor(as_bytes(image))))
        with torch.no_grad():
            found.append((net(image[None])[0] - wanted).abs().max() / wanted.abs().max().clamp(min=1))
    return torch.stack(found)


def some_chips():
    images = [photo(name) for name in ("astronaut", "cat", "coffee")]
    chips = [image[:, 20:170, 30:180].mul(255).round() / 255 for image in images]
    return [*chips, pattern(), torch.zeros(3, 150, 150), torch.ones(3, 150, 150)]


@with_dlib
def test_embeddings_are_dlibs_with_any_weights(written):
    path, net = written
    found = differences(net, path, some_chips())
    assert len(found) == 6 and found.max() <= 1e-5


@with_dlib
@real
def test_embeddings_are_dlibs_with_its_own_weights():
    found = differences(real_resnet(), real_path("dlib_face_recognition_resnet_model_v1.dat"), some_chips())
    assert len(found) == 6 and found.max() <= 1e-5


@torch.no_grad()
def test_embeddings_are_those_that_dlib_once_gave(written):
    recorded = torch.tensor(
        [0.569591, 1.102889, -1.207965, -0.980562, 0.823783, -2.507698]
    )  # dlib-bin 20.0.1
    assert_close(written[1](pattern()[None])[0, :6], recorded, rtol=0, atol=2e-5)


@real
@torch.no_grad()
def test_embeddings_with_its_own_weights_are_those_that_dlib_once_gave():
    recorded = torch.tensor(
        [-0.044505, 0.104847, 0.052844, -0.009693, -0.076554, -0.035343]
    )  # dlib-bin 20.0.1
    assert_close(real_resnet()(pattern()[None])[0, :6], recorded, rtol=0, atol=2e-6)


# --- the network --------------------------------------------------------------------------------------------


def test_the_network_has_5_6_million_parameters_in_30_layers():
    net = FaceResNet()
    assert sum(p.numel() for p in net.parameters()) == 5_607_488
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules()) == 30
    assert not list(net.state_dict()) - dict(net.named_parameters()).keys()


def test_sizes_block_by_block():
    shapes = []
    net = FaceResNet()
    for block in net.blocks:
        block.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(output.shape[1:])))
    assert net(torch.zeros(1, 3, 150, 150)).shape == (1, 128)
    sides = [35] * 3 + [17] * 4 + [8] * 3 + [4] * 3 + [2]
    widths = [32] * 3 + [64] * 4 + [128] * 3 + [256] * 4
    assert shapes == [(width, side, side) for width, side in zip(widths, sides, strict=True)]


@settings(max_examples=30)
@given(
    channels=st.integers(1, 3),
    more=st.integers(0, 3),
    stride=st.sampled_from([1, 2]),
    height=st.integers(3, 11),
    width=st.integers(3, 11),
)
@torch.no_grad()
def test_a_block_adds_place_by_place_what_is_there(channels, more, stride, height, width):
    torch.manual_seed(0)
    filters = channels + (more if stride == 2 else 0)
    block = FaceBlock(channels, filters, stride)
    x = torch.randn(2, channels, height, width)
    first = F.conv2d(x, block.conv1.weight, block.conv1.bias, stride, padding=int(stride == 1))
    residual = F.conv2d(first.clamp(min=0), block.conv2.weight, block.conv2.bias, padding=1)
    rows, columns = height // stride, width // stride
    wanted = torch.zeros(2, filters, rows, columns)
    for row in range(rows):
        for column in range(columns):
            if row < residual.shape[2] and column < residual.shape[3]:
                wanted[:, :, row, column] += residual[:, :, row, column]
            patch = x[:, :, stride * row : stride * (row + 1), stride * column : stride * (column + 1)]
            wanted[:, :channels, row, column] += patch.mean((2, 3))
    assert_close(block(x), wanted.clamp(min=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "sizes, message",
    [
        ((3, 5, 1), "channels wants a whole number from 3 to 3, got 5"),
        ((3, 2, 2), "channels wants a whole number of at least 3, got 2"),
        ((3, 3, 3), "stride wants 1 or 2, got 3"),
        ((0, 3, 2), "in_channels wants a whole number of at least 1, got 0"),
    ],
)
def test_bad_blocks_and_images_too_small_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        FaceBlock(*sizes)
    with pytest.raises(ValueError, match=r"x wants at least 3×3 pixels, got \(1, 3, 2, 9\)"):
        FaceBlock(3, 4, 2)(torch.zeros(1, 3, 2, 9))


@torch.no_grad()
def test_a_residual_of_zero_leaves_what_the_shortcut_brings():
    block = FaceBlock(3, 5, 2)
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    x = torch.rand(1, 3, 8, 6)
    assert_close(block(x)[:, :3], F.avg_pool2d(x, 2))
    assert (block(x)[:, 3:] == 0).all()


@torch.no_grad()
def test_an_embedding_depends_on_its_own_image_only_and_on_no_mode(written):
    net = deepcopy(written[1])
    images = torch.stack(some_chips()[:3])
    alone = torch.cat([net(image[None]) for image in images])
    assert (alone[0] - alone[1]).abs().max() > 0.1
    assert_close(net.train()(images), alone, rtol=1e-4, atol=1e-4)
    assert_close(net.eval()(images), alone, rtol=1e-4, atol=1e-4)
    assert net(images[:0]).shape == (0, 128)
    last = net.to(memory_format=torch.channels_last)
    assert_close(last(images.to(memory_format=torch.channels_last)), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-5), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)]
)
@torch.no_grad()
def test_an_embedding_in_another_dtype(written, dtype, tolerance):
    images = torch.stack(some_chips()[:2])
    wanted = written[1](images)
    mine = deepcopy(written[1]).to(dtype)(images.to(dtype))
    assert mine.dtype == dtype
    assert (mine.float() - wanted).abs().max() <= tolerance * wanted.abs().max()


def test_gradients_reach_every_parameter_and_the_images(written):
    net = deepcopy(written[1])
    images = torch.stack(some_chips()[:2]).requires_grad_()
    net(images).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name
    assert images.grad.abs().max() > 0 and images._version == 0


@pytest.mark.parametrize(
    "x, error, message",
    [
        (None, TypeError, r"x wants a torch.Tensor \(B, 3, 150, 150\), got None"),
        (
            torch.zeros(1, 3, 150, 150, dtype=torch.uint8),
            TypeError,
            "x wants a floating dtype, got torch.uint8",
        ),
        (torch.zeros(3, 150, 150), ValueError, r"x wants the shape \(B, 3, 150, 150\), got \(3, 150, 150\)"),
        (torch.zeros(1, 1, 150, 150), ValueError, r"x wants the shape .*, got \(1, 1, 150, 150\)"),
        (torch.zeros(1, 3, 150, 151), ValueError, r"x wants the shape .*, got \(1, 3, 150, 151\)"),
        (torch.zeros(1, 3, 150, 150, dtype=torch.float64), TypeError, "x wants the kind of the model"),
    ],
)
def test_bad_faces_are_refused(x, error, message):
    with pytest.raises(error, match=message):
        FaceResNet()(x)


# --- landmarks, against dlib --------------------------------------------------------------------------------


def disagreements(mine, path, image, boxes):
    """-> how many boxes dlib places another landmark in, and how many different answers there were."""
    import dlib

    theirs, pixels = dlib.shape_predictor(str(path)), as_bytes(image)
    count, answers = 0, set()
    for left, top, right, bottom in boxes:
        parts = theirs(pixels, dlib.rectangle(left, top, right - 1, bottom - 1)).parts()
        found = mine(image, torch.tensor([left, top, right, bottom])).tolist()
        if found != [[point.x, point.y] for point in parts]:
            count += 1
        answers.add(str(found))
    return count, len(answers)


def some_boxes(count, height, width, seed=0):
    """-> list of (4,): boxes of any shape, of which some reach out of the image."""
    rng = np.random.default_rng(seed)
    corners = rng.integers((-40, -40), (width - 10, height - 10), (count, 2))
    return [
        (x, y, x + w, y + h)
        for (x, y), (w, h) in zip(corners.tolist(), rng.integers(2, 250, (count, 2)).tolist(), strict=True)
    ]


@with_dlib
def test_landmarks_are_dlibs_with_any_trees(tmp_path):
    image = photo("coffee").mul(255).round() / 255
    for seed, sizes in enumerate(
        [{}, {"points": 2, "depth": 1}, {"points": 9, "depth": 4, "trees": 50, "pixels": 60}]
    ):
        path = tmp_path / f"{seed}.dat"
        content, _ = dlib_writer.predictor(seed, **sizes)
        path.write_bytes(content)
        mine = FaceLandmarks(read_shape_predictor(content, path.name))
        count, answers = disagreements(mine, path, image, some_boxes(60, *image.shape[1:]))
        assert count == 0 and answers > 50


@with_dlib
@real
@pytest.mark.parametrize("name", ["astronaut", "cat"])
def test_landmarks_are_dlibs_with_its_own_trees(real_landmarks, name):
    image = photo(name).mul(255).round() / 255
    boxes = some_boxes(100, *image.shape[1:])
    path = real_path("shape_predictor_5_face_landmarks.dat")
    count, answers = disagreements(real_landmarks, path, image, boxes)
    assert count == 0 and answers == 100


def test_landmarks_are_those_that_dlib_once_gave(landmarks):
    recorded = [[87, 54], [144, 66], [68, 86], [114, 54], [63, 86]]  # dlib-bin 20.0.1
    assert landmarks(pattern(), torch.tensor([20, 30, 120, 110])).tolist() == recorded


@real
def test_landmarks_of_a_face_are_those_that_dlib_once_gave(real_landmarks):
    recorded = [[255, 104], [238, 105], [195, 101], [212, 103], [224, 135]]  # dlib-bin 20.0.1
    assert real_landmarks(photo("astronaut"), torch.tensor(FACE)).tolist() == recorded


# --- landmarks, against loops -------------------------------------------------------------------------------


def landmarks_loops(drawn, image, box):
    """What a cascade of trees does, one pixel and one tree after another, in the words of the paper."""
    left, top, right, bottom = box
    shape = drawn["initial_shape"].astype(np.float64)
    for stage in range(len(drawn["leaves"])):
        a = np.linalg.lstsq(design(drawn["initial_shape"]), shape.ravel(), rcond=None)[0]
        brightness = []
        for anchor, (dx, dy) in zip(drawn["anchors"][stage], drawn["deltas"][stage], strict=True):
            x = shape[anchor, 0] + a[0] * dx - a[1] * dy
            y = shape[anchor, 1] + a[1] * dx + a[0] * dy
            column = math.floor(left + x * (right - 1 - left) + 0.5)
            row = math.floor(top + y * (bottom - 1 - top) + 0.5)
            inside = 0 <= row < image.shape[1] and 0 <= column < image.shape[2]
            brightness.append(int(image[:, row, column].mul(255).round().sum()) // 3 if inside else 0)
        for tree, limits in enumerate(drawn["thresholds"][stage]):
            node = 0
            while node < len(limits):
                first, second = drawn["splits"][stage, tree, node]
                node = 2 * node + (1 if brightness[first] - brightness[second] > limits[node] else 2)
            shape = shape + drawn["leaves"][stage, tree, node - len(limits)]
    scale, corner = np.array([right - 1 - left, bottom - 1 - top]), np.array([left, top])
    return np.floor(corner + shape * scale + 0.5).astype(int).tolist()


def design(points):
    """(P, 2) -> (2P, 4): (x, y) times the unknown c, s and a shift gives (c·x − s·y + u, s·x + c·y + v)."""
    rows = []
    for x, y in points.astype(np.float64):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
    return np.array(rows)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 100),
    points=st.integers(2, 6),
    depth=st.integers(1, 3),
    box=st.tuples(st.integers(-10, 30), st.integers(-10, 20), st.integers(10, 70), st.integers(10, 60)),
)
def test_landmarks_are_those_of_the_loops(seed, points, depth, box):
    left, top, width, height = box
    corners = (left, top, left + width, top + height)
    content, drawn = dlib_writer.predictor(seed, points=points, depth=depth, trees=5, pixels=8)
    image = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, 50, 70))) / 255
    mine = FaceLandmarks(read_shape_predictor(content, "predictor.dat"))(image, torch.tensor(corners))
    assert mine.dtype == torch.int64 and mine.shape == (points, 2)
    assert mine.tolist() == landmarks_loops(drawn, image, corners)


# --- landmarks, what holds for any --------------------------------------------------------------------------


@pytest.mark.parametrize("right, down", [(7, 3), (-5, 12), (0, -9)])
def test_landmarks_move_with_the_image(landmarks, right, down):
    image = torch.rand(3, 200, 240, generator=torch.Generator().manual_seed(0))
    box = torch.tensor([90, 80, 150, 130])
    moved = landmarks(image.roll((down, right), (1, 2)), box + torch.tensor([right, down, right, down]))
    assert torch.equal(moved, landmarks(image, box) + torch.tensor([right, down]))
    assert not torch.equal(landmarks(image.flip(2), box), landmarks(image, box))  # it is looked at


def test_landmarks_need_no_certain_kind_of_image_or_box(landmarks):
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 90, 120))).float() / 255
    box = torch.tensor([20, 10, 90, 80])
    wanted = landmarks(image, box)
    for dtype in (torch.float64, torch.float16):
        assert torch.equal(landmarks(image.to(dtype), box), wanted)
    assert landmarks(image.bfloat16(), box).shape == (5, 2)
    assert torch.equal(landmarks(image.mT.contiguous().mT, box.float() + 0.4), wanted)
    grey = image[:1].clone()
    assert torch.equal(landmarks(grey, box), landmarks(grey.expand(3, -1, -1), box))
    before = image.clone()
    landmarks(image.requires_grad_(), box)
    assert torch.equal(image.detach(), before)


IMAGE, BOX = torch.rand(3, 40, 50), torch.tensor([5, 5, 30, 30])


@pytest.mark.parametrize(
    "image, box, error, message",
    [
        (None, BOX, TypeError, r"image wants a torch.Tensor \(C, H, W\), got None"),
        (IMAGE[None], BOX, ValueError, r"image wants the shape \(C, H, W\), got \(1, 3, 40, 50\)"),
        (IMAGE[:2], BOX, ValueError, r"image wants the shape \(1, H, W\) or \(3, H, W\), got \(2, 40, 50\)"),
        (IMAGE * 255, BOX, ValueError, "image wants values from 0 to 1, got from "),
        (IMAGE.byte(), BOX, TypeError, "image wants a floating dtype, got torch.uint8"),
        (IMAGE * math.nan, BOX, ValueError, "image wants values from 0 to 1"),
        (IMAGE, (5, 5, 30, 30), TypeError, r"box wants a torch.Tensor \(4,\), got \(5, 5, 30, 30\)"),
        (IMAGE, BOX[None], ValueError, r"box wants the shape \(4,\), got \(1, 4\)"),
        (
            IMAGE,
            torch.tensor([5, 5, 5, 30]),
            ValueError,
            "box wants x1, y1, x2, y2 that hold at least 2×2 pixels",
        ),
        (
            IMAGE,
            torch.tensor([30, 30, 5, 5]),
            ValueError,
            "box wants x1, y1, x2, y2 that hold at least 2×2 pixels",
        ),
        (IMAGE, torch.tensor([5.0, 5, math.nan, 30]), ValueError, "box wants values from "),
        (IMAGE, torch.tensor([5.0, 5, math.inf, 30]), ValueError, "box wants values from "),
        (IMAGE.to("meta"), BOX, ValueError, "image wants a tensor with values, got one on the meta device"),
        (IMAGE, BOX.to("meta"), ValueError, "box wants a tensor with values, got one on the meta device"),
        (IMAGE, BOX * 1j, TypeError, "box wants real numbers, got torch.complex64"),
    ],
)
def test_bad_images_and_boxes_are_refused(landmarks, image, box, error, message):
    for use in (landmarks, lambda image, box: align_face(image, box, landmarks)):
        with pytest.raises(error, match=message) as refusal:
            use(image, box)
        assert "\n" not in str(refusal.value)


def test_bad_trees_are_refused():
    content, _ = dlib_writer.predictor()
    state = read_shape_predictor(content, "predictor.dat")
    FaceLandmarks(state)
    wrong = [
        ({}, ValueError, "state wants the tensors initial_shape, splits"),
        (state | {"more": state["deltas"]}, ValueError, "state wants the tensors initial_shape, splits"),
        (state | {"leaves": state["leaves"][:, :, 1:]}, ValueError, "leaves wants the shape"),
        (state | {"leaves": state["leaves"] * math.nan}, ValueError, "leaves wants finite values"),
        (state | {"splits": state["splits"] + 6}, ValueError, "splits wants values from 0 to 5"),
        (state | {"anchors": state["anchors"] - 5}, ValueError, "anchors wants values from 0 to 4"),
        (state | {"thresholds": state["thresholds"][:, :, :2]}, ValueError, "thresholds wants 1, 3, 7, 15"),
        (state | {"deltas": None}, TypeError, "deltas wants a torch.Tensor"),
        (list(state.items()), TypeError, "state wants a dict of tensors"),
    ]
    for bad, error, message in wrong:
        with pytest.raises(error, match=message):
            FaceLandmarks(bad)


# --- alignment ----------------------------------------------------------------------------------------------


def mapped(points, scale, angle, shift):
    """(P, 2) -> (P, 2): scaled, turned and moved."""
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return points @ turn.T + shift


@settings(max_examples=50)
@given(
    scale=st.floats(0.01, 100),
    angle=st.floats(-math.pi, math.pi),
    shift=st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
)
def test_a_similarity_is_found_again(scale, angle, shift):
    source = np.random.default_rng(0).normal(size=(7, 2))
    turn, found = fit_similarity(source, mapped(source, scale, angle, shift))
    assert np.allclose(turn, mapped(np.eye(2), scale, angle, 0).T, atol=1e-9 * scale)
    assert np.allclose(found, shift, atol=1e-9 * (scale + 100))


def test_no_similarity_is_closer_than_the_one_found():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    best = np.linalg.lstsq(design(source), target.ravel(), rcond=None)[0]
    turn, shift = fit_similarity(source, target)
    assert np.allclose([turn[0, 0], turn[1, 0], *shift], best)
    with pytest.raises(ValueError, match="source wants points that lie apart"):
        fit_similarity(np.ones((3, 2)), target[:3])


def chip_places(scale, angle, shift):
    """-> (150, 150, 2): the pixel of the image that each one of the chip shows, and the landmarks that say
    so.
    """
    mean = (MEAN_FACE + 0.25) / 1.5 * 150
    steps = np.linspace(0.5 / scale, 150 - 0.5 / scale, 150)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    return mapped(grid, scale, angle, shift).reshape(150, 150, 2), mapped(mean, scale, angle, shift)


@pytest.mark.parametrize("scale", [0.3, 0.99, 1.7, 2.6, 5.3, 7.0])
@pytest.mark.parametrize("angle", [0.0, 0.4, -2.0])
def test_a_chip_of_a_plane_is_that_plane(scale, angle):
    height, width = 1700, 2100
    places, points = chip_places(
        scale, angle, np.array([1000.0, 800.0]) - mapped(np.array([75.0, 75.0]), scale, angle, 0)
    )
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    image = torch.stack([x / width, y / height, (x + y) / (width + height)])
    chip = align_points(image, torch.from_numpy(points))
    column, row = torch.from_numpy(places).float().unbind(-1)
    wanted = torch.stack([column / width, row / height, (column + row) / (width + height)])
    assert chip.shape == (3, 150, 150) and chip.dtype == torch.float32
    assert_close(chip, wanted, rtol=0, atol=2e-4)  # a half pixel is 2.4e-4


def test_no_pixel_of_a_large_face_is_skipped():
    _, points = chip_places(4.0, 0.0, np.array([0.0, 0.0]))
    stripes = (torch.arange(620) % 2).float().expand(1, 610, -1)
    chip = align_points(stripes, torch.from_numpy(points))
    assert_close(chip, torch.full((3, 150, 150), 0.5), rtol=0, atol=1e-4)  # 0 or 1 where one is skipped


def test_places_outside_the_image_are_black_and_an_image_may_have_any_shape():
    _, points = chip_places(1.0, 0.0, np.array([0.0, 0.0]))
    for height, width in ((1, 1), (3, 90), (90, 3), (40, 75)):
        chip = align_points(torch.ones(1, height, width), torch.from_numpy(points))
        assert chip.shape == (3, 150, 150)
        assert (chip[:, height + 1 :] == 0).all() and (chip[:, :, width + 1 :] == 0).all()
        assert chip.max() > 0.2


def test_a_chip_keeps_dtype_and_gradient(landmarks):
    image = photo("astronaut")
    points = torch.tensor([[255, 104], [238, 105], [195, 101], [212, 103], [224, 135]])
    wanted = align_points(image, points)
    for dtype, tolerance in ((torch.float64, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)):
        chip = align_points(image.to(dtype), points)
        assert chip.dtype == dtype
        assert_close(chip.float(), wanted, rtol=0, atol=tolerance)
    grey = align_points(image.mean(0, keepdim=True), points)
    assert_close(grey, wanted.mean(0, keepdim=True).expand(3, -1, -1))
    image.requires_grad_()
    align_points(image, points).sum().backward()
    assert image.grad[:, 76:167, 175:266].min() > 0
    assert_close(
        align_face(image, torch.tensor(FACE), landmarks),
        align_points(image, landmarks(image, torch.tensor(FACE))),
    )


@with_dlib
@real
@pytest.mark.parametrize("factor, tolerance", [(1, 1.01), (0.4, 1.01), (2.2, 1.01), (5, 8)])
def test_a_chip_is_dlibs(real_landmarks, factor, tolerance):
    import dlib

    image = F.interpolate(photo("astronaut")[None], scale_factor=factor, mode="bicubic", antialias=True)[0]
    image = image.clamp(0, 1).mul(255).round() / 255
    pixels = as_bytes(image)
    left, top, right, bottom = (int(factor * corner) for corner in FACE)
    box = dlib.rectangle(left, top, right - 1, bottom - 1)
    shape = dlib.shape_predictor(str(real_path("shape_predictor_5_face_landmarks.dat")))(pixels, box)
    theirs = torch.from_numpy(dlib.get_face_chip(pixels, shape, 150, 0.25)).permute(2, 0, 1)
    mine = align_face(image, torch.tensor([left, top, right, bottom]), real_landmarks)
    difference = (255 * mine - theirs).abs()
    if factor == 5:  # dlib halves by another filter, which moves the image by half a pixel
        assert difference.mean() < tolerance
        net = real_resnet()
        with torch.no_grad():
            assert (net(mine[None]) - net(theirs[None] / 255)).norm() < 0.1  # 0.6 tells two persons apart
    else:
        assert difference.max() < tolerance  # dlib cuts the fraction off


@pytest.mark.parametrize(
    "points, error, message",
    [
        (torch.zeros(5, 2), ValueError, "points wants landmarks that lie apart"),
        (torch.zeros(4, 2), ValueError, r"points wants the shape \(5, 2\), got \(4, 2\)"),
        (torch.full((5, 2), math.nan), ValueError, "points wants values from"),
        (torch.full((5, 2), 1e9), ValueError, "points wants values from"),
        ([[0, 0]] * 5, TypeError, r"points wants a torch.Tensor \(5, 2\)"),
    ],
)
def test_bad_landmarks_are_refused(points, error, message):
    with pytest.raises(error, match=message):
        align_points(IMAGE, points)
    with pytest.raises(TypeError, match="landmarks wants a FaceLandmarks, got None"):
        align_face(IMAGE, BOX, None)
