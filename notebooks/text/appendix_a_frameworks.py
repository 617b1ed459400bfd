# %% [markdown]
# # Appendix A · Frameworks (常用框架)
#
# *Book: §App. A*
#
# **The book builds one small network three times: with TensorFlow, with PyTorch and with Keras. Do its programs run? And if the three frameworks get the
# same network, the same digits and the same start, do they give the same result?**
#
# After this appendix you can
#
# - compute the size of each layer before you run a network, and so find the usual fault of a copied program,
# - explain how a framework computes gradients, since you have written it yourself in 40 lines,
# - write one network with its training in PyTorch, TensorFlow and Keras, and carry weights from one to the other,
# - compare frameworks fairly, and find out where a difference comes from,
# - measure an accuracy in evaluation mode, on images that took no part in any choice.
#
# You need these terms: convolution, pooling, softmax and cross-entropy ([chapter 3a](ch03a_convolution_and_pooling.ipynb)), parameter and multiply-add
# ([chapter 7a](ch07a_efficiency.ipynb)).
#
# The core path takes 40 minutes: sections 1 to 7. The other sections go deeper. TensorFlow and Keras are optional. Where they are not installed, each of
# their cells shows the result that was recorded on our machine, and says what to install.

# %% tags=["record"]
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vlmbook import data, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.appendix_a import alone, elsewhere, experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)
plot.use_style()
records.published("appendix_a")
published = records.RESULTS / "appendix_a.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)]);

print("installed here:", elsewhere.versions())
for module in elsewhere.find_missing(("tensorflow", "keras")):
    print(f"{module} is not installed: {elsewhere.INSTALL}")

# %% [markdown]
# *The picture: four programs train the same network on the same batches. Left: the accuracy on 360 test images, a dot for each seed, and the mean with its
# 95 % interval. Middle: the time in one thread. Right: the largest memory of the process.*
#
# A **framework** (框架) is a library that holds tensors, layers, gradients and optimizers. The cell above says which ones are installed here. Each cell of
# TensorFlow or Keras below defines a function. `elsewhere.run` sends its code to a Python process of its own, and brings back what it returns. So no
# framework disturbs the other, and memory can be measured for each. You can change such a function as any other.
#
# ## 1 The data, looked at
#
# The book takes MNIST, which has to be downloaded. Here are 1,797 scanned digits of 8×8 pixels that come with scikit-learn [Alpaydin & Kaynak 1998],
# enlarged to MNIST's 28×28: 1,437 for training, 360 for the test. TensorFlow and Keras want the channels last, PyTorch wants them before the height.

# %%
arrays = experiments.load_arrays()
test_x = torch.from_numpy(arrays["test_images"]).permute(0, 3, 1, 2)
test_y = torch.from_numpy(arrays["test_labels"])
print("channels last: ", arrays["images"].shape, arrays["images"].dtype)
print("channels first:", tuple(torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2).shape))
drawings.draw_layouts(
    plt.figure(figsize=(5.5, 0.95)), arrays["images"][:8], arrays["labels"][:8]
)

# %% [markdown]
# ## 2 The network and its sizes
#
# The book's network has one convolution with 32 filters, one max pooling, and two linear layers. A convolution of size $k$ with padding $p$ makes
# $n+2p-k+1$ out of $n$ pixels. Pooling by 2 halves this number, rounded down. **Compute by hand:** which sizes does an image of 28×28 have after the
# convolution ($k=3$, $p=0$) and after the pooling? How many numbers go into the first linear layer, and how many parameters (参数) does the network have?

# %%
side = 28 - 3 + 1
flattened = 32 * (side // 2) ** 2
by_hand = {
    "convolution": 32 * 1 * 3 * 3 + 32,
    "first linear layer": flattened * 128 + 128,
    "second linear layer": 128 * 10 + 10,
}
print(f"28 -> {side} -> {side // 2}; flattened {flattened:,}")
print(by_hand, f"in all {sum(by_hand.values()):,}")


# %% [markdown]
# 28 becomes 26, and then 13. $32\cdot13\cdot13=5{,}408$ numbers go into the first linear layer, and 99.8 % of all 693,962 parameters stand there. The
# book's program in PyTorch announces $32\cdot7\cdot7=1{,}568$ inputs. **Explore:** the boxes are the layers, with shapes below and parameters in orange.
# With which padding and how many stages of convolution and pooling do the 1,568 inputs fit for images of 28×28?

# %%
def explore_sizes(figure, side=28, kernel=3, padding=0, stages=1):
    drawings.draw_network(figure, side, kernel, padding, stages)


interact.live(
    explore_sizes,
    side=(16, 32),
    kernel=[3, 5],
    padding=(0, 2),
    stages=(1, 2),
    figsize=(7, 2.5),
)


# %% [markdown]
# With padding 1 and *two* stages, 28 becomes 14 and then 7. So the number 7·7 belongs to another network. Here is the book's network in PyTorch, with its
# layers and its order of calls (in our words). What happens with a batch of two digits? The second line tries all other sizes.

# %%
class AsPrinted(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(32 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, 10)
        self.dropout = nn.Dropout(p=0.5)

    def forward(self, x):
        x = self.dropout(self.pool(F.relu(self.conv1(x))))
        return self.fc2(self.fc1(x.view(x.size(0), -1)))


def fails(size):
    try:
        AsPrinted()(torch.zeros(2, 1, size, size))
    except RuntimeError as error:
        return str(error)


printed_says = fails(28)
running_sizes = [size for size in range(8, 41) if fails(size) is None]
print("28×28:", printed_says, "\nsizes that run:", running_sizes)

# %% [markdown]
# The program stops at its first batch (W20): 5,408 numbers meet a layer for 1,568. It would run for images of 16×16 or 17×17 pixels only. There is a
# second fault that raises no error (W22): no activation stands between `fc1` and `fc2`. Two linear maps are one linear map:
#
# $$W_2(W_1x+b_1)+b_2=(W_2W_1)x+(W_2b_1+b_2)$$
#
# The cell folds the two layers into one, and compares the outputs, without and with a ReLU in between.

# %%
runtime.seed_everything(0)
net = AsPrinted()
folded = nn.Linear(1568, 10)
with torch.no_grad():
    folded.weight.copy_(net.fc2.weight @ net.fc1.weight)
    folded.bias.copy_(net.fc2.weight @ net.fc1.bias + net.fc2.bias)
    features = torch.rand(100, 1568)
    gaps = {
        "as printed": (net.fc2(net.fc1(features)) - folded(features)).abs().max().item(),
        "with ReLU": (net.fc2(F.relu(net.fc1(features))) - folded(features)).abs().max().item(),
    }
print({name: f"{gap:.1e}" for name, gap in gaps.items()})
printed_count = sum(p.numel() for p in net.parameters())
print(f"parameters as printed {printed_count:,}, of the one layer {1568 * 10 + 10:,}")

# %% tags=["claims"]
assert sum(by_hand.values()) == 693_962 == experiments.count_parameters()
assert printed_says and "5408" in printed_says and "1568" in printed_says
assert running_sizes == [16, 17] and printed_count == 202_442
assert gaps["as printed"] < 1e-5 < 0.01 < gaps["with ReLU"]
assert ("flatten", (1568,), 0) in experiments.list_sizes(28, padding=1, stages=2)


# %% [markdown]
# ## 3 The idea of a framework: a graph that knows its gradients
#
# All three frameworks do the same thing. While numbers are computed, they note *how*: this note is the **computational graph** (计算图). Then the chain rule
# (链式法则) gives the gradient (梯度) of the result with respect to every number in it. This is called **automatic differentiation** (自动微分) [Baydin et al.
# 2018]. Each operation has to know only its own slopes: $\partial(a+b)/\partial a=1$, $\partial(ab)/\partial a=b$. With the result $L$ and the nodes $c$
# that a node $x$ goes into,
#
# $$\frac{\partial L}{\partial x}=\sum_{c}\frac{\partial L}{\partial c}\cdot\frac{\partial c}{\partial x}$$
#
# **Compute by hand:** $L=x\cdot y+x$ with $x=2$, $y=3$. What are the gradients of $x$ and of $y$? Here is the whole framework. First, numbers that note
# how they were made:

# %%
class Node:
    """A number that notes from which numbers it was computed, and its slope for each of them."""

    def __init__(self, value, name="", parents=(), slopes=()):
        self.value, self.grad, self.name = value, 0.0, name
        self.parents, self.slopes = parents, slopes

    def __add__(self, other):
        return Node(self.value + other.value, "+", (self, other), (1.0, 1.0))

    def __mul__(self, other):
        return Node(self.value * other.value, "×", (self, other), (other.value, self.value))

    def relu(self):
        return Node(max(self.value, 0.0), "ReLU", (self,), (float(self.value > 0),))

    def exp(self):
        value = np.exp(self.value)
        return Node(value, "exp", (self,), (value,))

    def log(self):
        return Node(np.log(self.value), "log", (self,), (1 / self.value,))


# %% [markdown]
# Then the way back. A node may be used twice, so all nodes that use it must be finished before it hands its gradient on. A sorted list of nodes takes care
# of this: parents before children, read from the end.

# %%
def sort_nodes(result):
    """The last node -> all nodes of its graph, each after its parents."""
    found = []

    def visit(node):
        if node not in found:
            for parent in node.parents:
                visit(parent)
            found.append(node)

    visit(result)
    return found


def backward(result):
    nodes = sort_nodes(result)
    for node in nodes:
        node.grad = 0.0
    result.grad = 1.0
    for node in reversed(nodes):
        for parent, slope in zip(node.parents, node.slopes):
            parent.grad += node.grad * slope  # += : a node may have several children


# %%
x, y = Node(2.0, "x"), Node(3.0, "y")
L = x * y + x
backward(L)
print(f"L = {L.value}, dL/dx = {x.grad}, dL/dy = {y.grad}")
drawings.draw_graph(plt.figure(figsize=(4.2, 2.3)), L)


# %% [markdown]
# $x$ goes into two nodes, and both hand a gradient back: $3+1=4$. $y$ gets $2$. Blue are the values, computed from left to right. Orange are the
# gradients, computed from right to left. This is **backpropagation** (反向传播). Is it the same as in PyTorch? The next function is a network of two inputs,
# three hidden units and two classes with its cross-entropy. It uses only `+`, `*`, `relu`, `exp` and `log`. PyTorch's tensors have methods with the same
# names, so the *same function* runs on both.

# %%
def small_loss(v):
    """15 numbers -> cross-entropy for class 0: 2 inputs, 3 hidden units, 2 classes."""
    a, b = v[0], v[1]
    hidden = [(v[2 + 2 * n] * a + v[3 + 2 * n] * b).relu() for n in range(3)]
    logits = [
        v[8 + 3 * k] * hidden[0] + v[9 + 3 * k] * hidden[1] + v[10 + 3 * k] * hidden[2]
        for k in range(2)
    ]
    return (logits[0].exp() + logits[1].exp()).log() + logits[0] * v[14]  # v[14] is −1


numbers = [*torch.randn(14, generator=torch.Generator().manual_seed(1)).double().tolist(), -1.0]
ours = [Node(number) for number in numbers]
our_loss = small_loss(ours)
backward(our_loss)
theirs = [torch.tensor(n, dtype=torch.float64, requires_grad=True) for n in numbers]
their_loss = small_loss(theirs)
their_loss.backward()
most = max(abs(node.grad - leaf.grad.item()) for node, leaf in zip(ours, theirs))
print(f"loss {our_loss.value:.6f} and {their_loss.item():.6f}, gradients differ by {most:.1e}")
operations = [node.name for node in reversed(sort_nodes(our_loss)) if node.parents]
their_operations = experiments.list_functions(their_loss)
print(f"our graph:       {len(operations)} operations, {operations[:5]} …")
print(f"PyTorch's graph: {len(their_operations)} operations, {their_operations[:5]} …")


# %% [markdown]
# **Explore** one neuron with the loss $L=(\mathrm{ReLU}(w\cdot x+b)\cdot v+m)^2$, written as a product. Move $w$ below $-0.5$. What happens to the
# gradients of $w$, $x$ and $b$?

# %%
def explore_neuron(figure, w=1.0, b=0.5, v=1.5):
    x = Node(1.0, "x")
    m = Node(-1.0, "m")
    d = (Node(w, "w") * x + Node(b, "b")).relu() * Node(v, "v") + m
    result = d * d
    backward(result)
    drawings.draw_graph(figure, result)


interact.live(
    explore_neuron,
    w=(-2.0, 2.0, 0.5),
    b=(-1.0, 1.0, 0.5),
    v=(-2.0, 2.0, 0.5),
    figsize=(7, 2.6),
)


# %% [markdown]
# The sum becomes negative, ReLU gives 0, and its slope is 0. So no gradient reaches $w$, $x$ and $b$: the neuron learns nothing from this image. The last
# two nodes show the second case of a sum: $d$ goes into $d\cdot d$ twice.
#
# A graph is *dynamic* (动态) if it is made anew in each run by ordinary Python, as here and in PyTorch. It may depend on the numbers:

# %%
def double_until(x, limit=10.0):
    while x.value < limit:
        x = x * Node(2.0, "2")
    return x


node_counts = {start: len(sort_nodes(double_until(Node(start)))) for start in (1.0, 3.0, 12.0)}
print("nodes of the graph, by the number it starts from:", node_counts)

# %% tags=["claims"]
assert (L.value, x.grad, y.grad) == (8.0, 4.0, 2.0)
assert most < 1e-12 and abs(our_loss.value - their_loss.item()) < 1e-12
assert node_counts == {1.0: 9, 3.0: 5, 12.0: 1}
assert len(operations) == len(their_operations)


# %% [markdown]
# TensorFlow 1 wanted the whole graph *before* the first number. The book praises these graphs, but since 2019 they are not the default any more (I43):
# TensorFlow 2 computes at once (**eager execution**, 即时执行). A graph is made by `tf.function`. It runs the Python code once for each shape of input and
# notes the operations: this is called **tracing** (追踪). Here the same loop in TensorFlow. How often does the line with `traced.append` run in four calls?

# %%
def try_graphs():
    import tensorflow as tf

    traced = []

    @tf.function
    def double(x):
        traced.append(str(x.shape))  # Python: runs while the graph is made
        while tf.reduce_sum(x) < 10.0:
            x = 2.0 * x
        return x

    results = [float(double(tf.constant([start]))[0]) for start in (1.0, 3.0, 12.0)]
    double(tf.constant([1.0, 2.0]))  # another shape
    graph = double.get_concrete_function(tf.constant([1.0])).graph
    kinds = sorted({operation.type for operation in graph.get_operations()})
    found = {"eager": tf.executing_eagerly(), "results": results, "traced for": traced}
    return found | {"graph": type(graph).__name__, "operations": kinds}


graphs = elsewhere.run(try_graphs, needs=("tensorflow",))
for name, value in graphs.items():
    print(f"{name:11} {value}")

# %% [markdown]
# It runs twice in four calls: once for one number, once for two. The three calls with one number share a graph, although they need different numbers of
# steps: the loop itself is an operation of the graph (`While` or `StatelessWhile`). A `print` in such a function therefore appears once and not in each
# call, which surprises nearly everyone.

# %% tags=["claims"]
assert graphs["eager"] and graphs["results"] == [16.0, 12.0, 12.0]
assert graphs["traced for"] == ["(1,)", "(2,)"] and graphs["graph"] == "FuncGraph"
assert any("While" in kind for kind in graphs["operations"])


# %% [markdown]
# ## 4 PyTorch: mended
#
# Three functions for each framework: make the network, train it, predict. In all frameworks `order` holds the numbers of the images of each step, so all
# see the same batches. The loss is the cross-entropy of *logits* (未归一化得分): the network ends without a softmax. `train` returns the mean loss of all steps
# so far.

# %%
def torch_model(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(32 * 13 * 13, 128), nn.ReLU(), nn.Linear(128, 10),
    )


def torch_train(model, images, labels, order, epsilon=1e-8):
    x, y = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=epsilon)
    losses = []
    model.train()
    for chosen in order:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[chosen]), y[chosen])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [sum(losses[:n]) / n for n in range(1, len(losses) + 1)]


# %%
def torch_predict(model, images):
    model.eval()
    with torch.inference_mode():
        return model(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()


start_logits = torch_predict(torch_model(0), arrays["test_images"])
print("logits of the untrained network:", start_logits.shape)


# %% [markdown]
# The book's training loop for PyTorch has no evaluation. It makes a loader for the test images and never uses it, and the network has **dropout** (随机失活)
# [Srivastava et al. 2014], which sets half of the features to zero at random *while it trains* (M08). What happens if somebody measures the accuracy
# without `model.eval()`? The cell trains the mended network of the book, with its dropout, and predicts the same test images 20 times in each mode.

# %%
class Mended(AsPrinted):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(32 * 13 * 13, 128)

    def forward(self, x):
        x = self.dropout(self.pool(F.relu(self.conv1(x))))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


steps = runtime.pick(quick=55, full=220)  # of 128 images: 11 steps are an epoch
batches = alone.draw_order(len(arrays["images"]), 0, steps=steps, batch_size=128)
runtime.seed_everything(0)
mended = Mended()
torch_train(mended, arrays["images"], arrays["labels"], batches)
passes = {
    "training mode": experiments.measure_passes(mended.train(), test_x, test_y, 20),
    "evaluation mode": experiments.measure_passes(mended.eval(), test_x, test_y, 20),
}
drawings.draw_modes(plt.figure(figsize=(5.5, 1.5)), passes)

# %% [markdown]
# In training mode the same images give another accuracy in each pass, and a lower one on average. In evaluation mode all passes agree.
# `torch.inference_mode()` does something else: it switches the graph off, which saves memory, and leaves dropout as it is. A measurement needs both.

# %% tags=["claims"]
assert sum(p.numel() for p in mended.parameters()) == 693_962
assert len(set(passes["evaluation mode"])) == 1 < len(set(passes["training mode"]))
assert np.mean(passes["training mode"]) < passes["evaluation mode"][0]


# %% [markdown]
# ## 5 TensorFlow: printed and mended
#
# The book's TensorFlow program uses `tf.keras`, so it is a Keras program too. It runs, and its network has 693,962 parameters. But its digits have the
# shape (N, 28, 28), and the network wants (N, 28, 28, 1): the axis of the channels is missing (I44). Why does this run? The cell trains one epoch with the
# axis missing, once with the input declared as in the book, once without.

# %%
def try_missing_axis(images, labels):
    import tensorflow as tf

    outcome, parts = {}, tf.keras.layers
    for name, first in {"declared": [tf.keras.Input((28, 28, 1))], "not declared": []}.items():
        model = tf.keras.Sequential([
            *first,
            parts.Conv2D(32, (3, 3), activation="relu"), parts.MaxPooling2D((2, 2)),
            parts.Flatten(), parts.Dense(128, activation="relu"),
            parts.Dense(10, activation="softmax"),
        ])
        model.compile(optimizer="adam", loss="categorical_crossentropy")
        targets = tf.keras.utils.to_categorical(labels)
        try:
            model.fit(images, targets, batch_size=128, verbose=0)
            outcome[name] = f"runs, {model.count_params():,} parameters"
        except ValueError as error:
            outcome[name] = f"ValueError: {str(error).splitlines()[0]}"
    return outcome


no_axis = {"images": arrays["images"][:256, :, :, 0], "labels": arrays["labels"][:256]}
axis_outcomes = elsewhere.run(try_missing_axis, needs=("tensorflow",), arrays=no_axis)
for name, value in axis_outcomes.items():
    print(f"input {name}: {value}")


# %% [markdown]
# Keras adds the missing axis if it knows the shape of the input, and says nothing. If it does not know it, the convolution refuses the images. So add the
# axis yourself: `x[..., None]`. Now the mended functions: the book's network without softmax, and a training step of TensorFlow's own. `GradientTape`
# records the graph of section 3.

# %%
def tensorflow_model(seed):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(seed)
    inputs = tf.keras.Input((28, 28, 1))
    x = tf.keras.layers.Conv2D(32, 3, activation="relu")(inputs)
    x = tf.keras.layers.MaxPooling2D(2)(x)
    x = tf.keras.layers.Flatten()(x)
    x = tf.keras.layers.Dense(128, activation="relu")(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(10)(x))


def tensorflow_predict(model, images):
    return model(images, training=False).numpy()


# %%
def tensorflow_train(model, images, labels, order, epsilon=1e-7):
    import tensorflow as tf

    optimizer = tf.keras.optimizers.Adam(1e-3, epsilon=epsilon)
    optimizer.build(model.trainable_variables)

    @tf.function
    def train_step(x, y):
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    losses = [float(train_step(images[chosen], labels[chosen])) for chosen in order]
    return [sum(losses[:n]) / n for n in range(1, len(losses) + 1)]


# %% [markdown]
# ## 6 Keras: printed and mended
#
# The book installs `keras` alone. But Keras 3 computes nothing itself: it needs a **backend** (后端), which is TensorFlow, JAX or PyTorch (W24, W25). What
# happens without one? The cell hides TensorFlow, as on a machine where only Keras was installed.

# %%
def import_keras_alone():
    import sys
    from importlib.metadata import requires

    class Hidden:  # as on a machine without TensorFlow
        def find_spec(self, name, *_):
            if name.split(".")[0] == "tensorflow":
                raise ModuleNotFoundError(f"No module named {name!r}")

    sys.meta_path.insert(0, Hidden())
    wanted = [line for line in requires("keras") or [] if "extra" not in line]
    try:
        import keras
    except ImportError as error:
        return {"keras wants": wanted, "says": f"{type(error).__name__}: {error}"}
    return {"keras wants": wanted, "says": "runs"}


alone_outcome = elsewhere.run(import_keras_alone, needs=("keras",))
for name, value in alone_outcome.items():
    print(f"{name}: {value}")


# %% [markdown]
# No backend is among the packages that Keras installs, and the import fails. Choose one by the environment variable `KERAS_BACKEND`, and install it. With
# PyTorch as the backend the next lines of the book's program are tried: the first layer with its `input_shape` (I47), and `Dropout(p=0.5)` (W23).

# %%
def try_keras():
    import sys
    import warnings

    import keras

    outcome = {"backend": keras.backend.backend()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        keras.layers.Conv2D(32, (3, 3), activation="relu", input_shape=(28, 28, 1))
    outcome["input_shape"] = f"{caught[0].category.__name__}: {str(caught[0].message)[:60]}…"
    try:
        keras.layers.Dropout(p=0.5)
    except (TypeError, ValueError) as error:
        outcome["Dropout(p=0.5)"] = f"{type(error).__name__}: {error}"
    outcome["Dropout(0.5)"] = f"rate {keras.layers.Dropout(0.5).rate}"
    outcome["TensorFlow was imported"] = "tensorflow" in sys.modules
    return outcome


keras_outcome = elsewhere.run(try_keras, needs=("keras",), backend="torch")
for name, value in keras_outcome.items():
    print(f"{name}: {value}")


# %% [markdown]
# The argument has been called `rate` since Keras 2. Without a name, `Dropout(0.5)` is right in Keras and in PyTorch. TensorFlow was not imported at all:
# Keras is not a part of TensorFlow. Now the mended program. `compile` and `fit` are the whole training. The images are laid in the order of the batches,
# so that `fit` sees the same batches as the others.

# %%
def keras_model(seed):
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    return keras.Sequential([
        keras.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2),
        layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dense(10),
    ])


def keras_train(model, images, labels, order, epsilon=1e-7):
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3, epsilon=epsilon), loss)
    means, x, y = [], images[order.ravel()], labels[order.ravel()]
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda n, logs: means.append(logs))
    model.fit(x, y, order.shape[1], shuffle=False, verbose=0, callbacks=[note])
    return [logs["loss"] for logs in means]


def keras_predict(model, images):
    return model.predict(images, verbose=0)


# %% tags=["claims"]
assert "693,962" in axis_outcomes["declared"] and "ValueError" in axis_outcomes["not declared"]
backends = ("tensorflow", "jax", "torch")
assert not [line for line in alone_outcome["keras wants"] if line.startswith(backends)]
assert "ModuleNotFoundError" in alone_outcome["says"] and "tensorflow" in alone_outcome["says"]
assert keras_outcome["backend"] == "torch" and not keras_outcome["TensorFlow was imported"]
assert keras_outcome["Dropout(p=0.5)"].startswith("TypeError")
assert "rate" in keras_outcome["Dropout(p=0.5)"]
assert keras_outcome["input_shape"].startswith("UserWarning")


# %% [markdown]
# ## 7 The comparison: one network, four programs
#
# The book's three networks cannot be compared: one has no dropout, one has dropout before the first linear layer, one behind it; one lacks a ReLU; and the
# pixels lie in [0, 1] or in [−1, 1] (I49). Here all is equal: network, pixels, batches, learning rate. Two things remain each framework's own: how it
# draws the first weights, and how its Adam is written. We make both equal, one after the other. First the weights: PyTorch's network hands its weights to
# the others. Their axes differ. Kernels are (out, in, height, width) in PyTorch and (height, width, in, out) in Keras. And `Flatten` walks through the
# pixels in another order: which rows of the linear layer belong to which pixel?

# %%
def to_keras(weights):
    """Six arrays of PyTorch -> the same in Keras' layout."""
    kernel, bias1, hidden, bias2, output, bias3 = weights
    hidden = hidden.reshape(128, 32, 13, 13)  # (out, channel, height, width), as before Flatten
    hidden = hidden.transpose(2, 3, 1, 0).reshape(13 * 13 * 32, 128)
    return [kernel.transpose(2, 3, 1, 0), bias1, hidden, bias2, output.T, bias3]


torch_weights = [p.detach().numpy() for p in torch_model(0).parameters()]
torch_start = experiments.as_start(torch_weights)
keras_start = experiments.as_start(to_keras(torch_weights))
print("PyTorch:", [weights.shape for weights in torch_start.values()])
print("Keras:  ", [weights.shape for weights in keras_start.values()])

# %% [markdown]
# Each of the four programs now runs in its own process: with its own first weights for each seed, and twice from PyTorch's weights. This takes about a
# minute. Keras runs on two backends, with the same code.

# %%
programs = {
    "PyTorch": (torch_model, torch_train, torch_predict, ["torch"]),
    "TensorFlow": (tensorflow_model, tensorflow_train, tensorflow_predict, ["tensorflow"]),
    "Keras on TensorFlow": (keras_model, keras_train, keras_predict, ["keras", "tensorflow"]),
    "Keras on PyTorch": (keras_model, keras_train, keras_predict, ["keras"]),
}
settings = {"seeds": list(range(runtime.pick(quick=4, full=10))), "batch_size": 128, "steps": steps}


def run_program(name):
    *parts, needs = programs[name]
    start = torch_start if name == "PyTorch" else keras_start
    backend = "torch" if name.endswith("PyTorch") else "tensorflow"
    return elsewhere.compare(
        *parts, needs=needs, backend=backend, arrays=arrays | start, **settings
    )


runs = {name: run_program(name) for name in list(programs)[:3]}

# %%
runs |= {"Keras on PyTorch": run_program("Keras on PyTorch")}

# %% [markdown]
# **Same function?** With the same weights, the logits of 20 test images should be equal up to rounding. The parameters are counted by each framework.

# %%
logit_gaps, loss_gaps = {}, {}
for name, run in runs.items():
    first = runs["PyTorch"]
    logit_gaps[name] = np.abs(np.subtract(run["first_logits"], first["first_logits"])).max()
    loss_gaps[name] = {
        kind: experiments.compare_runs(run, first, kind) for kind in ("own epsilon", "no epsilon")
    }
    agree = loss_gaps[name]["own epsilon"][1]
    print(f"{name:20} {run['parameters']:,} parameters, logits differ by {logit_gaps[name]:.0e},")
    print(f"{'':20} after training {agree:.1%} of the answers agree")
drawings.draw_losses(plt.figure(figsize=(7, 2.7)), runs)

# %% [markdown]
# Before training the four networks are one function. During training the losses differ in the third digit (solid lines at the right). Why? A first guess
# is Adam's $\epsilon$, a small number that avoids a division by zero: it is $10^{-8}$ in PyTorch and $10^{-7}$ in Keras. To test the guess, we change
# nothing but $\epsilon$: with $10^{-12}$ in all four (dotted lines) the difference falls by a factor of hundreds, to rounding. So $\epsilon$ is the cause.
# It also stands at different places in the two formulas [Kingma & Ba 2015]:
#
# $$\text{PyTorch: }\ \Delta w=-\frac{\alpha\,\hat m}{\sqrt{\hat v}+\epsilon},\qquad\text{Keras: }\ \Delta w=-\frac{\alpha\sqrt{1-\beta_2^t}}{1-\beta_1^t}\cdot\frac{m}{\sqrt v+\epsilon},\qquad\hat m=\frac m{1-\beta_1^t},\ \hat v=\frac v{1-\beta_2^t}$$
#
# Multiply numerator and denominator: Keras' $\epsilon$ acts like PyTorch's $\epsilon/\sqrt{1-\beta_2^t}$. In the first step, with $\beta_2=0.999$, this is
# $10^{-7}/0.0316\approx3\cdot10^{-6}$, three hundred times PyTorch's.
#
# **Accuracy, time, memory, lines.** Now with each framework's own first weights. The simple baseline is logistic regression on the digits' own 64 pixels.

# %%
baseline = experiments.measure_baseline()
comparison = plt.figure(figsize=(7, 2.4))
drawings.draw_comparison(comparison, runs, baseline)
records.picture("appendix_a", comparison)
intervals, lines = {}, {}
for name, (make, train, predict, *_) in programs.items():
    intervals[name] = experiments.mean_interval(runs[name]["accuracy"])
    lines[name] = elsewhere.count_lines(make, train, predict)
    middle, low, high = (f"{value:.1%}" for value in intervals[name])
    print(f"{name:20} {middle} ({low} to {high})   {lines[name]} lines of code")
print(f"logistic regression  {baseline:.1%}")

# %% [markdown]
# Read the figure from left to right:
#
# - **Accuracy.** With four seeds the intervals are wide, and they overlap. They hold for these 360 images: other images would move all of them by about ±2
#   points. PyTorch's mean is the lowest. Its layers have another **initialisation** (初始化) than those of Keras, which draws from the distribution of Glorot
#   and starts the biases at zero [Glorot & Bengio 2010]. Exercise 3 changes nothing but this. After so few epochs the simple baseline is better than all
#   four networks. See *At full size* for more epochs.
# - **Time.** It is measured in one thread of one processor, with a network this small. It holds the tracing of `tf.function`, not the import. With a
#   larger network or a GPU the order can be another one.
# - **Memory.** Grey is what the process needs before the first step, most of it the libraries themselves. On our machine PyTorch is a build with CUDA's
#   libraries.
# - **Lines.** Keras needs the fewest: `compile` and `fit` replace the loop over the batches. Who wants another training step writes the loop again.

# %% tags=["claims"]
assert {run["parameters"] for run in runs.values()} == {693_962}
assert max(logit_gaps.values()) < 1e-4
for name in list(runs)[1:]:
    own, none = (loss_gaps[name][kind][0] for kind in ("own epsilon", "no epsilon"))
    assert none < 1e-3 and none < own / 10, name
    assert loss_gaps[name]["own epsilon"][1] > 0.95
middles = [middle for middle, _, _ in intervals.values()]
assert min(middles) > 0.85 and max(middles) - min(middles) < 0.05
assert lines["Keras on PyTorch"] == lines["Keras on TensorFlow"] < lines["TensorFlow"]
records.record(
    "appendix_a",
    seed=settings["seeds"],
    accuracy={name: run["accuracy"] for name, run in runs.items()},
    logistic_regression=baseline,
    training_seconds={name: run["seconds"] for name, run in runs.items()},
    memory_gigabytes={name: run["memory"] / 1e9 for name, run in runs.items()},
    parameters=runs["PyTorch"]["parameters"],
    lines=lines,
    loss_difference={n: gaps["own epsilon"][0] for n, gaps in loss_gaps.items()},
    loss_difference_without_epsilon={n: gaps["no epsilon"][0] for n, gaps in loss_gaps.items()},
);

# %% [markdown]
# ## 8 Going deeper: the test set is no validation set
#
# Two of the book's programs pass the test set as `validation_data` (M07). Nothing is trained on it, so what is wrong? Somebody who *chooses* by these
# numbers, the best epoch or the best learning rate, has used them. How much is this worth? 80 networks are candidates: four learning rates, each after 1
# to 20 epochs on 200 images. The test images are halved at random, 1,000 times. The first half chooses the best candidate, and the second half has never
# been used.

# %%
rates = (5e-4, 1e-3, 2e-3, 4e-3)
right = experiments.collect_candidates(
    torch_model, arrays, rates=rates, epochs=runtime.pick(quick=20, full=40)
)
chosen_rates, fresh_rates = experiments.measure_choice(right, splits=1000)
fixed_rates, fixed_fresh = experiments.measure_choice(right[-1:], splits=1000)  # no choice
figure = plt.figure(figsize=(5.5, 2.3))
drawings.draw_choice(figure, chosen_rates, fresh_rates, images=right.shape[1] // 2)
optimism = 100 * (np.mean(chosen_rates) - np.mean(fresh_rates))
control = 100 * (np.mean(fixed_rates) - np.mean(fixed_fresh))
print(f"best of {len(right)}: {optimism:+.2f} points better on the half that chose")
print(f"one fixed candidate: {control:+.2f} points")

# %% [markdown]
# The half that chose shows a better accuracy than the other half, on average. One fixed candidate, where nothing was chosen, shows hardly a difference. So
# the choice makes the difference. Hold out a part of the *training* images for choices (`validation_split=0.1` in Keras), and use the test images once.
#
# ## 9 Going deeper: worker processes need a guarded script
#
# The book's loaders start two worker processes (工作进程), `num_workers=2`. On Windows, on macOS and since Python 3.14 also on Linux, a worker starts by
# importing the script again. Then it meets the line that starts workers (I46). The cell runs a script as on these systems, without and with the guard.

# %%
unguarded = """
import torch

loader = torch.utils.data.DataLoader(
    torch.arange(8), batch_size=4, num_workers=1, multiprocessing_context="spawn"
)
print("batches:", len(list(loader)))
"""
head, body = unguarded.split("\n\n")
guard = '\n\nif __name__ == "__main__":\n'
guarded = head + guard + "\n".join("    " + line for line in body.splitlines())
worker_outcomes = {
    "without the guard": elsewhere.run_script(unguarded, say="bootstrapping phase"),
    "with the guard": elsewhere.run_script(guarded, say="batches: 2"),
}
for name, (ended_well, said) in worker_outcomes.items():
    print(f"{name}: {'runs' if ended_well else 'fails'}")

# %% tags=["claims"]
assert optimism > 0.3 and abs(control) < optimism / 2
assert worker_outcomes["without the guard"] == (False, True)
assert worker_outcomes["with the guard"] == (True, True)

# %% [markdown]
# The failing script says that a process was started before its own start was finished ("bootstrapping phase"). Write `if __name__ == "__main__":` above
# what runs, or take `num_workers=0` for data this small.
#
# ## 10 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("appendix_a.1")` helps in steps, `solution("appendix_a.1")` shows one answer.
#
# **1 · Predict.**
# `nn.Sequential(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(?, 64), nn.ReLU(), nn.Linear(64, 10))` for colour
# images of 32×32. What stands for the question mark, and how many parameters are there in all?

# %%
sizes = ...  # {"flattened": …, "parameters": …}
check("appendix_a.1", sizes)


# %% [markdown]
# **2 · Find the bug.** A colleague measures the accuracy with this function. `batches` is a list of pairs: images and labels; the last batch may be
# smaller. The function should give the share of correct answers in [0, 1], predict in evaluation mode without recording gradients, and leave the model in
# the mode that it had before. There are four faults.
#
# ```python
# def accuracy(model, batches):
#     rates = []
#     for x, y in batches:
#         rates.append((model(x).argmax(0) == y).float().mean())
#     return sum(rates) / len(rates)
# ```

# %%
def accuracy(model, batches):  # nn.Module, list of (x, y) -> float
    ...


check("appendix_a.2", accuracy)

# %% [markdown]
# **3 · Train, change, measure.** Is it the initialisation? For each of the seeds 0, 1 and 2, train `torch_model(seed)` on the first 300 training images in
# 60 steps of 50, with `alone.draw_order(300, seed, steps=60, batch_size=50)`. Do the same after each layer with weights got
# `nn.init.xavier_uniform_(layer.weight)` and `nn.init.zeros_(layer.bias)`, as in Keras. Note the cross-entropy on the test images. The conclusion is the
# better name, or "no difference" if the means differ by less than the sum of both standard deviations.

# %%
measured = ...  # {"PyTorch": [three losses], "Glorot": [three losses], "conclusion": "…"}
check("appendix_a.3", measured)


# %% [markdown]
# **4 · A new operation.** The `Node` of section 3 has no division. Write a function that returns the value of $a/b$ and its slopes for $a$ and for $b$.

# %%
def divide(a, b):  # two floats -> (value, slope for a, slope for b)
    ...


check("appendix_a.4", divide)

# %% [markdown]
# ## 11 At full size
#
# `VLMBOOK_PROFILE=full` trains ten seeds for 220 steps (20 epochs). In the published run the four means lie between 96.5 % and 96.8 %, closer together
# than the seeds of any one program, and logistic regression has 96.7 %. So these digits are too easy to need the network. Its weights take 2.8 MB in
# float32: this is a small network by any measure (I42).

# %% tags=["record"]
records.show("appendix_a", "full")


# %% [markdown]
# ## 12 Book check
#
# | program of the book | as printed | why |
# | --- | --- | --- |
# | TensorFlow, network | runs, 693,962 parameters | |
# | TensorFlow, training | runs | an axis is added silently, the test set validates |
# | PyTorch, network | is built, stops at the first batch | 5,408 numbers for 1,568 inputs; a ReLU is missing |
# | PyTorch, training | stops | as before; no evaluation, workers without a guard |
# | Keras, network | import fails without a backend, then TypeError | `p` is no argument; a warning for `input_shape` |
# | Keras, training | runs with the mended network | as in TensorFlow |
#
# - **W20 · `nn.Linear(32 * 7 * 7, 128)`.** The program stops at its first batch: section 2.
# - **W22 · `fc2(fc1(x))` without ReLU.** Two linear layers are one: section 2.
# - **W23 · `Dropout(p=0.5)` in Keras.** TypeError, the argument is `rate`: section 6.
# - **W24 · `pip install keras`.** No backend is installed with it: section 6.
# - **W25 · "Keras is an API of TensorFlow".** Section 6 runs Keras 3 on PyTorch without TensorFlow. It also has a backend for JAX, which is not tried
#   here.
# - **W21 · Appendix C's network in PyTorch.** Its `forward` never calls the convolution. The cell below shows it.
# - **M07 · The test set as validation data.** What a choice is worth: section 8.
# - **M08 · The unused test loader, no `eval()`.** Section 4, and exercise 2.
# - **I42 · "Frameworks of large vision models".** They are general deep learning frameworks (常用深度学习框架). The network here has 0.69 million parameters.
# - **I43 · "Powerful graphs" of TensorFlow.** Eager by default, graphs by `tf.function`: section 3.
# - **I44 · The missing axis of channels.** Section 5.
# - **I45 · "Define the input layer" above the class in PyTorch.** PyTorch has no input layer; the line defines the model.
# - **I46 · `num_workers=2` without a guard.** Section 9.
# - **I47 · `input_shape` in a layer.** Keras 3 warns: section 6. Begin with `keras.Input`.
# - **I48 · "PyTorch is developed by Facebook".** It began there. Since September 2022 it belongs to the PyTorch Foundation.
# - **I49 · "The frameworks have their own characteristics".** The three networks differ, so they show nothing about frameworks: section 7. As printed they
#   have 693,962 and 202,442 parameters, and the third, once it can be built, 693,962.

# %%
class OfAppendixC(AsPrinted):
    def forward(self, x):  # as printed there: the convolution is not called
        return self.fc2(self.fc1(x.view(x.size(0), -1)))


unused = OfAppendixC()
calls = []
unused.conv1.register_forward_hook(lambda *_: calls.append("conv1"))
try:
    unused(torch.zeros(2, 1, 28, 28))
except RuntimeError as error:
    print("W21 28×28:", error)
unused(torch.rand(2, 2, 28, 28)).sum().backward()  # 2 · 28 · 28 = 1,568: so it runs
print("W21 calls of conv1:", len(calls), " its gradient:", unused.conv1.weight.grad)

# %% tags=["claims"]
assert not calls and unused.conv1.weight.grad is None and unused.fc1.weight.grad is not None

# %% [markdown]
# ## 13 What we learned
#
# - A framework is a graph that is noted while numbers are computed, and a list of operations with their slopes. Forty lines are enough for a small one.
# - The size of each layer can be computed before anything runs. A wrong size in the first linear layer is the usual fault of a copied program.
# - Given the same weights and batches, PyTorch, TensorFlow and Keras compute the same function and, up to the $\epsilon$ of Adam, the same training.
# - What differs are defaults: the initialisation, the $\epsilon$ of Adam, the order of axes. Name them before you compare.
# - Measure in evaluation mode, without gradients, on images that chose nothing.
#
# **References.** M. Abadi et al., *TensorFlow: a system for large-scale machine learning*, OSDI 2016, arXiv:1605.08695 · A. Paszke et al., *PyTorch: an
# imperative style, high-performance deep learning library*, NeurIPS 2019, arXiv:1912.01703 · A. G. Baydin et al., *Automatic differentiation in machine
# learning: a survey*, JMLR 2018, arXiv:1502.05767 · D. P. Kingma, J. Ba, *Adam: a method for stochastic optimization*, ICLR 2015,  arXiv:1412.6980 · X.
# Glorot, Y. Bengio, *Understanding the difficulty of training deep feedforward neural networks*, AISTATS 2010 · N. Srivastava et al., *Dropout: a simple
# way to prevent neural networks from overfitting*, JMLR 2014 · E. Alpaydin, C. Kaynak, *Optical recognition of handwritten digits*, UCI Machine Learning
# Repository, 1998 · Keras documentation, *Getting started, Dropout, The Sequential model, Model.fit* · TensorFlow documentation, *Introduction to graphs
# and tf.function* · PyTorch documentation, *Conv2d, MaxPool2d, Module.eval, Adam, Windows FAQ*.
