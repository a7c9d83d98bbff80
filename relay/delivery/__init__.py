"""Delivery: an app's pending events go to Amplitude in batches, independently of other apps.

`dispatcher` picks the next batch, a sender of the `pool` claims it, `worker` uploads it. What an
answer means is judged in `relay.amplitude.judge`; what follows from it is decided in `decide`.
"""
