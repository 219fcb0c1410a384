"""What a user can put right.

A `StegoError` is shown as one message without a traceback. Its text gives the value, the rule and, after a blank
line, a hint at the next step. Anything else that escapes is our bug and keeps its traceback.
"""


class StegoError(Exception):
    """Something the user can put right; the command line exits with 2."""


class ConfigError(StegoError):
    """A config file, an override or an option is wrong; lists every problem at once."""


class ImageError(StegoError):
    """One image cannot be read or used; a run names it, skips it and goes on."""


class ShapeError(StegoError):
    """A tensor or an image has a size that the code cannot work with."""


class WeightsError(StegoError):
    """Weights are missing, or do not fit the network they are loaded into."""


class CheckpointError(StegoError):
    """A checkpoint is truncated, hostile, or not a model that this tool knows."""


class OutputError(StegoError):
    """A result cannot be written: no permission, no space, or something else in its place."""


class DeviceError(StegoError):
    """The device or precision asked for is not there, or its memory is exhausted."""


class MissingDependencyError(StegoError):
    """An optional package is needed and not installed; names the extra that brings it."""


class StaleError(StegoError):
    """A cache or index was made from something else than what is asked for; names the differences."""
