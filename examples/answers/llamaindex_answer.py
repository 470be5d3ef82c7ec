"""Answers from a shop's pictures and texts, in LlamaIndex: both are retrieved and handed to a chat model that sees.

    python examples/answers/llamaindex_answer.py

No key, no GPU, no internet: jina-clip is the catalogue's small model, and the chat model a stand-in that names colours.
Put a chat model with vision of LlamaIndex in its place; nothing else changes. Before version 0.14.24 LlamaIndex hands
over the first picture alone.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.llms import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    CompletionResponseGen,
    CustomLLM,
    ImageBlock,
    LLMMetadata,
    TextBlock,
)
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MediaResource, Node, NodeWithScore, QueryBundle

sys.path.insert(0, str(Path(__file__).parents[2]))
from examples.answers.colours import name_colour
from examples.catalogue.drawing import draw
from examples.catalogue.products import Attributes, Product, products
from examples.catalogue.wording import title
from jinaclip import ImagePolicy
from llamaindex_jinaclip import JinaClipEmbedding, JinaClipRetriever, label_images

CHECKPOINT = Path(__file__).parents[1] / "catalogue" / "checkpoint"
COUNT = 120
SHOWN = 3
COAT = Product("", Attributes("coat", "green", "checked", "black", "maxi"), 41)
"""Asked about by its picture; it is not in the shop."""
SHIRT, BUT = Product("", Attributes("t-shirt", "yellow", "striped", "black", "", "short", "round"), 7), "red T-shirt"
"""Asked about by picture and words: like this, but red."""


class ColourSeer(CustomLLM):
    """A chat model that looks at the pictures it is sent, and knows nothing but the colours on them."""

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex asks of a model before it hands it messages with pictures."""
        return LLMMetadata(is_chat_model=True, context_window=100_000, model_name="colour-seer")

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Says what it sees on each picture, and the line that was written before it."""
        seen, line = [], ""
        for block in (block for message in messages for block in message.blocks):
            if isinstance(block, TextBlock) and block.text.strip():
                line = block.text.strip().splitlines()[-1]
            elif isinstance(block, ImageBlock):
                seen.append(f"{name_colour(block.resolve_image().read())} ({line})")
        answer = f"I see: {'; '.join(seen)}." if seen else "I see no picture."
        return ChatResponse(message=ChatMessage(answer, role="assistant"))

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answers a prompt without pictures."""
        return CompletionResponse(text="I see no picture.")

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """`complete`, in one piece."""
        yield self.complete(prompt)


def main() -> None:
    """Draws, ingests, asks, and prints answers with their sources."""
    with tempfile.TemporaryDirectory() as folder, open_model(Path(folder)) as embed:
        engine = open_shop(embed, shop_nodes(Path(folder)), ColourSeer())
        coat, shirt = draw_to(Path(folder) / "coat.png", COAT), draw_to(Path(folder) / "shirt.png", SHIRT)
        for query in (QueryBundle("a red dress"), QueryBundle("", coat), QueryBundle(BUT, shirt)):
            print_answer(engine, query)


def open_model(folder: Path) -> JinaClipEmbedding:
    """The catalogue's model, which may read pictures in this folder."""
    policy = ImagePolicy(allowed_roots=folder)
    return JinaClipEmbedding(str(CHECKPOINT), backend="local", device="cpu", image_policy=policy, fusion_weight=0.25)


def shop_nodes(folder: Path) -> list[Node]:
    """Products that the model has not seen: each a title, and a picture in the folder."""
    return [
        Node(  # of a Document most vector stores drop the picture
            text_resource=MediaResource(text=title(product, "en")),
            image_resource=MediaResource(path=Path(draw_to(folder / f"{product.id}.png", product))),
            metadata={"id": product.id},
            excluded_embed_metadata_keys=["id"],
            excluded_llm_metadata_keys=["id"],
        )
        for product in products("test", COUNT)
    ]


def draw_to(path: Path, product: Product) -> str:
    """The path of a product's picture, drawn there."""
    draw(product).save(path)
    return str(path)


def open_shop(embed: JinaClipEmbedding, nodes: list[Node], llm: CustomLLM) -> RetrieverQueryEngine:
    """Titles and pictures in one store, and what answers from both."""
    index = VectorStoreIndex(embed(label_images(nodes)), embed_model=embed)
    retriever = JinaClipRetriever(index, embed, similarity_top_k=SHOWN)
    return RetrieverQueryEngine.from_args(retriever, llm=llm, multimodal=True)


def print_answer(engine: RetrieverQueryEngine, query: QueryBundle) -> None:
    """Prints the answer to a question, and where it comes from."""
    print(" + ".join(part for part in (query.query_str, Path(query.image_path or "").name) if part))
    answer = engine.query(query)
    print(f"  {answer}")
    for source in answer.source_nodes:
        print(f"  {describe_source(source)}")
    print()


def describe_source(source: NodeWithScore) -> str:
    """A source as a footnote."""
    return f"[{source.metadata['id']}] {source.score:.3f}  {source.node.get_content()}"


if __name__ == "__main__":
    main()
