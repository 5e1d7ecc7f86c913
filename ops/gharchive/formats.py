"""Recognise files that are not JSON lines of GitHub Archive by their first bytes, so that the message can name them."""

from __future__ import annotations

import codecs

import msgspec

# What a file cannot be read as, by its first bytes after gzip was removed.
_BINARY = {
    b"\x1f\x8b": "is compressed with gzip twice; decompress it once",
    b"BZh": "is compressed with bzip2; decompress it",
    b"PK\x03\x04": "is a zip archive; extract it",
    b"PK\x05\x06": "is an empty zip archive; download it again",
    b"\xfd7zXZ\x00": "is compressed with xz; decompress it",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; decompress it",
    codecs.BOM_UTF16_LE: "is UTF-16; convert it to UTF-8",
    codecs.BOM_UTF16_BE: "is UTF-16; convert it to UTF-8",
    b"{\0": "is UTF-16; convert it to UTF-8",
    b"\0{": "is UTF-16; convert it to UTF-8",
}


def unreadable(head: bytes) -> str | None:
    """Return why a file that begins with these bytes has no lines of JSON, and what to do, or None."""
    if not head:
        return "is empty; download it again"
    return next((reason for magic, reason in _BINARY.items() if head.startswith(magic)), None)


def without_events(line: bytes) -> str | None:
    """Return why a file without events has none, and what to do, by its first line, or None if that is not known."""
    start = line.lstrip()[:1]
    if start == b"<":
        return "it is an XML or HTML page, such as a server's error message; download it again"
    if start == b"[":
        return "it is a JSON array; write one event per line, e.g. with `jq -c .[]`"
    try:
        first = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if isinstance(first, dict) and isinstance(first.get("actor"), str):
        return "its events have the format used before 2015, which has no user numbers; it cannot be loaded"
    return None
