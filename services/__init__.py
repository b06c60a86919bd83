"""What a person asks for beside the pipeline. Each is a file or a folder; only `serve` imports others."""
