"""An experiment: read from YAML, checked, and put together once."""
