"""Prompt parser: plain phrases to settings of lips, head, blinks and smile.

The vocabulary is small and listed in the README. Phrases outside it are reported as not used.
"""

import re
from dataclasses import dataclass, replace
from typing import Self

LIP_SCALES = {
    "whispered": 0.6,
    "subtle": 0.75,
    "natural": 1.0,
    "expressive": 1.2,
    "exaggerated": 1.4,
}
"""Amplitude of lips and jaw, relative to natural speech."""
HEAD_SCALES = {"still": 0.0, "calm": 0.5, "lively": 1.6}
"""Amplitude of a still's head motion, relative to the default."""
SINGING_LIP_SCALE, SINGING_HEAD_SCALE = 1.2, 1.4


@dataclass(frozen=True)
class PromptStyle:
    """The manner of speaking that a prompt asks for. The default is natural speech."""

    lips: float = 1.0
    """Amplitude of lips and jaw; closures stay closed."""
    head: float = 1.0
    """Amplitude of a still's head motion."""
    blinks: bool = True
    gaze: float = 1.0
    """Amplitude of a still's gaze shifts."""
    smile: bool | None = None
    """True adds a smile, False removes the source's, None leaves the expression."""
    understood: tuple[str, ...] = ()
    """Names of the rules that apply."""
    unused: tuple[str, ...] = ()
    """Phrases of the prompt that have no effect."""

    @classmethod
    def parse(cls, prompt: str | None, clip: bool = False) -> Self:
        """Parse a prompt. For a `clip`, rules for head and eyes are unused: it retains its own."""
        names, unused = _match_rules(prompt or "")
        if clip:
            unused += [f"{name} (a clip keeps its own)" for name in names if name in _STILLS_ONLY]
            names = [name for name in names if name not in _STILLS_ONLY]
        # The last of contradicting rules applies.
        last = {_main_setting(name): name for name in names}
        unused += [name for name in names if name not in last.values()]
        names = [name for name in names if name in last.values()]
        style = cls(understood=tuple(names), unused=tuple(unused))
        # Some rules set the head as well; an explicit rule for it overrides them.
        for name in sorted(names, key=lambda name: _main_setting(name) == "head"):
            style = replace(style, **_RULES[name].settings)
        return style

    @property
    def relax(self) -> float | None:
        """Share of the source's smile to remove (0-1); None for the default."""
        return {True: 0.0, False: 1.0, None: None}[self.smile]

    @property
    def summary(self) -> str:
        """One line for people: the rules that apply, and the unused phrases."""
        used = ", ".join(self.understood)
        if not self.unused:
            return used
        return f"{used or 'nothing of the prompt'} (not used: {', '.join(self.unused)})"


@dataclass(frozen=True)
class _Rule:
    """One entry of the vocabulary: a pattern of phrases, and the fields that it sets."""

    pattern: str
    settings: dict[str, float | bool]
    """Fields of PromptStyle; the first identifies contradicting rules."""


_NO = (
    r"(?:no|not|never|without|don'?t|do not|doesn'?t|does not|avoid)(?: (?:any|the|be|a|too|much))*"
)
_OWN = r"(?:(?:the|his|her|their|your|its) )?"
_MOTION = r"(?:movements?|motions?|moving|sway(?:ing)?|nod(?:s|ding)?|bob(?:s|bing)?)"
_LIPS = r"(?:(?:lip|mouth) movements?|lips?|mouth|articulation|speech|delivery)"
_ANY = rf"(?: {_LIPS})?"
_LITTLE = r"(?:subtl[ey]|small|slight(?:ly)?|gentl[ey]|restrained|understated|minimal|soft(?:ly)?)"
_MUCH = r"(?:exaggerat(?:e|es|ed|ing|edly)|over[ -]?the[ -]?top|dramatic(?:ally)?)"
_SMILES = r"(?:smil(?:e|es|ing|ey|y)|happy|happily|cheerful(?:ly)?|joyful(?:ly)?)"
_BLINKS = r"(?:blink(?:s|ing)?)"

# Matched in this order, so that "no smile" is read before "smile".
_RULES: dict[str, _Rule] = {
    "no blinking": _Rule(
        rf"{_NO} {_OWN}(?:eye )?{_BLINKS}|(?:keep )?{_OWN}eyes (?:wide )?open", {"blinks": False}
    ),
    "eye contact": _Rule(
        r"(?:(?:keep|maintain|hold|make)(?:s|ing)? )?(?:steady |direct )?eye contact"
        r"|(?:look|gaze|star)(?:s|e|es|ing)? (?:straight |directly |right )?(?:at|into|to|towards?)"
        r" (?:the )?(?:camera|viewers?|lens)",
        {"gaze": 0.0, "head": HEAD_SCALES["calm"]},
    ),
    "still head": _Rule(
        rf"{_NO} {_OWN}head {_MOTION}|{_NO} move {_OWN}head"
        rf"|(?:(?:keep|hold) )?{_OWN}head (?:very |completely )?still"
        r"|(?:still|static|steady|motionless|fixed) head",
        {"head": HEAD_SCALES["still"]},
    ),
    "calm head": _Rule(
        rf"{_LITTLE} head(?: {_MOTION})?|calm head|calm(?:ly)?|(?:less|little) head {_MOTION}",
        {"head": HEAD_SCALES["calm"]},
    ),
    "lively head": _Rule(
        rf"(?:lively|energetic|animated)(?: head)?(?: {_MOTION})?|energetically"
        rf"|(?:more|lots of|a lot of|strong) head {_MOTION}|move {_OWN}head(?: more| a lot)?",
        {"head": HEAD_SCALES["lively"]},
    ),
    "neutral face": _Rule(
        rf"{_NO} {_SMILES}|(?:neutral|serious|straight)(?: (?:face|expression|look))?|seriously",
        {"smile": False},
    ),
    "smiling": _Rule(
        rf"(?:with )?(?:a )?(?:(?:big|broad|slight|gentle|soft|warm|friendly) )?{_SMILES}",
        {"smile": True},
    ),
    "natural lips": _Rule(
        rf"{_NO} (?:{_MUCH}|expressive|{_LITTLE}){_ANY}|natural(?:ly)?{_ANY}|normal(?:ly)?{_ANY}",
        {"lips": LIP_SCALES["natural"]},
    ),
    "whispering": _Rule(
        r"whisper(?:s|ed|ing)?|murmur(?:s|ed|ing)?|under (?:his|her|their) breath",
        {"lips": LIP_SCALES["whispered"], "head": HEAD_SCALES["calm"]},
    ),
    "singing": _Rule(
        r"s[iau]ng|sings|singing|song", {"lips": SINGING_LIP_SCALE, "head": SINGING_HEAD_SCALE}
    ),
    "exaggerated lips": _Rule(
        rf"{_MUCH}{_ANY}|very expressive(?:ly)?{_ANY}|(?:big|wide|huge|large) {_LIPS}"
        rf"|open {_OWN}mouth (?:wide|more)",
        {"lips": LIP_SCALES["exaggerated"]},
    ),
    "expressive lips": _Rule(
        rf"expressive(?:ly)?{_ANY}|clear(?:ly)?{_ANY}|(?:well )?articulated?{_ANY}"
        r"|(?:more|stronger) (?:lip|mouth) movements?",
        {"lips": LIP_SCALES["expressive"]},
    ),
    "subtle lips": _Rule(
        rf"(?:very )?{_LITTLE}{_ANY}|(?:less|little) (?:lip|mouth) movements?|mumbl(?:e|es|ed|ing)",
        {"lips": LIP_SCALES["subtle"]},
    ),
}
_STILLS_ONLY = frozenset({"no blinking", "eye contact", "still head", "calm head", "lively head"})


def _main_setting(name: str) -> str:
    return next(iter(_RULES[name].settings))


_PATTERNS = {
    name: re.compile(rf"(?<![\w'])(?:{rule.pattern})(?![\w'])") for name, rule in _RULES.items()
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


def _match_rules(prompt: str) -> tuple[list[str], list[str]]:
    """Names of the rules that a prompt matches, in its order, and its other phrases."""
    text = prompt.lower().replace("’", "'")
    positions: dict[str, int] = {}
    for name, pattern in _PATTERNS.items():
        for match in pattern.finditer(text):
            positions.setdefault(name, match.start())
        text = pattern.sub(lambda match: "\0" * len(match.group()), text)
    rest = [_strip_filler(part) for phrase in _BREAK.split(text) for part in phrase.split("\0")]
    return sorted(positions, key=positions.__getitem__), [part for part in rest if part]


def _strip_filler(phrase: str) -> str:
    """A phrase without filler words at its ends."""
    words = [word.strip("'\"()[]:-") for word in phrase.split()]
    while words and _FILLER.fullmatch(words[0]):
        words.pop(0)
    while words and _FILLER.fullmatch(words[-1]):
        words.pop()
    return " ".join(words)
