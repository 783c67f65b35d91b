"""Serve a folder on a local port and open it in the browser: serve.py FOLDER PORT."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


def main(folder: str, port: str) -> str | None:
    if not port.isdecimal() or not 0 <= int(port) <= 65535:
        return f"PORT={port} is no port: take a number from 1024 to 65535."
    try:
        server = ThreadingHTTPServer(("127.0.0.1", int(port)), partial(SimpleHTTPRequestHandler, directory=folder))
    except OSError as error:
        why = {errno.EADDRINUSE: "is taken by another program", errno.EACCES: "is not allowed to you"}
        return f"Port {port} {why.get(error.errno, error.strerror)}: take another, as in `make serve PORT=8001`."
    url = f"http://127.0.0.1:{server.server_port}/"
    print(f"The book is at {url} (Ctrl-C stops it)", flush=True)
    # Without a screen `webbrowser` would start a text browser in this terminal.
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        subprocess.Popen([sys.executable, "-m", "webbrowser", "-t", url], stdout=subprocess.DEVNULL)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
