"""`groundwork doctor`: check a stack's servers and give advice on each finding. Changes nothing."""
