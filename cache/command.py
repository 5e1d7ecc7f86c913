"""A command as the bytes that Redis reads (RESP): for names that are made here, and are ASCII."""

from __future__ import annotations


def packed(*parts: str) -> bytes:
    """A command and its arguments, in one piece: redis-py copies what it has for every key that is added."""
    body = "".join([f"${len(part)}\r\n{part}\r\n" for part in parts])
    # ASCII, for lengths are counted in bytes.
    return f"*{len(parts)}\r\n{body}".encode("ascii")
