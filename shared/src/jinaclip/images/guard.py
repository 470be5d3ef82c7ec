"""Turns whatever a decoder, a plugin, an odd object or the system raises into an InputError."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from jinaclip.errors import InputError, JinaClipError
from jinaclip.process import Dropped, runs_in_own_thread

PASSING = (Dropped, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)
"""What ends the program or the work, and is no error of an image."""


def is_error_of_image(error: BaseException) -> bool:
    """Whether what others' code raised is an error of the image it worked on.

    A panic of a decoder in Rust is no Exception, but a BaseException of a class of its own. In threads of callers such
    may come from elsewhere, such as a time limit.
    """
    if isinstance(error, Exception):
        return not isinstance(error, JinaClipError)
    return not isinstance(error, PASSING) and runs_in_own_thread()


@contextmanager
def translate_errors(message: str) -> Iterator[None]:
    """Turns any error into an InputError with this message; one of ours passes unchanged. Also a decorator.

    The error's own message is left out, as it may quote bytes of the image. To be used in threads of ours alone, where
    no exception of a signal handler can be taken for one of the decoder's: see `process.run_apart`.
    """
    try:
        yield
    except BaseException as error:  # Pillow's plugins, and those of others, raise all kinds
        if not is_error_of_image(error):
            raise
        raise InputError(f"{message} ({type(error).__name__})") from None
