# %% [markdown]
# # 3c · U-Net (U形网络)
#
# *Book: §2.2.1 (3), 反卷积网络（Unet）*
#
# **Pooling makes the maps of a network small. How can the network still give a class to every single pixel?**
#
# The first cell prints what a whole run costs, and shows the chapter's result on test images. White and black pixels are right. Red pixels are wrongly
# marked as object. Blue pixels are missed pixels of the object.
#
# *You will be able to*
#
# - compute the intersection over union (交并比) and the boundary F1 of a mask by hand;
# - draw a U-Net, build it, and predict the size of each of its maps;
# - write its two losses from their formulas, and measure what the second loss adds;
# - measure what the skip connections (跳跃连接) carry;
# - say what "held out" means, and test on new coins, on a new ground and on a new object;
# - segment an image in tiles without a difference to the whole image.
#
# *Words that this chapter needs*: convolution (卷积), pooling (池化), transposed convolution (转置卷积), receptive field (感受野), cross-entropy (交叉熵): [chapter
# 3a](ch03a_convolution_and_pooling.ipynb) · batch normalisation (批归一化), shortcut (捷径连接): [chapter 3b](ch03b_resnet.ipynb).
#
# *Core path, 40 minutes*: sections 1 to 6 and 10. Sections 7 to 9 are headed *Going deeper*; points 3 to 5 of the summary need them.

# %% tags=["record"]
from functools import partial

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import data, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch03c import experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)                     # images this small gain little from more threads
plot.use_style()
records.published("ch03c")
if (published := records.RESULTS / "ch03c.quick.png").exists():
    plot.gallery([data.read_image(published, channels=3)]);

# %% [markdown]
# ## 1 The data, looked at
#
# Semantic segmentation (语义分割) gives a class to every pixel. Here there are two classes: background (0) and object (1). The answer for an image is a
# mask (掩码).
#
# Our images are put together by a program, so their masks are exact. The objects are 24 coins, cut from one photograph. The grounds are photographs of
# brick and of grass. Object and ground get their brightness, contrast and colour from the same distributions. Could you still tell them apart? By what?
#
# "Test images" can mean different things. A network could recognise a coin that it has already seen, on grass that it has already seen. So we build the
# parts carefully:
#
# - **train**: twelve coins on the *left* halves of the photographs of brick and grass;
# - **test**: the twelve other coins on the *right* halves. No coin and no pixel of a ground is shared;
# - **new ground**: the coins of the test part on gravel, a texture that the training images do not have;
# - **new object**: the shape of a horse (马的轮廓), filled with the texture of fur or of stained tissue (组织切片). The training images contain neither this shape
#   nor these textures.

# %%
count, held = runtime.pick(quick=(600, 60), full=(1200, 200))
photos, masks = data.textures(count, part="train")
target = masks[:, 0].long()                  # (B, H, W), 0 or 1
parts = ("test", "new ground", "new object")
trials = {part: data.textures(held, seed=1, part=part) for part in parts}
truth = {part: mask[:, 0].long() for part, (_, mask) in trials.items()}
print("train", tuple(photos.shape), "each test", tuple(trials["test"][0].shape))
rows = [("train", photos), *((part, x) for part, (x, _) in trials.items())]
for part, x in rows:
    plot.gallery(x[:8], [part, *[""] * 7])


# %% [markdown]
# One can tell them apart by texture and by outline, but hardly by brightness (section 5 tries a threshold). We standardise each image: each channel gets
# the mean 0, and the whole image is divided by its own standard deviation. So the colour of an image is kept, and its brightness and contrast are not. All
# methods below start from this step.

# %%
def standardise(x):                          # (B, C, H, W) -> (B, C, H, W)
    x = x - x.mean((2, 3), keepdim=True)
    return x / x.std((1, 2, 3), keepdim=True)


images = standardise(photos)
tests = {part: standardise(x) for part, (x, _) in trials.items()}

# %% [markdown]
# ## 2 How good is a mask?
#
# Most pixels are background. A method that answers *background* everywhere has a high pixel accuracy, but finds no object. So for each class $k$ we count
# only the pixels that are predicted as $k$ or are truly $k$. $P_k$ is the set of pixels with prediction $k$. $G_k$ is the set of pixels with true class
# $k$, the ground truth (真实标注). Then
#
# $$\mathrm{IoU}_k=\frac{|P_k\cap G_k|}{|P_k\cup G_k|}$$
#
# is the intersection over union (IoU). It is counted over all images together.
#
# By hand: the object is a square of 4×4 pixels. The prediction is the same square, moved by one pixel to the right. The intersection has $4\cdot3=12$
# pixels, the union has $16+16-12=20$. So the IoU is 0.6. What is the IoU of the prediction *background everywhere*?

# %%
from vlmbook.unet import boundary_f1, iou

def iou_by_hand(prediction, wanted, num_classes):
    pairs = [(prediction == k, wanted == k) for k in range(num_classes)]
    return torch.stack([(p & g).sum() / (p | g).sum() for p, g in pairs])


square = F.pad(torch.ones(1, 4, 4).long(), (4, 4, 4, 4))
moved = square.roll(1, -1)
nothing = torch.zeros_like(truth["test"])
print("moved square:", iou_by_hand(moved, square, 2)[1].item())
lazy = iou_by_hand(nothing, truth["test"], 2)
correct = (nothing == truth["test"]).float().mean()
print(f"background everywhere: {correct:.0%} of the pixels right, "
      f"IoU {lazy[0]:.2f} of the background, {lazy[1]:.2f} of the object")
assert_close(lazy, iou(nothing, truth["test"], 2))

# %% [markdown]
# The IoU of the object is 0. So we report the IoU of the object.
#
# IoU counts areas. A mask can have a good IoU and a rough outline (轮廓). The **boundary F1** (边界 F1) looks at the outline only. A boundary pixel is a pixel
# of the object that touches the background. *Precision* is the share of predicted boundary pixels that have a true boundary pixel within one pixel, that
# is, at most one row and one column away. *Recall* is the share of true boundary pixels that have a predicted one within one pixel. F1 is $2PR/(P+R)$.
# What is the F1 for the moved square, and for a square that is moved by two pixels?

# %%
for shift in (1, 2):
    score = boundary_f1(square.roll(shift, -1), square, tolerance=1)
    area = iou(square.roll(shift, -1), square, 2)[1]
    print(f"moved by {shift}: IoU {area:.2f}, boundary F1 {score:.2f}")

# %% [markdown]
# Moved by one pixel, every boundary pixel is within the tolerance, and the F1 is 1. Moved by two pixels, 8 of the 12 boundary pixels are within the
# tolerance: three of the upper side, three of the lower side, and the two others of the left side. (The predicted left side lies one column from the true
# right side.) So the F1 is 0.67.
#
# ## 3 The idea
#
# To find the object that a pixel belongs to, a network needs a large receptive field. Pooling enlarges the receptive field ([chapter
# 3a](ch03a_convolution_and_pooling.ipynb), section 6), and pooling makes the maps small. The U-Net [Ronneberger et al. 2015] goes down and up again.
#
# - On the way down, the **encoder** (编码器): two 3×3 convolutions at each level, then pooling halves the size, and the number of channels doubles.
# - On the way up, the **decoder** (解码器): a transposed convolution doubles the size and halves the number of channels. Then two 3×3 convolutions.
# - The **skip connection** copies $e_\ell$, the output of the encoder at level $\ell$, to the decoder at level $\ell$. Both maps are concatenated (拼接):
#   the result has the channels of both maps. Level 0 has the size of the image, and level $\ell+1$ lies below level $\ell$. In the formula, Conv means two
#   3×3 convolutions, and Up the transposed convolution.
#
# $$d_\ell=\mathrm{Conv}\big([\,e_\ell;\ \mathrm{Up}(d_{\ell+1})\,]\big)$$
#
# In the drawing, the numbers in the boxes are channels. Set *height* to 100: which level meets an odd size, and what does the network do there? Switch
# *skip* off: what happens to the number of channels in the decoder?

# %%
interact.live(drawings.draw_u, height=(16, 256), width=(16, 256), first=[4, 8, 16, 32, 64],
              depth=(1, 5), skip=True, figsize=(7, 3.2))

# %% [markdown]
# With height 100 the levels have 100, 50, 25, 13 and 7 rows. 25 and 13 are odd. Pooling rounds up, to 13 and to 7. On the way up 7 becomes 14 and 13
# becomes 26, and one row is cut off each time. Without skips the input of each decoder convolution has half as many channels.
#
# ### By hand
#
# Take an "image" of four pixels, $x=(0,0,1,0)$. Max pooling over pairs gives $(0,1)$. Upsampling by repetition gives $u=(0,0,1,1)$. The network knows that
# *the right half contains something*, but no longer which of the two pixels it was. The skip connection brings $x$ back. One convolution of both channels
# with the weights $(1,1)$ and the bias $-1$, and a ReLU, give
#
# $$\sigma(x+u-1)=\sigma\big((0,0,1,0)+(0,0,1,1)-(1,1,1,1)\big)=(0,0,1,0).$$
#
# The lower map shows that the right half contains something. The skip connection gives its position. What would the same weights give without $x$?

# %%
x = torch.tensor([0.0, 0.0, 1.0, 0.0])
small = F.max_pool1d(x[None], 2)[0]
u = small.repeat_interleave(2)
print("pooled", small.tolist(), "up again", u.tolist())
print("with the skip", F.relu(x + u - 1).tolist(), "without", F.relu(u - 1).tolist())


# %% [markdown]
# Without $x$ the result is zero. The images $(0,0,1,0)$ and $(0,0,0,1)$ give the same $u$, so no weights can tell them apart.
#
# ## 4 The network, built here

# %%
def double_conv(in_channels, channels):      # (B, C, H, W) -> (B, D, H, W)
    def conv(ins):
        layer = nn.Conv2d(ins, channels, 3, padding=1, bias=False)
        return layer, nn.BatchNorm2d(channels), nn.ReLU()
    return nn.Sequential(*conv(in_channels), *conv(channels))


class SmallUNet(nn.Module):                  # (B, C, H, W) -> (B, K, H, W) logits
    def __init__(self, in_channels, num_classes, width=8, depth=4):
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(map(double_conv, [in_channels, *widths[:-1]], widths))
        self.upward = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:-1])
        self.decoder = nn.ModuleList(double_conv(2 * w, w) for w in widths[:-1])
        self.head = nn.Conv2d(width, num_classes, 1)                   # 1×1

    def forward(self, x):
        skips = [self.encoder[0](x)]
        for stage in self.encoder[1:]:
            skips.append(stage(F.max_pool2d(skips[-1], 2, ceil_mode=True)))
        x = skips.pop()                      # the lowest map
        for up, stage, e in zip(self.upward[::-1], self.decoder[::-1], skips[::-1]):
            x = up(x)[:, :, :e.shape[2], :e.shape[3]]                  # cut what was rounded up
            x = stage(torch.cat([e, x], dim=1))
        return self.head(x)


# %% [markdown]
# The 1×1 convolution at the end turns the channels of each pixel into one number for each class, a logit (对数几率). The paper's network has no batch
# normalisation.
#
# Is it the network of the package? Both have the same parameter names. Values and gradients must be equal, also for an image whose sides are odd.

# %%
from vlmbook.unet import UNet, predict_tiled

mine, package = SmallUNet(3, 2), UNet(3, 2, width=8, depth=4)
mine.load_state_dict(package.state_dict())
odd = torch.randn(2, 3, 35, 50)
outputs = [each(odd) for each in (mine, package)]
assert_close(*outputs, rtol=1e-4, atol=1e-4)
gradients = [torch.autograd.grad(y.square().sum(), list(each.parameters()))
             for y, each in zip(outputs, (mine, package))]
assert_close(*gradients, rtol=1e-2, atol=1e-2)
print(tuple(odd.shape), "->", tuple(outputs[0].shape),
      f"{sum(p.numel() for p in mine.parameters()):,} parameters")


# %% [markdown]
# ### The network of the paper
#
# It has 64 channels at the top and four levels below, 31 million parameters. Its convolutions have **no padding**, so each 3×3 convolution takes one pixel
# from each side. What is the output size for 572 pixels? For which input sizes is every pooled size even?

# %%
def unpadded(n, depth=4):                    # -> size of the output, None where a size is odd
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
print(f"572 -> {unpadded(572)}; sizes that fit: {fits}")
assert unpadded(572) == 388 and all(b - a == 16 for a, b in zip(fits, fits[1:]))

# %% [markdown]
# 388 pixels are left, and only every sixteenth size fits. The paper has to cut the encoder's maps before it concatenates them. With padding the output is
# as large as the image, for any image, but near the border the convolutions see zeros.
#
# ### What to minimise
#
# Let $p_{k,i}$ be the probability of class $k$ at pixel $i$ (softmax of the logits), and $g_i$ the true class, for the $N$ pixels of a batch and the
# classes $k=0,\dots,K-1$. $[g_i=k]$ is 1 where this is true, else 0. Cross-entropy (CE) uses the probability of the true class at each pixel. Dice's loss
# measures the overlap for each class, and every class has the same weight, however small its area is [after Drozdzal et al. 2016]. $\epsilon$ prevents a
# division by 0.
#
# $$\mathrm{CE}=-\frac1N\sum_{i=1}^{N}\log p_{g_i,\,i}\qquad\qquad
# \mathrm{Dice}=1-\frac1K\sum_{k=1}^{K}\frac{2\sum_i p_{k,i}\,[g_i=k]+\epsilon}{\sum_i p_{k,i}+\sum_i[g_i=k]+\epsilon}$$
#
# By hand, with two pixels, two classes and $\epsilon=1$: the true classes are 0 and 1, and $p_1=0.2$ at the first pixel, $0.6$ at the second. Then
# $\mathrm{CE}=-\frac12(\log0.8+\log0.6)=0.367$. For class 1 the fraction is $(2\cdot0.6+1)/(0.8+1+1)=0.786$, for class 0 it is
# $(2\cdot0.8+1)/(1.2+1+1)=0.8125$. So Dice's loss is $1-0.799=0.201$.

# %%
from vlmbook.unet import cross_entropy_loss, dice_loss

p_1 = torch.tensor([0.2, 0.6]).view(1, 1, 1, 2)
two_pixels, two_classes = torch.cat([1 - p_1, p_1], 1).log(), torch.tensor([[[0, 1]]])
print(f"cross-entropy {cross_entropy_loss(two_pixels, two_classes):.3f}, "
      f"Dice {dice_loss(two_pixels, two_classes):.3f}")

def losses_by_loops(logits, wanted):         # (B, K, H, W), (B, H, W) -> two numbers
    p, g, K = logits.softmax(1).movedim(1, -1).flatten(0, 2), wanted.flatten(), logits.shape[1]
    entropy = -sum(p[i, g[i]].log() for i in range(len(g))) / len(g)
    dice = [(2 * p[g == k, k].sum() + 1) / (p[:, k].sum() + (g == k).sum() + 1) for k in range(K)]
    return entropy, 1 - sum(dice) / K


scores_3, classes_3 = torch.randn(2, 3, 5, 4), torch.randint(3, (2, 5, 4))
both = cross_entropy_loss(scores_3, classes_3), dice_loss(scores_3, classes_3)
assert_close(losses_by_loops(scores_3, classes_3), both)

# %% [markdown]
# Why two losses? Take an object of 40 pixels in an image of 4,096 pixels, and all logits 0. The object pixels are 1 % of all pixels. Therefore they
# contribute 1 % of the gradient of CE. (By the gradient we mean the sum of the absolute derivatives with respect to the logits of class 1.) The derivative
# of Dice's loss for class 1 is larger at an object pixel than at a background pixel, and the object pixels contribute about 4 %. This holds at this one
# point, and does not prove that Dice helps. Section 7 trains a second network with CE alone.
#
# ## 5 Train
#
# Two simple baselines (基线) come first.
#
# - **Threshold** (阈值): one brightness value. We choose the threshold and the side (brighter or darker) with the largest IoU on 150 training images.
# - **Random forest** (随机森林): many decision trees that vote. 48 numbers describe the neighbourhood of each pixel: blur at several widths up to $\sigma=8$
#   pixels, edge strength, and curvature [scikit-image]. The forest learns from 20,000 random pixels of 200 training images.

# %%
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

def features(x):                             # (B, C, H, W) -> (B·H·W, F)
    each = [multiscale_basic_features(image.movedim(0, -1).numpy(), sigma_min=1, sigma_max=8,
                                      channel_axis=-1) for image in x]
    return torch.cat([torch.from_numpy(found).flatten(0, 1) for found in each])


def forest_on(x, wanted, pixels):            # learns from so many random pixels
    some = torch.randperm(wanted.numel())[:pixels]
    forest = RandomForestClassifier(30, min_samples_leaf=5, random_state=0)
    return forest.fit(features(x)[some].numpy(), wanted.flatten()[some].numpy())


split = lambda x, cut, above: ((x.mean(1) > cut) == above).long()
cuts = [(cut, above) for cut in torch.linspace(-3, 3, 31).tolist() for above in (True, False)]
best = max(cuts, key=lambda cut: iou(split(images[:150], *cut), target[:150], 2)[1])
forest = forest_on(images[:200], target[:200], 20_000)
guesses = {"threshold": {part: split(x, *best) for part, x in tests.items()},
           "random forest": {part: torch.from_numpy(forest.predict(features(x).numpy()))
                             .view(-1, *x.shape[2:]) for part, x in tests.items()}}

# %% [markdown]
# The U-Net has 8 channels at the top instead of 64. It learns from all pixels of all training images, by the sum of both losses. `fit` is the training
# loop of the package: AdamW, with a learning rate that falls along a cosine.

# %%
from vlmbook.training import fit

def ce_dice_loss(model, x, wanted):
    logits = model(x)
    return cross_entropy_loss(logits, wanted) + dice_loss(logits, wanted)

def train(model, x, wanted, seed, loss_fn=ce_dice_loss, **settings):
    model, x = (each.to(memory_format=torch.channels_last) for each in (model, x))
    history = fit(model, (x, wanted), loss_fn=loss_fn, seed=seed, batch_size=8, progress=False,
                  precision=runtime.pick(quick=None, full=runtime.autocast_precision()), **settings)
    model.eval().cpu()
    return history.losses

def predict(model, x):                       # -> probabilities (B, K, H, W)
    with torch.no_grad():
        return torch.cat([model(part).softmax(1) for part in x.split(50)])


runtime.seed_everything(0)
net = UNet(3, 2, width=8, depth=4)
losses = train(net, images, target, 0, epochs=7, lr=5e-3)
probability = {part: predict(net, x)[:, 1] for part, x in tests.items()}
guesses["U-Net"] = {part: (p > 0.5).long() for part, p in probability.items()}
print(f"{len(losses)} steps, loss {sum(losses[:20]) / 20:.2f} -> {sum(losses[-20:]) / 20:.2f}")

# %%
scores = {}
print(f"{'IoU of the object / boundary F1':33}", *(f"{part:>13}" for part in tests))
for name, masks_found in guesses.items():
    scores[name] = {part: {"IoU": iou(found, truth[part], 2)[1].item(),
                           "boundary F1": boundary_f1(found, truth[part])}
                    for part, found in masks_found.items()}
    cells = [f"{s['IoU']:.2f} / {s['boundary F1']:.2f}" for s in scores[name].values()]
    print(f"{name:>33}", *(f"{cell:>13}" for cell in cells))
figure = plt.figure(figsize=(7, 5.4))
shown = {"test": (0, 1), "new ground": (2,), "new object": (1,)}
pick = lambda by_part: torch.cat([by_part[part][list(which)] for part, which in shown.items()])
drawings.draw_rows(figure, pick({part: x for part, (x, _) in trials.items()}), pick(truth),
                   {name: pick(masks_found) for name, masks_found in guesses.items()},
                   labels=[part.replace(" ", "\n") for part, which in shown.items() for _ in which])
if runtime.profile() == "quick":
    records.picture("ch03c", figure)

# %% tags=["claims"]
of = lambda name, part="test": scores[name][part]["IoU"]
assert of("threshold") < 0.35 < of("random forest") < of("U-Net") - 0.1
assert of("U-Net") > 0.75 and of("U-Net", "new object") < of("U-Net") - 0.1

# %% [markdown]
# The U-Net is clearly better than both baselines. Its larger receptive field is not the only possible reason: the U-Net also learned from more images and
# from all of their pixels.
#
# Read the row *U-Net* of the printed table. On the new ground the IoU is not smaller, for one network and one new texture. On the new object the IoU is
# much smaller: in the horse shown here the U-Net marks too much, for example between the legs. The horse has both a new shape and a new filling, so this
# test does not say which of them costs more. (A test for the shape alone would fill horses with coins' texture; a test for the filling alone would fill
# coins with fur.) A report must state *what* is new in the test images.
#
# ### Where to cut the probability?
#
# The probability was cut at 0.5. Move the threshold, and watch the IoU. How flat is the curve around its top?

# %%
thresholds, curve = experiments.iou_by_threshold(probability["test"], truth["test"])
near = thresholds[curve > curve.max() - 0.03]
print(f"IoU within 0.03 of the best for thresholds from {near.min():.2f} to {near.max():.2f}")
interact.live(partial(drawings.draw_threshold, images=trials["test"][0],
                      probability=probability["test"], truth=truth["test"]),
              image=(0, 19), threshold=(0.0, 0.98, 0.02), figsize=(7, 2.3))

# %% tags=["claims"]
assert near.max() - near.min() > 0.25

# %% [markdown]
# The curve is flat: the printed line shows the wide range of thresholds that are nearly as good as the best one. In the image shown most probabilities are
# near 0 or 1, and uncertain pixels lie along the outlines. Do not choose the threshold on test images, because the test then looks too good. Choose it on
# a third part, the validation set (验证集), as section 9 does. Where a missed object costs more than a false alarm (误报), a lower threshold is better.
#
# ## 6 See inside
#
# What does each level keep? Choose a level and a channel (the channel that varies most comes first). The right picture shows the prediction with this skip
# set to zero and all others unchanged. At which level does this reduce the IoU most?

# %%
few = tests["test"][:20]
with torch.no_grad():
    kept = net.encode(few)
    quiet = [net.decode([m * (level != l) for l, m in enumerate(kept)]).argmax(1)
             for level in range(net.depth)]
maps = [m[:, m.std((0, 2, 3)).argsort(descending=True)] for m in kept[:-1]]
silenced = [iou(prediction, truth["test"][:20], 2)[1].item() for prediction in quiet]
print("IoU of the object, silenced:", *(f"level {l} {s:.2f}" for l, s in enumerate(silenced)))
print("missed most: level", silenced.index(min(silenced)))
interact.live(partial(drawings.draw_level, images=trials["test"][0], maps=maps, silenced=quiet,
                      truth=truth["test"]), image=(0, 19), level=(0, net.depth - 1),
              channel=(0, 7), figsize=(7, 2.7))

# %% [markdown]
# The printed line names the level for this one network; we did not repeat this with other seeds. Setting a skip to zero is not a fair test, because the
# network was trained with this skip. For a fair test, a second network has to be *trained* without skips. Section 7 does this.
#
# ## 7 Going deeper: which part does what?
#
# The data of this section are drawn shapes in images of 24×24 pixels. Four variants are trained with three seeds each, in the same few steps:
#
# - *U-Net*: the network above, with depth 3;
# - *without skips*: the decoder gets only the map from below. The network has about a tenth fewer parameters;
# - *bilinear*: a 1×1 convolution and bilinear interpolation (双线性插值) in place of the transposed convolution;
# - *CE alone*: the U-Net, trained without Dice's loss.
#
# The table has the IoU and two boundary F1 scores: *exact* (tolerance 0) and *within one pixel* (tolerance 1). Which of the three scores falls most
# without skips?

# %%
from itertools import product

def outlines(n, seed):                       # -> (n, 3, 24, 24), (n, 24, 24) in {0, 1}
    drawn = data.shapes(n, size=24, seed=seed, objects=(1, 2))
    masks = torch.stack([each.any(0) for each in drawn.masks]).long()
    return standardise(drawn.images), masks

def ce_alone(model, x, wanted):
    return cross_entropy_loss(model(x), wanted)


drawn, drawn_target = outlines(runtime.pick(quick=200, full=400), 0)
drawn_test, drawn_truth = outlines(100, 1)
variants = {"U-Net": {}, "without skips": {"skip": False}, "bilinear": {"up": "bilinear"},
            "CE alone": {}}
twins, measured = {}, {}
for name, seed in product(variants, range(3)):
    runtime.seed_everything(seed)
    twins[name, seed] = twin = UNet(3, 2, width=8, depth=3, **variants[name])
    train(twin, drawn, drawn_target, seed, ce_alone if name == "CE alone" else ce_dice_loss,
          epochs=runtime.pick(quick=4, full=8), lr=1e-2, warmup=20)
    found = predict(twin, drawn_test).argmax(1)
    measured[name, seed] = (iou(found, drawn_truth, 2)[1].item(),
                            boundary_f1(found, drawn_truth, tolerance=0),
                            boundary_f1(found, drawn_truth, tolerance=1))

# %%
columns = ("IoU", "exact boundary F1", "boundary F1 within 1")
ablation = {name: {score: [measured[name, seed][column] for seed in range(3)]
                   for column, score in enumerate(columns)} for name in variants}
_, axes = plt.subplots(1, 3, figsize=(7.5, 1.9), sharey=True, sharex=True)
for panel, score in zip(axes, columns):
    values = torch.tensor([row[score] for row in ablation.values()])
    middle, std = values.mean(1), values.std(1)
    plot.intervals(panel, list(ablation), middle, middle - std, middle + std, score)
    panel.set_xlim(0, 1.04)
    shown_scores = [f"{name} {m:.2f} ± {s:.2f}" for name, m, s in zip(ablation, middle, std)]
    print(score, *shown_scores, sep=", ")

# %% tags=["claims"]
means = {name: {score: sum(v) / 3 for score, v in row.items()} for name, row in ablation.items()}
lost = {score: 1 - means["without skips"][score] / means["U-Net"][score] for score in columns}
assert lost["exact boundary F1"] > lost["IoU"] > lost["boundary F1 within 1"] > 0
assert lost["IoU"] > 0.1 and means["bilinear"]["IoU"] > means["without skips"]["IoU"] + 0.05

# %% [markdown]
# The dots are means over three seeds, the bars are one standard deviation. Without skips the exact boundary falls most, the IoU falls less, and the
# boundary within one pixel hardly falls. So the network without skips finds the shapes, and its outlines are wrong by about one pixel. The skips carry
# the exact position. This was measured after few steps, on small images.
#
# Replacing the transposed convolution by bilinear upsampling changes the IoU little. Removing the skips changes it much. *CE alone* and *U-Net* differ by
# less than their bars here, where no class is small. So these data do not show that Dice's loss helps.
#
# Look at single images. The last two panels show the wrong pixels of both networks, if you switch *errors only* on.

# %%
pair = {name: predict(twins[name, 0], drawn_test[:20]).argmax(1)
        for name in ("U-Net", "without skips")}
shapes_shown = data.shapes(20, size=24, seed=1, objects=(1, 2)).images
interact.live(partial(drawings.draw_skip, images=shapes_shown, truth=drawn_truth[:20],
                      predictions=pair), image=(0, 19), errors_only=False, figsize=(7, 2.8))

# %% [markdown]
# ### The checkerboard
#
# Chapter 3a shows that stamps of 2×2 with stride 2 cover every pixel once. Is the output free of a checkerboard (棋盘效应), then? We give a flat grey image to
# a trained network of each kind. The image is so large that the receptive field of the middle pixels does not reach the border.

# %%
with torch.no_grad():
    patterns = {up: twins[name, 0](torch.zeros(1, 3, 192, 192))[0, 0, 80:112, 80:112]
                for up, name in {"transposed": "U-Net", "bilinear": "bilinear"}.items()}
drawings.draw_pattern(plt.figure(figsize=(5, 2.7)), patterns)
rough, smooth = patterns.values()
print(f"standard deviation of a logit: transposed {rough.std():.1e}, bilinear {smooth.std():.1e}")

# %% tags=["claims"]
assert_close(rough[8:], rough[:-8], rtol=1e-3, atol=1e-4)              # repeats after 2^3 pixels
assert smooth.std() < 1e-4 < 1e-3 < rough.std()


# %% [markdown]
# The output still has a pattern. Each pixel gets exactly one stamp value, but the four weights of a stamp differ. The pattern repeats after $2^3$ pixels,
# because there are three upsamplings. Interpolation has no such weights, and the output stays flat [Odena et al. 2016]. The pattern is small (the numbers
# above the pictures are logits), so it changes a mask only where both classes have nearly the same probability.
#
# ## 8 Going deeper: a large image in tiles
#
# A very large image does not fit into memory at once. We cut it into tiles (分块). For each tile a larger window goes through the network, and only the
# middle of the output is used. The paper does this too (overlap-tile strategy, fig. 2). How far must a window reach beyond its tile?
#
# The cell compares four kinds of windows with the whole image. *overlap*: how many pixels the window reaches beyond the tile. *step*: the start of each
# window is a multiple of this number. The red pixels have another class than in the whole image (they are drawn five pixels wide).

# %%
def in_tiles(model, x, tile, overlap, step):           # (1, C, H, W) -> (1, K, H, W)
    y = torch.empty(1, 2, *x.shape[2:])
    for top, left in product(range(0, x.shape[2], tile), range(0, x.shape[3], tile)):
        t, l = (max(0, start - overlap) // step * step for start in (top, left))
        part = model(x[:, :, t : top + tile + overlap, l : left + tile + overlap])
        part = part[:, :, top - t :, left - l :]
        y[:, :, top : top + tile, left : left + tile] = part[:, :, :tile, :tile]
    return y


sheet = tests["test"][:15].unflatten(0, (3, 5)).permute(2, 0, 3, 1, 4).reshape(1, 3, 192, 320)
radius = net.receptive_radius()
cases, changed, gaps = [(0, 16), (50, 16), (radius, 1), (radius, 16)], [], []
with torch.no_grad():
    whole = net(sheet)
    for overlap, step in cases:
        y = in_tiles(net, sheet, 100, overlap, step)
        gaps.append((y - whole).abs().max().item())
        changed.append((y.argmax(1) != whole.argmax(1))[0].float())
        print(f"overlap {overlap:3}, step {step:2}: logits off by up to {gaps[-1]:.0e}, "
              f"{changed[-1].mean():.2%} of the classes changed")
drawings.draw_tiles(plt.figure(figsize=(7, 2.9)), whole.softmax(1)[0, 1],
                    {f"overlap {o}, step {n}": c for (o, n), c in zip(cases, changed)})

# %% tags=["claims"]
assert radius == 107 and gaps[0] > 1 and gaps[1] > 1e-3 and gaps[2] > 0.1 and gaps[3] < 1e-2

# %% [markdown]
# Two conditions must hold. First, the window reaches beyond its tile by the receptive radius (感受野半径), here 107 pixels. (Down: $2(1+2+4+8+16)=62$. Pooling:
# $1+2+4+8=15$. Up: $2(8+4+2+1)=30$. The sum is 107.) Second, the window starts at a multiple of $2^4=16$, so that pooling pairs the same pixels as in the
# whole image. With another start the result is not exact, although the overlap is large enough. If both conditions hold, the output equals that of the
# whole image. An overlap of 50 changes few classes, which may be good enough. (Standardise the whole image before you cut it: a tile has another mean and
# another standard deviation.)
#
# On this small sheet the windows are nearly as large as the sheet, so no memory is saved. A window has at most $t+2\cdot107+15$ rows for a tile of $t$
# rows, whatever the size of the image. So for large images the memory is bounded.
#
# An output that equals that of the whole image can still be wrong: this network was never trained with several grounds in one image.
#
# `predict_tiled` of the package meets both conditions. With too small an overlap it warns.

# %%
import warnings

assert_close(predict_tiled(net, sheet, tile=128, overlap=radius), whole, rtol=1e-3, atol=1e-3)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    predict_tiled(net, sheet, tile=128, overlap=50)
print(said[0].message)

# %% [markdown]
# ## 9 Going deeper: real membranes
#
# The U-Net became known on thirty slices of the nerve cord of a fly, 512×512 pixels, made by an electron microscope: ISBI 2012 [Cardona et al. 2010;
# Arganda-Carreras et al. 2015]. The task is to find the membranes (细胞膜), thin lines between the cells. We trained a U-Net of 12 channels on 21 slices.
# Each batch is cropped, turned, mirrored and deformed at random (弹性变形) [as in Ronneberger et al. 2015]. We chose the threshold on three slices. The last
# six slices are the test. They are neighbours in the same stack, so they resemble the training slices.
#
# The slices are not part of this package; the weights are. In the quick profile the cell applies them to a **drawn** tissue, whose truth is known
# exactly, and which differs from a real slice.

# %%
if runtime.profile() == "full":
    slices, borders = experiments.load_membranes()
    membrane_net, history = experiments.train_on_membranes(
        slices[experiments.LEARN], borders[experiments.LEARN], epochs=500,
        checkpoint=experiments.find_checkpoint())
else:
    membrane_net, card = experiments.read_membrane_net()
    print(card["quality"])
tissue, lines = experiments.draw_tissue(256)
with torch.no_grad():
    likely = membrane_net(standardise(tissue)).softmax(1)[:, 1]
cells = experiments.find_cells(likely[0], 0.3)
drawings.draw_cells(plt.figure(figsize=(7, 2.3)), tissue[0], likely[0], cells, lines[0])
print(f"drawn tissue: IoU of the membrane {iou((likely > 0.5).long(), lines, 2)[1]:.2f}, Rand F1 "
      f"{experiments.rand_f1(likely, lines, 0.3):.3f}, of a threshold on the brightness "
      f"{experiments.rand_f1(1 - tissue[0], lines, 0.55):.3f}")

# %% [markdown]
# For a biologist the cells matter, not the lines. One gap in a line joins two cells, and the IoU hardly changes. The **Rand F1** measures the cells: Take
# all pairs of pixels that lie in the same true cell: recall is the share of these pairs that also lie in the same predicted cell. Take all pairs in the
# same predicted cell: precision is the share that also lie in the same true cell. Membrane pixels do not count. By hand: six pixels, the true cells are
# $\{1,2,3\}$ and $\{4,5,6\}$, and the prediction joins all six. Six pairs are true, and all six are kept, so the recall is 1. Of the 15 predicted pairs 6
# are true, so the precision is 0.4 and F1 is 0.57. The drawn tissue is easy: a threshold on the brightness finds its cells too. Our score is not the
# challenge's own implementation, so the numbers cannot be compared with the leaderboard of the challenge.
#
# The full run measured these numbers on the six test slices. The picture shows its output on one of them (left: probability of *membrane*, right: cells,
# each in a random colour).

# %%
membranes = {}
if runtime.profile() == "full":
    membranes, likely, cells = experiments.compare_on_membranes(
        membrane_net, slices, borders, forest_on, features)
    figure = plt.figure(figsize=(7, 3.4))
    drawings.draw_recorded(figure, likely, cells)
    records.picture("ch03c", figure)
elif full := records.load("ch03c", "full"):
    membranes = full["measurements"]["membranes"]
    plot.gallery([data.read_image(records.RESULTS / "ch03c.full.png", channels=3)])
for name, row in membranes.items():
    print(f"{name:>15}:", *(f"{score} {value:.3f}" for score, value in row.items()))

# %% tags=["claims"]
if membranes:
    by_cut, by_forest = membranes["threshold"], membranes["random forest"]
    by_net = membranes["U-Net"]
    assert by_net["IoU"] > by_forest["IoU"] > by_cut["IoU"]
    assert by_net["Rand F1"] > by_forest["Rand F1"]

# %% [markdown]
# ## 10 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch03c.1")` helps in steps, `solution("ch03c.1")` shows one answer.
#
# **1 · Predict.** `UNet(3, 2, width=16, depth=3)` gets an image `(1, 3, 100, 60)`. What is the shape of the concatenated map of level 2? It is the input
# of the decoder's convolutions, after the cut. Level 0 has the size of the image. Answer without running a network.

# %%
shape = ...                                  # (B, C, H, W)
check("ch03c.1", shape)


# %% [markdown]
# **2 · Derive.** A U-Net without padding (section 4) has to give an output of *at least* `m` pixels. What is the smallest input size at which every pooled
# size is even? (So 389 needs a larger input than 388.) Depth 0 means only the lowest level, with two convolutions.

# %%
def tile_for(m, depth=4):                    # 388 -> 572
    ...


check("ch03c.2", tile_for)


# %% [markdown]
# **3 · Relate.** Dice's coefficient of two masks is $2|P\cap G|\,/\,(|P|+|G|)$. A paper reports an IoU of $j$. What is Dice's coefficient?

# %%
def dice_from_iou(j):
    ...


check("ch03c.3", dice_from_iou)


# %% [markdown]
# **4 · Build, and measure.** A mirrored coin is a coin. Predict an image as it is, flipped left-right (the last axis), upside down (the axis before it),
# and both. Flip each probability map back before you take the mean of the four. (`check` tests only the function. Try it on `net` and `tests["test"]`, and
# see whether the IoU rises.)

# %%
def average_over_flips(model, x):            # -> probabilities (B, K, H, W); model gives logits
    ...


check("ch03c.4", average_over_flips)

# %% [markdown]
# **5 · Train, change, measure.** Does depth help? Train `UNet(3, 2, width=8, depth=1)` and `UNet(3, 2, width=8, depth=3)` on the shapes of section 7, for
# the seeds 0, 1 and 2, with `train(network, drawn, drawn_target, seed, ce_dice_loss, epochs=4, lr=1e-2, warmup=20)`. Call `runtime.seed_everything(seed)`
# before you build each network. The IoU of the object is `iou(predict(network, drawn_test).argmax(1), drawn_truth, 2)[1].item()`. The six trainings take
# about half as long as the cell of section 7. Put the six values into a dict with the keys "depth 1" and "depth 3", and your conclusion under the key
# "conclusion": "depth 1" or "depth 3" for the larger IoU, or "no difference". Two means differ if their distance is larger than the sum of both standard
# deviations. Is your conclusion what section 3 lets you expect? (These shapes are small, so a small receptive field may be enough.)

# %%
depths = ...                                 # {"depth 1": …, "depth 3": …, "conclusion": …}
check("ch03c.5", depths)

# %% [markdown]
# ## 11 Book check
#
# - **W14 · the diagrams** of §2.2 and §2.2.1 are chains of boxes, with one level and without a skip connection. The text names skip connections as the
#   mark of the U-Net. Compare the drawing of section 3; section 7 measures a network without them.
# - **W36 · from where to where?** The section says both: 高层特征…传递到低层, from high to low layers, and 从低层传递到高层, from low to high. The skips lead from the
#   encoder to the decoder *at the same resolution*. The cell below looks at what arrives.
# - **W37 · a quotation.** §2.2 puts a sentence in quotation marks as the idea behind the U-Net: convolution as 反卷积操作的一个逆过程, an inverse. The paper has
#   no such sentence. It says that it extends the fully convolutional network (全卷积网络) [Long et al. 2015], which adds the class scores of two earlier
#   layers to the scores that come from below. The statement is also false: chapter 3a, W10.
# - **W38 · the name.** 反卷积网络 is the name of other networks: Zeiler et al. [2010], and DeconvNet [Noh et al. 2015]. A U-Net is an encoder and a decoder
#   with skips. It works without any transposed convolution: *bilinear* in section 7.

# %%
probe, arrived = UNet(3, 2, width=4, depth=3), {}
for level, stage in enumerate(probe.decoder):
    stage.register_forward_pre_hook(lambda _, given, level=level: arrived.update({level: given[0]}))
encoded = probe.encode(torch.randn(1, 3, 32, 32))
probe.decode(encoded)
for level, joined in arrived.items():
    half = joined.shape[1] // 2
    assert torch.equal(joined[:, :half], encoded[level])               # untouched
    print(f"decoder level {level}: {tuple(joined.shape)}, the first {half} channels are e{level}")

# %% [markdown]
# ## 12 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook learns from 1,200 images, trains the variants of section 7 four times as long, and trains on the membranes.
# The published runs gave these results:

# %%
plain = {name: {f"{part}, {score}": value for part, row in by_part.items()
                for score, value in row.items()} for name, by_part in scores.items()}
records.record("ch03c", seed=[0, 1, 2], scores=plain, ablation=ablation, silenced_skip=silenced,
               **({"membranes": membranes} if runtime.profile() == "full" else {}));

# %% tags=["record"]
records.show("ch03c", "quick")
records.show("ch03c", "full")

# %% [markdown]
# ## 13 What we learned
#
# 1. The encoder of a U-Net enlarges the receptive field, and the decoder returns to the size of the image. At every level the map of the encoder is
#    concatenated with the map from below.
# 2. IoU counts each class by itself, boundary F1 counts outlines. The share of right pixels rewards *background everywhere*.
# 3. Trained without skips, the network still found the shapes, but their outlines were wrong by about one pixel. The kind of upsampling mattered less.
# 4. The test on a new object was much worse than the test on new coins. Say what is new in a test.
# 5. Tiles give the output of the whole image if the windows overlap by the receptive radius, and start at multiples of $2^{\text{depth}}$.
#
# **References.** O. Ronneberger, P. Fischer, T. Brox, *U-Net: convolutional networks for biomedical image segmentation*, MICCAI, 2015, arXiv:1505.04597
# · J. Long, E. Shelhamer, T. Darrell, *Fully convolutional networks for semantic segmentation*, CVPR, 2015, arXiv:1411.4038 · M. D. Zeiler, D.
# Krishnan, G. W. Taylor, R. Fergus, *Deconvolutional networks*, CVPR, 2010 · H. Noh, S. Hong, B. Han, *Learning deconvolution network for semantic
# segmentation*, ICCV, 2015, arXiv:1505.04366 · A. Odena, V. Dumoulin, C. Olah, *Deconvolution and checkerboard artifacts*, Distill, 2016,
# doi:10.23915/distill.00003 · M. Drozdzal, E. Vorontsov, G. Chartrand, S. Kadoury, C. Pal, *The importance of skip connections in biomedical image
# segmentation*, DLMIA workshop at MICCAI, 2016, arXiv:1608.04117 · A. Cardona et al., *An integrated micro- and macroarchitectural analysis of the
# Drosophila brain by computer-assisted serial section electron microscopy*, PLoS Biology 8:e1000502, 2010 · I. Arganda-Carreras et al., *Crowdsourcing
# the creation of image segmentation algorithms for connectomics*, Frontiers in Neuroanatomy 9:142, 2015, doi:10.3389/fnana.2015.00142 · D. Martin, C.
# Fowlkes, J. Malik, *Learning to detect natural image boundaries using local brightness, color, and texture cues*, IEEE TPAMI 26, 2004 · S. van der
# Walt et al., *scikit-image: image processing in Python*, PeerJ 2:e453, 2014.
