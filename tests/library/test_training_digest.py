"""Digests of data and of losses: the same in every process, other where something else is trained."""

import functools
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from tests.support.files import RGB, save_image
from vlmbook.data import class_folders
from vlmbook.training.digest import digest_data, digest_loss, hash_layers

X, Y = torch.arange(12.0).view(4, 3), torch.arange(4)
MODEL = nn.Linear(3, 2)


def plus(number):
    return functools.partial(torch.add, number)


class Items(Dataset):
    """A reader's own, with a cache and a counter that change as it is read."""

    def __init__(self, items, transform=None):
        self.items, self.transform, self._cache, self.calls, self.table = items, transform, [], 0, {}

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.calls += 1
        self._cache.append(index)
        self.table[index] = True
        return self.items[index]


def test_tensors_count_to_the_bit():
    here = digest_data((X, Y))
    assert here == digest_data((X.clone(), Y.clone())) == digest_data((X.t().contiguous().t(), Y))
    changed = X.clone()
    changed[1, 1] = torch.nextafter(changed[1, 1], torch.tensor(99.0))
    others = [(changed, Y), (X, Y.flip(0)), (X.double(), Y), (X.view(2, 6), Y[:2]), (X,), (X, Y, Y)]
    assert len({here, *map(digest_data, others)}) == 7


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.bfloat16, torch.complex64])
def test_tensors_of_any_kind_have_a_digest(dtype):
    assert digest_data((X.to(dtype),)) == digest_data((X.to(dtype),)) != digest_data((X[:2].to(dtype),))
    assert len(digest_data((X[:0].to(dtype),))) == 16


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (lambda: TensorDataset(X, Y), lambda: TensorDataset(X + 1, Y)),
        (lambda: Subset(TensorDataset(X, Y), [0, 1]), lambda: Subset(TensorDataset(X, Y), [0, 2])),
        (lambda: Subset(TensorDataset(X), [0]), lambda: Subset(TensorDataset(X + 1), [0])),
        (lambda: ConcatDataset([TensorDataset(X)]), lambda: ConcatDataset([TensorDataset(X)] * 2)),
        (lambda: Items([(X[0], 1), (X[1], 2)]), lambda: Items([(X[0], 1), (X[2], 2)])),
        (lambda: Items(["a", "b"]), lambda: Items(["a", "c"])),
        (lambda: Items(np.ones((2, 3))), lambda: Items(np.zeros((2, 3)))),
        (lambda: Items([1, 2], F.relu), lambda: Items([1, 2], F.gelu)),
        (lambda: Items([1], plus(1)), lambda: Items([1], plus(2))),
    ],
)  # fmt: skip
def test_data_sets_count_by_what_they_hold(make, other):
    assert digest_data(make()) == digest_data(make()) != digest_data(other())


def test_reading_a_data_set_does_not_change_it():
    data = Items([(X[0], 1)])
    before = digest_data(data)
    state = torch.get_rng_state()
    data[0]
    assert digest_data(data) == before and torch.equal(torch.get_rng_state(), state)


def test_a_set_in_a_circle_has_a_digest():
    data = Items([1])
    data.items.append(data.items)
    data.me = data
    assert digest_data(data) == digest_data(data)


def test_files_count_by_name_and_size_and_may_be_moved(tmp_path):
    for folder in ("here", "there"):
        save_image(tmp_path / folder / "cat" / "1.png", RGB)
        save_image(tmp_path / folder / "dog" / "1.png", RGB)
    here = digest_data(class_folders(tmp_path / "here"))
    assert digest_data(class_folders(tmp_path / "there")) == here
    assert digest_data(class_folders(tmp_path / "here", channels=1)) != here
    assert digest_data(class_folders(tmp_path / "here", size=5)) != here
    save_image(tmp_path / "there" / "dog" / "1.png", RGB[:3])
    assert digest_data(class_folders(tmp_path / "there")) != here


def loss(model, x, y):
    return F.cross_entropy(model(x), y)


def make_loss(weight, inner=None):
    def weighted(model, x, y):
        return weight * (F.cross_entropy if inner is None else inner)(model(x), y)

    return weighted


class Loss:
    def __init__(self):
        self.calls = []

    def __call__(self, model, x, y):
        return F.cross_entropy(model(x), y)

    def halved(self, model, x, y):
        return F.cross_entropy(model(x), y) / 2


def test_losses_count_by_what_they_compute():
    teacher = nn.Linear(3, 2)
    losses = [
        loss,
        lambda model, x, y: F.mse_loss(model(x), y),
        lambda model, x, y: F.cross_entropy(model(x), y) * 2,
        lambda model, x, y: F.cross_entropy(model(x), y) * 3,
        lambda model, x, y: F.cross_entropy(model(x), y) + 2,
        make_loss(1.0),
        make_loss(2.0),
        make_loss(torch.ones(2)),
        make_loss(torch.zeros(2)),
        make_loss(1.0, F.mse_loss),
        make_loss(1.0, loss),
        make_loss(1.0, teacher),
        make_loss(1.0, nn.Linear(3, 2)),
        make_loss(1.0, nn.Sequential(teacher)),
        make_loss(1.0, MODEL),
        functools.partial(loss, x=1),
        functools.partial(loss, x=2),
        lambda model, x, y, weight=1: weight,
        lambda model, x, y, weight=2: weight,
        Loss(),
        Loss().halved,
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(label_smoothing=0.1),
    ]
    digests = [digest_loss(each, MODEL) for each in losses]
    assert digests == [digest_loss(each, MODEL) for each in losses]
    repeated = {i for i, each in enumerate(digests) if digests.index(each) != i}
    assert repeated <= {len(losses) - 1}  # a Module prints no label_smoothing


def test_what_changes_while_it_trains_does_not_count():
    model = nn.Linear(3, 2)
    logged, counted = [], Loss()

    def logging(model, x, y):
        logged.append(1)
        return loss(model, x, y)

    def with_the_model_itself(given, x, y):
        return loss(model, x, y)

    functions = logging, with_the_model_itself, counted
    before = [digest_loss(each, model) for each in functions]
    logged.append(1)
    counted.calls.append(1)
    with torch.no_grad():
        model.weight.zero_()
    assert [digest_loss(each, model) for each in functions] == before


def test_layers_without_weights_count():
    assert hash_layers(nn.Sequential(nn.ReLU())) != hash_layers(nn.Sequential(nn.GELU()))
    assert hash_layers(nn.Dropout(0.1)) == hash_layers(nn.Dropout(0.1)) != hash_layers(nn.Dropout(0.2))


def test_digests_are_the_same_in_every_process():
    code = textwrap.dedent("""
        import torch
        from torch import nn
        from torch.nn import functional as F
        from torch.utils.data import TensorDataset
        from vlmbook.training.digest import digest_data, digest_loss, hash_layers

        def loss(model, x, y, names=("a", "b")):
            if y in {"train", "test", "valid"}:      # a set of text, whose order differs
                return lambda: F.mse_loss(model(x), y)
            return F.cross_entropy(model(x), y)

        model = nn.Sequential(nn.Linear(3, 2), nn.Softmax(1))
        print(digest_data(TensorDataset(torch.arange(4))), digest_loss(loss, model), hash_layers(model))
    """)
    outputs = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code]
        outputs.add(
            subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        )
    assert len(outputs) == 1 and len(outputs.pop().split()) == 3
