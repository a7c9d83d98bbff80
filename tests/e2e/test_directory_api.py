"""Users and the directory at the admin door."""

import gzip
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest

from tests.support.relays import (
    COHORT,
    Relay,
    Response,
    app_environment,
    cohort_message,
    event,
    running_relay,
)

HEADER = b"id,identifier,device_type,invalid_identifier,external_user_id,notification_types\n"


def offline(**changes: str) -> dict[str, str]:
    """Return the settings of an app whose services are unreachable."""
    return {**app_environment("shop", "http://127.0.0.1:9"), **changes}


def export(users: Iterable[str]) -> bytes:
    """Return a OneSignal export of users, each with one subscription."""
    rows = (f"s-{user},token,0,f,{user},1\n".encode() for user in users)
    return HEADER + b"".join(rows)


async def send(relay: Relay, file: bytes, query: str = "", app: str = "shop") -> Response:
    """Post a file to the directory."""
    url = f"{relay.admin}/api/v1/directory/{app}/import{query}"
    return await relay.ask("POST", url, data=file)


async def test_a_user_is_shown_with_subscriptions_and_segments(tmp_path: Path) -> None:
    """The response also says why the user is a member or not."""
    async with running_relay(tmp_path, offline()) as relay:
        subscriptions_of = {
            "subscriptions": [
                {"id": "s-1", "type": "iOSPush", "subscribed": True},
                {"id": "s-2", "type": "Email", "subscribed": False},
            ]
        }
        assert (await relay.api("PUT", "/directory/shop/anna", subscriptions_of)).status == 204
        await relay.post(cohort_message(1, "anna"), webhook="cohorts")
        other = cohort_message(2, "stranger") | {"cohort_id": "other"}
        await relay.post(other, webhook="cohorts")
        user = (await relay.api("GET", "/users/shop/anna")).json
        assert user["subscriptions"] == subscriptions_of["subscriptions"]
        assert [(item["cohort_id"], item["name"]) for item in user["segments"]] == [
            (COHORT, "Buyers")
        ]
        assert {
            item["cohort_id"]: (item["is_listed"], item["is_member"], item["reason"] is None)
            for item in user["cohorts"]
        } == {COHORT: (True, True, True), "other": (False, False, False)}
        unknown = (await relay.api("GET", "/users/shop/stranger")).json
        assert (unknown["known_at"], unknown["subscriptions"]) == (None, [])
        assert {item["is_member"] for item in unknown["cohorts"]} == {False}


@pytest.mark.parametrize("id_", ["a/b", "a%2Fb", "..", "a b+c", "jürgen", "{x}", "100%", "\n"])
async def test_a_user_may_be_named_anything(tmp_path: Path, id_: str) -> None:
    """An External ID is arbitrary text."""
    async with running_relay(tmp_path, offline()) as relay:
        path = f"/users/shop/{quote(id_, safe='').replace('.', '%2E')}"
        await relay.know(id_.replace(".", "."))
        user = await relay.api("GET", path)
        assert (user.status, user.json["external_id"]) == (200, id_)
        assert (await relay.api("DELETE", path)).status == 204
        assert (await relay.api("GET", path)).status == 404


async def test_a_put_replaces_the_user_s_subscriptions(tmp_path: Path) -> None:
    """A PUT sets all subscriptions; segments follow in the same step."""
    async with running_relay(tmp_path, offline()) as relay:
        await relay.know("anna")
        await relay.post(cohort_message(1, "anna"), webhook="cohorts")
        await relay.api("PUT", "/directory/shop/anna", {"subscriptions": []})
        assert (await relay.api("GET", "/users/shop/anna")).json["subscriptions"] == []
        segment = (await relay.api("GET", f"/segments/shop/{COHORT}")).json
        assert (segment["matched_users"], segment["subscribed_count"]) == (1, 0)


def subscriptions_of(*ids: str, **over: object) -> dict[str, object]:
    """Return the body of a PUT of a user."""
    return {
        "subscriptions": [{"id": id_, "type": "Email", "subscribed": True, **over} for id_ in ids]
    }


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"subscriptions": None},
        subscriptions_of("s-1", "s-1"),
        subscriptions_of(""),
        subscriptions_of("x" * 257),
        subscriptions_of("s-1", subscribed="yes"),
        subscriptions_of("s-1", subscribed=1),
        subscriptions_of("s-1", type=""),
        subscriptions_of("s-1", token="secret"),
        subscriptions_of("s-1") | {"email": "anna@mail.example"},
        subscriptions_of(*(str(number) for number in range(1_001))),
    ],
)
async def test_an_invalid_put_changes_nothing(tmp_path: Path, body: object) -> None:
    """400 with a reason that quotes nothing of the body."""
    async with running_relay(tmp_path, offline()) as relay:
        answer = await relay.api("PUT", "/directory/shop/anna", body)
        assert (answer.status, set(answer.json)) == (400, {"error"})
        assert "secret" not in answer.json["error"]
        assert (await relay.api("GET", "/users/shop/anna")).status == 404


async def test_a_forgotten_user_stays_forgotten(tmp_path: Path) -> None:
    """No later input of any kind makes the user known again."""
    async with running_relay(tmp_path, offline()) as relay:
        await relay.know("anna", "ben")
        await relay.post(cohort_message(1, "anna", "ben"), webhook="cohorts")
        await relay.post(event(1, external_id="anna"))
        assert (await relay.api("DELETE", "/users/shop/anna")).status == 204
        assert (await relay.api("DELETE", "/users/shop/nobody")).status == 204
        await relay.know("anna")
        await relay.post(cohort_message(2, "anna"), webhook="cohorts")
        assert (await send(relay, export(["anna", "ben"]))).status == 200
        assert (await relay.api("GET", "/users/shop/anna")).status == 404
        status = await relay.status()
        assert (status["pending"], status["discarded"]) == (0, 1)
        lines = await relay.lines(f"/segments/shop/{COHORT}/members")
        assert [line["external_id"] for line in lines] == ["ben"]


async def test_a_file_is_imported_plain_and_compressed(tmp_path: Path) -> None:
    """It may be longer than any other body; the response summarises it."""
    users = [f"user-{number:07}-with-a-rather-long-id" for number in range(60_000)]
    file = export(users) + b"s-0,token,0,f,,1\n,token,0,f,user-x,1\n"
    assert len(file) > 4 * 1024 * 1024
    async with running_relay(tmp_path, offline()) as relay:
        for sent in (file, gzip.compress(file, compresslevel=1)):
            answer = await send(relay, sent)
            assert (answer.status, answer.json) == (
                200,
                {
                    "affected": 60_000,
                    "rows": 60_002,
                    "users": 60_000,
                    "anonymous": 1,
                    "broken_rows": 1,
                },
            )
        directory = (await relay.api("GET", "/directory/shop")).json
        assert (directory["users"], directory["subscribed"]) == (60_000, 60_000)


async def test_a_file_adds_or_replaces(tmp_path: Path) -> None:
    """By default users missing from the file stay."""
    async with running_relay(tmp_path, offline()) as relay:
        await send(relay, export(["anna"]))
        await send(relay, export(["ben"]))
        assert (await relay.api("GET", "/users/shop/anna")).status == 200
        assert (await send(relay, export(["ben"]), "?replace=true")).status == 200
        assert (await relay.api("GET", "/users/shop/anna")).status == 404


@pytest.mark.parametrize(
    ("file", "query", "status"),
    [
        (b"", "", 400),
        (b"<html>", "", 400),
        (b"name,age\nanna,7\n", "", 400),
        (export(["anna"]) + b'"open', "", 400),
        (gzip.compress(export(["anna"]))[:-9], "", 400),
        (export(["anna"]), "?replace=perhaps", 400),
        (export(["anna"]), "?colour=red", 400),
    ],
)
async def test_a_truncated_file_changes_nothing(
    tmp_path: Path, file: bytes, query: str, status: int
) -> None:
    """400 says what is wrong with it."""
    async with running_relay(tmp_path, offline()) as relay:
        answer = await send(relay, file, query)
        assert (answer.status, set(answer.json)) == (status, {"error"})
        assert (await relay.api("GET", "/users/shop/anna")).status == 404


async def test_one_file_of_an_app_is_read_at_a_time(tmp_path: Path) -> None:
    """A second one is rejected for now; a broken upload frees the place."""
    async with running_relay(tmp_path, offline()) as relay:
        host, port = relay.admin.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(
                b"POST /api/v1/directory/shop/import HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Content-Length: 1000000\r\n\r\n" + HEADER
            )
            with anyio.fail_after(10):
                while (answer := await send(relay, export(["anna"]))).status == 200:
                    await anyio.sleep(0.01)
            assert (answer.status, set(answer.json)) == (409, {"error"})
        with anyio.fail_after(10):
            while (await send(relay, export(["anna"]))).status != 200:
                await anyio.sleep(0.01)


async def test_the_directory_reports_its_size_and_age(tmp_path: Path) -> None:
    """Without a OneSignal key nothing is refreshed, and a refresh request says why."""
    async with running_relay(tmp_path, offline()) as relay:
        await relay.know("anna")
        await relay.know("ben", subscribed=False)
        assert (await relay.api("GET", "/directory/shop")).json == {
            "app": "shop",
            "users": 2,
            "subscriptions": 2,
            "subscribed": 1,
            "exported_at": None,
            "synced_at": None,
            "sync": {"is_running": False, "last_error": None, "next_at": None},
        }
        answer = await relay.api("POST", "/directory/shop/sync")
        assert answer.status == 409
        assert "ONESIGNAL_API_KEY" in answer.json["error"]


async def test_an_unknown_app_is_404_everywhere(tmp_path: Path) -> None:
    """Nothing is created for it."""
    async with running_relay(tmp_path, offline()) as relay:
        for method, path, body in (
            ("GET", "/users/nobody/anna", None),
            ("DELETE", "/users/nobody/anna", None),
            ("PUT", "/directory/nobody/anna", subscriptions_of("s-1")),
            ("GET", "/directory/nobody", None),
            ("POST", "/directory/nobody/sync", None),
            ("POST", "/directory/nobody/import", None),
        ):
            answer = await relay.api(method, path, body)
            assert (answer.status, set(answer.json)) == (404, {"error"})


@pytest.mark.parametrize("field", ["id", "type"])
async def test_an_id_that_sqlite_would_cut_is_a_mistake(tmp_path: Path, field: str) -> None:
    """Cut at U+0000 it would be another subscription's, user's or cohort's."""
    async with running_relay(tmp_path, offline()) as relay:
        one = {"id": "s-1", "type": "iOSPush", "subscribed": True, field: "s-1\0x"}
        for method, path, body in (
            ("PUT", "/directory/shop/anna", {"subscriptions": [one]}),
            ("PUT", "/directory/shop/anna%00x", subscriptions_of("s-1")),
            ("DELETE", "/users/shop/anna%00x", None),
            ("GET", "/segments/shop/c%00x/members", None),
            ("GET", "/cohort-runs?cohort_id=c%00x", None),
        ):
            answer = await relay.api(method, path, body)
            assert (answer.status, "U+0000" in answer.json["error"]) == (400, True)
        assert (await relay.api("GET", "/users/shop/anna")).status == 404
