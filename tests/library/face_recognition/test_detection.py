"""The cascade on real faces, the HOG detector against a loop over windows, both on any image."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.feature import hog
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook.data import face_patches, photo, read_image
from vlmbook.detection import box_iou
from vlmbook.face_recognition import HogDetector, detect_faces, group_windows

ASTRONAUT = torch.tensor([[175.0, 76, 266, 167]])  # by dlib's detector


def around_the_face():
    """-> (3, 160, 180) of photo("astronaut"), and dlib's box in it."""
    return photo("astronaut")[:, 40:200, 130:310], ASTRONAUT - torch.tensor([130.0, 40, 130, 40])


# The cascade.


def test_a_face_is_found_where_another_detector_finds_it():
    image, box = around_the_face()
    found = detect_faces(image)
    assert found.shape == (1, 4) and found.dtype == torch.float32
    assert box_iou(found, box) > 0.6


def test_a_grey_image_a_half_and_a_mirror_image_give_the_same_face():
    image, box = around_the_face()
    expected = detect_faces(image)
    grey = (image * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
    assert_close(detect_faces(grey.clamp(0, 1)), expected, atol=1, rtol=0)
    assert_close(detect_faces(image.double()), expected, atol=1, rtol=0)
    assert box_iou(detect_faces(image.half()), expected) > 0.9
    mirrored = detect_faces(image.flip(2))
    mirrored[:, [0, 2]] = 180 - mirrored[:, [2, 0]]
    assert_close(mirrored, expected, atol=3, rtol=0)
    assert box_iou(expected, box) > 0.6


def test_colours_are_weighted_as_the_eye_sees_them():
    """A face in green and its negative in red: the mean of the channels is even, the brightness is not."""
    grey = around_the_face()[0].mean(0)
    coloured = torch.stack([1 - grey, grey, torch.full_like(grey, 0.5)])
    assert len(detect_faces(coloured)) == 1
    assert len(detect_faces(coloured.mean(0, keepdim=True).round(decimals=4))) == 0


def test_a_face_at_the_edge_is_found_and_several_are_sorted_by_size():
    faces, _ = face_patches()
    large = F.interpolate(faces[:1], size=(90, 90), mode="bilinear")[0]
    small = F.interpolate(faces[1:2], size=(60, 60), mode="bilinear")[0]
    assert len(detect_faces(large)) == 1  # the face fills the image
    both = torch.full((1, 150, 220), 0.5)
    both[:, 20:110, 10:100] = large
    both[:, 60:120, 140:200] = small
    found = detect_faces(both)
    assert len(found) == 2
    areas = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    assert areas[0] > areas[1] and found[0, 0] < found[1, 0]


def test_a_photograph_from_a_phone_is_turned_upright_first(tmp_path):
    image, _ = around_the_face()
    pixels = (255 * image).round().byte().permute(1, 2, 0).numpy()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(tmp_path / "a.png", exif=exif)
    assert_close(detect_faces(read_image(tmp_path / "a.png")), detect_faces(image), atol=2, rtol=0)


def test_most_faces_are_found_and_nothing_else():
    patches, _ = face_patches()
    large = F.interpolate(patches, scale_factor=3, mode="bilinear")
    found = torch.tensor([len(detect_faces(patch)) > 0 for patch in large[20:45]])
    assert found.sum() >= 22
    others = torch.tensor([len(detect_faces(patch)) > 0 for patch in large[120:145]])
    assert others.sum() <= 1
    for name in ("cat", "horse"):
        assert len(detect_faces(photo(name), smallest=40)) == 0


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 300), (3, 300, 1), (1, 23, 24), (3, 25, 25), (1, 2, 2)])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_any_size_and_an_even_image_have_no_face(shape, value):
    assert detect_faces(torch.full(shape, value)).shape == (0, 4)


def test_an_image_of_another_kind_gets_a_sentence():
    image, _ = around_the_face()
    for bad in (
        image[0],
        image[None],
        torch.cat([image, image]),
        (255 * image).byte(),
        2 * image,
        image - 1,
        image.log(),
        image * torch.nan,
        image[:, :0],
        image.to("meta"),
        image.numpy(),
        None,
        image.to_sparse(),
        torch.complex(image, image),
    ):
        with pytest.raises((TypeError, ValueError), match="image wants"):
            detect_faces(bad)


def test_a_large_image_is_made_smaller_and_its_boxes_are_not():
    image, box = around_the_face()
    large = F.interpolate(image[None], scale_factor=6, mode="bilinear")[0]
    found = detect_faces(large, longest=300)
    assert box_iou(found, 6 * box) > 0.6


def test_a_face_below_the_smallest_size_is_not_found():
    """Sizes are pixels of the image that was given, also where a smaller copy is looked at."""
    image, _ = around_the_face()
    side = detect_faces(image)[0, 2] - detect_faces(image)[0, 0]
    assert len(detect_faces(image, smallest=int(0.7 * side))) == 1
    assert len(detect_faces(image, smallest=int(1.6 * side))) == 0
    large = F.interpolate(image[None], scale_factor=3, mode="bilinear")[0]
    assert len(detect_faces(large, smallest=int(3 * 0.7 * side), longest=200)) == 1
    assert len(detect_faces(large, smallest=int(3 * 1.6 * side), longest=200)) == 0
    assert len(detect_faces(image, smallest=2**31 - 1)) == 0


def test_by_default_a_face_has_a_sixteenth_of_the_shorter_side():
    image, _ = around_the_face()  # the face has 100 pixels
    wide = F.pad(image[None], (1110, 1110, 1120, 1120), value=0.5)[0]  # 2,400×2,380
    assert len(detect_faces(wide)) == 0
    assert len(detect_faces(wide, smallest=70)) == 1
    assert len(detect_faces(photo("astronaut"))) == 1  # the only face, and nothing else


# Groups.


def test_windows_are_grouped_by_who_overlaps_most():
    windows = torch.tensor(
        [[0, 0, 10, 10], [1, 0, 11, 10], [0, 1, 10, 11], [50, 50, 60, 60], [51, 50, 61, 60], [90, 0, 95, 5]]
    ).float()
    boxes, counts = group_windows(windows)
    assert counts.tolist() == [3, 2, 1]
    assert_close(boxes[0], windows[:3].mean(0))
    assert_close(boxes[1], windows[3:5].mean(0))
    assert_close(boxes[2], windows[5])
    empty, none = group_windows(torch.zeros(0, 4))
    assert empty.shape == (0, 4) and none.shape == (0,)
    assert group_windows(torch.zeros(3, 4))[1].sum() == 3  # boxes without area


def test_each_window_is_in_one_group():
    generator = torch.Generator().manual_seed(0)
    corners = 50 * torch.rand(200, 2, generator=generator)
    windows = torch.cat([corners, corners + 5 + 20 * torch.rand(200, 2, generator=generator)], 1)
    boxes, counts = group_windows(windows, 0.4)
    assert counts.sum() == 200 and (counts.diff() <= 0).all()
    assert_close((boxes * counts[:, None]).sum(0), windows.sum(0), rtol=1e-4, atol=1e-2)


# HOG and a linear machine.


@pytest.fixture(scope="module")
def detector():
    patches, labels = face_patches()
    train = torch.arange(200) % 2 == 0
    return HogDetector().fit(patches[train], labels[train])


def test_it_tells_faces_it_has_not_seen(detector):
    patches, labels = face_patches()
    test = torch.arange(200) % 2 == 1
    right = (detector.score(patches[test]) > 0) == labels[test].bool()
    assert right.double().mean() >= 0.9


def test_the_convolution_gives_the_scores_of_a_loop_over_windows(detector):
    torch.manual_seed(0)
    image = F.interpolate(torch.rand(1, 1, 9, 12), size=(47, 61), mode="bilinear")[0]
    blocks = hog(image[0].numpy(), 9, (5, 5), (2, 2), feature_vector=False).reshape(8, 11, -1)
    boxes, scores = detector(image, threshold=-100.0, scale=4.0, overlap=1.0)
    found = {tuple(box.tolist()): float(score) for box, score in zip(boxes, scores, strict=True)}
    expected = {}
    for row in range(5):
        for column in range(8):
            window = torch.from_numpy(blocks[row : row + 4, column : column + 4]).float()
            score = float((window * detector.weights).sum()) + detector.bias
            expected[5.0 * column, 5.0 * row, 5.0 * column + 25, 5.0 * row + 25] = score
    assert found.keys() == expected.keys()
    for box, score in expected.items():
        assert abs(found[box] - score) < 1e-4


def test_a_face_is_found_at_its_size(detector):
    faces, _ = face_patches()
    image = torch.full((1, 150, 160), 0.5)
    image[:, 30:105, 50:125] = F.interpolate(faces[1:2], size=(75, 75), mode="bilinear")[0]
    boxes, scores = detector(image)
    assert (scores.diff() <= 0).all()
    overlaps = box_iou(boxes, boxes) - torch.eye(len(boxes))
    assert overlaps.max() <= 0.3
    assert box_iou(boxes, torch.tensor([[50.0, 30, 125, 105]])).max() > 0.5


def test_hard_negatives_give_fewer_false_alarms(detector):
    """Collected in two photographs without a face, they help in two others."""
    patches, labels = face_patches()
    hard = torch.cat([detector.collect(photo(name), longest=300) for name in ("cat", "coffee")])
    assert 50 < len(hard) <= 100 and (detector.score(hard) > -0.5).double().mean() > 0.8
    none = torch.zeros(len(hard), dtype=torch.int64)
    taught = HogDetector().fit(torch.cat([patches[::2], hard]), torch.cat([labels[::2], none]))
    for name in ("horse", "clock"):
        before, after = (len(each(photo(name), longest=300)[0]) for each in (detector, taught))
        assert after < 0.7 * before
    assert (taught.score(patches[1:100:2]) > 0).double().mean() > 0.75


def test_it_wants_to_be_trained_and_both_kinds():
    patches, labels = face_patches()
    with pytest.raises(ValueError, match="detector wants to be trained first"):
        HogDetector()(photo("cat"))
    with pytest.raises(ValueError, match="labels wants faces"):
        HogDetector().fit(patches[:50], labels[:50])
    with pytest.raises(ValueError, match="patches wants square patches"):
        HogDetector().fit(patches[:, :, :24], labels)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 24, 90), (1, 25, 25), (3, 40, 30)])
def test_it_takes_any_size(detector, shape):
    boxes, scores = detector(torch.zeros(shape))
    assert boxes.shape == (len(scores), 4)
