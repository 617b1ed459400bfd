"""Exercises of chapter 5b, attention."""

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_shape, as_tensor, require_values


def judge_weights_shape(answer):
    got = as_shape(answer, "224/16 patches a side, 768/12 numbers a head", "(B, heads, queries, keys)")
    batch, heads, queries, keys = got
    if got == (2, 197, 197, 12):
        raise Wrong("The heads come second: (B, heads, queries, keys).")
    if batch != 2:
        raise Wrong(f"{batch} images? There are two, and each has weights of its own.")
    if keys in (64, 768):
        raise Wrong(f"{keys} is the width of a key; the weights have one number for each key.")
    if queries == keys == 196:
        raise Wrong("196 patches, and one token more: which is it?")
    if queries == keys == 224:
        raise Wrong("224 is a side in pixels. How many patches of 16×16 are there?")
    if queries == keys == 14:
        raise Wrong("14 patches a side; how many is that in all?")
    if queries != keys:
        raise Wrong("In self-attention every token asks, and every token answers: as many queries as keys.")
    if queries != 197:
        raise Wrong(f"{queries} tokens: count the patches of 16×16, and the class token.")
    if heads == 1:
        raise Wrong("Each head has weights of its own; one matrix for all would be their mean.")
    if heads != 12:
        raise Wrong(f"{heads} heads? In `vit_b_16` there are 12, of width 64.")


def judge_multiplications(answer):
    for n, d, heads in ((1, 4, 2), (5, 4, 2), (7, 12, 3), (7, 12, 4), (197, 768, 12)):
        call = f"multiplications({n}, {d}, {heads})"
        got, want = as_number(answer(n, d, heads), call), multiplications(n, d, heads)
        if got == want:
            continue
        case = f"{call} is {got:g}, not {want}."
        projections, pairs = 4 * n * d * d, 2 * n * n * d
        if got == 3 * n * d * d + pairs:
            raise Wrong(f"{case} After the heads there is one more matrix, W_O.")
        if got == projections:
            raise Wrong(f"{case} These are the projections; the scores and the weighted means are missing.")
        if got == pairs:
            raise Wrong(
                f"{case} These are the pairs; queries, keys, values and output are projected as well."
            )
        if got == projections + pairs // 2:
            raise Wrong(
                f"{case} All pairs come in twice: in the scores, and in the weights times the values."
            )
        if got == projections + heads * pairs:
            raise Wrong(f"{case} A head is d/heads wide: {heads} heads together cost the pairs once.")
        if heads > 1 and got == projections // heads + pairs:
            raise Wrong(
                f"{case} The projections make all heads: d numbers from d numbers, four times a token."
            )
        if got == want + heads * n * n:
            raise Wrong(f"{case} You counted the division by √d too; products of matrices alone are asked.")
        if got == 2 * want:
            raise Wrong(f"{case} You count additions as well; multiplications alone are asked.")
        raise Wrong(f"{case} A product of (a, b) and (b, c) takes a·b·c. Which six of them are there?")


def multiplications(n, d, heads):
    projections = 4 * n * d * d  # queries, keys, values, output
    pairs = 2 * heads * n * n * (d // heads)  # scores, and weights times values
    return projections + pairs


def judge_padded(answer):
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(3, n, d, generator=generator) for n, d in ((4, 6), (5, 6), (5, 2)))
    there = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 0, 1, 0]]).bool()
    want, case = padded_attention(q, k, v, there), "three samples of which two are padded"
    got = as_tensor(answer(q.clone(), k.clone(), v.clone(), there.clone()), want, case)
    if torch.allclose(got, want, atol=1e-5):
        far = as_tensor(answer(q, k + 50 * ~there[:, :, None], v, there), want, case)
        if not far.isfinite().all():
            raise Wrong(
                "Right in exact numbers. But where padded keys are large, the shares of all real ones round to "
                "0, and 0/0 is NaN: mask the scores before the softmax."
            )
        low_q, low_k = q.clone(), k.clone()
        low_q[..., 0], low_k[..., 0] = 30, low_k[..., 0] - 40
        low = as_tensor(answer(low_q.clone(), low_k.clone(), v, there), want, case)
        near = torch.allclose(low, padded_attention(low_q, low_k, v, there), atol=1e-4)
        if torch.allclose(far, want, atol=1e-4) and near:
            return
        raise Wrong(
            "What is padded still counts when it is large: set its scores to −inf, not to some number."
        )
    scores, there = q @ k.mT / 6**0.5, there[:, None]
    slips = {
        "You attend to all keys; `there` is without effect.": scores.softmax(-1) @ v,
        "The padded keys are taken, and the real ones left out: the mask is the wrong way round.": scores.masked_fill(
            there, -1e30
        ).softmax(-1)
        @ v,
        "A score of 0 is no absence: exp(0) = 1 is a share like any other. −inf has the share 0.": (
            scores * there
        ).softmax(-1)
        @ v,
        "The padded weights are gone, but the others no longer sum to 1: mask before the softmax, not after it.": (
            scores.softmax(-1) * there
        )
        @ v,
        "The root of d is missing.": (q @ k.mT).masked_fill(~there, -1e30).softmax(-1) @ v,
        "The softmax runs along the queries; it is the keys of each query that share one whole.": scores.masked_fill(
            ~there, -1e30
        ).softmax(1)
        @ v,
    }
    for message, slip in slips.items():
        if torch.allclose(got, slip, atol=1e-4):
            raise Wrong(message)
    if not got.isfinite().all():
        raise Wrong("There are NaN or infinities in the output: is every score of some query −inf?")
    require_values(got, want, case)


def padded_attention(q, k, v, there):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    scores = scores.masked_fill(~there[:, None], float("-inf"))
    return scores.softmax(-1) @ v


def judge_resized(answer):
    generator = torch.Generator().manual_seed(4)
    for old, new in (((4, 3), (2, 5)), ((3, 3), (5, 5)), ((2, 4), (4, 6)), ((2, 2), (2, 2))):
        positions = torch.randn(1, 1 + old[0] * old[1], 3, generator=generator)
        want, case = resized_positions(positions, old, new), f"{old} -> {new}"
        got = as_tensor(answer(positions.clone(), old, new), want, case)
        if torch.allclose(got, want, atol=1e-5):
            continue
        grid = positions[:, 1:].mT.reshape(1, 3, *old)
        slips = {
            "You put h·w·D numbers into (D, h, w) as they lie; D is the last axis and has to be moved: "
            ".reshape(1, h, w, D).permute(0, 3, 1, 2).": positions[:, 1:].reshape(1, 3, *old),
            "Height and width are exchanged: the rows of the grid come first.": positions[:, 1:].mT.reshape(
                1, 3, *old[::-1]
            ),
        }
        for message, wrong in slips.items():
            if torch.allclose(got, _joined(positions, wrong, new), atol=1e-5):
                raise Wrong(message)
        for mode in ("nearest", "bicubic"):
            if torch.allclose(got, _joined(positions, grid, new, mode=mode), atol=1e-5):
                raise Wrong(f"For {case} that is {mode}; bilinear is asked.")
        if torch.allclose(got, _joined(positions, grid, new, align_corners=True), atol=1e-5):
            raise Wrong(
                "align_corners=False is asked: patches have an extent, and corners no place of their own."
            )
        if torch.allclose(got[:, 1:], want[:, 1:], atol=1e-5):
            raise Wrong("The patches are right; the class token's position has changed.")
        if torch.allclose(got[:, :-1], want[:, 1:], atol=1e-5):
            raise Wrong("The class token comes first, not last.")
        require_values(got, want, case)


def _joined(positions, grid, new, mode="bilinear", **how):
    grid = F.interpolate(grid, size=new, mode=mode, **how)
    return torch.cat([positions[:, :1], grid.flatten(2).mT], dim=1)


def resized_positions(positions, old, new):
    grid = positions[:, 1:].mT.unflatten(2, old)  # (1, D, h, w)
    grid = F.interpolate(grid, size=new, mode="bilinear", align_corners=False)
    return torch.cat([positions[:, :1], grid.flatten(2).mT], dim=1)


class _Largest(TorchDispatchMode):
    """The largest tensor made inside, in numbers."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **kwargs or {})
        self.numel = max(self.numel, made.numel() if isinstance(made, torch.Tensor) else 0)
        return made


def judge_linear(answer):
    generator = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(n, d, generator=generator) for n, d in ((40, 3), (50, 3), (50, 2)))
    want, case = linear_attention(q, k, v), "40 queries and 50 keys"
    with _Largest() as largest:
        got = answer(q.clone(), k.clone(), v.clone())
    got = as_tensor(got, want, case)
    a, b = F.elu(q) + 1, F.elu(k) + 1
    if torch.allclose(got, want, atol=1e-4):
        if largest.numel >= 40 * 50 // 4:
            raise Wrong(
                f"The values are right, but a tensor of {largest.numel} numbers is made, 40 times 50. "
                "Multiply φ(k)ᵀ and v first."
            )
        return
    slips = {
        "These are sums, not means: divide each row by the sum of its φ(q)·φ(k).": a @ (b.T @ v),
        "You divide by the number of keys; the shares are φ(q)·φ(k) over their sum in each row.": a
        @ (b.T @ v)
        / 50,
        "φ is missing: products of q and k themselves can be negative, and are no shares.": (q @ (k.T @ v))
        / (q @ k.sum(0))[:, None],
        "elu alone reaches −1; φ adds 1, so that all shares are positive.": (F.elu(q) @ (F.elu(k).T @ v))
        / (F.elu(q) @ F.elu(k).sum(0))[:, None],
        "That is the softmax; φ takes its place.": (q @ k.T / 3**0.5).softmax(-1) @ v,
        "φ is for the keys as well as for the queries.": (a @ (k.T @ v)) / (a @ k.sum(0))[:, None],
    }
    for message, slip in slips.items():
        if torch.allclose(got, slip, rtol=1e-4, atol=1e-4):
            raise Wrong(message)
    require_values(got, want, case)


def linear_attention(q, k, v):
    q, k = F.elu(q) + 1, F.elu(k) + 1
    return q @ (k.T @ v) / (q @ k.sum(0))[:, None]


EXERCISES = {
    "1": Exercise(
        judge_weights_shape,
        hints=(
            "Every head of every image has one number for each pair of a query and a key.",
            "How many patches of 16×16 are in 224×224, and which token is no patch?",
            "14·14 = 196 patches and the class token; the class has 12 heads.",
        ),
        solution=(2, 12, 197, 197),
        why="196 patches and the class token ask and answer, in 12 heads. These are 931,416 weights in one block, more "
        "than the 302,592 numbers of its input.",
    ),
    "2": Exercise(
        judge_multiplications,
        hints=(
            "A product of an (a, b) and a (b, c) matrix takes a·b·c multiplications. List the products: four "
            "projections, then two in each head.",
            "Queries, keys, values and output are (n, d) times (d, d). In a head, scores are (n, d/h) times (d/h, n).",
            "4·n·d·d for the projections; 2·n·n·(d/h) in each of h heads.",
        ),
        solution=multiplications,
        why="4nd² + 2n²d. The number of heads falls out, and the pairs cost as much as the projections at n = 2d: for "
        "ViT-B/16 at 1,536 tokens, an image of 627 pixels a side.",
    ),
    "3": Exercise(
        judge_padded,
        hints=(
            "Which score has exactly the share 0 after a softmax?",
            "Set the scores of what is not there to −inf before the softmax; `masked_fill` does it.",
            'scores.masked_fill(~there[:, None], float("-inf")): the mask is the same for all queries of a sample.',
        ),
        solution=padded_attention,
        why="exp(−inf) = 0, and the softmax shares out one whole among the keys that are left. PyTorch's kernel takes "
        "the same mask as attn_mask=there[:, None].",
    ),
    "4": Exercise(
        judge_resized,
        hints=(
            "Take the class token's position off first; the others lie on a grid.",
            "F.interpolate wants (1, D, h, w): the axis D to the front, then the tokens unfolded to h rows of w.",
            "grid = positions[:, 1:].mT.unflatten(2, old); after F.interpolate go back with .flatten(2).mT.",
        ),
        solution=resized_positions,
        why="Neighbours have similar positions after training, so what lies between them can be interpolated; this is "
        "how a ViT is fine-tuned at a higher resolution [Dosovitskiy et al. 2020, §3.2].",
    ),
    "5": Exercise(
        judge_linear,
        hints=(
            "Write it with a matrix of weights first. Where is the product of three matrices?",
            "(φ(q) φ(k)ᵀ) v = φ(q) (φ(k)ᵀ v), and the bracket on the right is only (d, e).",
            "The sums of the rows are φ(q) @ φ(k).sum(0); divide each row of the answer by its own.",
        ),
        solution=linear_attention,
        why="It costs (N + M)·d·e instead of N·M·(d + e). No such bracket can be moved through a softmax, and the "
        "weights are softer: it is another attention, not a faster way to the same.",
    ),
}
