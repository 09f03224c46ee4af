"""Building blocks that more than one backbone uses."""
