"""What is fixed about each model, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinaclip.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Facts of one published model. Sizes in pixels and tokens, vectors in float32 numbers."""

    name: str
    hub_id: str
    revision: str
    sha256: str
    """Of `model.safetensors` at the hub; empty where nothing was published."""
    weights_bytes: int
    """Size of that file."""
    licence: str
    commercial: bool
    """Whether the weights may be used commercially without a licence from their owner."""
    dimensions: int
    min_dimensions: int
    """Smallest width the model can be cut to; equal to `dimensions` when it cannot be cut."""
    useful_dimensions: int
    """Below this width Jina does not vouch for quality."""
    matryoshka: tuple[int, ...]
    """Widths the model was trained for."""
    image_size: int
    """Side of the square the vision tower sees; also the side of a billed tile."""
    tokens_per_tile: int
    max_tokens: int
    query_task: str | None
    """Value of the API's `task` for queries, or None where the model has none."""
    query_instruction: str
    """What the service puts in front of a query, and the local backend too."""

    def prefix(self, task: str) -> str:
        """What goes before a text, and is billed with it: the instruction before a query, else nothing.

        Args:
            task: "document" or "query".
        """
        return self.query_instruction if task == "query" else ""

    def check_dimensions(self, dimensions: int) -> None:
        """Raises ConfigError if the model cannot be cut to this width."""
        if not self.min_dimensions <= dimensions <= self.dimensions:
            cut = self.min_dimensions < self.dimensions
            only = f"{self.min_dimensions} to {self.dimensions}" if cut else self.dimensions
            raise ConfigError(f"dimensions={dimensions} does not fit {self.name}, which gives {only}")


JINA_CLIP_V1 = ModelSpec(
    name="jina-clip-v1",
    hub_id="jinaai/jina-clip-v1",
    revision="06150c7c382d7a4faedc7d5a0d8cdb59308968f4",
    sha256="5140d6df851d217296a10b3961ece2850d22b35bff37af948f2d9db33ae4aec2",
    weights_bytes=890_733_860,
    licence="Apache-2.0",
    commercial=True,
    dimensions=768,
    min_dimensions=768,
    useful_dimensions=768,
    matryoshka=(768,),
    image_size=224,
    tokens_per_tile=1000,
    max_tokens=8192,
    query_task=None,
    query_instruction="",
)

JINA_CLIP_V2 = ModelSpec(
    name="jina-clip-v2",
    hub_id="jinaai/jina-clip-v2",
    revision="344d954da76eb8ad47a7aaff42d012e30c15b8fe",
    sha256="eff4c0a13ab4de71a9927a56968fef44e626920ff935e503f1bd3e6ec797062d",
    weights_bytes=1_730_688_642,
    licence="CC-BY-NC-4.0",
    commercial=False,
    dimensions=1024,
    min_dimensions=1,
    useful_dimensions=64,
    matryoshka=(32, 64, 128, 256, 512, 768, 1024),
    image_size=512,
    tokens_per_tile=4000,
    max_tokens=8192,
    query_task="retrieval.query",
    query_instruction="Represent the query for retrieving evidence documents: ",
)

SPECS = {spec.name: spec for spec in (JINA_CLIP_V1, JINA_CLIP_V2)}


def find_spec(model: str) -> ModelSpec:
    """The spec of a published model, by name (`jina-clip-v2`) or hub id (`jinaai/jina-clip-v2`).

    Raises:
        ConfigError: the model is neither of the two.
    """
    spec = SPECS.get(model.removeprefix("jinaai/")) if isinstance(model, str) else None
    if spec is None:
        raise ConfigError(f"model {model!r} is unknown; the hosted models are {' and '.join(SPECS)}")
    return spec


def check_model(model: str, dimensions: int | None, *, hosted: bool) -> None:
    """Refuses a model or a width as soon as options are given, for hosts that open a backend much later.

    Args:
        model: a name, a hub id or a folder.
        dimensions: None for the model's own.
        hosted: whether it has to be one of the published models; of other weights nothing is known before they are
            read.

    Raises:
        ConfigError: there is no such hosted model, or it does not give this width.
    """
    known = hosted or (model.removeprefix("jinaai/") in SPECS and not Path(model).is_dir())
    if known:
        spec = find_spec(model)
        if dimensions is not None:
            spec.check_dimensions(dimensions)
