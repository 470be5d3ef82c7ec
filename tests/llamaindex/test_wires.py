"""The option `wire`: another server, without a key, over real sockets."""

from __future__ import annotations

import numpy as np
import pytest

from jinaclip.specs import JINA_CLIP_V2
from jinaclip.testing import expected_vector
from llamaindex_jinaclip import JinaClipEmbedding
from tests.wires.services import Service


def test_a_server_of_openais_shape_needs_no_key(openai_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JINA_API_KEY", "JINAAI_API_KEY", "JINACLIP_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    made = JinaClipEmbedding(base_url=openai_service.reset().url, wire="openai")
    again = JinaClipEmbedding.from_dict(made.to_dict())
    assert again.wire == "openai"
    for one in (made, again):
        query = one.get_query_embedding("red")
        one.close()
        assert np.allclose(query, expected_vector("text", JINA_CLIP_V2.query_instruction + "red"), atol=1e-6)
    assert not any("authorization" in asked.headers for asked in openai_service.asked)
