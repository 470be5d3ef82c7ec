"""Called on nodes: pictures by their picture, texts by their text, both fused; what cannot be embedded is named."""

from __future__ import annotations

import base64
import http.server
import inspect
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    TextNode,
)
from llama_index.core.storage.kvstore import SimpleKVStore
from PIL import Image as Pillow

from jinaclip import ImagePolicy, InputError, fuse
from llamaindex_jinaclip import label_images
from llamaindex_jinaclip.labels import LABEL
from tests.llamaindex.conftest import Turnstile


@pytest.fixture(params=["sync", "async"])
def on(request):
    """Calls an embedding on nodes, either way; the images of lists are labelled."""

    async def call(made, nodes, **options):
        if isinstance(nodes, list):
            label_images(nodes)
        return made(nodes, **options) if request.param == "sync" else await made.acall(nodes, **options)

    return call


def content(name):
    return Path(name).read_bytes()


def encoded(name):
    return base64.b64encode(content(name)).decode()


def picture_nodes(name):
    """Every kind of node that LlamaIndex has for a picture in a file."""
    data = Path(name).read_bytes()
    return [
        ImageNode(image_path=name),
        ImageNode(image=encoded(name)),
        ImageNode(image_resource=MediaResource(path=name)),
        ImageDocument(image_path=name),
        ImageDocument(image=encoded(name)),
        Node(image_resource=MediaResource(data=data)),
        Document(image_resource=MediaResource(path=name)),
        Document(text=" ", image_resource=MediaResource(data=encoded(name).encode())),
        ImageNode(image_path=name, metadata={"file_path": name}),
    ]


async def test_a_picture_is_embedded_as_a_picture_whatever_node_it_is_in(embed, server, files, on):
    """LlamaIndex's own transformation embeds the file name, or nothing."""
    made = embed()
    nodes = picture_nodes(files[0])
    assert await on(made, nodes) is nodes
    assert [node.embedding for node in nodes] == [made.get_image_embedding(files[0])] * len(nodes)
    assert server.ledger()["texts"] == 0


async def test_a_text_is_embedded_with_its_metadata_as_llamaindex_does(embed, files, on):
    """Text nodes, documents, and the reference nodes that are text too."""
    made = embed()
    nodes = [
        TextNode(text="red"),
        TextNode(text="red", metadata={"shelf": 3}),
        TextNode(text="red", metadata={"shelf": 3}, excluded_embed_metadata_keys=["shelf"]),
        Document(text="red"),
        IndexNode(text="red", index_id="1"),
    ]
    await on(made, nodes)
    red, labelled = made.get_text_embedding_batch(["red", "shelf: 3\n\nred"])
    assert [node.embedding for node in nodes] == [red, labelled, red, red, red]


async def test_nodes_may_come_from_a_generator_and_one_node_is_not_several(embed, server, files, on):
    """What an iterator has given comes back with vectors; a node can be iterated too, over its fields."""
    given = label_images([TextNode(text="a"), ImageNode(image_path=files[0])])
    found = await on(embed(), (node for node in given))
    assert [one is node for one, node in zip(found, given, strict=True)] == [True, True]
    assert all(node.embedding for node in given)
    server.reset()
    for node in given:
        with pytest.raises(InputError, match=rf"not one {node.class_name()}; pass \[node\]"):
            await on(embed(), node)
    assert server.ledger()["requests"] == 0


async def test_text_and_picture_are_fused(embed, files, on):
    """By `fusion_weight`, which is the share of the text."""
    text, picture = embed().get_text_embedding("red"), embed().get_image_embedding(files[0])
    for weight in (0.5, 0.3, 0, 1):
        made = embed(fusion_weight=weight)
        nodes = [
            ImageNode(text="red", image_path=files[0]),
            Document(text="red", image_resource=MediaResource(path=files[0])),
        ]
        await on(made, nodes)
        expected = {0: picture, 1: text}.get(weight) or fuse(text, picture, weight).tolist()
        assert [node.embedding for node in nodes] == [expected] * 2


async def test_a_half_without_weight_is_not_paid_for(embed, server, files, on):
    """The service embeds no text that counts for nothing, and no picture."""
    await on(embed(fusion_weight=0), [ImageNode(text="red", image_path=files[0])])
    assert (server.ledger()["texts"], server.ledger()["images"]) == (0, 1)
    await on(embed(fusion_weight=1), [ImageNode(text="red", image_path=files[0])])
    assert (server.ledger()["texts"], server.ledger()["images"]) == (1, 1)
    await on(embed(fusion_weight=1), [ImageNode(text="red"), ImageNode(text="red", image_path="missing.png")])


@pytest.mark.slow
async def test_mixed_nodes_keep_their_order_and_each_input_is_paid_for_once(embed, server, files, on):
    """24 nodes of three kinds, 8 to a batch: 16 texts and 8 images, each image in two nodes."""
    made = embed(embed_batch_size=8)
    nodes = []
    for i, name in enumerate(files):
        nodes += [
            TextNode(text=f"text {i}"),
            ImageNode(image_path=name),
            ImageNode(text=f"title {i}", image_path=name),
        ]
    await on(made, nodes)
    assert (server.ledger()["texts"], server.ledger()["images"]) == (16, 8)
    assert server.ledger()["answered"] == {"1": 24}
    for i, name in enumerate(files):
        picture = made.get_image_embedding(name)
        assert nodes[3 * i].embedding == made.get_text_embedding(f"text {i}")
        assert nodes[3 * i + 1].embedding == picture
        assert nodes[3 * i + 2].embedding == fuse(made.get_text_embedding(f"title {i}"), picture).tolist()


async def test_a_picture_that_got_lost_is_missed(embed, server, files, on):
    """Silent loss: `ImageNode(image_resource=...)` and dumps drop the bytes. Ours says so, and embeds nothing."""
    dumped = Document.from_dict(Document(text="red", image_resource=MediaResource(data=b"\xff\xd8")).to_dict())
    for lost in (ImageNode(text="red", image_resource=MediaResource(data=content(files[0]))), dumped):
        with pytest.raises(InputError, match=f"node {lost.node_id}: no image") as caught:
            await on(embed(), [TextNode(text="red"), lost])
        assert caught.value.index == 1
    assert server.ledger()["requests"] == 0


@pytest.mark.parametrize("place", [0, 1, 4, 5])
async def test_an_error_counts_in_nodes(embed, files, on, place):
    """Of six nodes of three kinds; the error has the node's index and names its id."""
    nodes = [
        TextNode(text="a"),
        ImageNode(image_path=files[0]),
        ImageNode(text="b", image_path=files[1]),
        TextNode(text="c"),
        TextNode(text="d"),
        ImageNode(image_path=files[2]),
    ]
    bad = {TextNode: TextNode(text=" "), ImageNode: ImageNode(image_path="missing.png")}
    nodes[place] = bad[type(nodes[place])]
    with pytest.raises(InputError, match=f"node {nodes[place].node_id}: ") as caught:
        await on(embed(embed_batch_size=2), nodes)
    assert caught.value.index == place


@pytest.mark.parametrize(
    "bad", [TextNode(text=" "), ImageNode(text="b", image_path="missing.png")], ids=["text", "image"]
)
async def test_all_nodes_are_looked_through_before_any_is_billed(embed, server, files, on, bad):
    """Texts and pictures, before any text is embedded."""
    nodes = [TextNode(text="a"), ImageNode(image_path=files[0]), TextNode(text="b"), bad]
    with pytest.raises(InputError, match=bad.node_id) as caught:
        await on(embed(embed_batch_size=1), nodes)
    assert caught.value.index == 3
    assert server.ledger()["requests"] == 0
    assert [node.embedding for node in nodes] == [None] * 4


async def test_nodes_keep_their_vectors_when_one_fails(embed, files, on):
    """A damaged image is found late. All others are on the nodes and in `.partial`, which says why and which."""
    made = embed(embed_batch_size=2)
    Path(files[3]).write_bytes(content(files[3])[:300])  # noqa: ASYNC240
    nodes = [
        TextNode(text="a"),
        ImageNode(text="both", image_path=files[1]),
        ImageNode(image_path=files[2]),
        ImageNode(text="both", image_path=files[3]),
        ImageNode(text="late", image_path=files[4]),
        ImageNode(image_path=files[5]),
    ]
    with pytest.raises(InputError, match=f"node {nodes[3].node_id}: ") as caught:
        await on(made, nodes)
    assert caught.value.index == 3
    assert [node.embedding is not None for node in nodes] == [True, True, True, False, True, True]
    partial = caught.value.partial
    places, rows = partial.successes()
    assert {i: row.tolist() for i, row in zip(places.tolist(), rows, strict=True)} == {
        i: nodes[i].embedding for i in (0, 1, 2, 4, 5)
    }
    assert list(partial.errors) == [3]
    assert partial.errors[3].index == 3
    assert nodes[3].node_id in str(partial.errors[3])


async def test_known_texts_of_nodes_are_not_sent_and_keep_their_vectors(embed, server, files, on):
    """Errors count in the nodes all the same."""
    made = embed(embeddings_cache=SimpleKVStore())
    known = made.get_text_embedding_batch(["a", "b"])
    Path(files[3]).write_bytes(content(files[3])[:300])  # noqa: ASYNC240
    server.reset()
    nodes = [TextNode(text="a"), ImageNode(image_path=files[0]), TextNode(text="b"), ImageNode(image_path=files[3])]
    with pytest.raises(InputError, match=nodes[3].node_id) as caught:
        await on(made, nodes)
    assert caught.value.index == 3
    assert caught.value.partial.successes()[0].tolist() == [1]
    assert [nodes[0].embedding, nodes[2].embedding] == known
    assert nodes[1].embedding
    assert (server.ledger()["texts"], server.ledger()["images"]) == (0, 1)


async def test_a_permit_is_for_what_is_embedded_of_nodes(embed, server, files, on):
    """A node with both is a text and an image: 4 + 4 + 2 * 4 to four a permit."""
    limiter = Turnstile()
    nodes = [TextNode(text=f"text {i}") for i in range(4)] + [ImageNode(image_path=name) for name in files[:4]]
    nodes += [ImageNode(text=f"title {i}", image_path=name) for i, name in enumerate(files[4:])]
    await on(embed(embed_batch_size=4, rate_limiter=limiter), nodes)
    assert limiter.sync + limiter.asynchronous == 4
    assert server.ledger()["answered"] == {"1": 16}


async def test_base64_that_is_none_names_its_node(embed, files, on):
    """Nothing is sent."""
    node = ImageNode(image="not base64!")
    with pytest.raises(InputError, match=f"node {node.node_id}: .*base64"):
        await on(embed(), [node])


async def test_words_of_a_pipeline_are_understood(embed, files, on, capsys):
    """`run(**kwargs)` hands them on, and asks for a bar."""
    nodes = [TextNode(text="a"), ImageNode(image_path=files[0])]
    await on(embed(), nodes, show_progress=True, something_else=3)
    assert "embedding:" in capsys.readouterr().err
    assert all(node.embedding for node in nodes)


# ---------------------------------------------------------------- addresses


class Pictures(http.server.BaseHTTPRequestHandler):
    """Answers /ok.png, with any query, with a picture and everything else with an error page."""

    picture = b""
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        found = self.path.split("?")[0] == "/ok.png"
        body = self.picture if found else b"<html>gone</html>"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keeps quiet."""


@pytest.fixture
def website(files):
    Pictures.picture = content(files[0])
    Pictures.asked.clear()
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()
    running.server_close()


def home(website):
    port = int(website.rpartition(":")[2])
    return ImagePolicy(schemes=("http",), ports=(port,), allow_networks=("127.0.0.0/8",))


async def test_addresses_are_fetched_by_our_policy(embed, files, website, on):
    """By default a node cannot make us ask a machine inside; LlamaIndex's `resolve_image` asks anybody."""
    nodes = [
        ImageNode(image_url=f"{website}/ok.png"),
        Document(image_resource=MediaResource(url=f"{website}/ok.png")),
    ]
    for node in nodes:
        with pytest.raises(InputError, match="image_policy"):
            await on(embed(), [node])
    assert Pictures.asked == []
    made = embed(image_policy=home(website))
    await on(made, nodes)
    assert [node.embedding for node in nodes] == [made.get_image_embedding(files[0])] * 2


async def test_an_error_page_is_no_picture(embed, files, website, on):
    """LlamaIndex looks at no status and would hand the page on."""
    with pytest.raises(InputError, match="404") as caught:
        await on(embed(image_policy=home(website)), [ImageNode(image_url=f"{website}/gone.png")])
    assert caught.value.index == 0


async def test_the_signature_of_an_address_is_in_no_event_and_no_metadata(embed, files, website, on, recorder):
    """What stands behind the question mark lets anybody in who reads the log."""
    made = embed(image_policy=home(website))
    node = ImageNode(image_url=f"{website}/ok.png?sig=SECRET#part")
    await on(made, [node])
    await made.aget_image_embedding(f"{website}/ok.png?sig=SECRET")
    assert node.metadata[LABEL].split()[0] == f"{website}/ok.png"
    assert [end.chunks for end in recorder.named("EmbeddingEndEvent")] == [[f"{website}/ok.png"]] * 2
    assert [path.endswith("sig=SECRET") for path in Pictures.asked] == [True, True]
    assert "SECRET" not in str(recorder.events) + str(node.metadata)


async def test_a_question_mark_in_the_name_of_a_file_stays(embed, files, on, recorder):
    """Two pictures, two names, in metadata and in events; only addresses have a query."""
    names = ["a?b.png", "a?c.png"]
    for name, source in zip(names, files, strict=False):
        Path(name).write_bytes(content(source))  # noqa: ASYNC240
    nodes = [ImageNode(image_path=name) for name in names]
    await on(embed(), nodes)
    assert [node.metadata[LABEL].rsplit(" ", 1)[0] for node in nodes] == names
    assert [end.chunks for end in recorder.named("EmbeddingEndEvent")] == [names]


async def test_a_path_in_a_node_obeys_the_policy(embed, files, tmp_path, on, monkeypatch):
    """Nodes come with the data; their paths reach the allowed roots alone, also as MediaResource, a Path inside."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    outside = str(tmp_path / files[0])
    for node in (ImageNode(image_path=outside), Node(image_resource=MediaResource(path=outside))):
        with pytest.raises(InputError, match="allowed_roots"):
            await on(embed(), [node])
        await on(embed(image_policy=ImagePolicy(allowed_roots=tmp_path)), [node])
        assert len(node.embedding) == 1024


def test_pictures_are_looked_at_once_and_sent_as_one_tile(embed, server, tmp_path, monkeypatch):
    """A large picture in a node costs one tile, as everywhere."""
    monkeypatch.chdir(tmp_path)
    Pillow.new("RGB", (1600, 1200), "red").save("large.png")
    embed()(label_images([ImageNode(image_path="large.png")]))
    assert server.ledger()["tiles"] == 1


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize("place", range(8))
async def test_a_picture_without_label_is_refused_before_anything_is_billed(embed, server, files, place):
    """Whatever node it is in: LlamaIndex's cache would give its vector to the next one."""
    nodes = [TextNode(text="a"), picture_nodes(files[0])[place]]
    for call in (embed().__call__, embed().acall):
        with pytest.raises(InputError, match=f"node {nodes[1].node_id}: .*label_images") as caught:
            await awaited(call(nodes))
        assert caught.value.index == 1
    assert server.ledger()["requests"] == 0


async def awaited(value):
    return await value if inspect.isawaitable(value) else value


def test_a_picture_that_is_not_embedded_needs_no_label(embed, files):
    """A text has all the weight, or a node is made for texts alone."""
    nodes = [ImageNode(text="red", image_path=files[0]), TextNode(text="red")]
    embed(fusion_weight=1)(nodes)
    assert nodes[0].embedding == nodes[1].embedding


def test_a_label_tells_of_the_picture_and_of_its_state(files):
    """Another path, base64, address or state of the file: another label. What lies beside the file does not count."""

    def label(**picture):
        return label_images([ImageNode(**picture)])[0].metadata[LABEL]

    others = [{"image_path": files[1]}, {"image": encoded(files[0])}, {"image": encoded(files[1])}]
    others += [{"image_url": f"https://a.example/{i}.png"} for i in range(2)]
    labels = {label(image_path=files[0]), *(label(**other) for other in others)}
    assert len(labels) == 6
    Path("beside.png").write_bytes(b"")
    assert label(image_path=files[0]) in labels
    Pillow.new("RGB", (40, 40), "red").save(files[0])
    assert label(image_path=files[0]) not in labels


async def test_a_label_of_another_picture_is_refused(embed, files, server):
    """The file was replaced, or the metadata copied, after the label was made; labelled afresh it is taken."""
    [changed, copied] = label_images([ImageNode(image_path=name) for name in files[:2]])
    Pillow.new("RGB", (40, 40), "red").save(files[0])
    copied.image_path = files[2]
    for node in (changed, copied):
        with pytest.raises(InputError, match="is not the one that was labelled"):
            await embed().acall([node])
    assert server.ledger()["requests"] == 0
    assert all(node.embedding for node in embed()(label_images([changed, copied])))


def test_a_label_is_not_embedded_and_not_read_beside_a_text(embed, files):
    """It changes no vector; a node without any text shows it, so that index builds keep the node."""
    both, alone = label_images([ImageNode(text="red", image_path=files[0]), ImageNode(image_path=files[0])])
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert both.get_content(mode) == "red"
        assert files[0] in alone.get_content(mode)
    alone.text = "red"
    label_images([alone])
    assert alone.get_content(MetadataMode.EMBED) == "red"
    document = Document(image_resource=MediaResource(path=files[0]), metadata={"shelf": 3})
    assert files[0] in label_images([document])[0].get_content(MetadataMode.ALL)


def test_labels_leave_the_users_metadata_and_nodes_without_picture_as_they_are(files):
    """Also a dict that several nodes were made of; a data: URI is not copied into it."""
    shared = {"image": "sku-1"}
    letters = encoded(files[0])
    given = [
        ImageNode(image=letters, metadata=shared),
        ImageNode(image_url=f"data:image/png;base64,{letters}", metadata=shared),
        TextNode(text="a", metadata=shared),
        IndexNode(text="b", index_id="1"),
    ]
    before = [node.model_copy(deep=True) for node in given]
    found = label_images(node for node in given)
    assert all(one is node for one, node in zip(found, given, strict=True))
    assert shared == {"image": "sku-1"}
    assert given[2:] == before[2:]
    assert [node.metadata["image"] for node in given[:3]] == ["sku-1"] * 3
    assert not [node for node in given if letters[:40] in str(node.metadata)]
    with pytest.raises(InputError, match=r"not one ImageNode; pass \[node\]"):
        label_images(given[0])


def test_what_is_no_node_is_refused_by_name(embed):
    for refuses in (embed(), label_images):
        with pytest.raises(InputError, match=r"^node 1: must be a node of LlamaIndex, not str$") as caught:
            refuses([TextNode(text="red"), "dress.jpg"])
        assert caught.value.index == 1


def test_an_array_or_a_dict_is_no_list_of_pictures_or_texts(embed):
    for call, items in (
        (embed().get_image_embedding_batch, np.zeros((4, 4, 3))),
        (embed().get_text_embedding_batch, {}),
    ):
        with pytest.raises(InputError, match="several"):
            call(items)
