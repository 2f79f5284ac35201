"""API keys: configured ones and those of visitors."""

import pytest
from pydantic import SecretStr

from kolbo_demo.service.auth import ApiKeys
from kolbo_demo.service.errors import ApiError


def test_a_visitor_s_key_is_unique_and_cannot_be_forged():
    keys = ApiKeys(SecretStr("given, other"))
    given = {
        visitor: keys.visitor_key(visitor).get_secret_value() for visitor in ("a", "b", "é", "")
    }
    named = {visitor: keys.authenticate(key) for visitor, key in given.items()}
    assert len({*named.values(), keys.authenticate("given"), keys.authenticate("other")}) == 6
    assert keys.visitor_key("a").get_secret_value() == given["a"]
    assert not [key for key in given.values() if any(key in name for name in named.values())]
    key = given["a"]
    forged = [
        key[:place] + ("0" if key[place] != "0" else "1") + key[place + 1 :]
        for place in range(len(key))
    ]
    another = ApiKeys(SecretStr("given")).visitor_key("a").get_secret_value()
    for wrong in (*forged, another, key[:-1], key + "0", "kolbo_live_", "", "é", None):
        with pytest.raises(ApiError):
            keys.authenticate(wrong)
