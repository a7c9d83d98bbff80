"""What a refused event and a refused app look like."""

from dataclasses import dataclass, field

import pytest

from relay.delivery.batching import Batch
from relay.delivery.poison import (
    MAX_CANARIES,
    MAX_REFUSED_IN_A_ROW,
    MAX_SUSPECTS,
    Diagnosis,
    Finding,
    PoisonDetector,
    PoisonSearch,
    diagnose,
)
from tests.support.outboxes import pending_event

OTHERS = (Batch([pending_event(seq, f"other-{seq}") for seq in range(100, 104)]),)
"""Events of other devices that wait behind a refused one."""


@dataclass
class App:
    """One app's refusals, one claim after the other, each with other events behind it."""

    detector: PoisonDetector = field(default_factory=PoisonDetector)

    def succeed(self) -> None:
        """An upload of the app succeeds."""
        self.detector = self.detector.record_success()

    def refuse(
        self, seq: int, *, blames_request: bool = False, queue: tuple[Batch, ...] = OTHERS
    ) -> Finding:
        """Amplitude refuses a lone event; return what that shows."""
        refused = Batch([pending_event(seq, f"device-{seq}")])
        found = diagnose(
            refused, queue, self.detector, PoisonSearch(), blames_request=blames_request
        )
        self.detector = found.detector
        return found.finding


@pytest.fixture
def app() -> App:
    """An app of which nothing is known yet."""
    return App()


def test_a_lone_refusal_makes_a_suspect(app: App) -> None:
    """Nothing tells yet whether the event or the app is refused."""
    assert app.refuse(1) is Finding.WAIT_FOR_OTHERS


def test_a_suspect_dies_when_refused_again_after_another_success(app: App) -> None:
    """Where others pass, the event is to blame."""
    app.refuse(1)
    app.succeed()
    assert app.detector.is_proven(1)
    assert app.refuse(1) is Finding.EVENT_REFUSED
    assert not app.detector.suspects


def test_an_earlier_success_proves_nothing(app: App) -> None:
    """The app may have been refused since."""
    app.succeed()
    assert app.refuse(1) is Finding.WAIT_FOR_OTHERS
    assert app.refuse(1) is Finding.WAIT_FOR_OTHERS


def test_a_proof_counts_for_the_events_it_came_after(app: App) -> None:
    """One event's proof is none for events first refused after it."""
    app.refuse(1)
    app.succeed()
    assert app.refuse(2) is Finding.WAIT_FOR_OTHERS
    assert app.refuse(1) is Finding.EVENT_REFUSED


def test_a_few_lone_refusals_in_a_row_bring_the_app_in_doubt(app: App) -> None:
    """A canary event asks about the app then; a success in between resets the count."""
    findings = [app.refuse(seq) for seq in range(MAX_REFUSED_IN_A_ROW + 1)]
    assert findings == [Finding.WAIT_FOR_OTHERS] * MAX_REFUSED_IN_A_ROW + [Finding.SEND_CANARY]
    app.succeed()
    assert app.refuse(99) is Finding.WAIT_FOR_OTHERS


def test_proven_deaths_do_not_count_in_the_row(app: App) -> None:
    """However many events of one campaign are refused, they are dead-lettered."""
    for seq in range(3):
        app.refuse(seq)
    app.succeed()
    assert {app.refuse(seq) for seq in range(3)} == {Finding.EVENT_REFUSED}
    assert app.refuse(99) is Finding.WAIT_FOR_OTHERS


def test_an_answer_about_the_request_kills_only_a_few_unproven(app: App) -> None:
    """A proxy that answers 404 to everything does not empty the outbox."""
    rows = range(MAX_REFUSED_IN_A_ROW + 1)
    findings = [app.refuse(seq, blames_request=True) for seq in rows]
    assert findings == [Finding.EVENT_REFUSED] * MAX_REFUSED_IN_A_ROW + [Finding.SEND_CANARY]


def test_each_refusal_of_the_app_counts_until_an_upload_succeeds(app: App) -> None:
    """The count sets how long refused events wait: those of two claims would alternate else."""
    for refusals in (1, 2, 3):
        assert app.refuse(1, queue=()) is Finding.APP_REFUSED
        assert app.detector.app_refusals == refusals
    app.succeed()
    assert app.detector.app_refusals == 0
    assert app.refuse(2, queue=()) is Finding.APP_REFUSED
    assert app.detector.app_refusals == 1


def test_only_the_latest_suspects_are_remembered() -> None:
    """Memory stays flat; the first refusal of a suspect is the one that counts."""
    suspects = dict.fromkeys(range(MAX_SUSPECTS), 0)
    detector = PoisonDetector(successes=1, suspects=suspects).record_suspect(MAX_SUSPECTS)
    assert len(detector.suspects) == MAX_SUSPECTS
    assert not detector.is_proven(0)
    assert detector.is_proven(1)
    assert detector.record_suspect(1).is_proven(1)


# One claim's search.


def _doubtful() -> PoisonDetector:
    return PoisonDetector(refused_in_a_row=MAX_REFUSED_IN_A_ROW)


def _search(
    queue: tuple[Batch, ...],
    detector: PoisonDetector,
    search: PoisonSearch = PoisonSearch(),  # noqa: B008  # immutable
) -> Diagnosis:
    refused = Batch([pending_event(1, "device-1")], attempts=4, first_tried_at=7)
    return diagnose(refused, queue, detector, search, blames_request=False)


def _seqs(found: Diagnosis) -> list[list[int]]:
    return [[event.seq for event in batch.events] for batch in found.queue]


def test_a_canary_event_goes_alone_and_first() -> None:
    """The last of the others is tried first: neighbours are likely to be refused too."""
    found = _search(OTHERS, _doubtful())
    assert found.finding is Finding.SEND_CANARY
    assert _seqs(found) == [[103], [100, 101, 102], [1]]
    assert [batch.is_suspect for batch in found.queue] == [False, False, True]
    assert found.search.canaries == 1


def test_the_next_canary_events_come_from_the_middle() -> None:
    """Each one halves the distance to the front."""
    second = _search(OTHERS, _doubtful(), PoisonSearch(0, canaries=1))
    third = _search(OTHERS, _doubtful(), PoisonSearch(0, canaries=2))
    assert (_seqs(second)[0], _seqs(third)[0]) == ([101], [101])


def test_a_canary_event_shares_its_ordering_key_with_no_other() -> None:
    """It overtakes what waits before it, so nothing of its device may wait."""
    queue = (
        Batch([pending_event(2, "shared"), pending_event(3, "own"), pending_event(4, "shared")]),
        Batch([pending_event(5, "device-1")]),
    )
    found = _search(queue, _doubtful())
    assert _seqs(found) == [[3], [2, 4], [5], [1]]


def test_a_suspect_is_no_canary() -> None:
    """It was refused alone already."""
    queue = (Batch([pending_event(2, "device-2")], is_suspect=True),)
    assert _search(queue, _doubtful()).finding is Finding.APP_REFUSED


def test_after_a_few_refused_canaries_the_app_is_refused() -> None:
    """Asking on would cost a request for each event of the claim."""
    found = _search(OTHERS, _doubtful(), PoisonSearch(0, MAX_CANARIES))
    assert found.finding is Finding.APP_REFUSED
    assert _seqs(found) == [[100, 101, 102, 103], [1]]


def test_an_app_with_a_success_meanwhile_is_not_refused() -> None:
    """Another sender's success speaks for the app, though not yet against the event."""
    detector = PoisonDetector(successes=8, refused_in_a_row=0, suspects={1: 8})
    found = _search((), detector, PoisonSearch(successes_before=7))
    assert found.finding is Finding.UNDECIDED
    assert found.detector.app_refusals == 0
