"""A painting that is drawn by code: brush strokes along a whirling wind. So the book needs nobody's picture
to show a style.
"""

import numpy as np
import torch
from scipy import ndimage

PALETTE = np.array([[18, 32, 90], [36, 78, 160], [90, 150, 200], [235, 200, 90], [250, 235, 170]]) / 255
WHIRLS = 7
STROKE = 14  # pixels from the middle of a stroke to its end


def paint_whirls(size: int = 256, seed: int = 0) -> torch.Tensor:
    """int -> (3, size, size) float32 in [0, 1]: whirls of blue and yellow strokes.

    The strokes are noise that is averaged along the wind, a line integral convolution [Cabral & Leedom 1993,
    SIGGRAPH].
    """
    rng = np.random.default_rng(seed)
    wind, glow = _draw_wind(size, rng)
    noise = ndimage.gaussian_filter(rng.standard_normal((3, size, size)), (0, 1.2, 1.2))
    strokes = _average_along(noise, wind)
    colours = _mix_colours(0.28 + 0.16 * strokes[0] + 0.62 * glow)
    relief = ndimage.gaussian_filter(strokes[0], 0.7)
    relief = relief - np.roll(relief, (1, 1), (0, 1))  # light from the upper left
    painted = colours + 0.05 * strokes + 0.05 * relief
    return torch.from_numpy(painted.clip(0, 1)).float()


def _draw_wind(size, rng):
    """-> (2, H, W) directions (y, x) of length 1, (H, W) the glow in the middle of each whirl."""
    y, x = np.mgrid[0:size, 0:size] / size
    stream, glow = 0.6 * y, np.zeros((size, size))
    for _ in range(WHIRLS):
        centre_y, centre_x = rng.uniform(0.05, 0.95, 2)
        radius, sense = rng.uniform(0.05, 0.13), rng.choice([-1, 1])
        distance = (x - centre_x) ** 2 + (y - centre_y) ** 2
        stream += 0.25 * sense * np.exp(-distance / (2 * radius**2))
        glow += np.exp(-distance / (2 * (0.6 * radius) ** 2))
    slope_y, slope_x = np.gradient(stream)
    wind = np.stack([-slope_x, slope_y])  # along the lines of equal height
    return wind / (np.hypot(*wind) + 1e-9), glow.clip(0, 1)


def _average_along(noise, wind):
    """(3, H, W), (2, H, W) -> (3, H, W) of standard deviation 1: sums of the noise along the wind."""
    start = np.mgrid[0 : noise.shape[1], 0 : noise.shape[2]].astype(float)
    total = np.zeros_like(noise)
    for sense in (1, -1):
        position = start.copy()
        for _ in range(STROKE):
            total += _sample(noise, position)
            position += sense * _sample(wind, position)
    return total / total.std()


def _sample(field, position):
    """(C, H, W), (2, H, W) -> (C, H, W): the field's values at these positions."""
    return np.stack([ndimage.map_coordinates(each, position, order=1, mode="reflect") for each in field])


def _mix_colours(brightness):
    """(H, W) -> (3, H, W): between neighbouring colours of the palette."""
    place = brightness.clip(0, 1) * (len(PALETTE) - 1)
    return np.stack([np.interp(place, np.arange(len(PALETTE)), channel) for channel in PALETTE.T])
