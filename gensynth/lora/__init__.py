"""Adapters (LoRA) by peft: put on the layers of a model, trained, stored, scaled and merged."""
