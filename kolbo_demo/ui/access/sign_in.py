"""Sign-in with Hugging Face, on a Space that has it switched on (`hf_oauth: true`).

Gradio adds the routes and a signed session cookie; `Caller.account` has the name in it.
"""

import logging
from importlib.util import find_spec

import gradio as gr
from gradio import oauth
from gradio.utils import get_space

from kolbo_demo.ui.events import QUIET

ROUTES = r"/login/(huggingface|callback)|/logout"
_log = logging.getLogger(__name__)


def is_on() -> bool:
    """Whether the Space has the variables, and the packages that its builder installs. Without a
    secret anybody could sign a cookie; outside a Space Gradio signs in as the machine's owner."""
    variables = (
        oauth.OAUTH_CLIENT_ID,
        oauth.OAUTH_CLIENT_SECRET,
        oauth.OAUTH_SCOPES,
        oauth.OPENID_PROVIDER_URL,
    )
    if get_space() is None or not all(variables):
        return False
    missing = [name for name in ("authlib", "itsdangerous") if find_spec(name) is None]
    if missing:
        _log.warning("Visitors cannot sign in: install gradio[oauth]")
    return not missing


def lay_out() -> None:
    """The button, where the caller stands in the layout."""
    button = gr.LoginButton(logout_value="Sign out ({})", size="sm", icon=None, elem_id="sign-in")
    # Gradio would make its check of the session a public endpoint, and a tool for assistants.
    button.load_event_to_attach = None
    gr.on(None, button._check_login_status, None, button, **QUIET)
