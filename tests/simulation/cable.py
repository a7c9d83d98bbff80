"""How one process of relay reaches Amplitude: an uploader that ends with the process."""

import asyncio

import anyio
import orjson

from relay.amplitude.verdicts import UploadReply
from relay.sandbox.common.replies import JsonObject
from tests.simulation.amplitude import Project
from tests.simulation.conduct import Conduct


class Cable:
    """Uploads of one process to one project, each watched."""

    def __init__(self, project: Project, timeout_s: float, conduct: Conduct) -> None:
        self._project = project
        self._timeout_s = timeout_s
        self._conduct = conduct

    async def upload(self, events: bytes) -> UploadReply:
        """Send one request and return how it ended."""
        upload: list[JsonObject] = orjson.loads(b"[%b]" % events)
        done: asyncio.Future[UploadReply] = asyncio.get_running_loop().create_future()

        def answered(reply: UploadReply) -> None:
            if not done.done():
                self._project.note_answer(reply)
            if not done.done():  # the process may have been killed in that very step
                self._conduct.answered(upload, reply)
                done.set_result(reply)

        with self._conduct.sending(upload, events):
            self._project.send(upload, len(events), answered)
            with anyio.move_on_after(self._timeout_s):
                return await done
        return UploadReply(None, failure=f"no answer within {self._timeout_s:g} s")
