"""The denoising network: what it sees, its windows, what it must keep, that it learns; noise estimated."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support.no_float64 import RefuseFloat64
from vlmbook.data import photo
from vlmbook.editing import (
    DenoisingNetwork,
    cut_squares,
    denoise,
    denoising_loss,
    estimate_noise,
    load_denoiser,
    psnr,
    rgb_to_ycbcr,
    train_denoiser,
    ycbcr_to_rgb,
)

HELD_OUT = ("astronaut", "camera", "coffee", "cat")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy(image, sigma, seed=0):
    return (image + sigma * torch.randn(image.shape, generator=generator(seed))).clamp(0, 1)


def random_network(*, width=6, depth=2, seed=0):
    """A network of which every layer does something."""
    network = DenoisingNetwork(width=width, depth=depth)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator(seed)))
    return network.eval()


# --- the network --------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 4), width=st.integers(1, 4), seed=st.integers(0, 99))
def test_squares_are_folded_and_unfolded_as_in_loops(height, width, seed):
    network = random_network(seed=seed).double()
    x = torch.rand(2, 1, 2 * height, 2 * width, generator=generator(seed), dtype=torch.float64)
    sigma = torch.tensor([0.1, 0.2], dtype=torch.float64)
    folded = torch.empty(2, 5, height, width, dtype=torch.float64)
    for a in range(2):
        for b in range(2):
            folded[:, 2 * a + b] = x[:, 0, a::2, b::2] - 0.5
    folded[:, 4] = sigma.view(2, 1, 1)
    y = features = network.first(folded)
    for block in network.blocks:
        y = y + block.conv2(F.relu(block.conv1(y)))
    channels = network.last(y + features)
    expected = x.clone()
    for a in range(2):
        for b in range(2):
            expected[:, 0, a::2, b::2] -= channels[:, 2 * a + b]
    assert_close(network(x, sigma), expected)


def test_an_untrained_network_changes_nothing_and_odd_sizes_are_taken():
    network = DenoisingNetwork(width=4, depth=1)
    for size in ((1, 1), (5, 8), (7, 3)):
        x = torch.rand(2, 1, *size, generator=generator())
        assert_close(network(x, torch.tensor([0.1, 0.0])), x, rtol=0, atol=0)
    with pytest.raises(ValueError, match="sigma"):
        network(x, torch.tensor([0.1]))


def test_each_image_is_told_its_own_level():
    network = random_network()
    x = torch.rand(1, 1, 8, 8, generator=generator()).expand(2, -1, -1, -1)
    both = network(x, torch.tensor([0.05, 0.2]))
    assert not torch.allclose(both[0], both[1])
    assert_close(network(x[:1], torch.tensor([0.2]))[0], both[1])


@pytest.mark.parametrize("depth", [1, 3])
def test_an_output_depends_on_pixels_within_the_radius_only(depth):
    network = random_network(width=3, depth=depth)
    radius = network.receptive_radius()
    size = 2 * radius + 4
    reached = []
    for row in (radius, radius + 1):  # the upper and the lower row of a folded square
        x = torch.rand(1, 1, size, 16, generator=generator()).requires_grad_()
        network(x, torch.tensor([0.1]))[0, 0, row].sum().backward()
        rows = x.grad[0, 0].abs().sum(1).nonzero()
        reached += [row - int(rows.min()), int(rows.max()) - row]
    assert max(reached) == radius


# --- denoise ------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    tile=st.integers(1, 30),
    channels=st.sampled_from([1, 3]),
)
def test_windows_give_the_whole_image(height, width, tile, channels):
    image = torch.rand(channels, height, width, generator=generator(height))
    network = random_network(depth=1)
    whole = denoise(image, 0.1, network=network, tile=64)
    assert whole.shape == image.shape
    assert_close(denoise(image, 0.1, network=network, tile=tile), whole, rtol=0, atol=1e-5)


def test_luma_and_colour_differences_are_told_the_noise_that_they_have():
    """Measured on noise of colour: the levels are those that the transform leaves."""
    levels = []

    class Watching(DenoisingNetwork):
        def forward(self, x, sigma):
            levels.append(sigma.clone())
            return super().forward(x, sigma)

    network = Watching(width=2, depth=1)
    image = torch.full((3, 40, 40), 0.5)
    assert_close(denoise(image, 0.1, network=network), image, rtol=0, atol=1e-6)
    noise = torch.randn(3, 400, 400, generator=generator(), dtype=torch.float64)
    measured = 0.1 * rgb_to_ycbcr(noise).flatten(1).std(1).float()
    assert_close(levels[0], measured, rtol=0.01, atol=0)


def test_colours_are_cleaned_in_luma_and_colour_differences():
    network, image = random_network(), photo("coffee")[:, :30, :41] * 0.5 + 0.25
    levels = 0.1 * rgb_to_ycbcr(torch.eye(3).view(3, 3, 1))[..., 0].square().sum(1).sqrt()
    shifted = rgb_to_ycbcr(image) + torch.tensor([0, 0.5, 0.5]).view(3, 1, 1)
    with torch.no_grad():
        planes = [network(shifted[None, i : i + 1], levels[i : i + 1])[0] for i in range(3)]
    expected = ycbcr_to_rgb(torch.cat(planes) - torch.tensor([0, 0.5, 0.5]).view(3, 1, 1)).clamp(0, 1)
    assert_close(denoise(image, 0.1, network=network), expected, rtol=0, atol=1e-5)


def test_grey_stays_grey_and_bytes_stay_bytes():
    network = random_network()
    image = photo("cat")[:, :30, :41]
    assert denoise(image[:1], 0.1, network=network).shape == (1, 30, 41)
    whole = denoise((255 * image).round().byte(), 0.1, network=network)
    assert whole.dtype == torch.uint8
    expected = denoise((255 * image).round() / 255, 0.1, network=network)
    assert_close(whole.float() / 255, expected, rtol=0, atol=0.51 / 255 + 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_image_stays(dtype):
    image = photo("cat")[:, :20, :30].to(dtype)
    clean = denoise(image, 0.1, network=random_network())
    assert clean.dtype == dtype
    assert_close(clean.float(), denoise(image.float(), 0.1, network=random_network()), rtol=0, atol=0.005)


def test_it_makes_no_float64():
    network, image = random_network(), photo("cat")[:, :20, :30]
    with RefuseFloat64():
        denoise(image, 0.1, network=network)


def test_without_a_level_it_is_the_estimated_one():
    network, image = random_network(), noisy(photo("cat")[:, :40, :50], 0.05)
    expected = denoise(image, estimate_noise(image), network=network)
    assert_close(denoise(image, network=network), expected, rtol=0, atol=0)
    extreme = torch.randint(2, (1, 40, 40), generator=generator()).float()
    assert estimate_noise(extreme) > 0.25  # more than the network knows; the strongest level is taken
    assert_close(denoise(extreme, network=network), denoise(extreme, 0.25, network=network), rtol=0, atol=0)


def test_noise_is_estimated_of_an_image_that_wants_a_gradient_too():
    image = noisy(photo("cat")[:, :40, :50], 0.05)
    assert estimate_noise(image.clone().requires_grad_()) == estimate_noise(image)


def test_levels_and_images_that_do_not_fit_are_refused():
    for sigma in (-0.1, 25, float("nan")):
        with pytest.raises(ValueError, match="sigma wants"):
            denoise(torch.rand(1, 8, 8), sigma, network=random_network())
    for wrong in (255 * torch.ones(3, 8, 8), torch.rand(4, 8, 8), torch.rand(1, 3, 8, 8)):
        with pytest.raises(ValueError, match="image wants"):
            denoise(wrong, 0.1, network=random_network())


def test_a_state_dict_tells_its_own_size():
    network = random_network(width=5, depth=3)
    again = load_denoiser(network.state_dict())
    x = torch.rand(1, 1, 6, 7, generator=generator())
    assert_close(again(x, torch.tensor([0.1])), network(x, torch.tensor([0.1])), rtol=0, atol=0)
    with pytest.raises(ValueError, match="DenoisingNetwork"):
        load_denoiser({"weight": torch.ones(3)})


# --- the noise estimated ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.1])
def test_the_noise_of_a_slope_is_found(sigma):
    slope = torch.linspace(0.3, 0.7, 301).expand(3, 1201, 301)
    image = (slope + sigma * torch.randn(3, 1201, 301, generator=generator())).clamp(0, 1)
    assert estimate_noise(image) == pytest.approx(sigma, rel=0.02)
    assert estimate_noise((255 * image).round().byte()) == pytest.approx(sigma, abs=0.002)  # of steps


def test_a_slope_has_no_noise_and_a_photograph_has_more_with_noise():
    assert estimate_noise(torch.linspace(0, 1, 40).expand(1, 30, 40)) < 1e-6
    levels = [estimate_noise(noisy(photo("astronaut"), sigma)) for sigma in (0, 0.05, 0.1, 0.2)]
    assert levels == sorted(levels) and levels[2] == pytest.approx(0.1, rel=0.15)
    with pytest.raises(ValueError, match="at least 2"):
        estimate_noise(torch.rand(1, 1, 40))


# --- training -----------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_absolute_error_of_what_the_network_was_shown():
    images = torch.rand(3, 1, 12, 10, generator=generator())
    sigma = torch.tensor([0.0, 0.1, 0.25])
    network = DenoisingNetwork(width=3, depth=1)  # untrained, it changes nothing
    torch.manual_seed(5)
    noise = sigma.view(3, 1, 1, 1) * torch.randn(images.shape)
    torch.manual_seed(5)
    expected = ((images + noise).clamp(0, 1) - images).abs().mean()
    assert_close(denoising_loss(network, images, sigma), expected)
    with pytest.raises(ValueError, match="sigma"):
        denoising_loss(network, images, sigma[:2])


def test_the_global_generator_stays_and_the_seed_repeats_the_training():
    options = {"size": 8, "count": 8, "epochs": 1, "batch_size": 4, "precision": None, "progress": False}
    networks = [random_network() for _ in range(2)]
    before = torch.get_rng_state()
    for network in networks:
        train_denoiser([photo("cat")], network=network, average=0.5, seed=4, **options)
    assert torch.equal(torch.get_rng_state(), before)
    states = [network.state_dict() for network in networks]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["last.bias"], random_network().last.bias)


@pytest.mark.slow
def test_a_short_training_cleans_photographs_that_it_has_not_seen():
    torch.manual_seed(0)
    training = [photo(name) for name in ("grass", "gravel", "brick", "rocket", "moon", "coins", "clock")]
    network = DenoisingNetwork(width=24, depth=3)
    options = {"size": 48, "count": 2000, "epochs": 1, "lr": 3e-3, "average": 0.9}
    network, _ = train_denoiser(training, network=network, precision=None, progress=False, **options)
    for name in HELD_OUT:
        image = photo(name)[:1, 100:250, 100:250]
        for sigma in (0.05, 0.1):
            grainy = noisy(image, sigma)
            gain = psnr(denoise(grainy, sigma, network=network), image) - psnr(grainy, image)
            assert gain > (2 if sigma == 0.05 else 4)  # dB


def test_squares_of_training_are_those_of_the_photographs():
    """What the network is shown is of the range that it meets in use."""
    squares = cut_squares([photo("cat")], size=16, count=20, generator=generator())
    assert 0 <= squares.min() and squares.max() <= 1 and squares.std() > 0.05
