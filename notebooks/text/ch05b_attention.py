# %% [markdown]
# # 5b · Attention (注意力机制)
#
# *Book: §2.2.3 (2) 基于注意力机制的网络, (4) 最新进展*
#
# **A convolution mixes neighbouring pixels in the same way in every image. Can a network decide for each image anew what to mix with what?**
#
# You will be able to write attention from its formula and tell its axes apart, to say what √d and position embeddings are for, to build a vision transformer
# (视觉Transformer) that loads torchvision's weights, to measure what it costs and how it compares with a CNN and with simple baselines, and to judge what an attention map
# proves.
#
# **Words it needs:** softmax and cross-entropy (chapter 5a), convolution (chapter 3a). Run the cells from top to bottom. The first one prints what a whole run costs. Its picture
# is the result: digits that were hidden on photographs, and below each the maps of two networks. The orange frame is the true position of the digit.

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
from vlmbook.chapters.ch05b import experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)                     # networks this small gain little from more threads
plot.use_style()
records.published("ch05b")
if (published := records.RESULTS / "ch05b.quick.png").exists():
    plot.gallery([data.read_image(published, channels=3)]);

# %% [markdown]
# ## 1 The data, looked at
#
# The digits again: 1,797 real scans of 8×8 pixels, 360 of them for the test. Below each is cut into 16 patches (图像块) of 2×2, as a vision
# transformer will get them. Could you still read a digit from its patches, if their order were unknown?

# %%
from vlmbook.attention import to_patches

(images, labels), (test_images, test_labels) = data.digits("train"), data.digits("test")
patches = to_patches(images[:6], 2).view(6, 4, 4, 2, 2)
apart = F.pad(patches, (0, 1, 0, 1), value=1).permute(0, 1, 3, 2, 4).reshape(6, 12, 12)
plot.gallery([*images[:6], *apart], columns=6)

# %% tags=["claims"]
assert len(images) == 1437 and len(test_images) == 360

# %% [markdown]
# ## 2 The idea, written here
#
# ### One query
#
# Each token (词元), here a patch, is a vector. In self-attention (自注意力) the tokens of one image ask one another. A token asks with a query (查询) $q_i$. Every token $j$ shows a
# key (键) $k_j$ and holds a value (值) $v_j$. Where query and key fit, their product is large. A softmax turns the products into weights that sum to 1. The output is the mean of
# the values with these weights:
#
# $$\alpha_{ij}=\frac{\exp(q_i\cdot k_j/\sqrt{d_k})}{\sum_{j'}\exp(q_i\cdot k_{j'}/\sqrt{d_k})},\qquad o_i=\sum_j\alpha_{ij}\,v_j$$
#
# All queries at once, with one row of $Q$, $K$ and $V$ for each token:
#
# $$\mathrm{Attention}(Q,K,V)=\mathrm{softmax}\Big(\frac{QK^{\top}}{\sqrt{d_k}}\Big)V\qquad\text{softmax along the keys, so that each row sums to 1}$$
#
# Three queries meet five keys. Predict the shape of the weights (注意力权重) and of the output, if values have two numbers.

# %%
from vlmbook.attention import attention

def attend_loops(q, k, v):                   # (N, d), (M, d), (M, e) -> (N, e), (N, M)
    alpha, o = [], []
    for i in range(len(q)):
        scores = torch.stack([q[i] @ k[j] / k.shape[1] ** 0.5 for j in range(len(k))])
        alpha.append(scores.exp() / scores.exp().sum())
        o.append(sum(alpha[i][j] * v[j] for j in range(len(k))))
    return torch.stack(o), torch.stack(alpha)

def attend(q, k, v):
    alpha = (q @ k.T / k.shape[1] ** 0.5).softmax(-1)
    return alpha @ v, alpha

q, k, v = (torch.randn(n, d, requires_grad=True) for n, d in ((3, 4), (5, 4), (5, 2)))
(o, alpha), fused = attend(q, k, v), F.scaled_dot_product_attention(q, k, v)
print("weights", tuple(alpha.shape), "output", tuple(o.shape))
for other in (attend_loops(q, k, v)[0], attention(q, k, v)[0], fused):
    assert_close(other, o)
    slopes = [torch.autograd.grad(y.square().sum(), (q, k, v), retain_graph=True)
              for y in (o, other)]
    assert_close(*slopes)

# %% tags=["claims"]
assert_close(alpha.sum(1), torch.ones(3))

# %% [markdown]
# Loops, matrices, the package and PyTorch agree, in values and gradients.
#
# Here is attention on a real photograph, before anything is learned. Let query and key both be the patch itself, minus the mean patch and at length 1. Then $q_i\cdot
# k_j$ is a similarity (相似度). Choose a patch. What does it attend to? What happens to the photograph if each patch is replaced by its output? And what happens if *sharpness*,
# a factor on the scores, goes to 0, or up?

# %%
interact.live(drawings.draw_similarity, photo=["coffee", "astronaut", "cat", "rocket"], row=(0, 11),
              column=(0, 15), sharpness=(0, 40), figsize=(7, 2.2))

# %% [markdown]
# At 0 all weights are equal, and each output is the mean of all patches. At 40 most patches attend to themselves alone. Between the two, each output is a mean of patches that
# look alike, near or far: distance has no effect.
#
# ### Why √d
#
# Let the entries of $q$ and $k$ be independent, with mean 0 and variance 1. Then each of the $d_k$ products $q_mk_m$ has variance 1, and
#
# $$\mathrm{Var}(q\cdot k)=\sum_{m=1}^{d_k}\mathrm{Var}(q_m k_m)=d_k$$
#
# The scores spread like $\sqrt{d_k}$, and dividing by it makes the spread 1, for any width. Why is this useful? Look at the largest weight.

# %%
for d in (16, 256, 4096):
    scores = torch.randn(1000, d) @ torch.randn(d, 100)      # a thousand queries, a hundred keys
    for name, s in (("plain", scores), ("scaled", scores / d**0.5)):
        top = s.softmax(-1).amax(-1).mean()
        print(f"d = {d}, {name}: variance {s.var():.2f}, largest weight {top:.2f}")
        assert (top < 0.15 and 0.9 < s.var() < 1.1) if name == "scaled" else top > 0.4

# %% [markdown]
# Without the root a query gives nearly all weight to one key, from the start, and chance decides which. Is that harmful? The derivative of a weight for its own score is
# $\alpha(1-\alpha)$: near 0 where the weight is near 0 or 1. Change *d*. In which row is there still a slope to learn from?

# %%
interact.live(drawings.draw_scale, d=[4, 16, 64, 256, 1024], figsize=(7, 4))

# %% [markdown]
# In the lower row, with the root, nothing changes from 4 to 1,024. In the upper row, without it, the weights saturate (饱和) as $d$ grows, and the slope falls towards 0.
#
# ### Heads
#
# Where do queries, keys and values come from? From the token $x_i$, by three matrices that are learned. There are $h$ heads (多头) of width $d_k=D/h$, each with its own
# matrices, so that each may look for something else. Their outputs are concatenated and mixed by one more matrix:
#
# $$q_i=W_Qx_i,\quad k_i=W_Kx_i,\quad v_i=W_Vx_i,\qquad \mathrm{MultiHead}(X)=[\,o^1;\dots;o^h\,]\,W_O$$
#
# (Each has a bias as well.) Predict the shape of the weights for 2 images of 7 tokens, 3 heads, and width 12.

# %%
from vlmbook.attention import MultiHeadAttention

layer, x = MultiHeadAttention(12, heads=3), torch.randn(2, 7, 12)
theirs = nn.MultiheadAttention(12, 3, batch_first=True)
theirs.load_state_dict(layer.state_dict())                   # the same names
W, b = (p.chunk(3) for p in (layer.in_proj_weight, layer.in_proj_bias))      # of Q, K and V
each = [[attend(*(x[i] @ W[n][4 * h:4 * h + 4].T + b[n][4 * h:4 * h + 4] for n in range(3)))
         for h in range(3)] for i in range(2)]
y = torch.stack([layer.out_proj(torch.cat([o for o, _ in heads], dim=1)) for heads in each])
ours, attention_weights = layer(x, need_weights=True)
print("weights", tuple(attention_weights.shape), "output", tuple(y.shape))

# %% tags=["claims"]
assert_close(ours, y)
assert_close((ours, attention_weights), theirs(x, x, x, average_attn_weights=False))
assert_close(layer(x), y)                                    # fused: the weights are never held

# %% [markdown]
# ### Order
#
# The position of a token does not appear in the formula. Give the tokens in another order: what comes out?

# %%
x, positions, order = torch.randn(2, 7, 12), torch.randn(7, 12), torch.randperm(7)
change = layer(x[:, order] + positions) - layer(x + positions)[:, order]
change = change.abs().max().item()
print(f"with positions the answers differ by up to {change:.2f}")

# %% tags=["claims"]
assert_close(layer(x[:, order]), layer(x)[:, order])
assert change > 0.1

# %% [markdown]
# The outputs are the same, in the other order: attention is permutation-equivariant (置换等变). It treats the tokens as a set. To treat them as an image, each token must say where
# it stands. So a learned position embedding (位置编码) is added to each token. Section 5 removes it.
#
# ### Patches
#
# How does an image become tokens? Cut it into patches of $P×P$, and map the $C·P·P$ numbers of each to $D$ numbers by one matrix $E$. Which layer that you know does
# this?

# %%
from vlmbook.attention import VisionTransformer, rollout, vit_b_16

conv, x = nn.Conv2d(3, 32, 16, stride=16), experiments.resize_photo("astronaut")[None]
E, bias = conv.weight.flatten(1), conv.bias
print(tuple(x.shape), "->", tuple(conv(x).shape), "->", tuple(to_patches(x, 16).shape))

# %% tags=["claims"]
assert_close(to_patches(x, 16) @ E.T + bias, conv(x).flatten(2).mT, rtol=1e-4, atol=1e-4)


# %% [markdown]
# A convolution does it, if its stride is as large as its kernel: the windows do not overlap.
#
# ### The whole
#
# Before the $N$ patches stands one learned token that belongs to no patch, the class token (类别标记). Then follow $L$ blocks, as in chapter 4c but without the causal mask. LN is
# layer normalisation (层归一化). The class is read from the last state of the class token [Dosovitskiy et al. 2021, eqs. 1-4]:
#
# $$z^0=[\,x_{\text{class}};\ Ep_1;\dots;Ep_N\,]+E_{\text{pos}},\qquad
# z'=z^{\ell-1}+\mathrm{MultiHead}(\mathrm{LN}\,z^{\ell-1}),\qquad z^{\ell}=z'+\mathrm{MLP}(\mathrm{LN}\,z'),\qquad y=W\,\mathrm{LN}(z^L_0)$$

# %%
def vit_by_hand(net, x, patch):              # (B, C, H, W) -> (B, num_classes)
    tokens = to_patches(x, patch) @ net.conv_proj.weight.flatten(1).T + net.conv_proj.bias
    z = torch.cat([net.class_token.expand(len(x), -1, -1), tokens], dim=1)
    z = z + net.encoder.pos_embedding
    for block in net.encoder.layers:
        z = z + block.self_attention(block.ln_1(z))
        z = z + block.mlp(block.ln_2(z))
    return net.heads(net.encoder.ln(z)[:, 0])


net = VisionTransformer(8, 2, 10, 1, width=32, depth=2, heads=4)
net = experiments.randomize_parameters(net)       # else all logits would be 0
ways = vit_by_hand(net, images[:5], 2), net(images[:5])
shapes = [tuple(each.shape) for each in net.attention_weights(images[:5])]
print("16 patches and the class token:", *shapes)

# %% tags=["claims"]
assert_close(*ways)
assert_close(*(torch.autograd.grad(y.square().sum(), list(net.parameters())) for y in ways),
             rtol=1e-3, atol=1e-2)

# %% [markdown]
# The same class at the size of the paper is `vit_b_16()`. Its names are torchvision's, so it takes torchvision's weights, trained or, as here, random. How many weights
# are there, and for how many tokens?

# %%
from torchvision import models

theirs = models.vit_b_16().eval()
nn.init.normal_(theirs.heads.head.weight, std=0.1)           # at zero, all logits would be 0
with torch.device("meta"):
    ours = vit_b_16().eval()                                 # shapes only, then theirs' tensors
ours.load_state_dict(theirs.state_dict(), assign=True)
x = F.interpolate(experiments.resize_photo("cat")[None], (224, 224))
with torch.no_grad():
    assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
count = sum(p.numel() for p in ours.parameters())
vit_tokens = ours.encoder.pos_embedding.shape[1]
print(f"{count / 1e6:.1f} M weights, {vit_tokens} tokens")
del ours, theirs

# %% tags=["claims"]
assert 86.5e6 < count < 86.6e6 and vit_tokens == (224 // 16) ** 2 + 1 == 197

# %% [markdown]
# ### What it costs
#
# $N$ queries meet $N$ keys, so there are $N^2$ scores in each head. Twice the tokens cost four times the work. And the memory? Training keeps what the backward pass needs.
# If attention is written as in the formula, these are all the weights. PyTorch's fused kernel (融合算子) works through them block by block, keeps one number a query
# (the logarithm of the sum under the fraction), and computes the weights again in the backward pass [Dao et al. 2022]. How do time and memory grow, each way?

# %%
from timeit import repeat

ways = {"formula": lambda *qkv: attention(*qkv)[0], "fused": F.scaled_dot_product_attention}
tokens = [128, 256, 512, 1024, 2048]
seconds, memory = {name: [] for name in ways}, {name: [] for name in ways}
for n in tokens:
    qkv = [torch.randn(1, 2, n, 64, requires_grad=True) for _ in range(3)]
    for name, way in ways.items():
        times = repeat(lambda: way(*qkv).sum().backward(), number=1, repeat=4)
        seconds[name].append(min(times))
        memory[name].append(experiments.count_saved_bytes(way, *qkv))
drawings.draw_cost(plt.figure(figsize=(7, 2.5)), tokens, seconds, memory)
for name in ways:
    a, b = memory[name][-1] / memory[name][-2], seconds[name][-1] / seconds[name][-3]
    print(f"{name}: {memory[name][-1] / 1e6:.0f} MB at 2,048 tokens, {a:.2f} times those of 1,024;",
          f"the time is {b:.0f} times that of 512")
    assert 6 < b < 150
    assert 3.5 < a < 4.1 if name == "formula" else 1.9 < a < 2.1

# %% tags=["claims"]
assert memory["formula"][-1] > 5 * memory["fused"][-1]

# %% [markdown]
# With the fused kernel the memory grows with $N$ alone. The number of pairs stays: for four times the tokens its time is about 16 times as long.
#
# ### Relatives in a CNN
#
# Attention came to images inside CNNs first. Squeeze-and-excitation (通道注意力) [Hu et al. 2018] weights channels: the mean of each over all positions, two small
# layers, a sigmoid. Spatial attention (空间注意力) [Woo et al. 2018] weights positions, from the mean and the maximum over the channels:
#
# $$s=\sigma\big(W_2\,\mathrm{ReLU}(W_1\,\mathrm{mean}_{ij}\,x_{\cdot ij})\big),\qquad
# m_{ij}=\sigma\big(f^{7×7}[\mathrm{mean}_c\,x_{cij};\ \max_c x_{cij}]\big),\qquad \tilde x_{cij}=s_c\,x_{cij}\ \text{ or }\ m_{ij}\,x_{cij}$$
#
# These weights do not sum to 1. Each weight is a gate (门控) of its own between 0 and 1.

# %%
from torchvision.ops import SqueezeExcitation as TheirSqueezeExcitation
from vlmbook.attention import SpatialAttention, SqueezeExcitation

squeeze, spatial, x = SqueezeExcitation(8, 4), SpatialAttention(7), torch.randn(2, 8, 6, 5)
matrices = [part.weight[:, :, 0, 0] for part in (squeeze.fc1, squeeze.fc2)]
hidden = F.relu(x.mean((2, 3)) @ matrices[0].T + squeeze.fc1.bias)
s = torch.sigmoid(hidden @ matrices[1].T + squeeze.fc2.bias)
m = torch.sigmoid(spatial.conv(torch.stack([x.mean(1), x.amax(1)], dim=1)))
theirs = TheirSqueezeExcitation(8, 2)
theirs.load_state_dict(squeeze.state_dict())
print("gates", tuple(squeeze.gate(x).shape), "and", tuple(spatial.gate(x).shape))

# %% tags=["claims"]
assert_close(squeeze(x), s[:, :, None, None] * x)
assert_close(squeeze(x), theirs(x))
assert_close(spatial(x), m * x)

# %% [markdown]
# ## 3 Train: a ViT, a CNN, and simple baselines
#
# A convolution has two properties before it learns anything: it looks at neighbours together, and it does the same at every position. These are its inductive biases (归纳偏置). A
# ViT has neither, apart from its patches; it has to learn both from images. So how do the two compare, at equal size, when there are few images?
#
# Two causes must be kept apart: few images, and few steps. So the ViT is trained twice, with the steps of the CNN and with two and a half times as many. And two baselines
# (基线) stand beside them: logistic regression (逻辑回归) on the pixels, and the nearest neighbour (最近邻). There are three draws; each has a seed and, of 150 images, its own images.
# All networks have the same learning rate. Guess the errors.

# %%
from vlmbook.training import fit

def train(net, x, y, seed=0, epochs=10, lr=1e-2, progress=False):
    history = fit(net, (x, y), loss_fn=lambda net, x, y: F.cross_entropy(net(x), y), batch_size=50,
                  lr=lr, seed=seed, epochs=epochs, warmup=20, weight_decay=0.05, clip=1.0,
                  progress=progress, optimizer=partial(torch.optim.AdamW, fused=True))
    net.losses = history.losses
    return net.cpu().eval().requires_grad_(False)


# %%
def conv_block(ins, outs):
    return nn.Sequential(nn.Conv2d(ins, outs, 3, padding=1), nn.BatchNorm2d(outs), nn.ReLU())

def digit_cnn(width=20):
    return nn.Sequential(
        conv_block(1, width), conv_block(width, width), nn.MaxPool2d(2),
        conv_block(width, 2 * width), conv_block(2 * width, 2 * width),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))

def digit_vit():
    return VisionTransformer(8, 2, 10, 1, width=32, depth=2, heads=4)


counts = [sum(p.numel() for p in net().parameters()) for net in (digit_vit, digit_cnn)]
print("weights: ViT {:,}, CNN {:,}".format(*counts))

# %% tags=["claims"]
assert abs(counts[0] / counts[1] - 1) < 0.03


# %%
def accuracy(net, x, y):
    return (net(x).argmax(1) == y).float().mean()

def subset(n, seed):                         # -> n training images, each class in proportion
    if n == len(images):
        return images, labels
    return data.hold_out(images, labels, share=(n - 0.5) / len(images), seed=seed)[1]

def trials(make, n, factor=1, move=lambda x: x):             # -> (3,) accuracies, a draw each
    accuracies, steps = [], factor * runtime.pick(quick=200, full=2000)
    for seed in range(3):
        runtime.seed_everything(seed)
        x, y = subset(n, seed)
        net = train(make(), move(x), y, seed=seed, epochs=round(steps * 50 / n))
        accuracies.append(accuracy(net, move(test_images), test_labels))
    return torch.stack(accuracies)


# %%
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

def baseline(model, n):                      # -> (3,) accuracies on the same draws
    fitted = [model.fit(x.flatten(1), y).score(test_images.flatten(1), test_labels)
              for x, y in (subset(n, seed) for seed in range(3))]
    return torch.tensor(fitted)


by_size = {}
for n in runtime.pick(quick=(150, 1437), full=(150, 300, 700, 1437)):
    by_size[n] = {"ViT": trials(digit_vit, n), "ViT, 2.5 × steps": trials(digit_vit, n, 2.5),
                  "CNN": trials(digit_cnn, n),
                  "logistic regression": baseline(LogisticRegression(max_iter=1000), n),
                  "nearest neighbour": baseline(KNeighborsClassifier(1), n)}
drawings.draw_error_rates(plt.figure(figsize=(7, 2.2)), by_size)
for n, of in by_size.items():
    print(f"{n:5} images:", *(f"{k} {a.mean():.1%} ± {a.std():.1%} " for k, a in of.items()))

# %% tags=["claims"]
for n, of in by_size.items():
    assert of["CNN"].mean() > max(of["ViT"].mean(), of["ViT, 2.5 × steps"].mean())
means_of = {n: {name: a.mean() for name, a in of.items()} for n, of in by_size.items()}
assert means_of[150]["logistic regression"] > means_of[150]["ViT, 2.5 × steps"] + 0.03
assert means_of[150]["nearest neighbour"] > means_of[150]["ViT, 2.5 × steps"] + 0.03
assert means_of[1437]["ViT, 2.5 × steps"] > means_of[1437]["ViT"] - 0.01
if runtime.profile() == "quick":             # with few steps
    gaps = [means_of[1437]["CNN"] - means_of[1437][name] for name in ("ViT", "ViT, 2.5 × steps")]
    assert gaps[1] < 0.6 * gaps[0]
    assert means_of[1437]["ViT, 2.5 × steps"] < means_of[1437]["logistic regression"]
longer = {n: each["CNN"] - each["ViT, 2.5 × steps"] for n, each in means_of.items()}
assert longer[150] > longer[1437] + 0.02

# %% [markdown]
# The CNN is the best at both sizes. At 150 images the ViT is behind all others, also behind a linear model and the nearest neighbour; more steps help a little, and it stays behind: there,
# images are missing. At 1,437 images more steps close more than half of the gap to the CNN, so this part was undertraining (训练不足), not a want of images. In the quick profile even
# the longer trained ViT does not reach the linear model. Digits of 8×8 pixels need no ViT.
#
# The paper finds that a ViT overtakes CNNs when there are many millions of images [Dosovitskiy et al. 2021]. Nothing here tests that. (Our networks are tiny, and neither augmented
# nor carefully regularised.)
#
# ## 4 See inside
#
# ### A position to look at
#
# In an image that the digit fills there is little to find. So we hide it: in one of nine cells on brick, grass or gravel, the texture darkened under it. The test digits
# lie on other parts of the photographs. Now we know where a network *has* to look.

# %%
copies = runtime.pick(quick=4, full=30)
scenes = [experiments.hide_digits(images, (0, 168), seed)[0] for seed in range(copies)]
scenes = torch.cat(scenes)
test_scenes, cells = experiments.hide_digits(test_images, (168, 256), seed=99)     # rows of photos
plot.gallery(test_scenes[:8]);


# %% [markdown]
# Two networks learn to read them: a ViT with 36 patches of 4×4, and a CNN with one layer of spatial attention.

# %%
class GatedCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.below = nn.Sequential(conv_block(1, 16), conv_block(16, 16), nn.MaxPool2d(2))
        self.attention = SpatialAttention(7)
        self.above = nn.Sequential(conv_block(16, 32), nn.MaxPool2d(2), conv_block(32, 64))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = self.above(self.attention(self.below(x)))
        return self.head(x.mean((2, 3)))


runtime.seed_everything(0)
vit = VisionTransformer(24, 4, 10, 1, width=48, depth=3, heads=4)
train(vit, scenes, labels.repeat(copies), epochs=3, lr=3e-3, progress=True)
gated = train(GatedCNN(), scenes[:2874], labels.repeat(2), epochs=2)
hidden = {"ViT": accuracy(vit, test_scenes, test_labels).item(),
          "gated CNN": accuracy(gated, test_scenes, test_labels).item()}
print("accuracy:", *(f"{name} {share:.1%} " for name, share in hidden.items()))
drawings.draw_losses(plt.figure(figsize=(7, 1.8)), {"ViT": vit.losses, "gated CNN": gated.losses})

# %% tags=["claims"]
assert hidden["ViT"] > 0.65 and hidden["gated CNN"] > 0.85


# %% [markdown]
# The CNN classifies more of them correctly, again. Now, where do the networks look? For the ViT take the weights of its class token, in the mean over heads, in the first block and in the
# last. To follow the way through all blocks there is attention rollout (注意力展开) [Abnar & Zuidema 2020]. With $A_\ell$ the mean over the heads of block $\ell$, half of what
# leaves a block is counted as its input, over the skip connection, and half as mixed:
#
# $$R=\tfrac12(A_L+I)\cdots\tfrac12(A_2+I)\,\tfrac12(A_1+I)$$

# %%
def rollout_by_hand(blocks):                 # list of (B, h, N, N) -> (B, N, N)
    R = torch.eye(37)
    for A in blocks:
        R = (A.mean(1) + torch.eye(37)) / 2 @ R
    return R


blocks = vit.attention_weights(test_scenes)
class_maps = {"first block": blocks[0].mean(1), "last block": blocks[-1].mean(1),
              "rollout": rollout(blocks)}
class_maps = {name: A[:, 0, 1:].view(-1, 6, 6) for name, A in class_maps.items()}

# %% tags=["claims"]
assert_close(rollout_by_hand(blocks), rollout(blocks))


# %% [markdown]
# Another question needs no look inside: which patch does the network *need*? Cover one patch after the other with the mean grey, and measure how far the probability of the predicted
# class falls. This is occlusion (遮挡). Which of the maps will lie in the frame?

# %%
def occlusion(net, x, patch=4):              # (B, 1, 24, 24) -> (B, 6, 6): fall of the probability
    p, falls = net(x).softmax(1), []
    answer = p.argmax(1, keepdim=True)
    for r in range(0, 24, patch):
        for c in range(0, 24, patch):
            covered = x.clone()
            covered[:, :, r:r + patch, c:c + patch] = scenes.mean()
            falls.append((p - net(covered).softmax(1)).gather(1, answer))
    return torch.cat(falls, dim=1).view(-1, 6, 6)


maps = {f"ViT: {name}": each for name, each in class_maps.items()}
maps["ViT: occlusion"] = occlusion(vit, test_scenes[:200]).clamp(min=0)
maps["CNN: gate"] = gated.attention.gate(gated.below(test_scenes))[:, 0]
figure = plt.figure(figsize=(7, 5.3))
drawings.draw_maps(figure, test_scenes[:7], cells[:7], {k: m[:7] for k, m in maps.items()})
records.picture("ch05b", figure)
in_cell = {name: experiments.measure_share_in_cell(m, cells) for name, m in maps.items()}
print("in the frame:", *(f"{name} {share:.0%} " for name, share in in_cell.items()))
first, last, rolled, missing, gate = in_cell.values()

# %% tags=["claims"]
assert first > 0.6 and last < min(rolled, first - 0.25) and rolled < first
assert missing > rolled + 0.2
assert gate > 1.5 / 9


# %% [markdown]
# Chance would be a ninth, 11 %. The gate finds the digit as well, if weakly; it is a factor, not a share, and it is open at the border of the image too. (Occlusion is for
# 200 of the images; where covering helps, it counts 0.)
#
# **Book check I21 · important regions.** 自动学习到图像中重要的区域. In the first block the class token attends to the digit. In the last block of the quick profile its weights are spread over
# the image, about as by chance; after the longer training of the full profile they lie on the digit too. By then a token holds what others gave it, and is no longer a patch of
# the image. Rollout lies between. Yet there is one network and one prediction, and occlusion shows that the prediction depends on the digit. So it depends on the block, and on
# the training, what a map of weights shows [Jain & Wallace 2019].
#
# Do the weights of a block matter for the prediction? We change the weights of the class token, in one block at a time, in three ways: *equal* weights for all tokens; each image's
# own weights *permuted* (置换) among the tokens; and all weight on *one* token at random. The total variation distance (总变差距离) $\tfrac12\sum_j|\alpha'_j-\alpha_j|$ says how
# strong such an intervention (干预) is: 0 changes nothing, 1 changes everything. How many predictions stay the same?

# %%
def intervene(net, x, number, change):       # on the class token's weights (B, h, 1, N)
    z, strength = net.embed(x) + net.encoder.pos_embedding, None
    for i, block in enumerate(net.encoder.layers):
        heads = block.self_attention
        q, k, v = heads.split_heads(block.ln_1(z))
        o, alpha = attention(q, k, v)
        if i == number:
            changed = change(alpha[:, :, :1])
            strength = (changed - alpha[:, :, :1]).abs().sum(-1).mean().item() / 2
            o = torch.cat([changed @ v, o[:, :, 1:]], dim=2)
        z = z + heads.merge_heads(o)
        z = z + block.mlp(block.ln_2(z))
    return net.heads(net.encoder.ln(z)[:, 0]), strength

def equal(alpha):
    return torch.full_like(alpha, 1 / alpha.shape[-1])

def permuted(alpha):
    return alpha.gather(-1, torch.rand_like(alpha).argsort(-1))

def one_token(alpha):
    return F.one_hot(torch.rand_like(alpha).argmax(-1), alpha.shape[-1]).to(alpha)


# %%
runtime.seed_everything(0)
predictions, stay, strengths = vit(test_scenes).argmax(1), {}, {}
for change in (equal, permuted, one_token):
    for number in range(3):
        draws = [intervene(vit, test_scenes, number, change) for _ in range(3)]
        name = f"{change.__name__}, block {number + 1}"
        stay[name] = [(z.argmax(1) == predictions).float().mean().item() for z, _ in draws]
        strengths[name] = draws[0][1]
drawings.draw_interventions(plt.figure(figsize=(7, 2.4)), stay, strengths)

# %% tags=["claims"]
unchanged, _ = intervene(vit, test_scenes, None, equal)
assert torch.equal(unchanged.argmax(1), predictions)
kept = {name: sum(each) / len(each) for name, each in stay.items()}
assert kept["equal, block 1"] < 0.4 and kept["one_token, block 1"] < 0.4
assert min(each for name, each in kept.items() if "block 1" not in name) > 0.8
assert max(strengths[f"equal, block {n}"] for n in (2, 3)) < strengths["equal, block 1"]
assert all(strengths[f"one_token, block {n}"] > 0.8 for n in (1, 2, 3))

# %% [markdown]
# In the first block every intervention changes most predictions. In the second and the third block nearly all predictions stay. For *equal* and *permuted* weights this would prove
# less: there the weights are closer to equal to begin with, so these interventions are weaker (grey bars). But *one token* is equally strong in all three blocks, and nearly all
# predictions stay as well. So in this network the weights of the first block decide, and those of the last block do not matter, whether their map lies on the digit or not. (This
# is one network and one task. In another network it may be another block.)
#
# Look for yourself. Query 0 is the class token; then come the patches, row by row. Does a head look at a *position*, the same in every image, or at its content? Which
# head finds the digit?

# %%
draw = partial(drawings.draw_heads, images=test_scenes[:100],
               attention_weights=[each[:100] for each in blocks])
interact.live(draw, image=(0, 19), block=(0, 2), head=(0, 3), query=(0, 36), figsize=(7, 3.0))


# %% [markdown]
# In the mean over all images (right), a head that follows a position shows a bright patch; a head that follows the content shows none.
#
# ## 5 Break it: positions
#
# What are positions worth to a ViT, and what to a CNN? First we remove the position embeddings: the ViT then sees a bag of 2×2 patches. How many digits can be read from a bag?
#
# Second, we keep them, but shuffle the patches of *all* images in one fixed way. For a ViT this makes no difference: its position embeddings are learned, and if they are shuffled
# along with the patches, the network is the same. And for the CNN?

# %%
def vit_without_positions():
    net = digit_vit()
    nn.init.zeros_(net.encoder.pos_embedding).requires_grad_(False)
    return net

order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
shuffle = partial(experiments.shuffle_patches, order=order, patch_size=2)
net = experiments.randomize_parameters(digit_vit())
before, embedding = net(test_images), net.encoder.pos_embedding
embedding.data = torch.cat([embedding[:, :1], embedding[:, 1:][:, order]], dim=1).data
broken = {"ViT": by_size[1437]["ViT"],
          "ViT without positions": trials(vit_without_positions, 1437),
          "CNN": by_size[1437]["CNN"],
          "CNN, shuffled": trials(digit_cnn, 1437, move=shuffle)}
drawings.draw_error_rates(plt.figure(figsize=(7, 1.9)), {1437: broken})
means = {name: each.mean().item() for name, each in broken.items()}
print(*(f"{name} {mean:.1%}" for name, mean in means.items()), sep=", ")
records.record("ch05b", seed=[0, 1, 2], accuracy_on_hidden_digits=hidden,
               share_in_the_frame=in_cell, positions={k: a.tolist() for k, a in broken.items()},
               unchanged_predictions=stay, strength_of_intervention=strengths,
               accuracy={f"{n} images": {k: a.tolist() for k, a in of.items()}
                         for n, of in by_size.items()});

# %% tags=["claims"]
assert_close(net(shuffle(test_images)), before, rtol=1e-3, atol=1e-3)
assert 0.3 < means["ViT without positions"] < means["ViT"] - 0.1
assert -0.01 < means["CNN"] - means["CNN, shuffled"] < 0.1

# %% [markdown]
# From the bag about half of the digits are still read, where chance is one in ten; the position embeddings are worth the rest. Shuffling costs the CNN little: the patches stay whole,
# the order is the same in every image, and its later layers see nearly all of an 8×8 image anyway.

# %% [markdown]
# ## 6 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch05b.1")` helps in steps, `solution("ch05b.1")` shows one answer.
#
# **1 · Predict.** `vit_b_16()` gets two images of 224×224. Which shape have the attention weights of one block? Answer without running a network.

# %%
shape = ...                                  # (B, heads, queries, keys)
check("ch05b.1", shape)


# %% [markdown]
# **2 · Derive.** How many multiplications does `MultiHeadAttention` take for one image of `n` tokens, at width `d` with `heads` heads? Count the products of matrices alone. At which
# `n` do the pairs cost as much as the projections?

# %%
def multiplications(n, d, heads):            # multiplications(1, 4, 2) -> 72
    ...


check("ch05b.2", multiplications)


# %% [markdown]
# **3 · Build.** Sentences, and images of several sizes, are padded to one length; what was padded must not be attended to. `there[b, j]` is True where key `j` of sample `b` is real.

# %%
def padded_attention(q, k, v, there):        # (B, N, d), (B, M, d), (B, M, e), (B, M) -> (B, N, e)
    ...


check("ch05b.3", padded_attention)


# %% [markdown]
# **4 · Build.** A ViT was trained on a grid of `old = (h, w)` patches and gets larger images. Give it positions for a grid of `new`: those of the patches resampled bilinearly
# (`align_corners=False`), the class token's as it is.

# %%
def resized_positions(positions, old, new):  # (1, 1 + h·w, D) -> (1, 1 + H·W, D)
    ...


check("ch05b.4", resized_positions)


# %% [markdown]
# **5 · Build.** Put another weight in the place of the softmax, $\alpha_{ij}\propto\phi(q_i)\cdot\phi(k_j)$ with $\phi(x)=\mathrm{elu}(x)+1$ [Katharopoulos et al. 2020]. Then brackets can be
# moved, and no matrix of $N$ times $M$ numbers is needed. (`check` looks whether you make one.)

# %%
def linear_attention(q, k, v):               # (N, d), (M, d), (M, e) -> (N, e)
    ...


check("ch05b.5", linear_attention)

# %% [markdown]
# ## 7 Book check
#
# **W02 · the formula.** The section prints $\text{output}_{ij}=\text{softmax}\big(\tfrac{Q_i\cdot K_j}{\sqrt{d_k}}\big)\cdot V_j$. There is no sum over $j$, no axis of the
# softmax, and a free $j$ on the left. Read it to the letter: it takes the softmax of one number. What is that? And what if one sums over $j$, but takes the softmax along
# the wrong axis, over the queries?

# %%
q, k, v = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5, 2)
scores = q @ k.T / 4**0.5
printed = scores[:, :, None].softmax(-1) * v                 # each score by itself
across, along = scores.softmax(0), scores.softmax(1)
print("printed: the output is V_j for all queries,", torch.equal(printed, v.expand(3, 5, 2)))
print("wrong axis: rows sum to", *(f"{row:.2f}" for row in across.sum(1)))

# %% tags=["claims"]
assert torch.equal(printed, v.expand(3, 5, 2))               # Q and K are without effect
assert_close(along @ v, F.scaled_dot_product_attention(q, k, v))
assert_close(across.sum(), torch.tensor(5.0))
assert (across.sum(1) - 1).abs().max() > 0.1 and (across @ v - along @ v).abs().max() > 0.1

# %% [markdown]
# To the letter the softmax is 1, and the output is $V_j$ whatever the query is. Along the wrong axis each *key* is divided among the queries. The rows sum to different numbers, to 5
# in all, one for each key. No error is raised, since the shapes are the same. Test that each row sums to 1.
#
# **I19 · a similarity?** 计算…每个元素之间的相似度. A similarity is the same from $i$ to $j$ as from $j$ to $i$. Scores are products of two different
# projections, $s_{ij}=W_Qx_i\cdot W_Kx_j$, and the section names neither these nor the heads. Are the scores symmetric?

# %%
x = torch.randn(1, 7, 12)
q, k, _ = (part[0, 0] for part in layer.split_heads(x))      # the first head
similar, scores = x[0] @ x[0].T, q @ k.T
gaps = [(s - s.T).abs().max().item() for s in (similar, scores)]
print("|S − Sᵀ| up to {:.1f} for tokens, {:.1f} for queries and keys".format(*gaps))

# %% tags=["claims"]
assert gaps[0] < 1e-5 and gaps[1] > 0.3


# %% [markdown]
# They are not symmetric: token $i$ may attend to token $j$, and $j$ not to $i$.
#
# **I20 · the dimension.** $d_k$ 是注意力维度. It is the number of entries in a key, that is the width of one *head*, $D/h$: in ViT-B/16 768/12 = 64. Section 2 derives that
# the variance of $q\cdot k$ is this number.
#
# **I22 · what is it?** §2.2: 注意力机制能够提高…注意力, attention raises attention. Say instead what it does: it takes a weighted mean whose weights depend on the input.
#
# **M27 · large images.** Of the ViT: 能够有效地处理大规模图像数据. 大规模 may mean many images, or large ones. Large ones are its weak point: the number of pairs grows with the
# *fourth* power of the side. An image of 1,024 pixels has (1024/16)² = 4,096 patches, one of 224 pixels 196, so 437 times the pairs. For many images the claim should be
# turned round: a ViT *needs* many. Trained on ImageNet alone it stays a few points below ResNets of its size [Dosovitskiy et al. 2021], unless it is strongly regularised [Touvron
# et al. 2021].
#
# **I23 · few samples.** 小样本学习 is said to train a high-performing model on limited data. The term means something narrower: after training on *other* classes, tell apart $N$
# new ones from $K$ examples each, $N$-way $K$-shot (N类K样本) [Vinyals et al. 2016]. An episode draws a support set (支持集) of $N·K$ images and queries that are not in it. The
# simplest method takes the nearest class mean of features, its prototype (原型) [Snell et al. 2017]. Here three ViTs learn the digits 0 to 4 only, and are asked for 5 to 9. What
# should they be compared with?

# %%
def episode(features, labels, shots, queries=10):            # -> accuracy on the queries
    members = [(labels == c).nonzero()[:, 0] for c in labels.unique()]
    drawn = torch.stack([each[torch.randperm(len(each))[:shots + queries]] for each in members])
    support, asked = drawn[:, :shots], drawn[:, shots:].flatten()
    assert not set(support.flatten().tolist()) & set(asked.tolist())
    predicted = torch.cdist(features[asked], features[support].mean(1)).argmin(1)
    return (predicted == torch.arange(len(drawn)).repeat_interleave(queries)).float().mean()


old, new, by_features = labels < 5, test_labels >= 5, {"ViT": [], "untrained ViT": [], "pixels": []}
for seed in range(3):
    runtime.seed_everything(seed)
    trained, untrained = train(digit_vit(), images[old], labels[old], seed), digit_vit().eval()
    with torch.no_grad():
        features = (trained.features(test_images[new]), untrained.features(test_images[new]),
                    test_images[new].flatten(1))
    for shots, each in zip(by_features.values(), features):
        shots.append(torch.stack([episode(each, test_labels[new], 5) for _ in range(100)]).mean())
by_features = {name: torch.stack(shots) for name, shots in by_features.items()}
print("5-way, 5-shot:",
      *(f"{name} {x.mean():.0%} ± {x.std():.0%} " for name, x in by_features.items()))

# %% tags=["claims"]
assert by_features["ViT"].mean() > 0.25
assert by_features["pixels"].min() > by_features["ViT"].max() + 0.1
assert by_features["ViT"].mean() < by_features["untrained ViT"].mean() + 0.03

# %% [markdown]
# Chance is 20 %. The features that were trained on five classes are no better here than those of a ViT that was never trained, and the plain pixels are much better than both. Five
# classes do not teach features that carry over; so the methods of the field first learn from many classes.
#
# ## 8 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook trains at four numbers of images, ten times as long, and learns hidden digits from seven times as many scenes. What the published runs
# measured:

# %% tags=["record"]
records.show("ch05b", "quick")
records.show("ch05b", "full")

# %% [markdown]
# ## 9 What we learned
#
# - Attention is a weighted mean whose weights depend on the input: a softmax along the keys, so that each row sums to 1.
# - Dividing by the root of a head's width keeps the scores at variance 1, where the softmax has a slope.
# - It treats tokens as a set; position embeddings make an image of it. It compares all pairs, and a fused kernel saves their memory, not their number.
# - A ViT has to learn from images what a convolution has from the start. With few images it is behind, here even behind a linear model.
# - A map of weights shows what was mixed where, in one block. What the prediction depends on is seen by covering, and by changing the weights.
#
# **References.** A. Vaswani et al., *Attention is all you need*, NeurIPS, 2017, arXiv:1706.03762 · D. Bahdanau, K. Cho, Y. Bengio, *Neural machine translation by jointly learning to
# align and translate*, ICLR, 2015, arXiv:1409.0473 (where it began) · A. Dosovitskiy et al., *An image is worth 16x16 words: transformers for image recognition at scale*, ICLR, 2021,
# arXiv:2010.11929 · H. Touvron et al., *Training data-efficient image transformers & distillation through attention*, ICML, 2021, arXiv:2012.12877 · J. Hu, L. Shen, G. Sun,
# *Squeeze-and-excitation networks*, CVPR, 2018, arXiv:1709.01507 · S. Woo, J. Park, J.-Y. Lee, I. S. Kweon, *CBAM: convolutional block attention module*, ECCV, 2018,
# arXiv:1807.06521 · T. Dao, D. Y. Fu, S. Ermon, A. Rudra, C. Ré, *FlashAttention: fast and memory-efficient exact attention with IO-awareness*, NeurIPS, 2022,
# arXiv:2205.14135 · S. Abnar, W. Zuidema, *Quantifying attention flow in transformers*, ACL, 2020, arXiv:2005.00928 · S. Jain, B. C. Wallace, *Attention is not explanation*, NAACL,
# 2019, arXiv:1902.10186 · A. Katharopoulos, A. Vyas, N. Pappas, F. Fleuret, *Transformers are RNNs: fast autoregressive transformers with linear attention*, ICML, 2020,
# arXiv:2006.16236 · O. Vinyals et al., *Matching networks for one shot learning*, NeurIPS, 2016, arXiv:1606.04080 · J. Snell, K. Swersky, R. Zemel, *Prototypical networks for
# few-shot learning*, NeurIPS, 2017, arXiv:1703.05175.
