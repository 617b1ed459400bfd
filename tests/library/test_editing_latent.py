"""Latent numbers: directions and paths against their formulas, edits, holes filled by what a model knows."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from vlmbook.data import digits
from vlmbook.editing import (
    attribute_direction,
    decode_latents,
    edit_along,
    encode_images,
    fill_by_latents,
    interpolate_latents,
    load_vae,
    train_vae,
)
from vlmbook.vae import VAE, elbo, mean_image


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def make(seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VAE(8, latent=5, width=8, **options).eval()


@pytest.fixture(scope="module")
def trained():
    """A VAE of digits after a few seconds; it knows roughly what a digit looks like."""
    images, _ = digits("train")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VAE(8, latent=8, width=16)
    options = {"epochs": 15, "batch_size": 64, "lr": 5e-3, "precision": None, "progress": False}
    return train_vae(images, model=model, **options)[0]


# --- images and their latent numbers ------------------------------------------------------------------------


def test_many_images_are_encoded_and_decoded_as_one_by_one():
    model, images = make(), rand(300, 1, 8, 8)
    latents = encode_images(model, images)
    assert latents.shape == (300, 5) and not latents.requires_grad
    with torch.no_grad():
        assert_close(latents[257:258], model.encode(images[257:258])[0])
        expected = mean_image(model.decode(latents[299:]))
    decoded = decode_latents(model, latents)
    assert decoded.shape == (300, 1, 8, 8)
    assert_close(decoded[299:], expected)
    assert torch.equal(encode_images(model, images), latents)  # no noise


# --- directions and paths -----------------------------------------------------------------------------------


def test_a_direction_leads_from_the_one_mean_to_the_other():
    having, lacking = randn(7, 4), randn(5, 4, seed=1)
    direction = attribute_direction(having, lacking)
    assert_close(lacking.mean(0) + direction, having.mean(0))
    assert_close(attribute_direction(lacking, having), -direction)
    half = attribute_direction(having.half(), lacking.half())
    assert half.dtype == torch.float16
    assert_close(half.float(), direction, rtol=0, atol=0.01)
    with pytest.raises(ValueError, match="lacking"):
        attribute_direction(having, randn(5, 3))


@settings(max_examples=40, deadline=None)
@given(size=st.integers(2, 30), count=st.integers(2, 9), seed=st.integers(0, 999))
def test_on_an_arc_the_angle_and_the_length_grow_evenly(size, count, seed):
    start, end = (
        randn(size, seed=seed, dtype=torch.float64),
        3 * randn(size, seed=seed + 1, dtype=torch.float64),
    )
    points = interpolate_latents(start, end, count, path="spherical")
    assert torch.equal(points[0], start) and torch.equal(points[-1], end)
    t = torch.linspace(0, 1, count, dtype=torch.float64)
    assert_close(points.norm(dim=1), (1 - t) * start.norm() + t * end.norm())

    def angle(a, b):
        return math.acos(max(-1, min(1, float(a @ b / a.norm() / b.norm()))))

    whole = angle(start, end)
    for share, point in zip(t.tolist(), points, strict=True):
        assert angle(start, point) == pytest.approx(share * whole, abs=1e-6)
        assert angle(point, end) == pytest.approx((1 - share) * whole, abs=1e-6)


def test_a_chord_is_even_and_its_middle_is_shorter():
    start, end = randn(40), randn(40, seed=1)
    points = interpolate_latents(start, end, 5)
    assert torch.equal(points[0], start) and torch.equal(points[-1], end)
    assert_close(points[2], (start + end) / 2)
    assert_close(points.diff(dim=0), ((end - start) / 4).expand(4, -1))
    assert points[2].norm() < 0.8 * min(start.norm(), end.norm())
    arc = interpolate_latents(start, end, 5, path="spherical")
    assert arc[2].norm() == pytest.approx((start.norm() + end.norm()).item() / 2, rel=1e-5)


def test_arcs_that_are_nearly_straight_and_arcs_that_there_are_not():
    start = randn(10)
    near = start + 1e-6 * randn(10, seed=1)
    points = interpolate_latents(start, near, 7, path="spherical")
    assert points.isfinite().all() and (points - start).abs().max() < 1e-5
    assert_close(interpolate_latents(start, 2 * start, 3, path="spherical")[1], 1.5 * start)
    with pytest.raises(ValueError, match="opposite"):
        interpolate_latents(start, -2 * start, 3, path="spherical")
    with pytest.raises(ValueError, match="origin"):
        interpolate_latents(start, 0 * start, 3, path="spherical")
    with pytest.raises(ValueError, match="linear"):
        interpolate_latents(start, near, 3, path="straight")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_the_dtype_of_latents_stays(dtype, path):
    start, end = randn(6).to(dtype), randn(6, seed=1).to(dtype)
    points = interpolate_latents(start, end, 4, path=path)
    assert points.dtype == dtype
    expected = interpolate_latents(start.float(), end.float(), 4, path=path)
    assert_close(points.float(), expected, rtol=0, atol=0.02)


# --- edits --------------------------------------------------------------------------------------------------


def test_an_edit_of_no_strength_keeps_the_image_and_details_are_what_is_added():
    model, images = make(), rand(3, 1, 8, 8)
    direction = randn(5)
    assert_close(edit_along(model, images, direction, 0), images, rtol=0, atol=1e-6)
    latents = encode_images(model, images)
    reconstruction = decode_latents(model, latents)
    bare = edit_along(model, images, direction, 0, keep_details=False)
    assert_close(bare, reconstruction)
    moved = decode_latents(model, latents + 2 * direction)
    assert_close(edit_along(model, images, direction, 2, keep_details=False), moved)
    expected = (images + moved - reconstruction).clamp(0, 1)
    assert_close(edit_along(model, images, direction, 2), expected)
    assert not torch.allclose(moved, reconstruction)
    with pytest.raises(ValueError, match="direction"):
        edit_along(model, images, direction[:4])


def test_a_direction_from_0_to_1_makes_ones_of_zeros(trained):
    images, labels = digits("train")
    latents = encode_images(trained, images)
    direction = attribute_direction(latents[labels == 1], latents[labels == 0])
    unseen, kinds = digits("test")
    zeros = unseen[kinds == 0]
    edited = edit_along(trained, zeros, direction, 1.0, keep_details=False)
    means = torch.stack([images[labels == digit].mean(0) for digit in (0, 1)])
    nearest = torch.cdist(edited.flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == 1).float().mean() > 0.9
    assert torch.cdist(zeros.flatten(1), means.flatten(1)).argmin(1).float().mean() < 0.1


def test_holes_are_filled_and_the_rest_stays(trained):
    images = digits("test")[0][:40]
    masks = torch.zeros(40, 1, 8, 8)
    masks[:, :, 4:] = 1  # the lower half
    filled = fill_by_latents(trained, images, masks, steps=60)
    known = (masks == 0).expand_as(images)
    assert torch.equal(filled[known], images[known])
    other = torch.where(masks > 0, rand(40, 1, 8, 8), images)
    assert torch.equal(fill_by_latents(trained, other, masks, steps=60), filled)  # what was there is not seen

    def error(result):
        return (result - images)[~known].square().mean().item()

    average = digits("train")[0].mean(0).expand(40, -1, -1, -1)
    assert error(filled) < 0.9 * error(average)
    assert error(filled) < error(
        decode_latents(trained, encode_images(trained, torch.where(masks > 0, 0.5, images)))
    )
    assert all(parameter.grad is None for parameter in trained.parameters())


def test_the_latents_are_the_most_probable_ones():
    """As a search of another kind finds them."""
    model, image = make().double(), rand(1, 1, 8, 8).double()
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :3, :] = 1
    filled = fill_by_latents(model, image, mask, steps=800, lr=0.05)[..., :3, :]

    def posterior(z):
        probability = mean_image(model.decode(z))
        known = mask[0, 0] == 0
        x, p = image[:, :, known], probability[:, :, known]
        return (x * p.log() + (1 - x) * (1 - p).log()).sum() - z.square().sum() / 2

    z = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([z], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        search.zero_grad()
        loss = -posterior(z)
        loss.backward()
        return loss

    search.step(closure)
    assert_close(filled, decode_latents(model, z.detach())[..., :3, :], rtol=0, atol=4e-3)


def test_masks_that_cannot_be_filled_are_refused():
    model, images = make(), rand(2, 1, 8, 8)
    whole = torch.zeros(2, 1, 8, 8)
    whole[1] = 1
    for masks, words in ((whole, "at least one known"), (whole + 0.5, "0 and 1 only"), (whole[:1], "shape")):
        with pytest.raises(ValueError, match=words):
            fill_by_latents(model, images, masks)


# --- the model ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("levels", [2, 17])
def test_a_state_dict_tells_its_own_sizes(channels, levels):
    model = make(channels=channels, levels=levels)
    again = load_vae(model.state_dict(), 8)
    assert (again.channels, again.levels, again.latent) == (channels, levels, 5) and not again.training
    x = rand(2, channels, 8, 8)
    assert_close(again.encode(x)[0], model.encode(x)[0], rtol=0, atol=0)
    z = randn(2, 5)
    assert_close(again.decode(z), model.decode(z), rtol=0, atol=0)
    with pytest.raises(ValueError, match="tensors of a VAE"):
        load_vae({"weight": torch.ones(3)}, 8)
    with pytest.raises(ValueError, match="tensors of a VAE"):
        load_vae(model.state_dict(), 28)


def test_training_raises_the_bound_and_leaves_the_global_generator(trained):
    images = digits("test")[0]
    torch.manual_seed(0)
    bounds = []
    for model in (make(), trained):
        with torch.no_grad():
            fit, kl = elbo(model, images)
        bounds.append((fit - kl).mean().item())
    assert bounds[1] > bounds[0] + 5
    before = torch.get_rng_state()
    options = {"epochs": 1, "batch_size": 16, "precision": None, "progress": False}
    networks = [train_vae(images[:32], seed=3, **options)[0] for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(networks[0].parameters(), networks[1].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
