"""Policy rules for the resources of a stack on AWS, and a guard against data loss for changes of any stack.

Plain functions over plain data. Only the policy pack imports Pulumi, and passes the engine's resources to them.
"""
