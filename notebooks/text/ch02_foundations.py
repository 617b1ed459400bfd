# %% [markdown]
# # 2 · Foundations (视觉大模型基础)
#
# *Book: §2.1 视觉大模型的基本概念, §2.2 视觉大模型的主要技术*
#
# **§2.1 lists seven properties of a large vision model: much data, a deep network, end-to-end training, several tasks, generalisation, efficiency, and
# integration. What does each property buy, and when does it buy nothing?**
#
# After this chapter you can
#
# - predict the error for more images *before* you collect them, with an interval,
# - say which depth a task needs, and why,
# - compare end-to-end training with fixed features in a fair experiment,
# - measure whether two tasks help or disturb each other,
# - say under which changes of the images a network fails,
# - correct the thirteen diagrams of the book.
#
# You need these terms from [chapter 1](ch01_from_features_to_networks.ipynb): tensor, batch, logits, loss, gradient, seed, held-out data, baseline,
# interval. Each property is a small experiment with its control. The later chapters treat each technique in full; links stand where you need them.
#
# The core path takes 40 minutes: sections 1 to 6. The other sections go deeper. Run all cells from top to bottom.

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
# Two small sets are used. The **digits** are scanned images of 8×8 pixels with ten classes. A **canvas** (画布) is a digit at some place on a dark square of a
# photograph, 16×16 pixels. It has three kinds of **ground truth** (真实标注): the class, the bounding box (边界框, blue), and the mask (掩码) that says which pixels are ink. Canvases for training and
# for the test share neither a digit nor a photograph.

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
# *More data make a better model.* How much better? For many tasks the error $e$ falls with the number of images $n$ as a **power law** (幂律)
# [Hestness et al. 2017]:
#
# $$e(n)=a\,n^{-b}\qquad\Longleftrightarrow\qquad\log e=\log a-b\log n$$
#
# On logarithmic axes this is a straight line, and $b$ is its slope downwards. An example: 100 images give an error of 0.20, and 400 images give 0.10. Compute $b$ and $a$ by
# hand. What follows for 1,600 images?

# %%
law = multitask.fit_power_law([100, 400], [[0.20], [0.10]])
print(f"b = {law.exponent:.3f}   a = {law.scale:.3f}   error at 1,600: {law.predict(1600):.3f}")
drawings.draw_law(plt.figure(figsize=(5, 2.4)), [100, 400], [0.20, 0.10], 1600)

# %% [markdown]
# Four times as many images give half of the error: $4^{-b}=1/2$, so $b=1/2$. Then $a=0.20\cdot\sqrt{100}=2$, and $e(1600)=2/\sqrt{1600}=0.05$. Each further halving costs four
# times as many images.
#
# With more than two points the line is fitted by least squares (最小二乘) of the logarithms. Now the digits. The network below learns from 40 to 320 images, with several seeds. Each seed has its own test
# images. All runs take the **same number of steps**, so only the number of images changes. The baseline is a linear classifier (logistic regression, 逻辑回归).

# %%
def make_cnn(side=8):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * (side // 2) ** 2, 10),
    )


pool = experiments.read_pool()
seeds = range(runtime.pick(quick=4, full=10))
steps = runtime.pick(quick=200, full=1000)
small_sizes, at = (40, 80, 160, 320), 1400
scaling = experiments.measure_scaling(make_cnn, pool, small_sizes, seeds=seeds, steps=steps)
for name, rows in scaling.items():
    means = {n: round(sum(errors) / len(errors), 3) for n, errors in rows.items()}
    print(f"{name:8} mean error by number of images: {means}")

# %% [markdown]
# We now **predict** the error at 1,400 images, before any network has learned from so many. The interval comes from the **bootstrap** (自助法): draw the runs again with replacement, fit again,
# and repeat this 500 times. The interval assumes that the power law goes on.

# %%
def predict(found, known, target):
    predicted = {}
    for method, errors_by_size in found.items():
        used = {n: errors for n, errors in errors_by_size.items() if n <= known}
        ends = multitask.bootstrap_power_law(list(used), list(used.values()), target)
        predicted[method] = (multitask.fit_power_law(list(used), list(used.values())), ends)
    return predicted


predictions = predict(scaling, 320, at)
for name, (law_of_method, ends) in predictions.items():
    ranges = {what: f"[{low:.3f}, {high:.3f}]" for what, (low, high) in ends.items()}
    print(f"{name:8} exponent {law_of_method.exponent:.3f} {ranges['exponent']}  ",
          f"error at {at}: {law_of_method.predict(at):.3f} {ranges['error']}")

# %% [markdown]
# The predictions stand. Now the check: we train with 1,400 images.

# %%
largest = experiments.measure_scaling(make_cnn, pool, [at], seeds=seeds, steps=steps)
scaling = {name: rows | largest[name] for name, rows in scaling.items()}
picture = plt.figure(figsize=(7, 3))
bars = {name: (line, ends["error"]) for name, (line, ends) in predictions.items()}
drawings.draw_scaling(picture, scaling, bars, 320, at)
records.picture("ch02", picture);

# %% [markdown]
# The open points are the measured errors: both lie inside the predicted intervals (grey bars), a little above the dashed line. The straight line describes the digits well up to four times the largest size of the fit. It says
# nothing about sizes far beyond: every real curve ends at some lowest error, for example because labels are wrong. The two exponents differ. With few images the network is better, and with 1,400 images the linear classifier is at least as good, with these
# 200 steps. So "more data" helps each method by its own exponent, and a simple baseline has to stand beside it.
#
# **How many sizes do you need for a good prediction?** Move the slider: only sizes up to this number are used for the line.

# %%
def use_images(figure, images=160):
    fitted = predict(scaling, images, at)
    shown = {name: (line, ends["error"]) for name, (line, ends) in fitted.items()}
    drawings.draw_scaling(figure, scaling, shown, images, at)


interact.live(use_images, images=[80, 160, 320], figsize=(7, 3))

# %% tags=["claims"]
assert abs(law.exponent - 0.5) < 1e-9 and abs(law.predict(1600) - 0.05) < 1e-9
measured = {name: sum(rows[at]) / len(rows[at]) for name, rows in scaling.items()}
for name, (line_of_method, ends) in predictions.items():
    assert ends["exponent"][0] > 0.1  # more images help
    assert 0.5 < measured[name] / line_of_method.predict(at) < 2
    assert measured[name] < min(sum(rows) / len(rows) for rows in list(scaling[name].values())[:4])

# %% [markdown]
# The book names ImageNet, COCO and Open Images, and says "成千上万" (thousands). Section 8 shows their real sizes.
#
# ## 3 Property 2: a deep network
#
# *A deep network extracts features layer by layer.* What does depth buy? One answer can be computed: the **receptive field** (感受野), the part of the image that one output
# can see. Each 3×3 convolution adds 2 pixels, so $L$ layers see $2L+1$ pixels ([chapter 3a](ch03a_convolution_and_pooling.ipynb)).
#
# The task: two marks lie in one row, $d$ pixels apart. Have they the same colour? A network of $L$ convolutions judges each place by itself, and adds the results. The frames show the fields of 1, 2 and 3 layers.
# Which depth does the task need?

# %%
pairs, same = experiments.draw_pairs(200, 6, seed=3)
drawings.draw_windows(plt.figure(figsize=(7, 1.2)), pairs[:4], same[:4], (3, 5, 7))
plain_net = experiments.LocalNet(3)
print("receptive field of three layers:", convolution.receptive_field(plain_net.convs))

# %% [markdown]
# To compare two marks, *one* place must see both of them, so $2L+1>d$. A network with a smaller field adds the effect of the left mark and the effect of the right mark. A sum of two effects can be right in
# three of the four cases at best, so the accuracy stays at or below 75 %. We train one network for each depth and distance. The orange stairs are the prediction.

# %%
depths, distances = (1, 2, 3), (2, 4, 6)
pair_steps = runtime.pick(quick=200, full=1000)
reached = experiments.measure_fields(depths, distances, steps=pair_steps)
drawings.draw_fields(plt.figure(figsize=(5.5, 2.5)), reached, depths, distances)

# %% [markdown]
# The accuracy jumps where the field is large enough. But is depth the cause, or the number of parameters, or the field? Three **controls** answer for the distance 6. Each of them changes one thing.

# %%
controls = {  # name: (layers, kernel, width)
    "3 layers 3×3": (3, 3, 8),
    "3 layers 1×1": (3, 1, 8),
    "2 layers 3×3, wide": (2, 3, 11),
    "1 layer 7×7": (1, 7, 8),
}
by_control = {}
for name, (depth, kernel, width) in controls.items():
    options = {"kernel": kernel, "width": width}
    by_control[name] = experiments.measure_fields([depth], [6], steps=pair_steps, **options).item()
    net = experiments.LocalNet(depth, **options)
    numbers = sum(p.numel() for p in net.parameters())
    print(f"{name:20} field {convolution.receptive_field(net.convs)}  {numbers:5} parameters",
          f" accuracy {by_control[name]:.2f}")

# %% [markdown]
# The network with 1×1 kernels is as deep, and fails. The wide network has about as many parameters as the first one, and fails. One layer with a 7×7 kernel is not deep at all, and succeeds. So for this task **the receptive field decides**, and depth is one way to a
# large field. It is a cheap way: the field grows with each layer, and each layer adds few parameters. What else depth buys is no question of the field: later layers combine the features of earlier ones.
#
# This is not the whole story. Deeper is not always better: [chapter 3b](ch03b_resnet.ipynb) shows that plain networks become *worse* with depth, and how the residual block (残差块) repairs this.

# %% tags=["claims"]
for row, depth_of_row in enumerate(depths):
    for column, distance in enumerate(distances):
        value = reached[row, column]
        assert value > 0.9 if 2 * depth_of_row + 1 > distance else value < 0.8
assert by_control["1 layer 7×7"] > 0.9 and by_control["3 layers 3×3"] > 0.9
assert max(by_control["3 layers 1×1"], by_control["2 layers 3×3, wide"]) < 0.8

# %% [markdown]
# ## 4 Property 3: end to end
#
# *End-to-end training needs no hand-made features, and is better.* **End to end** (端到端) means: the gradient changes all layers, from the pixels to the class. The alternative is fixed features and a classifier on
# top. Four methods get the same canvases:
#
# - a linear classifier on the pixels, and one on **HOG** (方向梯度直方图, chapter 1),
# - a network whose convolutions stay **as they were drawn at random**; only its last layer learns,
# - the same network **end to end**: same initial weights, same images, same steps.
#
# Who wins with 100 images, and who with 1,000?

# %%
pipelines = experiments.compare_pipelines(
    canvases, tests, (100, 1000), steps=runtime.pick(quick=150, full=1000), seeds=(0, 1, 2)
)
drawings.draw_curves(
    plt.figure(figsize=(5.5, 3)), {"digits on a canvas": pipelines}, "images to learn from"
)

# %% [markdown]
# End to end is best at both sizes, and by far at 1,000. The two networks differ only in one point: whether the trunk learns. So here the learned trunk is the cause. HOG and the pixels have a fixed place for each number, and the digits move, so they get far less. This is no law: [chapter
# 1](ch01_from_features_to_networks.ipynb) compares the same kinds of methods on neat, centred digits, and there HOG with a linear classifier is as good as the networks. End-to-end training buys most where nobody knows the right features.

# %% tags=["claims"]
final = {name: torch.tensor(rows[1000]) for name, rows in pipelines.items()}
assert final["end to end"].min() > final["fixed trunk"].max() + 0.2
assert final["end to end"].mean() > final["HOG, linear"].mean() + 0.1
assert final["end to end"].mean() > torch.tensor(pipelines["end to end"][100]).mean() + 0.1

# %% [markdown]
# ## 5 Property 4: several tasks
#
# *Several tasks learn from each other.* **Multi-task learning** (多任务学习) [Caruana 1997] uses one **trunk** (共享主干) for all tasks, and a small **head** (任务头) for each task. Here is the network. It names the digit,
# finds its box, and marks its pixels.

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
maps, packaged_outputs = trunk(canvases.images[:5]), packaged(canvases.images[:5])
torch.testing.assert_close(name_class(maps), packaged_outputs["class"])
print("box head:", tuple(find_box(maps).shape), " mask head:", tuple(mark_pixels(maps).shape))
drawings.draw_heads(plt.figure(figsize=(6.5, 2.2)), packaged, canvases.images)

# %% [markdown]
# The loss is a sum over the tasks. Each loss is divided by the loss of the best constant answer, so that each task counts the same:
#
# $$L(\theta)=\sum_t\frac{L_t(\theta)}{L_t^{\text{constant}}}$$
#
# **Do two tasks pull in the same direction?** One step of gradient descent changes the trunk against $\nabla L_1+\nabla L_2$. The **cosine** (余弦) of the two gradients
#
# $$\cos(\nabla L_1,\nabla L_2)=\frac{\nabla L_1\cdot\nabla L_2}{\|\nabla L_1\|\,\|\nabla L_2\|}$$
#
# is below 0 if a small step for one task raises the loss of the other. Compute it for $(3,4)$ and $(4,3)$, for $(3,4)$ and $(-4,3)$, and for $(3,4)$ and $(-4.8,1.4)$.

# %%
vector_pairs = [((3.0, 4.0), (4.0, 3.0)), ((3.0, 4.0), (-4.0, 3.0)), ((3.0, 4.0), (-4.8, 1.4))]
drawings.draw_gradients(plt.figure(figsize=(6.5, 1.9)), vector_pairs)
theta = nn.Parameter(torch.zeros(2))
for first, second in vector_pairs:
    one, two = (theta @ torch.tensor(vector) for vector in (first, second))  # gradients as given
    print(f"{first} and {second}: cosine {multitask.gradient_cosine(one, two, [theta]):+.2f}")
opposed = [(theta.sum() - target) ** 2 for target in (1.0, -1.0)]  # one wants +1, the other −1
opposed_cosine = multitask.gradient_cosine(*opposed, [theta])
print(f"two opposed targets: cosine {opposed_cosine:+.2f}")

# %% [markdown]
# $(12+12)/25=0.96$, then $(-12+12)/25=0$, and $(-14.4+5.6)/25=-0.35$. Two opposed targets have the cosine −1: no shared $\theta$ can satisfy both.
#
# Now the three tasks on the canvases. Each task is trained alone, and with each of the others. All networks of a seed begin with the same trunk, and see the same images in the same order. Does the second task help?

# %%
single = [["class"], ["box"], ["mask"]]
double = [["class", "box"], ["class", "mask"], ["box", "mask"]]
task_steps = runtime.pick(quick=150, full=1500)
together, cosines = experiments.measure_transfer(
    canvases, tests, single + double, steps=task_steps, seeds=(0, 1, 2)
)
drawings.draw_transfer(plt.figure(figsize=(6, 2.6)), together)
for tasks, measures in together.items():
    means = {name: round(sum(values) / len(values), 3) for name, values in measures.items()}
    print(f"{' + '.join(tasks):14}", means)
print("mean cosine:", {name: [round(c, 2) for c in values] for name, values in cosines.items()})

# %% [markdown]
# TODO
#
# And if one task has **few labels**? Now only 100 canvases have a class. All canvases have a mask and a box.

# %%
few, _ = experiments.measure_transfer(
    canvases, tests, [["class"], ["class", "mask"], ["class", "box"]],
    steps=task_steps, seeds=(0, 1, 2), labelled={"class": 100},
)
for tasks, measures in few.items():
    values = torch.tensor(measures["class"])
    print(f"100 classes, trained with {' + '.join(tasks):13} accuracy {values.mean():.3f}",
          f"± {values.std():.3f}")

# %% [markdown]
# TODO

# %% tags=["claims"]
assert abs(opposed_cosine + 1) < 1e-6

# %% [markdown]
# ## 6 Property 5: generalisation
#
# *A large model generalises well.* **Generalisation** (泛化) is a statement about *which* images. Test images from the same source as the training images are one case. Shifted, rotated and noisy images are another. **FGSM** (快速梯度符号法)
# [Goodfellow et al. 2015] is an attack: it changes each pixel by at most $\varepsilon$, in the direction in which the loss grows:
#
# $$x'=x+\varepsilon\cdot\text{sign}\left(\frac{\partial L}{\partial x}\right)$$
#
# Its control changes each pixel by the same $\varepsilon$, with **random signs**. We compare the network, the same network with moved images in the training (shifts by up to 2 pixels, rotations by up to 30°), and a linear classifier. Which change is the worst?

# %%
rivals = experiments.train_rivals(
    make_cnn, steps=runtime.pick(quick=300, full=2000), seeds=(0, 1, 2)
)
corrupted = experiments.measure_corruptions(rivals)
levels = {name: values for name, (_, values) in experiments.CORRUPTIONS.items()}
examples = {
    name: [experiments.corrupt(name, v, rivals["network"][0], x_test[3:4], y_test[3:4])[0]
           for v in values]
    for name, values in levels.items()
}
drawings.draw_corruptions(plt.figure(figsize=(8, 3.2)), examples, levels, corrupted)

# %% [markdown]
# TODO
#
# Choose a corruption (图像损坏) and a severity. The title of an image is *label → answer of the network*; orange answers are wrong.

# %%
def show_corruption(figure, corruption="FGSM", level=2):
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


assert mean_of("FGSM", "network", 0) > 0.95
assert mean_of("FGSM", "network", 2) < mean_of("random signs", "network", 2) - 0.2
assert mean_of("rotation, degrees", "network", 3) < mean_of("rotation, degrees", "network", 0) - 0.2
moved_gain = [mean_of(name, "network, moved images", 2) - mean_of(name, "network", 2)
              for name in ("shift, pixels", "rotation, degrees")]
assert min(moved_gain) > 0.05

# %% [markdown]
# ## 7 Pre-train, then adapt
#
# End-to-end training is a property of nearly all deep learning. What marks a large vision model is another thing: **pre-training** (预训练) on much data, often without labels, and then **adaptation** (适配) to a
# task with few labels. A model of this kind is called a **foundation model** (基础模型) [Bommasani et al. 2021].
#
# Two experiments. *Left:* a network names by which of four angles a digit was turned; no label of a digit is needed ([chapter 7c](ch07c_learning_from_little.ipynb)). Then a linear classifier learns from $K$ labels of each digit. *Right:*
# EfficientNet-Lite0 was trained on 1.3 million photographs (ImageNet). A linear classifier uses its features for digits on a canvas, which are no photographs. (Without the extra `pretrained` this curve is missing.) The control is a network that is trained from nothing with the same $K$ labels.

# %%
from vlmbook.pretrained import WeightsMissing, efficientnet_lite0

try:
    imagenet = efficientnet_lite0()
except WeightsMissing as missing:
    imagenet = None
    print(missing, "(the chapter goes on without these weights)")
rotation_net, _ = train_rotations(x, epochs=runtime.pick(quick=4, full=20))
small = experiments.Canvases(canvases.images[:300], {k: v[:300] for k, v in canvases.truth.items()})
shots, draws = (1, 5, 20), runtime.pick(quick=3, full=10)
probes = {
    "digits": experiments.probe_labels(rotation_net, shots, draws=draws, steps=60),
    "digits on a canvas": experiments.probe_canvases(
        imagenet, small, tests, shots, draws=draws, steps=60
    ),
}
drawings.draw_curves(plt.figure(figsize=(7, 2.9)), probes, "labels of each digit")

# %% [markdown]
# TODO

# %% tags=["claims"]
at_five = {name: torch.tensor(rows[5]).mean() for name, rows in probes["digits"].items()}
assert at_five["rotations, linear"] > at_five["from nothing"]

# %% [markdown]
# ## 8 How large is large, and property 6: efficiency
#
# §2.1 gives no measure of *large*. Three measures are in use: parameters, images of the pre-training, and compute. On the left: data sets, with what "成千上万" (thousands) would be in orange. On the right: models.
# (The sizes of models and sets are cited, see `experiments.KNOWN` and `experiments.SETS`; AlexNet, ResNet-50 and ViT-H are counted below.)

# %%
costs = experiments.count_large()
known_models = experiments.place_known(costs)
drawings.draw_sizes(plt.figure(figsize=(7.5, 3.2)), known_models, experiments.SETS)

# %% [markdown]
# The sets have between 330,000 and 5.85 billion images. The models have up to 22 billion parameters. Most of the large ones are Transformers ([chapter 5b](ch05b_attention.ipynb)), and not CNNs. MAE shows that the three measures differ: a large model, pre-trained on 1.3
# million images.
#
# *Large models are efficient.* What does one image cost? We count on the **meta device** (元设备), where tensors have a shape and no values. No weight is downloaded. [Chapter 7a](ch07a_efficiency.ipynb) explains each column.

# %%
drawings.draw_costs(plt.figure(figsize=(7.5, 2.5)), costs)
times = experiments.time_models(["AlexNet", "ResNet-50"], repeats=runtime.pick(quick=3, full=20))
for name, seconds in times.items():
    speed = 2 * costs[name]["macs"] / seconds / 1e9
    print(f"{name:10} {1000 * seconds:6.0f} ms an image on this computer, one thread"
          f" ({speed:.0f} GFLOPs/s), {costs[name]['weights'] / 1e6:.0f} MB of weights")

# %% [markdown]
# ViT-H/14 needs about 40 times the multiply-adds of ResNet-50. Better hardware raises the number of operations *a second*. It does not lower the operations *an image*, and a new model uses the new hardware up. So speed on a device and cost of a model
# are two statements [Dehghani et al. 2022]. AlexNet has more parameters than ResNet-50, and fewer operations: no single number is *the* efficiency.

# %% tags=["claims"]
assert costs["ResNet-50"]["parameters"] == 25_557_032 and costs["ViT-H/14"]["parameters"] > 6e8
assert costs["ViT-H/14"]["macs"] > 20 * costs["ResNet-50"]["macs"]
assert costs["AlexNet"]["parameters"] > costs["ResNet-50"]["parameters"]
assert costs["AlexNet"]["macs"] < costs["ResNet-50"]["macs"] / 4
assert all(images > 1e5 for name, images, _ in experiments.SETS if "digits" not in name)
largest_models = sorted(known_models, key=lambda row: row[2])[-5:]
assert sum(row[1] == "Transformer" for row in largest_models) >= 4

# %% [markdown]
# ## 9 Going deeper: property 7, integration
#
# *A vision model can be combined with other techniques.* [Chapter 7c](ch07c_learning_from_little.ipynb) joins images with sounds and with sentences. Here is one more question: what does a second **modality** (模态) buy when the first one gets worse, and what if it is *wrong*? Each digit has a noisy image and a
# noisy sound of two tones. Two linear classifiers give log-probabilities, and we add them. In the control each image gets the sound of another image.

# %%
noises = (0.1, 0.5, 1.0)
fused = {}
for seed in range(3):
    for name, row in experiments.fuse_modalities(noises, sound_noise=4.0, seed=seed).items():
        fused.setdefault(name, []).append(row)
drawings.draw_modalities(plt.figure(figsize=(6.5, 2.6)), noises, fused)

# %% [markdown]
# TODO

# %% tags=["claims"]
fused_means = {name: torch.tensor(rows).mean(0) for name, rows in fused.items()}
assert (fused_means["both"] > fused_means["sound"]).all()
assert (fused_means["both"][1:] > fused_means["image"][1:]).all()
assert (fused_means["both, wrong sound"] < fused_means["image"]).all()

# %% [markdown]
# ## 10 The thirteen diagrams
#
# §2.2 draws the main techniques as diagrams, thirteen in all. Nearly all of them are chains: each box has one arrow in and one arrow out. But the ideas of these networks are in the *other* arrows. On the left of each figure is what the book prints, on the right the corrected drawing; what is new is orange.
#
# **Feature extraction.** *CNN:* a non-linear function belongs between convolutions; the last layer gives logits, and the features are before it ([chapter 3a](ch03a_convolution_and_pooling.ipynb)). *ResNet:* the shortcut and the addition
# ([3b](ch03b_resnet.ipynb)). *U-Net:* the skip connections, which carry the fine maps across ([3c](ch03c_unet.ipynb)).

# %%
for name in ("CNN", "ResNet", "U-Net"):
    drawings.draw_diagram(plt.figure(figsize=(6.5, 3.4)), diagrams.DIAGRAMS[name])

# %% [markdown]
# **Generation.** *GAN:* the discriminator also sees real images, and both networks are changed by the loss ([4a](ch04a_gan.ipynb)). *VAE:* a random $\varepsilon$ and the latent variable $z$ stand between encoder and decoder
# ([4b](ch04b_vae.ipynb)). *GPT:* the probabilities are the *output* of the model, the attention is masked, and generation is a loop ([4c](ch04c_gpt.ipynb)). The diffusion models are missing in the book: [4d](ch04d_flow_matching.ipynb).

# %%
for name in ("GAN", "VAE", "GPT"):
    drawings.draw_diagram(plt.figure(figsize=(6.5, 3.1)), diagrams.DIAGRAMS[name])

# %% [markdown]
# **Recognition.** *Faster R-CNN:* the heads need the feature map *and* the proposals; RoI align cuts one out of the other ([5a](ch05a_classification_and_detection.ipynb)).

# %%
drawings.draw_diagram(plt.figure(figsize=(5, 3.4)), diagrams.DIAGRAMS["Faster R-CNN"])

# %% [markdown]
# §2.2 says that recognition is for classes and labels. The network of section 5 shows that a task is defined by its **output**. The embedding (嵌入) in the last row is the mean feature vector; it is used for retrieval (检索) and verification
# (验证, [chapter 6a](ch06a_face_recognition.ipynb)).

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
# ## 11 A map of the companion
#
# The map is made from the table of chapters. A row is a part of the book. Chapters 3 to 5 are announced in §1.3 and stand as §2.2.1 to §2.2.3 in the book.

# %%
parts = experiments.map_companion()
drawings.draw_map(plt.figure(figsize=(7, 3.8)), parts)

# %% tags=["claims"]
assert sum(len(rows) for rows in parts.values()) == 21 and len(diagrams.DIAGRAMS) == 7
assert sum(len(diagram.printed) for diagram in diagrams.DIAGRAMS.values()) == 13
assert len({output.shape[1:] for _, output in taxonomy.values()}) == 4

# %% [markdown]
# ## 12 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch02.1")` helps in steps, `solution("ch02.1")` shows one answer.
#
# **1 · Predict.** An error falls as a power law. 50 images give 0.24, and 800 images give 0.06. Which exponent $b$ is this, and which error do you expect at 3,200 images?

# %%
prediction = ...  # (b, error)
check("ch02.1", prediction)


# %% [markdown]
# **2 · Build.** Write the cosine of two gradients. Each gradient is a list of tensors, one for each parameter, with equal shapes in both lists.

# %%
def cosine_of(first_gradients, second_gradients):  # -> float
    ...


check("ch02.2", cosine_of)


# %% [markdown]
# **3 · Build.** *Gradient surgery* [Yu et al. 2020]: if the product of two gradients `a` and `b`, both `(N,)`, is negative, take away from `a` its part along `b`. Otherwise keep `a`.

# %%
def remove_conflict(a, b):  # -> (N,)
    ...


check("ch02.3", remove_conflict)

# %% [markdown]
# **4 · Train, change, measure.** Moved images helped against movement. Do they also help on digits that were *not* moved, if there are only 100 images to learn from? Train `make_cnn` with `x[:100], y[:100]` and `steps=200`, once without a change and once with
# `change=experiments.move_a_little`, for seeds 0, 1 and 2 (`experiments.train`, `experiments.make_seeded`). Measure on `x_test, y_test`. The conclusion is `"plain"`, `"moved"` or `"no difference"`: two means differ if their distance is larger than the sum of both standard deviations.

# %%
moves = ...  # {"plain": [three accuracies], "moved": [three accuracies], "conclusion": ...}
check("ch02.4", moves)

# %% [markdown]
# ## 13 At full size
#
# With `VLMBOOK_PROFILE=full` there are more seeds, more steps and more canvases. If Fashion-MNIST (70,000 images of clothes) is in the folder of `VLMBOOK_DATA`, the power law is fitted on up to 8,000 of its images, and checked at 60,000.

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
    "ch02", seed=[0, 1, 2], errors=scaling, fields=reached.tolist(), controls=by_control,
    exponents={name: ends["exponent"] for name, (_, ends) in predictions.items()},
    predicted={name: ends["error"] for name, (_, ends) in predictions.items()},
    pipelines=pipelines, corrupted=corrupted, probes=probes, cosines=cosines, fused=fused,
    tasks={" and ".join(tasks): measures for tasks, measures in together.items()},
    few_labels={" and ".join(tasks): measures for tasks, measures in few.items()},
    parameters={name: row["parameters"] for name, row in costs.items()}, **fashion_row,
)
records.show("ch02", "full")

# %% [markdown]
# ## 14 Book check
#
# - **M28 · "成千上万" images** (§2.1). ImageNet has 14.2 million images, COCO 0.33 million, Open Images 9 million. SA-1B and LAION-5B are larger still: section 8.
# - **M29 · "特别是卷积神经网络"** (§2.1). *Large* has to be measured, in parameters, data or compute. Since 2020 most of the large models are Transformers that were pre-trained and then adapted: sections 7 and 8.
# - **M30 · Optimised in speed and resources** (§2.1). §7.1 calls the same two points open problems. Fast hardware is no property of a model: section 8.
# - **M31 · Tasks learn from each other** (§2.1). Not in general. Where the cosine of the gradients is negative, a step for one task harms the other: section 5.
# - **M32 · "较强的泛化能力"** (§2.1). A statement needs its test distribution: as trained, shifted, or attacked. Section 6.
# - **I40 · "Visual Large Model"** (§2.1). The usual names are *large vision model* (LVM, 视觉大模型) and *vision foundation model* (视觉基础模型).
# - **I41 · Recognition is for classes and labels** (§2.2). Localisation, detection, segmentation, retrieval and verification belong to it. The output defines the task: section 10.
# - **I63 · End to end as a mark of large models** (§2.1). It is a property of deep learning. Large vision models are pre-trained, and then adapted: sections 4 and 7.
#
# The diagrams and sentences of §2.2 on single techniques are treated where the technique is: I04 in chapter 3a, W13 and M02 in 3b, W14, W37 and W38 in 3c, W18 in 4a, W19 and I07 in 4b, W16, W17 and W39 in 4c, M25 in 4d, W15 and I14 in 5a, I22 in 5b.
#
# ## 15 What we learned
#
# TODO
#
# **References.** R. Caruana, *Multitask learning*, Machine Learning 28, 1997 · J. Hestness et al., *Deep learning scaling is predictable, empirically*, 2017, arXiv:1712.00409 · B. Efron, R. Tibshirani, *An introduction to the bootstrap*,
# Chapman & Hall 1993 · T. Standley et al., *Which tasks should be learned together in multi-task learning?*, ICML 2020, arXiv:1905.07553 · T. Yu et al., *Gradient surgery for multi-task learning*, NeurIPS 2020, arXiv:2001.06782 ·
# I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and harnessing adversarial examples*, ICLR 2015, arXiv:1412.6572 · D. Hendrycks, T. Dietterich, *Benchmarking neural network robustness to common corruptions and perturbations*, ICLR 2019,
# arXiv:1903.12261 · S. Gidaris, P. Singh, N. Komodakis, *Unsupervised representation learning by predicting image rotations*, ICLR 2018, arXiv:1803.07728 · R. Bommasani et al., *On the opportunities and risks of foundation models*, 2021,
# arXiv:2108.07258 · M. Dehghani et al., *The efficiency misnomer*, ICLR 2022, arXiv:2110.12894 · sizes of sets: J. Deng et al., *ImageNet*, CVPR 2009 · T.-Y. Lin et al., *Microsoft COCO*, ECCV 2014, arXiv:1405.0312 · A. Kuznetsova et al., *The
# Open Images dataset V4*, IJCV 128, 2020, arXiv:1811.00982 · A. Kirillov et al., *Segment anything*, ICCV 2023, arXiv:2304.02643 · C. Schuhmann et al., *LAION-5B*, NeurIPS 2022, arXiv:2210.08402 · sizes of models: A. Kolesnikov et al., *Big
# transfer (BiT)*, ECCV 2020, arXiv:1912.11370 · A. Dosovitskiy et al., *An image is worth 16x16 words*, ICLR 2021, arXiv:2010.11929 · A. Radford et al., *CLIP*, ICML 2021, arXiv:2103.00020 · K. He et al., *Masked autoencoders are scalable vision
# learners*, CVPR 2022, arXiv:2111.06377 · Z. Liu et al., *A ConvNet for the 2020s*, CVPR 2022, arXiv:2201.03545 · Z. Liu et al., *Swin Transformer V2*, CVPR 2022, arXiv:2111.09883 · M. Oquab et al., *DINOv2*, 2023, arXiv:2304.07193 · M.
# Dehghani et al., *Scaling vision transformers to 22 billion parameters*, ICML 2023, arXiv:2302.05442 · Y. Bai et al., *Sequential modeling enables scalable learning for large vision models*, CVPR 2024, arXiv:2312.00785.
