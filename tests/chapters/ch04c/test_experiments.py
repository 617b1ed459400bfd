"""Computations of chapter 4c."""

import pytest
import torch
from torch.testing import assert_close

from vlmbook.chapters.ch04c.experiments import (
    amplify_weights,
    average_over_seeds,
    predict_next,
    take_prefix,
)
from vlmbook.gpt import GPT, filter_logits, to_tokens


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return amplify_weights(GPT(17, 64, 10, width=8, depth=2).eval())


def test_an_amplified_network_is_frozen_and_far_from_even():
    net = network()
    assert not any(parameter.requires_grad for parameter in net.parameters())
    p = net(torch.zeros(1, 64, dtype=torch.long), torch.zeros(1, dtype=torch.long)).softmax(-1)
    assert p.max() > 3 / 17


def test_the_prefix_of_a_pixel_is_what_stands_before_it():
    image = torch.randint(17, (1, 8, 8), generator=torch.Generator().manual_seed(1)) / 16
    assert torch.equal(take_prefix(image, 10, 17), to_tokens(image[None], 17)[0, :9])


def test_the_next_token_is_that_of_a_pass_over_the_whole():
    net, tokens = network(), torch.arange(64) % 17
    learned, filtered = predict_next(net, tokens[:9], 3, temperature=0.5, top_k=4)
    logits = net(tokens[None], torch.tensor([3]))[:, 9]
    assert_close(learned, logits.softmax(-1)[0])
    assert_close(filtered, filter_logits(logits, temperature=0.5, top_k=4).softmax(-1)[0])
    assert (filtered > 0).sum() == 4


def test_means_over_seeds():
    measurements = {
        "precision": {"cold": [0.5, 0.7], "hot": [0.1, 0.3]},
        "recall": {"cold": [3, 5], "hot": [8]},
    }
    means = average_over_seeds(measurements)
    assert means["precision"] == pytest.approx({"cold": 0.6, "hot": 0.2})
    assert means["recall"] == {"cold": 4, "hot": 8}
