"""How commands fail."""

import pytest
import typer

from relay.cli.exit_codes import explain, run
from relay.errors import CommandFailed, ConfigError, RelayError, StoreFailed


async def fail_in_groups(*errors: BaseException) -> None:
    """Raise errors as nested task groups do."""
    raise BaseExceptionGroup("outer", [BaseExceptionGroup("inner", errors)])


@pytest.mark.parametrize("error", [StoreFailed("no sync"), OSError(5, "I/O"), typer.Exit(3)])
def test_a_foreseen_cause_comes_out_bare(error: BaseException) -> None:
    """So that it can be explained in one sentence."""
    with pytest.raises(type(error)) as caught:
        run(lambda: fail_in_groups(error, error))
    assert caught.value is error


def test_a_defect_keeps_its_group() -> None:
    """A foreseen error beside it must not hide it."""
    with pytest.raises(ExceptionGroup) as caught:
        run(lambda: fail_in_groups(StoreFailed("no sync"), KeyError("defect")))
    assert caught.group_contains(KeyError)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError(["RELAY_A: …", "RELAY_B: …"]), 78, "RELAY_A: …\nRELAY_B: …\n"),
        (CommandFailed("no such thing"), 1, "relay: no such thing\n"),
        (FileNotFoundError(2, "No such file", "/x"), 1, "relay: /x: No such file\n"),
        (OSError("plain"), 1, "relay: plain\n"),
        (StoreFailed(), 1, "relay: StoreFailed\n"),
    ],
)
def test_a_failure_is_a_line_on_standard_error(
    error: RelayError | OSError, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an exit code of the contract."""
    assert explain(error) == code
    assert capsys.readouterr() == ("", said)
