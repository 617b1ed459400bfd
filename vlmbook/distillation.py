"""Training a student on what a teacher says [Hinton, Vinyals & Dean 2015, arXiv:1503.02531] [chapter 5c].

Logits are floating tensors (B, K, …), the classes in axis 1 as in `F.cross_entropy`; labels are int64 (B, …)
in 0 … K − 1, or UNKNOWN where nobody said. A teacher is anything that gives logits: a network, an ensemble's
mean, the logarithm of a forest's probabilities. No gradient ever reaches it.
"""

import math
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.training import fit

UNKNOWN = -100  # PyTorch's own mark for a label that does not count


def soft_labels(logits, temperature):
    """(B, K, …) -> (B, K, …): p_i = exp(z_i / T) / Σ_j exp(z_j / T), which sum to 1 over axis 1 [eq. 1].

    Raises TypeError for logits that are no floating tensor, ValueError for fewer than two axes and for a
    temperature that is not above 0.
    """
    _check_logits(logits)
    _check_number("temperature", temperature, "above 0", lambda t: 0 < t < math.inf)
    return (_wide(logits) / temperature).softmax(1)


def soft_loss(student_logits, teacher_logits, *, temperature):
    """(B, K, …), (B, K, …) -> scalar: T² KL(p_T ‖ p_S) in nats, both at temperature T, the mean over all but
    axis 1.

    The factor T² keeps the gradient's size as T grows [§2]. A class that the teacher excludes (−inf) counts
    0. In float32 the value loses its digits from T of about 1,000 on. Raises TypeError or ValueError for
    logits that are no floating tensors of one shape, and for T not above 0.
    """
    _check_both(_check_logits, student_logits, teacher_logits, "logits")
    _check_same(student_logits, teacher_logits, "logits")
    p = soft_labels(teacher_logits.detach(), temperature)
    log_q = (_wide(student_logits) / temperature).log_softmax(1)
    log_q = log_q.masked_fill(p == 0, 0)  # 0 · log 0 counts 0, also where the student agrees
    return temperature**2 * F.kl_div(log_q, p.to(log_q), reduction="none").sum(1).mean()


def distillation_loss(student_logits, teacher_logits, labels, *, temperature, alpha):
    """(B, K, …), (B, K, …), (B, …) -> scalar: (1 − α) CE(y, p_S) + α T² KL(p_T^(T) ‖ p_S^(T)) in nats [§2].

    The cross-entropy is the mean over the labels that are known, 0 where none is; the soft term is that of
    `soft_loss`. Raises TypeError or ValueError as `soft_loss` does, for labels that are not int64 of the
    right shape and range, and for alpha outside [0, 1].
    """
    _check_number("alpha", alpha, "from 0 to 1", lambda a: 0 <= a <= 1)
    soft = soft_loss(student_logits, teacher_logits, temperature=temperature)
    _check_labels(labels, student_logits)
    hard = F.cross_entropy(_wide(student_logits), labels, ignore_index=UNKNOWN, reduction="sum")
    return (1 - alpha) * hard / (labels != UNKNOWN).sum().clamp(min=1) + alpha * soft


def fitnets_loss(student_map, teacher_map, regressor):
    """(B, C, h, w), (B, D, H, W) -> scalar: ½ (u − r(v))², the mean over all values [Romero et al. 2014, eq.
    3].

    v is the student's map, u the teacher's, the hint; `regressor` r makes v as large as u, and learns with
    the student. (The paper sums over a map; the mean makes the weight of the term the same for maps of any
    size.) Raises TypeError or ValueError for maps that are no floating tensors (B, C, H, W), and where r(v)
    does not fit u.
    """
    _check_both(_check_maps, student_map, teacher_map, "maps")
    fitted = regressor(student_map)
    if fitted.shape != teacher_map.shape:
        raise ValueError(
            f"the regressor is to make {tuple(teacher_map.shape)}, the teacher's, of the student's "
            f"{tuple(student_map.shape)}, got {tuple(fitted.shape)}"
        )
    return (_wide(fitted) - _wide(teacher_map.detach())).square().mean() / 2


def attention_map(features):
    """(B, C, H, W) -> (B, H, W): Σ_c A_c², scaled to length 1 for each image [Zagoruyko & Komodakis 2016,
    §3.1].

    Raises TypeError or ValueError for what is no floating tensor of four axes.
    """
    _check_maps(features)
    features = _wide(features)
    scale = features.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(features.dtype).tiny)
    energy = (features / scale).square().sum(1)  # squares neither overflow nor vanish
    return F.normalize(energy.flatten(1)).view_as(energy)


def attention_transfer_loss(student_map, teacher_map):
    """(B, C, H, W), (B, D, H, W) -> scalar: ½ ‖Q_S − Q_T‖² of the attention maps Q, the mean over the batch.

    Channels may differ, places may not. For several layers, add up. [Zagoruyko & Komodakis 2016, eq. 2, with
    the norm squared.] Raises TypeError or ValueError for what are no floating tensors (B, C, H, W) of the
    same B, H and W.
    """
    _check_both(_check_maps, student_map, teacher_map, "maps")
    seen, wanted = attention_map(student_map), attention_map(teacher_map.detach())
    _check_same(seen, wanted, "attention maps")
    return (seen - wanted).square().sum((1, 2)).mean() / 2


@torch.no_grad()
def logits_of(model, images, *, batch_size=500):
    """A module, (N, …) -> (N, K): what it says of each image, in evaluation mode, on the device of the
    images.

    A teacher that never changes need speak only once: these are data for `distil`. Raises TypeError for what
    is no module or no tensor, ValueError for no images and for a batch size that is not whole or below 1.
    """
    if not isinstance(model, nn.Module) or not isinstance(images, torch.Tensor):
        raise TypeError(
            "logits_of wants a torch.nn.Module and a torch.Tensor of images, got "
            f"{type(model).__name__} and {type(images).__name__}"
        )
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
        raise ValueError(f"logits_of wants a whole batch_size of at least 1, got {batch_size!r}")
    if not len(images):
        raise ValueError("logits_of wants at least one image, got none")
    parameter = next(model.parameters(), images)
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        return torch.cat([model(x.to(parameter.device)).to(images.device) for x in images.split(batch_size)])
    finally:
        for module, mode in modes:
            module.training = mode


def distil(student, images, labels, teacher_logits, *, temperature, alpha, **settings):
    """A module, (N, …), (N,), (N, K) -> History: train the student in place by `distillation_loss`.

    `settings` are those of `vlmbook.training.fit`: epochs, batch_size, lr, … Raises what `distillation_loss`
    and `fit` do.
    """

    def loss(model, x, y, z):
        return distillation_loss(model(x), z, y, temperature=temperature, alpha=alpha)

    return fit(student, (images, labels, teacher_logits), loss_fn=loss, **settings)


def born_again(make, images, labels, *, generations, temperature, alpha, **settings):
    """make() -> module; (N, …), (N,) -> list of modules: each learned from the one before [Furlanello et al.
    2018].

    That is self-distillation: all have the same architecture. The first learns from the labels alone. They
    come back in evaluation mode. Raises ValueError for fewer than one generation and for a module that comes
    twice, and what `distil` raises.
    """
    if isinstance(generations, bool) or not isinstance(generations, Integral) or generations < 1:
        raise ValueError(f"born_again wants a whole number of generations from 1 on, got {generations!r}")
    _check_number("alpha", alpha, "from 0 to 1", lambda a: 0 <= a <= 1)
    models = []
    for _ in range(generations):
        model = make()
        if any(model is one for one in models):
            raise ValueError("born_again wants make() to give a new module each time, got the same one again")
        teacher = models[-1] if models else model  # its own word, which alpha = 0 silences
        distil(
            model,
            images,
            labels,
            logits_of(teacher, images),
            temperature=temperature,
            alpha=alpha if models else 0,
            **settings,
        )
        models.append(model.eval())
    return models


# --- what comes in ------------------------------------------------------------------------------------------


def _wide(x):
    """Half precision -> float32: at a high temperature a difference of probabilities is small."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _check_axes(x, name, axes, enough):
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} are to be a torch.Tensor {axes}, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name} are to have a floating dtype, got {x.dtype}")
    if not enough(x.ndim) or 0 in x.shape:
        raise ValueError(f"{name} are to be {axes} and not empty, got the shape {tuple(x.shape)}")


def _check_logits(x, name="logits"):
    _check_axes(x, name, "(B, K, …)", lambda axes: axes >= 2)


def _check_maps(x, name="features"):
    _check_axes(x, name, "(B, C, H, W)", lambda axes: axes == 4)


def _check_both(check, student, teacher, what):
    check(student, f"the student's {what}")
    check(teacher, f"the teacher's {what}")
    if student.device != teacher.device:
        raise ValueError(
            f"the {what} of student and teacher are to be on one device, got {student.device} and "
            f"{teacher.device}"
        )


def _check_same(student, teacher, what):
    if student.shape != teacher.shape:
        raise ValueError(
            f"the {what} of student and teacher are to have one shape, got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}"
        )


def _check_labels(labels, logits):
    wanted = tuple(logits.shape[:1] + logits.shape[2:])
    if not isinstance(labels, torch.Tensor) or labels.dtype != torch.int64:
        got = labels.dtype if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise TypeError(f"labels are to be an int64 tensor {wanted}, got {got}")
    if labels.shape != wanted or labels.device != logits.device:
        raise ValueError(
            f"labels are to be {wanted} on {logits.device} for these logits, got {tuple(labels.shape)} on "
            f"{labels.device}"
        )
    known = labels[labels != UNKNOWN]
    if known.numel() and not 0 <= known.min() <= known.max() < logits.shape[1]:
        raise ValueError(
            f"labels are to be from 0 to {logits.shape[1] - 1}, or {UNKNOWN} where unknown, got from "
            f"{known.min()} to {known.max()}"
        )


def _check_number(name, value, wanted, fine):
    if isinstance(value, bool) or not isinstance(value, Real) or not fine(value):
        raise ValueError(f"{name} wants a number {wanted}, got {value!r}")
