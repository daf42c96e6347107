"""A headless Chromium for tests, driven by its DevTools protocol over a pipe."""

import base64
import json
import os
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

TIMEOUT_S = 60


def find_chromium():
    """Return the browser's program; None where it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One browser with one page.

    Attributes:
        problems: Errors of the console, uncaught exceptions and breaches of the page's own
            security policy, since the page was opened.
        requests: Every address that was asked for, since the page was opened.
    """

    def __init__(self, profile_dir: Path) -> None:
        to_browser, ours = os.pipe()
        theirs, from_browser = os.pipe()[::-1]
        self._out, self._in = ours, from_browser
        # Chromium reads commands from descriptor 3 and answers on 4.
        self._process = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{theirs}', "bash"),
                str(find_chromium()),
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
                "--autoplay-policy=no-user-gesture-required",
                f"--user-data-dir={profile_dir}",
                "about:blank",
            ],
            pass_fds=(to_browser, theirs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(theirs)
        self._buffer, self._answers, self._number, self._loaded = b"", {}, 0, False
        self._session = None
        self.problems, self.requests = [], []
        target = next(
            t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page"
        )
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def open(self, file: Path) -> None:
        """Open a file and wait until it is loaded."""
        self.problems, self.requests, self._loaded = [], [], False
        self.send("Page.navigate", url=file.as_uri())
        self._wait(lambda: self._loaded)

    def evaluate(self, script: str):
        """Return the value of an expression in the page; promises are waited for."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def send(self, method: str, **params):
        """Send a command and return its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        self._wait(lambda: number in self._answers)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def mouse(self, kind: str, x: float, y: float, **more) -> None:
        """Send a mouse event: mouseMoved, mousePressed, mouseReleased, mouseWheel."""
        button = {"button": "left", "clickCount": 1} if kind.endswith("ed") else {}
        if kind == "mouseMoved":
            button = {"button": "left"} if more.pop("drag", False) else {"button": "none"}
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button, **more)

    def key(self, key: str) -> None:
        """Press and release a key, by the name that the page sees."""
        code = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        code |= {"PageUp": 33, "PageDown": 34, "Home": 36, "Tab": 9, " ": 32}
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            event = {"key": key, "windowsVirtualKeyCode": code.get(key, 0)}
            self.send("Input.dispatchKeyEvent", type=kind, **event, **text)

    def print_pages(self, width_inch: float, height_inch: float) -> int:
        """Print the page and return how many sheets it takes."""
        printed = self.send(
            "Page.printToPDF",
            printBackground=True,
            paperWidth=width_inch,
            paperHeight=height_inch,
        )
        return len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(printed["data"])))

    def close(self) -> None:
        """End the browser."""
        try:
            self._session = None
            self.send("Browser.close")
            self._process.wait(10)
        except (RuntimeError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            os.close(self._out)
            os.close(self._in)

    def _wait(self, is_done) -> None:
        end = time.monotonic() + TIMEOUT_S
        while not is_done():
            ready, _, _ = select.select([self._in], [], [], max(0, end - time.monotonic()))
            content = os.read(self._in, 1 << 20) if ready else b""
            if not content:
                raise RuntimeError("Chromium does not answer")
            *messages, self._buffer = (self._buffer + content).split(b"\0")
            for message in messages:
                self._take(json.loads(message))

    def _take(self, message) -> None:
        method, params = message.get("method"), message.get("params", {})
        if "id" in message:
            self._answers[message["id"]] = message
        elif method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:1000])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(json.dumps(params["args"])[:1000])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"]["text"])
