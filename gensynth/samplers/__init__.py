"""From noise to data: paths, integrators, guidance, masking, decoders, and the walk over them."""
