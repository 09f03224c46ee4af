"""What a folder or tar holds: pictures, their classes, and what was left out and why."""
