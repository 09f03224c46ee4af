"""Pipelines by class name: what `model_index.json` says -> the class that loads the folder."""

from gensynth.pipelines.class_conditional import ClassConditionalPipeline

PIPELINES = {"ClassConditionalPipeline": ClassConditionalPipeline}
