"""Open files, uploads and odd names through LlamaIndex's methods, and texts that show nothing."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from llama_index.core import SimpleDirectoryReader
from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import ImageDocument, ImageNode, MediaResource, Node, NodeWithScore, TextNode
from PIL import Image as Pillow
from starlette.datastructures import UploadFile

from jinaclip import ImagePolicy, InputError
from llamaindex_jinaclip import label_images
from llamaindex_jinaclip.labels import LABEL


@pytest.fixture
def forms(files):
    """Makes the first image in five forms; what it opens is closed after the test."""
    path = Path(files[0]).absolute()
    (path.parent / "IMG:001.png").write_bytes(path.read_bytes())
    with contextlib.ExitStack() as stack:

        def make():
            opened, received = (stack.enter_context(path.open("rb")) for _ in range(2))
            return [opened, io.BytesIO(path.read_bytes()), UploadFile(received), "IMG:001.png", path.as_uri()]

        yield make


async def test_every_method_takes_them(embed, forms, files):
    one = embed()
    wanted = one.get_image_embedding(files[0])
    assert one.get_image_embedding_batch(forms()) == [wanted] * 5
    assert await one.aget_image_embedding_batch(forms()) == [wanted] * 5
    assert await one.aget_image_embedding_batch(form for form in forms()) == [wanted] * 5
    for form, again in zip(forms(), forms(), strict=True):
        assert one.get_image_embedding(form) == wanted
        assert await one.aget_image_embedding(again) == wanted


def test_a_lone_file_is_no_list_of_images_and_lines_are_texts(embed, server, files):
    one = embed()
    with Path(files[0]).open("rb") as file:
        for call in (one.get_image_embedding_batch, one.get_text_embedding_batch):
            with pytest.raises(InputError, match="must be several"):
                call(file)
    assert server.ledger()["requests"] == 0
    Path("a.txt").write_text("one\ntwo\n")
    with Path("a.txt").open() as lines:
        assert one.get_text_embedding_batch(lines) == one.get_text_embedding_batch(["one\n", "two\n"])


def test_nodes_with_odd_names(embed, forms, files):
    one, names = embed(), [form for form in forms() if isinstance(form, str)]
    nodes = label_images([ImageNode(image_path=name) for name in names])
    one(nodes)
    assert [node.embedding for node in nodes] == [one.get_image_embedding(files[0])] * 2


def test_base64_of_a_node_is_held_against_the_cap(embed, server, files):
    one = embed(image_policy=ImagePolicy(max_bytes=1000))
    data = base64.b64encode(bytes(5000)).decode()
    for node in (ImageNode(image=data), Node(image_resource=MediaResource(data=data.encode()))):
        with pytest.raises(InputError, match=r"image_policy\.max_bytes=1000"):
            one(label_images([node]))
    assert server.ledger()["requests"] == 0


@pytest.mark.parametrize("text", ["\u200b", "\ufeff", "\u2060\u00ad"])
def test_a_text_that_shows_nothing_is_blank(embed, server, files, text):
    one = embed()
    for call in (one.get_query_embedding, one.get_text_embedding, lambda value: one([TextNode(text=value)])):
        with pytest.raises(InputError, match="blank"):
            call(text)
    assert server.ledger()["requests"] == 0
    (node,) = one(label_images([ImageNode(text=text, image_path=files[0])]))
    assert node.embedding == one.get_image_embedding(files[0]), "it has no words to fuse with"


def test_numbers_of_numpy(embed):
    one = embed(dimensions=np.int64(64), timeout=np.float32(30))
    assert len(one.get_query_embedding("a")) == 64
    dumped = json.loads(json.dumps(one.to_dict()))
    assert (dumped["dimensions"], dumped["timeout"]) == (64, 30.0)


# ---------------------------------------------------------------- LlamaIndex's own


def held(name):
    """The image in every class of LlamaIndex that may hold one."""
    data = Path(name).read_bytes()
    encoded = base64.b64encode(data).decode()
    uri, address = f"data:image/png;base64,{encoded}", Path(name).absolute().as_uri()
    return {
        "block, path": ImageBlock(path=name),
        "block, bytes": ImageBlock(image=data),
        "block, open file": ImageBlock(image=io.BytesIO(data)),
        "block, data: URI": ImageBlock(url=uri),
        "block, file: URI": ImageBlock(url=address),
        "resource, path": MediaResource(path=name),
        "resource, bytes": MediaResource(data=data),
        "resource, data: URI": MediaResource(url=uri),
        "node, path": ImageNode(image_path=name),
        "node, base64": ImageNode(image=encoded),
        "node, data: URI": ImageNode(image=uri),
        "node, address": ImageNode(image_url=uri),
        "node, file: URI": ImageNode(image_path=address),
        "document": ImageDocument(image_path=name),
        "node of resources": Node(image_resource=MediaResource(url=address)),
        "found node": NodeWithScore(node=ImageNode(image_path=name)),
    }


@pytest.mark.slow
async def test_what_holds_an_image_in_llamaindex_is_taken_wherever_an_image_is(embed, files):
    """One by one and in lists, beside other forms, sync and async."""
    made = embed()
    wanted = made.get_image_embedding(files[0])
    forms = held(files[0])
    listed = [*forms.values(), files[0], Path(files[0])]
    assert made.get_image_embedding_batch(listed) == [wanted] * len(listed)
    assert await made.aget_image_embedding_batch(form for form in listed) == [wanted] * len(listed)
    for again in held(files[0]).values():
        assert made.get_image_embedding(again) == wanted
    for again in held(files[0]).values():
        assert await made.aget_image_embedding(again) == wanted


def test_nodes_with_any_of_them_are_embedded_by_their_image(embed, files):
    made = embed()
    nodes = label_images([one for one in held(files[0]).values() if isinstance(one, Node | TextNode)])
    assert len(nodes) == 7
    assert [node.embedding for node in made(nodes)] == [made.get_image_embedding(files[0])] * 7


def test_a_label_follows_a_file_that_is_named_by_an_address(files):
    """As one that is named by a path."""
    address = Path(files[0]).absolute().as_uri()
    kinds = {"path": {"image_path": address}, "address": {"image_url": address}}
    before = {kind: label_images([ImageNode(**where)])[0].metadata[LABEL] for kind, where in kinds.items()}
    Pillow.new("RGB", (40, 40), "red").save(files[0])
    for kind, where in kinds.items():
        assert label_images([ImageNode(**where)])[0].metadata[LABEL] != before[kind]


@pytest.mark.parametrize(
    ("holder", "why"),
    [
        (TextNode(text="words"), "TextNode holds no image"),
        (MediaResource(text="words"), "no image"),
        (ImageNode(text="words"), "no image"),
        (ImageBlock(), "no image"),
        (ImageBlock(path="/etc/passwd"), "allowed_roots"),
        (MediaResource(path="/etc/hostname"), "allowed_roots"),
        (ImageBlock(url="http://127.0.0.1/x.png"), "image_policy"),
    ],
    ids=["text", "resource of text", "node of text", "empty block", "block outside", "resource outside", "address"],
)
def test_what_holds_none_or_one_that_is_not_allowed_is_refused(embed, server, holder, why):
    """Paths and addresses in these came with the data: the image policy confines them."""
    with pytest.raises(InputError, match=why):
        embed().get_image_embedding(holder)
    assert server.ledger()["requests"] == 0


def test_one_of_them_is_not_several(embed, files):
    """Pydantic's models can be iterated, over their fields."""
    for one in (ImageBlock(path=files[0]), MediaResource(path=files[0]), NodeWithScore(node=TextNode(text="a"))):
        with pytest.raises(InputError, match="must be several"):
            embed().get_image_embedding_batch(one)


def test_events_name_them_without_their_bytes(embed, files):
    counter = TokenCountingHandler(tokenizer=str.split)
    embed(callback_manager=CallbackManager([counter])).get_image_embedding_batch(held(files[0]).values())
    address = Path(files[0]).absolute().as_uri()
    assert {event.prompt for event in counter.embedding_token_counts} == {files[0], address, "image"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
async def test_a_picture_that_was_read_as_text_is_refused_with_the_remedy(embed, server, tmp_path, kind):
    """`SimpleDirectoryReader` decodes files that no reader is installed for; their letters are a text to no model."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    Pillow.fromarray(noise).save(folder / "dress.bin", kind)
    documents = SimpleDirectoryReader(str(folder)).load_data()
    assert documents[0].text, "when this fails LlamaIndex refuses them itself"
    with pytest.raises(InputError, match="read as text"):
        IngestionPipeline(transformations=[embed()]).run(documents=documents)
    with pytest.raises(InputError, match="read as text"):
        await embed().aget_text_embedding(documents[0].text)
    assert server.ledger()["requests"] == 0
