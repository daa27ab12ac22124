"""A window on the desktop."""

import os
import sys
from collections.abc import Iterator
from typing import Any

from PIL import Image

from screens.viewer import Viewer

PLAYED_KEYS = ("left", "right", "up", "down", "space")
SHARE_OF_DESKTOP = 0.85  # the most that the window takes of it at first


class NoDisplayError(RuntimeError):
    """No window can be opened; the message is the reason, half a sentence."""


class Window(Viewer):
    """A window of any size, which keeps the pictures' proportions.

    Args:
        title: of the window.
        size: (width, height) of the pictures in pixels.
        played: whether the person plays, see `Viewer`.

    Raises:
        NoDisplayError: there is no display, or pygame is not installed.
    """

    def __init__(self, title: str, size: tuple[int, int], played: bool = False) -> None:
        super().__init__(played)
        self._pygame = _start_pygame()
        self._title = ""
        self._picture = Image.new("RGB", size)
        self._tapped: set[str] = set()
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

    def held_keys(self) -> set[str]:
        """Names of the keys that are down, or were since the last call: a short tap counts."""
        held, self._tapped = self._tapped, set()
        if not self.closed:
            down = self._pygame.key.get_pressed()
            held |= {name for name in PLAYED_KEYS if down[self._pygame.key.key_code(name)]}
        return held

    def close(self) -> None:
        """Takes the window off the screen."""
        self.closed = True
        self._pygame.display.quit()

    def _keys(self) -> Iterator[str]:
        for event in self._pygame.event.get():
            if event.type == self._pygame.QUIT:
                yield "escape"
            elif event.type == self._pygame.KEYDOWN:
                key = self._pygame.key.name(event.key)
                self._tapped.add(key)
                yield key

    def _draw(self) -> None:
        surface = self._pygame.display.get_surface()
        (width, height), (surface_width, surface_height) = self._picture.size, surface.get_size()
        scale = min(surface_width / width, surface_height / height)
        picture = self._pygame.transform.scale(
            self._pygame.image.frombuffer(self._picture.tobytes(), self._picture.size, "RGB"),
            (max(1, round(width * scale)), max(1, round(height * scale))),
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
