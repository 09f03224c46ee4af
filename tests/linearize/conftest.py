import sys
from pathlib import Path

import pytest

# The tests here share modules; importlib mode does not put their folder on the path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Folders with weights of students, by family and by options that are not those of CASES."""
    from linear_models import CASES, bare, shaken

    import gensynth

    made = {}

    def make(name, **others):
        key = (name, *others.items())
        if key not in made:
            method, options = CASES[name]
            made[key] = tmp_path_factory.mktemp(name)
            model = bare(name)
            gensynth.linearize(model, method, **{**options, **others})
            gensynth.linearize.save(shaken(model), made[key])
        return made[key]

    return make
