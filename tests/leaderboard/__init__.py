"""Likelihoods of learnt circuits on public data, each row made by a command that can be stopped and gone on with.

    python -m tests.leaderboard ROW --data DIR --work DIR --out docs/leaderboard.json

`--data` holds the files, `--work` the checkpoints of rows that are not finished; a finished row is one entry of `--out`.
"""
