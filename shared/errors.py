"""Errors whose message is written for the user.

A message is one line that says what was expected, what was found, where, and what to do. The
platform's user sees only the messages of these errors; any other exception is reported as a bug.
"""


class HecktorError(ValueError):
    """The user's input cannot be used; the message says what to do next."""


class InputError(HecktorError):
    """An image, the EHR or the input folder is missing, unreadable or contradictory."""


class OutputError(HecktorError):
    """An output cannot be written."""


class ModelError(HecktorError):
    """A model folder is incomplete or modified, or does not fit the code that reads it."""


class ExportError(HecktorError):
    """An exported network gives other outputs than the network in torch."""
