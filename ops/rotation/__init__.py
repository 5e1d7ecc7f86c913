"""Rotate a stack's passwords and certificates, step by step, while clients keep working.

Each step is recorded (infra.rotation_file) and then applied by an `up`. A killed rotation leaves the stack between
two steps, and the same command resumes it. This package only handles secrets to verify that they work.
"""
