"""Options that there are not: what to say to those who bring the words of another library."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from string import Formatter

_INSTRUCTION = "the model's own instruction goes before what is embedded as a query, and needs no option"
_TASK = "queries and documents are told apart by the method that embeds them"
_FLOATS = "vectors come as floats; a store can quantise them"
_KWARGS = "give its entries as options of their own, such as {device}, {dtype} and {normalized}"
_HUB_CACHE = "HF_HOME says where weights are kept, and {cache} where vectors are"
_HUB_LOGIN = "HF_TOKEN has the hub's token, and {api_key} is the key of the API"
_NO_CODE = "it is never needed, as no code of a model repository is run"
_CLIENT = "{transport} takes a function that makes an httpx.AsyncBaseTransport"
_LENGTH = "texts may have 8192 tokens; {truncate} set to True cuts longer ones"
_OWN = "it comes with the model"

HINTS = {
    "model_name": "model",
    "model_id": "model",
    "model_name_or_path": "model",
    "model_path": "model",
    "model_uri": "model",
    "model_folder": "model",
    "pretrained_model_name_or_path": "model",
    "repo_id": "model",
    "checkpoint": "model",
    "model_revision": "revision",
    "dimension": "dimensions",
    "dim": "dimensions",
    "dims": "dimensions",
    "embedding_dim": "dimensions",
    "embedding_dims": "dimensions",
    "embedding_dimension": "dimensions",
    "embedding_dimensions": "dimensions",
    "embedding_size": "dimensions",
    "output_dimension": "dimensions",
    "output_dimensionality": "dimensions",
    "truncate_dim": "dimensions",
    "truncate_dimension": "dimensions",
    "vector_size": "dimensions",
    "normalize": "normalized",
    "normalise": "normalized",
    "normalized_embeddings": "normalized",
    "normalize_embeddings": "normalized",
    "api_token": "api_key",
    "auth_token": "api_key",
    "jina_api_key": "api_key",
    "jina_auth_token": "api_key",
    "jinaai_api_key": "api_key",
    "api_base": "base_url",
    "api_base_url": "base_url",
    "api_url": "base_url",
    "endpoint": "base_url",
    "endpoint_url": "base_url",
    "default_headers": "headers",
    "extra_headers": "headers",
    "http_headers": "headers",
    "chunk_size": "batch_size",
    "embed_batch_size": "batch_size",
    "max_batch_size": "batch_size",
    "concurrency": "max_concurrency",
    "max_workers": "max_concurrency",
    "num_workers": "max_concurrency",
    "request_timeout": "timeout",
    "retries": "max_retries",
    "num_retries": "max_retries",
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "progress_bar": "show_progress",
    "show_progress_bar": "show_progress",
    "torch_dtype": "dtype",
    "torch_device": "device",
    "client": _CLIENT,
    "http_client": _CLIENT,
    "http_async_client": _CLIENT,
    "http_client_kwargs": _CLIENT,
    "session": _CLIENT,
    "task": _TASK,
    "task_type": _TASK,
    "input_type": _TASK,
    "query_instruction": _INSTRUCTION,
    "text_instruction": _INSTRUCTION,
    "embed_instruction": _INSTRUCTION,
    "query_prompt": _INSTRUCTION,
    "prompt_name": _INSTRUCTION,
    "prompts": _INSTRUCTION,
    "late_chunking": "jina-clip has no late chunking; each text is embedded by itself",
    "embedding_type": _FLOATS,
    "encoding_format": _FLOATS,
    "encoding_documents": _FLOATS,
    "encoding_queries": _FLOATS,
    "precision": _FLOATS,
    "trust_remote_code": _NO_CODE,
    "code_revision": _NO_CODE,
    "cache_dir": _HUB_CACHE,
    "cache_folder": _HUB_CACHE,
    "local_files_only": "HF_HUB_OFFLINE=1 in the environment keeps to weights that are on this machine",
    "token": _HUB_LOGIN,
    "hf_token": _HUB_LOGIN,
    "use_auth_token": _HUB_LOGIN,
    "model_kwargs": _KWARGS,
    "encode_kwargs": _KWARGS,
    "query_encode_kwargs": _KWARGS,
    "tokenizer_kwargs": _OWN,
    "processor_kwargs": _OWN,
    "config_kwargs": _OWN,
    "tokenizer": _OWN,
    "tokenizer_name": _OWN,
    "pooling": _OWN,
    "max_length": _LENGTH,
    "max_seq_length": _LENGTH,
    "image_size": "images are brought to the size that the model sees; {image_resize} says how",
    "multi_process": "calls from many threads share one model, which uses all cores",
}
"""Words of today's plugins: an option of ours, or a sentence, where options stand in braces."""


def find_unknown(names: Iterable[str], known: Collection[str], words: Mapping[str, str]) -> str | None:
    """What to say of options that there are not, or None if all of them are known. It never says a value.

    Args:
        names: of the options that were given.
        known: names that are taken here.
        words: the host's own words for options of the core, such as {"model_name": "model"}: they are recommended.
    """
    own = {core: word for word, core in words.items() if word in known}
    unknown = [name for name in names if name not in known]
    return "; and ".join(f"there is no option {name!r}{_hint(name, known, own)}" for name in unknown) or None


def _hint(name: str, known: Collection[str], own: Mapping[str, str]) -> str:
    """The end of a sentence about an unknown option; empty where we cannot guess what is meant."""
    hint = HINTS.get(name.lower().replace("-", "_"), "")
    if hint.isidentifier():
        hint = f"did you mean {{{hint}}}?"
    wanted = {option: own.get(option, option) for _, option, _, _ in Formatter().parse(hint) if option}
    if hint and all(word in known for word in wanted.values()):
        return f"; {hint.format_map({option: repr(word) for option, word in wanted.items()})}"
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return "; it means nothing here" if hint or name in HINTS.values() else ""
