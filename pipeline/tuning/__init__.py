"""Fine-tuning and distillation, as far as they know arrays and modules: no paths of a project, no items."""
