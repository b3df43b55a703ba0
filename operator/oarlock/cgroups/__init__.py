"""Where processes live: control groups."""
