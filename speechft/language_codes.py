"""Codes that others have for the languages that Whisper knows: of three letters, as in TalkBank and ELAN, and newer."""

from __future__ import annotations

# Whisper's code of each. Chinese is Mandarin unless it says otherwise; written Norwegian is Bokmål.
WHISPER_CODES = {
    "nb": "no", "fil": "tl", "jv": "jw",  # as FLEURS has them; below ISO 639-3, and 639-2 where that differs
    "afr": "af", "amh": "am", "ara": "ar", "arb": "ar", "asm": "as", "aze": "az", "azj": "az", "bak": "ba", "bel": "be",
    "bul": "bg", "ben": "bn", "bod": "bo", "tib": "bo", "bre": "br", "bos": "bs", "cat": "ca", "ces": "cs", "cze": "cs",
    "cym": "cy", "wel": "cy", "dan": "da", "deu": "de", "ger": "de", "ell": "el", "gre": "el", "eng": "en", "spa": "es",
    "est": "et", "ekk": "et", "eus": "eu", "baq": "eu", "fas": "fa", "per": "fa", "pes": "fa", "fin": "fi", "fao": "fo",
    "fra": "fr", "fre": "fr", "glg": "gl", "guj": "gu", "hau": "ha", "heb": "he", "hin": "hi", "hrv": "hr", "hat": "ht",
    "hun": "hu", "hye": "hy", "arm": "hy", "ind": "id", "isl": "is", "ice": "is", "ita": "it", "jpn": "ja", "jav": "jw",
    "kat": "ka", "geo": "ka", "kaz": "kk", "khm": "km", "kan": "kn", "kor": "ko", "lat": "la", "ltz": "lb", "lin": "ln",
    "lit": "lt", "lav": "lv", "lvs": "lv", "mlg": "mg", "plt": "mg", "mri": "mi", "mao": "mi", "mkd": "mk",
    "mac": "mk", "mal": "ml", "mon": "mn", "khk": "mn", "mar": "mr", "msa": "ms", "may": "ms", "zsm": "ms", "mlt": "mt",
    "mya": "my", "bur": "my", "nep": "ne", "npi": "ne", "nld": "nl", "dut": "nl", "nno": "nn", "nor": "no", "nob": "no",
    "oci": "oc", "pan": "pa", "pol": "pl", "pus": "ps", "pbt": "ps", "por": "pt", "ron": "ro", "rum": "ro", "rus": "ru",
    "san": "sa", "snd": "sd", "sin": "si", "slk": "sk", "slo": "sk", "slv": "sl", "sna": "sn", "som": "so", "sqi": "sq",
    "alb": "sq", "als": "sq", "srp": "sr", "sun": "su", "swe": "sv", "swa": "sw", "swh": "sw", "tam": "ta", "tel": "te",
    "tgk": "tg", "tha": "th", "tuk": "tk", "tgl": "tl", "tur": "tr", "tat": "tt", "ukr": "uk", "urd": "ur", "uzb": "uz",
    "uzn": "uz", "vie": "vi", "yid": "yi", "ydd": "yi", "yor": "yo", "zho": "zh", "chi": "zh", "cmn": "zh",
}  # fmt: skip
