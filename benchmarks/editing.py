"""Speed of our edits on the CPU: megapixels a second that `upscale` makes, beside Pillow's bicubic
interpolation, and `denoise`; the latency of the network as ONNX; seconds of `style_transfer` at 256
pixels; the peak memory of enlarging a photograph of 8000×6000 pixels, and of making one.

The load of the machine is printed: where others work too, seconds are theirs as well.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image
from torch.testing import assert_close

from vlmbook.data import photo
from vlmbook.editing import (
    SubPixelNetwork,
    denoise,
    denoiser,
    enlarge_bicubic,
    style_transfer,
    upscale,
    upscaler,
)
from vlmbook.runtime import peak_memory

STYLE_BAR = 15.0  # seconds on two cores
MEMORY_BAR = 1.5  # GB
SIZES = {"from": (6000, 8000), "to": (3000, 4000)}  # pixels before enlarging
ONNX_SIDES = (64, 128, 256)  # pixels of the small image


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--skip-memory", action="store_true", help="which takes minutes")
    arguments.add_argument("--memory", choices=SIZES, help="print the peak memory of one case and no more")
    arguments = arguments.parse_args()
    if arguments.memory:
        print(f"{memory(SIZES[arguments.memory]):.2f}")
        return
    gigabytes = {} if arguments.skip_memory else {case: memory_alone(case) for case in SIZES}
    torch.set_num_threads(arguments.threads)
    print(
        f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, {torch.get_num_threads()} "
        f"threads, {arguments.repeats} repeats, load of the last minute {os.getloadavg()[0]:.1f}"
    )
    whole_images(arguments.repeats)
    latencies(arguments.repeats)
    seconds = stylising()
    print(f"style_transfer, 256 pixels, 100 steps: {seconds:.1f} s (bar: at most {STYLE_BAR:g} on two cores)")
    for case, peak in gigabytes.items():
        height, width = SIZES[case]
        print(
            f"peak memory, {width}×{height} to {2 * width}×{2 * height}: {peak:.2f} GB (bar: {MEMORY_BAR:g})"
        )
    print(f"load of the last minute at the end {os.getloadavg()[0]:.1f}")
    sys.exit(seconds > STYLE_BAR or max(gigabytes.values(), default=0) > MEMORY_BAR)


def whole_images(repeats):
    """All ways in turn: megapixels a second that come out."""
    image, network, cleaner = photo("coffee"), upscaler(), denoiser()
    picture = Image.fromarray(np.ascontiguousarray((255 * image).byte().permute(1, 2, 0).numpy()))
    size = (2 * picture.width, 2 * picture.height)
    ways = {
        "upscale": (4, lambda: upscale(image, 2, network=network)),
        "Pillow's bicubic": (4, lambda: picture.resize(size, Image.Resampling.BICUBIC)),
        "denoise": (1, lambda: denoise(image, 0.1, network=cleaner)),
    }
    medians = times_in_turn({name: way for name, (_, way) in ways.items()}, repeats)
    megapixels = picture.width * picture.height / 1e6
    rates = {name: ways[name][0] * megapixels / seconds for name, seconds in medians.items()}
    print("megapixels/s that come out: " + ", ".join(f"{name} {rate:.3g}" for name, rate in rates.items()))


def latencies(repeats):
    """The network alone, one luma of a small image: in PyTorch, and by ONNX Runtime."""
    network = upscaler()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upscaler.onnx"
        export(network, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        print(f"the upscaler as ONNX: {path.stat().st_size / 1e6:.2f} MB")
        for side in ONNX_SIDES:
            x = torch.rand(1, 1, side, side)
            ways = {
                "PyTorch": lambda x=x: network(x),
                "ONNX Runtime": lambda x=x: session.run(None, {"x": x.numpy()})[0],
            }
            with torch.inference_mode():
                detail = torch.from_numpy(ways["ONNX Runtime"]())
                assert_close(detail + enlarge_bicubic(x, 2), ways["PyTorch"](), rtol=0, atol=1e-4)
                medians = times_in_turn(ways, repeats)
            print(
                f"one luma of {side}×{side}, median ms: "
                + ", ".join(f"{name} {1000 * seconds:.0f}" for name, seconds in medians.items())
            )


class Detail(torch.nn.Module):
    """(B, 1, H, W) -> (B, 1, fH, fW): what the network adds to the interpolation, which any image library
    has.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        y = features = self.network.first(x)
        for block in self.network.blocks:
            y = y + block.conv2(torch.relu(block.conv1(y)))
        return torch.pixel_shuffle(self.network.last(features + y), self.network.factor)


def export(network, path):
    """SubPixelNetwork -> an ONNX file, height and width free."""
    sides = {axis: torch.export.Dim(name, min=8, max=4096) for axis, name in ((2, "height"), (3, "width"))}
    torch.onnx.export(
        Detail(network).eval(),
        (torch.rand(1, 1, 40, 56),),
        path,
        dynamo=True,
        external_data=False,
        input_names=["x"],
        dynamic_shapes=(sides,),
        verbose=False,
    )


def stylising():
    """-> seconds of one transfer."""
    began = time.perf_counter()
    style_transfer(photo("cat"), photo("coffee"), generator=torch.Generator().manual_seed(0))
    return time.perf_counter() - began


def times_in_turn(ways, repeats):
    """{name: function} -> {name: seconds, the median}; one call of each warms up."""
    for way in ways.values():
        way()
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def memory_alone(case):
    """-> GB, in a process of its own, since a peak is that of the whole process."""
    command = [sys.executable, __file__, "--memory", case]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory(size):
    """-> GB: peak of the process that enlarges a photograph of bytes, as `vlmbook edit` holds one. Time
    depends on the depth, memory on the width and on the window, so that one block will do in windows
    that are as large as those of eight.
    """
    torch.set_num_threads(2)
    image = torch.randint(256, (3, *size), dtype=torch.uint8)
    network = SubPixelNetwork(2, width=64, depth=1)
    narrower = 2 * 2 * (SubPixelNetwork(2).receptive_radius() - network.receptive_radius())
    upscale(image, 2, network=network, tile=192 + narrower)
    return peak_memory()["ram"] / 1e9


if __name__ == "__main__":
    main()
