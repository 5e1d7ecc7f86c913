"""The metrics of an access service, read from its `/metrics`."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from ops.servers.errors import ServerUnreachable, one_line
from ops.servers.http_client import fetch_body

# The name of a metric, and its labels sorted by name.
MetricKey = tuple[str, tuple[tuple[str, str], ...]]
_ANSWER_SECONDS = 3.0
_PREFIXES = ("groundwork_", "# TYPE groundwork_")


def access_metrics(access_url: str) -> dict[MetricKey, float]:
    """Return the metrics of an access service. Raise ServerUnreachable if it does not answer."""
    url = f"{access_url}/metrics"
    try:
        return parse_metrics(fetch_body(url, _ANSWER_SECONDS).decode())
    except OSError as error:
        raise ServerUnreachable(f"cannot reach {url}: {one_line(error)}") from error
    except ValueError as error:
        raise ServerUnreachable(f"{url} gave an unexpected answer: {one_line(error)}") from error


def parse_metrics(text: str) -> dict[MetricKey, float]:
    """Return groundwork's metrics of a page in Prometheus's format, without the buckets of histograms."""
    # Most lines are buckets, and parsing a line takes longer than all other work on it.
    needed = (line for line in text.split("\n") if line.startswith(_PREFIXES) and "_bucket{" not in line)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families("\n".join(needed))
        for sample in family.samples
    }
