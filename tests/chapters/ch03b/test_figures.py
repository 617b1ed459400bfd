"""The drawings of chapter 3b at the default and both ends of each control that its notebook offers."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
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


@pytest.mark.parametrize("depth", [8, 20, 56])
def test_gradients_are_those_of_autograd_for_the_four_kinds_of_net(depth):
    figure = drawn(figures.draw_gradients, (7, 2.8), depth=depth)
    images, labels = experiments.load_crops()
    for panel, norm_layer in zip(figure.axes, (nn.Identity, nn.BatchNorm2d), strict=True):
        for line, skip in zip(panel.lines[:2], (False, True), strict=True):
            torch.manual_seed(0)
            net = small_resnet(depth, len(images), skip=skip, norm_layer=norm_layer)
            F.cross_entropy(net(images), labels).backward()
            wanted = [weight.grad.norm().item() for weight in net.parameters() if weight.ndim == 4]
            assert len(wanted) == depth - 1
            assert_close(list(line.get_ydata()), wanted, rtol=1e-3, atol=0)
            assert all(1e-9 < norm < 1e7 for norm in wanted)  # within the panel


@pytest.mark.parametrize("seed", [0, 4])
def test_another_seed_is_another_net_and_the_global_generator_stays(seed):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    figure = drawn(figures.draw_gradients, (7, 2.8), depth=8, seed=seed)
    assert torch.equal(torch.get_rng_state(), before)
    other = experiments.gradients_at_initialisation(8, True, True, 1)
    assert list(figure.axes[1].lines[1].get_ydata()) != other


@pytest.mark.parametrize("digit", [0, 9])
@pytest.mark.parametrize("block", [1, 2, 3, 4])
def test_a_block_taken_apart_is_what_the_network_computes(reader, digit, block):
    net, images, _ = reader
    figure = drawn(partial(figures.draw_block, net=net, images=images), (7, 1.9), digit=digit, block=block)
    x, branch, added, out = (picture.float() for picture in pictures(figure))
    assert_close(x + branch, added)
    assert_close(added.relu(), out)
    wanted = net.features(images[[digit]])[1 + (block > 2)] if block in (2, 4) else None
    channel = int(figure.axes[0].get_title(loc="left").split()[-1])
    if wanted is not None:
        assert_close(out, wanted[0, channel].detach(), atol=1e-5, rtol=1e-5)
        assert wanted[0].sum((1, 2)).argmax() == channel
    bars = figure.axes[4].patches
    assert [bar.get_facecolor() == bars[block - 1].get_facecolor() for bar in bars].count(True) == 1


@pytest.mark.parametrize("digit", [0, 9])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_occlusion_shows_the_probability_of_the_right_class(reader, digit, size):
    net, images, labels = reader
    draw = partial(figures.draw_occlusion, net=net, images=images, labels=labels)
    image, share, worst, best = pictures(drawn(draw, (7, 1.9), digit=digit, size=size))
    p = net(experiments.occlude(images[[digit]], size)).softmax(1)[:, labels[digit]].detach()
    assert_close(share.float(), p.view(8, 8))
    assert torch.equal(image, images[digit, 0])
    for picture, position in ((worst, p.argmin()), (best, p.argmax())):
        assert torch.equal(picture, experiments.occlude(images[[digit]], size)[position, 0])


def test_drawings_leave_network_and_images_as_they_are(reader):
    net, images, labels = reader
    before = images.clone(), {name: value.clone() for name, value in net.state_dict().items()}
    drawn(partial(figures.draw_block, net=net, images=images), (7, 1.9))
    drawn(partial(figures.draw_occlusion, net=net, images=images, labels=labels), (7, 1.9))
    assert torch.equal(images, before[0])
    assert_close(net.state_dict(), before[1], rtol=0, atol=0)


def test_maps_are_the_liveliest_channels_of_stem_and_stages(reader):
    net, images, _ = reader
    figure = drawn(partial(figures.draw_maps, net=net, image=images[[5]]), (7, 3.8))
    shown, wanted = pictures(figure), [images[5, 0]]
    for stage in net.features(images[[5]]):
        order = stage[0].flatten(1).std(1).argsort(descending=True)[:5]
        wanted += list(stage[0, order].detach())
    assert_close([picture.float() for picture in shown], wanted)


def test_cuts_are_a_line_a_network_over_the_numbers_of_its_blocks():
    cut = {"plain20": {1: 0.1, 2: 0.2, 5: 0.15}, "resnet20": {1: 0.5, 2: 0.8}, "resnet56": {1: 0.4, 3: 0.9}}
    figure = drawn(partial(figures.draw_cuts, cut=cut, whole=dict.fromkeys(cut, 0.95)), (7, 2.3))
    for line, found in zip(figure.axes[0].lines, cut.values(), strict=True):
        assert list(line.get_xdata()) == list(found) and list(line.get_ydata()) == list(found.values())
