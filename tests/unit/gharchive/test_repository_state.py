"""The name and the organization of a repository after its events, however the events are split into batches."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from db.rows import RepositoryState
from ops.gharchive.event import Event, Party
from ops.gharchive.parties import repository_after
from tests.cases import in_case
from tests.promises import promise


def event(hour: int, name: str, org: int | None = None) -> Event:
    at = datetime(2025, 1, 1, hour, tzinfo=UTC)
    return Event(1, "PushEvent", at, Party(1, "me"), Party(7, name), Party(org, "o") if org else None, b"{}")


EVENTS = st.lists(
    st.builds(
        event, st.integers(0, 3), st.sampled_from(["a/x", "a/y", "b/x"]), st.sampled_from([None, 1, 2])
    ),
    min_size=1,
    max_size=6,
)


def test_a_missing_organization_is_unknown_and_another_owner_is_a_change() -> None:
    cases: list[tuple[str, list[Event], str, int | None]] = [
        ("transfer to a person", [event(1, "org/tool", 5), event(2, "me/tool")], "me/tool", None),
        ("transfer to an organization", [event(1, "me/tool"), event(2, "org/tool", 5)], "org/tool", 5),
        ("another organization", [event(1, "org/tool", 5), event(2, "other/tool", 6)], "other/tool", 6),
        ("without org, later", [event(1, "org/tool", 5), event(2, "org/tool")], "org/tool", 5),
        ("without org, out of order", [event(2, "org/tool"), event(1, "org/tool", 5)], "org/tool", 5),
        ("renamed without org", [event(1, "org/tool", 5), event(2, "org/new")], "org/new", 5),
        ("upper case", [event(1, "org/tool", 5), event(2, "Org/tool")], "Org/tool", 5),
        ("transfer, out of order", [event(2, "me/tool"), event(1, "org/tool", 5)], "me/tool", None),
    ]
    for title, events, name, org in cases:
        for is_split in (False, True):
            with in_case(title, is_split):
                state: RepositoryState | None = None
                for batch in [[each] for each in events] if is_split else [events]:
                    state = repository_after(state, batch)
                assert state is not None
                assert (state.name, state.org_github_id) == (name, org)


@promise("the bounds of batches do not change what an import stores")
@settings(derandomize=True, database=None)
@given(EVENTS, st.integers(0, 6))
def test_any_split_gives_the_same_state(events: list[Event], cut: int) -> None:
    state = repository_after(None, events[:cut]) if events[:cut] else None
    split = repository_after(state, events[cut:]) if events[cut:] else state
    whole = repository_after(None, events)
    assert split == whole
    # A new repository is inserted in its final state, which a second look at the same events must not change.
    assert repository_after(replace_seen(whole), events) == whole


def replace_seen(state: RepositoryState) -> RepositoryState:
    return RepositoryState(state.github_id, state.name, state.org_github_id, None)


@promise("the bounds of batches do not change what an import stores", control=True)
def test_the_latest_event_of_a_batch_alone_depends_on_the_bounds() -> None:
    def naive(state: tuple[str, int | None] | None, batch: list[Event]) -> tuple[str, int | None]:
        last = max(batch, key=lambda each: each.timestamp)
        assert last.repo is not None
        org = last.org.github_id if last.org else None
        return last.repo.name, org if state is None else org or state[1]

    first, second = event(1, "org/tool", 5), event(2, "org/tool")
    assert naive(None, [first, second]) != naive(naive(None, [first]), [second])
