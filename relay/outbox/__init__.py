"""The outbox: accepted events on disk until Amplitude has them.

One event's life, and who moves it:

    append ─► pending ─► claimed ─► delivered (receipt) ─► pruned
                 ▲           │
                 ├─ released ┤
                 └─ retried ─┴─► dead ─► discarded
"""
