"""What `benchmarks/text.py` trains, how it is measured, and the table in docs/text.md."""
