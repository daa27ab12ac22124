"""The claims of the README and of the pages in docs/ that a machine can check."""

import argparse
import dataclasses
import re
import shlex

import pytest
from commands import REPOSITORY, our_files

import compare
import evaluate
import play
import sweep
import train
from config import PRESETS, Config, add_options, flag

README = (REPOSITORY / "README.md").read_text()
TRAINING = (REPOSITORY / "docs/training.md").read_text()
TRACKED = [path.relative_to(REPOSITORY).as_posix() for path in our_files("*")]
# The journal of the experiments has commands of their day, with options that are gone.
PAGES = [name for name in TRACKED if name.endswith(".md") and not name.startswith("docs/experiments")]
TEXTS = {name: (REPOSITORY / name).read_text() for name in PAGES if name != "CHANGELOG.md"}
TABLE = TRAINING.split("## Where the default differs from Mnih et al. 2015")[1]
WORDS = {"yes": True, "no": False}
ROWS = {
    name.replace("-", "_"): tuple(WORDS[x] if x in WORDS else float(x.replace(",", "")) for x in values)
    for name, *values in re.findall(
        r"^\| `--([\w-]+)` \| (-?[\d,.]+|yes|no) \| ([\d,.]+|yes|no) \|", TABLE, re.MULTILINE
    )
}
NATURE = dataclasses.replace(Config(), **PRESETS["nature"][1])
RUN = re.compile(r"python ((?:train|play|evaluate|sweep|compare)\.py[^`\n]*)")
ENDS = "--help|--version|--list-games"  # what prints and ends
COMMANDS = {line for text in TEXTS.values() for line in RUN.findall(text) if not re.search(ENDS, line)}
NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


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
    listed = TRAINING.split("may be changed when a training is resumed: ")[1].split("`config.json`")[0]
    changeable = {flag(field) for field in dataclasses.fields(Config) if field.metadata["changeable"]}
    assert set(re.findall(r"`(--[a-z-]+)`", listed)) == changeable


def test_every_preset_is_explained():
    assert set(re.findall(r"^\| `([\w-]+)` \|", TRAINING.split("## Presets")[1].split("\n## ")[0], re.M)) == set(
        PRESETS
    )


@pytest.mark.parametrize("line", sorted(COMMANDS))
def test_every_command_on_the_pages_is_understood(line, monkeypatch, tmp_path):
    script, *words = shlex.split(line.split(";")[0], comments=True)
    monkeypatch.setattr("sys.argv", [script, *words])
    monkeypatch.chdir(tmp_path)  # some look whether they can write where they are told to
    module = {"train.py": train, "play.py": play, "evaluate.py": evaluate, "sweep.py": sweep, "compare.py": compare}[
        script
    ]
    assert isinstance(module._parse_arguments(), argparse.Namespace)


def test_there_are_commands_on_the_pages():
    assert len(COMMANDS) > 20


def test_every_option_that_the_pages_name_exists():
    parser = argparse.ArgumentParser()
    add_options(parser)
    options = set(re.findall(r"--[a-z-]+", parser.format_help()))
    for script in [name for name in TRACKED if name.endswith(".py") and not name.startswith("tests/")]:
        options |= set(re.findall(r'"(--[a-z-]+)"', (REPOSITORY / script).read_text()))
    named = {option for text in TEXTS.values() for option in re.findall(r"`[^`\n]*?(--[a-z][a-z-]+)", text)}
    assert named - options == {"--logdir"}  # of TensorBoard


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_to_a_file(name):
    for link in re.findall(r"\]\(([^)#]+)\)", (REPOSITORY / name).read_text()):
        if "://" not in link:
            assert ((REPOSITORY / name).parent / link).exists(), link


def test_every_file_and_every_name_on_the_pages_exists():
    code = "".join((REPOSITORY / name).read_text() for name in TRACKED if name.endswith(".py"))
    for page, text in TEXTS.items():
        for path in re.findall(r"`((?:[\w.-]+/)+[\w-]+\.(?:py|ipynb|md|h5))`", text):
            places = (REPOSITORY / path, REPOSITORY / page / ".." / path)
            assert path.startswith(("rl/", "runs/")) or any(place.exists() for place in places), (page, path)
        for name in re.findall(
            r"`(?:\w+\.)*(_[a-z]+(?:_[a-z\d]+)*|[a-z]+(?:_[a-z\d]+)+|[A-Z][a-z]+[A-Z]\w+)(?:\(\))?`", text
        ):
            assert re.search(rf"\b{name}\b", code), (page, name)


def test_a_frames_way_goes_through_the_files_that_the_readme_lists():
    section = README.split("## How it works")[1].split("\n## ")[0]
    stations = re.findall(r"^(\w+/\w+\.py) +(\w+) ", section, re.MULTILINE)
    assert f"A frame goes through {NUMBERS[len(stations)]} files" in section
    for file, name in stations:
        assert re.search(rf"^(def |class |import .* as |import ){name}\b", (REPOSITORY / file).read_text(), re.M), file


def test_the_readme_is_short_and_so_are_its_sentences():
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"\]\([^)]*\)", "]", prose)
    assert len(re.findall(r"\S*\w\S*", prose)) <= 1500
    paragraphs = [re.sub(r"^([|#!].*|- )", "", block, flags=re.MULTILINE) for block in re.split(r"\n\s*\n", prose)]
    sentences = [s for p in paragraphs for s in re.split(r"(?<=[.!?:])\s+(?=[A-Z`\[*])", p.strip()) if s]
    lengths = [len(sentence.split()) for sentence in sentences]
    assert sum(lengths) / len(lengths) <= 15
    assert sum(length > 30 for length in lengths) <= 0.05 * len(lengths)
