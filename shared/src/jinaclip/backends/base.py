"""The seam between the facade and what makes the vectors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from jinaclip.call.call import Call
from jinaclip.call.prepare import Inputs
from jinaclip.call.watch import Service
from jinaclip.inputs import Image, Text
from jinaclip.space import Weights
from jinaclip.specs import ModelSpec


class Backend(Protocol):
    """Gives every input of a call a vector or an error. One object serves all threads and event loops."""

    @property
    def spec(self) -> ModelSpec:
        """Facts of the model."""

    @property
    def weights(self) -> Weights:
        """Which weights embed. Told without loading them, and without a network."""

    @property
    def service(self) -> Service:
        """Who embeds, for those who watch. Told without a key, and without a network."""

    @property
    def rounding(self) -> dict[str, Any]:
        """What tells apart vectors of these weights that only round differently: JSON values."""

    @property
    def image_settings(self) -> bytes:
        """All that decides what becomes of the file of an image: `Recipe.settings`."""

    @property
    def logit_scale(self) -> float | None:
        """Logarithm of what the model was trained to multiply cosines with; None where nobody tells."""

    def prepare(self, call: Call, inputs: Iterable[tuple[int, Text | Image]]) -> Inputs[Any]:
        """Inputs of a call as this backend takes them.

        They are made as they are asked for; that takes no connection, no key and no loaded weights.
        """

    def embed(self, call: Call, inputs: Any) -> None:
        """Embeds what it has prepared, blocking. A failure of the whole call goes to `call.stop`."""

    async def aembed(self, call: Call, inputs: Any) -> None:
        """The same without blocking the event loop. Cancelling returns at once."""

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, exact where a tokenizer is at hand."""

    def requests_for(self, inputs: int, tokens: int) -> int:
        """Requests that so much takes; 0 where nothing is sent."""

    def load(self) -> None:
        """Makes ready what the first call would."""

    def close(self) -> None:
        """Frees what can be made again."""

    async def aclose(self) -> None:
        """The same, from a coroutine."""
