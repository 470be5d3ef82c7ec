"""Other places than this machine: a real server that speaks S3, and a file system of fsspec.

Google Cloud Storage has no server to test against here; `gs://` takes the same way through pyarrow as `s3://`.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import subprocess
import sys

import pytest

from jinaclip import ConfigError, ImagePolicy, InputError, MissingDependencyError
from jinaclip.bulk.items import items_of
from jinaclip.sources import Columns, open_source, remote
from tests.images.pdfs import filled, pages
from tests.needs import skip_without
from tests.sources.conftest import png

ODD = ["plain.png", "a b#1.png", "50%25 off?x=1.png", "ü/ß.png", "#/+&=.png"]


def ids(source) -> list[str]:
    return [row.id for row in source.rows()]


def read_images(source, policy=None):
    policy = policy or ImagePolicy()
    items = [item for row in source.rows() for item in items_of(row, None, 0.5, policy)]
    return {item.id: item.content.source if item.error is None else str(item.error) for item in items}


def test_a_folder_of_pictures_in_s3(bucket):
    for shade, name in enumerate(ODD):
        bucket.put(f"some photos/{name}", png(shade))
    for name in (".hidden.png", ".cache/a.png", "notes.md"):
        bucket.put(f"some photos/{name}", b"")
    bucket.put("some photos of others/a.png", b"")
    source = open_source(bucket.at("some photos"))
    assert read_images(source) == {name: png(shade) for shade, name in enumerate(ODD)}
    assert (source.count(), source.kinds) == (5, {"image"})
    assert source.name == f"s3://{bucket.name}/some photos"
    assert set(ids(open_source(bucket.at("some photos/*.png")))) == {"plain.png", "a b#1.png", "50%25 off?x=1.png"}
    assert ids(open_source(bucket.at("some photos/50%25 off?x=1.png"))) == ["50%25 off?x=1.png"]


def test_a_whole_bucket_is_a_folder(bucket):
    bucket.put("deep/er/a.png", png())
    for address in (bucket.at(""), bucket.at("").replace("/?", "?")):
        assert read_images(open_source(address)) == {"deep/er/a.png": png()}


def test_tables_in_s3(bucket):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"id": str(i), "text": f"text {i}"} for i in range(30)]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=10)
    bucket.put("p/a.parquet", file.getvalue())
    bucket.put("p/_SUCCESS", b"")
    bucket.put("j/a.jsonl.gz", gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    bucket.put("c/a.csv", b"id,text\n" + b"".join(f"{row['id']},{row['text']}\n".encode() for row in rows))
    bucket.put("t.txt", "\n".join(row["text"] for row in rows).encode())
    for path in ("p", "p/a.parquet", "p/*.parquet", "j", "j/a.jsonl.gz", "c/a.csv", "t.txt"):
        found = [row.text for row in open_source(bucket.at(path)).rows()]
        assert found == [row["text"] for row in rows], path
    assert open_source(bucket.at("p")).count() == 30
    with pytest.raises(ConfigError, match="no column 'sku'"):
        open_source(bucket.at("p"), Columns("sku"))


def test_images_of_a_table_in_s3_lie_beside_it(bucket):
    bucket.put("shop/pics/a b.png", png(1))
    bucket.put("secret.png", png(2))
    images = [
        "pics/a b.png",
        f"s3://{bucket.name}/shop/pics/a b.png",
        "./pics/../pics/a b.png",
        "../secret.png",
        f"s3://{bucket.name}/secret.png",
        "/etc/passwd",
        "pics/none.png",
        f"s3://{bucket.name}/shop/../secret.png",
    ]
    bucket.put("shop/a.jsonl", "\n".join(json.dumps({"id": i, "image": x}) for i, x in enumerate(images)).encode())
    found = read_images(open_source(bucket.at("shop/a.jsonl")))
    assert [found[str(i)] for i in range(3)] == [png(1)] * 3
    assert all("outside" in found[str(i)] for i in (3, 4, 5, 7))
    assert "there is no s3://" in found["6"]
    small = read_images(open_source(bucket.at("shop/a.jsonl")), ImagePolicy(max_bytes=20))
    assert "max_bytes=20" in small["0"]


def test_any_storage_is_reached_where_the_policy_allows_anything(bucket, tmp_path, monkeypatch, s3_server):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3_server}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket.put("a.png", png(3))
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": 1, "image": f"s3://{bucket.name}/a.png"}))
    policy = ImagePolicy(allowed_roots="any")
    assert read_images(open_source(tmp_path / "a.jsonl", policy=policy), policy) == {"1": png(3)}
    assert "is in a storage" in read_images(open_source(tmp_path / "a.jsonl"))["1"]


def test_settings_may_come_from_the_environment_as_aws_has_them(bucket, monkeypatch, s3_server):
    bucket.put("a.png", png())
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3_server}")
    assert ids(open_source(f"s3://{bucket.name}/")) == ["a.png"]


@pytest.mark.slow
def test_splits_of_a_storage_are_read_by_another_process_and_hold_no_key_of_the_environment(bucket):
    skip_without("pypdfium2")
    bucket.put("x/a.png", png(1))
    bucket.put("x/b.pdf", pages(filled(1, 0, 0), filled(0, 1, 0)))
    source = open_source(bucket.at("x"))
    sent = pickle.dumps(source.splits())
    assert b"of-the-environment" not in sent
    code = (
        "import pickle, sys\nfrom jinaclip.sources import close_documents\nfrom jinaclip import ImagePolicy\n"
        "rows = [row for split in pickle.load(sys.stdin.buffer) for row in split.rows()]\n"
        "print([row.id for row in rows], rows[0].image.read(ImagePolicy()).source[:4], "
        "rows[2].image.render(10**6).getpixel((5, 5)))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().strip() == r"['a.png', 'b.pdf#page=1', 'b.pdf#page=2'] b'\x89PNG' (0, 255, 0)"


def test_what_is_not_there_is_told_and_no_key_is(bucket):
    with pytest.raises(ConfigError, match="there is no file or folder"):
        open_source(bucket.at("none.jsonl"))
    address = bucket.at("none/*.png").replace("s3://", "s3://AKIAKEY:sesame@")
    with pytest.raises((ConfigError, InputError)) as caught:
        list(open_source(address).rows())
    assert "sesame" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        open_source("s3://AKIAKEY:sesame@bucket/a?scheme=nonsense&endpoint_override=localhost:1&region=x")
    assert "sesame" not in str(caught.value)


def test_whatever_fsspec_knows_is_read():
    skip_without("fsspec")
    skip_without("pyarrow")
    import fsspec

    files = fsspec.filesystem("memory")
    files.pipe({"/shop/pics/a b.png": png(1), "/shop/a.jsonl": b'{"id": 1, "image": "pics/a b.png"}\n'})
    assert read_images(open_source("memory://shop/a.jsonl")) == {"1": png(1)}
    assert read_images(open_source("memory://shop")) == {"pics/a b.png": png(1)}
    assert ids(open_source("memory://shop/pics/*.png")) == ["a b.png"]
    files.rm("/shop", recursive=True)


@pytest.mark.parametrize("address", ["https://example.com/a.jsonl", "nonsense://a/b", "s3://", "s3:///a"])
def test_an_address_of_no_storage_is_told(address):
    skip_without("pyarrow")
    skip_without("fsspec")
    with pytest.raises((ConfigError, MissingDependencyError, InputError), match=r"cannot be|no source"):
        open_source(address)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    remote.file_system.cache_clear()
    for name in ("pyarrow", "pyarrow.fs", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    for source in ("s3://bucket/a", "a.parquet", "a.txt.gz"):
        if ":" not in source:
            (tmp_path / source).write_bytes(b"")
            source = tmp_path / source
        with pytest.raises(MissingDependencyError, match=r"pip install 'jinaclip\[bulk\]'"):
            list(open_source(source).rows())
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "a"}')
    assert ids(open_source(tmp_path / "a.jsonl")) == ["1"]
