"""Store users, organizations and repositories as if their events were loaded one by one.

So the bounds of batches do not matter. Missing ones are inserted first. Those that are stored are updated in a second
step, which `import --jobs` takes only after all earlier batches are loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row, scalar_row

from db._sync.pool import Pool
from db.named_query import queries
from db.rows import KnownParty, KnownRepository, RepositoryState
from ops.gharchive.event import Event

_QUERIES = queries("gharchive")


class Mentions:
    """The parties of events, by GitHub's id: names, the times of users' latest events, and repositories' events."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.organizations: dict[int, str] = {}
        self.users: dict[int, str] = {}
        self.seen_at: dict[int, datetime] = {}
        self.repositories: dict[int, list[Event]] = {}
        for event in events:
            actor, at = event.actor, event.timestamp
            # If a user has several names, the latest one counts.
            if actor.github_id not in self.seen_at or at >= self.seen_at[actor.github_id]:
                self.users[actor.github_id] = actor.name
                self.seen_at[actor.github_id] = at
            if event.org:
                self.organizations[event.org.github_id] = event.org.name
            if event.repo:
                self.repositories.setdefault(event.repo.github_id, []).append(event)


@dataclass
class KnownParties:
    """The parties that are stored."""

    organizations: list[KnownParty]
    users: list[KnownParty]
    repositories: list[KnownRepository]


class Parties:
    """The parties in a database. Each method needs a transaction."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def find(self, mentions: Mentions) -> KnownParties:
        """Return those parties that are stored."""
        return KnownParties(
            self._find("find_known_organizations", mentions.organizations),
            self._find("find_known_users", mentions.users),
            self._find_repositories(mentions.repositories),
        )

    def insert_missing(self, mentions: Mentions) -> KnownParties:
        """Insert the parties that are not stored, and return all."""
        known = self.find(mentions)
        missing = mentions.organizations.keys() - {each.github_id for each in known.organizations}
        if missing:
            self._write("import_organizations", _columns(mentions.organizations, missing))
            known.organizations += self._find("find_known_organizations", missing)
        missing = mentions.users.keys() - {each.github_id for each in known.users}
        if missing:
            self._write("import_users", _columns(mentions.users, missing))
            known.users += self._find("find_known_users", missing)
        missing = mentions.repositories.keys() - {each.github_id for each in known.repositories}
        if missing:
            new = [repository_after(None, mentions.repositories[each]) for each in missing]
            self._write("import_repositories", _repository_columns(new))
            known.repositories += self._find_repositories(missing)
        return known

    def update(self, mentions: Mentions, known: KnownParties) -> bool:
        """Rename parties, and change the organizations of repositories. Return whether any had to be changed."""
        names = mentions.organizations
        renamed = [each.github_id for each in known.organizations if each.name != names[each.github_id]]
        has_changes = bool(renamed)
        if renamed:
            self._write("rename_organizations", _columns(names, renamed))
        names = mentions.users
        renamed = [each.github_id for each in known.users if each.name != names[each.github_id]]
        has_changes = has_changes or bool(renamed)
        if renamed:
            seen_at: list[object] = [mentions.seen_at[each] for each in renamed]
            self._write("rename_users", _columns(names, renamed) | {"seen_at": seen_at})
        of = mentions.repositories
        changed = [
            each.github_id
            for each in known.repositories
            if any(_differs(event, each) for event in of[each.github_id])
        ]
        if changed:
            before = self._pool.fetch_all(
                _QUERIES["lock_repository_states"], {"github_ids": changed}, class_row(RepositoryState)
            )
            after = [repository_after(state, of[state.github_id]) for state in before]
            self._write("update_repositories", _repository_columns(after))
        return has_changes or bool(changed)

    def _find(self, query: str, github_ids: Iterable[int]) -> list[KnownParty]:
        parameters = {"github_ids": [*github_ids]}
        if not parameters["github_ids"]:
            return []
        return self._pool.fetch_all(_QUERIES[query], parameters, class_row(KnownParty))

    def _find_repositories(self, github_ids: Iterable[int]) -> list[KnownRepository]:
        parameters = {"github_ids": [*github_ids]}
        return self._pool.fetch_all(
            _QUERIES["find_known_repositories"], parameters, class_row(KnownRepository)
        )

    def _write(self, query: str, parameters: dict[str, list[object]]) -> None:
        self._pool.fetch_all(_QUERIES[query], parameters, scalar_row)


def _columns(names: dict[int, str], github_ids: Iterable[int]) -> dict[str, list[object]]:
    ids = [*github_ids]
    return {"github_ids": [*ids], "names": [names[each] for each in ids]}


def _repository_columns(states: Sequence[RepositoryState]) -> dict[str, list[object]]:
    return {
        "github_ids": [state.github_id for state in states],
        "names": [state.name for state in states],
        "org_github_ids": [state.org_github_id for state in states],
    }


def repository_after(state: RepositoryState | None, events: Sequence[Event]) -> RepositoryState:
    """Return the state of a repository after its events, one by one. `state` is None if it is not stored.

    An event without an organization does not say that there is none: the organization stays as long as the owner in the
    name does. An older event changes nothing, but its organization is taken if none is known for this owner.
    """
    for event in events:
        assert event.repo is not None
        github_id, name = event.repo.github_id, event.repo.name
        org = event.org.github_id if event.org else None
        if state is None:
            state = RepositoryState(github_id, name, org, event.timestamp)
        elif state.seen_at is not None and event.timestamp < state.seen_at:
            if state.org_github_id is None and _owner(name) == _owner(state.name):
                state = RepositoryState(github_id, state.name, org, state.seen_at)
        else:
            if org is None and _owner(name) == _owner(state.name):
                org = state.org_github_id
            state = RepositoryState(github_id, name, org, event.timestamp)
    assert state is not None
    return state


def _differs(event: Event, state: KnownRepository) -> bool:
    assert event.repo is not None
    return event.repo.name != state.name or (
        event.org is not None and event.org.github_id != state.org_github_id
    )


def _owner(name: str) -> str:
    """Return the owner in a repository's name, `owner/name`."""
    return name.partition("/")[0].lower()
