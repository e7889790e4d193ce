"""Sharing an adapter on a hub: the folder that is uploaded, with a model card, private unless told otherwise."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from speechft import adapters, complaints
from speechft.errors import SpeechftError
from speechft.files import refuse_existing, replace_folder, write_json, write_text
from speechft.locks import new_place
from speechft.marks import Mark, marked, places
from speechft.model_card import model_card
from speechft.recipes import RECIPES
from speechft.result_schema import EvaluationResult, TextResult, TrainingResult
from speechft.sources import hub_id

KEPT = ("*.safetensors", "*.json", "*.txt", "*.jinja")  # no checkpoints, no texts, no sound
SAID_OF_SPLIT = ("protocol", "sha256")


def push(
    adapter: str | Path,
    repo: str,
    *,
    public: bool = False,
    licence: str | None = None,
    base: str | None = None,
    result: str | Path | None = None,
    dry_run: str | Path | None = None,
) -> str:
    """Upload an adapter, or a fully fine-tuned model, to the Hugging Face Hub; the token is the one of `hf auth login`.

    Args:
        adapter: its folder, such as OUT/adapter.
        repo: `user/name`; made where there is none.
        public: let everybody see it; it needs a licence.
        licence: an identifier such as `cc-by-nc-4.0`, or words; the one the adapter was trained with unless given.
        base: what the hub calls the base model, where that is a folder of one's own.
        result: a result.json with its scores; the one of its run unless given.
        dry_run: write what would be uploaded to this new folder instead.

    Returns:
        the address of the repository, or the folder.

    Raises:
        SpeechftError: no adapter, a base model that nobody else has, public without a licence, a result that is none
            or another adapter's, or the hub refuses.
    """
    adapter = Path(adapter)
    if repo.count("/") != 1:
        raise SpeechftError(f"'{repo}' is not the name of a repository", fix="Write it as USER/NAME.")
    if dry_run:
        out = Path(dry_run)
        refuse_existing(out)
        out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".push-", dir=Path(dry_run).parent if dry_run else None) as work:
        folder = Path(work) / "repository"
        stated = write_repository(adapter, folder, repo, licence, base, result)
        if public and stated is None:
            raise SpeechftError(
                "has no licence, so nobody may use it",
                where=adapter,
                fix="Ask the people whose recordings are in it, then give --licence.",
            )
        if dry_run:
            with new_place(out):
                replace_folder(folder, out)
            return str(out)
        return _upload(folder, repo, public)


def write_repository(
    adapter: Path, out: Path, repo: str, licence: str | None, base: str | None, result: str | Path | None
) -> str | None:
    """Write what is uploaded: weights, configuration, our card without anything private, and README.md.

    Returns:
        the licence that was stated, if any.
    """
    config = None if adapters.is_whole_model(adapter) else adapters.read_config(adapter)
    card = adapters.own_card(adapter)
    model = card.get("model") or (config or {}).get("base_model_name_or_path") or ""
    base = base or hub_id(model)
    if base is None:
        raise SpeechftError(
            f"was trained on the folder '{Path(model).name}', which nobody else has",
            where=adapter,
            fix="Name that model as the hub does: --base openai/whisper-small.",
        )
    out.mkdir(parents=True)
    for pattern in KEPT:
        for path in adapter.glob(pattern):
            shutil.copy(path, out)
    if not any(out.glob("*.safetensors")):
        raise SpeechftError("has no safetensors", where=adapter, fix="Pickled weights are not passed on.")
    if licence is None and card.get("licence") not in (adapters.VOICE_LICENCE, "not stated"):
        licence = card.get("licence")
    if config is not None:  # plain peft looks for the base model under this name
        write_json(out / adapters.CONFIG, config | {"base_model_name_or_path": base})
    if card:
        card = _published(card, base, licence)
        write_json(out / adapters.CARD, card)
    scores = _result(adapter, result, card.get("task", "speech") == "speech")
    write_text(out / "README.md", model_card(repo, base, card, config, scores, licence))
    return licence


def _published(card: dict[str, Any], base: str, licence: str | None) -> dict[str, Any]:
    """Our card without what only this machine, or only the people recorded, should know."""
    private = {key for kind in RECIPES.values() for key in (*places(kind), *marked(kind, Mark.PRIVATE))}
    recipe = {key: value for key, value in card.get("recipe", {}).items() if key not in private}
    published = {key: value for key, value in card.items() if key not in ("seen", "sum_of")} | {"recipe": recipe}
    if split := card.get("data", {}).get("split_file"):  # the options of a protocol can name who was tested
        said = {key: split[key] for key in SAID_OF_SPLIT if key in split} if isinstance(split, dict) else None
        published["data"] = card["data"] | {"split_file": said}
    if hub_id(card.get("model") or "") != base:  # the hash is of a folder here, and the hub's model may be another
        published["model"] = base
        published.pop("base_sha256", None)
    return published | {"licence": licence} if licence else published


def _result(adapter: Path, given: str | Path | None, speech: bool) -> dict[str, Any] | None:
    """The scores to show: those given, or of the run that the adapter lies in.

    Raises:
        SpeechftError: those given are no scores, or another adapter's.
    """
    path = Path(given) if given else adapter.parent / "result.json"
    if not path.is_file():
        if given:
            raise SpeechftError("does not exist", where=path, fix="Check the path, or leave --result out.")
        return None
    found = adapters.read_object(path)
    of = found.get("adapter") or found.get("kept")
    if not given and not (isinstance(of, str) and Path(of).name == adapter.name):
        return None
    _check_result(found, path, speech)
    if found.get("adapter_sha256") not in {None, *adapters.hashes_of(adapter)}:
        if given:
            raise SpeechftError("is another adapter's", where=path, fix="Evaluate this one with --out.")
        return None
    return found


def _check_result(found: dict[str, Any], path: Path, speech: bool) -> None:
    """Raises SpeechftError for what a model card could not be written of."""
    spoken = TrainingResult if "adapted" in found else EvaluationResult
    try:
        (spoken if speech else TextResult).model_validate(found)
    except ValidationError as error:
        problem = error.errors()[0]
        what = f"is no result: {complaints.place(problem)} {complaints.sentence(problem)}"
        fix = "Give the result.json of 'speechft train', or of 'speechft evaluate' with --out."
        raise SpeechftError(what, where=path, fix=fix) from None


def _upload(folder: Path, repo: str, public: bool) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        address = api.create_repo(repo, private=not public, exist_ok=True)
        if not public and not api.model_info(repo).private:
            raise SpeechftError("is public", where=repo, fix="Name another repository, or give --public.")
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload an adapter with speechft")
    except HFValidationError as error:
        raise SpeechftError(str(error), where=repo, fix="Write it as USER/NAME.") from None
    except Exception as error:  # of connections: the hub's library has changed its own, and may again
        if not isinstance(error, HfHubHTTPError | OSError | ValueError) and "httpx" not in type(error).__module__:
            raise
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise SpeechftError(
            f"cannot be uploaded to ({reason[:200]})",
            where=repo,
            fix="Log in with 'hf auth login', and check the name and the connection. --dry-run writes the folder.",
        ) from None
    return str(address)
