"""The server: routes, headers, start and stop."""
