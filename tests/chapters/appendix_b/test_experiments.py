"""The experiments of appendix B: the tiny set, the messy folder, mistakes, wrong labels, facts, links."""

import re
from urllib.parse import unquote

import pytest
import torch

from vlmbook import chapters, data
from vlmbook.chapters import references
from vlmbook.chapters.appendix_b import exercises, experiments
from vlmbook.chapters.errata import rows

CHAPTER = next(chapter for chapter in chapters.TABLE if chapter.name == "appendix_b")


@pytest.fixture(scope="module")
def images():
    return experiments.annotate()


def test_each_mask_lies_in_its_box_and_touches_its_sides(images):
    for image in images:
        for each in image.objects:
            if each.mask:
                rows_, columns = data.decode_mask(each.mask).nonzero().T
                around = (columns.min(), rows_.min(), columns.max() + 1, rows_.max() + 1)
                assert tuple(float(edge) for edge in around) == each.box


def test_the_coins_are_24_apart_and_in_rows():
    coins = torch.stack(experiments.segment_coins())
    assert len(coins) == 24 and coins.sum(0).max() == 1
    tops = [coin.any(1).nonzero()[0].item() for coin in coins]
    assert max(tops[:6]) < min(tops[6:12]) and max(tops[12:18]) < min(tops[18:])


def test_the_tiny_set_has_every_flag_and_an_image_without_objects(images):
    found = data.describe_objects(images)
    assert all(found.flags.values()) and found.empty == ["brick.jpg"]
    assert set(found.classes) == set(experiments.CODES)


def test_the_messy_folder_is_what_the_exercise_counts(tmp_path):
    experiments.write_messy_folder(tmp_path)
    found = data.describe_folder(tmp_path)
    assert found.classes == exercises.BEFORE
    assert len(found.broken) == 3 and found.others == ["notes.txt"]
    gone = {"grass/copy.jpg", "gravel/from_brick.jpg", "brick/05_small.jpg"}
    assert gone <= {name for names in found.duplicates for name in names} | set(found.similar[0][:2])
    assert len(found.sizes) - len(gone) == exercises.KEPT


def test_a_folder_is_explored_with_and_without_annotations(images, tmp_path):
    some = images[:3]
    experiments.write_images(tmp_path / "coco" / "images", some)
    data.write_coco(tmp_path / "coco" / "a.json", some, allow_loss=True)
    data.write_open_images(tmp_path / "coco" / "open", some, allow_loss=True)
    experiments.write_images(tmp_path / "coco" / "open" / "images", some)
    data.write_voc(tmp_path / "voc", some, allow_loss=True)
    for folder in ("coco", "coco/open", "voc"):
        _, objects, faults = experiments.explore(tmp_path / folder)
        assert objects.classes == {"Cat": 1, "Clock": 1} and faults == [], folder
    (tmp_path / "coco" / "a.json").write_text("[")
    found, objects, faults = experiments.explore(tmp_path / "coco")
    assert objects is None and "no JSON" in faults[0] and len(found.sizes) >= 3
    assert experiments.explore(tmp_path / "coco" / "images")[1] is None


def test_mistakes_are_measured_on_boxes_inside_the_image():
    for size, (low, high) in experiments.CLASSES.items():
        boxes = experiments.draw_boxes(size, 200, seed=1)
        sides = boxes[:, 2:] - boxes[:, :2]
        assert sides.min() >= low and sides.max() <= high and boxes.min() >= 0
        assert boxes[:, 2].max() <= experiments.WIDTH and boxes[:, 3].max() <= experiments.HEIGHT
    square = torch.tensor([[10.0, 20.0, 18.0, 28.0]]).double()
    mistake = experiments.MISTAKES["VOC: the 1 is not subtracted"]
    assert experiments._mean_iou(square, mistake) == pytest.approx(49 / 64)


def test_digits_err_by_half_of_the_last_one_at_most():
    for width, errors in experiments.measure_digits((7, 640)).items():
        assert all(error <= 0.5 * width * 10.0**-digits + 1e-9 for digits, error in enumerate(errors, 1))


def test_facts_have_sources_and_claims_have_errata_of_this_chapter():
    sets, claims = experiments.load_facts()
    entries = references.load()
    assert all(each.source and each.origin for each in sets)
    assert {key for each in sets for key in re.findall(r"@(\w+)", each.source)} <= set(entries)
    assert {claim.erratum for claim in claims} <= set(CHAPTER.errata)
    assert len(experiments.as_rows(sets)) == len(sets)


def test_a_source_that_is_not_there_is_named(tmp_path):
    text = experiments.FACTS.read_text(encoding="utf-8").replace("@quattoni2009", "@nobody2009")
    (tmp_path / "facts.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"MIT Indoor-67: references\.bib has no nobody2009"):
        experiments.load_facts(tmp_path / "facts.toml")


def test_every_link_of_the_text_leads_to_a_notebook_and_to_one_heading():
    links = re.findall(r"\]\(([^)\s]+)\)", CHAPTER.text.read_text(encoding="utf-8"))
    assert len(links) >= 3
    for link in links:
        name, _, anchor = link.partition("#")
        path = chapters.NOTEBOOKS / name
        assert path.exists(), link
        found = [rows.anchor(heading) for heading in rows.find_headings(path)]
        assert not anchor or found.count(unquote(anchor)) == 1, link


@pytest.mark.skipif(not CHAPTER.notebook.exists(), reason="the notebook is not executed")
def test_sections_that_the_book_check_names_exist():
    headings = rows.find_headings(CHAPTER.notebook)
    for name in CHAPTER.errata:
        place = rows.find_place(name, CHAPTER)
        assert place.heading.endswith("Book check") and place.runs, name
        assert all(heading in headings for heading in place.links), name
