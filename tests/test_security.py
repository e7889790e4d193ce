"""What the threat model (docs/security.md) promises of our own code: no eval, no pickle, no shell, no network."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from speechft.manifest import Manifest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "speechft").rglob("*.py"))
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "yaml.load",
                   "yaml.unsafe_load", "yaml.full_load", "numpy.load", "np.load"}  # fmt: skip
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "telnetlib", "ftplib"}
NETWORK_MODULES = {"socket", "urllib.request", "requests", "httpx", "aiohttp", "http.client"}
# Where the user names a machine to be asked: a judge or a hub.
MAY_ASK = {"speechft/text/judge.py"}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def findings(source: str, may_ask: bool = False) -> list[str]:
    """What a module does that it may not."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in FORBIDDEN_CALLS:
                found.append(f"{node.lineno}: {name}()")
            options = {k.arg: k.value for k in node.keywords}
            for option in ("shell", "trust_remote_code", "allow_pickle"):
                value = options.get(option)
                if value is not None and not (isinstance(value, ast.Constant) and value.value is False):
                    found.append(f"{node.lineno}: {option}=")
            loads = isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained"
            if loads and not name.startswith("Peft") and "trust_remote_code" not in options:  # it would ask on stdin
                found.append(f"{node.lineno}: {name}() without trust_remote_code=False")
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.partition(".")[0] in FORBIDDEN_MODULES or (name in NETWORK_MODULES and not may_ask):
                found.append(f"{node.lineno}: import {name}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_our_code_evaluates_unpickles_and_shells_nothing(path: Path) -> None:
    assert findings(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix() in MAY_ASK) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "import pickle",
        "from pickle import loads",
        "subprocess.run('ls', shell=True)",
        "torch.load('a.pt')",
        "AutoModel.from_pretrained(name, trust_remote_code=trust)",
        "AutoModel.from_pretrained(name)",
        "kinds[0].from_pretrained(name, **settings)",
        "import urllib.request",
        "os.system('ls')",
    ],
)
def test_each_of_these_is_found(source: str) -> None:
    assert findings(source)
    assert not findings("subprocess.run(['ls'], shell=False); model.eval()")
    assert not findings("AutoModel.from_pretrained(name, trust_remote_code=False)")


OF_ITS_OWN = """
import sys
from speechft.errors import SpeechftError
from speechft.text.metrics import bert_score
from speechft.text.model import load_text_model
from speechft.text.reward import load_reward_model
from speechft.whisper import load_whisper

def scored(folder):
    bert_score(["a"], [["a"]], folder)

for folder in sys.argv[1:]:
    for load in (load_whisper, load_text_model, load_reward_model, scored):
        try:
            load(folder)
        except (SpeechftError, ValueError) as error:
            print(load.__name__, error)
"""


def test_code_of_a_models_own_is_not_run_whatever_is_answered(tmp_path: Path) -> None:
    """transformers asks on stdin whether to run it, unless it is told."""
    configs: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "configuration": ({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}, {}),
        "tokenizer": ({"model_type": "llama"}, {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}),
        "model": ({"model_type": "bert", "auto_map": {"AutoModelForCausalLM": "evil.Evil"}}, {}),
    }
    for name, (config, tokenizer) in configs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        named = {"tokenizer_class": "Evil"} | tokenizer
        (tmp_path / name / "tokenizer_config.json").write_text(json.dumps(named))
        (tmp_path / name / "evil.py").write_text(f"open({str(tmp_path / 'was here')!r}, 'w')\nclass Evil: pass\n")
        save_file({"a": torch.zeros(1)}, tmp_path / name / "model.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", OF_ITS_OWN, *(str(tmp_path / name) for name in configs)],
        input="y\n" * 40, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "was here").exists()
    assert "[y/N]" not in done.stdout + done.stderr
    refused = [line for line in done.stdout.splitlines() if "needs code that comes with it, which is not run" in line]
    of_text = ["load_text_model", "load_reward_model", "scored"]
    assert [line.split()[0] for line in refused] == [
        "load_whisper",
        *of_text,
        "load_text_model",
        "scored",
        "load_reward_model",
    ]


# Runs before all else in every Python process of a run: writes down whom it asks for, by name or number, and stops it.
WATCHER = """
import errno, os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    if host not in (None, "", "localhost", b"localhost", "127.0.0.1", "::1"):
        with open(os.environ["ASKED_FOR"], "a") as file:
            print(event, host, file=file)
        raise OSError(errno.ENETUNREACH, "there is no network in this test")

sys.addaudithook(watch)
"""
# Inside a network name space of its own there is only the loopback interface, and that is down at first.
LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 1))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def has_namespaces() -> bool:
    try:
        return subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def offline(tmp_path: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run Python with no network but this machine's own; where the system cannot do that, only Python's own sockets."""
    (tmp_path / "watched").mkdir(exist_ok=True)
    (tmp_path / "watched" / "sitecustomize.py").write_text(WATCHER)
    prefix = ["unshare", "-rn", sys.executable, "-c", LOOPBACK_UP] if has_namespaces() else [sys.executable]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    environment |= {"ASKED_FOR": str(tmp_path / "asked"), "PYTHONPATH": f"{tmp_path / 'watched'}:{ROOT}"}
    done = subprocess.run([*prefix, *map(str, words)], capture_output=True, text=True, env=environment, timeout=3000)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "asked").exists(), (tmp_path / "asked").read_text()
    return done


def skip_without_namespaces() -> None:
    """What is not Python could have asked somebody: a run that was only watched is not counted as passed."""
    if not has_namespaces():
        pytest.skip("nothing was asked for, but only Python's sockets were blocked: 'unshare -rn' fails here")


ASKS = """
import socket
asked = 0
for ask in (
    lambda: socket.create_connection(("192.0.2.1", 9), timeout=0.1),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.2", 9)),
    lambda: socket.gethostbyname("example.invalid"),
):
    try:
        ask()
    except OSError as error:
        asked += "no network in this test" in str(error)
assert asked == 3, "not all were stopped"
"""


def test_the_watcher_sees_and_stops_who_is_asked(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)192\.0\.2\.1.*192\.0\.2\.2.*example\.invalid"):
        offline(tmp_path, "-c", ASKS)


SERVER = """
import json, subprocess, sys, time, httpx
voices, audio = sys.argv[1:]
server = subprocess.Popen([sys.executable, "-m", "speechft.cli", "serve", voices, "--port", "8765"])
url = "http://127.0.0.1:8765"
try:
    for _ in range(600):
        try:
            httpx.get(url + "/health")
            break
        except httpx.HTTPError:
            assert server.poll() is None
            time.sleep(0.2)
    with open(audio, "rb") as file:
        form = {"data": {"model": "tiny.en"}, "files": {"file": file}}
        reply = httpx.post(url + "/v1/audio/transcriptions", **form, timeout=120)
    print(json.dumps(reply.json()))
finally:
    server.terminate()
    server.wait()
"""


def test_training_evaluation_and_server_need_no_network(voice: Manifest, tmp_path: Path) -> None:
    out, cli = tmp_path / "run", ("-m", "speechft.cli")
    offline(tmp_path, *cli, "train", f"manifest={voice.path}", f"output_dir={out}", "max_steps=1", "min_steps=0",
            "dev_clips=1", "batch_size=2", "test=false")  # fmt: skip
    done = offline(tmp_path, *cli, "evaluate", "--manifest", voice.path, "--json")
    assert json.loads(done.stdout)["n_utterances"] == len(voice.split("test"))
    said = offline(tmp_path, "-c", SERVER, tmp_path, voice[0].audio)
    assert "text" in json.loads(said.stdout)
    skip_without_namespaces()


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a busy machine is ten times slower than a quiet one
def test_the_quickstart_needs_no_network(tmp_path: Path) -> None:
    offline(tmp_path, "-m", "speechft.cli", "quickstart", "--out", tmp_path / "quickstart")
    assert json.loads((tmp_path / "quickstart" / "result.json").read_text())["adapted"]
    skip_without_namespaces()
