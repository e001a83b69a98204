"""Serves stock moto on a free port of loopback, says its URL, and ends when standard input does."""

import os
import sys

# Or each list of snapshots has a thousand of images that nobody asked for.
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"

from moto.server import ThreadedMotoServer  # noqa: E402

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
print(f"http://{host}:{port}", flush=True)
sys.stdin.read()
