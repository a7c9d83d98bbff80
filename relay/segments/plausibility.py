"""Whether a downloaded file can be the cohort that Amplitude lists."""

from typing import Final

from relay.errors import FileRejected

_SLACK_ROWS: Final = 10
_SLACK_SHARE: Final = 5
"""One in so many."""


def check_size(*, rows: int, listed: int) -> None:
    """Accept a file about as long as Amplitude says the cohort is large.

    A cut or mixed-up file must not empty a segment, but an honest one need not fit exactly:
    Amplitude recomputes a dynamic cohort between the listing and the export, and people come and
    go meanwhile. A fifth is far more than they move in minutes, and ten rows keep a small cohort
    from failing for two or three; a file cut in half is always found. Too many rows are as
    suspect as too few: they are another cohort's.

    Args:
        rows: Distinct ids in the file and rows without one.
        listed: The size in Amplitude's list.

    Raises:
        FileRejected: `no_members`, if the file is empty and the cohort is not; `size_mismatch`,
            if it is off by more than a fifth and by more than ten rows.
    """
    if rows == 0 and listed > 0:
        detail = f"The file has no members, but Amplitude lists {listed}."
        raise FileRejected("no_members", detail)
    if abs(rows - listed) > max(_SLACK_ROWS, listed // _SLACK_SHARE):
        detail = f"The file has {rows} members, but Amplitude lists {listed}; that is too far off."
        raise FileRejected("size_mismatch", detail)
