"""The page of an evaluation, opened in a real browser."""

import datetime
import functools
import http.server
import re
import shutil
import subprocess
import threading
import time

import numpy as np
import pytest

from environments.atari import AtariEnvironment
from reports.film import GameFilm
from reports.html_report import ReportedGame, write_html_report

HEADER = "step,seconds,steps_per_second,episodes,score,best_score,evaluation,epsilon,loss,mean_q"
# What a person would notice, written where --dump-dom shows it.
LOOK = """<script>
const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds))
const pictures = () => [...document.querySelectorAll("canvas")].map(canvas => canvas.toDataURL())
async function look() {
  while (document.querySelectorAll("canvas").length < 3) await wait(50)
  document.querySelector("button").click()
  await wait(300)
  const before = pictures()
  await wait(300)
  const moved = pictures().map((picture, number) => picture != before[number])
  const broken = [...document.images].filter(image => !image.complete || !image.naturalWidth).length
  document.title = `images ${document.images.length}, broken ${broken}, ` +
    `width ${document.documentElement.scrollWidth} of ${innerWidth}, moved ${moved}`
}
look()
</script>
<script async src="slow.js"></script>"""


def film(num_steps):
    film = GameFilm(".webp", 120)
    environment = AtariEnvironment(on_frame=film.on_frame)
    environment.reset(seed=1)
    for _ in range(num_steps):
        environment.step(1)
    return film


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    lines = [f"{500 * n},{n},300,{n},{n},{2 * n},{'nan' if n < 20 else 20 * (n // 20)},0.1,0.01,1" for n in range(100)]
    (folder / "metrics.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    size = write_html_report(
        folder / "report.html",
        game="breakout",
        policy=folder / "<script>alert(1)</script>.h5",
        protocol="3 full games of breakout",
        date=datetime.date(2026, 3, 1),
        statistics={
            "mean": 20.0,
            "median": 20,
            "minimum": 10,
            "maximum": 30,
            "mean_interval_95": [12.0, 28.0],
            "different_games": 3,
            "human_normalised": 0.635,
        },
        scores=[10, 30, 20, 20],
        references=(1.7, 30.5),
        games=[ReportedGame(title, 10, film(100)) for title in ("Best game", "Median game", "Worst game")],
        metrics=folder / "metrics.csv",
        tables={"Training": {"a_name_as_long_as_they_come": "x" * 200}, "Settings": {}, "Versions": {"keras": "3"}},
        commands=[["python", "train.py", "--run", "two words"]],
    )
    path = folder / "report.html"
    assert path.stat().st_size == size < 1_000_000
    return path


def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return found or pytest.skip("needs Chromium: apt-get install chromium")


class Slow(http.server.SimpleHTTPRequestHandler):
    """Serves the page, and makes the browser wait for the last script: it dumps what it has once all is loaded."""

    def do_GET(self):
        if self.path == "/slow.js":
            time.sleep(8)
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_everything_is_seen_on_a_phone_and_on_a_desk_without_a_complaint_or_a_request(page, width, height, tmp_path):
    page.with_name("opened.html").write_text(page.read_text().replace("</body>", LOOK + "</body>"))
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--enable-logging=stderr"]
    words += [
        f"--window-size={width},{height}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--dump-dom",
    ]
    handler = functools.partial(Slow, directory=page.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/opened.html"
        ended = subprocess.run([browser(), *words, address], capture_output=True, text=True, timeout=120)
        server.shutdown()
    seen = re.search(r"<title>images (\d+), broken (\d+), width (\d+) of (\d+), moved (.*)</title>", ended.stdout)
    assert seen, ended.stdout[:1_000]
    images, broken, content, window = map(int, seen.groups()[:4])
    assert (images, broken) == (3, 0)
    assert seen[5] == "false,true,true", "the first film is paused"
    assert content <= window <= max(width, 500)  # some versions make no narrower window
    assert not [line for line in ended.stderr.splitlines() if "CONSOLE" in line]


def test_nothing_is_fetched_and_what_a_file_says_is_text(page):
    text = page.read_text()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert text.count("<script>") == text.count("</script>") == 1
    assert "Evaluated on 1 March 2026." in text
    assert "full games, 3 of them different" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "python train.py --run &#39;two words&#39;" in text
    assert "Settings" not in text  # of which nothing is known


def test_the_film_has_every_frame_and_stops_at_its_limit():
    whole = film(20)
    assert whole.num_frames >= 84
    assert not whole.is_cut
    short = GameFilm(".gif", 0.5)
    environment = AtariEnvironment(on_frame=short.on_frame)
    environment.reset(seed=1)
    for _ in range(20):
        environment.step(0)
    assert short.is_cut
    assert short.to_bytes().startswith(b"GIF89a")


def test_a_state_in_which_a_game_ended_is_a_film_of_it():
    played, again = [], []
    environment = AtariEnvironment(on_frame=lambda ale: played.append(ale.getScreenRGB()))
    environment.reset(seed=3)
    over = False
    while not over:
        _, _, over, _, _ = environment.step(environment.action_space.sample())
    AtariEnvironment(on_frame=lambda ale: again.append(ale.getScreenRGB())).set_state(environment.get_state())
    assert len(played) == len(again) > 100
    assert all(map(np.array_equal, played, again))
