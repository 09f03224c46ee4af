"""What `counting` counts of the named models, since counting takes most of a minute."""

COUNTED: dict[str, tuple[int, int, int, int, str]] = {}
