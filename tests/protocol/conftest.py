"""Settings of the tests of the protocol."""

from hypothesis import HealthCheck, settings

# A busy machine is not a failure.
settings.register_profile("ppidm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ppidm")
