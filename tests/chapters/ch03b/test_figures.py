"""The drawings of chapter 3b at the default and both ends of each control that its notebook offers."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from tests.support.drawings import drawn, pictures
from vlmbook.chapters.ch03b import experiments, figures
from vlmbook.data import digits
from vlmbook.resnet import BasicBlock, ResNet, small_resnet

LOSSES = {
    name: [[2.3, 2.0 / n, 1.0 / n], [2.2, 1.9 / n, 1.1 / n]]
    for n, name in enumerate(("plain20", "plain56", "resnet20", "resnet56"), 1)
}


@pytest.fixture(scope="module")
def reader():
    """-> (a net of four blocks in eval mode, ten held-out digits, their labels): random weights do for
    drawings.
    """
    torch.manual_seed(0)
    net = ResNet(BasicBlock, [2, 2], 10, 1, width=16, small=True)
    images, labels = digits("test")
    net(images)  # running statistics that are not 0 and 1
    return net.eval(), images[:10], labels[:10]


def test_degradation_shows_each_seed_and_the_mean_in_the_panel_of_its_kind():
    figure = drawn(partial(figures.draw_degradation, losses=LOSSES), (7, 2.6))
    plain, residual = figure.axes
    for panel, names in ((plain, ("plain20", "plain56")), (residual, ("resnet20", "resnet56"))):
        lines = [torch.as_tensor(line.get_ydata()) for line in panel.lines]
        wanted = [
            torch.tensor(row, dtype=torch.float64)
            for name in names
            for row in (*LOSSES[name], [sum(column) / 2 for column in zip(*LOSSES[name], strict=True)])
        ]
        assert_close(lines, wanted)
        assert [text.get_text() for text in panel.texts] == ["20 layers", "56 layers"]


@pytest.mark.parametrize("depth", [8, 56])
@pytest.mark.parametrize("seed", [0, 4])
def test_signals_are_three_panels_of_four_networks(depth, seed):
    figure = drawn(figures.draw_signals, (7.5, 2.7), depth=depth, seed=seed)
    for line, (skip, norm, *_) in enumerate(figures.WAYS.values()):
        wanted = experiments.measure_signals(depth, skip, norm, seed)
        for panel, values in zip(figure.axes, wanted, strict=True):
            assert list(panel.lines[line].get_ydata()) == values


def test_rates_are_a_panel_each_with_a_dot_a_seed():
    runs = {"plain20": [0.1, 0.2], "plain56": [1.0, 1.5], "resnet20": [0.01, 0.02], "resnet56": [0.02, 0.03]}
    figure = drawn(partial(figures.draw_rates, losses={"0.01": runs, "0.1": runs}), (7, 2))
    for panel in figure.axes:
        dots = [sorted(line.get_xdata()) for line in panel.lines]
        assert dots == [sorted(values) for values in reversed(runs.values())]


def test_kinds_show_an_addition_where_there_is_a_shortcut():
    figure = drawn(figures.draw_kinds, (7, 3.4))
    labels = [[text.get_text() for text in panel.texts] for panel in figure.axes]
    assert ["+" in each for each in labels] == [False, True, True]
    assert labels[0].count("3×3 conv") == labels[1].count("3×3 conv") == 2


@pytest.mark.parametrize("size", [(28, 28), (27, 41)])
def test_network_is_labelled_with_the_shapes_that_it_has(size):
    figure = drawn(figures.draw_network, (7, 1.9), height=size[0], width=size[1])
    stages = small_resnet(20, in_channels=1).features(torch.zeros(1, 1, *size))[1:]
    labels = [text.get_text() for text in figure.axes[0].texts]
    for stage in stages:
        assert "×".join(str(side) for side in stage.shape[1:]) in labels
    assert labels.count("block") == 9


@pytest.mark.parametrize("digit", [0, 9])
@pytest.mark.parametrize("block", [1, 2, 3, 4])
def test_a_block_taken_apart_is_what_the_network_computes(reader, digit, block):
    net, images, _ = reader
    figure = drawn(partial(figures.draw_block, net=net, images=images), (7.5, 1.7), image=digit, block=block)
    shown, x, branch, added, out = (picture.float() for picture in pictures(figure))
    assert_close(shown, images[digit, 0])
    assert_close(x + branch, added)
    assert_close(added.relu(), out)
    wanted = net.features(images[[digit]])[1 + (block > 2)] if block in (2, 4) else None
    channel = int(figure.axes[1].get_title(loc="left").split()[-1])
    if wanted is not None:
        assert_close(out, wanted[0, channel].detach(), atol=1e-5, rtol=1e-5)
    branches = experiments.trace_blocks(net, images[[digit]])[block - 1][1]
    assert branches[0].square().sum((1, 2)).argmax() == channel
    bars = figure.axes[5].patches
    assert [bar.get_facecolor() == bars[block - 1].get_facecolor() for bar in bars].count(True) == 1


@pytest.mark.parametrize("digit", [0, 9])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_occlusion_shows_the_probability_of_the_right_class(reader, digit, size):
    net, images, labels = reader
    draw = partial(figures.draw_occlusion, net=net, images=images, labels=labels, names="0123456789")
    image, share, worst, best = pictures(drawn(draw, (7.5, 1.9), image=digit, size=size))
    p = net(experiments.occlude(images[[digit]], size)).softmax(1)[:, labels[digit]].detach()
    assert_close(share.float(), p.view(8, 8))
    assert torch.equal(image, images[digit, 0])
    for picture, position in ((worst, p.argmin()), (best, p.argmax())):
        assert torch.equal(picture, experiments.occlude(images[[digit]], size)[position, 0])


def test_drawings_leave_network_and_images_as_they_are(reader):
    net, images, labels = reader
    before = images.clone(), {name: value.clone() for name, value in net.state_dict().items()}
    drawn(partial(figures.draw_block, net=net, images=images), (7.5, 1.7))
    names = "0123456789"
    draw = partial(figures.draw_occlusion, net=net, images=images, labels=labels, names=names, size=3)
    drawn(draw, (7.5, 1.9))
    assert torch.equal(images, before[0])
    assert_close(net.state_dict(), before[1], rtol=0, atol=0)


def test_maps_are_the_channels_that_differ_most_of_stem_and_stages(reader):
    net, images, _ = reader
    figure = drawn(partial(figures.draw_maps, net=net, image=images[[5]]), (7, 4))
    shown, wanted = pictures(figure), [images[5, 0]]
    for stage in net.features(images[[5]]):
        order = stage[0].flatten(1).std(1).argsort(descending=True)[:6]
        wanted += [channel / channel.max() for channel in stage[0, order].detach()]
    assert_close([picture.float() for picture in shown], [x.clamp(0, 1) for x in wanted])


def test_cuts_are_a_line_a_network_over_the_numbers_of_its_blocks():
    seeds = [{1: 0.1, 2: 0.2, 5: 0.15}, {1: 0.3, 2: 0.2, 5: 0.25}]
    cut = {"plain20": seeds, "plain20, fresh BN": seeds, "resnet20": seeds}
    figure = drawn(
        partial(figures.draw_cuts, cut=cut, whole={"plain20": [0.9], "resnet20": [0.95]}), (7.5, 2.3)
    )
    for container in figure.axes[0].containers:
        assert_close(list(container[0].get_ydata()), [0.2, 0.2, 0.2])
