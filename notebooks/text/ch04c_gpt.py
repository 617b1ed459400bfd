# %% [markdown]
# # 4c · GPT (生成式预训练Transformer)
#
# *Book: §2.2.2 (3), 生成式模型（GPT）*
#
# **How can a network draw an image pixel by pixel, and say how likely any image is?**
#
# After this chapter you can
#
# - split the probability of an image into a product of simple probabilities, one for each pixel;
# - explain attention with numbers, build a causal Transformer (因果Transformer) in 40 lines, and test that it cannot look ahead;
# - train all positions in one pass, and generate one position after the other with a key-value cache (键值缓存);
# - change how tokens are drawn (temperature, top-$k$, top-$p$) and measure the effect;
# - use the same network to classify, to complete half an image, and to extract features without labels.
#
# You need these terms: residual connection (残差连接) ([chapter 3b](ch03b_resnet.ipynb)), Fréchet distance, precision and recall of generated samples
# ([chapter 4a](ch04a_gan.ipynb)). Attention is explained here as far as it is needed; [chapter 5b](ch05b_attention.ipynb) has more.
#
# The core path takes 40 minutes: sections 1 to 6 and section 11. The sections 7 to 10 are headed *Going deeper*. Run all cells from top to bottom.
# The first cell prints the time and the memory of a whole run, and shows the main result of the published run.

# %% tags=["record"]
import math
from functools import partial
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.testing import assert_close
from vlmbook import data, generation, pixel_models, plot, pretrained, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch04c import experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)                     # batches this small gain little from more threads
plot.use_style()
records.published("ch04c")
published = records.RESULTS / "ch04c.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)], width=7.162);

# %% [markdown]
# ## 1 The data: images as tokens
#
# We train on the digits of scikit-learn: 8×8 pixels with 17 levels of grey (灰度). The training set has 1,437 images. We hold out a sixth of them as the
# validation set (验证集), and make all choices there. The 360 test images are used in sections 6 and 9 only. With `VLMBOOK_PROFILE=full` the notebook uses
# Fashion-MNIST [Xiao et al. 2017], made smaller: 14×14 pixels, each the mean of 2×2 pixels, and rounded to 16 levels.
#
# A GPT reads a sequence of tokens (词元). A token is a whole number from a fixed list, the vocabulary (词表). For text a token is a piece of a word. Here
# a token is the level of one pixel. We read the pixels row by row, so an image of 8×8 pixels becomes a sequence of 64 tokens. **Is any information
# lost?**

# %%
from vlmbook.gpt import GPT, KVCache, complete, generate, gpt_loss, to_images, to_tokens

parts = data.hold_out(*data.digits_or_fashion("train"), share=1 / 6, seed=0)
(images, labels), (valid_images, valid_labels) = parts
test_images, test_labels = (each[:1000] for each in data.digits_or_fashion("test"))
small = images.shape[-1] == 8                # True for the digits
levels = 17 if small else experiments.FASHION_LEVELS
if not small:                                # 14×14 pixels, 16 levels
    images, valid_images, test_images = map(experiments.shrink, (images, valid_images, test_images))
height, width = size = images.shape[2:]
pixels = height * width
valid_images = valid_images[:240]
valid_labels = valid_labels[:240]
precision = runtime.pick(quick=None, full="bf16")
tokens = to_tokens(images, levels)
print(len(images), "training images,", len(valid_images), "validation,", len(test_images), "test")
print("the first three rows of the first image:", tokens[0, :3 * width].tolist())
plot.gallery(images[:12], [f"class {label}" for label in labels[:12]]);

# %% tags=["claims"]
assert tokens.shape == (len(images), pixels) and tokens.max() == levels - 1
assert_close(to_images(tokens, levels, size), images)

# %% [markdown]
# No information is lost: `to_images` turns the tokens back into the same image.
#
# ## 2 How likely is an image?
#
# A model of images is now a model of sequences. It gives each sequence $x$ a probability $p(x)$, and the probabilities of all sequences sum to 1. A
# good model gives a high probability to images that it has not seen. We measure the mean of
#
# $$-\frac1T\log p(x)\quad\text{in nats (奈特) a pixel},\qquad\text{divided by }\ln2:\ \text{bits per dimension (每维比特数)}.$$
#
# $T$ is the number of pixels. Fewer bits are better: this is the number of bits for each pixel after perfect compression with the model. A model that
# knows nothing gives each of 17 levels the probability $1/17$. It needs $\ln17=2.83$ nats a pixel.
#
# Two baselines (基线) know something. The **histogram** counts how often each level occurs at each pixel. It does not know the neighbours of a pixel. The
# **Gaussian** knows the mean and the covariance (协方差) of all pixels. Its density is integrated over each level, so it gives probabilities of levels too.
# **Guess both numbers before you run the cell.**

# %%
baselines = {"histogram": pixel_models.PixelHistogram(images, levels),
             "Gaussian": pixel_models.PixelGaussian(images, levels)}
costs = {}
for name, baseline in baselines.items():
    costs[name] = -baseline.log_likelihood(valid_images).mean().item() / pixels
    print(f"{name}: {costs[name]:.3f} nats a pixel, {costs[name] / math.log(2):.2f} bits")

# %% tags=["claims"]
assert costs["Gaussian"] < costs["histogram"] < math.log(levels)

# %% [markdown]
# Both are far below 2.83, and the Gaussian is a little better than the histogram. A GPT should need fewer nats than both.
#
# ## 3 The idea
#
# ### The chain rule
#
# The probability of a sequence can always be written as a product. This is the chain rule (链式法则). $x_{<t}$ stands for all tokens before $x_t$:
#
# $$p(x_1,\dots,x_T)=\prod_{t=1}^{T}p(x_t\mid x_{<t})$$
#
# Take three tokens with two values each. A table of eight numbers holds all probabilities. Each factor follows from the table: sum over the tokens that
# come later, then divide by the probability of the tokens before. **For the row (1, 0, 1): is the product of its three factors the entry of the table?**

# %%
from itertools import product

joint = torch.rand(2, 2, 2) ** 3
joint /= joint.sum()
p1 = joint.sum((1, 2))                                # p(x1)
p2 = joint.sum(2) / p1[:, None]                       # p(x2 | x1)
p3 = joint / joint.sum(2, keepdim=True)               # p(x3 | x1, x2)
print(f"p(x1=1) = {p1[1]:.3f}, p(x2=0 | x1=1) = {p2[1, 0]:.3f}, "
      f"p(x3=1 | x1=1, x2=0) = {p3[1, 0, 1]:.3f}")
print(f"product {p1[1] * p2[1, 0] * p3[1, 0, 1]:.4f}, table {joint[1, 0, 1]:.4f}")

# %% tags=["claims"]
assert_close(p1[:, None, None] * p2[:, :, None] * p3, joint)
assert_close(p3.sum(2), torch.ones(2, 2))


# %% [markdown]
# Yes, and the same holds for all eight rows. For 64 pixels of 17 levels the table would have $17^{64}$ entries. So a network takes the place of the
# table: its input is $x_{<t}$, and its output is $p_\theta(\cdot\mid x_{<t})$, one probability for each level. This is an **autoregressive model**
# (自回归模型). A GPT is an autoregressive model whose network is a Transformer.
#
# ### Attention, in numbers
#
# The network must collect information from the earlier positions. **Attention** (注意力) does this in three steps [Vaswani et al. 2017]. Each position
# has three vectors: a query (查询) $q$, a key (键) $k$ and a value (值) $v$. All three are linear functions of the vector at this position.
#
# 1. *Compare*: the score of position $j$ for position $i$ is $q_i\cdot k_j/\sqrt d$, where $d$ is the length of a query.
# 2. *Weigh*: the softmax (归一化指数函数) turns the scores into positive weights $\alpha_{ij}$ with the sum 1.
# 3. *Mix*: the output is the weighted mean of the values.
#
# In **causal** attention position $i$ uses only the positions $j\le i$:
#
# $$\alpha_{ij}=\frac{\exp(q_i\cdot k_j/\sqrt d)}{\sum_{m\le i}\exp(q_i\cdot k_m/\sqrt d)}\ \text{ for } j\le i,\qquad
# \alpha_{ij}=0\ \text{ for } j>i,
# \qquad y_i=\sum_{j\le i}\alpha_{ij}v_j$$
#
# Take three positions and $d=4$. The third query is $(1,1,1,1)$, and the keys are $(1,1,1,1)$, $(1,-1,0,0)$ and $(-1,-1,0,0)$. The values are the
# numbers 10, 20 and 30. **Compute $y_3$ by hand.**

# %%
def attention_loops(q, k, v):                # (N, d), (N, d), (N, e) -> (N, e)
    y = torch.empty_like(v)
    for i in range(len(q)):
        scores = torch.stack([q[i] @ k[j] for j in range(i + 1)]) / q.shape[1] ** 0.5
        alpha = scores.softmax(0)
        y[i] = sum(alpha[j] * v[j] for j in range(i + 1))
    return y


q = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]])
k = torch.tensor([[1.0, 1, 1, 1], [1, -1, 0, 0], [-1, -1, 0, 0]])
v = torch.tensor([[10.0], [20], [30]])
alpha = (k @ q[2] / 4**0.5).softmax(0)
print("scores of position 3:", (k @ q[2] / 4**0.5).tolist())
print("weights:", *(f"{each:.3f}" for each in alpha))
print("outputs y1, y2, y3:", *(f"{each:.2f}" for each in attention_loops(q, k, v)[:, 0]))

# %% tags=["claims"]
assert_close(attention_loops(q, k, v)[2, 0], torch.tensor(11.98), rtol=0, atol=0.01)
one_call = nn.functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)
assert_close(attention_loops(q, k, v), one_call[0])

# %% [markdown]
# The scores are $4/2=2$, $0$ and $-2/2=-1$. Their exponentials are 7.39, 1 and 0.37, so the weights are 0.84, 0.11 and 0.04. The output is
# $0.844\cdot10+0.114\cdot20+0.042\cdot30=11.98$. It is close to the value of the position with the best key. $y_1$ is 10, because position 1 can use
# itself only.
#
# ### Why divide by √d?
#
# Let the numbers in $q$ and $k$ be independent, with mean 0 and variance 1. Then $q\cdot k$ is a sum of $d$ products, and each product has variance
# 1. So the variance of $q\cdot k$ is $d$. **What happens to the softmax for large $d$, without the division?**

# %%
largest = {}
for d in (4, 64, 1024):
    scores = (torch.randn(2000, 1, d) * torch.randn(2000, 8, d)).sum(2)      # 8 keys a query
    plain, divided = (x.softmax(1).amax(1).mean().item() for x in (scores, scores / d**0.5))
    largest[d] = {"without": plain, "with": divided}
    print(f"d = {d:4}: standard deviation of q·k {scores.std():5.1f}, mean largest weight "
          f"{plain:.2f} without, {divided:.2f} with the division")

# %% tags=["claims"]
assert largest[1024]["without"] > 0.9 > 0.5 > largest[1024]["with"]
assert abs(largest[64]["with"] - largest[1024]["with"]) < 0.05

# %% [markdown]
# Without the division one of the eight weights is nearly 1 for $d=1024$. Then attention copies one value, and the gradient of the softmax is nearly
# 0. With the division the weights do not depend on $d$.
#
# ### Input and target
#
# The network gets the tokens and has to predict the same tokens. So the input must be **shifted**: the output at position $t$ predicts $x_t$, and the
# input at position $t$ is $x_{t-1}$. In the drawing the position of the orange target may use the blue inputs only. Position 1 has no token before
# it. A GPT for text puts a start token there. We want to choose the class of the image, so we put the **class** there, as a class token (类别标记). This
# is our choice, and not part of every GPT.
#
# The second drawing shows the network for images of 14×14 pixels, and one of its blocks. Shapes are positions × width.

# %%
drawings.draw_shift(plt.figure(figsize=(7, 1.5)), tokens[0, 2:9].tolist(), labels[0].item())
drawings.draw_network(plt.figure(figsize=(7, 3.2)), 16, 196, width=64, depth=4, heads=4)

# %% [markdown]
# - *Embedding* (嵌入): each level and each class has a learned vector. Without more, attention does not know the order of the positions. So every
#   position $t$ adds its own learned vector $P_t$, the position embedding (位置编码).
# - *Attention* moves information between positions. Four heads (多头注意力) do this in parallel, each with a quarter of the width.
# - The *MLP* (多层感知机) works at each position alone.
# - Both have a *shortcut*, as in chapter 3b: their output is added to their input.
# - *Layer norm* (层归一化) gives the vector of each position mean 0 and variance 1, then scales and shifts it.
#
# ## 4 The network in code
#
# The code defines one block. The mask (掩码) makes the attention causal: it sets the scores of all later positions to $-\infty$ before the softmax, so
# their weights are 0. `ahead` is 0 in a GPT. With a larger number each position also uses later positions. We use such a wrong mask for a test.

# %%
from einops import rearrange

class MyBlock(nn.Module):                    # (B, N, D) -> (B, N, D)
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.ahead = heads, 0
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)               # queries, keys and values at once
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(),
                                 nn.Linear(4 * width, width))

    def attend(self, x):
        q, k, v = rearrange(self.qkv(x), "b n (c h d) -> c b h n d", c=3, h=self.heads)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        future = torch.ones(scores.shape[-2:], device=x.device).triu(1 + self.ahead).bool()
        alpha = scores.masked_fill(future, -math.inf).softmax(-1)
        return self.projection(rearrange(alpha @ v, "b h n d -> b n (h d)"))

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


# %% [markdown]
# The whole network, in the order of the drawing. $E$ is the table of the token embeddings, $e_c$ the vector of class $c$, and $M$ the number of blocks.
# $h^M_t$ is the vector at position $t$ after the last block, LN is the layer norm, and $W$ and $b$ belong to the last linear layer:
#
# $$h^0=[\,e_c;\,E_{x_1};\dots;E_{x_{T-1}}]+P,\qquad h^{\ell}=\mathrm{Block}_\ell(h^{\ell-1}),\qquad
# p_\theta(\cdot\mid x_{<t},c)=\mathrm{softmax}\big(W\,\mathrm{LN}(h^M_t)+b\big)$$

# %%
class MyGPT(nn.Module):                      # (B, N) tokens, (B,) classes -> (B, N, V) logits
    def __init__(self, vocabulary, context, num_classes, width, depth, heads=4):
        super().__init__()
        self.class_embedding = nn.Embedding(num_classes, width)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.position_embedding = nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.ModuleList(MyBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def read(self, tokens, labels):          # -> (B, N, D), the features of each position
        first = self.class_embedding(labels)[:, None]
        x = torch.cat([first, self.token_embedding(tokens[:, :-1])], dim=1)     # the shift
        x = x + self.position_embedding[:x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, tokens, labels):
        return self.head(self.read(tokens, labels))              # logits


# %% [markdown]
# The loss is the mean cost of section 2. All positions are trained at once:
#
# $$\mathcal L=-\frac1T\sum_{t=1}^{T}\log p_\theta(x_t\mid x_{<t},c)$$
#
# `vlmbook.gpt` has the same network with a faster attention. **Which shape do the logits of two images of 64 tokens have, and what is the loss before
# any training?** The cell compares our network with the package: logits, loss and all gradients.

# %%
theirs, mine = GPT(17, 64, 10, width=32, depth=2), MyGPT(17, 64, 10, width=32, depth=2)
mine.load_state_dict(theirs.state_dict())    # the parameters have the same names
x, c = torch.randint(17, (2, 64)), torch.tensor([3, 8])
logits = mine(x, c)
loss = -logits.log_softmax(-1).gather(-1, x[:, :, None]).mean()
same_loss = gpt_loss(theirs, x, c)
slopes = [torch.autograd.grad(value, list(net.parameters()))
          for value, net in ((loss, mine), (same_loss, theirs))]
print(f"logits {tuple(logits.shape)}, loss {loss:.3f}, ln 17 = {math.log(17):.3f}, "
      f"{sum(p.numel() for p in mine.parameters()):,} parameters")

# %% tags=["claims"]
assert_close(logits, theirs(x, c))
assert_close(loss, same_loss)
assert_close(*slopes, rtol=1e-4, atol=1e-5)
assert abs(loss - math.log(17)) < 0.1

# %% [markdown]
# The logits have the shape (2, 64, 17). Before any training all levels are about equally likely, so the loss is about $\ln17$. Logits, loss and
# gradients agree with those of the package.
#
# PyTorch calls the same block `TransformerEncoderLayer`. **What does the name "encoder" (编码器) change?** The cell gives this layer the weights of our
# block. Then it changes the vector at position 4 and looks at the output at position 2, with and without the causal mask.

# %%
layer = nn.TransformerEncoderLayer(12, 3, 48, dropout=0, activation="gelu",
                                   batch_first=True, norm_first=True)
block, x = MyBlock(12, heads=3), torch.randn(1, 7, 12, requires_grad=True)
order = block.qkv, block.projection, block.mlp[0], block.mlp[2], block.norm1, block.norm2
own, copies = [p for part in order for p in part.parameters()], list(layer.parameters())
with torch.no_grad():
    for copy, p in zip(copies, own, strict=True):
        copy.copy_(p)
causal = torch.ones(7, 7).triu(1).bool()     # True: this position must not be used
outputs = block(x), layer(x, src_mask=causal, is_causal=True)
slopes = [torch.autograd.grad(y.square().sum(), (x, *parameters))
          for y, parameters in zip(outputs, (own, copies))]
changed = x + torch.eye(7)[3][:, None] * torch.randn(12)      # position 4, counted from 1
moved = {name: (layer(changed, src_mask=mask) - layer(x, src_mask=mask))[0, 1].abs().max().item()
         for name, mask in (("with the mask", causal), ("without it", None))}
print("the output at position 2 changes", *(f"{name} by {d:.4f}" for name, d in moved.items()))

# %% tags=["claims"]
assert_close(*outputs)
assert_close(*slopes, rtol=1e-4, atol=1e-4)
assert moved["with the mask"] == 0 and moved["without it"] > 1e-3


# %% [markdown]
# The name changes nothing. The mask decides. With the causal mask the layer equals our block, and position 2 does not depend on position 4. Without the
# mask, position 2 uses later positions. In a GPT one of them holds the token that position 2 has to predict.
#
# ### Does it look ahead?
#
# A wrong mask raises no error, and it makes the loss smaller. So we test it: change one token, and see which logits change. Token $j$ may change the
# logits of the tokens after it, and no other logits. The weights are large here, so that every dependence shows.

# %%
def set_ahead(net, ahead):                   # each position sees so many positions ahead
    for block in net.blocks:
        block.ahead = ahead
    return net

def reach(net, x, c):                        # -> (N, N) bool: do logits i change with token j?
    before, columns = net(x, c), []
    for j in range(x.shape[1]):
        other = x.clone()
        other[:, j] = (x[:, j] + 1) % 17
        columns.append((net(other, c) - before).abs().amax((0, 2)) > 1e-6)
    return torch.stack(columns, dim=1)

x, c = torch.randint(17, (4, 12)), torch.arange(4)
net = experiments.amplify_weights(MyGPT(17, 12, 10, width=32, depth=1))
found = {"causal mask": reach(net, x, c),
         "one position ahead": reach(set_ahead(net, 1), x, c),
         "no mask": reach(set_ahead(net, 12), x, c)}
drawings.draw_reach(plt.figure(figsize=(7, 2.6)), found)

# %% tags=["claims"]
right = torch.ones(12, 12).tril(-1).bool()
assert torch.equal(found["causal mask"], right)
assert torch.equal(reach(experiments.amplify_weights(GPT(17, 12, 10, width=32)), x, c), right)
assert (found["one position ahead"] & ~right).sum() == 11
assert (found["no mask"] & ~right).sum() > 11


# %% [markdown]
# Blue cells are allowed. Orange cells are a leak (信息泄漏): the logits of a token change with the token itself, or with a later one. One wrong diagonal is
# enough for a leak. The last column is always grey, because the last token is never an input. Section 10 trains a network with the wrong diagonal.
#
# ### Generating is a loop
#
# To generate, start with the class, and repeat: compute the logits of the next token → softmax → draw a token (抽样) → append it to the input. The
# drawn token becomes part of the next input.
#
# A toy network of three positions and two levels gives each of eight rows a probability by the chain rule. **Do the eight probabilities sum to 1, and
# does the loop draw each row as often as its probability says?**

# %%
@torch.no_grad()
def draw_rows(net, labels, length):          # (B,) classes -> (B, length) tokens
    rows = torch.zeros(len(labels), length, dtype=torch.long)
    for t in range(length):
        logits = net(rows[:, :t + 1], labels)[:, t]      # the mask hides the zeros from t on
        rows[:, t] = torch.multinomial(logits.softmax(-1), 1)[:, 0]
    return rows


toy = experiments.amplify_weights(MyGPT(2, 3, 1, width=8, depth=1))
all_rows = torch.tensor(list(product(range(2), repeat=3)))
log_p = toy(all_rows, torch.zeros(8).long()).log_softmax(-1).gather(-1, all_rows[:, :, None])
p = log_p.sum((1, 2)).exp()
drawn = draw_rows(toy, torch.zeros(20_000).long(), 3) @ torch.tensor([4, 2, 1])
shares = drawn.bincount(minlength=8) / 20_000
print("probability:", *(f"{each:.3f}" for each in p), f" sum {p.sum():.3f}")
print("drawn share:", *(f"{each:.3f}" for each in shares))

# %% tags=["claims"]
assert_close(p.sum(), torch.tensor(1.0))
assert p.max() > 1.5 * p.min() and ((shares - p).abs() < 4.5 * (p / 20_000).sqrt()).all()

# %% [markdown]
# Yes to both. The chain rule gives the exact probability of the model for each row, and the shares of the drawn rows agree with it, except for random
# differences.
#
# ### One pass or many? The cache
#
# In training all true tokens are known. So one pass with the mask gives the logits of all positions (teacher forcing, 教师强制). In generation each token
# has to wait for the token before it. The loop above computes the earlier positions again in each step. This is not necessary: because of the mask,
# the keys and values of earlier positions do not change. A **key-value cache** keeps them, and each step computes one new position.
#
# **Does the cache change the logits? What is faster, one pass or 64 steps with the cache?**

# %%
from timeit import timeit

net = experiments.amplify_weights(GPT(17, 64, 10, width=32, depth=2))
x, c = torch.randint(17, (8, 64)), torch.arange(8)

def step_by_step(net, x, c):                 # the logits of all positions, one after the other
    caches = [KVCache(64) for _ in net.blocks]
    given, logits = net.embed(x[:, :0], c), []
    for t in range(64):
        logits.append(net.predict_logits(given, caches))     # one new position, and the caches
        given = net.token_embedding(x[:, t:t + 1])
    return torch.cat(logits, dim=1)

once, steps = net(x, c), step_by_step(net, x, c)
fast, slow = (timeit(partial(f, net, x, c), number=3) / 3 for f in (GPT.__call__, step_by_step))
print(f"one pass {fast * 1e3:.0f} ms, 64 steps with the cache {slow * 1e3:.0f} ms")

# %% tags=["claims"]
assert_close(steps, once, rtol=0, atol=1e-5 * once.abs().max().item())
assert_close(once.softmax(-1).sum(-1), torch.ones(8, 64))
assert slow > 2 * fast

# %% [markdown]
# The logits are the same, except for rounding. One pass is many times faster than 64 steps. So training is fast, and generation is slow.
#
# ## 5 Training
#
# ### Digits
#
# Our network has two blocks of width 64. Width, depth and learning rate (学习率) were chosen among four candidates, on the validation set. **How far
# below the baselines will the loss come?** (In the full profile this is the network for clothing, with four blocks.)

# %%
from vlmbook.training import fit

@torch.no_grad()
def log_likelihood(net, x, c):               # (B, 1, H, W), (B,) -> (B, N): log p(x_t | x_<t, c)
    found = []
    for part, of in zip(to_tokens(x, levels).split(100), c.split(100)):
        log_p = net(part, of).log_softmax(-1)
        found.append(log_p.gather(-1, part[:, :, None])[..., 0])
    return torch.cat(found)

def nats(net, x, c):                         # the mean over all pixels and images
    return -log_likelihood(net, x, c).mean().item()

if small:
    runtime.seed_everything(0)
    model = GPT(17, 64, 10, width=64, depth=2)
    history = fit(model, (tokens, labels), loss_fn=gpt_loss, **experiments.DIGITS, progress=False,
                  evaluate=lambda net: {"nats": nats(net, valid_images, valid_labels)})
else:                                        # goes on where it stopped
    model, history = experiments.train_fashion(
        images, labels, precision=precision, checkpoint=experiments.find_checkpoint())
model = model.cpu().eval().requires_grad_(False)
drawings.draw_learning(plt.figure(figsize=(7, 2.5)), history, costs)


# %%
def draw(net, labels, seed=0, **options):    # (B,) classes -> (B, 1, H, W) generated samples
    generator = torch.Generator().manual_seed(seed)
    return to_images(generate(net, labels, generator=generator, **options), levels, size)


depth, ten = len(model.blocks), torch.arange(10)
final = {"training": nats(model, images[:1000], labels[:1000]),
         "validation": nats(model, valid_images, valid_labels)}
print(*(f"{name} {each:.3f}" for name, each in final.items()), "nats a pixel, given the class")
generator = torch.Generator().manual_seed(0)
drawings.draw_samples(plt.figure(figsize=(7, 3)), {
    "real": generation.select_same_classes(images, labels, ten),
    **{name: each.sample(10, generator) for name, each in baselines.items()},
    "GPT": draw(model, ten, seed=1)})

# %% tags=["claims"]
assert final["validation"] < costs["Gaussian"]
assert abs(final["validation"] - final["training"]) < 0.12

# %% [markdown]
# The GPT needs about 1.26 nats, and the Gaussian 1.60. The comparison is not fair yet: the GPT knows the class, and the baselines do not. Section 6
# removes the class. Training and validation loss are close, so the network does not only remember its training images.
#
# The columns of the real images and of the GPT are the classes 0 to 9. Most digits of the GPT can be read. The histogram and the Gaussian know no class,
# and their samples can hardly be read.
#
# ### Clothes, 14×14
#
# The same network with four blocks was trained on 50,000 images of Fashion-MNIST. To save time, the images were made smaller: 14×14 pixels, each the
# mean of 2×2 pixels, and 16 levels. The weights come with the package, with a card that says how they were made. One image needs 196 steps. Each
# column is one class. The tokens are drawn with top-$p$ 0.95, which section 7 explains.

# %%
names = "T-shirt trouser pullover dress coat sandal shirt sneaker bag boot".split()
fashion = model
if small:
    state, card = pretrained.ours("ch04c_fashion")
    fashion = experiments.make_fashion_gpt()
    fashion.load_state_dict(state)
    fashion = fashion.eval().requires_grad_(False)
    print("training:", card["steps"], "steps,", card["hours"], "hours on", card["device"])
    print("quality:", card["quality"])
generator = torch.Generator().manual_seed(0)
written = generate(fashion, ten.repeat_interleave(6), top_p=0.95, generator=generator)
page = to_images(written, 16, 14)
figure = plt.figure(figsize=(7, 4.5))
drawings.draw_classes(figure, page.unflatten(0, (10, 6)), names)
records.picture("ch04c", figure);

# %% [markdown]
# Most classes can be recognised. The sandals are often fragments, and pullovers, coats and shirts look alike. On 1,000 test images the network needs
# 1.24 bits per dimension given the class. Without the class it needs at most $\log_2(10)/196=0.017$ bits more (section 6 explains why). The pixel
# histogram needs 2.65 bits and the Gaussian 1.99 on the same images.
#
# A GPT draws an image from the top to the bottom. So it can also continue an image of which the upper rows are given. The first row of the figure
# shows five generated images (in the full profile five test images). 7 or 3 of their 14 rows are given, and the network draws the other rows: for the
# same class, or for another class (in the quick profile dress, dress, T-shirt, boot, pullover). **What decides, the given rows or the class?**

# %%
begun, classes = page[[0, 12, 18, 42, 49]], torch.tensor([0, 2, 3, 7, 8])
if not small:
    begun, classes = test_images[:5], test_labels[:5]
others = torch.tensor([3, 3, 0, 9, 2]) if small else (classes + 3) % 10
given_rows = begun.clone()
given_rows[:, :, 7:] = 0.45
tasks = {"7 rows, same class": (7, classes), "7 rows, once more": (7, classes),
         "7 rows, other class": (7, others), "3 rows, same class": (3, classes),
         "3 rows, other class": (3, others)}
generator = torch.Generator().manual_seed(0)
shown = {"image": begun, "7 rows given": given_rows}
for name, (kept, asked) in tasks.items():
    shown[name] = complete(fashion, begun, asked, kept, top_p=0.95, generator=generator)
drawings.draw_samples(plt.figure(figsize=(4.8, 5)), shown)

# %% [markdown]
# With 7 rows given, the rows decide: the images for the other class keep the shape of the given class. With 3 rows given, the class changes the shape:
# the first image, for example, loses its sleeves when a dress is asked for. These are single examples; section 8 measures the same question on digits.
#
# ## 6 The comparison
#
# ### Take the class away, and read with Bayes' rule
#
# Our model was trained with classes, and the baselines were not. For a fair number of bits we need $p(x)$ without a class. If all ten classes are
# equally likely, it is a sum, and it costs ten passes:
#
# $$p(x)=\sum_{c}\tfrac1{10}\,p(x\mid c)$$
#
# The code adds the terms with `logsumexp`, because $p(x\mid c)$ can be too small for a float. The ten numbers $p(x\mid c)$ have a second use. By Bayes'
# rule (贝叶斯公式) $p(c\mid x)\propto p(x\mid c)$, so the class with the largest number is the predicted class. **How many nats an image can the missing
# class cost at most? Does the GPT classify as well as a classifier?** The classifier is a small ResNet, trained on the same images. It also serves as
# judge of the samples below.

# %%
given = torch.stack([log_likelihood(model, test_images, torch.full_like(test_labels, c)).sum(1)
                     for c in range(10)], dim=1)         # (B, 10): log p(x | c)
summed = given.logsumexp(1) - math.log(10)               # log p(x)
known = given.gather(1, test_labels[:, None])[:, 0]
print(f"nats a pixel: {-summed.mean() / pixels:.3f} without the class, "
      f"{-known.mean() / pixels:.3f} given the class")
classifier = generation.train_feature_classifier(
    images, labels, epochs=runtime.pick(quick=12, full=3), seed=0, precision=precision).cpu()

def classify(x):                             # (B, 1, H, W) -> (B,)
    return classifier(x).argmax(1)

predicted = {"GPT": given.argmax(1), "classifier": classify(test_images)}
accuracy = {name: (p == test_labels).float().mean().item() for name, p in predicted.items()}
print("test accuracy:", *(f"{name} {value:.1%}" for name, value in accuracy.items()))

# %% tags=["claims"]
assert (summed > known - math.log(10) - 1e-3).all()
assert (summed < given.amax(1) + 1e-3).all()
assert (0.85 if small else 0.3) < accuracy["GPT"] < accuracy["classifier"]

# %% [markdown]
# The missing class costs at most $\ln10=2.3$ nats an image: one of the ten terms belongs to the true class $c$, so $p(x)\ge p(x\mid c)/10$. The GPT
# classifies far better than chance, although it was not trained to classify. The classifier was trained for this task, and it is better.
#
# ### The table of chapters 4a to 4c
#
# The table has one row for each model. *Bits* are the bits per dimension on the test images. The other columns compare features (特征) of generated
# samples with features of test images: Fréchet distance (弗雷歇距离) [Heusel et al. 2017], precision (精确率) and recall (召回率) [Kynkäänniemi et al. 2019].
# The features are those of the classifier. The rules are those of chapter 4a:
#
# - Every row has the same number of samples, and the same number of each class as the test images, by the judgement of the classifier.
# - ± is the standard deviation over three draws of samples. Each network was trained once, so ± does not cover the training.
# - *Other real images* are training images, treated like samples. A perfect generator reaches about their values.
# - GPT draws classes at random. GAN and VAE are rows of the published runs of chapters 4a and 4b; the bits of the VAE are an upper bound. The column
#   *ms* is the time for one sample in milliseconds, and *training s* is the training time in seconds.
#
# **Which model has the fewest bits, and which samples are nearest to real images?**

# %%
from vlmbook.chapters import comparison

def draw_any(n):                             # -> (n, 1, H, W), classes at random
    return draw(model, torch.randint(10, (n,)), seed=int(torch.randint(2**31, ())))


ways = {"other real images": lambda n: images[torch.randint(len(images), (n,))]}
if small:                                    # of clothes they hardly draw some of the classes
    ways |= {name: baseline.sample for name, baseline in baselines.items()}
ways["GPT"] = draw_any
rows = {}
for name, way in ways.items():
    runtime.seed_everything(1)
    rows[name] = comparison.measure_draws(way, classifier, test_images, test_labels)
log_p = {name: baseline.log_likelihood(test_images) for name, baseline in baselines.items()}
for name, each in (log_p | {"GPT": summed}).items():
    rows.setdefault(name, {})["bits"] = comparison.measure_bits(each, test_images)
rows["GPT"]["training s"] = history.seconds
others_rows = comparison.load_published_rows("ch04a", "GAN")
others_rows |= comparison.load_published_rows("ch04b", "VAE, levels drawn")
print(comparison.format_draws(rows | others_rows))

# %% tags=["claims"]
bits = {name: row.get("bits") for name, row in rows.items()}
assert bits["GPT"] < 0.85 * bits["histogram"] and bits["GPT"] < 0.9 * bits["Gaussian"]
if small:
    frechet = {name: torch.tensor(row["frechet"]).mean().item() for name, row in rows.items()}
    assert frechet["other real images"] < frechet["GPT"]
    assert frechet["GPT"] < min(frechet[name] for name in baselines)

# %% [markdown]
# Without the class, the GPT still needs fewer bits than the histogram and the Gaussian. The Fréchet distance of its samples is smaller than that of both
# baselines, and larger than that of other real images. Recall alone does not show quality: in the quick profile the GPT has a higher recall than other
# real images.
#
# The table has two limits. The GPT learned with labels, and the baselines, the GAN and the VAE did not. The equal mix of classes does not remove this
# advantage. And the rows of GAN and VAE come from other runs, with networks of other sizes: the table does not show that a GPT is better in general.
# [Chapter 4d](ch04d_flow_matching.ipynb) has a larger table.
#
# ## 7 Going deeper: how to draw a token
#
# We may draw from another distribution than the learned one. With the logits $z_k$ of the levels:
#
# - the **temperature** (温度) $\tau$ makes $p_k\propto\exp(z_k/\tau)$;
# - **top-$k$** keeps the $k$ most likely levels;
# - **top-$p$** keeps the smallest set of the most likely levels whose probability reaches $p$ [Holtzman et al. 2019].
#
# The grey bars are the learned distribution of one pixel, the blue bars are what we draw from. **What do you expect at temperature 0.2, at
# temperature 2, and with `top k` 1?**

# %%
seen = experiments.take_prefix(valid_images[0], pixels * 5 // 8 - width // 2, levels)
interact.live(partial(drawings.draw_sampling, model=model, prefix=seen, size=size, top_k=levels),
              label=(0, 9), temperature=(0.2, 2.0, 0.1), top_k=(1, levels),
              top_p=(0.1, 1.0, 0.05), figsize=(7, 2.8))

# %% tags=["claims"]
assert torch.equal(*(generate(model, ten, top_k=1, temperature=t) for t in (0.5, 2)))

# %% [markdown]
# At temperature 0.2 the likely levels become more likely, and the others almost disappear. At 2 the distribution is flatter, and the images become
# noisy. With `top k` 1 nothing is random: all eight samples of a class are the same.
#
# **Do sharper distributions give better images?** The cell measures on the validation set, with three seeds (in the full profile two) for each
# setting: Fréchet distance, precision, recall, and *right class*, the share of samples that the classifier assigns to the wanted class. Guess which
# measures improve when the temperature falls.

# %%
half_of_levels = f"top k {levels // 2}"
settings = {f"temperature {t}": {"temperature": t} for t in (0.5, 0.75, 1.0, 1.5)}
settings |= {half_of_levels: {"top_k": levels // 2}, "top p 0.9": {"top_p": 0.9}}
measured = {"frechet": {}, "precision": {}, "recall": {}, "right class": {}}
for name, options in settings.items():
    for seed in range(runtime.pick(quick=3, full=2)):
        x = draw(model, valid_labels, seed, **options)
        values = generation.score(classifier, x, valid_images)
        values["right class"] = (classify(x) == valid_labels).float().mean().item()
        for measure, value in values.items():
            measured[measure].setdefault(name, []).append(value)
drawings.draw_dials(plt.figure(figsize=(7, 2.4)), measured)

# %% tags=["claims"]
means = experiments.average_over_seeds(measured)
cold, even, hot = (f"temperature {t}" for t in (0.5, 1.0, 1.5))
if small:
    distance = means["frechet"]
    assert distance[half_of_levels] < distance[even] < min(distance[cold], distance[hot])
    assert means["precision"][cold] < means["precision"][even] + 0.04
    assert means["precision"][half_of_levels] > means["precision"][even] + 0.02
    assert means["recall"][cold] < means["recall"][even] - 0.05
    assert means["recall"][half_of_levels] < means["recall"][even]
    assert means["right class"][even] > means["right class"][hot] + 0.08

# %% [markdown]
# A dot is the mean over the seeds of the drawing, and the bar is one standard deviation. All samples come from one network.
#
# - *Temperature 0.5*: no higher precision, lower recall, larger Fréchet distance. *Temperature 1.5*: fewer samples have the right class, and the
#   distance is larger.
# - *Top-$k$* removes only the unlikely levels, and this helps more: precision and Fréchet distance improve, and the recall falls. *Top-$p$* changes the
#   means in the same direction, but its Fréchet bar overlaps the bar of temperature 1.
#
# The likelihoods of section 6 belong to the learned distribution, before any of these changes.
#
# ## 8 Going deeper: half an image, measured
#
# Section 5 completed images. How good is that, in numbers? Choose a validation digit, how many rows are given, and a class. **When the class is
# wrong, does the network follow the rows or the class?**
#
# The cell also measures all validation images with 2, 4 and 6 of 8 rows given. The value is the share of completed images that the classifier assigns to
# the true class. The cell compares the GPT with two baselines. *Histogram* takes the lower part of a histogram sample. *Copy* is a strong baseline: it
# finds the training image of the true class with the most similar upper rows, and copies its lower part. For *rows win* and *class wins* the GPT gets a
# wrong class. *Rows win* is the share of images that the classifier assigns to the class of the rows, and *class wins* the share that it assigns to the
# wrong class.

# %%
generator, truth = torch.Generator().manual_seed(0), valid_labels
wrong = (truth + torch.randint(1, 10, truth.shape, generator=generator)) % 10
other_class = (truth[:, None] != labels) * 1e6
halves = {}
for k in (height // 4, height // 2, 3 * height // 4):
    near = torch.cdist(valid_images[:, :, :k].flatten(1), images[:, :, :k].flatten(1))
    copied = images[(near + other_class).argmin(1)].clone()
    blind = baselines["histogram"].sample(len(truth), generator=generator)
    copied[:, :, :k] = blind[:, :, :k] = valid_images[:, :, :k]
    misled = classify(complete(model, valid_images, wrong, k, generator=generator))
    named = {"histogram": classify(blind), "copy": classify(copied),
             "GPT": classify(complete(model, valid_images, truth, k, generator=generator))}
    halves[k] = {name: (c == truth).float().mean().item() for name, c in named.items()}
    halves[k] |= {"rows win": (misled == truth).float().mean().item(),
                  "class wins": (misled == wrong).float().mean().item()}
    print(f"{k} rows:", *(f"{name} {share:.2f} " for name, share in halves[k].items()))
interact.live(partial(drawings.draw_completion, model=model, classifier=classifier,
                      images=valid_images, labels=valid_labels), image=(0, 19),
              rows=(0, height), given=["true class", *range(10)], figsize=(7, 1.7))

# %% tags=["claims"]
few, middle, most = halves.values()
if small:
    assert middle["histogram"] + 0.1 < middle["GPT"] < middle["copy"] + 0.02
    assert few["class wins"] - few["rows win"] > 0.1
    assert most["rows win"] > most["class wins"] + 0.5

# %% [markdown]
# With four rows given, the GPT is far better than the histogram, and not better than the copy. But the copy always gives the same lower half, from a
# training image. The GPT can draw different new ones. When the class is wrong, the network follows the class if few rows are given, and the rows if many
# are given.
#
# ## 9 Going deeper: the P in GPT
#
# P stands for **pre-trained** (预训练). The GPT of 2018 first learns to predict text without labels. Then it is adapted to a task with labels, for
# example classification [Radford et al. 2018]. Image GPT does the same with images: its features, learned without labels, are good for classification
# [Chen et al. 2020].
#
# We test this on the digits. First, a network of the size of section 5 is trained **without labels**: `num_classes` is 1, and every image has the
# class token 0.

# %%
digit_parts = data.hold_out(*data.digits("train"), share=1 / 6, seed=0)
(digits, digit_labels), (held_digits, _) = digit_parts
sequences, held = to_tokens(digits, 17), to_tokens(held_digits, 17)
test_digits, test_digit_labels = data.digits("test")

def no_class(x):                             # (B, …) -> (B,) zeros
    return torch.zeros(len(x), dtype=torch.long)

runtime.seed_everything(1)
untrained = GPT(17, 64, 1, width=64, depth=2).requires_grad_(False)
runtime.seed_everything(0)
learned = GPT(17, 64, 1, width=64, depth=2)
fit(learned, (sequences, no_class(sequences)), loss_fn=gpt_loss, precision=precision,
    progress=False, **experiments.DIGITS | {"epochs": 8})
learned = learned.cpu().eval().requires_grad_(False)
print("validation nats a pixel, without labels:", *(
    f"{name} {gpt_loss(net, held, no_class(held)):.3f} "
    for name, net in (("untrained", untrained), ("pre-trained", learned))))

# %% [markdown]
# A **linear probe** (线性探测) shows what features contain. The network is frozen, and only a linear classifier is trained on its features. The features
# of an image are here the mean of the last vectors over all positions: 64 numbers. Two controls (对照) stand beside them: the features of a network of
# the same shape *before* any training, and the 64 pixels. 30, 100 or all training images have a label, in three draws. **Which features are the
# best?**

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

def probe(features, test_features, labelled):    # -> test accuracy of a linear classifier
    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    line.fit(features[labelled], digit_labels[labelled])
    return line.score(test_features, test_digit_labels)

def mean_features(net, x):                   # (B, 1, 8, 8) -> (B, 64)
    x = net.add_positions(net.embed(to_tokens(x, 17), no_class(x))[:, :-1])
    for block in net.blocks:
        x = block(x)
    return net.norm(x).mean(1)

kinds = {"pixels": lambda x: x.flatten(1), "pre-trained GPT": partial(mean_features, learned),
         "untrained GPT": partial(mean_features, untrained)}
probed = {}
for name, compute in kinds.items():
    features, test_features = compute(digits), compute(test_digits)
    for n in (30, 100, len(digits)):
        labelled = [experiments.draw_labelled(digit_labels, n, seed) for seed in range(3)]
        shares = [probe(features, test_features, chosen) for chosen in labelled]
        probed.setdefault(name, {})[n] = shares
drawings.draw_probe(plt.figure(figsize=(7, 2.2)), probed)

# %% tags=["claims"]
mean_of = {name: {n: sum(x) / len(x) for n, x in line.items()} for name, line in probed.items()}
for n in (30, 100, len(digits)):
    assert mean_of["pre-trained GPT"][n] > mean_of["untrained GPT"][n] + 0.05
    assert mean_of["pixels"][n] > mean_of["pre-trained GPT"][n]

# %% [markdown]
# The pixels are the best features here. The features of the pre-trained network are better than those of the untrained network for every number of
# labels. Apart from the random start, only the training differs. So learning to predict pixels, without a label, made the classes easier to read for a
# linear classifier.
#
# Why the pixels win was not tested. Two reasons are possible. First, our network and our data set are small: those of Image GPT are about a thousand
# times larger or more. Second, the mean over all positions can lose *where* a stroke is. The pixels keep this, and the digits are all centred.
#
# ## 10 Going deeper: look inside, and break it
#
# ### Where does a position look?
#
# The figure shows an image and two maps of attention weights $\alpha_{ij}$. The network predicts the orange pixel. In the maps, bright pixels have a
# large weight. **Is there a head that looks at the pixel above, which comes 8 pixels earlier?** (In the full profile 14.) Index 0 of the input is the
# class. So the pixel above the target with index `i` stands at the input index `i - width + 1`.

# %%
watched = valid_images[:max(10, 8_000 // pixels)]
weights = model.attention_weights(to_tokens(watched, levels), valid_labels[:len(watched)])
i = torch.arange(width + 1, pixels)          # from the second row on; key 0 is the class
above = torch.stack([each.mean(0)[:, i, i - width + 1].mean(1) for each in weights])
uniform = (1 / (i + 1.0)).mean()
for number, line in enumerate(above):
    print(f"block {number}, weight on the pixel above, head by head:", *(f"{w:.2f}" for w in line))
print(f"with equal weights it would be {uniform:.3f}")
block_shown, head_shown = divmod(int(above.argmax()), above.shape[1])
interact.live(partial(drawings.draw_attention, images=watched, attention_weights=weights,
                      block=block_shown, head=head_shown), image=(0, 9), pixel=(1, pixels),
              block=(0, depth - 1), head=(0, 3), figsize=(7, 2.7))

# %% tags=["claims"]
assert above.max() > 1.5 * uniform or not small
assert all((each.triu(1) == 0).all() for each in weights)


# %% [markdown]
# Yes. In one head the weight on the pixel above is several times as large as with equal weights; this head is shown first. Nobody built this in: the
# network learned it from the positions. The other heads do not prefer this pixel. Compare the map *here* (this image) with the map *mean* (many images).
# If both are alike, the weights depend mostly on the position. If not, they depend also on the content of the image.
#
# ### A wrong mask, trained
#
# We train a small network with one wrong diagonal, `ahead=1`, and the same network with the right mask: same data, size, steps and seeds, three seeds
# each. **What will the validation loss be, and what will generation get?** Generation has no future tokens. A mask has no weights, so we can also
# measure the leaking network with the right mask.

# %%
def train_small(sequences, seed, ahead=0):   # (n, 64) tokens -> network, its losses
    runtime.seed_everything(seed)
    net = set_ahead(MyGPT(17, 64, 1, width=32, depth=1, heads=1), ahead)
    run = fit(net, (sequences, no_class(sequences)), loss_fn=gpt_loss, epochs=5, batch_size=32,
              lr=2e-2, warmup=20, clip=1.0, precision=precision, progress=False)
    return net.cpu().eval().requires_grad_(False), run.losses

def nats_with(net, ahead):                   # validation nats with this mask
    return gpt_loss(set_ahead(net, ahead), held, no_class(held)).item()

right_nets, right_losses = zip(*(train_small(sequences, seed) for seed in range(3)))
leaking_nets, leaking_losses = zip(*(train_small(sequences, seed, ahead=1) for seed in range(3)))
right_nats = [nats_with(net, 0) for net in right_nets]
leak = {"right mask": {"mask of training": right_nats, "mask of generation": right_nats},
        "one ahead": {"mask of training": [nats_with(net, 1) for net in leaking_nets],
                      "mask of generation": [nats_with(net, 0) for net in leaking_nets]}}
print("validation nats a pixel:", comparison.format_draws(leak), sep="\n")
runs = {"right mask": list(right_losses), "one ahead": list(leaking_losses)}
drawings.draw_leak(plt.figure(figsize=(7, 2.5)), runs, leak)

# %% tags=["claims"]
assert max(leak["one ahead"]["mask of training"]) < min(right_nats) - 0.2
assert min(leak["one ahead"]["mask of generation"]) > math.log(17) > max(right_nats)

# %% [markdown]
# With the wrong mask the validation loss is far lower than with the right one. Held-out images leak in the same way as training images, so the
# validation loss does not warn of the fault. In generation the next token does not exist yet, so the network cannot copy it. With the right mask, as in
# generation, the same network needs more nats than a model that knows nothing ($\ln17=2.83$). The test of section 4 finds the fault without a single
# training step.
#
# ## 11 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch04c.1")` helps in steps, `solution("ch04c.1")` shows one answer.
#
# **1 · Predict.** `GPT(17, 64, 10, width=64, depth=2, heads=4)` draws three images at once, with the cache. It has read the class and twenty pixels.
# What is the shape of the keys that the cache of one block holds? Answer without running a network.

# %%
shape = ...                                  # (images, heads, positions, size)
check("ch04c.1", shape)


# %% [markdown]
# **2 · Derive.** How many scores $q_i\cdot k_j$ does one head compute to draw `n` pixels? With the cache, each new position meets itself and all
# positions before it. Without the cache, every pass computes the scores of each of its positions with every position of that pass (the mask throws
# some of them away). The pass for the first pixel has one position, the class.

# %%
def scores_for(n, cache):                    # scores_for(1, True) -> 1
    ...


check("ch04c.2", scores_for)


# %% [markdown]
# **3 · Build.** Min-$p$ [Nguyen et al. 2024] is another way to remove unlikely levels. It keeps the levels whose probability is at least `share`
# times the largest probability of their row. The other logits become $-\infty$.

# %%
def min_p(logits, share):                    # (B, V), number -> (B, V) logits
    ...


check("ch04c.3", min_p)


# %% [markdown]
# **4 · Build.** The pixels of an image may be generated in any order. `order` lists the positions `0 … N − 1` in the order in which they are
# generated. Which positions may each position use, itself included?

# %%
def mask_for(order):                         # (N,) int64 -> (N, N) bool: may position i use j?
    ...


check("ch04c.4", mask_for)


# %% [markdown]
# **5 · Build.** What will the image be? Only the first `length` tokens of each image are known (none, if `length` is 0). Compute the probability of
# every class. Before any token is known, all classes are equally likely. The network has `model.num_classes` classes, and the judge uses a network
# with fewer than ten. Then try your function on `model` and `valid_images`: after which row is the class known?

# %%
def classes_from(model, tokens, length):     # (B, N), int -> (B, num_classes), rows sum to 1
    ...


check("ch04c.5", classes_from)

# %% [markdown]
# **6 · Train, change, measure.** The chain rule holds in any order. Is every order equally easy to learn? Make one random permutation (置换) of the 64
# positions, `shuffle = torch.randperm(64)`, and reorder all sequences with it: `sequences[:, shuffle]` and `held[:, shuffle]`. Train three networks
# on the reordered sequences with `net, losses = train_small(sequences[:, shuffle], seed)` for the seeds 0, 1, 2. Measure each with `gpt_loss(net,
# held[:, shuffle], no_class(held)).item()`. The numbers for the order row by row are `right_nats` from section 10. Put the six numbers into a dict
# with the keys "row by row" and "shuffled", and your conclusion under the key "conclusion": "row by row", "shuffled" or "no difference". Two means
# differ if their distance is larger than the sum of both standard deviations. Fewer nats are better.

# %%
orders = ...                                 # {"row by row": …, "shuffled": …, "conclusion": …}
check("ch04c.6", orders)

# %% [markdown]
# ## 12 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook trains on clothes: 196 positions, 16 levels. What the published runs measured:

# %%
records.record(
    "ch04c", seed=0, rows=rows,
    nats_a_pixel={"training": final["training"], "validation": final["validation"],
                  "test given the class": -known.mean().item() / pixels,
                  "test": -summed.mean().item() / pixels},
    test_accuracy=accuracy, sampling=means, leak=leak, probe=probed,
    halves={f"{k} rows": each for k, each in halves.items()});

# %% tags=["record"]
records.show("ch04c", "quick")
records.show("ch04c", "full")

# %% [markdown]
# ## 13 Book check
#
# - **W16 · the figure of §2.2.2.** `Transformer编码器 → 自注意力机制 → 特征表示 → 解码器` → a GPT has no encoder and no separate decoder. It is one stack of blocks with
#   a causal mask ("multi-layer Transformer decoder" [Radford et al. 2018]). The section names neither the mask nor the chain rule. Section 4 shows why
#   the mask matters: without it, the output at position 2 depends on the input at position 4.
# - **W17 · the arrows of §2.2.** `输入数据 → 概率分布 → 生成模型 → 生成数据` → the distribution is the *output* of the model, and generation is a loop: context →
#   model → distribution → drawn token → context. Section 4 runs this loop, and its samples follow the exact probabilities.
# - **W39 · the name.** 生成式模型（GPT） → 生成式模型 means *generative model*, a whole family: GAN, VAE, flows, and also the histogram of section 2. GPT,
#   生成式预训练Transformer, is one kind of autoregressive model.
# - **M26 · text, images, speech.** "GPT succeeded in all three" → the GPT of 2018 works with text only. Images: Image GPT [Chen et al. 2020] and
#   DALL-E [Ramesh et al. 2021]. Sound: WaveNet [van den Oord et al. 2016]. They share the chain rule, and they are other models.
# - **I11 · what is predicted?** 下一个位置, "the next position" → a *distribution over the next token*, from which the token is drawn. The next position
#   is known. In section 4 each row of the softmax sums to 1.
# - **I12 · one step or two?** In the book's section, learning the distribution and generating are one step → training is one pass for all positions,
#   generation needs one pass for each position. Section 4 measures both.
#
# ## 14 What we learned
#
# 1. The chain rule turns the probability of an image into a product of simple distributions, and the likelihood is exact.
# 2. The causal mask lets one pass train all positions. Test it by changing a token, and not by looking at the loss.
# 3. Generation is a loop: the drawn token becomes part of the input. A cache makes the loop cheaper and does not change the logits.
# 4. To remove only the unlikely levels improved precision and Fréchet distance here; a low temperature did not.
# 5. The same network classifies by Bayes' rule, completes images, and gives features without labels.
#
# **References.** A. Radford, K. Narasimhan, T. Salimans, I. Sutskever, *Improving language understanding by generative pre-training*, OpenAI, 2018 ·
# A. Vaswani et al., *Attention is all you need*, NeurIPS, 2017, arXiv:1706.03762 · M. Chen et al., *Generative pretraining from pixels*, ICML, 2020 ·
# A. Ramesh et al., *Zero-shot text-to-image generation*, ICML, 2021, arXiv:2102.12092 · A. van den Oord et al., *WaveNet: a generative model for raw
# audio*, 2016, arXiv:1609.03499 · H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST*, 2017, arXiv:1708.07747 · A. Holtzman, J. Buys, L. Du, M. Forbes,
# Y. Choi, *The curious case of neural text degeneration*, ICLR, 2020 [2019], arXiv:1904.09751 · M. Heusel et al., *GANs trained by a two time-scale
# update rule converge to a local Nash equilibrium*, NeurIPS, 2017, arXiv:1706.08500 · T. Kynkäänniemi et al., *Improved precision and recall metric
# for assessing generative models*, NeurIPS, 2019, arXiv:1904.06991 · M. Nguyen et al., *Turning up the heat: min-p sampling for creative and coherent
# LLM outputs*, 2024, arXiv:2407.01082.
