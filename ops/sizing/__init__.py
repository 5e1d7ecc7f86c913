"""`groundwork size`: turn an expected load into sizes of servers.

`figures` reads the measured costs from docs/benchmarks.md, `estimate` calculates, `prices` reads a file of prices, and
`text` prints.
"""
