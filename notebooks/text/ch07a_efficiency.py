# %% [markdown]
# # 7a · Efficiency (计算效率)
#
# *Book: §7.1 (1), (4) and §7.2 (5), 视觉大模型面临的挑战与发展方向*
#
# **A network is accurate, but it is too large or too slow for the device. What does the network cost, and which change makes it cheaper: fewer bits, fewer
# weights, or other layers?**
#
# After this chapter you can
#
# - count the parameters, the multiply-adds and the training memory of a network before you build it,
# - say whether a layer waits for arithmetic or for memory,
# - quantise weights to 8 bits by hand, and say how large the error can be,
# - prune a network in two ways, and say which of them makes it faster,
# - measure latency with percentiles, and test whether a classifier keeps up with a camera.
#
# You need these terms: convolution ([chapter 3a](ch03a_convolution_and_pooling.ipynb)), residual network and batch normalisation ([chapter
# 3b](ch03b_resnet.ipynb)), knowledge distillation ([chapter 5c](ch05c_distillation.ipynb)), EfficientNet ([chapter
# 6b](ch06b_image_generation_and_editing.ipynb), section 6).
#
# The core path takes 40 minutes: sections 1 to 7. The other sections go deeper. Run all cells from top to bottom. All times are measured on the computer that runs the
# notebook, and differ on yours.

# %% tags=["record"]
import matplotlib.pyplot as plt
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import compression, data, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch07a import experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)  # so that the times are those of one thread
plot.use_style()
records.published("ch07a")
published = records.RESULTS / "ch07a.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)])

# %% [markdown]
# ## 1 The data, looked at
#
# Two sets of images are used. The 8×8 digits train a small network here: ResNet-20 of chapter 3b. For EfficientNet-Lite0 we cut squares from the bundled
# photographs. The squares have no labels: most of the photographs (a brick wall, a page of text) show nothing of ImageNet's 1,000 classes.

# %%
digits = experiments.read_digits()
x, y, x_test, y_test = digits
crops = experiments.cut_crops(runtime.pick(quick=4, full=20))
calibration, crops_test = crops[::4], crops[1::2]
plot.gallery(list(data.digits("test")[0][:8]), y_test[:8].tolist())
plot.gallery([(128 * crop + 127) / 255 for crop in crops_test[4:24:3]])

# %% [markdown]
# ## 2 Count the operations
#
# A convolution (卷积) does the same small calculation at each position of its output: it multiplies weights with inputs, and adds the products. One
# **multiply-add** (乘加) is one multiplication and one addition, so it is two **FLOPs** (浮点运算次数). How many multiply-adds has the convolution in the
# drawing? It has a 3×3 kernel, 2 input channels and 4 output channels. The output has 4×5 positions.

# %%
drawings.draw_window(plt.figure(figsize=(7, 3)))

# %% [markdown]
# One output needs $3\cdot3\cdot2=18$ multiply-adds. There are $4\cdot4\cdot5=80$ outputs, so the sum is 1,440. With a kernel $k$, $C$ input channels, $D$ output
# channels, $H\times W$ outputs and $g$ groups the formula is
#
# $$\text{multiply-adds}=k^2\cdot\frac Cg\cdot D\cdot H\cdot W$$
#
# The formula has to agree with a loop that counts, with a **hook** (钩子, a function that PyTorch calls after a layer), and with PyTorch's own counter.

# %%
from torch.utils.flop_counter import FlopCounterMode

image, weight = torch.rand(2, 6, 7), torch.rand(4, 2, 3, 3)
output, counted = torch.zeros(4, 4, 5), 0
for d in range(4):
    for i in range(4):
        for j in range(5):
            for c in range(2):
                for u in range(3):
                    for v in range(3):
                        output[d, i, j] += weight[d, c, u, v] * image[c, i + u, j + v]
                        counted += 1
assert_close(output, F.conv2d(image[None], weight)[0])
layer = nn.Conv2d(2, 4, 3, bias=False)
seen = {}
handle = layer.register_forward_hook(
    lambda module, *rest: seen.update(macs=module.weight.numel() * 4 * 5)
)
with FlopCounterMode(display=False) as counter:
    layer(image[None])
handle.remove()
formula = compression.window_macs(2, 4, 3, 4, 5)
print("loop", counted, "· formula", formula, "· hook", seen["macs"])
print("PyTorch's FLOPs", counter.get_total_flops())

# %% [markdown]
# PyTorch counts 2,880 FLOPs, which is $2\cdot1440$. Papers often write "FLOPs" for multiply-adds: ask which of them is meant. The function `count_layers`
# counts the multiply-adds of each layer with hooks.
#
# We create the network on the **meta device** (元设备): its tensors have a shape and no values. So we can count VGG-16 without 553 MB of memory. In which of
# its layers are the parameters, and in which are the multiply-adds?

# %%
with torch.device("meta"):
    vgg, photograph_shape = torchvision.models.vgg16(), torch.empty(1, 3, 224, 224)
vgg_layers = compression.count_layers(vgg, photograph_shape)
linear_parameters = sum(cost.parameters for cost in vgg_layers if cost.kind == "Linear")
linear_macs = sum(cost.macs for cost in vgg_layers if cost.kind == "Linear")
parameters, macs = (
    sum(cost.parameters for cost in vgg_layers),
    sum(cost.macs for cost in vgg_layers),
)
drawings.draw_layers(plt.figure(figsize=(7, 3)), vgg_layers, "VGG-16, one image of 224×224")
print(
    f"linear layers: {linear_parameters / parameters:.0%} of {parameters / 1e6:.1f} M parameters, "
    f"{linear_macs / macs:.1%} of {macs / 1e9:.2f} G multiply-adds"
)

# %% [markdown]
# The parameters are in the linear layers, and the multiply-adds are in the convolutions. A weight of a linear layer acts once for an image, and a weight of a
# convolution acts at each position. **So the number of parameters says how large the file is, and not how long the network computes.**

# %% tags=["claims"]
assert counted == formula == seen["macs"] == counter.get_total_flops() // 2 == 1440
assert linear_parameters / parameters > 0.85 and linear_macs / macs < 0.02
assert compression.count_parameters(vgg) == parameters

# %% [markdown]
# ### How large are "large" models?
#
# §7.1 speaks of "数百万甚至数亿个参数" (millions, even hundreds of millions of parameters). We count models on the meta device (full dots; all but LeNet-5 are
# torchvision's), and add published sizes (open dots; the sources are in the references). Are the largest models in the book's range?

# %%
sizes = experiments.count_sizes()
drawings.draw_sizes(plt.figure(figsize=(7, 3.4)), sizes)

# %% [markdown]
# No. ResNet-50 of 2015 is in the middle of this range, and ViT-22B has 22 billion (220 亿) parameters. The axis is logarithmic: each label of the axis is
# ten times the label below it.
#
# ### The memory of training
#
# Training needs more memory than the weights. With Adam in float32 each parameter needs 16 bytes: weight, gradient and two running means, 4 bytes each. In addition
# the forward pass (前向传播) **saves activations** (激活值) for the backward pass. PyTorch tells us which tensors it saves. The table lists the models of the book, and
# three of torchvision.

# %%
models = experiments.count_models()
print(f"{'':27}{'parameters':>12}{'multiply-adds':>15}{'16 B/param.':>13}{'saved/image':>13}")
for name, row in models.items():
    print(
        f"{name:27}{row['parameters'] / 1e6:10.2f} M{row['macs'] / 1e9:13.3f} G"
        f"{row['state'] / 1e6:10.1f} MB{row['saved'] / 1e6:10.1f} MB"
    )

# %% [markdown]
# The first memory column does not depend on the batch. The second one is for one image. We compute the memory for a batch from it: a batch of 32 needs 32
# times as much. For ResNet-50 the saved activations of such a batch are several times larger than weights, gradients and Adam's means together. Section 3
# has a slider for the batch size.

# %% tags=["claims"]
resnet = models["ResNet-50 (3b)"]
assert 32 * resnet["saved"] > 4 * resnet["state"]
assert resnet["state"] == 16 * 25_557_032 and sizes["ResNet-50"][1] == 25_557_032
assert max(size for _, size, _ in sizes.values()) > 20 * 1e9 > 1e9 > sizes["ViT-H/14"][1] > 6e8
assert models["EfficientNet-Lite0 (6b)"]["macs"] < resnet["macs"] / 8

# %% [markdown]
# ## 3 From operations to time: the roofline
#
# A computer has two limits. It can do at most $P$ FLOPs a second (the **peak**, 峰值算力). It can move at most $B$ bytes a second between memory and processor
# (the **bandwidth**, 带宽). A layer with $F$ FLOPs that moves $Q$ bytes needs at least
#
# $$t\ \ge\ \max\left(\frac FP,\ \frac QB\right)\qquad\text{so it reaches at most}\qquad \frac Ft\ \le\ \min\left(P,\ \frac FQ\cdot B\right)$$
#
# FLOPs a second. $F/Q$ is the **arithmetic intensity** (计算强度) of the layer. The limit as a function of the intensity has the shape of a roof. It is called
# the **roofline** (屋顶线模型) [Williams et al. 2009]. An example: a linear layer from $C$ to $D$ numbers has $2CD$ FLOPs for one image, and has to read its
# $4CD$ bytes of weights, so its intensity is about 0.5. Another example: $P=100$ GFLOPs a second, $B=20$ GB a second. A layer has an intensity of 2 FLOPs
# for each byte. It reaches at most $\min(100,\ 2\cdot20)=40$ GFLOPs a second. From an intensity of $100/20=5$ on, the arithmetic is the limit.
#
# We measure the peak by products of matrices of growing size, and the bandwidth by copies of a small and a large tensor.

# %%
for side in (64, 256, 512):
    cache = compression.measure_machine(side=side, megabytes=1, repeats=40)
    print(f"matrices of {side:4}×{side:<4}: {cache.peak / 1e9:7.1f} GFLOPs/s")
memory = compression.measure_machine(side=512, megabytes=128)
print(f"copies of   1 MB: {cache.bandwidth / 1e9:6.1f} GB/s")
print(f"copies of 128 MB: {memory.bandwidth / 1e9:6.1f} GB/s")
layers = experiments.place_layers(memory)
drawings.draw_roofline(plt.figure(figsize=(7, 3.4)), memory, cache, layers)

# %% [markdown]
# Look at the horizontal positions first; they are counted and do not depend on the computer. A full 3×3 convolution uses each number many times, so its
# intensity is high. A depthwise convolution (section 5) and a linear layer with one image have a low intensity, so memory limits them first. The linear
# layer with one image lies near the two sloping roofs. The depthwise convolution is far below both roofs here. With 64 images in a batch the linear layer
# reads its weights once for all of them, and moves to the right.
#
# The vertical positions are measured. There are two roofs: small tensors stay in the **cache** (缓存), which is faster than the memory (dashed line). On a computer that does other work at
# the same time, a point can lie above a roof, because roof and point were measured at different moments.
#
# **What does a larger batch (批次) buy, and what does it cost?** Move the slider.

# %%
network = experiments.train_classifier(x, y, epochs=runtime.pick(quick=4, full=20))
batch_times = experiments.time_batches(network, x_test[:1], (1, 2, 4, 8, 16, 32, 64))


def choose_batch(figure, batch=32):
    drawings.draw_batch(figure, resnet, batch_times, batch)


interact.live(choose_batch, batch=[1, 2, 4, 8, 16, 32, 64], figsize=(7.5, 2.8))

# %% [markdown]
# On the left, for ResNet-50: the saved activations grow with the batch (computed), and the state does not. On the right, for our ResNet-20: each image
# takes less time in a large batch; a likely cause is that the overhead of the layers is shared. Single points jump if the computer does other work. But
# the result of the first image comes only when the whole batch is computed. A server can use large batches. A camera delivers one frame after the other,
# so its batch is 1.

# %% tags=["claims"]
assert layers["depthwise 3×3, 64"]["intensity"] < layers["conv 3×3, 64"]["intensity"] / 10
assert layers["linear, 64 images"]["intensity"] > 20 * layers["linear, 1 image"]["intensity"]
assert compression.attainable(2.0, compression.Machine(100.0, 20.0)) == 40.0

# %% [markdown]
# ### A simple network can be the slow one
#
# §7.1 says that models are slow because their structure is complex. VGG-16 is a simple chain. MobileNet-V2 has many more layers, with branches. **Which one is
# slower?** We time both without their linear layers, on one image of 112×112.

# %%
structures = experiments.compare_structures()
for name, row in structures.items():
    print(
        f"{name:13} {row['layers']:3} convolutions  {row['macs'] / 1e9:6.3f} G multiply-adds  "
        f"p50 {1000 * row['p50']:7.1f} ms  p95 {1000 * row['p95']:7.1f} ms"
    )

# %% [markdown]
# On a computer that does nothing else the simple network is the slower one: it has about fifty times as many multiply-adds. The number of layers does not
# decide it. (The ratio of the times is smaller than the ratio of the multiply-adds. Likely causes are the slow depthwise layers and the overhead of 52
# layers; they were not measured apart.) **p50** is the median (中位数) of the latency (延迟): half of the calls are faster. **p95** is the time that 95 % of
# the calls do not exceed. p50 does not show rare slow calls, and a mean hides them too. With fewer than 20 calls, as here, p95 is the slowest one.

# %% tags=["claims"]
assert structures["VGG-16"]["macs"] > 40 * structures["MobileNet-V2"]["macs"]
assert structures["VGG-16"]["layers"] < structures["MobileNet-V2"]["layers"] / 3

# %% [markdown]
# ## 4 Fewer bits: quantisation by hand
#
# A weight in float32 needs 4 bytes. **Quantisation** (量化) replaces it by a whole number $q$ of 8 bits and a **scale** (缩放因子) $s$ that many weights share:
#
# $$s=\frac{\max|w|}{127},\qquad q=\text{round}(w/s),\qquad w\approx s\,q,\qquad |w-s\,q|\le s/2$$
#
# Take the weights below with 3 bits. Then $q$ goes from −3 to 3, and $s=0.6/3=0.2$. Which $q$ belongs to 0.25, and what is its error?

# %%
few = torch.tensor([0.6, -0.41, 0.25, 0.02, -0.15])
by_hand = compression.quantise(few, 3)
print("q     ", by_hand.values.tolist())
print("s·q   ", [round(value, 2) for value in compression.dequantise(by_hand).tolist()])
print("error ", [round(value, 2) for value in (few - compression.dequantise(by_hand)).tolist()])
drawings.draw_rounding(plt.figure(figsize=(7, 1.8)), few)

# %% [markdown]
# $0.25/0.2=1.25$ is rounded to $q=1$. So 0.25 becomes 0.2, with an error of 0.05. No error is above $s/2=0.1$.
#
# Activations are rarely symmetric around 0: after a ReLU they are never negative, and the negative $q$ would never be used. So they get a **zero point**
# (零点) $z$, and $q$ goes from 0 to 255: $x\approx s\,(q-z)$ with $s=(\max x-\min x)/255$ and $z=\text{round}(-\min x/s)$. The range always contains 0, and
# the value 0 is exact ($q=z$), because padding and ReLU make many zeros. After a ReLU, $z=0$. By hand: values from $-1$ to 3 give $s=4/255=0.0157$ and
# $z=64$; then 0.5 becomes $q=\text{round}(0.5/0.0157)+64=96$.
#
# A linear layer then needs whole numbers only. The two scales come in once, at the end:
#
# $$y_d=\sum_c x_c\,w_{dc}\ \approx\ s_x\,s_w\sum_c\,(q_{x,c}-z)\;q_{w,dc}$$

# %%
inputs = compression.quantise_affine(torch.tensor([[-0.5, 0.0, 1.0, 2.05]]))
weights = compression.quantise(torch.tensor([[1.27, -0.5, 0.25, 0.1]]))
print("s_x", round(inputs.scale.item(), 4), " z", inputs.zero_point, " q_x", inputs.values.tolist())
print("s_w", round(weights.scale.item(), 4), " q_w", weights.values.tolist())
total = int(((inputs.values - inputs.zero_point) * weights.values).sum())
product = inputs.scale * weights.scale * total
exact = -0.5 * 1.27 + 0.0 + 1.0 * 0.25 + 2.05 * 0.1
print(f"sum of whole numbers {total}, times s_x·s_w = {product.item():.4f}, exact {exact:.4f}")

# %% [markdown]
# $s_x=2.55/255=0.01$ and $z=50$. The sum of whole numbers is $-50\cdot127+100\cdot25+205\cdot10=-1800$, and $-1800\cdot0.01\cdot0.01=-0.18$.
#
# ### One scale for all channels, or one for each?
#
# The channels of a layer can have very different weights. With **one scale per tensor** the channel with the largest weight sets $s$ for all channels.
# With **one scale per channel** (逐通道量化) each has its own. A **dead channel** (死通道), with all weights near 0, needs care: its scale would be 0, and $0/0$
# is not a number. So the scale is kept above a small limit.

# %%
channels = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)) * torch.tensor(
    [[1.0], [0.01], [0.0]]
)
for name, per_channel in {"per tensor": False, "per channel": True}.items():
    rounded = compression.dequantise(compression.quantise(channels, per_channel=per_channel))
    error = (rounded - channels).norm(dim=1) / channels.norm(dim=1).clamp_min(1e-9)
    print(
        f"{name:12} relative error of the channels:",
        " ".join(f"{value:.2%}" for value in error.tolist()),
    )
print(
    "naive scale of the dead channel:",
    (channels[2] / (channels[2].abs().amax() / 127)).round()[:3].tolist(),
)

# %% [markdown]
# The small channel loses much with one scale for the tensor, and little with its own. Now the whole network. We round the weights of ResNet-20 to fewer and fewer bits. Move
# the slider. **With how many bits does the accuracy (准确率) fall, per tensor and per channel?**

# %%
accuracy_by_bits = {name: {} for name in ("per tensor", "per channel")}
for bits in range(2, 9):
    for name in accuracy_by_bits:
        rounded_network = compression.quantise_network(
            network, bits, per_channel=name == "per channel"
        )
        accuracy_by_bits[name][bits] = experiments.measure_accuracy(rounded_network, x_test, y_test)
some_weights = network.layer2[0].conv1.weight.detach().flatten()
cat = data.photo("cat")[:, 60:220, 60:220]


def choose_bits(figure, bits=3):
    drawings.draw_bits(figure, cat, some_weights, accuracy_by_bits, bits)


interact.live(choose_bits, bits=(2, 8), figsize=(7.5, 2.6))

# %% [markdown]
# With 8 bits the accuracy of this network changes by less than two points, and with 2 bits (three values) the network is useless. With 3 bits a scale per
# channel loses less here; from 4 bits on there is no clear difference. The same number of bits is coarse for a photograph, too: with few bits the smooth
# fur turns into steps.

# %% tags=["claims"]
assert (
    by_hand.values.tolist() == [3, -2, 1, 0, -1]
    and (few - compression.dequantise(by_hand)).abs().max() <= 0.1001
)
assert_close(product, torch.tensor(-0.18), atol=1e-4, rtol=0)
assert total == -1800 and inputs.zero_point == 50
full_accuracy = experiments.measure_accuracy(network, x_test, y_test)
assert full_accuracy > 0.95
for by_bits in accuracy_by_bits.values():
    assert abs(by_bits[8] - full_accuracy) < 0.02 and by_bits[2] < 0.4
one_layer = network.layer2[0].conv1.weight.detach()
rounded = [compression.dequantise(compression.quantise(one_layer, 3, per_channel=way))
           for way in (False, True)]
# a scale per channel fits better
assert (rounded[1] - one_layer).norm() < (rounded[0] - one_layer).norm()
assert (compression.quantise(channels, per_channel=True).scale > 0).all()

# %% [markdown]
# ### Deploy it with 8 bits
#
# So far only the *values* were rounded: the arithmetic was still float32. **ONNX Runtime** can really compute with 8 bits. Its static quantisation needs **calibration**
# (校准) images, which tell the range of each activation. The files hold the same network with 32 and with 8 bits.

# %%
from vlmbook.metrics import proportion_interval

small_files = experiments.Deployed(network, x[:256])
table = {}
for kind in ("float32", "int8"):
    logits = small_files.classify(kind, x_test, batch=360)
    share = (logits.argmax(1) == y_test).float().mean().item()
    low, high = proportion_interval(share, len(y_test))
    latency = compression.measure_latency(lambda: small_files.runs[kind](x_test[:1]), repeats=50)
    kilobytes = small_files.bytes[kind] / 1000
    table[kind] = {"kB": kilobytes, "accuracy": share, "p50": latency.p50, "p95": latency.p95}
    print(
        f"{kind:8} {kilobytes:7.0f} kB  p50 {1e6 * latency.p50:6.0f} µs  "
        f"p95 {1e6 * latency.p95:6.0f} µs  accuracy {share:.1%} "
        f"(95 % interval {low:.1%} to {high:.1%})"
    )

# %% [markdown]
# The file is much smaller, and the accuracy is the same within its interval (置信区间). The gain in time is small or absent here; overhead is a likely cause,
# as the layers are small. **So "4 times smaller" does not mean "4 times faster"**: the time depends on the size of the layers, on the kernels of the
# library and on the processor (erratum M19, section 11).
#
# EfficientNet-Lite0 has larger layers (4.65 million parameters). There are no labels for our squares, so we cannot measure accuracy. We measure
# **agreement** (一致率): on how many squares do both networks have the same first class? Agreement is not accuracy. It is a hard test, because the network is
# unsure about most of these squares. So we also count the squares of which the network is **sure**: its first class leads by at least 0.1 of probability.
#
# Two details matter. A ReLU6 follows most convolutions. It limits the values to [0, 6]. Is the range of an activation measured **before or after** the
# ReLU6? And how large may the weights be? We try from −64 to 64, which is 7 bits, and from −127 to 127.

# %%
from vlmbook.pretrained import WeightsMissing, efficientnet_lite0

try:
    photo_network = efficientnet_lite0()
except WeightsMissing as missing:
    print(f"Without EfficientNet-Lite0's weights, sections 5 and 7 time random ones: {missing}.")
    photo_network = None
agreement, photo_files = {}, None
if photo_network is not None:
    photo_files = experiments.Deployed(photo_network, calibration, all_kinds=True)
    reference = photo_files.classify("float32", crops_test)
    sure = experiments.find_sure(reference)
    print(f"{'float32':24} {photo_files.bytes['float32'] / 1e6:5.2f} MB")
    for kind in experiments.KINDS[1:]:
        logits = photo_files.classify(kind, crops_test)
        row = experiments.measure_agreement(reference, logits)
        row["of the sure"] = experiments.measure_agreement(reference[sure], logits[sure])["share"]
        agreement[kind] = row | {"MB": photo_files.bytes[kind] / 1e6}
        print(
            f"{kind:24} {photo_files.bytes[kind] / 1e6:5.2f} MB, {row['share']:.0%} agree "
            f"({row['low']:.0%} to {row['high']:.0%}), error of the logits {row['error']:.2f}, "
            f"of the {int(sure.sum())} sure ones {row['of the sure']:.0%}"
        )

# %% [markdown]
# The file has about a quarter of the size. (The test squares and the calibration squares come from the same photographs, so the intervals are too narrow.)
# With the range *after* the ReLU6 most squares keep their first class, and of the sure squares nearly all keep it. With the range *before* the ReLU6 fewer
# squares keep their first class, and everything else is equal in both files. A likely reason: values far outside [0, 6] widen the range, so only a few of
# the 256 numbers lie in [0, 6].
#
# The last line has finer weights. By the documentation of ONNX Runtime its result depends on the **processor**. We ran this notebook on two processors: on
# one with VNNI the last line was the best, as printed above if this notebook ran there; on one without VNNI it was clearly worse than the line with
# weights up to 64. Many processors multiply 8-bit numbers in pairs and add the two products in 16 bits. The largest sum is $2\cdot255\cdot127=64{,}770$,
# and 16 bits end at 32,767: the sum is cut off (**saturation**, 饱和). Newer processors have the instructions *VNNI*, which add in 32 bits, so nothing is
# cut off. With weights up to 64 the sum is at most $2\cdot255\cdot64=32{,}640$, so it always fits. **The number of bits alone does not say how good a
# quantised network is.**

# %% tags=["claims"]
assert table["int8"]["kB"] < table["float32"]["kB"] / 2
assert abs(table["int8"]["accuracy"] - table["float32"]["accuracy"]) <= 0.02
assert 2 * 255 * 64 < 2**15 - 1 < 2 * 255 * 127
if agreement:
    after, before = agreement["int8"], agreement["int8, range before ReLU"]
    assert after["MB"] <= 5.0 < photo_files.bytes["float32"] / 3e6
    assert after["share"] > max(0.5, before["share"]) and 1.5 * after["error"] < before["error"]
    assert after["of the sure"] >= 0.8

# %% [markdown]
# ## 5 Other layers: depthwise separable convolutions
#
# A full convolution does two jobs at once: it looks at neighbours, and it mixes channels. The **depthwise separable convolution** (深度可分离卷积) [Howard et al. 2017]
# splits the jobs. First each channel gets one 3×3 kernel of its own. Then a 1×1 convolution mixes the channels. The ratio of the costs is
#
# $$\frac{k^2\,C\,HW+C\,D\,HW}{k^2\,C\,D\,HW}=\frac1D+\frac1{k^2}$$
#
# With $k=3$ and $D=64$ this is $1/64+1/9=0.127$: about 7.9 times less. **Is it 7.9 times faster, too?**

# %%
full_macs, depthwise_macs = (
    compression.window_macs(64, 64, 3, 28, 28, groups=groups) for groups in (1, 64)
)
separable_macs = compression.separable_macs(64, 64, 3, 28, 28)
drawings.draw_separable(
    plt.figure(figsize=(7, 2.6)), full_macs, depthwise_macs, separable_macs - depthwise_macs
)
separable = experiments.time_separable()
for width, row in separable.items():
    print(
        f"{width:4} channels: {row['macs']:4.1f} times fewer multiply-adds, "
        f"{row['seconds']:4.1f} times less time"
    )

# %% [markdown]
# Usually not: the time falls by a smaller factor. A factor below 1 means that the separable convolution is *slower*. Two causes are likely, and were not
# measured apart: the depthwise kernel is far from the peak (section 3), and two calls have more overhead than one. FLOPs are a good first guess, and a
# measurement is the answer [Ma et al. 2018].
#
# **Fold the batch normalisation.** In evaluation mode batch normalisation (批归一化) multiplies each channel with a number and adds another one. A convolution
# with the weights $W$ and the bias $b$ (0 if it has none) can do this itself:
#
# $$W'=\frac{\gamma}{\sqrt{\sigma^2+\varepsilon}}\,W,\qquad b'=\beta+\frac{\gamma\,(b-\mu)}{\sqrt{\sigma^2+\varepsilon}}$$
#
# The layer vanishes and the outputs stay. The memory format `channels_last` stores the channels of a pixel side by side, and keeps the outputs too.

# %%
import copy

big = photo_network if photo_network is not None else experiments.efficientnet_lite0().eval()
folded = compression.fold_norms(big)
last = copy.deepcopy(folded).to(memory_format=torch.channels_last)
frame = crops_test[:1]
variants = {
    "PyTorch": lambda: big(frame),
    "BN folded": lambda: folded(frame),
    "+ channels_last": lambda: last(frame.contiguous(memory_format=torch.channels_last)),
}
if agreement:
    for kind in experiments.KINDS[:2]:
        variants[f"ONNX, {kind}"] = lambda run_file=photo_files.runs[kind]: run_file(frame)
times = experiments.list_percentiles(
    {
        name: compression.measure_latency(run, repeats=runtime.pick(quick=11, full=100))
        for name, run in variants.items()
    }
)
drawings.draw_percentiles(plt.figure(figsize=(7, 2.4)), times)

# %% [markdown]
# These times hold for one image on this computer. On another processor the order may differ, so no order is claimed here. (PyTorch and ONNX Runtime both
# use one thread.) Two more changes are not in the drawing. Mixed precision (混合精度, `torch.autocast`) computes with 16 bits; it needs a processor with
# instructions for 16 bits. `torch.compile` can join several small layers into one loop; it needs a C++ compiler. This chapter measures neither of them;
# PyTorch's documentation describes both.

# %% tags=["claims"]
with torch.no_grad():
    assert_close(folded(frame), big(frame), rtol=1e-3, atol=1e-3)
    assert_close(last(frame), folded(frame), rtol=1e-3, atol=1e-3)
assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
assert abs(full_macs / separable_macs - 1 / (1 / 64 + 1 / 9)) < 0.01

# %% [markdown]
# ## 6 Fewer weights: pruning
#
# **Pruning** (剪枝) removes weights that matter little. There are two ways:
#
# - **Magnitude pruning** (幅值剪枝, unstructured): the smallest weights become 0. All shapes stay the same.
# - **Structured pruning** (结构化剪枝): whole channels are removed. The network that remains is smaller. Here we remove *inner channels*: the channels between
#   the two convolutions of a residual block. Each of the two convolutions has them on one side only, so a quarter of the inner channels leaves about a
#   quarter of the multiply-adds, and not a sixteenth.
#
# Move the slider. How many weights can be 0 before the accuracy falls?

# %%
accuracy_by_share = {}
for percent in range(0, 100, 10):
    pruned = compression.prune_magnitude(network, percent / 100)
    accuracy_by_share[percent / 100] = experiments.measure_accuracy(pruned, x_test, y_test)


def choose_share(figure, share=0.5):
    drawings.draw_sparsity(figure, network, "layer2.0.conv1", accuracy_by_share, share)


interact.live(choose_share, share=(0.0, 0.9, 0.1), figsize=(7.5, 2.6))

# %% [markdown]
# In this network about half of the weights can be 0 without any further training. Storage falls only if the file stores the zeros in a short form (here:
# one bit for each weight, and the values that are not 0).
#
# With more zeros the accuracy falls to chance. Is the network destroyed? We prune ResNet-8 in both ways, with three seeds, and measure three times: after the pruning, after the
# means and variances of the batch normalisation were **measured again** (no weight changes), and after **one more epoch** of training in which zeros stay 0.

# %%
shares = (0.5, 0.8)
pruning = experiments.sweep_pruning(
    digits, shares=shares, seeds=(0, 1, 2), epochs=runtime.pick(quick=4, full=20)
)
drawings.draw_pruning(plt.figure(figsize=(7.5, 2.8)), pruning, (0.0, *shares))

# %% [markdown]
# New means and variances alone repair nearly all of the damage after magnitude pruning, and about half of it if 80 % of the channels are gone. (The sums
# of a layer are smaller after the pruning, so the stored means and variances are wrong.) One epoch repairs most of the rest. So train the network again
# after strong pruning.
#
# And the time? We compare ResNet-20, the same network with 90 % zeros, and the network with a quarter of its inner channels. All three classify the same 360 images at once.

# %%
rivals = {
    "ResNet-20": network,
    "90 % zeros": compression.prune_magnitude(network, 0.9),
    "a quarter of the channels": compression.prune_channels(network, 0.75),
}
for name in list(rivals)[1:]:
    rivals[name] = experiments.train_further(rivals[name], x, y)
costs = experiments.compare_pruned(rivals, x_test, y_test)
for name, row in costs.items():
    print(
        f"{name:26} accuracy {row['accuracy']:.1%}  {row['macs'] / 1e6:4.2f} M multiply-adds  "
        f"dense {row['dense'] / 1000:5.0f} kB  sparse {row['sparse'] / 1000:5.0f} kB  "
        f"p50 {1000 * row['p50']:6.1f} ms"
    )

# %% [markdown]
# The zeros save storage and **no time**: the dense convolution multiplies by 0 as fast as by any other number, and the number of multiply-adds is the
# same. (A difference between the first two times is noise. The accuracies are of one seed.) The smaller network does about a quarter of the multiply-adds.
# Its time falls too, but usually by less: the overhead of each layer stays, and small layers use the processor less well (not measured apart). Size,
# accuracy and latency are three different things, and each has to be measured.
#
# A third way to a small network is **knowledge distillation** (知识蒸馏): a small network learns from a large one. [Chapter 5c](ch05c_distillation.ipynb) does it.

# %% tags=["claims"]
for method, by_step in pruning.items():
    last_share = {step: torch.tensor(rows)[:, -1].mean() for step, rows in by_step.items()}
    assert last_share["one epoch more"] > last_share["pruned"] + 0.2
    assert last_share["statistics measured again"] > last_share["pruned"] + 0.15
half = {
    method: torch.tensor(by_step["one epoch more"])[:, 1] for method, by_step in pruning.items()
}
assert half["magnitude"].mean() > 0.9
assert accuracy_by_share[0.5] > 0.9 and accuracy_by_share[0.9] < 0.4
assert costs["90 % zeros"]["macs"] == costs["ResNet-20"]["macs"]
assert (
    costs["90 % zeros"]["dense"] == costs["ResNet-20"]["dense"] > 4 * costs["90 % zeros"]["sparse"]
)
assert costs["a quarter of the channels"]["macs"] < costs["ResNet-20"]["macs"] / 3

# %% [markdown]
# ## 7 A real-time budget
#
# A camera with 30 frames a second delivers a frame each 33 ms. Everything has to fit into this time: preparing the frame, the network, and what follows.
# We drop a frame that is late. If **p95 is below 33 ms**, at most 5 % of the frames are dropped; the mean does not tell this. We move a window across a
# photograph as a camera would do, and time each frame.

# %%
from vlmbook.efficientnet import imagenet_input

frames = experiments.film(data.photo("coffee"), runtime.pick(quick=30, full=300))
frame_times, totals = {}, {}
classifiers = {"PyTorch, folded": folded}
if agreement:
    classifiers["ONNX, int8"] = photo_files.runs["int8"]
for name, classify in classifiers.items():
    frame_times[name] = experiments.time_frames(imagenet_input, classify, frames)
    totals[name] = [a + b for a, b in zip(*frame_times[name].values(), strict=True)]
    late = sum(seconds > 0.033 for seconds in totals[name])
    stages = {
        stage: 1000 * compression.Latency(tuple(values)).p50
        for stage, values in frame_times[name].items()
    }
    print(
        f"{name:16}",
        *(f"{stage} {value:.1f} ms" for stage, value in stages.items()),
        f"late: {late} of {len(frames)}",
    )
drawings.draw_frames(plt.figure(figsize=(7.5, 3.4)), totals, frames[:: len(frames) // 5])

# %% [markdown]
# The preparation of the frame takes time as well: a network that becomes twice as fast does not make the whole system twice as fast. The times of single
# frames differ, so a system needs a reserve.
#
# ## 8 Two budgets: labels and compute
#
# §8.2 recommends few-shot learning (小样本学习) "在资源受限的环境中，如移动设备" (for mobile devices). Does it make a network cheaper? We train a network on the digits 0 to
# 4, and freeze it. It then learns the *new* digits 5 to 9 from $K$ labels each: each new digit has a mean feature (the mean over its $K$ images), and a
# test image gets the digit with the nearest mean. We change the two budgets separately: the number of labels, and the network (float32, weights of 4 bits,
# and a smaller one).

# %%
old = y < 5
backbone = experiments.train_classifier(x[old], y[old], epochs=runtime.pick(quick=4, full=20))
small_backbone = experiments.train_classifier(
    x[old], y[old], depth=8, epochs=runtime.pick(quick=4, full=20)
)
backbones = {
    "ResNet-20": backbone,
    "ResNet-20, 4 bits": compression.quantise_network(backbone, 4),
    "ResNet-8": small_backbone,
}
few_shots = experiments.measure_budgets(backbones, digits, shots=(1, 5, 20))
kilobytes_of = {
    name: 4 * compression.count_parameters(model) / 1000 for name, model in backbones.items()
}
kilobytes_of["ResNet-20, 4 bits"] /= 8
drawings.draw_budgets(plt.figure(figsize=(7.5, 2.8)), few_shots, kilobytes_of)

# %% [markdown]
# More labels raise the accuracy of each network. The right panel is computed from the number of parameters, so more labels cannot change it: **few-shot
# learning does not make a network smaller.** Weights of 4 bits need about an eighth of the memory (their scales and the normalisations are left out), and
# lose little accuracy here. Their number of multiply-adds stays the same. The smaller ResNet-8 is even more accurate here; it was trained with one seed
# only. For a mobile device you need the methods of this chapter; for few labels you need those of chapter 7c.

# %% tags=["claims"]
for name, by_shots in few_shots.items():
    means = {k: sum(values) / len(values) for k, values in by_shots.items()}
    assert means[20] > means[1] + 0.08
for k, values in few_shots["ResNet-20"].items():  # 4 bits cost little
    assert abs(sum(values) - sum(few_shots["ResNet-20, 4 bits"][k])) / len(values) < 0.08
assert experiments.count_macs(backbone, x[:1]) > 2 * experiments.count_macs(small_backbone, x[:1])

# %%
points = {
    name: (row["sparse"] / 1000, 1000 * row["p50"], row["accuracy"]) for name, row in costs.items()
}
result = plt.figure(figsize=(7, 3.2))
drawings.draw_result(result, points, "ResNet-20 on the digits: accuracy")
records.picture("ch07a", result)
plt.close(result)

# %% [markdown]
# ## 9 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch07a.1")` helps in steps, `solution("ch07a.1")` shows one answer.
#
# **1 · Predict.** A depthwise separable convolution has a 3×3 kernel, 32 input channels, 64 output channels and 10×12 outputs. How many multiply-adds does it have?

# %%
separable_cost = ...  # whole number
check("ch07a.1", separable_cost)


# %% [markdown]
# **2 · Build.** Quantise weights `(D, C, k, k)` to −127 … 127 with one scale for each of the `D` channels. Use $s=\max|w|/127$ for each channel, as in
# section 4. Return `q` (whole numbers, same shape, as `torch.round` gives them) and the scales `s` of shape `(D,)`. One channel may be dead: no scale may
# be below `1e-8`.

# %%
def quantise_channels(w):  # -> q (D, C, k, k), s (D,)
    ...


check("ch07a.2", quantise_channels)


# %% [markdown]
# **3 · Build.** Fold a batch normalisation `norm` (an `nn.BatchNorm2d` in evaluation mode) into the convolution before it, which has this weight and no
# bias. Return the new weight and the new bias.

# %%
def fold(weight, norm):  # -> weight (D, C, k, k), bias (D,)
    ...


check("ch07a.3", fold)

# %% [markdown]
# **4 · Train, change, measure.** Remove half of the inner channels of `network` with `compression.prune_channels`. Measure the accuracy on the test images
# with `experiments.measure_accuracy(model, x_test, y_test)`, train for one epoch with `experiments.train_further`, and measure again. Give also the share
# of the multiply-adds that remains, as a number between 0 and 1 (`experiments.count_macs(model, x[:1])` counts them).

# %%
pruned_half = ...  # {"pruned": accuracy, "trained": accuracy, "macs": share}
check("ch07a.4", pruned_half)

# %% [markdown]
# ## 10 At full size
#
# With `VLMBOOK_PROFILE=full` the networks are trained five times as long, five times as many squares test the agreement, and the latency is measured on
# more calls.

# %% tags=["record"]
records.record(
    "ch07a",
    seed=[0, 1, 2],
    resnet20_files=table,
    agreement=agreement,
    accuracy_by_bits={
        name: {str(k): v for k, v in row.items()} for name, row in accuracy_by_bits.items()
    },
    pruning_shares=list((0.0, *shares)),
    pruning=pruning,
    pruned=costs,
    structures=structures,
    milliseconds={name: {"p50": p50, "p95": p95} for name, (p50, p95) in times.items()},
    frame_p95_ms={
        name: 1000 * compression.Latency(tuple(values)).p95 for name, values in totals.items()
    },
    peak_gflops=memory.peak / 1e9,
    bandwidth_gb=memory.bandwidth / 1e9,
    few_shots={
        name: {str(k): sum(v) / len(v) for k, v in row.items()} for name, row in few_shots.items()
    },
)
records.show("ch07a", "full")

# %% [markdown]
# ## 11 Book check
#
# - **M17 · "数百万甚至数亿个参数"** (§7.1). Large models have up to tens of billions of parameters, ten to a hundred times more than this range: section 2.
# - **M19 · "模型压缩、量化、加速技术等"** (§7.1). Quantisation is one kind of compression, and neither quantisation nor pruning is always faster. Zeros in dense storage give no
#   speed-up at all: sections 4 and 6.
# - **I29 · Slow because of a complex structure** (§7.1). The time comes from operations, memory traffic and parallelism. The simple VGG-16 is slower than the more complex MobileNet-V2:
#   section 3.
# - **W34 · Few-shot learning for mobile devices** (§8.2). Few-shot learning saves labels. It saves neither parameters nor operations: section 8.

# %% [markdown]
# ## 12 What we learned
#
# - Parameters, multiply-adds and memory can be counted before a network is built. Parameters say how large it is, and multiply-adds say roughly how long it computes.
# - Memory limits a layer with a low arithmetic intensity. The time can fall less than the multiply-adds do.
# - 8 bits need a scale, sometimes a zero point, and the right range. The error is at most half a step.
# - Pruned zeros save storage. Pruned channels save operations. Both need further training if much is taken away.
# - Latency is measured: p50 and p95, on the device, with everything that belongs to a frame.
#
# **References.** S. Williams, A. Waterman, D. Patterson, *Roofline: an insightful visual performance model for multicore architectures*, CACM 52(4), 2009 · B. Jacob et al.,
# *Quantization and training of neural networks for efficient integer-arithmetic-only inference*, CVPR 2018, arXiv:1712.05877 · S. Han, H. Mao, W. J. Dally, *Deep compression*, ICLR 2016,
# arXiv:1510.00149 · S. Han et al., *Learning both weights and connections for efficient neural networks*, NeurIPS 2015, arXiv:1506.02626 · H. Li et al., *Pruning filters for efficient
# ConvNets*, ICLR 2017, arXiv:1608.08710 · D. Blalock et al., *What is the state of neural network pruning?*, MLSys 2020, arXiv:2003.03033 · A. Howard et al., *MobileNets*, 2017,
# arXiv:1704.04861 · M. Sandler et al., *MobileNetV2*, CVPR 2018, arXiv:1801.04381 · N. Ma et al., *ShuffleNet V2*, ECCV 2018, arXiv:1807.11164 · M. Tan, Q. V. Le, *EfficientNet*, ICML 2019,
# arXiv:1905.11946 · Y. Wang et al., *Generalizing from a few examples*, ACM Computing Surveys 53(3), 2020, arXiv:1904.05046 · sizes of models: Y. LeCun et al., *Gradient-based learning applied to
# document recognition*, Proc. IEEE 86(11), 1998 · Z. Liu et al., *Swin Transformer V2*, CVPR 2022, arXiv:2111.09883 · J.-B. Alayrac et al., *Flamingo*, NeurIPS 2022, arXiv:2204.14198 · M. Oquab et
# al., *DINOv2*, 2023, arXiv:2304.07193 · M. Dehghani et al., *Scaling vision transformers to 22 billion parameters*, ICML 2023, arXiv:2302.05442.
