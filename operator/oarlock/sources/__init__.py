"""Where desired state comes from, and where status goes."""
