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
    """The outputs of an exported network differ from those of the network in torch."""


def one_line(text: str, most: int = 500) -> str:
    """Return a text that may be hostile as one line that is safe for terminals and files.

    Line breaks, control codes, Unicode's direction marks and bytes that are not UTF-8 are written
    as escapes.

    Parameters
    ----------
    most : largest number of characters of the result; a longer text is cut.
    """
    line = escaped(text[:most])
    return line if len(text) <= most and len(line) <= most else f"{line[: most - 2]} …"


def escaped(text: str) -> str:
    """Return a text in which each character that is not printable is written as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
