"""Pipelines by class name: what `model_index.json` says -> the class that loads the folder."""

from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.pipelines.saving import SavedPipeline
from gensynth.pipelines.tokenizer import TokenizerPipeline

PIPELINES: dict[str, type[SavedPipeline]] = {
    "ClassConditionalPipeline": ClassConditionalPipeline,
    "TokenizerPipeline": TokenizerPipeline,
}
