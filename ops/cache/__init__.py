"""Commands on the cache: statistics, entries, flush, warming."""
