"""The prompt of a model that is told prompts: its boxes, and prompts to try."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from gensynth.conditions import Condition
from gensynth.conditions.texts import LONGEST

SUGGESTED = 8  # prompts to click on
KEYS = """() => {
  document.addEventListener("keydown", (event) => {
    const typed = event.target.closest && event.target.closest("#prompt, #negative");
    if (typed && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      document.getElementById("generate").click();
    }
  });
}"""


@dataclass
class PromptBoxes:
    """What is shown of a model of prompts only."""

    prompt: gr.Textbox
    suggested: gr.Dataset
    negative: gr.Textbox

    def all(self) -> list[gr.Textbox | gr.Dataset]:
        return [self.prompt, self.suggested, self.negative]


def takes_prompts(condition: Condition) -> bool:
    return condition.reads == "texts"


def suggestions(condition: Condition) -> list[str]:
    """Prompts to try; none for a model that takes none."""
    return condition.every()[:SUGGESTED] if takes_prompts(condition) else []


def prompt_boxes(condition: Condition) -> tuple[gr.Textbox, gr.Dataset]:
    """The box of the prompt, and prompts to click on."""
    prompt = gr.Textbox(
        "",
        label="Prompt",
        info="What the picture shows. Ctrl+Enter generates.",
        lines=3,
        max_lines=8,
        max_length=LONGEST,
        visible=takes_prompts(condition),
        elem_id="prompt",
    )
    suggested = gr.Dataset(
        label="Such as",
        components=["textbox"],
        samples=[[one] for one in suggestions(condition)],
        type="index",
        samples_per_page=SUGGESTED,
        visible=bool(suggestions(condition)),
        elem_id="suggested",
    )
    return prompt, suggested


def negative_box(condition: Condition) -> gr.Textbox:
    return gr.Textbox(
        "",
        label="Negative prompt",
        info="What the picture is not to show; needs guidance above 1.",
        max_length=LONGEST,
        visible=takes_prompts(condition),
        elem_id="negative",
    )


def suited(
    condition: Condition, prompt: str | None = None, negative: str | None = None
) -> list[dict[str, Any]]:
    """Updates of `PromptBoxes.all` to a model's condition, and to texts if there are any.

    Without, what was typed stays for the next model of prompts, and is gone for any other.
    """
    shown = takes_prompts(condition)
    samples = [[one] for one in suggestions(condition)]
    updates: list[dict[str, Any]] = [
        {"visible": shown},
        {"samples": samples, "visible": bool(samples)},
        {"visible": shown},
    ]
    for update, text in ((updates[0], prompt), (updates[2], negative)):
        if text is not None or not shown:
            update["value"] = text or ""
    return [gr.update(**update) for update in updates]
