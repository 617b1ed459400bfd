# %% [markdown]
# # 3b · ResNet (残差网络)
#
# *Book: §2.2.1 (2), 残差网络（ResNet）*
#
# **Can a deeper network learn worse than a shallow one, and what changes if a block adds its input to its output?**
#
# The first cell prints what a whole run costs, and shows the chapter's result: the training loss of four networks on the same digits, with 20 or 56
# layers, without and with a shortcut that adds the input of a block to its output. A thin line is one seed, a thick line is the mean of three seeds.
#
# *You will be able to*
#
# - compute a residual block (残差块) by hand, and build a whole ResNet;
# - explain the degradation problem (退化问题), show that it is no overfitting, and test two other explanations;
# - explain what a 1×1 convolution and a bottleneck block (瓶颈块) do, with numbers;
# - follow the signal forward and the gradient backward through 54 layers, and say which network suffers from which problem;
# - look inside a network that names articles of clothing, and take it apart.
#
# *Words that this chapter needs*: convolution (卷积), channel (通道), stride (步幅), padding (填充), ReLU, cross-entropy (交叉熵), epoch (轮次), learning rate
# (学习率): [chapter 3a](ch03a_convolution_and_pooling.ipynb).
#
# *Core path, 40 minutes*: sections 1 to 7 and 10. Sections 8 and 9 are headed *Going deeper*; points 4 and 5 of the summary need them.

# %% tags=["record"]
from functools import partial

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import data, metrics, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch03b import experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)                     # images this small gain little from more threads
plot.use_style()
records.published("ch03b")
published = records.RESULTS / "ch03b.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)]);

# %% [markdown]
# ## 1 The data, looked at
#
# We train on the digits of chapter 3a: 1,437 scans of 8×8 pixels, and 360 scans are held out. Training one network of 56 layers on them takes a few
# seconds. Section 6 uses larger images: articles of clothing of 28×28 pixels.

# %%
images, labels = data.digits("train")        # (1437, 1, 8, 8), (1437,)
test_images, test_labels = data.digits("test")
print("training", tuple(images.shape), "held out", tuple(test_images.shape))
plot.gallery(images[:12], [str(label.item()) for label in labels[:12]]);

# %% [markdown]
# ## 2 A deeper network should not be worse
#
# Before 2015 people made networks deeper and deeper. Beyond some depth the networks became worse. They became worse on new images, and also **on the
# images of the training set**. So it was no overfitting (过拟合). He et al. [2015] called it the degradation problem.
#
# Degradation is strange, because a deep network can imitate a shallow one. Take a plain network with 8 layers. Copy its layers into a network with 56
# layers. The other 48 layers must compute the identity (恒等映射): the output equals the input. A 3×3 convolution does this if its kernel has a 1 in the
# middle and zeros around it. (A ReLU passes its input on if the input is not negative. Here every input is the output of another ReLU, so it is not
# negative.)
#
# Do both networks give the same output?

# %%
from vlmbook.resnet import BasicBlock, PlainBlock, plain20, plain56, resnet18, resnet20, resnet56
from vlmbook.resnet import small_resnet

shallow, deep = (small_resnet(depth, in_channels=1, skip=False, norm_layer=nn.Identity)
                 for depth in (8, 56))
deep.conv1, deep.fc = shallow.conv1, shallow.fc
for stage in ("layer1", "layer2", "layer3"):
    blocks = getattr(deep, stage)
    blocks[0] = getattr(shallow, stage)[0]   # the copied block
    for block in blocks[1:]:                 # all others pass their input on
        nn.init.dirac_(block.conv1.weight)
        nn.init.dirac_(block.conv2.weight)
assert_close(deep(test_images[:8]), shallow(test_images[:8]))
depths = [len(experiments.list_blocks(net)) for net in (deep, shallow)]
print(f"{depths[0]} blocks give the output of {depths[1]} blocks")

# %% [markdown]
# Both networks give the same output. So the best training loss of 56 layers is at most the best training loss of 8 layers. (This holds for the *training*
# loss. It says nothing about new images. With batch normalisation, section 3, a suitable $\gamma$ and $\beta$ also give the identity in evaluation mode;
# no cell shows this.) If training ends with a larger loss, the optimizer did not find this solution.
#
# ## 3 The idea: add the input
#
# A residual block does not replace its input. The block **adds** something to its input. If the layers give zero, the block gives the identity. The block
# does not have to learn the identity.
#
# The drawing shows three kinds of blocks. The path of $x$ past the layers is the shortcut (捷径连接). The layers beside the shortcut are the branch (分支)
# $F$. The plain block has the same layers as the residual block, but no shortcut. The bottleneck block is explained below.

# %%
drawings.draw_kinds(plt.figure(figsize=(7, 3.4)))


# %% [markdown]
# ### By hand
#
# Take a block for one number. The branch is $F(x)=w_2\,\sigma(w_1x)$, with the ReLU $\sigma(z)=\max(0,z)$ and the weights $w_1=0.5$, $w_2=-0.3$. The
# plain block gives $\sigma(F(x))$, the residual block gives $h=\sigma(F(x)+x)$. Compute $h$ and the derivative $\mathrm dh/\mathrm dx$ for $x=2$ and
# $x=4$ in both blocks. What comes out of three residual blocks in a row, and what is the derivative there?

# %%
def residual_number(x, w_1=0.5, w_2=-0.3):
    return F.relu(w_2 * F.relu(w_1 * x) + x)


def plain_number(x, w_1=0.5, w_2=-0.3):
    return F.relu(w_2 * F.relu(w_1 * x))


def three_blocks(x):
    return residual_number(residual_number(residual_number(x)))


number = torch.tensor([2.0, 4.0], requires_grad=True)
for kind in (plain_number, residual_number, three_blocks):
    out = kind(number)
    (slope,) = torch.autograd.grad(out.sum(), number)
    shown = [[round(abs(z), 3) for z in each.tolist()] for each in (out, slope)]
    print(f"{kind.__name__:>15}: h = {shown[0]}, dh/dx = {shown[1]}")


# %% [markdown]
# For $x=2$ the branch gives $-0.3\cdot1=-0.3$. The plain block gives $\sigma(-0.3)=0$ with derivative 0: the number is lost, and so is the gradient (梯度).
# The residual block gives $2-0.3=1.7$ with derivative $1-0.15=0.85$. For $x=4$ everything is twice as large, and the derivatives are the same. Three
# blocks give $0.85^3=0.61$ of the input, with derivative 0.61. The 1 in $1-0.15$ is the shortcut.
#
# ### Batch normalisation
#
# The blocks in the drawing have one more part, BN. Batch normalisation (批归一化) gives each channel mean 0 and variance 1 over the batch and all
# positions. Then it multiplies by a learned $\gamma_c$ and adds a learned $\beta_c$. A small $\epsilon$ prevents a division by 0 [Ioffe & Szegedy
# 2015]:
#
# $$\mathrm{BN}(x)_{b,c,i,j}=\gamma_c\,\frac{x_{b,c,i,j}-\mu_c}{\sqrt{\sigma_c^2+\epsilon}}+\beta_c$$
#
# By hand: the numbers 1, 3, 5, 7 of one channel have the mean 4 and the variance $(9+1+1+9)/4=5$. With $\gamma=1$ and $\beta=0$ they become $-1.34,
# -0.45, 0.45, 1.34$. How many numbers $\mu$ and $\sigma^2$ are there for a batch of the shape `(4, 2, 3, 3)`?

# %%
def batch_norm(x, gamma, beta, eps=1e-5):              # (B, C, H, W), (C,), (C,) -> (B, C, H, W)
    y = torch.empty_like(x)
    for c in range(x.shape[1]):
        mu, var = x[:, c].mean(), x[:, c].var(correction=0)
        y[:, c] = gamma[c] * (x[:, c] - mu) / (var + eps).sqrt() + beta[c]
    return y


four = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(4, 1, 1, 1)
print(batch_norm(four, torch.ones(1), torch.zeros(1)).flatten().round(decimals=2).tolist())
batch, gamma, beta = torch.randn(4, 2, 3, 3), torch.tensor([1.0, 3.0]), torch.tensor([0.0, 5.0])
normed = batch_norm(batch, gamma, beta)
assert_close(normed, F.batch_norm(batch, None, None, gamma, beta, training=True))


# %% [markdown]
# Two of each, one for each channel. During training $\mu$ and $\sigma^2$ come from the current batch. The layer also keeps a running average of both:
# PyTorch takes 0.9 of the old average plus 0.1 of the new value in each step. After `.eval()`, in evaluation mode, the layer uses these averages. Then the
# answer for one image does not depend on the other images of the batch.
#
# ### The block
#
# Now the whole block. $W_1$ and $W_2$ are the two convolutions [He et al. 2015, eq. 1 and fig. 5]:
#
# $$h=\sigma\big(F(x)+x\big),\qquad F(x)=\mathrm{BN}\big(W_2\,\sigma(\mathrm{BN}(W_1x))\big)$$
#
# $F(x)$ and $x$ must have the same shape, because the block adds both. Which padding do the 3×3 convolutions need?
#
# A network consists of stages (阶段): rows of blocks with one size. Between two stages the size is halved, and the number of channels doubles. Then $x$ and
# $F(x)$ have different shapes. The shortcut of option A [He et al. 2015] takes every second pixel of $x$ and fills the new channels with zeros. This costs
# no weights. Option B is a 1×1 convolution with stride 2 in the shortcut.

# %%
class Block(nn.Module):                      # (B, C, H, W) -> (B, D, H/s, W/s)
    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.new = stride, channels - in_channels

    def forward(self, x):
        branch = F.relu(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        shortcut = x[:, :, ::self.stride, ::self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new))          # channels of zeros
        return F.relu(branch + shortcut)


# %% [markdown]
# The padding is 1. What is the output of a stack of blocks with $F=0$? We set $\gamma$ of the last BN to 0, in 27 residual blocks and in 27 plain blocks.
# This is as deep as ResNet-56.

# %%
def silent_stack(kind):
    blocks = [kind(2, 2, 1, nn.Identity(), nn.BatchNorm2d) for _ in range(27)]
    for block in blocks:
        nn.init.zeros_(block.bn2.weight)
    return nn.Sequential(*blocks)


signal = torch.rand(4, 2, 3, 3, requires_grad=True)
for kind in (BasicBlock, PlainBlock):
    out = silent_stack(kind)(signal)
    (slope,) = torch.autograd.grad(out.sum(), signal)
    ratio = (out / signal).mean()
    print(f"{kind.__name__:>10}: output/input {ratio:.0f}, gradient {slope.mean():.0f}")
    assert torch.equal(out, signal if kind is BasicBlock else torch.zeros_like(signal))
    assert (slope == (1 if kind is BasicBlock else 0)).all()

# %% [markdown]
# The residual stack is the identity (for $x\ge0$, and every ReLU gives $x\ge0$), and the whole gradient comes back. The plain stack gives 0, and no
# gradient.
#
# Networks usually do not start with $F=0$. Usually $\gamma$ starts at 1, and the branches of an untrained network are not zero (section 7 shows their
# size). Some networks start with $\gamma=0$ in the last BN of each block. Then each block starts as the identity. This does not always help; exercise 5
# measures it.
#
# Each block learns the difference between its wanted output and its input. This difference is called the residual (残差).
#
# ### 1×1 convolution and bottleneck
#
# A 1×1 convolution looks at one pixel only. It multiplies the channels of each pixel by the same matrix. Example: a pixel has the three channels
# $(1,2,3)$, and the matrix is $\begin{pmatrix}1&0&1\\0&2&-1\end{pmatrix}$. The result has two channels: $(1+3,\;4-3)=(4,1)$. So a 1×1 convolution
# changes the number of channels.
#
# With 256 channels a residual block of two 3×3 convolutions has $2\cdot9\cdot256\cdot256$ weights. The bottleneck block first reduces the channels to
# 64 by a 1×1 convolution, then convolves 3×3, and then returns to 256 channels. How many times fewer weights does it have?

# %%
pixel = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
matrix = torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, -1.0]])
print("1×1 convolution:", F.conv2d(pixel, matrix.view(2, 3, 1, 1)).flatten().tolist())
basic = 2 * 9 * 256 * 256
bottleneck = 256 * 64 + 9 * 64 * 64 + 64 * 256
print(f"two 3×3: {basic:,} weights; bottleneck: {bottleneck:,}; ratio {basic / bottleneck:.1f}")

# %% [markdown]
# The bottleneck block has 17 times fewer weights, and also 17 times fewer multiplications, because each weight is used once for each pixel. So for equal
# cost a bottleneck network can have more channels: ResNet-50 has 256 channels where ResNet-34 has 64. ResNet-50 and deeper networks use bottleneck blocks.
# This chapter's networks are small, and use blocks of two 3×3 convolutions.
#
# ## 4 The whole network
#
# The networks for small images [He et al. 2015, §4.2] have a first convolution (the stem), three stages of $n$ blocks, the mean over all positions, and
# one linear layer. They have $6n+2$ layers with weights: 20 for $n=3$, 56 for $n=9$. Predict the shape after each stage for an image of 28×28 pixels.
# Then look at the drawing. Dashed arcs are shortcuts where the size changes.

# %%
drawings.draw_network(plt.figure(figsize=(7, 1.9)))


# %%
class SmallResNet(nn.Module):                # (B, in_channels, H, W) -> (B, 10) logits
    def __init__(self, n=3, in_channels=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self.stage(16, 16, 1, n)
        self.layer2 = self.stage(16, 32, 2, n)
        self.layer3 = self.stage(32, 64, 2, n)
        self.fc = nn.Linear(64, 10)

    def stage(self, in_channels, channels, stride, n):
        rest = [Block(channels, channels, 1) for _ in range(n - 1)]
        return nn.Sequential(Block(in_channels, channels, stride), *rest)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


# %% [markdown]
# Is it the network of the package? Both have the same parameter names, so one can load the weights of the other. Then values and gradients must be
# equal, also for images that are not square.

# %%
mine, package = SmallResNet(), resnet20(in_channels=1)
mine.load_state_dict(package.state_dict())
sheet = torch.rand(4, 1, 28, 27)
outputs = [net(sheet) for net in (mine, package)]
assert_close(*outputs)
assert_close(*(torch.autograd.grad(out.square().sum(), list(net.parameters()))
               for out, net in zip(outputs, (mine, package))), rtol=1e-3, atol=1e-4)
count = lambda net: sum(parameter.numel() for parameter in net.parameters())
print(f"resnet20 {count(mine):,} parameters, plain20 {count(plain20(in_channels=1)):,}")
assert count(mine) == count(plain20(in_channels=1))    # so the addition is the only difference

# %% [markdown]
# The large ResNets of the package have torchvision's names. We load torchvision's ResNet-18 (with random weights, so that nothing has to be
# downloaded), and compare both on a photograph.

# %%
import torchvision

theirs, ours = torchvision.models.resnet18().eval(), resnet18().eval()
ours.load_state_dict(theirs.state_dict())
astronaut = data.photo("astronaut")[None, :, :224, 200:424]
logits = [net(astronaut) for net in (ours, theirs)]
assert_close(*logits, rtol=1e-5, atol=1e-5)
print(tuple(logits[0].shape), "largest difference", (logits[0] - logits[1]).abs().max().item())
norms = [name for name, layer in theirs.named_modules() if isinstance(layer, nn.BatchNorm2d)]
in_branches = [name for name in norms if name.startswith("layer") and "downsample" not in name]
print(f"{len(norms)} BN layers, {len(in_branches)} of them in the branches of eight blocks")
assert len(norms) == 20 and len(in_branches) == 16

# %% [markdown]
# ## 5 Train: is deeper worse?
#
# We train four networks. Images, order of the images, steps and learning rate are the same for all. The plain and the residual network of one depth have
# the same parameters. Each network is trained with three seeds (随机种子). The optimizer is SGD (stochastic gradient descent, 随机梯度下降): each step goes against
# the gradient of one batch. Momentum (动量) adds 0.9 times the previous step. The learning rate rises over ten steps. Then it falls to 0 as a cosine
# function.
#
# Guess before you run: which of the four networks has the largest loss *on the training set*?

# %%
from itertools import product
from vlmbook.training import fit

seeds, epochs, batch_size = range(3), runtime.pick(quick=3, full=12), 64
sgd = partial(torch.optim.SGD, momentum=0.9, nesterov=True)

def cross_entropy(net, x, y):
    return F.cross_entropy(net(x), y)

def train(net, seed, lr=0.03, epochs=epochs):          # -> training loss of each epoch
    history = fit(net.to(memory_format=torch.channels_last), (images, labels), epochs=epochs,
                  loss_fn=cross_entropy, batch_size=batch_size, lr=lr, warmup=10, seed=seed,
                  optimizer=sgd, progress=False,
                  precision=runtime.pick(quick=None, full=runtime.autocast_precision()))
    net.eval().cpu()
    return torch.tensor(history.losses).view(epochs, -1).mean(1).tolist()


makers = (plain20, plain56, resnet20, resnet56)
nets, losses = {}, {make.__name__: [] for make in makers}
for make, seed in product(makers, seeds):
    runtime.seed_everything(seed)
    nets[make.__name__, seed] = net = make(in_channels=1)
    losses[make.__name__].append(train(net, seed))

# %%
figure = plt.figure(figsize=(7, 2.6))
drawings.draw_degradation(figure, losses)
records.picture("ch03b", figure)
last = {name: torch.tensor(runs)[:, -1] for name, runs in losses.items()}
print(*(f"{name}: {x.mean():.3f} ± {x.std():.3f} nats" for name, x in last.items()), sep="\n")

# %% tags=["claims"]
assert last["plain56"].min() > 2 * last["plain20"].max()               # degradation
assert max(last["resnet20"].max(), last["resnet56"].max()) < last["plain20"].min() / 2

# %% [markdown]
# The plain network with 56 layers has the largest loss. At this learning rate both residual networks have a smaller loss than plain20 after three epochs.
# In this run the losses of resnet20 and resnet56 differ little.
#
# ### Is it only a slow start, or the wrong learning rate?
#
# Three epochs are few, and one learning rate may suit one network better than the other. So we train the plain networks for five epochs, at a smaller and
# at a larger rate. (One seed, to save time. The full profile trains all four networks for twelve epochs, at three rates, with three seeds.) Each dot is
# one seed. Does the plain network with 56 layers catch up?

# %%
rates = runtime.pick(quick=(0.01, 0.1), full=(0.01, 0.03, 0.1))
more = runtime.pick(quick=5, full=12)        # epochs
longer = {}
for rate, make in product(rates, runtime.pick(quick=(plain20, plain56), full=makers)):
    curves = losses[make.__name__] if rate == 0.03 else []
    for seed in runtime.pick(quick=range(1), full=seeds)[len(curves):]:
        runtime.seed_everything(seed)
        curves = [*curves, train(make(in_channels=1), seed, lr=rate, epochs=more)]
    longer.setdefault(str(rate), {})[make.__name__] = [curve[-1] for curve in curves]
drawings.draw_rates(plt.figure(figsize=(7, 1.7)), longer)
for rate, runs in longer.items():
    print(f"rate {rate}, {more} epochs:", *(f"{name} {torch.tensor(x).mean():.3f} nats"
                                             for name, x in runs.items()))

# %% tags=["claims"]
for runs in longer.values():
    assert min(runs["plain56"]) > 2 * max(runs["plain20"])
    residual = runs.get("resnet20", []) + runs.get("resnet56", [])
    assert max(residual, default=0) < min(runs["plain56"])

# %% [markdown]
# The plain network with 56 layers does not catch up. At both rates its training loss after five epochs is still much larger than that of 20 layers (one
# seed). The full run (section 12) has three seeds and twelve epochs: plain56 stays above 1.1 nats at all three rates, and plain20 is below 0.05. There the
# residual networks differ by rate. At 0.01 and 0.03 resnet56 has a smaller loss than resnet20; at 0.1 it has a loss of 0.1, and resnet20 of 0.001.
#
# ### And on new images?
#
# The table compares the held-out accuracy (准确率) of the four networks and of two simple baselines (基线) that learn from the same 1,437 images. The interval
# (95 % 置信区间) shows the uncertainty of an accuracy on 360 images; the ± shows how much the seeds differ. Which method has the highest accuracy?

# %%
from sklearn import neighbors, svm

shares = {make.__name__: [experiments.measure_accuracy(nets[make.__name__, seed], test_images,
                                                       test_labels) for seed in seeds]
          for make in makers}
baselines = {"3 nearest neighbours": neighbors.KNeighborsClassifier(3), "SVM": svm.SVC()}
for name, baseline in baselines.items():
    baseline.fit(images.flatten(1), labels)
    shares[name] = [baseline.score(test_images.flatten(1), test_labels)]
for name, accuracies in shares.items():
    values = torch.tensor(accuracies)
    spread = f" ± {values.std():.1%} over seeds" if len(values) > 1 else ""
    low, high = metrics.proportion_interval(values.mean().item(), len(test_labels))
    print(f"{name:>20}: {values.mean():.1%}{spread}; 95 % interval {low:.1%} to {high:.1%}")

# %% tags=["claims"]
assert max(shares["plain56"]) < min(shares["resnet56"])
if runtime.profile() == "quick":
    assert torch.tensor(shares["resnet20"]).mean() < shares["SVM"][0]

# %% [markdown]
# On these small digits the two baselines have the highest accuracies: the nearest neighbours (最近邻), and the support vector machine (支持向量机, SVM), a
# classifier that separates the classes with the largest margin. The intervals overlap with those of the residual networks, and we made no paired test. The
# next section uses larger images.
#
# ## 6 The same at full size: articles of clothing
#
# Fashion-MNIST [Xiao et al. 2017] has 60,000 training images and 10,000 test images of 28×28 pixels, in ten classes. `resnet20` was trained on them on
# a CPU. Each training image was mirrored at random, and moved by up to two pixels. This is augmentation (数据增强). The weights come with this package,
# together with a card that says how they were made. With `VLMBOOK_PROFILE=full` the notebook trains them itself.

# %%
if runtime.profile() == "full":              # goes on where it stopped
    net, history = experiments.train_on_fashion(*data.fashion_mnist("train"), epochs=14,
                                                checkpoint=experiments.find_checkpoint())
    garments, wanted = data.fashion_mnist("test")
else:
    net, card = experiments.read_fashion_net()
    print(f"trained for {card['hours']} hours on {card['device']}\n{card['quality']}")
    garments, wanted = experiments.draw_garments(6)
    print(tuple(garments.shape), "from the network of chapter 4d")

# %% [markdown]
# Fashion-MNIST itself is not part of this package. So in the quick profile our images come from a second network, the generator (生成器) of chapter
# [4d](ch04d_flow_matching.ipynb), which learned from Fashion-MNIST and draws new articles of clothing. We asked it for six images of each class, and show
# one of each. **Does the ResNet recognise the class that we asked for?** (This compares two networks. It does not replace the test on real images, which
# the card names.)

# %%
names = "T-shirt trouser pullover dress coat sandal shirt sneaker bag boot".split()
with torch.no_grad():
    found = torch.cat([net(part).argmax(1) for part in garments.split(500)])
    sure = net(garments[:10]).softmax(1).amax(1)
plot.gallery(garments[:10], [f"{names[k]} {p:.2f}" for k, p in zip(found[:10].tolist(), sure)],
             columns=5)
fashion_accuracy = (found == wanted).float().mean().item()
mistakes = [f"{names[a]} → {names[b]}" for a, b in zip(wanted.tolist(), found.tolist()) if a != b]
print(f"{fashion_accuracy:.1%} as asked for; mistakes: {', '.join(mistakes[:8])}")

# %% tags=["claims"]
assert fashion_accuracy > runtime.pick(quick=0.8, full=0.93)

# %% [markdown]
# In most cases the ResNet names the article. The mistakes are between classes that look alike, such as shirt, T-shirt, coat and pullover.
#
# ## 7 See inside
#
# ### A block taken apart
#
# Choose an image and a block. The panels show the image, $x$, $F(x)$, $F(x)+x$ and the output of the ReLU. All maps are of one channel, the channel with
# the largest branch. Red is positive, blue is negative. The bars show $\|F(x)\|/\|x\|$, the size of the branch relative to the shortcut. (Where the size
# changes, $x$ means the output of the shortcut.) Which bars are above 1?

# %%
interact.live(partial(drawings.draw_block, net=net, images=garments[:20]), image=(0, 19),
              block=(1, 9), figsize=(7.5, 1.7))


# %% [markdown]
# Blue values of the branch reduce the input. For the first image the bars of the blocks 1, 2, 4, 7 and 8 are above 1. In the blocks 4 and 7 the size
# changes, and the new channels of the shortcut are zeros.
#
# How large are the branches of a deep network? The next figure shows the bars for a ResNet-56 of section 5 over 100 digits: trained in blue, and the same
# network before training in grey.

# %%
def shares_of_branches(net):                 # -> (blocks,)
    traced = experiments.trace_blocks(net, test_images[:100])
    return torch.tensor([branch.norm() / x.norm() for x, branch, _ in traced])


runtime.seed_everything(0)
untrained = shares_of_branches(resnet56(in_channels=1))
learned = shares_of_branches(nets["resnet56", 0])
_, axes = plt.subplots(figsize=(7, 1.8))
axes.bar(range(1, 28), learned, color=plot.BLUE, label="trained")
axes.plot(range(1, 28), untrained, "o-", color=plot.GREY, label="untrained")
axes.set(xlabel="block", ylabel="‖F(x)‖ / ‖x‖")
axes.legend();

# %% tags=["claims"]
assert max(bars[-3:].mean() / bars[:3].mean() for bars in (untrained, learned)) < 0.7
assert untrained.min() > 0.1                 # an untrained block is not the identity

# %% [markdown]
# The last blocks change their input less than the first blocks. But the untrained network has this pattern too. BN gives each branch the variance 1. The
# variance of the sum grows from block to block (exercise 2). Therefore the branch becomes small relative to the sum. This is so before training, and three
# epochs changed it little (one seed). At the blocks 10 and 19 the size changes, and the new channels of the shortcut are zeros.
#
# ### What do the stages see?
#
# Each row shows six channels of one stage, those that differ most over the image. White is a large value. The stem still shows the outline of the
# image. **What happens to place and to detail in the later stages?**

# %%
chosen = [(wanted == label).nonzero()[0, 0].item() for label in range(10)]
drawings.draw_maps(plt.figure(figsize=(7, 4)), net, garments[chosen[7]][None])

# %% [markdown]
# The first rows show edges and filled areas, at the place where they are. In `layer3` a channel has 7×7 numbers. A channel of `layer3` keeps the rough
# position and loses the detail. The last step takes the mean over the 49 positions, so the position is lost as well.
#
# ### What does a prediction depend on?
#
# We cover a square of the image with zeros, once around each pixel, and ask for the probability of the right class. This is occlusion (遮挡分析) [Zeiler &
# Fergus 2014]. At dark positions the probability is small: the network needs the covered pixels, or the edges of the black square disturb it. Try all ten
# classes. Which classes are recognised for every position of the square?

# %%
with torch.no_grad():
    kept = {names[k]: net(experiments.occlude(garments[[i]], 9)[::3]).argmax(1).eq(k).float().mean()
            for k, i in enumerate(chosen)}
print("share of positions at which the answer is right:",
      *(f"{name} {share:.0%}" for name, share in kept.items()))
interact.live(partial(drawings.draw_occlusion, net=net, images=garments[chosen],
                      labels=wanted[chosen], names=names), image=(0, 9), size=(1, 15, 2),
              figsize=(7.5, 1.9))

# %% [markdown]
# The printed line answers the question for one image of each class and a square of 9×9 pixels (every third position). Where the uncovered image is already
# named wrongly, as the shirt above, the number says nothing about robustness.
#
# ## 8 Going deeper: what the signal and the gradient do
#
# The book gives a reason why ResNet works, twice: it solved vanishing gradients (梯度消失), and it avoids vanishing and exploding gradients (梯度爆炸). We can
# measure this. The figure shows networks **before any training**, on one batch of small photographs.
#
# - Left: how large is the output $h$ of each block? This is the signal, on its way forward.
# - Middle: how large is $\partial\mathcal L/\partial h$, the gradient of the loss $\mathcal L$ that arrives at this output? Backpropagation goes from the
#   last block to the first. Therefore read this panel from right to left.
# - Right: how large is $\partial\mathcal L/\partial W$, the gradient of the weights? It is a product of the signal from the left panel and the gradient
#   from the middle panel.
#
# Read the four lines of the middle panel. In which network does the gradient vanish on its way back? In which networks does the gradient explode? ($\|h\|$
# and the gradients are norms of whole maps. At the blocks 10 and 19 a map gets half as many numbers, so a norm falls there by a factor of about 1.4.)

# %%
interact.live(drawings.draw_signals, depth=(8, 56, 6), seed=(0, 4), figsize=(7.5, 2.7))

# %% [markdown]
# The table divides the value of the first block by the value of the last block, for 56 layers. A ratio above 1 for $h$ means: the signal becomes smaller
# on its way forward. A ratio above 1 for $\partial\mathcal L/\partial h$ means: the gradient becomes larger on its way back. Each ratio is a geometric
# mean (the mean of the logarithms) over three seeds. The rows with *circular* pad with pixels of the opposite border instead of zeros.

# %%
ways = {"plain": (False, False), "residual": (True, False), "plain + BN": (False, True),
        "residual + BN": (True, True), "plain, circular": (False, False, True)}
ratios = {}
for name, (skip, norm, *circular) in ways.items():
    runs = [experiments.measure_signals(56, skip, norm, seed, *circular) for seed in range(3)]
    logs = torch.tensor([[values[0] / values[-1] for values in run] for run in runs]).log()
    ratios[name] = dict(zip(("h", "dh", "dw"), logs.mean(0).exp().tolist()))
    print(f"{name:>16}: " + ", ".join(f"{key} {ratio:9.3g}" for key, ratio in ratios[name].items()))

# %% tags=["claims"]
assert ratios["plain"]["dh"] < 1 / 20 and ratios["plain"]["h"] > 200             # both fade
assert 0.1 < ratios["plain"]["dw"] < 20                                # and the product hides it
assert ratios["plain, circular"]["dh"] > 5 * ratios["plain"]["dh"]
assert ratios["residual"]["dh"] > 300 and ratios["residual"]["h"] < 1 / 200
assert ratios["plain + BN"]["dh"] > 1000 and ratios["residual + BN"]["dh"] < 100


# %% [markdown]
# The answer depends on BN.
#
# - **Plain, without BN**: the signal fades about 1,000 times on its way forward, and the gradient fades about 80 times on its way back. So the gradient
#   *does* vanish here. The norm of the weight gradient is nearly constant over the layers, because the signal is large where the gradient is small. A
#   figure of weight gradients alone hides the problem.
# - Much of this fading is caused by zero padding: with circular padding, and everything else equal, the gradient fades only about 3 times. (With zero
#   padding the sums of the outer pixels have fewer terms that are not zero, in each layer again.)
# - **Residual, without BN**: signal and gradient both grow about 1,000 times. They explode.
# - **Plain, with BN**: the gradient does not vanish. It *grows* several thousand times towards the first block [Yang et al. 2019].
# - **Residual, with BN**: the gradient grows about 20 times on its way back, and the signal changes by less than a factor of 2. Of the four networks this
#   one has the smallest changes of signal and gradient. (For the weight gradients the residual network without BN has a ratio nearer to 1.)
#
# **Book check, W35 and M02.** Before training and without BN, the plain gradient vanishes, and the residual one explodes instead. He et al. compared
# ResNet with plain networks with BN. In our plain network with BN the gradient does not vanish. He et al. [2015, §4.1] say it themselves: the problem of
# the plain networks with BN is "unlikely to be caused by vanishing gradients". "It avoids exploding gradients" is wrong without BN. With BN the gradient
# still grows, but far less than in the plain network. So why does the plain network with BN and 56 layers learn badly? Our measurements exclude vanishing.
# A gradient that grows several thousand times is a possible reason, but we did not isolate it; He et al. leave the question open too.
#
# ### Why the residual network explodes without BN
#
# He's initialisation [He et al. 2015b] draws weights so that a convolution after a ReLU keeps the variance. Consider a block without the last ReLU, a
# pre-activation block (预激活残差块) [He et al. 2016]. If branch and input are uncorrelated, their variances add up:
#
# $$h_{l+1}=h_l+F_l(h_l),\qquad \mathrm{Var}[h_{l+1}]=\mathrm{Var}[h_l]+\mathrm{Var}[F_l(h_l)]\approx 2\,\mathrm{Var}[h_l]\quad\Rightarrow\quad \mathrm{Var}[h_L]\approx2^L\,\mathrm{Var}[h_0]$$
#
# What is the variance after 50 blocks, if BN is the last layer of each branch and its output has variance 1? Compute it, then run. (The padding is
# circular.)

# %%
def variances(skip, norm, blocks=50, width=64):        # -> list: Var[h] by block, F = W relu
    h, variance = torch.randn(8, width, 16, 16), []
    for _ in range(blocks):
        w = nn.init.kaiming_normal_(torch.empty(width, width, 3, 3))
        branch = F.conv2d(F.pad(h.relu(), (1, 1, 1, 1), "circular"), w)
        branch = F.batch_norm(branch, None, None, training=True) if norm else branch
        h = branch + h if skip else branch
        variance.append(h.var().item())
    return variance


grown = {"residual": variances(True, False), "residual, BN in the branch": variances(True, True),
         "plain": variances(False, False)}
_, axes = plt.subplots(figsize=(7, 2.4))
for name, curve in grown.items():
    axes.semilogy(range(1, 51), curve, label=f"{name}: {curve[-1]:.2g} after 50")
axes.set(xlabel="block", ylabel="variance")
axes.legend();

# %% tags=["claims"]
assert 1.8 < grown["residual"][-1] ** (1 / 50) < 2.1
assert 40 < grown["residual, BN in the branch"][-1] < 65
assert 0.8 < grown["plain"][-1] ** (1 / 50) < 1.2


# %% [markdown]
# With BN the variance is about $1+50$. Without BN it grows by a factor of about 1.86 per block. The measured factor is a little below the 2 of the
# formula. Over 50 blocks the difference makes a factor of $0.93^{50}=0.03$, so the curve ends below $2^{50}\approx10^{15}$. The plain variance does not
# explode, but it is not constant either: each layer of random weights changes it a little.
#
# So BN in the branch keeps a residual network in bounds [De & Smith 2020]. A careful start without BN does it as well [Zhang, Dauphin & Ma 2019]. What
# does the addition itself give? A direct path for the gradient. For pre-activation blocks (in the networks that we trained, the ReLU after the addition
# also multiplies the gradient, by 0 or 1)
#
# $$\frac{\partial\mathcal L}{\partial h_l}=\frac{\partial\mathcal L}{\partial h_L}\Big(I+\frac{\partial}{\partial h_l}\sum_{i=l}^{L-1}F_i(h_i)\Big).$$
#
# The identity matrix $I$ carries the gradient to every block of a stage. In the example by hand it was the 1 in $1-0.15$.
#
# ## 9 Going deeper: break it
#
# ### Take out one block
#
# We take one block out of a *trained* network, put nothing in its place, and do not train again [Veit et al. 2016]. We do it for each block that keeps
# the size, for three seeds. What do you expect for the plain network, and what for the residual one?
#
# After the removal the signal has another mean and variance, and the stored averages of BN are wrong. This is a second possible cause, so we measure it
# separately: *fresh* means that all BN averages were measured again on 512 training images after the removal. No weight changes.

# %%
def accuracy_of(net):
    return experiments.measure_accuracy(net, test_images, test_labels)

def accuracy_after_refresh(net):
    experiments.refresh_statistics(net, images[:512])
    return accuracy_of(net)


cut = {}
for name in ("plain20", "resnet20"):
    for label, measure in (("", accuracy_of), (", fresh BN", accuracy_after_refresh)):
        cut[name + label] = [experiments.without_each_block(nets[name, seed], measure)
                             for seed in seeds]
drawings.draw_cuts(plt.figure(figsize=(7.5, 2.3)), cut, shares)
mean_cut = {name: torch.tensor([list(each.values()) for each in runs]).mean().item()
            for name, runs in cut.items()}
print(*(f"{name}: {share:.2f} on average without one block" for name, share in mean_cut.items()),
      sep="\n")

# %% tags=["claims"]
assert mean_cut["plain20"] < 0.4 < mean_cut["resnet20"]
assert mean_cut["plain20, fresh BN"] < mean_cut["resnet20, fresh BN"] - 0.2

# %% [markdown]
# If any single block is missing, the plain network is hardly better than guessing. The residual network keeps most of its accuracy, except when one of its
# first blocks is missing. (We did not test why.) Fresh averages repair a part of the damage in the residual network and almost nothing in the plain one.
# So outdated averages do not explain the difference between the two. The plain network also had the larger training loss before the removal, so the
# comparison is not between two equally well trained networks. Veit et al. give an explanation: a residual network is a sum over many paths. Two blocks
# have four paths: through both blocks, through the first only, through the second only, and through no block. If one block is removed, only the paths
# through this block are lost.
#
# ### Without batch normalisation
#
# Second experiment: `resnet20` without BN, everything else equal. Section 8 shows that its signal grows from block to block. Does it learn?

# %%
bare = []
for seed in seeds:
    runtime.seed_everything(seed)
    try:
        bare.append(train(small_resnet(20, in_channels=1, norm_layer=nn.Identity), seed)[-1])
    except FloatingPointError:               # the loss became infinite: no better than guessing
        bare.append(torch.tensor(10.0).log().item())
with_norm = last["resnet20"].mean()
print("without BN", *(f"{loss:.2f}" for loss in bare), f"nats; with BN {with_norm:.2f}")

# %% tags=["claims"]
assert sum(bare) / 3 > 2 * last["resnet20"].mean()

# %% [markdown]
# At this learning rate and in three epochs the network without BN learns much less. After the twelve epochs of the full run it learns too (0.006 nats),
# but its loss is still four times as large. We did not try smaller rates.
#
# ## 10 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch03b.1")` helps in steps, `solution("ch03b.1")` shows one answer.
#
# **1 · Predict.** A photograph `(1, 3, 200, 300)` goes into `resnet34`. What is the shape of the output of `layer3`? The stem of this large ResNet halves
# the size twice. Each stage except the first halves it once more. Half of an odd number is rounded up. The stages have 64, 128, 256 and 512 channels.

# %%
shape = ...                                  # (B, C, H, W)
check("ch03b.1", shape)


# %% [markdown]
# **2 · Derive.** The variance of the input is `start`. The last layer of each branch is BN with $\gamma=1$ and $\beta=0$. Branch and shortcut are
# uncorrelated. What is the variance after `blocks` blocks $h_{l+1}=h_l+F_l(h_l)$?

# %%
def variance_with_norm(start, blocks):       # -> float
    ...


check("ch03b.2", variance_with_norm)


# %% [markdown]
# **3 · Change.** The pre-activation block [He et al. 2016] computes BN, ReLU, convolution, BN, ReLU, convolution, and then the addition. After the
# addition there is nothing. Write it with the parts `conv1, bn1, conv2, bn2` of a `BasicBlock` that keeps the size.

# %%
def pre_activation(block, x):                # (B, C, H, W) -> (B, C, H, W)
    ...


check("ch03b.3", pre_activation)


# %% [markdown]
# **4 · Build.** Write the shortcut without weights (option A): every `stride`-th pixel, and the new channels, which stand after the old channels, are
# zero.

# %%
def option_a(x, channels, stride):           # -> (B, channels, ⌈H/stride⌉, ⌈W/stride⌉)
    ...


check("ch03b.4", option_a)

# %% [markdown]
# **5 · Train, change, measure.** Does it help to start each block as the identity? Train `resnet20(in_channels=1)` six times (about as long as the cells of section 5):
#
# 1. for the seeds 0, 1 and 2 as in section 5: `runtime.seed_everything(seed)`, make the network, then `train(net, seed)[-1]` is the loss;
# 2. for the same seeds with $\gamma=0$: before the training, set `bn2.weight` of each block in `experiments.list_blocks(net)` to 0.
#
# Put the six losses into a dict with the keys "gamma 1" and "gamma 0", three in each. Add your conclusion under the key "conclusion": "gamma 1" or
# "gamma 0" for the start with the smaller loss, or "no difference". Two means differ if their distance is larger than the sum of both standard deviations.

# %%
starts = ...                                 # {"gamma 1": …, "gamma 0": …, "conclusion": …}
check("ch03b.5", starts)

# %% [markdown]
# ## 11 Book check
#
# - **W08 · the formula.** §2.2.1 prints `F(H_{\text{layer}-1) + H_{\text{layer}-1})`. A brace is missing, so it does not compile. If the formula means
#   $F(h+h)$, the shortcut is *inside* $F$: with $F=0$ this block gives 0, as the plain stack of section 3. Right is $\sigma(F(h)+h)$.
# - **W13 · the diagram** of ResNet is a chain of eleven boxes. No box has two arrows that enter it. So nothing is added, and it is a plain network.
#   Compare the drawing of section 3.
# - **I06 · what is in $F$.** The book names convolutions and activations. $F$ also contains BN: section 4 counts two in each branch of ResNet-18. And
#   the last ReLU stands *after* the addition, outside of $F$.
# - **W35, M02 · vanishing and exploding gradients**: section 8.
# - **W43 · who won.** §2.2.1 says that AlexNet, VGG and ResNet all had the best classification of their time. VGG was second in 2014: the top-5 error
#   was 7.3 %, and GoogLeNet had 6.7 % [Simonyan & Zisserman 2014; Russakovsky et al. 2015].

# %% [markdown]
# ## 12 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook trains `resnet20` on Fashion-MNIST, and the four networks for twelve epochs at three rates. The published
# runs gave these results:

# %%
if runtime.profile() == "full":
    from sklearn.linear_model import LogisticRegression

    many, classes = data.fashion_mnist("train")
    linear = LogisticRegression(max_iter=100).fit(many.flatten(1), classes)
    nearest = neighbors.KNeighborsClassifier(3).fit(many.flatten(1), classes)
    fashion = {"resnet20": fashion_accuracy} | {
        name: model.score(garments.flatten(1), wanted)
        for name, model in {"logistic regression": linear, "3 nearest neighbours": nearest}.items()}
else:
    fashion = {"generated images, as asked for": fashion_accuracy}
final = {name: values.tolist() for name, values in last.items()}
records.record("ch03b", seed=list(seeds), training_loss=final, loss_without_norm=bare,
               **{f"loss_after_{more}_epochs": longer},
               accuracy_digits=shares, fashion=fashion, ratios=ratios, one_block_out=mean_cut);

# %% tags=["record"]
records.show("ch03b", "quick")
records.show("ch03b", "full")

# %% [markdown]
# ## 13 What we learned
#
# 1. A deeper plain network had a larger *training* loss than a shallower one, though it could imitate it. More epochs and two other rates did not remove
#    this (one seed; in the full run three seeds).
# 2. A residual block adds its branch to its input. With $F=0$ it is the identity, and the whole gradient comes back.
# 3. With the addition, 56 layers learn about as well as 20, except at the largest rate of the full run. A ResNet of 20 layers recognises articles of
#    clothing.
# 4. Before training: without BN the gradient vanishes in the plain network and explodes in the residual one. With BN it grows several thousand times in
#    the plain network, and about 20 times in the residual one.
# 5. A trained residual network survives the loss of one block better than a plain one, also with fresh averages of BN.
#
# **References.** K. He, X. Zhang, S. Ren, J. Sun, *Deep residual learning for image recognition*, CVPR 2016 [2015], arXiv:1512.03385 · K. He, X. Zhang,
# S. Ren, J. Sun, *Delving deep into rectifiers: surpassing human-level performance on ImageNet classification*, ICCV 2015 [2015b], arXiv:1502.01852 ·
# K. He, X. Zhang, S. Ren, J. Sun, *Identity mappings in deep residual networks*, ECCV 2016, arXiv:1603.05027 · S. Ioffe, C. Szegedy, *Batch
# normalization: accelerating deep network training by reducing internal covariate shift*, ICML 2015, arXiv:1502.03167 · G. Yang, J. Pennington, V. Rao,
# J. Sohl-Dickstein, S. S. Schoenholz, *A mean field theory of batch normalization*, ICLR 2019, arXiv:1902.08129 · H. Zhang, Y. N. Dauphin, T. Ma,
# *Fixup initialization: residual learning without normalization*, ICLR 2019, arXiv:1901.09321 · S. De, S. L. Smith, *Batch normalization biases
# residual blocks towards the identity function in deep networks*, NeurIPS 2020, arXiv:2002.10444 · A. Veit, M. Wilber, S. Belongie, *Residual networks
# behave like ensembles of relatively shallow networks*, NIPS 2016, arXiv:1605.06431 · M. D. Zeiler, R. Fergus, *Visualizing and understanding
# convolutional networks*, ECCV 2014, arXiv:1311.2901 · K. Simonyan, A. Zisserman, *Very deep convolutional networks for large-scale image recognition*,
# ICLR 2015 [2014], arXiv:1409.1556 · O. Russakovsky et al., *ImageNet large scale visual recognition challenge*, IJCV 115, 2015, arXiv:1409.0575 · H.
# Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms*, 2017, arXiv:1708.07747.
