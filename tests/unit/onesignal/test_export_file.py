"""OneSignal's export of subscriptions, as its samples and other readers show it."""

import gzip

import pytest

from relay.errors import FileRejected
from relay.onesignal.export_file import (
    TYPE_NAMES,
    SubscriptionRow,
    SubscriptionsFile,
    type_of_label,
)

HEADER = (
    "id,identifier,session_count,language,timezone,game_version,device_os,device_type,device_model,"
    "ad_id,tags,last_active,playtime,amount_spent,created_at,invalid_identifier,external_user_id,"
    "notification_types\n"
)
ROW = (
    "a3f1c8d2-77b0-4f0b-8a51-3a1e64a0b001,0f64,12,en,3600,3.2.0,17.4,0,"
    '"iPhone15,2",,"{""plan"":""pro""}",2026-01-01 10:05:06,420,0,2025-03-02 08:00:00,f,user-1,1\n'
)
SHORT = "id,device_type,invalid_identifier,external_user_id,notification_types\n"


def _read(text: str) -> tuple[list[SubscriptionRow], SubscriptionsFile]:
    file = SubscriptionsFile()
    rows = [row for some in file.feed(text.encode()) for row in some]
    return rows + file.finish(), file


def _read_row(row: str) -> SubscriptionRow:
    ((subscription,), _) = _read(SHORT + row)
    return subscription


def test_the_documented_columns_are_read() -> None:
    """Commas and quotes inside fields do not shift them."""
    rows, file = _read(HEADER + ROW)
    expected = SubscriptionRow("user-1", "a3f1c8d2-77b0-4f0b-8a51-3a1e64a0b001", "iOSPush", True)  # noqa: FBT003
    assert rows == [expected]
    assert (file.rows, file.broken_rows) == (1, 0)


def test_a_compressed_export_is_the_same() -> None:
    """OneSignal writes `.csv.gz`, which may have been decompressed by hand."""
    file = SubscriptionsFile()
    assert len([*file.feed(gzip.compress((HEADER + ROW).encode()))]) == 1
    assert file.finish() == []


def test_the_column_of_choices_may_be_missing() -> None:
    """An export made by hand may lack it; the other flag is always there."""
    rows, _ = _read("external_user_id,invalid_identifier,device_type,id\nu,f,11,s1\nv,t,11,s2")
    assert rows == [("u", "s1", "Email", True), ("v", "s2", "Email", False)]


@pytest.mark.parametrize("external_id", ["", '""', '" "'])
def test_anonymous_subscriptions_have_no_user(external_id: str) -> None:
    """They count for no user until one logs in."""
    assert _read_row(f"s1,1,f,{external_id},1\n").external_id is None


def test_rows_without_an_id_are_counted_and_skipped() -> None:
    """Such a subscription could never be updated again."""
    rows, file = _read(SHORT + ",1,f,u,1\ns1,1,f,u,1\n ,1,f,u,1\n")
    assert [row.id for row in rows] == ["s1"]
    assert (file.rows, file.broken_rows) == (3, 2)


@pytest.mark.parametrize("row", ["s1\0x,1,f,u,1\n", "s1,1,f,u\0x,1\n", "s1,1,f,\0,1\n"])
def test_rows_with_an_id_that_sqlite_would_cut_are_broken(row: str) -> None:
    """Cut at U+0000 it would be another subscription, or another user's."""
    rows, file = _read(SHORT + row)
    assert (rows, file.rows, file.broken_rows) == ([], 1, 1)


@pytest.mark.parametrize(
    ("text", "is_packed", "ends_mid_line"),
    [
        *((HEADER, False, False), (HEADER + ROW, False, False)),
        *((HEADER + ROW[:-1], False, True), ((HEADER + ROW).replace("\n", "\r\n"), False, False)),
        *((HEADER[:-1], False, True), (HEADER + ROW[:-1], True, False)),
    ],
)
def test_a_plain_file_without_a_final_line_end_is_reported(
    text: str,
    is_packed: bool,  # noqa: FBT001
    ends_mid_line: bool,  # noqa: FBT001
) -> None:
    """It may be cut in its last field; a gzip file has a checksum."""
    file = SubscriptionsFile()
    list(file.feed(gzip.compress(text.encode()) if is_packed else text.encode()))
    assert not file.ends_mid_line
    file.finish()
    assert file.ends_mid_line is ends_mid_line


@pytest.mark.parametrize(
    ("invalid", "choice", "is_subscribed"),
    [
        *(("f", "", True), ("f", "1", True), ("f", "31", True), ("false", "1", True)),
        *(("F", "01", True), ("f", "0", False), ("f", "00", False), ("f", "-2", False)),
        *(("f", "-99", False), ("f", "none", False), ("f", "\u0661", False), ("t", "1", False)),
        *(("t", "", False), ("true", "1", False), ("", "1", False), ("f", "9" * 5000, True)),
    ],
)
def test_subscribed_means_valid_and_not_declined(
    invalid: str,
    choice: str,
    is_subscribed: bool,  # noqa: FBT001
) -> None:
    """Both columns must agree; an odd value counts as no."""
    assert _read_row(f"s1,1,{invalid},u,{choice}\n").is_subscribed is is_subscribed


@pytest.mark.parametrize(
    ("number", "name"),
    [*TYPE_NAMES.items(), ("3", "3"), ("10", "10"), ("99", "99"), ("Email", "Email")],
)
def test_numbers_of_devices_become_names(number: str, name: str) -> None:
    """An unknown number is kept."""
    assert _read_row(f"s1,{number},f,u,1\n").type == name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        *(("iOS", "iOSPush"), ("ANDROID", "AndroidPush"), (" Chrome ", "ChromePush")),
        *(("email", "Email"), ("SMS", "SMS"), ("sms", "SMS"), ("Safari", "SafariPush")),
        *(("Amazon", "FireOSPush"), ("macOS", "macOSPush"), ("Huawei", "HuaweiPush")),
        *(("androidpush", "AndroidPush"), ("Web", "Web"), ("Toaster", "Toaster"), ("", "")),
    ],
)
def test_labels_of_events_become_the_same_names(label: str, name: str) -> None:
    """A subscription seen in an event and in an export has one type."""
    assert type_of_label(label) == name


@pytest.mark.parametrize("name", TYPE_NAMES.values())
def test_names_are_kept(name: str) -> None:
    """Names of the API are kept."""
    assert type_of_label(name) == type_of_label(name.upper()) == name


def test_an_export_without_users_says_what_to_ask_for() -> None:
    """The dashboard omits the column by default."""
    with pytest.raises(FileRejected) as caught:
        _read("id,device_type,invalid_identifier\n")
    assert caught.value.reason == "wrong_columns"
    assert "extra field external_user_id" in caught.value.detail


def test_identifiers_are_never_read() -> None:
    """They are tokens, e-mail addresses and phone numbers."""
    text = HEADER + ROW.replace("0f64", "maya@example.com")
    rows, file = _read(text)
    assert "maya" not in repr(rows)
    assert "maya" not in repr(vars(file))


def test_a_cut_export_is_rejected() -> None:
    """It would otherwise be authoritative about subscriptions it lacks."""
    for length in range(len(HEADER) + 1, len(HEADER + ROW) - len(",user-1,1\n")):
        with pytest.raises(FileRejected):
            _read((HEADER + ROW)[:length])
