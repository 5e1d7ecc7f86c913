"""The state folder: its modes, and the id that marks the resources of a state."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.spec.checkout import STATE_VARIABLE, Checkout
from infra.spec.errors import InfraError, SettingError
from infra.spec.variables import EmptyVariable
from infra.state_folder import ensure_id, id_file, make_private, read_id
from tests.promises import promise


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """XDG_STATE_HOME, with the mode that the umask of a shell gives."""
    folder = tmp_path / "local-state"
    folder.mkdir()
    folder.chmod(0o755)
    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@promise("the state folder is private, whatever the umask")
@pytest.mark.parametrize("umask", [0o022, 0o000, 0o277], ids=oct, indirect=True)
def test_every_state_folder_is_private_regardless_of_the_umask(home: Path, umask: None) -> None:
    checkout = Checkout.here(home)
    make_private(checkout, checkout.stack_dir("dev"))
    for folder in (
        home / "groundwork",
        checkout.state_dir,
        checkout.state_dir / "stacks",
        checkout.stack_dir("dev"),
    ):
        assert mode(folder) == 0o700, folder
    assert mode(home) == 0o755


def test_a_folder_of_an_earlier_version_becomes_private(home: Path) -> None:
    checkout = Checkout.here(home)
    checkout.state_dir.mkdir(parents=True)
    for folder in (home / "groundwork", checkout.state_dir):
        folder.chmod(0o755)
    make_private(checkout, checkout.state_dir)
    assert (mode(home / "groundwork"), mode(checkout.state_dir), mode(home)) == (0o700, 0o700, 0o755)


def test_an_existing_folder_that_the_variable_names_keeps_its_mode(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may be /tmp, or shared by several users."""
    shared = home / "groundwork"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setenv(STATE_VARIABLE, str(shared))
    checkout = Checkout.here(home)
    make_private(checkout, checkout.state_dir)
    assert (mode(shared), mode(checkout.state_dir)) == (0o1777, 0o700)


def test_an_empty_variable_is_refused_by_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE_VARIABLE, "")
    with pytest.raises(EmptyVariable, match=f"{STATE_VARIABLE} is set but empty"):
        Checkout.here(home)


def test_a_relative_path_is_refused_or_ignored(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program that Pulumi runs has another working directory than the command."""
    for variable in (STATE_VARIABLE, "GROUNDWORK_CACHE"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "state")
            with pytest.raises(SettingError, match=f"{variable}: 'state' is a relative path"):
                Checkout.here(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv(STATE_VARIABLE, "~/here")
    assert Checkout.here(home).state_dir.parent == home / "here"
    monkeypatch.delenv(STATE_VARIABLE)
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert Checkout.here(home).state_dir.parent == home / ".local/state/groundwork"


def test_an_unknown_home_directory_is_reported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", classmethod(unknown))
    with pytest.raises(
        SettingError, match=f"HOME: the home directory is not known.*set HOME, or {STATE_VARIABLE}"
    ):
        Checkout.here(home)


def test_processes_that_race_agree_on_one_id(home: Path) -> None:
    checkout = Checkout.here(home)
    assert read_id(checkout) is None
    with ThreadPoolExecutor(8) as pool:
        (made,) = set(pool.map(lambda _: ensure_id(checkout), range(16)))
    assert read_id(checkout) == made
    assert [path.name for path in checkout.state_dir.iterdir()] == [id_file(checkout).name]


def test_two_states_have_different_ids(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure_id(Checkout.here(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    assert ensure_id(Checkout.here(home)) != first


def test_a_damaged_id_is_reported_with_its_file(home: Path) -> None:
    checkout = Checkout.here(home)
    ensure_id(checkout)
    id_file(checkout).write_text("")
    with pytest.raises(InfraError, match="state-id is damaged"):
        read_id(checkout)
