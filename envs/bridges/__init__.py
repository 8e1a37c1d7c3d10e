"""Bridges: environments of other libraries as ours, and ours where other libraries want theirs.

In: `reasoning_gym`, `textarena`, `gem`, `skyrl_gym`, `gymnasium_text`, `openenv_client`. Out: `openenv_server`,
`inspect_task`, `agent_loop`; the one into TRL's trainer is `quintain.rl.trl_bridge`. Each module imports its library
when it is used, and says what to install where it is missing.
"""
