"""What both targets and the access service share: the image's user id and port, and the message of a failed check."""

from __future__ import annotations

UID = 10030
PORT = 8080
# The log message of a readiness check that fails. On AWS, an alarm counts it.
NOT_READY = "the service is not ready"
