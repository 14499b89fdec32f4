"""Parse XML files that strangers may have written."""

from __future__ import annotations

from xml.etree import ElementTree

from detal.errors import DataError
from detal.files import open_regular

__all__ = ["parse_xml"]


def parse_xml(path: str) -> ElementTree.Element:
    """The root element of a file.

    Raises:
        DataError: If it cannot be read, is no XML in UTF-8, or declares entities.
    """
    try:
        with open_regular(path) as file:
            data = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {reason}") from None
    # Entities can make a small file expand without end; annotations need none. A NUL means UTF-16
    # or UTF-32, in which the words would be spelled differently.
    upper = data.upper()
    if b"<!DOCTYPE" in upper or b"<!ENTITY" in upper:
        raise DataError(f"{path} must not declare a document type or entities")
    if b"\0" in data:
        raise DataError(f"{path} must be UTF-8 text, got NUL bytes")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise DataError(f"{path} must be XML: {error}") from None
