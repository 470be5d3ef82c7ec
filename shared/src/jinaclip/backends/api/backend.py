"""The hosted API as a backend: inputs become batches, and each batch is sent as the policy says."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

from jinaclip.backends.api import policy
from jinaclip.backends.api.batcher import BATCH_TOKENS, Batches, make_batches, make_items
from jinaclip.backends.api.client import Client
from jinaclip.backends.api.limits import RateLimits, shared_limits
from jinaclip.backends.api.policy import Sending
from jinaclip.backends.api.wires import jina
from jinaclip.call.call import Call
from jinaclip.call.estimate import text_tokens
from jinaclip.config import EmbedderConfig
from jinaclip.specs import ModelSpec

MANY = 1 << 30


class ApiBackend:
    """Embeds over `POST /v1/embeddings`."""

    def __init__(self, config: EmbedderConfig, spec: ModelSpec) -> None:
        self.spec = spec
        self._config = config
        self._client = Client(config)
        self._limits: RateLimits | None = None
        self._running: set[asyncio.Task[None]] = set()

    @property
    def identity(self) -> dict[str, Any]:
        """The endpoint."""
        return {"endpoint": self._config.base_url}

    @property
    def logit_scale(self) -> None:
        """The service keeps it to itself."""
        return

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, guessed: the service has the tokenizer."""
        return text_tokens(text)

    def requests_for(self, inputs: int, tokens: int) -> int:
        """Requests that so much takes."""
        return max(-(-inputs // self._config.batch_size), -(-tokens // BATCH_TOKENS))

    def load(self) -> None:
        """Nothing: the weights are with the service."""

    def close(self) -> None:
        """Closes the connections of threads."""
        self._client.close()

    async def aclose(self) -> None:
        """Closes the connections of the running loop, and those of threads."""
        await self._client.aclose()

    # -- threads

    def embed(self, call: Call) -> None:
        """Answers the call: in this thread if it is one batch, else in as many as may be in flight."""
        sending = self._sending(call)
        batches = make_batches(sending, make_items(sending, self.spec))
        first = list(itertools.islice(batches, 2))
        shared = Batches(call, itertools.chain(first, batches), blocking=True)
        try:
            if len(first) == 1:
                self._work(sending, shared)
            elif first:
                self._share_out(sending, shared)
        except BaseException:  # Ctrl-C: what is in flight finishes in its threads
            call.stop()
            raise

    def _share_out(self, sending: Sending, batches: Batches) -> None:
        workers = [
            threading.Thread(target=self._work, args=(sending, batches), daemon=True)
            for _ in range(self._workers(sending.call))
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work(self, sending: Sending, batches: Batches) -> None:
        with sending.call.ending():
            while batch := batches.take():
                self._client.drive(policy.embed(sending, batch), sending.call.stopped)

    # -- event loops

    async def aembed(self, call: Call) -> None:
        """Answers the call. If cancelled, nothing more is sent and what is in flight finishes unattended.

        It is not cancelled with its caller: httpx 0.28 would lose a place in its pool, and the answer is paid for.
        """
        sending = self._sending(call)
        batches = Batches(call, make_batches(sending, make_items(sending, self.spec)), blocking=not call.request.quick)
        tasks = [asyncio.create_task(self._awork(sending, batches)) for _ in range(self._workers(call))]
        self._running.update(tasks)
        for task in tasks:
            task.add_done_callback(self._running.discard)
        try:
            await asyncio.wait(tasks)  # which leaves them alone when it is cancelled
        except asyncio.CancelledError:
            call.stop()
            raise
        for task in tasks:
            task.result()

    async def _awork(self, sending: Sending, batches: Batches) -> None:
        stopped = asyncio.wrap_future(sending.call.stopped)
        with sending.call.ending():
            while batch := await batches.atake():
                await self._client.adrive(policy.embed(sending, batch), stopped)

    # -- both

    def _workers(self, call: Call) -> int:
        return min(self._config.max_concurrency, call.request.total or MANY)

    def _sending(self, call: Call) -> Sending:
        bodies = {query: jina.settings(self._config, self.spec, query=query) for query in (False, True)}
        self._limits = limits = shared_limits(self._config)  # held: what it learnt must outlive the call
        return Sending(call, self._config, limits, bodies, self._config.dimensions or self.spec.dimensions)
