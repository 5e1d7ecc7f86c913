"""The calls of ECS, CloudWatch Logs, ECR and RDS that the program uses, over HTTP as boto3 sends them.

moto's tasks end after a fixed time, without a chosen exit code. These end as the test decides.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.aws_outputs import ACCOUNT, REGION
from tests.fake_rds import FakeRds
from tests.web_server import QuietHandler, served

# The format of ECR: base64 of user:password.
REGISTRY_LOGIN = base64.b64encode(b"AWS:of-the-registry").decode()


@dataclass
class FakeAws:
    """A fake AWS. The next tasks end with `exit_code` and `log`; `started` has every request to run one."""

    url: str = ""
    exit_code: int | None = 0
    log: tuple[str, ...] = ("applied 0001_row_versions (0.01 s)",)
    reason: str = "Essential container in task exited"
    # A task that is already running, and how often it is queried before it stops.
    leftover: str | None = None
    patience: int = 2
    # How often a task is queried before ECS finds it.
    unseen: int = 0
    # The reason why ECS starts no task.
    refusal: str | None = None
    # The registry: tag -> digest of the pushed image.
    images: dict[str, str] = field(default_factory=dict)
    started: list[dict[str, Any]] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    rds: FakeRds = field(default_factory=FakeRds)

    def answer(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "ListTasks":
                return {"taskArns": [self.leftover] if self.leftover else []}
            case "RunTask" if self.refusal:
                return {"tasks": [], "failures": [{"reason": self.refusal}]}
            case "BatchGetImage":
                tag = request["imageIds"][0]["imageTag"]
                if tag not in self.images:
                    return {"images": [], "failures": []}
                return {"images": [{"imageId": {"imageTag": tag, "imageDigest": self.images[tag]}}]}
            case "GetAuthorizationToken":
                return {"authorizationData": [{"authorizationToken": REGISTRY_LOGIN}]}
            case "RunTask":
                self.started.append(request)
                return {"tasks": [{"taskArn": self._arn(f"{len(self.started):032x}")}], "failures": []}
            case "DescribeTasks":
                return self._described(request["tasks"])
            case "GetLogEvents":
                events = [
                    {"message": line, "timestamp": n, "ingestionTime": n} for n, line in enumerate(self.log)
                ]
                return {"events": events, "nextForwardToken": "f", "nextBackwardToken": "b"}
        raise AssertionError(f"fake AWS does not implement {operation}")

    def _described(self, arns: list[str]) -> dict[str, Any]:
        for arn in arns:
            self.asked[arn] = self.asked.get(arn, 0) + 1
        missing = [arn for arn in arns if self.asked[arn] <= self.unseen]
        return {
            "tasks": [self._task(arn) for arn in arns if arn not in missing],
            "failures": [{"arn": arn, "reason": "MISSING"} for arn in missing],
        }

    def _task(self, arn: str) -> dict[str, Any]:
        if self.asked[arn] < self.patience:
            return {"taskArn": arn, "lastStatus": "RUNNING", "containers": [{"name": "bootstrap"}]}
        if arn == self.leftover:
            self.leftover = None
        container: dict[str, Any] = {"name": "bootstrap"}
        if self.exit_code is not None:
            container["exitCode"] = self.exit_code
        return {
            "taskArn": arn,
            "lastStatus": "STOPPED",
            "stoppedReason": self.reason,
            "containers": [container],
        }

    @staticmethod
    def _arn(task: str) -> str:
        return f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/groundwork-prod/{task}"


@contextmanager
def fake_aws() -> Iterator[FakeAws]:
    """Serve a fake AWS on a free port of 127.0.0.1."""
    fake = FakeAws()

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            request = self.rfile.read(int(self.headers["Content-Length"]))
            target = self.headers.get("X-Amz-Target")
            if target is None:
                # RDS has an older protocol.
                status, body = fake.rds.respond(request)
            else:
                # AmazonEC2ContainerServiceV20141113.RunTask
                answer = fake.answer(target.rpartition(".")[2], json.loads(request))
                status, body = 200, json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with served(Handler) as port:
        fake.url = f"http://127.0.0.1:{port}"
        yield fake
