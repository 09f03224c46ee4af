"""Pipelines of diffusers as pipelines of the house: opened, told prompts, drawn with."""
