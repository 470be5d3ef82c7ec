"""The programs of the package's README run as they stand, but for the address of the service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from jinaclip.testing.process import Server
from langchain_jinaclip import JinaClipRetriever
from tests.langchain.conftest import new_qdrant
from tests.langchain.test_embeddings import picture
from tests.langchain.test_tool import Script, asking

README = (Path(__file__).parents[2] / "packages" / "langchain_jinaclip" / "README.md").read_text()
ADDRESS = 'JinaClipEmbeddings(model="jina-clip-v2")'


def program(section: str) -> str:
    """The Python of a section."""
    [code] = re.findall(r"```python\n(.*?)```", re.split(r"\n##+ ", README.split(f"## {section}\n")[1])[0], re.DOTALL)
    return code


@pytest.fixture
def names(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the first section leaves behind, in a folder with two pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JINA_API_KEY", "jina_test_readme")
    for seed, name in enumerate(("dress.png", "coat.png")):
        picture(seed).save(name)
    code = program("Texts")
    assert ADDRESS in code
    found: dict[str, Any] = {}
    exec(code.replace(ADDRESS, f'{ADDRESS[:-1]}, base_url="{server.url}")'), found)
    return found


def test_texts_and_images(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    exec(program("Images"), names)
    assert "page_content=" in capsys.readouterr().out
    assert {"dress.png", "coat.png"} <= set(names["store"].store)


def test_documents_with_and_without_images(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    exec(program("Adding documents to your store"), names)
    assert len(names["ids"]) == 3 and names["failed"] == []
    code = program("Adding documents to your store").replace('"coat.png"', '"no-such.png"')
    exec(code, names)
    assert len(names["ids"]) == 2
    assert capsys.readouterr().out.startswith("document 1 (no-such.png): ")


def test_rows_go_into_every_store_and_come_back(names: dict[str, Any]) -> None:
    from chromadb import EphemeralClient
    from chromadb.config import Settings
    from langchain_chroma import Chroma
    from langchain_core.vectorstores import InMemoryVectorStore

    embeddings, closing = names["embeddings"], []
    client = EphemeralClient(Settings(anonymized_telemetry=False))
    stores = {
        "memory": InMemoryVectorStore(embeddings),
        "qdrant": new_qdrant(embeddings, 1024, closing),
        "chroma": Chroma("shop", embeddings, client=client),
    }
    code, have = (
        program("By the store's own client"),
        {**names, **stores, "client": client},
    )
    exec(code, {**have, "ids": ["a"], "titles": ["A dress"], "images": ["dress.png"]})
    for _ in range(2):  # the same again changes nothing
        exec(code, {**have, "ids": ["b"], "titles": ["A coat"], "images": ["coat.png"]})
    for store in stores.values():
        documents = JinaClipRetriever(vectorstore=store, k=5).invoke({"image": "coat.png"})
        told = [(document.page_content, document.metadata["image"]) for document in documents]
        assert told == [("A coat", "coat.png"), ("A dress", "dress.png")]
    closing[0].close()
    client.delete_collection("shop")


def test_results_that_look_different(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    exec(program("Images") + program("Results that look different"), names)
    assert capsys.readouterr().out.count("page_content=") > 5
    assert len(names["varied"].invoke({"image": "coat.png"})) == 5


def test_the_agent(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    script = Script(messages=iter([asking(text="in blue", image="dress.png"), AIMessage("The coat.")]))
    exec(program("Images") + program("In an agent"), {**names, "model": script})
    assert capsys.readouterr().out.splitlines()[-1] == "The coat."


def test_the_cache_for_texts_and_images(
    names: dict[str, Any], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    server.reset()
    code = program("Never embed twice").replace("cache=True", f"cache=True, base_url={server.url!r}")
    for _ in range(2):
        exec(code, names)
        names["embeddings"].embed_documents(["a"])
        names["embeddings"].embed_image(["dress.png", "coat.png"])
    assert (server.ledger()["texts"], server.ledger()["images"]) == (1, 2)


def test_the_cache(names: dict[str, Any], server: Server) -> None:
    exec(program("Caching"), names)
    cached = names["cached"]
    assert cached.embed_documents(["a"]) == cached.embed_documents(["a"]) == names["embeddings"].embed_documents(["a"])
    assert cached.embed_query("a") == names["embeddings"].embed_query("a")
