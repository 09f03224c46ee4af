"""Our numbers compared with published ones, and with those of other programs."""
