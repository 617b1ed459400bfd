"""The weights that come with the package do what their cards say."""

import json

import pytest
import torch
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from tests.support.files import REAL, real
from vlmbook.data import fashion_mnist, photo, read_image
from vlmbook.data.images import list_images
from vlmbook.editing import (
    attribute_direction,
    crop_to_multiple,
    decode_latents,
    denoise,
    denoiser,
    edit_along,
    encode_images,
    enlarge_bicubic,
    fashion_vae,
    luma_psnr,
    psnr,
    rgb_to_ycbcr,
    shrink_bicubic,
    upscale,
    upscaler,
)
from vlmbook.pretrained import WEIGHTS, weights_card
from vlmbook.vae import elbo

OURS = ("ch06b_upscale_x2", "ch06b_denoise", "ch06b_inpaint", "ch06b_fashion_vae")
MOST = {"ch06b_denoise": 1_500_000, "ch06b_fashion_vae": 2_000_000}  # bytes; others 3 MB


def noisy(image, sigma, seed=0):
    """As a photograph has it: cut off at black and white, and rounded to bytes."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return (255 * (image + sigma * noise).clamp(0, 1)).round() / 255


@pytest.mark.parametrize("name", OURS)
def test_files_are_small_and_cards_tell_how_they_were_made(name):
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size < MOST.get(name, 3_000_000)
    card = weights_card(name)
    assert card["hours"] > 0 and card["quality"] and "vlmbook.editing.train_" in json.dumps(card["command"])


# --- enlarging ----------------------------------------------------------------------------------------------


def test_a_photograph_is_enlarged_better_than_by_bicubic():
    network = upscaler()
    for name in ("astronaut", "coffee", "cat"):
        image = photo(name)[:, 100:228, 100:228]
        small = (255 * shrink_bicubic(image, 2).clamp(0, 1)).round() / 255
        plain = enlarge_bicubic(small, 2).clamp(0, 1)
        gain = luma_psnr(upscale(small, 2, network=network), image, border=2) - luma_psnr(
            plain, image, border=2
        )
        assert gain > 0.7, name


@pytest.mark.slow
@real("superres")
def test_set5_has_the_figure_of_the_card():
    values = {False: [], True: []}  # the mean over eight positions, or not
    for path in list_images(REAL / "superres" / "Set5"):
        image = crop_to_multiple(read_image(path), 2)
        small = (255 * shrink_bicubic(image, 2).clamp(0, 1)).round() / 255
        for ensemble, measured in values.items():
            large = (255 * upscale(small, 2, ensemble=ensemble).clamp(0, 1)).round() / 255
            measured.append(luma_psnr(large, image, border=2))
    once, eight = (sum(measured) / len(measured) for measured in values.values())
    stated = weights_card("ch06b_upscale_x2")["quality"]
    assert once == pytest.approx(stated["PSNR x2 (dB)"], abs=0.02)
    assert eight == pytest.approx(stated["PSNR x2, mean over eight positions (dB)"], abs=0.02)
    assert eight > max(37.5, once)


# --- denoising ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [15 / 255, 25 / 255, 50 / 255])
def test_a_photograph_is_cleaned_better_than_by_total_variation_and_non_local_means(sigma):
    network, gains = denoiser(), []
    for name in ("astronaut", "camera", "cat"):
        image = rgb_to_ycbcr(photo(name)[:, 100:228, 100:228])[:1].clamp(0, 1)
        grainy = noisy(image, sigma)
        others = (
            denoise_tv_chambolle(grainy[0].numpy(), weight=0.7 * sigma),
            denoise_nl_means(grainy[0].numpy(), h=0.6 * sigma, sigma=sigma, patch_size=5, patch_distance=6),
        )
        best = max(psnr(torch.from_numpy(other).float()[None], image) for other in others)
        gains.append(psnr(denoise(grainy, sigma, network=network), image) - best)
    assert sum(gains) / len(gains) > 0.2


def test_it_listens_to_the_level():
    network, image = denoiser(), photo("astronaut")[:, 100:228, 100:228]
    scores = {}
    for sigma in (10 / 255, 40 / 255):
        grainy = noisy(image, sigma)
        for told in (10 / 255, 40 / 255):
            scores[sigma, told] = psnr(denoise(grainy, told, network=network), image)
        assert scores[sigma, sigma] == max(value for (real, _), value in scores.items() if real == sigma)
        assert scores[sigma, sigma] > psnr(grainy, image) + 1


# --- latent numbers -----------------------------------------------------------------------------------------


@real("FashionMNIST")
def test_the_vae_has_the_figures_of_its_card_and_edits(monkeypatch):
    monkeypatch.setenv("VLMBOOK_DATA", str(REAL))
    model, quality = fashion_vae(), weights_card("ch06b_fashion_vae")["quality"]
    images, labels = fashion_mnist("test")
    torch.manual_seed(0)
    with torch.no_grad():
        fit, kl = elbo(model, images[:2000])
    assert (fit - kl).mean().item() == pytest.approx(quality["ELBO (nats an image, one draw)"], abs=5)
    latents = encode_images(model, images)
    error = (decode_latents(model, latents) - images).square().mean().item()
    assert error == pytest.approx(quality["squared error of the reconstruction, a pixel"], rel=0.01)
    # From sandals (5) to ankle boots (9): more of the image is bright.
    direction = attribute_direction(latents[labels == 9], latents[labels == 5])
    sandals = images[labels == 5][:200]
    assert edit_along(model, sandals, direction, 1.0).mean() > 1.3 * sandals.mean()
