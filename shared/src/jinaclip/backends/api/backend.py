"""The hosted API as a backend: items become inputs, inputs become groups, groups become flows."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

from jinaclip.backends.api import policy as flow
from jinaclip.backends.api.batcher import GROUP_TOKENS, Shared, cut, parts
from jinaclip.backends.api.client import Client
from jinaclip.backends.api.limits import Account, shared_account
from jinaclip.backends.api.policy import Call
from jinaclip.backends.api.wires import jina as wire
from jinaclip.call.call import Job
from jinaclip.call.estimate import text_tokens
from jinaclip.call.usage import Meter, Usage
from jinaclip.config import EmbedderConfig
from jinaclip.specs import ModelSpec

MANY = 1 << 30


class ApiBackend:
    """Embeds over `POST /v1/embeddings`."""

    def __init__(self, config: EmbedderConfig, spec: ModelSpec) -> None:
        self.spec = spec
        self._config = config
        self._meter = Meter(config.token_budget)
        self._client = Client(config)
        self._account: Account | None = None
        self._running: set[asyncio.Task[None]] = set()

    @property
    def usage(self) -> Usage:
        """Running totals."""
        return self._meter.usage

    @property
    def identity(self) -> dict[str, Any]:
        """The endpoint."""
        return {"endpoint": self._config.base_url}

    @property
    def logit_scale(self) -> None:
        """The service keeps it to itself."""
        return

    def check_budget(self, tokens: int) -> None:
        """Refuses a call that is expected to cost more than the budget holds."""
        self._meter.check(tokens)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, guessed: the service has the tokenizer."""
        return text_tokens(text)

    def requests_for(self, items: int, tokens: int) -> int:
        """Requests that so much takes."""
        return max(-(-items // self._config.batch_size), -(-tokens // GROUP_TOKENS))

    def close(self) -> None:
        """Closes the connections of threads."""
        self._client.close()

    async def aclose(self) -> None:
        """Closes the connections of the running loop, and those of threads."""
        await self._client.aclose()

    # -- threads

    def embed(self, job: Job) -> None:
        """Answers the job: in this thread if it is one group, else in as many as may be in flight."""
        call = self._call(job)
        groups = cut(call, parts(call, self.spec))
        ready = list(itertools.islice(groups, 2))
        shared = Shared(job, itertools.chain(ready, groups), blocking=True)
        try:
            if len(ready) == 1:
                self._work(call, shared)
            elif ready:
                self._share_out(call, shared)
        except BaseException:  # Ctrl-C: what is in flight finishes in its threads
            job.stop()
            raise

    def _share_out(self, call: Call, groups: Shared) -> None:
        workers = [
            threading.Thread(target=self._work, args=(call, groups), daemon=True)
            for _ in range(min(self._config.max_concurrency, call.job.plan.total or MANY))
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work(self, call: Call, groups: Shared) -> None:
        with call.job.ending():
            while group := groups.take():
                self._client.drive(flow.embed(call, group), call.job.stopped)

    # -- event loops

    async def aembed(self, job: Job) -> None:
        """Answers the job. If cancelled, nothing more is sent and what is in flight finishes unattended.

        It is not cancelled with its caller: httpx 0.28 would lose a place in its pool, and the answer is paid for.
        """
        call = self._call(job)
        groups = Shared(job, cut(call, parts(call, self.spec)), blocking=not job.plan.quick)
        tasks = [
            asyncio.create_task(self._awork(call, groups))
            for _ in range(min(self._config.max_concurrency, job.plan.total or MANY))
        ]
        self._running.update(tasks)
        for task in tasks:
            task.add_done_callback(self._running.discard)
        try:
            await asyncio.wait(tasks)  # which leaves them alone when it is cancelled
        except asyncio.CancelledError:
            job.stop()
            raise
        for task in tasks:
            task.result()

    async def _awork(self, call: Call, groups: Shared) -> None:
        stopped = asyncio.wrap_future(call.job.stopped)
        with call.job.ending():
            while group := await groups.atake():
                await self._client.adrive(flow.embed(call, group), stopped)

    # -- both

    def _call(self, job: Job) -> Call:
        body = wire.settings(self._config, self.spec, query=job.plan.query)
        width = self._config.dimensions or self.spec.dimensions
        self._account = account = shared_account(self._config)  # held: what it learnt must outlive the call
        return Call(job, self._config, account, self._meter, body, width)
