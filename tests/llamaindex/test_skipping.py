"""`on_error="skip"`: what is skipped is named, left out, costs others nothing, and is tried again by the next run."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, ImageNode, MediaResource, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore

from jinaclip import APIError, AuthenticationError, InputError
from llamaindex_jinaclip import JinaClipEmbedding, SkippedNode, label_images


@pytest.fixture
def skipping(embed, tmp_path):
    """Makes embeddings that skip, and share one cache of ours."""
    return lambda **options: embed(**{"on_error": "skip", "cache": tmp_path / "cache.sqlite", **options})


@pytest.fixture(params=["sync", "async"])
def on(request):
    """Calls an embedding on nodes, either way."""

    async def call(made, nodes, **options):
        return made(nodes, **options) if request.param == "sync" else await made.acall(nodes, **options)

    return call


@pytest.fixture(params=["sync", "async"])
def run(request):
    """Runs a pipeline, either way."""

    async def call(pipeline, **options):
        return pipeline.run(**options) if request.param == "sync" else await pipeline.arun(**options)

    return call


def damage(name):
    """Cuts a file off; gives what it held."""
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[:300])
    return whole


def repair(name, whole):
    Path(name).write_bytes(whole)


def pictures(files, kind):
    """A node for each file, as a script makes them each night."""
    nodes = {
        "ImageNode": lambda name: ImageNode(id_=name, image_path=name),
        "Document": lambda name: Document(id_=name, text=name, image_resource=MediaResource(path=name)),
    }
    return label_images([nodes[kind](name) for name in files])


def ids(nodes):
    return sorted(node.node_id for node in nodes)


def images(server):
    return server.ledger()["images"]


# ---------------------------------------------------------------- called on nodes


async def test_a_node_that_cannot_be_embedded_is_left_out_and_named(skipping, files, on, caplog):
    """Whatever is wrong with it and whenever that shows: a damaged file, a lost one, no label, an empty text."""
    damage(files[1])
    nodes = pictures([*files[:3], "missing.png"], "ImageNode")
    nodes += [ImageNode(id_="unlabelled", image_path=files[3]), TextNode(id_="empty", text=""), TextNode(text="words")]
    given, failed = list(nodes), []
    found = await on(skipping(), nodes, failed=failed)
    assert found == [given[0], given[2], given[6]]
    assert all(node.embedding for node in found)
    lost = [files[1], "missing.png", "unlabelled", "empty"]
    assert [one.node for one in failed] == [given[1], *given[3:6]]
    assert all(isinstance(one, SkippedNode) and isinstance(one.reason, InputError) for one in failed)
    assert [str(one).partition(": ")[0] for one in failed] == [f"node {name}" for name in lost]
    assert all(f"skipped node {name}: " in caplog.text for name in lost)


async def test_what_is_known_to_be_wrong_stops_no_other(skipping, files, server, on):
    """Where the default sends nothing."""
    nodes = [TextNode(text="red"), TextNode(text=" ")]
    with pytest.raises(InputError):
        await on(skipping(on_error="raise"), list(nodes))
    assert server.ledger()["requests"] == 0
    assert ids(await on(skipping(), nodes)) == [nodes[0].node_id]


async def test_a_service_that_refuses_one_text_costs_the_others_nothing(skipping, server, on, hasty):
    server.configure(poison={"bad": "poison_500"})
    failed = []
    found = await on(skipping(), [TextNode(text=text) for text in ("a", "bad", "c")], failed=failed)
    assert [node.text for node in found] == ["a", "c"]
    assert [one.node.text for one in failed] == ["bad"]


async def test_a_call_that_fails_as_a_whole_skips_nobody(skipping, server, on, hasty):
    """A wrong key or an outage is no fault of a node."""
    with pytest.raises(AuthenticationError):
        await on(skipping(api_key="wrong"), [TextNode(text="a")], failed=[])
    server.configure(script=["status_503"] * 40)
    with pytest.raises(APIError):
        await on(skipping(max_retries=0), [TextNode(text="a")], failed=[])


async def test_a_generator_and_a_tuple_are_taken_too(skipping, files, on):
    nodes = [TextNode(text="a"), TextNode(text="")]
    assert ids(await on(skipping(), (node for node in nodes))) == [nodes[0].node_id]
    assert ids(await on(skipping(), tuple(nodes))) == [nodes[0].node_id]


@pytest.mark.slow
async def test_both_backends_skip(shop, catalogue, on):
    """A damaged picture beside whole ones, with the catalogue's model."""
    shop.on_error = "skip"
    nodes = [ImageNode(id_=article.id, image_path=str(article.picture)) for article in catalogue[:3]]
    nodes.insert(1, ImageNode(id_="damaged", image=base64.b64encode(catalogue[3].picture.read_bytes()[:90]).decode()))
    failed = []
    found = await on(shop, label_images(nodes), failed=failed)
    assert ids(found) == sorted(article.id for article in catalogue[:3])
    assert [one.node.node_id for one in failed] == ["damaged"]


def test_the_option_is_in_dumps():
    made = JinaClipEmbedding(on_error="skip")
    assert JinaClipEmbedding.from_dict(made.to_dict()).on_error == made.model_copy().on_error == "skip"


def test_methods_for_texts_and_images_never_skip(skipping, files):
    """Stores zip their vectors with texts by position."""
    damage(files[1])
    with pytest.raises(InputError, match="image 1"):
        skipping().get_image_embedding_batch(files)
    with pytest.raises(InputError, match="text 1"):
        skipping().get_text_embedding_batch(["a", ""])


@pytest.mark.parametrize("value", ["ignore", None, True])
def test_another_word_is_refused(value):
    with pytest.raises(ValueError, match="on_error"):
        JinaClipEmbedding(on_error=value)


# ---------------------------------------------------------------- in a pipeline


STRATEGIES = {
    "no docstore": {},
    "upserts": {"docstore_strategy": DocstoreStrategy.UPSERTS, "vector_store": SimpleVectorStore},
    "upserts and delete": {"docstore_strategy": DocstoreStrategy.UPSERTS_AND_DELETE, "vector_store": SimpleVectorStore},
    "duplicates": {"docstore_strategy": DocstoreStrategy.DUPLICATES_ONLY, "vector_store": SimpleVectorStore},
    "no vector store": {"docstore_strategy": DocstoreStrategy.DUPLICATES_ONLY},
}


def pipeline_of(embed, strategy):
    options = dict(STRATEGIES[strategy])
    if options:
        options["docstore"] = SimpleDocumentStore()
    if "vector_store" in options:
        options["vector_store"] = options["vector_store"]()
    return IngestionPipeline(transformations=[embed], **options)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ImageNode", "Document"])
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_the_next_run_tries_again_what_was_skipped_and_pays_for_nothing_else(
    skipping, server, files, run, strategy, kind
):
    """With LlamaIndex's cache and docstore, whatever its strategy."""
    pipeline = pipeline_of(skipping(), strategy)
    whole = damage(files[3])
    first = await run(pipeline, nodes=pictures(files, kind))
    assert ids(first) == [name for name in files if name != files[3]]
    paid = images(server)
    again = await run(pipeline, nodes=pictures(files, kind))
    assert files[3] not in ids(again)
    assert images(server) == paid, "what was embedded is in the cache"
    repair(files[3], whole)
    repaired = await run(pipeline, nodes=pictures(files, kind))
    assert files[3] in ids(repaired)
    assert images(server) == paid + 1
    if pipeline.vector_store is not None:
        assert sorted(pipeline.vector_store.data.embedding_dict) == files
        assert await run(pipeline, nodes=pictures(files, kind)) == [], "all are known now"


async def test_a_node_that_itself_stays_the_same_is_tried_again(skipping, server, run, hasty):
    """The service refused its text. Neither hash nor label of it changes: nothing but the skipping brings it back."""
    pipeline = pipeline_of(skipping(), "upserts")
    server.configure(poison={"bad": "poison_500"})

    def texts():
        return [TextNode(id_=text, text=text) for text in ("a", "bad", "c")]

    assert ids(await run(pipeline, nodes=texts())) == ["a", "c"]
    server.configure(poison={})
    assert ids(await run(pipeline, nodes=texts())) == ["bad"]
    assert await run(pipeline, nodes=texts()) == []


async def test_another_process_with_the_persisted_pipeline_tries_again(skipping, server, run, hasty, tmp_path):
    def texts():
        return [TextNode(id_=text, text=text) for text in ("a", "bad", "c")]

    pipeline = pipeline_of(skipping(), "upserts")
    server.configure(poison={"bad": "poison_500"})
    await run(pipeline, nodes=texts())
    pipeline.persist(str(tmp_path / "pipeline"))
    loaded = pipeline_of(skipping(), "upserts")
    loaded.load(str(tmp_path / "pipeline"))
    server.configure(poison={})
    assert ids(await run(loaded, nodes=texts())) == ["bad"]


async def test_an_empty_document_does_not_lose_the_run(skipping, run):
    """Through a splitter, which makes an empty node of it, and without."""
    documents = [Document(id_="full", text="A red dress."), Document(id_="empty", text="")]
    for transformations in ([skipping()], [SentenceSplitter(), skipping()]):
        pipeline = pipeline_of(skipping(), "upserts")
        pipeline.transformations = transformations
        found = await run(pipeline, documents=list(documents))
        assert [node.get_content() for node in found] == ["A red dress."]


def chunks(name):
    """A document that a splitter makes two nodes of, one of which is refused while the server is poisoned."""
    return [Document(id_=name, text="A red dress. " * 30 + "bad " * 60)]


async def test_a_part_of_a_document_that_a_docstore_would_take_for_done_raises(skipping, server, run, hasty):
    """After the rest was embedded and kept, so that the next run pays for the part alone."""
    splitter = SentenceSplitter(chunk_size=128, chunk_overlap=0)
    parts = [node.text for node in splitter(chunks("d"))]
    server.configure(poison={parts[-1]: "poison_500"})
    pipeline = pipeline_of(skipping(), "upserts")
    pipeline.transformations.insert(0, splitter)
    with pytest.raises(InputError) as caught:
        await run(pipeline, documents=chunks("d"))
    assert "docstore" in caught.value.__notes__[0]
    assert caught.value.partial.ok.sum() == len(parts) - 1
    server.configure(poison={})
    paid = server.ledger()["texts"]
    assert len(await run(pipeline, documents=chunks("d"))) == len(parts)
    assert server.ledger()["texts"] == paid + 1


async def test_who_takes_the_skipped_can_tell_the_docstore_about_their_documents(skipping, server, run, hasty):
    """`failed=` goes through `run`; a hash that fits nothing makes the next run replace the document."""
    splitter = SentenceSplitter(chunk_size=128, chunk_overlap=0)
    parts = [node.text for node in splitter(chunks("d"))]
    server.configure(poison={parts[-1]: "poison_500"})
    pipeline, failed = pipeline_of(skipping(), "upserts"), []
    pipeline.transformations.insert(0, splitter)
    assert len(await run(pipeline, documents=chunks("d"), failed=failed)) == len(parts) - 1
    assert [one.node.ref_doc_id for one in failed] == ["d"]
    for one in failed:
        pipeline.docstore.set_document_hash(one.node.ref_doc_id, "skipped")
    server.configure(poison={})
    assert len(await run(pipeline, documents=chunks("d"))) == len(parts)
    assert len(pipeline.vector_store.data.embedding_dict) == len(parts)


async def test_a_worker_process_raises_what_it_cannot_skip(skipping, files):
    """It has copies of the nodes, and the docstore is told of the originals."""
    damage(files[3])
    pipeline = pipeline_of(skipping(), "upserts")
    with pytest.raises(InputError, match=f"node {files[3]}"):
        await pipeline.arun(nodes=pictures(files, "ImageNode"), num_workers=2)
    assert pipeline.docstore.get_all_document_hashes() == {}


def test_an_index_build_is_not_given_what_was_skipped(skipping, files):
    """It would embed the label of a lost picture as a text."""
    damage(files[3])
    made = skipping()
    documents = [Document(id_=str(i), image_resource=MediaResource(path=name)) for i, name in enumerate(files)]
    index = VectorStoreIndex.from_documents(label_images(documents), transformations=[made], embed_model=made)
    assert sorted(index.index_struct.nodes_dict.values()) == [str(i) for i in range(len(files)) if i != 3]


def test_a_skip_is_in_the_end_event_and_the_log_without_bytes(skipping, files, recorder, caplog):
    """What was skipped is in no chunk."""
    data = base64.b64encode(damage(files[0])[:400]).decode()
    nodes = label_images([ImageNode(image=data), TextNode(text="red")])
    skipping()(nodes)
    [end] = recorder.named("EmbeddingEndEvent")
    assert end.chunks == ["red"]
    assert data[:40] not in caplog.text


def test_a_picture_repaired_with_size_and_time_kept_is_seen(skipping, files):
    """The label is equal then; the docstore's hash is not, since the skipped node was never recorded."""
    pipeline = pipeline_of(skipping(), "upserts")
    whole = Path(files[0]).read_bytes()
    broken = whole[:300] + bytes(len(whole) - 300)
    facts = Path(files[0]).stat()
    for content, expected in ((broken, []), (whole, [files[0]])):
        Path(files[0]).write_bytes(content)
        os.utime(files[0], ns=(facts.st_atime_ns, facts.st_mtime_ns))
        assert ids(pipeline.run(nodes=pictures(files[:1], "Document"))) == expected


async def test_a_docstore_has_to_be_told_where_the_list_of_a_pipeline_is_out_of_reach(skipping, server, run, hasty):
    """Not ours to mend; the README names it. When the second run finds the node, LlamaIndex has changed."""

    def texts():
        return [TextNode(id_=text, text=text) for text in ("a", "bad")]

    pipeline, failed = pipeline_of(skipping(), "upserts"), []
    server.configure(poison={"bad": "poison_500"})
    await run(pipeline, nodes=texts(), in_place=False, failed=failed)
    server.configure(poison={})
    assert await run(pipeline, nodes=texts(), in_place=False) == []
    for one in failed:
        pipeline.docstore.set_document_hash(one.node.node_id, "skipped")
    assert ids(await run(pipeline, nodes=texts(), in_place=False)) == ["bad"]
