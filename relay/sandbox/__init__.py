"""Stand-ins for OneSignal and Amplitude: `relay sandbox`, `relay demo` and the tests use them.

They behave as the services were seen to behave, and misbehave on request. They know
nothing of relay's inside and share only its clock and its list of event kinds.
"""
