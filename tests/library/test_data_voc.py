"""Pascal VOC: boxes that fit their images whatever tool wrote them, and every fault named."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.testing import assert_close

from tests.support.files import REAL, RGB, real, save_image
from vlmbook.data import DataMissing, voc_boxes


def annotation(*objects, size=None, more=""):
    told = "".join(
        f"<object><name>{name}</name>{more}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in objects
    )
    size = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>any</filename>{size}{told}</annotation>"


@pytest.fixture
def cells(tmp_path):
    root = tmp_path / "cells"
    told = {
        "c_1": annotation(("rbc", 1, 1, 12, 8), ("wbc", 3, 2, 3, 2)),
        "c_2": annotation(),
        "c_10": annotation(("platelet", 2.5, 1, 4, 8)),
    }
    for name, xml in told.items():
        save_image(root / "JPEGImages" / f"{name}.jpg", np.full((8, 12, 3), 128, np.uint8))
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{name}.xml").write_text(xml)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("c_2\nc_1\n\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text("c_10  1\n")
    return root


def test_boxes_are_the_edges_of_pixels_counted_from_one(cells):
    """VOC's first pixel is 1 and its last belongs to the box: the whole image, and a single pixel."""
    data = voc_boxes(cells, "train")
    assert data.classes == ["platelet", "rbc", "wbc"]  # of all splits
    assert [path.stem for path in data.paths] == ["c_2", "c_1"]
    image, told = data[1]
    assert image.shape == (3, 8, 12)
    assert told["boxes"].tolist() == [[0, 0, 12, 8], [2, 1, 3, 2]] and told["boxes"].dtype == torch.float32
    assert told["labels"].tolist() == [1, 2] and told["labels"].dtype == torch.int64
    assert data[0][1]["boxes"].shape == (0, 4) and data[0][1]["labels"].shape == (0,)
    assert voc_boxes(cells, "val")[0][1]["boxes"].tolist() == [[1.5, 0, 4, 8]]
    assert [path.stem for path in voc_boxes(cells).paths] == ["c_1", "c_2", "c_10"]
    told["boxes"].zero_()
    assert pickle.loads(pickle.dumps(data))[1][1]["boxes"].sum() > 0


def test_difficult_objects_are_marked(cells):
    told = annotation(("rbc", 1, 1, 5, 5), ("wbc", 1, 1, 5, 5), more="<difficult> 1 </difficult>")
    (cells / "Annotations" / "c_1.xml").write_text(told.replace("1 </difficult>", "0</difficult>", 1))
    data = voc_boxes(cells)
    assert data[0][1]["difficult"].tolist() == [False, True] and data[0][1]["labels"].tolist() == [1, 2]
    assert data[1][1]["difficult"].shape == (0,) and data[1][1]["difficult"].dtype == torch.bool
    assert data[2][1]["difficult"].tolist() == [False]  # where nothing is said
    data[0][1]["difficult"].fill_(False)
    assert data[0][1]["difficult"].any()
    (cells / "Annotations" / "c_1.xml").write_text(annotation(("rbc", 1, 1, 5, 5), more="<difficult/>"))
    assert voc_boxes(cells)[0][1]["difficult"].tolist() == [False]
    (cells / "Annotations" / "c_1.xml").write_text(told.replace(" 1 ", "perhaps"))
    with pytest.raises(
        ValueError, match=r"c_1\.xml is no VOC annotation: an object is difficult 'perhaps', where 0"
    ):
        voc_boxes(cells)


def photographed(folder, orientation, *, seen, size=None, shape=(8, 12)):
    """A light spot in the dark, its box told as it is `seen`, or as it is stored -> data."""
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[1:3, 2:7] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(folder / "JPEGImages" / "c_1.jpg", exif=exif, quality=100, subsampling=0)
    if seen:
        with Image.open(folder / "JPEGImages" / "c_1.jpg") as file:
            pixels = np.array(ImageOps.exif_transpose(file))
    rows, columns = np.nonzero(pixels[:, :, 0] > 128)
    told = annotation(
        ("rbc", columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1),
        size=pixels.shape[1::-1] if size is None else size,
    )
    (folder / "Annotations" / "c_1.xml").write_text(told)
    return voc_boxes(folder, "train")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("seen", [False, True])
def test_boxes_fit_however_the_camera_was_held(cells, orientation, seen):
    """Some tools follow EXIF and some do not; the size that they write tells which picture they saw."""
    image, told = photographed(cells, orientation, seen=seen)[1]
    assert image.shape == ((3, 12, 8) if seen else (3, 8, 12))
    [[x1, y1, x2, y2]] = told["boxes"].int().tolist()
    spot = torch.zeros(image.shape[1:], dtype=torch.bool)
    spot[y1:y2, x1:x2] = True
    assert (image[0] > 0.5).equal(spot) and spot.sum() == 10


def test_an_image_that_is_not_to_be_turned_needs_no_size(cells):
    for orientation in (0, 1, 9):
        assert photographed(cells, orientation, seen=True, size=(0, 0))[1][0].shape == (3, 8, 12)
        assert photographed(cells, orientation, seen=True)[1][0].shape == (3, 8, 12)


def test_a_tiff_that_pillow_turns_itself_is_turned_once(cells):
    (cells / "JPEGImages" / "c_1.jpg").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(cells / "JPEGImages" / "c_1.tif", exif=exif)
    (cells / "Annotations" / "c_1.xml").write_text(annotation(size=(6, 10)))
    assert_close(voc_boxes(cells)[0][0], torch.from_numpy(np.rot90(RGB, -1).copy()).permute(2, 0, 1) / 255)
    (cells / "Annotations" / "c_1.xml").write_text(annotation(size=(10, 6)))
    with pytest.raises(ValueError, match=r"c_1\.xml is of an image of 10×6, .*c_1\.tif is 6×10$"):
        voc_boxes(cells)[0]


@pytest.mark.parametrize(
    "orientation, options, fault",
    [
        (
            3,
            {},
            r"c_1\.jpg is to be turned \(EXIF orientation 3\), and .*c_1\.xml does not tell",
        ),
        (6, {"shape": (9, 9)}, r"\(EXIF orientation 6\), and .*does not tell"),
        (6, {"size": (0, 0)}, r"\(EXIF orientation 6\), and .*does not tell"),
        (6, {"size": (40, 30)}, r"c_1\.xml is of an image of 40×30, .*c_1\.jpg is 12×8 or, turned, 8×12"),
        (1, {"size": (8, 12)}, r"c_1\.xml is of an image of 8×12, .*c_1\.jpg is 12×8$"),
    ],
)
def test_where_boxes_cannot_be_laid_on_their_image_it_is_said(cells, orientation, options, fault):
    data = photographed(cells, orientation, seen=False, **options)
    with pytest.raises(ValueError, match=fault):
        data[1]
    assert data[0][0].shape == (3, 8, 12)


@pytest.mark.parametrize("box", [(1, 1, 13, 5), (1, 1, 5, 9), (1, 1, "inf", 5)])
def test_a_box_outside_its_image_is_named(cells, box):
    (cells / "Annotations" / "c_1.xml").write_text(annotation(("rbc", *box)))
    with pytest.raises(ValueError, match=r"c_1\.xml wants boxes within its image of 12×8, got"):
        voc_boxes(cells, "train")[1]


@pytest.mark.parametrize("box", [(0, 1, 5, 5), (1, 0, 5, 5), (-3, 1, 5, 5), (0.5, 1, 5, 5)])
def test_a_box_that_counts_from_zero_wants_it_declared(cells, box):
    (cells / "Annotations" / "c_1.xml").write_text(annotation(("rbc", *box)))
    with pytest.raises(
        ValueError, match=r"c_1\.xml wants xmin and ymin from 1 up, as VOC counts pixels; from_zero"
    ):
        voc_boxes(cells, "train")
    if min(box) >= 0:
        assert voc_boxes(cells, "train", from_zero=True)[1][1]["boxes"].tolist() == [list(box)]
    else:
        with pytest.raises(ValueError, match="wants xmin and ymin from 0 up, got"):
            voc_boxes(cells, "train", from_zero=True)


def test_the_whole_image_as_a_box_from_zero(cells):
    (cells / "Annotations" / "c_1.xml").write_text(annotation(("rbc", 0, 0, 12, 8)))
    image, target = voc_boxes(cells, "train", from_zero=True)[1]
    assert target["boxes"].tolist() == [[0, 0, image.shape[2], image.shape[1]]]


def test_boxes_follow_their_image_to_another_size(cells):
    image, target = voc_boxes(cells, "train", size=(16, 36))[1]
    assert image.shape == (3, 16, 36) and target["boxes"].tolist() == [[0, 0, 36, 16], [6, 2, 9, 4]]
    image, target = voc_boxes(cells, "train", size=24, letterbox=True)[1]
    assert image.shape == (3, 24, 24) and target["boxes"].tolist() == [[0, 4, 24, 20], [4, 6, 6, 8]]
    assert image[0, 0, 0] == 0.5 and image[0, 12, 12] == pytest.approx(128 / 255, abs=0.01)
    assert voc_boxes(cells, "train", size=24)[0][1]["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    "names", [("images", "annotations", "imagesets"), ("IMAGES", "ANNOTATIONS", "ImageSets")]
)
def test_folders_may_be_written_otherwise(cells, names):
    for before, after in zip(("JPEGImages", "Annotations", "ImageSets"), names, strict=True):
        (cells / before).rename(cells / f"{after}.")
        (cells / f"{after}.").rename(cells / after)
    assert [path.stem for path in voc_boxes(cells, "train").paths] == ["c_2", "c_1"] and len(
        voc_boxes(cells)
    ) == 3


def test_the_suffix_may_be_in_upper_case(cells):
    for path in [*(cells / "Annotations").iterdir()]:
        path.rename(path.with_suffix(".XML"))
    assert len(voc_boxes(cells)) == 3 and voc_boxes(cells, "val")[0][1]["boxes"].shape == (1, 4)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gbk", "latin-1"]
)
def test_the_list_of_a_split_may_be_in_any_encoding(cells, encoding):
    name = "Zürich 1" if encoding == "latin-1" else "图 1"
    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (cells / folder / f"c_1.{suffix}").rename(cells / folder / f"{name}.{suffix}")
    text = f"  {name}  \r\n\r\nc_2 -1\r\n"
    (cells / "ImageSets" / "Main" / "train.txt").write_bytes(text.encode(encoding))
    assert [path.stem for path in voc_boxes(cells, "train").paths] == [name, "c_2"]


def test_a_name_with_blanks_may_have_a_flag(cells):
    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (cells / folder / f"c_1.{suffix}").rename(cells / folder / f"my cell 1.{suffix}")
    (cells / "ImageSets" / "Main" / "train.txt").write_text("my cell 1  1\nmy cell 1\n")
    assert [path.stem for path in voc_boxes(cells, "train").paths] == ["my cell 1"] * 2
    (cells / "ImageSets" / "Main" / "train.txt").write_text("my cell\n")
    with pytest.raises(DataMissing, match=r"there is no annotation .*my cell\.xml"):
        voc_boxes(cells, "train")


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [("gbk", "GBK"), ("gb2312", "gb2312"), ("gb18030", "GB18030"), ("big5", "Big5"), ("utf-16", "UTF-16"),
     ("utf-8", "utf-8"), ("utf-8-sig", None), ("utf-16", None), ("utf-8", "gbk"), ("utf-16-le", None)],
)  # fmt: skip
def test_an_annotation_may_be_in_any_encoding_that_it_declares(cells, encoding, declared):
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    text = head + annotation(("白血球" if encoding != "gb2312" else "血球", 1, 1, 4, 4))
    (cells / "Annotations" / "c_1.xml").write_bytes(text.encode(encoding))
    data = voc_boxes(cells, "train")
    assert [data.classes[label] for label in data[1][1]["labels"]] == [
        "白血球" if encoding != "gb2312" else "血球"
    ]


def test_a_blank_line_before_the_declaration_is_passed_over(cells):
    text = '\n  <?xml version="1.0" encoding="utf-8"?>' + annotation(("rbc", 1, 1, 4, 4))
    (cells / "Annotations" / "c_1.xml").write_text(text)
    assert len(voc_boxes(cells, "train")[1][1]["boxes"]) == 1


@pytest.mark.parametrize(
    "declared", ["", '<?xml version="1.0" encoding="no-such"?>', '<?xml version="1.0" encoding="zlib"?>']
)
def test_an_encoding_that_is_not_declared_is_not_guessed(cells, declared):
    text = declared + annotation(("白血球", 1, 1, 4, 4))
    (cells / "Annotations" / "c_1.xml").write_bytes(text.encode("gbk"))
    with pytest.raises(ValueError, match=r"c_1\.xml is no VOC annotation: it is not in utf-8-sig"):
        voc_boxes(cells, "train")


@pytest.mark.parametrize(
    "xml, fault",
    [
        (annotation(("rbc", 5, 1, 4, 5)), "a box without area"),
        (annotation(("rbc", 1, "nan", 4, 5)), "without area"),
        (annotation(("rbc", 1, "x", 4, 5)), "could not convert"),
        (annotation((" ", 1, 1, 4, 5)), "an object has no name"),
        ("<annotation><object><name>a</name></object></annotation>", "an object has no bndbox/xmin"),
        ("<annotation><object>", "no element found"),
        ("", "no element found"),
        ("hello", "syntax error"),
        ("<html/>", "its root is <html>"),
        (
            '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>',
            "document type 'a'",
        ),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "document type 'a'"),
    ],
)
def test_an_annotation_that_is_none_is_named(cells, xml, fault):
    (cells / "Annotations" / "c_1.xml").write_text(xml)
    with pytest.raises(ValueError, match=rf"c_1\.xml (is no VOC annotation|has a box).*{fault}|{fault}"):
        voc_boxes(cells, "train")


def test_voc_names_what_is_missing(cells, tmp_path):
    with pytest.raises(ValueError, match=r"split of .*cells wants 'train' or 'val', got 'test'"):
        voc_boxes(cells, "test")
    with pytest.raises(DataMissing, match=r"there is no folder .*gone"):
        voc_boxes(tmp_path / "gone")
    with pytest.raises(DataMissing, match=r"there is no folder .*gone"):
        voc_boxes(tmp_path / "gone", "train")
    (cells / "JPEGImages" / "c_1.jpg").unlink()
    with pytest.raises(DataMissing, match=r"there is no image .*JPEGImages/c_1\.\*"):
        voc_boxes(cells, "train")
    (cells / "Annotations" / "c_1.xml").unlink()
    with pytest.raises(DataMissing, match=r"there is no annotation .*c_1\.xml"):
        voc_boxes(cells, "train")
    for path in [*(cells / "ImageSets" / "Main").iterdir()]:
        path.unlink()
    with pytest.raises(DataMissing, match=r"Main has no list of a split in it"):
        voc_boxes(cells, "train")
    for path in [*(cells / "Annotations").iterdir()]:
        path.unlink()
    with pytest.raises(DataMissing, match=r"Annotations has no annotation in it"):
        voc_boxes(cells)
    (cells / "Annotations").rmdir()
    with pytest.raises(DataMissing, match=r"there is no folder .*cells/Annotations"):
        voc_boxes(cells)


@real("BCCD")
def test_the_real_blood_cells():
    data = voc_boxes(REAL / "BCCD")
    assert len(data) == 364 and sum(len(boxes) for boxes in data.boxes) == 4888
    assert data.classes == ["Platelets", "RBC", "WBC"]
    assert len(voc_boxes(REAL / "BCCD", "trainval")) + len(voc_boxes(REAL / "BCCD", "test")) == 364
    image, told = data[363]
    assert image.shape == (3, 480, 640) and not told["difficult"].any()
