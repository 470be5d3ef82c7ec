"""The seam between the facade and what makes the vectors."""

from __future__ import annotations

from typing import Any, Protocol

from jinaclip.call.call import Job
from jinaclip.call.usage import Usage
from jinaclip.specs import ModelSpec


class Backend(Protocol):
    """Gives every item of a job a vector or an error. One object serves all threads and event loops."""

    @property
    def spec(self) -> ModelSpec:
        """Facts of the model."""

    @property
    def usage(self) -> Usage:
        """Running totals."""

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the vectors beside the options: JSON values, the same in every process."""

    @property
    def logit_scale(self) -> float | None:
        """Logarithm of what the model was trained to multiply cosines with; None where nobody tells."""

    def embed(self, job: Job) -> None:
        """Answers the job, blocking. A failure of the whole call goes to `job.stop`."""

    async def aembed(self, job: Job) -> None:
        """Answers the job without blocking the event loop. Cancelling returns at once."""

    def check_budget(self, tokens: int) -> None:
        """Refuses a call that is expected to cost this much, if it may not."""

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, exact where a tokenizer is at hand."""

    def requests_for(self, items: int, tokens: int) -> int:
        """Requests that so much takes; 0 where nothing is sent."""

    def close(self) -> None:
        """Frees what can be made again."""

    async def aclose(self) -> None:
        """The same, from a coroutine."""
