"""What holds for every test."""

from hypothesis import settings

settings.register_profile("relay", deadline=None)  # a busy machine is no defect
settings.load_profile("relay")
