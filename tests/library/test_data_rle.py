"""Run lengths: equal to COCO's own API, and exact there and back."""

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vlmbook.data.rle import RLE, decode_mask, encode_mask, read_counts, write_counts

MASKS = st.tuples(st.integers(1, 70), st.integers(1, 70)).flatmap(
    lambda shape: arrays(np.bool_, shape) | arrays(np.bool_, shape, elements=st.just(True))
)


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_runs_and_text_are_those_of_the_api_of_coco(mask):
    rle = encode_mask(torch.from_numpy(mask))
    theirs = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert theirs["size"] == [rle.height, rle.width]
    assert write_counts(rle).encode() == theirs["counts"]
    assert rle.area == oracle.area(theirs) == mask.sum()
    assert read_counts(theirs["counts"], *mask.shape) == rle
    assert np.array_equal(decode_mask(rle).numpy(), mask)


def test_a_mask_is_read_downwards_column_by_column():
    rle = encode_mask(torch.tensor([[0, 1, 1], [0, 1, 0]]).bool())
    assert rle == RLE(2, 3, (2, 3, 1)) and rle.area == 3
    assert encode_mask(torch.ones(2, 3, dtype=torch.bool)).counts == (0, 6)
    assert encode_mask(torch.zeros(2, 3, dtype=torch.bool)).counts == (6,)


def test_runs_of_no_pixel_are_merged():
    assert RLE(2, 3, [2, 0, 0, 3, 1]).counts == (2, 3, 1)
    assert RLE(2, 3, (1, 0, 1, 2, 0, 1, 1, 0)).counts == (2, 3, 1)
    assert RLE(2, 3, (0, 0, 6)).counts == (6,)


def test_a_long_mask_of_large_runs():
    mask = torch.zeros(3000, 2000, dtype=torch.bool)
    mask[:, 700:1900] = True
    rle = encode_mask(mask)
    assert rle.counts == (2_100_000, 3_600_000, 300_000)
    assert read_counts(write_counts(rle), 3000, 2000) == rle
    assert torch.equal(decode_mask(rle), mask)


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ((2, 3), "6 pixels together, got 5"),
        ((7, -1), "at least 0|from 0"),
        ((2.5, 3.5), "whole number"),
        ("231", "a list of run lengths"),
        ((), "got 0"),
    ],
)
def test_runs_that_fill_no_mask_are_refused(runs, says):
    with pytest.raises((ValueError, TypeError), match=says):
        RLE(2, 3, runs)


def test_a_size_that_would_fill_the_memory_is_refused():
    with pytest.raises(ValueError, match="pixels, got 100000×100000"):
        RLE(100_000, 100_000, (10**10,))


@pytest.mark.parametrize("text", ["", "2", "p", "23", " ", "é", "\ud800", "oooooooooooo0", "23/"])
def test_a_text_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"text wants|counts wants"):
        read_counts(text, 2, 3)
