"""An object copied by an S3 server from one place to another, without its bytes coming by here."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any


def copy_within(s3: Any, source: str, path: str, headers: Mapping[str, str]) -> bytes | None:
    """Copy an object of at most 5 GB, which all of a mirror are.

    Parameters
    ----------
    s3
        Client of s3fs.
    source, path
        ``bucket/key`` of the object and of its copy.
    headers
        What S3 answers with the copy, by the names of its API; those of the object are dropped.

    Returns
    -------
    bytes or None
        SHA-256 of the copy; None where the server does not make one.
    """
    (from_bucket, _, from_key), (bucket, _, key) = source.partition("/"), path.partition("/")
    answer = s3.call_s3(
        "copy_object",
        Bucket=bucket,
        Key=key,
        CopySource={"Bucket": from_bucket, "Key": from_key},
        MetadataDirective="REPLACE",
        ChecksumAlgorithm="SHA256",
        **headers,
    )
    digest = answer.get("CopyObjectResult", {}).get("ChecksumSHA256")
    return b64decode(digest) if digest else None
