"""The AWS target, rendered from infra.spec, with one file per component. Imported only by stacks on AWS."""
