"""The errors a user can meet. Each message states the fact, the value and the remedy.

```
PlauditError            anything Plaudit refuses to do; the command line prints it without a traceback (exit code 2)
├── DataError           a file, row or record is not what was expected        also a ValueError
├── ConfigError         a setting is unknown, of the wrong type or impossible also a ValueError
├── ModelError          a model, tokenizer or head is missing or unfit        also a ValueError
├── RunError            a run folder or file cannot be written or continued   also an OSError
├── DoctorError         training is silently wrong: an invariant is broken    also a RuntimeError
└── Interrupted         the user stopped the work; what was done is saved     also a RuntimeError
```
"""


class PlauditError(Exception):
    """Base of every error that is the fault of the input, the settings or the machine rather than of the code."""


class DataError(PlauditError, ValueError):
    """A file, row or record is not what was expected."""


class ConfigError(PlauditError, ValueError):
    """A setting is unknown, has the wrong type, or does not fit the others."""


class ModelError(PlauditError, ValueError):
    """A model, its tokenizer or its head is missing or unfit for what it was asked to do."""


class RunError(PlauditError, OSError):
    """A run folder or file cannot be written, read or continued."""


class DoctorError(PlauditError, RuntimeError):
    """An invariant of training is broken: going on would produce a wrong model without saying so."""


class Interrupted(PlauditError, RuntimeError):  # noqa: N818 (an event rather than a fault)
    """The user stopped the work. Deliberately no KeyboardInterrupt, so that `except PlauditError` can report it."""
