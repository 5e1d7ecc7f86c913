"""Install what groundwork needs besides Python: Pulumi CLI, plugins, language host, Docker engine, base image.

`provision.ensure` installs everything, `pulumi_environment.environment` is the environment for Pulumi,
`stack_init.ensure` creates a stack in the backend, and `prune` deletes unused images and versions.
This package deploys nothing. Importing it imports no modules, because every `up` starts the language host in it twice.
"""
