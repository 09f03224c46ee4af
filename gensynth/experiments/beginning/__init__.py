"""What a run begins with, and which weights it trains."""
