"""`relay check`: would the daemon run as configured?"""
