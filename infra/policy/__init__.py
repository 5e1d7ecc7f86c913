"""What a stack on AWS has to be, as rules over its resources, and what a change of any stack must not lose.

Plain functions over plain data: nothing here imports Pulumi but the pack, which hands the engine's resources to them.
"""
