"""The example that answers from pictures and texts in LlamaIndex: what the model says is what it was shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import QueryBundle

from examples.answers import llamaindex_answer as example
from examples.answers.colours import name_colour


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the shop's pictures are drawn; a small shop."""
    monkeypatch.setattr(example, "COUNT", 40)
    return tmp_path


@pytest.fixture
def engine(folder):
    with example.open_model(folder) as embed:
        yield example.open_shop(embed, example.shop_nodes(folder), example.ColourSeer())


def seen(answer):
    """What the model is to say of the sources, in their order, by what lies on disk."""
    parts = [
        f"{name_colour(Path(one.node.image_resource.path).read_bytes())} ({one.node.get_content()})"
        for one in answer.source_nodes
    ]
    return f"I see: {'; '.join(parts)}."


async def test_the_answer_names_what_is_on_the_pictures_that_were_found_beside_their_texts(engine, folder):
    """Asked by text, by picture and by both, sync and async; the sources are those of the answer."""
    coat = example.draw_to(folder / "coat.png", example.COAT)
    for query in (QueryBundle("a red dress"), QueryBundle("", coat), QueryBundle("in blue", coat)):
        for answer in (engine.query(query), await engine.aquery(query)):
            assert len(answer.source_nodes) == example.SHOWN
            assert str(answer) == seen(answer)


def test_a_picture_that_was_swapped_changes_the_answer(engine):
    """The model looks at the bytes: two pictures exchange their files after the shop was opened."""
    before = engine.query("a red dress")
    first, second = (one.node.image_resource.path for one in before.source_nodes[:2])
    contents = first.read_bytes(), second.read_bytes()
    second.write_bytes(contents[0])
    first.write_bytes(contents[1])
    after = engine.query("a red dress")
    assert [one.node_id for one in after.source_nodes] == [one.node_id for one in before.source_nodes]
    assert str(after) != str(before)
    assert str(after) == seen(after)


def test_an_answer_from_texts_alone_sees_no_picture(engine):
    """`multimodal=True` is what hands pictures over."""
    blind = RetrieverQueryEngine.from_args(engine.retriever, llm=example.ColourSeer())
    assert str(blind.query("a red dress")) == "I see no picture."


@pytest.mark.slow
def test_the_program_prints_answers_with_their_sources(folder, capsys):
    example.main()
    printed = capsys.readouterr().out
    assert printed.count("I see: ") == 3
    assert printed.count("  [test-") == 3 * example.SHOWN
    assert "red T-shirt + shirt.png" in printed
