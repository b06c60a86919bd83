"""Backbones tuned on a run's items: what the stage `finetune` and `deponij tune` are made of."""
