"""What holds for every test."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.launch", "tests.support.seeds"]

settings.register_profile(
    "relay",
    deadline=None,  # a busy machine is no defect
    suppress_health_check=[HealthCheck.too_slow],  # likewise
    derandomize=False,  # the seed of the session decides, also on machines that set CI
    print_blob=False,  # one way to repeat a failure is enough
)
settings.load_profile("relay")
