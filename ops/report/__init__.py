"""`groundwork report`: samples a stack's servers for a while, and draws what it saw as one page."""
