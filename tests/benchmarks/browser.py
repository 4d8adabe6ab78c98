"""A window of headless Chromium, driven by its DevTools protocol.

It needs the program chromium (on Debian: apt-get install chromium), and websocket-client, which
JupyterLab brings.
"""

import base64
import json
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import websocket

LAPTOP = (1280, 800)
LOCAL = ("file:", "data:", "blob:", "http://127.0.0.1:", "ws://127.0.0.1:")


@contextmanager
def window():
    """A browser with a profile of its own."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("the program chromium is not there; install it and try again")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            yield browser
        finally:
            browser.process.terminate()
            browser.process.wait()


class Browser:
    """A window of Chromium, driven by its DevTools protocol."""

    def __init__(self, program, profile):
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--disable-background-networking", "--remote-debugging-port=0"]
        command += ["--remote-allow-origins=*", f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        port_file = Path(profile, "DevToolsActivePort")
        wait(lambda: port_file.is_file() and port_file.read_text().count("\n"), "Chromium starts")
        port = port_file.read_text().split()[0]
        with urlopen(f"http://127.0.0.1:{port}/json") as answer:
            window = next(t for t in json.load(answer) if t["type"] == "page")
        self.socket = websocket.create_connection(window["webSocketDebuggerUrl"], timeout=60)
        self.number, self.events = 0, []
        for part in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{part}.enable")

    def send(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.events.append(message)

    def run(self, code):
        """Value of an expression of JavaScript."""
        result = self.send("Runtime.evaluate", expression=code, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{code}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def size(self, width, height):
        mobile = width < 600
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=mobile,
        )  # fmt: skip

    def open(self, address):
        self.events.clear()
        self.send("Page.navigate", url=address)
        self.loaded(address)

    def loaded(self, address):
        here = address.partition("#")[0]
        code = f"document.readyState == 'complete' && location.href.startsWith({here!r})"

        def ready():
            try:
                return self.run(code)
            except RuntimeError:  # on the way from one page to the next
                return False

        wait(ready, f"{address} loads")
        self.run("document.fonts.ready.then(() => 0)")

    def picture(self, path, whole=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        data = self.send(
            "Page.captureScreenshot",
            format="png",
            captureBeyondViewport=whole,
            **self.clip() if whole else {},
        )["data"]
        path.write_bytes(base64.b64decode(data))

    def clip(self):
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        return {
            "clip": {
                "x": 0,
                "y": 0,
                "width": size["width"],
                "height": min(size["height"], 12000),
                "scale": 1,
            }
        }

    def faults(self):
        """Console errors and requests to other machines since the last page was opened."""
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"]["text"])
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
                found.append(f"console: {params['args'][0].get('value')}")
            elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(f"log: {params['entry']['text']} {params['entry'].get('url', '')}")
            elif method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(LOCAL):
                    found.append(f"request to {url}")
        return found


def wait(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s, and not yet: {what}")
        time.sleep(0.05)
