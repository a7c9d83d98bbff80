"""`relay demo`: a real relay between stand-ins of both services, tested by faults.

scenario/ + traffic_plan, cohort_plan    what happens, step by step, planned from a seed
environment, stand_ins, relay_process    where it happens
recorder, poll_status, segment_recorder  what is recorded from three sides meanwhile
evidence                                 all of it as plain facts
checks/ + expected                       one check for every promise; knows none of the above
display, report                          what the terminal shows
"""
