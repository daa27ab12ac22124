"""The pictures of the README and of docs/ show the policy that ships."""

import hashlib
from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"
DIGEST = hashlib.sha256((DOCS.parent / "policy.h5").read_bytes()).hexdigest()


@pytest.mark.parametrize("picture", sorted((DOCS / "pictures").iterdir()), ids=lambda path: path.name)
def test_a_picture_was_drawn_with_the_policy_that_ships(picture):
    with Image.open(picture) as image:
        assert image.text["policy.h5"].split()[-1] == DIGEST, "draw it anew: python docs/draw_pictures.py"


def test_the_film_is_of_the_policy_that_ships_and_small_enough_for_a_page():
    with Image.open(DOCS / "agent.webp") as film:
        assert film.getexif()[0x010E].split()[-1] == DIGEST, "film it anew: python docs/draw_pictures.py"
        assert film.n_frames > 400
    assert (DOCS / "agent.webp").stat().st_size < 1_300_000
