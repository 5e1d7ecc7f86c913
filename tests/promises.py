"""The marker that names the promise a test proves: `@promise("a write is visible to its own process at once")`.

A negative control, in which the naive way breaks the promise, also has `control=True`. The promises are in
promises.toml. `make check` reports one without a test, and docs/promises.md is rendered from both.
"""

from __future__ import annotations

import pytest

promise = pytest.mark.promise
