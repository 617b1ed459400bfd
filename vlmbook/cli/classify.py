"""`vlmbook classify`: the three names that ImageNet's classes give a reader's photograph."""

import argparse
import sys

from vlmbook.cli.console import BAD, GOOD, Mistake, escape_controls, expand_pattern

TOP = 3


def classify_photographs(args: argparse.Namespace) -> int:
    """-> exit code: print a line a photograph, the likeliest names with their probabilities.

    A file that cannot be read gets one sentence on stderr, and the others go on.
    """
    import torch

    from vlmbook.data import read_image
    from vlmbook.efficientnet import class_names, imagenet_input
    from vlmbook.pretrained import WeightsMissing, efficientnet_lite0

    try:
        model = efficientnet_lite0()
    except WeightsMissing as missing:
        raise Mistake(str(missing)) from None
    names = class_names()
    code = GOOD
    for file in [file for pattern in args.files for file in expand_pattern(pattern)]:
        try:
            image = read_image(file, channels=3)
        except (OSError, ValueError) as error:
            print(f"vlmbook: {escape_controls(str(error))}", file=sys.stderr)
            code = BAD
            continue
        with torch.inference_mode():
            probabilities = model(imagenet_input(image)).softmax(1)[0]
        found = [f"{names[label]} {probabilities[label]:.2f}" for label in probabilities.topk(TOP).indices]
        print(f"{escape_controls(file)}: {', '.join(found)}", flush=True)
    return code
