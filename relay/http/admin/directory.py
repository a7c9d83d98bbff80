"""The directory as a whole: its size and age, and filling it from a file or from OneSignal."""

from relay.http.admin.context import AdminContext, SegmentsContext
from relay.http.admin.operations import Call, NoInput, Operation
from relay.http.admin.schemas import Affected
from relay.http.admin.segment_schemas import DirectoryAnswer, ImportAnswer, ImportOrder, SyncAnswer
from relay.http.admin.segment_views import answer_directory

_DIRECTORY = "/directory/{app}"


async def _show(context: SegmentsContext, call: Call[NoInput]) -> DirectoryAnswer:
    app = call.path["app"]
    counts = await context.segments.directory.counts(context.number(app))
    sync = context.apps[app].sync
    return answer_directory(app, counts, SyncAnswer(**sync.status()._asdict()) if sync else None)


async def _import(context: SegmentsContext, call: Call[ImportOrder]) -> ImportAnswer:
    app = call.path["app"]
    context.check(app)
    report = await context.importer.run(app, call.file, replace=call.input.replace)
    return ImportAnswer(affected=report.users, **report._asdict())


async def _sync(context: AdminContext, call: Call[NoInput]) -> Affected:
    """Ask for an export; 0 if one is running already."""
    app = call.path["app"]
    context.check(app)
    return Affected(affected=int(await context.apps[app].sync.request_sync()))


SHOW_DIRECTORY = Operation(
    "GET",
    _DIRECTORY,
    "Tell how large a directory is, and how old.",
    NoInput,
    DirectoryAnswer,
    _show,
)
IMPORT_DIRECTORY = Operation(
    "POST",
    f"{_DIRECTORY}/import",
    "Take OneSignal's export of subscriptions over, plain or gzip.",
    ImportOrder,
    ImportAnswer,
    _import,
    takes_file=True,
    conflict="Another file is being read",
)
SYNC_DIRECTORY = Operation(
    "POST",
    f"{_DIRECTORY}/sync",
    "Have the directory refreshed from OneSignal soon.",
    NoInput,
    Affected,
    _sync,
    conflict="The directory cannot be refreshed",
)

OPERATIONS = (SHOW_DIRECTORY, IMPORT_DIRECTORY, SYNC_DIRECTORY)
