"""Every line that the documentation tells people to type is typed, shortened where it would train for an hour.

What a line would fetch from a hub lies here: adapters and log-ins at a small server of the hub's protocol, models in
its cache, public sets as a few made-up rows under their names.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from documented import BLOCKS, PAGES, ROOT, shell_lines
from local_hub import serving
from office import deepspeed, furnish, helm, install

from speechft.manifest import Manifest

# Lines that are not typed here, by how they begin, and why.
NOT_RUN = {
    "make test": "is what runs this",
    "make quickstart": "test_an_environment_is_made",
    "make lint": "test_an_environment_is_made",
    "pip install": "test_an_environment_is_made",
}
# What a tool needs that is of another environment, or of none.
TOOLS = {"helm-run": helm, "accelerate launch --config_file configs/deepspeed": deepspeed}
SERVES = (".venv/bin/speechft demo", ".venv/bin/speechft serve", "SPEECHFT_TOKEN=")  # until they are stopped
TEXT = "max_steps=4 max_length=160 batch_size=2 accumulate=1 dev_examples=4 test_examples=4 evaluations=1"
# What is added to lines that would train for an hour, by how they begin; the first that fits.
SHORTER = {
    "python benchmarks/training.py": "--rounds 1 --steps 1 --clips corpus --placements decoder",
    "python benchmarks/decoding.py": "--limit 2 --rounds 1",
    "python benchmarks/time_to_wer.py": "--peer-epochs 1",
    "python benchmarks/few_clips.py": "--speakers 1 --steps 1",
    "python benchmarks/hyperparameters.py --plot": "",
    "python benchmarks/hyperparameters.py --text": "--rows 10 --studies schedule",
    "python benchmarks/hyperparameters.py": "--clips 4 --dev 2 --studies schedule",
    "python benchmarks/methods.py": "--seconds 1 --clips 2 --arms default",
    "python benchmarks/quantization.py": "--models bundled:tiny.en --limit 6 --steps 1",
    "python recipes/dose_curve.py": "--minutes 0.2 --set max_steps=1 min_steps=1",
    "python recipes/augmentation_ablation.py": "--kinds speed --set max_steps=1 min_steps=1",
    "python recipes/cohort_then_speaker.py": "--speakers 1 --personal-steps 1 --set max_steps=1 min_steps=1",
    "speechft train recipes/text_sft": f"{TEXT} max_new_tokens=3",
    "speechft train recipes/text_ppo": f"{TEXT} max_new_tokens=3 rollouts=2",
    "speechft train recipes/text_": TEXT,
    "python recipes/min_wer.py": "--rounds 1 --clips 4 --held-out 2",
    "python recipes/text_correct.py": "--clips 4 --held-out 2 --folds 2 --min-steps 1 --steps 1",
}
TINY = "max_steps=1 min_steps=0 dev_clips=2 evaluations=1"
SHORTER |= {"speechft tune": f"{TINY} --trials 2 --dev-utterances 2", "speechft train": TINY, "speechft fleet": TINY}
SHORTER |= {"torchrun": TINY, "accelerate launch": TINY}


@pytest.mark.slow
def test_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    """Its commands and its Python, in order, on a simulated voice's recordings."""
    from speechft.corpora.simulated import prepare_simulated

    voice = Manifest.load(prepare_simulated(tmp_path / "voice", n_sentences=60, severity=1.2))
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for utterance in voice:
        shutil.copy(utterance.audio, recordings)
        (recordings / f"{utterance.audio.stem}.txt").write_text(utterance.text)
    as_m4a(voice[0].load(), tmp_path / "new.m4a")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ran = 0
    for block in (b for b in BLOCKS if b.page.name == "README.md" and b.page.parent == ROOT):
        lines = [["-c", block.text]] if block.language == "python" else []
        if block.language == "sh":
            words = [shlex.split(line) for line in block.text.splitlines()]
            lines = [["-m", "speechft.cli", *rest] for name, *rest in words if name.endswith("speechft")]
        for line in lines:
            expanded = [word.replace("~", str(tmp_path)) for word in line]
            done = subprocess.run(
                [sys.executable, *expanded], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{block}: {line}\n{done.stderr}"
            ran += 1
    assert ran >= 5


def left_out(line: str) -> bool:
    return line.startswith(tuple(NOT_RUN))


RUN = [page for page in PAGES if page != ROOT / "README.md" and not all(map(left_out, shell_lines(page)))]


def test_every_line_that_is_not_run_is_there() -> None:
    lines = [line for page in PAGES for line in shell_lines(page)]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)] == []


# Scripts that no page types, and that no part of `make reliability` runs.
SCRIPTS = {
    "attention": "--heads 1 --rounds 1",
    "augmentation": "corpus/manifest.jsonl --clips 1",
    "bank": "corpus/manifest.jsonl --voices 2 --limit 2 --rounds 1",
    "context": "corpus/manifest.jsonl --limit 1",
    "coverage": "--corpora 2",
    "fleet": "--speakers 3 --sentences 12 --out runs/benchmark/fleet max_steps=8 min_steps=0 evaluations=1",
    "fuzz": "--requests 40 --slices 2 --out runs/benchmark",
    "scaling": "corpus/manifest.jsonl --sizes 10 --steps 2",
    "server": "corpus/manifest.jsonl --voices voices --clients 2 --seconds 2 --clips 2 --out runs/benchmark",
    "small_voice": "--clips 4 --rates 5e-4 --out runs/benchmark --set max_steps=1 min_steps=0",
    "text": f"sft {TEXT} --out runs/benchmark",
}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("office")
    furnish(folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a busy machine is ten times slower than a quiet one
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_shell_lines_run_as_they_stand(page: Path, office: Path) -> None:
    with serving("me/my-voice") as hub:
        type_lines(page, office, {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0"})


def type_lines(page: Path, office: Path, hub: dict[str, str]) -> None:
    """Fails unless each command ends well; `hub` is where they find one that is on this machine."""
    path = f"{office / 'bin'}{os.pathsep}{os.environ['PATH']}"
    found = f"{ROOT}{os.pathsep}{office / 'deepspeed'}"
    environment = os.environ | {"HOME": str(office), "PYTHONPATH": found, "PATH": path}
    environment |= {"SPEECHFT_PASSPHRASE": "correct horse battery", **hub}
    environment.pop("HF_TOKEN", None)  # the page says how to log in
    typed_here = [line for line in shell_lines(page) if not left_out(line)]
    for line in (made for typed in typed_here for made in made_of(typed)):
        for named in re.findall(r"(?<= )runs/\S*adapter\b", line):  # of another page, or a short training kept none
            if not (office / named).exists():
                kind = "text adapter" if "/text/" in named else "adapter"
                shutil.copytree(office / kind, office / named)
        if line.startswith(SERVES):
            served(line.replace("/srv/", f"{office}/srv/"), office, environment)
            continue
        plain = line.partition(" #")[0].removeprefix(".venv/bin/")
        more = next((more for start, more in SHORTER.items() if plain.startswith(start)), "")
        for make in (make for start, make in TOOLS.items() if plain.startswith(start)):
            make(office)
        command = ["sh", "-c", f"{plain} {more}"]
        done = subprocess.run(
            command, cwd=office, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_run(script: str, office: Path) -> None:
    for voice in ("anna", "ben"):
        shutil.copytree(office / "adapter", office / "voices" / voice / "adapter", dirs_exist_ok=True)
    command = [sys.executable, f"benchmarks/{script}.py", *SCRIPTS[script].split()]
    environment = os.environ | {"HOME": str(office), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=office, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def made_of(line: str) -> list[str]:
    """A line as it is typed; of `make bench` the lines that it runs, for the environment is there."""
    if not line.startswith("make bench"):
        return [line]
    told = subprocess.run(
        [*shlex.split(line), "-n", "VENV=.venv"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return re.findall(r"^\.venv/bin/python benchmarks/.*", told.stdout, re.M)


def served(line: str, folder: Path, environment: dict[str, str]) -> None:
    """Fails unless a command listens, answers there, and ends when it is interrupted."""
    process = subprocess.Popen(
        ["sh", "-c", f"exec env {line}"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        said = iter(process.stderr.readline, "")
        found = next((match[1] for text in said if (match := re.search(r"http://[^/;]*:(\d+)", text))), None)
        assert found, f"{line}: ended with {process.wait()}"
        with socket.create_connection(("127.0.0.1", int(found)), timeout=10):
            pass
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(timeout=60) in (0, 130)
    finally:
        process.kill()


def as_m4a(samples: np.ndarray, path: Path) -> None:
    """Mono 16 kHz samples as a phone would record them."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # gigabytes of packages, and a training
def test_an_environment_is_made(tmp_path: Path) -> None:
    """The lines that make one, in a copy of what git would give, with the packages of an index."""
    lines = [line for page in PAGES for line in shell_lines(page)]
    made = [line for line in dict.fromkeys(lines) if line.startswith(("make quickstart", "make lint", "pip install"))]
    install(Path(sys.executable), "--dry-run", "--no-deps", "--ignore-installed", "jiwer")  # is there an index?
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    path = f"{tmp_path / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PATH": path, "PYTHON": sys.executable}
    for line in sorted(made, key=lambda line: not line.startswith("make quickstart")):
        plain = line.partition(" #")[0]
        done = subprocess.run(["sh", "-c", plain], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert (tmp_path / "quickstart/report.html").is_file()
