"""The experiments of chapter 5b: hidden digits, shares of maps, shuffled patches, saved bytes."""

import pytest
import torch
from torch.testing import assert_close

from vlmbook.attention import VisionTransformer, attention, to_patches
from vlmbook.chapters.ch05b import experiments
from vlmbook.data import digits


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_hidden_digit_lies_in_its_cell_and_the_rest_is_photograph():
    few = digits("test")[0][:40]
    images, cells = experiments.hide_digits(few, "left", 1)
    assert images.shape == (40, 3, 48, 48) and set(cells.tolist()) == set(range(9))
    assert images.min() >= 0 and images.max() <= 1
    empty, _ = experiments.hide_digits(torch.zeros_like(few), "left", 1)
    for scene, ground, cell, digit in zip(images, empty, cells.tolist(), few, strict=True):
        inside = torch.zeros(48, 48, dtype=torch.bool)
        inside[cell // 3 * 16 :, cell % 3 * 16 :][:16, :16] = True
        assert torch.equal(scene[:, ~inside], ground[:, ~inside])
        painted = scene[:, inside].view(3, 8, 2, 8, 2).mean((0, 2, 4))
        assert painted[digit[0] == 1].min() > painted[digit[0] == 0].mean()
        assert (scene >= ground - 1e-6).all()  # ink only brightens
    again, _ = experiments.hide_digits(few, "left", 1)
    other, _ = experiments.hide_digits(few, "left", 2)
    test, _ = experiments.hide_digits(few, "right", 1)
    assert torch.equal(again, images)
    assert not torch.equal(other, images) and not torch.equal(test, images)


def test_the_photograph_is_darkened_under_the_digit_alone():
    nothing = torch.zeros(60, 1, 8, 8)
    images, cells = experiments.hide_digits(nothing, "right", 3)
    photos = torch.stack([experiments.resize_photo(name, (128, 192)) for name in experiments.PHOTOS])
    windows = photos[..., 96:].unfold(2, 48, 2).unfold(3, 48, 2).flatten(2, 3).transpose(1, 2).flatten(0, 1)
    for image, cell in zip(images[:5], cells[:5].tolist(), strict=True):
        inside = torch.zeros(48, 48, dtype=torch.bool)
        inside[cell // 3 * 16 :, cell % 3 * 16 :][:16, :16] = True
        [source] = [window for window in windows if torch.equal(window[:, ~inside], image[:, ~inside])]
        darker = image[:, inside].view(3, 16, 16)
        assert_close(darker[:, 7:9, 7:9], 0.4 * source[:, inside].view(3, 16, 16)[:, 7:9, 7:9])
        assert_close(darker[:, 0], source[:, inside].view(3, 16, 16)[:, 0])  # it fades out


def test_the_share_in_the_true_cell():
    maps, cells = torch.ones(4, 6, 6), torch.tensor([0, 4, 8, 2, 7])
    assert experiments.measure_share_in_cell(maps, cells) == pytest.approx(1 / 9)
    maps = torch.zeros(2, 6, 6)
    maps[0, 0, 1], maps[1, 2, 3], maps[1, 5, 5] = 3, 1, 3
    assert experiments.measure_share_in_cell(maps, cells) == pytest.approx((1 + 1 / 4) / 2)


def test_shuffled_patches_are_whole_and_all_there():
    x, order = torch.rand(2, 3, 4, 6, generator=generator()), torch.tensor([2, 0, 1, 5, 4, 3])
    assert_close(to_patches(experiments.shuffle_patches(x, order, 2), 2), to_patches(x, 2)[:, order])
    assert torch.equal(experiments.shuffle_patches(x, torch.arange(6), 2), x)


def test_saved_bytes_count_each_storage_once():
    x, y = (torch.randn(10, 10, requires_grad=True) for _ in range(2))
    assert experiments.count_saved_bytes(lambda x, y: x * y, x, y) == 2 * 400
    assert experiments.count_saved_bytes(lambda x: x * x, x) == 400
    assert experiments.count_saved_bytes(lambda x: x.exp().exp(), x) == 2 * 400  # each keeps its result
    assert experiments.count_saved_bytes(lambda x: x + 1, x) == 0
    q = torch.randn(64, 4, requires_grad=True)
    assert experiments.count_saved_bytes(lambda q: attention(q, q, q)[0], q) > 64 * 64 * 4


def test_randomized_parameters_all_matter():
    torch.manual_seed(1)
    net = experiments.randomize_parameters(VisionTransformer(4, 2, 3, 1, width=8, depth=1, heads=2))
    x = torch.rand(2, 1, 4, 4, generator=generator())
    assert net(x).std(1).min() > 0.05 and all(p.requires_grad for p in net.parameters())
