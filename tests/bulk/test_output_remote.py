"""An output on S3 is what it is in a folder, on a real server of that kind; so it is on what only fsspec knows."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import pyarrow.parquet as pq
import pytest

from jinaclip.bulk import read
from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.output import Output
from jinaclip.errors import ConfigError
from tests.bulk.rows import SHAPE, items, run, step
from tests.sources.conftest import Bucket, s3_server  # noqa: F401

SOURCE = {f"id {i}": f"text {i}" for i in range(21)} | {"broken": "bad"}


@pytest.fixture(params=["s3", "memory"])
def place(request):
    """An address where nothing is."""
    if request.param == "s3":
        return Bucket(request.getfixturevalue("s3_server"), f"b{uuid4().hex}").at("a folder/out")
    return f"memory://{uuid4().hex}/out"


def rows(place):
    """All rows that a reader of the folder gets."""
    folder = OutputFolder(place)
    return pq.read_table(folder.path, filesystem=folder.filesystem).to_pylist()


def parts(folder):
    return [name for name in folder.names() if name.endswith(".parquet")]


@pytest.mark.slow
def test_a_run_its_resume_and_a_changed_source(place):
    assert len(run(place, SOURCE)) == len(SOURCE)
    assert run(place, SOURCE) == []
    changed = {name: text for name, text in SOURCE.items() if name != "id 3"} | {"renamed": "text 3", "id 5": "edited"}
    assert run(place, changed) == ["edited"]
    found = {row["id"]: row for row in rows(place)}
    assert len(found) == len(rows(place))
    assert sorted(found) == sorted(changed)
    assert sum(map(len, read(place))) == len(changed) - 1
    assert json.loads(OutputFolder(place).read("_manifest.json"))["finished_at"]


def test_a_damaged_part_is_set_aside(place):
    run(place, SOURCE)
    folder = OutputFolder(place)
    first = parts(folder)[0]
    folder.write(first, folder.read(first)[:100])
    assert run(place, SOURCE) == [f"text {i}" for i in range(8)]
    assert f"_damaged-{first}.hidden" in folder.names()
    assert len(rows(place)) == len(SOURCE)


def test_other_settings_are_refused(place):
    run(place, SOURCE)
    with pytest.raises(ConfigError, match=r"precision='float32'.*precision='int8'"):
        Output(place, replace(SHAPE, precision="int8"))


def test_an_upload_that_fails_leaves_no_part(place):
    folder = OutputFolder(place)

    def write(file):
        file.write(b"PAR1 half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        folder.write("part-00000-aa.parquet", write)
    assert folder.names() == []


class Gate(socketserver.ThreadingTCPServer):
    """Stands before a server, and refuses what is to be written there while it is `shut`."""

    daemon_threads = True

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), Gatekeeper)
        host, _, port = server.rpartition(":")
        self.server, self.shut = (host, int(port)), False
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Gatekeeper(socketserver.BaseRequestHandler):
    """Hands bytes on; a client sends no request before the last one is answered."""

    def handle(self) -> None:
        with socket.create_connection(self.server.server) as there:
            threading.Thread(target=hand_on, args=(there, self.request), daemon=True).start()
            while data := self.request.recv(2**16):
                if self.server.shut and data.startswith((b"PUT ", b"POST ")):
                    self.request.sendall(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                    return
                there.sendall(data)


def hand_on(there: socket.socket, here: socket.socket) -> None:
    with suppress(OSError):
        while data := there.recv(2**16):
            here.sendall(data)


@pytest.fixture
def gate(s3_server):  # noqa: F811
    """A gate before the server, through which the folder is reached."""
    gate = Gate(s3_server)
    yield gate
    gate.shutdown()
    gate.server_close()


def test_a_manifest_that_cannot_be_replaced_stays_as_it_was(gate):
    """A storage that refuses to write for a while costs no record of how the output was made."""
    place = Bucket("{}:{}".format(*gate.server_address), f"b{uuid4().hex}").at("out")
    run(place, SOURCE)
    folder = OutputFolder(place)
    before = folder.read("_manifest.json")
    gate.shut = True
    with pytest.raises(OSError, match=r"ACCESS_DENIED|AccessDenied"):
        run(place, SOURCE | {"more": "text"})
    with pytest.raises(OSError, match=r"ACCESS_DENIED|AccessDenied"):
        folder.write("_manifest.json", b"{}")
    gate.shut = False
    assert folder.read("_manifest.json") == before
    assert not [name for name in folder.names() if "_tmp" in name]
    assert run(place, SOURCE | {"more": "text"}) == ["text"]


def test_a_run_that_breaks_off_is_taken_up(place):
    with pytest.raises(ZeroDivisionError), Output(place, SHAPE, part_rows=8) as output:
        step(output, items(SOURCE)[:10], [])
        raise ZeroDivisionError
    assert len(run(place, SOURCE)) == len(SOURCE) - 10
    assert len(rows(place)) == len(SOURCE)


def test_keys_in_an_address_are_shown_nowhere(s3_server):  # noqa: F811
    folder = OutputFolder(
        f"s3://my-key:my-secret@bucket/out?scheme=http&endpoint_override={s3_server}&region=us-east-1"
    )
    assert str(folder) == "s3://bucket/out"


def test_a_place_that_nothing_reaches_is_refused():
    with pytest.raises(ConfigError, match="nowhere://"):
        OutputFolder("nowhere://bucket/out")
