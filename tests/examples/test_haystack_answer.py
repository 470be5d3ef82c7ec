"""Answers from images and texts through Haystack: the model sees the images that were found, and no others."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from haystack.dataclasses import ChatMessage, ImageContent
from haystack.utils import Secret

from examples.answers import haystack_answer as example
from examples.catalogue.drawing import draw
from examples.catalogue.wording import title

PRODUCTS = example.choose_products()
LOOKS = {product.id: product.attributes for product in PRODUCTS}


@pytest.fixture(scope="module", params=["local", "api"])
def options(request, catalogue_checkpoint):
    if request.param == "local":
        return {**example.OPTIONS, "model": catalogue_checkpoint}
    url = request.getfixturevalue("modelled").url
    return {"api_key": Secret.from_token("jina_test_haystack_answer"), "base_url": url, "dimensions": 128}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("answers")


@pytest.fixture(scope="module")
def store(options, folder):
    coats = [product for product in PRODUCTS if product.attributes.garment == "coat"]
    return example.fill_store(folder, [*PRODUCTS[:12], *coats], options)


def looks_of(document):
    return LOOKS[Path(document.meta["file_path"]).stem]


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\[(\d+)\]", text)]


def ask(store, options, *question):
    pipe = example.answering_pipeline(store, options)
    try:
        return example.ask(pipe, *question)
    finally:
        pipe.close()


def test_an_answer_names_its_sources_images_and_texts(store, options) -> None:
    """The images are those of red products, by their bytes; the texts say so."""
    answer = ask(store, options, "a red dress")
    shown, told = (numbers(half) for half in answer.data.split(";"))
    sources = {document.meta["source_index"]: document for document in answer.documents}
    assert shown and told and sorted(sources) == sorted([*shown, *told])
    assert all(looks_of(sources[number]).colour == "red" for number in shown)
    assert "red-dress" in {Path(sources[number].meta["file_path"]).stem for number in shown}
    assert all(" red " in f" {sources[number].content} " for number in told)
    assert title(example.RED_DRESS, "en") in {sources[number].content for number in told}


def test_an_image_that_is_swapped_changes_the_answer(store, options, folder) -> None:
    """After indexing, the file of the red dress shows a blue one: the model says what it sees."""
    file = folder / "red-dress.png"
    before, data = ask(store, options, "a red dress"), file.read_bytes()
    try:
        draw(replace(example.RED_DRESS, attributes=replace(LOOKS["red-dress"], colour="blue"))).save(file)
        after = ask(store, options, "a red dress")
    finally:
        file.write_bytes(data)
    number = next(one.meta["source_index"] for one in before.documents if str(one.meta.get("file_path")) == str(file))
    seen = [numbers(answer.data.split(";")[0]) for answer in (before, after)]
    assert seen[1] == [one for one in seen[0] if one != number]


def test_an_image_beside_the_words_decides_what_is_found(store, options) -> None:
    """A green coat was sent, and red asked for: coats are found by it, and would not be without."""
    found = [ask(store, options, "one like this, but red", image) for image in (None, image_of(sent(store)))]
    garments = [{looks_of(one).garment for one in answer.documents if "file_path" in one.meta} for answer in found]
    assert "coat" not in garments[0] and "coat" in garments[1]


def image_of(path) -> ImageContent:
    return ImageContent.from_file_path(path)


def sent(store) -> Path:
    """The image that a customer sends, beside those of the store."""
    images = [one for one in store.filter_documents() if one.meta["kind"] == "image"]
    path = Path(images[0].meta["file_path"]).parent / "sent.png"
    draw(example.COAT).save(path)
    return path


@pytest.fixture
def agent(store, options):
    made = example.searching_agent(store, options)
    yield made
    made.close()


@pytest.fixture(params=["run", "run_async"])
def search(request, agent, store):
    """Asks the agent, with the image of a green coat."""
    image = ImageContent.from_file_path(sent(store))

    async def ask_agent(question):
        given = {"messages": [ChatMessage.from_user(content_parts=[question, image])], "image": image}
        return agent.run(**given) if request.param == "run" else await agent.run_async(**given)

    return ask_agent


async def test_an_agent_searches_with_the_image_of_the_conversation_and_looks_at_what_it_finds(search) -> None:
    result = await search("one like this, but red")
    (told,) = [m.tool_call_result for m in result["messages"] if m.tool_call_result]
    assert [type(part).__name__ for part in told.result] == ["TextContent", "ImageContent"] * 3
    found = [looks_of(document) for document in result["documents"]]
    seen = numbers(result["last_message"].text.split(";")[0])
    assert seen == [number for number, looks in enumerate(found, 1) if looks.colour == "red"]
    assert seen and (found[0].garment, found[1].garment) == ("coat", "coat")


async def test_an_agent_that_is_asked_for_another_colour_answers_of_that(search) -> None:
    """By what it sees: the same coats are found."""
    result = await search("one like this, but brown")
    found = [looks_of(document).colour for document in result["documents"]]
    seen = numbers(result["last_message"].text)
    assert seen and seen == [number for number, colour in enumerate(found, 1) if colour == "brown"]


def test_the_program_runs(capsys) -> None:
    example.main()
    printed = capsys.readouterr().out
    assert "red-dress.png" in printed and "one like this, but red?" in printed
