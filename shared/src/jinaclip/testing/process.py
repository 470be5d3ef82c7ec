"""The server as a process of its own."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jinaclip.specs import find_spec
from jinaclip.testing.vectors import content_bytes, digest

if TYPE_CHECKING:
    from PIL import Image

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 30


class Server:
    """Starts the server, steers it and reads its ledger; it ends with this object or this process.

    Settings are the fields of `jinaclip.testing.settings.Settings`.
    """

    def __init__(self, **settings: Any) -> None:
        command = [sys.executable, "-m", "jinaclip.testing", "--with-parent", "--config", json.dumps(settings)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            self.stop()
            raise RuntimeError("the test server did not start; see its error above")
        self.url = line.split()[-1]

    def configure(self, **settings: Any) -> None:
        """Changes some settings; attempts, quotas and scripts start afresh, the ledger goes on."""
        self._call("POST", "/configure", settings)

    def reset(self, *, settings: bool = True) -> None:
        """Empties the ledger, and takes back the settings to those of the start."""
        self._call("POST", "/reset" if settings else "/reset?settings=kept")

    def ledger(self) -> dict[str, Any]:
        """The books since the start or the last reset."""
        return self._call("GET", "/ledger")

    def history(
        self, kind: str, content: str | bytes | Image.Image, model: str = "jina-clip-v2", task: str | None = None
    ) -> dict[str, int]:
        """How often one input was `received` and `answered`."""
        name = digest(kind, content_bytes(kind, content), find_spec(model).name, task)
        return self._call("GET", f"/ledger?digest={name.hex()}")

    def stop(self) -> None:
        """Ends the process; harmless when it has ended."""
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(text)
        return json.loads(text)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
