"""Who is let in, and what an open address needs; limits of bodies and heads; the end of the daemon."""

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headway
from tests.processes import COMMAND, PATIENCE_S, end_owner, run, wait_for
from tests.runtime.oip.clients import ENDLESS, GrpcClient, HttpClient, Served, given_grpc, grpc, serving
from tests.runtime.oip.clients import http as triton

TOKEN = "0123456789abcdef0123456789abcdef"
X = np.arange(3, dtype=np.float32)


def ask(served: Served, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any]]:
    """Return status and JSON of a plain request; underscores in names of headers stand for hyphens."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.http_port, timeout=10.0)) as connection:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else {}


def bearer() -> dict[str, str]:
    """Return the token's header, anew since tritonclient adds its own to what it is given."""
    return {"authorization": f"Bearer {TOKEN}"}


# Limits


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.http_port), timeout=10.0) as raw:
        raw.sendall(b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000000\r\n\r\n")
        told = raw.recv(4096)
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in told


def test_a_body_without_a_length_is_bounded_too(served: Served) -> None:
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    with socket.create_connection(("127.0.0.1", served.http_port), timeout=10.0) as raw:
        raw.sendall(b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(66):
                raw.sendall(chunk)
        assert raw.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_head_without_end_is_refused(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.http_port), timeout=10.0) as raw:
        raw.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: ")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(100):
                raw.sendall(bytes(16_384).replace(b"\0", b"x"))
        with contextlib.suppress(ConnectionResetError):
            assert raw.recv(4096).startswith((b"HTTP/1.1 400 ", b""))
    assert ask(served, "GET", "/v2")[0] == 200


def test_a_packed_body_that_grows_too_large_is_refused(served: Served) -> None:
    import zlib

    bomb = zlib.compress(bytes(70 * 2**20), 9)
    status, told = ask(served, "POST", "/v2/models/echo/infer", bomb, Content_Encoding="deflate")
    assert (status, "at most" in told["error"]) == (413, True)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v2/models/echo/infer", b"", 400),
        ("POST", "/v2/models/echo/infer", b"[]", 400),
        ("GET", "/v2/models/echo/infer", b"", 404),
        ("POST", "/v2/models/echo", b"", 405),
        ("GET", "/v3", b"", 404),
        ("GET", "/v2/models/nothing/ready", b"", 404),
        ("POST", "/v2/repository/index", b"{", 400),
        ("POST", "/v2/repository/index", bytes(70_000), 413),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    served: Served, method: str, path: str, body: bytes, status: int
) -> None:
    seen, told = ask(served, method, path, body)
    assert seen == status
    assert told["error"]


def test_a_client_that_goes_away_has_its_request_stopped(served: Served) -> None:
    def failures() -> int:
        told = ask(served, "GET", "/v2/models/busy/stats")[1]
        return int(told["model_stats"][0]["inference_stats"]["fail"]["count"])

    before = failures()
    asked = {"inputs": [{"name": "rounds", "shape": [1], "datatype": "INT64", "data": ENDLESS.tolist()}]}
    body = json.dumps(asked).encode()
    with socket.create_connection(("127.0.0.1", served.http_port), timeout=10.0) as raw:
        raw.sendall(
            b"POST /v2/models/busy/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )
    wait_for(lambda: failures() > before)


# Web pages


def test_requests_of_web_pages_are_refused(served: Served) -> None:
    assert ask(served, "GET", "/v2", Origin="https://example.org")[0] == 403
    assert ask(served, "GET", "/v2", Host="rebound.example.org")[0] == 403
    assert ask(served, "GET", "/v2", Host="[::1]:8000")[0] == 200


# Tokens and certificates


@pytest.fixture(scope="module")
def guarded(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon that wants a token and lets models be loaded."""
    folder = tmp_path_factory.mktemp("t")
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    with serving(folder / "d", repository, f'token_file = "{token}"\nmodel_control = true\n') as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def keyless(request: pytest.FixtureRequest, guarded: Served) -> "Iterator[HttpClient | GrpcClient]":
    made = HttpClient(guarded) if request.param == "http" else GrpcClient(guarded)
    yield made
    made.raw.close()


@pytest.mark.parametrize("headers", [None, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}])
def test_without_the_token_nothing_is_answered(
    keyless: "HttpClient | GrpcClient", headers: dict[str, str] | None
) -> None:
    for asked in (
        lambda: keyless.infer("echo", {"x": X}, headers=headers and dict(headers)),
        lambda: keyless.raw.get_server_metadata(headers=headers and dict(headers)),
    ):
        with pytest.raises(triton.InferenceServerException, match="token") as caught:
            asked()
        assert keyless.code(caught.value) in ("401", "UNAUTHENTICATED")


def test_with_the_token_everything_is(keyless: "HttpClient | GrpcClient") -> None:
    answer = keyless.infer("echo", {"x": X}, headers=bearer())
    np.testing.assert_array_equal(answer.outputs["y"], X)
    assert keyless.raw.is_server_ready(headers=bearer())


def test_a_stream_wants_the_token_too(guarded: Served) -> None:
    client = GrpcClient(guarded)
    errors: list[Any] = []
    client.raw.start_stream(lambda result, error: errors.append(error))
    with contextlib.suppress(triton.InferenceServerException):  # where the refusal is there already
        client.raw.async_stream_infer("echo", given_grpc({"x": X}))
    wait_for(lambda: bool(errors))
    assert "token" in str(errors[0])
    client.raw.stop_stream()
    client.raw.close()


def test_models_are_loaded_and_unloaded_by_name(keyless: "HttpClient | GrpcClient") -> None:
    keyless.raw.unload_model("sums", headers=bearer())
    assert not keyless.raw.is_model_ready("sums", headers=bearer())
    keyless.raw.load_model("sums", headers=bearer())
    assert keyless.raw.is_model_ready("sums", headers=bearer())
    for name, options, code in (
        ("nothing", {}, ("404", "NOT_FOUND")),
        ("../sums", {}, ("404", "NOT_FOUND")),
        ("sums", {"config": "{}"}, ("403", "PERMISSION_DENIED")),
    ):
        with pytest.raises(triton.InferenceServerException) as caught:
            keyless.raw.load_model(name, headers=bearer(), **options)
        assert keyless.code(caught.value) in code


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, and server and client certificates (NAME.pem, NAME.key) that it signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")

    def make(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True, timeout=20.0)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    make("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    for name in ("server", "client"):
        subject = ("-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key")
        make("req", "-x509", *curve, "-keyout", f"{name}.key", "-out", f"{name}.pem", *subject, *signed, "-days", "2")
    return folder


@pytest.fixture(scope="module")
def encrypted(repository: Path, certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon that wants certificates of its clients."""
    settings = "".join(
        f'{key} = "{certificates / file}"\n'
        for key, file in (("tls_certificate", "server.pem"), ("tls_key", "server.key"), ("tls_client_ca", "ca.pem"))
    )
    with serving(tmp_path_factory.mktemp("e") / "d", repository, settings) as running:
        yield running


def test_clients_with_a_certificate_are_let_in(encrypted: Served, certificates: Path) -> None:
    import ssl

    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
    over_http = HttpClient(encrypted, ssl=True, ssl_context_factory=lambda: context)
    over_grpc = GrpcClient(
        encrypted,
        ssl=True,
        root_certificates=str(certificates / "ca.pem"),
        private_key=str(certificates / "client.key"),
        certificate_chain=str(certificates / "client.pem"),
    )
    big = np.random.default_rng(1).random(100_000, np.float32)
    for client in (over_http, over_grpc):
        np.testing.assert_array_equal(client.infer("echo", {"x": big}).outputs["y"], big)
        client.raw.close()


def test_clients_without_one_are_not(encrypted: Served, certificates: Path) -> None:
    import ssl

    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    secure = http.client.HTTPSConnection("127.0.0.1", encrypted.http_port, context=context, timeout=10.0)
    with contextlib.closing(secure) as connection:
        connection.request("GET", "/v2")  # TLS 1.3 tells a client only afterwards
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            connection.getresponse()
    client = GrpcClient(encrypted, ssl=True, root_certificates=str(certificates / "ca.pem"))
    with pytest.raises(grpc.InferenceServerException, match="UNAVAILABLE"):
        client.infer("echo", {"x": X}, client_timeout=PATIENCE_S)
    client.raw.close()


# What it refuses to start with


@pytest.mark.parametrize("flag", ["--http", "--grpc"])
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1"])
def test_an_open_address_needs_protection(tmp_path: Path, repository: Path, flag: str, host: str) -> None:
    ended = run("serve", "--socket", str(tmp_path / "d.sock"), "--repository", str(repository), flag, f"{host}:0")
    assert ended.returncode == 78
    assert "front.token_file" in ended.stderr


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_taken_address_is_told(tmp_path: Path, repository: Path, served: Served, transport: str) -> None:
    address: str = getattr(served, transport)
    flags = ("--socket", str(tmp_path / "d.sock"), "--repository", str(repository), f"--{transport}", address)
    log = tmp_path / "log"
    with log.open("w") as told:  # a file, since the guard keeps it open
        ended = subprocess.run([*COMMAND, "serve", *flags], stderr=told, timeout=PATIENCE_S, check=False)
    end_owner(tmp_path / "headway-guard.sock")
    assert ended.returncode == 69, log.read_text()
    assert address in log.read_text()
    assert "loaded" not in log.read_text()  # it is told before models are loaded for nothing


# The end


def wait_until_refused(client: "HttpClient | GrpcClient") -> str:
    """Return the code of the first request that is refused because the daemon drains."""
    codes: list[str] = []

    def refused() -> bool:
        try:
            client.infer("echo", {"x": X})
        except triton.InferenceServerException as error:
            if "draining" not in str(error):
                raise
            codes.append(client.code(error))
        return bool(codes)

    wait_for(refused)
    client.raw.close()
    return codes[0]


def test_a_draining_daemon_answers_what_it_has_and_refuses_the_rest(tmp_path: Path, repository: Path) -> None:
    with serving(tmp_path / "d", repository) as running:
        first, second = HttpClient(running), GrpcClient(running)
        ended: list[Any] = []

        def last() -> None:
            try:
                ended.append(HttpClient(running).infer("busy", {"rounds": ENDLESS}, timeout=1_500_000))
            except triton.InferenceServerException as error:
                ended.append(error)

        waiting = threading.Thread(target=last)
        with headway.Client(tmp_path / "d" / "d.sock", timeout_s=PATIENCE_S) as watching:
            decisions = watching.events("decision", timeout_s=PATIENCE_S)
            waiting.start()
            next(decisions)  # the request is taken
        running.process.terminate()
        try:
            wait_for(lambda: not first.raw.is_server_ready())
            assert not second.raw.is_server_ready()
            assert wait_until_refused(first) == "503"
            assert wait_until_refused(second) == "UNAVAILABLE"
        except (OSError, triton.InferenceServerException) as gone:  # it had drained before a busy machine let us look
            if not isinstance(gone, OSError) and gone.status() != "StatusCode.UNAVAILABLE":
                raise
            assert running.process.wait(PATIENCE_S) == 0
        waiting.join()
        assert str(ended[0].status()) == "504"
        assert running.process.wait(PATIENCE_S) == 0
