"""Names that a format can hold: what would come back changed is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence

from detal.errors import DataError

__all__ = ["check_class_names", "check_xml_text", "xml_safe"]

_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def check_class_names(
    names: Sequence[str], tool: str, *, max_length: int | None = None, reserved: str = ""
) -> None:
    """Check that class names come back from a tool as they are.

    Args:
        names: C names.
        tool: For messages.
        max_length: Longest name that the tool takes.
        reserved: A name that `detal` needs itself.

    Raises:
        DataError: For the first name that is empty, there twice or reserved, too long, begins or
            ends with white space, or has characters that XML cannot hold.
    """
    for number, name in enumerate(names):
        fault = ""
        if not name or name != name.strip():
            fault = "be without white space around it"
        elif name in names[:number]:
            fault = "be there once"
        elif name == reserved:
            fault = "not be the label that detal uses itself"
        elif max_length is not None and len(name) > max_length:
            fault = f"have at most {max_length} characters"
        elif _NOT_XML.search(name):
            fault = "have characters that XML can hold"
        if fault:
            raise DataError(f"for {tool} a class name must {fault}, got {name!r}")


def check_xml_text(text: str, what: str) -> str:
    """The text, if XML can hold it.

    Raises:
        DataError: If it cannot.
    """
    if _NOT_XML.search(text):
        raise DataError(f"{what} must have characters that XML can hold, got {text!r}")
    return text


def xml_safe(text: str) -> str:
    """The text with a replacement for each character that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)
