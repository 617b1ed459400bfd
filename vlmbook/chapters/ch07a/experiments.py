"""Chapter 7a: models that are counted, layers and networks that are timed, files of 8 bits, pruned networks,
frames of a camera, two budgets.
"""

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vlmbook import data
from vlmbook.attention import vit_b_16
from vlmbook.chapters.ch01 import timeline
from vlmbook.chapters.ch06a.experiments import export_network, open_onnx, quantize_network
from vlmbook.compression import (
    Latency,
    Machine,
    attainable,
    count_layers,
    count_parameters,
    measure_latency,
    measure_training_memory,
    prune_channels,
    prune_magnitude,
    sparse_bytes,
)
from vlmbook.efficientnet import efficientnet_lite0, imagenet_input
from vlmbook.gan import Generator
from vlmbook.metrics import proportion_interval
from vlmbook.resnet import ResNet, resnet20, resnet50, small_resnet
from vlmbook.training import fit
from vlmbook.unet import UNet

# --- models that are counted --------------------------------------------------------------------------------

# Works of chapter 1's timeline: not built here, because the paper is the source.
CITED = ("DINOv2 ViT-g", "Flamingo", "ViT-22B")
# (name, year, name in torchvision): counted on the meta device.
COUNTED = (
    ("AlexNet", 2012, "alexnet"),
    ("VGG-16", 2014, "vgg16"),
    ("ResNet-50", 2015, "resnet50"),
    ("DenseNet-121", 2016, "densenet121"),
    ("MobileNet-V2", 2018, "mobilenet_v2"),
    ("ViT-B/16", 2020, "vit_b_16"),
    ("ViT-H/14", 2020, "vit_h_14"),
)
# name: (function that makes the model, shape of one input)
MODELS = {
    "GAN generator (4a), 28×28": (lambda: Generator(28), (64,)),
    "ResNet-20 (3b), 32×32": (resnet20, (3, 32, 32)),
    "U-Net (3c), 128×128": (lambda: UNet(1, 2), (1, 128, 128)),
    "EfficientNet-Lite0 (6b)": (efficientnet_lite0, (3, 224, 224)),
    "MobileNet-V2": (lambda: torchvision.models.mobilenet_v2(), (3, 224, 224)),
    "ResNet-50 (3b)": (resnet50, (3, 224, 224)),
    "ViT-B/16 (5b)": (vit_b_16, (3, 224, 224)),
    "VGG-16": (lambda: torchvision.models.vgg16(), (3, 224, 224)),
}


def count_sizes() -> dict[str, tuple[int, float, bool]]:
    """-> {name: (year, parameters, counted here)}."""
    works = [work for work in timeline.WORKS if work.name in CITED]
    sizes = {work.name: (work.year, work.parameters, False) for work in works}
    sizes["Swin V2-G"] = (2021, 3.0e9, False)  # Liu et al. 2021, arXiv:2111.09883
    sizes["LeNet-5"] = (1998, timeline.count_models()["LeNet-5"], True)
    for name, year, in_torchvision in COUNTED:
        with torch.device("meta"):
            model = torchvision.models.get_model(in_torchvision, weights=None)
        sizes[name] = (year, count_parameters(model), True)
    return sizes


def count_models() -> dict[str, dict[str, float]]:
    """-> {name: {"parameters", "macs" of one image, "state" and "saved" bytes of training on one image}}; by
    PyTorch's flop counter, on the meta device.
    """
    table = {}
    for name, (make, shape) in MODELS.items():
        with torch.device("meta"):
            model, x = make(), torch.empty(2, *shape)
        memory = measure_training_memory(model, x)
        with FlopCounterMode(display=False) as counter:
            model.eval()(x)
        table[name] = {
            "parameters": count_parameters(model),
            "macs": counter.get_total_flops() / 2 / len(x),
            "state": memory.state,
            "saved": memory.saved / len(x),
        }
    return table


# --- layers and networks that are timed ---------------------------------------------------------------------

# name: (layer, shape of its input)
LAYERS = {
    "conv 3×3, 64": (lambda: nn.Conv2d(64, 64, 3, padding=1, bias=False), (1, 64, 56, 56)),
    "conv 1×1, 64": (lambda: nn.Conv2d(64, 64, 1, bias=False), (1, 64, 56, 56)),
    "depthwise 3×3, 64": (lambda: nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), (1, 64, 56, 56)),
    "linear, 1 image": (lambda: nn.Linear(2048, 2048), (1, 2048)),
    "linear, 64 images": (lambda: nn.Linear(2048, 2048), (64, 2048)),
}


def place_layers(machine: Machine, *, repeats: int = 15) -> dict[str, dict[str, float]]:
    """Machine -> {layer: {"intensity" FLOPs for each byte, "reached" and "attainable" FLOPs a second}}; the
    layer is timed where it is fastest.
    """
    table = {}
    for name, (make, shape) in LAYERS.items():
        layer, x = make(), torch.rand(shape)
        [cost] = count_layers(layer, x)
        fastest = min(measure_latency(lambda layer=layer, x=x: layer(x), repeats=repeats).seconds)
        table[name] = {
            "intensity": cost.intensity,
            "reached": 2 * cost.macs / fastest,
            "attainable": attainable(cost.intensity, machine),
        }
    return table


def compare_structures(size: int = 112, *, repeats: int = 5) -> dict[str, dict[str, float]]:
    """-> {name: {"layers", "macs", "p50", "p95"}} of VGG-16 without its linear layers and MobileNet-V2, one
    image of size × size.
    """
    table = {}
    x = torch.rand(1, 3, size, size)
    for name, make in {
        "VGG-16": torchvision.models.vgg16,
        "MobileNet-V2": torchvision.models.mobilenet_v2,
    }.items():
        with torch.device("meta"):
            network = make().features.eval()
        network = network.to_empty(device="cpu")
        for tensor in [*network.parameters(), *network.buffers()]:
            nn.init.constant_(tensor.data, 0.01)
        costs = count_layers(network, x)
        latency = measure_latency(lambda network=network: network(x), repeats=repeats, warmup=1)
        table[name] = {
            "layers": sum(cost.macs > 0 for cost in costs),
            "macs": float(sum(cost.macs for cost in costs)),
            "p50": latency.p50,
            "p95": latency.p95,
        }
    return table


def time_separable(channels: Sequence[int] = (16, 64, 128), size: int = 28) -> dict[int, dict[str, float]]:
    """-> {channels: {"macs", "seconds"}}: how many times less a depthwise separable convolution of 3×3 costs
    than a full one, in multiply-adds and in the shortest time.
    """
    table = {}
    for count in channels:
        x = torch.rand(1, count, size, size)
        full = nn.Conv2d(count, count, 3, padding=1)
        separable = nn.Sequential(
            nn.Conv2d(count, count, 3, padding=1, groups=count), nn.Conv2d(count, count, 1)
        )
        macs = [sum(cost.macs for cost in count_layers(layer, x)) for layer in (full, separable)]
        times = [
            min(measure_latency(lambda layer=layer, x=x: layer(x), repeats=25).seconds)
            for layer in (full, separable)
        ]
        table[count] = {"macs": macs[0] / macs[1], "seconds": times[0] / times[1]}
    return table


def time_batches(network: nn.Module, image: torch.Tensor, sizes: Sequence[int]) -> dict[int, float]:
    """Module, (1, C, H, W), sizes -> {batch size: median seconds of a batch}."""
    times = {}
    for size in sizes:
        x = image.expand(size, -1, -1, -1).contiguous()
        times[size] = measure_latency(lambda x=x: network(x), repeats=5, warmup=1).p50
    return times


# --- the digits ---------------------------------------------------------------------------------------------


def read_digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """-> training images, labels, test images, labels; normalised with the mean and the standard deviation of
    the training images.
    """
    x, y = data.digits("train")
    x_test, y_test = data.digits("test")
    mean, std = x.mean(), x.std()
    return (x - mean) / std, y, (x_test - mean) / std, y_test


def classification_loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """-> cross-entropy."""
    return F.cross_entropy(model(x), y)


def train_classifier(
    x: torch.Tensor, y: torch.Tensor, *, depth: int = 20, epochs: int = 4, seed: int = 0
) -> ResNet:
    """(N, 1, 8, 8), (N,) -> ResNet of chapter 3b, trained, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = small_resnet(depth, 10, 1)
    return train_further(network, x, y, epochs=epochs, seed=seed, lr=3e-3)


def train_further(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, *, epochs: int = 1, seed: int = 0, lr: float = 2e-3
) -> nn.Module:
    """-> the network itself, in evaluation mode. Weights of convolutions and linear layers that are 0 stay
    0.
    """
    hooks = []
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            kept = layer.weight != 0
            if not kept.all():
                hooks.append(layer.weight.register_hook(lambda gradient, kept=kept: gradient * kept))
    settings = {"epochs": epochs, "batch_size": 32, "lr": lr, "seed": seed, "progress": False}
    fit(network.train(), (x, y), loss_fn=classification_loss, **settings)
    for hook in hooks:
        hook.remove()
    return network.eval()


@torch.no_grad()
def measure_accuracy(
    classify: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, y: torch.Tensor
) -> float:
    """-> share of the images whose largest logit is that of the label."""
    return (classify(x).argmax(1) == y).float().mean().item()


@torch.no_grad()
def measure_statistics_again(network: nn.Module, x: torch.Tensor) -> nn.Module:
    """-> a copy in evaluation mode whose batch normalisations have the means and variances of these images;
    no weight changes.
    """
    again = copy.deepcopy(network)
    torch.optim.swa_utils.update_bn(x.split(128), again)
    return again.eval()


# --- pruned networks ----------------------------------------------------------------------------------------

PRUNINGS = {"magnitude": prune_magnitude, "channels": prune_channels}
STEPS = ("pruned", "statistics measured again", "one epoch more")


def sweep_pruning(
    digits: tuple[torch.Tensor, ...], *, shares: Sequence[float], seeds: Sequence[int], epochs: int
) -> dict[str, dict[str, list[list[float]]]]:
    """-> {method: {step: accuracy on the test images, a list a seed, a value a share}}, of ResNet-8; share 0
    is the network before the pruning.
    """
    x, y, x_test, y_test = digits
    table = {method: {step: [] for step in STEPS} for method in PRUNINGS}
    for seed in seeds:
        network = train_classifier(x, y, depth=8, epochs=epochs, seed=seed)
        start = measure_accuracy(network, x_test, y_test)
        for method, prune in PRUNINGS.items():
            rows = {step: [start] for step in STEPS}
            for share in shares:
                pruned = prune(network, share)
                again = measure_statistics_again(pruned, x)
                trained = train_further(copy.deepcopy(pruned), x, y, seed=seed)
                for step, each in zip(STEPS, (pruned, again, trained), strict=True):
                    rows[step].append(measure_accuracy(each, x_test, y_test))
            for step in STEPS:
                table[method][step].append(rows[step])
    return table


def compare_pruned(
    networks: dict[str, nn.Module], x: torch.Tensor, y: torch.Tensor, *, repeats: int = 9
) -> dict[str, dict[str, float]]:
    """{name: network}, test images, labels -> {name: {"accuracy", "macs" of one image, "dense" and "sparse"
    bytes, "p50" seconds for all images at once}}; the networks take turns, so that a busy moment of the
    machine meets all of them.
    """
    table = {}
    seconds = {name: [] for name in networks}
    for _ in range(repeats):
        for name, network in networks.items():
            run = measure_latency(lambda network=network: network(x), repeats=1, warmup=1)
            seconds[name] += run.seconds
    for name, network in networks.items():
        tensors = [*network.parameters(), *network.buffers()]
        table[name] = {
            "accuracy": measure_accuracy(network, x, y),
            "macs": sum(cost.macs for cost in count_layers(network, x[:1])),
            "dense": sum(tensor.numel() * tensor.element_size() for tensor in tensors),
            "sparse": sparse_bytes(network),
            "p50": Latency(tuple(seconds[name])).p50,
        }
    return table


# --- files of 8 bits ----------------------------------------------------------------------------------------


ACTIVATIONS = ("Clip", "Relu")
KINDS = ("float32", "int8", "int8, range before ReLU", "int8, weights up to 127")


def quantise_file(
    path: Path,
    calibration: torch.Tensor,
    to: Path,
    *,
    with_activations: bool = True,
    whole_range: bool = False,
) -> None:
    """ONNX file, (N, C, H, W) -> None: writes the network with 8 bits, as chapter 6a's `quantize_network`
    does it, and leaves out what nothing reads.

    With activation functions as quantised operators the range is taken after them; without, between a
    convolution and its ReLU6 the range is that of the convolution.
    """
    functions = ACTIVATIONS if with_activations else ()
    quantize_network(path, calibration, to, activation_functions=functions, whole_range=whole_range)
    drop_notes(to)


def drop_notes(path: Path) -> None:
    """ONNX file -> None: rewrites it without what nothing reads: the exporter's notes, the shapes of
    intermediate values, and the zero points of weights and biases that are all 0, which is what a missing one
    means.
    """
    model = onnx.load(path)
    constants = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 3 and node.input[0] in constants:
            if not onnx.numpy_helper.to_array(constants[node.input[2]]).any():
                del node.input[2]
    read = {name for node in model.graph.node for name in node.input}
    kept = [each for name, each in constants.items() if name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    for part in [*model.graph.node, *kept]:
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.save(model, path)


class Deployed:
    """A network as files of ONNX: "float32", "int8", and with `all_kinds` the others of KINDS too. Each runs
    with ONNX Runtime in one thread.
    """

    def __init__(self, network: nn.Module, calibration: torch.Tensor, *, all_kinds: bool = False):
        settings = {"int8": {}}
        if all_kinds:
            settings |= {KINDS[2]: {"with_activations": False}, KINDS[3]: {"whole_range": True}}
        with tempfile.TemporaryDirectory() as folder:
            paths = {
                kind: Path(folder, f"{number}.onnx") for number, kind in enumerate(["float32", *settings])
            }
            export_network(copy.deepcopy(network), calibration[:2], paths["float32"])
            drop_notes(paths["float32"])
            for kind, options in settings.items():
                quantise_file(paths["float32"], calibration, paths[kind], **options)
            self.bytes = {kind: path.stat().st_size for kind, path in paths.items()}
            self.runs = {kind: open_onnx(path) for kind, path in paths.items()}

    def classify(self, kind: str, x: torch.Tensor, *, batch: int = 8) -> torch.Tensor:
        """A kind of file, (N, C, H, W) -> (N, classes) logits."""
        return torch.cat([self.runs[kind](part) for part in x.split(batch)])


def cut_crops(each: int, *, seed: int = 0) -> torch.Tensor:
    """-> (N, 3, 224, 224): `each` random squares of each bundled photograph, as EfficientNet-Lite0 takes
    them.
    """
    generator = torch.Generator().manual_seed(seed)
    crops = []
    for name in data.photo_names():
        photograph = data.photo(name).expand(3, -1, -1)
        for _ in range(each):
            share = 0.6 + 0.4 * torch.rand((), generator=generator)
            side = int(share * min(photograph.shape[1:]))
            top, left = (
                int(torch.randint(length - side + 1, (1,), generator=generator))
                for length in photograph.shape[1:]
            )
            crops.append(imagenet_input(photograph[:, top : top + side, left : left + side])[0])
    return torch.stack(crops)


def measure_agreement(reference: torch.Tensor, logits: torch.Tensor) -> dict[str, float]:
    """(N, classes), (N, classes) logits -> {"share" of the images on which both have the same largest logit,
    "low" and "high" of its 95 % interval, "error": standard deviation of the difference}.
    """
    share = (reference.argmax(1) == logits.argmax(1)).float().mean().item()
    low, high = proportion_interval(share, len(logits))
    return {"share": share, "low": low, "high": high, "error": (logits - reference).std().item()}


def find_sure(logits: torch.Tensor, lead: float = 0.1) -> torch.Tensor:
    """(N, classes) logits -> (N,) bool: is the first probability so far above the second?"""
    first, second = logits.softmax(1).topk(2).values.T
    return first - second >= lead


# --- frames of a camera -------------------------------------------------------------------------------------


def film(photograph: torch.Tensor, count: int, side: int = 300) -> list[torch.Tensor]:
    """(C, H, W) -> count × (C, side, side): what a camera sees that moves across the photograph."""
    room = photograph.shape[2] - side
    top = (photograph.shape[1] - side) // 2
    lefts = torch.linspace(0, room, count).round().int().tolist()
    return [photograph[:, top : top + side, left : left + side] for left in lefts]


def time_frames(
    prepare: Callable, classify: Callable, frames: Sequence[torch.Tensor]
) -> dict[str, list[float]]:
    """-> {"prepare", "classify": seconds of each frame}."""
    table = {"prepare": [], "classify": []}
    classify(prepare(frames[0]))
    for frame in frames:
        table["prepare"] += measure_latency(lambda frame=frame: prepare(frame), repeats=1, warmup=0).seconds
        x = prepare(frame)
        table["classify"] += measure_latency(lambda x=x: classify(x), repeats=1, warmup=0).seconds
    return table


# --- two budgets --------------------------------------------------------------------------------------------


def measure_budgets(
    backbones: dict[str, nn.Module],
    digits: tuple[torch.Tensor, ...],
    *,
    shots: Sequence[int],
    draws: int = 10,
) -> dict[str, dict[int, list[float]]]:
    """{name: network trained on the digits 0-4}, … -> {name: {labels of each of the digits 5-9: accuracy on
    them, a value a draw}}; a digit is the nearest of five mean features.
    """
    x, y, x_test, y_test = digits
    generator = torch.Generator().manual_seed(0)
    chosen = {
        k: [_draw_shots(y, k, generator) for _ in range(draws)] for k in shots
    }  # the same for all backbones
    new = y_test >= 5
    table = {}
    for name, backbone in backbones.items():
        features, features_test = _pool(backbone, x), _pool(backbone, x_test[new])
        table[name] = {}
        for k in shots:
            accuracies = []
            for indices in chosen[k]:
                means = F.normalize(features[indices].mean(1))
                predicted = (features_test @ means.T).argmax(1) + 5
                accuracies.append((predicted == y_test[new]).float().mean().item())
            table[name][k] = accuracies
    return table


def _draw_shots(y, k, generator):
    """-> (5, k): indices of k images of each of the digits 5-9."""
    rows = []
    for digit in range(5, 10):
        indices = (y == digit).nonzero()[:, 0]
        rows.append(indices[torch.randperm(len(indices), generator=generator)[:k]])
    return torch.stack(rows)


@torch.no_grad()
def _pool(network, x):
    return F.normalize(network.features(x)[-1].mean((2, 3)))


def count_macs(model: nn.Module, x: torch.Tensor) -> int:
    """-> multiply-adds of one call."""
    return sum(cost.macs for cost in count_layers(model, x))


def list_percentiles(times: dict[str, Latency]) -> dict[str, tuple[float, float]]:
    """{name: Latency} -> {name: (p50, p95)} in milliseconds."""
    return {name: (1000 * each.p50, 1000 * each.p95) for name, each in times.items()}


def spread(values: Sequence[float]) -> tuple[float, float]:
    """-> mean, standard deviation."""
    return float(np.mean(values)), float(np.std(values, ddof=1))
