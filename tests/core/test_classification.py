"""Zero-shot classification over both backends."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jinaclip import ConfigError, InputError, JinaClip
from jinaclip.retrieval import Question, aclassify, classify
from tests.tiny import make_checkpoint

LABELS = ["dress", "coat", "hat"]
PICTURES = [Image.new("RGB", (80, 60), colour) for colour in ("red", "navy", "gold", "olive")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(make_checkpoint(tmp_path_factory.mktemp("tiny") / "v2", "v2"))


@pytest.fixture(scope="module")
def local(folder):
    with JinaClip(folder, backend="local", device="cpu") as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def run(request):
    """`classify`, as itself or as its async twin."""

    async def call(*arguments, **options):
        if request.param == "sync":
            return classify(*arguments, **options)
        return await aclassify(*arguments, **options)

    return call


def softmax(logits):
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def expected(clip, rows, scale, template="a photo of a {}"):
    labels = clip.embed_documents([template.replace("{}", label) for label in LABELS])
    return softmax(scale * (rows @ labels.T).astype(np.float64))


async def test_probabilities_are_the_softmax_over_the_checkpoint_s_own_scale(local, run):
    from jinaclip.local import load_towers

    found = await run(local, PICTURES, LABELS)
    scale = float(np.exp(load_towers(local.config.model).logit_scale))
    assert found.scale == pytest.approx(scale)
    assert found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.probabilities, expected(local, local.embed_images(PICTURES), scale), atol=1e-5)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-6)
    assert found.labels == tuple(LABELS)
    assert found.best == [LABELS[i] for i in found.probabilities.argmax(1)]


async def test_the_hosted_api_tells_no_scale_so_a_documented_temperature_stands_in(clip, run):
    hosted = clip()
    assert hosted.logit_scale is None
    found = await run(hosted, PICTURES, LABELS)
    assert found.scale == 100
    np.testing.assert_allclose(found.probabilities, expected(hosted, hosted.embed_images(PICTURES), 100), atol=1e-5)


async def test_the_temperature_of_the_caller_counts_before_all(clip, local, run):
    for one in (clip(), local):
        found = await run(one, PICTURES, LABELS, temperature=0.5)
        assert found.scale == 2
        np.testing.assert_allclose(found.probabilities, expected(one, one.embed_images(PICTURES), 2), atol=1e-5)


async def test_texts_are_embedded_as_documents_and_images_as_images(clip, run):
    hosted = clip()
    items = ["a warm coat", PICTURES[0], "a straw hat", PICTURES[1]]
    rows = np.empty((4, hosted.dimensions), np.float32)
    rows[[0, 2]] = hosted.embed_documents([items[0], items[2]])
    rows[[1, 3]] = hosted.embed_images(PICTURES[:2])
    found = await run(hosted, items, LABELS)
    np.testing.assert_allclose(found.probabilities, expected(hosted, rows, 100), atol=1e-5)


async def test_the_template_is_what_labels_are_put_into(clip, run):
    hosted = clip()
    rows = hosted.embed_images(PICTURES)
    for template in ("{}", "{} of {} in 100% {cotton}"):
        found = await run(hosted, PICTURES, LABELS, template=template)
        np.testing.assert_allclose(found.probabilities, expected(hosted, rows, 100, template), atol=1e-5)


async def test_no_items_are_no_rows_and_no_request(clip, server, run):
    found = await run(clip(), [], LABELS)
    assert found.probabilities.shape == (0, 3)
    assert found.best == []
    assert server.ledger()["requests"] == 0


def test_lengths_of_vectors_do_not_matter(folder, local):
    with JinaClip(folder, backend="local", device="cpu", normalized=False) as raw:
        found = classify(raw, PICTURES, LABELS)
    np.testing.assert_allclose(found.probabilities, classify(local, PICTURES, LABELS).probabilities, atol=1e-6)


# what is refused


@pytest.mark.parametrize(
    "name",
    [
        "dress.jpg",
        "shop/Dress.JPEG ",
        "https://example.com/x",
        "http://a/b.png",
        "data:image/png;base64,AA",
        "data:image/png;base64,AA\nAA==\n",
        "my red dress.jpg",
        "Screen Shot 2026-11-21 at 10.15.03.png",
        "/home/shop/All our pictures, new and old, of this year/dress.webp",
        "C:\\My Pictures\\dress.bmp",
        "scan.tiff",
        "scan.tif",
        "dress.avif",
        "IMG_1.HEIC",
        "pictures/dress.jpg?size=big",
    ],
)
def test_a_str_that_looks_like_a_picture_is_not_taken_for_a_text(local, name):
    with pytest.raises(InputError, match=r"Path|from_url") as caught:
        classify(local, ["a text", name], LABELS)
    assert caught.value.index == 1


def test_a_text_that_speaks_of_pictures_is_a_text(local):
    texts = [
        "see https://example.com for dress.jpg",
        "data: none",
        "data:image/png, that is how addresses of pictures begin",
        "The dress is shown in dress.png.",
        "If you want to see it, open dress.png",
        "the picture of the dress that you asked for is dress.png",
        "two lines\ndress.png",
        "dress.png and coat.png are pictures",
    ]
    assert len(classify(local, texts, LABELS).best) == len(texts)


async def test_a_picture_that_is_not_there_is_told_before_anything_is_sent(clip, server, run):
    with pytest.raises(InputError, match=r"^image 2: image file 'no\.png' does not exist") as caught:
        await run(clip(), ["a text", PICTURES[0], Path("no.png")], LABELS)
    assert caught.value.index == 2
    assert server.ledger()["requests"] == 0


async def test_a_picture_that_cannot_be_read_is_named_by_the_caller_s_index(local, run, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(InputError, match=r"^image 3: ") as caught:
        await run(local, ["a", PICTURES[0], "b", broken, PICTURES[1]], LABELS)
    assert caught.value.index == 3
    assert caught.value.partial.ok.tolist() == [True, True, True, False, True, *[True] * len(LABELS)]
    assert set(caught.value.partial.errors) == {3}


async def test_a_text_that_is_too_long_is_named_by_the_caller_s_index(local, run):
    with pytest.raises(InputError, match=r"^text 2: ") as caught:
        await run(local, [PICTURES[0], "short", "long " * 9000], LABELS)
    assert caught.value.index == 2


async def test_a_label_that_is_too_long_is_named_and_counts_after_the_items(local, run):
    with pytest.raises(InputError, match=r"^the label 'long long") as caught:
        await run(local, [PICTURES[0], "short"], ["fine", "long " * 9000])
    assert caught.value.index == 3


async def test_items_and_labels_are_embedded_once(clip, server, run):
    await run(clip(), ["a coat", PICTURES[0]], LABELS)
    assert server.ledger()["answered"] == {"1": 2 + len(LABELS)}


@pytest.mark.parametrize(
    ("items", "labels"),
    [
        (["a"], ["one"]),
        (["a"], []),
        (["a"], ["twice", "once", "twice"]),
        (["a"], ["fine", " "]),
        (["a"], ["fine", 3]),
        (["a"], "label"),
        ("a text", LABELS),
        (Path("dress.jpg"), LABELS),
        (["a", 3], LABELS),
        (["a", " "], LABELS),
    ],
)
def test_items_and_labels_that_cannot_be(local, items, labels):
    with pytest.raises(InputError):
        classify(local, items, labels)


@pytest.mark.parametrize(
    "options",
    [{"template": "a photo"}, {"template": None}, {"temperature": 0}, {"temperature": -1}, {"temperature": True},
     {"temperature": "1"}, {"temperature": float("nan")}, {"temperature": float("inf")}],
)  # fmt: skip
def test_options_out_of_range(local, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        classify(local, ["a"], LABELS, **options)


def test_a_host_may_embed_items_its_own_way_and_ask_the_question(clip):
    one = clip()
    question = Question(["red", "blue"], "{}", 0.01)
    items, labels = one.embed_documents(["red", "green"]), one.embed_documents(question.texts)
    found = question.answer(np.concatenate([items, labels]), one.logit_scale)
    wanted = classify(one, ["red", "green"], ["red", "blue"], template="{}", temperature=0.01)
    assert found.best == wanted.best and np.allclose(found.probabilities, wanted.probabilities, atol=1e-6)
    assert question.answer(labels, None).probabilities.shape == (0, 2)
