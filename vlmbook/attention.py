"""Attention from loops to heads, its relatives inside CNNs, and the vision transformer [Vaswani et al. 2017,
arXiv:1706.03762; Dosovitskiy et al. 2020, arXiv:2010.11929] [chapter 5b].

Tokens are floating tensors (B, N, D), images (B, C, H, W). Names of weights are those of
`torch.nn.MultiheadAttention` and of torchvision, so that their `state_dict`s load unchanged.
"""

from collections import OrderedDict
from numbers import Integral

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from vlmbook.checks import check_counts, check_images, check_kind


def attention_loops(q, k, v):
    """(N, d), (M, d), (M, e) -> (N, e), (N, M): what `attention` computes, one query and one key after the
    other.
    """
    outputs, weights = [], []
    for query in q:
        scores = torch.stack([query @ key for key in k]) / q.shape[1] ** 0.5
        alpha = scores.exp() / scores.exp().sum()
        outputs.append(sum(share * value for share, value in zip(alpha, v, strict=True)))
        weights.append(alpha)
    return torch.stack(outputs), torch.stack(weights)


def attention(q, k, v):
    """(…, N, d), (…, M, d), (…, M, e) -> (…, N, e), (…, N, M): softmax(q kᵀ / √d) v, and the softmax [Vaswani
    et al. 2017, eq. 1].

    Row i of the weights is what query i takes from each of the M keys; it sums to 1. Raises TypeError or
    ValueError for what is not floating or not of one kind, and for shapes that do not fit.
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
            raise TypeError(f"attention wants {name} as a floating tensor, got {kind}")
        if x.ndim < 2:
            raise ValueError(f"attention wants {name} with at least two axes, got the shape {tuple(x.shape)}")
    if not q.dtype == k.dtype == v.dtype or not q.device == k.device == v.device:
        raise TypeError(
            "attention wants q, k and v of one dtype and device, got "
            + ", ".join(f"{x.dtype} on {x.device}" for x in (q, k, v))
        )
    fits = (
        q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
        and q.shape[-1] == k.shape[-1]
        and k.shape[-2] == v.shape[-2]
    )
    if not fits or 0 in k.shape[-2:]:
        raise ValueError(
            "attention wants (…, N, d), (…, M, d) and (…, M, e) with d and M of at least 1, got "
            f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    weights = (q / q.shape[-1] ** 0.5 @ k.transpose(-1, -2)).softmax(-1)
    return weights @ v, weights


class MultiHeadAttention(nn.Module):
    """(B, N, D) -> (B, N, D): self-attention in h heads of width D/h, side by side [Vaswani et al. 2017,
    §3.2.2].

    With weights=True it gives (B, N, D), (B, h, N, N): the weights as well, of which row i sums to 1 over the
    keys. Otherwise PyTorch's fused kernel computes the same and never holds them. Raises ValueError for a
    width that heads does not divide.
    """

    def __init__(self, width, heads):
        super().__init__()
        check_counts(self, width=width, heads=heads)
        if width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width}")
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))  # W_Q, W_K and W_V in one
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x, *, weights=False):
        q, k, v = self.split(x)
        if weights:
            y, found = attention(q, k, v)
            return self.join(y), found
        return self.join(F.scaled_dot_product_attention(q, k, v))

    def split(self, x):
        """(B, N, D) -> (B, h, N, D/h) three times: queries, keys, values."""
        check_tokens(x, self.out_proj.weight)
        x = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        return rearrange(x, "b n (three h d) -> three b h n d", three=3, h=self.heads)

    def join(self, y):
        """(B, h, N, D/h) -> (B, N, D): the heads beside each other, mixed by one linear map."""
        return self.out_proj(rearrange(y, "b h n d -> b n (h d)"))


class SqueezeExcitation(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): each channel times a weight in (0, 1) that all channels decide on
    together [Hu et al. 2017, arXiv:1709.01507, eqs. 2-4]. Weights load from
    `torchvision.ops.SqueezeExcitation`.

    Raises ValueError for fewer than one channel, or none left when they are divided by `reduction`.
    """

    def __init__(self, channels, reduction=16):
        super().__init__()
        check_counts(self, channels=channels, reduction=reduction)
        if channels < reduction:
            raise ValueError(
                f"SqueezeExcitation wants a reduction of at most its {channels} channels, got {reduction}"
            )
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def weights(self, x):
        """(B, C, H, W) -> (B, C, 1, 1) in (0, 1): from the mean of every channel over all places."""
        check_images(x, "x", "(B, C, H, W)", layer=self.fc1)
        return self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()

    def forward(self, x):
        return x * self.weights(x)


class SpatialAttention(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): each place times a weight in (0, 1) from what is around it [Woo et al.
    2018, CBAM, arXiv:1807.06521, eq. 3]. Raises ValueError for a kernel that is not odd.
    """

    def __init__(self, kernel=7):
        super().__init__()
        check_counts(self, kernel=kernel)
        if kernel % 2 == 0:
            raise ValueError(f"SpatialAttention wants an odd kernel, which has a middle, got {kernel}")
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2)

    def weights(self, x):
        """(B, C, H, W) -> (B, 1, H, W) in (0, 1): from mean and maximum of the channels at every place."""
        check_images(x, "x", "(B, C, H, W)")
        check_kind(x, "x", self.conv.weight)
        return self.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)).sigmoid()

    def forward(self, x):
        return x * self.weights(x)


class EncoderBlock(nn.Module):
    """(B, N, D) -> (B, N, D): self-attention, then an MLP for each token, both added to what came in
    [Dosovitskiy et al. 2020, eqs. 2 and 3]."""

    def __init__(self, width, heads, mlp_width):
        super().__init__()
        check_counts(self, mlp_width=mlp_width)
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = MultiHeadAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        up, down = nn.Linear(width, mlp_width), nn.Linear(mlp_width, width)
        self.mlp = nn.Sequential(
            OrderedDict({"0": up, "1": nn.GELU(), "3": down})
        )  # torchvision's 2 drops out
        for layer in (up, down):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        check_tokens(x, self.ln_1.weight)
        x = x + self.self_attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))

    def weights(self, x):
        """(B, N, D) -> (B, h, N, N): the attention weights for an input of this block."""
        check_tokens(x, self.ln_1.weight)
        return self.self_attention(self.ln_1(x), weights=True)[1]


class Encoder(nn.Module):
    """(B, N, D) -> (B, N, D): positions added, the blocks, a last normalisation."""

    def __init__(self, tokens, width, depth, heads, mlp_width):
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, width).normal_(std=0.02))
        blocks = {f"encoder_layer_{i}": EncoderBlock(width, heads, mlp_width) for i in range(depth)}
        self.layers = nn.Sequential(OrderedDict(blocks))
        self.ln = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x):
        return self.ln(self.layers(self.placed(x)))

    def placed(self, x):
        """(B, N, D) -> (B, N, D): with positions. Raises ValueError for another number of tokens than it has
        places.
        """
        check_tokens(x, self.ln.weight)
        if x.shape[1] != self.pos_embedding.shape[1]:
            raise ValueError(
                f"this Encoder has {self.pos_embedding.shape[1]} places, got {x.shape[1]} tokens"
            )
        return x + self.pos_embedding

    def weights(self, x):
        """(B, N, D) -> list of (B, h, N, N): the attention weights of each block."""
        x, found = self.placed(x), []
        for block in self.layers:
            found.append(block.weights(x))
            x = block(x)
        return found


class VisionTransformer(nn.Module):
    """(B, C, H, W) -> (B, num_classes) logits: patches as tokens, a class token before them, whose last state
    is read [Dosovitskiy et al. 2020, eqs. 1-4]. Attribute names are torchvision's.

    `image_size` is H and W, a pair or one number for both, and `patch` the side of a patch, each in pixels;
    `mlp_width` is 4·width unless given. Raises ValueError for sizes that are not whole or too small, a patch
    that does not divide the image, and a width that heads does not divide.
    """

    def __init__(self, image_size, patch, num_classes, in_channels=3, *, width, depth, heads, mlp_width=None):
        super().__init__()
        mlp_width = 4 * width if mlp_width is None else mlp_width
        height, side = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
        check_counts(
            self,
            height=height,
            width_in_pixels=side,
            patch=patch,
            num_classes=num_classes,
            in_channels=in_channels,
            width=width,
            depth=depth,
            heads=heads,
            mlp_width=mlp_width,
        )
        check_patch((height, side), patch)
        self.image_size, self.grid = (height, side), (height // patch, side // patch)
        self.conv_proj = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = Encoder(self.grid[0] * self.grid[1] + 1, width, depth, heads, mlp_width)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(width, num_classes)))
        nn.init.trunc_normal_(self.conv_proj.weight, std=(in_channels * patch**2) ** -0.5)
        for p in (self.conv_proj.bias, self.heads.head.weight, self.heads.head.bias):
            nn.init.zeros_(p)

    def forward(self, x):
        return self.heads(self.features(x))

    def features(self, x):
        """(B, C, H, W) -> (B, D): what the class token has gathered after the last block."""
        return self.encoder(self.embed(x))[:, 0]

    def embed(self, x):
        """(B, C, H, W) -> (B, N + 1, D): the class token, then one token a patch, row by row; positions not
        yet added.
        """
        check_images(x, "x", "(B, C, H, W)", layer=self.conv_proj)
        if x.shape[2:] != self.image_size:
            wanted, got = ("×".join(map(str, size)) for size in (self.image_size, x.shape[2:]))
            raise ValueError(f"this VisionTransformer is made for images of {wanted} pixels, got {got}")
        patches = rearrange(self.conv_proj(x), "b d h w -> b (h w) d")
        return torch.cat([self.class_token.expand(len(x), -1, -1), patches], dim=1)

    def attention(self, x):
        """(B, C, H, W) -> list of (B, h, N + 1, N + 1): the attention weights of each block, the class token
        first.
        """
        return self.encoder.weights(self.embed(x))


def vit_b_16(num_classes=1000, in_channels=3, image_size=224):
    """-> VisionTransformer of 86.6 M weights; loads the `state_dict` of torchvision's of the same name."""
    return VisionTransformer(
        image_size, 16, num_classes, in_channels, width=768, depth=12, heads=12, mlp_width=3072
    )


def to_patches(x, patch):
    """(B, C, H, W) -> (B, N, C·patch²): the patches row by row, each with its pixels as `nn.Conv2d` weighs
    them.

    Raises ValueError for a patch that does not divide the image.
    """
    check_images(x, "x", "(B, C, H, W)")
    check_patch(x.shape[2:], patch)
    return rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch)


def rollout(weights):
    """list of (B, h, N, N) -> (B, N, N): how much of each token's input stands in each one's output, if every
    block added half of what its heads mix on average to half of what came in [Abnar & Zuidema 2020,
    arXiv:2005.00928, §4].

    Rows sum to 1 where those of the blocks do. Raises TypeError for blocks that are no floating tensors of
    one dtype, and ValueError for an empty list and for blocks whose shapes differ or are not (B, h, N, N).
    """
    weights = list(weights)
    kinds = {getattr(block, "dtype", type(block).__name__) for block in weights}
    if len(kinds) > 1 or not all(
        isinstance(block, torch.Tensor) and block.is_floating_point() for block in weights
    ):
        raise TypeError(
            f"rollout wants floating tensors of one dtype, got {', '.join(sorted(map(str, kinds)))}"
        )
    shapes = [tuple(block.shape) for block in weights]
    if not shapes or any(len(s) != 4 or s[2] != s[3] or 0 in s or s[::2] != shapes[0][::2] for s in shapes):
        raise ValueError(f"rollout wants a list of (B, h, N, N), one for each block, got the shapes {shapes}")
    passed = torch.eye(shapes[0][2], dtype=weights[0].dtype, device=weights[0].device)
    for block in weights:
        passed = (block.mean(1) @ passed + passed) / 2
    return passed


def check_tokens(x, parameter):
    """Raises TypeError or ValueError unless x is (B, N, D), N of at least 1, of the parameter's width and
    kind.
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"attention wants tokens as a torch.Tensor (B, N, D), got {type(x).__name__}")
    if x.ndim != 3 or x.shape[1] < 1 or x.shape[2] != parameter.shape[-1]:
        raise ValueError(
            f"attention wants tokens (B, N, {parameter.shape[-1]}), got the shape {tuple(x.shape)}"
        )
    check_kind(x, "x", parameter)


def check_patch(size, patch):
    """Raises ValueError unless the patch is a whole number of pixels that divides height and width."""
    if isinstance(patch, bool) or not isinstance(patch, Integral) or patch < 1:
        raise ValueError(f"a patch is a whole number of pixels of at least 1, got {patch!r}")
    if any(side % patch for side in size):
        raise ValueError(f"patch {patch!r} does not divide {size[0]}×{size[1]}")
