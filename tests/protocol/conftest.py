"""Settings of the tests of the protocol."""

from hypothesis import settings

settings.register_profile("ppidm", deadline=None)  # a busy machine is not a failure
settings.load_profile("ppidm")
