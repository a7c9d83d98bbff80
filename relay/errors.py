"""Every error relay raises on purpose.

    RelayError
    ├── ConfigError             the configuration is wrong; a person must change it
    ├── PayloadError            a body or an event cannot be understood
    ├── DoorBlocked             an address cannot be listened on
    ├── NotFound                what an operation names does not exist
    ├── Conflict                an operation cannot be done in the present state
    ├── FileRejected            a downloaded or handed-in file is not what it should be
    ├── UpstreamError           a service did not do what it was asked
    │   ├── UpstreamRefused     it does not accept our keys or what we ask; a person must act
    │   ├── UpstreamUnknown     it does not know what we name: gone, expired, never there
    │   └── UpstreamUnavailable it cannot now; try again later
    │       ├── UpstreamBusy    too many requests: it did not even begin
    │       ├── ExportBusy      OneSignal makes another export of the account
    │       └── ExportNotReady  the export's file is not there yet, or no longer
    └── StoreError              the data directory does not serve
        ├── StoreBusy           another process uses it
        ├── StoreFull           it can take nothing now; try again later
        │   └── StoreLocked     another process is writing
        ├── StoreFailed         a write or sync failed; nothing since is to be trusted
        │   └── StoreDamaged    what is on disk is not what was written; the next start mends it
        └── SchemaTooNew        a later relay wrote it

A class says who can act on the error; attributes, not texts, carry what code needs.
Expected answers of Amplitude are values (`relay.amplitude.verdicts`), never exceptions.
"""

from collections.abc import Sequence


class RelayError(Exception):
    """Something relay foresees went wrong."""


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
        detail: A sentence for a person; holds no value taken from the body.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class DoorBlocked(RelayError):
    """An address cannot be listened on: it is taken, or not this machine's."""


class NotFound(RelayError):
    """The thing an operation names does not exist."""


class Conflict(RelayError):
    """An operation cannot be done in the present state; the text says what stands against it."""


class FileRejected(RelayError):
    """A file is not what it should be; nothing of it may be applied.

    Attributes:
        reason: A stable word (`truncated`, `wrong_columns`, `not_csv`, …).
        detail: A sentence for a person; holds no value taken from the file.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class UpstreamError(RelayError):
    """A service did not do what it was asked; the text holds no key and no user's id."""


class UpstreamRefused(UpstreamError):
    """The service does not accept our keys or what we ask; asking again will not help."""


class UpstreamUnknown(UpstreamError):
    """The service does not know what we name: it is gone, has expired, or never was."""


class UpstreamUnavailable(UpstreamError):
    """The service cannot do it now: unreachable, too slow, too busy, broken.

    Attributes:
        retry_after_s: What it asked us to wait, None if it did not say.
    """

    def __init__(self, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class UpstreamBusy(UpstreamUnavailable):
    """The service turned us away as we, or others, ask too much; nothing was begun."""


class ExportBusy(UpstreamUnavailable):
    """OneSignal makes another export of the account; it makes one at a time."""


class ExportNotReady(UpstreamUnavailable):
    """The file of an export is not there yet, or no longer."""


class StoreError(RelayError):
    """The data directory does not serve."""


class StoreBusy(StoreError):
    """Another process uses the data directory."""


class StoreFull(StoreError):
    """The store can take nothing now; what it holds is whole."""


class StoreLocked(StoreFull):
    """Another process holds the database; nothing is wrong with the disk."""


class StoreFailed(StoreError):
    """A write or sync failed; nothing written since may be acknowledged."""


class StoreDamaged(StoreFailed):
    """What is on disk is not what was written; the next start saves what can be saved."""


class SchemaTooNew(StoreError):
    """A later version of relay wrote this database."""
