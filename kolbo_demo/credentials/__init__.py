"""Content credentials (C2PA) of results: signed manifests that say how a video was made.

>>> signer = Signer(Settings())
>>> signer.sign(video, rendered(source, voice, clip=False, visible_mark=True))
True
>>> read(video, signer.chain()).state
'intact'

`identity.py` has the certificate and the key, `manifest.py` the contents of a manifest,
`signing.py` and `reading.py` the two operations. Both run the C2PA library in a confined child
(`worker.py`), which never has the key.
"""


class CredentialsError(Exception):
    """The certificate cannot be used, or the credentials of a file cannot be read; with a message
    for users."""
