# %% [markdown]
# # 5a · Classification and detection (图像分类与目标检测)
#
# *Book: §2.2.3 (1), 卷积神经网络（CNN）在图像识别中的应用*
#
# **What is in the picture, and where is it? A classifier gives one number for each class. How can a network find an unknown number of objects?**
#
# After this chapter you can
#
# - explain what logits, softmax and calibration are, and why the softmax must be computed only once;
# - compute with boxes by hand: overlap, non-maximum suppression, anchors, offsets, pooled regions, average precision;
# - write a one-stage detector and the first stage of Faster R-CNN, and draw both with their shapes;
# - train two detectors, and measure them beside a baseline and beside R-CNN;
# - say what a trained detector does on a natural photograph, and why.
#
# You need these terms: convolution (卷积), feature map (特征图) and max pooling (最大池化) ([chapter 3a](ch03a_convolution_and_pooling.ipynb)), batch
# normalisation (批归一化) ([chapter 3b](ch03b_resnet.ipynb)), intersection over union of masks ([chapter 3c](ch03c_unet.ipynb)).
#
# The core path takes 40 minutes: sections 1 to 6. Sections 7 to 9 are headed *Going deeper*. Run all cells from top to bottom. The first cell prints what a whole
# run costs. It also shows predictions of the published run on test images. The backgrounds of these images come from photographs that are not in the training
# set.

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
from vlmbook.chapters.ch05a import experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)                     # images this small gain little from more threads
plot.use_style()
records.published("ch05a")
published = records.RESULTS / "ch05a.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)]);


# %% [markdown]
# ## 1 The data, looked at
#
# **Classification** (分类) asks *what*. Its data are scanned digits, 8×8 pixels. One sixth of the 1,437 training images is the validation set (验证集).
#
# **Detection** (目标检测) asks *what* and *where*. Its data are scenes of 64×64 pixels. The background of a scene is a crop of a photograph. One to three
# objects lie on it: a circle, square, triangle, star, cross, or a handwritten digit. An object may cover up to half of another object. The test set uses other
# photographs and other digits than the training set. The true boxes and the true classes are the **ground truth** (真实标注).
#
# With `VLMBOOK_PROFILE=full` the scenes are replaced by BCCD: photographs of blood under the microscope, with boxes around red cells, white cells and platelets.

# %%
def load_scenes(split, n):                   # -> images, targets, names
    if runtime.profile() == "full":
        try:
            cells = data.voc_boxes(data.data_folder() / "BCCD", split, channels=3)
            return *data.stack_boxes(cells, (240, 320)), cells.classes
        except data.DataMissing as missing:
            print(missing, "(the scenes are used instead)")
    return *data.scenes("test" if split == "test" else "train", n), data.SCENE_NAMES


(digits, values), (valid_digits, valid_values) = data.hold_out(
    *data.digits("train"), share=1 / 6, seed=0)
test_digits, test_values = data.digits("test")
images, targets, names = load_scenes("trainval", 2000)
test_images, test_targets, _ = load_scenes("test", 200)
side = tuple(images.shape[2:])
drawings.draw_scenes(plt.figure(figsize=(7, 3.7)), images[:8], targets[:8], names, columns=4)

# %% [markdown]
# ## 2 What is it?
#
# ### From logits to a loss
#
# The last linear layer of a classifier gives one number $z_k$ for each class. This number is a **logit** (对数几率，即未归一化得分). It can have any size and any sign. The
# **softmax** (归一化指数函数) turns the logits into probabilities. The loss is the **cross-entropy** (交叉熵): the negative logarithm of the probability of the
# true class $y$.
#
# $$p_k=\frac{e^{z_k}}{\sum_j e^{z_j}},\qquad \mathrm{CE}(z,y)=-\log p_y=-z_y+\log\sum_j e^{z_j}$$
#
# What happens to $p$ if we add 1,000 to every logit? What happens to the first formula in float32?

# %%
z, y = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([0])
p = z.exp() / z.exp().sum()
loss = -z[0, y] + z.exp().sum().log()
typed = (z + 1000).exp() / (z + 1000).exp().sum()
library = (z + 1000).softmax(1)
print("formula:", typed.tolist(), "\nlibrary:", library.tolist())

# %% tags=["claims"]
assert_close([p, loss[0]], [z.softmax(1), F.cross_entropy(z, y)])
assert typed.isnan().all() and torch.allclose(library, p)

# %% [markdown]
# The probabilities stay the same: the factor $e^{1000}$ cancels. The formula in float32 gives nan: $e^{1000}$ becomes ∞, and ∞/∞ is nan. A library subtracts
# the largest logit first. It computes logarithm and softmax together.
#
# ### The classifier
#
# Our classifier is a small convolutional neural network (卷积神经网络, CNN). The drawing shows the shape of the output of each part, for one image. The softmax
# is no part of the network. `F.cross_entropy` contains it.

# %%
from vlmbook.training import fit

def classifier():                            # (B, 1, 8, 8) -> (B, 10) logits
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(128, 10))

def once(net, x, y):                         # softmax once, inside cross_entropy
    return F.cross_entropy(net(x), y)

def twice(net, x, y):                        # a mistake: softmax twice
    return F.cross_entropy(net(x).softmax(1), y)

def train_classifier(loss_fn, seed, x=digits, y=values, epochs=4):
    runtime.seed_everything(seed)
    net = classifier()
    fit(net, (x, y), loss_fn=loss_fn, epochs=epochs, batch_size=64, lr=1e-2, progress=False)
    return net.cpu().requires_grad_(False)


drawings.draw_classifier(plt.figure(figsize=(7, 1.0)))

# %% [markdown]
# ### Softmax only once
#
# `F.cross_entropy` takes logits. A frequent mistake is to give it probabilities. Then the softmax is computed twice, and no error message appears. **How
# low can this wrong loss get, if the network is right and completely sure?** The second question is about the gradient (梯度): which gradient does each
# loss give to a prediction that is sure and **wrong**? This prediction has the logit 12 for class 3, and the logit 0 for all other classes. But the true
# class is 0.

# %%
floor = F.cross_entropy(torch.eye(10), torch.arange(10)).item()      # probabilities 0 and 1
runs, shares = {}, {}
for name, loss_fn in (("softmax once", once), ("softmax twice", twice)):
    three = [train_classifier(loss_fn, seed) for seed in range(3)]
    runs[name] = torch.stack([loss_fn(net, digits, values) for net in three])
    shares[name] = torch.stack([(net(digits).argmax(1) == values).float().mean() for net in three])
    print(f"{name}: loss {runs[name].mean():.3f} ± {runs[name].std():.3f}, training accuracy",
          f"{shares[name].mean():.3f} ± {shares[name].std():.3f}")
sure = 12 * F.one_hot(torch.tensor([3]), 10).float()
of_once = torch.func.grad(lambda z: F.cross_entropy(z, y))(sure)
of_twice = torch.func.grad(lambda z: F.cross_entropy(z.softmax(1), y))(sure)
pull = {"softmax once": of_once.norm().item(), "softmax twice": of_twice.norm().item()}
print("norm of the gradient:", {name: float(f"{norm:.1e}") for name, norm in pull.items()})
print(f"lowest value of the wrong loss: {floor:.3f}")

# %% tags=["claims"]
assert floor > 1.46 and runs["softmax twice"].min() > floor - 1e-4
assert runs["softmax once"].max() < 0.5
assert pull["softmax twice"] < 1e-3 < 1 < pull["softmax once"]
assert (shares["softmax twice"] < shares["softmax once"]).all()


# %% [markdown]
# The wrong loss uses probabilities as logits. At best they are 1 for the true class and 0 for the nine other classes. So the wrong loss cannot be lower
# than $-1+\log(e+9)=1.461$. For a prediction that is sure and wrong, the correct loss has a large gradient. The wrong loss has a gradient near 0,
# because the inner softmax is flat there. So the network learns very little from such a mistake. After four epochs the networks with the wrong loss have
# a lower training accuracy than those with the correct loss, in all three runs.
#
# ### What does a probability mean?
#
# The next network learns from only 100 digits, for many epochs. So it makes mistakes. The **confusion matrix** (混淆矩阵) counts, for each true class, the
# predicted classes. *Top-k* asks whether the true class is among the $k$ most probable classes.
#
# **Calibration** (校准) compares the confidence (置信度) with the accuracy. Take all digits with a confidence of about 0.9. Is their accuracy about 0.9? The digits
# are sorted into bins by confidence. Bin $b$ has $n_b$ of the $N$ digits, the mean confidence $\bar p_b$, and the accuracy $a_b$. The expected calibration error
# is
#
# $$\mathrm{ECE}=\sum_b\frac{n_b}{N}\,\big|a_b-\bar p_b\big| .$$
#
# We can divide all logits by one number, the **temperature** (温度) $T$ [Guo et al. 2017]. This changes every confidence, but the predicted classes stay
# the same. We choose the $T$ with the lowest cross-entropy on the validation set. Will it be above 1 or below 1?

# %%
def ece(p, y, bins=10):                      # (N, K) probabilities, (N,) -> float
    confidence, predicted = p.max(1)
    bin_of = (confidence * bins).long().clamp(max=bins - 1)
    right = (predicted == y).float()
    gaps = [(right - confidence)[bin_of == b].sum().abs() for b in range(bins)]
    return (sum(gaps) / len(y)).item()


overfitted = train_classifier(once, 0, digits[:100], values[:100], epochs=60)
valid_logits, z = overfitted(valid_digits), overfitted(test_digits)
temperatures = torch.linspace(0.5, 5, 46).tolist()
T = min(temperatures, key=lambda T: F.cross_entropy(valid_logits / T, valid_values))
p, ranked = z.softmax(1), z.argsort(1, descending=True)
top = {k: (ranked[:, :k] == test_values[:, None]).any(1).float().mean().item() for k in (1, 2, 3)}
cost = {by: F.cross_entropy(z / by, test_values).item() for by in (1, T)}
calibration = {by: ece((z / by).softmax(1), test_values) for by in (1, T)}
print(*(f"top-{k} {share:.3f} " for k, share in top.items()), f"T = {T:.1f}")
print(f"ECE {calibration[1]:.3f} -> {calibration[T]:.3f};",
      f"cross-entropy {cost[1]:.3f} -> {cost[T]:.3f}")
drawings.draw_confusion(plt.figure(figsize=(7, 3.2)), p, test_values)

# %% tags=["claims"]
assert 0.7 < top[1] < top[2] <= top[3] and T > 1.05 and cost[T] < cost[1]
assert calibration[T] < calibration[1] + 0.03

# %% [markdown]
# $T$ is above 1: the network is overconfident. On average its confidence is higher than its accuracy. The right panel shows this: in most bins the
# orange line lies above the blue bar. (The white numbers count the digits. A bin with few digits may show the opposite. A bin without a bar has accuracy
# 0.) Compare confidence and accuracy on held-out data (留出数据) before you read a softmax as a probability.
#
# ## 3 Where is it? The parts of a detector
#
# ### Two boxes
#
# A **bounding box** (边界框) has four numbers $x_1,y_1,x_2,y_2$: the edges of an area in pixels. **Intersection over union** (交并比, IoU) says how well two boxes
# agree:
#
# $$\mathrm{IoU}(A,B)=\frac{|A\cap B|}{|A\cup B|}$$
#
# A predicted box has the right size, 40×40, but it lies 10 pixels beside the true box. Compute the IoU by hand. What is the IoU after a shift of 20 pixels?

# %%
import torchvision
from vlmbook.detection import (
    BACKGROUND, ConstantBox, average_precision, average_precision_loops, box_iou, clip_boxes,
    decode_boxes, encode_boxes, generate_anchors, match_anchors, mean_average_precision, nms,
    roi_align, roi_pool, select_detections)

def iou_by_hand(a, b):                       # (4,), (4,) -> number
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a = (a[2] - a[0]) * (a[3] - a[1])
    area_b = (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area_a + area_b - width * height)


A = torch.tensor([[0.0, 0, 40, 40]])
B = torch.tensor([[10.0, 0, 50, 40], [20, 0, 60, 40], [40, 0, 80, 40]])
by_hand = torch.tensor([[iou_by_hand(A[0].tolist(), b.tolist()) for b in B]])
drawings.draw_overlaps(plt.figure(figsize=(7, 1.6)), [(A[0], b) for b in B])

# %% tags=["claims"]
assert_close(by_hand, box_iou(A, B))
assert_close(by_hand, torchvision.ops.box_iou(A, B))


# %% [markdown]
# The intersection is 30·40, the union is 50·40, so the IoU is 0.6. After a shift by half of the width it is only one third. Two boxes that only touch have IoU 0.
# (Exercise 2 asks for the formula.)
#
# ### One box for each object
#
# A detector predicts many boxes for the same object. **Non-maximum suppression** (非极大值抑制, NMS) keeps the box with the highest score. It removes all boxes
# whose IoU with this box is above a threshold. Then it takes the best of the remaining boxes, and so on. Three boxes form a chain: the first overlaps the second
# with IoU 0.6, and the second overlaps the third with IoU 0.6. The first and the third have IoU 0.33. Which boxes stay at threshold 0.5?

# %%
def nms_by_hand(boxes, scores, threshold):
    left, kept = scores.argsort(descending=True).tolist(), []
    while left:
        best, *others = left
        kept.append(best)
        left = [i for i in others if box_iou(boxes[[best]], boxes[[i]]).item() <= threshold]
    return kept


chain = torch.tensor([[0.0, 0, 40, 40], [10, 0, 50, 40], [20, 0, 60, 40]])
scores = torch.tensor([0.9, 0.8, 0.7])
runtime.seed_everything(0)
low = torch.rand(300, 2) * 60
many, chances = torch.cat([low, low + 20 + 10 * torch.rand(300, 2)], dim=1), torch.rand(300)
kept_boxes = nms_by_hand(many, chances, 0.5)
print("of the chain:", nms_by_hand(chain, scores, 0.5), "; of 300 random boxes:", len(kept_boxes))

# %% tags=["claims"]
assert nms_by_hand(chain, scores, 0.5) == nms(chain, scores, 0.5).tolist() == [0, 2]
assert kept_boxes == nms(many, chances, 0.5).tolist()
assert kept_boxes == torchvision.ops.nms(many, chances, 0.5).tolist()

# %% [markdown]
# Boxes 0 and 2 stay. Box 0 removes box 1. A removed box removes no other box, so box 2 stays. (If box 1 had the highest score, it alone would stay.)
#
# ### Anchors
#
# A network has a fixed number of outputs, but an image has any number of objects. The solution is a fixed set of boxes that cover the image. These boxes are the
# **anchors** (锚框). Every cell of the feature map has a few anchors, of different sizes and shapes. The network answers one question for each anchor: is there an
# object that this anchor fits? An anchor of size $s$ and ratio $r=h/w$ has
#
# $$h=s\sqrt r,\qquad w=s/\sqrt r .$$
#
# The paper of Faster R-CNN [Ren et al. 2015] has three sizes and three ratios. How many anchors has a map of 37×50 cells?

# %%
paper = (128, 256, 512), (0.5, 1.0, 2.0)
nine = [(s / r**0.5, s * r**0.5) for r in paper[1] for s in paper[0]]        # (w, h)
anchors = generate_anchors((37, 50), (16, 16), *paper)
wh = anchors[:9, 2:] - anchors[:9, :2]
print(len(anchors), "anchors, nine in each cell (w × h):", *(f"{w:.0f}×{h:.0f}" for w, h in wh))

# %% tags=["claims"]
assert_close(wh, torch.tensor(nine), rtol=0, atol=1.0)                    # rounded to whole corners
assert len(anchors) == 37 * 50 * 9 and len(set(nine)) == 9

# %% [markdown]
# There are 37·50·9 = 16,650 anchors. (The printed sizes differ a little from the formula, because the edges are rounded to whole pixels.) Training has
# to know which anchor belongs to which object. The rule uses the IoU of anchor and true box:
#
# - IoU of 0.7 or more: the anchor is **matched** to the object;
# - IoU below 0.3: the anchor is **background** (背景);
# - otherwise the anchor is **ignored**: it does not enter the loss;
# - the anchor with the highest IoU for an object is matched too, also when this IoU is below 0.7.
#
# Move the controls. *smallest* is the smallest size in pixels, and each further size is √2 times the size before it. *sizes* is the number of sizes.
# *wide* adds the ratios 0.5 and 2 to the ratio 1. Panel 2 shows the matched anchors in blue and the numbered objects in white. An orange bar in panel 3
# means: no anchor reaches IoU 0.7 with this object. **What happens to the bars, and to the number of background anchors, if you take more sizes and a
# smaller stride?**

# %%
sizes, ratios = runtime.pick(quick=((22,), (1.0,)), full=((24, 52, 88), (0.5, 1.0, 2.0)))
crowd, true = max(zip(images[:50], targets), key=lambda pair: len(pair[1]["labels"]))
interact.live(partial(drawings.draw_anchors, image=crowd, boxes=true["boxes"]),
              smallest=(8, 96, 2), sizes=(1, 4), wide=True, stride=[4, 8, 16], figsize=(7, 2.6))

# %% tags=["claims"]
dense = {}                                   # stride, sizes -> best IoU, background anchors
for stride, count in ((8, 2), (4, 4)):
    some = generate_anchors([n // stride for n in side], (stride, stride),
                            [16 * 2 ** (i / 2) for i in range(count)], (0.5, 1.0, 2.0))
    iou = box_iou(true["boxes"], some)
    owner = match_anchors(iou, 0.7, 0.3, allow_low_quality_matches=True)
    dense[stride] = iou.amax(1), (owner == BACKGROUND).sum()
    assert (owner == BACKGROUND).float().mean() > 0.5
assert (dense[4][0] >= dense[8][0]).all() and dense[4][1] > dense[8][1]

# %% [markdown]
# With more sizes and a smaller stride the bars usually become longer: some anchor fits each object better. But the number of background anchors grows as
# well. Most anchors are background: a detector has few positive examples and very many negative ones. Therefore Faster R-CNN computes its loss on a
# random sample of the anchors. At most half of this sample are matched anchors, the rest is background.
#
# ### Offsets
#
# An anchor fits its object only roughly. So the network predicts four **offsets** (偏移量) that move and stretch the anchor. Let $x,y$ be the centre of the true
# box and $w,h$ its size; the index $a$ stands for the anchor.
#
# $$t_x=\frac{x-x_a}{w_a},\quad t_y=\frac{y-y_a}{h_a},\quad t_w=\log\frac{w}{w_a},\quad t_h=\log\frac{h}{h_a}$$
#
# Why not predict coordinates? Double everything: image, anchor and box. What happens to the offsets, and what happens to the coordinates?

# %%
box, anchor = torch.tensor([[12.0, 20, 52, 40]]), torch.tensor([[10.0, 10, 42, 42]])
x, y, w, h = torchvision.ops.box_convert(box, "xyxy", "cxcywh")[0]
xa, ya, wa, ha = torchvision.ops.box_convert(anchor, "xyxy", "cxcywh")[0]
t = torch.stack([(x - xa) / wa, (y - ya) / ha, (w / wa).log(), (h / ha).log()])[None]
doubled = encode_boxes(2 * box, 2 * anchor)
print("offsets:", [round(value, 3) for value in t[0].tolist()],
      "at twice the size:", [round(value, 3) for value in doubled[0].tolist()])

# %% tags=["claims"]
assert_close(t, doubled)
assert_close(decode_boxes(t, anchor), box)

# %% [markdown]
# The offsets stay the same, and the coordinates double. So the same small network can serve anchors of all sizes at all positions.
#
# ### The same size for every region
#
# The second stage of Faster R-CNN looks at one region of the feature map. Regions have different sizes, but a linear layer needs a fixed size. So each region is
# divided into $h\times w$ bins, and each bin gives one number per channel.
#
# - **RoI pooling** (感兴趣区域池化) rounds the edges to whole cells, includes the cells at the rounded right and lower edges, and takes the maximum of each bin
#   [Girshick 2015].
# - **RoI align** (感兴趣区域对齐) rounds nothing. It reads the map at $n\times n$ points in each bin by bilinear interpolation (双线性插值), and takes their mean
#   [He et al. 2017].
#
# The drawing shows a region (dashed) and its 2×2 bins. Column $q$ of this map has the value $q$. Now move a region of 6×6 cells to the right in steps of a
# quarter of a cell. **Which method notices each step?**

# %%
drawings.draw_pooling(plt.figure(figsize=(5, 2.6)), (1.7, 2.3, 6.4, 6.8))
ramp = torch.arange(12.0).expand(1, 1, 12, 12)
pooled = {}
for name, pool in {"roi_pool": roi_pool, "roi_align": roi_align,
                   "roi_align, aligned=True": partial(roi_align, aligned=True)}.items():
    regions = [torch.tensor([[2 + k / 4, 2, 8 + k / 4, 8]]) for k in range(5)]
    pooled[name] = torch.tensor([pool(ramp, [region], 1).item() for region in regions])
    print(f"{name:24}", [round(value, 2) for value in pooled[name].tolist()])
print("mean of the columns 2 to 7:", ramp[0, 0, 0, 2:8].mean().item())

# %% tags=["claims"]
assert sorted(pooled["roi_pool"].diff().unique().tolist()) == [0, 1]
for name in ("roi_align", "roi_align, aligned=True"):
    assert_close(pooled[name].diff(), torch.full((4,), 0.25))
assert abs(pooled["roi_align, aligned=True"][0] - 4.5) < 1e-5 and pooled["roi_align"][0] > 4.9
x = torch.randn(2, 3, 9, 12, requires_grad=True)
region = [torch.tensor([[1.3, 0.4, 8.9, 7.2], [2, 2, 4, 5]]), torch.tensor([[0.0, 3, 11.5, 8]])]
for name, pool in {"roi_pool": roi_pool, "roi_align": roi_align}.items():
    results = [f(x, region, (3, 4)) for f in (pool, getattr(torchvision.ops, name))]
    assert_close(*results)
    assert_close(*(torch.autograd.grad(each.square().sum(), x) for each in results))

# %% [markdown]
# RoI align changes by 0.25 at each step. RoI pooling stays the same and then jumps by 1. (Its first value is 8, and not 7, because it includes the cell
# at the rounded right edge: the columns 2 to 8.) With `aligned=True` the value of cell $i$ belongs to the centre of the cell, $i+\tfrac12$, and the
# result is the mean of the columns 2 to 7. Without it, the value belongs to $i$, and the result is half a cell larger. Section 8 asks which of the two
# fits our backbone.
#
# ### How good is a detector?
#
# Sort all **predictions** (预测) of one class, over all images, by score. A prediction is a **true positive** (真阳性) if its IoU with an object is at least 0.5, and
# if no better prediction has already found this object. Otherwise it is a **false positive** (假阳性). There are $G$ objects. After the first $n$ predictions there
# are $h_n$ true positives. Then
#
# $$P_n=\frac{h_n}{n},\qquad R_n=\frac{h_n}{G},\qquad
# \mathrm{AP}=\frac1{101}\sum_{r\in\{0,\,0.01,\dots,1\}}\ \max_{n:\,R_n\ge r}P_n .$$
#
# $P$ is the **precision** (精确率), $R$ the **recall** (召回率), and AP the **average precision** (平均精度) at IoU 0.5. The mean of AP over the classes is the **mAP**
# (平均精度均值). (COCO also averages over ten IoU thresholds from 0.5 to 0.95 [Lin et al. 2014].) Six predictions for four objects are true, true, false, true,
# false, false. Compute the AP on paper.

# %%
hits, G = torch.tensor([True, True, False, True, False, False]), 4
P = [hits[:n].sum().item() / n for n in range(1, 7)]
R = [hits[:n].sum().item() / G for n in range(1, 7)]
AP = 0
for k in range(101):
    AP += max((p_n for p_n, r_n in zip(P, R) if r_n >= k / 100), default=0) / 101
drawings.draw_area(plt.figure(figsize=(4.2, 2.4)), hits, G)

# %% tags=["claims"]
ways = (51 + 25 * 3 / 4) / 101, average_precision(hits, G), average_precision_loops(hits, G)
assert max(abs(AP - each) for each in ways) < 1e-9

# %% [markdown]
# Up to recall 0.5 the best precision is 1. Up to recall 0.75 it is 3/4. The fourth object is never found, so for a recall above 0.75 the maximum counts
# as 0. Of the 101 values of $r$, 51 are at most 0.5, and 25 lie from 0.51 to 0.75. So AP = (51 + 25 · 3/4)/101 = 0.69.
#
# ## 4 Two detectors, written here
#
# Both detectors begin with the same **backbone** (主干网络). It has three convolutions with stride 2. So one cell of its feature map stands for 8×8 pixels.
#
# **One stage** (单阶段). This is the idea of YOLO [Redmon et al. 2016]: each cell of the map predicts one box. The cell answers four questions at once. Is the centre
# of an object in this cell? Where in the cell is it? How large is the object? Which class does it have? If two centres lie in one cell, one object is lost.

# %%
num_classes, widths = len(names), runtime.pick(quick=(16, 32, 96), full=(32, 64, 128))
drawings.draw_one_stage(plt.figure(figsize=(7, 0.9)), side, widths[2], num_classes)


# %% [markdown]
# The cell in row $j$ and column $i$ has the outputs $o$. With 8 pixels in a cell and a typical side $a$, they are decoded (解码) into a box and scores:
#
# $$x=8\,(i+\sigma(o_x)),\quad y=8\,(j+\sigma(o_y)),\quad w=a\,e^{o_w},\quad h=a\,e^{o_h},\qquad
# \text{score}_k=\sigma(o_0)\cdot\operatorname{softmax}_k(o_5,\dots)$$
#
# These formulas for $x,y,w,h$ are those of the second version, YOLO9000 [Redmon & Farhadi 2017]; there $a$ comes from the boxes of the training set.

# %%
def convolve(channels, out, stride):
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, padding=1, bias=False),
                         nn.BatchNorm2d(out), nn.ReLU())

class Grid(nn.Module):                       # (B, 3, H, W) -> (B, H/8, W/8, 5 + num_classes)
    def __init__(self, size):
        super().__init__()
        a, b, c = widths
        self.size = size                     # the typical side, in pixels
        self.backbone = nn.Sequential(convolve(3, a, 2), convolve(a, b, 2), convolve(b, b, 1),
                                      convolve(b, c, 2), convolve(c, c, 1))
        self.head = nn.Sequential(nn.Conv2d(c, 64, 3, padding=1), nn.ReLU(),
                                  nn.Conv2d(64, 5 + num_classes, 1))

    def forward(self, x):
        return self.head(self.backbone(x)).permute(0, 2, 3, 1)

    def decode(self, o):                     # -> scores (B, N, classes), boxes (B, N, 4)
        x = 8 * (torch.arange(o.shape[2]) + o[..., 1].sigmoid())
        y = 8 * (torch.arange(o.shape[1])[:, None] + o[..., 2].sigmoid())
        w, h = self.size * o[..., 3].exp(), self.size * o[..., 4].exp()
        boxes = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=-1)
        scores = o[..., :1].sigmoid() * o[..., 5:].softmax(-1)
        return scores.flatten(1, 2), boxes.flatten(1, 2)


# %% [markdown]
# **The loss** has three parts. BCE is the binary cross-entropy (二元交叉熵): it asks every cell whether a centre lies in it. $S$ is the smooth L1 loss (平滑 L1
# 损失), quadratic for small differences and linear for large ones. It compares four numbers of the box with their true values: $\sigma(o_x)$ and
# $\sigma(o_y)$ with the position of the centre in its cell, $o_w$ with $\log(w/a)$, and $o_h$ with $\log(h/a)$. CE compares the class. $S$ and CE are
# computed only in cells with a true centre. $G$ is the number of objects in the batch.
#
# $$L_{\mathrm{grid}}=\frac1G\Big[\sum_{\text{cells}}\mathrm{BCE}(o_0,\text{centre?})+\sum_{\text{centres}}S+\sum_{\text{centres}}\mathrm{CE}\Big]$$
#
# The package has the same detector as `GridDetector`. It takes our weights. Are the losses and the boxes equal?

# %%
from vlmbook.detection import GridDetector, SmallBackbone, detection_loss

def grid_loss(net, batch, targets):
    o = net(batch)
    has_centre, boxes, classes = torch.zeros(o.shape[:3]), 0.0, 0.0
    for i, target in enumerate(targets):
        true_boxes = torchvision.ops.box_convert(target["boxes"], "xyxy", "cxcywh")
        for (x, y, w, h), label in zip(true_boxes, target["labels"]):
            row, column = int(y / 8), int(x / 8)
            cell = o[i, row, column]
            has_centre[i, row, column] = 1
            wanted = [x / 8 - column, y / 8 - row, (w / net.size).log(), (h / net.size).log()]
            predicted = torch.cat([cell[1:3].sigmoid(), cell[3:5]])
            boxes += F.smooth_l1_loss(predicted, torch.stack(wanted), beta=0.1, reduction="sum")
            classes += F.cross_entropy(cell[5:], label)
    centres = F.binary_cross_entropy_with_logits(o[..., 0], has_centre, reduction="sum")
    return (centres + boxes + classes) / sum(len(target["labels"]) for target in targets)


typical = sizes[len(sizes) // 2]
mine, package = Grid(typical), GridDetector(SmallBackbone(widths), num_classes, size=typical)
package.load_state_dict(mine.state_dict())
losses = [grid_loss(mine, images[:8], targets[:8]),
          detection_loss(package, images[:8], *data.pad_targets(targets[:8]))]
print("loss by hand, package:", [round(each.item(), 4) for each in losses])

# %% tags=["claims"]
assert_close(*losses)
assert_close(*(torch.autograd.grad(each, list(net.parameters()), retain_graph=True)
               for each, net in zip(losses, (mine, package))), rtol=1e-3, atol=1e-4)
with torch.no_grad():
    decoded = mine.eval().decode(mine(images[:8]))
    expected = package.eval().predict_candidates(images[:8])
for i, (scores, boxes) in enumerate(expected):
    assert_close([decoded[0][i], decoded[1][i]], [scores, boxes], rtol=1e-4, atol=1e-4)

# %% [markdown]
# The losses, the gradients and the decoded boxes are equal, up to rounding in float32. The two cells above are a whole one-stage detector; only the NMS
# at the end is missing.
#
# **Two stages** (两阶段). Faster R-CNN [Ren et al. 2015] needs two more parts.
#
# 1. The **region proposal network** (区域建议网络, RPN) looks at the map. It gives each anchor one logit, *object or not*, and four offsets. The best boxes
#    after NMS are the **proposals** (候选框).
# 2. RoI align cuts each proposal out of the **same** map. Two hidden layers follow. One linear layer gives the class logits, and background is one class.
#    Another linear layer gives four offsets for each class.

# %%
from vlmbook.detection import FasterRCNN, as_torchvision

settings = runtime.pick(quick=dict(width=128, pre_nms_top_n=60, post_nms_top_n=20,
                                   rpn_batch_size_per_image=32, box_batch_size_per_image=16),
                        full=dict(width=512, pre_nms_top_n=1000, post_nms_top_n=300,
                                  rpn_batch_size_per_image=128, box_batch_size_per_image=128))
per_cell = len(sizes) * len(ratios)          # anchors

def two_stages():                            # the package's
    return FasterRCNN(SmallBackbone(widths), num_classes, sizes=sizes, ratios=ratios, **settings)


drawings.draw_two_stages(plt.figure(figsize=(7, 2.5)), side, widths[2], num_classes, per_cell,
                         settings["post_nms_top_n"], settings["width"])


# %% [markdown]
# The first stage as code: the layers of the RPN, and the selection of the proposals.

# %%
class ProposalNetwork(nn.Module):            # map (B, C, h, w) -> (B, N) logits, (B, N, 4) offsets
    def __init__(self, channels, per_cell):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.cls_logits = nn.Conv2d(channels, per_cell, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * per_cell, 1)

    def forward(self, x):
        x = self.conv(x).relu()
        logits = self.cls_logits(x).permute(0, 2, 3, 1).flatten(1)
        offsets = self.bbox_pred(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4)
        return logits, offsets

def propose(logits, offsets, anchors):       # of one image: (N,), (N, 4), (N, 4) -> (L, 4)
    best = logits.topk(min(settings["pre_nms_top_n"], len(logits))).indices
    boxes = clip_boxes(decode_boxes(offsets[best], anchors[best]), side)
    kept = nms(boxes, logits[best], 0.7)
    return boxes[kept[:settings["post_nms_top_n"]]]


# %% [markdown]
# The second stage, and the comparison. The package's `FasterRCNN` has the parameter names of torchvision's, so torchvision's network takes the same weights. We
# compare our stages with the package, and the package with torchvision. Are the detections equal?

# %%
class RegionHeads(nn.Module):                # map, (L, 4) boxes -> (L, K) logits, (L, 4·K) offsets
    def __init__(self, channels, width, outputs):                     # one output is background
        super().__init__()
        self.fc6 = nn.Linear(channels * 49, width)
        self.fc7 = nn.Linear(width, width)
        self.cls_score = nn.Linear(width, outputs)
        self.bbox_pred = nn.Linear(width, 4 * outputs)

    def forward(self, x, boxes):             # 8 pixels in a cell, 2×2 points in each of 7×7 bins
        x = torchvision.ops.roi_align(x, [boxes / 8], 7, 1.0, 2).flatten(1)
        x = self.fc7(self.fc6(x).relu()).relu()
        return self.cls_score(x), self.bbox_pred(x)

runtime.seed_everything(0)
ours = two_stages().eval().requires_grad_(False)
ours.roi_heads.box_predictor.cls_score.weight *= 30        # an untrained head with sure predictions
rpn = ProposalNetwork(widths[2], per_cell)
heads = RegionHeads(widths[2], settings["width"], 1 + num_classes)
for part, of_package in ((rpn, ours.rpn.head), (heads, ours.roi_heads)):   # same order, other names
    part.load_state_dict(dict(zip(part.state_dict(), of_package.state_dict().values())))
theirs = as_torchvision(ours, side)
pairs = list(zip(ours(test_images[:4]), theirs(list(test_images[:4]))))
print("detections:", [(len(a["boxes"]), len(b["boxes"])) for a, b in pairs])

# %% tags=["claims"]
stages = ours.stages(test_images[:1])
with torch.no_grad():
    logits, offsets = rpn(stages["map"])
    proposed = propose(logits[0], offsets[0], stages["proposals"].anchors)
    assert_close(list(heads(stages["map"], proposed)), [stages["logits"], stages["offsets"]])
assert_close(proposed, stages["proposals"].boxes[0])
for detections, other in pairs:
    from_1 = {**detections, "labels": detections["labels"] + 1}       # their 0 is the background
    assert_close([from_1[key] for key in other], list(other.values()), rtol=1e-3, atol=1e-3)
    assert len(detections["boxes"])


# %% [markdown]
# Our two stages give the same proposals, logits and offsets as the package. The package and torchvision give the same boxes, scores and labels. (The
# tests of the package also compare the losses and all gradients with torchvision's.)
#
# ## 5 Train
#
# Two simpler methods stand beside the detectors.
#
# - The **constant box** is the baseline (基线). It does not look at the image. For each class it predicts the one box that would find the most objects of the
#   training set.
# - **R-CNN** [Girshick et al. 2014] cuts regions out of the *image* and classifies each region. Our R-CNN learns from shifted true boxes and from random boxes. A
#   region with IoU below 0.5 is background. Its test regions are windows at all positions. (The R-CNN of the paper is better than ours: its regions come from
#   selective search, it corrects boxes by regression, and it trains on hard negatives (困难负样本). Ours does none of the three.)

# %%
def crop(images, boxes):
    return torchvision.ops.roi_align(images, boxes, 24, 1.0, 2)

def regions_to_learn(targets):               # -> n × (k, 4), n × (k,) classes; 0 is background
    boxes, kinds = [], []
    for each in targets:
        some = each["boxes"][torch.randint(len(each["boxes"]), (6,))]
        wh = some[:, 2:] - some[:, :2]
        low = torch.rand(6, 2) * (torch.tensor(side[::-1]) - wh)
        near = each["boxes"] + 1.5 * torch.randn_like(each["boxes"])
        boxes.append(torch.cat([near, torch.cat([low, low + wh], dim=1)]))
        iou = box_iou(each["boxes"], boxes[-1])
        owner = match_anchors(iou, 0.5, 0.5, allow_low_quality_matches=False)
        kinds.append(torch.where(owner >= 0, each["labels"][owner.clamp(min=0)] + 1, 0))
    return boxes, kinds

runtime.seed_everything(0)
boxes, kinds = regions_to_learn(targets)
pieces, kinds = crop(images, boxes), torch.cat(kinds)
rcnn = nn.Sequential(SmallBackbone(widths), nn.Flatten(), nn.Linear(9 * widths[2], 1 + num_classes))
fit(rcnn, (pieces, kinds), loss_fn=once, batch_size=64, lr=5e-3, progress=False,
    epochs=runtime.pick(quick=4, full=20))
rcnn = rcnn.cpu().eval().requires_grad_(False)
print(len(pieces), "regions,", f"{(kinds == 0).float().mean():.0%} of them background")

# %% [markdown]
# Now the two detectors. The book starts Faster R-CNN from a **pretrained** (预训练) backbone, and so do we: **both** detectors start from the backbone of R-CNN,
# which learned to classify regions. All their weights then learn on. This is **fine-tuning** (微调). So start, images and batch size are the same for both
# detectors. The number of epochs (轮次) is not: one epoch of the two-stage detector takes several times as long, so it gets fewer.
#
# Faster R-CNN has two losses with similar parts. $L_{\mathrm{RPN}}$ uses a sample of $n$ anchors, and $L_{\mathrm{head}}$ uses a sample of $n$
# proposals. $o$ is the logit *object or not*, and $z$ are the class logits. $y$ is the true class; it is background if the proposal has an IoU below 0.5
# with every object. $t$ are the predicted offsets, and $t^*$ the true offsets (section 3). The loss of the detector is the sum of both:
#
# $$L_{\mathrm{RPN}}=\frac1n\Big[\sum\mathrm{BCE}(o,\text{object?})+\sum_{\text{objects}}S(t-t^*)\Big],\qquad
# L_{\mathrm{head}}=\frac1n\Big[\sum\mathrm{CE}(z,y)+\sum_{\text{objects}}S(t-t^*)\Big]$$
#
# Two methods of practice are only named here. **Data augmentation** (数据增强): the full profile mirrors random batches; random crops and zooms are common too.
# **Multi-scale detection** (多尺度检测): our objects all have about the size of three cells; for objects of very different sizes, detectors use several maps of
# different resolution, a **feature pyramid** (特征金字塔) [Lin et al. 2017].

# %%
quick = runtime.profile() == "quick"

def loss_of(net, x, boxes, labels):
    if not quick and torch.rand(()) < 0.5:
        x, boxes = data.flip_horizontally(x, boxes)
    if isinstance(net, (GridDetector, FasterRCNN)):
        return detection_loss(net, x, boxes, labels)
    return sum(net(list(x), [{**t, "labels": t["labels"] + 1}         # torchvision's
                             for t in data.unpad_targets(boxes, labels)]).values())

detectors = {"one stage": (GridDetector(SmallBackbone(widths), num_classes, size=typical), 4),
             "two stages": (two_stages(), 2)}
if not quick:
    detectors["torchvision's"] = as_torchvision(two_stages(), side), 2
nets, histories = {}, {}
for name, (net, epochs) in detectors.items():
    runtime.seed_everything(0)
    net.backbone.load_state_dict(rcnn[0].state_dict())                # pretrained
    histories[name] = fit(net, (images, *data.pad_targets(targets)), loss_fn=loss_of, lr=5e-3,
                          warmup=20, clip=5.0, batch_size=16, epochs=epochs if quick else 40)
    nets[name] = net.cpu().eval().requires_grad_(False)
drawings.draw_training(plt.figure(figsize=(6, 2.2)), histories)


# %% [markdown]
# The two curves are sums of different losses. So their heights cannot be compared. Both curves fall. **How good are the detectors on scenes that they never saw?**
# All four methods are measured on the same test images: the first 60, because R-CNN takes long. Guess the order.

# %%
def detect_rcnn(x):
    stride = runtime.pick(quick=6, full=16)
    windows = generate_anchors([n // stride for n in side], (stride, stride),
                               [zoom * s for s in sizes for zoom in (0.85, 1.2)], (1.0,))
    return [select_detections(rcnn(crop(one[None], [windows])).softmax(1)[:, 1:], windows, side)
            for one in x]


asked = 60
few_images, few = test_images[:asked], test_targets[:asked]
constant = ConstantBox(targets[:400], num_classes, side)
found = {"constant box": constant(few_images), "R-CNN": detect_rcnn(few_images)}
found |= {name: experiments.detect(net, few_images) for name, net in nets.items()}
same = {name: mean_average_precision(detections, few)[0] for name, detections in found.items()}
overlaps = {name: experiments.count_by_overlap(each, few) for name, each in found.items()}
print(asked, "images,", sum(len(each["labels"]) for each in few), "objects; boxes with a score of",
      "at least 0.4, by their best IoU: below 0.1, 0.1 to 0.5, from 0.5 on")
for name, counts in overlaps.items():
    trained = f"{histories[name].seconds:.0f} s" if name in histories else ""
    print(f"{name:13} mAP {same[name]:.3f}; boxes:", *counts, trained)
best = max(nets, key=lambda name: same[name])
figure = plt.figure(figsize=(7, 3.7))
drawings.draw_detections(figure, few_images[:8], found[best][:8], few[:8], names, columns=4)
records.picture("ch05a", figure);

# %% tags=["claims"]
assert all(same["constant box"] < same["R-CNN"] < same[name] for name in nets)
assert sum(overlaps["R-CNN"]) > sum(overlaps[best])
assert overlaps["R-CNN"][0] < 0.2 * sum(overlaps["R-CNN"])

# %% [markdown]
# The figure shows the detector with the higher mAP in this run, and only its boxes with a score of at least 0.4. True positives are blue, false
# positives orange, the ground truth white. An object with only a white box was not found. The constant box finds nearly nothing. Our R-CNN is worse than
# both detectors. It predicts far more boxes. Nearly all of its boxes overlap an object. Many boxes fit badly (IoU below 0.5). Many others fit, but they
# are a second box for the same object: there are more fitting boxes than objects. We did not test which of the missing parts (box regression, better
# regions, hard negatives) would help most. The two detectors had one run each and different numbers of epochs, so their order is no result.
#
# ### What the thresholds do
#
# The widget takes all candidates (候选) of a detector, before any decision. Panel 1 shows the boxes above the *score*. Panel 2 shows those that stay after NMS with
# threshold *iou*. **What happens to precision and recall with a lower *score*? What happens with *iou* = 1, which is no suppression? Why is an *iou* near 0
# dangerous?**

# %%
first = test_images[:20]
candidates = {name: net.predict_candidates(first) for name, net in nets.items()
              if hasattr(net, "predict_candidates")}
interact.live(partial(drawings.draw_suppression, candidates=candidates, images=first, names=names,
                      targets=test_targets[:20]), detector=list(candidates), image=(0, 19),
              score=(0.05, 0.95, 0.05), iou=(0.0, 1.0, 0.05), figsize=(7, 2.7))


# %% [markdown]
# With a lower *score* more false positives appear: precision falls, and recall rises or stays. With *iou* = 1 each additional box for the same object is
# a false positive: precision falls, and recall stays or rises slightly. NMS works on each class by itself. So with *iou* near 0 two overlapping objects
# of one class may keep only one box: recall falls.
#
# ## 6 See inside
#
# Follow one image through all stages of the two-stage detector. Panel 2 shows the channel of the map that varies most. Panel 3 (*objectness*) shows for
# each cell the probability that one of its anchors fits an object. Panel 6 shows the part of the image under each of the first eight proposals, with the
# most probable class.
#
# The table below the figure counts over 60 test images. *Objects found* is the share of the objects with at least one box of IoU 0.5 or more: the recall of the
# boxes. *Boxes on objects* is the share of the boxes with IoU 0.5 or more with some object. **Which step brings the objects, and which step removes most boxes?**

# %%
def met(boxes_of):                           # -> share of objects found, share of boxes on objects
    iou = [box_iou(boxes, t["boxes"]) >= 0.5 for boxes, t in zip(boxes_of, few)]
    return [torch.cat([each.any(axis) for each in iou]).float().mean().item() for axis in (0, 1)]

two, i = nets["two stages"], max(range(40), key=lambda i: len(test_targets[i]["labels"]))
drawings.draw_stages(plt.figure(figsize=(7, 4.2)), test_images[i], test_targets[i]["boxes"],
                     two.stages(test_images[[i]]), names)
proposals = two.rpn(two.backbone(few_images), (8, 8), side)
after = []
for boxes in proposals.candidates:           # best first
    after.append(boxes[nms(boxes, torch.arange(len(boxes), 0, -1).float(), 0.7)])
steps = {"anchors": [proposals.anchors] * asked, "with offsets": proposals.candidates,
         "after NMS": after, "proposals": proposals.boxes}
meeting = {name: met(boxes_of) for name, boxes_of in steps.items()}
for (name, share), boxes_of in zip(meeting.items(), steps.values()):
    print(f"{name:13}{sum(map(len, boxes_of)) / asked:6.0f} an image;",
          f"{share[0]:.2f} of objects found, {share[1]:.2f} of boxes on objects")

# %% tags=["claims"]
kept = [meeting[name][0] for name in ("proposals", "with offsets", "anchors")]
assert kept[0] > 0.8 and 0 <= kept[1] - kept[0] < 0.1
if names == data.SCENE_NAMES:                # the anchors of the full profile alone meet most cells
    assert kept[2] < kept[1] - 0.05
assert meeting["proposals"][1] < 0.9

# %% [markdown]
# The offsets help most to find the objects: the moved boxes find more objects than the anchors do. NMS at 0.7 removes only a few boxes here. The cut to
# the best 20 proposals removes most boxes and loses nearly no object. Most proposals have an IoU below 0.5 with every object, even after training. The
# heads should call such proposals background.
#
# ### Natural photographs
#
# The scenes are made of real photographs and drawn objects. What do detectors do on a photograph that nobody drew on? Three tests:
#
# 1. **A detector that was trained for photographs.** The face cascade of scikit-image [Viola & Jones 2001] was trained on faces ([chapter
#    6a](ch06a_face_recognition.ipynb)). It gets the photograph of the astronaut.
# 2. **Our detector on a photograph.** It gets a photograph of coins. Each coin is round, and *circle* is one of the classes. No training scene contains a coin. We
#    shrink the photograph so that a coin has about 20 pixels, the size of our objects.
# 3. **A classifier on windows**, the idea of R-CNN without any training: EfficientNet-Lite0 knows 1,000 classes ([chapter
#    1](ch01_from_features_to_networks.ipynb)). It classifies square windows of three sizes. (Its weights come with the extra `pretrained`. Without it, test 3 is
#    left out.) NMS keeps the best windows with a probability of at least 0.5.
#
# White boxes are the ground truth: two were measured by hand, those of the coins come from a segmentation (分割). A detected box is blue if its IoU with a true box is
# at least 0.5, else orange. **Which of the three will find its objects?**

# %%
from vlmbook.face_recognition import detect_faces
from vlmbook.pretrained import WeightsMissing, efficientnet_lite0

astronaut, coins, camera = (data.photo(name) for name in ("astronaut", "coins", "camera"))
small_coins = experiments.shrink(coins, 0.5)
[on_coins] = nets["one stage"](small_coins[None])
sure = on_coins["scores"] >= 0.4
texts = [names[label] for label in on_coins["labels"][sure].tolist()]
panels = {"1: face cascade": (astronaut, detect_faces(astronaut), [], experiments.FACE),
          "2: our one-stage detector": (small_coins, on_coins["boxes"][sure], texts,
                                        experiments.find_coins(coins) / 2)}
try:
    windows = experiments.make_windows(camera.shape[1:])
    chance, classes = experiments.classify_windows(efficientnet_lite0(), camera, windows)
    likely = (chance >= 0.5).nonzero()[:, 0]
    likely = likely[nms(windows[likely], chance[likely], 0.3)]
    panels["3: classifier"] = (camera, windows[likely], [classes[i] for i in likely],
                               experiments.TRIPOD)
except WeightsMissing as missing:
    print(missing)
fits = {title: box_iou(boxes, true_boxes) >= 0.5
        for title, (_, boxes, _, true_boxes) in panels.items()}
for title, of in fits.items():
    print(f"{title}: {of.any(0).sum()} of {of.shape[1]} objects found, {len(of)} boxes")
drawings.draw_photographs(plt.figure(figsize=(7, 2.7)), panels)

# %% tags=["claims"]
assert fits["1: face cascade"].all()
if names == data.SCENE_NAMES:
    assert fits["2: our one-stage detector"].any(0).float().mean() < 0.5
if "3: classifier" in fits:
    assert fits["3: classifier"].any() and fits["3: classifier"].any(1).float().mean() < 0.5

# %% [markdown]
# 1. The cascade finds the face. Photographs of faces are what it learned from.
# 2. Our detector, trained on scenes, finds none of the 24 coins with a score of 0.4 or more. The training circles have one bright colour and no relief,
#    and coins are grey. We did not test which of the differences matters. So a high mAP on test scenes does not show that a detector works on other
#    images.
# 3. The classifier names the class *tripod* correctly, and one of its boxes fits. The other boxes contain only a part of the tripod, or mostly the man. The classifier
#    learned from whole photographs: it has no class *background*, no offsets, and it never saw badly placed windows.
#
# So a detector for natural photographs needs photographs with true boxes for training. This package contains no such set. With the full profile the notebook trains
# on one: blood cells.
#
# ## 7 Going deeper: what it costs
#
# Each step from R-CNN to one stage removes a slow part of the detector before it.
#
# - **R-CNN** enlarges every region and sends it through the network.
# - **Fast R-CNN** [Girshick 2015] sends the image through the network once, and cuts the regions out of the map. The regions still come from outside.
# - **Faster R-CNN** computes the regions from the map, by the RPN.
# - **One stage** needs no regions.
#
# We measure milliseconds for one image on this machine, for 20, 80 and 320 regions. For the regions from outside we measure only the segmentation of
# Felzenszwalb & Huttenlocher [2004]. Selective search [Uijlings et al. 2013] begins with this segmentation and then does more. For R-CNN we measure the
# backbone, but not the cutting of the regions. The boxes of the regions are random here, because only the time is measured. The last decoding and the
# last NMS are left out for all. Which bars will grow with the number of regions?

# %%
runtime.seed_everything(0)
costs = experiments.measure_costs(two, nets["one stage"], test_images[:1])
drawings.draw_costs(plt.figure(figsize=(7, 2.5)), costs)
total = {name: {n: sum(each.values()) for n, each in of.items()} for name, of in costs.items()}

# %% tags=["claims"]
last = [total[name][320] for name in total]
assert costs["R-CNN"][320]["features"] > 6 * costs["R-CNN"][20]["features"]
assert costs["Faster R-CNN"][20]["regions"] < costs["Fast R-CNN"][20]["regions"]
assert last == sorted(last, reverse=True)

# %% [markdown]
# R-CNN computes features for every region, and its blue part grows. The others compute features once. The heads of Fast R-CNN and Faster R-CNN grow with the
# regions, too; their share is large here, because the backbone is very small. The one-stage detector has no regions, so it was measured only once.
#
# ## 8 Going deeper: half a cell
#
# In section 3 the value of a cell belonged to its centre with `aligned=True`, and to its first corner without it. Which one fits our backbone? We test
# it: take the region from pixel 32 to pixel 64. Its centre is pixel 48. We compute the gradient of the pooled region with respect to the image. A pixel
# with a large gradient has a large influence on the region. The centre of the gradient is the mean of the pixel columns, weighted by the size of the
# gradient. Where is it?

# %%
runtime.seed_everything(0)
backbone = SmallBackbone((16, 32, 64)).eval()
centre = {aligned: experiments.find_center(backbone, aligned) for aligned in (False, True)}
for aligned, column in centre.items():
    print(f"aligned={aligned}: the gradient has its centre at pixel {column:.1f}, wanted 48")

# %% tags=["claims"]
assert abs(centre[False] - 48) < 1 < 3 < abs(centre[True] - 48)

# %% [markdown]
# `aligned=False` fits: the remaining error is half a pixel. The first output of a 3×3 convolution with stride 2 and padding 1 has its centre on the
# first pixel, not between the first two pixels. So cell $i$ of this map depends on the pixels around $8i$, and not on those around $8i+4$. Our detectors
# and torchvision's Faster R-CNN use `aligned=False`.
#
# ## 9 Going deeper: break it
#
# What is each part of a trained detector worth? We switch one part off. Nothing is trained anew.
#
# - **No suppression**: all boxes above the score stay.
# - **No last offsets**: the two-stage detector keeps the proposals as boxes; the one-stage detector uses a square of the typical size in the middle of each cell.
#   Both lose the position **and** the size of the last step.
#
# The mAP is measured on four parts of the test images; ± is the standard deviation over the four parts. Which loss of mAP is the largest?

# %%
lost = {}
for name in ("one stage", "two stages"):
    worth = experiments.measure_switched_off(nets[name], test_images, test_targets)
    lost[name] = {off: worth["nothing"] - worth[off] for off in ("suppression", "last offsets")}
    print(f"{name}, whole: mAP {worth['nothing'].mean():.3f} ± {worth['nothing'].std():.3f}")
    for off, difference in lost[name].items():
        print(f"    without {off}: {-difference.mean():+.3f} ± {difference.std():.3f}")
records.record(
    "ch05a", seed=0, mAP=same, T=T, top_k=top, ms_an_image=total,
    lost_without={name: {off: x.tolist() for off, x in lost[name].items()} for name in lost},
    seconds_of_training={name: each.seconds for name, each in histories.items()},
    ECE={"T = 1": calibration[1], "T": calibration[T]},
    proposals=dict(zip(("objects found", "boxes on objects"), meeting["proposals"])));

# %% tags=["claims"]
assert lost["two stages"]["suppression"].mean() > lost["one stage"]["suppression"].mean()
assert lost["one stage"]["last offsets"].mean() > lost["two stages"]["last offsets"].mean()

# %% [markdown]
# The two-stage detector loses much without suppression: many proposals lie around each object, and each becomes a detection. In the one-stage detector only one cell
# is trained to find each object. The one-stage detector loses much without the last offsets, because it has no other offsets. The two-stage detector has already
# moved each box once, in the RPN. (We compare one network of each kind. Other networks may give other numbers.)
#
# ## 10 Exercises
#
# Answer in the cell and run it. `check` says what is wrong. `hint("ch05a.1")` helps in steps, `solution("ch05a.1")` shows one answer.
#
# **1 · Predict.** A `FasterRCNN` with our backbone has anchors of two sizes and three ratios in each cell. It knows five classes, one of them background. It gets two
# images of 96×160 pixels (height × width). One cell of the map stands for 8×8 pixels. The layer `bbox_pred` of the RPN is a 1×1 convolution on this map, with
# stride 1. Which shape has its output? Answer without running a network.

# %%
shape = ...                                  # (B, C, H, W)
check("ch05a.1", shape)


# %% [markdown]
# **2 · Derive.** The true box is `w` wide. The predicted box has the same size, but it is shifted sideways by `d`. `d` may be negative (a shift to the left), and it
# may be larger than `w`. What is the IoU? (And how far may a box of width 30 be shifted and still have IoU 0.5? Compare with the solution.)

# %%
def shifted_iou(w, d):                       # shifted_iou(40, 10) -> 0.6
    ...


check("ch05a.2", shifted_iou)


# %% [markdown]
# **3 · Build.** NMS removes a box, even if it belongs to another object close by. Soft-NMS [Bodla et al. 2017] lowers its score instead. Take the box with the highest
# score. Multiply the score of each remaining box by $e^{-\mathrm{IoU}^2/\sigma}$, with its IoU with the taken box. Repeat with the remaining boxes and their new
# scores, until none remains. Return the final scores in the order of the boxes.

# %%
def soft_nms(boxes, scores, sigma=0.5):      # (N, 4), (N,) -> (N,)
    ...


check("ch05a.3", soft_nms)


# %% [markdown]
# **4 · Build.** Two boxes that do not touch have IoU 0, however far apart they are, and the gradient is 0. The generalised IoU [Rezatofighi et al. 2019] helps. Let $C$ be the
# smallest box around both. The generalised IoU is $\mathrm{IoU}-|C\setminus(A\cup B)|\,/\,|C|$. Compute it for pairs: the first box of `a` with the first box of
# `b`, the second with the second, and so on.

# %%
def giou(a, b):                              # (N, 4), (N, 4) -> (N,)
    ...


check("ch05a.4", giou)

# %% [markdown]
# ## 11 Book check
#
# **W15 · The missing edge.** The drawing of Faster R-CNN in §2.2.3 is a chain. Its branches get only what the RPN gives: boxes, and one number for each box. The
# class cannot be computed from these numbers. In the paper RoI pooling has two inputs, the feature map and the proposals.
#
# The next cell draws both. Then it follows one image through our network, and notes the shapes of the inputs.
#
# - **W15** The gradient of the class logits with respect to the map is not 0. So the class comes from the map.
# - **W32 · Sliding over the image?** The section says that the RPN slides over the image and extracts features. What is the input of its head?
# - **I15 · An object in each proposal?** The section says that each proposal contains a possible object. We give the untrained network noise. How many proposals
#   does it make?

# %%
drawings.draw_book_and_paper(plt.figure(figsize=(7, 1.9)))
inputs = {}

def note(part, x):
    inputs[type(part).__name__] = tuple(x[0].shape[1:])

hooks = [part.register_forward_pre_hook(note) for part in (ours.rpn.head, ours.roi_heads.box_head)]
x = ours.backbone(test_images[:1]).requires_grad_()
boxes = ours.rpn(x, (8, 8), side).boxes                # 8×8 pixels a cell
_, logits, offsets = ours.roi_heads(x, boxes, (8, 8))
for hook in hooks:
    hook.remove()
to_map = torch.autograd.grad(logits.square().sum(), x)[0].abs().max()
nothing = ours.rpn(ours.backbone(torch.rand(1, 3, *side)), (8, 8), side)
print("inputs:", inputs, f"; largest gradient at the map: {to_map:.2f}")
print("outputs of bbox_pred:", offsets.shape[1], "; proposals in noise:", len(nothing.boxes[0]))

# %% tags=["claims"]
assert to_map > 0 and not boxes[0].requires_grad                                       # W15
assert inputs["RPNHead"] == x.shape[1:] and inputs["TwoMLPHead"] == (widths[2], 7, 7)       # W32
assert ours.rpn.head.cls_logits.out_channels == per_cell                               # no class
assert offsets.shape[1] == 4 * (1 + num_classes)                   # I16; one is background
assert settings["post_nms_top_n"] // 2 < len(nothing.boxes[0]) <= settings["post_nms_top_n"]  # I15


# %% [markdown]
# The head of the RPN gets the channels of the map, never the three channels of the image: the RPN slides over the shared map (W32). Noise contains no
# object, but the RPN gives about as many proposals as the settings allow. It sorts the boxes, and the best boxes go on, even with low scores (I15).
#
# **I13 · Sigmoid or ReLU?** The section names both as common activation functions (激活函数). The derivative of the sigmoid is $\sigma(1-\sigma)\le\tfrac14$. The derivative
# of ReLU is 1 for every positive input [Glorot et al. 2011]. Ten hidden layers multiply ten derivatives, and $0.25^{10}\approx10^{-6}$. We take a multilayer perceptron
# (多层感知机) with ten hidden layers. How large is the gradient of its first layer?

# %%
def gradient_norms(activation):              # -> norm of the weights' gradient, layer by layer
    runtime.seed_everything(0)
    layers = [nn.Flatten(), nn.Linear(64, 64), activation()]
    for _ in range(9):
        layers += [nn.Linear(64, 64), activation()]
    deep = nn.Sequential(*layers, nn.Linear(64, 10))
    once(deep, digits[:200], values[:200]).backward()
    return [layer.weight.grad.norm().item() for layer in deep if isinstance(layer, nn.Linear)]


norms = {"ReLU": gradient_norms(nn.ReLU), "sigmoid": gradient_norms(nn.Sigmoid)}
drawings.draw_gradients(plt.figure(figsize=(5, 2.4)), norms)
falls = {name: each[0] / each[-1] for name, each in norms.items()}
print(*(f"{name}: first layer {fall:.0e} of the last" for name, fall in falls.items()), sep="\n")

# %% tags=["claims"]
assert torch.func.vmap(torch.func.grad(torch.sigmoid))(torch.linspace(-8, 8, 999)).max() <= 0.25
assert falls["sigmoid"] < 1e-6 < 1e-4 < falls["ReLU"]

# %% [markdown]
# With the sigmoid the first layer gets nearly no gradient. With ReLU it gets much more. (The ReLU gradient falls too; the first weights of PyTorch are small.) Hidden
# layers use ReLU or similar functions today. The sigmoid is used where the answer is a number between 0 and 1, as in *object or not*.
#
# The other errata of this section, one line each:
#
# - **I14 · Softmax.** The fully connected layer flattens and gives probabilities → flattening, linear layer and softmax are three steps; the softmax belongs to the
#   loss (section 2).
# - **I16 · Coordinates.** The location branch gives the coordinates of the box → it gives offsets from the proposal, four for each class (section 3).
# - **I17 · 锚点.** An anchor is a point → an anchor is a reference box (锚框) with size and shape; the paper has nine in each cell (section 3).
# - **I18 · Four names in a row.** R-CNN, Fast R-CNN, Faster R-CNN and YOLO locate objects *accurately* → the first three have two stages, YOLO has one; without IoU,
#   NMS and AP the word has no number (section 5).
#
# ## 12 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook finds blood cells in microscope photographs. Torchvision's Faster R-CNN learns beside ours, with the same backbone,
# settings and epochs. What the published runs measured:

# %% tags=["record"]
records.show("ch05a", "quick")
records.show("ch05a", "full")

# %% [markdown]
# ## 13 What we learned
#
# 1. The last layer gives logits. The softmax belongs to the loss, and is computed once. Compare confidence with accuracy on held-out data.
# 2. A detector asks each anchor or each cell: is there an object, which class has it, and how must the box move?
# 3. A detector finds an object several times. NMS keeps the best box.
# 4. Faster R-CNN cuts its proposals out of one shared map. A one-stage detector needs no proposals.
# 5. The measure is average precision at a stated IoU, on images that were not used for training, beside a baseline.
#
# **References.** R. Girshick, J. Donahue, T. Darrell, J. Malik, *Rich feature hierarchies for accurate object detection and semantic segmentation*, CVPR, 2014, arXiv:1311.2524 · R. Girshick, *Fast R-CNN*, ICCV, 2015, arXiv:1504.08083 ·
# S. Ren, K. He, R. Girshick, J. Sun, *Faster R-CNN: towards real-time object detection with region proposal networks*, NeurIPS, 2015, arXiv:1506.01497 · J. Redmon, S. Divvala, R. Girshick, A. Farhadi, *You only look once: unified, real-time object detection*, CVPR, 2016, arXiv:1506.02640 · J. Redmon, A. Farhadi, *YOLO9000: better, faster, stronger*, CVPR, 2017, arXiv:1612.08242 ·
# K. He, G. Gkioxari, P. Dollár, R. Girshick, *Mask R-CNN*, ICCV, 2017, arXiv:1703.06870 · T.-Y. Lin et al., *Feature pyramid networks for object detection*, CVPR, 2017, arXiv:1612.03144 · J. Uijlings, K. van de Sande, T. Gevers, A. Smeulders, *Selective search for object recognition*, IJCV 104, 2013 · C. Guo, G. Pleiss, Y. Sun, K. Weinberger, *On calibration of modern neural networks*, ICML, 2017, arXiv:1706.04599 ·
# X. Glorot, A. Bordes, Y. Bengio, *Deep sparse rectifier neural networks*, AISTATS, 2011 · N. Bodla, B. Singh, R. Chellappa, L. Davis, *Soft-NMS: improving object detection with one line of code*, ICCV, 2017, arXiv:1704.04503 · H. Rezatofighi et al., *Generalized intersection over union*, CVPR, 2019, arXiv:1902.09630 ·
# P. Felzenszwalb, D. Huttenlocher, *Efficient graph-based image segmentation*, IJCV 59, 2004 · T.-Y. Lin et al., *Microsoft COCO: common objects in context*, ECCV, 2014, arXiv:1405.0312 · P. Viola, M. Jones, *Rapid object detection using a boosted cascade of simple features*, CVPR, 2001.
