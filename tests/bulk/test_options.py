"""What a run may be asked for is the same for the command, for Python and for the options that both become."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import MISSING, fields
from inspect import signature
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from jinaclip.bulk import BulkOptions, embed, plan
from jinaclip.cli.embed import add_columns, add_ray, add_run

DEFAULTS = {field.name: field.default for field in fields(BulkOptions) if field.default is not MISSING}


def choices_of(hint: Any) -> set[str]:
    """The words that a type allows; not one if it is no choice among words."""
    if get_origin(hint) is Literal:
        return {*get_args(hint)}
    return {word for part in get_args(hint) for word in choices_of(part)}


def actions() -> dict[str, argparse.Action]:
    """The command's options of a run, by name; its module loads no numpy, and so spells them out."""
    parser = argparse.ArgumentParser()
    for add in (add_columns, add_run, add_ray):
        add(parser)
    return {action.dest: action for action in parser._actions}


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_command_has_each_option_with_its_default_and_its_choices(name: str) -> None:
    option = actions()[name]
    assert option.default == DEFAULTS[name]
    assert {*(option.choices or ())} == choices_of(get_type_hints(BulkOptions)[name])


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("function", [embed, plan], ids=["embed", "plan"])
def test_python_has_the_same_defaults(function: Callable[..., Any], name: str) -> None:
    """A plan has no options of a run that it only tells of."""
    parameter = signature(function).parameters.get(name)
    if parameter is None:
        assert (function, name in {"executor", "address", "actors", "gpus_per_actor", "on_error"}) == (plan, True)
    else:
        assert parameter.default == DEFAULTS[name]
