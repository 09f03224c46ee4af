"""Student and teacher of `objective.name: distill`, put together."""
