"""Plans a render: learns the speaker from the source and extracts mouth curves from the voice."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from threading import Event

import numpy as np

from kolbo_demo.engine import npz_codec
from kolbo_demo.engine.audio_io import stream_voice
from kolbo_demo.engine.compositor import WARM_UP_FRAMES
from kolbo_demo.engine.exemplar_plan import plan_mixes
from kolbo_demo.engine.idle_motion import IdleMotion
from kolbo_demo.engine.landmarks import FaceLandmarker, FaceLandmarks, detect_speaker
from kolbo_demo.engine.mouth_curves import MouthCurves, mouth_curves
from kolbo_demo.engine.mouth_exemplars import ExemplarSet
from kolbo_demo.engine.occlusion import NOT_VISIBLE, is_mouth_visible
from kolbo_demo.engine.phoneme_model import SAMPLE_RATE
from kolbo_demo.engine.prompt import PromptStyle
from kolbo_demo.engine.render_plan import (
    OnProgress,
    RenderPlan,
    ShouldStop,
    check_engine,
    check_not_stopped,
    segment_edges,
)
from kolbo_demo.engine.speaker import Speaker
from kolbo_demo.engine.speaker_tracking import learn_speaker
from kolbo_demo.engine.speech_features import (
    AcousticFeatures,
    VoiceFeatures,
    extract_voice_features,
)
from kolbo_demo.engine.still_picture import STILL_FPS, load_still
from kolbo_demo.engine.thin_plate import Pixels
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import frames_for
from kolbo_demo.engine.voices.phoneme_chunk import read_phonemes
from kolbo_demo.media.audio_track import find_voice_track
from kolbo_demo.media.probe import MediaError, inspect_source
from kolbo_demo.options import Options

REFERENCE_FRAMES = 64
"""Frames of a clip from which the speaker is learned."""
MAX_LOOPED_FRAMES = 600
"""Of a clip up to this length that plays back and forth, every frame is inspected once."""
MIN_VOICE_SECONDS = 0.04


def prepare(
    source: Path,
    audio: Path,
    plan_path: Path,
    options: Options = Options(),
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> RenderPlan:
    """Plan a render and write the plan to `plan_path`.

    Arguments and errors are those of `render.render`. `on_progress` counts the frames inspected;
    the total is these and the frames of the result.
    """
    check_engine()
    kind = inspect_source(source).kind
    check_not_stopped(should_stop)
    voice = read_features(audio)
    if voice.duration < MIN_VOICE_SECONDS:
        raise MediaError(
            f"The audio is too short to show: use at least {MIN_VOICE_SECONDS:g} seconds."
        )
    source_done = Event()

    def stop_extraction() -> bool:
        return source_done.is_set() or (should_stop is not None and should_stop())

    with ThreadPoolExecutor(1, "voice-features") as pool:
        # In parallel with the source; stopped if the source fails.
        voice_features = pool.submit(
            _voice_features, audio, voice, lambda: check_not_stopped(stop_extraction)
        )
        try:
            if kind == "image":
                plan = _plan_still(source, voice.duration, voice_features, options, pool)
            else:
                plan = _plan_clip(
                    source, voice.duration, voice_features, options, on_progress, should_stop
                )
        finally:
            source_done.set()
    check_not_stopped(should_stop)
    notes = (*plan.notes, *find_voice_track(audio).notes)
    plan = replace(plan, watermark=options.mark, notes=notes)
    npz_codec.save(plan_path, plan)
    return plan


def read_features(audio: Path) -> AcousticFeatures:
    """Acoustic features of a file's voice. Raises MediaError."""
    return AcousticFeatures.from_blocks(stream_voice(audio, SAMPLE_RATE))


def _voice_features(
    audio: Path, voice: AcousticFeatures, check_cancelled: Callable[[], None]
) -> VoiceFeatures:
    """Of words that were spoken here, the phonemes are those of the text."""
    features = extract_voice_features(voice, check_cancelled)
    spoken = read_phonemes(audio, voice.duration)
    return replace(features, phonemes=spoken) if spoken and features.phonemes else features


def _plan_still(
    source: Path,
    duration: float,
    voice_features: Future[VoiceFeatures],
    options: Options,
    pool: ThreadPoolExecutor,
) -> RenderPlan:
    style = PromptStyle.parse(options.prompt)
    fps = Fraction(STILL_FPS)
    frames = frames_for(duration, fps)

    def plan_motion() -> tuple[MouthCurves, IdleMotion]:
        voice = voice_features.result()
        idle_motion = IdleMotion.from_loudness(voice.level, STILL_FPS, frames)
        return mouth_curves(voice, STILL_FPS, frames).styled(style), idle_motion.styled(style)

    motion = pool.submit(plan_motion)
    picture, notes = load_still(source)
    finder = FaceLandmarker()
    landmarks = detect_speaker(picture, finder, options.face)
    if not options.insist and not is_mouth_visible(finder, picture, landmarks):
        raise MediaError(NOT_VISIBLE.format(what="picture"))
    height, width = picture.shape[:2]
    speaker = Speaker.from_pictures([(picture, landmarks)], style.relax)
    curves, idle_motion = motion.result()
    return RenderPlan(
        kind="image",
        width=width,
        height=height,
        fps=fps,
        frames=frames,
        duration=duration,
        inspected_frames=0,
        speaker=speaker,
        curves=curves,
        idle_motion=idle_motion,
        edges=segment_edges(frames, fps),
        mixes=None,
        faces=landmarks.points[None],
        face_frames=[0],
        person=None,
        notes=notes,
    )


def _plan_clip(
    source: Path,
    duration: float,
    voice_features: Future[VoiceFeatures],
    options: Options,
    on_progress: OnProgress | None,
    should_stop: ShouldStop | None,
) -> RenderPlan:
    style = PromptStyle.parse(options.prompt, clip=True)
    with Clip(source) as clip:
        frames = frames_for(duration, clip.fps)
        used = min(frames, clip.frame_count)
        reference = range(0, used, max(used // REFERENCE_FRAMES, 1))
        edges = segment_edges(frames, clip.fps)
        if frames > used and used <= MAX_LOOPED_FRAMES:
            inspected = list(range(used))  # each is shown several times
        else:
            starts = [clip.source_frame(max(edge - WARM_UP_FRAMES, 0)) for edge in edges[:-1]]
            inspected = sorted({*reference, *starts})
        done = 0

        def count_frame() -> None:
            nonlocal done
            check_not_stopped(should_stop)
            done += 1
            if on_progress is not None:
                on_progress(done, len(inspected) + frames)

        person, observations = learn_speaker(clip, inspected, reference, options.face, count_frame)
        learned = {number: each for number, each in observations.items() if each.crop}
        usable = {number: each for number, each in learned.items() if not each.reason} or learned
        pictures = [each.crop for each in usable.values() if each.crop]
        check_not_stopped(should_stop)
        if not options.insist and not _any_mouth_visible(pictures):
            raise MediaError(NOT_VISIBLE.format(what="clip"))
        speaker = Speaker.from_pictures(pictures, style.relax)
        exemplars = ExemplarSet.from_pictures(speaker.head, pictures, list(usable))
        curves = mouth_curves(voice_features.result(), float(clip.fps), frames).styled(style)
        source_frames = [clip.source_frame(frame) for frame in range(frames)]
        return RenderPlan(
            kind="video",
            width=clip.width,
            height=clip.height,
            fps=clip.fps,
            frames=frames,
            duration=duration,
            inspected_frames=len(inspected),
            speaker=replace(speaker, exemplars=exemplars),
            curves=curves,
            idle_motion=None,
            edges=edges,
            mixes=plan_mixes(exemplars, speaker.head, curves, source_frames),
            faces=np.array([each.face.points for each in observations.values()]),
            face_frames=list(observations),
            person=person,
            matrix=int(clip.matrix),
            notes=clip.notes,
        )


def _any_mouth_visible(pictures: list[tuple[Pixels, FaceLandmarks]]) -> bool:
    """Whether one of three or four of a clip's pictures shows the speaker's mouth."""
    finder, few = FaceLandmarker(), pictures[:: max(len(pictures) // 3, 1)]
    return any(is_mouth_visible(finder, rgb, face) for rgb, face in few)
