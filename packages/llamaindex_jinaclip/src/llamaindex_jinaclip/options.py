"""The options of the core as fields of LlamaIndex's class, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from llama_index.core.bridge.pydantic import SecretStr, ValidationError

from jinaclip import ConfigError, ImagePolicy, JinaClip, hosts
from jinaclip.hosts import MAX_BATCH, EmbedderConfig, Headers

OPTIONS = {item.name: item.name for item in fields(EmbedderConfig)}
OPTIONS |= {"model_name": OPTIONS.pop("model"), "embed_batch_size": OPTIONS.pop("batch_size")}
"""Our fields, and the core's words for them: LlamaIndex has two words of its own."""


def describe_fields(schema: dict[str, Any], owner: type) -> None:
    """The descriptions of options, for the schema of a class that has them as fields."""
    hosts.describe_fields(schema, owner, OPTIONS)


class Dump(dict[str, Any]):
    """What `to_dict` gives: all options; as a str, only the name of what they make of nodes.

    LlamaIndex's ingestion cache hashes `str(transformation.to_dict())` and has no other hook, while `from_dict` is to
    find all options. So the two differ: a time limit is in the dump, and changes no hash. Copies are plain dicts.

    Args:
        options: by name.
        identify: gives the name, when somebody asks: for local weights it may have to read them.
    """

    def __init__(self, options: Mapping[str, Any], identify: Callable[[], str]) -> None:
        super().__init__(options)
        self._identify = identify

    def __str__(self) -> str:
        return self._identify()

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


def name_model(model: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The options with a model that was given without a name.

    Raises:
        ConfigError: more was given so, or the model twice.
    """
    if len(model) > 1:
        raise ConfigError("only the model goes without a name; give the other options as name=value")
    if model and "model_name" in options:
        raise ConfigError("the model is given twice, once as model_name")
    return {**options, **dict(zip(("model_name",), model, strict=False))}


def wrap_secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with key and headers wrapped, before anything can fail and a traceback show them."""
    wrapped = {name: Headers.wrap(v) if name == "headers" else v for name, v in options.items()}
    return {name: SecretStr(v) if "key" in name.lower() and isinstance(v, str) else v for name, v in wrapped.items()}


@contextmanager
def config_errors() -> Iterator[None]:
    """Turns Pydantic's refusals, which show what they refuse, into those of other options.

    Raises:
        ConfigError: a field does not fit.
    """
    problems: list[Any] = []
    try:
        yield
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
    if problems:
        raise ConfigError("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems))


def open_clip(options: Mapping[str, Any]) -> JinaClip:
    """The core object for options in either's words.

    Raises:
        ConfigError: an option is wrong, unknown, or given in both words.
    """
    named = {OPTIONS.get(name, name): value for name, value in options.items()}
    if len(named) < len(options):
        raise ConfigError("give each option once: model is model_name here, batch_size is embed_batch_size")
    if isinstance(named.get("image_policy"), dict):
        named["image_policy"] = read_policy(named["image_policy"])
    if named.get("batch_size") == MAX_BATCH:
        named["batch_size"] = None
    try:
        return JinaClip(**named)
    except ConfigError as error:
        if error.option != "batch_size":
            raise
        wrong = f"embed_batch_size={named['batch_size']!r} must be {error.requirement}"
        raise ConfigError(wrong, option="embed_batch_size", requirement=error.requirement) from None


def read_policy(policy: Mapping[str, Any]) -> ImagePolicy:
    """An image policy from a dump, where tuples are lists."""
    settings: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in policy.items()}
    return ImagePolicy(**settings)


def clip_fields(clip: JinaClip) -> dict[str, Any]:
    """The options of a core object as our fields."""
    options = clip.config.options()
    options["api_key"] = SecretStr(options["api_key"].reveal()) if options["api_key"] else None
    options["batch_size"] = options["batch_size"] or MAX_BATCH
    return {ours: options[theirs] for ours, theirs in OPTIONS.items()}
