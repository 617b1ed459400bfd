# %% [markdown]
# # 5c · Knowledge distillation (知识蒸馏)
#
# *Book: §2.2.3 (3), 基于知识蒸馏的网络*
#
# **Can a small network learn more from a large one's doubts than from the truth?**
#
# You will be able to soften a teacher's word with a temperature, write the loss that a student learns by and check its gradient, say what the
# factor $T^2$ is for, let a student learn from a teacher's maps too, tell which of the book's claims hold, and measure when all this is worth it and when
# it is not.
#
# Run the cells from top to bottom. The first one prints what a whole run costs, and shows what its published run found: one small network,
# trained in several ways.

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
# The digits, 8×8. Of the 1,437 to learn from, a sixth is held back as a validation part (验证集) for every choice in this chapter; the 360 test
# digits only measure. Someone has labels for all images, and has trained a large network on them. We have that network, the images, and labels for
# ten images of each class. (With `VLMBOOK_PROFILE=full` it is Fashion-MNIST, 28×28, and a hundred of each class.)

# %%
parts = data.hold_out(*data.digits_or_fashion("train"), share=1 / 6, seed=0)
(images, labels), (valid_images, valid_labels) = parts
test_images, test_labels = data.digits_or_fashion("test")
digits, on_cpu = images.shape[-1] == 8, runtime.device().type == "cpu"
alone = on_cpu and runtime.profile() == "full"
if alone:                                    # full, and no accelerator: a taste
    images, labels = images[:3000], labels[:3000]
each = 10 if digits else 100
few = torch.cat([(labels == k).nonzero()[:each, 0] for k in range(10)])
print(len(images), "images to learn from,", len(few), "with a label;", len(valid_images),
      "for choices,", len(test_images), "to test")
plot.gallery(images[few[::each]], [str(k) for k in range(10)]);

# %% [markdown]
# ## 2 A teacher and a student
#
# The teacher (教师网络) is the ResNet with 20 layers of chapter 3b. The student (学生网络) is a ResNet too, with one block in each stage where the
# teacher has three, and a quarter of its width.
# How many parameters has each, and how many floating-point operations (浮点运算) does an image cost? PyTorch counts those of convolutions and
# matrix products: a multiplication and an addition are two. Guess both ratios.

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
assert all(45 < ratio < 65 for ratio in cost_ratios)

# %% [markdown]
# Now the teacher learns, from all labels, with the loop of the package. How many of the held-out images does it name rightly? A line to beat is
# softmax regression (softmax 回归) on the pixels, from the same labels.

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
              steps=runtime.pick(quick=200, full=40 if alone else 6000))
logits, valid_logits, test_logits = (predict_logits(teacher, x) for x in
                                     (images, valid_images, test_images))

# %%
of_teacher, of_pixels = accuracy(valid_logits, valid_labels), regression(images, labels)[0]
print(f"validation: teacher {of_teacher:.1%}, softmax regression {of_pixels:.1%}")
assert of_teacher > of_pixels + 0.01 or alone
_, axes = plt.subplots(figsize=(7, 1.7))
axes.semilogy(range(1, len(curve) + 1), curve)
axes.set(xlabel="step", ylabel="cross-entropy, nats");

# %% [markdown]
# ### What it says beside the answer
#
# A network says more than a class. Its logits (未归一化的类别分数) $z_1,\dots,z_K$ order all classes. Here are the validation images about which this
# teacher has most doubts. Do you share them?

# %%
from vlmbook.distillation import soft_labels

p = soft_labels(valid_logits, 1)
doubtful = p.amax(1).argsort()[:8]
drawings.draw_uncertain(plt.figure(figsize=(7, 2.2)), valid_images[doubtful], p[doubtful])


# %% [markdown]
# But these are the exceptions. Of an ordinary image that it learned from, the teacher is so sure that the other classes get next to nothing: its word is the label again. To hear
# the rest, soften it. With a temperature (温度) $T$ the soft label (软标签) is
#
# $$p_i^{(T)}=\frac{e^{z_i/T}}{\sum_{j=1}^{K}e^{z_j/T}}$$
#
# At $T=1$ it is the softmax. What is it at $T\to0$? At $T\to\infty$? Move the temperature until you see whom the image resembles. The entropy
# (熵) says how far the label is from one-hot, 0 nats, and from knowing nothing, $\ln 10=2.3$.

# %%
def by_hand(z, T):                           # (K,) -> (K,)
    powers = [math.exp(each / T) for each in z.tolist()]
    return torch.tensor([each / sum(powers) for each in powers])


z = valid_logits[0]
assert_close(by_hand(z, 3), soft_labels(z[None], 3)[0])
assert_close(soft_labels(z[None], 1e5), torch.full((1, 10), 0.1), rtol=1e-2, atol=0)

# %%
interact.live(partial(drawings.draw_temperature, images=valid_images[:20],
                      logits=valid_logits[:20]),
              image=(0, 19), temperature=(0.5, 20.0, 0.5), figsize=(7, 2.4))

# %% [markdown]
# Towards 0 it becomes one-hot, towards infinity all classes become equal; in between it speaks. Is there knowledge in what it says, or noise? Take all images of a class, average their soft labels, and leave the class itself out: for what is a 3 taken,
# when not for a 3? Hinton called this dark knowledge (暗知识). Beside it stands something that no network made: how near the mean images of two
# classes are to one another.

# %%
matrices = {"teacher, T = 4": experiments.measure_confusions(logits, labels, 4),
            "similarity of mean images": experiments.measure_similarities(images, labels)}
drawings.draw_confusions(plt.figure(figsize=(7, 3.3)), matrices)
alike = experiments.correlate_ranks(*matrices.values())
print(f"rank correlation over all pairs of classes {alike:.2f}")
assert 0.2 < alike < 0.8 or not digits

# %% [markdown]
# It is knowledge, though not of the pixels alone: the two orders are related and not the same. A one-hot label says nothing of it. A soft label says it with
# every single image.
#
# ## 3 The idea, written here
#
# ### The loss
#
# Let $z_S$ be the logits of the student, $z_T$ those of the teacher, and $q^{(T)}$ and $p^{(T)}$ their soft labels. The student is to say what the teacher says, at the
# same temperature. How far two distributions are apart is measured by the Kullback-Leibler divergence (KL散度). Where there is a label $y$, the student is to say that as
# well, at temperature 1 [Hinton et al. 2015]:
#
# $$L=(1-\alpha)\,\underbrace{\big(-\log q_y^{(1)}\big)}_{\mathrm{CE}}+\alpha\,T^2\,\underbrace{\sum_{i=1}^{K}p_i^{(T)}\log\frac{p_i^{(T)}}{q_i^{(T)}}}_{\mathrm{KL}}$$
#
# Both terms are means over the images; in the package an image without a label, $-100$, counts in the second alone. With $z_S=z_T$, which of the terms is 0?

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
assert_close(loss_loops(z_S, z_T, y, 3, 0.7), ours)
assert abs(soft_loss(z_T, z_T, temperature=3)) < 1e-5
print(f"loss {ours:.4f} nats")


# %% [markdown]
# The second. PyTorch has both divergences; does it give the same values and gradients? (`kl_div` wants the student's logarithms first, the teacher second,
# and `batchmean`: its default also divides by the number of classes.)

# %%
def theirs(z, T=3, alpha=0.7):
    soft = F.kl_div((z / T).log_softmax(1), (z_T / T).softmax(1), reduction="batchmean")
    return (1 - alpha) * F.cross_entropy(z, y, ignore_index=UNKNOWN) + alpha * T**2 * soft


mine = partial(distillation_loss, teacher_logits=z_T, labels=y, temperature=3, alpha=0.7)
assert_close(mine(z_S), theirs(z_S))
assert_close(torch.func.grad(mine)(z_S), torch.func.grad(theirs)(z_S))


# %% [markdown]
# ### What $T^2$ is for
#
# For one image, the derivative of the divergence is
#
# $$\frac{\partial\,\mathrm{KL}}{\partial z_{S,i}}=\frac1T\big(q_i^{(T)}-p_i^{(T)}\big)\qquad\text{and, as }T\to\infty,\qquad
# T^2\,\frac{\partial\,\mathrm{KL}}{\partial z_{S,i}}\to\frac1K\big((z_{S,i}-\bar z_S)-(z_{T,i}-\bar z_T)\big)$$
#
# A bar is the mean over the classes. One factor $1/T$ stands there, and the softened probabilities differ by another. So the pull of the soft term falls as $1/T^2$. Which of the three lines
# below will be level?

# %%
def gradient(z_S, z_T, T):                   # of the soft loss for all logits of the student
    return torch.func.grad(partial(soft_loss, teacher_logits=z_T, temperature=T))(z_S)


apart = soft_labels(z_S, 3) - soft_labels(z_T, 3)
centred = [z - z.mean(1, keepdim=True) for z in (z_S, z_T)]
assert_close(gradient(z_S, z_T, 3), 3**2 / 3 * apart / len(z_S))
assert_close(gradient(z_S, z_T, 1000), (centred[0] - centred[1]) / 4 / len(z_S),
             rtol=0.01, atol=1e-4)

untrained, temperatures = predict_logits(small(), images), [1, 2, 4, 8, 16, 32, 64]
norms = torch.stack([gradient(untrained, logits, T).norm() for T in temperatures])
hard = torch.func.grad(F.cross_entropy)(untrained, labels).norm().item()
powers = torch.tensor(temperatures) ** 2
drawings.draw_gradients(plt.figure(figsize=(7, 2.4)), temperatures, {
    "KL": norms / powers, "T² KL": norms, "cross-entropy with labels": [hard] * 7})
assert 0.85 < norms[-1] / norms[-2] < 1.15 and (norms / powers)[-1] < 0.01 * hard

# %% [markdown]
# With $T^2$ the line goes level, and without it the soft term vanishes beside the labels. So $\alpha$ keeps its meaning when $T$ changes. More or
# less: at low temperatures, where the softened differences are not small, the pull still changes, here by nearly a factor of three up to $T=4$.
#
# ### From inside
#
# A teacher can say more than its last layer. FitNets [Romero et al. 2014] asks the student to make, from its own map $v$ in the middle, the teacher's map
# $u$, with the help of a small layer $r$ that learns too and is thrown away. Attention transfer [Zagoruyko & Komodakis 2016] asks only *where* the
# teacher is active, which needs no such layer: channels of a map $A$ are squared and added, to an attention map (注意力图) $Q$ over
# places $j$.
#
# $$L_{\mathrm{hint}}=\tfrac12\,\mathrm{mean}\big[(u-r(v))^2\big]\qquad
# Q_j=\sum_c A_{cj}^2,\qquad L_{\mathrm{AT}}=\tfrac12\,\Big\|\frac{Q_S}{\|Q_S\|}-\frac{Q_T}{\|Q_T\|}\Big\|^2$$
#
# The paper's distance is not squared; its authors' program has the square. Which of the two losses lets the student double all its activations?

# %%
from torch import nn
from vlmbook.distillation import attention_map, attention_transfer_loss, fitnets_loss

def attention_by_hand(A):                    # (C, H, W) -> (H, W)
    Q = sum(channel**2 for channel in A)
    return Q / Q.square().sum().sqrt()


v, u, r = torch.randn(2, 8, 4, 4), torch.randn(2, 32, 4, 4), nn.Conv2d(8, 32, 1)
distances = [(attention_by_hand(a) - attention_by_hand(b)).square().sum() for a, b in zip(v, u)]
assert_close(attention_map(v)[0], attention_by_hand(v[0]))
assert_close(attention_transfer_loss(v, u), sum(distances) / 2 / 2)
assert_close(attention_transfer_loss(2 * v, u), attention_transfer_loss(v, u))
assert_close(fitnets_loss(v, u, r), (u - r(v)).square().mean() / 2)
assert fitnets_loss(2 * v, u, r) > 1.05 * fitnets_loss(v, u, r)

# %% [markdown]
# ## 4 Book check
#
# **W03 · the loss.** The section prints $L=L_{CE}(\mathrm h_T,\mathrm p_T)+\lambda L_{KD}(\mathrm h_S,\mathrm h_T)$. The cross-entropy is that of the *teacher's*
# output, and nobody says what $\mathrm p_T$ is. Take it for the labels, or for the teacher's own word, and let $\lambda=0$. What does the student
# learn? And with $\lambda=1$: does it matter which labels the images have?

# %%
student, x, y = small(), images[few], labels[few]
h_T, weights = logits[few], list(student.parameters())
def slopes(loss):                            # of a loss of the student's logits, all in a row
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss(student(x)), weights)])


def printed(h_S, p_T, weight):
    return F.cross_entropy(h_T, p_T) + weight * soft_loss(h_S, h_T, temperature=1)


readings = {"labels": y, "false labels": (y + 1) % 10, "its own word": h_T.softmax(1)}
for name, p_T in readings.items():
    none, some = (slopes(partial(printed, p_T=p_T, weight=weight)) for weight in (0, 1))
    print(f"p_T = {name}: largest gradient {none.abs().max():.0e} at λ = 0")
    assert none.abs().max() == 0
    assert_close(some, slopes(partial(soft_loss, teacher_logits=h_T, temperature=1)))
right_one = slopes(lambda h_S: F.cross_entropy(h_S, y))
print(f"the cross-entropy of the student's output: {right_one.abs().max():.2f}")
assert right_one.abs().max() > 0.01 and not F.cross_entropy(h_T, y).requires_grad

# %% [markdown]
# Exactly nothing: the teacher is frozen, so its cross-entropy is a constant. For any $\lambda$ the labels never reach the student, true or
# false. In the right loss the cross-entropy is that of the student's output with the label.
#
# **M04 · the temperature.** The section does not mention one. How much of the teacher's doubts is left at $T=1$? And does a factor $T^2$ make up for it?

# %%
softness = {T: experiments.entropy(soft_labels(logits, T)).mean().item() for T in (1, 2, 4, 8)}
print("mean entropy in nats:", *(f"T = {T}: {nats:.3f} " for T, nats in softness.items()))
for T, with_it, without in zip(temperatures, norms, norms / powers):
    print(f"T = {T:2}: gradient with T² {with_it:.3f}, without {without:.5f}")
assert softness[1] < min(0.02, 0.1 * softness[4]) or not digits
assert without < 0.01 * hard and 0.1 * hard < with_it

# %% [markdown]
# Next to nothing at $T=1$, on the images that the teacher learned from: its labels are one-hot but for less than a hundredth of a nat. At higher $T$ they speak; and it takes $T^2$ that
# they are heard.
#
# **I24 · how it is written.** Two lines of the section, $\mathrm{Teacher}(\mathrm x)=\mathrm h_T$ and the student's, are parted by `\\` in plain `$$`. LaTeX makes no line
# break there without `aligned`, and matplotlib's parser refuses it. Nor does the section say whether $\mathrm h$ is a logit or a probability. Does that matter? Take
# the softmax of what is a probability already.

# %%
from matplotlib.mathtext import MathTextParser

def readable(formula):
    try:
        return bool(MathTextParser("path").parse(f"${formula}$"))
    except ValueError:
        return False


upper, lower = r"\mathrm{Teacher}(\mathrm{x}) = ", r"\mathrm{Student}(\mathrm{x}) = "
assert not readable(upper + r"\mathrm{h}_T \\ " + lower + r"\mathrm{h}_S")
assert readable(upper + "z_T") and readable(lower + "z_S")
once, twice = (soft_labels(h, 1) for h in (logits, logits.softmax(1)))
print(f"largest probability {once.amax(1).mean():.2f}, of softmax twice {twice.amax(1).max():.2f}")
assert twice.amax() < math.e / (math.e + 9) + 1e-6 < 0.24

# %% [markdown]
# It does: softmax twice can never say more than $e/(e+9)=23\,\%$ for any class, of ten. Written with logits, $z_T=\mathrm{Teacher}(x)$ and
# $z_S=\mathrm{Student}(x)$, nobody has to guess.
#
# **I61 · a kind of network?** 基于知识蒸馏的网络, *networks based on distillation*, stand in the book beside convolutional ones. Distillation is a way to
# train, often used to compress (压缩). Take three teachers, of which two are no networks at all: a random forest and the five nearest neighbours.
# What changes in the student?

# %%
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

def log_p(model, x):                         # any classifier's logits; −inf is "never"
    return torch.from_numpy(model.predict_proba(x.flatten(1).numpy())).float().log()


def by_teacher(net, x, z):
    return soft_loss(net(x), z, temperature=1)

teachers = {"ResNet-20": logits}
for model in (RandomForestClassifier(100, random_state=0), KNeighborsClassifier(5)):
    model.fit(images[:10_000].flatten(1), labels[:10_000])
    teachers[type(model).__name__] = log_p(model, images)
steps, shapes, lowest = runtime.pick(quick=120, full=20 if alone else 2000), set(), 1.0
for name, z in teachers.items():
    student = small()
    learn(student, (images, z), by_teacher, steps)
    shapes.add(str({key: p.shape for key, p in student.state_dict().items()}))
    share = accuracy(predict_logits(student, valid_images), valid_labels)
    lowest = min(lowest, share)
    print(f"taught by {name}: {share:.1%} of the validation images right")
assert len(shapes) == 1 and (lowest > 0.9 or not digits)

# %% [markdown]
# Nothing but its numbers: the same parts with the same shapes, whoever taught it, and all three students learned. The word of a neighbour vote, in which most classes get probability 0, will do as well.
#
# ## 5 Train
#
# Now the question of the chapter. One student, trained in five ways, for about as many steps. First on the hundred labelled images: by labels alone; by
# labels that are smoothed (标签平滑), one tenth of each spread evenly over all classes [Szegedy et al. 2015]; by labels and teacher. Then on all images, of
# which the teacher says something where there is no label: its soft labels, or only the class that it names, as a pseudo-label (伪标签).
#
# Temperature 4 and $\alpha=0.9$ are customary values and not the best: on the validation part 8 did a little better, and 2 less well. In each of five seeds all students
# start from the same weights. Order the five before you look.

# %%
known = torch.full_like(labels, UNKNOWN)
known[few] = labels[few]
def by_smoothed(net, x, y):
    return F.cross_entropy(net(x), y, label_smoothing=0.1)

def by_both(net, x, y, z):
    return distillation_loss(net(x), z, y, temperature=4, alpha=0.9)


x, y = images[few], labels[few]
ways = {"labels alone": ((x, y), by_labels), "label smoothing": ((x, y), by_smoothed),
        "distilled": ((x, y, logits[few]), by_both),
        "pseudo-labels, all images": ((images, logits.argmax(1)), by_labels),
        "distilled, all images": ((images, known, logits), by_both)}
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
figure = plt.figure(figsize=(7, 2.6))
drawings.draw_accuracies(figure, scores, {
    "teacher": teachers_share, "softmax regression, labels": few_pixels})
records.picture("ch05c", figure)
for name, shares in scores.items():
    more, spread = gain(shares, scores["labels alone"])
    print(f"{name:25} {torch.tensor(shares).mean():.1%}, over labels alone {100 * more:+.1f} "
          f"± {100 * spread:.1f} points")
over_labels = {name: gain(shares, scores["labels alone"])[0] for name, shares in scores.items()}
softer = gain(scores["distilled, all images"], scores["pseudo-labels, all images"])[0]
if digits:
    assert 0.01 < over_labels["distilled"] < 0.09 and abs(over_labels["label smoothing"]) < 0.03
    assert over_labels["distilled"] > over_labels["label smoothing"]
    assert over_labels["distilled, all images"] > over_labels["distilled"] + 0.05
    assert abs(softer) < 0.015 and sum(scores["distilled"]) / 5 < few_pixels

# %% [markdown]
# On the same hundred images the teacher's word is worth several points; smoothing, which softens without knowing anything, is worth no more than the seeds differ. But
# the teacher's labels at $T=4$ are softer than the smoothed ones, so this does not tell how much of the gain is knowledge of similar classes. And the larger step is another: the teacher also speaks of images that have no label, and there its
# pseudo-labels do as well as its soft labels. Where the teacher is nearly always right and images are many, a class for each is enough.
#
# And look at the grey line. From the same hundred labels a softmax regression on the pixels does better than our student, by labels alone and distilled on few images. A weak
# baseline makes any method shine.
#
# What did it buy? Size and operations are counted; the time is measured here, one image at a time, and a hundred.

# %%
from copy import deepcopy
from timeit import repeat

big, little = (deepcopy(net).cpu().eval() for net in (teacher, trained["distilled, all images"][0]))
@torch.no_grad()
def milliseconds(net, batch):                # an image, the best of seven
    n, x = max(1, 40 // batch), test_images[:batch]
    return min(repeat(lambda: net(x), number=n, repeat=7)) / n / len(x) * 1e3


table = {"teacher": (big, [teachers_share])} | {
    f"student, {name}": (little, shares) for name, shares in scores.items()}
latency = {net: [milliseconds(net, n) for n in (1, 100)] for net in (big, little)}
print("right on test images, parameters, M operations, ms an image: alone, of 100")
for name, (net, shares) in table.items():
    numbers = costs["teacher" if net is big else "student"]
    shares = torch.tensor(shares)
    print(f"{name:35}{shares.mean():6.1%} ± {shares.std(0, correction=len(shares) > 1):.1%}"
          f"{numbers[0]:9,}{numbers[1] / 1e6:7.2f}{latency[net][0]:7.2f}{latency[net][1]:7.3f}")
faster = [slow / quick for slow, quick in zip(latency[big], latency[little])]
print(f"{cost_ratios[0]:.0f} times smaller, {cost_ratios[1]:.0f} times fewer operations, "
      f"{faster[0]:.1f} and {faster[1]:.1f} times faster")
assert all(1.5 < times < cost_ratios[1] for times in faster)

# %% [markdown]
# All five students cost the same: how a network was trained does not show in what it costs. And operations are not time, alone or in a batch: the small network is faster, but by less than its count of operations
# promises. Probably it is the calling of its layers that costs most on a small image, and narrow layers keep a processor less busy.
#
# ### How much teacher?
#
# $\alpha$ shares out the weight between label and teacher. Here a softmax regression learns from the hundred images, on the spot, for eleven values of $\alpha$, and four of
# ten labels are *wrong*, like the one shown. Which end of the curve is higher, and why? What becomes of it when all labels are right?

# %%
hundred = few[::len(few) // 100]                             # images, in both profiles
task = {"images": images[hundred], "labels": labels[hundred], "logits": logits[hundred],
        "test_images": valid_images[:1000], "test_labels": valid_labels[:1000]}
interact.live(partial(drawings.draw_alpha, **task), alpha=(0.0, 1.0, 0.1),
              temperature=(1.0, 10.0, 0.5), wrong=(0.0, 0.8, 0.1), figsize=(7, 2.4))

# %%
ends = {}
for wrong in (0.0, 0.4):
    _, shares = experiments.measure_accuracy_by_alpha(**task, temperature=2.0, wrong=wrong)
    ends[wrong] = shares[[0, 5, 10]].tolist()
    print(f"{wrong:.0%} wrong labels: α = 0, 0.5, 1:", *(f"{share:.1%}" for share in ends[wrong]))
assert (abs(ends[0][2] - ends[0][0]) < 0.05 < ends[0.4][1] - ends[0.4][0] - 0.1) or not digits

# %% [markdown]
# With right labels the curve is nearly level. The more of them are wrong, the more weight should go to this teacher, which has seen right ones. It is no law: a teacher
# that knows less than the labels is to get little (section 7).
#
# ## 6 See inside
#
# Did the student take over the doubts, or just the answers? The doubts of section 2, on held-out images, and their rank correlation with the teacher's, in the mean over the
# seeds. Which of the five will be nearest?

# %%
of_students = {name: [predict_logits(net, valid_images) for net in nets]
               for name, nets in trained.items()}
confusions, agree = experiments.compare_confusions(valid_logits, of_students, valid_labels)
drawings.draw_agreement(plt.figure(figsize=(7, 2.5)), confusions, agree)
print(*(f"{name} {torch.tensor(each).mean():.2f}" for name, each in agree.items()), sep="; ")
assert gain(agree["distilled"], agree["pseudo-labels, all images"])[0] > 0.1 or not digits

# %% [markdown]
# The soft labels hand the doubts on, even on a hundred images, with far fewer right answers. The pseudo-labels do so only a little, with as many right answers as the soft labels. That is what softness is worth
# where the teacher is nearly always right: not more answers, but the teacher's second thoughts.
#
# Where do they look? Two more ways on the same hundred images: labels, with a term for the teacher's maps, either attention or hints. The weights were chosen among
# three and four, on the validation part. The attention maps are those of the second stage, 4×4 for the digits.

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
    over_labels[kind], spread = gain(scores[kind], scores["labels alone"])
    print(f"{kind}: over labels alone {100 * over_labels[kind]:+.1f} ± {100 * spread:.1f} points")
much = over_labels["pseudo-labels, all images"]
assert all(-0.05 < over_labels[kind] < much / 2 for kind in inner) or not digits

# %% [markdown]
# A few points at most, and the seeds differ by nearly as much. The teacher's plain word is worth about as much, and needs no maps. Do the students look
# elsewhere, at least?

# %%
with torch.no_grad():
    nets = {"teacher": teacher.cpu(), "labels alone": trained["labels alone"][0].cpu(),
            "attention": inner["attention"][0].cpu()}
    inside = {name: attention_map(net.features(test_images[:400])[2]) for name, net in nets.items()}
drawings.draw_attention(plt.figure(figsize=(7, 3.2)), test_images[:8],
                        {name: each[:8] for name, each in inside.items()})
apart = {name: (inside["teacher"] - each).square().sum((1, 2)).mean().item() / 2
         for name, each in inside.items()}
print("distance to the teacher's map:", *(f"{name} {far:.3f} " for name, far in apart.items()))
assert apart["attention"] < 0.5 * apart["labels alone"] or not digits

# %% [markdown]
# They do: asked to look where the teacher looks, the student comes much nearer to it, on images that it never saw. It has learned what it was asked; to name the images is another question.
#
# ## 7 Where it does not help
#
# **Enough labels.** Let the student have all labels. Does the teacher still add anything?
#
# **A worse teacher.** Let all labels meet a teacher that knows less than they do: one of the students of section 5, which had a hundred of them. The weight stays at
# $\alpha=0.9$.
#
# **Its own word.** In self-distillation (自蒸馏) the student has the teacher's architecture, and becomes the next one's teacher [Furlanello et al. 2018]. Three
# generations, all from the hundred images, five times. Which of the three will help?

# %%
from vlmbook.distillation import train_born_again
same_labels = torch.equal(logits.argmax(1), labels)          # then that row is this one
everything = (scores["pseudo-labels, all images"] if same_labels else
              score(students((images, labels), by_labels)))
poor, gains, generations = predict_logits(trained["labels alone"][0], images), {}, []
for name, z, seeds in (("all labels", logits, 5), ("a worse teacher", poor, 3)):
    shares = score(students((images, labels, z), by_both, seeds))
    gains[name], spread = gain(shares, everything[:seeds])
    print(f"{name}: {100 * gains[name]:+.1f} ± {100 * spread:.1f} points over labels alone")
epochs = max(1, round(steps / math.ceil(len(x) / 64)))
for seed in range(5):
    runtime.seed_everything(seed)
    nets = train_born_again(small, x, y, generations=3, temperature=4, alpha=0.9, lr=2e-2,
                            epochs=epochs, seed=seed, progress=False, **settings)
    generations.append(score(nets))
for number, shares in enumerate(zip(*generations), 1):
    print(f"generation {number}: {torch.tensor(shares).mean():.1%} of the test images right")
first, _, third = zip(*generations)
gains["third generation"], spread = gain(third, first)
print(f"all labels {sum(everything) / 5:.1%}, the teacher {teachers_share:.1%}")
print(f"the third over the first: {100 * gains['third generation']:+.1f} ± {100 * spread:.1f}")
if digits:
    assert abs(gains["all labels"]) < 0.015 and gains["a worse teacher"] < -0.03
    assert abs(gains["third generation"]) < 0.1 and spread > 0.01
    assert sum(everything) / 5 < teachers_share - 0.002

# %% [markdown]
# The first two do not. With all labels the student stays a little below the teacher, taught by it or not. A teacher that knows less than the labels pulls it
# down. And of the generations five seeds tell little: from the first to the third a student moves by several points either way, so a small gain could be there and not be
# seen. The paper reports gains on larger networks and sets.
#
# So the book's promise, 表现出更好的性能, *performs better*, has conditions: there must be something to learn that the labels at hand do not say, and a teacher that knows it.
#
# ### A committee
#
# Must the teacher be large, or have seen more labels? Take the five students that learned from a hundred labels each by itself, all from the same. Average their
# logits: an ensemble (集成). Each is wrong somewhere else. Then let one student learn the ensemble's word on all images. Nobody has seen one more label. How far will it get?

# %%
committee = {name: torch.stack([predict_logits(net, x) for net in trained["labels alone"]]).mean(0)
             for name, x in (("to learn", images), ("to test", test_images))}
scores["committee's student"] = score(students((images, known, committee["to learn"]), by_both))
single, heirs = (torch.tensor(scores[name]) for name in ("labels alone", "committee's student"))
of_committee = accuracy(committee["to test"], test_labels)
print(f"one {single.mean():.1%} ± {single.std():.1%}, committee of five {of_committee:.1%}, "
      f"its student {heirs.mean():.1%} ± {heirs.std():.1%}")
assert (heirs.mean() > single.mean() + 0.05 and heirs.mean() > of_committee - 0.04) or not digits

# %% [markdown]
# That far: one small network now does nearly what five did, and far more than its own labels taught it. This is what Hinton's paper set out to do, an ensemble in one network;
# images that nobody labelled carry the committee's word. Chapter 7 compresses by other means.

# %%
baselines = {"teacher": teachers_share, "regression": few_pixels, "committee": of_committee}
records.record("ch05c", seed=[0, 1, 2, 3, 4], accuracy=scores, baselines=baselines, gains=gains,
               over_labels=over_labels, agreement=agree, entropy_at_temperature=softness,
               parameters={name: p for name, (p, _) in costs.items()},
               operations={name: n for name, (_, n) in costs.items()},
               ms_alone={"teacher": latency[big][0], "student": latency[little][0]});

# %% [markdown]
# ## 8 Exercises
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
# **4 · Build.** Several teachers, each with its logits. Their common soft label is the mean of what each says at temperature `T`.

# %%
def committees_label(logits, T):             # (teachers, B, K), number -> (B, K)
    ...


check("ch05c.4", committees_label)


# %% [markdown]
# **5 · Build.** A teacher is mostly wrong where it is unsure. Give the soft loss over those images alone of which it is sure: its largest probability, at $T=1$, is at least
# `least`. Where it is sure of none, the loss is 0. Try it with `poor`, the worse teacher of section 7: does the student suffer less?

# %%
def confident_loss(z_S, z_T, T, least):      # (B, K), (B, K), number, number -> scalar
    ...


check("ch05c.5", confident_loss)

# %% [markdown]
# ## 9 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook distils on Fashion-MNIST, with a thousand labels of fifty thousand. What the published runs measured:

# %% tags=["record"]
records.show("ch05c", "quick")
records.show("ch05c", "full")

# %% [markdown]
# ## 10 What we learned
#
# The student learns what the teacher says of all classes, softened by a temperature; the teacher gets no gradient, the student gets one from the label too.
# $T^2$ keeps the pull of the soft term from vanishing as the temperature grows.
# It helps where labels are few and the teacher knows more; most of all, on images that nobody labelled.
# With enough labels it adds nothing, and a worse teacher does harm: measure, with a simple baseline beside it, and seed by seed.
# It is a way to train, and leaves the network as it is; operations saved are not time saved.
#
# **References.** G. Hinton, O. Vinyals, J. Dean, *Distilling the knowledge in a neural network*, NIPS deep learning workshop, 2014, arXiv:1503.02531 · A. Romero, N. Ballas, S. E. Kahou,
# A. Chassang, C. Gatta, Y. Bengio, *FitNets: hints for thin deep nets*, ICLR, 2015, arXiv:1412.6550 · S. Zagoruyko, N. Komodakis, *Paying more attention to attention:
# improving the performance of convolutional neural networks via attention transfer*, ICLR, 2017, arXiv:1612.03928 · T. Furlanello, Z. C. Lipton, M. Tschannen, L. Itti,
# A. Anandkumar, *Born again neural networks*, ICML, 2018, arXiv:1805.04770 · C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, *Rethinking the Inception architecture for computer
# vision*, CVPR, 2016, arXiv:1512.00567 · L. Yuan, F. E. H. Tay, G. Li, T. Wang, J. Feng, *Revisiting knowledge distillation via label smoothing regularization*, CVPR, 2020,
# arXiv:1909.11723 · J. Gou, B. Yu, S. J. Maybank, D. Tao, *Knowledge distillation: a survey*, International Journal of Computer Vision 129, 2021, arXiv:2006.05525.
