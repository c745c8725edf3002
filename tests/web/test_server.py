"""The server as a process: where it listens, that there is one, how it stops; and the command that starts it."""

import signal
import socket

import httpx
import pytest
from server_process import served, start
from sites import Site

from plaudit.core.errors import ConfigError
from plaudit.web.server import LOOPBACK_NAMES, address_of, check_address


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_project_is_served_by_one_process_until_it_is_told_to_stop(site: Site, stop: signal.Signals):
    folder = str(site.project.folder)
    with served(folder, "port=0") as (process, address):
        assert httpx.get(f"{address}/readyz").json() == {"status": "ready"}
        answer = httpx.get(f"{address}/", headers={"Host": "rebound.example"})
        assert answer.status_code == 421
        assert "server" not in answer.headers
        second = start(folder, "port=0")
        _, said = second.communicate(timeout=120)
        assert second.returncode == 2
        assert "is being served already" in said
        process.send_signal(stop)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "nothing is lost" in out
    with served(folder, "port=0") as (_, address):
        assert httpx.get(f"{address}/healthz").status_code == 200


def test_a_taken_port_is_said(site: Site):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        process = start(str(site.project.folder), f"port={taken.getsockname()[1]}")
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "cannot be used" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("host", "https_host", "refused"),
    [
        ("127.0.0.1", None, None),
        ("localhost", None, None),
        ("::1", None, None),
        ("127.0.0.1", "label.example.org", None),
        ("0.0.0.0", "label.example.org", None),
        ("0.0.0.0", None, "without encryption"),
        ("::", None, "without encryption"),
        ("192.168.0.4", None, "without encryption"),
        ("label.example.org", None, "no IP address"),
        ("127.0.0.1", "https://label.example.org", "no host name"),
        ("127.0.0.1", "", "no host name"),
    ],
)
def test_passwords_never_cross_a_network_in_clear(host, https_host, refused):
    if refused is None:
        check_address(host, https_host)
    else:
        with pytest.raises(ConfigError, match=refused):
            check_address(host, https_host)


def test_the_address_is_one_that_can_be_opened():
    assert address_of("127.0.0.1", 8021, None) == "http://127.0.0.1:8021"
    assert address_of("::1", 8021, None) == "http://[::1]:8021"
    assert address_of("127.0.0.1", 8021, "label.example.org") == "https://label.example.org"
    assert "::1" in LOOPBACK_NAMES


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "plaudit label DIR"),
        (["project", "--demo"], "plaudit label DIR"),
        (["--dmeo"], "written without dashes"),
        (["missing-folder"], "missing-folder"),
    ],
)
def test_the_command_says_how_it_is_used(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process = start(*arguments)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert words in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_the_demo_can_be_entered_with_one_click():
    with served("--demo", "port=0") as (process, address):
        assert process.stderr is not None
        doors = [next(process.stderr).split()[0] for _ in range(4)]
        assert len(set(doors)) == 4
        for door in doors:
            with httpx.Client(headers={"Origin": address}, follow_redirects=True) as client:
                assert "Look around" in client.get(door).text
                assert "What is next" in client.post(door).text
        assert httpx.get(f"{address}/enter/guessed").status_code == 404
