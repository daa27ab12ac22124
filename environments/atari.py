"""Atari 2600 games: the Arcade Learning Environment (ALE) through Gymnasium, as raw frames and raw reward."""

import difflib
import functools
import re
import reprlib
from collections.abc import Callable, Iterator
from typing import Any

import ale_py
import gymnasium
import numpy as np

NOOP, FIRE = ale_py.Action.NOOP.value, ale_py.Action.FIRE.value
FRAMES_PER_SECOND = 60  # the NTSC console


class UnknownGameError(ValueError):
    """The name is not one of the single-player games that ale-py ships."""


@functools.cache
def _registered_games() -> dict[str, str]:
    """ROM id -> Gymnasium id, as ale-py registered them: {"breakout": "ALE/Breakout-v5", ...}."""
    return {
        spec.kwargs["game"]: name
        for name, spec in gymnasium.registry.items()
        if spec.namespace == "ALE" and "game" in spec.kwargs
    }


def games() -> list[str]:
    """The ROM ids of all single-player games that ale-py ships, in alphabetical order."""
    return sorted(_registered_games())


def canonical_game(name: str) -> str:
    """The ROM id of a game, from any common spelling of its name.

    Args:
        name: "breakout", "Breakout" or "ALE/Breakout-v5"; "space_invaders" or "Space Invaders".

    Returns:
        The ROM id, such as "breakout" or "space_invaders".

    Raises:
        UnknownGameError: no single-player game of ale-py has this name; the message gives the nearest.
    """
    wanted = re.sub(r"^ale/|-v5$|[\s_-]", "", name.lower())
    known = {rom.replace("_", ""): rom for rom in _registered_games()}
    if wanted not in known:
        nearest = ", ".join(known[key] for key in difflib.get_close_matches(wanted[:99], known, n=3, cutoff=0))
        raise UnknownGameError(f"Unknown game {reprlib.repr(name)}: the nearest of {len(known)} games are {nearest}.")
    return known[wanted]


class AtariEnvironment(gymnasium.Env[np.ndarray, Any]):
    """One Atari game at 60 / `action_repeat` agent steps a second, with lives and games kept apart.

    An episode is a whole game, played in emulator frames:

        reset   power on; NOOP for 1 to `noop_max` frames; FIRE for `action_repeat` frames
        step    the action for `action_repeat` frames, fewer if the game ends; if that cost a life and the
                game goes on, then FIRE for `action_repeat` frames

    Observation: the grey screen, uint8 (height, width), in most games (210, 160). Each pixel is the maximum
    of the last two frames, as the console draws some sprites on every other frame only (Mnih et al. 2015,
    Methods, "Preprocessing"); the last frame counts alone if `action_repeat` is 1, the game ended sooner or
    `max_of_two` is off.

    Reward: the raw score gained, a float, the frames of FIRE included.

    Info, the same keys on reset and step: `lives` (int, 0 in a game without lives), `life_lost` (bool, this
    step cost a life, the last one included) and `score` (float, the sum of the game's rewards so far).

    `terminated` is the end of the game, `truncated` only ever `max_episode_steps` or `max_idle_steps`. What a life
    loss means is the agent's choice.

    No-ops are counted in emulator frames, their number drawn uniformly from 1 to `noop_max`: so do Baselines'
    `NoopResetEnv` and DQN Zoo. With `sticky` 0 they are the only source of chance.

    FIRE is pressed in every game that has it among its minimal actions, after the no-ops, as by Baselines'
    `FireResetEnv`. Without it Breakout and Yars' Revenge stand still after a lost life, and Breakout, Donkey
    Kong and Tennis at the start; of the 104 games in ale-py 0.12.1 none stands still because of it. Gopher
    listens only after an animation: there the agent has to press.

    Sticky actions (Machado et al. 2018) are ALE's own: with probability `sticky` a frame, no-ops and FIRE
    included, sees the action of the frame before instead.

    Args:
        game: in any spelling that `canonical_game` takes.
        sticky: probability in [0, 1]; 0 in the "nature" protocol, 0.25 in the "machado" protocol.
        action_repeat: emulator frames per agent step (Mnih et al. 2015, Extended Data Table 1: 4).
        noop_max: most frames of NOOP at the start of a game (the same table: 30); 0 for none.
        max_episode_steps: agent steps after which a game is truncated; 27,000 are 108,000 frames, half an
            hour, the limit of ale-py's own `ALE/...-v5`.
        max_idle_steps: agent steps in a row without a reward or a lost life after which a game is truncated, as
            nothing may ever happen any more.
        press_fire: whether FIRE is pressed at the start of a game and after a lost life.
        max_of_two: whether an observation is the maximum of two frames, or the last one as it is.
        render_mode: "rgb_array", or None for no `render`.
        observe: makes an observation of such a screen, both uint8, such as a smaller one; None: it is the screen.
        on_frame: called with the `ale_py.ALEInterface` after every emulator frame, to show or record it.

    Raises:
        UnknownGameError: there is no such game.
        ValueError: another argument is out of its range.

    Example:
        environment = AtariEnvironment(game="breakout")
        observation, info = environment.reset(seed=1)
        observation, reward, terminated, truncated, info = environment.step(environment.action_space.sample())
    """

    action_space: gymnasium.spaces.Discrete
    observation_space: gymnasium.spaces.Box

    def __init__(
        self,
        *,
        game: str = "breakout",
        sticky: float = 0.0,
        action_repeat: int = 4,
        noop_max: int = 30,
        max_episode_steps: int = 27_000,
        max_idle_steps: int = 27_000,
        press_fire: bool = True,
        max_of_two: bool = True,
        render_mode: str | None = None,
        observe: Callable[[np.ndarray], np.ndarray] | None = None,
        on_frame: Callable[[ale_py.ALEInterface], object] | None = None,
    ):
        if not 0 <= sticky <= 1:
            raise ValueError(f"sticky is {sticky}, but a probability lies between 0 and 1.")
        for name, value, least in (
            ("action_repeat", action_repeat, 1),
            ("noop_max", noop_max, 0),
            ("max_episode_steps", max_episode_steps, 1),
            ("max_idle_steps", max_idle_steps, 1),
        ):
            if value < least:
                raise ValueError(f"{name} is {value}, but must be at least {least}.")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f'render_mode is {render_mode!r}, but only "rgb_array" and None are supported.')

        self.game = canonical_game(game)
        self.render_mode = render_mode
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": FRAMES_PER_SECOND / action_repeat}
        self._action_repeat = action_repeat
        self._noop_max = noop_max
        self._max_episode_steps = max_episode_steps
        self._max_idle_steps = max_idle_steps
        self._max_of_two = max_of_two and action_repeat > 1
        self._observe = observe
        self._on_frame = on_frame

        self._sticky = sticky
        self._actions, screen = _cartridge(self.game)
        self._press_fire = press_fire and FIRE in self._actions
        self._screens = [np.zeros(screen, np.uint8) for _ in range(2)]  # the last one last
        self.action_space = gymnasium.spaces.Discrete(len(self._actions))
        self.observation_space = gymnasium.spaces.Box(0, 255, self._observation().shape, np.uint8)

        # The state: the console before the game, and the action of every emulator frame since.
        self._frames = bytearray()
        self._playing = False
        self._lives = 0
        self._num_steps = self._num_idle_steps = 0
        self._score = 0.0

    @functools.cached_property
    def _ale(self) -> ale_py.ALEInterface:
        return _power_on(self.game, self._sticky)

    @functools.cached_property
    def _console(self) -> bytes:
        return self._ale.cloneState(include_rng=True).serialize()

    def get_action_meanings(self) -> list[str]:
        """The names of the actions in the order of `action_space`: ["NOOP", "FIRE", "RIGHT", "LEFT"]."""
        return [ale_py.Action(action).name for action in self._actions]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts a game.

        Args:
            seed: makes this game and all that follow without a seed repeat exactly, given the same actions.
            options: ignored.

        Returns:
            The observation and the info of the class description.
        """
        super().reset(seed=seed)
        over = True
        while over:
            if seed is not None:
                # A new one: 13 games begin otherwise once the console has been played on.
                self._ale = _power_on(self.game, self._sticky, seed)
            self._console = self._ale.cloneState(include_rng=True).serialize()
            self._frames.clear()
            self._ale.reset_game()
            self._keep_screen(twice=True)
            if self._noop_max:
                self._hold(NOOP, int(self.np_random.integers(1, self._noop_max + 1)))
            if self._press_fire:
                self._hold(FIRE, self._action_repeat)
            over = self._ale.game_over()
        self._lives = self._ale.lives()
        self._num_steps, self._num_idle_steps, self._score = 0, 0, 0.0
        self._playing = True
        return self._observation(), self._info(life_lost=False)

    def step(self, action: int | np.integer) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Plays one agent step.

        Args:
            action: index into `get_action_meanings()`.

        Returns:
            observation, reward, terminated, truncated and info of the class description.

        Raises:
            ValueError: there is no such action.
            gymnasium.error.ResetNeeded: the game has not begun or is over.
        """
        if not self._playing:
            raise gymnasium.error.ResetNeeded("The game has not begun or is over: call reset() first.")
        if not 0 <= action < len(self._actions):
            raise ValueError(f"Action {action} is not one of {self.game}'s {len(self._actions)} actions.")
        reward = self._hold(self._actions[action], self._action_repeat)
        life_lost = self._ale.lives() < self._lives
        if life_lost and self._press_fire and not self._ale.game_over():
            reward += self._hold(FIRE, self._action_repeat)
        self._lives = self._ale.lives()
        self._num_steps += 1
        self._num_idle_steps = 0 if reward or life_lost else self._num_idle_steps + 1
        self._score += reward
        terminated = self._ale.game_over()
        is_long = self._num_steps >= self._max_episode_steps or self._num_idle_steps >= self._max_idle_steps
        truncated = is_long and not terminated
        self._playing = not (terminated or truncated)
        return self._observation(), reward, terminated, truncated, self._info(life_lost)

    def render(self) -> np.ndarray | None:
        """The current screen in colour, uint8 (height, width, 3); None without `render_mode="rgb_array"`."""
        return self._ale.getScreenRGB() if self.render_mode == "rgb_array" else None

    def get_state(self) -> dict[str, Any]:
        """All that decides how this game and the games after it go on, exactly.

        Returns:
            A dict of two `bytes`, "console" (14 kB) and "frames" (1 B for each emulator frame of the game),
            and otherwise of what JSON holds.
        """
        return {
            "game": self.game,
            "console": self._console,
            "frames": bytes(self._frames),
            "random": self.np_random.bit_generator.state,
            "random_actions": self.action_space.np_random.bit_generator.state,
            "playing": self._playing,
            "num_steps": self._num_steps,
            "num_idle_steps": self._num_idle_steps,
            "score": self._score,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes back, or on in another process, to where `get_state` was called.

        The game is played again from its start, at some 0.1 ms a frame and with `on_frame` called, since what ALE
        saves in its middle is not all of it: sprite masks and the action that sticks are missing, and Q*bert then
        looks different. So the state in which a game ended is also a film of it.

        Args:
            state: what `get_state` returned, in an environment with the same constructor arguments.

        Raises:
            ValueError: the state belongs to another game, or is damaged.
        """
        if state["game"] != self.game:
            raise ValueError(f"The state is one of {state['game']}, but this environment plays {self.game}.")
        longest = self._noop_max + self._action_repeat * (1 + 2 * self._max_episode_steps)
        if len(state["frames"]) > longest or not set(state["frames"]) <= {NOOP, FIRE, *self._actions}:
            raise ValueError(f"The state's {len(state['frames']):,} frames are none of a game of {self.game}.")
        # ALE trusts the lengths in a state, and would allocate gigabytes for one that lies.
        if _texts_in(state["console"]) != _texts_in(self._console):
            raise ValueError(f"The state's console is not one of {self.game}.")
        try:
            self._ale.restoreState(ale_py.ALEState(state["console"]))
        except (RuntimeError, SystemError) as error:
            raise ValueError(f"The state's console is damaged ({error}).") from error
        self._console, self._frames = state["console"], bytearray(state["frames"])
        if state["playing"] or self._frames:
            self._ale.reset_game()
            for action in self._frames:
                self._ale.act(action)
                if self._on_frame is not None:
                    self._on_frame(self._ale)
        self.np_random.bit_generator.state = state["random"]
        self.action_space.np_random.bit_generator.state = state["random_actions"]
        self._playing = state["playing"]
        self._lives = self._ale.lives()
        self._num_steps = state["num_steps"]
        self._num_idle_steps = state.get("num_idle_steps", 0)  # an older version counted none
        self._score = state["score"]

    def _hold(self, action: int, num_frames: int) -> float:
        """Holds the joystick for `num_frames` emulator frames or to the game's end; returns the reward."""
        reward = 0.0
        for left in reversed(range(num_frames)):
            reward += self._ale.act(action)
            self._frames.append(action)
            if self._on_frame is not None:
                self._on_frame(self._ale)
            over = self._ale.game_over()
            if over or left < 2:  # a screen costs 13 us, so only those that the observation looks at
                self._keep_screen(twice=over and left > 0)
            if over:
                break
        return reward

    def _keep_screen(self, twice: bool) -> None:
        """Copies the screen over the older of the two kept, or over both."""
        for _ in range(1 + twice):
            self._screens.reverse()
            self._ale.getScreenGrayscale(self._screens[-1])

    def _observation(self) -> np.ndarray:
        screen = np.maximum(*self._screens) if self._max_of_two else self._screens[-1].copy()
        return screen if self._observe is None else self._observe(screen)

    def _info(self, life_lost: bool) -> dict[str, Any]:
        return {"lives": self._lives, "life_lost": life_lost, "score": self._score}


def random_play(game: str, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Some steps of random play: the screens before and after each, and whether a game ended. Always the same."""
    environment = AtariEnvironment(game=game)
    screen, _ = environment.reset(seed=0)
    environment.action_space.seed(0)
    for _ in range(steps):
        next_screen, _, terminated, truncated, _ = environment.step(environment.action_space.sample())
        ended = terminated or truncated
        yield screen, next_screen, ended
        screen = environment.reset()[0] if ended else next_screen


def _texts_in(console: bytes) -> list[tuple[int, bytes]]:
    """What in a serialized ALE state depends on no game's course: its texts, and the distances between them.

    Each has its length before it. Those of the random generators are numbers, and long in their own way each time.
    """
    texts, end = [(int.from_bytes(console[24:28], "little") - len(console), b"")], 0  # the length of the whole
    for found in re.finditer(rb"[ -~]{6,}", console):  # with what looks like text behind it, by chance
        length = int.from_bytes(console[found.start() - 4 : found.start()], "little")
        text = found.group()[:length]
        is_numbers = re.fullmatch(rb"[0-9 ]{1000,}", text)
        is_name = re.fullmatch(rb"System|M6502Low|TIASound|Cartridge[0-9A-Z]+|[0-9a-f]{32}", text)
        if len(text) == length and (is_numbers or is_name):
            texts.append((found.start() - end, b"numbers" if is_numbers else text))
            end = found.start() + len(text)
    return texts


@functools.cache
def _cartridge(game: str) -> tuple[list[int], tuple[int, ...]]:
    """The actions that a game answers to, as ALE numbers them, and the height and width of its screen."""
    ale = _power_on(game, sticky=0)
    return [action.value for action in ale.getMinimalActionSet()], ale.getScreenDims()


def _power_on(game: str, sticky: float, seed: int | None = None) -> ale_py.ALEInterface:
    """A console with the cartridge in it, which takes 0.1 to 0.2 s; seeded as by ale-py's own environment."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # or it prints a banner for every console
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", sticky)
    _, random_seed = np.random.SeedSequence(seed).generate_state(2)
    ale.setInt("random_seed", np.int32(random_seed))
    ale.loadROM(str(ale_py.roms.get_rom_path(game)))
    return ale
