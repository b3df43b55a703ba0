"""`python -m tests.cluster`: a control plane to play with by hand, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

from tests.cluster.binaries import folder
from tests.cluster.control_plane import ControlPlane
from tests.cluster.serving import CRD


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Start it, apply the CRD, say how to use it, and wait."""
    signal.signal(signal.SIGTERM, _terminate)
    began = time.monotonic()
    print("starting etcd and kube-apiserver …", file=sys.stderr)
    try:
        with ControlPlane() as cluster:
            if CRD.exists():
                cluster.apply_crd(CRD)
            print(
                f"ready in {time.monotonic() - began:.1f} s at {cluster.url}; logs in {cluster.folder}",
                file=sys.stderr,
            )
            print("In another terminal (Ctrl-C here ends the cluster and removes its data):", file=sys.stderr)
            print(f"export KUBECONFIG={cluster.kubeconfig()} PATH={folder()}:$PATH", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("\nended", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
