"""The people whom a system knows: enrolled, verified, identified, removed, and kept in one file."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from vlmbook.face_recognition import gallery_file
from vlmbook.face_recognition.detection import require_image
from vlmbook.face_recognition.embedding import FacePipeline
from vlmbook.face_recognition.gallery_file import as_name
from vlmbook.files import remove_partials, sole_writer, write_whole
from vlmbook.runtime import require_path
from vlmbook.validation import describe, require_number, require_tensor, require_type, require_whole

THRESHOLD = 0.55  # where FAR and FRR are equal on persons 1-20 of the ORL faces, pretrained network
WAIT = 30.0  # seconds for another process to end its writing
EPSILON = float(np.finfo(np.float32).eps)
MOST_IMAGES = 10_000  # of one call


class Verification(NamedTuple):
    """Is this the person?"""

    same: bool
    distance: float  # to the nearest enrolled embedding of the person


class Identification(NamedTuple):
    """Who is this face? `name` is None for somebody who is not enrolled."""

    name: str | None
    distance: float  # to the nearest enrolled embedding, ∞ in an empty gallery
    box: torch.Tensor  # (4,) xyxy


class Gallery:
    """FacePipeline, path -> the enrolled people; without a path they are kept in memory only.

    Two images show one person if the distance of their embeddings is at most `threshold`. The file holds
    names and embeddings, never an image; only its owner can read it. Every change goes into the file at once,
    whole or not at all: it is read again under a lock, changed, and written, so that two processes do not
    lose each other's people. What another process has changed is read before the next answer.

    Raises ValueError for a file that is damaged, that is no gallery, or whose embeddings are of another
    network; OSError for one that cannot be read or written.
    """

    def __init__(
        self, pipeline: FacePipeline, path: str | Path | None = None, *, threshold: float = THRESHOLD
    ):
        self.pipeline = require_type(pipeline, "pipeline", FacePipeline, "a FacePipeline")
        self.path = None if path is None else require_path(path, "path")
        self.threshold = require_number(threshold, "threshold", least=0, most=1e6)
        self._take({}, None)
        self._refresh()

    # --- who is in it ---------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """-> list of str: the enrolled people, in alphabetical order."""
        self._refresh()
        return sorted(self._people)

    def count(self, name: str) -> int:
        """str -> int: how many embeddings of this person there are, 0 for somebody who is not enrolled."""
        name = as_name(name)
        self._refresh()
        return len(self._people.get(name, ()))

    def enroll(self, name: str, images: torch.Tensor | Sequence[torch.Tensor]) -> int:
        """str, an image (C, H, W) or several -> int: the number of embeddings that the person has now.

        Each image has exactly one face. To a person who is enrolled already the embeddings are added. Raises
        ValueError, which says which image has no face or several; then nothing is enrolled.
        """
        name = as_name(name)
        images = _as_images(images)
        found = [self._only_face(image, f"image {number}") for number, image in enumerate(images, start=1)]
        return self.enroll_embeddings(name, torch.stack(found))

    def enroll_embeddings(self, name: str, embeddings: torch.Tensor) -> int:
        """str, (N, D) -> int: as `enroll`, with embeddings that this gallery's network has made."""
        name = as_name(name)
        new = _to_array(require_tensor(embeddings, "embeddings", "N D", least=-1e6, most=1e6))

        def add(people):
            width = next((known.shape[1] for known in people.values()), new.shape[1])
            if new.shape[1] != width:
                raise ValueError(f"embeddings wants the width of the gallery, {width}, got {new.shape[1]}")
            people[name] = np.concatenate([people[name], new]) if name in people else new
            return len(people[name])

        return self._change(add)

    def remove(self, name: str) -> int:
        """str -> int: the person is deleted from the gallery and its file; how many embeddings there were.

        Nothing of the person stays in the file, nor in one that a killed writer has left beside it. Raises
        ValueError for somebody who is not enrolled.
        """
        name = as_name(name)

        def drop(people):
            _require_enrolled(name, people)
            return len(people.pop(name))

        return self._change(drop)

    # --- who is it ------------------------------------------------------------------------------------------

    def verify(self, name: str, image: torch.Tensor) -> Verification:
        """str, (C, H, W) -> Verification: does the one face of this image belong to this person?

        Raises ValueError for an image with no face or several, and for somebody who is not enrolled.
        """
        name = as_name(name)
        require_image(image)
        self._refresh()
        _require_enrolled(name, self._people)
        embedding = _to_array(self._only_face(image, "image"))
        distance = _nearest_distance(self._people[name], embedding)
        return Verification(distance <= self.threshold, distance)

    def identify(self, image: torch.Tensor) -> list[Identification]:
        """(C, H, W) -> list of Identification: one for each face, the largest first; of no face none."""
        require_image(image)
        faces = self.pipeline(image)
        nearest = [found[0] for found in self.search(faces.embeddings)]
        return [
            Identification(name if distance <= self.threshold else None, distance, box)
            for (name, distance), box in zip(nearest, faces.boxes, strict=True)
        ]

    def search(self, embeddings: torch.Tensor, k: int = 1) -> list[list[tuple[str | None, float]]]:
        """(N, D) -> for each of them its k nearest people, the nearest first: names and distances.

        The search is exact: every enrolled embedding is compared. In an empty gallery the answer is (None,
        ∞). Raises TypeError or ValueError for embeddings of another width.
        """
        require_tensor(embeddings, "embeddings", "N D", empty="N", least=-1e6, most=1e6)
        k = require_whole(k, "k", most=1000)
        self._refresh()
        if not self._people:
            return [[(None, float("inf"))] for _ in embeddings]
        return [self._nearest(query, k) for query in _to_array(embeddings)]

    # --- inside ---------------------------------------------------------------------------------------------

    def _only_face(self, image, name):
        embeddings = self.pipeline(image).embeddings
        if len(embeddings) != 1:
            raise ValueError(f"{name} wants exactly one face, got {len(embeddings) or 'none'}")
        return embeddings[0]

    def _nearest(self, query, k):
        """(D,) -> list of (name, distance)."""
        names, matrix, squares, starts = self._index()
        if matrix.shape[1] != len(query):
            raise ValueError(
                f"embeddings wants the width of the gallery, {matrix.shape[1]}, got {len(query)}"
            )
        # ‖a − b‖² = ‖a‖² − 2ab + ‖b‖² is one product of a matrix. It rounds by less than `error`. Whoever
        # could be among the k nearest is compared again, by the differences.
        rough = np.minimum.reduceat(squares - 2 * (matrix @ query), starts)
        error = (len(query) + 4) * EPSILON * (squares.max() ** 0.5 + np.linalg.norm(query)) ** 2
        count = min(k, len(names))
        farthest = np.partition(rough, count - 1)[count - 1] + 2 * error
        candidates = [names[i] for i in np.flatnonzero(rough <= farthest)]
        found = [(name, _nearest_distance(self._people[name], query)) for name in candidates]
        return sorted(found, key=lambda each: (each[1], each[0]))[:k]

    def _index(self):
        """-> names, (M, D), (M,) their squared lengths, (P,) where the rows of each person begin."""
        if self._indexed is None:
            matrix = np.concatenate(list(self._people.values()))
            starts = np.cumsum([0, *map(len, self._people.values())])[:-1]
            self._indexed = list(self._people), matrix, np.einsum("md,md->m", matrix, matrix), starts
        return self._indexed

    def _change(self, change):
        """function of the people -> what it returns; the file is changed too. It raises before it changes
        anything.
        """
        if self.path is None:
            result = change(self._people)
            self._take(self._people, None)
            return result
        with sole_writer(self.path, wait=WAIT):
            people, _ = gallery_file.read(self.path, self.pipeline.digest)
            result = change(people)
            remove_partials(self.path)
            write_whole(self.path, gallery_file.pack(people, self.pipeline.digest), private=True)
            self._take(people, gallery_file.find_version(self.path))
        return result

    def _refresh(self):
        """Read the file again if it is another one than before."""
        if self.path is not None and gallery_file.find_version(self.path) != self._version:
            self._take(*gallery_file.read(self.path, self.pipeline.digest))

    def _take(self, people, version):
        self._people = people
        self._version = version
        self._indexed = None


def _nearest_distance(rows, query):
    """(n, D), (D,) -> float: the smallest Euclidean distance, from the differences in float64."""
    return float(np.sqrt(np.square(rows.astype(np.float64) - query).sum(1).min()))


def _to_array(embeddings):
    return embeddings.detach().float().cpu().numpy().copy()


def _as_images(images):
    """One image or several -> list, each of them looked at."""
    images = [images] if isinstance(images, torch.Tensor) and images.ndim == 3 else images
    if not isinstance(images, (torch.Tensor, list, tuple)):
        raise TypeError(f"images wants an image (C, H, W) or a list of them, got {describe(images)}")
    if isinstance(images, torch.Tensor) and images.ndim != 4:
        raise ValueError(f"images wants an image (C, H, W) or a list of them, got {describe(images)}")
    if not 1 <= len(images) <= MOST_IMAGES:
        raise ValueError(f"images wants 1 to {MOST_IMAGES:,} images, got {len(images):,}")
    return [require_image(image, f"image {number}") for number, image in enumerate(images, start=1)]


def _require_enrolled(name, people):
    if name not in people:
        raise ValueError(f"name wants an enrolled person, got {name!r}")
