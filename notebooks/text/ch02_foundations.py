# %% [markdown]
# # 2 · Foundations (视觉大模型基础)
#
# *Book: §2.1 视觉大模型的基本概念, §2.2 视觉大模型的主要技术*
#
# **§2.1 lists seven properties of a large vision model: much data, a deep network, end-to-end training, several tasks, generalisation, efficiency, and
# integration. When does each property help, and when does it not?**
#
# After this chapter you can
#
# - predict the error for more images *before* you collect them, with an interval,
# - compute which depth a task needs,
# - compare end-to-end training with fixed features in a fair experiment,
# - measure whether two tasks help or disturb each other,
# - say under which changes of the images a network fails,
# - correct the thirteen diagrams of the book.
#
# You need these terms from [chapter 1](ch01_from_features_to_networks.ipynb): tensor, batch, epoch, logits, softmax, loss, gradient, learning rate, seed,
# held-out data, overfitting, baseline, interval, CNN. Each property is a small experiment with its control. The later chapters explain each technique in
# full; a link stands where you need it.
#
# The core path takes 40 minutes: sections 1 to 6. The other sections go deeper. Run all cells from top to bottom. The first cell prints the time and the
# memory of a whole run, and shows the first result.

# %% tags=["record"]
import matplotlib.pyplot as plt
import torch
from torch import nn

from vlmbook import convolution, data, multitask, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch02 import diagrams, experiments, figures as drawings
from vlmbook.chapters.ch07c.experiments import train_rotations

runtime.seed_everything(0)
torch.set_num_threads(1)  # images this small gain little from more threads
plot.use_style()
records.published("ch02")
published = records.RESULTS / "ch02.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)])

# %% [markdown]
# ## 1 The data, looked at
#
# We use two small data sets. The **digits** are the scanned digits of chapter 1, here 8×8 pixels, with ten classes. A **canvas** (画布) is a digit on a dark
# square of a photograph, 16×16 pixels. The digit lies anywhere on the square. A canvas has three kinds of **ground truth** (真实标注, the right answers): the
# class, the **bounding box** (边界框, blue), and the **mask** (掩码), which says for each pixel whether it is ink. The canvases of the test have other digits
# and other photographs than the canvases of the training.

# %%
x, y = data.digits("train")
x_test, y_test = data.digits("test")
plot.gallery(x[:10], y[:10].tolist(), width=6)
canvases = experiments.draw_canvases("train", runtime.pick(quick=1000, full=4000))
tests = experiments.draw_canvases("test", 400)
some = {task: values[:7] for task, values in canvases.truth.items()}
drawings.draw_canvases(plt.figure(figsize=(6.5, 2.1)), canvases.images[:7], some)

# %% [markdown]
# ## 2 Property 1: much data
#
# *More data make a better model.* How much better? For many tasks the error $e$ (the share of wrong answers) falls with the number of images $n$ as a
# **power law** (幂律) [Hestness et al. 2017]:
#
# $$e(n)=a\,n^{-b}\qquad\Longleftrightarrow\qquad\log e=\log a-b\log n$$
#
# If both axes are logarithmic, this is a straight line, and $b$ is its slope downwards. An example: 100 images give an error of 0.20, and 400 images give
# an error of 0.10. Compute $b$ and $a$ by hand. Which error do you expect with 1,600 images?

# %%
law = multitask.fit_power_law([100, 400], [[0.20], [0.10]])
print(f"b = {law.exponent:.3f}   a = {law.scale:.3f}   error at 1,600: {law.predict(1600):.3f}")
drawings.draw_law(plt.figure(figsize=(5, 2.4)), [100, 400], [0.20, 0.10], 1600)


# %% [markdown]
# Four times as many images halve the error: $4^{-b}=1/2$, so $b=1/2$. Then $a=0.20\cdot\sqrt{100}=2$, and $e(1600)=2/\sqrt{1600}=0.05$. To halve the error
# again, you need four times as many images again.
#
# With more than two points the line is fitted by least squares (最小二乘) of the logarithms. Now we measure. The network below learns from 40, 80, 160 and 320
# digits. We repeat each run with several seeds, and each seed has its own test images. All runs of the network take the **same number of steps** (步). (One
# step is one change of the weights by one batch.) So with more images the network sees each image less often. The baseline is a linear classifier:
# logistic regression (逻辑回归), another name of the softmax regression of chapter 1. It is trained by scikit-learn until it is done, and not by these steps.

# %%
def make_cnn(side=8):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * (side // 2) ** 2, 10),
    )


def describe(values):  # mean ± standard deviation
    return f"{torch.as_tensor(values).mean():.3f} ± {torch.as_tensor(values).std():.3f}"


pool = experiments.read_pool()
seeds = range(runtime.pick(quick=4, full=10))
steps = runtime.pick(quick=200, full=1000)
first_runs = experiments.measure_scaling(
    make_cnn, pool, (40, 80, 160, 320), seeds=seeds, steps=steps
)
for name, rows in first_runs.items():
    print(f"{name:8} error:", " · ".join(f"{n} images {describe(e)}" for n, e in rows.items()))

# %% [markdown]
# The number behind ± is the **standard deviation** (标准差) over the seeds, here and in the whole chapter: it says how much one run differs from another run.
#
# We now **predict** the error with 1,400 images, before any network has learned from so many. The interval comes from the **bootstrap** (自助法) [Efron &
# Tibshirani 1993]. Draw as many runs as there are from the measured runs; one run may be drawn twice (有放回). Fit the line again. Do this 500 times. (Each
# prediction also gets a random deviation, since new runs differ too.) 95 % of the 500 predictions lie in the interval. It is an interval for the mean of
# the new runs, and not for one run. The interval assumes that the power law goes on.

# %%
at = 1400


def predict(found, known, target):
    predicted = {}
    for method, errors_by_size in found.items():
        used = {n: errors for n, errors in errors_by_size.items() if n <= known}
        ends = multitask.bootstrap_power_law(list(used), list(used.values()), target)
        predicted[method] = (multitask.fit_power_law(list(used), list(used.values())), ends)
    return predicted


predictions = predict(first_runs, 320, at)
for name, (law_of_method, ends) in predictions.items():
    ranges = {what: f"[{low:.3f}, {high:.3f}]" for what, (low, high) in ends.items()}
    print(f"{name:8} exponent b {law_of_method.exponent:.3f} {ranges['exponent']}  ",
          f"error at {at:,}: {law_of_method.predict(at):.3f} {ranges['error']}")

# %% [markdown]
# The predictions are made. Now the check: we train with 1,400 images.

# %%
largest = experiments.measure_scaling(make_cnn, pool, [at], seeds=seeds, steps=steps)
scaling = {name: rows | largest[name] for name, rows in first_runs.items()}
picture = plt.figure(figsize=(7, 3))
bars = {name: (line, ends["error"]) for name, (line, ends) in predictions.items()}
drawings.draw_scaling(picture, scaling, bars, 320, at)
records.picture("ch02", picture)
for name, rows in largest.items():
    print(f"{name:8} error at {at:,}, measured: {describe(rows[at])}")


# %% [markdown]
# The open points are the measured errors. Both lie inside the predicted intervals (grey bars), and a little above the dashed lines. So the straight line
# was a useful prediction, for about four times as many images as we had used. It says nothing about a thousand times as many: each real curve ends at some
# lowest error, for example if some labels are wrong.
#
# The two exponents differ. With 40 images the network has the smaller mean error. With 1,400 images the linear classifier has the smaller mean error,
# after these few steps, but the two ± overlap. So the line of each method has its own slope $b$. (The smaller slope of the network may also come from its
# short training.) Always measure a simple baseline too.
#
# **How many sizes do you need for a good prediction?** Move the slider. Only the sizes up to this number are used for the line.

# %%
def use_images(figure, images=160):
    fitted = predict(scaling, images, at)
    shown = {name: (line, ends["error"]) for name, (line, ends) in fitted.items()}
    drawings.draw_scaling(figure, scaling, shown, images, at)


interact.live(use_images, images=[80, 160, 320], figsize=(7, 3))

# %% tags=["claims"]
assert abs(law.exponent - 0.5) < 1e-9 and abs(law.predict(1600) - 0.05) < 1e-9
measured = {name: sum(rows[at]) / len(rows[at]) for name, rows in scaling.items()}
widths = {
    known: {name: ends["error"][1] - ends["error"][0] for name, (_, ends) in fitted.items()}
    for known, fitted in ((known, predict(scaling, known, at)) for known in (80, 320))
}
for name, (line_of_method, ends) in predictions.items():
    assert ends["exponent"][0] > 0.1  # more images help
    assert 0.5 < measured[name] / line_of_method.predict(at) < 2
    assert measured[name] < min(sum(rows) / len(rows) for rows in list(scaling[name].values())[:4])
    assert widths[80][name] > widths[320][name]
few_images = {name: sum(rows[40]) / len(rows[40]) for name, rows in scaling.items()}
assert few_images["network"] < few_images["linear"]

# %% [markdown]
# With two sizes (80) the intervals are much wider than with four sizes (320): with two points the slope is uncertain.
#
# The book names ImageNet, COCO and Open Images, and says "成千上万" (thousands) of images. Section 8 shows their real sizes.
#
# ## 3 Property 2: a deep network
#
# *A deep network extracts features layer by layer.* What does depth do? One answer can be computed: the **receptive field** (感受野), the part of the image
# that one output can see. A convolution with a 3×3 kernel sees 3 pixels in a row. Each further one adds 2 pixels, so $L$ layers see $2L+1$ pixels
# ([chapter 3a](ch03a_convolution_and_pooling.ipynb)).
#
# We invent a task for which we know what is needed. Two marks lie in one row, $d$ pixels apart. Do they have the same colour? A network of $L$
# convolutions computes features at each place, and the last layer adds the features of all places. The frames show the receptive fields of 1, 2 and 3
# layers, for the place in the middle between the marks. Which depth does this task need?

# %%
pairs, same = experiments.draw_pairs(200, 6, seed=3)
drawings.draw_windows(plt.figure(figsize=(7, 1.4)), pairs[:3], same[:3], (3, 5, 7))
plain_net = experiments.LocalNet(3)
print("receptive field of three layers:", convolution.receptive_field(plain_net.convs))

# %% [markdown]
# To compare two marks, *one* place must see both marks. So $2L+1>d$, and $d=6$ needs three layers. Suppose no place sees both marks. Then the network
# computes one number for the left mark and one number for the right mark, and adds them. There are four cases: white-white, white-black, black-white and
# black-black. No such sum is right in all four cases. Three are possible, so the accuracy is at most 75 %. (It can also be below 50 %: the loss is
# smallest if both classes get the probability 1/2, and then tiny differences decide.) We train a network for each depth and distance, with three seeds.
# The orange line is the prediction: left of it the receptive field is large enough.

# %%
depths, distances = (1, 2, 3), (2, 4, 6)
field_plan = {"steps": runtime.pick(quick=200, full=1000), "seeds": range(3)}
reached = experiments.measure_fields(depths, distances, **field_plan)
drawings.draw_fields(plt.figure(figsize=(5.5, 2.5)), reached.mean(2), depths, distances)

# %% [markdown]
# The mean accuracy is near 1 where the receptive field is large enough, and below 0.75 everywhere else. But is the depth the cause, or the number of
# parameters, or the receptive field? Three **controls** (对照) answer for the distance 6: as many layers with a smaller kernel, fewer layers with a larger
# width (宽度, the number of channels), and one layer with a larger kernel.

# %%
controls = {  # name: (layers, kernel, width)
    "3 layers 3×3": (3, 3, 8),
    "3 layers 1×1": (3, 1, 8),
    "2 layers 3×3, wide": (2, 3, 11),
    "1 layer 7×7": (1, 7, 8),
}
by_control = {"3 layers 3×3": reached[2, 2]}  # measured already
for name, (depth, kernel, width) in controls.items():
    options = {"kernel": kernel, "width": width}
    if name not in by_control:
        by_control[name] = experiments.measure_fields([depth], [6], **field_plan, **options)[0, 0]
    net = experiments.LocalNet(depth, **options)
    numbers = sum(p.numel() for p in net.parameters())
    print(f"{name:20} receptive field {convolution.receptive_field(net.convs)}",
          f" {numbers:5,} parameters  accuracy {describe(by_control[name])}")

# %% [markdown]
# The network with 1×1 kernels is as deep as the first one, and fails. The wide network has about as many parameters as the first one, and fails. One layer
# with a 7×7 kernel is not deep at all, and succeeds. So for this task **the receptive field decides**. Depth is one way to a large receptive field. (An
# experiment that removes or changes one part of a method is called an **ablation**, 消融实验. Later chapters have many.)
#
# Depth has other effects that this task does not test: later layers combine the features of earlier layers. And deeper is not always better. [Chapter
# 3b](ch03b_resnet.ipynb) shows that plain networks become *worse* with depth, and how the residual block (残差块) repairs this.

# %% tags=["claims"]
for row, depth_of_row in enumerate(depths):
    for column, distance in enumerate(distances):
        values = reached[row, column]
        assert values.mean() > 0.9 if 2 * depth_of_row + 1 > distance else values.max() < 0.8
assert by_control["1 layer 7×7"].mean() > 0.9 and by_control["3 layers 3×3"].mean() > 0.9
assert max(by_control["3 layers 1×1"].max(), by_control["2 layers 3×3, wide"].max()) < 0.8

# %% [markdown]
# ## 4 Property 3: end to end
#
# *End-to-end training needs no hand-made features, and is better.* **End to end** (端到端) means: the gradient changes all layers, from the pixels to the
# class. The alternative is: fixed features, and a classifier that learns from them. Five methods get the same canvases:
#
# - a linear classifier on the pixels, and one on **HOG** (方向梯度直方图, chapter 1),
# - a **rule** and a linear classifier: pixels above 0.5 are ink; the square of 8×8 pixels around the ink is cut out; the classifier gets its pixels,
# - a network whose convolutions keep their **random initial weights**; only its last layer learns,
# - the same network **end to end**: same initial weights, same images, same steps.
#
# Which method is the best with 100 images, and which one with 1,000?

# %%
pipelines = experiments.compare_pipelines(
    canvases, tests, (100, 1000), steps=runtime.pick(quick=150, full=1000), seeds=(0, 1, 2)
)
drawings.draw_curves(
    plt.figure(figsize=(6, 3.6)), {"digits on a canvas": pipelines}, "images to learn from"
)
for name, rows in pipelines.items():
    print(f"{name:15}", " · ".join(f"{n:,} images {describe(v)}" for n, v in rows.items()))

# %% [markdown]
# End to end is far better than the same network with fixed convolutions (*fixed trunk* in the figure). The two networks differ in one point: whether the
# convolutions learn. So the learning of the convolutions is the cause of this difference. (In the quick run all seeds get the same 1,000 images. The
# linear classifiers give the same result each time, so their ± is 0 there.)
#
# But end to end is not the best method. The rule with a linear classifier is better at both sizes in the quick run, and by far with 100 images. The same
# linear classifier on the pixels of the *whole* canvas fails. The two differ only in the rule, which removes the movement of the digit and most of the
# photograph (we did not separate these two). The rule works since we know something about the data: we made the photographs darker than the ink.
# **End-to-end training needs no such knowledge.** With more images it comes nearer to the rule. A longer training does not replace the images: with 1,000
# steps in place of 150 (two seeds) end to end reached 0.92 with 1,000 images, about as good as the rule, and still 0.30 with 100 images. [Chapter
# 1](ch01_from_features_to_networks.ipynb) measured centred digits: simple classifiers were as good as networks there.

# %% tags=["claims"]
final = {name: torch.tensor(rows[1000]) for name, rows in pipelines.items()}
first = {name: torch.tensor(rows[100]) for name, rows in pipelines.items()}
assert final["end to end"].min() > final["fixed trunk"].max() + 0.2
assert final["end to end"].mean() > final["HOG, linear"].mean() + 0.1
assert final["end to end"].mean() > first["end to end"].mean() + 0.1
assert first["rule, linear"].mean() > first["end to end"].mean() + 0.2
assert final["rule, linear"].mean() > final["pixels, linear"].mean() + 0.4

# %% [markdown]
# ## 5 Property 4: several tasks
#
# *Several tasks learn from each other.* **Multi-task learning** (多任务学习) [Caruana 1997] uses one **trunk** (共享主干) for all tasks, and a small **head** (任务头)
# for each task. The trunk makes features, and a head turns the features into an answer. (In a detector or a pretrained network the trunk is called the
# **backbone**, 主干网络.) Here is the network. It names the digit, finds its box, and marks its pixels.

# %%
trunk = nn.Sequential(
    nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
    nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
)
name_class = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
find_box = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32 * 16, 4), nn.Sigmoid())
mark_pixels = nn.Sequential(nn.Conv2d(32, 16, 3, padding=1), nn.PixelShuffle(4))

packaged = multitask.MultiTaskNet(classes=10, in_channels=1)
trunk.load_state_dict(packaged.trunk.state_dict())
name_class[2].load_state_dict(packaged.heads["class"].linear.state_dict())
find_box[2].load_state_dict(packaged.heads["box"].linear.state_dict())
mark_pixels[0].load_state_dict(packaged.heads["mask"].conv.state_dict())
maps = trunk(canvases.images[:5])
ours = {"class": name_class(maps), "box": find_box(maps), "mask": mark_pixels(maps)[:, 0]}
torch.testing.assert_close(packaged(canvases.images[:5]), ours)
print({task: tuple(output.shape) for task, output in ours.items()})
drawings.draw_heads(plt.figure(figsize=(6.5, 2.2)), packaged, canvases.images)

# %% [markdown]
# (Stride 2 moves the kernel by two pixels, so it halves the height and the width. **Batch normalisation**, 批归一化, scales each channel to mean 0 and
# variance 1; chapter 3b explains it. A pixel shuffle, 像素重排, arranges 16 channels as 4×4 pixels.) The package has the same network: the cell compares the
# outputs of all three heads.
#
# The loss is a sum over the tasks $t$. We divide each loss by the loss of a program that gives every image the same (best) answer, so that each task
# starts at about 1:
#
# $$L(\theta)=\sum_t\lambda_t\,\frac{L_t(\theta)}{L_t^{\text{constant}}}$$
#
# Here $\theta$ are the parameters, and $\lambda_t$ is the weight of a task. At first all $\lambda_t=1$.
#
# **Do two tasks want the same change of the trunk?** A step of gradient descent changes the trunk against $\nabla L_1+\nabla L_2$. The **cosine** (余弦) of
# the two gradients
#
# $$\cos(\nabla L_1,\nabla L_2)=\frac{\nabla L_1\cdot\nabla L_2}{\|\nabla L_1\|\,\|\nabla L_2\|}$$
#
# is below 0 if a small step for one task makes the other task worse [Yu et al. 2020]. Compute it for $(3,4)$ and $(4,3)$, for $(3,4)$ and $(-4,3)$, and
# for $(3,4)$ and $(-4.8,1.4)$.

# %%
vector_pairs = [((3.0, 4.0), (4.0, 3.0)), ((3.0, 4.0), (-4.0, 3.0)), ((3.0, 4.0), (-4.8, 1.4))]
drawings.draw_gradients(plt.figure(figsize=(6.5, 1.9)), vector_pairs)
theta = nn.Parameter(torch.zeros(2))
for one_vector, other_vector in vector_pairs:  # two losses that have these gradients
    one, two = (theta @ torch.tensor(vector) for vector in (one_vector, other_vector))
    found_cosine = multitask.gradient_cosine(one, two, [theta])
    print(f"{one_vector} and {other_vector}: cosine {found_cosine:+.2f}")
opposed = [(theta.sum() - target) ** 2 for target in (1.0, -1.0)]  # one wants +1, the other −1
opposed_cosine = multitask.gradient_cosine(*opposed, [theta])
print(f"two opposed targets: cosine {opposed_cosine:+.2f}")

# %% [markdown]
# $(12+12)/25=0.96$, then $(-12+12)/25=0$, and $(-14.4+5.6)/25=-0.35$. In the example of the cell with two opposed targets the cosine is −1: there each
# step for one target is a step away from the other.
#
# Now the canvases. We train the class alone, the box alone, and both together. All networks of a seed begin with the same trunk, and see the same images
# in the same order. The measure of a box is the **IoU** (交并比): the area that the box and the ground truth share, divided by the area that they cover
# together; 1 is perfect. The control has both losses too, but the *labels* of the second task are **shuffled** (打乱): they belong to other images, so that
# they say nothing about the image. Does the second task help?

# %%
task_plan = {"steps": runtime.pick(quick=200, full=1500), "seeds": (0, 1, 2)}
together, cosines = experiments.measure_transfer(
    canvases, tests, [("class", "box"), ("box", "class")], **task_plan
)
drawings.draw_transfer(plt.figure(figsize=(6.5, 2)), together)
for (task, partner), transfer in together.items():
    rows = zip(transfer._fields, transfer, strict=True)
    print(f"{task} with {partner}:", " · ".join(f"{kind} {describe(v)}" for kind, v in rows))
print("cosine of the two gradients, mean over the training:", describe(cosines["box and class"]))

# %% [markdown]
# Training both together brings no gain. The box is about as good as alone. The class is much worse: in the quick run it is hardly better than guessing
# (0.1). This is called **negative transfer** (负迁移) [Standley et al. 2020]. The cosine does not warn us: it is near 0. The shuffled boxes harm the class as
# much as the true boxes. So the *content* of the boxes is not the cause. The second *loss* is the cause of the worse class after these 200 steps.
#
# Perhaps each step follows mostly the box loss. Then a smaller weight $\lambda_{\text{box}}$ must help the class. We change only this weight.

# %%
by_weight = experiments.measure_weights(canvases, tests, (0.03, 0.1, 0.3), **task_plan)
for (task, _), transfer in together.items():
    by_weight[task][1.0] = transfer.together  # measured already
alone = {task: transfer.alone for (task, _), transfer in together.items()}
drawings.draw_weights(plt.figure(figsize=(6.5, 2.6)), by_weight, alone)

# %% [markdown]
# The weight decides. With a weight of 0.03 the class is as good as alone, and the box is worse than alone. With a weight of 1 the box is about as good as
# alone, and the class is worse. So two tasks that share a trunk **compete** here, although the mean cosine of their gradients is near 0. The training here
# is short. One longer run (1,500 steps, 4,000 canvases) gave an accuracy of 0.98 alone and 0.97 with the box, with a weight of 1. There the harm is nearly
# gone: the box loss had mainly slowed the class down. If you train several tasks, choose the weights with care, and measure each task alone too.
#
# When does a second task help? Perhaps if one task has **few labels**. Now only *five* canvases have a mask. All canvases have a box.

# %%
few, _ = experiments.measure_transfer(
    canvases, tests, [("mask", "box")], labelled={"mask": 5},
    steps=runtime.pick(quick=150, full=600), seeds=(0, 1, 2),
)
drawings.draw_transfer(plt.figure(figsize=(6.5, 1.5)), few)
for kind, values in zip(few["mask", "box"]._fields, few["mask", "box"], strict=True):
    print(f"mask, five labels, {kind:9} IoU {describe(values)}")
by_rule = experiments.measure_outputs(experiments.find_by_rule(tests.images), tests.truth)
print("the rule of section 4, no training:", {k: round(v, 3) for k, v in by_rule.items()})

# %% [markdown]
# Here the second task helps: for each seed the mask is better with the boxes than alone. This is **positive transfer** (正迁移). With shuffled boxes the mean
# gain is smaller. So a part of the gain probably comes from the content of the boxes, and a part does not (three seeds).
#
# And the baseline? The rule of section 4 finds boxes and masks better than each of these networks, without any training. It needs ink that is brighter
# than the photograph.
#
# **So the tasks do not always help each other.** It depends on the pair of tasks, on the weights, and on the number of labels.

# %% tags=["claims"]
assert abs(opposed_cosine + 1) < 1e-6
with_box, with_class = together["class", "box"], together["box", "class"]
assert sum(with_box.together) < sum(with_box.alone)  # negative transfer
if runtime.profile() == "quick":  # a longer training removes most of it
    assert max(with_box.together) < min(with_box.alone) - 0.3
assert abs(torch.tensor(cosines["box and class"]).mean()) < 0.1
assert abs(sum(with_class.together) - sum(with_class.alone)) / 3 < 0.06
class_by_weight = {w: torch.tensor(v).mean() for w, v in by_weight["class"].items()}
box_by_weight = {w: torch.tensor(v).mean() for w, v in by_weight["box"].items()}
assert class_by_weight[0.03] > class_by_weight[1.0] and box_by_weight[0.03] < box_by_weight[1.0]
assert class_by_weight[0.03] > torch.tensor(with_box.alone).mean() - 0.05
few_masks = few["mask", "box"]
assert all(a < b for a, b in zip(few_masks.alone, few_masks.together, strict=True))
assert sum(few_masks.together) > sum(few_masks.shuffled)
assert by_rule["mask"] > max(few_masks.together) and by_rule["box"] > max(with_class.alone)

# %% [markdown]
# ## 6 Property 5: generalisation
#
# *A large model generalises well.* **Generalisation** (泛化) means: the model is right about images that it has not seen. But *which* images? Test images
# may come from the same source as the training images. They may also be shifted, rotated or noisy. Such a change is called a **corruption** (图像损坏)
# [Hendrycks & Dietterich 2019], and its size a **severity** (严重程度). And somebody may attack the network. **FGSM** (快速梯度符号法) [Goodfellow et al. 2015]
# changes each pixel by at most $\varepsilon$. For each pixel we ask: does the loss grow if the pixel grows? If yes, we add $\varepsilon$, else we subtract
# it. (The attacker knows the weights, and each program gets its own attack.)
#
# $$x'=x+\varepsilon\cdot\text{sign}\left(\frac{\partial L}{\partial x}\right)$$
#
# Its control changes each pixel by the same $\varepsilon$ with **random signs**. Three programs are tested: a linear classifier, the network of section 2,
# and the same network with **augmentation** (数据增强): each training image is shifted by up to 2 pixels to the side and rotated by up to 30° at random. All
# three take the same number of steps. Which change is the worst?

# %%
rivals = experiments.train_rivals(
    make_cnn, steps=runtime.pick(quick=600, full=3000), seeds=(0, 1, 2)
)
corrupted = experiments.measure_corruptions(rivals)
levels = {name: values for name, (_, values) in experiments.CORRUPTIONS.items()}
examples = {
    name: [experiments.corrupt(name, v, rivals["network"][0], x_test[3:4], y_test[3:4])[0]
           for v in values]
    for name, values in levels.items()
}
drawings.draw_corruptions(plt.figure(figsize=(7, 3.4)), examples, levels, corrupted)
for name in levels:
    at_middle = {method: describe(values[2]) for method, values in corrupted[name].items()}
    print(f"{name:25} severity {levels[name][2]:<4}", at_middle)


# %% [markdown]
# On the test images as they are (severity 0) the network is better than the linear classifier. A shift by two pixels breaks both. The example above the
# curves shows such a digit: you can still read it. Noise does little harm at first. The random signs do little harm too, and FGSM with the *same* size of
# change breaks the network. So the direction of the change matters, and not its size alone.
#
# The augmented network keeps most of its accuracy for shifts up to 2 pixels and rotations up to 30°. It was trained for these changes. A shift of 4 pixels
# breaks it too. It is *worse* than the plain network in noise and under FGSM. On the digits as they are it is worse too, but only after so few steps:
# after 3,000 steps both networks reached 0.98 (one seed), and the order in noise and under FGSM was the same. So do not say only that a model generalises.
# Say on **which** images.
#
# Choose a corruption and a severity level (0 to 4). The title of an image is *label → answer of the network*; orange answers are wrong.

# %%
def show_corruption(figure, corruption="FGSM", level=3):
    severity = levels[corruption][level]
    attacked = rivals["network"][0]
    images = experiments.corrupt(corruption, severity, attacked, x_test[:8], y_test[:8])
    curves = {method: [sum(v) / len(v) for v in values]
              for method, values in corrupted[corruption].items()}
    answers = attacked(images).argmax(1)
    drawings.draw_answers(figure, images, y_test[:8], answers, curves, levels[corruption], level)


interact.live(show_corruption, corruption=list(levels), level=(0, 4), figsize=(7, 2.4))


# %% tags=["claims"]
def mean_of(corruption, method, level):
    accuracies = corrupted[corruption][method][level]
    return sum(accuracies) / len(accuracies)


plain, moved = "network", "network, augmented"
assert mean_of("FGSM", plain, 0) > 0.95 and mean_of("FGSM", plain, 0) > mean_of("FGSM", "linear", 0)
assert mean_of("FGSM", plain, 2) < mean_of("random signs", plain, 2) - 0.2
assert max(mean_of("shift, pixels", name, 2) for name in ("linear", plain)) < 0.3
for change in ("shift, pixels", "rotation, degrees"):
    assert mean_of(change, moved, 2) > mean_of(change, plain, 2) + 0.1
if runtime.profile() == "quick":  # after more steps both are equal here
    assert mean_of("FGSM", moved, 0) < mean_of("FGSM", plain, 0)
assert mean_of("FGSM", moved, 2) < mean_of("FGSM", plain, 2)
assert mean_of("noise", moved, 4) < mean_of("noise", plain, 4)

# %% [markdown]
# ## 7 Pre-train, then adapt
#
# Nearly all of deep learning is trained end to end. A large vision model has another mark: **pre-training** (预训练) on very many images, often without
# labels, and then **adaptation** (适配) to a task with few labels. A model that many tasks can use in this way is called a **foundation model** (基础模型)
# [Bommasani et al. 2021]. There are two common ways to adapt:
#
# - a **linear probe** (线性探测): the pretrained network stays as it is; a linear classifier learns from its features,
# - **fine-tuning** (微调): all weights are trained further, from the pretrained weights.
#
# *Left:* a network learns by which of four angles a digit was turned [Gidaris et al. 2018]. This needs no label of a digit ([chapter
# 7c](ch07c_learning_from_little.ipynb)). Then it is adapted with $K$ labels of each digit, in both ways. The controls are the same network without
# pre-training. *Right:* EfficientNet-Lite0 was pretrained on 1.3 million photographs (ImageNet). We adapt it by a linear probe to the canvases, which are
# unlike its photographs. (Without the extra `pretrained` this curve is missing.) The rule of section 4 stands beside it. Does the pre-training help?

# %%
from vlmbook.pretrained import WeightsMissing, efficientnet_lite0

try:
    imagenet = efficientnet_lite0()
except WeightsMissing as missing:
    imagenet = None
    print(missing, "(the chapter goes on without these weights)")
rotation_net, rotation_accuracy = train_rotations(x, epochs=runtime.pick(quick=4, full=20))
small = experiments.Canvases(canvases.images[:300], {k: v[:300] for k, v in canvases.truth.items()})
plan = {"shots": (1, 5, 20), "draws": runtime.pick(quick=4, full=10)}
probes = {
    "digits": experiments.probe_labels(rotation_net, **plan, steps=60),
    "digits on a canvas": experiments.probe_canvases(imagenet, small, tests, **plan, steps=150),
}
drawings.draw_curves(plt.figure(figsize=(7, 3.8)), probes, "labels of each digit")
for title, found in probes.items():
    for name, rows in found.items():
        accuracies = " · ".join(f"K={k} {describe(values)}" for k, values in rows.items())
        print(f"{title:18} {name:21}", accuracies)

# %% [markdown]
# Left: the linear probe on the rotation network is better than the linear probe on the same network *without* training. So the pre-training made better
# features. But fine-tuning and training from nothing are equal within ±, for each $K$. (Digits may be too easy, and the pre-training saw only 1,437 of
# them; we did not test this.)
#
# Right: with five labels the features of ImageNet are better than training from nothing. With 20 labels both are equal within ±. And the rule is far above
# both. **So the pretrained features were better with five labels, and not with 20; a rule that fits the data was better than both.** (The two networks
# also differ in their layers and in the size of the images, so this does not isolate the pre-training.) (We did not fine-tune EfficientNet here.) [Chapter
# 7c](ch07c_learning_from_little.ipynb) adapts the same EfficientNet to textures in photographs, which are nearer to ImageNet.

# %% tags=["claims"]
on_digits = {name: {k: torch.tensor(v) for k, v in rows.items()}
             for name, rows in probes["digits"].items()}
for k in (5, 20):
    gain = on_digits["rotations, linear"][k] - on_digits["untrained, linear"][k]  # same labels
    assert gain.mean() > 0.02 and gain.mean() > 2 * gain.std() / len(gain) ** 0.5
assert abs((on_digits["rotations, fine-tuned"][5] - on_digits["from nothing"][5]).mean()) < 0.05
on_canvas = {name: {k: torch.tensor(v) for k, v in rows.items()}
             for name, rows in probes["digits on a canvas"].items()}
assert on_canvas["rule, linear"][5].min() > on_canvas["from nothing"][5].max() + 0.2
if imagenet:
    assert on_canvas["ImageNet, linear"][5].mean() > on_canvas["from nothing"][5].mean() + 0.02
    assert on_canvas["ImageNet, linear"][20].mean() < on_canvas["rule, linear"][20].mean() - 0.1

# %% [markdown]
# ## 8 How large is large, and property 6: efficiency
#
# §2.1 calls models *large*, and gives no measure. Three measures are in use: the **parameters** (参数, the numbers that are learned), the images of the
# pre-training, and the **compute** (计算量, the number of operations). The left figure shows data sets, and the orange stripe shows what "成千上万" (thousands)
# would be. The right figure shows models. (The sizes are cited, see `experiments.SETS` and `experiments.KNOWN`. AlexNet, ResNet-50 and ViT-H are counted
# below.)

# %%
costs = experiments.count_large()
known_models = experiments.place_known(costs)
drawings.draw_sizes(plt.figure(figsize=(7, 3.2)), known_models, experiments.SETS)

# %% [markdown]
# The named sets have between 330,000 images (COCO) and 14 million (ImageNet), and newer ones have billions. The largest model in the figure has 22 billion
# parameters. The largest five are Transformers, except BiT-L ([chapter 5b](ch05b_attention.ipynb) explains the Transformer). The measures disagree: MAE
# has many parameters, and was pretrained on 1.3 million images.
#
# *Large models are efficient.* What does one image cost? A **multiply-add** (乘加) is one multiplication and one addition, so it is two **FLOPs** (浮点运算次数,
# floating-point operations). We count on the **meta device** (元设备), where tensors have a shape and no values. So nothing is downloaded. All bars have
# logarithmic axes. The third column is the **memory** (内存) that the training keeps for one image: the outputs of the layers, which the gradient needs.
# [Chapter 7a](ch07a_efficiency.ipynb) explains each column.

# %%
drawings.draw_costs(plt.figure(figsize=(7, 2.5)), costs)
times = experiments.time_models(["AlexNet", "ResNet-50"], repeats=runtime.pick(quick=3, full=20))
for name, seconds in times.items():
    speed = 2 * costs[name]["macs"] / seconds / 1e9
    print(f"{name:10} latency {1000 * seconds:4.0f} ms an image on this computer, one thread",
          f"({speed:.0f} GFLOPs a second), {costs[name]['weights'] / 1e6:.0f} MB of weights")

# %% [markdown]
# The **latency** (延迟) is the time from the image to the answer. The use of a trained network is called **inference** (推理), in contrast to training.
# ViT-H/14 needs about 40 times the multiply-adds of ResNet-50. Better hardware does more operations *a second*. It does not change the number of
# operations *an image*. So a fast device does not make a model smaller. (G means $10^9$; FLOPs is a number of operations, and not a speed.) AlexNet has
# more parameters than ResNet-50, and needs fewer operations. So no single number is *the* efficiency [Dehghani et al. 2022].

# %% tags=["claims"]
assert costs["ResNet-50"]["parameters"] == 25_557_032 and costs["ViT-H/14"]["parameters"] > 6e8
assert 35 < costs["ViT-H/14"]["macs"] / costs["ResNet-50"]["macs"] < 45
assert costs["AlexNet"]["parameters"] > costs["ResNet-50"]["parameters"]
assert costs["AlexNet"]["macs"] < costs["ResNet-50"]["macs"] / 4

# %% [markdown]
# ## 9 Going deeper: property 7, integration
#
# *A vision model can be combined with other techniques.* A kind of data, as images, sound or text, is called a **modality** (模态). [Chapter
# 7c](ch07c_learning_from_little.ipynb) joins images with sounds and with sentences. Here are two more questions. Does a second modality help when the
# first one gets worse? And what happens if the second one is *wrong*? Each digit has a noisy image and a noisy sound of two tones. One linear classifier
# gets the image, and another one gets the sound. We add the logarithms of their probabilities. In the control each image gets the sound of another image.

# %%
noises = (0.1, 0.5, 1.0)
fused = {}
for seed in range(3):
    for name, row in experiments.fuse_modalities(noises, sound_noise=4.0, seed=seed).items():
        fused.setdefault(name, []).append(row)
drawings.draw_modalities(plt.figure(figsize=(6.5, 2.6)), noises, fused)

# %% [markdown]
# Both together are better than the image alone and better than the sound alone, at each noise. The gain over the image is largest where the image is
# worst. But a *wrong* sound pulls the accuracy far below that of the image alone. The sum gives both classifiers the same weight, also when the sound is
# wrong. (The sound itself is equally good at each noise of the image, so its help has to be largest where the image is worst.) So integration helps if
# both modalities belong to the same thing, and you have to check that.

# %% tags=["claims"]
fused_means = {name: torch.tensor(rows).mean(0) for name, rows in fused.items()}
assert (fused_means["both"] > fused_means["sound"]).all()
assert (fused_means["both"] > fused_means["image"]).all()
assert (fused_means["both"] - fused_means["image"]).argmax() == len(noises) - 1
assert (fused_means["both, wrong sound"] < fused_means["image"] - 0.1).all()

# %% [markdown]
# ## 10 The thirteen diagrams
#
# §2.2 draws the main techniques as thirteen diagrams. Nearly all of them are chains: each box has one arrow in and one arrow out. The new ideas of these
# networks are the *other* arrows: shortcuts, second inputs, and loops. In each figure the columns on the left are what the book prints, and the right
# column is the corrected drawing. New parts are orange. You need not know all the words in the boxes yet: look at the orange arrows, and come back after
# the chapter that is linked.
#
# **Feature extraction.** *CNN:* a non-linear function belongs between two convolutions; the last layer gives logits, and the features are the input of
# that layer ([chapter 3a](ch03a_convolution_and_pooling.ipynb)). *ResNet:* the shortcut and the addition are missing ([3b](ch03b_resnet.ipynb)). *U-Net:*
# the skip connections are missing; they carry the fine maps across ([3c](ch03c_unet.ipynb)).

# %%
for name in ("CNN", "ResNet", "U-Net"):
    drawings.draw_diagram(plt.figure(figsize=(6.5, 3.4)), diagrams.DIAGRAMS[name])

# %% [markdown]
# **Generation.** *GAN:* the discriminator sees real images too, and the loss changes both networks ([4a](ch04a_gan.ipynb)). *VAE:* between the encoder and
# the decoder, $z$ is drawn at random ([4b](ch04b_vae.ipynb)). *GPT:* the probabilities are the *output* of the model, the attention is masked, and the
# generation is a loop ([4c](ch04c_gpt.ipynb)). The book has no diffusion models: [4d](ch04d_flow_matching.ipynb).

# %%
for name in ("GAN", "VAE", "GPT"):
    drawings.draw_diagram(plt.figure(figsize=(6.5, 3.1)), diagrams.DIAGRAMS[name])

# %% [markdown]
# **Recognition.** *Faster R-CNN:* the heads need the feature map *and* the proposals; RoI align cuts the proposals out of the feature map
# ([5a](ch05a_classification_and_detection.ipynb)).

# %%
drawings.draw_diagram(plt.figure(figsize=(5, 3.4)), diagrams.DIAGRAMS["Faster R-CNN"])

# %% [markdown]
# §2.2 says that recognition is for classes and labels. But the **output** defines a task, and the network of section 5 has several outputs. The last row
# is an **embedding** (嵌入): one vector of features for each image. Retrieval (检索) looks for images with a similar vector: two vectors are similar if their
# cosine (section 5) is near 1. Verification (验证) asks whether two images show the same person ([chapter 6a](ch06a_face_recognition.ipynb)). Which shape
# has the output of each task?

# %%
two = canvases.images[:2]
outputs = packaged.eval()(two)
taxonomy = {
    "classification": ("logits of ten classes", outputs["class"]),
    "localisation, detection": ("corners of a box", outputs["box"]),
    "segmentation": ("a logit for each pixel", outputs["mask"]),
    "retrieval, verification": ("an embedding", packaged.trunk(two).mean((2, 3))),
}
for task, (kind, output) in taxonomy.items():
    print(f"{task:26}{kind:24}{tuple(output.shape[1:])}")

# %% [markdown]
# All four shapes differ: ten logits, four corners, one logit for each pixel, and 32 features. So one trunk serves all four tasks.
#
# ## 11 A map of the companion
#
# The map below is made from the table of chapters. A row is a part of the book. §1.3 announces chapters 3 to 5; the book has their subjects in §2.2.1 to
# §2.2.3.

# %%
parts = experiments.map_companion()
drawings.draw_map(plt.figure(figsize=(7, 3.8)), parts)

# %% tags=["claims"]
assert sum(len(rows) for rows in parts.values()) == 21
assert len({output.shape[1:] for _, output in taxonomy.values()}) == 4

# %% [markdown]
# ## 12 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch02.1")` helps in steps, `solution("ch02.1")` shows one answer.
#
# **1 · Predict.** An error falls as a power law. 50 images give 0.24, and 800 images give 0.06. Which exponent $b$ is this, and which error do you expect
# at 3,200 images?

# %%
prediction = ...  # (b, error)
check("ch02.1", prediction)


# %% [markdown]
# **2 · Build.** Write the cosine of two gradients. Each gradient is a list of tensors, one for each parameter, with equal shapes in both lists. (Join all
# tensors of a list to one long vector first.)

# %%
def cosine_of(first_gradients, second_gradients):  # -> float
    ...


check("ch02.2", cosine_of)


# %% [markdown]
# **3 · Build.** *Gradient surgery* [Yu et al. 2020]: two gradients `a` and `b` have the shape `(N,)`. If their dot product (点积) $a\cdot b$ is negative,
# take away from `a` its part along `b`, which is $\frac{a\cdot b}{b\cdot b}\,b$. Otherwise keep `a`.

# %%
def remove_conflict(a, b):  # -> (N,)
    ...


check("ch02.3", remove_conflict)

# %% [markdown]
# **4 · Train, change, measure.** Augmentation helped on digits that were moved. Does it also help on digits that were *not* moved, if there are only 100
# images to learn from? Train `make_cnn` with `x[:100], y[:100]` and `steps=200`, once without a change and once with `change=experiments.move_a_little`,
# for the seeds 0, 1 and 2 (`experiments.train`, `experiments.make_seeded`). Measure on `x_test, y_test`. The conclusion is `"plain"`, `"moved"` or `"no
# difference"`: two means differ if their distance is larger than the sum of both standard deviations.

# %%
moves = ...  # {"plain": [three accuracies], "moved": [three accuracies], "conclusion": ...}
check("ch02.4", moves)

# %% [markdown]
# ## 13 At full size
#
# With `VLMBOOK_PROFILE=full` there are more seeds, more steps and more canvases. If Fashion-MNIST (70,000 images of clothes) is in the folder of
# `VLMBOOK_DATA`, the power law is fitted on up to 8,000 of its images, and checked at 60,000.

# %% tags=["record"]
fashion = experiments.read_fashion() if runtime.profile() == "full" else None
fashion_row = {}
if fashion is not None:
    first_sizes, plan = (500, 1000, 2000, 4000, 8000), {"seeds": range(3), "steps": 3000}
    curve = experiments.measure_scaling(lambda: make_cnn(14), fashion, first_sizes, **plan)
    line, ends = predict(curve, 8000, 60_000)["network"]
    checked = experiments.measure_scaling(lambda: make_cnn(14), fashion, [60_000], **plan)
    fashion_row = {"fashion": {"predicted": line.predict(60_000), "interval": ends["error"],
                               "measured": checked["network"][60_000]}}
records.record(
    "ch02", seed=[0, 1, 2], errors=scaling, fields=reached.tolist(),
    controls={name: values.tolist() for name, values in by_control.items()},
    exponents={name: ends["exponent"] for name, (_, ends) in predictions.items()},
    predicted={name: ends["error"] for name, (_, ends) in predictions.items()},
    pipelines=pipelines, corrupted=corrupted, probes=probes, cosines=cosines, fused=fused,
    transfer={f"{task} with {other}": found._asdict()
              for (task, other), found in {**together, **few}.items()},
    box_weights=by_weight, rule=by_rule, rotations=rotation_accuracy,
    parameters={name: row["parameters"] for name, row in costs.items()}, **fashion_row,
)
records.show("ch02", "full")

# %% [markdown]
# ## 14 Book check
#
# - **M28 · "成千上万" images** (§2.1). ImageNet has 14.2 million images, COCO 0.33 million, Open Images 9 million. SA-1B and LAION-5B are larger still:
#   section 8.
# - **M29 · "特别是卷积神经网络"** (§2.1). *Large* has to be measured, in parameters, data or compute. Since 2020 most of the large models are Transformers that
#   were pretrained and then adapted: sections 7 and 8.
# - **M30 · Optimised in speed and resources** (§2.1). §7.1 calls the same two points open problems. Fast hardware is no property of a model: section 8.
# - **M31 · Tasks learn from each other** (§2.1). Not in general. In section 5 the box disturbs the class in a short training, and helps a mask with five
#   labels. A negative cosine of the gradients shows a conflict; a cosine near 0 does not exclude that tasks compete.
# - **M32 · "较强的泛化能力"** (§2.1). Name the test images: from the same source, changed, or attacked. Section 6.
# - **I40 · "Visual Large Model"** (§2.1). The usual names are *large vision model* (LVM, 视觉大模型) and *vision foundation model* (视觉基础模型).
# - **I41 · Recognition is for classes and labels** (§2.2). Localisation, detection, segmentation, retrieval and verification belong to recognition too.
#   The output defines the task: section 10.
# - **I63 · End to end as a mark of large models** (§2.1). It is a property of deep learning in general. Large vision models are pretrained, and then
#   adapted: sections 4 and 7.
#
# Other chapters treat the diagrams and sentences of §2.2 on single techniques: I04 in [chapter 3a](ch03a_convolution_and_pooling.ipynb), W13 and M02 in
# [3b](ch03b_resnet.ipynb), W14, W37 and W38 in [3c](ch03c_unet.ipynb), W18 in [4a](ch04a_gan.ipynb), W19 and I07 in [4b](ch04b_vae.ipynb), W16, W17 and
# W39 in [4c](ch04c_gpt.ipynb), M25 in [4d](ch04d_flow_matching.ipynb), W15 and I14 in [5a](ch05a_classification_and_detection.ipynb), I22 in
# [5b](ch05b_attention.ipynb), I61 in [5c](ch05c_distillation.ipynb), I35 in [6a](ch06a_face_recognition.ipynb), and I62 in [chapter
# 1](ch01_from_features_to_networks.ipynb).
#
# ## 15 What we learned
#
# - The error fell with the number of images as a power law. A fit of four sizes predicted the error of about four times as many images, within its
#   interval.
# - For the pairs task the receptive field decided, and not the depth or the number of parameters.
# - End-to-end training needed no rule. A rule with a linear classifier was far better with 100 images.
# - In a short training two tasks on one trunk competed, and the weights of the losses decided which task won. With five labels the second task helped.
# - Augmentation helped against the changes that it contains, and not against others. Pre-training helped a linear probe with few labels. No single number
#   says how efficient a model is. A second modality helped, and a wrong one harmed.
#
# **References.** R. Caruana, *Multitask learning*, Machine Learning 28, 1997 · J. Hestness et al., *Deep learning scaling is predictable, empirically*,
# 2017, arXiv:1712.00409 · B. Efron, R. Tibshirani, *An introduction to the bootstrap*, Chapman & Hall 1993 · T. Standley et al., *Which tasks should be
# learned together in multi-task learning?*, ICML 2020, arXiv:1905.07553 · T. Yu et al., *Gradient surgery for multi-task learning*, NeurIPS 2020,
# arXiv:2001.06782 · I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and harnessing adversarial examples*, ICLR 2015, arXiv:1412.6572 · D. Hendrycks, T.
# Dietterich, *Benchmarking neural network robustness to common corruptions and perturbations*, ICLR 2019, arXiv:1903.12261 · S. Gidaris, P. Singh, N.
# Komodakis, *Unsupervised representation learning by predicting image rotations*, ICLR 2018, arXiv:1803.07728 · R. Bommasani et al., *On the opportunities
# and risks of foundation models*, 2021, arXiv:2108.07258 · M. Dehghani et al., *The efficiency misnomer*, ICLR 2022, arXiv:2110.12894 · sizes of sets: J.
# Deng et al., *ImageNet: a large-scale hierarchical image database*, CVPR 2009 · T.-Y. Lin et al., *Microsoft COCO: common objects in context*, ECCV 2014,
# arXiv:1405.0312 · A. Kuznetsova et al., *The Open Images dataset V4: unified image classification, object detection, and visual relationship detection at
# scale*, International Journal of Computer Vision 128, 2020, arXiv:1811.00982 · A. Kirillov et al., *Segment anything*, ICCV 2023, arXiv:2304.02643 · C.
# Schuhmann et al., *LAION-5B: an open large-scale dataset for training next generation image-text models*, NeurIPS 2022, arXiv:2210.08402 · sizes of
# models: A. Kolesnikov et al., *Big transfer (BiT): general visual representation learning*, ECCV 2020, arXiv:1912.11370 · A. Dosovitskiy et al., *An
# image is worth 16x16 words: transformers for image recognition at scale*, ICLR 2021, arXiv:2010.11929 · A. Radford et al., *Learning transferable visual
# models from natural language supervision*, ICML 2021, arXiv:2103.00020 · K. He et al., *Masked autoencoders are scalable vision learners*, CVPR 2022,
# arXiv:2111.06377 · Z. Liu et al., *A ConvNet for the 2020s*, CVPR 2022, arXiv:2201.03545 · Z. Liu et al., *Swin Transformer V2: scaling up capacity and
# resolution*, CVPR 2022, arXiv:2111.09883 · M. Oquab et al., *DINOv2: learning robust visual features without supervision*, Transactions on Machine
# Learning Research, 2024, arXiv:2304.07193 · M. Dehghani et al., *Scaling vision transformers to 22 billion parameters*, ICML 2023, arXiv:2302.05442 · Y.
# Bai et al., *Sequential modeling enables scalable learning for large vision models*, CVPR 2024, arXiv:2312.00785.
