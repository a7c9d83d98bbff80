"""Delivery: pending events go to Amplitude, in batches, each app for itself.

`Dispatcher` decides what may go next, a `Sender` carries it, the `Gate` says when anything
may go at all.
"""
