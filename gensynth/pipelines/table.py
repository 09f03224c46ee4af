"""Pipelines by class name: what `model_index.json` says -> the class that loads the folder."""

from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.pipelines.drawing import DrawingPipeline
from gensynth.pipelines.saving import SavedPipeline
from gensynth.pipelines.text_conditional import TextConditionalPipeline
from gensynth.pipelines.tokenizer import TokenizerPipeline
from gensynth.pipelines.unconditional import UnconditionalPipeline

PIPELINES: dict[str, type[SavedPipeline]] = {
    "ClassConditionalPipeline": ClassConditionalPipeline,
    "DrawingPipeline": DrawingPipeline,
    "TextConditionalPipeline": TextConditionalPipeline,
    "TokenizerPipeline": TokenizerPipeline,
    "UnconditionalPipeline": UnconditionalPipeline,
}
# Kind of condition -> the pipeline with a call in its words; the others have `draw` alone.
PIPELINE_OF: dict[str, type[DrawingPipeline]] = {
    "classes": ClassConditionalPipeline,
    "text": TextConditionalPipeline,
    "none": UnconditionalPipeline,
}
