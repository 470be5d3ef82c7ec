"""Turns whatever a decoder, a plugin, an odd object or the system raises into an InputError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jinaclip.errors import InputError, JinaClipError


@contextmanager
def translate_errors(message: str) -> Iterator[None]:
    """Turns any error into an InputError with this message; one of ours passes unchanged. Also a decorator.

    The error's own message is left out, as it may quote bytes of the image. To be used in threads of ours alone, where
    no exception of a signal handler can be taken for one of the decoder's: see `process.run_apart`.
    """
    try:
        yield
    except JinaClipError:
        raise
    except Exception as error:  # noqa: BLE001  Pillow's plugins, and those of others, raise all kinds
        raise InputError(f"{message} ({type(error).__name__})") from None
