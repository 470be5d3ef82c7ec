"""`llamaindex_jinaclip` by the name that LlamaIndex's integrations have; the classes are the same."""

from importlib.metadata import version

import llamaindex_jinaclip
from llamaindex_jinaclip import *  # noqa: F403

__all__ = llamaindex_jinaclip.__all__
__version__ = version("llama-index-embeddings-jinaclip")
