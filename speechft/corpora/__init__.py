"""One file per corpus, one `prepare_*` function each, all to a manifest and a list of what was left out."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from speechft.errors import SpeechftError

if TYPE_CHECKING:
    from speechft.corpora.prepared import Prepared

# What the user has in hand, whatever its origin; then the corpora by name: NAME.py with its prepare_NAME(source, out).
GENERAL = ("folder", "csv", "hub", "simulated")
NAMED: tuple[str, ...] = (
    "cdsd", "commonvoice", "easycall", "kaldi", "l2arctic", "librispeech", "nemours", "sap", "sep28k",
    "speechocean762", "ssnce", "talkbank", "torgo", "uaspeech",
)  # fmt: skip
CORPORA = (*GENERAL, *NAMED)


def prepare(
    corpus: str,
    source: str | Path,
    out: str | Path,
    *,
    split: str | None = None,
    copy: bool = True,
    allow_outside: bool = False,
) -> Prepared:
    """Prepare a corpus by name, as the command line does.

    Args:
        corpus: one of `CORPORA`; `simulated` needs no source.
        source: a folder, a table, or the name of a dataset.
        out: folder for manifest.jsonl.
        split: of a hub dataset; None takes all.
        copy: copy recordings beside the manifest.
        allow_outside: take recordings from outside the source folder, where absolute paths in a table or links lead.

    Raises:
        AnotherRun: another run is writing into the manifest's folder.
        SpeechftError: see the function of the corpus.
    """
    from speechft.corpora.prepared import manifest_path

    written = (Path(out).resolve(), manifest_path(out).resolve())
    if Path(source).is_file() and Path(source).resolve() in written:
        raise SpeechftError("is the table that is read", where=out, fix="Name a folder for the manifest.")
    if split and corpus != "hub":
        fix = "Prepare all of it; 'speechft train' and 'evaluate' take the splits that they need."
        raise SpeechftError(f"a split is chosen of hub datasets only, not of '{corpus}'", fix=fix)
    from speechft.locks import DATA, locked

    with locked(manifest_path(out).parent, DATA, keep=False):  # other manifests there share its recordings
        return _prepare(corpus, source, out, split, copy, allow_outside)


def _prepare(
    corpus: str, source: str | Path, out: str | Path, split: str | None, copy: bool, allow_outside: bool
) -> Prepared:
    """What `prepare` does in the folder that it holds; arguments as there."""
    from speechft.corpora import folder, hub

    if corpus == "folder":
        return folder.prepare_folder(source, out, copy=copy, allow_outside=allow_outside)
    if corpus == "csv":
        return folder.prepare_csv(source, out, copy=copy, allow_outside=allow_outside)
    if corpus == "hub":
        return hub.prepare_hub(str(source), out, split=split, allow_outside=allow_outside)
    if corpus == "simulated":
        from speechft.corpora.prepared import Prepared
        from speechft.corpora.simulated import prepare_simulated
        from speechft.manifest import Manifest

        return Prepared(Manifest.load(prepare_simulated(Path(out))), ())
    if corpus in NAMED:
        module = import_module(f"speechft.corpora.{corpus}")
        return getattr(module, f"prepare_{corpus}")(source, out, copy=copy, allow_outside=allow_outside)
    raise SpeechftError(f"unknown corpus '{corpus}'", fix=f"Use one of {', '.join(CORPORA)}.")
