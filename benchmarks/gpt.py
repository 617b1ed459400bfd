"""Sampling with the cache against without; a training step of our GPT over that of a plain
nn.TransformerEncoder.

Each way runs once more in a process of its own, whose peak memory counts all of it: Python, PyTorch, the
weights.
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook.gpt import GPT, generate, gpt_loss
from vlmbook.runtime import device, peak_memory

BARS = {"sampling": 15, "training": 1.05}
VOCABULARY, CONTEXT, CLASSES, WIDTH, DEPTH, HEADS = 256, 784, 10, 256, 6, 8


class PlainGPT(nn.Module):
    """The usual way: PyTorch's encoder with a causal mask between embeddings and a head."""

    def __init__(self):
        super().__init__()
        self.classes, self.tokens = nn.Embedding(CLASSES, WIDTH), nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(torch.zeros(CONTEXT, WIDTH))
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, DEPTH, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False
        )
        self.head = nn.Linear(WIDTH, VOCABULARY)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT))

    def forward(self, tokens, labels):
        x = torch.cat([self.classes(labels)[:, None], self.tokens(tokens[:, :-1])], dim=1) + self.positions
        return self.head(self.encoder(x, mask=self.mask, is_causal=True))


def plain_loss(model, tokens, labels):
    return F.cross_entropy(model(tokens, labels).flatten(0, 1), tokens.flatten())


def copy_weights(model, plain):
    """GPT, PlainGPT -> None: the second gets the parameters of the first."""
    pairs = [
        (model.class_embedding, plain.classes),
        (model.token_embedding, plain.tokens),
        (model.norm, plain.encoder.norm),
        (model.head, plain.head),
    ]
    for block, layer in zip(model.blocks, plain.encoder.layers, strict=True):
        attention = layer.self_attn
        attention.in_proj_weight.data.copy_(block.qkv.weight)
        attention.in_proj_bias.data.copy_(block.qkv.bias)
        pairs += [
            (block.norm1, layer.norm1),
            (block.projection, attention.out_proj),
            (block.norm2, layer.norm2),
            (block.mlp[0], layer.linear1),
            (block.mlp[2], layer.linear2),
        ]
    for ours, theirs in pairs:
        theirs.load_state_dict(ours.state_dict())
    plain.positions.data.copy_(model.position_embedding)


def make():
    """-> a GPT from a fixed seed, on the device there is."""
    torch.manual_seed(0)
    return GPT(VOCABULARY, CONTEXT, CLASSES, width=WIDTH, depth=DEPTH, heads=HEADS).to(device())


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--batch", type=int, default=16, help="images of a training step")
    arguments.add_argument("--images", type=int, default=4, help="images drawn at once")
    arguments.add_argument("--repeats", type=int, default=10, help="training steps timed of each")
    arguments.add_argument(
        "--draws", type=int, default=1, help="times all images are drawn with and without the cache"
    )
    arguments.add_argument("--only", choices=BARS, help="one of the two claims")
    arguments.add_argument(
        "--pass", dest="way", choices=PASSES, help="one pass, for its peak memory, and no more"
    )
    arguments = arguments.parse_args()
    if arguments.way:
        return one_pass(arguments.way, arguments)
    print(
        f"GPT({VOCABULARY}, {CONTEXT}, {CLASSES}, width={WIDTH}, depth={DEPTH}, heads={HEADS}), float32; "
        f"torch {torch.__version__}, {device()}, {torch.get_num_threads()} threads"
    )
    sys.stdout.flush()  # the passes come first: a process starts with its parent's peak
    sizes = ["--batch", str(arguments.batch), "--images", str(arguments.images)]
    for way, (claim, _) in PASSES.items():
        if arguments.only is None or claim in (None, arguments.only):
            subprocess.run([sys.executable, __file__, "--pass", way, *sizes], check=True)
    missed = False
    if arguments.only != "training":
        ratio = sampling(arguments.images, arguments.draws)
        print(f"sampling, without the cache over with it: {ratio:.1f} (bar: at least {BARS['sampling']})")
        missed |= ratio < BARS["sampling"]
    if arguments.only != "sampling":
        ratio = training(arguments.batch, arguments.repeats)
        print(f"training step, GPT over the plain one: {ratio:.3f} (bar: at most {BARS['training']})")
        missed |= ratio > BARS["training"]
    sys.exit(missed)


def sampling(images, draws):
    """Draw all tokens of `images` images both ways in turn, print the medians -> float: without over with."""
    model, labels = make().eval(), torch.arange(images, device=device()) % CLASSES
    prefix = torch.randint(VOCABULARY, (images, CONTEXT - 8), device=device())
    drawn = [
        generate(model, labels, prefix=prefix, use_cache=use_cache, generator=generator())
        for use_cache in (True, False)
    ]
    assert_close(*drawn, rtol=0, atol=0)  # the same tokens; this warms up, too
    seconds = {True: [], False: []}
    for draw in range(draws):
        for use_cache in (True, False) if draw % 2 else (False, True):
            began = now()
            generate(model, labels, use_cache=use_cache, generator=generator())
            seconds[use_cache].append(now() - began)
    medians = {use_cache: statistics.median(times) for use_cache, times in seconds.items()}
    print(
        f"{images} images of {CONTEXT} tokens, median of {draws}: {medians[True]:.2f} s with the cache, "
        f"{medians[False]:.2f} s without"
    )
    return medians[False] / medians[True]


def generator():
    return torch.Generator(device()).manual_seed(0)


def training(batch, repeats):
    """Time both models in turn, from the same weights, print the medians -> float: ours over the plain
    one's.
    """
    model, plain = make(), PlainGPT().to(device())
    copy_weights(model, plain)
    tokens, labels = random_batch(batch)
    assert_close(model(tokens[:2], labels[:2]), plain(tokens[:2], labels[:2]), rtol=1e-4, atol=1e-4)
    steps = {
        "plain": stepper(plain, plain_loss, tokens, labels),
        "GPT": stepper(model, gpt_loss, tokens, labels),
    }
    losses = {way: torch.stack([step(), step()]) for way, step in steps.items()}  # the second tests gradients
    assert_close(losses["GPT"], losses["plain"], rtol=1e-4, atol=1e-4)
    seconds = {way: [] for way in steps}
    for repeat in range(repeats):
        for way in sorted(steps, reverse=repeat % 2):  # neither is always the first
            began = now()
            steps[way]()
            seconds[way].append(now() - began)
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    found = ", ".join(f"{way} {1000 * median:.1f}" for way, median in medians.items())
    print(f"{batch} images, forward, loss, backward and AdamW, {repeats} interleaved, median ms: {found}")
    return medians["GPT"] / medians["plain"]


def random_batch(batch):
    torch.manual_seed(1)
    shape = (batch, CONTEXT)
    return torch.randint(VOCABULARY, shape, device=device()), torch.randint(
        CLASSES, (batch,), device=device()
    )


def stepper(model, loss_fn, tokens, labels):
    """-> a function that makes one training step and returns its loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        loss = loss_fn(model, tokens, labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def now():
    """-> seconds, once the device has finished its work."""
    if device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def draw_tokens(use_cache, last):
    """-> pass that draws the last so many tokens of the images."""

    def run(arguments):
        prefix = torch.zeros(arguments.images, CONTEXT - last, dtype=torch.int64, device=device())
        generate(make(), prefix.new_zeros(arguments.images), prefix=prefix, use_cache=use_cache)

    return run


def train_twice(make_model, loss_fn):
    """-> pass that makes two training steps: the second holds gradients, moments and activations."""

    def run(arguments):
        step = stepper(make_model(), loss_fn, *random_batch(arguments.batch))
        step()
        step()

    return run


PASSES = {
    "nothing but the model": (None, lambda arguments: make()),
    "sampling with the cache": ("sampling", draw_tokens(True, CONTEXT)),
    "sampling without": ("sampling", draw_tokens(False, 8)),  # memory peaks at the last tokens
    "training the plain one": ("training", train_twice(lambda: PlainGPT().to(device()), plain_loss)),
    "training GPT": ("training", train_twice(make, gpt_loss)),
}


def one_pass(way, arguments):
    """Name of a pass -> None: print the peak memory of this process."""
    PASSES[way][1](arguments)
    print(
        f"  {way}, peak: "
        + ", ".join(f"{kind} {size / 2**30:.2f} GiB" for kind, size in peak_memory().items())
    )


if __name__ == "__main__":
    main()
