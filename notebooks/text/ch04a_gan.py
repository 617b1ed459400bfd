# %% [markdown]
# # 4a · Generative adversarial networks (生成对抗网络)
#
# *Book: §2.2.2 (1), 生成对抗网络（GAN）*
#
# **How can a network learn to draw new images, if nobody can say which image a given noise should become?**
#
# The first cell prints what a whole run costs. It also shows the chapter's result: clothes that a generator of 0.57 million parameters drew from noise.
# Another network, the judge, named the images. The page shows images of which the judge is sure (section 5).
#
# After this chapter you can
#
# - draw both networks of a GAN, and build them in PyTorch;
# - write the value of the game, derive its best discriminator, and say why the loss in use is another one;
# - train a GAN with alternating steps, and explain what its two losses tell and what they do not tell;
# - measure generated images: their classes, copies of the training images, the Fréchet distance;
# - make a GAN collapse, and test two ways of training it more safely.
#
# You need these terms: convolution (卷积) and transposed convolution (转置卷积) ([chapter 3a](ch03a_convolution_and_pooling.ipynb)), batch normalisation
# (批归一化) ([chapter 3b](ch03b_resnet.ipynb)), cross-entropy (交叉熵) and gradient descent (梯度下降) ([chapter 2](ch02_foundations.ipynb)).
#
# The core path takes 40 minutes: sections 1 to 7. The sections 8 to 10 are headed *Going deeper*.

# %% tags=["record"]
from functools import partial
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from vlmbook import data, generation, pixel_models, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch04a import experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)                     # networks this small gain little from more threads
plot.use_style()
records.published("ch04a")
published = records.RESULTS / "ch04a.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)], width=7.162);

# %% [markdown]
# ## 1 The data
#
# We train on the handwritten digits of scikit-learn, because that takes half a minute. Each image has 8×8 pixels with the levels 0 to 16. The clothes
# above come from Fashion-MNIST [Xiao et al. 2017], 28×28 pixels. That training takes much longer, and its weights come with this package. With
# `VLMBOOK_PROFILE=full` the notebook trains on Fashion-MNIST itself.
#
# The images are split into three parts. The training set (训练集) is for learning. The validation set (验证集) is for choosing settings. The test set (测试集)
# is used once, in section 6.
#
# Before we build a network, we try two **baselines** (基线). The *pixel histogram* (直方图) counts how often each pixel has which level, and draws each
# pixel by itself. The *Gaussian* draws all pixels together, from a normal distribution with the mean and the covariance (协方差) of the training images.
# **What will their samples look like?** (Images of 8×8 pixels are enlarged smoothly in our figures.)

# %%
parts = data.hold_out(*data.digits_or_fashion("train"), share=1 / 6)       # (B, 1, H, W), (B,)
(images, labels), (valid_images, valid_labels) = parts
test_images, test_labels = data.digits_or_fashion("test")
size = images.shape[-1]
small = size == 8                            # True for the digits
levels = 17 if small else 256
print(len(images), "for training,", len(valid_images), "for validation,", len(test_images), "test")
simple = {"pixel histogram": pixel_models.PixelHistogram(images, levels),
          "Gaussian": pixel_models.PixelGaussian(images, levels)}
draws = torch.Generator().manual_seed(0)
strips = {"real": images[:12]}
strips |= {name: model.sample(12, draws) for name, model in simple.items()}
drawings.draw_rows(plt.figure(figsize=(7, 1.8)), strips)

# %% tags=["claims"]
assert_close((images * (levels - 1)).round() / (levels - 1), images)

# %% [markdown]
# The histogram does not know which pixels belong together, so its samples look like noise. The Gaussian knows the covariance of every pair of pixels.
# Its samples are smudges: a stroke needs more than pairs.
#
# A network that turns noise into images could know more. But which loss should we use? In classification each image has a label. Here nobody can say
# which digit a given noise vector should become.
#
# ## 2 Two networks
#
# Goodfellow et al. [2014] answer: train a second network that judges the images, and use its judgement as the loss.
#
# - The **generator** (生成器) $G$ turns a noise vector (噪声) $z$ into an image $G(z)$. The numbers in $z$ are drawn from a standard normal distribution.
# - The **discriminator** (判别器) $D$ looks at one image $x$. It gives the probability $D(x)$ that $x$ is a real image.
#
# $D$ learns to tell real images from generated ones. $G$ learns to make images that $D$ takes for real ones. So each network learns against the other
# one. In the first drawing the black arrows are values, and the orange arrows are gradients. The second drawing has the layers of both networks, for
# images of 28×28 pixels.

# %%
drawings.draw_game(plt.figure(figsize=(7, 2.4)))
drawings.draw_networks(plt.figure(figsize=(7, 3.3)), size=28, latent=64, width=32)


# %% [markdown]
# Here are the same layers as code [after Radford et al. 2015]. The drawing leaves out batch normalisation, ReLU and LeakyReLU. (LeakyReLU multiplies
# negative numbers by 0.2, and does not change the others.) The transposed convolutions of $G$ double the height and the width of the maps. The
# convolutions of $D$ with stride 2 halve them. For images of 8×8 pixels one doubling is enough: 4×4, then 8×8.
#
# $D$ ends with one number, the **logit** (对数几率). The probability is its sigmoid: $D(x)=\sigma(\ell)$.

# %%
def make_generator(latent, width):           # (B, latent) -> (B, 1, 28, 28) in [0, 1]
    return nn.Sequential(
        nn.Linear(latent, 4 * width * 7 * 7, bias=False),
        nn.Unflatten(1, (4 * width, 7, 7)), nn.BatchNorm2d(4 * width), nn.ReLU(),
        nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 1, 3, padding=1), nn.Sigmoid())

def make_discriminator(width):               # (B, 1, 28, 28) in [-1, 1] -> (B, 1), logits
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(4 * width * 7 * 7, 1))


# %% [markdown]
# The package has the same networks for any suitable size: `Generator` and `Discriminator`. Their layers have the same parameter names as ours, so they
# can load our weights. One thing differs: `Discriminator` takes images in $[0,1]$, and computes $2x-1$ by itself. **Which shapes will the cell print?**
# Compare them with the drawing.

# %%
from vlmbook.gan import Discriminator, Generator

our_g, our_d = make_generator(latent=64, width=32), make_discriminator(width=32)
their_g, their_d = Generator(28, latent=64, width=32), Discriminator(28, width=32)
their_g.layers.load_state_dict(our_g.state_dict())
their_d.layers.load_state_dict(our_d.state_dict())
z_five = torch.randn(5, 64)
for name, net, x in (("G", our_g, z_five), ("D", our_d, torch.rand(5, 1, 28, 28))):
    shapes = [tuple(x.shape)]
    for layer in net:
        x = layer(x)
        shapes.append(tuple(x.shape))
    print(f"{name}, {sum(p.numel() for p in net.parameters()):,} parameters:")
    print("   ", " → ".join(map(str, dict.fromkeys(shapes))))

# %% tags=["claims"]
our_images, their_images = our_g(z_five), their_g(z_five)
our_logits, their_logits = our_d(2 * our_images - 1)[:, 0], their_d(their_images)
assert_close((our_images, our_logits), (their_images, their_logits))
ours, theirs = (torch.autograd.grad(logits.sum(), [*g.parameters(), *d.parameters()])
                for logits, g, d in ((our_logits, our_g, our_d), (their_logits, their_g, their_d)))
assert_close(ours, theirs)

# %% [markdown]
# ## 3 The game and its losses
#
# ### The value of the game
#
# Real images have the distribution (分布) $p$. Generated images have a distribution that we call $g$. $D$ wants a high probability for real images and a
# low probability for generated images. So $D$ wants a large value of
#
# $$V(D,G)=\mathbb E_{x\sim p}\big[\log D(x)\big]+\mathbb E_{z}\big[\log\big(1-D(G(z))\big)\big],\qquad \min_G\max_D V(D,G) .$$
#
# $\mathbb E$ is the mean (期望). $G$ wants a small value of the same $V$. This is a minimax game (极小极大博弈) [Goodfellow et al. 2014, eq. 1].
#
# ### The best discriminator
#
# Suppose that there are only three different images, and that we know $p$ and $g$. The cell finds the best $D$ by gradient ascent (梯度上升) on three
# logits. **Which formula with $p$ and $g$ gives the numbers in the first line?**

# %%
from vlmbook.gan import optimal_discriminator

def value(p, g, d):                          # three numbers each -> V in nats
    return (torch.xlogy(p, d) + torch.xlogy(g, 1 - d)).sum()


p, g = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
three_logits = torch.zeros(3, requires_grad=True)
for _ in range(500):
    (slope,) = torch.autograd.grad(value(p, g, three_logits.sigmoid()), three_logits)
    three_logits = (three_logits + slope).detach().requires_grad_()
best = three_logits.sigmoid().detach()
print("best D, found by ascent:", *(f"{each:.3f}" for each in best))
print("p, then g:              ", *(f"{each:.3f}" for each in (*p, *g)))

# %% tags=["claims"]
assert_close(best, p / (p + g), rtol=0, atol=1e-4)
assert_close(optimal_discriminator(p, g), p / (p + g))


# %% [markdown]
# The numbers are $p/(p+g)$. The derivation takes two lines. For one image $x$ the part of $V$ that depends on $d=D(x)$ is $p\log d+g\log(1-d)$. Its
# derivative (导数) is $\frac pd-\frac g{1-d}$, and it is 0 for
#
# $$d=D^*(x)=\frac{p(x)}{p(x)+g(x)} .$$
#
# So the best discriminator compares two probabilities [proposition 1]. Now put $D^*$ into $V$, and write $\log\frac p{p+g}=\log\frac p{(p+g)/2}-\log2$;
# do the same for $g$. This gives $-2\log2=-\log4$ and two KL divergences (KL散度), where $\mathrm{KL}(a\,\|\,b)=\sum_x a(x)\log\frac{a(x)}{b(x)}$. Half of
# their sum is the **Jensen-Shannon divergence** (JS散度) [Goodfellow et al. 2014, theorem 1]:
#
# $$V(D^*,G)=-\log4+2\,\mathrm{JSD}(p\,\|\,g),\qquad
# \mathrm{JSD}=\tfrac12\mathrm{KL}\big(p\,\|\,\tfrac{p+g}2\big)+\tfrac12\mathrm{KL}\big(g\,\|\,\tfrac{p+g}2\big) .$$
#
# The JSD is 0 only for $g=p$. It is $\log2=0.693$ if $p$ and $g$ have no image in common. The cell computes four cases. In the third one the generator
# always shows the first image, which is a real image. **Can $D$ find an error there?**

# %%
def kl(a, b):                                # in nats
    return (torch.xlogy(a, a) - torch.xlogy(a, b)).sum()

def jsd(p, g):
    return (kl(p, (p + g) / 2) + kl(g, (p + g) / 2)) / 2


half, last = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.0, 0.0, 1.0])
first_only = torch.tensor([1.0, 0.0, 0.0])
cases = {"g as above": (p, g), "g = p": (p, p), "always the first image": (p, first_only),
         "nothing in common": (half, last)}
log4 = torch.tensor(4.0).log()
for name, (q, h) in cases.items():
    d = optimal_discriminator(q, h)
    print(f"{name:>22}: D* = {d[0]:.2f} {d[1]:.2f} {d[2]:.2f}, JSD {jsd(q, h):.3f}, "
          f"V = {value(q, h, d):+.3f}, -log 4 + 2 JSD = {2 * jsd(q, h) - log4:+.3f}")

# %% tags=["claims"]
for q, h in cases.values():
    assert_close(value(q, h, optimal_discriminator(q, h)), 2 * jsd(q, h) - log4)
assert jsd(p, p) == 0 and jsd(p, first_only) > 0.1
assert (optimal_discriminator(p, p) == 0.5).all()

# %% [markdown]
# Yes. The first image comes too often, so $D^*$ is $0.33$ there. The other images never come from the generator, so $D^*$ is 1 there. Each single image
# is good, but the distribution is wrong. The goal of $G$ is the distribution: $g=p$. Then $D^*$ is 0.5 everywhere, and $D$ can only guess.
#
# The figure shows the same for numbers on a line. Real numbers have the blue density, generated numbers have the orange density. **For which `shift`
# and `spread` is the green curve flat?**

# %%
interact.live(drawings.draw_optimal, shift=(-2.0, 4.0, 0.25), spread=(0.3, 2.0, 0.1),
              figsize=(7, 2.6))

# %% [markdown]
# Only for `shift` 0 and `spread` 1, because then both densities are equal. Elsewhere the green curve has a slope. This slope gives $G$ its gradient: $G$
# moves the generated numbers to where $D^*$ is larger.
#
# ### The losses
#
# Training minimises a loss. So the loss of $D$ is $-V$. The means become means over a batch (批次) of $B$ images. With the logits $\ell$ and
# $D=\sigma(\ell)$:
#
# $$L_D=-\frac1B\sum_b\log\sigma(\ell^{\text{real}}_b)-\frac1B\sum_b\log\big(1-\sigma(\ell^{\text{fake}}_b)\big) .$$
#
# **This is binary cross-entropy (二元交叉熵)**, with the label 1 for real images and the label 0 for generated images. So $D$ is an ordinary classifier with
# two classes.
#
# For $G$ there are two losses. The first one is its part of $V$. The second one is used in practice:
#
# $$L_G^{\text{sat}}=\frac1B\sum_b\log\big(1-\sigma(\ell^{\text{fake}}_b)\big),\qquad
# L_G=-\frac1B\sum_b\log\sigma(\ell^{\text{fake}}_b) .$$
#
# Both losses fall when the logit of a generated image grows. At the start of a training the images of $G$ are bad, and $D$ gives them a logit of $-10$,
# for example. **How large is the gradient of each loss there?**

# %%
from vlmbook.gan import discriminator_loss, non_saturating_loss, saturating_loss

real_logits, fake_logits = torch.randn(6), torch.randn(6)
bce = F.binary_cross_entropy_with_logits
cross_entropy = bce(real_logits, torch.ones(6)) + bce(fake_logits, torch.zeros(6))
by_formula = -(real_logits.sigmoid().log().mean() + (1 - fake_logits.sigmoid()).log().mean())
print(f"L_D: formula {by_formula:.4f}, binary cross-entropy {cross_entropy:.4f}")
losses_of_g = {"log(1 - D), saturating": saturating_loss,
               "-log D, non-saturating": non_saturating_loss}
line, at_minus_10 = torch.linspace(-12, 6, 181, requires_grad=True), {}
axes = plt.figure(figsize=(7, 2.4)).subplots()
for name, loss_of_g in losses_of_g.items():
    (slope,) = torch.autograd.grad(loss_of_g(line) * len(line), line)
    axes.plot(line.detach(), slope.abs(), label=name)
    at_minus_10[name] = slope[20].item()
    print(f"{name}: gradient at the logit -10: {at_minus_10[name]:.5f}")
axes.axvline(-10, color=plot.GREY, linewidth=1)
axes.set(xlabel="logit of a generated image", ylabel="size of the gradient")
axes.legend();

# %% tags=["claims"]
assert_close(discriminator_loss(real_logits, fake_logits), by_formula)
assert_close(cross_entropy, by_formula)
assert_close(saturating_loss(fake_logits), (1 - fake_logits.sigmoid()).log().mean())
assert_close(non_saturating_loss(fake_logits), -fake_logits.sigmoid().log().mean())
saturating, steep = at_minus_10.values()
assert -5e-5 < saturating < -4e-5 and -1 < steep < -0.999


# %% [markdown]
# The gradient of the first loss is almost 0 at $-10$: the loss saturates (饱和) exactly where $G$ is worst. The gradient of the second loss is almost $-1$
# there. So we use the second loss. The second loss is not the loss of the minimax game. But both losses push the logits of generated images upwards.
#
# ## 4 The alternating step
#
# This is the whole training [algorithm 1]. In each round
#
# 1. $D$ takes one step. $G$ is fixed: `detach` cuts the gradient between the generated images and $G$.
# 2. $G$ takes one step. The gradient goes *through* $D$ into $G$, but the optimizer (优化器) of $G$ changes only the parameters of $G$.
#
# `turns` is the number of steps of $G$ in each round, and `penalty` is a place for a further term in the loss of $D$. Section 10 uses both. `beta` is
# the momentum (动量) of Adam, the optimizer. `play` is a Python generator: the loop that calls it gets the two losses after each round.

# %%
def play(G, D, draw_real, steps, *, latent, lr, batch=64, beta=0.5, turns=1, penalty=None):
    optimizer_d = torch.optim.Adam(D.parameters(), lr=lr, betas=(beta, 0.99))
    optimizer_g = torch.optim.Adam(G.parameters(), lr=lr, betas=(beta, 0.99))
    for step in range(steps):
        for optimizer in (optimizer_d, optimizer_g):               # the learning rate falls to 0
            optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)

        real = draw_real(batch)                                    # 1 · a step of D
        fake = G(torch.randn(batch, latent).to(real.device)).detach()
        loss_d = discriminator_loss(D(real), D(fake))
        extra = 0 if penalty is None else penalty(D, real, fake)
        optimizer_d.zero_grad()
        (loss_d + extra).backward()
        optimizer_d.step()

        for _ in range(turns):                                     # 2 · a step of G
            fake = G(torch.randn(batch, latent).to(real.device))
            loss_g = non_saturating_loss(D(fake))
            optimizer_g.zero_grad()
            loss_g.backward()
            optimizer_g.step()
        yield step + 1, loss_d.item(), loss_g.item()


# %% tags=["claims"]
probe_g, probe_d = Generator(size, latent=8, width=4), Discriminator(size, width=4)
probe_x, probe_fake = images[:5].clone().requires_grad_(), probe_g(torch.randn(5, 8))

def reached(loss):                           # does a gradient reach D, G, the real images?
    inputs = [next(probe_d.parameters()), next(probe_g.parameters()), probe_x]
    slopes = torch.autograd.grad(loss, inputs, allow_unused=True, retain_graph=True)
    return [slope is not None for slope in slopes]


assert reached(discriminator_loss(probe_d(probe_x), probe_d(probe_fake.detach()))) == [1, 0, 1]
assert reached(non_saturating_loss(probe_d(probe_fake))) == [1, 1, 0]

# %% [markdown]
# ### A ring of eight points
#
# We first play the game in the plane, because there we can see both networks. The data are eight small clouds on a ring. Each cloud is a mode (模式) of
# the distribution. $G$ and $D$ are small networks of three linear layers. **How many of the eight modes will $G$ find?** The fair share of a mode is one
# eighth of the points. A mode counts as found if more than a tenth of its fair share lies within three standard deviations (0.3) of its centre.

# %%
centres = 2 * torch.view_as_real(torch.polar(torch.ones(8), torch.arange(8) * torch.pi / 4))

def ring(n):                                 # -> (n, 2)
    return centres[torch.randint(8, (n,))] + 0.1 * torch.randn(n, 2)

def count_modes(points):                     # -> modes found, share of the points in any mode
    distance, nearest = torch.cdist(points, centres).min(1)
    counts = nearest[distance < 0.3].bincount(minlength=8)
    return (counts > len(points) / 80).sum().item(), (distance < 0.3).float().mean().item()

def small_network(ins, outs):                # a logit is (B,), a point is (B, 2)
    shape = nn.Flatten(0) if outs == 1 else nn.Identity()
    return nn.Sequential(nn.Linear(ins, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                         nn.Linear(64, outs), shape)


# %% tags=["claims"]
assert count_modes(ring(2000))[0] == 8 and count_modes(ring(2000))[1] > 0.97

# %% [markdown]
# `watch` plays one game and keeps 40 moments of it: 500 generated points, the logits of $D$ on a grid, and the number of modes found. The next cell
# plays three games. Move through one of them: black points are data, orange points are generated, and the colour is $D(x)$, blue for *real* and red for
# *generated*. Look at the scale beside the figure, because it changes. **Which of the two moves first, the orange points or the blue areas?**

# %%
grid = torch.cartesian_prod(*[torch.linspace(-3, 3, 30)] * 2).flip(1)        # x moves fastest

def watch(seed, steps=400, beta=0.0, turns=1, penalty=None):
    runtime.seed_everything(seed)
    G, D = small_network(2, 2), small_network(2, 1)
    settings = {"latent": 2, "lr": 5e-3, "batch": 128, "beta": beta, "turns": turns}
    game = {"steps": [], "points": [], "logits": [], "found": []}
    losses = []
    for step, *two in play(G, D, ring, steps, penalty=penalty, **settings):
        losses.append(two)
        if step % (steps // 40) == 0:
            with torch.no_grad():
                x, logits = G(torch.randn(2000, 2)), D(grid).view(30, 30)
            for key, seen in zip(game, (step, x[:500], logits, count_modes(x)[0])):
                game[key].append(seen)
    game["share"] = count_modes(x)[1]                        # of the points, in a mode at the end
    game["late"] = sum(game["found"][-10:]) / 10             # modes found, mean of the last quarter
    game["losses"] = torch.tensor(losses[-steps // 4:]).mean(0)
    return game


# %%
seeds = range(3)
games = {"one step each": [watch(seed) for seed in seeds]}
for seed, game in zip(seeds, games["one step each"]):
    print(f"seed {seed}: {game['found'][-1]} modes, {game['share']:.0%} of the points in a mode")
plain_games = {f"seed {seed}": game for seed, game in zip(seeds, games["one step each"])}
interact.live(partial(drawings.draw_ring, real=ring(800), runs=plain_games, moment=39),
              run=list(plain_games), moment=(0, 39), figsize=(7, 3.2))

# %% tags=["claims"]
final = sum(game["logits"][-1].sigmoid().flatten() for game in games["one step each"]) / 3
between = centres.lerp(centres.roll(1, 0), 0.5)
on, off = (final[torch.cdist(grid, x).argmin(0)].mean() for x in (centres, between))
assert all(game["found"][-1] == 8 and game["share"] > 0.4 for game in games["one step each"])
assert off < 0.4 < on < 0.7 and off < on - 0.15

# %% [markdown]
# $G$ finds all eight modes with each of the three seeds. The other points lie on bridges between the modes. $G$ is a continuous function (连续函数), so the
# set of all points that $G$ can make is connected. Therefore some points must lie between the modes.
#
# The points move to where $D$ says *real*. When many points have arrived there, $D$ learns to say *generated* there, and the points move on. At the end
# $D$ says *generated* between the modes. On the modes $D$ is near 0.5: there it can hardly tell both kinds of points apart.
#
# ## 5 Training on images
#
# ### How do we measure success?
#
# The loss does not say how good the images are. It only compares $G$ with the present $D$, and both of them change. So we use a third network, a
# classifier (分类器): a small ResNet that learned the ten classes from real images. Its last layer turns an image into 64 numbers, the features (特征). We
# take the features of $N$ real images and of $N$ generated images, and compare their means $\mu$ and covariances $\Sigma$. This is the **Fréchet
# distance** (弗雷歇距离) [Heusel et al. 2017]. It is 0 if means and covariances agree:
#
# $$d^2=\|\mu_r-\mu_g\|^2+\mathrm{tr}\big(\Sigma_r+\Sigma_g-2(\Sigma_r\Sigma_g)^{1/2}\big)$$
#
# **How large is the distance between real images and other real images?** The cell measures it twice: for any training images, and for training images
# with the same number of images of each class.

# %%
from vlmbook import metrics

classifier = generation.train_feature_classifier(
    images, labels, epochs=runtime.pick(quick=12, full=3),
    precision=runtime.pick(quick=None, full="bf16")).cpu()
N = min(len(valid_images), 2000)

def frechet(a, b):                           # (N, 64), (N, 64) -> number
    roots = torch.linalg.eigvals(a.T.cov() @ b.T.cov()).real.clamp(min=0).sqrt()
    between_means = (a.mean(0) - b.mean(0)).square().sum()
    return between_means + a.var(0).sum() + b.var(0).sum() - 2 * roots.sum()


matched = generation.select_same_classes(images, labels, valid_labels[:N])
features = [generation.extract_features(classifier, x).double()
            for x in (valid_images[:N], images[:N], matched)]
any_classes, same_classes = (frechet(features[0], each).item() for each in features[1:])
right = (classifier(valid_images[:N]).argmax(1) == valid_labels[:N]).float().mean()
print(f"the classifier is right for {right:.1%} of the validation images")
print(f"real to real: {any_classes:.2f}, with the same classes {same_classes:.2f}")

# %% tags=["claims"]
assert abs(any_classes - metrics.frechet_distance(*features[:2])) < 1e-3
assert right > runtime.pick(quick=0.95, full=0.85) and 0 < same_classes < any_classes

# %% [markdown]
# The distance between real images is not 0, because they are different images, and there are only $N$ of them. With the same number of images of each
# class the distance is smaller. So a fair comparison needs the same $N$ and the same classes for every model (section 6). The numbers depend on the
# classifier as well. Do not compare them with numbers from another classifier.
#
# ### The training
#
# The learning rate and the width of the networks were chosen among a few, by the distance to *validation* images. For the measurements the pixels of $G$
# are rounded to the levels of real pixels. In the training steps they are not rounded. At seven moments the loop keeps some images, the Fréchet
# distance, and the logits of $D$ for three kinds of images.
#
# In the first figure each row is one moment, with its Fréchet distance. Each column is one noise vector in all rows. **Do the losses in the second
# figure show that the images get better?**

# %%
import time

latent, width, lr = runtime.pick(quick=(32, 16, 4e-3), full=(64, 32, 2e-3))
steps, device = runtime.pick(quick=(1200, "cpu"), full=(8000, runtime.device()))

def to_levels(x):
    return (x * (levels - 1)).round() / (levels - 1)

@torch.no_grad()
def apply(net, x):                           # in parts; the result is on the CPU
    where = next(net.parameters()).device
    return torch.cat([net(part.to(where)).cpu() for part in x.split(500)])

def draw_images(G, z):                       # (n, latent) -> (n, 1, H, W)
    G.eval()
    drawn = apply(G, z)
    G.train()
    return to_levels(drawn)


# %%
runtime.seed_everything(0)
G = Generator(size, latent=latent, width=width).to(device)
D = Discriminator(size, width=width).to(device)
z_shown, z_valid = torch.randn(12, latent), torch.randn(N, latent)
draw_real = lambda n: images[torch.randint(len(images), (n,))].to(device)
curve, moments, scores, began = [], {}, {}, time.perf_counter()
logits_of = {"training images": {}, "validation images": {}, "generated images": {}}
for step, *both in play(G, D, draw_real, steps, latent=latent, lr=lr):
    curve.append(both)
    if step % (steps // 6) == 0 or step == 20:
        drawn = draw_images(G, z_valid)
        scores[step] = generation.score(classifier, drawn, valid_images[:N])["frechet"]
        moments[f"step {step}: {scores[step]:.1f}"] = draw_images(G, z_shown)
        for kind, x in zip(logits_of, (images[:2000], valid_images[:2000], drawn)):
            logits_of[kind][step] = apply(D, x)
seconds = time.perf_counter() - began
drawings.draw_rows(plt.figure(figsize=(7, 3.9)), moments)
drawings.draw_training(plt.figure(figsize=(7, 2.4)), curve, scores)
_, smoothed = experiments.average_losses(curve)

# %% tags=["claims"]
first_score, *_, last_score = scores.values()
assert last_score < (10 if small else first_score / 4) and 0.05 < smoothed[-1, 0] < log4
if small:
    assert smoothed[-800:, 1].std() < 0.15 and smoothed[-800, 0] > smoothed[-1, 0] + 0.03

# %% [markdown]
# No. After a short start the loss of $G$ stays at the same height, and the loss of $D$ falls a little. One could think that $G$ becomes worse. But the
# Fréchet distance falls to a small part of its first value. The losses compare the two networks with each other, and both of them learn. The grey line
# is $\log4$, the loss of a $D$ that can only guess. The loss of $D$ stays below it, so $D$ can still tell many images apart.
#
# ### Does $D$ learn the training images by heart?
#
# The loss of $D$ can also fall for a reason that has nothing to do with $G$. $D$ sees the same training images again and again, and it may remember
# them. A test is easy: we compare the logits for training images with the logits for validation images. Both are real, and $D$ has learned only from the
# first. **What will the two curves look like?**

# %%
gaps = {}
for step in scores:
    seen, unseen = (logits_of[kind][step] for kind in ("training images", "validation images"))
    error = (seen.var() / len(seen) + unseen.var() / len(unseen)).sqrt()
    gaps[step] = ((seen.mean() - unseen.mean()).item(), error.item())
drawings.draw_memory(plt.figure(figsize=(7, 2.5)), logits_of, gaps)
print(f"step {step}: training minus validation {gaps[step][0]:+.2f} ± {gaps[step][1]:.2f}")

# %% tags=["claims"]
(early, early_error), *_, (late_gap, late_error) = gaps.values()
assert abs(early) < 3 * early_error
if small:
    assert late_gap > 2 * late_error

# %% [markdown]
# At first the two curves agree within the standard error. Later they separate: at the end training images have higher logits than validation images. So
# for $D$ the training images look *more real*. The difference is larger than two standard errors, so chance does not explain it. $D$ has overfitted
# (过拟合). It has 1,197 training images, and it saw each of them about 64 times.
#
# What helps in such a case: more images, augmentation (数据增强) of real *and* generated images [Karras et al. 2020], or a penalty on $D$ (section 9). We
# did not test these remedies on the digits.
#
# ### The same at full size
#
# The next networks were trained in the same way on 50,000 articles of clothing of 28×28 pixels. They have the layers of section 2. Their weights come
# with the package, together with a card that says how they were made. The **judge** is a ResNet-20 that was trained on real clothes (chapter 3b). It
# names 1,000 generated images. Each row has the first eight images to which the judge gives this class with a probability above 0.9. So the page shows
# the better part of the images. **How large is this part?**

# %%
from vlmbook.chapters.ch03b.experiments import read_fashion_net

names = "T-shirt trouser pullover dress coat sandal shirt sneaker bag boot".split()
if small:
    fashion_g, _, card = experiments.read_fashion_gan()
    fashion_judge = read_fashion_net()[0]
    print(f"{card['steps']:,} steps, {card['hours']} hours on {card['device']}")
    print(f"the judge is more than 0.9 sure of {card['sure_of_real']:.0%} of real test images")
else:
    fashion_g, fashion_judge = G.cpu().eval(), classifier
z_clothes = torch.randn(1000, fashion_g.latent, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    clothes = fashion_g(z_clothes)
    chances = torch.cat([fashion_judge(x).softmax(1) for x in clothes.split(250)])
sure = chances.max(1).values > 0.9
print(f"the judge is more than 0.9 sure of {sure.float().mean():.0%} of generated images")
surely = {name: clothes[sure & (chances.argmax(1) == k)] for k, name in enumerate(names)}
figure = plt.figure(figsize=(7, 7.4))
drawings.draw_rows(figure, {name: x[:8] for name, x in surely.items()})
records.picture("ch04a", figure);

# %% tags=["claims"]
assert not small or 0.2 < sure.float().mean() < card["sure_of_real"] - 0.2
assert len(chances.argmax(1).unique()) == 10

# %% [markdown]
# The part is small: the judge is sure of about a third of the generated images, and of 84 % of the real ones. Most of the shown images have a clear
# outline, but their textures are often spotted. Some are broken, mainly sandals and bags. The page does not show the images of which the judge is less
# sure. So this generator is far from perfect. The card holds its measured quality.
#
# ## 6 How good is it?
#
# ### Is every class there?
#
# Nobody told $G$ that there are ten classes. The classifier of section 5 names 1,000 generated images. We also ask how sure it is: for which share of
# the images does one class get a probability above 0.9? **Is this share the same for generated and for real images?**

# %%
G = G.cpu().eval()
z = torch.randn(1000, latent, generator=torch.Generator().manual_seed(0))
generated = draw_images(G, z)
predicted = classifier(generated).argmax(1)
counts = predicted.bincount(minlength=10)
sure_of = {name: (classifier(x).softmax(1).max(1).values > 0.9).float().mean().item()
           for name, x in (("generated", generated), ("validation", valid_images[:1000]))}
print("images of each class:", counts.tolist())
print(*(f"sure of {share:.0%} of the {name} images" for name, share in sure_of.items()), sep="\n")
drawings.draw_rows(plt.figure(figsize=(5.2, 4.4)),
                   {f"{k}: {counts[k]}": generated[predicted == k][:12] for k in range(10)})

# %% tags=["claims"]
assert counts.min() > 5 and counts.max() < 350
assert sure_of["generated"] < sure_of["validation"] - 0.05

# %% [markdown]
# All ten classes are there, and none is rare. But the classifier gives a class to every image, also to an image that is no digit. It is sure of fewer
# generated than real images. So a part of the generated images is not a clear digit, as the rows show.
#
# ### Are the images copies?
#
# A generator could have learned the training images by heart. Then each generated image would lie close to a training image. How close is *close*? We
# compare with real images that $G$ has never seen, and take their distances to the nearest training image. We call a generated image a copy if its own
# distance is below half of the median (中位数) of these distances. **Which of the two will be closer to the training images?**

# %%
drawings.draw_neighbours(plt.figure(figsize=(7, 4.2)), generated, valid_images[:1000], images)
far, real_far = (experiments.find_nearest(x, images)[0] for x in (generated, valid_images[:1000]))
copies = (far < 0.5 * real_far.median()).float().mean()
print(f"mean distance: generated {far.mean():.2f}, validation {real_far.mean():.2f};",
      f"generated images within half of the median: {copies:.1%}")

# %% tags=["claims"]
assert copies < 0.01 and (not small or far.mean() > real_far.mean())

# %% [markdown]
# The generated images are *further* away from the training images than real new images are. We found no copy. (This measure has a limit: a bad image is
# also far away from every training image.)
#
# ### How far from real images?
#
# Three numbers compare generated images with test images. All of them use the features of the classifier.
#
# - The **Fréchet distance** of section 5.
# - **Precision** (精确率): draw a ball around each real image that reaches to its third neighbour. Precision is the share of generated images in any ball.
# - **Recall** (召回率): draw the balls around generated images. Recall is the share of real images in any ball [Kynkäänniemi et al. 2019].
#
# The rules are the same for every row of the table.
#
# - Each row has as many images as the test set.
# - Each row has the test set's number of images of each class, by the judgement of the classifier. So no model wins by its class mix.
# - Each row has three draws. The table gives mean ± standard deviation over the draws. Each network was trained once, so the ± does not cover the
#   training.
# - *Other real images* are training images, treated like samples. This row shows what a perfect generator would reach.
#
# **Bits per dimension** (每维比特数) are for models that can compute the probability of a given image: $-\log_2p(x)$, divided by the number of pixels. A GAN
# can draw images, but it cannot compute $p(x)$. So the GAN has a dash in the column `bits`. The column `ms` is the time in milliseconds to draw one
# image and to name its class. The column `training s` is the training time in seconds.

# %%
from vlmbook.chapters import comparison

held_out, held_out_labels = test_images[:1000], test_labels[:1000]
n = len(held_out)
ways = {"other real images": lambda n: images[torch.randint(len(images), (n,))]}
if small:                                    # at 28×28 some classes never come from these two
    ways |= {name: model.sample for name, model in simple.items()}
ways["GAN"] = lambda n: draw_images(G, torch.randn(n, latent))
rows, samples = {}, {}
for name, draw in ways.items():
    runtime.seed_everything(1)
    rows[name] = comparison.measure_draws(draw, classifier, held_out, held_out_labels)
    samples[name], _ = comparison.draw_same_classes(draw, classifier, held_out_labels)
for name in simple.keys() & rows.keys():
    nats = simple[name].log_likelihood(held_out)
    rows[name]["bits"] = comparison.measure_bits(nats, held_out)
rows["GAN"]["training s"] = seconds
print(comparison.format_draws(rows))

# %% tags=["claims"]
from_real = {name: sum(row["frechet"]) / 3 for name, row in rows.items()}
assert from_real["other real images"] < from_real["GAN"] and "bits" not in rows["GAN"]
if small:
    assert from_real["GAN"] < from_real["Gaussian"] < from_real["pixel histogram"]
    assert sum(rows["GAN"]["recall"]) > sum(rows["Gaussian"]["recall"])


# %% [markdown]
# By the Fréchet distance the GAN is better than both baselines, and clearly worse than real images. (These distances cannot be compared with section 5:
# there the number of images and the classes were different.) The columns `precision` and `recall` are strange. The recall of the GAN is at least as high
# as the recall of real images. The precision of the GAN is close to the precision of the histogram, although the histogram draws noise.
#
# Can we trust these two columns? A measure should first be tested on images whose quality we know. The cell computes the precision by hand, also for
# **uniform noise** (均匀噪声), which should get 0. Then it uses only the narrower half of the balls.

# %%
def reach(x):                                # distance to the third neighbour; the first is itself
    return torch.cdist(x, x).kthvalue(4, dim=1).values

real, fake = (generation.extract_features(classifier, x) for x in (held_out, samples["GAN"]))
radius = reach(real)
narrow_first = radius.argsort()

def precision(x, balls):                     # share of the images x in any of these balls
    distances = torch.cdist(real[balls], generation.extract_features(classifier, x))
    return (distances <= radius[balls, None]).any(0).float().mean().item()

noise = to_levels(torch.rand(held_out.shape, generator=torch.Generator().manual_seed(0)))
every, half_of = {}, {}
for name, x in (samples | {"uniform noise": noise}).items():
    every[name] = precision(x, narrow_first)
    half_of[name] = precision(x, narrow_first[:n // 2])
    print(f"{name:>17}: {every[name]:.2f} in any ball, {half_of[name]:.2f} in a narrow one")
few = precision(noise, narrow_first[:-n // 10])
print(f"uniform noise without the widest tenth of the balls: {few:.2f}")

# %% tags=["claims"]
if small:                                    # this was seen on the digits
    assert half_of["other real images"] > half_of["GAN"] > half_of["Gaussian"] + 0.05
    assert few < 0.15 and half_of["Gaussian"] + 0.05 > half_of["uniform noise"]
    scored = generation.score(classifier, samples["GAN"], held_out)["precision"]
    assert abs(every["GAN"] - scored) < 0.01 and every["uniform noise"] > 0.4
    assert reach(fake).median() > 1.1 * radius.median()

# %% [markdown]
# We cannot trust them here: noise gets a precision as high as the GAN. Without the widest tenth of the balls noise gets almost 0. So the cause is a few
# real digits that are far from all the others. Their balls are very wide, and many bad images lie in them. In the narrow balls the order agrees with the
# eye. Recall has the same problem: the generated images are more scattered than the real ones, so *their* balls are wide. (Kynkäänniemi et al. use
# 50,000 images. We have a few hundred.)
#
# So test a measure on noise before you use it to rank models. Chapters 4b and 4c show the row of the GAN again, beside models that have bits.
#
# ## 7 A walk through the latent space
#
# The vectors $z$ form the **latent space** (潜空间). We take two vectors and walk from one to the other. The upper row is $G(z)$ on the way. The lower row
# mixes the two *images* instead. **How do the middles of both rows differ?** There are two ways between the vectors: a straight line, or an arc (球面插值).
# In the middle of the straight line $z$ is shorter than most vectors in the training. On the arc the length of $z$ changes evenly from the first vector
# to the last one.

# %%
ends = z_clothes[chances.argmax(0)]          # of each class the vector that the judge is surest of
walk_names = dict(zip(names, range(10)))
interact.live(partial(drawings.draw_walk, generator=fashion_g, latents=ends, start=0, end=9),
              start=walk_names, end=walk_names, position=(0.0, 1.0, 0.05),
              path=["arc", "straight"], figsize=(7, 1.8))

# %% tags=["claims"]
with torch.no_grad():
    walk = fashion_g(experiments.interpolate_latents(ends[0], ends[9], torch.linspace(0, 1, 101)))
jumps = (walk[1:] - walk[:-1]).flatten(1).norm(dim=1) / (walk[0] - walk[-1]).norm()
assert jumps.max() < 0.5

# %% [markdown]
# In the upper row one form turns into the other one, and most images on the way have one clear outline. In the lower row both articles are visible at
# once. So neighbours in the latent space give similar images. But not every vector gives a good image: $G$ is continuous, so between two classes there
# must be images that belong to neither.
#
# ## 8 Going deeper: what has $D$ learned?
#
# $D$ has seen many images. Are its inner layers useful features? We cut off the last layer of $D$ and train a linear classifier (logistic regression,
# 逻辑回归) on the numbers that are left. There are two controls: the same classifier on the pixels, and on a $D$ that was *not* trained. **Which of the
# three will be best?**

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

def fit_probe(see):                          # -> share of validation images classified right
    with torch.no_grad():
        x, held = (see(part).flatten(1).numpy() for part in (images[:1000], valid_images[:1000]))
    scale = StandardScaler().fit(x)
    linear = LogisticRegression(max_iter=1000).fit(scale.transform(x), labels[:1000])
    return linear.score(scale.transform(held), valid_labels[:1000])


D = D.cpu()
fresh = Discriminator(size, width=width)
views = {"pixels": lambda x: x, "untrained D": lambda x: fresh.layers[:-1](2 * x - 1),
         "trained D": lambda x: D.layers[:-1](2 * x - 1)}             # D sees pixels from -1 to 1
probes = {name: fit_probe(see) for name, see in views.items()}
print(*(f"{name} {share:.1%}" for name, share in probes.items()), sep=", ")

# %% tags=["claims"]
assert min(probes.values()) > 0.7
assert not small or abs(probes["trained D"] - probes["untrained D"]) < 0.05

# %% [markdown]
# On the digits the three differ by a few of the 240 validation images, which is no more than chance. The features of $D$ are good, but features of
# random convolutions are as good. So this test does not show what the training added. Radford et al. [2015] report useful features of $D$ on larger
# images.
#
# ## 9 Going deeper: does the game come to rest?
#
# The smallest GAN has two numbers [Mescheder et al. 2018]. Every real image is the number 0. Every generated image is the number $\theta$. The
# discriminator is $D(x)=\sigma(\psi x)$. So $V=-\log2+\log\big(1-\sigma(\psi\theta)\big)$. The equilibrium (均衡) is $\theta=\psi=0$: there both gradients
# are 0. We start at $\theta=1$ and $\psi=0$, and take 500 gradient steps in four ways:
#
# - *simultaneous*: both move at once, with the gradient of $V$;
# - *alternating*: first $D$, then $G$, as in algorithm 1;
# - *alternating, −log D*: $G$ uses the loss that is used in practice;
# - *alternating, R1*: the loss of $D$ gets the penalty **R1** $=\frac\gamma2\,\mathbb E\|\nabla_x D\text{'s logit}\|^2$ at real images. This penalty
#   makes $D$ flat there. In this game the logit is $\psi x$, so R1 is $\frac\gamma2\psi^2$.
#
# **Which of the four will reach the middle?** Then change the learning rate `lr`, and the weight `gamma` of R1.

# %%
interact.live(drawings.draw_orbits, lr=(0.02, 0.3, 0.02), gamma=(0.0, 1.0, 0.1), figsize=(7, 2.4))

# %% tags=["claims"]
orbit_ends = {way: experiments.simulate_dirac_gan(*way)[-1].norm() for way in (
    ("simultaneous", "minimax"), ("alternating", "minimax"), ("alternating", "non-saturating"))}
out, circle, slow = orbit_ends.values()
assert out > 1.5 and 0.7 < circle < 1.3 and 0.2 < slow < 0.6
assert experiments.simulate_dirac_gan("alternating", gamma=0.5)[-1].norm() < 0.01

# %% [markdown]
# With simultaneous steps both numbers spiral outwards. With alternating steps they go round in a circle. With $-\log D$ they come nearer, but slowly.
# With R1 they reach the middle. So even this smallest game does not come to rest if we only alternate the steps. For larger networks there is no general
# guarantee (保证).
#
# R1 is not the only remedy. **Spectral normalisation** (谱归一化) divides the weights of each layer of $D$ by their largest singular value [Miyato et al.
# 2018]; the package has it as `Discriminator(…, normalise="spectral")`. A **conditional GAN** (条件生成对抗网络) gives the class to $G$ and to $D$, so that one
# can ask for a class [Mirza & Osindero 2014]. We do not train these two here.
#
# ## 10 Going deeper: break the game
#
# Back to the ring, where we can count the modes. We change one thing at a time. Every game has 400 steps of $D$ and the same three seeds.
#
# - *5 steps of G*: $G$ takes five steps for each step of $D$. Against a fixed $D$, the best answer of $G$ is to put *all* its points where $D$ is
#   largest.
# - *momentum 0.9*: the momentum (动量) $\beta_1$ of Adam (an optimizer) is 0.9, its usual value. On the ring it was 0, on the digits 0.5.
# - *R1*: the same two games, with the penalty R1 of section 9 in the loss of $D$ ($\gamma=10$).
#
# **How many modes will each game find?** The figure has one dot for each seed: the number of modes, as a mean over the last quarter of the game. The
# cell also prints the losses. For $g=p$ they would be $\log4=1.39$ for $D$ and $\log2=0.69$ for $G$. **Do the losses show which games failed?** The
# figure with the ring shows the worst game of each kind. Choose the game with five steps, and move through it with `moment`. **Do the points stay where
# they are?**

# %%
from vlmbook.gan import r1_penalty

def r1(D, real, fake, gamma=10.0):
    return gamma / 2 * r1_penalty(D, real)


ways_to_break = {"5 steps of G": {"turns": 5}, "5 steps of G, R1": {"turns": 5, "penalty": r1},
                 "momentum 0.9": {"beta": 0.9},
                 "momentum 0.9, R1": {"beta": 0.9, "penalty": r1}}
games |= {name: [watch(seed, **way) for seed in seeds] for name, way in ways_to_break.items()}
modes_found = {name: torch.tensor([game["late"] for game in each]) for name, each in games.items()}
drawings.draw_found(plt.figure(figsize=(7, 2.3)), modes_found)
for name, each in games.items():
    loss_d, loss_g = torch.stack([game["losses"] for game in each]).mean(0)
    print(f"{name}: loss of D {loss_d:.2f}, loss of G {loss_g:.2f}")
worst = {name: min(each, key=lambda game: game["late"]) for name, each in games.items()}
draw_worst = partial(drawings.draw_ring, real=ring(800), runs=worst, run="5 steps of G", moment=12)
interact.live(draw_worst, run=list(worst), moment=(0, 39), figsize=(7, 3.2))

# %% tags=["claims"]
assert modes_found["one step each"].min() > 7
assert (modes_found["5 steps of G"] < 3).sum() >= 2 and modes_found["momentum 0.9"].mean() < 6
for name in ("5 steps of G", "momentum 0.9"):
    assert modes_found[f"{name}, R1"].mean() > modes_found[name].mean() + 1.5
assert modes_found["5 steps of G, R1"].mean() > 7
ideal, away = torch.tensor([4.0, 2.0]).log(), {}
for name, each in games.items():
    away[name] = (torch.stack([game["losses"] for game in each]).mean(0) - ideal).abs().max()
close = max(away[name] for name in ("5 steps of G", "5 steps of G, R1", "momentum 0.9, R1"))
assert close < min(0.1, away["one step each"])
assert away["momentum 0.9"] > 0.3

# %% [markdown]
# With five steps of $G$ the games show **mode collapse** (模式崩溃): $G$ makes one mode, or jumps between a few of them. In most of these games it finds
# fewer than three modes. The number depends on the seed. With momentum 0.9 most modes are lost too. R1 helps in both cases. With five steps it brings
# all modes back. With momentum 0.9 it brings back a part of them.
#
# The losses do not show it. The collapsed games with five steps have almost the losses of $g=p$, and all games with R1 have them too. The games with one
# step each find all modes, but their losses are further away from these values. The losses show only the failure of momentum 0.9 without R1: the loss of
# $D$ is small, and the loss of $G$ is large.
#
# The points of the worst game with five steps do not stay. They move together: at some moments they cover one mode, at other moments they cover none.
# Where the points are, $D$ learns to say *generated*. Then the points move away.
#
# ## 11 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch04a.1")` helps in steps, `solution("ch04a.1")` shows one answer.
#
# **1 · Predict.** `Generator(64, channels=3, width=16)` gets 5 noise vectors. It starts with maps of 4×4. Each transposed convolution doubles the
# height and the width, and halves the number of channels. The last one gives `width` channels. Which shape has the output of the *second* transposed
# convolution?

# %%
shape = ...                                  # (B, C, H, W)
check("ch04a.1", shape)


# %% [markdown]
# **2 · Derive, then write.** The best discriminator gives an image $x$ the logit $\ell$, so $\sigma(\ell)=\frac{p(x)}{p(x)+g(x)}$. Solve this equation
# for $\frac{p(x)}{g(x)}$ on paper. How many times more probable is the image in the data than from the generator?

# %%
def times_more_probable(logit):              # a Python number -> p(x) / g(x)
    ...


check("ch04a.2", times_more_probable)


# %% [markdown]
# **3 · Change.** The relativistic loss [Jolicoeur-Martineau 2019] compares pairs of images. $D$ gives each image its own logit: $C(x_r)$ for a real
# image, $C(x_g)$ for a generated one. The probability that $x_r$ looks more real than $x_g$ is $\sigma\big(C(x_r)-C(x_g)\big)$. Write the loss of this
# discriminator: minus the logarithm of this probability, as a mean over the pairs. **The loss must be numerically stable** (数值稳定): for two logits that
# are 200 apart it must give 200 and not infinity.

# %%
def pair_loss(real, fake):                   # (B,), (B,) logits -> scalar
    ...


check("ch04a.3", pair_loss)


# %% [markdown]
# **4 · Build.** The gradient penalty of the WGAN [Gulrajani et al. 2017]. For each real image and each generated image take a point between them, $\hat
# x=\epsilon\,x_r+(1-\epsilon)\,x_g$. The norm of the gradient of $D$ at this point should be 1: $\mathbb E\big[(\|\nabla_{\hat x}D(\hat
# x)\|_2-1)^2\big]$. The result must be differentiable with respect to the parameters of $D$. (To try it, give `watch` the penalty `lambda D, real,
# fake: 10 * gradient_penalty(D, real, fake, torch.rand(len(real), 1))`.)

# %%
def gradient_penalty(D, real, fake, eps):    # eps is (B, 1, 1, 1) -> scalar
    ...


check("ch04a.4", gradient_penalty)

# %% [markdown]
# **5 · Train, change, measure.** Section 10 added R1 to games that failed. Does R1 also change a game that works? Play `watch(seed)` for the seeds 0, 1
# and 2, and `watch(seed, penalty=partial(r1, gamma=1.0))` for the same seeds. Measure `game["share"]`, the share of the points that lie in a mode at
# the end. Put the six numbers into a dict with the keys "no penalty" and "R1", and your conclusion under the key "conclusion": "no penalty", "R1" or
# "no difference". Two means differ if their distance is larger than the sum of both standard deviations.

# %%
shares = ...                                 # {"no penalty": …, "R1": …, "conclusion": …}
check("ch04a.5", shares)

# %% [markdown]
# ## 12 Book check
#
# **W07 · the discriminator of a pair.** §2.2.2 prints $D(x)=D(x_r,x_g)$. So $D$ would take a *pair*: a real image and a generated one. What would such
# a network learn? The cell builds it with two channels, first the real image, then noise.

# %%
pair = Discriminator(size, channels=2, width=16)
adam = torch.optim.Adam(pair.parameters(), lr=2e-3)
for _ in range(60):
    real_batch = images[torch.randint(1000, (64,))]
    noise_batch = torch.rand(64, 1, size, size)
    loss = F.softplus(-pair(torch.cat([real_batch, noise_batch], 1))).mean()       # "first is real"
    adam.zero_grad()
    loss.backward()
    adam.step()
noticed = (pair(torch.cat([noise_batch, real_batch], 1)) < 0).float().mean()
print(f"loss {loss:.4f} nats; exchanged pairs noticed: {noticed:.0%}")
try:
    pair(torch.rand(5, 1, size, size))
except ValueError as refused:
    print("a single image:", refused)

# %% tags=["claims"]
assert loss < 0.05 and noticed < 0.1
try:
    pair(torch.rand(5, 1, size, size))
    raise AssertionError("a single image was accepted")
except ValueError:
    pass

# %% [markdown]
# The network learns that the first image is always the real one. So it does not need to look, and does not notice when digit and noise are exchanged. A
# single generated image cannot be given to it, so $D(G(z))$ is not defined. The correct statement: $D$ takes one image, $D:\mathcal X\to[0,1]$. (A pair
# can be used if each image first gets its own logit: exercise 3.)
#
# - **M01 · the objective.** Under GAN的数学原理 the book gives no $V$, no minimum or maximum, and no loss → section 3 has all of them.
# - **W18 · the diagrams** of §2.2 and §2.2.2 have no arrow from real images to $D$, and no gradient back to $G$ and $D$; §2.2 has no noise → the
#   drawing of section 2.
# - **I10 · "the generator's goal is real images"** (生成真实的图像). A generated image is never real, and single good images are not enough → the goal is
#   $g=p$ (section 3, the generator that always shows the first image).
# - **M03 · "finally the generator makes high-quality, real images"** (最终…), after three stages that begin with $G$ → there is no such guarantee
#   (sections 9 and 10). Algorithm 1 only alternates, and $D$ goes first.
# - **M21 · GAN as a technique of feature extraction** (§1.1) → a GAN is trained to generate. The layers of $D$ can be used as features; section 8 tests
#   it.
# - **W40 · "common GAN architectures"** (§1.3) lists generator, discriminator, VAE and GPT → the first two are parts of every GAN. VAE and GPT have no
#   discriminator (chapters 4b and 4c). Architectures of GANs are DCGAN [Radford et al. 2015], WGAN [Arjovsky et al. 2017] or StyleGAN [Karras et al.
#   2019].
#
# ## 13 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook trains on 50,000 articles of clothing of 28×28 pixels, with the networks of section 2. The last output
# below shows the published runs. It also says if a profile has no published run yet:

# %%
records.record("ch04a", seed=0, rows=rows, classes=counts.tolist(), frechet=scores,
               sure=sure_of | {"clothes": sure.float().mean().item()},
               memory={step: gap[0] for step, gap in gaps.items()},
               nearest={"generated": far.mean(), "held out": real_far.mean()},
               modes_found={name: late.tolist() for name, late in modes_found.items()},
               linear_probe=probes);

# %% tags=["record"]
records.show("ch04a", "quick")
records.show("ch04a", "full")

# %% [markdown]
# ## 14 What we learned
#
# 1. $G$ turns noise into images, $D$ classifies single images as real or generated. The loss of $D$ is binary cross-entropy.
# 2. The best discriminator is $p/(p+g)$, and the value of the game is then $-\log4+2\,\mathrm{JSD}$. In practice $G$ uses $-\log D$, because the loss
#    of the game is flat at the start.
# 3. The losses compare the two networks with each other. They do not measure the images, and $D$ can remember its training images.
# 4. Measure classes, copies and the distance to real images, at equal classes, with a simple baseline. Test each measure on noise.
# 5. The alternating game has no guarantee to come to rest. Too many steps of $G$ or a large momentum made it fail on the ring.
#
# **References.** I. Goodfellow et al., *Generative adversarial nets*, NIPS 2014, arXiv:1406.2661 · A. Radford, L. Metz, S. Chintala, *Unsupervised
# representation learning with deep convolutional generative adversarial networks*, ICLR 2016 [2015], arXiv:1511.06434 · L. Mescheder, A. Geiger, S.
# Nowozin, *Which training methods for GANs do actually converge?*, ICML 2018, arXiv:1801.04406 · T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida,
# *Spectral normalization for generative adversarial networks*, ICLR 2018, arXiv:1802.05957 · M. Mirza, S. Osindero, *Conditional generative adversarial
# nets*, 2014, arXiv:1411.1784 · T. Karras et al., *Training generative adversarial networks with limited data*, NeurIPS 2020, arXiv:2006.06676 · M.
# Heusel, H. Ramsauer, T. Unterthiner, B. Nessler, S. Hochreiter, *GANs trained by a two time-scale update rule converge to a local Nash equilibrium*,
# NIPS 2017, arXiv:1706.08500 · T. Kynkäänniemi, T. Karras, S. Laine, J. Lehtinen, T. Aila, *Improved precision and recall metric for assessing
# generative models*, NeurIPS 2019, arXiv:1904.06991 · M. Arjovsky, S. Chintala, L. Bottou, *Wasserstein generative adversarial networks*, ICML 2017,
# arXiv:1701.07875 · I. Gulrajani, F. Ahmed, M. Arjovsky, V. Dumoulin, A. Courville, *Improved training of Wasserstein GANs*, NIPS 2017,
# arXiv:1704.00028 · A. Jolicoeur-Martineau, *The relativistic discriminator: a key element missing from standard GAN*, ICLR 2019, arXiv:1807.00734 · T.
# Karras, S. Laine, T. Aila, *A style-based generator architecture for generative adversarial networks*, CVPR 2019, arXiv:1812.04948 · H. Xiao, K.
# Rasul, R. Vollgraf, *Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms*, 2017, arXiv:1708.07747.
