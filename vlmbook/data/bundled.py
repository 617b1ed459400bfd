"""Real images inside the wheels of scikit-learn and scikit-image: no download, the same bits on every
machine.
"""

import torch
from skimage import data as skimage_data
from skimage.util import img_as_float32
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional as F

# Each is CC0 or in the public domain (scikit-image, docstring of the function) and lies in the wheel itself.
PHOTOS = {
    "astronaut": skimage_data.astronaut,
    "brick": skimage_data.brick,
    "camera": skimage_data.camera,
    "cat": skimage_data.cat,
    "cell": skimage_data.cell,
    "clock": skimage_data.clock,
    "coffee": skimage_data.coffee,
    "coins": skimage_data.coins,
    "grass": skimage_data.grass,
    "gravel": skimage_data.gravel,
    "horse": skimage_data.horse,
    "hubble": skimage_data.hubble_deep_field,
    "moon": skimage_data.moon,
    "page": skimage_data.page,
    "retina": skimage_data.retina,
    "rocket": skimage_data.rocket,
    "text": skimage_data.text,
    "tissue": skimage_data.immunohistochemistry,
}


def photo_names():
    """-> list of str: the names that `photo` takes, in alphabetical order."""
    return sorted(PHOTOS)


def photo(name):
    """str -> (3, H, W) float32 in [0, 1]: a photograph of scikit-image's collection; a grey one fills all
    three channels.

    Raises ValueError for a name that is not in `photo_names()`.
    """
    if name not in PHOTOS:
        raise ValueError(f"there is no photo {name!r}; there are {', '.join(photo_names())}")
    image = torch.from_numpy(img_as_float32(PHOTOS[name]()).copy())
    if image.ndim == 2:
        return image.expand(3, -1, -1).clone()
    return image[..., :3].permute(2, 0, 1).contiguous()


def digits(split, *, size=8):
    """-> (N, 1, size, size) float32 in [0, 1], (N,) int64: scikit-learn's scanned digits [Alpaydin & Kaynak
    1998, UCI].

    `split` is "train" (1,437 images) or "test" (360): a fixed split with the same share of each class in
    both. `size` other than 8 resamples bilinearly. Raises ValueError for another split or a size below 1.
    """
    if split not in ("train", "test"):
        raise ValueError(f'digits has the splits "train" and "test", got {split!r}')
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"digits wants a whole size of at least 1 pixel, got {size!r}")
    bunch = load_digits()
    parts = train_test_split(bunch.images, bunch.target, test_size=360, random_state=0, stratify=bunch.target)
    images, labels = parts[split == "test"], parts[2 + (split == "test")]
    images = torch.from_numpy(images).float().unsqueeze(1) / 16  # the scanner counts 0 to 16 dark pixels
    if size != 8:
        images = F.interpolate(
            images, size=(size, size), mode="bilinear", align_corners=False, antialias=size < 8
        )
    return images.clamp(0, 1), torch.from_numpy(labels).long()


def face_patches():
    """-> (200, 1, 25, 25) float32 in [0, 1], (200,) int64: 100 faces (label 1), then 100 patches without one
    (0).

    Grey crops of Labeled Faces in the Wild [Huang et al. 2007], as scikit-image's `lfw_subset` carries them.
    """
    images = torch.from_numpy(skimage_data.lfw_subset()).float().unsqueeze(1)
    return images, torch.arange(200).lt(100).long()


def split(images, labels, *, share, seed=0):
    """(N, …), (N,) -> ((images, labels), (images, labels)): the second with `share` of them, each class in
    proportion.

    So a validation part is held back from what is learned from; the same seed holds back the same images.
    Raises ValueError for a share outside (0, 1), and where a class is too small to be in both.
    """
    if not 0 < share < 1:
        raise ValueError(f"split wants a share between 0 and 1, got {share!r}")
    if len(images) != len(labels):
        raise ValueError(f"split wants one label for each image, got {len(labels)} and {len(images)}")
    keep, hold = train_test_split(
        torch.arange(len(labels)), test_size=share, random_state=seed, stratify=labels.cpu()
    )
    return (images[keep], labels[keep]), (images[hold], labels[hold])
