"""The errors of files that are refused."""

from __future__ import annotations

from jinaclip.errors import InputError


def damaged(form: str, problem: str) -> InputError:
    """The error of a file of this format that breaks its rules."""
    return InputError(f"the {form} file is damaged: {problem}; save it again with another program")


def ambiguous(form: str, problem: str) -> InputError:
    """The error of a file that may show one image to people and another to the model."""
    return InputError(f"programs would not show the same image for this {form} file: {problem}; save it again")


def unsupported(form: str, problem: str) -> InputError:
    """The error of a file that browsers do not show at all."""
    return InputError(f"the {form} file {problem}, which most programs do not show; convert it first")
