"""Code that makes a relay break one of its promises, for the demo to find out."""

CREDULOUS = """
    from relay.amplitude.judge import judge_upload
    from relay.amplitude.verdicts import Delivered, Settled
    from relay.delivery import worker
    def judge(reply, events):
        if reply.status == 200:
            return Settled((Delivered(),) * len(events))
        return judge_upload(reply, events)
    worker.judge_upload = judge
"""
"""A relay that trusts every 200, even a proxy's."""


GULLIBLE = """
    from relay.cohorts import download
    from relay.segments import publish
    download.check_size = lambda **_: None
    publish.reason_to_hold = lambda *_: None
"""
"""A relay that accepts any file as the whole cohort."""
