"""The sub-pixel network: its shuffle in loops, its windows, what it must keep, and that it learns."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support.no_float64 import RefuseFloat64
from vlmbook.data import photo
from vlmbook.editing import (
    SubPixelNetwork,
    cut_pairs,
    cut_squares,
    enlarge_bicubic,
    load_network,
    psnr,
    shrink_bicubic,
    train_upscaler,
    upscale,
    upscaling_loss,
)
from vlmbook.editing.superresolution import ResidualBlock

TRAINING = ("coffee", "cat", "grass", "gravel", "brick", "rocket", "moon", "coins")
HELD_OUT = ("astronaut", "camera", "retina", "clock")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_network(factor=2, *, width=6, depth=2, seed=0):
    """A network of which every layer does something."""
    network = SubPixelNetwork(factor, width=width, depth=depth)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator(seed)))
    return network.eval()


# --- the network --------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 7), width=st.integers(1, 7), factor=st.integers(1, 4), seed=st.integers(0, 99))
def test_channels_become_pixels_as_in_loops(height, width, factor, seed):
    network = random_network(factor, seed=seed).double()
    x = torch.rand(2, 1, height, width, generator=generator(seed), dtype=torch.float64)
    y = network.first(x)
    for block in network.blocks:
        y = y + block.conv2(F.relu(block.conv1(y)))
    channels = network.last(y + network.first(x))
    detail = torch.zeros(2, 1, factor * height, factor * width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            for a in range(factor):
                for b in range(factor):
                    detail[:, 0, factor * i + a, factor * j + b] = channels[:, factor * a + b, i, j]
    with torch.no_grad():
        assert_close(network(x), enlarge_bicubic(x, factor) + detail)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_an_untrained_network_is_bicubic_interpolation(factor):
    image = photo("cat")[:, 40:77, 50:100]
    network = SubPixelNetwork(factor, width=4, depth=1)
    expected = enlarge_bicubic(image, factor).clamp(0, 1)
    assert_close(upscale(image, factor, network=network), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("depth", [1, 3])
def test_an_output_depends_on_pixels_within_the_radius_only(depth):
    network = random_network(width=3, depth=depth)
    radius = network.receptive_radius()
    size = 2 * radius + 5
    x = torch.rand(1, 1, size, size, generator=generator()).requires_grad_()
    middle = size // 2
    network(x)[0, 0, 2 * middle : 2 * middle + 2, 2 * middle : 2 * middle + 2].sum().backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero()
    assert middle - radius <= int(rows.min()) and int(rows.max()) <= middle + radius
    assert int(rows.max()) == middle + 2 + 2 * depth  # ReLUs may shut some of the way; here they do not


# --- upscale ------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tile=st.integers(1, 50),
    factor=st.sampled_from([2, 3, 4]),
    channels=st.sampled_from([1, 3]),
    twice=st.booleans(),
)
def test_windows_give_the_whole_image(height, width, tile, factor, channels, twice):
    image = torch.rand(channels, height, width, generator=generator(height))
    network = random_network(2 if twice else factor)
    whole = upscale(image, factor, network=network, tile=64)
    assert whole.shape == (channels, factor * height, factor * width)
    assert_close(upscale(image, factor, network=network, tile=tile), whole, rtol=0, atol=1e-4)


def test_a_network_for_2_serves_for_4_and_for_3():
    image, network = photo("coffee")[:, :24, :32], random_network()
    twice = upscale(upscale(image, 2, network=network), 2, network=network)
    assert_close(upscale(image, 4, network=network), twice, rtol=0, atol=1e-5)
    plain = SubPixelNetwork(2, width=4, depth=1)  # untrained, which is bicubic interpolation
    thrice = upscale(image, 3, network=plain)
    assert psnr(thrice, enlarge_bicubic(image, 3).clamp(0, 1)) > 35


@pytest.mark.parametrize("factor", [2, 3])
def test_an_ensemble_is_the_mean_of_eight_positions_and_turns_with_the_image(factor):
    image, network = photo("coffee")[:, 50:76, 50:81] * 0.5 + 0.25, random_network()
    with torch.no_grad():
        network.last.weight.mul_(0.02)  # so that no value is cut off at 0 or 1
        network.last.bias.mul_(0.02)
    positions = []
    for turns in range(4):
        for flips in ((), (2,)):
            turned = image.rot90(turns, (1, 2)).flip(flips)
            large = upscale(turned, factor, network=network)
            positions.append(large.flip(flips).rot90(-turns, (1, 2)))
    assert 0 < torch.stack(positions).min() and torch.stack(positions).max() < 1
    assert (positions[0] - positions[3]).abs().max() > 1e-3  # a network is not the same for all
    whole = upscale(image, factor, network=network, ensemble=True)
    assert_close(whole, torch.stack(positions).mean(0), rtol=0, atol=1e-5)
    tiled = upscale(image, factor, network=network, ensemble=True, tile=10)
    assert_close(tiled, whole, rtol=0, atol=1e-4)
    other = upscale(image.rot90(1, (1, 2)), factor, network=network, ensemble=True)
    assert_close(other, whole.rot90(1, (1, 2)), rtol=0, atol=1e-5)


def test_grey_stays_grey_bytes_stay_bytes_and_colours_keep_their_hue():
    network = random_network()
    image = photo("coffee")[:, :30, :41]
    grey = upscale(image[:1], 2, network=network)
    assert_close(upscale(image[:1].expand(3, -1, -1), 2, network=network), grey.expand(3, -1, -1))
    whole = upscale((255 * image).round().byte(), 2, network=network)
    assert whole.dtype == torch.uint8
    assert_close(whole.float() / 255, upscale(image, 2, network=network), rtol=0, atol=0.51 / 255 + 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_image_stays(dtype):
    image = photo("cat")[:, :20, :30].to(dtype)
    large = upscale(image, 2, network=random_network())
    assert large.dtype == dtype
    assert_close(large.float(), upscale(image.float(), 2, network=random_network()), rtol=0, atol=0.005)


def test_it_makes_no_float64():
    network, image = random_network(), photo("cat")[:, :20, :30]
    with RefuseFloat64():
        upscale(image, 2, network=network)


def test_the_network_stays_as_it_was():
    network = random_network().train()
    upscale(photo("cat")[:, :20, :30], 2, network=network)
    assert network.training and all(p.grad is None and p.requires_grad for p in network.parameters())


def test_a_network_for_another_factor_and_an_image_out_of_range_are_refused():
    with pytest.raises(ValueError, match="wants a factor of 2, got one for 3"):
        upscale(torch.rand(3, 8, 8), 2, network=random_network(3))
    for wrong in (255 * torch.ones(3, 8, 8), torch.rand(4, 8, 8), torch.rand(1, 3, 8, 8)):
        with pytest.raises(ValueError, match="image wants"):
            upscale(wrong, 2, network=random_network())
    with pytest.raises(ValueError, match="2 or 3 or 4"):
        upscale(torch.rand(3, 8, 8), 5)


def test_a_state_dict_tells_its_own_size():
    network = random_network(3, width=5, depth=3)
    again = load_network(network.state_dict(), 3)
    x = torch.rand(1, 1, 6, 7, generator=generator())
    assert_close(again(x), network(x), rtol=0, atol=0)
    with pytest.raises(ValueError, match="SubPixelNetwork"):
        load_network(network.state_dict(), 2)
    with pytest.raises(ValueError, match="SubPixelNetwork"):
        load_network({"weight": torch.ones(3)}, 2)


# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pairs_are_the_same_square_small_and_large(factor):
    images = [photo("coffee")[:, :81, :95], photo("camera")[:1, 100:170, 100:150]]
    small, large = cut_pairs(images, factor, size=12, count=40, generator=generator())
    assert small.shape == (40, 1, 12, 12) and large.shape == (40, 1, 12 * factor, 12 * factor)
    inner = slice(4, -4)  # the borders of a square were made small with what lies beyond them
    again = shrink_bicubic(large, factor)
    assert_close(again[..., inner, inner], small[..., inner, inner], rtol=0, atol=0.01)
    means = large.mean((1, 2, 3))
    assert len(means.unique()) > 20
    repeated = cut_pairs(images, factor, size=12, count=40, generator=generator())
    assert_close(repeated[0], small, rtol=0, atol=0)


def test_squares_come_in_all_eight_positions():
    image = torch.arange(36.0).view(1, 6, 6) / 36
    squares = cut_squares([image], size=6, count=200, generator=generator())
    wanted = {tuple(x.flatten().tolist()) for k in range(4) for x in (image.rot90(k, (1, 2)),)}
    wanted |= {tuple(image.rot90(k, (1, 2)).flip(2).flatten().tolist()) for k in range(4)}
    assert {tuple(x.flatten().tolist()) for x in squares} == wanted and len(wanted) == 8


def test_one_batch_can_be_learned():
    torch.manual_seed(0)
    small, large = cut_pairs([photo("coffee")], 2, size=12, count=2, generator=generator())
    network = SubPixelNetwork(2, width=32, depth=3)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(200):
        loss = upscaling_loss(network, small, large)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.slow
def test_a_short_training_beats_bicubic_on_photographs_that_it_has_not_seen():
    """The chapter's quick training: under half a minute."""
    training = [photo(name) for name in TRAINING]
    torch.manual_seed(0)
    network = SubPixelNetwork(2, width=24, depth=3)
    network, history = train_upscaler(
        training, 2, network=network, size=24, count=4000, epochs=1, lr=2e-3, precision=None, progress=False
    )
    assert history.losses[-1] < history.losses[0]
    gains = []
    for name in HELD_OUT:
        image = photo(name)[:, 100:356, 100:400]
        small = (255 * shrink_bicubic(image, 2).clamp(0, 1)).round() / 255
        ours, plain = upscale(small, 2, network=network), enlarge_bicubic(small, 2).clamp(0, 1)
        gains.append(psnr(ours, image) - psnr(plain, image))
    assert sum(gains) / len(gains) > 0.5


def test_a_training_goes_on_from_its_checkpoint(tmp_path):
    options = {"size": 8, "count": 48, "epochs": 2, "precision": None, "progress": False}
    images = [photo("cat")]

    def make():
        torch.manual_seed(0)
        return SubPixelNetwork(2, width=4, depth=1)

    whole, _ = train_upscaler(images, 2, network=make(), **options)
    saved = tmp_path / "run.safetensors"
    train_upscaler(images, 2, network=make(), checkpoint=saved, **options)
    again, history = train_upscaler(images, 2, network=make(), checkpoint=saved, **options)
    assert len(history.losses) == 6
    for name, tensor in whole.state_dict().items():
        assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_block_starts_near_its_shortcut_and_keeps_the_size_of_features():
    torch.manual_seed(0)
    x = torch.randn(1, 32, 20, 20, generator=generator())
    change = (ResidualBlock(32)(x) - x).std() / x.std()
    assert 0.02 < change < 0.3
