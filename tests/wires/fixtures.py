"""The servers of `services.py`, one for the whole run, and the environment of an AWS user."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jinaclip.testing import Server
from tests.needs import skip_without
from tests.wires.services import (
    ACCESS_KEY,
    SECRET_KEY,
    Answer,
    Service,
    Upstream,
    openai_face,
    sagemaker_face,
)


def serve(server: Server, face: Callable[[Upstream], Answer]) -> Iterator[Service]:
    upstream = Upstream(server.url)
    with Service(face(upstream)) as running:
        yield running
    upstream.close()


@pytest.fixture(scope="session")
def openai_modelled(modelled: Server) -> Iterator[Service]:
    """OpenAI's wire, with the catalogue's model behind it."""
    yield from serve(modelled, openai_face)


@pytest.fixture(scope="session")
def sagemaker_modelled(modelled: Server) -> Iterator[Service]:
    """SageMaker's wire, the same."""
    yield from serve(modelled, sagemaker_face)


@pytest.fixture(scope="session")
def openai_service(service: Server) -> Iterator[Service]:
    """OpenAI's wire, with vectors that encode what they stand for."""
    yield from serve(service, openai_face)


@pytest.fixture(scope="session")
def sagemaker_service(service: Server) -> Iterator[Service]:
    """SageMaker's wire, the same."""
    yield from serve(service, sagemaker_face)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Service], None]:
    """Lets botocore find a service, and an access key in the environment and nowhere else."""
    skip_without("botocore")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)

    def point(service: Service) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", service.url)

    return point
