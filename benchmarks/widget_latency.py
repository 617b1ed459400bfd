"""Key press to changed picture, in JupyterLab in a real browser: the sliding-window calculator of chapter 3a.

Prints the median and the 90th percentile over the presses, and beside them the bar for the median.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support import lab
from vlmbook import chapters

BAR_MS = 120
WATCH = """number => {          // from the next key that goes down to the next picture that has been decoded
    const image = document.querySelectorAll('.jp-Notebook .widget-image')[number];
    window.pressed = null; window.latency = null;
    document.addEventListener('keydown', () => { window.pressed = performance.now(); },
        {once: true, capture: true});
    image.addEventListener('load', () => requestAnimationFrame(
        () => { window.latency = performance.now() - window.pressed; }), {once: true});
}"""


def main() -> bool:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--presses", type=int, default=60, help="key presses that count (default 60)")
    presses = options.parse_args().presses
    with tempfile.TemporaryDirectory() as private, lab.browser() as browser:
        with lab.jupyterlab(Path(private) / "work", Path(private)) as where:
            page = lab.open_notebook(browser, where, chapters.find("ch03a").notebook.name)
            lab.run_all(page)
            keys = ["ArrowRight" if number % 2 else "ArrowLeft" for number in range(presses + 10)]
            times = [press(page, key) for key in keys][10:]  # the first ten warm up
    median = statistics.median(times)
    p90 = statistics.quantiles(times, n=10)[-1]
    print(f"{len(times)} key presses: median {median:.0f} ms, p90 {p90:.0f} ms")
    print(f"bar for the median: {BAR_MS} ms")
    return median > BAR_MS


def press(page, key):
    """Press a key on the stride slider -> milliseconds until another picture is shown."""
    lab.focus_slider(page, "stride")
    page.wait_for_timeout(250)
    page.evaluate(WATCH, lab.live_figure_of(page, "stride"))
    page.keyboard.press(key)
    page.wait_for_function("window.latency !== null")
    return page.evaluate("window.latency")


if __name__ == "__main__":
    sys.exit(main())
