"""Run one ECS task, wait until it exits, and report how it exited. Independent of what the task does."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from infra.aws.session import AwsError, client, translated_errors

# Migrations that build indexes may take long.
_TIMEOUT_SECONDS = 3600.0
_LOG_LINES = 20
# The last lines of the log arrive shortly after the task has stopped.
_LOG_ATTEMPTS = 5
# ECS is eventually consistent: it may not find a task that it has just started.
_MISSING_SECONDS = 300.0


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
    """Run a task and return its ARN. Raises AwsError with exit code, reason and last log lines if it fails.

    If an interrupted run left a task running, wait for it first. Otherwise both tasks would wait for the migrator's
    lock, and a failure of the older one would not be reported.
    """
    poll_seconds = float(os.environ.get("GROUNDWORK_ECS_POLL_SECONDS", "5"))
    ecs = client("ecs", region)
    family = task_definition.rpartition("/")[2].rpartition(":")[0]
    for earlier in _running(ecs, cluster, family):
        _wait(ecs, cluster, earlier, poll_seconds)
    with translated_errors(f"starting task {family}"):
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
            f"task {family} {what} ({why}); `up` stopped here. The last lines of its log in {log_group}:"
            + "".join(f"\n    {line}" for line in lines or ["(there is no log)"])
        )
    return arn


def _running(ecs: Any, cluster: str, family: str) -> list[str]:
    with translated_errors(f"looking for running tasks {family}"):
        return list(ecs.list_tasks(cluster=cluster, family=family, desiredStatus="RUNNING")["taskArns"])


def _wait(ecs: Any, cluster: str, arn: str, poll_seconds: float) -> dict[str, Any]:
    """Wait until a task has stopped, and return its description."""
    begin = found = time.monotonic()
    while True:
        with translated_errors(f"getting the status of task {arn}"):
            tasks = ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"]
        now = time.monotonic()
        if tasks:
            found = now
            if tasks[0]["lastStatus"] == "STOPPED":
                return dict(tasks[0])
        elif now - found > _MISSING_SECONDS:
            raise AwsError(
                f"ECS has not found task {arn} for {_MISSING_SECONDS:.0f} s; check its log, and run `up` again"
            )
        if now - begin > _TIMEOUT_SECONDS:
            raise AwsError(
                f"task {arn} is still running after {_TIMEOUT_SECONDS:.0f} s; run `up` again, which waits for it"
            )
        time.sleep(poll_seconds)


def _last_lines(region: str, group: str, stream: str) -> list[str]:
    from botocore.exceptions import ClientError

    logs = client("logs", region)
    for attempt in range(_LOG_ATTEMPTS):
        try:
            with translated_errors(f"reading the log {group}"):
                answer = logs.get_log_events(
                    logGroupName=group, logStreamName=stream, limit=_LOG_LINES, startFromHead=False
                )
        except AwsError as error:
            # Without a log stream the container never wrote a line. Another error must not hide why the task failed.
            missing = isinstance(error.__cause__, ClientError) and "NotFound" in str(error.__cause__)
            return [] if missing else [str(error)]
        if events := answer["events"]:
            return [str(event["message"]) for event in events]
        if attempt + 1 < _LOG_ATTEMPTS:
            time.sleep(float(os.environ.get("GROUNDWORK_ECS_POLL_SECONDS", "2")))
    return []
