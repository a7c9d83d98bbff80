import pytest

from relay.events.instants import instant_ms

MOMENT_MS = 1_708_559_115_228


@pytest.mark.parametrize(
    "value",
    [
        "2024-02-21T23:45:15.228Z",
        "2024-02-21T23:45:15.228+00:00",
        "2024-02-22T01:15:15.228+01:30",
        "2024-02-21T23:45:15.228",
        "2024-02-21 23:45:15.228",
        "2024-02-21 23:45:15.228 UTC",
        "2024-02-21T23:45:15.228999Z",
        "20240221T234515.228Z",
        "  2024-02-21T23:45:15.228Z ",
        MOMENT_MS,
        float(MOMENT_MS),
        str(MOMENT_MS),
        1_708_559_115.228,
        "1708559115.228",
    ],
)
def test_every_format_names_the_same_instant(value: object) -> None:
    """ISO text in all its forms, seconds and milliseconds agree to the millisecond."""
    assert instant_ms(value) == MOMENT_MS


@pytest.mark.parametrize("value", [1_708_559_115, "1708559115", " 1708559115 ", 1_708_559_115.0])
def test_numbers_below_ten_to_the_twelfth_are_seconds(value: object) -> None:
    """`event.timestamp` counts seconds, quoted or not."""
    assert instant_ms(value) == 1_708_559_115_000


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1_000),
        (4_102_444_799, 4_102_444_799_000),
        (4_102_444_800, None),
        (10**12 - 1, None),
        (10**12, 10**12),
        (4_102_444_799_999, 4_102_444_799_999),
        (4_102_444_800_000, None),
        ("2099-12-31T23:59:59.999Z", 4_102_444_799_999),
        ("2100-01-01T00:00:00Z", None),
    ],
)
def test_limits_are_exact(value: object, expected: int | None) -> None:
    """From 10^12 on a number counts milliseconds; from the year 2100 on it is absurd."""
    assert instant_ms(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "",
        " ",
        "yesterday",
        "2024-02-30T00:00:00Z",
        "1.2.3",
        0,
        -1,
        "-1708559115",
        0.0001,
        10**18,
        "9" * 400,
        10**400,
        float("inf"),
        float("nan"),
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        [1_708_559_115],
        {},
    ],
)
def test_absurd_values_name_no_instant(value: object) -> None:
    """Implausible values count as absent."""
    assert instant_ms(value) is None
