"""`vlmbook edit`: photographs enlarged, cleaned, repaired, or painted in a style; each copy is a new file."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from vlmbook.cli.console import BAD, GOOD, Mistake, escape_controls, expand_pattern, folder_or_mistake, shown


def upscale_photographs(args: argparse.Namespace) -> int:
    """-> exit code: each photograph `--factor` times as large."""
    from vlmbook.editing import upscale_photograph, upscaler

    network = _weights_or_mistake(upscaler)

    def edit(photograph, file):
        return upscale_photograph(photograph, args.factor, network=network, progress=True)

    return _edit_each(args, f"x{args.factor}", edit)


def denoise_photographs(args: argparse.Namespace) -> int:
    """-> exit code: each photograph without its noise."""
    from vlmbook.editing import denoise_photograph, denoiser

    network = _weights_or_mistake(denoiser)
    sigma = None if args.sigma is None else args.sigma / 255

    def edit(photograph, file):
        return denoise_photograph(photograph, sigma, network=network, progress=True)

    return _edit_each(args, "denoised", edit)


def inpaint_photographs(args: argparse.Namespace) -> int:
    """-> exit code: each photograph with the holes of its mask filled."""
    from vlmbook.editing import inpaint_photograph, inpainter, read_hole

    network = _weights_or_mistake(inpainter)
    find_mask = _masks_or_mistake(args.mask)

    def edit(photograph, file):
        mask = read_hole(find_mask(file), photograph, max_pixels=args.max_pixels)
        return inpaint_photograph(photograph, mask, network=network, progress=True)

    return _edit_each(args, "inpainted", edit)


def stylise_photographs(args: argparse.Namespace) -> int:
    """-> exit code: each photograph in the style of one painting."""
    import torch

    from vlmbook.editing import read_photograph, stylise_photograph
    from vlmbook.pretrained import efficientnet_lite0

    network = _weights_or_mistake(efficientnet_lite0)
    try:
        style = read_photograph(args.style, max_pixels=args.max_pixels)
    except (OSError, ValueError) as error:
        raise Mistake(f"--style: {_explain(error)}") from None
    options = {"size": args.size, "steps": args.steps, "keep_colours": args.keep_colours}

    def edit(photograph, file):
        generator = torch.Generator().manual_seed(0)  # the same photograph gives the same picture
        options_now = options | {"network": network, "generator": generator, "progress": True}
        return stylise_photograph(photograph, style, **options_now)

    return _edit_each(args, f"in-{Path(args.style).stem}", edit)


# --- what the edits share -----------------------------------------------------------------------------------


def _edit_each(args, ending: str, edit: Callable) -> int:
    """-> exit code: read, edit and save each file; one that cannot be gets one sentence on stderr, and the
    others go on.
    """
    from vlmbook.editing import read_photograph, save_photograph

    copies = _name_copies(args.files, ending)
    output = folder_or_mistake("--output", args.output, [])
    code = GOOD
    for file, name in copies.items():
        copy = output / name
        try:
            _refuse_existing(copy)
            photograph = read_photograph(file, max_pixels=args.max_pixels)
            save_photograph(edit(photograph, file), copy)
        except (OSError, ValueError, MemoryError, RuntimeError) as error:
            print(f"vlmbook: {escape_controls(_naming(file, _explain(error)))}", file=sys.stderr)
            code = BAD
            continue
        note = f" ({photograph.note})" if photograph.note else ""
        print(f"{escape_controls(file)}: {escape_controls(shown(copy))}{note}", flush=True)
    return code


def _name_copies(patterns, ending):
    """list of str, str -> {file: name of its copy}; no two have the same."""
    files = {file: None for pattern in patterns for file in expand_pattern(pattern)}
    copies = {}
    for file in files:
        name = f"{Path(file).stem}-{ending}.png"
        if name in copies:
            raise Mistake(f"{copies[name]} and {file} would both become {name}; give each its own --output")
        copies[name] = file
    return {file: name for name, file in copies.items()}


def _refuse_existing(copy):
    """Before minutes are spent on it; `save_photograph` refuses too."""
    if copy.exists():
        raise FileExistsError(f"{copy} exists already and is not overwritten")


def _explain(error):
    """error -> str: a sentence that says what the user can do. What is no fault of the file's is raised
    again.
    """
    from vlmbook.data.images import TooManyPixels

    if isinstance(error, TooManyPixels):
        return f"{error} with --max-pixels"
    of_torch = isinstance(error, RuntimeError)
    if isinstance(error, MemoryError) or (of_torch and "memory" in str(error)):
        return "it wants more memory than this machine has free"
    if of_torch:
        raise error
    return str(error)


def _naming(file, sentence):
    """str, str -> str: the sentence, in which the file is named first."""
    return sentence if sentence.startswith(f"{file} ") else f"{file}: {sentence}"


def _weights_or_mistake(load: Callable):
    from vlmbook.pretrained import WeightsMissing

    try:
        return load()
    except WeightsMissing as missing:
        raise Mistake(str(missing)) from None


def _masks_or_mistake(name: str) -> Callable[[str], Path]:
    """A file or a folder of masks -> function: from a photograph's file to its mask."""
    from vlmbook.data.images import index_by_stem, list_images
    from vlmbook.runtime import require_path

    try:
        path = require_path(name, "--mask")
        masks = index_by_stem(list_images(path)) if path.is_dir() else None
    except (OSError, ValueError) as error:
        raise Mistake(f"--mask: {error}") from None

    def find(file):
        stem = Path(file).stem
        if masks is not None and stem not in masks:
            raise FileNotFoundError(f"{file} has no mask of its name in {name}")
        mask = path if masks is None else masks[stem]
        if mask.exists() and mask.samefile(require_path(file, "FILE")):
            raise ValueError(f"{file} wants a mask of its own, got the photograph itself")
        return mask

    return find
