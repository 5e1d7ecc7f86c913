"""Everything groundwork needs beside Python: Pulumi CLI, plugins, language host, Docker engine, base image.

`provision.ensure` puts it in place, `pulumi_environment.environment` is what Pulumi is run with, `stack_init.ensure`
makes a stack known to the backend. This package deploys nothing, and imports nothing by itself: the language
host in it is started twice by every `up`.
"""
