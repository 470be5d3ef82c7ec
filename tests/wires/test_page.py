"""What docs/clouds.md shows works as it stands, but for the address of the service."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jinaclip.testing import Server, expected_vector
from tests.wires.services import Service, Upstream, jina_face

PAGE = (Path(__file__).parents[2] / "docs" / "clouds.md").read_text()
SECTIONS = dict(section.split("\n", 1) for section in PAGE.split("\n## ")[1:])


def snippets(section: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", SECTIONS[section], re.DOTALL)


def run(code: str, address: str, service: Service) -> dict[str, object]:
    assert address in code
    names: dict[str, object] = {}
    exec(code.replace(address, service.url), names)
    return names


def test_every_snippet_of_the_page_is_run_here() -> None:
    counts = {section: len(snippets(section)) for section in SECTIONS}
    assert counts == {"Amazon SageMaker": 1, "Servers of OpenAI's shape": 1, "Azure and Google Cloud": 2}


def test_sagemaker(sagemaker_service: Service, aws: Callable[[Service], None]) -> None:
    aws(sagemaker_service.reset())
    names: dict[str, object] = {}
    exec(snippets("Amazon SageMaker")[0], names)
    assert np.allclose(names["query"], expected_vector("text", "something warm", task="retrieval.query"), atol=1e-6)
    assert np.allclose(names["vectors"][1], expected_vector("text", "a blue coat"), atol=1e-6)


def test_openai(openai_service: Service) -> None:
    (code,) = snippets("Servers of OpenAI's shape")
    names = run(code, "http://gpu-box:8000", openai_service.reset())
    assert np.allclose(names["vectors"][0], expected_vector("text", "a red dress"), atol=1e-6)


@pytest.mark.parametrize(("place", "name", "value"), [(0, "api-key", "of Azure"), (1, "authorization", "Bearer ...")])
def test_a_machine_in_a_subscription(
    place: int, name: str, value: str, service: Server, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("AZURE_KEY", "of Azure")
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    upstream = Upstream(service.url)
    with Service(jina_face(upstream, lambda: None)) as running:
        run(snippets("Azure and Google Cloud")[place], "https://my-clip.example.com", running)
    upstream.close()
    assert {asked.headers[name] for asked in running.asked} == {value}
    assert "problems=()" in capsys.readouterr().out
