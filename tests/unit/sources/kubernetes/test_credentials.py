"""Credentials and connections: what stands in the way of them, and what they leave behind."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from kubernetes.aio.config import kube_config

from oarlock.errors import SourceUnavailable
from oarlock.sources.kubernetes.apiserver import ApiServer
from oarlock.sources.kubernetes.credentials import Place


def kubeconfig(folder: Path, server: str, **others: Any) -> Path:
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **others}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
async def page() -> AsyncIterator[str]:
    """The address of a server that answers everything with a page for people."""

    async def answer(request: web.Request) -> web.Response:
        if request.method == "CONNECT":
            return web.Response(status=407)
        assert request.headers["Authorization"] == "Bearer t"
        return web.Response(text="<html>", content_type="text/html")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize("netrc", ["", "default login admin password s3cret\n"])
async def test_a_page_for_people_is_no_api_server(
    tmp_path: Path, page: str, monkeypatch: pytest.MonkeyPatch, netrc: str
) -> None:
    """And ~/.netrc is not read: it holds no credentials of an API server."""
    (tmp_path / "netrc").write_text(netrc)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    api = ApiServer(Place(kubeconfig(tmp_path, page), in_cluster=False), quiet=True)
    with pytest.raises(SourceUnavailable, match="answers with text/html, as no API server does"):
        await api.request("GET", "/apis")
    await api.close()


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "api.example"}, None),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, None),
    ],
)
async def test_the_proxy_is_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str | None
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    access = await Place(kubeconfig(tmp_path, "https://api.example:6443"), in_cluster=False).load()
    async with access.session() as session:
        assert session._default_proxy == proxy


async def test_no_password_of_a_proxy_is_shown(tmp_path: Path, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page stands for a proxy that wants another one."""
    monkeypatch.setenv("HTTPS_PROXY", page.replace("://", "://me:s3cret@"))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    api = ApiServer(Place(kubeconfig(tmp_path, "https://api.example:6443"), in_cluster=False), quiet=True)
    with pytest.raises(SourceUnavailable) as told:
        await api.request("GET", "/apis")
    await api.close()
    assert "s3cret" not in str(told.value)
    assert page.rpartition("/")[2] in str(told.value)


async def test_a_kubeconfig_that_names_nothing_is_told(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "https://api.example")
    document = yaml.safe_load(path.read_text())
    document["users"].append({"user": {}})
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(SourceUnavailable, match=f"{path} cannot be used: "):
        await Place(path, in_cluster=False).load()


async def test_a_kubeconfig_can_be_read_again_when_somebody_has_tidied_tmp_up(tmp_path: Path) -> None:
    """What stands in the file itself is kept in files there."""
    authority = base64.b64encode(Path("/etc/ssl/certs/ca-certificates.crt").read_bytes()).decode()
    place = Place(kubeconfig(tmp_path, "https://api.example", **{"certificate-authority-data": authority}), False)
    for _ in range(2):
        assert (await place.load()).tls is not None
        assert kube_config._temp_files
        for name in kube_config._temp_files.values():
            os.unlink(name)
