"""A window that shows pictures at the speed of the console."""

import os
import sys
import time
from typing import Any

from PIL import Image

from screens.picture import FRAMES_PER_SECOND

SHARE_OF_DESKTOP = 0.85  # the most that the window takes of it at first
MAX_LAG_SECONDS = 0.1
MIN_SPEED, MAX_SPEED = 1 / 8, 8
KEYS = "space: pause   N: next step   up, down: faster, slower   R: restart   Q: quit"


class NoDisplayError(RuntimeError):
    """No window can be opened; the message is the reason, half a sentence."""


class Window:
    """A window of any size, which keeps the pictures' proportions, and the keys of `KEYS`.

    Args:
        title: of the window.
        size: (width, height) of the pictures in pixels.

    Attributes:
        closed: whether the person has closed the window; from then on the methods do nothing.
        paused: whether the person wants to look at one picture, see `wait`.
        restart: whether the person wants to begin again; to be reset by whoever does.
        speed: pictures shown in the time of one at the console's speed.

    Raises:
        NoDisplayError: there is no display, or pygame is not installed.
    """

    frames_per_picture = 1

    def __init__(self, title: str, size: tuple[int, int]) -> None:
        self._pygame = _start_pygame()
        self.closed = self.paused = self.restart = False
        self.speed = 1.0
        self._step = False
        self._title = ""
        self._picture = self._pygame.Surface(size)
        self._due = 0.0
        desktop = self._pygame.display.get_desktop_sizes()[0]
        scale = SHARE_OF_DESKTOP * min(desktop[0] / size[0], desktop[1] / size[1])
        scale = int(scale) if scale > 1 else scale  # whole numbers are sharp
        try:
            self._pygame.display.set_mode([round(length * scale) for length in size], self._pygame.RESIZABLE)
        except self._pygame.error as error:
            raise NoDisplayError(f"no window can be opened ({error})") from error
        self.set_title(title)
        self._draw()

    def set_title(self, title: str) -> None:
        """Changes the text in the title bar."""
        if title != self._title and not self.closed:
            self._title = title
            self._pygame.display.set_caption(title)

    def show(self, picture: Image.Image) -> None:
        """Shows the next picture, a 60th of a second at `speed` after the one before, or at once if that has passed."""
        if self._is_open():
            self._picture = self._to_surface(picture)
            self._draw()
            # The beat goes on while the agent thinks, so that this is caught up; a long pause is not.
            self._due += 1 / FRAMES_PER_SECOND / self.speed
            if time.monotonic() - self._due > MAX_LAG_SECONDS:
                self._due = time.monotonic()
            time.sleep(max(0.0, self._due - time.monotonic()))

    def hold(self, seconds: float) -> None:
        """Goes on showing the last picture."""
        end = time.monotonic() + seconds
        while self._is_open() and time.monotonic() < end:
            self._draw()
            time.sleep(1 / FRAMES_PER_SECOND)

    def wait(self, picture: Image.Image) -> None:
        """Shows a picture until the person asks for the next step or goes on."""
        self._picture = self._to_surface(picture)
        self._step = False
        while self._is_open() and self.paused and not self._step and not self.restart:
            self._draw()
            time.sleep(1 / FRAMES_PER_SECOND)

    def close(self) -> None:
        """Takes the window off the screen."""
        self.closed = True
        self._pygame.display.quit()

    def _is_open(self) -> bool:
        for event in () if self.closed else self._pygame.event.get():
            key = self._pygame.key.name(event.key) if event.type == self._pygame.KEYDOWN else None
            if event.type == self._pygame.QUIT or key in ("escape", "q"):
                self.close()
                break
            if key in ("space", "p"):
                self.paused = not self.paused
            elif key == "n":
                self.paused = self._step = True
            elif key in ("up", "down"):
                self.speed = min(max(self.speed * (2.0 if key == "up" else 0.5), MIN_SPEED), MAX_SPEED)
            elif key == "r":
                self.restart = True
        return not self.closed

    def _to_surface(self, picture: Image.Image) -> Any:
        return self._pygame.image.frombuffer(picture.tobytes(), picture.size, "RGB")

    def _draw(self) -> None:
        surface = self._pygame.display.get_surface()
        (width, height), (surface_width, surface_height) = self._picture.get_size(), surface.get_size()
        scale = min(surface_width / width, surface_height / height)
        picture = self._pygame.transform.scale(
            self._picture, (max(1, round(width * scale)), max(1, round(height * scale)))
        )
        surface.fill("black")
        surface.blit(picture, picture.get_rect(center=surface.get_rect().center))
        self._pygame.display.flip()


def _start_pygame() -> Any:
    """pygame with its display running; imported only here, as it may be missing where nobody looks."""
    has_driver = "SDL_VIDEODRIVER" in os.environ  # whoever sets it knows why
    has_display = "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if sys.platform not in ("win32", "darwin") and not (has_driver or has_display):
        raise NoDisplayError("there is no display here")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    # Or SDL draws through OpenGL, and Mesa and TensorFlow each bring their LLVM: in one process that crashes.
    os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")
    try:
        import pygame
    except ImportError:
        raise NoDisplayError("pygame is not installed (pip install pygame)") from None
    try:
        pygame.display.init()
    except pygame.error as error:
        raise NoDisplayError(f"no window can be opened ({error})") from error
    # Without a display that works, SDL draws where nobody sees it, and does not say so.
    if pygame.display.get_driver() in ("offscreen", "dummy") and not has_driver:
        pygame.display.quit()
        raise NoDisplayError("the display cannot be reached")
    return pygame
