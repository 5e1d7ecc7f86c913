"""The Docker program: hardening and isolation of each container, and the handling of data and secrets."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
import yaml

from infra import outputs
from infra.docker import ownership
from infra.docker.stack import METRICS_VOLUME
from infra.images.context import stack_images
from infra.spec import etcd, monitoring, postgres_cluster
from tests.cases import in_case
from tests.promises import promise
from tests.unit.infra.conftest import Run
from tests.unit.infra.program import (
    CANARY,
    CONTAINER,
    IMAGE,
    LEASES,
    NETWORK,
    VOLUME,
    Program,
    Resource,
    all_texts,
    plain_texts,
)

SERVICES = ("postgres", "redis", "access")
ALL_SERVICES = (*SERVICES, *monitoring.SERVICES)
CLUSTER_SERVICES = (*postgres_cluster.MEMBERS, *etcd.MEMBERS)
REDIS_GROUP = ("redis", "redis-2", "redis-3", "sentinel-1", "sentinel-2", "sentinel-3")
DATA_VOLUMES = {"postgres-data", "postgres-backups", "redis-data"}
SECRET_OUTPUTS = {outputs.DATABASE_URLS, outputs.REDIS_URLS, outputs.TOKEN_KEYS}


@pytest.fixture(scope="module")
def every_container(monitored: Program, clustered: Program, replicated: Program) -> list[Resource]:
    """One container of each kind."""
    return [
        program.of_type(CONTAINER)[service]
        for program, services in (
            (monitored, ALL_SERVICES),
            (clustered, CLUSTER_SERVICES),
            (replicated, REDIS_GROUP),
        )
        for service in services
    ]


def test_the_stack_has_three_containers_on_one_network(program: Program) -> None:
    assert set(program.of_type(CONTAINER)) == set(SERVICES)
    assert set(program.of_type(NETWORK)) == {"data-bridge"}


def test_the_program_builds_the_images_of_the_stack(
    program: Program, monitored: Program, clustered: Program
) -> None:
    for stack, images in (
        (program, stack_images(monitoring=False)),
        (monitored, stack_images(monitoring=True)),
        (clustered, stack_images(monitoring=False, has_cluster=True)),
    ):
        built = {image.inputs["tag"].partition(":")[0] for image in stack.of_type(IMAGE).values()}
        assert built == {f"groundwork/{image}" for image in images}


@promise("a refresh installs the packages again, and an unchanged image is not rebuilt")
def test_a_refresh_rebuilds_every_image_of_the_stack(run: Run) -> None:
    refreshed = run(monitoring="true", imageRefresh="2026-11-30")
    images = refreshed.of_type(IMAGE).values()
    assert {image.inputs["refresh"] for image in images} == {"2026-11-30"}
    assert len(images) == len(stack_images(monitoring=True))


def test_monitoring_adds_three_containers(monitored: Program) -> None:
    assert set(monitored.of_type(CONTAINER)) == set(ALL_SERVICES)
    assert set(monitored.of_type(NETWORK)) == {"data-bridge"}


def test_every_resource_belongs_to_its_component(monitored: Program) -> None:
    components = {"postgres": "Postgres", "redis": "Redis", "access": "Access"}
    for service, component in (components | dict.fromkeys(monitoring.SERVICES, "Monitoring")).items():
        urn = monitored.of_type(CONTAINER)[service].urn
        assert f"groundwork:docker:{component}$" in urn, urn


def test_the_root_of_a_container_is_read_only(every_container: list[Resource]) -> None:
    for container in every_container:
        assert container.inputs["readOnly"] is True, container.urn


@promise("containers run without root, capabilities or a writable root")
def test_a_container_has_no_capabilities_and_is_not_privileged(every_container: list[Resource]) -> None:
    for container in every_container:
        assert container.inputs["capabilities"] == {"drops": ["ALL"]}, container.urn
        assert not container.inputs.get("privileged"), container.urn


def test_a_container_cannot_gain_privileges(every_container: list[Resource]) -> None:
    for container in every_container:
        assert "no-new-privileges=true" in container.inputs["securityOpts"], container.urn


@promise("containers run without root, capabilities or a writable root")
def test_a_container_runs_as_a_user_and_group_that_are_not_root(every_container: list[Resource]) -> None:
    for container in every_container:
        uid, gid = (int(number) for number in container.inputs["user"].split(":"))
        assert uid >= 10_000, container.urn
        assert gid >= 10_000, container.urn


@promise("no two containers run as the same user, except the servers and Sentinels of one Redis")
def test_no_two_containers_share_a_user(monitored: Program, replicated: Program) -> None:
    containers = replicated.of_type(CONTAINER)
    assert len({containers.pop(name).inputs["user"] for name in REDIS_GROUP}) == 1
    for others in (
        monitored.of_type(CONTAINER),
        containers | {"redis": replicated.of_type(CONTAINER)["redis"]},
    ):
        users = [resource.inputs["user"] for resource in others.values()]
        assert len(set(users)) == len(users)


@promise("containers have limits for memory, processes and logs")
def test_a_container_has_a_memory_limit_and_no_swap(every_container: list[Resource]) -> None:
    for container in every_container:
        assert container.inputs["memory"] >= 64, container.urn
        assert container.inputs["memorySwap"] == container.inputs["memory"], container.urn


def test_a_container_has_a_process_limit(monitored: Program) -> None:
    limits = {r.name: r.inputs["limit"] for r in monitored.resources if r.name.endswith("-pids")}
    assert set(limits) == {f"{service}-pids" for service in ALL_SERVICES}
    assert all(0 < limit < 1000 for limit in limits.values()), limits


@promise("free ports are picked, published on 127.0.0.1 only, and kept")
def test_a_port_is_published_on_the_loopback_address_only(monitored: Program) -> None:
    cases: list[tuple[str, int]] = [
        ("postgres", LEASES.postgres),
        ("redis", LEASES.redis),
        ("access", LEASES.access),
        ("prometheus", LEASES.prometheus),
    ]
    for service, port in cases:
        with in_case(service, port):
            container = monitored.of_type(CONTAINER)[service]
            assert [(p["ip"], p["external"]) for p in container.inputs["ports"]] == [("127.0.0.1", port)], (
                container.urn
            )


@pytest.mark.parametrize("service", ["postgres-exporter", "redis-exporter"])
def test_an_exporter_publishes_no_port(monitored: Program, service: str) -> None:
    container = monitored.of_type(CONTAINER)[service]
    assert not container.inputs.get("ports"), container.urn


@promise("secrets are mounted read-only from named volumes, and a container writes data volumes only")
def test_a_container_mounts_only_named_volumes_and_writes_only_data(every_container: list[Resource]) -> None:
    for container in every_container:
        assert not container.inputs.get("mounts"), container.urn
        for volume in container.inputs["volumes"]:
            assert "hostPath" not in volume, container.urn
            assert volume["readOnly"] is not volume["volumeName"].endswith(("-data", "-backups")), (
                container.urn
            )


def test_a_temporary_folder_of_a_container_is_noexec(every_container: list[Resource]) -> None:
    for container in every_container:
        for path, options in container.inputs["tmpfs"].items():
            assert {"noexec", "nosuid", "nodev"} <= set(options.split(",")), f"{container.urn} {path}"
            assert "size=" in options, f"{container.urn} {path}"


def test_the_log_of_a_container_is_rotated(every_container: list[Resource]) -> None:
    for container in every_container:
        assert container.inputs["logDriver"] == "json-file", container.urn
        assert container.inputs["logOpts"] == {"max-size": "10240k", "max-file": "3"}, container.urn


def test_the_log_settings_reach_every_container(run: Run) -> None:
    containers = run(monitoring="true", logMaxSize="2MB", logMaxFiles="7").of_type(CONTAINER)
    logs = {c.name: c.inputs["logOpts"] for c in containers.values()}
    assert logs == {service: {"max-size": "2048k", "max-file": "7"} for service in ALL_SERVICES}


def test_a_container_has_a_health_check(every_container: list[Resource]) -> None:
    for container in every_container:
        check = container.inputs["healthcheck"]
        assert check["tests"][0] == "CMD", container.urn
        assert len(check["tests"]) > 1, container.urn


@promise("`docker ps` shows a change of health within 30 s")
def test_a_change_of_health_is_visible_within_30_s(every_container: list[Resource]) -> None:
    for container in every_container:
        check = container.inputs["healthcheck"]
        seconds = [int(check[key].removesuffix("s")) for key in ("interval", "timeout")]
        assert sum(seconds) * check["retries"] <= 30
        # A check itself times out after 3 s.
        assert seconds[1] >= 5


@promise("each part starts when the previous one is healthy")
def test_the_start_of_every_container_waits_until_it_is_healthy(monitored: Program) -> None:
    awaited = {r.name: r.inputs["container"] for r in monitored.resources if r.name.endswith("-healthy")}
    assert awaited == {
        f"{service}-healthy": monitored.checkout.name("unit", service) for service in ALL_SERVICES
    }


@promise("a container sends no DNS query outside")
def test_a_container_uses_no_external_resolver(every_container: list[Resource]) -> None:
    for container in every_container:
        assert container.inputs["dns"] == ["127.0.0.1"], container.urn


@promise("the lookup of a stopped server's name ends before a scrape does")
def test_a_container_gives_up_a_lookup_after_two_seconds(every_container: list[Resource]) -> None:
    """Docker 20.10 does not answer for the name of a stopped container. The resolver's default is 20 s."""
    for container in every_container:
        assert container.inputs["dnsOpts"] == ["timeout:1", "attempts:2"], container.urn


def test_a_container_is_on_the_data_network_only(monitored: Program, every_container: list[Resource]) -> None:
    for container in every_container:
        names = [network["name"] for network in container.inputs["networksAdvanced"]]
        assert names == [monitored.checkout.name("unit", "data")], container.urn
        assert not container.inputs.get("networkMode"), container.urn


def test_a_container_is_deleted_before_it_is_replaced(every_container: list[Resource]) -> None:
    for container in every_container:
        assert container.delete_before_replace, container.urn


def test_a_container_gets_time_to_stop(every_container: list[Resource]) -> None:
    for container in every_container:
        assert container.inputs["destroyGraceSeconds"] >= 10, container.urn
        assert container.inputs["stopTimeout"] >= 10, container.urn


@promise("each secret is passed as a file, never in a variable, label or command line")
def test_a_container_gets_secrets_only_in_files(every_container: list[Resource]) -> None:
    for container in every_container:
        assert not [text for text in all_texts(container.inputs) if CANARY in text], container.urn
        for variable in container.inputs["envs"]:
            name, _, value = variable.partition("=")
            assert "://" not in value, f"{container.urn} {name}"


def test_every_docker_resource_has_the_labels_of_its_owner(monitored: Program) -> None:
    for kind in (CONTAINER, NETWORK, VOLUME):
        with in_case(kind):
            for resource in monitored.of_type(kind).values():
                given = resource.inputs["labels"]
                labels = given if kind == NETWORK else {label["label"]: label["value"] for label in given}
                assert ownership.labels(monitored.checkout, "unit").items() <= labels.items(), resource.urn


def test_the_default_gateway_of_the_data_network_is_an_unused_address(program: Program) -> None:
    network = program.of_type(NETWORK)["data-bridge"]
    subnet = IPv4Network(LEASES.subnet)
    gateway = IPv4Address(network.inputs["default_gateway"])
    assert network.inputs["subnet"] == LEASES.subnet, network.urn
    assert gateway in subnet, network.urn
    # The bridge has the first address, and a default route to it would lead outside.
    assert gateway != IPv4Address(network.inputs["gateway"]), network.urn
    assert gateway != subnet.broadcast_address, network.urn


def test_the_data_network_does_not_masquerade_and_publishes_only_on_loopback(program: Program) -> None:
    network = program.of_type(NETWORK)["data-bridge"]
    assert network.inputs["options"] == {
        "com.docker.network.bridge.enable_ip_masquerade": "false",
        "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
    }, network.urn
    assert network.delete_before_replace, network.urn


@promise("no change of a setting replaces a data volume")
def test_no_changed_input_replaces_a_volume(monitored: Program) -> None:
    volumes = monitored.of_type(VOLUME)
    assert set(volumes) >= DATA_VOLUMES | {METRICS_VOLUME}
    for volume in volumes.values():
        given = {key for key in volume.inputs if not key.startswith("__")}
        assert given <= volume.ignore_changes, volume.urn


@promise("`protectData` protects every resource that holds data")
@pytest.mark.parametrize(
    ("protect_data", "protected"), [("true", DATA_VOLUMES), ("false", set())], ids=["protected", "not"]
)
def test_protect_data_protects_the_data_volumes(run: Run, protect_data: str, protected: set[str]) -> None:
    program = run(protectData=protect_data)
    assert {r.name for r in program.resources if r.protect} == protected


def test_no_setting_removes_the_backups_or_their_key(run: Run) -> None:
    program = run(backups="false")
    assert "postgres-backups" in program.of_type(VOLUME)
    assert "backup-cipher" in {r.name for r in program.resources}
    mounted = {v["volumeName"] for v in program.of_type(CONTAINER)["postgres"].inputs["volumes"]}
    assert program.checkout.name("unit", "postgres-backups") not in mounted


def test_only_postgres_mounts_the_backups(program: Program) -> None:
    repository = program.checkout.name("unit", "postgres-backups")
    mounting = {
        name
        for name, container in program.of_type(CONTAINER).items()
        if repository in {v["volumeName"] for v in container.inputs["volumes"]}
    }
    assert mounting == {"postgres"}


def test_without_monitoring_its_volume_is_not_created(program: Program) -> None:
    assert METRICS_VOLUME not in program.of_type(VOLUME)
    assert outputs.PROMETHEUS_URL not in program.exports


def test_the_volume_of_metrics_is_kept_while_monitoring_is_off(monitored: Program, run: Run) -> None:
    off = run(has_metrics=True)
    assert set(off.of_type(CONTAINER)) == set(SERVICES)
    # The same resource, because another URN would mean a deletion and a creation.
    assert off.of_type(VOLUME)[METRICS_VOLUME].urn == monitored.of_type(VOLUME)[METRICS_VOLUME].urn


def test_prometheus_gets_its_port_and_its_targets(monitored: Program) -> None:
    url, is_secret = monitored.exports[outputs.PROMETHEUS_URL]
    assert (url, is_secret) == (f"http://localhost:{LEASES.prometheus}", False)
    (files,) = (r for r in monitored.resources if r.name == "prometheus-files")
    (text,) = (text for text in all_texts(files.inputs) if "scrape_configs" in text)
    jobs = yaml.safe_load(text)["scrape_configs"]
    assert {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs} == {
        "postgres": ["postgres-exporter:9187"],
        "redis": ["redis-exporter:9121"],
        "access": ["access:8080"],
        "prometheus": ["localhost:9090"],
        "web": ["web-1:9000", "web-2:9000"],
    }


def test_the_monitoring_settings_reach_prometheus(run: Run) -> None:
    settings = {"prometheusMemory": "512MB", "prometheusRetention": "36h", "prometheusDisk": "2GB"}
    container = run(monitoring="true", **settings).of_type(CONTAINER)["prometheus"]
    assert container.inputs["memory"] == 512
    assert "--storage.tsdb.retention.time=36h" in container.inputs["command"]
    assert "--storage.tsdb.retention.size=2048MB" in container.inputs["command"]


def test_the_exporters_get_a_new_password_in_files(monitored: Program) -> None:
    for name, canary in (
        ("postgres-exporter-files", f"{CANARY}-postgres-monitor_a-value"),
        ("redis-exporter-files", f"{CANARY}-redis-monitor-value"),
    ):
        (files,) = (r for r in monitored.resources if r.name == name)
        assert any(canary in text for text in all_texts(files.inputs)), files.urn


@promise("no secret leaves the program, Docker's inspection or the state in clear")
def test_every_secret_in_inputs_is_wrapped(monitored: Program) -> None:
    for resource in monitored.resources:
        plain = [text for text in plain_texts(resource.inputs) if CANARY in text]
        assert not plain, f"{resource.urn} hands over a secret in the open"


@promise("no secret leaves the program, Docker's inspection or the state in clear", control=True)
def test_the_files_of_a_container_contain_secrets(monitored: Program) -> None:
    cases: list[str] = [
        "postgres-files",
        "redis-files",
        "access-files",
        "postgres-exporter-files",
        "redis-exporter-files",
    ]
    for files in cases:
        with in_case(files):
            # The control of the two tests above, which would pass for a program without secrets.
            (resource,) = (r for r in monitored.resources if r.name == files)
            assert any(CANARY in text for text in all_texts(resource.inputs)), resource.urn


@promise("the outputs with passwords are Pulumi secrets")
def test_an_output_with_passwords_is_secret(program: Program) -> None:
    for output in sorted(SECRET_OUTPUTS):
        with in_case(output):
            value, is_secret = program.exports[output]
            assert any(CANARY in text for text in all_texts(value)), output
            assert is_secret, output


@promise("the outputs with passwords are Pulumi secrets", control=True)
def test_the_other_outputs_contain_no_secret_and_are_public(monitored: Program) -> None:
    for name in monitored.exports.keys() - SECRET_OUTPUTS:
        value, is_secret = monitored.exports[name]
        assert not [text for text in all_texts(value) if CANARY in text], name
        assert not is_secret, f"{name} could be read by nobody without the passphrase"


def test_every_role_of_the_outputs_has_its_urls(program: Program) -> None:
    database_urls, redis_urls = (
        program.exports[outputs.DATABASE_URLS][0],
        program.exports[outputs.REDIS_URLS][0],
    )
    assert set(database_urls) == {role for role, (login, _) in outputs.ROLES.items() if login}
    assert set(redis_urls) == {role for role, (_, user) in outputs.ROLES.items() if user}


def test_a_changed_configuration_gives_a_container_another_digest(program: Program, run: Run) -> None:
    changed = run(redisEvictionPolicy="noeviction")
    assert _config_digest(changed, "redis") != _config_digest(program, "redis")
    assert _config_digest(changed, "postgres") == _config_digest(program, "postgres")


def test_the_memory_settings_reach_containers_and_expected_values(run: Run) -> None:
    program = run(postgresMemory="2GB", redisMemory="512MB", redisMaxmemory="300MB")
    containers, expected = program.of_type(CONTAINER), program.exports[outputs.EXPECTED][0]
    assert containers["postgres"].inputs["memory"] == 2048
    assert containers["redis"].inputs["memory"] == 512
    assert expected["redisMaxmemoryBytes"] == 300 * 1024**2
    assert expected["postgresParameters"]["shared_buffers"] == "512MB"


@promise("two checkouts on one machine share no name, port or secret")
def test_another_checkout_gives_every_docker_object_another_name(monitored: Program, run: Run) -> None:
    for type_ in (CONTAINER, NETWORK, VOLUME):
        with in_case(type_):
            other = run(key="ffffff", monitoring="true")
            names, others = (
                {r.inputs["name"] for r in p.of_type(type_).values()} for p in (monitored, other)
            )
            assert names
            assert names.isdisjoint(others)


def _config_digest(program: Program, service: str) -> str:
    labels = program.of_type(CONTAINER)[service].inputs["labels"]
    (digest,) = (label["value"] for label in labels if label["label"] == "groundwork.config")
    return str(digest)
