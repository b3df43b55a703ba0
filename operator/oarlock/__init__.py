"""oarlock: a node-local Kubernetes operator that runs containers through conmon and runc.

The packages import one way only: `cli → node → sources → reconcile → {network, images, bundle,
runtime} → {cgroups, records} → linux → api → errors`.
"""

__version__ = "0.1.0"
