"""Appendix C: the same picture in memory, sampled, shrunk, turned and blurred by five libraries."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vlmbook import plot
from vlmbook.chapters.appendix_c import experiments

CHANNELS = {"R": plot.ORANGE, "G": plot.GREEN, "B": plot.BLUE}
MARKERS = ("o", "s", "^", "D", "v")
LAYOUTS = {
    "H W C, red first\nNumPy, Pillow, scikit-image": "RGB" * 6,
    "H W C, blue first\nOpenCV": "BGR" * 6,
    "C H W, red first\ntorchvision, PyTorch": "R" * 6 + "G" * 6 + "B" * 6,
}


def show(axes, levels: np.ndarray, title: str = "") -> None:
    """(H, W, C) in grey levels from 0 to 255."""
    plot.image(axes, levels.transpose(2, 0, 1) / 255, title)


def draw_layouts(figure: Figure) -> None:
    """The 18 numbers of a picture of 2 rows and 3 columns, in the order in which they stand in memory."""
    axes = figure.subplots()
    for row, (name, order) in enumerate(LAYOUTS.items()):
        for place, channel in enumerate(order):
            axes.add_patch(
                Rectangle((place, -1.9 * row), 0.94, 0.9, facecolor=CHANNELS[channel], edgecolor="white")
            )
            axes.text(place + 0.47, 0.45 - 1.9 * row, channel, color="white", ha="center", va="center")
        axes.text(-0.3, 0.45 - 1.9 * row, name, ha="right", va="center", fontsize=9)
    axes.annotate("first pixel", (1.4, 1.15), ha="center", fontsize=9)
    axes.plot([0.05, 2.85], [1.02, 1.02], color="0.3")
    axes.set(xlim=(-8.3, 18.1), ylim=(-4.0, 1.8), aspect="equal")
    axes.axis("off")


def draw_sampled_wave(figure: Figure, cycles: int = 7, samples: int = 8) -> None:
    """A wave, read at too few points: the points lie on another, slower wave too."""
    axes = figure.subplots()
    fine = np.linspace(0, 1, 600)
    at = (np.arange(samples) + 0.5) / samples
    slow = abs(cycles - samples * round(cycles / samples))
    axes.plot(fine, np.cos(2 * np.pi * cycles * (fine - at[0])), color=plot.GREY, label=f"{cycles} cycles")
    axes.plot(
        fine, np.cos(2 * np.pi * slow * (fine - at[0])), color=plot.ORANGE, label=f"what is seen: {slow}"
    )
    axes.plot(at, np.cos(2 * np.pi * cycles * (at - at[0])), "o", color=plot.BLUE, label=f"{samples} samples")
    axes.set(xlabel="position in the picture", yticks=[], ylim=(-1.25, 1.9))
    axes.legend(loc="upper center", ncols=3, frameon=False, fontsize=9)


def draw_centres(figure: Figure, size_in: int = 4, size_out: int = 8) -> None:
    """Old pixels as boxes, new pixels' centres as dots: centres of areas, and corners aligned."""
    axes = figure.subplots()
    conventions = {
        "pixels are areas": experiments.source_positions(size_in, size_out),
        "first and last pixel\nstay in place": np.linspace(0, size_in - 1, size_out),
    }
    for row, (name, positions) in enumerate(conventions.items()):
        for pixel in range(size_in):
            axes.add_patch(
                Rectangle((pixel - 0.5, -row - 0.28), 1, 0.56, facecolor="#E6F0F8", edgecolor=plot.BLUE)
            )
            axes.text(pixel, -row - 0.19, pixel, color=plot.BLUE, ha="center", va="center", fontsize=8)
        axes.plot(positions, np.full(size_out, -row + 0.08), "o", color=plot.ORANGE)
        axes.text(-0.65, -row, name, ha="right", va="center", fontsize=9)
    axes.set(xlim=(-2.6, size_in - 0.4), ylim=(-1.45, 0.45))
    axes.axis("off")


def draw_shrunk(figure: Figure, pictures: dict[str, np.ndarray], contrasts: dict[str, float]) -> None:
    """{library: (H, W, C)}, {library: grey levels left}: one zone plate after each shortest call."""
    panels = figure.subplots(1, len(pictures), squeeze=False)[0]
    for axes, (name, picture) in zip(panels, pictures.items(), strict=True):
        show(axes, picture, name)
        axes.set_xlabel(f"contrast {contrasts[name]:.0f}")


def draw_pair(figure: Figure, pictures: dict[str, np.ndarray]) -> None:
    """{title: (H, W, C) in grey levels}, side by side."""
    panels = figure.subplots(1, len(pictures), squeeze=False)[0]
    for axes, (title, picture) in zip(panels, pictures.items(), strict=True):
        show(axes, picture, title)


def draw_differences(figure: Figure, found: dict[str, dict[str, dict[str, tuple[float, float]]]]) -> None:
    """{settings: {operation: {library: (mean, largest) difference}}}: the means, a panel a setting."""
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (settings, rows) in zip(panels, found.items(), strict=True):
        means = np.array([[mean for mean, _ in row.values()] for row in rows.values()])
        plot.numbers(axes, means, f"{settings} settings", "{:.2f}", cmap="Oranges", vmin=0, vmax=8)
        names = list(next(iter(rows.values())))
        axes.set(xticks=range(len(names)), yticks=range(len(rows)))
        axes.set_xticklabels(names, rotation=35, ha="right", fontsize=8)
        axes.set_yticklabels(list(rows) if axes is panels[0] else [], fontsize=9)


def draw_kernels(figure: Figure, responses: dict[str, np.ndarray]) -> None:
    """{call: (width,)}: what each blur makes of one white column."""
    axes = figure.subplots()
    for (name, response), marker in zip(responses.items(), MARKERS, strict=False):
        x = np.arange(len(response)) - len(response) // 2
        axes.plot(x, response, marker=marker, markersize=4, linewidth=1, label=name)
    axes.set(xlabel="distance in pixels", ylabel="share of the brightness", xlim=(-14, 14))
    axes.legend(frameon=False, fontsize=8)


def draw_times(figure: Figure, times: dict[str, dict[str, float]]) -> None:
    """{operation: {library: milliseconds}}: a row an operation, a mark a library, on a logarithmic axis."""
    axes = figure.subplots()
    names = list(next(iter(times.values())))
    for number, name in enumerate(names):
        values = [row[name] for row in times.values()]
        axes.plot(values, range(len(times)), MARKERS[number], markersize=7, label=name, alpha=0.85)
    axes.set(yticks=range(len(times)), yticklabels=list(times), xlabel="milliseconds", xscale="log")
    axes.set_ylim(len(times) - 0.5, -0.5)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)


def draw_playground(
    figure: Figure,
    image: np.ndarray,
    operation: str,
    first: str,
    second: str,
    settings: str,
    amount: int,
) -> None:
    """(H, W, 3): one operation in two libraries, and the difference of the results."""
    results = [experiments.apply(operation, library, image, settings, amount) for library in (first, second)]
    panels = figure.subplots(1, 3)
    for axes, library, result in zip(panels, (first, second), results, strict=False):
        show(axes, result, library)
    difference = (results[1] - results[0]).mean(2)
    limit = max(
        float(np.quantile(np.abs(difference), 0.99)), 1.0
    )  # the few at the border do not set the scale
    largest = np.abs(difference).max()
    plot.signed(panels[2], difference, "second − first", limit=limit)
    panels[2].set_xlabel(f"mean {np.abs(difference).mean():.2f}, largest {largest:.0f}")


def draw_resizing(
    figure: Figure, image: np.ndarray, factor: int, names: Sequence[str], settings: str
) -> None:
    """(H, W, 3): the picture shrunk by `factor` in each library."""
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        show(axes, experiments.apply("shrink", name, image, settings, factor), name)
