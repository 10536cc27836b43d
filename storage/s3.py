"""Objects in a bucket of an S3 server; `AWS_*` variables give credentials, region and endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import obstore
from obstore import exceptions as refused
from obstore.store import S3Store as Bucket

from storage.errors import AlreadyExists, ObjectNotFound, StorageUnavailable
from storage.objects import CHUNK, Body, ObjectInfo, check_range, pieces_of
from storage.paths import check_key

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta

    from storage.multiparts import Multiparts

_PART = 16 * CHUNK
_MAX_PARTS = 9_000
_DELETED_TOGETHER = 1000
_PARTS_AT_ONCE = 4


class S3Store:
    """Every object is the one of its key below `prefix` in the bucket."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self._name, self._prefix = bucket, prefix
        with _told(self.uri):
            # The endpoint is the operator's choice; one without TLS is usual inside a site.
            # The library tries each request again for a minute at most; longer troubles are for `Retries`.
            self._bucket = Bucket(
                bucket,
                prefix=prefix or None,
                client_options={"allow_http": True, "timeout": timedelta(minutes=5)},
                retry_config={"max_retries": 5, "retry_timeout": timedelta(minutes=1)},
            )

    def put(self, key: str, data: Body, *, create: bool = False, size: int | None = None) -> None:
        """Store an object; see `ObjectStore.put`.

        A `create` takes its body into memory whole, for only a single request can be conditional.
        """
        check_key(key)
        pieces = iter(pieces_of(data))
        part = max(_PART, (size or 0) // _MAX_PARTS)
        head: list[bytes] = []
        length = 0
        for piece in pieces:
            head.append(piece)
            length += len(piece)
            if length > part and not create:
                self._put_parts(key, _Noted(chain(head, pieces)), part)
                return
        with _told(key), _told_of_bucket(self.uri):
            whole = b"".join(head)
            obstore.put(self._bucket, key, whole, mode="create" if create else "overwrite", use_multipart=False)

    def _put_parts(self, key: str, body: _Noted, part: int) -> None:
        try:
            with _told(key), _told_of_bucket(self.uri):
                obstore.put(self._bucket, key, iter(body), chunk_size=part, max_concurrency=_PARTS_AT_ONCE)
        except Exception:
            if body.error is not None:
                raise body.error from None
            raise

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object; see `ObjectStore.get`."""
        return b"".join(self.stream(key, start, length, chunk=16 * CHUNK))

    def stream(self, key: str, start: int = 0, length: int | None = None, *, chunk: int = CHUNK) -> Iterator[bytes]:
        """Give bytes of an object in pieces; see `ObjectStore.stream`."""
        check_range(start, length)
        return _received(key, self._open(check_key(key), start, length), chunk)

    def _open(self, key: str, start: int, length: int | None) -> GetResult | None:
        """Return the answer that holds a range; None when the object has nothing there."""
        options: GetOptions = {}
        if length is not None:
            # A range of no bytes cannot be asked for; one byte tells whether the object is there.
            options["range"] = (start, start + max(length, 1))
        elif start > 0:
            options["range"] = {"offset": start}
        try:
            with _told(key):
                answer = obstore.get(self._bucket, key, options=options)
        except StorageUnavailable:
            # Servers refuse a range that begins behind the end; for us it is an empty one.
            found = self.head(key) if options else None
            if found is not None and found.size <= start:
                return None
            raise
        return None if length == 0 else answer

    def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object."""
        try:
            with _told(check_key(key)):
                found = obstore.head(self._bucket, key)
        except ObjectNotFound:
            return None
        return ObjectInfo(key=key, size=found["size"], modified=found["last_modified"])

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Give the objects below a prefix; see `ObjectStore.list`."""
        with _told(prefix):
            below = check_key(prefix) if prefix else None
            stream: Iterator[Sequence[ObjectMeta]] = iter(obstore.list(self._bucket, below))
        while True:
            with _told(prefix):
                batch = next(stream, None)
            if batch is None:
                return
            for item in batch:
                # Folder markers that other tools leave are no objects of ours.
                if not item["path"].endswith("/"):
                    yield ObjectInfo(key=item["path"], size=item["size"], modified=item["last_modified"])

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; absent ones are fine."""
        todo = [check_key(key) for key in keys]
        for i in range(0, len(todo), _DELETED_TOGETHER):
            with _told(todo[i]):
                obstore.delete(self._bucket, todo[i : i + _DELETED_TOGETHER])

    def sign_get(self, key: str, seconds: int) -> str:
        """Return a URL that gives the object to whoever holds it."""
        with _told(check_key(key)):
            return str(obstore.sign(self._bucket, "GET", key, timedelta(seconds=seconds)))

    def multiparts(self) -> Multiparts:
        """Return how parts of an object are uploaded past us."""
        return self._multiparts

    @cached_property
    def _multiparts(self) -> Multiparts:
        # Late, for it brings boto3 into the process.
        from storage.s3_multiparts import S3Multiparts

        return S3Multiparts(self._name, self._prefix)


class _Noted:
    """Pieces that note the error they raise, for the library in between may change it."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        except Exception as error:
            self.error = error
            raise


def _received(key: str, answer: GetResult | None, chunk: int) -> Iterator[bytes]:
    if answer is None:
        return
    stream = iter(answer.stream(min_chunk_size=chunk))
    while True:
        with _told(key):
            piece = next(stream, None)
        if piece is None:
            return
        yield bytes(piece)


@contextmanager
def _told(key: str) -> Iterator[None]:
    """Tell what the server refused in the storage's words."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectNotFound(f"There is no object {key}.") from error
    except refused.AlreadyExistsError as error:
        raise AlreadyExists(f"{key} is already there.") from error
    except (refused.PermissionDeniedError, refused.UnauthenticatedError) as error:
        raise StorageUnavailable(
            f"the storage refuses us at {key}.", fix="Check the AWS_* credentials and the bucket's policy."
        ) from error
    except (refused.BaseError, OSError) as error:
        # Only the first line: the rest is the library's own state.
        raise StorageUnavailable(f"the storage failed at {key}: {str(error).splitlines()[0][:500]}") from error


@contextmanager
def _told_of_bucket(uri: str) -> Iterator[None]:
    """Tell of a write what only a missing bucket can mean."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageUnavailable(f"the bucket of {uri} does not exist.", fix="Create it, or name another.") from error
