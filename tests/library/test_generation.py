"""vlmbook.generation: one classifier's features for all generators, and the scores made of them."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.support.no_float64 import RefuseFloat64
from vlmbook import data, generation
from vlmbook.metrics import frechet_distance, precision_recall
from vlmbook.pixel_models import PixelHistogram


@pytest.fixture(scope="module")
def classifier():
    return generation.train_feature_classifier(*data.digits("train"), epochs=3)


def test_the_classifier_names_digits_it_has_not_seen(classifier):
    images, labels = data.digits("test")
    assert (classifier(images).argmax(1) == labels).double().mean() > 0.93
    assert not any(module.training for module in classifier.modules())
    assert not any(parameter.requires_grad for parameter in classifier.parameters())


def test_the_classifier_is_the_same_whatever_was_drawn_before():
    images, labels = data.digits("train")
    some = images[:100], labels[:100]
    torch.manual_seed(3)
    first = generation.train_feature_classifier(*some, epochs=1)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert_close(torch.rand(1), after)  # the global generator was left as it was
    torch.rand(17)
    second = generation.train_feature_classifier(*some, epochs=1)
    other = generation.train_feature_classifier(*some, epochs=1, seed=1)
    assert_close(second.fc.weight, first.fc.weight)
    assert (other.fc.weight - first.fc.weight).abs().max() > 0.01


def test_features_are_what_the_last_layer_reads(classifier):
    images = data.digits("test")[0].repeat(2, 1, 1, 1)  # more than one batch of 500
    features = generation.extract_features(classifier, images)
    assert features.shape == (720, 64)
    assert_close(classifier.fc(features), classifier(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_of_every_floating_dtype_are_taken(classifier, dtype):
    images = data.digits("test")[0][:20]  # sixteenths, which all of them hold
    want = generation.extract_features(classifier, images)
    assert_close(generation.extract_features(classifier, images.to(dtype)), want)


def test_images_need_not_be_square():
    images = torch.rand(20, 3, 7, 12, generator=torch.Generator().manual_seed(0))
    classifier = generation.train_feature_classifier(images, torch.arange(20) % 2, epochs=1)
    assert generation.score(classifier, images, images)["precision"] == 1
    assert generation.extract_features(classifier, images[:0]).shape == (0, 64)


def test_features_are_extracted_without_float64(classifier):
    """`vlmbook.metrics` then moves them to the CPU before it widens them."""
    images = data.digits("test")[0][:20]
    with RefuseFloat64():
        generation.extract_features(classifier, images)


def test_the_score_is_that_of_the_features_and_orders_what_the_eye_orders(classifier):
    images, held_out = data.digits("train")[0], data.digits("test")[0]
    real, other = (generation.extract_features(classifier, x) for x in (held_out, images[:360]))
    best = generation.score(classifier, images[:360], held_out)
    assert best["frechet"] == frechet_distance(real, other)
    assert (best["precision"], best["recall"]) == precision_recall(real, other)
    generator = torch.Generator().manual_seed(0)
    histogram = generation.score(classifier, PixelHistogram(images, 17).sample(360, generator), held_out)
    collapsed = generation.score(classifier, images[:1].expand(360, -1, -1, -1), held_out)
    assert best["frechet"] * 5 < histogram["frechet"] < collapsed["frechet"]
    assert best["precision"] > 0.9 > histogram["precision"]
    assert collapsed["recall"] < 0.02


def test_real_images_of_the_same_classes():
    images, labels = data.digits("train")
    target_labels = data.digits("test")[1]
    chosen = generation.select_same_classes(images, labels, target_labels)
    known = {_as_key(image): label.item() for image, label in zip(images, labels, strict=True)}
    assert [known[_as_key(image)] for image in chosen] == target_labels.tolist()
    assert len({_as_key(image) for image in chosen}) == len(chosen)


def _as_key(image):
    return tuple(image.flatten().tolist())


# Bad input.

IMAGES, LABELS = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"labels": torch.zeros(4)}, TypeError, "labels wants torch.int64, got torch.float32"),
        (
            {"labels": torch.tensor([0, 1, -1, 0])},
            ValueError,
            "labels wants values from 0 to 65535, got from -1",
        ),
        ({"labels": torch.zeros(3).long()}, ValueError, r"labels wants the shape \(4,\), got \(3,\)"),
        ({"images": IMAGES.byte()}, TypeError, "images wants a floating dtype, got torch.uint8"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, ValueError, "at least one element along N"),
        ({"images": IMAGES * math.nan}, ValueError, "images wants finite values"),
        ({"images": IMAGES.to("meta")}, ValueError, "images wants a tensor with values"),
        ({"lr": 10.0}, ValueError, "lr wants a finite number above 0 and of at most 1, got 10"),
        ({"seed": -1}, ValueError, "seed wants a whole number"),
        ({"seed": "0"}, TypeError, "seed wants a whole number"),
    ],
)
def test_a_classifier_needs_images_and_labels(wrong, error, message):
    with pytest.raises(error, match=message):
        generation.train_feature_classifier(**{"images": IMAGES, "labels": LABELS} | wrong)


def test_features_need_a_resnet_in_evaluation_mode_and_its_images(classifier):
    with pytest.raises(TypeError, match="classifier wants a ResNet, got an object of type Linear"):
        generation.extract_features(torch.nn.Linear(1, 1), IMAGES)
    with pytest.raises(ValueError, match=r"images wants the shape \(N, 1, H, W\), got \(4, 3, 8, 8\)"):
        generation.extract_features(classifier, IMAGES.expand(4, 3, 8, 8))
    classifier.layer1.train()
    with pytest.raises(ValueError, match="classifier wants evaluation mode, got training mode"):
        generation.extract_features(classifier, IMAGES)
    classifier.eval()


def test_a_score_needs_as_many_samples_as_held_out_images(classifier):
    with pytest.raises(ValueError, match="samples wants as many images as held_out has, 4, got 3"):
        generation.score(classifier, IMAGES[:3], IMAGES)
    with pytest.raises(ValueError, match="at least 4"):
        generation.score(classifier, IMAGES[:3], IMAGES[:3])


def test_a_class_may_have_too_few_images():
    with pytest.raises(ValueError, match="images wants at least 2 images of class 3, got 1"):
        generation.select_same_classes(IMAGES[:3], torch.tensor([3, 1, 1]), torch.tensor([1, 3, 3]))
