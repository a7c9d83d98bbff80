"""Reading the options of `relay sandbox`."""

import pytest
import typer

from relay.sandbox.command import parse_address, parse_fault
from relay.sandbox.common.faults import UploadFault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("hang", UploadFault(name="hang")),
        ("503:3", UploadFault(name="503", count=3)),
        ("slow:2.5s", UploadFault(name="slow", seconds=2.5)),
        ("stored_504:1", UploadFault(name="504", stored=True, count=1)),
    ],
)
def test_faults_are_read(text: str, fault: UploadFault) -> None:
    """A name, and a count or seconds."""
    assert parse_fault(text) == fault


@pytest.mark.parametrize("text", ["", "nope", "503:", "503:x", "503:0", "stored_503", "refuse:2"])
def test_nonsense_is_rejected(text: str) -> None:
    """It is wrong usage."""
    with pytest.raises(typer.BadParameter):
        parse_fault(text)


def test_addresses_are_read() -> None:
    """Host and port, IPv6 in brackets."""
    assert parse_address("127.0.0.1:9090") == ("127.0.0.1", 9090)
    assert parse_address("[::1]:0") == ("::1", 0)


@pytest.mark.parametrize("text", ["9090", "127.0.0.1:", "127.0.0.1:99999", "a:b"])
def test_other_addresses_are_rejected(text: str) -> None:
    """Anything else is wrong usage."""
    with pytest.raises(typer.BadParameter):
        parse_address(text)
