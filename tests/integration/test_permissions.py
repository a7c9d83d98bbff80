"""What relay stores is for its owner alone, whatever the umask and the folder's mode are."""

import stat
from pathlib import Path

import anyio
import anyio.lowlevel
import orjson
import pytest

from relay.database.ballast import BALLAST_NAME
from tests.support.command_line import CommandLine
from tests.support.daemons import open_doors, running_daemon
from tests.support.relays import event

GENEROUS = ("sh", "-c", 'umask 0; exec "$0" "$@"')
"""Runs a command with umask 0."""

ROWS = 20_000
HEADER = "id,identifier,device_type,invalid_identifier,external_user_id,notification_types"


def mode(path: Path) -> int:
    """Return a file's permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


async def watch(folder: Path, seen: dict[str, int], is_over: anyio.Event) -> None:
    """Record the mode of every file that appears, including short-lived ones."""
    while not is_over.is_set():
        for path in folder.iterdir():
            try:
                seen[path.name] = seen.get(path.name, 0) | mode(path)
            except FileNotFoundError:
                continue
        await anyio.lowlevel.checkpoint()


async def test_every_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Logs, the ballast, scratch files; an existing folder keeps its mode."""
    relay = CommandLine(tmp_path)
    relay.folder.mkdir(mode=0o755)
    export = tmp_path / "users.csv"
    rows = [f"s{number},t,0,f,user-{number},1" for number in range(ROWS)]
    export.write_text("\n".join([HEADER, *rows, ""]))
    seen: dict[str, int] = {}
    is_over = anyio.Event()
    async with open_doors(relay) as doors, running_daemon(relay, under=GENEROUS) as daemon:
        await daemon.until("relay.ready")
        async with anyio.create_task_group() as group:
            group.start_soon(watch, relay.folder, seen, is_over)
            assert (await doors.post(orjson.dumps([event(1), {"no": "event"}])))[0] == 200
            assert (await relay.run("directory", "import", str(export))).code == 0
            is_over.set()
    made = {"outbox.db", "segments.db", "outbox.db-wal", "segments.db-shm", BALLAST_NAME}
    assert made <= seen.keys()
    assert any(name.startswith("sorting-") for name in seen)
    assert seen == dict.fromkeys(seen, 0o600)
    assert mode(relay.folder) == 0o755


@pytest.mark.parametrize(
    ("folder", "file", "code", "said"),
    [
        (0o700, 0o600, 0, "for the owner alone"),
        (0o700, 0o644, 0, "for the owner alone"),
        (0o755, 0o600, 0, "for the owner alone"),
        (0o750, 0o640, 0, "others can read {}/outbox.db"),
        (0o777, 0o600, 1, "others can change {}: chmod go-w"),
        (0o755, 0o666, 1, "others can change {}/outbox.db"),
    ],
)
async def test_a_check_reports_access_by_others(
    tmp_path: Path, folder: int, file: int, code: int, said: str
) -> None:
    """Others reading may be intended, others writing never is. The check changes nothing."""
    relay = CommandLine(tmp_path)
    assert (await relay.run("forget", "shop", "anna")).code == 0
    for path in relay.folder.iterdir():
        path.chmod(file)
    relay.folder.chmod(folder)
    done = await relay.run("check")
    (line,) = [line for line in done.out.splitlines() if line.split()[1] == "access"]
    assert (done.code, said.format(relay.folder) in line) == (code, True), line
    assert mode(relay.folder) == folder
    assert {mode(path) for path in relay.folder.iterdir()} == {file}
