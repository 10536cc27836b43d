"""The HTTP face on Ray Serve."""
