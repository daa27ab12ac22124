"""Environments in processes of their own, so that every core works: emulators there, the network here.

    with Workers(2) as workers:
        games = workers.environments([functools.partial(AtariEnvironment, game="pong")] * 8)
        dqn.fit(games, nb_steps=100_000)

    here                                     a worker: a fresh Python, which knows what its environments import
    environment.send(action)    -- pipe -->  step(action)
    environment.receive()       <-- pipe --  reward, flags and info; the observation through shared memory

A worker ends when its pipe does, so it outlives nobody: neither `Workers` nor a process that was killed.
"""

import contextlib
import json
import math
import mmap
import os
import pickle
import secrets
import signal
import struct
import subprocess
import sys
import tempfile
import traceback
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import gymnasium
import numpy as np

SHARED_MEMORY = ("/dev/shm", None)  # where it may be: a file system in memory, or else the folder of temporary files
SECONDS_TO_END = 5.0  # what an environment gets to close itself
_HEADER = struct.Struct("<QQ")  # of a message: its length in bytes after this, the number of the environment
NOT_PORTABLE = (
    "A worker cannot be told that ({}); a maker has to be a function of a module that can be imported, or "
    "functools.partial of one, not one of the script itself."
)
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from environments.workers import serve; serve()"


class WorkerError(RuntimeError):
    """A worker cannot be started, or has ended before it was told to; the message says why."""


class Workers:
    """Processes that environments live in, or none: then the environments live here.

    They start at once, in the background. They are fresh Pythons, not forks, and do not run the script that starts
    them: it needs no `if __name__ == "__main__"`. They ignore Ctrl-C.

    Args:
        number: How many processes.

    Raises:
        WorkerError: The system refuses to start them.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._workers: list[_Worker] = []
        self.close = weakref.finalize(self, _close, self._workers)  # called at the latest when Python ends
        try:
            for _ in range(number):
                self._workers.append(_Worker())
        except OSError as error:
            self.close()
            raise WorkerError(f"Of {number} workers {len(self._workers)} can be started ({error.strerror})") from None

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes."""
        return [worker.pid for worker in self._workers]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def environments(self, makers: Sequence[Callable[[], Any]]) -> list[Any]:
        """Builds environments, dealt out over the workers: a `RemoteEnvironment` for each that a maker returns.

        Args:
            makers: Functions of a module, or `functools.partial` of such, that return one Gymnasium environment each.

        Raises:
            WorkerError: There is no room for their observations, or a worker has ended.
            TypeError: A maker cannot be told to another process.
            Exception: What a maker raised.
        """
        if not self._workers:
            return [maker() for maker in makers]
        made = [RemoteEnvironment(self, self._workers[index % len(self._workers)]) for index in range(len(makers))]
        for environment, maker in zip(made, makers, strict=True):
            environment._begin("make", maker)
        for environment in made:
            environment._end_making()
        self._share_memory([each for each in made if isinstance(each.observation_space, gymnasium.spaces.Box)])
        return made

    @staticmethod
    def _share_memory(environments: list["RemoteEnvironment"]) -> None:
        """Gives each environment a place for its observations, at a multiple of 64 bytes."""
        spaces: list[Any] = [environment.observation_space for environment in environments]
        sizes = [math.ceil(math.prod(space.shape) * space.dtype.itemsize / 64) * 64 for space in spaces]
        if not (size := sum(sizes)):
            return
        name = _new_shared_memory(size)
        try:
            for environment, space, offset in zip(environments, spaces, accumulate(sizes, initial=0), strict=False):
                place = (name, size, offset, space.shape, str(space.dtype))
                environment._slot = _attach(*place)
                environment._begin("attach", *place)
            for environment in environments:
                environment.receive()
        finally:
            with contextlib.suppress(OSError):  # on Windows it is no file
                os.unlink(name)  # the memory is there until the last process has ended


def default_workers(num_environments: int) -> int:
    """How many workers are usually best on the cores that this process may use: `taskset -c 0` leaves one."""
    return min(usable_cores() - 1, 8, num_environments)


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class RemoteEnvironment(gymnasium.Env):
    """A Gymnasium environment in a worker. `send` and `receive` are the halves of `step`; it happens between them.

    Other attributes and methods are those of the environment there. What goes through the pipe has to be picklable.
    `action_space` is here and goes there and back with every method but `step`, its random generator included.
    """

    action_space: gymnasium.Space
    observation_space: gymnasium.Space

    def __init__(self, workers: Workers, worker: "_Worker") -> None:
        self._workers = workers  # which live as long as their environments
        self._worker = worker
        self._number = worker.new_number()
        self._slot: np.ndarray | None = None  # of the observation, in shared memory
        self._pending = ""  # what was sent and not yet received

    def send(self, action: Any) -> None:
        """Begins a step."""
        self._begin("step", action)

    def send_state(self, state: Any) -> None:
        """Begins `set_state`."""
        self._begin("method", "set_state", self.action_space, (state,), {})

    def receive(self) -> Any:
        """Waits for what was begun: after `send` observation, reward, terminated, truncated and info.

        Raises:
            RuntimeError: Nothing was begun.
            WorkerError: The worker has ended.
            Exception: What the environment raised.
        """
        if not self._pending:
            raise RuntimeError("Nothing was sent to the environment; call send() before receive().")
        name, self._pending = self._pending, ""
        answer = self._worker.receive(self._number)
        if name == "method":
            answer, space = answer
            vars(self.action_space).update(vars(space))
        if name == "step":
            answer = (self._observation(answer[0]), *answer[1:])
        return answer

    def step(self, action: Any) -> tuple:
        """As the environment's own."""
        self.send(action)
        return self.receive()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple:
        """As the environment's own."""
        observation, info = self._call("reset", seed=seed, options=options)
        return self._observation(observation), info

    def render(self) -> Any:
        """As the environment's own."""
        return self._call("render")

    def close(self) -> None:
        """Closes the environment; the worker forgets it."""
        with contextlib.suppress(WorkerError):
            self._begin("close")
            self.receive()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "get_state" and self._pending:
            raise RuntimeError("A step is under way; take the state between two ticks, see DQNAgent.get_state().")
        self._begin("attribute", name)
        is_method, value = self.receive()
        return partial(self._call, name) if is_method else value

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        self._begin("method", method, self.action_space, args, kwargs)
        return self.receive()

    def _begin(self, name: str, *arguments: Any) -> None:
        if self._pending:  # sent by a loop that was interrupted
            with contextlib.suppress(Exception):
                self.receive()
        self._worker.send(self._number, name, arguments)
        self._pending = name

    def _end_making(self) -> None:
        self.action_space, self.observation_space, self.metadata, self.render_mode = self.receive()

    def _observation(self, sent: Any) -> Any:
        return self._slot.copy() if sent is None and self._slot is not None else sent


class _Worker:
    """The pipes to and from a process, and the answers that have come for other environments than the one asked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # so that Ctrl-C does not reach it; on Windows that is:
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self.pid = self._process.pid
        self._to: Any = self._process.stdin
        self._from: Any = self._process.stdout
        self._count = 0  # of environments so far
        self._answers: dict[int, bytes] = {}
        self._unread = bytearray()

    def new_number(self) -> int:
        """A number for an environment."""
        self._count += 1
        return self._count

    def send(self, number: int, name: str, arguments: tuple) -> None:
        """Asks an environment for something."""
        try:
            message = _message(number, (name, arguments))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(NOT_PORTABLE.format(error)) from None
        try:
            self._to.write(message)
            self._to.flush()
        except (OSError, ValueError):  # ValueError: the pipe is closed
            raise self._ended() from None

    def receive(self, number: int) -> Any:
        """Waits for the answer to what an environment was asked for last."""
        while number not in self._answers:
            self._read()
        value, error, trace = pickle.loads(self._answers.pop(number))
        if error is not None:
            raise error from RuntimeError(f"in a worker:\n{trace}")
        return value

    def end(self) -> None:
        """Ends the process: first of its own accord, then by force."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(SECONDS_TO_END)
        self._process.kill()
        self._process.wait()
        self._from.close()

    def close(self) -> None:
        """Lets the process end."""
        with contextlib.suppress(OSError):  # it is dead, and did not get all of the last message
            self._to.close()

    def _read(self) -> None:
        """Reads the next answer. Ctrl-C may interrupt that, so a part of one stays where it is."""
        while len(self._unread) < (end := _HEADER.size + int.from_bytes(self._unread[:8], "little")):
            part = os.read(self._from.fileno(), 1 << 16)
            if not part:
                raise self._ended()
            self._unread += part
        _, number = _HEADER.unpack_from(self._unread)
        self._answers[number] = bytes(self._unread[_HEADER.size : end])
        del self._unread[:end]

    def _ended(self) -> WorkerError:
        self.close()
        self.end()
        status = self._process.returncode
        if status >= 0:
            return WorkerError(f"A worker has ended unasked, with status {status}")
        why = ", as happens when memory runs out" if -status == getattr(signal, "SIGKILL", 0) else ""
        return WorkerError(f"A worker was ended by {signal.Signals(-status).name}{why}")


def serve() -> None:
    """What a worker does: it answers messages from standard input on standard output, until there are no more."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # meant for whoever saves; this process ends when that one does
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    messages, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)  # an environment that reads gets nothing,
    os.dup2(2, 1)  # and what it prints is no answer
    environments: dict[int, _Served] = {}
    while len(header := messages.read(_HEADER.size)) == _HEADER.size:
        length, number = _HEADER.unpack(header)
        try:
            message = _message(number, (_answer(environments, number, messages.read(length)), None, ""))
        except Exception as error:  # whatever an environment makes of it
            message = _message(number, (None, _portable(error), traceback.format_exc()))
        try:
            answers.write(message)
            answers.flush()
        except OSError:  # nobody is there any more
            os._exit(1)
    for served in environments.values():
        served.env.close()


class _Served:
    """An environment where it lives."""

    def __init__(self, env: gymnasium.Env) -> None:
        self.env = env
        self.slot: np.ndarray | None = None

    def attach(self, *place: Any) -> None:
        """Observations go into this shared memory from now on."""
        self.slot = _attach(*place)

    def step(self, action: Any) -> tuple:
        """The environment's."""
        observation, *rest = self.env.step(action)
        return (self._put(observation), *rest)

    def method(
        self, name: str, action_space: gymnasium.Space, args: tuple, kwargs: dict
    ) -> tuple[Any, gymnasium.Space]:
        """What a method returns, and the action space as it is then."""
        vars(self.env.action_space).update(vars(action_space))
        value = getattr(self.env, name)(*args, **kwargs)
        if name == "reset":
            value = self._put(value[0]), value[1]
        return value, self.env.action_space

    def attribute(self, name: str) -> tuple[bool, Any]:
        """Whether it is a method, else its value."""
        value = getattr(self.env, name)
        return (True, None) if callable(value) else (False, value)

    def _put(self, observation: Any) -> Any:
        """None, if the observation is in the shared memory now."""
        slot = self.slot
        if slot is None or not isinstance(observation, np.ndarray):
            return observation
        if (observation.shape, observation.dtype) != (slot.shape, slot.dtype):
            return observation
        slot[...] = observation
        return None


def _answer(environments: dict[int, _Served], number: int, data: bytes) -> Any:
    try:
        name, arguments = pickle.loads(data)
    except Exception as error:
        raise TypeError(NOT_PORTABLE.format(error)) from None
    if name == "make":
        env = arguments[0]()
        environments[number] = _Served(env)
        return env.action_space, env.observation_space, env.metadata, env.render_mode
    if name == "close":
        return environments.pop(number).env.close()
    return getattr(environments[number], name)(*arguments)


def _message(number: int, content: Any) -> bytes:
    data = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    return _HEADER.pack(len(data), number) + data


def _portable(error: Exception) -> Exception:
    """The error itself, if another process can make it again."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def _new_shared_memory(size: int) -> str:
    """The name of new shared memory, on POSIX a file's.

    It is written in full: memory that is promised and then not there ends a process without a word.
    """
    if os.name == "nt":
        return f"workers-{secrets.token_hex(16)}"
    for folder in SHARED_MEMORY:
        with contextlib.suppress(OSError):
            descriptor, name = tempfile.mkstemp(prefix="workers-", dir=folder)
            try:
                with open(descriptor, "wb") as file:
                    file.write(bytes(size))
                return name
            except OSError:
                os.unlink(name)
    raise WorkerError(f"There is no room for {size:,} bytes of shared memory in /dev/shm or {tempfile.gettempdir()}")


def _attach(name: str, size: int, offset: int, shape: tuple, dtype: str) -> np.ndarray:
    """An array in shared memory: whoever attaches it sees the same bytes."""
    if os.name == "nt":
        memory = mmap.mmap(-1, size, tagname=name)  # type: ignore[call-arg]
    else:
        with open(name, "r+b") as file:
            memory = mmap.mmap(file.fileno(), size)
    return np.frombuffer(memory, dtype, math.prod(shape), offset).reshape(shape)


def _close(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.close()
    for worker in workers:
        worker.end()


HERE = Workers(0)
