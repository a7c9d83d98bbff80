"""How one process of relay reaches Amplitude: an uploader that dies with the process."""

import asyncio

import anyio
import orjson

from relay.amplitude.verdicts import UploadReply
from relay.sandbox.common.replies import JsonObject
from tests.simulation.amplitude import Project
from tests.simulation.upload_rules import UploadRules


class ProcessUploader:
    """Uploads of one process to one project, each checked."""

    def __init__(self, project: Project, timeout_s: float, upload_rules: UploadRules) -> None:
        self._project = project
        self._timeout_s = timeout_s
        self._rules = upload_rules

    async def upload(self, events: bytes) -> UploadReply:
        """Send one request and return its outcome."""
        upload: list[JsonObject] = orjson.loads(b"[%b]" % events)
        done: asyncio.Future[UploadReply] = asyncio.get_running_loop().create_future()

        def answered(reply: UploadReply) -> None:
            if not done.done():
                self._project.note_answer(reply)
            if not done.done():  # the process may have been killed in that very step
                self._rules.answered(upload, reply)
                done.set_result(reply)

        with self._rules.sending(upload, events):
            self._project.send(upload, len(events), answered)
            with anyio.move_on_after(self._timeout_s):
                return await done
        return UploadReply(None, failure=f"no answer within {self._timeout_s:g} s")
