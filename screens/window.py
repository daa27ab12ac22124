"""A window on the desktop."""

import os
import sys
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from screens.viewer import KEYS, KEYS_OF_A_PLAYER, Viewer

PLAYED_KEYS = ("left", "right", "up", "down", "space")
SHARE_OF_DESKTOP = (0.97, 0.88)  # of its width and height, the most that the window takes at first
LINE_HEIGHT, LINE_TEXT, LINE_COLOURS = 24, 13, ((34, 34, 34), (187, 187, 187))  # of the line below the picture


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
        self._size = size
        self._tapped: set[str] = set()
        self._line: tuple[object, Any] = (None, None)  # what it says and how wide it is, and its surface
        desktop = self._pygame.display.get_desktop_sizes()[0]
        width, height = SHARE_OF_DESKTOP[0] * desktop[0], SHARE_OF_DESKTOP[1] * desktop[1] - LINE_HEIGHT
        scale = min(width / size[0], height / size[1])
        scale = int(scale) if scale > 1 else scale  # whole numbers are sharp
        try:
            self._pygame.display.set_mode(
                (round(size[0] * scale), round(size[1] * scale) + LINE_HEIGHT), self._pygame.RESIZABLE
            )
        except self._pygame.error as error:
            raise NoDisplayError(f"no window can be opened ({error})") from error
        self.set_title(title)
        self._fit()
        self._picture = _message("The network is being loaded ...", (round(size[0] * scale), round(size[1] * scale)))
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
        self._fit()
        surface = self._pygame.display.get_surface()
        surface.fill("black")
        surface.blit(self._picture_to_fit(), self._place)
        surface.blit(self._line_to_fit(surface.get_width()), (0, surface.get_height() - LINE_HEIGHT))
        self._pygame.display.flip()

    def _fit(self) -> None:
        """Finds the scale at which pictures fill the window as it is now."""
        width, height = self._pygame.display.get_surface().get_size()
        self._room = (width, max(1, height - LINE_HEIGHT))
        self.scale = min(self._room[0] / self._size[0], self._room[1] / self._size[1])

    def _picture_to_fit(self) -> Any:
        size = self._picture.size
        picture = self._pygame.image.frombuffer(self._picture.tobytes(), size, "RGB")
        scale = min(self._room[0] / size[0], self._room[1] / size[1])
        fitting = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        if max(abs(fitting[0] - size[0]), abs(fitting[1] - size[1])) > 1:  # drawn before the window was resized
            picture = self._pygame.transform.smoothscale(picture, fitting)
        self._place = picture.get_rect(center=(self._room[0] // 2, self._room[1] // 2))
        return picture

    def _line_to_fit(self, width: int) -> Any:
        """The keys and the speed, as wide as the window."""
        speed = "paused" if self.paused else f"speed {self.speed_in_words}"
        if self._line[0] != (speed, width):
            keys = KEYS_OF_A_PLAYER if self.played else KEYS
            line, pen = _new_picture((width, LINE_HEIGHT))
            middle, font = LINE_HEIGHT / 2, ImageFont.load_default(LINE_TEXT)
            pen.text((8, middle), keys, LINE_COLOURS[1], font, anchor="lm")
            left = width - 16 - pen.textlength(speed, font)
            pen.rectangle((left, 0, width, LINE_HEIGHT), LINE_COLOURS[0])  # over keys that are too long
            pen.text((left + 8, middle), speed, LINE_COLOURS[1], font, anchor="lm")
            self._line = (speed, width), self._pygame.image.frombuffer(line.tobytes(), line.size, "RGB")
        return self._line[1]


def _new_picture(size: tuple[int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", size, LINE_COLOURS[0])
    return picture, ImageDraw.Draw(picture)


def _message(text: str, size: tuple[int, int]) -> Image.Image:
    """A picture of a text in its middle."""
    picture, pen = _new_picture(size)
    pen.text((size[0] / 2, size[1] / 2), text, LINE_COLOURS[1], ImageFont.load_default(20), anchor="mm")
    return picture


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
