"""What exists: the Pulumi program, and the specification that both of its targets render."""
