"""The directory as a whole: how large and old it is, filled from a file or from OneSignal."""

from pydantic import BaseModel

from relay.http.admin.context import AdminContext
from relay.http.admin.operations import AnyOperation, Call, NoInput, Operation
from relay.http.admin.schemas import Affected
from relay.http.admin.segment_schemas import DirectoryAnswer, ImportAnswer, ImportOrder, SyncAnswer
from relay.http.admin.segment_views import answer_directory

DIRECTORY = "/directory/{app}"


class DirectoryOperations:
    """The operations on an app's directory."""

    def __init__(self, parts: AdminContext) -> None:
        self._parts = parts

    def operations(self) -> list[AnyOperation]:
        """Return them."""
        return [
            Operation(
                "GET",
                DIRECTORY,
                "Tell how large a directory is, and how old.",
                NoInput,
                DirectoryAnswer,
                self.show,
            ),
            Operation(
                "POST",
                f"{DIRECTORY}/import",
                "Take OneSignal's export of subscriptions over, plain or gzip.",
                ImportOrder,
                ImportAnswer,
                self.take_file,
                takes_file=True,
                conflict="Another file is being read",
            ),
            Operation(
                "POST",
                f"{DIRECTORY}/sync",
                "Have the directory refreshed from OneSignal soon.",
                NoInput,
                Affected,
                self.sync,
                conflict="The directory cannot be refreshed",
            ),
        ]

    async def show(self, call: Call[BaseModel]) -> DirectoryAnswer:
        """Return the counts, their age, and how refreshing stands."""
        app = call.path["app"]
        counts = await self._parts.segments.directory.counts(self._parts.number(app))
        status = self._parts.syncs[app].status()
        return answer_directory(app, counts, SyncAnswer(**status._asdict()))

    async def take_file(self, call: Call[ImportOrder]) -> ImportAnswer:
        """Read a file to its end, then apply it."""
        app = call.path["app"]
        self._parts.check(app)
        report = await self._parts.imports.run(app, call.file, replace=call.asked.replace)
        return ImportAnswer(affected=report.users, **report._asdict())

    async def sync(self, call: Call[BaseModel]) -> Affected:
        """Ask for an export; 0 if one is under way."""
        app = call.path["app"]
        self._parts.check(app)
        return Affected(affected=int(await self._parts.syncs[app].request_sync()))
