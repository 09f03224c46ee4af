"""What makes a pipeline draw faster without changing what it draws."""
