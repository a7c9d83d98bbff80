"""The trace reader: it finds an answer that comes too early, however lines interleave."""

import pytest

from tests.crash.syscalls import judge_trace

NAME = "842649fe-e5bc-41f1-bc6a-1a1f13923cd5"
ASK = rf'[pid 7] recvfrom(21<socket:[5]>, "POST \r\n{{\"event\": {{\"id\": \"{NAME}\"}}}}", 9) = 9'
WRITE = rf'[pid 8] pwrite64(14</data/outbox.db-wal>, "\0{{\"insert_id\":\"{NAME}\"}}", 9, 0) = 9'
SYNC = "[pid 8] fdatasync(14</data/outbox.db-wal>) = 0"
ANSWER = r'[pid 7] sendto(21<socket:[5]>, "HTTP/1.1 200 OK\r\n", 9) = 9'
SYNC_BEGINS = "[pid 8] fdatasync(14</data/outbox.db-wal> <unfinished ...>"
SYNC_ENDS = "[pid 8] <... fdatasync resumed>) = 0"
WRITE_BEGINS = WRITE.removesuffix(" = 9").removesuffix(")") + " <unfinished ...>"
WRITE_ENDS = "[pid 8] <... pwrite64 resumed>) = 9"
OTHER_SYNC = "[pid 8] fdatasync(13</data/outbox.db>) = 0"


@pytest.mark.parametrize(
    "trace",
    [
        [ASK, WRITE, SYNC, ANSWER],
        [ASK, WRITE, SYNC_BEGINS, SYNC_ENDS, ANSWER],
        [ASK, WRITE_BEGINS, WRITE_ENDS, SYNC, ANSWER],
        [ASK, WRITE, SYNC, ANSWER, ASK, ANSWER],
    ],
)
def test_an_answer_after_the_sync_is_in_order(trace: list[str]) -> None:
    """In whole or split lines; the first sync also covers a repetition."""
    verdict = judge_trace(trace)
    assert verdict.answers == trace.count(ASK)
    assert verdict.syncs == 1
    assert verdict.early == []


@pytest.mark.parametrize(
    "trace",
    [
        [ASK, WRITE, ANSWER, SYNC],
        [ASK, SYNC, WRITE, ANSWER],
        [ASK, WRITE, SYNC_BEGINS, ANSWER, SYNC_ENDS],
        [ASK, WRITE_BEGINS, SYNC, WRITE_ENDS, ANSWER],
        [ASK, SYNC_BEGINS, WRITE, SYNC_ENDS, ANSWER],
        [ASK, WRITE, OTHER_SYNC, ANSWER],
        [ASK, WRITE, SYNC.replace("= 0", "= -1 EIO"), ANSWER],
        [ASK, SYNC, ANSWER],
    ],
)
def test_an_answer_before_the_sync_is_found(trace: list[str]) -> None:
    """A sync counts if it began after the write, ended before the answer, and succeeded."""
    assert judge_trace(trace).early == [NAME]
