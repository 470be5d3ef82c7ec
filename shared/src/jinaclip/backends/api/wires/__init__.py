"""The envelopes of services, each a module; see `base.Wire`."""

from __future__ import annotations

from collections.abc import Mapping

from jinaclip.backends.api.wires import jina, openai, sagemaker
from jinaclip.backends.api.wires.base import Wire

WIRES: Mapping[str, Wire] = {"jina": jina, "openai": openai, "sagemaker": sagemaker}
"""By the names that the option `wire` has for them."""
USUAL = jina.traits
"""Of the service that is asked where nothing else is said."""
