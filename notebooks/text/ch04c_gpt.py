# %% [markdown]
# # 4c · GPT (生成式预训练Transformer)
#
# *Book: §2.2.2 (3), 生成式模型（GPT）*
#
# **Can a network write an image as another writes a sentence, one symbol after the other, and say of any image how likely it is?**
#
# You will be able to split a probability into a chain of small ones, build a causal Transformer (因果Transformer) and test that it cannot look ahead,
# train it in parallel and draw from it step by step, turn the dials of sampling and measure what they do, and tell which of the book's claims hold.
#
# Run the cells from top to bottom. The first one prints what a whole run costs, and shows what its published run drew: real images, then samples of
# three models.

# %% tags=["record"]
import math
from functools import partial

import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import data, generation, pixel_models, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch04c import experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)                     # batches this small gain little from more threads
plot.use_style()
records.published("ch04c")
published = records.RESULTS / "ch04c.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)], width=7.162);      # pixel by pixel

# %% [markdown]
# ## 1 The data, looked at
#
# The digits again: 8×8 pixels of 17 levels of grey. Of the 1,437 to learn from, a sixth is held back as a validation part (验证集): every choice in this
# chapter is made there. The 360 test digits are looked at once, in section 6. With `VLMBOOK_PROFILE=full` it is Fashion-MNIST
# [Xiao et al. 2017], 28×28 and 256 levels.

# %%
parts = data.hold_out(*data.digits_or_fashion("train"), share=1 / 6, seed=0)
(images, labels), (valid_images, valid_labels) = parts
test_images, test_labels = (each[:1000] for each in data.digits_or_fashion("test"))
height, width = size = images.shape[2:]
pixels, levels = height * width, 17 if height == 8 else 256
device, precision = runtime.device(), runtime.pick(quick=None, full="bf16")
valid_images, valid_labels = valid_images[:240], valid_labels[:240]
print(len(images), "to learn from,", len(valid_images), "for choices,", len(test_images), "to test")
plot.gallery(images[:12], [str(label.item()) for label in labels[:12]]);

# %% [markdown]
# A sentence is a row of tokens (词元), numbers from a list of symbols. So is an image, read row by row: each pixel is a token, its level the number. Is
# anything lost?

# %%
from vlmbook.gpt import to_images, to_tokens

tokens = to_tokens(images, levels)
print("the first three rows of the first image:", tokens[0, :3 * width].tolist())

# %% tags=["claims"]
assert tokens.shape == (len(images), pixels) and tokens.max() == levels - 1
assert torch.equal(to_images(tokens, levels, size), images)

# %% [markdown]
# Nothing.
#
# ## 2 What an image costs
#
# A model of images is now a model of rows of numbers: it gives each row $x$ a probability $p(x)$, and all of these sum to 1.
# Its quality is what it gives to images that it has not seen. The logarithm, divided by the number of pixels and with a minus, is its cost
# in nats (奈特) a pixel, or, divided by $\ln 2$, in bits per dimension (每维比特数): what a compressed image would take.
#
# How low can one get without knowing any neighbour? The histogram counts how often each level was seen at each position; the Gaussian knows the
# covariance of all pixels. A model that knows nothing pays $\ln 17=2.83$ nats for each of 17 levels. Guess both numbers.

# %%
some = images[:runtime.pick(quick=None, full=1000)]                   # 256 levels take memory
baselines = {"histogram": pixel_models.PixelHistogram(some, levels),
             "Gaussian": pixel_models.PixelGaussian(images, levels)}
costs = {k: -m.log_likelihood(valid_images).mean().item() / pixels for k, m in baselines.items()}
print("nats a pixel:", *(f"{name} {each:.3f}" for name, each in costs.items()))

# %% tags=["claims"]
assert costs["Gaussian"] < costs["histogram"] < math.log(levels)

# %% [markdown]
# ## 3 The idea, written here
#
# ### A chain
#
# Any probability of a row can be split, from left to right, without loss: the chain rule (链式法则). $x_{<t}$ is all that stands before $x_t$.
#
# $$p(x_1,\dots,x_T)=\prod_{t=1}^{T}p(x_t\mid x_{<t})$$
#
# Take three bits and a table of their eight probabilities. Each factor comes from the table by summing over what comes later. Then draw: toss
# for the first bit, for the second given the first, for the third given both. How often will each row come up in 4,000 draws?

# %%
from itertools import product

def conditional(joint, before):              # -> (2,): p(next bit | those before)
    rest = joint[before].flatten(1) if len(before) < 2 else joint[before][:, None]
    return rest.sum(1) / rest.sum()

joint = torch.rand(2, 2, 2) ** 3
joint /= joint.sum()
for x in product(range(2), repeat=3):
    factors = torch.stack([conditional(joint, x[:t])[x[t]] for t in range(3)])
    assert_close(factors.prod(), joint[x])

def draw_row(joint):
    row = ()
    while len(row) < 3:                      # the loop: what was drawn goes back in
        row += (torch.multinomial(conditional(joint, row), 1).item(),)
    return row


counts = torch.zeros(2, 2, 2)
for _ in range(4000):
    counts[draw_row(joint)] += 1
print("drawn:", *(f"{share:.3f}" for share in (counts / 4000).flatten()))
print("table:", *(f"{p:.3f}" for p in joint.flatten()))

# %% tags=["claims"]
assert ((counts / 4000 - joint).abs() < 4.5 * (joint * (1 - joint) / 4000).sqrt()).all()

# %% [markdown]
# The products are the table, and each row comes up as often as the table says. For 64 pixels of 17 levels the table would have $17^{64}$
# entries. So a network takes the place of the table: it gets $x_{<t}$ and gives $p_\theta(\cdot\mid x_{<t})$, one probability for each level.
# That is an autoregressive model (自回归模型).
#
# ### Looking back, never ahead
#
# Each position has to gather what it needs from those before it. In attention (注意力, chapter 5b has more of it) position $i$ asks with a query
# (查询) $q_i$, position $j$ answers to its key (键) $k_j$, and hands over its value (值) $v_j$; all three are of size $d$ and linear in what stands at
# the position [Vaswani et al. 2017]. In the causal
# kind the sum ends at $i$:
#
# $$\alpha_{ij}=\frac{\exp(q_i\cdot k_j/\sqrt d)}{\sum_{m\le i}\exp(q_i\cdot k_m/\sqrt d)}\ \text{ for } j\le i,\qquad
# \alpha_{ij}=0\ \text{ for } j>i,
# \qquad y_i=\sum_{j\le i}\alpha_{ij}v_j$$

# %%
from vlmbook.gpt import GPT, Block, KVCache, complete, generate, gpt_loss

def attention_loops(q, k, v):                # (N, d) three times -> (N, d)
    y = torch.empty_like(v)
    for i in range(len(q)):
        products = torch.stack([q[i] @ k[j] for j in range(i + 1)]) / q.shape[1] ** 0.5
        alpha = products.softmax(0)
        y[i] = sum(alpha[j] * v[j] for j in range(i + 1))
    return y


def block_by_hand(block, x):                 # (1, N, D) -> (1, N, D)
    q, k, v = block.project_qkv(block.norm1(x))        # (1, h, N, D/h) each, for h heads
    seen = [attention_loops(q[0, h], k[0, h], v[0, h]) for h in range(block.heads)]
    x = x + block.projection(torch.cat(seen, dim=1))
    return x + block.mlp(block.norm2(x))     # at each position by itself


block, x = Block(12, heads=3), torch.randn(1, 7, 12, requires_grad=True)
print(tuple(x.shape), "->", tuple(block(x).shape))

# %% tags=["claims"]
assert_close(block_by_hand(block, x), block(x))

# %% [markdown]
# That is one block of the Transformer: attention with several heads (多头), then a small network at each position, both added to what came in, as
# in chapter 3b, and normalised before. PyTorch has the same as `TransformerEncoderLayer`. With our weights and a mask (掩码), does it give the
# same values and gradients?

# %%
layer = torch.nn.TransformerEncoderLayer(12, 3, 48, dropout=0, activation="gelu",
                                         batch_first=True, norm_first=True)
order = block.qkv, block.projection, block.mlp[0], block.mlp[2], block.norm1, block.norm2
ours, theirs = [p for part in order for p in part.parameters()], list(layer.parameters())
with torch.no_grad():
    for p, q in zip(theirs, ours, strict=True):
        p.copy_(q)
future = torch.ones(7, 7).triu(1).bool()     # True: not to be seen
outputs = block(x), layer(x, src_mask=future, is_causal=True)
slopes = [torch.autograd.grad(y.square().sum(), (x, *parameters))
          for y, parameters in zip(outputs, (ours, theirs))]
print("equal in values and in", len(slopes[0]), "gradients")

# %% tags=["claims"]
assert_close(*outputs)
assert_close(*slopes, rtol=1e-4, atol=1e-4)

# %% [markdown]
# ### The whole
#
# The logits at position $t$ predict token $t$, so position $t$ must not see token $t$. Therefore the input is shifted by one position: first comes the class $c$
# (a vector $e_c$ for each), then the tokens except the last, each as a row of a learned table $E$, its embedding (嵌入). Every position gets a learned
# vector of $P$ that tells it where it is, a position embedding (位置嵌入). $\mathrm{LN}$ is layer normalisation (层归一化): mean 0 and variance 1
# over the width. There are $M$ blocks; the logits are computed from the output of the last one.
#
# $$h^0=[\,e_c;\,E_{x_1};\dots;E_{x_{T-1}}]+P,\qquad h^{\ell}=\mathrm{Block}_\ell(h^{\ell-1}),\qquad
# p_\theta(\cdot\mid x_{<t},c)=\mathrm{softmax}\big(W\,\mathrm{LN}(h^M_t)\big)$$
#
# $$\mathcal L=-\frac1T\sum_{t=1}^{T}\log p_\theta(x_t\mid x_{<t},c)$$
#
# Predict the shape of the logits for `tokens` of `(2, 64)`, and the loss of a network that has learned nothing.

# %%
net, x, c = GPT(17, 64, 10, width=32, depth=2), torch.randint(17, (2, 64)), torch.tensor([3, 8])
h = torch.cat([net.class_embedding(c)[:, None], net.token_embedding(x[:, :-1])], dim=1)
h = h + net.position_embedding
for block in net.blocks:
    h = block(h)
logits = net.head(net.norm(h))
loss = -logits.log_softmax(-1).gather(-1, x[:, :, None]).mean()
print(tuple(logits.shape), f"{loss:.3f} nats a token, a blind guess {math.log(17):.3f}")

# %% tags=["claims"]
assert_close(logits, net(x, c))
assert_close(loss, gpt_loss(net, x, c))
assert abs(loss - math.log(17)) < 0.1


# %% [markdown]
# ### Does it look ahead?
#
# A wrong mask raises no error, and makes the loss smaller. So test it: change one token, and see at which positions the answer moves. Token $j$ may move
# the answers about the tokens after it, and no other. Weights are large here, so that every dependence shows.

# %%
def attend_ahead(block, x, cache=None, ahead=0):      # attention that sees some positions ahead
    q, k, v = block.project_qkv(x)
    sees = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril(ahead)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=sees)
    return block.projection(y.transpose(1, 2).flatten(2))

def seeing(net, ahead):
    for block in net.blocks:
        block.attend = partial(attend_ahead, block, ahead=ahead)
    return net

def reach(net, x, c):                        # -> (N, N) bool: do logits i change with token j?
    columns = torch.eye(x.shape[1], dtype=torch.long)
    changed = [(x + column) % 17 for column in columns]
    moved = [(net(other, c) - net(x, c)).abs().amax((0, 2)) > 1e-6 for other in changed]
    return torch.stack(moved, dim=1)

x, c, right = torch.randint(17, (4, 12)), torch.arange(4), torch.ones(12, 12).tril(-1).bool()
net = experiments.amplify_weights(GPT(17, 12, 10, width=32, depth=1))
found = {"the package's mask": reach(net, x, c)}
found["one position ahead"], found["no mask"] = (reach(seeing(net, n), x, c) for n in (1, 12))
drawings.draw_reach(plt.figure(figsize=(7, 2.6)), found)

# %% tags=["claims"]
assert torch.equal(found["the package's mask"], right)
assert (found["one position ahead"] & ~right).sum() == 11 and (found["no mask"] & ~right).sum() > 11

# %% [markdown]
# Blue is what may be, orange a leak (泄漏): the answer about a token moves with the token itself. One wrong diagonal is enough for that.
# Section 10 trains such a network: its loss is splendid.
#
# ## 4 Book check
#
# **W16 · an encoder?** The section draws `Transformer编码器 → 自注意力机制 → 特征表示 → 解码器` and writes that the input is encoded. It names neither the
# chain rule nor the mask. GPT is a decoder alone [Radford et al. 2018: a multi-layer Transformer decoder]. The name of the layer is not what
# matters: PyTorch's *encoder* layer agreed with ours above. What matters is the mask. Change token 4 and look at position 2, in that layer.

# %%
x, change = torch.randn(1, 7, 12), torch.zeros(1, 7, 12)
change[0, 3] = torch.randn(12)               # token 4
moved = [(layer(x + change, src_mask=mask) - layer(x, src_mask=mask))[0, 1].abs().max().item()
         for mask in (None, future)]
print(f"position 2 moves by {moved[0]:.4f} as an encoder, by {moved[1]:.4f} with the mask")

# %% tags=["claims"]
assert moved[0] > 1e-3 and moved[1] == 0


# %% [markdown]
# As an encoder, position 2 sees the later tokens, also the token that it shall predict. With the mask the same layer is that of a decoder, and GPT is
# a stack of them: there is no first part that encodes and no second part that decodes.
#
# **W17 · the arrows of §2.2.** There GPT is `输入数据 → 概率分布 → 生成模型 → 生成数据`: the distribution before the model, and a chain. As the story of
# learning one may read it so: data have a distribution, a model takes after it. But what runs is: the model gives the distribution, and the
# symbol drawn from it goes back in. A loop needs a cycle; is there one?
#
# Then the loop in code. A network of three positions and two levels gives each of eight rows a probability by the chain rule. Do they sum to 1,
# and does the loop draw each row as often as it is likely?

# %%
def has_cycle(edges):                        # drop what nothing leads to, again and again
    for _ in range(len(edges)):
        edges = [edge for edge in edges if edge[0] in {end for _, end in edges}]
    return bool(edges)

printed = ["AB", "BC", "CD"]                 # A data, B distribution, C model, D what is generated
running = ["cm", "mp", "px", "xc"]           # context, model, distribution p, symbol x, context

def draw_rows(net, n, length):               # context -> model -> distribution -> symbol -> context
    context, c = torch.empty(n, 0, dtype=torch.long), torch.zeros(n, dtype=torch.long)
    while context.shape[1] < length:
        p = net.predict_logits(net.embed(context, c))[:, -1].softmax(-1)
        context = torch.cat([context, torch.multinomial(p, 1)], dim=1)
    return context

toy = experiments.amplify_weights(GPT(2, 3, 1, width=8, depth=1))
rows = torch.tensor(list(product(range(2), repeat=3)))
terms = toy(rows, torch.zeros(8, dtype=torch.long)).log_softmax(-1).gather(-1, rows[:, :, None])
p = terms.sum((1, 2)).exp()
drawn = (draw_rows(toy, 20_000, 3) @ torch.tensor([4, 2, 1])).bincount(minlength=8) / 20_000
print("likely:", *(f"{each:.3f}" for each in p), "\ndrawn: ", *(f"{each:.3f}" for each in drawn))

# %% tags=["claims"]
assert has_cycle(running) and not has_cycle(printed) and "BC" in printed
assert_close(p.sum(), torch.tensor(1.0))
assert p.max() > 1.5 * p.min() and ((drawn - p).abs() < 4.5 * (p / 20_000).sqrt()).all()

# %% [markdown]
# **I11 · what is predicted?** 每次只预测输入数据的下一个位置, the next *position*. The next position is known beforehand, it is one further. Predicted is
# its *content*, and not as one value: a distribution over all levels, from which the value is drawn. (So the same context has many
# continuations.)
#
# **I12 · one pass or many?** The list calls learning the distribution and 生成新的 one step, 自回归训练. They differ in kind. In training the true
# tokens are all there; one pass with the mask gives all conditionals at once (teacher forcing, 教师强制). Only in drawing must each position wait
# for the one before. Are both the same numbers? Keys and values of earlier positions never change, so they are kept, in a key-value cache
# (键值缓存).

# %%
from timeit import timeit

net = experiments.amplify_weights(GPT(17, 64, 10, width=32, depth=2))
x, c = torch.randint(17, (8, 64)), torch.arange(8)

def step_by_step(net, x, c):
    caches, given, logits = [KVCache(64) for _ in net.blocks], net.embed(x[:, :0], c), []
    for t in range(64):
        logits.append(net.predict_logits(given, caches))     # one position, and the caches
        given = net.token_embedding(x[:, t:t + 1])
    return torch.cat(logits, dim=1)

once, steps = net(x, c), step_by_step(net, x, c)
fast, slow = (timeit(lambda: f(x, c), number=3) / 3 for f in (net, partial(step_by_step, net)))
print(f"one pass {fast * 1e3:.0f} ms, {once.shape[1]} passes {slow * 1e3:.0f} ms")

# %% tags=["claims"]
assert_close(steps, once, rtol=0, atol=1e-5 * once.abs().max().item())
assert_close(once.softmax(-1).sum(-1), torch.ones(8, 64))             # I11: each row a distribution
assert once.shape == (8, 64, 17) and slow > 2 * fast

# %% [markdown]
# The same numbers but for rounding, and learning is the fast one of the two.
#
# **W39 · the name.** The section is called 生成式模型（GPT）. 生成式模型 means *generative model*, and that is a whole family: all from which one can
# draw. GPT is what the English beside it says, Generative Pre-trained Transformer, 生成式预训练Transformer: one kind of one branch. From which of
# these can one draw, and which are made as GPT is? (The networks have learned nothing yet; that is not the question.)

# %%
from vlmbook.gan import Generator
from vlmbook.vae import VAE, sample_image

nets = {"GAN": Generator(8), "VAE": VAE(8, levels=17), "GPT": GPT(17, 64, 10, width=32, depth=2)}
z, c = nets["VAE"].decode(torch.randn(2, 16)), torch.tensor([0, 1])
drawn = {"histogram": pixel_models.PixelHistogram(data.digits("train")[0], 17).sample(2),
         "GAN": nets["GAN"].eval()(torch.randn(2, 64)), "VAE": sample_image(z),
         "GPT": to_images(generate(nets["GPT"], c), 17, (8, 8))}
like_gpt = {name: any(isinstance(part, Block) for part in net.modules())
            for name, net in nets.items()}
print({name: tuple(x.shape) for name, x in drawn.items()}, "made of GPT's blocks:", like_gpt)

# %% tags=["claims"]
assert all(x.shape == (2, 1, 8, 8) and 0 <= x.min() <= x.max() <= 1 for x in drawn.values())
assert [name for name, its in like_gpt.items() if its] == ["GPT"]

# %% [markdown]
# From all of them, the histogram of section 2 included: all are generative models. One is a GPT.
#
# **M26 · text, images, speech.** The section says of GPT that it succeeded in all three. The GPT of 2018 reads and writes text alone, and was judged by how well it understands. Images were
# Image GPT's [Chen et al. 2020] and DALL-E's [Ramesh et al. 2021], sound WaveNet's [van den Oord et al. 2016]: relatives that share the chain
# rule. What does carry over is the principle. Here the same class with the same loss learns text, the source code of its own module, 32
# characters at a time, the last tenth held out.

# %%
import inspect
from vlmbook import gpt
from vlmbook.training import fit

text = inspect.getsource(gpt)
symbols = sorted(set(text))
codes = torch.tensor([symbols.index(each) for each in text])
cut = len(codes) * 9 // 10
windows, held = codes[:cut].unfold(0, 32, 8), codes[cut:].unfold(0, 32, 32)
p = (codes[:cut].bincount(minlength=len(symbols)) + 0.1).double()
counted = -(p / p.sum()).log()[held].mean().item()
runtime.seed_everything(0)
writer, none = GPT(len(symbols), 32, 1, width=32, depth=2), torch.zeros(len(windows)).long()
fit(writer, (windows, none), loss_fn=gpt_loss, epochs=4, batch_size=32, lr=8e-3, warmup=20,
    clip=1.0, progress=False, precision=precision)
writer.cpu().eval().requires_grad_(False)
learned = gpt_loss(writer, held, none[:len(held)]).item()
print(f"letter frequencies {counted:.2f} nats a character, GPT {learned:.2f}; it writes:")
print("".join(symbols[code] for code in generate(writer, none[:1], temperature=0.7)[0]))

# %% tags=["claims"]
assert learned < 0.8 * counted

# %% [markdown]
# ## 5 Train
#
# Our network has two blocks of width 64. `fit` minimises $\mathcal L$ on all positions at once. For the digits, width, depth and learning rate were
# chosen among four candidates, on the validation part. How far below the baselines will it come?

# %%
alone = runtime.profile() == "full" and device.type == "cpu"           # full, and no accelerator
depth, lr = runtime.pick(quick=2, full=3), runtime.pick(quick=8e-3, full=3e-3)
epochs = runtime.pick(quick=14, full=1 if alone else 12)

@torch.no_grad()
def log_likelihood(net, x, c):               # (B, 1, H, W), (B,) -> (B, N): log p(x_t | x_<t, c)
    x, found = to_tokens(x, levels).to(device), []
    for part, of in zip(x.split(100), c.to(device).split(100)):
        found.append(-F.cross_entropy(net(part, of).movedim(-1, 1), part, reduction="none").cpu())
    return torch.cat(found)


cost = lambda net, x, c: -log_likelihood(net, x, c).mean().item()     # nats a pixel
runtime.seed_everything(0)
model = GPT(levels, pixels, 10, width=64, depth=depth)
history = fit(model, (tokens, labels), loss_fn=gpt_loss, epochs=epochs, lr=lr,
              batch_size=runtime.pick(quick=32, full=16), weight_decay=0.1, warmup=50, clip=1.0,
              evaluate=lambda net: {"nats": cost(net, valid_images, valid_labels)},
              precision=precision)
model.eval().requires_grad_(False);

# %%
drawings.draw_learning(plt.figure(figsize=(7, 2.5)), history, costs)
ends_of = {"training": cost(model, images[:1000], labels[:1000]),
        "validation": cost(model, valid_images, valid_labels)}
print(*(f"{name} {each:.3f}" for name, each in ends_of.items()), "nats a pixel, given the class")

# %% tags=["claims"]
assert ends_of["validation"] < costs["Gaussian"]
assert abs(ends_of["validation"] - ends_of["training"]) < 0.12

# %% [markdown]
# It is below both baselines. (The baselines do not get the class, and the GPT does; section 6 takes the class away.) It pays about as little for images that it has not seen as for those it learned from.
#
# ## 6 The comparison
#
# Chapters 4a, 4b and 4c stand in one table, on the same test digits. Bits per dimension is the cost above. The other columns come from a classifier, a small ResNet that learned to
# read real digits: the Fréchet distance (弗雷歇距离) compares mean and covariance of its 64 features [Heusel et al. 2017], precision (精确率) is the share of samples that lie among
# real images there, recall (召回率) the share of real images that lie among samples [Kynkäänniemi et al. 2019]. It sees what a reader of digits sees and no more.
#
# The rules are those of chapter 4a: every row has the same number of images, and of each class as many as the test set has, by the classifier's judgement; ± is over three
# draws. The GPT is asked for classes at random, not for those of the test images. Even real images are not at 0, hence the first row: training images, treated like samples.
#
# Our model learned with the class, and the others did not. For fair bits the class is summed out, with ten passes:
#
# $$p(x)=\sum_{c}\tfrac1{10}\,p(x\mid c)$$
#
# What can that cost at most? And by Bayes' rule $p(c\mid x)\propto p(x\mid c)$: a model that writes digits can read them. As well as the classifier?

# %%
given = torch.stack([log_likelihood(model, test_images, torch.full_like(test_labels, c)).sum(1)
                     for c in range(10)], dim=1)                      # (B, 10): log p(x | c)
summed = given.logsumexp(1) - math.log(10)
known = given.gather(1, test_labels[:, None])[:, 0]
print(f"nats a pixel: {-summed.mean() / pixels:.3f}, given the class {-known.mean() / pixels:.3f}")

# %% tags=["claims"]
assert (summed > known - math.log(10) - 1e-3).all() and (summed < given.amax(1) + 1e-3).all()

# %%
classifier = generation.train_feature_classifier(
    images, labels, epochs=runtime.pick(quick=12, full=3), seed=0, precision=precision).cpu()
predicted = {"GPT": given.argmax(1), "classifier": classifier(test_images).argmax(1)}
accuracy = {name: (p == test_labels).float().mean().item() for name, p in predicted.items()}
print("read rightly:", *(f"{name} {value:.1%}" for name, value in accuracy.items()))

# %% tags=["claims"]
assert (0.85 if height == 8 else 0.3) < accuracy["GPT"] < accuracy["classifier"]

# %% [markdown]
# At most $\ln 10$ nats an image, since one of the ten terms is that of the true class. And the GPT reads far better than chance, though
# nobody asked it to; the classifier, which learned nothing else, reads better.

# %%
from copy import deepcopy
from vlmbook.chapters import comparison

def draw(model, labels, seed=0, **dials):    # (B,) classes -> (B, 1, H, W)
    generator = torch.Generator(device).manual_seed(seed)
    drawn = generate(model, labels.to(device), generator=generator, **dials)
    return to_images(drawn.cpu(), levels, size)


def draw_any(n):                             # -> (n, 1, H, W) of classes at random
    return draw(model, torch.randint(10, (n,)), seed=int(torch.randint(2**31, ())))


# %%
near, read = deepcopy(model).cpu(), lambda x: classifier(x).argmax(1)
ways = {"other real images": lambda n: images[torch.randint(len(images), (n,))]}
ways |= {name: baseline.sample for name, baseline in baselines.items()} | {"GPT": draw_any}
rows, samples = {}, {}
for name, way in ways.items():
    runtime.seed_everything(1)
    rows[name] = comparison.measure_draws(way, classifier, test_images, test_labels)
    samples[name] = way(10)
nats = {name: baseline.log_likelihood(test_images) for name, baseline in baselines.items()}
for name, each in (nats | {"GPT": summed}).items():
    rows[name]["bits"] = comparison.measure_bits(each, test_images)
rows["GPT"]["training s"] = history.seconds
others = comparison.load_published_rows("ch04a", "GAN")
others |= comparison.load_published_rows("ch04b", "VAE, levels drawn")
print(comparison.format_draws(rows | others))

# %% tags=["claims"]
bits = {name: row.get("bits") for name, row in rows.items()}
frechet = {name: torch.tensor(row["frechet"]).mean().item() for name, row in rows.items()}
assert bits["GPT"] < 0.85 * bits["histogram"] and bits["GPT"] < bits["Gaussian"]
assert frechet["other real images"] < frechet["GPT"] < min(frechet[name] for name in baselines)

# %%
first = [(labels == digit).nonzero()[0, 0].item() for digit in range(10)]
chosen = samples | {"other real images": images[first]}
chosen["GPT"] = draw(model, torch.arange(10), seed=1)
figure = plt.figure(figsize=(7, 2.8))
drawings.draw_samples(figure, chosen)
records.picture("ch04c", figure);

# %% [markdown]
# This is one network. The GPT pays fewer bits than the histogram and the Gaussian. The classifier finds its samples nearer to real images than those of both baselines, and not as near as
# other real images are. The GPT learned with the labels, which the baselines, GAN and VAE had not: the same class mix in every row does not take that knowledge away. Rows of other
# chapters, where there are any, are published rows of other runs by the same rules; a VAE's bits are a bound.
#
# ## 7 The dials
#
# One may draw from something else than what was learned. With the logits $z_k$ of the levels, the temperature (温度) $\tau$ makes
# $p_k\propto\exp(z_k/\tau)$; top-$k$ keeps the $k$ likeliest levels; top-$p$ the fewest that together reach the probability $p$ [Holtzman et
# al. 2019]. What do you expect at temperature 0.2? At 2? And at `top k` 1, where chance is out of the game?

# %%
seen = experiments.take_prefix(valid_images[0], pixels * 5 // 8 - width // 2, levels)
interact.live(partial(drawings.draw_sampling, model=near, prefix=seen, size=size, top_k=levels),
              label=(0, 9), temperature=(0.2, 2.0, 0.1), top_k=(1, levels),
              top_p=(0.1, 1.0, 0.05), figsize=(7, 2.8))

# %% tags=["claims"]
assert torch.equal(*(generate(near, torch.arange(10), top_k=1, temperature=t) for t in (0.5, 2)))

# %% [markdown]
# Do sharper distributions make better images? Ask the classifier, on the validation part, with several seeds each: for precision, recall, the
# share of samples that it reads as the class that was ordered, and the Fréchet distance. Guess first which of them gain as the temperature
# falls.

# %%
dials = {f"temperature {t}": {"temperature": t} for t in (0.5, 0.75, 1.0, 1.25, 1.5)}
dials |= {f"top k {levels // 2}": {"top_k": levels // 2}, "top p 0.9": {"top_p": 0.9}}
found = {}
for name, each in dials.items():
    for seed in range(runtime.pick(quick=3, full=2)):
        x = draw(model, valid_labels, seed, **each)
        measured = generation.score(classifier, x, valid_images)
        measured["read as ordered"] = (read(x) == valid_labels).float().mean().item()
        for what, value in measured.items():
            found.setdefault(what, {}).setdefault(name, []).append(value)

drawings.draw_dials(plt.figure(figsize=(7, 2.4)), found)
means = experiments.average_over_seeds(found)
cold, even, hot, cut = *(f"temperature {t}" for t in (0.5, 1.0, 1.5)), f"top k {levels // 2}"
distance_of, precision_of, recall, ordered = means.values()
if height == 8:
    assert distance_of[cut] < distance_of[even] < min(distance_of[cold], distance_of[hot])
    assert precision_of[cold] < precision_of[even] + 0.04 and ordered[even] > ordered[hot] + 0.08
    assert precision_of[cut] > precision_of[even] + 0.02 and precision_of[even] > precision_of[hot]
    assert recall[cold] < recall[even] - 0.05 and recall[cut] < recall[even]

# %% [markdown]
# Bars span one standard deviation over the seeds of the drawing, from one network. Cooling to 0.5 gains no precision, costs recall, and the
# Fréchet distance grows. A little cooling, 0.75, may make samples more readable, and whether it brings them nearer differs from network to
# network. At 1.5 precision, readability and distance are all worse. What helps more is to cut off the unlikely levels alone, as top-$k$ does:
# better precision and Fréchet distance, at the price of recall. (Precision is easily fooled, as chapter 4a found; here all samples come from one
# network. The likelihoods of section 6 are those of what was learned, before any dial.)
#
# ## 8 Half an image
#
# Since it writes row by row, it can be handed the first rows and write the rest. Choose a validation digit and how much of it is seen. Then
# give it a false class: what wins, the rows or the class?

# %%
interact.live(partial(drawings.draw_completion, model=near, classifier=classifier,
                      images=valid_images, labels=valid_labels), image=(0, 19),
              rows=(0, height), given=["true class", *range(10)], figsize=(7, 1.7))


# %% [markdown]
# And measured, on all of them. Beside the GPT stand the histogram's lower part, and a strong rival: the training image of the same class
# whose upper rows are the nearest, of which the lower part is copied. How often does the classifier read the true class? Is what the GPT writes as
# likely, to itself, as the truth?

# %%
def joined(ends):                            # the true upper rows over other lower ones
    return torch.cat([valid_images[:, :, :rows_seen], ends[:, :, rows_seen:]], dim=2)
read_as = lambda x, labels: (read(x) == labels).float().mean().item()
generator, truth = torch.Generator().manual_seed(0), valid_labels
wrong = (truth + torch.randint(1, 10, truth.shape, generator=generator)) % 10
halves, drawn = {}, baselines["histogram"].sample(len(truth), generator=generator)
for rows_seen in (height // 4, height // 2, 3 * height // 4):
    upper = [x[:, :, :rows_seen].flatten(1) for x in (valid_images, images)]
    far = torch.cdist(*upper) + 1e6 * (truth[:, None] != labels)
    ends = {"histogram": joined(drawn), "nearest": joined(images[far.argmin(1)]),
            "GPT": complete(near, valid_images, truth, rows_seen, generator=generator)}
    misled = complete(near, valid_images, wrong, rows_seen, generator=generator)
    true, own = (log_likelihood(model, x, truth)[:, rows_seen * width:].mean().item()
                 for x in (valid_images, ends["GPT"]))
    halves[rows_seen] = {name: read_as(x, truth) for name, x in ends.items()} | {
        "truth": true, "own": own, "rows win": read_as(misled, truth),
        "class wins": read_as(misled, wrong)}
    print(f"{rows_seen} rows:", *(f"{key} {p:.2f} " for key, p in halves[rows_seen].items()))
few, half, most = halves.values()
if height == 8:
    assert half["histogram"] + 0.1 < half["GPT"] < half["nearest"] + 0.02
    assert abs(half["truth"] - half["own"]) < 0.1 < few["class wins"] - few["rows win"]
    assert most["rows win"] > most["class wins"] + 0.5

# %% [markdown]
# With half of the image seen, the GPT's ends are read as the true class more often than the histogram's, and no more often than the copies. But
# a copy has one end only, and none that is new. What the GPT writes is about as likely to it (`own`, log-likelihood in nats a pixel) as the
# true ends are (`truth`), as it should be for draws from the right distribution. Given a false class, it follows the class while it has seen
# little, and the rows when it has seen much.
#
# ## 9 See inside
#
# Where does a position look? The weights $\alpha_{ij}$ of one row, laid over the image: the orange pixel is being written, bright ones are
# looked at. Try each head of both blocks. Does a head look at a position, or at what stands there? Compare the image with the mean over many.

# %%
watched = min(len(valid_images), 8_000 // pixels)
attention_weights = near.attention_weights(to_tokens(valid_images[:watched], levels),
                                           valid_labels[:watched])
i = torch.arange(width + 1, pixels)          # from the second row on; at key 0 stands the class
above = torch.stack([each.mean(0)[:, i, i - width + 1].mean(1) for each in attention_weights])
even = (1 / (i + 1.0)).mean()
print("on the pixel above, head by head:", *(f"{each:.2f}" for each in above.flatten()),
      f"; evenly it would be {even:.3f}")
block, head = divmod(int(above.argmax()), above.shape[1])
interact.live(partial(drawings.draw_attention, images=valid_images[:watched],
                      attention_weights=attention_weights, block=block, head=head),
              image=(0, 9), pixel=(1, pixels), block=(0, depth - 1), head=(0, 3), figsize=(7, 2.7))

# %% tags=["claims"]
assert above.max() > 1.5 * even or height > 8
assert all((each.triu(1) == 0).all() for each in attention_weights)

# %% [markdown]
# In most runs some head looks far more than evenly at the pixel above, as one might have built in; it is the one shown first. What do the
# others do?
#
# ## 10 Break it
#
# The mask with one diagonal too many, from section 3, in training. Three seeds each of a smaller network. What will its validation loss be,
# and its samples?

# %%
(little, of), (held, held_of) = data.hold_out(*data.digits("train"), share=1 / 6, seed=0)
little, held = to_tokens(little, 17), to_tokens(held, 17)

def tried(ahead, seed):                      # -> validation nats, nats in drawing, ten samples
    runtime.seed_everything(seed)
    twin = seeing(GPT(17, 64, 10, width=32, depth=1, heads=1), ahead)
    fit(twin, (little, of), loss_fn=gpt_loss, epochs=5, batch_size=32, lr=2e-2, warmup=20, clip=1.0,
        precision=precision, progress=False)
    twin.cpu().eval().requires_grad_(False)
    validation = gpt_loss(twin, held, held_of).item()
    samples = generate(twin, torch.arange(10), use_cache=False)
    return validation, gpt_loss(seeing(twin, 0), held, held_of).item(), samples


tries = {ahead: [tried(ahead, seed) for seed in range(3)] for ahead in (0, 1)}
broken = {name: {what: [each[number] for each in tries[ahead]] for number, what in enumerate(
    ("validation", "in drawing"))} for ahead, name in enumerate(("right mask", "one ahead"))}
for name, of_both in broken.items():
    each = {what: torch.tensor(n) for what, n in of_both.items()}
    print(name, *(f"{what} {n.mean():.2f} ± {n.std():.2f}" for what, n in each.items()), sep=", ")
drawings.draw_samples(plt.figure(figsize=(7, 1.1)), {
    name: to_images(tries[ahead][0][2], 17, (8, 8)) for ahead, name in enumerate(broken)})

# %% [markdown]
# In the mean its loss falls far below the honest one, on held-out images too, for they leak just the same: no loss curve gives it away. But in
# drawing there is no next token to look at. Measured with the mask that drawing has (`in drawing`: a mask has no
# weights, so the same network can be asked with either), it costs far more. Another seed may need more epochs to find the leak; the test of section 3 needs not one step.
#
# And without any mask, `ahead = 64`, as an encoder has none? Does training find that leak sooner or later than this one? Try it.

# %%
good, bad = ({what: sum(n) / 3 for what, n in each.items()} for each in broken.values())

# %% tags=["claims"]
assert bad["validation"] < good["validation"] - 0.2 and good["in drawing"] == good["validation"]
assert bad["in drawing"] > good["in drawing"] + 0.5

# %%
records.record(
    "ch04c", seed=0, rows=rows,
    nats_a_pixel={"training": ends_of["training"], "validation": ends_of["validation"],
                  "test given the class": -known.mean().item() / pixels,
                  "test": -summed.mean().item() / pixels}, read_rightly=accuracy,
    dials=means, halves={f"{seen} rows": each for seen, each in halves.items()}, leak=broken);

# %% [markdown]
# ## 11 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch04c.1")` helps in steps, `solution("ch04c.1")` shows one answer.
#
# **1 · Predict.** `GPT(17, 64, 10, width=64, depth=2, heads=4)` draws three images at once, with the cache. What is the shape of the keys
# that one block holds once it has read the class and twenty pixels? Answer without running a network.

# %%
shape = ...                                  # (images, heads, positions, size)
check("ch04c.1", shape)


# %% [markdown]
# **2 · Derive.** How many scores $q_i\cdot k_j$ does one head compute to draw `n` pixels? With the cache each new position meets itself and all
# before it. Without, every pass computes the scores of each of its positions with every position of that pass (the mask throws some of them away).
# The pass for the first pixel has one position, the class.

# %%
def scores(n, cache):                        # scores(1, True) -> 1
    ...


check("ch04c.2", scores)


# %% [markdown]
# **3 · Build.** Another dial, min-$p$ [Nguyen et al. 2024]: keep the levels whose probability is at least `share` times that of the
# likeliest, and give the others $-\infty$.

# %%
def min_p(logits, share):                    # (B, V), number -> (B, V) logits
    ...


check("ch04c.3", min_p)


# %% [markdown]
# **4 · Build.** An image may be written in any order. `order` lists the positions `0 … N − 1` as they are written. Which positions may each
# position see, itself included?

# %%
def mask_for(order):                         # (N,) int64 -> (N, N) bool: may position i see j?
    ...


check("ch04c.4", mask_for)


# %% [markdown]
# **5 · Build.** What is it going to be? From the first `length` tokens of each image (none of them, if `length` is 0), the probability of
# every class of `model.num_classes`, if all are equally likely beforehand. Then try it on `near` and `valid_images`: after which row is the class known?

# %%
def classes_from(model, tokens, length):     # (B, N), int -> (B, num_classes), rows sum to 1
    ...


check("ch04c.5", classes_from)

# %% [markdown]
# ## 12 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook writes Fashion-MNIST, 784 positions of 256 levels. What the published runs measured:

# %% tags=["record"]
records.show("ch04c", "quick")
records.show("ch04c", "full")

# %% [markdown]
# ## 13 What we learned
#
# The chain rule makes a probability of images out of one distribution after the other; nothing is lost, and the likelihood is exact.
# The causal mask lets all of them be learned in one pass. It is tested by changing a token, not by looking at the loss.
# Drawing is a loop: the symbol goes back in. A cache makes it cheaper and changes nothing.
# Cutting off unlikely symbols made better images here than a low temperature.
# The same network reads, by Bayes' rule, and completes what it has half seen.
#
# **References.** A. Radford, K. Narasimhan, T. Salimans, I. Sutskever, *Improving language understanding by generative pre-training*, OpenAI, 2018 · A.
# Vaswani et al., *Attention is all you need*, NeurIPS, 2017, arXiv:1706.03762 · M. Chen et al., *Generative pretraining from pixels*, ICML, 2020 · A.
# Ramesh et al., *Zero-shot text-to-image generation*, ICML, 2021, arXiv:2102.12092 · A. van den Oord et al., *WaveNet: a generative model for raw audio*,
# 2016, arXiv:1609.03499 · H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST*, 2017, arXiv:1708.07747 · A. Holtzman, J. Buys, L. Du, M. Forbes, Y. Choi, *The
# curious case of neural text degeneration*, ICLR, 2020 [2019], arXiv:1904.09751 · M. Heusel et al., *GANs trained by a two time-scale update rule converge
# to a local Nash equilibrium*, NeurIPS, 2017, arXiv:1706.08500 · T. Kynkäänniemi et al., *Improved precision and recall metric for assessing generative
# models*, NeurIPS, 2019, arXiv:1904.06991 · M. Nguyen et al., *Turning up the heat: min-p sampling for creative and coherent LLM outputs*, 2024,
# arXiv:2407.01082.
