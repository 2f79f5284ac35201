from tests.scripted import (  # noqa: F401 - fixtures
    client,
    clip,
    impatient,
    media_dir,
    no_settings,
    portrait,
    quick,
    server,
    speech,
    talking,
)
