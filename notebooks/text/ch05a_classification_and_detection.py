# %% [markdown]
# # 5a · Classification and detection (图像分类与目标检测)
#
# *Book: §2.2.3 (1), 卷积神经网络（CNN）在图像识别中的应用*
#
# **What is in the picture, and where is it? A network answers the first question with one number a class. How does it answer the second, when the number of objects is unknown?**
#
# You will be able to say what a classifier's probabilities are worth, to compute with boxes by hand (overlap, suppression, anchors, offsets, pooled regions, average
# precision), to follow one image through every stage of a detector, to train two detectors of different kinds, and to tell which of the book's claims hold.
#
# **Words it needs:** convolution and feature map (chapter 3a), IoU of masks (chapter 3c).
#
# Run the cells from top to bottom. The first one prints what a whole run costs, and shows what its published run found on photographs that it had never seen.

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
# For *what*: the scanned digits, 8×8 pixels. A sixth of the 1,437 training images is the validation set (验证集). For *where*: scenes. On a crop of a photograph lie
# one to three objects: a circle, square, triangle, star, cross, or a real handwritten digit. The test scenes lie on photographs, and hold digits, that no training scene
# has. Up to half of an object may be hidden by another. The true boxes and classes are the ground truth (真实标注).
#
# With `VLMBOOK_PROFILE=full` the scenes are BCCD: photographs of blood under the microscope, with boxes around red cells, white cells and platelets.

# %%
def load_scenes(split, n):                   # -> images, targets, names
    if runtime.profile() == "full":
        try:
            cells = data.voc_boxes(data.data_folder() / "BCCD", split, channels=3)
            return *data.stack_boxes(cells, (240, 320)), cells.classes
        except data.DataMissing as missing:
            print(missing, "(the scenes stand in)")
    return *data.scenes("test" if split == "test" else "train", n), data.SCENE_NAMES


parts = data.hold_out(*data.digits("train"), share=1 / 6, seed=0)
(digits, values), (valid_digits, valid_values) = parts
test_digits, test_values = data.digits("test")
images, targets, names = load_scenes("trainval", 2000)
test_images, test_targets, _ = load_scenes("test", 200)
side = tuple(images.shape[2:])
drawings.draw_scenes(plt.figure(figsize=(7, 3.7)), images[:8], targets[:8], names, columns=4)

# %% [markdown]
# ## 2 What is it?
#
# ### Logits, and what becomes of them
#
# The last linear layer gives one number $z_k$ a class, a logit (未归一化的类别分数), of any size and sign. Softmax makes them probabilities, and the loss, the cross-entropy (交叉熵), is the
# negative logarithm of the true class's:
#
# $$p_k=\frac{e^{z_k}}{\sum_j e^{z_j}},\qquad \mathrm{CE}(z,y)=-\log p_y=-z_y+\log\sum_j e^{z_j}$$
#
# What happens to $p$ if 1,000 is added to every logit? And to the first formula, typed as it stands?

# %%
z, y = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([0])
p, loss = z.exp() / z.exp().sum(), -z[0, y] + z.exp().sum().log()
typed, library = (z + 1000).exp() / (z + 1000).exp().sum(), (z + 1000).softmax(1)
print("typed:", typed.tolist(), "\nlibrary:", library.tolist())

# %% tags=["claims"]
assert_close([p, loss[0]], [z.softmax(1), F.cross_entropy(z, y)])
assert typed.isnan().all() and torch.allclose(library, p)

# %% [markdown]
# Nothing happens to $p$. But $e^{1000}$ is larger than every float32, so it becomes ∞, and ∞/∞ is nan. Libraries subtract the largest logit first, and compute the
# logarithm and the softmax together.
#
# ### Softmax, once
#
# `F.cross_entropy` takes logits, since the softmax is inside it. A frequent mistake is to give it probabilities: the softmax is then taken twice, and no error appears. (The
# book invites this mistake, see I14 in section 10.) How low can that loss get, if the network is perfectly sure and right?

# %%
from vlmbook.training import fit

def classifier(activation=nn.ReLU, depth=1, width=64):
    layers = [nn.Flatten(), nn.Linear(64, width), activation()]
    layers += [each for _ in range(depth - 1) for each in (nn.Linear(width, width), activation())]
    return nn.Sequential(*layers, nn.Linear(width, 10))

once = lambda net, x, y: F.cross_entropy(net(x), y)
twice = lambda net, x, y: F.cross_entropy(net(x).softmax(1), y)

def train_classifier(loss_fn, seed, x=digits, y=values, epochs=15):
    runtime.seed_everything(seed)
    net = classifier()
    fit(net, (x, y), loss_fn=loss_fn, epochs=epochs, batch_size=64, lr=1e-2, progress=False)
    return net.cpu().requires_grad_(False)

floor = F.cross_entropy(torch.eye(10), torch.arange(10)).item()       # one-hot, taken for logits
runs = {f: [train_classifier(f, seed) for seed in range(3)] for f in (once, twice)}
own = {f: torch.stack([f(net, digits, values) for net in of]) for f, of in runs.items()}
right = {f: torch.stack([(net(digits).argmax(1) == values).float().mean() for net in of])
         for f, of in runs.items()}
for f, name in ((once, "logits"), (twice, "softmax twice")):
    print(f"{name}: loss {own[f].mean():.3f} ± {own[f].std():.3f}, correct, run by run:",
          *(f"{share:.1%}" for share in right[f]))

# %% tags=["claims"]
assert own[once].max() < 0.2 and floor > 1.46 and right[twice].mean() < right[once].mean() - 0.01

# %% [markdown]
# It cannot get lower than $-1+\log(e+9)=1.461$. Does that matter, if the network learns? Look at the gradient for logits that are sure and *wrong*.

# %%
wrong = 12 * F.one_hot(torch.tensor([3]), 10).float()                 # sure of a 3; it is a 0
pull = [torch.func.grad(lambda z: F.cross_entropy(f(z), y))(wrong).norm().item()
        for f in (lambda z: z, lambda z: z.softmax(1))]
print(f"logits {pull[0]:.1f}, softmax twice {pull[1]:.1e}")

# %% tags=["claims"]
assert pull[1] < 1e-3 < 1 < pull[0]

# %% [markdown]
# The gradient of the right loss is large. That of the double softmax is nearly 0, since the inner softmax is flat there. So a network that is sure and wrong learns
# hardly anything from its mistake. In the three runs above, the network with the double softmax classified fewer of its own training digits correctly.
#
# ### What is a probability worth?
#
# This network learned from 100 digits only, for long, so that it makes mistakes. The confusion matrix (混淆矩阵) counts which class is taken for which. Top-$k$ asks
# whether the true class is among the $k$ likeliest. Calibration (校准) asks: of the digits that get a probability of *90 %*, are 90 % classified correctly? Let the digits with
# confidence (置信度) in bin $b$ be $n_b$ of $N$, with mean confidence $\bar p_b$, of which the share $a_b$ is correct:
#
# $$\mathrm{ECE}=\sum_b\frac{n_b}{N}\,\big|a_b-\bar p_b\big|$$
#
# Dividing all logits by one number, the temperature (温度) $T$, changes no predicted class and every confidence [Guo et al. 2017]. We choose $T$ on the validation set.
# Will it be above 1, or below?

# %%
from sklearn.metrics import confusion_matrix

def ece(p, y, bins=10):                      # (N, K) probabilities, (N,) -> float
    confidence, predicted = p.max(1)
    bin_of = (confidence * bins).long().clamp(max=bins - 1)
    right = (predicted == y).float()
    gaps = [(right - confidence)[bin_of == b].sum().abs() for b in range(bins)]
    return (sum(gaps) / len(y)).item()


overfitted = train_classifier(once, 0, digits[:100], values[:100], epochs=300)
temperatures = torch.linspace(0.5, 5, 46).tolist()
T = min(temperatures, key=lambda T: F.cross_entropy(overfitted(valid_digits) / T, valid_values))
z = overfitted(test_digits)
p, hot, ranked = z.softmax(1), (z / T).softmax(1), z.argsort(1, descending=True)
top = {k: (ranked[:, :k] == test_values[:, None]).any(1).float().mean().item() for k in (1, 2, 3)}
cost = {name: F.cross_entropy(z / by, test_values).item() for name, by in (("T = 1", 1), ("T", T))}
print(*(f"top-{k} {share:.3f} " for k, share in top.items()), f"T = {T:.1f}")
print(f"ECE {ece(p, test_values):.3f} -> {ece(hot, test_values):.3f};",
      f"cross-entropy {cost['T = 1']:.3f} -> {cost['T']:.3f}")

drawings.draw_confusion(plt.figure(figsize=(7, 3.2)), p, test_values)
confused = torch.from_numpy(confusion_matrix(test_values, p.argmax(1)))
worst = (confused - confused.diag().diag()).argmax().item()
print(f"most often: {worst // 10} is taken for {worst % 10}")

# %% tags=["claims"]
assert 0.8 < top[1] < top[2] <= top[3] and T > 1.05 and cost["T"] < cost["T = 1"]
assert ece(hot, test_values) < ece(p, test_values) + 0.03
assert_close((confused.diagonal().sum() / confused.sum()).item(), top[1])

# %% [markdown]
# $T$ is above 1: the network is overconfident, its confidence is higher than its accuracy. Before you read a softmax as a probability, compare confidence and accuracy on
# held-out data.
#
# ## 3 Where is it? The idea, written here
#
# ### Two boxes
#
# A bounding box (边界框) is $x_1,y_1,x_2,y_2$, the edges of an area in pixels. How well do two boxes agree? By intersection over union (交并比), as in chapter 3c, of areas this time:
#
# $$\mathrm{IoU}(A,B)=\frac{|A\cap B|}{|A\cup B|}$$
#
# A box 40 wide is found with the right size, but 10 pixels beside its true position. Guess the IoU before you run the cell.

# %%
import torchvision
from vlmbook.detection import (
    ConstantBox, FasterRCNN, GridDetector, SmallBackbone, as_torchvision, average_precision,
    average_precision_loops, box_iou, decode_boxes, detection_loss, encode_boxes,
    generate_anchors, match_anchors, mean_average_precision, nms, roi_align, roi_align_loops,
    roi_pool, roi_pool_loops, select_detections)

def iou_by_hand(a, b):                       # (4,), (4,) -> number
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    return width * height / (area(a) + area(b) - width * height)


A = torch.tensor([[0.0, 0, 40, 40], [0, 0, 40, 40]], requires_grad=True)
B = torch.tensor([[10.0, 0, 50, 40], [40, 0, 80, 40], [10, 10, 20, 20]])
by_hand = [[iou_by_hand(a.tolist(), b.tolist()) for b in B] for a in A]
ours, theirs = (torch.autograd.grad(f(A, B).sum(), A) for f in (box_iou, torchvision.ops.box_iou))
print([round(each, 3) for each in by_hand[0]])

# %% tags=["claims"]
assert_close(torch.tensor(by_hand), box_iou(A, B))
assert_close(box_iou(A, B), torchvision.ops.box_iou(A, B))
assert_close(ours, theirs)


# %% [markdown]
# It is 0.6, and 0 for two boxes that only touch. IoU is strict: a box that is shifted by half its width has an IoU of a third. (Exercise 2 asks why.)
#
# ### One box for each object
#
# A detector finds each object many times, in slightly different boxes. Non-maximum suppression (非极大值抑制), NMS, keeps the box with the best score, drops the boxes that
# overlap it by more than a threshold, and goes on with the best of the boxes that are left. Three boxes form a chain; each overlaps the next with IoU 0.6. Which boxes stay
# at threshold 0.5?

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
for boxes, chance in ((chain, scores), (many, chances), (many[:0], chances[:0])):
    kept = nms(boxes, chance, 0.5).tolist()
    assert kept == nms_by_hand(boxes, chance, 0.5)
    assert kept == torchvision.ops.nms(boxes, chance, 0.5).tolist()
print("of the chain:", nms(chain, scores, 0.5).tolist(), "; of 300:", len(nms(many, chances, 0.5)))

# %% [markdown]
# The first and the third stay. The second is dropped by the first, and a dropped box drops no other box. (If the second had the best score, it alone would stay.)
#
# ### Anchors
#
# A network has a fixed number of outputs; an image has any number of objects. The solution: lay many fixed boxes over the image, at every cell of the feature map (特征图),
# in a few sizes and shapes. Ask of each box: is there an object that this box fits? These boxes are the anchors (锚框). For a size $s$ and a ratio $r=h/w$
#
# $$h=s\sqrt r,\qquad w=s/\sqrt r$$
#
# **I17 · a point?** The section writes 锚点, anchor *point*. A point has no size that could fit. An anchor is a reference box (锚框). In the paper each cell has 3 sizes times
# 3 ratios, so nine anchors.

# %%
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

paper = (128, 256, 512), (0.5, 1.0, 2.0)
nine = [(s / r**0.5, s * r**0.5) for r in paper[1] for s in paper[0]]        # (w, h)
anchors = generate_anchors((37, 50), (16, 16), *paper)
wh = anchors[:9, 2:] - anchors[:9, :2]
x = torch.zeros(1, 3, 592, 800)
generator = AnchorGenerator(*([each] for each in paper))
[theirs] = generator(ImageList(x, [(592, 800)]), [x[:, :, :37, :50]])
print(len(anchors), "anchors, nine a cell (w × h):", *(f"{w:.0f}×{h:.0f}" for w, h in wh))

# %% tags=["claims"]
assert_close(wh, torch.tensor(nine), rtol=0, atol=1.0)                    # rounded to whole corners
assert_close(anchors, theirs)
assert len(anchors) == 37 * 50 * 9 and len(set(nine)) == 9

# %% [markdown]
# Which anchor is matched to which object? From an IoU of 0.7 on, an anchor is matched to the object. Below 0.3 it is background (背景). Between the two it is ignored. The
# anchor with the best IoU for an object is matched too, however low its IoU is [Ren et al. 2015, §3.1.2], unless that anchor overlaps another object more (this rule is
# torchvision's). The figure shows the matches for one scene, the ground truth in white.

# %%
sizes, ratios = runtime.pick(quick=((22,), (1.0,)), full=((24, 52, 88), (0.5, 1.0, 2.0)))
crowd, true = max(zip(images[:50], targets), key=lambda pair: len(pair[1]["labels"]))
anchors = generate_anchors([n // 8 for n in side], (8, 8), sizes, ratios)
drawings.draw_matches(plt.figure(figsize=(7, 2.7)), crowd, true["boxes"], anchors)
owner = match_anchors(box_iou(true["boxes"], anchors), 0.7, 0.3, allow_low_quality_matches=True)

# %% tags=["claims"]
assert set(owner.tolist()) >= set(range(len(true["boxes"])))

# %% [markdown]
# Nearly all anchors are background: a detector has few examples of objects and very many of background. So its loss takes a balanced sample of both.
#
# Which sizes and shapes should one take? Move them. In the right panel, a bar below the dashed line is orange: no anchor reaches an IoU of 0.7 with this object.

# %%
interact.live(partial(drawings.draw_anchors, image=crowd, boxes=true["boxes"]),
              smallest=(8, 96, 2), sizes=(1, 4), wide=True, stride=[4, 8, 16], figsize=(7, 2.6))

# %% [markdown]
# ### Offsets
#
# **I16 · coordinates?** The section lets the location branch output the coordinates of the box. It outputs offsets (偏移量) from an anchor, or from a proposal. With $x,y$ the centre,
# $w,h$ the size, and $a$ for the anchor's
#
# $$t_x=\frac{x-x_a}{w_a},\quad t_y=\frac{y-y_a}{h_a},\quad t_w=\log\frac{w}{w_a},\quad t_h=\log\frac{h}{h_a}$$
#
# Why? Double everything: image, anchor and box. What happens to the four numbers, and what happens to coordinates?

# %%
box, anchor = torch.tensor([[12.0, 20, 52, 40]]), torch.tensor([[10.0, 10, 42, 42]])
(x, y, w, h), (xa, ya, wa, ha) = (torchvision.ops.box_convert(each, "xyxy", "cxcywh")[0]
                                  for each in (box, anchor))
t = torch.stack([(x - xa) / wa, (y - ya) / ha, (w / wa).log(), (h / ha).log()])[None]
print("offsets", t[0].tolist(), "both at this size and at twice the size")

# %% tags=["claims"]
assert_close([t, box], [encode_boxes(2 * box, 2 * anchor), decode_boxes(t, anchor)])

# %% [markdown]
# The offsets stay the same; coordinates double. So one small network can give offsets for anchors of all sizes, at all positions. It would have to learn coordinates anew
# for each.
#
# ### The same size for every region
#
# A region has any size; a linear layer takes one size. Cut the region of the feature map into $h\times w$ bins. RoI pooling (感兴趣区域池化) rounds them to whole cells and
# takes the maximum [Girshick 2015]. RoI align (感兴趣区域对齐) rounds nothing: it takes values between the cells by bilinear interpolation (双线性插值), at
# $n\times n$ points $(u_{ia},v_{jb})$ spread evenly over each bin, and their mean [He et al. 2017]:
#
# $$y_{ij}=\frac1{n^2}\sum_{a,b=1}^{n}x\big(u_{ia},v_{jb}\big),\qquad
# x(u,v)=\sum_{p,q}\max(0,1-|u-p|)\,\max(0,1-|v-q|)\,x_{pq}$$
#
# Move a region of 6×6 cells by a quarter of a cell over a ramp: column $q$ of the map has the value $q$. Which method notices? And what should the value be for the
# region from 2 to 8, the columns 2 to 7?

# %%
runtime.seed_everything(0)
x = torch.randn(2, 3, 9, 12, requires_grad=True)
boxes = [torch.tensor([[1.3, 0.4, 8.9, 7.2], [2, 2, 4, 5]]), torch.tensor([[0.0, 3, 11.5, 8]])]
for fast, loops, theirs in ((roi_pool, roi_pool_loops, torchvision.ops.roi_pool),
                            (roi_align, roi_align_loops, torchvision.ops.roi_align)):
    values_of = [f(x, boxes, (3, 4)) for f in (fast, loops, theirs)]
    assert_close(values_of[0], values_of[1])
    assert_close(values_of[0], values_of[2])
    losses = [y.square().sum() for y in values_of[::2]]
    assert_close(*(torch.autograd.grad(loss, x, retain_graph=True) for loss in losses))
ramp = torch.arange(12.0).expand(1, 1, 12, 12)
at = lambda f, left: f(ramp, [torch.tensor([[left, 2, left + 6, 8]])], 1).item()
pooled = {"roi_pool": roi_pool, "roi_align": roi_align,
          "roi_align, aligned=True": partial(roi_align, aligned=True)}
pooled = {name: [at(f, 2 + k / 4) for k in range(5)] for name, f in pooled.items()}
for name, each in pooled.items():
    print(f"{name:24}", [round(value, 2) for value in each])
print("mean of the columns 2 to 7:", ramp[0, 0, 0, 2:8].mean().item())

# %% tags=["claims"]
steps = {name: torch.tensor(each).diff() for name, each in pooled.items()}
assert sorted(steps.pop("roi_pool").unique().tolist()) == [0, 1]
assert all((each - 0.25).abs().max() < 1e-4 for each in steps.values())
assert abs(pooled["roi_align, aligned=True"][0] - 4.5) < 1e-5 and pooled["roi_align"][0] > 4.9

# %% [markdown]
# RoI pooling stays the same and then jumps. RoI align follows. But where does the value of a cell stand? A box gives the edges of an area. With `aligned=True` the value of
# cell $i$ stands at its centre, at $i+\tfrac12$, and the result is exactly the mean of the six columns, 4.5. Without it, the value stands at $i$, and the result belongs to a
# region half a cell further right.
#
# So is `aligned=True` always right? Ask where the cells of *our* map stand. A backbone (骨干网络) of three convolutions with stride 2 and padding 1 makes a map of
# 8×8 pixels a cell. On which pixels of the image does a region around pixel 48 depend?

# %%
runtime.seed_everything(0)
backbone, blank = SmallBackbone((16, 32, 64)).eval(), torch.rand(1, 3, 96, 96, requires_grad=True)
centre = {}
for aligned in (False, True):
    slopes = 0
    for _ in range(10):                      # the region: pixels 32 to 64
        region = torchvision.ops.roi_align(
            backbone(blank), [torch.tensor([[4.0, 4, 8, 8]])], 7, 1.0, 2, aligned=aligned)
        loss = (region * torch.randn_like(region)).sum()
        slopes = slopes + torch.autograd.grad(loss, blank)[0].abs().sum((0, 1, 2))
    centre[aligned] = ((torch.arange(96) + 0.5) * slopes).sum().item() / slopes.sum().item()
    print(f"aligned={aligned}: the gradient is centred at pixel {centre[aligned]:.1f}")

# %% tags=["claims"]
assert abs(centre[False] - 48) < 1 < 3 < abs(centre[True] - 48)

# %% [markdown]
# Here `aligned=False` fits: cell $i$ of this map looks at the pixels around $8i$, not around $8i+4$, since every convolution with stride 2 starts at the first pixel. The
# detector below uses `aligned=False`, as torchvision's does. The remaining error is half a pixel.
#
# ### How good is a detector?
#
# Sort all detections of a class, over all images, by score. A detection is a true positive (真阳性) if it reaches IoU 0.5 with an object that no better detection has
# taken; else it is a false positive (假阳性). After $n$ detections with $h_n$ true positives, of $G$ objects:
#
# $$P_n=\frac{h_n}{n},\qquad R_n=\frac{h_n}{G},\qquad
# \mathrm{AP}=\frac1{101}\sum_{r\in\{0,\,0.01,\dots,1\}}\ \max_{n:\,R_n\ge r}P_n$$
#
# is precision (精确率), recall (召回率), and average precision (平均精度, AP) at IoU 0.5, with COCO's 101 recalls; the mean over classes is the mAP (平均精度均值). (COCO then
# averages over ten thresholds, 0.5, 0.55 … 0.95 [Lin et al. 2014].) Six detections of four objects are true, true, false, true, false, false. What is the AP? Do it on paper
# first.

# %%
hits, G = torch.tensor([True, True, False, True, False, False]), 4
P, R = ([hits[:n].sum().item() / by for n, by in enumerate(of, 1)] for of in (range(1, 7), 6 * [G]))
AP = sum(max((p for p, r in zip(P, R) if r >= k / 100), default=0) for k in range(101)) / 101
drawings.draw_area(plt.figure(figsize=(4.2, 2.4)), hits, G)
ways = (51 + 25 * 3 / 4) / 101, average_precision(hits, G), average_precision_loops(hits, G)

# %% tags=["claims"]
assert max(abs(AP - each) for each in ways) < 1e-9

# %% [markdown]
# Up to recall 0.5 the best precision is 1, up to 0.75 it is 3/4, and the fourth object is never found: (51 + 25 · 3/4)/101 = 0.69.
#
# ## 4 The detectors
#
# **Two stages (两阶段).** Faster R-CNN [Ren et al. 2015]. A backbone makes one feature map. The region proposal network (区域建议网络), RPN, asks of each anchor: is it an
# object or not, and which offsets does it need? The best, after NMS, are the proposals (候选区域). RoI align cuts each proposal out of the *same* map. After two hidden layers
# one layer gives the class, background being one, and another layer shifts the box once more.
#
# **One stage (单阶段).** The idea of YOLO [Redmon et al. 2016]: each cell of the map says at once whether the centre of an object lies in it, where in the cell, how large the
# object is, and which class it has. In the cell of column $i$, of a map with $s$ pixels a cell, its outputs $o$ mean $x=s\,(i+\sigma(o_x))$ and $w=a\,e^{o_w}$, with a typical
# side $a$; likewise $y$ and $h$. (These two formulas are those of the second version, YOLO9000 [Redmon & Farhadi 2017].) Where two centres fall into one cell, one of the
# objects is lost.
#
# Ours carry torchvision's parameter names, so its `FasterRCNN` takes our weights. Does it then give the same detections?

# %%
num_classes, widths = len(names), runtime.pick(quick=(16, 32, 96), full=(32, 64, 128))
settings = runtime.pick(quick=dict(width=128, pre_nms_top_n=60, post_nms_top_n=20),
                        full=dict(width=512, pre_nms_top_n=1000, post_nms_top_n=300))
settings |= runtime.pick(
    quick=dict(rpn_batch_size_per_image=32, box_batch_size_per_image=16),
    full=dict(rpn_batch_size_per_image=128, box_batch_size_per_image=128))

def two_stages():
    return FasterRCNN(SmallBackbone(widths), num_classes, sizes=sizes, ratios=ratios, **settings)


runtime.seed_everything(0)
ours = two_stages().eval().requires_grad_(False)
ours.roi_heads.box_predictor.cls_score.weight *= 30        # an untrained head that is sure
theirs = as_torchvision(ours, side)
pairs = list(zip(ours(test_images[:4]), theirs(list(test_images[:4]))))
for mine, other in pairs:
    mine = {**mine, "labels": mine["labels"] + 1}         # theirs count the background as 0
    assert_close([mine[key] for key in other], list(other.values()), rtol=1e-3, atol=1e-3)
print("equal:", [len(mine["boxes"]) for mine, _ in pairs], "detections")

# %% tags=["claims"]
assert all(len(mine["boxes"]) for mine, _ in pairs)

# %% [markdown]
# It gives the same boxes, scores and labels. (The tests compare the losses and all gradients with torchvision's, too.)
#
# ## 5 Train
#
# Two baselines first. The *constant box* looks at no image: for each class it always gives the one box that would have found most objects in training. The other is the oldest
# of the family, R-CNN [Girshick et al. 2014]: cut regions out of the *image* and give each to a classifier. The classifier learns from shifted true boxes and from random
# ones; a region with an IoU below 0.5 is background. The regions are windows at all positions, in few sizes. (The paper's R-CNN is better than ours: its regions come from
# selective search, it corrects the boxes by a regression, and it trains on hard negatives (困难负样本). Ours has none of the three.)

# %%
crop = lambda images, boxes: torchvision.ops.roi_align(images, boxes, 24, 1.0, 2)

def regions_to_learn(targets):               # -> n × (k, 4), n × (k,) classes, 0 the background
    boxes, kinds = [], []
    for each in targets:
        some = each["boxes"][torch.randint(len(each["boxes"]), (6,))]
        wh = some[:, 2:] - some[:, :2]
        low = torch.rand(6, 2) * (torch.tensor(side[::-1]) - wh)
        near = each["boxes"] + 1.5 * torch.randn_like(each["boxes"])
        both = torch.cat([near, torch.cat([low, low + wh], dim=1)])
        iou = box_iou(each["boxes"], both)
        owner = match_anchors(iou, 0.5, 0.5, allow_low_quality_matches=False)
        boxes.append(both)
        kinds.append(torch.where(owner >= 0, each["labels"][owner.clamp(min=0)] + 1, 0))
    return boxes, kinds

runtime.seed_everything(0)
boxes, kinds = regions_to_learn(targets)
pieces, kinds = crop(images, boxes), torch.cat(kinds)
rcnn = nn.Sequential(SmallBackbone(widths), nn.Flatten(), nn.Linear(9 * widths[2], 1 + num_classes))
fit(rcnn, (pieces, kinds), loss_fn=once, batch_size=64, lr=5e-3, progress=False,
    epochs=runtime.pick(quick=4, full=20))
rcnn.cpu().eval().requires_grad_(False)
print(len(pieces), "pieces,", f"{(kinds == 0).float().mean():.0%} of them background")


# %% [markdown]
# Now the two detectors, on the same images. What do they minimise? Let $\mathrm{BCE}$ be the binary cross-entropy (二元交叉熵), and $S$ the smooth L1 loss (平滑L1损失),
# quadratic for small differences and linear for large ones. The RPN takes the mean over a balanced sample of $n$ anchors, its head the same over proposals. The grid takes the
# sum over all cells, but boxes and classes only where a centre lies:
#
# $$L_{\mathrm{RPN}}=\frac1n\Big[\sum\mathrm{BCE}(o,\text{object?})+\sum_{\text{objects}}S(t-t^*)\Big],\qquad
# L_{\mathrm{head}}=\frac1n\Big[\sum\mathrm{CE}(z,y)+\sum_{\text{objects}}S(t-t^*)\Big],\qquad
# L_{\mathrm{grid}}=\frac1G\Big[\sum\mathrm{BCE}(o_0,\text{centre?})+\sum_{\text{centres}}S+\mathrm{CE}\Big]$$
#
# with $G$ objects in the batch. A cell's score for a class is then $\sigma(o_0)$ times the softmax.
#
# The book lets Faster R-CNN start from a pretrained backbone (预训练). So does the quick profile: the one-stage detector learns first, from random weights. The two-stage
# detector gets its backbone, whose weights then stay as they are (the running means of the normalisation still move). So it had more training, and a comparison of the two
# is not fair. In the full profile all start from random weights.

# %%
def torchvision_loss(net, x, boxes, labels):
    from_1 = [{"boxes": t["boxes"], "labels": t["labels"] + 1}        # 0 is its background
              for t in data.unpad_targets(boxes, labels)]
    return sum(net(list(x), from_1).values())

one_stage = lambda: GridDetector(SmallBackbone(widths), num_classes, size=sizes[len(sizes) // 2])
makers = {"one stage": (one_stage, detection_loss, 7),
          "two stages": (two_stages, detection_loss, 2)}
if runtime.profile() == "full":
    makers["torchvision's"] = lambda: as_torchvision(two_stages(), side), torchvision_loss, 2
nets, histories, quick = {}, {}, runtime.profile() == "quick"
for name, (make, loss, epochs) in makers.items():
    runtime.seed_everything(0)
    net = make()
    if quick and name == "two stages":
        net.backbone.load_state_dict(nets["one stage"].backbone.state_dict())
        net.backbone.requires_grad_(False)
    turned = lambda net, x, boxes, labels: loss(
        net, *(data.flip_horizontally(x, boxes) if torch.rand(()) < 0.5 else (x, boxes)), labels)
    histories[name] = fit(net, (images, *data.pad_targets(targets)), lr=5e-3, warmup=20, clip=5.0,
                          loss_fn=loss if quick else turned, batch_size=16,
                          epochs=epochs if quick else 40)
    nets[name] = net.cpu().eval().requires_grad_(False)
drawings.draw_training(plt.figure(figsize=(6, 2.2)), histories)


# %% [markdown]
# The two curves are sums of different losses, so their heights cannot be compared. Both fall. How good are the detectors, on photographs that none has seen? R-CNN gets fewer
# images, since it takes long. Guess the order.

# %%
def detect(net, x):                          # -> list of {boxes, scores, labels}
    if hasattr(net, "predict_candidates"):
        return [detections for part in x.split(25) for detections in net(part)]
    from_1 = [detections for part in x.split(25) for detections in net(list(part))]  # torchvision's
    return [{**each, "labels": each["labels"] - 1} for each in from_1]

def detect_rcnn(x):
    stride = runtime.pick(quick=6, full=16)
    windows = generate_anchors([n // stride for n in side], (stride, stride),
                               [zoom * s for s in sizes for zoom in (0.85, 1.2)], (1.0,))
    return [select_detections(rcnn(crop(one[None], [windows])).softmax(1)[:, 1:], windows, side)
            for one in x]


# %%
asked = 60
constant = ConstantBox(targets[:400], num_classes, side)
found = {"constant box": (constant(test_images), test_targets),
         "R-CNN": (detect_rcnn(test_images[:asked]), test_targets[:asked])}
found |= {name: (detect(net, test_images), test_targets) for name, net in nets.items()}
mAP = {name: mean_average_precision(*each) for name, each in found.items()}
same, overlaps, few = {}, {}, test_targets[:asked]
print(f"{asked} images, {sum(len(each['labels']) for each in few)} objects; boxes with a score",
      "above 0.4 by their best IoU: below 0.1, below 0.5, from 0.5 on")
for name, (detections, _) in found.items():
    same[name] = mean_average_precision(detections[:asked], few)[0]
    overlaps[name] = experiments.count_by_overlap(detections[:asked], few)
    print(f"{name:13} mAP {same[name]:.3f}; boxes:", *overlaps[name])
print(f"all {len(test_images)} images:", *(f"{name} {mAP[name][0]:.3f} " for name in nets))
best = max(nets, key=lambda name: mAP[name][0])
figure = plt.figure(figsize=(7, 3.7))
shown = test_images[:8], found[best][0][:8], test_targets[:8]
drawings.draw_detections(figure, *shown, names, columns=4)
records.picture("ch05a", figure);

# %% tags=["claims"]
assert all(same["constant box"] < same["R-CNN"] < same[name] for name in nets)
assert sum(overlaps["R-CNN"]) > sum(overlaps[best])
assert overlaps["R-CNN"][0] < 0.2 * sum(overlaps["R-CNN"])

# %% [markdown]
# Shown are the detections with a score from 0.4 on: true positives are blue, false positives orange, the ground truth white. R-CNN on windows is worse than both detectors. It
# gives far more boxes. They do not lie on the background: all or nearly all of them overlap an object. Many fit badly, and many are a second box for the same object. Box
# regression, which the paper has, would be the first thing to add. The difference between the two trained detectors decides nothing: it is one run, and the second had the
# backbone of the first.
#
# A single number hides a curve. Here is precision over recall for each class, with the best class in blue and the worst in orange. Where does the curve of a class end, if
# some of its objects are never found?

# %%
drawings.draw_curves(plt.figure(figsize=(7, 2.8)), {name: found[name] for name in nets}, names)

# %% [markdown]
# It ends at the recall of all its detections together. An object that is never found costs AP, however good the scores of the others are.
#
# ### What the thresholds do
#
# The widget takes the candidates of a detector before any decision. Lower *score*: what appears first? Raise *iou* to 1, which is no suppression at all: what happens to
# precision, what to recall? Choose the two stages, and move *iou* from 1 to 0.5: which boxes go? And why is an *iou* near 0 dangerous?

# %%
first = test_images[:20]
candidates = {name: net.predict_candidates(first) for name, net in nets.items()
              if hasattr(net, "predict_candidates")}
interact.live(partial(drawings.draw_suppression, candidates=candidates, images=first, names=names,
                      targets=test_targets[:20]), detector=list(candidates), image=(0, 19),
              score=(0.05, 0.95, 0.05), iou=(0.0, 1.0, 0.05), figsize=(7, 2.7))

# %% [markdown]
# With a lower *score*, false positives appear first: precision falls. Without suppression the doubles count as false positives, so precision falls and recall stays. From 1
# to 0.5 the doubles go. With an *iou* near 0 two objects that lie close together get one box, so recall falls.
#
# ## 6 See inside
#
# One image through all stages of the two-stage detector. Panel 2 is the mean of the map's channels. Panel 3 shows, for each cell, the best probability of its anchors. Panel
# 6 shows the first eight regions as the head gets them, all of one size, row by row; panel 7 shows the classes of the same eight.

# %%
two, i = nets["two stages"], max(range(40), key=lambda i: len(test_targets[i]["labels"]))
drawings.draw_stages(plt.figure(figsize=(7, 4.2)), test_images[i], test_targets[i]["boxes"],
                     two.stages(test_images[[i]]), names)


# %% [markdown]
# How good are the proposals? We count, over test images, two shares: the share of the objects that some proposal meets at IoU 0.5 (the recall of the proposals), and the share
# of the boxes that meet an object. We count them for all anchors, after the offsets, after NMS at 0.7, and after the cut to the best. Which step brings the objects, and which
# step removes most boxes?

# %%
def met(boxes_of, targets_of):               # -> share of objects met, share of boxes that meet one
    iou = [box_iou(boxes, t["boxes"]) >= 0.5 for boxes, t in zip(boxes_of, targets_of)]
    return [torch.cat([each.any(axis) for each in iou]).float().mean().item() for axis in (0, 1)]

proposals = two.rpn(two.backbone(test_images[:asked]), (8, 8), side)
suppress = lambda boxes: boxes[nms(boxes, -torch.arange(len(boxes)).float(), 0.7)]
after = [suppress(boxes) for boxes in proposals.candidates]
steps = {"all anchors": [proposals.anchors] * asked, "before NMS": proposals.candidates,
         "after NMS": after, "proposals": proposals.boxes}
meeting = {name: met(boxes, test_targets) for name, boxes in steps.items()}
for (name, share), boxes in zip(meeting.items(), steps.values()):
    print(f"{name}: {sum(map(len, boxes)) / asked:.0f} an image, {share[0]:.2f} of objects met, "
          f"{share[1]:.2f} of them meet one")
pairs_of = zip(proposals.boxes, test_targets)
touch = torch.cat([(box_iou(boxes, t["boxes"]) > 0).any(1) for boxes, t in pairs_of])
print(f"of the proposals {1 - touch.float().mean():.0%} touch no object")

# %% tags=["claims"]
kept = [meeting[name][0] for name in ("proposals", "before NMS", "all anchors")]
assert kept[0] > 0.8 and 0 <= kept[1] - kept[0] < 0.1
if names == data.SCENE_NAMES:                # the anchors of the full profile alone meet most cells
    assert kept[2] < kept[1] - 0.05
assert meeting["proposals"][1] < 0.9                         # I15

# %% [markdown]
# On the scenes the offsets bring the objects: more of them are met after the offsets than by any anchor. At 0.7, NMS takes only a few boxes. The cut to the best twenty removes
# most boxes and loses hardly an object. Many proposals meet no object, in the trained network as well.
#
# ## 7 What it costs
#
# Why were there four detectors? Each removed what was slowest before. R-CNN sends every region through the network, enlarged to its input size. Fast R-CNN [Girshick 2015] sends
# the image through once and cuts the regions out of the map; but the regions still came from outside. In Faster R-CNN the map proposes them. YOLO needs none.
#
# We measure the milliseconds an image on this machine, for 20, 80 and 320 regions. The regions from outside are the boxes around the segments of Felzenszwalb & Huttenlocher
# [2004], on which selective search is built [Uijlings et al. 2013]. The regions are random here, and the RPN of the quick profile has only 64 anchors, so 320 regions stand for
# a larger map. The last decisions, decoding and suppression, are left out for all. Which bars will grow with the number of regions?

# %%
from statistics import median
from timeit import repeat
from skimage.segmentation import felzenszwalb

ms = lambda run: 1000 * median(repeat(run, number=1, repeat=7))
one, grid = test_images[:1], nets["one stage"]
grey, x = one[0].permute(1, 2, 0).numpy(), two.backbone(one)
outside = ms(lambda: [felzenszwalb(grey, scale, 0.5, 10) for scale in (20, 60, 180)])
through, rpn, head = (ms(run) for run in (
    lambda: two.backbone(one), lambda: two.rpn(x, (8, 8), side), lambda: grid.head(x)))
costs = {"R-CNN": {}, "Fast R-CNN": {}, "Faster R-CNN": {}, "one stage": {}}
runtime.seed_everything(0)
for n in (20, 80, 320):
    low = torch.rand(n, 2) * 40
    boxes = [torch.cat([low, low + 16], dim=1)]
    pieces = torchvision.ops.roi_align(one, boxes, 64, 1.0, 2)
    heads = ms(lambda: two.roi_heads(x, boxes, (8, 8)))
    costs["R-CNN"][n] = {"regions": outside, "features": ms(lambda: two.backbone(pieces))}
    costs["Fast R-CNN"][n] = {"regions": outside, "features": through, "heads": heads}
    costs["Faster R-CNN"][n] = {"regions": rpn, "features": through, "heads": heads}
    costs["one stage"][n] = {"features": through, "heads": head}

# %%
drawings.draw_costs(plt.figure(figsize=(7, 2.5)), costs)
total = {name: {n: sum(each.values()) for n, each in of.items()} for name, of in costs.items()}
last = [total[name][320] for name in total]

# %% tags=["claims"]
assert costs["R-CNN"][320]["features"] > 6 * costs["R-CNN"][20]["features"] and rpn < outside
assert last == sorted(last, reverse=True)

# %% [markdown]
# R-CNN computes the features anew for every region, the others once. The heads of Fast and Faster R-CNN still grow with the regions; their share is large here, since the backbone
# is tiny. The one-stage detector was measured once: nothing in it depends on the number of regions.
#
# ## 8 Break it
#
# What is each part worth? We switch a part off in the trained detectors: suppression (all doubles stay), or the last offsets. Without the last offsets both detectors lose
# position *and* size of the last step: the box of the two-stage detector stays the proposal, the box of the one-stage detector stays a square of typical size around the
# middle of its cell. Nothing is trained anew. The mAP is measured on four parts of the test images; ± is over the four parts. Which loss of mAP is the largest?

# %%
worth = {name: experiments.measure_switched_off(nets[name], test_images, test_targets)
         for name in ("one stage", "two stages")}
lost = {name: {off: each["nothing"] - each[off] for off in ("suppression", "last offsets")}
        for name, each in worth.items()}
for name, each in lost.items():
    print(f"{name}, whole: {worth[name]['nothing'].mean():.3f}")
    for off, x in each.items():
        print(f"    without {off}: {-x.mean():+.3f} ± {x.std():.3f}")

# %% tags=["claims"]
assert lost["two stages"]["suppression"].mean() > lost["one stage"]["suppression"].mean()
assert lost["one stage"]["last offsets"].mean() > lost["two stages"]["last offsets"].mean()

# %% [markdown]
# In these two networks the parts have different weight. The two-stage detector loses much without suppression: many proposals lie around few objects, and each becomes a
# detection. In the one-stage detector a single cell is trained to detect each object, and there is little to suppress. Its loss without the last offsets is large, since
# it has no other offsets. The two-stage detector has shifted each box once already, in the RPN, so it keeps most of its mAP. (This is one network of each kind.)

# %%
records.record(
    "ch05a", seed=0, mAP={name: mean for name, (mean, _) in mAP.items()}, T=T,
    lost_without={name: {off: x.tolist() for off, x in lost[name].items()} for name in lost},
    AP={name: {names[k]: ap for k, ap in each.items()} for name, (_, each) in mAP.items()},
    seconds_of_training={name: each.seconds for name, each in histories.items()}, top_k=top,
    ECE={"T = 1": ece(p, test_values), "T": ece(hot, test_values)}, ms_an_image=total,
    proposals=dict(zip(("objects met", "that meet one"), meeting["proposals"])));

# %% [markdown]
# ## 9 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch05a.1")` helps in steps, `solution("ch05a.1")` shows one answer.
#
# **1 · Predict.** A `FasterRCNN` with `SmallBackbone` has anchors of two sizes and three ratios, and five classes with the background. It gets two images of 96×160. The map has
# one cell for 8×8 pixels. The RPN's `bbox_pred` is a 1×1 convolution on that map. Which shape has its output? Answer without running a network.

# %%
shape = ...                                  # (B, C, H, W)
check("ch05a.1", shape)


# %% [markdown]
# **2 · Derive.** A box is found with the right size, `w` wide, but shifted sideways by `d`; a negative `d` is a shift to the left. What is the IoU? And so: how far may a box 30
# wide be off, to count as found at 0.5? (Compare that with the solution.)

# %%
def shifted_iou(w, d):                       # shifted_iou(40, 10) -> 0.6
    ...


check("ch05a.2", shifted_iou)


# %% [markdown]
# **3 · Build.** NMS drops a box for good, even if it belongs to another object close by. Soft-NMS [Bodla et al. 2017] only lowers its score: take the box with the best score,
# multiply the score of each other box that is left by $e^{-\mathrm{IoU}^2/\sigma}$, and repeat until none is left. Give the final scores, in the order of the boxes.

# %%
def soft_nms(boxes, scores, sigma=0.5):      # (N, 4), (N,) -> (N,)
    ...


check("ch05a.3", soft_nms)


# %% [markdown]
# **4 · Build.** Two boxes that do not touch have IoU 0, however far apart, and no gradient. The generalised IoU [Rezatofighi et al. 2019] subtracts the part of the smallest box $C$ around both that neither covers: $\mathrm{IoU}-|C\setminus(A\cup B)|\,/\,|C|$.
# Compute it for pairs, the first with the first, the second with the second, and so on.

# %%
def giou(a, b):                              # (N, 4), (N, 4) -> (N,)
    ...


check("ch05a.4", giou)


# %% [markdown]
# ## 10 Book check
#
# **I14 · softmax in the layer?** §2.2.3 lets the fully connected layer (全连接层) flatten the map and give probabilities by softmax. These are three steps. In code the softmax
# belongs to the loss; section 2 shows what happens if it is taken twice.
#
# **I13 · sigmoid or ReLU?** The list names both as the common activations (激活函数). The derivative of the sigmoid $\sigma$ is $\sigma(1-\sigma)\le\tfrac14$, that of ReLU
# is 1 wherever it lets a value pass [Glorot et al. 2011]. Ten layers multiply ten of them, and $0.25^{10}\approx 10^{-6}$. What reaches the first layer?

# %%
def gradient_norms(activation):              # -> norm of the weights' gradient, layer by layer
    runtime.seed_everything(0)
    deep = classifier(activation, depth=10)
    once(deep, digits[:200], values[:200]).backward()
    return [layer.weight.grad.norm().item() for layer in deep if isinstance(layer, nn.Linear)]


norms = {"ReLU": gradient_norms(nn.ReLU), "sigmoid": gradient_norms(nn.Sigmoid)}
drawings.draw_gradients(plt.figure(figsize=(5, 2.4)), norms)
shares = {name: each[0] / each[-1] for name, each in norms.items()}
print(*(f"{name}: first layer {share:.0e} of the last" for name, share in shares.items()), sep="\n")

# %% tags=["claims"]
assert torch.func.vmap(torch.func.grad(torch.sigmoid))(torch.linspace(-8, 8, 999)).max() <= 0.25
assert shares["sigmoid"] < 1e-6 < 1e-4 < shares["ReLU"]

# %% [markdown]
# With the sigmoid nearly nothing reaches it. (ReLU's gradient falls as well, a little: the first weights are small.) So hidden layers have ReLU or its relatives today. The
# sigmoid is used where a number between 0 and 1 is the *answer*, as in gates, and in *object or not* above.
#
# **W15 · the missing edge.** The section draws Faster R-CNN as `特征图 → 区域建议网络 → 分类分支, 定位分支`: the branches get what the RPN gives, and nothing else. But the RPN
# gives boxes and one number each, the same for every class. The class can only be read from the map. So two edges must meet at the pooling: that of the map and that of the
# proposals. Does our network have both?
#
# **W32 · sliding over the image?** The section lets the RPN extract features from the image by a sliding window. The RPN slides over the feature map, which is shared: this is
# the point of Faster R-CNN. What goes into its head?
#
# **I15 · an object in each proposal?** 每个候选区域包含一个可能的目标. Show the untrained network noise. How many proposals will it make, where no object is?

# %%
inputs = {}
note = lambda part, x: inputs.update({type(part).__name__: tuple(x[0].shape[1:])})
parts_of = ours.rpn.head, ours.roi_heads.box_head
hooks = [part.register_forward_pre_hook(note) for part in parts_of]
x = ours.backbone(test_images[:1]).requires_grad_()
boxes = ours.rpn(x, (8, 8), side).boxes                # 8×8 pixels a cell
_, logits, offsets = ours.roi_heads(x, boxes, (8, 8))
for hook in hooks:
    hook.remove()
pull = torch.autograd.grad(logits.square().sum(), x)[0]
print("inputs:", inputs, "; gradient of the class logits for the map:", f"{pull.abs().max():.2f}")
nothing = ours.rpn(ours.backbone(torch.rand(1, 3, *side)), (8, 8), side)
print(len(nothing.boxes[0]), "proposals in noise")

# %% tags=["claims"]
assert pull.abs().max() > 0 and not boxes[0].requires_grad                             # W15
assert inputs["RPNHead"] == x.shape[1:] and inputs["TwoMLPHead"] == (widths[2], 7, 7)       # W32
assert ours.rpn.head.cls_logits.out_channels == len(sizes) * len(ratios)               # no class
assert offsets.shape[1] == 4 * (1 + num_classes)                   # I16; one is background
assert settings["post_nms_top_n"] // 2 < len(nothing.boxes[0]) <= settings["post_nms_top_n"]  # I15

# %% [markdown]
# The classes depend on the map directly; the boxes of the proposals carry no gradient. The RPN's head gets the channels of the map, never the three of the image. In noise there
# are as many proposals as ever: the RPN ranks, and the best go on, however low their scores are. The head of the second stage says *background*.
#
# **I18 · four names in a row.** The section lists R-CNN, Fast R-CNN, Faster R-CNN and YOLO, and says that Faster R-CNN finds objects accurately. Neither IoU nor NMS nor AP occurs
# in it, and without them *accurately* has no meaning. Section 5 measures it.
#
# ## 11 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook finds blood cells, and torchvision's Faster R-CNN learns beside ours, with the same backbone, settings and epochs. What the
# published runs measured:

# %% tags=["record"]
records.show("ch05a", "quick")
records.show("ch05a", "full")

# %% [markdown]
# ## 12 What we learned
#
# - The last layer gives logits; the softmax belongs into the loss, once. A softmax is a probability only after it was compared with held-out data.
# - A detector lays anchors, or cells, over the image, and asks of each: is an object here, which class has it, and how must the box be moved?
# - It finds each object many times; suppression keeps the best box of each.
# - The regions are cut out of one shared map. This, and proposals from the map itself, made R-CNN fast.
# - The measure of a detector is average precision at a stated IoU, on images that it has not seen, beside a baseline.
#
# **References.** R. Girshick, J. Donahue, T. Darrell, J. Malik, *Rich feature hierarchies for accurate object detection and semantic segmentation*, CVPR, 2014, arXiv:1311.2524 · R. Girshick, *Fast R-CNN*, ICCV, 2015, arXiv:1504.08083 ·
# S. Ren, K. He, R. Girshick, J. Sun, *Faster R-CNN: towards real-time object detection with region proposal networks*, NeurIPS, 2015, arXiv:1506.01497 · J. Redmon, S. Divvala, R. Girshick, A. Farhadi, *You only look once: unified, real-time object detection*, CVPR, 2016, arXiv:1506.02640 · J. Redmon, A. Farhadi, *YOLO9000: better, faster, stronger*, CVPR, 2017, arXiv:1612.08242 ·
# K. He, G. Gkioxari, P. Dollár, R. Girshick, *Mask R-CNN*, ICCV, 2017, arXiv:1703.06870 · J. Uijlings, K. van de Sande, T. Gevers, A. Smeulders, *Selective search for object recognition*, IJCV 104, 2013 · C. Guo, G. Pleiss, Y. Sun, K. Weinberger, *On calibration of modern neural networks*, ICML, 2017, arXiv:1706.04599 ·
# X. Glorot, A. Bordes, Y. Bengio, *Deep sparse rectifier neural networks*, AISTATS, 2011 · N. Bodla, B. Singh, R. Chellappa, L. Davis, *Soft-NMS: improving object detection with one line of code*, ICCV, 2017, arXiv:1704.04503 · H. Rezatofighi et al., *Generalized intersection over union*, CVPR, 2019, arXiv:1902.09630 ·
# P. Felzenszwalb, D. Huttenlocher, *Efficient graph-based image segmentation*, IJCV 59, 2004 · T.-Y. Lin et al., *Microsoft COCO: common objects in context*, ECCV, 2014, arXiv:1405.0312.
