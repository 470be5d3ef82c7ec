"""Drives a page in headless Chromium over its pipe of the DevTools protocol: keys, files, screenshots, roles."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tests.images.chromium import FLAGS, NAMES, find_browser

SECONDS = 60
"""For one answer of the browser, its start included."""
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40, "ArrowRight": 39}
ENDING = b"\0"


class Pipe:
    """Commands to the browser, and what comes back."""

    def __init__(self, send: BinaryIO, receive: BinaryIO) -> None:
        self._send, self._receive = send, receive
        self._number, self._rest = 0, b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """The result of a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._send.write(json.dumps(message | ({"sessionId": session} if session else {})).encode() + ENDING)
        self._send.flush()
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def wait(self, method: str) -> dict[str, Any]:
        """The first event of this name that was not waited for before."""
        while True:
            for event in self.events:
                if event.get("method") == method:
                    self.events.remove(event)
                    return event["params"]
            self.events.append(self._read())

    def _read(self) -> dict[str, Any]:
        while ENDING not in self._rest:
            if not select.select([self._receive], [], [], SECONDS)[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._receive.fileno(), 2**20)
            if not part:
                raise EOFError("the browser has ended")
            self._rest += part
        message, _, self._rest = self._rest.partition(ENDING)
        return json.loads(message)


class Page:
    """One page of the browser."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        target = pipe.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = pipe.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log", "Accessibility", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """A command for this page."""
        return self._pipe.call(method, self._session, **parameters)

    def open(self, url: str) -> None:
        """Goes there, and waits until it is loaded."""
        self.call("Page.navigate", url=url)
        self._pipe.wait("Page.loadEventFired")

    def run(self, code: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        found = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Waits until an expression of the page is true, over navigations too: each takes away the page that waited."""
        look = f"({condition}) ? done() : setTimeout(look, 20)"
        end = time.monotonic() + SECONDS
        while True:
            try:
                self.run(f"new Promise(done => {{ const look = () => {look}; look(); }})")
            except RuntimeError as error:
                if "navigated" not in str(error) or time.monotonic() > end:
                    raise
            else:
                return

    def press(self, key: str, *, shift: bool = False) -> None:
        """Presses a key and lets it go."""
        text = {"Enter": "\r", " ": " "}.get(key)
        code = {" ": "Space"}.get(key, key)
        options = {"key": key, "code": code, "windowsVirtualKeyCode": KEYS[key], "modifiers": 8 * shift}
        kind = "keyDown" if text else "rawKeyDown"
        self.call("Input.dispatchKeyEvent", type=kind, **options, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **options)

    def type(self, text: str) -> None:
        """Types into what has the focus."""
        self.call("Input.insertText", text=text)

    def choose_files(self, selector: str, paths: list[Path]) -> None:
        """What a dialogue for files does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def focused(self) -> str:
        """The id, or else the label or the value, of what has the focus."""
        return self.run("(at => at.id || at.ariaLabel || at.value || at.tagName)(document.activeElement)")

    def show_as(self, *, width: int, height: int = 800, dark: bool = False, reduced: bool = False) -> None:
        """Sets the window's size, and what somebody prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "reduce" if reduced else "no-preference"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, motion])

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shown = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shown["data"])

    def roles(self) -> list[tuple[str, str]]:
        """Role and name of everything that a screen reader is told."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        shown = [node for node in nodes if not node.get("ignored")]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in shown]

    def forget(self) -> None:
        """Forgets what it complained of and asked for."""
        self._pipe.events.clear()

    @property
    def problems(self) -> list[str]:
        """What the browser complained of: errors of scripts, and what the policy of the page forbade."""
        logged = [e["params"]["entry"]["text"] for e in self._pipe.events if e.get("method") == "Log.entryAdded"]
        thrown = [str(e["params"]) for e in self._pipe.events if e.get("method") == "Runtime.exceptionThrown"]
        return logged + thrown

    @property
    def addresses(self) -> list[str]:
        """Everything that the page asked for."""
        sent = [e for e in self._pipe.events if e.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]


@contextmanager
def open_browser() -> Iterator[Page]:
    """A page in a browser of its own, with an empty profile."""
    with ExitStack() as stack:
        profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        ours, theirs = os.pipe(), os.pipe()
        send, receive = os.fdopen(ours[1], "wb"), os.fdopen(theirs[0], "rb", buffering=0)
        command = [find_browser() or NAMES[0], *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        shell = f'exec "$0" "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        away, ends = subprocess.DEVNULL, (ours[0], theirs[1])
        process = subprocess.Popen(["bash", "-c", shell, *command], pass_fds=ends, stdout=away, stderr=away)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        for end in ends:
            os.close(end)
        stack.enter_context(send)
        stack.enter_context(receive)
        yield Page(Pipe(send, receive))
