"""Chapter 6a: faces that are spoiled on purpose, leaks, detectors that are counted, galleries that grow, a
network that is exported.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from sklearn.model_selection import GroupKFold
from torch import nn
from torch.nn import functional as F

from vlmbook import compression, data
from vlmbook.detection import box_iou
from vlmbook.face_recognition import (
    FacePipeline,
    Pairs,
    Roc,
    bootstrap_people,
    crop_box,
    detect_faces,
    embed,
    equal_error_rate,
)
from vlmbook.files import write_whole

WITHOUT_FACE = ("brick", "cat", "coffee", "coins", "grass", "gravel", "rocket", "tissue")
ASTRONAUT = torch.tensor([169.0, 69, 273, 173])  # the astronaut's face, xyxy

# --- faces that are spoiled ---------------------------------------------------------------------------------


def spoil(
    images: torch.Tensor, labels: torch.Tensor, *, count: int = 8, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """(N, C, H, W), (N,) -> (N + count, C, H, W), (N + count,), {fault: (count,) indices}: three faults of a
    collected data set.

    "blurred": these are blurred. "duplicate": these, at the end, are copies, a little brighter.
    "mislabelled": these have the label of somebody else.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[: 3 * count].view(3, count)
    images = images.clone()
    labels = labels.clone()
    images[chosen[0]] = _blur(images[chosen[0]])
    people = labels.unique()
    step = torch.randint(1, len(people), (count,), generator=generator)
    labels[chosen[1]] = people[(torch.searchsorted(people, labels[chosen[1]]) + step) % len(people)]
    copies = (1.05 * images[chosen[2]]).clamp(0, 1)
    faults = {
        "blurred": chosen[0],
        "duplicate": len(images) + torch.arange(count),
        "mislabelled": chosen[1],
    }
    return torch.cat([images, copies]), torch.cat([labels, labels[chosen[2]]]), faults


def _blur(x):
    for _ in range(3):
        x = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    return x


def measure_sharpness(images: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) -> (N,): the standard deviation of the Laplacian, divided by that of the image
    [Pech-Pacheco et al. 2000].
    """
    grey = images.mean(1, keepdim=True)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    edges = F.conv2d(grey, kernel)
    return edges.flatten(1).std(1) / grey.flatten(1).std(1).clamp_min(1e-6)


def find_copies(images: torch.Tensor, similarity: float = 0.995) -> torch.Tensor:
    """(N, C, H, W) -> (M, 2): pairs whose pixels have at least this correlation, the earlier one first."""
    x = images.flatten(1)
    x = F.normalize(x - x.mean(1, keepdim=True))
    i, j = torch.triu_indices(len(x), len(x), offset=1)
    alike = (x @ x.T)[i, j] >= similarity
    return torch.stack([i[alike], j[alike]], dim=1)


def suspect_labels(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N, D), (N,) -> (N,): how much nearer an image is to somebody else's other images than to its own
    label's, by the mean distance. Above 0 is suspicious.
    """
    distances = torch.cdist(embeddings, embeddings)
    member = F.one_hot(labels.unique(return_inverse=True)[1]).float()
    sums = distances @ member  # the distance of an image to itself is 0, and does not count
    own = (sums * member).sum(1) / (member.sum(0) - 1).clamp_min(1)[member.argmax(1)]
    others = (sums / member.sum(0)).masked_fill(member.bool(), torch.inf).amin(1)
    return own - others


# --- leaks --------------------------------------------------------------------------------------------------


def measure_leak(*, augment_first: bool, seed: int = 0, n: int = 200, classes: int = 10) -> float:
    """-> accuracy of the nearest neighbour on images and labels that are random, so that there is nothing to
    learn.

    Each image has four augmented copies, brighter or darker and with noise. The copies are made before a half
    of all is held out, or of the training half alone.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 1, 12, 12, generator=generator)
    labels = torch.randint(classes, (n,), generator=generator)
    if augment_first:
        x, y = _augmented(images, labels, generator)
        order = torch.randperm(len(x), generator=generator)
        train, held = order.chunk(2)
        return _nearest_neighbour(x[train], y[train], x[held], y[held])
    train = _augmented(images[: n // 2], labels[: n // 2], generator)
    return _nearest_neighbour(*train, images[n // 2 :], labels[n // 2 :])


def _augmented(images, labels, generator):
    x = images.repeat(4, 1, 1, 1)
    gains = 0.8 + 0.4 * torch.rand(len(x), 1, 1, 1, generator=generator)
    return gains * x + 0.05 * torch.randn(x.shape, generator=generator), labels.repeat(4)


def _nearest_neighbour(x, y, held, truth):
    nearest = torch.cdist(held.flatten(1), x.flatten(1)).argmin(1)
    return (y[nearest] == truth).float().mean().item()


def measure_luck(*, tries: int = 200, n: int = 50, seed: int = 0) -> tuple[float, float]:
    """-> the accuracy on n validation images of the best of so many classifiers that toss a coin, and its
    accuracy on 10,000 new images.
    """
    generator = torch.Generator().manual_seed(seed)
    validation = (torch.rand(tries, n, generator=generator) < 0.5).float().mean(1)
    test = (torch.rand(10_000, generator=generator) < 0.5).float().mean()
    return validation.max().item(), test.item()


def cross_validate(
    measure: Callable[..., float], faces: torch.Tensor, settings: Iterable[tuple], *, folds: int = 3
) -> dict[tuple, list[float]]:
    """measure(train, valid, *setting) -> error, (P, K, C, H, W), settings -> {setting: the error of each
    fold}, all images of a person in one fold.
    """
    people, shots = faces.shape[:2]
    who = np.arange(people).repeat(shots)  # a row an image, as other data sets have it
    parts = [
        (np.unique(who[train]), np.unique(who[valid]))
        for train, valid in GroupKFold(folds).split(who, groups=who)
    ]
    return {
        setting: [measure(faces[train], faces[valid], *setting) for train, valid in parts]
        for setting in settings
    }


# --- detectors that are counted -----------------------------------------------------------------------------


def make_group_photo(
    sizes: Sequence[int] = (60, 90, 130, 60), gap: int = 24
) -> tuple[torch.Tensor, torch.Tensor]:
    """-> (3, H, W), (N, 4): the astronaut's head several times, side by side, and the boxes of the faces.

    It is made from one photograph, so that several faces of known places stand in one image.
    """
    photograph = data.photo("astronaut")
    left, top, right, bottom = 139, 19, 303, 203
    head = photograph[:, top:bottom, left:right]
    face = ASTRONAUT - torch.tensor([left, top, left, top])
    height = max(round(side * head.shape[1] / 104) for side in sizes) + gap
    picture, boxes, x = torch.full((3, height, 4000), 0.82), [], gap
    for number, side in enumerate(sizes):
        zoom = side / 104
        small = F.interpolate(head[None], scale_factor=zoom, mode="bilinear", antialias=True)[0].clamp(0, 1)
        box = face * zoom
        if number % 2:
            small = small.flip(2)
            box = torch.stack([small.shape[2] - box[2], box[1], small.shape[2] - box[0], box[3]])
        y = height - small.shape[1]
        picture[:, y:, x : x + small.shape[2]] = small
        boxes.append(box + torch.tensor([x, y, x, y]))
        x += small.shape[2] + gap
    return picture[:, :, :x], torch.stack(boxes)


def turn_image(image: torch.Tensor, degrees: float) -> torch.Tensor:
    """(C, H, W) -> (C, H, W): turned around its middle, against the clock; black where nothing was."""
    angle = -torch.deg2rad(torch.tensor(float(degrees)))  # y points downwards
    height, width = image.shape[1:]
    cosine, sine = angle.cos(), angle.sin()
    rows = [
        torch.stack([cosine, sine * height / width, torch.tensor(0.0)]),
        torch.stack([-sine * width / height, cosine, torch.tensor(0.0)]),
    ]
    grid = F.affine_grid(torch.stack(rows)[None], [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, align_corners=False)[0].clamp(0, 1)


def count_detections(detect: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, int]:
    """detect(image) -> boxes -> {what: how many}: faces found in the group photograph and in single ones of
    several sizes and angles; false boxes on 100 patches and 8 photographs without a face.
    """
    group, boxes = make_group_photo()
    astronaut = data.photo("astronaut")
    counts = {"faces in a group of 4": _count_found(detect(group), boxes)}
    for degrees in (0, 10, 20, 30):
        middle = turn_image(astronaut[:, :242, 100:342], degrees)  # the face is near the middle
        truth = torch.tensor([[69.0, 69, 173, 173]])
        counts[f"face turned by {degrees}°"] = _count_found(detect(middle), truth)
    patches, labels = data.face_patches()
    enlarged = F.interpolate(patches[labels == 0], size=(50, 50), mode="bilinear")
    counts["boxes on 100 patches without a face"] = sum(len(detect(patch)) for patch in enlarged)
    photographs = [_shrink(data.photo(name)) for name in WITHOUT_FACE]
    counts["boxes on 8 photographs without a face"] = sum(len(detect(image)) for image in photographs)
    return counts


def _shrink(image, longest=192):
    share = longest / max(image.shape[1:])
    return F.interpolate(image[None], scale_factor=share, mode="bilinear", antialias=True)[0].clamp(0, 1)


def _count_found(found, truth, overlap=0.35):
    """-> how many of the true boxes have a found one on them."""
    if not len(found):
        return 0
    return int((box_iou(truth, found).amax(1) > overlap).sum())


# --- real photographs ---------------------------------------------------------------------------------------


def make_variants() -> dict[str, torch.Tensor]:
    """-> {name: (3, 242, 242)}: the astronaut as other cameras would take the same face."""
    image = data.photo("astronaut")[:, :242, 100:342]
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    small = F.interpolate(image[None], scale_factor=0.3, mode="bilinear", antialias=True)
    back = F.interpolate(small, size=image.shape[1:], mode="bilinear")[0]
    return {
        "same file": image,
        "mirrored": image.flip(2),
        "turned by 12°": turn_image(image, 12),
        "dark": 0.35 * image,
        "grey": image.mean(0, keepdim=True).expand(3, -1, -1),
        "noise": (image + 0.1 * noise).clamp(0, 1),
        "a third of the pixels": back.clamp(0, 1),
        "printed": print_photograph(image),
    }


def print_photograph(image: torch.Tensor) -> torch.Tensor:
    """(3, H, W) -> (3, H, W): what a camera sees of a print of it, pale, dull, soft and at a slant."""
    height, width = image.shape[1:]
    dull = 0.12 + 0.72 * (0.75 * image + 0.25 * image.mean(0, keepdim=True))
    soft = F.avg_pool2d(F.pad(dull[None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    paper = F.pad(soft, (14, 14, 14, 14), value=0.86)
    turned = turn_image(paper[0], -6)
    return F.interpolate(turned[None], size=(height, width), mode="bilinear", antialias=True)[0].clamp(0, 1)


def trace_face(pipeline: FacePipeline | None) -> dict:
    """FacePipeline -> what each stage gives for one photograph, as `figures.draw_pipeline` takes it.

    Without a pipeline the face is cut out, and its embedding is grey values of 8×16 squares.
    """
    image = data.photo("astronaut")[:, :242, 100:342]
    others = {"herself, darker": 0.5 * image, "herself, mirrored": image.flip(2)}
    box = detect_faces(image)[0]
    if pipeline is None:
        chips = {name: crop_box(other, box, 150) for name, other in others.items()}
        chips |= {f"stranger {i + 1}": chip for i, chip in enumerate(read_strangers(3))}
        network = _GreySquares()
        chip = crop_box(image, box, 150)
    else:
        chips = {name: pipeline(other).chips[0] for name, other in others.items()}
        chips |= {f"stranger {i + 1}": chip for i, chip in enumerate(read_strangers(3))}
        network = pipeline.network
        chip = pipeline(image).chips[0]
    embedding = embed(chip[None], network)[0]
    enrolled = embed(torch.stack(list(chips.values())), network)
    distances = dict(zip(chips, (enrolled - embedding).norm(dim=1).tolist(), strict=True))
    stages = {"image": image, "box": box, "chip": chip, "embedding": embedding}
    return stages | {"distances": distances, "threshold": 0.6}


class _GreySquares(nn.Module):
    """(B, 3, H, W) -> (B, 128) of length 1: the standardised mean of each square of a grid."""

    def forward(self, x):
        squares = F.adaptive_avg_pool2d(x.mean(1, keepdim=True), (16, 8)).flatten(1)
        return F.normalize(squares - squares.mean(1, keepdim=True))


def read_strangers(count: int = 40) -> torch.Tensor:
    """-> (count, 3, 150, 150): faces of Labeled Faces in the Wild, small and grey, none of them the
    astronaut's.
    """
    patches, labels = data.face_patches()
    faces = F.interpolate(patches[labels == 1][:count], size=(150, 150), mode="bicubic").clamp(0, 1)
    return faces.expand(-1, 3, -1, -1)


# --- the errors of a verifier -------------------------------------------------------------------------------


def make_folds(pairs: Pairs, folds: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs -> distances (N,), same (N,), folds (N,): the people are dealt to the folds, and only pairs
    within a fold stay, as many of two people as of one.
    """
    generator = torch.Generator().manual_seed(seed)
    fold = pairs.first % folds
    within = fold == pairs.second % folds
    same = (within & pairs.same).nonzero()[:, 0]
    different = (within & ~pairs.same).nonzero()[:, 0]
    different = different[torch.randperm(len(different), generator=generator)[: len(same)]]
    chosen = torch.cat([same, different])
    return pairs.distances[chosen], pairs.same[chosen], fold[chosen]


def measure_groups(pairs: Pairs, faces: data.Avatars) -> dict[str, tuple[float, float, float]]:
    """Pairs of all these faces -> {group: EER and the ends of its 95 % interval over people}."""
    i, j = torch.triu_indices(len(faces), len(faces), offset=1)
    wearing = faces.glasses[i].int() + faces.glasses[j].int()
    dark = (faces.tones > 0.5).int()
    tones = dark[i] + dark[j]
    groups = {
        "no glasses": wearing == 0,
        "glasses in one": wearing == 1,
        "light skin": tones == 0,
        "dark skin": tones == 2,
    }
    found = {}
    for name, members in groups.items():
        part = Pairs(*(each[members] for each in pairs))
        draws = bootstrap_people(_equal_error, part, draws=100)
        ends = draws.quantile(torch.tensor([0.025, 0.975], dtype=draws.dtype)).tolist()
        rate = _equal_error(*part[:2])
        found[name] = (rate, min(ends[0], rate), max(ends[1], rate))
    return found


def _equal_error(distances, same, weights=None):
    return equal_error_rate(distances, same, weights)[0]


# --- an ROC in a record -------------------------------------------------------------------------------------


def make_roc(points: dict[str, list[float]]) -> Roc:
    """{"thresholds", "far", "tar": (K,)} of a record -> Roc."""
    thresholds, far, tar = (torch.tensor(points[name]).double() for name in ("thresholds", "far", "tar"))
    start = torch.tensor([-torch.inf, 0, 0], dtype=torch.float64)
    return Roc(*(torch.cat([start[i : i + 1], values]) for i, values in enumerate((thresholds, far, tar))))


def thin_roc(roc: Roc, count: int = 60) -> dict[str, list[float]]:
    """Roc -> {"thresholds", "far", "tar"}: at most so many points of it, as a record holds them."""
    last = len(roc.thresholds) - 1
    keep = torch.linspace(1, last, min(count, last)).round().long().unique()
    low = (roc.far[1:] <= 0.02).nonzero()[:, 0] + 1  # most points where the FAR is small
    if len(low):
        keep = torch.cat([keep, low[torch.linspace(0, len(low) - 1, min(count, len(low))).long()]]).unique()
    named = {"thresholds": roc.thresholds, "far": roc.far, "tar": roc.tar}
    return {name: values[keep].tolist() for name, values in named.items()}


# --- the gallery grows --------------------------------------------------------------------------------------


def measure_gallery_errors(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    threshold: float,
    sizes: Sequence[int],
    *,
    draws: int = 200,
) -> dict[int, float]:
    """(N, D), (N,) -> {size of the gallery: share of strangers who get a name}.

    A gallery holds one image of each of so many people; the strangers are all images of all other people.
    """
    generator = torch.Generator().manual_seed(0)
    near = torch.cdist(embeddings, embeddings) <= threshold
    people = labels.unique()
    shares = {}
    for size in sizes:
        found = []
        for _ in range(draws):
            enrolled = people[torch.randperm(len(people), generator=generator)[:size]]
            images = [_draw_one(labels == person, generator) for person in enrolled]
            strangers = ~torch.isin(labels, enrolled)
            found.append(near[strangers][:, images].any(1).float().mean())
        shares[size] = torch.stack(found).mean().item()
    return shares


def _draw_one(mask, generator):
    indices = mask.nonzero()[:, 0]
    return indices[torch.randint(len(indices), (1,), generator=generator)].item()


# --- deployment ---------------------------------------------------------------------------------------------


class _Calibration(CalibrationDataReader):
    """Batches of images for `quantize_static`."""

    def __init__(self, images):
        self.batches = iter([{"x": batch.numpy()} for batch in images.split(16)])

    def get_next(self):
        return next(self.batches, None)


def export_network(network: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Module, (B, C, H, W), file -> None: writes the network as ONNX, for batches of any size."""
    network = network.eval().to(memory_format=torch.contiguous_format)
    batch = ({0: torch.export.Dim("batch", min=1, max=4096)},)
    program = torch.onnx.export(
        network, (example,), dynamo=True, dynamic_shapes=batch, input_names=["x"], verbose=False
    )
    write_whole(path, program.model_proto.SerializeToString(), replace=True)


def quantize_network(
    path: Path,
    calibration: torch.Tensor,
    to: Path,
    *,
    activation_functions: Sequence[str] = (),
    whole_range: bool = False,
) -> None:
    """ONNX file, (N, C, H, W) -> None: writes the network with convolutions and linear layers of 8 bits, a
    scale for each channel of a weight; one scale and a zero point for each activation, from the smallest and
    the largest value on these images.

    With `activation_functions` as quantised operators the range is taken after them. Weights go from −64 to
    64: with the `whole_range` to 127, two products of 8 bits can exceed the 16 bits in which processors
    without VNNI add them, and are cut off (chapter 7a).
    """
    prepared = to.with_suffix(".prepared")
    quant_pre_process(
        path, prepared, skip_symbolic_shape=True
    )  # folds normalisations into the layers before them
    quantize_static(
        prepared,
        to,
        _Calibration(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Gemm", "MatMul", *activation_functions],
        per_channel=True,
        reduce_range=not whole_range,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )
    prepared.unlink()


def open_onnx(path: Path, threads: int = 1) -> Callable[[torch.Tensor], torch.Tensor]:
    """ONNX file -> function of a tensor, in so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.contiguous().numpy()})[0])


def measure_latency(function: Callable, x: torch.Tensor, *, repeats: int = 30) -> float:
    """-> float: milliseconds of function(x), the median of so many calls."""
    return 1e3 * compression.measure_latency(lambda: function(x), repeats=repeats).p50


# --- embeddings of many images of many people ---------------------------------------------------------------


def embed_faces(network: nn.Module, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Module, (P, K, C, H, W) -> (P·K, D) of length 1, (P·K,) int64: the mean of an image and its mirror
    image, and who it is.
    """
    embeddings = embed(faces.flatten(0, 1), network, mirror=True, batch_size=200)
    return F.normalize(embeddings), torch.arange(len(faces)).repeat_interleave(faces.shape[1])
