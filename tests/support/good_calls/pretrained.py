"""Good calls of `vlmbook.pretrained`; weights are missing where its extra is not installed."""

import tempfile
from contextlib import suppress
from pathlib import Path
from unittest import mock

import torch

from tests.support.good_calls import Call
from vlmbook import pretrained

CARD = dict.fromkeys(pretrained.CARD, "told")
SOURCE = pretrained.Source("vlmbook", "vlmbook", "pretrained.py", 10, "0" * 64)


def loading(load):
    """-> a function that loads without a cache."""

    def run():
        with mock.patch.object(pretrained, "cache_folder", return_value=Path(__file__) / "cache"):
            with suppress(pretrained.WeightsMissing):
                load()

    return run


def elsewhere(function):
    """-> the function, with a folder of its own where "net" was published."""

    def run(**arguments):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(pretrained, "WEIGHTS", Path(folder)):
            pretrained.publish("net", {"w": torch.ones(2)}, CARD)
            return function(**arguments)

    return run


def published():
    return {"name": "other", "state_dict": {"w": torch.ones(2)}, "card": CARD, "replace": True}


GOOD_CALLS = {
    "face_resnet": lambda: Call(loading(pretrained.face_resnet)),
    "face_landmarks": lambda: Call(loading(pretrained.face_landmarks)),
    "efficientnet_lite0": lambda: Call(loading(pretrained.efficientnet_lite0)),
    "locate": lambda: Call(pretrained.locate, {"source": SOURCE}),
    "cache_folder": lambda: Call(pretrained.cache_folder),
    "ours": lambda: Call(elsewhere(pretrained.ours), {"name": "net"}),
    "weights_card": lambda: Call(elsewhere(pretrained.weights_card), {"name": "net"}),
    "publish": lambda: Call(elsewhere(pretrained.publish), published()),
}
