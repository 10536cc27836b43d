"""The schema of the database, as numbered steps that are applied in order and never changed afterwards."""
