"""TLS doors, and commands that connect to them."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from tests.support.certificates import AUTHORITY, Pair, write_pair
from tests.support.command_line import CommandLine


def with_tls(root: Path, pair: Pair) -> CommandLine:
    """Return a relay whose two doors have a certificate."""
    return CommandLine(
        root,
        RELAY_TLS_CERT_FILE=str(pair.cert),
        RELAY_TLS_KEY_FILE=str(pair.key),
        RELAY_ADMIN_TLS_CERT_FILE=str(pair.cert),
        RELAY_ADMIN_TLS_KEY_FILE=str(pair.key),
    )


def client_tls() -> ssl.SSLContext:
    """Return a client context that trusts the authority and checks names."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


async def test_both_doors_speak_tls_and_nothing_else(tmp_path: Path) -> None:
    """A client that checks the certificate's name is served; plain HTTP is not."""
    relay = with_tls(tmp_path, write_pair(tmp_path))
    async with relay.serving(), aiohttp.ClientSession() as http:
        for door in (relay.public, relay.admin):
            secure = door.replace("http:", "https:")
            async with http.get(f"{secure}/readyz", ssl=client_tls()) as answer:
                assert answer.status == 200
            with pytest.raises(aiohttp.ClientError):
                await http.get(f"{door}/readyz")


async def test_commands_reach_a_door_with_tls(tmp_path: Path) -> None:
    """They trust exactly the configured certificate, whatever its issuer."""
    relay = with_tls(tmp_path, write_pair(tmp_path))
    async with relay.serving():
        for words in (("status",), ("pause", "shop"), ("check",)):
            done = await relay.run(*words)
            assert (done.code, done.err) == (0, ""), words


async def test_a_server_with_another_certificate_gets_no_token(tmp_path: Path) -> None:
    """Another program on the port gets no admin token."""
    relay = with_tls(tmp_path, write_pair(tmp_path))
    async with relay.serving():
        other = write_pair(tmp_path, "other")
        done = await relay.run("status", RELAY_ADMIN_TLS_CERT_FILE=str(other.cert))
    assert done.code == 1
    assert "does not hold the certificate" in done.err


def _wrong(folder: Path, how: str) -> dict[str, str]:
    """Return settings of an unusable pair."""
    pair = write_pair(folder)
    cert, key = str(pair.cert), str(pair.key)
    if how == "of another":
        key = str(write_pair(folder, "other").key)
    elif how == "no such file":
        key = str(folder / "missing")
    elif how == "no certificate":
        pair.cert.write_text("-----BEGIN NOTHING-----")
    elif how == "half":
        return {"RELAY_TLS_CERT_FILE": cert}
    return {"RELAY_TLS_CERT_FILE": cert, "RELAY_TLS_KEY_FILE": key}


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("of another", "RELAY_TLS_CERT_FILE: the key is not this certificate's"),
        ("no such file", "RELAY_TLS_KEY_FILE: "),
        ("no certificate", "RELAY_TLS_CERT_FILE: wanted a certificate"),
        ("half", "RELAY_TLS_KEY_FILE: not set; wanted both it and RELAY_TLS_CERT_FILE"),
    ],
)
async def test_an_unusable_pair_is_a_wrong_configuration(
    tmp_path: Path, how: str, told: str
) -> None:
    """The daemon does not start, and the check says the same."""
    relay = CommandLine(tmp_path, **_wrong(tmp_path, how))
    done = await relay.run("serve")
    assert (done.code, told in done.err) == (78, True), done.err
    checked = await relay.run("check")
    assert checked.code in (1, 78)
    assert told in checked.err + " ".join(checked.out.split())


@pytest.mark.parametrize(("days", "told"), [(-1, "certificate has expired"), (3, "ends in 3 days")])
async def test_a_certificate_about_to_expire_is_reported(
    tmp_path: Path, days: int, told: str
) -> None:
    """Otherwise OneSignal would switch the stream off one day."""
    ends = datetime.fromtimestamp(tmp_path.stat().st_mtime, UTC) + timedelta(days=days, hours=6)
    relay = with_tls(tmp_path, write_pair(tmp_path, ends=ends))
    done = await relay.run("check")
    assert done.code == 1
    assert " ".join(done.out.split()).count(told) == 2


async def test_a_command_says_which_side_speaks_tls(tmp_path: Path) -> None:
    """Settings that need a restart are a common mistake; a stopped relay is another."""
    pair = write_pair(tmp_path)
    files = {"RELAY_ADMIN_TLS_CERT_FILE": str(pair.cert), "RELAY_ADMIN_TLS_KEY_FILE": str(pair.key)}
    plain = CommandLine(tmp_path / "plain")
    async with plain.serving():
        done = await plain.run("status", **files)
    assert done.code == 1
    assert "does not speak TLS" in done.err
    secure = CommandLine(tmp_path / "secure", **files)
    async with secure.serving():
        for name in files:
            del secure.env[name]
        done = await secure.run("status")
    assert done.code == 1
    assert "RELAY_ADMIN_TLS_CERT_FILE" in done.err
