"""Minimum word error rate: the gradient goes where it should, and an adapter gets better on what it trains on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft import adapters
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.manifest import Manifest
from speechft.min_wer import _Refinement, expected_errors, refine
from speechft.seen import Seen, hashes
from speechft.sources import resolve
from speechft.train import fit
from speechft.transcript import Transcript
from speechft.whisper import core, encode, load_whisper

LISTS = st.lists(st.tuples(st.floats(-20, 0), st.integers(0, 9)), min_size=2, max_size=6)


@settings(deadline=None)
@given(LISTS, st.integers(0, 5))
def test_only_differences_of_errors_count(pairs: list[tuple[float, int]], more: int) -> None:
    logprobs = torch.tensor([p for p, _ in pairs], dtype=torch.float64, requires_grad=True)
    errors = torch.tensor([float(e) for _, e in pairs], dtype=torch.float64)
    one, two = expected_errors(logprobs, errors), expected_errors(logprobs, errors + more)
    assert one.item() == pytest.approx(two.item(), abs=1e-9)
    one.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.sum().item() == pytest.approx(0, abs=1e-9)
    mean = float((logprobs.detach().softmax(0) * errors).sum())
    for gradient, (_, count) in zip(logprobs.grad.tolist(), pairs, strict=True):
        assert gradient <= 1e-12 if count < mean - 1e-6 else gradient >= -1e-12 or abs(count - mean) < 1e-6


@pytest.mark.slow
def test_expected_errors_fall_on_the_clips_it_learns_from(voice: Manifest, tmp_path: Path) -> None:
    recipe = SpeechRecipe(
        manifest=Path("-"), output_dir=tmp_path / "first", min_steps=0, max_steps=1, batch_size=8, augment=None,
        learning_rate=3e-4,
    )  # fmt: skip
    first = fit(recipe, voice[:16], voice[:16])
    assert first.adapter is not None
    assert first.progress.best[0] > 0  # one step more, and nothing is left to learn
    found = refine(first.adapter, voice[:16], voice[:16], tmp_path / "refined", rounds=3, learning_rate=3e-4)
    assert found.adapter is not None
    assert found.progress.base == first.progress.best
    assert found.progress.best < found.progress.base


def test_batches_are_of_clips_whatever_the_adapter_was_trained_with(voice: Manifest, tmp_path: Path) -> None:
    """The risk is divided by their number."""
    first = SpeechRecipe(manifest=Path("-"), output_dir=tmp_path / "run", batch_seconds=1000.0)
    base, folder = load_whisper(first.model), resolve(first.model)
    card = {
        "model": first.model, "base_sha256": adapters.base_hash(folder), "context": "clip",
        "recipe": first.model_dump(mode="json", exclude={"manifest", "output_dir"}),
    }  # fmt: skip
    start = adapters.save(adapters.attach(base.model, rank=2), tmp_path / "start", card, first.model, folder)
    found = refine(start, voice[:2], voice[:1], tmp_path / "refined", rounds=1, batch_size=1)
    assert found.progress.step == 2


def refinement(voice: Manifest, folder: Path, card: dict | None = None, **settings: Any) -> _Refinement:
    """From an adapter that changes the model a little."""
    recipe = SpeechRecipe(
        manifest=Path("-"), output_dir=folder / "run", batch_size=2, augment=None, cache="off", precision="fp32",
        **settings,
    )  # fmt: skip
    base = load_whisper(recipe.model)
    model = adapters.attach(base.model, rank=2)
    torch.manual_seed(0)
    for name, parameter in adapters.trainable(model):
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    start = adapters.save(model, folder / "start", card or {}, recipe.model, resolve(recipe.model))
    return _Refinement(start, 2, 0.7, 0.3, recipe, voice[:2], voice[:2], lambda event: None)


def test_a_refined_adapter_has_seen_what_its_first_one_had(voice: Manifest, tmp_path: Path) -> None:
    run = refinement(voice, tmp_path, {"seen": {"train": hashes(voice[2:3]), "dev": hashes(voice[3:4])}})
    run.progress.base = run.progress.best = (0.5, 0.5)
    seen = Seen.by([run._card()])
    assert seen.train == {*hashes(voice[:3])}
    assert seen.dev == {*hashes(voice[:2]), *hashes(voice[3:4])}


def test_hypotheses_are_scored_as_they_were_written(
    voice: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the language of the clip, and without an end where a loop was cut off; an empty one is an end alone."""
    run = refinement(voice, tmp_path, model="bundled:base")
    spoken = [dataclasses.replace(u, language=code) for u, code in zip(voice[:2], ("de", None), strict=True)]
    run.train, run.base = Manifest(spoken, voice.path), run.base.with_(language=None)
    found = [
        Transcript("ja", end_logprob=-0.1, alternatives=("ja ja ja", "ja"), alternatives_end=(0.0, 0.0)),
        Transcript("", alternatives=("no",), alternatives_end=(-0.2,)),
    ]
    monkeypatch.setattr(
        "speechft.min_wer.evaluate_model", lambda *a, **k: SimpleNamespace(heard=run.train, transcripts=found)
    )
    lists = [[ids for ids, _ in own] for own in run._n_best()]
    ids = run.base.label_ids
    assert lists == [[ids("ja", "de"), ids("ja ja ja", "de")[:-1]], [ids("", "en"), ids("no", "en")]]


def test_a_clip_without_hypotheses_teaches_nothing() -> None:
    """All of them can be too long for the decoder: loops are."""
    assert expected_errors(torch.zeros(0), torch.zeros(0)).item() == 0


def test_the_loss_is_expected_errors_and_cross_entropy(voice: Manifest, tmp_path: Path) -> None:
    """Against the definition, from the model's logits over whole sequences."""
    run = refinement(voice, tmp_path)
    run.whisper.model.eval()
    ids = run.base.label_ids
    run.lists = [[(ids(voice[0].text), 0), (ids("a wrong text"), 3)], []]
    _, batches = next(iter(run.feed.steps(0, 1)))
    (batch,) = batches
    loss = run._share(batch, batch.n_targets).item()

    def logprob(row: int, labels: list[int]) -> float:
        states = encode(run.whisper.model, batch.x[row : row + 1])
        logits = core(run.whisper.model)(
            encoder_outputs=(states,), decoder_input_ids=torch.tensor([labels[:-1]])
        ).logits
        found = logits[0].log_softmax(-1).gather(1, torch.tensor(labels[1:])[:, None])[:, 0]
        return float(found[len(run.base.prompt()) - 1 :].sum())

    with torch.no_grad():
        place = batch.indices.index(0)
        one, two = (logprob(place, labels) for labels, _ in run.lists[0])
        reference = sum(logprob(row, run.labels[index]) for row, index in enumerate(batch.indices))
    risk = expected_errors(torch.tensor([one, two]), torch.tensor([0.0, 3.0])).item() / 2
    assert loss == pytest.approx(0.7 * risk - 0.3 * reference / batch.n_targets, rel=1e-3, abs=1e-4)


def test_an_adapter_made_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(SpeechftError, match="trained by speechft"):
        refine(tmp_path, Manifest([]), Manifest([]), tmp_path / "out")


def test_results_of_somebody_elses_are_not_replaced(voice: Manifest, tmp_path: Path) -> None:
    card = {"recipe": SpeechRecipe(manifest=Path("-"), output_dir=tmp_path).model_dump(mode="json")}
    refinement(voice, tmp_path, card)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.jsonl").write_text("mine")
    with pytest.raises(SpeechftError, match="was not made by speechft"):
        refine(tmp_path / "start", voice[:2], voice[:2], tmp_path / "out")
    assert (tmp_path / "out" / "metrics.jsonl").read_text() == "mine"
