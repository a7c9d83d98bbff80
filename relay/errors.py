"""Every error relay raises on purpose.

    RelayError
    ├── ConfigError             the configuration is wrong; a person must change it
    ├── PayloadError            a body or an event cannot be understood
    ├── DoorBlocked             an address cannot be listened on
    └── StoreError              the data directory does not serve
        ├── StoreBusy           another process uses it
        ├── StoreFull           it can take nothing now; try again later
        │   └── StoreLocked     another process is writing
        ├── StoreFailed         a write or sync failed; nothing since is to be trusted
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


class SchemaTooNew(StoreError):
    """A later version of relay wrote this database."""
