"""Errors that users of the SDK meet: one class per kind of failure, the same names as in the server."""

from __future__ import annotations

from collections.abc import Mapping


class Error(Exception):
    """Tells of a refusal or failure that the caller can act on.

    `reason` is the name of an errors.v1.ErrorReason without its prefix ("" where the SDK itself refuses);
    `metadata` holds what the message mentions, as text; `retry_delay_s` is set where a repeat after that pause
    may succeed.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_delay_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.retry_delay_s = retry_delay_s


class InvalidArgument(Error, ValueError):
    """The request is wrong whatever the state; a repeat is of no use."""


class NotFound(Error):
    """What the request names does not exist."""


class AlreadyExists(Error):
    """What the request wants to make exists."""


class FailedPrecondition(Error):
    """The request does not fit the state that things are in."""


class Aborted(Error):
    """A concurrent change came first; read again and repeat."""


class ResourceExhausted(Error):
    """A limit is reached; with retry_delay_s set, a later repeat may pass."""


class Unavailable(Error):
    """The server, or a store behind it, does not answer now; repeat later."""


class Unauthenticated(Error):
    """The caller is not known."""


class PermissionDenied(Error):
    """The caller is known and may not."""


class DataLoss(Error):
    """Stored data cannot be read back as it was written."""


class ContentMismatch(DataLoss, ValueError):
    """Files are not what their artifact says; the message names them."""


class WaitTimeout(Error, TimeoutError):
    """What was waited for has not come in the time that was given; it may come later."""


class Internal(Error):
    """The server has a bug; `metadata["request_id"]` finds it in its log."""


class UsageError(Error):
    """The SDK was called in a way that cannot work; the message says what to do instead."""


class NotOffered(UsageError, NotImplementedError):
    """This version does not offer it, and passing over the call would lose something."""


CommError = Unavailable
"""The name that scripts written for wandb catch."""

CLASS_BY_CODE: Mapping[str, type[Error]] = {
    "invalid_argument": InvalidArgument,
    "out_of_range": InvalidArgument,
    "not_found": NotFound,
    "already_exists": AlreadyExists,
    "failed_precondition": FailedPrecondition,
    "aborted": Aborted,
    "resource_exhausted": ResourceExhausted,
    "unavailable": Unavailable,
    "deadline_exceeded": Unavailable,
    "unauthenticated": Unauthenticated,
    "permission_denied": PermissionDenied,
    "data_loss": DataLoss,
    "internal": Internal,
    "unknown": Internal,
    "unimplemented": NotOffered,
}
"""Which class stands for which gRPC status, by the status's lower-case name."""

CLASS_BY_REASON: Mapping[str, type[Error]] = {
    "FIELD_INVALID": InvalidArgument,
    "FIELD_TOO_LARGE": InvalidArgument,
    "RUN_NOT_FOUND": NotFound,
    "PROJECT_NOT_FOUND": NotFound,
    "FILE_NOT_FOUND": NotFound,
    "RUN_ALREADY_EXISTS": AlreadyExists,
    "RUN_DELETED": FailedPrecondition,
    "REQUEST_ID_REUSED": AlreadyExists,
    "ARTIFACT_NOT_FOUND": NotFound,
    "ARTIFACT_TYPE_MISMATCH": FailedPrecondition,
    "FILE_CONTENT_MISMATCH": FailedPrecondition,
    "FILE_CHANGED": FailedPrecondition,
    "DISK_FULL": ResourceExhausted,
    "CREDENTIALS_MISSING": Unauthenticated,
    "ORIGIN_NOT_ALLOWED": PermissionDenied,
}
"""Which class stands for a reason that comes without a status (run.json)."""


def error_of(
    code: str,
    message: str,
    *,
    reason: str = "",
    metadata: Mapping[str, str] | None = None,
    retry_delay_s: float | None = None,
) -> Error:
    """Returns the error for a gRPC status name ("not_found") with its reason; an unknown name gives Internal."""
    cls = CLASS_BY_CODE.get(code.lower()) or CLASS_BY_REASON.get(reason, Internal)
    return cls(message, reason=reason, metadata=metadata, retry_delay_s=retry_delay_s)
