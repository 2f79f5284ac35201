"""Spoken words to phonemes in Kokoro's alphabet: IPA, with the capitals of misaki for English
diphthongs."""

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType

TOKENS: dict[str, int] = {
    symbol: number
    for start, symbols in (
        (1, ";:,.!?"), (9, "—…\"()“” \u0303ʣʥʦʨᵝꭧAI"), (31, "O"), (33, "Q"), (35, "ST"), (39, "W"),
        (41, "Yᵊabcdef"), (50, "hijklmnopqrstuvwxyzɑɐɒæ"), (75, "βɔɕç"), (80, "ɖðʤə"),
        (85, "ɚɛɜ"), (90, "ɟ"), (92, "ɡ"), (99, "ɥ"), (101, "ɨɪʝ"), (110, "ɯɰŋɳɲɴø"), (118, "ɸθœ"),
        (123, "ɹ"), (125, "ɾɻ"), (128, "ʁɽʂʃʈʧ"), (135, "ʊʋ"), (138, "ʌɣɤ"), (142, "χʎ"),
        (147, "ʒʔ"), (156, "ˈˌː"), (162, "ʰ"), (164, "ʲ"), (169, "↓"), (171, "→↗↘"), (177, "ᵻ"),
    )
    for number, symbol in enumerate(symbols, start)
}  # fmt: skip
"""Numbers of the symbols that Kokoro-82M v1.0 knows. It drops others without a word."""

TimedPhoneme = tuple[str, float, float]
"""Symbol of `TOKENS`, start and end in seconds."""

_MARKS = str.maketrans(
    {"，": ",", "。": ".", "！": "!", "？": "?", "：": ":", "；": ";", "、": ",", "«": "“",
     "»": "”", "‘": "", "’": "'", "„": "“", "–": "—", "¿": "", "¡": "", "（": "(", "）": ")",
     "·": " "}
)  # fmt: skip
_NASAL_VOWELS = {vowel: unicodedata.normalize("NFD", vowel) for vowel in "ãõẽĩũ"}
_VOWEL = "(?=h?[aeiouyàâæéèêëîïôœùû])"
_RESPELLED = {
    "fr": {
        # Liaison
        r"\bneuf (?=heures\b|ans\b)": "neuve ",
        r"\best " + _VOWEL: "ê t",
        r"\b([ldmtsc])es (?!(?:huit|onze|haricot|haut|héros|hors|hont|has)\w*)" + _VOWEL: r"\1é z",
        # Numbers
        r"(?<!quatre[ -])\bvingt[ -](?=(?:et|deux|trois|quatre|cinq|six|sept|huit|neuf)\b)": (
            "vinte "
        ),
        r"\bvingts?\b": "vin",
        r"\bcinq\b": "cink",
        r"\bsept\b": "sète",
        r"\bdix[ -]sète": "dissète",
        r"\bdix[ -]neuf": "dizneuf",
        r"\bdix[ -]huit\b": "dizuite",
        r"\b([sd])ix\b(?=\s*(?:[.,;:!?]|$))": r"\1isse",
        r"\bhuit\b(?! [bcdfgjklmnpqrstvxz])": "huite",
        # Words
        r"\baoût\b": "oute",
        r"\baujourd'hui\b": "aujourdui",
        r"\bdoigt": "doi",
        r"\best\b": "ê",
        r"\bet\b": "é",
        r"\bfemme": "fame",
        r"\bfils\b": "fisse",
        r"\bhier\b": "ière",
        r"\binternet\b": "internète",
        r"\bJean\b": "Jan",
        r"\bmars\b": "marse",
        r"\bmonsieur\b": "meusieu",
        r"\boù\b": "ou",
        r"\bpays\b": "péi",
        r"\bpeut être\b|\bpeut-être\b": "peutètre",
        r"\bquelqu'un\b": "quelquin",
        r"\btickets?\b": "tiquè",
        r"œu|oeu": "eu",
        r"\b([ldmtsc])es\b": r"\1é",
        # Endings
        r"\b(tab|estom)ac\b": r"\1a",
        r"(?<=an)c\b|(?<=[ao]n)g\b": "",
        r"aît\b": "ait",
        r"ez\b": "é",
        r"(?<=\w)iers\b": "ier",
        r"(?<=u)illets?\b": "iyè",
        r"\b((?:ils|elles) \w{3,}|(?:qui|ne|se) \w{2,}[^\Wm]|"
        r"\w+(?:ai|oi|[aoe]uv|eul|ill|iss|èr|ienn|renn|ett))ent\b"
        r"(?<!\bsouvent)(?<!\bcouvent)": r"\1e",
        r"(?<=\w\w)es\b": "e",
    }
}
"""Spellings that piper-plus-g2p misreads."""
_CLITICS = (
    " lə la le l də dy de d a o e ɛ ɑ̃ ɑ̃n ɔ̃ œ̃ ɛ̃ ɛ̃n yn sə se sa mɔ̃ ma me mə tɔ̃ ta te tə sɔ̃ nə "
    "puʁ paʁ syʁ dɑ̃ avɛk ʒə ty il ilz ɛl nu nuz vu vuz kə ki kɛl si sil u vɔtʁ nɔtʁ lœʁ lɥi "
)
"""French words without stress."""
_ROMANCE = {"y_vowel": "y", "dʒ": "ʤ", "tʃ": "ʧ", **_NASAL_VOWELS}

# Initials and finals as misaki (Apache-2.0), with which the model was trained, writes them; 0 is
# where the tone goes.
_INITIALS = {
    "zh": "ꭧ", "ch": "ꭧʰ", "sh": "ʂ", "b": "p", "c": "ʦʰ", "d": "t", "f": "f", "g": "k", "h": "x",
    "j": "ʨ", "k": "kʰ", "l": "l", "m": "m", "n": "n", "p": "pʰ", "q": "ʨʰ", "r": "ɻ", "s": "s",
    "t": "tʰ", "x": "ɕ", "z": "ʦ",
}  # fmt: skip
_FINALS = {
    "a": "a0", "ai": "ai0", "an": "a0n", "ang": "a0ŋ", "ao": "au0", "e": "ɤ0", "ei": "ei0",
    "en": "ə0n", "eng": "ə0ŋ", "er": "ɚ0", "i": "i0", "ia": "ja0", "ian": "jɛ0n", "iang": "ja0ŋ",
    "iao": "jau0", "ie": "je0", "in": "i0n", "ing": "i0ŋ", "iong": "jʊ0ŋ", "iou": "jou0",
    "o": "wo0", "ong": "ʊ0ŋ", "ou": "ou0", "u": "u0", "ua": "wa0", "uai": "wai0", "uan": "wa0n",
    "uang": "wa0ŋ", "uei": "wei0", "uen": "wə0n", "ueng": "wə0ŋ", "uo": "wo0", "v": "y0",
    "van": "ɥɛ0n", "ve": "ɥe0", "vn": "y0n", "io": "jɔ0", "ê": "ɛ0", "m": "m0", "n": "n0",
    "ng": "ŋ0",
}  # fmt: skip
_TONES = {"1": "→", "2": "↗", "3": "↓", "4": "↘", "5": ""}


def pronounce(text: str, locale: str) -> str:
    """The phonemes of spoken words and their punctuation, symbols of `TOKENS` only.

    `locale` is that of a voice of the catalogue."""
    language = locale.partition("-")[0]
    phonemes = _pronouncer(locale)(text.translate(_MARKS) if language != "zh" else text)
    return "".join(symbol for symbol in phonemes if symbol in TOKENS).strip()


@cache
def _pronouncer(locale: str) -> Callable[[str], str]:
    match locale.partition("-")[0]:
        case "en":
            from hibari.g2p import G2P

            return G2P(british=locale == "en-GB")
        case "zh":
            return _chinese
        case "pt":
            return _portuguese
        case language:
            return _romance(language)


def _romance(language: str) -> Callable[[str], str]:
    module = {"es": "spanish", "fr": "french"}[language]
    phonemizer = getattr(_piper(module), f"{module.capitalize()}Phonemizer")()

    def pronounce_romance(text: str) -> str:
        for written, spoken in _RESPELLED.get(language, {}).items():
            text = re.sub(written, spoken, text, flags=re.IGNORECASE)
        phonemes = _replace("".join(phonemizer.phonemize(text)), _ROMANCE)
        if language == "fr":
            phonemes = _stress_french(phonemes)
        # Of “le” and “que” it leaves the consonant, which nobody would hear.
        return re.sub(r"(?<!\S)([bdfkljmnpstvzʃʒɲʁ])(?=\s)", r"\1ə", phonemes)

    return pronounce_romance


def _stress_french(phonemes: str) -> str:
    """With stress, without which Kokoro slurs words, and with the quality that open and closed
    syllables give to o and œ."""
    phonemes = phonemes.replace("katʁ vɛ̃ ", "katʁvɛ̃ ")
    phonemes = re.sub(r"o(?=ʁ|[bdfɡklmnpstʃʒɲ]+(?!\S))", "ɔ", phonemes)
    phonemes = re.sub(r"œ(?=[bdfɡklmnpstvzʃʒʁ]l?[aeiouyøɛɔɑəwɥj])", "ø", phonemes)
    return re.sub(
        r"[^\s,.;:!?—…\"()“”]+",
        lambda word: (
            word[0]
            if f" {word[0]} " in _CLITICS
            else re.sub(r"(?=[aeiouyøœɛɔɑ][^aeiouyøœɛɔɑ]*$)", "ˈ", word[0], count=1)
        ),
        phonemes,
    )


def _piper(module: str) -> ModuleType:
    """A language of piper-plus-g2p. Its registry would import, and complain about, languages that
    are not installed."""
    return import_module(f"piper_plus_g2p.{module}")


def _portuguese(text: str) -> str:
    return re.sub(r"[^\W\d_]+", lambda word: _portuguese_word(word[0]), text.replace("-", " "))


def _portuguese_word(word: str) -> str:
    """With stress, without which Kokoro swallows sounds, and with the taps of Brazil."""
    read = _piper("portuguese").phonemize_portuguese_with_prosody
    ipa = "".join(
        ("ˈ" if prosody and prosody.a2 and prosody.a3 > 2 else "") + symbol
        for symbol, prosody in zip(*read(word), strict=True)
    )
    ipa = _replace(ipa, _ROMANCE)
    if not re.search("[íú]", word.lower()):  # a diphthong, whose first vowel has the stress
        ipa = re.sub(r"([aeioɛɔ])ˈ([iu])(?![aeiouɛɔ])", r"ˈ\1\2", ipa)
    return re.sub(r"(?<=[pbtdkɡfv])ʁ|ʁ(?![aeiouɛɔˈ])", "ɾ", ipa)


def _chinese(text: str) -> str:
    from pypinyin.seg.mmseg import seg

    parts = []
    for word in seg.cut(text):
        if re.match(r"[A-Za-z]", word):
            parts.append(f" {_pronouncer('en-US')(word)} ")
        elif word[0].isalpha():
            parts.append(_chinese_word(word) + " ")
        else:
            parts.append(word.translate(_MARKS))
    return re.sub(r" +", " ", re.sub(r" +([,.;:!?])", r"\1", "".join(parts)))


def _chinese_word(word: str) -> str:
    from pypinyin import Style, lazy_pinyin

    def read(style: Style) -> list[str]:
        return lazy_pinyin(
            word, style=style, strict=True, neutral_tone_with_five=True, tone_sandhi=True,
            errors="ignore",
        )  # fmt: skip

    out = ""
    for initial, final in zip(read(Style.INITIALS), read(Style.FINALS_TONE3), strict=True):
        vowels, tone = final.rstrip("12345"), final[-1:]
        apical = vowels == "i" and initial in ("zh", "ch", "sh", "r", "z", "c", "s")
        ipa = "ɨ0" if apical else _FINALS.get(vowels, "")
        out += _INITIALS.get(initial, "") + ipa.replace("0", _TONES.get(tone, ""))
    return out


def _replace(text: str, table: dict[str, str]) -> str:
    longest_first = sorted(table, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: table[found[0]], text)
