"""Appendix C: six operations in five libraries, with each library's own settings and with matched settings;
times; devices; and what can be said of a container before it is built.
"""

import logging
import re
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import skimage
import torch
import torchvision
from PIL import Image, ImageChops, ImageFilter, ImageOps
from skimage import color, filters, transform, util
from skimage import io as skimage_io
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from vlmbook import data

try:
    import cv2
except ImportError:
    cv2 = None

INSTALL = 'OpenCV is not installed here; pip install "vlmbook[frameworks]" adds its rows.'
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, of red, green and blue
ALL = ("OpenCV", "Pillow", "NumPy", "scikit-image", "torchvision")
OPERATIONS = ("grey", "shrink", "enlarge", "rotate", "blur", "brighten")


def libraries() -> list[str]:
    """-> list of str: the libraries that are installed here."""
    return [name for name in ALL if name != "OpenCV" or cv2 is not None]


def versions() -> dict[str, str]:
    """-> {library: its version} of those that are installed here."""
    modules = {"OpenCV": cv2, "Pillow": PIL, "NumPy": np, "scikit-image": skimage, "torchvision": torchvision}
    return {name: modules[name].__version__ for name in libraries()}


# --- pictures -----------------------------------------------------------------------------------------------


def photograph(name: str = "cat") -> np.ndarray:
    """str -> (H, W, 3) uint8, red first: a photograph as most libraries hold it."""
    return (data.photo(name) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def zone_plate(size: int = 256) -> np.ndarray:
    """-> (size, size, 3) uint8: rings whose frequency grows with the radius, from 0 in the middle to half a
    cycle a pixel in the middle of each side.
    """
    along = (np.arange(size) - (size - 1) / 2) / (size / 2)
    squares = along[:, None] ** 2 + along[None] ** 2
    grey = 127.5 + 127.5 * np.cos(np.pi * size / 4 * squares)
    return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)


def contrast_left(small: np.ndarray, factor: float) -> float:
    """(H, W, 3) a zone plate after `factor` -> float: the standard deviation, in grey levels, where its
    rings are finer than the small picture can show: 0 for plain grey, 90 for full contrast.
    """
    along = (np.arange(len(small)) - (len(small) - 1) / 2) / (len(small) / 2)
    radius = np.hypot(along[:, None], along[None])
    limit = 1.25 / factor  # radius 1 / factor has half a cycle a small pixel; a filter needs some room
    return float(small[(radius > limit) & (radius < 0.95)].astype(float).std())


# --- reading files ------------------------------------------------------------------------------------------


def readers() -> dict[str, Callable[[Path], Any]]:
    """-> {library: path -> what the library's shortest call returns}."""
    found = {
        "OpenCV": lambda path: cv2.imread(str(path)),
        "Pillow": lambda path: np.asarray(Image.open(path)),
        "NumPy": lambda path: np.fromfile(path, np.uint8),
        "scikit-image": lambda path: skimage_io.imread(path),
        "torchvision": lambda path: TF.pil_to_tensor(Image.open(path)),
    }
    return {name: found[name] for name in libraries()}


def read_or_say(read: Callable[[Path], Any], path: Path) -> Any:
    """A reader, a path -> what it returns, or the name of the exception that it raises."""
    with quiet_opencv():
        try:
            return read(path)
        except Exception as error:
            return type(error).__name__


@contextmanager
def quiet_opencv():
    """While the block runs OpenCV does not write warnings past Python to the terminal."""
    if cv2 is None:
        yield
        return
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def save_turned(path: Path, image: np.ndarray) -> None:
    """(H, W, 3) -> None: a JPEG file with the note that a camera writes when it was held upright (EXIF
    orientation 6: turn by 90° clockwise to see it).
    """
    note = Image.Exif()
    note[0x0112] = 6
    Image.fromarray(image).save(path, quality=95, exif=note)


def read_upright(path: Path) -> np.ndarray:
    """Path -> (H, W, 3) uint8 by Pillow, with the camera's note followed."""
    with Image.open(path) as file:
        return np.asarray(ImageOps.exif_transpose(file))


# --- the formulas, written out in NumPy ---------------------------------------------------------------------


def source_positions(size_in: int, size_out: int) -> np.ndarray:
    """-> (size_out,): where the centre of each new pixel lies among the old ones, (x + ½) · in / out − ½."""
    return (np.arange(size_out) + 0.5) * size_in / size_out - 0.5


def enlarge_rows(image: np.ndarray, height: int) -> np.ndarray:
    """(H, …) -> (height, …) float64: linear between the centres of pixels; the border is repeated."""
    at = source_positions(len(image), height).clip(0, len(image) - 1)
    low = np.floor(at).astype(int).clip(0, max(len(image) - 2, 0))
    share = (at - low).reshape(-1, *[1] * (image.ndim - 1))
    return (1 - share) * image[low] + share * image[np.minimum(low + 1, len(image) - 1)]


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """(H, W, C) -> (factor·H, factor·W, C) float64, bilinear."""
    rows = enlarge_rows(image, factor * image.shape[0])
    return enlarge_rows(rows.swapaxes(0, 1), factor * image.shape[1]).swapaxes(0, 1)


def block_mean(image: np.ndarray, factor: int) -> np.ndarray:
    """(H, W, C) -> (H // factor, W // factor, C) float64: each new pixel is the mean of a block."""
    height, width = (size // factor for size in image.shape[:2])
    whole = image[: height * factor, : width * factor]
    return whole.reshape(height, factor, width, factor, -1).mean((1, 3))


def gaussian_kernel(sigma: float, radius: int) -> np.ndarray:
    """-> (2·radius + 1,), which sums to 1."""
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def blur(image: np.ndarray, sigma: float, radius: int, mode: str = "reflect") -> np.ndarray:
    """(H, W, C) -> the same shape in float64: rows and columns after each other. `mode` as np.pad has it."""
    kernel = gaussian_kernel(sigma, radius)
    padded = np.pad(image.astype(float), ((radius, radius), (radius, radius), (0, 0)), mode=mode)
    height, width = image.shape[:2]
    rows = sum(weight * padded[k : k + height] for k, weight in enumerate(kernel))
    return sum(weight * rows[:, k : k + width] for k, weight in enumerate(kernel))


def rotate(image: np.ndarray, degrees: float, *, bilinear: bool = True) -> np.ndarray:
    """(H, W, C) -> the same shape in float64: counterclockwise about ((W − 1)/2, (H − 1)/2), black outside.

    For each new pixel: where was it before? This is the inverse rotation.
    """
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(float)
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    old_x, old_y = cosine * x - sine * y + (width - 1) / 2, sine * x + cosine * y + (height - 1) / 2
    if not bilinear:
        return _take(image, np.floor(old_y + 0.5), np.floor(old_x + 0.5))
    left, top = np.floor(old_x), np.floor(old_y)
    dx, dy = (old_x - left)[..., None], (old_y - top)[..., None]
    upper = (1 - dx) * _take(image, top, left) + dx * _take(image, top, left + 1)
    lower = (1 - dx) * _take(image, top + 1, left) + dx * _take(image, top + 1, left + 1)
    return (1 - dy) * upper + dy * lower


def _take(image, rows, columns):
    """Pixels at whole positions, 0 outside the picture."""
    height, width = image.shape[:2]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = (np.where(inside, each, 0).astype(int) for each in (rows, columns))
    return image[rows, columns] * inside[..., None].astype(float)


# --- six operations in five libraries -----------------------------------------------------------------------
# Each function gets the picture as its library holds it, and an amount: a factor, an angle, a standard
# deviation or a number of grey levels.

AMOUNTS = {"grey": 0, "shrink": 4, "enlarge": 2, "rotate": 30, "blur": 3, "brighten": 60}


def to_native(library: str, image: np.ndarray) -> Any:
    """(H, W, 3) uint8, red first -> the picture as the library holds it."""
    if library == "Pillow":
        return Image.fromarray(image)
    if library == "torchvision":
        return torch.from_numpy(image).permute(2, 0, 1).contiguous()
    return image


def to_levels(library: str, picture: Any) -> np.ndarray:
    """A result as the library returns it -> (H, W, C) float64 in grey levels from 0 to 255, not rounded."""
    if library == "torchvision":
        array = picture.permute(1, 2, 0).numpy()
    else:
        array = np.asarray(picture)
    levels = array.astype(float)
    if array.dtype.kind == "f" and library == "scikit-image":
        levels = levels * 255  # its floats lie in [0, 1]
    return levels if levels.ndim == 3 else levels[..., None]


def _sides(picture, factor):
    """Width and height of a Pillow image, times `factor`."""
    return max(round(picture.width * factor), 1), max(round(picture.height * factor), 1)


def _shape(array, factor):
    """Height and width of an array, times `factor`."""
    return [max(round(size * factor), 1) for size in array.shape[:2]]


def _turn_opencv(image, degrees, centre):
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(centre, degrees, 1.0)
    return cv2.warpAffine(image, matrix, (width, height))


def _middle(image):
    """The middle of the pixels' centres, as (x, y)."""
    return (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2


OWN = {  # the shortest call of each library
    "grey": {
        "OpenCV": lambda x, _: cv2.cvtColor(x, cv2.COLOR_RGB2GRAY),
        "Pillow": lambda x, _: x.convert("L"),
        "NumPy": lambda x, _: x.mean(2),
        "scikit-image": lambda x, _: color.rgb2gray(x),
        "torchvision": lambda x, _: TF.rgb_to_grayscale(x),
    },
    "shrink": {
        "OpenCV": lambda x, by: cv2.resize(x, _shape(x, 1 / by)[::-1]),
        "Pillow": lambda x, by: x.resize(_sides(x, 1 / by)),
        "NumPy": lambda x, by: x[::by, ::by],
        "scikit-image": lambda x, by: transform.resize(x, _shape(x, 1 / by)),
        "torchvision": lambda x, by: TF.resize(x, _shape(x[0], 1 / by)),
    },
    "enlarge": {
        "OpenCV": lambda x, by: cv2.resize(x, _shape(x, by)[::-1]),
        "Pillow": lambda x, by: x.resize(_sides(x, by)),
        "NumPy": lambda x, by: x.repeat(by, 0).repeat(by, 1),
        "scikit-image": lambda x, by: transform.resize(x, _shape(x, by)),
        "torchvision": lambda x, by: TF.resize(x, _shape(x[0], by)),
    },
    "rotate": {
        "OpenCV": lambda x, by: _turn_opencv(x, by, (x.shape[1] / 2, x.shape[0] / 2)),
        "Pillow": lambda x, by: x.rotate(by),
        "NumPy": lambda x, by: rotate(x, by, bilinear=False),
        "scikit-image": lambda x, by: transform.rotate(x, by),
        "torchvision": lambda x, by: TF.rotate(x, by),
    },
    "blur": {
        "OpenCV": lambda x, by: cv2.GaussianBlur(x, (0, 0), by),
        "Pillow": lambda x, by: x.filter(ImageFilter.GaussianBlur(by)),
        "NumPy": lambda x, by: blur(x, by, round(2 * by), mode="constant"),
        "scikit-image": lambda x, by: filters.gaussian(x, by, channel_axis=-1),
        "torchvision": lambda x, by: TF.gaussian_blur(x, [9, 9], [by, by]),
    },
    "brighten": {
        "OpenCV": lambda x, by: cv2.add(x, np.full_like(x, by)),
        "Pillow": lambda x, by: ImageChops.add(x, Image.new("RGB", x.size, (by,) * 3)),
        "NumPy": lambda x, by: x + np.uint8(by),
        "scikit-image": lambda x, by: util.img_as_float(x) + by / 255,
        "torchvision": lambda x, by: x + by,
    },
}

MATCHED = {  # the same formula, as far as the library has it
    "grey": OWN["grey"]
    | {
        "NumPy": lambda x, _: x @ LUMA,
        "scikit-image": lambda x, _: util.img_as_float(x) @ LUMA,
    },
    "shrink": {
        "OpenCV": lambda x, by: cv2.resize(x, _shape(x, 1 / by)[::-1], interpolation=cv2.INTER_AREA),
        "Pillow": lambda x, by: x.resize(_sides(x, 1 / by), Image.Resampling.BOX),
        "NumPy": block_mean,
        "scikit-image": lambda x, by: transform.downscale_local_mean(x, (by, by, 1)) / 255,
        "torchvision": lambda x, by: F.avg_pool2d(x.float(), by),
    },
    "enlarge": {
        "OpenCV": OWN["enlarge"]["OpenCV"],
        "Pillow": lambda x, by: x.resize(_sides(x, by), Image.Resampling.BILINEAR),
        "NumPy": enlarge,
        "scikit-image": lambda x, by: transform.resize(x, _shape(x, by), mode="edge"),
        "torchvision": OWN["enlarge"]["torchvision"],
    },
    "rotate": {
        "OpenCV": lambda x, by: _turn_opencv(x, by, _middle(x)),
        "Pillow": lambda x, by: x.rotate(by, Image.Resampling.BILINEAR),
        "NumPy": rotate,
        "scikit-image": OWN["rotate"]["scikit-image"],
        "torchvision": lambda x, by: TF.rotate(x, by, interpolation=InterpolationMode.BILINEAR),
    },
    "blur": {
        "OpenCV": lambda x, by: cv2.GaussianBlur(x, (8 * by + 1, 8 * by + 1), by),
        "Pillow": OWN["blur"]["Pillow"],  # it has neither another kernel nor another border
        "NumPy": lambda x, by: blur(x, by, 4 * by),
        "scikit-image": lambda x, by: filters.gaussian(x, by, mode="mirror", channel_axis=-1),
        "torchvision": lambda x, by: TF.gaussian_blur(x, [8 * by + 1] * 2, [by, by]),
    },
    "brighten": OWN["brighten"]
    | {
        "NumPy": lambda x, by: (x.astype(int) + by).clip(0, 255),
        "scikit-image": lambda x, by: (util.img_as_float(x) + by / 255).clip(0, 1),
        "torchvision": lambda x, by: (x.int() + by).clamp(0, 255),
    },
}
SETTINGS = {"own": OWN, "matched": MATCHED}


def apply(operation: str, library: str, image: np.ndarray, settings: str, amount: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (H', W', C) float64 in grey levels: one operation in one library.

    Before it is shrunk, a picture is cut so that the factor divides its sides.
    """
    if operation == "shrink":
        height, width = (size // amount * amount for size in image.shape[:2])
        image = image[:height, :width].copy()
    call = SETTINGS[settings][operation][library]
    return to_levels(library, call(to_native(library, image), amount))


def middle(picture: np.ndarray) -> np.ndarray:
    """(H, W, C) -> its middle half in both directions, where no corner was turned out of the picture."""
    height, width = picture.shape[:2]
    return picture[height // 4 : height - height // 4, width // 4 : width - width // 4]


def measure_differences(image: np.ndarray, settings: str) -> dict[str, dict[str, tuple[float, float]]]:
    """(H, W, 3) -> {operation: {library: (mean, largest) absolute difference, in grey levels, from the
    formula written out in NumPy}}; of a rotation in the middle half only.
    """
    found = {}
    for operation in OPERATIONS:
        amount = AMOUNTS[operation]
        view = middle if operation == "rotate" else np.asarray
        formula = view(apply(operation, "NumPy", image, "matched", amount))
        found[operation] = {}
        for library in libraries():
            got = view(apply(operation, library, image, settings, amount))
            difference = np.abs(got - formula)
            found[operation][library] = (float(difference.mean()), float(difference.max()))
    return found


def measure_times(image: np.ndarray, repeats: int) -> dict[str, dict[str, float]]:
    """(H, W, 3) -> {operation: {library: milliseconds}} of the libraries' own settings: the median of
    repeats, in which all libraries take turns. The conversion of the picture is not counted.
    """
    found = {}
    for operation in OPERATIONS:
        calls = {
            library: partial(OWN[operation][library], to_native(library, image), AMOUNTS[operation])
            for library in libraries()
        }
        found[operation] = take_turns(calls, repeats)
    return found


def take_turns(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """{name: function} -> {name: median milliseconds}; the first round is not counted."""
    seconds = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(each) for name, each in seconds.items()}


def line_response(sigma: float = 3.0, width: int = 41) -> dict[str, np.ndarray]:
    """-> {call: (width,)}: what a blur makes of one white column, in shares of its brightness: the kernel."""
    image = np.zeros((width, width, 3), np.uint8)
    image[:, width // 2] = 255
    calls = {
        "formula, 25 weights": lambda: blur(image, sigma, 12),
        "Pillow": lambda: apply("blur", "Pillow", image, "own", sigma),
        "torchvision, 9 weights": lambda: apply("blur", "torchvision", image, "own", sigma),
        "scikit-image": lambda: apply("blur", "scikit-image", image, "own", sigma),
    }
    if cv2 is not None:
        calls["OpenCV, size (0, 0)"] = lambda: apply("blur", "OpenCV", image, "own", sigma)
    return {name: call()[width // 2, :, 0] / 255 for name, call in calls.items()}


# --- devices ------------------------------------------------------------------------------------------------


def probe_devices() -> dict[str, str]:
    """-> {device: what it is here, or "not here"}."""
    cuda = torch.cuda.is_available()
    return {
        "CUDA (NVIDIA, AMD)": torch.cuda.get_device_name() if cuda else "not here",
        "MPS (Apple)": "here" if torch.backends.mps.is_available() else "not here",
        "XPU (Intel)": torch.xpu.get_device_name() if torch.xpu.is_available() else "not here",
        "CPU": f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} thread(s) used",
    }


def describe_cudnn() -> str:
    """-> str: the version of cuDNN that PyTorch calls here, and whether it tries algorithms first."""
    cudnn = torch.backends.cudnn
    if not (torch.cuda.is_available() and cudnn.is_available()):
        return "no GPU that uses it here: not measured"
    return f"version {cudnn.version()}, benchmark = {cudnn.benchmark}"


def measure_launch(size: int = 4096, repeats: int = 20) -> dict[str, float] | None:
    """-> milliseconds of a matrix product on CUDA, read off with and without waiting for the GPU; None
    without CUDA.
    """
    if not torch.cuda.is_available():
        return None
    x = torch.randn(size, size, device="cuda")
    x @ x
    torch.cuda.synchronize()
    seconds = {"clock read without waiting": [], "clock read after synchronize()": []}
    for _ in range(repeats):
        start = time.perf_counter()
        x @ x
        seconds["clock read without waiting"].append(time.perf_counter() - start)
        torch.cuda.synchronize()
        seconds["clock read after synchronize()"].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(each) for name, each in seconds.items()}


def make_network(channels: int = 32) -> nn.Module:
    """(B, 3, H, W) -> (B, channels, H, W): four convolutions, on which settings are compared."""
    layers = [nn.Conv2d(3, channels, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers).eval()


def measure_settings(
    device: torch.device, *, channels: int = 16, batch: int = 1, side: int = 48, repeats: int = 11
) -> tuple[dict[str, float], dict[str, float]]:
    """device -> ({setting: milliseconds}, {setting: largest difference of the output from plain float32}):
    one forward pass of the same network, plainly, with channels last, and with autocast to bfloat16.
    """
    network = make_network(channels).to(device)
    x = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    last = make_network(channels).to(device)
    last.load_state_dict(network.state_dict())
    last = last.to(memory_format=torch.channels_last)
    x_last = x.to(memory_format=torch.channels_last)

    def run_autocast():
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return _wait(network(x), device)

    calls = {
        "float32": lambda: _wait(network(x), device),
        "channels last": lambda: _wait(last(x_last), device),
        "autocast to bfloat16": run_autocast,
    }
    with torch.inference_mode():
        plain = network(x)
        differences = {name: (call().float() - plain).abs().max().item() for name, call in calls.items()}
        return take_turns(calls, repeats), differences


def _wait(output, device):
    """-> the output, when it is there: a GPU works on after the call has returned."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return output


def smooth_steps(x: torch.Tensor) -> torch.Tensor:
    """(…) -> (…): a chain of small operations, which a compiler can fuse into one pass over the memory."""
    for _ in range(4):
        x = torch.sin(x) * 0.5 + torch.tanh(x) * x
    return x


def measure_compile(device: torch.device, *, size: int = 500_000, repeats: int = 7) -> dict[str, float] | str:
    """device -> {"plain", "compiled", "first call", all in milliseconds, "difference"}, or one sentence that
    says why nothing could be compiled.
    """
    x = torch.linspace(-2, 2, size, device=device)
    logging.disable(logging.WARNING)  # what PyTorch does not find on this machine
    try:
        compiled = torch.compile(smooth_steps)
        start = time.perf_counter()
        _wait(compiled(x), device)
        first = 1000 * (time.perf_counter() - start)
    except Exception as error:  # no compiler, no headers of Python, an unknown system: as many types of error
        return f"not measured: nothing could be compiled here ({type(error).__name__})"
    finally:
        logging.disable(logging.NOTSET)
    times = take_turns(
        {"plain": lambda: _wait(smooth_steps(x), device), "compiled": lambda: _wait(compiled(x), device)},
        repeats,
    )
    difference = (compiled(x) - smooth_steps(x)).abs().max().item()
    return times | {"first call": first, "difference": difference}


# --- containers ---------------------------------------------------------------------------------------------

DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def lint_image(reference: str) -> list[str]:
    """ "name:tag@digest" -> list of str: what can change under this name from one day to the next."""
    name, _, _ = reference.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    found = []
    if not colon or tag == "latest":
        found.append("no fixed tag: `latest` is another image after each release")
    elif not re.match(r"v?\d+\.\d+\.\d+", tag):
        found.append(f"the tag {tag} has no patch level (major.minor.patch)")
    if not DIGEST.search(reference):
        found.append("no digest (@sha256:…): the same tag may be built anew")
    return found


def lint_dockerfile(text: str) -> list[str]:
    """The text of a Dockerfile -> list of str: its faults, none where everything is pinned and no process
    runs as root.
    """
    lines = _instructions(text)
    bases = [words.split()[0] for name, words in lines if name == "FROM"]
    found = [f"{base}: {fault}" for base in bases for fault in lint_image(base)]
    if not bases:
        found.append("no FROM: nothing to start from")
    users = [words.split()[0] for name, words in lines if name == "USER"]
    if not users or users[-1].partition(":")[0] in ("root", "0"):
        found.append("the container runs as root: no USER of its own")
    for name, words in lines:
        installs = name == "RUN" and re.search(r"\bpip3? install\b", words)
        if installs and not re.search(r"(?:\s-c\s|--constraint[ =]|--require-hashes|\s-r\s)", words):
            found.append("pip install without constraints: other versions on another day")
        if name == "ADD" and re.search(r"https?://", words):
            found.append("ADD from the network: nothing checks what arrives")
    return found


def _instructions(text):
    """-> list of (NAME, the rest): comments left out, continued lines joined."""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\s*\n", " ", kept)
    pairs = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name.upper(), words.strip()) for name, _, words in pairs]


# --- the book's network without an input size ---------------------------------------------------------------


def make_unbuilt() -> nn.Module:
    """(B, 1, 28, 28) -> (B, 10): the layers of the book's `Sequential`, their sizes left open as there."""
    return nn.Sequential(
        nn.LazyConv2d(32, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(128), nn.ReLU(), nn.LazyLinear(10)
    )


def count_open(network: nn.Module) -> int:
    """-> int: parameters that have no shape yet."""
    return sum(nn.parameter.is_lazy(parameter) for parameter in network.parameters())


def table(rows: Sequence[Sequence[Any]], widths: Sequence[int]) -> str:
    """Rows of cells -> str: columns of these widths, numbers to the right."""
    return "\n".join(
        "".join(
            f"{cell:>{width}}" if isinstance(cell, (int, float)) else f"{cell:<{width}}"
            for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
