"""Pictures inside a page: in a notebook, and in a report."""

import base64
import sys
from pathlib import Path

KINDS = {".png": "image/png", ".gif": "image/gif", ".webp": "image/webp", ".mp4": "video/mp4", ".svg": "image/svg+xml"}


def in_notebook() -> bool:
    """Whether this runs in a notebook's kernel: Jupyter, Colab, Kaggle."""
    ipython = sys.modules.get("IPython")
    return hasattr(ipython.get_ipython() if ipython else None, "kernel")


def show_inline(picture: Path) -> None:
    """Shows a picture or a recording below the notebook's cell; it moves, and stays in the notebook."""
    from IPython.display import HTML, display

    kind = picture.suffix.lower()
    tag = "video controls autoplay loop muted" if kind == ".mp4" else "img"
    display(HTML(f'<{tag} style="max-width: 100%" src="{data_uri(picture.read_bytes(), kind)}">'))


def data_uri(data: bytes, kind: str) -> str:
    """A file as an address that holds it, so that nothing is fetched; its kind as the end of its name: ".svg"."""
    return f"data:{KINDS[kind]};base64,{base64.b64encode(data).decode()}"
