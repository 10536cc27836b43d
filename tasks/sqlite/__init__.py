"""The durable store of tasks in one SQLite file."""
