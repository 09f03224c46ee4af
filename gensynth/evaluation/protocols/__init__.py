"""What published numbers depended on, and evaluations that follow it."""
