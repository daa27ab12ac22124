"""play.py as people run it: with a policy of random weights, in a window, without a display, and with bad input."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyte
import pytest
from commands import OLD_CONSOLE, REPOSITORY, mistake
from PIL import Image, ImageGrab, features

from environments.atari import AtariEnvironment
from models.policy_file import load_policy, save_policy
from screens.panel import BACKGROUND
from screens.window import LINE_HEIGHT, NoDisplayError, Window

GREY, RED, BLUE = (142, 142, 142), (200, 72, 72), (66, 72, 200)  # Breakout's wall, paddle and lowest bricks
GAME = re.compile(r"Game (\d+): ([\d,]+) points? in ([\d,]+) agent steps\.")


def write_policy(path, nb_actions=4, **facts):
    rng = np.random.default_rng(5)
    shapes = [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 512), (512, nb_actions)]
    weights = []
    for shape in shapes:
        weights += [rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape), np.zeros(shape[-1])]
    save_policy(path, weights, facts)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    path = tmp_path_factory.mktemp("policy") / "policy.h5"
    write_policy(path, game="breakout")
    return path


def without_display():
    return {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}


def start(folder, *words, env=None):
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "play.py"), *map(str, words)],
        cwd=folder,
        env=env or without_display(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("played")
    (folder / "breakout.webp").write_text("mine")
    return folder


@pytest.fixture(scope="module")
def played(policy, folder):
    return finish(start(folder, "--policy", policy, "--episodes", "2", "--seed", "3"))


@pytest.mark.slow
class TestWithoutADisplay:
    def test_it_says_so_and_records_the_best_game_where_nothing_is_lost(self, played, folder):
        status, output, errors = played
        assert (status, errors) == (0, "")
        first, last = output.splitlines()[0], output.splitlines()[-1]
        recording = "the best game will be in breakout-2.webp (--terminal shows it here)."
        assert first == f"No window, as there is no display here: {recording}"
        games = [(int(score), -int(number), int(steps)) for number, score, steps in GAME.findall(output)]
        _, number, steps = max(games)
        assert last.startswith(f"Game {-number} is in breakout-2.webp: ")
        assert (folder / "breakout.webp").read_text() == "mine"
        with Image.open(folder / "breakout-2.webp") as file:
            seconds = 0
            for picture in range(file.n_frames):
                file.seek(picture)
                file.load()
                seconds += file.info["duration"] / 1000
        # The steps of 4 frames, the no-ops, and FIRE for 4 frames at the start and after four of five lives
        assert 4 * (steps + 5) / 60 - 0.1 < seconds < (4 * (steps + 5) + 30) / 60 + 0.1

    def test_the_games_are_those_that_the_network_plays(self, played, policy):
        """Each step: the last four frames, the action of the highest Q-value."""
        from processors.atari import AtariProcessor

        model = load_policy(policy).build_model()
        processor = AtariProcessor()
        environment = AtariEnvironment(game="breakout")
        environment.reset(seed=3)
        games = []
        for _ in range(2):
            observation, info = environment.reset()
            state, steps, over = np.zeros((4, 84, 84), np.uint8), 0, False
            while not over:
                state = np.concatenate([state[1:], processor.process_observation(observation)[None]])
                q_values = np.asarray(model(processor.process_state_batch(state[None])))
                observation, _, terminated, truncated, info = environment.step(int(q_values.argmax()))
                steps, over = steps + 1, terminated or truncated
            games.append((info["score"], steps))
        assert [(int(score), int(steps)) for _, score, steps in GAME.findall(played[1])] == games
        scores = [score for score, _ in games]
        assert f"Mean of 2 games: {np.mean(scores):.1f} points, best: {max(scores):.0f} point" in played[1]

    def test_ctrl_c_ends_it_without_a_traceback_and_keeps_the_recording(self, policy, tmp_path):
        words = ["--policy", policy, "--no-window", "--record", "my.webp", "--episodes", "100000", "--max-steps", "50"]
        process = start(tmp_path, *words, env=without_display() | OLD_CONSOLE)
        first = next(line for line in process.stdout if "so far" not in line)
        assert re.fullmatch(r"Game 1: \d+ points? in 50 agent steps, stopped at the 50-step limit\.\n", first)
        process.send_signal(signal.SIGINT)
        status, output, errors = finish(process)
        assert (status, errors) == (130, "")
        assert output.isascii()
        assert re.search(r"^Game \d+ is in my\.webp: [34] s at real speed, \d+ kB\.$", output, re.MULTILINE)
        assert [file.name for file in tmp_path.iterdir()] == ["my.webp"]


@pytest.fixture
def display():
    """A screen of 1366x768 that nobody looks at."""
    if not (shutil.which("Xvfb") and shutil.which("xdotool")):
        pytest.skip("needs Xvfb and xdotool: apt-get install xvfb xdotool")
    read, write = os.pipe()
    # -noreset: or it starts anew, and drops who is just coming, when the last client has gone.
    words = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1366x768x24", "-nolisten", "tcp", "-noreset"]
    server = subprocess.Popen(words, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    assert number, "Xvfb did not start"
    yield f":{number}"
    server.terminate()
    server.wait()


def xdotool(display, *words):
    """What it prints; nothing where it fails."""
    env = {**os.environ, "DISPLAY": display, "LC_ALL": "C.UTF-8"}  # or it cannot read a title with a dot
    return subprocess.run(["xdotool", *words], env=env, capture_output=True, text=True).stdout.strip()


def wait_for(found, process, seconds=60):
    end = time.monotonic() + seconds
    while not (result := found()):
        assert process.poll() is None, finish(process)
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return result


def screenshot(display):
    return np.asarray(ImageGrab.grab(xdisplay=display).convert("RGB"))


def without_panel(screen):
    """What is to the left of the panel, without the line of keys below."""
    rows, columns = np.nonzero((screen == BACKGROUND).all(-1))
    return screen[: rows.max() + 1, : columns.min()] if len(rows) else screen[:0]


def place_of(screen, *colours):
    """The rectangle that holds all pixels of these colours: left, top, width, height."""
    rows, columns = np.nonzero(np.any([(screen == colour).all(-1) for colour in colours], axis=0))
    return (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1) if len(rows) else (0, 0, 0, 0)


@pytest.mark.slow
class TestInAWindow:
    def test_the_game_is_seen_at_its_speed_until_escape_is_pressed(self, policy, display, tmp_path):
        if not features.check("xcb"):
            pytest.skip("this Pillow cannot take screenshots")
        env = {**without_display(), "DISPLAY": display}
        process = start(tmp_path, "--policy", policy, "--seed", "3", env=env)
        window = wait_for(lambda: xdotool(display, "search", "--onlyvisible", "--class", "play.py"), process)
        title = wait_for(lambda: re.search(r".*lives", xdotool(display, "getwindowname", window)), process)
        started = time.monotonic()
        assert re.fullmatch(r"Breakout · game 1 of 3 · \d+ points? · [1-5] lives", title[0])

        screen = without_panel(screenshot(display))
        assert all((screen == colour).all(-1).any() for colour in (GREY, RED, BLUE))
        left, top, width, height = place_of(screen, GREY, RED)
        assert (width, height) == (160 * 5, 190 * 3)  # from the score to the paddle
        game = screen[top : top + height, left : left + width]
        assert np.array_equal(game, game[::3, ::5].repeat(3, axis=0).repeat(5, axis=1))

        xdotool(display, "windowsize", "--sync", window, "1200", str(315 + LINE_HEIGHT))
        half = (160 * 5 / 2, 190 * 3 / 2)  # the edges of pixels that are not whole are smooth
        wait_for(
            lambda: np.allclose(place_of(without_panel(screenshot(display)), GREY, RED)[2:], half, atol=3), process
        )

        seconds = time.monotonic() - started
        xdotool(display, "key", "--window", window, "Escape")
        status, output, errors = finish(process)
        assert (status, errors) == (0, "")
        stopped = re.fullmatch(
            r"space: pause .+ quit\nGame 1: \d+ points? in (\d+) agent steps, then stopped\.\n", output
        )
        assert stopped
        assert seconds / 2 < int(stopped[1]) * 4 / 60 < seconds + 0.5
        assert list(tmp_path.iterdir()) == []

    def test_a_person_plays_with_the_arrows_and_the_space_bar(self, policy, display, tmp_path):
        if not features.check("xcb"):
            pytest.skip("this Pillow cannot take screenshots")
        env = {**without_display(), "DISPLAY": display}
        process = start(tmp_path, "--policy", policy, "--human", env=env)

        def paddle():
            """Its middle, in pixels from the left wall."""
            screen = without_panel(screenshot(display))
            left, top, width, height = place_of(screen, GREY)
            columns = np.nonzero((screen[top + height + 5, left + 40 : left + width - 40] == RED).all(-1))[0]
            return columns.mean() if len(columns) else 0

        window = wait_for(lambda: xdotool(display, "search", "--onlyvisible", "--class", "play.py"), process)
        wait_for(lambda: xdotool(display, "getwindowname", window).endswith("paused, space goes on"), process)
        start_of_it = wait_for(paddle, process)
        time.sleep(1)
        assert paddle() == start_of_it  # it waits for the space bar
        xdotool(display, "key", "space")
        for key, is_there in (("Left", lambda: paddle() < 100), ("Right", lambda: paddle() > 600)):
            xdotool(display, "keydown", key)
            wait_for(is_there, process, seconds=20)
            xdotool(display, "keyup", key)
        xdotool(display, "key", "q")
        status, output, errors = finish(process)
        assert (status, errors) == (0, "")
        assert output.startswith("arrows: move   space: begin, fire   P: pause")
        assert re.search(r"Game 1: \d+ points? in \d+ agent steps, then stopped\.", output)


@pytest.mark.slow
class TestInATerminal:
    def test_it_is_seen_paused_and_left_with_keys_and_the_terminal_is_as_before(self, policy, tmp_path):
        pty = pytest.importorskip("pty", reason="needs the terminals of POSIX")
        import fcntl
        import select
        import struct
        import termios

        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        before = termios.tcgetattr(its)
        env = {**without_display(), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        words = [sys.executable, REPOSITORY / "play.py", "--policy", policy, "--terminal", "--episodes", "1"]
        process = subprocess.Popen(words, cwd=tmp_path, env=env, stdin=its, stdout=its, stderr=its, close_fds=True)
        screen = pyte.Screen(80, 24)
        stream = pyte.ByteStream(screen)

        def shown():
            """The lines on the screen once nothing came for a moment or 64 kB did."""
            for _ in range(16):
                if not select.select([ours], [], [], 0.02)[0]:
                    break
                stream.feed(os.read(ours, 4096))
            return "\n".join(screen.display)

        def steps():
            found = re.search(r"agent steps ([\d,]+)", shown())
            return int(found[1].replace(",", "")) if found else 0

        def colours():
            return {cell.fg for row in screen.buffer.values() for cell in row.values()}

        wait_for(lambda: steps() > 5 and "space: pause" in shown(), process)
        wait_for(lambda: re.search(r"Breakout · game 1 of 1 · \d+ points? · [1-5] li", shown()), process)
        wait_for(lambda: shown() and {"8e8e8e", "c84848"} <= colours(), process)  # wall, highest bricks
        os.write(ours, b" ")

        def stands_still():
            before = steps()
            time.sleep(0.5)
            return steps() == before

        wait_for(stands_still, process)
        paused_at = steps()
        os.write(ours, b"n")
        wait_for(lambda: steps() == paused_at + 1, process)
        os.write(ours, b"q")
        while process.poll() is None:
            shown()
        assert process.returncode == 0
        assert "then stopped." in shown()
        assert termios.tcgetattr(its) == before
        assert not screen.cursor.hidden
        assert list(tmp_path.iterdir()) == []


class TestTheWindow:
    """Drawn by SDL's dummy driver, in this process."""

    @pytest.fixture
    def window(self, monkeypatch):
        monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
        window = Window("a game", (80, 63))
        yield window
        if not window.closed:
            window.close()

    picture = Image.new("RGB", (80, 63), RED)

    def test_it_shows_60_pictures_a_second_whatever_the_agent_takes_between(self, window):
        window.show(self.picture)
        started = time.monotonic()
        for number in range(60):
            if number % 4 == 0:
                time.sleep(0.04)  # as long as two and a half frames
            window.show(self.picture)
        assert 0.95 < time.monotonic() - started < 1.45  # 1.6 if it came on top

    def test_after_a_long_pause_it_does_not_race(self, window):
        window.show(self.picture)
        time.sleep(0.5)
        started = time.monotonic()
        for _ in range(30):
            window.show(self.picture)
        assert time.monotonic() - started > 0.45

    @pytest.mark.parametrize("key", ["K_ESCAPE", "K_q", None])
    def test_escape_q_and_the_close_button_close_it_for_good(self, window, key):
        import pygame

        window.show(self.picture)
        assert not window.closed
        event = pygame.event.Event(pygame.KEYDOWN, key=getattr(pygame, key)) if key else pygame.event.Event(pygame.QUIT)
        pygame.event.post(event)
        window.show(self.picture)
        assert window.closed
        started = time.monotonic()
        window.show(self.picture)
        window.set_title("later")
        window.hold(5)
        assert time.monotonic() - started < 0.1

    def test_another_key_does_not(self, window):
        import pygame

        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_SPACE))
        window.show(self.picture)
        assert not window.closed

    def press(self, *keys):
        import pygame

        for key in keys:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=getattr(pygame, key)))

    def test_space_pauses_until_it_is_pressed_again_and_n_takes_one_step(self, window):
        self.press("K_SPACE")
        window.show(self.picture)
        assert window.paused
        self.press("K_n")
        window.wait(self.picture)
        assert window.paused
        self.press("K_SPACE")
        window.wait(self.picture)
        assert not window.paused

    def test_up_and_down_change_the_speed_within_limits(self, window):
        self.press("K_UP")
        window.show(self.picture)
        started = time.monotonic()
        for _ in range(60):
            window.show(self.picture)
        assert 0.45 < time.monotonic() - started < 0.8
        self.press(*["K_DOWN"] * 9)
        window.show(self.picture)
        assert window.speed == 1 / 8

    def test_r_asks_for_a_restart_and_ends_a_pause(self, window):
        self.press("K_SPACE", "K_r")
        window.show(self.picture)
        window.wait(self.picture)
        assert window.restart

    def test_without_a_display_there_is_none(self, monkeypatch):
        if sys.platform in ("win32", "darwin"):
            pytest.skip("there is always a display here")
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(NoDisplayError, match="there is no display"):
            Window("a game", (80, 63))

    def test_nor_with_one_that_does_not_answer(self, monkeypatch):
        if sys.platform in ("win32", "darwin"):
            pytest.skip("there is always a display here")
        for name in ("WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("DISPLAY", ":4711")
        with pytest.raises(NoDisplayError, match=r"cannot be reached|can be opened"):
            Window("a game", (80, 63))

    def test_nor_without_pygame(self, monkeypatch):
        monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
        monkeypatch.setitem(sys.modules, "pygame", None)
        with pytest.raises(NoDisplayError, match="pip install pygame"):
            Window("a game", (80, 63))


class TestBadInput:
    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            (["--episodes", "0"], "argument --episodes: '0' is not a whole number of at least 1"),
            (["--episodes", "-1"], "argument --episodes: '-1' is not"),
            (["--episodes", "many"], "argument --episodes: 'many' is not"),
            (["--episodes", "1.5"], "argument --episodes: '1.5' is not"),
            (["--seed", "-1"], "argument --seed: '-1' is not a whole number between 0 and"),
            (["--sticky", "2"], "argument --sticky: '2' is not a number between 0 and 1"),
            (["--sticky", "nan"], "argument --sticky: 'nan' is not"),
            (["--max-steps", "0"], "argument --max-steps: '0' is not"),
            (["--record-seconds", "inf"], "argument --record-seconds: 'inf' is not"),
            (["--recrod", "x.gif"], "there is no option '--recrod'; did you mean --record?"),
            (["--policy"], "argument --policy: expected one argument"),
        ],
    )
    def test_options_that_make_no_sense(self, tmp_path, policy, words, complaint):
        assert complaint in mistake(tmp_path, "play", "--policy", policy, *words)

    def test_an_unknown_game_gets_the_nearest_names(self, tmp_path, policy):
        errors = mistake(tmp_path, "play", "--policy", policy, "--game", "brekout")
        assert "'brekout'" in errors
        assert "breakout" in errors

    def test_a_policy_of_an_unknown_game_too(self, tmp_path):
        write_policy(tmp_path / "policy.h5", game=["no", 1])
        assert "Unknown game" in mistake(tmp_path, "play", "--policy", tmp_path / "policy.h5")

    def test_a_policy_with_another_number_of_actions(self, policy, tmp_path):
        errors = mistake(tmp_path, "play", "--policy", policy, "--game", "pong")
        assert "values 4 actions, but pong has 6" in errors
        write_policy(tmp_path / "policy.h5", nb_actions=6)  # as other software writes it: no word of the game
        errors = mistake(tmp_path, "play", "--policy", tmp_path / "policy.h5")
        assert "values 6 actions, but breakout has 4; name the game that it was trained on with --game" in errors

    @pytest.mark.parametrize("content", ["missing", "empty", "text", "truncated", "other HDF5"])
    def test_a_file_that_is_no_policy(self, policy, tmp_path, content):
        path = tmp_path / "policy.h5"
        if content == "other HDF5":
            import h5py

            h5py.File(path, "w").close()
        elif content != "missing":
            whole = policy.read_bytes()
            path.write_bytes({"empty": b"", "text": b"hello\n", "truncated": whole[: len(whole) // 2]}[content])
        assert str(path) in mistake(tmp_path, "play", "--policy", path)

    @pytest.mark.parametrize("words", [["--record", "game.avi"], ["--record", "missing/game.gif", "--no-window"]])
    def test_a_recording_that_cannot_be_written(self, tmp_path, policy, words):
        assert words[1] in mistake(tmp_path, "play", "--policy", policy, *words)


def test_help_needs_neither_keras_nor_pygame():
    program = (
        "import sys; sys.argv[1:] = ['--help']; import play\n"
        "try: play.main()\n"
        "except SystemExit: sys.exit(sorted({'keras', 'tensorflow', 'pygame', 'rl'} & set(sys.modules)) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    for option in ("--policy", "--episodes", "--record", "--seed", "--sticky", "--no-window", "--max-steps", "--game"):
        assert option in ended.stdout
