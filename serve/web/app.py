"""The web server: FastAPI with a health check, and the Gradio page under it."""

import ipaddress
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from gensynth.errors import UsageError
from gensynth.pipelines.loading import load
from gensynth_serve.queue.engine import Engine
from gensynth_serve.web.headers import SecurityHeaders
from gensynth_serve.web.server import listen, run

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
STOP_SECONDS = 5.0
NO_DOCS = {"openapi_url": None, "docs_url": None, "redoc_url": None}


def serve(
    models: Sequence[str], host: str = "127.0.0.1", port: int = 7860, optimize: bool = False
) -> None:
    """Serves the page until Ctrl-C or SIGTERM.

    With `optimize` the models draw faster, and stderr says how.

    Raises:
        OutputError: the port is in use; found out before any model is loaded.
        UsageError, InputError, RefusedError, CorruptError: a model cannot be served.
    """
    with listen(host, port) as socket:
        local = _is_loopback(host)
        if not local:
            print(
                f"warning: there is no password. Whoever reaches {host} can use the page.",
                file=sys.stderr,
                flush=True,
            )
        app = create_app(models, LOOPBACK if local else ("*",), optimize)
        run(app, socket, f"gensynth serves {', '.join(app.state.engine.pipelines)}", host)


def create_app(
    models: Sequence[str], hosts: Sequence[str] = LOOPBACK, optimize: bool = False
) -> FastAPI:
    """The application for models by name, folder or hub id, loaded.

    Args:
        models: what `gensynth.load` takes.
        hosts: names under which the server may be addressed; "*" for any. A page elsewhere that
            points its own name at this machine is refused by it.
        optimize: whether to call each pipeline's `optimize`; stderr says what it did.
    """
    if not models:
        raise UsageError("name at least one model to serve.")
    pipelines = {str(model): load(model) for model in models}
    for name, pipeline in pipelines.items():
        pipeline.resolve()  # a tokenizer, which draws nothing, refuses
        for sentence in pipeline.optimize() if optimize else ():
            print(f"{name}: {sentence}", file=sys.stderr, flush=True)
    folder = _private_folder()
    # Gradio reads these when it is imported. What lies in its folder can be downloaded, and the
    # default is shared by all programs of the user.
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    pictures = folder / "pictures"
    pictures.mkdir()
    engine = Engine(pipelines, pictures)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        engine.stop(STOP_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)

    app = FastAPI(lifespan=lifespan, **NO_DOCS)
    app.state.engine = engine

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    _mount_page(app, engine)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(SecurityHeaders)  # added last, so outermost: refusals have them too
    return app


def _mount_page(app: FastAPI, engine: Engine) -> None:
    import gradio as gr

    from gensynth_serve.pages.page import build
    from gensynth_serve.pages.style import CSS

    gr.mount_gradio_app(
        app,
        build(engine),
        path="/",
        app_kwargs=dict(NO_DOCS),  # Gradio adds to it
        css=CSS,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        show_error=False,  # else the text of any exception reaches the visitor
        max_file_size="20mb",
        allowed_paths=[],
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
    )


def _private_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="gensynth-serve-")).resolve()  # mode 0700


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
