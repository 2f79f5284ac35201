"""Written text to spoken words: numbers, dates, currencies and abbreviations by spokenform, Chinese
ones by cn2an; sentences and pauses; characters that a voice cannot read."""

import re
import unicodedata
from dataclasses import dataclass

from kolbo_demo.engine.voices.catalog import Voice
from kolbo_demo.engine.voices.language import script

SENTENCE_PAUSE, PARAGRAPH_PAUSE = 0.35, 0.7
"""Seconds of silence."""
MAX_SENTENCE = 400
"""Characters; a longer sentence is divided."""

_LOCALES = {"pt": "pt_BR"}
_AND = {"en": "and", "es": "y", "fr": "et", "de": "und", "pt": "e", "zh": "和"}
_MARKUP = re.compile(r"[<>\\`\[\]{}|^~_*#=]")
_LONG_WORD = re.compile(r"(\S{40})(?=\S)")  # speech engines take minutes for such a word
_SENTENCES = re.compile(r"(?<=[.!?…])[\"”’»)]*\s+|(?<=[。！？])[”’」』]*")
_MOST = f"{{0,{MAX_SENTENCE - 1}}}"
_END = (
    r"(?:(?<=[^\W\d]{2}[.!?…])(?<!\b[A-Z]\w\.)(?<!\b[A-Z]\w\w\.)(?<!\bProf\.)(?=\s)|(?<=[。！？]))"
)
_PASSAGES = re.compile(rf"\S.{_MOST}$|\S.{_MOST}{_END}|\S.{_MOST}(?=\s)|\S+")
"""As many sentences as fit into MAX_SENTENCE characters: the time that spokenform takes grows with
the cube of the length. It has to see "5. Mai" and "Dr. Fox" whole."""
_ENDLESS_WORD = re.compile(rf"([^\s\u3000-\u9fff]{{{MAX_SENTENCE // 2}}})(?=\S)")
"""It would be a passage of its own, of any length."""
_GERMAN_HUNDREDS = re.compile(
    r"(?<![\w.,:/-])(?<!\d )(1[1-9])(\d\d)(?![\w:/-]|[.,]\d| \d| ?[€$£%°])"
)
"""Years, and other numbers that are written without a separator."""
_CLAUSES = re.compile(r"(?<=[,;:，；：、—])\s*")


@dataclass(frozen=True)
class Sentence:
    """Words to speak at once, and the silence after them."""

    text: str
    pause: float
    """Seconds."""


def plain(text: str) -> str:
    """NFC without control characters, emoji and markup. Speech engines obey some markup."""
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    kept = "".join(c if c == "\n" or not _is_silent(c) else " " for c in text)
    lines = (" ".join(line.split()) for line in _MARKUP.sub(" ", kept).split("\n"))
    return "\n".join(line for line in lines if line)


def unreadable(text: str, voice: Voice) -> list[str]:
    """The characters of a text that the voice cannot read, each once, in order."""
    scripts = {"LATIN", "CJK"} if voice.language == "zh" else {"LATIN"}
    letters = (c for c in plain(text) if (found := script(c)) and found not in scripts)
    return [*dict.fromkeys(letters)]


def spoken_sentences(text: str, language: str) -> list[Sentence]:
    """A text as people write it as sentences to speak, without digits."""
    sentences: list[Sentence] = []
    for paragraph in plain(text).split("\n"):
        passages = _PASSAGES.findall(_ENDLESS_WORD.sub(r"\1 ", paragraph))
        pieces = [
            piece
            for passage in passages
            for sentence in _SENTENCES.split(_verbalise(passage, language))
            for piece in _divide(sentence.strip())
        ]
        spoken = [piece for piece in pieces if any(c.isalnum() for c in piece)]
        sentences += [Sentence(piece, SENTENCE_PAUSE) for piece in spoken[:-1]]
        sentences += [Sentence(piece, PARAGRAPH_PAUSE) for piece in spoken[-1:]]
    return sentences


def _verbalise(text: str, language: str) -> str:
    text = text.replace("&", f" {_AND[language]} ")
    if language == "zh":
        return _verbalise_chinese(text)
    from spokenform import prepare

    locale = _LOCALES.get(language, language)
    if language == "de":
        text = _GERMAN_HUNDREDS.sub(_german_hundreds, text)
    spoken = prepare(text, language=locale, normalize_literals=True).spoken_text
    if re.search(r"[0-9]", spoken):
        spoken = prepare(_separate_digits(spoken), language=locale).spoken_text
    return " ".join(_LONG_WORD.sub(r"\1 ", re.sub(r"[0-9]", " ", _MARKUP.sub(" ", spoken))).split())


def _german_hundreds(number: re.Match[str]) -> str:
    """1998 as neunzehnhundertachtundneunzig."""
    from spokenform import prepare

    hundreds, rest = (
        prepare(digits.lstrip("0"), language="de").spoken_text if digits != "00" else ""
        for digits in number.groups()
    )
    return f"{hundreds}hundert{rest}"


def _verbalise_chinese(text: str) -> str:
    import cn2an

    text = re.sub(r"(\d{1,2}):(\d\d)(?!\d)", r"\1点\2分", text.translate(_FULL_WIDTH))
    text = text.replace("°C", "摄氏度").replace("℃", "摄氏度").replace("¥", "人民币")
    text = re.sub(r"(\d+(?:\.\d+)?) ?€", r"\1欧元", text)
    text = re.sub(r"\$ ?(\d+(?:\.\d+)?)", r"\1美元", text)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(
        r"\d{8,}", lambda digits: "".join("零一二三四五六七八九"[int(d)] for d in digits[0]), text
    )
    return str(cn2an.transform(text, "an2cn"))


_FULL_WIDTH = {ord("０") + i: str(i) for i in range(10)} | {ord("％"): "%", ord("："): "："}


def _separate_digits(text: str) -> str:
    """Numbers that spokenform has left, apart from signs around them; long ones digit by digit."""
    return re.sub(
        r"\W?([0-9]+)\W?",
        lambda found: f" {found[1] if len(found[1]) <= 4 else ' '.join(found[1])} ",
        text,
    )


def _divide(sentence: str) -> list[str]:
    """A long sentence at its clauses, then at spaces, then anywhere."""
    if len(sentence) <= MAX_SENTENCE:
        return [sentence] if sentence else []
    pieces: list[str] = []
    for part in re.split(_CLAUSES, sentence):
        for word in re.findall(rf"\S{{1,{MAX_SENTENCE}}}\s*", part):
            if pieces and len(pieces[-1]) + len(word) <= MAX_SENTENCE:
                pieces[-1] += word
            else:
                pieces.append(word)
    return [piece.strip() for piece in pieces]


def _is_silent(character: str) -> bool:
    """Control and format characters, emoji and other pictures."""
    category = unicodedata.category(character)
    return category in ("Cc", "Cf", "Co", "Cn", "Cs", "So", "Sk") and character not in "°©®℃№"
