"""One table of name rules for each family of published checkpoints."""
