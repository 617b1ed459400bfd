# %% [markdown]
# # 3b · ResNet (残差网络)
#
# *Book: §2.2.1 (2), 残差网络（ResNet）*
#
# **Why does a deeper network learn worse, and what does it help to add a block's input to its output?**
#
# You will be able to build a residual block (残差块) and a whole ResNet, load weights made for torchvision's into it, follow the
# gradient through a hundred layers, tell which of the book's explanations hold, and look into a network that reads real digits.
#
# Run the cells from top to bottom. The first one prints what a whole run costs, and draws what its published run found: four networks on
# the same digits, with 20 or 56 layers, without and with that addition. A thin line is one seed, a thick one their mean.

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
plot.use_style()
records.published("ch03b")

if published := records.load("ch03b", "quick"):
    published_losses = published["measurements"]["training_loss"]
    drawings.draw_degradation(plt.figure(figsize=(7, 2.6)), published_losses)

# %% [markdown]
# ## 1 The data, looked at
#
# The digits of chapter 3a again: 1,437 scans of 8×8 pixels to learn from, 360 held out. With `VLMBOOK_PROFILE=full` it is Fashion-MNIST, 60,000 and
# 10,000 grey articles of clothing of 28×28, if you have it.

# %%
images, labels = data.digits_or_fashion("train")         # each (B, 1, H, W), (B,)
test_images, test_labels = data.digits_or_fashion("test")
small = images.shape[-1] < 16                # the digits
print("to learn from", tuple(images.shape), "held out", tuple(test_images.shape))
plot.gallery(images[:12], [str(label.item()) for label in labels[:12]]);

# %% [markdown]
# ## 2 A deeper network ought to be no worse
#
# Before 2015 deeper networks were tried again and again, and beyond some depth they got worse: not only on new images, but on those they
# learned from. He et al. called it the degradation problem (退化问题). Why is it strange?
#
# Because a deep network can imitate a shallow one. Take one of 8 layers that stack plain blocks (two convolutions each), copy its blocks into
# one of 56, and let all the others hand on what they get: a kernel with a single 1 in the middle. (What a ReLU hands on is never negative, so the
# next ReLU changes nothing. BatchNorm is left out for simplicity.) Do both give the same answers?

# %%
from vlmbook.resnet import BasicBlock, PlainBlock, ResNet, plain20, plain56, resnet18, resnet20
from vlmbook.resnet import resnet56, small_resnet

shallow, deep = (small_resnet(depth, in_channels=1, skip=False, norm_layer=nn.Identity)
                 for depth in (8, 56))
deep.conv1, deep.fc = shallow.conv1, shallow.fc
for ours, theirs in zip((deep.layer1, deep.layer2, deep.layer3),
                        (shallow.layer1, shallow.layer2, shallow.layer3)):
    ours[0] = theirs[0]
    for block in ours[1:]:
        nn.init.dirac_(block.conv1.weight)
        nn.init.dirac_(block.conv2.weight)
assert_close(deep(test_images[:8]), shallow(test_images[:8]))
depths = [len(experiments.list_blocks(net)) for net in (deep, shallow)]
print(f"{depths[0]} blocks give the output of {depths[1]}")


# %% [markdown]
# They do. So on the training images the best 56-layer network is at least as good as the best 8-layer one. If training finds a worse one, the fault is with the
# search: 48 layers have to learn to do nothing, starting from random numbers, and that is hard to find.
#
# The idea of the residual network is to make *nothing* the reference point: the block adds to its input instead of replacing it.
#
# ## 3 The idea, written here
#
# First the other part of the block. Batch normalisation (批归一化) brings each channel to mean 0 and variance 1 over the batch and all
# positions, then scales by a learned $\gamma_c$ and moves by a learned $\beta_c$; a small $\epsilon$ keeps it from dividing by 0 [Ioffe & Szegedy 2015]:
#
# $$\mathrm{BN}(x)_{b,c,i,j}=\gamma_c\,\frac{x_{b,c,i,j}-\mu_c}{\sqrt{\sigma_c^2+\epsilon}}+\beta_c$$
#
# How many numbers are $\mu$ and $\sigma^2$ for a batch `(4, 2, 3, 3)`?

# %%
def batch_norm(x, gamma, beta, eps=1e-5):              # (B, C, H, W), (C,), (C,) -> (B, C, H, W)
    y = torch.empty_like(x)
    for c in range(x.shape[1]):
        mu, var = x[:, c].mean(), x[:, c].var(correction=0)
        y[:, c] = gamma[c] * (x[:, c] - mu) / (var + eps).sqrt() + beta[c]
    return y


x, gamma, beta = torch.randn(4, 2, 3, 3), torch.tensor([1.0, 3.0]), torch.tensor([0.0, 5.0])
y = batch_norm(x, gamma, beta)
assert_close(y, F.batch_norm(x, None, None, gamma, beta, training=True))
print("mean", y.mean((0, 2, 3)).tolist(), "std", y.std((0, 2, 3), correction=0).tolist())


# %% [markdown]
# Two each, one a channel. (In evaluation the layer uses averages of $\mu$ and $\sigma^2$ that it kept while training.)
#
# Now the block. The branch $F$ is two convolutions $W_1$, $W_2$ of 3×3, each with BN, one ReLU $\sigma$ between them. Its input
# is added, and a last ReLU follows. The path of $x$ past the branch is the shortcut, or skip connection (跳跃连接) [He et al. 2015, eq. 1 and fig. 5]:
#
# $$h=\sigma\big(F(x)+x\big),\qquad F(x)=\mathrm{BN}\big(W_2\,\sigma(\mathrm{BN}(W_1x))\big)$$
#
# `x` is `(4, 2, 3, 3)`. Which shape must `F(x)` have, and so the kernels and the padding?

# %%
def residual_block(x, w1, w2, one, zero):              # every BN with gamma one, beta zero
    branch = batch_norm(F.conv2d(x, w1, padding=1), one, zero).relu()
    branch = batch_norm(F.conv2d(branch, w2, padding=1), one, zero)
    return (branch + x).relu()


block = BasicBlock(2, 2, 1, nn.Identity(), nn.BatchNorm2d)
x = torch.randn(4, 2, 3, 3, requires_grad=True)
parts = block.conv1.weight, block.conv2.weight
mine, package = residual_block(x, *parts, torch.ones(2), torch.zeros(2)), block(x)
assert_close(mine, package)
upward = torch.randn_like(mine)
assert_close(torch.autograd.grad((mine * upward).sum(), (x, *parts)),
             torch.autograd.grad((package * upward).sum(), (x, *parts)))
print(tuple(x.shape), "->", tuple(mine.shape), "kernels", *(tuple(w.shape) for w in parts))


# %% [markdown]
# Values and gradients agree with the package's `BasicBlock`. What does a block do when its branch is silent, $F=0$? Set $\gamma$ of the last BN to
# zero, here and in the plain block (the same layers without the addition), and stack twenty-seven of them, as in ResNet-56.

# %%
def silent(kind):
    blocks = [kind(2, 2, 1, nn.Identity(), nn.BatchNorm2d) for _ in range(27)]
    for block in blocks:
        nn.init.zeros_(block.bn2.weight)
    return nn.Sequential(*blocks)


x = torch.rand(4, 2, 3, 3, requires_grad=True)
for kind in (BasicBlock, PlainBlock):
    y = silent(kind)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    print(f"{kind.__name__:>10}: output/input {(y / x).mean():.0f}, gradient {gradient.mean():.0f}")
    assert torch.equal(y, x if kind is BasicBlock else torch.zeros_like(x))
    assert (gradient == (1 if kind is BasicBlock else 0)).all()

# %% [markdown]
# The residual stack is the identity (for $x\ge0$, which is what every ReLU hands on), and gives the gradient back whole. The plain stack is dead.
# A branch with small weights now does next to nothing. Each block has only to learn the difference between what should come out, before the last ReLU, and $x$:
# the residue (残差).
#
# Between stages the size is halved and the channels double, so $x$ no longer fits onto $F(x)$. What then? Either the shortcut takes every second
# pixel and fills the new channels (通道) with zeros, which costs no weights (option A of the paper, our small networks), or it is a 1×1
# convolution $W_s$ with stride (步幅) 2 (option B): $h=\sigma(F(x)+W_sx)$.
#
# Predict the shape after each stage for an image `(1, 1, 28, 27)`, then look.

# %%
net, twin = resnet20(in_channels=1), plain20(in_channels=1)
sizes = [tuple(stage.shape[1:]) for stage in net.features(torch.rand(1, 1, 28, 27))]
count = lambda net: sum(weight.numel() for weight in net.parameters())
print(*sizes, f"\n{count(net):,} parameters; without the addition {count(twin):,}")
assert sizes == [(16, 28, 27), (16, 28, 27), (32, 14, 14), (64, 7, 7)]
assert count(net) == count(twin)             # so what differs is the addition alone

# %% [markdown]
# Is our large ResNet the one everybody uses? Give it torchvision's weights; random ones will do, so nothing has to be downloaded.

# %%
import torchvision

theirs, ours = torchvision.models.resnet18(), resnet18()
ours.load_state_dict(theirs.state_dict())
astronaut = data.photo("astronaut")[None, :, :224, 200:424]
logits = [net.eval()(astronaut) for net in (ours, theirs)]
assert_close(*logits, rtol=1e-5, atol=1e-5)
assert_close(*(torch.autograd.grad(y.square().sum(), net.conv1.weight)[0]
               for y, net in zip(logits, (ours, theirs))), rtol=1e-3, atol=1e-3)
print(tuple(logits[0].shape), "largest difference", (logits[0] - logits[1]).abs().max().item())

# %% [markdown]
# ## 4 Book check
#
# **W08 · the formula.** §2.2.1 prints `F(H_{\text{layer}-1) + H_{\text{layer}-1})`. A brace is missing, so it does not compile, and one parenthesis closes
# what was never opened. Drop the first `)` and it reads $F(h+h)$, drop the last and it reads $F(h)+h$. Which of them still passes $h$ on when
# $F$ is silent? (And the last activation is missing in both.)

# %%
printed = r"H_{\text{layer}} = F(H_{\text{layer}-1) + H_{\text{layer}-1})"
assert [printed.count(sign) for sign in "{}()"] == [6, 5, 1, 2]
h, quiet = torch.rand(3), lambda h: 0 * h
inside, outside = quiet(h + h), (quiet(h) + h).relu()
print("F(h + h):", inside.tolist(), "\nF(h) + h:", outside.tolist())
assert (inside == 0).all() and torch.equal(outside, h)

# %% [markdown]
# **W13 · the diagram** and **I06 · what is in $F$.** The book's diagram of ResNet has eleven boxes, `A` to `K`, and its text says that the block holds
# convolutions and activations. PyTorch can draw the graph of our block from its code. How many arrows enter a node?

# %%
from collections import Counter
from torch.fx import symbolic_trace

drawn = "A>B B>C C>D D>E E>F F>G G>H H>I I>J J>K"                      # §2.2.1
arrows = Counter(edge.split(">")[1] for edge in drawn.split())
traced = symbolic_trace(BasicBlock(2, 2, 1, nn.Identity(), nn.BatchNorm2d)).graph
traced.eliminate_dead_code()                 # what only the checks of arguments look at
entering = {node.name: len(node.all_input_nodes) for node in traced.nodes}
print("the book: at most", max(arrows.values()), "arrow\nthe block:", entering)
assert max(arrows.values()) == 1 and entering["add_"] == 2
assert list(entering)[-3:-1] == ["add_", "relu__1"]

# %% [markdown]
# In the book's chain nothing is ever added: it is a plain network. Ours has a node that two arrows enter, and the last ReLU stands *after* the addition,
# outside of $F$. (`downsample` is the skip, here an identity.) And $F$ contains BN. How many BN layers has torchvision's ResNet-18, and how many of them stand in branches?

# %%
modules = torchvision.models.resnet18().named_modules()
norms = [name for name, layer in modules if isinstance(layer, nn.BatchNorm2d)]
branch = [name for name in norms if name.startswith("layer") and "downsample" not in name]
print(f"{len(norms)} in all, {len(branch)} in the branches of eight blocks")
assert len(norms) == 20 and len(branch) == 16

# %% [markdown]
# **W43 · who won.** §2.2.1 says that AlexNet, VGG and ResNet all had the best classification at their time.

# %%
ilsvrc = {"ResNet 2015": (3.57, 1), "GoogLeNet 2014": (6.7, 1), "VGG 2014": (7.3, 2),
          "AlexNet 2012": (15.3, 1)}
_, axes = plt.subplots(figsize=(7, 1.7))
colours = [plot.ORANGE if name.startswith("VGG") else plot.BLUE for name in ilsvrc]
bars = axes.barh([*ilsvrc], [error for error, _ in ilsvrc.values()], color=colours)
axes.bar_label(bars, [f"{error} %, place {rank}" for error, rank in ilsvrc.values()], padding=3)
axes.set(xlabel="top-5 error on ImageNet, %", xlim=(0, 19))
assert ilsvrc["VGG 2014"][1] == 2 and ilsvrc["GoogLeNet 2014"] < ilsvrc["VGG 2014"]

# %% [markdown]
# VGG was second in classification (its own abstract says so) and first in localisation [Simonyan & Zisserman 2014; Russakovsky et al. 2015; for ResNet He et al. 2015].
#
# ## 5 What the gradient does on its way
#
# The book gives the reason why ResNet works, twice: it cured vanishing gradients (梯度消失), and it avoids both vanishing and exploding ones
# (梯度爆炸). Look for yourself. Below are networks that have not learned anything yet. Each line is the size of the gradient in every
# convolution, from the first to the last, for one batch of photographs.
#
# Without BatchNorm: which of the two explodes? With BatchNorm: does the gradient of the plain network vanish on its way back to the first
# layer? Move the depth.

# %%
interact.live(drawings.draw_gradients, depth=(8, 56, 6), seed=(0, 4), figsize=(7, 2.8))

# %% [markdown]
# The same as numbers, over three seeds, at full depth:

# %%
ways = {"plain": (False, False), "residual": (True, False),
        "plain + BN": (False, True), "residual + BN": (True, True)}
for name, way in ways.items():
    norms = [experiments.gradients_at_initialisation(56, *way, seed) for seed in range(3)]
    ways[name] = torch.tensor(norms).log10().mean(0)                   # as powers of ten
    print(f"{name:>13}: first layer {10 ** ways[name][0]:8.2g}, last {10 ** ways[name][-1]:8.2g}")

# %% [markdown]
# Which gradients are tiny, which are huge, and which grow on their way from the last layer to the first?

# %%
assert ways["residual"].min() > 1 and ways["plain"].max() < -1
growth = {name: 10 ** (powers[0] - powers[-1]).item() for name, powers in ways.items()}
assert min(growth.values()) > 0.1            # no weight gradient vanishes towards the first layer
assert growth["plain + BN"] > 100 and growth["plain + BN"] > 20 * growth["residual + BN"]


# %% [markdown]
# **W35 · "avoids vanishing and exploding gradients".** Without BN both lines are about level. (They are gradients of weights; the gradient of a block's output does shrink on its way back through the plain network.) But in the
# *residual* network it is huge in every layer, in the plain one tiny in every layer. The gradient of a weight is the signal that arrives from the
# image times the gradient that arrives from the loss. So look at the signal.
#
# He's initialisation draws weights so that a convolution after a ReLU keeps the variance [He et al. 2015b]. Leave out the last ReLU to see it plainly
# (a pre-activation block (预激活残差块) [He et al. 2016]); then a block adds a branch of equal variance to what it got:
#
# $$h_{l+1}=h_l+F_l(h_l),\qquad \mathrm{Var}[h_{l+1}]=\mathrm{Var}[h_l]+\mathrm{Var}[F_l(h_l)]\approx 2\,\mathrm{Var}[h_l]\quad\Rightarrow\quad \mathrm{Var}[h_L]\approx2^L\,\mathrm{Var}[h_0]$$
#
# What should come out after 50 blocks if BN ends the branch and makes its variance 1? Compute, then run. (The padding here is circular, without zeros:
# zeros come in at the border of small maps, and are one reason why the signal of the plain network fades in the picture above.)

# %%
def variances(skip, norm, blocks=50, width=64):        # -> list: Var[h] by block, F = W relu
    h, found = torch.randn(8, width, 16, 16), []
    for _ in range(blocks):
        w = nn.init.kaiming_normal_(torch.empty(width, width, 3, 3))
        branch = F.conv2d(F.pad(h.relu(), (1, 1, 1, 1), "circular"), w)     # no border, no zeros
        branch = F.batch_norm(branch, None, None, training=True) if norm else branch
        h = branch + h if skip else branch
        found.append(h.var().item())
    return found


ways = {"residual": (True, False), "residual, BN in the branch": (True, True),
        "plain": (False, False)}
_, axes = plt.subplots(figsize=(7, 2.4))
for name, way in ways.items():
    ways[name] = variances(*way)
    axes.semilogy(range(1, 51), ways[name], label=f"{name}: {ways[name][-1]:.2g} after 50")
axes.set(xlabel="block", ylabel="variance")
axes.legend()
assert 2**45 < ways["residual"][-1] < 2**54 and 40 < ways["residual, BN in the branch"][-1] < 65
assert 1e-3 < ways["plain"][-1] < 1e3

# %% [markdown]
# $2^{50}\approx10^{15}$ without BN, about $1+50$ with it. So it is BN in the branch that keeps a residual network in bounds
# [De & Smith 2020]; a careful start does it as well [Zhang, Dauphin & Ma 2019]. Without either, the addition makes it explode.
#
# **M02 · "solved vanishing gradients".** Right panel: with BatchNorm, as all these networks are used, the gradient of the plain network does not
# vanish. It grows towards the first layer, a thousandfold and more [Yang et al. 2019], and there the addition does tame it: about *exploding* gradients the book is
# right with BN and wrong without.
#
# He et al. say it in so many words (§4.1): the trouble of plain networks with BN is "unlikely to be caused by vanishing gradients". What the addition
# gives is a direct way. For pre-activation blocks and a loss $\mathcal L$
#
# $$\frac{\partial\mathcal L}{\partial h_l}=\frac{\partial\mathcal L}{\partial h_L}\Big(I+\frac{\partial}{\partial h_l}\sum_{i=l}^{L-1}F_i(h_i)\Big)$$
#
# Within a stage the $I$ reaches every layer; to lose it, the branches would have to cancel it exactly. Of the four networks only the residual one with BN
# starts with gradients that are neither tiny nor huge, nor thousands of times larger in one layer than in another. Does it also learn?
#
# ## 6 Train: is deeper worse?
#
# Four networks, three seeds, the same images in the same order, the same steps: SGD with Nesterov momentum (动量) 0.9, a learning rate (学习率) that
# warms up and falls along a cosine. The plain and the residual network of one depth have the same weights to learn. Guess before you run: which of the four
# has the largest loss *on the images it learned from*?

# %%
from itertools import product
from vlmbook.training import fit

torch.set_num_threads(1 if small else torch.get_num_threads())   # more do not help tiny ones
seeds, epochs, batch = range(3), runtime.pick(quick=3, full=5), runtime.pick(quick=64, full=128)
times = runtime.pick(quick=2, full=1)        # how much smaller the better loss has to be
sgd = partial(torch.optim.SGD, momentum=0.9, nesterov=True)

def train(net, loss=lambda net, x, y: F.cross_entropy(net(x), y), **settings):
    history = fit(net.to(memory_format=torch.channels_last), (images, labels), loss_fn=loss,
                  batch_size=batch, optimizer=sgd,
                  precision=runtime.pick(quick=None, full="bf16"), **settings)
    steps = -(-len(images) // batch)
    return torch.tensor(history.losses).view(-1, steps).mean(1).tolist()          # one an epoch


# %%
nets, losses = {}, {}
for make, seed in product((plain20, plain56, resnet20, resnet56), seeds):
    runtime.seed_everything(seed)
    nets[make.__name__, seed] = net = make(in_channels=1)
    loss = train(net, epochs=epochs, lr=0.03, warmup=10, seed=seed)
    losses.setdefault(make.__name__, []).append(loss)

# %%
figure = plt.figure(figsize=(7, 2.6))
drawings.draw_degradation(figure, losses)
records.picture("ch03b", figure)
last = {name: torch.tensor(runs)[:, -1] for name, runs in losses.items()}
print(*(f"{name}: {x.mean():.3f} ± {x.std():.3f} nats" for name, x in last.items()), sep="\n")
assert last["plain56"].min() > times * last["plain20"].max()           # degradation
assert max(last["resnet20"].max(), last["resnet56"].max()) < last["plain20"].min() / times


# %% [markdown]
# The plain network with 56 layers has hardly begun to learn when the one with 20 has; that is degradation, measured on the training images, so it is no
# overfitting (过拟合). With the addition both learn, and both faster than the better plain one; depth no longer harms.
#
# Is it the learning rate, or too few epochs? Change `lr` to 0.1 or 0.01, or `epochs` to 10, run the three cells again, and see whether the order
# changes.
#
# ## 7 How well does it read?
#
# For the digits two stages do, since a third would leave 2×2 pixels of 8×8: ten layers, a few seconds. (With Fashion-MNIST it is `resnet20` and its
# training images are mirrored and moved by up to two pixels.) Beside it two baselines that are hard to beat on digits: the three
# nearest neighbours ($k$-NN) and a support vector machine (支持向量机, SVC). A bar is the 95 % interval for so many held-out images.

# %%
def moved(x):                                # mirrored at random, and moved by up to two pixels
    x = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, x.flip(3), x)
    top, left = torch.randint(5, (2,)).tolist()
    return F.pad(x, (2, 2, 2, 2))[..., top:top + x.shape[2], left:left + x.shape[3]]


readers = []
for seed in seeds:
    runtime.seed_everything(seed)
    net = ResNet(BasicBlock, [2, 2], 10, 1, width=16, small=True) if small else resnet20(10, 1)
    train(net, lambda net, x, y: F.cross_entropy(net(x if small else moved(x)), y), lr=0.1,
          epochs=12 if small else 15, warmup=20 if small else 200,
          weight_decay=5e-3 if small else 5e-4, seed=seed)
    readers.append(net.eval().cpu())

# %%
from sklearn import neighbors, svm

@torch.no_grad()
def accuracy(net, device="cpu"):
    predicted = [net(x).argmax(1) for x in test_images.to(device).split(500)]
    return (torch.cat(predicted).cpu() == test_labels).float().mean().item()

ours = [accuracy(net) for net in readers]
shares = {"ResNet": sum(ours) / len(ours)}                             # the mean of three seeds
baselines = {"3 nearest neighbours": neighbors.KNeighborsClassifier(3), "SVC": svm.SVC()}
for name, baseline in baselines.items():
    baseline.fit(images[:10_000].flatten(1), labels[:10_000])
    shares[name] = baseline.score(test_images.flatten(1), test_labels)
ends = {name: metrics.proportion_interval(p, len(test_labels)) for name, p in shares.items()}
_, axes = plt.subplots(figsize=(7, 1.6))
plot.intervals(axes, [*shares], [*shares.values()], *zip(*ends.values()), "accuracy, held out");

# %%
print(*(f"{name} {share:.1%}" for name, share in shares.items()), sep=", ")
print("ResNet by seed:", *(f"{share:.1%}" for share in ours))
assert shares["ResNet"] > (0.98 if small else 0.93)
if small:                                    # 360 images cannot tell these three apart
    assert ends["SVC"][1] > ends["ResNet"][0]

# %% [markdown]
# On 360 digits the intervals overlap: the ResNet is as good as the best, no more can be claimed.
#
# ## 8 See inside
#
# A block taken apart: choose a digit and a block. The first picture is what comes in, the second what the branch adds, then their sum, then
# what ReLU lets through; of all channels you see the strongest. The bars compare the sizes: how much does each block change what it gets?

# %%
net, ten = readers[0], torch.stack([(test_labels == label).nonzero()[0, 0] for label in range(10)])
interact.live(partial(drawings.draw_block, net=net, images=test_images[ten]), digit=(0, 9),
              block=(1, len(experiments.list_blocks(net))), figsize=(7, 1.9))


# %% [markdown]
# Where the branch is blue it takes away from what came in. And in a deep network? Below, over 100 digits, each block of a ResNet-56
# from section 6, and in grey the same network before it learned anything.

# %%
def shares_of_branches(net):                 # -> (blocks,)
    traced = experiments.trace_blocks(net, test_images[:100])
    return torch.tensor([branch.norm() / x.norm() for x, branch, _ in traced])


untrained = shares_of_branches(resnet56(in_channels=1))
learned = shares_of_branches(nets["resnet56", 0].eval().cpu())

# %%
_, axes = plt.subplots(figsize=(7, 1.8))
axes.bar(range(1, 28), learned, color=plot.BLUE, label="trained")
axes.plot(range(1, 28), untrained, "o-", color=plot.GREY, label="untrained")
axes.set(xlabel="block", ylabel="‖F(x)‖ / ‖x‖")
axes.legend()
assert max(each[-3:].mean() / each[:3].mean() for each in (untrained, learned)) < 0.7

# %% [markdown]
# The last blocks only correct what they get. But the network is like that from its initialisation on: BN gives every branch the variance 1, while the sum that it is added to
# grows from block to block (exercise 2). In these few epochs training has changed little of it. What do the stages see? The stem and each stage of the reader from section 7, and of each the five channels that differ most over
# the image.

# %%
drawings.draw_maps(plt.figure(figsize=(7, 3.8)), readers[0], test_images[ten[[5]]])

# %% [markdown]
# And what does a prediction depend on? Cover a square of the image, once in each position, and ask for the probability of the right class
# (occlusion, 遮挡分析 [Zeiler & Fergus 2014]). Dark positions are those that the network cannot do without. Which digit keeps its class under a square of 3×3 wherever it lies, and which does not?

# %%
interact.live(partial(drawings.draw_occlusion, net=net, images=test_images[ten],
                      labels=test_labels[ten]), digit=(0, 9), size=(1, 5), figsize=(7, 1.9))


# %% [markdown]
# ## 9 Break it
#
# First break: take one block out of a *trained* network, put nothing in its place, and do not train again [Veit, Wilber & Belongie 2016]. Three networks from
# section 6; of each, every block that keeps the size. What do you expect?

# %%
def without_each_block(net):                 # -> {number of the block: accuracy without it}
    net, found, number = net.eval().cpu(), {}, 0
    for stage in (getattr(net, name) for name in net.stages):
        for position, block in enumerate(stage):
            number += 1
            if block.conv1.stride == (1, 1):
                stage[position] = nn.Identity()
                found[number] = accuracy(net)
                stage[position] = block
    return found


cut = {name: without_each_block(nets[name, 0]) for name in ("plain20", "resnet20", "resnet56")}
whole = {name: accuracy(nets[name, 0]) for name in cut}
drawings.draw_cuts(plt.figure(figsize=(7, 2.3)), cut, whole)
assert max(cut["plain20"].values()) < 0.5 < min(whole.values())
assert min(cut["resnet20"].values()) > 1.5 * max(cut["plain20"].values())
assert sorted(cut["resnet56"].values())[4] > whole["resnet56"] - 0.2

# %% [markdown]
# The plain network is a chain: take out any one link, and it guesses. A residual one misses its first blocks, and of the others, one at a time, hardly any. It
# works more like a crowd of short ways than like one long one.
#
# Second break: a residual network without BatchNorm, everything else the same. Section 5 says what to fear.

# %%
bare = []
for seed in seeds:
    runtime.seed_everything(seed)
    net = small_resnet(20, in_channels=1, norm_layer=nn.Identity)
    try:
        bare.append(train(net, epochs=epochs, lr=0.03, warmup=10, seed=seed)[-1])
    except FloatingPointError:               # it blew up: no better than guessing
        bare.append(torch.tensor(10.0).log().item())
print(*(f"{loss:.2f}" for loss in bare), f"nats without BN, {last['resnet20'].mean():.2f} with it")
assert sum(bare) / 3 > runtime.pick(quick=5, full=1) * last["resnet20"].mean()
records.record("ch03b", seed=list(seeds), training_loss=losses, loss_without_norm=bare,
               accuracy=ours, baselines={name: shares[name] for name in baselines},
               one_block_out={name: list(found.values()) for name, found in cut.items()});

# %% [markdown]
# At this learning rate and in this time it learns far less, and every seed differently. Smaller steps and more of them may get there, and so does a careful
# start [Zhang, Dauphin & Ma 2019]; BN is the comfortable way.
#
# ## 10 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch03b.1")` helps in steps, `solution("ch03b.1")` shows one answer.
#
# **1 · Predict.** A photograph `(1, 3, 200, 300)` goes into `resnet34`. Which shape leaves `layer3`? Its stem halves the size twice, and each stage but the first
# halves it once more; a half is rounded up.

# %%
shape = ...                                  # (B, C, H, W)
check("ch03b.1", shape)


# %% [markdown]
# **2 · Derive.** The variance at the input is `start`, and BN with $\gamma=1$ ends each branch. Branch and shortcut are uncorrelated. What is the variance after `blocks`
# blocks $h_{l+1}=h_l+F_l(h_l)$?

# %%
def variance_with_norm(start, blocks):       # -> float
    ...


check("ch03b.2", variance_with_norm)


# %% [markdown]
# **3 · Change.** The pre-activation block [He et al. 2016] puts BN and ReLU *before* each convolution and nothing after the addition. Write it with
# the parts `conv1, bn1, conv2, bn2` of a `BasicBlock` that keeps the size.

# %%
def pre_activation(block, x):                # (B, C, H, W) -> (B, C, H, W)
    ...


check("ch03b.3", pre_activation)


# %% [markdown]
# **4 · Build.** Write the shortcut without weights (option A): every `stride`-th pixel, and the new channels after the old ones zero.

# %%
def shortcut(x, channels, stride):           # -> (B, channels, ⌈H/stride⌉, ⌈W/stride⌉)
    ...


check("ch03b.4", shortcut)

# %% [markdown]
# ## 11 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook runs on Fashion-MNIST: the four networks for five epochs, `resnet20` for fifteen. What the
# published runs measured:

# %% tags=["record"]
records.show("ch03b", "quick")
records.show("ch03b", "full")

# %% [markdown]
# ## 12 What we learned
#
# A deeper plain network trains worse than a shallow one, though it could imitate it: degradation, not overfitting.
# A residual block adds its input to what its branch makes: with $F=0$ it is the identity, and the gradient passes whole.
# Plain networks with BN do not suffer from vanishing gradients; residual ones without BN explode.
# The addition and the normalisation together made depth harmless here.
# A trained residual network survives the loss of almost any one block, a plain one of none.
#
# **References.** K. He, X. Zhang, S. Ren, J. Sun, *Deep residual learning for image recognition*, CVPR 2016, arXiv:1512.03385 · K. He, X. Zhang, S. Ren, J. Sun, *Delving deep into
# rectifiers: surpassing human-level performance on ImageNet classification*, ICCV 2015 [2015b], arXiv:1502.01852 · K. He, X. Zhang, S. Ren,
# J. Sun, *Identity mappings in deep residual networks*, ECCV 2016, arXiv:1603.05027 · S. Ioffe, C. Szegedy, *Batch normalization: accelerating deep network training by reducing
# internal covariate shift*, ICML 2015, arXiv:1502.03167 · G. Yang, J. Pennington, V. Rao, J. Sohl-Dickstein, S. S. Schoenholz, *A mean field theory of
# batch normalization*, ICLR 2019, arXiv:1902.08129 · H. Zhang, Y. N. Dauphin, T. Ma, *Fixup initialization: residual learning without normalization*, ICLR 2019, arXiv:1901.09321 · S. De,
# S. L. Smith, *Batch normalization biases residual blocks towards the identity function in deep networks*, NeurIPS 2020, arXiv:2002.10444 · A. Veit, M. Wilber,
# S. Belongie, *Residual networks behave like ensembles of relatively shallow networks*, NIPS 2016, arXiv:1605.06431 · M. D. Zeiler, R. Fergus,
# *Visualizing and understanding convolutional networks*, ECCV 2014, arXiv:1311.2901 · K. Simonyan, A. Zisserman, *Very deep convolutional networks for
# large-scale image recognition*, ICLR 2015, arXiv:1409.1556 · O. Russakovsky et al., *ImageNet large scale visual recognition challenge*, IJCV 115, 2015,
# arXiv:1409.0575 · H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST: a novel image dataset for
# benchmarking machine learning algorithms*, 2017, arXiv:1708.07747.
