"""Property tests here judge what a text becomes; how fast is asked by tests of their own."""

from hypothesis import settings

settings.register_profile("text", deadline=None)
settings.load_profile("text")
