"""What is shown of an app's directory."""

from relay.cli.output import instant, print_fields
from relay.cli.segment_reach import open_segment_desk
from relay.http.admin.segment_schemas import DirectoryAnswer, SyncAnswer
from relay.settings import Settings


async def fetch_directory(settings: Settings, app: str) -> DirectoryAnswer:
    """Return how large an app's directory is, and how old."""
    async with open_segment_desk(settings) as desk:
        return await desk.directory(app)


def show_directory(directory: DirectoryAnswer) -> None:
    """Show how large and how old a directory is to a person."""
    fields = {
        "app": directory.app,
        "users": f"{directory.users:,}",
        "subscriptions": f"{directory.subscriptions:,}, {directory.subscribed:,} subscribed",
        "whole export": (
            f"as of {instant(directory.exported_at)}, applied {instant(directory.synced_at)}"
            if directory.synced_at
            else "never; relay directory sync, or relay directory import FILE --replace"
        ),
    }
    if directory.sync is None:
        fields["refresh"] = "no relay is running, so none is under way"
    else:
        fields["refresh"] = _refresh(directory.sync)
        if directory.sync.last_error:
            fields["last error"] = directory.sync.last_error
    print_fields(fields)


def _refresh(sync: SyncAnswer) -> str:
    if sync.is_running:
        return "under way"
    return "none is planned" if sync.next_at is None else f"next at {instant(sync.next_at)}"
