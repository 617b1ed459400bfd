# %% [markdown]
# # 5b · Attention (注意力机制)
#
# *Book: §2.2.3 (2) 基于注意力机制的网络, (4) 最新进展*
#
# **A convolution mixes each pixel with its neighbours, with the same weights in every image. How can a network choose, for each image anew, which parts
# of the image it mixes?**
#
# After this chapter you can
#
# - compute attention by hand, write it from its formula, and name the axis of the softmax,
# - explain what √d, the heads and the position embeddings are for,
# - build a vision transformer that takes torchvision's weights,
# - compare it fairly with a CNN and with simple baselines,
# - test whether a map of attention weights shows what a prediction depends on.
#
# You need these terms: convolution (卷积) and pooling ([chapter 3a](ch03a_convolution_and_pooling.ipynb)), residual connection (残差连接)
# ([chapter 3b](ch03b_resnet.ipynb)), softmax and cross-entropy ([chapter 5a](ch05a_classification_and_detection.ipynb)).
#
# The core path takes 40 minutes: sections 1 to 6. The sections headed *Going deeper* can wait. Run all cells from top to bottom. The first cell prints
# the time and the memory of a whole run. Its picture is the result of section 5: digits are hidden on photographs. The first row shows the images. Each
# other row shows one map, and an image is bright where its map is large. The map *contrast* needs no network. The other maps are answers to the question
# where a network looks. The orange frame is the true position of the digit.

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
published = records.RESULTS / "ch05b.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)]);

# %% [markdown]
# ## 1 The data, looked at
#
# A vision transformer gets an image as a set of squares, called patches (图像块). The first picture shows a photograph, its 48 patches, and the same
# patches in another order. The second picture shows the digits of scikit-learn: 1,437 scans for the training and 360 for the test, 8×8 pixels each.
# They are small, so that a training takes seconds. In section 5 we hide them on photographs.
#
# Look at the third panel. Could you still see what the photograph shows, if you did not know the order of the patches?

# %%
images, labels = data.digits("train")
test_images, test_labels = data.digits("test")
cat = experiments.resize_photo("cat")
other_order = torch.randperm(48, generator=torch.Generator().manual_seed(0))
drawings.draw_patches(plt.figure(figsize=(7, 1.9)), cat, 32, other_order)
plot.gallery(images[:14], columns=14);

# %% tags=["claims"]
assert len(images) == 1437 and len(test_images) == 360

# %% [markdown]
# You can guess "an animal", because some patches show an eye or fur. But the shape of the head is lost. So a network that gets patches has to learn two
# things: what each patch shows, and where it is.
#
# ## 2 Attention: the idea
#
# ### By hand
#
# Each patch becomes a vector, called a **token** (词元). In **self-attention** (自注意力, in the book 自注意力机制) each token collects information from all
# tokens of the same image. Each token has three roles:
#
# - Its **query** (查询) says what the token looks for.
# - Its **key** (键) says what the token offers.
# - Its **value** (值) is the information that it gives.
#
# The product of a query and a key is a **score**. A large score means that query and key fit. The softmax turns the scores of one query into
# **attention weights** (注意力权重), which sum to 1. The output is the mean of the values with these weights.
#
# Take three tokens with one number each. The keys are 0, 1, 2, and the values are 10, 20, 30. The query is 1. So the scores are 0, 1, 2, and their
# exponentials are 1, 2.72, 7.39. Compute the weights and the output by hand. What changes for the query −1?

# %%
keys, values = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([10.0, 20.0, 30.0])
outputs = {}
for query in (1.0, -1.0):
    exponentials = (query * keys).exp()
    weights = exponentials / exponentials.sum()
    outputs[query] = (weights * values).sum().item()
    print(f"query {query:+.0f}: weights", *(f"{each:.3f}" for each in weights),
          f"output {outputs[query]:.2f}")

# %% tags=["claims"]
assert abs(outputs[1.0] - 25.75) < 0.01 and abs(outputs[-1.0] - 14.25) < 0.01

# %% [markdown]
# The sum of the exponentials is 11.11, so the weights are 1/11.11 = 0.090, 2.72/11.11 = 0.245 and 7.39/11.11 = 0.665. The output is
# 0.90 + 4.89 + 19.96 = 25.75. The query −1 fits the key 0 best. So the weights are in the opposite order, and the output is 14.25. The weights depend on the tokens: this
# is the difference to a convolution, whose weights are the same in every image.
#
# ### The formula
#
# Queries and keys are vectors of $d_k$ numbers. For query $i$ and key $j$
#
# $$\alpha_{ij}=\frac{\exp(q_i\cdot k_j/\sqrt{d_k})}{\sum_{j'}\exp(q_i\cdot k_{j'}/\sqrt{d_k})},\qquad o_i=\sum_j\alpha_{ij}\,v_j .$$
#
# The matrices $Q$, $K$ and $V$ have one row for each token. All outputs at once are
#
# $$\mathrm{Attention}(Q,K,V)=\mathrm{softmax}\Big(\frac{QK^{\top}}{\sqrt{d_k}}\Big)V\qquad\text{(the softmax runs along the keys, each row sums to 1).}$$
#
# The cell writes this twice, with loops and with matrices. Three queries meet five keys, and each value has two numbers. Which shapes do the weights
# and the output have?

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
o, alpha = attend(q, k, v)
print("weights", tuple(alpha.shape), "output", tuple(o.shape))

# %% tags=["claims"]
assert_close(alpha.sum(1), torch.ones(3))
gradients = torch.autograd.grad(o.square().sum(), (q, k, v), retain_graph=True)
fused = F.scaled_dot_product_attention(q, k, v)
for other in (attend_loops(q, k, v)[0], attention(q, k, v)[0], fused):
    assert_close(other, o)
    assert_close(torch.autograd.grad(other.square().sum(), (q, k, v)), gradients)

# %% [markdown]
# The weights have the shape (3, 5): one row for each query, one column for each key. The output has the shape (3, 2): one row for each query. Loops,
# matrices, the package and PyTorch agree, in values and in gradients.
#
# ### Attention on a photograph
#
# Nothing is learned here. Query and key of a patch are both its pixels, minus the mean patch, scaled to length 1. Then $q_i\cdot k_j$ measures how
# similar (相似) two patches are. The value of a patch is its pixels. *Sharpness* is a factor on the scores, in place of $1/\sqrt{d_k}$. The query patch
# has an orange frame. The middle panel is bright where the weights of this query are large. The right panel shows the output of every patch. Does a
# patch attend to patches that are near, or to patches that look alike? What happens at sharpness 0 and at sharpness 40?

# %%
interact.live(drawings.draw_similarity, photo=["astronaut", "cat", "coffee", "rocket"],
              row=(0, 11), column=(0, 15), sharpness=(0, 40), figsize=(7, 2))

# %% [markdown]
# A patch attends to patches that look alike. The query lies on the grey wall, and it attends to the wall on both sides of the astronaut: the distance
# has no effect. At sharpness 0 all weights are equal, so each output is the mean of all patches. The larger the sharpness, the more weight goes to the
# most similar patches. The largest weight is always that of the patch itself.
#
# ### Why √d
#
# Let the numbers in $q$ and $k$ be independent, with mean 0 and variance 1. Then each of the $d_k$ products $q_mk_m$ has variance 1, and
#
# $$\mathrm{Var}(q\cdot k)=\sum_{m=1}^{d_k}\mathrm{Var}(q_m k_m)=d_k .$$
#
# The standard deviation (标准差) of the scores is $\sqrt{d_k}$. After the division by $\sqrt{d_k}$ it is 1, for every $d_k$. The figure shows the scores
# and the weights of one query, without √d (orange) and with √d (blue). The *slope* is the mean derivative of a weight with respect to its own score,
# $\alpha(1-\alpha)$. Move $d$. What happens to the weights and to the slope without √d?

# %%
spread, largest = {}, {}
for d in (16, 256, 4096):
    products = torch.randn(1000, d) @ torch.randn(d, 100)    # 1,000 queries, 100 keys
    for name, scores in (("without √d", products), ("with √d", products / d**0.5)):
        spread[name, d] = scores.var().item()
        largest[name, d] = scores.softmax(-1).amax(-1).mean().item()
        print(f"d = {d:4}, {name:>10}: variance of the scores {spread[name, d]:7.2f},",
              f"mean of the largest weight {largest[name, d]:.2f}")
interact.live(drawings.draw_scale, d=[4, 16, 64, 256, 1024], figsize=(7, 3.4))

# %% tags=["claims"]
for d in (16, 256, 4096):
    assert largest["with √d", d] < 0.15 and 0.9 < spread["with √d", d] < 1.1
    assert largest["without √d", d] > 0.4 and 0.9 < spread["without √d", d] / d < 1.1

# %% [markdown]
# Without √d the weights **saturate** (饱和) when $d$ grows: the mean of the largest weight grows from 0.56 to 0.97, before anything is learned. So one key
# gets nearly all the weight. The slope goes towards 0, so the gradient that trains queries and keys is small. With √d the largest weight is 0.08 for
# each $d$, and the slope changes little. (The printed numbers are for 100 keys. The figure has 16 keys, so its weights are larger.)
#
# ### Heads
#
# Queries, keys and values are computed from the token $x_i$ by three learned matrices. In **multi-head attention** (多头注意力) $h$ **heads** work side by
# side. Each head has its own three matrices, so each head can look for something else. A token has $D$ numbers. The query, key and value of one head
# have $d_k=D/h$ numbers each. Their outputs are concatenated and mixed by one more matrix:
#
# $$q_i=W_Qx_i,\quad k_i=W_Kx_i,\quad v_i=W_Vx_i,\qquad \mathrm{MultiHead}(X)=[\,o^1;\dots;o^h\,]\,W_O .$$
#
# (Each of the four maps also has a bias.) The drawing shows one of 3 heads for 7 tokens of width 12; the last line of each box is a shape. In the
# drawing the tokens are the rows of $X$, so its $W_Q$, $W_K$ and $W_V$ are the transposes of those in the formula. The class below computes all heads at
# once. `in_proj_weight` holds $W_Q$, $W_K$ and $W_V$ of all heads; the names are PyTorch's. `view` cuts the $3D$ numbers of each token into queries,
# keys and values, and each of these into heads. `permute` moves the axis of these three to the front, and the axis of the heads before the axis of the
# tokens. Which shape do the attention weights have for 2 images of 7 tokens?

# %%
drawings.draw_head(plt.figure(figsize=(7.5, 2.7)), tokens=7, width=12, heads=3)

class SelfAttention(nn.Module):              # (B, N, D) -> (B, N, D)
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def weigh(self, x):                      # -> (B, h, N, N) weights, (B, h, N, D/h) values
        B, N, D = x.shape
        both = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = both.view(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1), v

    def forward(self, x):
        alpha, v = self.weigh(x)
        o = (alpha @ v).transpose(1, 2)                      # (B, N, h, D/h)
        return self.out_proj(o.flatten(2))


# %% [markdown]
# The weights have the shape (2, 3, 7, 7): images, heads, queries, keys. The next cell checks it.
#
# ### Order
#
# The position of a token does not appear in the formula. What happens to the outputs if the tokens come in another order?

# %%
layer, x = SelfAttention(12, heads=3), torch.randn(2, 7, 12)
alpha, _ = layer.weigh(x)
print("weights", tuple(alpha.shape), "output", tuple(layer(x).shape))
positions, order = torch.randn(7, 12), torch.randperm(7)
without = (layer(x[:, order]) - layer(x)[:, order]).abs().max().item()
with_positions = layer(x[:, order] + positions) - layer(x + positions)[:, order]
with_positions = with_positions.abs().max().item()
print(f"largest difference: without positions {without:.6f}, with positions {with_positions:.2f}")

# %% tags=["claims"]
from vlmbook.attention import MultiHeadAttention

packaged, theirs = MultiHeadAttention(12, heads=3), nn.MultiheadAttention(12, 3, batch_first=True)
packaged.load_state_dict(layer.state_dict())
theirs.load_state_dict(layer.state_dict())
assert_close(packaged(x), layer(x))
assert_close(theirs(x, x, x, average_attn_weights=False), (layer(x), alpha))
W, b = (p.chunk(3) for p in (layer.in_proj_weight, layer.in_proj_bias))      # of Q, K and V
second = [x[1] @ W[n][4:8].T + b[n][4:8] for n in range(3)]  # the second head of the second image
assert_close(attend(*second)[1], alpha[1, 1])
assert without < 1e-5 and with_positions > 0.1

# %% [markdown]
# The outputs are the same, in the other order. (The folded cell tests that our class, the package's and PyTorch's agree.) Attention treats the tokens as
# a **set** (集合). It is permutation-equivariant (置换等变): if the tokens come in another order, the outputs come in the same new order. But in an image the
# position matters. So we add a learned vector to each token, its **position embedding** (位置编码). Then the same token gives another output at another
# position. In the cell random vectors stand for the learned ones, and the outputs differ by up to 0.91.
#
# ## 3 The vision transformer
#
# How does an image become tokens? Cut it into patches of $P×P$ pixels. Each patch has $C·P·P$ numbers, and one matrix $E$ maps them to $D$ numbers.
# Which layer of a CNN does the same?

# %%
from vlmbook.attention import to_patches

conv, photo = nn.Conv2d(3, 32, 16, stride=16), experiments.resize_photo("astronaut")[None]
E, bias = conv.weight.flatten(1), conv.bias
print("photograph", tuple(photo.shape), "-> convolution", tuple(conv(photo).shape))
print("photograph", tuple(photo.shape), "-> patches", tuple(to_patches(photo, 16).shape))
drawings.draw_vit(plt.figure(figsize=(7.5, 2.8)), 224, 16, 3, width=768, depth=12, classes=1000)

# %% tags=["claims"]
as_tokens = conv(photo).flatten(2).mT
assert_close(to_patches(photo, 16) @ E.T + bias, as_tokens, rtol=1e-4, atol=1e-4)


# %% [markdown]
# A convolution whose stride (步幅) is as large as its kernel does the same: its windows do not overlap, and each window is a patch.
#
# The drawing shows the whole **vision transformer** (视觉 Transformer, ViT) at the size of the paper [Dosovitskiy et al. 2021]. The numbers below each box
# are the shape of its output for one image. (A patch has $3·16·16=768$ numbers. By chance $D$ is also 768 here.)
#
# - **Class token** (类别标记): one learned token stands before the patches. Its output after the last block is classified.
# - **LN** is layer normalisation (层归一化): in each token, subtract the mean of its $D$ numbers and divide by their standard deviation; then multiply and
#   add learned numbers.
# - **Block**: attention mixes the tokens; then a small multilayer perceptron (多层感知机, MLP) changes each token alone. Both have a residual connection. LN
#   stands *before* them, so this is a **pre-LN** block.
# - **GELU**$(x)=x\,\Phi(x)$ is a smooth form of ReLU; $\Phi$ is the distribution function of the standard normal distribution.
#
# $$z^0=[\,x_{\text{class}};\ Ep_1;\dots;Ep_N\,]+E_{\text{pos}},\qquad
# z'=z^{\ell-1}+\mathrm{MultiHead}(\mathrm{LN}\,z^{\ell-1}),\qquad z^{\ell}=z'+\mathrm{MLP}(\mathrm{LN}\,z'),\qquad y=W\,\mathrm{LN}(z^L_0)$$
#
# Here $p_1,…,p_N$ are the patches, $\ell=1,…,L$ is the number of the block, and $z^L_0$ is the class token after the last block. The MLP has two linear
# maps with GELU between them; its inner width is $4D$. `Dropout(0.0)` changes nothing. It is there because torchvision's MLP has a layer at this place,
# so the names of the weights fit. The next two cells are the network. Compare each line with the drawing.

# %%
class Block(nn.Module):                      # (B, N, D) -> (B, N, D)
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = SelfAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(),
                                 nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.self_attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


# %%
class ViT(nn.Module):                        # (B, C, H, W) -> (B, num_classes) logits
    def __init__(self, side, patch, num_classes, channels, *, width, depth, heads):
        super().__init__()
        tokens = (side // patch) ** 2 + 1
        self.conv_proj = nn.Conv2d(channels, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embedding = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.ln = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        patches = self.conv_proj(x).flatten(2).mT            # (B, N, D)
        first = self.class_token.expand(len(x), -1, -1)
        z = torch.cat([first, patches], dim=1) + self.pos_embedding
        z = self.ln(self.blocks(z))
        return self.head(z[:, 0])


# %% [markdown]
# Is this the network of the paper? torchvision has it as `vit_b_16`. Our class gets the random weights of torchvision's network, under other names, and
# both networks get the same photograph. How many parameters does it have, and how many tokens?

# %%
from torchvision import models

RENAMED = {"blocks.": "encoder.layers.encoder_layer_", "pos_": "encoder.pos_",
           "ln.": "encoder.ln.", "head.": "heads.head."}

def rename(name):                            # of a parameter of our class -> in torchvision
    for ours, theirs in RENAMED.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


large = models.vit_b_16().eval()
nn.init.normal_(large.heads.head.weight, std=0.1)            # at 0, all logits would be 0
with torch.device("meta"):                                   # shapes only, no memory
    vit_b = ViT(224, 16, 1000, 3, width=768, depth=12, heads=12).eval()
weights_b = {name: large.state_dict()[rename(name)] for name in vit_b.state_dict()}
vit_b.load_state_dict(weights_b, assign=True)
parameters, vit_tokens = sum(w.numel() for w in weights_b.values()), vit_b.pos_embedding.shape[1]
with torch.no_grad():
    whole = F.interpolate(cat[None], (224, 224))
    gap = (vit_b(whole) - large(whole)).abs().max().item()
print(f"{parameters / 1e6:.1f} million parameters, {vit_tokens} tokens; logits differ by {gap:.0e}")
del large, vit_b, weights_b

# %% tags=["claims"]
assert 86.5e6 < parameters < 86.6e6 and vit_tokens == (224 // 16) ** 2 + 1 == 197
assert gap < 1e-4

# %% [markdown]
# The network has 86.6 million parameters and 197 tokens: 14·14 = 196 patches and the class token. The logits are the same up to rounding. From here on
# we use the package's class `VisionTransformer`. It is the same network with torchvision's names (the folded cell tests it, also its gradients). It
# uses a faster kernel, and it can return its attention weights.

# %% tags=["claims"]
from vlmbook.attention import VisionTransformer

sizes = {"width": 32, "depth": 2, "heads": 4}
ours = experiments.randomize_parameters(ViT(8, 2, 10, 1, **sizes))         # at 0, logits would be 0
small = VisionTransformer(8, 2, 10, 1, **sizes)
small.load_state_dict({rename(name): each for name, each in ours.state_dict().items()})
for network in (ours, small):
    network(images[:5]).square().sum().backward()
assert_close(ours(images[:5]), small(images[:5]))
for name, parameter in ours.named_parameters():
    same = small.get_parameter(rename(name)).grad
    assert_close(parameter.grad / same.std(), same / same.std(), rtol=1e-3, atol=1e-3)

# %% [markdown]
# ## 4 Train: a ViT, a CNN and simple baselines
#
# An **inductive bias** (归纳偏置) is what a network assumes before it has learned anything. A convolution assumes two things: neighbouring pixels belong
# together, and a pattern means the same at every position. A ViT assumes much less: inside a patch all pixels are mixed at once, and every patch is
# treated by the same matrix $E$. Which patches are neighbours, it has to learn. So with few images a CNN should be better. Is it, at equal size?
#
# If the ViT is worse, there are two possible causes: too few images or too few steps. To separate them, we train the ViT twice: with the steps of the
# CNN, and with 2.5 times as many. Two **baselines** (基线) are in the table: logistic regression (逻辑回归) on the pixels, and the nearest neighbour (最近邻).
# Each number is a mean of three draws (± standard deviation). A draw has its own seed, and with 150 images also its own images. With 1,437 images all
# draws have the same images, so the baselines have no spread. Both networks have the same learning rate and the same weight decay. We did not tune these
# for either network.

# %%
from vlmbook.attention import VisionTransformer
from vlmbook.training import fit

def train(net, x, y, seed=0, epochs=10, lr=1e-2):
    fit(net, (x, y), loss_fn=lambda net, x, y: F.cross_entropy(net(x), y), batch_size=50, lr=lr,
        seed=seed, epochs=epochs, warmup=20, weight_decay=0.05, clip=1.0, progress=False,
        optimizer=partial(torch.optim.AdamW, fused=True))
    return net.cpu().eval().requires_grad_(False)

def conv_block(ins, outs, stride=1):
    conv = nn.Conv2d(ins, outs, 3, stride, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(outs), nn.ReLU())

def digit_cnn(width=20):
    return nn.Sequential(
        conv_block(1, width), conv_block(width, width), nn.MaxPool2d(2),
        conv_block(width, 2 * width), conv_block(2 * width, 2 * width),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))

def digit_vit():                             # 16 patches of 2×2 pixels
    return VisionTransformer(8, 2, 10, 1, width=32, depth=2, heads=4)

counts = [sum(p.numel() for p in net().parameters()) for net in (digit_vit, digit_cnn)]
print("parameters: ViT {:,}, CNN {:,}".format(*counts))

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
    steps = factor * runtime.pick(quick=200, full=2000)
    accuracies = []
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
    accuracies = []
    for seed in range(3):
        x, y = subset(n, seed)
        model.fit(x.flatten(1), y)
        accuracies.append(model.score(test_images.flatten(1), test_labels))
    return torch.tensor(accuracies)

by_size = {}
for n in runtime.pick(quick=(150, 1437), full=(150, 300, 700, 1437)):
    by_size[n] = {"ViT": trials(digit_vit, n), "ViT, 2.5 × steps": trials(digit_vit, n, 2.5),
                  "CNN": trials(digit_cnn, n),
                  "logistic regression": baseline(LogisticRegression(max_iter=1000), n),
                  "nearest neighbour": baseline(KNeighborsClassifier(1), n)}
print(f"{'training images':>20}:", *(f"{n:15,}" for n in by_size))
for name in by_size[150]:
    shares = [of[name] for of in by_size.values()]
    print(f"{name:>20}:", *(f"  {each.mean():.1%} ± {each.std():.1%}" for each in shares))
drawings.draw_error_rates(plt.figure(figsize=(7, 2.2)), by_size)

# %% tags=["claims"]
means_of = {n: {name: a.mean() for name, a in of.items()} for n, of in by_size.items()}
for each in means_of.values():
    assert each["CNN"] > max(each["ViT"], each["ViT, 2.5 × steps"])
for name in ("logistic regression", "nearest neighbour"):
    assert means_of[150][name] > means_of[150]["ViT, 2.5 × steps"] + 0.03
behind = {n: each["CNN"] - each["ViT, 2.5 × steps"] for n, each in means_of.items()}
assert behind[150] > behind[1437] + 0.02
if runtime.profile() == "quick":             # with few steps
    assert behind[1437] < 0.6 * (means_of[1437]["CNN"] - means_of[1437]["ViT"])
    assert means_of[1437]["ViT, 2.5 × steps"] < means_of[1437]["logistic regression"]

# %% [markdown]
# Yes, the CNN is better, with 150 and with 1,437 images.
#
# - **150 images**: the ViT is worse than all others, also worse than a linear model and the nearest neighbour. With 2.5 times the steps it gains only
#   from 80.5 % to 83.0 % and stays the worst. With 1,437 images it reaches 89.4 % without the extra steps. So here more steps do not replace more
#   images.
# - **1,437 images**: with more steps the distance to the CNN falls to less than half. So more than half of it was undertraining (训练不足), not a lack of
#   images. In this quick run the longer trained ViT is still worse than the linear model.
#
# The experiment does not isolate *which* property of the CNN helps. Digits of 8×8 pixels do not need a ViT. The paper reports that a ViT is better than
# CNNs after pre-training on many millions of images [Dosovitskiy et al. 2021]. Nothing here tests that. Our networks are small and have no data
# augmentation.
#
# ## 5 See inside: where does a network look?
#
# ### Hidden digits
#
# We need images for which the right answer is known. So we hide each digit in one of nine cells of a photograph. The training scenes are cut from the
# left halves of nine photographs, and the test scenes from their right halves. The photograph is darkened under the digit. The networks get the pixels
# on the scale from −2 to 2.

# %%
copies = runtime.pick(quick=4, full=10)
scenes = torch.cat([experiments.hide_digits(images, "left", seed)[0] for seed in range(copies)])
scene_labels = labels.repeat(copies)
test_scenes, cells = experiments.hide_digits(test_images, "right", seed=99)
inputs, test_inputs = 4 * scenes - 2, 4 * test_scenes - 2    # what the networks get
plot.gallery(test_scenes[:16], columns=8);


# %% [markdown]
# Two networks learn to read the digits. The first is a ViT with 36 patches of 8×8 pixels, 3 blocks and 4 heads. The second is a CNN with one layer of
# **spatial attention** (空间注意力) [Woo et al. 2018]. This layer multiplies each position with a **gate** (门控) between 0 and 1. The gate comes from a
# convolution over two maps: the mean and the maximum over all channels $c$.
#
# $$m_{ij}=\sigma\big(f^{7×7}[\mathrm{mean}_c\,x_{cij};\ \max_c x_{cij}]\big),\qquad \tilde x_{cij}=m_{ij}\,x_{cij}$$
#
# Here $f^{7×7}$ is a convolution with a 7×7 kernel, and the sigmoid $\sigma$ gives a number between 0 and 1. The gates do not sum to 1, because there is
# no softmax over the positions.

# %%
class GatedCNN(nn.Module):                   # (B, 3, 48, 48) -> (B, 10)
    def __init__(self):
        super().__init__()
        self.below = nn.Sequential(conv_block(3, 16, 2), conv_block(16, 16), nn.MaxPool2d(2))
        self.conv = nn.Conv2d(2, 1, 7, padding=3)
        self.above = nn.Sequential(conv_block(16, 32), nn.MaxPool2d(2), conv_block(32, 64))
        self.head = nn.Linear(64, 10)

    def gate(self, x):                       # (B, 16, 12, 12) -> (B, 1, 12, 12) in (0, 1)
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return self.conv(pooled).sigmoid()

    def forward(self, x):
        x = self.below(x)
        return self.head(self.above(self.gate(x) * x).mean((2, 3)))


# %%
runtime.seed_everything(0)
vit = VisionTransformer(48, 8, 10, 3, width=48, depth=3, heads=4)
train(vit, inputs, scene_labels, epochs=runtime.pick(quick=2, full=9), lr=3e-3)
gated = train(GatedCNN(), inputs[:2874], scene_labels[:2874], epochs=2)
read = {"ViT": accuracy(vit, test_inputs, test_labels).item(),
        "gated CNN": accuracy(gated, test_inputs, test_labels).item()}
print("accuracy:", *(f"{name} {share:.1%} " for name, share in read.items()))

# %% tags=["claims"]
assert read["ViT"] > 0.65 and read["gated CNN"] > 0.85

# %% [markdown]
# Both networks read most of the digits. (The CNN had fewer scenes and fewer steps. We do not compare the two here.)
#
# ### Five maps
#
# Now we ask where the networks look. For the ViT we take the weights with which the class token (as the query) attends to the 36 patches, as a mean over
# the heads: once from the first block and once from the last block. The weight of the class token on itself is left out. **Attention rollout** (注意力展开)
# [Abnar & Zuidema 2020] follows the weights through all blocks. $A_\ell$ is the matrix of attention weights in block $\ell$, as a mean over the heads.
# $I$ is the identity matrix. We show the row of $R$ that belongs to the class token. Rollout assumes that one half of a block's output comes from its
# input, over the residual connection, and one half from the attention:
#
# $$R=\tfrac12(A_L+I)\cdots\tfrac12(A_2+I)\,\tfrac12(A_1+I)$$

# %%
from vlmbook.attention import rollout

def rollout_by_hand(blocks):                 # list of (B, h, N, N) -> (B, N, N)
    R = torch.eye(blocks[0].shape[-1])
    for A in blocks:
        R = (A.mean(1) + torch.eye(A.shape[-1])) / 2 @ R
    return R


blocks = vit.attention_weights(test_inputs)
matrices = {"first block": blocks[0].mean(1), "last block": blocks[-1].mean(1),
            "rollout": rollout(blocks)}
maps = {f"ViT: {name}": A[:, 0, 1:].view(-1, 6, 6) for name, A in matrices.items()}
maps["CNN: gate"] = gated.gate(gated.below(test_inputs))[:, 0]
contrast = to_patches(test_scenes.mean(1, keepdim=True), 8).std(-1).view(-1, 6, 6)

# %% tags=["claims"]
assert_close(rollout_by_hand(blocks), rollout(blocks))


# %% [markdown]
# **Occlusion** (遮挡分析) needs no look inside: cover one patch with the mean colour, and measure how much the probability of the predicted class falls. If
# it falls, the prediction depends on this patch. Where covering helps, the map is 0. The orange frame is the true cell of the digit, 4 of the 36
# patches. For each map we measure which share of its sum lies in the frame, as a mean over the test images (for occlusion over the first 200). Two
# references help to read the shares. *Chance* is 1/9 = 11 %: a map that is equal everywhere. *Contrast* is a map without any network: the standard
# deviation of the pixels in each patch. Which maps lie in the orange frame?

# %%
def occlusion(net, x, patch=8):              # (B, 3, 48, 48) -> (B, 6, 6): fall of the probability
    p, grey = net(x).softmax(1), inputs.mean((0, 2, 3))[:, None, None]
    falls = []
    answer = p.argmax(1, keepdim=True)
    for top in range(0, 48, patch):
        for left in range(0, 48, patch):
            covered = x.clone()
            covered[:, :, top:top + patch, left:left + patch] = grey
            falls.append((p - net(covered).softmax(1)).gather(1, answer))
    return torch.cat(falls, dim=1).view(-1, 6, 6).clamp(min=0)


all_maps = {"contrast": contrast} | maps | {"ViT: occlusion": occlusion(vit, test_inputs[:200])}
chosen = torch.tensor([0, 3, 8, 10, 11, 12, 2])              # of different photographs
figure = plt.figure(figsize=(7, 6))
shown = {name: each[chosen] for name, each in all_maps.items()}
drawings.draw_maps(figure, test_scenes[chosen], cells[chosen], shown)
records.picture("ch05b", figure)
in_cell = {name: experiments.measure_share_in_cell(m, cells) for name, m in all_maps.items()}
print("in the frame:", *(f"{name} {share:.0%}" for name, share in in_cell.items()), sep="\n  ")

# %% tags=["claims"]
first, last, rolled = (in_cell[f"ViT: {name}"] for name in ("first block", "last block", "rollout"))
assert in_cell["ViT: occlusion"] > max(first, last, rolled) > in_cell["contrast"] > 2 / 9
assert runtime.profile() == "full" or (first > 0.6 and first > last > 0.35)


# %% [markdown]
# Occlusion says that the prediction depends on the digit: 93 % of this map lies in the frame. The maps of weights lie in the frame much more than
# chance, but they do not agree: 87 % in the first block, 59 % in the last block, 44 % for rollout. The contrast has 36 % without any network. The gate
# of the CNN has 25 %: more than chance, and less than the contrast.
#
# So we have three different maps of the weights of the same ViT. Does the prediction depend on the weights that a map shows? The next section tests this
# for the weights of each block.
#
# ## 6 Break it: change the weights
#
# Do the weights of a block matter for the prediction? A map alone cannot answer this. An **intervention** (干预) can: we change the weights of the query
# "class token" in one block, leave all other weights of this block and the parameters of the network as they are, and count how many predictions stay
# the same. We make three changes, for each image and each head:
#
# - *equal weights* for all tokens,
# - *permuted weights* (置换): the weights of each image, given to other tokens at random,
# - *one token at random* gets all the weight.
#
# The changes must be equally strong in each block, or a comparison of the blocks is not fair. We measure the strength by the total variation distance
# (总变差距离) $\tfrac12\sum_j|\alpha'_j-\alpha_j|$ between the old and the new weights. It is 0 if nothing changes, and at most 1. Which block matters?

# %%
def intervene(net, x, number, change):       # -> logits, strength of the change
    z, strength = net.embed(x) + net.encoder.pos_embedding, None
    for i, block in enumerate(net.encoder.layers):
        heads = block.self_attention
        q, k, v = heads.split_heads(block.ln_1(z))
        o, alpha = attention(q, k, v)
        if i == number:
            of_class_token = alpha[:, :, :1]                 # (B, h, 1, N)
            changed = change(of_class_token)
            strength = (changed - of_class_token).abs().sum(-1).mean().item() / 2
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
predictions, stay, strengths = vit(test_inputs).argmax(1), {}, {}
changes = {"equal weights": equal, "permuted weights": permuted, "one token at random": one_token}
for name, change in changes.items():
    for number in range(3):
        draws = [intervene(vit, test_inputs, number, change) for _ in range(3)]
        key = f"{name}, block {number + 1}"
        stay[key] = [(z.argmax(1) == predictions).float().mean().item() for z, _ in draws]
        strengths[key] = draws[0][1]
drawings.draw_interventions(plt.figure(figsize=(7, 2.8)), stay, strengths)
for name in changes:
    shares = [sum(stay[f"{name}, block {number}"]) / 3 for number in (1, 2, 3)]
    print(f"{name:>20}: block 1 {shares[0]:.0%}, block 2 {shares[1]:.0%}, block 3 {shares[2]:.0%}")

# %% tags=["claims"]
unchanged, _ = intervene(vit, test_inputs, None, equal)
assert torch.equal(unchanged.argmax(1), predictions)
one = [stay[f"one token at random, block {n}"] for n in (1, 2, 3)]
if runtime.profile() == "quick":
    assert max(one[0]) < 0.45 and min(one[1] + one[2]) > 0.85
    weak = [strengths[f"equal weights, block {n}"] for n in (2, 3)]
    assert strengths["equal weights, block 1"] > max(weak)
assert all(strengths[f"one token at random, block {n}"] > 0.8 for n in (1, 2, 3))

# %% [markdown]
# If we change one block at a time, the weights of the first block matter by far the most. With *one token at random* the change is equally strong in all
# three blocks, so this comparison is fair: 22 % of the predictions stay after a change in the first block, and more than 90 % after a change in the
# second or third block. (*Equal* and *permuted* weights are weaker changes in the later blocks. So these two alone would prove less.)
#
# 59 % of the map of the last block lies in the frame of the digit. But when we change the weights of the last block, nearly all predictions stay the
# same. So a map that lies on the object does not prove that the prediction depends on these weights. Jain & Wallace asked the same question for networks
# that read text [Jain & Wallace 2019]. Our answer holds for this network and this task. In another network other blocks may matter, and we did not
# change two blocks together.
#
# Look for yourself. Query 0 is the class token. Then come the patches, row by row. The right panel is the mean over 100 images. Its brightest patch is
# always white, so read the number above it. A head that follows a *position* has a large number there. A head that follows the *content* has a small
# one, because the digit is in different cells in different images. Which head finds the digit?

# %%
draw = partial(drawings.draw_heads, images=test_scenes[:100],
               attention_weights=[each[:100] for each in blocks])
interact.live(draw, image=(0, 19), block=(0, 2), head=(0, 3), query=(0, 36), figsize=(7, 2.7))

# %% tags=["claims"]
by_head = blocks[0][:, :, 0, 1:]                             # (B, h, 36) weights of the first block
for head in range(4 if runtime.profile() == "quick" else 0):
    assert experiments.measure_share_in_cell(by_head[:, head].view(-1, 6, 6), cells) > 0.5
    assert by_head[:100, head].mean(0).max() < 0.15


# %% [markdown]
# In the first block all four heads put most of the weight of the class token on the digit. In the mean over the images no patch has more than 0.15. So
# these heads follow the content.
#
# ## 7 Going deeper: break the positions
#
# What are the position embeddings worth? We train the digit ViT of section 4 without them, with the same steps and images. It then sees a *bag* of 16
# patches without an order. How many digits can it still read?
#
# A second change: shuffle the 16 patches of *all* images in one fixed way. For the ViT this makes no difference: if its position embeddings are
# shuffled in the same way, it is the same network. What does the shuffling cost the CNN?

# %%
def vit_without_positions():
    net = digit_vit()
    nn.init.zeros_(net.encoder.pos_embedding).requires_grad_(False)
    return net

fixed_order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
shuffle = partial(experiments.shuffle_patches, order=fixed_order, patch_size=2)
broken = {"ViT": by_size[1437]["ViT"],
          "ViT without positions": trials(vit_without_positions, 1437),
          "CNN": by_size[1437]["CNN"],
          "CNN, shuffled": trials(digit_cnn, 1437, move=shuffle)}
drawings.draw_error_rates(plt.figure(figsize=(7, 1.9)), {1437: broken})
for name, each in broken.items():
    print(f"{name:>21}: {each.mean():.1%} ± {each.std():.1%}")
records.record("ch05b", seed=[0, 1, 2], accuracy_on_hidden_digits=read, share_in_the_frame=in_cell,
               positions={name: each.tolist() for name, each in broken.items()},
               unchanged_predictions=stay, strength_of_intervention=strengths,
               accuracy={f"{n} images": {name: each.tolist() for name, each in of.items()}
                         for n, of in by_size.items()});

# %% tags=["claims"]
net = experiments.randomize_parameters(digit_vit())
before, embedding = net(test_images), net.encoder.pos_embedding
embedding.data = torch.cat([embedding[:, :1], embedding[:, 1:][:, fixed_order]], dim=1).data
assert_close(net(shuffle(test_images)), before, rtol=1e-3, atol=1e-3)
means = {name: each.mean().item() for name, each in broken.items()}
assert 0.3 < means["ViT without positions"] < means["ViT"] - 0.1
assert -0.01 < means["CNN"] - means["CNN, shuffled"] < 0.1
assert runtime.profile() == "full" or means["CNN, shuffled"] > means["ViT"]

# %% [markdown]
# From the bag the ViT reads 44 % ± 8 % of the digits; chance is 10 %. With position embeddings it reads 89 %. So the position embeddings are worth
# about 45 percentage points here. Shuffling costs the CNN about one percentage point only. With shuffled patches it is still better than the ViT. So
# here its lead does not depend on which *patches* are neighbours. (The pixels inside a patch stay neighbours.)
#
# ## 8 Going deeper: what attention costs
#
# $N$ queries meet $N$ keys, so each head computes $N^2$ scores. Twice as many tokens cost four times the work. And the memory? The training keeps what
# the backward pass needs. If attention is written like the formula, it keeps all $N^2$ weights. PyTorch's fused kernel (融合算子) works in small blocks of
# the matrix, keeps one number for each query (the logarithm of the sum in the softmax), and computes the weights again in the backward pass [Dao et al.
# 2022]. How do time and memory grow in each case?

# %%
from timeit import repeat

ways = {"formula": lambda *qkv: attention(*qkv)[0], "fused": F.scaled_dot_product_attention}
tokens = [128, 256, 512, 1024, 2048]
seconds, memory = {name: [] for name in ways}, {name: [] for name in ways}
for n in tokens:
    qkv = [torch.randn(1, 2, n, 64, requires_grad=True) for _ in range(3)]
    for name, way in ways.items():
        times = repeat(lambda: way(*qkv).sum().backward(), number=1, repeat=3)
        seconds[name].append(min(times))
        memory[name].append(experiments.count_saved_bytes(way, *qkv))
drawings.draw_cost(plt.figure(figsize=(7, 2.5)), tokens, seconds, memory)
for name in ways:
    more = memory[name][-1] / memory[name][-2]
    print(f"{name:>7}: {memory[name][-1] / 1e6:.0f} MB at 2,048 tokens, {more:.2f} times as much",
          f"as at 1,024; time {seconds[name][-1] / seconds[name][-3]:.0f} times that of 512 tokens")

# %% tags=["claims"]
growth = {name: each[-1] / each[-2] for name, each in memory.items()}
assert 3.5 < growth["formula"] < 4.1 and 1.9 < growth["fused"] < 2.1
assert memory["formula"][-1] > 5 * memory["fused"][-1]
assert all(6 < each[-1] / each[-3] < 150 for each in seconds.values())

# %% [markdown]
# With the formula the memory grows nearly four times from 1,024 to 2,048 tokens, with the fused kernel two times: it grows with $N$ only. The fused
# kernel still computes all pairs, so its time still grows like $N^2$ or faster: from 512 to 2,048 tokens there are 16 times as many pairs. (The
# measured times change from run to run.)
#
# ## 9 Going deeper: attention inside a CNN
#
# Attention was used inside CNNs before the vision transformer. Section 5 used spatial attention, which weights *positions*. **Squeeze-and-excitation**
# (通道注意力) [Hu et al. 2018] weights *channels*: it takes the mean of each channel over all positions, and two small layers compute one gate for each
# channel.
#
# $$s=\sigma\big(W_2\,\mathrm{ReLU}(W_1\,\mathrm{mean}_{ij}\,x_{\cdot ij})\big),\qquad \tilde x_{cij}=s_c\,x_{cij}$$
#
# How many gates does each layer compute for an image of 8 channels and 6×5 positions?

# %%
from torchvision.ops import SqueezeExcitation as TheirSqueezeExcitation
from vlmbook.attention import SpatialAttention, SqueezeExcitation

squeeze, spatial, x = SqueezeExcitation(8, 4), SpatialAttention(7), torch.randn(2, 8, 6, 5)
W_1, W_2 = (part.weight[:, :, 0, 0] for part in (squeeze.fc1, squeeze.fc2))
excited = F.relu(x.mean((2, 3)) @ W_1.T + squeeze.fc1.bias)
s = torch.sigmoid(excited @ W_2.T + squeeze.fc2.bias)
print("gates: squeeze-and-excitation", tuple(squeeze.gate(x).shape),
      "spatial attention", tuple(spatial.gate(x).shape))

# %% tags=["claims"]
torchvisions = TheirSqueezeExcitation(8, 2)
torchvisions.load_state_dict(squeeze.state_dict())
assert_close(squeeze(x), s[:, :, None, None] * x)
assert_close(squeeze(x), torchvisions(x))
pooled = torch.stack([x.mean(1), x.amax(1)], dim=1)
assert_close(spatial(x), torch.sigmoid(spatial.conv(pooled)) * x)

# %% [markdown]
# Squeeze-and-excitation computes 8 gates for an image, one for each channel. Spatial attention computes 30, one for each position.
#
# ## 10 Going deeper: two modalities, cross-attention
#
# The book's §2.2.3 (4) names multimodal learning (多模态学习): a model that gets images and sentences. In **cross-attention** (交叉注意力) the queries come from
# one modality and the keys and values from the other. Here each word of a caption asks all patches of an image:
#
# $$Q=X_{\text{words}}W_Q,\qquad K=X_{\text{patches}}W_K,\qquad V=X_{\text{patches}}W_V .$$
#
# A small example without training: we choose queries and keys by hand. The key of a patch is its mean colour, minus the mean colour of the image. The
# query of a colour word is its colour minus grey, times a sharpness of 40, as in section 2. (The code also multiplies by √3, because `attention` divides
# by $\sqrt{d_k}=\sqrt3$.) All other words have the query 0. The value of a patch is its position. So the output of a word is a position: the mean of the
# patches that it attends to. Which words will find something?

# %%
from vlmbook.data.shapes import COLOURS

centres = torch.cartesian_prod(torch.arange(4.0, 96, 8), torch.arange(4.0, 96, 8))
drawn = data.shapes(40, size=96, objects=(2, 2))

def attend_to_colours(words, image):         # -> (W, 2) row and column, (W, 144) weights
    colours = to_patches(image[None], 8)[0].view(144, 3, 64).mean(2)
    queries = torch.zeros(len(words), 3)
    for number, word in enumerate(words):
        if word in COLOURS:
            queries[number] = 40 * 3**0.5 * (torch.tensor(COLOURS[word]) - 0.5)
    return attention(queries, colours - colours.mean(0), centres)


words = drawn.captions[5].split()
_, word_weights = attend_to_colours(words, drawn.images[5])
print(drawn.captions[5])
drawings.draw_words(plt.figure(figsize=(7.5, 1.15)), drawn.images[5], words, word_weights)

# %% [markdown]
# The colour words find the object of their colour. The other words have equal weights: their query is 0, so all their scores are 0. How well does it
# work on other images? We compare the output with the true centre of the object, in the images with two different colours. The baseline answers always
# with the middle of the image.

# %%
errors = {"cross-attention": [], "middle of the image": []}
for image, colours, boxes in zip(drawn.images, drawn.colours, drawn.boxes):
    if len(colours.unique()) == 2:
        found, _ = attend_to_colours([drawn.colour_names[c] for c in colours], image)
        true = (boxes[:, [1, 0]] + boxes[:, [3, 2]]) / 2
        errors["cross-attention"].append((found - true).norm(dim=1))
        errors["middle of the image"].append((48 - true).norm(dim=1))
errors = {name: torch.cat(each) for name, each in errors.items()}
for name, each in errors.items():
    far = (each > 16).float().mean()
    print(f"{name:>19}: median error {each.median():.1f} pixels, above 16 pixels {far:.0%}")

# %% tags=["claims"]
assert errors["cross-attention"].median() < 6 < 16 < errors["middle of the image"].median()
assert 0 < (errors["cross-attention"] > 16).float().mean() < 0.2

# %% [markdown]
# The output of a colour word is 2.4 pixels from the centre of its object (median), the middle of the image 24.5 pixels. In an image of 96 pixels, 1 %
# of the objects are missed by more than 16 pixels. The limits are plain: a background of the same colour would attract the word too, and "square" finds
# nothing. A trained network *learns* $W_Q$, $W_K$ and $W_V$. Stable Diffusion, for example, uses cross-attention to bring the words of a caption into
# its U-Net [Rombach et al. 2022]. [Chapter 7c](ch07c_learning_from_little.ipynb) trains a small model for images and sentences, CLIP, which compares
# both without cross-attention.
#
# ## 11 Exercises
#
# Write your answer in the cell and run it. `check` says what is wrong. `hint("ch05b.1")` gives one hint after the other, and `solution("ch05b.1")`
# shows one answer.
#
# **1 · Predict.** `vit_b_16()` gets two images of 224×224 pixels. Which shape do the attention weights of one block have? Answer without a network.

# %%
shape = ...                                  # (B, heads, queries, keys)
check("ch05b.1", shape)


# %% [markdown]
# **2 · Derive.** How many multiplications does `MultiHeadAttention` need for one image of `n` tokens, with width `d` and `heads` heads? Count the
# products of matrices only. (Then think: for which `n` do the pairs cost as much as the projections?)

# %%
def multiplications(n, d, heads):            # multiplications(1, 4, 2) -> 72
    ...


check("ch05b.2", multiplications)


# %% [markdown]
# **3 · Build.** A batch holds sentences of different lengths. Short ones are filled up with padding (填充), and no query may attend to the padding.
# `there[b, j]` is True if key `j` of sample `b` is real, and False if it is padding. Each sample has at least one real key.

# %%
def padded_attention(q, k, v, there):        # (B, N, d), (B, M, d), (B, M, e), (B, M) -> (B, N, e)
    ...


check("ch05b.3", padded_attention)


# %% [markdown]
# **4 · Build.** A ViT was trained on a grid of `old = (h, w)` patches. Now it gets larger images, with a grid of `new = (H, W)` patches. Make its
# position embeddings fit: interpolate those of the patches bilinearly (双线性插值, `align_corners=False`), and keep that of the class token as it is.

# %%
def resized_positions(positions, old, new):  # (1, 1 + h·w, D) -> (1, 1 + H·W, D)
    ...


check("ch05b.4", resized_positions)


# %% [markdown]
# **5 · Build.** Replace the softmax by another weight: $\alpha_{ij}\propto\phi(q_i)\cdot\phi(k_j)$ with $\phi(x)=\mathrm{elu}(x)+1$ [Katharopoulos et
# al. 2020]. Each row still sums to 1. Now the brackets can be moved, so no matrix of $N×M$ numbers is needed. (`check` tests that you compute no such
# matrix.)

# %%
def linear_attention(q, k, v):               # (N, d), (M, d), (M, e) -> (N, e)
    ...


check("ch05b.5", linear_attention)

# %% [markdown]
# ## 12 Book check
#
# **W02 · the formula of attention.** The section prints $\text{output}_{ij}=\text{softmax}\big(\tfrac{Q_i\cdot K_j}{\sqrt{d_k}}\big)\cdot V_j$. The sum
# over $j$ and the axis of the softmax are missing. What does the formula compute as it is printed? And what happens if the softmax runs along the wrong
# axis, the queries?

# %%
q, k, v = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5, 2)
scores = q @ k.T / 4**0.5
printed = scores[:, :, None].softmax(-1) * v                 # the softmax of one number
along_queries, along_keys = scores.softmax(0), scores.softmax(1)
print("as printed: the output is V_j for every query,", torch.equal(printed, v.expand(3, 5, 2)))
print("along the queries: the rows sum to", *(f"{row:.2f}" for row in along_queries.sum(1)))
print("along the keys: the rows sum to", *(f"{row:.2f}" for row in along_keys.sum(1)))

# %% tags=["claims"]
assert torch.equal(printed, v.expand(3, 5, 2))               # Q and K are without effect
assert_close(along_keys @ v, F.scaled_dot_product_attention(q, k, v))
assert (along_queries.sum(1) - 1).abs().max() > 0.1
asking, asked, _ = packaged.split_heads(torch.randn(1, 7, 12))               # I19
of_head = asking[0, 0] @ asked[0, 0].T                       # (7, 7) scores of the first head
assert (of_head - of_head.T).abs().max() > 0.3
assert round((1024 / 16) ** 4 / (224 / 16) ** 4) == 437      # M27

# %% [markdown]
# The softmax of one number is 1. So the printed formula gives $V_j$ for every query, and $Q$ and $K$ have no effect. With the softmax along the queries
# the rows do not sum to 1. No error is raised, because the shapes are the same. So test in your own code that each row sums to 1.
#
# The other errata of this chapter:
#
# **I19 · similarity.** "Attention computes the similarity of the elements" → a score is the product of two *different* projections,
# $W_Qx_i\cdot W_Kx_j$. It is not symmetric: token $i$ can attend to $j$ while $j$ does not attend to $i$.
#
# **I20 · $d_k$.** "The attention dimension" → the number of entries of a query or key in *one head*, $D/h$; in ViT-B/16 it is 768/12 = 64.
#
# **I21 · important regions.** "The network learns the important regions" → weights show what is mixed in one block; in sections 5 and 6 most of the map
# of the last block lies on the digit, but the prediction hardly depends on its weights.
#
# **I22 · what attention is.** "Attention raises the attention to key features" → attention is a weighted mean whose weights depend on the input.
#
# **M27 · large images.** "ViT handles large-scale image data well" → the number of pairs grows with the fourth power of the side: 1,024 pixels have 437
# times the pairs of 224 pixels. And a ViT trained on ImageNet alone is a few points below ResNets of its size [Dosovitskiy et al. 2021], unless it is
# strongly regularised [Touvron et al. 2021].
#
# **I23 · few-shot learning.** "A high-performing model from limited data" → few-shot learning (小样本学习) means: learn *new* classes from $K$ examples
# each, after training on other classes ($N$-way $K$-shot) [Vinyals et al. 2016]. [Chapter 7c](ch07c_learning_from_little.ipynb) measures it.
#
# ## 13 At full size
#
# With `VLMBOOK_PROFILE=full` section 4 trains with 150, 300, 700 and 1,437 images. Sections 4 and 7 train with ten times the steps. Section 5 hides each
# training digit in 10 scenes instead of 4, and its ViT gets about 11 times the steps. The cell shows what the published runs measured.

# %% tags=["record"]
records.show("ch05b", "quick")
records.show("ch05b", "full")

# %% [markdown]
# ## 14 What we learned
#
# 1. Attention is a weighted mean whose weights depend on the input: a softmax along the keys, so each row sums to 1.
# 2. Division by √d keeps the scores at variance 1, so the softmax does not saturate.
# 3. Attention treats the tokens as a set; position embeddings tell the network where each token is. Attention compares all pairs of tokens. A fused
#    kernel saves the memory of the pairs, not their number.
# 4. A ViT assumes less than a CNN. On our few small images it is worse than the CNN, and with 150 images worse than a linear model.
# 5. A map of weights shows what is mixed in one block. Occlusion and interventions show what the prediction depends on.
#
# **References.** A. Vaswani et al., *Attention is all you need*, NeurIPS, 2017, arXiv:1706.03762 · D. Bahdanau, K. Cho, Y. Bengio, *Neural machine
# translation by jointly learning to align and translate*, ICLR, 2015, arXiv:1409.0473 (an early use of attention) · A. Dosovitskiy et al., *An image is
# worth 16x16 words: transformers for image recognition at scale*, ICLR, 2021, arXiv:2010.11929 · H. Touvron et al., *Training data-efficient image
# transformers & distillation through attention*, ICML, 2021, arXiv:2012.12877 · J. Hu, L. Shen, G. Sun, *Squeeze-and-excitation networks*, CVPR, 2018,
# arXiv:1709.01507 · S. Woo, J. Park, J.-Y. Lee, I. S. Kweon, *CBAM: convolutional block attention module*, ECCV, 2018, arXiv:1807.06521 · T. Dao, D. Y.
# Fu, S. Ermon, A. Rudra, C. Ré, *FlashAttention: fast and memory-efficient exact attention with IO-awareness*, NeurIPS, 2022, arXiv:2205.14135 · S.
# Abnar, W. Zuidema, *Quantifying attention flow in transformers*, ACL, 2020, arXiv:2005.00928 · S. Jain, B. C. Wallace, *Attention is not explanation*,
# NAACL, 2019, arXiv:1902.10186 · R. Rombach et al., *High-resolution image synthesis with latent diffusion models*, CVPR, 2022, arXiv:2112.10752 · A.
# Katharopoulos, A. Vyas, N. Pappas, F. Fleuret, *Transformers are RNNs: fast autoregressive transformers with linear attention*, ICML, 2020,
# arXiv:2006.16236 · O. Vinyals et al., *Matching networks for one shot learning*, NeurIPS, 2016, arXiv:1606.04080.
