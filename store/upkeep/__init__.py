"""Looking after a depot: inspecting, tidying, exporting, migrating. No stage of the pipeline needs it."""
