"""The drawings of chapter 3c at the default and both ends of each control that its notebook offers."""

import pytest
import torch

from tests.support.drawings import drawn, every_end, pictures
from vlmbook.chapters.ch03c import experiments, figures
from vlmbook.unet import UNet, boundary_f1, iou

U = {
    "height": (16, 64, 100, 256),
    "width": (16, 64, 255, 256),
    "first": (4, 8, 64),
    "depth": (1, 4, 5),
    "skip": (True, False),
}


def scene(classes=2, n=20, size=32):
    """-> images, truth, a prediction that is right but for some pixels: every image and all classes are
    there.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, 3, size, size, generator=generator)
    truth = torch.zeros(n, size, size, dtype=torch.long)
    truth[:, 8:20, 8:24] = 1
    truth[:, 8, 8:24] = classes - 1
    wrong = torch.rand(truth.shape, generator=generator) < 0.1
    return images, truth, torch.where(wrong, (truth + 1) % classes, truth)


def texts_of(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


@pytest.mark.parametrize("values", every_end(U), ids=str)
def test_the_u_says_what_the_network_has(values):
    figure = drawn(figures.draw_u, (7, 3.2), **values)
    given = {"height": 64, "width": 64, "first": 8, "depth": 4, "skip": True} | values
    with torch.device("meta"):
        net = UNet(3, 2, width=given["first"], depth=given["depth"], skip=given["skip"]).eval()
        maps = net.encode(torch.empty(1, 3, given["height"], given["width"]))
    written = texts_of(figure)
    for level, each in enumerate(maps):
        assert f"{each.shape[2]}×{each.shape[3]}" in written
        assert str(each.shape[1]) in written
        if level < given["depth"]:
            convolution = net.decoder[level][0]
            assert f"{convolution.in_channels} → {convolution.out_channels}" in written


def test_errors_have_a_colour_each():
    truth, prediction = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 0, 1]])
    right_out, much, missed, right_in = figures.colour_errors(prediction, truth)[:, 0].T
    assert right_out.sum() == 0 and right_in.sum() == 3
    assert much.argmax() == 0 and missed.argmax() == 2


def test_rows_of_predictions():
    images, truth, guess = scene(n=4)
    figure = drawn(
        figures.draw_rows,
        (7, 6.2),
        images=images,
        truth=truth,
        predictions={"threshold": guess, "random forest": truth, "U-Net": guess},
        labels=["test", "test", "new\nground", "new\nobject"],
    )
    assert [axes.get_ylabel() for axes in figure.axes[::5]] == ["test", "test", "new\nground", "new\nobject"]
    shown = pictures(figure)
    assert len(shown) == 20
    right = figures.colour_errors(truth[0], truth[0])
    assert torch.equal(shown[3].movedim(-1, 0), right) and not torch.equal(shown[4].movedim(-1, 0), right)


@pytest.mark.parametrize("values", every_end({"image": (0, 19), "errors_only": (False, True)}), ids=str)
def test_skips_on_and_off(values):
    images, truth, guess = scene()
    predictions = {"with skips": truth, "without skips": guess}
    figure = drawn(figures.draw_skip, (7, 2.6), images=images, truth=truth, predictions=predictions, **values)
    given = {"image": 0, "errors_only": False} | values
    for each, shown, axes in zip(predictions.values(), pictures(figure)[2:], figure.axes[2:], strict=True):
        chosen, target = each[given["image"]], truth[given["image"]]
        wrong = chosen != target
        if given["errors_only"]:
            assert torch.equal(shown.float(), wrong.float())
        else:
            assert torch.equal(shown.movedim(-1, 0), figures.colour_errors(chosen, target))
        said = axes.get_xlabel()
        assert f"wrong: {wrong.float().mean():.1%}" in said
        assert f"IoU {iou(chosen[None], target[None], 2)[1]:.2f}" in said
        assert f"boundary F1 {boundary_f1(chosen[None], target[None]):.2f}" in said


def test_tiles_show_the_changed_pixels_in_red():
    probability = torch.rand(30, 50, generator=torch.Generator().manual_seed(0))
    wrong = torch.zeros(30, 50)
    wrong[3, 4:9] = 1
    changed = {f"overlap {n}, step 16": wrong for n in range(4)}
    figure = drawn(figures.draw_tiles, (7, 2.9), probability=probability, changed=changed)
    for shown in pictures(figure)[1:]:
        red = (shown[..., 0] > 0.5) & (shown[..., 1] == 0)
        assert torch.equal(red[1:6, 2:11], torch.ones(5, 9).bool()) and red.sum() == 45  # two pixels wider


def test_cells_and_the_recorded_output():
    tissue, lines = experiments.draw_tissue(96, cells=12)
    likely = lines[0].float()
    cells = experiments.find_cells(likely, 0.5)
    drawn(figures.draw_recorded, (7, 3.4), membrane=likely, cells=cells)
    figure = drawn(
        figures.draw_cells, (7, 2.3), image=tissue[0], membrane=likely, cells=cells, target=lines[0]
    )
    assert torch.equal(pictures(figure)[3].float(), torch.from_numpy(cells).float())


@pytest.mark.parametrize("values", every_end({"image": (0, 19), "threshold": (0.0, 0.5, 0.98)}), ids=str)
def test_threshold(values):
    images, truth, guess = scene()
    probability = (0.2 + 0.6 * guess + 0.19 * images[:, 0]).clamp(0, 1)
    figure = drawn(
        figures.draw_threshold, (7, 2.3), images=images, probability=probability, truth=truth, **values
    )
    given = {"image": 0, "threshold": 0.5} | values
    score = iou((probability > given["threshold"]).long(), truth, 2)[1]
    assert figure.axes[3].get_title(loc="left") == f"all images: {score:.3f}"


def test_the_curve_is_the_iou_at_each_threshold():
    _, truth, guess = scene()
    probability = 0.3 * guess + 0.65 * torch.rand(truth.shape, generator=torch.Generator().manual_seed(1))
    thresholds, scores = experiments.iou_by_threshold(probability, truth)
    for threshold, score in zip(thresholds, scores, strict=True):
        if threshold < 0.94:
            assert score == pytest.approx(
                iou((probability >= threshold).long(), truth, 2)[1].item(), abs=2e-3
            )


@pytest.mark.parametrize("values", every_end({"image": (0, 19), "level": (0, 2), "channel": (0, 7)}), ids=str)
def test_levels(values):
    images, truth, guess = scene()
    with torch.no_grad():
        maps = UNet(3, 2, width=4, depth=3).eval().encode(images)[:-1]
    figure = drawn(
        figures.draw_level,
        (7, 2.7),
        images=images,
        maps=maps,
        silenced=[guess, truth, guess],
        truth=truth,
        **values,
    )
    given = {"image": 0, "level": 0, "channel": 0} | values
    of = maps[given["level"]].shape[1]
    shown = pictures(figure)[1]
    assert shown.shape == maps[given["level"]].shape[2:]
    assert figure.axes[1].get_xlabel() == f"channel {given['channel'] % of + 1} of {of}"
    assert ("IoU 1.00" in figure.axes[2].get_title(loc="left")) == (given["level"] == 1)


def test_pattern_on_one_scale():
    rough, flat = torch.arange(64.0).view(8, 8), torch.ones(8, 8)
    figure = drawn(figures.draw_pattern, (5, 2.7), maps={"transposed": rough, "bilinear": flat})
    assert (pictures(figure)[1] == 0).all()
    assert len({axes.images[0].get_clim() for axes in figure.axes}) == 1
