"""What a request for a transcription asks for, by OpenAI's API reference, "Create transcription" (2025)."""

from __future__ import annotations

from starlette.datastructures import FormData

from speechft.errors import SpeechftError
from speechft.normalize import language_code
from speechft.server.voices import Voices

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
FIELDS = {
    "file", "model", "response_format", "stream", "prompt", "temperature", "language", "timestamp_granularities",
    "timestamp_granularities[]", "include", "include[]",
}  # fmt: skip


class BadField(SpeechftError):
    """A field that is missing, unknown or of a wrong value; `param` is its name."""

    def __init__(self, param: str, what: str, fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.param = param


class Wanted:
    """What a request asks for, checked.

    `prompt` and `temperature` are taken, as clients send them unasked, and change nothing: the search is without a
    prompt, and repeated at higher temperatures only where its result is doubtful.

    Attributes:
        voice: None is the base model.
        format: of `FORMATS`.
        stream: answer piece by piece.
        language: forced, if any.
        show_words: words are part of the answer.
        words: when each word was said must be found.
        logprobs: log-probabilities of the tokens are part of the answer.

    Raises:
        BadField: a field is missing, unknown or of a wrong value.
        UnknownVoice: there is no such voice.
    """

    def __init__(self, form: FormData, voices: Voices) -> None:
        def text(name: str, default: str = "") -> str:
            value = form.get(name, default)
            if not isinstance(value, str):
                raise BadField(name, f"'{name}' is a file, not a text", fix="Send it as a plain field.")
            return value.strip()

        def several(name: str, known: tuple[str, ...]) -> list[str]:
            values = [str(value) for value in (*form.getlist(f"{name}[]"), *form.getlist(name))]
            if unknown := [value for value in values if value not in known]:
                raise BadField(name, f"unknown {name} '{unknown[0][:40]}'", fix=f"Use {' or '.join(known)}.")
            return values

        if foreign := sorted(set(form) - FIELDS):
            raise BadField(foreign[0][:40], f"'{foreign[0][:40]}' is not supported", fix="Leave it out.")
        self.voice = voices.named(text("model", voices.base_id))
        self.format = text("response_format", "json")
        if self.format not in FORMATS:
            what = f"unknown response_format '{self.format[:40]}'"
            raise BadField("response_format", what, fix=f"Use one of {', '.join(FORMATS)}.")
        stream = text("stream", "false").lower()
        if stream not in ("true", "1", "false", "0", ""):
            raise BadField("stream", "'stream' is neither true nor false", fix="Send true or false.")
        self.stream = stream in ("true", "1")
        if self.stream and self.format != "json":
            raise BadField("stream", f"{self.format} is not streamed", fix="Leave out stream, or response_format.")
        text("prompt")
        _check_temperature(text("temperature", "0") or "0")
        self.language = text("language") or None
        if self.language:
            check_language(self.language, voices)
        kinds = several("timestamp_granularities", ("word", "segment"))
        if kinds and self.format != "verbose_json":
            what = "timestamp_granularities need response_format verbose_json"
            raise BadField("timestamp_granularities", what, fix="Ask for that format, or leave them out.")
        self.show_words = "word" in kinds
        self.words = self.format in ("srt", "vtt") or (self.format == "verbose_json" and self.show_words)
        self.logprobs = "logprobs" in several("include", ("logprobs",))
        if self.logprobs and self.format != "json":
            what = "logprobs come with response_format json only"
            raise BadField("include", what, fix="Ask for that format; verbose_json has an avg_logprob of each segment.")


def _check_temperature(value: str) -> None:
    try:
        temperature = float(value)
    except ValueError:
        temperature = -1.0
    if not 0 <= temperature <= 1:
        raise BadField("temperature", "'temperature' is not a number from 0 to 1", fix="Send 0, or leave it out.")


def check_language(language: str, voices: Voices) -> None:
    """Refuse a language that the base model does not know, before anything is queued."""
    base = voices.bank.whisper
    if base.is_multilingual:
        try:
            base.language_id(language)
        except SpeechftError as error:
            raise BadField("language", f"'{voices.base_id}' {error.what}", fix=error.fix) from None
    elif language_code(language) != "en":
        what = f"'{voices.base_id}' knows English only, not '{language[:40]}'"
        raise BadField("language", what, fix="Leave language out.")
