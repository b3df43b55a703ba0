"""ContainerSpec: what a user writes, and the status oarlock writes back."""
