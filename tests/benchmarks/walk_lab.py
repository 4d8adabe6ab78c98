"""A walk through JupyterLab in headless Chromium, as `make lab` starts it.

    python tests/benchmarks/walk_lab.py build/walk/lab

Opens notebook 02 among new student copies, runs all cells, solves the first exercise wrongly and
then rightly, reads what `check` says, and moves a slider. Prints what it found, and exits with 1 if
a message is not there, the figure does not change, a pop-up opens, or a request leaves the machine.
The folder gets screenshots to look at.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from browser import LAPTOP, wait, window

from cspkit.teach.work import prepare

ROOT = Path(__file__).parents[2]
NAME = "02_solvers_and_certificates.ipynb"
EXERCISE = "02.kkt_violation"
# Forgets the zeros, whose correlations may leave the band.
WRONG = """def kkt_violation(A, y, lam, x):
    c = A.T @ (y - A @ x)
    return np.max(np.abs(c - lam * np.sign(x))[x != 0])"""
PANEL = "[...jupyterapp.shell.widgets('main')][0]"
CELLS = f"{PANEL}.content.widgets"


def solution():
    """The answer of the solved notebook, as a reader would type it."""
    import nbformat

    solved = nbformat.read(ROOT / "notebooks" / NAME, as_version=4)
    source = next(c.source for c in solved.cells if "def kkt_violation" in c.source)
    return re.sub(r".*### (BEGIN|END) SOLUTION\n?", "", source)


class Lab:
    """The notebook in the window."""

    def __init__(self, browser):
        self.browser = browser

    def command(self, name):
        self.browser.run(f"(jupyterapp.commands.execute({name!r}), 0)")

    def cell(self, text):
        """Number of the first code cell whose source has this text."""
        number = self.browser.run(
            f"{CELLS}.findIndex(c => c.model.type == 'code' &&"
            f" c.model.sharedModel.source.includes({text!r}))"
        )
        assert number >= 0, f"no cell has {text!r}"
        return number

    def outputs(self, number):
        return self.browser.run(f"JSON.stringify({CELLS}[{number}].model.outputs.toJSON())")

    def idle(self):
        return self.browser.run(
            f"{PANEL}.sessionContext.session?.kernel?.status == 'idle'"
        ) and not self.browser.run(f"{CELLS}.some(c => c.promptNode?.textContent == '[*]:')")

    def run(self, number, source=None):
        """Run a cell, with a new source if one is given, and return its outputs."""
        if source is not None:
            self.browser.run(f"({CELLS}[{number}].model.sharedModel.setSource({source!r}), 0)")
        self.browser.run(f"({PANEL}.content.activeCellIndex = {number}, 0)")
        self.command("notebook:run-cell")
        time.sleep(1)
        wait(self.idle, f"cell {number} ends")
        return self.outputs(number)


def slider(lab, out, wrong):
    """Move the slider of the notebook with the keyboard, and see the figure change."""
    number = lab.cell("explore(")
    before = lab.run(number)
    lab.browser.run(
        f"({CELLS}[{number}].node.scrollIntoView({{block: 'center'}}),"
        f" {CELLS}[{number}].node.querySelector('.noUi-handle').focus(), 0)"
    )
    picture = f"{CELLS}[{number}].node.querySelector('.jupyter-widgets img')?.src"
    wait(lambda: lab.browser.run(picture), "the figure is shown")
    still = lab.browser.run(picture)
    for kind in ("keyDown", "keyUp"):
        lab.browser.send(
            "Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight",
            windowsVirtualKeyCode=39,
        )  # fmt: skip
    try:
        wait(lambda: lab.browser.run(picture) not in (None, still), "the figure changes", 20)
        print("slider: moved, and the figure changed")
    except TimeoutError as error:
        wrong.append(f"slider: {error}; the cell printed {before[:200]}")
    lab.browser.picture(out / "slider.png")


def walk(browser, address, out, wrong):
    browser.size(*LAPTOP)
    browser.open(f"{address}/lab/tree/{NAME}?reset")
    wait(
        lambda: (
            browser.run("typeof jupyterapp == 'object'")
            and browser.run(f"{PANEL}?.content?.widgets && {CELLS}.length > 20")
        ),
        "the notebook opens",
        240,
    )
    lab = Lab(browser)
    wait(lab.idle, "the kernel starts", 120)
    browser.picture(out / "opened.png")
    if popups := browser.run("document.querySelectorAll('.jp-Dialog, .Toastify__toast').length"):
        wrong.append(f"{popups} pop-ups at the start")
    lab.command("notebook:run-all-cells")
    time.sleep(2)
    wait(lab.idle, "all cells run", 400)
    errors = browser.run(
        f"{CELLS}.filter(c => c.model.type == 'code' && c.model.outputs.toJSON().some("
        "o => o.output_type == 'error' && o.ename != 'NotImplementedError')).length"
    )
    if errors:
        wrong.append(f"{errors} cells failed when all were run")
    answer, checks = lab.cell("def kkt_violation"), lab.cell(f'check("{EXERCISE}"')
    for source, expected in ((None, "not solved"), (WRONG, "not yet"), (solution(), "right")):
        if source:
            lab.run(answer, source)
        said = lab.run(checks)
        print(f"check: {said}")
        if f"{expected}: {EXERCISE}" not in said:
            wrong.append(f"check: expected {expected!r}, it said {said}")
        browser.run(f"({CELLS}[{checks}].node.scrollIntoView({{block: 'center'}}), 0)")
        browser.picture(out / f"{expected.replace(' ', '_')}.png")
    slider(lab, out, wrong)
    wrong += [fault for fault in browser.faults() if fault.startswith("request")]


def main():
    out, wrong = Path(sys.argv[1]).resolve(), []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        prepare(Path(folder))
        server = subprocess.Popen(
            [Path(sys.executable).with_name("jupyter"), "lab", "--no-browser", f"--port={port}",
             "--allow-root", "--IdentityProvider.token=", "--expose-app-in-browser",
             f"--notebook-dir={folder}"],
            env=os.environ | {"JUPYTER_CONFIG_PATH": str(ROOT / ".jupyter")},
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            wait(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the server starts")
            with window() as browser:
                walk(browser, address, out, wrong)
        finally:
            server.terminate()
            server.wait()
    print("\n".join(wrong) or f"nothing wrong; screenshots in {out}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
