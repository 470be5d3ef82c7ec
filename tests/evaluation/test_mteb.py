"""Our models in the mteb library, on tiny tasks made of the catalogue: texts, images and both; no internet."""

# ruff: noqa: E402 - what is imported below needs mteb

import subprocess
import sys

import numpy as np
import pytest

mteb = pytest.importorskip("mteb", reason="needs mteb, which is not installed")

from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTaskRetrieval, AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification
from mteb.types import PromptType
from PIL import Image

from examples.catalogue.products import GARMENTS, products
from examples.catalogue.scores import FRESH
from examples.catalogue.wording import title
from jinaclip import ConfigError, InputError, JinaClip, fuse
from jinaclip.mteb import BLANK, JinaClipEncoder

pytestmark = [
    pytest.mark.slow,
    # mteb and what it stands on warn about their own futures
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:mteb"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:torch"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:sklearn"),
]
COUNT = 60
FACTS = {
    "description": "Products of the catalogue.",
    "dataset": {"path": "none", "revision": "none"},
    "eval_splits": ["test"],
    "eval_langs": ["eng-Latn"],
}


@pytest.fixture(scope="module")
def shop(items, table):
    """Ids, titles, descriptions and pictures of the first products."""
    chosen = products("test", COUNT, seed=FRESH)
    pictures = [Image.open(table / item["image"]).convert("RGB") for item in items[:COUNT]]
    return {
        "id": [item["id"] for item in items[:COUNT]],
        "title": [title(product, "en") for product in chosen],
        "text": [item["text"] for item in items[:COUNT]],
        "image": pictures,
        "garment": [item["categories"]["broad"] for item in items[:COUNT]],
    }


@pytest.fixture(scope="module")
def encoder(model):
    return JinaClipEncoder(model)


def retrieval(category, modalities, queries, corpus, relevant):
    """A retrieval task of these columns, as mteb holds it."""

    class Task(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=f"Catalogue{category}", type="Retrieval", category=category, modalities=modalities,
            main_score="recall_at_1", **FACTS,
        )  # fmt: skip

        def load_data(self, num_proc=None, **_):
            split = {
                "queries": Dataset.from_dict(queries),
                "corpus": Dataset.from_dict(corpus),
                "relevant_docs": relevant,
                "top_ranked": None,
            }
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    return Task()


def own(shop):
    """Of each query `q-x` the document `x`."""
    return {f"q-{name}": {name: 1} for name in shop["id"]}


def score(encoder, task):
    found = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False, co2_tracker=False)
    return found.task_results[0].scores["test"][0]


def recall(queries, documents, k=1):
    ranks = ((queries @ documents.T) > np.sum(queries * documents, 1, keepdims=True) + 1e-6).sum(1)
    return float(np.mean(ranks < k))


def asked(encoder, texts):
    return np.stack([encoder.clip.embed_query(text) for text in texts])


def test_texts_find_texts(encoder, shop):
    queries = {"id": list(own(shop)), "text": shop["title"]}
    task = retrieval("t2t", ["text"], queries, {"id": shop["id"], "text": shop["text"]}, own(shop))
    found = score(encoder, task)["recall_at_1"]
    documents = encoder.clip.embed_documents(shop["text"])
    assert found == pytest.approx(recall(asked(encoder, shop["title"]), documents), abs=1e-4)
    assert found > 0.8


def test_texts_find_images(encoder, shop):
    queries = {"id": list(own(shop)), "text": shop["title"]}
    task = retrieval("t2i", ["text", "image"], queries, {"id": shop["id"], "image": shop["image"]}, own(shop))
    found = score(encoder, task)["recall_at_1"]
    assert found == pytest.approx(
        recall(asked(encoder, shop["title"]), encoder.clip.embed_images(shop["image"])), abs=1e-4
    )
    assert found > 0.8


def test_images_find_images(encoder, shop):
    """The query is the picture mirrored; what should be found is the picture itself."""
    mirrored = [picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for picture in shop["image"]]
    queries = {"id": list(own(shop)), "image": mirrored}
    task = retrieval("i2i", ["image"], queries, {"id": shop["id"], "image": shop["image"]}, own(shop))
    assert score(encoder, task)["recall_at_1"] > 0.8


def test_texts_find_texts_with_images(encoder, shop):
    """Mixed documents are fused."""
    queries = {"id": list(own(shop)), "text": shop["title"]}
    corpus = {"id": shop["id"], "text": shop["text"], "image": shop["image"]}
    task = retrieval("t2it", ["text", "image"], queries, corpus, own(shop))
    both = encoder.clip.embed_pairs(list(zip(shop["text"], shop["image"], strict=True)))
    found = score(encoder, task)["recall_at_1"]
    assert found == pytest.approx(recall(asked(encoder, shop["title"]), both), abs=1e-4)


def test_like_texts_are_alike(encoder, shop):
    """STS: how many attributes two titles share."""
    pairs = [(i, (7 * i + 3) % COUNT) for i in range(COUNT)] + [(i, i) for i in range(0, COUNT, 3)]
    titles = [title(product, "de") for product in products("test", COUNT)]

    class Likeness(AbsTaskSTS):
        metadata = TaskMetadata(name="CatalogueSTS", type="STS", category="t2t", main_score="cosine_spearman", **FACTS)
        min_score, max_score = 0, 1

        def load_data(self, num_proc=None, **_):
            rows = {
                "sentence1": [shop["title"][a] for a, _ in pairs],
                "sentence2": [titles[b] for _, b in pairs],
                "score": [float(shop["garment"][a] == shop["garment"][b]) for a, b in pairs],
            }
            self.dataset, self.data_loaded = DatasetDict(test=Dataset.from_dict(rows)), True

    found = score(encoder, Likeness())
    assert found["cosine_spearman"] > 0.3


def test_pictures_are_classified_by_what_they_are_called(encoder, shop):
    """Zero-shot, as CIFAR-100 is."""
    names = list(GARMENTS)

    class Kinds(AbsTaskZeroShotClassification):
        metadata = TaskMetadata(
            name="CatalogueKinds", type="ZeroShotClassification", category="i2t", modalities=["image", "text"],
            main_score="accuracy", **FACTS,
        )  # fmt: skip

        def load_data(self, num_proc=None, **_):
            rows = {"image": shop["image"], "label": [names.index(kind) for kind in shop["garment"]]}
            self.dataset, self.data_loaded = DatasetDict(test=Dataset.from_dict(rows)), True

        def get_candidate_labels(self):
            return names

    assert score(encoder, Kinds())["accuracy"] > 0.7


# the wrapper itself


def test_queries_get_the_instruction_and_nothing_else_does(encoder, model):
    batches = [{"text": ["red dress", "coat"]}, {"text": ["hat"]}]
    texts = ["red dress", "coat", "hat"]
    queries = encoder.encode(batches, prompt_type=PromptType.query)
    np.testing.assert_allclose(queries, asked(encoder, texts), atol=1e-5)
    for kind in (None, PromptType.document):
        found = encoder.encode(batches, prompt_type=kind)
        np.testing.assert_allclose(found, model.embed_documents(texts), atol=1e-5)
    assert not np.allclose(queries, found, atol=1e-3)


def test_the_hosted_api_serves_as_well(encoder, modelled, shop):
    with JinaClip("jina-clip-v2", api_key="jina_test_mteb", base_url=modelled.url) as hosted:
        for prompt_type in (None, PromptType.query):
            found = JinaClipEncoder(hosted).encode([{"text": shop["title"][:3]}], prompt_type=prompt_type)
            expected = encoder.encode([{"text": shop["title"][:3]}], prompt_type=prompt_type)
            np.testing.assert_allclose(found[:, : expected.shape[1]], expected, atol=1e-5)
        pictures = JinaClipEncoder(hosted).encode([{"image": shop["image"][:3]}])
    cosines = pictures[:, :128] @ encoder.encode([{"image": shop["image"][:3]}]).T
    assert (np.diag(cosines) > 0.99).all()


def test_the_weight_is_the_text_s(model, shop):
    batch = {"text": shop["text"][:2], "image": shop["image"][:2]}
    found = JinaClipEncoder(model, weight=0.8).encode([batch])
    parts = model.embed_documents(batch["text"]), model.embed_images(batch["image"])
    np.testing.assert_allclose(found, fuse(*parts, 0.8), atol=1e-5)
    with pytest.raises(ConfigError, match="weight"):
        JinaClipEncoder(model, weight=2)


def test_blank_texts_of_benchmarks_have_a_stand_in(encoder, model):
    np.testing.assert_allclose(
        encoder.encode([{"text": ["a", " ", ""]}]), model.embed_documents(["a", BLANK, BLANK]), atol=1e-5
    )


def test_batches_of_something_else_and_no_batches(encoder, model):
    with pytest.raises(InputError, match="audio"):
        encoder.encode([{"audio": [1]}])
    assert encoder.encode([]).shape == (0, model.dimensions)


def test_similarities_are_cosines(encoder):
    a, b = np.array([[3.0, 4.0], [1, 0]]), np.array([[0, 2.0], [5, 0]])
    np.testing.assert_allclose(encoder.similarity(a, b), [[0.8, 0.6], [0, 1]], atol=1e-6)
    np.testing.assert_allclose(encoder.similarity_pairwise(a, b), [0.8, 1], atol=1e-6)
    import torch

    np.testing.assert_allclose(encoder.similarity(torch.tensor(a), torch.tensor(b)), encoder.similarity(a, b))


def test_results_of_other_settings_are_never_mistaken(catalogue_checkpoint, encoder):
    """mteb looks results up by name and revision."""
    with JinaClip(catalogue_checkpoint, backend="local", device="cpu", dimensions=64) as narrow:
        other = JinaClipEncoder(narrow).mteb_model_meta
    meta = encoder.mteb_model_meta
    assert other.revision != meta.revision == encoder.clip.fingerprint
    assert (other.embed_dim, meta.embed_dim) == (64, 128)


def test_the_wrapper_is_an_encoder_to_mteb(encoder):
    from mteb.models.models_protocols import EncoderProtocol

    assert isinstance(encoder, EncoderProtocol)


def test_without_mteb_the_error_names_the_extra():
    code = "import sys; sys.modules['mteb'] = None; import jinaclip.mteb"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingDependencyError" in done.stderr
    assert "jinaclip[mteb]" in done.stderr


def test_a_cache_of_the_environment_is_not_read_and_one_of_the_clip_is(tmp_path, monkeypatch):
    """The environment's may hold vectors of another backend than the one that is to be measured."""
    monkeypatch.setenv("JINACLIP_CACHE", str(tmp_path / "vectors.sqlite"))
    assert JinaClipEncoder(JinaClip(api_key="jina_test_mteb")).clip.cache is None
    clip = JinaClip(api_key="jina_test_mteb", cache=tmp_path / "own.sqlite")
    assert JinaClipEncoder(clip).clip is clip
