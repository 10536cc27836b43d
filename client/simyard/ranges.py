"""Bytes of a stored object, from one place to another, through network failures and expired addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from simyard import errors
from simyard.connection import Connection

_RENEWALS = 3


def read_object(
    connection: Connection, address: Callable[[str | None], str], start: int, length: int, stopped: Callable[[], bool]
) -> Iterator[bytes]:
    """Give `length` bytes of an object from `start` on; after a break it goes on at the byte where it stopped.

    `address` gives the object's signed URL: another one than the given one, which has expired.

    Raises:
        Damaged: the object ends too early.
        SimyardError: it cannot be read.
    """
    position, end = start, start + length
    backoff = connection.backoff()
    renewals = 0
    place: str | None = None
    while position < end and not stopped():
        place = place or address(None)
        headers = {"Range": f"bytes={position}-{end - 1}", "Accept-Encoding": "identity"}
        try:
            with connection.stream("GET", place, headers=headers) as answer:
                # A server that does not know ranges sends the object from its start.
                skip = position if answer.status_code == 200 else 0
                for chunk in answer.iter_raw():
                    if stopped():
                        return
                    if skip >= len(chunk):
                        skip -= len(chunk)
                        continue
                    wanted = chunk[skip : skip + end - position]
                    skip = 0
                    position += len(wanted)
                    backoff.reset()
                    yield wanted
                    if position >= end:
                        return
            if position < end and not backoff.pause():
                raise errors.Damaged("The stored object ends too early.", fix="Download again.")
        except errors.Unavailable:
            if not backoff.pause():
                raise
        except (errors.Unauthorized, errors.NotFound, errors.InvalidInput):
            renewals += 1
            if renewals > _RENEWALS:
                raise
            place = address(place)
