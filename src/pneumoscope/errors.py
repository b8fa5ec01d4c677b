"""Every error that a user can meet, with its exit code and its HTTP status.

::

    PneumoscopeError            exit  status
    ├── UsageError               2     400    the call is wrong: an option, a recipe, a class name
    │   └── MissingExtra         2     501    an optional part is not installed
    ├── ImageError               1     422    this image cannot be judged; the others go on
    │   ├── UnreadableImage      1     422    not an image that we read, or a spoilt one
    │   ├── ImageTooLarge        1     413    refused from its header, before decoding
    │   └── RefusedImage         1     422    readable, but not something to judge
    ├── DatasetError             1     422    folder, manifest, archive or split
    ├── BundleError              2     500    a model file that breaks its contract
    ├── RunError                 1     409    a training run that cannot start or go on
    ├── Busy                     1     503    a service that is given more than it can hold
    └── Interrupted            130     503    stopped by the user

A message says what was expected, what was received, and what to do, in one sentence.
"""


class PneumoscopeError(Exception):
    """Root of the tree; catching it catches everything this package raises on purpose."""

    exit_code = 1
    http_status = 500


class UsageError(PneumoscopeError):
    """The call itself is wrong."""

    exit_code = 2
    http_status = 400


class MissingExtra(UsageError):
    """A feature needs packages that a plain installation leaves out."""

    http_status = 501

    def __init__(self, feature: str, extra: str, missing: str) -> None:
        super().__init__(
            f"{feature} needs the package {missing!r}, which is not installed: run  pip install 'pneumoscope[{extra}]'"
        )


class ImageError(PneumoscopeError):
    """One image cannot be judged; a batch goes on without it."""

    http_status = 422


class UnreadableImage(ImageError):
    """Not a JPEG, PNG or DICOM file, or a damaged one."""


class ImageTooLarge(ImageError):
    """More bytes or pixels than are read; said from the header, before decoding."""

    http_status = 413


class RefusedImage(ImageError):
    """Readable, but not to be judged: blank, tiny, in colour, a strip, a lateral view, another body part."""


class DatasetError(PneumoscopeError):
    """A data folder, manifest, archive or split is not what it should be."""

    http_status = 422


class BundleError(PneumoscopeError):
    """A model file that is missing, foreign, altered or of an unknown version: nothing can be judged."""

    exit_code = 2


class RunError(PneumoscopeError):
    """A training run that cannot start, or cannot be resumed as asked."""

    http_status = 409


class Busy(PneumoscopeError):
    """A service has no room for more work at the moment."""

    http_status = 503


class Interrupted(PneumoscopeError):
    """Stopped by the user (Ctrl-C); the exit code is the shell's, 128 + SIGINT."""

    exit_code = 130
    http_status = 503
