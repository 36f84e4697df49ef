import inspect
import re

import pytest

from ppidm.protocol import errors

DRAWN = re.findall(r"^[ │├└─]*(\w+Error)(?: +exit (\d))?", errors.__doc__, re.MULTILINE)
CLASSES = dict(inspect.getmembers(errors, inspect.isclass))


def test_the_tree_in_the_docstring_lists_every_error():
    assert {name for name, _ in DRAWN} == set(CLASSES)


@pytest.mark.parametrize(("name", "status"), [(name, int(status)) for name, status in DRAWN if status])
def test_exit_statuses_are_those_of_the_docstring(name, status):
    assert CLASSES[name].exit_status == status


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_is_a_ppidm_error(name):
    assert issubclass(CLASSES[name], errors.PpidmError)


def test_what_a_caller_got_wrong_is_a_value_error():
    assert issubclass(errors.InputError, ValueError)
    assert {name for name, kind in CLASSES.items() if issubclass(kind, errors.InputError)} == {
        "InputError",
        "PackageError",
        "UnsupportedError",
    }
    assert not issubclass(errors.CheckError, ValueError)
