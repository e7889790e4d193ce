"""The language a multilingual model is trained and evaluated in where the recipe names none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from speechft.audio import HOP_LENGTH, MAX_FRAMES, log_mel
from speechft.batching import IGNORED, token_tensors
from speechft.decode import encode_each, language_logits, precision
from speechft.decoder import inference_copy
from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.manifest import Manifest, Utterance
from speechft.normalize import language_code
from speechft.row_problems import in_other_letters
from speechft.whisper import Whisper, core, decoder_states, padding_mask

LISTENED_TO = 16  # clips
CANDIDATES = 4  # languages that the sound suggests, beside English


def in_known_languages(whisper: Whisper, train: Manifest, leave_out: Callable[[Utterance, str], None]) -> Manifest:
    """The rows whose language the model knows; `leave_out` is called with every other one and the reason."""

    def known(utterance: Utterance) -> bool:
        try:
            whisper.language_of(utterance.language)
        except SpeechftError as error:
            leave_out(utterance, f"the model {error.what}")
            return False
        return True

    return train.filter(known)


def in_one_language(whisper: Whisper, train: Manifest, on_event: OnEvent = lambda event: None) -> Whisper:
    """The model told the language that it is to be taught under, and so to decode under.

    That is its own, else the one that rows name. Where none names any, it is the one in which their texts are the most
    probable for their sound; an event says so. Rows of several languages leave it to be guessed clip by clip. An
    event also tells of texts in other letters that a model of English is to be taught.
    """
    if not whisper.is_multilingual:
        if count := sum(in_other_letters(utterance.text) for utterance in train):
            why = f"all that this model knows, although {count} of {len(train)} texts are mostly in other letters"
            on_event({"event": "language", "language": "en", "why": f"{why}: use a multilingual one"})
        return whisper
    if whisper.language:
        return whisper
    rows = in_known_languages(whisper, train, lambda *_: None)
    named = {language_code(utterance.language) for utterance in rows if utterance.language}
    if len(named) > 1:
        return whisper
    if not named:
        if not (found := most_probable(whisper, rows)):
            return whisper
        named = {found}
        advice = "because no row names one; set language= if that is wrong"
        on_event({"event": "language", "language": found, "why": advice})
    return whisper.with_(language=named.pop())


@torch.inference_mode()
def most_probable(whisper: Whisper, train: Manifest) -> str | None:
    """The language that makes the texts of some clips the most probable with their sound; None if none can be heard.

    That is P(language | sound) P(text | sound, language), over all these clips: by its sound alone atypical speech is
    often taken for another language.
    """
    frames: dict[int, torch.Tensor] = {}
    texts: list[str] = []
    for utterance in train.spread(LISTENED_TO):
        try:
            samples = utterance.load()[: MAX_FRAMES * HOP_LENGTH]
        except SpeechftError:  # it is left out by name later
            continue
        frames[len(texts)] = log_mel(samples, whisper.n_mels)
        texts.append(utterance.text)
    if not frames:
        return None
    model = inference_copy(whisper)
    with precision(model):
        states, positions = encode_each(model, frames, [whisper.context] * len(frames))
        codes, logits = language_logits(model, states, positions)
        heard = logits.float().log_softmax(-1)
        likely = heard.exp().mean(0).topk(min(CANDIDATES, len(codes))).indices.tolist()
        mask = padding_mask(positions, states.shape[1])

        def surprise(code: str) -> float:
            labels = [model.label_ids(text, code)[: model.max_tokens] for text in texts]
            inputs, targets = token_tensors(labels, len(model.prompt(code)))
            hidden = decoder_states(model.model, inputs.to(states.device), states, mask)
            found = core(model.model).proj_out(hidden).float().flatten(0, 1)
            wanted = targets.to(states.device).flatten()
            said = cross_entropy(found, wanted, ignore_index=IGNORED, reduction="sum")
            return float(said - heard[:, codes.index(code)].sum())

        return min(sorted({"en", *(codes[i] for i in likely)}), key=surprise)
