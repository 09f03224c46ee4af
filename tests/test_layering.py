"""Who may import whom, and calls that are banned, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    {
        "config",
        "errors",
        "files",
        "lazy",
        "ops",
        "plugins",
        "pretrained",
        "processes",
        "progress",
        "seeding",
        "settings",
        "stored",
        "system",
        "values",
        "whole",
    },
    {"conditions"},
    {"models", "autoencoders", "data", "lora"},
    {"samplers", "linearize"},
    {"objectives", "pipelines", "metrics"},
    {"preflight"},
    {"convert", "sampling", "experiments"},
    {"evaluation"},
    {"training"},
    {"demo"},
    {"cli", "__main__", "serve", "benchmarks", "train.py"},
]
APART = {"objectives", "pipelines", "metrics"}  # never import each other
MOST_FILES = 14  # of one folder
FILES = [
    *sorted(ROOT.glob("gensynth/**/*.py")),
    *sorted(ROOT.glob("serve/**/*.py")),
    *sorted(ROOT.glob("benchmarks/**/*.py")),
    ROOT / "train.py",
]
named = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def part_of(module: str) -> str | None:
    """Which part of ours a dotted name belongs to; None for the bare package and for others."""
    head, _, rest = module.partition(".")
    if head in ("gensynth_serve", "serve"):
        return "serve"
    if head in ("gensynth_benchmarks", "benchmarks"):
        return "benchmarks"
    if head == "train":
        return "train.py"
    return rest.partition(".")[0] or None if head == "gensynth" else None


def layer_of(part: str) -> int:
    for number, parts in enumerate(LAYERS):
        if part in parts:
            return number
    raise AssertionError(f"give {part!r} a layer")


def imports(tree: ast.AST) -> Iterator[str]:
    """Every imported dotted name, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_there_is_something_to_look_at():
    assert len(FILES) > 40
    checking = parse(ROOT / "gensynth" / "experiments" / "check.py")
    assert "gensynth.experiments.build.build_model" in imports(checking)


@named
def test_imports_point_down(path):
    module = module_of(path)
    own = part_of(module)
    if own is None:
        return  # gensynth/__init__.py imports by name, when asked
    for name in imports(parse(path)):
        other = part_of(name)
        if other is None or other == own or (name.startswith("gensynth.__version__")):
            continue
        assert layer_of(other) <= layer_of(own), f"{module} imports {name}, which is above it"
        assert not {own, other} <= APART, (
            f"{module} imports {name}; these know nothing of each other"
        )


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def keyword(node: ast.Call, name: str) -> str | None:
    return next((ast.unparse(k.value) for k in node.keywords if k.arg == name), None)


def banned(node: ast.AST, module: str, forked: set[int]) -> str | None:
    if isinstance(node, ast.ExceptHandler):
        types = ast.unparse(node.type) if node.type else "everything"
        return f"except {types}" if types in ("everything", "Exception", "BaseException") else None
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
        return (
            "import torchvision" if any(n.split(".")[0] == "torchvision" for n in names) else None
        )
    if not isinstance(node, ast.Call):
        return None
    name = called(node)
    safe_yaml = module == "gensynth.config.yaml_text" and [ast.unparse(a) for a in node.args][
        1:
    ] == ["_Loader"]
    problems = {
        "eval": True,
        "exec": True,
        "pickle.load": True,
        "pickle.loads": True,
        "torch.load": keyword(node, "weights_only") != "True",
        "yaml.load": not safe_yaml,
        "yaml.unsafe_load": True,
        "yaml.full_load": True,
        "np.load": keyword(node, "allow_pickle") not in (None, "False"),
        "torch.manual_seed": id(node) not in forked,
        "torch.seed": True,
        "np.random.seed": True,
        "random.seed": True,
        "os.system": True,
    }
    return name if problems.get(name) else None


def violations(tree: ast.AST, module: str) -> list[str]:
    blocks = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.With) and "fork_rng" in ast.unparse(n.items[0])
    ]
    forked = {id(node) for block in blocks for node in ast.walk(block)}
    found = ((banned(node, module, forked), node) for node in ast.walk(tree))
    return [f"line {node.lineno}: {what}" for what, node in found if what]


@named
def test_nothing_banned(path):
    assert violations(parse(path), module_of(path)) == []


@pytest.mark.parametrize(
    "code",
    [
        "try:\n    f()\nexcept Exception:\n    pass",
        "try:\n    f()\nexcept:\n    pass",
        "eval('1')",
        "pickle.load(f)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "yaml.load(f, yaml.Loader)",
        "np.load(f, allow_pickle=True)",
        "torch.manual_seed(0)",
        "import torchvision.transforms",
        "from torchvision import models",
    ],
)
def test_the_ban_works(code):
    assert len(violations(ast.parse(code), "gensynth.any")) == 1


def test_the_ban_lets_the_rest_pass():
    code = (
        "with torch.random.fork_rng(devices=[]):\n    torch.manual_seed(0)\n"
        "torch.load(f, weights_only=True)"
    )
    assert violations(ast.parse(code), "gensynth.any") == []


MODULES = {module_of(path).replace("serve", "gensynth_serve", 1): path for path in FILES}
MODULES = {name: path for name, path in MODULES.items() if path.name != "__init__.py"}


def edges() -> dict[str, set[str]]:
    """Which file of ours imports which, also for types only and inside functions."""
    found: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        names = set(imports(parse(path)))
        names |= {name.rpartition(".")[0] for name in names}
        found[module] = names & MODULES.keys() - {module}
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups in which each leads to each other one (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            found.append(sorted(group))

    for node in graph:
        if node not in number:
            visit(node)
    return [group for group in found if len(group) > 1]


def folder_of(module: str) -> str:
    """`gensynth.data.files.tar` -> `gensynth.data`; a file at the top stands for itself."""
    return ".".join(module.split(".")[:2])


def folders(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module, others in graph.items():
        own = folder_of(module)
        found.setdefault(own, set()).update({folder_of(other) for other in others} - {own})
    return found


def test_no_circle_of_files():
    assert circles(edges()) == []


def test_no_circle_of_folders():
    assert circles(folders(edges())) == []


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles(folders({"x.a.one": {"x.b.two"}, "x.b.three": {"x.a.four"}})) == [["x.a", "x.b"]]
    both = {"gensynth.data.images", "gensynth.pipelines.loading"}
    assert both <= edges().keys() and sum(map(len, edges().values())) > 500


def test_no_folder_is_crowded():
    folders = [path.parent for path in MODULES.values() if path.parent.name != "benchmarks"]
    crowded = {str(folder) for folder in folders if folders.count(folder) > MOST_FILES}
    assert crowded == set()
