"""Desired state from the Kubernetes API, and status back to it.

kopf watches, in a thread and event loop of its own (`watching`): it ends itself in a dozen ways, and takes
with it every task of the loop it lives in. Only raw events cross over. What kopf cannot tell (that a list is
complete, what vanished while nobody looked) we find with a LIST of our own (`listing`). Everything that
arrives goes through one inventory (`inventory`), which knows the newest version of each object and so drops
what is stale or nothing new. Finalizers and statuses go out as JSON patches that test the object's uid
(`finalizers`, `statuses`, `patches`), through one pool of connections (`apiserver`).

`source.KubernetesSource` holds it together; `client` is what the command line uses. This file imports
nothing: kopf costs half a second.
"""
