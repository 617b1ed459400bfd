"""Vocabulary, encoders and the contrastive loss against loops."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import clip

SENTENCES = ["a red circle", "a blue star above a red cross", "A blue, circle"]


@pytest.fixture
def vocabulary():
    return clip.Vocabulary(SENTENCES)


@pytest.fixture
def model(vocabulary):
    torch.manual_seed(0)
    return clip.CLIP(clip.ImageEncoder(16), clip.TextEncoder(len(vocabulary), 16)).eval()


def test_words_are_numbered_from_one_on_and_short_sentences_filled_up(vocabulary):
    assert vocabulary.words == ("", "a", "above", "blue", "circle", "cross", "red", "star")
    encoded = vocabulary.encode(SENTENCES)
    assert encoded.tolist() == [[1, 6, 4, 0, 0, 0, 0], [1, 3, 7, 2, 1, 6, 5], [1, 3, 4, 0, 0, 0, 0]]
    with pytest.raises(ValueError, match="words of the vocabulary, got 'green'"):
        vocabulary.encode(["a green star"])


def test_a_sentence_has_one_embedding_whatever_stands_beside_it_in_the_batch(vocabulary, model):
    alone = model.embed_texts(vocabulary.encode(["a red circle"]))
    among = model.embed_texts(vocabulary.encode(SENTENCES))
    assert_close(alone[0], among[0])


def test_the_order_of_the_words_counts(vocabulary, model):
    first, second = model.embed_texts(
        vocabulary.encode(["a red star above a blue cross", "a blue star above a red cross"])
    )
    assert (first - second).abs().max() > 1e-4


def test_embeddings_have_length_one_and_the_scale_is_bounded(vocabulary, model):
    images = torch.rand(3, 3, 20, 28)
    pair = model(images, vocabulary.encode(SENTENCES))
    assert_close(pair.images.norm(dim=1), torch.ones(3))
    assert_close(pair.texts.norm(dim=1), torch.ones(3))
    assert_close(pair.scale, torch.tensor(1 / 0.07))
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    assert model.scale() == 100


@pytest.mark.parametrize("scale", [1.0, torch.tensor(7.5)])
def test_the_loss_is_that_of_the_loops(scale):
    generator = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(5, 3, generator=generator, dtype=torch.float64)) for _ in "ab")
    total = 0.0
    for i in range(5):
        row = [math.exp(float(scale) * float(images[i] @ texts[j])) for j in range(5)]
        column = [math.exp(float(scale) * float(images[j] @ texts[i])) for j in range(5)]
        total -= math.log(row[i] / sum(row)) + math.log(column[i] / sum(column))
    assert clip.contrastive_loss(images, texts, scale).item() == pytest.approx(total / 10, rel=1e-6)
    assert_close(clip.contrastive_loss(images, texts, scale), clip.contrastive_loss(texts, images, scale))


def test_the_loss_has_right_gradients():
    images, texts = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in "ab")
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(clip.contrastive_loss, (images, texts, scale))


def test_one_batch_is_learnable_and_descriptions_then_classify(vocabulary):
    torch.manual_seed(0)
    model = clip.CLIP(clip.ImageEncoder(16), clip.TextEncoder(len(vocabulary), 16))
    images, words = torch.rand(3, 3, 16, 16), vocabulary.encode(SENTENCES)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = clip.contrastive_loss(*model(images, words)).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = clip.contrastive_loss(*model(images, words))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 < first
    probabilities = clip.classify_by_text(model.train(), images, words)
    assert_close(probabilities.sum(1), torch.ones(3))
    assert probabilities.argmax(1).tolist() == [0, 1, 2]


def test_a_class_without_a_word_or_a_long_sentence_is_refused(vocabulary):
    for wrong, says in (([], "at least one"), (["  "], "empty"), (["a " * 65], "at most 64")):
        with pytest.raises(ValueError, match=says):
            vocabulary.encode(wrong)
    with pytest.raises(TypeError, match="list of sentences"):
        clip.Vocabulary("a red circle")
