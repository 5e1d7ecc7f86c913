"""A backup, a restore or a drill in a process of its own, to be killed: says each step on standard error."""

from __future__ import annotations

import sys
from datetime import datetime

from ops.backup import taking
from ops.backup.drill import Terms, drill
from ops.backup.keepers import Keepers
from ops.backup.restore import Target, restore
from tests.backed_up import site_of


def main() -> None:
    site, (verb, *rest) = site_of(*sys.argv[1:7]), sys.argv[7:]

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if verb == "backup":
        taking.take(site, kind=rest[0], progress=say)
    elif verb == "drill":
        drill(site, Terms(), say)
    else:
        moment = datetime.fromisoformat(rest[0]) if rest else None
        # The roles are applied by the run that is not killed.
        restore(site, Target(moment), Keepers(lambda container: None, lambda: None), say)


if __name__ == "__main__":
    main()
