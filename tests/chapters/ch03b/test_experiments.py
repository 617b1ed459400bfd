"""What chapter 3b computes: crops, blocks one by one, covered squares."""

import pytest
import torch
from torch.testing import assert_close

from vlmbook.chapters.ch03b.experiments import (
    gradients_at_initialisation,
    list_blocks,
    load_crops,
    occlude,
    trace_blocks,
)
from vlmbook.data import digits
from vlmbook.resnet import resnet20


def test_crops_are_of_eight_photographs_each_of_its_own_class():
    images, labels = load_crops()
    assert images.shape == (8, 3, 16, 16) and labels.tolist() == list(range(8))
    assert 0 <= images.min() < images.max() <= 1 and (images.flatten(1).std(1) > 0.02).all()


def test_traced_blocks_follow_a_deep_net_to_the_features_of_its_last_stage():
    images = digits("test")[0][:10]
    net = resnet20(in_channels=1).eval()
    traced = trace_blocks(net, images)
    assert len(traced) == 9 == len(list_blocks(net))
    assert_close(traced[-1][2], net.features(images)[-1].detach())
    for shortcut, branch, out in traced:
        assert_close((shortcut + branch).relu(), out)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_a_square_is_covered_around_each_pixel_and_cut_at_the_border(size):
    image = torch.rand(1, 2, 6, 9) + 0.1
    covered = occlude(image, size)
    assert covered.shape == (54, 2, 6, 9)
    for position in range(54):
        row, column = divmod(position, 9)
        first = [max(0, at - (size - 1) // 2) for at in (row, column)]
        wanted = image[0].clone()
        wanted[:, first[0] : row + size // 2 + 1, first[1] : column + size // 2 + 1] = 0
        assert torch.equal(covered[position], wanted)


def test_gradients_at_initialisation_leave_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    gradients = gradients_at_initialisation(8, True, True, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(gradients) == 7
    assert gradients != gradients_at_initialisation(8, True, True, 1)
