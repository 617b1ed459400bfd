# %% [markdown]
# # 7b · Trust (隐私、公平与可解释性)
#
# *Book: §7.1 (2), (3), (5), §7.2 (4)*
#
# **A network is accurate. Does it also keep its training data private, does it look at the right pixels, does it treat two groups equally, and are its labels right?
# How do we measure each of these?**
#
# After this chapter you can
#
# - attack a trained network to find out who was in its training set, and give the result with an interval,
# - train with differential privacy, compute ε, and say what ε promises,
# - explain one decision by occlusion, saliency, integrated gradients and Grad-CAM, and test the explanation itself,
# - compute three criteria of fairness, and show by numbers that all three cannot hold at once if the base rates differ,
# - find wrong labels in a data set.
#
# You need these terms: cross-entropy and softmax ([chapter 3a](ch03a_convolution_and_pooling.ipynb)), ROC curve and threshold
# ([chapter 6a](ch06a_face_recognition.ipynb)), gradient descent. EfficientNet-Lite0 is a network of other authors that was trained on ImageNet, 1.3 million
# photographs of 1,000 classes.
#
# The core path takes 40 minutes: sections 1 to 3 and 5 to 7. The other sections go deeper. Run all cells from top to bottom. The first cell prints the time and the
# memory of a whole run, and shows the main result of the published run.

# %% tags=["record"]
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vlmbook import data, explain, fairness, plot, privacy, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch07b import experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)  # images this small gain little from more threads
plot.use_style()
records.published("ch07b")
published = records.RESULTS / "ch07b.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)]);

# %% [markdown]
# ## 1 The data, looked at
#
# Three kinds of images are used. The **digits** are scanned, 8×8 pixels. They stand for personal data (个人数据): imagine that each digit is the record of one
# person. The **face patches** are 100 photographs of faces and 100 patches without a face, 25×25 pixels. The **photographs** come from scikit-image. Most
# measurements below are repeated with several seeds, and the spread is shown; the others are examples of one network.

# %%
known, test = data.digits("train"), data.digits("test")
patches, is_face = data.face_patches()
seeds = runtime.pick(quick=3, full=10)
print("digits:", tuple(known[0].shape), "to learn from,", len(test[0]), "of the test")
plot.gallery(known[0][:12], columns=12, width=6)
plot.gallery(torch.cat([patches[:6], patches[100:106]]), columns=12, width=6)
plot.gallery([data.photo(name) for name in ("cat", "coffee", "astronaut", "rocket")], width=6);

# %% [markdown]
# ## 2 Privacy: who was in the training set?
#
# A hospital publishes a network, not its images. Is that enough? **Membership inference** (成员推断) asks whether one sample was in the training set. The
# simplest attack [Yeom et al. 2018] uses the loss: a network that has learned its training images by heart (overfitting, 过拟合) has a small loss on them.
# The attack is measured by the **AUC** (ROC 曲线下面积): the probability that a member has a smaller loss than another sample (a tie counts one half). 0.5 is
# guessing. The 95 % interval is that of DeLong et al. [1988]: it follows from how much the share of won pairs differs from member to member, and from
# non-member to non-member.
#
# Members have the losses 0.1, 0.2 and 1.0, others have 0.3, 0.5 and 2.0. Count the pairs in which the member has the smaller loss.

# %%
member_losses, other_losses = torch.tensor([0.1, 0.2, 1.0]), torch.tensor([0.3, 0.5, 2.0])
pairs = member_losses[:, None] < other_losses
print(pairs.long())
print("share of the pairs:", pairs.double().mean().item())
by_hand = privacy.attack_auc(-member_losses, -other_losses)
print("AUC, with its 95 % interval: {:.3f} [{:.3f}, {:.3f}]".format(*by_hand))

# %% [markdown]
# Seven of nine pairs, so the AUC is 0.778. With three samples the interval is so wide that the number says little. Now the attack on a real network. It
# has one hidden layer and is trained on 100 digits for 300 steps. 100 other digits are the others.

# %%
members = experiments.draw_members(*known, 100, seed=0)
overfitted = experiments.train(experiments.make_mlp(0), members.x, members.y, steps=300)
member_scores, other_scores = experiments.attack(overfitted, members)  # minus the losses
measured = privacy.attack_auc(member_scores, other_scores)
print(f"training {experiments.measure_accuracy(overfitted, members.x, members.y):.0%}, ", end="")
print(f"test {experiments.measure_accuracy(overfitted, *test):.0%}, ", end="")
print("AUC {:.2f} [{:.2f}, {:.2f}]".format(*measured))
untrained_auc = privacy.attack_auc(*experiments.attack(experiments.make_mlp(0), members))
print("before the training: AUC {:.2f} [{:.2f}, {:.2f}]".format(*untrained_auc))
drawings.draw_scores(plt.figure(figsize=(5.5, 2.4)), -member_scores, -other_scores)

# %% [markdown]
# The axis is logarithmic. All members have a loss below 0.25. Large losses occur only among the others. Before the training the same attack is near to guessing, so it is the training that makes
# the members visible. When is the danger greatest?

# %%
attack_sizes = (50, 100, 200, 500)
by_size = experiments.measure_attack(*known, attack_sizes, (0, 0.2), seeds=seeds)
drawings.draw_attack(plt.figure(figsize=(5.5, 2.8)), by_size)

# %% [markdown]
# Fewer training images make the attack stronger. With right labels and 500 images the mean attack is near to guessing. All networks are trained for 200
# steps. If 20 % of the labels are wrong (of the members and of the others), the attack is stronger, and works with 500 images too. The mean AUC does not
# show which samples are found easily. Section 3 measures the samples with wrong labels alone.

# %% tags=["claims"]
assert abs(by_hand[0] - 7 / 9) < 1e-9 and by_hand[2] - by_hand[1] > 0.4
assert -member_scores.min() < 0.25 < 2 < -other_scores.min()
assert measured[1] > 0.5 and untrained_auc[1] < 0.5 < untrained_auc[2]
right_labels, wrong_labels = (
    {n: np.mean(aucs) for n, aucs in rows.items()} for rows in by_size.values()
)
assert right_labels[50] > right_labels[100] > right_labels[500] and right_labels[500] < 0.58
assert min(by_size["20% wrong labels"][500]) > max(by_size["0% wrong labels"][500])

# %% [markdown]
# ## 3 Training with differential privacy
#
# **Differential privacy** (差分隐私) limits what *any* attack can find. Add or remove one sample. A training is $(\varepsilon,\delta)$-private if, for every
# set of results, the new probability is at most $e^\varepsilon$ times the old one, plus a small $\delta$ [Dwork et al. 2006]. **DP-SGD** [Abadi et al.
# 2016] reaches this in three steps. Each sample's gradient (梯度) is **clipped** (裁剪) to a norm of at most $C$. The clipped gradients are added. Noise is
# added to the sum.

# %%
some_gradients = torch.tensor([[3.0, 1.2], [0.5, 0.8], [1.2, -1.5]])
some_noise = torch.tensor([0.6, -0.9])
drawings.draw_clipping(plt.figure(figsize=(6.5, 2.6)), some_gradients, 1.0, some_noise)

# %% [markdown]
# After the clipping no single sample can move the sum by more than $C$ (dashed circle). The noise has the size $\sigma C$, so it hides a change of the
# size $C$ if $\sigma$ is large enough. With the noise multiplier (噪声乘数) $\sigma$ and a batch in which each of $n$ samples is drawn with probability $q$:
#
# $$\bar g_i=g_i\cdot\min\!\Big(1,\frac{C}{\|g_i\|}\Big),\qquad g=\frac1{qn}\Big(\sum_i\bar g_i+\sigma C\,z\Big),\quad z\sim\mathcal N(0,I)$$
#
# Clip $(3,4)$ and $(0.3,0.4)$ to $C=1$ and add them by hand. Then read the whole training step.

# %%
two_gradients = {"weight": torch.tensor([[3.0, 4.0], [0.3, 0.4]])}  # two samples
two_clipped = privacy.clipped_sum(two_gradients, 1.0)["weight"]
print("clipped and added:", [round(value, 3) for value in two_clipped.tolist()])


def train_privately(network, x, y, *, sigma, q, steps, lr=1.5, clip=1.0):
    draws = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = (torch.rand(len(x), generator=draws) < q).nonzero()[:, 0]
        every = privacy.per_sample_gradients(network, x[batch], y[batch])  # torch.func.vmap
        total = privacy.clipped_sum(every, clip)
        with torch.no_grad():
            for name, weights in network.named_parameters():
                z = torch.randn(weights.shape, generator=draws)
                weights -= lr * (total[name] + sigma * clip * z) / (q * len(x))
    return network.eval()


steps, q, delta = 60, 0.2, 1e-4  # δ below 1/n
sigma_8 = privacy.noise_multiplier_for(8.0, q, steps, delta)
private_net = train_privately(experiments.make_mlp(0), *known, sigma=sigma_8, q=q, steps=steps)
print(f"σ = {sigma_8:.2f} gives ε = {privacy.epsilon(q, sigma_8, steps, delta):.2f}, ", end="")
print(f"accuracy {experiments.measure_accuracy(private_net, *test):.1%}")

# %% [markdown]
# $(3,4)$ has the norm 5 and becomes $(0.6,0.8)$. $(0.3,0.4)$ has the norm 0.5 and stays. The sum is $(0.9,1.2)$.
#
# The **accountant** (隐私会计) computes ε. The accountant measures the cost of a step by the Rényi divergence (Rényi 散度) of order $\alpha$. This is a distance
# between the distribution of results with one sample and without it, in nats. The costs of the steps add up to $R_\alpha$. Each order gives a bound
# $\varepsilon\le R_\alpha+\log\frac{\alpha-1}{\alpha}-\frac{\log\delta+\log\alpha}{\alpha-1}$ [Canonne et al. 2020], and the accountant takes the smallest
# one over many orders: a large $\alpha$ costs more, and makes the last term smaller. Without sampling ($q=1$) a step costs $\alpha/2\sigma^2$. Sampling
# makes a step cheaper, because a sample is usually not in the batch. For $\sigma=2$, $\alpha=8$, what does a step cost with $q=1$?

# %%
for rate in (1.0, 0.2, 0.01):
    print(f"q = {rate:4}: a step costs {privacy.renyi_divergence(rate, 2.0, 8.0):.6f} nats")
multipliers = (0.7, 1.0, 2.0, 4.0, 8.0)
spent = [privacy.epsilon(q, each, steps, delta) for each in multipliers]
for each, budget in zip(multipliers, spent):
    print(f"σ = {each:3}: ε = {budget:5.2f} after {steps} steps")

# %% [markdown]
# $8/(2\cdot4)=1$ nat. The tests of this book (`tests/library/test_privacy.py`) compare the accountant with the one of Opacus: both agree to 1 %. What does
# the noise cost, and what does it buy? All trainings below have the same 500 members, of which 20 % have wrong labels. "Clipped, no noise" is the control:
# the same steps, batches and clipping, without the noise. "Stopped early" is the simple baseline: 20 steps of Adam in place of 300.

# %%
by_training = experiments.measure_privacy(
    *known, test, (8, 1), n=500, share_wrong=0.2, steps=steps, rate=q, delta=delta, seeds=seeds
)
drawings.draw_privacy(plt.figure(figsize=(7, 2.6)), by_training)

# %% [markdown]
# The attack works best on the network that was trained to the end. But look at the controls: to stop early brings the attack down to nearly 0.5 already,
# and so do the 60 clipped steps *without any noise*. (No run has these 60 steps without clipping, so the table does not say whether the clipping or the
# short training does it.) The noise does not make this attack measurably weaker, and with ε = 1 it costs much accuracy. (The 60 clipped steps are also
# more accurate than the training to the end.) So what is the noise for? It gives a **guarantee** (保证). Without noise another attack may succeed. An
# $(\varepsilon,\delta)$-private training keeps every attack, also an unknown one, below the border in the next figure: for each false positive rate, the
# true positive rate is at most $e^{\varepsilon}\,\mathrm{FPR}+\delta$, and at most $1-e^{-\varepsilon}(1-\delta-\mathrm{FPR})$ [Kairouz et al. 2015]. The
# smaller of the two is the border. Move ε. From which ε on does the guarantee say little?

# %%
victims = experiments.draw_members(*known, 500, share_wrong=0.2, seed=0)
victim_net = experiments.train(experiments.make_mlp(0), victims.x, victims.y, steps=300)
victim_scores = experiments.attack(victim_net, victims)
inside, outside = victim_scores
wrong_auc = privacy.attack_auc(inside[victims.wrong], outside[victims.other_wrong])
right_auc = privacy.attack_auc(inside[~victims.wrong], outside[~victims.other_wrong])
print("AUC for wrong labels alone {:.2f} [{:.2f}, {:.2f}]".format(*wrong_auc))
print("AUC for right labels alone {:.2f} [{:.2f}, {:.2f}]".format(*right_auc))


def show_bound(figure, epsilon=0.5):
    drawings.draw_bound(figure, *victim_scores, epsilon, delta)


interact.live(show_bound, epsilon=[0.1, 0.5, 1.0, 2.0, 4.0, 8.0], figsize=(4.5, 3.2))

# %% [markdown]
# The samples with wrong labels are found far more easily than the others. So a mean AUC near 0.5 does not protect each sample.
#
# The curve of this attack on the network *without* privacy lies above the border for ε = 0.5. The distance is larger than the sampling error of 500
# samples. So its training is not 0.5-private. At ε = 2 the border allows a true positive rate of 0.74 at a false positive rate of 0.1, and at ε = 8 nearly
# everything: from about ε = 2 on the guarantee says little about such an attack. The guarantee holds for one sample. It says nothing about what can be
# learned from all samples together.

# %% tags=["claims"]
auc_of = {name: np.array(rows["auc"]) for name, rows in by_training.items()}
accuracy_of = {name: np.mean(rows["accuracy"]) for name, rows in by_training.items()}
assert auc_of["trained to the end"].min() > auc_of["ε = 8"].max() + 0.05
assert abs(auc_of["clipped, no noise"].mean() - auc_of["ε = 8"].mean()) < 0.03
assert accuracy_of["ε = 1"] < accuracy_of["ε = 8"] - 0.1
assert spent == sorted(spent, reverse=True)
assert abs(privacy.renyi_divergence(1.0, 2.0, 8.0) - 1) < 1e-6
assert wrong_auc[1] > right_auc[2]  # the intervals are apart
cut = victim_scores[1].quantile(0.4)  # a false positive rate of 0.6
reached_rate = (victim_scores[0] > cut).double().mean().item()
assert reached_rate > privacy.most_true_positives(0.6, 0.5, delta) + 3 * (0.25 / 500) ** 0.5
assert reached_rate < privacy.most_true_positives(0.6, 8.0, delta)

# %% [markdown]
# ## 4 Going deeper: data that stay where they are
#
# **Federated learning** (联邦学习) [McMahan et al. 2017] leaves the images with the clients (客户端). In each round every client trains a copy of the network for some steps, and a server averages the weights.
# With $n_k$ samples at client $k$: $w=\sum_k n_kw_k/\sum_kn_k$. Two clients are **skewed** (分布不均) here: one has only the digits 0-4, the other only 5-9.

# %%
two_states = [{"weight": torch.tensor([1.0])}, {"weight": torch.tensor([4.0])}]
print("200 and 100 samples:", privacy.federated_average(two_states, [200, 100])["weight"].item())
by_way = experiments.measure_federated(*known, test, rounds=6, local_steps=20, seeds=seeds)
drawings.draw_federated(plt.figure(figsize=(5.5, 3.2)), by_way)

# %% [markdown]
# The mean is $(200\cdot1+100\cdot4)/300=2$. The five trainings use nearly the same images (one client alone has half of them) and take the same number of
# steps in all. Two equal clients are as good as all data in one place. With skewed clients and 20 local steps the mean is worse. With *one* local step a
# round it is not: the mean of the steps is the step on all data. So the local steps are the cause: the clients' weights can drift apart. One local step a
# round needs 20 times as many messages. One client alone never learns the digits that it has not seen.
#
# Are images that stay with the client private? The server sees an update. For a single image, the gradient of the first layer is $\partial L/\partial
# W_i=\delta_i x$ and $\partial L/\partial b_i=\delta_i$. Divide the gradient of the weights by the gradient of the bias: the result is $x$.

# %%
attacked = experiments.make_mlp(1)


def recover(image_batch, label_batch, sigma=0.0):
    noisy = privacy.private_gradient(
        attacked, image_batch, label_batch, max_norm=1.0, noise_multiplier=sigma,
        expected_batch=float(len(image_batch)), generator=torch.Generator().manual_seed(0),
    )
    unit = noisy["1.bias"].abs().argmax()
    return (noisy["1.weight"][unit] / noisy["1.bias"][unit]).view(1, 8, 8)


secret, secret_label = test[0][:8], test[1][:8]
from_one, from_eight = recover(secret[:1], secret_label[:1]), recover(secret, secret_label)
with_noise = recover(secret[:1], secret_label[:1], sigma=0.5)
titles = ("the client's image", "from its gradient", "from the mean of 8", "with noise, σ = 0.5")
plot.gallery([secret[0], from_one, from_eight, with_noise], titles, width=6);

# %% [markdown]
# The image can be computed from the gradient of one image. From the mean over eight images a mixture is computed. In this draw, noise with σ = 0.5
# destroys the image. So "the images stay with the client" is no guarantee: an update of few images can show them. Differential privacy gives a guarantee.

# %% tags=["claims"]
last = {name: np.array([curve[-1] for curve in curves]) for name, curves in by_way.items()}
assert abs(last["two equal clients"].mean() - last["all data in one place"].mean()) < 0.02
assert last["two skewed clients"].max() < last["all data in one place"].min()
assert np.allclose(last["skewed, 1 step a round"], last["all data in one place"], atol=0.01)
assert last["one skewed client alone"].max() < 0.55
assert (from_one - secret[0]).abs().max() < 1e-3
assert (with_noise - secret[0]).abs().max() > 0.3


# %% [markdown]
# ## 5 Transparency: which pixels?
#
# **Explanation** (解释) of a decision means here: a heat map (热力图) of the pixels that one logit depends on. Four methods:
#
# | method | idea | source |
# | --- | --- | --- |
# | **occlusion** (遮挡分析) | cover a window, see how far the logit falls | Zeiler & Fergus 2014 |
# | **saliency** (显著图) | the gradient $\lvert\partial s/\partial x\rvert$ | Simonyan et al. 2014 |
# | **integrated gradients** (积分梯度) | the mean gradient on the path from a grey image | Sundararajan et al. 2017 |
# | **Grad-CAM** (梯度加权类激活图) | the last feature maps $A_k$: $\mathrm{ReLU}\big(\sum_k g_kA_k\big)$, $g_k$ is the mean gradient of $s$ in map $k$ | Selvaraju et al. 2017 |
#
# Why is the gradient alone not enough? Take $s(x)=\min(x,1)$ at $x=2$, starting from $x_0=0$. The logit rose from 0 to 1. What is the gradient at 2? Integrated gradients take
# the mean of the gradient on the way from $x_0$ to $x$, times $x-x_0$:
#
# $$a=(x-x_0)\int_0^1\frac{\partial s}{\partial x}\big(x_0+t(x-x_0)\big)\,dt$$

# %%
class Saturated(nn.Module):  # two classes; the logit of class 1 is the sum of min(pixel, 1)
    def forward(self, x):
        score = x.clamp(max=1).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], 1)


saturated, two_pixels = Saturated().eval(), torch.tensor([[[[2.0, 0.5]]]])
class_one = torch.tensor([1])
slope = explain.saliency(saturated, two_pixels, class_one)[0, 0]
path = explain.integrated_gradients(saturated, two_pixels, class_one, steps=100)[0, 0, 0]
covering = explain.occlusion(saturated, two_pixels, class_one, window=1, stride=1)[0, 0]
for name, values in (("saliency", slope), ("integrated gradients", path), ("occlusion", covering)):
    print(f"{name:21} {[round(value, 3) for value in values.tolist()]}")

# %% [markdown]
# The gradient of the first pixel is 0, though this pixel gives most of the logit: it is **saturated** (饱和). On half of the way the gradient is 1, so
# integrated gradients give $2\cdot0.5=1$. For the second pixel the gradient is 1 on the whole way: $0.5\cdot1=0.5$. The parts add up to $s(x)-s(x_0)$,
# $1+0.5=1.5$. Occlusion agrees here.
#
# Now four photographs and EfficientNet-Lite0 (extra `pretrained`; without it the chapter goes on with section 6's small network).

# %%
from vlmbook import efficientnet
from vlmbook.pretrained import WeightsMissing, efficientnet_lite0

names = ("cat", "coffee", "astronaut", "rocket")
squares = torch.cat([efficientnet.imagenet_input(data.photo(name)) for name in names])
try:
    large = efficientnet_lite0()
    with torch.no_grad():
        chances = large(squares).softmax(1)
    top_chances, top_classes = chances.max(1)
    top_names = [efficientnet.class_names()[k] for k in top_classes.tolist()]
    for name, word, chance in zip(names, top_names, top_chances):
        print(f"{name:10} {word} ({chance:.0%})")
except WeightsMissing as missing:
    large = None
    print(missing, "(the chapter goes on without these weights)")

# %%
if large:
    heat_maps = experiments.explain_photographs(large, squares, top_classes, window=56, steps=8)
    visible = ((128 * squares + 127) / 255).clamp(0, 1)
    drawings.draw_heat(plt.figure(figsize=(5.5, 4.8)), visible, top_names, heat_maps)

# %% [markdown]
# A row is a photograph, titled with the class that the network gave. Bright pixels are important for this class. Occlusion and Grad-CAM mark regions: the cup, the helmet, the rocket with the sky beside it. Saliency and integrated gradients are dotted. The
# astronaut is no class of ImageNet. The network calls her a football helmet, with a low probability, and the maps show which pixels led to this.
#
# ## 6 Is the explanation right?
#
# A heat map always looks meaningful. Two tests and one experiment with known truth follow. **Test 1:** put two photographs side by side, and explain the
# class of the left, then the class of the right. Does the heat move [after Zhang et al. 2016]? A map of edges does not use the network. It is the control.

# %%
if large:
    halves, half_classes = list(squares[[0, 1, 3]]), top_classes[[0, 1, 3]].tolist()
    shares = experiments.point_at_halves(large, halves, half_classes)
    collage = torch.cat([squares[0], squares[1]], 2)[None]
    moved = {}
    for k in (0, 1):
        cam = explain.grad_cam(large, large.blocks[-1], collage, top_classes[k : k + 1])
        moved[top_names[k]] = experiments.enlarge(cam, collage.shape[2:])[0]
    pair = torch.cat([visible[0], visible[1]], 2)
    drawings.draw_halves(plt.figure(figsize=(7, 2.6)), pair, moved, shares)

# %% [markdown]
# Three pairs with two classes each give six dots. Grad-CAM moves with the class. Add the two shares of a pair: a map that follows the class perfectly has
# the sum 2, and a map that ignores the class has the sum 1. The control has the sum 1. The sums of saliency are below 1.5, so saliency moves less than
# Grad-CAM.
#
# **Test 2** [Adebayo et al. 2018]: replace trained weights by random ones. An explanation of the *network* has to change. A map that stays the same explains the image alone.

# %%
if large:
    randomised = experiments.measure_randomisation(large, squares[:2], top_classes[:2])
    drawings.draw_randomisation(plt.figure(figsize=(5.5, 2.8)), randomised)

# %% [markdown]
# The bars are rank correlations with the map of the trained network (mean of two photographs, three random draws). The control stays at 1. Grad-CAM loses its similarity already with a random last layer. Saliency needs more: the
# last layer alone leaves some similarity, and it is gone when the whole network is random. So both depend on the network.

# %% tags=["claims"]
assert slope[0] == 0 and abs(path[0].item() - 1) < 0.02 and abs(path.sum().item() - 1.5) < 0.02
if large:
    half_means = {name: np.mean(values) for name, values in shares.items()}
    assert abs(half_means["edges (control)"] - 0.5) < 1e-4
    for first, second in zip(shares["saliency"][::2], shares["saliency"][1::2]):
        assert 1 < first + second < 1.5
    assert half_means["Grad-CAM"] > half_means["saliency"] + 0.1 and half_means["Grad-CAM"] > 0.7
    assert top_names[1] == "espresso" and "cat" in top_names[0]
    assert min(randomised["whole network"]["edges (control)"]) > 0.999
    assert np.mean(randomised["whole network"]["saliency"]) < 0.2
    assert np.mean(randomised["last layer"]["saliency"]) > 0.2
    assert np.mean(randomised["last layer"]["Grad-CAM"]) < 0.35

# %% [markdown]
# **The experiment: a planted shortcut.** A network may learn a mark instead of the object. For example it recognises a copyright notice in place of a
# horse, or a hospital's tag in place of a disease. This is called **shortcut learning** (捷径学习) [Geirhos et al. 2020]. Here each *training* face gets a
# bright square in the corner. Two controls are trained in the same way: without marks, and with marks on random patches. Does the explanation find the
# mark?

# %%
by_shortcut, mark_heats = experiments.measure_shortcut(seeds=max(5, seeds))
example = experiments.plant_mark(patches[:1], torch.tensor([True]))[0]
figure = plt.figure(figsize=(7.5, 4.2))
drawings.draw_shortcut(figure, example, mark_heats, by_shortcut)
records.picture("ch07b", figure);

# %% [markdown]
# Upper row: integrated gradients, mean over the test images, all of them with a mark. With a mark on every training face more of the heat lies in the
# corner than without marks, for each seed. (The square is 4 % of the pixels. In the controls it gets more than 4 % of the heat too, so compare with them,
# and not with 4 %.) Lower row: this network is worse on patches without marks (faces and others), and worse still if the *other* patches wear the mark.
# The accuracy of the controls does not change. The dots are seeds: they differ much, so one run would prove little.

# %% tags=["claims"]
marked, unmarked = by_shortcut["mark on every face"], by_shortcut["no mark"]
for with_mark, without in zip(marked["share in the mark"], unmarked["share in the mark"]):
    assert with_mark > without + 0.03  # for each seed
assert np.mean(marked["mark on the others"]) < np.mean(unmarked["mark on the others"]) - 0.1
assert np.mean(by_shortcut["mark on random patches"]["mark on the others"]) > 0.9
assert np.mean(marked["clean"]) < np.mean(unmarked["clean"]) - 0.03

# %% [markdown]
# ## 7 Fairness: three criteria
#
# "The model works equally well for all groups" can mean different things. With the decision $D$, the truth $Y$ and the group $A$:
#
# | criterion | equal in all groups |
# | --- | --- |
# | **demographic parity** (人口统计均等) | $P(D=1\mid A)$, the selection rate |
# | **equalised odds** (均等几率) | $P(D=1\mid Y=1,A)$ and $P(D=1\mid Y=0,A)$, true and false positive rate |
# | **predictive parity** (预测均等) | $P(Y=1\mid D=1,A)$, the precision |
#
# Group 0 has 10 people, of whom 5 are positive; group 1 has 10, of whom 2 are positive. Of group 0, five people are selected: four positives and one
# negative. Of group 1, four people are selected: two positives and two negatives. The accuracy is 0.8 in both groups. Which criteria hold? (The gap of a
# criterion is the largest difference between groups; equalised odds has two rates, and takes the larger of the two differences.)

# %%
of_group = torch.arange(2).repeat_interleave(10)
truth = torch.tensor([1] * 5 + [0] * 5 + [1] * 2 + [0] * 8)
selected = torch.tensor([1] * 4 + [0] + [1] + [0] * 4 + [1] * 2 + [1] * 2 + [0] * 6)
small_rates = fairness.rates_by_group(selected, truth, of_group)
for group, rates in small_rates.items():
    print(f"group {group}: accuracy {rates.accuracy:.2f}  ", end="")
    print(f"base rate {rates.base_rate:.2f}  selected {rates.selection_rate:.2f}  ", end="")
    print(f"TPR {rates.true_positive_rate:.2f}  FPR {rates.false_positive_rate:.2f}  ", end="")
    print(f"precision {rates.precision:.2f}")
print({name: round(gap, 2) for name, gap in fairness.criteria_gaps(small_rates).items()})

# %% [markdown]
# None of them holds, though the accuracy is the same. Can a better model satisfy all three? With the base rate (基础比率) $p$, precision $v$ and true positive
# rate $t$, take $n$ people: $pn$ are positive, so $\mathrm{TP}=p\,t\,n$. The precision is $v=\mathrm{TP}/(\mathrm{TP}+\mathrm{FP})$, so
# $\mathrm{FP}=\mathrm{TP}\,(1-v)/v$. There are $(1-p)n$ negatives, so
#
# $$\mathrm{FPR}=\frac{p}{1-p}\cdot\frac{1-v}{v}\cdot t$$
#
# [Chouldechova 2017]. If two groups have the same $v<1$ and the same $t>0$, but another $p$, then their FPR *must* differ. So with different base rates
# predictive parity and equalised odds exclude each other, unless $v=1$ (no false positive) or $t=0$. (Demographic parity and predictive parity can hold
# together. All three cannot hold at once, but in these cases.)

# %%
for base in (0.5, 0.3, 0.1):
    forced = fairness.forced_false_positive_rate(base, 0.8, 0.6)
    print(f"p = {base}: precision 0.8 and TPR 0.6 force the FPR {forced:.3f}")
scores, labels, groups = experiments.draw_people(3000, seed=0)
for group, rows in fairness.calibration_by_group(scores, labels, groups, bins=4).items():
    print(f"group {group}:", "  ".join(f"{mean:.2f}→{share:.2f}" for mean, share, _ in rows))


# %% [markdown]
# The second part draws people with a score that is **calibrated** (校准) in both groups: of those with a score near 0.6, 60 % are positive (mean score →
# share of positives). The base rates are 0.5 and 0.3. Move both thresholds: can you bring all three gaps to 0?

# %%
def show_criteria(figure, threshold_0=0.5, threshold_1=0.5):
    drawings.draw_criteria(figure, scores, labels, groups, threshold_0, threshold_1)


interact.live(
    show_criteria, threshold_0=(0.1, 0.9, 0.05), threshold_1=(0.1, 0.9, 0.05), figsize=(7.5, 2.8)
)

# %% [markdown]
# With the same threshold the precisions differ by about 0.1, and the other two gaps are larger than 0.3. A lower threshold for group 1 makes these gaps
# smaller, and the third one larger. By the formula above no pair of thresholds with $v<1$ and $t>0$ closes all three. What does it cost to close one?
# Thresholds are chosen on one draw of people, as accurate as the criterion allows, and measured on another draw.

# %%
by_criterion = experiments.measure_thresholds(n=runtime.pick(quick=2000, full=20000))
drawings.draw_costs(plt.figure(figsize=(8.5, 2.2)), by_criterion)

# %% [markdown]
# "None" chooses each group's most accurate threshold. For calibrated scores this is 0.5 in both groups, so one common threshold has the same accuracy.
# Equal selection rates or equal true positive rates cost one to two points of accuracy here, and the precisions then differ. Mathematics does not choose
# the criterion. The choice depends on the harm of each error. A threshold for each group also needs to know the group, which a law may forbid.

# %% tags=["claims"]
cost = {name: np.mean(rows["accuracy"]) for name, rows in by_criterion.items()}
gap_of = {name: np.mean(rows["demographic parity"]) for name, rows in by_criterion.items()}
assert abs(cost["none"] - cost["one threshold"]) < 0.01
assert cost["one threshold"] > cost["true positive rate"] + 0.005
assert cost["one threshold"] > cost["selection rate"] + 0.01
assert gap_of["selection rate"] < 0.03 < 0.2 < gap_of["one threshold"]
for rows in by_criterion.values():  # each choice leaves one gap open
    assert max(np.mean(rows[name]) for name in rows if name != "accuracy") > 0.1

# %% [markdown]
# ## 8 Going deeper: a group that is rare in the training set
#
# Where do different errors come from? One cause can be isolated. A network decides whether a digit is at least 5. Camera B is turned by a quarter. The
# network has no convolution and uses no neighbourhood of pixels, so both cameras are equally difficult. The number of training images is always 600. Only
# the share of camera B changes.

# %%
camera_shares = (0.0, 0.02, 0.1, 0.25, 0.5)
by_camera = experiments.measure_cameras(known, test, camera_shares, n=600, seeds=seeds)
one_net = experiments.train_two_cameras(*known, 0.1, n=600, seed=0)
camera_scores = experiments.score_two_cameras(one_net, *test)
drawings.draw_cameras(plt.figure(figsize=(7, 2.8)), by_camera, *camera_scores)

# %% [markdown]
# With a share of one half both cameras have the same accuracy. With 2 % of camera B the network is far worse for it. The number of images and the training
# are the same. Only the shares change (so camera A has fewer images when camera B has more). The ROC curve of camera B (right, for 10 %) lies below: no
# threshold on it reaches camera A. Another threshold is another point of the same curve; more images of camera B give another curve. The dots mark the
# threshold 0.5.
#
# A **model card** (模型卡) [Mitchell et al. 2019] publishes such numbers with the model: what it is for, which data it saw, how good it is for each group.
# Code writes the numbers, so that they are those of the run. The sentences are written by a person.

# %%
from IPython.display import Markdown
from vlmbook.metrics import proportion_interval

card_rates = fairness.rates_by_group(camera_scores[0] >= 0.5, *camera_scores[1:])
analyses = {}
for group, rates in card_rates.items():
    interval = proportion_interval(rates.accuracy, rates.n)
    analyses[f"accuracy, camera {'AB'[group]} [95 % interval]"] = (rates.accuracy, *interval)
sections = dict(zip(explain.SECTIONS, (
    "One hidden layer of 32 units, 150 steps of Adam.",
    "Teaching. Not for reading real forms.", "The camera: A upright, B turned by a quarter.",
    "Accuracy at the threshold 0.5, for each camera.", "600 digits, 10 % of them from camera B.",
    "360 other digits, each as both cameras see it.", analyses,
    "People whose forms come from camera B get more errors.",
    "Collect more images of camera B before use.")))
display(Markdown(explain.model_card("is a digit at least 5?", sections)))

# %% tags=["claims"]
of_b = {share: np.array(values) for share, values in by_camera["camera B"].items()}
of_a = {share: np.array(values) for share, values in by_camera["camera A"].items()}
assert of_b[0.0].mean() < of_b[0.1].mean() < of_b[0.5].mean()
assert abs(of_a[0.5].mean() - of_b[0.5].mean()) < 0.03
assert of_a[0.02].min() > of_b[0.02].max() + 0.1
freely = fairness.choose_thresholds(*camera_scores, criterion="none")  # the best for each camera
best_rates = fairness.rates_by_group(
    fairness.decide(camera_scores[0], camera_scores[2], freely), *camera_scores[1:]
)
assert card_rates[0].accuracy > best_rates[1].accuracy + 0.03

# %% [markdown]
# ## 9 Going deeper: the quality of the data
#
# **Wrong labels.** How much do they harm? Errors of the kind "any other class" are compared with errors of the kind "always the next class". The test has right labels.

# %%
noise_shares = (0.0, 0.2, 0.4, 0.6)
by_noise = {
    title: experiments.measure_label_noise(known, test, noise_shares, kind=kind, seeds=seeds)
    for title, kind in (("any other class", "uniform"), ("always the next class", "pair"))
}
drawings.draw_noise(plt.figure(figsize=(7, 2.8)), by_noise)

# %% [markdown]
# The same share of wrong labels harms very differently. One nearest neighbour repeats each wrong label. Logistic regression and the vote of 15 neighbours
# average over many images. Wrong labels of the first kind are spread over nine classes, so the right class keeps the majority. Wrong labels of the second
# kind all fall on one class: with a share above one half this class is the majority. (With 40 % it is close: an image with few right neighbours is already
# lost.)
#
# **Confident learning** (置信学习) [Northcutt et al. 2021] finds wrong labels. Each image is classified by a model that has not seen it (cross-validation,
# 交叉验证). The threshold of a class is the mean probability that its own images get. An image is suspected if two things hold: its most probable class is not
# its label, and the probability reaches the threshold of that class. By hand: two classes, six images.

# %%
first_class = torch.tensor([0.9, 0.8, 0.1, 0.2, 0.3, 0.7])  # probability of class 0
two_columns = torch.stack([first_class, 1 - first_class], 1)
given = torch.tensor([0, 0, 0, 1, 1, 1])
print("thresholds:", [round(two_columns[given == k, k].mean().item(), 2) for k in (0, 1)])
print("suspected:", experiments.find_label_errors(two_columns, given).nonzero()[:, 0].tolist())
by_finder, after_cleaning = experiments.measure_cleaning(known, test, share=0.1, seeds=seeds)
drawings.draw_cleaning(plt.figure(figsize=(7.5, 2.8)), by_finder, after_cleaning)

# %% [markdown]
# The thresholds are $(0.9+0.8+0.1)/3=0.6$ and $(0.8+0.7+0.3)/3=0.6$. Image 2 has 0.9 for class 1, image 5 has 0.7 for class 0: both are suspected. On the
# digits 10 % of the labels were made wrong. Confident learning finds about two thirds of them, and most suspects are wrong indeed. The simple baseline
# "lowest probability of the label" takes the number of suspects from confident learning. It is then about as good. Confident learning finds this number
# itself. "Most probable class differs" finds nearly all errors, and suspects many right labels. Right panel: the accuracy of one nearest neighbour rises
# when the suspects are left out, though not to that of right labels. To leave out as many images at random changes it by one or two points only.
#
# Is there anything wrong in the data as they are? These are the eight real, unchanged labels with the lowest probability.

# %%
held_out = experiments.predict_held_out(*known)
suspects = experiments.find_label_errors(held_out, known[1])
of_label = held_out.gather(1, known[1][:, None])[:, 0]
worst = of_label.argsort()[:8]
suspect_titles = [f"{known[1][k]}, not {held_out[k].argmax()}?" for k in worst.tolist()]
print(f"confident learning suspects {int(suspects.sum())} of {len(suspects)} images")
plot.gallery(known[0][worst], suspect_titles, columns=8, width=8);

# %% [markdown]
# A person has to check each suspect. The title gives the label, and what the model believes. Confident learning suspects only the number of images printed
# above the pictures: it asks for a *confident* other class. Which labels would you change?
#
# **Rare classes.** Six of 600 training images show an 8. The question is "is this an 8?". The test images are weighted so that the 8s count 1 %.

# %%
by_method = experiments.measure_imbalance(known, test, seeds=runtime.pick(quick=5, full=20))
drawings.draw_imbalance(plt.figure(figsize=(8.5, 2.4)), by_method)

# %% [markdown]
# "Always no" has an accuracy of 99 %, and finds nothing. Plain logistic regression is no better at the threshold 0.5. A lower threshold, class weights or
# oversampling (过采样) raise the recall (召回率), and lower the accuracy. Most of what they find is no 8, so the precision (精确率) is low. (Where nothing is found
# it is drawn as 0.) The **average precision** (平均精度) does not depend on the threshold. By this measure the plain scores are useful too: always "no"
# reaches 0.01.

# %%
records.record(
    "ch07b",
    seed=list(range(seeds)),
    attack=by_size,
    private=by_training,
    epsilon=dict(zip(map(str, multipliers), spent)),
    federated=by_way,
    halves=shares if large else {},
    randomised=randomised if large else {},
    shortcut=by_shortcut,
    thresholds=by_criterion,
    cameras=by_camera,
    noise=by_noise,
    finders=by_finder,
    cleaning=after_cleaning,
    imbalance=by_method,
    **experiments.measure_fashion(),
);

# %% tags=["claims"]
cleaned = {name: np.array(values) for name, values in after_cleaning.items()}
finder_precision = {name: np.mean(rows["precision"]) for name, rows in by_finder.items()}
neighbour = by_noise["any other class"]["1 nearest neighbour"]
regression = by_noise["any other class"]["logistic regression"]
assert np.mean(regression[0.4]) > np.mean(neighbour[0.4]) + 0.2
assert np.mean(by_noise["always the next class"]["logistic regression"][0.6]) < 0.5
assert finder_precision["confident learning"] > 0.8 > finder_precision["as many at random"] + 0.5
baseline_precision = finder_precision["lowest probability of the label"]
assert abs(finder_precision["confident learning"] - baseline_precision) < 0.1
assert cleaned["found ones left out"].min() > cleaned["as many left out at random"].max()
assert np.mean(by_method["always no"]["accuracy"]) > 0.98
assert np.mean(by_method["class weights"]["recall"]) > 0.3

# %% [markdown]
# ## 10 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch07b.1")` helps in steps, `solution("ch07b.1")` shows one answer.
#
# **1 · Predict.** Members have the losses 0.2, 0.6 and 2.0, others have 0.4 and 3.0. What is the AUC of the attack by the loss?

# %%
auc_answer = ...
check("ch07b.1", auc_answer)


# %% [markdown]
# **2 · Build.** Write the clipping of DP-SGD: gradients `(B, D)` and a norm -> the sum `(D,)` of the clipped gradients. A gradient with norm 0 must not
# give NaN.

# %%
def clip_and_add(gradients, max_norm):  # -> (D,)
    ...


check("ch07b.2", clip_and_add)


# %% [markdown]
# **3 · Build.** Write integrated gradients. `slope_at(x)` returns the gradient `(D,)` at a point `(D,)`; `start` is $x_0$. Use the middles of `steps`
# equal parts of the path.

# %%
def attribute(slope_at, x, start, steps):  # -> (D,)
    ...


check("ch07b.3", attribute)

# %% [markdown]
# **4 · Predict.** In two groups the base rates are 0.5 and 0.2. A model has the precision 0.8 and the true positive rate 0.6 in both. Which false positive rates follow?

# %%
both_rates = ...  # (group 0, group 1)
check("ch07b.4", both_rates)

# %% [markdown]
# **5 · Train, change, measure.** Is it the *share* or the *number* of camera B's images that counts? Train with 600 images of which 20 % come from camera
# B, and with 1,200 of which 10 % do: both have 120 of camera B. (Camera A has 480 and 1,080 images, so this also changes.) Use
# `experiments.measure_cameras(known, test, (share,), n=n, seeds=3)["camera B"][share]`, which gives three accuracies of camera B. The conclusion is the
# key with the larger accuracy, or `"no difference"`: two means differ if their distance is larger than the sum of both standard deviations.

# %%
camera_answer = ...  # {"600 images, 20 %": [...], "1200 images, 10 %": [...], "conclusion": ...}
check("ch07b.5", camera_answer)

# %% [markdown]
# ## 11 At full size
#
# With `VLMBOOK_PROFILE=full` each measurement has ten seeds, and the attack is made on Fashion-MNIST too: 28×28 pixels, up to 5,000 members, right labels.

# %% tags=["record"]
records.show("ch07b", "full")

# %% [markdown]
# ## 12 Book check
#
# - **M18 · "Whether the model performs consistently for different groups"** (§7.1). Consistent in which sense? Section 7 shows three criteria, and that
#   they cannot hold at once if the base rates differ: the same precision forces different false positive rates. State the criterion first.
# - **I28 · Transparency as "users understand the decision"** (§7.1). This is explainability (可解释性). Transparency (透明性) is wider: it also discloses the
#   data, the training and the limits of a model. Sections 5 and 6 explain decisions. The model card of section 8 discloses the rest.
#
# ## 13 What we learned
#
# - The loss alone tells members from others if a network was trained to the end on few images or on wrong labels. A short training weakens this attack,
#   also without noise. Only noise gives a guarantee: ε = 8 costs no measurable accuracy here, and ε = 1 costs much.
# - Federated averaging keeps images with the clients. With skewed clients and many local steps the mean is worse, and the gradient of one image gives the
#   image away.
# - A heat map has to be tested: it has to change with the class and with the weights. In the planted experiment, the share of the heat in the mark was
#   about twice that of the control.
# - Three criteria of fairness cannot hold at once if the base rates differ. A threshold for each group closes one gap, at a price.
# - Models that average stay accurate if the wrong labels are spread over all classes, and fail if more than half of a class get the same wrong label. One
#   nearest neighbour suffers equally from both. Accuracy says little about a rare class.
#
# **References.** E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, *Comparing the areas under two or more correlated receiver operating characteristic curves: a nonparametric approach*, Biometrics 44(3), 1988 · C. Canonne, G. Kamath, T. Steinke, *The discrete Gaussian for differential privacy*, NeurIPS 2020, arXiv:2004.00010 · S. Yeom et al., *Privacy risk in machine learning*, CSF 2018, arXiv:1709.01604 · C. Dwork, F. McSherry, K. Nissim, A. Smith, *Calibrating noise to sensitivity in private data analysis*, TCC 2006 · M. Abadi et al., *Deep learning with
# differential privacy*, CCS 2016, arXiv:1607.00133 · I. Mironov, K. Talwar, L. Zhang, *Rényi differential privacy of the sampled Gaussian mechanism*, 2019, arXiv:1908.10530 · P. Kairouz, S. Oh, P. Viswanath, *The composition theorem for differential privacy*, ICML 2015, arXiv:1311.0776 ·
# B. McMahan et al., *Communication-efficient learning of deep networks from decentralized data*, AISTATS 2017, arXiv:1602.05629 · M. Zeiler, R. Fergus, *Visualizing and understanding convolutional networks*, ECCV 2014, arXiv:1311.2901 · K. Simonyan, A. Vedaldi, A. Zisserman, *Deep inside
# convolutional networks*, 2014, arXiv:1312.6034 · M. Sundararajan, A. Taly, Q. Yan, *Axiomatic attribution for deep networks*, ICML 2017, arXiv:1703.01365 · R. Selvaraju et al., *Grad-CAM*, ICCV 2017, arXiv:1610.02391 · J. Zhang et al., *Top-down neural attention by excitation backprop*, ECCV
# 2016, arXiv:1608.00507 · J. Adebayo et al., *Sanity checks for saliency maps*, NeurIPS 2018, arXiv:1810.03292 · R. Geirhos et al., *Shortcut learning in deep neural networks*, Nature Machine Intelligence 2020, arXiv:2004.07780 · M. Hardt, E. Price, N. Srebro, *Equality of opportunity in supervised
# learning*, NeurIPS 2016, arXiv:1610.02413 · J. Kleinberg, S. Mullainathan, M. Raghavan, *Inherent trade-offs in the fair determination of risk scores*, ITCS 2017, arXiv:1609.05807 · A. Chouldechova, *Fair prediction with disparate impact*, Big Data 2017, arXiv:1703.00056 ·
# M. Mitchell et al., *Model cards for model reporting*, FAT* 2019, arXiv:1810.03993 · C. Northcutt, L. Jiang, I. Chuang, *Confident learning*, JAIR 2021, arXiv:1911.00068.
