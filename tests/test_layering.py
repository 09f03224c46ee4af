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
        "whole",
