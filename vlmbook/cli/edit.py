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
        mask = read_hole(find_mask(file), photograph)
        return inpaint_photograph(photograph, mask, network=network, progress=True)

    return _edit_each(args, "inpainted", edit)


def stylise_photographs(args: argparse.Namespace) -> int:
    """-> exit code: each photograph in the style of one painting."""
    import torch

    from vlmbook.editing import read_photograph, stylise_photograph
    from vlmbook.pretrained import efficientnet_lite0

    network = _weights_or_mistake(efficientnet_lite0)
    try:
        style = read_photograph(args.style)
    except (OSError, ValueError) as error:
        raise Mistake(f"--style: {error}") from None
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

    output = folder_or_mistake("--output", args.output, [])
    code = GOOD
    for file in [file for pattern in args.files for file in expand_pattern(pattern)]:
        copy = output / f"{Path(file).stem}-{ending}.png"
        try:
            _refuse_existing(copy)
            photograph = read_photograph(file)
            save_photograph(edit(photograph, file), copy)
        except (OSError, ValueError) as error:
            print(f"vlmbook: {escape_controls(_naming(file, error))}", file=sys.stderr)
            code = BAD
            continue
        note = f" ({photograph.note})" if photograph.note else ""
        print(f"{escape_controls(file)}: {escape_controls(shown(copy))}{note}", flush=True)
    return code


def _refuse_existing(copy):
    """Before minutes are spent on it; `save_photograph` refuses too."""
    if copy.exists():
        raise FileExistsError(f"{copy} exists already and is not overwritten")


def _naming(file, error):
    """str, error -> str: a sentence in which the file is named."""
    text = str(error)
    return text if file in text else f"{file}: {text}"


def _weights_or_mistake(load: Callable):
    from vlmbook.pretrained import WeightsMissing

    try:
        return load()
    except WeightsMissing as missing:
        raise Mistake(str(missing)) from None


def _masks_or_mistake(name: str) -> Callable[[str], Path]:
    """A file or a folder of masks -> function: from a photograph's file to its mask."""
    from vlmbook.data.images import index_by_stem, list_images

    path = Path(name)
    if not path.is_dir():
        return lambda file: path
    try:
        masks = index_by_stem(list_images(path))
    except (OSError, ValueError) as error:
        raise Mistake(f"--mask: {error}") from None

    def find(file):
        if Path(file).stem not in masks:
            raise FileNotFoundError(f"{file} has no mask of its name in {name}")
        return masks[Path(file).stem]

    return find
