"""The example of replicas on Ray Serve, on a Ray of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from jinaclip import JinaClip
from tests.needs import skip_without

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
PATIENCE_S = 180
LOOK_S = 0.2
REPLICAS = 2
WIDTH = 128
SAME = 1e-5
NAME = "ray::ServeReplica:default:Replica"


class OnRay:
    """The example as a process of its own, which takes Ray's with it."""

    def __init__(self, checkpoint: str, log: Path) -> None:
        self._log = log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        command = [sys.executable, "-m", "examples.serve_ray", "--model", checkpoint, "--replicas", str(REPLICAS)]
        quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}  # it writes no token, and tells nobody
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--port", self.url.rpartition(":")[2]],
                stdout=out,
                stderr=out,
                cwd=ROOT,
                env={**os.environ, **quiet},
                start_new_session=True,
            )

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """What the condition gives, once it gives something."""
        ends_at = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < ends_at, self._log.read_text()
            threading.Event().wait(LOOK_S)
        return found

    def is_ready(self) -> bool:
        """Whether a replica says so."""
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/ready", timeout=5).status_code == 200
        return False

    def replicas(self) -> set[int]:
        """Process ids of the replicas, of this Ray alone."""
        session = os.getsid(self.process.pid)
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "cmdline").read_text().startswith(NAME) and os.getsid(int(folder.name)) == session:
                    found.add(int(folder.name))
        return found

    def stop(self) -> int:
        """Its exit code after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Ends all that is left."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def on_ray(catalogue_checkpoint: str, tmp_path: Path) -> Iterator[OnRay]:
    skip_without("ray")
    running = OnRay(catalogue_checkpoint, tmp_path / "log")
    try:
        running.wait_for(running.is_ready)
        yield running
    finally:
        running.close()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc")
def test_replicas_give_the_vectors_of_the_weights_at_home_and_one_that_dies_is_replaced(
    on_ray: OnRay, catalogue_checkpoint: str
) -> None:
    titles = [f"a red dress, number {number}" for number in range(40)]
    before = on_ray.wait_for(lambda: found if len(found := on_ray.replicas()) == REPLICAS else None)
    with JinaClip(catalogue_checkpoint, backend="local", device="cpu", cache=False) as local:
        expected, space = local.embed_documents(titles), local.space
    options: dict[str, Any] = {"dimensions": WIDTH, "space": space, "cache": False, "batch_size": 4}
    with JinaClip("jina-clip-v2", base_url=on_ray.url, api_key="jina_test_of_ray", **options) as clip:
        assert np.abs(clip.embed_documents(titles) - expected).max() <= SAME
        os.kill(min(before), signal.SIGKILL)
        assert np.abs(clip.embed_documents(titles) - expected).max() <= SAME
        on_ray.wait_for(lambda: len(on_ray.replicas() - {min(before)}) == REPLICAS)
        assert np.abs(clip.embed_documents(titles) - expected).max() <= SAME
    refused = httpx.post(f"{on_ray.url}/v1/embeddings", json={"model": "jina-clip-v2", "input": [[1, 2]]})
    assert (refused.status_code, refused.json()["code"]) == (422, "INPUT_INVALID")
    assert httpx.get(f"{on_ray.url}/ready", headers={"Host": "shop.example"}).status_code == 403
    assert on_ray.stop() == 0
