"""Postgres's parameters and roles compared with the specification."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infra.spec import roles as spec
from ops.doctor.check_result import STACK_OPTION, CheckResult, counted, fail, ok, psql_command, skipped, warn
from ops.doctor.examination import Examination
from ops.doctor.parameters import comparable
from ops.rotation.login_drift import QUERY, login_differences, setting_differences
from ops.servers.errors import NotVisible
from ops.servers.monitored_postgres import Row

_UP = f"`groundwork up{STACK_OPTION}` fixes it; put an intended change into the stack's settings"
_AGAIN = f"see the container with `groundwork status{STACK_OPTION}`, then run the check again"
_PARAMETERS = """
SELECT name, setting, unit, vartype, source, pending_restart, coalesce(sourcefile, '') AS sourcefile
FROM pg_settings
"""
_ROLES = """
SELECT rolname AS name, rolcanlogin, rolinherit, rolsuper, rolcreatedb, rolcreaterole, rolreplication,
       rolbypassrls, rolconnlimit, coalesce(rolconfig, '{}') AS config,
       ARRAY(SELECT granted.rolname::text FROM pg_auth_members JOIN pg_roles AS granted ON granted.oid = roleid
             WHERE member = pg_roles.oid ORDER BY 1) AS member_of
FROM pg_roles
-- The superuser that initdb made, and the roles of the server's own and of RDS.
WHERE pg_roles.oid <> 10 AND rolname NOT LIKE 'pg\\_%' AND rolname NOT LIKE 'rds%' ORDER BY 1
"""
_PER_DATABASE = """
SELECT coalesce(datname, 'every database') AS database, coalesce(rolname, 'every role') AS role,
       unnest(setconfig) AS setting
FROM pg_db_role_setting
LEFT JOIN pg_database ON pg_database.oid = setdatabase LEFT JOIN pg_roles ON pg_roles.oid = setrole
WHERE setdatabase <> 0 OR setrole = 0
"""
_OF_OUR_SESSION = {"statement_timeout", "default_transaction_read_only", "application_name"}
_POWERS = ("rolsuper", "rolcreatedb", "rolcreaterole", "rolreplication", "rolbypassrls")


@dataclass(frozen=True)
class _Role:
    # None: ops.rotation.login_drift compares it.
    can_login: bool | None
    inherits: bool
    member_of: frozenset[str]
    connections: int | None = None
    config: Mapping[str, str] | None = None


def parameters(examination: Examination) -> CheckResult:
    """postgres-settings: compare all parameters of the stack, and find others set by ALTER SYSTEM."""
    expected: Mapping[str, str] = examination.stack.expected["postgresParameters"]
    by_name = {row["name"].lower(): row for row in examination.postgres.rows(_PARAMETERS)}
    # The session of role monitor overrides these. The superuser's session does not, but it is on a local socket and
    # shows no TCP values, so only these parameters are taken from it.
    own = {key.lower() for login in spec.LOGINS["monitor"] for key in login.settings} | _OF_OUR_SESSION
    unseen: set[str] = set()
    reason = ""
    try:
        rows = examination.postgres.superuser_rows(_PARAMETERS)
        by_name |= {row["name"].lower(): row for row in rows if row["name"].lower() in own}
    except NotVisible as error:
        unseen, reason = own, _failure(examination, error)
    wrong = [
        line for name in sorted(expected.keys() - unseen) for line in _parameter(name, expected, by_name)
    ]
    wrong += [
        f"{row['name']} is set to {row['setting']!r} by ALTER SYSTEM, in postgresql.auto.conf"
        for name, row in by_name.items()
        if row["sourcefile"].endswith("postgresql.auto.conf") and name not in expected
    ]
    if wrong:
        altered = [
            name
            for name, row in sorted(by_name.items())
            if row["sourcefile"].endswith("postgresql.auto.conf")
        ]
        reset = psql_command(*(f"ALTER SYSTEM RESET {name}" for name in altered))
        undo = f"undo ALTER SYSTEM with {reset} and {_restart(examination)}; " if altered else ""
        return fail(f"{counted(len(wrong), 'parameter')} not as specified", f"{undo}{_UP}", wrong)
    waiting = [row["name"] for row in by_name.values() if row["pending_restart"]]
    if waiting:
        return warn(
            f"changed but not in effect before a restart: {', '.join(waiting)}",
            _restart(examination),
        )
    text = f"{len(expected) - len(unseen & expected.keys())} parameters are as specified"
    return (
        warn(f"{text}, {len(unseen & expected.keys())} are not visible: {reason}", _AGAIN)
        if reason
        else ok(text)
    )


def _failure(examination: Examination, error: NotVisible) -> str:
    """Return why the superuser sees nothing of a stack in Docker. Empty for another target, where it never does."""
    return str(error) if examination.stack.postgres_container else ""


def _restart(examination: Examination) -> str:
    container = examination.stack.postgres_container
    return f"restart the server with `docker restart {container}`" if container else "reboot the RDS instance"


def _parameter(name: str, expected: Mapping[str, str], live: Mapping[str, Row]) -> Iterable[str]:
    row = live.get(name.lower())
    if row is None:
        yield f"{name} does not exist on this server"
        return
    unit, kind = row["unit"], row["vartype"]
    if comparable(expected[name], unit, kind) != comparable(row["setting"], unit, kind):
        shown = row["setting"] + (f" ({unit})" if unit else "")
        yield f"{name} is {shown} and should be {expected[name]}; it comes from {row['source']}"


def roles(examination: Examination) -> CheckResult:
    """roles: compare attributes, limits, settings and memberships, and find unexpected roles."""
    limits = examination.stack.expected.get("connectionLimits")
    if limits is None:
        return skipped(
            "the stack was deployed before its connection limits were recorded",
            f"run `groundwork up{STACK_OPTION}`",
        )
    digests = examination.stack.expected.get("verifierDigests")
    expected = _expected_roles({role: int(limit) for role, limit in limits.items()}, digests)
    # The members of a cluster log in as this role. Patroni makes it.
    own = {spec.REPLICATOR} if examination.stack.members else set()
    live = {row["name"]: row for row in examination.postgres.rows(_ROLES) if row["name"] not in own}
    wrong = [f"{name} is missing" for name in sorted(expected.keys() - live.keys())]
    wrong += [f"{name} is not in the specification" for name in sorted(live.keys() - expected.keys())]
    for name in sorted(expected.keys() & live.keys()):
        wrong += [f"{name} {difference}" for difference in _role_differences(expected[name], live[name])]
        wrong += setting_differences(name, live[name]["config"], expected[name].config or {})
    wrong += [
        f"{row['setting']} is set for {row['role']} in {row['database']}"
        for row in examination.postgres.rows(_PER_DATABASE)
    ]
    reason = ""
    if digests is not None:
        try:
            # It names differing settings too, because `rotate status` has no other source of them.
            wrong += login_differences(examination.postgres.superuser_rows(QUERY), digests)
        except NotVisible as error:
            reason = _failure(examination, error)
    wrong = list(dict.fromkeys(wrong))
    if wrong:
        return fail(
            f"{counted(len(wrong), 'difference')} from the specification",
            f"drop other roles with `groundwork psql{STACK_OPTION}`; `groundwork up{STACK_OPTION}` fixes the rest",
            wrong,
        )
    text = f"{len(expected)} roles are as specified"
    return warn(f"{text}, their passwords are not visible: {reason}", _AGAIN) if reason else ok(text)


def _expected_roles(limits: Mapping[str, int], digests: Mapping[str, str] | None) -> dict[str, _Role]:
    """Return the specification's roles, as infra.spec.roles.roles_sql creates them.

    Without `digests`, as on AWS, no login is retired.
    """
    found = {
        name: _Role(
            can_login=False,
            inherits=name == "monitor",
            member_of=frozenset({"pg_monitor"} if name == "monitor" else ()),
        )
        for name in (spec.OWNER, *spec.PRIVILEGE_SETS)
    }
    for role, logins in spec.LOGINS.items():
        for login in logins:
            found[login.name] = _Role(
                can_login=True if digests is None else None,
                inherits=True,
                member_of=frozenset({login.privileges}),
                connections=limits[role],
                config=spec.managed_settings(login) if digests is None else login.settings,
            )
    return found


def _role_differences(expected: _Role, live: Row) -> Iterable[str]:
    if expected.can_login is not None and live["rolcanlogin"] != expected.can_login:
        yield "may log in" if live["rolcanlogin"] else "may not log in"
    if live["rolinherit"] != expected.inherits:
        yield "inherits" if live["rolinherit"] else "does not inherit"
    for power in _POWERS:
        if live[power]:
            yield f"has {power.removeprefix('rol').upper()}"
    if (limit := -1 if expected.connections is None else expected.connections) != live["rolconnlimit"]:
        yield f"may have {live['rolconnlimit']} connections and should have {limit} (-1: any)"
    member_of = set(live["member_of"])
    for name in sorted(member_of - expected.member_of):
        yield f"is a member of {name}"
    for name in sorted(expected.member_of - member_of):
        yield f"is not a member of {name}"
