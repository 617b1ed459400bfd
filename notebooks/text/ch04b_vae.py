# %% [markdown]
# # 4b · VAE (变分自编码器)
#
# *Book: §2.2.2 (2), 变分自编码器（VAE）*
#
# **How can a network describe an image by a few numbers, and then make new images from new numbers?**
#
# After this chapter you can
#
# - say why a plain autoencoder (自编码器) is not a generator, and what a variational autoencoder adds,
# - derive the bound that a VAE is trained with, and its KL term,
# - build a VAE: encoder, noise input, decoder, loss,
# - train it, walk through its latent space, and measure the quality of its samples,
# - say why these samples are blurred, and what the likelihood of a VAE is good for.
#
# You need these terms: convolution, stride and transposed convolution ([chapter 3a](ch03a_convolution_and_pooling.ipynb)), generator, binary
# cross-entropy, Fréchet distance, precision and recall ([chapter 4a](ch04a_gan.ipynb)). The density of the normal distribution (正态分布) and its mean are
# also used.
#
# The core path takes 40 minutes: sections 1 to 8. The sections headed *Going deeper* are not part of it. Run all cells from top to bottom. The first
# cell prints the time and the memory of a whole run. It also shows the main result of the published run: clothes of 28×28 pixels that a VAE
# reconstructs, the way from one of them to another, and new samples. The samples are blurred, and section 7 explains why.

# %% tags=["record"]
import math
from functools import partial
import matplotlib.pyplot as plt
import torch
from torch import nn
from vlmbook import data, generation, metrics, pixel_models, plot, pretrained, runtime, vae
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
    plot.gallery([data.read_image(published, channels=3)], width=7.162);

# %% [markdown]
# ## 1 The data
#
# We train on the 1,797 digits of chapter 3a, 8×8 pixels, because that takes seconds. Each pixel has one of 17 levels: 0, 1/16, …, 1. So an image is a
# list of 64 whole numbers, and a model can give it a probability. The digits are split into three parts. The network learns from the training set
# (训练集). The validation set (验证集) is for everything that we look at on the way. The test set (测试集) is used only once, in section 8. Section 7 uses
# weights that come with this package and were trained on Fashion-MNIST [Xiao et al. 2017], 28×28 pixels. With `VLMBOOK_PROFILE=full` the whole
# notebook trains on Fashion-MNIST, with 256 levels.

# %%
every, (valid, valid_labels) = data.hold_out(*data.digits_or_fashion("train"), share=1 / 6)
images, labels = (part[:8_000] for part in every)
valid, valid_labels = valid[:400], valid_labels[:400]
test_images, test_labels = (part[:1000] for part in data.digits_or_fashion("test"))
size = images.shape[-1]                      # 8, or 28 in the full profile
small, pixels = size < 16, size * size
levels = 17 if small else 256
print(f"training {len(images)}, validation {len(valid)}, test {len(test_images)}")
plot.gallery(images[:12]);

# %% [markdown]
# ## 2 Why a plain autoencoder is not a generator
#
# An **autoencoder** has two networks. The encoder (编码器) turns an image into a few numbers $z$, here 16. They are called the code, or the latent (潜变量).
# The decoder (解码器) turns $z$ into an image. Both are trained together, and the target is the image itself.
#
# The encoder gets the pixels as $2x-1$, from −1 to 1. Each of its two convolutions of stride 2 halves height and width. Each of the two transposed
# convolutions of the decoder doubles them. The last layer gives 17 logits (对数几率) for each pixel, one for each level. The softmax of these logits is a
# distribution $p(x\mid z)$ over images. We show its mean: the expected level of each pixel. The loss function (损失函数) is $-\log p(x\mid z)$ of the
# training image $x$, which is the cross-entropy (交叉熵) of all pixels together.

# %%
latent, width = 16, runtime.pick(quick=16, full=32)

def start_well(layers):                      # initial weights of He et al., before a ReLU
    for layer in layers[:-1]:
        if hasattr(layer, "weight"):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layers

def make_encoder(outputs):                   # (B, 1, H, W) -> (B, outputs)
    return start_well(nn.Sequential(
        nn.Conv2d(1, width, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(2 * width * (size // 4) ** 2, outputs)))

def make_decoder(latent):                    # (B, latent) -> (B, levels, H, W), logits
    return start_well(nn.Sequential(
        nn.Linear(latent, 2 * width * (size // 4) ** 2), nn.ReLU(),
        nn.Unflatten(1, (2 * width, size // 4, size // 4)),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(width, width, 4, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(width, levels, 3, padding=1)))


sizes = {"levels": levels, "latent": latent, "width": width}
drawings.draw_network(plt.figure(figsize=(7, 2.2)), (size, size), **sizes, variational=False)

# %% [markdown]
# We train the autoencoder for 40 epochs (轮次). Then we decode two kinds of codes: the codes of validation images, and codes that are drawn from
# $\mathcal N(0,I)$, 16 independent normal numbers. **Which images do you expect in the last row?**

# %%
from vlmbook.training import fit

class Autoencoder(nn.Module):                # (B, 1, H, W) -> (B, levels, H, W)
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = make_encoder(latent), make_decoder(latent)

    def forward(self, x):
        return self.decoder(self.encoder(2 * x - 1))

def cross_entropy(net, x):                   # -> scalar: nats an image
    logits, target = net(x), (x[:, 0] * (levels - 1)).round().long()
    return nn.functional.cross_entropy(logits, target, reduction="sum") / len(x)

runtime.seed_everything(0)
autoencoder = Autoencoder()
epochs, precision = runtime.pick(quick=(40, None), full=(12, "bf16"))
fit(autoencoder, (images,), loss_fn=cross_entropy, epochs=epochs, batch_size=64, lr=0.01,
    warmup=10, precision=precision, progress=False)
autoencoder = autoencoder.cpu().eval()


# %%
@torch.no_grad()
def mean_of(decoder, z):                     # -> (B, 1, H, W): the expected level of each pixel
    scale = torch.linspace(0, 1, levels)[:, None, None]
    return (decoder(z).softmax(1) * scale).sum(1, keepdim=True)


with torch.no_grad():
    plain_codes = autoencoder.encoder(2 * images - 1)
    valid_codes = autoencoder.encoder(2 * valid - 1)
drawn = torch.randn(10, latent)
drawings.draw_rows(plt.figure(figsize=(7, 2.1)), {
    "validation images": valid[:10],
    "reconstructions": mean_of(autoencoder.decoder, valid_codes[:10]),
    "z from N(0, I)": mean_of(autoencoder.decoder, drawn)})
spread = plain_codes.std(0)
print(f"std of a latent number over the training images: {spread.min():.1f} to {spread.max():.1f}")

# %% tags=["claims"]
assert not small or spread.min() > 1.5

# %% [markdown]
# The reconstructions are good, and the images in the last row are not digits. The loss does not say where the codes should lie. So we do not know from
# which distribution we have to draw $z$: here the codes are spread much wider than $\mathcal N(0,I)$. A generator (生成器) needs a distribution that we
# can draw from, and a decoder that is trained on it. The VAE gives both. It also gives each image a likelihood (似然).
#
# ## 3 A model with a latent variable
#
# ### The likelihood is an integral
#
# Suppose that each image has a cause that nobody sees: which digit it is, how wide, how slanted. This cause is the latent variable $z$. The model
# draws an image in two steps:
#
# 1. draw $z$ from the prior (先验) $p(z)=\mathcal N(0,I)$;
# 2. draw the image from $p(x\mid z)$, which the decoder computes from $z$.
#
# The image may have come from any $z$. So the likelihood of the image is the mean of $p(x\mid z)$ over all $z$ of the prior:
#
# $$p(x)=\int p(x\mid z)\,p(z)\,\mathrm dz .$$
#
# With one latent number we can compute this integral as a sum over a grid. Take images of three pixels that are 0 or 1, and the decoder
# $p(x_i=1\mid z)=\mathrm{sigmoid}(w_iz+b_i)$. There are eight such images. **What is the sum of their likelihoods?**

# %%
from itertools import product

grid = torch.linspace(-8, 8, 3201)[:, None]
prior_weight = (-grid.square() / 2).softmax(0)[:, 0]   # p(z) times the step of the grid
p_one = torch.sigmoid(grid * torch.tensor([4.0, 2.0, -3.0]) + torch.tensor([0.0, -2.0, 1.0]))
toy = {}
for image in product((0, 1), repeat=3):
    p_given_z = torch.where(torch.tensor(image) > 0, p_one, 1 - p_one).prod(1)
    toy[image] = (p_given_z * prior_weight).sum().item()
print(*(f"p{image} = {p:.4f}" for image, p in toy.items()), sep="\n")
print("sum", round(sum(toy.values()), 3))

# %% [markdown]
# The sum is 1, because $p(x)$ is a distribution over images. With 16 latent numbers a grid is impossible: ten points for each number make $10^{16}$
# points. Random draws from the prior do not help either, because most $z$ explain a given image badly.
#
# ### A lower bound, in three lines
#
# The useful $z$ of an image are described by the posterior (后验) $p(z\mid x)$, which we do not know. We replace it by a distribution $q(z)$ that we
# choose. By the definition of conditional probability, for every $z$
#
# $$\log p(x)=\log p(x,z)-\log p(z\mid x)
# =\log\frac{p(x,z)}{q(z)}+\log\frac{q(z)}{p(z\mid x)} .$$
#
# The left side does not depend on $z$. So we may take the mean over $z\sim q$ on the right side, and use $p(x,z)=p(x\mid z)\,p(z)$:
#
# $$\log p(x)=\underbrace{\mathbb E_{q}\big[\log p(x\mid z)\big]-\mathrm{KL}\big(q(z)\,\Vert\,p(z)\big)}_{\mathrm{ELBO}}
# +\underbrace{\mathrm{KL}\big(q(z)\,\Vert\,p(z\mid x)\big)}_{\text{gap}} .$$
#
# Here $\mathrm{KL}(q\Vert p)=\mathbb E_q[\log q-\log p]$ is the Kullback-Leibler divergence (KL 散度). It is never negative: since $\log t\le t-1$, we
# have $-\mathrm{KL}(q\Vert p)=\mathbb E_q\log\frac pq\le\mathbb E_q\big[\frac pq-1\big]=\int p-1=0$. So the first two terms are a lower bound of
# $\log p(x)$. It is called the **evidence lower bound** (证据下界, ELBO) [Kingma & Welling 2013, eqs. 1-3]. The gap is 0 only for $q(z)=p(z\mid x)$.
#
# The cell tries 78 normal distributions $q=\mathcal N(\mu,\sigma^2)$ for the toy image $(1,1,0)$, and computes the ELBO and the gap on a grid.

# %%
tries = list(product(torch.linspace(-3, 3, 13).tolist(), [0.2, 0.4, 0.6, 0.8, 1.2, 2.0]))
log_p, elbos, gaps = torch.tensor([experiments.toy_bound(*each) for each in tries]).T
best = elbos.argmax()
print(f"log p(x) = {log_p[0]:.3f}")
print(f"best ELBO = {elbos[best]:.3f}, gap {gaps[best]:.3f}, at (mu, sigma) = {tries[best]}")

# %% tags=["claims"]
assert abs(log_p[0].exp() - toy[1, 1, 0]) < 1e-3 > abs(sum(toy.values()) - 1)
torch.testing.assert_close(elbos + gaps, log_p, rtol=0, atol=1e-3)
assert (elbos < log_p).all() and 0 < gaps.min() < 0.1

# %% [markdown]
# The ELBO is below $\log p(x)$ in all 78 cases, and ELBO plus gap is $\log p(x)$. Make the gap small with the sliders. **Why does it not become 0?**

# %%
interact.live(drawings.draw_bound, mu=(-2.0, 2.0, 0.1), sigma=(0.2, 2.0, 0.1), figsize=(7, 2.7))

# %% [markdown]
# A normal distribution is symmetric, and this posterior is not. So no normal $q$ is equal to it.
#
# A VAE does this for all images at once. Its encoder reads $x$ and gives $\mu$ and $\sigma$ of the distribution $q_\phi(z\mid x)$. Encoder and decoder
# are trained together to make the ELBO large. This raises $\log p(x)$ or reduces the gap.
#
# ## 4 The three parts of the loss
#
# ### The KL term
#
# Let $q=\mathcal N(\mu,\sigma^2)$ and $p=\mathcal N(0,1)$ for one latent number. The terms $\frac12\log2\pi$ of the two log densities cancel:
#
# $$\log q(z)-\log p(z)=-\tfrac12\log\sigma^2-\tfrac{(z-\mu)^2}{2\sigma^2}+\tfrac{z^2}2 .$$
#
# Take the mean over $z\sim q$, with $\mathbb E[(z-\mu)^2]=\sigma^2$ and $\mathbb E[z^2]=\mu^2+\sigma^2$. The KL terms of independent latent numbers add
# up. So for $Z$ latent numbers [Kingma & Welling 2013, appendix B]
#
# $$\mathrm{KL}(q\Vert p)=\tfrac12\sum_{k=1}^{Z}\big(\mu_k^2+\sigma_k^2-1-\log\sigma_k^2\big).$$
#
# By hand, for $\mu=(1,-0.5)$ and $\sigma^2=(1,1)$: $\frac12(1+1-1-0)+\frac12(0.25+1-1-0)=0.625$ nats (奈特). The cell compares the formula with a mean
# over random draws, which is called a Monte Carlo estimate (蒙特卡洛估计). **How many draws give two correct digits?**

# %%
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

def kl_loops(mu, logvar):                    # (Z,), (Z,) -> number; logvar is log sigma²
    return sum(m**2 + v.exp() - 1 - v for m, v in zip(mu, logvar)) / 2


mu, logvar = torch.tensor([1.0, -0.5, 0.0]), torch.tensor([-1.0, 0.5, -3.0])
exact = kl_loops(mu, logvar)
q, p = Normal(mu, (logvar / 2).exp()), Normal(torch.zeros(3), torch.ones(3))
z = q.sample((100_000,))
log_ratio = (q.log_prob(z) - p.log_prob(z)).sum(1)
for n in (10, 100, 1000, 10_000, 100_000):
    print(f"{n:7,} draws: {log_ratio[:n].mean():.3f} ± {log_ratio.std() / n**0.5:.3f}")
print(f"closed form: {exact:.3f} nats")

# %% tags=["claims"]
torch.testing.assert_close(exact, vae.kl_to_standard_normal(mu[None], logvar[None])[0])
torch.testing.assert_close(exact, kl_divergence(q, p).sum())
assert abs(kl_loops(torch.tensor([1.0, -0.5]), torch.zeros(2)) - 0.625) < 1e-6
assert abs(log_ratio.mean() - exact) < 5 * log_ratio.std() / 100_000**0.5 < 0.05

# %% [markdown]
# The ± is the standard error (标准误). It falls with the square root of the number of draws: ten thousand draws give two correct digits. A smaller number
# may come close by luck. The closed form needs no draws.
#
# ### The pixel term
#
# The term $-\log p(x\mid z)$ depends on the distribution that we choose for the pixels. Three choices are common. Each is a loss that you know.
#
# | decoder | it gives for each pixel | $-\log p(x\mid z)$ |
# | --- | --- | --- |
# | categorical (分类分布) | a softmax over the levels | cross-entropy |
# | Bernoulli (伯努利分布), two levels | the probability $m$ of level 1 | $-\sum_i\big(x_i\log m_i+(1-x_i)\log(1-m_i)\big)$, the binary cross-entropy (BCE) |
# | Gaussian (高斯分布), fixed variance $v$ | the mean $m$ | $\frac1{2v}\sum_i(x_i-m_i)^2+\text{constant}$, the squared error (MSE) |
#
# With the Gaussian decoder the variance $v$ matters: a small $v$ makes the squared error heavy against the KL term. So "MSE plus KL" without a weight
# means $v=\frac12$ for a summed squared error. This chapter uses the categorical decoder for digits and the Bernoulli decoder for clothes.

# %%
x = torch.tensor([0.0, 1.0, 1.0, 0.0])       # four pixels
m = torch.tensor([0.2, 0.7, 0.9, 0.4])       # what the decoder gives
v = 0.1
squared_error = (x - m).square().sum()
pairs = {
    "Gaussian": (-Normal(m, v**0.5).log_prob(x).sum(),
                 squared_error / (2 * v) + len(x) / 2 * math.log(2 * math.pi * v)),
    "Bernoulli": (-Bernoulli(m).log_prob(x).sum(),
                  nn.functional.binary_cross_entropy(m, x, reduction="sum")),
}
for name, (by_distribution, by_loss) in pairs.items():
    print(f"{name}: −log p(x | z) = {by_distribution:.4f}, from the usual loss {by_loss:.4f}")

# %% tags=["claims"]
for by_distribution, by_loss in pairs.values():
    torch.testing.assert_close(by_distribution, by_loss)


# %% [markdown]
# ### The noise
#
# The ELBO has the mean $\mathbb E_q[\log p(x\mid z)]$. Each training step uses one draw of $z$ for each image. This is enough, if the gradient is
# right on average. But $z$ is random: what is its derivative with respect to $\mu$ and $\sigma$? The **reparameterisation trick** (重参数化技巧) [Kingma &
# Welling 2013, section 2.4] writes the draw as
#
# $$z=\mu+\sigma\odot\epsilon,\qquad\epsilon\sim\mathcal N(0,I).$$
#
# Now the random part $\epsilon$ is an input that depends on nothing, and $z$ is an ordinary function of $\mu$ and $\sigma$: $\partial z/\partial\mu=1$
# and $\partial z/\partial\sigma=\epsilon$. For $\mu=1$, $\sigma=0.5$ and $\epsilon=-0.4$ this gives $z=0.8$. Section 10 compares it with the other way
# to get a gradient.
#
# ## 5 The network
#
# The VAE has the layers of section 2, with two differences. The encoder gives $2Z$ numbers: $\mu$ and $\log\sigma^2$. The logarithm is used because the
# output of a linear layer may be negative, and a variance may not. The noise $\epsilon$ enters between encoder and decoder. In the drawing below, the
# two terms of the loss are green, and the random parts are orange.

# %%
class OurVAE(nn.Module):                     # (B, 1, H, W) -> logits, mu, logvar
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = make_encoder(2 * latent), make_decoder(latent)

    def encode(self, x):                     # -> (B, Z), (B, Z)
        return self.encoder(2 * x - 1).chunk(2, dim=1)

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = mu + (logvar / 2).exp() * torch.randn_like(mu)
        return self.decoder(z), mu, logvar


ours, four = OurVAE(), valid[:4]
torch.manual_seed(1)
logits, mu, logvar = ours(four)
print("logits", tuple(logits.shape), "mu", tuple(mu.shape), "logvar", tuple(logvar.shape))
drawings.draw_network(plt.figure(figsize=(7, 2.2)), (size, size), **sizes)


# %% [markdown]
# The loss is minus the ELBO, averaged over the batch (批次). Let $p_i$ be the distribution that the decoder gives for pixel $i$. The loss of one image is
#
# $$-\sum_i\log p_i(x_i)\;+\;\tfrac12\sum_k\big(\mu_k^2+\sigma_k^2-1-\log\sigma_k^2\big).$$
#
# The cell computes it pixel by pixel. `vlmbook.vae.VAE` has the same layers for images of any size, and the same parameter names. So it can load our
# weights, and with the same noise it must give the same loss and the same gradients. The values are also compared with the distributions of PyTorch.

# %%
def elbo_loops(logits, x, mu, logvar):       # -> number: the mean over the batch
    total = 0
    for b, i, j in product(range(len(x)), range(size), range(size)):
        p_level = logits[b, :, i, j].softmax(0)
        total += p_level[round(x[b, 0, i, j].item() * (levels - 1))].log()
    for b in range(len(x)):
        total -= kl_loops(mu[b], logvar[b])
    return total / len(x)


theirs = vae.VAE(size, **sizes)
theirs.load_state_dict(ours.state_dict())
loss = -elbo_loops(logits, four, mu, logvar)
torch.manual_seed(1)
package_loss = vae.elbo_loss(theirs, four)
print(f"by loops {loss:.3f}, package {package_loss:.3f} nats an image")

# %% tags=["claims"]
target = (four[:, 0] * (levels - 1)).round()
log_fit = Categorical(logits=logits.movedim(1, -1)).log_prob(target).sum((1, 2))
kl = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(1)
torch.testing.assert_close(loss, (kl - log_fit).mean())
torch.testing.assert_close(loss, package_loss)
slopes = [torch.autograd.grad(y, coder.parameters(), retain_graph=True)
          for y, coder in ((loss, ours), (package_loss, theirs))]
torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-4)

# %% [markdown]
# ## 6 Training
#
# At the start the decoder cannot use $z$ yet. The fastest way to a smaller loss is then to make the KL term 0: $\mu=0$ and $\sigma=1$ for every image.
# Then the code says nothing about the image. This is called posterior collapse (后验坍塌). A warm-up (预热) helps against it: the KL term is multiplied by
# $\beta$, which grows from 0 to 1 over the first half of the steps [Bowman et al. 2016; Sønderby et al. 2016]. Exercise 5 measures whether the warm-up
# helps here. (The argument `warmup=10` of `fit` is a different warm-up: the learning rate grows over the first 10 steps.)

# %%
import time
from itertools import count

def bits_of(nats):                           # (N,) -> float: mean bits a pixel
    return metrics.bits_per_dimension(nats, pixels).mean().item()

@torch.no_grad()
def evaluated(net):                          # bits a pixel on validation images
    log_fit, kl = vae.elbo(net, valid.to(net.decoder[0].weight.device))
    return {"pixel term": bits_of(log_fit), "KL": bits_of(-kl), "ELBO": bits_of(log_fit - kl)}

def trained(seed, epochs, *, images=images, net=None, latent=latent, lr=0.01, beta=1.0, warm=True,
            **options):                      # -> VAE in evaluation mode, History
    runtime.seed_everything(seed)
    net = vae.VAE(size, levels=levels, latent=latent, width=width) if net is None else net.train()
    steps, taken = epochs * math.ceil(len(images) / 64), count()

    def loss_fn(net, x):
        share = min(1, 2 * next(taken) / steps) if warm else 1
        return vae.elbo_loss(net, x, beta=beta * share)

    history = fit(net, (images,), loss_fn=loss_fn, epochs=epochs, batch_size=64, lr=lr, warmup=10,
                  seed=seed, precision=precision, progress=False, **options)
    return net.eval().cpu(), history


# %% [markdown]
# We train three networks with three seeds, 40 epochs each. The measure is $-\mathrm{ELBO}/(64\ln2)$, in bits a pixel, on validation images; less is
# better. The **baselines** (基线) are two models without a network, which learn from the same images (the histogram from at most 2,000 of them):
#
# - a histogram of the levels for each pixel, all pixels independent;
# - one normal distribution over all pixels, with the mean and the covariance (协方差) of the training images. The probability of a level is the probability
#   of the interval from half a level below to half a level above.
#
# **Will 16 latent numbers beat the full covariance?**

# %%
began = time.process_time()
runs = [trained(seed, epochs, evaluate=evaluated) for seed in range(3)]
nets, histories = zip(*runs)
seconds = (time.process_time() - began) / 3  # of the processor, for one network
few = images[:2000]
models = {"histogram": pixel_models.PixelHistogram(few, levels),
          "Gaussian": pixel_models.PixelGaussian(images, levels)}
baselines = {name: bits_of(model.log_likelihood(valid)) for name, model in models.items()}
curves = [[each["ELBO"] for each in history.evaluations] for history in histories]
drawings.draw_curves(plt.figure(figsize=(7, 2.3)), curves, baselines)
last = [curve[-1] for curve in curves]
print(*(f"{name}: {bits:.3f} bits a pixel" for name, bits in baselines.items()), sep="\n")
print("VAE, three seeds:", *(f"{bits:.3f}" for bits in last))

# %% tags=["claims"]
assert max(last) < baselines["histogram"]
assert not small or max(last) < baselines["Gaussian"] - 0.1

# %% [markdown]
# All three VAEs need fewer bits than both baselines. The ELBO is only a lower bound of $\log p(x)$, so their true number of bits is even smaller.
# Section 8 shows samples of the first network and measures all three.
#
# ## 7 The same at full size
#
# This VAE has the same layers, for images of 28×28 pixels, with 20 latent numbers and a Bernoulli decoder. It was trained on the 60,000 training images
# of Fashion-MNIST, and its weights come with this package. This notebook does not download Fashion-MNIST. So we encode images that another generator
# made, the flow model of [chapter 4d](ch04d_flow_matching.ipynb). The VAE has never seen these images. In the loss, a grey pixel of 0.3 counts as 0.3
# times level 1 plus 0.7 times level 0. So the nats of this VAE cannot be compared with the bits of section 6.

# %%
state, card = pretrained.ours("ch06b_fashion_vae")
fashion = vae.VAE((28, 28), levels=2, latent=20)
fashion.load_state_dict(state)
fashion = fashion.eval()
print(f"trained for {card['hours']} hours on a CPU")
print(*(f"{name}: {value}" for name, value in card["quality"].items()), sep="\n")
drawings.draw_network(plt.figure(figsize=(7, 2.2)), (28, 28), levels=2, latent=20, width=32)

# %% [markdown]
# The first two rows of the figure show ten generated articles of clothing and their reconstructions from $\mu$. The three middle rows go from one code
# to another in equal steps, $z=(1-t)\,\mu_a+t\,\mu_b$. The last row shows ten new samples, decoded from $z\sim\mathcal N(0,I)$. **Compare the rows:
# which details are lost?**

# %%
clothes = experiments.draw_clothes(torch.arange(10).repeat(4), seed=1)
with torch.no_grad():
    mu = fashion.encode(clothes)[0]
steps = torch.linspace(0, 1, 10)[:, None]
walks = {"T-shirt to boot": (0, 9), "trousers to dress": (1, 3), "sandal to bag": (5, 8)}
codes = {name: (1 - steps) * mu[a] + steps * mu[b] for name, (a, b) in walks.items()}
torch.manual_seed(0)
new = experiments.decode_means(fashion, torch.randn(40, 20))
again = experiments.decode_means(fashion, mu)
figure = plt.figure(figsize=(7, 4.1))
drawings.draw_rows(figure, {
    "input": clothes[:10], "reconstruction": again[:10],
    **{name: experiments.decode_means(fashion, z) for name, z in codes.items()},
    "new samples": new[:10]})
records.picture("ch04b", figure);

# %% [markdown]
# Form, sleeves, legs and handles come back. Prints, seams and straps are lost: the reconstructions and the samples are **blurred** (模糊). Some new
# samples are no clothes at all. On the way between two codes the form changes step by step.
#
# ### Is it better than mixing pixels?
#
# The simplest way from one image to another is a mixture of pixels, $(1-t)\,a+t\,b$. It is the baseline here. Move $t$. **How do the two rows differ
# at $t=0.5$?**

# %%
pairs_of = torch.tensor([[0, 9], [1, 3], [2, 7], [5, 8], [8, 9], [6, 3]])
first, second = clothes[pairs_of].unbind(1)

def draw_between(figure, t=0.5):
    z = (1 - t) * mu[pairs_of[:, 0]] + t * mu[pairs_of[:, 1]]
    drawings.draw_rows(figure, {
        "start": first, "decoded codes": experiments.decode_means(fashion, z),
        "mixed pixels": (1 - t) * first + t * second, "end": second})


interact.live(draw_between, t=(0.0, 1.0, 0.1), figsize=(5.2, 3.4))

# %% [markdown]
# At $t=0.5$ the mixture of pixels shows both images at once, one through the other. The decoded codes show one blurred form between both. This form is
# not always an article of clothing: between T-shirt and boot it has parts of both.
#
# ### Why is the image blurred?
#
# The code has only 20 numbers, with noise, and the image has 784 pixels. So the code leaves many details open, such as the exact position of an edge.
# Take a row of 16 pixels with an edge that may be at any position. The loss wants one prediction for all of them. **Which prediction has the smallest
# squared error, and which has the smallest absolute error?**

# %%
edges = torch.stack([(torch.arange(16) >= s).float() for s in torch.randint(1, 16, (501,))])
losses = {"best by squared error": nn.functional.mse_loss,
          "best by absolute error": nn.functional.l1_loss}
predictions = {}
for name, loss_of in losses.items():
    line = torch.full((16,), 0.5, requires_grad=True)
    for step in range(300):
        (slope,) = torch.autograd.grad(16 * loss_of(line.expand_as(edges), edges), line)
        line = (line - 0.2 / (1 + step / 30) * slope).detach().requires_grad_()
    predictions[name] = line.detach()
drawings.draw_edges(plt.figure(figsize=(7, 1.9)), edges, predictions)

def contrast(x):                             # mean absolute step between neighbouring pixels
    return ((x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()) / 2).item()

shown = {"input": clothes, "reconstruction": again, "new samples": new}
sharpness = {name: contrast(x) for name, x in shown.items()}
print(*(f"contrast of {name}: {value:.3f}" for name, value in sharpness.items()), sep="\n")

# %% tags=["claims"]
ramp, edge = predictions.values()
torch.testing.assert_close(ramp, edges.mean(0), rtol=0, atol=1e-2)
assert ((ramp > 0.1) & (ramp < 0.9)).sum() > 8 > 3 > ((edge > 0.1) & (edge < 0.9)).sum()
assert max(sharpness["reconstruction"], sharpness["new samples"]) < 0.85 * sharpness["input"]

# %% [markdown]
# The squared error is smallest for the mean of all edges. This is a ramp, which no image of the data shows. The cross-entropy of a Bernoulli decoder has
# the same best prediction, the mean. The absolute error is smallest for the median (中位数), which is one sharp edge. The absolute error is no cure: its
# prediction shows one position of the edge for all images. With each of these losses one prediction stands for many images. Our VAE shows the mean, so
# its image is blurred wherever the code leaves something open. The measured contrast agrees: reconstructions and samples have less contrast than the
# input.
#
# ## 8 Quality of the samples
#
# ### Reconstructions and new digits
#
# Back to the digits. The decoder gives a distribution for each pixel. We can show its *mean*, or we can *draw* a level for each pixel. **Which of the
# rows are blurred, and which are noisy?**

# %%
net, n = nets[0], len(valid)
with torch.no_grad():
    rebuilt, fresh = net.decode(net.encode(valid)[0]), net.decode(torch.randn(n, latent))
views = {"validation images": valid, "reconstructions, mean": vae.mean_image(rebuilt),
         "reconstructions, drawn": vae.sample_image(rebuilt),
         "new, mean": vae.mean_image(fresh), "new, drawn": vae.sample_image(fresh)}
drawings.draw_rows(plt.figure(figsize=(7, 3.2)), {name: x[:12] for name, x in views.items()})
contrasts = {name: contrast(x) for name, x in views.items()}
print(*(f"contrast of {name}: {value:.3f}" for name, value in contrasts.items()), sep="\n")

# %% tags=["claims"]
means = contrasts["reconstructions, mean"], contrasts["new, mean"]
assert max(means) < 0.95 * contrasts["validation images"]
assert contrasts["new, drawn"] > 1.05 * contrasts["new, mean"]

# %% [markdown]
# The mean images have less contrast than real ones: they are blurred. The drawn images have the contrast of real ones, but it is noise (噪声): the
# levels of the pixels are drawn independently, given $z$. And the new digits look worse than the reconstructions.
#
# ### Where do the codes lie?
#
# Is the decoder responsible for the bad new digits, or the distribution of $z$? We keep the decoder and change only the distribution of $z$:
#
# - $\mathcal N(0,I)$, the prior;
# - one normal distribution, fitted to the codes of the training images (*1 fitted*);
# - a mixture of ten normal distributions (高斯混合模型), fitted to the same codes (*10 fitted*).
#
# The plain autoencoder of section 2 gets the same three distributions, so it is a fair baseline. The measure is the Fréchet distance of chapter 4a to
# the validation images, in the features of a classifier of real digits: mean ± standard deviation of three draws. One network of each kind was
# trained, so the ± does not cover the training.

# %%
from sklearn.mixture import GaussianMixture

classifier = generation.train_feature_classifier(
    *every, epochs=runtime.pick(quick=12, full=3), precision=precision).cpu()
with torch.no_grad():
    vae_codes = vae.reparameterise(*net.encode(images))
coders = {"VAE": (lambda z: vae.mean_image(net.decode(z)), vae_codes),
          "autoencoder": (partial(mean_of, autoencoder.decoder), plain_codes)}
sources, shown = {}, {}
for draw, (name, (decode, z)) in product(range(3), coders.items()):
    runtime.seed_everything(draw)
    z_of = {"N(0, I)": torch.randn(n, latent)}
    for k in (1, 10):
        mixture = GaussianMixture(k, reg_covar=1e-3, random_state=draw).fit(z.double().numpy())
        z_of[f"{k} fitted"] = torch.from_numpy(mixture.sample(n)[0]).float()
    for source, drawn in z_of.items():
        with torch.no_grad():
            x = decode(drawn)
        shown[f"{name}, {source}"] = x[:: n // 12][:12]          # of all components
        far = generation.score(classifier, x, valid)["frechet"]
        sources.setdefault(f"{name}, {source}", []).append(far)
drawings.draw_rows(plt.figure(figsize=(7, 3.4)), shown)
for name, far in sources.items():
    print(f"{name}: {torch.tensor(far).mean():.1f} ± {torch.tensor(far).std():.1f}")

# %% tags=["claims"]
distance_of = {name: sum(far) / 3 for name, far in sources.items()}
if small:
    assert distance_of["autoencoder, N(0, I)"] > 2 * distance_of["VAE, N(0, I)"]
    for name in coders:
        assert distance_of[f"{name}, 10 fitted"] < 0.6 * distance_of[f"{name}, N(0, I)"]

# %% [markdown]
# - With $\mathcal N(0,I)$, the autoencoder is far worse than the VAE. The loss of the VAE keeps the codes near the prior, and the loss of the
#   autoencoder does not.
# - With a distribution that is fitted to the codes, both become better. So the codes of the VAE do not fill $\mathcal N(0,I)$ either: the prior also
#   draws $z$ where hardly any code of an image lies.
# - With the mixture, the distances are the smallest. Here the plain autoencoder is not worse than the VAE.
#
# The decoder is the same in all three rows of a network. So most of the distance of the new digits comes from the distribution of $z$. A second model
# that learns where the codes lie is the usual remedy [van den Oord et al. 2017; Rombach et al. 2022]. Two advantages of the VAE remain: it draws
# samples without a second model, and it gives a bound of the likelihood.
#
# ### The comparison of chapters 4a to 4c
#
# The table compares generators on the test digits. The rules are those of chapter 4a, and they are the same for every row:
#
# - Each row has the same number of images in total and in each class. The classifier decides the class of an image. *ms* is the time for one sample in
#   milliseconds, and *training s* is the training time of one network in seconds.
# - ± is over three draws. For the VAE, each draw comes from another of the three networks, so here the ± covers the training too.
# - *Other real images* are training images, treated like samples. A good generator reaches about their value.
# - *Bits* are $-\log_2p(x)$ divided by the number of pixels, of the test images. For the VAE they come from a bound with 100 draws of $z$ (20 in the
#   full profile) instead of one [Burda et al. 2015, eq. 8]:
#
# $$\log p(x)\;\ge\;\mathbb E\,\log\frac1k\sum_{i=1}^{k}\frac{p(x\mid z_i)\,p(z_i)}{q(z_i\mid x)},\qquad z_i\sim q(z\mid x).$$
#
# For $k=1$ this is the ELBO, and it becomes tighter with $k$. The Fréchet distance [Heusel et al. 2017] compares mean and covariance of the features.
# Precision is the share of samples that lie among real images, and recall is the share of real images that lie among samples [Kynkäänniemi et al.
# 2019].

# %%
draws = runtime.pick(quick=100, full=20)

def measured(draw, times=3):                 # -> columns of a row
    return comparison.measure_draws(draw, classifier, test_images, test_labels, draws=times)

def drawer_of(net, show):                    # -> function: int -> images
    return lambda n: show(net.decode(torch.randn(n, latent)).detach())

rows = {"other real images": measured(lambda n: every[0][torch.randint(len(every[0]), (n,))])}
for name, model in models.items():
    bits = comparison.measure_bits(model.log_likelihood(test_images), test_images)
    rows[name] = measured(model.sample) | {"bits": bits}
ways = {"VAE, levels drawn": vae.sample_image, "VAE, mean images": vae.mean_image}
for name, show in ways.items():
    of_nets = [measured(drawer_of(each, show), 1) for each in nets]
    rows[name] = {key: [row[key][0] for row in of_nets] for key in of_nets[0]}
nats = [vae.log_likelihood(each, test_images, draws) for each in nets]
rows["VAE, levels drawn"]["bits"] = [bits_of(each) for each in nats]
rows["VAE, levels drawn"]["training s"] = seconds
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
# The VAE gives the test digits more probability than both baselines. Its samples are nearer to real digits than the samples of the baselines, and still
# far from other real images. The row of the GAN, if it is there, is a published row of chapter 4a: another run, by the same rules. It has no bits,
# because a GAN gives no image a probability. Do not trust the columns *precision* and *recall* alone. The histogram gives noise, and its precision is
# nearly as high as that of the drawn VAE images. The recall of the VAE is even higher than that of real images. Chapter 4a explains why.
#
# ## 9 Going deeper: a plane of digits
#
# ### Two latent numbers
#
# With two latent numbers we can draw the latent space (潜空间). We train one VAE with $Z=2$ in the same way. *Left*: each validation image at its $\mu$,
# written as its digit. The network never saw these labels. *Right*: the mean image that the decoder gives for each $z$, enlarged with interpolation.
# Below, move the cross: the last panel shows twice the standard deviation of each pixel, given $z$. **Which digits are neighbours, and where is the
# decoder unsure?**

# %%
flat, _ = trained(0, runtime.pick(quick=30, full=6), latent=2)
with torch.no_grad():
    flat_codes = flat.encode(valid)[0]
drawings.draw_plane(plt.figure(figsize=(7, 3.6)), flat, flat_codes, valid_labels)
near = torch.cdist(flat_codes, flat_codes).fill_diagonal_(torch.inf).argmin(1)
same = (valid_labels[near] == valid_labels).float().mean()
print(f"the nearest neighbour has the same label: {same:.0%} (by chance about 10%)")
pad = partial(drawings.draw_pad, net=flat, codes=flat_codes, labels=valid_labels)
interact.live(pad, z1=(-3.0, 3.0, 0.1), z2=(-3.0, 3.0, 0.1), figsize=(7, 2.9))

# %% tags=["claims"]
assert same > (0.4 if small else 0.3)


# %% [markdown]
# Digits with a similar form are neighbours, for example 3 and 9, or 1 and 7. Between two groups the mean image is a mixture of both, and the pixels in
# which they differ have a large standard deviation.
#
# ### Is the bound a bound?
#
# With two latent numbers the integral can be computed: the sum of $p(x\mid z)\,p(z)$ over a fine grid, times the area of one grid cell, is $p(x)$ almost
# exactly. So we can test the ELBO and the bounds of 10 and 100 draws on each validation digit. (At full size this needs a far finer grid, so the cell
# then does nothing.) **Which order do you expect?**

# %%
@torch.no_grad()
def log_p_by_grid(net, x, side=251, reach=5.0):        # (B, 1, H, W) -> (B,)
    axis = torch.linspace(-reach, reach, side)
    points = torch.cartesian_prod(axis, axis)
    hot = nn.functional.one_hot((x * (levels - 1)).round().long(), levels).flatten(1).float()
    given = [net.decode(part).log_softmax(1).movedim(1, -1).flatten(1) @ hot.T
             for part in points.split(4000)]
    log_prior = -points.square().sum(1) / 2 - math.log(2 * math.pi)
    return (torch.cat(given) + log_prior[:, None]).logsumexp(0) + 2 * (axis[1] - axis[0]).log()


bounds = {}
if small:
    with torch.no_grad():
        draws_of_elbo = [vae.elbo(flat, valid) for _ in range(50)]
    one_draw = torch.stack([log_fit - kl for log_fit, kl in draws_of_elbo])
    bounds["ELBO"] = one_draw.mean(0)
    for k in (10, 100):
        bounds[f"{k} draws"] = vae.log_likelihood(flat, valid, k)
    bounds["log p(x)"] = log_p_by_grid(flat, valid)
print(*(f"{name}: {each.mean():.2f} nats" for name, each in bounds.items()), sep="\n")

# %% tags=["claims"]
if small:
    low, ten, hundred, truth = (each.mean() for each in bounds.values())
    assert low + 1 < ten < truth + 0.1 and low + 1 < hundred < truth + 0.1
    assert truth - hundred < (truth - low) / 2
    error = one_draw.std(0) / 50**0.5
    assert (bounds["ELBO"] < bounds["log p(x)"] + 5 * error).all()       # of every image


# %% [markdown]
# The ELBO is below $\log p(x)$ for each of the images, up to the noise of 50 draws. With more draws the bound rises towards $\log p(x)$. The
# difference between $\log p(x)$ and the ELBO is the gap of section 3: the encoder's $q$ is not the posterior.
#
# ## 10 Going deeper: two gradients of a mean
#
# Section 4 needs the gradient of $\mathbb E_q[f(z)]$ with respect to $\mu$, where $f(z)=\log p(x\mid z)$. There are two ways to write it as a mean.
#
# 1. **Reparameterised**: $\mathbb E_q[f(z)]=\mathbb E_\epsilon[f(\mu+\sigma\odot\epsilon)]$, and by the chain rule (链式法则) the gradient is
#    $\mathbb E_\epsilon[\nabla f(z)]$.
# 2. **Score function** (得分函数) [Williams 1992]: $\nabla_\mu\int f(z)\,q(z)\,\mathrm dz=\int f(z)\,\nabla_\mu q(z)\,\mathrm dz$. Because
#    $\nabla q=q\,\nabla\log q$, this is $\mathbb E_q[f(z)\,\nabla_\mu\log q(z)]$, and $\nabla_\mu\log\mathcal N(z;\mu,\sigma^2)=(z-\mu)/\sigma^2$. It
#    needs only values of $f$, so $f$ may have no derivative.
#
# Both are right on average. Take $f(z)=-\frac12\lVert x-z\rVert^2$ with $x_k-\mu_k=1$ and $\sigma=0.5$, so the true gradient is 1 for each number. We
# also test the usual improvement of the score function: we subtract the mean of $f$ from $f$. This does not change the average gradient, because the
# average of $\nabla_\mu\log q(z)$ is 0. We look only at the gradient with respect to $\mu_1$. **What happens to the variance (方差) of the gradient from
# one draw when $z$ has more numbers?**

# %%
def one_draw_gradients(Z, n=20_000, sigma=0.5):        # -> {way: (n,) gradients by mu_1}
    noise = torch.randn(n, Z)
    distance = 1 - sigma * noise                       # x - z
    f, score = -distance.square().sum(1) / 2, noise[:, 0] / sigma
    return {"score function": f * score, "score function, mean of f out": (f - f.mean()) * score,
            "reparameterised": distance[:, 0]}


lengths = [1, 2, 4, 8, 16, 32, 64]
found = {Z: one_draw_gradients(Z) for Z in lengths}
variances = {name: [found[Z][name].var().item() for Z in lengths] for name in found[1]}
drawings.draw_gradients(plt.figure(figsize=(7, 2.4)), lengths, variances)
plain, centred, smooth = (variances[name][4] for name in variances)
print(f"Z = 16: the variance is {plain / smooth:.0f} or {centred / smooth:.0f} times as large")

# %% tags=["claims"]
for gradients in found.values():                  # all are right on average
    for g in gradients.values():
        assert abs(g.mean() - 1) < 5 * g.std() / len(g) ** 0.5
assert plain > 500 * smooth and centred > 20 * smooth
assert max(variances["reparameterised"]) < 1.2 * min(variances["reparameterised"])

# %% [markdown]
# The variance of the reparameterised gradient does not grow with the number of latent numbers here, and the variance of the other two does. The price:
# $f$ must have a derivative. A decoder network has one.
#
# ## 11 Going deeper: the weight of the KL term
#
# What if the KL term is multiplied by a fixed number $\beta$ [Higgins et al. 2017]? To save time, we do not start from zero: we take the three networks
# of section 6, which were trained with $\beta=1$. We train each of them for a few more epochs, once for each of five values of $\beta$. We count a
# latent number as active if its own KL is above 0.1 nats on average. **Predict for a large and for a small $\beta$: the pixel term, the KL, the number
# of active latent numbers. And which $\beta$ gives the best new images?**

# %%
import copy

def count_active(net):                       # how many latent numbers carry information
    mu, logvar = net.encode(valid)
    return (((mu.square() + logvar.exp() - 1 - logvar) / 2).mean(0) > 0.1).sum().item()

measured_at, kept = {}, {}
for beta, seed in product((0, 0.2, 1, 4, 16), range(3)):
    twin, _ = trained(seed, runtime.pick(quick=5, full=1), net=copy.deepcopy(nets[seed]),
                      images=images[:2000], lr=5e-3, beta=beta, warm=False)
    with torch.no_grad():
        fresh = vae.mean_image(twin.decode(torch.randn(len(valid), latent)))
        again = vae.mean_image(twin.decode(twin.encode(valid[:12])[0]))
        far = generation.score(classifier, fresh, valid)["frechet"]
        bits = evaluated(twin)
        row = [bits["pixel term"], bits["KL"], count_active(twin), far]
    measured_at.setdefault(beta, []).append(row)
    if seed == 0:
        kept[beta] = again, fresh[:12]
sweep = {beta: torch.tensor(each) for beta, each in measured_at.items()}

# %%
drawings.draw_trade(plt.figure(figsize=(7, 2.6)), sweep)
for beta, each in sweep.items():
    far = each[:, 3]
    print(f"β = {beta}: Fréchet distance of new images {far.mean():.1f} ± {far.std():.1f}")
interact.live(partial(drawings.draw_beta, images=valid[:12], shown=kept), beta=[*kept],
              figsize=(7, 2.1))

# %% tags=["claims"]
pixel_terms, kls, alive, distances = torch.stack([each.mean(0) for each in sweep.values()]).T
assert (pixel_terms.diff() > 0).all() and (kls.diff() < 0).all()
assert not small or (alive[0] > 14 and alive[4] < 3 and distances[4] > distances[:4].max())

# %% [markdown]
# A larger $\beta$ gives a smaller KL, fewer active latent numbers and a worse pixel term: the two terms pull in opposite directions. At $\beta=0$ the
# pixel term is the best. For *new* images three seeds show one thing: $\beta=16$ is by far the worst. There the code has collapsed: all reconstructions
# are nearly alike, and the new images are grey and hardly digits. The distances of the other four $\beta$ lie between 8 and 11. We do not claim an order
# among these four: three seeds are few. In another run, with one epoch more, the ± was larger than most of these differences.
#
# Only $\beta=1$ is the ELBO. With $\beta>1$ the objective is still a lower bound of $\log p(x)$, but a looser one. With $\beta<1$ it is no bound.
#
# ## 12 Going deeper: does a low likelihood mean a foreign image?
#
# A model of digits should find images that are not digits. This task is called anomaly detection (异常检测). The score of an image is its bits a pixel.
# For each kind of foreign image we measure the area under the ROC curve (ROC 曲线下面积, AUC): the probability that a foreign image has a higher score than
# a validation digit. 1 is perfect, and 0.5 is chance. There are three networks, so ± is over the training. **Which kind will the VAE miss?**

# %%
from sklearn.metrics import roc_auc_score

some = valid[:240]
foreign = {"digits": some} | experiments.make_foreign(some, levels)
scores = [{name: metrics.bits_per_dimension(vae.log_likelihood(each, x, draws // 5), pixels)
           for name, x in foreign.items()} for each in nets]
drawings.draw_foreign(plt.figure(figsize=(7, 3.2)), foreign, scores[0], known="digits")
auc = {}
for name in [*foreign][1:]:
    truth = [0] * len(some) + [1] * len(foreign[name])
    auc[name] = torch.tensor([roc_auc_score(truth, torch.cat([each["digits"], each[name]]))
                              for each in scores])
    print(f"AUC of {name}: {auc[name].mean():.2f} ± {auc[name].std():.2f}")
of_beta = {f"beta_{beta}": dict(zip(("fit", "kl", "active", "frechet"), each.T.tolist()))
           for beta, each in sweep.items()}
records.record("ch04b", seed=[0, 1, 2], rows=rows, beta=of_beta, sources=sources,
               contrast=sharpness, AUC={name: x.tolist() for name, x in auc.items()});

# %% tags=["claims"]
if small:
    assert min(auc["inverted"].min(), auc["faces"].min()) > 0.97 and auc["bars"].max() < 0.2
    assert auc["two at once"].mean() > 0.8 and auc["two at once"].mean() < auc["inverted"].mean()
    assert 0.75 < auc["mirrored"].mean() < 0.97 and auc["blank"].min() < 0.9

# %% [markdown]
# Inverted digits and faces are found. Two digits at once and mirrored digits are found less reliably, with an AUC of about 0.9. A mirrored 0 or 8 is
# still a digit. The VAE misses images that are *simpler* than its own data: a bar costs fewer bits than almost every real digit. Blank images are not
# found reliably either, and the result depends on the seed. A high likelihood says that the model needs few bits for the image. It does not say that the
# image belongs to the data. Other generators fail in the same way on large images [Nalisnick et al. 2019]. So test a detector of faults also on an empty
# image.

# %% [markdown]
# ## 13 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch04b.1")` helps in steps, `solution("ch04b.1")` shows one answer.
#
# **1 · Predict.** The encoder gives $\mu=(1,-2,0)$ and $\sigma=(1,1,3)$. What is the KL divergence to $\mathcal N(0,I)$ in nats, to two digits after
# the point? Use a calculator.

# %%
kl_by_hand = ...                             # a number
check("ch04b.1", kl_by_hand)


# %% [markdown]
# **2 · Derive.** The prior need not be standard. Derive $\mathrm{KL}\big(\mathcal N(m,s^2)\,\Vert\,\mathcal N(p,r^2)\big)$ for single numbers, as in
# section 4. For $p=0$ and $r=1$ the result must be the term of section 4.

# %%
def kl_between(m, s, p, r):                  # means m, p; standard deviations s, r -> nats
    ...


check("ch04b.2", kl_between)


# %% [markdown]
# **3 · Change.** *Free bits* are another remedy against collapse [Kingma et al. 2016]. First take the KL of each latent number, averaged over the
# batch. A latent number whose KL is below `floor` nats then costs `floor` instead. So it gains nothing from a still smaller KL. Write this KL term.

# %%
def free_bits(mu, logvar, floor):            # (B, Z), (B, Z), float -> scalar, nats an image
    ...


check("ch04b.3", free_bits)


# %% [markdown]
# **4 · Build.** Build the bound of $k$ draws of section 8, from three tables of logarithms: $\log p(x\mid z_i)$, $\log p(z_i)$ and
# $\log q(z_i\mid x)$. Row $i$ belongs to draw $i$, each column to one image. For a large image $\log p(x\mid z_i)$ may be $-4000$.

# %%
def bound(log_fit, log_prior, log_q):        # (k, B) each -> (B,)
    ...


check("ch04b.4", bound)

# %% [markdown]
# **5 · Train, change, measure.** Does the warm-up help? For the seeds 0, 1 and 2 train with `trained(seed, 12, images=images[:2000])`, and again with
# `warm=False` added. (Take 2 epochs instead of 12 in the full profile.) `trained` returns the network and its history. Measure each network with
# `evaluated(net)["ELBO"]`. This is minus the ELBO in bits a pixel, so less is better. Put the six numbers into a dict with the keys "warm-up" and "no
# warm-up", and your conclusion under the key "conclusion": "warm-up", "no warm-up" or "no difference". Two means differ if their distance is larger than
# the sum of both standard deviations. This takes about half a minute. Look at `evaluated(net)["KL"]` too.

# %%
warmed = ...                                 # {"warm-up": …, "no warm-up": …, "conclusion": …}
check("ch04b.5", warmed)

# %% [markdown]
# ## 14 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook trains on 8,000 articles of clothing, 28×28 pixels of 256 levels, with twice the width. What the
# published runs measured:

# %% tags=["record"]
records.show("ch04b", "quick")
records.show("ch04b", "full")

# %% [markdown]
# ## 15 Book check
#
# §2.2.2 describes the VAE in a few sentences, with three formulas and a diagram. Two of the errors teach something.
#
# **W05 · the decoder's input.** $x'=D(\mu,\sigma^2)$ → $z=\mu+\sigma\odot\epsilon$, and the decoder gets $z$. We encode one image. Then we decode five
# times in both ways: five times $\mu$ without noise, and five times $\mu+\sigma\odot\epsilon$ with new noise each time. **In which way do the five
# outputs differ, and what could the printed decoder decode when there is no image?**

# %%
with torch.no_grad():
    mu, logvar = (each[:1].expand(5, -1) for each in net.encode(valid))
    without_noise = net.decode(mu).softmax(1)          # any function of mu and sigma² alone
    with_noise = net.decode(vae.reparameterise(mu, logvar)).softmax(1)
print(f"variance over five outputs: without noise {without_noise.var(0).mean():.1e}, "
      f"with noise {with_noise.var(0).mean():.1e}")

# %% tags=["claims"]
assert without_noise.var(0).max() < 1e-10 < 1e-6 < with_noise.var(0).mean()

# %% [markdown]
# Without noise the five outputs are equal: this is a plain autoencoder. Without an image there is no $\mu$ and no $\sigma^2$, so there is nothing to
# decode. To make a new image, a VAE draws $z\sim\mathcal N(0,I)$.
#
# **W06 · the loss.** "通过最小化KL散度损失", by minimising the KL loss alone → minus the ELBO, which has the pixel term as well. We minimise the KL alone for
# 100 steps, and minus the ELBO for 300 more steps, with a warm-up. **What does the network learn in the first 100 steps?**

# %%
runtime.seed_everything(0)
book_net, progress = vae.VAE(size, levels=levels, width=16), []
adam = torch.optim.Adam(book_net.parameters(), lr=2e-3)
for step in range(400):
    batch = images[torch.randint(len(images), (64,))]
    mu, logvar = book_net.encode(batch)
    kl = vae.kl_to_standard_normal(mu, logvar).mean()
    beta = min(1, (step - 100) / 200)
    loss = kl if step < 100 else vae.elbo_loss(book_net, batch, beta=beta)
    adam.zero_grad()
    loss.backward()
    decoder_gradient = book_net.decoder[0].weight.grad
    adam.step()
    progress.append((kl.item(), mu.std(0).mean().item(), decoder_gradient is None))
drawings.draw_collapse(plt.figure(figsize=(7, 2)), progress, change=100)
(kl_alone, std_alone, no_gradient), (kl_both, std_both, _) = progress[99], progress[-1]
print(f"KL alone: KL {kl_alone:.0e} nats, std of mu over the images {std_alone:.0e}")
print(f"the decoder had no gradient: {no_gradient}")
print(f"both terms: KL {kl_both:.1f} nats, std of mu {std_both:.2f}")

# %% tags=["claims"]
assert no_gradient and kl_alone < 0.1 and std_alone < 0.1 and kl_both > 2 and std_both > 0.3

# %% [markdown]
# The encoder learns to give $\mu=0$ and $\sigma=1$ for every image, and the decoder learns nothing: it has no gradient. This is posterior collapse.
# With the pixel term the code carries information again.
#
# The others, in one line each:
#
# - **W04 · the encoder.** $\mu,\sigma^2=E[x\mid x]$ with $x\sim q_\phi(x\mid\mu,\sigma^2)$; but $E[x\mid x]=x$, and there is no $z$ →
#   $(\mu,\log\sigma^2)=\mathrm{Enc}_\phi(x)$ and $q_\phi(z\mid x)=\mathcal N(z;\mu,\mathrm{diag}\,\sigma^2)$.
# - **W19 · the diagrams.** Both diagrams (§2.2 and §2.2.2) are chains from $\mu,\sigma^2$ to the decoder → the random input $\epsilon$ and the node
#   $z$ belong between them, as in the drawing of section 5.
# - **I07 · the size of the code.** "一个均值和方差", one mean and one variance → a mean and a variance for each latent number; the network gives
#   $\log\sigma^2$.
# - **I08 · the letters.** $D$ is the discriminator and the decoder, $E$ the encoder and the expectation, $x$ the image and the random variable →
#   $D_\psi$, $\mathrm{Dec}_\theta$, $\mathrm{Enc}_\phi$, $\mathbb E$, and the random variable is $z$.
# - **I09 · good results in generation, editing and style transfer.** No source is given → samples of plain VAEs are blurred (section 7). Style
#   transfer came from the statistics of CNN features [Gatys et al. 2016; Huang & Belongie 2017]. Today VAEs compress images for other generators [van
#   den Oord et al. 2017; Rombach et al. 2022].
#
# ## 16 What we learned
#
# 1. A plain autoencoder reconstructs images, but it does not say from which distribution a new code has to be drawn.
# 2. The likelihood is an integral over a latent variable. The ELBO is a lower bound of its logarithm, and the gap is a KL divergence.
# 3. The loss has two terms: the pixel term wants a good reconstruction, the KL term keeps the codes near the prior.
# 4. Noise is an input of its own, so gradients reach $\mu$ and $\sigma$, and the variance of this gradient is small.
# 5. The mean image is blurred, because it is the best prediction for everything that the code leaves open. A high likelihood means: cheap to describe.
#
# **References.** D. P. Kingma, M. Welling, *Auto-encoding variational Bayes*, ICLR 2014 [2013], arXiv:1312.6114 · R. J. Williams, *Simple statistical
# gradient-following algorithms for connectionist reinforcement learning*, Machine Learning 8, 1992 · Y. Burda, R. Grosse, R. Salakhutdinov,
# *Importance weighted autoencoders*, ICLR 2016 [2015], arXiv:1509.00519 · S. R. Bowman et al., *Generating sentences from a continuous space*, CoNLL
# 2016, arXiv:1511.06349 · C. K. Sønderby, T. Raiko, L. Maaløe, S. K. Sønderby, O. Winther, *Ladder variational autoencoders*, NIPS 2016,
# arXiv:1602.02282 · I. Higgins et al., *beta-VAE: learning basic visual concepts with a constrained variational framework*, ICLR 2017 · D. P. Kingma
# et al., *Improved variational inference with inverse autoregressive flow*, NIPS 2016, arXiv:1606.04934 · A. van den Oord, O. Vinyals, K. Kavukcuoglu,
# *Neural discrete representation learning*, NIPS 2017, arXiv:1711.00937 · R. Rombach et al., *High-resolution image synthesis with latent diffusion
# models*, CVPR 2022, arXiv:2112.10752 · L. A. Gatys, A. S. Ecker, M. Bethge, *Image style transfer using convolutional neural networks*, CVPR 2016 ·
# X. Huang, S. Belongie, *Arbitrary style transfer in real-time with adaptive instance normalization*, ICCV 2017, arXiv:1703.06868 · M. Heusel et al.,
# *GANs trained by a two time-scale update rule converge to a local Nash equilibrium*, NIPS 2017, arXiv:1706.08500 · T. Kynkäänniemi et al., *Improved
# precision and recall metric for assessing generative models*, NeurIPS 2019, arXiv:1904.06991 · E. Nalisnick et al., *Do deep generative models know
# what they don't know?*, ICLR 2019, arXiv:1810.09136 · H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST*, 2017, arXiv:1708.07747.
