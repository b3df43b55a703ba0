"""oarlock's tests: unit (no root), node (real conmon and runc), cluster (real kube-apiserver)."""
