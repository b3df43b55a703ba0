"""One container on this node, through conmon and an OCI runtime."""
