"""A task run: it waits until the task exits, reports failures, and does not start while an earlier task is running."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from infra.aws import task_run
from infra.aws.session import AwsError
from infra.aws.task_run import run_to_end
from tests.infra.aws.fake_aws import FakeAws, fake_aws

TASK = "arn:aws:ecs:eu-central-1:123456789012:task-definition/groundwork-prod-bootstrap:7"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAws]:
    with fake_aws() as fake:
        for name, value in {
            "AWS_ENDPOINT_URL": fake.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "GROUNDWORK_ECS_POLL_SECONDS": "0.01",
        }.items():
            monkeypatch.setenv(name, value)
        yield fake


def run() -> str:
    return run_to_end(
        region="eu-central-1",
        cluster="groundwork-prod",
        task_definition=TASK,
        container="bootstrap",
        subnets=["subnet-1"],
        security_groups=["sg-1"],
        log_group="/groundwork/prod/bootstrap",
    )


def test_a_task_that_exits_with_0_is_waited_for(aws: FakeAws) -> None:
    aws.patience = 3
    arn = run()
    assert aws.asked[arn] == 3
    (request,) = aws.started
    assert request["taskDefinition"] == TASK
    assert request["startedBy"] == "groundwork"


def test_a_task_that_ecs_does_not_find_at_first_is_waited_for(aws: FakeAws) -> None:
    aws.unseen, aws.patience = 2, 4
    assert aws.asked[run()] == 4


def test_a_task_that_ecs_never_finds_is_reported(monkeypatch: pytest.MonkeyPatch, aws: FakeAws) -> None:
    monkeypatch.setattr(task_run, "_MISSING_SECONDS", 0.05)
    aws.unseen = sys.maxsize
    with pytest.raises(AwsError, match=r"ECS has not found task arn:\S+ for 0 s; check its log"):
        run()


@pytest.mark.parametrize(
    ("exit_code", "said"),
    [
        (1, "task groundwork-prod-bootstrap exited with 1 (Essential container in task exited)"),
        (None, "task groundwork-prod-bootstrap did not run (CannotPullContainerError)"),
    ],
)
def test_a_failed_task_is_reported_with_its_last_log_lines(
    aws: FakeAws, exit_code: int | None, said: str
) -> None:
    aws.exit_code = exit_code
    if exit_code is None:
        aws.reason = "CannotPullContainerError"
    aws.log = ("first", "groundwork: the database refused (42501)")
    with pytest.raises(AwsError) as failure:
        run()
    assert said in str(failure.value)
    assert str(failure.value).endswith("\n    first\n    groundwork: the database refused (42501)")


def test_a_missing_log_is_reported(aws: FakeAws) -> None:
    aws.exit_code, aws.log = 2, ()
    with pytest.raises(AwsError, match=r"exited with 2 .*\n    \(there is no log\)"):
        run()


def test_a_task_that_does_not_start_is_reported_with_the_reason(aws: FakeAws) -> None:
    aws.refusal = "Capacity is unavailable at this time"
    with pytest.raises(AwsError, match="was not started: Capacity is unavailable"):
        run()


def test_an_earlier_task_is_waited_for_before_the_next_one_starts(aws: FakeAws) -> None:
    left = aws.leftover = "arn:aws:ecs:eu-central-1:123456789012:task/groundwork-prod/left"
    run()
    assert list(aws.asked) == [left, next(reversed(aws.asked))]
    assert aws.asked[left] == aws.patience
    assert len(aws.started) == 1


def test_an_unreachable_aws_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch, aws: FakeAws) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(AwsError, match="cannot reach AWS") as failure:
        run()
    assert "\n" not in str(failure.value)
