"""The report of a random failure contains the command that repeats it."""

import re
import shlex

import pytest

pytest_plugins = ["pytester"]

CONFTEST = 'pytest_plugins = ["tests.support.seeds"]'
SETTINGS = """
    [pytest]
    markers = slow
    addopts = -m 'not slow' -p pytest_randomly -p _hypothesis_pytestplugin
"""
TESTS = """
    import random

    import pytest
    from hypothesis import given, settings, strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, rule

    numbers = st.integers(0, 10**12)

    @settings(database=None)
    @given(numbers)
    def test_given(number):
        print(number)
        assert number < 10**9

    class Machine(RuleBasedStateMachine):
        @rule(number=numbers)
        def step(self, number):
            print(number)
            assert number < 10**9

    Machine.TestCase.settings = settings(database=None)
    TestMachine = Machine.TestCase

    @pytest.mark.slow
    @pytest.mark.parametrize("text", ["it's", "a b"])
    def test_slow(text):
        number = random.random()
        assert number < 0
"""
REPEATED = ("TestMachine.runTest", "test_slow[it's]")
NAMES = (*REPEATED, "test_given", "test_slow[a b]")


def test_the_command_under_a_failure_repeats_it(
    pytester: pytest.Pytester, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test meets the same values when it runs alone as among all tests."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest(CONFTEST)
    pytester.makeini(SETTINGS + f"    pythonpath = {pytestconfig.rootpath}")
    pytester.makepyfile(test_chance=TESTS)
    first = _failures(pytester, "-m", "", "--hypothesis-seed=3", "--randomly-seed=3")
    other = _failures(pytester, "-m", "", "--hypothesis-seed=4", "--randomly-seed=4")
    assert first.keys() == other.keys() == set(NAMES)
    assert not set(first.values()) & set(other.values())
    for name in REPEATED:
        (command,) = re.findall(r"^.*pytest .*--hypothesis-seed=.*$", first[name], re.MULTILINE)
        words = shlex.split(command)
        assert words[0] == ".venv/bin/pytest"
        assert _failures(pytester, *words[1:]) == {name: first[name]}


def _failures(pytester: pytest.Pytester, *words: str) -> dict[str, str]:
    """Run tests in a process of their own; return what was printed of each failure."""
    printed = pytester.runpytest_subprocess(*words).stdout.str()
    title = re.compile(r"^_+ ([^\n]+) _+$\n(.*?)(?=^[_=]{5})", re.MULTILINE | re.DOTALL)
    return dict(title.findall(printed))
