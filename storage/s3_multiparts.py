"""Signed uploads in parts on an S3 server; this module alone uses boto3."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import boto3.session
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from storage.errors import ObjectNotFound, StorageUnavailable
from storage.multiparts import StoredPart
from storage.paths import check_key

_GONE = {"NoSuchKey", "NoSuchUpload", "NotFound", "404", "PreconditionFailed", "412"}


class S3Multiparts:
    """The uploads in parts of one bucket, below a prefix."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        # Checksums only where required: a signed URL must not demand a header that its holder cannot know, and servers
        # other than AWS refuse them. The bytes are verified by their SHA-256 in any case.
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "max_attempts": 3},
            connect_timeout=10,
        )
        # A session of our own, for the default one keeps the first credentials it saw; and of the two usual variables
        # for the region boto3 reads only AWS_DEFAULT_REGION.
        self._client: Any = boto3.session.Session().client(
            "s3", region_name=os.environ.get("AWS_REGION"), config=config
        )

    def sign_put(self, key: str, seconds: int) -> str:
        """Return a URL that takes a whole object."""
        return self._sign("put_object", seconds, **self._at(key))

    def sign_part(self, key: str, upload: str, number: int, seconds: int) -> str:
        """Return a URL that takes one part."""
        return self._sign("upload_part", seconds, **self._at(key), UploadId=upload, PartNumber=number)

    def find(self, key: str) -> str | None:
        """Return the newest upload in parts that was begun for a key."""
        found = [(begun, upload) for at, upload, begun in self.begun(key) if at == key]
        return max(found)[1] if found else None

    def begin(self, key: str) -> str:
        """Begin an upload in parts and return its id."""
        with _told(key):
            return str(self._client.create_multipart_upload(**self._at(key))["UploadId"])

    def parts(self, key: str, upload: str) -> dict[int, StoredPart]:
        """Return the parts that have arrived, by number."""
        with _told(key):
            pages = self._client.get_paginator("list_parts").paginate(**self._at(key), UploadId=upload)
            return {
                part["PartNumber"]: StoredPart(etag=part["ETag"], size=part["Size"])
                for page in pages
                for part in page.get("Parts", [])
            }

    def finish(self, key: str, upload: str, etags: Mapping[int, str]) -> None:
        """Make one object of the parts."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(etags.items())]
        with _told(key):
            self._client.complete_multipart_upload(**self._at(key), UploadId=upload, MultipartUpload={"Parts": parts})

    def abort(self, key: str, upload: str) -> None:
        """Drop an upload and its parts; an unknown one is fine."""
        try:
            with _told(key):
                self._client.abort_multipart_upload(**self._at(key), UploadId=upload)
        except ObjectNotFound:
            return

    def begun(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Give key, upload and start of every upload below a prefix, or at it."""
        with _told(prefix):
            asked = self._client.get_paginator("list_multipart_uploads")
            for page in asked.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for upload in page.get("Uploads", []):
                    yield upload["Key"].removeprefix(self._prefix), upload["UploadId"], upload["Initiated"]

    def etag(self, key: str) -> str | None:
        """Return what changes when the object changes."""
        try:
            with _told(key):
                return str(self._client.head_object(**self._at(key))["ETag"])
        except ObjectNotFound:
            return None

    def copy(self, source: str, target: str, etag: str) -> None:
        """Copy an object inside the storage, provided that it still has this etag."""
        with _told(source):
            self._client.copy(
                self._at(source),
                **self._at(target),
                ExtraArgs={"CopySourceIfMatch": etag},
                Config=TransferConfig(max_concurrency=4),
            )

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}

    def _sign(self, operation: str, seconds: int, **parameters: Any) -> str:
        with _told(parameters["Key"]):
            return str(self._client.generate_presigned_url(operation, Params=parameters, ExpiresIn=seconds))


@contextmanager
def _told(key: str) -> Iterator[None]:
    """Tell what the server refused in the storage's words."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        if code in _GONE:
            raise ObjectNotFound(f"There is no such object or upload: {key}.") from error
        raise StorageUnavailable(f"the storage failed at {key}: {code}.") from error
    except BotoCoreError as error:
        raise StorageUnavailable(f"the storage failed at {key}: {type(error).__name__}.") from error
