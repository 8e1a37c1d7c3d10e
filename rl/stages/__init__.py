"""Post-training in stages: each is a config and a command, and its model folder is the next one's `model.path`.

- `preference`: `Preference`, its JSONL file, pairs out of rankings and out of groups of trajectories.
- `chat_rows`: the rows of a JSONL file with their numbers, messages and tools in our own shape.
- `stage`: the frame that all stages share: config, run folder, resuming, the model folder that comes out.
"""
