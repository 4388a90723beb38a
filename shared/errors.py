"""The errors that a user is meant to read.

A message is one line and says what was expected, what was found, where, and what to do. Only
these reach the platform's user; anything else is our own mistake and is reported as such.
"""


class HecktorError(ValueError):
    """Something the user gave cannot be used; the message tells the next step."""


class InputError(HecktorError):
    """An image, the EHR or the input folder is missing, unreadable or contradictory."""


class ModelError(HecktorError):
    """A model folder is incomplete, altered or does not fit the code that reads it."""


class ExportError(HecktorError):
    """An exported network departs from the network it was made from."""
