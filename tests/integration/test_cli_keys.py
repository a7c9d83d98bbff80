"""Looking up a key in two regions, over real sockets."""

from contextlib import AsyncExitStack
from functools import partial

import aiohttp
import pytest

from relay.cli.check.key_answers import KeyAnswer, Knowledge, ask_for_key
from relay.cli.check.keys import RegionAnswers, locate
from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.faults import UploadFault
from relay.sandbox.common.listener import running
from tests.support.command_line import free_port

KEY = "key-of-the-test"

KNOWN = KeyAnswer(Knowledge.KNOWN)
UNKNOWN = KeyAnswer(Knowledge.UNKNOWN)


async def locate_key(
    here: AmplitudeStandIn, elsewhere: AmplitudeStandIn, path: str
) -> RegionAnswers:
    """Check a key at the first stand-in, and at the second if necessary."""
    async with AsyncExitStack() as stack:
        urls = [
            str((await stack.enter_async_context(running(stand_in.app()))).with_path(path))
            for stand_in in (here, elsewhere)
        ]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        return await locate(partial(ask_for_key, session, KEY), *urls)


@pytest.mark.parametrize("path", ["/2/httpapi", "/batch"])
@pytest.mark.parametrize(
    ("here", "elsewhere", "expected"),
    [
        ([KEY], [], RegionAnswers(KNOWN)),
        ([], [KEY], RegionAnswers(UNKNOWN, KNOWN)),
        ([], [], RegionAnswers(UNKNOWN, UNKNOWN)),
    ],
)
async def test_a_key_is_found_in_its_region(
    here: list[str], elsewhere: list[str], expected: RegionAnswers, path: str
) -> None:
    """The other region is asked only for a key unknown in its own; no event is stored."""
    stand_ins = AmplitudeStandIn(here), AmplitudeStandIn(elsewhere)
    assert await locate_key(*stand_ins, path) == expected
    assert [stand_in.ledger.total_events for stand_in in stand_ins] == [0, 0]


@pytest.mark.parametrize(
    "fault", ["503", "403", "200_html", "200_empty", "200_cut", "200_code_500"]
)
async def test_a_response_that_does_not_mention_the_key_proves_nothing(fault: str) -> None:
    """Neither that the key is good nor that it is bad."""
    stand_in = AmplitudeStandIn([KEY])
    stand_in.faults.arm(UploadFault.model_validate({"name": fault}))
    where = await locate_key(stand_in, AmplitudeStandIn([KEY]), "/2/httpapi")
    assert where.here.knowledge is Knowledge.UNCLEAR
    assert where.here.detail
    assert where.elsewhere is None


async def test_an_unreachable_host_is_reported() -> None:
    """With the reason, and without the key."""
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{free_port()}/batch"
        where = await locate(partial(ask_for_key, session, KEY), url, None)
    assert where.here.knowledge is Knowledge.UNCLEAR
    assert where.here.detail.startswith("not reached: ")
    assert KEY not in where.here.detail
