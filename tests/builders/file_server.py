"""An HTTP server for the files of a folder."""

import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serving_files(folder):
    """Serve a folder; yields its address.

    There are servers of other kinds below some names: ``/endless`` never ends, ``/endless-page`` is a page that never
    ends, ``/silent`` begins and then sends nothing, ``/short`` ends before the length it stated, ``/loop`` redirects to
    itself. ``serving_files.sent`` counts the bytes of what never ends.
    """
    serving_files.sent = 0

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self):
            for name in ("endless", "silent", "short", "loop"):
                if self.path.startswith(f"/{name}"):
                    return getattr(self, name)()
            return super().do_GET()

        def begin(self, status=200, **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()

        def endless(self):
            self.begin(**({"Content_Type": "text/html"} if "page" in self.path else {}))
            try:
                while True:
                    self.wfile.write(b" " * 2**16)
                    serving_files.sent += 2**16
            except OSError:  # the reader has closed the connection
                pass

        def silent(self):
            self.begin(Content_Length=1000)
            ended.wait(60)

        def short(self):
            self.begin(Content_Length=1000)
            self.wfile.write(b"short")

        def loop(self):
            self.begin(302, Location=self.path)

        def log_message(self, *_):
            pass

    ended = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        ended.set()
        server.shutdown()
        thread.join()
