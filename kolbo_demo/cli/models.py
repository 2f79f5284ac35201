"""`models`: list the lipsync models."""

import json

from kolbo_demo.cli.backend import ApiKey, ApiKeyFile, BaseUrl, Json, Local, open_client, read_key


def models(
    local: Local = False,
    api_key: ApiKey = None,
    api_key_file: ApiKeyFile = None,
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """List the lipsync models there are now."""
    with open_client(local, read_key(api_key, api_key_file), base_url) as client:
        available = client.models()
    if as_json:
        print(json.dumps([model.model_dump(mode="json", exclude_none=True) for model in available]))
        return
    width = max((len(model.identifier) for model in available), default=0)
    for model in available:
        columns = (model.name, ", ".join(model.types), model.summary)
        print(f"{model.identifier:<{width}}  {' · '.join(text for text in columns if text)}")
