"""What holds in LangChain, LlamaIndex and Haystack alike, found by walking what each adapter gives."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from pydantic import BaseModel

import haystack_jinaclip
import langchain_jinaclip
import llamaindex_jinaclip

ADAPTERS = {
    f"{package.__name__}.{name}": getattr(package, name)
    for package in (langchain_jinaclip, llamaindex_jinaclip, haystack_jinaclip)
    for name in package.__all__
    if inspect.isclass(getattr(package, name))
}
NO_SCHEMA = {"langchain_jinaclip.JinaClipRetriever", "langchain_jinaclip.JinaClipTool"}
"""They hold a store or a retriever, for which Pydantic makes no schema; that of the tool's arguments is its model's."""
MODELS = {name: kind for name, kind in ADAPTERS.items() if issubclass(kind, BaseModel) and name not in NO_SCHEMA}
COMPONENTS = {name: kind for name, kind in ADAPTERS.items() if name.startswith("haystack_jinaclip")}


# Descriptions


def undescribed(schema: dict[str, Any]) -> list[str]:
    """Fields without a description, of a schema and of those within it; LlamaIndex adds `class_name`, no field."""
    parts = {schema["title"]: schema, **schema.get("$defs", {})}
    fields = {f"{part}.{name}": field for part in parts for name, field in parts[part].get("properties", {}).items()}
    return [name for name, field in fields.items() if not field.get("description") and not name.endswith(".class_name")]


@pytest.mark.parametrize("name", MODELS)
def test_every_field_of_a_schema_that_a_host_shows_has_a_description(name: str) -> None:
    assert undescribed(MODELS[name].model_json_schema()) == []


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_option_of_a_component_is_described(name: str) -> None:
    """Where editors and `help` look."""
    init = COMPONENTS[name].__init__
    parameters = [*inspect.signature(init).parameters][1:]
    section = inspect.getdoc(init).partition("Args:\n")[2].partition("\n\n")[0]
    told = re.findall(r"^    (\w+): \S", section, re.MULTILINE)
    assert parameters and sorted(told) == sorted(parameters)
