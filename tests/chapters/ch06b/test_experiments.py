"""The experiments of chapter 6b: how images are spoiled and measured, and what two mistakes do."""

import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import nn
from torch.testing import assert_close

from vlmbook import data, editing
from vlmbook.chapters.ch06a.experiments import open_onnx
from vlmbook.chapters.ch06b import experiments
from vlmbook.chapters.ch06b.painting import paint_whirls
from vlmbook.editing.quality import HOLES


@pytest.fixture(scope="module")
def photographs():
    return list(experiments.cut_photos(("coffee", "rocket"), 96).values())


def test_training_and_held_out_photographs_are_others():
    assert not set(experiments.TRAINING) & set(experiments.HELD_OUT)
    assert set(experiments.TRAINING + experiments.HELD_OUT) <= set(data.photo_names())


def test_the_middle_has_sides_that_four_divides():
    image = torch.rand(3, 51, 77)
    middle = experiments.cut_middle(image, 40)
    assert middle.shape == (3, 40, 40) and torch.equal(middle, image[:, 5:45, 18:58])
    assert experiments.cut_middle(image, 400).shape == (3, 48, 76)


def test_blur_is_a_gaussian_filter():
    image = torch.rand(2, 20, 31, dtype=torch.float64)
    want = ndimage.gaussian_filter(image.numpy(), (0, 1.3, 1.3), mode="nearest", radius=(0, 4, 4))
    assert_close(experiments.blur(image, 1.3), torch.from_numpy(want))
    assert torch.equal(experiments.blur(image, 0), image)


def test_a_jpeg_of_high_quality_is_nearer():
    image = data.photo("coffee")[:, :64, :96]
    assert editing.psnr(experiments.compress(image, 95), image) > 34
    assert editing.psnr(experiments.compress(image, 10), image) < 30


# --- enlarging ----------------------------------------------------------------------------------------------


def test_the_gain_of_interpolation_over_itself_is_zero_and_a_better_method_gains(photographs):
    gains = experiments.measure_degradations(
        lambda small: editing.enlarge_bicubic(small, 2).clamp(0, 1), photographs
    )
    assert set(gains) == set(experiments.DEGRADATIONS)
    assert all(values == [0.0, 0.0] for values in gains.values())
    network = editing.upscaler()
    better = experiments.measure_degradations(
        lambda small: editing.upscale(small, 2, network=network), photographs
    )
    assert min(better["as in training"]) > 0.5 > max(better["noise, σ = 10/255"])


def test_the_table_holds_what_the_measures_say(photographs):
    methods = {"bicubic": lambda small: editing.enlarge_bicubic(small, 2).clamp(0, 1)}
    table = experiments.measure_upscaling(methods, photographs)
    small = experiments.shrink(photographs[1])
    large = (255 * editing.enlarge_bicubic(small, 2).clamp(0, 1)).round() / 255
    assert table["bicubic"]["PSNR"][1] == editing.luma_psnr(large, photographs[1], border=2)
    assert table["bicubic"]["SSIM"][1] == editing.ssim(large, photographs[1])


def test_an_untrained_variant_without_a_shortcut_is_no_interpolation():
    image = torch.rand(1, 1, 9, 11)
    complete = experiments._Variant()
    assert_close(complete(image), editing.enlarge_bicubic(image, 2))
    nn.init.normal_(complete.last.weight)
    without = experiments._Variant(interpolation=False)
    without.load_state_dict(complete.state_dict())
    assert complete(image).shape == (1, 1, 18, 22)
    assert_close(complete(image) - without(image), editing.enlarge_bicubic(image, 2))


def test_all_variants_are_trained(photographs):
    gains = experiments.ablate_upscaler(photographs, photographs, count=64, seeds=(0,))
    assert set(gains) == set(experiments.ABLATIONS) and all(len(values) == 1 for values in gains.values())
    assert gains["no bicubic shortcut"][0] < gains["complete"][0] - 3


# --- filling ------------------------------------------------------------------------------------------------


def test_the_list_holds_the_psnr_of_each_photograph(photographs):
    scores = editing.measure_inpainting(photographs, {"mean": experiments.fill_with_mean}, each=2)
    listed = experiments.list_psnr(scores)
    assert set(listed) == set(scores)
    for kind, fillings in scores.items():
        assert listed[kind]["mean"] == fillings["mean"].psnr.tolist() and len(listed[kind]["mean"]) == 2


def test_the_mean_is_that_of_the_known_pixels():
    image = torch.zeros(3, 4, 4)
    image[:, 2:] = torch.tensor([0.2, 0.4, 0.8]).view(3, 1, 1)
    mask = torch.zeros(1, 4, 4)
    mask[:, 0] = 1
    filled = experiments.fill_with_mean(image, mask)
    assert_close(filled[:, 0], (torch.tensor([0.2, 0.4, 0.8]) * 8 / 12).view(3, 1).expand(3, 4))
    assert torch.equal(filled[:, 1:], image[:, 1:])


def test_every_denoiser_beats_the_noisy_image_and_gets_the_same_noise(photographs):
    seen = []

    def leave(image, sigma):
        seen.append((image, sigma))
        return image

    methods = {
        "noisy": leave,
        "means": experiments.denoise_by_means,
        "variation": experiments.denoise_by_variation,
    }
    table = experiments.measure_denoising(methods, photographs, levels=(25,))[25]
    assert [sigma for _, sigma in seen] == [25 / 255] * 2
    for name in ("means", "variation"):
        assert all(clean > noisy + 1 for clean, noisy in zip(table[name], table["noisy"], strict=True))


def test_generated_clothes_are_what_their_class_says():
    trousers, bags = (experiments.draw_clothes(label, 6).mean(0)[0] for label in (1, 8))
    assert trousers.shape == (28, 28)
    gap, outside = trousers[18:26, 13:15].mean(), trousers[:, :5].mean()
    assert gap < trousers[18:26, 9:12].mean() and outside < 0.1 < bags[:, :5].mean()


# --- measures -----------------------------------------------------------------------------------------------


def test_all_distortions_have_the_psnr_that_was_asked_for(photographs):
    for target in (24.0, 28.0):
        matched = experiments.match_psnr(photographs[0], target)
        assert set(matched) == set(experiments.DISTORTIONS)
        for image in matched.values():
            assert editing.psnr(image, photographs[0]) == pytest.approx(target, abs=0.05)


def test_each_severity_is_worse_than_the_one_before(photographs):
    table = experiments.sweep_severity(photographs[0], None)
    for values in table.values():
        for row in values.values():
            assert row == sorted(row, reverse=True)


# --- two mistakes -------------------------------------------------------------------------------------------


def test_the_slant_of_a_turned_bar_is_its_angle():
    bar = torch.zeros(1, 1, 33, 33)
    bar[:, :, 4:29, 15:18] = 1
    assert experiments.measure_slant(bar).abs() < 0.1
    for degrees in (-40.0, 15.0, 30.0):
        turned = experiments.rotate_images(bar, torch.tensor([degrees]))
        assert experiments.measure_slant(turned).abs().item() == pytest.approx(abs(degrees), abs=1.5)
    both = experiments.rotate_images(bar.repeat(2, 1, 1, 1), torch.tensor([-20.0, 20.0]))
    first, second = experiments.measure_slant(both)
    assert first * second < 0


def test_samples_of_upright_ones_are_upright_and_those_of_turned_ones_are_turned():
    spreads = []
    for largest in (0.0, 45.0):
        turned, samples = experiments.sample_ones(largest, n=150)
        assert samples.shape == (150, 1, 16, 16) and 0 <= samples.min() and samples.max() <= 1
        spreads.append(experiments.measure_slant(samples).std())
        assert experiments.measure_slant(turned).std() == pytest.approx(spreads[-1].item(), rel=0.2)
    assert spreads[1] > 2 * spreads[0]


def test_a_discriminator_that_is_trained_longer_raises_the_loss_of_the_same_generator():
    found = experiments.follow_discriminator(steps=(0, 200), seeds=(0,))
    [generator], [discriminator] = found["generator's loss"], found["discriminator's loss"]
    assert generator[1] > generator[0] + 0.1 and discriminator[1] < discriminator[0] - 0.1


# --- deployment, painting -----------------------------------------------------------------------------------


def test_the_exported_network_adds_the_same_detail_at_every_size(tmp_path):
    network = editing.upscaler()
    experiments.export_upscaler(network, tmp_path / "net.onnx")
    run = open_onnx(tmp_path / "net.onnx")
    for height, width in ((24, 40), (33, 17)):
        x = torch.rand(1, 1, height, width)
        want = network(x).detach() - editing.enlarge_bicubic(x, 2)
        assert_close(run(x), want, rtol=1e-4, atol=1e-5)
        assert_close(experiments.AddedDetail(network)(x).detach(), want, rtol=1e-4, atol=1e-5)


def test_sets_are_measured_in_the_full_profile_where_they_are(monkeypatch, tmp_path):
    folder = tmp_path / "superres" / "Set5"
    folder.mkdir(parents=True)
    pixels = (255 * data.photo("coffee")[:, 100:196, 200:320]).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(folder / "cup.png")
    monkeypatch.setenv("VLMBOOK_DATA", str(tmp_path))
    upscalers = {"bicubic": lambda small: editing.enlarge_bicubic(small, 2)}
    assert experiments.measure_sets(upscalers, {}) == {}
    monkeypatch.setenv("VLMBOOK_PROFILE", "full")
    measured = experiments.measure_sets(upscalers, {"mean": experiments.fill_with_mean})
    x2, x4 = (measured[f"set5_x{factor}"] for factor in (2, 4))
    assert x2["bicubic"]["PSNR"][0] > x4["bicubic"]["PSNR"][0] and "shipped weights" in x4
    assert set(measured["set5_filling"]) == set(HOLES)
    monkeypatch.setenv("VLMBOOK_DATA", str(tmp_path / "nothing"))
    assert experiments.measure_sets(upscalers, {}) == {}


def test_the_painting_has_strokes_along_the_wind():
    painting = paint_whirls(64)
    assert painting.shape == (3, 64, 64) and 0 <= painting.min() and painting.max() <= 1
    assert torch.equal(painting, paint_whirls(64)) and not torch.equal(painting, paint_whirls(64, seed=1))
    assert painting[2].mean() > painting[0].mean()  # more blue than red
