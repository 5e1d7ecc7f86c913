"""The root of infra's errors, and the error for a bad setting."""


class InfraError(Exception):
    """The infrastructure cannot be provisioned as requested."""


class SettingError(InfraError):
    """A setting has an invalid value.

    `key` is the setting's full name (`groundwork:redisMaxmemory`), `fix` one sentence on what to do.
    """

    def __init__(self, key: str, problem: str, fix: str) -> None:
        super().__init__(f"{key}: {problem}; {fix}")
        self.key = key
        self.problem = problem
        self.fix = fix
