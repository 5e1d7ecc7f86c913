"""`groundwork top`: what a stack's servers are doing now, on a terminal or as JSON.

- `sources` reads the servers, and `watch` does so at intervals, in a thread for each server.
- `summary` turns two readings into a `snapshot`, which is also the JSON document.
- `views` has the state of the display and its keys, `frame` draws a snapshot, and `terminal` shows the frames.
"""
