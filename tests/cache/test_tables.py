"""A cache as a table: exported, carried elsewhere, and imported; what is no such table is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jinaclip import Cache, InputError, JinaClip
from jinaclip.cache.entries import VectorEntries
from jinaclip.cache.tables import export_table, import_table
from jinaclip.testing import Server
from tests.needs import skip_without

Make = Callable[..., JinaClip]
TEXTS = [f"text {number}" for number in range(50)]


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)


@pytest.fixture
def table(clip: Make, tmp_path: Path) -> Iterator[Path]:
    """A cache of texts and of a file, exported."""
    skip_without("pyarrow")
    from PIL import Image

    file, path = tmp_path / "a.png", tmp_path / "table.parquet"
    Image.fromarray(picture(1)).save(file)
    with clip(cache=tmp_path / "here" / "v.sqlite") as one:
        one.embed([*TEXTS, file])
        assert export_table(one.cache, path) == len(TEXTS) + 2
    yield path
    Cache(tmp_path / "here" / "v.sqlite").close()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Cache]:
    """A cache elsewhere."""
    cache = Cache(tmp_path / "there" / "v.sqlite")
    yield cache
    cache.close()


def test_what_was_paid_for_here_is_free_there(clip: Make, server: Server, table: Path, there: Cache) -> None:
    assert import_table(there, table) == len(TEXTS) + 2
    server.reset()
    found = clip(cache=there).embed([*TEXTS, table.with_name("a.png")])
    assert found.usage.hits == len(TEXTS) + 1
    assert server.ledger()["requests"] == 0
    assert np.abs(found.vectors - clip(cache=False).embed([*TEXTS, picture(1)]).vectors).max() < 2e-6


def test_what_is_there_stays(table: Path, there: Cache) -> None:
    assert import_table(there, table) == len(TEXTS) + 2
    before = dict(there.scan())
    assert import_table(there, table) == 0
    assert dict(there.scan()) == before


def test_the_columns(table: Path) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(table).to_pylist()
    assert {len(row["key"]) for row in rows} == {32}
    (digest,) = [row for row in rows if row["digest"] is not None]
    assert len(digest["digest"]) == 32
    assert {len(row["vector"]) for row in rows if row is not digest} == {1024}
    assert all(row["fingerprint"].startswith("jina_clip_v2_1024_api_") for row in rows if row is not digest)


@pytest.mark.slow
def test_a_table_of_many_rows(tmp_path: Path, there: Cache) -> None:
    skip_without("pyarrow")
    cache = Cache(tmp_path / "many" / "v.sqlite")
    rng = np.random.default_rng(1)
    keys = [rng.bytes(32) for _ in range(11_000)]
    for start in range(0, len(keys), 1000):
        cache.keep_vectors(keys[start : start + 1000], [*rng.standard_normal((1000, 4)).astype(np.float32)], "")
        assert cache.flush()
    assert export_table(cache, tmp_path / "many.parquet") == 11_000
    assert import_table(there, tmp_path / "many.parquet") == 11_000
    assert dict(there.scan()) == dict(cache.scan())
    cache.close()


class Large(Cache):
    """Of 100 MB in 25,000 vectors; what is added to it is dropped."""

    held = 0
    """Bytes that pyarrow held at most when something was added."""

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        rng = np.random.default_rng(1)
        for _ in range(25):
            keys, rows = [rng.bytes(32) for _ in range(1000)], rng.standard_normal((1000, 1024)).astype(np.float32)
            yield from VectorEntries(keys, rows, b"space").items()

    def add(self, entries: Mapping[bytes, bytes]) -> int:
        import pyarrow as pa

        self.held = max(self.held, pa.total_allocated_bytes())
        return len(entries)


@pytest.mark.slow
def test_a_large_table_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    skip_without("pyarrow")
    import pyarrow as pa

    cache = Large(tmp_path / "v.sqlite")
    table = tmp_path / "large.parquet"
    assert export_table(cache, table) == 25_000
    before = pa.total_allocated_bytes()
    assert import_table(cache, table) == 25_000
    assert cache.held - before < table.stat().st_size
    cache.close()


def test_spoilt_entries_are_left_out(tmp_path: Path) -> None:
    skip_without("pyarrow")
    cache = Cache(tmp_path / "spoilt" / "v.sqlite")
    cache.keep_digest(b"k" * 32, b"d" * 32)
    cache.add({b"a" * 32: b"V nonsense", b"b" * 32: b"D nonsense", b"c" * 32: b"", b"d" * 32: b"V"})
    assert export_table(cache, tmp_path / "spoilt.parquet") == 1
    cache.close()


def test_an_export_that_fails_leaves_no_half_a_file(tmp_path: Path, there: Cache) -> None:
    skip_without("pyarrow")
    place = tmp_path / "folder.parquet"
    place.mkdir()
    with pytest.raises(OSError):
        export_table(there, place)
    with pytest.raises(OSError):
        export_table(there, tmp_path / "nowhere" / "table.parquet")
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == []


def change(column: str, value: Any) -> Callable[[Any], Any]:
    """Puts a value into the row in the middle."""

    def change_rows(table: Any) -> Any:
        import pyarrow as pa

        rows = table.to_pylist()
        row = rows[len(rows) // 2]
        row[column] = value(row[column]) if callable(value) else value
        return pa.Table.from_pylist(rows, schema=table.schema)

    return change_rows


def nudge(vector: list[float]) -> list[float]:
    return [*vector[:7], vector[7] * (1 + 1e-6) + 1e-7, *vector[8:]]


WRONG_ROWS = {
    "no key": change("key", None),
    "a short key": change("key", b"short"),
    "another key": change("key", b"k" * 32),
    "no content": change("vector", None),
    "both": change("digest", b"d" * 32),
    "an empty vector": change("vector", []),
    "a cut vector": change("vector", lambda vector: vector[:-1]),
    "a vector nearly the same": change("vector", nudge),
    "swapped numbers": change("vector", lambda vector: [vector[1], vector[0], *vector[2:]]),
    "not a number": change("vector", [float("nan")] * 1024),
    "a missing number": change("vector", [None] * 1024),
    "another fingerprint": change("fingerprint", "another"),
    "no checksum": change("checksum", None),
    "another checksum": change("checksum", lambda number: number ^ 1),
}


@pytest.mark.parametrize("how", WRONG_ROWS)
def test_a_row_that_is_not_as_it_was_written_is_refused(table: Path, there: Cache, how: str) -> None:
    import pyarrow.parquet as pq

    pq.write_table(WRONG_ROWS[how](pq.read_table(table)), table)
    with pytest.raises(InputError, match=r"row 2\d "):
        import_table(there, table)
    assert there.stats().entries == 0


def test_what_is_no_such_table_is_refused(table: Path, there: Cache, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = pq.read_table(table)
    wrong = [
        whole.drop_columns(["checksum"]),
        pa.table({"key": [b"k" * 32]}),
        whole.append_column("more", whole["key"]),
    ]
    for number, one in enumerate(wrong):
        pq.write_table(one, tmp_path / f"{number}.parquet")
        with pytest.raises(InputError, match="columns"):
            import_table(there, tmp_path / f"{number}.parquet")
    for content in (b"", b"PAR1", b"nothing of the kind" * 100, table.read_bytes()[:-5], table.read_bytes()[:3000]):
        (tmp_path / "wrong.parquet").write_bytes(content)
        with pytest.raises(InputError):
            import_table(there, tmp_path / "wrong.parquet")
    with pytest.raises(OSError):
        import_table(there, tmp_path / "nowhere.parquet")
    with pytest.raises((OSError, InputError)):
        import_table(there, tmp_path)
    assert there.stats().entries == 0


@pytest.mark.slow
def test_a_table_with_bytes_changed_anywhere_gives_nothing_wrong(table: Path, there: Cache, tmp_path: Path) -> None:
    assert import_table(there, table) > 0
    sound = dict(there.scan())
    data, rng, path = table.read_bytes(), np.random.default_rng(1), tmp_path / "changed.parquet"
    for number in range(60):
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        there.clear()
        with suppress(InputError, OSError):
            import_table(there, path)
        found = dict(there.scan())
        assert found.items() <= sound.items(), number
