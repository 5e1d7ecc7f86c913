"""`groundwork report`: sample a stack's servers for a while and plot the result as one page."""
