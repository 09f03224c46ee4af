"""Features, and numbers from them."""
