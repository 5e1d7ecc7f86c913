"""The command line and the code of each command.

`cli` names the commands, and `commands` parses their options. The code is in the package or module that is named
after the command or after what it works on:

- `stack`: up, preview, down, status, adopt, env
- `cache`: cache
- `servers`: reads of a stack's Postgres and Redis, and temporary servers; used by doctor, top, report, migrate and sql
- `migrations`: migrate lint, plan, rehearse and verify; db.migrator applies migrations
- `backup`: backup, restore, drill
- `rotation`: rotate, tokens
- `sql_check`: sql
- `entity`: new
- `toolchain`: toolchain, shellenv, prune
- `sizing`: size
- `gharchive`: import
- `bootstrap`, `chaos`, `doctor`, `policy`, `report`, `serve`, `top`: the commands of these names
- `pull_request`: report --markdown

The other commands are complete in `commands`.
"""
