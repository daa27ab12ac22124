"""A training as TensorBoard shows it."""

import io
import math
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboardX.record_writer import RecordWriter

from training.evaluator import Evaluation
from training.monitor import Snapshot

TAGS = {  # of TensorBoard, which makes a group of what is before the slash, and the names of `Snapshot`
    "score/training": "score",
    "score/best_game": "best_score",
    "learning/epsilon": "epsilon",
    "learning/loss": "loss",
    "learning/mean_q": "mean_q",
    "time/episodes": "episodes",
    "time/seconds": "seconds",
    "time/steps_per_second": "steps_per_second",
}


class TensorBoardFile:
    """Writes snapshots as scalars in the groups of `TAGS`, settings as a text, films of games as pictures that move.

    Where that fails, it calls `warn(error)`, leaves the event out and goes on in another file, as TensorBoard reads
    none beyond an event that is cut short: a full disk must not end a training.

    Args:
        folder: Where the file will be; TensorBoard reads all that are in it.
        warn: See above.
        step: Agent steps of the last snapshot before. What an earlier file has of later ones does not count.
        learning_rate: Tells it, when a snapshot comes.

    Raises:
        OSError: If the file cannot be begun.
    """

    def __init__(
        self,
        folder: Path,
        warn: Callable[[Exception], None],
        step: int = 0,
        learning_rate: Callable[[], float] | None = None,
    ) -> None:
        self.folder = folder
        self.warn = warn
        self.learning_rate = learning_rate
        self._file: RecordWriter | None = self._new_file()
        self._write(Event(step=step, session_log=SessionLog(status=SessionLog.START)))

    def __call__(self, snapshot: Snapshot) -> None:
        numbers = {tag: float(getattr(snapshot, name)) for tag, name in TAGS.items()}
        if self.learning_rate:
            numbers["learning/learning_rate"] = self.learning_rate()
        self._add(
            snapshot.step,
            *(Summary.Value(tag=tag, simple_value=x) for tag, x in numbers.items() if not math.isnan(x)),
        )

    def add_evaluation(self, evaluation: Evaluation) -> None:
        """Adds the mean score, a point at the step of which the policy is. For `Evaluator.listeners`."""
        self._add(evaluation.step, Summary.Value(tag="score/evaluation", simple_value=evaluation.mean))

    def add_settings(self, step: int, settings: dict[str, Any]) -> None:
        """Adds a table of settings, as a text."""
        table = "\n".join(
            ["| setting | value |", "|---|---|", *(f"| {name} | {settings[name]} |" for name in settings)]
        )
        text = TensorProto(dtype="DT_STRING", string_val=[table.encode()], tensor_shape=TensorShapeProto())
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        self._add(step, Summary.Value(tag="settings", metadata=metadata, tensor=text))

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
            file = self._file = self._file or self._new_file()
            file.write(event.SerializeToString())
            file.flush()
        except Exception as error:
            with suppress(Exception):
                if self._file:
                    self._file.close()
            self._file = None
            self.warn(error)

    def _new_file(self) -> RecordWriter:
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)  # TensorBoard reads the files by their names' order
        name = f"events.out.tfevents.{seconds}.{nanoseconds:09}.{socket.gethostname()}"
        file = RecordWriter(str(self.folder / name))
        file.write(Event(wall_time=seconds, file_version="brain.Event:2").SerializeToString())
        return file
