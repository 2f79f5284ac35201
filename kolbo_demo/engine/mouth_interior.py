"""Paints the interior of the mouth: cavity, tongue and teeth.

Upper teeth are fixed to the skull, lower teeth and tongue to the jaw, so that they do not swim with
the lips. Colours are derived from the face: a grey photograph gets grey teeth.
"""

import numpy as np

from kolbo_demo.engine.dentition import at_millimetres, tooth_profile
from kolbo_demo.engine.mouth_colours import Palette
from kolbo_demo.engine.mouth_shape import MouthShape
from kolbo_demo.engine.mouth_warp import Opening, Paint
from kolbo_demo.engine.own_teeth import Teeth
from kolbo_demo.engine.thin_plate import Map

_UPPER_EDGE_MM, _LOWER_EDGE_MM = 1.5, 1.6
"""Heights below the seam, at rest, of the edges of upper and lower front teeth."""
_JAW_AT_TEETH = 0.95
"""Drop of the lower front teeth over that of the chin."""
_TIP_MM = 1.2
"""Height below the seam of a tongue that touches the upper teeth."""


def _ramp(value: Map, soft: float | Map) -> Map:
    """Smoothstep from 0 at -soft to 1 at soft."""
    v = np.clip(value / (2 * soft) + 0.5, 0, 1)
    return v * v * (3 - 2 * v)


def interior_painter(
    palette: Palette, shape: MouthShape, opening: Opening, own_teeth: Teeth | None = None
) -> Paint:
    """A function that paints one frame's interior; `own_teeth` are the person's, where known."""
    pixel = max(0.6, 1.3 * palette.blur) / opening.scale
    soft = max(0.35, pixel)
    # Rounded, so that a clip's frames share profiles.
    profile = tooth_profile(palette.dentition, round(max(0.3, pixel), 1))
    drawn = palette.dentition.drawn
    jaw_edge = _LOWER_EDGE_MM + _JAW_AT_TEETH * shape.jaw
    # The tongue lies behind the lower teeth, lower in round vowels, and rises for t, d, n, l, th.
    raised = float(np.clip(shape.tongue, 0, 1))
    resting = jaw_edge - 2.2 - 0.34 * shape.jaw + 2.0 * shape.protrusion
    crest = resting + raised * min(_TIP_MM - resting, 0.0)

    def paint(x: Map, y: Map) -> Map:
        up, low = opening.edges(x)
        gap = np.maximum(low - up, 0.0)
        a, x2 = np.abs(x), x * x
        half = max(float(abs(opening.x[0])), 1.0)
        upper_edge, upper_tone, lower_edge, lower_tone = at_millimetres(profile, x)
        # The floor of the mouth catches more light than its back.
        floor = 0.75 + 0.6 * _ramp(y - up - 0.75 * gap, 0.5 * gap + 0.3)
        out = np.multiply(palette.cavity, floor[..., None])
        # Tongue: a mound, in shade at the back, bright where its front turns up.
        depth = y - crest - (0.008 + 0.014 * raised) * x2
        mound = _ramp(depth, max(0.8, pixel)) * _ramp(20 - 3 * raised - a, 4.0)
        if drawn:
            out = _blend(out, mound, palette.tongue)
        else:
            under_teeth = _ramp(y - _UPPER_EDGE_MM - 1.0, 1.4)
            shade = (0.55 + 0.42 * _ramp(depth - 1.6, 1.8)) * (0.62 + 0.38 * under_teeth)
            shade *= 1 - (0.16 - 0.1 * raised) * np.exp(-x2 / 2.5)  # the groove
            sheen = 26 * under_teeth * np.exp(-(((depth - 2.2) / 1.1) ** 2) - x2 / 40)
            light = float(palette.tongue.mean()) / 150
            lit = palette.tongue * shade[..., None] + (light * sheen)[..., None]
            out = _blend(out, mound, lit)
        # Lower teeth go with the jaw: of a wide mouth they show their edges.
        edge = jaw_edge - 0.008 * x2 - lower_edge
        lower = 0.92 * _ramp(y - edge, soft) * _ramp(19 - a, 3.0)
        # The lip's shadow darkens their lower part.
        tone = (0.8 - 0.013 * a) * lower_tone * (1 - 0.045 * np.clip(y - edge, 0, 8))
        white = palette.teeth if own_teeth is None else 0.92 * own_teeth.tone
        out = _blend(out, lower, white * tone[..., None])
        # Upper teeth. Beside the person's own teeth, painted ones extend the row, without gaps.
        row = own_teeth.edge(x) if own_teeth else _UPPER_EDGE_MM - 0.009 * x2 + upper_edge
        # At the sides the lip bares them too, but not in the corner.
        row = np.maximum(row, up + 1.6 * _ramp(a - 9, 3.0) * _ramp(half - 7 - a, 4.0))
        upper = _ramp(row - y, soft) * _ramp(26 - a, 2.0)
        # Shading of a rounded surface: darker at the gums, thin and translucent at the edge.
        height = row - y
        tone = (0.97 - 0.0009 * x2) * (1 - 0.02 * np.clip(height, 0, 8))
        if own_teeth is None:
            tone *= upper_tone
            if not drawn:
                tone *= 0.88 + 0.12 * _ramp(height - 0.6, 0.7)
        out = _blend(out, upper, white * tone[..., None])
        if own_teeth is not None:
            colours, cover = own_teeth(x, y)
            out = _blend(out, cover, colours)
        # Lips shade the interior, the upper lip most; so do a small gap and the turn of the arch.
        # Dark parts retain the red of the lips' inside.
        dark = 0.68 + 0.32 * _ramp(y - up - 0.8, 1.2)
        dark *= 0.85 + 0.15 * _ramp(low - y - 0.7, 0.9)
        dark *= 0.82 + 0.18 * _ramp(gap - 2.6, 1.8)
        dark += 0.6 * shape.teeth * (1 - dark)  # f and v bare the teeth to the light
        side = 1 - a / half
        turned = 1 - _ramp(side - 0.2, 0.2)
        dark *= 1 - 0.5 * turned
        if own_teeth is None:
            dark *= 1 + palette.light * x
        out = out * dark[..., None] + (0.36 * np.maximum(1 - dark, 0))[..., None] * palette.lip
        out = _blend(out, 0.75 * turned, palette.lip * 0.45)
        # The rim shows the wet inside of the lip; a narrow gap shows nothing else.
        rim = 0.5 * (1 - _ramp(np.minimum(y - up, low - y) - 0.35, 0.45))
        narrow = 1 - _ramp(gap - 1.0 + 0.5 * shape.teeth, 0.8)
        return _blend(out, np.maximum(rim, narrow), palette.lip * 0.5)

    return paint


def _blend(under: Map, cover: Map, colours: Map) -> Map:
    return under + cover[..., None] * (colours - under)
