"""Faster R-CNN against torchvision's with the same parameters: detections, losses, gradients, every part."""

import math
from collections import OrderedDict

import pytest
import torch
import torchvision
from torch.testing import assert_close
from torchvision.models.detection.image_list import ImageList

from tests.support.detection import OPTIONS, batch, faster_rcnn, padded_batch, seeded
from vlmbook.data import pad_targets
from vlmbook.detection import (
    FasterRCNN,
    RegionProposalNetwork,
    RoIHeads,
    SmallBackbone,
    as_torchvision,
    roi_align,
)


def torchvisions(ours, image_size=(64, 96)):
    """-> torchvision's twin; its transform would draw a random number for the one size there is."""
    theirs = as_torchvision(ours, image_size)
    theirs.transform.torch_choice = lambda sizes: sizes[0]
    return theirs


SIZES = [(64, 96), (40, 72), (104, 56), (135, 135), (97, 200), (250, 333)]  # 8 divides only three


@pytest.mark.parametrize(("seed", "size"), [(0, (64, 96)), (2, (64, 96)), *((1, size) for size in SIZES)])
def test_it_detects_what_torchvisions_does(seed, size):
    ours = faster_rcnn(seed).eval()
    images = torch.rand(3, 3, *size, generator=seeded(seed))
    with torch.no_grad():
        ours.roi_heads.box_predictor.bbox_pred.weight.mul_(0.3)
        detections = ours(images)
        theirs = torchvisions(ours, size)(list(images))
    assert sum(len(each["boxes"]) for each in detections) > 20
    for ours_of_image, theirs_of_image in zip(detections, theirs, strict=True):
        assert_close(ours_of_image["boxes"], theirs_of_image["boxes"], rtol=1e-4, atol=1e-4)
        assert_close(ours_of_image["scores"], theirs_of_image["scores"], rtol=1e-4, atol=1e-4)
        assert_close(
            ours_of_image["labels"] + 1, theirs_of_image["labels"]
        )  # torchvision's 0 is the background


LOSSES = {
    "objectness": "loss_objectness",
    "anchor offsets": "loss_rpn_box_reg",
    "classes": "loss_classifier",
    "box offsets": "loss_box_reg",
}


@pytest.mark.parametrize(("seed", "size"), [(0, (64, 96)), (1, (64, 96)), (2, (64, 96)), (0, (69, 101))])
def test_it_has_torchvisions_losses_and_gradients(seed, size):
    """From the same seed both draw the same anchors and regions to learn from."""
    ours = faster_rcnn(seed)
    theirs = torchvisions(ours, size)
    images, targets = batch(seed=seed)
    images = torch.nn.functional.pad(images, (0, size[1] - 96, 0, size[0] - 64), value=0.5)
    torch.manual_seed(seed)
    losses = ours(images, *pad_targets(targets))
    torch.manual_seed(seed)
    from_1 = [{"boxes": each["boxes"], "labels": each["labels"] + 1} for each in targets]
    their_losses = theirs(list(images), from_1)
    for name, loss in losses.items():
        assert_close(loss, their_losses[LOSSES[name]], rtol=1e-4, atol=1e-5)
    assert losses["box offsets"] > 0
    assert losses["anchor offsets"] > 0
    sum(losses.values()).backward()
    sum(their_losses.values()).backward()
    parameters = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        message = lambda text, name=name: f"{name}: {text}"  # noqa: E731
        assert_close(p.grad, parameters[name].grad, rtol=1e-3, atol=1e-5, msg=message)


def test_the_twin_is_torchvisions_class_with_our_values_in_memory_of_its_own():
    ours = faster_rcnn()
    theirs = as_torchvision(ours, (64, 96))
    assert type(theirs) is torchvision.models.detection.FasterRCNN
    assert theirs.training
    assert list(theirs.state_dict()) == list(ours.state_dict())
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q), name
        assert p.data_ptr() != q.data_ptr(), name


def test_the_rpns_parts_are_torchvisions():
    ours = faster_rcnn(5).eval()
    theirs = torchvisions(ours)
    images, _ = batch()
    with torch.no_grad():
        x = ours.backbone(images)
        proposals = ours.rpn(x, (8, 8), (64, 96))
        boxes, _ = theirs.rpn(ImageList(images, [(64, 96)] * 3), OrderedDict([("0", x)]))
        logits, offsets = theirs.rpn.head([x])
    assert proposals.logits.shape == (3, 8 * 12 * 6)
    assert proposals.offsets.shape == (3, 8 * 12 * 6, 4)
    assert_close(proposals.logits, logits[0].permute(0, 2, 3, 1).flatten(1))
    assert_close(proposals.offsets, offsets[0].view(3, 6, 4, 8, 12).permute(0, 3, 4, 1, 2).flatten(1, 3))
    for ours_of_image, theirs_of_image, candidates in zip(
        proposals.boxes, boxes, proposals.candidates, strict=True
    ):
        assert_close(ours_of_image, theirs_of_image)
        assert len(ours_of_image) <= 40 < len(candidates) <= 120


@pytest.mark.parametrize("size", [(9, 64), (64, 9), (135, 135), (97, 200), (250, 333)])
def test_anchors_and_regions_have_one_stride_on_images_of_any_size(size):
    """A cell is 8×8 pixels, the last one too; torchvision pools a 9×64 image at another scale."""
    ours = faster_rcnn(1).eval()
    images = torch.rand(1, 3, *size, generator=seeded(2))
    with torch.no_grad():
        stages = ours.stages(images)
        boxes = stages["proposals"].boxes
    rows, columns = -(-size[0] // 8), -(-size[1] // 8)
    assert stages["map"].shape[2:] == (rows, columns)
    assert stages["stride"] == (8, 8)
    last = stages["proposals"].anchors[-1]
    assert ((last[:2] + last[2:]) / 2).tolist() == [8 * (columns - 1), 8 * (rows - 1)]
    assert_close(stages["pooled"], roi_align(stages["map"], boxes, 7, 1 / 8, 2), rtol=1e-4, atol=1e-5)
    for box in boxes[0].tolist():
        assert 0 <= box[0] <= box[2] <= size[1]
        assert 0 <= box[1] <= box[3] <= size[0]


def test_the_stages_follow_one_another():
    ours = faster_rcnn(1).eval()
    images, _ = batch()
    with torch.no_grad():
        stages = ours.stages(images)
    regions = sum(map(len, stages["proposals"].boxes))
    assert stages["map"].shape == (3, 8, 8, 12)
    assert stages["pooled"].shape == (regions, 8, 7, 7)
    assert stages["logits"].shape == (regions, 4)
    assert stages["offsets"].shape == (regions, 16)
    pooled = roi_align(stages["map"], stages["proposals"].boxes, 7, 1 / 8, 2)
    assert_close(stages["pooled"], pooled, rtol=1e-4, atol=1e-5)
    for scores in stages["proposals"].scores:
        assert (scores.diff() <= 0).all()
        assert ((scores > 0) & (scores < 1)).all()


def test_an_untrained_rpn_proposes_on_noise():
    rpn = RegionProposalNetwork(
        8, (16, 32), (1.0,), pre_nms_top_n=100, post_nms_top_n=20, batch_size_per_image=32
    )
    proposals = rpn(torch.randn(1, 8, 8, 8, generator=seeded(0)), (8, 8), (64, 64))
    assert 0 < len(proposals.boxes[0]) <= 20
    assert len(proposals.candidates[0]) == 100


def test_where_nothing_is_proposed_nothing_is_detected():
    model = faster_rcnn(pre_nms_top_n=4, post_nms_top_n=2).eval()
    detections = model(torch.full((2, 3, 32, 48), math.nan))
    assert [len(each["boxes"]) for each in detections] == [0, 0]


def test_losses_of_nothing_are_0():
    classes = torch.zeros(0, dtype=torch.int64)
    losses = RoIHeads.losses(torch.zeros(0, 4), torch.zeros(0, 16), classes, torch.zeros(0, 4))
    assert {name: loss.item() for name, loss in losses.items()} == {"classes": 0, "box offsets": 0}


def test_sizes_of_the_heads():
    model = faster_rcnn()
    assert model.rpn.head.cls_logits.out_channels == 6
    assert model.rpn.head.bbox_pred.out_channels == 24
    assert model.roi_heads.box_predictor.bbox_pred.out_features == 16


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"sizes": ()}, ValueError, "sizes wants numbers above 0"),
        ({"ratios": (-1.0,)}, ValueError, r"ratios\[0\] wants a finite number above 0, got -1"),
        ({"width": 0}, ValueError, "width wants a whole number from 1 to 65536, got 0"),
        ({"pre_nms_top_n": 2.5}, TypeError, "pre_nms_top_n wants a whole number"),
        ({"rpn_batch_size_per_image": 0}, ValueError, "rpn_batch_size_per_image wants"),
        ({"num_classes": 0}, ValueError, "num_classes wants a whole number from 1 to 65536, got 0"),
        ({"num_classes": 2.5}, TypeError, "num_classes wants"),
        ({"box_batch_size_per_image": "8"}, TypeError, "box_batch_size_per_image wants"),
        ({"backbone": "resnet"}, TypeError, "backbone wants a torch module with out_channels, got 'resnet'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, error, sentence):
    arguments = {"backbone": SmallBackbone((4, 8, 8)), "num_classes": 3, **OPTIONS}
    with pytest.raises(error, match=sentence):
        FasterRCNN(**arguments | options)


def test_gradients_reach_every_parameter():
    ours = faster_rcnn()
    sum(ours(*padded_batch()).values()).backward()
    for name, p in ours.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name
