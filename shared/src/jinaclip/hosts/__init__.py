"""What authors of adapters need: a host's items embedded in one call, the options and their defaults, a few helpers.

An adapter turns a host's item into what `JinaClip.embed` takes, and an embedding into what the host keeps. Everything
between is here: one call for any list, errors under the host's own index and name, the usage of that call, and `Steps`,
for what a host has as a sync and as an async method.
"""

from jinaclip.blank import is_blank
from jinaclip.call.request import Name, Task
from jinaclip.config import (
    API_URL,
    MAX_BATCH,
    Backend,
    CacheOption,
    EmbedderConfig,
    EngineName,
    ImageDecode,
    ImagePolicy,
    ImageResize,
    TransportFactory,
    UrlMode,
    WireName,
    configured,
    hide_key,
    refuse_unknown,
    save_cache,
)
from jinaclip.frames import without_arguments, without_options
from jinaclip.hosts.closing import Closing
from jinaclip.hosts.descriptions import describe_fields, describe_options
from jinaclip.hosts.embedding import Convert, Kind, aembed, aembed_query, embed, embed_query, take
from jinaclip.hosts.steps import Steps, arun_steps, run_steps, wait_for, wait_for_thread
from jinaclip.inputs import Drawable, ImageLike, is_image_like
from jinaclip.numeric import is_whole, plain
from jinaclip.process import Latch, is_wanted, run_in_thread, start_thread
from jinaclip.secret import Headers, Secret
from jinaclip.specs import SPECS, ModelSpec, check_model
from jinaclip.uris import is_data_uri, remove_images
from jinaclip.vectors import check_weight

__all__ = [
    "API_URL",
    "MAX_BATCH",
    "SPECS",
    "Backend",
    "CacheOption",
    "Closing",
    "Convert",
    "Drawable",
    "EmbedderConfig",
    "EngineName",
    "Headers",
    "ImageDecode",
    "ImageLike",
    "ImagePolicy",
    "ImageResize",
    "Kind",
    "Latch",
    "ModelSpec",
    "Name",
    "Secret",
    "Steps",
    "Task",
    "TransportFactory",
    "UrlMode",
    "WireName",
    "aembed",
    "aembed_query",
    "arun_steps",
    "check_model",
    "check_weight",
    "configured",
    "describe_fields",
    "describe_options",
    "embed",
    "embed_query",
    "hide_key",
    "is_blank",
    "is_data_uri",
    "is_image_like",
    "is_wanted",
    "is_whole",
    "plain",
    "refuse_unknown",
    "remove_images",
    "run_in_thread",
    "run_steps",
    "save_cache",
    "start_thread",
    "take",
    "wait_for",
    "wait_for_thread",
    "without_arguments",
    "without_options",
]
