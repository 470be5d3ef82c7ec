"""The option `wire`: another server, without a key, over real sockets."""

from __future__ import annotations

import numpy as np
import pytest

from jinaclip.specs import JINA_CLIP_V2
from jinaclip.testing import expected_vector
from langchain_jinaclip import JinaClipEmbeddings
from tests.wires.services import Service


@pytest.mark.parametrize("variable", ["JINACLIP_API_KEY", None])
def test_a_server_of_openais_shape_needs_no_key(
    openai_service: Service, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    for name in ("JINA_API_KEY", "JINAAI_API_KEY", "JINACLIP_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, "mine")
    with JinaClipEmbeddings(base_url=openai_service.reset().url, wire="openai") as embeddings:
        query = embeddings.embed_query("red")
    assert np.allclose(query, expected_vector("text", JINA_CLIP_V2.query_instruction + "red"), atol=1e-6)
    assert openai_service.asked[-1].headers.get("authorization") == (variable and "Bearer mine")


def test_a_key_of_the_environment_is_not_sent_to_a_server_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", "jina_x")
    embeddings = JinaClipEmbeddings(base_url="http://gpu-box:8000")
    assert not embeddings.clip.config.authorization
    assert JinaClipEmbeddings(base_url="http://gpu-box:8000", api_key="jina_x").clip.config.authorization
