"""A setting from outside of the package: what the model says, made stronger."""

from gensynth.errors import UsageError
from gensynth.settings import FURTHER, Setting


def check(pipeline, value):
    if not 0 < value < 10:
        raise UsageError(f"loudness must be between 0 and 10, got {value}.")
    return value


def louder(predict, value):
    return lambda sample, time, conditions: value * predict(sample, time, conditions)


FURTHER["loudness"] = Setting("How loud the model speaks.", kind=float, check=check, act=louder)
