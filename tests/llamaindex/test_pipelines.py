"""IngestionPipeline: pictures, the cache that must tell them apart, and worker processes."""

from __future__ import annotations

import base64
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
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

from jinaclip import InputError, fuse
from llamaindex_jinaclip import JinaClipEmbedding, label_images
from tests.tiny import make_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")


@pytest.fixture(params=["sync", "async"])
def run(request):
    """Runs a pipeline on nodes whose images are labelled, either way."""

    async def call(pipeline, **options):
        label_images(options.get("nodes", []))
        return pipeline.run(**options) if request.param == "sync" else await pipeline.arun(**options)

    return call


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["paths", "base64", "titles", "documents", "resources"])
async def test_the_ingestion_cache_tells_pictures_apart(embed, files, kind, run):
    """LlamaIndex's key is made of text and metadata; the second picture would get the vector of the first."""
    pipeline = IngestionPipeline(transformations=[embed()])
    first, second = [(await run(pipeline, nodes=[node]))[0] for node in lookalikes(files)[kind]]
    assert first.embedding != second.embedding
    expected = embed()(label_images([lookalikes(files)[kind][1]]))[0].embedding
    assert second.embedding == expected


async def test_the_ingestion_cache_sees_a_new_picture_at_an_old_path(embed, files, run):
    """Size and time of change count."""
    pipeline = IngestionPipeline(transformations=[embed()])
    before = (await run(pipeline, nodes=[ImageNode(image_path=files[0])]))[0].embedding
    Pillow.new("RGB", (40, 40), "red").save(files[0])
    assert (await run(pipeline, nodes=[ImageNode(image_path=files[0])]))[0].embedding != before


async def test_other_pictures_are_not_those_of_the_day_before(embed, files, run, tmp_path):
    """Without text and metadata of their own, any list of pictures is the same to LlamaIndex, however long."""
    pipeline = IngestionPipeline(transformations=[embed()])
    await run(pipeline, nodes=[ImageNode(image_path=name) for name in files[:2]])
    pipeline.persist(str(tmp_path / "pipeline"))
    loaded = IngestionPipeline(transformations=[embed()])
    loaded.load(str(tmp_path / "pipeline"))
    found = await run(loaded, nodes=[ImageNode(image_path=name) for name in files[2:5]])
    assert [node.image_path for node in found] == files[2:5]
    assert [node.embedding for node in found] == embed().get_image_embedding_batch(files[2:5])


async def test_pictures_without_label_leave_nothing_in_the_cache(embed, files):
    """Whatever a cache holds of pictures was labelled, so that no lookalike is ever found in it."""
    pipeline = IngestionPipeline(transformations=[embed()])
    with pytest.raises(InputError, match="label_images"):
        pipeline.run(nodes=[ImageNode(image_path=files[0])])
    with pytest.raises(InputError, match="label_images"):
        await pipeline.arun(nodes=[ImageNode(image_path=files[0])])
    assert pipeline.cache.cache.get_all(pipeline.cache.collection) == {}


def test_the_ingestion_cache_takes_texts_that_read_alike_for_one(embed):
    """Not ours to mend: the README names it. When this fails, LlamaIndex has changed and the README may too."""
    made = embed()
    alike = [TextNode(text="ab"), TextNode(text="c")], [TextNode(text="a"), TextNode(text="bc")]
    assert len({get_transformation_hash(nodes, made) for nodes in alike}) == 1
    keys = [[TextNode(text="t", metadata={"k": "v"}, excluded_embed_metadata_keys=keys)] for keys in ([], ["k"])]
    assert len({get_transformation_hash(nodes, made) for nodes in keys}) == 1


SAME = {
    "timeout": {"timeout": 30.0},
    "deadline": {"deadline": 90.0},
    "token_budget": {"token_budget": 100_000},
    "requests_per_minute": {"requests_per_minute": 6000},
    "tokens_per_minute": {"tokens_per_minute": 10_000_000},
    "show_progress": {"show_progress": True},
    "num_workers": {"num_workers": 4},
    "embed_batch_size": {"embed_batch_size": 3},
    "max_concurrency": {"max_concurrency": 2},
    "max_retries": {"max_retries": 1},
    "dimensions": {"dimensions": 1024},
    "api_key": {"api_key": "jina_test_llamaindex_another"},
    "headers": {"headers": {"X-Team": "shop"}},
    "device": {"device": "cpu"},
}
"""Options that change no vector."""
OTHER = {
    "model": {"model_name": "jina-clip-v1"},
    "dimensions": {"dimensions": 64},
    "normalized": {"normalized": False},
    "image_resize": {"image_resize": "pad"},
    "space": {"space": "mine"},
    "truncate": {"truncate": True},
    "fusion_weight": {"fusion_weight": 0.3},
}
"""Options that may."""


def shop(files):
    """The same documents as new objects, as a script makes them each night."""
    both = [Document(id_=n, text=n, image_resource=MediaResource(path=n)) for n in files[:2]]
    return label_images([*both, Document(id_="text", text="a red dress")])


@pytest.mark.slow
@pytest.mark.parametrize("options", SAME.values(), ids=SAME)
async def test_an_option_that_changes_no_vector_sends_nothing_again(embed, server, files, run, options):
    """From the cache, and with a document store that knows them."""
    cache = IngestionCache()
    first = await run(IngestionPipeline(transformations=[embed()], cache=cache), documents=shop(files))
    kept = IngestionPipeline(transformations=[embed()], cache=cache, docstore=SimpleDocumentStore())
    kept.vector_store = SimpleVectorStore()
    assert len(await run(kept, documents=shop(files))) == len(first)
    server.reset()
    again = IngestionPipeline(transformations=[embed(**options)], cache=cache)
    assert [node.embedding for node in await run(again, documents=shop(files))] == [node.embedding for node in first]
    kept.transformations = [embed(**options)]
    assert await run(kept, documents=shop(files)) == []
    assert server.ledger()["requests"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("options", OTHER.values(), ids=OTHER)
async def test_an_option_that_changes_vectors_embeds_anew(embed, server, files, run, options):
    """The cache of other vectors is left alone, and is there for those that set the options back."""
    cache = IngestionCache()
    first = await run(IngestionPipeline(transformations=[embed()], cache=cache), documents=shop(files))
    server.reset()
    other = embed(**options)
    found = await run(IngestionPipeline(transformations=[other], cache=cache), documents=shop(files))
    assert server.ledger()["texts"] == 3
    assert [node.embedding for node in found] == [node.embedding for node in other(shop(files))]
    server.reset()
    back = await run(IngestionPipeline(transformations=[embed()], cache=cache), documents=shop(files))
    assert [node.embedding for node in back] == [node.embedding for node in first]
    assert server.ledger()["requests"] == 0


def test_weights_that_were_changed_in_their_folder_embed_anew(tmp_path):
    """A cache gives nothing of the weights before; those of a copy of the folder are the same and send nothing."""
    folder, cache = make_checkpoint(tmp_path / "tiny", "v2"), IngestionCache()
    from safetensors.numpy import load_file, save_file  # of the extra `local`, without which this is skipped

    copied = shutil.copytree(folder, tmp_path / "copied")

    def ingest(model):
        made = JinaClipEmbedding(model_name=str(model), backend="local", device="cpu")
        [node] = IngestionPipeline(transformations=[made], cache=cache).run(nodes=[TextNode(text="red")])
        return node.embedding, made.clip.usage.items

    before, _ = ingest(folder)
    assert ingest(copied) == (before, 0)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: np.asarray(2 * array, array.dtype) for name, array in weights.items()}, folder / "model.safetensors"
    )
    after, embedded = ingest(folder)
    assert embedded == 1
    assert after != before


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


def test_a_document_store_skips_what_it_knows(embed, server, files):
    """It goes by the hash of a node, which LlamaIndex makes of the picture too."""
    made = embed()
    pipeline = IngestionPipeline(
        transformations=[made],
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.DUPLICATES_ONLY,
        disable_cache=True,
    )
    documents = label_images(
        [Document(id_=name, text="same", image_resource=MediaResource(path=name)) for name in files[:3]]
    )
    assert len(pipeline.run(documents=documents)) == 3
    paid = server.ledger()["requests"]
    assert pipeline.run(documents=documents) == []
    assert server.ledger()["requests"] == paid


def test_a_document_store_sees_a_new_picture_at_an_old_path_in_a_document_alone(embed, files):
    """By its label. The hash of an `ImageNode` leaves metadata out, which is not ours to mend; the README names it.
    When this fails, LlamaIndex has changed and the README may too."""

    def documents(*kinds):
        made = {
            "node": ImageNode(id_="node", image_path=files[0]),
            "document": Document(id_="document", text="a dress", image_resource=MediaResource(path=files[0])),
            "alone": Document(id_="alone", image_resource=MediaResource(path=files[0])),
        }
        return label_images([made[kind] for kind in kinds])

    pipeline = IngestionPipeline(
        transformations=[embed()],
        docstore=SimpleDocumentStore(),
        vector_store=SimpleVectorStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS,
    )
    kinds = ("node", "document", "alone")
    assert len(pipeline.run(nodes=documents(*kinds))) == 3
    assert pipeline.run(nodes=documents(*kinds)) == []
    Pillow.new("RGB", (40, 40), "red").save(files[0])
    assert [node.node_id for node in pipeline.run(nodes=documents(*kinds))] == ["document", "alone"]
    pipeline.docstore.delete_document("node")
    assert [node.node_id for node in pipeline.run(nodes=documents("node"))] == ["node"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_spawned_process_has_key_headers_and_options(embed, monkeypatch):
    """It imports everything afresh, under the environment of another account."""
    made = embed(headers={"X-Team": "shop"}, dimensions=64, timeout=20.0, fusion_weight=0.2)
    monkeypatch.setenv("JINA_API_KEY", "jina_test_of_another_account")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        vector, dump, key, headers = pool.apply(describe, (made,))
    assert vector == made.get_text_embedding("red")
    assert dump == made.to_dict()
    assert (key, headers) == (made.api_key.get_secret_value(), {"X-Team": "shop"})


def describe(made):
    """What an embedding is and does in another process."""
    config = made.clip.config
    return made.get_text_embedding("red"), made.to_dict(), config.key.reveal(), config.extra_headers.reveal()


@pytest.mark.slow
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
    IngestionPipeline(transformations=[embed()], cache=cache).run(nodes=label_images([ImageNode(image_path=files[0])]))
    cache.persist(str(tmp_path / "cache.json"))
    again = embed()
    read = IngestionCache.from_persist_path(str(tmp_path / "cache.json"))
    IngestionPipeline(transformations=[again], cache=read).run(nodes=label_images([ImageNode(image_path=files[0])]))
    assert again.clip.usage.requests == 0
