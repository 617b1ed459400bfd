# %% [markdown]
# # Errata and references (勘误与参考文献)
#
# *Book: the references (参考文献), and all sections §1.1 to §8.2*
#
# **A book prints a formula, a number or a citation that is wrong. How can a reader find out?**
#
# This notebook holds all 159 errata (勘误) of the book in one table, each with a source. It also holds the bibliography of all notebooks.
# After this notebook you can
#
# - find what is wrong in a section of the book, and the notebook cell that shows it,
# - check a printed size, a printed formula and a printed metric with a few lines of code,
# - check a citation: title, authors, year, pages and arXiv id.
#
# You need these terms: convolution and pooling ([chapter 3a](ch03a_convolution_and_pooling.ipynb)), precision and recall ([chapter
# 6a](ch06a_face_recognition.ipynb)). Run all cells from top to bottom. This takes some seconds. The whole notebook takes 20 minutes to read, and longer if you
# follow the links.

# %% tags=["record"]
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from vlmbook import data, plot, runtime
from vlmbook.notebook import records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters import references
from vlmbook.chapters.errata import browser, experiments, figures as drawings, rows

plot.use_style()
records.published("errata")
published = records.RESULTS / "errata.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)]);

# %% [markdown]
# ## 1 The data, looked at
#
# An erratum (勘误) has a number. Its letter is the severity (严重程度): **W** is wrong (错误), **M** is misleading (误导), **I** is imprecise (不准确). The rows stand in
# `vlmbook/chapters/errata.toml`. A row holds a phrase or a formula of the book at most. The other words are ours. This is one row:

# %%
errata = rows.load()
entries = references.load()
example = errata["W11"]
for field in ("name", "severity", "sections", "kind", "printed", "wrong", "right", "source"):
    print(f"{field:9}", getattr(example, field))
print(len(errata), "errata,", len(entries), "papers in the bibliography")

# %%
figure = plt.figure(figsize=(7.5, 4.4))
drawings.draw_counts(figure, list(errata.values()))
records.picture("errata", figure);

# %% [markdown]
# An erratum that stands in several sections is counted in the first of them. Sections §2.2 to §2.2.3 have more than a third of all errata, and most of the
# errata about formulas. The three appendices have a quarter. They hold code and numbers of data sets.

# %% tags=["claims"]
by_severity = {
    name: len(browser.choose(errata, severity=name)) for name in rows.SEVERITIES.values()
}
assert by_severity == {"wrong": 58, "misleading": 38, "imprecise": 63}
formulas = [erratum.sections[0] for erratum in errata.values() if erratum.kind == "formula"]
assert sum(section.startswith("2.2") for section in formulas) > len(formulas) / 2
firsts = [erratum.sections[0] for erratum in errata.values()]
assert sum(section.startswith("2.2") for section in firsts) > 159 / 3
assert 159 / 5 < sum(section.startswith("App.") for section in firsts) < 159 / 3

# %% [markdown]
# ## 2 The table
#
# Choose a section or a severity, or write words such as *softmax*. The last column links to the notebook that treats the erratum. *Text* means that the
# notebook explains the erratum in words. Else the linked section shows it by code. *Fact* means that the chapter is still to come: then the source is the
# evidence. Without a kernel the whole table is shown.

# %%
browser.Browser(errata, entries)

# %% [markdown]
# How much of the table can be checked by running a cell? The next cell counts it for each chapter, and tests every link: the notebook has to exist, and it
# has to have exactly one heading of this name.

# %%
places = experiments.count_places(errata)
for name, count in places.items():
    print(f"{name:11}", "  ".join(f"{shown}: {number:2}" for shown, number in count.items()))
broken = experiments.find_broken_links(errata)
total = {
    shown: sum(count[shown] for count in places.values()) for shown in ("cell", "text", "fact")
}
print("all:", total, " broken links:", len(broken))

# %% tags=["claims"]
assert broken == []
assert sum(total.values()) == 159
assert all(erratum.source for erratum in errata.values())
assert total["cell"] > total["text"]
assert {key for erratum in errata.values() for key in erratum.papers} <= set(entries)

# %% [markdown]
# ## 3 A printed size
#
# Appendix A builds a network for images of 28×28 pixels: a convolution (卷积) with a 3×3 kernel and without padding, a pooling (池化) of 2×2, and a linear layer
# `nn.Linear(32 * 7 * 7, 128)` (W20). A convolution without padding has the output side $H-3+1$, and the pooling halves it, rounded down. Compute the side
# after both by hand. Does $7\times7$ fit?
#
# The cell below turns the question round: for which input sides *would* the printed layer fit?

# %%
front = nn.Sequential(nn.Conv2d(1, 32, 3), nn.MaxPool2d(2), nn.Flatten())
fitting = []
for side in range(8, 41):
    features = front(torch.zeros(1, 1, side, side)).shape[1]
    by_formula = 32 * ((side - 3 + 1) // 2) ** 2
    assert features == by_formula
    if features == 32 * 7 * 7:
        fitting.append(side)
    if side in (16, 17, 28):
        print(f"side {side}: {features:5} features, and the printed layer takes {32 * 7 * 7}")
print("the printed layer fits images with the side", fitting)


# %% [markdown]
# By hand: $28-3+1=26$, half of it is $13$, and $32\cdot13\cdot13=5408$. The printed layer takes $1568$, so it fits images with the sides 16 and 17 only. The number
# $7\times7$ belongs to a network that pools twice.
#
# The appendix shows the same network in three frameworks (框架). Are they the same network (I49)? We count the parameters (参数) of the two versions.

# %%
def count_parameters(inputs):
    layers = nn.Conv2d(1, 32, 3), nn.Linear(inputs, 128), nn.Linear(128, 10)
    return sum(p.numel() for layer in layers for p in layer.parameters())


counts = {"as printed for PyTorch": count_parameters(1568), "mended": count_parameters(5408)}
for name, count in counts.items():
    print(f"{name:23} {count:,} parameters")

# %% [markdown]
# The printed version has 202,442 parameters, and the mended one 693,962, which is also what the sizes of the versions for TensorFlow and Keras give. The
# printed version for PyTorch stops at its first image of 28×28. So the printed codes cannot be compared at all.

# %% tags=["claims"]
assert fitting == [16, 17]
assert list(counts.values()) == [202442, 693962]

# %% [markdown]
# ## 4 A printed formula
#
# §2.2.1 prints the average pooling (平均池化) as $\frac1s\sum_k\text{input}_{ikj}$ and the max pooling (最大池化) as $\max_k\text{input}_{ikj}$, with a pooling size
# $s$. Chapter 3a explains in words what is wrong (W11, W12). Here the two formulas run as printed. The example is a white image of 4×4 pixels with one
# channel, and an image with the numbers 0 to 15. What should a pooling of 2×2 return for both?

# %%
white = torch.ones(1, 1, 4, 4)
numbers = torch.arange(16.0).reshape(1, 1, 4, 4)
windows = F.unfold(white, 2, stride=2).reshape(4, 4)  # (pixels of a window, windows)
divided_by_side = windows.sum(0) / 2  # s is the side of the window
print("average of white, divided by s = 2:", divided_by_side.tolist())
print("average of white, F.avg_pool2d:    ", F.avg_pool2d(white, 2).flatten().tolist())
as_printed = numbers.amax(1)  # the maximum over k, the middle axis: with one channel the only one
print("maximum as printed:", tuple(as_printed.shape), "the same numbers:",
      torch.equal(as_printed, numbers[:, 0]))
print("maximum, F.max_pool2d:", F.max_pool2d(numbers, 2).flatten().tolist())

# %% [markdown]
# The mean of a white image has to be 1. Divided by the side $s=2$ the sum of four ones is 2. Divided by the number of pixels $s^2=4$ it is 1. The printed maximum
# changes nothing, neither the numbers nor the size: no window moves. The first test, a constant image, finds errors in many formulas for images.

# %% tags=["claims"]
assert divided_by_side.eq(2).all() and F.avg_pool2d(white, 2).eq(1).all()
assert torch.equal(as_printed, numbers[:, 0])
assert F.max_pool2d(numbers, 2).flatten().tolist() == [5, 7, 13, 15]

# %% [markdown]
# ## 5 A printed metric
#
# §6.1 builds F1 from accuracy (准确率) and recall (召回率) (W31). Right are precision (精确率) and recall. Is the difference important? Take a classifier with precision
# 0.5 and recall 0.5, so with F1 $=0.5$. With 10 positives among 1,000 samples: 5 true positives (真阳性), 5 false positives (假阳性), 5 positives that are missed. The
# accuracy is $990/1000$. Compute the harmonic mean of accuracy and recall. Then look how it depends on the share of positives.

# %%
by_hand = 2 * 0.99 * 0.5 / (0.99 + 0.5)
shares = torch.logspace(-3, -0.35, 40).tolist()
f1 = experiments.compare_f1(shares)
print(f"10 of 1,000: F1 = 0.5, accuracy with recall = {by_hand:.3f}")
drawings.draw_f1(plt.figure(figsize=(6.5, 2.6)), shares, f1)

# %% [markdown]
# The printed recipe gives $0.664$ for a classifier of which half of the alarms are false. The rarer the positives are, the better looks a classifier with
# this precision and recall, because the accuracy counts the negatives, and nearly all samples are negatives. F1 stays at $0.5$.

# %% tags=["claims"]
rare = experiments.compare_f1([0.01])
assert abs(rare["accuracy with recall"][0] - by_hand) < 1e-9 and round(by_hand, 3) == 0.664
assert f1["accuracy with recall"] == sorted(f1["accuracy with recall"], reverse=True)
assert max(f1["F1"]) == min(f1["F1"]) == 0.5

# %% [markdown]
# ## 6 Printed references
#
# The book lists fourteen references. `printed.toml` holds them as printed. `references.bib` holds the papers that are meant, and those that the notebooks cite.
# Which fields of the fourteen are right?

# %%
listed = experiments.load_printed()
states = {printed.number: experiments.compare(printed, entries) for printed in listed}
faulty = [number for number, fields in states.items()
          if {"differs", "missing", "no such paper"} & set(fields.values())]
drawings.draw_comparison(plt.figure(figsize=(7.5, 3.8)), states)

# %% [markdown]
# Four references are right: 3, 4, 6 and 9. The others, from the worst to the best:
#
# - **W54 · reference 8.** No paper with this title and these authors was found.
# - **W55 · references 11 and 14.** The proceedings have no such paper. The next cell looks at its pages.
# - **W52 · reference 5.** The title is invented, the second author is *Narasimhan*, and OpenAI published the report without arXiv.
# - **W53 · reference 1.** Title, journal, volume and pages are wrong.
# - **W56 · references 7 and 12.** The arXiv id belongs to another paper, and Tatarchenko is missing. (The year 2015 is the year of a shorter version with another
#   title. We count the years of the arXiv id and of the journal.)
# - **W57 · reference 10.** DenseNet is by **G.** Huang and **Z.** Liu. **W58 · reference 13** is the same paper, with another year.
# - **I60 · reference 2.** In the proceedings the title ends in *nets*, and the pages are missing.

# %%
twins = experiments.find_duplicates(listed)
print("the same title twice:", twins)
[claimed] = {printed.pages for printed in listed if printed.key == "jegou2017"}
for key in ("noh2016", "andreas2016"):
    both = experiments.overlap(claimed, entries[key].pages)
    print(f"pages {claimed} and {entries[key].pages}, {entries[key].label}: {len(both)} in common")
print(references.describe(entries["jegou2017"]))

# %% [markdown]
# A paper has its own pages. The printed pages 34 to 42 lie partly in one paper of CVPR 2016 and partly in the next one, so no paper has these pages. The last
# line is the paper that the reference seems to mean.
#
# An arXiv id tells year and month. The next cell compares the printed ids with the right ones.

# %%
for printed in listed:
    if printed.arxiv and printed.number != 12:
        right = entries[printed.key].arxiv or "none"
        year = references.arxiv_year(printed.arxiv)
        print(f"reference {printed.number}: {printed.arxiv}, of {year}; right: {right}")

# %% [markdown]
# An id of another year than the paper is a sign of an error. But the id of reference 5 has the right year, and the paper has no arXiv id at all. So the year alone
# does not prove an id: open the page.

# %% tags=["claims"]
assert [number for number in states if number not in faulty] == [3, 4, 6, 9]
assert twins == [(7, 12), (10, 13), (11, 14)]
assert len({printed.title for printed in listed}) == 11
assert all(experiments.overlap("34-42", entries[key].pages) for key in ("noh2016", "andreas2016"))
assert entries["radford2018"].arxiv == "" and entries["dosovitskiy2017"].arxiv == "1411.5928"
assert states[10]["authors"] == "differs" and states[13]["year"] == "differs"

# %% [markdown]
# ## 7 Book check: headings, words, and what is not cited
#
# - **W41 · chapters that do not exist.** §1.1, §1.3 and §8.1 announce and summarise chapters 3, 4 and 5. The cell below reads the numbers of the headings.
# - **I32 · a heading of another level.** §7.2 is set as a subsection.
# - **M37 · nothing is cited.** The text of the book has no citation mark, and most of its methods have no reference. Section 8 counts the papers that the notebooks
#   needed.
# - **I33 · a particle** in §8.1: 基于注意力机制的网络, not 和网络. **I34 · 本文** (*this paper*) in the references should be 本书 (*this book*).

# %%
levels = experiments.load_levels()
print("chapters with a heading:", sorted({int(section[0]) for section in levels}))  # W41
odd = [section for section, level in levels.items() if level != 2 + section.count(".")]
print("headings whose level does not fit their number:", odd)  # I32

# %% tags=["claims"]
assert {section[0] for section in levels} == set("12678")
assert odd == ["7.2"]

# %% [markdown]
# ## 8 The bibliography
#
# A year and an arXiv id stand once, in `vlmbook/chapters/references.bib`. The program that reads it refuses an entry without author, title or year, one without a
# venue (发表处) and an arXiv id, and one whose arXiv id is younger than its publication. Then it reads every citation such as *[He et al. 2016]* in the notebooks. Does
# each have an entry?

# %%
missing = experiments.find_missing(entries)
print("\n".join(missing) or "every citation of the notebooks has an entry")
citing = experiments.count_citing(entries)
for key in list(citing)[:8]:
    print(f"{entries[key].label:26} cited in {', '.join(citing[key])}")
cited = sum(bool(names) for names in citing.values())
print(f"{cited} papers are cited by chapters, the others by errata alone")

# %% [markdown]
# Each line below links to arXiv or to the DOI, where there is one. A field that was not certain is left out.

# %%
browser.Page(browser.as_list(list(entries.values())))

# %% tags=["claims"]
assert missing == []
assert sorted(n for entry in entries.values() for n in entry.book) == [*range(1, 8), *range(9, 15)]

# %% [markdown]
# ## 9 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("errata.1")` helps in steps, `solution("errata.1")` shows one answer.
#
# **1 · Which printed number is wrong?** A network for images of 32×32 with one channel: two convolutions with kernels of 5×5 (6 and 16 kernels, no padding), each
# followed by a pooling of 2×2, then three linear layers. A text prints:
#
# | row | output | weights and biases |
# | --- | --- | --- |
# | convolution 1 | 6 × 28 × 28 | 156 |
# | convolution 2 | 16 × 10 × 10 | 2,416 |
# | linear 1 | 120 | 48,000 |
# | linear 2 | 84 | 10,164 |
# | linear 3 | 10 | 850 |
# | total | | 61,706 |
#
# Exactly one number is wrong. Give its row and the right number.

# %%
found = ...  # ("linear 3", 850)
check("errata.1", found)


# %% [markdown]
# **2 · Build.** The year of an arXiv id. Since April 2007 an id has the form `1512.03385`, sometimes with a version, `2011.13456v2`, or with `arXiv:` before it.
# Before, it had the form `cs/0112017`: after the slash the year, the month and a number. arXiv began in 1991.

# %%
def year_of(identifier):  # str -> int
    ...


check("errata.2", year_of)

# %%
records.record("errata", seed=0, errata=by_severity, places=total, papers=len(entries),
               cited_by_chapters=cited, references_with_faults=len(faulty));

# %% tags=["record"]
records.show("errata", "quick")

# %% [markdown]
# ## 10 What we learned
#
# 1. A size is checked by the formula of each layer. A formula is checked by an input whose output is known, such as a constant image.
# 2. A metric is checked with numbers that are small enough to compute by hand, and with rare positives.
# 3. A citation has seven fields that can be compared. Pages and ids can contradict each other without opening the paper.
# 4. Each erratum has a source, and most of those of the written chapters can be run.
# 5. A fact that stands once, in one file, cannot disagree with itself.
