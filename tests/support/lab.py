"""JupyterLab on a reader's working copy, in a real browser: for the tests here and
benchmarks/widget_latency.py.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import sync_playwright

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "msedge",
)
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SETTINGS = {  # no news, no autosave, and every cell in the page, whether in view or not
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    "@jupyterlab/docmanager-extension/plugin.jupyterlab-settings": {"autosave": False},
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
}


def find_browser():
    """-> str or None: the path of a Chromium, Chrome or Edge on this machine."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None) or next(
        (place for place in PLACES if Path(place).exists()), None
    )


@contextmanager
def jupyterlab(folder, private):
    """Path of the working copy, Path of an empty folder for Jupyter's own files -> (address, token) of the
    server.
    """
    for name, setting in SETTINGS.items():
        path = private / "settings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting))
    runtime, config = private / "runtime", private / "config"
    runtime.mkdir()
    env = os.environ | {
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTERLAB_SETTINGS_DIR": str(private / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
        "IPYTHONDIR": str(private / "ipython"),
    }
    command = [
        sys.executable,
        "-m",
        "vlmbook.cli",
        "lab",
        "--dir",
        str(folder),
        "--",
        "--no-browser",
        "--allow-root",
        "--ServerApp.port=0",
        "--LabApp.expose_app_in_browser=True",
    ]
    with (private / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            yield address(server, runtime, private / "server.log")
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def address(server, runtime, log):
    """Wait until the server answers -> (its address, its token)."""
    for _ in range(600):
        for info in runtime.glob("jpserver-*.json"):
            try:
                found = json.loads(info.read_text())
                urlopen(f"{found['url']}api?token={found['token']}", timeout=5).close()
                return found["url"], found["token"]
            except (OSError, ValueError):  # not listening yet, or the file is half written
                pass
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


@contextmanager
def browser():
    """-> Playwright's Browser, the one that `find_browser` found."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=find_browser(), args=QUIET)
        try:
            yield started
        finally:
            started.close()


def open_notebook(browser, where, notebook):
    """Browser, (base, token), name of a notebook -> a page in which it stands open and its kernel is
    ready.
    """
    base, token = where
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    page.set_default_timeout(60_000)
    page.goto(f"{base}lab/tree/{notebook}?token={token}&reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_function("""() => {      // the sign for "idle" is drawn before the kernel is connected
        const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
        return kernel?.connectionStatus == 'connected' && kernel.status == 'idle';
    }""")
    return page


def run_all(page, timeout=900_000):
    """Execute every cell and wait for the end of the run, which a cell's error brings about too. Prompts do
    not tell the end: a folded cell has none.
    """
    page.evaluate("""{
        window.allCellsRan = false;
        window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => window.allCellsRan = true);
        'do not wait for its end'
    }""")
    page.wait_for_function("() => window.allCellsRan", timeout=timeout)


def focus_slider(page, description):
    """Put the keyboard on the first slider of that name."""
    handle = page.locator(f".widget-slider:has(.widget-label:text-is('{description}')) .noUi-handle").first
    handle.scroll_into_view_if_needed()
    handle.focus()


def live_figure_of(page, description):
    """-> int: the number of the first live figure that has a slider of that name."""
    return page.evaluate(
        """description => [...document.querySelectorAll('.jp-Notebook .widget-image')].findIndex(
            image => [...image.closest('.widget-vbox').querySelectorAll('.widget-slider .widget-label')]
                .some(label => label.textContent == description))""",
        description,
    )


def picture(page, number):
    """Page, 0, 1, … -> a locator of the picture in that live figure."""
    return page.locator(".jp-Notebook .widget-image").nth(number)


def pixels(page, number):
    """-> str: the bytes that the live figure's picture holds now, as the browser decodes them."""
    return picture(page, number).evaluate("""async image => {
        await image.decode();
        const canvas = document.createElement('canvas');
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        canvas.getContext('2d').drawImage(image, 0, 0);
        return canvas.toDataURL();
    }""")
