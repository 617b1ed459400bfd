"""Our nms on 5,000 boxes and our roi_align against those of torchvision.ops, which are compiled, in turns.

On the CPU torchvision's run in one thread, so by default ours have no more.
"""

import argparse
import statistics
import sys
import time

import torch
import torchvision
from torch.testing import assert_close

from vlmbook.detection import nms, roi_align

BARS = {"nms": 10, "roi_align": 5}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=15)
    arguments.add_argument("--only", choices=BARS, help="one of the two claims")
    arguments.add_argument("--threads", type=int, default=1)
    arguments = arguments.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, CPU, "
        f"{torch.get_num_threads()} threads, {arguments.repeats} interleaved repeats"
    )
    cases = {"nms": nms_cases, "roi_align": roi_align_cases}
    missed = []
    for name in [arguments.only] if arguments.only else cases:
        for title, ours, theirs in cases[name]():
            ratio = measure(f"{name}, {title}", ours, theirs, arguments.repeats)
            if ratio > BARS[name]:
                missed.append(title)
        print(f"bar of {name}: at most {BARS[name]}")
    sys.exit(1 if missed else 0)


def measure(title, ours, theirs, repeats):
    """Time both in turn, print the medians -> float: ours over theirs."""
    assert_close(ours(), theirs(), rtol=1e-4, atol=1e-4)  # the first call warms up
    seconds = {"ours": [], "torchvision": []}
    for repeat in range(repeats):
        for way, run in sorted({"ours": ours, "torchvision": theirs}.items(), reverse=repeat % 2):
            began = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - began)
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    ratio = medians["ours"] / medians["torchvision"]
    print(
        f"{title}, median ms: "
        + ", ".join(f"{way} {1000 * median:.1f}" for way, median in medians.items())
        + f"; ratio {ratio:.2f}"
    )
    return ratio


def nms_cases():
    """Boxes around 250 objects, as a detector gives them; and small ones at random: nearly all are kept."""
    generator = torch.Generator().manual_seed(0)
    objects = torch.rand(250, 4, generator=generator) * torch.tensor([760, 560, 80, 80])
    objects = objects + torch.tensor([0, 0, 40, 40])
    near = objects[torch.randint(250, (5000,), generator=generator)]
    near = near + 6 * torch.randn(5000, 4, generator=generator)
    apart = torch.cat([torch.rand(5000, 2, generator=generator) * 1000, torch.full((5000, 2), 8.0)], dim=1)
    scores = torch.rand(5000, generator=generator)
    for title, each in {"5,000 boxes around 250 objects": near, "5,000 boxes at random": apart}.items():
        boxes = torch.cat([each[:, :2], each[:, :2] + each[:, 2:].clamp(min=4)], dim=1)
        kept = len(nms(boxes, scores, 0.5))
        yield (
            f"{title}, {kept} kept",
            lambda boxes=boxes: nms(boxes, scores, 0.5),
            lambda boxes=boxes: torchvision.ops.nms(boxes, scores, 0.5),
        )


def roi_align_cases():
    """512 regions on the map of an 800×800 image with stride 16; 200 on a wider one."""
    generator = torch.Generator().manual_seed(0)
    for channels, side, count in ((256, 50, 512), (64, 100, 200)):
        x = torch.randn(1, channels, side, side, generator=generator)
        low = torch.rand(count, 2, generator=generator) * side * 12
        boxes = [torch.cat([low, low + 16 + torch.rand(count, 2, generator=generator) * 300], dim=1)]
        given = (x, boxes, 7, 1 / 16, 2)
        yield (
            f"{count} regions, map {channels}×{side}×{side}",
            lambda given=given: roi_align(*given),
            lambda given=given: torchvision.ops.roi_align(*given),
        )


if __name__ == "__main__":
    main()
