"""Render a change's effects on all stacks as one pull request comment. Reads only files: no network, no state."""
