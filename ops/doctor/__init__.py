"""`groundwork doctor`: looks at a stack's servers and says what is wrong and what to do; changes nothing."""
