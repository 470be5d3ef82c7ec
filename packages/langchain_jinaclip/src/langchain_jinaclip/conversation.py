"""The images that a user attached to a conversation, as a tool finds them in the state of its agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import HumanMessage

from jinaclip import InputError
from jinaclip.hosts import ImageLike
from langchain_jinaclip.blocks import image_of_block, is_image_block


def attached_image(runtime: Any, number: int) -> ImageLike:
    """An image of the conversation.

    Args:
        runtime: LangChain's `ToolRuntime`, or None outside an agent.
        number: 1 for the image that was attached last, 2 for the one before.

    Raises:
        InputError: there is no such image, or it cannot be opened here.
    """
    blocks = attached_blocks(getattr(runtime, "state", None))
    if not 1 <= number <= len(blocks):
        raise InputError(f"there is no attached image {number}; the user has attached {len(blocks)}")
    return image_of_block(blocks[number - 1])


def attached_blocks(state: Any) -> list[Mapping[str, Any]]:
    """The image blocks in the messages of the user, the last one first.

    Args:
        state: of an agent: a mapping or an object with `messages`, or these themselves.
    """
    messages = state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", state)
    own = [message for message in messages or () if isinstance(message, HumanMessage)]
    parts = [part for message in own if isinstance(message.content, list) for part in message.content]
    return [part for part in reversed(parts) if isinstance(part, Mapping) and is_image_block(part)]
