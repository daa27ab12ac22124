"""A training as TensorBoard shows it."""

import io
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from PIL import Image
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from training.monitor import Snapshot


class TensorBoardFile:
    """Writes snapshots as scalars, under the names of `Snapshot`, and films of games as pictures that move.

    Where that fails, it calls `warn(error)` and leaves the event out: a full disk must not end a training.

    Args:
        folder: Where the file will be; TensorBoard reads all that are in it.
        warn: See above.
        step: Agent steps of the last snapshot before. What an earlier file has of later ones does not count.

    Raises:
        OSError: If the file cannot be begun.
    """

    def __init__(self, folder: Path, warn: Callable[[Exception], None], step: int = 0) -> None:
        self.warn = warn
        self._writer = EventsWriter(str(folder / "events"))
        self._write(Event(step=step, session_log=SessionLog(status=SessionLog.START)))

    def __call__(self, snapshot: Snapshot) -> None:
        numbers = {name: float(number) for name, number in asdict(snapshot).items() if name != "step"}
        self._add(
            snapshot.step,
            *(Summary.Value(tag=name, simple_value=x) for name, x in numbers.items() if not math.isnan(x)),
        )

    def add_picture(self, step: int, name: str, data: bytes) -> None:
        """Adds a picture, a file that Pillow knows; a GIF may move."""
        width, height = Image.open(io.BytesIO(data)).size
        image = Summary.Image(encoded_image_string=data, width=width, height=height, colorspace=3)
        self._add(step, Summary.Value(tag=name, image=image))

    def _add(self, step: int, *values: Summary.Value) -> None:
        self._write(Event(step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        try:
            self._writer.write_event(event)
            self._writer.flush()
        except OSError as error:
            self.warn(error)
