"""What is said between a process and the launcher that starts its supervisors.

A call is one packet with the path of a control folder; the answer is one of the two below.
"""

STARTED = b"1"
"""The supervisor is there."""
FAILED = b"0"
"""It is not; why stands in the folder's complaints."""
LONGEST_CALL = 65536
"""Bytes."""
