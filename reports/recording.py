"""Recordings of games at their speed: as GIF or WebP, in exactly the game's colours, or as MP4."""

import importlib.util
import io
import itertools
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import GifImagePlugin, Image, ImageChops

from keras_h5 import files
from screens.picture import FRAMES_PER_SECOND

# Browsers slow a GIF down that shows more than 50 pictures a second, and its delays are hundredths of a second.
FRAMES_PER_PICTURE = {".gif": 2, ".webp": 1, ".mp4": 1}
LARGE_GIF = 3_000_000  # bytes; mail and chat programs begin to refuse it
SMALLER = "As .webp it has half the size or less, and all 60 pictures a second."
MAX_COLOURS = 255
TRANSPARENT = 255  # the number that is left


class RecordingError(files.FileError):
    """A recording cannot be made here; the message is one sentence for the person."""


class Recorder:
    """Keeps the best of several games, and writes it to a file.

    A game is compressed as it is played: a minute of Breakout takes 0.6 MB, of Ms. Pac-Man 2 MB.

    Args:
        path: the file to write, .gif, .webp or .mp4.
        max_seconds: of play to record of a game; what follows is left out.

    Attributes:
        frames_per_picture: number of emulator frames that each picture given to `show` stands for.

    Raises:
        FileError: `path` is none of these, or cannot be written.
        RecordingError: what makes an .mp4 is not installed.
    """

    def __init__(self, path: Path, max_seconds: float = 120.0) -> None:
        files.require_writable(path, tuple(FRAMES_PER_PICTURE))
        if path.suffix.lower() == ".mp4" and not importlib.util.find_spec("imageio_ffmpeg"):
            raise RecordingError(f"{path} needs imageio-ffmpeg; pip install imageio-ffmpeg, or record a .gif or .webp.")
        self.path = path
        self.max_seconds = max_seconds
        self.frames_per_picture = FRAMES_PER_PICTURE[path.suffix.lower()]
        self._palette = Palette()
        self._best: Film | None = None
        self.begin_game(0)

    def begin_game(self, number: int) -> None:
        """The pictures from here on belong to this game."""
        self._film = Film(number, FRAMES_PER_SECOND / self.frames_per_picture, self._palette)

    def show(self, picture: Image.Image) -> None:
        """Takes the game's next picture, RGB and as large as the others."""
        if self._film.seconds < self.max_seconds:
            self._film.add(picture)
        else:
            self._film.is_cut = True

    def end_game(self, score: float) -> None:
        """Keeps the game if none before had as high a score."""
        self._film.score = score
        if self._best is None or score > self._best.score:
            self._best = self._film

    def save(self, tell: Callable[[float], None] = lambda share: None) -> str | None:
        """Writes the best game, or the one that was interrupted if there is no other.

        Args:
            tell: called with the share of it that is written, now and then.

        Returns:
            A sentence that says what is in the file now; None if there was nothing to record.

        Raises:
            FileError: the file system refused; a file that was there before is unchanged.
        """
        film = self._best or self._film
        if not film.seconds:
            return None
        kind = self.path.suffix.lower()
        with files.in_words(self.path):
            data = film.to_gif() if kind == ".gif" else {".webp": film.to_webp, ".mp4": film.to_mp4}[kind](tell)
            files.write(self.path, data)
        part = f"its first {film.seconds:.0f} s" if film.is_cut else f"{film.seconds:.0f} s"
        size = f"{len(data) / 1e6:.1f} MB" if len(data) >= 1e6 else f"{len(data) / 1e3:.0f} kB"
        hint = f" {SMALLER}" if kind == ".gif" and len(data) > LARGE_GIF else ""
        return f"Game {film.number} is in {self.path}: {part} at real speed, {size}.{hint}"


def free_path(path: Path) -> Path:
    """`path`, or if that is taken the first free one of name-2.gif, name-3.gif, ..."""
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


class Palette:
    """The colours of a recording, each exactly as it first appeared; from the 256th on the nearest of these."""

    def __init__(self) -> None:
        self._colours: list[int] = []  # 0xRRGGBB
        self._indices = np.full(2**24, -1, np.int16)  # of every colour that there is; -1: not seen yet

    def indices(self, picture: Image.Image) -> np.ndarray:
        """The number of each pixel's colour, uint8 (height, width)."""
        red, green, blue = np.moveaxis(np.asarray(picture, np.uint32), -1, 0)
        colours = red << 16 | green << 8 | blue
        indices = self._indices[colours]
        if (indices < 0).any():
            for colour in np.unique(colours[indices < 0]):
                self._indices[colour] = self._place(int(colour))
            indices = self._indices[colours]
        return indices.astype(np.uint8)

    def to_bytes(self) -> bytes:
        """256 times R, G, B."""
        return b"".join(colour.to_bytes(3, "big") for colour in self._colours).ljust(3 * 256, b"\0")

    def _place(self, colour: int) -> int:
        if len(self._colours) < MAX_COLOURS:
            self._colours.append(colour)
            return len(self._colours) - 1
        known = np.frombuffer(self.to_bytes(), np.uint8).reshape(-1, 3).astype(int)
        return int(((known - list(colour.to_bytes(3, "big"))) ** 2).sum(axis=1).argmin())


class Film:
    """The pictures of a game, each as a GIF block of the rectangle that has changed, without a loss.

    Args:
        number: of the game.
        pictures_per_second: at the console's speed.
        palette: the colours, of its own or shared with other films.
    """

    score = 0.0
    is_cut = False

    def __init__(
        self, number: int = 1, pictures_per_second: float = FRAMES_PER_SECOND, palette: Palette | None = None
    ) -> None:
        self.number = number
        self._pictures_per_second = pictures_per_second
        self._palette = palette or Palette()
        self._size = (0, 0)
        self._last: Image.Image | None = None
        self._blocks: list[tuple[int, bool, bytes]] = []  # the picture's number, has transparent pixels, the data
        self._num_pictures = 0

    @property
    def seconds(self) -> float:
        """Length of the film."""
        return self._num_pictures / self._pictures_per_second

    def add(self, picture: Image.Image) -> None:
        """Appends a picture, or makes the last one stay longer if they are equal."""
        if self._last is None:
            self._size, changes = picture.size, Image.new("RGB", picture.size, "white")
        else:
            changes = ImageChops.difference(picture, self._last)
        box = changes.getbbox()
        if box:
            pixels = self._palette.indices(picture.crop(box))
            is_changed = np.asarray(changes.crop(box)).any(axis=-1)
            # Few changes in a busy picture compress better alone (Ms. Pac-Man: a third), many in a plain one do not.
            whole, alone = (
                b"".join(GifImagePlugin.getdata(Image.fromarray(array), box[:2]))
                for array in (pixels, np.where(is_changed, pixels, np.uint8(TRANSPARENT)))
            )
            self._blocks.append((self._num_pictures, len(alone) < len(whole), min(whole, alone, key=len)))
        self._last = picture
        self._num_pictures += 1

    def to_gif(self) -> bytes:
        """The film as a file, https://www.w3.org/Graphics/GIF/spec-gif89a.txt, that repeats for ever."""
        # Pillow's own writer would need all pictures in memory at once, 2 GB for two minutes.
        parts = [b"GIF89a", struct.pack("<HHBBB", *self._size, 0b1_111_0_111, 0, 0)]
        parts += [self._palette.to_bytes(), b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"]
        delays = self._delays(units_per_second=100)
        for (_, is_transparent, data), delay in zip(self._blocks, delays, strict=True):
            parts += [
                b"!\xf9\x04",
                struct.pack("<BHBB", 0b001_00 + is_transparent, delay, TRANSPARENT, 0),
                data,
            ]
        return b"".join([*parts, b";"])

    def to_webp(self, tell: Callable[[float], None] = lambda share: None) -> bytes:
        """The film as a lossless WebP that repeats for ever; takes a quarter of the time that it shows."""
        file = io.BytesIO()
        with Image.open(io.BytesIO(self.to_gif())) as film:
            seek = film.seek

            def seek_and_tell(number: int) -> None:
                tell(number / len(self._blocks))
                seek(number)

            film.seek = seek_and_tell  # type: ignore[method-assign]  # Pillow calls it before each picture it writes
            # Without key frames, which only seeking needs, it is a tenth of the size (kmax: see libwebp's encode.h).
            film.save(
                file,
                "WEBP",
                save_all=True,
                duration=self._delays(units_per_second=1000),
                loop=0,
                lossless=True,
                quality=75,
                method=4,
                kmin=0,
                kmax=0,
            )
        return file.getvalue()

    def to_mp4(self, tell: Callable[[float], None] = lambda share: None) -> bytes:
        """The film as an MP4 (H.264), which every video player and browser opens."""
        import imageio_ffmpeg

        with tempfile.TemporaryDirectory() as folder, Image.open(io.BytesIO(self.to_gif())) as film:
            path = Path(folder) / "film.mp4"
            video = imageio_ffmpeg.write_frames(
                str(path),
                self._size,
                fps=self._pictures_per_second,
                codec="libx264",
                quality=None,
                macro_block_size=2,  # 4:2:0 colours come in blocks of 2x2
                output_params=["-crf", "18", "-preset", "veryfast", "-tune", "animation"],
            )
            video.send(None)
            for number, num_pictures in enumerate(self._delays(units_per_second=FRAMES_PER_SECOND)):
                tell(number / len(self._blocks))
                film.seek(number)
                picture = film.convert("RGB").tobytes()
                for _ in range(num_pictures):
                    video.send(picture)
            video.close()
            return path.read_bytes()

    def _delays(self, units_per_second: int) -> list[int]:
        """How long each block stays. Rounded times, not rounded delays: at 30 a second 3, 4, 3, 3, 4, 3 hundredths."""
        starts = [start for start, *_ in self._blocks] + [self._num_pictures]
        times = [round(start * units_per_second / self._pictures_per_second) for start in starts]
        return [end - start for start, end in itertools.pairwise(times)]
