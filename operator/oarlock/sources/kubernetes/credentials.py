"""Where the API server is and who we are there, from a kubeconfig or from the pod's service account.

kubernetes.aio reads both (with exec plugins, OIDC, token files); its configuration is turned into an aiohttp
session here, the same for kopf and for our own requests, so that proxies, certificates and timeouts of the
connection are alike. A status patch through kubernetes.aio's generated API costs twice the CPU.

Nothing here puts a token into a message: the loader's own errors can quote the file, so they are cut.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, kube_config, load_incluster_config, load_kube_config

from oarlock import __version__
from oarlock.errors import SourceUnavailable

USER_AGENT = f"oarlock/{__version__}"

_IDLE = 80.0
"""Seconds a connection is kept for the next request; the API server closes idle ones after 90."""
_CONNECTIONS = 4
"""At one time: each costs a TLS handshake and 128 KiB, and bears 200 patches a second."""

_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 25_000),
)
"""The kernel finds a peer that vanished without a word within 25 s, also under a silent watch."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the credentials are read from: a kubeconfig file, or the service account of this pod."""

    kubeconfig: Path | None
    in_cluster: bool

    def __str__(self) -> str:
        return str(self.kubeconfig) if self.kubeconfig is not None else "the service account"

    async def load(self) -> Access:
        """Read it anew, token files and certificates too.

        Raises:
            SourceUnavailable: it is missing or cannot be used; the message names the file.
        """
        configuration = Configuration()
        _forget_removed_files()
        try:
            if self.kubeconfig is not None:
                if not self.kubeconfig.is_file():
                    raise SourceUnavailable(f"{self.kubeconfig}: there is no such kubeconfig file")
                await load_kube_config(  # type: ignore[no-untyped-call]
                    str(self.kubeconfig), client_configuration=configuration, persist_config=False
                )
            else:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            return Access(configuration, _tls(configuration), _peer(configuration))
        except (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, AttributeError, LookupError) as error:
            raise SourceUnavailable(f"{self} cannot be used: {_without_secrets(error)}") from None


@dataclass(frozen=True, slots=True)
class Access:
    """One reading of the credentials, ready for connections.

    Attributes:
        peer: a digest of all that makes a connection: address, proxy and the certificates' contents.
    """

    configuration: Configuration = field(repr=False)
    tls: ssl.SSLContext | None = field(repr=False)
    peer: bytes = field(repr=False)

    @property
    def server(self) -> str:
        return str(self.configuration.host).rstrip("/")

    async def authorization(self) -> dict[str, str]:
        """The header of a request now; a service account's token is read again each minute.

        Raises:
            SourceUnavailable: the token cannot be read.
        """
        try:
            token = await self.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        except (ConfigException, OSError) as error:
            raise SourceUnavailable(f"the token cannot be read: {_without_secrets(error)}") from None
        return {"Authorization": token.strip()} if token else {}

    def same_connection(self, other: Access) -> bool:
        """Whether connections made for the other can bear this one's requests: at most the token differs."""
        return self.peer == other.peer

    def session(
        self, *, headers: dict[str, str] | None = None, traces: Sequence[aiohttp.TraceConfig] = ()
    ) -> aiohttp.ClientSession:
        """A pool of connections of its own; to be closed by the caller, in the loop that runs now."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS,
                ssl=self.tls if self.tls is not None else True,
                keepalive_timeout=_IDLE,
                socket_factory=_socket,
            ),
            headers={"User-Agent": USER_AGENT, **(headers or {})},
            proxy=self.configuration.proxy or _proxy(self.server),
            read_bufsize=2**21,
            trace_configs=list(traces),
        )


def _proxy(server: str) -> str | None:
    """The proxy that the environment names for the server. (~/.netrc, which aiohttp reads beside it, is not ours.)"""
    url = urlsplit(server)
    return None if proxy_bypass(url.hostname or "") else getproxies().get(url.scheme)


def _forget_removed_files() -> None:
    """The loader writes what stands in a kubeconfig itself to files in /tmp, and does not see that one was removed."""
    for content, name in list(kube_config._temp_files.items()):
        if not os.path.exists(name):
            kube_config._temp_files.pop(content, None)


class _TLS(ssl.SSLContext):
    """A context for a server that may go by another name than its address (`tls-server-name`)."""

    name: str | None = None

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, **({**kwargs, "server_hostname": self.name} if self.name else kwargs))


def _tls(configuration: Configuration) -> ssl.SSLContext | None:
    """The TLS context of the server's authority and the client's certificate; None for plain HTTP."""
    if not str(configuration.host).startswith("https"):
        return None
    context = _TLS(ssl.PROTOCOL_TLS_CLIENT)
    context.name = configuration.tls_server_name
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif configuration.ssl_ca_cert:
        context.load_verify_locations(cafile=configuration.ssl_ca_cert)
    else:
        context.load_default_certs()
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    return context


def _peer(configuration: Configuration) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name in ("host", "verify_ssl", "tls_server_name", "proxy"):
        digest.update(f"{name}={getattr(configuration, name)}\n".encode())
    for name in ("ssl_ca_cert", "cert_file", "key_file"):
        path = getattr(configuration, name)
        digest.update(Path(path).read_bytes() if path else b"-")
    return digest.digest()


def _socket(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    for level, option, value in _KEEPALIVE:
        made.setsockopt(level, option, value)
    return made


def _without_secrets(error: Exception) -> str:
    """What an error of the loader says, without the pieces of the file that it may quote."""
    if isinstance(error, yaml.MarkedYAMLError):
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        return f"line {line} is not YAML: {error.problem}"
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__}: {error.filename or ''}".rstrip(": ")
    text = str(error)
    if isinstance(error, ConfigException):
        return text.split(" in ")[0] if "{" in text else text
    return f"it is no valid kubeconfig ({type(error).__name__})"
