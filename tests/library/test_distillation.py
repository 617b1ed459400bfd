"""The losses against loops and PyTorch's own; then properties of every correct one: a teacher without a
gradient, a gradient whose size T² keeps, label smoothing as a special case; and a student that does learn
from its teacher."""

import inspect
import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support.no_float64 import RefuseFloat64
from vlmbook.data import digits
from vlmbook.distillation import (
    UNKNOWN,
    attention_map,
    attention_transfer_loss,
    distill,
    distillation_loss,
    fitnets_loss,
    predict_logits,
    soft_labels,
    soft_loss,
    train_born_again,
)
from vlmbook.resnet import BasicBlock, ResNet

EXACT = {"rtol": 1e-10, "atol": 1e-10}
shapes = {
    "batch": st.integers(1, 5),
    "classes": st.integers(1, 7),
    "further": st.lists(st.integers(1, 3), max_size=2),
    "temperature": st.sampled_from([0.3, 1, 2.5, 8, 30.0]),
    "seed": st.integers(0, 2**31),
}


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randint(high, *shape, seed=0):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def values_and_gradients(loss, *leaves):
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    value = loss(*leaves)
    return [value, *torch.autograd.grad(value, leaves)]


# Loops.


def softened_loops(z, temperature):
    """(K,) -> list of K numbers."""
    powers = [math.exp(float(each) / temperature) for each in z]
    return [power / sum(powers) for power in powers]


def rows(logits):
    """(B, K, …) -> (B · …, K): one row a position."""
    return logits.movedim(1, -1).flatten(0, -2)


def loss_loops(student, teacher, labels, temperature, alpha):
    """-> float, one number after the other."""
    soft, hard, known = 0.0, 0.0, 0
    for z_s, z_t, y in zip(rows(student), rows(teacher), labels.flatten().tolist(), strict=True):
        p, q = softened_loops(z_t, temperature), softened_loops(z_s, temperature)
        soft += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        if y != UNKNOWN:
            hard, known = hard - math.log(softened_loops(z_s, 1)[y]), known + 1
    return (1 - alpha) * hard / max(known, 1) + alpha * temperature**2 * soft / labels.numel()


@settings(max_examples=60, deadline=None)
@given(**shapes)
def test_soft_labels_are_those_of_the_loop(batch, classes, further, temperature, seed):
    z = randn(batch, classes, *further, seed=seed)
    found = soft_labels(z, temperature)
    assert found.shape == z.shape
    for ours, each in zip(rows(found), rows(z), strict=True):
        assert_close(ours, torch.tensor(softened_loops(each, temperature), dtype=torch.float64), **EXACT)


@settings(max_examples=60, deadline=None)
@given(**shapes, alpha=st.sampled_from([0, 0.25, 0.9, 1]), unknown=st.booleans())
def test_the_loss_is_that_of_the_loop(batch, classes, further, temperature, seed, alpha, unknown):
    student, teacher = (randn(batch, classes, *further, seed=seed + i) for i in range(2))
    labels = randint(classes, batch, *further, seed=seed)
    if unknown:
        labels[randint(2, batch, *further, seed=seed + 1).bool()] = UNKNOWN
    found = distillation_loss(student, teacher, labels, temperature=temperature, alpha=alpha)
    assert found.shape == () and found.dtype == torch.float64
    assert_close(found.item(), loss_loops(student, teacher, labels, temperature, alpha), **EXACT)
    assert_close(
        soft_loss(student, teacher, temperature=temperature).item(),
        loss_loops(student, teacher, labels, temperature, 1),
        **EXACT,
    )


@settings(max_examples=40, deadline=None)
@given(**shapes)
def test_values_and_gradients_are_those_of_pytorchs_losses(batch, classes, further, temperature, seed):
    student, teacher = (randn(batch, classes, *further, seed=seed + i) for i in range(2))
    labels, count = randint(classes, batch, *further, seed=seed), batch * math.prod(further)

    def theirs(z):
        soft = (
            F.kl_div(
                (z / temperature).log_softmax(1),
                (teacher / temperature).log_softmax(1),
                log_target=True,
                reduction="sum",
            )
            / count
        )
        return 0.3 * F.cross_entropy(z, labels) + 0.7 * temperature**2 * soft

    ours = values_and_gradients(
        lambda z: distillation_loss(z, teacher, labels, temperature=temperature, alpha=0.7), student
    )
    assert_close(ours, values_and_gradients(theirs, student), **EXACT)


def test_gradients_are_those_of_finite_differences():
    student, teacher, labels = (
        randn(3, 4).requires_grad_(),
        randn(3, 4, seed=1),
        torch.tensor([0, UNKNOWN, 3]),
    )
    assert torch.autograd.gradcheck(
        lambda z: distillation_loss(z, teacher, labels, temperature=3, alpha=0.4), student
    )
    maps = randn(2, 3, 4, 5).requires_grad_(), randn(2, 6, 4, 5, seed=1)
    assert torch.autograd.gradcheck(lambda v: attention_transfer_loss(v, maps[1]), maps[0])
    regressor = nn.Conv2d(3, 6, 1).double()
    assert torch.autograd.gradcheck(lambda v: fitnets_loss(v, maps[1], regressor), maps[0])


def test_the_soft_gradient_is_the_difference_of_the_soft_labels():
    student, teacher = randn(5, 7), randn(5, 7, seed=1)
    for temperature in (0.5, 1, 4):
        _, slope = values_and_gradients(
            lambda z, t=temperature: soft_loss(z, teacher, temperature=t), student
        )
        apart = soft_labels(student, temperature) - soft_labels(teacher, temperature)
        assert_close(slope, temperature * apart / 5, **EXACT)  # Hinton et al., eq. 2, times T²


# Invariants.


def test_at_a_high_temperature_the_gradient_is_that_of_centred_logits():
    student, teacher = 3 * randn(5, 7), 3 * randn(5, 7, seed=1)
    _, slope = values_and_gradients(lambda z: soft_loss(z, teacher, temperature=1000), student)
    centred = [z - z.mean(1, keepdim=True) for z in (student, teacher)]
    assert_close(slope, (centred[0] - centred[1]) / 7 / 5, rtol=1e-2, atol=1e-4)  # 7 classes, 5 images


def test_no_gradient_reaches_the_teacher():
    student, teacher, labels = (
        randn(3, 4).requires_grad_(),
        randn(3, 4, seed=1).requires_grad_(),
        randint(4, 3),
    )
    small, large = randn(2, 3, 4, 4).requires_grad_(), randn(2, 5, 4, 4, seed=1).requires_grad_()
    losses = [
        soft_loss(student, teacher, temperature=2),
        fitnets_loss(small, large, nn.Conv2d(3, 5, 1).double()),
        distillation_loss(student, teacher, labels, temperature=2, alpha=0.5),
        attention_transfer_loss(small, large),
    ]
    for loss in losses:
        loss.backward()
    assert teacher.grad is None and large.grad is None
    assert student.grad.abs().max() > 1e-3 and small.grad.abs().max() > 1e-6


@settings(max_examples=30, deadline=None)
@given(**shapes)
def test_the_soft_loss_is_zero_only_where_both_say_the_same(batch, classes, further, temperature, seed):
    student, teacher = (randn(batch, classes, *further, seed=seed + i) for i in range(2))
    shift = randn(batch, 1, *further, seed=seed + 2)
    value, slope = values_and_gradients(
        lambda z: soft_loss(z, teacher, temperature=temperature), teacher + shift
    )
    assert abs(value) < 1e-10 and slope.abs().max() < 1e-10
    assert (soft_loss(student, teacher, temperature=temperature) > 1e-12) == (classes > 1)


def test_rows_classes_and_shifts_do_not_matter():
    student, teacher, labels = randn(6, 5), randn(6, 5, seed=1), randint(5, 6)
    loss = distillation_loss(student, teacher, labels, temperature=3, alpha=0.6)
    order, classes = torch.randperm(6), torch.tensor([3, 0, 4, 1, 2])
    for changed in (
        (student[order], teacher[order], labels[order]),
        (student + 2, teacher - randn(6, 1), labels),
        (student[:, classes], teacher[:, classes], classes.argsort()[labels]),
    ):
        assert_close(distillation_loss(*changed, temperature=3, alpha=0.6), loss, **EXACT)


def test_alpha_goes_from_the_labels_alone_to_the_teacher_alone():
    student, teacher, labels = randn(6, 5), randn(6, 5, seed=1), randint(5, 6)
    ends = [distillation_loss(student, teacher, labels, temperature=3, alpha=alpha) for alpha in (0, 1, 0.3)]
    assert_close(ends[0], F.cross_entropy(student, labels), **EXACT)
    assert_close(ends[1], soft_loss(student, teacher, temperature=3), **EXACT)
    assert_close(ends[2], 0.7 * ends[0] + 0.3 * ends[1], **EXACT)
    assert ends[0] != ends[1]


def test_label_smoothing_is_a_teacher_that_knows_nothing():
    student, labels = randn(6, 5), randint(5, 6)
    _, ours = values_and_gradients(
        lambda z: distillation_loss(z, torch.zeros(6, 5).double(), labels, temperature=1, alpha=0.2), student
    )
    _, theirs = values_and_gradients(lambda z: F.cross_entropy(z, labels, label_smoothing=0.2), student)
    assert_close(ours, theirs, **EXACT)


def test_temperature_flattens():
    z = 4 * randn(50, 10)
    p = [soft_labels(z, temperature) for temperature in (1e-3, 1, 3, 1e6)]
    entropy = [torch.special.entr(each).sum(1) for each in p]
    assert (entropy[0] < entropy[1]).all() and (entropy[1] < entropy[2]).all()
    assert_close(p[0], F.one_hot(z.argmax(1), 10).double(), rtol=0, atol=1e-6)
    assert_close(p[3], torch.full_like(z, 0.1), rtol=0, atol=1e-5)
    assert all(torch.equal(each.argsort(1), z.argsort(1)) for each in p[1:])


def test_labels_that_are_unknown_count_nothing():
    student, teacher, labels = randn(6, 5), randn(6, 5, seed=1), randint(5, 6)
    labels[2:] = UNKNOWN
    loss = distillation_loss(student, teacher, labels, temperature=2, alpha=0.4)
    soft = soft_loss(student, teacher, temperature=2)
    assert_close(loss, 0.6 * F.cross_entropy(student[:2], labels[:2]) + 0.4 * soft, **EXACT)
    labels[:] = UNKNOWN
    value, slope = values_and_gradients(
        lambda z: distillation_loss(z, teacher, labels, temperature=2, alpha=0.4), student
    )
    assert_close(value, 0.4 * soft, **EXACT)
    assert slope.isfinite().all()


def test_a_class_that_the_teacher_excludes_is_no_trouble():
    student, teacher = randn(4, 5), randn(4, 5, seed=1)
    teacher[:, 2] = -math.inf
    value, slope = values_and_gradients(lambda z: soft_loss(z, teacher, temperature=2), student)
    assert value.isfinite() and slope.isfinite().all() and (slope[:, 2] > 0).all()  # down with it


# Temperatures near 0 and far above 1; half precision.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-30, 1e-12, 1e-4])
def test_near_0_soft_labels_are_one_hot_and_ties_share(dtype, temperature):
    z = torch.tensor([[100.0, 2, -3], [0.5, 0.5, 0], [-20, -60, -60]], dtype=dtype)
    p = soft_labels(z, temperature)
    assert_close(p, torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [1, 0, 0]], dtype=p.dtype))


def test_near_0_logits_may_be_large():
    z = torch.tensor([[2e9, 1e9, -5e9]])  # over 1e-30 they would be infinite
    assert_close(soft_labels(z, 1e-30), torch.tensor([[1.0, 0, 0]]))
    value, slope = values_and_gradients(lambda z: soft_loss(z, -z.detach(), temperature=1e-30), z)
    assert value.isfinite() and slope.isfinite().all()


@pytest.mark.parametrize("temperature", [1e-30, 1e-12, 1e-4])
def test_near_0_the_soft_loss_and_its_gradient_go_to_0(temperature):
    student, teacher = (100 * randn(4, 5, seed=seed).float() for seed in range(2))
    value, slope = values_and_gradients(lambda z: soft_loss(z, teacher, temperature=temperature), student)
    largest = 1000 * temperature  # T² KL is T times a difference of logits
    assert 0 <= value <= largest and slope.abs().max() <= temperature


@pytest.mark.parametrize(("temperature", "digits"), [(0.01, 5), (1, 5), (10, 4), (100, 2.5), (1000, 0.7)])
def test_float32_keeps_the_digits_that_the_docstring_says(temperature, digits):
    student, teacher = (randn(500, 10, seed=seed) for seed in range(2))
    exact = values_and_gradients(lambda z: soft_loss(z, teacher, temperature=temperature), student)
    single = values_and_gradients(
        lambda z: soft_loss(z, teacher.float(), temperature=temperature), student.float()
    )
    assert abs(single[0].double() / exact[0] - 1) < 10**-digits
    assert (single[1].double() - exact[1]).norm() < 1e-3 * exact[1].norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_half_precision_are_those_of_float64(dtype):
    student, teacher = (5 * randn(64, 10, seed=seed) for seed in range(2))
    student, teacher, labels = student.to(dtype), teacher.to(dtype), randint(10, 64)
    for temperature in (0.01, 1, 100):
        options = {"temperature": temperature, "alpha": 0.5}
        loss = distillation_loss(student, teacher, labels, **options)
        assert loss.dtype == torch.float32
        exact = distillation_loss(student.double(), teacher.double(), labels, **options)
        assert_close(loss.double(), exact, rtol=1e-3, atol=1e-4)
    maps = randn(2, 3, 4, 6).to(dtype), randn(2, 3, 4, 6, seed=1).to(dtype)
    for loss in (attention_transfer_loss, lambda *maps: fitnets_loss(*maps, nn.Identity())):
        assert loss(*maps).dtype == torch.float32
        assert_close(loss(*maps).double(), loss(*(each.double() for each in maps)), rtol=1e-3, atol=1e-4)
    large = torch.full((1, 2, 8, 16), 300.0, dtype=dtype)  # whose squares are infinite in float16
    assert_close(attention_map(large), torch.full((1, 8, 16), 128**-0.5))


def test_a_teacher_may_be_of_another_dtype():
    student, teacher, labels = randn(64, 10).half(), randn(64, 10, seed=1), randint(10, 64)
    loss = distillation_loss(student, teacher, labels, temperature=2, alpha=0.5)
    exact = distillation_loss(student.double(), teacher, labels, temperature=2, alpha=0.5)
    assert loss.dtype == torch.float32
    assert_close(loss.double(), exact, rtol=1e-4, atol=1e-5)


def test_nothing_is_float64_unless_it_came_in():
    student, teacher, labels = torch.randn(4, 5).requires_grad_(), torch.randn(4, 5), randint(5, 4)
    maps = torch.randn(2, 3, 4, 6).requires_grad_(), torch.randn(2, 3, 4, 6)
    images = torch.rand(4, 1, 8, 8)
    with RefuseFloat64():
        for temperature in (2, 0.5, np.float64(2), torch.tensor(2)):
            options = {"temperature": temperature, "alpha": 0.5}
            distillation_loss(student, teacher, labels, **options).backward()
        attention_transfer_loss(*maps).backward()
        fitnets_loss(*maps, nn.Conv2d(3, 3, 1)).backward()
        predict_logits(net(), images)
        settings = {"epochs": 1, "batch_size": 2, "lr": 0.01, "progress": False}
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
        distill(model, images, labels, teacher, temperature=2, alpha=0.5, **settings)


# Features.


def test_fitnets_is_half_the_mean_square_in_a_loop():
    small, large, regressor = randn(2, 3, 4, 5), randn(2, 6, 4, 5, seed=1), nn.Conv2d(3, 6, 1).double()
    found, total = fitnets_loss(small, large, regressor), 0.0
    for b, d, i, j in product(range(2), range(6), range(4), range(5)):
        fitted = regressor.bias[d] + sum(regressor.weight[d, c, 0, 0] * small[b, c, i, j] for c in range(3))
        total += (large[b, d, i, j] - fitted).item() ** 2 / 2
    assert_close(found.item(), total / (2 * 6 * 4 * 5), **EXACT)
    found.backward()
    assert regressor.weight.grad.abs().max() > 1e-3  # the regressor learns, too


def test_a_regressor_may_change_the_size():
    small, large = randn(2, 3, 8, 8), randn(2, 6, 4, 4, seed=1)
    assert fitnets_loss(small, large, nn.Conv2d(3, 6, 2, stride=2).double()).isfinite()


def test_attention_maps_are_those_of_a_loop():
    features = randn(2, 3, 4, 5)
    found = attention_map(features)
    assert found.shape == (2, 4, 5)
    for b in range(2):
        q = torch.stack(
            [
                torch.stack([sum(features[b, c, i, j] ** 2 for c in range(3)) for j in range(5)])
                for i in range(4)
            ]
        )
        assert_close(found[b], q / math.sqrt(sum(float(each) ** 2 for each in q.flatten())), **EXACT)
    assert_close(attention_map(7 * features[:, [2, 0, 1]]), found, **EXACT)  # neither scale nor order
    assert attention_map(torch.zeros(1, 3, 4, 4)).abs().max() == 0


def test_attention_transfer_is_the_distance_of_the_maps():
    small, large = randn(2, 3, 4, 5), randn(2, 6, 4, 5, seed=1)
    expected = sum((attention_map(small)[b] - attention_map(large)[b]).norm() ** 2 / 2 for b in range(2)) / 2
    assert_close(attention_transfer_loss(small, large), expected, **EXACT)
    assert (
        attention_transfer_loss(small, 3 * small.flip(1))
        < 1e-20
        < attention_transfer_loss(small, small.flip(2))
    )


# A teacher that predicts once, students, generations.


def net(width=4, channels=1):
    return ResNet(BasicBlock, (1, 1), 10, channels, width=width, small=True)


def test_predict_logits_runs_in_evaluation_mode_and_puts_the_modes_back():
    torch.manual_seed(0)
    model, x = nn.Sequential(net(), nn.Dropout(0.5)), torch.rand(7, 1, 8, 8)
    model[0].bn1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = predict_logits(model, x, batch_size=3)
    assert model.training and model[1].training and not model[0].bn1.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert found.shape == (7, 10) and not found.requires_grad
    assert_close(found, model.eval()(x).detach())
    assert predict_logits(nn.Flatten(), x).shape == (7, 64)  # without parameters, too


def test_predict_logits_puts_the_modes_back_when_the_model_fails():
    model = net().train()
    with pytest.raises(ValueError, match=r"shape|channels"):
        predict_logits(model, torch.rand(2, 3, 8, 8))
    assert model.training


def test_one_batch_is_learned_from_the_teacher_alone():
    images = digits("train")[0][:32]
    generator = torch.Generator().manual_seed(1)
    teacher_logits = 4 * torch.randn(32, 10, generator=generator)  # independent of the labels
    torch.manual_seed(0)
    student = net(8)
    labels = torch.full((32,), UNKNOWN)
    history = distill(
        student,
        images,
        labels,
        teacher_logits,
        temperature=2,
        alpha=1,
        epochs=200,
        batch_size=32,
        lr=0.02,
        progress=False,
    )
    assert history.losses[-1] < 0.05 * history.losses[0]
    predicted = student.train()(images)  # as it was trained: this batch's own mean
    assert (predicted.argmax(1) == teacher_logits.argmax(1)).float().mean() > 0.95
    assert (soft_labels(predicted, 2) - soft_labels(teacher_logits, 2)).abs().mean() < 0.02


def test_distil_hands_temperature_alpha_and_settings_on():
    images, labels = (part[:64] for part in digits("train"))
    teacher_logits = torch.randn(64, 10, generator=torch.Generator().manual_seed(1))
    for temperature, alpha in ((1, 0.5), (4, 0.5), (4, 0.1)):
        torch.manual_seed(0)
        student = net().train()
        expected = distillation_loss(
            student(images), teacher_logits, labels, temperature=temperature, alpha=alpha
        )
        torch.manual_seed(0)
        history = distill(
            net(),
            images,
            labels,
            teacher_logits,
            temperature=temperature,
            alpha=alpha,
            epochs=1,
            batch_size=64,
            lr=0.1,
            progress=False,
        )
        assert history.losses == pytest.approx([expected.item()], rel=1e-4)


def test_a_resumed_distillation_has_the_same_teacher_and_the_same_loss(tmp_path):
    images, labels, logits = torch.rand(8, 1, 4, 4), torch.arange(8) % 5, torch.randn(8, 5)
    settings = {"epochs": 1, "batch_size": 4, "lr": 0.1, "progress": False, "checkpoint": tmp_path / "a.st"}

    def run(logits=logits, temperature=2, alpha=0.5, resume=True):
        torch.manual_seed(0)
        student = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
        weights = {"temperature": temperature, "alpha": alpha}
        return distill(student, images, labels, logits, **weights, **settings, resume=resume)

    first = run(resume=False)
    assert run().losses == first.losses
    for other in ({"logits": logits + 1}, {"temperature": 3}, {"alpha": 0.7}):
        with pytest.raises(ValueError, match=r"another loss|other data"):
            run(**other)


def test_generations_learn_from_one_another():
    images, labels = (part[:200] for part in digits("train"))
    options = {"epochs": 6, "batch_size": 50, "lr": 0.02, "progress": False, "temperature": 2}
    torch.manual_seed(0)
    first, second, third = train_born_again(net, images, labels, generations=3, alpha=1, **options)
    assert len({id(model) for model in (first, second, third)}) == 3 and not first.training
    names = [{name: p.shape for name, p in model.named_parameters()} for model in (first, second, third)]
    assert names[0] == names[1] == names[2]
    logits = [predict_logits(model, images) for model in (first, second, third)]
    torch.manual_seed(0)  # each generation by hand, from the logits of the one before
    for generation, model in enumerate((first, second, third)):
        student = net()
        distill(student, images, labels, logits[max(generation - 1, 0)], alpha=min(generation, 1), **options)
        assert_close(student.state_dict(), model.state_dict())
    assert not torch.equal(logits[0], logits[1])


def test_the_signature_is_that_of_the_book():
    parameters = inspect.signature(distillation_loss).parameters
    assert list(parameters) == ["student_logits", "teacher_logits", "labels", "temperature", "alpha"]
    assert {p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY} == {"temperature", "alpha"}


# Bad input: one sentence that names the argument.


Z = torch.zeros(4, 5)
Y = torch.zeros(4, dtype=torch.int64)
M = torch.ones(2, 3, 4, 4)
T = {"temperature": 2}


def numbers(name, values, bounds):
    """A number that is refused, and the sentence: TypeError for what is no number."""
    wrong_type = (True, "2", None)
    return [
        (v, TypeError if v in wrong_type else ValueError, f"{name} wants a finite number {bounds}, got ")
        for v in values
    ]


def logits(name):
    return [
        (Z.long(), TypeError, f"{name} wants a floating dtype, got torch.int64"),
        (Z.tolist(), TypeError, rf"{name} wants a torch.Tensor \(.*\), got an object of type list"),
        (Z[0], ValueError, rf"{name} wants the shape \(.*\), got \(5,\)"),
        (Z[:0], ValueError, rf"{name} wants .*\(.*\), got \(0, 5\)"),
        (Z[:, :0], ValueError, rf"{name} wants .*\(.*\), got \(4, 0\)"),
    ]


def maps(name):
    return [
        (M.long(), TypeError, f"{name} wants a floating dtype, got torch.int64"),
        (M.numpy(), TypeError, rf"{name} wants a torch.Tensor \(., ., ., .\), got a NumPy ndarray"),
        (M[0], ValueError, rf"{name} wants the shape \(.*\), got \(3, 4, 4\)"),
        (M[:0], ValueError, rf"{name} wants .*\(.*\), got \(0, 3, 4, 4\)"),
    ]


COLD = (0, -1.0, 1e-31, math.nan, math.inf, True, "2", None)
TEMPERATURES = numbers("temperature", COLD, "of at least 1e-30")
LOSS_TEMPERATURES = numbers("temperature", (*COLD, 1001, 1e200), "from 1e-30 to 1000")
ALPHAS = numbers("alpha", (-0.1, 1.1, math.nan, True, "2", None), "from 0 to 1")
LABELS = [
    (Y.float(), TypeError, r"labels \(-100 where unknown\) wants torch.int64, got torch.float32"),
    (Y.int(), TypeError, "wants torch.int64, got torch.int32"),
    ([0] * 4, TypeError, r"wants a torch.Tensor \(4,\), got \[0, 0, 0, 0\]"),
    (None, TypeError, r"wants a torch.Tensor \(4,\), got None"),
    (Y[:3], ValueError, r"wants the shape \(4,\), got \(3,\)"),
    (Y[:, None], ValueError, r"wants the shape \(4,\), got \(4, 1\)"),
    (Y.to("meta"), ValueError, "wants to be on cpu, got meta"),
    (Y + 5, ValueError, "wants values from 0 to 4, got from 5 to 5"),
    (Y - 1, ValueError, "wants values from 0 to 4, got from -1 to -1"),
]
BAD = {
    "soft_labels": [
        (lambda v: soft_labels(v, 2), logits("logits")),
        (lambda v: soft_labels(Z, v), TEMPERATURES),
    ],
    "soft_loss": [
        (lambda v: soft_loss(v, Z, **T), logits("student_logits")),
        (
            lambda v: soft_loss(Z, v, **T),
            [
                *logits("teacher_logits"),
                (Z[:3], ValueError, r"teacher_logits wants the shape \(4, 5\), got \(3, 5\)"),
                (Z[:, :4], ValueError, r"teacher_logits wants the shape \(4, 5\), got \(4, 4\)"),
                (Z.to("meta"), ValueError, "teacher_logits wants to be on cpu, got meta"),
            ],
        ),
        (lambda v: soft_loss(Z, Z, temperature=v), LOSS_TEMPERATURES),
    ],
    "distillation_loss": [
        (lambda v: distillation_loss(v, Z, Y, **T, alpha=0.5), logits("student_logits")),
        (lambda v: distillation_loss(Z, v, Y, **T, alpha=0.5), logits("teacher_logits")),
        (lambda v: distillation_loss(Z, Z, v, **T, alpha=0.5), LABELS),
        (lambda v: distillation_loss(Z, Z, Y, **T, alpha=v), ALPHAS),
        (lambda v: distillation_loss(Z, Z, Y, temperature=v, alpha=0.5), LOSS_TEMPERATURES),
    ],
    "fitnets": [
        (lambda v: fitnets_loss(v, M, nn.Identity()), maps("student_map")),
        (
            lambda v: fitnets_loss(M, v, nn.Identity()),
            [
                *maps("teacher_map"),
                (
                    M[:, :2],
                    ValueError,
                    r"regressor\(student_map\) wants the shape \(2, 2, 4, 4\), got \(2, 3, 4, 4\)",
                ),
            ],
        ),
        (
            lambda v: fitnets_loss(M, M, v),
            [
                (None, TypeError, "regressor wants a torch.nn.Module, got None"),
                (int, TypeError, "got the class int"),
            ],
        ),
    ],
    "attention": [
        (attention_map, maps("features")),
        (lambda v: attention_transfer_loss(v, M), maps("student_map")),
        (
            lambda v: attention_transfer_loss(M, v),
            [
                *maps("teacher_map"),
                (M[:, :, :3], ValueError, r"teacher_map wants the shape \(2, D, 4, 4\), got \(2, 3, 3, 4\)"),
                (M.to("meta"), ValueError, "teacher_map wants to be on cpu, got meta"),
            ],
        ),
    ],
    "predict_logits": [
        (
            lambda v: predict_logits(nn.Flatten(), v),
            [
                (M[:0], ValueError, "images wants at least one element along N"),
                ([[1.0]], TypeError, r"images wants a torch.Tensor \(N,\), got"),
                (M.to("meta"), ValueError, "images wants values, got a tensor on the meta device"),
            ],
        ),
        (lambda v: predict_logits(v, M), [(len, TypeError, "model wants a torch.nn.Module, got")]),
        (
            lambda v: predict_logits(nn.Flatten(), M, batch_size=v),
            [(0, ValueError, "batch_size wants a whole number of at least 1, got 0")],
        ),
    ],
    "distill": [
        (
            lambda v: distill(net(), M, v, torch.zeros(2, 5), **T, alpha=1),
            [
                (torch.tensor([0, 5]), ValueError, "wants values from 0 to 4, got from 0 to 5"),
                (torch.tensor([0, 1, 2]), ValueError, r"wants the shape \(2,\), got \(3,\)"),
            ],
        ),
        (
            lambda v: distill(net(), v, torch.tensor([0, 1]), torch.zeros(2, 5), **T, alpha=1),
            [(M * math.nan, ValueError, "images wants finite values, got NaN or infinity")],
        ),
        (
            lambda v: distill(net(), M, torch.tensor([0, 1]), torch.zeros(2, 5), **T, alpha=v),
            ALPHAS,
        ),
        (
            lambda v: distill(net(), M, torch.tensor([0, 1]), v, **T, alpha=1),
            [(torch.zeros(2), ValueError, r"teacher_logits wants the shape \(N, K\), got \(2,\)")],
        ),
    ],
    "train_born_again": [
        (
            lambda v: train_born_again(net, Z, Y, generations=v, **T, alpha=1),
            [
                (v, error, f"generations wants a whole number of at least 1, got {v!r}")
                for v, error in (
                    (0, ValueError),
                    (-1, ValueError),
                    (1.5, TypeError),
                    (True, TypeError),
                    (None, TypeError),
                )
            ],
        ),
        (
            lambda v: train_born_again(v, Z, Y, generations=1, **T, alpha=1),
            [
                (3, TypeError, "make_model wants a function, got 3"),
                (int, TypeError, "model wants a torch.nn.Module, got 0"),
            ],
        ),
    ],
}


@pytest.mark.parametrize(
    ("call", "value", "error", "message"),
    [
        pytest.param(call, *case, id=f"{name}-{i}-{j}")
        for name, calls in BAD.items()
        for i, (call, cases) in enumerate(calls)
        for j, case in enumerate(cases)
    ],
)
def test_bad_input_gives_one_clear_error(call, value, error, message):
    with pytest.raises(error, match=message):
        call(value)


@pytest.mark.parametrize("two", [np.float32(2), np.int64(2), torch.tensor(2), torch.tensor([2.0])])
def test_a_temperature_may_be_a_numpy_or_torch_number(two):
    student, teacher = randn(4, 5), randn(4, 5, seed=1)
    assert torch.equal(soft_labels(student, two), soft_labels(student, 2))
    assert torch.equal(
        soft_loss(student, teacher, temperature=two), soft_loss(student, teacher, temperature=2)
    )


def test_unknown_labels_of_another_kind_of_mark_are_refused():
    with pytest.raises(
        ValueError, match=r"\(-100 where unknown\) wants values from 0 to 4, got from -1 to 2"
    ):
        distillation_loss(Z, Z, torch.tensor([0, 2, -1, UNKNOWN]), temperature=1, alpha=0)


def test_a_class_that_both_exclude_counts_nothing():
    both = torch.tensor([[1.0, 2.0, -math.inf], [0.0, 3.0, -math.inf]])
    without = torch.tensor([[2.0, 1.0], [1.0, 1.0]])
    excluded = torch.cat([without, torch.full((2, 1), -math.inf)], 1)
    assert_close(soft_loss(excluded, both, temperature=2), soft_loss(without, both[:, :2], temperature=2))


@pytest.mark.parametrize("size", [1e-20, 1e-8, 1.0, 1e10, 1e30])
def test_an_attention_map_has_length_1_at_any_size(size):
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert_close(attention_map(size * x), attention_map(x))
    assert_close(attention_map(size * x).square().sum((1, 2)), torch.ones(3))
    assert (attention_map(torch.zeros(1, 2, 3, 3)) == 0).all()


def test_each_generation_is_a_new_module():
    one = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="new module each time"):
        train_born_again(
            lambda: one,
            torch.randn(6, 4),
            torch.arange(6) % 3,
            generations=2,
            temperature=1,
            alpha=0.5,
            epochs=1,
            batch_size=6,
            lr=0.01,
            progress=False,
        )
    with pytest.raises(ValueError, match="alpha wants a finite number"):
        train_born_again(
            lambda: one, torch.randn(6, 4), torch.arange(6) % 3, generations=1, temperature=1, alpha=2
        )
