"""Measurements, one file a question, each beside its floor or a peer in the same run."""
