"""What must outlive the operator, on disk."""
