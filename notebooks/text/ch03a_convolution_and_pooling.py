# %% [markdown]
# # 3a · Convolution and pooling (卷积与池化)
#
# *Book: §2.2.1 (1), 卷积神经网络（CNN）*
#
# **What can nine numbers see in a photograph, and how does a network find the right nine by itself?**
#
# You will be able to predict the size of every output of a convolution or a pooling, write convolution, pooling and the transposed
# convolution from their formulas, tell which of the book's formulas hold, and train a small network on real handwritten
# digits that still reads them after they have moved by a pixel.
#
# Run the cells from top to bottom. The first one prints what a whole run costs, and draws what four grids of nine numbers see in
# one photograph of a cat: grey where the result is an image again, red above zero and blue below where it is a difference.

# %% tags=["record"]
from itertools import product

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import data, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch03a import experiments, figures as drawings

runtime.seed_everything(0)
plot.use_style()
records.published("ch03a")

drawings.draw_examples(plt.figure(figsize=(7, 3.1)))
records.picture("ch03a", plt.gcf());

# %% [markdown]
# ## 1 The data, looked at
#
# An image is a tensor (张量) of numbers. How many axes does it have, and in which order?
#
# A photograph here is `(3, H, W)`: three channels (通道) red, green and blue, then rows, then columns, each number between 0 and 1.
# A batch (批) of images puts one axis in front: `(B, C, H, W)`. The digits are 1,797 real scans of handwriting, reduced to 8×8 pixels,
# with one grey channel.

# %%
(images, labels), (test_images, test_labels) = data.digits("train"), data.digits("test")
for name, x in {"coffee": data.photo("coffee"), "digits": images, "held out": test_images}.items():
    print(f"{name:>10} {tuple(x.shape)}, values from {x.min():.2f} to {x.max():.2f}")
assert len(images) + len(test_images) == 1797
plot.gallery([data.photo(name) for name in ("coffee", "astronaut", "coins")])
plot.gallery(images[:10], [f"a {label}" for label in labels[:10]]);

# %% [markdown]
# ## 2 What a kernel does
#
# Before any formula: play. The grid is called a kernel (卷积核). Every output pixel is the sum of the 3×3 pixels around it, each
# multiplied by the number above it in the grid. The kernel that stands there first is Sobel's (Sobel 算子).
#
# Look at the left and the right border of each coin: why is one red and one blue? Then choose *identity*. Which number would you change
# to make the image darker? Which two, to move it by one pixel?

# %%
editor = interact.MatrixEditor(experiments.KERNELS, description="kernel")
interact.live(drawings.draw_kernel, photo=data.photo_names(), kernel=editor, flip=False,
              figsize=(7, 2.8))


# %% [markdown]
# An edge kernel subtracts what lies left from what lies right. Where the photograph gets brighter from left to right the result
# is positive, red; on the other border it gets darker, blue; on a flat area the pixels cancel. The thin line at the border of the
# picture is no edge of the photograph: outside it there are zeros, and the kernel sees the step.
#
# Darker: the middle number, say 0.5. Moved: 0 in the middle and 1 beside it. The output then takes each pixel from its neighbour.

# %% [markdown]
# ## 3 The idea, written here
#
# Take a 4×4 image and a 3×3 kernel that stays inside. In how many positions can it stand? What is the size of the output?
#
# The kernel $w$ with $K$ rows and columns stands with its corner on pixel $(i, j)$ (now counted from the corner, no longer from the
# middle; only the numbering changes), and the output there is
#
# $$y_{i,j}=\sum_{m=0}^{K-1}\sum_{n=0}^{K-1} w_{m,n}\;x_{i+m,\;j+n}$$
#
# The corner can stand in rows $0,\dots,H-K$, so the output has $H-K+1$ rows: here 2.

# %%
def convolve(x, w):                                    # (H, W), (K, K) -> (H - K + 1, W - K + 1)
    K = len(w)
    y = torch.zeros(x.shape[0] - K + 1, x.shape[1] - K + 1)
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            for m in range(K):
                for n in range(K):
                    y[i, j] += w[m, n] * x[i + m, j + n]
    return y


x, w = torch.arange(16.0).view(4, 4), torch.tensor(experiments.KERNELS["vertical edges"]).float()
_, axes = plt.subplots(1, 3, figsize=(7, 2.4))
for panel, matrix, title in zip(axes, (x, w, convolve(x, w)), ("x, 4×4", "w, 3×3", "y, 2×2")):
    plot.numbers(panel, matrix, title)
assert_close(convolve(x, w), F.conv2d(x[None, None], w[None, None])[0, 0])

# %% [markdown]
# Each row of `x` grows by 1 from pixel to pixel, so the edge kernel finds the same slope everywhere: $(1+2+1)\cdot 2 = 8$.
#
# A layer has more to say. It has $C$ input channels and $O$ output channels, a bias $b_o$ for each, a stride (步幅) $s$: how far the
# window jumps; a padding (填充) $p$: rings of zeros around the image; and a dilation (膨胀) $d$: the distance between neighbouring pixels
# that the window touches, 1 where there is no gap. All of it is one formula, with $x = 0$ outside the image:
#
# $$y_{o,i,j}=b_o+\sum_{c=0}^{C-1}\sum_{m=0}^{K_h-1}\sum_{n=0}^{K_w-1} w_{o,c,m,n}\;x_{c,\;s i+d m-p,\;s j+d n-p}$$
#
# With groups (分组) the channels fall into parts that do not see each other, and $s$, $p$, $d$ may differ for rows and columns.
# `conv2d_loops` in the package is this formula in nested loops, `conv2d` its fast twin. Do both agree with PyTorch, and do their
# gradients?

# %%
from vlmbook.convolution import avg_pool2d, avg_pool2d_loops, conv2d, conv2d_loops, conv_matrix
from vlmbook.convolution import conv_transpose2d, max_pool2d, output_size, receptive_field

x = torch.randn(2, 4, 7, 9, dtype=torch.float64, requires_grad=True)
w = torch.randn(6, 2, 3, 3, dtype=torch.float64, requires_grad=True)
b = torch.randn(6, dtype=torch.float64, requires_grad=True)
options = dict(stride=(2, 1), padding=1, dilation=(1, 2), groups=2)
peer = F.conv2d(x, w, b, **options)
gradients = torch.autograd.grad(peer.square().sum(), (x, w, b))
for ours in (conv2d(x, w, b, **options), conv2d_loops(x, w, b, **options)):
    assert_close(ours, peer)
    assert_close(torch.autograd.grad(ours.square().sum(), (x, w, b)), gradients)
print(f"x {tuple(x.shape)}, w {tuple(w.shape)} -> y {tuple(peer.shape)}")


# %% [markdown]
# ### How large is the output?
#
# Where did $4\times 7$ come from? Derive it for one axis. With padding the image is $n+2p$ long. A window whose $k$ pixels are $d$ apart
# spans $d(k-1)+1$. Its first pixel can stand at $0, s, 2s, \dots$ as long as the last one stays inside:
#
# $$n_\text{out}=\Big\lfloor\frac{n+2p-d(k-1)-1}{s}\Big\rfloor+1$$
#
# The book gives no such formula. Its PyTorch example in Appendix A expects 32·7·7 numbers after a 3×3 convolution and a 2×2 pooling of
# 28×28 pixels, and crashes: how many come? The cell holds the formula against PyTorch for every combination on a grid [Dumoulin & Visin 2016],
# then draws it. Two things to find with the sliders: the smallest stride at which no window reaches the right column of the padded
# input, and the dilation at which a 3×3 kernel spans as much as a 7×7 one. (With the other sliders as they stand: stride 4, dilation 3.)

# %%
def real_size(n, k, s, p, d):
    x, w = torch.zeros(1, 1, n, n), torch.zeros(1, 1, k, k)
    return F.conv2d(x, w, stride=s, padding=p, dilation=d).shape[-1]


ranges = (range(1, 14), range(1, 6), range(1, 5), range(4), range(1, 4))
fitting = [(n, k, s, p, d) for n, k, s, p, d in product(*ranges) if d * (k - 1) < n + 2 * p]
right = [output_size(n, k, stride=s, padding=p, dilation=d) == real_size(n, k, s, p, d)
         for n, k, s, p, d in fitting]
book = output_size(output_size(28, 3), 2, stride=2)
print(f"{sum(right):,} of {len(fitting):,} predicted; Appendix A gets 32·{book}·{book} numbers")
assert all(right) and book == 13
interact.live(drawings.draw_window, n=(1, 16), kernel=(1, 7), stride=(1, 5), padding=(0, 4),
              dilation=(1, 4), window=(0, 99), figsize=(7, 3.5))


# %% [markdown]
# ### Fast, without magic
#
# Nested loops in Python take seconds for a photograph. What is the least change that makes it fast?
#
# Textbooks answer with *im2col*: copy each window into a column of a large matrix, then one matrix product does everything. A 3×3 kernel
# makes nine copies of the image. The package turns the loops around instead: nine times, take the whole image shifted by $(m,n)$, multiply
# its channels by the matrix $w_{:,:,m,n}$, and add.

# %%
def shifted_products(x, w):                  # (B, C, H, W), (O, C, K, K) -> (B, O, Ho, Wo)
    K = w.shape[-1]
    Ho, Wo = x.shape[2] - K + 1, x.shape[3] - K + 1
    return sum(torch.einsum("oc, bcij -> boij", w[..., m, n], x[..., m : m + Ho, n : n + Wo])
               for m, n in product(range(K), repeat=2))


x, w = torch.randn(8, 64, 56, 56), torch.randn(64, 64, 3, 3)
columns = F.unfold(x, 3)                     # im2col: (B, C·K·K, Ho·Wo)
for y in (shifted_products(x, w), (w.flatten(1) @ columns).view(8, 64, 54, 54), conv2d(x, w)):
    assert_close(y, F.conv2d(x, w), rtol=1e-3, atol=1e-3)
print(f"image {x.nbytes / 1e6:.0f} MB, im2col matrix {columns.nbytes / 1e6:.0f} MB")
assert columns.nbytes > 8 * x.nbytes

# %% [markdown]
# `benchmarks/convolution.py` times these against PyTorch, whose library for most Intel and AMD processors, oneDNN, still wins. All three
# do the same multiplications; what differs is the traffic through memory. im2col writes nine images and reads them again. Ours copies
# one shifted image at a time, which stays nearer to the processor, but goes over the whole output nine times. oneDNN adds all nine
# shifts of a block of channels in the processor's registers before it stores anything.
#
# ### Move the image, and the output moves along
#
# A kernel has no place: it does the same everywhere. So if the photograph shifts, the output should shift too. This is called shift
# equivariance (平移等变性). Is it exact? Is it still true with stride 2?

# %%
camera = experiments.grey_photo("camera")
sobel = torch.tensor([[experiments.KERNELS["vertical edges"]]]).float()


def shift_error(shift, stride):              # "shift, then filter" against "filter, then shift"
    early, late = (conv2d(x, sobel, stride=stride) for x in (camera.roll(shift, -1), camera))
    return min((early - late.roll(r, -1))[..., 8:-8].abs().max().item() for r in range(3))


errors = {(shift, stride): shift_error(shift, stride) for shift in (1, 2) for stride in (1, 2)}
for (shift, stride), error in errors.items():
    print(f"shift {shift}, stride {stride}: largest difference {error:.1e}")
assert max(errors[1, 1], errors[2, 1], errors[2, 2]) < 1e-5 < 0.1 < errors[1, 2]

# %% [markdown]
# With stride 1 it is exact (away from the border, which the cell leaves out). With stride 2 it holds for even shifts only: after an odd
# shift the windows stand on pixels that they skipped before, and no shift of the output fits. A network with strides is equivariant
# only in steps of its total stride.
#
# ## 4 Pooling
#
# Pooling (池化) makes an image smaller with no weights at all. Max pooling (最大池化) keeps the largest pixel of each window, average
# pooling (平均池化) the mean, each channel for itself, and the windows usually touch without overlapping ($s=k$):
#
# $$y_{c,i,j}=\max_{0\le m,n<k} x_{c,\;si+m,\;sj+n}\qquad\qquad y_{c,i,j}=\frac{1}{k\cdot k}\sum_{m=0}^{k-1}\sum_{n=0}^{k-1} x_{c,\;si+m,\;sj+n}$$
#
# What are the four maxima of the numbers 0 to 15 in a 4×4 square? Which pixels get a gradient (梯度), that is, which of them would change
# the result?

# %%
x = torch.arange(16.0).view(1, 1, 4, 4).requires_grad_()
largest, mean = max_pool2d(x, 2), avg_pool2d_loops(x, 2)
gradient, = torch.autograd.grad(largest.sum(), x)
assert_close([largest, mean], [F.max_pool2d(x, 2), F.avg_pool2d(x, 2)])
plot.gallery([x[0], largest[0], mean[0], gradient[0]],
             ["x", "max pooling", "average pooling", "gradient of max"], draw=plot.numbers);


# %% [markdown]
# Only the winner of each window gets one; the others could move a little, and nothing would happen.
#
# Pooling is said to make a network invariant (不变) to small shifts: move the image by a pixel, and the output stays. Does it? The cell
# measures which share of the output changes by less than 0.05. Then slide the shift yourself and watch where it changes.

# %%
def unchanged(pool, shift):                  # share of the output that a shift leaves alone
    wide = experiments.grey_photo("camera", 176)
    x, moved = wide[..., 16:], wide[..., 16 - shift : 176 - shift]
    return ((pool(x) - pool(moved)).abs() < 0.05).float().mean().item()


pools = {"no pooling": lambda x: x, "every 8th": lambda x: x[..., ::8, ::8],
         "max 2×2": lambda x: max_pool2d(x, 2), "max 8×8": lambda x: max_pool2d(x, 8)}
table = {name: [unchanged(pool, shift) for shift in (1, 2, 4)] for name, pool in pools.items()}
for name, shares in table.items():
    print(f"{name:>10}, unchanged after 1, 2, 4 pixels:", *(f"{share:.0%}" for share in shares))
assert all(a >= b for shares in table.values() for a, b in zip(shares, shares[1:]))
assert table["no pooling"][0] < table["max 2×2"][0] < table["max 8×8"][0] < 1
assert table["max 8×8"][0] > table["every 8th"][0] + 0.03
interact.live(drawings.draw_pooling, photo=data.photo_names(), kind=["max", "average"],
              window=(1, 8), shift=(0, 8), figsize=(7, 2.6))

# %% [markdown]
# Pooling is partly invariant. On flat areas nothing changes; at edges it does, because a pixel crosses from one window into the next.
# Merely dropping pixels, the control *every 8th*, brings less.
#
# After a shift of one pixel, more stays in a larger window; and the larger the shift, the less stays. It never reaches 100 %.
#
# ## 5 How far does a pixel see?
#
# A pixel after one 3×3 convolution depends on 3×3 input pixels. And after three of them? After three of stride 2? The part of
# the input that an output pixel depends on is its receptive field (感受野). Layer $l$ reaches $(k_l-1)d_l$ steps further, and one of its
# steps is $\prod_{i<l}s_i$ input pixels wide [Araujo et al. 2019]:
#
# $$r=1+\sum_{l}(k_l-1)\,d_l\prod_{i<l}s_i$$
#
# There is a way to see it without the formula: send a gradient back from one output pixel and look where it arrives. With all weights 1
# its size counts the paths: the brighter, the more paths.

# %%
stacks = {"3 layers 3×3": [(3, 1, 1)] * 3, "stride 2": [(3, 2, 1)] * 3,  # kernel, stride, dilation
          "dilation 1, 2, 4": [(3, 1, 1), (3, 1, 2), (3, 1, 4)]}
paths, (_, axes) = {}, plt.subplots(1, 3, figsize=(7, 2.7))
for panel, (name, layers) in zip(axes, stacks.items()):
    x = y = torch.zeros(1, 1, 31, 31, requires_grad=True)
    for k, s, d in layers:
        y = F.conv2d(y, torch.ones(1, 1, k, k), stride=s, dilation=d)
    middle = y.shape[-1] // 2
    reached, = torch.autograd.grad(y[0, 0, middle, middle], x)
    paths[name] = reached[0, 0, 15].unique_consecutive()[1:-1]              # along the middle row
    width = int((reached[0, 0] > 0).any(0).sum())
    assert width == receptive_field(layers)
    plot.image(panel, reached[0].pow(0.4) / reached.max().pow(0.4), f"{name}: sees {width}×{width}")
assert paths["3 layers 3×3"].argmax() == 3 and reached[0, 0, 15, 15] == reached.unique()[1]

# %% [markdown]
# All three stacks have 27 weights; stride and dilation make the same weights see more. In the first picture the middle counts most: more
# paths lead there. In the other two it is a pattern, and the very middle counts as little as the corner.
#
# ## 6 The way back up: transposed convolution
#
# Convolution is linear, so on a flattened image it is a matrix $A$. Here 8×8 becomes 6×6, so $A$ has 36 rows and 64 columns:
#
# $$\mathrm{vec}(y)=A\,\mathrm{vec}(x)$$
#
# What does the transposed matrix do? It leads back from the small size to the large one, and is called transposed convolution
# (转置卷积). Written without a matrix, each pixel of $u$ stamps the kernel into the output, and where stamps overlap they add up:
#
# $$\mathrm{vec}(z)=A^{\top}\mathrm{vec}(u)\qquad\Longleftrightarrow\qquad z_{o,\;si+dm-p,\;sj+dn-p}\mathrel{+}=\sum_c u_{c,i,j}\,w_{c,o,m,n}$$
#
# The weights are the same; what was output is input now, so the two channel axes have changed places.

# %%
x, u, w = (torch.randn(1, 1, n, n, dtype=torch.float64) for n in (8, 6, 3))
A = conv_matrix(w, 8)
assert_close((A @ x.flatten()).view(1, 1, 6, 6), conv2d(x, w))
assert_close((A.T @ u.flatten()).view(1, 1, 8, 8), conv_transpose2d(u, w))
assert_close(conv_transpose2d(u, w), F.conv_transpose2d(u, w))
plot.gallery([A, A.T], [f"A {tuple(A.shape)}", "its transpose"], draw=plot.signed);


# %% [markdown]
# Every row of $A$ is one window and holds the same nine weights: that is weight sharing (权值共享), as a picture.
#
# Is the transposed convolution the inverse, as its old name *deconvolution* (反卷积) and the book say? Look at the shape of $A$: it has
# 36 rows, so 28 of the 64 directions of the input are gone, and no matrix brings them back. W10 below measures it.
#
# When do the stamps cover every pixel equally often? If they do not, the output carries a checkerboard (棋盘效应) even where the input is
# flat. Find the kernel sizes without a pattern for strides 2 and 3; the cell tests your rule, if it is the right one.

# %%
def uneven(kernel, stride):                  # do some inner pixels get more stamps than others?
    stamps = conv_transpose2d(torch.ones(1, 1, 10, 1), torch.ones(1, 1, kernel, 1), stride=stride)
    return len(stamps[0, 0, kernel - 1 : -kernel, 0].unique()) > 1


assert all(uneven(k, s) == (k % s > 0) for k, s in product(range(1, 9), range(1, 5)))
interact.live(drawings.draw_checkerboard, photo=data.photo_names(), kernel=(1, 8), stride=(1, 4),
              figsize=(7, 2.7))

# %% [markdown]
# The stride has to divide the kernel. Then the number of stamps is even; learned weights inside a stamp can still make a pattern. Enlarging
# the image first and convolving after avoids the stamps altogether [Odena et al. 2016].
#
# ## 7 Book check
#
# §2.2.1 prints four formulas that belong here, and §2.2 a diagram. Each cell below takes one entry of the errata, shows the printed claim
# failing, and the right one holding.
#
# **W01 · convolution.** Printed: $\text{output}_{ij}=\sum_k \text{filter}_{ikj}\cdot\text{input}_{ikj}$. The filter carries the output's position
# $i,j$, so it has as many weights as the image, and nothing slides. If it were a convolution, shifting its input would shift its output.

# %%
filters, x = torch.randn(12, 3, 12), torch.randn(12, 3, 12)                 # axes i, k, j
as_printed = lambda x: torch.einsum("ikj,ikj->ij", filters, x)
convolved = lambda x: conv2d(x.movedim(1, 0)[None], filters[:3, :, :3].movedim(1, 0)[None])[0, 0]
drift = [(f(x.roll(1, 0)) - f(x).roll(1, 0))[2:-2].abs().max() for f in (as_printed, convolved)]
print(f"moved by a pixel: printed formula off by {drift[0]:.2f}, convolution by {drift[1]:.1e}")
assert drift[0] > 0.5 and drift[1] < 1e-5

# %% [markdown]
# **I02 · its indices.** The text explains $\text{filter}_{ikj}$ as the filter "at position $(i,k)$" (在位置$(i, k)$的值): $j$ is never named. A test that
# any formula can take: which indices does the kernel share with the output? In a convolution it is the output channel alone. Both
# formulas are run below as they are written, the right one on windows $x_{b,c,m,n,i,j}$.

# %%
printed, right = "ikj,ikj->ij", "ocmn,bcmnij->boij"
torch.einsum(printed, torch.randn(12, 3, 12), torch.randn(12, 3, 12))
torch.einsum(right, torch.randn(4, 3, 3, 3), torch.randn(1, 3, 3, 3, 10, 10))
tied = ["".join(sorted(set(f.split(",")[0]) & set(f.split("->")[1]))) for f in (printed, right)]
print(f"indices that the kernel shares with the output: printed {tied[0]}, right {tied[1]}")
assert tied == ["ij", "o"]

# %% [markdown]
# **I01 · convolution or correlation.** Mathematics calls the sum with $x_{i-m,\,j-n}$ convolution (卷积) and the one with $x_{i+m,\,j+n}$
# cross-correlation (互相关). Deep learning computes the second and says the first. Which does PyTorch compute?

# %%
from scipy import signal

x, w = torch.randn(9, 8, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
pytorch = F.conv2d(x[None, None], w[None, None])[0, 0].numpy()
assert_close(pytorch, signal.correlate2d(x, w, mode="valid"))
assert_close(pytorch, signal.convolve2d(x, w.flip(0, 1), mode="valid"))
gap = abs(pytorch - signal.convolve2d(x, w, mode="valid")).max()
print(f"correlation: equal; convolution: equal with the kernel flipped, else off by {gap:.2f}")
assert gap > 0.5

# %% [markdown]
# **W11 · average pooling.** Printed: a sum divided by $s$, "the size of the pooling window" (池化窗口的大小). The average of a white image must
# be white. Is it, for a 2×2 window? If $s$ is the side of the window, no. If $s$ is meant as its number of pixels, yes; the book does
# not say which.

# %%
white = torch.ones(1, 1, 4, 4)
window = white[..., :2, :2]
print(f"by the side: {window.sum() / 2:.0f}; by the number of pixels: {window.sum() / 4:.0f}")
assert window.sum() / 2 == 2 and (avg_pool2d(white, 2) == 1).all()

# %% [markdown]
# **W12 · max pooling.** Printed: $\max_k \text{input}_{ikj}$, a maximum over one axis at a fixed position. With one channel nothing happens.
# With several it is a maximum over channels, which is not pooling.

# %%
x = torch.arange(16.0).view(4, 1, 4)                    # axes i, k, j; one channel k
printed, right = x.amax(1), max_pool2d(x.movedim(1, 0)[None], 2)
print(f"printed: {tuple(printed.shape)}, unchanged; pooling: {right.flatten().tolist()}")
assert_close(printed, x[:, 0])
assert right.flatten().tolist() == [5, 7, 13, 15]

# %% [markdown]
# **I03 · pooling "reduces the dimension of the feature map"** (降低特征图的维度, §2.2; the pooling paragraph of §2.2.1 itself says 尺寸, size).
# What becomes smaller, the number of channels or the number of pixels?

# %%
x = torch.randn(1, 64, 32, 32)
print(tuple(x.shape), "->", tuple(max_pool2d(x, 2).shape))
assert max_pool2d(x, 2).shape == (1, 64, 16, 16)       # resolution halves, channels stay

# %% [markdown]
# **W09 · the formula of "deconvolution"** (反卷积) is, letter by letter, the formula of convolution. Can it make an image larger?

# %%
convolution = r"\text{output}_{ij} = \sum_{k} \text{filter}_{ikj} \cdot \text{input}_{ikj}"
deconvolution = r"\text{output}_{ij} = \sum_{k} \text{filter}_{ikj} \cdot \text{input}_{ikj}"
assert convolution == deconvolution
x, w, stamped = torch.randn(1, 1, 5, 5), torch.randn(1, 1, 2, 2), torch.zeros(1, 1, 10, 10)
printed = torch.einsum("ikj,ikj->ij", torch.randn(5, 1, 5), x[0].movedim(0, 1))
for i, j in product(range(5), repeat=2):
    stamped[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] += x[..., i, j, None, None] * w
print(f"5×5 -> printed {tuple(printed.shape)}, transposed convolution {tuple(stamped.shape[2:])}")
assert printed.shape == (5, 5)
assert_close(conv_transpose2d(x, w, stride=2), stamped)

# %% [markdown]
# **W10 · "the inverse process of convolution"** (将卷积操作的逆过程). Two tests. A transpose satisfies $\langle Ax,u\rangle=\langle x,A^{\top}u\rangle$; an inverse
# brings $x$ back. To be fair, the result may be scaled by the number that fits best.

# %%
x, u, w = (torch.randn(1, 1, n, n, dtype=torch.float64) for n in (8, 6, 3))
A, back = conv_matrix(w, 8), conv_transpose2d(conv2d(x, w), w)
gap = abs((conv2d(x, w) * u).sum() - (x * conv_transpose2d(u, w)).sum())
missed = (x - back * (back * x).sum() / back.square().sum()).norm() / x.norm()
print(f"adjoint: off by {gap:.0e}; inverse: off by {missed:.0%} of x")
assert gap < 1e-10 and missed > 0.3 and torch.linalg.matrix_rank(A) == 36 < 64

# %% [markdown]
# **I05 · "inspired by the convolution in biological vision"** (来源于生物视觉系统中的卷积操作). Hubel and Wiesel (1962) found local receptive fields in the cat's visual cortex.
# Neighbouring neurons there do not share weights; sharing is engineering, from Fukushima's Neocognitron (1980) on. What does it buy?

# %%
x, shared, own = torch.randn(1, 1, 28, 28), torch.randn(9, 1), torch.randn(9, 28 * 28)
locally = lambda weights, x: (weights * F.unfold(x, 3, padding=1)).sum(1).view(28, 28)
drift = [(locally(w, x.roll(1, -1)) - locally(w, x).roll(1, -1))[:, 2:-2].abs().max()
         for w in (own, shared)]
print(f"{own.numel():,} own weights: shift error {drift[0]:.1f}; 9 shared: {drift[1]:.0e}")
assert own.numel() == 7056 and drift[0] > 1 and drift[1] < 1e-5

# %% [markdown]
# **I04 · the diagram of a CNN** in §2.2 goes convolution, pooling, fully connected, with no activation (激活函数); §2.2.1 names ReLU,
# $\max(0,x)$, and the diagram leaves it out. What is all that worth without a non-linearity? Two convolutions fold into one, and with
# average pooling the whole diagram is a single matrix.

# %%
x, first, second = (torch.randn(*shape) for shape in ((1, 3, 12, 12), (8, 3, 3, 3), (4, 8, 3, 3)))
both = conv_transpose2d(second, first)                  # the two kernels folded into one, 5×5
assert_close(conv2d(conv2d(x, first), second), conv2d(x, both), rtol=1e-3, atol=1e-3)
gap = (conv2d(conv2d(x, first).relu(), second) - conv2d(x, both)).abs().max()
w = torch.randn(1, 1, 3, 3)
diagram = lambda x: avg_pool2d(conv2d(x, w), 2).flatten(1)                   # x (B, 1, 8, 8)
matrix, x = diagram(torch.eye(64).view(64, 1, 8, 8)), torch.randn(5, 1, 8, 8)
assert_close(diagram(x), x.flatten(1) @ matrix)
print(f"one kernel {tuple(both.shape)} does the work of both; with ReLU it is off by {gap:.0f}")
assert gap > 1

# %% [markdown]
# The diagram also calls the output of the fully connected layer "features". It is the class scores, the logits; the features are what goes
# into that layer.
#
# ## 8 Kernels from examples
#
# Nobody gives a network Sobel's numbers. Can they be found from examples alone? Take a photograph of grass and what Sobel's kernel makes
# of it, start from nine random numbers, and let a standard minimiser follow the gradient of the squared error.

# %%
x = experiments.grey_photo("grass")
wanted, w = conv2d(x, sobel), torch.randn(1, 1, 3, 3, requires_grad=True)
minimiser = torch.optim.LBFGS([w], max_iter=100, line_search_fn="strong_wolfe")


def squared_error():
    minimiser.zero_grad()
    loss = F.mse_loss(conv2d(x, w), wanted)
    loss.backward()
    return loss


minimiser.step(squared_error)
print(w.detach()[0, 0].round(decimals=3) + 0)
assert (w - sobel).abs().max() < 0.01

# %% [markdown]
# They can. A network does this for all its kernels at once, and its examples are labelled images: the error is made by the last layer, and
# its gradient reaches back to the first. Ours has three blocks of convolution, batch normalisation (批归一化, a topic of chapter 3b) and
# ReLU; one max pooling after the second; at the end the mean over all positions, and a linear layer for ten numbers, the logits
# (未归一化的类别分数), the largest of which is the answer.
#
# Before you run it: what are the channels and the size after each block?

# %%
from tqdm import tqdm

seeds, epochs = range(runtime.pick(quick=3, full=10)), runtime.pick(quick=20, full=60)

def cnn():
    def block(ins, outs):
        return nn.Conv2d(ins, outs, 3, padding=1), nn.BatchNorm2d(outs), nn.ReLU()
    return nn.Sequential(*block(1, 32), *block(32, 32), nn.MaxPool2d(2), *block(32, 64),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def train(images, labels, seed, make=cnn, device=runtime.device()):
    runtime.seed_everything(seed)
    net, images, labels, losses = make().to(device), images.to(device), labels.to(device), []
    batches = [b for _ in range(epochs) for b in torch.randperm(len(images)).split(64)]
    optimiser = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=len(batches))
    for batch in tqdm(batches, desc=f"seed {seed}"):
        loss = F.cross_entropy(net(images[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return net.eval().cpu(), losses


# %%
torch.set_num_threads(1)                     # images this small gain nothing from more threads
trained = [train(images, labels, seed) for seed in seeds]
x = images[:1]
for layer in trained[0][0]:
    x = layer(x)
    if isinstance(layer, (nn.ReLU, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Linear)):
        print(f"{type(layer).__name__:>17} {tuple(x.shape[1:])}")
assert sum(p.numel() for p in trained[0][0].parameters()) == 28_970
_, axes = plt.subplots(figsize=(7, 2.4))
for _, losses in trained:
    by_epoch = torch.tensor(losses).unfold(0, 23, 23).mean(1)              # 23 batches each
    axes.plot(range(1, epochs + 1), by_epoch, color=plot.BLUE, alpha=0.6)
axes.set(yscale="log", xlabel="epoch", ylabel="training loss, nats", title="one line a seed")
axes.xaxis.get_major_locator().set_params(integer=True)

# %% [markdown]
# Is it any good? Two baselines that know nothing of neighbourhood: logistic regression on the 64 pixels, and the three nearest neighbours
# ($k$-NN), which on these digits is hard to beat. All learn from the same 1,437 images and are asked about the same 360.
#
# And a second question, the real one of this chapter: the same 360 digits, moved by a single pixel down, up, right and left. None of the three
# has seen a moved digit. (Moving up or down also pushes a row of ink out of the 8×8 frame; part of the loss is that.)

# %%
from sklearn import base, linear_model, neighbors
from vlmbook.metrics import proportion_interval

moves = {"right": (0, -1), "left": (0, 1), "down": (-1, 0), "up": (1, 0)}
framed = F.pad(test_images, (1, 1, 1, 1))
moved = [framed[..., 1 + a : 9 + a, 1 + b : 9 + b] for a, b in moves.values()]
trials = {"held out": [test_images], "moved by one pixel": moved}
linear = linear_model.LogisticRegression(max_iter=2000).fit(images.flatten(1), labels)
nearest = neighbors.KNeighborsClassifier(3).fit(images.flatten(1), labels)
readers = {"logistic regression": [lambda x: linear.predict(x.flatten(1))],
           "3 nearest neighbours": [lambda x: nearest.predict(x.flatten(1))],
           "CNN": [lambda x, net=net: net(x).argmax(1) for net, _ in trained]}

def accuracy(readers, batches):              # mean over batches and, for the CNN, over seeds
    right = [torch.as_tensor(read(x)) == test_labels for read in readers for x in batches]
    return torch.stack(right).float().mean().item()

_, axes = plt.subplots(1, 2, figsize=(7, 1.9), sharey=True, sharex=True)
results, ends = {}, {}
for panel, (title, batches) in zip(axes, trials.items()):
    shares = {name: accuracy(group, batches) for name, group in readers.items()}
    ends[title] = [proportion_interval(share, len(test_labels)) for share in shares.values()]
    names, values = zip(*shares.items())
    plot.intervals(panel, names, values, *zip(*ends[title]), f"accuracy, {title}")
    results[title] = shares

# %%
for title, result in results.items():
    print(f"{title:>18}: " + ", ".join(f"{name} {share:.1%}" for name, share in result.items()))
print("CNN moved", *(f"{way} {accuracy(readers['CNN'], [x]):.0%}" for way, x in zip(moves, moved)))
assert results["held out"]["CNN"] > 0.985 and results["moved by one pixel"]["CNN"] > 0.85
(_, near, ours), (_, near_moved, ours_moved) = ends.values()                # (low, high) each
assert near[1] > ours[0] and near_moved[1] < ours_moved[0]                  # overlap; and none

# %% [markdown]
# The bars are 95 % intervals for 360 digits [Wilson 1927]. On digits that stand where they always stood, the intervals of the CNN and the
# neighbours overlap; a claim of victory from this panel alone would be bold. One pixel of movement decides it.
#
# ## 9 See inside
#
# What did it find? Eight of its 32 first kernels: in the top row as they were drawn at random, below after training, and in the bottom row
# what each sees in one digit, its feature map (特征图). What has training changed? (With the learned numbers our own `conv2d` gives the
# same maps as PyTorch's layer.)

# %%
runtime.seed_everything(seeds[0])
initial, digit = cnn()[0].weight.detach(), test_images[[7]]
first = trained[0][0][0]
maps = first(digit)[0].detach()
assert_close(conv2d(digit, first.weight, first.bias, padding=1)[0], maps)
_, axes = plt.subplots(3, 9, figsize=(7, 2.7))
plot.image(axes[2, 0], digit[0], f"a {test_labels[7]}")
axes[0, 0].axis("off")
axes[1, 0].axis("off")
for column, channel in enumerate(first.weight.flatten(1).norm(dim=1).topk(8).indices.tolist(), 1):
    plot.signed(axes[0, column], initial[channel, 0], f"no. {channel}")
    plot.signed(axes[1, column], first.weight[channel, 0])
    plot.signed(axes[2, column], maps[channel])
alike = F.cosine_similarity(initial.flatten(1), first.weight.detach().flatten(1)).mean()
print(f"mean cosine between a kernel at random and after training: {alike:.2f}")
assert alike > 0.9

# %% [markdown]
# Nearly nothing in this first layer. On images this small thirty-two random kernels are good enough, and the later layers learn to use what they see. Pictures of
# "learned filters" deserve this comparison before they are admired.
#
# ## 10 Break it
#
# Which part earns the result on moved digits? First twin: no mean over all positions at the end, a layer that knows each position instead.
#
# Second twin: the same network, and the 64 pixels shuffled, all images in the same way. Nothing is lost, and logistic regression and the
# neighbours do not notice; but now pixels side by side have nothing to do with each other. How much worse will the CNN be?

# %%
order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
shuffle = lambda x: x.flatten(1)[:, order].view_as(x)
flat = lambda: nn.Sequential(*list(cnn())[:-3], nn.Flatten(), nn.Linear(64 * 4 * 4, 10))
by_position = [train(images, labels, seed, flat)[0] for seed in seeds]
on_shuffled = [train(shuffle(images), labels, seed)[0] for seed in seeds]
share = lambda net, batches: accuracy([lambda x: net(x).argmax(1)], batches)
mixed = shuffle(test_images)
placed = torch.tensor([share(net, moved) for net in by_position])
kept = torch.tensor([share(net, [test_images]) for net, _ in trained])
lost = torch.tensor([share(net, [mixed]) for net in on_shuffled])
for name, shares in {"moved, no mean": placed, "as they are": kept, "shuffled": lost}.items():
    print(f"{name:>14}: {shares.mean():.1%} ± {shares.std():.1%} over {len(seeds)} seeds")
for name, model in {"logistic regression": linear, "3 nearest neighbours": nearest}.items():
    model = base.clone(model).fit(shuffle(images).flatten(1), labels)
    blind = accuracy([lambda x: model.predict(x.flatten(1))], [mixed])
    assert abs(blind - results["held out"][name]) < 0.01
assert placed.mean() < results["moved by one pixel"]["CNN"] - 0.08
assert lost.mean() < kept.mean() - 0.005
assert receptive_field([(3, 1), (3, 1), (2, 2), (3, 1)]) == 10
records.record("ch03a", seed=list(seeds), **{name.replace(" ", "_"): shares for name, shares in
               results.items()}, CNN=kept.tolist(), CNN_shuffled=lost.tolist(),
               CNN_moved_without_mean=placed.tolist());

# %% [markdown]
# Convolution carries a movement through, and the mean at the end forgets it: without the mean about half of the lead over the neighbours is gone. Shuffling costs the
# CNN its lead, yet it still reads nearly all digits: after the last layer its receptive field is 10×10, in the middle the whole image, so it can learn
# any order, with more trouble. Locality is help, not a need.
#
# ## 11 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch03a.1")` helps in steps, `solution("ch03a.1")` shows one answer.
#
# **1 · Predict.** A photograph `(1, 3, 224, 224)` goes through the first two layers of torchvision's AlexNet: 64 filters of 11×11 with stride 4 and
# padding 2, then max pooling 3×3 with stride 2. Which shape comes out? Answer without running a layer.

# %%
shape = ...                                  # (B, C, H, W)
check("ch03a.1", shape)


# %% [markdown]
# **2 · Derive.** Which padding makes a layer with stride 2 halve the size exactly, for every even `n` and every kernel size?

# %%
def halving_padding(n, kernel):              # -> the padding, a whole number
    ...


check("ch03a.2", halving_padding)


# %% [markdown]
# **3 · Recognise.** Average pooling with windows that touch is a convolution. Write it with `conv2d`, for `x` of any number of channels.

# %%
def pool_as_convolution(x, window):          # (B, C, H, W) -> (B, C, H // window, W // window)
    ...


check("ch03a.3", pool_as_convolution)


# %% [markdown]
# **4 · Build.** Write the transposed convolution with `conv2d`: `x (B, C, H, W)`, `weight (C, O, K, K)`, any stride, no padding. It
# must equal `F.conv_transpose2d(x, weight, stride=stride)`.

# %%
def transpose_from_convolution(x, weight, stride):
    ...


check("ch03a.4", transpose_from_convolution)

# %% [markdown]
# ## 12 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook trains ten seeds, three times as long. What the published runs measured:

# %% tags=["record"]
records.show("ch03a", "quick")
records.show("ch03a", "full")

# %% [markdown]
# ## 13 What we learned
#
# A kernel is a small grid of weights that is used in every position: few weights, and an output that moves with the input.
# One formula gives every size: $\lfloor (n+2p-d(k-1)-1)/s\rfloor+1$.
# Pooling keeps channels, loses resolution and position, and makes the output somewhat invariant to shifts.
# The transposed convolution is the adjoint of a convolution, not its inverse; uneven stamps make checkerboards.
# Kernels need not be designed: the gradient finds them from examples, and a network of them reads digits that have moved.
#
# **References.** V. Dumoulin, F. Visin, *A guide to convolution arithmetic for deep learning*, 2016, arXiv:1603.07285 · A. Odena, V. Dumoulin,
# C. Olah, *Deconvolution and checkerboard artifacts*, Distill, 2016, doi:10.23915/distill.00003 · A. Araujo, W. Norris, J. Sim, *Computing
# receptive fields of convolutional neural networks*, Distill, 2019, doi:10.23915/distill.00021 · Y. LeCun et al., *Gradient-based learning
# applied to document recognition*, Proc. IEEE 86(11), 1998 · D. H. Hubel, T. N. Wiesel, *Receptive fields, binocular interaction and functional
# architecture in the cat's visual cortex*, J. Physiol. 160, 1962 · K. Fukushima, *Neocognitron: a self-organizing neural
# network model for a mechanism of pattern recognition unaffected by shift in position*, Biol. Cybernetics 36, 1980 · A. Krizhevsky, I. Sutskever,
# G. E. Hinton, *ImageNet classification with deep convolutional neural networks*, NeurIPS 25, 2012 · E. Alpaydin,
# C. Kaynak, *Optical recognition of handwritten digits*, UCI, 1998 · E. B. Wilson, *Probable inference, the law of succession, and statistical
# inference*, JASA 22(158), 1927.
