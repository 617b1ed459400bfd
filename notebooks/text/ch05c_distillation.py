# %% [markdown]
# # 5c · Knowledge distillation (知识蒸馏)
#
# *Book: §2.2.3 (3), 基于知识蒸馏的网络*
#
# **A large network has learned a task. Can a small network learn more from the predictions of the large network than from the labels alone?**
#
# After this chapter you can
#
# - soften a prediction with a temperature, and compute a soft label by hand;
# - write the loss of distillation, check its gradient, and explain the factor $T^2$;
# - train a student in several ways, and say which part of the gain comes from which part of the teacher;
# - say when distillation helps, when it does nothing, and when it does harm;
# - use a network that was trained on 1.3 million photographs as the teacher of a small one.
#
# You need these terms: logit (对数几率), softmax (归一化指数函数) and cross-entropy (交叉熵) ([chapter 5a](ch05a_classification_and_detection.ipynb)), residual
# block (残差块) and ResNet ([chapter 3b](ch03b_resnet.ipynb)).
#
# The core path takes 40 minutes: sections 1 to 6 and section 10. Sections 7 to 9 are headed *Going deeper*. The first cell prints what a whole run costs.
# The picture is the main result of the published run: one small network, trained in eight ways.

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
from vlmbook.chapters.ch05c import experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)                     # networks this small gain little from more threads
plot.use_style()
records.published("ch05c")
published = records.RESULTS / "ch05c.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)]);

# %% [markdown]
# ## 1 What a prediction says beside the class
#
# EfficientNet-Lite0 is a network of other authors, trained on 1.3 million photographs of 1,000 classes. We give four photographs to this network. The bars
# under each photograph are the four classes with the largest probability. **Cover the bars. Which second class would you choose for each photograph?**
# (The weights come with the extra `pretrained`. Without this extra, the cell prints one sentence, and the chapter goes on.)

# %%
from vlmbook.efficientnet import class_names, imagenet_input
from vlmbook.pretrained import WeightsMissing, efficientnet_lite0

try:
    large = efficientnet_lite0()
except WeightsMissing as missing:
    large = None
    print(missing, "(the chapter goes on without these weights)")
if large is not None:
    photographs = {name: data.photo(name) for name in ("cat", "coffee", "rocket", "camera")}
    inputs = torch.cat([imagenet_input(photograph) for photograph in photographs.values()])
    with torch.no_grad():
        shares = large(inputs).softmax(1)
    drawings.draw_photographs(plt.figure(figsize=(7, 3.4)), photographs, shares, class_names())

# %% [markdown]
# A label of the first photograph names one class, for example *tiger cat*. Such a label is a **hard label** (硬标签). The prediction says more: the animal
# also looks like an Egyptian cat, and less like a lynx. A label with a probability for every class is a **soft label** (软标签). A network that learns from
# soft labels gets this information with every image. This is the idea of distillation [Hinton et al. 2015].
#
# ### The data of this chapter
#
# To measure, we need many trainings. So the chapter works with the digits of scikit-learn, 8×8 pixels, and returns to photographs in section 7. A sixth of
# the training images is the validation set (验证集): all choices of this chapter use it. The test images (测试集) only measure. (With `VLMBOOK_PROFILE=full`
# the data are Fashion-MNIST, 28×28 pixels, and a hundred labels a class.)
#
# The situation: somebody had labels for all training images, and trained a large network with them. We have the large network and the images. We have the
# labels of ten images of each class.

# %%
parts = data.hold_out(*data.digits_or_fashion("train"), share=1 / 6, seed=0)
(images, labels), (valid_images, valid_labels) = parts
test_images, test_labels = data.digits_or_fashion("test")
digits = images.shape[-1] == 8
small_run = runtime.device().type == "cpu" and not digits     # fewer images and steps
if small_run:
    images, labels = images[:10_000], labels[:10_000]
each = 10 if digits else 100
few = torch.cat([(labels == k).nonzero()[:each, 0] for k in range(10)])
print(len(images), "training images,", len(few), "of them with a label;", len(valid_images),
      "validation images;", len(test_images), "test images")
plot.gallery(images[few[::each]], [str(k) for k in range(10)]);

# %% [markdown]
# ## 2 Teacher and student
#
# The large network is the **teacher** (教师网络): ResNet-20 of chapter 3b. The small network is the **student** (学生网络), which is a ResNet too. A stage of
# the student has one block, and a stage of the teacher has three. The student has a quarter of the teacher's channels. The drawing shows both networks with
# the shapes of their maps, which the cell reads from the networks. First look at the stages. Section 3 explains the losses, which are orange.
#
# The cell also counts the parameters and the floating-point operations (浮点运算) of one image. PyTorch counts one multiplication and one addition as two
# operations. **Guess from the shapes how many times larger the teacher is.**

# %%
from torch.utils.flop_counter import FlopCounterMode
from vlmbook.resnet import BasicBlock, ResNet, resnet20

def make_student():                          # -> the student, untrained
    return ResNet(BasicBlock, (1, 1, 1), 10, 1, width=4, small=True)

def cost(net, x):                            # -> parameters, operations for the images x
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(x)
    return sum(p.numel() for p in net.parameters()), counter.get_total_flops()


costs, shapes = {}, {}
for name, net in (("teacher", resnet20(in_channels=1)), ("student", make_student())):
    costs[name] = cost(net, images[:1])
    shapes[name] = [tuple(each_map.shape[1:]) for each_map in net.features(images[:1])] + [(10,)]
    parameters, operations = costs[name]
    print(f"{name}: {parameters:,} parameters, {operations / 1e6:.2f} M operations an image")
cost_ratios = [a / b for a, b in zip(costs["teacher"], costs["student"])]
print("ratios:", *(f"{ratio:.0f}" for ratio in cost_ratios))
drawings.draw_scheme(plt.figure(figsize=(7, 3.2)), images[few[3 * each]], shapes)


# %% [markdown]
# Both numbers of the teacher are about fifty times as large. Here are the student's layers as code. A residual block has two convolutions and a shortcut.
# Where the size changes, the shortcut takes every second pixel and adds channels of zeros, so the shortcut has no weights. The last lines compare: with the
# same weights, these layers and the student of the package must give the same logits.

# %%
class Block(nn.Module):                      # (B, C, H, W) -> (B, D, H / stride, W / stride)
    def __init__(self, channels, width, stride):
        super().__init__()
        self.stride, self.new = stride, width - channels
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        shortcut = x[:, :, ::self.stride, ::self.stride]
        return (y + F.pad(shortcut, (0, 0, 0, 0, 0, self.new))).relu()


layers = [nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),      # stem
          Block(4, 4, 1), Block(4, 8, 2), Block(8, 16, 2),                              # stages
          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
by_layers, of_package = nn.Sequential(*layers).eval(), make_student().eval()
values = of_package.state_dict().values()
by_layers.load_state_dict(dict(zip(by_layers.state_dict(), values)))
assert_close(by_layers(images[:5]), of_package(images[:5]))

# %% [markdown]
# The logits are the same. Now the teacher learns from all labels, with the training loop of the package. The baseline (基线) is
# softmax regression (softmax 回归): one linear layer on the pixels, with the same labels. **Which of the two is better on the validation images?**

# %%
import math
from sklearn.linear_model import LogisticRegression
from vlmbook.distillation import predict_logits
from vlmbook.training import fit

settings = {"batch_size": 64, "warmup": 10, "weight_decay": 0.01, "progress": False,
            "optimizer": partial(torch.optim.AdamW, fused=True)}      # one call for all weights
def learn(net, of, loss, steps, seed=0, lr=2e-2):
    epochs = max(1, round(steps / math.ceil(len(of[0]) / 64)))
    history = fit(net, of, loss_fn=loss, epochs=epochs, lr=lr, seed=seed, **settings)
    net.eval()
    return history.losses

def by_labels(net, x, y):
    return F.cross_entropy(net(x), y)

def accuracy(logits, y):
    return (logits.argmax(1) == y).float().mean().item()

def regression(x, y, test_x, test_y):        # -> accuracy of softmax regression on the pixels
    model = LogisticRegression(max_iter=1000).fit(x[:5000].flatten(1), y[:5000])
    return model.score(test_x.flatten(1), test_y)


# %%
runtime.seed_everything(0)
teacher = resnet20(in_channels=1)
curve = learn(teacher, (images, labels), by_labels, lr=1e-2,
              steps=runtime.pick(quick=200, full=1500 if small_run else 6000))
logits = predict_logits(teacher, images)
valid_logits = predict_logits(teacher, valid_images)
test_logits = predict_logits(teacher, test_images)
of_teacher = accuracy(valid_logits, valid_labels)
of_pixels = regression(images, labels, valid_images, valid_labels)
print(f"validation: teacher {of_teacher:.1%}, softmax regression {of_pixels:.1%}")
_, axes = plt.subplots(figsize=(7, 1.7))
axes.semilogy(range(1, len(curve) + 1), curve)
axes.set(xlabel="step", ylabel="cross-entropy, nats");

# %% tags=["claims"]
assert all(45 < ratio < 65 for ratio in cost_ratios)
assert of_teacher > of_pixels + 0.01


# %% [markdown]
# The teacher is better than the baseline, but the difference is small: these digits are easy.
#
# ### Temperature
#
# For an ordinary digit the teacher gives nearly all probability to one class. This prediction is nearly a hard label. To see the other classes, we divide
# the logits $z_1,\dots,z_K$ by a **temperature** (温度) $T$ before the softmax:
#
# $$p_i^{(T)}=\frac{e^{z_i/T}}{\sum_{j=1}^{K}e^{z_j/T}}$$
#
# Take three classes with the logits $3,\,1,\,0$. At $T=1$ the powers are $e^3=20.1$, $e^1=2.7$ and $e^0=1$. Their sum is $23.8$, so the probabilities are
# $0.84,\,0.11,\,0.04$. **Compute them for $T=2$ by hand. What happens for $T\to0$ and for $T\to\infty$?**

# %%
def by_hand(z, T):                           # (K,) -> (K,)
    powers = [math.exp(each_z / T) for each_z in z.tolist()]
    return torch.tensor([power / sum(powers) for power in powers])


three = torch.tensor([3.0, 1.0, 0.0])
for T in (0.1, 1, 2, 100):
    print(f"T = {T:5}:", *(f"{each_p:.3f}" for each_p in by_hand(three, T).tolist()))

# %% [markdown]
# At $T=2$ the powers are $e^{1.5}=4.48$, $e^{0.5}=1.65$ and $1$. So the probabilities are $0.63,\,0.23,\,0.14$. For $T\to0$ the soft label becomes a hard
# label. For $T\to\infty$ all classes become equal. The order of the classes never changes.
#
# The **entropy** (熵) measures how soft a label is: 0 nats (奈特) for a hard label, and $\ln10=2.3$ nats for ten equal probabilities. The figure shows a
# digit at $T=1$ and at $T=4$. The cell chose twenty validation digits: the teacher is sure of them at $T=1$, and gives much to the second class at
# $T=4$. The most likely class is blue, the second is orange. **Move the temperature. Where does the teacher's second class become visible?**

# %%
from vlmbook.distillation import soft_labels

softness = {T: experiments.entropy(soft_labels(logits, T)).mean().item() for T in (1, 2, 4, 8)}
print("mean entropy of the training images, nats:",
      *(f"T = {T}: {nats:.3f} " for T, nats in softness.items()))
sure = soft_labels(valid_logits, 1).amax(1) > 0.999
second = soft_labels(valid_logits, 4).topk(2).values[:, 1]
shown = (sure * second).argsort(descending=True)[:20]         # sure at T = 1, and soft at T = 4
interact.live(partial(drawings.draw_temperature, images=valid_images[shown],
                      logits=valid_logits[shown]),
              image=(0, 19), temperature=(0.5, 20.0, 0.5), figsize=(7, 2.2))

# %% tags=["claims"]
assert [round(each_p, 2) for each_p in by_hand(three, 2).tolist()] == [0.63, 0.23, 0.14]
z = valid_logits[0]
assert_close(by_hand(z, 3), soft_labels(z[None], 3)[0])
assert_close(soft_labels(z[None], 1e-3)[0], F.one_hot(z.argmax(), 10).float())
assert_close(soft_labels(z[None], 1e5), torch.full((1, 10), 0.1), rtol=1e-2, atol=0)
assert softness[1] < 0.4 * softness[4] < 0.4 * softness[8] < 0.4 * math.log(10)

# %% [markdown]
# At $T=1$ the bar of the first class has nearly the full height. At $T=4$ the second class has a bar that you can see. Hinton called the probabilities
# of the other classes **dark knowledge** (暗知识). Are these probabilities knowledge, or noise? Take all images of one class, average their soft labels,
# and leave out the class itself. This gives the left matrix. A row is the true class, a column is another class, and a darker square is a larger share.
# The right matrix uses no network: it shows how similar the mean images of two classes are. **Do the two matrices agree?**

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
# The two matrices agree in part. So the teacher's other probabilities are not only noise. These probabilities are also not the similarity of pixels alone.
#
# ## 3 The loss
#
# Look at the drawing of section 2 again. Let $z_T$ and $z_S$ be the logits of teacher and student, and let $p^{(T)}$ and $q^{(T)}$ be their soft labels.
#
# - The student shall give the teacher's soft labels. Both are softened with the same temperature. The Kullback-Leibler divergence (KL散度) measures how far
#   apart two distributions are.
# - If an image has a label $y$, the student shall also predict this label, at temperature 1.
#
# $$L=(1-\alpha)\,\underbrace{\big(-\log q_y^{(1)}\big)}_{\mathrm{CE}}+\alpha\,T^2\,\underbrace{\sum_{i=1}^{K}p_i^{(T)}\log\frac{p_i^{(T)}}{q_i^{(T)}}}_{\mathrm{KL}}$$
#
# Each term is the mean over its images. In the package an image without a label has the label $-100$, and it counts in the second term alone. The
# function `soft_loss` is $T^2\,\mathrm{KL}$, without $\alpha$. The teacher gets no gradient. **If $z_S=z_T$, which of the two terms is 0?**

# %%
from vlmbook.distillation import UNKNOWN, distillation_loss, soft_loss

def loss_loops(z_S, z_T, y, T, alpha):       # (B, K), (B, K), (B,) -> number
    hard, soft, known = 0.0, 0.0, 0
    for of_student, of_teacher, label in zip(z_S, z_T, y.tolist()):
        q, p = by_hand(of_student, T), by_hand(of_teacher, T)
        soft += sum(p[i] * math.log(p[i] / q[i]) for i in range(len(p)))
        if label != UNKNOWN:
            hard -= math.log(by_hand(of_student, 1)[label])
            known += 1
    return (1 - alpha) * hard / known + alpha * T**2 * soft / len(y)


z_S, z_T = torch.randn(5, 4), 2 * torch.randn(5, 4)
some_labels = torch.tensor([3, 0, UNKNOWN, 1, UNKNOWN])
ours = distillation_loss(z_S, z_T, some_labels, temperature=3, alpha=0.7)
print(f"package {ours:.4f} nats, loops {loss_loops(z_S, z_T, some_labels, 3, 0.7):.4f} nats")
print(f"KL where z_S = z_T: {soft_loss(z_T, z_T, temperature=3).abs():.6f}")


# %% [markdown]
# The second term is 0, the KL divergence. The first term is not 0. PyTorch has both terms too. Does PyTorch give the same values and gradients? (`kl_div`
# takes the *logarithms* of the student's probabilities first, and the teacher's probabilities second. It needs `batchmean`: its default also divides by the
# number of classes.)

# %%
def by_pytorch(z, T=3, alpha=0.7):
    soft = F.kl_div((z / T).log_softmax(1), (z_T / T).softmax(1), reduction="batchmean")
    hard = F.cross_entropy(z, some_labels, ignore_index=UNKNOWN)
    return (1 - alpha) * hard + alpha * T**2 * soft


by_package = partial(distillation_loss, teacher_logits=z_T, labels=some_labels,
                     temperature=3, alpha=0.7)
far = (torch.func.grad(by_package)(z_S) - torch.func.grad(by_pytorch)(z_S)).abs().max()
print(f"PyTorch {by_pytorch(z_S):.4f} nats, the gradients differ by at most {far:.0e}")

# %% tags=["claims"]
assert_close(loss_loops(z_S, z_T, some_labels, 3, 0.7), ours)
assert abs(soft_loss(z_T, z_T, temperature=3)) < 1e-5
assert_close(by_package(z_S), by_pytorch(z_S))
assert_close(torch.func.grad(by_package)(z_S), torch.func.grad(by_pytorch)(z_S))


# %% [markdown]
# Values and gradients are the same.
#
# ### Why the factor $T^2$?
#
# For one image, the derivative of the divergence is
#
# $$\frac{\partial\,\mathrm{KL}}{\partial z_{S,i}}=\frac1T\big(q_i^{(T)}-p_i^{(T)}\big)\qquad\text{and, as }T\to\infty,\qquad
# T^2\,\frac{\partial\,\mathrm{KL}}{\partial z_{S,i}}\to\frac1K\big((z_{S,i}-\bar z_S)-(z_{T,i}-\bar z_T)\big)$$
#
# A bar is the mean over the classes. The formula has one factor $1/T$. The difference $q_i-p_i$ falls as $1/T$ too, because high temperatures make all
# probabilities similar. So the gradient of the divergence falls as $1/T^2$. **Which of the three lines below will be level at high temperatures?**

# %%
def gradient(z_S, z_T, T):                   # of the soft loss, for all logits of the student
    return torch.func.grad(partial(soft_loss, teacher_logits=z_T, temperature=T))(z_S)


untrained, temperatures = predict_logits(make_student(), images), [1, 2, 4, 8, 16, 32, 64]
norms = torch.stack([gradient(untrained, logits, T).norm() for T in temperatures])
of_labels = torch.func.grad(F.cross_entropy)(untrained, labels).norm().item()
without_factor = norms / torch.tensor(temperatures) ** 2
drawings.draw_gradients(plt.figure(figsize=(7, 2.4)), temperatures, {
    "KL": without_factor, "T² KL": norms, "cross-entropy with labels": [of_labels] * 7})

# %% tags=["claims"]
apart = soft_labels(z_S, 3) - soft_labels(z_T, 3)
centred = [each_z - each_z.mean(1, keepdim=True) for each_z in (z_S, z_T)]
assert_close(gradient(z_S, z_T, 3), 3**2 / 3 * apart / len(z_S))
assert_close(gradient(z_S, z_T, 1000), (centred[0] - centred[1]) / 4 / len(z_S),
             rtol=0.01, atol=1e-4)
assert 0.85 < norms[-1] / norms[-2] < 1.15 and without_factor[-1] < 0.01 * of_labels
assert 0.1 * of_labels < norms[-1]


# %% [markdown]
# The blue line becomes level: with $T^2$ the gradient keeps its size. The green line is level too, since it has no temperature. Without $T^2$ the soft
# term becomes far smaller than the term of the labels. So with $T^2$ the same $\alpha$ gives about the same balance of the two terms when $T$ changes.
# This is not exact: from $T=1$ to $T=4$ the blue line still rises to about three times its value.
#
# ## 4 Train
#
# Now the question of the chapter. One student is trained in eight ways, with about the same number of steps. The first six ways see only the images that
# have a label.
#
# - *labels alone*: hard labels;
# - *label smoothing* (标签平滑): hard labels, but a tenth of each label is spread evenly over all classes [Szegedy et al. 2016];
# - *distilled*: labels and teacher, $T=4$, $\alpha=0.9$.
#
# If *distilled* is better, what is the cause? The teacher's soft labels differ from smoothed labels in three ways: they are softer, they are softer for some
# images than for others, and they say which classes are similar. Three **controls** (对照) remove parts of this. The loss, $T$, $\alpha$ and the steps stay as
# in *distilled*. Only the teacher's soft labels change:
#
# - *shuffled*: in each image the probabilities of the other classes are permuted at random. The entropy stays. The similar classes are lost;
# - *equal rest*: the largest probability of each image stays, and the other classes get equal shares. The similar classes are lost;
# - *equal rest, one softness*: in addition, the largest probability is the same for all images, namely the mean.
#
# The last two ways see all images. If an image has no label, the teacher gives one: a soft label in *distilled, all images*, or its class alone. A class that
# a model predicted and that is used as a hard label is a **pseudo-label** (伪标签).
#
# $T=4$ and $\alpha=0.9$ are usual values; they were not tuned here. All ways use the same five seeds (随机种子), so they start from the same weights. **Write
# down the order of the eight ways before you go on.**

# %%
def by_smoothed(net, x, y):
    return F.cross_entropy(net(x), y, label_smoothing=0.1)

def by_both(net, x, y, z):
    return distillation_loss(net(x), z, y, temperature=4, alpha=0.9)


known = torch.full_like(labels, UNKNOWN)
known[few] = labels[few]
x, y, soft = images[few], labels[few], soft_labels(logits[few], 4)
changed = {"shuffled": experiments.shuffle_rest(soft, seed=0),
           "equal rest": experiments.equalise_rest(soft),
           "equal rest, one softness": experiments.equalise_rest(soft, soft.amax(1).mean())}
ways = {"labels alone": ((x, y), by_labels), "label smoothing": ((x, y), by_smoothed)}
for name, p in changed.items():
    ways[name] = (x, y, 4 * p.log()), by_both             # softmax(4 log p / 4) = p
ways["distilled"] = (x, y, logits[few]), by_both
ways["pseudo-labels, all images"] = (images, logits.argmax(1)), by_labels
ways["distilled, all images"] = (images, known, logits), by_both

# %%
steps = runtime.pick(quick=120, full=1500 if small_run else 2000)
def students(of, loss, seeds=range(5), make=make_student):    # -> trained networks, one a seed
    nets = []
    for seed in seeds:
        runtime.seed_everything(seed)
        nets.append(make())
        learn(nets[-1], of, loss, steps, seed)
    return nets

def score(nets, x=test_images, y=test_labels):                # -> list: accuracy, one a seed
    return [accuracy(predict_logits(net, x), y) for net in nets]

def gain(a, b):                              # -> mean and std over seeds of a - b, seed by seed
    difference = torch.tensor(a) - torch.tensor(b)
    return difference.mean().item(), difference.std().item()

trained = {name: students(*way) for name, way in ways.items()}

# %% [markdown]
# The table also has softmax regression, once with the few labels and once with the teacher's pseudo-labels of all images. The $\pm$ is the standard
# deviation (标准差) over the five seeds. A difference of two ways is computed for each seed first.

# %%
scores = {name: score(nets) for name, nets in trained.items()}
over_labels = {name: gain(of_seeds, scores["labels alone"]) for name, of_seeds in scores.items()}
baselines = {
    "teacher": accuracy(test_logits, test_labels),
    "regression, labels": regression(x, y, test_images, test_labels),
    "regression, pseudo-labels": regression(images, logits.argmax(1), test_images, test_labels)}
for name, (more, spread) in over_labels.items():
    mean = torch.tensor(scores[name]).mean()
    print(f"{name:26}{mean:.1%}, over labels alone {100 * more:+.1f} ± {100 * spread:.1f} points")
print(*(f"{name:26}{share:.1%}" for name, share in baselines.items()), sep="\n")
compared = {}
for a, b in (("distilled", "equal rest"), ("distilled", "shuffled"),
             ("equal rest", "equal rest, one softness"),
             ("distilled, all images", "pseudo-labels, all images")):
    compared[a, b] = gain(scores[a], scores[b])
    print(f"{a} - {b}: {100 * compared[a, b][0]:+.1f} ± {100 * compared[a, b][1]:.1f} points")
same = list(scores.items())[:8]
groups = {"hard labels": dict(same[:2]), "altered\nsoft labels": dict(same[2:5]),
          "soft labels": dict(same[5:6]), "all images": dict(same[6:])}
lines = {"teacher": baselines["teacher"],
         "softmax regression, few labels": baselines["regression, labels"]}
figure = plt.figure(figsize=(7, 3.3))
drawings.draw_accuracies(figure, groups, lines)
records.picture("ch05c", figure);

# %% tags=["claims"]
assert over_labels["distilled"][0] > 0.005
assert over_labels["equal rest"][0] > 0
assert abs(compared["distilled", "equal rest"][0]) < 0.03
assert over_labels["distilled, all images"][0] > over_labels["distilled"][0]
assert abs(compared["distilled, all images", "pseudo-labels, all images"][0]) < 0.02
assert over_labels["pseudo-labels, all images"][0] > 0
assert sum(scores["distilled, all images"]) / 5 < baselines["teacher"] + 0.01

# %% [markdown]
# **The same few images.** The teacher helps. But the control *equal rest* does not say which classes are similar, and this control gains more than half
# of what *distilled* gains. *Equal rest, one softness* also removes the differences between the images, and still gains about half. So a large part of
# the gain needs no knowledge of similar classes: softer labels are enough. *Shuffled* gains less than *equal rest*. One possible cause: its random
# probabilities say something false about similar classes. The other part of the gain is the difference between *distilled* and *equal rest*. This part
# is smaller and not certain: all five seeds share one teacher. In an earlier run, a teacher with other rounding errors gave a difference of $-0.3$
# points. Section 5 measures in another way what the student learned about similar classes.
#
# **All images.** This gain is the largest: the teacher labels images that have no label. The teacher learned from the true labels of these same images,
# so its pseudo-labels are nearly all correct. Pseudo-labels do nearly as well as soft labels.
#
# **The baseline.** Softmax regression with the same few labels is better than the mean of each way that sees only these images. With pseudo-labels for all
# images, softmax regression is as good as the best student. Digits of 8×8 pixels are easy for a linear model. Section 7 has images that are not.
#
# ### What did the small network buy?
#
# Parameters and operations are counted above. The time is measured here, for one image and for a batch of a hundred. **The teacher needs fifty times as many
# operations. Will it need fifty times as much time?**

# %%
from copy import deepcopy
from time import process_time
from timeit import repeat

big, little = (deepcopy(net).cpu().eval() for net in (teacher, trained["distilled, all images"][0]))
@torch.no_grad()
def milliseconds(net, batch):                # of the processor, an image, the best of seven
    number, x = max(1, 80 // batch), test_images[:batch]
    runs = repeat(lambda: net(x), number=number, repeat=7, timer=process_time)
    return min(runs) / number / batch * 1e3


rows = {"teacher": (big, [baselines["teacher"]])}
for name in ("labels alone", "distilled, all images"):
    rows[f"student, {name}"] = little, scores[name]
latency = {net: [milliseconds(net, batch) for batch in (1, 100)] for net in (big, little)}
print("correct on test images, parameters, M operations, ms an image: alone, of 100")
for name, (net, each_seed) in rows.items():
    parameters, operations = costs["teacher" if net is big else "student"]
    print(f"{name:31}{sum(each_seed) / len(each_seed):6.1%}{parameters:9,}{operations / 1e6:7.2f}"
          f"{latency[net][0]:7.2f}{latency[net][1]:7.3f}")
faster = [slow / quick for slow, quick in zip(latency[big], latency[little])]
print(f"the student is {faster[0]:.1f} and {faster[1]:.1f} times faster")

# %% tags=["claims"]
assert all(1.5 < times < cost_ratios[1] for times in faster)

# %% [markdown]
# No. The small network is faster, but by less than the number of operations promises. Two students cost the same, because the training does not change the
# layers of a network.
#
# ### How much teacher?
#
# The weight $\alpha$ decides between label and teacher. The cell trains a softmax regression on a hundred images, for eleven values of $\alpha$. In the
# figure four of ten labels are *false*. The digit on the left has such a label: the label is 6, and the teacher says 4. The curve is the accuracy on
# validation images. **Which end of the curve is higher, and why? What changes when all labels are correct?**

# %%
hundred = few[::len(few) // 100]                             # images, in both profiles
task = {"images": images[hundred], "labels": labels[hundred], "logits": logits[hundred],
        "test_images": valid_images[:1000], "test_labels": valid_labels[:1000]}
ends = {}
for wrong in (0.0, 0.4):
    _, of_alphas = experiments.measure_accuracy_by_alpha(**task, temperature=2.0, wrong=wrong)
    ends[wrong] = of_alphas[[0, 5, 10]].tolist()
    print(f"{wrong:.0%} false labels: α = 0, 0.5, 1:", *(f"{share:.1%}" for share in ends[wrong]))
interact.live(partial(drawings.draw_alpha, **task), alpha=(0.0, 1.0, 0.1),
              temperature=(1.0, 10.0, 0.5), wrong=(0.0, 0.8, 0.1), figsize=(7, 2.4))

# %% tags=["claims"]
assert abs(ends[0][2] - ends[0][0]) < 0.08
assert ends[0.4][2] > ends[0.4][0] + 0.1

# %% [markdown]
# The right end is higher: there only the teacher counts, and this teacher learned from correct labels. With correct labels the curve is nearly level. This
# is no general rule. A teacher that knows less than the labels should get a small weight (section 6).
#
# ## 5 See inside: the second choice
#
# **Did the student learn which classes the teacher finds similar, or only the teacher's first choice?** The cell computes the teacher's matrix of
# section 2 again, now on validation images, and one such matrix for each student. The figure shows the matrix of the teacher and of one student
# *distilled, all images*. The right panel gives, for each way, the rank correlation of the students' matrices with the teacher's matrix.

# %%
of_students = {name: [predict_logits(net, valid_images) for net in nets]
               for name, nets in trained.items()}
confusions, agree = experiments.compare_confusions(valid_logits, of_students, valid_labels)
drawings.draw_agreement(plt.figure(figsize=(7, 2.7)), confusions, agree)
print(*(f"{name} {torch.tensor(each_seed).mean():.2f}" for name, each_seed in agree.items()),
      sep="; ")

# %% tags=["claims"]
assert gain(agree["distilled"], agree["equal rest"])[0] > 0.02
assert gain(agree["distilled"], agree["shuffled"])[0] > 0.02
assert gain(agree["distilled, all images"], agree["pseudo-labels, all images"])[0] > 0.02

# %% [markdown]
# The student learned more than the first choice. With the teacher's own soft labels the correlation is higher than with *equal rest*, with *shuffled*
# and with pseudo-labels. *Equal rest* and *shuffled* differ from *distilled* only in the probabilities of the other classes. So these probabilities
# teach the student the teacher's second choices. The number of correct answers changed much less: see the difference of *distilled* and *equal rest* in
# section 4.
#
# ## 6 Where the teacher does not help
#
# - **Enough labels.** The student gets all labels. Does the teacher still add anything?
# - **A worse teacher.** The student again gets all labels. Its teacher is a student *labels alone* of section 4, which saw only the few labels. The
#   weight is still $\alpha=0.9$.
# - **The same architecture.** In self-distillation (自蒸馏) teacher and student have the same layers, and the student becomes the next teacher [Furlanello
#   et al. 2018]. The second generation learns from the few labels and from the first generation. The first generation is *labels alone* of section 4, with
#   the same seed.
#
# **Which of the three will help?**

# %%
all_hard = scores["pseudo-labels, all images"]
if not torch.equal(logits.argmax(1), labels):                # else those rows are these rows
    all_hard = score(students((images, labels), by_labels))
worse_logits, gains = predict_logits(trained["labels alone"][0], images), {}
for name, z, count in (("all labels", logits, 5), ("a worse teacher", worse_logits, 3)):
    of_seeds = score(students((images, labels, z), by_both, range(count)))
    gains[name] = gain(of_seeds, all_hard[:len(of_seeds)])
second_generation = []
for seed, first in enumerate(trained["labels alone"]):
    z = predict_logits(first, x)
    second_generation += score(students((x, y, z), by_both, [seed]))
gains["second generation over the first"] = gain(second_generation, scores["labels alone"])
print(f"all labels, no teacher {sum(all_hard) / 5:.1%}; the teacher {baselines['teacher']:.1%}; "
      f"the worse teacher {scores['labels alone'][0]:.1%}")
for name, (more, spread) in gains.items():
    print(f"{name}: {100 * more:+.1f} ± {100 * spread:.1f} points")

# %% tags=["claims"]
assert gains["a worse teacher"][0] < min(gains["all labels"][0], -0.01)
assert abs(gains["all labels"][0]) < 0.03
assert abs(gains["second generation over the first"][0]) < 0.1


# %% [markdown]
# With all labels, the good teacher adds next to nothing. A teacher that knows less than the labels does harm. The second generation can be better than the
# first, but look at the $\pm$. The cause was not isolated: the second generation also gets softer labels, and section 4 showed that softer labels alone can
# help. (`train_born_again` of the package trains any number of generations.)
#
# The book promises 表现出更好的性能, *better performance*. This promise is too general. The teacher helps when labels are few. With all labels it adds next to
# nothing, and a worse teacher does harm.
#
# ### An ensemble as the teacher
#
# Must the teacher be large, or have seen more labels? Take the five students that learned from the few labels alone. Average their logits: this is an
# ensemble (集成). Then one student learns the predictions of the ensemble on all images. No further label is used. **How far will this student get?**

# %%
def average_logits(nets, x):
    return torch.stack([predict_logits(net, x) for net in nets]).mean(0)


five = trained["labels alone"]
heirs = score(students((images, known, average_logits(five, images)), by_both))
scores["ensemble's student"] = heirs
baselines["ensemble"] = accuracy(average_logits(five, test_images), test_labels)
for name in ("labels alone", "ensemble's student"):
    of_seeds = torch.tensor(scores[name])
    print(f"{name:20}{of_seeds.mean():.1%} ± {of_seeds.std():.1%}")
print(f"{'ensemble of five':20}{baselines['ensemble']:.1%}")

# %% tags=["claims"]
assert gain(heirs, scores["labels alone"])[0] > 0
assert sum(heirs) / 5 > baselines["ensemble"] - 0.05


# %% [markdown]
# One small network is now nearly as good as the ensemble of five. It is better than a student that saw the labels alone. This was an aim of Hinton's
# paper: to put an ensemble into one network. The student learns the predictions of the ensemble mostly from images that have no label. (Chapter 7a makes
# networks small by other means.)
#
# ## 7 Going deeper: a teacher for photographs
#
# In practice the teacher is often a network that others trained on many photographs, and its task is not ours. Here is such a case. Our task has eight
# classes of textures (纹理): each class is one photograph. We cut grey squares from it. The training squares come from the left half, the test squares
# from the right half. Five squares of each class have a label. The student sees 48×48 pixels, because small images need fewer operations. The figure
# shows one square of each class: above at 96×96 pixels, which the teacher sees, below at 48×48 pixels.
#
# EfficientNet-Lite0 knows 1,000 classes, and none of them is ours. So we use its features (特征): the 1,280 numbers before its last layer. A linear
# classifier on these features learns from the 40 labels; this is a **linear probe** (线性探测). Network and probe together are the teacher. (**Fine-tuning**
# (微调) would also change the weights of the network. It costs more, and the network stays large.) The student is a ResNet with 8, 16 and 32 channels and
# the stem of chapter 3b for large images.

# %%
@torch.no_grad()
def deep_features(x):                        # (N, 1, 96, 96) -> (N, 1280)
    x = (255 * x.expand(-1, 3, -1, -1) - 127) / 128
    return torch.cat([large.pooled(batch) for batch in x.split(32)])

def make_texture_student():
    return ResNet(BasicBlock, (1, 1, 1), 8, 1, width=8)


pieces = experiments.cut_squares(60, held_out=30)
(squares, texture), (test_squares, test_texture) = pieces["train"], pieces["test"]
coarse, test_coarse = (F.adaptive_avg_pool2d(part, 48) for part in (squares, test_squares))
shown = torch.tensor([(texture == k).nonzero()[0, 0] for k in range(8)])
both_sizes = torch.cat([squares[shown], F.interpolate(coarse[shown], 96)])
plot.gallery(both_sizes, [*experiments.TEXTURES, *[""] * 8], columns=8)
print(len(squares), "training squares, 40 of them with a label;", len(test_squares), "test squares")
if large is not None:
    features, test_features = deep_features(squares), deep_features(test_squares)
    for name, (parameters, operations) in (
            ("teacher", cost(large, squares[:1].expand(-1, 3, -1, -1))),
            ("student", cost(make_texture_student(), coarse[:1]))):
        print(f"{name}: {parameters:,} parameters, {operations / 1e6:.1f} M operations a square")

# %% [markdown]
# Three draws choose other squares for the labels. In each draw the probe and the students are trained anew. The function `decision_function` gives the
# logits of the probe for the 96×96 squares. The student sees the same squares at 48×48 pixels. **The teacher saw the same 40 labels as the student
# *labels alone*. Can it still help?**

# %%
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

of_textures = {}
for draw in range(3 if large is not None else 0):
    labelled = experiments.choose_shots(texture, 5, seed=draw)
    few_squares = coarse[labelled], texture[labelled]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    probe.fit(features[labelled], texture[labelled])
    z = torch.from_numpy(probe.decision_function(features)).float()
    known_texture = torch.full_like(texture, UNKNOWN)
    known_texture[labelled] = texture[labelled]
    found = {"softmax regression, labels": [regression(*few_squares, test_coarse, test_texture)],
             "teacher": [probe.score(test_features, test_texture)]}
    for name, of, loss in (("labels alone", few_squares, by_labels),
                           ("distilled", (coarse, known_texture, z), by_both)):
        nets = students(of, loss, [draw], make_texture_student)
        found[f"student, {name}"] = score(nets, test_coarse, test_texture)
    of_textures = {name: of_textures.get(name, []) + share for name, share in found.items()}
for name, of_draws in of_textures.items():
    print(f"{name:28}{torch.tensor(of_draws).mean():.1%} ± {torch.tensor(of_draws).std():.1%}")

# %% tags=["claims"]
if large is not None:
    means = {name: sum(of_draws) / 3 for name, of_draws in of_textures.items()}
    assert means["teacher"] > means["student, labels alone"]
    assert means["student, distilled"] > means["student, labels alone"] + 0.03
    assert means["softmax regression, labels"] < means["student, distilled"]
    assert gain(of_textures["student, distilled"], of_textures["student, labels alone"])[0] > 0.03

# %% [markdown]
# Yes. Teacher and student had the same labels. But the teacher learned from many photographs before, and the teacher also gives soft labels to the squares
# that have no label. The student *distilled* is much better than the student *labels alone*, with far fewer parameters than the teacher. On these images a
# linear model on the pixels is weak. (The classes are single photographs, so the test is easier than a test
# on new photographs of brick or grass. The $\pm$ is over three draws.)
#
# ## 8 Going deeper: learn from the teacher's maps
#
# A teacher can give more than its logits. Two methods compare maps in the middle of the networks.
#
# - *Hints* (FitNets) [Romero et al. 2015]: the student's map $v$ shall become the teacher's map $u$. The two maps have different numbers of channels. So
#   a small layer $r$ turns $v$ into a map of the shape of $u$. The layer $r$ learns too, and is thrown away after the training.
# - *Attention transfer* [Zagoruyko & Komodakis 2017]: the student shall be active *where* the teacher is active. The squares of all channels of a map $A$ are
#   added. This gives an attention map (注意力图) $Q$ over positions $j$. No layer $r$ is needed.
#
# $$L_{\mathrm{hint}}=\tfrac12\,\mathrm{mean}\big[(u-r(v))^2\big]\qquad
# Q_j=\sum_c A_{cj}^2,\qquad L_{\mathrm{AT}}=\tfrac12\,\Big\|\frac{Q_S}{\|Q_S\|}-\frac{Q_T}{\|Q_T\|}\Big\|^2$$
#
# (The paper's distance has no square; the authors' program has one.) **The student doubles all its activations. Which of the two losses changes?**

# %%
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
# Only the hint loss changes, because attention maps are divided by their length. Now each of the two losses trains students on the few labelled images.
# The loss is the cross-entropy with the label plus 10 times the loss of the maps. *Attention* adds the losses of stages 1 and 2. *Hint* uses stage 2
# only, and its layer $r$ is a 1×1 convolution from 8 to 32 channels. The weight 10 was chosen on the validation set.

# %%
with torch.no_grad():
    maps = [m.cpu() for m in teacher.features(x.to(teacher.fc.weight.device))[1:3]]

def with_regressor():
    net = make_student()
    net.regressor = nn.Conv2d(8, 32, 1)      # learns too, and is thrown away
    return net

def by_maps(net, x, y, *teacher_maps, kind):
    _, *own_maps, last = net.features(x)
    label = F.cross_entropy(net.fc(last.mean((2, 3))), y)
    if kind == "attention":
        return label + 10 * sum(map(attention_transfer_loss, own_maps, teacher_maps))
    return label + 10 * fitnets_loss(own_maps[-1], teacher_maps[-1], net.regressor)


inner = {}
for kind, make in (("attention", make_student), ("hint", with_regressor)):
    inner[kind] = students((x, y, *maps), partial(by_maps, kind=kind), range(3), make)
    scores[kind] = score(inner[kind])
    over_labels[kind] = gain(scores[kind], scores["labels alone"][:3])
    more, spread = over_labels[kind]
    print(f"{kind}: over labels alone {100 * more:+.1f} ± {100 * spread:.1f} points")

# %% [markdown]
# The mean gains are a few points, and the $\pm$ over the three seeds is about as large. So these gains are not certain. Soft labels gained more in
# section 4 (with five seeds), and soft labels need no maps. **Does the student at least look where the teacher looks?** The heat maps show the attention
# maps of the first stage on test images. Bright is high. The distance is the mean $L_{\mathrm{AT}}$ between the maps of student and teacher.

# %%
with torch.no_grad():
    looking = {"teacher": teacher.cpu(), "labels alone": trained["labels alone"][0].cpu(),
               "attention": inner["attention"][0].cpu()}
    inside = {name: attention_map(net.features(test_images[:400])[1])
              for name, net in looking.items()}
to_teacher = {name: (inside["teacher"] - each_map).square().sum((1, 2)).mean().item() / 2
              for name, each_map in inside.items() if name != "teacher"}
drawings.draw_attention(plt.figure(figsize=(7, 3.2)), test_images[:8],
                        {name: each_map[:8] for name, each_map in inside.items()}, to_teacher)
of_means = {name: {key: mean for key, (mean, _) in pairs.items()}
            for name, pairs in (("gains", gains), ("over_labels", over_labels))}
records.record("ch05c", seed=[0, 1, 2, 3, 4], accuracy=scores, baselines=baselines, **of_means,
               agreement=agree, entropy_at_temperature=softness, textures=of_textures,
               parameters={name: p for name, (p, _) in costs.items()},
               operations={name: n for name, (_, n) in costs.items()},
               ms_alone={"teacher": latency[big][0], "student": latency[little][0]});

# %% tags=["claims"]
for kind in inner:
    assert -0.1 < over_labels[kind][0] < over_labels["pseudo-labels, all images"][0]
assert to_teacher["attention"] < to_teacher["labels alone"]

# %% [markdown]
# Yes. The maps of the student *attention* are much closer to the teacher's maps than those of *labels alone*. These are test images, which no student
# saw in training. (One seed of each.)
#
# ## 9 Going deeper: a distillation token
#
# A vision transformer ([chapter 5b](ch05b_attention.ipynb)) needs many images. DeiT [Touvron et al. 2021] trains it with a convolutional teacher. The
# idea is one more token (词元). The *class token* leads to a linear layer that learns the label. The *distillation token* (蒸馏标记) has its own linear layer,
# which learns the teacher's class, a hard label. If the teacher's class differs from the label, each of the two layers can learn its own target. At test
# time the two softmax outputs are averaged.

# %%
from vlmbook.attention import Encoder

class TwoTokens(nn.Module):                  # (B, 1, H, H) -> two times (B, 10) logits
    def __init__(self, side, width=32):
        super().__init__()
        self.patches = nn.Conv2d(1, width, side // 4, stride=side // 4)       # 4×4 patches
        self.tokens = nn.Parameter(0.02 * torch.randn(1, 2, width))           # class, distillation
        self.encoder = Encoder(16 + 2, width, depth=2, heads=2, mlp_width=2 * width)
        self.of_label, self.of_teacher = nn.Linear(width, 10), nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)                        # (B, 16, D)
        x = torch.cat([self.tokens.expand(len(x), -1, -1), x], dim=1)         # (B, 18, D)
        x = self.encoder(x)
        return self.of_label(x[:, 0]), self.of_teacher(x[:, 1])


deit = TwoTokens(images.shape[-1])
first_logits, second_logits = deit(x)
by_label = F.cross_entropy(first_logits, y)
by_class_of_teacher = F.cross_entropy(second_logits, logits[few].argmax(1))
loss = by_label / 2 + by_class_of_teacher / 2
print(f"two outputs {tuple(first_logits.shape)}, loss {loss:.2f} nats")
drawings.draw_tokens(plt.figure(figsize=(7, 2.3)), 16, 32)

# %% [markdown]
# The gradient of the teacher's cross-entropy reaches the patches and the encoder, which both outputs share. This gradient does not reach the linear layer of
# the class token. (Nothing is trained here. The paper trains on ImageNet.)

# %% tags=["claims"]
alone = torch.autograd.grad(by_class_of_teacher, list(deit.parameters()), allow_unused=True)
reached = {name for (name, _), slope in zip(deit.named_parameters(), alone) if slope is not None}
missed = {name for name, _ in deit.named_parameters()} - reached
assert missed == {"of_label.weight", "of_label.bias"}

# %% [markdown]
# ## 10 Exercises
#
# Answer in the cell and run it. `check` says what is wrong. `hint("ch05c.1")` helps in steps, and `solution("ch05c.1")` shows one answer.
#
# **1 · Predict.** The logits of three classes are 4, 2 and 0. How many times likelier is the first class than the second at $T=1$, at $T=2$, and at $T\to\infty$?

# %%
ratios = ...                                 # (three numbers)
check("ch05c.1", ratios)


# %% [markdown]
# **2 · Derive.** Write the gradient of `soft_loss(z_S, z_T, temperature=T)` for the student's logits, without autograd.

# %%
def soft_gradient(z_S, z_T, T):              # (B, K), (B, K), number -> (B, K)
    ...


check("ch05c.2", soft_gradient)


# %% [markdown]
# **3 · Relate.** Label smoothing by $\epsilon$ gives the weight $1-\epsilon$ to the label, and adds $\epsilon/K$ to every class. Which teacher has the same
# gradient, at which temperature and with which $\alpha$?

# %%
def ignorant_teacher(epsilon, classes):      # -> logits (classes,), T, alpha
    ...


check("ch05c.3", ignorant_teacher)


# %% [markdown]
# **4 · Build.** There are several teachers, and each has its logits. Give their common soft label: the mean of their *probabilities* at temperature `T`.
# (Section 6 averages *logits*. Both are in use. Here the mean of the probabilities is asked.)

# %%
def committees_label(logits, T):             # (teachers, B, K), number -> (B, K)
    ...


check("ch05c.4", committees_label)


# %% [markdown]
# **5 · Build, train, measure.** A teacher is often wrong where it is unsure. Write a soft loss that counts only the images of which the teacher is sure: its
# largest probability, at $T=1$, is at least `least`. If it is sure of no image, the loss is 0. Then train a student with `worse_logits`, the worse teacher of
# section 6. Does the student suffer less?

# %%
def confident_loss(z_S, z_T, T, least):      # (B, K), (B, K), number, number -> scalar
    ...


check("ch05c.5", confident_loss)

# %% [markdown]
# ## 11 Book check
#
# **W03 · the loss.** The section prints $L=L_{CE}(\mathrm h_T,\mathrm p_T)+\lambda L_{KD}(\mathrm h_S,\mathrm h_T)$. Here the cross-entropy is that of the
# *teacher's* output, and $\mathrm p_T$ is not explained. Take $\mathrm p_T$ as the labels, as false labels, or as the teacher's own prediction. With
# $\lambda=0$, what does the student learn? With $\lambda=1$, do the labels matter?

# %%
pupil, h_T = make_student(), logits[few]
pupil_weights = list(pupil.parameters())
def slopes(loss):                            # of a loss of the student's logits, all in a row
    found = torch.autograd.grad(loss(pupil(x)), pupil_weights)
    return torch.cat([slope.flatten() for slope in found])

def printed(h_S, p_T, weight):
    return F.cross_entropy(h_T, p_T) + weight * soft_loss(h_S, h_T, temperature=1)


readings = {"labels": y, "false labels": (y + 1) % 10, "its own prediction": h_T.softmax(1)}
for name, p_T in readings.items():
    without = slopes(partial(printed, p_T=p_T, weight=0))
    print(f"p_T = {name}: largest gradient {without.abs().max():.0e} at λ = 0")
corrected = slopes(partial(F.cross_entropy, target=y))
print(f"the cross-entropy of the student's output: {corrected.abs().max():.2f}")

# %% tags=["claims"]
of_soft_loss = slopes(partial(soft_loss, teacher_logits=h_T, temperature=1))
for p_T in readings.values():
    assert slopes(partial(printed, p_T=p_T, weight=0)).abs().max() == 0
    assert_close(slopes(partial(printed, p_T=p_T, weight=1)), of_soft_loss)
assert corrected.abs().max() > 0.01 and not F.cross_entropy(h_T, y).requires_grad

# %% [markdown]
# With $\lambda=0$ the gradient is exactly 0, so the student learns nothing: the teacher is frozen, and its cross-entropy is a constant. With any $\lambda$ the
# labels never reach the student, correct or false. The right loss has the cross-entropy of the *student's* output with the label.
#
# **I61 · a kind of network?** The book lists 基于知识蒸馏的网络, *networks based on distillation*, beside convolutional networks. But distillation is a way to
# train, often used for compression (压缩). Take three teachers. Two of them are no networks: a random forest (随机森林) and the five nearest neighbours
# (最近邻). **What changes in the student?**

# %%
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

def log_p(model, x):                         # logits of any classifier; −inf means "never"
    return torch.from_numpy(model.predict_proba(x.flatten(1).numpy())).float().log()

def by_teacher(net, x, z):
    return soft_loss(net(x), z, temperature=1)


teachers, student_shapes, taught = {"ResNet-20": logits}, set(), {}
for model in (RandomForestClassifier(100, random_state=0), KNeighborsClassifier(5)):
    model.fit(images.flatten(1), labels)
    teachers[type(model).__name__] = log_p(model, images)
for name, z in teachers.items():
    [net] = students((images, z), by_teacher, [0])
    student_shapes.add(str({key: p.shape for key, p in net.state_dict().items()}))
    taught[name] = accuracy(predict_logits(net, valid_images), valid_labels)
    print(f"taught by {name}: {taught[name]:.1%} of the validation images correct")

# %% tags=["claims"]
assert len(student_shapes) == 1 and min(taught.values()) > 0.5

# %% [markdown]
# Only the values of the weights change. The layers and their shapes are the same for every teacher.
#
# **M04 · the temperature.** The book's formula has no temperature. Correction: divide the logits of teacher and student by $T$, and multiply the soft
# term by $T^2$. (Section 2 measured the entropy at $T=1$ and $T=4$; section 3 measured the gradients.)
#
# **I24 · the notation.** The double backslash `\\` in the book's plain `$$` formula breaks no line, and $\mathrm h$ is not defined. Correction: write
# two formulas, and write $z_T$ and $z_S$ for the logits.
#
# ## 12 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook runs on Fashion-MNIST, with a hundred labels a class. Without an accelerator it takes 10,000 of the
# images and fewer steps. The sentences of this chapter describe the digits. The next cell shows the published runs, or says that there is none yet:

# %% tags=["record"]
records.show("ch05c", "quick")
records.show("ch05c", "full")

# %% [markdown]
# ## 13 What we learned
#
# - A student learns the teacher's probabilities of all classes, softened by a temperature, and the label too. The teacher gets no gradient.
# - The factor $T^2$ keeps the size of the soft term's gradient when the temperature grows.
# - Distillation helps most when the teacher labels images that nobody labelled. A teacher with a general knowledge of photographs can teach a small network.
# - With few images, the control *equal rest*, which says nothing about similar classes, reached more than half of the gain of *distilled*. The teacher's
#   probabilities of the other classes changed the student's second choices.
# - With enough labels the teacher adds next to nothing, and a worse teacher does harm. Distillation does not change the layers, and fewer operations are not
#   the same as less time.
#
# **References.** G. Hinton, O. Vinyals, J. Dean, *Distilling the knowledge in a neural network*, arXiv:1503.02531, 2015 · A. Romero, N. Ballas, S. E. Kahou,
# A. Chassang, C. Gatta, Y. Bengio, *FitNets: hints for thin deep nets*, ICLR, 2015, arXiv:1412.6550 · S. Zagoruyko, N. Komodakis, *Paying more attention to attention:
# improving the performance of convolutional neural networks via attention transfer*, ICLR, 2017, arXiv:1612.03928 · T. Furlanello, Z. C. Lipton, M. Tschannen, L. Itti,
# A. Anandkumar, *Born again neural networks*, ICML, 2018, arXiv:1805.04770 · C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, *Rethinking the Inception architecture for computer
# vision*, CVPR, 2016, arXiv:1512.00567 · H. Touvron, M. Cord, M. Douze, F. Massa, A. Sablayrolles, H. Jégou, *Training data-efficient image transformers & distillation through
# attention*, ICML, 2021, arXiv:2012.12877 · L. Yuan, F. E. H. Tay, G. Li, T. Wang, J. Feng, *Revisiting knowledge distillation via label smoothing regularization*, CVPR, 2020,
# arXiv:1909.11723 · J. Gou, B. Yu, S. J. Maybank, D. Tao, *Knowledge distillation: a survey*, International Journal of Computer Vision 129, 2021, arXiv:2006.05525.
