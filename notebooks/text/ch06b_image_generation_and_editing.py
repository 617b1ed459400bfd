# %% [markdown]
# # 6b · Image generation and editing (图像生成与编辑)
#
# *Book: §6.2, 实战项目2：图像生成与编辑*
#
# **A photograph is too small, has a scratch, or should look like a painting. What can a network add that is not in the photograph, and how do we know
# that the result is good?**
#
# After this chapter you can
#
# - enlarge a photograph with a network of your own, and say by how many decibels it beats interpolation,
# - fill a hole in a photograph, and test whether a network fills it better than a formula,
# - give a photograph the style of a painting, and explain what a Gram matrix keeps and what it forgets,
# - measure an edited image in three ways, and show where two of them disagree with the eye,
# - edit your own photographs, in the notebook or from the command line.
#
# You need these terms: convolution ([chapter 3a](ch03a_convolution_and_pooling.ipynb)), residual block ([chapter 3b](ch03b_resnet.ipynb)), U-Net
# ([chapter 3c](ch03c_unet.ipynb)), generator, discriminator and Fréchet distance ([chapter 4a](ch04a_gan.ipynb)), latent ([chapter
# 4b](ch04b_vae.ipynb)). EfficientNet-Lite0 is a network of other authors that was trained to classify 1.3 million photographs; this chapter uses its
# first layers to measure images.
#
# The core path takes 40 minutes: sections 1 to 6 and section 12. The other sections go deeper. Run all cells from top to bottom. The first cell prints
# the time and the memory of a whole run. It also shows the main result of the published run.

# %% tags=["record"]
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import data, editing, plot, runtime
from vlmbook.training import fit
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch06b import application, experiments, figures as drawings, painting as art

runtime.seed_everything(0)
plot.use_style()
records.published("ch06b")
published = records.RESULTS / "ch06b.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)], width=4.8);

# %% [markdown]
# ## 1 The data, looked at
#
# Editing networks need photographs and no labels (标签). The true answer is the photograph itself: we make it small, or cut a hole into it, and the network
# has to restore it. This is called self-supervised learning (自监督学习).
#
# Ten photographs of the library scikit-image are the training set (训练集), four others are the test set (测试集). The book's steps (§6.2.2) are in this
# order here: first **split** (划分) the photographs, then cut squares out of them, then **augment** (数据增强) the squares of the training set by turning and
# mirroring. If we cut squares first, squares of one photograph would be on both sides of the split.

# %%
training = experiments.cut_photos(experiments.TRAINING, 384)
held_out = experiments.cut_photos(experiments.HELD_OUT, 256)
plot.gallery(list(training.values()), list(training), columns=5, width=3.8)
plot.gallery(list(held_out.values()), [f"held out: {name}" for name in held_out], width=4.6);

# %% [markdown]
# ## 2 Enlarge: the idea
#
# **Super-resolution** (超分辨率) makes a photograph larger, with details that the small one does not show. First we have to say how the small photograph $y$
# came from the large one $x$. This is the **degradation model** (退化模型):
#
# $$y=(x*k)\downarrow_s+\,n$$
#
# The photograph is blurred with a kernel (核) $k$, each $s$-th row and column is kept, and noise (噪声) $n$ is added. The blur is necessary: without it, fine
# patterns turn into false coarse patterns (aliasing, 混叠). Here $s=2$, and $n$ is the small error of rounding to 8 bits. The kernel $k$ is the **bicubic**
# (双三次) kernel, a weighted mean of 8×8 pixels. (The drawing shows a Gaussian blur as a sketch of this step.) The last arrow is the way back.

# %%
eye = held_out["astronaut"][:, 90:114, 92:124]
small_eye = experiments.shrink(eye)
steps = {
    "x (3, 24, 32)": eye,
    "blurred": experiments.blur(eye, 0.8),
    "y (3, 12, 16)": small_eye,
    "enlarged (3, 24, 32)": editing.upscale(small_eye, 2),
}
drawings.draw_chain(
    plt.figure(figsize=(7.5, 1.7)), steps, ["blur", "every\n2nd row,\ncolumn", "net-\nwork"]
)

# %% [markdown]
# Many large photographs give the same small one. So no method can be sure of the details. **Interpolation** (插值) gives a smooth large photograph. A
# network learns from other photographs how edges and textures (纹理) look. Trained with the absolute error, the network gives for each pixel about the
# median (中位数) of the likely values.
#
# ### Make pixels from channels, by hand
#
# All convolutions of our network work on the small image, because a convolution on the large image takes four times as long. At the end there are four
# numbers for each small pixel, in four channels. The **pixel shuffle** (像素重排) makes a 2×2 square of them [Shi et al. 2016]:
#
# $$\text{out}[\,2r+i,\;2c+j\,]=\text{in}[\,2i+j,\;r,\;c\,],\qquad i,j\in\{0,1\}$$
#
# Take the four maps below. Which number stands in row 3, column 0 of the result? (Rows and columns count from 0.)

# %%
maps = torch.arange(16.0).view(4, 2, 2)
shuffled = torch.zeros(4, 4)
for i in range(2):
    for j in range(2):
        for r in range(2):
            for c in range(2):
                shuffled[2 * r + i, 2 * c + j] = maps[2 * i + j, r, c]
assert_close(F.pixel_shuffle(maps[None], 2)[0, 0], shuffled)
drawings.draw_shuffle(plt.figure(figsize=(7, 1.7)), maps, shuffled)
print("row 3, column 0:", shuffled[3, 0].item())

# %% [markdown]
# Row 3 is $2r+i$ with $r=1,\ i=1$. Column 0 is $2c+j$ with $c=0,\ j=0$. So the number comes from channel $2i+j=2$, row 1, column 0: it is 10. The loop and
# PyTorch's `pixel_shuffle` agree.
#
# ### Measure the result: PSNR
#
# The **peak signal-to-noise ratio** (峰值信噪比, PSNR) turns the mean squared error (均方误差, MSE) of pixels in [0, 1] into decibels:
#
# $$\text{PSNR}=10\log_{10}\frac{1}{\text{MSE}}$$
#
# If each pixel is wrong by 0.1, the MSE is 0.01, and the PSNR is $10\log_{10}100=20$ dB. What is the PSNR if each pixel is wrong by 0.05?

# %% tags=["claims"]
grey = torch.full((1, 8, 8), 0.5)
for error, decibels in ((0.1, 20), (0.05, 26.02), (0.01, 40)):
    assert abs(editing.psnr(grey + error, grey) - decibels) < 0.01


# %% [markdown]
# Half of the error gives a quarter of the MSE. So the PSNR is $10\log_{10}4=6.02$ dB (分贝) higher: 26.02 dB. Below 25 dB faults are usually easy to see,
# above 40 dB hard to see. Papers on super-resolution measure the PSNR of the **luma** (亮度) alone, $Y=0.299R+0.587G+0.114B$, because eyes see fine
# details in colour much less than in brightness. We do the same in sections 3, 4 and 14 and in exercise 5. The other sections measure red, green and
# blue. Our network also works on the luma only. The two colour differences, $B-Y$ and $R-Y$ but for a factor, are interpolated.
#
# ## 3 Enlarge: build and train the network
#
# The network has residual blocks at the small size, then the pixel shuffle. A long shortcut (捷径连接) adds the bicubic interpolation at the end. So the
# network has to learn the *difference* only. A second shortcut adds the output of the first convolution to the output of the last block. The last layer
# starts at 0. What does the network give before the training?

# %%
class Upscaler(nn.Module):  # (B, 1, H, W) -> (B, 1, 2H, 2W)
    def __init__(self, width=24, depth=2):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.last = nn.Conv2d(width, 4, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x):
        y = features = self.first(x)
        for block in self.blocks:
            y = block(y)
        return editing.enlarge_bicubic(x, 2) + F.pixel_shuffle(self.last(y + features), 2)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(x)))


# %%
parts = [
    ("image", "1, H, W"),
    ("conv 3×3", "24, H, W"),
    ("block 1", "24, H, W"),
    ("block 2", "24, H, W"),
    ("+", "24, H, W"),
    ("conv 3×3", "4, H, W"),
    ("pixel\nshuffle", "1, 2H, 2W"),
    ("+", "1, 2H, 2W"),
]
drawings.draw_network(
    plt.figure(figsize=(7.5, 2.2)), parts, [(1, 4, ""), (0, 7, "bicubic interpolation")]
)
network = Upscaler()
some = torch.rand(1, 1, 12, 15)
assert_close(network(some), editing.enlarge_bicubic(some, 2))  # before the training: interpolation
print(f"{sum(weight.numel() for weight in network.parameters()):,} parameters")

# %% [markdown]
# The last layer gives 0, so nothing is added to the interpolation. Before the training the network is exactly the bicubic interpolation.
#
# A training pair is a square of 24×24 pixels of the small photograph and the same part of the large one, 48×48 pixels. The function `cut_pairs` draws
# the squares and puts each one into one of eight positions (turned and mirrored). The loss is the mean absolute error (平均绝对误差). Section 4 compares it
# with the squared error. After the training we measure the four held-out (留出) photographs: the gain (增益) is the PSNR of the network minus the PSNR of
# the interpolation, on the same photograph.

# %%
squares = runtime.pick(quick=6_000, full=80_000)
small, large = editing.cut_pairs(
    list(training.values()), 2, size=24, count=squares, generator=torch.Generator().manual_seed(0)
)
runtime.seed_everything(0)
network = Upscaler()
history = fit(
    network,
    (small, large),
    loss_fn=editing.upscaling_loss,
    epochs=1,
    batch_size=16,
    lr=3e-3,
    optimizer=torch.optim.Adam, progress=False,
)
trained_here = editing.load_network(network.state_dict(), 2)  # the package's class, the same layers
methods = {
    "bicubic": lambda x: editing.enlarge_bicubic(x, 2),
    "trained here": lambda x: editing.upscale(x, 2, network=trained_here),
    "shipped weights": lambda x: editing.upscale(x, 2),
}
quality = experiments.measure_upscaling(methods, list(held_out.values()))
for name, values in quality.items():
    psnrs = torch.tensor(values["PSNR"])
    print(f"{name:16}", *(f"{value:6.2f}" for value in psnrs), f"dB, mean {psnrs.mean():.2f} dB")

# %% [markdown]
# Each column is one of the four photographs. Our small network is better than the interpolation on each of them, after a short training. The
# **shipped weights** (随书权重) belong to a larger network of the same kind (64 channels, 8 blocks). The larger network was trained much longer, on 400
# other photographs. The function `upscale(image, 2)` uses it, and takes your own images of any size.

# %% tags=["claims"]
gain = {
    name: torch.tensor(values["PSNR"]) - torch.tensor(quality["bicubic"]["PSNR"])
    for name, values in quality.items()
}
assert gain["trained here"].mean() >= 0.5 and gain["trained here"].min() > 0
assert (
    gain["shipped weights"].min() > 0
    and gain["shipped weights"].mean() > gain["trained here"].mean()
)

# %% [markdown]
# ## 4 Enlarge: see the result, and break it
#
# Move the sliders: the box shows another part of the photograph. Where is the difference between the networks and the interpolation large, and where is
# there no difference?

# %%
enlarged = {}
for name, photograph in held_out.items():
    tiny = experiments.shrink(photograph)
    enlarged[name] = {"small": tiny} | {
        method: enlarge(tiny) for method, enlarge in methods.items()
    }
    enlarged[name]["original"] = photograph


def look_closer(figure, photograph="rocket", left=110, top=90):
    drawings.draw_zoom(figure, held_out[photograph], enlarged[photograph], (left, top, 48))


interact.live(
    look_closer, photograph=list(held_out), left=(0, 200, 10), top=(0, 200, 10), figsize=(7.5, 1.5)
)

# %% [markdown]
# The difference is large at edges and thin lines, and small in smooth parts such as the sky.
#
# The network has learned to reverse **one** degradation: the blur by the bicubic kernel. What happens with small photographs that were produced by
# another degradation? We change the degradation, and use the same weights. (*Blurred before* means: a Gaussian blur with σ = 1.5 pixels, and then the
# usual degradation. *Every second pixel* means: no blur. This also shifts the image by half a pixel of the large photograph. The row *the same, shift
# corrected* shows the values without this shift.) A value above 0 means that the network is still better than the interpolation.

# %%
gains = experiments.measure_degradations(methods["shipped weights"], list(held_out.values()))
drawings.draw_differences(plt.figure(figsize=(7, 2.8)), gains, "gain over bicubic, dB", "bicubic")

# %% [markdown]
# Each grey point is one photograph, the diamond is the mean with its standard error (标准误). With a little noise the gain is smaller. With weak JPEG
# compression (quality 80) or more blur the mean gain is positive, but below 0.5 dB. With more noise, with strong JPEG compression, or if each second
# pixel was kept without a blur (with and without the shift), the network is on average *worse* than the interpolation. So a published PSNR is valid for
# one degradation only. Exercise 5 trains a network for noisy photographs.

# %% tags=["claims"]
mean_gain = {name: sum(values) / len(values) for name, values in gains.items()}
assert (
    mean_gain["as in training"] > mean_gain["noise, σ = 3/255"] > 0 > mean_gain["noise, σ = 10/255"]
)
assert mean_gain["every second pixel"] < 0 and mean_gain["JPEG, quality 30"] < 0
assert mean_gain["the same, shift corrected"] < 0

# %% [markdown]
# **Going deeper: which parts matter?** We train four small networks with three seeds each. With the same seed, the four networks start with the same
# weights, and see the same squares in the same order. Only the named part differs.

# %%
ablation = experiments.ablate_upscaler(
    list(training.values()), list(held_out.values()), count=runtime.pick(quick=800, full=24_000)
)
drawings.draw_differences(
    plt.figure(figsize=(7, 1.8)), ablation, "mean gain over bicubic, dB", "bicubic"
)

# %% [markdown]
# Each grey point is one seed. Without the bicubic shortcut the network has to learn the whole image. After this short training it is several decibels
# worse than the interpolation. The full profile repeats this with 24,000 squares: then its gain is positive, and still the smallest of the four (section
# 14). Three seeds show no clear difference between the absolute and the squared error. In these networks of three blocks, the shortcuts in the blocks
# change the gain much less than the bicubic shortcut. The three networks with the bicubic shortcut are about as good as the interpolation here, because
# they have only 16 channels and see only 800 squares. The network of section 3 has 24 channels and sees 6,000 squares. (The learning rate was not tuned
# for each of them.)

# %% tags=["claims"]
by_variant = {name: torch.tensor(values) for name, values in ablation.items()}
if runtime.profile() == "quick":
    assert by_variant["no bicubic shortcut"].max() < min(0, by_variant["complete"].min())
losses_apart = by_variant["complete, squared error"] - by_variant["complete"]
assert losses_apart.mean().abs() < max(0.2, 4.3 * losses_apart.std() / 3**0.5)

# %% [markdown]
# ## 5 Fill a hole
#
# **Inpainting** (图像修复) fills a hole (孔洞) in a photograph. The **mask** (掩码) is 1 in the hole and 0 elsewhere. Old methods solve an equation. In a row of
# pixels $0, a, b, 3$ the equation "each unknown pixel is the mean of its neighbours" (Laplace's equation, 拉普拉斯方程) reads $a=(0+b)/2$ and $b=(a+3)/2$. Its
# solution is $a=1,\ b=2$: a straight line between the known pixels. A loop finds the solution: it replaces each unknown pixel by the mean of its
# neighbours, again and again.

# %%
row = torch.tensor([0.0, 0.0, 0.0, 3.0])
for step in range(1, 61):
    row[1:3] = (row[0:2] + row[2:4]) / 2
    if step in (1, 2, 5, 60):
        print(f"step {step:2}:", row.tolist())


# %% [markdown]
# The **biharmonic** (双调和) equation [Damelin & Hoang 2018] also continues the slope of the brightness from the border into the hole. Neither equation uses
# knowledge about photographs. A network can learn how lines and textures continue [Pathak et al. 2016].
#
# A convolution treats known pixels and pixels of the hole in the same way. A **gated convolution** (门控卷积) can treat them differently: it computes two
# numbers for each position and channel, a feature and a gate (门), and multiplies them [after Yu et al. 2019]:
#
# $$\text{output}=\text{ELU}(W_f*x)\cdot\text{sigmoid}(W_g*x)$$
#
# ELU is a smooth relative of ReLU. The sigmoid is between 0 and 1: a feature of 5 with a gate of 0.1 gives 0.5. The mask is one of the input channels, so
# the layer can learn gates that are small in the hole. (Our layer also normalises both numbers, so that it learns fast.) Here is the layer:

# %%
class GatedConv(nn.Module):  # (B, C, H, W) -> (B, D, H, W)
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.both = nn.Conv2d(in_channels, 2 * out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2 * out_channels)

    def forward(self, x):
        feature, gate = self.norm(self.both(x)).chunk(2, dim=1)
        return F.elu(feature) * torch.sigmoid(gate)


sizes = [(16, 2), (32, 4), (64, 8), (128, 16), (64, 8), (32, 4), (16, 2)]
parts = [
    ("filled\nluma,\nmask", "2, H, W"),
    ("fold", "8,\nH/2, W/2"),
    *(("gated\n× 2", f"{width},\nH/{size}, W/{size}") for width, size in sizes),
    ("1×1,\nunfold", "1, H, W"),
    ("+ in\nthe\nhole", "1, H, W"),
]
shortcuts = [(4, 6, ""), (3, 7, ""), (2, 8, ""), (0, 10, "the luma with the smooth filling")]
drawings.draw_network(plt.figure(figsize=(7.5, 2.2)), parts, shortcuts)

# %% tags=["claims"]
ours, package = GatedConv(2, 3), editing.GatedConv2d(2, 3)
package.load_state_dict(ours.state_dict())
some = torch.rand(4, 2, 9, 11)
assert_close(ours(some), package(some))

# %% [markdown]
# The layer is the same as the package's. The network is a U-Net of gated convolutions. It works on the luma, like the network for super-resolution. It
# has two inputs: the luma with the **smooth filling** in the hole, and the mask. The smooth filling is nearly the solution of Laplace's equation. At the
# start, squares of 2×2 pixels are folded into channels (the inverse of the pixel shuffle). Pooling halves the size three times on the way down; on the
# way up the size is doubled three times. The pixel shuffle at the end unfolds the channels. Inside the hole, the output of the network is added to the
# smooth filling. The known pixels stay as they are, and the colours of the hole are those of the smooth filling.
#
# Move the sliders. Is the network better than the biharmonic formula for each width of the strokes, and for each seed?

# %%
from vlmbook.pretrained import weights_card

inpainter = editing.inpainter()
cup_part = held_out["coffee"][:, 40:200, 60:220]


def widen_strokes(figure, brush=0.05, seed=8):
    drawings.draw_hole(figure, cup_part, inpainter, brush, seed)


interact.live(widen_strokes, brush=(0.02, 0.2, 0.01), seed=(0, 9), figsize=(5.5, 3))

# %% [markdown]
# One photograph is not enough: another seed puts the strokes at other positions, and the order of the two methods can change. So we measure four
# photographs with eight holes of each kind: thin strokes (free-form, a brush of 3 % of the side), wide strokes (free-form wide, 6 %) and rectangles
# (block, 4 % of the area). Each difference is between two fillings of the *same* hole. A value above 0 means that the network is better than the
# biharmonic formula. The simplest method, the mean colour, is in the table too. A grey point is one photograph, the mean of its eight holes.

# %%
fillers = {
    "mean colour": experiments.fill_with_mean,
    "smooth": lambda image, mask: editing.fill_smoothly(image[None], mask[None])[0],
    "biharmonic": experiments.fill_biharmonic,
    "learned": lambda image, mask: editing.inpaint(image, mask, network=inpainter),
}
cut = [experiments.cut_middle(photograph, 160) for photograph in held_out.values()]
filled = experiments.list_psnr(
    editing.measure_inpainting(cut, fillers, each=runtime.pick(quick=8, full=32))
)
against = {}
for kind, values in filled.items():
    print(
        f"{kind:14}", *(f"{name} {sum(v) / len(v):.1f} dB" for name, v in values.items()), sep="  "
    )
    against[kind] = (torch.tensor(values["learned"]) - torch.tensor(values["biharmonic"])).tolist()
of_13 = weights_card("ch06b_inpaint")["quality"]  # measured once, with four holes a photograph
for kind in filled:
    mean, error = of_13[f"{kind} ours minus biharmonic, dB, mean and standard error"]
    wins = of_13[f"{kind} photographs on which ours is better"]
    print(f"13 photographs, {kind}: {mean:+.2f} ± {error:.2f} dB, better on {wins}")
drawings.draw_differences(
    plt.figure(figsize=(7, 1.7)), against, "learned − biharmonic, dB in the hole", "equal"
)

# %% [markdown]
# One colour is the worst filling of each photograph. On these four photographs the network is better than the biharmonic formula on average, for each
# kind of hole. Four photographs are few. The last lines show the same differences on 13 photographs that the network did not see in training: with
# strokes the mean is more than two standard errors above 0, with blocks it is not. With each kind of strokes the formula wins on four of the 13
# photographs, for example on smooth ones such as *baby* and *bird* of Set5. With blocks it wins on six. (The network has 0.9 million weights. It was
# trained on grey photographs, and corrects the luma only.)
#
# A wide hole has many good fillings. The network was trained with the squared error, and the best answer for the squared error is the *mean* of all good
# fillings. The mean is blurred. A generator like those of chapter 4 can draw one of the good fillings. This filling looks sharper. Its PSNR is often
# lower, because the drawn details are not exactly at the true positions [Blau & Michaeli 2018]. So the PSNR prefers the mean, although people may not.

# %% tags=["claims"]
for kind, values in filled.items():
    by_filler = torch.tensor([values[name] for name in fillers])  # (4 methods, 4 photographs)
    assert (by_filler[0] < by_filler[1:].amin(0)).all()  # the mean colour is the worst
    assert by_filler[3].mean() > by_filler[2].mean()
    mean, error = of_13[f"{kind} ours minus biharmonic, dB, mean and standard error"]
    assert (mean > 2 * error) == (kind != "block")
assert_close(row, torch.tensor([0.0, 1.0, 2.0, 3.0]))
hidden = torch.where(torch.rand(1, 160, 160) > 0.5, 0.0, 1.0)
probe = editing.block_mask((160, 160), share=0.05, generator=torch.Generator().manual_seed(3))
assert_close(
    fillers["learned"](torch.where(probe > 0, hidden, cup_part), probe),
    fillers["learned"](cup_part, probe),
)

# %% [markdown]
# ## 6 Paint in a style
#
# **Style transfer** (风格迁移) gives a photograph the style of a painting [Gatys et al. 2016, image style transfer]. No network is trained. The *pixels* are
# changed in small steps that reduce a loss. Two parts of the loss compare feature maps (特征图) of a network that was trained to classify photographs:
#
# - **Content** (内容): the feature map of the fourth of its 16 blocks should be that of the photograph.
# - **Style**: the **Gram matrices** (格拉姆矩阵) of its first layer (the stem) and its first four blocks should be those of the painting.
#
# The total loss is the content loss, plus a weight times the style loss, plus a small loss that keeps the image smooth (total variation, 全变分). The
# gradient (梯度) of the total loss with respect to the *pixels* says how to change the pixels. A network that classifies photographs has learned features
# of edges and textures, and such features describe a style better than pixels do.
#
# A Gram matrix says which features occur *together*. For features $F_{ip}$ ($i$: channel, $p$: pixel, $N$ pixels):
#
# $$G_{ij}=\frac1N\sum_p F_{ip}\,F_{jp}$$
#
# The example below has two channels and four pixels. Channel 0 is large where the image is blue, and channel 1 where it is yellow. Compute $G_{00}$,
# $G_{01}$ and $G_{11}$ by hand. Then put the pixels in another order. What happens to $G$?

# %%
features = torch.tensor(
    [[2.0, 2.0, 0.0, 0.0], [0.0, 2.0, 4.0, 0.0]]
)  # (D, N): 2 channels, 4 pixels


def gram(features):  # (D, N) -> (D, D)
    return features @ features.T / features.shape[1]


loop = torch.tensor(
    [
        [sum(features[i, p] * features[j, p] for p in range(4)) / 4 for j in range(2)]
        for i in range(2)
    ]
)
order = [3, 1, 0, 2]
assert_close(gram(features), loop)
assert_close(gram(features[:, order]), gram(features))
assert_close(editing.gram_matrix(features.view(2, 2, 2)), loop)
drawings.draw_gram(plt.figure(figsize=(7, 1.6)), features, loop, order)

# %% [markdown]
# $G_{00}=(4+4)/4=2$, $G_{01}=2\cdot2/4=1$, $G_{11}=(4+16)/4=5$. In another order of the pixels the sums have the same terms, so $G$ is the same. **The
# Gram matrix forgets where a feature is, and keeps which features are together.** In this chapter, *style* means these Gram matrices.
#
# The features come from EfficientNet-Lite0 (extra `pretrained`; without it, this section prints one sentence). The painting is drawn by a program, so
# that no artist's rights are touched. What do the Gram matrices of different blocks keep? We use the style loss alone: we start from noise, and take 60
# steps of Adam that bring the Gram matrices nearer to those of the painting. (The title *and 2 blocks* means: the stem and the first two blocks.) For
# the last picture the network has random weights instead of trained ones.

# %%
from vlmbook.efficientnet import EfficientNetLite0
from vlmbook.pretrained import WeightsMissing, efficientnet_lite0

painting = art.paint_whirls(256)
try:
    classifier = efficientnet_lite0()
except WeightsMissing as missing:
    classifier = None
    print(missing, "(the chapter goes on without these weights)")
if classifier:
    runtime.seed_everything(0)
    judges = {
        "stem": (classifier, 0),
        "and 2 blocks": (classifier, 2),
        "and 4 blocks": (classifier, 4),
        "random weights,\n4 blocks": (EfficientNetLite0().eval(), 4),
    }
    style = F.interpolate(painting[None], size=128, mode="bilinear", antialias=True)[0]
    textures = {
        name: experiments.synthesise_texture(judge, style, blocks)
        for name, (judge, blocks) in judges.items()
    }
    plot.gallery([style, *textures.values()], ["the painting", *textures], width=4.6)


# %% [markdown]
# The stem (the first convolution) alone gives a fine grain, mostly in the blue and green colours. With two or four blocks there are strokes. With these
# random weights and 60 steps the result does not look like the painting. No picture has whirls (漩涡) at the positions of the painting, because the Gram
# matrix forgets positions.
#
# Now both losses together, on a photograph. With the feature maps $F$ of the result and $F^*$ of the photograph, and the Gram matrices $G$ of the result and
# $G^*$ of the painting, the two losses are
#
# $$L_{\text{content}}=\frac{\|F-F^*\|^2}{\|F^*\|^2},\qquad L_{\text{style}}=\text{mean over the maps of }\frac{\|G-G^*\|^2}{\|G^*\|^2}$$
#
# Here is the loop, without the total variation (the function `style_transfer` below has it). The loop starts from the photograph, and Adam changes the
# pixels. The weight says how much the style counts. Which weight would you choose?

# %%
def paint(photograph, style, style_weight, steps=40):
    with torch.no_grad():
        wanted = editing.first_features(classifier, photograph[None], 4)[-1]
        of_style = editing.first_features(classifier, style[None], 4)
        grams = [editing.gram_matrix(each) for each in of_style]
    pixels = photograph.clone().requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=4 / 255)
    for _ in range(steps):
        maps = editing.first_features(classifier, pixels[None], 4)
        loss = editing.content_loss(maps[-1], wanted)
        loss = loss + style_weight * editing.style_loss(maps, grams)
        [pixels.grad] = torch.autograd.grad(loss, [pixels])
        optimizer.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)  # colours stay between 0 and 1
    return pixels.detach()


if classifier:
    cat = F.interpolate(held_out["cat"][None], size=192, mode="area")[0]
    by_weight = {weight: paint(cat, painting, weight) for weight in (1, 20, 200)}
    titles = ["photograph", *(f"weight {weight}" for weight in by_weight)]
    plot.gallery([cat, *by_weight.values()], titles, width=4.8)


# %% [markdown]
# With weight 1 there are few strokes. With weight 200 the strokes cover fine parts of the face. We use 20, because both the cat and the strokes can be
# seen; this is a matter of taste. A style need not be a painting: below, photographs of gravel and of galaxies are styles too. The first row shows the
# styles, the second row the photographs, and the third row the results. *Colours kept* means that only the luma changes.

# %%
def apply_style(photograph, style, **options):
    generator = torch.Generator().manual_seed(0)
    options |= {"size": 192, "steps": 50, "network": classifier, "generator": generator}
    return editing.style_transfer(photograph, style, **options)


if classifier:
    styles = {name: data.photo(name)[:, :256, :256] for name in ("gravel", "hubble")}
    columns = [(name, style, cat, apply_style(cat, style)) for name, style in styles.items()]
    kept = apply_style(cat, painting, keep_colours=True)
    columns.append(("colours kept", painting, cat, kept))
    portrait = held_out["astronaut"]
    columns.append(("painting", painting, portrait, apply_style(portrait, painting)))
    drawings.draw_styles(plt.figure(figsize=(4.2, 3.0)), columns)

# %% [markdown]
# The strokes of the painting, the grain of the gravel and the white points of *hubble* are easy to see. Objects and faces stay at their positions.
#
# ## 7 Going deeper: remove noise, and edit in the latent space
#
# **Denoising** (去噪) uses nearly the same network as super-resolution. The image is folded into four channels at half the size; a fifth input channel
# holds the standard deviation σ of the noise [Zhang et al. 2018, FFDNet]. The network estimates the noise, and the unfolded estimate is subtracted from
# the image. We compare the network with two older methods, total variation (全变分) and non-local means (非局部均值). All methods know the true noise level. The
# strength of the two older methods was chosen on the training photographs. (For your own photograph, `denoise(image)` without a level estimates σ.)

# %%
cleaners = {
    "noisy": lambda image, sigma: image,
    "variation": experiments.denoise_by_variation,
    "nl-means": experiments.denoise_by_means,
    "learned": lambda image, sigma: editing.denoise(image, sigma),
}
cleaned = experiments.measure_denoising(cleaners, cut)
for level, values in cleaned.items():
    print(
        f"σ = {level}/255:",
        *(f"{name} {sum(v) / len(v):.1f} dB" for name, v in values.items()),
        sep="  ",
    )
grain = (
    cup_part + 25 / 255 * torch.randn(cup_part.shape, generator=torch.Generator().manual_seed(0))
).clamp(0, 1)
shown = [*(clean(grain, 25 / 255) for clean in cleaners.values()), cup_part]
shown += [image[:, 110:150, 90:130] for image in shown]  # the lower row: a part, larger
plot.gallery(shown, [*cleaners, "original", *5 * [""]], columns=5, width=4.6);

# %% [markdown]
# The learned network has the highest mean PSNR at each level on these photographs. All methods remove some texture together with the noise: where the
# texture is weaker than the noise, no method here can separate the texture from the noise.
#
# **Latent editing** (潜空间编辑). The edits above change pixels. A VAE (chapter 4b) makes another kind of edit possible: encode (编码) an image, change its latent
# $z$, decode (解码). The direction from one attribute to another is the difference of two means, $d=\bar z_{\text{B}}-\bar z_{\text{A}}$, where
# $\bar z_{\text{A}}$ is the mean latent of class A [Larsen et al. 2016]. The VAE was trained on Fashion-MNIST, small pictures of clothes. The images to edit
# were generated by the flow of chapter 4d. Class A are T-shirts, class B are pullovers. What happens to a T-shirt if we go along $d$?

# %%
vae = editing.fashion_vae()
shirts, pullovers = experiments.draw_clothes(0, 48), experiments.draw_clothes(2, 48)
to_pullover = editing.attribute_direction(
    editing.encode_images(vae, pullovers), editing.encode_images(vae, shirts)
)
strengths = (-1.0, 0.0, 0.5, 1.0, 1.5)
sheets = {
    strength: editing.edit_along(vae, shirts[:8], to_pullover, strength) for strength in strengths
}
drawings.draw_clothes(plt.figure(figsize=(5.4, 3.4)), sheets)

# %% [markdown]
# With strength 1 the T-shirts get long sleeves, and the prints stay. The result is $x+D(z+s\,d)-D(z)$, where $D$ is the decoder and $s$ the strength. So
# the details of $x$ that the VAE cannot reconstruct stay in the result. With strength −1 the sleeves stay about as short as before. At strength 1 there
# are already faults: the old sleeve ends stay, and dark shirts get pale sleeves. The faults grow with the strength.

# %% tags=["claims"]
for level, values in cleaned.items():
    mean_psnr = {name: sum(v) / len(v) for name, v in values.items()}
    assert max(mean_psnr, key=mean_psnr.get) == "learned"
sleeve = (..., slice(14, 24), slice(3, 6))
assert sheets[1.0][sleeve].mean() > sheets[0.0][sleeve].mean() + 0.1
assert_close(sheets[0.0], shirts[:8], rtol=0, atol=1e-5)

# %% [markdown]
# ## 8 Measure quality
#
# The PSNR compares pixels one by one. **SSIM** (结构相似性) compares the mean, the contrast and the pattern in small windows [Wang et al. 2004]; 1 means
# equal. A **perceptual distance** (感知距离) compares feature maps of a trained network; 0 means equal. LPIPS [Zhang et al. 2018, perceptual metric] is the
# best known one. Ours is simpler: we take the feature maps of EfficientNet-Lite0's stem and first five blocks. At each pixel, each image has a feature
# vector. Both vectors are scaled to length 1. The distance is the mean of their squared differences. (LPIPS also has weights that were learned from
# people's judgements.)
#
# The four distorted pictures below have the *same* PSNR of 24 dB. Order them with your eyes first, and then read the other two numbers.

# %%
astronaut = held_out["astronaut"][:, 20:212, 40:232]
same_psnr = experiments.match_psnr(astronaut, 24.0)


def perceptual(image, reference):
    return editing.perceptual_distance(image, reference, classifier)


titles = ["original"]
for name, image in same_psnr.items():
    title = f"{name}\nPSNR {editing.psnr(image, astronaut):.1f} dB"
    title += f"\nSSIM {editing.ssim(image, astronaut):.2f}"
    if classifier:
        title += f"\nperceptual {perceptual(image, astronaut):.2f}"
    titles.append(title)
plot.gallery([astronaut, *same_psnr.values()], titles);

# %% [markdown]
# To our eyes the brighter picture is nearly as good as the original, and the other three are bad. The PSNR cannot tell the four apart. SSIM and the
# perceptual distance both put *brighter* first, and the noisy picture last. SSIM and the perceptual distance also say that large squares are better than
# blur and noise. Do your eyes agree? The author prefers the blurred picture to the squares. No measure agrees with people in all cases.
#
# One photograph gets three distortions (失真), each with four severities (程度). Each plot of the curves shows one measure. The panel with the sliders has a
# fourth distortion, *brighter*. Move the sliders: for which distortion does the PSNR fall fast although the picture looks nearly the same?

# %%
cup = F.interpolate(held_out["coffee"][None], size=160, mode="bilinear", antialias=True)[0]


def distort(figure, kind="brighter", strength=0.3):
    drawings.draw_distortion(figure, cup, perceptual if classifier else None, kind, strength)


severities = experiments.sweep_severity(cup, classifier)
drawings.draw_severities(plt.figure(figsize=(7.5, 2.3)), severities)
interact.live(
    distort,
    kind=["brighter", "blur", "noise", "JPEG"],
    strength=(0.0, 1.0, 0.1),
    figsize=(5.2, 1.9),
)

# %% [markdown]
# With *brighter* at strength 0.3 the PSNR is below 20 dB, less than for a strong blur (severity 3). The picture is lighter, but nearly all details can
# still be seen. SSIM also fails here: 0.80 for the lighter picture, 0.88 for a clearly blurred one (severity 2). The perceptual distance has the order
# of the eye. Within one kind of distortion all three measures agree about the order: a stronger distortion is worse. A measure must do at least this.
# Between two kinds of distortion they can disagree: at severity 1 the PSNR prefers the noisy picture to the blurred one, and SSIM prefers the blurred
# one.

# %% tags=["claims"]
for table in severities.values():
    for measure, values in table.items():
        steps_down = torch.tensor(values).diff()
        assert (steps_down > 0).all() if measure == "perceptual" else (steps_down < 0).all()
assert severities["noise"]["PSNR"][0] > severities["blur"]["PSNR"][0]
assert severities["noise"]["SSIM"][0] < severities["blur"]["SSIM"][0]
lighter = drawings.spoil(cup, "brighter", 0.3)
assert editing.psnr(lighter, cup) < min(20, severities["blur"]["PSNR"][2])
assert editing.ssim(lighter, cup) < severities["blur"]["SSIM"][1]
if classifier:
    assert perceptual(lighter, cup) < severities["blur"]["perceptual"][1]
assert max(abs(editing.psnr(image, astronaut) - 24) for image in same_psnr.values()) < 0.05
ssims = {name: editing.ssim(image, astronaut) for name, image in same_psnr.items()}
assert max(ssims, key=ssims.get) == "brighter" and min(ssims, key=ssims.get) == "noise"
if classifier:
    distances = {name: perceptual(image, astronaut) for name, image in same_psnr.items()}
    assert (
        min(distances, key=distances.get) == "brighter"
        and max(distances, key=distances.get) == "noise"
    )

# %% [markdown]
# **Without a true image.** A generated image has no true image to compare with. Then we compare two *sets* of images: the **Fréchet distance** (弗雷歇距离)
# of chapter 4a compares the mean and the covariance (协方差) of features. For two normal distributions with one feature it is
# $(\mu_1-\mu_2)^2+(\sigma_1-\sigma_2)^2$. So for means 0 and 3, and standard deviations 1 and 2, the distance is $9+1=10$. Below we cut squares of 48×48
# pixels, one every 24 pixels, out of the held-out photographs. We compare the set of enlarged squares with the set of true squares, by the features of
# EfficientNet-Lite0's third block. (The photographs have 384 pixels here instead of 256, because the distance needs many squares.) (FID is this distance
# with features of another network, Inception-v3, and 10,000 or more images. So published values cannot be compared with the values below.)

# %%
from vlmbook.metrics import frechet_distance

if classifier:
    truth = list(experiments.cut_photos(experiments.HELD_OUT, 384).values())
    blurred = [experiments.shrink(image) for image in truth]
    sets = {
        name: [enlarge(image).clamp(0, 1) for image in blurred] for name, enlarge in methods.items()
    }
    frechet = {
        name: experiments.measure_squares(classifier, truth, images)
        for name, images in sets.items()
    }
    frechet |= {"the same squares": experiments.measure_squares(classifier, truth, truth)}
    drawings.draw_bars(
        plt.figure(figsize=(6, 1.4)).subplots(), frechet, "Fréchet distance (lower is better)"
    )

# %% tags=["claims"]
if classifier:
    assert (
        frechet["the same squares"]
        < 1e-3
        < frechet["shipped weights"]
        < frechet["trained here"]
        < frechet["bicubic"]
    )
normal = torch.randn(200_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
assert abs(frechet_distance(normal, 3 + 2 * normal) - 10) < 0.1

# %% [markdown]
# Here the Fréchet distance and the PSNR put the three methods in the same order. This is not always so: a method may have the better PSNR and the worse
# Fréchet distance [Blau & Michaeli 2018].
#
# **Ask people.** In a **blind test** (盲测) a person sees two results without names, and says which one is better. The panel below shows pairs of the same
# part of a photograph: one was enlarged by interpolation, the other one by the network. The side is drawn at random. Do all pairs. At the end the panel
# shows how often you chose the network, with a 95 % interval (置信区间).

# %%
corners = [(name, top, left) for name in held_out for top, left in ((20, 40), (90, 110), (150, 20))]
pairs = {
    method: [
        enlarged[name][method][:, top : top + 80, left : left + 80] for name, top, left in corners
    ]
    for method in ("bicubic", "shipped weights")
}
blind_test = application.BlindTest(pairs, torch.Generator().manual_seed(6))
blind_test

# %% [markdown]
# If 10 of 12 decisions are for the network, the interval is 55 % to 95 %. It does not contain 50 %, so this person prefers the network on such pairs.
# But the interval is wide, it treats the pairs as independent (here each photograph gives three pairs), and one person does not speak for all people.
#
# ## 9 Going deeper: two mistakes in training generators
#
# §6.2.2 validates a GAN by its loss on a validation set (验证集). **Does a lower loss of the generator mean better images?** We test it: one generator of
# digits is *fixed*. Its images are always the same. Only the discriminator is trained longer and longer. The generator's loss is $-\log D(G(z))$, the
# discriminator's loss is $-\log D(x)-\log(1-D(G(z)))$ (chapter 4a). Both are measured on images that the discriminator was not trained on. At the start
# $D$ is about 0.5, so the losses are $\log2=0.69$ and $2\log2=1.39$.

# %%
judged = experiments.follow_discriminator()
drawings.draw_discriminators(plt.figure(figsize=(6, 2.4)), judged)

# %% [markdown]
# The loss of the generator about doubles although its images are the same: only the discriminator has become better. The adversarial loss (对抗损失)
# measures a *pair* of networks. So do not compare the adversarial losses of two trainings, or of two steps of one training. Use the Fréchet distance,
# precision and recall (chapter 4a). (The three lines of one colour are three seeds.)
#
# The second mistake: §6.2.2 augments the training images by rotation, as §6.1 does for faces. A classifier (分类器) should ignore a rotation. A generator
# learns the distribution (分布) of its training images. **What does a generator of the digit 1 draw if its training images are turned at random?** To save
# time, the generator here is not a GAN. We fit a mixture of 20 Gaussians (高斯混合模型) to the principal components (主成分) of the images, draw samples, and
# turn the samples back into images. The slant (倾斜) of a digit is the angle between the long axis of its ink and the vertical.

# %%
angles, drawn_ones = {}, {}
for largest in (0, 45):
    turned, samples = experiments.sample_ones(float(largest))
    name = f"turned by up to {largest}°" if largest else "not turned"
    angles[name], drawn_ones[name] = experiments.measure_slant(samples), samples
drawings.draw_slants(plt.figure(figsize=(7, 2.6)), angles, drawn_ones)


# %% [markdown]
# With turned training images, the slants of the drawn digits are spread much more widely than without turning. The augmentation has *leaked* (泄漏) into
# the generated images. There is a remedy for a GAN: augment all images that the discriminator sees, real and generated, with a probability below 1
# [Karras et al. 2020, ADA].
#
# Why does the probability matter? Take four rotations, 0°, 90°, 180° and 270°. The vector $q$ has four numbers: the share of the images in each
# direction. With probability $p$ the augmentation chooses one of the four rotations at random (0° included). So an image keeps its direction with
# probability $1-p+p/4$, and gets each of the other three with probability $p/4$. The new shares are $Aq$: the 4×4 matrix $A$ has $1-p+p/4$ on the
# diagonal and $p/4$ elsewhere. The discriminator sees $Aq$ for the real images and $Aq'$ for the generated ones. If $A$ can be inverted (its determinant
# (行列式) is not 0), then $Aq=Aq'$ only if $q=q'$: the generator has to draw the true directions. For which $p$ can $A$ not be inverted?

# %%
def augmentation(p):  # (4, 4): shares before -> shares after
    return (1 - p) * torch.eye(4) + p * torch.full((4, 4), 0.25)


upright = torch.tensor([1.0, 0.0, 0.0, 0.0])
for p in (0.5, 0.8, 1.0):
    shares = [round(share, 3) for share in (augmentation(p) @ upright).tolist()]
    print(f"p = {p}: upright becomes {shares}, det A = {augmentation(p).det():.4f}")

# %% [markdown]
# Only for $p=1$: then all directions look the same to the discriminator, and $\det A=0$. (The eigenvalues (特征值) of $A$ are $1,\ 1-p,\ 1-p,\ 1-p$. The
# determinant is their product, $(1-p)^3$.) Karras et al. report that in practice leaks are unlikely while $p$ stays below 0.8.

# %% tags=["claims"]
for row in judged["generator's loss"]:
    assert row[-1] > 1.5 * row[0]
assert angles["turned by up to 45°"].std() > 2 * angles["not turned"].std()
assert_close(augmentation(0.8).det(), torch.tensor(0.2**3))

# %% [markdown]
# ## 10 Deploy it
#
# The enlarging network is exported to **ONNX**, a file format for networks, for any height and width. ONNX Runtime runs the file without PyTorch. The file
# contains the network without the interpolation. We compare the results, the size and the time for a photograph of 160×160 pixels.

# %%
import tempfile
from pathlib import Path
from vlmbook.chapters.ch06a.experiments import open_onnx
from vlmbook.compression import measure_latency

shipped = editing.upscaler()
detail = experiments.AddedDetail(shipped)
example = experiments.take_luma(cup_part)[None]
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, "upscaler.onnx")
    experiments.export_upscaler(shipped, file)
    runner = open_onnx(file, threads=torch.get_num_threads())
    kilobytes = file.stat().st_size / 1000
with torch.no_grad():
    onnx_difference = (runner(example) - detail(example)).abs().max().item()
calls = {
    "PyTorch": lambda: detail(example),
    "ONNX Runtime": lambda: runner(example),
    "bicubic": lambda: editing.enlarge_bicubic(example, 2),
}
seconds = {name: measure_latency(call, repeats=5).p50 for name, call in calls.items()}
print(f"ONNX file {kilobytes:.0f} kB, largest difference {onnx_difference:.0e}")
for name, value in seconds.items():
    rate = 4 * example.numel() / value / 1e6
    print(f"{name:13} {1000 * value:7.1f} ms, {rate:6.2f} enlarged megapixels a second")

# %% tags=["claims"]
assert onnx_difference < 1e-4
other = torch.rand(1, 1, 31, 47)  # the file takes other sizes too
assert_close(runner(other), detail(other).detach(), rtol=1e-4, atol=1e-4)
assert shipped.receptive_radius() == 18
assert_close(
    editing.upscale(cup_part, 2, tile=512), editing.upscale(cup_part, 2, tile=48), rtol=0, atol=1e-4
)

# %% [markdown]
# The network costs much more time than the interpolation. The two runtimes need similar times; their order changes from run to run. For large
# photographs `upscale` works on tiles (分块), so that the memory is bounded. Each tile is computed with at least 18 more pixels on each side. This is the
# reach of the receptive field (感受野): a kernel of $k×k$ reaches $(k-1)/2$ pixels to each side, and the network has $1+8\cdot2+1=18$ convolutions of 3×3
# in a row. So the result is the same as for the whole photograph; the folded cell above checks it.
#
# ## 11 Use it responsibly
#
# - **The details are invented.** The network gives likely pixels, not true ones. An enlarged face or number plate (车牌) is not evidence (证据). Never use it to identify a
#   person.
# - **Say that the image is edited.** In China the rules 《互联网信息服务深度合成管理规定》 (2023) and 《人工智能生成合成内容标识办法》 (2025) require services to label
#   content that AI has generated or edited, and users to declare it when they publish it.
# - **Ask before you edit people.** A removed person, a new background or another face can harm somebody.
# - **Keep the original.** The functions and the panel of this chapter write new files only.
#
# ## 12 Edit your own photographs
#
# *Open* a photograph, paint a hole with the mouse, and press *Fill*. *Enlarge ×2* changes the whole photograph. *Paint in the style* also
# makes it smaller (the longer side gets 256 pixels), and a grey photograph gets colours. *Undo* takes a change back, and *Save* writes a new file beside
# the notebook. Transparency (透明度) is kept. An existing file is never overwritten.

# %%
styles_of_panel = {"whirls": painting} | {
    name: data.photo(name)[:, :256, :256] for name in ("tissue", "gravel", "hubble")
}
draws = torch.Generator().manual_seed(4)
scratch = editing.free_form_mask((160, 160), brush=0.04, strokes=3, generator=draws)
rocket, scratched = enlarged["rocket"], torch.where(scratch > 0, 1.0, cup_part)
pairs_shown = {
    "small → enlarged": (
        rocket["small"][:, 45:69, 55:79],
        rocket["shipped weights"][:, 90:138, 110:158],
    ),
    "hole → filled": (scratched, fillers["learned"](cup_part, scratch)),
    "noisy → cleaned": (grain, editing.denoise(grain, 25 / 255)),
}
if classifier:
    pairs_shown["photo → painted"] = (cat, apply_style(cat, painting))
result = plt.figure(figsize=(5.6, 2.9))
drawings.draw_result(result, pairs_shown)
records.picture("ch06b", result)
plt.close(result)
start = (255 * held_out["coffee"]).round().byte()
panel = application.EditingPanel(editing.Photograph(start), styles_of_panel, name="coffee")
panel

# %% [markdown]
# The command line offers the same for many files: `vlmbook edit upscale *.jpg --output large`, `vlmbook edit inpaint photo.png --mask hole.png --output
# filled` and `vlmbook edit style photo.jpg --style painting.jpg --output painted`. A damaged file gets one sentence, and the other files are edited.

# %% [markdown]
# ## 13 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch06b.1")` helps in steps, `solution("ch06b.1")` shows one answer.
#
# **1 · Predict.** A tile of an image goes through convolutions (stride 1, padding that keeps the size) with the kernel sizes 5, 5, 3, 3 and 1. (Section
# 10 tells how far a kernel reaches.) How many pixels around the tile have to be computed too, on each side, so that the tile's result is the same as
# that of the whole image?

# %%
overlap = ...  # whole number of pixels
check("ch06b.1", overlap)


# %% [markdown]
# **2 · Build.** Write the PSNR inside a hole: images `(C, H, W)` in [0, 1], a mask `(1, H, W)` of 0 and 1. The mean runs over the pixels with
# mask 1, in all channels.

# %%
def psnr_in_hole(image, truth, mask):  # -> float, dB
    ...


check("ch06b.2", psnr_in_hole)


# %% [markdown]
# **3 · Build.** Write the Gram matrices of a batch of feature maps `(B, D, H, W)`, divided by the number of pixels.

# %%
def gram_matrices(features):  # -> (B, D, D)
    ...


check("ch06b.3", gram_matrices)


# %% [markdown]
# **4 · Build.** Write the inverse of the pixel shuffle with loops or by reshaping: `x` of shape `(B, C, fH, fW)` becomes `(B, C·f², H, W)`. Pixel `x[b,
# k, f·r + i, f·c + j]` goes to channel `k·f² + f·i + j`, row `r`, column `c`. For C = 1 and f = 2 this is the formula of section 2, read from right to
# left.

# %%
def unshuffle(x, f):  # -> (B, C·f², H, W)
    ...


check("ch06b.4", unshuffle)

# %% [markdown]
# **5 · Train, change, measure.** Section 4 shows that noise in the small photograph spoils the result. Train a second `Upscaler` as in section 3, but
# add noise with a standard deviation of 6.7/255 to a copy of `small` before the training. (Independent noise of 10/255 in each colour is noise of
# $10\sqrt{0.299^2+0.587^2+0.114^2}/255=6.7/255$ in the luma.) Give the mean gain of `trained_here` and of your network on the held-out photographs with
# "noise, σ = 10/255". The function `experiments.measure_degradations(enlarge, photographs)` takes a function such as `lambda x: editing.upscale(x, 2,
# network=trained_here)`, and gives four gains for each degradation.

# %%
noisy_gain = ...  # {"trained without noise": dB, "trained with noise": dB}
check("ch06b.5", noisy_gain)

# %% [markdown]
# ## 14 At full size
#
# With `VLMBOOK_PROFILE=full` the network of section 3 sees 80,000 squares, and section 5 measures four times as many holes. The folder of `VLMBOOK_DATA`
# may also hold Set5, five photographs on which most papers measure. Then the shipped weights are measured on Set5 at ×2, ×3 and ×4. (For ×4 the network
# is used twice. ×3 is the result of ×4, made smaller to three quarters.) For comparison, published results at ×2: SRCNN 36.7 dB, VDSR 37.5 dB, EDSR 38.1
# dB. (They used other training photographs.) The shipped weights are between SRCNN and VDSR. The option `upscale(image, 2, ensemble=True)` enlarges the
# image in eight positions (turned and mirrored), puts the results back and takes their mean: it needs eight times as long, and reaches VDSR's value. A
# second set is the folder `style`: three paintings and four photographs. They are JPEG files, so the true images already have faults of JPEG.

# %% tags=["record"]
records.record(
    "ch06b",
    seed=[0, 1, 2],
    upscaling=quality,
    gain_by_degradation=gains,
    gain_by_variant=ablation,
    filling=filled,
    learned_minus_biharmonic=against,
    denoising=cleaned,
    frechet_of_squares=frechet if classifier else {},
    generator_loss=judged["generator's loss"],
    onnx={"difference": onnx_difference, "kB": kilobytes},
    seconds_for_160=seconds,
    slant={name: degrees.std().item() for name, degrees in angles.items()},
    **experiments.measure_sets(methods, fillers),
)
records.show("ch06b", "full")

# %% [markdown]
# ## 15 Book check
#
# - **M14 · Augmentation for generators** (§6.2.2). The book copies the steps of the face project. But a model of the images' distribution also learns
#   the rotations, as section 9 shows with a mixture of Gaussians.
# - **M15 · "Objective measures and subjective methods"** (§6.2.2). No measure is named, and a GAN is validated by its loss. Section 8 shows PSNR, SSIM, a
#   perceptual distance, the Fréchet distance and a blind test. Section 9 shows that the loss alone does not measure the images.
# - **M16 · "The GAN generates realistic VR scenes"** (§6.2.3). A GAN of this book gives one flat image for one latent. It has no camera as an input, so two
#   views of one scene are not consistent. Scenes need other methods, such as NeRF [Mildenhall et al. 2020] or EG3D [Chan et al. 2022].
# - **I26 · "Adversarial loss and variational loss"** (§6.2.2) are not defined. The adversarial loss belongs to the GAN (chapter 4a). The variational loss is
#   the negative ELBO, and belongs to the VAE (chapter 4b). They are not two choices for one model.
# - **I27 · Three edits without a method** (§6.2). Inpainting needs a mask, super-resolution a degradation model, style transfer a style loss: sections 2 to
#   6.
# - M05 (augment, then split) and I25 (standardise or normalise) are treated in [chapter 6a](ch06a_face_recognition.ipynb).

# %% [markdown]
# ## 16 What we learned
#
# - Super-resolution reverses one degradation. With another degradation the same network can be worse than interpolation.
# - A hole can be filled by a formula or by a network. We measure in the hole alone, with paired differences. With strokes our network is better than the
#   biharmonic formula on average; with blocks 13 photographs show no clear difference. On some smooth photographs the formula is better.
# - The Gram matrix says which features of a trained network occur together, and forgets their positions. This works as a description of style.
# - PSNR, SSIM and a perceptual distance agree within one kind of distortion, and can disagree between kinds. A blind test asks people directly.
# - The loss of a GAN's generator does not measure its images, and a model of the data also learns the augmentation.
#
# **References.** C. Dong et al., *Image super-resolution using deep convolutional networks* (SRCNN), IEEE TPAMI 38(2), 2016 [2015], arXiv:1501.00092 · A.
# B. L. Larsen et al., *Autoencoding beyond pixels using a learned similarity metric*, ICML 2016, arXiv:1512.09300 · W. Shi et al., *Real-time single image
# and video super-resolution using an efficient sub-pixel convolutional neural network*, CVPR 2016, arXiv:1609.05158 · B. Lim et al., *Enhanced deep
# residual networks for single image super-resolution* (EDSR), CVPR workshops 2017, arXiv:1707.02921 · J. Kim, J. K. Lee, K. M. Lee, *Accurate image
# super-resolution using very deep convolutional networks* (VDSR), CVPR 2016, arXiv:1511.04587 · J. Yu et al., *Free-form image inpainting with gated
# convolution*, ICCV 2019, arXiv:1806.03589 · D. Pathak et al., *Context encoders*, CVPR 2016, arXiv:1604.07379 · S. B. Damelin, N. S. Hoang, *On surface
# completion and image inpainting by biharmonic functions: numerical aspects*, International Journal of Mathematics and Mathematical Sciences 2018 · L. A.
# Gatys, A. S. Ecker, M. Bethge, *Image style transfer using convolutional neural networks*, CVPR 2016 · L. A. Gatys et al., *Preserving color in neural
# artistic style transfer*, 2016, arXiv:1606.05897 · Z. Wang et al., *Image quality assessment: from error visibility to structural similarity*, IEEE TIP
# 13(4), 2004 · R. Zhang et al., *The unreasonable effectiveness of deep features as a perceptual metric*, CVPR 2018, arXiv:1801.03924 · Y. Blau, T.
# Michaeli, *The perception-distortion tradeoff*, CVPR 2018, arXiv:1711.06077 · M. Heusel et al., *GANs trained by a two time-scale update rule converge to
# a local Nash equilibrium*, NeurIPS 2017, arXiv:1706.08500 · T. Karras et al., *Training generative adversarial networks with limited data*, NeurIPS 2020,
# arXiv:2006.06676 · B. Mildenhall et al., *NeRF*, ECCV 2020, arXiv:2003.08934 · E. Chan et al., *Efficient geometry-aware 3D generative adversarial
# networks*, CVPR 2022, arXiv:2112.07945 · B. Cabral, L. Leedom, *Imaging vector fields using line integral convolution*, SIGGRAPH 1993 (how the painting
# is drawn) · K. Zhang, W. Zuo, L. Zhang, *FFDNet*, IEEE TIP 27(9), 2018, arXiv:1710.04026.
