"""Gradio's Blocks with what a public page needs: words, plain text, cheap updates."""

import copy
import re
from typing import Any

import gradio as gr

SESSIONS = 300  # whose state is kept; each takes some 100 kB
UNCHANGED = gr.skip()
# What reading a value that no component can hold raises: pydantic's errors are ValueErrors.
UNREADABLE_VALUES = (ValueError, TypeError, LookupError, AttributeError)


class Page(gr.Blocks):
    """Blocks whose errors are sentences, and whose updates of nothing cost nothing."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.state_session_capacity = SESSIONS
        self.optional: list[Any] = []  # inputs that a program may leave out, at the end

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As Gradio's, but errors are never without words, and their text never becomes HTML.

        The page shows the text of an error as HTML.
        """
        try:
            return await super().process_api(*args, **kwargs)
        except gr.Error as error:
            raise gr.Error(as_text(error.message), print_exception=False) from error
        except UNREADABLE_VALUES as error:  # Gradio prints the cause
            raise gr.Error("This failed: the call is odd, or there is a bug.") from error

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """As Gradio's, but values that do not fit are answered in words, and not logged.

        Optional ones may be missing.
        """
        for block in block_fn.inputs[len(inputs) :]:
            if block.stateful or block in self.optional:
                inputs = [*inputs, None if block.stateful else block.value]
        try:
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except gr.Error:  # a ValueError, with words of its own
            raise
        except UNREADABLE_VALUES as error:
            wanted = [block for block in block_fn.inputs if not block.skip_api]
            names = ", ".join(block.label or block.get_block_name() for block in wanted)
            raise gr.Error(
                f"{block_fn.api_name} takes {len(wanted)} values ({names or 'none'}), and what "
                f"came does not fit: {len(inputs)} values.",
                print_exception=False,
            ) from error

    async def postprocess_data(
        self, block_fn: Any, predictions: list[Any] | dict[Any, Any], state: Any
    ) -> list[Any]:
        """As Gradio's, but only for what changes.

        For an output that stays as it is, Gradio makes a new component and derives its schema
        anew. With many visitors waiting, that took a third of a processor from the drawing.
        """
        outputs = block_fn.outputs
        if len(outputs) < 2 or not isinstance(predictions, list | tuple):
            return await super().postprocess_data(block_fn, predictions, state)
        changed = [i for i, update in enumerate(predictions) if not _is_unchanged(update)]
        data = [None if block.stateful else dict(UNCHANGED) for block in outputs]
        if changed:
            part = copy.copy(block_fn)
            part.outputs = [outputs[i] for i in changed]
            updates = [predictions[i] for i in changed]
            made = await super().postprocess_data(
                part, updates if len(updates) > 1 else updates[0], state
            )
            for i, update in zip(changed, made, strict=True):
                data[i] = update
        return data


def as_text(message: str) -> str:
    """A message that reads the same as text and as HTML.

    Only what starts a tag or an entity is escaped, so that programs, which get the same message,
    may read "low < high".
    """
    without_entities = re.sub(r"&(?=[#\w])", "&amp;", message)
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", without_entities)


def _is_unchanged(update: Any) -> bool:
    return isinstance(update, dict) and update == UNCHANGED
