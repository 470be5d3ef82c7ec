"""Pictures, and a server of S3's kind on this machine."""

from __future__ import annotations

import io
import logging

import pytest
from PIL import Image

from tests.needs import skip_without


def png(shade: int = 0) -> bytes:
    """A small picture, another for each shade."""
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def s3_server():
    """Host and port of a server that speaks S3, with the keys in the environment as for any program."""
    skip_without("moto")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "key-of-the-environment")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-environment")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        host, port = server.get_host_and_port()
        yield f"{host}:{port}"
    server.stop()


class Bucket:
    """A bucket: addresses in it, and a way to put files there."""

    def __init__(self, server: str, name: str) -> None:
        import pyarrow.fs

        self.name, self.settings = name, f"?scheme=http&endpoint_override={server}&region=us-east-1"
        address = f"s3://{name}{self.settings}&allow_bucket_creation=true"
        self.files, _ = pyarrow.fs.FileSystem.from_uri(address)
        self.files.create_dir(name)

    def put(self, path: str, content: bytes) -> None:
        with self.files.open_output_stream(f"{self.name}/{path}", compression=None) as file:
            file.write(content)

    def at(self, path: str) -> str:
        return f"s3://{self.name}/{path}{self.settings}"


@pytest.fixture
def bucket(s3_server, request):
    """An empty bucket, of this test alone."""
    return Bucket(s3_server, "b" + request.node.name.lower().replace("_", "-")[:50].strip("-"))
