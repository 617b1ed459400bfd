"""Chapter 6a: photographs of real people (ORL or Olivetti, Labeled Faces in the Wild), for readers who have
them. Nothing is downloaded.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from sklearn.datasets import fetch_lfw_pairs, fetch_olivetti_faces
from torch import nn
from torch.nn import functional as F

from vlmbook import data, runtime
from vlmbook.chapters.ch06a.experiments import embed_faces, thin_roc
from vlmbook.face_embedder import FaceLandmarks, align_points
from vlmbook.face_recognition import (
    Eigenfaces,
    FacePipeline,
    Pairs,
    crop_box,
    cut_faces,
    detect_faces,
    embed,
    equal_error_rate,
    fold_accuracy,
    lbp_histograms,
    make_pairs,
    roc_curve,
    tar_at_far,
)

FARS = (1e-1, 1e-2, 1e-3)
SHOTS = 10  # photographs of each person of ORL
EDGE = 40  # pixels by which an image is continued, so that a wide crop is never black
LFW_MIDDLE = slice(25, 225)  # of the 250 rows and columns of a photograph of LFW
LFW_SHARE = 0.75  # of its size, as it is read: both images of 6,000 pairs take 3.2 GB
LFW_BOX = torch.tensor([32.0, 32, 118, 118])  # the face, where the cascade finds none


# --- where the photographs are ------------------------------------------------------------------------------


def read_orl() -> list[list[torch.Tensor]]:
    """-> for each of the 40 people of ORL ten images (1, 112, 92).

    Raises `vlmbook.data.DataMissing` where VLMBOOK_DATA holds no orl_faces.
    """
    folder = data.data_folder() / "orl_faces"
    return [
        [data.read_image(folder / f"s{person}" / f"{shot}.pgm", channels=1) for shot in range(1, SHOTS + 1)]
        for person in range(1, 41)
    ]


def read_olivetti() -> list[list[torch.Tensor]]:
    """-> for each of the 40 people ten images (1, 64, 64): ORL's, cut to the face, as scikit-learn has them.

    Raises `vlmbook.data.DataMissing` where scikit-learn has not downloaded them.
    """
    home = find_home("olivetti_py3.pkz")
    images = fetch_olivetti_faces(data_home=str(home), download_if_missing=False).images
    faces = torch.from_numpy(images).float().clamp(0, 1).view(40, SHOTS, 1, *images.shape[1:])
    return [list(person) for person in faces]


def read_lfw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """-> (N, 2, 3, 150, 150), same (N,) bool, folds (N,) int64: the pairs of the ten folds of Labeled Faces
    in the Wild, as scikit-learn has them.

    Raises `vlmbook.data.DataMissing` where scikit-learn has not downloaded them.
    """
    home = find_home("lfw_home/lfw_funneled")
    found = fetch_lfw_pairs(
        subset="10_folds",
        data_home=str(home),
        color=True,
        slice_=(LFW_MIDDLE, LFW_MIDDLE),
        resize=LFW_SHARE,
        download_if_missing=False,
    )
    pairs = torch.from_numpy(found.pairs).movedim(4, 2)
    folds = 10 * torch.arange(len(pairs)) // len(pairs)  # the file lists one fold after another
    return pairs, torch.from_numpy(found.target) == 1, folds


def find_home(name: str) -> Path:
    """str -> Path of the folder that holds a file or folder of this name: VLMBOOK_DATA, else the folder in
    which scikit-learn keeps its data.

    Raises `vlmbook.data.DataMissing` where neither does. (scikit-learn's own search makes the folder.)
    """
    own = runtime.require_path(
        os.environ.get("SCIKIT_LEARN_DATA") or "~/scikit_learn_data", "SCIKIT_LEARN_DATA"
    )
    for home in (data.data_folder(), own):
        if (home / name).exists():
            return home
    raise data.DataMissing(f"there is no {name} in {data.data_folder()} or in scikit-learn's folder {own}")


# --- crops --------------------------------------------------------------------------------------------------


def find_boxes(images: Sequence[torch.Tensor]) -> tuple[torch.Tensor, int]:
    """N of (1, H, W) -> (N, 4) xyxy, how many were found: the largest face of each, else a box in the
    middle.
    """
    boxes, found = [], 0
    for image in images:
        faces = detect_faces(image)
        found += len(faces) > 0
        height, width = image.shape[1:]
        middle = torch.tensor([0.14 * width, 0.23 * height, 0.86 * width, 0.82 * height])
        boxes.append(faces[0] if len(faces) else middle)
    return torch.stack(boxes), found


def cut_views(
    images: Sequence[torch.Tensor], boxes: torch.Tensor, landmarks: FaceLandmarks | None, size: int
) -> torch.Tensor:
    """N of (1, H, W), (N, 4) -> (N, V, 3, size, size): each face cut in several ways.

    Two crops are the box with a little and with more around it. With landmarks there are two more, aligned
    as a chip is, and wider. Each image is continued at its edges.
    """
    return torch.stack(
        [_cut_views(image, box, landmarks, size) for image, box in zip(images, boxes, strict=True)]
    )


def _cut_views(image, box, landmarks, size):
    wide = F.pad(image[None], (EDGE,) * 4, mode="replicate")[0]
    crops = [crop_box(wide, _widen(box, share) + EDGE, size) for share in (0.1, 0.3)]
    if landmarks is not None:
        points = landmarks(image, box).float() + EDGE
        middle = points.mean(0)
        for zoom in (1.0, 1.3):  # landmarks further apart: more of the head is in the chip
            chip = align_points(wide, middle + zoom * (points - middle))
            crops.append(F.interpolate(chip[None], size=size, mode="bilinear", antialias=True)[0].clamp(0, 1))
    return torch.stack(crops)


def _widen(box, share):
    """(4,) -> (4,): with more of the head around it."""
    middle = (box[:2] + box[2:]) / 2
    half = (box[2:] - box[:2]) / 2 * (1 + share)
    return torch.cat([middle - half, middle + half])


def mix_people(faces: torch.Tensor, count: int, *, seed: int = 0) -> torch.Tensor:
    """(P, K, C, H, W) in [0, 1] -> (P + count, K, C, H, W): the people, and as many who do not exist.

    Each of the new people has the upper half of the face of one person, and the lower half of another. Image
    by image the lower half gets the mean and the standard deviation of the other one's image. No two new
    people are the same pair: `count` is at most P·(P − 1).
    """
    people = len(faces)
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randperm(people * (people - 1), generator=generator)[:count]
    upper, other = pairs // (people - 1), pairs % (people - 1)
    lower = other + (other >= upper)  # nobody is paired with himself or herself
    rows = torch.linspace(-6, 6, faces.shape[3]).view(-1, 1)
    share = torch.sigmoid(rows)  # of the lower face: from 0 at the top to 1 at the bottom
    mixed = [
        (1 - share) * top + share * _match_light(bottom, top)
        for top, bottom in zip(faces[upper], faces[lower], strict=True)
    ]
    return torch.cat([faces, torch.stack(mixed).clamp(0, 1)])


def _match_light(images, others):
    """(K, C, H, W) -> the same: each with the mean and the standard deviation of the other image."""
    axes = (1, 2, 3)
    spread = images.std(axes, keepdim=True) + 1e-3
    z = (images - images.mean(axes, keepdim=True)) / spread
    return z * others.std(axes, keepdim=True) + others.mean(axes, keepdim=True)


def embed_views(network: nn.Module, views: torch.Tensor) -> torch.Tensor:
    """Module, (N, V, C, H, W) -> (N, D) of length 1: the mean over the views and their mirror images."""
    embeddings = embed_faces(network, views)[0]
    return F.normalize(embeddings.view(*views.shape[:2], -1).mean(1))


# --- all of it ---------------------------------------------------------------------------------------------


def measure(train: Callable[..., nn.Module], pipeline: FacePipeline | None) -> dict:
    """train(faces, seed) -> network, FacePipeline -> what the full profile measures on photographs; {} in the
    quick profile.
    """
    if runtime.profile() == "quick":
        return {}
    return measure_orl(train, pipeline) | measure_lfw(pipeline)


# --- ORL ----------------------------------------------------------------------------------------------------


def measure_orl(
    train: Callable[..., nn.Module],
    pipeline: FacePipeline | None,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    counts: Sequence[int] = (5, 10),
    size: int = 32,
) -> dict:
    """train(faces, seed) -> network, FacePipeline -> what the full profile measures on persons 21-40 of ORL.

    `train` learns from persons 1-20, and from the first few of them: `counts`. All methods get the same pairs
    of the same photographs. Where ORL is missing, Olivetti is taken; where both are, {}.
    """
    try:
        people = _read_people()
    except data.DataMissing as missing:
        print(missing)
        return {}
    images = [image for person in people for image in person]
    boxes, found = find_boxes(images)
    known, new = cut_views(images, boxes, pipeline and pipeline.landmarks, size).chunk(2)
    who = torch.arange(20).repeat_interleave(SHOTS)
    errors = {name: [make_pairs(x, who)] for name, x in _older_methods(images).items()}
    people_of = known.view(20, -1, *known.shape[2:])  # all crops of a person are images of this person
    by_people = {}
    for count in [*counts, 20]:
        networks = [train(people_of[:count], seed) for seed in seeds]
        by_people[count] = [make_pairs(embed_views(network, new), who) for network in networks]
    errors["own network"] = by_people[20]
    measured = {"orl_faces_found": found / len(boxes)}
    if pipeline is not None:
        chips, crops = (
            torch.cat([cut_faces(*each, where) for each in zip(images[200:], boxes[200:, None], strict=True)])
            for where in (pipeline.landmarks, None)
        )
        errors["pretrained"] = [make_pairs(embed(chips, pipeline.network, mirror=True), who)]
        errors["pretrained, box alone"] = [make_pairs(embed(crops, pipeline.network, mirror=True), who)]
        verdict = make_pairs(embed(chips, pipeline.network), who)  # as the gallery embeds them
        measured["roc"] = thin_roc(roc_curve(verdict.distances, verdict.same))
    measured["orl_eer"] = {name: [_equal_error(each) for each in runs] for name, runs in errors.items()}
    measured["orl_eer_by_people"] = {
        n: [_equal_error(each) for each in runs] for n, runs in by_people.items()
    }
    measured["orl_tar"] = {
        name: {far: [tar_at_far(*each[:2], far)[0] for each in runs] for far in FARS}
        for name, runs in errors.items()
    }
    return measured


def _read_people():
    try:
        return read_orl()
    except data.DataMissing as missing:
        try:
            return read_olivetti()
        except data.DataMissing as other:
            raise data.DataMissing(f"{missing}, and {other}") from None


def _older_methods(images):
    """400 of (1, H, W) -> {name: (200, D)} of the last 200: on the whole photograph, which is better for both
    on the first 200 than boxes and chips are, or as good.
    """
    known, new = torch.stack([_shrink(image) for image in images]).chunk(2)
    return {"eigenfaces": Eigenfaces(known)(new), "LBP": lbp_histograms(new)}


def _shrink(image):
    """(1, H, W) -> (1, 60, 48)"""
    return F.interpolate(image[None], size=(60, 48), mode="bilinear", antialias=True)[0]


def _equal_error(pairs: Pairs) -> float:
    return equal_error_rate(*pairs[:2])[0]


# --- LFW ----------------------------------------------------------------------------------------------------


def measure_lfw(pipeline: FacePipeline | None) -> dict:
    """FacePipeline -> accuracy with its standard error, and EER, of the official pairs; {} without LFW.

    LBP histograms see the middle of each photograph, the pretrained network its aligned face.
    """
    try:
        pairs, same, folds = read_lfw()
    except data.DataMissing as missing:
        print(missing)
        return {}
    methods = {"LBP": lambda image: lbp_histograms(crop_box(image, LFW_BOX, 64)[None, :1])[0]}
    if pipeline is not None:
        methods["pretrained"] = lambda image: _embed_largest(pipeline, image)
    measured = {}
    for name, method in methods.items():
        distances = _measure_distances(method, pairs)
        accuracy, error, _ = fold_accuracy(distances, same, folds)
        rate = equal_error_rate(distances, same)[0]
        measured[name] = {"accuracy": accuracy, "standard error": error, "EER": rate}
    return {"lfw": measured}


def _measure_distances(method, pairs):
    """(N, 2, 3, H, W) -> (N,): a photograph that is in many pairs is embedded once."""
    known = {}

    def look_up(image):
        key = image.numpy().tobytes()
        if key not in known:
            known[key] = method(image)
        return known[key]

    return torch.stack([(look_up(first) - look_up(second)).norm() for first, second in pairs])


def _embed_largest(pipeline, image):
    """(3, H, W) -> (D,): the mean of the chip and its mirror image; the middle where no face is found."""
    found = detect_faces(image, smallest=LFW_MIDDLE.stop // 4)
    box = found[0] if len(found) else LFW_BOX
    chip = cut_faces(image, box[None], pipeline.landmarks)
    return embed(chip, pipeline.network, mirror=True)[0]
