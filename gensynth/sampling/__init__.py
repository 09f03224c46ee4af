"""Many pictures: `generate` makes them, `outputs` writes them."""
