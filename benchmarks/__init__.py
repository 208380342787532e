"""Benchmarks: each runs as `python -m benchmarks.NAME [--quick]` and ends in one line of JSON."""
