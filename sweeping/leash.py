"""Runs a script of this folder, and ends it when the process that started it has ended: python leash.py train.py ...

Its standard input is a pipe that nobody writes to. Whoever holds the other end, and lives, keeps the script going.
When that is over, in whatever way, the script gets SIGTERM, so that a training saves; later it is ended by force.
"""

import contextlib
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

SECONDS_TO_SAVE = 60.0


def _wait_for_the_end() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_SAVE)
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def main() -> None:
    """Becomes the script."""
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    threading.Thread(target=_wait_for_the_end, daemon=True).start()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
