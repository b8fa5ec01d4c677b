"""Every error that this package raises on purpose, with its exit code, its HTTP status and its code for programs.

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

A message is one sentence: what was expected, what was received, and what to do. Sentences may change; the codes of
:data:`CODES` stay the same, so programs should compare those.
"""

#: Code -> when. An error has the code of its class, or a finer one that was given with it.
CODES = {
    "failed": "something failed in a way that has no code of its own",
    "wrong_usage": "a wrong parameter, option or call",
    "missing_extra": "an optional part of the installation is missing",
    "not_judged": "the image could not be judged",
    "unreadable": "the image cannot be read",
    "not_found": "there is no such file, path, model or sample",
    "permission": "the rights of the file do not allow reading it",
    "empty": "the file has no content",
    "cut_off": "the end of the file is missing",
    "damaged": "the file is damaged",
    "unsupported_format": "not a format that is read",
    "no_pixels": "a DICOM header without pixels",
    "too_large": "more bytes, pixels, members or DICOM elements than the limits allow",
    "pixel_values": "an array or image of another shape, type or range than stated",
    "unsuitable": "readable, but not an image for the models",
    "blank": "an image without contrast",
    "window": "DICOM with a window that leaves nothing of its pixels",
    "too_small": "fewer pixels than the models need",
    "strip": "much longer than wide, or the reverse",
    "colour": "in colour",
    "modality": "DICOM of another modality",
    "body_part": "DICOM of another part of the body",
    "view": "DICOM of a lateral or another view that is not frontal",
    "for_processing": "a raw DICOM image, FOR PROCESSING",
    "several_frames": "DICOM with several frames",
    "not_human": "DICOM of an animal",
    "age": "DICOM of a patient outside the age range of the models",
    "dataset": "a data folder, manifest, archive or split is not as expected",
    "model_file": "a model file cannot be used, or its network failed",
    "training_run": "a training run cannot start or resume",
    "busy": "the service has no capacity left at the moment",
    "interrupted": "stopped before it was finished",
    "wrong_parameter": "HTTP: a parameter with a value that it cannot have",
    "wrong_form": "HTTP: a form that cannot be read",
    "no_file": "HTTP: a request without a file",
    "too_many_files": "HTTP: more files than a request may have",
    "unauthorized": "HTTP: no token, or a wrong one",
    "cross_origin": "HTTP: sent by a page of another origin",
    "wrong_host": "HTTP: a host name that the service does not answer to",
    "method_not_allowed": "HTTP: a method that the path does not have",
    "request_timeout": "HTTP: the request took too long to arrive",
    "answer_timeout": "HTTP: the answer took too long",
    "stopping": "HTTP: the service ends",
    "internal_error": "HTTP: an error of the service itself",
}


class PneumoscopeError(Exception):
    """Base class; catching it catches everything that this package raises on purpose.

    Args:
        message: one sentence.
        code: a finer one than that of the class, of :data:`CODES`.
    """

    code = "failed"
    exit_code = 1
    http_status = 500

    def __init__(self, *message: object, code: str | None = None) -> None:
        super().__init__(*message)
        if code is not None:
            self.code = code


class UsageError(PneumoscopeError):
    """The call itself is wrong."""

    code = "wrong_usage"
    exit_code = 2
    http_status = 400


class MissingExtra(UsageError):
    """A feature needs packages that the plain installation does not include."""

    code = "missing_extra"
    http_status = 501

    def __init__(self, feature: str, extra: str, missing: str) -> None:
        super().__init__(
            f"{feature} needs the package {missing!r}, which is not installed: run  pip install 'pneumoscope[{extra}]'"
        )


class ImageError(PneumoscopeError):
    """One image cannot be judged; a batch continues without it."""

    code = "not_judged"
    http_status = 422


class UnreadableImage(ImageError):
    """Not a JPEG, PNG or DICOM file, or a damaged one."""

    code = "unreadable"


class ImageTooLarge(ImageError):
    """More bytes or pixels than the limits allow; found in the header, before decoding."""

    code = "too_large"
    http_status = 413


class RefusedImage(ImageError):
    """Readable, but not suitable for the models: blank, tiny, in colour, a strip, a lateral view, another body part."""

    code = "unsuitable"


class DatasetError(PneumoscopeError):
    """A data folder, manifest, archive or split is not as expected."""

    code = "dataset"
    http_status = 422


class BundleError(PneumoscopeError):
    """A model file is missing, altered, of another kind or of an unknown version: it cannot be used."""

    code = "model_file"
    exit_code = 2


class RunError(PneumoscopeError):
    """A training run cannot start, or cannot resume as asked."""

    code = "training_run"
    http_status = 409


class Busy(PneumoscopeError):
    """The service has no capacity for more work at the moment."""

    code = "busy"
    http_status = 503


class Interrupted(PneumoscopeError):
    """Stopped by the user (Ctrl-C); the exit code follows the shell convention, 128 + SIGINT."""

    code = "interrupted"
    exit_code = 130
    http_status = 503
