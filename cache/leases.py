"""How long a lease lasts, when it passes on, and how those wait who have none."""

from __future__ import annotations

# A holder may fill for so long; a slower read of the database is not cached.
LEASE_MS = 3000
# After this long without a fill the lease passes to one of those who wait.
PASS_MS = 50
WAIT_SECONDS = 1.0
POLL_SECONDS = (0.004, 0.012)
