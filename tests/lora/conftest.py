import sys
from pathlib import Path

# The small models of the tests of models; importlib mode does not put their folder on the path.
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
