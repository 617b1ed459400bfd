"""Two older ways to embed a face: eigenfaces and histograms of local binary patterns.

Faces are (B, 1, H, W) floating in [0, 1], cut to one size.
"""

import numpy as np
import torch
from skimage.feature import local_binary_pattern
from sklearn.decomposition import PCA

from vlmbook.validation import require_pair, require_tensor, require_whole

NEIGHBOURS = 8  # pixels around a pixel, at a distance of one
PATTERNS = NEIGHBOURS * (NEIGHBOURS - 1) + 3  # uniform ones that keep the direction, and all others as one


class Eigenfaces:
    """Principal components of faces [Turk & Pentland 1991]: (B, 1, H, W) -> (B, components).

    `faces` (N, 1, H, W) are those that the components are computed of. `first` components, which hold most of
    the light, are left out. Each of the others is divided by its standard deviation, and an embedding has
    length 1. Raises TypeError or ValueError for fewer faces than components.
    """

    def __init__(self, faces: torch.Tensor, components: int = 64, *, first: int = 3):
        require_tensor(faces, "faces", "N 1 H W", least=0, most=1)
        components = require_whole(components, "components")
        self.first = require_whole(first, "first", least=0)
        self.size = tuple(faces.shape[2:])
        most = min(len(faces) - 1, faces[0].numel())
        if self.first + components > most:
            raise ValueError(f"components wants at most {most - self.first} of these faces, got {components}")
        self.pca = PCA(self.first + components, whiten=True, svd_solver="full").fit(_flat(faces))

    def __call__(self, faces: torch.Tensor) -> torch.Tensor:
        height, width = self.size
        require_tensor(faces, "faces", f"B 1 {height} {width}", empty="B", least=0, most=1)
        if not len(faces):
            return torch.zeros(0, self.pca.n_components_ - self.first)
        scores = torch.from_numpy(self.pca.transform(_flat(faces))[:, self.first :]).float()
        return torch.nn.functional.normalize(scores)


def lbp_histograms(faces: torch.Tensor, grid: int | tuple[int, int] = 7) -> torch.Tensor:
    """(B, 1, H, W) -> (B, rows·columns·59): in each cell of a grid the shares of the local binary patterns
    [Ahonen et al. 2006].

    A pattern says which of the 8 pixels around a pixel are brighter. The square roots of the shares are
    returned, so that the Euclidean distance is Hellinger's. Raises TypeError or ValueError for what are no
    faces and for a grid with more cells than pixels.
    """
    require_tensor(faces, "faces", "B 1 H W", empty="B", least=0, most=1)
    rows, columns = require_pair(grid, "grid", most=64)
    if rows > faces.shape[2] or columns > faces.shape[3]:
        raise ValueError(
            f"grid wants at most one cell a pixel, got {(rows, columns)} of {tuple(faces.shape)}"
        )
    found = [_histograms(face, rows, columns) for face in _to_bytes(faces)]
    width = rows * columns * PATTERNS
    return torch.from_numpy(np.stack(found)).float() if found else torch.zeros(0, width)


def _histograms(face, rows, columns):
    """(H, W) uint8 -> (rows·columns·59,)."""
    wide = np.pad(face, 1, mode="edge")  # outside, an image is as bright as at its edge
    patterns = local_binary_pattern(wide, NEIGHBOURS, 1, method="nri_uniform")[1:-1, 1:-1].astype(np.int64)
    cells = [cell for row in np.array_split(patterns, rows) for cell in np.array_split(row, columns, axis=1)]
    counts = np.stack([np.bincount(cell.ravel(), minlength=PATTERNS) / cell.size for cell in cells])
    return np.sqrt(counts).ravel() / len(cells) ** 0.5


def _flat(faces):
    """(B, 1, H, W) -> (B, H·W) float64, each with mean 0 and standard deviation 1."""
    x = faces.detach().cpu().double().flatten(1)
    x = x - x.mean(1, keepdim=True)
    return (x / (x.square().mean(1, keepdim=True).sqrt() + 1e-3)).numpy()


def _to_bytes(faces):
    """(B, 1, H, W) in [0, 1] -> B of (H, W) uint8: rounding must not turn an even area into patterns."""
    return (255 * faces[:, 0].detach().cpu().float()).round().byte().numpy()
