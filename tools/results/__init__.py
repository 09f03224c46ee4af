"""The parts of `tools/results.py`."""
