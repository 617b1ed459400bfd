"""vlmbook.clip: two sentences, and encoders of width 8."""

import torch

from tests.support.good_calls import Call
from vlmbook import clip

SENTENCES = ["a red circle", "a blue star"]
WORDS = torch.tensor([[1, 4, 3], [1, 2, 5]])
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
ROWS = torch.eye(2)


def model():
    return clip.CLIP(clip.ImageEncoder(8), clip.TextEncoder(6, 8)).eval()


GOOD_CALLS = {
    "Vocabulary": lambda: Call(clip.Vocabulary, {"sentences": SENTENCES}),
    "Vocabulary.encode": lambda: Call(clip.Vocabulary(SENTENCES).encode, {"sentences": SENTENCES}),
    "TextEncoder": lambda: Call(clip.TextEncoder, {"vocabulary_size": 6, "width": 8}),
    "TextEncoder.forward": lambda: Call(clip.TextEncoder(6, 8).forward, {"words": WORDS}),
    "ImageEncoder": lambda: Call(clip.ImageEncoder, {"width": 8, "channels": 3}),
    "ImageEncoder.forward": lambda: Call(clip.ImageEncoder(8).eval().forward, {"x": IMAGES}),
    "CLIP": lambda: Call(
        clip.CLIP, {"image_encoder": clip.ImageEncoder(8), "text_encoder": clip.TextEncoder(6, 8)}
    ),
    "CLIP.forward": lambda: Call(model().forward, {"images": IMAGES, "words": WORDS}),
    "CLIP.embed_images": lambda: Call(model().embed_images, {"images": IMAGES}),
    "CLIP.embed_texts": lambda: Call(model().embed_texts, {"words": WORDS}),
    "CLIP.scale": lambda: Call(model().scale, {}),
    "contrastive_loss": lambda: Call(
        clip.contrastive_loss, {"images": ROWS, "texts": ROWS.flip(0), "scale": 2.0}
    ),
    "classify_by_text": lambda: Call(
        clip.classify_by_text, {"model": model(), "images": IMAGES, "words": WORDS}
    ),
}
