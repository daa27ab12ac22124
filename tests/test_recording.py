"""Recordings of real games, decoded again and compared with what the emulator drew."""

import os
from itertools import accumulate
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from environments.atari import AtariEnvironment
from keras_h5.files import FileError
from reports.recording import Recorder, RecordingError, free_path
from screens.picture import draw, picture_size


def screens_of(game, num_frames):
    """The RGB screens of a game that is played at random."""
    screens = []
    environment = AtariEnvironment(game=game, on_frame=lambda ale: screens.append(ale.getScreenRGB()))
    environment.reset(seed=1)
    actions = np.random.default_rng(0).integers(environment.action_space.n, size=num_frames)
    for action in actions[: num_frames // 4]:
        environment.step(action)
    return screens[:num_frames]


def record(path, screens, **options):
    recorder = Recorder(path, **options)
    recorder.begin_game(1)
    show(recorder, screens)
    recorder.end_game(0)
    return recorder.save()


def show(recorder, screens):
    step = recorder.frames_per_picture
    for end in range(step, len(screens) + 1, step):
        recorder.show(draw(screens[end - step : end]))


def decoded(path):
    """Pictures of a file, uint8 (height, width, 3), and when each one ends, in milliseconds."""
    with Image.open(path) as file:
        pictures, durations = [], []
        for number in range(getattr(file, "n_frames", 1)):
            file.seek(number)
            pictures.append(np.asarray(file.convert("RGB")))
            durations.append(file.info["duration"])
    return pictures, list(accumulate(durations))


def enlarged(screen):
    return screen.repeat(3, axis=0).repeat(5, axis=1)


def brighter(a, b):
    weights = np.array([0.299, 0.587, 0.114])
    return np.where((a @ weights > b @ weights)[..., None], a, b)


def plain_picture(colour):
    return Image.new("RGB", (8, 6), colour)


class TestAFile:
    @pytest.mark.parametrize("game", ["breakout", "seaquest"])
    def test_webp_shows_every_frame_exactly_when_the_console_did(self, tmp_path, game):
        screens = screens_of(game, 120)
        record(tmp_path / "game.webp", screens)
        pictures, ends = decoded(tmp_path / "game.webp")
        assert ends[-1] == 2000
        for number, screen in enumerate(screens):
            shown = np.searchsorted(ends, (number + 0.5) * 1000 / 60)
            assert np.array_equal(pictures[shown], enlarged(screen)), number

    @pytest.mark.parametrize("game", ["breakout", "seaquest"])
    def test_gif_shows_the_brighter_of_two_frames_for_a_thirtieth_of_a_second(self, tmp_path, game):
        screens = screens_of(game, 120)
        record(tmp_path / "game.gif", screens)
        pictures, ends = decoded(tmp_path / "game.gif")
        assert ends[-1] == 2000
        for number in range(0, 120, 2):
            shown = np.searchsorted(ends, (number + 1) * 1000 / 60)
            assert np.array_equal(pictures[shown], enlarged(brighter(*screens[number : number + 2]))), number

    def test_mp4_shows_every_frame_nearly_exactly(self, tmp_path):
        screens = screens_of("breakout", 120)
        record(tmp_path / "game.mp4", screens)
        frames = imageio_ffmpeg.read_frames(str(tmp_path / "game.mp4"))
        facts = next(frames)
        pictures = [np.frombuffer(frame, np.uint8).reshape(630, 800, 3) for frame in frames]
        assert (facts["codec"], facts["fps"], len(pictures)) == ("h264", 60, 120)
        for number, (picture, screen) in enumerate(zip(pictures, screens, strict=True)):
            assert np.abs(picture - enlarged(screen).astype(int)).mean() < 3, number

    def test_mp4_without_its_encoder_is_refused_at_once(self, tmp_path, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(RecordingError, match="pip install imageio-ffmpeg"):
            Recorder(tmp_path / "game.mp4")

    def test_no_delay_is_one_that_browsers_change(self, tmp_path):
        record(tmp_path / "game.gif", screens_of("seaquest", 120))
        _, ends = decoded(tmp_path / "game.gif")
        delays = np.diff([0, *ends])
        assert {30, 40} <= set(delays)
        assert min(delays) == 30

    def test_both_repeat_for_ever(self, tmp_path):
        for name in ("game.gif", "game.webp"):
            record(tmp_path / name, screens_of("breakout", 60))
            with Image.open(tmp_path / name) as file:
                assert file.info["loop"] == 0

    def test_a_picture_that_stays_is_stored_once(self, tmp_path):
        still = [np.zeros((210, 160, 3), np.uint8)] * 600
        record(tmp_path / "still.gif", still)
        pictures, ends = decoded(tmp_path / "still.gif")
        assert (len(pictures), ends) == (1, [10_000])

    @pytest.mark.parametrize("name", ["game.gif", "game.webp"])
    def test_a_minute_takes_less_than_three_megabytes(self, tmp_path, name):
        record(tmp_path / name, screens_of("breakout", 240))
        assert (tmp_path / name).stat().st_size < 3e6 / 15

    def test_what_exceeds_the_limit_is_left_out_and_it_says_so(self, tmp_path):
        sentence = record(tmp_path / "game.gif", screens_of("breakout", 180), max_seconds=2)
        assert decoded(tmp_path / "game.gif")[1][-1] == 2000
        assert "its first 2 s" in sentence
        assert "its first" not in record(tmp_path / "game.gif", screens_of("breakout", 120), max_seconds=2)

    def test_it_says_which_game_is_where_how_long_and_how_large(self, tmp_path):
        sentence = record(tmp_path / "game.gif", screens_of("breakout", 120))
        size = (tmp_path / "game.gif").stat().st_size
        assert sentence == f"Game 1 is in {tmp_path / 'game.gif'}: 2 s at real speed, {size / 1000:.0f} kB."


class TestColours:
    def test_255_are_kept_exactly_and_a_further_one_becomes_the_nearest(self, tmp_path):
        colours = np.zeros((1, 300, 3), np.uint8)
        colours[0, :255, 0] = np.arange(255)
        colours[0, 255:, :2] = (7, 1)
        recorder = Recorder(tmp_path / "colours.gif")
        recorder.begin_game(1)
        recorder.show(Image.fromarray(colours[:, :255]))
        recorder.show(Image.fromarray(colours[:, 45:]))
        recorder.save()
        first, second = decoded(tmp_path / "colours.gif")[0]
        assert np.array_equal(first, colours[:, :255])
        assert np.array_equal(second[0, :210], colours[0, 45:255])
        assert np.array_equal(second[0, 210:], [[7, 0, 0]] * 45)


class TestAPicture:
    def test_its_proportions_are_near_those_of_a_television(self):
        width, height = picture_size((210, 160))
        assert width / height == pytest.approx(4 / 3, rel=0.05)
        assert draw([np.zeros((250, 160, 3), np.uint8)]).size == picture_size((250, 160))

    def test_sprites_that_are_drawn_on_every_other_frame_only_are_all_in_it(self):
        # Space Invaders draws the shots of the two sides in turn.
        screens = screens_of("space_invaders", 480)
        white = np.array([[[142, 142, 142]]])
        shots = [(screen[80:180] == white).all(-1) for screen in screens]
        blinking = [n for n in range(2, 480) if (shots[n] & ~shots[n - 1]).any() and (shots[n - 1] & ~shots[n]).any()]
        assert blinking
        for number in blinking:
            picture = np.asarray(draw(screens[number - 1 : number + 1]))[::3, ::5]
            shown = (picture[80:180] == white).all(-1)
            assert (shown >= (shots[number] | shots[number - 1])).all()


class TestWhichGame:
    def played(self, path, *scores):
        recorder = Recorder(path)
        for number, score in enumerate(scores, start=1):
            recorder.begin_game(number)
            recorder.show(plain_picture((number, 0, 0)))
            recorder.end_game(score)
        return recorder

    def colour_in(self, path):
        return decoded(path)[0][0][0, 0, 0]

    def test_the_best_the_earlier_of_two_that_are(self, tmp_path):
        path = tmp_path / "best.gif"
        assert "Game 2 is in" in self.played(path, 1, 5, 5, 3).save()
        assert self.colour_in(path) == 2

    def test_a_negative_score_may_be_the_best(self, tmp_path):
        assert "Game 2 is in" in self.played(tmp_path / "pong.gif", -21, -20).save()

    def test_an_interrupted_one_only_if_there_is_no_other(self, tmp_path):
        for scores, expected in (((1,), 1), ((), 9)):
            recorder = self.played(tmp_path / "best.gif", *scores)
            recorder.begin_game(9)
            recorder.show(plain_picture((9, 0, 0)))
            recorder.save()
            assert self.colour_in(tmp_path / "best.gif") == expected

    def test_nothing_is_written_before_the_first_picture(self, tmp_path):
        recorder = Recorder(tmp_path / "none.gif")
        recorder.begin_game(1)
        assert recorder.save() is None
        assert list(tmp_path.iterdir()) == []


class TestWriting:
    @pytest.mark.parametrize("name", ["game.avi", "game", "gif", "/dev/null"])
    def test_another_kind_of_file_is_refused_with_those_that_work(self, tmp_path, name):
        with pytest.raises(FileError, match=r"has to end in \.gif, \.webp, \.mp4"):
            Recorder(tmp_path / name)

    def test_places_that_cannot_be_written_are_found_at_once(self, tmp_path):
        (tmp_path / "folder.gif").mkdir()
        (tmp_path / "file").touch()
        for place, words in {
            "folder.gif": "is a folder",
            "missing/game.gif": "folder that does not exist",
            "file/game.gif": "folder that does not exist",
        }.items():
            with pytest.raises(FileError, match=words):
                Recorder(tmp_path / place)

    def test_a_folder_that_takes_no_new_file_is_found_at_once(self):
        if not Path("/proc").is_dir():
            pytest.skip("needs a folder that not even root can write to: /proc")
        with pytest.raises(FileError, match=r"^/proc/game.gif cannot be written \(.+\), .*; make room"):
            Recorder(Path("/proc/game.gif"))

    def test_the_check_leaves_nothing_behind(self, tmp_path):
        Recorder(tmp_path / "game.GIF")
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_is_one_sentence_and_the_old_file_stays(self, tmp_path):
        resource = pytest.importorskip("resource", reason="limits on the size of a file are POSIX")
        path = tmp_path / "game.gif"
        path.write_bytes(b"old")
        recorder = Recorder(path)
        recorder.begin_game(1)
        recorder.show(plain_picture("red"))
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))  # as a disk with room for 500 bytes
        try:
            with pytest.raises(FileError, match=r"cannot be written \(File too large\), .*; make room") as error:
                recorder.save()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "\n" not in str(error.value)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"game.gif": b"old"}

    def test_the_file_is_whole_before_it_takes_its_place(self, tmp_path, monkeypatch):
        path = tmp_path / "game.gif"
        path.write_bytes(b"old")
        recorder = Recorder(path)
        recorder.begin_game(1)
        recorder.show(plain_picture("red"))
        seen = []

        def replace(source, target):
            seen.append((decoded(source)[0][0][0, 0].tolist(), Path(target), Path(target).read_bytes()))
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            recorder.save()
        assert seen == [([255, 0, 0], path, b"old")]
        assert list(tmp_path.iterdir()) == [path]

    def test_a_symbolic_link_is_followed(self, tmp_path):
        (tmp_path / "link.gif").symlink_to(tmp_path / "game.gif")
        record(tmp_path / "link.gif", [np.zeros((210, 160, 3), np.uint8)] * 2)
        assert (tmp_path / "link.gif").is_symlink()
        assert decoded(tmp_path / "game.gif")

    def test_a_name_that_nobody_asked_for_is_a_free_one(self, tmp_path):
        path = tmp_path / "breakout.gif"
        names = []
        for _ in range(3):
            free_path(path).touch()
            names = sorted(file.name for file in tmp_path.iterdir())
        assert names == ["breakout-2.gif", "breakout-3.gif", "breakout.gif"]
