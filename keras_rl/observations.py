"""Observations of several parts, a list or dict of arrays, as NumPy records: values that are kept like any other."""

from typing import Any

import numpy as np


def as_array(observation: Any) -> np.ndarray:
    """An observation as one array of numbers; one of several parts as a record, which has shape () and named fields.

    Raises:
        ValueError: If it holds anything but numbers.
    """
    if not isinstance(observation, dict):
        try:
            array = np.asarray(observation)
        except ValueError:  # parts of unequal shape
            array = np.asarray(None)
        if array.dtype.kind in "biufc":
            return array
    if not isinstance(observation, (dict, list, tuple)) or not observation:
        raise ValueError(f"Got the observation {str(observation)[:60]!r}, expected numbers, or a list or dict of them.")
    parts = {str(name): as_array(part) for name, part in _parts(observation)}
    record = np.zeros((), np.dtype([(name, part.dtype, part.shape) for name, part in parts.items()]))
    for name, part in parts.items():
        record[name] = part
    return record


def as_parts(record: np.ndarray, example: Any) -> Any:
    """The opposite of `as_array`: an observation of the same kind as `example`."""
    if record.dtype.names is None:
        return record
    parts = {name: as_parts(record[str(name)], part) for name, part in _parts(example)}
    return parts if isinstance(example, dict) else type(example)(parts.values())


def _parts(observation: Any) -> list[tuple[Any, Any]]:
    return list(observation.items() if isinstance(observation, dict) else enumerate(observation))
