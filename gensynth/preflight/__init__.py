"""What can be refused before anything heavy is imported: `cli` asks here first.

What is imported later has the last word; here only what is certain is refused.
"""
