# %% [markdown]
# # 5a · Classification and detection (图像分类与目标检测)
#
# *Book: §2.2.3 (1), 卷积神经网络（CNN）在图像识别中的应用*
#
# **What is in the picture, and where? A network answers the first with a few numbers. How does it answer the second, when nobody says how many things there are?**
#
# You will be able to read a classifier's numbers for what they are worth, compute with boxes by hand (overlap, suppression, anchors, offsets, pooled regions, average
# precision), follow one image through every stage of a detector, train two detectors of different kinds, and tell which of the book's claims hold.
#
# Run the cells from top to bottom. The first one prints what a whole run costs, and shows what its published run found on photographs that it had never seen.

# %% tags=["record"]
import math
from functools import partial

import matplotlib.pyplot as plt
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import data, interact, plot, records, runtime

# %% tags=["record"]
from vlmbook.exercises import check, hint, solution
from vlmbook.figures import ch05a as drawings
from vlmbook.train import fit

runtime.seed_everything(0)
torch.set_num_threads(1)                     # images this small gain little from more threads
plot.use_style()
records.published("ch05a")
if (published := records.RESULTS / "ch05a.quick.png").exists():
    plot.gallery([data.read_image(published, channels=3)]);


# %% [markdown]
# ## 1 The data, looked at
#
# For *what*: the scanned digits, 8×8 pixels, with a sixth of the 1,437 to learn from held back for choices. For *where*: scenes. On a crop of a photograph lie one to three
# things, a circle, square, triangle, star, cross, or a real handwritten digit. The test scenes lie on photographs, and hold digits, that no training scene has.
# A thing may hide up to half of another.
#
# With `VLMBOOK_PROFILE=full` the scenes are BCCD, photographs of blood under the microscope, with boxes around red cells, white cells and platelets.

# %%
parts = data.split(*data.digits("train"), share=1 / 6, seed=0)
(digits, values), (valid_digits, valid_values) = parts
test_digits, test_values = data.digits("test")

def blood(split):                            # -> (N, 3, 240, 320), N × {boxes, labels from 0}
    cells = data.voc_boxes(data.data_folder() / "BCCD", split, channels=3)
    shrunk = [F.interpolate(image[None], size=(240, 320), antialias=True, mode="bilinear")
              for image, _ in (cells[i] for i in range(len(cells)))]
    scale = [torch.tensor([320, 240, 320, 240]) / torch.tensor(cells[i][0].shape[:0:-1]).repeat(2)
             for i in range(len(cells))]
    targets = [{"boxes": cells[i][1]["boxes"] * scale[i], "labels": cells[i][1]["labels"]}
               for i in range(len(cells))]
    return torch.cat(shrunk).clamp(0, 1), targets, cells.classes


def scenes_of(split, n):                     # -> images, targets, names
    if runtime.profile() == "full":
        try:
            return blood({"train": "trainval"}.get(split, split))
        except (data.DataMissing, ValueError) as missing:
            print(missing, "(the scenes stand in)")
    return *data.scenes(split, n), data.SCENE_NAMES


images, targets, names = scenes_of("train", 1500)
test_images, test_targets, _ = scenes_of("test", 200)
drawings.draw_scenes(plt.figure(figsize=(7, 2.6)), images[:12], targets[:12], names)

# %% [markdown]
# ## 2 What is it?
#
# ### Logits, and what becomes of them
#
# The last linear layer gives one number $z_k$ a class, a logit (未归一化的类别分数), of any size and sign. Softmax makes them probabilities, and the loss is the
# negative logarithm of the true class's:
#
# $$p_k=\frac{e^{z_k}}{\sum_j e^{z_j}},\qquad \mathrm{CE}(z,y)=-\log p_y=-z_y+\log\sum_j e^{z_j}$$
#
# What happens to $p$ if 1,000 is added to every logit? And to the first formula, typed as it stands?

# %%
z, y = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([0])
p = z.exp() / z.exp().sum()
loss = -z[0, y] + z.exp().sum().log()
assert_close(p, z.softmax(1))
assert_close(loss[0], F.cross_entropy(z, y))
typed = (z + 1000).exp() / (z + 1000).exp().sum()
print("typed:", typed.tolist(), "\nlibrary:", (z + 1000).softmax(1).tolist())
assert_close((z + 1000).softmax(1), p)
assert typed.isnan().all()

# %% [markdown]
# Nothing happens to $p$; but $e^{1000}$ is no floating number. Libraries subtract the largest logit first, and compute the logarithm and the softmax together.
#
# ### Book check
#
# **I14 · softmax in the layer?** §2.2.3 lets the fully connected layer (全连接层) flatten and give probabilities by softmax. These are three things, and in code it matters:
# `F.cross_entropy` wants logits, since the softmax is inside it. Give it probabilities, and the softmax is taken twice. No error appears. But how low can that
# loss get, if the network is perfectly sure and right?

# %%
floor = F.cross_entropy(torch.eye(10), torch.arange(10)).item()             # one-hot, given as if logits
assert abs(floor - (math.log(math.e + 9) - 1)) < 1e-6

def classifier(activation=nn.ReLU, depth=1, width=64):
    layers = [nn.Flatten(), nn.Linear(64, width), activation()]
    layers += [each for _ in range(depth - 1) for each in (nn.Linear(width, width), activation())]
    return nn.Sequential(*layers, nn.Linear(width, 10))

once = lambda net, x, y: F.cross_entropy(net(x), y)
twice = lambda net, x, y: F.cross_entropy(net(x).softmax(1), y)

def trained(loss_fn, seed, x=digits, y=values, epochs=15, **options):
    runtime.seed_everything(seed)
    net = classifier(**options)
    fit(net, (x, y), loss_fn=loss_fn, epochs=epochs, batch_size=64, lr=3e-3, progress=False)
    return net.cpu().requires_grad_(False)


# %%
found = {}
for name, loss_fn in {"logits": once, "softmax twice": twice}.items():
    nets = [trained(loss_fn, seed) for seed in range(3)]
    own = torch.stack([loss_fn(net, digits, values) for net in nets])
    slope = torch.stack([torch.func.grad(lambda z: F.cross_entropy(z if loss_fn is once else
        z.softmax(1), y))(12 * F.one_hot(torch.tensor([3]), 10).float()).norm() for y in [y]])
    found[name] = own
    print(f"{name}: its own loss {own.mean():.3f} ± {own.std():.3f}; pull on a logit vector that "
          f"is sure and wrong: {slope.item():.1e}")
print(f"floor {floor:.3f}")
assert found["logits"].max() < 0.2 and found["softmax twice"].min() > floor > 1.46

# %% [markdown]
# The double softmax never gets below 1.461, whatever it learns. Worse is what the last number says: a network that is sure and *wrong* feels nearly no pull, since the
# outer loss sees only numbers between 0 and 1, and the inner softmax is flat there. So it learns, on easy digits, but what it has wrong stays wrong.
#
# **I13 · sigmoid or ReLU?** The list names both as the common activations (激活函数). The derivative of the sigmoid $\sigma$ is $\sigma(1-\sigma)\le\tfrac14$, that of ReLU
# is 1 wherever it lets anything pass. Ten layers multiply ten of them, and $0.25^{10}\approx 10^{-6}$. What reaches the first layer?

# %%
slopes, steps = {}, torch.linspace(-8, 8, 1601)
for name, activation in {"ReLU": nn.ReLU, "sigmoid": nn.Sigmoid}.items():
    runtime.seed_everything(0)
    deep = classifier(activation, depth=10)
    once(deep, digits[:200], values[:200]).backward()
    slopes[name] = [layer.weight.grad.norm().item() for layer in deep if hasattr(layer, "weight")]
drawings.draw_gradients(plt.figure(figsize=(5, 2.4)), slopes)
shares = {name: each[0] / each[-1] for name, each in slopes.items()}
print(*(f"{name}: first layer {share:.1e} of the last" for name, share in shares.items()), sep="\n")
assert torch.func.vmap(torch.func.grad(torch.sigmoid))(steps).max() <= 0.25
assert shares["sigmoid"] < 1e-5 < 1e-2 < shares["ReLU"]

# %% [markdown]
# Next to nothing. So hidden layers have ReLU or its relatives today; the sigmoid is left where a number between 0 and 1 is the *answer*, as in gates, and in
# *object or not* below.
#
# ### What is a probability worth?
#
# A network that learned from 200 digits only, so that it errs now and then. The confusion matrix (混淆矩阵) counts which class is taken for which. Top-$k$ asks
# whether the true class is among the $k$ likeliest. And calibration (校准) asks: of the digits for which it says *90 %*, are 90 % right? Let the digits with confidence
# in bin $b$ be $n_b$ of $N$, with mean confidence $\bar p_b$, and a share $a_b$ of them right:
#
# $$\mathrm{ECE}=\sum_b\frac{n_b}{N}\,\big|a_b-\bar p_b\big|$$
#
# Dividing all logits by one number, the temperature $T$, changes no answer and every confidence [Guo et al. 2017]. Choose it on the validation part. Will it be above 1, or below?

# %%
def ece(p, y, bins=10):                      # (N, K) probabilities, (N,) -> float
    confidence, said = p.max(1)
    bin_of, right = (confidence * bins).long().clamp(max=bins - 1), (said == y).float()
    gaps = [(right - confidence)[bin_of == b].sum().abs() for b in range(bins)]
    return (sum(gaps) / len(y)).item()


reader = trained(once, 0, digits[:200], values[:200], epochs=120)
temperatures = torch.linspace(0.5, 5, 46).tolist()
T = min(temperatures, key=lambda T: F.cross_entropy(reader(valid_digits) / T, valid_values))
z = reader(test_digits)
p, hot, place_of = z.softmax(1), (z / T).softmax(1), z.argsort(1, descending=True)
top = {k: (place_of[:, :k] == test_values[:, None]).any(1).float().mean().item() for k in (1, 2, 3)}
cost = {n: F.cross_entropy(each, test_values).item() for n, each in {"T = 1": z, f"T": z / T}.items()}
print(*(f"top-{k} {share:.3f} " for k, share in top.items()), f"T = {T:.1f}")
print(f"ECE {ece(p, test_values):.3f} -> {ece(hot, test_values):.3f}; cross-entropy", cost)
assert 0.85 < top[1] < top[2] <= top[3] and T > 1 and cost["T"] < cost["T = 1"]

# %%
confused = torch.zeros(10, 10)
for true, said in zip(test_values, place_of[:, 0]):
    confused[true, said] += 1
drawings.draw_confusion(plt.figure(figsize=(7, 3.2)), confused, p.amax(1), place_of[:, 0] == test_values)
assert_close(confused.diagonal().sum() / confused.sum(), torch.tensor(top[1]))
off = confused - confused.diag().diag()
print("most often:", divmod(off.argmax().item(), 10), "as (true, said)")

# %% [markdown]
# It promises more than it keeps: $T$ is above 1. Read a softmax as a probability only after it was held against held-out data.
#
# ## 3 Where is it? The idea, written here
#
# ### Two boxes
#
# A box is $x_1,y_1,x_2,y_2$, the edges of an area in pixels. How well do two boxes agree? By intersection over union (交并比), as in chapter 3c, of areas this time:
#
# $$\mathrm{IoU}(A,B)=\frac{|A\cap B|}{|A\cup B|}$$
#
# A box 40 wide is found with the right size, but 10 pixels beside its place. Guess the IoU before you run the cell.

# %%
from vlmbook.detection import box_iou

def iou_by_hand(a, b):                       # (4,), (4,) -> number
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    return width * height / (area(a) + area(b) - width * height)


A = torch.tensor([[0.0, 0, 40, 40], [0, 0, 40, 40]], requires_grad=True)
B = torch.tensor([[10.0, 0, 50, 40], [40, 0, 80, 40], [10, 10, 20, 20]])
by_hand = [[iou_by_hand(a.tolist(), b.tolist()) for b in B] for a in A]
assert_close(torch.tensor(by_hand), box_iou(A, B))
assert_close(box_iou(A, B), torchvision.ops.box_iou(A, B))
ours, theirs = (torch.autograd.grad(f(A, B).sum(), A) for f in (box_iou, torchvision.ops.box_iou))
assert_close(ours, theirs)
print([round(each, 3) for each in by_hand[0]])

# %% [markdown]
# 0.6, and 0 for two that only touch. IoU is strict: half a width of shift leaves a third.
#
# ### One box for each thing
#
# A detector finds each thing many times, in slightly different boxes. Non-maximum suppression (非极大值抑制), NMS, keeps the best, drops what overlaps it by more than a
# threshold, and goes on with the best that is left. Three boxes in a chain, each over the next with IoU 0.6: which stay at threshold 0.5?

# %%
from vlmbook.detection import nms, nms_loops

def nms_by_hand(boxes, scores, threshold):
    left, kept = scores.argsort(descending=True).tolist(), []
    while left:
        best, *others = left
        kept.append(best)
        left = [i for i in others if box_iou(boxes[[best]], boxes[[i]]).item() <= threshold]
    return kept


chain = torch.tensor([[0.0, 0, 40, 40], [10, 0, 50, 40], [20, 0, 60, 40]])
scores = torch.tensor([0.9, 0.8, 0.7])
low = torch.rand(300, 2) * 60
many, chances = torch.cat([low, low + 20 + 10 * torch.rand(300, 2)], dim=1), torch.rand(300)
for boxes, chance in ((chain, scores), (many, chances), (many[:0], chances[:0])):
    kept = nms(boxes, chance, 0.5).tolist()
    assert kept == torchvision.ops.nms(boxes, chance, 0.5).tolist() == nms_by_hand(boxes, chance, 0.5)
print("of the chain:", nms(chain, scores, 0.5).tolist(), "; of 300:", len(nms(many, chances, 0.5)))

# %% [markdown]
# The first and the third: what was dropped drops nobody. (And if the middle one were the best, it alone would stay.)
#
# ### Anchors
#
# A network has a fixed number of outputs, an image any number of things. The way out: lay many fixed boxes over the image, at every cell of the feature map, in a few
# sizes and shapes, and ask of each: is there a thing that you fit? These are the anchors (锚框). For a size $s$ and a ratio $r=h/w$
#
# $$h=s\sqrt r,\qquad w=s/\sqrt r$$
#
# **I17 · a point?** The section writes 锚点, anchor *point*. A point has no size that could fit. It is a reference box (锚框): in the paper 3 sizes times 3 ratios, nine
# at each place.

# %%
from vlmbook.detection import generate_anchors
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

sizes, ratios = (128, 256, 512), (0.5, 1.0, 2.0)
nine = [(s / r**0.5, s * r**0.5) for r in ratios for s in sizes]             # (w, h)
anchors = generate_anchors((37, 50), (16, 16), sizes, ratios)
wh = anchors[:9, 2:] - anchors[:9, :2]
assert_close(wh, torch.tensor(nine), rtol=0, atol=1.0)                       # rounded to whole corners
x = torch.zeros(1, 3, 592, 800)
[theirs] = AnchorGenerator((sizes,), (ratios,))(ImageList(x, [(592, 800)]), [x[:, :, :37, :50]])
assert_close(anchors, theirs)
print(len(anchors), "anchors, nine at a place (w × h):", *(f"{w:.0f}×{h:.0f}" for w, h in wh))
assert len(anchors) == 37 * 50 * 9 and len(set(nine)) == 9

# %% [markdown]
# Which anchor answers for which thing? From an IoU of 0.7 on it is asked to find that thing, below 0.3 it is background, in between it is asked nothing. And each thing gets at least
# the anchor that fits it best, however badly [Ren et al. 2015, §3.1.2]. Here is that for one scene, the truth in white.

# %%
from vlmbook.detection import assign

sizes = runtime.pick(quick=(22,), full=(24, 52, 88))
ratios = runtime.pick(quick=(1.0,), full=(0.5, 1.0, 2.0))
side = images.shape[2:]
anchors = generate_anchors([n // 8 for n in side], (8, 8), sizes, ratios)
crowd = max(range(50), key=lambda i: len(targets[i]["labels"]))
owner = assign(box_iou(targets[crowd]["boxes"], anchors), 0.7, 0.3, rescue=True)
drawings.draw_assignment(plt.figure(figsize=(7, 2.5)), images[crowd], targets[crowd]["boxes"], anchors)
assert set(owner[owner >= 0].tolist()) == set(range(len(targets[crowd]["labels"])))
print(f"{(owner >= 0).sum()} of {len(anchors)} answer for an object")

# %% [markdown]
# Nearly all is background: a detector learns from few examples of things and from very many of nothing. So it draws a balanced sample of both.
#
# Which sizes and shapes should one take? Move them. When is a thing fitted by no anchor? In the right panel, a bar below 0.5 is orange.

# %%
interact.live(partial(drawings.draw_anchors, image=images[crowd], truth=targets[crowd]["boxes"]),
              smallest=(8, 96, 2), sizes=(1, 4), wide=True, stride=[4, 8, 16], figsize=(7, 2.6))

# %% [markdown]
# ### Offsets
#
# **I16 · coordinates?** The section lets the location branch output the coordinates of the box. It outputs offsets (偏移量) from an anchor, or from a proposal. With $x,y$ the centre,
# $w,h$ the size, and $a$ for the anchor's
#
# $$t_x=\frac{x-x_a}{w_a},\quad t_y=\frac{y-y_a}{h_a},\quad t_w=\log\frac{w}{w_a},\quad t_h=\log\frac{h}{h_a}$$
#
# Why? Double everything, image, anchor and box. What happens to the four numbers, and what to coordinates?

# %%
from vlmbook.detection import decode_boxes, encode_boxes

box, anchor = torch.tensor([[12.0, 20, 52, 40]]), torch.tensor([[10.0, 10, 42, 42]])
(xa, ya), (wa, ha) = (anchor[0, :2] + anchor[0, 2:]) / 2, anchor[0, 2:] - anchor[0, :2]
(x, y), (w, h) = (box[0, :2] + box[0, 2:]) / 2, box[0, 2:] - box[0, :2]
t = torch.stack([(x - xa) / wa, (y - ya) / ha, (w / wa).log(), (h / ha).log()])[None]
assert_close(t, encode_boxes(box, anchor))
assert_close(t, torchvision.models.detection._utils.encode_boxes(box, anchor, torch.ones(4)))
assert_close(decode_boxes(t, anchor), box)                                   # and back
assert_close(encode_boxes(2 * box, 2 * anchor), t)
assert not torch.allclose(t, box) and not torch.allclose(2 * box, box)
print("offsets", t[0].tolist(), "both at this size and at twice the size")

# %% [markdown]
# Nothing happens to offsets. One small network can say them for anchors of all sizes, at all places; coordinates would have to be learned anew for each.
#
# ### The same size for every region
#
# A region has any size, a linear layer wants one. Cut the region of the feature map into $h\times w$ bins. RoI pooling (感兴趣区域池化) rounds them to whole cells and takes the
# maximum [Girshick 2015]. RoI align rounds nothing: it takes values between the cells by bilinear interpolation (双线性插值), and their mean [He et al. 2017]:
#
# $$y_{ij}=\frac1{n^2}\sum_{a,b=1}^{n}x\big(u_{ia},v_{jb}\big),\qquad
# x(u,v)=\sum_{p,q}\max(0,1-|u-p|)\,\max(0,1-|v-q|)\,x_{pq}$$
#
# Move a region by a quarter of a cell over a ramp. Which of both notices?

# %%
from vlmbook.detection import roi_align, roi_align_loops, roi_pool, roi_pool_loops

x = torch.randn(2, 3, 9, 12, requires_grad=True)
boxes = [torch.tensor([[1.3, 0.4, 8.9, 7.2], [2, 2, 4, 5]]), torch.tensor([[0.0, 3, 11.5, 8]])]
for ours, loops, theirs in ((roi_pool, roi_pool_loops, torchvision.ops.roi_pool),
                            (roi_align, roi_align_loops, torchvision.ops.roi_align)):
    values_of = [f(x, boxes, (3, 4)) for f in (ours, loops, theirs)]
    assert_close(values_of[0], values_of[1])
    assert_close(values_of[0], values_of[2])
    slopes = [torch.autograd.grad(y.square().sum(), x, retain_graph=True) for y in values_of[::2]]
    assert_close(*slopes)
ramp = torch.arange(12.0).expand(1, 1, 12, 12)
at = lambda f, left: f(ramp, [torch.tensor([[left, 2, left + 6, 8]])], 1).item()
for f in (roi_pool, roi_align):
    print(f.__name__, [round(at(f, 2 + k / 4), 2) for k in range(5)])
steps = [[at(f, 2 + k / 4 + 0.25) - at(f, 2 + k / 4) for k in range(4)] for f in (roi_pool, roi_align)]
assert sorted(set(steps[0])) == [0, 1] and max(abs(d - 0.25) for d in steps[1]) < 1e-4

# %% [markdown]
# Pooling stands still and jumps; align follows. For boxes that have to be exact to the pixel, align is the better one, and the one in our detector.
#
# ### How good is a detector?
#
# Sort all detections of a class, over all images, the surest first. One is a hit if it reaches IoU 0.5 with an object that no surer one has taken. After $n$ detections with $h_n$ hits, of $G$ objects:
#
# $$P_n=\frac{h_n}{n},\qquad R_n=\frac{h_n}{G},\qquad
# \mathrm{AP}=\frac1{101}\sum_{r\in\{0,\,0.01,\dots,1\}}\ \max_{n:\,R_n\ge r}P_n$$
#
# is precision (精确率), recall (召回率), and average precision (平均精度, AP) as COCO takes it; the mean over classes is the mAP. Six detections of four objects, hit, hit, miss, hit, miss, miss. What is the AP? Do it with paper first.

# %%
from vlmbook.detection import average_precision, average_precision_loops, precision_recall_curve

hits, G = torch.tensor([True, True, False, True, False, False]), 4
P = [hits[:n].sum().item() / n for n in range(1, 7)]
R = [hits[:n].sum().item() / G for n in range(1, 7)]
AP = sum(max((p for p, r in zip(P, R) if r >= k / 100), default=0) for k in range(101)) / 101
assert abs(AP - (51 * 1 + 25 * 3 / 4) / 101) < 1e-9
assert abs(AP - average_precision(hits, G)) < 1e-9 > abs(AP - average_precision_loops(hits, G))
drawings.draw_area(plt.figure(figsize=(4.2, 2.4)), hits, G)

# %% [markdown]
# Up to recall 0.5 the best precision is 1, up to 0.75 it is 3/4, and the fourth object is never found.
#
# ## 4 The detectors
#
# **Two stages.** Faster R-CNN [Ren et al. 2015]. A backbone (骨干网络) makes one feature map. The region proposal network (区域建议网络), RPN, asks of each anchor: thing or not, and which offsets? The best, after NMS, are the proposals
# (候选区域). RoI align cuts each out of the *same* map, and two linear layers say which class it is, background being one, and shift the box once more.
#
# **One stage.** The idea of YOLO [Redmon et al. 2016]. Each cell of the map says at once whether the centre of a thing lies in it, where in the cell, how large it is, and what it is.
#
# Ours carry torchvision's names, so its `FasterRCNN` takes our weights. Does it then say the same?

# %%
from vlmbook.detection import (FasterRCNN, GridDetector, SmallBackbone, detection_loss,
                               mean_average_precision, padded)
from torchvision.models.detection.faster_rcnn import FasterRCNN as Torchvisions
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

num_classes, widths = len(names) + 1, runtime.pick(quick=(16, 32, 96), full=(32, 64, 128))
width, before, after = runtime.pick(quick=(128, 60, 20), full=(512, 1000, 300))
samples = runtime.pick(quick=(32, 16), full=(128, 128))

def two_stages():
    return FasterRCNN(SmallBackbone(widths), num_classes, sizes=sizes, ratios=ratios, width=width,
                      before=before, after=after, samples=samples)

def torchvisions():                          # the same backbone, settings, and images as they are
    keep = {f"rpn_{which}_nms_top_n_{mode}": n for mode in ("train", "test")
            for which, n in (("pre", before), ("post", after))}
    return Torchvisions(
        SmallBackbone(widths), min_size=min(side), max_size=max(side), image_mean=[0, 0, 0],
        image_std=[1, 1, 1], rpn_anchor_generator=AnchorGenerator((sizes,), (ratios,)),
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0"], 7, 2), **keep,
        box_head=TwoMLPHead(49 * widths[2], width), box_predictor=FastRCNNPredictor(
            width, num_classes), rpn_batch_size_per_image=samples[0],
        box_batch_size_per_image=samples[1])

# %%
ours, theirs = two_stages().eval(), torchvisions().eval()
with torch.no_grad():
    ours.roi_heads.box_predictor.cls_score.weight *= 30      # so that an untrained head is sure of something
theirs.load_state_dict(ours.state_dict())
with torch.no_grad():
    pairs = list(zip(ours(test_images[:4]), theirs(list(test_images[:4]))))
for mine, other in pairs:
    assert_close([mine[key] for key in other], list(other.values()), rtol=1e-3, atol=1e-3)
print("equal:", [len(mine["boxes"]) for mine, _ in pairs], "detections")
assert all(len(mine["boxes"]) for mine, _ in pairs)

# %% [markdown]
# The same boxes, scores and labels. (The tests hold the losses and all gradients against torchvision's, too.)
#
# ## 5 Book check
#
# **W15 · the missing edge.** The section draws Faster R-CNN as `特征图 → 区域建议网络 → 分类分支, 定位分支`: the branches get what the RPN gives, and nothing else. But the RPN
# gives boxes and one number each, the same for every class. What a thing *is* stands in the map. So two edges must meet, the map's and the proposals', at the pooling. Does our network have that joint?
#
# **W32 · sliding over the image?** The section lets the RPN extract features from the image by a sliding window. It slides over the feature map, which is shared: that is the point of
# Faster R-CNN. What goes into its head?

# %%
from collections import Counter

printed = ["AB", "BC", "CD", "DE", "DF", "EG", "FH"]      # C the feature map, D the RPN, E and F branches
joints = [node for node, n in Counter(edge[1] for edge in printed).items() if n > 1]
came = {}
for part in (ours.rpn.head, ours.roi_heads.box_head, ours.roi_heads.box_predictor.cls_score):
    part.register_forward_pre_hook(lambda part, x: came.update({type(part).__name__: x[0].shape[1:]}))
stages = ours.stages(test_images[:1])
pull = torch.autograd.grad(stages["logits"].square().sum(), stages["map"])[0]
print("joints in the book's diagram:", joints, "; what comes in:", {k: tuple(v) for k, v in came.items()})
assert not joints and pull.abs().max() > 0 and not stages["proposed"].boxes[0].requires_grad
assert came["RPNHead"] == stages["map"].shape[1:] != test_images.shape[1:]
assert came["TwoMLPHead"] == (widths[2], 7, 7)
assert ours.rpn.head.cls_logits.out_channels == len(sizes) * len(ratios)     # of no class
assert ours.roi_heads.box_predictor.bbox_pred.out_features == 4 * num_classes        # I16: offsets, a class

# %% [markdown]
# The classes depend on the map directly, for the proposals carry no gradient; and the RPN's head never sees three channels.
#
# **I15 · a thing in each proposal?** 每个候选区域包含一个可能的目标. Show the untrained network noise. How many proposals will it make, where nothing is?

# %%
with torch.no_grad():
    nothing = ours.rpn(ours.backbone(torch.rand(1, *test_images.shape[1:])), side)
print(len(nothing.boxes[0]), "proposals in noise, scores up to", f"{nothing.scores[0].max():.2f}")
assert after // 2 < len(nothing.boxes[0]) <= after

# %% [markdown]
# As many as ever. The RPN ranks, and the best go on, whatever they are worth; it is the head that says *background*. Section 7 counts it for a trained network.
#
# **I18 · four names in a row.** The section lists R-CNN, Fast R-CNN, Faster R-CNN and YOLO, and says that Faster R-CNN finds things accurately. Neither IoU nor NMS nor AP occurs in it, without
# which that has no meaning. The next sections measure it: an R-CNN on sliding windows, one of two stages, one of one stage, on the same images.
#
# ## 6 Train
#
# First a baseline, and the oldest of the four: R-CNN [Girshick et al. 2014]. Cut regions out of the *image*, give each to a classifier. The classifier learns from shifted true boxes and from random ones, background among them.
# The regions are windows at all places, in few sizes.

# %%
crop = lambda images, boxes: torchvision.ops.roi_align(images, boxes, 24, 1.0, 2)

def regions_to_learn(targets):               # n × {boxes, labels} -> n × (k, 4), n × (k,) from 0, background
    boxes, kinds = [], []
    for each in targets:
        random = each["boxes"][torch.randint(len(each["boxes"]), (4,))]
        random = random + (torch.rand(4, 2) - 0.5).repeat(1, 2) * random[:, 2:].amax()
        both = torch.cat([each["boxes"] + 1.5 * torch.randn_like(each["boxes"]), random])
        owner = assign(box_iou(each["boxes"], both), 0.5, 0.3, rescue=False)
        boxes.append(both[owner >= -1])
        kinds.append(torch.where(owner >= 0, each["labels"][owner] + 1, 0)[owner >= -1])
    return boxes, kinds


runtime.seed_everything(0)
known = runtime.pick(quick=800, full=len(images))
boxes, kinds = regions_to_learn(targets[:known])
pieces, kinds = crop(images[:known], boxes), torch.cat(kinds)
rcnn = nn.Sequential(SmallBackbone(widths), nn.Flatten(), nn.Linear(9 * widths[2], num_classes))
fit(rcnn, (pieces, kinds), loss_fn=once, epochs=5, batch_size=64, lr=3e-3, progress=False)
rcnn.cpu().eval().requires_grad_(False)
print(len(pieces), "pieces,", f"{(kinds == 0).float().mean():.0%} of them background")

# %% [markdown]
# Now the two detectors, on the same images with the same backbone, from random weights. (The book's Faster R-CNN starts from a pre-trained one; without network access there is none here.) Each has its own learning
# rate, epochs chosen so that both take about the same time.

# %%
true_boxes, true_labels = padded(targets)
truths = [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in test_targets]
precision = None

def torchvision_loss(net, x, boxes, labels):
    return sum(net(list(x), [{"boxes": b[l > 0], "labels": l[l > 0]}
                             for b, l in zip(boxes, labels)]).values())

def mirrored(loss, net, x, boxes, labels):   # a cell seen in a mirror is a cell; a digit is none
    if torch.rand(()) < 0.5:
        low, high = (side[1] - boxes[..., i] for i in (2, 0))
        x, boxes = x.flip(-1), torch.stack([low, boxes[..., 1], high, boxes[..., 3]], dim=-1)
    return loss(net, x, boxes, labels)

one_stage = lambda: GridDetector(SmallBackbone(widths), num_classes, size=sizes[len(sizes) // 2])
epochs = runtime.pick(quick={"one stage": 11, "two stages": 4}, full={})
makers = {"one stage": (one_stage, detection_loss, 5e-3, 16),
          "two stages": (two_stages, detection_loss, 3e-3, 8)}
if runtime.profile() == "full":
    makers["torchvision's"] = torchvisions, torchvision_loss, 3e-3, 8

# %%
nets, histories = {}, {}
for name, (make, loss, lr, batch_size) in makers.items():
    runtime.seed_everything(0)
    net = make()
    histories[name] = fit(
        net, (images, true_boxes, true_labels), lr=lr, batch_size=batch_size, warmup=20, clip=5.0,
        loss_fn=runtime.pick(quick=loss, full=partial(mirrored, loss)), epochs=epochs.get(name, 40))
    nets[name] = net.cpu().eval().requires_grad_(False)
_, axes = plt.subplots(figsize=(6, 2.2))
for name, history in histories.items():
    losses = torch.tensor(history.losses)
    window = max(1, len(losses) // 40)
    axes.semilogy(torch.linspace(0, history.seconds, len(losses))[window - 1:],
                  losses.unfold(0, window, 1).mean(1), label=name)
axes.set(xlabel="seconds", ylabel="sum of the losses")
axes.legend();

# %% [markdown]
# The sums are of different losses: only the slopes can be compared. How good are they, on photographs that none has seen? R-CNN is asked on fewer images, since it takes its time. Guess the order.

# %%
def detect(net, x):                          # -> list of {boxes, scores, labels}
    listed = list if isinstance(net, Torchvisions) else (lambda part: part)
    return [said for part in x.split(25) for said in net(listed(part))]

def detect_rcnn(x):                          # windows of 1¼ and ⅞ of the anchors' sizes
    stride = runtime.pick(quick=6, full=16)
    scale = [1.2 * s for s in sizes] + [0.85 * s for s in sizes]
    windows = generate_anchors([n // stride for n in side], (stride, stride), scale, (1.0,))
    return [decided(rcnn(crop(one[None], [windows])).softmax(1), windows, side) for one in x]


from vlmbook.detection import decided
asked = 60
found = {name: (detect(net, test_images), truths) for name, net in nets.items()}
found = {"R-CNN, windows": (detect_rcnn(test_images[:asked]), truths[:asked])} | found
mAP = {name: mean_average_precision(*each) for name, each in found.items()}
for name, (mean, of_class) in mAP.items():
    print(f"{name:15} mAP@0.5 {mean:.3f}  ", *(f"{names[k - 1]} {ap:.2f}" for k, ap in of_class.items()))

# %%
best = max(nets, key=lambda name: mAP[name][0])
drawings.draw_detections(figure := plt.figure(figsize=(7, 2.6)), test_images[:12], found[best][0][:12],
                         truths[:12], names)
records.picture("ch05a", figure)
if runtime.profile() == "quick":
    assert mAP[best][0] > 0.85 and best == "one stage"
    assert mAP["R-CNN, windows"][0] < min(mAP[name][0] for name in nets)

# %% [markdown]
# Blue is a hit, orange a false alarm, white the truth. At equal time the one-stage detector is far ahead here. That says nothing about the two ideas at large: two stages have more to learn (four losses, of which the
# last two wait for good proposals), and these images are small, with few things in them. *At full size* below has other numbers.
#
# A single number hides a curve. Precision over recall, class by class, the AP in the legend. Where does the curve of a class end, if some of its things are never found?

# %%
drawings.draw_curves(plt.figure(figsize=(7, 2.8)), {name: found[name] for name in nets}, names)
for name in nets:
    assert abs(sum(mAP[name][1].values()) / len(names) - mAP[name][0]) < 1e-9

# %% [markdown]
# ### What the thresholds do
#
# The widget takes what a detector says before any decision. Lower *score*: what appears first? Raise *iou* to 1, no suppression at all: what happens to precision, what to recall? Why is an *iou* near 0 dangerous?

# %%
shown = test_images[:20]
judged = {name: net.judged(shown) for name, net in nets.items() if hasattr(net, "judged")}
interact.live(partial(drawings.draw_suppression, judged=judged, images=shown, truths=truths[:20],
                      names=names), detector=list(judged), image=(0, 19),
              score=(0.05, 0.95, 0.05), iou=(0.0, 1.0, 0.05), figsize=(7, 2.7))

# %% [markdown]
# ## 7 See inside
#
# One image through all stages of the two-stage detector. Panel 3 shows, for each place, the chance that its best anchor gives. Panel 6 shows the first eight regions as the head gets them, all of one size.

# %%
two = nets["two stages"]
crowd = max(range(40), key=lambda i: len(truths[i]["labels"]))
stages = two.stages(test_images[[crowd]])
drawings.draw_stages(plt.figure(figsize=(7, 4.2)), test_images[crowd], truths[crowd]["boxes"], stages, names)

# %% [markdown]
# How good are the proposals? Count, over test images: the share of the true things that some proposal meets at IoU 0.5 (that is their recall), and the share of the proposals that meet a thing, before NMS and after it. Which of the two does NMS change?

# %%
def met(proposals, truths):                  # -> share of things met, share of proposals that meet one
    iou = [box_iou(boxes, t["boxes"]) >= 0.5 for boxes, t in zip(proposals, truths)]
    return tuple(torch.cat([each.any(axis) for each in iou]).float().mean().item() for axis in (0, 1))

proposed = two.rpn(two.backbone(test_images[:asked]), side)
before_nms, after_nms = met(proposed.before, truths), met(proposed.boxes, truths)
anchors_alone = met([proposed.anchors] * asked, truths[:asked])
for name, each in {"all anchors": anchors_alone, "before NMS": before_nms, "proposals": after_nms}.items():
    print(f"{name:11} meet {each[0]:.2f} of the things; {each[1]:.2f} of them meet one")
if runtime.profile() == "quick":
    assert after_nms[0] > 0.8 and before_nms[0] >= after_nms[0] - 0.02
    assert after_nms[1] < 0.5 and after_nms[1] < before_nms[1]               # I15

# %% [markdown]
# NMS throws away most boxes and nearly none of the things: what it drops are doubles. And in the trained network as well, more than half of the proposals hold nothing (I15).
#
# ## 8 What it costs
#
# Why were there four of them? Each removed what was slowest before. R-CNN sends every region through the network. Fast R-CNN [Girshick 2015] sends the image through once, and cuts the regions out of the map; but the regions still
# came from outside. Faster R-CNN lets the map propose them. YOLO needs none.
#
# Measured, not told: milliseconds an image on this machine, for 20, 80 and 320 regions. As the source from outside stand the boxes around Felzenszwalb's segments, on which selective search is built [Uijlings et al. 2013].
# Which bars will grow with the number of regions?

# %%
from statistics import median
from time import perf_counter
from skimage.segmentation import felzenszwalb

def ms(run, repeats=7):
    times = []
    for _ in range(repeats):
        began = perf_counter()
        run()
        times.append(1000 * (perf_counter() - began))
    return median(times)

one, grid = test_images[:1], nets["one stage"]
grey = one[0].permute(1, 2, 0).numpy()
segments = lambda: [felzenszwalb(grey, scale, 0.5, 10) for scale in (20, 60, 180)]
x = two.backbone(one)
outside, once_through = ms(segments), ms(lambda: two.backbone(one))
rpn, head = ms(lambda: two.rpn(x, side)), ms(lambda: grid.head(x))
costs = {"R-CNN": {}, "Fast R-CNN": {}, "Faster R-CNN": {}, "one stage": {}}
for n in (20, 80, 320):
    low = torch.rand(n, 2) * 40
    boxes = [torch.cat([low, low + 16], dim=1)]
    pieces = torchvision.ops.roi_align(one, boxes, 32, 1.0, 2)
    heads = ms(lambda: two.roi_heads(x, boxes, 1 / 8))
    costs["R-CNN"][n] = {"regions": outside, "features": ms(lambda: two.backbone(pieces), 3)}
    costs["Fast R-CNN"][n] = {"regions": outside, "features": once_through, "heads": heads}
    costs["Faster R-CNN"][n] = {"regions": rpn, "features": once_through, "heads": heads}
    costs["one stage"][n] = {"features": once_through, "heads": head}

# %%
drawings.draw_costs(plt.figure(figsize=(7, 2.5)), costs)
total = {name: {n: sum(each.values()) for n, each in found.items()} for name, found in costs.items()}
growth = costs["R-CNN"][320]["features"] / costs["R-CNN"][20]["features"]
print(f"R-CNN's features, 320 regions over 20: {growth:.1f}; regions from outside {outside:.1f} ms, "
      f"from the RPN {rpn:.1f} ms")
assert growth > 6 and rpn < outside
for n in (80, 320):
    assert total["R-CNN"][n] > total["Fast R-CNN"][n] > total["Faster R-CNN"][n] > total["one stage"][n]

# %% [markdown]
# R-CNN pays for features by the region, the others once. The heads of Fast and Faster R-CNN still grow with the regions, and their share is large here, since the backbone is tiny; with a large one they would hardly show. The one-stage detector pays the same for any number of things.
#
# ## 9 Break it
#
# What is each part worth? Take it away from the trained detectors: suppression (all doubles stay), and the last offsets (the box of the proposal, or a square of typical size, stays as it is). Which loss is the larger? Nothing is trained anew, so there is no chance in it.

# %%
def broken(net, x, truths, suppress=True, move=True):
    said = []
    for part in x.split(25):
        stages = net.stages(part) if isinstance(net, FasterRCNN) else None
        for i, (p, boxes) in enumerate(net.judged(part)):
            if not move and stages:
                boxes = stages["proposed"].boxes[i]
            elif not move:
                middle = (boxes[:, :2] + boxes[:, 2:]) / 2
                boxes = torch.cat([middle - net.size / 2, middle + net.size / 2], dim=1)
            said.append(decided(p, boxes, side, iou_threshold=0.5 if suppress else 1.0))
    return mean_average_precision(said, truths)[0]


ways = {"whole": {}, "no suppression": {"suppress": False}, "no offsets": {"move": False}}
worth = {name: {way: broken(nets[name], test_images, truths, **options) for way, options in ways.items()}
         for name in ("one stage", "two stages")}
for name, each in worth.items():
    print(name, *(f"{way} {value:.3f}" for way, value in each.items()), sep=", ")
    assert abs(each["whole"] - mAP[name][0]) < 1e-6 and max(each["no suppression"], each["no offsets"]) < each["whole"]

# %%
records.record(
    "ch05a", seed=0, mAP={name: mean for name, (mean, _) in mAP.items()},
    AP={name: {names[k - 1]: ap for k, ap in each.items()} for name, (_, each) in mAP.items()},
    seconds_of_training={name: history.seconds for name, history in histories.items()},
    without=worth, top_k={str(k): share for k, share in top.items()}, temperature=T,
    ECE={"before": ece(p, test_values), "after": ece(hot, test_values)},
    proposals={"things met": after_nms[0], "that meet one": after_nms[1]},
    ms_an_image={name: {str(n): ms for n, ms in each.items()} for name, each in total.items()});

# %% [markdown]
# ## 10 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch05a.1")` helps in steps, `solution("ch05a.1")` shows one answer.
#
# **1 · Predict.** A `FasterRCNN` with `SmallBackbone`, anchors of two sizes and three ratios, and five classes with the background gets two images of 96×160. Which shape has the map of offsets that leaves the RPN's `bbox_pred`?
# Answer without running a network.

# %%
shape = ...                                  # (B, C, H, W)
check("ch05a.1", shape)


# %% [markdown]
# **2 · Derive.** A box is found with the right size, `w` wide, but shifted sideways by `d`. What is the IoU? And so: how far may a box 30 wide be off, to count as found at 0.5?

# %%
def shifted_iou(w, d):                       # shifted_iou(40, 10) -> 0.6
    ...


check("ch05a.2", shifted_iou)


# %% [markdown]
# **3 · Build.** NMS drops a box for good, even if it is another thing close by. Soft-NMS [Bodla et al. 2017] only lowers its score: take the best box that is left, multiply the score of each other one that is left by $e^{-\mathrm{IoU}^2/\sigma}$, and repeat
# till none is left. Give the final scores, in the order of the boxes.

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
# ## 11 At full size
#
# With `VLMBOOK_PROFILE=full` the same notebook finds blood cells, and torchvision's Faster R-CNN learns beside ours, with the same backbone, settings and epochs. What the published runs measured:

# %% tags=["record"]
records.show("ch05a", "quick")
records.show("ch05a", "full")

# %% [markdown]
# ## 12 What we learned
#
# A network's last numbers are logits; softmax belongs into the loss once, and what it promises has to be held against held-out data.
# A detector lays anchors, or cells, over the image, and asks each: is something here, what, and how must the box be moved?
# It says everything many times; suppression keeps the best of each.
# The regions are cut out of one shared map; that, and proposals from the map itself, made R-CNN fast.
# A detector without a number at a stated IoU, on images it has not seen, is a picture. The number is average precision.
#
# **References.** R. Girshick, J. Donahue, T. Darrell, J. Malik, *Rich feature hierarchies for accurate object detection and semantic segmentation*, CVPR, 2014, arXiv:1311.2524 · R. Girshick, *Fast R-CNN*, ICCV, 2015, arXiv:1504.08083 ·
# S. Ren, K. He, R. Girshick, J. Sun, *Faster R-CNN: towards real-time object detection with region proposal networks*, NeurIPS, 2015, arXiv:1506.01497 · J. Redmon, S. Divvala, R. Girshick, A. Farhadi, *You only look once: unified, real-time object detection*, CVPR, 2016, arXiv:1506.02640 ·
# K. He, G. Gkioxari, P. Dollár, R. Girshick, *Mask R-CNN*, ICCV, 2017, arXiv:1703.06870 · J. Uijlings, K. van de Sande, T. Gevers, A. Smeulders, *Selective search for object recognition*, IJCV 104, 2013 · C. Guo, G. Pleiss, Y. Sun, K. Weinberger, *On calibration of modern neural networks*, ICML, 2017, arXiv:1706.04599 ·
# X. Glorot, A. Bordes, Y. Bengio, *Deep sparse rectifier neural networks*, AISTATS, 2011 · N. Bodla, B. Singh, R. Chellappa, L. Davis, *Soft-NMS: improving object detection with one line of code*, ICCV, 2017, arXiv:1704.04503 · H. Rezatofighi et al., *Generalized intersection over union*, CVPR, 2019, arXiv:1902.09630 ·
# T.-Y. Lin et al., *Microsoft COCO: common objects in context*, ECCV, 2014, arXiv:1405.0312.
