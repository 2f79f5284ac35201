"""Limits of media files: of their size, pictures and frame rates."""

MAX_FILE_BYTES = 100 * 1024 * 1024
"""Kolbo's limit: 100 MB a file."""

MIN_SIDE = 32
"""Pixels. No face is found in smaller pictures."""
MAX_PIXELS = 110_000_000
"""Of a picture."""
MAX_DRAFT_PIXELS = 270_000_000
"""Of a JPEG, which is decoded at reduced size: phones have 200-megapixel sensors."""
MAX_WEBP_PIXELS = 70_000_000
"""Its decoder takes 16 bytes a pixel, more than the memory limit of a child allows."""
MAX_DECODED_PIXELS = 8_000_000
"""Larger pictures are inspected without decoding, to save memory."""

MAX_VIDEO_PIXELS = 4096 * 2304
"""Pixels a frame: DCI 4K and UHD. More is refused before it is decoded."""
MIN_FPS = 12
"""Minimum for lip motion: slower clips get a whole multiple of their rate."""
MAX_FPS = 120
MAX_FRAME_GAP_SECONDS = 600
"""A longer gap between frames is a damaged time stamp, not a still picture."""
