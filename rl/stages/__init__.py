"""Post-training in stages: each is a config and a command, and its model folder is the next one's `model.path`.

- `preference`: `Preference`, its JSONL file, pairs out of ratings and rankings; `pairs`: out of groups of trajectories.
- `chat_rows`: the rows of a JSONL file with their numbers, messages and tools in our own shape.
- `stage`, `stage_config`, `catalogue`, `fit`: the frame that all stages share: config, run folder, resuming,
  TRL's trainers, the model folder that comes out.
- `sft`, `demonstrations`, `encode`, `splits`: supervised fine-tuning on rows of every kind, masks by `ChatCodec`.
- `dpo`, `dpo_tasks`, `token_logps`: DPO and its kin on preferences, offline and in rounds.
- `formats`: preference files of others.
- `sources`, `labels`, `agreement`, `preference_report`: verdicts of verifiers, judges and people, how far people agree,
  what a file of preferences is like.
- `recipe`: stages in a row, resolved and checked before the first one runs.
- `pair_episodes`: preferences out of a model's own episodes.
- `constitution`, `speakers`, `told`, `revise`, `feedback`: principles, who speaks, what was said, rows and pairs of it.
- `sampling`: episodes that a stage plays: the gold score, a teacher, groups for pairs.
"""
