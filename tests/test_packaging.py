"""What an installed gensynth consists of, and that all it imports is declared."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gensynth.config import shipped
from gensynth.config.shipped import find_config, shipped_configs
from gensynth.data.tables import BUNDLED_SETS
from gensynth.errors import InputError
from gensynth.pretrained import CODECS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
OURS = {"gensynth", "gensynth_serve", "gensynth_benchmarks", "gensynth_configs"}
# Packages whose name is not that of their module.
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml"}
# Looked for where it may be there, and never needed: triton comes with torch for CUDA; fla is a
# peer in benchmarks.
NEVER_NEEDED = {"triton", "fla"}
# Where a private name of a package is used: `_foreach_lerp_`, `_reset_state`, `_fingerprint`,
# `_repeated_blocks`, `_sync_dist`, typer's own group of commands, gradio's routes.
PRIVATE = ("torch", "accelerate", "datasets", "diffusers", "torchmetrics", "typer", "gradio")


def folders() -> dict[str, Path]:
    """Top-level package -> the folder in the repository that it is made of."""
    return {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", text)[0].lower().replace("_", "-") for text in requirements}


def imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def at_the_top(tree: ast.Module) -> set[str]:
    """What importing a file imports: no import inside a function or under `if`."""
    return imported(ast.Module([n for n in tree.body if "Import" in type(n).__name__], []))


def undeclared(modules: set[str], declared: set[str]) -> set[str]:
    from sys import stdlib_module_names

    others = modules - OURS - stdlib_module_names
    return {m for m in others if DISTRIBUTIONS.get(m, m).replace("_", "-").lower() not in declared}


@pytest.mark.parametrize("package", sorted(OURS - {"gensynth_configs"}))
def test_what_is_imported_is_declared(package):
    needed = names(PROJECT["project"]["dependencies"])
    extras = set().union(*map(names, PROJECT["project"]["optional-dependencies"].values()))
    files = list(folders()[package].rglob("*.py"))
    assert files
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        missing = undeclared(imported(tree), needed | extras) - NEVER_NEEDED
        assert missing == set(), f"{path} imports {missing}"
        # Kernels are only imported where triton is; the network of REPA where transformers is.
        if not path.name.startswith("triton"):
            top = undeclared(at_the_top(tree), needed) - {"triton", "transformers"}
            assert top == set(), f"{path} needs {top}"


def test_an_undeclared_import_is_found():
    tree = ast.parse("import torch\ndef f():\n    from scipy.linalg import sqrtm\n")
    assert undeclared(imported(tree), {"torch"}) == {"scipy"}
    assert undeclared(at_the_top(tree), {"torch"}) == set()
    assert undeclared({"PIL", "os", "huggingface_hub"}, {"pillow"}) == {"huggingface_hub"}


@pytest.mark.parametrize("package", PRIVATE)
def test_packages_are_bounded_where_private_names_are_used(package):
    (text,) = [d for d in PROJECT["project"]["dependencies"] if names([d]) == {package}]
    assert re.search(r"<\d", text)


def test_every_folder_of_code_is_installed():
    packages = set(SETUPTOOLS["packages"])
    for package, folder in folders().items():
        for path in folder.rglob("*.py"):
            below = path.parent.relative_to(folder).parts
            assert ".".join([package, *below]) in packages, path


def test_files_beside_the_code_are_installed():
    wanted = {
        "gensynth": [
            ROOT / "gensynth" / "py.typed",
            ROOT / "gensynth/pretrained/__init__.py",
            *(file for folder in CODECS.values() for file in folder.iterdir()),
            *(file for folder in BUNDLED_SETS.values() for file in folder.glob("*.parquet")),
        ],
        "gensynth_configs": list(shipped_configs().values()),
        "gensynth_serve": [ROOT / "serve" / "Dockerfile"],
    }
    for package, files in wanted.items():
        found = {
            path
            for pattern in SETUPTOOLS["package-data"][package]
            for path in folders()[package].glob(pattern)
        }
        assert files and set(files) <= found


def test_what_is_of_others_comes_with_its_licence():
    given = {ROOT / name for name in PROJECT["project"]["license-files"]}
    for folder in (*CODECS.values(), *BUNDLED_SETS.values()):
        assert folder / "LICENSE" in given and (folder / "LICENSE").is_file()


def test_every_experiment_is_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = shipped_configs()
    assert set(known.values()) == set(ROOT.glob("configs/**/*.yaml")) and len(known) > 20
    for name, path in known.items():
        for written in (name, f"{name}.yaml", f"configs/{name}.yaml"):
            assert find_config(written) == path


def test_a_file_here_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Path("configs/fashion_mnist/dico_nano.yaml")
    own.parent.mkdir(parents=True)
    own.write_text("output: mine\n", encoding="utf-8")
    assert find_config(str(own)) == own
    assert find_config("fashion_mnist/dico_nano") == shipped_configs()["fashion_mnist/dico_nano"]


def test_a_name_that_is_none_is_refused_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"Did you mean 'fashion_mnist/dico_nano'\?"):
        find_config("fashion_mnist/dico-nano")
    with pytest.raises(InputError, match="is a folder"):
        find_config(tmp_path)


def test_without_the_repository_the_installed_package_is_taken(tmp_path, monkeypatch):
    installed = tmp_path / "gensynth_configs"
    (installed / "own").mkdir(parents=True)
    (installed / "own" / "one.yaml").write_text("output: x\n", encoding="utf-8")
    monkeypatch.setattr(shipped, "FOLDER", "not-there")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(shipped, "PACKAGE", "gensynth_configs")
    assert shipped_configs() == {"own/one": installed / "own" / "one.yaml"}


def test_pinned_versions_keep_to_the_bounds():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if "==" in line]
    pins = {canonicalize_name(name): version for name, version in pairs}
    wanted = [Requirement(one) for one in PROJECT["project"]["dependencies"]]
    apart = [str(one) for one in wanted if pins[canonicalize_name(one.name)] not in one.specifier]
    assert apart == []
