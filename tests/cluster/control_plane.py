"""A real Kubernetes control plane on the loopback: Debian's etcd and a kube-apiserver, as a context manager.

    with ControlPlane() as cluster:
        cluster.apply_crd(Path("crds/oarlock.dev_containerspecs.yaml"))
        print(cluster.kubectl("get", "containerspecs"))

There is no controller manager, scheduler or kubelet: namespaces that are deleted stay, nobody runs Pods, and
the token of a ServiceAccount is asked of the API server (`service_account_token`). Debian's etcd 3.4 sends no
watch progress: a watch of an idle resource without a `resourceVersion` gets an ERROR event 504 after 3 s. So
list first and watch from there, as clients do.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import kubeconfig
from tests.cluster.binaries import binary
from tests.cluster.processes import Server, free_ports
from tests.operating import eventually

#: user name → groups, of the static token file
USERS: Mapping[str, str] = {"admin": "system:masters", "oarlock": "", "nobody": ""}


class KubectlFailed(Exception):
    """kubectl ended with another code than 0; `str()` is its own message."""

    def __init__(self, arguments: tuple[str, ...], returncode: int, output: str, error: str) -> None:
        super().__init__(f"kubectl {' '.join(arguments)}: exit code {returncode}: {error.strip()}")
        self.returncode, self.output, self.error = returncode, output, error


class ControlPlane:
    """etcd and kube-apiserver with their data, keys, tokens and logs in one folder.

    Attributes:
        folder: everything it writes; removed by `stop` unless it was given.
        url: of the API server, which keeps its port over restarts.
        ca_file: the certificate that clients check it with.
    """

    def __init__(self, folder: Path | None = None, *, start_timeout: float = 110) -> None:
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="oarlock-cluster-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start_timeout = start_timeout
        self.port, self._etcd_port, self._peer_port = free_ports(3)
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca_file, self.key_file = self.folder / "server.crt", self.folder / "server.key"
        self.tokens = {user: secrets.token_hex(16) for user in USERS}
        self._make_keys()
        self._write_tokens()
        for user in USERS:
            self.deliver_token(user)
        self._tls = ssl.create_default_context(cafile=str(self.ca_file))
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder)}
        self.etcd = Server(self._etcd_arguments(), log=self.folder / "etcd.log", environment=environment)
        self.api = Server(self._api_arguments(), log=self.folder / "kube-apiserver.log", environment=environment)

    # ------------------------------------------------------------ life
    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start both and return once the API server is ready.

        Raises:
            ServerFailed: one of them ended or is not ready in time; both are ended.
        """
        try:
            self.etcd.start(ready=self._etcd_ready, timeout=self.start_timeout)
            self.start_api()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End both, within seconds, and remove the folder if it was made here."""
        self.api.close(grace=0)
        self.etcd.close(grace=0)
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start_api(self) -> None:
        """Start the API server again: same port, same data, the tokens as they are now."""
        self.api.start(ready=self.ready, timeout=self.start_timeout)

    def stop_api(self, *, grace: float = 0) -> None:
        """End the API server: at once, or with SIGTERM and up to `grace` seconds of its own shutdown."""
        self.api.stop(grace=grace)

    def restart_api(self, *, grace: float = 0) -> None:
        self.stop_api(grace=grace)
        self.start_api()

    def pause(self) -> None:
        """Freeze the API server: connections stay open and nothing answers, until `resume`."""
        self.api.pause()

    def resume(self) -> None:
        self.api.resume()

    def ready(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            return self.get("/readyz", timeout=2) == b"ok"
        except (OSError, urllib.error.URLError):
            return False

    # ------------------------------------------------------------ talking to it
    def open(self, url: str, *, user: str = "admin", timeout: float = 10) -> http.client.HTTPResponse:
        """The answer to a GET of a whole URL (this server's or a proxy's), to be read as it comes."""
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.tokens[user]}"})
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._tls)
        )
        answer: http.client.HTTPResponse = opener.open(request, timeout=timeout)
        return answer

    def get(self, path: str, *, user: str = "admin", timeout: float = 10) -> bytes:
        """The body of a GET; an `urllib.error.HTTPError` for anything but success."""
        with self.open(self.url + path, user=user, timeout=timeout) as answer:
            return answer.read()

    def kubectl(self, *arguments: str, input: str | None = None, user: str = "admin", timeout: float = 60) -> str:
        """What kubectl writes to its standard output.

        Raises:
            KubectlFailed: it ended with another code than 0.
            subprocess.TimeoutExpired: it took longer than `timeout` seconds.
        """
        ended = subprocess.run(
            [str(binary("kubectl")), *arguments],
            input=input or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment(user),
        )
        if ended.returncode:
            raise KubectlFailed(arguments, ended.returncode, ended.stdout, ended.stderr)
        return ended.stdout

    def environment(self, user: str = "admin") -> dict[str, str]:
        """The environment in which kubectl and helm find this cluster."""
        return {
            "PATH": f"{binary('kubectl').parent}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.kubeconfig(user)),
            "KUBECACHEDIR": str(self.folder / "kubectl-cache"),
            "LC_ALL": "C.UTF-8",
        }

    def apply_crd(self, path: Path) -> None:
        """Apply a CustomResourceDefinition and wait until its resource is served."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))
        self.until_served(self.kubectl("get", "-f", str(path), "-o", "jsonpath={.spec.names.plural}.{.spec.group}"))

    def until_served(self, resource: str) -> None:
        """Wait until a resource of a CRD that was applied is served, and kubectl finds it."""

        def served() -> bool:
            with contextlib.suppress(KubectlFailed):
                self.kubectl("get", resource)
                return True
            return False

        eventually(served, f"{resource} is served")

    # ------------------------------------------------------------ who may talk to it
    def kubeconfig(self, user: str = "admin", *, url: str | None = None) -> Path:
        """A kubeconfig file with the user's present token; `url` leads through another address (a proxy)."""
        path = self.folder / f"{user}{'' if url is None else '-' + url.rpartition(':')[2]}.kubeconfig"
        return kubeconfig.write(path, server=url or self.url, ca_file=self.ca_file, token=self.tokens[user])

    def token_file(self, user: str) -> Path:
        """The file with the user's token, like a projected ServiceAccount token; see `deliver_token`."""
        return self.folder / "tokens" / user

    def kubeconfig_with_token_file(self, user: str, *, url: str | None = None) -> Path:
        """A kubeconfig file that names `token_file(user)` (so the token can change behind it), which is good now."""
        self.deliver_token(user)
        path = self.folder / f"{user}-token-file.kubeconfig"
        return kubeconfig.write(path, server=url or self.url, ca_file=self.ca_file, token_file=self.token_file(user))

    def rotate_token(self, user: str) -> str:
        """Give the user another token, which is returned; the old one gets 401 from here on.

        The API server reads its token file only at its start, so it is restarted. `token_file(user)` and
        kubeconfigs written before do not change: `deliver_token` and `kubeconfig` do that.
        """
        self.tokens[user] = secrets.token_hex(16)
        self._write_tokens()
        self.restart_api()
        return self.tokens[user]

    def deliver_token(self, user: str) -> None:
        """Put the user's present token into `token_file(user)`, atomically."""
        path = self.token_file(user)
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(self.tokens[user])
        fresh.rename(path)

    def service_account_token(self, namespace: str, name: str) -> str:
        """A token of a ServiceAccount that exists, good for an hour."""
        return self.kubectl("create", "token", name, "-n", namespace, "--duration=1h").strip()

    def may(self, user: str, *what: str) -> bool:
        """Whether a user may do that; what was changed about it counts a moment later only."""
        try:
            return self.kubectl("auth", "can-i", *what, f"--as={user}").strip() == "yes"
        except KubectlFailed as no:
            if no.output.strip() != "no":
                raise
            return False

    # ------------------------------------------------------------ looking at it, and at its past
    def request_count(self, resource: str = "containerspecs", **labels: str) -> int:
        """How many requests the API server has finished for a resource since its start.

        Labels are those of `apiserver_request_total`: `verb="PATCH"`, `subresource="status"`, `code="200"`, …
        A watch counts (as verb WATCH) when it ends.
        """
        wanted = {"resource": resource, **labels}
        total = 0.0
        for line in self.get("/metrics").decode().splitlines():
            if line.startswith("apiserver_request_total{"):
                have = dict(re.findall(r'(\w+)="([^"]*)"', line))
                if all(have.get(name) == value for name, value in wanted.items()):
                    total += float(line.rsplit(" ", 1)[1])
        return int(total)

    def compact_etcd(self) -> int:
        """Compact etcd's history up to now, and return that revision.

        The API server's watch cache still knows the past: restart it, and an old watch gets 410 Gone.
        """
        revision = int(self._etcd("/v3/kv/range", {"key": "AA=="})["header"]["revision"])
        self._etcd("/v3/kv/compaction", {"revision": str(revision), "physical": True})
        return revision

    # ------------------------------------------------------------ how they are started
    def _etcd(self, path: str, body: Mapping[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._etcd_port}{path}", data=json.dumps(body).encode(), method="POST"
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return json.load(answer)

    def _etcd_ready(self) -> bool:
        try:
            self._etcd("/v3/kv/range", {"key": "AA=="})
        except (OSError, urllib.error.URLError):
            return False
        return True

    def _etcd_arguments(self) -> list[str | Path]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        return [
            shutil.which("etcd") or "/usr/bin/etcd",
            "--name=oarlock",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=oarlock={peer}",
            # A leader at once; the defaults (100 ms, 1 s) are for members across a network.
            "--heartbeat-interval=50",
            "--election-timeout=500",
            # It is killed at most, and what was written lasts then; nobody needs it after a loss of power.
            "--unsafe-no-fsync",
            "--logger=zap",
            "--log-outputs=stderr",
        ]

    def _api_arguments(self) -> list[str | Path]:
        return [
            binary("kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder / 'certificates'}",
            f"--tls-cert-file={self.ca_file}",
            f"--tls-private-key-file={self.key_file}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.ca_file}",
            f"--service-account-signing-key-file={self.key_file}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--allow-privileged=true",
            "--endpoint-reconciler-type=none",
            "--profiling=false",
        ]

    def _write_tokens(self) -> None:
        rows = [f'{self.tokens[user]},{user},{user},"{groups}"\n' for user, groups in USERS.items()]
        path = self.folder / "tokens.csv"
        path.write_text("".join(rows))
        path.chmod(0o600)

    def _make_keys(self) -> None:
        """One self-signed certificate for 127.0.0.1; its key signs ServiceAccount tokens too."""
        subject = "/CN=oarlock test control plane"
        files = ["-keyout", str(self.key_file), "-out", str(self.ca_file)]
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
        names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        usage = ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
        subprocess.run(
            ["openssl", "req", "-x509", "-days", "30", "-subj", subject, *key, *names, *usage, *files],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
        )
