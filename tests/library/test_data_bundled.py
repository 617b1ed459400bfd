"""The embedded images: real, always the same, the reader's own to change, and there without a network."""

import socket

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.testing import assert_close

from vlmbook.data import digits, photo, photo_names

GREY = {"brick", "camera", "cell", "clock", "coins", "grass", "gravel", "horse", "moon", "page", "text"}


@pytest.mark.parametrize("split, count", [("train", 1437), ("test", 360)])
@pytest.mark.parametrize("size", [1, 5, 8, 28])
def test_digits_are_float_images_with_labels(split, count, size):
    images, labels = digits(split, size=size)
    assert images.shape == (count, 1, size, size) and images.dtype == torch.float32 and images.is_contiguous()
    assert labels.shape == (count,) and labels.dtype == torch.int64
    assert 0 <= images.min() < images.max() <= 1
    assert labels.unique().tolist() == list(range(10))


def test_digits_are_those_of_scikit_learn_each_in_one_split():
    (train, train_labels), (test, test_labels) = digits("train"), digits("test")
    pixels, labels = torch.cat([train, test]).flatten(1) * 16, torch.cat([train_labels, test_labels])
    bunch = load_digits()
    ours = torch.cat([pixels, labels[:, None]], 1).tolist()
    assert sorted(ours) == sorted(np.column_stack([bunch.data, bunch.target]).tolist())


def test_both_splits_have_the_same_share_of_each_class():
    shares = [torch.bincount(digits(split)[1]) / len(digits(split)[1]) for split in ("train", "test")]
    assert_close(*shares, atol=1 / 360, rtol=0)


def test_digits_neither_read_nor_move_the_global_generators():
    first = digits("test", size=5)
    np.random.seed(7)  # noqa: NPY002
    torch.manual_seed(7)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    again = digits("test", size=5)
    assert_close(again, first, rtol=0, atol=0)
    assert (np.random.get_state()[1] == before[0]).all() and torch.get_rng_state().equal(before[1])  # noqa: NPY002


def test_resampled_digits_keep_their_brightness():
    images, _ = digits("train")
    for size in (4, 16, 28):
        assert_close(digits("train", size=size)[0].mean(), images.mean(), rtol=0.1, atol=0)


@pytest.mark.parametrize("split", ["Train", "valid", "", None, 0, ["train"], b"train"])
def test_digits_name_their_splits(split):
    with pytest.raises(ValueError, match="split wants 'train' or 'test', got "):
        digits(split)


@pytest.mark.parametrize("size", [0, -8, 8.0, "8", True, None, (8, 8)])
def test_digits_want_a_whole_size(size):
    with pytest.raises(
        (TypeError, ValueError), match="size wants a whole number from 1 to 512, got "
    ) as refusal:
        digits("test", size=size)
    assert repr(size) in str(refusal.value)


def test_digits_are_fresh_each_time():
    images, labels = digits("test")
    images.fill_(0.5), labels.fill_(3)
    again, labels_again = digits("test")
    assert (again != 0.5).any() and len(labels_again.unique()) == 10


@pytest.fixture
def no_sockets(monkeypatch):
    """Not even loopback: what asks for a socket is answered with an error."""

    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.mark.parametrize("name", photo_names())
def test_photos_are_real_and_need_no_network(name, no_sockets):
    x = photo(name)
    assert x.shape[0] == 3 and min(x.shape[1:]) > 150 and x.ndim == 3
    assert x.dtype == torch.float32 and x.is_contiguous()
    assert 0 <= x.min() < 0.5 < x.max() <= 1
    assert len(x.unique()) > 100 or name == "horse"  # which is a silhouette
    assert (x[0].equal(x[1]) and x[1].equal(x[2])) == (name in GREY)
    assert (x[:, 1:] - x[:, :-1]).abs().mean() < 0.6 * x.std()  # no noise: neighbours are alike


def test_photos_are_fresh_each_time_and_their_channels_apart():
    for name in ("camera", "coffee"):
        x = photo(name)
        kept = x.clone()
        x[0] = 2.0
        assert x[1:].equal(kept[1:])
        assert photo(name).equal(kept)


def test_photos_have_unequal_heights_and_widths_in_the_right_order():
    assert photo("coffee").shape == (3, 400, 600)
    assert photo("camera").shape == (3, 512, 512)


def test_photo_names_are_in_order_and_the_readers_own():
    names = photo_names()
    assert names == sorted(set(names)) and {"astronaut", "cat", "coffee", "camera", "coins"} <= set(names)
    names.clear()
    assert photo_names()


@pytest.mark.parametrize("name", ["Cat", "dog", "", None, 3])
def test_an_unknown_photo_is_answered_with_all_names(name):
    with pytest.raises(ValueError, match="name wants ") as refusal:
        photo(name)
    assert repr(name) in str(refusal.value) and all(there in str(refusal.value) for there in photo_names())
