"""The web server: FastAPI with a health check, and the Gradio page under it."""

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from gensynth.errors import UsageError
from gensynth.lora.folder import Wanted
from gensynth.pipelines.pretrained.options import LoadOptions
from gensynth_serve.web.access import Access, Proxies, read_root
from gensynth_serve.web.folder import PrivateFolder
from gensynth_serve.web.headers import SecurityHeaders
from gensynth_serve.web.limits import MAX_FILE, Limits
from gensynth_serve.web.names import ANY_ADDRESS, Names, address_of, is_loopback
from gensynth_serve.web.server import listen, run

if TYPE_CHECKING:
    from gensynth_serve.queue.engine import Engine

STOP_SECONDS = 5.0
NO_DOCS = {"openapi_url": None, "docs_url": None, "redoc_url": None}


def serve(
    models: Sequence[str],
    host: str = "127.0.0.1",
    port: int = 7860,
    optimize: bool = False,
    public_hosts: Sequence[str] = (),
    root_path: str = "",
    proxies: Sequence[str] = (),
    variant: str | None = None,
    lora: Sequence[Wanted] = (),
    options: LoadOptions | None = None,
) -> None:
    """Serves the page until Ctrl-C or SIGTERM.

    With `optimize` the models draw faster, and stderr says how. The last five are those of
    `create_app`.

    Raises:
        OutputError: the port is in use; found out before any model is loaded.
        UsageError, InputError, RefusedError, CorruptError: a model cannot be served.
    """
    hosts = list(public_hosts)
    if not is_loopback(host):
        hosts += [ANY_ADDRESS] if address_of(host) else [ANY_ADDRESS, host]
    Names(hosts), read_root(root_path), Proxies(proxies)  # refuse what is wrong at once
    with listen(host, port) as socket:
        if ANY_ADDRESS in hosts:
            print(
                f"warning: there is no password. Whoever reaches {host} can use the page.",
                file=sys.stderr,
                flush=True,
            )
        app = create_app(models, hosts, optimize, root_path, proxies, variant, lora, options)
        run(app, socket, f"gensynth serves {', '.join(app.state.engine.pipelines)}", host)


def create_app(
    models: Sequence[str],
    hosts: Sequence[str] = (),
    optimize: bool = False,
    root_path: str = "",
    proxies: Sequence[str] = (),
    variant: str | None = None,
    lora: Sequence[Wanted] = (),
    options: LoadOptions | None = None,
) -> FastAPI:
    """The application for models by name, folder or hub id, loaded.

    Args:
        models: what `gensynth.load` takes.
        hosts: names beside those of loopback under which the server may be addressed; "*" for any
            address of the machine. A page elsewhere that points its own name at this machine is
            refused by it.
        optimize: whether to call each pipeline's `optimize`; stderr says what it did.
        root_path: the path below which a proxy shows the page, or its whole address.
        proxies: addresses or networks of proxies whose X-Forwarded-Host, -Proto and -Prefix are
            believed; those on loopback always are.
        variant: of the weights of every model, see `gensynth.load`.
        lora: adapters of every one of the models, so of one as a rule.
        options: of loading every one of the models, which are pipelines of diffusers then.
    """
    # Only here: what is wrong without them is said at once.
    from gensynth.pipelines.loading import load
    from gensynth_serve.queue.engine import Engine

    if not models:
        raise UsageError("name at least one model to serve.")
    names, root, trusted = Names(hosts), read_root(root_path), Proxies(proxies)
    shown = shown_names(models)
    how = {} if options is None else options.given()
    pipelines = {name: load(model, "auto", variant, lora, **how) for name, model in shown.items()}
    for name, pipeline in pipelines.items():
        pipeline.resolve()  # a tokenizer, which draws nothing, refuses
        # Models of gensynth keep it: only one thread may encode later. Others show that they can.
        pipeline.condition.none(pipeline.device)
        for sentence in pipeline.optimize() if optimize else ():
            print(f"{name}: {sentence}", file=sys.stderr, flush=True)
    folder = PrivateFolder()
    # Gradio reads these when it is imported. What lies in its folder can be downloaded, and the
    # default is shared by all programs of the user. Its statistics grow with each request.
    os.environ["GRADIO_TEMP_DIR"] = str(folder.path)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**9)
    engine = Engine(pipelines, folder.pictures, folder.ensure)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        engine.stop(STOP_SECONDS)
        folder.remove()

    app = FastAPI(lifespan=lifespan, **NO_DOCS)
    app.state.engine = engine

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    _mount_page(app, engine)
    app.add_middleware(Limits, folder=folder)
    app.add_middleware(Access, names=names, root=root, proxies=trusted)
    app.add_middleware(SecurityHeaders)  # added last, so outermost: refusals have them too
    return app


def shown_names(models: Sequence[str]) -> dict[str, str]:
    """Name on the page -> model, in order.

    A folder given by its whole path is shown by its last part: where it lies on the server is
    nobody's business. A number follows a name that is taken.
    """
    shown: dict[str, str] = {}
    for model in dict.fromkeys(map(str, models)):
        plain = Path(model).name if Path(model).is_absolute() else model
        numbered = (f"{plain}-{number}" for number in count(2))
        name = next(name for name in chain([plain], numbered) if name not in shown)
        shown[name] = model
    return shown


def _mount_page(app: FastAPI, engine: "Engine") -> None:
    import gradio as gr
    from gradio.route_utils import FnIndexInferError  # of a function that does not exist

    from gensynth_serve.pages.blocks import UNREADABLE_VALUES
    from gensynth_serve.pages.page import build
    from gensynth_serve.pages.style import CSS

    page = build(engine)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        app_kwargs=dict(NO_DOCS),  # Gradio adds to it
        css=CSS,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        show_error=False,  # else the text of any exception reaches the visitor
        max_file_size=MAX_FILE,
        allowed_paths=[],
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
    )
    mounted = app.routes[-1].app
    for kind in (FnIndexInferError, *UNREADABLE_VALUES):
        mounted.add_exception_handler(kind, _not_a_request)


async def _not_a_request(request: Request, error: Exception) -> JSONResponse:
    """Names and numbers that a program made up. What goes wrong in a job never comes here."""
    return JSONResponse(
        {"detail": "There is no such function here, or its values do not fit."}, 400
    )
