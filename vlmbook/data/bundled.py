"""Real images inside the wheels of scikit-learn and scikit-image: no download, the same bits on every
machine.
"""

import torch
from skimage import data as skimage_data
from skimage.util import img_as_float32
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional as F

from vlmbook.data.splits import SPLITS
from vlmbook.validation import require_choice, require_whole

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


def photo_names() -> list[str]:
    """-> list of str: the names that `photo` takes, in alphabetical order."""
    return sorted(PHOTOS)


def photo(name: str) -> torch.Tensor:
    """str -> (3, H, W) float32 in [0, 1]: a photograph of scikit-image's collection; a grey one fills all
    three channels.

    Raises ValueError for a name that is not in `photo_names()`.
    """
    name = require_choice(name, "name", photo_names())
    image = torch.from_numpy(img_as_float32(PHOTOS[name]()).copy())
    if image.ndim == 2:
        return image.expand(3, -1, -1).clone()
    return image[..., :3].permute(2, 0, 1).contiguous()


def digits(split: str, *, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """-> (N, 1, size, size) float32 in [0, 1], (N,) int64: scikit-learn's scanned digits [Alpaydin & Kaynak
    1998, UCI].

    `split` is "train" (1,437 images) or "test" (360): a fixed split with the same share of each class in
    both. `size` other than 8 resamples bilinearly. Raises TypeError or ValueError for another split or a size
    outside 1 to 512.
    """
    split = require_choice(split, "split", SPLITS)
    size = require_whole(size, "size", most=512)
    bunch = load_digits()
    parts = train_test_split(bunch.images, bunch.target, test_size=360, random_state=0, stratify=bunch.target)
    images, labels = parts[0::2] if split == "train" else parts[1::2]
    images = torch.from_numpy(images).float().unsqueeze(1) / 16  # the scanner counts 0 to 16 dark pixels
    if size != 8:
        images = F.interpolate(
            images, size=(size, size), mode="bilinear", align_corners=False, antialias=size < 8
        )
    return images.clamp(0, 1), torch.from_numpy(labels).long()


def face_patches() -> tuple[torch.Tensor, torch.Tensor]:
    """-> (200, 1, 25, 25) float32 in [0, 1], (200,) int64: 100 faces (label 1), then 100 patches without one
    (0).

    Grey crops of Labeled Faces in the Wild [Huang et al. 2007], as scikit-image's `lfw_subset` carries them.
    """
    images = torch.from_numpy(skimage_data.lfw_subset()).float().unsqueeze(1)
    return images, torch.arange(200).lt(100).long()
