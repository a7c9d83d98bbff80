"""Lists of any length: a few at a time, each from one revision."""

from pathlib import Path

import anyio
import anyio.abc
import pytest

from relay.database.stream import STREAMS, RowStreams
from relay.errors import StoreFull
from relay.segments.read_model import ReadModel
from relay.segments.sql import SQL
from relay.segments.store import DATABASE_NAME
from tests.support.segment_tables import APP, open_table

MEMBERS = {"app": APP, "cohort_id": "c1"}


async def test_lists_past_the_limit_are_rejected_until_one_has_ended(tmp_path: Path) -> None:
    """A client that waited without limit would be cut by a proxy without an explanation."""
    async with open_table(tmp_path) as table:
        await table.know({"anna": [True]})
        await table.send("m1", "anna")
        streams = RowStreams(tmp_path / DATABASE_NAME)
        read_model = ReadModel(table.store.database, streams)
        enough = anyio.Event()

        async def hold(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with read_model.members(APP, "c1"):
                task_status.started()
                await enough.wait()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(STREAMS):
                    await tasks.start(hold)
                with pytest.raises(StoreFull, match="try again"):
                    async with streams.open(SQL["members"], MEMBERS, timeout_s=0.05):
                        raise AssertionError("a stream too many")
                enough.set()
                async with read_model.members(APP, "c1") as blocks:
                    assert [row.external_id async for block in blocks for row in block] == ["anna"]
