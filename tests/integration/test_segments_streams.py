"""Lists of any length: a few at a time, each from one revision."""

from pathlib import Path

import anyio
import anyio.abc
import pytest

from relay.errors import StoreFull
from relay.segments.read_model import STREAMS
from tests.support.segment_tables import APP, SegmentTable, open_table

MEMBERS = {"app": APP, "cohort_id": "c1"}


async def _members(table: SegmentTable, *, timeout_s: float) -> list[str]:
    async with table.store.reading.stream("members", MEMBERS, timeout_s=timeout_s) as blocks:
        return [row[0] async for block in blocks for row in block]


async def test_a_list_too_many_is_refused_until_one_has_ended(tmp_path: Path) -> None:
    """Who waits without limit would be cut by a proxy, without a word about why."""
    async with open_table(tmp_path) as table:
        await table.know({"anna": [True]})
        await table.send("m1", "anna")
        enough = anyio.Event()

        async def hold(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with table.store.reading.stream("members", MEMBERS):
                task_status.started()
                await enough.wait()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(STREAMS):
                    await tasks.start(hold)
                with pytest.raises(StoreFull, match="try again"):
                    await _members(table, timeout_s=0.05)
                enough.set()
                assert await _members(table, timeout_s=5) == ["anna"]
