"""The files for containers and Kubernetes fit each other, the command line and grafana/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastun import __version__
from fastun.command.cli import cli
from fastun.config.links import DEFAULT_TCP, DEFAULT_UDP
from fastun.config.settings import load
from fastun.config.sources import Options
from fastun.session import keys

ROOT = Path(__file__).resolve().parents[3]
CONTAINER = ROOT / "packaging" / "container"
KUBERNETES = sorted((ROOT / "packaging" / "kubernetes").glob("*.yaml"))

CONTAINERFILE = (CONTAINER / "Containerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [
    (found[1], " ".join(found[2].replace("\\\n", " ").split()))
    for found in re.finditer(r"^([A-Z]+) ((?:.*\\\n)*.*)$", CONTAINERFILE, flags=re.MULTILINE)
]
COMPOSE = yaml.safe_load((CONTAINER / "compose.yaml").read_text(encoding="utf-8"))
FLEET = yaml.safe_load((CONTAINER / "fleet.yaml").read_text(encoding="utf-8"))
OBJECTS = [
    each for path in KUBERNETES for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
PODS = {
    each["kind"]: each["spec"]["template"] for each in OBJECTS if "template" in each.get("spec", {})
}
PORTS = {("UDP", 51820), ("TCP", 55555)}


def of_image(instruction: str) -> list[str]:
    """The arguments of an instruction of the last stage."""
    last = max(index for index, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM")
    return [arguments for name, arguments in INSTRUCTIONS[last:] if name == instruction]


def container_of(kind: str) -> dict[str, Any]:
    (container,) = PODS[kind]["spec"]["containers"]
    return container


def assert_is_a_command(words: list[str]) -> None:
    """Check that a command line of fastun has a command and options that exist."""
    name, *more = words
    context = cli.make_context("fastun", [name, *more], resilient_parsing=True)
    command = cli.get_command(context, name)
    assert command is not None, name
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in more if word.startswith("-")} <= known


def test_the_ports_are_those_of_a_server_without_options() -> None:
    urls = [url.split(":") for url in (DEFAULT_UDP, DEFAULT_TCP)]
    defaults = {(parts[0].upper(), int(parts[-1])) for parts in urls}
    assert defaults == PORTS
    exposed = {tuple(port.split("/")) for port in of_image("EXPOSE")[0].split()}
    assert {(protocol.upper(), int(port)) for port, protocol in exposed} == PORTS
    (service,) = (each for each in OBJECTS if each["kind"] == "Service")
    assert {(port["protocol"], port["port"]) for port in service["spec"]["ports"]} == PORTS
    listed = {
        (each["protocol"], each["containerPort"]) for each in container_of("Deployment")["ports"]
    }
    assert listed == PORTS
    published = {port for port in COMPOSE["services"]["fastun"]["ports"] if "127.0.0.1" not in port}
    assert published == {f"{port}:{port}/{protocol.lower()}" for protocol, port in PORTS}


def test_nothing_that_builds_is_in_the_image() -> None:
    assert [name for name, _ in INSTRUCTIONS].count("FROM") == 2
    installed = " ".join(of_image("RUN"))
    assert "nftables" in installed
    assert not re.search(r"\bgcc\b|-dev\b|\bcurl\b|python3-venv", installed)
    assert of_image("COPY") == ["--from=build /opt/fastun /opt/fastun"]


def test_what_the_build_reads_is_not_ignored() -> None:
    lines = (CONTAINER / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    taken = {line[1:] for line in lines if line.startswith("!")}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = {"LICENSE", "README.md", "csrc", "fastun", "grafana", "packaging/runtime.txt"}
    named |= {"pyproject.toml", "setup.py"}
    assert taken == named
    assert all((ROOT / name).exists() for name in named)
    assert 'readme = "README.md"' in project
    assert "grafana/" in project


def test_its_commands_exist() -> None:
    (health,) = of_image("HEALTHCHECK")
    program, *words = yaml.safe_load(health.partition(" CMD ")[2])
    assert program == "fastun"
    assert_is_a_command(words)
    assert yaml.safe_load(of_image("ENTRYPOINT")[0]) == ["fastun"]
    assert_is_a_command(yaml.safe_load(of_image("CMD")[0]))
    assert_is_a_command(COMPOSE["services"]["fastun"]["command"])
    for kind in PODS:
        container = container_of(kind)
        assert_is_a_command(container["args"])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "exec" in container.get(probe, {}):
                first, *rest = container[probe]["exec"]["command"]
                assert first == "fastun"
                assert_is_a_command(rest)


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_a_pod_has_one_capability_and_a_root_that_cannot_be_written(kind: str) -> None:
    pod, container = PODS[kind]["spec"], container_of(kind)
    assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "runAsUser": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
    }
    assert container["image"].rpartition(":")[2] == __version__
    assert {"readinessProbe", "livenessProbe"} <= container.keys()
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted.keys() == volumes
    assert {"/run", "/tmp", "/var/lib/fastun", "/dev/net/tun"} <= set(mounted.values())  # noqa: S108


def test_the_selectors_of_kubernetes_find_their_pods() -> None:
    for each in OBJECTS:
        spec = each.get("spec", {})
        if "template" in spec:
            assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    (service,) = (each for each in OBJECTS if each["kind"] == "Service")
    assert service["spec"]["selector"] == PODS["Deployment"]["metadata"]["labels"]


@pytest.mark.soak
@pytest.mark.parametrize("each", OBJECTS, ids=[f"{each['kind']}" for each in OBJECTS])
def test_the_schemas_of_kubernetes_have_no_objection(each: dict[str, Any]) -> None:
    why = "needs kubernetes-validate from PyPI, which takes 110 MB"
    pytest.importorskip("kubernetes_validate", reason=why).validate(each, "1.31", strict=True)


def test_the_settings_in_the_config_map_are_valid(tmp_path: Path) -> None:
    (settings,) = (each["data"]["gateway.toml"] for each in OBJECTS if each["kind"] == "ConfigMap")
    file = tmp_path / "gateway.toml"
    file.touch(mode=0o600)
    file.write_text(settings)
    settings = load("serve", None, Options(config=file))
    assert settings.forward is not None


def test_compose_gives_fastun_one_capability_and_the_others_none() -> None:
    services = COMPOSE["services"]
    assert {name: each.get("cap_add", []) for name, each in services.items()} == {
        "fastun": ["NET_ADMIN"],
        "prometheus": [],
        "grafana": [],
    }
    for each in services.values():
        assert each["read_only"] is True
        assert each["cap_drop"] == ["ALL"]
        assert each["security_opt"] == ["no-new-privileges:true"]
    shared = {each.get("network_mode") for name, each in services.items() if name != "fastun"}
    assert shared == {"service:fastun"}  # so that 127.0.0.1 of grafana/ is right as it is


def test_compose_mounts_what_is_there() -> None:
    named = set(COMPOSE["volumes"])
    for service in COMPOSE["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in named or (CONTAINER / source).is_dir(), volume
    (option,) = (
        each for each in COMPOSE["services"]["prometheus"]["command"] if "config.file" in each
    )
    file = option.partition("=")[2].replace("/etc/prometheus", str(ROOT / "grafana" / "prometheus"))
    assert Path(file).is_file()


def test_the_gateways_of_the_fleet_are_alike_and_prepared_for_what_they_follow(
    tmp_path: Path,
) -> None:
    services = FLEET["services"]
    gateways = {name: services[name] for name in ("gw1", "gw2", "gw3")}
    for name, each in gateways.items():
        number = name.removeprefix("gw")
        assert (each["container_name"], each["hostname"]) == (f"fastun-{name}", name)
        assert each["ports"] == [f"5182{number}:51820/udp"]
        same = dict.fromkeys(("container_name", "hostname", "ports"))
        own = same | {"volumes": each["volumes"][1:]}
        first = gateways["gw1"] | same
        assert each | own == first | {"volumes": gateways["gw1"]["volumes"][1:]}
        assert_is_a_command(each["command"])
    file = tmp_path / "fleet.toml"
    file.touch(mode=0o600)
    key = tmp_path / "fleet.key"
    key.touch(mode=0o600)
    key.write_text(keys.format_key(keys.generate_private()))
    text = (CONTAINER / "fleet.toml").read_text(encoding="utf-8")
    file.write_text(text.replace("/etc/fastun/fleet.key", str(key)))
    settings = load("serve", None, Options(config=file))
    assert settings.fleet is not None
    prepare = services["prepare"]["entrypoint"][-1]
    assert f"fastun fleet prepare '{settings.fleet.directory}'" in prepare


def test_of_a_fleet_the_gateways_alone_may_change_their_network_and_volumes_are_there() -> None:
    named = set(FLEET["volumes"])
    made_by_hand = {"./fleet.key", "./pgpass"}
    may = {"db": ["SETUID", "SETGID"], "prepare": []}
    for name, each in FLEET["services"].items():
        assert each.get("cap_add", []) == may.get(name, ["NET_ADMIN"])
        assert each["read_only"] is True
        assert each["cap_drop"] == ["ALL"]
        assert each["security_opt"] == ["no-new-privileges:true"]
        for volume in each["volumes"]:
            source = volume.split(":")[0]
            assert source in named | made_by_hand or (CONTAINER / source).is_file(), volume


def test_settings_of_the_kernel_are_written_so_that_podman_compose_sees_their_values() -> None:
    for service in (COMPOSE["services"]["fastun"], FLEET["services"]["gw1"]):
        assert isinstance(service["sysctls"], list)
        assert "net.ipv4.ip_forward=1" in service["sysctls"]
