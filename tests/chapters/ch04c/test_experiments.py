"""Computations of chapter 4c."""

import pytest
import torch
from torch.testing import assert_close

from vlmbook import pretrained, runtime
from vlmbook.chapters.ch04c import experiments
from vlmbook.chapters.ch04c.experiments import (
    amplify_weights,
    average_over_seeds,
    draw_labelled,
    find_checkpoint,
    make_fashion_gpt,
    predict_next,
    shrink,
    take_prefix,
    train_fashion,
)
from vlmbook.gpt import GPT, filter_logits, generate, gpt_loss, to_tokens
from vlmbook.training import fit


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return amplify_weights(GPT(17, 64, 10, width=8, depth=2).eval())


def clothes(n=3264):
    generator = torch.Generator().manual_seed(2)
    return torch.randint(16, (n, 1, 2, 3), generator=generator) / 15, torch.arange(n) % 10


def test_shrunk_images_are_means_at_sixteen_levels():
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    small = shrink(images)
    assert small.shape == (3, 1, 14, 14)
    assert (small[1, 0, 4, 9] - images[1, 0, 8:10, 18:20].mean()).abs() <= 0.5 / 15 + 1e-6
    assert_close(small * 15, (small * 15).round())


def test_the_full_run_is_the_one_of_the_card(tmp_path):
    """One epoch in batches of 32 with the settings that the card names; a checkpoint changes nothing."""
    images, labels = clothes()
    model, history = train_fashion(images, labels, precision=None)
    assert (model.vocabulary, model.context, model.num_classes, len(model.blocks)) == (16, 6, 10, 4)
    assert len(history.losses) == 102 and not model.training
    runtime.seed_everything(0)
    plain = GPT(16, 6, 10, width=64, depth=4)
    settings = {"lr": 3e-3, "warmup": 100, "weight_decay": 0.1, "clip": 1.0, "progress": False}
    data = to_tokens(images, 16), labels
    fit(plain, data, loss_fn=gpt_loss, epochs=1, batch_size=32, seed=0, **settings)
    assert_close(model.state_dict(), plain.state_dict())
    path = tmp_path / "run.safetensors"
    train_fashion(images, labels, precision=None, checkpoint=path)
    resumed, _ = train_fashion(images, labels, precision=None, checkpoint=path)
    assert_close(resumed.state_dict(), model.state_dict())


def test_the_card_names_this_function_and_its_settings():
    card = pretrained.weights_card("ch04c_fashion")
    assert "experiments.train_fashion(" in card["command"]
    assert card["steps"] == -(-50_000 * experiments.FASHION["epochs"] // experiments.FASHION["batch_size"])


def test_the_shipped_weights_are_those_of_the_clothes_network():
    state, _ = pretrained.ours("ch04c_fashion")
    model = make_fashion_gpt()
    model.load_state_dict(state)
    start = torch.zeros(2, 190, dtype=torch.long)
    tokens = generate(model.eval(), torch.tensor([1, 9]), prefix=start)
    assert tokens.shape == (2, 196) and torch.equal(tokens[:, :190], start)


def test_the_checkpoint_lies_in_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(experiments.platformdirs, "user_cache_path", lambda *_, **__: tmp_path)
    assert find_checkpoint() == tmp_path / "training" / "ch04c_fashion.safetensors"
    assert find_checkpoint().parent.is_dir()


def test_labels_are_drawn_for_each_class_in_equal_numbers():
    labels = torch.arange(200) % 10
    chosen = draw_labelled(labels, 30, seed=1)
    assert labels[chosen].bincount().tolist() == [3] * 10 and len(chosen.unique()) == 30
    assert torch.equal(chosen, draw_labelled(labels, 30, seed=1))
    assert not torch.equal(chosen, draw_labelled(labels, 30, seed=2))
    assert torch.equal(draw_labelled(labels, 200, seed=1), torch.arange(200))


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
