"""The service as a process of its own."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jinaclip.specs import find_spec
from jinaclip.testing.vectors import Kind, content_bytes, digest

if TYPE_CHECKING:
    from PIL import Image

TIMEOUT_S = 30


class Server:
    """Starts the service, steers it and reads its ledger; it ends with this object or this process.

    Args:
        port: to listen on; 0 takes a free one.
        settings: fields of `jinaclip.testing.Settings`.

    Attributes:
        url: what clients take as their `base_url`.

    Raises:
        RuntimeError: it does not start; the reason is on standard error.
    """

    def __init__(self, *, port: int = 0, **settings: Any) -> None:
        command = [sys.executable, "-P", "-m", "jinaclip.testing", "--stop-at-eof", "--port", str(port)]
        command += ["--config", json.dumps(settings)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)  # noqa: S603 - our own
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line.startswith("listening on "):
            self.stop()
            raise RuntimeError("the service did not start; see its error above")
        self.url = line.split()[-1]

    def configure(self, **settings: Any) -> None:
        """Changes some settings; scripts, draws and limits start afresh, the ledger goes on.

        Raises:
            ValueError: a setting or a fault does not exist.
        """
        self._call("POST", "/configure", settings)

    def reset(self, *, settings: bool = True) -> None:
        """Empties the ledger, and takes back the settings to those of the start."""
        self._call("POST", "/reset" if settings else "/reset?settings=keep")

    def ledger(self) -> dict[str, Any]:
        """What was received, answered and billed since the start or the last reset.

        Counters of `requests`, `texts`, `images`, `tiles`, `tokens` and so on; `faults` and `refused` by name;
        `received` and `answered` as times -> inputs: {"1": 5} is five inputs, each once.
        """
        ledger: dict[str, Any] = self._call("GET", "/ledger")
        return ledger

    def history(
        self,
        kind: Kind,
        content: str | bytes | Image.Image,
        model: str = "jina-clip-v2",
        task: str | None = None,
    ) -> dict[str, int]:
        """How often one input was `received` and `answered`; see `expected_vector` for what names an input."""
        name = digest(kind, content_bytes(kind, content), find_spec(model).name, task)
        history: dict[str, int] = self._call("GET", f"/ledger?digest={name.hex()}")
        return history

    def stop(self) -> None:
        """Ends the process; harmless when it has ended."""
        with self._process:
            self._process.kill()

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
