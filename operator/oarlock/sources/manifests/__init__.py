"""A directory of manifests as the source of desired state: one node, no cluster.

`reader`, `documents` and `nodes` turn a file into documents; `claims` judges each of them; `catalog`
decides what the whole directory asks for; `watching` says what happened; `source` drives them all.
"""
