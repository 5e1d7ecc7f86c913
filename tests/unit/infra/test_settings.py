"""Settings: accepted values with their types, and refusal of each bad value with its key and a fix."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

import pytest

from infra.settings import StackSettings
from infra.spec.errors import SettingError
from infra.spec.postgres import REFUSED_PARAMETERS, SUPERUSER_RESERVE
from infra.spec.redis import EVICTION_POLICIES, PERSISTENCE
from tests.cases import in_case
from tests.promises import promise

AWS_STACK = {"target": "aws", "awsRegion": "eu-central-1"}


@dataclass(frozen=True)
class Bad:
    """Bad settings, and the expected parts of the error's problem and fix."""

    values: dict[str, Any]
    key: str
    problem: str
    fix: str

    def assert_refused(self, **others: Any) -> None:
        """Assert that the values, together with `others`, are refused in one line that names the key."""
        with pytest.raises(SettingError) as refusal:
            StackSettings.parse(others | self.values)
        assert refusal.value.key == f"groundwork:{self.key}"
        assert self.problem in refusal.value.problem
        assert self.fix in refusal.value.fix
        assert str(refusal.value).startswith(f"groundwork:{self.key}: ")
        assert "\n" not in str(refusal.value)


BAD = {
    "one replica": Bad(
        {"postgresReplicas": "1"}, "postgresReplicas", "1 is not a supported number", "set it to 0, or to 2"
    ),
    "replicas with a target in their job": Bad(
        {"postgresReplicas": "2", "monitoringTargets": '{"etcd": "etcd-9:2381"}'},
        "monitoringTargets",
        "'etcd' is not a valid job name, or is reserved",
        "none of postgres, redis, access, prometheus, etcd",
    ),
    "replicas in a small subnet": Bad(
        {"postgresReplicas": "2", "networkSubnet": "10.1.2.0/27"},
        "networkSubnet",
        "10.1.2.0/27 is too small",
        "use a subnet of /26 or larger",
    ),
    "replicas with few connections": Bad(
        {
            "postgresReplicas": "2",
            "postgresMaxConnections": "20",
            "appConnectionLimit": "8",
            "readonlyConnectionLimit": "1",
            "monitorConnectionLimit": "1",
            "migratorConnectionLimit": "1",
        },
        "postgresMaxConnections",
        "20 is too few",
        "use 25 or more",
    ),
    "replicas with commits that do not wait": Bad(
        {"postgresReplicas": "2", "postgresParameters": '{"synchronous_commit": "local"}'},
        "postgresParameters",
        "synchronous_commit is set by groundwork",
        "set groundwork:postgresReplicas to 0",
    ),
    "unknown eviction policy": Bad(
        {"redisEvictionPolicy": "allkeys-lfru"},
        "redisEvictionPolicy",
        "'allkeys-lfru' is not a valid value",
        "did you mean allkeys-l",
    ),
    "eviction policy like nothing": Bad(
        {"redisEvictionPolicy": "best"}, "redisEvictionPolicy", "'best'", "use one of noeviction, allkeys-lru"
    ),
    "refresh without a time": Bad(
        {"imageRefresh": "today"}, "imageRefresh", "'today'", "write it like 2026-11-30"
    ),
    "unknown persistence": Bad(
        {"redisPersistence": "both"}, "redisPersistence", "'both'", "use one of none, rdb, aof"
    ),
    "unknown target": Bad({"target": "podman"}, "target", "'podman'", "use one of docker, aws"),
    "maxmemory of lots": Bad({"redisMaxmemory": "lots"}, "redisMaxmemory", "'lots'", "write it like 128MB"),
    "maxmemory below zero": Bad({"redisMaxmemory": "-1MB"}, "redisMaxmemory", "'-1MB'", "128MB or 1GB"),
    "maxmemory of nothing": Bad(
        {"redisMaxmemory": "0MB"}, "redisMaxmemory", "0MB is too little", "use 1MB or more"
    ),
    "maxmemory without unit": Bad(
        {"redisMaxmemory": "160"}, "redisMaxmemory", "'160' is not an amount", "128MB or 1GB"
    ),
    "maxmemory as a number": Bad(
        {"redisMaxmemory": 160}, "redisMaxmemory", "160 is not a string", "in quotes"
    ),
    "maxmemory one above 75 %": Bad(
        {"redisMemory": "256MB", "redisMaxmemory": "193MB"},
        "redisMaxmemory",
        "193MB is more than 75 % of redisMemory (256MB)",
        "set it to at most 192MB, or raise groundwork:redisMemory",
    ),
    "too little memory for Redis": Bad(
        {"redisMemory": "32MB"}, "redisMemory", "32MB is too little", "use 64MB or more"
    ),
    "too little memory for Postgres": Bad(
        {"postgresMemory": "255MB"}, "postgresMemory", "255MB is too little", "use 256MB or more"
    ),
    "too little memory for access": Bad(
        {"accessMemory": "64MB"}, "accessMemory", "64MB is too little", "use 128MB or more"
    ),
    "pool larger than the limit": Bad(
        {"accessPoolSize": 41},
        "accessPoolSize",
        "a pool of 41 is larger than the connection limit of role app (40)",
        "lower it, or raise groundwork:appConnectionLimit",
    ),
    "no pool at all": Bad({"accessPoolSize": 0}, "accessPoolSize", "0 is out of range", "use 1 to"),
    "limits above max_connections": Bad(
        {"appConnectionLimit": 78},
        "postgresMaxConnections",
        "add up to 98, but only 97 of 100",
        "raise it to 101, or lower a limit",
    ),
    "limit of nothing": Bad(
        {"monitorConnectionLimit": 0}, "monitorConnectionLimit", "0 is out of range", "use 1 to"
    ),
    "too few connections": Bad(
        {"postgresMaxConnections": 9}, "postgresMaxConnections", "9 is out of range", "use 10 to 10000"
    ),
    "too few clients of Redis": Bad(
        {"redisMaxclients": 1}, "redisMaxclients", "1 is out of range", "use 10 to 100000"
    ),
    "too little memory for Prometheus": Bad(
        {"prometheusMemory": "64MB"}, "prometheusMemory", "64MB is too little", "use 128MB or more"
    ),
    "too little disk for Prometheus": Bad(
        {"prometheusDisk": "1MB"}, "prometheusDisk", "1MB is too little", "use 256MB or more"
    ),
    "retention without unit": Bad(
        {"prometheusRetention": "15"}, "prometheusRetention", "'15' is not a duration", "like 36h or 15d"
    ),
    "retention of nothing": Bad(
        {"prometheusRetention": "0d"}, "prometheusRetention", "'0d'", "like 36h or 15d"
    ),
    "targets of a job of ours": Bad(
        {"monitoringTargets": {"postgres": "x:1"}},
        "monitoringTargets",
        "'postgres' is not a valid job name, or is reserved",
        "none of",
    ),
    "targets without port": Bad(
        {"monitoringTargets": {"web": "web-2:80, web-1"}},
        "monitoringTargets",
        "'web-1' of job web",
        "app-1:9000",
    ),
    "targets with a scheme": Bad(
        {"monitoringTargets": {"web": "http://web:80"}}, "monitoringTargets", "of job web", "app-1:9000"
    ),
    "target with port 0": Bad(
        {"monitoringTargets": {"web": "web-1:0"}}, "monitoringTargets", "'web-1:0' of job web", "app-1:9000"
    ),
    "target with a port that is too large": Bad(
        {"monitoringTargets": {"web": "web-1:65535, web-2:65536"}},
        "monitoringTargets",
        "'web-2:65536' of job web",
        "app-1:9000",
    ),
    "a list of targets with an empty one": Bad(
        {"monitoringTargets": {"web": "web-1:80,"}}, "monitoringTargets", "'' of job web", "app-1:9000"
    ),
    "unknown key": Bad(
        {"redisMaxMemory": "64MB"},
        "redisMaxMemory",
        "no such setting",
        "did you mean groundwork:redisMaxmemory?",
    ),
    "unknown key like nothing": Bad({"zzz": "1"}, "zzz", "no such setting", "see docs/settings.md"),
    "bad subnet": Bad(
        {"networkSubnet": "10.201.7.0/40"},
        "networkSubnet",
        "'40' is not a valid netmask",
        "like 10.201.7.0/24",
    ),
    "subnet with host bits": Bad(
        {"networkSubnet": "10.201.7.1/24"}, "networkSubnet", "has host bits set", "like 10.201.7.0/24"
    ),
    "public subnet": Bad(
        {"networkSubnet": "8.8.8.0/24"}, "networkSubnet", "is not a private subnet", "10.0.0.0/8"
    ),
    "subnet of this machine": Bad(
        {"networkSubnet": "127.0.0.0/24"}, "networkSubnet", "is not a private subnet", "10.0.0.0/8"
    ),
    "subnet too small": Bad(
        {"networkSubnet": "10.201.7.0/29"}, "networkSubnet", "smaller than 16", "/28 or larger"
    ),
    "equal ports": Bad(
        {"postgresPort": 21000, "redisPort": 21000},
        "redisPort",
        "21000 is already used by groundwork:postgresPort",
        "set different ports",
    ),
    "port of a replica": Bad(
        {"postgresPort": 21000, "postgresReplicas": 2, "redisPort": 21002},
        "redisPort",
        "21002 is already used by groundwork:postgresPort",
        "a stack also uses the next two",
    ),
    "replicas' ports of both servers": Bad(
        {"postgresPort": 21002, "postgresReplicas": 2, "redisPort": 21000, "redisReplicas": 2},
        "redisPort",
        "21002 is already used by groundwork:postgresPort",
        "set different ports",
    ),
    "port without room for replicas": Bad(
        {"redisPort": 65534, "redisReplicas": 2}, "redisPort", "65534 is out of range", "1024 to 65533, or 0"
    ),
    "port above 65535": Bad(
        {"redisPort": 65536}, "redisPort", "65536 is out of range", "1024 to 65535, or 0"
    ),
    "port of root": Bad({"accessPort": 80}, "accessPort", "80 is out of range", "or 0 to choose a free one"),
    "port below zero": Bad({"postgresPort": -1}, "postgresPort", "-1 is out of range", "1024 to 65535"),
    "port in words": Bad(
        {"postgresPort": "five"}, "postgresPort", "'five' is not a whole number", "its default is 0"
    ),
    "port that is true": Bad({"postgresPort": "true"}, "postgresPort", "not a whole number", "default is 0"),
    "port with a fraction": Bad(
        {"postgresPort": "21000.5"}, "postgresPort", "21000.5 is not a whole number", "default is 0"
    ),
    "protection that is 1": Bad({"protectData": "1"}, "protectData", "1 is not true or false", "false"),
    "parameters that are a list": Bad(
        {"postgresParameters": '["fsync"]'}, "postgresParameters", "is not a mapping", "{}"
    ),
    "a parameter with another's syntax": Bad(
        {"postgresParameters": {"work_mem = '1GB'\nfsync": "off"}},
        "postgresParameters",
        "is not a parameter name",
        "as in postgresql.conf",
    ),
    "a parameter's value of two lines": Bad(
        {"postgresParameters": {"work_mem": "8MB\nfsync = off"}},
        "postgresParameters",
        "the value of work_mem contains a line break",
        "on one line",
    ),
    "no log": Bad({"logMaxFiles": 0}, "logMaxFiles", "0 is out of range", "use 1 to 100"),
    "log of a byte": Bad({"logMaxSize": "1B"}, "logMaxSize", "1B is too little", "use 1MB or more"),
}


@promise("a bad setting is refused in one line that names it, before anything is changed")
def test_a_bad_value_is_refused_with_its_key_and_a_fix() -> None:
    for name, bad in BAD.items():
        with in_case(name):
            bad.assert_refused()


def test_a_fixed_parameter_cannot_be_set() -> None:
    for name in REFUSED_PARAMETERS:
        with pytest.raises(SettingError, match=f"{name} is set by groundwork") as refusal:
            StackSettings.parse({"postgresParameters": {name: "off"}})
        assert refusal.value.key == "groundwork:postgresParameters"
        assert "remove it" in refusal.value.fix


def test_a_fixed_parameter_is_refused_in_any_case() -> None:
    for name in ("fsync", "FSYNC", "Ssl"):
        with in_case(name):
            # Postgres ignores the case of names.
            with pytest.raises(SettingError):
                StackSettings.parse({"postgresParameters": {name: "off"}})


def test_every_choice_is_accepted() -> None:
    cases: list[tuple[str, dict[str, str], str, str, tuple[str, ...]]] = [
        ("eviction policies", {}, "redisEvictionPolicy", "redis_eviction_policy", EVICTION_POLICIES),
        (
            "eviction policies on AWS",
            AWS_STACK,
            "redisEvictionPolicy",
            "redis_eviction_policy",
            EVICTION_POLICIES,
        ),
        ("persistence", {}, "redisPersistence", "redis_persistence", PERSISTENCE),
    ]
    for name, others, key, field, choices in cases:
        with in_case(name):
            for choice in choices:
                assert getattr(StackSettings.parse(others | {key: choice}), field) == choice


def test_text_from_the_engine_is_converted_to_the_settings_type() -> None:
    cases: list[tuple[str, Any, str, Any]] = [
        ("groundwork:postgresPort", "21000", "postgres_port", 21000),
        ("groundwork:protectData", "true", "protect_data", True),
        ("groundwork:protectData", "false", "protect_data", False),
        ("groundwork:redisMaxmemory", "96MB", "redis_maxmemory", "96MB"),
        ("groundwork:networkSubnet", "", "network_subnet", ""),
        ("groundwork:postgresParameters", '{"work_mem":"8MB"}', "postgres_parameters", {"work_mem": "8MB"}),
        ("groundwork:postgresParameters", '{"jit":false}', "postgres_parameters", {"jit": "false"}),
        ("groundwork:postgresParameters", '{"geqo_seed":0.5}', "postgres_parameters", {"geqo_seed": "0.5"}),
        ("postgresPort", 21000, "postgres_port", 21000),
    ]
    for key, text, field, value in cases:
        with in_case(key, text, field, value):
            parsed = getattr(StackSettings.parse({key: text}), field)
            assert parsed == value
            assert type(parsed) is type(value)


def test_every_default_survives_the_conversion_through_text() -> None:
    values = {
        f"groundwork:{s.key}": s.default if s.type == "string" else json.dumps(s.default)
        for s in StackSettings.declarations()
    }
    assert StackSettings.parse(values) == StackSettings()


def test_the_defaults_are_a_valid_stack() -> None:
    assert StackSettings.parse({}) == StackSettings()


def test_a_value_at_a_limit_is_accepted() -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("maxmemory of exactly 75 %", {"redisMemory": "256MB", "redisMaxmemory": "192MB"}),
        ("pool as large as the limit", {"accessPoolSize": 40}),
        ("limits that fill max_connections", {"appConnectionLimit": 97 - 20}),
        ("smallest subnet", {"networkSubnet": "10.201.7.0/28"}),
        ("first and last port", {"postgresPort": 1024, "redisPort": 65535}),
        ("ports that are picked", {"postgresPort": 0, "redisPort": 0}),
        ("last ports of replicas", {"redisPort": 65533, "redisReplicas": 2}),
        ("targets as Docker Compose names them", {"monitoringTargets": {"web": "web_1:1, web_2:65535"}}),
        ("next port without replicas", {"postgresPort": 21000, "redisPort": 21001}),
        ("extension's parameter", {"postgresParameters": {"auto_explain.log_analyze": "on"}}),
    ]
    for name, values in cases:
        with in_case(name):
            StackSettings.parse(values)


def test_the_connection_limits_of_both_logins_fit_into_max_connections() -> None:
    settings = StackSettings()
    total = sum(settings.connection_limits.values())
    assert total <= settings.postgres_max_connections - SUPERUSER_RESERVE


def test_every_setting_has_a_description() -> None:
    for setting in StackSettings.declarations():
        assert setting.description.endswith("."), setting.key
        assert setting.type in {"string", "integer", "boolean", "object"}, setting.key


def test_every_field_is_declared_once() -> None:
    declared = [setting.field for setting in StackSettings.declarations()]
    assert declared == [field.name for field in fields(StackSettings)]


def test_invalid_token_key_ids_are_refused() -> None:
    for keys in ("", "K1", "k1,", "k1,k1", "k1;k2"):
        with in_case(keys):
            with pytest.raises(SettingError, match="groundwork:tokenKeys"):
                StackSettings.parse({"tokenKeys": keys})


def test_token_key_ids_keep_their_order() -> None:
    assert StackSettings.parse({"tokenKeys": "k2, k1"}).token_key_ids == ["k2", "k1"]
