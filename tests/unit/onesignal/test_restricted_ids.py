import pytest

from relay.onesignal.restricted_ids import RESTRICTED_IDS, is_restricted


@pytest.mark.parametrize("external_id", RESTRICTED_IDS)
def test_ids_onesignal_refuses_are_restricted(external_id: str) -> None:
    """No OneSignal user can have one, so no member can be matched by it."""
    assert is_restricted(external_id)


def test_they_are_the_seven_published_ones() -> None:
    """Relay promises to count these apart."""
    zero_uuid = "00000000-0000-0000-0000-000000000000"
    assert set(RESTRICTED_IDS) == {"NA", "NULL", "0", "1", "-1", "all", zero_uuid}


@pytest.mark.parametrize("external_id", ["na", "Null", "ALL", "00", "10", " 0", "", "2", "-1 "])
def test_anything_else_is_an_id(external_id: str) -> None:
    """Case matters: an app may well have a user called `na`."""
    assert not is_restricted(external_id)
