"""`groundwork chaos`: break a stack's servers under load, undo every fault, and report what clients saw."""
