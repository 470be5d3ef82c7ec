"""What needs no Ray: keys, shares of limits, caches, what a crash leaves behind, fitted images."""

from __future__ import annotations

import logging
import pickle
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jinaclip import JinaClip, errors
from jinaclip.bulk import embed
from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.items import digest_of, key_of
from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.options import BulkOptions
from jinaclip.bulk.output import Output
from jinaclip.bulk.parts import PART_ROWS, Shard, schema_of
from jinaclip.bulk.ray_cluster import Machines, check_room
from jinaclip.bulk.ray_folders import RunFolder
from jinaclip.bulk.ray_limits import ActorCache, choose_cache, divide_limits
from jinaclip.bulk.ray_plan import IMAGE_BLOCKS, TEXT_BLOCKS, choose_blocks
from jinaclip.bulk.ray_prepare import ImagePreparer
from jinaclip.bulk.ray_read import Salt, group_splits
from jinaclip.bulk.ray_write import WriteOptions, WrittenParts, count_rows, follow_in_thread
from jinaclip.bulk.report import Report
from jinaclip.cache import Cache
from jinaclip.config import EmbedderConfig
from jinaclip.errors import ConfigError, InputError, JinaClipError, MissingDependencyError
from jinaclip.inputs import Image, Pair
from jinaclip.sources import open_source
from tests.needs import skip_without

SHAPE = Shape(8, "float32", "space_of_tests")


def identities(count: int) -> np.ndarray:
    return np.frombuffer(b"".join(key_of(str(i), "text") for i in range(count)), np.uint8).reshape(-1, 16)


def test_keys_are_the_same_for_the_same_item_and_others_for_another_run():
    keys, digests = identities(5000), identities(5000)[::-1].copy()
    salt = Salt.draw()
    drawn = salt.keys(keys, digests)
    assert drawn.dtype == np.int64 and len(set(drawn.tolist())) == 5000
    np.testing.assert_array_equal(salt.keys(keys[7:9], digests[7:9]), drawn[7:9])
    assert not np.isin(Salt.draw().keys(keys, digests), drawn).any()
    assert not np.isin(salt.keys(keys, np.roll(digests, 1, axis=0)), drawn).any(), "another content is another item"


def test_the_first_rows_tell_how_large_blocks_are_where_the_source_does_not(tmp_path):
    texts, both = tmp_path / "texts.jsonl", tmp_path / "both.jsonl"
    texts.write_text('{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}\n')
    both.write_text('{"id": 1, "text": "a"}\n{"id": 2, "image": "b.png"}\n')
    (tmp_path / "cut.jsonl").write_text('{"id": ')
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    sources = {name: open_source(str(tmp_path / name)) for name in ("texts.jsonl", "both.jsonl", "cut.jsonl", "images")}
    blocks = {name: choose_blocks(source, "api") for name, source in sources.items()}
    assert blocks == {
        "texts.jsonl": TEXT_BLOCKS["api"], "both.jsonl": IMAGE_BLOCKS["api"], "cut.jsonl": TEXT_BLOCKS["api"],
        "images": IMAGE_BLOCKS["api"],
    }  # fmt: skip


@given(st.lists(st.integers(), max_size=50), st.integers(1, 20))
def test_groups_hold_every_split_once_and_in_order(splits, most):
    groups = group_splits(splits, most)
    assert [one for group in groups for one in group] == splits
    assert len(groups) == min(most, len(splits)) and all(groups)


def test_limits_are_divided_and_what_does_not_divide_is_said(caplog):
    options = {"max_concurrency": 8, "requests_per_minute": 10, "tokens_per_minute": 2, "token_budget": None, "x": 5}
    with caplog.at_level(logging.WARNING):
        divided = divide_limits(options, 4)
    assert divided == {
        "max_concurrency": 2,
        "requests_per_minute": 2,
        "tokens_per_minute": 1,
        "token_budget": None,
        "x": 5,
    }
    assert [record.getMessage() for record in caplog.records] == [
        "requests_per_minute=10 does not divide by 4 actors: each has 2, all together 8",
        "tokens_per_minute=2 does not divide by 4 actors: each has 1, all together 4",
    ]
    assert divide_limits(options, 1) == options


def test_the_cache_is_the_users_or_a_file_that_all_actors_reach(tmp_path, monkeypatch):
    monkeypatch.delenv("JINACLIP_CACHE", raising=False)
    here = OutputFolder(tmp_path)
    assert choose_cache(None, here, (1, 2), 1) == ActorCache(tmp_path / "_cache-1of2")
    assert choose_cache(None, here, None, 2) == ActorCache(None)
    assert choose_cache(False, here, None, 1) is False
    monkeypatch.setenv("JINACLIP_CACHE", "off")
    assert choose_cache(None, here, None, 1) is False
    monkeypatch.setenv("JINACLIP_CACHE", str(tmp_path / "mine"))
    assert choose_cache(None, here, None, 1) == str(tmp_path / "mine")
    cache = pickle.loads(pickle.dumps(ActorCache(None))).open()
    assert isinstance(cache, Cache) and cache.path.name == "ray.sqlite"


def test_a_redis_url_is_a_cache_of_all_machines():
    skip_without("redis")
    cache = choose_cache("redis://cache.internal/0", OutputFolder("/tmp"), None, 9)
    assert repr(cache) == "Cache('redis://cache.internal/0')"


def test_too_few_cpus_or_gpus_are_refused_instead_of_waited_for():
    check_room(Machines(1, 4, 1), 2, 0.5)
    with pytest.raises(ConfigError, match=r"actors=3 need 5 CPUs of Ray.* has 4"):
        check_room(Machines(1, 4, 0), 3, 0)
    with pytest.raises(ConfigError, match=r"need 1.5 GPUs of Ray, and it has 1"):
        check_room(Machines(1, 8, 1), 3, 0.5)


def test_without_ray_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "a.txt").write_text("text\n")
    with pytest.raises(MissingDependencyError, match=r"pip install 'jinaclip\[ray\]'"):
        embed(tmp_path / "a.txt", tmp_path / "out", executor="ray")


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - {"JinaClipError"}))
def test_why_an_actor_stopped_comes_back_as_it_was(tmp_path, name):
    folder = RunFolder.of(OutputFolder(tmp_path), None)
    assert folder.read_stop() is None
    pickle.loads(pickle.dumps(folder)).note_stop(getattr(errors, name)("the sentence"))
    found = folder.read_stop()
    assert type(found).__name__ == name and str(found) == "the sentence"
    assert RunFolder.of(OutputFolder(tmp_path), None).read_stop() is None, "of an earlier run"


def test_what_read_tasks_saw_must_be_there_of_each(tmp_path):
    folder = RunFolder.of(OutputFolder(tmp_path), (2, 3))
    RunFolder.of(OutputFolder(tmp_path), (2, 3)).note_seen(0, np.zeros((9, 32), np.uint8))  # of an earlier run
    folder.note_seen(1, np.full((2, 32), 7, np.uint8))
    with pytest.raises(JinaClipError, match="1 of 2 tasks"):
        list(folder.read_seen(2))
    folder.note_seen(0, np.full((1, 32), 5, np.uint8))
    assert [seen[:, 0].tolist() for seen in folder.read_seen(2)] == [[5], [7, 7]]


def ray_rows(names: list[str], billed: int = 0) -> pa.Table:
    """Rows as an actor gives them; those called "bad" have an error."""
    count = len(names)
    failed = [name == "bad" for name in names]
    vectors = [None if bad else [float(i)] * 8 for i, bad in enumerate(failed)]
    columns = {
        "id": names, "kind": ["text"] * count, "vector": vectors, "digest": ["ab" * 16] * count,
        "space": ["space_of_tests"] * count, "tokens": [2] * count,
        "error": ["InputError: blank" if bad else None for bad in failed],
    }  # fmt: skip
    table = pa.table(columns, schema=schema_of("float32", 8))
    extra = {"key": range(count), "where": [f"row of {name}" for name in names], "billed": [billed] + [0] * (count - 1)}
    for name, values in (extra | {"hits": [0] * count}).items():
        table = table.append_column(name, pa.array(list(values)))
    return table


def begun(output: OutputFolder, shard: Shard | None = None) -> RunFolder:
    """The folder of a run that Ray works at."""
    folder = RunFolder.of(output, shard)
    folder.note_alive()
    return folder


def test_what_a_write_task_is_given_becomes_parts_which_the_driver_follows(tmp_path):
    with Output(tmp_path, SHAPE, shard=(1, 2)) as output:
        folder = begun(output.folder, (1, 2))
        options = pickle.loads(pickle.dumps(WriteOptions(folder, SHAPE, (1, 2))))
        follower, empty = WrittenParts(folder, output), ray_rows(["a"]).slice(0, 0)
        options.write([empty])
        follower.follow()
        assert follower.report == Report() and not [*tmp_path.glob("part-*")]
        options.write([ray_rows(["a", "bad"], billed=5), empty, ray_rows(["b"], billed=2)])
        follower.follow()
        follower.follow()
        options.write([ray_rows(["bad"] * 9)])
        with follow_in_thread(follower):
            pass
        follower.follow()
        assert len(output) == 12 and len(output.known(failed=False)[0]) == 2
        follower.close()
        options.write([ray_rows(["c"])])
        follower.follow()
        assert len(output) == 12
    report = follower.report
    assert (report.done, report.failed, report.tokens, len(report.failures)) == (2, 10, 7, 5)
    assert report.failures[0] == "id 'bad', row of bad: blank"
    found = pq.read_table(tmp_path)
    assert found.schema.equals(schema_of("float32", 8)) and len([*tmp_path.glob("part-1of2-*")]) == 3
    assert sorted(found["id"].to_pylist()) == ["a", "b"] + ["bad"] * 10 + ["c"]


def test_counts_of_an_earlier_run_are_not_those_of_this_one(tmp_path):
    with Output(tmp_path, SHAPE) as output:
        WriteOptions(begun(output.folder), SHAPE, None).write([ray_rows(["a"])])
        follower = WrittenParts(RunFolder.of(output.folder, None), output)
        follower.follow()
        assert follower.report == Report() and len(output) == 0
        output.refresh()
        assert len(output) == 1


def test_a_part_that_is_seen_before_it_is_whole_is_left_until_its_task_says_so(tmp_path):
    """As on a file system that shows a file while it is written."""
    with Output(tmp_path, SHAPE) as output:
        folder = begun(output.folder)
        follower = WrittenParts(folder, output)
        half = tmp_path / "part-00000-abc.parquet"
        half.write_bytes(b"PAR1 and no more yet")
        follower.follow()
        assert half.exists() and len(output) == 0
        pq.write_table(ray_rows(["a"]).select(schema_of("float32", 8).names), half)
        folder.note_written({"parts": [half.name], **count_rows(ray_rows(["a"]))})
        follower.follow()
        assert len(output) == follower.report.done == 1


def test_a_write_task_that_outlives_its_run_writes_nothing_that_nobody_knows_of(tmp_path):
    """Neither once the next run has begun, nor a part between the look of that run and its end."""
    with Output(tmp_path, SHAPE) as output:
        late = WriteOptions(begun(output.folder), SHAPE, None)
        late.write([ray_rows(["a"])])
        RunFolder.of(output.folder, None).remove()
        with pytest.raises(JinaClipError, match="over"):
            late.write([ray_rows(["b"])])
        assert len([*tmp_path.glob("part-*")]) == 1 and not (tmp_path / "_seen").exists()
        output.finish()
        assert not [*tmp_path.glob("part-*")], "a row that the run did not see stayed"


def test_an_error_of_the_driver_that_follows_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("jinaclip.bulk.ray_write.FOLLOW_SECONDS", 0.0)
    with Output(tmp_path, SHAPE) as output:
        folder, over = begun(output.folder), threading.Event()

        class Broken(WrittenParts):
            def follow(self) -> None:
                raise ConfigError("another space")

            def end_run(self) -> None:
                super().end_run()
                over.set()

        with pytest.raises(ConfigError, match="another space"), follow_in_thread(Broken(folder, output)):
            assert over.wait(60)
            assert folder.is_over()


def test_a_part_has_no_more_rows_than_parts_of_a_run_without_ray(tmp_path):
    options = WriteOptions(begun(OutputFolder(tmp_path)), SHAPE, None)
    options.write([ray_rows([f"{number} {i}" for i in range(5000)]) for number in range(2)])
    sizes = sorted(pq.read_metadata(part).num_rows for part in tmp_path.glob("part-*"))
    assert sizes == [10_000 - PART_ROWS, PART_ROWS]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"image_resize": "pad"}, {"image_resize": "squash"}, {"image_resize": "none"},
                                     {"image_decode": "fast"}, {"image_quality": 90}], ids=str)  # fmt: skip
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_fitted_image_gives_the_vector_of_its_file(clip, tmp_path, options, suffix):
    """The service answers with a digest of what it gets, so what is sent is the same to the last byte."""
    import PIL.Image

    pixels = np.random.default_rng(3).integers(0, 256, (700, 900, 3), np.uint8)
    path = tmp_path / f"a.{suffix}"
    PIL.Image.fromarray(pixels).save(path)
    one: JinaClip = clip(**options)
    preparer = pickle.loads(pickle.dumps(ImagePreparer.of(one.config, one.spec.image_size)))
    image = Image.from_bytes(path.read_bytes())
    fitted = pickle.loads(pickle.dumps(preparer.apply(image)))
    np.testing.assert_array_equal(one.embed_image(fitted), one.embed_image(image))
    pair = preparer.apply(Pair("a text", image))
    np.testing.assert_array_equal(one.embed_pairs([pair]), one.embed_pairs([("a text", image)]))
    assert preparer.apply("a text") == "a text"


def test_a_table_of_texts_passes_whole():
    texts = pa.table({"kind": ["text"] * 200, "content": [b"anything"] * 200})
    assert [*ImagePreparer.of(EmbedderConfig(), 512)(texts)] == [texts]


def test_an_image_that_cannot_be_opened_is_an_error_of_its_row():
    preparer = ImagePreparer.of(EmbedderConfig(), 512)
    with pytest.raises(InputError):
        preparer.apply(Image.from_bytes(b"no image"))
    contents = [pickle.dumps(content) for content in (Image.from_bytes(b"no image"), "text", None)]
    table = pa.table(
        {
            "kind": ["image", "text", "image"],
            "error": pa.array([None, None, "InputError: gone"]),
            "content": pa.array(contents, pa.large_binary()),
        }
    )
    prepared = pa.concat_tables(preparer(table)).to_pylist()
    assert prepared[0]["error"].startswith("InputError: ") and pickle.loads(prepared[0]["content"]) is None
    assert prepared[1]["error"] is None and pickle.loads(prepared[1]["content"]) == "text"
    assert prepared[2]["error"] == "InputError: gone"


def test_what_a_killed_run_on_ray_wrote_is_not_embedded_again_without_ray(clip, tmp_path):
    one: JinaClip = clip()
    digest = digest_of(b"text", (b"hello",)).hex()
    shape = Shape(one.dimensions, "float32", one.space, BulkOptions().settings)
    folder = begun(OutputFolder(tmp_path))
    vectors = [[0.5] * one.dimensions]
    columns = {"id": ["a"], "kind": ["text"], "vector": vectors, "digest": [digest], "space": [shape.space]}
    columns |= {"tokens": [1], "error": [None], "key": [1], "where": ["row 0"], "billed": [1], "hits": [0]}
    table = pa.table(columns).set_column(2, "vector", pa.array(vectors, pa.list_(pa.float32(), one.dimensions)))
    WriteOptions(folder, shape, None).write([table.set_column(6, "error", pa.array([None], pa.string()))])
    folder.note_seen(0, np.zeros((1, 32), np.uint8))
    report = embed([{"id": "a", "text": "hello"}], tmp_path, clip=one)
    assert (report.skipped, report.done, report.complete) == (1, 0, True)
    assert not folder.seen.local.exists()
