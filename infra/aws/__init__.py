"""The target aws: one ComponentResource a file, rendered from infra.spec. Only a stack on AWS imports it."""
