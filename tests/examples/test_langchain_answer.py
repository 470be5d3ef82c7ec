"""The agent that answers about an image: a lost or swapped image, or text, changes what it says and cites."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.vectorstores import InMemoryVectorStore

from examples.answers.langchain_answer import COAT, OPTIONS, QUESTION, Answer, VisionModel, ask, build_agent, index
from examples.catalogue.drawing import draw
from examples.catalogue.products import Attributes, Product
from jinaclip.testing.process import Server
from langchain_jinaclip import JinaClipRetriever

COLOURS = ("red", "green", "yellow", "black")
COATS = [Product(f"{one}-coat", Attributes("coat", one, "plain", "", "maxi"), 7) for one in COLOURS]
DRESS = Product("red-dress", Attributes("dress", "red", "plain", "", "midi", "short", "round"), 5)
RED = "You showed me something blue. There is a red coat: "


def photo(product: Product = COAT) -> bytes:
    file = io.BytesIO()
    draw(product).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(params=["local", "api"])
def store(request: pytest.FixtureRequest, catalogue_checkpoint: str, tmp_path: Path) -> InMemoryVectorStore:
    options: dict[str, Any] = OPTIONS
    if request.param == "api":
        modelled: Server = request.getfixturevalue("modelled")
        options = {"api_key": "jina_test_answers", "base_url": modelled.url, "dimensions": 128, "image_resize": "none"}
    return index(options, [*COATS, DRESS], tmp_path)


def answered(store: InMemoryVectorStore, question: str = QUESTION, image: bytes | None = None) -> Answer:
    return ask(build_agent(VisionModel(), store), question, photo() if image is None else image)


def test_the_answer_is_of_what_was_shown_and_found_and_cites_it(store: InMemoryVectorStore, tmp_path: Path) -> None:
    answer = answered(store)
    assert answer.text.startswith(RED)
    [source] = answer.sources
    assert (source.id, source.metadata["image"]) == ("red-coat", str(tmp_path / "red-coat.png"))
    assert source.page_content in answer.text
    assert answered(store, "Do you have a coat like this in green?").sources[0].id == "green-coat"
    assert answered(store, image=photo(DRESS)).text.startswith("You showed me something red.")


def test_a_swapped_image_changes_the_source(store: InMemoryVectorStore, tmp_path: Path) -> None:
    red, green = tmp_path / "red-coat.png", tmp_path / "green-coat.png"
    kept = red.read_bytes()
    red.write_bytes(green.read_bytes())
    green.write_bytes(kept)
    assert [source.id for source in answered(store).sources] == ["green-coat"]


def test_without_images_the_model_sees_nothing(store: InMemoryVectorStore) -> None:
    blind = create_agent(VisionModel(), [JinaClipRetriever(vectorstore=store, k=5).as_tool(show_images=False)])
    answer = ask(blind, QUESTION, photo())
    assert (answer.text, answer.sources) == ("You showed me something blue. I see no red coat.", [])


def test_without_its_text_a_coat_is_no_coat(store: InMemoryVectorStore) -> None:
    store.store["red-coat"]["text"] = "Something red"
    assert answered(store).sources == []
