"""Speed of our edits on the CPU: megapixels a second that `upscale` makes, beside Pillow's bicubic
interpolation; seconds of `style_transfer` at 256 pixels; the peak memory of enlarging to 8000×6000.
"""

import argparse
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from PIL import Image

from vlmbook.data import photo
from vlmbook.editing import style_transfer, upscale, upscaler
from vlmbook.editing.superresolution import SubPixelNetwork
from vlmbook.runtime import peak_memory

STYLE_BAR = 15.0  # seconds on two cores
MEMORY_BAR = 1.5  # GB
LARGE = (3000, 4000)  # pixels, which become 6000 × 8000


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--memory", action="store_true", help="print the peak memory and no more")
    arguments = arguments.parse_args()
    if arguments.memory:
        print(f"{memory():.2f}")
        return
    command = [sys.executable, __file__, "--memory"]  # first: a process starts with its parent's peak
    gigabytes = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.repeats} repeats")
    upscaling(arguments.repeats)
    seconds = stylising()
    print(f"style_transfer, 256 pixels, 100 steps: {seconds:.1f} s (bar: at most {STYLE_BAR:g} on two cores)")
    print(f"peak memory, {LARGE[1]}×{LARGE[0]} enlarged twice: {gigabytes:.2f} GB (bar: {MEMORY_BAR:g})")
    sys.exit(seconds > STYLE_BAR or gigabytes > MEMORY_BAR)


def upscaling(repeats):
    """Both in turn: megapixels a second that come out."""
    image, network = photo("coffee"), upscaler()
    picture = Image.fromarray(np.ascontiguousarray((255 * image).byte().permute(1, 2, 0).numpy()))
    size = (2 * picture.width, 2 * picture.height)
    ways = {
        "upscale": lambda: upscale(image, 2, network=network),
        "Pillow's bicubic": lambda: picture.resize(size, Image.Resampling.BICUBIC),
    }
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    megapixels = size[0] * size[1] / 1e6
    rates = {name: megapixels / statistics.median(times) for name, times in seconds.items()}
    print("megapixels/s that come out: " + ", ".join(f"{name} {rate:.3g}" for name, rate in rates.items()))


def stylising():
    """-> seconds of one transfer."""
    began = time.perf_counter()
    style_transfer(photo("cat"), photo("coffee"), generator=torch.Generator().manual_seed(0))
    return time.perf_counter() - began


def memory():
    """-> GB: peak of the process that enlarges an image of bytes. Time depends on the network, memory on its
    width alone, so that a network of one block will do.
    """
    image = torch.randint(256, (3, *LARGE), dtype=torch.uint8)
    upscale(image, 2, network=SubPixelNetwork(2, width=64, depth=1))
    return peak_memory()["ram"] / 1e9


if __name__ == "__main__":
    main()
