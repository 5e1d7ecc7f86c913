"""Names that shells complete: stacks and roles. The commands themselves check that a name exists.

The roles are repeated here so that completion imports neither drivers nor Pulumi. A test compares them with the
originals.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from infra.spec.checkout import stack_of_file

_F = TypeVar("_F", bound=Callable[..., Any])
ROLES = ("app", "readonly", "monitor", "migrator", "ops")
_ROOT = Path(__file__).parents[2]


def complete_stacks(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete a stack's name from the files Pulumi.NAME.yaml."""
    names = map(stack_of_file, _ROOT.glob("Pulumi.*.yaml"))
    return sorted(name for name in names if name.startswith(incomplete))


def complete_roles(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [role for role in ROLES if role.startswith(incomplete)]


def is_stack_given() -> bool:
    """Return whether the running command was given --stack."""
    return click.get_current_context().get_parameter_source("stack") is not ParameterSource.DEFAULT


def stack_option(help_text: str = "Stack to work on") -> Callable[[_F], _F]:
    """Return the option --stack, which defaults to `dev`."""
    return click.option(
        "--stack", default="dev", show_default=True, help=help_text, shell_complete=complete_stacks
    )
