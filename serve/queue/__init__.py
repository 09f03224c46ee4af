"""Orders, jobs, and the one thread that draws."""
