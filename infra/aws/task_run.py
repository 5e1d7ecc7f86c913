"""Runs one ECS task to its end and tells how it ended; it knows nothing of what the task does."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from infra.aws.session import AwsError, client, told

# Migrations may build indexes for a while.
_TIMEOUT_SECONDS = 3600.0
_LOG_LINES = 20
# Logs arrive a moment after the task has ended.
_LOG_ATTEMPTS = 5


def run_to_end(
    *,
    region: str,
    cluster: str,
    task_definition: str,
    container: str,
    subnets: Sequence[str],
    security_groups: Sequence[str],
    log_group: str,
) -> str:
    """The ARN of the task, which exited with 0. AwsError with exit code, reason and last log lines otherwise.

    A task that an interrupted run left running is waited for before this one starts: two would queue for the
    migrator's lock, and the older one's failure would be nobody's.
    """
    poll_seconds = float(os.environ.get("GROUNDWORK_ECS_POLL_SECONDS", "5"))
    ecs = client("ecs", region)
    family = task_definition.rpartition("/")[2].rpartition(":")[0]
    for earlier in _running(ecs, cluster, family):
        _wait(ecs, cluster, earlier, poll_seconds)
    with told(f"starting task {family}"):
        answer = ecs.run_task(
            cluster=cluster,
            taskDefinition=task_definition,
            launchType="FARGATE",
            count=1,
            startedBy="groundwork",
            networkConfiguration={
                "awsvpcConfiguration": {
                    "subnets": list(subnets),
                    "securityGroups": list(security_groups),
                    "assignPublicIp": "DISABLED",
                }
            },
        )
    if not answer["tasks"]:
        reasons = ", ".join(f"{failure.get('reason')}" for failure in answer.get("failures") or [])
        raise AwsError(f"task {family} was not started: {reasons or 'no reason given'}")
    arn = str(answer["tasks"][0]["taskArn"])
    task = _wait(ecs, cluster, arn, poll_seconds)
    ended = next((c for c in task["containers"] if c["name"] == container), task["containers"][0])
    code = ended.get("exitCode")
    if code != 0:
        why = ended.get("reason") or task.get("stoppedReason") or "no reason given"
        what = f"exited with {code}" if code is not None else "did not run"
        lines = _last_lines(region, log_group, f"{container}/{container}/{arn.rpartition('/')[2]}")
        raise AwsError(
            f"task {family} {what} ({why}); nothing after it was changed. Its last lines, from {log_group}:"
            + "".join(f"\n    {line}" for line in lines or ["(there is no log)"])
        )
    return arn


def _running(ecs: Any, cluster: str, family: str) -> list[str]:
    with told(f"looking for running tasks {family}"):
        return list(ecs.list_tasks(cluster=cluster, family=family, desiredStatus="RUNNING")["taskArns"])


def _wait(ecs: Any, cluster: str, arn: str, poll_seconds: float) -> dict[str, Any]:
    """What ECS says of a task once it has stopped."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        with told(f"asking how task {arn} is"):
            tasks = ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"]
        if not tasks:
            raise AwsError(f"task {arn} is not known any more; look into its log, and run `up` again")
        if tasks[0]["lastStatus"] == "STOPPED":
            return dict(tasks[0])
        if time.monotonic() > deadline:
            raise AwsError(
                f"task {arn} still runs after {_TIMEOUT_SECONDS:.0f} s; `up` again waits for its end"
            )
        time.sleep(poll_seconds)


def _last_lines(region: str, group: str, stream: str) -> list[str]:
    from botocore.exceptions import ClientError

    logs = client("logs", region)
    for attempt in range(_LOG_ATTEMPTS):
        try:
            with told(f"reading the log {group}"):
                answer = logs.get_log_events(
                    logGroupName=group, logStreamName=stream, limit=_LOG_LINES, startFromHead=False
                )
        except AwsError as error:
            # No stream: the container never wrote a line. Anything else must not hide why the task failed.
            missing = isinstance(error.__cause__, ClientError) and "NotFound" in str(error.__cause__)
            return [] if missing else [str(error)]
        if events := answer["events"]:
            return [str(event["message"]) for event in events]
        if attempt + 1 < _LOG_ATTEMPTS:
            time.sleep(float(os.environ.get("GROUNDWORK_ECS_POLL_SECONDS", "2")))
    return []
