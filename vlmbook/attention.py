"""Attention from loops to heads, its relatives inside CNNs, and the vision transformer [Vaswani et al. 2017,
arXiv:1706.03762; Dosovitskiy et al. 2020, arXiv:2010.11929] [chapter 5b].

Tokens are floating tensors (B, N, D), images (B, C, H, W). Parameters have the names that
`torch.nn.MultiheadAttention` and torchvision give them, so that their `state_dict`s load unchanged.
"""

from collections import OrderedDict

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from vlmbook.validation import (
    require_choice,
    require_pair,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

MOST = 2**16  # of a width, a side, a number of classes or of blocks; a larger number is a mistake


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(…, N, d), (…, M, d), (…, M, e) -> (…, N, e), (…, N, M): softmax(q kᵀ / √d) v, and the softmax [Vaswani
    et al. 2017, eq. 1].

    The softmax holds the attention weights: row i is the share of each of the M values in output i; it sums
    to 1. Scores and sums are computed in at least float32. Raises TypeError or ValueError for tensors that
    are not floating or not of one kind, and for shapes that do not fit.
    """
    require_tensor(q, "q", "… N d", empty="N")
    leading = " ".join(map(str, q.shape[:-2]))
    require_tensor(k, "k", f"{leading} M d", d=q.shape[-1])
    require_tensor(v, "v", f"{leading} M e", M=k.shape[-2], empty="e")
    require_same_kind(k, "k", q, owner="q")
    require_same_kind(v, "v", q, owner="q")
    scores = _at_least_float32(q) / q.shape[-1] ** 0.5 @ _at_least_float32(k).mT
    attention_weights = scores.softmax(-1)
    output = attention_weights @ _at_least_float32(v)
    return output.to(v.dtype), attention_weights.to(q.dtype)


class MultiHeadAttention(nn.Module):
    """(B, N, D) -> (B, N, D): self-attention in h heads of width D/h, side by side [Vaswani et al. 2017,
    §3.2.2].

    With need_weights=True the result is (B, N, D), (B, h, N, N): the attention weights as well, of which row
    i sums to 1 over the keys. Otherwise PyTorch's fused kernel computes the same output and never stores
    them. Raises TypeError or ValueError for a width that `heads` does not divide and for other tokens.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        width = require_whole(width, "width", most=MOST)
        self.heads = require_whole(heads, "heads", most=MOST)
        if width % self.heads != 0:
            raise ValueError(f"width wants to be a multiple of {self.heads} heads, got {width}")
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))  # W_Q, W_K and W_V in one
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, x: torch.Tensor, *, need_weights: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        require_choice(need_weights, "need_weights", (True, False))
        q, k, v = self.split_heads(x)
        if not need_weights:
            return self.merge_heads(F.scaled_dot_product_attention(q, k, v))
        y, attention_weights = attention(q, k, v)
        return self.merge_heads(y), attention_weights

    def split_heads(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, D) -> (3, B, h, N, D/h): queries, keys, values."""
        _require_tokens(x, self.out_proj.weight)
        x = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        return rearrange(x, "b n (three h d) -> three b h n d", three=3, h=self.heads)

    def merge_heads(self, y: torch.Tensor) -> torch.Tensor:
        """(B, h, N, D/h) -> (B, N, D): the heads beside each other, mixed by one linear map."""
        width = self.out_proj.in_features
        require_tensor(y, "y", "B h N d", empty="B", h=self.heads, d=width // self.heads)
        require_same_kind(y, "y", self.out_proj.weight)
        return self.out_proj(rearrange(y, "b h n d -> b n (h d)"))


class SqueezeExcitation(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): each channel times its gate, a number in (0, 1) that depends on the means
    of all channels [Hu et al. 2017, arXiv:1709.01507, eqs. 2-4].

    Parameters load from `torchvision.ops.SqueezeExcitation`. Raises TypeError or ValueError for fewer than
    one channel, for a reduction larger than the number of channels, and for other images.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        channels = require_whole(channels, "channels", most=MOST)
        reduction = require_whole(reduction, "reduction", most=channels)
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, 1, 1) in (0, 1): from the mean of every channel over height and width."""
        require_tensor(x, "x", "B C H W", empty="B", C=self.fc1.in_channels)
        require_same_kind(x, "x", self.fc1.weight)
        squeezed = x.mean((2, 3), keepdim=True)
        return self.fc2(self.fc1(squeezed).relu()).sigmoid()


class SpatialAttention(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): each position times its gate, a number in (0, 1) that depends on the
    values around it [Woo et al. 2018, CBAM, arXiv:1807.06521, eq. 3].

    Raises TypeError or ValueError for a kernel size that is not odd and for other images.
    """

    def __init__(self, kernel_size: int = 7):
        super().__init__()
        kernel_size = require_whole(kernel_size, "kernel_size", most=MOST)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size wants an odd number, which has a middle, got {kernel_size}")
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, 1, H, W) in (0, 1): from mean and maximum over the channels."""
        require_tensor(x, "x", "B C H W", empty="B")
        require_same_kind(x, "x", self.conv.weight)
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return self.conv(pooled).sigmoid()


class EncoderBlock(nn.Module):
    """(B, N, D) -> (B, N, D): self-attention, then an MLP for each token, each added to its input
    [Dosovitskiy et al. 2020, eqs. 2 and 3].

    Raises TypeError or ValueError for a width that `heads` does not divide and for other tokens.
    """

    def __init__(self, width: int, heads: int, mlp_width: int):
        super().__init__()
        width = require_whole(width, "width", most=MOST)
        mlp_width = require_whole(mlp_width, "mlp_width", most=4 * MOST)
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = MultiHeadAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        up = nn.Linear(width, mlp_width)
        down = nn.Linear(mlp_width, width)
        self.mlp = nn.Sequential(
            OrderedDict({"0": up, "1": nn.GELU(), "3": down})
        )  # torchvision: 2 is dropout
        for layer in (up, down):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _require_tokens(x, self.ln_1.weight)
        x = x + self.self_attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))

    def attention_weights(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, D) -> (B, h, N, N): the attention weights for an input of this block."""
        _require_tokens(x, self.ln_1.weight)
        _, attention_weights = self.self_attention(self.ln_1(x), need_weights=True)
        return attention_weights


class Encoder(nn.Module):
    """(B, N, D) -> (B, N, D): position embeddings added, the blocks, a last normalisation.

    Raises TypeError or ValueError for a width that `heads` does not divide and for other tokens.
    """

    def __init__(self, tokens: int, width: int, depth: int, heads: int, mlp_width: int):
        super().__init__()
        tokens = require_whole(tokens, "tokens", most=MOST**2)
        width = require_whole(width, "width", most=MOST)
        depth = require_whole(depth, "depth", most=MOST)
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, width).normal_(std=0.02))
        blocks = {f"encoder_layer_{i}": EncoderBlock(width, heads, mlp_width) for i in range(depth)}
        self.layers = nn.Sequential(OrderedDict(blocks))
        self.ln = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ln(self.layers(self.add_positions(x)))

    def add_positions(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, D) -> (B, N, D): each token plus the embedding of its position."""
        _require_tokens(x, self.ln.weight, N=self.pos_embedding.shape[1])
        return x + self.pos_embedding

    def attention_weights(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, N, D) -> list of (B, h, N, N): the attention weights of each block."""
        x = self.add_positions(x)
        of_blocks = []
        for block in self.layers:
            of_blocks.append(block.attention_weights(x))
            x = block(x)
        return of_blocks


class VisionTransformer(nn.Module):
    """(B, C, H, W) -> (B, num_classes) logits: patches as tokens and a class token before them, whose last
    state is classified [Dosovitskiy et al. 2020, eqs. 1-4]. Attribute names are torchvision's.

    `image_size` is H and W, a pair or one number for both, and `patch_size` the side of a patch, each in
    pixels; `mlp_width` is 4·width unless given. Raises TypeError or ValueError for sizes that are no whole
    numbers of at least 1, a patch that does not divide the image, a width that `heads` does not divide, and
    other images.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        patch_size: int,
        num_classes: int,
        in_channels: int = 3,
        *,
        width: int,
        depth: int,
        heads: int,
        mlp_width: int | None = None,
    ):
        super().__init__()
        self.image_size = require_pair(image_size, "image_size", most=MOST)
        patch_size = require_whole(patch_size, "patch_size", most=MOST)
        self.grid = _grid(self.image_size, patch_size)
        num_classes = require_whole(num_classes, "num_classes", most=MOST)
        in_channels = require_whole(in_channels, "in_channels", most=MOST)
        width = require_whole(width, "width", most=MOST)
        mlp_width = 4 * width if mlp_width is None else mlp_width
        rows, columns = self.grid
        self.conv_proj = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = Encoder(rows * columns + 1, width, depth, heads, mlp_width)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(width, num_classes)))
        nn.init.trunc_normal_(self.conv_proj.weight, std=(in_channels * patch_size**2) ** -0.5)
        for parameter in (self.conv_proj.bias, self.heads.head.weight, self.heads.head.bias):
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.heads(self.features(x))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, D): the class token after the last block."""
        return self.encoder(self.embed(x))[:, 0]

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, N + 1, D): the class token, then one token a patch, row by row; position
        embeddings are not yet added.
        """
        height, width = self.image_size
        require_tensor(x, "x", "B C H W", empty="B", C=self.conv_proj.in_channels, H=height, W=width)
        require_same_kind(x, "x", self.conv_proj.weight)
        patches = rearrange(self.conv_proj(x), "b d h w -> b (h w) d")
        return torch.cat([self.class_token.expand(x.shape[0], -1, -1), patches], dim=1)

    def attention_weights(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, H, W) -> list of (B, h, N + 1, N + 1): the attention weights of each block, the class token
        first.
        """
        return self.encoder.attention_weights(self.embed(x))


def vit_b_16(
    num_classes: int = 1000, in_channels: int = 3, image_size: int | tuple[int, int] = 224
) -> VisionTransformer:
    """-> VisionTransformer of 86.6 M parameters; loads the `state_dict` of torchvision's of the same name."""
    return VisionTransformer(
        image_size, 16, num_classes, in_channels, width=768, depth=12, heads=12, mlp_width=3072
    )


def to_patches(x: torch.Tensor, patch_size: int) -> torch.Tensor:
    """(B, C, H, W) -> (B, N, C·P²): the patches row by row, each with its pixels in the order of the weight
    of an `nn.Conv2d`.

    Raises TypeError or ValueError for other images and for a patch that does not divide them.
    """
    require_tensor(x, "x", "B C H W", empty="B")
    patch_size = require_whole(patch_size, "patch_size", most=MOST)
    rows, columns = _grid(x.shape[2:], patch_size)
    return rearrange(x, "b c (r p) (s q) -> b (r s) (c p q)", r=rows, s=columns)


def rollout(attention_weights: list[torch.Tensor]) -> torch.Tensor:
    """list of (B, h, N, N) -> (B, N, N): how much of each input token every output token holds, if half
    of what leaves a block were its input and half what its heads mix on average [Abnar & Zuidema 2020,
    arXiv:2005.00928, §4].

    Rows sum to 1 where those of the blocks do. Sums are computed in at least float32. Raises TypeError for
    anything but floating tensors of one kind, and ValueError for no block and for shapes that differ.
    """
    require_type(attention_weights, "attention_weights", (list, tuple), "a list of tensors, one a block")
    if not attention_weights:
        raise ValueError("attention_weights wants a list of tensors, one a block, got an empty one")
    first = require_tensor(attention_weights[0], "attention_weights[0]", "B h N N", empty="B")
    for number, block in enumerate(attention_weights):
        name = f"attention_weights[{number}]"
        require_tensor(block, name, "B h N N", empty="B", B=first.shape[0], N=first.shape[3])
        require_same_kind(block, name, first, owner="the first block")
    mixing = [_at_least_float32(block).mean(1) for block in attention_weights]
    carried = torch.eye(first.shape[-1], dtype=mixing[0].dtype, device=first.device)
    for mixed in mixing:
        carried = (mixed @ carried + carried) / 2
    return carried.to(first.dtype)


# --- dtypes and arguments -----------------------------------------------------------------------------------


def _at_least_float32(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _require_tokens(x, parameter, **sizes):
    """Raises TypeError or ValueError unless x is (B, N, D), of the parameter's width and kind."""
    require_tensor(x, "x", "B N D", empty="B", D=parameter.shape[-1], **sizes)
    require_same_kind(x, "x", parameter)


def _grid(image_size, patch_size):
    """(H, W), P -> (rows, columns) of patches. Raises ValueError where P does not divide the image."""
    height, width = image_size
    if height % patch_size != 0 or width % patch_size != 0:
        raise ValueError(f"patch_size wants to divide an image of {height}×{width}, got {patch_size}")
    return height // patch_size, width // patch_size
