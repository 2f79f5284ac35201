"""A quick guess at the language of a text: by script, then by frequent words."""

import re
import unicodedata
from collections import Counter

_SCRIPTS = {"CJK": "zh", "HEBREW": "he", "ARABIC": "ar"}
_WORDS = {
    "en": "the of and to in is you that it he was for on are with his they this have from what "
    "we can your there please hello my do not i'm it's",
    "es": "el la los las de que y en un una por con para es está están no su al lo como más pero "
    "sus le ya este sí porque hola gracias usted muy del",
    "fr": "le la les de des et en un une du que est dans qui par pour au pas sur ce il elle je "
    "vous nous ne sont avec bonjour merci c'est d'un plus",
    "de": "der die das und in den von zu mit sich des auf für ist im dem nicht ein eine als auch "
    "es an werden aus er hat dass sie nach ich wir hallo danke bitte",
    "pt": "o a os as de que e em um uma para com não por mais dos como mas ao ele das à seu sua "
    "você nós são está muito obrigado obrigada olá isso do da",
}
_LETTERS = {"es": "ñ¿¡", "fr": "êèùœëîû", "de": "äöüß", "pt": "ãõ"}
_INDEX = [(code, frozenset(words.split())) for code, words in _WORDS.items()]


def script(character: str) -> str:
    """The script of a letter, such as LATIN or CJK; empty for other characters."""
    if not character.isalpha():
        return ""
    return unicodedata.name(character, "UNKNOWN").split()[0].split("-")[0]


def guess_language(text: str, default: str = "en") -> str:
    """ISO 639-1 code; `default` where nothing speaks against it."""
    scripts = Counter(filter(None, map(script, text)))
    if scripts and (code := _SCRIPTS.get(scripts.most_common(1)[0][0])):
        return code
    words = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", text.lower().replace("’", "'"))
    letters = set(text.lower())
    scores = {
        code: sum(word in known for word in words) + 2 * len(letters & set(_LETTERS.get(code, "")))
        for code, known in _INDEX
    }
    best = max(scores, key=lambda code: (scores[code], code == default))
    return best if scores[best] else default
