# %% [markdown]
# # 4a · Generative adversarial networks (生成对抗网络)
#
# *Book: §2.2.2 (1), 生成对抗网络（GAN）*
#
# **How do two networks that play against each other learn to draw digits, and how would we know that they did?**
#
# You will be able to write the two networks and the alternating step, check what the game has as its value and its best answer, say why its
# own loss is not the one in use, make a GAN collapse and cure it, and judge what it draws: is everything there, is it copied, how far from
# real is it?
#
# Run the cells from top to bottom. The first one prints what a whole run costs, and shows what its published run drew: each column a class,
# as a network that knows real digits reads them.

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
torch.set_num_threads(1)                     # nets this small gain little from more threads
plot.use_style()
records.published("ch04a")
if (published := records.RESULTS / "ch04a.quick.png").exists():
    plot.gallery([data.read_image(published, channels=3)], width=7.162);      # pixel by pixel

# %% [markdown]
# ## 1 The data, looked at
#
# The digits of chapter 3: real scans, 8×8, whose pixels take 17 levels, 0 to 16. They fall into three parts. One to learn from; a
# validation part (验证集), by which we choose; and the test images, which are looked at once, in section 6. With `VLMBOOK_PROFILE=full` it is
# Fashion-MNIST [Xiao et al. 2017], 28×28 with 256 levels, if you have it.

# %%
parts = data.hold_out(*data.digits_or_fashion("train"), share=1 / 6)       # (B, 1, H, W), (B,)
(images, labels), (valid_images, valid_labels) = parts
test_images, test_labels = data.digits_or_fashion("test")
levels = 17 if (size := images.shape[-1]) == 8 else 256
print(len(images), "to learn from,", len(valid_images), "to choose by,", len(test_images), "test")

# %% tags=["claims"]
assert_close((images * (levels - 1)).round() / (levels - 1), images)

# %% [markdown]
# What is the simplest machine that makes new digits? Count for each pixel how often it had which level, and draw each pixel by itself: a
# histogram (直方图) a pixel. Or keep mean and covariance (协方差) of all pixels, and draw from one Gaussian. Guess what each looks like, then
# look.

# %%
simple = {"pixel histogram": pixel_models.PixelHistogram(images, levels),
          "Gaussian": pixel_models.PixelGaussian(images, levels)}
draws = torch.Generator().manual_seed(0)
strips = {"real": images[:10]}
strips |= {name: model.sample(10, draws) for name, model in simple.items()}
panels = plot.gallery(torch.cat([*strips.values()]), columns=10)
for line, name in zip(panels, strips):
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")

# %% [markdown]
# The histogram knows no neighbours. The Gaussian knows every pair of pixels, and that is not enough for a stroke. A network that turns
# noise into images could know more. But what should it minimise? Nobody can say which digit a noise vector ought to become.
#
# ## 2 The idea, written here
#
# The answer of Goodfellow et al. [2014]: let a second network be the loss. The generator (生成器) $G$ makes an image $G(z)$ of noise (噪声) $z$.
# The discriminator (判别器) $D$ looks at *one* image $x$ and gives the probability that it is real. Each learns from the other.

# %%
drawings.draw_game(plt.figure(figsize=(7, 2.4)))

# %% [markdown]
# First the two networks, by hand, with the parameters of the package's [after Radford et al. 2015]. $G$ turns $z$ by a linear layer into small
# maps, and doubles their size by transposed convolutions (转置卷积, chapter 3a); $D$ halves it by convolutions with stride 2. Here is the small
# case: 8×8, so one doubling. `z` is `(5, 32)`. Which shapes have `a`, `b` and the image?

# %%
from vlmbook.gan import Discriminator, Generator

def norm(x, layer):                          # written out in chapter 3b
    return F.batch_norm(x, None, None, layer.weight, layer.bias, training=True)

def generator_by_hand(net, z):
    linear, _, norm_a, _, up, norm_b, _, conv, _ = net.layers
    a = norm((z @ linear.weight.T).view(len(z), -1, 4, 4), norm_a).relu()
    b = norm(F.conv_transpose2d(a, up.weight, stride=2, padding=1), norm_b).relu()
    return F.conv2d(b, conv.weight, conv.bias, padding=1).sigmoid(), (a, b)

def discriminator_by_hand(net, x):           # logits: D(x) is their sigmoid
    conv, _, down, _, _, linear = net.layers
    x = F.leaky_relu(F.conv2d(2 * x - 1, conv.weight, conv.bias, padding=1), 0.2)
    x = F.leaky_relu(F.conv2d(x, down.weight, down.bias, stride=2, padding=1), 0.2)
    return (x.flatten(1) @ linear.weight.T + linear.bias)[:, 0]

G, D, z = Generator(8, latent=32, width=16), Discriminator(8, width=16), torch.randn(5, 32)
x, maps = generator_by_hand(G, z)
print(*(tuple(each.shape) for each in (z, *maps, x)), sep=" -> ")
parameters = [*G.parameters(), *D.parameters()]
slopes = [torch.autograd.grad(logits.sum(), parameters)
          for logits in (discriminator_by_hand(D, x), D(G(z)))]

# %% tags=["claims"]
assert_close((x, discriminator_by_hand(D, x)), (G(z), D(G(z))), rtol=1e-4, atol=1e-5)
assert_close(*slopes, rtol=1e-3, atol=1e-4)

# %% [markdown]
# Values and gradients agree. (The logits are what the network gives; the sigmoid is left to the losses, which then never take the logarithm
# of 0.)
#
# ### The game
#
# $D$ wants a high probability for real images $x\sim p$, and a low one for images of the generator, whose distribution (分布) we call $g$.
# $G$ wants the opposite. Both fight over one number $V$, a minimax game (极小极大博弈) [eq. 1]:
#
# $$\min_G\max_D V(D,G)=\mathbb E_{x\sim p}\big[\log D(x)\big]+\mathbb E_z\big[\log\big(1-D(G(z))\big)\big]$$
#
# Suppose there were only three images in the world, and both distributions known. What would the best $D$ say of each? We find it by gradient ascent on three logits.

# %%
from vlmbook.gan import discriminator_loss, optimal_discriminator

def value(p, g, d):                          # three numbers each -> V in nats
    return (torch.xlogy(p, d) + torch.xlogy(g, 1 - d)).sum()


p, g = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
logits = torch.zeros(3, requires_grad=True)
for _ in range(500):
    (slope,) = torch.autograd.grad(value(p, g, logits.sigmoid()), logits)
    logits = (logits + slope).detach().requires_grad_()
best = logits.sigmoid().detach()
print("found", best.tolist(), "p/(p + g)", (p / (p + g)).tolist())

# %% tags=["claims"]
assert_close(best, p / (p + g), rtol=0, atol=1e-4)
assert_close(optimal_discriminator(p, g), p / (p + g))


# %% [markdown]
# The best discriminator for a fixed generator compares the two probabilities [proposition 1], and with it the value has a meaning [theorem
# 1]:
#
# $$D^*(x)=\frac{p(x)}{p(x)+g(x)},\qquad V(D^*,G)=-\log4+2\,\mathrm{JSD}(p\,\|\,g),\qquad
# \mathrm{JSD}=\tfrac12\mathrm{KL}\big(p\,\|\,\tfrac{p+g}2\big)+\tfrac12\mathrm{KL}\big(g\,\|\,\tfrac{p+g}2\big)$$
#
# The Jensen-Shannon divergence (JS散度) is 0 exactly where $g=p$. What is $D^*$ there, and what is $V$? And what is the largest $V$ a
# discriminator can reach?

# %%
def jsd(p, g):                               # in nats
    kl = lambda a, b: (torch.xlogy(a, a) - torch.xlogy(a, b)).sum()
    return (kl(p, (p + g) / 2) + kl(g, (p + g) / 2)) / 2


log4, apart = torch.tensor(4.0).log(), torch.tensor([0.0, 0.0, 1.0])
for name, q in {"g": g, "g = p": p, "g elsewhere": apart}.items():
    pair = (p, q) if q is not apart else (torch.tensor([0.5, 0.5, 0.0]), q)
    V, bound = value(*pair, optimal_discriminator(*pair)), -log4 + 2 * jsd(*pair)
    print(f"{name}: V = {V:.4f}, -log 4 + 2 JSD = {bound:.4f}, JSD = {jsd(*pair):.4f}")
    assert_close(V, bound)

# %% tags=["claims"]
assert (optimal_discriminator(p, p) == 0.5).all()

# %% [markdown]
# A half everywhere, and $-\log4$: $D$ can only toss a coin. At the other end, where both share nothing, $V$ is 0 and the JSD is $\log2$.
#
# On a line one can see it. Move the generator's Gaussian onto the data's. When is the green line flat? And with `shift` 0 and a `spread` of
# 0.3: where does $D^*$ point, in and out?

# %%
interact.live(drawings.draw_optimal, shift=(-2.0, 4.0, 0.25), spread=(0.3, 2.0, 0.1),
              figsize=(7, 2.6))

# %% [markdown]
# Flat only at `shift` 0 and `spread` 1. With a narrow spread $D^*$ says *fake* in the middle, where the generator puts too much, and *real*
# further out: this slope is what moves $G$.
#
# ### The losses
#
# A network minimises. So $D$ gets $-V$, with means over a batch, and $G$ gets its part of $V$. From logits $\ell$, with $D=\sigma(\ell)$:
#
# $$L_D=-\frac1B\sum_b\log\sigma(\ell^{\text{real}}_b)-\frac1B\sum_b\log\big(1-\sigma(\ell^{\text{fake}}_b)\big),\qquad
# L_G^{\text{sat}}=\frac1B\sum_b\log\big(1-\sigma(\ell^{\text{fake}}_b)\big),\qquad
# L_G=-\frac1B\sum_b\log\sigma(\ell^{\text{fake}}_b)$$
#
# The third is what is used in practice. It pulls the same way as the second and is not its equal: at the start every image of $G$ is bad,
# and $D$ knows it, with a logit of $-10$ say. How strong is then the pull on $G$ from either?

# %%
from vlmbook.gan import non_saturating_loss, saturating_loss

real, fake = torch.randn(6), torch.randn(6)
by_hand = -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean())

l = torch.linspace(-12, 6, 200, requires_grad=True)
_, axes = plt.subplots(figsize=(7, 2.4))
for name, loss in {"log(1 - D), saturating": saturating_loss,
                   "-log D, non-saturating": non_saturating_loss}.items():
    (slope,) = torch.autograd.grad(loss(l) * len(l), l)
    axes.plot(l.detach(), slope.abs(), label=name)
axes.axvline(-10, color=plot.GREY, linewidth=1)
axes.set(xlabel="logit of a generated image", ylabel="pull on the logit")
axes.legend()
l = torch.tensor([-10.0], requires_grad=True)
both = saturating_loss, non_saturating_loss
pulls = [torch.autograd.grad(loss(l), l)[0].item() for loss in both]
print(f"at -10: saturating {pulls[0]:.1e}, non-saturating {pulls[1]:.5f}")

# %% tags=["claims"]
assert_close(discriminator_loss(real, fake), by_hand)
assert_close(saturating_loss(fake), (1 - fake.sigmoid()).log().mean())
assert_close(non_saturating_loss(fake), -fake.sigmoid().log().mean())
assert -5e-5 < pulls[0] < -4e-5 and -1 < pulls[1] < -0.999


# %% [markdown]
# The loss of the game is flat where $G$ is worst: it saturates (饱和). The other one is steep there. If $g=p$ and $D$ is best, both gradients of $G$ are 0 in the mean. But only one
# of the two losses gets away from the start.
#
# ### The alternating step
#
# Here is all of the training (algorithm 1). Each round: draw a batch of real images and one of noise; $D$ takes a step with $G$ held fixed,
# so `detach`; then $G$ takes a step *through* $D$, and moves only its own parameters. Two optimisers (优化器), one for each player.

# %%
def play(G, D, draw_real, steps, *, latent, lr, batch=64, beta=0.5, turns=1):
    climber = torch.optim.Adam(D.parameters(), lr=lr, betas=(beta, 0.99))
    drawer = torch.optim.Adam(G.parameters(), lr=lr, betas=(beta, 0.99))
    for step in range(steps):
        for player in (climber, drawer):                           # smaller and smaller steps
            player.param_groups[0]["lr"] = lr * (1 - step / steps)
        real = draw_real(batch)
        noise = lambda: torch.randn(batch, latent).to(real.device)

        climber.zero_grad()                                        # 1 · D climbs
        loss_d = discriminator_loss(D(real), D(G(noise()).detach()))
        loss_d.backward()
        climber.step()

        for _ in range(turns):                                     # 2 · G descends, through D
            drawer.zero_grad()
            loss_g = non_saturating_loss(D(G(noise())))
            loss_g.backward()
            drawer.step()
        yield step + 1, loss_d.item(), loss_g.item()


# %% [markdown]
# What does `detach` save? In step 1 the gradient need not run on into $G$: it would be computed for nothing. In step 2 it has to run
# through $D$ into $G$; it leaves something in $D$ on its way, but the second optimiser holds only $G$'s parameters, and `zero_grad` throws the
# rest away in the next round. Section 3 looks at what either loss reaches.
#
# ## 3 Book check
#
# **M01 · no objective.** Under GAN的数学原理 §2.2.2 prints two formulas, $x_g=G(z)$ and the one below: no $V$, no minimum, no maximum, no loss.
# Nobody could train from them. Section 2 has what is missing: $V$, its value at the best $D$, and why $-\log D$ is used instead; each
# was checked there.
#
# **W07 · $D(x)=D(x_r,x_g)$.** Printed so, the discriminator takes a *pair*, a real and a generated image. Let us build it: two channels,
# first the real, then the generated image. What will it learn?

# %%
pair = Discriminator(size, channels=2, width=16)
adam = torch.optim.Adam(pair.parameters(), lr=2e-3)
for _ in range(60):
    real, fake = images[torch.randint(1000, (64,))], torch.rand(64, 1, size, size)
    loss = F.softplus(-pair(torch.cat([real, fake], 1))).mean()        # "the first is the real one"
    adam.zero_grad()
    loss.backward()
    adam.step()
swapped = (pair(torch.cat([fake, real], 1)) < 0).float().mean()
print(f"loss {loss:.4f} nats; exchanged pairs noticed: {swapped:.0%}")
try:
    pair(G(z))
    raise AssertionError("D(G(z)) went through")
except ValueError as refused:
    print("D(G(z)):", refused)

# %% tags=["claims"]
assert loss < 0.05 and swapped < 0.1

# %% [markdown]
# That the first of two is the real one, which is always so: it has no need to look, and does not notice when noise and digit are exchanged.
# And $D(G(z))$, which all losses need, does not exist. $D$ takes one image, $D:\mathcal X\to[0,1]$. (The book's words, to tell real from
# generated, are right. A pair can be used, if each image first gets a number of its own: exercise 3.)
#
# **W18 · the diagrams.** §2.2 draws 生成器 → 生成图像 → 判别器 → 对抗训练; §2.2.2 begins with the noise and ends with 损失函数 → 优化器. Read the edges: what
# enters $D$, and does a way lead back from the end to $G$?

# %%
import re

def reachable(edges, start):                 # -> set of nodes
    found = {start}
    for _ in edges:
        found |= {end for begin, end in edges if begin in found}
    return found - {start}

printed = {"§2.2": ("A --> B B --> C C --> D", "A", "C"),
           "§2.2.2": ("A --> B B --> C C --> D D --> E E --> F", "B", "D")}
graphs = {name: (re.findall(r"(\w) --> (\w)", text), g, d) for name, (text, g, d)
          in printed.items()}
graphs["ours"] = [*drawings.GAME, *drawings.GRADIENTS], "G", "D"
for name, (edges, g_node, d_node) in graphs.items():
    entering = [begin for begin, end in edges if end == d_node and begin != "V"]
    back = g_node in reachable(edges, edges[-1][0])
    print(f"{name}: {len(entering)} into D, a way back to G: {back}")
    assert (len(entering), back) == ((2, True) if name == "ours" else (1, False))

G, D = Generator(size, latent=32, width=16), Discriminator(size, width=16)
x, fake = images[:5].clone().requires_grad_(), G(z)
reaches = lambda loss: [slope is not None for slope in torch.autograd.grad(
    loss, [next(D.parameters()), next(G.parameters()), x], allow_unused=True, retain_graph=True)]

# %% tags=["claims"]
assert reaches(discriminator_loss(D(x), D(fake.detach()))) == [True, False, True]     # D, not G, x
assert reaches(non_saturating_loss(D(fake))) == [True, True, False]                   # D, G, not x

# %% [markdown]
# In the book's $D$ no real image ever arrives, so it has nothing to compare with; and nothing leads back to the two networks, so neither
# would learn. (In §2.2 the noise is missing too.) The last lines ask PyTorch: step 1 reaches $D$ from real and generated images, step 2 reaches
# $G$ through $D$.
#
# **I10 · "the generator's goal is real images"** (生成真实的图像). A generated image is never real. Is it at least the goal that each one *could* be?
# Take the three images of section 2, and a generator that always shows the first.

# %%
always_first = torch.tensor([1.0, 0.0, 0.0])
for name, q in {"always the first image": always_first, "as often as in the data": p}.items():
    print(f"{name}: D* = {optimal_discriminator(p, q).tolist()}, JSD {jsd(p, q):.3f} nats")

# %% tags=["claims"]
assert p[always_first > 0].min() > 0 and jsd(p, always_first) > 0.1 and jsd(p, p) == 0

# %% [markdown]
# Each of its images is perfect, and it is caught: it shows one too often and the others never. The goal is the distribution, $g=p$, where
# $D^*$ is a half everywhere.
#
# **M03 · "finally it generates high-quality, real images"** (最终…). Is there such an end? Take the smallest GAN of all [Mescheder et al.
# 2018]. Every real image is the number 0, every generated one the number $\theta$, and $D(x)=\sigma(\psi x)$. The end would be $\theta=\psi=0$.
# Start at $\theta=1$, and let both move at once, each by the slope of $V$. Do they arrive? Then choose *alternating*, as algorithm 1 does;
# then *non-saturating*; then `gamma` 0.5.

# %%
cases = ("simultaneous", "minimax"), ("alternating", "minimax"), ("alternating", "non-saturating")
out, circle, slow = (experiments.simulate_dirac_gan(*case)[-1].norm() for case in cases)
interact.live(drawings.draw_orbit, order=["simultaneous", "alternating"], gamma=(0.0, 1.0, 0.1),
              loss=["minimax", "non-saturating"], lr=(0.02, 0.3, 0.02), figsize=(7, 2.8))

# %% tags=["claims"]
assert out > 1.5 and 0.7 < circle < 1.3 and 0.2 < slow < 0.6
assert experiments.simulate_dirac_gan(gamma=0.5)[-1].norm() < 0.01

# %% [markdown]
# At once they spiral out; in turns they circle for ever. With $-\log D$ they come in here, but slowly, and not in every game. What brings
# them in fast is $\gamma$, which weighs a penalty on the slope of $D$ at real images, R1 [Mescheder et al. 2018]. So the order and the loss
# decide whether there is an end at all, and this is the harmless case: section 8 shows a worse one.
#
# The book's three stages, first $G$, then $D$, then both (联合训练), are no order to train in either: before $D$ has seen anything, $G$ has
# nobody to learn from. Algorithm 1 has only the alternation, and $D$ goes first.
#
# **M21 and W40 · what a GAN is.** §1.1 lists GAN among the techniques that extract features (特征提取); §2.2 among those that generate. §1.3
# lists as "common GAN architectures" the generator, the discriminator, VAE and GPT. Ask the machines themselves: what comes out, and is
# there a discriminator in it?

# %%
from vlmbook.gpt import GPT, generate, to_images
from vlmbook.resnet import small_resnet
from vlmbook.vae import VAE, mean_image

x, z = data.digits("train")[0][:4], torch.randn(4, 32)
G, D = Generator(8, latent=32, width=8), Discriminator(8, width=8)
vae, gpt = VAE(8, levels=17, latent=32, width=8), GPT(17, 64, 10, width=16, depth=1, heads=2)
resnet = small_resnet(8, in_channels=1)
gives = {"ResNet": ([resnet], resnet.features(x)[-1].mean((2, 3))), "GAN": ([G, D], G(z)),
         "VAE": ([vae], mean_image(vae.decode(z))),
         "GPT": ([gpt], to_images(generate(gpt, torch.arange(4)), 17, (8, 8)))}
for name, (nets, y) in gives.items():
    parts = [part for network in nets for part in network.modules()]
    plays = any(isinstance(part, Discriminator) for part in parts)
    kind = "images" if y.shape == x.shape else "features"
    print(f"{name:>6}: gives {kind} {tuple(y.shape)}, discriminator: {plays}")
    assert (kind, plays) == ("features" if name == "ResNet" else "images", name == "GAN")

# %% [markdown]
# Three families that make images, side by side; only one of them plays. VAE and GPT are no GANs (chapters 4b and 4c train them), and
# generator and discriminator are the parts of every GAN, not kinds of it. Kinds are DCGAN [Radford et al. 2015], WGAN [Arjovsky et al.
# 2017] or StyleGAN [Karras et al. 2019]. §1.1 is half right, in that the inner layers of a $D$ can be used as features [Radford et al.
# 2015]; section 7 tries it.
#
# ## 4 A ring of eight, where one can see it
#
# Before images, points in the plane. The data are eight modes (模式) on a ring: a mixture (混合分布) of equal parts. Two small networks, no convolutions.
# How many of the eight will $G$ find? A mode counts as found if at least a tenth of its fair share falls within three standard deviations
# of its middle.

# %%
centres = 2 * torch.view_as_real(torch.polar(torch.ones(8), torch.arange(8) * torch.pi / 4))
middles = centres.lerp(centres.roll(1, 0), 0.5)

def ring(n):                                 # -> (n, 2)
    return centres[torch.randint(8, (n,))] + 0.1 * torch.randn(n, 2)

def count_modes(points):                     # -> modes found, share of the points in any mode
    distance, nearest = torch.cdist(points, centres).min(1)
    counts = nearest[distance < 0.3].bincount(minlength=8)
    return (counts > len(points) / 80).sum().item(), (distance < 0.3).float().mean().item()


# %% tags=["claims"]
assert count_modes(ring(2000))[0] == 8 and count_modes(ring(2000))[1] > 0.97


# %%
def small_network(ins, outs):                # a logit is (B,), a point (B, 2)
    shape = nn.Flatten(0) if outs == 1 else nn.Identity()
    return nn.Sequential(nn.Linear(ins, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                         nn.Linear(64, outs), shape)

grid = torch.cartesian_prod(*[torch.linspace(-3, 3, 30)] * 2).flip(1)        # x moves fastest

def watch(seed, steps=800, beta=0.0, turns=1):         # a game, seen at 40 moments
    runtime.seed_everything(seed)
    G, D, losses, seen = small_network(2, 2), small_network(2, 1), [], []
    for step, *two in play(G, D, ring, steps, latent=2, lr=5e-3, batch=128, beta=beta, turns=turns):
        losses.append(two)
        if step % (steps // 40) == 0:
            with torch.no_grad():
                x, logits = G(torch.randn(2000, 2)), D(grid).view(30, 30)
            seen.append((step, x[:500], logits, count_modes(x)[0]))
    game = dict(zip(("steps", "points", "logits", "found"), zip(*seen)))
    return game | {"share": count_modes(x)[1], "late": sum(game["found"][-10:]) / 10,
                   "losses": torch.tensor(losses[-steps // 4:]).mean(0).tolist()}

seeds = range(5)
games = {"in turns": [watch(seed) for seed in seeds]}
for seed, game in zip(seeds, games["in turns"]):
    print(f"seed {seed}: {game['found'][-1]} modes, {game['share']:.0%} of the points in one")
    assert game["found"][-1] == 8 and game["share"] > 0.6

# %% [markdown]
# All of them, with each of five seeds. (The rest of the points lies on bridges between modes: $G$ is continuous, and cannot jump.) How did
# it get there? Step through the training. The colour is $D(x)$ at each point, blue for real; mind the scale. Who moves first, the
# orange points or the blue spots?

# %%
shown = {f"seed {seed}": game for seed, game in zip(seeds, games["in turns"])}
final = sum(game["logits"][-1].sigmoid().flatten() for game in games["in turns"]) / 5
on, off = (final[torch.cdist(grid, x).argmin(0)].mean() for x in (centres, middles))
interact.live(partial(drawings.draw_ring, real=ring(800), runs=shown, moment=3),
              run=list(shown), moment=(0, 39), figsize=(7, 3.2))

# %% tags=["claims"]
assert off < 0.3 and 0.4 < on < 0.65

# %% [markdown]
# The points run to wherever $D$ says *real*, and once they are there, $D$ says *fake*. It is a chase, and it calms down when
# all modes are taken and the steps get small. At the end $D$ says *fake* between the modes, and on them it can hardly tell: about a half.
#
# ## 5 Train: digits
#
# Now images, with the same `play`. How would we know when it is good? Not by its loss, which only says who is ahead. So we ask a third
# network, a classifier (分类器): a small ResNet (chapter 3b) that has learned to name real digits. Its last layer sees an image as 64 numbers,
# features (特征). Take them of $N$ real and $N$ generated images, and compare the two clouds by their means $\mu$ and covariances $\Sigma$. This
# is the Fréchet distance (弗雷歇距离) [Heusel et al. 2017]; 0 if both agree:
#
# $$d^2=\|\mu_r-\mu_g\|^2+\mathrm{tr}\big(\Sigma_r+\Sigma_g-2(\Sigma_r\Sigma_g)^{1/2}\big)$$

# %%
import time
from vlmbook import metrics

classifier = generation.train_feature_classifier(
    images, labels, epochs=runtime.pick(quick=12, full=3),
    precision=runtime.pick(quick=None, full="bf16")).cpu()
N = min(len(valid_images), 2000)

def frechet(a, b):                           # (N, 64), (N, 64) -> number
    roots = torch.linalg.eigvals(a.T.cov() @ b.T.cov()).real.clamp(min=0).sqrt()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return apart + a.var(0).sum() + b.var(0).sum() - 2 * roots.sum()


matched = generation.select_same_classes(images, labels, valid_labels[:N])
features = [generation.extract_features(classifier, x).double()
            for x in (valid_images[:N], images[:N], matched)]
any_classes, same_classes = (frechet(features[0], each).item() for each in features[1:])
right = (classifier(valid_images[:N]).argmax(1) == valid_labels[:N]).float().mean()
print(f"the classifier names {right:.1%} of the validation images")
print(f"real to real {any_classes:.2f}, with equal numbers of each class {same_classes:.2f}")

# %% tags=["claims"]
assert abs(any_classes - metrics.frechet_distance(*features[:2])) < 1e-3
assert right > runtime.pick(quick=0.95, full=0.85) and 0 < same_classes < any_classes

# %% [markdown]
# Real to real is not 0, since the images are others, and only $N$. With the same number of images of each class the distance is smaller: a difference in the class mix counts
# too. So a fair comparison needs the same $N$ and the same class mix for every model (section 6). The classifier sees what matters to tell digits apart, and is blind for the
# rest. Nobody should compare such a number with one from another classifier.
#
# Learning rate, its fall and the networks' width were chosen among a few by this distance to *validation* images, with the same classifier.
# $G$'s pixels are rounded to the levels that real ones have, so that nobody can tell by that. Each row below is one moment of the training;
# a column is one noise vector throughout.

# %%
latent, width, lr = runtime.pick(quick=(32, 16, 4e-3), full=(64, 32, 2e-3))
steps, device = runtime.pick(quick=(1200, "cpu"), full=(6000, runtime.device()))

def whole(x):                                # to the nearest level
    return (x * (levels - 1)).round() / (levels - 1)

def drawn(G, z):                             # noise -> images, in evaluation mode
    with torch.no_grad():
        generated = torch.cat([G.eval()(part.to(device)).cpu() for part in z.split(500)])
    G.train()
    return whole(generated)

runtime.seed_everything(0)
G = Generator(size, latent=latent, width=width).to(device)
D = Discriminator(size, width=width).to(device)
z_shown, z_valid = torch.randn(12, latent), torch.randn(N, latent)
some_real = lambda n: images[torch.randint(len(images), (n,))].to(device)
curve, moments, scores, began = [], {}, {}, time.perf_counter()
for step, loss_d, loss_g in play(G, D, some_real, steps, latent=latent, lr=lr):
    curve.append((loss_d, loss_g))
    if step % (steps // 6) == 0 or step == 20:
        scores[step] = generation.score(classifier, drawn(G, z_valid), valid_images[:N])["frechet"]
        moments[step] = drawn(G, z_shown)
seconds = time.perf_counter() - began

# %%
panels = plot.gallery(torch.cat([*moments.values()]), columns=12)
for line, step in zip(panels, moments):
    line[0].set_ylabel(f"step {step}", rotation=0, ha="right", va="center")
_, smooth = experiments.average_losses(curve)
drawings.draw_training(plt.figure(figsize=(7, 2.4)), curve, scores)
first, *_, last = scores.values()
print(f"Fréchet {first:.1f} at step 20, {last:.1f} at the end; D's last loss {smooth[-1, 0]:.2f}")

# %% tags=["claims"]
assert last < (10 if size == 8 else first / 4) and 0.05 < smooth[-1, 0] < log4
assert size > 8 or (smooth[-800:, 1].std() < 0.1 and smooth[-800, 0] > smooth[-1, 0] + 0.05)

# %% [markdown]
# After a short struggle the loss of $G$ stands still, and that of $D$ even falls, as if $G$ were losing; but the images get better. The losses
# measure each player against the other, and both learn. Only the distance to real images tells. $D$'s loss stays below the grey line, $\log4$, where it could only guess: $G$ is not
# perfect.
#
# ## 6 How good is it?
#
# **Is every class there?** Nobody told $G$ that there are ten. Let the classifier name 1,000 generated images, and count.

# %%
G = G.cpu().eval()
device, z = "cpu", torch.randn(1000, latent, generator=torch.Generator().manual_seed(0))
generated = drawn(G, z)
predicted = classifier(generated).argmax(1)
counts = predicted.bincount(minlength=10)
print("of 1,000:", counts.tolist())
by_class = [(predicted == k).nonzero()[:4, 0] for k in range(10)]
columns = [torch.cat([F.pad(generated[i], (0, 0, 0, 1), value=1) for i in each], 1)
           for each in by_class]
plot.gallery(columns, [f"{k}: {count}" for k, count in enumerate(counts)])
records.picture("ch04a", plt.gcf());

# %% tags=["claims"]
assert counts.min() > 20 and counts.max() < 250

# %% [markdown]
# All ten, none rare. (This is one run, and the classifier gives every image a class, also one that is no digit.)
#
# **Has it only learned the images by heart?** If so, each generated image would lie close to a training image. How close is close?
# Real images that $G$ has never seen say it. Which of the two will be closer to the training images?

# %%
drawings.draw_neighbours(plt.figure(figsize=(7, 4.2)), generated, valid_images[:1000], images)
far, real_far = (experiments.find_nearest(x, images)[0] for x in (generated, valid_images[:1000]))
copies = (far < 0.5 * real_far.median()).float().mean()
print(f"generated {far.mean():.2f}, held out {real_far.mean():.2f};",
      f"within half of that {copies:.1%}")

# %% tags=["claims"]
assert copies < 0.01 and (size > 8 or far.mean() > real_far.mean())

# %% [markdown]
# Generated images are *further* away than real new ones are, and none is a copy. (Another danger remains: to be far from every training image
# one may also just be bad.)
#
# **How far from real?** Three numbers, against test images that nothing has seen until now. First the Fréchet distance. Then, with the classifier's features again, *precision*
# (精确率): which share of the generated images lies within a ball around some real one that reaches to its third neighbour? And *recall* (召回率): which share of the real images
# lies within such a ball around some generated one [Kynkäänniemi et al. 2019]? Bad images cost precision, missing ones recall.
#
# The rules are the same for every row. Each row has as many images as the test set. Each row has the test set's number of images of each class, by the classifier's
# own judgement: so no model wins by its class mix. Each row has three draws, and the table gives mean ± standard deviation over the draws. (The networks were trained once; the
# ± does not cover the training.) The first row is what real images reach: training images, treated like samples.
#
# Bits per dimension (每维比特数) are for models with a likelihood (似然): to write down a test image with the model's help takes $-\log_2 p(x)$
# bits, divided by the number of pixels. A GAN has a dash there. It can draw and cannot say how probable a given image is: for that one
# would have to know all $z$ with $G(z)=x$, and for most images there are none, since $G$ reaches only a thin sheet in the space of all.

# %%
from vlmbook.chapters import comparison

held_out, of = test_images[:1000], test_labels[:1000]
n, ways = len(held_out), {"other real images": lambda n: images[torch.randint(len(images), (n,))]}
ways |= {name: model.sample for name, model in simple.items()}
ways["GAN"] = lambda n: drawn(G, torch.randn(n, latent))
rows, samples = {}, {}
for name, draw in ways.items():
    runtime.seed_everything(1)
    rows[name] = comparison.measure_draws(draw, classifier, held_out, of)
    samples[name], _ = comparison.draw_same_classes(draw, classifier, of)
for name, model in simple.items():
    rows[name]["bits"] = comparison.measure_bits(model.log_likelihood(held_out), held_out)
rows["GAN"]["training s"] = seconds
print(comparison.format_draws(rows))

# %% tags=["claims"]
far_from_real = {name: sum(row["frechet"]) / 3 for name, row in rows.items()}
assert far_from_real["other real images"] < far_from_real["GAN"] < far_from_real["Gaussian"]
assert far_from_real["Gaussian"] < far_from_real["pixel histogram"]
assert sum(rows["GAN"]["recall"]) > sum(rows["Gaussian"]["recall"])
assert "bits" not in rows["GAN"]


# %% [markdown]
# By the Fréchet distance the GAN is better than a Gaussian, and clearly worse than real images. But look at the other two columns. The GAN's recall is about as high as that of *real*
# images, which should make us suspicious. Its precision is not far from that of the histogram, which draws smudges. Is that to be believed? Compute precision by hand, also for
# uniform noise, and then once more with only the narrower half of the balls.

# %%
def reach(x):                                # distance to the third neighbour; the first is itself
    return torch.cdist(x, x).kthvalue(4, dim=1).values

real, fake = (generation.extract_features(classifier, x) for x in (held_out, samples["GAN"]))
radius = reach(real)
narrow_first = radius.argsort()

def precision(x, balls):                     # share of the images x in any of these balls
    distances = torch.cdist(real[balls], generation.extract_features(classifier, x))
    return (distances <= radius[balls, None]).any(0).float().mean().item()

noise = whole(torch.rand(held_out.shape, generator=torch.Generator().manual_seed(0)))
every, half = {}, {}
for name, x in (samples | {"uniform noise": noise}).items():
    every[name], half[name] = precision(x, narrow_first), precision(x, narrow_first[:n // 2])
    print(f"{name:>17}: {every[name]:.2f} in any ball, {half[name]:.2f} in a narrow one")
few = precision(noise, narrow_first[:-n // 10])
print(f"uniform noise without the widest tenth of the balls: {few:.2f}")
if size == 8:                                # this was seen on the digits
    assert half["other real images"] > half["GAN"] > half["Gaussian"] + 0.05
    assert few < 0.15 and half["Gaussian"] + 0.05 > half["uniform noise"]
    score_of = generation.score(classifier, samples["GAN"], held_out)
    assert abs(every["GAN"] - score_of["precision"]) < 0.01 and every["uniform noise"] > 0.4
    assert reach(fake).median() > 1.1 * radius.median()

# %% [markdown]
# It is not to be believed: noise has a high precision too. A real digit that lies alone has a wide ball, and a few such balls hold images that look like nothing. In narrow balls,
# where real digits are many, the order is what the eye says. Recall errs in the same way: generated images are more scattered than real ones, so *their* balls are wide.
# (Kynkäänniemi et al. have 50,000 images, we have a few hundred.) A number that shall rank models should first be tried on noise. Chapters 4b and 4c show the rows of the table
# again, beside models that have bits.
#
# ## 7 See inside
#
# What lies between two digits? Walk from one noise vector to another; the upper strip is what $G$ draws on the way, the lower one mixes the
# two *pictures*. How do the two middles differ? Two ways are offered: straight, or an arc (球面插值) on which the length of $z$ stays near the
# usual one.

# %%
ends = z[classifier(generated).softmax(1).argmax(0)]   # of each class the one named most surely
walk = drawn(G, experiments.interpolate_latents(ends[2], ends[7], torch.linspace(0, 1, 51)))
jumps = (walk[1:] - walk[:-1]).flatten(1).norm(dim=1) / (walk[0] - walk[-1]).norm()
interact.live(partial(drawings.draw_walk, generator=G, latents=ends, start=2, end=7), start=(0, 9),
              end=(0, 9), position=(0.0, 1.0, 0.05), path=["arc", "straight"], figsize=(7, 1.8))

# %% tags=["claims"]
assert jumps.max() < 0.5

# %% [markdown]
# Strokes move, open and close; the mixed pictures show both digits at once. $G$ has made a map on which neighbours look alike. Not every
# point on it is a digit: $G$ is continuous, so between two digits there is always something that is neither.
#
# **And $D$?** §1.1 calls the GAN a feature extractor. Cut off $D$'s last layer, put a linear classifier (logistic regression, 逻辑回归) on what
# is left, and on the pixels; and, for fairness, on a $D$ that has learned nothing. Which reads best?

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

def probe(see):                              # -> share of validation images read right
    with torch.no_grad():
        x, held = (see(part).flatten(1).numpy() for part in (images[:1000], valid_images[:1000]))
    scale = StandardScaler().fit(x)
    reader = LogisticRegression(max_iter=1000).fit(scale.transform(x), labels[:1000])
    return reader.score(scale.transform(held), valid_labels[:1000])


D = D.cpu()
sights = {"pixels": lambda x: x, "untrained D": Discriminator(size, width=width).layers[:-1],
          "trained D": D.layers[:-1]}
reads = {name: probe(see) for name, see in sights.items()}
print(*(f"{name} {share:.1%}" for name, share in reads.items()), sep=", ")

# %% tags=["claims"]
assert min(reads.values()) > 0.7
assert size > 8 or abs(reads["trained D"] - reads["untrained D"]) < 0.05

# %% [markdown]
# They differ by a few images of 240, no more than chance. $D$'s features do read digits; but what its training added cannot be seen here,
# since convolutions with random weights do as well. Radford et al. [2015] found more on larger images. It remains a by-product: a GAN is
# trained to generate.
#
# ## 8 Break it
#
# Back to the ring. In `play` we let $G$ and $D$ move in turns, one step each. What if $G$ is eager, and takes five steps to each one of
# $D$? Read the game: against a fixed $D$, the best that $G$ can do is to put *all* its points where $D$ is largest. What will be found
# then?
#
# The other break is a habit. Adam's usual momentum (动量) is $\beta_1=0.9$; on the ring it was 0, and for the digits 0.5, as is common
# [Radford et al. 2015]. What could inertia do in a chase?

# %%
ways = {"in turns, 400 steps": {"steps": 400}, "5 turns of G": {"steps": 400, "turns": 5},
        "momentum 0.9": {"beta": 0.9}}
games |= {name: [watch(seed, **way) for seed in seeds] for name, way in ways.items()}
found, losses = ({name: torch.tensor([game[what] for game in each])
                  for name, each in games.items()} for what in ("late", "losses"))
drawings.draw_found(plt.figure(figsize=(7, 1.8)), found)

# %% [markdown]
# The eager $G$ shows mode collapse (模式崩溃): one mode at a time, or none. Not in every game: chance decides too, so the bar is long. With
# much momentum most modes are lost. (Each game counts with the mean over its last quarter; five seeds. An eager game has 400 steps of
# $D$; in turns, as many are enough.) The cure is what section 4 did: turns of equal length, and little momentum. Step through an eager game.
# Does it stay where it is?

# %%
shown = {name: min(each, key=lambda game: game["late"]) for name, each in games.items()}     # worst
interact.live(partial(drawings.draw_ring, real=ring(800), runs=shown, run="5 turns of G",
                      moment=20), run=list(shown), moment=(0, 39), figsize=(7, 3.2))

# %% tags=["claims"]
assert min(found["in turns"].min(), found["in turns, 400 steps"].min() + 1) > 7
assert (found["5 turns of G"] < 3).sum() >= 2 and found["momentum 0.9"].mean() < 6

# %% [markdown]
# The whole cloud sits on one mode; $D$ learns that this mode is fake; the cloud jumps to the next.
#
# Would the losses have told? $\log4=1.39$ for $D$ and $\log2=0.69$ for $G$ are those of a perfect end, where $g=p$. Which game comes nearest to
# them, do you think?

# %%
for name, (d, g) in {name: x.mean(0) for name, x in losses.items()}.items():
    print(f"{name}: loss of D {d:.2f}, of G {g:.2f}")
records.record("ch04a", seed=0, rows=rows, classes=counts.tolist(),
               nearest={"generated": far.mean(), "held out": real_far.mean()}, frechet=scores,
               modes_found={k: x.tolist() for k, x in found.items()}, linear_probe=reads);

# %% tags=["claims"]
assert (losses["5 turns of G"].mean(0) - torch.tensor([4.0, 2.0]).log()).abs().max() < 0.1

# %% [markdown]
# The collapsed one: by its losses all is well. (Much momentum does show, in a $D$ that wins.)
#
# ## 9 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch04a.1")` helps in steps, `solution("ch04a.1")` shows one answer.
#
# **1 · Predict.** `Generator(64, channels=3, width=16)` gets 5 noise vectors. It starts at 4×4; each transposed convolution doubles the
# size and halves the channels, until they are `width`. Which shape has the map that leaves the *second* one?

# %%
shape = ...                                  # (B, C, H, W)
check("ch04a.1", shape)


# %% [markdown]
# **2 · Derive.** The best $D$ gives an image the logit $\ell$. How many times more probable is that image in the data than from the
# generator?

# %%
def times_more_probable(logit):              # a Python number -> p(x) / g(x)
    ...


check("ch04a.2", times_more_probable)


# %% [markdown]
# **3 · Change.** The pair of W07, rescued [Jolicoeur-Martineau 2019]: each image gets a logit of its own, $C(x)$, and the probability that
# $x_r$ looks more real than $x_g$ is $\sigma\big(C(x_r)-C(x_g)\big)$. Write the loss of this discriminator: the mean over the pairs of
# minus the logarithm. It has to stay exact where two logits are 200 apart.

# %%
def pair_loss(real, fake):                   # (B,), (B,) logits -> scalar
    ...


check("ch04a.3", pair_loss)


# %% [markdown]
# **4 · Build.** The gradient penalty of the WGAN [Gulrajani et al. 2017]. Between each real and each generated image take the point $\hat
# x=\epsilon\,x_r+(1-\epsilon)\,x_g$; the norm of $D$'s gradient there should be 1: $\mathbb E\big[(\|\nabla_{\hat x}D(\hat
# x)\|_2-1)^2\big]$. It has to be differentiable by $D$'s parameters. (Then add ten times of it to a loss in `play`.)

# %%
def gradient_penalty(D, real, fake, eps):    # eps is (B, 1, 1, 1) -> scalar
    ...


check("ch04a.4", gradient_penalty)

# %% [markdown]
# ## 10 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook learns from 50,000 articles of clothing of 28×28, with twice the width. What the published
# runs measured:

# %% tags=["record"]
records.show("ch04a", "quick")
records.show("ch04a", "full")

# %% [markdown]
# ## 11 What we learned
#
# A GAN learns to draw from a loss that learns as well: $D$ compares the probabilities of data and generator, and its best answer is
# $p/(p+g)$.
# The value of the game is then $-\log4+2\,\mathrm{JSD}$; the loss in use is another, because the game's own is flat at the start.
# The step alternates; simultaneous steps on $V$ spiral out even in the smallest case, and nothing promises an end.
# If $G$ moves too much for one step of $D$, or with too much momentum, it may collapse to single modes.
# No loss says how good the images are: count the classes, look for copies, and measure the distance to images that nothing has seen.
#
# **References.** I. Goodfellow et al., *Generative adversarial nets*, NIPS 2014, arXiv:1406.2661 · A. Radford, L. Metz, S. Chintala, *Unsupervised
# representation learning with deep convolutional generative adversarial networks*, ICLR 2016 [2015], arXiv:1511.06434 · L. Mescheder, A. Geiger, S.
# Nowozin, *Which training methods for GANs do actually converge?*, ICML 2018, arXiv:1801.04406 · M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler, S.
# Hochreiter, *GANs trained by a two time-scale update rule converge to a local Nash equilibrium*, NIPS 2017, arXiv:1706.08500 · T. Kynkäänniemi, T.
# Karras, S. Laine, J. Lehtinen, T. Aila, *Improved precision and recall metric for assessing generative models*, NeurIPS 2019, arXiv:1904.06991 · M.
# Arjovsky, S. Chintala, L. Bottou, *Wasserstein generative adversarial networks*, ICML 2017, arXiv:1701.07875 · I. Gulrajani, F. Ahmed, M. Arjovsky, V.
# Dumoulin, A. Courville, *Improved training of Wasserstein GANs*, NIPS 2017, arXiv:1704.00028 · A. Jolicoeur-Martineau, *The relativistic discriminator: a
# key element missing from standard GAN*, ICLR 2019, arXiv:1807.00734 · T. Karras, S. Laine, T. Aila, *A style-based generator architecture for generative
# adversarial networks*, CVPR 2019, arXiv:1812.04948 · H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST: a novel image dataset for benchmarking machine
# learning algorithms*, 2017, arXiv:1708.07747.
