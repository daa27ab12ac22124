"""The event file, read as TensorBoard does: length, checksum and content of each record."""

import dataclasses
import io
import math
import struct

import numpy as np
import pytest
from PIL import Image
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event, SessionLog

from training.monitor import Snapshot
from training.tensorboard import TensorBoardFile

SNAPSHOT = Snapshot(500, 2.5, 200.0, 3, 1.5, 4.0, math.nan, 0.9, 0.01, 0.2)


def masked(data):
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path):
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert struct.unpack("<I", data[8:12]) == (masked(data[:8]),)
        content, data = data[12 : 12 + length], data[12 + length :]
        assert struct.unpack("<I", data[:4]) == (masked(content),)
        found.append(Event.FromString(content))
        data = data[4:]
    return found


def refuse(error):
    raise AssertionError(error)


def test_each_known_number_of_a_snapshot_is_a_scalar_under_its_name(tmp_path):
    TensorBoardFile(tmp_path, refuse)(SNAPSHOT)
    (path,) = tmp_path.iterdir()
    first, start, event = events(path)
    assert first.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (0, SessionLog.START)
    assert event.step == 500
    expected = {name: x for name, x in dataclasses.asdict(SNAPSHOT).items() if name not in ("step", "evaluation")}
    assert {v.tag: v.simple_value for v in event.summary.value} == pytest.approx(expected)


def test_a_film_stays_as_it_is(tmp_path):
    file = io.BytesIO()
    pictures = [Image.fromarray(np.full((210, 160, 3), grey, np.uint8)) for grey in (0, 90, 250)]
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:])
    TensorBoardFile(tmp_path, refuse).add_picture(700, "game", file.getvalue())
    (path,) = tmp_path.iterdir()
    *_, event = events(path)
    (value,) = event.summary.value
    assert (event.step, value.tag, value.image.width, value.image.height) == (700, "game", 160, 210)
    assert value.image.encoded_image_string == file.getvalue()


def test_a_resumed_training_takes_back_what_came_after(tmp_path):
    TensorBoardFile(tmp_path, refuse, step=25_000)
    (path,) = tmp_path.iterdir()
    assert [(event.step, event.session_log.status) for event in events(path)][-1] == (25_000, SessionLog.START)


def test_a_full_disk_is_said_and_nothing_more(tmp_path):
    resource = pytest.importorskip("resource", reason="limits on the size of a file are POSIX")
    warnings: list[Exception] = []
    file = TensorBoardFile(tmp_path, warnings.append)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as a disk with room for 100 bytes
    try:
        file(SNAPSHOT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [type(warning) for warning in warnings] == [OSError]
