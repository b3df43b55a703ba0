"""Tests against a real etcd and kube-apiserver, and the parts that start them."""
