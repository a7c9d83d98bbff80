"""`relay demo`: a real relay between stand-ins of both services, put through a bad day.

The story (`acts`) is told from a plan (`script`) on a `stage`; what came of it is gathered
(`evidence`) and judged by rules that know neither the story nor relay's inside (`proof`).
"""
