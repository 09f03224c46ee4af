"""How pictures larger than those a model was trained on are drawn: one file a strategy."""
