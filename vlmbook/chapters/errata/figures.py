"""The drawings of the notebook of errata: where they are, what is wrong in the book's references, F1."""

from collections import Counter
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, NullFormatter

from vlmbook import plot
from vlmbook.chapters.errata.experiments import (
    ABSENT,
    COLUMNS,
    DIFFERS,
    MISSING,
    NOT_FOUND,
    SAME,
)
from vlmbook.chapters.errata.rows import SEVERITIES, Erratum, order

SEVERITY_COLOURS = dict(zip(SEVERITIES.values(), ("#D55E00", "#E69F00", "#BBBBBB"), strict=True))
STATE_COLOURS = {
    SAME: "#0072B2",
    DIFFERS: "#D55E00",
    MISSING: "#E69F00",
    NOT_FOUND: "black",
    ABSENT: "#EEEEEE",
}


def draw_counts(figure: Figure, errata: list[Erratum]) -> None:
    """list of Erratum: a bar a section, each erratum at the first of its sections, coloured by severity."""
    counts = Counter((erratum.sections[0], erratum.severity) for erratum in errata)
    sections = sorted({section for section, _ in counts}, key=order)
    axes = figure.subplots()
    left = [0] * len(sections)
    for severity, colour in SEVERITY_COLOURS.items():
        widths = [counts[section, severity] for section in sections]
        total = sum(widths)
        axes.barh(sections, widths, left=left, color=colour, label=f"{severity}: {total}", height=0.75)
        left = [before + width for before, width in zip(left, widths, strict=True)]
    for row, width in enumerate(left):
        axes.text(width + 0.2, row, str(width), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="errata", ylabel="section", xlim=(0, max(left, default=1) * 1.1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(axis="y", labelsize=8)
    axes.legend(loc="upper right", frameon=False)


def draw_comparison(figure: Figure, states: dict[int, dict[str, str]]) -> None:
    """{number: {field: state}}: a row a reference of the book, a column a field, coloured by its state."""
    axes = figure.subplots()
    for row, fields in enumerate(states.values()):
        for column, field in enumerate(COLUMNS):
            colour = STATE_COLOURS[fields[field]]
            axes.add_patch(Rectangle((column, row), 0.94, 0.9, color=colour))
    axes.set(xlim=(0, len(COLUMNS)), ylim=(len(states), 0), ylabel="number in the book's list")
    axes.set_xticks([column + 0.47 for column in range(len(COLUMNS))], COLUMNS)
    axes.set_yticks([row + 0.45 for row in range(len(states))], list(states))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    used = {state for fields in states.values() for state in fields.values()}
    patches = [Patch(color=colour, label=state) for state, colour in STATE_COLOURS.items() if state in used]
    axes.legend(handles=patches, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)


def draw_f1(figure: Figure, shares: list[float], found: dict[str, list[float]]) -> None:
    """Shares of positives, {name: values}: F1 and what the book describes."""
    axes = figure.subplots()
    styles: dict[str, Any] = {
        "F1": {"color": plot.BLUE, "linewidth": 2.5},
        "accuracy with recall": {"color": plot.ORANGE, "linewidth": 2.5},
        "accuracy": {"color": plot.GREY, "linestyle": "--"},
    }
    for name, values in found.items():
        axes.plot([100 * share for share in shares], values, label=name, **styles[name])
    axes.set(xscale="log", ylim=(0.4, 1.02), ylabel="value", xlabel="positives among the samples, %")
    ticks = (0.1, 0.3, 1, 3, 10, 30)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
