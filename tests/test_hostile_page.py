"""Attacks on the served page over HTTP: files, hosts, other pages, broken and endless requests, memory."""

import contextlib
import io
import json
import os
import socket
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from PIL import Image
from skimage import data

import app
import config
from ferlib.explanations.records import Attribution
from ferlib.faces.face_model import FaceModel
from ferlib.runtime.errors import UserError
from ferlib.runtime.runs import shipped_checkpoint
from ferlib.webpage import answers, connections, guard, photo_results, sessions
from ferlib.webpage import server as app_server
from ferlib.webpage import uploads as app_uploads
from ferlib.webpage.computations import Computations
from ferlib.webpage.guard import own_names
from ferlib.webpage.refusals import Refusal
from ferlib.webpage.resources import Resources
from ferlib.webpage.results import Results
from ferlib.webpage.uploads import MISSING, Uploads

JOIN, MESSAGES, UPLOAD = "/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/upload"
# of the settings of all methods: LIME, SHAP, regions, SmoothGrad, integrated gradients, occlusion
DEFAULTS = [1000, "auto", "grey", 50, "ten", "grey", 50, 0.03, 50, "grey", 0.2, 0.1, "grey"]
LARGEST = 2**20  # bytes of an upload


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The served page: its address, its Blocks and stores, its functions by name."""
    kept = SimpleNamespace()
    make_app = app_server.make_app

    def remember(page, results, uploads, host, port):
        kept.page, kept.results, kept.uploads = page, results, uploads
        kept.app = make_app(page, results, uploads, host, port)
        return kept.app

    flags = config.App(
        port=8760, detector="haar", device="cpu", outputs_dir=tmp_path_factory.mktemp("runs"), max_upload_mb=1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_server, "make_app", remember)
        with app.running(flags) as address:
            kept.address = address.rstrip("/")
            functions = kept.page.fns.values()
            kept.model = next(block for block in functions if len(block.inputs) == 4).inputs[2].value
            kept.predict = next(block._id for block in functions if len(block.inputs) == 4)
            kept.explain = next(block._id for block in functions if len(block.inputs) == 4 + len(DEFAULTS))
            kept.choose = next(block._id for block in functions if block.collects_event_data and block.inputs)
            kept.example = next(block._id for block in functions if block.collects_event_data and not block.inputs)
            yield kept


@pytest.fixture
def client(site):
    with httpx.Client(base_url=site.address, timeout=30) as opened:
        yield opened


def png(picture=None):
    buffer = io.BytesIO()
    Image.fromarray(data.astronaut() if picture is None else picture).save(buffer, "PNG")
    return buffer.getvalue()


def upload(client, content=None, name="photo.png"):
    answer = client.post(UPLOAD, files={"files": (name, content or png())})
    assert answer.status_code == 200, answer.text
    return answer.json()[0]


def photo_event(site, picture, session="", **changes):
    event = {"data": [picture, None, site.model, "haar"], "fn_index": site.predict, "trigger_id": 7}
    return event | {"session_hash": session or uuid.uuid4().hex[:11]} | changes


def explain_event(site, session, settings=DEFAULTS, method="gradcam", target=answers.PREDICTED):
    values = [None, None, method, target, *settings]
    return {"data": values, "fn_index": site.explain, "session_hash": session}


def ask(client, event):
    """Posts an event and waits for its outputs."""
    answer = client.post(JOIN, json=event)
    assert answer.status_code == 200, answer.text
    with client.stream("GET", MESSAGES, params={"session_hash": event["session_hash"]}) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line else {}
            if message.get("msg") == "process_completed":
                assert message["success"], message
                return message["output"]["data"]
    raise AssertionError("no answer")


def answers_well(client, site):
    """Whether a good photo still gets its face."""
    return "1 face found" in ask(client, photo_event(site, {"path": upload(client)}))[2]


def refused(answer, status):
    """The sentence of a refusal."""
    assert answer.status_code == status, answer.text
    text = answer.json()["detail"] if answer.headers["content-type"] == "application/json" else answer.text
    assert text[0].isupper() or text.startswith("“")
    assert text.endswith(".")
    return text


@pytest.fixture
def quiet(capfd, caplog):
    """Counts the lines that the terminal got."""
    return lambda: capfd.readouterr().err.count("\n") + len(caplog.messages)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def outside(tmp_path):
    """A picture that nobody uploaded."""
    path = tmp_path / "secret.png"
    path.write_bytes(png())
    return path


def forbidden(site, outside):
    """Names of everything that is no upload."""
    folder = site.uploads.folder
    link, pipe = folder / "link.png", folder / "pipe.png"
    if not link.is_symlink():
        link.symlink_to(outside)
        os.mkfifo(pipe)
    relative = os.path.relpath(outside, folder)
    return {
        "picture": str(outside),
        "link": str(link),
        "pipe": str(pipe),
        "dots": f"{folder}/{relative}",
        "folder": str(folder),
        "absent": str(folder / "absent.png"),
        "absent elsewhere": "/nowhere/absent.png",
        "no picture": "/etc/passwd",
        "device": "/dev/zero",
        "file address": f"file://{outside}",
        "address": "http://127.0.0.1:9/photo.png",
        "data": "data:image/png;base64,iVBORw0KGgo=",
        "nul": f"{folder}\0",
        "long": "a/" * 3000,
        "empty": "",
        "number": 3,
        "none": None,
        "list": [str(outside)],
    }


def test_nothing_but_uploads_is_opened_and_all_else_gets_the_same_answer(site, client, outside):
    for name, path in forbidden(site, outside).items():
        for meta in ({}, {"meta": {"_type": "gradio.FileData"}}):
            answer = client.post(JOIN, json=photo_event(site, {"path": path, "url": path, **meta}))
            assert refused(answer, 400) == MISSING, name
    for picture in (str(outside), [{"path": str(outside)}], 3, True):
        assert refused(client.post(JOIN, json=photo_event(site, picture)), 400) == MISSING
    assert answers_well(client, site)


def test_nothing_but_uploads_is_served(site, client, outside):
    own = upload(client)
    assert client.get(f"/gradio_api/file={own}").content == png()
    for name, path in forbidden(site, outside).items():
        if isinstance(path, str) and path and name != "long":
            assert refused(client.get("/gradio_api/file=" + path.replace("\0", "%00")), 404) == MISSING, name
    for path in ("/assets/../../../../etc/passwd", "/static/%2e%2e/%2e%2e/etc/passwd", "/assets//etc/passwd"):
        assert raw(site, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith("HTTP/1.1 404")


@pytest.mark.parametrize(
    "path",
    [
        "run/predict", "api/predict", "call/predict", "call/v2/predict", "component_server", "stream/1", "reset",
        "cancel", "proxy=http://127.0.0.1:9/", "custom_component/1/client/component/x", "info", "openapi.json", "runs",
        "queue/status", "dev/reload", "deep_link", "stream/a/b/1/playlist-file", "startup-events", "vibe-edit/",
        "user", "token", "login_check", "../config", "../login", "../logout", "../monitoring", "../pwa_icon/100000",
        "../docs", "../gradio_api/file/etc/passwd",
    ],
)  # fmt: skip
def test_what_the_page_does_not_use_is_not_served(site, client, path):
    body = json.dumps(photo_event(site, None)).encode()
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        refused(client.request(method, f"/gradio_api/{path}", content=body), 404)


def test_names_of_uploads_do_not_leave_the_browser(site, client):
    for name in (
        "<img src=x onerror=alert(1)>.png",
        "../../../evil.png",
        "a\0b.svg",
        "/etc/passwd",
        "x" * 300 + ".html",
    ):
        path = upload(client, name=name)
        assert Path(path).parent.parent == site.uploads.folder
        assert Path(path).name in ("photo.png", "photo")


def test_an_upload_is_one_file_that_is_not_copied(site, client):
    path = upload(client)
    before = set(site.uploads.files())
    ask(client, photo_event(site, {"path": path, "meta": {"_type": "gradio.FileData"}}))
    assert set(site.uploads.files()) == before


# ── hosts and origins ────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_names_of_this_computer_are_answered(site, client):
    for host in (
        "evil.example",
        "evil.example:8760",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "a b",
    ):
        headers = {"Host": host, "Origin": f"http://{host}"}
        refused(client.get("/", headers=headers), 421)
        refused(client.post(JOIN, json=photo_event(site, None), headers=headers), 421)
        refused(client.post(UPLOAD, files={"files": ("a.png", png())}, headers=headers), 421)
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9999", "[::1]", "[::1]:8760"):
        assert client.get("/", headers={"Host": host}).status_code == 200


def test_a_page_for_the_network_is_asked_for_by_addresses_and_this_computers_names():
    names = own_names("0.0.0.0")
    for host in (f"{socket.gethostname()}:7860", "192.168.7.7:7860", "[fe80::1]", "localhost"):
        guard.check_host(guard.Headers({"host": host}), names)
    with pytest.raises(Refusal):
        guard.check_host(guard.Headers({"host": "evil.example"}), names)
    guard.check_host(guard.Headers({"host": "box.lan:80"}), own_names("box.lan"))
    with pytest.raises(Refusal):
        guard.check_host(guard.Headers({"host": "192.168.7.7"}), own_names("box.lan"))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1:8760"},
        {"Referer": "http://evil.example/page"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_pages_are_refused(site, client, headers):
    refused(client.post(JOIN, json=photo_event(site, None), headers=headers), 403)
    refused(client.post(UPLOAD, files={"files": ("a.png", png())}, headers=headers), 403)
    refused(client.get(MESSAGES, params={"session_hash": "a"}, headers=headers), 403)
    own = upload(client)
    refused(client.get(f"/gradio_api/file={own}", headers=headers), 403)


def test_the_page_itself_links_to_it_and_programs_are_served(site, client):
    own = {"Origin": site.address, "Referer": f"{site.address}/", "Sec-Fetch-Site": "same-origin"}
    assert client.post(JOIN, json=photo_event(site, None), headers=own).status_code == 200
    link = {"Referer": "http://evil.example/", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    refused(client.get("/", headers={**link, "Sec-Fetch-Mode": "no-cors"}), 403)
    simple = {"Content-Type": "text/plain"}  # which a browser posts for a foreign page without asking
    refused(client.post(JOIN, content=json.dumps(photo_event(site, None)), headers=simple), 415)


def test_answers_forbid_frames_guessed_types_and_foreign_requests(client):
    for path in ("/", "/theme.css", "/gradio_api/runs"):
        headers = client.get(path, headers={"Origin": str(client.base_url).rstrip("/")}).headers
        policy = headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "connect-src 'self' data: blob:;" in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert not [name for name in headers if name.startswith("access-control") or name == "server"]


def test_another_address_is_not_taken_from_headers(client):
    for name in ("X-Forwarded-Host", "X-Gradio-Server", "X-Forwarded-Proto", "Forwarded"):
        assert "evil.example" not in client.get("/", headers={name: "http://evil.example"}).text


def test_websockets_are_refused(site):
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += "Sec-WebSocket-Key: YWJjZGVmZ2hpamtsbW5vcA==\r\n"
    assert "101" not in raw(site, f"GET {JOIN} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n")[:20]


# ── broken requests ──────────────────────────────────────────────────────────────────────────────────────────────────


def raw(site, request, wait=5.0):
    """What a connection answers to bytes."""
    host, port = site.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(request if isinstance(request, bytes) else request.encode("latin-1"))
        return connection.recv(4096).decode("latin-1")


def broken_events(site):
    """Bodies that the page cannot send."""
    good = photo_event(site, None)
    explain = explain_event(site, "abc")
    yield from (b"", b"{", b"[]", b"null", b"3", b'"text"', b"\xff\xfe", b"NaN", b"{}", b'{"data": []}')
    yield from (b"[" * 100_000, b'{"data":' * 20_000, b'{"data": ' + b"[" * 50_000 + b"]" * 50_000 + b"}")
    yield from (json.dumps(good)[:-5].encode(), b'{"fn_index": 1e999}', b'{"fn_index": ' + b"9" * 6000 + b"}")
    for name in ("data", "fn_index", "session_hash"):
        yield json.dumps({key: value for key, value in good.items() if key != name}).encode()
    for fn_index in (-1, 99, 10**30, "0", None, True, 1.5, [], {}):
        yield json.dumps(good | {"fn_index": fn_index}).encode()
    for session in ("", "../x", "a" * 100, 3, None, [], {}, "é", "a b"):
        yield json.dumps(good | {"session_hash": session}).encode()
    for trigger in ("7", -1, [], 1.5, True):
        yield json.dumps(good | {"trigger_id": trigger}).encode()
    for values in ([], [None], [None] * 3, [None] * 5, None, {}, "text", 3):
        yield json.dumps(good | {"data": values}).encode()
    for wrong in (None, 3, True, [], {}, "no such", float("nan"), "x" * 10_000, "\ud800"):
        for place in (2, 3):
            yield json.dumps(good | {"data": [*good["data"][:place], wrong, *good["data"][place + 1 :]]}).encode()
        for place in (2, 3, 5):
            yield json.dumps(
                explain | {"data": [*explain["data"][:place], wrong, *explain["data"][place + 1 :]]}
            ).encode()
    for place, wrongs in {4: (99, 4001, 10**9, -1), 7: (0, 201), 10: (0, 10**6), 12: (0.05, 0.6, -1)}.items():
        for wrong in (*wrongs, float("nan"), float("inf"), None, "50", True, []):
            yield json.dumps(
                explain | {"data": [*explain["data"][:place], wrong, *explain["data"][place + 1 :]]}
            ).encode()
    for number in (None, "1", -1, 10**9, 1.5, float("nan"), [], True):
        for fn_index, values in ((site.example, []), (site.choose, [None])):
            event = {"data": values, "fn_index": fn_index, "session_hash": "abc"}
            yield json.dumps(event | {"event_data": {"number": number}}).encode()
            yield json.dumps(event | {"event_data": number}).encode()


def test_broken_events_get_a_sentence_and_the_terminal_no_line(site, client, quiet):
    headers = {"Content-Type": "application/json"}
    bodies = list(broken_events(site))
    assert len(bodies) > 150
    for body in bodies:
        answer = client.post(JOIN, content=body, headers=headers)
        assert answer.status_code in (400, 413), (body[:200], answer.text)
        refused(answer, answer.status_code)
    for kind in ("", "text/html", "multipart/form-data", "application/json;charset=\xff"):
        answer = client.post(JOIN, content=b"{", headers={"Content-Type": kind.encode("latin-1")})
        refused(answer, 400 if kind.startswith("application/json") else 415)
    assert answers_well(client, site)
    assert quiet() == 0


def part(boundary, disposition='form-data; name="files"; filename="a.png"', content=b"x", end=b"--"):
    return b"--%s\r\nContent-Disposition: %s\r\n\r\n%s\r\n--%s%s\r\n" % (
        boundary, disposition.encode(), content, boundary, end,
    )  # fmt: skip


def test_broken_uploads_get_a_sentence_and_the_terminal_no_line(site, client, quiet):
    good, form = part(b"b"), "multipart/form-data; boundary=b"
    two = part(b"b", end=b"")[:-5] + good
    for kind, body in [
        ("", good), ("text/plain", good), ("multipart/form-data", good), ("multipart/form-data; boundary=", good),
        ("multipart/form-data; boundary=other", good), (form, b""), (form, b"x"), (form, good[:-9]), (form, two),
        (form, part(b"b", 'form-data; filename="a.png"')), (form, part(b"b", "nothing")), (form, part(b"b", "")),
        (form, part(b"b", 'form-data; name="files"')), (form, b"--b\r\n" + b"A: b\r\n" * 5000 + b"\r\n"),
        (form, b"--b\r\nA" * 20_000), ("multipart/form-data; boundary=" + "b" * 5000, good),
        ("multipart/form-data; charset=x; boundary=b", part(b"b", 'form-data; name="a"; filename="\xe9"') + b"z"),
        ("application/x-www-form-urlencoded", b"files=a" * 100), ("application/json", b"{}"),
    ]:  # fmt: skip
        answer = client.post(UPLOAD, content=body, headers={"Content-Type": kind})
        assert answer.status_code in (200, 400), (kind, body[:80], answer.text)
        assert answer.status_code == 400 or list(site.uploads.files())
    assert answers_well(client, site)
    assert quiet() == 0


@pytest.mark.parametrize(
    "request_text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /gradio_api/queue/data?session_hash=%ff%00&session_hash HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request_gets_one_line_at_most(site, request_text, quiet):
    answer = raw(site, request_text)
    assert answer.startswith("HTTP/1.1 4"), answer
    assert quiet() <= 1


def test_no_session_is_known_before_its_event(client, quiet):
    for session in ("unknown", "", "../x", "a" * 200):
        refused(client.get(MESSAGES, params={"session_hash": session}), 404)
    refused(client.get(MESSAGES), 404)
    assert quiet() == 0


def test_a_fault_of_the_server_is_one_line(site, client, monkeypatch, quiet):
    monkeypatch.setattr(Uploads, "find", lambda *_: 1 / 0)
    assert client.get("/gradio_api/file=x").status_code == 500
    time.sleep(0.1)
    assert quiet() == 1


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_large_bodies_are_refused(site, client, monkeypatch):
    event = photo_event(site, None) | {"event_data": "x" * guard.EVENT_BYTES}
    refused(client.post(JOIN, json=event), 413)
    refused(
        client.post(JOIN, content=(b"x" * 10_000 for _ in range(20)), headers={"Content-Type": "application/json"}), 413
    )
    sentence = "The file is too large: more than 1 MiB are refused."
    for size in (LARGEST + 1, 5 * LARGEST):
        answer = client.post(UPLOAD, files={"files": ("a.png", bytes(size))})
        assert refused(answer, 413) == sentence
    assert client.post(UPLOAD, files={"files": ("a.png", bytes(LARGEST))}).status_code == 200


def test_a_body_that_does_not_end_is_refused_in_time(site, client, monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.3)
    for path, kind in ((JOIN, "application/json"), (UPLOAD, "multipart/form-data; boundary=b")):
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 999\r\n\r\n--b"
        assert raw(site, head).startswith("HTTP/1.1 408")
    assert answers_well(client, site)


def test_a_connection_that_sends_no_head_is_closed(site, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    for start in ("", "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "):
        before = time.monotonic()
        assert raw(site, start) in ("", None)
        assert time.monotonic() - before < 3


def test_uploads_and_streams_at_once_are_bounded(site, client, monkeypatch):
    monkeypatch.setattr(guard, "UPLOADS_AT_ONCE_OF_CLIENT", 0)
    monkeypatch.setattr(guard, "STREAMS_AT_ONCE_OF_CLIENT", 0)
    refused(client.post(UPLOAD, files={"files": ("a.png", png())}), 429)
    refused(client.get("/gradio_api/heartbeat/abc"), 429)


def test_sessions_and_their_unread_answers_are_bounded(site, client, monkeypatch):
    monkeypatch.setattr(sessions, "SESSIONS", 5)
    monkeypatch.setattr(site.page.state_holder, "capacity", 5)
    for _ in range(12):
        ask(client, photo_event(site, None))
    queue = site.page._queue
    assert len(site.app.sessions.used) <= 6
    for table in (
        queue.pending_messages_per_session,
        queue.pending_event_ids_session,
        site.page.state_holder.session_data,
    ):
        assert len(table) <= 6
    states = [client.post(JOIN, json=photo_event(site, None, "unread")).status_code for _ in range(sessions.UNREAD + 2)]
    assert states == [200] * sessions.UNREAD + [429] * 2
    assert answers_well(client, site)


def test_old_uploads_make_room_for_new_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(app_uploads, "FILES", 5)
    monkeypatch.setattr(app_uploads, "FILES_OF_CLIENT", 3)
    store = Uploads(tmp_path, max_file_bytes=100, keep_seconds=60)
    first = store.add(b"1", "a.png", "neighbour")
    own = [store.add(bytes([number]), "a.png", "me") for number in range(6)]
    assert [path.exists() for path in (first, *own)] == [True, False, False, False, True, True, True]
    others = [store.add(b"2", "a.png", f"other {number}") for number in range(3)]
    assert not first.exists()
    assert len(list(store.files())) == len(store.kept) == 5
    assert others[-1].exists()
    for number in range(30):
        store.add(bytes(100), "a.png", f"large {number}")
    assert sum(path.stat().st_size for path in store.files()) <= app_uploads.VOLUME * 100
    assert {path.parent for path in store.files()} == set(tmp_path.iterdir())  # no empty folders


def test_what_is_old_is_deleted_and_forgotten(tmp_path):
    store, results = Uploads(tmp_path, 100, keep_seconds=60), Results(keep_seconds=0)
    old, new = store.add(b"1", "a.png", ""), store.add(b"2", "a.png", "")
    (tmp_path / "gradio").mkdir()
    (tmp_path / "gradio" / "image.webp").write_bytes(b"3")
    for path in (old, tmp_path / "gradio" / "image.webp"):
        os.utime(path, (1, 1))
    store.expire()
    assert list(store.files()) == [new]
    assert store.find(str(old)) is None
    token = results.add(SimpleNamespace(volume=1))
    time.sleep(0.01)
    assert results.find(token) is None
    assert results.kept == {}


def test_a_full_disk_is_a_sentence(site, client, monkeypatch, quiet):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(app_uploads.Path, "write_bytes", full)
        answer = client.post(UPLOAD, files={"files": ("a.png", png())})
    assert "the disk" in refused(answer, 507)
    assert answers_well(client, site)
    assert quiet() == 0


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_of_a_large_photo_little_is_kept(tmp_path):
    photo = np.asarray(Image.fromarray(data.astronaut()).resize((2400, 2400)))
    Image.fromarray(photo).save(tmp_path / "large.jpg")
    resources = Resources({"m": shipped_checkpoint()}, device="cpu", detector="haar")
    result = photo_results.predict_upload(str(tmp_path / "large.jpg"), "m", "haar", resources)
    assert len(result.faces) >= 1
    assert result.volume < 10**6
    assert not hasattr(result, "pixels")
    assert all(not isinstance(value, np.ndarray) or value.nbytes < 10**5 for value in vars(result).values())


def test_results_are_bounded_in_number_and_bytes():
    results = Results(keep_seconds=60)
    tokens = [results.add(SimpleNamespace(volume=10)) for _ in range(60)]
    assert len(results.kept) == 50
    assert results.find(tokens[0]) is None
    assert results.find(tokens[-1]) is not None
    for _ in range(5):
        results.add(SimpleNamespace(volume=40 * 2**20))
    assert results.volume <= 100 * 2**20


# ── networks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_network_without_numbers_is_a_sentence(site, client, monkeypatch, quiet):
    picture = {"path": upload(client)}
    with monkeypatch.context() as patch:
        patch.setattr(FaceModel, "probabilities", lambda _self, crops: np.full((len(crops), 7), np.nan, np.float32))
        assert "gives no numbers" in ask(client, photo_event(site, picture, "nan"))[2]
    ask(client, photo_event(site, picture, "nan"))
    with monkeypatch.context() as patch:
        nan = Attribution(np.full((44, 44), np.nan, np.float32))
        patch.setattr(answers, "explain_faces", lambda *_, **__: [nan])
        assert "has no numbers" in ask(client, explain_event(site, "nan"))[0]
    assert "Why Happy" in ask(client, explain_event(site, "nan"))[0]
    assert quiet() == 0


def test_a_network_that_does_not_answer_is_a_sentence(monkeypatch):
    computations = Computations(seconds=0.2)
    with pytest.raises(UserError, match=r"more than 0\.2 seconds"):
        computations.run(lambda: time.sleep(0.7))
    with pytest.raises(UserError, match="does not end"):
        computations.run(lambda: 1)
    time.sleep(0.5)
    assert computations.run(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        computations.run(lambda: 1 / 0)


def test_an_explanation_that_takes_too_long_ends(site, client, monkeypatch):
    picture = {"path": upload(client)}
    ask(client, photo_event(site, picture, "slow"))
    settings = [4000, *DEFAULTS[1:]]
    with monkeypatch.context() as patch:
        patch.setattr(answers, "TOO_LONG", "It ended after {seconds:g}.")
        clock = SimpleNamespace(monotonic=iter(range(0, 10**6, 1000)).__next__, perf_counter=time.perf_counter)
        patch.setattr(answers, "time", clock)
        assert "It ended after 180." in ask(client, explain_event(site, "slow", settings, "lime"))[0]


def test_too_little_memory_and_unreadable_files_are_sentences(site, client, monkeypatch, quiet):
    picture = {"path": upload(client)}
    for error, words in ((MemoryError(), "too little memory"), (PermissionError(13, "denied"), "the terminal says")):

        def fail(*_, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(answers, "predict_upload", fail)
            assert words in ask(client, photo_event(site, picture))[2]
    assert quiet() == 1


def test_broken_pictures_and_formats_that_other_programs_open_are_refused(tmp_path, monkeypatch):
    picture = Image.fromarray(data.astronaut()[:64, :64])
    for kind in ("EPS", "PDF", "PPM", "QOI", "DDS"):
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        (tmp_path / "photo.png").write_bytes(buffer.getvalue())
        with pytest.raises(UserError, match="cannot be read as a picture"):
            photo_results.read_upload(str(tmp_path / "photo.png"), 10**6)
    (tmp_path / "photo.png").write_bytes(png())
    for error in photo_results.BROKEN:

        def fail(*_, error=error):
            raise error("broken")

        monkeypatch.setattr(photo_results, "read_photo", fail)
        with pytest.raises(UserError, match="cannot be read as a picture"):
            photo_results.read_upload(str(tmp_path / "photo.png"), 10**6)


def test_words_of_a_person_are_no_html(site, client):
    hostile = "<img src=x onerror=alert(1)>"
    picture = {"path": upload(client)}
    ask(client, photo_event(site, picture, "html"))
    settings = [*DEFAULTS[:2], hostile, *DEFAULTS[3:]]
    (shown,) = ask(client, explain_event(site, "html", settings, "lime"))
    assert "<img" not in shown
    assert "&lt;img" in shown
