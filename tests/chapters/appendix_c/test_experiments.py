"""The experiments of appendix C: the formulas against libraries, settings that match, named faults."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from vlmbook import runtime
from vlmbook.chapters.appendix_c import experiments


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)


# --- the formulas -------------------------------------------------------------------------------------------


def test_the_blur_is_scipys(image):
    want = ndimage.gaussian_filter(image.astype(float), (2, 2, 0), mode="mirror", truncate=4)
    np.testing.assert_allclose(experiments.blur(image, 2, 8), want, atol=1e-9)


@pytest.mark.parametrize("factor", [2, 3])
def test_enlarging_is_scipys_with_pixels_as_areas(image, factor):
    want = ndimage.zoom(image.astype(float), (factor, factor, 1), order=1, grid_mode=True, mode="nearest")
    np.testing.assert_allclose(experiments.enlarge(image, factor), want, atol=1e-9)


def test_a_block_mean_is_the_mean_of_each_block(image):
    small = experiments.block_mean(image, 5)  # does not divide the sides
    assert small.shape == (4, 7, 3)
    np.testing.assert_allclose(small[1, 2], image[5:10, 10:15].mean((0, 1)))


@pytest.mark.parametrize("bilinear", [True, False])
def test_a_quarter_turn_is_exact_and_counterclockwise(image, bilinear):
    square = image[:, :24]
    turned = experiments.rotate(square, 90, bilinear=bilinear)
    np.testing.assert_allclose(turned, np.rot90(square), atol=1e-9)


def test_a_turn_there_and_back_keeps_the_middle_and_a_wide_picture_its_shape():
    smooth = experiments.blur(experiments.photograph("cat")[:120, :200], 4, 16).round().astype(np.uint8)
    there = experiments.rotate(smooth, 20).round().astype(np.uint8)
    back = experiments.rotate(there, -20)
    assert back.shape == smooth.shape
    assert np.abs(experiments.middle(back - smooth)).max() < 4


# --- six operations in five libraries -----------------------------------------------------------------------


def test_with_matched_settings_what_remains_is_rounding(image):
    found = experiments.measure_differences(image, "matched")
    assert set(found) == set(experiments.OPERATIONS)
    for operation, row in found.items():
        assert set(row) == set(experiments.libraries())
        for library, (mean, largest) in row.items():
            if (operation, library) != ("blur", "Pillow"):
                assert mean <= 0.6 and largest <= 1.25, (operation, library)


def test_with_their_own_settings_they_differ(image):
    found = experiments.measure_differences(image, "own")
    assert found["shrink"]["NumPy"][1] > 10 and found["grey"]["scikit-image"][1] > 5
    assert found["brighten"]["NumPy"][1] == found["brighten"]["torchvision"][1] == 255


@pytest.mark.parametrize("settings", ["own", "matched"])
@pytest.mark.parametrize("operation", experiments.OPERATIONS)
def test_all_libraries_give_the_same_shape(image, operation, settings):
    shapes = {
        experiments.apply(operation, library, image, settings, experiments.AMOUNTS[operation]).shape
        for library in experiments.libraries()
    }
    assert len(shapes) == 1


def test_without_opencv_the_others_are_compared(image, monkeypatch):
    monkeypatch.setattr(experiments, "cv2", None)
    assert experiments.libraries() == ["Pillow", "NumPy", "scikit-image", "torchvision"]
    assert "OpenCV" not in experiments.readers()
    assert all("OpenCV" not in row for row in experiments.measure_differences(image, "own").values())
    assert not any("OpenCV" in name for name in experiments.line_response())
    with experiments.quiet_opencv():
        pass


def test_full_contrast_is_counted_where_the_rings_are_too_fine():
    rings = experiments.zone_plate(128)
    assert rings.shape == (128, 128, 3) and rings[64, 64, 0] > 250
    assert experiments.contrast_left(rings[::4, ::4], 4) > 80
    assert experiments.contrast_left(np.full((32, 32, 3), 127), 4) == 0


def test_a_turned_photograph_is_read_upright(image, tmp_path):
    path = tmp_path / "turned.jpg"
    experiments.save_turned(path, image)
    with Image.open(path) as stored:
        assert stored.size == (36, 24)
    assert experiments.read_upright(path).shape == (36, 24, 3)


def test_the_missing_file_is_an_outcome(tmp_path):
    readers = experiments.readers()
    assert experiments.read_or_say(readers["Pillow"], tmp_path / "no.png") == "FileNotFoundError"
    if experiments.cv2 is not None:
        assert experiments.read_or_say(readers["OpenCV"], tmp_path / "no.png") is None


def test_calls_take_turns_and_the_first_round_is_not_counted():
    order = []
    times = experiments.take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3 and set(times) == {"a", "b"}


# --- devices ------------------------------------------------------------------------------------------------


def test_the_settings_compute_the_same_network():
    times, differences = experiments.measure_settings(torch.device("cpu"), channels=4, side=8, repeats=1)
    assert set(times) == set(differences)
    assert differences["float32"] == 0 and differences["channels last"] < 1e-5
    assert 0 < differences["autocast to bfloat16"] < 0.1


def test_what_cannot_be_compiled_is_said(monkeypatch):
    def fail(function):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", fail)
    assert "nothing could be compiled" in experiments.measure_compile(torch.device("cpu"), size=8)


def test_compiled_and_plain_are_measured(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: function)
    measured = experiments.measure_compile(torch.device("cpu"), size=8, repeats=1)
    assert measured["difference"] == 0 and set(measured) == {"plain", "compiled", "first call", "difference"}


def test_each_kind_of_device_is_named():
    assert len(experiments.probe_devices()) == 4 and experiments.describe_cudnn()


# --- containers ---------------------------------------------------------------------------------------------

PINNED = "python:3.11.9-slim@sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("reference", "faults"),
    [
        (PINNED, []),
        ("registry.example.org:5000/team/image:1.2.3@sha256:" + "a" * 64, []),
        ("ubuntu", ["fixed tag", "digest"]),
        ("registry.example.org:5000/team/image", ["fixed tag", "digest"]),
        ("python:latest", ["fixed tag", "digest"]),
        ("nvidia/cuda:11.0-devel-ubuntu18.04", ["patch level", "digest"]),
        ("python:3.11.9", ["digest"]),
        ("python:3.11.9@sha256:123", ["digest"]),
    ],
)
def test_what_can_change_under_a_name(reference, faults):
    found = experiments.lint_image(reference)
    assert len(found) == len(faults)
    assert all(word in sentence for word, sentence in zip(faults, found, strict=True))


GOOD = f"FROM {PINNED}\n# USER root\nUSER reader\nRUN pip install \\\n    -c constraints.txt x\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD, None),
        (GOOD.replace("USER reader\n", ""), "root"),
        (GOOD + "USER root\n", "root"),
        (GOOD + "USER 0:0\n", "root"),
        (GOOD.replace("-c constraints.txt ", ""), "constraints"),
        (GOOD + "ADD https://example.org/x /x\n", "network"),
        (GOOD.replace(PINNED, "python:3.11@sha256:" + "0" * 64), "patch level"),
        (GOOD.partition("\n")[2], "no FROM"),
    ],
)
def test_a_fault_of_a_dockerfile_is_named(text, fault):
    found = experiments.lint_dockerfile(text)
    if fault is None:
        assert found == []
    else:
        assert len(found) == 1 and fault in found[0]


def test_our_dockerfile_runs_as_a_user_with_the_tested_versions():
    path = runtime.BOOK / "Dockerfile"
    if not path.exists():
        pytest.skip("there is no Dockerfile here")
    faults = experiments.lint_dockerfile(path.read_text(encoding="utf-8"))
    assert not [fault for fault in faults if "root" in fault or "constraints" in fault or "latest" in fault]


# --- the book's network -------------------------------------------------------------------------------------


def test_a_network_without_an_input_size_has_no_weights_until_it_sees_an_image():
    network = experiments.make_unbuilt()
    assert experiments.count_open(network) == 6
    network(torch.zeros(1, 1, 28, 28))
    assert experiments.count_open(network) == 0
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_770_634
