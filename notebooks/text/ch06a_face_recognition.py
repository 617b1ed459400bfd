# %% [markdown]
# # 6a · Face recognition (人脸识别)
#
# *Book: §6.1, 实战项目1：人脸识别系统*
#
# **Two photographs: do they show the same person? How can a network answer this about people whom it has never seen, and how often is the answer wrong?**
#
# After this chapter you can
#
# - name the four stages of a face recognition system, and say what goes into each and comes out of it,
# - train a network that turns a face into 64 numbers, with three different losses,
# - measure a system by ROC, DET, equal error rate and TAR at a FAR, with intervals that are honest,
# - run the system on your own photographs, and delete a person from it,
# - say what must not be built with it.
#
# You need these words: convolution and pooling ([chapter 3a](ch03a_convolution_and_pooling.ipynb)), residual block and batch normalisation
# ([chapter 3b](ch03b_resnet.ipynb)), logits, cross-entropy, bounding box, IoU and non-maximum suppression ([chapter 5a](ch05a_classification_and_detection.ipynb)).
#
# The core path of 40 minutes is sections 1 to 8 and section 11. The others go deeper. Run the cells from top to bottom. The first cell prints what a whole run costs,
# and shows the result of its published run: a network of our own beside two older methods, on people whom none of them has seen.

# %% tags=["record"]
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import data, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch06a import application, experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)                     # images this small gain little from more threads
plot.use_style()
records.published("ch06a")
published = records.RESULTS / "ch06a.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)]);

# %% [markdown]
# ## 1 The data, looked at
#
# Photographs of faces are personal data, so this book ships none of private people. The network learns from **drawn** faces. `avatars` draws a person by chance: head, hair, eyes,
# nose, mouth, perhaps a beard or glasses. These stay. Pose, light, expression and noise change from image to image, and glasses come off. A row below is one person.
#
# The people of the training set (训练集) and of the test set (测试集) are different. No person is in both. For detection and alignment we use real photographs that come with
# scikit-image. With `VLMBOOK_PROFILE=full` and the photographs of ORL, the same code also runs on 40 real people.

# %%
people, shots = runtime.pick(quick=100, full=400), 12
faces = data.avatars(people, shots, size=32, seed=1).images.view(people, shots, 3, 32, 32)
new = data.avatars(40, 10, size=32, seed=2)                           # 40 other people
new_faces = new.images.view(40, 10, 3, 32, 32)
plot.gallery(data.avatars(4, 8, size=96, seed=1).images, columns=8);

# %% [markdown]
# ## 2 The idea: detect, align, embed, match
#
# A classifier (分类器) with one output a person would be simple. But a new person would need a new output and a new training. So the system does not learn people. It learns a
# **distance** between faces, which also works for people whom it has never seen. It has four stages:
#
# 1. **Detect** (检测): where in the image is a face? The answer is a box.
# 2. **Align** (对齐): the face is turned and scaled, so that the eyes are always at the same place.
# 3. **Embed** (嵌入): a network turns the aligned face into a vector of $D$ numbers, the embedding.
# 4. **Match** (匹配): the distance (距离) of two embeddings is compared with a threshold (阈值).
#
# The fourth stage answers two different questions. **Verification** (验证, 1:1) asks: is this Anna? There is one comparison. **Identification** (识别, 1:N) asks: who is
# this? There is a comparison with each of the $N$ people of a gallery (图库), and *nobody* is a possible answer.
#
# The picture shows the four stages on one photograph. Stages 2 and 3 use pretrained weights, if you have installed them. Section 8 explains these weights.

# %%
from vlmbook import face_recognition as fr
from vlmbook.pretrained import WeightsMissing

try:
    pipeline = fr.pretrained_pipeline()
except WeightsMissing as missing:
    pipeline = None
    print(missing, "(the chapter goes on without them)")
drawings.draw_pipeline(plt.figure(figsize=(7.5, 2.3)), **experiments.trace_face(pipeline))

# %% [markdown]
# ### The distance, by hand
#
# Each embedding $e$ has length 1. Then the Euclidean distance of two embeddings depends only on the angle $\theta$ between them:
#
# $$d(a,b)^2=\|a-b\|^2=\|a\|^2+\|b\|^2-2\,a\cdot b=2-2\cos\theta$$
#
# Take three embeddings with two numbers each: $a=(1,0)$ and $b=(0.8,0.6)$ of one person, $c=(0,1)$ of another person. Compute the three distances by hand. Which threshold
# separates the persons?

# %%
e = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])                # a, b, c
loop = [sum((p - q) ** 2 for p, q in zip(e[i], e[j])) ** 0.5 for i, j in ((0, 1), (0, 2), (1, 2))]
tiny = fr.make_pairs(e, torch.tensor([0, 0, 1]))
print("ab, ac, bc:", [round(d.item(), 3) for d in loop], "same person:", tiny.same.tolist())
assert_close(torch.stack(loop), tiny.distances)
assert_close(tiny.distances**2, 2 - 2 * (e @ e.T)[[0, 0, 1], [1, 2, 2]])

# %% [markdown]
# $d(a,b)=\sqrt{0.4}=0.632$, $d(a,c)=\sqrt2=1.414$, $d(b,c)=\sqrt{0.8}=0.894$. Each threshold between 0.632 and 0.894 separates them.
#
# ## 3 Find the face
#
# scikit-image brings a trained detector (检测器), a cascade (级联) of local binary patterns [Liao et al. 2007]. It looks at windows of many sizes. The first stage of the cascade looks at very few pixels, and
# rejects most windows. Each later stage is more exact, and sees fewer windows. A face is where several windows agree.

# %%
group, true_boxes = experiments.make_group_photo()                    # one photograph, four sizes
found = fr.detect_faces(group)
drawings.draw_boxes(plot.gallery([group], ["detected"])[0, 0], found, color=plot.ORANGE)
without = fr.detect_faces(data.photo("coffee"))
print(len(found), "faces in the group,", len(without), "in the photograph of a cup")

# %% [markdown]
# You can also train a detector yourself. A **histogram of oriented gradients** (方向梯度直方图, HOG) counts, in each cell of 5×5 pixels, in which directions the brightness changes. A linear support
# vector machine (支持向量机, SVM) separates the histograms of 100 faces from those of 100 patches without a face [Dalal & Triggs 2005]. Then a window slides over the image and over smaller copies of
# it. Non-maximum suppression (非极大值抑制) keeps the best of the windows that overlap. Half of the patches are held out.
#
# How many of those does it classify correctly? Is that enough for whole images? Count both kinds of errors for both detectors: faces that are missed, and boxes where no face is.

# %%
patches, is_face = data.face_patches()                                # 25×25 pixels, half are faces
detector = fr.HogDetector().fit(patches[::2], is_face[::2])
held_out = (detector.score(patches[1::2]) > 0) == (is_face[1::2] > 0)
windows = [detector(group, threshold=0.5, overlap=overlap)[0] for overlap in (1.0, 0.3)]
drawings.draw_windows(plt.figure(figsize=(7, 2)), group, *windows)
print(f"patches: {held_out.float().mean():.0%} correct")
detectors = {"cascade": fr.detect_faces, "HOG": lambda image: detector(image)[0]}
counts = {name: experiments.count_detections(detect) for name, detect in detectors.items()}
print(f"{'':40}{'cascade':>9}{'HOG':>6}")
for what in counts["cascade"]:
    print(f"{what:40}{counts['cascade'][what]:>9}{counts['HOG'][what]:>6}")
assert counts["cascade"]["faces in a group of 4"] == 4
assert counts["HOG"]["boxes on 8 photographs without a face"] > 100
assert counts["cascade"]["boxes on 8 photographs without a face"] < 4

# %% [markdown]
# Our detector classifies nearly all held-out patches correctly, and marks many windows without a face. An image has thousands of windows. If one window in a hundred is a false alarm (误报), there are dozens of false alarms in each image.
#
# The cascade has nearly no false alarms, but it misses a face that is turned by 20° or more. Our detector finds turned faces too, and has hundreds of false alarms. 200 patches are too
# few. Dalal and Triggs add the false alarms to the training set, and train again (hard negatives, 困难负样本). We go on with the cascade.
#
# ## 4 Align the face
#
# The network should not have to learn that a turned face is the same face. A second model, a forest of regression trees [Kazemi & Sullivan 2014], finds five landmarks (关键点) $p_i$: four corners of the eyes and
# the base of the nose. Let $q_i$ be the landmarks of the mean face. We look for the rotation and the scale $A$, and the shift $t$, that bring one onto the other with the least error:
#
# $$\min_{A,\,t}\;\sum_{i=1}^{5}\|A\,q_i+t-p_i\|^2,\qquad A=s\begin{pmatrix}\cos\alpha&-\sin\alpha\\\sin\alpha&\cos\alpha\end{pmatrix}$$
#
# The aligned face, the chip, has 150×150 pixels. Turn the photograph with the slider. Which of the pictures changes, and which stays the same?

# %%
photograph = data.photo("astronaut")[:, :242, 100:342]
landmarks = pipeline and pipeline.landmarks                           # None without the weights

def turn_photograph(figure, angle=20):
    drawings.draw_alignment(figure, photograph, landmarks, angle)


interact.live(turn_photograph, angle=(-40, 40, 5), figsize=(7, 2.1))

# %% [markdown]
# The box alone turns with the photograph. The aligned face stays upright, up to about 30°. Then the landmarks are wrong, since the forest has not learned such faces.
#
# ## 5 Embed the face
#
# The network is a ResNet of chapter 3b. There are three differences to a classifier. (1) Each image is standardised (标准化) first, $(x-\mu)/\sigma$ with its own mean and standard deviation, so that a
# brighter lamp changes little. (2) The last map is flattened, and not averaged over all positions: where the eyes are matters in an aligned face. (3) The output is divided by its length.
# Which shape leaves each step for an image of 32×32 pixels? Predict, then run.

# %%
from vlmbook.resnet import BasicBlock, PaddedShortcut

class FaceNet(nn.Module):                    # (B, 3, S, S) -> (B, 64), each of length 1
    def __init__(self, size):
        super().__init__()
        norm, halving = nn.BatchNorm2d, {"stride": 2, "padding": 2, "bias": False}
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 5, **halving), norm(16), nn.ReLU())
        self.block1 = BasicBlock(16, 16, 1, nn.Identity(), norm)
        self.block2 = BasicBlock(16, 32, 2, PaddedShortcut(16, 2), norm)
        self.block3 = BasicBlock(32, 64, 2, PaddedShortcut(32, 2), norm)
        cells = ((size + 7) // 8) ** 2       # positions of the last map
        self.norm = nn.BatchNorm1d(64 * cells)
        self.fc = nn.Linear(64 * cells, 64)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.stem(fr.standardise(x)))))
        return F.normalize(self.fc(self.norm(x.flatten(1))))


untrained, steps = FaceNet(32).eval(), {}
for name, module in untrained.named_children():
    module.register_forward_hook(lambda _, x, y, name=name: steps.update({name: y.shape[1:]}))
untrained(faces[0, :1])
drawings.draw_network(plt.figure(figsize=(7, 1.9)), {"image": (3, 32, 32)} | steps)
print(f"{sum(weight.numel() for weight in untrained.parameters()):,} parameters")

# %% [markdown]
# ### Three losses
#
# The embeddings of one person should be near to each other, those of two people far apart. Three losses teach this. $y$ is who the image shows.
#
# - **Softmax**: classify the people of the training set with a linear layer, and throw this layer away after training.
# - **Triplet** (三元组): an anchor $a$, another image $p$ of the same person, an image $n$ of another person. $L=\max\big(0,\;d(a,p)-d(a,n)+m\big)$ [Schroff et al. 2015].
# - **ArcFace**: $\theta_j$ is the angle between the embedding and the weight vector of person $j$. The angle of the true person counts as larger than it is, by a margin (间隔) $m$ [Deng et al. 2019]:
#
# $$L=-\log\frac{e^{s\cos(\theta_y+m)}}{e^{s\cos(\theta_y+m)}+\sum_{j\ne y}e^{s\cos\theta_j}}$$
#
# Check by hand: two people, $\cos\theta_y=0.8$, $\cos\theta_j=0.6$, $s=16$. Without a margin the loss is $\log(1+e^{16(0.6-0.8)})=0.040$. With $m=0.3$: $\theta_y=0.644$, $\cos(0.944)=0.587$, and the loss
# is $\log(1+e^{16(0.6-0.587)})=0.80$. The network has to go on learning, though its answer is right.
#
# The triplets of section 2 with $m=0.5$: for the anchor $a$ it is $\max(0,\;0.632-1.414+0.5)=0$, for $b$ it is $0.632-0.894+0.5=0.238$.

# %%
embedding, who = torch.tensor([[0.8, 0.6]]), torch.tensor([0])
for margin in (0.0, 0.3):
    head = fr.ArcFaceHead(2, 2, scale=16, margin=margin)
    nn.init.eye_(head.weight)                # person 0 at (1, 0), person 1 at (0, 1)
    cosines = torch.tensor([0.8, 0.6])
    logits = 16 * torch.stack([(cosines[0].acos() + margin).cos(), cosines[1]])
    assert_close(head(embedding, who), -logits.log_softmax(0)[0], rtol=1e-4, atol=1e-4)
    print(f"margin {margin}: loss {head(embedding, who).item():.3f}")
triplets = (tiny.distances[0] - tiny.distances[1:] + 0.5).clamp(min=0)     # anchors a, b
assert_close(fr.triplet_loss(e, torch.tensor([0, 0, 1]), margin=0.5), triplets.mean())
print("triplets:", [round(each, 3) for each in triplets.tolist()])

# %% [markdown]
# Code and formula agree. Move the margin and the angle below. When does ArcFace still push, where softmax has stopped?

# %%
interact.live(drawings.draw_margin, margin=(0.0, 1.0, 0.1), angle=(0.0, 1.4, 0.1), scale=(1, 32),
              figsize=(7, 2.4))

# %% [markdown]
# Softmax stops as soon as the embedding is nearer to the right person. ArcFace stops when the embedding is nearer by the margin.
#
# ## 6 Prepare the data
#
# §6.1.2 names three steps: cleaning (数据清洗), augmentation (数据增强) and standardisation (数据标准化). The order matters, and one step is missing there: the split.
#
# **Cleaning.** We spoil 24 images of the test people: 8 are blurred, 8 are copies, 8 get a wrong name. A blurred image has weak edges: its Laplacian (拉普拉斯算子) has a small standard deviation. A copy has a correlation
# of nearly 1 with its original. (A wrong name needs a trained network. Section 9 finds it.)

# %%
spoiled, names_given, faults = experiments.spoil(new.images, new.labels)
blurry = experiments.measure_sharpness(spoiled).argsort()[:8]         # the eight least sharp
copies = experiments.find_copies(spoiled)
blurred_found = torch.isin(blurry, faults["blurred"]).sum().item()
copies_found = torch.isin(copies[:, 1], faults["duplicate"]).sum().item()
print(f"blurred: {blurred_found} of 8; copies: {copies_found} of 8, {len(copies)} pairs reported")
shown = [*spoiled[blurry[:4]], *spoiled[copies[:2].flatten()]]
plot.gallery(shown, ["blurred"] * 4 + ["copy?"] * 4)
assert blurred_found >= 6 and copies_found == 8

# %% [markdown]
# **Split before augmentation.** §6.1.2 augments first and splits then. What happens? Take images of noise with labels that were drawn by lot. There is nothing to learn, so the accuracy on held-out data must be
# 10 %. Four augmented copies of each image are made before the split, or after it. The nearest neighbour classifies.
#
# **A third part.** §6.1.2 knows a training set and a validation set (验证集) only. Who chooses by the validation set, and reports the same number, reports luck. 200 classifiers toss a coin; the best one
# of 50 validation images is chosen.

# %%
leaked, honest = (experiments.measure_leak(augment_first=first) for first in (True, False))
luck, truth = experiments.measure_luck()
print(f"augment, then split: {leaked:.0%}; split, then augment: {honest:.0%}")
print(f"the best of 200 coins: {luck:.0%} on validation, {truth:.0%} on test")
assert leaked > 0.8 and honest < 0.25 and luck > 0.65 and abs(truth - 0.5) < 0.03


# %% [markdown]
# The leak turns 10 % into 90 %: a copy of nearly each held-out image is in the training set. So split first. For faces, split **by person**. And keep a test set that no choice has seen.
#
# **Augmentation**, of the training images only, new in each step: mirror, rotation up to 7°, scale ±10 %, shift ±6 %.

# %%
def augment(x):                              # (B, C, S, S) -> (B, C, S, S)
    noise = lambda size: size * (2 * torch.rand(len(x), device=x.device) - 1)
    angle, scale = noise(0.12), 1 + noise(0.1)
    mirror = torch.where(torch.rand(len(x), device=x.device) < 0.5, -1.0, 1.0)
    rows = [[mirror * scale * angle.cos(), -scale * angle.sin(), noise(0.12)],
            [mirror * scale * angle.sin(), scale * angle.cos(), noise(0.12)]]
    maps = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)              # (B, 2, 3)
    grid = F.affine_grid(maps, x.shape, align_corners=False)
    return F.grid_sample(x, grid, align_corners=False, padding_mode="border")


plot.gallery([faces[0, 0], *augment(faces[0, :1].expand(7, -1, -1, -1))], ["original"] + [""] * 7);

# %% [markdown]
# ## 7 Train it
#
# A batch (批次) holds 16 people with four images each, so that each image has partners of its own person and of others. The head is one of the three losses.

# %%
from vlmbook.training import fit

heads = {"softmax": fr.SoftmaxHead, "ArcFace": fr.ArcFaceHead,
         "triplet": lambda width, people: fr.triplet_loss}
epochs = runtime.pick(quick=28, full=60)

class Learner(nn.Module):                    # (P, K, C, S, S), (P,) -> scalar loss
    def __init__(self, network, head):
        super().__init__()
        self.network, self.head = network, head

    def forward(self, x, who):
        chosen = torch.rand(x.shape[:2], device=x.device).argsort(1)[:, :4]           # four of K
        x = x[torch.arange(len(x), device=x.device)[:, None], chosen]
        embeddings = self.network(augment(x.flatten(0, 1)))
        return self.head(embeddings, who.repeat_interleave(chosen.shape[1]))


# %%
def train(x, head="ArcFace", *, seed=0, epochs=epochs, lr=0.01, evaluate=None, **settings):
    runtime.seed_everything(seed)
    learner = Learner(FaceNet(x.shape[-1]), heads[head](64, len(x), **settings))
    history = fit(learner.to(memory_format=torch.channels_last), (x, torch.arange(len(x))),
                  loss_fn=lambda learner, x, who: learner(x, who), epochs=epochs, batch_size=16,
                  lr=lr, warmup=epochs // 4, weight_decay=5e-3, evaluate=evaluate, progress=False)
    return learner.cpu().eval(), history


def compare(network, x=new_faces):           # all pairs of images of new people
    return fr.make_pairs(*experiments.embed_faces(network, x))


def measure_eer(network, x=new_faces):
    pairs_of_x = compare(network, x)
    return fr.equal_error_rate(pairs_of_x.distances, pairs_of_x.same)[0]


# %% [markdown]
# A verifier makes two errors. Of the pairs of two people it accepts a share, the **false acceptance rate** (误识率, FAR). Of the pairs of one person it rejects a share, the **false rejection rate** (拒识率,
# FRR). A larger threshold raises the first and lowers the second. Where both are equal, the rate is called the **equal error rate** (等错误率, EER). Guessing has an EER of 50 %.
#
# Train three networks from three seeds. After each epoch the EER of people who are not in the training set is measured, for the curve only: nothing is chosen by it.

# %%
watch = lambda learner: {"eer": measure_eer(learner.network, new_faces[:, :3])}
learners, histories = zip(*(train(faces, seed=seed, evaluate=watch if seed == 0 else None)
                            for seed in range(3)))
errors = [each["eer"] for each in histories[0].evaluations]
drawings.draw_training(plt.figure(figsize=(7, 2.2)), {"ArcFace": histories[0].losses}, {"": errors})

# %% [markdown]
# Does it beat older methods? **Eigenfaces** (特征脸) [Turk & Pentland 1991]: the principal components of the training faces. **LBP histograms** [Ahonen et al. 2006]: in each cell of a grid, count which neighbours of a pixel are brighter
# than it. Noise spoils these patterns, so the images are smoothed first, which helps this method. All methods get the same pairs: 400 images of 40 new people.
#
# Two curves tell more than one rate. The **ROC** shows the true acceptance rate (TAR, $1-\text{FRR}$) for each FAR. The **DET** curve shows the FRR for each FAR, with logarithmic axes. A dot marks the EER.

# %%
grey, new_grey = (x.flatten(0, 1).mean(1, keepdim=True) for x in (faces, new_faces))
smooth = F.avg_pool2d(new_grey, 3, stride=1, padding=1)
older = {"eigenfaces": fr.Eigenfaces(grey)(new_grey), "LBP": fr.lbp_histograms(smooth)}
verdicts = {name: fr.make_pairs(x, new.labels) for name, x in older.items()}
verdicts["own network"] = compare(learners[0].network)
rates = {name: [fr.equal_error_rate(*each[:2])[0]] for name, each in verdicts.items()}
rates["own network"] = [measure_eer(learner.network) for learner in learners]
for name, values in rates.items():
    print(f"{name:12} EER", *(f"{value:.1%}" for value in values))
figure = plt.figure(figsize=(7, 2.5))
drawings.draw_curves(figure, {name: each[:2] for name, each in verdicts.items()})
records.picture("ch06a", figure)
assert max(rates["own network"]) < 0.06 and sum(rates["own network"]) / 3 < 0.05
assert max(rates["own network"]) < 0.5 * min(rates["eigenfaces"] + rates["LBP"])


# %% [markdown]
# The network errs far less often than both, on people whom it has never seen.
#
# ## 8 Why our network is not enough, and what is
#
# How many people does it have to learn from? The same network learns from fewer people, with the same number of images in all batches together, three seeds each.

# %%
def train_on(count, seed):                   # as many steps whatever the number of people
    batches = [-(-n // 16) for n in (people, count)]
    return train(faces[:count], seed=seed, epochs=epochs * batches[0] // batches[1])[0]


by_people = {count: [measure_eer(train_on(count, seed).network) for seed in range(3)]
             for count in runtime.pick(quick=(8, 28), full=(8, 28, 100))}
by_people[people] = rates["own network"]
drawings.draw_identities(plt.figure(figsize=(5, 2.4)), by_people)
means = [sum(values) / 3 for values in by_people.values()]
assert all(fewer > 1.2 * more for fewer, more in zip(means, means[1:]))

# %% [markdown]
# Each time, more people make fewer errors, at the same number of steps. A network that has seen 8 people has learned to tell these 8 apart, not people. Real faces differ in many more ways than drawn faces. So systems in use learn from thousands
# or millions of people, whose photographs were collected from the web, mostly without asking them. Section 13 returns to this.
#
# dlib's network (CC0) was trained so on about 3 million photographs of 7,485 people [King 2017]. Our package reads its weights: `pip install "vlmbook[pretrained]"`. It is a ResNet with 29 convolutions. Which shortcut of chapter 3b does it use where
# the size changes? And how far are embeddings of the astronaut's face from each other, if the photograph is dark, turned, noisy, or printed on paper and photographed again? The last row shows 40 other people.

# %%
if pipeline:
    block = pipeline.network.blocks[3]
    print(block.shortcut, block.conv1.in_channels, "->", block.conv2.out_channels, "channels,",
          sum(weight.numel() for weight in block.shortcut.parameters()), "parameters")
    variants = {name: pipeline(image).embeddings[0]
                for name, image in experiments.make_variants().items()}
    near = {name: (x - variants["same file"]).norm().item() for name, x in variants.items()}
    strangers = fr.embed(experiments.read_strangers(), pipeline.network)
    far_away = (strangers - variants["same file"]).norm(dim=1)
    drawings.draw_distances(plt.figure(figsize=(6, 2.6)), near, far_away)
    assert max(near.values()) < 0.6 < far_away.min()

# %% [markdown]
# The shortcut has no parameters: it averages 2×2 pixels and fills the 32 new channels with zeros. This is option A of chapter 3b. All photographs of the astronaut are within 0.6, dlib's threshold. All other people are beyond it.
# One face is no measurement, though. Section 15 shows the errors on 20 real people. And look at *printed*: the system accepts a photograph of a photograph. Section 13 returns to this too.
#
# ## 9 Going deeper: tune it
#
# Does the loss matter? Train all three heads with the same batches and steps. Softmax has a second problem: it can only answer with people whom it knows. How sure is the softmax head that
# a **new** person is one of the 100 people of the training set?

# %%
by_head = {"ArcFace": rates["own network"]}
for name in ("softmax", "triplet"):
    trained = [train(faces, name, seed=seed)[0] for seed in range(3)]
    by_head[name] = [measure_eer(learner.network) for learner in trained]
    if name == "softmax":
        known = trained[0].head.logits(trained[0].network(new.images)).softmax(1).amax(1).detach()
drawings.draw_seeds(plt.figure(figsize=(5, 1.6)).subplots(), by_head)
print(f"softmax: a new person is one of the known ones, {known.mean():.0%} sure on average")
assert known.mean() > 0.3 and max(max(values) for values in by_head.values()) < 0.08


# %% [markdown]
# On these faces the three losses differ by less than the seeds, so nothing can be claimed. (On millions of faces margins help [Deng et al. 2019].) But the softmax *classifier* is of no use for new people: it names somebody. The distance of embeddings can
# say *nobody*.
#
# How should the learning rate (学习率) and the margin be chosen? Not by the test people. **Cross-validation** (交叉验证) splits the training people into three folds. Two train, the third one tests, three times. `GroupKFold` keeps all images of
# a person in one fold.

# %%
def measure_setting(x, held, lr, margin):
    return measure_eer(train(x, lr=lr, margin=margin, epochs=epochs // 2)[0].network, held)


tried = ((0.003, 0.3), (0.01, 0.3), (0.03, 0.3), (0.01, 0.0))
tuned = experiments.cross_validate(measure_setting, faces[:100], tried)
by_setting = {f"lr {lr}, margin {m}": values for (lr, m), values in tuned.items()}
drawings.draw_seeds(plt.figure(figsize=(5, 2)).subplots(), by_setting, "EER of each fold, %");

# %% [markdown]
# The folds of one setting differ about as much as the settings do. So three folds of 33 people cannot choose between neighbouring settings, and a finer search would choose by luck. We keep 0.01 and 0.3. (These trainings have a quarter of the steps, so their EER is higher than in section 7.)
#
# **Cleaning, continued.** Now a trained network exists, and can find the 8 wrong names of section 6. An image is suspicious if it is nearer to the images of another person than to those of its own name.

# %%
suspicion = experiments.suspect_labels(fr.embed(spoiled, learners[0].network), names_given)
reported = (suspicion > 0).nonzero()[:, 0]
wrong_names = torch.isin(reported, faults["mislabelled"]).sum().item()
print(f"wrong names: {wrong_names} of 8 found, {len(reported)} images reported")
assert wrong_names >= 6 and len(reported) < 100

# %% [markdown]
# The network reports nearly all wrong names, and also right ones. A person has to look at the reported images, but not at the others.
#
# ## 10 See inside
#
# What does a face look like to the network? Cover a square of the image, and measure how far the embedding moves. Dark means: it moves far.

# %%
drawings.draw_occlusion(plt.figure(figsize=(7, 2.1)), learners[0].network, new_faces[:7, 1])

# %% [markdown]
# Hair and eyes matter most, and the background hardly counts. Nobody has told the network where the face is.
#
# ## 11 Measure the system
#
# A rate needs an interval (置信区间). The 79,800 pairs are not independent: one odd person is in 3,945 of them. So the bootstrap (自助法) draws **people** with replacement, not pairs. Applications do not use
# the EER. A door tolerates few strangers, so its owner names a FAR, and asks for the TAR there.
#
# The protocol of LFW (Labeled Faces in the Wild) [Huang et al. 2007] is another measure. Ten folds of pairs, half of them of one person, and no person in two folds. For each fold the threshold is chosen on the other nine.

# %%
pairs = verdicts["own network"]
eer, eer_threshold = fr.equal_error_rate(pairs.distances, pairs.same)
draws = fr.bootstrap_people(lambda *counted: fr.equal_error_rate(*counted)[0], pairs)
low, high = draws.quantile(torch.tensor([0.025, 0.975], dtype=draws.dtype)).tolist()
print(f"EER {eer:.1%}, 95 % interval over people {low:.1%} to {high:.1%}")
tars = {far: fr.tar_at_far(pairs.distances, pairs.same, far)[0] for far in (1e-1, 1e-2, 1e-3)}
print(*(f"TAR {tar:.3f} at FAR {far:g}" for far, tar in tars.items()), sep=", ")
accuracy, error, _ = fr.fold_accuracy(*experiments.make_folds(pairs, 10))
print(f"ten folds: accuracy {accuracy:.1%} ± {error:.1%}")
assert low < eer < high and tars[0.1] > tars[0.01] > tars[0.001] and accuracy > 0.9


# %% [markdown]
# The same system has a TAR of nearly 1 at a FAR of one in ten, and a much lower one at one in a thousand. So a rate without its FAR says nothing.
#
# Accuracy (准确率), precision (精确率), recall (召回率) and F1 depend on the threshold, and three of them also on how many of the pairs are of one person. Move the threshold: recall goes to 1. What does the FAR do then? Then set the share of same
# pairs to 0.02, as at a door that many strangers pass. Which measures look better, which worse? The recall and the FAR do not move.

# %%
def move_threshold(figure, threshold=0.9, same_share=0.5):
    drawings.draw_threshold(figure, pairs.distances, pairs.same, threshold, same_share)


interact.live(move_threshold, threshold=(0.1, 1.9, 0.1), same_share=[0.5, 0.1, 0.02],
              figsize=(7.5, 2.4))

# %% [markdown]
# With few same pairs the accuracy rises, since most pairs are different and rejected. The precision falls: most of the accepted pairs are now false. TAR and FAR are properties of the verifier alone, so they are what is reported.
#
# **Identification with strangers** (open set, 开集). Twenty people are enrolled with two images each. Their other images should get the right name, and the images of the twenty others none. **Errors by group**: who bears them?

# %%
embeddings, labels = experiments.embed_faces(learners[0].network, new_faces)
position = torch.arange(400) % 10
enrolled = (labels < 20) & (position < 2)
open_set = fr.open_set_identification(embeddings[enrolled], labels[enrolled],
                                      embeddings[~enrolled], labels[~enrolled])
by_group = experiments.measure_groups(pairs, new)
drawings.draw_open_set(plt.figure(figsize=(7, 2.3)), open_set, by_group)
assert all(group_low <= rate <= group_high for rate, group_low, group_high in by_group.values())

# %% [markdown]
# Pairs within one group of skin are harder than all pairs together, since the colour of the skin does not help there. Between the groups the intervals overlap: 40 people are too few to find a difference of two percentage points. This does not mean that there is none. In the tests of NIST, which
# have millions of people, false acceptances of many systems were 10 to 100 times as frequent for some groups as for others [Grother et al. 2019]. Chapter 7b goes on from here.
#
# ## 12 Deploy it
#
# Where the system runs, there is often no PyTorch. **ONNX** is a file format for networks, and ONNX Runtime runs it. **Quantisation** (量化) to int8 stores each weight in 8 bits, with one scale for each channel. The activations become 8 bits too. For their scales the network
# looks at some training images (calibration, 校准).

# %%
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    paths = {name: Path(folder, f"{name}.onnx") for name in ("ONNX", "int8")}
    experiments.export_network(learners[0].network, new.images[:4], paths["ONNX"])
    experiments.quantize_network(paths["ONNX"], faces[:40, 0], paths["int8"])
    sizes = {name: path.stat().st_size / 1000 for name, path in paths.items()}
    sizes["PyTorch"] = sum(4 * weight.numel() for weight in untrained.parameters()) / 1000
    deployed = {"PyTorch": learners[0].network} | {
        name: experiments.open_onnx(path) for name, path in paths.items()}
costs = {}
for name, network in deployed.items():
    with torch.no_grad():
        y = network(new.images)
    same_as = (y - deployed["PyTorch"](new.images).detach()).abs().max().item()
    rate = fr.equal_error_rate(*fr.make_pairs(y, new.labels)[:2])[0]
    ms = experiments.measure_latency(network, new.images[:1])
    costs[name] = {"ms": ms, "kB": sizes[name], "difference": same_as, "EER": rate}
    print(f"{name:8} {ms:.2f} ms a face, {sizes[name]:4.0f} kB, EER {rate:.2%}, ±{same_as:.0e}")
assert costs["ONNX"]["difference"] < 1e-4
assert abs(costs["int8"]["EER"] - costs["ONNX"]["EER"]) < 0.02

# %% [markdown]
# ONNX gives the same numbers up to rounding. int8 makes the file smaller, and changes the EER a little. (These rates are without the mirror image, so they differ from those above.)
#
# ### Your own photographs
#
# Type a name, choose photographs with one face each, and press *enrol*. Then choose another photograph and press *verify*. *Remove* deletes the person. The slider sets the threshold. Photographs are not kept, embeddings stay in memory and end with the
# kernel. Enrol only people who have said yes. The curve is measured on ORL, if the full run was published, else on drawn faces.

# %%
points = (records.load("ch06a", "full") or {}).get("measurements", {}).get("roc")
curve = experiments.make_roc(points) if pipeline and points else fr.roc_curve(*pairs[:2])
small = nn.Sequential(nn.AdaptiveAvgPool2d(32), learners[0].network)  # without the weights
application.FaceDesk(pipeline or fr.FacePipeline(small), curve, threshold=0.6 if pipeline else 0.9)

# %% [markdown]
# On the command line the same is `vlmbook faces enroll Anna anna1.jpg anna2.jpg`, `vlmbook faces verify Anna who.jpg`, `vlmbook faces identify group.jpg` and `vlmbook faces remove Anna`. Its gallery is a file that holds names and embeddings, no photographs.
#
# ## 13 Use it responsibly
#
# **Large galleries.** Identification compares with $N$ people. If the comparisons were independent, a stranger would get some name with the probability
#
# $$1-(1-\text{FAR})^N$$
#
# How large may a gallery be at a FAR of 1 %? The dots are measured: strangers, and galleries of our 40 test people.

# %%
far = 0.01
_, strict = fr.tar_at_far(pairs.distances, pairs.same, far)
people_enrolled = (1, 2, 5, 10, 20, 35)
gallery_errors = experiments.measure_gallery_errors(embeddings, labels, strict, people_enrolled)
drawings.draw_gallery_growth(plt.figure(figsize=(6, 2.4)), far, gallery_errors)
assert gallery_errors[35] > 5 * gallery_errors[1] and 1 - 0.99**35 > 0.25
records.record("ch06a", seed=[0, 1, 2], eer=rates, eer_by_people=by_people, eer_by_head=by_head,
               eer_by_setting=by_setting, eer_interval=[low, high], tar_at_far=tars,
               ten_folds=[accuracy, error], eer_by_group=by_group, deployed=costs,
               detections=counts, leak=[leaked, honest], gallery=gallery_errors,
               **experiments.measure_orl(train, pipeline));

# %% [markdown]
# A verifier that errs once in a hundred gives a name to every fourth stranger in a gallery of 35. For 100,000 people the FAR of one comparison has to be below one in ten million. This is why a phone can be unlocked by a face, and a search through a
# city fails. (Our dots lie a little below the curve: comparisons with one stranger are not independent.)
#
# - **Consent** (同意). A face cannot be changed like a password. In China faces are sensitive personal information: 《个人信息保护法》 arts. 26 and 28-30 demand a separate consent, and since June 2025 《人脸识别技术应用安全管理办法》 demands that another way
#   be offered. Ask first, keep embeddings only, delete on request. `remove` deletes a person from the file.
# - **Whose faces taught it?** Half of the photographs behind the pretrained weights come from VGG-Face and FaceScrub: people known to the public, mostly from the West, who were not asked. The network errs more often for people who look different. Measure your own users.
# - **Spoofing** (欺骗攻击). *Printed* in section 8 was accepted. The embedding cannot tell a face from its picture. A lock needs a second sign of life, such as depth or a movement on request. This chapter does not solve it.
# - **Do not build**: search for people in public places, guesses of feelings, character or origin from a face, decisions about people without a person who answers for them, or anything about people who have not agreed.
#
# ## 14 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch06a.1")` helps in steps, `solution("ch06a.1")` shows one answer.
#
# **1 · Predict.** 20 people have ten images each. How many pairs of images show one person, and how many show two? A pair (a, b) is the same pair as (b, a).

# %%
counts_of_pairs = ...                        # (same, different)
check("ch06a.1", counts_of_pairs)


# %% [markdown]
# **2 · Derive.** §6.1.2 says that F1 combines accuracy and recall. Write F1 from the counts of true positives, false positives, false negatives and true negatives.

# %%
def f1(tp, fp, fn, tn):                      # -> float
    ...


check("ch06a.2", f1)


# %% [markdown]
# **3 · Build.** Write the logits of ArcFace: from the cosines `(B, K)` and who it is `(B,)`. You need no case for $\theta+m>\pi$.

# %%
def arcface_logits(cosines, labels, scale, margin):    # -> (B, K)
    ...


check("ch06a.3", arcface_logits)


# %% [markdown]
# **4 · Choose.** Of the distances `(N,)` return the largest one that, as a threshold, has a FAR of at most `far`. `same` `(N,)` tells which pairs show one person. A pair is accepted if its distance is at most the threshold. If no distance is
# allowed, return a number below all of them.

# %%
def choose_threshold(distances, same, far):            # -> float
    ...


check("ch06a.4", choose_threshold)

# %% [markdown]
# **5 · Train, change, measure.** You may collect 144 images. Are 48 people with three images each better, or 12 people with twelve? Train on `faces[:48, :3]` and on `faces[:12]`, with as many steps, and give the EER of the new people for both.

# %%
trade = ...                                  # {"more people": EER, "more images": EER}
check("ch06a.5", trade)

# %% [markdown]
# ## 15 At full size
#
# With `VLMBOOK_PROFILE=full` the network learns from 400 drawn people. If `VLMBOOK_DATA` holds ORL (40 real people with ten photographs each), three systems are compared on people 21 to 40, on all 19,900 pairs: our network, which learned
# from people 1 to 20, the two older methods, and the pretrained pipeline. Twenty people are too few for our network, as section 8 has shown. The pretrained network has learned from thousands.

# %% tags=["record"]
records.show("ch06a", "full")

# %% [markdown]
# ## 16 Book check
#
# - **W29 · Faster R-CNN** is named in §6.1.2 as a model for face recognition. It is a detector: boxes, labels and scores come out, and no embedding. Two people are both *face*. It can do stage 1, no more.
# - **W30 · "accuracy above 90 % on LFW"** (§6.1.3). LFW consists of pairs, and a detector gives no score for a pair. Published accuracies in the ten-fold protocol of section 11 are 97.35 % (DeepFace), 99.63 % (FaceNet) and 99.83 % (ArcFace); people reach 97.53 % on
#   cropped faces. 90 % would be poor.
# - **W31 · F1** combines *precision* and recall, not accuracy and recall (§6.1.2, §6.1.3). Exercise 2. The book never defines precision.
# - **M05 · Augment, then split** (§6.1.2): section 6 measures the leak.
# - **M06 · No test set, no split by person** (§6.1.2): section 6 measures the luck.
# - **M09 · Accuracy and recall** are defined in §6.1.2 so that they are the same number when each image is a face. For pairs use FAR and TAR, section 11.
# - **M10 · "Recall improves significantly"** (§6.1.3). A larger threshold always does this. Give the TAR at a fixed FAR; the slider of section 11 shows why.
# - **M11 · Cross-entropy and Adam** (§6.1.2) train a classifier of known people. Section 9 shows what it says about new ones. The embedding is what can be used.
# - **M12 · Verification and identification** are not told apart, and detection and alignment are missing (§6.1). Section 2 and the curve of section 13.
# - **M13 · Results without data, code or numbers** (§6.1). The records of this chapter hold the data, the seeds and the intervals.
# - **M38 · Privacy is named without a technique** (§6.1, §7.1). Section 13; differential privacy (差分隐私) follows in chapter 7b.
# - **I25 · 标准化 is explained by 归一化** (§6.1.2). Standardisation is $(x-\mu)/\sigma$, normalisation to a range is $(x-\min)/(\max-\min)$. Statistics over a data set come from the training part only. Ours come from each image alone, so nothing can leak.
# - **I35 · Names**: LFW, U-Net, Open Images, VGG, Pascal VOC.
#
# ## 17 What we learned
#
# A face recognition system detects, aligns, embeds and matches; only the embedding is trained on identities, and it works for people whom it has never seen.
# It learns a distance. Three losses teach it about equally well here; the number of people in the training set matters more.
# The split by person comes before everything else, and a test set is used once.
# An error rate has a threshold, a FAR and an interval over people; accuracy and recall alone say nothing.
# The probability of a false name grows with the gallery, a printed photograph passes, and a face needs its owner's consent.
#
# **References.** F. Schroff, D. Kalenichenko, J. Philbin, *FaceNet: a unified embedding for face recognition and clustering*, CVPR 2015, arXiv:1503.03832 · J. Deng, J. Guo, N. Xue, S. Zafeiriou, *ArcFace: additive angular margin loss for deep face recognition*, CVPR 2019, arXiv:1801.07698 · Y. Taigman, M. Yang, M. Ranzato, L. Wolf,
# *DeepFace: closing the gap to human-level performance in face verification*, CVPR 2014 · G. B. Huang, M. Ramesh, T. Berg, E. Learned-Miller, *Labeled Faces in the Wild*, University of Massachusetts, Amherst, technical report 07-49, 2007 · N. Kumar, A. C. Berg, P. N. Belhumeur, S. K. Nayar,
# *Attribute and simile classifiers for face verification*, ICCV 2009 · V. Kazemi, J. Sullivan, *One millisecond face alignment with an ensemble of regression trees*, CVPR 2014 · S. Liao, X. Zhu, Z. Lei, L. Zhang, S. Z. Li, *Learning multi-scale block local binary patterns for face recognition*, ICB 2007 · N. Dalal, B. Triggs, *Histograms of oriented
# gradients for human detection*, CVPR 2005 · M. Turk, A. Pentland, *Eigenfaces for recognition*, Journal of Cognitive Neuroscience 3(1), 1991 · T. Ahonen, A. Hadid, M. Pietikäinen, *Face description with local binary patterns*, IEEE TPAMI 28(12), 2006 · D. King, *High quality face recognition with deep metric learning*, 2017,
# blog.dlib.net · P. Grother, M. Ngan, K. Hanaoka, *Face recognition vendor test part 3: demographic effects*, NISTIR 8280, 2019 · S. Kaufman, S. Rosset, C. Perlich, O. Stitelman, *Leakage in data mining*, ACM TKDD 6(4), 2012.
