"""The options of JinaClip as command-line options, with its names and defaults."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from jinaclip.config import EmbedderConfig, read_choice

LEFT_OUT = ("api_key", "headers", "image_policy", "transport")
"""Options that a command line does not take: others can read it, and a policy or a function is no word."""
MEANINGS = {
    "model": "jina-clip-v1 or -v2; with --backend local also a folder or a hub id",
    "backend": "the hosted API, or the weights on this machine",
    "dimensions": "width of the vectors",
    "normalized": "vectors at length 1",
    "truncate": "cut texts over 8192 tokens instead of refusing them",
    "batch_size": "most items in one request or pass; learnt if not given",
    "max_concurrency": "most requests in flight; learnt if not given",
    "max_retries": "for each request",
    "timeout": "seconds for each attempt",
    "deadline": "seconds for each call as a whole; of embed, for the whole run",
    "base_url": "host, prefix or full endpoint",
    "wire": "what the server at base_url speaks; as base_url says if not given",
    "space": "name of the vector space, for an endpoint whose weights you know",
    "requests_per_minute": "of your tier, if you know it",
    "tokens_per_minute": "of your tier, if you know it",
    "token_budget": "tokens that may be spent; what would exceed them is not sent",
    "cache": "a file that keeps vectors; 'on' is your own, 'off' none; as JINACLIP_CACHE says if not given",
    "engine": "what computes: torch, or ONNX Runtime for a folder made by jinaclip export",
    "device": "cpu, cuda or mps; several as cuda:0,cuda:1, every card as cuda:all",
    "dtype": "float32, bfloat16 or float16",
    "revision": "of the model at the hub",
    "threads": "of the model on a CPU; as many as there are if not given",
    "image_resize": "how images come to the model's size",
    "image_quality": "1 to 100 sends JPEG; lossless if not given",
    "image_decode": "exact, or fast: JPEGs shrink as they are decoded",
    "url_mode": "who downloads image addresses: this machine, or the service",
    "show_progress": "bars; drawn on a terminal if not given",
}
NAMES = frozenset(MEANINGS)


def add_options(parser: argparse.ArgumentParser, *, left_out: Collection[str] = (), **defaults: Any) -> None:
    """Adds the options of JinaClip that are words or numbers.

    Args:
        parser: gets them.
        left_out: options that mean nothing to this command.
        defaults: of this command alone, to be shown: it fills them in itself.
    """
    group = parser.add_argument_group("options of JinaClip")
    hints = get_type_hints(EmbedderConfig)
    for field in fields(EmbedderConfig):
        if field.name not in (*LEFT_OUT, *left_out):
            default = defaults.get(field.name, field.default)
            show_default = default is not None and not isinstance(default, bool)
            meaning = MEANINGS[field.name] + (f" ({default})" if show_default else "")
            name = f"--{field.name.replace('_', '-')}"
            group.add_argument(name, default=argparse.SUPPRESS, help=meaning, **value_type(hints[field.name]))


def value_type(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    kinds = get_args(hint) or (hint,)
    if bool in kinds:
        return {"action": argparse.BooleanOptionalAction}
    kind = next((kind for kind in (int, float) if kind in kinds), str)
    return {"type": kind, "metavar": {int: "N", float: "X", str: "NAME"}[kind]}


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of JinaClip that were given, and all others."""
    progress = {"show_progress": sys.stderr.isatty()}
    clip_options = {**progress, **{name: value for name, value in options.items() if name in NAMES}}
    if "cache" in clip_options:
        clip_options["cache"] = read_choice(clip_options["cache"])
    return clip_options, {name: value for name, value in options.items() if name not in NAMES}
