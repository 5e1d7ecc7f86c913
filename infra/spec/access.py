"""The user id and port of the access image, used by both targets and by the image."""

from __future__ import annotations

UID = 10030
PORT = 8080
