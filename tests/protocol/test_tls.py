import subprocess
import sys

import pytest

from ppidm.protocol.tls import CIPHER_SUITES, RSA_ONLY, require_tls_1_3

REQUIRE = "from ppidm.protocol.tls import require_tls_1_3; require_tls_1_3()"


@pytest.fixture
def python(monkeypatch):
    """Run lines in an interpreter that inherits no list of suites; returns its last line of errors."""

    def run(*lines, **environment):
        monkeypatch.delenv(CIPHER_SUITES, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
        return [*done.stderr.splitlines(), ""][-1 if done.returncode == 0 else -2]

    return run


def test_importing_ppidm_rules_out_tls_1_2(python):
    assert python("import ppidm, grpc", REQUIRE) == ""


def test_these_tests_run_without_tls_1_2():
    require_tls_1_3()


def test_after_grpc_it_is_too_late_and_said(python):
    error = python("import grpc, ppidm", REQUIRE)
    assert "InputError: grpc was imported before ppidm" in error
    assert f"import ppidm first, or start Python with {CIPHER_SUITES}={RSA_ONLY}" in error


def test_the_environment_is_another_way(python):
    assert python("import grpc, ppidm", REQUIRE, **{CIPHER_SUITES: RSA_ONLY}) == ""


def test_other_suites_of_the_environment_do_not_stay(python):
    assert python("import ppidm, grpc", REQUIRE, **{CIPHER_SUITES: "ECDHE-ECDSA-AES256-GCM-SHA384"}) == ""
    assert "InputError" in python("import grpc, ppidm", REQUIRE, **{CIPHER_SUITES: "ECDHE-ECDSA-AES256-GCM-SHA384"})
