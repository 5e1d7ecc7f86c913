"""What a change would do to every stack, as one comment for a pull request. Reads files alone: no network, no state."""
