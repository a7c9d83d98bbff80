"""The plan of the demo: what is sent is known in advance."""

from pathlib import Path

from relay.demo.cast import App, Doors, make_app, relay_environment
from relay.demo.findings import find_leaks
from relay.demo.script import Script, write_script

from relay.events.catalog import KINDS, SEED_KINDS
from relay.settings import Address, load_settings

APPS = (
    App("shop", "11111111-2222-4333-8444-555555555555", "t1", "k1", "s1", "o1"),
    App("news", "21111111-2222-4333-8444-555555555555", "t2", "k2", "s2", "o2"),
)


def plan(seed: int = 1, events: int = 4_000) -> Script:
    """Return a plan."""
    return write_script(APPS, events, seed, 1_767_261_906_412)


def test_a_seed_gives_the_same_plan() -> None:
    """So that a failure can be seen again."""
    assert plan() == plan()
    assert plan().poison != plan(seed=2).poison


def test_all_kinds_are_sent_and_the_seeds_are_wanted() -> None:
    """21 kinds reach Amplitude, the live activities are filtered."""
    script = plan(events=1_000)
    kinds = {event["event"]["kind"] for flow in script.flows["traffic"] for event in flow.events}
    assert kinds == KINDS
    wanted = {
        event["event"]["kind"]
        for flows in script.flows.values()
        for flow in flows
        for event in flow.events
        if event["event"]["id"] in script.wanted[flow.app.name]
    }
    assert wanted == set(SEED_KINDS)


def test_about_as_many_events_as_asked_for() -> None:
    """Late events come on top."""
    assert 3_950 <= plan().total_events <= 4_050


def test_poison_is_four_events_of_free_devices() -> None:
    """The throttled device's own events must not die."""
    script = plan()
    devices = {
        str(event["event"]["id"]): event["event"]["subscription_id"]
        for flow in script.flows["poison"]
        for event in flow.events
    }
    poison = script.poison.reasons()
    assert len(poison) == 4
    assert script.fast_device not in {devices[name] for name in poison}
    assert all(name in script.wanted["shop"] | script.wanted["news"] for name in poison)


def test_late_events_come_after_their_message() -> None:
    """Their message was sent in an earlier act, and they say nothing but its id."""
    script = plan()
    told = {
        event["message"]["id"]: event["message"].get("name")
        for flow in script.flows["traffic"]
        for event in flow.events
    }
    late = [
        (event, script.late[flow.app.name][str(event["event"]["id"])])
        for flow in script.flows["outage"]
        for event in flow.events
        if event["event"]["id"] in script.late[flow.app.name]
    ]
    assert len(late) == 24
    assert all(event["message"].keys() == {"id"} for event, _ in late)
    assert all(told[event["message"]["id"]] == name for event, name in late)


def test_relay_gets_the_demos_settings_and_nobody_elses() -> None:
    """What the environment says of another relay must not leak in."""
    apps = (make_app("shop"), make_app("news"))
    doors = Doors(Address("127.0.0.1", 5), Address("127.0.0.1", 6), "http://127.0.0.1:7")
    inherited = {
        "PATH": "/bin",
        "relay_listen": "0.0.0.0:1",
        "RELAY_NONSENSE": "x",
        "NOTIFY_SOCKET": "/run/x",
        "CREDENTIALS_DIRECTORY": "/run/y",
    }
    folder = Path("/nowhere/data")
    environment = relay_environment(inherited, apps, doors, folder)
    settings = load_settings(environ=environment)
    assert environment["PATH"] == "/bin"
    assert not environment.keys() & {"NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "relay_listen"}
    assert settings.data_dir == folder
    assert sorted(settings.apps) == ["news", "shop"]
    assert apps[0].api_key != apps[1].api_key
    assert ["7khm89cz" in settings.apps[name].cohorts for name in ("shop", "news")] == [True, False]


def test_leaks_are_found_and_secrets_are_not_repeated() -> None:
    """What is printed about a leak may be read by anybody."""
    found = find_leaks("key=abc user-10001", {"abc": "the key", "def": "the token"}, {"user-10001"})
    assert found == ["the key", "user-10001"]
