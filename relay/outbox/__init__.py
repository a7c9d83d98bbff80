"""The outbox: accepted events on disk until Amplitude has them.

The life of an event:

    append ─► pending ─► claimed ─► delivered (receipt) ─► pruned
                 ▲           │
                 ├─ released ┤
                 └─ retried ─┴─► dead ─► discarded
"""
