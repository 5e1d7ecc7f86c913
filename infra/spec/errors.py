"""The one root of infra's errors."""


class InfraError(Exception):
    """The infrastructure cannot be what was asked for."""


class SettingError(InfraError):
    """A setting has a value that no target can render.

    `key` is the setting's full name (`groundwork:redisMaxmemory`), `fix` one sentence on what to do.
    """

    def __init__(self, key: str, problem: str, fix: str) -> None:
        super().__init__(f"{key}: {problem}; {fix}")
        self.key = key
        self.problem = problem
        self.fix = fix
