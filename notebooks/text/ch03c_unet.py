# %% [markdown]
# # 3c · U-Net (U形网络)
#
# *Book: §2.2.1 (3), 反卷积网络（Unet）*
#
# **How does a network say of every single pixel what it belongs to, when to understand an image it has to make it small?**
#
# You will be able to build a U-Net, predict the size of each of its maps, write its losses and its score from their formulas, say what
# its skip connections carry and measure it, tell which of the book's claims hold, and segment an image of any size in bounded memory.
#
# Run the cells from top to bottom. The first one prints what a whole run costs, and shows what its published run found on images that
# no method had seen: white and black where it is right, red where it marks too much, blue where it misses something.

# %% tags=["record"]
from functools import partial

import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import data, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch03c import figures as drawings
from vlmbook.chapters.ch03c.experiments import iou_by_threshold

runtime.seed_everything(0)
torch.set_num_threads(1)                     # images this small gain little from more threads
plot.use_style()
records.published("ch03c")
if (published := records.RESULTS / "ch03c.quick.png").exists():
    plot.gallery([data.read_image(published, channels=3)]);

# %% [markdown]
# ## 1 The data, looked at
#
# Segmentation (图像分割) gives each pixel a class. Here there are two: background, 0, and object, 1. The objects are a horse and coins,
# cut out of photographs and laid on brick, grass or gravel. So the truth, the mask (掩码), is exact.
#
# Ground and object get brightness, contrast and colour from the same distributions. Could you still tell them apart? By what?

# %%
sizes = runtime.pick(quick=(700, 150), full=(2000, 500))
(photos, masks), (test_photos, test_masks) = (data.textures(n, seed=i) for i, n in enumerate(sizes))
target, truth = masks[:, 0].long(), test_masks[:, 0].long()
print(tuple(photos.shape), tuple(target.shape), len(truth), f"object {truth.float().mean():.0%}")
assert 0.15 < truth.float().mean() < 0.25
plot.gallery([*test_photos[:8], *truth[:8]], columns=8);


# %% [markdown]
# By texture and by outline. Brightness as such says nothing, so each image first gets mean 0 in every channel, and variance 1 over all of them, by its
# own numbers. This first step is part of no network; all methods below start from it.

# %%
def standardise(x):                          # (B, C, H, W) -> (B, C, H, W)
    x = x - x.mean((2, 3), keepdim=True)
    return x / x.std((1, 2, 3), keepdim=True)


images, test_images = standardise(photos), standardise(test_photos)
assert_close(images.mean((2, 3)), torch.zeros(len(images), 3), rtol=0, atol=1e-4)
assert_close(images.var((1, 2, 3)), torch.ones(len(images)), rtol=1e-4, atol=0)

# %% [markdown]
# ## 2 How good is a mask?
#
# Four of five pixels are background. A method that answers *background* everywhere is right on 80 % of the pixels, and useless. So
# count for each class $k$ only the pixels where it is said or true: with $P_k$ the pixels that are said to be $k$, and $G_k$ those that are,
#
# $$\mathrm{IoU}_k=\frac{|P_k\cap G_k|}{|P_k\cup G_k|}$$
#
# is intersection over union (交并比), counted over all images together, and its mean over the classes is the mean IoU. What does the useless method get?

# %%
from vlmbook.unet import iou

def iou_by_hand(prediction, truth, num_classes):
    pairs = [(prediction == k, truth == k) for k in range(num_classes)]
    return torch.stack([(p & g).sum() / (p | g).sum() for p, g in pairs])


nothing = torch.zeros_like(truth)
lazy = iou_by_hand(nothing, truth, 2)
assert_close(lazy, iou(nothing, truth, 2))
right = (nothing == truth).float().mean()
print(f"{right:.0%} of the pixels right; IoU {lazy[0]:.2f}, {lazy[1]:.2f}, mean {lazy.mean():.2f}")
assert right > 0.75 and lazy.mean() < 0.45

# %% [markdown]
# Nothing for the object, and 0.40 in the mean, which is no longer praise.
#
# What would you try first? A threshold (阈值) on brightness: the one, and the side, that fits the training images best. It should do
# little better than nothing, by construction.

# %%
split = lambda x, cut, above: ((x.mean(1) > cut) == above).long()
cuts = [(cut, above) for cut in torch.linspace(-3, 3, 31).tolist() for above in (True, False)]
best = max(cuts, key=lambda cut: iou(split(images[:150], *cut), target[:150], 2).mean())
scores = {"threshold": iou(split(test_images, *best), truth, 2)}
print("threshold: IoU of background and object", scores["threshold"].tolist())
assert scores["threshold"].mean() < 0.55

# %% [markdown]
# Second, texture. Around each pixel, blur at several widths, edge strength, and how the surface bends [scikit-image]: 48 numbers that
# describe its neighbourhood. A random forest (随机森林) learns from pixels of the training images which of them mean *object*.

# %%
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

def features(x):                             # (B, C, H, W) -> (B·H·W, F)
    found = [multiscale_basic_features(image.movedim(0, -1).numpy(), sigma_min=1, sigma_max=8,
                                       channel_axis=-1) for image in x]
    return torch.cat([torch.from_numpy(each).flatten(0, 1) for each in found])


def forest_on(images, target, pixels):       # learn from so many random pixels
    some = torch.randperm(target.numel())[:pixels]
    forest = RandomForestClassifier(30, min_samples_leaf=5, random_state=0)
    return forest.fit(features(images)[some].numpy(), target.flatten()[some].numpy())


known = runtime.pick(quick=60, full=300)
forest = forest_on(images[:known], target[:known], 100 * known)
guess = torch.from_numpy(forest.predict(features(test_images).numpy())).view_as(truth)
scores["random forest"] = iou(guess, truth, 2)
print("random forest: IoU of background and object", scores["random forest"].tolist())
assert features(images[:1]).shape[1] == 48
assert scores["threshold"].mean() + 0.1 < scores["random forest"].mean() < 0.85

# %% [markdown]
# The forest sees where texture changes, but nothing as a whole: it does not know what a horse is. To know, a pixel has to see far; and a
# network sees far by pooling (chapter 3a, section 5), which makes the image small. How does it come back to every pixel?
#
# ## 3 The idea, written here
#
# The U-Net [Ronneberger et al. 2015] goes down and up again. On the way down, the encoder (编码器), each level has two 3×3
# convolutions, then pooling halves the size and the channels double. On the way up, the decoder (解码器), a transposed convolution
# doubles the size; then comes what gave the network its success. The map $e_\ell$ that the encoder had at this level is joined to what comes from
# below, and two convolutions make one map of both. (Long et al. had added maps of the encoder before; the U-Net concatenates them, at every level.)
#
# $$d_\ell=\mathrm{Conv}\big([\,e_\ell;\ \mathrm{Up}(d_{\ell+1})\,]\big)$$
#
# The bracket is concatenation (拼接), and the way of $e_\ell$ across the U a skip connection (跳跃连接). Set *height* to 100: which level
# meets an odd size, and what does the network do with it? Where do the channels go if you switch *skip* off?

# %%
interact.live(drawings.draw_u, height=(16, 256), width=(16, 256), first=[4, 8, 16, 32, 64],
              depth=(1, 5), skip=True, figsize=(7, 3.2))

# %% [markdown]
# 25 is odd: pooling rounds up to 13, and the 26 that come back up are cut to 25. Without skips the decoder's convolutions get half
# of the channels.
#
# Now a U-Net with two levels below the top, by hand, with the weights of the package's. Predict the shape of `e1`, of `e2`, and of both maps that
# are joined to make `d1`, for an image `(1, 3, 12, 16)` and 4 channels at the top. (Ours has batch normalisation after each convolution, which the paper has
# not.)

# %%
from vlmbook.unet import UNet, predict_tiled

def double_conv(x, part):                    # convolution, batch normalisation, ReLU, twice
    for conv, norm in ((part[0], part[1]), (part[3], part[4])):
        x = F.conv2d(x, conv.weight, padding=1)
        mu, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        gamma, beta = norm.weight.view(-1, 1, 1), norm.bias.view(-1, 1, 1)
        x = (gamma * (x - mu) / (var + norm.eps).sqrt() + beta).relu()
    return x

def unet_by_hand(net, x):
    up = lambda x, part: F.conv_transpose2d(x, part.weight, part.bias, stride=2)
    e0 = double_conv(x, net.encoder[0])
    e1 = double_conv(F.max_pool2d(e0, 2), net.encoder[1])
    e2 = double_conv(F.max_pool2d(e1, 2), net.encoder[2])
    u1 = up(e2, net.upward[1])
    d1 = double_conv(torch.cat([e1, u1], 1), net.decoder[1])
    d0 = double_conv(torch.cat([e0, up(d1, net.upward[0])], 1), net.decoder[0])
    return F.conv2d(d0, net.head.weight, net.head.bias), {"e1": e1, "e2": e2, "u1": u1, "d1": d1}


# %%
net, x = UNet(3, 2, width=4, depth=2), torch.randn(1, 3, 12, 16, requires_grad=True)
logits, maps = unet_by_hand(net, x)
print(*(f"{name} {tuple(each.shape)}" for name, each in maps.items()))
assert_close(logits, net(x), rtol=1e-4, atol=1e-4)
slopes = [torch.autograd.grad(y.square().sum(), (x, *net.parameters())) for y in (logits, net(x))]
assert_close(*slopes, rtol=1e-3, atol=1e-3)

# %% [markdown]
# Values and gradients agree. One number for each class and pixel comes out, a logit (未归一化的类别分数).
#
# The network of the paper has 64 channels at the top and four levels below. How many weights? And its convolutions have no padding, so
# each takes a rim of one pixel. What is left of 572 pixels? Which of the sizes near 572 would not even go through?

# %%
with torch.device("meta"):                   # shapes and no numbers
    paper = UNet(1, 2, width=64, depth=4)
weights = sum(p.numel() for p in paper.parameters())

def unpadded(n, depth=4):                    # -> size of the output, None where one is odd
    for _ in range(depth):
        n -= 4                               # two convolutions
        if n % 2:
            return None
        n //= 2                              # pooling
    n -= 4
    for _ in range(depth):
        n = 2 * n - 4
    return n if n > 0 else None


fits = [n for n in range(540, 600) if unpadded(n)]
print(f"{weights / 1e6:.1f} M weights; 572 -> {unpadded(572)}; sizes that fit: {fits}")
assert 31e6 < weights < 31.1e6 and unpadded(572) == 388 and 572 in fits
assert all(b - a == 16 for a, b in zip(fits, fits[1:]))

# %% [markdown]
# 388, and only every sixteenth size fits. The paper had to cut the encoder's maps to join them, and to cover an image with tiles that overlap
# (section 8). With padding the output is as large as the image, for any image; the price is a rim that saw zeros.
#
# ### What to minimise
#
# Let $p_{k,i}$ be the probability (softmax of the logits) of class $k$ at pixel $i$, and $g_i$ its true class, for the $N$ pixels of a batch and $K$ classes;
# $[g_i=k]$ is 1 where that is so, else 0. Two losses. Cross-entropy (交叉熵) asks every pixel for the probability of its true class; Dice's loss asks of each
# class how well its area is covered, be it large or small [after Drozdzal et al. 2016]:
#
# $$\mathrm{CE}=-\frac1N\sum_{i=1}^{N}\log p_{g_i,\,i}\qquad\qquad
# \mathrm{Dice}=1-\frac1K\sum_{k=1}^{K}\frac{2\sum_i p_{k,i}\,[g_i=k]+\epsilon}{\sum_i p_{k,i}+\sum_i[g_i=k]+\epsilon}$$
#
# With $\epsilon=1$ a class that is neither there nor said counts as found, not as missed.

# %%
from vlmbook.unet import cross_entropy_loss, dice_loss

def losses_by_hand(logits, target):          # (B, K, H, W), (B, H, W) -> two numbers
    p, g, K = logits.softmax(1).movedim(1, -1).flatten(0, 2), target.flatten(), logits.shape[1]
    entropy = -sum(p[i, g[i]].log() for i in range(len(g))) / len(g)
    dice = 0
    for k in range(K):
        both, areas = p[g == k, k].sum(), p[:, k].sum() + (g == k).sum()
        dice += (2 * both + 1) / (areas + 1) / K
    return entropy, 1 - dice


logits, classes = torch.randn(2, 3, 5, 4), torch.randint(3, (2, 5, 4))
ours = losses_by_hand(logits, classes)
assert_close(ours, (cross_entropy_loss(logits, classes), dice_loss(logits, classes)))
print(f"cross-entropy {ours[0]:.3f} nats, Dice {ours[1]:.3f}")

# %% [markdown]
# Why two? Take one object of 40 pixels in an image of 4,096, and a network that has learned nothing yet: all logits 0. What moves it is the gradient. Which
# part of each loss's pull on the logits comes from the pixels of the object?

# %%
small = F.pad(torch.ones(1, 5, 8).long(), (30, 26, 30, 29))                 # (1, 64, 64)
both = cross_entropy_loss, dice_loss
pulls = [torch.func.grad(f)(torch.zeros(1, 2, 64, 64), small).abs() for f in both]
entropy, dice = (((g * small[:, None]).sum() / g.sum()).item() for g in pulls)
print(f"cross-entropy {entropy:.1%}, Dice {dice:.1%}")
assert dice > 3 * entropy

# %% [markdown]
# Of 100 parts of cross-entropy's pull one comes from the object, since it is one percent of the pixels; of Dice's four. Their sum is what we minimise.
#
# ## 4 Book check
#
# **W14 · the diagrams.** §2.2 and §2.2.1 each draw the U-Net, as a chain of boxes (卷积层, 池化层, 反卷积层 …). Joining two maps needs a node at which two edges arrive. The cell reads the printed
# edges as a graph and looks for one. Then it reads the graph of our network, from the operations that PyTorch recorded.

# %%
import re
from collections import Counter

overview = "A --> B B --> C C --> D D --> E E --> F"
section = "A --> B B --> C C --> D D --> E E --> F F --> G G --> H H --> I I --> J"

def operations(y):                           # tensor -> edges between the operations that made it
    edges, todo = set(), [y.grad_fn]
    while todo:
        after = todo.pop()
        befores = [before for before, _ in after.next_functions if before is not None]
        found = {(b, after) for b in befores if "AccumulateGrad" not in b.name()} - edges
        edges, todo = edges | found, todo + [b for b, _ in found]
    return edges

def joints(edges):                           # how many nodes do two or more edges enter?
    return sum(n > 1 for n in Counter(after for _, after in edges).values())

printed = [re.findall(r"(\w) --> (\w)", diagram) for diagram in (overview, section)]
x = torch.randn(1, 3, 32, 32)
drawn = [joints(edges) for edges in printed]
ours = {skip: joints(operations(UNet(3, 2, width=4, depth=4, skip=skip)(x)))
        for skip in (True, False)}
print(f"printed: {drawn}; our U-Net: {ours[True]}, and without skips {ours[False]}")
assert drawn == [0, 0] and ours == {True: 4, False: 0}

# %% [markdown]
# The book draws the network without the part that it names as its mark, and with one level. Four levels have four joints. Section 7
# measures what a network as drawn is worth.
#
# **W36 · from where to where?** The section says both: 高层特征…传递到低层, from high to low layers, and 从低层传递到高层, from low to
# high. Which is it? Look at what arrives at each stage of the decoder.

# %%
net, seen = UNet(3, 2, width=4, depth=3), {}
for level, stage in enumerate(net.decoder):
    stage.register_forward_pre_hook(lambda _, given, level=level: seen.update({level: given[0]}))
maps = net.encode(x)
net.decode(maps)
for level, arrives in seen.items():
    half = arrives.shape[1] // 2
    assert torch.equal(arrives[:, :half], maps[level])             # untouched
    print(f"decoder level {level}: {tuple(arrives.shape)}, the first {half} channels are e{level}")
assert sorted(seen) == [0, 1, 2]

# %% [markdown]
# From the encoder to the decoder, at the same resolution. The features that take part are the shallow ones, which still know the place;
# what comes from the depth comes up the other way. So "low to high" is right if it means early to late in the computation.
#
# **W37 · a quotation.** §2.2 puts a sentence in quotation marks as the idea behind U-Net: convolution as 反卷积操作的一个逆过程, an
# inverse. The paper has no such sentence; it says that it extends the fully convolutional network (全卷积网络) [Long et al. 2015]. Nor is
# it true (W10 in chapter 3a). Here for a step of 2: halve an image with a 2×2 convolution of stride 2, then choose the transposed convolution that
# brings it back best, of all there are. The image is noise, where no pixel tells anything of its neighbour; on photographs less is missed.

# %%
x, w, basis = torch.randn(256, 1), torch.randn(1, 1, 2, 2), torch.eye(4).view(4, 1, 1, 2, 2)
halved = F.conv2d(x.view(1, 1, 16, 16), w, stride=2)
stamps = torch.stack([F.conv_transpose2d(halved, k, stride=2).flatten() for k in basis], 1)
missed = (stamps @ torch.linalg.lstsq(stamps, x).solution - x).norm() / x.norm()
print(f"the best of all 2×2 kernels misses {missed:.0%} of the image")
assert 0.75 < missed < 0.95

# %% [markdown]
# One number is left of each four; no kernel brings back three, and $\sqrt{3/4}=87\,\%$. What the decoder needs and cannot know comes over the skip.
#
# **W38 · the name.** The section is called 反卷积网络（Unet）. That name belongs to others: Zeiler et al. [2010], and the DeconvNet
# of Noh et al. [2015], which hands across only where each maximum lay (unpooling, 反池化), no maps. A U-Net is an encoder and a decoder with skips. If the transposed convolution were its core, a U-Net
# without any could not exist. Does it? Section 7 asks whether it is any worse.

# %%
from torch import nn

counts = {up: sum(isinstance(part, nn.ConvTranspose2d)
                  for part in UNet(3, 2, width=4, depth=4, up=up).modules())
          for up in ("transposed", "bilinear")}
print("transposed convolutions:", counts)
assert counts == {"transposed": 4, "bilinear": 0}

# %% [markdown]
# ## 5 Train
#
# Eight channels at the top instead of 64, and the loop of the package, `fit`: AdamW with a learning rate that falls along a cosine, on the sum of
# both losses. How far beyond the forest does it get?

# %%
from vlmbook.training import fit
def ce_dice_loss(model, x, target):
    logits = model(x)
    return cross_entropy_loss(logits, target) + dice_loss(logits, target)
def train(net, x, target, seed, loss_fn=ce_dice_loss, **settings):
    net, x = (each.to(memory_format=torch.channels_last) for each in (net, x))   # fast on CPUs
    losses = fit(net, (x, target), loss_fn=loss_fn, seed=seed, **settings,
                 precision=runtime.pick(quick=None, full="bf16")).losses
    net.eval().cpu()
    return losses
def predict(net, x):                         # -> probabilities (B, K, H, W)
    with torch.no_grad():
        return torch.cat([net(part).softmax(1) for part in x.split(50)])

width, epochs = runtime.pick(quick=8, full=16), runtime.pick(quick=7, full=8)
nets, curves = [], []
for seed in range(runtime.pick(quick=1, full=3)):
    runtime.seed_everything(seed)
    nets.append(UNet(3, 2, width=width, depth=4))
    curves.append(train(nets[-1], images, target, seed, epochs=epochs, lr=5e-3,
                        batch_size=runtime.pick(quick=8, full=16)))
_, axes = plt.subplots(figsize=(7, 2.2))
for curve in curves:
    axes.plot(range(25, len(curve) + 1, 25), torch.tensor(curve).unfold(0, 25, 25).mean(1))
axes.set(xlabel="step (means of 25)", ylabel="cross-entropy + Dice", ylim=(0, None));

# %%
probabilities = [predict(net, test_images)[:, 1] for net in nets]
by_seed = torch.stack([iou((p > 0.5).long(), truth, 2) for p in probabilities])
scores["U-Net"] = by_seed.mean(0)
for name, (ground, thing) in scores.items():
    print(f"{name:>13}: background {ground:.3f}, object {thing:.3f}, "
          f"mean IoU {(ground + thing) / 2:.3f}")
assert scores["U-Net"].mean() > 0.87 and scores["U-Net"][1] > scores["random forest"][1] + 0.15
shown = torch.tensor([0, 1, 2, 7])
figure = plt.figure(figsize=(7, 5.7))
drawings.draw_rows(figure, test_photos[shown], truth[shown], {
    "threshold": split(test_images, *best)[shown], "random forest": guess[shown],
    "U-Net": (probabilities[0][shown] > 0.5).long()})
records.picture("ch03c", figure);

# %% [markdown]
# It is a clear step, though not all of it is owed to seeing far: the network also learned from every pixel, and of many more images.
#
# Its probability was cut at 0.5. Is that the best place? Move the threshold: what happens to the legs of the horse, and how flat
# is the curve of the IoU around its top?

# %%
thresholds, curve = iou_by_threshold(probabilities[0], truth)
wide = thresholds[curve > curve.max() - 0.03]    # thresholds within 0.03 of the best IoU
assert wide.min() < 0.45 and wide.max() > 0.55
interact.live(partial(drawings.draw_threshold, images=test_photos, probability=probabilities[0],
                      truth=truth), image=(0, 19), threshold=(0.0, 0.98, 0.02), figsize=(7, 2.3))

# %% [markdown]
# The curve is flat: most pixels are near 0 or 1. Those in doubt lie along outlines, or in parts that the network is unsure of, like the upper coin of the first
# image. Where a missed object costs more than a false alarm, another threshold is better.
#
# ## 6 See inside
#
# What does each level keep? Choose a level and a channel; the liveliest comes first. The picture on the right shows what the trained
# network says when this one skip is silenced, set to zero, and all others work. Which level is missed most?

# %%
net, few = nets[0], test_images[:20]
with torch.no_grad():
    kept = net.encode(few)
    quiet = [net.decode([m * (level != l) for l, m in enumerate(kept)]).argmax(1)
             for level in range(net.depth)]
maps = [m[:, m.std((0, 2, 3)).argsort(descending=True)] for m in kept[:-1]]
silenced = [iou(prediction, truth[:20], 2)[1].item() for prediction in quiet]
print("IoU of the object, silenced:", *(f"level {l} {s:.2f}" for l, s in enumerate(silenced)))
assert min(silenced) == silenced[0] < scores["U-Net"][1] - 0.2
interact.live(partial(drawings.draw_level, images=test_photos, maps=maps, silenced=quiet,
                      truth=truth), image=(0, 19), level=(0, net.depth - 1), channel=(0, 7),
              figsize=(7, 2.7))


# %% [markdown]
# The finest one, by far, though the three other skips work. But silencing a trained network is no fair trial: it
# never learned to do without. For a claim about skips, the twin has to be trained without them.
#
# ## 7 Break it
#
# Where should skips matter? Where place matters: at the rim. So a task with a rim: `shapes`, 24×24, and three classes, background, the
# inside of a shape, and its outline (轮廓), one pixel thin, two where shapes touch; a narrow arm is all outline. Three seeds with skips, without, and with bilinear up-sampling (双线性上采样) in
# the place of transposed convolutions.

# %%
def outlined(n, seed):                       # -> (n, 3, 24, 24), (n, 24, 24) in {0, 1, 2}
    drawn = data.shapes(n, size=24, seed=seed, objects=(1, 2))
    classes = torch.zeros(n, 24, 24, dtype=torch.long)
    for i, masks in enumerate(drawn.masks):
        m = masks.float()
        rim = masks & (F.max_pool2d(1 - m, 3, stride=1, padding=1) > 0)     # a neighbour is outside
        classes[i] = (masks.long() + rim).amax(0)
    return drawn.images, classes


(drawn, classes), (test_drawn, test_classes) = outlined(300, 0), outlined(100, 1)
variants = {"with skips": {}, "without skips": {"skip": False}, "bilinear": {"up": "bilinear"}}
twins = {}
for name, options in variants.items():
    for seed in range(3):
        runtime.seed_everything(seed)
        twin = UNet(3, 3, width=8, depth=3, **options)
        train(twin, standardise(drawn), classes, seed, epochs=runtime.pick(quick=4, full=20),
              batch_size=8, lr=1e-2, warmup=20, progress=False)
        guesses = predict(twin, standardise(test_drawn)).argmax(1)
        twins[name, seed] = twin, guesses, iou(guesses, test_classes, 3)

# %%
parts = {name: torch.stack([twins[name, seed][2] for seed in range(3)]) for name in variants}
_, axes = plt.subplots(1, 2, figsize=(7, 1.9), sharey=True, sharex=True)
for panel, k, part in zip(axes, (1, 2), ("the inside", "the outline")):
    mean, std = (torch.stack([f(each[:, k]) for each in parts.values()])
                 for f in (torch.mean, torch.std))
    plot.intervals(panel, list(parts), mean, mean - std, mean + std, f"IoU of {part}, mean ± std")
    panel.set_xlim(0, 1)
    print(part, *(f"{name} {m:.2f} ± {s:.2f}" for name, m, s in zip(parts, mean, std)), sep=", ")
loss_of = parts["with skips"].mean(0) - parts["without skips"].mean(0)
assert loss_of[0] < 0.1 and loss_of[0] < loss_of[1] and loss_of[0] < loss_of[2] and loss_of[2] > 0.1
assert parts["bilinear"].mean(0)[2] > parts["without skips"].mean(0)[2] + 0.1

# %% [markdown]
# Without skips (and with a tenth fewer weights, since its decoder joins nothing) the network marks where the shapes are, and their lines are lost. In the same
# few steps, that is: trained longer, it recovers a part of the line, from what the low maps know of place. The bars span one standard deviation over the
# seeds. And bilinear up-sampling is no worse than transposed convolution, as far as three seeds can tell, and far better than no skips: the skip is the idea, the way up a detail.
#
# Look at single images, white the outline, grey the inside. What is left of a thin line without skips? Then show only what is wrong.

# %%
wide = (test_classes == 1).sum((1, 2)).argsort(descending=True)[:20]        # much inside
guesses = {name: twins[name, 0][1][wide] for name in ("with skips", "without skips")}
interact.live(partial(drawings.draw_skip, images=test_drawn[wide], truth=test_classes[wide],
                      predictions=guesses), image=(0, 19), errors_only=False, figsize=(7, 3.0))

# %% [markdown]
# ### The checkerboard
#
# Chapter 3a found that stamps of 2×2 with stride 2 cover every pixel once. Is the output free of a checkerboard (棋盘效应), then? Show
# a trained network of each kind a flat grey image, so large that the middle knows nothing of the border.

# %%
with torch.no_grad():
    patterns = {up: twins[name, 0][0](torch.zeros(1, 3, 192, 192))[0, 0, 80:112, 80:112]
                for up, name in {"transposed": "with skips", "bilinear": "bilinear"}.items()}
drawings.draw_pattern(plt.figure(figsize=(5, 2.7)), patterns)
x, smooth = patterns.values()
print(f"standard deviation of a logit: transposed {x.std():.1e}, bilinear {smooth.std():.1e}")
assert_close(x[8:], x[:-8], rtol=1e-3, atol=1e-4)       # repeats after 2^3 pixels
assert smooth.std() < 1e-4 < 1e-3 < x.std()

# %% [markdown]
# Not free: the stamps are even, but the four weights inside a stamp differ, and the pattern repeats every $2^3$ pixels, a
# factor of two for each of three up-samplings. Interpolation has no such freedom, and stays flat [Odena et al. 2016]. But look at the size: hundredths of a
# logit. In a mask nobody will ever see it.
#
# ## 8 An image of any size
#
# A large image does not fit into memory at once; cut it into tiles (分块). The paper does it too, its overlap-tile strategy (fig. 2). How far must a window reach
# beyond the part that is used? Here is a sheet of held-out images, in one piece and in four kinds of tiles of 100 pixels: with `overlap` more pixels around, or none;
# with windows that start where they fall, or at multiples of `step`.

# %%
from itertools import product
def in_tiles(net, x, tile, overlap, step):   # (1, C, H, W) -> (1, K, H, W)
    y = torch.empty(1, 2, *x.shape[2:])
    for top, left in product(range(0, x.shape[2], tile), range(0, x.shape[3], tile)):
        t, l = (max(0, start - overlap) // step * step for start in (top, left))
        part = net(x[:, :, t : top + tile + overlap, l : left + tile + overlap])
        part = part[:, :, top - t :, left - l :]
        y[:, :, top : top + tile, left : left + tile] = part[:, :, :tile, :tile]
    return y

net = nets[0]
sheet = test_images[:15].unflatten(0, (3, 5)).permute(2, 0, 3, 1, 4).reshape(1, 3, 192, 320)
radius = net.receptive_radius()
cases, gaps, changed = [(0, 1), (50, 16), (radius, 1), (radius, 16)], [], []
with torch.no_grad():
    whole = net(sheet)
    for overlap, step in cases:
        y = in_tiles(net, sheet, 100, overlap, step)
        gaps.append((y - whole).abs().max().item())
        changed.append((y.argmax(1) != whole.argmax(1))[0].float())
        print(f"overlap {overlap:3}, step {step:2}: logits off by up to {gaps[-1]:.0e}, "
              f"{changed[-1].mean():.1%} of the classes changed")
plot.gallery([whole.softmax(1)[0, 1], *changed],
             ["whole image", *(f"overlap {o}, step {n}" for o, n in cases)])
assert radius == 107 and gaps[0] > 1 and gaps[1] > 1e-2 and gaps[2] > 0.1 and gaps[3] < 1e-2

# %% [markdown]
# Two things must hold. The window reaches as far as a pixel sees, the receptive radius (感受野半径), here 107. And it starts at a multiple of $2^4$, so that
# pooling pairs the same pixels as in the whole image; from a wrong start no overlap helps. Then nothing changes. (That the network marks whole squares of the sheet is
# another matter: it had never seen two grounds side by side, and takes one for an object. Equal to the whole does not mean right.)
#
# `predict_tiled` in the package does both. What does it say to half the overlap?

# %%
assert_close(predict_tiled(net, sheet, tile=128, overlap=radius), whole, rtol=1e-3, atol=1e-3)
try:
    predict_tiled(net, sheet, tile=128, overlap=50)
    raise AssertionError("an overlap below the radius went through")
except ValueError as refused:
    print(refused)


# %% [markdown]
# ## 9 Real membranes
#
# The U-Net became known on thirty slices of a fly's nerve cord under the electron microscope, 512×512 [Arganda-Carreras et al. 2015]. The
# membranes (细胞膜) between the cells are thin, and twenty-four slices are all there is to learn from: each batch takes random crops,
# flips and quarter turns, for which the truth is known as well. This is augmentation (数据增强). The last six are held out; they are neighbours of the others in one
# stack, and the two scores below are not the challenge's own, so these numbers stand beside no leaderboard.
#
# In the full profile the next cells do it, if you have the data; *At full size* below shows what came out.

# %%
def membrane_slices():                       # -> (30, 1, 512, 512), (30, 512, 512), or None
    folder = data.data_folder() / "membrane" / "train"
    if runtime.profile() == "full":
        try:
            pairs = data.image_mask_folders(folder / "image", folder / "label", channels=1)
            slices, cells = data.stack_images(pairs)
            return standardise(slices), 1 - cells[:, 0].long()              # white is cell
        except data.DataMissing as missing:
            print(missing, "(this section is left out)")

def crops_and_turns(model, x, target, side=128):
    top, left = torch.randint(512 - side + 1, (2,)).tolist()
    turns, flip = torch.randint(4, ()).item(), torch.rand(()) < 0.5
    x, target = (each[..., top : top + side, left : left + side].rot90(turns, (-2, -1))
                 for each in (x, target))
    return ce_dice_loss(model, *(each.flip(-1) if flip else each for each in (x, target)))

def membrane_scores(prediction, target):     # -> F1 of the membrane, share of wrong pixels
    hits = (prediction & target).sum()
    return {"F1": (2 * hits / (prediction.sum() + target.sum())).item(),
            "pixel error": (prediction != target).float().mean().item()}

def best_cut(score, target):                 # the threshold of the largest F1
    cuts = score.flatten()[::997].float().quantile(torch.linspace(0.02, 0.98, 49)).tolist()
    return max(cuts, key=lambda cut: membrane_scores((score > cut).long(), target)["F1"])


# %%
membranes, slices = {}, membrane_slices()
if slices:
    x, y, held, wanted = slices[0][:24], slices[1][:24], slices[0][24:], slices[1][24:]
    dark = best_cut(-x[:, 0], y)
    membranes["threshold"] = membrane_scores((-held[:, 0] > dark).long(), wanted)
    forest = forest_on(x[:18], y[:18], 60_000)                              # the cut on six others
    chance = lambda x: forest.predict_proba(features(x).numpy())[:, 1]
    score = lambda x: torch.from_numpy(chance(x)).view(-1, 512, 512)
    likely = best_cut(score(x[18:]), y[18:])
    membranes["random forest"] = membrane_scores((score(held) > likely).long(), wanted)
    seeds = []
    for seed in range(3):
        runtime.seed_everything(seed)
        net = UNet(1, 2, width=16, depth=4)
        train(net, x, y, seed, crops_and_turns, epochs=300, batch_size=6, lr=3e-3, warmup=50)
        logits = predict_tiled(net, held, tile=256, overlap=net.receptive_radius())
        seeds.append(membrane_scores(logits.argmax(1), wanted))
    membranes["U-Net"] = {name: [each[name] for each in seeds] for name in seeds[0]}
    print(membranes)
    assert min(membranes["U-Net"]["F1"]) > membranes["random forest"]["F1"]

# %%
class_scores = {name.replace(" ", "_"): {"background": a, "object": b, "mean": (a + b) / 2}
           for name, (a, b) in ((name, each.tolist()) for name, each in scores.items())}
ablation = {name.replace(" ", "_"): {"inside": each[:, 1].tolist(), "outline": each[:, 2].tolist()}
            for name, each in parts.items()}
records.record("ch03c", seed=[0, 1, 2], IoU=class_scores, ablation=ablation,
    IoU_mean_by_seed=by_seed.mean(1).tolist(), **({"membranes": membranes} if membranes else {}));

# %% [markdown]
# ## 10 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch03c.1")` helps in steps, `solution("ch03c.1")` shows one answer.
#
# **1 · Predict.** `UNet(3, 2, width=16, depth=3)` gets an image `(1, 3, 100, 60)`. Which shape has the map that the decoder's
# convolutions of level 2 get, after concatenation? Answer without running a network.

# %%
shape = ...                                  # (B, C, H, W)
check("ch03c.1", shape)


# %% [markdown]
# **2 · Derive.** A U-Net of the paper's kind, without padding, is to give an output of at least `m` pixels. What is the smallest input that fits? Depth 0 is the
# lowest level alone.

# %%
def tile_for(m, depth=4):                    # 388 -> 572
    ...


check("ch03c.2", tile_for)


# %% [markdown]
# **3 · Relate.** Dice's coefficient of two masks is $2|P\cap G|\,/\,(|P|+|G|)$. A paper reports an IoU of $j$. What is the Dice?

# %%
def dice_from_iou(j):
    ...


check("ch03c.3", dice_from_iou)


# %% [markdown]
# **4 · Build.** The paper's joint: cut the middle of the encoder's map `kept (B, C, H, W)` to the size of `x (B, D, h, w)`, and put
# `x` behind its channels.

# %%
def crop_and_join(kept, x):                  # -> (B, C + D, h, w)
    ...


check("ch03c.4", crop_and_join)


# %% [markdown]
# **5 · Build.** A mirrored horse is a horse. Predict an image as it is, flipped left-right, upside down, and both; give the mean of the
# four probabilities, each where it belongs. Try it on `nets[0]` and `test_images`: does the IoU rise?

# %%
def average_over_flips(model, x):            # -> probabilities (B, K, H, W); model gives logits
    ...


check("ch03c.5", average_over_flips)

# %% [markdown]
# ## 11 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook trains three networks of twice the width on 2,000 images, and the membranes. What the published
# runs measured:

# %% tags=["record"]
records.show("ch03c", "quick")
records.show("ch03c", "full")

# %% [markdown]
# ## 12 What we learned
#
# A U-Net goes down to see far and up to say it of each pixel; at every level the encoder's map is joined to what comes from below.
# Skips carry place: without them the shapes are found and their lines are lost.
# The way up may be a transposed convolution or interpolation; neither is an inverse, and the name deconvolution network is another's.
# IoU counts each class by itself; the share of right pixels flatters whoever says *background*.
# Tiles give the whole image's answer if they reach as far as a pixel sees.
#
# **References.** O. Ronneberger, P. Fischer, T. Brox, *U-Net: convolutional networks for biomedical image segmentation*, MICCAI, 2015,
# arXiv:1505.04597 · J. Long, E. Shelhamer, T. Darrell, *Fully convolutional networks for semantic segmentation*, CVPR, 2015,
# arXiv:1411.4038 · M. D. Zeiler, D. Krishnan, G. W. Taylor, R. Fergus, *Deconvolutional networks*, CVPR, 2010 · H. Noh, S. Hong, B. Han, *Learning
# deconvolution network for semantic segmentation*, ICCV, 2015, arXiv:1505.04366 · A. Odena, V. Dumoulin, C. Olah, *Deconvolution and checkerboard
# artifacts*, Distill, 2016, doi:10.23915/distill.00003 · M. Drozdzal, E. Vorontsov, G. Chartrand, S. Kadoury, C. Pal, *The importance of skip
# connections in biomedical image segmentation*, DLMIA workshop at MICCAI, 2016, arXiv:1608.04117 · I. Arganda-Carreras et al., *Crowdsourcing the creation of image
# segmentation algorithms for connectomics*, Frontiers in Neuroanatomy 9:142, 2015, doi:10.3389/fnana.2015.00142 ·
# S. van der Walt et al., *scikit-image: image processing in Python*, PeerJ 2:e453, 2014.
