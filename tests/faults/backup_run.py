"""Run a backup, a restore or a drill in a process that a test kills. Prints each step on standard error."""

from __future__ import annotations

import sys
from datetime import datetime

from db.migrator import MIGRATIONS_FOLDER
from ops.backup.drill import DrillOptions, drill
from ops.backup.post_restore import PostRestore
from ops.backup.restore import Target, restore
from ops.backup.take_backup import take_backup
from tests.backed_up import CONNECTION_LIMITS, site_of


def main() -> None:
    site, (verb, *rest) = site_of(*sys.argv[1:7]), sys.argv[7:]

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if verb == "backup":
        take_backup(site, kind=rest[0], progress=say)
    elif verb == "drill":
        drill(site, DrillOptions(MIGRATIONS_FOLDER, CONNECTION_LIMITS), say)
    else:
        moment = datetime.fromisoformat(rest[0]) if rest else None
        # The run that is not killed applies the roles.
        restore(site, Target(moment), PostRestore(lambda container: None, lambda progress: None), say)


if __name__ == "__main__":
    main()
