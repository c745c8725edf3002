"""Property tests write real files, whose speed is the disk's: no time limit for a single example."""

from hypothesis import HealthCheck, settings

settings.register_profile("files", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("files")
