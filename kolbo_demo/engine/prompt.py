"""What a prompt asks of the lips, the head, the lids and the face, in plain phrases.

The vocabulary is small and told in the README: everything in a prompt that is not of it is named as
not used, so that nobody waits for what will not come.
"""

import re
from dataclasses import dataclass, replace
from typing import Self

LIPS = {"whispered": 0.6, "subtle": 0.75, "natural": 1.0, "expressive": 1.2, "exaggerated": 1.4}
"""Reach of the lips and the jaw for each manner, of what people do."""
HEAD = {"still": 0.0, "calm": 0.5, "lively": 1.8}
"""Reach of a still's head motion for each manner, of what it does unasked."""
SING_LIPS, SING_HEAD = 1.2, 1.4


@dataclass(frozen=True)
class Directions:
    """How to play a part. Without any, as people speak."""

    lips: float = 1.0
    """Reach of lips and jaw; closures stay closures."""
    head: float = 1.0
    """Reach of the head's own motion; 0 holds it still."""
    blinks: bool = True
    smile: bool | None = None
    """True smiles, False takes a smile back, None leaves the face as it is."""
    understood: tuple[str, ...] = ()
    """What of the prompt is used, in the words of the vocabulary."""
    unused: tuple[str, ...] = ()
    """The prompt's phrases that change nothing, in its own words."""

    @classmethod
    def of(cls, prompt: str | None, clip: bool = False) -> Self:
        """Read a prompt. A `clip` keeps its own head and eyes: what is asked of them is unused."""
        found, rest = _read(prompt or "")
        if clip:
            rest += [f"{name} (a clip keeps its own)" for name in found if name in _STILLS_ONLY]
            found = [name for name in found if name not in _STILLS_ONLY]
        # Of two that contradict each other the later one counts.
        last = {_about(name): name for name in found}
        rest += [name for name in found if name not in last.values()]
        found = [name for name in found if name in last.values()]
        made = cls(understood=tuple(found), unused=tuple(rest))
        # Whispering and singing have a word about the head as well; what was said of it comes last.
        for name in sorted(found, key=lambda name: _about(name) != "lips"):
            made = replace(made, **_DIRECTIONS[name].sets)
        return made

    @property
    def relax(self) -> float | None:
        """How much of the source's own smile is taken back (0-1); None: as much as unasked."""
        return {True: 0.0, False: 1.0, None: None}[self.smile]

    @property
    def told(self) -> str:
        """One line for people: what was understood, and what not."""
        used = ", ".join(self.understood)
        if not self.unused:
            return used
        return f"{used or 'nothing of the prompt'} (not used: {', '.join(self.unused)})"


AS_PEOPLE_DO = Directions()


@dataclass(frozen=True)
class _Direction:
    """One entry of the vocabulary: the phrases that ask for it, and what it sets."""

    phrases: str
    sets: dict[str, float | bool]


_NO = (
    r"(?:no|not|never|without|don'?t|do not|doesn'?t|does not|avoid)(?: (?:any|the|be|a|too|much))*"
)
_OWN = r"(?:(?:the|his|her|their|your|its) )?"
_MOVING = r"(?:movements?|motions?|moving|sway(?:ing)?|nod(?:s|ding)?|bob(?:s|bing)?)"
_LIPS = r"(?:(?:lip|mouth) movements?|lips?|mouth|articulation|speech|delivery)"
_ANY = rf"(?: {_LIPS})?"
_LITTLE = r"(?:subtl[ey]|small|slight(?:ly)?|gentl[ey]|restrained|understated|minimal|soft(?:ly)?)"
_MUCH = r"(?:exaggerat(?:e|es|ed|ing|edly)|over[ -]?the[ -]?top|dramatic(?:ally)?)"
_SMILES = r"(?:smil(?:e|es|ing|ey|y)|happy|happily|cheerful(?:ly)?|joyful(?:ly)?)"
_BLINKS = r"(?:blink(?:s|ing)?)"

# Asked for in this order, so that "no smile" is read before "smile".
_DIRECTIONS: dict[str, _Direction] = {
    "no blinking": _Direction(
        rf"{_NO} {_OWN}(?:eye )?{_BLINKS}|(?:keep )?{_OWN}eyes (?:wide )?open", {"blinks": False}
    ),
    "still head": _Direction(
        rf"{_NO} {_OWN}head {_MOVING}|{_NO} move {_OWN}head"
        rf"|(?:(?:keep|hold) )?{_OWN}head (?:very |completely )?still"
        r"|(?:still|static|steady|motionless|fixed) head",
        {"head": HEAD["still"]},
    ),
    "calm head": _Direction(
        rf"{_LITTLE} head(?: {_MOVING})?|calm head|calm(?:ly)?|(?:less|little) head {_MOVING}",
        {"head": HEAD["calm"]},
    ),
    "lively head": _Direction(
        rf"(?:lively|energetic|animated)(?: head)?(?: {_MOVING})?|energetically"
        rf"|(?:more|lots of|a lot of|strong) head {_MOVING}|move {_OWN}head(?: more| a lot)?",
        {"head": HEAD["lively"]},
    ),
    "neutral face": _Direction(
        rf"{_NO} {_SMILES}|(?:neutral|serious|straight)(?: (?:face|expression|look))?|seriously",
        {"smile": False},
    ),
    "smiling": _Direction(
        rf"(?:with )?(?:a )?(?:(?:big|broad|slight|gentle|soft|warm|friendly) )?{_SMILES}",
        {"smile": True},
    ),
    "natural lips": _Direction(
        rf"{_NO} (?:{_MUCH}|expressive|{_LITTLE}){_ANY}|natural(?:ly)?{_ANY}|normal(?:ly)?{_ANY}",
        {"lips": LIPS["natural"]},
    ),
    "whispering": _Direction(
        r"whisper(?:s|ed|ing)?|murmur(?:s|ed|ing)?|under (?:his|her|their) breath",
        {"lips": LIPS["whispered"], "head": HEAD["calm"]},
    ),
    "singing": _Direction(r"s[iau]ng|sings|singing|song", {"lips": SING_LIPS, "head": SING_HEAD}),
    "exaggerated lips": _Direction(
        rf"{_MUCH}{_ANY}|very expressive(?:ly)?{_ANY}|(?:big|wide|huge|large) {_LIPS}"
        rf"|open {_OWN}mouth (?:wide|more)",
        {"lips": LIPS["exaggerated"]},
    ),
    "expressive lips": _Direction(
        rf"expressive(?:ly)?{_ANY}|clear(?:ly)?{_ANY}|(?:well )?articulated?{_ANY}"
        r"|(?:more|stronger) (?:lip|mouth) movements?",
        {"lips": LIPS["expressive"]},
    ),
    "subtle lips": _Direction(
        rf"(?:very )?{_LITTLE}{_ANY}|(?:less|little) (?:lip|mouth) movements?|mumbl(?:e|es|ed|ing)",
        {"lips": LIPS["subtle"]},
    ),
}
_STILLS_ONLY = frozenset({"no blinking", "still head", "calm head", "lively head"})


def _about(name: str) -> str:
    """What a direction is about first of all."""
    return next(iter(_DIRECTIONS[name].sets))


_CALLED = {
    name: re.compile(rf"(?<![\w'])(?:{direction.phrases})(?![\w'])")
    for name, direction in _DIRECTIONS.items()
}
_FILLER = re.compile(
    r"""(?: an? | and | are | as | at | be | but | by | do | for | from | he | her | his | i | in
    | is | it | its | just | keep | let | lips? | looks? | makes? | more | mouth | of | on | or
    | person | please | she | should | so | some | speak(?:s|ing)? | talk(?:s|ing)? | than
    | that | the | their | them | then | they | this | to | very | video | want | while | with
    | your? )?""",
    re.VERBOSE,
)
_BREAK = re.compile(r"[,;.!?\n|]+|\s+(?:and|but|with|while)\s+")


def _read(prompt: str) -> tuple[list[str], list[str]]:
    """The directions named in a prompt, in their order there, and its other phrases."""
    text = prompt.lower().replace("’", "'")
    places: dict[str, int] = {}
    for name, called in _CALLED.items():
        for match in called.finditer(text):
            places.setdefault(name, match.start())
        text = called.sub(lambda match: "\0" * len(match.group()), text)
    rest = [_spoken(part) for phrase in _BREAK.split(text) for part in phrase.split("\0")]
    return sorted(places, key=places.__getitem__), [part for part in rest if part]


def _spoken(phrase: str) -> str:
    """A phrase less the small words at its ends; empty where it says nothing."""
    words = [word.strip("'\"()[]:-") for word in phrase.split()]
    while words and _FILLER.fullmatch(words[0]):
        words.pop(0)
    while words and _FILLER.fullmatch(words[-1]):
        words.pop()
    return " ".join(words)
