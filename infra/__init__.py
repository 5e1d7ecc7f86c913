"""The Pulumi program, and the specification that both of its targets (Docker and AWS) render."""
