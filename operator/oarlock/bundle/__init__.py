"""From a ContainerSpec to an OCI bundle: root filesystem, user, seccomp profile and config.json."""
