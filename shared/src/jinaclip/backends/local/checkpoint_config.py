"""What `config.json` and `preprocessor_config.json` of a checkpoint say, read without loading weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from jinaclip.backends.local.files import parse_json, read_file, show
from jinaclip.backends.local.preprocess import PreprocessConfig
from jinaclip.backends.local.source import Source
from jinaclip.errors import CheckpointError
from jinaclip.specs import JINA_CLIP_V1, JINA_CLIP_V2, SPECS, ModelSpec

T = TypeVar("T")

FAMILIES = {
    "jinaai/jina-bert-flash-implementation": JINA_CLIP_V1,
    "jinaai/jina-embeddings-v3": JINA_CLIP_V2,
}
"""The published model that a checkpoint is a variant of, by the base of its text tower."""
MAX_JSON = 2**20
"""Bytes of a JSON file; the published ones have two thousand."""
MAX_SIZES = {"vocab_size": 10**7, "layers": 256, "num_hidden_layers": 256, "image_size": 1024}
"""Sizes beyond these are mistakes, and building them on trust would never end. The weight file bounds most of them more
closely; the side of an image, which no tensor has, is twice that of v2."""
MAX_SIZE = 2**16
"""Of any other integer."""
MAX_FLOAT = 10**7


def read_spec(source: Source) -> ModelSpec:
    """Facts of a model: of a published one as published, of another from its config.json.

    Raises:
        CheckpointError: there is no config.json, or it is not of this architecture.
    """
    if source.folder is None and source.name in SPECS:
        return SPECS[source.name]
    config = read_json(source.file("config.json"))
    text, vision = config_value(config, "", "text_config", dict), config_value(config, "", "vision_config", dict)
    family = FAMILIES.get(config_value(text, "text_config", "hf_model_name_or_path", str, ""))
    if family is None:
        raise CheckpointError(
            f"config.json of {source.model} names no text tower of jina-clip; is it a checkpoint of that architecture?"
        )
    projected = bool(config.get("add_projections"))
    section, where, key = (config, "", "projection_dim") if projected else (text, "text_config", "embed_dim")
    width = config_value(section, where, key, int)
    trained = _trained_widths(config, width)
    overrides = config_value(text, "text_config", "hf_model_config_kwargs", dict, {})
    instructions = config_value(overrides, "hf_model_config_kwargs", "task_instructions", dict, {})
    instruction = instructions.get("retrieval.query", "")
    if not isinstance(instruction, str):
        raise CheckpointError(f"config.json of {source.model}: the instruction of retrieval.query is no text")
    return dataclasses.replace(
        family,
        name=source.name,
        hub_id="" if source.folder else source.hub_id,
        revision=source.revision or "",
        sha256="",
        weights_bytes=0,
        licence="see its model card",
        commercial=True,
        dimensions=width,
        min_dimensions=1 if len(trained) > 1 else width,
        useful_dimensions=min(trained),
        matryoshka=trained,
        image_size=config_value(vision, "vision_config", "image_size", int),
        query_instruction=instruction,
    )


def _trained_widths(config: Mapping[str, Any], width: int) -> tuple[int, ...]:
    """The widths that vectors may be cut to; without them only the whole one."""
    widths = config_value(config, "", "matryoshka_dimensions", list, [])
    if not all(type(part) is int and 1 <= part <= width for part in widths):
        raise CheckpointError(f"config.json: matryoshka_dimensions = {show(widths)} are no widths up to {width}")
    return tuple(widths) or (width,)


def read_preprocessing(source: Source, spec: ModelSpec) -> PreprocessConfig:
    """The preprocessor_config.json of a model.

    Raises:
        CheckpointError: it is missing, cannot be used, or makes images of another size than the vision tower takes.
    """
    preprocessing = PreprocessConfig.from_config(read_json(source.file("preprocessor_config.json")))
    if preprocessing.size != spec.image_size:
        raise CheckpointError(
            f"preprocessor_config.json of {source.model} makes images of {preprocessing.size} pixels, "
            f"the vision tower takes {spec.image_size}"
        )
    return preprocessing


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: the file is missing or holds no JSON object.
    """
    value = parse_json(read_file(path, MAX_JSON), str(path))
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not {type(value).__name__}; fetch it again")
    return value


def config_value(config: Mapping[str, Any], where: str, key: str, kind: type[T], default: T | None = None) -> T:
    """The value of one key of config.json, checked for its type; null counts as absent.

    Args:
        config: the section that holds the key.
        where: name of that section, for messages.
        key: of the value.
        kind: type that the value must have; an integer is taken for a float too.
        default: what an absent key means; None where the key must be there.

    Raises:
        CheckpointError: it is absent and has no default, of another type, or a number that no model has: below zero,
            beyond `MAX_SIZES`, or not finite.
    """
    given = config.get(key)
    value: Any = default if given is None else given
    if kind is float and type(value) is int and abs(value) <= MAX_FLOAT:
        value = float(value)
    if value is None:
        raise CheckpointError(f"config.json lacks {where}.{key}")
    most = MAX_FLOAT if kind is float else MAX_SIZES.get(key, MAX_SIZE)
    if type(value) is not kind:
        raise CheckpointError(f"config.json: {where}.{key} = {show(value)} must be of type {kind.__name__}")
    if isinstance(value, int | float) and not 0 <= value <= most:
        raise CheckpointError(f"config.json: {where}.{key} = {show(value)} must be from 0 to {most:,}")
    return value


def refuse_variants(config: Mapping[str, Any], where: str, fixed: Mapping[str, Any]) -> None:
    """Refuses a configuration that asks for a variant of the tower that is not built here.

    Args:
        config: the section to look at.
        where: name of that section, for messages.
        fixed: the only value that each of these keys may have; the key may be absent too.

    Raises:
        CheckpointError: a key of `fixed` is present with another value.
    """
    for key, value in fixed.items():
        if config.get(key, value) != value:
            raise CheckpointError(
                f"config.json: {where}.{key} = {show(config[key])} is not supported; only {value!r} is"
            )
