"""A decoder-only Transformer over pixels [Radford et al. 2018; Chen et al. 2020, "Generative pretraining from
pixels"] [chapter 4c].

An image is read row by row as N tokens (B, N), int64 in 0 … vocabulary − 1: the levels of its pixels. The
class of the image comes before the first token.
"""

from typing import Any

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from vlmbook.validation import (
    describe,
    require_number,
    require_pair,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

MOST_LEVELS = 2**24  # float32 holds no more whole numbers apart


# --- images and tokens --------------------------------------------------------------------------------------


def to_tokens(images: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """(B, 1, H, W) in [0, 1] -> (B, H·W) int64: the nearest of the levels 0 … vocabulary − 1, row by row.

    Raises TypeError or ValueError for images that are not grey and in [0, 1], and for a vocabulary below 2.
    """
    require_tensor(images, "images", "B 1 H W", empty="B", least=0, most=1)
    vocabulary = require_whole(vocabulary, "vocabulary", least=2, most=MOST_LEVELS)
    return (_at_least_float32(images) * (vocabulary - 1)).round().long().flatten(1)


def to_images(tokens: torch.Tensor, vocabulary: int, size: int | tuple[int, int]) -> torch.Tensor:
    """(B, H·W) int64, (H, W) -> (B, 1, H, W) float32 in [0, 1]: the inverse of `to_tokens`.

    Raises TypeError or ValueError for tokens that are not int64, of another number or beyond the vocabulary.
    """
    vocabulary = require_whole(vocabulary, "vocabulary", least=2, most=MOST_LEVELS)
    height, width = require_pair(size, "size")
    require_tensor(
        tokens, "tokens", "B N", kind="int64", empty="B", least=0, most=vocabulary - 1, N=height * width
    )
    return (tokens.float() / (vocabulary - 1)).view(len(tokens), 1, height, width)


# --- the network --------------------------------------------------------------------------------------------


class KVCache:
    """The keys and values of one block for all positions read so far, so that they are computed once."""

    def __init__(self, context: int):
        self.context = require_whole(context, "context")
        self.length = 0
        self.keys = self.values = None

    def extend(
        self, k: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """(B, h, n, d) twice -> the keys and the values of all `length` positions, and an attention mask
        (n, length), True where a new position attends; None for one new position, which attends to all.

        Raises TypeError or ValueError for keys and values that do not fit each other or those before.
        """
        self._require_fitting(k, v)
        batch, heads, new, size = k.shape
        if self.length == 0:  # only now the dtype is known: under autocast it is not that of the weights
            self.keys = k.new_empty(batch, heads, self.context, size)
            self.values = k.new_empty(batch, heads, self.context, size)
        start, end = self.length, self.length + new
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        self.length = end
        mask = None
        if new > 1:
            mask = torch.ones(new, end, dtype=torch.bool, device=k.device).tril(start)
        return self.keys[:, :, :end], self.values[:, :, :end], mask

    def _require_fitting(self, k, v):
        require_tensor(k, "k", "B h n d", empty="B")
        first = self.keys if self.length > 0 else k
        sizes = {"B": len(first), "h": first.shape[1], "n": k.shape[2], "d": first.shape[3]}
        for x, name in ((k, "k"), (v, "v")):
            require_tensor(x, name, "B h n d", empty="B", **sizes)
            require_same_kind(x, name, first, "the keys before")
        if self.length + k.shape[2] > self.context:
            raise ValueError(f"k wants at most {self.context - self.length} positions, got {k.shape[2]}")


class Block(nn.Module):
    """(B, N, D) -> (B, N, D): causal self-attention, then an MLP at each position, both added to their input.

    Raises TypeError or ValueError for sizes that are not whole or below 1, and for a width that is no
    multiple of heads.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        width = require_whole(width, "width")
        heads = require_whole(heads, "heads")
        if width % heads:
            raise ValueError(f"width wants a multiple of the {heads} heads, got {width}")
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, cache: KVCache | None = None) -> torch.Tensor:
        _require_embeddings(x, self.qkv.weight)
        x = x + self.attend(self.norm1(x), cache)
        return x + self.mlp(self.norm2(x))

    def attend(self, x: torch.Tensor, cache: KVCache | None = None) -> torch.Tensor:
        """(B, N, D) -> (B, N, D): each position attends to itself, to those before it, and to those in the
        cache.
        """
        q, k, v = self.project_qkv(x)
        if cache is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            require_type(cache, "cache", KVCache, "a KVCache or None")
            k, v, mask = cache.extend(k, v)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.projection(rearrange(y, "b h n d -> b n (h d)"))

    def project_qkv(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, D) -> (3, B, h, N, D/h): queries, keys and values of each head."""
        _require_embeddings(x, self.qkv.weight)
        return rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)

    def attention_weights(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, D) -> (B, h, N, N), at least float32: how much position i attends to position j for an input
        of this block.

        Row i sums to 1 over j ≤ i and is 0 beyond.
        """
        _require_embeddings(x, self.qkv.weight)
        q, k, _ = _at_least_float32(self.project_qkv(self.norm1(x)))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        return scores.masked_fill(future, float("-inf")).softmax(-1)


class GPT(nn.Module):
    """(B, N) tokens, (B,) classes -> (B, N, vocabulary): logits of each token, given the class and all tokens
    before it.

    `context` is the largest N, H·W for an image. Raises TypeError or ValueError for sizes that are not whole
    or too small, and for a width that is no multiple of heads.
    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        num_classes: int,
        *,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
    ):
        super().__init__()
        self.vocabulary = require_whole(vocabulary, "vocabulary", least=2, most=MOST_LEVELS)
        self.context = require_whole(context, "context")
        self.num_classes = require_whole(num_classes, "num_classes")
        width = require_whole(width, "width")
        depth = require_whole(depth, "depth")
        self.class_embedding = nn.Embedding(self.num_classes, width)
        self.token_embedding = nn.Embedding(self.vocabulary, width)
        self.position_embedding = nn.Parameter(torch.empty(self.context, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.vocabulary)
        self._initialise(depth)

    def _initialise(self, depth):
        """Small weights; the layers that are added to the residual stream have smaller ones the deeper the
        model is [Radford et al. 2019, §2.3].
        """
        nn.init.normal_(self.position_embedding, std=0.02)
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                added = name.endswith(("projection", "mlp.2"))
                nn.init.normal_(module.weight, std=0.02 / (2 * depth) ** 0.5 if added else 0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.predict_logits(self.embed(tokens, labels)[:, :-1])  # the last token is only predicted

    def embed(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B, N), (B,) -> (B, N + 1, D): the class, then the tokens. The logits at a position are those of
        the token after it.
        """
        _require_tokens(self, tokens, labels)
        return torch.cat([self.class_embedding(labels)[:, None], self.token_embedding(tokens)], dim=1)

    def predict_logits(self, x: torch.Tensor, caches: list[KVCache] | None = None) -> torch.Tensor:
        """(B, n, D) embeddings -> (B, n, vocabulary): logits of the token after each position.

        With a cache for each block, x holds only the positions after those in the caches, which it joins.
        """
        caches = [None] * len(self.blocks) if caches is None else _require_caches(caches, len(self.blocks))
        x = self.add_positions(x, start=0 if caches[0] is None else caches[0].length)
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, cache)
        return self.head(self.norm(x))

    def add_positions(self, x: torch.Tensor, start: int = 0) -> torch.Tensor:
        """(B, n, D) -> (B, n, D): the position embeddings of start, start + 1, … are added."""
        _require_embeddings(x, self.position_embedding)
        end = require_whole(start, "start", least=0) + x.shape[1]
        if end > self.context:
            raise ValueError(f"x wants at most {self.context} positions with those before it, got {end}")
        return x + self.position_embedding[start:end]

    def attention_weights(self, tokens: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        """(B, N), (B,) -> (B, h, N, N) for each block: how much each position attends to those before it."""
        x = self.add_positions(self.embed(tokens, labels)[:, :-1])
        weights = []
        for block in self.blocks:
            weights.append(block.attention_weights(x))
            x = block(x)
        return weights


def gpt_loss(model: nn.Module, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """GPT, (B, N), (B,) -> scalar: −Σ log p(x_t | class, x_<t) / N in nats a token, the mean over the
    batch.

    Raises TypeError or ValueError for tokens and labels that the model cannot use.
    """
    require_type(model, "model", nn.Module, "a GPT")
    logits = _at_least_float32(model(tokens, labels))
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())


# --- sampling -----------------------------------------------------------------------------------------------


def filter_logits(
    logits: torch.Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> torch.Tensor:
    """(B, V) -> (B, V): (logits − the largest of their row) / temperature, and −inf for what is not among the
    k likeliest, or not in the smallest set of the likeliest whose probability reaches p [Holtzman et al.
    2019, arXiv:1904.09751].

    Only differences of logits count; so a temperature near 0 is the argmax, and never NaN. k and p are
    measured at this temperature, p among the k. What is as likely as the last one kept is kept too. Raises
    TypeError or ValueError for logits that are not floating (B, V) or whose largest in a row is NaN or
    infinite, for a temperature that is not above 0, a top_k below 1 and a top_p outside (0, 1].
    """
    require_tensor(logits, "logits", "B V", empty="B")
    temperature = require_number(temperature, "temperature", above=0)
    top_k = logits.shape[1] if top_k is None else require_whole(top_k, "top_k")
    top_p = 1.0 if top_p is None else require_number(top_p, "top_p", above=0, most=1)
    dtype, logits = logits.dtype, _at_least_float32(logits)
    largest = logits.amax(-1, keepdim=True)
    require_tensor(largest, "the largest of logits", "B 1", empty="B", finite=True)
    limits = torch.finfo(logits.dtype)
    logits = (logits - largest) / min(max(temperature, limits.tiny), limits.max)
    if top_k < logits.shape[1]:
        smallest = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, float("-inf"))
    if top_p < 1:  # with 1, rounding could drop the last ones: a sum can reach 1 before its last term
        ordered = logits.sort(descending=True).values
        p = ordered.softmax(-1)
        superfluous = p.cumsum(-1) - p >= top_p  # those before it reach top_p already
        smallest = ordered.masked_fill(superfluous, float("inf")).amin(-1, keepdim=True)
        logits = logits.masked_fill(logits < smallest, float("-inf"))
    return logits.to(dtype)


@torch.no_grad()
def generate(
    model: GPT,
    labels: torch.Tensor,
    *,
    prefix: torch.Tensor | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    use_cache: bool = True,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """GPT, (B,) classes -> (B, context) tokens, drawn one after the other; they begin with `prefix` (B, K).

    `use_cache` keeps keys and values instead of computing those of all positions again for each one; the
    probabilities are the same but for rounding. `temperature`, `top_k` and `top_p` are those of
    `filter_logits`; `generator` is on the model's device. Raises TypeError or ValueError for what the model
    cannot use.
    """
    require_type(model, "model", GPT, "a GPT")
    require_type(use_cache, "use_cache", bool, "True or False")
    _require_generator(generator, model.position_embedding.device)
    require_tensor(labels, "labels", "B", kind="int64", empty="B")
    prefix = labels.new_empty(len(labels), 0) if prefix is None else prefix
    _require_tokens(model, prefix, labels, "prefix")

    tokens = labels.new_empty(len(labels), model.context)
    tokens[:, : prefix.shape[1]] = prefix
    caches = [KVCache(model.context) for _ in model.blocks] if use_cache else None
    x = model.embed(prefix, labels)
    for position in range(prefix.shape[1], model.context):
        logits = model.predict_logits(x, caches)[:, -1].float()
        p = filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p).softmax(-1)
        token = torch.multinomial(p, 1, generator=generator)
        tokens[:, position : position + 1] = token
        new = model.token_embedding(token)
        x = new if use_cache else torch.cat([x, new], dim=1)
    return tokens


def complete(
    model: GPT, images: torch.Tensor, labels: torch.Tensor, kept_rows: int, **sampling: Any
) -> torch.Tensor:
    """GPT, (B, 1, H, W) in [0, 1], (B,), int -> (B, 1, H, W): images that keep the first rows; the others are
    drawn.

    Kept rows are rounded to the model's levels. `sampling` holds options of `generate`. Raises TypeError or
    ValueError for images whose number of pixels is not the model's context, and for rows that they do not
    have.
    """
    require_type(model, "model", GPT, "a GPT")
    tokens = to_tokens(images, model.vocabulary)
    height, width = images.shape[2:]
    if height * width != model.context:
        raise ValueError(f"images wants {model.context} pixels, got {height}×{width}")
    kept_rows = require_whole(kept_rows, "kept_rows", least=0, most=height)
    tokens = generate(model, labels, prefix=tokens[:, : kept_rows * width], **sampling)
    return to_images(tokens, model.vocabulary, (height, width))


def _at_least_float32(x):
    """Sums and products of half-precision numbers are computed in float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


# --- what the model and the sampler require -----------------------------------------------------------------


def _require_embeddings(x, parameter):
    """(B, N, D) of the width, dtype and device of a parameter."""
    require_tensor(x, "x", "B N D", empty="B", D=parameter.shape[-1])
    require_same_kind(x, "x", parameter)


def _require_tokens(model, tokens, labels, name="tokens"):
    """(B, N) tokens in the vocabulary, N from 0 to the context, and (B,) labels."""
    options = {"kind": "int64", "least": 0, "device": model.position_embedding.device}
    require_tensor(labels, "labels", "B", empty="B", most=model.num_classes - 1, **options)
    require_tensor(tokens, name, "B N", empty="B N", most=model.vocabulary - 1, B=len(labels), **options)
    if tokens.shape[1] > model.context:
        raise ValueError(f"{name} wants at most {model.context} columns, got {tokens.shape[1]}")


def _require_caches(caches, depth):
    require_type(caches, "caches", (list, tuple), "a list of KVCache")
    if len(caches) != depth or not all(isinstance(cache, KVCache) for cache in caches):
        raise ValueError(f"caches wants a KVCache for each of the {depth} blocks, got {describe(caches)}")
    lengths = [cache.length for cache in caches]
    if len(set(lengths)) > 1 or len(set(map(id, caches))) < depth:
        raise ValueError(f"caches wants {depth} different caches of one length, got the lengths {lengths}")
    return caches


def _require_generator(generator, device):
    require_type(generator, "generator", (torch.Generator, type(None)), "a torch.Generator or None")
    if generator is not None and generator.device.type != device.type:
        raise ValueError(f"generator wants the device {device} of the model, got {generator.device}")
