"""How generators are evaluated: by the features of one classifier that was trained on real images.

Images are (B, C, H, W) in [0, 1]. The Fréchet distance, precision and recall of `vlmbook.metrics` compare
features of generated images with features of real ones; all three depend on the number of images, and on the
classifier, which must be the same for all generators that are compared.
"""

import torch
from torch.nn import functional as F

from vlmbook.metrics import frechet_distance, precision_recall
from vlmbook.resnet import ResNet, small_resnet
from vlmbook.training import fit
from vlmbook.validation import require_number, require_tensor, require_type, require_whole

BATCH = 500  # images at a time, so that features of many images need little memory


def train_feature_classifier(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int = 12,
    batch_size: int = 64,
    lr: float = 0.01,
    seed: int = 0,
    precision: str | None = None,
) -> ResNet:
    """(N, C, H, W), (N,) int64 from 0 on -> ResNet of 8 layers that names their classes.

    It is frozen, in evaluation mode, and on the device that `fit` trains on. The same images and seed give
    the same classifier, whatever was drawn before; the global generator is left as it was. `epochs`,
    `batch_size`, `lr` (at most 1) and `precision` are those of `fit`. Raises TypeError or ValueError for what
    is no image or no label.
    """
    require_tensor(images, "images", "N C H W", finite=True)
    require_tensor(labels, "labels", "N", kind="int64", least=0, most=2**16 - 1, N=len(images))
    _require_memory(images, "images")
    _require_memory(labels, "labels")
    lr = require_number(lr, "lr", above=0, most=1)
    seed = require_whole(seed, "seed", least=0, most=2**63 - 1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = small_resnet(8, num_classes=int(labels.max()) + 1, in_channels=images.shape[1])
        fit(
            classifier,
            (images.float(), labels),
            loss_fn=lambda model, x, y: F.cross_entropy(model(x), y),
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            weight_decay=0.05,
            seed=seed,
            precision=precision,
            progress=False,
        )
    return classifier.eval().requires_grad_(False)


@torch.no_grad()
def extract_features(classifier: ResNet, images: torch.Tensor) -> torch.Tensor:
    """ResNet in evaluation mode, (N, C, H, W) -> (N, D): the mean over all positions of what leaves its last
    stage, on the classifier's device and in its dtype. D is 64 for `train_feature_classifier`'s.

    Raises TypeError or ValueError for another model, for one in training mode, and for images it cannot take.
    """
    require_type(classifier, "classifier", ResNet, "a ResNet")
    if any(module.training for module in classifier.modules()):
        raise ValueError("classifier wants evaluation mode, got training mode; classifier.eval() sets it")
    require_tensor(images, "images", "N C H W", empty="N", C=classifier.conv1.in_channels)
    _require_memory(images, "images")
    features = []
    for batch in images.split(BATCH):
        maps = classifier.features(batch.to(classifier.fc.weight))
        features.append(maps[-1].mean((2, 3)))
    return torch.cat(features)


def score(classifier: ResNet, samples: torch.Tensor, held_out: torch.Tensor) -> dict[str, float]:
    """ResNet, (N, C, H, W), (N, C, H, W) -> {"frechet": …, "precision": …, "recall": …} of its features.

    Raises TypeError or ValueError as `extract_features` does, and unless there are as many samples as
    held-out images, at least 4: all three numbers depend on N.
    """
    require_tensor(samples, "samples", "N C H W")
    require_tensor(held_out, "held_out", "N C H W")
    if len(samples) != len(held_out):
        raise ValueError(f"samples wants as many images as held_out has, {len(held_out)}, got {len(samples)}")
    generated, real = extract_features(classifier, samples), extract_features(classifier, held_out)
    precision, recall = precision_recall(real, generated)
    return {"frechet": frechet_distance(real, generated), "precision": precision, "recall": recall}


def select_same_classes(
    images: torch.Tensor, labels: torch.Tensor, target_labels: torch.Tensor
) -> torch.Tensor:
    """(N, C, H, W), (N,), (M,) int64 -> (M, C, H, W): for each target label an image of that class, none
    twice.

    With it, real images are compared with real images of the same classes. Raises TypeError or ValueError for
    what is no image or no label, and where a class has too few images.
    """
    require_tensor(images, "images", "N C H W")
    require_tensor(labels, "labels", "N", kind="int64", N=len(images))
    require_tensor(target_labels, "target_labels", "M", kind="int64")
    _require_memory(labels, "labels")
    _require_memory(target_labels, "target_labels")
    labels, target_labels = labels.cpu(), target_labels.cpu()
    chosen = torch.empty_like(target_labels)
    for label in target_labels.unique():
        available = (labels == label).nonzero()[:, 0]
        positions = (target_labels == label).nonzero()[:, 0]
        if len(available) < len(positions):
            raise ValueError(
                f"images wants at least {len(positions)} images of class {label}, got {len(available)}"
            )
        chosen[positions] = available[: len(positions)]
    return images[chosen.to(images.device)]


def _require_memory(x, name):
    """Raises ValueError for a tensor on the meta device, which holds no values."""
    if x.is_meta:
        raise ValueError(f"{name} wants a tensor with values, got one on the meta device")
