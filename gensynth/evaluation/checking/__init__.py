"""Whether our numbers are those of others."""
