# %% [markdown]
# # B · Data sets (相关数据集)
#
# *Book: App. B, after §8*
#
# **A data set comes with a format and with numbers. How can you read the one, and trust the other?**
#
# After this appendix you can
#
# - read and write boxes, masks and flags in the formats of COCO, Pascal VOC and Open Images,
# - convert between them without an error of one pixel, and say what a format cannot hold,
# - compute the area of a mask from its run lengths by hand,
# - describe your own folder of images: sizes, classes, boxes, imbalance, copies, broken files,
# - check a number that a book gives for a data set.
#
# You need these terms: bounding box and IoU ([chapter 5a](ch05a_classification_and_detection.ipynb)), image segmentation ([chapter
# 3c](ch03c_unet.ipynb)), test set and label ([chapter 3a](ch03a_convolution_and_pooling.ipynb)).
#
# The core path takes 40 minutes: sections 1 to 7. Section 8 goes deeper. Run all cells from top to bottom. The first cell prints the time and the memory
# of a whole run, and shows the main result of the published run.

# %% tags=["record"]
import json
import shutil
from tempfile import mkdtemp
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from vlmbook import data, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.appendix_b import experiments, figures as drawings

torch.set_num_threads(1)
plot.use_style()
records.published("appendix_b")
published = records.RESULTS / "appendix_b.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)]);

# %% [markdown]
# ## 1 The data, looked at
#
# We write our own tiny data set, so that every format can be shown without a download. It has six photographs. The outlines of the cat, the cup and the
# spoon are drawn by hand. The outlines of the coins and the horse follow from the pixels.
#
# An annotation (标注) says what is in an image. Here each object has a label (标签), a bounding box (边界框) and perhaps a mask (掩码). It also has flags:
# **crowd** (群体标注) is one box around many objects, **difficult** (困难样本) is an object that is hard to recognise, **truncated** (截断) is an object of which a part is
# outside its box, **occluded** (遮挡) is an object behind another one.

# %%
root = Path(mkdtemp(prefix="vlmbook-"))


def fresh(name):  # -> Path of an empty folder: our writers overwrite nothing
    shutil.rmtree(root / name, ignore_errors=True)
    return root / name


images = experiments.annotate()
experiments.write_images(root / "tiny" / "images", images)
spoon = images[3].objects[1]
print("the spoon:", spoon.label, spoon.box, " area of its mask:", spoon.mask.area)
for image in images:
    print(f"{image.file:11} {image.width}×{image.height}", {each.label for each in image.objects})

# %%
pictures = [data.photo(image.stem) for image in images]
figure = plt.figure(figsize=(5.5, 3.4))
drawings.draw_annotated(figure, pictures, images)


# %% [markdown]
# The bottom row of coins is one crowd (orange). The clock is difficult, because the camera moved. The bricks have no object: an image without objects is
# an annotation too, and a format has to keep it.
#
# ## 2 One box, three notations
#
# Look at the small image below. Its pixels are counted from 1 (orange), its edges from 0 (black). The same box has different numbers in each format. Which
# of the numbers in VOC would change if the box were one pixel wider?

# %%
def show_box(figure, left=2, top=1, width=4, height=3):
    drawings.draw_notations(figure, left, top, width, height)


interact.live(show_box, left=(0, 7), top=(0, 5), width=(1, 8), height=(1, 6), figsize=(7, 2.8))


# %% [markdown]
# Only the third number changes, xmax. With the edges $x_1,y_1,x_2,y_2$ in an image of width $W$ and height $H$, the formats are
#
# $$\text{COCO}:(x_1,\;y_1,\;x_2-x_1,\;y_2-y_1)\qquad\text{VOC}:(x_1+1,\;y_1+1,\;x_2,\;y_2)\qquad\text{Open Images}:\Big(\frac{x_1}W,\frac{x_2}W,\frac{y_1}H,\frac{y_2}H\Big)$$
#
# VOC names the first and the last *pixel* of the box, counted from 1. So the first pixel is the left edge plus 1, and the last pixel has the number of the
# right edge. Convert the box $(2,1,6,4)$ in the image of $8\times6$ by hand, then compare with the cell.

# %%
def notate(box, image_width, image_height):
    x1, y1, x2, y2 = box
    return {
        "COCO": (x1, y1, x2 - x1, y2 - y1),
        "VOC": (x1 + 1, y1 + 1, x2, y2),
        "Open Images": (x1 / image_width, x2 / image_width, y1 / image_height, y2 / image_height),
    }


for notation, values in notate((2, 1, 6, 4), 8, 6).items():
    print(f"{notation:12}", values)
print("the whole image in VOC:", notate((0, 0, 8, 6), 8, 6)["VOC"])

# %% [markdown]
# By hand: COCO $(2,1,4,3)$, VOC $(3,2,6,4)$, Open Images $(0.25,0.75,0.167,0.667)$. The whole image is $(1,1,8,6)$ in VOC.
#
# ## 3 COCO: one JSON file, and masks as runs
#
# COCO [Lin et al. 2014] keeps the annotations of all images in one JSON file with three lists: `images`, `annotations` and `categories`. Numbers (ids) connect
# the lists. COCO has a flag for crowds, `iscrowd`. It has none for difficult, truncated and occluded objects. Our writer does not lose them in silence: the
# writer refuses, or it lists what is lost.

# %%
categories = {"Cat": 17, "Clock": 85, "Coffee cup": 47, "Coin": 91, "Horse": 19, "Spoon": 50}
coco_file = fresh("coco") / "annotations.json"
try:
    data.write_coco(coco_file, images)
except ValueError as refusal:
    print("refused:", refusal, "\n")
lost = data.write_coco(coco_file, images, categories=categories, allow_loss=True)
print(*lost, sep="\n")
shutil.copy(coco_file, root / "tiny")
content = json.loads(coco_file.read_text())
print({name: len(entries) for name, entries in content.items()})
print({key: content["annotations"][0][key] for key in ("image_id", "category_id", "bbox")})


# %% [markdown]
# A mask of any shape would need one number a pixel. COCO stores **run lengths** (游程编码, RLE) instead. The mask is read column by column, from the top down. The
# first number counts pixels outside the object, the second one pixels inside, and so on. Write down the runs of this mask by hand, then run the cell:
#
# $$\begin{pmatrix}0&1&1&0\\0&1&0&0\\1&1&0&0\end{pmatrix}$$

# %%
def encode(mask):  # (H, W) of 0 and 1 -> list of run lengths
    counts, inside = [0], 0
    for pixel in mask.T.flatten().tolist():  # .T: column by column
        if pixel == inside:
            counts[-1] += 1
        else:
            counts.append(1)
            inside = pixel
    return counts


small_mask = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0], [1, 1, 0, 0]])
runs = encode(small_mask)
print("runs:", runs, " area:", sum(runs[1::2]), " starts inside:", encode(1 - small_mask))
shares = [len(each.mask.counts) / (image.height * image.width)
          for image in images for each in image.objects if each.mask]  # fmt: skip
print(f"the masks of the tiny set: {max(shares):.2%} as many numbers as pixels, at most")

# %% [markdown]
# The columns from the left are $(0,0,1)$, $(1,1,1)$, $(1,0,0)$, $(0,0,0)$. So the runs are 2 outside, 5 inside, 5 outside. The area is the sum of every second
# run, 5. A mask that begins inside the object has a first run of 0. In the file the runs may also be compressed into a text. Change the mask below: type 0 or
# 1. Which masks have many runs?

# %%
presets = {
    "a corner": small_mask.tolist(),
    "a row": [[0] * 4, [1] * 4, [0] * 4],
    "a column": [[0, 1, 0, 0]] * 3,
    "a checkerboard": [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]],
}
editor = interact.MatrixEditor(presets, description="mask")
interact.live(drawings.draw_runs, mask=editor, figsize=(7, 2))

# %% [markdown]
# A row has more runs than a column, because the pixels are read in columns. A checkerboard has the most.
#
# Is our file right? We let other loaders read it: `CocoDetection` of torchvision, and `pycocotools`, the library of COCO itself. torchvision needs pycocotools.
# Where pycocotools is not installed, faster-coco-eval has the same functions. Where both are missing, the cell says so.

# %%
from torchvision.datasets import CocoDetection, VOCDetection

coco = experiments.load_coco(coco_file)
if coco:
    areas = [int(coco.annToMask(coco.anns[number]).sum()) for number in (1, 3, 4, 24)]
    print("areas of cat, cup, spoon and horse by pycocotools:", areas)
    coco_data = CocoDetection(root / "tiny" / "images", coco_file)
    print("torchvision, cat.jpg:", [each["bbox"] for each in coco_data[1][1]])
else:
    print("no pycocotools: the loaders are not compared")

# %% tags=["claims"]
assert runs == [2, 5, 5] == list(data.encode_mask(small_mask.bool()).counts)
assert encode(1 - small_mask)[0] == 0 and max(shares) < 0.02
row, column, checkerboard = (len(encode(torch.tensor(presets[name]))) for name in list(presets)[1:])
assert column < row < checkerboard
assert len(lost) == 3 and all("no mark for" in each for each in lost)
if coco:
    masked = [each.mask for image in images for each in image.objects]
    for number, rle in enumerate(masked, 1):
        if rle:
            theirs = torch.from_numpy(coco.annToMask(coco.anns[number]))
            assert (theirs == data.decode_mask(rle)).all()

# %% [markdown]
# ## 4 Pascal VOC: one XML file an image
#
# Pascal VOC [Everingham et al. 2010] has a folder of XML files, one for each image. It has flags for difficult, truncated and occluded objects. It has no
# crowd. The masks of an image are one map, a PNG with a palette (调色板): the value of a pixel is the number of the object. So masks cannot overlap. The
# evaluation of VOC counts difficult objects neither as found nor as missed.

# %%
voc = fresh("VOCdevkit") / "VOC2012"
lost_in_voc = data.write_voc(voc, images, allow_loss=True)
print(*lost_in_voc)
shutil.copytree(root / "tiny" / "images", voc / "JPEGImages", dirs_exist_ok=True)
(voc / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
(voc / "ImageSets" / "Main" / "train.txt").write_text("\n".join(image.stem for image in images))
voc_data = VOCDetection(root, year="2012", image_set="train")
found = voc_data[2][1]["annotation"]["object"][0]
print("torchvision, clock.jpg:", found["name"], found["difficult"], found["bndbox"])
first_boxes = data.voc_boxes(voc)[2][1]
print("vlmbook, clock.jpg:", first_boxes["boxes"].tolist(), first_boxes["difficult"].tolist())

# %% [markdown]
# torchvision returns the XML as it is: text, with pixels counted from 1. Who trains on these numbers has to subtract 1 from xmin and ymin. `voc_boxes` does
# it. The map of the coins below shows the objects in the colours of VOC.

# %%
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

with Image.open(voc / "SegmentationObject" / "coins.png") as file:
    coin_map = pil_to_tensor(file)[0]
    colours = pil_to_tensor(file.convert("RGB"))
print("values of the map:", coin_map.unique().tolist())
plot.gallery([colours], ["coins.png: value 1 is the first object"], width=3.5);

# %% tags=["claims"]
x1, y1, x2, y2 = images[2].objects[0].box
assert [float(found["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")] == [
    x1 + 1, y1 + 1, x2, y2]  # fmt: skip
assert first_boxes["boxes"].tolist() == [[x1, y1, x2, y2]] and first_boxes["difficult"].all()
assert len(lost_in_voc) == 1 and "crowd" in lost_in_voc[0]
assert coin_map.unique().tolist() == list(range(20))

# %% [markdown]
# ## 5 Open Images: tables, and classes in a tree
#
# Open Images [Kuznetsova et al. 2020] has tables (CSV), one row a box. Coordinates are parts of the width and the height, so the table does not tell the size
# of an image. Classes are codes such as `/m/01yrx`; another table has their names. `IsGroupOf` is the flag for crowds.

# %%
import csv

open_folder = fresh("open")
lost_in_open = data.write_open_images(
    open_folder, images, codes=experiments.CODES, allow_loss=True)  # fmt: skip
print(*lost_in_open)
with open(open_folder / "annotations-bbox.csv", newline="") as file:
    table = list(csv.DictReader(file))
print(len(table), "rows; columns:", ", ".join(table[0]))
print(", ".join(f"{key}={value}" for key, value in list(table[0].items())[:8]))
confidences = {entry["Confidence"] for entry in table}
print("values of Confidence:", confidences, " groups:", sum(e["IsGroupOf"] == "1" for e in table))


# %% [markdown]
# The book says that boxes have a confidence and a classifier score (M34). The released boxes have the column `Confidence`, and in the released files its
# value is always 1, as the page of Open Images shows; we write it so. No column is a score, a frame of a video or the identity of an object over time. So
# the set is none for tracking (W49).
#
# The classes form a **hierarchy** (层级结构): each cat is an animal. The annotators chose the most specific class. Who trains or evaluates a class such as
# *Animal* has to add the boxes of all classes below it. The tree below is a small part of the real one, and it is shortened.

# %%
def find_ancestors(tree, above=()):  # -> {code: codes above it, the nearest first}
    here = {tree["LabelName"]: above}
    for child in tree.get("Subcategory", []):
        here |= find_ancestors(child, (tree["LabelName"], *above))
    return here


ancestors = find_ancestors(experiments.HIERARCHY)
names = {code: name for name, code in experiments.CODES.items()} | experiments.PARENTS
codes = [entry["LabelName"] for entry in table]
expanded = [code for own in codes for code in (own, *ancestors[own])]
for code in ("/m/01yrx", "/m/0jbk", "/m/0bl9f"):
    print(f"{names[code]:7} {codes.count(code):2} boxes, {expanded.count(code):2} expanded")

# %% tags=["claims"]
assert confidences == {"1"} and len(table) == sum(len(image.objects) for image in images)
assert not {"Score", "Frame", "TrackID"} & set(table[0])
assert ancestors["/m/01yrx"] == ("/m/0jbk", "/m/0bl9f")
assert expanded.count("/m/0jbk") == 2 and expanded.count("/m/0bl9f") == len(table)
assert len(lost_in_open) == 1 and "difficult" in lost_in_open[0]

# %% [markdown]
# ## 6 A converter that is exact, and converters with mistakes
#
# `vlmbook.data` reads each format into the same form: `AnnotatedImage`. So three readers and three writers convert between all formats. Coordinates are kept to
# a millionth of a pixel. Is everything back after the way COCO → VOC → Open Images → COCO? For a fair test we take away the flags that a format cannot hold.

# %%
from dataclasses import replace

no_flags = {"crowd": False, "difficult": False, "truncated": False, "occluded": False}
plain = [
    replace(image, objects=tuple(replace(each, **no_flags) for each in image.objects))
    for image in images
]
way = Path(mkdtemp(prefix="vlmbook-"))
data.write_coco(way / "first.json", plain)
data.write_voc(way / "voc", data.read_coco(way / "first.json"))
data.write_open_images(way / "open", data.read_voc(way / "voc"))
data.write_coco(way / "last.json", data.read_open_images(way / "open", root / "tiny" / "images"))
same = data.read_coco(way / "last.json") == plain
print("boxes, masks, labels and sizes are the same:", same)
for form in ("COCO", "VOC", "Open Images"):
    print(f"{form:12} cannot hold", len(data.list_losses(images, form)), "flags of the tiny set")

# %% [markdown]
# Now we break the converter. Four mistakes are common. Each one gets the same 500 random boxes of whole pixels in an image of 640×480. The measure is the IoU
# with the right box. Which mistake would you notice by looking at large objects only?

# %%
mistakes = experiments.measure_mistakes()
figure = plt.figure(figsize=(7, 2.8))
drawings.draw_mistakes(figure, mistakes)
records.picture("appendix_b", figure);

# %% [markdown]
# An error of one pixel hardly changes large boxes: their IoU is 0.99. Small boxes lose a tenth of their IoU. COCO's evaluation is a mean over ten limits
# of the IoU, from 0.50 to 0.95. At the highest limits such small boxes count as missed, however good the detector is. (Bars: means of three draws of the
# boxes with their standard deviation.) For the first mistake the IoU of a square of side $s$ is $(s-1)^2/s^2$: 0.77 for 8 pixels.
#
# How many digits does a coordinate of Open Images need? Rounding to $d$ digits is off by at most $\tfrac12\cdot10^{-d}$ of the width. Rounding to whole pixels
# mends this if the error is below half a pixel: if $W\cdot10^{-d}<1$.

# %%
digit_errors = experiments.measure_digits((640, 4000))
drawings.draw_digits(plt.figure(figsize=(6.5, 2.2)), digit_errors)
for image_width, errors in digit_errors.items():
    enough = next(digits for digits, error in enumerate(errors, 1) if error < 0.5)
    print(f"{image_width} pixels: {enough} digits are enough for whole pixels")

# %% tags=["claims"]
assert same
mean_of = {
    name: {size: sum(values) / len(values) for size, values in rows.items()}
    for name, rows in mistakes.items()
}
for rows in mean_of.values():
    assert rows["small"] < rows["medium"] < rows["large"]
by_one = mean_of["VOC: the 1 is not subtracted"]
assert by_one["large"] > 0.98 and 0.85 < by_one["small"] < 0.92
for image_width, errors in digit_errors.items():
    enough = next(digits for digits, error in enumerate(errors, 1) if error < 0.5)
    assert enough == {640: 3, 4000: 4}[image_width]

# %% [markdown]
# ## 7 Your own folder
#
# `describe_folder` opens every image file once. A broken file does not stop it. For each image it computes a **fingerprint** (感知哈希): the image is reduced to
# 8×9 means, and each bit says whether a mean is brighter than its right neighbour. Two images with nearly equal fingerprints may be copies. How well does
# this work? We change 18 photographs, and count the bits that differ.

# %%
fingerprints = experiments.measure_fingerprints()
drawings.draw_fingerprints(plt.figure(figsize=(6.5, 2.6)), fingerprints, 4)

# %% [markdown]
# Each point is a photograph, or in the last row a pair of different ones. The dashed line is the limit, 4 bits. All images of half the size and nearly all
# JPEG and darker ones are found. If a frame of 3 % is cut off, most are missed. A mirrored image is never found. A higher limit would find more, and different
# images of one texture would be named too: a fingerprint is a hint to look, and no proof.
#
# The folder below has what real folders have. Look at the picture first. Then type the path of a folder of your own: class folders, COCO, VOC or
# Open Images. (Empty: the messy folder. "tiny": the tiny set.)

# %%
from ipywidgets import Text

messy = Path(mkdtemp(prefix="vlmbook-"))
experiments.write_messy_folder(messy)


def explore(figure, folder=""):
    where = {"": messy, "tiny": root / "tiny"}.get(folder.strip(), folder.strip())
    drawings.draw_statistics(figure, *experiments.explore(where))


folder_box = Text(description="folder", continuous_update=False)
interact.live(explore, folder=folder_box, figsize=(7.5, 2.6))

# %%
report = data.describe_folder(messy)
print("broken: ", *(f"{name}: {reason}" for name, reason in report.broken.items()), sep="\n  ")
print("copies: ", report.duplicates, "\nsimilar:", report.similar)
objects = data.describe_objects(images)
print("tiny set, objects by class:", objects.classes, f"imbalance {objects.imbalance:.0f}")
print("by area:", objects.areas, " flags:", objects.flags)
mean_objects = sum(objects.per_image) / len(images)
mean_classes = sum(objects.classes_per_image) / len(images)
print(f"a mean image has {mean_objects:.2f} objects of {mean_classes:.2f} classes;",
      f"the set has {len(objects.classes)} classes")  # fmt: skip

# %% [markdown]
# One copy is in two classes: at least one of its labels is wrong. The folder holds three files that are no images: a cut one, a web page under the name of
# a photograph, and a file whose head claims 90,000×90,000 pixels. A limit of pixels stops the last one before it fills the memory.
#
# The last line shows a difference that the book mixes up (W45): the number of classes *in an image* and *in the whole set*. COCO has 80 classes in all, and
# 3.5 in an image on average.

# %% tags=["claims"]
assert len(report.broken) == 3 and len(report.duplicates) == 2 and len(report.similar) == 1
share = {
    change: sum(bits <= 4 for bits in values) / len(values)
    for change, values in fingerprints.items()
}
assert share["half the size"] == 1 and min(share["JPEG, quality 20"], share["darker"]) > 0.85
assert share["a frame of 3 % cut off"] < 0.5
assert share["mirrored"] == share["different photographs"] == 0
assert len(data.describe_folder(messy, distance=10).similar) > 1
assert mean_classes < len(objects.classes) and objects.imbalance > 10

# %% [markdown]
# ## 8 Going deeper: labels that are wrong
#
# The book praises the quality of ImageNet's labels (M33). About 6 % of the labels in its validation set are wrong [Northcutt et al. 2021]. What does this do
# to a comparison? We train six classifiers on 300 digits with right labels. Then we replace 6 % of the *test* labels by random ones, 200 times.

# %%
accuracies, pairs = experiments.rank_classifiers()
for name, (right, wrong) in accuracies.items():
    print(f"{name:20} {right:.1%} with right labels, {wrong:.1%} with wrong ones (mean)")
drawings.draw_pairs(plt.figure(figsize=(5.5, 2.6)), pairs)

# %% [markdown]
# Each accuracy falls by about six points: even a perfect classifier could not reach more than 94 %. Where the gap of two classifiers is below 0.6 points
# (one or two of 360 images), the better one is often no longer better. Such a gap is small even with right labels: another test set could turn it too.
# Where the gap is more than one point, the order stayed in all draws. Random mistakes are the mild case. Real mistakes are not random: annotators confuse
# similar classes, as classifiers do.
#
# Can wrong labels be found? Each image is judged by a model that was trained on the other images. *Disagreement* takes all images whose label is not the predicted
# class. **Confident learning** (置信学习) also asks that the probability is at least as large as usual for that class.

# %%
detected = experiments.find_wrong_labels(seeds=runtime.pick(quick=3, full=10))
for name, values in detected.items():
    precision, recall = torch.tensor(values).mean(0)
    print(f"{name:19} precision {precision:.2f}  recall {recall:.2f}  ({len(values)} draws)")

# %% [markdown]
# Disagreement finds nearly all wrong labels, but about half of the labels that it names are right. Confident learning names few right labels, and it
# misses about a third of the wrong ones. (Chapter 7b has the methods, and a simpler one beside them.) So the better method depends on how expensive a
# second look is.

# %% tags=["claims"]
for right, wrong in accuracies.values():
    assert 0.04 < right - wrong < 0.07 and wrong < 0.94
assert all(0.08 < pair.lost < 0.4 for pair in pairs if pair.gap < 0.006)
assert all(pair.lost == 0 for pair in pairs if pair.gap > 0.01)
for (_, _), (p_dis, r_dis), (p_conf, r_conf) in zip(*detected.values()):
    assert p_conf > p_dis > 0.4 and r_dis > r_conf > 0.5

# %% [markdown]
# ## 9 The book's numbers against the sources
#
# The table lists data sets with the numbers that their sources state. What no source at hand states is left out. (ImageNet has the year of its first paper
# and its later size. In 2009 it had 3.2 million images.) The last four rows are sets that the appendix of the book omits (I54): LFW and MNIST, which the
# book itself uses, and two larger ones. The appendix also names no licence (许可证). Look for the licence before you use a set: the annotations and the
# images may have different ones.

# %%
facts, claims = experiments.load_facts()
print(f"{'data set':42} {'year':4} {'images':>13} {'classes':>6} source")
print(*experiments.as_rows(facts), sep="\n")
for each in facts:
    if each.licence:
        print(f"licence of {each.name}: {each.licence}")

# %%
drawings.draw_claims(plt.figure(figsize=(7, 3.2)), claims)

# %% [markdown]
# Orange numbers are off by more than 5 %. The number for Open Images, 1.82 million, is near to the 1.91 million images *with boxes*, and far from the 9.2 million
# labelled images. The 20,000 images of Pascal VOC fit no year. Both years together have 21,493.

# %%
subsets = {"training": 1_743_042, "validation": 41_620, "test": 125_436}  # with boxes, V4
print("Open Images with boxes:", f"{sum(subsets.values()):,}")
print("COCO, panoptic: 80 things and 53 stuff,", 80 + 53, "in all")
print("ILSVRC:", f"{1_281_167 + 50_000 + 100_000:,}", "images, 1,000 of 21,841 categories")
print("VOC 2007 and 2012:", f"{9963 + 11530:,}")
asked = ("MIT dataset", "MIT Indoor-67", "Places", "MPII human pose")
for name in asked:
    print(f"{name:16}", [each.origin for each in facts if each.name == name] or "no such set")
records.record(
    "appendix_b",
    seed=[0, 1, 2],
    mistakes=mistakes,
    fingerprints=fingerprints,
    accuracies={name: list(pair) for name, pair in accuracies.items()},
    wrong_labels={name: [list(v) for v in rows] for name, rows in detected.items()},
);

# %% tags=["claims"]
by_name = {each.name: each for each in facts}
assert sum(subsets.values()) == 1_910_098 == next(c.sourced for c in claims if "boxes" in c.what)
assert by_name["ILSVRC (ImageNet-1k)"].images == 1_281_167 + 50_000 + 100_000
panoptic = next(claim for claim in claims if claim.erratum == "W46")
assert panoptic.sourced == 80 + 53 != panoptic.printed
assert "Microsoft" not in by_name["ImageNet"].origin
assert by_name["MPII human pose"].origin == "Max Planck Institute for Informatics"
assert "MIT dataset" not in by_name and by_name["MIT Indoor-67"].origin == "MIT"
assert {"Labeled Faces in the Wild", "MNIST"} <= set(by_name)


# %% [markdown]
# ## 10 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("appendix_b.1")` helps in steps, `solution("appendix_b.1")` shows one answer.
#
# **1 · Build.** Compute the IoU of two masks of the same size from their runs, without the shape of the image.

# %%
def iou_of_runs(first, second):  # two lists of run lengths -> float
    ...


check("appendix_b.1", iou_of_runs)


# %% [markdown]
# **2 · Find the mistake.** This converter from COCO to VOC passes many tests, because it is right about the size of the box: $x_{max}-x_{min}=w$. Try it on the box of
# the whole image. Then write the right one.

# %%
def convert_wrongly(x, y, width, height):
    return x + 1, y + 1, x + width + 1, y + height + 1


def convert(x, y, width, height):  # -> xmin, ymin, xmax, ymax
    ...


check("appendix_b.2", convert)

# %% [markdown]
# **3 · Measure on a folder.** Clean the folder `messy`: take away what is no image, and all copies, the smaller version too. Where a copy is in a wrong class, keep
# the one in the right class. How many images are left, and what is the imbalance (largest class divided by the smallest)?

# %%
cleaned = ...  # (images, imbalance)
check("appendix_b.3", cleaned)

# %% [markdown]
# ## 11 At full size
#
# The appendix needs no training set. With `VLMBOOK_PROFILE=full` only section 8 draws more wrong labels.

# %% tags=["record"]
records.show("appendix_b", "full")

# %% [markdown]
# ## 12 Book check
#
# - **W44 · ImageNet is not from Microsoft.** Its paper [Deng et al. 2009] is from Princeton. The challenge [Russakovsky et al. 2015] is from Stanford and
#   others: section 9.
# - **W45 · 80 categories in an image.** COCO has 80 in all, an image has 3.5 on average: sections 7 and 9.
# - **W46 · 120 panoptic categories.** They are 80 things and 53 stuff, 133 [Kirillov et al. 2019]: section 9.
# - **W47 · 1.82 million labelled images, 500 classes.** Open Images has 9.2 million images, 1.91 million of them with boxes of 600 classes: section 9.
# - **W48 · "Developed by the creators of Open Images V4".** This explains the set by itself. It is from Google [Kuznetsova et al. 2020]: section 9.
# - **W49 · Open Images for tracking.** The tables have no frame and no identity over time: section 5. A benchmark for tracking is MOT20 [Dendorfer et al. 2020].
# - **W50 · The "MIT dataset".** There is no such set. MIT Indoor-67 [Quattoni & Torralba 2009], Places [Zhou et al. 2018] and ADE20K [Zhou et al. 2017] exist:
#   section 9.
# - **W51 · The "MIT human pose" set.** This is probably MPII, from the Max Planck Institute for Informatics [Andriluka et al. 2014]: section 9.
# - **M33 · High quality of labels.** About 6 % of ImageNet's validation labels are wrong, and many images show several classes [Beyer et al. 2020]. People were
#   filtered later [Yang et al. 2020]: section 8.
# - **M34 · Confidence of boxes.** The released value is always 1, says the page of Open Images: section 5.
# - **I50 · 22,000 classes.** ImageNet has 21,841 categories; most results are for the 1,000 of ILSVRC: section 9.
# - **I51 · COCO by Microsoft.** The paper [Lin et al. 2014] has authors of five institutions: section 9.
# - **I52 · 20,000 images of Pascal VOC.** The year has to be said: section 9.
# - **I53 · A "Pascal organisation".** PASCAL was a network of excellence of the European Union [Everingham et al. 2015]: section 9.
# - **I54 · What is missing.** LFW [Huang et al. 2007], MNIST [LeCun et al. 1998], LAION-5B [Schuhmann et al. 2022], SA-1B [Kirillov et al. 2023], and every
#   licence: section 9.
#
# ## 13 What we learned
#
# - One box has different numbers in each format. VOC counts pixels from 1, COCO gives a size, Open Images gives parts of the image.
# - An error of one pixel is hard to see at large objects, and it costs small ones a tenth of their IoU.
# - Run lengths store a mask in few numbers. Area and IoU can be computed without decoding it.
# - A format cannot hold every flag. A converter has to say what it loses.
# - Look at your folder before you train: broken files, copies, classes of different size, wrong labels.
#
# **References.** T.-Y. Lin et al., *Microsoft COCO: common objects in context*, ECCV 2014, arXiv:1405.0312 · M. Everingham, L. Van Gool, C. K. I.
# Williams, J. Winn, A. Zisserman, *The Pascal visual object classes (VOC) challenge*, International Journal of Computer Vision, 2010 · M. Everingham et
# al., *The Pascal visual object classes challenge: a retrospective*, International Journal of Computer Vision, 2015 · A. Kuznetsova et al., *The Open
# Images dataset V4: unified image classification, object detection, and visual relationship detection at scale*, International Journal of Computer Vision,
# 2020, arXiv:1811.00982 · J. Deng et al., *ImageNet: a large-scale hierarchical image database*, CVPR 2009 · O. Russakovsky et al., *ImageNet large scale
# visual recognition challenge*, International Journal of Computer Vision, 2015, arXiv:1409.0575 · C. Northcutt, A. Athalye, J. Mueller, *Pervasive label
# errors in test sets destabilize machine learning benchmarks*, NeurIPS 2021, arXiv:2103.14749 · A. Kirillov et al., *Panoptic segmentation*, CVPR 2019,
# arXiv:1801.00868 · A. Kirillov et al., *Segment anything*, ICCV 2023, arXiv:2304.02643 · A. Quattoni, A. Torralba, *Recognizing indoor scenes*, CVPR 2009
# · B. Zhou, A. Lapedriza, A. Khosla, A. Oliva, A. Torralba, *Places: a 10 million image database for scene recognition*, IEEE TPAMI 40(6), 2018 · B. Zhou,
# H. Zhao, X. Puig, S. Fidler, A. Barriuso, A. Torralba, *Scene parsing through ADE20K dataset*, CVPR 2017 · M. Andriluka, L. Pishchulin, P. Gehler, B.
# Schiele, *2D human pose estimation: new benchmark and state of the art analysis*, CVPR 2014 · L. Beyer, O. J. Hénaff, A. Kolesnikov, X. Zhai, A. van den
# Oord, *Are we done with ImageNet?*, 2020, arXiv:2006.07159 · K. Yang, K. Qinami, L. Fei-Fei, J. Deng, O. Russakovsky, *Towards fairer datasets: filtering
# and balancing the distribution of the people subtree in the ImageNet hierarchy*, FAccT 2020, arXiv:1912.07726 · G. B. Huang, M. Ramesh, T. Berg, E.
# Learned-Miller, *Labeled faces in the wild: a database for studying face recognition in unconstrained environments*, University of Massachusetts,
# technical report 07-49, 2007 · Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, *Gradient-based learning applied to document recognition*, Proceedings of the
# IEEE 86(11), 1998 · C. Schuhmann et al., *LAION-5B: an open large-scale dataset for training next generation image-text models*, NeurIPS 2022,
# arXiv:2210.08402 · P. Dendorfer et al., *MOT20: a benchmark for multi object tracking in crowded scenes*, 2020, arXiv:2003.09003.
