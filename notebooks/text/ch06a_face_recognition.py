# %% [markdown]
# # 6a · Face recognition (人脸识别)
#
# *Book: §6.1, 实战项目1：人脸识别系统*
#
# **Two photographs: do they show the same person? How can a network answer this about people whom it has never seen, and how often is the answer
# wrong?**
#
# After this chapter you can
#
# - name the four stages of a face recognition system, with the input and the output of each stage,
# - train a network that turns a face into 64 numbers, with three different losses,
# - measure a system by ROC, DET, equal error rate and TAR at a FAR, with confidence intervals,
# - run the system on your own photographs, and delete a person from it,
# - explain what must not be built with such a system.
#
# You need these words: convolution and pooling ([chapter 3a](ch03a_convolution_and_pooling.ipynb)), residual block and batch normalisation ([chapter
# 3b](ch03b_resnet.ipynb)), logits, cross-entropy, bounding box, IoU and non-maximum suppression ([chapter
# 5a](ch05a_classification_and_detection.ipynb)).
#
# The core path takes 40 minutes: sections 1 to 8 and section 11. The other sections go deeper. Run the cells from top to bottom. The first cell prints
# the time and the memory of a whole run. It also shows the main result of the published run: the errors of our own network and of two older methods, on
# people whom none of the three has seen before.

# %% tags=["record"]
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import data, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.ch06a import application, experiments, figures as drawings, real_faces

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
# Photographs of faces are personal data, so this book contains no photographs of private people. The network learns from **drawn** faces. `avatars`
# draws a person at random: head, hair, eyes, nose and mouth, and for some people a beard or glasses. These features are the identity (身份), and stay the
# same. Pose, light, expression, noise, blur, background and clothes change from image to image. People who own glasses wear them in half of their
# images. Each row below shows one person.
#
# No person is in both the training set (训练集) and the test set (测试集). For detection and alignment we use real photographs from the library scikit-image.
# With `VLMBOOK_PROFILE=full` and the photographs of ORL, the same code also runs on 40 real people.

# %%
people, shots = 100, 12
faces = data.avatars(people, shots, size=32, seed=1).images.view(people, shots, 3, 32, 32)
new = data.avatars(40, 10, size=32, seed=2)                           # 40 other people
new_faces = new.images.view(40, 10, 3, 32, 32)
plot.gallery(data.avatars(4, 8, size=96, seed=1).images, columns=8);

# %% [markdown]
# ## 2 The idea: detect, align, embed, match
#
# Why not use a classifier (分类器) with one output for each person? A new person would need a new output and a new training. So the system learns
# something else: a **distance** (距离) between faces. The distance also works for people whom the network has never seen. The system has four stages:
#
# 1. **Detect** (检测): where in the image is a face? The answer is a box.
# 2. **Align** (对齐): the face is turned and scaled, so that the eyes are always at the same position.
# 3. **Embed** (嵌入): a network turns the aligned face into a vector of $D$ numbers, the embedding.
# 4. **Match** (匹配): the distance of two embeddings is compared with a threshold (阈值). Below the threshold the answer is *same person*.
#
# The fourth stage can answer two different questions. **Verification** (验证, 1:1) asks: is this Anna? The system makes one comparison.
# **Identification** (识别, 1:N) asks: who is this? The system compares the face with each of the $N$ people of a gallery (图库). The answer can also be
# *nobody*.
#
# The picture shows the four stages on one photograph. Stages 2 and 3 use pretrained weights (预训练权重), if you have installed them. Section 8 explains
# these weights.

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
# Take three embeddings with two numbers each: $a=(1,0)$ and $b=(0.8,0.6)$ of one person, $c=(0,1)$ of another person. Compute the three distances by
# hand. Which threshold separates the persons?

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
# scikit-image contains a trained detector (检测器). It is a cascade (级联), a row of simple tests [Viola & Jones 2001]. Each test compares the mean
# brightness of a block of pixels with the blocks around it: a local binary pattern (局部二值模式, LBP) [Liao et al. 2007]. The detector looks at windows of
# many sizes. The first stage of the cascade makes few comparisons, and rejects most windows. Each later stage is more exact, and gets fewer windows.
# The detector reports a face where several windows overlap.

# %%
group, true_boxes = experiments.make_group_photo()                    # one photograph, four sizes
found = fr.detect_faces(group)
drawings.draw_boxes(plot.gallery([group], ["detected"])[0, 0], found, color=plot.ORANGE)
without = fr.detect_faces(data.photo("coffee"))
print(len(found), "faces in the group,", len(without), "in the photograph of a cup")

# %% [markdown]
# You can also train a detector yourself. A **histogram of oriented gradients** (方向梯度直方图, HOG) counts the directions in which the brightness changes, in
# each cell of 5×5 pixels. A linear support vector machine (支持向量机, SVM) learns to separate the histograms of faces from the histograms of patches
# without a face [Dalal & Triggs 2005]. Then a window slides over the image and over smaller copies of the image. Non-maximum suppression (非极大值抑制) keeps
# the best of the windows that overlap. There are 200 patches. Half of them are held out.
#
# How many of the held-out patches does the detector classify correctly? Is this enough for whole images? The cell counts both kinds of errors for both
# detectors: faces that are missed, and boxes without a face.

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

# %% tags=["claims"]
assert counts["cascade"]["faces in a group of 4"] == 4
assert counts["HOG"]["boxes on 8 photographs without a face"] > 100
assert counts["cascade"]["boxes on 8 photographs without a face"] < 4

# %% [markdown]
# Our detector classifies nine of ten held-out patches correctly. This is not enough: an image has thousands of windows. If one window in a hundred is a
# false alarm (误报), each image has dozens of false alarms.
#
# In this test the cascade has no false alarms, but it misses the one test face at 20° and more. Our detector has a box on this face at each angle. It
# makes so many boxes that such a hit can be luck. Dalal and Triggs add the false alarms to the training set, and train again. Such samples are called
# hard negatives (困难负样本). We continue with the cascade.
#
# ## 4 Align the face
#
# Alignment makes the task of the network easier: the network does not need to learn that a turned face is the same face. A second model, a set of
# regression trees (回归树) [Kazemi & Sullivan 2014], finds five landmarks (关键点) $p_i$: the four corners of the eyes and the base of the nose. Let $q_i$ be
# the same landmarks of the mean face. The matrix $A$ rotates and scales, the vector $t$ shifts. We choose $A$ and $t$ so that the moved landmarks
# $A\,q_i+t$ are as near to $p_i$ as possible:
#
# $$\min_{A,\,t}\;\sum_{i=1}^{5}\|A\,q_i+t-p_i\|^2,\qquad A=s\begin{pmatrix}\cos\alpha&-\sin\alpha\\\sin\alpha&\cos\alpha\end{pmatrix}$$
#
# The aligned face has 150×150 pixels, and is called a chip. Turn the photograph with the slider. Which of the pictures change, and which picture stays
# the same?

# %%
photograph = data.photo("astronaut")[:, :242, 100:342]
landmarks = pipeline and pipeline.landmarks                           # None without the weights

def turn_photograph(figure, angle=20):
    drawings.draw_alignment(figure, photograph, landmarks, angle)


interact.live(turn_photograph, angle=(-40, 40, 5), figsize=(7, 2.1))

# %% [markdown]
# We give the box by hand, because the detector misses the face at 20°. The face in the box turns with the photograph, and the aligned face is upright
# at 20°. Move the slider to 40°, and look whether the landmarks are still at the eyes.
#
# ## 5 Embed the face
#
# The network is a ResNet of chapter 3b. It differs from a classifier in three points. (1) Each image is standardised (标准化) first: $(x-\mu)/\sigma$,
# with the mean and the standard deviation of this image. So a brighter lamp changes little. (2) The last feature map is flattened, and not averaged
# over all positions. In an aligned face the position of a feature is information. (3) The output is divided by its length. What is the shape of the
# output of each step for an image of 32×32 pixels? Predict, then run.

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
# The embeddings of one person should be near to each other, and the embeddings of two people should be far apart. Three losses teach this. Let $y$ be
# the person in the image.
#
# - **Softmax**: a linear layer classifies the people of the training set. After training this layer is thrown away.
# - **Triplet** (三元组): an anchor $a$, another image $p$ of the same person, an image $n$ of another person. $L=\max\big(0,\;d(a,p)-d(a,n)+m\big)$. The
#   margin (间隔) $m>0$ says how much larger the distance to another person should be. Schroff et al. [2015] use squared distances.
# - **ArcFace**: $\theta_j$ is the angle between the embedding and the weight vector of person $j$. A margin $m$ is added to the angle of the true
#   person [Deng et al. 2019]. The scale $s$ is a fixed number; a large $s$ makes the probabilities sharper:
#
# $$L=-\log\frac{e^{s\cos(\theta_y+m)}}{e^{s\cos(\theta_y+m)}+\sum_{j\ne y}e^{s\cos\theta_j}}$$
#
# Check by hand: two people, $\cos\theta_y=0.8$, $\cos\theta_j=0.6$, $s=16$. Without a margin the loss is $\log(1+e^{16(0.6-0.8)})=0.040$. With $m=0.3$:
# $\theta_y=0.644$, $\cos(0.944)=0.587$, and the loss is $\log(1+e^{16(0.6-0.587)})=0.80$. The margin is used in the loss only, and not in the answer.
# The network compares 0.8 with 0.6, so its answer is right in both cases. The margin makes the loss large, so the network continues to learn.
#
# The triplet loss of the embeddings of section 2, with $m=0.5$: the anchor $a$ has $\max(0,\;0.632-1.414+0.5)=0$, the anchor $b$ has
# $0.632-0.894+0.5=0.238$.

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
# Code and formula agree. Move the margin and the angle below. At which angles is the loss of softmax nearly 0, while the loss of ArcFace is still
# large?

# %%
interact.live(drawings.draw_margin, margin=(0.0, 1.0, 0.1), angle=(0.0, 1.4, 0.1), scale=(1, 32),
              figsize=(7, 2.4))

# %% [markdown]
# At angles a little below the one where both persons are equally near, the softmax loss is small, and the ArcFace loss is still large. The ArcFace loss
# is small only if the angle to person 1 plus the margin is smaller than the angle to person 2.
#
# ## 6 Prepare the data
#
# §6.1.2 names three steps: cleaning (数据清洗), augmentation (数据增强) and standardisation (数据标准化). The book splits the data after them. Augmentation before
# the split is wrong, as you will see. Copies may be removed before the split.
#
# **Cleaning.** We add faults to a copy of the test images: 8 images are blurred, 8 images are added a second time, 8 images get a wrong name. A blurred
# image has weak edges, so its Laplacian (拉普拉斯算子) has a small standard deviation. The Laplacian compares each pixel with its four neighbours. We know
# that there are eight blurred images; for a real data set you must choose a threshold. A copy and its original have a correlation (相关系数) of nearly 1.
# To find a wrong name, we need a trained network. Section 9 does this.

# %%
spoiled, names_given, faults = experiments.spoil(new.images, new.labels)
blurry = experiments.measure_sharpness(spoiled).argsort()[:8]         # the eight least sharp
copies = experiments.find_copies(spoiled)
blurred_found = torch.isin(blurry, faults["blurred"]).sum().item()
copies_found = torch.isin(copies[:, 1], faults["duplicate"]).sum().item()
print(f"blurred: {blurred_found} of 8; copies: {copies_found} of 8, {len(copies)} pairs reported")
shown = [*spoiled[blurry[:4]], *spoiled[copies[:2].flatten()]]
plot.gallery(shown, ["blurred"] * 4 + ["copy?"] * 4)

# %% [markdown]
# **Split before augmentation.** §6.1.2 augments first, and splits after that. What happens? Take images of noise, each with a random label of 10. There
# is nothing to learn, so the accuracy on held-out data (留出数据) must be near 10 %. We make four augmented copies of each image, before the split or after
# the split. A nearest-neighbour classifier (最近邻分类器) gives the labels.
#
# **A test set.** §6.1.2 uses a training set and a validation set (验证集) only. The validation set chooses the best model. May we report the accuracy of
# this model on the validation set? Let 200 classifiers guess at random on 50 validation images, and choose the best of them.

# %%
leaked, honest = (experiments.measure_leak(augment_first=first) for first in (True, False))
luck, truth = experiments.measure_luck()
print(f"augment, then split: {leaked:.0%}; split, then augment: {honest:.0%}")
print(f"the best of 200 coins: {luck:.0%} on validation, {truth:.0%} on test")

# %% tags=["claims"]
assert blurred_found >= 6 and copies_found == 8
assert leaked > 0.8 and honest < 0.25 and luck > 0.65 and abs(truth - 0.5) < 0.03


# %% [markdown]
# With the wrong order the accuracy is 90 %, though there is nothing to learn: most held-out images have another copy of the same original in the
# training set. This is called data leakage (数据泄漏) [Kaufman et al. 2012]. And the best of the random classifiers has 72 % on the validation images, but
# 50 % on new images. So split first, and for faces split **by person**. Keep a test set that plays no part in any choice.
#
# **Augmentation** changes the training images only, and differently in each step: mirror, rotation up to 7°, scale ±10 %, shift ±6 %.

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
# A batch (批次) holds 16 people with four images each. So the batch contains pairs of one person and pairs of two people. The head is one of the three
# losses.

# %%
from vlmbook.training import fit

heads = {"softmax": fr.SoftmaxHead, "ArcFace": fr.ArcFaceHead,
         "triplet": lambda width, people: fr.triplet_loss}
epochs = 28

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
# A system can make two kinds of errors in verification. The **false acceptance rate** (误识率, FAR) is the share of the pairs of two people that the
# system accepts. The **false rejection rate** (拒识率, FRR) is the share of the pairs of one person that the system rejects. A larger threshold raises the
# FAR and lowers the FRR. At one threshold both rates are equal. This rate is the **equal error rate** (等错误率, EER). Random guessing has an EER of 50 %.
#
# We train three networks with three seeds (随机种子). For the first network the curve shows the EER on new people after each epoch (轮次). This curve is not
# used to choose anything.

# %%
watch = lambda learner: {"eer": measure_eer(learner.network, new_faces[:, :3])}
learners, histories = zip(*(train(faces, seed=seed, evaluate=watch if seed == 0 else None)
                            for seed in range(3)))
errors = [each["eer"] for each in histories[0].evaluations]
drawings.draw_training(plt.figure(figsize=(7, 2.2)), {"ArcFace": histories[0].losses}, {"": errors})

# %% [markdown]
# Is the network better than older methods? **Eigenfaces** (特征脸) [Turk & Pentland 1991] describe a face by the principal components (主成分) of the
# training faces. **LBP histograms** [Ahonen et al. 2006] note for each pixel which of its neighbours are brighter. This gives one pattern for each
# pixel. The histogram counts how often each pattern occurs in a cell of a grid. Noise disturbs these patterns, so we smooth the images for this method.
# All methods get the same pairs of 400 images of 40 new people. The older methods see grey images. Our network sees colour, and it uses the mean of
# each image and its mirror image.
#
# Two curves show the errors at all thresholds. The **ROC** shows the true acceptance rate (TAR, $1-\text{FRR}$) for each FAR. The **DET** curve shows
# the FRR for each FAR, with logarithmic axes. A dot marks the EER.

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
records.picture("ch06a", figure);

# %% tags=["claims"]
assert max(rates["own network"]) < 0.06 and sum(rates["own network"]) / 3 < 0.05
assert max(rates["own network"]) < 0.5 * min(rates["eigenfaces"] + rates["LBP"])


# %% [markdown]
# The network makes far fewer errors than both older methods, on people whom it has never seen. We did not measure how much of the difference comes from
# the colour.
#
# ## 8 Why our network is not enough, and what is
#
# How many people does the network need in the training set? We train it on fewer people, with the same number of steps, and two seeds each.

# %%
def train_on(count, seed):                   # as many steps whatever the number of people
    batches = [-(-n // 16) for n in (people, count)]
    return train(faces[:count], seed=seed, epochs=epochs * batches[0] // batches[1])[0]


by_people = {count: [measure_eer(train_on(count, seed).network) for seed in range(2)]
             for count in (8, 28)}
by_people[people] = rates["own network"]
drawings.draw_identities(plt.figure(figsize=(5, 2.4)), by_people)
means = [sum(values) / len(values) for values in by_people.values()]

# %% [markdown]
# With 100 people, and so with more images, the error is much smaller than with 8. The number of steps is the same, but with 8 people each step sees
# half as many images. Exercise 5 keeps the number of images fixed. Real faces differ in many more ways than drawn faces, so a system for real faces
# needs many more people. Systems in use have learned from thousands or millions of people. Most of these photographs were collected from the web, and
# nobody asked the people. Section 13 returns to this.
#
# The network of the library dlib (CC0) has learned from about 3 million photographs of 7,485 people [King 2017]. Our package can read its weights,
# after `pip install "vlmbook[pretrained]"`. It is a ResNet with 29 convolutions.
#
# Chapter 3b has three kinds of shortcuts (捷径连接). Which kind does this network use where the size changes? And how far is the embedding of the
# astronaut's face from the embeddings of changed photographs: dark, turned, noisy, or like a print: pale, soft and tilted? The last row shows 40 small
# grey faces of other people. They were enlarged and not aligned.

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

# %% tags=["claims"]
assert means[0] > 1.5 * means[-1]
if pipeline:
    assert max(near.values()) < 0.6 < far_away.min()

# %% [markdown]
# The shortcut has no parameters. It averages 2×2 pixels, and fills the 32 new channels with zeros. This is option A of chapter 3b. The threshold of
# dlib is 0.6. All changed photographs of the astronaut have a smaller distance, and all faces of the last row have a larger one. A part of the distance
# of the last row may come from the quality of its images. One face is not a measurement of the error rate. The full run of section 15 measures the
# errors on 20 real people. Look at *printed*, too: the system accepts a computed imitation of a print. Section 13 returns to this.
#
# ## 9 Going deeper: tune it
#
# Which loss is best? We train all three heads with the same batches and the same number of steps. The softmax head is also a classifier of the people
# in the training set. What does this classifier answer for a **new** person? We measure its largest probability.

# %%
by_head = {"ArcFace": rates["own network"]}
for name in ("softmax", "triplet"):
    trained = [train(faces, name, seed=seed)[0] for seed in range(2)]
    by_head[name] = [measure_eer(learner.network) for learner in trained]
    if name == "softmax":
        known = trained[0].head.logits(trained[0].network(new.images)).softmax(1).amax(1).detach()
drawings.draw_seeds(plt.figure(figsize=(5, 1.6)).subplots(), by_head)
print(f"softmax: a new person is one of the known ones, {known.mean():.0%} sure on average")


# %% [markdown]
# The results of the three losses overlap, so we cannot say which loss is best here. (On millions of faces a margin helps [Deng et al. 2019].) But the
# softmax *classifier* can only give the name of a known person. Its mean largest probability for a new person is printed above; a guess among 100
# people would have 1 %. We did not test a threshold on this probability.
#
# How do we choose the learning rate (学习率) and the margin? The test people must not be used for this choice. **Cross-validation** (交叉验证) splits the
# training people into three folds (折). Two folds train the network, the third fold measures it. This is done three times, once for each fold.
# `GroupKFold` puts all images of a person into one fold.

# %%
def measure_setting(x, held, lr, margin):
    return measure_eer(train(x, lr=lr, margin=margin, epochs=epochs // 3)[0].network, held)


tried = ((0.003, 0.3), (0.01, 0.3), (0.01, 0.0))
tuned = experiments.cross_validate(measure_setting, faces, tried)
by_setting = {f"lr {lr}, margin {m}": values for (lr, m), values in tuned.items()}
drawings.draw_seeds(plt.figure(figsize=(5, 2)).subplots(), by_setting, "EER of each fold, %");

# %% [markdown]
# The folds of one setting differ about as much as the settings do. Three folds of 33 people with one seed each are too few to choose between similar
# settings. The other sections use a learning rate of 0.01 and a margin of 0.3. (These trainings have fewer steps and fewer people, so their EER is
# higher than in section 7.)
#
# **Cleaning, continued.** The trained network can find the 8 wrong names of section 6. An image is suspicious if its mean distance to the images of
# another person is smaller than to the images with its own name.

# %%
suspicion = experiments.suspect_labels(fr.embed(spoiled, learners[0].network), names_given)
reported = (suspicion > 0).nonzero()[:, 0]
wrong_names = torch.isin(reported, faults["mislabelled"]).sum().item()
print(f"wrong names: {wrong_names} of 8 found, {len(reported)} images reported")

# %% tags=["claims"]
assert known.mean() > 0.1 and max(max(values) for values in by_head.values()) < 0.08
assert wrong_names >= 6 and len(reported) < 100

# %% [markdown]
# The network reports nearly all wrong names, and some images with a right name. Somebody has to look at the reported images, and not at all of them.
#
# ## 10 See inside
#
# Which parts of the image does the network use? We cover a square of the image, and measure how far the embedding moves. A dark position means that the
# embedding moves far when this position is covered.

# %%
drawings.draw_occlusion(plt.figure(figsize=(7, 2.1)), learners[0].network, new_faces[:7, 1])

# %% [markdown]
# In these seven images the darkest positions are at the edge of the hair, and near the chin and the neck. The eyes are brighter than these positions.
# Each map has its own scale, so two maps cannot be compared. A grey square changes dark hair more than skin, so this test does not show the cause.
#
# ## 11 Measure the system
#
# A rate needs a confidence interval (置信区间). The 79,800 pairs are not independent (独立): each person is in 3,945 of them. So the bootstrap (自助法) draws
# **people** with replacement, and not pairs. The EER is also not what an application needs. The owner of a door wants few false acceptances. So the
# owner chooses a FAR, and asks for the TAR at this FAR.
#
# The data set LFW (Labeled Faces in the Wild) [Huang et al. 2007] has its own protocol. There are ten folds of pairs. Half of the pairs show one
# person. No person is in two folds. For each fold the threshold is chosen on the other nine folds. The result is the mean accuracy with its standard
# error (标准误).

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


# %% [markdown]
# At a FAR of 0.1 the TAR is nearly 1. At a FAR of 0.001 the TAR of the same system is much lower. So a TAR, or a recall, without its FAR says nothing.
#
# Accuracy (准确率) is the share of all pairs with a right answer. Precision (精确率) is the share of same pairs among the accepted pairs. Recall (召回率) is the
# share of accepted pairs among the same pairs, so recall is the TAR. F1 combines two of the three (exercise 2). All four depend on the threshold.
# Accuracy, precision and F1 also depend on the share of pairs that show one person. First raise the threshold until the recall is 1. What happens to
# the FAR? Then set the share of same pairs to 0.02, as at a door where most visitors are strangers. Which measures rise, which measures fall, and which
# measures stay?

# %%
def move_threshold(figure, threshold=0.9, same_share=0.5):
    drawings.draw_threshold(figure, pairs.distances, pairs.same, threshold, same_share)


interact.live(move_threshold, threshold=(0.1, 1.9, 0.1), same_share=[0.5, 0.1, 0.02],
              figsize=(7.5, 2.4))

# %% [markdown]
# Where the recall is 1, the FAR is far above 0: the last same pairs are accepted only together with many different pairs. With few same pairs,
# precision and F1 fall, because most of the accepted pairs are then pairs of two people. The accuracy then says mostly how many different pairs are
# rejected. TAR and FAR stay the same. They do not depend on the share of the pairs, so they are the rates to report.
#
# **Identification with strangers** is called open-set identification (开集识别). Twenty people are enrolled (登记) with two images each. Their other images
# should get the right name. The images of the twenty other people should get no name.
#
# **Errors by group**: does the system make more errors for some people than for others?

# %%
embeddings, labels = experiments.embed_faces(learners[0].network, new_faces)
position = torch.arange(400) % 10
enrolled = (labels < 20) & (position < 2)
open_set = fr.open_set_identification(embeddings[enrolled], labels[enrolled],
                                      embeddings[~enrolled], labels[~enrolled])
by_group = experiments.measure_groups(pairs, new)
drawings.draw_open_set(plt.figure(figsize=(7, 2.3)), open_set, by_group)

# %% tags=["claims"]
assert low < eer < high and tars[0.1] > tars[0.01] > tars[0.001] and accuracy > 0.9
assert all(group_low <= rate <= group_high for rate, group_low, group_high in by_group.values())

# %% [markdown]
# Each interval is several percentage points wide, so 40 people cannot show a small difference. This does not mean that there is no difference. Both
# groups of skin have higher rates than all pairs together. There both people of a pair have similar skin, which may make the pairs harder. NIST has
# tested many systems on millions of people. For many systems false acceptances were 10 to 100 times as frequent for some groups as for others [Grother
# et al. 2019]. Chapter 7b continues this subject.
#
# ## 12 Deploy it
#
# PyTorch is large, and many devices cannot run it. **ONNX** is a file format for networks. The small library ONNX Runtime runs such files.
# **Quantisation** (量化) to int8 stores each weight in 8 bits, with one scale for each channel. The activations (激活值) get 8 bits too. Some training
# images show how large the activations are. This step is called calibration (校准).

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

# %% tags=["claims"]
assert costs["ONNX"]["difference"] < 1e-4
assert abs(costs["int8"]["EER"] - costs["ONNX"]["EER"]) < 0.02

# %% [markdown]
# The number after ± is the largest difference between one number of the embedding and the same number from PyTorch. ONNX gives the same numbers up to
# rounding. The size of PyTorch counts the weights only, the other sizes are whole files. int8 makes the file about three times smaller, and changes the
# EER very little. (These rates use each image alone. The rates above use the mean of each image and its mirror image.)
#
# ### Your own photographs
#
# Type a name, choose photographs with one face each, and press *enrol*. Then choose another photograph and press *verify*. *Remove* deletes the person.
# The slider sets the threshold. The application keeps no photographs. It keeps the embeddings in memory until the kernel stops. Enrol only people who
# have agreed. The astronaut is enrolled as an example, and two changed photographs are verified. The full run of section 15 measures the ROC of the
# pretrained network on people 21 to 40 of ORL. Where that run is published, the application shows this ROC. Until then it shows the distances only,
# because the error rates of our own network do not hold for the pretrained one. Without the pretrained weights the application uses our own network,
# and its ROC on drawn people.

# %%
own_roc = fr.roc_curve(pairs.distances, pairs.same)
application.make_desk(pipeline, learners[0].network, own_roc, photograph)

# %% [markdown]
# The command line offers the same: `vlmbook faces enroll Anna anna1.jpg anna2.jpg`, `vlmbook faces verify Anna who.jpg`, `vlmbook faces identify
# group.jpg` and `vlmbook faces remove Anna`. Its gallery is a file with names and embeddings. The file holds no photographs.
#
# ## 13 Use it responsibly
#
# **Large galleries.** Identification compares a face with $N$ people. If these comparisons are independent, a stranger gets some name with the
# probability
#
# $$1-(1-\text{FAR})^N$$
#
# How large can a gallery be at a FAR of 1 %? The dots are measured with galleries of our test people. All other test people are the strangers.

# %%
far = 0.01
_, strict = fr.tar_at_far(pairs.distances, pairs.same, far)
people_enrolled = (1, 2, 5, 10, 20, 35)
gallery_errors = experiments.measure_gallery_errors(embeddings, labels, strict, people_enrolled)
drawings.draw_gallery_growth(plt.figure(figsize=(6, 2.4)), far, gallery_errors)

# %% tags=["claims"]
assert gallery_errors[35] > 0.2 > 5 * gallery_errors[1]

# %% [markdown]
# With a FAR of 1 %, more than every fifth stranger gets a name in a gallery of 35 people. If only one stranger in a hundred may get a name in a
# gallery of 100,000 people, the FAR of one comparison must be one in ten million. So a face can unlock a phone, with $N=1$. But a search for a face in
# a whole city gives many false names. (The dots lie near the curve, although the comparisons with one stranger are not independent. At 35 people only
# five strangers are left in each draw.)
#
# - **Consent** (同意). Nobody can change a face like a password. In China faces are sensitive personal information (敏感个人信息). 《个人信息保护法》, articles 28 to
#   30, demands a separate consent. Since June 2025 《人脸识别技术应用安全管理办法》 also demands that people who do not agree are offered another way. Ask first. Keep
#   embeddings only, and no photographs. Delete a person who asks for it: `remove` does this.
# - **Training data.** About half of the photographs behind the pretrained weights come from the data sets VGG-Face and FaceScrub. They show actors and
#   other public people, who were not asked. The error rates for other groups of people are not known. Measure them before you use the system.
# - **Spoofing** (欺骗攻击). The system accepted a computed imitation of a printed photograph in section 8. A real print was not tested. The embedding
#   measures who is in the image. It does not measure whether a living person is there. A lock needs another check, such as a depth camera, or a
#   movement on request (活体检测). This chapter does not solve the problem.
# - **Do not build**: systems that search for people in public places; systems that guess feelings, character or origin from a face; systems that decide
#   about people, and nobody is responsible; any system for people who have not agreed.
#
# ## 14 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("ch06a.1")` helps in steps, `solution("ch06a.1")` shows one answer.
#
# **1 · Predict.** 20 people have ten images each. How many pairs of images show one person, and how many show two? A pair (a, b) is the same pair as
# (b, a).

# %%
counts_of_pairs = ...                        # (same, different)
check("ch06a.1", counts_of_pairs)


# %% [markdown]
# **2 · Derive.** §6.1.2 says that F1 combines accuracy and recall. Write F1 from the counts of true positives, false positives, false negatives and
# true negatives.

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
# **4 · Choose.** Of the distances `(N,)` return the largest one that, as a threshold, has a FAR of at most `far`. `same` `(N,)` tells which pairs show
# one person. A pair is accepted if its distance is at most the threshold. If no distance is allowed, return a number below all of them.

# %%
def choose_threshold(distances, same, far):            # -> float
    ...


check("ch06a.4", choose_threshold)

# %% [markdown]
# **5 · Train, change, measure.** You may collect 144 images. Are 48 people with three images each better, or 12 people with twelve? Train on
# `faces[:48, :3]` and on `faces[:12]`, with as many steps, and give the EER of the new people for both.

# %%
trade = ...                                  # {"more people": EER, "more images": EER}
check("ch06a.5", trade)


# %% [markdown]
# ## 15 At full size
#
# With `VLMBOOK_PROFILE=full` a second network learns from photographs of real people, if you have them. No photograph is downloaded.
#
# - **ORL**: 40 people with ten photographs each, in the folder `orl_faces` of `VLMBOOK_DATA`. scikit-learn's data set Olivetti shows the same
#   photographs, and is used if ORL is missing. Our network and eigenfaces learn from people 1 to 20. All methods are compared on people 21 to 40, on
#   all 19,900 pairs.
# - **LFW**: the 6,000 official pairs with the ten folds of section 11, if scikit-learn has downloaded the data set before. Reading takes 3.2 GB of
#   memory.
#
# Twenty people are few, so the training uses each photograph four times: two crops of the box and two aligned chips, each narrow and wide. The
# embedding of a new photograph is the mean over its four crops and their mirror images. The training set also gets 60 people who do not exist: the
# upper half of the face of one person, and the lower half of the face of another. LBP histograms and eigenfaces see the whole photograph,
# which is the best or nearly the best choice for them on people 1 to 20. The pretrained network sees the aligned chip.

# %% tags=["record"]
def train_on_photographs(x, seed):           # as many steps whatever the number of people
    mixed = real_faces.mix_people(x, 3 * len(x), seed=seed)
    return train(mixed, seed=seed, epochs=350 // -(-len(mixed) // 16))[0].network


photographs = real_faces.measure(train_on_photographs, pipeline)      # {} in the quick profile
records.record("ch06a", seed=[0, 1, 2], eer=rates, eer_by_people=by_people, eer_by_head=by_head,
               eer_by_setting=by_setting, eer_interval=[low, high], tar_at_far=tars,
               ten_folds=[accuracy, error], eer_by_group=by_group, deployed=costs,
               detections=counts, leak=[leaked, honest], gallery=gallery_errors, **photographs)
records.show("ch06a", "full")
full_run = records.load("ch06a", "full")
if full_run and "orl_eer" in full_run["measurements"]:
    on_photographs = full_run["measurements"]
    drawings.draw_orl(plt.figure(figsize=(6.5, 2.8)), on_photographs["orl_eer_by_people"],
                      on_photographs["orl_eer"])

# %% [markdown]
# Each point is one training of our own network, with another seed. With more people in the training set the EER falls: only the number of people changes,
# the number of steps stays the same. With 20 people the EER is far below that of both older methods, and far above that of the pretrained network. The
# pretrained network learned from millions of photographs of thousands of people. It is also larger, so this comparison alone does not isolate the cause.
#
# ## 16 Book check
#
# - **W29 · Faster R-CNN** is named in §6.1.2 as a model for face recognition. But Faster R-CNN is a detector. It gives boxes, labels and scores, and no
#   embedding. All people have the same label *face*. So it can do stage 1 only.
# - **W30 · "accuracy above 90 % on LFW"** (§6.1.3). LFW consists of pairs, and a detector gives no score for a pair. Published accuracies with the ten
#   folds of section 11 are 97.35 % (DeepFace), 99.63 % (FaceNet) and 99.83 % (ArcFace). Humans reach 97.53 % on cropped faces [Kumar et al. 2009]. So
#   90 % would be poor.
# - **W31 · F1** combines *precision* and recall, not accuracy and recall (§6.1.2, §6.1.3). Exercise 2. The book never defines precision.
# - **M05 · Augment, then split** (§6.1.2): section 6 measures the leak.
# - **M06 · No test set, no split by person** (§6.1.2): section 6 measures the luck.
# - **M09 · Accuracy and recall** are defined in §6.1.2 in such a way that both are the same number when each image is a face. For pairs use FAR and
#   TAR, as in section 11.
# - **M10 · "Recall improves significantly"** (§6.1.3). A larger threshold always improves the recall. Report the TAR at a fixed FAR. The slider of
#   section 11 shows why.
# - **M11 · Cross-entropy and Adam** (§6.1.2) train a classifier of known people. Section 9 shows its answers for new people. Only the embedding can be
#   used for new people.
# - **M12 · Verification and identification** are not distinguished in §6.1, and detection and alignment are missing. See section 2, and the curve of
#   section 13.
# - **M13 · Results without data, code or numbers** (§6.1). The record of this chapter holds seeds, numbers and intervals, and the notebook is the code.
# - **M38 · Privacy is named without a technique** (§6.1, §7.1). Section 13; differential privacy (差分隐私) follows in chapter 7b.
# - **I25 · 标准化 is explained by 归一化** (§6.1.2). Standardisation is $(x-\mu)/\sigma$, normalisation to a range is $(x-\min)/(\max-\min)$. Statistics over
#   a data set come from the training part only. Ours come from each image alone, so nothing can leak.
# - **I35 · Names**: LFW, U-Net, Open Images, VGG, Pascal VOC.
#
# ## 17 What we learned
#
# - A face recognition system detects, aligns, embeds and matches. The embedding also works for people whom the network has never seen.
# - The network learns a distance. Here three losses gave about the same EER. The number of people in the training set mattered more.
# - The split by person comes before augmentation and training. The test set plays no part in any choice.
# - An error rate needs a FAR and an interval over people. Accuracy or recall alone says nothing.
# - False names become more probable as the gallery grows, an imitation of a print is accepted, and people have to agree before their faces are used.
#
# **References.** F. Schroff, D. Kalenichenko, J. Philbin, *FaceNet: a unified embedding for face recognition and clustering*, CVPR 2015,
# arXiv:1503.03832 · J. Deng, J. Guo, N. Xue, S. Zafeiriou, *ArcFace: additive angular margin loss for deep face recognition*, CVPR 2019,
# arXiv:1801.07698 · Y. Taigman, M. Yang, M. Ranzato, L. Wolf, *DeepFace: closing the gap to human-level performance in face verification*, CVPR 2014 ·
# G. B. Huang, M. Ramesh, T. Berg, E. Learned-Miller, *Labeled Faces in the Wild*, University of Massachusetts, Amherst, technical report 07-49, 2007 ·
# N. Kumar, A. C. Berg, P. N. Belhumeur, S. K. Nayar, *Attribute and simile classifiers for face verification*, ICCV 2009 · V. Kazemi, J. Sullivan, *One
# millisecond face alignment with an ensemble of regression trees*, CVPR 2014 · S. Liao, X. Zhu, Z. Lei, L. Zhang, S. Z. Li, *Learning multi-scale block
# local binary patterns for face recognition*, ICB 2007 · P. Viola, M. Jones, *Rapid object detection using a boosted cascade of simple features*, CVPR
# 2001 · F. Samaria, A. Harter, *Parameterisation of a stochastic model for human face identification*, WACV 1994 (the faces of ORL) · N. Dalal, B.
# Triggs, *Histograms of oriented gradients for human detection*, CVPR 2005 · M. Turk, A. Pentland, *Eigenfaces for recognition*, Journal of Cognitive
# Neuroscience 3(1), 1991 · T. Ahonen, A. Hadid, M. Pietikäinen, *Face description with local binary patterns*, IEEE TPAMI 28(12), 2006 · D. King, *High
# quality face recognition with deep metric learning*, 2017, blog.dlib.net · P. Grother, M. Ngan, K. Hanaoka, *Face recognition vendor test part 3:
# demographic effects*, NISTIR 8280, 2019 · S. Kaufman, S. Rosset, C. Perlich, O. Stitelman, *Leakage in data mining*, ACM TKDD 6(4), 2012.
