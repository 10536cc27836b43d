"""Programs that run in the environments of other task queues, one for each queue."""
