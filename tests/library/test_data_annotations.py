"""COCO, Pascal VOC, Open Images: exact there and back, as the libraries read them, and nothing lost in
silence.
"""

import csv
import json
import shutil
import tempfile
from pathlib import Path

import faster_coco_eval
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlmbook.data import AnnotatedImage, DataMissing, ImageObject, voc_boxes
from vlmbook.data.annotations import (
    HOLDS,
    list_losses,
    read_coco,
    read_open_images,
    read_voc,
    write_coco,
    write_open_images,
    write_voc,
)
from vlmbook.data.rle import RLE, decode_mask, encode_mask

LABELS = ["cat", "a, b", '<"&>', "猫", "/m/01yrx", "1"]


@st.composite
def objects(draw, height, width, flags, masks=True):
    """An object of whole or broken pixels, often at the border of its image."""

    def edges(size):
        whole = st.integers(0, size)
        broken = st.floats(0, size, allow_nan=False).map(lambda value: round(value, 6))
        pair = st.tuples(whole | broken, whole | broken) | st.just((0, size))
        return draw(pair.map(sorted).filter(lambda pair: pair[1] - pair[0] > 1e-5))

    (x1, x2), (y1, y2) = edges(width), edges(height)
    mask = None
    if masks and draw(st.booleans()):
        seed = draw(st.integers(0, 99))
        pixels = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < 0.4
        mask = encode_mask(pixels)
    marks = {flag: draw(st.booleans()) for flag in sorted(flags)}
    return ImageObject(draw(st.sampled_from(LABELS)), (x1, y1, x2, y2), mask=mask, **marks)


@st.composite
def sets(draw, flags, masks=True):
    found = []
    for number in range(draw(st.integers(1, 3))):
        height, width = draw(st.integers(1, 40)), draw(st.integers(1, 700))
        each = objects(height, width, flags, masks)
        found.append(
            AnnotatedImage(f"a.{number}.png", height, width, tuple(draw(st.lists(each, max_size=3))))
        )
    return found


def save_pictures(folder, images):
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        Image.new("L", (image.width, image.height)).save(folder / image.file)


def there_and_back(form, images, allow_loss=False):
    """-> (images, sentences about what was lost)"""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if form == "COCO":
            losses = write_coco(root / "a.json", images, allow_loss=allow_loss)
            return read_coco(root / "a.json"), losses
        if form == "VOC":
            losses = write_voc(root, images, allow_loss=allow_loss)
            return read_voc(root), losses
        save_pictures(root / "images", images)
        losses = write_open_images(root / "b", images, allow_loss=allow_loss)
        return read_open_images(root / "b", root / "images"), losses


# --- exact --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", HOLDS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_what_a_format_holds_comes_back_exactly(form, data):
    images = data.draw(sets(HOLDS[form]))
    if list_losses(images, form):  # masks that overlap, or that no box tells apart
        images = data.draw(sets(HOLDS[form], masks=False))
    assert there_and_back(form, images) == (images, [])


@settings(max_examples=8, deadline=None)
@given(sets((), masks=False))
def test_all_three_formats_in_a_row_change_nothing(images):
    found = images
    for form in ("COCO", "VOC", "Open Images", "VOC", "COCO"):
        found, losses = there_and_back(form, found)
        assert losses == []
    assert found == images


def test_masks_pass_through_all_three(tmp_path):
    left, right = torch.zeros(2, 30, 41, dtype=torch.bool)
    left[3:20, 0:9], right[:, 40] = True, True
    boxes = ((0, 3, 9, 20), (40, 0, 41, 30))
    parts = zip(boxes, (left, right), strict=True)
    images = [AnnotatedImage("1.png", 30, 41, [ImageObject("a", b, mask=encode_mask(m)) for b, m in parts])]
    found = images
    for form in HOLDS:
        found, _ = there_and_back(form, found)
    assert found == images


def test_losses_are_named_and_refused_unless_they_are_allowed():
    mask = RLE(4, 5, (0, 20))
    marked = {"crowd": True, "difficult": True, "truncated": True, "occluded": True}
    images = [AnnotatedImage("1.png", 4, 5, (ImageObject("cat", (0, 0, 5, 4), mask=mask, **marked),) * 2)]
    lost = {
        "COCO": ["difficult", "truncated", "occluded"],
        "VOC": ["crowd"],
        "Open Images": ["difficult"],
    }
    for form, flags in lost.items():
        with pytest.raises(ValueError, match=r"1\.png, object 0 \(cat\).*allow_loss=True writes the rest"):
            there_and_back(form, images)
        found, losses = there_and_back(form, images, allow_loss=True)
        assert losses == list_losses(images, form)
        assert all(any(flag in each for each in losses) for flag in flags)
        kept = {flag: flag in HOLDS[form] for flag in marked}
        assert all(getattr(found[0].objects[0], flag) == value for flag, value in kept.items())
    overlap = list_losses(images, "VOC")[-1]
    assert "object 1 (cat): 20 pixels of its mask belong to an earlier object" in overlap


def test_a_mask_that_no_box_tells_apart_is_a_loss():
    box, mask = (0, 0, 5, 4), RLE(4, 5, (1, 19))
    both = (ImageObject("a", box), ImageObject("a", box, mask=mask))
    assert "which of 2 objects a" in list_losses([AnnotatedImage("1.png", 4, 5, both)], "Open Images")[0]
    twice = (both[1], ImageObject("a", box, mask=RLE(4, 5, (2, 18))))
    images = [AnnotatedImage("1.png", 4, 5, twice)]
    assert there_and_back("Open Images", images) == (images, [])


# --- as the libraries read them -----------------------------------------------------------------------------


@pytest.fixture
def images():
    mask = torch.zeros(60, 80, dtype=torch.bool)
    mask[10:30, 5:20] = True
    return [
        AnnotatedImage(
            "x.png",
            60,
            80,
            (
                ImageObject("cat", (5, 10, 20, 30), mask=encode_mask(mask)),
                ImageObject("dog", (0, 0, 80, 60), crowd=True, mask=encode_mask(~mask)),
            ),
        ),
        AnnotatedImage("y.png", 60, 80),
    ]


def test_pycocotools_and_torchvision_read_the_same_coco(images, tmp_path):
    faster_coco_eval.init_as_pycocotools()
    from pycocotools.coco import COCO
    from torchvision.datasets import CocoDetection

    write_coco(tmp_path / "a.json", images, categories={"cat": 17, "dog": 18})
    save_pictures(tmp_path / "images", images)
    coco = COCO(tmp_path / "a.json")
    first, crowd = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert (first["bbox"], first["category_id"], first["area"]) == ([5, 10, 15, 20], 17, 300)
    assert crowd["iscrowd"] == 1 and isinstance(crowd["segmentation"]["counts"], list)
    for found, each in zip((first, crowd), images[0].objects, strict=True):
        assert np.array_equal(coco.annToMask(found), decode_mask(each.mask).numpy())
    data = CocoDetection(tmp_path / "images", tmp_path / "a.json")
    assert [each["bbox"] for each in data[0][1]] == [[5, 10, 15, 20], [0, 0, 80, 60]] and data[1][1] == []


def test_torchvision_and_voc_boxes_read_the_same_voc(images, tmp_path):
    from torchvision.datasets import VOCDetection

    root = tmp_path / "VOCdevkit" / "VOC2012"
    write_voc(root, images, allow_loss=True)
    save_pictures(root / "JPEGImages", images)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("x\ny\n")
    shutil.copy(root / "JPEGImages" / "x.png", root / "JPEGImages" / "x.jpg")
    for each in ("x", "y"):
        (root / "JPEGImages" / f"{each}.png").rename(root / "JPEGImages" / f"{each}.jpg")
    told = VOCDetection(tmp_path, year="2012", image_set="train")[0][1]["annotation"]
    assert told["object"][0]["bndbox"] == {"xmin": "6", "ymin": "11", "xmax": "20", "ymax": "30"}
    assert told["size"] == {"width": "80", "height": "60", "depth": "3"}
    assert torch.equal(voc_boxes(root)[0][1]["boxes"], images[0].boxes)
    with Image.open(root / "SegmentationObject" / "x.png") as file:
        assert file.mode == "P" and file.getpalette()[3:9] == [128, 0, 0, 0, 128, 0]
        assert np.array_equal(np.asarray(file) == 1, decode_mask(images[0].objects[0].mask).numpy())


def test_the_columns_of_open_images(images, tmp_path):
    write_open_images(tmp_path, images, codes={"cat": "/m/01yrx", "dog": "/m/0bt9lr"})
    with open(tmp_path / "annotations-bbox.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["LabelName"] for row in rows] == ["/m/01yrx", "/m/0bt9lr"]
    assert [float(rows[0][each]) for each in ("XMin", "XMax", "YMin", "YMax")] == [
        5 / 80,
        20 / 80,
        10 / 60,
        30 / 60,
    ]
    assert [row["IsGroupOf"] for row in rows] == ["0", "1"] and {row["Confidence"] for row in rows} == {"1"}


def test_polygons_are_filled_nearly_as_in_pycocotools(tmp_path):
    faster_coco_eval.init_as_pycocotools()
    from pycocotools.coco import COCO

    outlines = [
        [[10.0, 5.0, 50.0, 5.0, 50.0, 40.0, 10.0, 40.0]],
        [[5, 5, 30, 8, 12, 50], [60, 5, 70, 5, 65, 9]],
    ]
    content = {
        "images": [{"id": 7, "file_name": "x.png", "height": 60, "width": 80}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": 7, "category_id": 1, "bbox": [1, 1, 2, 2], "iscrowd": 0, "area": 4}
            | {"segmentation": outline}
            for n, outline in enumerate(outlines, 1)
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = [decode_mask(each.mask).numpy() for each in read_coco(tmp_path / "a.json")[0].objects]
    coco = COCO(tmp_path / "a.json")
    for each, number in zip(found, (1, 2), strict=True):
        theirs = coco.annToMask(coco.anns[number]).astype(bool)
        assert (each & theirs).sum() / (each | theirs).sum() > 0.9
    assert found[0].sum() == 40 * 35  # the polygon's area, where it ends between pixels
    assert read_coco(tmp_path / "a.json", masks=False)[0].objects[0].mask is None


# --- files of others ----------------------------------------------------------------------------------------

ENTRY = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4]}


def broken_coco(tmp_path, **changes):
    content = {
        "images": [{"id": 1, "file_name": "x.png", "height": 6, "width": 8}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [ENTRY, ENTRY | {"id": 2} | changes],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    return tmp_path / "a.json"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bbox": [0, 0, 9, 4]}, "within its image of 8×6"),
        ({"bbox": [0, 0, 0, 4]}, "wants an area"),
        ({"bbox": [0, 0, 4]}, "x, y, width and height"),
        ({"bbox": [0, 0, "a", 4]}, "bbox wants"),
        ({"category_id": 9}, "no category 9"),
        ({"category_id": [1]}, "no category"),
        ({"image_id": 9}, "no image 9"),
        ({"image_id": None}, "image_id"),
        ({"iscrowd": 2}, "iscrowd wants"),
        ({"segmentation": [[1, 2, 3]]}, "a polygon wants"),
        ({"segmentation": [[1, 2, 3, 4, 5, None]]}, "polygon wants"),
        ({"segmentation": {"size": [6, 8], "counts": [3]}}, "48 pixels"),
        ({"segmentation": {"size": [8, 6], "counts": [48]}}, "size of its image"),
        ({"segmentation": {"size": 3, "counts": "a"}}, "wants a size"),
        ({"segmentation": {"size": [10**6, 10**6], "counts": [10**12]}}, "at most"),
        ({"segmentation": "text"}, "polygons or runs"),
    ],
)
def test_a_fault_of_coco_is_named_or_listed_and_the_others_are_read(tmp_path, changes, says):
    path = broken_coco(tmp_path, **changes)
    with pytest.raises(ValueError, match=f"annotation 2: .*{says}"):
        read_coco(path)
    faults = []
    [image] = read_coco(path, faults=faults)
    assert len(image.objects) == 1 and len(faults) == 1


@pytest.mark.parametrize(
    "content", ["", "[1]", "{}", "[" * 100_000, '{"images": [NaN]}', '{"images": 3}', '{"images": [3]}']
)
def test_what_is_no_coco_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=r"a\.json"):
        read_coco(tmp_path / "a.json")


@pytest.mark.parametrize(
    "name", ["../x.png", "a/x.png", "a\\x.png", "..", ".x.png", "x\0.png", "", " x.png", 3]
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises((ValueError, TypeError), match="file wants"):
        AnnotatedImage(name, 3, 4)
    path = broken_coco(tmp_path)
    path.write_text(path.read_text().replace('"x.png"', json.dumps(name)))
    faults = []
    assert read_coco(path, faults=faults) == [] and "file wants" in faults[0]


def test_nothing_is_overwritten(images, tmp_path):
    for write, path in (
        (write_coco, tmp_path / "a.json"),
        (write_voc, tmp_path),
        (write_open_images, tmp_path),
    ):
        write(path, images, allow_loss=True)
        before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
        with pytest.raises(FileExistsError, match="exists already"):
            write(path, images[:1], allow_loss=True)
        assert before == {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}


def test_entities_are_refused_and_the_other_annotations_are_read(images, tmp_path):
    write_voc(tmp_path, images, allow_loss=True)
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb">]><annotation><filename>&b;</filename></annotation>'
    (tmp_path / "Annotations" / "w.xml").write_text(bomb)
    with pytest.raises(ValueError, match=r"w\.xml.*document type"):
        read_voc(tmp_path)
    faults = []
    assert [image.file for image in read_voc(tmp_path, faults=faults)] == ["x.png", "y.png"]
    assert len(faults) == 1


def test_boxes_that_count_from_zero_are_told_apart(tmp_path):
    image = AnnotatedImage("x.png", 6, 8, (ImageObject("cat", (0, 0, 8, 6)),))
    write_voc(tmp_path, [image])
    path = tmp_path / "Annotations" / "x.xml"
    path.write_text(path.read_text().replace("<xmin>1<", "<xmin>0<"))
    with pytest.raises(ValueError, match="within its image"):
        read_voc(tmp_path)
    assert read_voc(tmp_path, from_zero=True)[0].objects[0].box == (0, 1, 8, 6)


def test_a_row_a_mask_and_an_image_of_open_images_that_do_not_fit_are_listed(images, tmp_path):
    write_open_images(tmp_path, images)
    save_pictures(tmp_path / "images", images)
    with open(tmp_path / "annotations-bbox.csv", "a") as file:
        file.write("z,manual,cat,1,0,1,0,1,0,0,0,0,0\nx,manual,cat,1,0.5,0.2,0,1,0,0,0,0,0\n")
        file.write("x,manual,cat,1,0,1.5,0,1,0,0,0,0,0\nx,manual,cat,1,0,nan,0,1,0,0,0,0,0\n")
    with open(tmp_path / "annotations-object-segmentation.csv", "a") as file:
        file.write("../x.png,x,cat,0,0,1,0,1,,\nx_0.png,x,cat,0,0,1,0,1,,\n")
    (tmp_path / "images" / "w.png").write_bytes(b"no image")
    faults = []
    found = read_open_images(tmp_path, tmp_path / "images", faults=faults)
    assert found == images
    wanted = ("w.png", "file wants", "no image 'z'", "wants an area", "XMax wants", "XMax wants", "1 masks")
    assert len(faults) == len(wanted)
    assert all(word in fault for word, fault in zip(wanted, faults, strict=True)), faults
    with pytest.raises(ValueError, match=r"w\.png"):
        read_open_images(tmp_path, tmp_path / "images")
    with pytest.raises(DataMissing, match="annotations-bbox"):
        read_open_images(tmp_path / "masks", tmp_path / "images")


def test_names_of_classes_may_have_a_header(images, tmp_path):
    write_open_images(tmp_path, images, codes={"cat": "/m/1", "dog": "/m/2"})
    save_pictures(tmp_path / "images", images)
    path = tmp_path / "class-descriptions-boxable.csv"
    path.write_text("LabelName,DisplayName\n" + path.read_text())
    assert read_open_images(tmp_path, tmp_path / "images") == images
    path.unlink()
    codes = {each.label for each in read_open_images(tmp_path, tmp_path / "images")[0].objects}
    assert codes == {"/m/1", "/m/2"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"box": (0, 0, 0, 1)}, "wants an area"),
        ({"box": (0, 0, float("nan"), 1)}, "finite"),
        ({"box": (0, 0, 1)}, "four numbers"),
        ({"label": " cat"}, "printable"),
        ({"label": "a\nb"}, "printable"),
        ({"label": ""}, "printable"),
        ({"label": 3}, "text"),
        ({"crowd": 1}, "crowd wants"),
        ({"mask": torch.ones(2, 2)}, "an RLE"),
    ],
)
def test_an_object_that_is_none_is_refused(change, says):
    with pytest.raises((ValueError, TypeError), match=says):
        ImageObject(**{"label": "cat", "box": (0, 0, 1, 1)} | change)


def test_two_files_of_one_stem_need_coco():
    images = [AnnotatedImage(name, 3, 4) for name in ("a.png", "a.jpg")]
    assert there_and_back("COCO", images) == (images, [])
    for form in ("VOC", "Open Images"):
        with pytest.raises(ValueError, match="got a twice"):
            list_losses(images, form)


def test_codes_are_complete_and_different(images, tmp_path):
    with pytest.raises(ValueError, match="none for 'dog'"):
        write_coco(tmp_path / "a.json", images, categories={"cat": 1})
    with pytest.raises(ValueError, match="different code"):
        write_open_images(tmp_path, images, codes={"cat": "/m/1", "dog": "/m/1"})
