"""`vlmbook faces`: people are enrolled from a reader's photographs, identified, verified and removed."""

import argparse
import sys
import warnings
from collections.abc import Iterator

from vlmbook.cli.console import BAD, GOOD, Mistake, escape_controls, expand_pattern

GALLERY = "faces.gallery"


def enroll_person(args: argparse.Namespace) -> int:
    """-> exit code: add the one face of each photograph to a person of the gallery.

    A file that cannot be read, or without exactly one face, gets one sentence on stderr, and the others go
    on.
    """
    import torch

    gallery = _open_gallery(args)
    name = _name_or_mistake(args.name)
    files = _expand(args.files)
    found = []
    for file, image in _read_images(files):
        embeddings = gallery.pipeline(image).embeddings
        if len(embeddings) == 1:
            found.append(embeddings[0])
        else:
            _complain(f"{file} wants exactly one face, got {len(embeddings) or 'none'}")
    if found:
        count = _change(lambda: gallery.enroll_embeddings(name, torch.stack(found)))
        print(f"{name}: {len(found)} of {len(files)} photographs enrolled, {count} in all")
    return GOOD if len(found) == len(files) else BAD


def identify_faces(args: argparse.Namespace) -> int:
    """-> exit code: print a line a face, the person's name or "nobody enrolled"."""
    gallery = _open_gallery(args, existing=True)
    files = _expand(args.files)
    count = 0
    for file, image in _read_images(files):
        count += 1
        faces = gallery.identify(image)
        if not faces:
            print(f"{escape_controls(file)}: no face", flush=True)
        for face in faces:
            box = ",".join(f"{edge:.0f}" for edge in face.box.tolist())
            print(
                f"{escape_controls(file)}: {face.name or 'nobody enrolled'}, distance {face.distance:.2f}, "
                f"box {box}",
                flush=True,
            )
    return GOOD if count == len(files) else BAD


def verify_person(args: argparse.Namespace) -> int:
    """-> exit code: print a line a photograph, whether its one face belongs to the person."""
    gallery = _open_gallery(args, existing=True)
    name = _enrolled_or_mistake(args.name, gallery)
    code = GOOD
    files = _expand(args.files)
    count = 0
    for file, image in _read_images(files):
        count += 1
        try:
            same, distance = gallery.verify(name, image)
        except ValueError as error:
            _complain(f"{file}: {error}")
            code = BAD
            continue
        print(f"{escape_controls(file)}: {'yes' if same else 'no'}, distance {distance:.2f}", flush=True)
        code = code if same else BAD
    return code if count == len(files) else BAD


def remove_person(args: argparse.Namespace) -> int:
    """-> exit code: delete a person from the gallery."""
    gallery = _open_gallery(args, existing=True)
    name = _enrolled_or_mistake(args.name, gallery)
    count = _change(lambda: gallery.remove(name))
    print(f"{name}: removed, with {count} embedding{'s' if count > 1 else ''}")
    return GOOD


# --- the gallery --------------------------------------------------------------------------------------------


def _open_gallery(args, existing=False):
    """-> Gallery of the file that --gallery names."""
    from vlmbook.face_recognition import Gallery, pretrained_pipeline

    threshold = {} if args.threshold is None else {"threshold": args.threshold}
    try:
        gallery = Gallery(pretrained_pipeline(), args.gallery, **threshold)
    except (OSError, ValueError) as error:  # missing weights are an OSError too
        raise Mistake(str(error)) from None
    if existing and not gallery.path.exists():
        raise Mistake(f"there is no gallery {args.gallery}; `vlmbook faces enroll` makes one")
    return gallery


def _name_or_mistake(name):
    from vlmbook.face_recognition.gallery_file import as_name

    try:
        return as_name(name)
    except ValueError as error:
        raise Mistake(str(error)) from None


def _enrolled_or_mistake(name, gallery):
    name = _name_or_mistake(name)
    if name not in gallery.names():
        raise Mistake(f"{name} is not enrolled in {gallery.path}")
    return name


def _change(change):
    """What another process has done to the file meanwhile is the user's mistake too."""
    try:
        return change()
    except ValueError as error:
        raise Mistake(str(error)) from None


# --- the photographs ----------------------------------------------------------------------------------------


def _expand(patterns):
    return [file for pattern in patterns for file in expand_pattern(pattern)]


def _read_images(files) -> Iterator:
    """list of str -> pairs of file and image (3, H, W); one that cannot be read gets a sentence on stderr."""
    from vlmbook.data import read_image

    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of what it then refuses, or can do without
                image = read_image(file, channels=3)
        except (OSError, ValueError) as error:
            _complain(str(error))
            continue
        yield file, image


def _complain(sentence):
    print(f"vlmbook: {escape_controls(sentence)}", file=sys.stderr)
