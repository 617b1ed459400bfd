# %% [markdown]
# # 4b · VAE (变分自编码器)
#
# *Book: §2.2.2 (2), 变分自编码器（VAE）*
#
# **How can a network that squeezes an image through a few numbers learn to make new images, and say how likely each image is?**
#
# You will be able to derive the bound that a variational autoencoder learns by, write its loss from the formula and its KL term in closed form,
# say why noise has to enter as an input of its own, tell which of the book's formulas hold, walk through a latent space, and judge what its likelihood
# is good for.
#
# Run the cells from top to bottom. The first one prints what a whole run costs, and shows what its published run found: two numbers for each
# digit. Left, where digits that the network never saw come to lie on this plane; right, the images that its decoder makes of a grid of $z$.

# %% tags=["record"]
from itertools import count, product

import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import data, generation, metrics, pixel_models, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters import comparison
from vlmbook.chapters.ch04b import experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)                     # images this small gain little from more threads
plot.use_style()
records.published("ch04b")
published = records.RESULTS / "ch04b.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)], width=7.162);      # pixel by pixel

# %% [markdown]
# ## 1 The data, looked at
#
# The 1,797 digits of chapter 3a, 8×8 pixels. Each pixel has one of 17 levels, 0 to 16 sixteenths: so an image is 64 whole numbers, and a model
# can give it a probability. 360 digits are for the comparison at the end, and looked at only there; 240 are held out for everything that we
# choose on the way. With `VLMBOOK_PROFILE=full` it is Fashion-MNIST [Xiao et al.
# 2017]: 28×28 pixels, 256 levels.

# %%
every, (valid, valid_labels) = data.hold_out(*data.digits_or_fashion("train"), share=1 / 6)
images, labels = (part[:8_000] for part in every)
valid, valid_labels = valid[:400], valid_labels[:400]
test_images, test_labels = (part[:1000] for part in data.digits_or_fashion("test"))
small = images.shape[-1] < 16                # the digits
levels, pixels = 17 if small else 256, images[0].numel()
print("to learn from", len(images), "to choose by", len(valid), "to compare on", len(test_images))
plot.gallery(images[:12]);

# %% [markdown]
# ## 2 A hidden cause
#
# Suppose that each image has a cause that nobody sees: which digit, how wide, how slanted. Call it $z$, a few numbers, the latent variable (隐变量).
# A model of images then has two steps. Draw $z$ from a distribution that is easy to draw from, the prior (先验) $p(z)=\mathcal N(0,I)$. Then
# draw the image from $p(x\mid z)$, which a network computes from $z$: the decoder (解码器). How likely is an image under this model? It may have
# come from any $z$:
#
# $$p(x)=\int p(x\mid z)\,p(z)\,\mathrm dz$$
#
# Sixteen numbers cannot be integrated on a grid. One can. So begin with one: three pixels, on or off, and a "decoder"
# $p(x_i=1\mid z)=\mathrm{sigmoid}(w_iz+b_i)$. All eight images together must have the probability 1. Which range of $z$ would you sum over?

# %%
z = torch.linspace(-8, 8, 3201)[:, None]
prior = (-z.square() / 2).softmax(0)[:, 0]             # p(z) times the step of the grid
on = torch.sigmoid(z * torch.tensor([4.0, 2.0, -3.0]) + torch.tensor([0.0, -2.0, 1.0]))
p_given_z = lambda x: torch.where(torch.tensor(x) > 0, on, 1 - on).prod(1)
p_of = {x: round((p_given_z(x) * prior).sum().item(), 4) for x in product((0, 1), repeat=3)}
print(p_of, "sum", round(sum(p_of.values()), 3))

# %% [markdown]
# From −8 to 8: further out the prior is below $10^{-13}$.
#
# ### A bound in place of the integral
#
# Most $z$ explain a given image badly, and add nothing to the integral. Those that explain it are given by the posterior (后验) $p(z\mid x)$, which
# nobody knows either. Guess it: take any distribution $q(z)$. For every $q$ [Kingma & Welling 2013, eqs. 1-3]
#
# $$\log p(x)=\underbrace{\mathbb E_{q}\big[\log p(x\mid z)\big]-\mathrm{KL}\big(q(z)\,\Vert\,p(z)\big)}_{\mathrm{ELBO}}
# +\underbrace{\mathrm{KL}\big(q(z)\,\Vert\,p(z\mid x)\big)}_{\ge0}$$
#
# The Kullback-Leibler divergence (KL散度) $\mathrm{KL}(q\Vert p)=\mathbb E_q[\log q-\log p]$ is never negative, and 0 only where both are the same.
# So the first two terms are the evidence lower bound (ELBO, 证据下界): never above $\log p(x)$, and nearer to it the better $q$ guesses. Is that so?
# Try many $q=\mathcal N(\mu,\sigma^2)$ for the image 110.

# %%
grid = list(product(torch.linspace(-3, 3, 13).tolist(), [0.2, 0.4, 0.6, 0.8, 1.2, 2.0]))
log_p, elbos, gaps = torch.tensor([experiments.toy_bound(*each) for each in grid]).T
print(f"log p(x) {log_p[0]:.3f}, best ELBO {elbos.max():.3f} at mu, sigma =", grid[elbos.argmax()])

# %% tags=["claims"]
assert abs(log_p[0].exp() - p_of[1, 1, 0]) < 1e-3 > abs(sum(p_of.values()) - 1)
assert_close(elbos + gaps, log_p, rtol=0, atol=1e-3)
assert (elbos < log_p).all() and 0 < gaps.min() < 0.1

# %% [markdown]
# Never above, and for the best of them nearly equal. Close the gap yourself. Why does it never become 0?

# %%
interact.live(drawings.draw_bound, mu=(-2.0, 2.0, 0.1), sigma=(0.2, 2.0, 0.1), figsize=(7, 2.7))

# %% [markdown]
# Because $q$ is symmetric, and this posterior is not.
#
# A VAE does this for all images at once: a second network, the encoder (编码器), reads $x$ and answers with $\mu$ and $\sigma$ of its guess,
# $q_\phi(z\mid x)$. Both networks learn to make the ELBO large: so the guess becomes better, and the images likelier.
#
# ## 3 The idea, written here
#
# ### The KL term
#
# For $q=\mathcal N(\mu,\mathrm{diag}\,\sigma^2)$ and $p=\mathcal N(0,I)$ with $Z$ latent numbers it has a closed form [appendix B]:
#
# $$\mathrm{KL}(q\Vert p)=\tfrac12\sum_{k=1}^{Z}\big(\mu_k^2+\sigma_k^2-1-\log\sigma_k^2\big)$$
#
# The definition says: draw $z$ from $q$ and average $\log q(z)-\log p(z)$, which is called Monte Carlo (蒙特卡洛). How many draws until two digits
# are right?

# %%
from torch.distributions import Categorical, Normal, kl_divergence
from vlmbook.vae import kl_to_standard_normal

def kl_loops(mu, logvar):                    # (Z,), (Z,) -> number; logvar is log sigma²
    return sum(m**2 + v.exp() - 1 - v for m, v in zip(mu, logvar)) / 2


mu, logvar = torch.tensor([1.0, -0.5, 0.0]), torch.tensor([-1.0, 0.5, -3.0])
exact = kl_loops(mu, logvar)
q, p = Normal(mu, (logvar / 2).exp()), Normal(torch.zeros(3), torch.ones(3))
drawn = q.sample((100_000,))
draws = (q.log_prob(drawn) - p.log_prob(drawn)).sum(1)
print(*(f"{n:7,} draws: {draws[:n].mean():.3f} ± {draws.std() / n**0.5:.3f}"
        for n in (10, 100, 1000, 10_000, 100_000)), sep="\n")
print(f"closed form: {exact:.3f} nats")

# %% tags=["claims"]
assert_close(exact, kl_to_standard_normal(mu[None], logvar[None])[0])
assert_close(exact, kl_divergence(q, p).sum())
assert abs(draws.mean() - exact) < 5 * draws.std() / 100_000**0.5 < 0.05


# %% [markdown]
# The error (±, one standard deviation) falls with the root of the number: ten thousand draws for two digits. (That a hundred may come close is
# luck.) The closed form costs none.
#
# ### The other term, and its gradient
#
# $\mathbb E_q[\log p(x\mid z)]$ has no closed form, since a network stands inside. One draw of $z$ will do, if the gradient is right *on
# average*. But $\mu$ decides what is drawn: how does a gradient pass through a draw? Two ways, both right on average. With
# $f(z)=\log p(x\mid z)$:
#
# $$\nabla_\mu\,\mathbb E_{q}[f(z)]=\mathbb E_{q}\Big[f(z)\,\frac{z-\mu}{\sigma^2}\Big]
# =\mathbb E_{\epsilon\sim\mathcal N(0,I)}\big[\nabla f(z)\big]\quad\text{with}\quad z=\mu+\sigma\odot\epsilon$$
#
# The first, the score-function gradient (得分函数梯度) [Williams 1992], only needs values of $f$. The second moves the randomness out to an input
# $\epsilon$ that depends on nothing: the reparameterisation trick (重参数化) of the paper's §2.4. Take $f(z)=-\frac12\lVert x-z\rVert^2$, so that the
# answer for each number is $x_k-\mu_k$, here 1. A fairer first way subtracts the mean of $f$, which changes no average. What happens to the three
# as $z$ gets longer?

# %%
def one_draw_gradients(Z, n=20_000, sigma=0.5):        # -> {way: (n,) gradients by mu_1}
    noise = torch.randn(n, Z)
    distance = 1 - sigma * noise                       # x - z, for x - mu = 1
    f, score = -distance.square().sum(1) / 2, noise[:, 0] / sigma
    return {"score function": f * score, "score function, mean of f out": (f - f.mean()) * score,
            "reparameterised": distance[:, 0]}


sizes = [1, 2, 4, 8, 16, 32, 64]
found = {Z: one_draw_gradients(Z) for Z in sizes}
variances = {name: [found[Z][name].var().item() for Z in sizes] for name in found[1]}
drawings.draw_gradients(plt.figure(figsize=(7, 2.4)), sizes, variances)
for ways in found.values():                            # all are right on average
    assert all(abs(g.mean() - 1) < 5 * g.std() / len(g) ** 0.5 for g in ways.values())
raw, centred, smooth = (variances[name][4] for name in variances)
print(f"Z = 16: the variance is {raw / smooth:.0f} or {centred / smooth:.0f} times as large")

# %% tags=["claims"]
assert raw > 500 * smooth and centred > 20 * smooth
assert max(variances["reparameterised"]) < 1.2 * min(variances["reparameterised"])

# %% [markdown]
# Here the noise of the reparameterised gradient does not grow with the number of latents, that of the others does. And it costs one draw an
# image. It needs a decoder that can be differentiated; ours can.
#
# ### The networks
#
# The encoder: two convolutions with stride 2, then a linear layer to $2Z$ numbers, $\mu$ and $\log\sigma^2$ (the logarithm, since a network's
# output may be negative and a variance not). The decoder goes the same way back and ends in `levels` numbers for each pixel: a distribution over
# its levels. Predict the shapes of its three results, for images `(4, 1, 8, 8)`, width 16 and $Z=5$.

# %%
from vlmbook.vae import VAE, elbo, elbo_loss, log_likelihood
from vlmbook.vae import mean_image, reparameterise, sample_image

def vae_by_hand(net, x, noise):              # -> logits (B, levels, H, W), mu, logvar
    e, d = net.encoder, net.decoder
    h = F.conv2d(2 * x - 1, e[0].weight, e[0].bias, stride=2, padding=1).relu()
    h = F.conv2d(h, e[2].weight, e[2].bias, stride=2, padding=1).relu()
    mu, logvar = (h.flatten(1) @ e[5].weight.T + e[5].bias).chunk(2, dim=1)
    z = mu + (logvar / 2).exp() * noise
    h = (z @ d[0].weight.T + d[0].bias).relu().view(len(x), -1, *net.grid)
    h = F.conv_transpose2d(h, d[3].weight, d[3].bias, stride=2, padding=1).relu()
    h = F.conv_transpose2d(h, d[5].weight, d[5].bias, stride=2, padding=1).relu()
    return F.conv2d(h, d[7].weight, d[7].bias, padding=1), mu, logvar


net, x = VAE(8, levels=17, latent=5, width=16), data.digits("train")[0][:4]
torch.manual_seed(1)
hand = vae_by_hand(net, x, torch.randn(4, 5))
torch.manual_seed(1)
package = net(x)
print("logits", tuple(hand[0].shape), "mu", tuple(hand[1].shape), "logvar", tuple(hand[2].shape))

# %% tags=["claims"]
assert_close(hand[0][:, :, None], package[0])
assert_close(hand[1:], package[1:])


# %% [markdown]
# ### The loss
#
# With $p_{i}$ the probabilities that the decoder gives to the levels of pixel $i$, and $x_i$ its true level, the ELBO of one draw is
#
# $$\sum_i\log p_{i}(x_i)\;-\;\tfrac12\sum_k\big(\mu_k^2+\sigma_k^2-1-\log\sigma_k^2\big)$$
#
# and minus its mean over the batch is the loss. Slowly, pixel after pixel; values and gradients against the package, and the package against
# PyTorch's own distributions.

# %%
def elbo_loops(logits, x, mu, logvar):       # -> number: the mean over the batch
    total = 0
    for b in range(len(x)):
        for i, j in product(range(x.shape[2]), range(x.shape[3])):
            p = logits[b, :, i, j].softmax(0)
            total += p[round(x[b, 0, i, j].item() * (len(p) - 1))].log()
        total -= kl_loops(mu[b], logvar[b])
    return total / len(x)


torch.manual_seed(1)
ours, (logits, mu, logvar) = elbo_loss(net, x), package
log_fit = Categorical(logits=logits.movedim(1, -1)).log_prob(x * 16).sum((1, 2, 3))
kl = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(1)
slow = -elbo_loops(*hand[:1], x, *hand[1:])
slopes = [torch.autograd.grad(y, net.parameters(), retain_graph=True) for y in (slow, ours)]
bits = metrics.bits_per_dimension(-ours, 64)
print(f"untrained: {ours:.1f} nats an image, {bits:.2f} bits a pixel")

# %% tags=["claims"]
assert_close((slow, ours), ((kl - log_fit).mean(),) * 2)
assert_close(*slopes, rtol=1e-3, atol=1e-4)

# %% [markdown]
# ## 4 Book check
#
# **W04 · the encoder, and I07 · "a mean and a variance".** §2.2.2 prints $\mu,\sigma^2=E[x\mid x]$ with $x\sim q_\phi(x\mid\mu,\sigma^2)$; §2.2
# says that the image becomes 一个均值和方差, one mean and one variance. What is the expectation of $x$ if $x$ is given? Compute it from the data, pixel
# by pixel: the mean of all pixels whose level is $v$.

# %%
level = (images * (levels - 1)).round().long().flatten()
given = level.bincount(images.flatten().double()) / level.bincount()   # E[x | x], level by level
codes = {Z: VAE(8, levels=17, latent=Z).encoder(2 * x - 1) for Z in (1, 5, 16)}
print(*(f"{tuple(y.shape)}, {(y[:, Z:] < 0).sum()} below 0" for Z, y in codes.items()), sep="\n")

# %% tags=["claims"]
assert_close(given, torch.arange(levels).double() / (levels - 1), rtol=0, atol=1e-4)
assert all(code.shape == (4, 2 * Z) for Z, code in codes.items()) and (codes[16][:, 16:] < 0).any()

# %% [markdown]
# $E[x\mid x]=x$: that is no encoder, and there is no $z$ in the formula (nor anywhere in the part on VAEs), though $q_\phi$ is a distribution of
# $z$. An encoder maps an image to $2Z$ numbers, a mean and a variance for *each* latent number, and those of the second half are often negative:
# read as $\log\sigma^2$ they are welcome, as $\sigma^2$ they would be impossible:
#
# $$(\mu,\log\sigma^2)=\mathrm{Enc}_\phi(x),\qquad q_\phi(z\mid x)=\mathcal N\big(z;\mu,\mathrm{diag}\,\sigma^2\big)$$
#
# **W05 · the decoder.** Printed is $x'=D(\mu,\sigma^2)$. Give a decoder the same $\mu$ and $\sigma^2$ five times, first as printed, then by way
# of $z=\mu+\sigma\odot\epsilon$. Which outputs differ? And what could be decoded if there is no image, so no $\mu$?

# %%
mu, logvar = (each[:1].expand(5, -1) for each in net.encode(x))
same = torch.nn.Linear(10, 64)(torch.cat([mu, logvar.exp()], 1))            # any D(mu, sigma²)
sampled = net.decode(reparameterise(mu, logvar)).softmax(1)
print(f"variance over five: printed {same.var(0).mean():.1e}, sampled {sampled.var(0).mean():.1e}")

# %% tags=["claims"]
assert same.var(0).max() < 1e-10 < 1e-6 < sampled.var(0).mean()

# %% [markdown]
# As printed it is a plain autoencoder: it repeats itself, and without an image it is silent. A decoder takes a $z$; to make a new image,
# $z\sim\mathcal N(0,I)$.
#
# **W06 · the loss.** The section trains 通过最小化KL散度损失, by minimising the KL loss, and names no other. Do just that for 100 steps. What is the
# cheapest way to get KL 0? What does the decoder learn? Then, for 300 steps, add the other term (its KL comes in slowly, see section 5).

# %%
torch.manual_seed(0)
net, progress = VAE(8, levels=17, width=16), []
adam = torch.optim.Adam(net.parameters(), lr=2e-3)
digits = data.digits("train")[0]
for step in range(400):
    batch = digits[torch.randint(len(digits), (64,))]
    mu, logvar = net.encode(batch)
    kl = kl_to_standard_normal(mu, logvar).mean()
    loss = kl if step < 100 else elbo_loss(net, batch, beta=min(1, (step - 100) / 200))
    adam.zero_grad()
    loss.backward()
    if step < 100:
        assert net.decoder[0].weight.grad is None      # the decoder is not even asked
    adam.step()
    progress.append((kl.item(), mu.std(0).mean().item()))

xlabel = {"xlabel": "step (from 100 on with reconstruction)"}
_, axes = plt.subplots(figsize=(7, 2), subplot_kw=xlabel)
for values, name in zip(zip(*progress), ("KL, nats", "std of μ over images")):
    axes.semilogy([max(each, 1e-7) for each in values], label=name)
axes.axvline(100, color=plot.GREY, linestyle="--")
axes.legend()
(kl_alone, std_alone), (kl_both, std_both) = progress[99], progress[-1]
print(f"KL alone: {kl_alone:.0e}, std {std_alone:.0e}; both: {kl_both:.1f}, std {std_both:.2f}")

# %% tags=["claims"]
assert kl_alone < 0.1 and std_alone < 0.1 and kl_both > 2 and std_both > 0.3

# %% [markdown]
# Every image gets $\mu=0$, $\sigma=1$: the code says nothing about the image. This is posterior collapse (后验坍塌). The KL term is a part of the
# loss, so the book is half right; the half that it leaves out makes images.
#
# **W19 · the diagrams.** Both of the book's diagrams of a VAE (§2.2 and §2.2.2) are chains of five boxes. Noise has to enter somewhere: a node
# with two arrows, one from $\mu$ and $\sigma$ and one from $\epsilon$. Look for it in the printed edges, then in the graph that PyTorch recorded
# for our $z$.

# %%
import re
from collections import Counter

def joints(edges):                           # which nodes do two or more arrows enter?
    return [node for node, n in Counter(after for _, after in edges).items() if n > 1]

overview = section = "A --> B B --> C C --> D D --> E"
drawn = [joints(re.findall(r"(\w) --> (\w)", diagram)) for diagram in (overview, section)]
mu, logvar = net.encode(x)
noise = torch.randn_like(mu).requires_grad_()
z = mu + (logvar / 2).exp() * noise
ends, todo = set(), [z.grad_fn]
while todo:                                  # back to where everything came from
    node = todo.pop()
    ends |= {node.variable} if hasattr(node, "variable") else set()
    todo += [before for before, _ in node.next_functions if before is not None]
print("printed:", drawn, "corrected:", joints(drawings.EDGES))
assert len(z.grad_fn.next_functions) == 2 and any(leaf is noise for leaf in ends)
drawings.draw_diagrams(plt.figure(figsize=(7, 2.2)))

# %% tags=["claims"]
assert drawn == [[], []] and joints(drawings.EDGES) == ["z"]
assert any(leaf is net.encoder[0].weight for leaf in ends)

# %% [markdown]
# Random nodes are orange, losses green. (A picture of a plain autoencoder is what was printed.)
#
# **I08 · letters with two meanings.** A table of what §2.2.2 calls its letters, from the words that stand before them, and from the brackets of
# the formulas. Which letter would a reader of all three parts stumble over?

# %%
called = "生成器G 判别器D 编码器E 解码器D 噪声向量z 真实图像x_r 生成图像x_g 图像x"
formulas = r"\mu, \sigma^2 = E[x \mid x]   x \sim q_\phi(x \mid \mu, \sigma^2)"
meanings = {}
for noun, letter in re.findall(r"([一-鿿]+)([A-Za-z_]+)", called):
    meanings.setdefault(letter, set()).add(noun)
for letter in re.findall(r"([A-Z])\[.*?\\mid", formulas):
    meanings.setdefault(letter, set()).add("条件期望")        # a conditional expectation
for letter in re.findall(r"([a-z]) \\sim", formulas):
    meanings.setdefault(letter, set()).add("随机变量")        # what is drawn from q
clashes = {letter: sorted(nouns) for letter, nouns in meanings.items() if len(nouns) > 1}
print(clashes)

# %% tags=["claims"]
assert set(clashes) == {"D", "E", "x"}

# %% [markdown]
# $D$ is the discriminator of the GAN and the decoder of the VAE; $E$ an encoder and an expectation in one formula; $x$ the given image and what
# is drawn. Here they are $D_\psi$, $\mathrm{Dec}_\theta$, $\mathrm{Enc}_\phi$, $\mathbb E$, and what is drawn is $z$.
#
# **I09 · what VAEs are good at.** The section says that they did well in 图像生成、图像编辑和风格迁移 and gives no source. Style transfer came with the
# statistics of a CNN's features [Gatys et al. 2016; Huang & Belongie 2017], not with VAEs. And the images of plain VAEs are known to be blurry.
# Why should they be? Take an edge that stands anywhere in a row of 16 pixels. Nobody tells where; what should one predict? Guess for the squared
# error (L2, the loss of a decoder with Gaussian pixels), and for the absolute error (L1).

# %%
edges = torch.stack([(torch.arange(16) >= s).float() for s in torch.randint(1, 16, (501,))])
predictions = {}
for name, loss in {"best by L2": F.mse_loss, "best by L1": F.l1_loss}.items():
    line = torch.full((16,), 0.5, requires_grad=True)
    for step in range(300):
        (slope,) = torch.autograd.grad(loss(line.expand_as(edges), edges) * 16, line)
        line = (line - 0.2 / (1 + step / 30) * slope).detach().requires_grad_()
    predictions[name] = line.detach()
drawings.draw_edges(plt.figure(figsize=(7, 1.9)), edges, predictions)
ramp, step = predictions.values()
count_grey = lambda line: ((line > 0.1) & (line < 0.9)).sum().item()
print("pixels that are neither dark nor bright:",
      f"L2 {count_grey(ramp)}, L1 {count_grey(step)}, edges 0")

# %% tags=["claims"]
assert_close(ramp, edges.mean(0), rtol=0, atol=1e-2)
assert count_grey(ramp) > 8 > 3 > count_grey(step) and count_grey(edges[0]) == 0

# %% [markdown]
# The squared error is smallest for the mean of all edges, a ramp, which no image shows. The absolute error is smallest for the median, one sharp edge. That is no cure: it shows
# one position for all edges. In both cases the loss has one answer for many images. So wherever $z$ leaves something open, the best mean image is blurry. Whether our samples are
# blurry is measured in section 6. Today VAEs mostly compress
# images for another generator that works on their codes [van den Oord et al. 2017; Rombach et al. 2022].
#
# ## 5 Train
#
# At the start the decoder cannot use $z$, so the cheapest is to make the KL 0, as above; and there it stays for long, unless the KL weighs
# little for a while, which is how the run of W06 came back. Therefore multiply the KL by a $\beta$ that grows from 0 to 1 over the first half of the steps: a warm-up (预热) [Bowman et al. 2016; Sønderby et al. 2016].
# Is it worth it, and how fast may the steps be? Three short runs, one seed each, judged on the validation images in bits a pixel (less is
# better): $-\mathrm{ELBO}/(64\ln2)$.

# %%
from functools import partial
from vlmbook.training import fit

cost = lambda nats: metrics.bits_per_dimension(nats, pixels).mean().item()
precision = runtime.pick(quick=None, full="bf16")
few, short = images[:runtime.pick(quick=len(images), full=2_000)], runtime.pick(quick=12, full=2)

@torch.no_grad()
def evaluated(net):                          # bits a pixel on validation images
    log_fit, kl = elbo(net, valid.to(net.decoder[0].weight.device))
    return {"fit": cost(log_fit), "kl": cost(-kl), "elbo": cost(log_fit - kl)}

def trained(seed, images, epochs, *, net=None, latent=16, lr=0.01, beta=1.0, warm=True, **options):
    runtime.seed_everything(seed)
    width = runtime.pick(quick=16, full=32)
    net = net or VAE(images.shape[-1], levels=levels, latent=latent, width=width)
    steps, taken = epochs * -(-len(images) // 64), count()
    grown = lambda: beta * (min(1, 2 * next(taken) / steps) if warm else 1)
    history = fit(net, (images,), loss_fn=lambda net, x: elbo_loss(net, x, beta=grown()),
                  epochs=epochs, batch_size=64, lr=lr, warmup=10, seed=seed,
                  precision=precision, **options)
    return net.eval().cpu(), history


# %%
ways = {"lr 0.005": {"lr": 0.005}, "lr 0.01": {}, "lr 0.01, no warm-up": {"warm": False}}
tried = {name: evaluated(trained(0, few, short, progress=False, **way)[0])
         for name, way in ways.items()}
print(*(f"{name}: {x['elbo']:.3f}, of it KL {x['kl']:.3f}" for name, x in tried.items()), sep="\n")

# %% tags=["claims"]
assert not small or (min(tried, key=lambda name: tried[name]["elbo"]) == "lr 0.01" and
                     tried["lr 0.01, no warm-up"]["kl"] < 0.5 * tried["lr 0.01"]["kl"])

# %% [markdown]
# On the digits the larger step with the warm-up is best. Without the warm-up the KL is still small: the code is nearly empty. (In the full profile these three runs only show that
# the code works.) Now three seeds, for longer. Beside them two models without any network, which also learned from the same images: each pixel on its own
# (a histogram of its levels), and one Gaussian with full covariance over all pixels. Do 16 latent numbers beat them?

# %%
epochs = runtime.pick(quick=40, full=12)
nets, histories = zip(*(trained(seed, images, epochs, evaluate=evaluated, progress=seed == 0)
                        for seed in range(3)))
models = {"histogram": pixel_models.PixelHistogram(few, levels),
          "Gaussian": pixel_models.PixelGaussian(images, levels)}
baselines = {name: cost(model.log_likelihood(valid)) for name, model in models.items()}

# %%
curves = [[each["elbo"] for each in history.evaluations] for history in histories]
drawings.draw_curves(plt.figure(figsize=(7, 2.3)), curves, baselines)
last = [curve[-1] for curve in curves]
print(*(f"{name} {bits:.3f}" for name, bits in baselines.items()), sep=", ", end=", VAE ")
print(*(f"{bits:.3f}" for bits in last))

# %% tags=["claims"]
assert max(last) < baselines["histogram"] and (not small or max(last) < baselines["Gaussian"] - 0.1)

# %% [markdown]
# They do, although the ELBO is only a lower bound. The bound becomes tighter with $k$ draws of $z$ [Burda et al. 2015, eq. 8]; with $k=1$ its
# mean is the ELBO:
#
# $$\log p(x)\;\ge\;\mathbb E\,\log\frac1k\sum_{i=1}^{k}\frac{p(x\mid z_i)\,p(z_i)}{q(z_i\mid x)}$$
#
# ### The comparison of chapters 4a, 4b and 4c
#
# The test digits are the same for every model. *Bits* per dimension is $-\log_2p(x)$ divided by the number of pixels (for the VAE by the bound of 100 draws, 20 in full, so the
# truth is a little better). The *Fréchet distance* [Heusel et al. 2017] compares mean and covariance of features; less is better. *Precision* [Kynkäänniemi et al. 2019] is the
# share of samples that lie among real images, *recall* the share of real images that lie among samples. The features are those of a small classifier that knows real digits only:
# it sees what tells digits apart, and little else.
#
# The rules are those of chapter 4a: every row has the same number of images, and of each class as many as the test set has, by the classifier's judgement; ± is over three
# draws. For the VAE, each draw is of another of the three networks, so its ± covers the training too. With 360 images even real ones are not at distance 0: the first row shows
# training images, treated like samples.

# %%
classifier = generation.train_feature_classifier(
    *every, epochs=runtime.pick(quick=12, full=3), precision=precision).cpu()
draws = runtime.pick(quick=100, full=20)

def measured(draw, times=3):                 # -> columns of a row
    return comparison.measure_draws(draw, classifier, test_images, test_labels, draws=times)

def drawer_of(net, make):                    # -> function: int -> images
    return lambda n: make(net.decode(torch.randn(n, 16)).detach())

rows = {"other real images": measured(lambda n: every[0][torch.randint(len(every[0]), (n,))])}
for name, model in models.items():
    bits_of = comparison.measure_bits(model.log_likelihood(test_images), test_images)
    rows[name] = measured(model.sample) | {"bits": bits_of}
for name, make in {"VAE, levels drawn": sample_image, "VAE, mean images": mean_image}.items():
    of_nets = [measured(drawer_of(net, make), 1) for net in nets]
    rows[name] = {key: [each[key][0] for each in of_nets] for key in of_nets[0]}
nats = [log_likelihood(net, test_images, draws) for net in nets]
rows["VAE, levels drawn"]["bits"] = [cost(each) for each in nats]
rows["VAE, levels drawn"]["training s"] = histories[0].seconds
print(comparison.format_draws(rows | comparison.load_published_rows("ch04a", "GAN")))

# %% tags=["claims"]
far_from_real = {name: sum(row["frechet"]) / 3 for name, row in rows.items()}
vaes = [name for name in rows if name.startswith("VAE")]
assert far_from_real["other real images"] < min(far_from_real[name] for name in vaes)
assert max(far_from_real[name] for name in vaes) < far_from_real["histogram"]
by_seed = rows["VAE, levels drawn"]["bits"]
assert max(by_seed) < rows["histogram"]["bits"]
assert not small or max(by_seed) < rows["Gaussian"]["bits"] - 0.15
assert not small or max(far_from_real[name] for name in vaes) < far_from_real["Gaussian"]

# %% [markdown]
# The VAE gives the test digits more probability than both baselines. Its samples are nearer to real digits than those of the baselines, and still far from them. The row of chapter
# 4a's GAN, where it stands there, is a published row of another run, measured by the same rules: it has no bits, since a GAN gives no image a probability. Be careful with
# *precision*: that of the histogram, whose images are noise to us, is high. A few real digits that lie alone have balls so wide that they hold noise too (chapter 4a, section 6).
# The distance tells them apart.
#
# ## 6 See inside
#
# ### Again, and new
#
# Held-out digits; what the decoder makes of their codes, once as the mean of each pixel, once with a level drawn for each pixel; and new images,
# from $z\sim\mathcal N(0,I)$. Guess: which are blurry, which are noisy, and which of them are worse, those made again or the new ones?

# %%
net, n = nets[0], 12
with torch.no_grad():
    again, new = net.decode(net.encode(valid)[0]), net.decode(torch.randn(len(valid), 16))
    others = net.decode(reparameterise(*net.encode(images[:len(valid)])))
views = {"held out": valid, "again, mean": mean_image(again), "again, drawn": sample_image(again),
         "new, mean": mean_image(new), "new, drawn": sample_image(new)}
drawings.draw_rows(plt.figure(figsize=(7, 3.2)), {name: x[:n] for name, x in views.items()})
views["from codes of training images, drawn"] = sample_image(others)

def contrast(x):                             # mean step between neighbours
    return ((x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()) / 2).item()

steps = {name: contrast(x) for name, x in views.items()}
print(*(f"{name} {step:.3f}" for name, step in steps.items()), sep=", ")
distances = {name: generation.score(classifier, views[name], valid)["frechet"]
             for name in [*views][1:]}
print("Fréchet distance:", *(f"{name} {d:.1f}" for name, d in distances.items()), sep="\n  ")
if small:
    assert distances["from codes of training images, drawn"] < 0.6 * distances["new, drawn"]

# %% tags=["claims"]
assert max(steps["again, mean"], steps["new, mean"]) < 0.95 * steps["held out"]
assert steps["new, drawn"] > 1.05 * steps["new, mean"]

# %% [markdown]
# Mean images have less contrast than real ones: blur, as I09 said. Drawn ones have the contrast back, but as noise, since given $z$ each pixel is
# drawn for itself.
#
# New ones are far from digits. (That those made again are near is no wonder, each was made from one of the digits that it is compared with.) Is
# the decoder to blame? Give it codes of *training* images: what it makes of them is much nearer. So it is the $z$: the codes of real images do
# not fill $\mathcal N(0,I)$, which then also draws where the decoder was hardly ever asked. The usual remedy is a second model that learns where
# the codes are [van den Oord et al. 2017; Rombach et al. 2022].
#
# ### A plane of digits
#
# With two latent numbers we can see where. The same training, $Z=2$; then every validation image at its $\mu$, written as its digit, and on the
# right what the decoder makes of each $z$. (The labels were never shown to the network.) Which digits will be neighbours?

# %%
flat, _ = trained(0, images, runtime.pick(quick=30, full=6), latent=2)
codes = flat.encode(valid)[0].detach()
figure = plt.figure(figsize=(7, 3.6))
drawings.draw_plane(figure, flat, codes, valid_labels)
records.picture("ch04b", figure);

# %% [markdown]
# Walk on it. Between two groups, what is decoded: one digit, the other, a mixture? Where is each pixel sure of itself? And how often does the
# nearest neighbour on the plane have the same label (by chance, one time in ten)?

# %%
near = torch.cdist(codes, codes).fill_diagonal_(torch.inf).argmin(1)
same = (valid_labels[near] == valid_labels).float().mean()
print(f"the nearest neighbour has the same label: {same:.0%}")
interact.live(partial(drawings.draw_pad, net=flat, codes=codes, labels=valid_labels),
              z1=(-3.0, 3.0, 0.1), z2=(-3.0, 3.0, 0.1), figsize=(7, 2.9))

# %% tags=["claims"]
assert same > (0.4 if small else 0.3)


# %% [markdown]
# ### Is the bound a bound?
#
# Two numbers can be integrated: a sum of $p(x\mid z)\,p(z)$ over a fine grid is $\log p(x)$ itself. Where do the ELBO and the bounds of 10 and
# 100 draws stand?

# %%
def log_p_by_grid(net, x, side=251, reach=5.0):        # (B, 1, H, W) -> (B,)
    axis = torch.linspace(-reach, reach, side)
    z = torch.cartesian_prod(axis, axis)
    hot = F.one_hot((x * (levels - 1)).round().long(), levels).flatten(1).float()
    given = [net.decode(part).log_softmax(1).movedim(1, -1).flatten(1) @ hot.T
             for part in z.split(4000)]
    prior = -z.square().sum(1) / 2 - torch.tensor(2 * torch.pi).log()
    return (torch.cat(given) + prior[:, None]).logsumexp(0) + 2 * (axis[1] - axis[0]).log()


if small:                                    # 28×28 pixels would need a far finer grid
    with torch.no_grad():
        truth = log_p_by_grid(flat, valid)
        runs = torch.stack([torch.sub(*elbo(flat, valid)) for _ in range(50)])
    bounds = {"ELBO": runs.mean(0), **{f"{k} draws": log_likelihood(flat, valid, k)
                                       for k in (10, 100)}, "log p(x)": truth}
    print(*(f"{name}: {each.mean():.2f} nats" for name, each in bounds.items()), sep="\n")
    means = [each.mean() for each in bounds.values()]
    assert means[0] + 1 < means[1] < means[3] + 0.1 and means[0] + 1 < means[2] < means[3] + 0.1
    assert means[3] - means[2] < (means[3] - means[0]) / 2
    assert (runs.mean(0) < truth + 5 * runs.std(0) / 50**0.5).all()      # of every image

# %% [markdown]
# It is, for each of the images (up to the noise of 50 draws); and 100 draws are nearly there. What is missing at the ELBO is the error of the
# encoder's guess.
#
# ### Between two images
#
# Back to 16 numbers. Go from one validation image to another in equal steps, once through the codes, once by cross-fading pixels. At the middle,
# does the classifier still see a digit? Measure its confidence, over all pairs of images with different labels.

# %%
half = len(valid) // 2
pairs = valid_labels[:half] != valid_labels[half : 2 * half]
a, b = valid[:half][pairs], valid[half : 2 * half][pairs]
with torch.no_grad():
    z_a, z_b = net.encode(a)[0], net.encode(b)[0]
    between = lambda w: mean_image(net.decode((1 - w) * z_a + w * z_b))
    ways = torch.linspace(0, 1, 9).tolist()
    walks = {"codes": [between(w) for w in ways], "pixels": [(1 - w) * a + w * b for w in ways]}
    sure = {name: classifier(walk[4]).softmax(1).amax(1) for name, walk in walks.items()}
drawings.draw_rows(plt.figure(figsize=(7, 2.6)), {
    f"{name}, pair {i}": torch.stack([x[i] for x in walk])
    for i in (0, 1) for name, walk in walks.items()})
print("confidence at the middle:", *(f"{name} {p.mean():.2f}" for name, p in sure.items()))
if small:
    assert sure["codes"].mean() > sure["pixels"].mean() + 0.01

# %% [markdown]
# Through the codes it is a little surer. But it is sure of much that is no digit, too: confidence alone proves little, so look at the rows. The
# lower of each pair shows two digits at once, the upper one stroke that moves.
#
# ## 7 Break it
#
# ### The price of β
#
# What if the KL counts $\beta$ times as much for good [Higgins et al. 2017]? Each of the three networks of section 5 goes on for six epochs, with
# five values of $\beta$. An active latent is one whose own KL is above 0.1 nats on average. Predict, for large and for small $\beta$: the fit,
# the KL, how many are active; and who makes the best *new* images?

# %%
import copy

def active(net):                             # how many latents say something
    mu, logvar = net.encode(valid)
    return (((mu.square() + logvar.exp() - 1 - logvar) / 2).mean(0) > 0.1).sum().item()

sweep, kept = {}, {}
for beta, seed in product((0, 0.2, 1, 4, 16), range(3)):
    twin, _ = trained(seed, few, runtime.pick(quick=6, full=1), net=copy.deepcopy(nets[seed]),
                      lr=5e-3, beta=beta, warm=False, progress=False)
    with torch.no_grad():
        new = twin.decode(torch.randn(len(valid), 16))
        again = twin.decode(twin.encode(valid[:12])[0])
        far = generation.score(classifier, mean_image(new), valid)["frechet"]
        bits = evaluated(twin)
        sweep.setdefault(beta, []).append([bits["fit"], bits["kl"], active(twin), far])
    if seed == 0:
        kept[beta] = mean_image(again), mean_image(new[:12])
sweep = {beta: torch.tensor(each) for beta, each in sweep.items()}

# %%
drawings.draw_trade(plt.figure(figsize=(7, 2.6)), sweep)
print(*(f"β = {beta}: Fréchet distance of new images {x[:, 3].mean():.1f} ± {x[:, 3].std():.1f}"
        for beta, x in sweep.items()), sep="\n")
fits, kls, alive, far = torch.stack([each.mean(0) for each in sweep.values()]).T

# %% tags=["claims"]
assert (fits.diff() > 0).all() and (kls.diff() < 0).all()
assert not small or (alive[0] > 14 and alive[4] < 3 and far[4] > far[:4].max())

# %% [markdown]
# With more weight on the KL, less information is in the code and the fit is worse: the two terms pull against each other. At $\beta=0$ the reconstructions are best. For *new* images
# three seeds show one thing: at $\beta=16$ they are the worst, because the code collapses and all new images are alike. The differences among the other four are about as large
# as the ±. Only at $\beta=1$ the objective is the ELBO. With $\beta>1$ it is still a lower bound of $\log p(x)$, but a looser one. With $\beta<1$ it is no bound. Move $\beta$.

# %%
interact.live(partial(drawings.draw_beta, images=valid[:12], shown=kept), beta=[*kept],
              figsize=(7, 2.1))

# %% [markdown]
# ### Does an unlikely image mean a foreign one?
#
# A model that knows how likely an image is should notice what does not belong: anomaly detection (异常检测). Score each image by bits a pixel, with
# each of the three networks, and ask how often a foreign one has more than a validation digit: the area under the ROC curve (AUC), 1 is perfect,
# 0.5 a coin. Foreign are: digits inverted, mirrored, two on top of each other; faces; blank sheets; and plain vertical bars. Which of them will
# it miss?

# %%
faces = F.interpolate(data.face_patches()[0][:100], size=valid.shape[2:], mode="area")
bars, (height, wide) = torch.zeros(100, 1, *valid.shape[2:]), valid.shape[2:]
for i, (top, length) in enumerate(product(range(10), repeat=2)):
    start, end = height * top // 40, height - height * length // 40     # bars of many lengths
    bars[i, :, start:end, wide * 3 // 8 : wide * 5 // 8] = 1
whole = lambda x: (x * (levels - 1)).round() / (levels - 1)
some = valid[:240]
foreign = {"digits": some, "inverted": 1 - some, "faces": whole(faces),
           "two at once": torch.maximum(*some.chunk(2)), "mirrored": some.flip(3),
           "blank": torch.zeros_like(some[:100]), "bars": bars}
bits = [{name: metrics.bits_per_dimension(log_likelihood(net, x, draws // 5), pixels)
         for name, x in foreign.items()} for net in nets]

from sklearn.metrics import roc_auc_score

drawings.draw_foreign(plt.figure(figsize=(7, 3.2)), foreign, bits[0], known="digits")
auc = {name: torch.tensor([roc_auc_score([0] * len(some) + [1] * len(x),
                                         torch.cat([each["digits"], each[name]])) for each in bits])
       for name, x in foreign.items() if name != "digits"}
print(*(f"AUC of {name}: {x.mean():.2f} ± {x.std():.2f}" for name, x in auc.items()), sep="\n")
if small:
    assert min(auc["inverted"].min(), auc["faces"].min()) > 0.97 and auc["bars"].max() < 0.2
    assert auc["two at once"].mean() > 0.8 and auc["two at once"].mean() < auc["inverted"].mean()
    assert 0.75 < auc["mirrored"].mean() < 0.97 and auc["blank"].min() < 0.9

# %% [markdown]
# Inverted digits and faces are found, two digits at once mostly. Mirrored digits only in part (a mirrored 0 or 8 is a digit, after all). And it
# is blind to what is *simpler* than its own data: a bar costs fewer bits than almost every real digit. A sheet without any ink is not found
# reliably either, and how well depends on the seed. The likelihood asks how cheaply an image can be described, not whether it belongs. On large
# images it is the same, for many kinds of generators [Nalisnick et al. 2019]. Anyone who looks for faults in products with a VAE should try it on
# an empty tray first.

# %%
parts, by_name = ("fit", "kl", "active", "frechet"), {name: x.tolist() for name, x in auc.items()}
trade = {f"beta_{beta}": dict(zip(parts, each.T.tolist())) for beta, each in sweep.items()}
short = {name: each["elbo"] for name, each in tried.items()}
records.record("ch04b", seed=[0, 1, 2], rows=rows, AUC=by_name,
               beta=trade, validation=short);

# %% [markdown]
# ## 8 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch04b.1")` helps in steps, `solution("ch04b.1")` shows one answer.
#
# **1 · Predict.** The encoder answers $\mu=(1,-2,0)$ and $\sigma=(1,1,3)$. What is its KL to $\mathcal N(0,I)$ in nats, to two digits after the
# point? By hand, or with a calculator.

# %%
kl = ...                                     # a number
check("ch04b.1", kl)


# %% [markdown]
# **2 · Derive.** The prior need not be standard. What is $\mathrm{KL}\big(\mathcal N(m,s^2)\,\Vert\,\mathcal N(p,r^2)\big)$ for single numbers?
# With $p=0$ and $r=1$ it has to be the term of the closed form.

# %%
def kl_between(m, s, p, r):                  # means m, p; standard deviations s, r -> nats
    ...


check("ch04b.2", kl_between)


# %% [markdown]
# **3 · Change.** *Free bits* against collapse [Kingma et al. 2016]: a latent number whose KL, averaged over the batch, is below `floor` nats is
# charged `floor`, so that it wins nothing by saying still less. Write this KL term.

# %%
def free_bits(mu, logvar, floor):            # (B, Z), (B, Z), float -> scalar, nats an image
    ...


check("ch04b.3", free_bits)


# %% [markdown]
# **4 · Build.** The bound of $k$ draws, from three tables of logarithms: $\log p(x\mid z_i)$, $\log p(z_i)$ and $\log q(z_i\mid x)$. Mind that
# $\log p(x\mid z_i)$ of a large image may be $-4000$.

# %%
def bound(log_fit, log_prior, log_q):        # (k, B) each -> (B,)
    ...


check("ch04b.4", bound)

# %% [markdown]
# ## 9 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook learns from 8,000 articles of clothing, 28×28 pixels of 256 levels, with twice the width. What the
# published runs measured:

# %% tags=["record"]
records.show("ch04b", "quick")
records.show("ch04b", "full")

# %% [markdown]
# ## 10 What we learned
#
# An image's likelihood is an integral over hidden causes; the ELBO bounds it from below, by how well the encoder guesses the cause.
# The loss has two terms: fit the image, and keep the code near the prior. If the second counts too much, the code collapses; without it, nothing keeps
# the codes where the prior draws.
# Noise enters as an input of its own, so that gradients pass by it; this is far less noisy than the alternative.
# Mean images are blurry because an average is the best guess about what the code leaves open; drawn pixels are noisy instead.
# A high likelihood means cheap to describe. A plain bar is, and it is no digit.
#
# **References.** D. P. Kingma, M. Welling, *Auto-encoding variational Bayes*, ICLR 2014 [2013], arXiv:1312.6114 · R. J. Williams, *Simple
# statistical gradient-following algorithms for connectionist reinforcement learning*, Machine Learning 8, 1992 · Y. Burda, R. Grosse, R.
# Salakhutdinov, *Importance weighted autoencoders*, ICLR 2016 [2015], arXiv:1509.00519 · S. R. Bowman et al., *Generating sentences from a
# continuous space*, CoNLL 2016, arXiv:1511.06349 · C. K. Sønderby, T. Raiko, L. Maaløe, S. K. Sønderby, O. Winther, *Ladder variational
# autoencoders*, NIPS 2016, arXiv:1602.02282 · I. Higgins et al., *beta-VAE: learning basic visual concepts with a constrained variational
# framework*, ICLR 2017 · D. P. Kingma et al., *Improved variational inference with inverse autoregressive flow*, NIPS 2016, arXiv:1606.04934 · A.
# van den Oord, O. Vinyals, K. Kavukcuoglu, *Neural discrete representation learning*, NIPS 2017, arXiv:1711.00937 · R. Rombach et al.,
# *High-resolution image synthesis with latent diffusion models*, CVPR 2022, arXiv:2112.10752 · L. A. Gatys, A. S. Ecker, M. Bethge, *Image style
# transfer using convolutional neural networks*, CVPR 2016 · X. Huang, S. Belongie, *Arbitrary style transfer in real-time with adaptive instance
# normalization*, ICCV 2017, arXiv:1703.06868 · M. Heusel et al., *GANs trained by a two time-scale update rule converge to a local Nash
# equilibrium*, NIPS 2017, arXiv:1706.08500 · T. Kynkäänniemi et al., *Improved precision and recall metric for assessing generative models*,
# NeurIPS 2019, arXiv:1904.06991 · E. Nalisnick et al., *Do deep generative models know what they don't know?*, ICLR 2019, arXiv:1810.09136 · H.
# Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST*, 2017, arXiv:1708.07747.
