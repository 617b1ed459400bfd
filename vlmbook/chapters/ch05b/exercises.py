"""Exercises of chapter 5b, attention."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_shape, as_tensor, require_values
from vlmbook.notebook.messages import message

# --- 1 ------------------------------------------------------------------------------------------------------


def judge_attention_shape(answer: Any) -> None:
    fraction = "224/16 patches a side, 768/12 numbers a head"
    batch, heads, queries, keys = as_shape(answer, fraction, "(B, heads, queries, keys)")
    if (batch, heads, queries, keys) == (2, 197, 197, 12):
        raise Wrong("The heads come second: (B, heads, queries, keys).")
    if batch != 2:
        raise Wrong("{batch} images? There are two, and each has attention weights of its own.", batch=batch)
    if keys in (64, 768):
        raise Wrong("{keys} is the width of a key; the weights have one number for each key.", keys=keys)
    if queries == keys == 196:
        raise Wrong("196 patches, and one token more: which is it?")
    if queries == keys == 224:
        raise Wrong("224 is a side in pixels. How many patches of 16×16 are there?")
    if queries == keys == 14:
        raise Wrong("14 patches a side; how many is that in all?")
    if queries != keys:
        raise Wrong("In self-attention every token has a query and a key: as many queries as keys.")
    if queries != 197:
        raise Wrong("{queries} tokens: count the patches of 16×16, and the class token.", queries=queries)
    if heads == 1:
        raise Wrong("Each head has weights of its own; one matrix for all would be their mean.")
    if heads != 12:
        raise Wrong("{heads} heads? In `vit_b_16` there are 12, of width 64.", heads=heads)


# --- 2 ------------------------------------------------------------------------------------------------------


def judge_multiplications(answer: Callable) -> None:
    for n, d, heads in ((1, 4, 2), (5, 4, 2), (7, 12, 3), (7, 12, 4), (197, 768, 12)):
        call = f"multiplications({n}, {d}, {heads})"  # code: nothing to translate
        got = as_number(answer(n, d, heads), call)
        want = multiplications(n, d, heads)
        if got != want:
            case = message("{call} is {got:g}, not {want}.", call=call, got=got, want=want)
            _explain_multiplications(case, got, n, d, heads)


def _explain_multiplications(case, got, n, d, heads):
    """Raises Wrong with the term that was forgotten or counted too often."""
    projections = 4 * n * d * d
    pairs = 2 * n * n * d
    total = projections + pairs
    if got == 3 * n * d * d + pairs:
        raise Wrong("{case} After the heads there is one more matrix, W_O.", case=case)
    if got == projections:
        raise Wrong(
            "{case} These are the projections; the scores and the weighted means are missing.", case=case
        )
    if got == pairs:
        raise Wrong(
            "{case} These are the pairs; queries, keys, values and output are projected as well.", case=case
        )
    if got == projections + pairs // 2:
        raise Wrong(
            "{case} All pairs come in twice: in the scores, and in the weights times the values.", case=case
        )
    if got == projections + heads * pairs:
        raise Wrong("{case} A head is d/heads wide: all heads together cost the pairs once.", case=case)
    if heads > 1 and got == projections // heads + pairs:
        raise Wrong(
            "{case} The projections are of all heads: d numbers from d numbers, four times a token.",
            case=case,
        )
    if got == total + heads * n * n:
        raise Wrong(
            "{case} The division by √d was counted too; products of matrices alone are asked.", case=case
        )
    if got == 2 * total:
        raise Wrong("{case} Additions were counted as well; multiplications alone are asked.", case=case)
    raise Wrong("{case} A product of (a, b) and (b, c) takes a·b·c. Which six of them are there?", case=case)


def multiplications(n, d, heads):
    projections = 4 * n * d * d  # queries, keys, values, output
    pairs = 2 * heads * n * n * (d // heads)  # scores, and weights times values
    return projections + pairs


# --- 3 ------------------------------------------------------------------------------------------------------


def judge_padded(answer: Callable) -> None:
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(3, n, d, generator=generator) for n, d in ((4, 6), (5, 6), (5, 2)))
    there = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 0, 1, 0]]).bool()
    want = padded_attention(q, k, v, there)
    case = "three samples of which two are padded"
    got = as_tensor(_call_padded(answer, q, k, v, there), want, case)
    if torch.allclose(got, want, atol=1e-4):
        _require_absence(answer, q, k, v, there, case)
        return
    _explain_padded(got, q, k, v, there)
    require_values(got, want, case)


def _call_padded(answer, q, k, v, there):
    """-> the output for copies of the arguments. Raises Wrong where the mask does not fit the scores."""
    try:
        return answer(q.clone(), k.clone(), v.clone(), there.clone())
    except RuntimeError as error:
        if _wants_an_axis(answer, q, k, v, there):
            raise Wrong(
                "`there` has the shape (B, M), and the scores have the shape (B, N, M): give `there` an axis "
                "for the queries, there[:, None]."
            ) from None
        raise Wrong(
            "PyTorch stopped: {error} The scores have the shape (B, N, M): check the shape of each step.",
            error=str(error).strip().splitlines()[0].rstrip(".") + ".",
        ) from None


def _wants_an_axis(answer, q, k, v, there):
    """Does the answer run where the mask already has an axis for the queries?"""
    try:
        answer(q.clone(), k.clone(), v.clone(), there[:, None].clone())
    except Exception:  # whatever the answer does then
        return False
    return True


def _require_absence(answer, q, k, v, there, case):
    """Raises Wrong where padded keys have an effect when their scores are large, or all others small."""
    far_k = k + 50 * ~there[:, :, None]
    low_q = q.clone()
    low_q[..., 0] = 30
    low_k = k.clone()
    low_k[..., 0] -= 40
    for large_q, large_k in ((q, far_k), (low_q, low_k)):
        want = padded_attention(large_q, large_k, v, there)
        got = as_tensor(_call_padded(answer, large_q, large_k, v, there), want, case)
        if got.isnan().any():
            raise Wrong(
                "Right in exact numbers. But where padded keys are large, the shares of all real ones round "
                "to 0, and 0/0 is NaN: mask the scores before the softmax."
            )
        if not torch.allclose(got, want, atol=1e-4):
            raise Wrong(
                "What is padded still counts when it is large: set its scores to −inf, not to some number."
            )


def _explain_padded(got, q, k, v, there):
    """Raises Wrong for a mistake that is recognised by its values."""
    same = partial(torch.allclose, got, atol=1e-4)
    mask = there[:, None]
    products = q @ k.mT
    scores = products / q.shape[-1] ** 0.5
    if same(scores.softmax(-1) @ v):
        raise Wrong("You attend to all keys; `there` is without effect.")
    if same(scores.masked_fill(mask, -1e30).softmax(-1) @ v):
        raise Wrong("The padded keys are used, and the real ones left out: the mask is the wrong way round.")
    if same((scores * mask).softmax(-1) @ v):
        raise Wrong("A score of 0 is no absence: exp(0) = 1 is a share like any other. −inf has the share 0.")
    if same((scores.softmax(-1) * mask) @ v):
        raise Wrong(
            "The padded weights are gone, but the others no longer sum to 1: mask before the softmax, not "
            "after it."
        )
    if same(products.masked_fill(~mask, -1e30).softmax(-1) @ v):
        raise Wrong("The root of d is missing.")
    if same(scores.masked_fill(~mask, -1e30).softmax(1) @ v):
        raise Wrong("The softmax runs along the queries; the weights of one query sum to 1 along the keys.")
    if not got.isfinite().all():
        raise Wrong("There are NaN or infinities in the output: is every score of some query −inf?")


def padded_attention(q, k, v, there):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    scores = scores.masked_fill(~there[:, None], float("-inf"))
    return scores.softmax(-1) @ v


# --- 4 ------------------------------------------------------------------------------------------------------


def judge_resized(answer: Callable) -> None:
    generator = torch.Generator().manual_seed(4)
    for old, new in (((4, 3), (2, 5)), ((3, 3), (5, 5)), ((2, 4), (4, 6)), ((2, 2), (2, 2))):
        positions = torch.randn(1, 1 + old[0] * old[1], 3, generator=generator)
        want = resized_positions(positions, old, new)
        case = f"{old} -> {new}"  # sizes: nothing to translate
        got = as_tensor(answer(positions.clone(), old, new), want, case)
        if not torch.allclose(got, want, atol=1e-5):
            _explain_resized(got, want, positions, old, new, case)
            require_values(got, want, case)


def _explain_resized(got, want, positions, old, new, case):
    """Raises Wrong for a mistake that is recognised by its values."""
    same = partial(torch.allclose, got, atol=1e-5)
    patches = positions[:, 1:]
    grid = patches.mT.reshape(1, 3, *old)
    if same(_resample(positions, patches.reshape(1, 3, *old), new)):
        raise Wrong(
            "You put h·w·D numbers into (D, h, w) as they lie; D is the last axis and has to be moved: "
            ".reshape(1, h, w, D).permute(0, 3, 1, 2)."
        )
    if same(_resample(positions, patches.mT.reshape(1, 3, *old[::-1]), new)):
        raise Wrong("Height and width are exchanged: the rows of the grid come first.")
    for mode in ("nearest", "bicubic"):
        if same(_resample(positions, grid, new, mode=mode)):
            raise Wrong("For {case} that is {mode}; bilinear is asked.", case=case, mode=mode)
    if same(_resample(positions, grid, new, align_corners=True)):
        raise Wrong(
            "align_corners=False is asked: a patch has an extent, and the grid ends at its border, not at "
            "its centre."
        )
    if torch.allclose(got[:, 1:], want[:, 1:], atol=1e-5):
        raise Wrong("The patches are right; the class token's position has changed.")
    if torch.allclose(got[:, :-1], want[:, 1:], atol=1e-5):
        raise Wrong("The class token comes first, not last.")


def _resample(positions, grid, new, mode="bilinear", **options):
    grid = F.interpolate(grid, size=new, mode=mode, **options)
    return torch.cat([positions[:, :1], grid.flatten(2).mT], dim=1)


def resized_positions(positions, old, new):
    grid = positions[:, 1:].mT.unflatten(2, old)  # (1, D, h, w)
    grid = F.interpolate(grid, size=new, mode="bilinear", align_corners=False)
    return torch.cat([positions[:, :1], grid.flatten(2).mT], dim=1)


# --- 5 ------------------------------------------------------------------------------------------------------


class _Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is computed inside."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.numel = max([self.numel, *sizes])
        return result


def judge_linear(answer: Callable) -> None:
    generator = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(n, d, generator=generator) for n, d in ((40, 3), (50, 3), (50, 2)))
    want = linear_attention(q, k, v)
    case = "40 queries and 50 keys"
    with _Largest() as largest:
        output = answer(q.clone(), k.clone(), v.clone())
    got = as_tensor(output, want, case)
    if not torch.allclose(got, want, atol=1e-4):
        _explain_linear(got, q, k, v)
        require_values(got, want, case)
    if largest.numel >= 40 * 50 // 4:
        raise Wrong(
            "The values are right, but one tensor has {count} numbers, as in a matrix of 40 times 50. "
            "Multiply φ(k)ᵀ and v first.",
            count=largest.numel,
        )


def _explain_linear(got, q, k, v):
    """Raises Wrong for a mistake that is recognised by its values."""
    same = partial(torch.allclose, got, rtol=1e-4, atol=1e-4)
    a = F.elu(q) + 1
    b = F.elu(k) + 1
    sums = a @ (b.T @ v)
    if same(sums):
        raise Wrong("These are sums, not means: divide each row by the sum of its φ(q)·φ(k).")
    if same(sums / len(k)):
        raise Wrong("You divide by the number of keys; the shares are φ(q)·φ(k) over their sum in each row.")
    if same(_weighted_mean(q, k, v)):
        raise Wrong("φ is missing: products of q and k themselves can be negative, and are no shares.")
    if same(_weighted_mean(F.elu(q), F.elu(k), v)):
        raise Wrong("elu alone reaches −1; φ adds 1, so that all shares are positive.")
    if same((q @ k.T / q.shape[1] ** 0.5).softmax(-1) @ v):
        raise Wrong("That is the softmax; φ takes its place.")
    if same(_weighted_mean(a, k, v)):
        raise Wrong("φ is for the keys as well as for the queries.")


def _weighted_mean(a, b, v):
    return a @ (b.T @ v) / (a @ b.sum(0))[:, None]


def linear_attention(q, k, v):
    q, k = F.elu(q) + 1, F.elu(k) + 1
    return q @ (k.T @ v) / (q @ k.sum(0))[:, None]


EXERCISES = {
    "1": Exercise(
        judge_attention_shape,
        hints=(
            "Every head of every image has one number for each pair of a query and a key.",
            "How many patches of 16×16 are in 224×224, and which token is no patch?",
            "14·14 = 196 patches and the class token; the class has 12 heads.",
        ),
        solution=(2, 12, 197, 197),
        why="196 patches and the class token are queries and keys, in 12 heads. These are 931,416 weights in "
        "one block, more than the 302,592 numbers of its input.",
    ),
    "2": Exercise(
        judge_multiplications,
        hints=(
            "A product of an (a, b) and a (b, c) matrix takes a·b·c multiplications. List the products: four "
            "projections, then two in each head.",
            "Queries, keys, values and output are (n, d) times (d, d). In a head, scores are (n, d/h) times "
            "(d/h, n).",
            "4·n·d·d for the projections; 2·n·n·(d/h) in each of h heads.",
        ),
        solution=multiplications,
        why="4nd² + 2n²d. The number of heads cancels, and the pairs cost as much as the projections at n = "
        "2d: for ViT-B/16 at 1,536 tokens, an image of 627 pixels a side.",
    ),
    "3": Exercise(
        judge_padded,
        hints=(
            "Which score has exactly the share 0 after a softmax?",
            "Set the scores of padded keys to −inf before the softmax; `masked_fill` does it.",
            'scores.masked_fill(~there[:, None], float("-inf")): the mask is the same for all queries of a '
            "sample.",
        ),
        solution=padded_attention,
        why="exp(−inf) = 0, and the softmax gives the remaining keys weights that sum to 1. PyTorch's kernel "
        "takes the same mask as attn_mask=there[:, None].",
    ),
    "4": Exercise(
        judge_resized,
        hints=(
            "Take the class token's position off first; the others lie on a grid.",
            "F.interpolate wants (1, D, h, w): the axis D to the front, then the tokens unfolded to h rows "
            "of w.",
            "grid = positions[:, 1:].mT.unflatten(2, old); after F.interpolate go back with .flatten(2).mT.",
        ),
        solution=resized_positions,
        why="Neighbours have similar positions after training, so values between them can be interpolated; "
        "this is how a ViT is fine-tuned at a higher resolution [Dosovitskiy et al. 2020, §3.2].",
    ),
    "5": Exercise(
        judge_linear,
        hints=(
            "Write it with a matrix of weights first. Where is the product of three matrices?",
            "(φ(q) φ(k)ᵀ) v = φ(q) (φ(k)ᵀ v), and the bracket on the right is only (d, e).",
            "The sums of the rows are φ(q) @ φ(k).sum(0); divide each row of the answer by its own.",
        ),
        solution=linear_attention,
        why="It costs (N + M)·d·e instead of N·M·(d + e). No such bracket can be moved through a softmax, "
        "and the weights are softer: it is another attention, not a faster way to the same.",
    ),
}
