"""The server of quell view: who may ask, for what, and how it ends."""

import hashlib
import http.client
import json
import queue
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import webbrowser
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import quell.view
from quell.view import Server, open_scans

VIEW = Path(quell.view.__file__).parent
VENDORED = VIEW / "niivue"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    for name in ("noisy.nii.gz", "denoised.nii", "other.nii"):
        data = rng.normal(100, 20, (4, 5, 6, 3)).astype(np.float32)
        nib.save(nib.Nifti1Image(data, np.eye(4)), folder / name)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with Server(open_scans(folder / "noisy.nii.gz", [folder / "denoised.nii"])) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def ask(server):
    """ask("signal?…") after the token; ask("/…", with_token=False) for a bare path."""

    def request(what="", method="GET", host=None, with_token=True):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        path = f"/{server.token}/{what}" if with_token else what
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name in [f"127.0.0.1:{server.server_port}"] if host is None else host:
            connection.putheader("Host", name)
        connection.endheaders()
        response = connection.getresponse()
        response.body = response.read()
        connection.close()
        return response

    return request


@pytest.mark.parametrize("what", ["", "view.css", "view.js", "chart.js", "niivue.umd.js", "scans"])
def test_the_parts_of_the_page_are_served(ask, what):
    assert ask(what).status == 200


def test_a_volume_is_served_alone(ask, folder):
    got = nib.Nifti1Image.from_bytes(ask("volume/1/2").body)
    expected = nib.load(folder / "denoised.nii")
    assert got.shape == expected.shape[:3]
    np.testing.assert_array_equal(np.asarray(got.dataobj), expected.dataobj[..., 2])


def test_the_signal_is_what_nibabel_reads(ask, folder):
    got = json.loads(ask("signal?x=1&y=2&z=3").body)["files"]
    for curve, name in zip(got, ("noisy.nii.gz", "denoised.nii"), strict=True):
        assert curve == list(nib.load(folder / name).get_fdata()[1, 2, 3])


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/x/", "/scans", "//", "/view.js", "*", "/favicon.ico"])
def test_without_the_token_nothing_is_answered(ask, method, path):
    response = ask(path, method, with_token=False)
    assert response.status == 403
    assert b"printed" in response.body or method == "HEAD"


def test_nearly_the_token_is_not_the_token(ask, server):
    for almost in (server.token[:-1], server.token + "x", server.token.swapcase(), "%00", "%C3%A9"):
        assert ask(f"/{almost}/scans", with_token=False).status == 403


def test_every_start_has_another_token(folder, server):
    with Server(open_scans(folder / "other.nii", [folder / "other.nii"])) as another:
        assert another.token != server.token
        assert len(another.token) >= 32


@pytest.mark.parametrize(
    "host", [[], ["evil.example"], ["127.0.0.1"], ["127.0.0.1:1"], ["0.0.0.0:{port}"], ["{ok}"] * 2]
)
def test_another_host_is_refused(ask, server, host):
    names = [h.format(port=server.server_port, ok=f"127.0.0.1:{server.server_port}") for h in host]
    assert ask("scans", host=names).status == 403


def test_localhost_is_this_host(ask, server):
    assert ask("scans", host=[f"localhost:{server.server_port}"]).status == 200


@pytest.mark.parametrize(
    "what",
    [
        "../scans.py",
        "../../../../../../../etc/passwd",
        "/etc/passwd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%2f..%2fscans.py",
        "..\\..\\scans.py",
        "page/view.html",
        "niivue/LICENSE",
        "other.nii",
        "volume/../scans",
        "volume/2/0",
        "volume/0/3",
        "volume/-1/0",
        "volume/0/0/",
        "volume/0/1.0",
        "volume/0/%D9%A3",  # a digit, in Arabic
        "volume/0/99999999999999999999",
        "volume/0/0?path=/etc/passwd",
        "signal",
        "signal?x=1&y=2",
        "signal?x=4&y=0&z=0",
        "signal?x=0&y=0&z=6",
        "signal?x=-1&y=0&z=0",
        "signal?x=0&y=0&z=0&file=/etc/passwd",
        "view.js?",
        "scans%00",
    ],
)
def test_only_what_is_listed_can_be_read(ask, what):
    assert (ask(what).status, ask(what).body) == (404, b"There is nothing at this address.\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(ask, method):
    response = ask("scans", method)
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


def test_head_sends_no_body(ask):
    response = ask("scans", "HEAD")
    assert (response.status, response.body) == (200, b"")
    assert int(response.headers["Content-Length"]) > 0


@pytest.mark.parametrize("what", ["", "scans", "nothing"])
def test_the_policy_goes_with_every_answer(ask, what):
    headers = ask(what).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in headers


def test_it_listens_on_loopback_only(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_what_is_no_request_gets_no_token_and_no_trace(server, capfd):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as raw:
        raw.sendall(b"<script>alert(1)</script>\r\n\r\n")
        reply = raw.recv(65536)
    assert b"script>" not in reply
    assert server.token.encode() not in reply
    assert capfd.readouterr().err == ""


def test_a_port_in_use_is_named(quell, server, folder):
    port = server.server_port
    ran = quell("view", folder / "noisy.nii.gz", folder / "denoised.nii", "--port", port)
    assert ran.status == 1
    assert f"port {port} cannot be used" in ran.err


def test_the_browser_is_given_the_address(quell, folder, monkeypatch):
    opened = queue.Queue()

    def wait_and_stop(server):
        opened.put(opened.get(timeout=10))
        raise KeyboardInterrupt

    monkeypatch.setattr(webbrowser, "open", opened.put)
    monkeypatch.setattr(socketserver.BaseServer, "serve_forever", wait_and_stop)
    ran = quell("view", folder / "noisy.nii.gz", folder / "denoised.nii")
    assert (ran.status, ran.out) == (0, opened.get() + "\n")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_the_address_only_and_ends_cleanly(folder, how):
    words = ["view", str(folder / "noisy.nii.gz"), str(folder / "denoised.nii"), "--no-browser"]
    command = [sys.executable, "-m", "quell", *words]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background is deaf
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    )
    address = running.stdout.readline()
    _, _, host, token, _ = address.split("/")
    connection = http.client.HTTPConnection(host)
    connection.request("GET", f"/{token}/")
    connection.getresponse().read()  # and stays open, as a browser's does
    running.send_signal(how)
    out, err = running.communicate(timeout=60)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/\n", address)
    assert (running.returncode, out, err) == (0, "", "")


# What is served.


def test_niivue_is_kept_as_published():
    told = re.search(r"`([0-9a-f]{64})`", (VENDORED / "README.md").read_text())[1]
    bundle = (VENDORED / "niivue.umd.js").read_bytes()
    assert hashlib.sha256(bundle).hexdigest() == told


def test_the_page_has_no_markup_made_from_text_and_no_foreign_address():
    for path in (VIEW / "page").iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?:", text
        )
        assert not found, f"{path.name}: {found}"
