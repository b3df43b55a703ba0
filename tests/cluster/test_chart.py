"""The Helm chart: what it renders is what the API server takes, the operator reads, and no more than it needs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import oarlock
from oarlock.node.configuration import Configuration, options
from oarlock.node.values import Switch
from tests.cluster import kubeconfig
from tests.cluster.binaries import binary
from tests.cluster.control_plane import ControlPlane, KubectlFailed
from tests.cluster.serving import CRD, RBAC
from tests.node_dirs import NodeDirs
from tests.operating import Operator, container, eventually

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "oarlock"
GIVEN_BY_THE_CHART = {"nodeName", "inCluster", "kubeconfig", "healthAddress"}
"""Options that the chart's values refuse: the pod's node, a flag, what would contradict it, and the probes' address."""
NAMESPACE = "oarlock-chart"
EVERYTHING: dict[str, Any] = {
    "image": {"digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "fullnameOverride": "holder",
    "config": {"stateDir": "/srv/oarlock", "runDir": "/run/holder", "manifests": "/srv/manifests"},
    "rootfsDirs": ["/srv/rootfs", "/srv/more"],
    "serviceAccount": {"annotations": {"example.org/team": "harbour"}},
    "hostNetwork": False,
    "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": "1500m", "memory": "2Gi"}},
    "priorityClassName": "",
    "terminationGracePeriodSeconds": 5,
    "updateStrategy": {"type": "OnDelete"},
    "nodeSelector": {"example.org/edge": "yes"},
    "tolerations": [{"key": "edge", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}],
    "affinity": {"nodeAffinity": {}},
    "podAnnotations": {"example.org/a": "1"},
    "podLabels": {"example.org/b": "2"},
}

Objects = dict[str, dict[str, Any]]
"""Rendered objects by kind; there is one of each."""


class HelmFailed(Exception):
    """helm ended with another code than 0; `str()` is what it wrote."""


class Helm:
    """helm on this cluster, with values as a file; `release` and `namespace` are those of every command."""

    def __init__(self, cluster: ControlPlane, values: Path) -> None:
        self.cluster, self._values = cluster, values

    def run(self, command: str, *arguments: str, values: Mapping[str, Any] | str | None = None) -> str:
        """What helm writes; `values` may be the text of a values file."""
        self._values.write_text(values if isinstance(values, str) else json.dumps(values or {}))
        if command != "uninstall":
            arguments = (*arguments, "--values", str(self._values))
        ended = subprocess.run(
            [str(binary("helm")), command, *arguments, "--namespace", NAMESPACE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env=self.cluster.environment(),
        )
        if ended.returncode:
            raise HelmFailed(ended.stdout + ended.stderr)
        return ended.stdout

    def template(self, values: Mapping[str, Any] | str | None = None) -> Objects:
        text = self.run("template", "oarlock", str(CHART), values=values)
        found = [each for each in yaml.safe_load_all(text) if each is not None]
        by_kind = {each["kind"]: each for each in found}
        assert len(by_kind) == len(found), "two objects of one kind"
        return by_kind


@pytest.fixture
def helm(cluster: ControlPlane, tmp_path: Path) -> Helm:
    return Helm(cluster, tmp_path / "values.yaml")


@pytest.fixture
def namespace(cluster: ControlPlane) -> str:
    """The release's namespace, as the README says to make it."""
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(made))
    return NAMESPACE


@pytest.fixture
def installed(helm: Helm, namespace: str) -> Iterator[Helm]:
    """The chart as a release on the real API server; gone at the end. As the README says with a definition there."""
    helm.run("install", "oarlock", str(CHART), "--skip-crds")
    try:
        yield helm
    finally:
        helm.run("uninstall", "oarlock", "--wait=hookOnly")


@pytest.fixture
def loaded(helm: Helm, tmp_path: Path) -> Callable[[dict[str, Any] | str], Configuration]:
    """The operator's configuration out of the rendered ConfigMap, for values under `config`."""

    def load(config: dict[str, Any] | str) -> Configuration:
        rendered = helm.template({"config": config} if isinstance(config, dict) else config)
        file = tmp_path / "config.yaml"
        file.write_text(rendered["ConfigMap"]["data"]["config.yaml"])
        return Configuration.load({"in_cluster": True}, {"OARLOCK_NODE_NAME": "edge-1"}, file)

    return load


def pod_of(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = objects["DaemonSet"]["spec"]["template"]["spec"]
    return spec


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return found


# ------------------------------------------------------------ what the chart is
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_helm_finds_nothing_to_complain_about(helm: Helm, values: dict[str, Any]) -> None:
    told = helm.run("lint", str(CHART), "--strict", values=values)
    assert "1 chart(s) linted, 0 chart(s) failed" in told
    assert "[WARNING]" not in told


def test_its_definition_is_the_generated_one() -> None:
    (copy,) = (CHART / "crds").iterdir()
    assert copy.name == CRD.name
    assert copy.read_bytes() == CRD.read_bytes()


def test_it_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == oarlock.__version__


def test_the_readme_has_every_value() -> None:
    readme = (CHART / "README.md").read_text()
    told = set(re.findall(r"`([A-Za-z.]+)`", readme))
    assert set(schema()["properties"]) - {"global"} <= {each.partition(".")[0] for each in told}
    assert {option.key for option in options()} <= told


# ------------------------------------------------------------ what the API server says of it
@pytest.mark.parametrize(
    "values",
    [{}, EVERYTHING, {"config": {"kubernetes": "off"}}, {"updateStrategy": {"type": "OnDelete"}}],
    ids=["defaults", "everything", "manifests alone", "on delete"],
)
def test_the_server_takes_every_object(
    cluster: ControlPlane, helm: Helm, namespace: str, values: dict[str, Any]
) -> None:
    objects = helm.template(values)
    for each in objects.values():
        cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=json.dumps(each))
    rights = {
        f"{kind}{binding}" for kind in ("ClusterRole", "ValidatingAdmissionPolicy") for binding in ("", "Binding")
    }
    if values.get("config", {}).get("kubernetes") == "off":
        rights = set()
    assert set(objects) == {"DaemonSet", "ConfigMap", "ServiceAccount"} | rights


def test_the_server_admits_its_pod_where_privileged_pods_may_be(cluster: ControlPlane, installed: Helm) -> None:
    spec = pod_of(installed.template())
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "oarlock-x", "namespace": NAMESPACE}, "spec": spec}
    arguments = ("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-")
    admitted = json.loads(cluster.kubectl(*arguments, input=json.dumps(pod)))["spec"]
    assert admitted["priority"] == 2000001000
    assert [mount["mountPath"] for mount in admitted["containers"][0]["volumeMounts"]][-1] == (
        "/var/run/secrets/kubernetes.io/serviceaccount"
    )
    cluster.kubectl("label", "--overwrite", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=baseline")

    def refused() -> str:
        try:
            cluster.kubectl(*arguments, input=json.dumps(pod))
        except KubectlFailed as failed:
            return str(failed)
        return ""

    assert re.search(r"violates PodSecurity.*hostPID", eventually(refused, "the label counts"))


def test_an_empty_cluster_gets_the_definition_too_and_keeps_it(tmp_path: Path) -> None:
    with ControlPlane() as fresh:
        helm = Helm(fresh, tmp_path / "values.yaml")
        told = helm.run("install", "oarlock", str(CHART), "--create-namespace")
        assert f"kubectl -n {NAMESPACE} rollout status daemonset/oarlock" in told
        fresh.until_served("containerspecs.oarlock.dev")
        # the README's way to renew it
        fresh.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))
        helm.run("upgrade", "oarlock", str(CHART), values={"config": {"logLevel": "debug"}})
        helm.run("uninstall", "oarlock")
        assert "containerspecs" in fresh.kubectl("get", "crd", "-o", "name")
        kinds = "daemonset,configmap,serviceaccount,clusterrole,clusterrolebinding"
        kinds += ",validatingadmissionpolicy,validatingadmissionpolicybinding"
        left = fresh.kubectl("get", kinds, "-A", "-l", "app.kubernetes.io/name=oarlock", "-o", "name")
        assert left == ""


# ------------------------------------------------------------ rights
def test_its_rights_are_the_ones_that_the_operator_is_tested_with(helm: Helm) -> None:
    objects = helm.template()
    least = next(yaml.safe_load_all(RBAC))
    role, binding = objects["ClusterRole"], objects["ClusterRoleBinding"]
    assert role["rules"] == least["rules"]
    assert "*" not in json.dumps(role["rules"])
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": role["metadata"]["name"],
    }
    account = objects["ServiceAccount"]["metadata"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["name"], "namespace": NAMESPACE}]


def test_the_account_may_do_that_and_nothing_else(cluster: ControlPlane, installed: Helm) -> None:
    def rights(account: str) -> set[str]:
        identity = f"--as=system:serviceaccount:{NAMESPACE}:{account}"
        table = cluster.kubectl("auth", "can-i", "--list", "--no-headers", identity)
        return {" ".join(line.split()) for line in table.splitlines()}

    given = {
        "containerspecs.oarlock.dev [] [] [get list watch patch]",
        "containerspecs.oarlock.dev/status [] [] [patch]",
        "events [] [] [create patch]",
        "nodes/status [] [] [patch]",
    }
    eventually(lambda: rights("oarlock") - rights("any-other") == given, "what the chart gives counts")


def test_an_operator_serves_a_cluster_with_what_the_chart_gives_it(
    cluster: ControlPlane, installed: Helm, node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    """The release's own ServiceAccount and configuration file, and a container that comes to run by them."""
    installed.run("upgrade", "oarlock", str(CHART), values={"config": {"logFormat": "json", "createTimeout": 30}})
    config = node_dirs.root / "config.yaml"
    config.write_text(
        cluster.kubectl("get", "configmap", "oarlock", "-n", NAMESPACE, "-o", r"jsonpath={.data.config\.yaml}")
    )
    token = cluster.service_account_token(NAMESPACE, "oarlock")
    access = kubeconfig.write(node_dirs.root / "kubeconfig", server=cluster.url, ca_file=cluster.ca_file, token=token)
    operator = Operator(node_dirs, "--config", str(config), "--kubeconfig", str(access))
    job = container("charted", busybox_rootfs, "sh", "-c", "exit 3", restartPolicy="Never", nodeName="node-a")
    operator.start()
    try:
        operator.wait_ready()
        cluster.kubectl("apply", "-f", "-", input=json.dumps(job))
        cluster.kubectl("wait", "--for=jsonpath={.status.exitCode}=3", "cspec/charted", "--timeout=30s")
        cluster.kubectl("delete", "cspec", "charted", "--timeout=30s")
        eventually(lambda: not operator.records(), "the record is gone")
        assert json.loads(operator.log().splitlines()[0])
    finally:
        operator.kill()


# ------------------------------------------------------------ the pod
def test_the_pod_has_of_the_node_what_the_operator_needs(helm: Helm) -> None:
    pod = pod_of(helm.template())
    (operator,) = pod["containers"]
    assert operator["command"] == ["oarlock", "run", "--in-cluster"]
    assert operator["image"] == f"oarlock:{oarlock.__version__}"
    assert operator["env"] == [
        {"name": "OARLOCK_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "OARLOCK_HEALTH_ADDRESS", "value": "127.0.0.1:10276"},
    ]
    assert operator["securityContext"]["privileged"] is True
    assert (pod["hostPID"], pod["hostNetwork"]) == (True, True)
    assert pod["automountServiceAccountToken"] is True
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["terminationGracePeriodSeconds"] <= 10
    paths = {each["name"]: each["hostPath"]["path"] for each in pod["volumes"] if "hostPath" in each}
    mounts = {each["mountPath"]: each for each in operator["volumeMounts"]}
    both_ways = {path for path, each in mounts.items() if each.get("mountPropagation") == "Bidirectional"}
    assert both_ways == {"/run/oarlock", "/var/lib/oarlock"}
    assert {path: paths.get(each["name"]) for path, each in mounts.items()} == {
        "/run/oarlock": "/run/oarlock",
        "/var/lib/oarlock": "/var/lib/oarlock",
        "/etc/oarlock/manifests": "/etc/oarlock/manifests",
        "/sys/fs/cgroup": "/sys/fs/cgroup",
        "/etc/oarlock/config.yaml": None,
    }


def test_the_host_s_systemd_and_journal_are_mounted_for_those_who_use_them(helm: Helm) -> None:
    def mounted(**config: Any) -> set[str]:
        (operator,) = pod_of(helm.template({"config": config}))["containers"]
        return {each["mountPath"] for each in operator["volumeMounts"] if each["mountPath"].startswith("/run/")}

    own = {"/run/oarlock"}
    assert mounted() == own
    assert mounted(cgroupManager="systemd") == own | {"/run/systemd/system", "/run/dbus"}
    assert mounted(journald=True) == own | {"/run/systemd/journal"}


def test_the_probes_ask_where_the_operator_listens(helm: Helm) -> None:
    def probed(values: dict[str, Any]) -> tuple[set[str], dict[str, Any]]:
        (operator,) = pod_of(helm.template(values))["containers"]
        addresses = {each["value"] for each in operator["env"] if each["name"] == "OARLOCK_HEALTH_ADDRESS"}
        return addresses, {name: operator[name]["httpGet"] for name in operator if name.endswith("Probe")}

    local = {"host": "127.0.0.1", "port": 10276}
    expected = {"livenessProbe": {"path": "/healthz"}, "readinessProbe": {"path": "/readyz"}}
    assert probed({}) == ({"127.0.0.1:10276"}, {name: local | probe for name, probe in expected.items()})
    own = {"hostNetwork": False, "health": {"port": 9000}}
    assert probed(own) == ({":9000"}, {name: {"port": 9000} | probe for name, probe in expected.items()})
    for none in ({"port": 0}, None):
        assert probed({"health": none}) == (set(), {})


def test_without_conditions_of_nodes_there_is_no_right_to_them(helm: Helm) -> None:
    objects = helm.template({"config": {"nodeConditions": False}})
    assert "nodes" not in json.dumps(objects["ClusterRole"]["rules"])
    assert not {kind for kind in objects if "Policy" in kind}
    assert yaml.safe_load(objects["ConfigMap"]["data"]["config.yaml"]) == {"nodeConditions": False}


def test_directories_of_the_configuration_are_the_ones_that_are_mounted(helm: Helm) -> None:
    pod = pod_of(helm.template(EVERYTHING))
    (operator,) = pod["containers"]
    paths = {each["name"]: each["hostPath"]["path"] for each in pod["volumes"] if "hostPath" in each}
    mounts = {each["mountPath"]: each for each in operator["volumeMounts"] if each["name"] in paths}
    assert all(paths[each["name"]] == path for path, each in mounts.items())
    assert set(mounts) == {
        *("/srv/oarlock", "/run/holder", "/srv/manifests", "/sys/fs/cgroup", "/srv/rootfs", "/srv/more")
    }
    assert operator["image"] == "oarlock@sha256:" + "0" * 64
    assert "hostNetwork" not in pod
    assert "priorityClassName" not in pod


def test_every_object_has_the_recommended_labels_and_the_selector_finds_the_pods(helm: Helm) -> None:
    objects = helm.template(EVERYTHING)
    names = ("name", "instance", "version", "component", "part-of", "managed-by")
    for each in objects.values():
        assert {f"app.kubernetes.io/{name}" for name in names} <= set(each["metadata"]["labels"])
    daemons = objects["DaemonSet"]["spec"]
    assert daemons["selector"]["matchLabels"].items() <= daemons["template"]["metadata"]["labels"].items()
    assert daemons["template"]["metadata"]["labels"]["example.org/b"] == "2"
    assert daemons["template"]["metadata"]["annotations"]["example.org/a"] == "1"
    mine = {"podLabels": {"app.kubernetes.io/name": "x"}, "podAnnotations": {"checksum/config": "x"}}
    assert helm.template(mine)["DaemonSet"] == helm.template()["DaemonSet"], "the chart's own win"


@pytest.mark.parametrize(
    "name", ["config", "resources", "updateStrategy", "nodeSelector", "tolerations", "affinity", "podLabels"]
)
def test_a_default_can_be_taken_away(cluster: ControlPlane, helm: Helm, namespace: str, name: str) -> None:
    daemons = helm.template({name: None})["DaemonSet"]
    cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=json.dumps(daemons))


def test_a_changed_configuration_makes_new_pods_and_nothing_else_does(helm: Helm) -> None:
    def checksum(values: dict[str, Any]) -> str:
        annotations = helm.template(values)["DaemonSet"]["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/config"])

    assert checksum({}) == checksum({"podLabels": {"a": "b"}})
    assert checksum({}) != checksum({"config": {"logLevel": "debug"}})


def test_without_kubernetes_there_are_no_rights_and_no_token(helm: Helm) -> None:
    objects = helm.template("config: {kubernetes: off}")
    assert not {kind for kind in objects if "Role" in kind or "Policy" in kind}
    assert pod_of(objects)["automountServiceAccountToken"] is False


# ------------------------------------------------------------ values
def test_the_schema_has_exactly_the_options_of_the_operator() -> None:
    keys = schema()["$defs"]["config"]["properties"]
    assert set(keys) | GIVEN_BY_THE_CHART == {option.key for option in options()}
    assert not set(keys) & GIVEN_BY_THE_CHART


def test_choices_and_types_of_the_schema_are_those_of_the_options() -> None:
    keys = schema()["$defs"]["config"]["properties"]
    for option in options():
        allowed = keys.get(option.key, {})
        if option.key in GIVEN_BY_THE_CHART:
            continue
        assert (allowed.get("type") == "boolean") == option.boolean, option.key
        assert (allowed.get("type") == "array") == option.several, option.key
        words = option.metavar.split("|")
        if len(words) > 1 or "enum" in allowed:
            assert [each for each in allowed["enum"] if not isinstance(each, bool)] == words, option.key


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_text_the_schema_lets_through_the_operator_reads(data: st.DataObject) -> None:
    definitions = schema()["$defs"]
    option = data.draw(st.sampled_from([each for each in options() if each.key not in GIVEN_BY_THE_CHART]))
    allowed = definitions["config"]["properties"][option.key]
    allowed = definitions[allowed["$ref"].rpartition("/")[2]] if "$ref" in allowed else allowed
    allowed = allowed.get("items", allowed)
    if "pattern" in allowed:
        refused = re.compile(allowed.get("not", {}).get("pattern", "(?!)"))
        texts = st.from_regex(allowed["pattern"].removesuffix("$") + r"\Z").filter(
            lambda text: not refused.search(text)
        )
        option.value(data.draw(texts), option.key)
    elif allowed.get("type") == "integer":
        option.value(str(data.draw(st.integers(min_value=allowed["minimum"]))), option.key)
    for word in allowed.get("enum", ()):
        assert isinstance(word, bool) or option.value(word, option.key) == word


def test_no_config_is_the_operators_own_defaults(loaded: Callable[..., Configuration]) -> None:
    assert loaded({}) == Configuration(node_name="edge-1", in_cluster=True)


def test_every_option_arrives(loaded: Callable[..., Configuration]) -> None:
    wanted: dict[str, Any] = {
        "manifests": "/srv/manifests",
        "stateDir": "/srv/state",
        "runDir": "/run/elsewhere",
        "kubernetes": "on",
        "nodeConditions": False,
        "conmon": "/usr/local/bin/conmon",
        "runtimeTrusted": "crun",
        "runtimeUntrusted": "/opt/runsc",
        "runtimes": ["kata=/opt/kata/bin/kata-runtime", "crun=crun"],
        "conmonEnv": ["TMPDIR=/var/tmp", "EMPTY="],
        "defaultTrustLevel": "untrusted",
        "noPivot": True,
        "cgroupVersion": "v1",
        "cgroupManager": "cgroupfs",
        "cgroupParent": "/machine/oarlock",
        "maxParallelCreates": 1_000_000,
        "createTimeout": "1h30m",
        "runtimeTimeout": "1m",
        "backoffInitial": "250ms",
        "backoffMax": "45",
        "backoffReset": 0,
        "logMaxSize": 10_485_760,
        "logMaxFiles": 7,
        "logCompress": True,
        "journald": True,
        "logLevel": "debug",
        "logFormat": "json",
        "allowPrivileged": True,
        "allowUntrustedPrivileged": True,
        "allowHostNetwork": False,
        "allowHostPid": True,
        "allowedRootfs": ["/srv/rootfs", "/srv/a b: #c"],
    }
    assert set(wanted) | GIVEN_BY_THE_CHART == {option.key for option in options()}
    read = loaded(wanted)
    assert read == Configuration(
        node_name="edge-1",
        manifests=Path("/srv/manifests"),
        state_dir=Path("/srv/state"),
        run_dir=Path("/run/elsewhere"),
        kubernetes=Switch.ON,
        in_cluster=True,
        node_conditions=False,
        conmon=Path("/usr/local/bin/conmon"),
        runtime_trusted=Path("crun"),
        runtime_untrusted=Path("/opt/runsc"),
        runtimes=(("kata", Path("/opt/kata/bin/kata-runtime")), ("crun", Path("crun"))),
        conmon_env=(("TMPDIR", "/var/tmp"), ("EMPTY", "")),
        default_trust_level=read.default_trust_level.UNTRUSTED,
        no_pivot=True,
        cgroup_version=read.cgroup_version.V1,
        cgroup_manager=read.cgroup_manager.CGROUPFS,
        cgroup_parent="/machine/oarlock",
        max_parallel_creates=1_000_000,
        create_timeout=5400.0,
        runtime_timeout=60.0,
        backoff_initial=0.25,
        backoff_max=45.0,
        backoff_reset=0.0,
        log_max_size=10_485_760,
        log_max_files=7,
        log_compress=True,
        journald=True,
        log_level=read.log_level.DEBUG,
        log_format=read.log_format.JSON,
        allow_privileged=True,
        allow_untrusted_privileged=True,
        allow_host_network=False,
        allow_host_pid=True,
        allowed_rootfs=(Path("/srv/rootfs"), Path("/srv/a b: #c")),
    )


@pytest.mark.parametrize("word", ["on", "off", "'off'", "auto"])
def test_on_and_off_may_be_written_as_they_are(loaded: Callable[..., Configuration], word: str) -> None:
    assert loaded(f"config: {{kubernetes: {word}}}").kubernetes == Switch(word.strip("'"))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"colour": "blue"}, "additional properties 'colour' not allowed"),
        ({"image": {"tga": "1"}}, "at '/image': additional properties 'tga' not allowed"),
        ({"image": {"digest": "sha1:00"}}, "at '/image/digest'"),
        ({"hostNetwork": "yes"}, "at '/hostNetwork': got string, want boolean"),
        ({"tolerations": {}}, "at '/tolerations': got object, want array"),
        ({"terminationGracePeriodSeconds": -1}, "at '/terminationGracePeriodSeconds'"),
        ({"resources": {"limits": {"memory": "1 GB"}}}, "at '/resources/limits/memory'"),
        ({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}, "'maxSurge' not allowed"),
        ({"rootfsDirs": ["srv"]}, "at '/rootfsDirs/0'"),
        ({"config": {"stateDri": "/srv"}}, "at '/config': additional properties 'stateDri' not allowed"),
        ({"config": {"nodeName": "edge-1"}}, "at '/config': additional properties 'nodeName' not allowed"),
        ({"config": {"inCluster": True}}, "'inCluster' not allowed"),
        ({"config": {"kubeconfig": "/root/config"}}, "'kubeconfig' not allowed"),
        ({"config": {"healthAddress": ":80"}}, "'healthAddress' not allowed"),
        ({"health": {"port": 70000}}, "at '/health/port'"),
        ({"config": {"allowedRootfs": "/srv"}}, "at '/config/allowedRootfs': got string, want array"),
        ({"config": {"noPivot": "true"}}, "at '/config/noPivot': got string, want boolean"),
        ({"config": {"logLevel": "loud"}}, "at '/config/logLevel': value must be one of 'debug', 'info'"),
        ({"config": {"logMaxSize": "10MB"}}, "at '/config/logMaxSize'"),
        ({"config": {"logMaxFiles": 0}}, "at '/config/logMaxFiles'"),
        ({"config": {"backoffInitial": "5 s"}}, "at '/config/backoffInitial'"),
        ({"config": {"backoffInitial": 0.5}}, "at '/config/backoffInitial': got number, want integer or string"),
        ({"config": {"stateDir": "/srv/a:b"}}, "at '/config/stateDir'"),
        ({"config": {"cgroupParent": "oarlock"}}, "at '/config/cgroupParent'"),
        ({"config": {"cgroupParent": "/a/../b"}}, "at '/config/cgroupParent'"),
        ({"config": {"stateDir": "/"}}, "at '/config/stateDir'"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name: name one that exists"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_and_named(helm: Helm, values: dict[str, Any], told: str) -> None:
    with pytest.raises(HelmFailed, match=re.escape(told)):
        helm.template(values)


# ------------------------------------------------------------ kind
def test_the_kind_cluster_mounts_what_there_is() -> None:
    cluster = yaml.safe_load((ROOT / "kind-config.yaml").read_text())
    assert [node["role"] for node in cluster["nodes"]] == ["control-plane", "worker"]
    mounts = {each["containerPath"]: each["hostPath"] for each in cluster["nodes"][1]["extraMounts"]}
    assert (ROOT / mounts["/etc/oarlock/manifests"] / "clock.yaml").is_file()
    assert "/var/lib/oarlock-example" in mounts
