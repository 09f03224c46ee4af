"""`gensynth serve`."""

import typer

from gensynth.cli.options import LOAD, LORA, VARIANT
from gensynth.errors import UsageError
from gensynth.lora.folder import Wanted
from gensynth.pretrained import SERVED
from gensynth.settings import Settings


def register(app: typer.Typer) -> None:
    app.command("serve")(serve)


def serve(
    models: list[str] = typer.Argument(
        None,
        metavar="[MODEL]...",
        help=f"Names, folders or hub ids. [default: {' and '.join(SERVED)}]",
    ),
    variant: str = VARIANT,
    lora: list[str] = LORA,
    load: list[str] = LOAD,
    host: str = typer.Option("127.0.0.1", "--host", help="Address to listen on."),
    port: int = typer.Option(7860, "--port", min=1, max=65535, help="Port to listen on."),
    optimize: bool = typer.Option(
        False, help="Do what draws faster here; pictures may differ by rounding. Says what."
    ),
    public_host: list[str] = typer.Option(
        [],
        "--public-host",
        metavar="NAME",
        help="A name that visitors or a proxy use for this server, such as pictures.example. "
        "May be given more than once. [default: those of this machine]",
    ),
    root_path: str = typer.Option(
        "",
        "--root-path",
        metavar="PATH",
        help="The path below which a proxy shows the page, such as /draw, or its whole address, "
        "such as https://pictures.example/draw, for a proxy that passes neither on.",
    ),
    proxy: list[str] = typer.Option(
        [],
        "--proxy",
        metavar="ADDRESS",
        help="A proxy on another machine, or its network, whose X-Forwarded-Host, -Proto and "
        "-Prefix are believed. May be given more than once.",
    ),
) -> None:
    """Open the web page for one or more models.

    gensynth serve runs/demo --port 8000
    """
    from gensynth.preflight.adapters import check_adapters
    from gensynth.preflight.drawing import check_model
    from gensynth.preflight.pretrained import check_options

    if lora and len(models or SERVED) != 1:
        raise UsageError("--lora is of one model; name the one that it was trained on.")
    options = check_options(models or list(SERVED), load)
    adapters: tuple[Wanted, ...] = ()
    for model in models or SERVED:
        adapters = check_adapters(model, lora)
        check_model(model, Settings())
    from gensynth_serve.web.server import listen

    listen(host, port).close()  # refuses a port in use before torch and Gradio are imported
    from gensynth_serve.web.app import serve as run

    names, page = models or list(SERVED), (optimize, public_host, root_path, proxy)
    run(names, host, port, *page, variant, adapters, options)
