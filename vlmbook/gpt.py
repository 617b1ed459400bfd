"""A decoder-only Transformer over pixels [Radford et al. 2018; Chen et al. 2020, "Generative pretraining from
pixels"] [chapter 4c].

An image is read row by row as N tokens (B, N), int64 in 0 … vocabulary − 1: the pixels' levels. A class comes
first.
"""

import math
from numbers import Integral, Real

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from vlmbook.checks import check_counts


class Block(nn.Module):
    """(B, N, D) -> (B, N, D): causal self-attention, then an MLP for each place, both added to what came in.

    Raises ValueError for sizes that are not whole or below 1, and for a width that heads does not divide.
    """

    def __init__(self, width, heads):
        super().__init__()
        check_counts(self, width=width, heads=heads)
        if width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width}")
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x, memory=None):
        x = x + self.attention(self.norm1(x), memory)
        return x + self.mlp(self.norm2(x))

    def attention(self, x, memory=None):
        """(B, N, D) -> (B, N, D): every place takes from those before it, those in `memory` too, and from
        itself.
        """
        q, k, v = self.split(x)
        if memory is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            k, v, mask = memory.extend(k, v)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.projection(rearrange(y, "b h n d -> b n (h d)"))

    def split(self, x):
        """(B, N, D) -> (B, h, N, D/h) three times: queries, keys, values."""
        return rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)

    def weights(self, x):
        """(B, N, D) -> (B, h, N, N): the attention weights for an input of this block; row i sums to 1 over j
        <= i.
        """
        q, k, _ = self.split(self.norm1(x))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        return scores.masked_fill(future, float("-inf")).softmax(-1)


class Memory:
    """Keys and values of one block for the places seen so far, so that a new place costs one place."""

    def __init__(self, context):
        self.context, self.length = context, 0

    def extend(self, k, v):
        """(B, h, n, d) twice -> all keys, all values, and which of them each of the n new places sees (None:
        all).
        """
        if self.length == 0:  # only now the dtype is known: under autocast it is not the weights'
            batch, heads, _, size = k.shape
            self.keys, self.values = (k.new_empty(batch, heads, self.context, size) for _ in range(2))
        start, end = self.length, self.length + k.shape[2]
        self.keys[:, :, start:end], self.values[:, :, start:end] = k, v
        self.length = end
        mask = (
            None
            if end == start + 1
            else torch.ones(end - start, end, dtype=torch.bool, device=k.device).tril(start)
        )
        return self.keys[:, :, :end], self.values[:, :, :end], mask


class GPT(nn.Module):
    """(B, N) tokens, (B,) classes -> (B, N, vocabulary): logits of each token, given class and tokens before
    it.

    `context` is the largest N, for an image H·W. Raises ValueError for sizes that are not whole or too small,
    and for a width that heads does not divide.
    """

    def __init__(self, vocabulary, context, num_classes, *, width=128, depth=4, heads=4):
        super().__init__()
        check_counts(
            self,
            vocabulary=vocabulary,
            context=context,
            num_classes=num_classes,
            width=width,
            depth=depth,
            heads=heads,
        )
        if vocabulary < 2:
            raise ValueError(f"GPT wants a vocabulary of at least 2, got {vocabulary}")
        self.vocabulary, self.context, self.num_classes = vocabulary, context, num_classes
        self.classes = nn.Embedding(num_classes, width)
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        self._start(depth)

    def _start(self, depth):
        """Small weights; those that write into the residual stream smaller with depth [Radford et al. 2019,
        §2.3].
        """
        nn.init.normal_(self.positions, std=0.02)
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                writes = name.endswith(("projection", "mlp.2"))
                nn.init.normal_(module.weight, std=0.02 / (2 * depth) ** 0.5 if writes else 0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, tokens, labels):
        check_tokens(self, tokens, labels, least=1)
        return self.read(self.embed(tokens[:, :-1], labels))

    def embed(self, tokens, labels):
        """(B, N), (B,) -> (B, N + 1, D): the class, then the tokens; what is read at a place is about the
        next.
        """
        return torch.cat([self.classes(labels)[:, None], self.tokens(tokens)], dim=1)

    def read(self, x, memories=None):
        """(B, n, D) embeddings -> (B, n, vocabulary); with memories, x holds the places after those that they
        hold.
        """
        if memories is not None and len(memories) != len(self.blocks):
            raise ValueError(
                f"GPT wants a memory for each of its {len(self.blocks)} blocks, got {len(memories)}"
            )
        x = self.place(x, memories[0].length if memories else 0)
        for number, block in enumerate(self.blocks):
            x = block(x, memories[number] if memories else None)
        return self.head(self.norm(x))

    def place(self, x, start=0):
        """(B, n, D) -> (B, n, D): x for the places from `start` on, with their positions added."""
        end = start + x.shape[1]
        if end > self.context:
            raise ValueError(f"GPT has {self.context} places, got {end}")
        return x + self.positions[start:end]

    def attention(self, tokens, labels):
        """(B, N), (B,) -> list of (B, h, N, N): the attention weights of each block."""
        check_tokens(self, tokens, labels, least=1)
        x, found = self.place(self.embed(tokens[:, :-1], labels)), []
        for block in self.blocks:
            found.append(block.weights(x))
            x = block(x)
        return found


def gpt_loss(model, tokens, labels):
    """GPT, (B, N), (B,) -> scalar: −Σ log p(x_t | class, x_<t) / N in nats a token, the mean over the
    batch.
    """
    return F.cross_entropy(model(tokens, labels).flatten(0, 1), tokens.flatten())


def narrowed(logits, *, temperature=1.0, top_k=None, top_p=None):
    """(B, V) -> (B, V): logits / temperature, and −inf for what is not among the k likeliest, or in the
    smallest set of the likeliest whose probability reaches p [Holtzman et al. 2019, arXiv:1904.09751].

    Both count at this temperature, p among the k. What is as likely as the last one kept is kept too. Raises
    TypeError or ValueError for logits that are no floating (B, V), and ValueError for a temperature that is
    not above 0, a top_k below 1 and a top_p outside (0, 1].
    """
    for name, value, most in (
        ("temperature", temperature, math.inf),
        ("top_p", 1 if top_p is None else top_p, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value <= most:
            raise ValueError(f"{name} wants a number above 0{' and at most 1' * (most == 1)}, got {value!r}")
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        raise ValueError(f"top_k wants a whole number of at least 1, got {top_k!r}")
    if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
        kind = logits.dtype if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise TypeError(f"narrowed wants logits as a floating tensor, got {kind}")
    if logits.ndim != 2:
        raise ValueError(f"narrowed wants logits (B, V), got the shape {tuple(logits.shape)}")
    logits = logits / temperature
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if top_p is not None and top_p < 1:  # rounded, a sum can reach 1 before its last term
        ordered = logits.sort(descending=True).values
        p = ordered.softmax(-1)
        surplus = p.cumsum(-1) - p >= top_p  # what comes before it reaches p already
        least = ordered.masked_fill(surplus, float("inf")).amin(-1, keepdim=True)
        logits = logits.masked_fill(logits < least, float("-inf"))
    return logits


@torch.no_grad()
def generate(
    model, labels, *, known=None, temperature=1.0, top_k=None, top_p=None, cache=True, generator=None
):
    """GPT, (B,) classes -> (B, context) tokens, drawn one after the other; they begin with `known` (B, K), if
    given.

    `cache` keeps keys and values instead of reading all places again for each one; the probabilities are the
    same but for rounding. `temperature`, `top_k`, `top_p` are those of `narrowed`; `generator` is of the
    model's device.
    """
    check_indices(model, "labels", labels, 1, model.num_classes)
    known = labels.new_empty(len(labels), 0) if known is None else known
    check_tokens(model, known, labels)
    tokens = labels.new_empty(len(labels), model.context)
    tokens[:, : known.shape[1]] = known
    memories = [Memory(model.context) for _ in model.blocks] if cache else None
    x = model.embed(known, labels)
    for place in range(known.shape[1], model.context):
        logits = model.read(x, memories)[:, -1].float()
        p = narrowed(logits, temperature=temperature, top_k=top_k, top_p=top_p).softmax(-1)
        drawn = torch.multinomial(p, 1, generator=generator)
        tokens[:, place : place + 1] = drawn
        x = model.tokens(drawn) if cache else torch.cat([x, model.tokens(drawn)], dim=1)
    return tokens


def complete(model, images, labels, known_rows, **sampling):
    """GPT, (B, 1, H, W) in [0, 1], (B,), int -> (B, 1, H, W): images that keep the first rows and draw the
    others.

    Kept rows are rounded to the model's levels. `sampling` is that of `generate`. Raises ValueError for
    images that the model's context does not fit, and for rows that they do not have.
    """
    tokens = to_tokens(images, model.vocabulary)
    height, width = images.shape[2:]
    if tokens.shape[1] != model.context:
        raise ValueError(f"complete wants images of {model.context} pixels, got {height}×{width}")
    if isinstance(known_rows, bool) or not isinstance(known_rows, int) or not 0 <= known_rows <= height:
        raise ValueError(f"complete wants from 0 to {height} known rows, got {known_rows!r}")
    drawn = generate(model, labels, known=tokens[:, : known_rows * width], **sampling)
    return to_images(drawn, model.vocabulary, (height, width))


def to_tokens(images, vocabulary):
    """(B, 1, H, W) in [0, 1] -> (B, H·W) int64: the nearest of the levels 0 … vocabulary − 1, row by row.

    Raises TypeError or ValueError for what are no grey images in [0, 1], and for a vocabulary below 2.
    """
    _check_vocabulary("to_tokens", vocabulary)
    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
        raise TypeError(f"to_tokens wants images as a floating tensor, got {kind}")
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"to_tokens wants grey images (B, 1, H, W), got {tuple(images.shape)}")
    if images.numel() and not 0 <= images.min() <= images.max() <= 1:
        raise ValueError(
            f"to_tokens wants pixels in [0, 1], got from {images.min():.4g} to {images.max():.4g}"
        )
    return (images * (vocabulary - 1)).round().long().flatten(1)


def to_images(tokens, vocabulary, size):
    """(B, H·W) int64, (H, W) -> (B, 1, H, W) float32 in [0, 1]: what `to_tokens` came from.

    Raises TypeError unless tokens are int64, and ValueError for another shape and for tokens beyond the
    vocabulary.
    """
    _check_vocabulary("to_images", vocabulary)
    if not isinstance(tokens, torch.Tensor) or tokens.dtype != torch.int64:
        kind = tokens.dtype if isinstance(tokens, torch.Tensor) else type(tokens).__name__
        raise TypeError(f"to_images wants tokens as an int64 tensor, got {kind}")
    height, width = size
    if tokens.ndim != 2 or tokens.shape[1] != height * width:
        raise ValueError(
            f"to_images wants tokens (B, {height * width}) of {height}×{width}, got {tuple(tokens.shape)}"
        )
    if tokens.numel() and not 0 <= tokens.min() <= tokens.max() < vocabulary:
        raise ValueError(
            f"to_images wants tokens from 0 to {vocabulary - 1}, got {tokens.min()} to {tokens.max()}"
        )
    return (tokens.float() / (vocabulary - 1)).view(len(tokens), 1, height, width)


def _check_vocabulary(owner, vocabulary):
    if isinstance(vocabulary, bool) or not isinstance(vocabulary, Integral) or vocabulary < 2:
        raise ValueError(f"{owner} wants a whole vocabulary of at least 2, got {vocabulary!r}")


def check_tokens(model, tokens, labels, *, least=0):
    """Raises TypeError or ValueError unless they are (B, N) and (B,) int64 that the model knows, N from
    `least` on.
    """
    check_indices(model, "labels", labels, 1, model.num_classes)
    check_indices(model, "tokens", tokens, 2, model.vocabulary)
    if len(tokens) != len(labels):
        raise ValueError(f"GPT wants one label for each row of tokens, got {len(labels)} and {len(tokens)}")
    if not least <= tokens.shape[1] <= model.context:
        raise ValueError(f"GPT wants {least} to {model.context} tokens, got {tokens.shape[1]}")


def check_indices(model, name, values, axes, most):
    """Raises TypeError or ValueError unless `values` is int64 with so many axes, below `most`, where the
    model is.
    """
    if not isinstance(values, torch.Tensor) or values.dtype != torch.int64:
        kind = values.dtype if isinstance(values, torch.Tensor) else type(values).__name__
        raise TypeError(f"GPT wants {name} as an int64 tensor, got {kind}")
    if values.ndim != axes:
        raise ValueError(
            f"GPT wants {name} {['(B,)', '(B, N)'][axes - 1]}, got the shape {tuple(values.shape)}"
        )
    if values.device != model.positions.device:
        raise ValueError(f"GPT wants {name} on its device {model.positions.device}, got {values.device}")
    if values.numel() and not 0 <= values.min() <= values.max() < most:
        raise ValueError(f"GPT wants {name} from 0 to {most - 1}, got {values.min()} to {values.max()}")
