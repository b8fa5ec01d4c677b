"""Every error that this package raises on purpose, with its exit code and its HTTP status.

::

    PneumoscopeError            exit  status
    ├── UsageError               2     400    the call is wrong: an option, a recipe, a class name
    │   └── MissingExtra         2     501    an optional part is not installed
    ├── ImageError               1     422    this image cannot be judged; the others still can
    │   ├── UnreadableImage      1     422    not a supported image file, or a damaged one
    │   ├── ImageTooLarge        1     413    too large according to its header; not decoded
    │   └── RefusedImage         1     422    readable, but not suitable for the models
    ├── DatasetError             1     422    folder, manifest, archive or split
    ├── BundleError              2     500    a model file that does not follow the contract
    ├── RunError                 1     409    a training run that cannot start or resume
    ├── Busy                     1     503    the service has no capacity left
    └── Interrupted            130     503    stopped by the user

A message is one sentence: what was expected, what was received, and what to do.
"""


class PneumoscopeError(Exception):
    """Base class; catching it catches everything that this package raises on purpose."""

    exit_code = 1
    http_status = 500


class UsageError(PneumoscopeError):
    """The call itself is wrong."""

    exit_code = 2
    http_status = 400


class MissingExtra(UsageError):
    """A feature needs packages that the plain installation does not include."""

    http_status = 501

    def __init__(self, feature: str, extra: str, missing: str) -> None:
        super().__init__(
            f"{feature} needs the package {missing!r}, which is not installed: run  pip install 'pneumoscope[{extra}]'"
        )


class ImageError(PneumoscopeError):
    """One image cannot be judged; a batch continues without it."""

    http_status = 422


class UnreadableImage(ImageError):
    """Not a JPEG, PNG or DICOM file, or a damaged one."""


class ImageTooLarge(ImageError):
    """More bytes or pixels than the limits allow; found in the header, before decoding."""

    http_status = 413


class RefusedImage(ImageError):
    """Readable, but not suitable for the models: blank, tiny, in colour, a strip, a lateral view, another body part."""


class DatasetError(PneumoscopeError):
    """A data folder, manifest, archive or split is not as expected."""

    http_status = 422


class BundleError(PneumoscopeError):
    """A model file is missing, altered, of another kind or of an unknown version: it cannot be used."""

    exit_code = 2


class RunError(PneumoscopeError):
    """A training run cannot start, or cannot resume as asked."""

    http_status = 409


class Busy(PneumoscopeError):
    """The service has no capacity for more work at the moment."""

    http_status = 503


class Interrupted(PneumoscopeError):
    """Stopped by the user (Ctrl-C); the exit code follows the shell convention, 128 + SIGINT."""

    exit_code = 130
    http_status = 503
