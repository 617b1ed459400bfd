# %% [markdown]
# # Appendix C · Tools (常用工具)
#
# *Book: §App. C*
#
# **Five libraries read, shrink, turn and blur the same photograph. Which results differ, by how much, and why?**
#
# After this appendix you can
#
# - say how a picture lies in memory in each library: order of channels, order of axes, type and range,
# - match the settings of two libraries before you compare them,
# - see aliasing, and choose a resize that avoids it,
# - find the usual faults of a pipeline that mixes OpenCV and Pillow,
# - say what CUDA, cuDNN, mixed precision and a container do, and measure what is here.
#
# You need these terms: pixel and convolution ([chapter 3a](ch03a_convolution_and_pooling.ipynb)), interpolation
# ([chapter 3c](ch03c_unet.ipynb)). Tools that make a *model* smaller or faster are in [chapter 7a](ch07a_efficiency.ipynb).
# TensorFlow and Keras are in [appendix A](appendix_a_frameworks.ipynb).
#
# The core path takes 40 minutes: [sections 1](#1-The-data,-looked-at) to 9. The other sections go deeper. OpenCV is optional: where it is not
# installed, its rows are left out and one sentence says what to install.

# %% tags=["record"]
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageChops
from skimage import color, transform, util
from torchvision.transforms.v2 import functional as TF

from vlmbook import data, plot, runtime
from vlmbook.notebook import interact, records
from vlmbook.chapters.appendix_c import experiments, figures as drawings

runtime.seed_everything(0)
torch.set_num_threads(1)
plot.use_style()
records.published("appendix_c")
published = records.RESULTS / "appendix_c.quick.png"
if published.exists():
    plot.gallery([data.read_image(published, channels=3)], width=5.5);

# %% [markdown]
# *The picture: one pattern of rings, shrunk to a quarter of its size by the shortest call of each library. The fine rings at the border
# cannot be shown in the small picture. It should be grey there. Rings that you see there were not in the original.*

# %%
import tempfile
from pathlib import Path

from vlmbook.notebook.exercises import check, hint, solution
from vlmbook.chapters.appendix_c.experiments import cv2  # None where it is not installed

if cv2 is None:
    print(experiments.INSTALL)
workroom = Path(tempfile.mkdtemp(prefix="vlmbook-"))  # for the files of this notebook
print("compared here:", experiments.versions())

# %% [markdown]
# ## 1 The data, looked at
#
# One photograph from scikit-image's collection, and one drawn pattern. The **zone plate** (波带片) has rings. Their frequency (频率) grows with the
# distance from the middle: at half a cycle a pixel, in the middle of each side, black and white pixels take turns. Its fine details are known exactly, so errors of a resize can be
# measured.

# %%
cat = experiments.photograph("cat")
rings = experiments.zone_plate()
drawings.draw_pair(plt.figure(figsize=(5.2, 2.4)), {f"{cat.shape}": cat, f"{rings.shape}": rings})

# %% [markdown]
# ## 2 Reading: axes, channels, and a file that is not there
#
# A picture is a row of numbers in memory. Libraries differ in the order of these numbers. The drawing shows 2 rows of 3 pixels.

# %%
drawings.draw_layouts(plt.figure(figsize=(5.5, 2.1)))

# %% [markdown]
# A shape is written from the slowest axis (轴) to the fastest. `H W C` has the channels (通道) of a pixel side by side, `C H W` has whole colour planes. Pillow
# itself names the *width first*: `image.size` is `(W, H)`. **Compute by hand:** an image has 200 rows and 300 columns, and is pure red. What is its `size` in
# Pillow, the shape of its array, and the first pixel in each library?

# %%
red = workroom / "red.png"
Image.new("RGB", (300, 200), (255, 0, 0)).save(red)
print("Pillow's size:", Image.open(red).size)
first_pixels = {}
for library, read in experiments.readers().items():
    got = read(red)
    pixel = got[:, 0, 0] if library == "torchvision" else got[0, 0] if got.ndim == 3 else got[:4]
    first_pixels[library] = [int(value) for value in pixel]
    print(f"{library:13} {type(got).__name__:8} {tuple(got.shape)!s:14} {first_pixels[library]}")

# %% [markdown]
# OpenCV gives `[0, 0, 255]` for red, because it stores blue first. NumPy has no reader of image files: `np.fromfile` gives the bytes of the *file*, which begins
# with `137 "PNG"`. torchvision's own readers are deprecated since version 0.29, so Pillow reads and torchvision converts. A BGR array that is taken for RGB
# raises no error. The colours are wrong (M36):

# %%
swapped = cat[..., ::-1]  # what OpenCV's array looks like to the others
drawings.draw_pair(plt.figure(figsize=(5.2, 1.9)), {"RGB": cat, "BGR, shown as RGB": swapped})

# %% [markdown]
# Two more differences cost hours. What happens with a file that is *not there*? And a camera that was held upright stores the picture lying, with a note
# "turn by 90°" (EXIF orientation). Who follows the note?

# %%
lying = workroom / "held_upright.jpg"
experiments.save_turned(lying, cat)
outcomes = {}
for library, read in experiments.readers().items():
    missing = experiments.read_or_say(read, workroom / "missing.jpg")
    turned = read(lying)
    shape = "bytes only" if library == "NumPy" else tuple(turned.shape)
    outcomes[library] = (missing, shape)
    print(f"{library:13} missing file: {missing!s:18} photograph held upright: {shape}")
print("Pillow + ImageOps.exif_transpose:", experiments.read_upright(lying).shape)

# %% [markdown]
# OpenCV returns `None` for a missing file. The error comes later, in another line, and does not name the file (M36). So test it at once:
# `assert image is not None, path`. OpenCV follows the note of the camera, the others here do not. Boxes that were drawn on the upright picture do
# not fit the lying one.

# %%
if cv2 is None:
    print(experiments.INSTALL)
else:
    try:
        cv2.cvtColor(None, cv2.COLOR_BGR2GRAY)  # None: what imread returned
    except cv2.error as error:
        print("the next line says:", str(error).strip().split("error: ")[-1])
    rgb = cv2.cvtColor(cv2.imread(str(red)), cv2.COLOR_BGR2RGB)
    print("after cv2.cvtColor(…, cv2.COLOR_BGR2RGB):", rgb[0, 0])

# %% tags=["claims"]
assert first_pixels["Pillow"] == first_pixels["scikit-image"] == first_pixels["torchvision"]
assert first_pixels["Pillow"] == [255, 0, 0] and first_pixels["NumPy"] == [137, 80, 78, 71]
assert outcomes["Pillow"] == ("FileNotFoundError", (300, 451, 3))
assert experiments.read_upright(lying).shape == (451, 300, 3)
if cv2 is not None:
    assert first_pixels["OpenCV"] == [0, 0, 255]
    assert outcomes["OpenCV"] == (None, (451, 300, 3))
    assert rgb[0, 0].tolist() == [255, 0, 0]

# %% [markdown]
# ## 3 Grey: weights and rounding
#
# The eye is more sensitive to green than to blue. So grey (灰度) is a weighted sum. Two standards are in use. (scikit-image has the old weights of BT.709
# below. Today they are 0.2126, 0.7152 and 0.0722.)
#
# $$g_{601}=0.299R+0.587G+0.114B,\qquad g_{709}=0.2125R+0.7154G+0.0721B$$
#
# **Compute by hand** both greys of the pixel $(200, 100, 50)$, and the plain mean. Then look who gives what.

# %%
pixel_image = np.uint8([[[200, 100, 50]]])
by_hand = {
    "BT.601": 0.299 * 200 + 0.587 * 100 + 0.114 * 50,
    "BT.709": 0.2125 * 200 + 0.7154 * 100 + 0.0721 * 50,
    "mean": (200 + 100 + 50) / 3,
}
print({name: round(value, 2) for name, value in by_hand.items()})
greys = {
    name: experiments.apply("grey", name, pixel_image, "own", 0).item()
    for name in experiments.libraries()
}
print({name: round(value, 2) for name, value in greys.items()})

# %% [markdown]
# 124.2 is rounded to 124 by OpenCV and Pillow. torchvision's 124 has another reason: it *cuts off* the fraction. On the photograph this shows. scikit-image computes in floating
# point with the weights of BT.709, so it differs from the others by more than rounding. `image.mean(2)` is the plain mean.

# %%
exact = cat @ experiments.LUMA
rounded, cut = np.floor(exact + 0.5), np.floor(exact)
shares = {}
for library in ("OpenCV", "Pillow", "torchvision"):
    if library in experiments.libraries():
        grey = experiments.apply("grey", library, cat, "own", 0)[..., 0]
        shares[library] = ((grey == rounded).mean(), (grey == cut).mean())
        as_rounded, as_cut = shares[library]
        print(f"{library:12} = rounded: {as_rounded:.1%}   = cut off: {as_cut:.1%}")
print(f"scikit-image: off by up to {np.abs(255 * color.rgb2gray(cat) - exact).max():.1f} levels")

# %% tags=["claims"]
assert abs(greys["scikit-image"] - by_hand["BT.709"]) < 1e-6 and greys["Pillow"] == 124
assert shares["Pillow"][0] == 1 and shares["Pillow"][1] < 0.6
assert shares["torchvision"][1] > 0.95 and shares["torchvision"][0] < 0.6
assert cv2 is None or shares["OpenCV"][0] == 1

# %% [markdown]
# ## 4 Shrinking: aliasing
#
# **Aliasing** (混叠): a fine wave that is read at too few points looks like a coarse wave. In the drawing a wave has 7 cycles. Eight samples see one cycle.

# %%
drawings.draw_sampled_wave(plt.figure(figsize=(5.5, 2.1)))

# %% [markdown]
# With $n$ samples, a wave of $k$ cycles and one of $n-k$ cycles give the same numbers: $\cos(2\pi (n-k)\,i/n)=\cos(2\pi k\,i/n)$ for whole $i$. After sampling nobody can tell
# which it was. So the fine waves have to be removed *before*: each new pixel has to be a mean over all old pixels that it replaces. This is called **anti-aliasing**
# (抗混叠). The cell shrinks the rings by 4 with the shortest call of each library. *Contrast* is the standard deviation (标准差) of grey levels where the small picture should
# be plain grey. In the original it is 90.

# %%
small = {
    name: experiments.apply("shrink", name, rings, "own", 4) for name in experiments.libraries()
}
contrasts = {name: experiments.contrast_left(picture, 4) for name, picture in small.items()}
shrunk_figure = plt.figure(figsize=(5.5, 1.7))
drawings.draw_shrunk(shrunk_figure, small, contrasts)
records.picture("appendix_c", shrunk_figure);

# %% [markdown]
# `image[::4, ::4]` keeps the full contrast: false rings. `cv2.resize` reads only the four nearest pixels for each new one (bilinear, 双线性), and shows half of the false contrast.
# Pillow, scikit-image and torchvision widen their filter with the factor, and show nearly none. Is this a difference of the libraries or of the settings? Turn the anti-aliasing off
# where there is a switch for it:

# %%
tensor_rings = torch.from_numpy(rings).permute(2, 0, 1)
switches = {
    "torchvision, antialias=False": TF.resize(tensor_rings, [64, 64], antialias=False),
    "torchvision, antialias=True": TF.resize(tensor_rings, [64, 64], antialias=True),
}
switches = {name: t.permute(1, 2, 0).numpy() for name, t in switches.items()}
plain = transform.resize(rings, (64, 64), anti_aliasing=False)
switches["scikit-image, anti_aliasing=False"] = 255 * plain
bilinear = Image.fromarray(rings).resize((64, 64), Image.Resampling.BILINEAR)
switches["Pillow, BILINEAR"] = np.asarray(bilinear)
if cv2 is not None:
    switches["OpenCV, INTER_LINEAR"] = cv2.resize(rings, (64, 64), interpolation=cv2.INTER_LINEAR)
    switches["OpenCV, INTER_AREA"] = cv2.resize(rings, (64, 64), interpolation=cv2.INTER_AREA)
for name, picture in switches.items():
    print(f"{name:34} contrast {experiments.contrast_left(picture, 4):5.1f}")


# %% [markdown]
# Without anti-aliasing, torchvision, scikit-image and OpenCV give the same picture within two levels of rounding. With it, torchvision and Pillow do. So the *setting* makes the difference. OpenCV has no
# anti-aliased bilinear filter; `INTER_AREA` is the mean of a block, and removes most false rings. NumPy can do the same in one line: `experiments.block_mean`
# reshapes to `(H/4, 4, W/4, 4, C)` and takes the mean over both axes of 4.

# %% tags=["claims"]
def largest_gap(first, second):
    return np.abs(switches[first].astype(float) - switches[second].astype(float)).max()


without = ("torchvision, antialias=False", "scikit-image, anti_aliasing=False")
assert largest_gap(*without) <= 1.6  # each of the two rounds once
assert largest_gap("torchvision, antialias=True", "Pillow, BILINEAR") <= 1
assert contrasts["NumPy"] > 80 and max(contrasts["Pillow"], contrasts["torchvision"]) < 15
if cv2 is not None:
    assert largest_gap("OpenCV, INTER_LINEAR", "torchvision, antialias=False") <= 1
    assert np.abs(switches["OpenCV, INTER_AREA"] - experiments.block_mean(rings, 4)).max() <= 0.5
    assert contrasts["OpenCV"] > 3 * contrasts["Pillow"]

# %% [markdown]
# **Explore.** At which factor do the lines between the bricks break into dots? Change `settings` to *matched*: then each library takes the mean of
# a block.

# %%
choices = {"rings": rings, "bricks": experiments.photograph("brick"), "cat": cat}


def explore_resizing(figure, picture="bricks", factor=8, settings="own"):
    chosen = choices[picture]
    drawings.draw_resizing(figure, chosen, factor, experiments.libraries(), settings)


interact.live(
    explore_resizing,
    picture=[*list(choices)[1:], "rings"],
    factor=(2, 10),
    settings=["own", "matched"],
    figsize=(5.5, 1.6),
)

# %% [markdown]
# ## 5 Enlarging: where is a pixel?
#
# A pixel is an area, not a point. Pixel $i$ covers the range from $i-\frac12$ to $i+\frac12$. If $n$ pixels become $m$, the centre of the new pixel $j$ lies at
#
# $$x=\left(j+\tfrac12\right)\frac nm-\tfrac12$$
#
# The other convention keeps the first and the last pixel in place. The dots are the new centres. Compare the two rows.

# %%
drawings.draw_centres(plt.figure(figsize=(5.5, 1.7)))

# %% [markdown]
# **Compute by hand:** the row 0, 100, 200, 60 becomes eight pixels. The first new centre lies at $-\frac14$, the second at $\frac14$. So the second value is
# $\frac34\cdot 0+\frac14\cdot 100=25$.

# %%
row = np.uint8([[0, 100, 200, 60]])
positions = experiments.source_positions(4, 8)
print("centres", positions)
as_areas = np.interp(positions, range(4), row[0])
print("np.interp             ", as_areas)
edge = transform.resize(row, (1, 8), preserve_range=True, mode="edge")[0]
print("scikit-image, edge    ", edge, "\nscikit-image, shortest", end=" ")
print(transform.resize(row, (1, 8), preserve_range=True)[0])
pillow_row = np.asarray(Image.fromarray(row).resize((8, 1), Image.Resampling.BILINEAR))[0]
print("Pillow, BILINEAR      ", pillow_row)
tensor_row = torch.from_numpy(row)[None]
print("torchvision           ", TF.resize(tensor_row, [1, 8])[0, 0].numpy())
corners = torch.nn.functional.interpolate(
    tensor_row.float(), size=8, mode="linear", align_corners=True
)[0, 0]
print("align_corners=True    ", corners.round(decimals=1).numpy())

# %% [markdown]
# Pixels are areas in all five libraries. `align_corners=True` in PyTorch is the other convention. scikit-image mirrors the picture at its border by default, so its first and last
# value are 25 and 95; `mode="edge"` repeats the border as the others do. A mixed pipeline that trains with one convention and predicts with the other shifts each object.

# %% tags=["claims"]
assert as_areas.tolist() == [0, 25, 75, 125, 175, 165, 95, 60]
assert np.array_equal(pillow_row, as_areas) and np.allclose(edge, as_areas)
assert np.array_equal(TF.resize(tensor_row, [1, 8])[0, 0], as_areas)
assert np.abs(corners.numpy() - as_areas).max() > 10
assert cv2 is None or np.array_equal(cv2.resize(row, (8, 1))[0], as_areas)

# %% [markdown]
# ## 6 Rotating: direction, centre, corners
#
# All five turn *counterclockwise* (逆时针) for a positive angle. The centre differs. Pixel centres run from 0 to $W-1$, so their middle is $\frac{W-1}2$. The usual OpenCV recipe takes
# $\frac W2$: half a pixel too far. What is half a pixel worth? Turn a square by 90°, where no interpolation is needed.

# %%
square = cat[:200, :200]
quarter = np.rot90(square)  # exact
turns = {
    "Pillow": np.asarray(Image.fromarray(square).rotate(90)),
    "NumPy, by the formula": experiments.rotate(square, 90).round(),
    "torchvision": experiments.apply("rotate", "torchvision", square, "own", 90),
    "scikit-image": (255 * transform.rotate(square, 90)).round(),
}
if cv2 is not None:
    for name, centre in {"OpenCV, W / 2": 100, "OpenCV, (W - 1) / 2": 99.5}.items():
        matrix = cv2.getRotationMatrix2D((centre, centre), 90, 1)
        turns[name] = cv2.warpAffine(square, matrix, (200, 200))
wrong_pixels = {name: (turned != quarter).mean() for name, turned in turns.items()}
for name, share in wrong_pixels.items():
    print(f"{name:22} values that differ from np.rot90: {share:.1%}")
expanded = Image.fromarray(cat).rotate(30, expand=True).size[::-1]
print("30° of", cat.shape[:2], "with expand=True:", expanded)
print("30° by scikit-image, resize=True:", transform.rotate(cat, 30, resize=True).shape[:2])

# %% [markdown]
# The recipe moves the picture by one pixel for this angle, so nine of ten values differ. Two more settings matter: Pillow and torchvision take the nearest pixel (`NEAREST`) by default, OpenCV and
# scikit-image interpolate; and without `expand` the corners are cut off.

# %% tags=["claims"]
for name, share in wrong_pixels.items():
    assert (share > 0.5) == (name == "OpenCV, W / 2"), name
assert expanded[0] > cat.shape[0] and expanded[1] > cat.shape[1]

# %% [markdown]
# ## 7 Blurring: kernel size against standard deviation
#
# A Gaussian blur (高斯模糊) weights a pixel at distance $d$ with $e^{-d^2/2\sigma^2}$. The kernel has to end somewhere. With $\sigma=3$, a kernel of 9 pixels cuts off at $1.3\,\sigma$. The
# drawing shows what each call makes of one white column.

# %%
responses = experiments.line_response()
drawings.draw_kernels(plt.figure(figsize=(5.5, 2.8)), responses)
for name, response in responses.items():
    width = np.sqrt((response * (np.arange(41) - 20.0) ** 2).sum() / response.sum())
    print(f"{name:24} measured standard deviation {width:.2f}")

# %% [markdown]
# With 9 weights the blur has a standard deviation of 2.2, whatever `sigma=3` says. Pillow approximates the Gaussian by repeated box means. The border differs too: OpenCV and
# torchvision mirror the picture without repeating its last pixel, scikit-image and Pillow repeat the last pixel. `experiments.MATCHED` holds the settings that make
# OpenCV, scikit-image and torchvision equal within one level. Pillow has no such settings.

# %% tags=["claims"]
spread = {
    name: np.sqrt((each * (np.arange(41) - 20.0) ** 2).sum() / each.sum())
    for name, each in responses.items()
}
assert spread["torchvision, 9 weights"] < 2.5 < 2.8 < spread["scikit-image"] < 3.1

# %% [markdown]
# ## 8 Type and range: 200 + 100
#
# `uint8` ends at 255. What is 200 + 100? A library can wrap around (回绕), saturate (饱和) or convert to floating point. Predict before you run the cell.

# %%
a, b = np.uint8([[200]]), np.uint8([[100]])
pillow_a, pillow_b = Image.fromarray(a), Image.fromarray(b)
sums = {
    "NumPy a + b": (a + b).item(),
    "PyTorch a + b": (torch.from_numpy(a) + torch.from_numpy(b)).item(),
    "Pillow ImageChops.add": ImageChops.add(pillow_a, pillow_b).getpixel((0, 0)),
    "scikit-image, as floats": round((util.img_as_float(a) + util.img_as_float(b)).item(), 3),
}
if cv2 is not None:
    sums["OpenCV cv2.add"] = cv2.add(a, b).item()
print(sums)
brighter = {
    "NumPy: wraps": experiments.apply("brighten", "NumPy", cat, "own", 100),
    "Pillow: saturates": experiments.apply("brighten", "Pillow", cat, "own", 100),
}
drawings.draw_pair(plt.figure(figsize=(5.2, 1.9)), brighter)

# %% tags=["claims"]
assert sums["NumPy a + b"] == sums["PyTorch a + b"] == 300 - 256
assert sums["Pillow ImageChops.add"] == 255 and sums["scikit-image, as floats"] > 1
assert cv2 is None or sums["OpenCV cv2.add"] == 255

# %% [markdown]
# ## 9 All differences in one table
#
# The left table compares the shortest calls. Each number is the mean absolute difference from the formula written out in NumPy, in grey levels. For the right table the settings were
# matched first: same weights, same filter, same centre, same kernel, same border, same end of the range.

# %%
found = {
    settings: experiments.measure_differences(cat, settings) for settings in ("own", "matched")
}
drawings.draw_differences(plt.figure(figsize=(5.5, 2.9)), found)

# %% [markdown]
# With matched settings all means are below one level: what remains is rounding or cutting off. In Pillow's blur single pixels differ by more than two
# levels: its kernel and its border cannot be set. So the sentence "OpenCV resizes worse than Pillow" mostly compares two settings. One difference stays:
# OpenCV does not offer the anti-aliased bilinear filter of section 4.

# %% tags=["claims"]
for operation, by_library in found["matched"].items():
    for library, (mean, largest) in by_library.items():
        assert mean < 0.6, (operation, library)
        assert largest <= 1.05 or (operation, library) == ("blur", "Pillow"), (operation, library)
assert found["own"]["shrink"]["NumPy"][0] > 5 and found["own"]["rotate"]["Pillow"][0] > 2
assert found["matched"]["blur"]["Pillow"][1] > 2


# %% [markdown]
# **Playground.** Choose an operation and two libraries. The third picture is the difference: red where the second is brighter. Which operation differs at edges only, and which
# everywhere?

# %%
def play(
    figure, operation="rotate", first="Pillow", second="scikit-image", settings="own", strength=2
):
    steps = {"grey": 0, "shrink": 1 + strength, "enlarge": 1 + strength, "blur": strength}
    amount = steps.get(operation, 15 * strength)  # degrees, or grey levels
    drawings.draw_playground(figure, cat, operation, first, second, settings, amount)


interact.live(
    play,
    operation=["rotate", *(name for name in experiments.OPERATIONS if name != "rotate")],
    first=["Pillow", *(name for name in experiments.libraries() if name != "Pillow")],
    second=["scikit-image", *(n for n in experiments.libraries() if n != "scikit-image")],
    settings=["own", "matched"],
    strength=(1, 4),
    figsize=(5.5, 1.9),
)

# %% [markdown]
# ### How long does it take?
#
# Median of repeats in which the libraries take turns, one thread, the shortest calls. The picture is converted to the form of each library before, and
# this is not counted. The calls do *not* compute the same thing: `image[::4, ::4]` reads no pixel, it is a new view of the same memory. scikit-image
# returns float64, most others uint8. We did not test which part of a call costs the time. On another machine the figures and their order can be others.

# %%
times = experiments.measure_times(cat, repeats=runtime.pick(quick=3, full=15))
drawings.draw_times(plt.figure(figsize=(5.5, 2.6)), times)

# %% [markdown]
# ### Which library for what?
#
# | library | a picture is | take it for | look out for |
# | --- | --- | --- | --- |
# | OpenCV | array `H W C`, **BGR**, uint8 | video, cameras, geometry, speed | `None` for a missing file, no anti-aliasing by default, `(W, H)` in `resize` |
# | Pillow | its own object, `size` is `(W, H)` | files of many formats, thumbnails | a method returns a new image, `rotate` takes the nearest pixel, EXIF is not followed |
# | NumPy | any array | formulas, masks, cutting | uint8 wraps around, slices alias and share memory |
# | scikit-image | array `H W C`, floats in [0, 1] | measurement, science, features | BT.709 grey, mirrored border, slow |
# | torchvision | tensor `C H W` | training, on a GPU too, with boxes and masks | grey is cut off, blur needs a kernel size, `rotate` takes the nearest pixel |
#
# ## 10 Going deeper: devices
#
# The book lists CUDA and cuDNN as tools of model optimisation (M35). **CUDA** is a platform on which programs run on NVIDIA's GPUs. **cuDNN** is a library of fast routines, such as convolutions, that PyTorch
# calls there. Neither changes a model. Tools that do are ONNX Runtime, TensorRT, OpenVINO and `torch.compile`, and quantisation and pruning of [chapter 7a](ch07a_efficiency.ipynb).
# The book's call `tf.config.list_physical_devices('GPU')` discards its result (I58). Its cuDNN example sets the layout of Keras to the value that it has already (W26).

# %% tags=["record"]
for name, state in experiments.probe_devices().items():
    print(f"{name:20} {state}")
print("cuDNN:", experiments.describe_cudnn())
launch = experiments.measure_launch()
print("matrix product 4096×4096:", launch or "not measured: no CUDA here")

# %% [markdown]
# A call on a GPU is **asynchronous** (异步): it puts work into a queue and returns at once. A clock that is read then measures the launch and not the work. Call `torch.cuda.synchronize()` before the clock is read. On a CPU the
# call returns when the work is done, so this cannot be shown there.
#
# Two settings keep the model and change how it is computed. **Mixed precision** (混合精度) computes convolutions in 16 bits. It is fast only where the processor has instructions for it; elsewhere they are
# emulated. **Channels last** stores `H W C` also inside PyTorch. Both are measured here on a small network:

# %% tags=["record"]
on_gpu = runtime.device().type == "cuda"
sizes = {"channels": 64, "batch": 16, "side": 224, "repeats": 20} if on_gpu else {}
by_setting, deviations = experiments.measure_settings(runtime.device(), **sizes)
print("bfloat16 in hardware here:", runtime.autocast_precision() == "bf16")
for name, milliseconds in by_setting.items():
    print(f"{name:22} {milliseconds:8.2f} ms   output differs by {deviations[name]:.1e}")
compile_it = runtime.pick(quick=on_gpu, full=True)
compiled = "not measured in this profile"
if compile_it:
    compiled = experiments.measure_compile(runtime.device())
print("torch.compile:", compiled)

# %% [markdown]
# bfloat16 has 8 significant bits, so its output differs by far more than the other layout's. If the line above says that the hardware has no bfloat16, autocast is *slower* here: measure before you switch it on.
# `torch.compile` translates a model at its first call, for which it needs a C++ compiler on a CPU. That call takes from seconds to minutes, so the quick profile leaves it out.

# %% tags=["claims"]
assert deviations["channels last"] < 1e-4 < deviations["autocast to bfloat16"] < 0.1

# %% [markdown]
# ## 11 Going deeper: containers, and the whole book in one command
#
# A **container** (容器) holds a program with all libraries that it needs. A **Dockerfile** is the recipe. Docker does not optimise a model either (M35). A recipe gives the same result next year only if its
# versions are fixed. `lint_image` and `lint_dockerfile` look for what is not: a tag without patch level, `latest`, no digest, root, `pip install` without constraints. First the book's image, then [this
# project's own Dockerfile](../Dockerfile):

# %%
book_faults = experiments.lint_image("nvidia/cuda:11.0-devel-ubuntu18.04")
print("the book's image:", *book_faults, sep="\n  ")
dockerfile = runtime.BOOK / "Dockerfile"
if dockerfile.exists():
    ours = experiments.lint_dockerfile(dockerfile.read_text(encoding="utf-8"))
    print("our Dockerfile:", *ours or ["no fault found"], sep="\n  ")
bad = "FROM ubuntu\nRUN pip install torch\nADD https://example.org/weights.bin /weights.bin\n"
print("a bad example:", *experiments.lint_dockerfile(bad), sep="\n  ")

# %% [markdown]
# A finding is a question and not a verdict. Our base image names Python 3.11 without a patch level and without a digest, so that security updates arrive with each build. The Python packages inside are
# pinned by `constraints.txt`. Who needs the same bytes next year adds the digest that `docker pull` prints.
#
# - **Docker**, one command: `docker build --tag vlmbook . && docker run --rm --init --publish 127.0.0.1:8888:8888 vlmbook`. It prints an address for the browser. With `--gpus all` the host needs NVIDIA's driver
#   and the NVIDIA Container Toolkit (I59).
# - **VS Code or another editor with dev containers**: open the folder, and choose *Reopen in Container*. [.devcontainer](../.devcontainer/devcontainer.json) starts the same image.
# - **Without git and without a service**: `python -m tools zip` packs notebooks with their outputs, the package and `constraints.txt` into one file in `dist/`. The same files give the same bytes, so two people can
#   compare checksums.

# %% tags=["claims"]
assert "patch level" in book_faults[0] and "digest" in book_faults[1]
assert not experiments.lint_image("nvidia/cuda:12.6.3-cudnn-runtime-ubuntu24.04@sha256:" + 64 * "0")
if dockerfile.exists():
    assert not [fault for fault in ours if "root" in fault or "constraints" in fault]
records.record(
    "appendix_c",
    seed=0,
    contrast_left=contrasts,
    difference={
        kind: {op: {n: pair[0] for n, pair in each.items()} for op, each in rows.items()}
        for kind, rows in found.items()
    },
    milliseconds=times,
    network_milliseconds=by_setting,
    **({} if isinstance(compiled, str) else {"compile": compiled}),
    **({} if launch is None else {"launch_milliseconds": launch}),
);

# %% [markdown]
# ## 12 Exercises
#
# Answer in the cell, run it, and `check` says what is wrong. `hint("appendix_c.1")` helps in steps, `solution("appendix_c.1")` shows one answer.
#
# **1 · Predict.** `image = Image.new("RGB", (300, 200), (250, 10, 0))`. Give the shape of `np.asarray(image.resize((60, 80)))`, the dtype of `np.asarray(image) / 255` as text, and the value of
# `(np.asarray(image) + np.uint8(10))[0, 0]`.

# %%
prediction = ...  # {"shape": (…, …, …), "dtype": "…", "value": (…, …, …)}
check("appendix_c.1", prediction)


# %% [markdown]
# **2 · Find the bug.** A colleague wrote this function. `bgr` is what `cv2.imread` returned. It should give an RGB array of half the height and half the width, bilinear with anti-aliasing by Pillow, and
# raise `FileNotFoundError` for a file that was not there. There are four faults.
#
# ```python
# def thumbnail(bgr):
#     height, width, _ = bgr.shape
#     image = Image.fromarray(bgr)
#     image.resize((height // 2, width // 2), Image.Resampling.BILINEAR)
#     return np.asarray(image)
# ```

# %%
def thumbnail(bgr):  # None or (H, W, 3) -> (H // 2, W // 2, 3)
    ...


check("appendix_c.2", thumbnail)

# %% [markdown]
# **3 · Measure.** In which photograph is aliasing largest? For four or more names of `data.photo_names()`, shrink `data.photo(name)` by 4 with `TF.resize(x, [H // 4, W // 4], antialias=…)`,
# once with `True` and once with `False`. Give the root of the mean squared difference in grey levels from 0 to 255. Guess the order before you measure.

# %%
aliasing = ...  # {"brick": 7.1, …, "largest": "…"}
check("appendix_c.3", aliasing)

# %% [markdown]
# ## 13 At full size
#
# `VLMBOOK_PROFILE=full` takes more repeats, and measures `torch.compile`. With a GPU, section 10 measures CUDA, cuDNN and mixed precision in both profiles.

# %% tags=["record"]
records.show("appendix_c", "full")

# %% [markdown]
# ## 14 Book check
#
# The book's snippets of Pillow and NumPy as printed, on a picture of 300 columns and 200 rows; then the layers of its `Sequential`, here in PyTorch, whose sizes are open as in the book.

# %%
image = Image.new("RGB", (300, 200))
image.resize((100, 100))  # as printed: the result is discarded
print("W28 size after image.resize((100, 100)):", image.size)
print("I56 size", image.size, "but shape", np.array(image).shape)
print("I55 the package is called pillow, the module PIL, version", Image.__version__)
unbuilt = experiments.make_unbuilt()
still_open = experiments.count_open(unbuilt)
print("I57 parameters without a shape:", still_open, end=", ")
unbuilt(torch.zeros(1, 1, 28, 28))
parameters = sum(p.numel() for p in unbuilt.parameters())
print(f"after the first image: {experiments.count_open(unbuilt)}, in all {parameters:,} numbers")

# %% tags=["claims"]
assert image.size == (300, 200) and np.array(image).shape == (200, 300, 3)
assert still_open == 6 and experiments.count_open(unbuilt) == 0
assert parameters == (9 * 32 + 32) + (26 * 26 * 32 * 128 + 128) + (128 * 10 + 10)

# %% [markdown]
# - **W26 · cuDNN** ("set_image_data_format"). The call sets what is set already, and does not touch cuDNN. Ask `torch.backends.cudnn.version()`: section 10.
# - **W27 · The image `11.0-devel-ubuntu18.04`.** The tag has no patch level. Tags of this form were withdrawn: section 11. The image holds no Python.
# - **W28 · `image.resize` without an assignment.** It returns a new image: the cell above.
# - **M35 · "Model optimisation tools".** CUDA, cuDNN and Docker optimise no model: sections 10 and 11, [chapter 7a](ch07a_efficiency.ipynb).
# - **M36 · `cv2.imread` without a test.** `None`, and BGR: section 2.
# - **I55 · Pillow "supplements" PIL.** It is a fork (分支) that replaces PIL. Both cannot be installed together.
# - **I56 · `np.array(image)`.** Where `image` comes from decides on RGB or BGR, and `(W, H)` becomes `(H, W, C)`: section 2 and the cell above.
# - **I57 · A `Sequential` without an input size.** It has no weights until it sees an image. Then it has 2.8 million: the cell above.
# - **I58 · The list of devices.** The result is not used: section 10.
# - **I59 · `docker run --gpus all`.** The driver, the toolkit, `--rm` and a Dockerfile are missing: section 11.
#
# ## 15 What we learned
#
# - A picture needs four words beside it: order of channels, order of axes, type and range. A wrong one raises no error.
# - Match the settings before you compare two libraries. Then what remains is rounding, nearly always.
# - Shrinking without anti-aliasing invents patterns. `image[::4]` and `cv2.resize` by default do not remove fine details.
# - Half a pixel at the centre of a rotation changes nine of ten values.
# - A speed-up is a property of a machine: measure it there, wait for the GPU, and fix the versions of what was measured.
#
# **References.** OpenCV documentation, *imread, resize, warpAffine, GaussianBlur* · Pillow documentation, *Image, ImageFilter, About* · scikit-image documentation, *transform, color, filters* · torchvision documentation,
# *transforms.v2* · NumPy documentation, *Data types* · ITU-R Recommendations BT.601 and BT.709 · G. Parmar, R. Zhang, J.-Y. Zhu, *On aliased resizing and surprising subtleties in GAN evaluation*, CVPR 2022,
# arXiv:2104.11222 · PyTorch documentation, *CUDA semantics, Automatic mixed precision, Channels last, torch.compile* · Docker documentation, *Building best practices* · NVIDIA Container Toolkit documentation.
