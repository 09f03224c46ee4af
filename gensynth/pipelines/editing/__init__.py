"""Pictures that are drawn anew in part."""
