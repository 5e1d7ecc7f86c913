"""Everything groundwork needs beside Python: Pulumi CLI, plugins, language host, Docker engine, base image.

`ensure` puts it in place, `environment` is what Pulumi is run with. This package never touches a stack.
"""

from __future__ import annotations

from ops.toolchain.inventory import Source, Tool, Toolchain
from ops.toolchain.provision import ensure
from ops.toolchain.pulumi_environment import environment, variables

__all__ = ["Source", "Tool", "Toolchain", "ensure", "environment", "variables"]
