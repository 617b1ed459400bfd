"""The drawings of chapter 6a at the default and both ends of each control that its notebook offers."""

import math

import pytest
import torch
from matplotlib.patches import Rectangle
from torch import nn

from tests.support.drawings import drawn, every_end, pictures
from vlmbook import data, face_recognition
from vlmbook.chapters.ch06a import application, experiments, figures
from vlmbook.pretrained import WeightsMissing, face_landmarks

MARGIN = {"margin": (0.0, 0.3, 1.0), "angle": (0.0, 0.6, 1.4), "scale": (1, 16, 32)}
THRESHOLD = {"threshold": (0.1, 0.9, 1.9), "same_share": (0.5, 0.1, 0.02)}


@pytest.fixture(scope="module")
def photograph():
    return data.photo("astronaut")[:, :242, 100:342]


@pytest.fixture(scope="module")
def pairs():
    """-> distances, same: two kinds of pairs that overlap."""
    generator = torch.Generator().manual_seed(0)
    same = torch.rand(600, generator=generator) < 0.3
    return 0.6 + 0.5 * (~same) + 0.25 * torch.randn(600, generator=generator).clamp(-2, 2), same


def bars(axes):
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def test_the_pipeline_shows_what_each_stage_gives():
    stages = experiments.trace_face(None)
    figure = drawn(figures.draw_pipeline, (7.5, 2.3), **stages)
    image, chip, embedding = pictures(figure)
    assert image.shape == (242, 242, 3) and chip.shape == (150, 150, 3) and embedding.shape == (16, 8)
    assert embedding.float().norm() == pytest.approx(1, abs=1e-4)
    assert [bar.get_width() for bar in bars(figure.axes[3])] == pytest.approx(
        list(stages["distances"].values())
    )
    blue = [bar.get_facecolor()[2] > 0.5 for bar in bars(figure.axes[3])]
    assert blue == [distance <= stages["threshold"] for distance in stages["distances"].values()]


def test_distances_of_strangers_stand_below_the_named_ones():
    near = {"same file": 0.0, "dark": 0.2, "printed": 0.7}
    figure = drawn(figures.draw_distances, (6, 2.6), distances=near, strangers=torch.linspace(0.7, 1, 9))
    [axes] = figure.axes
    assert [bar.get_width() for bar in bars(axes)] == [0.0, 0.2, 0.7]
    points = axes.lines[-1]
    assert len(points.get_xdata()) == 9 and min(points.get_ydata()) > 2.4


def test_windows_before_and_after_suppression():
    image, boxes = experiments.make_group_photo((30, 40))
    figure = drawn(figures.draw_windows, (7, 2), image=image, before=boxes.repeat(3, 1), after=boxes)
    assert [len(bars(axes)) for axes in figure.axes] == [6, 2]


@pytest.mark.parametrize("angle", [-40, 0, 20, 40])
def test_alignment_without_weights_shows_the_box(photograph, angle):
    figure = drawn(figures.draw_alignment, (4, 2.1), image=photograph, landmarks=None, angle=angle)
    assert [picture.shape for picture in pictures(figure)] == [(242, 242, 3), (150, 150, 3)]


@pytest.mark.parametrize("angle", [-40, 0, 20, 40])
def test_an_aligned_face_stays_upright(photograph, angle):
    try:
        landmarks = face_landmarks()
    except WeightsMissing as missing:
        pytest.skip(str(missing))
    figure = drawn(figures.draw_alignment, (7, 2.1), image=photograph, landmarks=landmarks, angle=angle)
    upright = drawn(figures.draw_alignment, (7, 2.1), image=photograph, landmarks=landmarks, angle=0)
    box, chip = (pictures(figure)[i].float() - pictures(upright)[i].float() for i in (1, 2))
    if 0 < abs(angle) <= 20:
        assert chip.abs().mean() < 0.6 * box.abs().mean()


def test_the_network_is_drawn_step_by_step():
    shapes = {"image": (3, 32, 32), "stem": (16, 16, 16), "fc": (64,)}
    figure = drawn(figures.draw_network, (7, 1.9), shapes=shapes)
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written == ["image", "3×32×32", "stem", "16×16×16", "fc", "64"]
    heights = [bar.get_height() for bar in bars(figure.axes[0])]
    assert heights == pytest.approx([1, 0.5, 0.75])


@pytest.mark.parametrize("values", every_end(MARGIN), ids=str)
def test_the_margin(values):
    figure = drawn(figures.draw_margin, (7, 2.4), **values)
    given = {"margin": 0.3, "angle": 0.6, "scale": 16} | values
    plain, with_margin = (bar.get_width() for bar in bars(figure.axes[1]))
    logit = given["scale"] * (math.cos(given["angle"]) - math.cos(1.4 - given["angle"]))
    assert plain == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-5)
    assert with_margin <= plain + 1e-6 and (given["margin"] or with_margin == pytest.approx(plain))


class Corner(nn.Module):
    """(B, C, H, W) -> (B, 2): it looks at the upper left corner only."""

    def forward(self, x):
        return x[:, :2, :4, :4].mean((2, 3))


def test_occlusion_finds_what_a_network_looks_at():
    images = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0)).round()
    figure = drawn(figures.draw_occlusion, (4, 2.6), network=Corner(), images=images, size=5)
    moves = pictures(figure)[2:]
    for each in moves:
        assert each.shape == (8, 10)
        assert each[:2, :2].max() > 0 and each[3:].max() == 0 and each[:, 3:].max() == 0


def test_training_and_its_error():
    losses, errors = {"ArcFace": [5.0 - i / 50 for i in range(200)]}, {"": [0.3, 0.2, 0.1]}
    figure = drawn(figures.draw_training, (7, 2.2), losses=losses, errors=errors)
    assert figure.axes[0].lines[0].get_ydata()[0] == pytest.approx(sum(losses["ArcFace"][:6]) / 6)
    assert figure.axes[1].lines[0].get_ydata().tolist() == pytest.approx([30, 20, 10])


def test_curves_have_a_dot_at_the_equal_error_rate(pairs):
    better = (torch.where(pairs[1], 0.5 * pairs[0], pairs[0]), pairs[1])
    figure = drawn(figures.draw_curves, (7, 2.5), pairs={"one": pairs, "better": better})
    for number, each in enumerate((pairs, better)):
        rate, _ = face_recognition.equal_error_rate(*each)
        dot = figure.axes[1].lines[2 * number + 1]
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == pytest.approx((rate, rate))


def test_seeds_are_dots_and_their_mean_a_bar():
    figure = drawn(
        lambda figure: figures.draw_seeds(figure.subplots(), {"a": [0.1, 0.2], "b": [0.05]}), (5, 2)
    )
    assert [bar.get_width() for bar in bars(figure.axes[0])] == pytest.approx([15, 5])
    assert figure.axes[0].lines[0].get_xdata().tolist() == pytest.approx([10, 20])


def test_identities():
    rates = {8: [0.2, 0.22], 28: [0.1, 0.12], 100: [0.03, 0.04]}
    figure = drawn(figures.draw_identities, (5, 2.4), rates=rates, limit=0.02)
    means = figure.axes[0].lines[3]
    assert means.get_xdata().tolist() == [8, 28, 100]
    assert means.get_ydata().tolist() == pytest.approx([21, 11, 3.5])


@pytest.mark.parametrize("values", every_end(THRESHOLD), ids=str)
def test_the_threshold(pairs, values):
    distances, same = pairs
    figure = drawn(figures.draw_threshold, (7.5, 2.4), distances=distances, same=same, **values)
    given = {"threshold": 0.9, "same_share": 0.5} | values
    accuracy, precision, recall, f1, far = (bar.get_width() for bar in bars(figure.axes[2]))
    accepted = distances <= given["threshold"]
    assert recall == pytest.approx(accepted[same].double().mean().item(), abs=1e-6)
    assert far == pytest.approx(accepted[~same].double().mean().item(), abs=1e-6)
    share = given["same_share"]
    assert accuracy == pytest.approx(share * recall + (1 - share) * (1 - far), abs=1e-5)
    if recall:
        assert precision == pytest.approx(share * recall / (share * recall + (1 - share) * far), abs=1e-5)
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-5)
    else:
        assert precision == f1 == 0


def test_open_set_and_groups():
    found = face_recognition.OpenSet(*(torch.linspace(0, 1, 5).double() for _ in range(3)))
    groups = {"no glasses": (0.02, 0.01, 0.04), "glasses in one": (0.06, 0.03, 0.09)}
    figure = drawn(figures.draw_open_set, (7, 2.3), found=found, groups=groups)
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0, 25, 50, 75, 100]


def test_the_gallery_grows():
    figure = drawn(figures.draw_gallery_growth, (6, 2.4), far=0.01, measured={1: 0.01, 10: 0.08})
    curve = figure.axes[0].lines[0]
    ends = curve.get_ydata()[0].item(), curve.get_ydata()[-1].item()
    assert ends == pytest.approx((1, 100), abs=0.01)
    assert figure.axes[0].lines[3].get_ydata().tolist() == pytest.approx([1, 8])


ANSWERS = tuple(("Anna", f"photograph{number}.png", 0.2 * number) for number in range(6))


@pytest.mark.parametrize("threshold", [0.2, 0.6, 1.4])
@pytest.mark.parametrize("answers", [(), ANSWERS], ids=["none", "six"])
def test_the_desk(pairs, answers, threshold):
    roc = face_recognition.roc_curve(*pairs)
    figure = drawn(application.draw_desk, (7, 2.6), roc=roc, answers=answers, threshold=threshold)
    _, tar = figure.axes[0].lines[1].get_xdata()[0], figure.axes[0].lines[1].get_ydata()[0]
    assert tar == pytest.approx((pairs[0][pairs[1]] <= threshold).double().mean().item(), abs=1e-6)
    assert len(bars(figure.axes[1])) == len(answers)


def test_our_network_on_photographs_stands_beside_the_other_methods():
    by_people = {"5": [0.2, 0.3], "20": [0.1, 0.12]}
    eer = {"eigenfaces": [0.18], "own network": [0.1, 0.12], "pretrained": [0.01]}
    figure = drawn(figures.draw_orl, (6.5, 2.8), by_people=by_people, eer=eer)
    [axes] = figure.axes
    dots = {line.get_xdata()[0]: list(line.get_ydata()) for line in axes.lines[:2]}
    assert dots == {5: pytest.approx([20, 30]), 20: pytest.approx([10, 12])}
    assert list(axes.lines[2].get_ydata()) == pytest.approx([25, 11])
    levels = [line.get_ydata()[0] for line in axes.lines[3:]]
    assert levels == pytest.approx([1, 18])  # our own network is no line
