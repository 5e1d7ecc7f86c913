"""Values on AWS that follow from settings: subnets, connection limits and the parameters of RDS."""

from __future__ import annotations

from ipaddress import IPv4Network

from infra.settings import StackSettings
from infra.spec import aws_sizes, rds, vpc
from tests.cases import in_case
from tests.unit.infra.test_settings import AWS_STACK


def test_subnets_do_not_overlap_and_do_not_move_when_a_zone_is_added() -> None:
    two, four = vpc.divide("10.60.0.0/16", 2), vpc.divide("10.60.0.0/16", 4)
    assert four.private[:2] == two.private
    assert four.isolated[:2] == two.isolated
    networks = [IPv4Network(cidr) for cidr in (*four.private, *four.isolated)]
    assert not any(a.overlaps(b) for a in networks for b in networks if a is not b)


def test_the_smallest_accepted_vpc_has_subnets_of_32_addresses() -> None:
    for zones in (2, 3, 4):
        with in_case(zones):
            cidr = f"10.60.0.0/{vpc.longest_prefix(zones)}"
            assert {IPv4Network(subnet).num_addresses for subnet in vpc.divide(cidr, zones).private} == {32}


def test_the_connection_limit_of_a_class_follows_its_memory() -> None:
    cases: list[tuple[str, int]] = [
        ("db.t4g.micro", 112),
        ("db.t4g.medium", 450),
        ("db.r7g.large", 1802),
        ("db.r7g.16xlarge", 5000),
    ]
    for instance_class, connections in cases:
        with in_case(instance_class, connections):
            assert aws_sizes.most_connections(instance_class) == connections


def test_rds_gets_the_containers_parameters_in_its_own_units() -> None:
    values = rds.parameters(4 * 1024**3, 100, {"work_mem": "8MB", "log_min_duration_statement": "1s"})
    assert values["rds.force_ssl"] == "1"
    assert values["shared_buffers"] == str(1024**3 // 8192)
    assert values["work_mem"] == "8192"
    assert values["log_min_duration_statement"] == "1000"
    assert values["log_connections"] == "1"
    assert values["idle_in_transaction_session_timeout"] == "300000"
    assert values["password_encryption"] == "scram-sha-256"
    assert not values.keys() & rds.OWN_OF_RDS


def test_rds_gets_a_settings_parameter_in_its_own_form() -> None:
    cases: list[tuple[str, str, str]] = [
        ("temp_buffers", "16MB", "2048"),
        ("min_wal_size", "1 GB", "1024"),
        ("lock_timeout", "2s", "2000"),
        ("checkpoint_timeout", "15min", "900"),
        ("statement_timeout", "30000", "30000"),
        ("log_min_duration_statement", "-1", "-1"),
        ("jit", "off", "0"),
        ("jit", "false", "0"),
        ("log_lock_waits", "Yes", "1"),
        ("auto_explain.log_analyze", "true", "1"),
        ("synchronous_commit", "off", "off"),
        # Without quotes, YAML reads off as a boolean.
        ("synchronous_commit", "false", "off"),
        ("synchronous_commit", "local", "local"),
        ("huge_pages", "on", "on"),
        ("syslog_ident", "no", "no"),
        ("log_statement", "all", "all"),
        ("random_page_cost", "1.1", "1.1"),
    ]
    for name, value, rendered in cases:
        with in_case(name, value, rendered):
            assert StackSettings.parse(AWS_STACK | {"postgresParameters": {name: value}})
            assert rds.parameters(4 * 1024**3, 100, {name: value})[name] == rendered
