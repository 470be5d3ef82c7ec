"""Shows image files in headless Chromium, at their natural size on a white page, and gives the pixels.

    python -m tests.images.chromium FOLDER       prints for each file of a folder whether our pixels are the browser's

A page loads each file as an `<img>`, draws it on a white canvas and posts the canvas back. Later frames of animated
files come from the same decoders by way of the page's `ImageDecoder`.
"""

from __future__ import annotations

import argparse
import json
import queue
import shutil
import subprocess
import tempfile
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",  # also as root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
]
MIME = {"PNG": "image/png", "APNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp"}
SECONDS = 60
"""For one file, the start of the browser included."""
PAGE = """<!doctype html><meta charset="utf-8"><title>jinaclip</title><body style="background: white"><script>
async function open(job) {
  if (job.frame === null) {
    const image = new Image();
    image.src = "/file/" + job.number;
    document.body.append(image);
    await new Promise((done, fail) => { image.onload = done; image.onerror = fail; });
    return [image, image.naturalWidth, image.naturalHeight, () => image.remove()];
  }
  const data = await (await fetch("/file/" + job.number)).arrayBuffer();
  const decoder = new ImageDecoder({data, type: job.mime, preferAnimation: true});
  const {image} = await decoder.decode({frameIndex: job.frame, completeFramesOnly: false});
  return [image, image.displayWidth, image.displayHeight, () => image.close()];
}
async function show(job) {
  const [image, width, height, close] = await open(job);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d", {willReadFrequently: true, colorSpace: "srgb"});
  pen.imageSmoothingEnabled = false;
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(image, 0, 0);
  close();
  return [width, height, pen.getImageData(0, 0, width, height).data];
}
(async () => {
  for (let job; (job = await (await fetch("/next")).json()) !== null;) {
    let seen;
    try { seen = await show(job); } catch (error) { seen = [0, 0, new Uint8Array()]; }
    await fetch(`/seen/${job.number}?${seen[0]}x${seen[1]}`, {method: "POST", body: seen[2]});
  }
})();
</script>"""


def find_browser() -> str | None:
    """The path of Chromium, or None where it is not installed."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def version() -> str:
    """As the browser says it, such as "Chromium 156.0.8078.108"."""
    done = subprocess.run([find_browser() or NAMES[0], "--version"], capture_output=True, text=True, check=True)
    return " ".join(done.stdout.split()[:2])


class _Handler(BaseHTTPRequestHandler):
    """Serves the page, hands out jobs and takes pixels."""

    protocol_version = "HTTP/1.1"
    browser: Chromium

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        if self.path == "/next":
            job = self.browser.jobs.get()
            self._send("application/json", json.dumps(job).encode())
        elif self.path.startswith("/file/"):
            self._send(self.browser.mime, self.browser.data)
        else:
            self._send("text/html", PAGE.encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        width, height = map(int, self.path.partition("?")[2].split("x"))
        self._send("text/plain", b"")
        seen = np.frombuffer(body, np.uint8).reshape(height, width, 4)[..., :3] if width else None
        self.browser.seen.put(seen)

    def _send(self, mime: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", mime)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Nothing: the browser breaks off what it does not need."""


class Chromium:
    """A browser of its own, with an empty profile, to be used in a `with`."""

    def __init__(self) -> None:
        self.jobs: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.seen: queue.Queue[Any] = queue.Queue()
        self.data, self.mime, self.number = b"", "", 0

    def __enter__(self) -> Chromium:
        with ExitStack() as stack:
            handler = type("Handler", (_Handler,), {"browser": self})
            server = stack.enter_context(_Server(("127.0.0.1", 0), handler))
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            command = [find_browser() or NAMES[0], *FLAGS, f"--user-data-dir={profile}"]
            url = f"http://127.0.0.1:{server.server_port}/"
            process = subprocess.Popen(
                [*command, url], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            stack.callback(self.jobs.put, None)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def show(self, data: bytes, form: str = "PNG", frame: int | None = None) -> Any:
        """The pixels of a file, uint8 of shape (height, width, 3), or None where the browser shows no image.

        Args:
            data: the file.
            form: its format, of `MIME`. For an `<img>` the browser goes by the content.
            frame: of an animated file, as `ImageDecoder` gives it; None is the file in an `<img>`.
        """
        self.number += 1
        self.data, self.mime = data, MIME[form]
        self.jobs.put({"number": self.number, "frame": frame, "mime": self.mime})
        return self.seen.get(timeout=SECONDS)


def compare(folder: Path) -> None:
    """Prints a line for each file: same, differs, or who refuses it."""
    from jinaclip import Image, ImagePolicy, InputError
    from jinaclip.images import open_image

    with Chromium() as browser:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            theirs = browser.show(path.read_bytes())
            try:
                ours = np.asarray(open_image(Image.from_path(path), ImagePolicy()))
            except InputError as error:
                print(f"{path.name}: we refuse: {error}; browser: {'refuses' if theirs is None else 'shows'}")
                continue
            if theirs is None or theirs.shape != ours.shape:
                print(f"{path.name}: DIFFERS: {ours.shape}, browser: {None if theirs is None else theirs.shape}")
            else:
                most = np.abs(theirs.astype(int) - ours).max()
                print(f"{path.name}: {'same' if most == 0 else f'DIFFERS by up to {most}'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    compare(parser.parse_args().folder)
