"""Training a student on the predictions of a teacher [Hinton, Vinyals & Dean 2015, arXiv:1503.02531] [chapter
5c].

Logits are floating tensors (B, K, …), the classes in axis 1 as in `F.cross_entropy`; labels are int64 (B, …)
in 0 … K − 1, or UNKNOWN where there is no label. Any logits can be a teacher's: those of a network, the mean
of an ensemble's, the logarithm of a forest's probabilities. No gradient reaches the teacher.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.training import History, fit
from vlmbook.validation import require_callable, require_number, require_tensor, require_type, require_whole

UNKNOWN = -100  # PyTorch's own mark for a label that does not count
COLDEST = 1e-30  # temperature that float32 can divide by
HOTTEST = 1000  # temperature of a loss: beyond, float32 rounds the difference of two soft labels away


def soft_labels(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """(B, K, …) -> (B, K, …): p_i = exp(z_i / T) / Σ_j exp(z_j / T), which sum to 1 over axis 1 [eq. 1].

    As T goes to 0 they become one-hot, or equal shares of the largest logits. In at least float32. Raises
    TypeError or ValueError for other logits and for a temperature below COLDEST.
    """
    _require_open(logits, "logits", "B K")
    temperature = require_number(temperature, "temperature", least=COLDEST)
    return (_below_zero(_at_least_float32(logits)) / temperature).softmax(1)


def soft_loss(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """(B, K, …), (B, K, …) -> scalar: T² KL(p_T ‖ p_S) in nats, both at temperature T, the mean over all but
    axis 1.

    The factor T² keeps the size of the gradient as T grows [§2]. A class that the teacher excludes (logit −∞)
    counts 0. In float32 the value has three digits at T = 100 and one at 1,000; the gradient has more. Raises
    TypeError or ValueError for other logits, two shapes, and a temperature outside [COLDEST, HOTTEST].
    """
    _require_open(student_logits, "student_logits", "B K")
    _require_alike(teacher_logits, "teacher_logits", student_logits)
    temperature = require_number(temperature, "temperature", least=COLDEST, most=HOTTEST)
    student = _at_least_float32(student_logits)
    teacher = teacher_logits.detach().to(student.dtype)
    p = soft_labels(teacher, temperature)
    apart = _scaled_log(teacher, temperature) - _scaled_log(student, temperature)
    apart = apart.masked_fill(p == 0, 0)  # 0 · log 0 counts 0, also where the student excludes the class
    return temperature * (p * apart).sum(1).mean()


def distillation_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: float,
    alpha: float,
) -> torch.Tensor:
    """(B, K, …), (B, K, …), (B, …) -> scalar: (1 − α) CE(y, p_S) + α T² KL(p_T ‖ p_S) in nats, the first at
    temperature 1, the second at T [§2].

    The cross-entropy is the mean over the known labels, 0 where no label is known; the second term is
    `soft_loss`. Raises TypeError or ValueError as `soft_loss` does, for labels that are not int64 or outside
    their range, and for alpha outside [0, 1].
    """
    soft = soft_loss(student_logits, teacher_logits, temperature=temperature)
    _require_labels(labels, student_logits)
    alpha = require_number(alpha, "alpha", least=0, most=1)
    known = (labels != UNKNOWN).sum().clamp(min=1)
    logits = _at_least_float32(student_logits)
    hard = F.cross_entropy(logits, labels, ignore_index=UNKNOWN, reduction="sum") / known
    return (1 - alpha) * hard + alpha * soft


def fitnets_loss(student_map: torch.Tensor, teacher_map: torch.Tensor, regressor: nn.Module) -> torch.Tensor:
    """(B, C, h, w), (B, D, H, W) -> scalar: ½ (u − r(v))², the mean over all values [Romero et al. 2014, eq.
    3].

    v is the student's feature map, u the teacher's, called the hint; the regressor r maps v to the shape of
    u, and learns with the student. (The paper sums over a map; with the mean, one loss weight fits maps of
    any size.) Raises TypeError or ValueError for other feature maps, and where r(v) has not the shape of u.
    """
    require_tensor(student_map, "student_map", "B C H W")
    require_tensor(teacher_map, "teacher_map", "B D H W", device=student_map.device)
    require_type(regressor, "regressor", nn.Module, "a torch.nn.Module")
    fitted = _require_alike(regressor(student_map), "regressor(student_map)", teacher_map)
    return (_at_least_float32(fitted) - _at_least_float32(teacher_map.detach())).square().mean() / 2


def attention_map(features: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, H, W): Σ_c A_c², scaled to length 1 for each image [Zagoruyko & Komodakis 2016,
    §3.1].

    Raises TypeError or ValueError for other feature maps.
    """
    require_tensor(features, "features", "B C H W")
    features = _at_least_float32(features)
    scale = features.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(features.dtype).tiny)
    energy = (features / scale).square().sum(1)  # scaled, so that squares neither overflow nor vanish
    return F.normalize(energy.flatten(1)).view_as(energy)


def attention_transfer_loss(student_map: torch.Tensor, teacher_map: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W), (B, D, H, W) -> scalar: ½ ‖Q_S − Q_T‖² of the attention maps Q, the mean over the batch.

    Channels may differ, heights and widths may not. The losses of several layers are added. [Zagoruyko &
    Komodakis 2016, eq. 2, with the norm squared.] Raises TypeError or ValueError for other feature maps.
    """
    require_tensor(student_map, "student_map", "B C H W")
    sizes = dict(zip("BCHW", student_map.shape, strict=True))
    require_tensor(teacher_map, "teacher_map", "B D H W", device=student_map.device, **sizes)
    apart = attention_map(student_map) - attention_map(teacher_map.detach())
    return apart.square().sum((1, 2)).mean() / 2


@torch.no_grad()
def predict_logits(model: nn.Module, images: torch.Tensor, *, batch_size: int = 500) -> torch.Tensor:
    """(N, …) -> (N, K): the model's logits, in evaluation mode, on the device of the images.

    A teacher that no longer changes predicts once: its logits are data for `distill`. Each module is put back
    into the mode that it was in. Raises TypeError or ValueError for anything but a module and images.
    """
    require_type(model, "model", nn.Module, "a torch.nn.Module")
    _require_images(images)
    batch_size = require_whole(batch_size, "batch_size")
    device = next(model.parameters(), images).device
    modes = {module: module.training for module in model.modules()}
    logits = []
    try:
        model.eval()
        for x in images.split(batch_size):
            z = model(x.to(device))
            _require_open(z, "model(images)", "N K", N=len(x))
            logits.append(z.to(images.device))
    finally:
        for module, training in modes.items():
            module.training = training
    return torch.cat(logits)


def distill(
    student: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    teacher_logits: torch.Tensor,
    *,
    temperature: float,
    alpha: float,
    **settings,
) -> History:
    """A module, (N, …), (N,), (N, K) -> History: train the student in place by `distillation_loss`.

    `settings` are those of `vlmbook.training.fit`: epochs, batch_size, lr, … Raises what `distillation_loss`
    and `fit` raise, for wrong labels, teacher's logits, temperature or alpha before the first step.
    """
    _require_images(images, finite=True)
    _require_open(teacher_logits, "teacher_logits", "N K")
    _require_labels(labels, teacher_logits)
    temperature = require_number(temperature, "temperature", least=COLDEST, most=HOTTEST)
    alpha = require_number(alpha, "alpha", least=0, most=1)

    def loss(model, x, y, z):
        return distillation_loss(model(x), z, y, temperature=temperature, alpha=alpha)

    return fit(student, (images, labels, teacher_logits), loss_fn=loss, **settings)


def train_born_again(
    make_model: Callable[[], nn.Module],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    generations: int,
    temperature: float,
    alpha: float,
    **settings,
) -> list[nn.Module]:
    """make_model() -> module; (N, …), (N,) -> list of modules, each distilled from the one before [Furlanello
    et al. 2018].

    This is self-distillation: all have one architecture. The first learns from the labels alone. They come
    back in evaluation mode. Raises ValueError for fewer than one generation and for a module that comes
    twice, and what `distill` raises.
    """
    require_callable(make_model, "make_model")
    generations = require_whole(generations, "generations")
    alpha = require_number(alpha, "alpha", least=0, most=1)
    models = []
    for generation in range(generations):
        student = make_model()
        if any(student is model for model in models):
            raise ValueError("make_model wants to return a new module each time, got the same one again")
        teacher = models[-1] if models else student  # of no effect on the first, whose alpha is 0
        distill(
            student,
            images,
            labels,
            predict_logits(teacher, images),
            temperature=temperature,
            alpha=alpha if generation > 0 else 0,
            **settings,
        )
        models.append(student.eval())
    return models


# --- dtypes and arguments -----------------------------------------------------------------------------------


def _at_least_float32(x):
    """Any floating dtype -> float32 or wider: at a high temperature probabilities differ by little."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _below_zero(z):
    """(B, K, …) -> the same minus the largest over axis 1: no softmax changes, no exponential overflows."""
    return z - z.detach().amax(1, keepdim=True)


def _scaled_log(z, temperature):
    """(B, K, …) -> (B, K, …): T log p_i = z_i − T log Σ_j exp(z_j / T), finite however small T is."""
    z = _below_zero(z)
    return z - temperature * (z / temperature).logsumexp(1, keepdim=True)


def _require_open(x, name, axes, **options):
    """As `require_tensor`, for a tensor that may have further axes after the named ones."""
    further = x.ndim - len(axes.split()) if isinstance(x, torch.Tensor) else 0
    require_tensor(x, name, axes + " …" * further, **options)


def _require_images(images, **options):
    _require_open(images, "images", "N", kind="any", **options)
    if images.is_meta:
        raise ValueError("images wants values, got a tensor on the meta device, which has none")


def _require_alike(x, name, other):
    """A floating tensor of the shape and on the device of `other`; the dtypes may differ."""
    return require_tensor(x, name, " ".join(map(str, other.shape)), device=other.device)


def _require_labels(labels, logits):
    shape = " ".join(map(str, logits.shape[:1] + logits.shape[2:]))
    values = {"least": 0, "most": logits.shape[1] - 1, "ignore": UNKNOWN, "device": logits.device}
    require_tensor(labels, f"labels ({UNKNOWN} where unknown)", shape, kind="int64", **values)
