"""Segment rows as the API shows them."""

import pytest

from relay.http.admin.segment_views import answer_undoable
from relay.segments.read_model import Undoable


@pytest.mark.parametrize(
    ("made", "leads_back_to"),
    [
        ([], []),
        ([1], [0]),
        ([7, 4, 2], [6, 3, 1]),
        ([4, 4, 2], [None, 3, 1]),
        ([2, 0], [1, None]),
        ([0, 0], [None, None]),
    ],
)
def test_a_run_leads_back_to_a_revision_that_undoes_it_and_what_came_later(
    made: list[int], leads_back_to: list[int | None]
) -> None:
    """No revision is offered that would undo an older run as well, or nothing."""
    rows = [Undoable(10 - place, "poll", 1, revision, 0, 0) for place, revision in enumerate(made)]
    runs = answer_undoable(rows)
    assert [run.leads_back_to for run in runs] == leads_back_to
    for place, run in enumerate(runs):
        if run.leads_back_to is not None:
            undone = [revision > run.leads_back_to for revision in made]
            assert undone == [other <= place for other in range(len(made))]
