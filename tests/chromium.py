"""A headless Chromium, driven by the DevTools protocol over a pipe, for which no library is needed."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

PATIENCE = 60.0
"""Seconds after which an answer is no longer waited for."""

# Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)


def chromium() -> str | None:
    """Return the path of Chromium or Chrome, or None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """A browser with one page. `problems` are messages of its console and its failed loads, `requests` its requests."""

    def __init__(self, folder: Path) -> None:
        """Start the browser; `folder` takes its profile."""
        path = chromium()
        assert path is not None
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # High numbers, which 3 and 4 don't overwrite.
        ends = [os.dup(os.dup(os.dup(end))) for end in (commands, answers)]
        for end in ends:
            os.set_inheritable(end, True)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        flags += ["--hide-scrollbars", "--disable-background-networking", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, *map(str, ends), path, *flags, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (commands, answers, *ends):
            os.close(end)
        self._numbers, self._buffer, self._session = itertools.count(1), b"", ""
        self.problems: list[str] = []
        self.requests: list[str] = []
        targets = self.send("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        with suppress(OSError, AssertionError):
            self._session = ""
            self.send("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._commands)
        os.close(self._answers)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its result; events that come before it are noted."""
        return self._results([self._command(method, parameters)])[0]

    def _command(self, method: str, parameters: dict[str, Any]) -> int:
        """Send a command, and return its number."""
        command: dict[str, Any] = {"id": next(self._numbers), "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        content = json.dumps(command).encode() + b"\0"
        while content:
            content = content[os.write(self._commands, content) :]
        return int(command["id"])

    def _results(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return the results of the commands of these numbers."""
        found: dict[int, dict[str, Any]] = {}
        while len(found) < len(numbers):
            message = self._receive()
            if "id" in message:
                assert "error" not in message, message["error"]
                found[message["id"]] = message["result"]
            else:
                self._note(message)
        return [found[number] for number in numbers]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._answers], [], [], PATIENCE)[0], "Chromium doesn't answer"
            part = os.read(self._answers, 1 << 20)
            assert part, "Chromium has ended"
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        method, found = message.get("method", ""), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(found["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.problems.append(str(found["args"]))
        elif method == "Log.entryAdded":
            self.problems.append(found["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(found["request"]["url"])

    def open(
        self, path: Path, *, width: int = 1366, height: int = 768, dark: bool = False, touch: bool = False
    ) -> None:
        """Open the file at `path` in a window of that size and theme; forget what was noted before."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.send("Emulation.setTouchEmulationEnabled", enabled=touch)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send(
            "Emulation.setEmulatedMedia", features=[*features, {"name": "prefers-reduced-motion", "value": "reduce"}]
        )
        self.problems.clear()
        self.requests.clear()
        self.send("Page.navigate", url=path.as_uri())
        until = time.monotonic() + PATIENCE
        while self.run("document.readyState") != "complete" or self.run("location.href") != path.as_uri():
            assert time.monotonic() < until, "the page doesn't load"
            time.sleep(0.02)
        self.settle()

    def run(self, code: str) -> Any:
        """Return the value of an expression of JavaScript in the page, waited for if it is a promise."""
        found = self.send("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def settle(self) -> None:
        """Wait until the page has drawn what it was about to."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")

    def stroke(self, points: Sequence[tuple[float, float]]) -> None:
        """Move a pressed mouse through `points`, in CSS pixels of the window."""
        moves = [("mousePressed", points[0]), *(("mouseMoved", each) for each in points), ("mouseReleased", points[-1])]
        common = {"button": "left", "buttons": 1, "clickCount": 1}
        numbers = [
            self._command("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y} | common) for kind, (x, y) in moves
        ]
        self._results(numbers)

    def click(self, x: float, y: float) -> None:
        """Click at a place, in CSS pixels of the window."""
        self.stroke([(x, y)])

    def touch(self, points: Sequence[tuple[float, float]]) -> None:
        """Move a finger through `points`, in CSS pixels of the window."""
        for kind, (x, y) in [("touchStart", points[0]), *(("touchMove", each) for each in points[1:])]:
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, *keys: str) -> None:
        """Press keys, by the names of `KeyboardEvent.key`, one after the other."""
        for key in keys:
            for kind in ("keyDown", "keyUp"):
                self.send("Input.dispatchKeyEvent", type=kind, key=key, code="Space" if key == " " else key)

    def names(self) -> list[tuple[str, str]]:
        """Return role and accessible name of everything in the page that can be focused."""
        nodes = self.send("Accessibility.getFullAXTree")["nodes"]
        found = []
        for node in nodes:
            properties = {each["name"]: each["value"].get("value") for each in node.get("properties", [])}
            if properties.get("focusable") and node["role"]["value"] != "RootWebArea":
                found.append((node["role"]["value"], node.get("name", {}).get("value", "")))
        return found

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the page, or of what the window shows of it, to `path`."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        options = {"captureBeyondViewport": True, "clip": clip} if whole else {}
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png", **options)["data"]))
