# %% [markdown]
# # 3a · Convolution and pooling (卷积与池化)
#
# *Book: §2.2.1 (1), 卷积神经网络（CNN）*
#
# **What does a kernel of 3×3 numbers detect in a photograph, and how does training find good kernels?**
#
# The first cell prints the time and the memory of a whole run. The figure shows four kernels and their outputs for a photograph of a cat. Where the result
# is an image again, it is grey. Where the result is a difference, red is positive and blue is negative.
#
# *You will be able to*
#
# - compute a convolution by hand, with one channel and with several;
# - say why image networks use convolutions and not fully connected layers, with numbers;
# - predict the size of the output of a convolution, a pooling and a transposed convolution;
# - train a small network on handwritten digits, and compare it with two simple baselines by a paired test;
# - measure, layer by layer, what training changed.
#
# *Words that this chapter needs*: this chapter uses batch normalisation from chapter 3b. Section 8 explains the part that this chapter uses. New words are
# explained where they come first.
#
# *Core path, 40 minutes*: sections 1 to 9 and 12. Sections 10 and 11 are headed *Going deeper*.

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
torch.set_num_threads(1)                     # images this small gain nothing from more threads
plot.use_style()
records.published("ch03a")

drawings.draw_examples(plt.figure(figsize=(7, 3.1)))
records.picture("ch03a", plt.gcf());

# %% [markdown]
# ## 1 The data, looked at
#
# An image is a tensor (张量): a grid of numbers. A photograph here has the shape `(3, H, W)`: three channels (通道) red, green and blue, then rows, then
# columns. Each number is between 0 and 1. A batch (批次) of images has one more axis in front: `(B, C, H, W)`. The digits are 1,797 scans of handwriting,
# reduced to 8×8 pixels, with one grey channel. 360 of them are held out (留出数据): no method learns from them.

# %%
(images, labels), (test_images, test_labels) = data.digits("train"), data.digits("test")
samples = {"coffee": data.photo("coffee"), "digits": images, "held out": test_images}
for name, sample in samples.items():
    print(f"{name:>10} {tuple(sample.shape)}, values from {sample.min():.2f} to {sample.max():.2f}")
plot.gallery([data.photo(name) for name in ("coffee", "astronaut", "coins")])
plot.gallery(images[:10], [f"a {label}" for label in labels[:10]]);

# %% [markdown]
# ## 2 What a kernel does
#
# Before any formula, try it. The grid of nine numbers is called a kernel (卷积核). The kernel is laid over 3×3 pixels. Each pixel is multiplied by the
# number of the kernel at the same place, and the sum of the nine products is one output pixel. Then the kernel moves on. The first kernel is Sobel's
# (Sobel 算子).
#
# Look at the left and at the right border of each coin: why is one red and the other one blue? Then choose *identity*. Which number must you change to
# make the image darker? Which two numbers move the image by one pixel?

# %%
editor = interact.MatrixEditor(experiments.KERNELS, description="kernel")
interact.live(drawings.draw_kernel, photo=data.photo_names(), kernel=editor, flip=False,
              figsize=(7, 2.8))

# %% [markdown]
# Sobel's kernel subtracts the pixels on the left from the pixels on the right. Where the photograph gets brighter from left to right, the result is
# positive (red). On the other border of a coin it gets darker, so the result is negative (blue). On a flat area the output is 0, because the nine numbers
# add up to 0. The thin line at the border comes from the zeros around the image. The photograph has no edge there. (Other ways to fill the outside repeat
# or mirror the border pixels; `F.pad` calls them `replicate` and `reflect`.)
#
# A middle number of 0.5 makes the image darker. A 0 in the middle and a 1 beside it move the image by one pixel.
#
# ### And the kernels of a trained network?
#
# Nobody chose the next kernels by hand. They are the first kernels of EfficientNet-Lite0 [Tan & Le 2019], a network that learned from 1.2 million
# photographs to name 1,000 classes. Each kernel has 3×3 numbers for each of the three colours, so we can draw it as a small colour image (grey means 0).
# The row below shows the output of each kernel for the cat. Which kernels are similar to Sobel's? What do the others detect?

# %%
stem = experiments.read_stem()
if stem is not None:
    drawings.draw_stem(plt.figure(figsize=(7, 2.4)), stem[:8])

# %% [markdown]
# Several kernels find edges of some direction, as Sobel's kernel does. The output of number 6 looks like a smooth copy of the photograph: this kernel
# responds to areas more than to edges. So some of the trained kernels are edge detectors, and others are not. Section 8 shows how such numbers are found.
#
# ## 3 Why convolution at all?
#
# A fully connected layer (全连接层) has one weight for each pair of an input pixel and an output pixel. Take a grey image of 1000×1000 pixels, and an
# output of the same size. How many weights are that? How many has a 3×3 kernel? The kernel saves weights in two steps:
#
# - **locality** (局部性): an output pixel sees only 3×3 pixels. That is nine weights for each output pixel;
# - **weight sharing** (权重共享): all output pixels use the *same* nine weights.
#
# What does sharing give, beside fewer weights? The cell compares nine shared weights with nine own weights for each output pixel. It moves the image by
# one pixel. Does the output move by one pixel too? (Sharing saves no multiplications: both layers do nine for each output pixel.)

# %%
pixels = 1000 * 1000
print(f"fully connected {pixels**2:.0e} weights, local {9 * pixels:.0e}, shared {9}")
image = torch.randn(1, 1, 28, 28)
weights = {"own": torch.randn(9, 28 * 28), "shared": torch.randn(9, 1)}

def local_layer(w, x):                       # (9, pixels or 1), (1, 1, 28, 28) -> (28, 28)
    return (w * F.unfold(x, 3, padding=1)).sum(1).view(28, 28)


for name, nine in weights.items():
    early, late = local_layer(nine, image.roll(1, -1)), local_layer(nine, image).roll(1, -1)
    difference = (early - late)[:, 2:-2].abs().max()
    print(f"{name:>6}: {nine.numel():5,} weights, difference {difference:.1e}")

# %% [markdown]
# $10^{12}$ weights against 9. With shared weights the output moves by exactly one pixel, away from the border. The remaining difference is rounding error.
# A kernel that finds an edge in one corner finds it everywhere.
#
# ## 4 The idea, written here
#
# ### By hand
#
# The image $x$ has 4×4 pixels, and the kernel $w$ has 3×3. The kernel has to stay inside. It has four positions, so the output $y$ has 2×2 pixels.
# Compute the first output pixel by hand: move *window* to 0, and check. Then predict the other three.

# %%
x = torch.tensor([[1.0, 0, 2, 3], [0, 1, 3, 1], [2, 0, 1, 4], [1, 2, 0, 2]])
w = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])

def show_window(figure, window=1):
    drawings.draw_by_hand(figure, x, w, window)


interact.live(show_window, window=(0, 3), figsize=(7, 1.9))


# %% [markdown]
# Window 0: $(2-1)+2\,(3-0)+(1-2)=6$. The other three are 7, 0 and 8.
#
# ### The formula
#
# Rows and columns are counted from 0. The kernel has $K$ rows and $K$ columns. If its upper left corner is at pixel $(i,j)$, then
#
# $$y_{i,j}=\sum_{m=0}^{K-1}\sum_{n=0}^{K-1} w_{m,n}\;x_{i+m,\;j+n}$$
#
# The corner can be in the rows $0,\dots,H-K$. So the output has $H-K+1$ rows: here $4-3+1=2$.
#
# **Several channels.** A kernel has its own 3×3 numbers for each input channel. All products of all channels are added to *one* output pixel. Example
# with kernels of one pixel (1×1): the pixel has the channels $(1,2,3)$. The kernel $(1,0,1)$ gives $1+3=4$, the kernel $(0,2,-1)$ gives $4-3=1$. Two
# kernels make two output channels, $(4,1)$. So a layer with $C$ input channels and $O$ output channels has $O\cdot C\cdot K\cdot K$ weights. How many
# has a 3×3 layer from 3 to 32 channels?
#
# **The whole layer.** The bias (偏置) $b_o$ is added to output channel $o$. The stride (步幅) $s$ is the distance between two windows. The padding (填充) $p$ is
# the number of rings of zeros around the image. The dilation (空洞率) $d$ is the distance between neighbouring pixels of a window. With $x=0$ outside of the
# image:
#
# $$y_{o,i,j}=b_o+\sum_{c=0}^{C-1}\sum_{m=0}^{K-1}\sum_{n=0}^{K-1} w_{o,c,m,n}\;x_{c,\;s i+d m-p,\;s j+d n-p}$$

# %%
def convolve(x, w, b, stride=1, padding=0):  # (C, H, W), (O, C, K, K), (O,) -> (O, Ho, Wo)
    O, C, K, _ = w.shape
    x = F.pad(x, (padding,) * 4)
    Ho, Wo = ((size - K) // stride + 1 for size in x.shape[1:])
    y = b.view(O, 1, 1).repeat(1, Ho, Wo)
    for o, i, j in product(range(O), range(Ho), range(Wo)):
        for c, m, n in product(range(C), range(K), range(K)):
            y[o, i, j] += w[o, c, m, n] * x[c, stride * i + m, stride * j + n]
    return y


pixel, kernels = torch.tensor([1.0, 2, 3]).view(3, 1, 1), torch.tensor([[1.0, 0, 1], [0, 2, -1]])
print("1×1:", convolve(pixel, kernels.view(2, 3, 1, 1), torch.zeros(2)).flatten().tolist())
print("3×3 from 3 to 32 channels:", nn.Conv2d(3, 32, 3, bias=False).weight.numel(), "weights")
few, layer = torch.randn(3, 7, 9), nn.Conv2d(3, 4, 3, stride=2, padding=1)
assert_close(convolve(few, layer.weight, layer.bias, 2, 1), layer(few[None])[0])

# %% [markdown]
# The 3×3 layer has 864 weights. The loops agree with PyTorch. The package has the same formula in loops (`conv2d_loops`) and as a fast function
# (`conv2d`), also with dilation and with groups (分组). With $g$ groups, an output channel uses only the $C/g$ input channels of its own group, so the layer
# has $O\cdot(C/g)\cdot K\cdot K$ weights. Do values *and gradients* agree with PyTorch? (The cell stops with an error if they do not.)
#
# **Book check, I01.** Mathematics calls the sum with $x_{i-m,\,j-n}$ a convolution (卷积), and the sum with $x_{i+m,\,j+n}$ a cross-correlation (互相关).
# Which one does PyTorch compute?

# %%
from scipy import signal
from vlmbook.convolution import avg_pool2d, avg_pool2d_loops, conv2d, conv2d_loops, conv_matrix
from vlmbook.convolution import conv_transpose2d, max_pool2d, output_size, receptive_field

wide = dict(dtype=torch.float64, requires_grad=True)
inputs = torch.randn(2, 4, 7, 9, **wide), torch.randn(6, 2, 3, 3, **wide), torch.randn(6, **wide)
options = dict(stride=(2, 1), padding=1, dilation=(1, 2), groups=2)
peer = F.conv2d(*inputs, **options)
for ours in (conv2d(*inputs, **options), conv2d_loops(*inputs, **options)):
    assert_close(ours, peer)
    assert_close(*(torch.autograd.grad(y.square().sum(), inputs, retain_graph=True)
                   for y in (ours, peer)))
by_torch = F.conv2d(x[None, None], w[None, None])[0, 0]
assert_close(by_torch, torch.tensor(signal.correlate2d(x, w, mode="valid")))
assert_close(by_torch, torch.tensor(signal.convolve2d(x, w.flip(0, 1), mode="valid")))
print("convolution of mathematics:", signal.convolve2d(x, w, mode="valid").tolist())


# %% [markdown]
# Values and gradients agree. PyTorch computes the cross-correlation, and everybody calls it convolution. It equals the convolution of mathematics with the
# kernel turned by 180°. For Sobel's kernel this only changes the sign.
#
# ### How large is the output?
#
# Derive it for one axis. With padding the image has $n+2p$ pixels. A window of $k$ pixels at distance $d$ spans $d(k-1)+1$ pixels. Its first pixel can
# be at $0, s, 2s,\dots$, as long as its last pixel stays inside:
#
# $$n_\text{out}=\Big\lfloor\frac{n+2p-d(k-1)-1}{s}\Big\rfloor+1$$
#
# By hand: $n=7$, $k=3$, $p=1$, $s=2$, $d=1$ gives $\lfloor(7+2-2-1)/2\rfloor+1=4$. The cell compares the formula with PyTorch for all combinations on a
# grid [Dumoulin & Visin 2016]. Then find with the sliders (a) the smallest stride at which no window reaches the right column of the padded image, and (b)
# the dilation at which a 3×3 kernel spans as much as a 7×7 kernel.

# %%
def real_size(n, k, s, p, d):
    blank, kernel = torch.zeros(1, 1, n, n), torch.zeros(1, 1, k, k)
    return F.conv2d(blank, kernel, stride=s, padding=p, dilation=d).shape[-1]


ranges = (range(1, 14), range(1, 6), range(1, 5), range(4), range(1, 4))
fitting = [(n, k, s, p, d) for n, k, s, p, d in product(*ranges) if d * (k - 1) < n + 2 * p]
right = sum(output_size(n, k, stride=s, padding=p, dilation=d) == real_size(n, k, s, p, d)
            for n, k, s, p, d in fitting)
print(f"{right:,} of {len(fitting):,} predicted")
interact.live(drawings.draw_window, n=(1, 16), kernel=(1, 7), stride=(1, 5), padding=(0, 4),
              dilation=(1, 4), window=(0, 99), figsize=(7, 3.5))

# %% tags=["claims"]
assert right == len(fitting)

# %% [markdown]
# (a) With stride 4 no window reaches the right column. The other sliders keep their values. (b) A 3×3 kernel with dilation 3 spans 7 pixels.
#
# ## 5 Move the image: equivariance and pooling
#
# If the photograph moves, the output of a convolution should move too. This is called shift equivariance (平移等变性). Is it exact? Is it still true with
# stride 2?

# %%
camera = experiments.grey_photo("camera")
sobel = w[None, None]

def shift_error(shift, stride):              # "shift, then filter" against "filter, then shift"
    early, late = (conv2d(each, sobel, stride=stride) for each in (camera.roll(shift, -1), camera))
    return min((early - late.roll(r, -1))[..., 8:-8].abs().max().item() for r in range(3))


errors = {(shift, stride): shift_error(shift, stride) for shift in (1, 2) for stride in (1, 2)}
for (shift, stride), error in errors.items():
    print(f"shift {shift}, stride {stride}: largest difference {error:.1e}")

# %% tags=["claims"]
assert max(errors[1, 1], errors[2, 1], errors[2, 2]) < 1e-5 < 0.1 < errors[1, 2]

# %% [markdown]
# With stride 1 the equivariance is exact (away from the border). With stride 2 it holds for the shift by 2 pixels, and not for the shift by 1. After an
# odd shift the windows are at other positions of the photograph than before.
#
# ### Pooling
#
# Pooling (池化) makes an image smaller without any weights. Max pooling (最大池化) takes the largest pixel of each window, average pooling (平均池化) takes the
# mean. Each channel is pooled alone, and usually the windows do not overlap ($s=k$):
#
# $$y_{c,i,j}=\max_{0\le m,n<k} x_{c,\;si+m,\;sj+n}\qquad\qquad y_{c,i,j}=\frac{1}{k\cdot k}\sum_{m=0}^{k-1}\sum_{n=0}^{k-1} x_{c,\;si+m,\;sj+n}$$
#
# What are the four maxima of the image below, and the four means? A pixel has a gradient (梯度) if a small change of the pixel changes the result. Which
# pixels have a gradient after max pooling?

# %%
small = torch.tensor([[1.0, 0, 2, 3], [4, 2, 1, 0], [3, 5, 0, 2], [1, 2, 6, 4]])
leaf = small[None, None].clone().requires_grad_()
largest, mean = max_pool2d(leaf, 2), avg_pool2d_loops(leaf, 2)
(gradient,) = torch.autograd.grad(largest.sum(), leaf)
plot.gallery([leaf[0], largest[0], mean[0], gradient[0]],
             ["image", "max pooling", "average pooling", "gradient of max"], draw=plot.numbers);

# %% tags=["claims"]
assert_close([largest, mean], [F.max_pool2d(leaf, 2), F.avg_pool2d(leaf, 2)])
assert_close(mean, avg_pool2d(leaf, 2))


# %% [markdown]
# The maxima are 4, 3, 5 and 6, the means 1.75, 1.5, 2.75 and 3. Only the largest pixel of each window has a gradient (if two are equal, the first one).
# With average pooling each pixel has the gradient 1/4. Pooling is said to make a network invariant (不变) to small shifts: if the image moves by one pixel,
# the output should stay the same. Is this true? The cell measures which share of the output changes by less than 0.05. *Every 8th* is a control: it only
# drops pixels.

# %%
def unchanged(pool, shift):                  # share of the output that a shift leaves alone
    whole = experiments.grey_photo("camera", 176)
    still, shifted = whole[..., 16:], whole[..., 16 - shift : 176 - shift]
    return ((pool(still) - pool(shifted)).abs() < 0.05).float().mean().item()


pools = {"no pooling": lambda z: z, "every 8th": lambda z: z[..., ::8, ::8],
         "max 2×2": lambda z: max_pool2d(z, 2), "max 8×8": lambda z: max_pool2d(z, 8),
         "average 8×8": lambda z: avg_pool2d(z, 8)}
table = {name: [unchanged(pool, shift) for shift in (1, 2, 4)] for name, pool in pools.items()}
for name, kept in table.items():
    print(f"{name:>11}, unchanged after 1, 2, 4 pixels:", *(f"{part:.1%}" for part in kept))
interact.live(drawings.draw_pooling, photo=data.photo_names(), kind=["max", "average"],
              window=(1, 8), shift=(0, 8), figsize=(7, 2.6))

# %% tags=["claims"]
assert all(a >= b for kept in table.values() for a, b in zip(kept, kept[1:]))
assert table["no pooling"][0] < table["max 2×2"][0] < table["max 8×8"][0]
assert table["max 8×8"][0] < table["average 8×8"][0] < 1

# %% [markdown]
# Pooling is *partly* invariant. A larger window keeps more, a larger shift keeps less, and nothing reaches 100 %. Without pooling most of the image stays
# already, because large areas are flat. *Every 8th* gives nearly the same share as no pooling. So a smaller output alone does not explain the gain of
# pooling. For a shift of one pixel average pooling keeps more than max pooling here; for a shift of two pixels max pooling keeps more. The numbers at the
# right of the picture are the 3×3 output pixels that change most, before the shift (above) and after it (below).
#
# ## 6 How far does a pixel see?
#
# After one 3×3 convolution an output pixel depends on 3×3 input pixels. After three of them? After three with stride 2? The part of the input that an
# output pixel depends on is its receptive field (感受野). Layer $l$ widens the field by $(k_l-1)\,d_l$ pixels of its own input. Neighbouring pixels of this
# input are $\prod_{i<l}s_i$ image pixels apart [Araujo et al. 2019]. A pooling layer counts like a convolution with the same $k$ and $s$.
#
# $$r=1+\sum_{l}(k_l-1)\,d_l\prod_{i<l}s_i$$
#
# By hand for three layers 3×3: with stride 1, $r=1+2+2+2=7$. With stride 2, $r=1+2+2\cdot2+2\cdot4=15$. The cell checks it without the formula. It
# sends a gradient back from one output pixel, and looks where it arrives. All weights are 1, so brightness counts the paths.

# %%
stacks = {"1 layer": [(3, 1)], "3 layers": [(3, 1)] * 3, "3 layers, stride 2": [(3, 2)] * 3}
_, axes = plt.subplots(1, 3, figsize=(7, 2.7))
for panel, (name, layers) in zip(axes, stacks.items()):
    start = out = torch.zeros(1, 1, 31, 31, requires_grad=True)
    for k, s in layers:                      # kernel, stride
        out = F.conv2d(out, torch.ones(1, 1, k, k), stride=s)
    middle = out.shape[-1] // 2
    (reached,) = torch.autograd.grad(out[0, 0, middle, middle], start)
    width = int((reached[0, 0] > 0).any(0).sum())
    assert width == receptive_field(layers)
    plot.image(panel, reached[0].pow(0.4) / reached.max().pow(0.4), f"{name}: {width}×{width}")

# %% [markdown]
# The second and the third stack have the same 27 weights. With stride the same weights see 15 pixels instead of 7. In the second picture the middle is
# brightest, because most paths lead there. In the third picture it is a pattern: windows of stride 2 overlap in every second pixel. Dilation has the
# same effect on the size: three layers with dilation 1, 2 and 4 also see $1+2+4+8=15$ pixels.
#
# ## 7 The way back up: transposed convolution
#
# A network that makes images has to enlarge small maps. So has a network that answers for each pixel (chapter 3c). A transposed convolution (转置卷积)
# enlarges a map with a kernel. Each input pixel writes a *stamp*: the kernel, multiplied by the pixel. The stamps are $s$ pixels apart. Where stamps
# overlap, they are added.
#
# By hand along one axis: $u=(1,2,-1)$, $w=(3,4,5)$, stride 2. The stamps are $(3,4,5)$ at position 0, $(6,8,10)$ at position 2, and $(-3,-4,-5)$ at
# position 4. What is their sum, and how long is it?

# %%
u, stamp = torch.tensor([1.0, 2.0, -1.0]), torch.tensor([3.0, 4.0, 5.0])
drawings.draw_stamps(plt.figure(figsize=(5, 1.8)), u, stamp, stride=2)
summed = F.conv_transpose1d(u[None], stamp[None, None], stride=2)[0]
spread = torch.tensor([0, 0, 1.0, 0, 2, 0, -1, 0, 0])                  # zeros between and around
gathered = F.conv1d(spread[None], stamp.flip(0)[None, None])[0]
print("stamps", summed.tolist(), "convolution of the spread input", gathered.tolist())
assert_close(summed, gathered)

# %% [markdown]
# **The size.** The last of $n$ stamps begins at $s(n-1)$ and spans $d(k-1)+1$ pixels. Padding $p$ cuts $p$ pixels off at both ends. So
#
# $$n_\text{out}=s(n-1)+d(k-1)+1-2p .$$
#
# Here: $2\cdot2+2+1=7$. Solve the size formula of the convolution for $n$: if its division has no remainder, the result is this formula. (If there is a
# remainder, several sizes fit, and PyTorch's `output_padding` chooses one of them.)
#
# **The same as a convolution.** The cell computes the same seven numbers in another way: put $s-1$ zeros between the pixels and $k-1$ zeros around
# them, and convolve with the kernel turned around, $(5,4,3)$. Exercise 4 needs this.
#
# **Why "transposed"?** A convolution is linear, so on a flattened image it is a matrix $A$. Here it turns 8×8 pixels into 6×6, so $A$ has 36 rows and 64
# columns. Every row of $A$ holds one window. So every column of $A^\top$ holds one stamp, and $A^\top u$ is the sum of the stamps.
#
# **Book check, W10.** The book calls it the inverse process of convolution (将卷积操作的逆过程). Two tests. A transpose satisfies $\langle Ax,u\rangle=\langle
# x,A^{\top}u\rangle$, where $\langle\cdot,\cdot\rangle$ is the sum of the products. An inverse brings $x$ back. (We first scale the result by the factor
# with the smallest distance to $x$.)

# %%
big, low, kernel = (torch.randn(1, 1, n, n, dtype=torch.float64) for n in (8, 6, 3))
A = conv_matrix(kernel, 8)
assert_close((A @ big.flatten()).view(1, 1, 6, 6), conv2d(big, kernel))
assert_close((A.T @ low.flatten()).view(1, 1, 8, 8), conv_transpose2d(low, kernel))
back = conv_transpose2d(conv2d(big, kernel), kernel)
gap = abs((conv2d(big, kernel) * low).sum() - (big * conv_transpose2d(low, kernel)).sum())
missed = (big - back * (back * big).sum() / back.square().sum()).norm() / big.norm()
print(f"transpose: off by {gap:.0e}; inverse: {missed:.0%} of x is missing")
plot.gallery([A, A.T], [f"A {tuple(A.shape)}", "its transpose"], draw=plot.signed);

# %% tags=["claims"]
assert gap < 1e-10 and missed > 0.3 and torch.linalg.matrix_rank(A) == 36 < 64


# %% [markdown]
# The operation is the transpose, and not the inverse. $A$ has 36 rows for 64 unknown pixels. So different inputs $x$ give the same output $Ax$, and no
# matrix can recover $x$ from $Ax$.
#
# When do the stamps cover every pixel equally often? If they do not, a flat input gives a checkerboard (棋盘效应). Find the kernel sizes without a pattern
# for the strides 2 and 3.

# %%
def uneven(size, stride):                    # do some inner pixels get more stamps than others?
    ones = torch.ones(1, 1, 10, 1), torch.ones(1, 1, size, 1)
    stamps = conv_transpose2d(*ones, stride=stride)
    return len(stamps[0, 0, size - 1 : -size, 0].unique()) > 1


for s in (2, 3):
    print(f"stride {s}: even cover with kernels of", [k for k in range(1, 9) if not uneven(k, s)])
interact.live(drawings.draw_checkerboard, photo=data.photo_names(), kernel=(1, 8), stride=(1, 4),
              figsize=(7, 2.7))

# %% tags=["claims"]
assert all(uneven(k, s) == (k % s > 0) for k, s in product(range(1, 9), range(1, 5)))

# %% [markdown]
# The stride has to divide the kernel size. If the stride divides the kernel size, different weights inside a stamp can still make a pattern ([chapter
# 3c](ch03c_unet.ipynb), section 7). Odena et al. [2016] propose to enlarge the image by interpolation first, and then to use a convolution: then there are
# no stamps.
#
# ## 8 Kernels from examples
#
# Can Sobel's numbers be found from examples alone? We take a photograph of grass, and the output of Sobel's kernel for it. We start with nine random
# numbers. The **loss** (损失) is the mean squared difference between our output and the wanted output. The **gradient** says in which direction the nine
# numbers increase the loss fastest. A minimiser (here L-BFGS) moves them in a direction that reduces the loss.

# %%
grass = experiments.grey_photo("grass")
wanted, found = conv2d(grass, sobel), torch.randn(1, 1, 3, 3, requires_grad=True)
minimiser = torch.optim.LBFGS([found], max_iter=100, line_search_fn="strong_wolfe")

def squared_error():
    minimiser.zero_grad()
    loss = F.mse_loss(conv2d(grass, found), wanted)
    loss.backward()
    return loss


minimiser.step(squared_error)
print(found.detach()[0, 0].round(decimals=3) + 0)

# %% tags=["claims"]
assert (found - sobel).abs().max() < 0.01


# %% [markdown]
# Sobel's numbers can be found. A network finds all its kernels at once. Its examples are labelled images, and its loss compares the last layer with the
# label.
#
# ### A small network
#
# The network below has three convolutions. After each one come batch normalisation (BN, 批归一化, [chapter 3b](ch03b_resnet.ipynb)) and the activation
# function (激活函数) ReLU, $\max(0,x)$. Without ReLU two convolutions in a row would be one convolution (section 13 shows it). BN gives each channel mean 0
# and variance 1 over the batch, and has two learned numbers for each channel. Before you run the cell: what are the channels and the size after each
# layer? (*Linear* is a fully connected layer.)

# %%
def cnn():
    def block(ins, outs):
        return nn.Conv2d(ins, outs, 3, padding=1), nn.BatchNorm2d(outs), nn.ReLU()
    return nn.Sequential(*block(1, 32), *block(32, 32), nn.MaxPool2d(2), *block(32, 64),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


drawings.draw_cnn(plt.figure(figsize=(7, 1.2)))
print(f"{sum(p.numel() for p in cnn().parameters()):,} parameters")

# %% [markdown]
# ### The words of training
#
# - The network gives ten numbers, the **logits** (对数几率). **Softmax** (归一化指数函数) makes probabilities of them: $p_k=e^{z_k}/\sum_j e^{z_j}$. By hand for
#   two classes: the logits $(2,0)$ give $7.39/(7.39+1)=0.88$ and $0.12$.
# - **Cross-entropy** (交叉熵) is the loss: $-\log p$ of the right class, the mean over the batch. With the right class 0 it is $-\log0.88=0.13$, with the
#   right class 1 it is $2.13$. The unit is the **nat** (奈特), since the logarithm is natural. Guessing one of ten classes gives $\log10=2.30$ nats.
# - One **step** (步) uses one batch of 64 images. One **epoch** (轮次) uses every training image once: 23 steps, the last one with the 29 images that remain.
# - The **optimizer** (优化器) changes the weights. The gradient says how the loss grows, so each step goes against the gradient. **Adam** [Kingma & Ba 2014]
#   has a step size of its own for each weight. The **learning rate** (学习率) scales all steps. A **schedule** changes it during training: here it rises, and
#   then falls to nearly 0.
# - A **seed** (随机种子) fixes all random numbers. We train with three seeds, to see how much results vary.
# - `.train()` and `.eval()` switch layers such as BN between training and evaluation. `frozen` is used in section 9: it is the number of convolutions,
#   counted from the image, that keep their random weights.

# %%
seeds, epochs = range(runtime.pick(quick=3, full=6)), runtime.pick(quick=12, full=30)

def train(seed, x=images, make=cnn, frozen=0):         # -> network in evaluation mode, losses
    runtime.seed_everything(seed)
    net, losses = make(), []
    for layer in [each for each in net if isinstance(each, nn.Conv2d)][:frozen]:
        layer.requires_grad_(False)
    batches = [b for _ in range(epochs) for b in torch.randperm(len(x)).split(64)]
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=len(batches))
    for batch in batches:
        loss = F.cross_entropy(net(x[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses = [*losses, loss.item()]
    return net.eval(), losses


trained = [train(seed) for seed in seeds]
_, axes = plt.subplots(figsize=(7, 2.2))
for _, losses in trained:
    axes.plot(range(1, epochs + 1), torch.tensor(losses).view(epochs, -1).mean(1), color=plot.BLUE)
axes.set(yscale="log", xlabel="epoch", ylabel="training loss, nats", title="one line a seed");

# %% [markdown]
# ### Is it any good?
#
# Two simple baselines (基线) know nothing of neighbourhood: logistic regression (逻辑回归), which is one linear layer on the 64 pixels, and the three nearest
# neighbours (最近邻). All methods learn from the same 1,437 images. They answer for 360 held-out digits, and for the same digits moved by one pixel right,
# left, down and up. No method has seen a digit that we moved. (Moving also pushes some ink out of the image.)

# %%
from sklearn import linear_model, neighbors

moves = {"right": (0, -1), "left": (0, 1), "down": (-1, 0), "up": (1, 0)}
framed = F.pad(test_images, (1, 1, 1, 1))
moved = {way: framed[..., 1 + a : 9 + a, 1 + b : 9 + b] for way, (a, b) in moves.items()}
linear = linear_model.LogisticRegression(max_iter=2000).fit(images.flatten(1), labels)
nearest = neighbors.KNeighborsClassifier(3).fit(images.flatten(1), labels)
readers = {"logistic regression": [lambda z: linear.predict(z.flatten(1))],
           "3 nearest neighbours": [lambda z: nearest.predict(z.flatten(1))],
           "CNN": [lambda z, net=net: net(z).argmax(1) for net, _ in trained]}

def correct(read, batches):                  # -> (batches · 360,) bool
    return torch.cat([torch.as_tensor(read(each)) == test_labels for each in batches])


trials = {"held out": [test_images], "moved by one pixel": list(moved.values())}
results = {trial: {name: [correct(read, batches).float().mean().item() for read in group]
                   for name, group in readers.items()} for trial, batches in trials.items()}
for trial, shares in results.items():
    print(f"{trial:>18}:", *(f"{name} {torch.tensor(s).mean():.1%}" for name, s in shares.items()))

# %% [markdown]
# On digits in their usual place the CNN and the neighbours are close. Is the difference real? Both methods answer for the *same* 360 images, so the data
# are **paired**. Two separate confidence intervals do not use the pairing. McNemar's test counts only the images on which the two methods disagree: on $b$
# of them the CNN alone is right, on $c$ of them the neighbours alone. If both methods were equally good, each disagreement would be like the toss of a
# coin. By hand: $b=4$, $c=1$. The probability of at least 4 heads or at least 4 tails in 5 tosses is $2\cdot(5+1)/32=0.38$. So 4 against 1 is no evidence.
# The cell tests the network of the first seed.

# %%
from scipy.stats import binomtest

paired = {}
for trial, batch in (("held out", test_images), ("moved right", moved["right"])):
    ours_right, theirs_right = (correct(readers[name][0], [batch])
                                for name in ("CNN", "3 nearest neighbours"))
    b, c = (ours_right & ~theirs_right).sum().item(), (theirs_right & ~ours_right).sum().item()
    p = binomtest(b, b + c).pvalue
    paired[trial] = {"b": b, "c": c, "p": p}
    print(f"{trial:>11}: CNN alone right {b}, neighbours alone right {c}, p = {p:.2g}")

# %% tags=["claims"]
average = lambda trial, name: torch.tensor(results[trial][name]).mean()
assert paired["held out"]["p"] > 0.01 and paired["moved right"]["p"] < 1e-4
assert average("held out", "CNN") > 0.985 and average("moved by one pixel", "CNN") > 0.85


# %% [markdown]
# For the network of the first seed, the difference on the held-out digits is not significant. On digits moved to the right by one pixel the CNN is clearly
# better.
#
# ## 9 See inside: what did training change?
#
# The question of this chapter was how a network finds good numbers. So compare the kernels before and after training, layer by layer. The cosine is 1 if
# the kernel kept its direction and only its length changed. It is 0 if the new kernel is orthogonal to the old one.
#
# Then **freeze**: train again, but the first convolution keeps its random numbers. And once more, with all three convolutions frozen: then only BN and
# the last layer learn. What do you expect?

# %%
def share(net, batches):                     # of right answers
    return correct(lambda z: net(z).argmax(1), batches).float().mean().item()

def cosines(net, seed):                      # of each convolution, before and after training
    runtime.seed_everything(seed)
    pairs = [(a.weight, b.weight) for a, b in zip(cnn(), net) if isinstance(a, nn.Conv2d)]
    return [F.cosine_similarity(a.flatten(1), b.flatten(1)).mean().item() for a, b in pairs]


alike = torch.tensor([cosines(net, seed) for seed, (net, _) in zip(seeds, trained)]).mean(0)
print("cosine by layer:", *(f"{cosine:.2f}" for cosine in alike))
frozen = {"none": [net for net, _ in trained]}
for name, count in {"the first": 1, "all three": 3}.items():
    frozen[name] = [train(seed, frozen=count)[0] for seed in seeds]
kept = {}
for name, nets in frozen.items():
    kept[name] = {trial: [share(net, batches) for net in nets] for trial, batches in trials.items()}
    row = {trial: torch.tensor(shares) for trial, shares in kept[name].items()}
    print(f"frozen {name:>9}:", *(f"{t} {s.mean():.1%} ± {s.std():.1%}" for t, s in row.items()))

# %% tags=["claims"]
assert alike[0] > 0.9 > 0.8 > alike[1] > alike[2]
of_frozen = lambda name: torch.tensor(kept[name]["held out"]).mean()
assert of_frozen("the first") > of_frozen("none") - 0.01
assert of_frozen("all three") < of_frozen("none") - 0.05

# %% [markdown]
# The directions of the later kernels changed most. (The later kernels start with smaller weights. Therefore a step of the same size changes their
# direction more.) Freezing the first layer costs nothing measurable here. With *all* convolutions frozen the accuracy falls clearly. So on these digits it
# is enough that the later layers learn. Section 2 shows only the trained kernels of EfficientNet, so it cannot say how far they moved. Before you
# interpret a picture of learned filters, compare the filters with their random initial values.
#
# The next picture shows eight of the first kernels: at random, after training, and what they see in one digit, their feature maps (特征图).

# %%
digit, first = test_images[[7]], trained[0][0][0]
drawings.draw_first_layer(plt.figure(figsize=(7, 2.7)), frozen["all three"][0][0].weight.detach(),
                          first.weight.detach(), first(digit)[0].detach(), digit[0])
assert_close(conv2d(digit, first.weight, first.bias, padding=1), first(digit))

# %% [markdown]
# ## 10 Going deeper: break it
#
# Which part helps on moved digits? In the first variant, *no mean*, a linear layer over all 64·4·4 values replaces the mean over the positions. (This
# layer has 10,250 parameters, the layer after the mean has 650.) The second variant is called *shuffled*. The 64 pixels of all images are shuffled in the
# same way. No information is lost, but pixels side by side have nothing to do with each other any more. How much worse will the CNN be?

# %%
order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
shuffle = lambda z: z.flatten(1)[:, order].view_as(z)
flat = lambda: nn.Sequential(*list(cnn())[:-3], nn.Flatten(), nn.Linear(64 * 4 * 4, 10))
by_position = [share(train(seed, make=flat)[0], trials["moved by one pixel"]) for seed in seeds]
twins = {"moved, with mean": torch.tensor(results["moved by one pixel"]["CNN"]),
         "moved, no mean": torch.tensor(by_position),
         "held out": torch.tensor(results["held out"]["CNN"]),
         "held out, shuffled": torch.tensor([share(train(seed, shuffle(images))[0],
                                                   [shuffle(test_images)]) for seed in seeds])}
for name, values in twins.items():
    print(f"{name:>18}: {values.mean():.1%} ± {values.std():.1%} over {len(seeds)} seeds")

# %% tags=["claims"]
assert twins["moved, no mean"].mean() < twins["moved, with mean"].mean() - 0.05
assert twins["held out, shuffled"].mean() < twins["held out"].mean()


# %% [markdown]
# Without the mean the accuracy on moved digits falls clearly. The convolution moves its output along with the digit, and the mean does not depend on the
# position. Shuffling makes the CNN worse, but it still recognises nearly all digits. After the last convolution a position in the middle has a receptive
# field of 10×10 pixels, larger than the digit, so it can combine pixels that were moved far apart. (Positions at the border see only a part of the image.)
# On images that are much larger than the receptive field this may be different.
#
# ## 11 Going deeper: fast convolution
#
# Loops in Python are slow. Textbooks answer with *im2col*: copy each window into a column of a large matrix, then one matrix product does everything. A
# 3×3 kernel makes nine copies of the image. The package loops over the nine kernel positions $(m,n)$. For each position it shifts the image, multiplies
# the channels by the matrix $w_{:,:,m,n}$, and adds the result.

# %%
def shifted_products(x, w):                  # (B, C, H, W), (O, C, K, K) -> (B, O, Ho, Wo)
    K = w.shape[-1]
    Ho, Wo = x.shape[2] - K + 1, x.shape[3] - K + 1
    return sum(torch.einsum("oc, bcij -> boij", w[..., m, n], x[..., m : m + Ho, n : n + Wo])
               for m, n in product(range(K), repeat=2))


many, filters = torch.randn(4, 32, 56, 56), torch.randn(32, 32, 3, 3)
windows = F.unfold(many, 3)                  # im2col: (B, C·K·K, Ho·Wo)
for y in (shifted_products(many, filters), (filters.flatten(1) @ windows).view(4, 32, 54, 54)):
    assert_close(y, F.conv2d(many, filters), rtol=1e-3, atol=1e-3)
print(f"image {many.nbytes / 1e6:.1f} MB, im2col matrix {windows.nbytes / 1e6:.1f} MB")

# %% [markdown]
# The matrix of im2col is about nine times as large as the image. `python benchmarks/convolution.py` compares the times; this chapter does not.
#
# ## 12 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch03a.1")` helps in steps, `solution("ch03a.1")` shows one answer.
#
# **1 · Predict.** A photograph `(1, 3, 224, 224)` goes through the first two layers of torchvision's AlexNet: 64 kernels of 11×11 with stride 4 and
# padding 2, then max pooling 3×3 with stride 2. Which shape comes out? Answer without running a layer.

# %%
shape = ...                                  # (B, C, H, W)
check("ch03a.1", shape)


# %% [markdown]
# **2 · Derive.** Which padding makes a layer with stride 2 and dilation 1 halve the size exactly, for every even `n` and every kernel size? The result may
# depend on `kernel`, and need not use `n`.

# %%
def halving_padding(n, kernel):              # -> the padding, a whole number
    ...


check("ch03a.2", halving_padding)


# %% [markdown]
# **3 · Recognise.** Average pooling with windows that do not overlap is a convolution. Write it with `conv2d`, for `x` of any number of channels. Rows and
# columns that are left over are dropped. (With `groups=C` the weight has the shape `(C, 1, K, K)`: output channel `c` uses input channel `c` alone.)

# %%
def pool_as_convolution(x, window):          # (B, C, H, W) -> (B, C, H // window, W // window)
    ...


check("ch03a.3", pool_as_convolution)


# %% [markdown]
# **4 · Build.** Write the transposed convolution with `conv2d` (section 7, *the same as a convolution*): `x (B, C, H, W)`, `weight (C, O, K, K)`, any
# stride, no padding. The two channel axes of the weight change places.

# %%
def transpose_from_convolution(x, weight, stride):
    ...


check("ch03a.4", transpose_from_convolution)

# %% [markdown]
# **5 · Train, change, measure.** Is max pooling better than average pooling here? Write `average_cnn()`: the network `cnn()` with `nn.AvgPool2d(2)` in
# place of `nn.MaxPool2d(2)`. Train both with `train(seed, make=…)[0]` for the seeds 0, 1 and 2. Measure `share(net, trials["moved by one pixel"])`. Put
# the six numbers into a dict with the keys "max" and "average", each with a list of three numbers in the order of the seeds, and your conclusion under the
# key "conclusion": "max" or "average" for the larger share, or "no difference". Two means differ if their distance is larger than the sum of both standard
# deviations (with $n-1$). The six trainings take about as long as the two training cells of section 9.

# %%
poolings = ...                               # {"max": …, "average": …, "conclusion": …}
check("ch03a.5", poolings)

# %% [markdown]
# ## 13 Book check
#
# - **W01 · convolution.** §2.2.1 prints $\text{output}_{ij}=\sum_k \text{filter}_{ikj}\cdot\text{input}_{ikj}$. The kernel has the output's position $i,j$
#   as an index. So the kernel has separate weights for each position, as in the row *own* of section 3, and nothing is shared. Right is the formula of
#   section 4.
# - **I02 · its indices.** The formula sums over $k$. The text explains $k$ as a position (在位置$(i, k)$的值), and does not explain the third index.
# - **W09 · the formula of "deconvolution"** (反卷积) is letter by letter the formula of convolution. It cannot make an image larger. Right is the sum of
#   stamps in section 7. **W10 · the inverse**: section 7.
# - **W11 · average pooling.** Printed is a sum divided by $s$, "the size of the pooling window" (池化窗口的大小). The average of a white image must be white, so
#   a 2×2 window must be divided by 4. If $s$ is the side 2, the formula gives 2 instead of 1.
# - **W12 · max pooling.** Printed is $\max_k \text{input}_{ikj}$, a maximum at a fixed position. With one channel nothing happens. With several it is a
#   maximum over channels, which is not pooling.
# - **I01 · convolution or correlation**: section 4.
# - **I03 · pooling "reduces the dimension of the feature map"** (降低特征图的维度). It reduces the number of pixels: `(1, 64, 32, 32)` becomes `(1, 64, 16,
#   16)`. The number of channels stays.
# - **I05 · "inspired by the convolution in biological vision"** (来源于生物视觉系统中的卷积操作). Hubel and Wiesel [1962] found local receptive fields in the cat's
#   visual cortex. Neighbouring neurons do not share weights. Sharing is engineering, since Fukushima's Neocognitron [1980].
# - **I04 · the diagram of a CNN** in §2.2 has no activation, and calls the class scores "features". What can this diagram compute without a non-linear
#   function? The cell shows that two convolutions become one, and that the whole diagram becomes one matrix.

# %%
sheet, one, two = (torch.randn(*shape) for shape in ((1, 3, 12, 12), (8, 3, 3, 3), (4, 8, 3, 3)))
both = conv_transpose2d(two, one)            # the two kernels folded into one, 5×5
assert_close(conv2d(conv2d(sheet, one), two), conv2d(sheet, both), rtol=1e-3, atol=1e-3)
with_relu = conv2d(conv2d(sheet, one).relu(), two)
diagram = lambda z: avg_pool2d(conv2d(z, sobel), 2).flatten(1)         # z (B, 1, 8, 8)
as_matrix, batch = diagram(torch.eye(64).view(64, 1, 8, 8)), torch.randn(5, 1, 8, 8)
assert_close(diagram(batch), batch.flatten(1) @ as_matrix, rtol=1e-3, atol=1e-4)
print(f"one kernel {tuple(both.shape)} does the work of both; "
      f"with ReLU it is off by {(with_relu - conv2d(sheet, both)).abs().max():.0f}")

# %% [markdown]
# ## 14 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook trains six seeds, and each network for thirty epochs. The published runs gave these results:

# %%
by_freezing = {f"frozen: {name}": rows for name, rows in kept.items()}
broken = {name: values.tolist() for name, values in twins.items()}
records.record("ch03a", seed=list(seeds), **{trial.replace(" ", "_"): shares for trial, shares in
               results.items()}, paired_test=paired, cosine_by_layer=alike.tolist(),
               frozen=by_freezing, broken=broken);

# %% tags=["record"]
records.show("ch03a", "quick")
records.show("ch03a", "full")

# %% [markdown]
# ## 15 What we learned
#
# 1. A convolution multiplies a small kernel with every window of the image and adds: local, and with shared weights.
# 2. The size of every output follows from how many windows fit, or from where the last stamp ends.
# 3. With stride 1 the output moves with the image exactly. Pooling is only partly invariant.
# 4. The transposed convolution is the transpose of the convolution, and not its inverse.
# 5. A network finds its kernels by the gradient of its loss. Here the later layers changed most, and the first layer was good enough at random.
#
# **References.** V. Dumoulin, F. Visin, *A guide to convolution arithmetic for deep learning*, 2016, arXiv:1603.07285 · A. Araujo, W. Norris, J. Sim,
# *Computing receptive fields of convolutional neural networks*, Distill, 2019, doi:10.23915/distill.00021 · A. Odena, V. Dumoulin, C. Olah,
# *Deconvolution and checkerboard artifacts*, Distill, 2016, doi:10.23915/distill.00003 · M. Tan, Q. Le, *EfficientNet: rethinking model scaling for
# convolutional neural networks*, ICML 2019, arXiv:1905.11946 · D. Kingma, J. Ba, *Adam: a method for stochastic optimization*, ICLR 2015 [2014],
# arXiv:1412.6980 · Q. McNemar, *Note on the sampling error of the difference between correlated proportions or percentages*, Psychometrika 12, 1947 ·
# D. Hubel, T. Wiesel, *Receptive fields, binocular interaction and functional architecture in the cat's visual cortex*, Journal of Physiology 160, 1962
# · K. Fukushima, *Neocognitron*, Biological Cybernetics 36, 1980 · E. Alpaydin, C. Kaynak, *Optical recognition of handwritten digits*, UCI, 1998.
