"""The option `wire`: another server, without a key, over real sockets."""

from __future__ import annotations

import numpy as np
import pytest
from haystack.utils import Secret

from haystack_jinaclip import JinaClipTextEmbedder
from jinaclip.specs import JINA_CLIP_V2
from jinaclip.testing import expected_vector
from tests.wires.services import Service


def test_a_server_of_openais_shape_needs_no_key(openai_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JINA_API_KEY", "JINAAI_API_KEY", "JINACLIP_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    made = JinaClipTextEmbedder(base_url=openai_service.reset().url, wire="openai")
    again = JinaClipTextEmbedder.from_dict(made.to_dict())
    for one in (made, again):
        query = one.run("red")["embedding"]
        one.close()
        assert np.allclose(query, expected_vector("text", JINA_CLIP_V2.query_instruction + "red"), atol=1e-6)
    assert not any("authorization" in asked.headers for asked in openai_service.asked)


def test_the_default_key_is_for_jina_and_one_that_is_named_for_whom_it_is_given_to(monkeypatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", "jina_x")
    monkeypatch.delenv("JINACLIP_API_KEY", raising=False)
    server = {"base_url": "http://gpu-box:8000"}
    assert not JinaClipTextEmbedder(**server).handle.get().config.authorization
    named = Secret.from_env_var("JINA_API_KEY")
    assert JinaClipTextEmbedder(named, **server).handle.get().config.authorization.reveal() == "Bearer jina_x"
    monkeypatch.setenv("JINACLIP_API_KEY", "mine")
    assert JinaClipTextEmbedder(**server).handle.get().config.authorization.reveal() == "Bearer mine"
