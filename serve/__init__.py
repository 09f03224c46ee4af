"""The web page and its HTTP API: page -> handlers -> engine -> the pipelines of gensynth."""
