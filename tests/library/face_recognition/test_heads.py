"""The heads against loops and by what they teach."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook.face_recognition import ArcFaceHead, SoftmaxHead, add_angle, triplet_loss


def batch(people=3, images=2, width=8, seed=0, dtype=torch.float32):
    """-> embeddings of length 1, labels."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = F.normalize(torch.randn(people * images, width, generator=generator))
    return embeddings.to(dtype), torch.arange(people).repeat_interleave(images)


# ArcFace.


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.floats(0, 1.5), st.integers(0, 99))
def test_arcface_equals_a_loop_over_angles(people, width, margin, seed):
    torch.manual_seed(seed)
    head = ArcFaceHead(width, people, scale=5.0, margin=margin)
    embeddings = torch.randn(4, width)
    labels = torch.randint(people, (4,))
    logits = head.logits(embeddings, labels).detach()
    for b in range(4):
        for person in range(people):
            w, e = head.weight.detach()[person], embeddings[b]
            cosine = min(1.0, max(-1.0, float(w @ e / (w.norm() * e.norm()))))
            angle = math.acos(cosine)
            expected = cosine
            if person == labels[b]:
                turned = angle + margin
                expected = math.cos(turned) if turned <= math.pi else cosine - margin * math.sin(margin)
            assert abs(float(logits[b, person]) - 5 * expected) < 5e-3


def test_a_margin_lowers_the_logit_of_the_true_person_only():
    embeddings, labels = batch()
    plain, strict = ArcFaceHead(8, 3, margin=0.0), ArcFaceHead(8, 3, margin=0.4)
    strict.load_state_dict(plain.state_dict())
    lowered = plain.logits(embeddings, labels) - strict.logits(embeddings, labels)
    true = F.one_hot(labels, 3).bool()
    assert (lowered[true] > 0).all()
    assert_close(lowered[~true], torch.zeros(12))
    assert_close(plain.logits(embeddings, labels), 16 * plain.cosines(embeddings))


def test_the_logit_falls_with_the_angle_also_beyond_pi():
    cosines = torch.linspace(1, -1, 500)
    turned = add_angle(cosines, 0.5)
    smooth = (cosines[:-1] > -math.cos(0.5)) == (cosines[1:] > -math.cos(0.5))
    assert (turned[1:] < turned[:-1])[smooth].all()


def test_gradients_are_finite_where_the_angle_is_zero():
    head = ArcFaceHead(4, 2)
    embeddings = head.weight.detach().clone().requires_grad_()
    head(embeddings, torch.tensor([0, 1])).backward()
    assert torch.isfinite(embeddings.grad).all() and torch.isfinite(head.weight.grad).all()


def test_gradients_of_arcface_in_float64():
    torch.manual_seed(0)
    head = ArcFaceHead(5, 3).double()
    labels = torch.tensor([0, 2, 1])
    # the loss is computed in float32: the angles are compared with differences by their own
    cosines = (0.8 * torch.rand(3, 3, dtype=torch.float64) - 0.4).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: add_angle(c, 0.3), cosines)
    assert torch.isfinite(head(torch.randn(3, 5, dtype=torch.float64), labels))


# Softmax.


def test_softmax_is_the_cross_entropy_of_a_linear_layer():
    embeddings, labels = batch()
    head = SoftmaxHead(8, 3, scale=7.0)
    expected = F.cross_entropy(7 * embeddings @ head.fc.weight.T + head.fc.bias, labels)
    assert_close(head(embeddings, labels), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", [SoftmaxHead, ArcFaceHead])
def test_a_half_gives_nearly_the_same_loss(kind, dtype):
    torch.manual_seed(0)
    head = kind(8, 3)
    embeddings, labels = batch()
    exact = head(embeddings, labels)
    assert_close(head.to(dtype)(embeddings.to(dtype), labels).float(), exact, rtol=0.05, atol=0.05)


# Triplets.


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 4), st.integers(1, 3), st.floats(0, 2), st.integers(0, 99))
def test_triplet_loss_equals_loops(people, more, margin, seed):
    embeddings, labels = batch(people, more + 1, seed=seed)
    terms = []
    for a in range(len(labels)):
        farthest = max(
            float((embeddings[a] - embeddings[p]).norm())
            for p in range(len(labels))
            if p != a and labels[p] == labels[a]
        )
        nearest = min(
            float((embeddings[a] - embeddings[n]).norm())
            for n in range(len(labels))
            if labels[n] != labels[a]
        )
        terms.append(max(0.0, farthest - nearest + margin))
    expected = sum(terms) / len(terms)
    assert abs(float(triplet_loss(embeddings, labels, margin=margin)) - expected) < 1e-5


def test_a_person_with_one_image_is_no_anchor():
    embeddings, _ = batch(2, 2)
    labels = torch.tensor([0, 0, 1, 2])
    d = torch.cdist(embeddings, embeddings)
    expected = sum(max(0.0, float(d[0, 1] - d[a, 2:].min()) + 0.2) for a in (0, 1)) / 2
    assert abs(float(triplet_loss(embeddings, labels)) - expected) < 1e-5


def test_without_a_triplet_there_is_a_sentence():
    embeddings, _ = batch(2, 2)
    for labels in ([0, 0, 0, 0], [0, 1, 2, 3]):
        with pytest.raises(ValueError, match="labels wants a person with two images and another person"):
            triplet_loss(embeddings, torch.tensor(labels))


def test_gradients_are_finite_where_two_embeddings_are_equal():
    embeddings = torch.ones(4, 3, requires_grad=True)
    triplet_loss(embeddings, torch.tensor([0, 0, 1, 1])).backward()
    assert torch.isfinite(embeddings.grad).all()


# What they teach.


def train(embeddings, loss, parameters, steps=150):
    optimizer = torch.optim.Adam([embeddings, *parameters], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(F.normalize(embeddings)).backward()
        optimizer.step()
    return F.normalize(embeddings.detach())


@pytest.mark.parametrize("kind", ["softmax", "arcface", "triplet"])
def test_each_head_brings_a_person_together(kind):
    start, labels = batch(4, 3, width=6, seed=3)
    torch.manual_seed(0)
    head = {"softmax": SoftmaxHead, "arcface": ArcFaceHead}.get(kind, lambda *_: None)(6, 4)
    if head is None:
        parameters, loss = [], lambda e: triplet_loss(e, labels)
    else:
        parameters, loss = head.parameters(), lambda e: head(e, labels)
    end = train(start.clone().requires_grad_(), loss, parameters)
    same = labels[:, None] == labels
    own = same & ~torch.eye(12, dtype=torch.bool)
    before, after = torch.cdist(start, start), torch.cdist(end, end)
    assert before[own].mean() > 0.8 * before[~same].mean()
    assert after[own].mean() < 0.6 * after[~same].mean()


def test_labels_and_embeddings_are_checked():
    embeddings, labels = batch()
    head = ArcFaceHead(8, 3)
    with pytest.raises(ValueError, match="labels wants values from 0 to 2"):
        head(embeddings, labels + 1)
    with pytest.raises(ValueError, match=r"embeddings wants the shape \(B, 8\)"):
        head(embeddings[:, :5], labels)
    with pytest.raises(ValueError, match=r"labels wants the shape \(6,\)"):
        head(embeddings, labels[:4])
