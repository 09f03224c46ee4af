"""The server as other programs meet it."""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from starlette.testclient import TestClient

from gensynth.errors import InputError, OutputError, UsageError
from gensynth.sampling.outputs import read_recipe
from gensynth_serve.queue.jobs import Done, Failed
from gensynth_serve.queue.order import Order
from gensynth_serve.web.app import create_app, serve

PATIENCE = 120  # seconds until something is taken for stuck, also on a busy machine
GOOD = {"labels": [8], "num": 2, "seed": 7, "steps": 3, "guidance": 2.0, "settings": ""}


@pytest.fixture
def http():
    with httpx.Client(timeout=PATIENCE) as client:
        yield client


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloads")
    return Client(server.url, verbose=False, download_files=str(folder))


def test_says_where_it_is_when_it_is_ready(server, model_folder):
    assert server.ready == f"gensynth serves {model_folder.name} at {server.url}  (Ctrl-C stops)\n"
    assert server.url.startswith("http://127.0.0.1:")


def test_health_check(http, server):
    answer = http.get(f"{server.url}/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/", "/healthz", "/config", "/nothing"])
def test_security_headers(http, server, path):
    headers = http.get(server.url + path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil", ""])
def test_another_name_for_this_machine_is_refused(http, server, host):
    assert http.get(f"{server.url}/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost:1234", "127.0.0.1", "[::1]:7860"])
def test_local_names_are_accepted(http, server, host):
    assert http.get(f"{server.url}/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.2:80", "LOCALHOST", "[::1]"])
def test_every_loopback_address_is_ours(http, server, host):
    assert http.get(f"{server.url}/healthz", headers={"host": host}).status_code == 200


def test_a_foreign_page_may_neither_call_nor_upload(http, server):
    foreign = {"origin": "http://evil.example", "sec-fetch-site": "cross-site"}
    answer = http.post(f"{server.url}/gradio_api/call/generate", json={"data": []}, headers=foreign)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    upload = {"files": ("x.png", bytes(2_000_000))}
    answer = http.post(f"{server.url}/gradio_api/upload", files=upload, headers=foreign)
    assert answer.status_code == 403


def test_a_request_that_is_too_large_leaves_the_server_well(http, server):
    body = b'{"data":["' + b"a" * 5_000_000 + b'"]}'
    answer = http.post(f"{server.url}/gradio_api/call/generate", content=body)
    assert (answer.status_code, answer.json()) == (
        413,
        {"detail": "The request is larger than 1 MB."},
    )
    assert http.get(f"{server.url}/healthz").status_code == 200


def test_where_the_model_lies_is_not_on_the_page(http, server, model_folder):
    for path in ("/", "/config", "/gradio_api/info"):
        text = http.get(server.url + path).text
        assert model_folder.name in text
        assert str(model_folder.parent) not in text


@pytest.mark.parametrize("call", ["call/nothing", "call/v2/nothing"])
def test_a_function_that_does_not_exist(http, server, call):
    answer = http.post(f"{server.url}/gradio_api/{call}", json={"data": []})
    assert answer.status_code == 400
    assert "no such function" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path", ["/openapi.json", "/docs", "/redoc", "/monitoring/summary", "/gradio_api/monitoring"]
)
def test_nothing_lists_what_there_is(http, server, path):
    assert http.get(server.url + path).status_code in (403, 404)


@pytest.mark.parametrize("name", ["generate", "restore", "select", "choose_model"])
def test_there_is_no_way_around_the_queue(http, server, name):
    answer = http.post(f"{server.url}/gradio_api/run/{name}", json={"data": []})
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../etc/passwd", "%2fetc%2fpasswd", "/proc/self/environ", "serve"]
)
def test_no_file_of_the_machine_is_served(http, server, path):
    assert http.get(f"{server.url}/gradio_api/file={path}").status_code in (403, 404)


def test_one_public_endpoint(client):
    api = client.view_api(return_format="dict")["named_endpoints"]
    assert list(api) == ["/generate"]
    names = [parameter["parameter_name"] for parameter in api["/generate"]["parameters"]]
    assert names == [
        "model",
        "labels",
        "num",
        "seed",
        "steps",
        "guidance",
        "settings",
        "prompt",
        "negative",
    ]


def test_a_program_can_generate(client, model_folder):
    client.reset_session()  # other tests have drawn into its gallery
    live, gallery = client.predict(model_folder.name, **GOOD, api_name="/generate")
    assert "seeds 7-8" in live
    recipes = [read_recipe(item["image"]) for item in gallery]
    assert [recipe["seed"] for recipe in recipes] == [8, 7]
    assert {recipe["model"] for recipe in recipes} == {model_folder.name}


def test_further_settings_are_drawn_with_and_recorded(client, model_folder):
    further = {
        "guidance_interval": [0.1, 0.7],
        "scheduler": "FlowODEScheduler",
        "scheduler_options": {"method": "heun"},
        "size": [16, 24],
        "guide": model_folder.name,
    }
    asked = {**GOOD, "num": 1, "settings": json.dumps(further)}
    _, gallery = client.predict(model_folder.name, **asked, api_name="/generate")
    recipe = read_recipe(gallery[0]["image"])
    assert further.items() <= recipe.items()
    with Image.open(gallery[0]["image"]) as picture:
        assert picture.size == (24, 16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num": 2.5}, "whole number from 1 to 16"),
        ({"num": True}, "whole number from 1 to 16"),
        ({"steps": 20.7}, "whole number from 1 to 250"),
        ({"steps": 251}, "whole number from 1 to 250"),
        ({"guidance": float("nan")}, "number from 0 to 20"),
        ({"guidance": 1e999}, "number from 0 to 20, got inf"),
        ({"seed": 2**32}, "whole number from 0 to 4294967295"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"labels": []}, "at least one class"),
        ({"num": "abc"}, "whole number from 1 to 16, got 'abc'"),
        ({"steps": None}, "whole number from 1 to 250, got nothing"),
        ({"guidance": [2.0]}, "number from 0 to 20, got [2.0]"),
        ({"seed": {}}, "seed must be a whole number"),
        ({"labels": 8}, "such as [0, 3], got 8"),
        ({"labels": {"8": 1}}, "such as [0, 3], got {"),
        ({"labels": [10]}, "knows 0-9"),
        ({"labels": ["Bagg"]}, "Did you mean 'Bag'"),
        (
            {"settings": '{"shceduler": "x"}'},
            "There is no setting 'shceduler'. Known: guidance_int",
        ),
        ({"settings": '{"guide": "/etc"}'}, "There is no guide '/etc' here. Served: "),
        ({"settings": '{"scheduler_options": {"rtol": 1e-12}}'}, "Allowed here: form, greedy"),
        (
            {"settings": '{"scheduler_options": {"num_train_timesteps": 9}}'},
            "Allowed here: form, greedy",
        ),
        ({"settings": '{"size": [32, 136]}'}, "may have 128 pixels at most"),
        ({"settings": '{"size": 30}'}, "Nearest: 32x32"),
        ({"settings": '{"scheduler": "DDPMScheduler"}'}, "does not fit"),
        ({"settings": '{"guidance_interval": [0.7, 0.2]}'}, "low < high"),
        ({"settings": "scheduler=x"}, "Settings are JSON"),
        ({"settings": "[" * 9000}, "Settings are JSON"),
        ({"settings": '["scheduler"]'}, "names with values"),
        ({"settings": 7}, "names with values"),
    ],
    ids=str,
)
def test_wrong_values_are_refused_in_a_sentence(http, server, model_folder, change, words):
    values = {**GOOD, **change}
    data = [model_folder.name, *(values[key] for key in GOOD), None]
    call = f"{server.url}/gradio_api/call/generate"
    body = json.dumps({"data": data})  # Python writes NaN and Infinity as no client should
    event = http.post(call, content=body, headers={"content-type": "application/json"}).json()
    answer = http.get(f"{call}/{event['event_id']}").text
    assert "event: error" in answer
    assert words in answer


def test_an_unknown_model_is_refused(client):
    with pytest.raises((AppError, ValueError)):
        client.predict("../../etc", **GOOD, api_name="/generate")


def test_sigterm_ends_a_running_job(own_server, model_folder):
    long = {**GOOD, "num": 16, "steps": 250}
    client = Client(own_server.url, verbose=False)
    job = client.submit(model_folder.name, **long, api_name="/generate")
    deadline = time.monotonic() + PATIENCE
    while not any("step" in str(output) for output in job.outputs()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert own_server.stop() == 0


def test_a_busy_port_is_found_before_a_model_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OutputError) as caught:
            serve(["no/such/model"], port=port)
    assert str(caught.value) == (
        f"port {port} on 127.0.0.1 is in use. "
        f"Stop the other program or choose another: --port {port + 1}"
    )


def test_an_address_that_is_not_ours():
    with pytest.raises((OutputError, UsageError), match=r"192\.0\.2\.1"):
        serve(["no/such/model"], host="192.0.2.1", port=0)


def test_an_open_server_warns(capsys, tmp_path):
    with pytest.raises(InputError):
        serve([str(tmp_path)], host="0.0.0.0", port=0)
    assert "no password" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "root"),
    [
        ({"hosts": ["pictures.example"]}, "http://pictures.example"),
        ({"hosts": ["https://pictures.example"]}, "https://pictures.example"),
        (
            {"hosts": ["https://pictures.example"], "root_path": "/draw"},
            "https://pictures.example/draw",
        ),
        ({"root_path": "https://pictures.example/draw"}, "https://pictures.example/draw"),
    ],
)
def test_the_page_knows_where_it_is_seen(model_folder, options, root):
    host = "pictures.example" if "hosts" in options else "127.0.0.1:7860"
    app = create_app([str(model_folder)], **options)
    with TestClient(app, base_url=f"http://{host}") as client:
        assert client.get("/config").json()["root"] == root
        assert f'"root":"{root}"' in client.get("/").text.replace('": "', '":"')
        assert client.get("/theme.css").status_code == 200
        path = client.get("/").text.partition('src="./assets/')[2].partition('"')[0]
        assert client.get(f"/assets/{path}").status_code == 200


def test_what_is_wrong_without_a_model_is_said_without_heavy_imports():
    wrong = """
import sys
from gensynth.errors import GensynthError
from gensynth_serve.web.app import serve
try:
    serve(["no/such/model"], root_path="draw")
except GensynthError as error:
    print(error.exit_code, [name for name in ("torch", "gradio") if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", wrong], capture_output=True, text=True)
    assert ended.stdout == "2 []\n", ended.stderr


def test_odd_options_are_refused_before_a_model_is_loaded():
    for options, words in [
        ({"public_hosts": ["a b"]}, "--public-host"),
        ({"root_path": "draw"}, "--root-path"),
        ({"proxies": ["x"]}, "--proxy"),
    ]:
        with pytest.raises(UsageError, match=words):
            serve(["no/such/model"], **options)


def test_an_app_needs_a_model():
    with pytest.raises(UsageError, match="at least one model"):
        create_app([])


@pytest.mark.parametrize("optimize", [True, False])
def test_an_optimized_app_says_how(model_folder, capsys, optimize):
    app = create_app([str(model_folder)], optimize=optimize)
    with TestClient(app, base_url="http://localhost"):
        pipeline = app.state.engine.pipelines[model_folder.name]
        assert (pipeline.optimized is not None) == optimize
    said = (
        f"{model_folder.name}: channels-last: the model's convolutions\n" in capsys.readouterr().err
    )
    assert said == optimize


def test_several_models_and_a_clean_end(model_folder, tmp_path):
    second = tmp_path / model_folder.name  # another folder of the same name
    second.symlink_to(model_folder, target_is_directory=True)
    app = create_app([str(model_folder), str(second), str(second)])
    engine = app.state.engine
    assert list(engine.pipelines) == ["tiny", "tiny-2"]
    assert engine.folder.parent.stat().st_mode & 0o777 == 0o700
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/healthz").status_code == 200
        shutil.rmtree(engine.folder.parent)  # as a cleaner of temporary files does
        job = engine.submit(Order("tiny-2", [8], 1, 0, 1, 1.0))
        news = [job.news.get(timeout=PATIENCE)]
        while not isinstance(news[-1], Done | Failed):
            news.append(job.news.get(timeout=PATIENCE))
        assert isinstance(news[-1], Done)
        assert engine.folder.parent.stat().st_mode & 0o777 == 0o700
    assert "gensynth-engine" not in {thread.name for thread in threading.enumerate()}
    assert not engine.folder.parent.exists()
