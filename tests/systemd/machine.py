"""A small Debian with a real systemd, booted in a container with relay installed.

The container shares the host's network, so that the stand-ins and the tests' clients stay where
they are. Its Python is Debian's; the packages are those of the environment the tests run in.
"""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from tests.systemd.notify_socket import listening

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "relay.service"
SUITE = "bookworm"
PYTHON = "python3.11"
PACKAGES = "systemd-sysv,python3"

LEADER = "X_NSPAWN_LEADER_PID"

BUILD_S = 600.0
BOOT_S = 60.0
CHANGE_S = 60.0
POLL_S = 0.05

OPT = Path("opt/relay")
ENV_FILE = Path("etc/relay/relay.env")
CREDENTIALS = Path("etc/relay/credentials")
STATE = Path("var/lib/private/relay")
SERVICE = Path("etc/systemd/system/relay.service")
DROP_IN = Path("etc/systemd/system/relay.service.d/test.conf")

COMMAND = f"#!/{OPT}/bin/python\nfrom relay.cli.main import main\n\nmain()\n"


def build_root(target: Path) -> None:
    """Build a minimal Debian at `target`, completely or not at all."""
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    words = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(partial)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=BUILD_S)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr
    partial.rename(target)


def install_relay(root: Path) -> list[str]:
    """Put relay's environment into `root`; return what to bind when booting."""
    assert f"python{sys.version_info[0]}.{sys.version_info[1]}" == PYTHON, "as in the container"
    opt = root / OPT
    shutil.rmtree(opt, ignore_errors=True)
    packages = opt / "lib" / PYTHON / "site-packages"
    for folder in (opt / "bin", packages, opt / "bound" / "relay", opt / "packages"):
        folder.mkdir(parents=True)
    (opt / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (opt / "bin" / "python").symlink_to(f"/usr/bin/{PYTHON}")
    (packages / "bound.pth").write_text(f"/{OPT}/bound\n/{OPT}/packages\n")
    (opt / "bin" / "relay").write_text(COMMAND)
    (opt / "bin" / "relay").chmod(0o755)
    return [
        f"--bind-ro={ROOT / 'relay'}:/{OPT}/bound/relay",
        f"--bind-ro={sysconfig.get_path('purelib')}:/{OPT}/packages",
    ]


@dataclass(frozen=True)
class Machine:
    """A booted container.

    Attributes:
        root: Its root directory, seen from outside.
        leader: The process id of its systemd, seen from outside.
    """

    root: Path
    leader: int

    async def run(self, *words: str, check: bool = True) -> str:
        """Run a command inside as root and return its output."""
        with anyio.fail_after(CHANGE_S):
            done = await anyio.run_process(
                ["nsenter", "--target", str(self.leader), "--all", "--", *words],
                env={"PATH": "/usr/bin:/usr/sbin"},
                check=False,
                stdin=subprocess.DEVNULL,
            )
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == 0 or not check, said
        return said

    async def systemctl(self, *words: str, check: bool = True) -> str:
        """Run `systemctl`."""
        return await self.run("systemctl", *words, check=check)

    async def show(self, *names: str) -> dict[str, str]:
        """Return properties of relay's unit."""
        said = await self.systemctl("show", "relay", *(f"--property={name}" for name in names))
        found = dict(line.split("=", 1) for line in said.splitlines())
        return {name: found[name] for name in names}

    async def until(self, holds: Callable[[dict[str, str]], bool], *names: str) -> None:
        """Return once properties of relay's unit satisfy `holds`."""
        with anyio.fail_after(CHANGE_S):
            while not holds(await self.show(*names)):
                await anyio.sleep(POLL_S)

    async def configure(
        self,
        settings: Mapping[str, str],
        credentials: Mapping[str, str] | None = None,
        *,
        drop_in: str = "",
    ) -> None:
        """Install the unit afresh, without state, by the instructions in the unit file.

        Args:
            settings: Content of the settings file.
            credentials: Secret files by name; None = not even their folder.
            drop_in: Changes to the unit.
        """
        await self.systemctl("stop", "relay", check=False)
        await self.systemctl("reset-failed", "relay", check=False)
        for folder in (CREDENTIALS, STATE, DROP_IN.parent):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        shutil.copy(UNIT, self.root / SERVICE)
        _write(self.root / ENV_FILE, "".join(f"{name}={settings[name]}\n" for name in settings))
        for name, secret in (credentials or {}).items():
            _write(self.root / CREDENTIALS / name, f"{secret}\n")
        if drop_in:
            _write(self.root / DROP_IN, drop_in)
        await self.systemctl("daemon-reload")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock on the machine's only container while the block runs."""
    with (Path(tempfile.gettempdir()) / "relay-container.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def booted(root: Path, folder: Path) -> Iterator[Machine]:
    """Boot the container while the block runs.

    Args:
        root: Its root directory.
        folder: An empty one, for the socket and the container's output.
    """
    words = [
        "systemd-nspawn", "--quiet", "--settings=no", "--register=no", "--keep-unit", "--boot",
        "--notify-ready=yes", "--console=pipe", "--resolv-conf=off", "--timezone=off",
        f"--directory={root}", *install_relay(root),
    ]  # fmt: skip
    with (folder / "console").open("w") as console, ExitStack() as until_ready:
        ear = until_ready.enter_context(listening(folder, silence_s=BOOT_S))
        environment = {"PATH": "/usr/bin:/usr/sbin:/bin:/sbin", "NOTIFY_SOCKET": ear.address}
        with subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=environment
        ) as container:
            last = container.pid
            try:
                last = leader = int(ear.receive_until(LEADER)[LEADER])
                ear.receive_until("READY")
                until_ready.close()  # an unread socket would block the sender
                yield Machine(root, leader)
            finally:
                os.kill(last, signal.SIGKILL)  # killing the first process inside kills all others


def exposure(report: str) -> float:
    """Return the score in a report of `systemd-analyze security`."""
    found = re.search(r"Overall exposure level for relay\.service: (\d+\.\d+)", report)
    assert found is not None, report
    return float(found[1])
