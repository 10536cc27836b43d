"""What a task is, and the durable queue that carries each one to exactly one end."""
