"""The search in the hands of a model: what it gets to see, and what it may not reach."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.messages.content import create_image_block
from langchain_core.vectorstores import InMemoryVectorStore
from PIL import Image as Pillow
from pydantic import ValidationError

from jinaclip import ImagePolicy
from jinaclip.testing.process import Server
from langchain_jinaclip import JinaClipDiversifier, JinaClipRetriever, JinaClipTool
from tests.articles import Article
from tests.langchain.conftest import Make, new_chroma, put
from tests.langchain.test_embeddings import encoded


@pytest.fixture
def shop(both: Any, catalogue: list[Article]) -> JinaClipRetriever:
    chosen = catalogue[:10]
    store, embeddings = InMemoryVectorStore(both["local"]), both["local"]
    vectors = embeddings.embed_images([shown.picture for shown in chosen])
    facts = [
        {"image": str(shown.picture), "id": shown.id, "price": 25, "_id": 7, "long": "-" * 400} for shown in chosen
    ]
    put(store, [shown.id for shown in chosen], vectors, [shown.title for shown in chosen], facts)
    return JinaClipRetriever(vectorstore=store, k=2)


def call(**arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": "call-1", "name": "image_search", "args": arguments}


def both_ways(tool: JinaClipTool, **arguments: Any) -> ToolMessage:
    """The tool message, the same sync and async but for the ids of its blocks."""
    sync, native = tool.invoke(call(**arguments)), asyncio.run(tool.ainvoke(call(**arguments)))
    assert without_ids(sync) == without_ids(native)
    return sync


def without_ids(message: ToolMessage) -> Any:
    if isinstance(message.content, str):
        return message.content, message.status
    return [{name: value for name, value in block.items() if name != "id"} for block in message.content]


def test_the_answer_is_text_and_standard_image_blocks(shop: JinaClipRetriever, catalogue: list[Article]) -> None:
    shown = catalogue[4]
    for arguments in ({"image": str(shown.picture)}, {"text": shown.title, "image": str(shown.picture)}):
        message = both_ways(shop.as_tool(), **arguments)
        assert message.status == "success"
        assert [block["type"] for block in message.content] == ["text", "image"] * 2
        text, image = message.content[:2]
        assert text["text"].splitlines()[:2] == ["result 1", shown.title]
        assert {f"id: {shown.id}", "price: 25", f"image: {shown.picture}"} == set(text["text"].splitlines()[2:])
        assert message.content_blocks == message.content, "nothing in them is taken for non-standard"
        with Pillow.open(io.BytesIO(base64.b64decode(image["base64"]))) as picture:
            assert (picture.format, image["mime_type"]) == ("JPEG", "image/jpeg")
            assert max(picture.size) <= 512


def test_no_text_ever_holds_base64(both: Any, catalogue: list[Article]) -> None:
    """Chroma's `add_images` makes the base64 of the file the content; with and without a reference beside it."""
    uris = [str(shown.picture) for shown in catalogue[:2]]
    for facts in ([{"image": uri} for uri in uris], [{"n": 1}, {"n": 2}]):
        store: Any = new_chroma(both["local"], 128, [])
        store.add_images(uris=uris, metadatas=facts)
        message = both_ways(JinaClipRetriever(vectorstore=store).as_tool(), image=uris[0])
        texts = [block["text"] for block in message.content if block["type"] == "text"]
        assert [block["type"] for block in message.content] == ["text", "image"] * 2
        assert all(len(text) < 400 for text in texts)


def test_a_picture_in_the_content_or_in_any_entry_is_no_text_either(make: Make) -> None:
    buffer = io.BytesIO()
    Pillow.new("RGB", (1, 1)).save(buffer, "PNG")
    letters = base64.b64encode(buffer.getvalue()).decode()
    assert len(letters) < 300, "short enough to be told, were it not a picture"
    for content in (letters, f"data:image/png;base64,{letters}"):
        store = InMemoryVectorStore(make())
        put(store, ["a"], [make().embed_query("a")], [content], [{"thumbnail": content}])
        text, image = both_ways(JinaClipRetriever(vectorstore=store).as_tool(), text="a").content
        assert text["text"] == "result 1"
        assert image["type"] == "image"


def test_a_reference_that_holds_the_file_itself_is_shown_and_not_told(both: Any, catalogue: list[Article]) -> None:
    uri = "data:image/png;base64," + base64.b64encode(catalogue[0].picture.read_bytes()).decode()
    store = InMemoryVectorStore(both["local"])
    put(store, ["a"], [both["local"].embed_image(uri)], ["a"], [{"image": uri}])
    text, image = both_ways(JinaClipRetriever(vectorstore=store).as_tool(), text="a").content
    assert text["text"] == "result 1\na"
    assert image["type"] == "image"


def test_a_public_address_is_handed_on_and_not_fetched(make: Make) -> None:
    store = InMemoryVectorStore(make())
    put(store, ["a"], [make().embed_query("a")], ["a"], [{"image": "https://example.com/a.png"}])
    image = both_ways(JinaClipRetriever(vectorstore=store).as_tool(), text="a").content[1]
    assert (image["url"], "base64" in image) == ("https://example.com/a.png", False)


def test_a_stored_reference_is_no_way_around_the_policy(make: Make, tmp_path: Path) -> None:
    """Whoever may write documents may not make the tool show any file of the machine."""
    secret = tmp_path / "secret.png"
    Pillow.new("RGB", (8, 8)).save(secret)
    store = InMemoryVectorStore(make())
    put(store, ["a"], [make().embed_query("a")], ["a"], [{"image": str(secret)}])
    blocks = both_ways(JinaClipRetriever(vectorstore=store).as_tool(), text="a").content
    assert [block["type"] for block in blocks] == ["text"]
    assert "allowed_roots" in blocks[0]["text"]
    allowed = make(image_policy=ImagePolicy(allowed_roots=(tmp_path,)))
    blocks = both_ways(JinaClipRetriever(vectorstore=store, embeddings=allowed).as_tool(), text="a").content
    assert [block["type"] for block in blocks] == ["text", "image"]


def test_pictures_stay_away_on_demand(shop: JinaClipRetriever) -> None:
    assert [block["type"] for block in both_ways(shop.as_tool(show_images=False), text="a").content] == ["text"] * 2


def test_nothing_found_is_said(make: Make) -> None:
    assert (
        both_ways(JinaClipRetriever(vectorstore=InMemoryVectorStore(make())).as_tool(), text="a").content[0]["text"]
        == "nothing found"
    )


UNTRUSTED = [
    ({"image": "/etc/hostname"}, "allowed_roots"),
    ({"image": "../../etc/hostname"}, "allowed_roots"),
    ({"image": "file:///etc/hostname"}, "file"),
    ({"image": "http://169.254.169.254/latest/meta-data"}, "http"),
    ({"image": "https://127.0.0.1/a.png"}, "127.0.0.1|public|network"),
    ({"image": "https://localhost/a.png"}, "localhost|public|network"),
    ({"image": "data:text/html;base64,aaaa"}, "no image"),
    ({"text": "  "}, "needs a text"),
    ({"text": "data:image/png;base64," + "iVBORw0KGgo" * 9}, "pass it as"),
    ({}, "needs a text"),
]


@pytest.mark.parametrize(("arguments", "said"), UNTRUSTED, ids=str)
def test_what_a_model_may_not_reach_becomes_a_tool_message_that_says_why(make: Make, arguments: Any, said: str) -> None:
    message = both_ways(JinaClipRetriever(vectorstore=InMemoryVectorStore(make())).as_tool(), **arguments)
    assert message.status == "error"
    assert any(part in message.content for part in said.split("|")), message.content


def test_a_model_does_not_learn_which_names_and_addresses_there_are(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same words for a name that leads inside, for one that does not exist, and for a literal address."""
    resolve = socket.getaddrinfo

    def resolve_names(host: str, *args: Any, **options: Any) -> list[Any]:
        if host == "missing.corp":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return resolve("10.20.30.40" if host == "db.corp" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_names)
    tool = JinaClipRetriever(vectorstore=InMemoryVectorStore(make())).as_tool()
    said = set()
    for host in ("db.corp", "missing.corp", "10.20.30.40", "169.254.169.254", "localhost"):
        message = both_ways(tool, image=f"https://{host}/x.png")
        assert message.status == "error"
        said.add(str(message.content).replace(f"//{host}/", "//host/"))
    assert len(said) == 1
    assert "10.20.30.40" not in said.pop()


def test_arguments_of_the_wrong_type_become_a_tool_message(make: Make) -> None:
    message = both_ways(JinaClipRetriever(vectorstore=InMemoryVectorStore(make())).as_tool(), image=["a", 5])
    assert message.status == "error"
    assert "must be strings" in message.content


@pytest.mark.usefixtures("hasty")
def test_an_outage_is_told_to_the_model(make: Make, server: Server) -> None:
    server.configure(fault_rate=1.0, faults=["status_503"])
    message = both_ways(JinaClipRetriever(vectorstore=InMemoryVectorStore(make(max_retries=1))).as_tool(), text="a")
    assert message.status == "error"
    assert "the search failed" in message.content and "503" in message.content


class Down(InMemoryVectorStore):
    """A store that cannot be reached."""

    def similarity_search_by_vector(self, *_: Any, **__: Any) -> list[Document]:
        raise ConnectionError("refused at https://user:password@db.internal")


def test_a_store_that_fails_is_told_by_the_class_of_its_error_alone(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    message = both_ways(JinaClipRetriever(vectorstore=Down(make())).as_tool(), text="a")
    assert (message.status, message.content) == ("error", "the search failed: ConnectionError of the store")
    assert "db.internal" in caplog.text, "whoever runs the agent sees the whole"


def test_as_tool_takes_the_options_of_the_tool_and_no_others(shop: JinaClipRetriever) -> None:
    tool = shop.as_tool(name="find_clothes", description="Finds clothes.")
    assert (tool.name, tool.description) == ("find_clothes", "Finds clothes.")
    schema = tool.tool_call_schema.model_json_schema()
    assert set(schema["properties"]) == {"text", "image", "attached"}
    with pytest.raises(ValidationError, match="descripton"):
        shop.as_tool(descripton="Finds clothes.")


class Script(GenericFakeChatModel):
    """A chat model that says what it is told to, and takes tools."""

    def bind_tools(self, tools: Any, **_: Any) -> Script:
        return self


def asking(**arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "image_search", "args": arguments, "id": json.dumps(arguments)}])


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_an_agent_searches_is_refused_and_goes_on(shop: JinaClipRetriever, catalogue: list[Article], way: str) -> None:
    shown = catalogue[3]
    script = [asking(image="/etc/passwd"), asking(image=str(shown.picture)), AIMessage("Here it is.")]
    agent = create_agent(Script(messages=iter(script)), [shop.as_tool()])
    given = {"messages": [HumanMessage("Find something like this.")]}
    messages = (agent.invoke(given) if way == "invoke" else asyncio.run(agent.ainvoke(given)))["messages"]
    refused, found = [message for message in messages if isinstance(message, ToolMessage)]
    assert refused.status == "error" and "allowed_roots" in refused.content
    assert [block["type"] for block in found.content] == ["text", "image"] * 2
    assert shown.title in found.content[0]["text"]
    assert messages[-1].content == "Here it is."


@pytest.mark.parametrize("reference", ["https://127.0.0.1/a.png", "https://10.0.0.1/a.png", "https://localhost:8443/a"])
def test_an_address_that_the_policy_refuses_is_not_handed_on(shop: JinaClipRetriever, reference: str) -> None:
    tool = JinaClipTool(retriever=shop)
    blocks = tool._blocks(1, Document(page_content="a coat", metadata={"image": reference}))
    assert [block["type"] for block in blocks] == ["text"]
    assert "cannot be shown" in blocks[0]["text"]


@pytest.mark.parametrize("before, after", [("![x](", ")"), ('<img src="', '">'), ("", "")])
def test_pictures_in_the_text_of_a_document_are_left_out(shop: JinaClipRetriever, before: str, after: str) -> None:
    content = f"a coat {before}data:image/png;base64,{'iVBORw0KGgo' * 40}{after}"
    text = JinaClipTool(retriever=shop)._blocks(1, Document(page_content=content))[0]["text"]
    assert "iVBOR" not in text
    assert "a coat" in text


PIXELS = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)
LETTERS = base64.b64encode(encoded(Pillow.fromarray(PIXELS))).decode()
LINES = base64.encodebytes(base64.b64decode(LETTERS)).decode()
CONTENTS = {
    "a URI in lines": f"a coat data:image/png;base64,{LINES}",
    "in capitals": f"a coat DATA:image/png;base64,{LETTERS}",
    "a URI of bytes": f"a coat data:application/octet-stream;base64,{LETTERS}",
    "on a line of its own": f"a coat\n{LETTERS}",
    "in JSON": json.dumps({"name": "a coat", "image": LETTERS, "small": LINES}),
    "URL-safe": "a coat " + LETTERS.replace("/", "_").replace("+", "-"),
}


@pytest.mark.parametrize("form", CONTENTS)
def test_no_spelling_of_base64_reaches_the_model(make: Make, form: str) -> None:
    store, small = InMemoryVectorStore(make()), LETTERS[:200]
    facts = {"thumbnails": [small], "nested": {"image": small}, "html": f"<img src='data:image/png;base64,{small}'>"}
    put(
        store,
        ["a"],
        [make().embed_query("a")],
        [CONTENTS[form]],
        [{**facts, "bytes": b"GIF89a", "array": PIXELS[:1, :1]}],
    )
    [block] = both_ways(JinaClipRetriever(vectorstore=store).as_tool(), text="a").content
    assert "a coat" in block["text"]
    assert "thumbnails: ['[image]']" in block["text"] and "nested: {'image': '[image]'}" in block["text"]
    assert "GIF89a" not in block["text"] and "array" not in block["text"]
    assert len(block["text"]) < 200


@pytest.mark.parametrize("letters", [LETTERS, LETTERS[:190], "./" + LETTERS[:150]], ids=len)
def test_base64_that_a_model_passes_as_an_image_is_not_quoted_back(make: Make, letters: str) -> None:
    message = both_ways(JinaClipRetriever(vectorstore=InMemoryVectorStore(make())).as_tool(), image=letters)
    assert message.status == "error"
    assert LETTERS[:12] not in message.content and len(message.content) < 120


@pytest.mark.parametrize(
    "reference",
    [
        create_image_block(base64=LETTERS, mime_type="image/png"),
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{LETTERS}"}},
        PIXELS,
        Pillow.fromarray(PIXELS),
        base64.b64decode(LETTERS),
    ],
    ids=lambda reference: type(reference).__name__,
)
def test_metadata_may_hold_a_picture_in_any_form(make: Make, reference: Any) -> None:
    """For what is shown, for what is embedded again, and beside the base64 that Chroma's `add_images` leaves."""
    embeddings = make()
    store = InMemoryVectorStore(embeddings)
    put(store, ["a"], [embeddings.embed_query("a")], [LETTERS], [{"image": reference}])
    search = JinaClipRetriever(vectorstore=store)
    text, image = both_ways(search.as_tool(), text="a").content
    assert LETTERS[:20] not in text["text"]
    with Pillow.open(io.BytesIO(base64.b64decode(image["base64"]))) as shown:
        assert shown.size == (30, 40)
    [document] = search.invoke("a")
    assert document.page_content == "image a", "its id, where the reference is the image itself"
    billed = embeddings.clip.usage.items
    diversifier = JinaClipDiversifier(embeddings=embeddings, method="mmr")
    assert diversifier.compress_documents([document], "a") == [document]
    assert embeddings.clip.usage.items == billed + 1


def test_a_content_block_with_an_address_is_handed_on(make: Make) -> None:
    store = InMemoryVectorStore(make())
    block = create_image_block(url="https://example.com/a.png")
    put(store, ["a"], [make().embed_query("a")], ["a"], [{"image": block}])
    image = both_ways(JinaClipRetriever(vectorstore=store).as_tool(), text="a").content[1]
    assert image["url"] == "https://example.com/a.png"
