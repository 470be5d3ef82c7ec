"""The ready-made suites of langchain-tests, not one of their tests overridden, over the fault server."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.tools import BaseTool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    ToolsIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests, ToolsUnitTests
from pytest_socket import SocketBlockedError

from langchain_jinaclip import JinaClipEmbeddings, JinaClipRetriever, JinaClipTool

KEY = "jina_test_standard"


class TestUnit(EmbeddingsUnitTests):
    """Made from parameters, and from the environment, without any socket."""

    @pytest.fixture(autouse=True)
    def _without_sockets(self, socket_disabled: None) -> None:
        """Whatever opens one fails."""

    def test_there_are_no_sockets(self) -> None:
        with pytest.raises((UserWarning, SocketBlockedError)):
            socket.socket()

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return JinaClipEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "jina-clip-v2", "api_key": KEY}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"JINA_API_KEY": KEY, "JINAAI_API_KEY": "jina_test_second"}, {}, {"api_key": KEY}


class TestUnitWithTheOtherVariable(TestUnit):
    """JINAAI_API_KEY serves where JINA_API_KEY is empty."""

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model_name": "jina-clip-v1", "jina_api_key": KEY}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"JINA_API_KEY": "", "JINAAI_API_KEY": KEY}, {"model": "jina-clip-v1"}, {"api_key": KEY}


class TestOverTheApi(EmbeddingsIntegrationTests):
    """Real vectors from the fault server."""

    @pytest.fixture(autouse=True)
    def _address(self, server: Any) -> None:
        self.url = server.url

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return JinaClipEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"api_key": KEY, "base_url": self.url}


class TestLocally(EmbeddingsIntegrationTests):
    """No key, no server."""

    @pytest.fixture(autouse=True)
    def _weights(self, catalogue_checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("JINA_API_KEY", raising=False)
        monkeypatch.delenv("JINAAI_API_KEY", raising=False)
        self.folder = catalogue_checkpoint

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return JinaClipEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": self.folder, "backend": "local", "device": "cpu"}


class Filled:
    """A store of five texts for the retriever and the tool."""

    @pytest.fixture(autouse=True)
    def _store(self, server: Any) -> None:
        embeddings = JinaClipEmbeddings(api_key=KEY, base_url=server.url)
        self.store = InMemoryVectorStore.from_texts(["a", "b", "c", "d", "e"], embeddings)


class TestRetriever(Filled, RetrieversIntegrationTests):
    """Over a store of five texts."""

    @property
    def retriever_constructor(self) -> type[JinaClipRetriever]:
        return JinaClipRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": self.store}

    @property
    def retriever_query_example(self) -> str:
        return "a red dress"


class TestTool(Filled, ToolsUnitTests):
    """The tool's name, description and schema."""

    @property
    def tool_constructor(self) -> type[BaseTool] | BaseTool:
        return JinaClipTool

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {"retriever": JinaClipRetriever(vectorstore=self.store)}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"text": "a red dress"}


class TestToolAtWork(Filled, ToolsIntegrationTests):
    """The tool called with a ToolCall and with arguments."""

    @property
    def tool_constructor(self) -> type[BaseTool] | BaseTool:
        return JinaClipTool

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {"retriever": JinaClipRetriever(vectorstore=self.store)}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"text": "a red dress"}
