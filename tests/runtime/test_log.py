import importlib
import json
import sys

import pytest

from ppidm.protocol.errors import InputError
from ppidm.runtime.log import make_logger


def test_colours_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    make_logger("info").info("hello", slices=3)
    make_logger("info").debug("not this")
    text = capsys.readouterr().err
    assert "hello" in text
    assert "{" not in text
    assert "not this" not in text


def test_json_lines_elsewhere(capsys):
    make_logger("debug").debug("hello", slices=3)
    event = json.loads(capsys.readouterr().err)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "hello", "level": "debug", "slices": 3}


def test_without_structlog(monkeypatch):
    monkeypatch.setitem(sys.modules, "structlog", None)
    monkeypatch.delitem(sys.modules, "ppidm.runtime.log")
    with pytest.raises(InputError, match=r"pip install 'ppidm\[server\]'"):
        importlib.import_module("ppidm.runtime.log")
