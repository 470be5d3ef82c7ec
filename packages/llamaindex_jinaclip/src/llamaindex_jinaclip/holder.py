"""ClipHolder: LlamaIndex's embedding with a core object that always has the options which the fields show."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from typing import Any, Self

from llama_index.core.bridge.pydantic import ConfigDict, PrivateAttr, SecretStr
from llama_index.core.embeddings import MultiModalEmbedding

from jinaclip import ConfigError, JinaClip
from jinaclip.hosts import Closing, refuse_unknown, without_options
from llamaindex_jinaclip.options import (
    OPTIONS,
    clip_fields,
    config_errors,
    describe_fields,
    name_model,
    open_clip,
    wrap_secrets,
)

SERVICES = ("callback_manager", "rate_limiter", "embeddings_cache")
"""Fields of LlamaIndex's that hold no setting, but something that is used."""
logger = logging.getLogger("jinaclip")


class ClipHolder(Closing, MultiModalEmbedding):
    """Opens its core object when it is made, and another when an option is set.

    The fields are the subclass's: so type checkers go by them, and not by `__init__` here, for what may be passed.
    """

    model_config = ConfigDict(validate_assignment=True, json_schema_extra=describe_fields)

    _clip: JinaClip = PrivateAttr()

    @without_options
    def __init__(self, *model: str, **options: Any) -> None:
        options = wrap_secrets(name_model(model, options))
        options.pop("class_name", None)  # from a dump inside another's
        refuse_unknown(options, [*type(self).model_fields, *OPTIONS.values()], OPTIONS)
        own = {name: options.pop(name) for name in type(self).model_fields if name in options.keys() - OPTIONS}
        clip = open_clip(options)
        with config_errors():
            super().__init__(**own, **clip_fields(clip))
        self._clip = clip

    @without_options
    def __setattr__(self, name: str, value: Any) -> None:
        if name in OPTIONS:
            self._set_option(name, value)
            return
        with config_errors():
            super().__setattr__(name, value)

    def _set_option(self, name: str, value: Any) -> None:
        """Sets an option of the core, by opening another core object.

        Raises:
            ConfigError: it is wrong, or part of a budget is spent, which would be forgotten.
        """
        clip = open_clip(wrap_secrets({**{option: getattr(self, option) for option in OPTIONS}, name: value}))
        if self._clip.config.token_budget is not None and self._clip.usage.tokens and name != "token_budget":
            raise ConfigError(f"{name} cannot be set while part of token_budget is spent; set token_budget anew first")
        with config_errors():
            super().__setattr__(name, clip_fields(clip)[name])
        self._clip = clip  # the connections of the one before close when nobody holds it any more

    @property
    def clip(self) -> JinaClip:
        """The core object: `clip.usage`, `clip.space`, `clip.self_test()`, `clip.close()`."""
        return self._clip

    @classmethod
    @without_options
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """The object of a dump, which holds no key; `kwargs` go before what it says."""
        return super().from_dict(data, **kwargs)

    # -- pickles and copies

    def __getstate__(self) -> dict[str, Any]:
        """The fields, with key and headers where they were given; LlamaIndex's services only if they can be pickled."""
        state = {name: getattr(self, name) for name in type(self).model_fields}
        headers = {name: SecretStr(value) for name, value in self._clip.config.extra_headers.reveal().items()}
        for name in SERVICES:
            if not is_picklable(state[name]):
                logger.warning("%s cannot be pickled and stays behind in this process", name)
                del state[name]
        return {**state, "headers": headers or None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        shared = [self._clip, self._clip.config.transport, *(getattr(self, name) for name in SERVICES)]
        return super().__deepcopy__({**(memo or {}), **{id(one): one for one in shared}})  # one budget, one store

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, with some fields changed."""
        copied = super().model_copy(deep=deep)
        for name, value in (update or {}).items():
            setattr(copied, name, value)
        return copied


def is_picklable(value: Any) -> bool:
    """Whether a pickle can be made of it."""
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001  objects of others raise what they like
        return False
    return True
