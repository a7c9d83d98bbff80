"""The traffic plan of the demo: what is sent is known in advance."""

from pathlib import Path

from relay.demo.config import Addresses, App, make_app, relay_environment
from relay.demo.scenario import find_leaks
from relay.demo.traffic_plan import TrafficPlan, make_traffic_plan
from relay.events.catalog import KINDS, SEED_KINDS
from relay.settings import Address, load_settings

APPS = (
    App("shop", "11111111-2222-4333-8444-555555555555", "t1", "k1", "s1", "o1"),
    App("news", "21111111-2222-4333-8444-555555555555", "t2", "k2", "s2", "o2"),
)


def plan(seed: int = 1, events: int = 4_000) -> TrafficPlan:
    """Return a plan."""
    return make_traffic_plan(APPS, events, seed, 1_767_261_906_412)


def test_a_seed_gives_the_same_plan() -> None:
    """So that a failure can be repeated."""
    assert plan() == plan()
    assert plan().poison != plan(seed=2).poison


def test_all_kinds_are_sent_and_the_seeds_are_wanted() -> None:
    """21 kinds reach Amplitude, the live activities are filtered."""
    traffic = plan(events=1_000)
    kinds = {
        event["event"]["kind"] for stream in traffic.streams("traffic") for event in stream.events
    }
    assert kinds == KINDS
    wanted = {
        event["event"]["kind"]
        for own in traffic.apps.values()
        for step in own.streams
        for event in own.wanted_events(step)
    }
    assert wanted == set(SEED_KINDS)


def test_about_the_requested_number_of_events_is_sent() -> None:
    """Late events are extra."""
    traffic = plan()
    total = sum(traffic.event_count(step) for step in traffic.apps["shop"].streams)
    assert 3_950 <= total <= 4_050


def test_poison_is_four_events_of_free_devices() -> None:
    """The throttled device's own events must not be dead-lettered."""
    traffic = plan()
    devices = {
        str(event["event"]["id"]): event["event"]["subscription_id"]
        for stream in traffic.streams("poison")
        for event in stream.events
    }
    poison = traffic.poison.reasons()
    assert len(poison) == 4
    assert traffic.fast_device not in {devices[name] for name in poison}
    assert all(name in traffic.apps["shop"].wanted | traffic.apps["news"].wanted for name in poison)


def test_late_events_come_after_their_message() -> None:
    """Their message was sent in an earlier step, and they have only its id."""
    traffic = plan()
    told = {
        event["message"]["id"]: event["message"].get("name")
        for stream in traffic.streams("traffic")
        for event in stream.events
    }
    late = [
        (event, traffic.apps[stream.app.name].late[str(event["event"]["id"])])
        for stream in traffic.streams("outage")
        for event in stream.events
        if event["event"]["id"] in traffic.apps[stream.app.name].late
    ]
    assert len(late) == 24
    assert all(event["message"].keys() == {"id"} for event, _ in late)
    assert all(told[event["message"]["id"]] == name for event, name in late)


def test_relay_gets_only_the_demo_s_settings() -> None:
    """The environment of another relay must not leak in."""
    apps = (make_app("shop"), make_app("news"))
    addresses = Addresses(Address("127.0.0.1", 5), Address("127.0.0.1", 6), "http://127.0.0.1:7")
    inherited = {
        "PATH": "/bin",
        "relay_listen": "0.0.0.0:1",
        "RELAY_NONSENSE": "x",
        "NOTIFY_SOCKET": "/run/x",
        "CREDENTIALS_DIRECTORY": "/run/y",
    }
    folder = Path("/nowhere/data")
    environment = relay_environment(inherited, apps, addresses, folder)
    settings = load_settings(environ=environment)
    assert environment["PATH"] == "/bin"
    assert not environment.keys() & {"NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "relay_listen"}
    assert settings.data_dir == folder
    assert sorted(settings.apps) == ["news", "shop"]
    assert apps[0].api_key != apps[1].api_key
    assert ["7khm89cz" in settings.apps[name].cohorts for name in ("shop", "news")] == [True, False]


def test_leaks_are_found_and_secrets_are_not_repeated() -> None:
    """A report about a leak must not leak it again."""
    found = find_leaks("key=abc user-10001", {"abc": "the key", "def": "the token"}, {"user-10001"})
    assert found == ["the key", "user-10001"]
