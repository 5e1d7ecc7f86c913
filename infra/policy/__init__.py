"""Policy rules for the resources of a stack on AWS, and a guard against data loss for changes of any stack.

These are functions on plain data. Only the policy pack imports Pulumi; it converts the engine's resources.
"""
