"""Pages: one HTML file each, with everything in it."""

from pathlib import Path
from typing import Any

from keras_h5 import files
from reports.inline import data_uri


def write_page(path: Path, template: str, **values: Any) -> int:
    """Writes a page that needs no other file, whole or not at all.

    Args:
        path: the .html file to write.
        template: a file beside this one.
        values: what it asks for.

    Returns:
        The page's size in bytes.

    Raises:
        OSError: the file system refused.
    """
    import jinja2  # here: nobody else needs it

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["data_uri"] = data_uri
    environment.filters["points"] = lambda score: f"{score:,.1f}".removesuffix(".0")
    page = environment.get_template(template).render(**values).encode()
    files.write(path, page)
    return len(page)
