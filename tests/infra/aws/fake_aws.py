"""The part of ECS, CloudWatch Logs and ECR that the program asks for, over HTTP as boto3 speaks it.

moto's tasks end by a clock of its own and without an exit code of the test's choosing; these end as they are told.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.aws_outputs import ACCOUNT, REGION
from tests.web_server import QuietHandler, served

# As ECR gives it: base64 of user:password.
REGISTRY_LOGIN = base64.b64encode(b"AWS:of-the-registry").decode()


@dataclass
class FakeAws:
    """`exit_code` and `log` are what the next tasks end with; `started` is every request to run one."""

    url: str = ""
    exit_code: int | None = 0
    log: tuple[str, ...] = ("applied 0001_row_versions (0.01 s)",)
    reason: str = "Essential container in task exited"
    # A task that runs already, and how often it is asked about before it stops.
    leftover: str | None = None
    patience: int = 2
    # Why no task is started.
    refusal: str | None = None
    # Of the registry: tag -> digest of what was pushed.
    images: dict[str, str] = field(default_factory=dict)
    started: list[dict[str, Any]] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)

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
                return {"tasks": [self._task(arn) for arn in request["tasks"]], "failures": []}
            case "GetLogEvents":
                events = [
                    {"message": line, "timestamp": n, "ingestionTime": n} for n, line in enumerate(self.log)
                ]
                return {"events": events, "nextForwardToken": "f", "nextBackwardToken": "b"}
        raise AssertionError(f"nothing here answers {operation}")

    def _task(self, arn: str) -> dict[str, Any]:
        self.asked[arn] = self.asked.get(arn, 0) + 1
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
    """Serves on a free port of the loopback."""
    fake = FakeAws()

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            # AmazonEC2ContainerServiceV20141113.RunTask
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(fake.answer(operation, request)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with served(Handler) as port:
        fake.url = f"http://127.0.0.1:{port}"
        yield fake
