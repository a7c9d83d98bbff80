"""Every error relay raises on purpose; the stand-ins and the demo have their own.

    RelayError
    ├── ConfigError             the configuration is wrong; the operator must change it
    ├── PayloadError            a body or an event cannot be understood
    ├── DoorBlocked             an address cannot be listened on
    ├── NotFound                what an operation names does not exist
    ├── Conflict                an operation cannot be done in the present state
    ├── CommandFailed           a command cannot do what it was asked
    │   └── NoDaemon            it needs a daemon, and none runs where the configuration says
    ├── FileRejected            a downloaded or given file is not what it should be
    ├── UpstreamError           a service did not do what it was asked
    │   ├── UpstreamRefused     it refuses our keys or our request; the operator must act
    │   ├── UpstreamUnknown     it does not know what we name: gone, expired, never there
    │   └── UpstreamUnavailable it cannot now; try again later
    │       ├── UpstreamBusy    too many requests: it did not even begin
    │       ├── ExportBusy      OneSignal makes another export of the account
    │       └── ExportNotReady  the export's file is not there yet, or no longer
    └── StoreError              the data directory cannot be used
        ├── StoreBusy           another process uses it
        ├── StoreFull           it can store nothing now; try again later
        │   └── StoreLocked     another process is writing
        ├── StoreFailed         a write or sync failed; nothing since can be trusted
        │   └── StoreDamaged    what is on disk is not what was written; the next start recovers it
        └── SchemaTooNew        a later relay wrote it

A class says who can act on the error; attributes, not texts, carry what code needs.
Expected answers to an upload are values (`relay.amplitude.verdicts`), never exceptions.
"""

from collections.abc import Sequence


class RelayError(Exception):
    """Something went wrong that relay expects and explains."""


class ConfigError(RelayError):
    """The configuration is wrong.

    Attributes:
        mistakes: One sentence per mistake: the variable, what was given (never a
            secret), what is wanted.
    """

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class PayloadError(RelayError):
    """A body or one of its events cannot be understood.

    Attributes:
        reason: A stable word for counting and filtering (`unknown_kind`, …).
        detail: A sentence for the operator, without any value of the body.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class DoorBlocked(RelayError):
    """An address cannot be listened on: it is in use, or not of this machine."""


class NotFound(RelayError):
    """The thing an operation names does not exist."""


class Conflict(RelayError):
    """An operation cannot be done in the present state; the text says what stands against it."""


class CommandFailed(RelayError):
    """A command cannot do what it was asked; the text says why."""


class NoDaemon(CommandFailed):
    """No relay runs where the configuration says, and the command needs one."""


class FileRejected(RelayError):
    """A file is not what it should be; nothing of it may be applied.

    Attributes:
        reason: A stable word (`truncated`, `wrong_columns`, `not_csv`, …).
        detail: A sentence for the operator, without any value of the file.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class UpstreamError(RelayError):
    """A service did not do what it was asked; the text contains no key and no user id."""


class UpstreamRefused(UpstreamError):
    """The service refuses our keys or our request; a retry will not help."""


class UpstreamUnknown(UpstreamError):
    """The service does not know what we name: it is gone, expired, or never existed."""


class UpstreamUnavailable(UpstreamError):
    """The service cannot do it now: unreachable, too slow, too busy, broken.

    Attributes:
        retry_after_s: The wait it asked for, None if it asked for none.
    """

    def __init__(self, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class UpstreamBusy(UpstreamUnavailable):
    """The service refused for too many requests, ours or others'; nothing was started."""


class ExportBusy(UpstreamUnavailable):
    """OneSignal makes another export of the account; it makes one at a time."""


class ExportNotReady(UpstreamUnavailable):
    """The file of an export is not there yet, or no longer."""


class StoreError(RelayError):
    """The data directory cannot be used."""


class StoreBusy(StoreError):
    """Another process uses the data directory."""


class StoreFull(StoreError):
    """The store can take nothing now; what it holds is intact."""


class StoreLocked(StoreFull):
    """Another process holds the database; nothing is wrong with the disk."""


class StoreFailed(StoreError):
    """A write or sync failed; nothing written since may be acknowledged."""


class StoreDamaged(StoreFailed):
    """What is on disk is not what was written; the next start recovers what it can."""


class SchemaTooNew(StoreError):
    """A later version of relay wrote this database."""
