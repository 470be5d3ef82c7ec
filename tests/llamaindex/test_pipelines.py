"""IngestionPipeline: pictures, the cache that must tell them apart, and worker processes."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from llama_index.core.ingestion import DocstoreStrategy, IngestionCache, IngestionPipeline
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, ImageNode, MediaResource, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from PIL import Image as Pillow
from qdrant_client import QdrantClient

from jinaclip import fuse
from llamaindex_jinaclip import JinaClipEmbedding

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")


@pytest.fixture(params=["sync", "async"])
def run(request):
    """Runs a pipeline, either way."""

    async def call(pipeline, **options):
        return pipeline.run(**options) if request.param == "sync" else await pipeline.arun(**options)

    return call


async def test_texts_and_pictures_go_through_one_pipeline(embed, files, run):
    """After a splitter, into a vector store."""
    made = embed()
    client = QdrantClient(":memory:")
    documents = [Document(text="A red dress. " * 3), Document(text="A blue coat.")]
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), made])
    texts = await run(pipeline, documents=documents)
    pictures = await run(IngestionPipeline(transformations=[made]), nodes=[ImageNode(image_path=n) for n in files])
    both = await run(
        IngestionPipeline(transformations=[made]), nodes=[ImageNode(text="red", image_path=name) for name in files]
    )
    assert [node.embedding for node in texts] == made.get_text_embedding_batch([node.text for node in texts])
    assert [node.embedding for node in pictures] == made.get_image_embedding_batch(files)
    red = made.get_text_embedding("red")
    assert [n.embedding for n in both] == [fuse(red, i, 0.5).tolist() for i in made.get_image_embedding_batch(files)]
    QdrantVectorStore("all", client=client).add([*texts, *pictures, *both])
    assert client.count("all").count == len(texts) + 2 * len(files)
    client.close()


def lookalikes(files):
    """Pairs of nodes whose texts and metadata are the same, and whose pictures are not."""
    data = [Path(name).read_bytes() for name in files]
    return {
        "paths": [ImageNode(image_path=name) for name in files[:2]],
        "base64": [ImageNode(image=base64.b64encode(content).decode()) for content in data[:2]],
        "titles": [ImageNode(text="a dress", image_path=name) for name in files[:2]],
        "documents": [Document(image_resource=MediaResource(data=content)) for content in data[:2]],
        "resources": [Document(text="a dress", image_resource=MediaResource(path=name)) for name in files[:2]],
    }


@pytest.mark.parametrize("kind", ["paths", "base64", "titles", "documents", "resources"])
async def test_the_ingestion_cache_tells_pictures_apart(embed, files, kind, run):
    """LlamaIndex's key is made of text and metadata; the second picture would get the vector of the first."""
    pipeline = IngestionPipeline(transformations=[embed()])
    first, second = [(await run(pipeline, nodes=[node]))[0] for node in lookalikes(files)[kind]]
    assert first.embedding != second.embedding
    expected = embed()([lookalikes(files)[kind][1]])[0].embedding
    assert second.embedding == expected


async def test_the_ingestion_cache_sees_a_new_picture_at_an_old_path(embed, files, run):
    """Size and time of change count."""
    pipeline = IngestionPipeline(transformations=[embed()])
    before = (await run(pipeline, nodes=[ImageNode(image_path=files[0])]))[0].embedding
    Pillow.new("RGB", (40, 40), "red").save(files[0])
    assert (await run(pipeline, nodes=[ImageNode(image_path=files[0])]))[0].embedding != before


def pairs(files):
    """Two lists of nodes each that LlamaIndex's key takes for one, and whose vectors differ."""

    def picture(text, **more):
        return ImageNode(text=text, image_path=files[0], **more)

    kept, left_out = [
        [picture("t", metadata={"k": "v"}, excluded_embed_metadata_keys=keys), TextNode(text="x")]
        for keys in ([], ["k"])
    ]
    beside = [
        [picture("p"), TextNode(text="t", metadata={"k": "v"}, excluded_embed_metadata_keys=keys)]
        for keys in ([], ["k"])
    ]
    return {
        "excluded": (kept, left_out),
        "excluded of a text beside it": beside,
        "texts that read alike together": ([picture("a"), TextNode(text="bc")], [picture("ab"), TextNode(text="c")]),
        "one node for two": ([picture("ab")], [picture("a"), TextNode(text="b")]),
        "a text that looks like metadata": ([picture("", metadata={"k": "v"})], [picture("k: v")]),
    }


@pytest.mark.parametrize("kind", [*pairs([""])])
async def test_the_ingestion_cache_tells_apart_what_is_embedded_beside_pictures(embed, files, kind, run):
    """Where a text ends and which metadata count is not in LlamaIndex's key; it would hand back other nodes."""
    made = embed()
    pipeline = IngestionPipeline(transformations=[made])
    first, second = pairs(files)[kind]
    await run(pipeline, nodes=first)
    found = await run(pipeline, nodes=second)
    assert [node.text for node in found] == [node.text for node in second]
    assert [node.embedding for node in found] == [node.embedding for node in made(pairs(files)[kind][1])]


def test_the_ingestion_cache_takes_texts_alone_for_one_text(embed):
    """Not ours to mend: the README names it. When this fails, LlamaIndex has changed and the README may too."""
    made = embed()
    alike = [TextNode(text="ab"), TextNode(text="c")], [TextNode(text="a"), TextNode(text="bc")]
    assert len({get_transformation_hash(nodes, made) for nodes in alike}) == 1
    keys = [[TextNode(text="t", metadata={"k": "v"}, excluded_embed_metadata_keys=keys)] for keys in ([], ["k"])]
    assert len({get_transformation_hash(nodes, made) for nodes in keys}) == 1


def test_a_hash_beside_pictures_stays_when_something_else_is_put_into_the_folder(embed, files):
    """Nodes without a picture have no file whose time of change could count."""
    made, nodes = embed(), [TextNode(text="t"), ImageNode(image_path=files[0])]
    before = get_transformation_hash(nodes, made)
    Path("new").mkdir()
    assert get_transformation_hash(nodes, made) == before


async def test_the_ingestion_cache_still_saves_what_it_can(embed, server, files, tmp_path, run):
    """The same nodes again are not paid for, from a persisted cache too."""

    def nodes():
        return [TextNode(text="red"), ImageNode(image_path=files[0]), ImageNode(text="both", image_path=files[1])]

    pipeline = IngestionPipeline(transformations=[embed()])
    first = await run(pipeline, nodes=nodes())
    paid = server.ledger()["requests"]
    pipeline.persist(str(tmp_path / "pipeline"))
    loaded = IngestionPipeline(transformations=[embed()])
    loaded.load(str(tmp_path / "pipeline"))
    for again in (pipeline, loaded):
        assert [n.embedding for n in await run(again, nodes=nodes())] == [n.embedding for n in first]
    assert server.ledger()["requests"] == paid
    other = IngestionPipeline(transformations=[embed(dimensions=64)], cache=pipeline.cache)
    assert {len(node.embedding) for node in await run(other, nodes=nodes())} == {64}


def test_the_hash_of_texts_is_that_of_the_fields_alone(embed, files):
    """Pictures are added to what a hash is made of, and only there; a dump outside has nothing of it."""
    made = embed()
    assert "images" not in made.to_dict()
    hashes = {get_transformation_hash([ImageNode(image_path=name)], made) for name in files}
    assert len(hashes) == len(files)
    swapped = [[ImageNode(image_path=files[a]), ImageNode(image_path=files[b])] for a, b in ((0, 1), (1, 0))]
    assert get_transformation_hash(swapped[0], made) != get_transformation_hash(swapped[1], made)
    assert get_transformation_hash([ImageNode(image_path=files[0])], made) in hashes
    get_transformation_hash([ImageNode(image_path="x" * 5000), ImageNode(image_path="\0"), ImageNode()], made)


def test_a_document_store_skips_what_it_knows(embed, server, files):
    """It goes by the hash of a node, which LlamaIndex makes of the picture too."""
    made = embed()
    pipeline = IngestionPipeline(
        transformations=[made],
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.DUPLICATES_ONLY,
        disable_cache=True,
    )
    documents = [Document(id_=name, text="same", image_resource=MediaResource(path=name)) for name in files[:3]]
    assert len(pipeline.run(documents=documents)) == 3
    paid = server.ledger()["requests"]
    assert pipeline.run(documents=documents) == []
    assert server.ledger()["requests"] == paid


def test_a_document_store_needs_the_time_of_change_to_see_a_new_picture_at_an_old_path(embed, files):
    """Not ours to mend: it goes by the path. With the time in a Document's metadata it sees it, as the README says.
    When this fails, LlamaIndex has changed and the README may too."""

    def document(kind):
        when = {"modified": Path(files[0]).stat().st_mtime_ns}
        if kind == "node":
            return ImageNode(id_=kind, image_path=files[0], metadata=when)
        metadata = when if kind == "timed" else {}
        return Document(id_=kind, text="a dress", image_resource=MediaResource(path=files[0]), metadata=metadata)

    pipeline = IngestionPipeline(
        transformations=[embed()],
        docstore=SimpleDocumentStore(),
        vector_store=SimpleVectorStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS,
    )
    kinds = ("node", "plain", "timed")
    assert len(pipeline.run(nodes=[document(kind) for kind in kinds])) == 3
    Pillow.new("RGB", (40, 40), "red").save(files[0])
    assert [node.node_id for node in pipeline.run(nodes=[document(kind) for kind in kinds])] == ["timed"]
    pipeline.docstore.delete_document("plain")
    assert [node.node_id for node in pipeline.run(nodes=[document("plain")])] == ["plain"]


async def test_worker_processes_give_the_same_vectors(embed, files, monkeypatch, run):
    """`run` spawns, `arun` forks; the key travels, since there is none in the environment."""
    for name in ("JINA_API_KEY", "JINAAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    made = embed(embed_batch_size=2)
    nodes = [TextNode(text=f"text {i}") for i in range(6)] + [ImageNode(image_path=name) for name in files]
    expected = [*made.get_text_embedding_batch([f"text {i}" for i in range(6)]), *made.get_image_embedding_batch(files)]
    paid = made.clip.usage.requests
    done = await run(IngestionPipeline(transformations=[made], disable_cache=True), nodes=nodes, num_workers=2)
    assert [node.embedding for node in done] == expected
    assert made.clip.usage.requests == paid  # the work was done elsewhere


async def test_worker_processes_load_a_local_model_of_their_own(catalogue, catalogue_checkpoint):
    """Weights do not travel; a parent that has used them may fork."""
    made = JinaClipEmbedding(model_name=catalogue_checkpoint, backend="local", device="cpu")
    titles = [article.title for article in catalogue[:6]]
    expected = made.get_text_embedding_batch(titles)
    nodes = [TextNode(text=text) for text in titles]
    done = await IngestionPipeline(transformations=[made], disable_cache=True).arun(nodes=nodes, num_workers=2)
    for node, vector in zip(done, expected, strict=True):
        assert node.embedding == pytest.approx(vector, abs=1e-5)


def test_a_cache_of_another_process_is_read(embed, files, tmp_path):
    """Keys do not hang on objects of this process."""
    cache = IngestionCache()
    IngestionPipeline(transformations=[embed()], cache=cache).run(nodes=[ImageNode(image_path=files[0])])
    cache.persist(str(tmp_path / "cache.json"))
    again = embed()
    read = IngestionCache.from_persist_path(str(tmp_path / "cache.json"))
    IngestionPipeline(transformations=[again], cache=read).run(nodes=[ImageNode(image_path=files[0])])
    assert again.clip.usage.requests == 0
