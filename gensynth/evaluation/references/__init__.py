"""What samples are compared with."""
