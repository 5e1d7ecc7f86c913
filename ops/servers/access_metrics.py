"""The metrics of an access service, read from its `/metrics`."""

from __future__ import annotations

import urllib.request
from http.client import HTTPException

from prometheus_client.parser import text_string_to_metric_families

from ops.servers.errors import ServerUnreachable, one_line

# The name of a metric, and its labels sorted by name.
MetricKey = tuple[str, tuple[tuple[str, str], ...]]
_ANSWER_SECONDS = 3.0
_PREFIXES = ("groundwork_", "# TYPE groundwork_")


def access_metrics(access_url: str) -> dict[MetricKey, float]:
    """Return the metrics of an access service. Raise ServerUnreachable if it does not answer."""
    return read_metrics(f"{access_url}/metrics")


def read_metrics(url: str) -> dict[MetricKey, float]:
    """Return groundwork's metrics of a page. Raise ServerUnreachable if it cannot be read, or is another page."""
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS) as answer:
            text = answer.read().decode()
        found = parse_metrics(text)
    except (OSError, HTTPException) as error:
        raise ServerUnreachable(f"cannot reach {url}: {one_line(error)}") from error
    except (ValueError, LookupError) as error:
        # The parser raises both, and urllib a ValueError for a URL that it cannot parse.
        raise ServerUnreachable(f"{url} is not a page of metrics: {one_line(error)}") from error
    if not any(line.startswith(_PREFIXES) for line in text.split("\n")):
        raise ServerUnreachable(f"{url} is not a page with groundwork's metrics")
    return found


def parse_metrics(text: str) -> dict[MetricKey, float]:
    """Return groundwork's metrics of a page in Prometheus's format, without the buckets of histograms."""
    # Most lines are buckets, and parsing a line takes longer than all other work on it.
    needed = (line for line in text.split("\n") if line.startswith(_PREFIXES) and "_bucket{" not in line)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families("\n".join(needed))
        for sample in family.samples
    }
