"""Open files, uploads and odd names through LlamaIndex's methods, and texts that show nothing."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.schema import ImageNode, MediaResource, Node, TextNode
from starlette.datastructures import UploadFile

from jinaclip import ImagePolicy, InputError
from llamaindex_jinaclip import label_images


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
