"""Averages of weights over the steps of a run."""
