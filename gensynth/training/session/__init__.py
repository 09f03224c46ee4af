"""What a session leaves on disk, and how it ends."""
