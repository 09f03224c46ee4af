"""From any source of images to uint8 batches with labels, in an order that can be resumed."""
