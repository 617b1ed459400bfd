# %% [markdown]
# # 4d · Flow matching (流匹配)
#
# *Book: §2.2.2, 图像生成 — the book does not name this family (erratum M25)*
#
# **How does a network turn noise into an image, one small step at a time?**
#
# The first cell prints what a whole run costs, and shows the chapter's result: articles of clothing that a network of 0.84 million parameters drew from
# noise.
#
# *You will be able to*
#
# - explain what a path, a velocity and a flow are, and compute them by hand for one number;
# - derive why the loss of one pair (noise, image) teaches the mean over all pairs;
# - build the U-Net that predicts the velocity, train it, and sample from it with Euler's and Heun's method;
# - control samples by class, by guidance, by a half-finished image, and by a mask;
# - say how flow matching, diffusion models (扩散模型) and the generators of chapters 4a to 4c differ, with numbers.
#
# *Words that this chapter needs*: convolution (卷积) [3a](ch03a_convolution_and_pooling.ipynb) · residual block (残差块) [3b](ch03b_resnet.ipynb) · U-Net
# and skip connection (跳跃连接) [3c](ch03c_unet.ipynb) · noise vector, generator, Fréchet distance (弗雷歇距离) [4a](ch04a_gan.ipynb) · softmax
# [4c](ch04c_gpt.ipynb).
#
# *Core path, 40 minutes*: sections 1 to 6 and 8. The sections 7, 9 and 10 are headed *Going deeper*; points 4 and 5 of the summary need them.

# %% tags=["record"]
import time
from functools import partial
import matplotlib.pyplot as plt
import torch
from torch import nn
from vlmbook import data, flow, generation, plot, pretrained, runtime
from vlmbook.notebook import interact, paint, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters import comparison
from vlmbook.chapters.ch04d import experiments, figures as drawings

runtime.seed_everything(0)
plot.use_style()
records.published("ch04d")
published = records.RESULTS / "ch04d.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)], width=7.162);

# %% [markdown]
# ## 1 The data
#
# We train on the digits of scikit-learn, 8×8 pixels, because that takes seconds. The pictures above come from Fashion-MNIST [Xiao et al. 2017], 28×28
# pixels: that training took about an hour on a CPU, and its weights come with this package. With `VLMBOOK_PROFILE=full` the notebook trains on
# Fashion-MNIST itself.

# %%
images, labels = data.digits_or_fashion("train")
held_out, held_out_labels = data.digits_or_fashion("test")
small = images.shape[-1] < 16                # True for the digits
size = images.shape[-1]
print(len(images), "images to learn from,", len(held_out), "held out, of", tuple(images.shape[1:]))
plot.gallery(images[:12]);

# %% [markdown]
# ## 2 The idea
#
# A generator has to turn noise into an image. A GAN does it in one step. Its generator has no fixed target: it learns against a second network, which
# changes as well. Flow matching splits the way into many small steps. Each step has a target that we can compute.
#
# The drawing shows the whole idea. **Training** goes from right to left: take a real image, take noise, mix them. The network sees the mixture and
# learns in which direction the image lies. **Sampling** goes from left to right: start from noise, ask the network for the direction, take a small
# step, ask again.

# %%
cat = nn.functional.interpolate(data.photo("cat")[None, :, :, 60:360], (96, 96), mode="area")[0]
noise = torch.randn(cat.shape, generator=torch.Generator().manual_seed(0))
drawings.draw_path(plt.figure(figsize=(7, 2.3)), cat, noise)

# %% [markdown]
# ### One number, by hand
#
# Take an "image" of one pixel, $x_1=-1$, and a noise value $\epsilon=0.5$. The straight path (路径) between them is
#
# $$x_t=(1-t)\,\epsilon+t\,x_1,\qquad 0\le t\le1 .$$
#
# At $t=0$ it is the noise, at $t=1$ it is the image. The velocity (速度) is its derivative with respect to $t$:
#
# $$\frac{\mathrm dx_t}{\mathrm dt}=x_1-\epsilon .$$
#
# Compute $x_{0.25}$ and the velocity by hand before you run the cell.

# %%
epsilon, image = torch.tensor([[0.5]]), torch.tensor([[-1.0]])
for t in (0.0, 0.25, 0.5, 1.0):
    x_t = flow.interpolate(epsilon, image, torch.tensor([t]))
    print(f"t = {t:.2f}: x_t = {x_t.item():+.3f}, velocity {(image - epsilon).item():+.1f}")

# %% [markdown]
# $x_{0.25}=0.75\cdot0.5+0.25\cdot(-1)=0.125$. The velocity is $-1-0.5=-1.5$ at every $t$, since the path is straight.
#
# ### Paths cross
#
# Now the data are two images, $-1$ and $+1$. The left drawing has one line for each random pair (noise, image). Lines cross. At a crossing point the
# network sees the same $x_t$ and the same $t$, but the pairs have different velocities. **What should the network answer there?**

# %%
two_images = torch.tensor([[-1.0], [1.0]])
drawings.draw_crossing(plt.figure(figsize=(7, 2.6)), two_images)

# %% [markdown]
# It should answer the **mean** of the velocities of all pairs that pass through this point. The right drawing follows this mean from 16 starts. These
# curves do not cross, and each curve ends at an image. More is true: if the starts are normal noise, then the curves have the distribution of $x_t$ at
# every $t$ [Lipman et al. 2022, theorem 1]. So the mean velocity is enough to draw samples.
#
# The mean can be computed by hand. Take $t=0.5$ and $x_t=0.2$. Which noise leads there?
#
# - With the image $+1$: $\epsilon=(0.2-0.5)/0.5=-0.6$. The density of the standard normal distribution (正态分布) there is $0.333$.
# - With the image $-1$: $\epsilon=(0.2+0.5)/0.5=1.4$. The density there is $0.150$.
#
# So the probability of the image $+1$ is $0.333/(0.333+0.150)=0.69$. The expected image is $0.69-0.31=0.38$. From $x_t$ the remaining time is
# $1-t=0.5$, and the mean velocity is $(0.38-0.2)/0.5=0.36$. For a data set of $N$ images the same computation is
#
# $$v^*(x,t)=\frac{\sum_i p_i\,x_1^{(i)}-x}{1-t},\qquad
# p=\operatorname{softmax}_i\left(-\frac{\lVert x-t\,x_1^{(i)}\rVert^2}{2(1-t)^2}\right).$$
#
# The package has it as `optimal_velocity`. The cell compares it with a simulation: of two million random pairs it keeps those that pass close to
# $x_t=0.2$, and takes the mean of their velocities.

# %%
x, t = torch.tensor([[0.2]]), torch.tensor([0.5])
exact = flow.optimal_velocity(x, t, two_images).item()
epsilon = torch.randn(2_000_000)
image = two_images[torch.randint(2, (2_000_000,)), 0]
close = ((epsilon + image) / 2 - 0.2).abs() < 0.01
simulated = (image - epsilon)[close]
error = simulated.std() / close.sum() ** 0.5
print(f"formula {exact:.3f}, simulation {simulated.mean():.3f} ± {error:.3f}")

# %% tags=["claims"]
assert abs(exact - 0.36) < 0.01
assert abs(simulated.mean() - exact) < 4 * error < 0.1

# %% [markdown]
# ### Why a loss of single pairs teaches the mean
#
# We never compute the mean when we train. The loss (损失) compares the network with the velocity of **one** random pair:
#
# $$L(v)=\mathbb E_{\epsilon,\,x_1,\,t}\,\big\lVert v(x_t,t)-(x_1-\epsilon)\big\rVert^2 .$$
#
# Here $\mathbb E$ is the mean (期望) over all noises, images and times. Why does this teach the mean velocity? Fix one point $x$ and one $t$. From here
# on, $\mathbb E$ is the mean over all pairs that pass through $x$ at time $t$. Write $u=x_1-\epsilon$ for the velocity of such a pair, and $\bar
# u=\mathbb E[u]$. Then for any answer $v$
#
# $$\mathbb E\lVert v-u\rVert^2
# =\mathbb E\lVert (v-\bar u)-(u-\bar u)\rVert^2
# =\lVert v-\bar u\rVert^2-2\,(v-\bar u)\cdot\underbrace{\mathbb E[u-\bar u]}_{=0}+\mathbb E\lVert u-\bar u\rVert^2 .$$
#
# The last term does not depend on $v$. So the loss is smallest for $v=\bar u$ [Lipman et al. 2022, theorem 2]. It is not 0 there: the last term
# remains. The loss of a well trained flow is therefore far from 0, and its height alone does not tell how good the samples are.
#
# ## 3 Points in the plane
#
# Two dimensions can be drawn. The data are 256 points on two half moons. The network is small: three linear layers that see $x_t$ and $t$. The whole
# method fits into two functions.

# %%
points = experiments.make_points(256)

class Field(nn.Module):                      # (B, 2), (B,) -> (B, 2), a velocity
    def __init__(self, width=128):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.SiLU(),
                                    nn.Linear(width, width), nn.SiLU(),
                                    nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, x, t):
        return self.layers(torch.cat([x, t[:, None]], dim=1))

def train_field(field, draw_t=torch.rand, steps=1500, batch=512):
    optimizer = torch.optim.Adam(field.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x_1 = points[torch.randint(len(points), (batch,))]
        epsilon, t = torch.randn(batch, 2), draw_t(batch)
        velocity = field(flow.interpolate(epsilon, x_1, t), t)
        loss = (velocity - (x_1 - epsilon)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


# %% [markdown]
# Sampling: start from noise, and follow the velocity in small steps. This is Euler's method (欧拉法): $x\leftarrow x+\Delta t\cdot v(x,t)$. The right
# panel follows the exact mean velocity $v^*$ of the 256 points from the same noise. **Look at both ends. What does the exact field do that the learned
# one does not?**

# %%
@torch.no_grad()
def follow(velocity, x, steps):              # Euler's steps; returns all points on the way
    walk = [x]
    for step in range(steps):
        t = torch.full((len(x),), step / steps)
        x = x + velocity(x, t) / steps
        walk.append(x)
    return torch.stack(walk)


runtime.seed_everything(0)
field = Field()
train_field(field)
exact_field = partial(flow.optimal_velocity, images=points)
starts = torch.randn(300, 2)
walks = {"learned": follow(field, starts, 100), "exact": follow(exact_field, starts, 100)}
drawings.draw_plane(plt.figure(figsize=(7, 3)), points, walks)


# %% [markdown]
# The exact field ends **on** the training points: 256 points, and nothing else. It recites (背诵) its data. The learned field differs from the exact
# field near $t=1$. Therefore its samples do not end on the training points: most of them lie near the moons, and some of them lie off the moons.
# Section 7 returns to this question for images.
#
# How close is the learned field to the exact one? We measure $R^2=1-\mathbb E\lVert v-v^*\rVert^2/\operatorname{Var}(v^*)$ at points that the paths
# pass for $t\le0.9$. It is 1 for a perfect field, and 0 for a constant.

# %%
@torch.no_grad()
def r_squared(field, n=4000):
    t = 0.9 * torch.rand(n)
    x_t = flow.interpolate(torch.randn(n, 2), points[torch.randint(len(points), (n,))], t)
    exact = exact_field(x_t, t)
    return 1 - ((field(x_t, t) - exact).square().mean() / exact.var()).item()


untrained = Field()
fits = {"trained": r_squared(field), "untrained": r_squared(untrained)}
ends = {name: torch.cdist(walk[-1], points).min(1).values.mean().item()
        for name, walk in walks.items()}
print(*(f"R² of the {name} field: {fit:.3f}" for name, fit in fits.items()), sep="\n")
print(*(f"{name}: mean distance of a sample to the nearest training point {far:.4f}"
        for name, far in ends.items()), sep="\n")

# %% tags=["claims"]
assert fits["trained"] > 0.9 and fits["untrained"] < 0.1
assert ends["exact"] < 0.005 < 0.02 < ends["learned"] < 0.2

# %% [markdown]
# Move $t$. The orange points are the samples at this time, the grey points are the data. **When do the arrows point to the middle of the data, and when
# do they point to single parts of it?**

# %%
live = partial(drawings.draw_field, points=points, walk=walks["learned"],
               velocities={"learned": field, "exact": exact_field})
interact.live(live, t=(0.0, 0.95, 0.05), figsize=(7, 3.4))

# %% [markdown]
# At $t=0$ every pair is possible, so all arrows point to the mean of the data. With growing $t$ fewer points of the data are probable, and the arrows
# point to those whose scaled copy $t\,x_1$ is near $x$.
#
# ## 4 The network for images
#
# An image has more than two numbers. The velocity has the same shape as the image, so the U-Net of chapter 3c fits: it takes an image and returns an
# image of the same size. It needs two more inputs, the time $t$ and the class. They are turned into a vector (嵌入), and this vector scales and shifts
# the channels in every residual block.

# %%
drawings.draw_network(plt.figure(figsize=(7, 2.7)), 28, (32, 64, 96))


# %% [markdown]
# One residual block: normalise, activate, convolve, twice. Between the two convolutions the vector of time and class enters. The last convolution
# starts at 0, so at first a block is only its shortcut.

# %%
class ResidualBlock(nn.Module):              # (B, C, H, W), (B, E) -> (B, D, H, W)
    def __init__(self, in_channels, channels, condition):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.scale_and_shift = nn.Linear(condition, 2 * channels)
        self.norm2 = nn.GroupNorm(8, channels, affine=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        same = in_channels == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, channels, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x, condition):
        y = self.conv1(nn.functional.silu(self.norm1(x)))
        scale, shift = self.scale_and_shift(condition)[..., None, None].chunk(2, dim=1)
        y = self.norm2(y) * (1 + scale) + shift
        return self.shortcut(x) + self.conv2(nn.functional.silu(y))


# %% [markdown]
# The parts of the U-Net, in the order of the drawing. `flow.Fourier` turns the number $t$ into cosines and sines of many frequencies, as transformers
# do with positions. The class embedding has one row more than there are classes. The last row means *no class*, and section 6 needs it.

# %%
class Parts(nn.Module):
    def __init__(self, size, num_classes, widths=(32, 64, 96)):
        super().__init__()
        self.num_classes, self.image_shape = num_classes, (1, size, size)
        first, last, E = widths[0], widths[-1], 4 * widths[0]
        steps = list(zip(widths[:-1], widths[1:]))
        self.time = nn.Sequential(flow.Fourier(first), nn.Linear(first, E), nn.SiLU())
        self.classes = nn.Embedding(num_classes + 1, E)
        self.mix = nn.Sequential(nn.Linear(E, E), nn.SiLU())
        self.stem = nn.Conv2d(1, first, 3, padding=1)
        self.encoder = nn.ModuleList(ResidualBlock(w, w, E) for w in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in steps)
        self.middle = nn.ModuleList(ResidualBlock(last, last, E) for _ in range(2))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in steps)
        self.decoder = nn.ModuleList(ResidualBlock(2 * w, w, E) for w in widths[:-1])
        self.head = nn.Sequential(nn.GroupNorm(8, first), nn.SiLU(),
                                  nn.Conv2d(first, 1, 3, padding=1))
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.head[-1].bias)


# %% [markdown]
# And the way of an image through the parts: down the left side, through the middle, up the right side. On the way up each block also gets the map of
# the same size from the left side.

# %%
class UNet(Parts):                           # (B, 1, H, W), (B,), (B,) -> (B, 1, H, W)
    def forward(self, x, t, labels):
        condition = self.mix(self.time(t) + self.classes(labels))
        x, skips = self.stem(x), []
        for block, down in zip(self.encoder, self.down):
            skips.append(block(x, condition))
            x = down(skips[-1])
        for block in self.middle:
            x = block(x, condition)
        for block, up in zip(reversed(self.decoder), reversed(self.up)):
            x = up(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
            x = block(torch.cat([skips.pop(), x], dim=1), condition)
        return self.head(x)


# %% [markdown]
# Is it the network of the package? Both have the same parameter names, so one can load the other's weights. Then both must give the same output.

# %%
ours, theirs = UNet(28, 10), flow.FlowUNet(28, 10)
for parameter in ours.parameters():          # not zero anywhere, so that every part counts
    nn.init.normal_(parameter, std=0.05)
theirs.load_state_dict(ours.state_dict())
inputs = torch.randn(3, 1, 28, 28), torch.rand(3), torch.tensor([0, 5, 10])
count = sum(p.numel() for p in ours.parameters())
print(f"{count:,} parameters, output {tuple(ours(*inputs).shape)}")
torch.testing.assert_close(ours(*inputs), theirs(*inputs))


# %% [markdown]
# ## 5 Training
#
# The loss for images is the loss of section 2, with three details:
#
# - pixels are scaled to $[-1,1]$, so that image and noise have similar size;
# - $t=\operatorname{sigmoid}(n)$ with a normal $n$, so that the middle of the path comes more often than its ends [Esser et al. 2024];
# - for one image in ten the class is replaced by *no class*.

# %%
def loss_by_hand(net, x, y, noise, t, dropped):
    x_1 = 2 * x - 1
    column = t[:, None, None, None]
    x_t = (1 - column) * noise + column * x_1
    y = torch.where(dropped, net.num_classes, y)
    return (net(x_t, t, y) - (x_1 - noise)).square().mean()


x, y, noise = images[:4], labels[:4], torch.randn(4, 1, size, size)
t = torch.randn(4).sigmoid()
for drop in (0.0, 1.0):
    net_loss = flow.flow_matching_loss(theirs, x, y, noise=noise, t=t, drop=drop)
    mine = loss_by_hand(theirs, x, y, noise, t, torch.full((4,), drop == 1))
    torch.testing.assert_close(mine, net_loss)
    print(f"share of dropped classes {drop:.0f}: by hand {mine:.4f}, package {net_loss:.4f}")

# %% [markdown]
# `Averaged` keeps a moving average (指数滑动平均) of the weights beside the network: after each step $\bar w\leftarrow0.998\,\bar w+0.002\,w$. In evaluation
# mode the average is used, because the weights of single steps still move.
#
# We compare the flow with a simple **baseline** (基线): one normal distribution over all pixels, with the mean and the covariance (协方差) of the training
# images. **Will the flow be better to the eye?**

# %%
from vlmbook.pixel_models import PixelGaussian

train = partial(experiments.train_flow, images, labels)
if small:
    net, history = train(**experiments.DIGIT_FLOW)
else:                                        # an hour on two CPU cores; goes on where it stopped
    net, history = train(epochs=6, checkpoint=experiments.find_checkpoint())
print(f"{len(history.losses)} steps, {history.seconds:.0f} s, "
      f"loss {sum(history.losses[:20]) / 20:.2f} -> {sum(history.losses[-50:]) / 50:.2f}")
levels = 17 if small else 256
gaussian = PixelGaussian(images[:10_000], levels)
ten = torch.arange(10)
drawings.draw_rows(plt.figure(figsize=(7, 2.3)), {
    "real": generation.select_same_classes(images, labels, ten),
    "Gaussian": gaussian.sample(10, torch.Generator().manual_seed(0)),
    "flow": flow.sample(net, ten, 10)})

# %% [markdown]
# Yes. The Gaussian has the right mean and the right covariance, and its samples are smudges. The flow draws digits.
#
# ### The same at full size
#
# This network has three levels. It was trained on 60,000 articles of clothing of 28×28 pixels. Its weights come with the package, together with a card
# that says how they were made. Each row is one class.

# %%
names = "T-shirt trouser pullover dress coat sandal shirt sneaker bag boot".split()
if small:
    state, card = pretrained.ours("ch04d_fashion")
    fashion = flow.FlowUNet(28, 10)
    fashion.load_state_dict(state)
    fashion = fashion.eval().to(memory_format=torch.channels_last)
    print("trained for", card["hours"], "hours on", card["device"], "with", card["data"])
else:
    fashion = net
draws = torch.Generator().manual_seed(1)
page = flow.sample(fashion, torch.arange(10).repeat_interleave(10), 8, generator=draws)
figure = plt.figure(figsize=(7, 6.2))
drawings.draw_classes(figure, page.unflatten(0, (10, 10)), names)
records.picture("ch04d", figure);


# %% [markdown]
# Move $t$ and look at both rows. The upper row is $x_t$. The lower row is the image that the network expects from there, $x_t+(1-t)\,v$. Five columns
# are told their class, the last column is not. **At which $t$ can you tell what the last column becomes, in the lower row and in the upper row?**

# %%
@torch.no_grad()
def keep_states(net, labels, steps=40, guidance=1.0):        # x_t and the expected image at each t
    x, states, expected = torch.randn(len(labels), *net.image_shape), [], []
    for step in range(steps):
        t = step / steps
        v = flow.guided_velocity(net, x, t, labels, guidance)
        states.append(x)
        expected.append(x + (1 - t) * v)
        x = x + v / steps
    return torch.stack([*states, x]), torch.stack([*expected, x])


states, expected = keep_states(fashion, torch.tensor([0, 3, 5, 8, 9, 10]))
interact.live(partial(drawings.draw_moment, states=states, predicted=expected),
              t=(0.0, 1.0, 0.025), figsize=(7, 3))

# %% [markdown]
# At $t=0$ the expected image is a blurred mean: the mean of the class in the first five columns, the mean of all clothing in the last one. With growing
# $t$ the coarse form comes first, and details such as straps and seams come last. The upper row shows the form later than the lower row, because noise
# hides it.
#
# ## 6 Sampling
#
# ### How many steps?
#
# A step of Euler's method costs one evaluation of the network. Heun's method (休恩法) uses the mean of two velocities:
#
# $$v_1=v(x,t),\qquad v_2=v(x+\Delta t\,v_1,\ t+\Delta t),\qquad x\leftarrow x+\Delta t\,\frac{v_1+v_2}2 .$$
#
# Its last step is an Euler step, because the formula of $v^*$ divides by $1-t$, which is 0 at the end. So $k$ steps cost $2k-1$ evaluations [Karras et
# al. 2022]. We measure two things:
#
# - *left*, clothing: we start two samplers from the same noise. One takes few steps, the other one takes 32 Heun steps. The error is the root mean
#   square difference between their images.
# - *right*, digits (in the full profile clothing): the Fréchet distance between samples and held-out images, in the features of a classifier, as in
#   chapter 4a. Each point is one draw of samples, without guidance.
#
# The third method, ancestral sampling (祖先采样), comes from diffusion models. In each step it predicts the image and draws new noise, so the same start
# does not give the same image. **Which method would you choose for 16 evaluations?**

# %%
classifier = generation.train_feature_classifier(images, labels, epochs=12 if small else 3)
classifier = classifier.cpu()
N = len(held_out) if small else 1000
real, of = held_out[:N], held_out_labels[:N]
start_noise, four = torch.randn(4, 1, 28, 28), torch.tensor([0, 5, 8, 9])
finest = flow.sample(fashion, four, 32, noise=start_noise)
errors, distances = {}, {}
for method, steps in (("euler", (1, 2, 4, 8, 16)), ("heun", (1, 2, 4, 8)),
                      ("ancestral", (2, 4, 8, 16))):
    for k in steps:
        cost = 2 * k - 1 if method == "heun" else k        # evaluations of the network
        if method != "ancestral":
            x = flow.sample(fashion, four, k, method=method, noise=start_noise)
            errors.setdefault(method, {})[cost] = (x - finest).square().mean().sqrt().item()
        x = flow.sample(net, of, k, method=method, guidance=1.0)
        found = generation.score(classifier, x, real)["frechet"]
        distances.setdefault(method, {})[cost] = found
drawings.draw_solvers(plt.figure(figsize=(7, 2.6)), {
    "error against 32 Heun steps": errors, "Fréchet distance": distances})

# %% tags=["claims"]
assert errors["euler"][16] < errors["euler"][4] < errors["euler"][1]
assert errors["heun"][15] < errors["heun"][7] < errors["heun"][1]
assert errors["heun"][15] > 0.7 * errors["euler"][16]        # no advantage at equal cost
assert min(distances["euler"][16], distances["heun"][15]) < 0.5 * distances["euler"][1]

# %% [markdown]
# - *Left*: the error falls with the number of evaluations for both methods. At equal cost, Heun's method has no advantage for this network: its smaller
#   error a step is paid with the second evaluation.
# - *Right*: from 8 to 16 evaluations the distance of Euler's and Heun's samples falls by about 0.1 only. It is then near the distance of other real
#   images (section 8), so this measure can hardly show more. The ancestral method needs more evaluations here. Each point is one draw, so small
#   differences mean nothing.
#
# For 16 evaluations, Euler's and Heun's method both do.
#
# ### Guidance
#
# The network knows the velocity for a class and the velocity for *no class*. Guidance (引导) goes from the second to the first, and further [Ho &
# Salimans 2022]:
#
# $$v_w=v(\text{no class})+w\,\big(v(\text{class})-v(\text{no class})\big).$$
#
# $w=0$ ignores the class, $w=1$ follows it, $w>1$ exaggerates it. (Ho and Salimans count from 0: their $w$ is ours minus 1.) We measure on the digits
# how often the classifier names the wanted class, and the recall (召回率) of chapter 4a: the share of real images that lie close to a generated sample.
# **What do you expect for large $w$?**

# %%
weights = (0.0, 1.0, 1.5, 2.0, 4.0)
measured = {"right class": {}, "recall": {}}
for w in weights:
    x = flow.sample(net, of, 8, method="euler", guidance=w)
    measured["right class"][w] = (classifier(x).argmax(1) == of).float().mean().item()
    measured["recall"][w] = generation.score(classifier, x, real)["recall"]
same_noise = torch.randn(16, 1, 28, 28)
sheets = {w: flow.sample(fashion, torch.tensor([0, 9]).repeat_interleave(8), 8, method="euler",
                         guidance=w, noise=same_noise) for w in weights}
interact.live(partial(drawings.draw_guidance, samples=sheets, measured=measured),
              guidance=list(weights), figsize=(7, 2.6))

# %% tags=["claims"]
assert 0.03 < measured["right class"][0.0] < 0.25 < 0.9 < measured["right class"][1.0]
assert measured["recall"][4.0] < measured["recall"][1.5] < measured["recall"][1.0]

# %% [markdown]
# From 0 to 1 the class becomes right. Above 1 the recall falls: the samples of a class become alike. So guidance is paid with variety (多样性), and $w=1$
# follows the data best. At $w=0$ the class is right in about one case of ten, which is chance.
#
# ## 7 Going deeper: what else a flow can do
#
# ### Between two noises
#
# Euler's and Heun's methods add no randomness: the same noise gives the same image. So we can walk from one noise to another, on an arc (球面插值) on which
# the noise keeps its usual length, and sample from each point. **Where does the image change suddenly?**

# %%
angle = torch.linspace(0, torch.pi / 2, 9)[:, None, None, None]
ends = torch.randn(4, 2, 1, 28, 28, generator=torch.Generator().manual_seed(3))
walked = torch.cat([angle.cos() * a + angle.sin() * b for a, b in ends])
of_pair = torch.tensor([0, 7, 8, 10]).repeat_interleave(9)   # the last row has no class
between = flow.sample(fashion, of_pair, 8, noise=walked).unflatten(0, (4, 9))
rows_of_walks = dict(zip(("T-shirt", "sneaker", "bag", "no class"), between))
drawings.draw_rows(plt.figure(figsize=(7, 3.2)), rows_of_walks)

# %% [markdown]
# Within a class nothing changes suddenly: form and brightness move in small steps. In the last row, without a class, one form turns into another, and
# some images on the way belong to no class.
#
# ### Part of the way back
#
# An image can be edited: mix it with noise up to a time $t$, then sample from there [Meng et al. 2021]. With $t$ near 1 little changes; with $t$ near 0
# almost everything is drawn anew. The input below was made with three rectangles. **From which $t$ does a garment appear?**

# %%
sketch = torch.zeros(1, 1, 28, 28)
sketch[..., 3:10, 2:26] = 0.8                # the sleeves
sketch[..., 3:27, 7:21] = 0.6                # the body
sketch[..., 2:6, 11:17] = 0.0                # the neck
noise, edited = torch.randn(8, 1, 28, 28), {"sketch": sketch.expand(8, -1, -1, -1)}
for t in (0.7, 0.5, 0.3, 0.1):
    x_t = flow.interpolate(noise, 2 * sketch.expand(8, -1, -1, -1) - 1, torch.full((8,), t))
    edited[f"from t = {t}"] = flow.sample(fashion, torch.tensor([0, 2, 3, 4, 6, 8, 9, 10]), 8,
                                          noise=x_t, start=t)
drawings.draw_rows(plt.figure(figsize=(7, 4)), edited)

# %% [markdown]
# The columns ask for T-shirt, pullover, dress, coat, shirt, bag, boot and no class. From $t=0.7$ the sketch gets a little texture and keeps its form.
# From $t=0.3$ garments with sleeves fit their class. The bag and the boot, whose form is far from the sketch, appear only from $t=0.1$.
#
# ### Completing an image
#
# A mask (掩码) says which pixels are unknown. Before each step, `complete` replaces the known pixels by a mixture of noise and the known image at time
# $t$. The network then changes the unknown pixels so that they fit. Each step is repeated four times with new noise, which makes both parts agree
# better [Lugmayr et al. 2022]. Nothing was trained for this. **Paint over a part of the image with the mouse, then press *Complete*.** The figure shows
# one hole, filled four times. The boot itself is a sample of the network.

# %%
hole = torch.zeros(1, 28, 28)
hole[:, 14:] = 1                             # the lower half
boot = page[-3]
filled = flow.complete(fashion, boot.expand(4, -1, -1, -1), hole[None], torch.full((4,), 10), 10)
drawings.draw_completion(plt.figure(figsize=(7, 1.5)), boot, hole, filled)


# %%
def fill(image, mask):
    return flow.complete(fashion, image[None], mask[None], torch.tensor([10]), 10)[0]


paint.MaskPainter(boot, fill)

# %% tags=["claims"]
known = hole.expand(4, -1, -1, -1) == 0
assert torch.equal(filled[known], boot.expand(4, -1, -1, -1)[known])
assert (filled[0] - filled[1]).abs().max() > 0.1             # there is more than one way


# %% [markdown]
# ### Does it recite?
#
# The exact field $v^*$ ends on training images, as in section 3. Does the trained network do so too? We compare two distances: from a sample to the
# nearest training image, and from a held-out real image to the nearest training image. A copy would have the distance 0. (In the quick profile these
# are digits.) The bar of the exact field reaches above the figure.

# %%
def nearest(x):                              # -> distance and index of the nearest training image
    return torch.cdist(x.flatten(1), images.flatten(1)).min(1)

recite = partial(flow.optimal_velocity, images=2 * images[:2000] - 1)
recited = experiments.follow_images(recite, torch.randn(100, 1, size, size), 50)
samples = flow.sample(net, of[:300], 8, guidance=1.0)
far = {"generated": nearest(samples).values, "held out": nearest(real[:300]).values,
       "exact field": nearest(recited).values}
closest = {name: x.quantile(0.01).item() for name, x in far.items()}
print(*(f"{name}: {x.mean():.2f} ± {x.std():.2f}, the closest percent below {closest[name]:.2f}"
        for name, x in far.items()), sep="\n")
neighbours = images[nearest(samples[:8]).indices]
drawings.draw_neighbours(plt.figure(figsize=(7, 2.4)), samples[:8], neighbours, far)

# %% tags=["claims"]
assert far["exact field"].max() < 0.05 < 0.5 * far["generated"].mean()
assert closest["generated"] > 0.7 * closest["held out"] > 0.2

# %% [markdown]
# The exact field ends on training images. The samples of the network are at least as far from the training images as held-out real images are, also the
# closest ones. We found no sign of copying. The measure has a limit: a bad sample is also far from every training image. Therefore we need a second
# measure of quality. The next section uses the Fréchet distance.

# %% [markdown]
# ## 8 Beside the generators of chapters 4a to 4c
#
# The table compares generators on the same images. GPT and *flow, class* learned with the labels, the other rows learned without them. *Flow trained
# without classes* has the size, the steps and the training of *flow, class*; only its labels were removed. *Flow, asked for no class* is the network
# with classes, with the label *no class*. The rules are the same for every row.
#
# - Training images, classifier, held-out images and number of samples are the same.
# - **Class balance**: each generator draws, the classifier names the class of each sample, and we keep as many of each class as the held-out images
#   have. So no generator wins by having the right share of each class. Knowing the class can still help.
# - Each row has three draws; the table gives mean ± standard deviation over the draws. Each network was trained once, so the ± does not cover the
#   training.
# - *Other real images* are training images, treated like samples. A good generator reaches about their value.
#
# GAN, VAE and GPT have the settings of their chapters. **Which one will be nearest to the real images, and which one is the cheapest to sample from?**

# %%
rivals = experiments.make_rivals(images, labels, quick=small)
steps = 4                                    # of Heun, so 7 evaluations
ask = partial(flow.sample, net, steps=steps, guidance=1.0)
flows = {"flow, asked for no class": lambda n: ask(torch.full((n,), 10)),
         "flow, class": lambda n: ask(torch.randint(10, (n,)))}
seconds = rivals.seconds | dict.fromkeys(flows, history.seconds)
weights_of_flow = sum(p.numel() for p in net.network.parameters())
parameters = rivals.parameters | dict.fromkeys(flows, weights_of_flow)
rows = {}
for name, draw in (rivals.draw | flows).items():
    runtime.seed_everything(1)
    rows[name] = comparison.measure_draws(draw, classifier, real, of, draws=3)
    known_costs = {"training s": seconds, "parameters": parameters}
    rows[name] |= {key: each[name] for key, each in known_costs.items() if name in each}
print(comparison.format_draws(rows))
drawings.draw_comparison(plt.figure(figsize=(7, 2.4)), rows, "frechet")

# %% tags=["claims"]
mean = {name: torch.tensor(row["frechet"]).mean() for name, row in rows.items()}
assert mean["flow, class"] < min(mean["GAN"], mean["VAE"]) / 2
if small:
    assert max(mean["GAN"], mean["VAE"]) < mean["Gaussian"] < mean["pixel histogram"]
    assert mean["flow, class"] < 0.75 * mean["GPT"]
    assert mean["flow, class"] < 0.5 * mean["flow trained without classes"] < 0.5 * mean["GAN"]

# %% [markdown]
# Read the table in groups of equal knowledge.
#
# - **With classes**: the distance of *flow, class* is about half of GPT's, and about that of other real images.
# - **Without classes**: the flow is nearer than GAN and VAE.
# - **The class**: the same flow, trained without classes, is about three times as far away.
# - *Flow, asked for no class* is poor. Only one image in ten had the label *no class* in the training; we did not test whether a larger share helps.
# - **The price**: with 7 evaluations a sample of the flow costs about as much time as a sample of GPT, and about thirty times the time of a sample of
#   the GAN. The flows have about three times the parameters of the GPT.
#
# The table does not say that flows are better in general: the networks differ in size, and each was tuned in its own chapter only.
#
# ## 9 Going deeper: why a straight path?
#
# Many diffusion models use a path that is an arc: $x_t=\cos(\tfrac\pi2t)\,\epsilon+\sin(\tfrac\pi2t)\,x_1$, the cosine schedule [Nichol & Dhariwal
# 2021, there with a small offset]. (Section 10 shows that both paths differ by a factor and by the speed of time.) Which path has the smaller error at
# $k$ equal steps in $t$? We train no network here, so training cannot cause a difference: the best velocity of the 256 points of section 3 is known
# exactly on both paths. The error is the distance between the end of $k$ Euler steps and the end of 500 steps from the same noise, in three draws of
# noise.
#

# %%
paths = {}
for path in experiments.PATHS:
    velocity = partial(experiments.optimal_velocity_on, path, points=points)
    for seed in range(3):
        runtime.seed_everything(seed)
        begin = torch.randn(300, 2)
        end = follow(velocity, begin, 500)[-1]
        for k in (1, 2, 4, 8, 16, 32):
            far_off = (follow(velocity, begin, k)[-1] - end).norm(dim=1).mean().item()
            paths.setdefault(path, {}).setdefault(k, []).append(far_off)
for path, errors_of in paths.items():
    print(f"{path:>8}:", *(f"{k} steps {torch.tensor(x).mean():.2f} ± {torch.tensor(x).std():.2f}"
                            for k, x in errors_of.items()), sep="  ")

# %% tags=["claims"]
for k in (1, 2, 4, 8):
    assert max(paths["arc"][k]) < min(paths["straight"][k])

# %% [markdown]
# With equal steps in $t$, the **arc** has the smaller error here. So "straight paths need fewer steps" is not true in general. The path of one pair is
# straight, but the sampler follows the mean velocity, and this curve is bent (section 2, right drawing). Our data have about the scale of the noise,
# which suits the arc; other data or other times of the steps may change the order. Rectified flow [Liu et al. 2022] makes the curves straighter by a
# second training, on pairs of noise and the sample that the first model makes of it. One advantage of the straight path remains: it has no schedule to
# choose.
#
# ## 10 Going deeper: diffusion models are the same family
#
# **Book check, M25.** §2.2.2 lists GAN, VAE and GPT as the common techniques of image generation. Diffusion models are missing in the whole book,
# although Stable Diffusion, DALL·E 2 and FLUX.1 belong to this family. DDPM [Ho et al. 2020] defines noisy images and a loss by
#
# $$q(x_t\mid x_0)=\mathcal N\big(\sqrt{\bar\alpha_t}\,x_0,\ (1-\bar\alpha_t)I\big),\qquad
# L=\mathbb E\,\lVert\epsilon-\epsilon_\theta(x_t,t)\rVert^2 .$$
#
# Three facts connect diffusion models and flow matching.
#
# 1. **The noisy images are the same up to a factor.** Divide our $x_t=(1-t)\epsilon+t\,x_1$ by $s=\sqrt{t^2+(1-t)^2}$. With $\bar\alpha=t^2/s^2$ this
#    is $\sqrt{\bar\alpha}\,x_1+\sqrt{1-\bar\alpha}\,\epsilon$. DDPM's $t$ runs the other way.
# 2. **The predictions can be converted.** We can compute the noise from $x_t$ and the velocity: $\epsilon=x_t-t\,v$. With the mean velocity this gives
#    the mean noise $\mathbb E[\epsilon\mid x_t]$, which DDPM's network predicts. The score (得分函数) is the gradient of the log density of $x_t$, and
#    $\nabla\log p_t(x)=-\mathbb E[\epsilon\mid x_t=x]/(1-t)$.
# 3. **The samplers differ by the noise that they add.** DDPM's sampler is the *ancestral* one of section 6. DDIM [Song et al. 2020, implicit models] and
#    the samplers of flow matching add none.
#
# The cell computes both sides of fact 1 on held-out images. For fact 2 it converts the velocity of the trained network into noise, and compares it with
# the true noise. The simple guess beside it takes the mean image for $x_1$.

# %%
t = torch.full((N,), 0.3)
x_1, epsilon = 2 * real - 1, torch.randn(N, 1, size, size)
x_t = flow.interpolate(epsilon, x_1, t)
s = (0.3**2 + 0.7**2) ** 0.5
alpha_bar = 0.3**2 / s**2
ddpm = alpha_bar**0.5 * x_1 + (1 - alpha_bar) ** 0.5 * epsilon
torch.testing.assert_close(x_t / s, ddpm)
with torch.no_grad():
    velocity = net(x_t, t, of)
predicted = flow.velocity_to_noise(velocity, x_t, t)
back = flow.score_to_velocity(flow.velocity_to_score(velocity, x_t, t), x_t, t)
torch.testing.assert_close(back, velocity, rtol=1e-3, atol=1e-3)
guess = (x_t - 0.3 * (2 * images.mean(0) - 1)) / 0.7
mse = {"network": (predicted - epsilon).square().mean().item(),
       "guess by the mean image": (guess - epsilon).square().mean().item()}
print(f"ᾱ = {alpha_bar:.3f}; mean squared error of the predicted noise:")
print(*(f"  {name} {value:.3f}" for name, value in mse.items()), sep="\n")

# %% tags=["claims"]
assert mse["network"] < 0.6 * mse["guess by the mean image"]

# %% [markdown]
# So a network trained by flow matching gives DDPM's prediction after a conversion; DDPM's training weights the times differently. The two moons of
# section 3 are the toy example that the erratum asks for.
#
# **Where it goes from here**, in the order of the years:
#
# - 2020 DDPM makes diffusion models popular [Ho et al. 2020]. Score-based models bring the differential equation between noise and data [Song et al.
#   2020, score-based].
# - 2021 Guidance by a classifier, and better images than GANs on ImageNet [Dhariwal & Nichol 2021]; guidance without one [Ho & Salimans 2022].
# - 2022 Latent diffusion, known as Stable Diffusion: an autoencoder (chapter 4b) makes the image 8 times smaller on each side, and diffusion runs there
#   [Rombach et al. 2022].
# - 2022 Flow matching and rectified flow: the straight path of this chapter [Lipman et al. 2022; Liu et al. 2022].
# - 2022 DiT: a transformer (chapter 5b) in place of the U-Net [Peebles & Xie 2022].
# - 2023 Consistency models: one or two steps instead of twenty [Song et al. 2023].
# - 2024 Stable Diffusion 3: flow matching with a transformer on text and image, trained with the $t$ of section 5 [Esser et al. 2024]. FLUX.1 is also a
#   flow model with a transformer.
#
# ## 11 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch04d.1")` helps in steps, `solution("ch04d.1")` shows one answer.
#
# **1 · Predict.** The data are two images of one pixel, $0$ and $2$. What is the mean velocity $v^*$ at $x=0.75$ and $t=0.5$, to two digits after the
# point? Use a calculator.

# %%
velocity_there = ...                         # a number
check("ch04d.1", velocity_there)


# %% [markdown]
# **2 · Derive.** A network predicts the noise $\epsilon$, not the velocity. Compute $x_1$ from $x_t$, $t>0$ and $\epsilon$. The time has the shape
# `(B,)`, the images have the shape `(B, C, H, W)`.

# %%
def image_from_noise(noise, x_t, t):         # -> (B, C, H, W)
    ...


check("ch04d.2", image_from_noise)


# %% [markdown]
# **3 · Build.** Heun's method for any velocity, with the formula of section 6. The last step is an Euler step.

# %%
def heun(velocity, x, steps):                # velocity(x, t) with t (B,); x (B, D) at t = 0
    ...                                      # -> x at t = 1


check("ch04d.3", heun)


# %% [markdown]
# **4 · Train, change, measure.** Does it matter how $t$ is drawn? Train the field of section 3 for three seeds with `train_field(field)`, which draws
# $t$ evenly, and for three seeds with `train_field(field, draw_t=often_in_the_middle)`. Before each training call `runtime.seed_everything(seed)` and
# `field = Field()`. Measure each field with `r_squared(field)`. Put the six numbers into a dict with the keys "uniform" and "sigmoid", and your
# conclusion under the key "conclusion": "uniform", "sigmoid" or "no difference". Two means differ if their distance is larger than the sum of both
# standard deviations.

# %%
def often_in_the_middle(n):                  # -> (n,) times: the sigmoid of normal numbers
    ...


schedules = ...                              # {"uniform": …, "sigmoid": …, "conclusion": …}
check("ch04d.4", schedules)

# %% [markdown]
# ## 12 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook trains on 60,000 articles of clothing and measures everything there. What the published runs measured:

# %%
records.record("ch04d", seed=0, rows=rows, solver_error=errors, frechet_of_solver=distances,
               guidance=measured, nearest={k: [v.mean(), v.std()] for k, v in far.items()},
               r_squared=fits["trained"], paths=paths, steps=len(history.losses));

# %% tags=["record"]
records.show("ch04d", "quick")
records.show("ch04d", "full")

# %% [markdown]
# ## 13 What we learned
#
# 1. A path mixes noise and image; its velocity is the difference of both, and many paths cross at a point.
# 2. The loss of single pairs teaches the mean velocity, because the mean is the best answer in squared error.
# 3. The exact mean velocity of a finite set recites the set; this trained network drew new images.
# 4. One network serves many tasks: classes, guidance, interpolation, editing, completion, without new training.
# 5. Diffusion models are the same family: another path, another quantity predicted, noise added on the way.
#
# **References.** Y. Lipman et al., *Flow matching for generative modeling*, ICLR 2023 [2022], arXiv:2210.02747 · X. Liu, C. Gong, Q. Liu, *Flow
# straight and fast: learning to generate and transfer data with rectified flow*, ICLR 2023 [2022], arXiv:2209.03003 · J. Ho, A. Jain, P. Abbeel,
# *Denoising diffusion probabilistic models*, NeurIPS 2020, arXiv:2006.11239 · Y. Song et al., *Score-based generative modeling through stochastic
# differential equations*, ICLR 2021 [2020], arXiv:2011.13456 · A. Nichol, P. Dhariwal, *Improved denoising diffusion probabilistic models*, ICML 2021,
# arXiv:2102.09672 · P. Dhariwal, A. Nichol, *Diffusion models beat GANs on image synthesis*, NeurIPS 2021, arXiv:2105.05233 · C. Meng et al., *SDEdit*,
# ICLR 2022 [2021], arXiv:2108.01073 · J. Ho, T. Salimans, *Classifier-free diffusion guidance*, 2022, arXiv:2207.12598 · A. Lugmayr et al., *RePaint:
# inpainting using denoising diffusion probabilistic models*, CVPR 2022, arXiv:2201.09865 · R. Rombach et al., *High-resolution image synthesis with
# latent diffusion models*, CVPR 2022, arXiv:2112.10752 · T. Karras et al., *Elucidating the design space of diffusion-based generative models*, NeurIPS
# 2022, arXiv:2206.00364 · W. Peebles, S. Xie, *Scalable diffusion models with transformers*, ICCV 2023 [2022], arXiv:2212.09748 · J. Song, C. Meng, S.
# Ermon, *Denoising diffusion implicit models*, ICLR 2021 [2020], arXiv:2010.02502 · Y. Song et al., *Consistency models*, ICML 2023, arXiv:2303.01469 ·
# P. Esser et al., *Scaling rectified flow transformers for high-resolution image synthesis*, ICML 2024, arXiv:2403.03206 · H. Xiao, K. Rasul, R.
# Vollgraf, *Fashion-MNIST*, 2017, arXiv:1708.07747.
