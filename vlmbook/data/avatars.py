"""Drawn faces: who it is stays fixed; pose, light, expression, glasses and noise change from image to image.

No photograph of a person goes into them. The face is a picture on the front of an ellipsoid. Each pixel of an
image asks where on the turned ellipsoid it lies, which colour is there, and how much light falls on it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from vlmbook.data.backgrounds import crop_photo
from vlmbook.validation import require_whole

MOST_IMAGES = 1_000_000
MOST_PIXELS = 1024  # a side
GROUNDS = ("brick", "grass", "gravel")  # grey, so that colour belongs to the person and the light
DEPTH = 0.9  # of the head from its middle to the nose; its height from the middle to the chin is 1

# Each from light to dark.
SKINS = np.array([(0.98, 0.86, 0.76), (0.89, 0.70, 0.55), (0.66, 0.46, 0.33), (0.36, 0.24, 0.18)])
HAIRS = np.array(
    [(0.86, 0.74, 0.45), (0.72, 0.33, 0.12), (0.42, 0.26, 0.15), (0.22, 0.14, 0.10), (0.07, 0.06, 0.08)]
)
IRISES = np.array([(0.45, 0.62, 0.75), (0.40, 0.50, 0.30), (0.42, 0.27, 0.14), (0.20, 0.13, 0.09)])


@dataclass(frozen=True, eq=False)
class Avatars:
    """n drawn faces of several people, person by person."""

    images: torch.Tensor  # (n, 3, size, size) float32 in [0, 1]
    labels: torch.Tensor  # (n,) int64: who it is, from 0
    tones: torch.Tensor  # (n,) float32: the person's skin, from 0, light, to 1, dark
    glasses: torch.Tensor  # (n,) bool: are glasses worn in this image?

    def __len__(self) -> int:
        return len(self.images)


def avatars(people: int, shots: int, *, size: int = 48, seed: int = 0) -> Avatars:
    """-> Avatars: so many images (`shots`) of each of so many drawn people, over grey textures.

    A person has a head, hair, brows, eyes, a nose, a mouth, perhaps a beard, freckles, a mole and a pair of
    glasses. An image has a pose (yaw up to 29°, pitch 11°, roll 10°), a place and a scale, a light, an
    expression, noise and blur; a person with glasses wears them in half of the images. The head fills most
    of the image, as in a crop around a detected face.

    Image j of person i depends on `seed`, `size`, i and j alone. Raises TypeError or ValueError for people or
    shots below 1, size outside 16 to 1024, or seed < 0.
    """
    people = require_whole(people, "people", most=MOST_IMAGES)
    shots = require_whole(shots, "shots", most=MOST_IMAGES // people)
    size = require_whole(size, "size", least=16, most=MOST_PIXELS)
    seed = require_whole(seed, "seed", least=0)
    images = torch.empty(people * shots, 3, size, size)
    tones = torch.empty(people * shots)
    glasses = torch.empty(people * shots, dtype=torch.bool)
    for number in range(people * shots):
        i, j = divmod(number, shots)
        person = _draw_person(np.random.default_rng([seed, i]))
        rng = np.random.default_rng([seed, i, j])
        shot = _draw_shot(rng)
        ground = crop_photo(rng, GROUNDS, size, channels=3).permute(1, 2, 0).numpy()
        wears = person["has_glasses"] and shot["wears_glasses"]
        pixels = _photograph(person, shot, ground, wears)
        pixels = pixels + shot["noise"] * rng.standard_normal(pixels.shape)
        images[number] = torch.from_numpy(pixels.clip(0, 1).astype(np.float32)).permute(2, 0, 1)
        tones[number] = person["tone"]
        glasses[number] = wears
    return Avatars(images, torch.arange(people).repeat_interleave(shots), tones, glasses)


# --- what is drawn at random --------------------------------------------------------------------------------


def _draw_person(rng):
    """-> dict: all that stays. Lengths are in half heights of the head, x to the right, y downwards."""
    uniform = rng.uniform
    tone = uniform()
    hair = np.clip(uniform(-0.35, 1) + 0.5 * tone, 0, 1)
    grey = uniform() < 0.08
    return {
        "tone": tone,
        "skin": _blend(SKINS, tone) * uniform(0.94, 1.04, 3),
        "hair": np.full(3, uniform(0.5, 0.85)) if grey else _blend(HAIRS, hair),
        "iris": _blend(IRISES, np.clip(uniform(-0.2, 1) + 0.4 * tone, 0, 1)),
        "width": uniform(0.70, 0.86),
        "jaw": uniform(0.05, 0.38),
        "ear": uniform(0.10, 0.19),
        "hairline": uniform(-0.82, -0.36),
        "fringe": uniform(-0.5, 1.0),  # lower at the sides, or higher
        "parting": uniform(-0.5, 0.5),
        "waves": (uniform(0, 0.1), uniform(4, 11), uniform(0, 6.3)),
        "sides": uniform(-0.5, 1.1),  # how far down the hair hangs
        "volume": uniform(1.02, 1.28),
        "bald": uniform() < 0.04,
        "brow": (uniform(0.13, 0.25), uniform(0.02, 0.075), uniform(-0.4, 0.35), uniform(0.6, 1)),
        "eyes": (uniform(0.25, 0.41), uniform(-0.2, 0.06)),
        "eye": (uniform(0.1, 0.175), uniform(0.045, 0.1), uniform(-0.4, 0.4)),
        "nose": (uniform(0.24, 0.42), uniform(0.08, 0.2), uniform(0.25, 0.7)),
        "mouth": (uniform(0.46, 0.60), uniform(0.16, 0.36), uniform(0.025, 0.085)),
        "lips": uniform(0.15, 0.7),
        "beard": uniform(0.25, 0.85) if uniform() < 0.35 else 0.0,
        "moustache": uniform() < 0.5,
        "freckles": [(uniform(-0.4, 0.4), uniform(0.0, 0.32)) for _ in range(12)] if uniform() < 0.2 else [],
        "mole": (uniform(-0.5, 0.5), uniform(-0.35, 0.7)) if uniform() < 0.4 else None,
        "has_glasses": uniform() < 0.4,
        "frame": (uniform(0.17, 0.24), uniform(0.12, 0.2), uniform(2, 5), uniform(0.0, 0.5, 3)),
    }


def _draw_shot(rng):
    """-> dict: all that changes from image to image. Angles are in radians."""
    uniform = rng.uniform
    side, up = uniform(-1, 1), uniform(-0.9, 0.3)
    light = np.array([side, up, uniform(0.4, 1.2)])
    ambient = uniform(0.45, 0.75)
    return {
        "yaw": np.clip(rng.normal(0, 0.2), -0.5, 0.5),
        "pitch": np.clip(rng.normal(0, 0.09), -0.2, 0.2),
        "roll": np.clip(rng.normal(0, 0.07), -0.17, 0.17),
        "shift": uniform(-0.05, 0.05, 2),
        "scale": uniform(0.78, 0.9),
        "light": light / np.linalg.norm(light),
        "ambient": ambient,
        "direct": uniform(0.9, 1.3) - ambient,
        "tint": uniform(0.94, 1.06, 3) * uniform(0.75, 1.1),
        "smile": uniform(-0.6, 1.0),
        "open": max(0.0, uniform(-1.0, 1.0)),
        "lids": uniform(0.5, 1.1),
        "brows": uniform(-0.03, 0.06),
        "gaze": uniform(-0.35, 0.35, 2),
        "wears_glasses": uniform() < 0.5,
        "clothes": uniform(0.1, 0.9, 3),
        "blur": max(0.0, uniform(-0.6, 0.6)),
        "noise": uniform(0.005, 0.03),
    }


def _blend(colours, position):
    """(k, 3), position from 0 to 1 -> (3,): a colour between two neighbours."""
    at = position * (len(colours) - 1)
    return np.array([np.interp(at, range(len(colours)), channel) for channel in colours.T])


# --- one photograph -----------------------------------------------------------------------------------------


def _photograph(person, shot, ground, glasses):
    """-> (size, size, 3): the person in front of the ground, under that light."""
    size = len(ground)
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    u, v = np.meshgrid(axis, axis)
    u, v = _turn((u - shot["shift"][0]) / shot["scale"], (v - shot["shift"][1]) / shot["scale"], shot["roll"])
    edge = 2 / size / shot["scale"]  # one pixel, in half heights of the head
    picture = _draw_body(ground, u, v, person, shot, edge)
    picture = _draw_hair_behind(picture, u, v, person, shot, edge)
    picture = _draw_ears(picture, u, v, person, shot, edge)
    picture = _draw_head(picture, u, v, person, shot, edge, glasses)
    picture = picture * shot["tint"]
    return _blur(picture, shot["blur"])


def _draw_body(picture, u, v, person, shot, edge):
    neck = _inside(0.34 - abs(u), edge) * _inside(v, edge)
    picture = _paint(picture, neck, person["skin"] * 0.75 * (shot["ambient"] + 0.4 * shot["direct"]))
    shoulders = _inside(1 - (u / 1.05) ** 2 - ((v - 1.75) / 0.62) ** 2, 2 * edge)
    return _paint(picture, shoulders, shot["clothes"])


def _draw_hair_behind(picture, u, v, person, shot, edge):
    """Long hair beside the neck, and the volume around the skull."""
    if person["bald"]:
        return picture
    wide, low = person["width"] * person["volume"], person["sides"]
    shade = person["hair"] * (0.55 + 0.3 * shot["ambient"])
    skull = _inside(1 - (u / wide) ** 2 - (v / person["volume"]) ** 2, 2 * edge) * _inside(low - v, edge)
    hanging = _inside(wide - abs(u), edge) * _inside(low - v, edge) * _inside(v, edge)
    return _paint(picture, np.maximum(skull, hanging), shade)


def _draw_ears(picture, u, v, person, shot, edge):
    for side in (-1, 1):
        depth = person["width"] * np.cos(shot["yaw"])  # an ear stands at the side of the head
        x = side * depth - 0.05 * np.sin(shot["yaw"])
        y = person["eyes"][1] + 0.12 - 0.3 * np.sin(shot["pitch"])
        ear = _inside(
            1 - ((u - x) / (0.6 * person["ear"])) ** 2 - ((v - y) / (1.3 * person["ear"])) ** 2, 2 * edge
        )
        picture = _paint(picture, ear, person["skin"] * 0.8 * (shot["ambient"] + 0.5 * shot["direct"]))
    return picture


def _draw_head(picture, u, v, person, shot, edge, glasses):
    narrow = 1 - person["jaw"] * v.clip(0, 1) ** 2
    a = person["width"]
    p, q = u / (a * narrow), v
    radius = p * p + q * q
    z = DEPTH * np.sqrt((1 - radius).clip(0, 1))
    x, y, front = _rotate(u / narrow, v, z, -shot["yaw"], -shot["pitch"])
    normal = np.stack([p / a, q, z / DEPTH**2], axis=-1)
    colour, relief = _draw_face(x, y, front, person, shot, edge, glasses)
    normal = normal / np.linalg.norm(normal, axis=-1, keepdims=True).clip(1e-6) + relief
    normal = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    light = shot["ambient"] + shot["direct"] * (normal @ shot["light"]).clip(0)
    head = _inside(1 - radius, 2.5 * edge)
    return _paint(picture, head, colour * light[..., None])


def _rotate(x, y, z, yaw, pitch):
    """Points of the turned head -> where they are on the head that looks ahead."""
    y, z = y * np.cos(pitch) - z * np.sin(pitch), y * np.sin(pitch) + z * np.cos(pitch)
    x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
    return x, y, z


# --- the face, as it is painted on the front of the head ----------------------------------------------------


def _draw_face(x, y, front, person, shot, edge, glasses):
    """-> (H, W, 3) colours without light; (H, W, 3) how the nose turns the normals."""
    skin = person["skin"]
    face = np.broadcast_to(skin, (*x.shape, 3))
    face = _draw_marks(face, x, y, person, edge)
    face, relief = _draw_nose(face, x, y, person, edge)
    face = _draw_beard(face, x, y, person, edge)
    face = _draw_mouth(face, x, y, person, shot, edge)
    for side in (-1, 1):
        face = _draw_eye(face, x, y, person, shot, edge, side)
        face = _draw_brow(face, x, y, person, shot, edge, side)
    if not person["bald"]:
        face = _paint(face, _hair_on_top(x, y, front, person, edge), person["hair"])
    if glasses:
        face = _draw_glasses(face, x, y, person, edge)
    return face, relief * (front > 0)[..., None]


def _draw_marks(face, x, y, person, edge):
    spots = [(*place, 0.018, 0.45) for place in person["freckles"]]
    if person["mole"]:
        spots.append((*person["mole"], 0.035, 0.9))
    for left, top, radius, strength in spots:
        spot = _inside(1 - ((x - left) ** 2 + (y - top) ** 2) / radius**2, 2 * edge / radius)
        face = _paint(face, strength * spot, person["skin"] * 0.45)
    cheeks = np.exp(-((abs(x) - 0.42) ** 2 + (y - 0.28) ** 2) / 0.03)
    return _paint(face, 0.18 * cheeks, person["skin"] * (1.05, 0.72, 0.68))


def _draw_nose(face, x, y, person, edge):
    """The relief is the slope of a ridge from the eyes to the tip, and of two wings."""
    length, width, height = person["nose"]
    top = person["eyes"][1]
    tip = top + length
    along = np.exp(-(((y - top - 0.62 * length) / (0.55 * length)) ** 2))
    spread = width * (0.55 + 0.45 * ((y - top) / length).clip(0, 1))
    ridge = np.exp(-((x / spread) ** 2)) * along * height
    slope_x = 2 * x / spread**2 * ridge * 0.12
    slope_y = np.exp(-((x / width) ** 2)) * _bump(y - tip, 0.07) * height * 0.9
    shadow = np.exp(-((x / (1.1 * width)) ** 2)) * _bump(y - tip - 0.05, 0.05)
    face = _paint(face, 0.45 * height * shadow, person["skin"] * 0.5)
    for side in (-1, 1):
        hole = 1 - ((x - side * 0.5 * width) / 0.05) ** 2 - ((y - tip) / 0.03) ** 2
        face = _paint(face, 0.8 * _inside(hole, 3 * edge / 0.05), person["skin"] * 0.3)
    relief = np.stack([slope_x, slope_y, np.zeros_like(x)], axis=-1)
    return face, relief


def _draw_beard(face, x, y, person, edge):
    if not person["beard"]:
        return face
    mouth = person["mouth"][0]
    chin = _inside(y - mouth + 0.12 + 0.6 * (0.55 - abs(x)).clip(0) - 0.3, 6 * edge)
    cover = chin * _inside(abs(x) + y - 0.55, 6 * edge)
    if person["moustache"]:
        cover = np.maximum(cover, np.exp(-((x / 0.22) ** 4)) * _bump(y - mouth + 0.1, 0.05))
    return _paint(face, person["beard"] * cover, person["hair"] * 0.9)


def _draw_mouth(face, x, y, person, shot, edge):
    place, width, lips = person["mouth"]
    width = width * (1 + 0.15 * shot["smile"])
    bend = shot["smile"] * 0.12 * ((x / width) ** 2 - 0.4)
    line = y - place + bend
    gap = 0.08 * shot["open"]
    taper = (1 - (x / width) ** 2).clip(0)
    red = person["skin"] * (1 - person["lips"] * np.array([0.15, 0.6, 0.55]))
    mouth = _inside((lips + gap) * np.sqrt(taper) - abs(line), edge) * (taper > 0)
    face = _paint(face, mouth, red)
    inner = _inside((gap + 0.012) * np.sqrt(taper) - abs(line), edge) * (taper > 0)
    face = _paint(face, inner, (0.25, 0.08, 0.08))
    teeth = inner * _inside(-line - 0.1 * gap, edge) * (gap > 0.02)
    return _paint(face, 0.85 * teeth, (0.93, 0.91, 0.86))


def _draw_eye(face, x, y, person, shot, edge, side):
    spacing, level = person["eyes"]
    width, height, slant = person["eye"]
    across = side * x - spacing
    down = y - level + slant * across
    opening = height * shot["lids"]
    taper = 1 - (across / width) ** 2
    white = _inside(opening * np.sqrt(taper.clip(0)) - abs(down), edge) * (taper > 0)
    hollow = np.exp(-((across / 0.24) ** 2) - ((down + 0.02) / 0.15) ** 2)
    face = _paint(face, 0.22 * hollow, person["skin"] * 0.55)
    face = _paint(face, white, (0.94, 0.93, 0.91))
    gaze_x, gaze_y = shot["gaze"] * (width * 0.6, height * 0.4)
    distance = np.hypot(across - side * gaze_x, down - gaze_y)
    face = _paint(face, white * _inside(0.9 * height - distance, edge), person["iris"])
    face = _paint(face, white * _inside(0.42 * height - distance, edge), (0.04, 0.04, 0.04))
    lid = _inside(0.02 - abs(down + opening * np.sqrt(taper.clip(0))), edge) * (taper > 0)
    return _paint(face, 0.9 * lid, person["hair"] * 0.35)


def _draw_brow(face, x, y, person, shot, edge, side):
    spacing, level = person["eyes"]
    length, thick, slope, strength = person["brow"]
    across = side * x - spacing
    arch = (
        y - (level - 0.17 - shot["brows"]) - slope * across * 0.5 + 0.9 * (0.1 - across).clip(-0.2, 0.1) ** 2
    )
    taper = (1 - (across / length) ** 2).clip(0)
    brow = _inside(thick * np.sqrt(taper) - abs(arch), edge) * (taper > 0)
    return _paint(face, strength * brow, person["hair"] * 0.6)


def _hair_on_top(x, y, front, person, edge):
    """Where hair covers the head: above the hairline, at the temples, and behind."""
    depth, number, phase = person["waves"]
    line = (
        person["hairline"]
        + person["fringe"] * (x - person["parting"]) ** 2
        + depth * np.sin(number * x + phase)
    )
    temple = _inside(abs(x) - 0.93 * person["width"], 2 * edge) * _inside(person["sides"] - y, edge)
    behind = _inside(-front, 4 * edge) * _inside(person["sides"] + 0.3 - y, edge)
    return np.maximum(_inside(line - y, edge), np.maximum(temple, behind))


def _draw_glasses(face, x, y, person, edge):
    half_width, half_height, power, colour = person["frame"]
    spacing, level = person["eyes"]
    across = abs(x) - spacing - 0.01
    radius = (abs(across / half_width) ** power + abs((y - level - 0.02) / half_height) ** power) ** (
        1 / power
    )
    rim = _inside(0.035 - abs(radius - 1) * min(half_width, half_height), edge)
    bridge = _inside(0.03 - abs(y - level + 0.02), edge) * _inside(spacing - half_width - abs(x), edge)
    arms = _inside(0.03 - abs(y - level + 0.03), edge) * _inside(abs(x) - spacing - half_width, edge)
    face = _paint(face, 0.12 * _inside(1 - radius, edge / half_width), (0.85, 0.9, 1.0))
    return _paint(face, np.maximum(rim, np.maximum(bridge, arms)), colour)


# --- brushes ------------------------------------------------------------------------------------------------


def _inside(margin, edge):
    """-> cover from 0 to 1: margin > 0 lies inside, and `edge` is how wide the border is smoothed."""
    return (margin / edge + 0.5).clip(0, 1)


def _bump(distance, width):
    return np.exp(-((distance / width) ** 2))


def _paint(picture, cover, colour):
    """(H, W, 3), (H, W), (3,) or (H, W, 3) -> (H, W, 3)"""
    return picture + np.asarray(cover)[..., None] * (np.asarray(colour) - picture)


def _turn(u, v, angle):
    return u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)


def _blur(picture, sigma):
    """(H, W, 3), sigma in pixels of an image with 48 a side -> (H, W, 3)"""
    if sigma < 0.05:
        return picture
    return gaussian_filter(picture, (sigma * len(picture) / 48,) * 2 + (0,))
