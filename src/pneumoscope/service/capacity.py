"""How much the service holds at a time: images and bytes are counted before they are kept, so memory has a bound."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pneumoscope.errors import Busy, ImageTooLarge, UsageError

#: Images that the service may hold at a time, and the bytes of their files.
MAX_IMAGES, MAX_BYTES = 128, 400_000_000


@dataclass
class Capacity:
    """Images and bytes that the service holds, with their limits; ``observe`` is called with the number of images."""

    images: int = 0
    bytes: int = 0
    max_images: int = MAX_IMAGES
    max_bytes: int = MAX_BYTES
    observe: Callable[[float], None] | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def acquire(self, images: int = 0, size: int = 0) -> None:
        """Add images, or bytes.

        Raises:
            Busy: there is no room for them.
        """
        with self._lock:
            if self.images + images > self.max_images or self.bytes + size > self.max_bytes:
                raise Busy("expected room for more images, the service is full: try again in a second")
            self._change(images, size)

    def release(self, images: int = 0, size: int = 0) -> None:
        """Subtract them."""
        with self._lock:
            self._change(-images, -size)

    def _change(self, images: int, size: int) -> None:
        self.images, self.bytes = self.images + images, self.bytes + size
        if self.observe and images:
            self.observe(self.images)


class Admission:
    """What one request holds of the capacity.

    As a context it gives everything back if an error ends the request. Otherwise the request gives it back with its
    answer, see :meth:`release_after_sending`.

    Raises:
        Busy: the service is full; this comes before anything of the request is read.
    """

    def __init__(self, capacity: Capacity) -> None:
        self._capacity, self._images, self._bytes = capacity, 0, 0
        capacity.acquire(images=1)
        capacity.release(images=1)

    def __enter__(self) -> "Admission":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self.release()

    def admit_image(self) -> None:
        """Hold one more image.

        Raises:
            UsageError: this request alone has more images than the service may hold.
        """
        if self._images >= self._capacity.max_images:
            sentence = f"expected at most {self._capacity.max_images} files a request, received more: send fewer"
            raise UsageError(sentence, code="too_many_files")
        self._capacity.acquire(images=1)
        self._images += 1

    def reserve_bytes(self, size: int) -> None:
        """Hold more bytes, of files or of the answer.

        Raises:
            ImageTooLarge: this request alone has more bytes than the service may hold.
        """
        if self._bytes + size > self._capacity.max_bytes:
            raise ImageTooLarge(
                f"expected at most {self._capacity.max_bytes // 10**6} MB a request, received more: send fewer files"
            )
        self._capacity.acquire(size=size)
        self._bytes += size

    def release(self) -> None:
        """Give everything back."""
        self._capacity.release(self._images, self._bytes)
        self._images = self._bytes = 0

    def release_after_sending(self, response: Response) -> Response:
        """A response that gives everything back once its last byte is sent, or the client is gone."""
        return _ReleasingResponse(response, self)


class _ReleasingResponse(Response):
    def __init__(self, response: Response, admission: Admission) -> None:
        self.response, self.admission, self.background = response, admission, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.response(scope, receive, send)
        finally:
            self.admission.release()
