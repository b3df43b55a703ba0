"""oarlock measured beside its floor: conmon and runc driven by hand. `python -m benchmarks`; see docs/benchmarks.md."""
