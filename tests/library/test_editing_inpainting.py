"""Masks, the smooth filling, gated convolutions, and inpaint: what stays, what cannot be seen, windows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support.no_float64 import RefuseFloat64
from vlmbook.data import photo
from vlmbook.editing import (
    GatedConv2d,
    GatedUNet,
    block_mask,
    cut_squares,
    draw_masks,
    fill_image,
    fill_smoothly,
    free_form_mask,
    inpaint,
    inpainting_loss,
    load_inpainter,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_network(*, width=3, depth=2, seed=0):
    """A network of which every layer does something."""
    network = GatedUNet(width=width, depth=depth)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator(seed)))
    return network.eval()


# --- masks --------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), seed=st.integers(0, 999))
def test_masks_are_of_0_and_1_and_of_the_size(height, width, seed):
    for mask in (
        free_form_mask((height, width), generator=generator(seed)),
        block_mask((height, width), generator=generator(seed)),
    ):
        assert mask.shape == (1, height, width) and mask.dtype == torch.float32
        assert ((mask == 0) | (mask == 1)).all()
    tall, wide = max(1, round(height / 2)), max(1, round(width / 2))
    assert block_mask((height, width), generator=generator(seed)).sum() == tall * wide


def test_strokes_are_as_wide_as_the_brush_and_drawn_anew_each_time():
    shares = {}
    for brush in (0.03, 0.1, 0.3):
        masks = [free_form_mask(100, strokes=3, brush=brush, generator=generator(i)) for i in range(20)]
        shares[brush] = torch.stack(masks).mean().item()
        assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 20
        thick = F.max_pool2d(-F.max_pool2d(-torch.stack(masks), 7, 1, 3), 7, 1, 3)  # without what is thinner
        assert (thick.sum() > 0) == (brush > 0.05)
    assert 0.01 < shares[0.03] < shares[0.1] < shares[0.3] < 0.9
    again = [free_form_mask(50, generator=generator(3)) for _ in range(2)]
    assert_close(*again, rtol=0, atol=0)


def test_masks_to_train_on_differ_in_their_share():
    shares = draw_masks(48, 60, generator=generator()).mean((1, 2, 3))
    assert shares.min() < 0.05 and shares.max() > 0.2 and shares.max() < 0.95


def test_one_of_four_masks_to_train_on_is_a_block():
    masks = draw_masks(48, 400, generator=generator())
    tall, wide = (masks.amax(axis).sum((1, 2)) for axis in (3, 2))
    blocks = masks.sum((1, 2, 3)) == tall * wide
    assert 70 <= blocks.sum() <= 130  # 100 ± 9, and a stroke that happens to be a block
    shares = masks[blocks].mean((1, 2, 3))
    assert shares.min() > 0.01 and 0.1 < shares.max() < 0.17


# --- a smooth filling ---------------------------------------------------------------------------------------


def test_a_slope_is_continued_by_the_means_of_both_sides():
    image = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 12:20] = 1  # a band of eight columns
    filled = fill_smoothly(image, mask)
    assert_close(filled, image, rtol=0, atol=0.03)
    assert_close(filled[mask == 0], image[mask == 0], rtol=0, atol=0)
    assert (fill_smoothly(image, mask) - image).abs().max() < (0.5 - image[..., 12])[0, 0, 0].abs()


@settings(max_examples=30, deadline=None)
@given(height=st.integers(2, 70), width=st.integers(2, 70), seed=st.integers(0, 999))
def test_a_filling_lies_between_the_known_values_and_keeps_them(height, width, seed):
    image = torch.rand(2, 3, height, width, generator=generator(seed))
    mask = (torch.rand(2, 1, height, width, generator=generator(seed + 1)) < 0.7).float()
    mask[:, :, 0, 0] = 0
    filled = fill_smoothly(image, mask)
    known = mask.expand_as(image) == 0
    assert_close(filled[known], image[known], rtol=0, atol=0)
    for b in range(2):
        values = image[b][:, mask[b, 0] == 0]
        assert (filled[b].amin((1, 2)) >= values.amin(1) - 1e-5).all()
        assert (filled[b].amax((1, 2)) <= values.amax(1) + 1e-5).all()
    alone = torch.cat([fill_smoothly(image[b : b + 1], mask[b : b + 1]) for b in range(2)])
    assert_close(alone, filled)


def test_what_lies_under_the_hole_of_a_batch_is_not_seen_either():
    image = torch.rand(1, 1, 20, 24, generator=generator())
    mask = block_mask((20, 24), generator=generator())[None]
    broken = torch.where(mask > 0, torch.nan, image)
    assert_close(fill_smoothly(broken, mask), fill_smoothly(image, mask), rtol=0, atol=0)
    with pytest.raises(ValueError, match="masks wants values 0 and 1 only"):
        fill_smoothly(image, mask / 2)


@pytest.mark.parametrize("tile", [16, 40, 256])
def test_one_image_is_filled_in_windows(tile):
    image = photo("coffee")[:, :70, :90]
    mask = free_form_mask((70, 90), generator=generator())
    whole = fill_smoothly(image[None], mask[None])[0]
    assert_close(fill_image(image, mask, tile=tile), whole, rtol=0, atol=1e-5)
    filled = fill_image((255 * image).round().byte(), mask, tile=tile)
    assert filled.dtype == torch.uint8
    assert_close(filled.float() / 255, whole, rtol=0, atol=0.01)


# --- the network --------------------------------------------------------------------------------------------


def test_a_gated_convolution_is_a_feature_times_its_gate():
    layer = GatedConv2d(2, 3).double().eval()
    with torch.no_grad():
        layer.norm.bias.copy_(torch.randn(6, generator=generator()))
        layer.norm.running_mean.copy_(torch.randn(6, generator=generator(1)))
    x = torch.randn(2, 2, 5, 6, generator=generator(), dtype=torch.float64)
    feature, gate = layer.norm(F.conv2d(x, layer.weight, padding=1)).split(3, dim=1)
    assert_close(layer(x), torch.where(feature > 0, feature, feature.exp() - 1) / (1 + (-gate).exp()))
    with torch.no_grad():
        layer.norm.bias[3:] = -1000  # closed gates let nothing through
    assert_close(layer(x), torch.zeros(2, 3, 5, 6, dtype=torch.float64))


def test_the_network_has_gates_everywhere_and_any_size():
    network = GatedUNet(depth=3).eval()
    assert sum(isinstance(m, GatedConv2d) for m in network.modules()) == 2 * 4 + 2 * 3  # down and up
    assert 2 * sum(p.numel() for p in network.parameters()) < 3_000_000  # bytes in float16
    for size in ((37, 50), (1, 1), (2, 3)):
        assert network(torch.rand(2, 2, *size)).shape == (2, 1, *size)


@pytest.mark.parametrize("depth", [1, 2])
def test_an_output_depends_on_pixels_within_the_radius_only(depth):
    network = random_network(depth=depth)
    radius = network.receptive_radius()
    size = 2 * radius + 9
    for row in range(radius, radius + 8):
        x = torch.rand(1, 2, size, 16, generator=generator()).requires_grad_()
        network(x)[0, 0, row].sum().backward()
        rows = x.grad[0].abs().sum((0, 2)).nonzero()
        assert row - radius <= int(rows.min()) and int(rows.max()) <= row + radius


# --- inpaint ------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(8, 90),
    width=st.integers(8, 90),
    tile=st.integers(8, 60),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_windows_give_the_whole_image(height, width, tile, channels, seed):
    image = torch.rand(channels, height, width, generator=generator(seed))
    mask = free_form_mask((height, width), strokes=2, generator=generator(seed))
    mask[:, 0, 0], mask[:, -1, -1] = 0, 1
    network = random_network(depth=1 + seed % 3)
    whole = inpaint(image, mask, network=network, tile=128)
    assert_close(inpaint(image, mask, network=network, tile=tile), whole, rtol=0, atol=2e-6)


def test_windows_inside_a_large_hole_see_its_edges():
    """The smooth filling of a window reaches further than the network does."""
    image = torch.rand(1, 150, 150, generator=generator())
    mask = torch.zeros(1, 150, 150)
    mask[:, 30:120, 30:120] = 1
    network = random_network(depth=1)
    assert network.receptive_radius() < 32
    whole = inpaint(image, mask, network=network, tile=256)
    assert_close(inpaint(image, mask, network=network, tile=16), whole, rtol=0, atol=2e-6)


def test_a_training_step_and_inpaint_see_the_same_filling():
    """`fill_smoothly` goes through a batch at once, `inpaint` through an image strip by strip."""
    image = photo("camera")[:1]
    mask = free_form_mask(image.shape[1:], strokes=20, brush=0.2, generator=generator())
    network = random_network()
    with torch.no_grad():
        filled = fill_smoothly(image[None], mask[None])
        detail = network(torch.cat([filled - 0.5, mask[None]], 1))
        expected = torch.where(mask > 0, (filled + detail)[0].clamp(0, 1), image)
    assert_close(inpaint(image, mask, network=network), expected, rtol=0, atol=1e-5)


def test_what_lies_under_the_hole_is_not_seen_and_the_rest_stays():
    image = photo("coffee")[:, :70, :90]
    mask = free_form_mask((70, 90), generator=generator())
    network = random_network()
    filled = inpaint(image, mask, network=network)
    other = torch.where(mask > 0, torch.rand(3, 70, 90, generator=generator()), image)
    assert_close(inpaint(other, mask, network=network), filled, rtol=0, atol=0)
    assert_close(filled[:, mask[0] == 0], image[:, mask[0] == 0], rtol=0, atol=0)
    assert not torch.equal(filled, image)
    assert_close(inpaint(image, mask.bool(), network=network), filled, rtol=0, atol=0)


def test_grey_stays_grey_and_bytes_stay_bytes():
    network = random_network()
    image = photo("cat")[:, :60, :70]
    mask = free_form_mask((60, 70), generator=generator())
    whole = inpaint((255 * image).round().byte(), mask, network=network)
    assert whole.dtype == torch.uint8
    assert_close(whole.float() / 255, inpaint(image, mask, network=network), rtol=0, atol=0.01)
    assert inpaint(image[:1], mask, network=network).shape == (1, 60, 70)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_image_stays(dtype):
    image = photo("cat")[:, :40, :40].to(dtype)
    mask = free_form_mask(40, generator=generator())
    filled = inpaint(image, mask, network=random_network())
    assert filled.dtype == dtype
    assert_close(filled.float(), inpaint(image.float(), mask, network=random_network()), rtol=0, atol=0.01)


def test_it_makes_no_float64():
    image, mask, network = photo("cat")[:, :40, :40], block_mask(40, generator=generator()), random_network()
    with RefuseFloat64():
        inpaint(image, mask, network=network)


def test_only_windows_with_a_hole_are_computed(monkeypatch):
    network, seen = random_network(), []
    forward = network.forward
    monkeypatch.setattr(network, "forward", lambda x: seen.append(x.shape) or forward(x))
    mask = torch.zeros(1, 200, 200)
    mask[:, 10:20, 10:20] = 1
    inpaint(photo("camera")[:1, :200, :200], mask, network=network, tile=50)
    assert len(seen) == 1


def test_a_network_in_training_is_used_as_in_eval_mode_and_comes_back_as_it_was():
    image, mask = photo("cat")[:, :40, :40], free_form_mask(40, generator=generator())
    network = random_network()
    expected = inpaint(image, mask, network=network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()
    network.head.eval()
    assert_close(inpaint(image, mask, network=network, tile=16), expected, rtol=0, atol=2e-6)
    assert network.training and network.encoder[0].training and not network.head.training
    for name, tensor in network.state_dict().items():
        assert_close(tensor, before[name], rtol=0, atol=0)


def test_an_image_that_wants_a_gradient_gets_a_filling_without_one():
    image = torch.rand(1, 20, 20, generator=generator()).requires_grad_()
    mask = block_mask(20, generator=generator())
    assert not inpaint(image, mask, network=random_network()).requires_grad


def test_masks_that_cannot_be_filled_are_refused():
    image, network = photo("cat")[:, :20, :20], random_network()
    for mask, words in (
        (torch.ones(1, 20, 20), "at least one known pixel"),
        (torch.zeros(1, 20, 20), "at least one pixel that is 1"),
        (torch.full((1, 20, 20), 0.5), "0 and 1 only"),
        (torch.ones(1, 20, 21), "shape"),
        (torch.ones(20, 20), "shape"),
    ):
        with pytest.raises(ValueError, match=words):
            inpaint(image, mask, network=network)


def test_a_state_dict_tells_its_own_size():
    network = random_network(width=5, depth=2)
    again = load_inpainter(network.state_dict())
    x = torch.rand(1, 2, 16, 18, generator=generator())
    assert_close(again(x), network(x), rtol=0, atol=0)
    with pytest.raises(ValueError, match="GatedUNet"):
        load_inpainter({"weight": torch.ones(3)})


# --- training -----------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_error_inside_the_holes():
    images = torch.rand(2, 1, 20, 24, generator=generator())
    masks = torch.stack([free_form_mask((20, 24), generator=generator(i)) for i in range(2)])
    filled = fill_smoothly(images, masks)
    network = GatedUNet(width=3, depth=1)  # untrained, it adds nothing
    expected = (filled - images).square()[masks > 0].mean()
    assert_close(inpainting_loss(network, images, masks), expected)


def test_one_batch_can_be_learned():
    torch.manual_seed(0)
    images = cut_squares([photo("coffee")], size=32, count=4, generator=generator())
    masks = draw_masks(32, 4, generator=generator())
    network = GatedUNet(width=8, depth=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(150):
        loss = inpainting_loss(network, images, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
