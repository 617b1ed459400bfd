"""What chapter 3c computes: cells, their score, the crops that the full run learns from, a drawn tissue."""

import pytest
import torch
from torch.testing import assert_close

from vlmbook.chapters.ch03c.experiments import (
    bend,
    draw_tissue,
    find_cells,
    loss_on_crops,
    make_membrane_net,
    rand_f1,
)


def walls():
    """-> (1, 24, 30): two lines cut the plane into four cells."""
    lines = torch.zeros(1, 24, 30)
    lines[:, 11] = 1
    lines[:, :, 15] = 1
    return lines


def test_cells_are_what_the_membranes_part():
    cells = find_cells(walls()[0], 0.5)
    corners = [cells[0, 0], cells[0, -1], cells[-1, 0], cells[-1, -1]]
    assert len(set(corners)) == 4 and set(cells.ravel()) == set(corners)
    assert (cells[:10, :14] == corners[0]).all()


def test_specks_are_no_cells():
    lines = torch.ones(24, 30)
    lines[:12] = 0
    lines[20, 20] = 0
    assert set(find_cells(lines, 0.5).ravel()) == {1}


def test_rand_f1_is_that_of_all_pairs_of_pixels():
    target = walls().long()
    gap = walls()
    gap[0, 2:8, 15] = 0  # joins the two upper cells
    assert rand_f1(walls(), target, 0.5) == pytest.approx(1)
    inside = target[0] == 0
    truth = torch.from_numpy(find_cells(walls()[0], 0.5))[inside]
    found = torch.from_numpy(find_cells(gap[0], 0.5))[inside]
    same_truth, same_found = (each[:, None] == each for each in (truth, found))
    both = (same_truth & same_found).sum().double()
    precision, recall = both / same_found.sum(), both / same_truth.sum()
    wanted = 2 * precision * recall / (precision + recall)
    assert rand_f1(gap, target, 0.5) == pytest.approx(wanted.item(), abs=2e-3) != 1


def test_a_bend_moves_image_and_target_alike():
    torch.manual_seed(0)
    target = torch.zeros(2, 40, 50, dtype=torch.long)
    target[:, 10:30, 10:25] = 1
    x = target[:, None].float()
    bent, bent_target = bend(x, target)
    assert not bent_target.equal(target) and bent_target.dtype == torch.int64
    assert ((bent[:, 0] > 0.5).long() != bent_target).float().mean() < 0.02
    assert_close(bend(x, target, strength=0)[0], x, atol=1e-4, rtol=0)


def test_the_loss_on_crops_is_a_number_that_trains():
    torch.manual_seed(0)
    net, target = make_membrane_net(), (torch.rand(2, 140, 150) > 0.8).long()
    loss = loss_on_crops(net, torch.randn(2, 1, 140, 150), target)
    loss.backward()
    assert loss.ndim == 0 and all(weight.grad is not None for weight in net.parameters())
    assert sum(weight.numel() for weight in net.parameters()) * 2 < 3_000_000  # bytes in float16


def test_a_drawn_tissue_depends_on_its_seed_alone():
    image, lines = draw_tissue(128, cells=20)
    assert image.shape == (1, 1, 128, 128) and lines.shape == (1, 128, 128)
    assert 0 <= image.min() and image.max() <= 1 and lines.unique().tolist() == [0, 1]
    assert image[0][lines > 0].mean() < image[0][lines == 0].mean() - 0.15
    assert torch.equal(draw_tissue(128, cells=20)[0], image)
    assert not torch.equal(draw_tissue(128, cells=20, seed=1)[0], image)
