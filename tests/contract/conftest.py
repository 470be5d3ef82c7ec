"""The backends that have to keep the contract.

v1 stands for what vectors cannot show: the service's are digests, the local ones those of a random tiny checkpoint. v2
is the catalogue's trained model, of 128 numbers: at home, behind services on every wire, which fill them up to the 1024
of the published one, and behind `jinaclip serve`, which is asked for 128.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from jinaclip import JinaClip
from tests.exported import exported
from tests.tiny import make_checkpoint
from tests.wires.services import ENDPOINT, REGION, Service

Make = Callable[..., JinaClip]
KEY = "jina_test_contract"


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint of v1."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "v1", "v1")


@pytest.fixture(scope="session")
def exported_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for ONNX Runtime."""
    return exported("v1", tmp_path_factory)


def over_sagemaker(service: Service, aws: Callable[[Service], None]) -> Make:
    """Makes JinaClips that speak to an endpoint of SageMaker."""
    aws(service)
    return partial(JinaClip, "jina-clip-v2", base_url=f"sagemaker://{REGION}/{ENDPOINT}")


MAKERS: dict[str, Callable[[pytest.FixtureRequest], Make]] = {
    "api-v1": lambda use: partial(JinaClip, "jina-clip-v1", api_key=KEY, base_url=use.getfixturevalue("server").url),
    "api-v2": lambda use: partial(JinaClip, "jina-clip-v2", api_key=KEY, base_url=use.getfixturevalue("modelled").url),
    "serve-v2": lambda use: partial(
        JinaClip, "jina-clip-v2", base_url=use.getfixturevalue("served").url, dimensions=128
    ),
    "openai-v2": lambda use: partial(
        JinaClip, "jina-clip-v2", wire="openai", base_url=use.getfixturevalue("openai_modelled").url
    ),
    "sagemaker-v2": lambda use: over_sagemaker(use.getfixturevalue("sagemaker_modelled"), use.getfixturevalue("aws")),
    "local-v1": lambda use: partial(
        JinaClip, str(use.getfixturevalue("random_checkpoint")), backend="local", device="cpu"
    ),
    "onnx-v1": lambda use: partial(JinaClip, str(use.getfixturevalue("exported_checkpoint")), backend="local"),
    "local-v2": lambda use: partial(
        JinaClip, use.getfixturevalue("catalogue_checkpoint"), backend="local", device="cpu"
    ),
}


SLOW = {"onnx-v1", "serve-v2"}
"""An export takes many seconds, a server that loads torch some, in each process that runs a file of this folder."""
ROADS = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in MAKERS]


@pytest.fixture(params=ROADS)
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a JinaClip over one of the backends; takes options."""
    return MAKERS[request.param](request)


@pytest.fixture
def clip(make: Make) -> Iterator[JinaClip]:
    with make() as made:
        yield made
