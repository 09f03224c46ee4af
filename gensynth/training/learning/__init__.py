"""A batch in, a step of the weights out."""
