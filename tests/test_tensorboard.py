"""The event file, read as TensorBoard does: length, checksum and content of each record."""

import dataclasses
import io
import math
import os
import struct

import numpy as np
import pytest
from PIL import Image
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event, SessionLog

from training.evaluator import Evaluation
from training.monitor import Snapshot
from training.tensorboard import TAGS, TensorBoardFile

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


def test_each_known_number_of_a_snapshot_is_a_scalar_in_its_group(tmp_path):
    TensorBoardFile(tmp_path, refuse, learning_rate=lambda: 1e-3)(SNAPSHOT)
    (path,) = tmp_path.iterdir()
    first, start, event = events(path)
    assert first.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (0, SessionLog.START)
    assert event.step == 500
    assert {v.tag: v.simple_value for v in event.summary.value} == pytest.approx(
        {
            "score/training": 1.5,
            "score/best_game": 4.0,
            "learning/epsilon": 0.9,
            "learning/loss": 0.01,
            "learning/mean_q": 0.2,
            "learning/learning_rate": 1e-3,
            "time/episodes": 3,
            "time/seconds": 2.5,
            "time/steps_per_second": 200.0,
        }
    )
    shown = {*TAGS.values(), "step", "evaluation", "evaluations"}
    assert shown == {field.name for field in dataclasses.fields(Snapshot)}, "evaluations are points of their own"


def test_an_evaluation_is_a_point_and_the_settings_are_a_table(tmp_path):
    file = TensorBoardFile(tmp_path, refuse)
    file.add_evaluation(Evaluation(600, [1.0, 2.0]))
    file.add_settings(0, {"gamma": 0.99, "game": "pong"})
    (path,) = tmp_path.iterdir()
    *_, evaluation, settings = events(path)
    (value,) = evaluation.summary.value
    assert (evaluation.step, value.tag, value.simple_value) == (600, "score/evaluation", 1.5)
    (value,) = settings.summary.value
    assert (value.tag, value.metadata.plugin_data.plugin_name) == ("settings", "text")
    assert value.tensor.string_val[0].decode().splitlines()[2:] == ["| gamma | 0.99 |", "| game | pong |"]


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX limit on file sizes")
def test_after_a_full_disk_it_goes_on_in_another_file_and_no_event_follows_a_torn_one(tmp_path):
    import resource

    warnings: list[Exception] = []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    events_file = TensorBoardFile(tmp_path, warnings.append)
    events_file(SNAPSHOT)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
        file = io.BytesIO()
        Image.effect_noise((160, 210), 100).save(file, "GIF")
        events_file.add_picture(600, "game", file.getvalue())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    events_file(dataclasses.replace(SNAPSHOT, step=700))
    torn, other = sorted(tmp_path.iterdir())
    assert [event.step for event in events(other)] == [0, 700]
    assert torn.stat().st_size <= 2_000
    assert [type(warning) for warning in warnings] == [OSError]


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
