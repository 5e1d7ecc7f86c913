"""Numbers of the access image that every target and the image itself agree on."""

from __future__ import annotations

UID = 10030
PORT = 8080
