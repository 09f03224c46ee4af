"""What was measured, for people and programs."""
