"""The node as a whole: its configuration, its operator, its readiness."""
