"""Images and sentences in one space: two encoders, trained so that an image is near its own caption [Radford
et al. 2021, arXiv:2103.00020].

Then a class needs no labelled image: its description is enough.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.validation import (
    require_number,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

LARGEST_SCALE = 100.0  # of the logits [Radford et al. 2021, sec. 2.5]
FIRST_SCALE = 1 / 0.07
MOST_WORDS = 64  # of a sentence

# --- sentences ----------------------------------------------------------------------------------------------


class Vocabulary:
    """list of sentences -> their words, numbered from 1 on in alphabetical order; 0 fills up short sentences.

    Raises TypeError or ValueError for what is no list of sentences.
    """

    def __init__(self, sentences: Sequence[str]):
        words = {word for sentence in _as_sentences(sentences) for word in _split(sentence)}
        self.words = ("", *sorted(words))
        self.number = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentences: Sequence[str]) -> torch.Tensor:
        """list of B sentences -> (B, L) int64: the numbers of their words, filled up with 0.

        Raises TypeError or ValueError for what is no list of sentences, for a word that is not in the
        vocabulary, and for sentences of more than 64 words.
        """
        rows = []
        for sentence in _as_sentences(sentences):
            words = _split(sentence)
            unknown = [word for word in words if word not in self.number]
            if unknown:
                raise ValueError(f"sentences wants words of the vocabulary, got {unknown[0]!r}")
            if len(words) > MOST_WORDS:
                raise ValueError(f"sentences wants at most {MOST_WORDS} words each, got {len(words)}")
            rows.append(torch.tensor([self.number[word] for word in words], dtype=torch.int64))
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _as_sentences(sentences):
    require_type(sentences, "sentences", (list, tuple), "a list of sentences")
    if not sentences:
        raise ValueError("sentences wants at least one sentence, got none")
    for sentence in sentences:
        require_type(sentence, "each of sentences", str, "text")
        if not sentence.strip():
            raise ValueError("sentences wants words, got an empty sentence")
    return sentences


def _split(sentence):
    return sentence.lower().replace(",", " ").split()


# --- the model ----------------------------------------------------------------------------------------------


class TextEncoder(nn.Module):
    """(B, L) numbers of words -> (B, D): the words' vectors with their positions, one layer of
    self-attention, and the mean over the words that are there.

    Raises TypeError or ValueError for sizes below 1, for numbers outside the vocabulary, and for sentences of
    more than 64 words.
    """

    def __init__(self, vocabulary_size: int, width: int):
        super().__init__()
        vocabulary_size = require_whole(vocabulary_size, "vocabulary_size", most=2**20)
        width = require_whole(width, "width", most=2**12)
        self.embedding = nn.Embedding(vocabulary_size, width, padding_idx=0)
        self.position = nn.Parameter(0.02 * torch.randn(MOST_WORDS, width))
        self.attention = nn.MultiheadAttention(width, 1, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, width)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        most = self.embedding.num_embeddings - 1
        _, length = require_tensor(words, "words", "B L", kind="int64", least=0, most=most).shape
        if length > MOST_WORDS:
            raise ValueError(f"words wants at most {MOST_WORDS} words, got {length}")
        missing = words == 0
        x = self.embedding(words) + self.position[:length]
        mixed, _ = self.attention(x, x, x, key_padding_mask=missing, need_weights=False)
        x = self.norm(x + mixed).masked_fill(missing[..., None], 0)
        counts = (~missing).sum(1, keepdim=True).clamp(min=1)
        return self.head(x.sum(1) / counts)


class ImageEncoder(nn.Module):
    """(B, C, H, W) -> (B, D): four convolutions with batch normalisation, of which the last three halve
    height and width, and the largest value of each channel over all positions.

    Raises TypeError or ValueError for sizes below 1 and for other channels.
    """

    def __init__(self, width: int, *, channels: int = 3):
        super().__init__()
        width = require_whole(width, "width", most=2**12)
        self.channels = require_whole(channels, "channels", most=2**12)
        widths = [self.channels, *(max(1, width // part) for part in (4, 2, 1, 1))]
        strides = (1, 2, 2, 2)
        self.layers = nn.Sequential(
            *(_convolution(*ends, stride) for ends, stride in zip(pairwise(widths), strides, strict=True))
        )
        self.head = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", "B C H W", C=self.channels)
        require_same_kind(x, "x", self.head.weight)
        return self.head(self.layers(x).amax((2, 3)))


def _convolution(ins, outs, stride):
    conv = nn.Conv2d(ins, outs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outs), nn.ReLU())


class Pair(NamedTuple):
    """Embeddings (B, D) of images and (B, D) of sentences, each of length 1, and the scale of the logits."""

    images: torch.Tensor
    texts: torch.Tensor
    scale: torch.Tensor


class CLIP(nn.Module):
    """images (B, C, H, W), words (B, L) -> Pair: both encoders, their outputs of length 1, and a scale
    that is learned, at most 100.

    Raises TypeError or ValueError for encoders that are none, and for batches of different lengths.
    """

    def __init__(self, image_encoder: nn.Module, text_encoder: nn.Module):
        super().__init__()
        self.image_encoder = require_type(image_encoder, "image_encoder", nn.Module, "a torch.nn.Module")
        self.text_encoder = require_type(text_encoder, "text_encoder", nn.Module, "a torch.nn.Module")
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))

    def forward(self, images: torch.Tensor, words: torch.Tensor) -> Pair:
        require_tensor(images, "images", "B C H W")
        require_tensor(words, "words", "B L", kind="int64", B=len(images))
        return Pair(self.embed_images(images), self.embed_texts(words), self.scale())

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, D) of length 1. Raises TypeError or ValueError as the encoder does."""
        return F.normalize(self.image_encoder(images))

    def embed_texts(self, words: torch.Tensor) -> torch.Tensor:
        """(B, L) -> (B, D) of length 1. Raises TypeError or ValueError as the encoder does."""
        return F.normalize(self.text_encoder(words))

    def scale(self) -> torch.Tensor:
        """-> scalar: exp(log_scale), at most 100."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)


def contrastive_loss(images: torch.Tensor, texts: torch.Tensor, scale: float | torch.Tensor) -> torch.Tensor:
    """(B, D), (B, D), scale -> scalar: the mean of two cross-entropies, of each image among all texts, and of
    each text among all images; the i-th belong together [Radford et al. 2021, fig. 3; InfoNCE, van den Oord
    et al. 2018, arXiv:1807.03748, eq. 4].

    Raises TypeError or ValueError for embeddings that do not fit.
    """
    require_tensor(images, "images", "B D")
    require_tensor(texts, "texts", "B D", B=len(images), D=images.shape[1])
    require_same_kind(images, "images", texts, "texts")
    if isinstance(scale, torch.Tensor):
        require_tensor(scale.reshape(-1), "scale", "N", N=1)
    else:
        scale = require_number(scale, "scale", least=0, most=1e6)
    logits = scale * images @ texts.T
    target = torch.arange(len(images), device=images.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@torch.no_grad()
def classify_by_text(model: CLIP, images: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """CLIP, (B, C, H, W), (K, L) the descriptions of K classes -> (B, K): the probability of each class, by
    the softmax of the scaled cosines.

    Raises TypeError or ValueError for what does not fit.
    """
    require_type(model, "model", CLIP, "a CLIP")
    return (model.scale() * model.embed_images(images) @ model.embed_texts(words).T).softmax(1)
