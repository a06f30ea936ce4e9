"""Operating errors: what went wrong, for whom, and what to do; translated to gRPC statuses in rpc.errors only."""

from __future__ import annotations

from collections.abc import Mapping


class DomainError(Exception):
    """Tells of a refusal or a failure that a caller can act on.

    `reason` is the name of an errors.v1.ErrorReason without its prefix; `metadata` holds all that the message
    mentions, as text; `retry_delay_s` is set where a repeat after that pause may succeed.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, object] | None = None,
        retry_delay_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}
        self.retry_delay_s = retry_delay_s


class InvalidArgument(DomainError):
    """The request is wrong whatever the state; a repeat is of no use."""


class NotFound(DomainError):
    """What the request names does not exist."""


class AlreadyExists(DomainError):
    """What the request wants to make exists."""


class FailedPrecondition(DomainError):
    """The request does not fit the state that things are in."""


class Aborted(DomainError):
    """A concurrent change came first; read again and repeat."""


class ResourceExhausted(DomainError):
    """A limit is reached; with retry_delay_s set, a later repeat may pass."""


class Unavailable(DomainError):
    """A store or service does not answer now; repeat later."""


class Unauthenticated(DomainError):
    """The caller is not known."""


class PermissionDenied(DomainError):
    """The caller is known and may not."""


class DataLoss(DomainError):
    """Stored data cannot be read back as it was written."""


class DeadlineExceeded(DomainError):
    """The call took longer than it may; what it began may still happen."""


class Unimplemented(DomainError):
    """There is no such method here."""


class Internal(DomainError):
    """A bug of a server; the request id in the metadata finds it in that server's log."""


class StartRefused(Exception):
    """The process cannot start as things are; the message says why and what to do. Never sent to a caller."""
