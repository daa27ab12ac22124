"""The README's claims that a machine can check."""

import argparse
import dataclasses
import re
import shlex
from pathlib import Path

import pytest

import evaluate
import play
import train
from config import PRESETS, Config, add_options, flag

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
TABLE = README.split("### Where the default differs from Mnih et al. 2015")[1].split("\n## ")[0]
WORDS = {"yes": True, "no": False}
ROWS = {
    name.replace("-", "_"): tuple(WORDS[x] if x in WORDS else float(x.replace(",", "")) for x in values)
    for name, *values in re.findall(r"^\| `--([\w-]+)` \| ([\d,.]+|yes|no) \| ([\d,.]+|yes|no) \|", TABLE, re.MULTILINE)
}
NATURE = dataclasses.replace(Config(), **PRESETS["nature"][1])


def test_the_table_of_deviations_has_the_defaults_of_the_code():
    assert len(ROWS) > 8
    for name, (here, _) in ROWS.items():
        assert getattr(Config(), name) == here, name


def test_the_table_of_deviations_has_the_papers_values_of_the_nature_preset():
    for name, (_, paper) in ROWS.items():
        assert getattr(NATURE, name) == paper, name


def test_no_deviation_is_missing_from_the_table():
    deviating = {f.name for f in dataclasses.fields(Config) if getattr(Config(), f.name) != getattr(NATURE, f.name)}
    assert deviating - {"precision"} == set(ROWS)


def test_the_options_that_a_resumed_training_may_change_are_listed():
    listed = README.split("may be changed when a training is resumed: ")[1].split("`config.json`")[0]
    changeable = {flag(field) for field in dataclasses.fields(Config) if field.metadata["changeable"]}
    assert set(re.findall(r"`(--[a-z-]+)`", listed)) == changeable


@pytest.mark.parametrize(
    "line", sorted(set(re.findall(r"^python (?:train|play|evaluate)\.py.*$", README, re.MULTILINE)))
)
def test_every_command_in_the_readme_is_understood(line, monkeypatch):
    script, *words = shlex.split(line, comments=True)[1:]
    monkeypatch.setattr("sys.argv", [script, *words])
    arguments = {"train.py": train, "play.py": play, "evaluate.py": evaluate}[script]._parse_arguments()
    assert isinstance(arguments, argparse.Namespace)


def test_every_option_that_the_readme_names_exists():
    parser = argparse.ArgumentParser()
    add_options(parser)
    options = set(re.findall(r"--[a-z-]+", parser.format_help() + (REPOSITORY / "train.py").read_text()))
    for script in ("play.py", "evaluate.py"):
        options |= set(re.findall(r'"(--[a-z-]+)"', (REPOSITORY / script).read_text()))
    named = set(re.findall(r"`[^`]*?(--[a-z][a-z-]+)", README))
    assert named - options == {"--logdir", "--no-deps", "--oldest"}  # of TensorBoard, pip and check.py
