"""Good calls of vlmbook.gpt."""

import torch

from tests.support.good_calls import Call
from vlmbook.gpt import (
    GPT,
    Block,
    KVCache,
    complete,
    filter_logits,
    generate,
    gpt_loss,
    to_images,
    to_tokens,
)

TOKENS, LABELS = torch.zeros(2, 6, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
IMAGES, X, K = torch.full((2, 1, 3, 2), 0.5), torch.zeros(2, 6, 8), torch.zeros(2, 2, 3, 4)
DIALS = {"temperature": 0.8, "top_k": 3, "top_p": 0.9}


def model():
    torch.manual_seed(0)
    return GPT(5, 6, 3, width=8, depth=2, heads=2)


def drawing():
    generator = torch.Generator().manual_seed(0)
    return {"model": model(), "labels": LABELS} | DIALS | {"use_cache": True, "generator": generator}


GOOD_CALLS = {
    "to_tokens": lambda: Call(to_tokens, {"images": IMAGES, "vocabulary": 5}),
    "to_images": lambda: Call(to_images, {"tokens": TOKENS, "vocabulary": 5, "size": (3, 2)}),
    "KVCache": lambda: Call(KVCache, {"context": 6}),
    "KVCache.extend": lambda: Call(KVCache(6).extend, {"k": K, "v": K}),
    "Block": lambda: Call(Block, {"width": 8, "heads": 2}),
    "Block.forward": lambda: Call(Block(8, 2).forward, {"x": X, "cache": KVCache(6)}),
    "Block.attend": lambda: Call(Block(8, 2).attend, {"x": X, "cache": KVCache(6)}),
    "Block.project_qkv": lambda: Call(Block(8, 2).project_qkv, {"x": X}),
    "Block.attention_weights": lambda: Call(Block(8, 2).attention_weights, {"x": X}),
    "GPT": lambda: Call(
        GPT, {"vocabulary": 5, "context": 6, "num_classes": 3, "width": 8, "depth": 2, "heads": 2}
    ),
    "GPT.forward": lambda: Call(model().forward, {"tokens": TOKENS, "labels": LABELS}),
    "GPT.embed": lambda: Call(model().embed, {"tokens": TOKENS, "labels": LABELS}),
    "GPT.predict_logits": lambda: Call(
        model().predict_logits, {"x": X[:, :3], "caches": [KVCache(6), KVCache(6)]}
    ),
    "GPT.add_positions": lambda: Call(model().add_positions, {"x": X[:, :3], "start": 2}),
    "GPT.attention_weights": lambda: Call(model().attention_weights, {"tokens": TOKENS, "labels": LABELS}),
    "gpt_loss": lambda: Call(gpt_loss, {"model": model(), "tokens": TOKENS, "labels": LABELS}),
    "filter_logits": lambda: Call(filter_logits, {"logits": torch.zeros(2, 5)} | DIALS),
    "generate": lambda: Call(generate, drawing() | {"prefix": TOKENS[:, :2]}),
    "complete": lambda: Call(complete, drawing() | {"images": IMAGES, "kept_rows": 1}),
}
