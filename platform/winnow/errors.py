"""Errors that a user can act on.

Every message names the value, what was expected and the way out. ``exit_code`` is what
the command line returns: 2 configuration, 3 input data, 4 too many failed rows.
"""


class WinnowError(Exception):
    """Base of all errors that Winnow raises on purpose."""

    exit_code = 1


class ConfigError(WinnowError):
    """The configuration, or the machine it meets, cannot work."""

    exit_code = 2


class DataError(WinnowError):
    """An input file or a step's input is missing or unusable."""

    exit_code = 3


class IndexMismatchError(DataError):
    """An index does not match its manifest, or the encoder that queries it."""


class JudgmentParseError(WinnowError):
    """A judge's reply could not be read; the row is missing data, never a label."""


class TooManyFailuresError(WinnowError):
    """More rows failed than the configuration allows."""

    exit_code = 4
