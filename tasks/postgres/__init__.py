"""The durable store of tasks in a PostgreSQL database, for servers on several machines."""
