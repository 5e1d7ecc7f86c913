"""Everything groundwork needs beside Python: Pulumi CLI, plugins, language host, Docker engine, base image.

`ensure` puts it in place, `environment` is what Pulumi is run with, `ensure_stack` makes a stack known to the
backend. This package deploys nothing.
"""

from __future__ import annotations

from ops.toolchain.inventory import Source, Tool, Toolchain
from ops.toolchain.provision import ensure
from ops.toolchain.pulumi_environment import environment, variables
from ops.toolchain.stack_init import ensure as ensure_stack

__all__ = ["Source", "Tool", "Toolchain", "ensure", "ensure_stack", "environment", "variables"]
