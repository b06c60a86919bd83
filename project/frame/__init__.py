"""What every stage and service stands on: settings, layout, console, the frame of a stage."""
