# %% [markdown]
# # 5c · Knowledge distillation (知识蒸馏)
#
# *Book: §2.2.3 (3), 基于知识蒸馏的网络*
#
# **A large network has learned a task. Can a small network learn more from the predictions of the large one than from the labels alone?**
#
# You will be able to soften a prediction with a temperature, to write the loss of distillation and check its gradient, to say what the factor $T^2$ is for, to
# use a teacher's feature maps too, and to measure when distillation is worth its cost and when it is not.
#
# **Words it needs:** logit, softmax and cross-entropy (chapter 5a), ResNet (chapter 3b). Run the cells from top to bottom. The first one prints what a whole run
# costs. Its picture is the result: one small network, trained in several ways.

# %% tags=["record"]
import math
from functools import partial

import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import data, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch05c import experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)                     # networks this small gain little from more threads
plot.use_style()
records.published("ch05c")
if (published := records.RESULTS / "ch05c.quick.png").exists():
    plot.gallery([data.read_image(published, channels=3)]);

# %% [markdown]
# ## 1 The data, looked at
#
# The digits have 8×8 pixels. There are 1,437 images for training; a sixth of them is the validation set (验证集) for every choice in this chapter. The
# 360 test digits only measure. Our situation is this: somebody has labels for all images and has trained a large network with them. We have that network,
# the images, and labels for ten images of each class. (With `VLMBOOK_PROFILE=full` the data are Fashion-MNIST, 28×28, and a hundred labels a class.)

# %%
parts = data.hold_out(*data.digits_or_fashion("train"), share=1 / 6, seed=0)
(images, labels), (valid_images, valid_labels) = parts
test_images, test_labels = data.digits_or_fashion("test")
digits, on_cpu = images.shape[-1] == 8, runtime.device().type == "cpu"
small_run = on_cpu and not digits             # full, and no accelerator: fewer images and steps
if small_run:
    images, labels = images[:10_000], labels[:10_000]
each = 10 if digits else 100
few = torch.cat([(labels == k).nonzero()[:each, 0] for k in range(10)])
print(len(images), "images to learn from,", len(few), "with a label;", len(valid_images),
      "for choices,", len(test_images), "to test")
plot.gallery(images[few[::each]], [str(k) for k in range(10)]);

# %% [markdown]
# ## 2 A teacher and a student
#
# The teacher (教师网络) is the ResNet with 20 layers of chapter 3b. The student (学生网络) is a ResNet too. It has one block in each stage where the teacher
# has three, and a quarter of the teacher's width. How many parameters has each network, and how many floating-point operations (浮点运算) does one image cost?
# PyTorch counts the operations of convolutions and matrix products: one multiplication and one addition are two operations. **Guess both ratios.**

# %%
from torch.utils.flop_counter import FlopCounterMode

from vlmbook.resnet import BasicBlock, ResNet, resnet20

def small():                                 # -> the student, untrained
    return ResNet(BasicBlock, (1, 1, 1), 10, 1, width=4, small=True)

def cost(net):                               # -> parameters, operations for an image
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(images[:1])
    return sum(p.numel() for p in net.parameters()), counter.get_total_flops()


costs = {"teacher": cost(resnet20(in_channels=1)), "student": cost(small())}
for name, (parameters, operations) in costs.items():
    print(f"{name}: {parameters:,} parameters, {operations / 1e6:.2f} M operations an image")
cost_ratios = [large / little for large, little in zip(*costs.values())]
print("ratios:", *(f"{ratio:.0f}" for ratio in cost_ratios))

# %% [markdown]
# The student has about a fiftieth of both. Now the teacher learns from all labels, with the loop of the package. The baseline (基线) is softmax regression
# (softmax 回归) on the pixels, with the same labels. **How many of the validation images does each of them classify correctly?**

# %%
from sklearn.linear_model import LogisticRegression
from vlmbook.distillation import predict_logits
from vlmbook.training import fit

settings = {"batch_size": 64, "warmup": 10, "weight_decay": 0.01,
            "optimizer": partial(torch.optim.AdamW, fused=True)}      # one call for all weights
def learn(net, of, loss, steps, seed=0, lr=2e-2, progress=False):
    epochs = max(1, round(steps / math.ceil(len(of[0]) / 64)))
    history = fit(net, of, loss_fn=loss, epochs=epochs, lr=lr, seed=seed, progress=progress,
                  **settings)
    net.eval()
    return history.losses

def by_labels(net, x, y):
    return F.cross_entropy(net(x), y)

def accuracy(logits, labels):
    return (logits.argmax(1) == labels).float().mean().item()

def regression(x, y):                        # -> accuracy on the validation part, on the test part
    pixels = LogisticRegression(max_iter=1000).fit(x.flatten(1)[:5000], y[:5000])
    return [pixels.score(x.flatten(1), y) for x, y in
            ((valid_images, valid_labels), (test_images, test_labels))]


# %%
runtime.seed_everything(0)
teacher = resnet20(in_channels=1)
curve = learn(teacher, (images, labels), by_labels, lr=1e-2, progress=True,
              steps=runtime.pick(quick=200, full=1500 if small_run else 6000))
logits, valid_logits, test_logits = (predict_logits(teacher, x) for x in
                                     (images, valid_images, test_images))
of_teacher, of_pixels = accuracy(valid_logits, valid_labels), regression(images, labels)[0]
print(f"validation: teacher {of_teacher:.1%}, softmax regression {of_pixels:.1%}")
_, axes = plt.subplots(figsize=(7, 1.7))
axes.semilogy(range(1, len(curve) + 1), curve)
axes.set(xlabel="step", ylabel="cross-entropy, nats");

# %% tags=["claims"]
assert all(45 < ratio < 65 for ratio in cost_ratios)
assert of_teacher > of_pixels + 0.01

# %% [markdown]
# The teacher is better than the baseline, so there is something to learn from it.
#
# ### What a prediction says beside the class
#
# The teacher gives more than one class. Its logits (未归一化的类别分数) $z_1,\dots,z_K$ order all classes. Below are the validation images with the lowest
# largest probability, that is, the images of which the teacher is least sure. **Which two classes would you name for each?**

# %%
from vlmbook.distillation import soft_labels

p = soft_labels(valid_logits, 1)
doubtful = p.amax(1).argsort()[:8]
drawings.draw_uncertain(plt.figure(figsize=(7, 2.2)), valid_images[doubtful], p[doubtful])


# %% [markdown]
# The second class of the teacher is often one that a reader would name too. But these images are exceptions. For an ordinary training image the teacher gives
# nearly all probability to one class. To see the other classes, we soften the prediction. With a temperature (温度) $T$ the soft label (软标签) is
#
# $$p_i^{(T)}=\frac{e^{z_i/T}}{\sum_{j=1}^{K}e^{z_j/T}}$$
#
# At $T=1$ it is the softmax. A label that names one class alone is a hard label (硬标签). The entropy (熵) measures how soft a label is: 0 nats for a hard label,
# $\ln 10=2.3$ nats for ten equal probabilities. **What is the soft label for $T\to0$, and for $T\to\infty$?**

# %%
def by_hand(z, T):                           # (K,) -> (K,)
    powers = [math.exp(each / T) for each in z.tolist()]
    return torch.tensor([each / sum(powers) for each in powers])


# %%
softness = {T: experiments.entropy(soft_labels(logits, T)).mean().item() for T in (1, 2, 4, 8)}
print("mean entropy of the training images, nats:",
      *(f"T = {T}: {nats:.3f} " for T, nats in softness.items()))
interact.live(partial(drawings.draw_temperature, images=valid_images[:20],
                      logits=valid_logits[:20]),
              image=(0, 19), temperature=(0.5, 20.0, 0.5), figsize=(7, 2.2))

# %% tags=["claims"]
z = valid_logits[0]
assert_close(by_hand(z, 3), soft_labels(z[None], 3)[0])
assert_close(soft_labels(z[None], 1e-3)[0], F.one_hot(z.argmax(), 10).float())
assert_close(soft_labels(z[None], 1e5), torch.full((1, 10), 0.1), rtol=1e-2, atol=0)
assert softness[1] < 0.4 * softness[4] < 0.4 * softness[8] < 0.4 * math.log(10)

# %% [markdown]
# For $T\to0$ the soft label becomes a hard label. For $T\to\infty$ all classes become equal. Between the two, the other classes can be seen. Hinton called
# this dark knowledge (暗知识). **Is it knowledge, or noise?** To find out, we take all images of a class, average their soft labels, and leave out the class
# itself. Beside it stands something that no network made: how similar the mean images of two classes are.

# %%
matrices = {"teacher, T = 4": experiments.measure_confusions(logits, labels, 4),
            "similarity of mean images": experiments.measure_similarities(images, labels)}
alike = experiments.correlate_ranks(*matrices.values())
figure = plt.figure(figsize=(7, 3.5))
figure.suptitle(f"rank correlation of the two: {alike:.2f}")
drawings.draw_confusions(figure, matrices)

# %% tags=["claims"]
assert 0.2 < alike < 0.9

# %% [markdown]
# The two orders are related, and they are not the same: the teacher's classes are ordered by similarity, but not by the similarity of pixels alone. A hard
# label says nothing about this. A soft label says it with every image.
#
# ## 3 The idea, written here
#
# ### The loss
#
# Let $z_S$ be the logits of the student and $z_T$ those of the teacher. Let $q^{(T)}$ and $p^{(T)}$ be their soft labels. The student shall give the teacher's
# soft labels, at the same temperature. The Kullback-Leibler divergence (KL散度) measures how far apart two distributions are. Where there is a label $y$, the
# student shall also give that label, at temperature 1 [Hinton et al. 2015]:
#
# $$L=(1-\alpha)\,\underbrace{\big(-\log q_y^{(1)}\big)}_{\mathrm{CE}}+\alpha\,T^2\,\underbrace{\sum_{i=1}^{K}p_i^{(T)}\log\frac{p_i^{(T)}}{q_i^{(T)}}}_{\mathrm{KL}}$$
#
# Both terms are means over the images. In the package an image without a label has the label $-100$ and counts in the second term alone. **If $z_S=z_T$, which
# of the two terms is 0?**

# %%
from vlmbook.distillation import UNKNOWN, distillation_loss, soft_loss

def loss_loops(z_S, z_T, y, T, alpha):       # (B, K), (B, K), (B,) -> number
    hard, soft, known = 0.0, 0.0, 0
    for student, master, label in zip(z_S, z_T, y.tolist()):
        q, p = by_hand(student, T), by_hand(master, T)
        soft += sum(p[i] * math.log(p[i] / q[i]) for i in range(len(p)))
        if label != UNKNOWN:
            hard, known = hard - math.log(by_hand(student, 1)[label]), known + 1
    return (1 - alpha) * hard / known + alpha * T**2 * soft / len(y)


z_S, z_T, y = torch.randn(5, 4), 2 * torch.randn(5, 4), torch.tensor([3, 0, UNKNOWN, 1, UNKNOWN])
ours = distillation_loss(z_S, z_T, y, temperature=3, alpha=0.7)
print(f"loss of the package {ours:.4f} nats, of the loops {loss_loops(z_S, z_T, y, 3, 0.7):.4f}")
print(f"KL where z_S = z_T: {soft_loss(z_T, z_T, temperature=3).abs():.6f}")


# %% [markdown]
# The second term is 0. PyTorch has both terms too. Does it give the same values and gradients? (`kl_div` takes the logarithms of the student first and the
# probabilities of the teacher second. It also needs `batchmean`: its default divides by the number of classes too.)

# %%
def theirs(z, T=3, alpha=0.7):
    soft = F.kl_div((z / T).log_softmax(1), (z_T / T).softmax(1), reduction="batchmean")
    return (1 - alpha) * F.cross_entropy(z, y, ignore_index=UNKNOWN) + alpha * T**2 * soft


mine = partial(distillation_loss, teacher_logits=z_T, labels=y, temperature=3, alpha=0.7)
far = (torch.func.grad(mine)(z_S) - torch.func.grad(theirs)(z_S)).abs().max()
print(f"PyTorch {theirs(z_S):.4f} nats, the gradients differ by at most {far:.0e}")

# %% tags=["claims"]
assert_close(loss_loops(z_S, z_T, y, 3, 0.7), ours)
assert abs(soft_loss(z_T, z_T, temperature=3)) < 1e-5
assert_close(mine(z_S), theirs(z_S))
assert_close(torch.func.grad(mine)(z_S), torch.func.grad(theirs)(z_S))


# %% [markdown]
# Values and gradients are the same.
#
# ### What $T^2$ is for
#
# For one image, the derivative of the divergence is
#
# $$\frac{\partial\,\mathrm{KL}}{\partial z_{S,i}}=\frac1T\big(q_i^{(T)}-p_i^{(T)}\big)\qquad\text{and, as }T\to\infty,\qquad
# T^2\,\frac{\partial\,\mathrm{KL}}{\partial z_{S,i}}\to\frac1K\big((z_{S,i}-\bar z_S)-(z_{T,i}-\bar z_T)\big)$$
#
# A bar is the mean over the classes. One factor $1/T$ stands in the formula. The difference of the softened probabilities falls as $1/T$ too. So the gradient of
# the soft term falls as $1/T^2$. **Which of the three lines below will be level at high temperatures?**

# %%
def gradient(z_S, z_T, T):                   # of the soft loss for all logits of the student
    return torch.func.grad(partial(soft_loss, teacher_logits=z_T, temperature=T))(z_S)


untrained, temperatures = predict_logits(small(), images), [1, 2, 4, 8, 16, 32, 64]
norms = torch.stack([gradient(untrained, logits, T).norm() for T in temperatures])
hard = torch.func.grad(F.cross_entropy)(untrained, labels).norm().item()
powers = torch.tensor(temperatures) ** 2
drawings.draw_gradients(plt.figure(figsize=(7, 2.4)), temperatures, {
    "KL": norms / powers, "T² KL": norms, "cross-entropy with labels": [hard] * 7})

# %% tags=["claims"]
apart = soft_labels(z_S, 3) - soft_labels(z_T, 3)
centred = [z - z.mean(1, keepdim=True) for z in (z_S, z_T)]
assert_close(gradient(z_S, z_T, 3), 3**2 / 3 * apart / len(z_S))
assert_close(gradient(z_S, z_T, 1000), (centred[0] - centred[1]) / 4 / len(z_S),
             rtol=0.01, atol=1e-4)
assert 0.85 < norms[-1] / norms[-2] < 1.15 and (norms / powers)[-1] < 0.01 * hard
assert 0.1 * hard < norms[-1]

# %% [markdown]
# With $T^2$ the line becomes level; without $T^2$ the soft term vanishes beside the labels. So $\alpha$ keeps its meaning when $T$ changes. This is not exact:
# at low temperatures the softened differences are not small, and the gradient still changes with $T$.
#
# ### Going deeper: feature maps
#
# A teacher can give more than its last layer. FitNets [Romero et al. 2015] asks the student to make, from its own map $v$ in the middle of the network, the
# teacher's map $u$. A small layer $r$ helps; it learns too and is thrown away afterwards. Attention transfer [Zagoruyko & Komodakis 2017] asks only *where* the
# teacher is active, which needs no such layer: the channels of a map $A$ are squared and added to an attention map (注意力图) $Q$ over positions $j$.
#
# $$L_{\mathrm{hint}}=\tfrac12\,\mathrm{mean}\big[(u-r(v))^2\big]\qquad
# Q_j=\sum_c A_{cj}^2,\qquad L_{\mathrm{AT}}=\tfrac12\,\Big\|\frac{Q_S}{\|Q_S\|}-\frac{Q_T}{\|Q_T\|}\Big\|^2$$
#
# (The paper's distance is not squared; the authors' program has the square.) **The student doubles all its activations. Which of the two losses changes?**

# %%
from torch import nn
from vlmbook.distillation import attention_map, attention_transfer_loss, fitnets_loss

def attention_by_hand(A):                    # (C, H, W) -> (H, W)
    Q = sum(channel**2 for channel in A)
    return Q / Q.square().sum().sqrt()


v, u, r = torch.randn(2, 8, 4, 4), torch.randn(2, 32, 4, 4), nn.Conv2d(8, 32, 1)
for name, of_maps in (("hint", partial(fitnets_loss, regressor=r)),
                      ("attention", attention_transfer_loss)):
    print(f"{name}: {of_maps(v, u).item():.3f}, doubled {of_maps(2 * v, u).item():.3f}")

# %% tags=["claims"]
distances = [(attention_by_hand(a) - attention_by_hand(b)).square().sum() for a, b in zip(v, u)]
assert_close(attention_map(v)[0], attention_by_hand(v[0]))
assert_close(attention_transfer_loss(v, u), sum(distances) / 2 / 2)
assert_close(attention_transfer_loss(2 * v, u), attention_transfer_loss(v, u))
assert_close(fitnets_loss(v, u, r), (u - r(v)).square().mean() / 2)
assert fitnets_loss(2 * v, u, r) > 1.05 * fitnets_loss(v, u, r)


# %% [markdown]
# Only the hint loss changes. The attention maps are divided by their length.
#
# ## 4 Train
#
# Now the question of the chapter. One student is trained in several ways, for about as many steps each. First, on the few labelled images:
#
# - *labels alone*;
# - *label smoothing* (标签平滑): a tenth of each label is spread evenly over all classes [Szegedy et al. 2016];
# - *distilled*: labels and teacher, $T=4$, $\alpha=0.9$.
#
# If *distilled* gains, what is the cause? The teacher's labels differ from the hard ones in three ways: they are softer; they are softer for some images than for
# others; and they say which classes are similar. Three controls remove these one at a time. Each has the same loss, the same $T$, $\alpha$ and steps as
# *distilled*, and only the teacher's soft labels are changed:
#
# - *shuffled*: the probabilities of the other classes change places at random, in each image anew. The similar classes are lost, the entropy stays;
# - *equal rest*: the largest probability of each image stays, the other classes get equal shares;
# - *equal rest, one softness*: the largest probability is the mean over all images as well.
#
# Then, on all images. Where there is no label, the teacher says something: its soft labels, or only its class, a pseudo-label (伪标签).
#
# $T=4$ and $\alpha=0.9$ are customary values. In each of five seeds all students start from the same weights. **Order the eight ways before you look.**

# %%
def by_smoothed(net, x, y):
    return F.cross_entropy(net(x), y, label_smoothing=0.1)

def by_both(net, x, y, z):
    return distillation_loss(net(x), z, y, temperature=4, alpha=0.9)


known = torch.full_like(labels, UNKNOWN)
known[few] = labels[few]
x, y, soft = images[few], labels[few], soft_labels(logits[few], 4)
controls = {"shuffled": experiments.shuffle_rest(soft, seed=0),
            "equal rest": experiments.equalise_rest(soft),
            "equal rest, one softness": experiments.equalise_rest(soft, soft.amax(1).mean())}
ways = {"labels alone": ((x, y), by_labels), "label smoothing": ((x, y), by_smoothed)}
ways |= {name: ((x, y, 4 * p.log()), by_both) for name, p in controls.items()}   # softmax(·/4) = p
ways |= {"distilled": ((x, y, logits[few]), by_both),
         "pseudo-labels, all images": ((images, logits.argmax(1)), by_labels),
         "distilled, all images": ((images, known, logits), by_both)}

# %%
steps = runtime.pick(quick=120, full=1500 if small_run else 2000)
def students(of, loss, seeds=5, make=small): # -> trained networks, a seed each
    nets = []
    for seed in range(seeds):
        runtime.seed_everything(seed)
        nets.append(make())
        learn(nets[-1], of, loss, steps, seed)
    return nets

trained = {name: students(*way) for name, way in ways.items()}


# %%
def score(nets):                             # -> list: accuracy on the test part, one a seed
    return [accuracy(predict_logits(net, test_images), test_labels) for net in nets]

def gain(a, b):                              # -> mean and std over seeds of a - b, seed by seed
    apart = torch.tensor(a) - torch.tensor(b)
    return apart.mean().item(), apart.std().item()

scores = {name: score(nets) for name, nets in trained.items()}
few_pixels, teachers_share = regression(x, y)[1], accuracy(test_logits, test_labels)
figure = plt.figure(figsize=(7, 3.2))
drawings.draw_accuracies(figure, scores, {
    "teacher": teachers_share, "softmax regression, labels": few_pixels})
records.picture("ch05c", figure)
over_labels = {name: gain(shares, scores["labels alone"]) for name, shares in scores.items()}
for name, (more, spread) in over_labels.items():
    print(f"{name:25} {torch.tensor(scores[name]).mean():.1%}, over labels alone {100 * more:+.1f} "
          f"± {100 * spread:.1f} points")

# %% tags=["claims"]
if digits:
    assert over_labels["distilled"][0] > 0.01
    assert over_labels["equal rest"][0] > 0.25 * over_labels["distilled"][0]
    assert abs(gain(scores["distilled"], scores["equal rest"])[0]) < 0.03
    assert over_labels["distilled, all images"][0] > over_labels["distilled"][0]
    softer = gain(scores["distilled, all images"], scores["pseudo-labels, all images"])[0]
    assert abs(softer) < 0.015
assert over_labels["pseudo-labels, all images"][0] > 0
assert sum(scores["distilled, all images"]) / 5 < teachers_share + 0.01

# %% [markdown]
# On the digits, with the same few images, distillation gains several points. The control *equal rest* has no knowledge of similar classes, and gains about
# as much: five seeds cannot tell *equal rest* and *distilled* apart. (On two processors with different rounding the order of the two was different.) So
# the accuracy does not show that "the student learns which classes are similar". Section 5 measures this in another way: by the second choices of the
# student.
#
# The larger step is another one: the teacher also labels images that have no label. On the digits, its pseudo-labels do there nearly as well as its soft labels.
#
# Look at the dashed line of softmax regression too. With the same few labels it is a strong baseline. For the digits, it beats the student that is trained on
# few images, with or without the teacher.
#
# **What did it buy?** Parameters and operations are counted above. The time is measured here, for one image at a time and for a hundred.

# %%
from copy import deepcopy
from timeit import repeat

big, little = (deepcopy(net).cpu().eval() for net in (teacher, trained["distilled, all images"][0]))
@torch.no_grad()
def milliseconds(net, batch):                # an image, the best of seven
    n, x = max(1, 40 // batch), test_images[:batch]
    return min(repeat(lambda: net(x), number=n, repeat=7)) / n / len(x) * 1e3


table = {"teacher": (big, [teachers_share])}
for name in ("labels alone", "distilled, all images"):
    table[f"student, {name}"] = little, scores[name]
latency = {net: [milliseconds(net, n) for n in (1, 100)] for net in (big, little)}
print("correct on test images, parameters, M operations, ms an image: alone, of 100")
for name, (net, shares) in table.items():
    numbers = costs["teacher" if net is big else "student"]
    shares = torch.tensor(shares)
    print(f"{name:35}{shares.mean():6.1%} ± {shares.std(0, correction=len(shares) > 1):.1%}"
          f"{numbers[0]:9,}{numbers[1] / 1e6:7.2f}{latency[net][0]:7.2f}{latency[net][1]:7.3f}")
faster = [slow / quick for slow, quick in zip(latency[big], latency[little])]
print(f"{cost_ratios[0]:.0f} times smaller, {cost_ratios[1]:.0f} times fewer operations, "
      f"{faster[0]:.1f} and {faster[1]:.1f} times faster")

# %% tags=["claims"]
assert all(1.5 < times < cost_ratios[1] for times in faster)

# %% [markdown]
# All students cost the same: the training does not change what a network costs. The small network is faster, but by less than the count of operations
# promises. Operations are not time.
#
# ### How much teacher?
#
# $\alpha$ divides the weight between label and teacher. Here a softmax regression learns from a hundred images, for eleven values of $\alpha$. Four of ten labels
# are *false*, like the one shown. **Which end of the curve is higher, and why? What happens when all labels are correct?**

# %%
hundred = few[::len(few) // 100]                             # images, in both profiles
task = {"images": images[hundred], "labels": labels[hundred], "logits": logits[hundred],
        "test_images": valid_images[:1000], "test_labels": valid_labels[:1000]}
ends = {}
for wrong in (0.0, 0.4):
    _, shares = experiments.measure_accuracy_by_alpha(**task, temperature=2.0, wrong=wrong)
    ends[wrong] = shares[[0, 5, 10]].tolist()
    print(f"{wrong:.0%} false labels: α = 0, 0.5, 1:", *(f"{share:.1%}" for share in ends[wrong]))
interact.live(partial(drawings.draw_alpha, **task), alpha=(0.0, 1.0, 0.1),
              temperature=(1.0, 10.0, 0.5), wrong=(0.0, 0.8, 0.1), figsize=(7, 2.4))

# %% tags=["claims"]
assert abs(ends[0][2] - ends[0][0]) < 0.08
assert ends[0.4][2] > ends[0.4][0] + 0.1

# %% [markdown]
# With correct labels the curve is nearly level. With many false labels this teacher, which has seen correct ones, should get more weight. This is no law: a teacher
# that knows less than the labels should get little weight (section 6).
#
# ## 5 See inside
#
# **Did the student learn the teacher's doubts, or only its classes?** The matrices show which classes are confused, on validation images, as in section 2. The
# points are rank correlations with the teacher's matrix.

# %%
of_students = {name: [predict_logits(net, valid_images) for net in nets]
               for name, nets in trained.items()}
confusions, agree = experiments.compare_confusions(valid_logits, of_students, valid_labels)
drawings.draw_agreement(plt.figure(figsize=(7, 2.7)), confusions, agree)
print(*(f"{name} {torch.tensor(each).mean():.2f}" for name, each in agree.items()), sep="; ")

# %% tags=["claims"]
if digits:
    assert gain(agree["distilled"], agree["equal rest"])[0] > 0.1
    assert gain(agree["distilled, all images"], agree["pseudo-labels, all images"])[0] > 0.1

# %% [markdown]
# On the digits soft labels hand the doubts on, even with few images. The control *equal rest* and the pseudo-labels hand on less. So where the teacher is nearly always
# right, softness brings few more correct answers, but it brings the teacher's second choices.
#
# **Where do the networks look?** Two more ways on the same few images: labels, and a loss on the teacher's maps, either attention or hints. The weight 10 of the
# second loss was chosen on the validation set.

# %%
with torch.no_grad():
    maps = [m.cpu() for m in teacher.features(x.to(teacher.fc.weight.device))[1:3]]

def with_regressor():
    net = small()
    net.regressor = nn.Conv2d(8, 32, 1)      # learns too, and is thrown away
    return net

def by_maps(net, x, y, *teacher_maps, kind):
    _, *own_maps, last = net.features(x)
    label = F.cross_entropy(net.fc(last.mean((2, 3))), y)
    if kind == "attention":
        return label + 10 * sum(map(attention_transfer_loss, own_maps, teacher_maps))
    return label + 10 * fitnets_loss(own_maps[-1], teacher_maps[-1], net.regressor)


inner = {}
for kind, make in (("attention", small), ("hint", with_regressor)):
    inner[kind] = students((x, y, *maps), partial(by_maps, kind=kind), make=make)
    scores[kind] = score(inner[kind])
    over_labels[kind] = gain(scores[kind], scores["labels alone"])
    more, spread = over_labels[kind]
    print(f"{kind}: over labels alone {100 * more:+.1f} ± {100 * spread:.1f} points")

# %% [markdown]
# On the digits the gains are a few points at most, and the seeds differ by nearly as much. Soft labels gain about as much and need no maps. **Do the students at least look
# elsewhere?** The attention maps are those of the second stage, drawn over the images; orange is high.

# %%
with torch.no_grad():
    nets = {"teacher": teacher.cpu(), "labels alone": trained["labels alone"][0].cpu(),
            "attention": inner["attention"][0].cpu()}
    inside = {name: attention_map(net.features(test_images[:400])[2]) for name, net in nets.items()}
drawings.draw_attention(plt.figure(figsize=(7, 2.8)), test_images[:8],
                        {name: each[:8] for name, each in inside.items()})
apart = {name: (inside["teacher"] - each).square().sum((1, 2)).mean().item() / 2
         for name, each in inside.items()}
print("distance to the teacher's map:", *(f"{name} {far:.3f} " for name, far in apart.items()))

# %% tags=["claims"]
much = over_labels["pseudo-labels, all images"][0]
assert not digits or all(-0.05 < over_labels[kind][0] < much for kind in inner)
assert apart["attention"] < apart["labels alone"]

# %% [markdown]
# They do. The student that was asked to look where the teacher looks comes much nearer to the teacher's map, also on images that it never saw.
#
# ## 6 Where it does not help
#
# **Enough labels.** The student gets all labels. Does the teacher still add anything?
#
# **A worse teacher.** All labels meet a teacher that knows less than they do: one of the students of section 4, trained on few labels. $\alpha=0.9$ stays.
#
# **The same architecture.** In self-distillation (自蒸馏) the student has the teacher's architecture and becomes the next teacher [Furlanello et al. 2018]. We
# train two generations on the few images, in five seeds.
#
# **Which of the three will help?**

# %%
from vlmbook.distillation import train_born_again
same_labels = torch.equal(logits.argmax(1), labels)          # then that row is this one
everything = (scores["pseudo-labels, all images"] if same_labels else
              score(students((images, labels), by_labels)))
poor, gains, generations = predict_logits(trained["labels alone"][0], images), {}, []
for name, z, seeds in (("all labels", logits, 5), ("a worse teacher", poor, 3)):
    shares = score(students((images, labels, z), by_both, seeds))
    gains[name] = gain(shares, everything[:seeds])
epochs = max(1, round(steps / math.ceil(len(x) / 64)))
for seed in range(5):
    runtime.seed_everything(seed)
    nets = train_born_again(small, x, y, generations=2, temperature=4, alpha=0.9, lr=2e-2,
                            epochs=epochs, seed=seed, progress=False, **settings)
    generations.append(score(nets))
first, second = zip(*generations)
gains["second generation over the first"] = gain(second, first)
print(f"all labels {sum(everything) / 5:.1%}, the teacher {teachers_share:.1%}")
for name, (more, spread) in gains.items():
    print(f"{name}: {100 * more:+.1f} ± {100 * spread:.1f} points")

# %% tags=["claims"]
assert gains["a worse teacher"][0] < gains["all labels"][0]
if digits:
    assert abs(gains["all labels"][0]) < 0.02 and gains["a worse teacher"][0] < -0.03
    assert abs(gains["second generation over the first"][0]) < 0.1

# %% [markdown]
# On the digits, with all labels, the teacher adds next to nothing. A teacher that knows less than the labels does harm. For the generations look at the ±: two generations
# on the digits are too little to speak for or against the paper, which reports gains on larger networks and sets.
#
# So the book's promise 表现出更好的性能, *performs better*, has conditions: the teacher must know something that the labels at hand do not say.
#
# ### An ensemble as the teacher
#
# Must the teacher be large, or have seen more labels? Take the five students that learned from the few labels alone. Average their logits: an ensemble (集成).
# Then one student learns the predictions of the ensemble on all images. No further label is used. **How far will this student get?**

# %%
ensemble = {name: torch.stack([predict_logits(net, x) for net in trained["labels alone"]]).mean(0)
            for name, x in (("to learn", images), ("to test", test_images))}
scores["ensemble's student"] = score(students((images, known, ensemble["to learn"]), by_both))
single, heirs = (torch.tensor(scores[name]) for name in ("labels alone", "ensemble's student"))
of_ensemble = accuracy(ensemble["to test"], test_labels)
print(f"one {single.mean():.1%} ± {single.std():.1%}, ensemble of five {of_ensemble:.1%}, "
      f"its student {heirs.mean():.1%} ± {heirs.std():.1%}")

# %% tags=["claims"]
assert not digits or single.mean() + 0.03 < heirs.mean() > of_ensemble - 0.04


# %% [markdown]
# On the digits one small network now does nearly what five did, and more than its own labels taught it. This is the aim of Hinton's paper: an ensemble in one network. The
# images without labels carry the ensemble's predictions. Chapter 7a compresses by other means.

# %%
def means(pairs):
    return {name: mean for name, (mean, _) in pairs.items()}

baselines = {"teacher": teachers_share, "regression": few_pixels, "ensemble": of_ensemble}
records.record("ch05c", seed=[0, 1, 2, 3, 4], accuracy=scores, baselines=baselines,
               gains=means(gains), over_labels=means(over_labels), agreement=agree,
               entropy_at_temperature=softness,
               parameters={name: p for name, (p, _) in costs.items()},
               operations={name: n for name, (_, n) in costs.items()},
               ms_alone={"teacher": latency[big][0], "student": latency[little][0]});

# %% [markdown]
# ## 7 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch05c.1")` helps in steps, `solution("ch05c.1")` shows one answer.
#
# **1 · Predict.** The logits of three classes are 4, 2 and 0. How many times likelier is the first than the second at $T=1$, at $T=2$, and at $T\to\infty$?

# %%
ratios = ...                                 # (three numbers)
check("ch05c.1", ratios)


# %% [markdown]
# **2 · Derive.** The gradient of `soft_loss(z_S, z_T, temperature=T)` for the student's logits, without autograd.

# %%
def soft_gradient(z_S, z_T, T):              # (B, K), (B, K), number -> (B, K)
    ...


check("ch05c.2", soft_gradient)


# %% [markdown]
# **3 · Relate.** Label smoothing by $\epsilon$ gives the label $1-\epsilon$, and $\epsilon/K$ to every class on top. Which teacher, at which temperature and $\alpha$,
# has the same gradient?

# %%
def ignorant_teacher(epsilon, classes):      # -> logits (classes,), T, alpha
    ...


check("ch05c.3", ignorant_teacher)


# %% [markdown]
# **4 · Build.** There are several teachers, each with its logits. Their common soft label shall be the mean of their *probabilities* at temperature `T`. (Section 6
# averages logits instead. Both are in use.)

# %%
def committees_label(logits, T):             # (teachers, B, K), number -> (B, K)
    ...


check("ch05c.4", committees_label)


# %% [markdown]
# **5 · Build.** A teacher is mostly wrong where it is unsure. Give the soft loss over those images alone of which the teacher is sure: its largest probability, at $T=1$,
# is at least `least`. Where it is sure of none, the loss is 0. Try it with `poor`, the worse teacher of section 6: does the student suffer less?

# %%
def confident_loss(z_S, z_T, T, least):      # (B, K), (B, K), number, number -> scalar
    ...


check("ch05c.5", confident_loss)

# %% [markdown]
# ## 8 Book check
#
# **W03 · the loss.** The section prints $L=L_{CE}(\mathrm h_T,\mathrm p_T)+\lambda L_{KD}(\mathrm h_S,\mathrm h_T)$. The cross-entropy is that of the *teacher's*
# output, and $\mathrm p_T$ is not explained. Take $\mathrm p_T$ for the labels, or for the teacher's own prediction, and let $\lambda=0$. What does the student
# learn? And with $\lambda=1$: does it matter which labels the images have?

# %%
student, h_T = small(), logits[few]
weights = list(student.parameters())
def slopes(loss):                            # of a loss of the student's logits, all in a row
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss(student(x)), weights)])


def printed(h_S, p_T, weight):
    return F.cross_entropy(h_T, p_T) + weight * soft_loss(h_S, h_T, temperature=1)


readings = {"labels": y, "false labels": (y + 1) % 10, "its own prediction": h_T.softmax(1)}
for name, p_T in readings.items():
    none = slopes(partial(printed, p_T=p_T, weight=0))
    print(f"p_T = {name}: largest gradient {none.abs().max():.0e} at λ = 0")
right_one = slopes(lambda h_S: F.cross_entropy(h_S, y))
print(f"the cross-entropy of the student's output: {right_one.abs().max():.2f}")

# %% tags=["claims"]
of_soft_loss = slopes(partial(soft_loss, teacher_logits=h_T, temperature=1))
for p_T in readings.values():
    assert slopes(partial(printed, p_T=p_T, weight=0)).abs().max() == 0
    assert_close(slopes(partial(printed, p_T=p_T, weight=1)), of_soft_loss)
assert right_one.abs().max() > 0.01 and not F.cross_entropy(h_T, y).requires_grad

# %% [markdown]
# The gradient is exactly 0: the teacher is frozen, so its cross-entropy is a constant. For any $\lambda$ the labels never reach the student, correct or false. In the
# right loss the cross-entropy is that of the student's output with the label.
#
# **M04 · the temperature.** The section does not mention one. Section 2 measured what this costs: at $T=1$ the labels of the training images have a small part of
# the entropy that they have at $T=4$. Section 3 showed why $T^2$ must stand beside a temperature.
#
# **I61 · a kind of network?** The book lists 基于知识蒸馏的网络, *networks based on distillation*, beside convolutional ones. Distillation is a way to train, often
# used to compress (压缩). Take three teachers, of which two are no networks at all: a random forest and the five nearest neighbours. What changes in the student?

# %%
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

def log_p(model, x):                         # any classifier's logits; −inf is "never"
    return torch.from_numpy(model.predict_proba(x.flatten(1).numpy())).float().log()

def by_teacher(net, x, z):
    return soft_loss(net(x), z, temperature=1)


teachers, shapes, taught = {"ResNet-20": logits}, set(), {}
for model in (RandomForestClassifier(100, random_state=0), KNeighborsClassifier(5)):
    model.fit(images.flatten(1), labels)
    teachers[type(model).__name__] = log_p(model, images)
for name, z in teachers.items():
    student = small()
    learn(student, (images, z), by_teacher, steps)
    shapes.add(str({key: p.shape for key, p in student.state_dict().items()}))
    taught[name] = accuracy(predict_logits(student, valid_images), valid_labels)
    print(f"taught by {name}: {taught[name]:.1%} of the validation images correct")

# %% tags=["claims"]
assert len(shapes) == 1 and min(taught.values()) > 0.5

# %% [markdown]
# Only the values of the weights change: the parts and their shapes are the same, whoever the teacher is. All three students learned.
#
# **I24 · the notation.** The section parts $\mathrm{Teacher}(\mathrm x)=\mathrm h_T$ from the student's line by `\\` in plain `$$`, where LaTeX makes no line break without
# `aligned`. It also does not say whether $\mathrm h$ is a logit or a probability. The difference matters: the softmax of a probability can never give more than
# $e/(e+9)=23\,\%$ to one of ten classes (chapter 5a, I14). So write $z_T$ and $z_S$ for logits.
#
# ## 9 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook distils on Fashion-MNIST, with a hundred labels a class. Without an accelerator it takes 10,000 of the images and
# fewer steps. Where a sentence above says *on the digits*, only the digits were measured; compare it with the full run. What the published runs measured:

# %% tags=["record"]
records.show("ch05c", "quick")
records.show("ch05c", "full")

# %% [markdown]
# ## 10 What we learned
#
# - The student learns the teacher's probabilities of all classes, softened by a temperature; the teacher gets no gradient, and the student gets one from the label too.
# - $T^2$ keeps the gradient of the soft term from vanishing as the temperature grows.
# - Distillation helps where labels are few and the teacher knows more, most of all on images that nobody labelled.
# - On few images a control without knowledge of similar classes gains about as much accuracy as distillation. The knowledge is seen in the student's
#   second choices.
# - With enough labels it adds nothing, and a worse teacher does harm. It leaves the network as it is, and operations saved are not time saved.
#
# **References.** G. Hinton, O. Vinyals, J. Dean, *Distilling the knowledge in a neural network*, arXiv:1503.02531, 2015 · A. Romero, N. Ballas, S. E. Kahou,
# A. Chassang, C. Gatta, Y. Bengio, *FitNets: hints for thin deep nets*, ICLR, 2015, arXiv:1412.6550 · S. Zagoruyko, N. Komodakis, *Paying more attention to attention:
# improving the performance of convolutional neural networks via attention transfer*, ICLR, 2017, arXiv:1612.03928 · T. Furlanello, Z. C. Lipton, M. Tschannen, L. Itti,
# A. Anandkumar, *Born again neural networks*, ICML, 2018, arXiv:1805.04770 · C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, *Rethinking the Inception architecture for computer
# vision*, CVPR, 2016, arXiv:1512.00567 · L. Yuan, F. E. H. Tay, G. Li, T. Wang, J. Feng, *Revisiting knowledge distillation via label smoothing regularization*, CVPR, 2020,
# arXiv:1909.11723 · J. Gou, B. Yu, S. J. Maybank, D. Tao, *Knowledge distillation: a survey*, International Journal of Computer Vision 129, 2021, arXiv:2006.05525.
