"""The server as other programs meet it."""

import json
import socket
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
    assert names == ["model", "labels", "num", "seed", "steps", "guidance", "settings"]


def test_a_program_can_generate(client, model_folder):
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
    assert "gensynth-engine" not in {thread.name for thread in threading.enumerate()}
    assert not engine.folder.parent.exists()
